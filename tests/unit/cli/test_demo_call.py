"""The demo's call: what is configured, and what is judged; the call itself is a system test."""

import tomllib
from pathlib import Path

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.demo_call import HEARD, Echo, Telephones, told
from ice.cli.processes import Child
from ice.cli.speech import SPEECH
from ice.errors import LocalError
from ice.media import wav
from ice.testing.site import Site


class CallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def child(self, status: int, *lines: str) -> Child:
        child = Child("x", ["sh", "-c", f"exit {status}"], output=self.folder / "x.log")
        child._process.wait()
        (self.folder / "x.log").write_text("\n".join(lines))
        return child

    def test_site(self) -> None:
        """A gateway that is a satellite and writes into the folder alone, and a person whose telephone knows it."""
        site = Site.create(self.folder / "site", clients=("alice",))
        Telephones(self.folder, site, "twistd", lambda sentence: None)
        gateway = tomllib.loads((self.folder / "site" / "gateway.toml").read_text())["gateway"]
        self.assertEqual(gateway["records"]["file"], "calls.db")
        caller = tomllib.loads((self.folder / "site" / "carol.toml").read_text())
        self.assertRegex(caller["telephone"]["group"], r"^[0-9a-f-]{36}$")

    def test_verdict(self) -> None:
        """What sounds like what was said is an echo; silence is none, and neither is a call that failed."""
        site = Site.create(self.folder / "site", clients=("alice",))
        telephones = Telephones(self.folder, site, "twistd", lambda sentence: None)
        wav.write(self.folder / HEARD, wav.read(SPEECH))
        self.assertTrue(telephones.measure(self.child(0), SPEECH).arrived)
        wav.write(self.folder / HEARD, np.zeros(48_000, np.int16))
        self.assertFalse(telephones.measure(self.child(0), SPEECH).arrived)
        error = self.assertRaises(LocalError, telephones.measure, self.child(3, "it is busy"), SPEECH)
        self.assertIn("status 3", str(error))
        self.assertFalse(Echo(0.5, 3.0).arrived)

    def test_told(self) -> None:
        """Lines that are no JSON objects are passed over."""
        self.assertEqual(told(self.child(0, "x", "[1]", '{"event":"began"}')), [{"event": "began"}])
