"""The checklist for call managers, as far as nothing is to be reached; and the example that goes with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ice.cli.examine import Verdict
from ice.cli.examine_gateway import MODULES, RESAMPLING, trunk_use
from ice.config.gateway import TrunkSettings
from ice.config.load import load_if_any
from ice.errors import LocalError
from ice.telephony.ari_door import Door, read_password
from ice.telephony.asterisk import AsteriskTrunk

EXAMPLE = Path(__file__).resolve().parents[3] / "etc" / "examples" / "asterisk"


def at_once(coroutine: Any) -> Any:
    """What a coroutine gives that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


class Checklist(SynchronousTestCase):
    def test_loopback(self) -> None:
        """The built-in call manager needs nothing."""
        (found,) = at_once(trunk_use(None, TrunkSettings(name="loopback", kind="loopback")))
        self.assertEqual(found.verdict, Verdict.OK)

    def test_no_password(self) -> None:
        """A password file that is not there: told with its name, before anything is dialled."""
        (found,) = at_once(
            trunk_use(None, TrunkSettings(name="pbx", password_file=Path("/nowhere/password")))
        )
        self.assertEqual((found.verdict, "/nowhere/password" in found.found), (Verdict.FAIL, True))


class Secrets(SynchronousTestCase):
    def test_password_file(self) -> None:
        """One line, for its owner alone."""
        path = Path(self.mktemp())
        for text, mode, wrong in (
            ("a b\n", 0o600, ""),
            ("x", 0o640, "chmod 600"),
            ("", 0o600, "one line"),
            ("a\nb", 0o600, "one line"),
        ):
            path.write_text(text)
            path.chmod(mode)
            if wrong:
                with self.assertRaisesRegex(LocalError, wrong):
                    read_password(path)
            else:
                self.assertEqual(read_password(path), "a b")

    def test_shown_nowhere(self) -> None:
        """Neither the door nor its URL shows the password; http to another machine is refused, https and this machine are not."""
        word = "".join(("quite", "secret"))
        door = Door.open("http://127.0.0.1:8088", "ice", word)
        self.assertNotIn(word, repr(door))
        self.assertEqual((door.path, door.tls), ("/ari", None))
        with self.assertRaisesRegex(LocalError, "https"):
            Door.open("http://pbx.example:8088", "ice", word)
        self.assertIsNotNone(Door.open("https://pbx.example:8089/asterisk", "ice", word).tls)

    def test_not_started(self) -> None:
        """A trunk that was not started refuses calls, and has no secrets."""

        class Ears:
            def told(self, trunk: object, report: object) -> None:
                """Nothing is told."""

        from twisted.internet.task import Clock

        trunk = AsteriskTrunk(TrunkSettings(name="pbx"), Clock(), Ears())
        self.assertFalse(trunk.health.up)
        self.assertTrue(trunk.stop().called)


class Example(SynchronousTestCase):
    def test_gateway(self) -> None:
        """The gateway's side can be read, and its names are those of Asterisk's files."""
        loaded = load_if_any(EXAMPLE / "ice.toml")
        assert loaded is not None
        (trunk,) = loaded.config.gateway.trunks
        self.assertIn(f"[{trunk.user}]", (EXAMPLE / "ari.conf").read_text())
        plan = (EXAMPLE / "extensions.conf").read_text()
        self.assertIn(f"Stasis({trunk.app},", plan)
        self.assertIn(f"[{trunk.dial.partition('@')[2].removesuffix('/n')}]", plan)

    def test_modules(self) -> None:
        """All modules that the checklist asks for are named."""
        named = set(
            re.findall(r"^(?:require|load) = (\w+)\.so", (EXAMPLE / "modules.conf").read_text(), re.MULTILINE)
        )
        self.assertEqual({*MODULES, *RESAMPLING} - named, set())

    def test_placeholders(self) -> None:
        """No password stands there but what says that it is to be changed."""
        for path in EXAMPLE.glob("*.conf"):
            for value in re.findall(r"^password = (.*)$", path.read_text(), re.MULTILINE):
                self.assertRegex(value, r"^CHANGE-ME-")
