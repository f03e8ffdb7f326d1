"""Editing authority.certificates in a configuration that people keep."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.security.rollover import DEFAULT, add_authority, with_authority

NEW = "pki/authority-abc123.pem"


class Editing(SynchronousTestCase):
    """One more entry, everything else as it was."""

    def certificates(self, text: str) -> object:
        return tomllib.loads(text)["authority"]["certificates"]

    def test_default(self) -> None:
        """Where the key is not set, the default is written out with it, below the table's header, and comments stay."""
        text = '# ours\n[authority]  # whom\n#certificates = ["x"]\n\n# how\n[network]\nverify_name = true\n'
        after = with_authority(text, NEW)
        self.assertEqual(self.certificates(after), [DEFAULT, NEW])
        lines = after.splitlines()
        self.assertEqual(
            lines.index("[authority]  # whom") + 1,
            next(i for i, x in enumerate(lines) if x.startswith("cert")),
        )
        self.assertEqual([x for x in lines if not x.startswith("cert")], text.splitlines())

    def test_no_table(self) -> None:
        """Without the table, and in an empty file, a table is added."""
        for text in ("", "[network]\nverify_name = true", "[network]\n"):
            self.assertEqual(self.certificates(with_authority(text, NEW)), [DEFAULT, NEW])

    def test_listed(self) -> None:
        """A list that is there grows, its comments kept; an entry that is there is not added twice."""
        text = '[authority]\ncertificates = [\n  "a.pem", # old\n]\n'
        after = with_authority(text, NEW)
        self.assertEqual(self.certificates(after), ["a.pem", NEW])
        self.assertIn("# old", after)
        self.assertEqual(with_authority(after, NEW), after)

    def test_dotted_and_inline(self) -> None:
        """Other ways to write the table are edited right, or refused; never wrongly."""
        for text in ('authority.certificates = ["a.pem"]\n', 'authority = { certificates = ["a.pem"] }\n'):
            self.assertEqual(self.certificates(with_authority(text, NEW)), ["a.pem", NEW])
        self.assertRaises(LocalError, with_authority, 'authority = { revocations = "r.pem" }\n', NEW)

    def test_refused(self) -> None:
        """What is no TOML, or has another kind of value there, is left alone."""
        for text in (
            "[authority",
            '[authority]\ncertificates = "a.pem"\n',
            "authority = 3\n",
            "[authority]\ncertificates = 5\n",
        ):
            self.assertRaises(LocalError, with_authority, text, NEW)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=4))
    def test_any_list(self, listed: list[str]) -> None:
        """Whatever the list holds, it is the same with one more."""
        import tomlkit

        text = tomlkit.dumps({"authority": {"certificates": listed}, "network": {"verify_name": True}})
        after = with_authority(text, NEW)
        self.assertEqual(self.certificates(after), listed if NEW in listed else [*listed, NEW])

    def test_file(self) -> None:
        """In a file: paths relative to it, its mode kept; what lies elsewhere is named whole."""
        folder = Path(self.mktemp())
        (folder / "pki").mkdir(parents=True)
        config = folder / "ice.toml"
        config.write_text("[authority]\n")
        config.chmod(0o640)
        self.assertTrue(add_authority(config, folder / NEW))
        self.assertFalse(add_authority(config, folder / NEW))
        self.assertTrue(add_authority(config, folder.parent / "elsewhere.pem"))
        self.assertEqual(
            self.certificates(config.read_text()),
            [DEFAULT, NEW, str((folder.parent / "elsewhere.pem").resolve())],
        )
        self.assertEqual(stat.S_IMODE(config.stat().st_mode), 0o640)

    def test_what_to_do_by_hand(self) -> None:
        """A file that cannot be edited is left as it was, and the message says what to write."""
        config = Path(self.mktemp())
        config.write_text("[authority")
        self.assertIn(
            "by hand", str(self.assertRaises(LocalError, add_authority, config, config.parent / NEW))
        )
        self.assertEqual(config.read_text(), "[authority")
