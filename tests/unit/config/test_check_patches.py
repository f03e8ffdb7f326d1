"""What ``ice check --for patch`` says of missions, passwords, the control and what patches let out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.config.checks import Finding, Purpose, Severity, check_site
from ice.config.load import load
from ice.mission.packing import pack
from ice.security.authority import Authority
from ice.security.certificates import Role
from tests.unit.patch.test_channels import KEY, group, mission

NOW = datetime.now(UTC)


class Patches(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        authority = Authority.create(self.folder / "pki", NOW)
        authority.issue("client", Role.SATELLITE, NOW)

    def findings(self, text: str) -> list[Finding]:
        (self.folder / "ice.toml").write_text(text)
        return check_site(load(self.folder / "ice.toml"), NOW, {Purpose.PATCH})

    def error(self, text: str) -> Finding:
        [found] = self.findings(text)
        self.assertIs(found.severity, Severity.ERROR)
        return found

    def test_well(self) -> None:
        """Nothing to say."""
        self.assertEqual(self.findings('[patch]\nclear = ["*"]\n'), [])

    def test_missions(self) -> None:
        """Each error has the line and key of the setting to look at."""
        sealed = pack(mission(group("a")), "word")
        for name, text, key in (
            ("none.json", None, "patch.missions"),
            ("broken.json", "{", "patch.missions"),
            ("sealed.ice", sealed, "patch.password_file"),
            ("key.json", mission(group("a", cryptoPassword="xyz")), "patch.missions"),
        ):
            if text is not None:
                (self.folder / name).write_text(text)
            found = self.error(f'[patch]\n\nmissions = ["{name}"]\n')
            self.assertEqual((found.key, name in found.message), (key, True), found)
            if key == "patch.missions":
                self.assertEqual(found.line, 3)

    def test_password(self) -> None:
        """A file that others may read is warned of; one with the wrong word is an error at its setting."""
        (self.folder / "sealed.ice").write_text(pack(mission(group("a")), "word"))
        words = self.folder / "words"
        words.write_text("word\n")
        words.chmod(0o644)
        text = '[patch]\nmissions = ["sealed.ice"]\npassword_file = "words"\n'
        [found] = self.findings(text)
        self.assertEqual((found.severity, "0644" in found.message), (Severity.WARNING, True))
        words.write_text("another\n")
        words.chmod(0o600)
        self.assertEqual((self.error(text).line, self.error(text).key), (3, "patch.password_file"))

    def test_control(self) -> None:
        """A group that there is none of, and HTTPS with a certificate that nobody could dial."""
        found = self.error('[patch.control]\ngroup = "no such group"\n')
        self.assertEqual((found.line, found.key), (2, "patch.control.group"))
        found = self.error('[patch.control]\nlisten = "127.0.0.1:7483"\n')
        self.assertEqual((found.line, found.key), (2, "patch.control.listen"))
        self.assertIn("ice pki renew client --dns", found.message)

    def test_cautions(self) -> None:
        """Patches that are on, and let out in clear what is said under a key, or have streams that nobody describes."""
        text = mission(group("open"), group("secret", cryptoPassword=KEY))
        (self.folder / "m.json").write_text(text)
        ids = json.dumps([each["id"] for each in json.loads(text)["groups"]] + ["other"])
        patches = "".join(
            f'[[patches]]\nid = "{id}"\nstreams = {ids}\nenabled = {on}\n'
            for id, on in (("on", "true"), ("off", "false"))
        )
        found = self.findings(f'[patch]\nmissions = ["m.json"]\n{patches}')
        self.assertEqual({each.severity for each in found}, {Severity.WARNING})
        said = [each.message for each in found]
        self.assertEqual(len(said), 2, said)
        self.assertIn("patch on: what is said on secret under a key goes out in clear on open", said[0])
        self.assertIn("patch on: no mission describes other", said[1])
