"""What callers are told: ours, a site's own, and what stands for what is missing."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ice.errors import LocalError
from ice.media.mixer import level_dbov
from ice.media.tones import silence, sine
from ice.media.wav import WavWriter, inspect, write
from ice.telephony import prompts_spoken
from ice.telephony.dial_in import Prompt
from ice.telephony.prompts import BEEPS, DATA, LONGEST_S, SPOKEN, Prompts

LARGEST = 40_000  # bytes of a prompt of ours: they are in every copy of the suite


class Ours(SynchronousTestCase):
    def test_all_are_there(self) -> None:
        """Each spoken prompt is a small file that a telephone plays as it is, as loud as people are; beeps need none."""
        prompts = Prompts()
        self.assertEqual(prompts.missing, {})
        self.assertEqual({path.stem for path in DATA.glob("*.wav")}, set(map(str, SPOKEN)))
        for prompt in SPOKEN:
            path = DATA / f"{prompt}.wav"
            form = inspect(path)
            self.assertEqual((form.rate, form.channels, form.bits), (8_000, 1, 16))
            self.assertLess(path.stat().st_size, LARGEST)
            self.assertTrue(0.7 < form.seconds < 2.6, path)
            self.assertTrue(-26.0 < level_dbov(prompts.pcm(prompt)) < -18.0, path)

    def test_beeps_differ(self) -> None:
        """Speak now, somebody talks, you are not heard, your time is over: nobody takes one for another; each is short."""
        sounds = {prompt: Prompts().pcm(prompt) for prompt in BEEPS}
        self.assertEqual(len({pcm.tobytes() for pcm in sounds.values()}), len(BEEPS))
        self.assertLess(max(map(len, sounds.values())), 48_000 * 0.6)


class OfASite(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_its_own(self) -> None:
        """Files of any rate, for speech and for beeps."""
        for prompt, rate in ((Prompt.CODE, 44_100), (Prompt.BUSY, 16_000)):
            write(self.folder / f"{prompt}.wav", sine(440.0, 48_000), rate=rate)
        prompts = Prompts(self.folder)
        for prompt in (Prompt.CODE, Prompt.BUSY):
            self.assertLess(abs(len(prompts.pcm(prompt)) - 48_000), 100)
        self.assertEqual(set(prompts.missing), set(SPOKEN) - {Prompt.CODE})

    def test_missing_and_spoiled(self) -> None:
        """Not there, not WAV, cut short, far too long, a folder, no folder: a beep each, one line in the log, no crash."""
        (self.folder / "code.wav").write_bytes(b"RIFFnonsense" * 10)
        (self.folder / "welcome.wav").write_bytes((DATA / "welcome.wav").read_bytes()[:30])
        (self.folder / "locked.wav").mkdir()
        with WavWriter(self.folder / "keys.wav", rate=8_000) as writer:
            writer.write(silence(48_000 * round(LONGEST_S + 1)))
        with (self.folder / "busy.wav").open("wb") as file:
            file.truncate(1_000_000_000)
        prompts = Prompts(self.folder)
        self.assertEqual(set(prompts.missing), {*SPOKEN, Prompt.BUSY})
        for prompt in Prompt:
            pcm = prompts.pcm(prompt)
            self.assertTrue(np.any(pcm))
            self.assertLess(len(pcm), 48_000)
        for why in prompts.missing.values():
            self.assertIn(str(self.folder), why)
        self.assertEqual(set(Prompts(self.folder / "none").missing), set(SPOKEN))


class Spoken(SynchronousTestCase):
    def setUp(self) -> None:
        if shutil.which("espeak-ng") is None:
            raise SkipTest("espeak-ng is not installed")

    def test_another_language(self) -> None:
        """A file of texts becomes a folder of prompts, which is a site's."""
        folder = Path(self.mktemp())
        texts = Path(self.mktemp())
        lines = "".join(f'{prompt} = "Bitte {prompt}."\n' for prompt in SPOKEN)
        texts.write_text(f'voice = "de"\nspeed = 200\n[prompts]\n{lines}')
        with redirect_stdout(io.StringIO()) as said:
            self.assertEqual(prompts_spoken.main([str(texts), str(folder)]), 0)
        self.assertEqual(len(said.getvalue().splitlines()), len(SPOKEN))
        self.assertEqual(Prompts(folder).missing, {})

    def test_what_cannot_be_spoken(self) -> None:
        """A text that is missing, a file that is none, a voice that there is not: told, with what is wrong."""
        texts = Path(self.mktemp())
        for text, told in (
            ('[prompts]\ncode = "Hello"', "says nothing for wrong-code"),
            ("[prompts", "expected a TOML file"),
            ('voice = "qqq"\n[prompts]\n' + "".join(f'{prompt} = "x"\n' for prompt in SPOKEN), "qqq"),
        ):
            texts.write_text(text)
            with redirect_stderr(io.StringIO()) as said:
                self.assertEqual(prompts_spoken.main([str(texts), self.mktemp()]), 1)
            self.assertIn(told, said.getvalue())
        with redirect_stderr(io.StringIO()):
            self.assertEqual(prompts_spoken.main([]), 2)
        self.assertRaises(LocalError, prompts_spoken.spoken, "")
