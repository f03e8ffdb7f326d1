"""What calls come to, in figures."""

from __future__ import annotations

import random
from uuid import UUID

import attrs
from twisted.trial.unittest import SynchronousTestCase

from ice.media import codecs
from ice.media.burst import BurstSender
from ice.media.tones import sine
from ice.telephony.audio import CallAudio
from ice.telephony.call import Direction
from ice.telephony.line_buffer import RATES
from ice.telephony.measures import FORMATS, Setups, measured
from ice.telephony.records import CallRecord
from ice.telephony.voice import LineVoice

RECORD = CallRecord(UUID(int=1), Direction.OUTGOING, "100", 1_000.0)


class Measures(SynchronousTestCase):
    def test_setups(self) -> None:
        """Sums of the times until a ring and an answer; calls that came to neither are in none."""
        setups = Setups()
        for rang, answered in ((1_000.5, 1_002.0), (1_001.5, None), (None, None), (999.0, None)):
            setups.add(attrs.evolve(RECORD, rang=rang, answered=answered))
        self.assertEqual((setups.rang, setups.rang_s, setups.answered, setups.answered_s), (3, 2.0, 1, 2.0))

    def test_measured(self) -> None:
        """A record is told what people lost on the stream, and what the line was."""
        audio = CallAudio(voice=LineVoice(16_000), chance=random.Random(0))
        audio.add_line("line", 16_000)
        audio.flow(True, True, 0.0)
        sender = BurstSender(codecs.encoder("opus", fec=False), chance=random.Random(1))
        sender.press(0.0)
        for number in range(50):
            for sending in sender.pcm(sine(500.0, 960)):
                if number % 10 != 9:
                    audio.datagram(sending.payload, sending.flags, 7, number * 0.02, number)
            audio.line_sound("line", 16_000, bytes(640), number * 0.02)
            audio.tick(number * 0.02)
        record = measured(RECORD, audio.statistics())
        self.assertEqual((record.codec, record.rate), ("slin16", 16_000))
        self.assertGreater(record.loss_percent, 5.0)
        self.assertLess(record.loss_percent, 12.0)
        bare = measured(RECORD, CallAudio(voice=LineVoice(8_000)).statistics())
        self.assertEqual((bare.codec, bare.loss_percent), ("", 0.0))

    def test_formats(self) -> None:
        """Each rate has the name that call managers give it."""
        self.assertEqual([FORMATS[rate] for rate in RATES], ["slin", "slin12", "slin16", "slin24", "slin48"])
