"""A conference codes once what many of its members hear alike, and nobody hears that."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.speech import SPEECH
from ice.media import opus, wav
from ice.media.payload import Pcm
from ice.media.quality import compare
from ice.patch.channel import Voice
from ice.patch.plan import Mode
from tests.unit.patch.lab import Air, Station, patched

NAMES = tuple("abcdef")
OPUS = Voice(codec="opus", bitrate=24_000)
SENTENCE = wav.read(SPEECH)[:240_000]


class Sharing(SynchronousTestCase):
    """Full duplex, Opus everywhere."""

    def setUp(self) -> None:
        self.air = Air()
        self.server = patched(self.air, Mode.MIXED, NAMES, full_duplex=True, voice=OPUS)
        self.people = {name: Station(self.air, name, voice=OPUS) for name in NAMES}

    def coded(self, until: float) -> int:
        """Frames that the patch codes in the meantime."""
        real = opus.Encoder.encode
        counts: Counter[str] = Counter()

        def encode(coder: opus.Encoder, pcm: Pcm) -> bytes:
            counts["patch"] += 1
            return real(coder, pcm)

        with mock.patch.object(opus.Encoder, "encode", encode):
            self.air.run(until)
        return counts["patch"]

    def say(self, name: str, pcm: Pcm, at: float) -> None:
        """A person's packets, coded before anybody counts."""
        self.people[name].talk(pcm, at)
        self.air.run(at)

    def test_one_talks(self) -> None:
        """Five hear one talker for the work of one coder, and the same bytes."""
        self.say("a", SENTENCE, 0.0)
        frames = self.coded(6.0)
        packets = [self.people[name].packets for name in NAMES[1:]]
        self.assertEqual(len({tuple(each.payload for each in heard) for heard in packets}), 1)
        self.assertEqual(len({heard[0].ssrc for heard in packets}), 5)
        self.assertEqual(frames, len({each.sequence for each in packets[0]}))

    def test_three_talk(self) -> None:
        """Three who talk have each a sound of their own, the other three have one together."""
        for name, shift in zip("abc", (0, 50_000, 90_000), strict=True):
            self.say(name, np.roll(SENTENCE, shift), 0.0)
        frames = self.coded(6.0)
        last = len({each.sequence for each in self.people["f"].packets})
        self.assertLess(abs(frames - 4 * last), 10)

    def test_no_seam(self) -> None:
        """Who says something while another talks hears that one as the others do: nothing is lost or doubled where he leaves the common sound and comes back to it."""
        for name in "bf":
            self.people[name].listen(0.0, 6.0)
        self.say("a", SENTENCE, 0.0)
        self.air.run(1.5)
        self.say("b", SENTENCE[60_000:84_000], 1.5)
        self.air.run(6.0)
        likeness = compare(SENTENCE, self.people["b"].pcm)
        self.assertGreater(likeness.score, 0.97)
        self.assertEqual(likeness.coverage, 1.0)
        late: list[list[Any]] = [self.people[name].packets[-100:-10] for name in "bf"]
        self.assertEqual(*([each.payload for each in packets] for packets in late))
