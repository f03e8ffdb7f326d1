"""``ice listen`` up to its first look at the network; the rest is in test_voice and the system tests."""

import sys
from pathlib import Path
from unittest import mock

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.listen import Wishes, _sound, listen
from ice.cli.talk import talk
from ice.config.load import ConfigError
from ice.media.devices import NoSound
from ice.media.wav import BadWav, WavWriter


def wishes(out: Path | None) -> Wishes:
    return Wishes(None, (), out, None, None, None, None, None, False)


class ListenTests(SynchronousTestCase):
    def test_password_before_the_reactor(self) -> None:
        """A password is asked for while Ctrl-C still means what it says: before the reactor runs, which only takes note of it."""
        with (
            mock.patch("ice.cli.channels.wanted", side_effect=KeyboardInterrupt),
            mock.patch("ice.cli.loop.run") as run,
        ):
            for command in (listen, talk):
                self.assertIn("Aborted", CliRunner().invoke(command, ["team.ice"]).output)
        run.assert_not_called()

    def ask(self, *arguments: str) -> Result:
        return CliRunner().invoke(listen, list(arguments), standalone_mode=False)

    def test_no_configuration(self) -> None:
        """A configuration that is not there is told before anything is opened."""
        result = self.ask("town", "--config", "/nowhere/ice.toml")
        self.assertIsInstance(result.exception, ConfigError)
        self.assertIn("/nowhere/ice.toml", str(result.exception))

    def test_a_file(self) -> None:
        """With --out the sound goes into a WAV file, which is there at once."""
        path = Path(self.mktemp())
        with _sound(wishes(path)) as sink:
            self.assertIsInstance(sink, WavWriter)
            self.assertEqual(path.read_bytes()[:4], b"RIFF")

    def test_a_file_that_cannot_be(self) -> None:
        """A folder that is not there is told by name."""
        with self.assertRaises(BadWav), _sound(wishes(Path("/nowhere/heard.wav"))):
            pass

    def test_no_loudspeaker(self) -> None:
        """Without --out and without the audio extra both ways out are told."""
        absent = mock.patch.dict(sys.modules, {"sounddevice": None})
        with absent, self.assertRaises(NoSound) as raised, _sound(wishes(None)):
            pass
        self.assertIn("--out", str(raised.exception))
        self.assertIn("pip install", str(raised.exception))

    def test_usage(self) -> None:
        """Times are positive; the stream is asked for."""
        self.assertNotEqual(CliRunner().invoke(listen, ["town", "--seconds", "-1"]).exit_code, 0)
        self.assertIn("STREAM", CliRunner().invoke(listen, []).output)
