"""A line's sound by its own clock, in frames as they come: what is heard of it here."""

from __future__ import annotations

import random

import attrs
import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.mixer import level_dbov
from ice.telephony.comfort import ComfortNoise
from ice.telephony.line_buffer import FRAME, RATES, ROOM_MS, LineBuffer

TICK = 0.02
HERTZ = 440.0
AMPLITUDE = 8_000.0
SMOOTH = AMPLITUDE * (2 * np.pi * HERTZ / 48_000) ** 2  # the second difference of that tone, at the most


def tone(start: int, count: int, rate: int) -> bytes:
    wave = AMPLITUDE * np.sin(2 * np.pi * HERTZ / rate * np.arange(start, start + count))
    return np.rint(wave).astype("<i2").tobytes()


@attrs.define
class Heard:
    """What came of a simulated line."""

    buffer: LineBuffer
    pcm: npt.NDArray[np.int16]
    waiting: npt.NDArray[np.float64]
    delays_ms: list[float]

    @property
    def roughness(self) -> float:
        """The largest second difference, once the line speaks: a click is a large one."""
        start = int(np.argmax(self.pcm != 0)) + FRAME
        return float(np.abs(np.diff(self.pcm[start:].astype(int), 2)).max())


def simulate(
    seconds: float,
    *,
    rate: int = 48_000,
    ppm: float = 0.0,
    jitter_ms: float = 0.0,
    frame_ms: int = 20,
    begins: float = 0.0107,
    stall: tuple[float, float] = (0.0, 0.0),
    seed: int = 1,
) -> Heard:
    """A tone on a line whose clock runs ``ppm`` faster than ours; between the two times of ``stall`` nothing comes, then all at once."""
    chance = random.Random(seed)
    buffer = LineBuffer(rate)
    count = rate * frame_ms // 1000
    number, last, ticks = 0, 0.0, 0
    pieces, waiting = [], []

    def arrival() -> float:
        at = begins + (number + 1) * frame_ms / 1000 / (1 + ppm * 1e-6) + chance.random() * jitter_ms / 1000
        return stall[1] if stall[0] <= at < stall[1] else at

    due = arrival()
    while ticks * TICK < seconds:
        now = ticks * TICK
        while due <= now:
            buffer.feed(tone(number * count, count, rate), due)
            number, last = number + 1, due
            due = max(last, arrival())
        pcm = buffer.pull(now)
        pieces.append(pcm if pcm is not None else np.zeros(FRAME, np.int16))
        waiting.append(buffer.waiting_ms)
        ticks += 1
    return Heard(buffer, np.concatenate(pieces), np.array(waiting), [])


class Calm(SynchronousTestCase):
    def test_bit_for_bit(self) -> None:
        """Where clocks agree and nothing is late, what came in goes out."""
        heard = simulate(4.0)
        start = int(np.argmax(heard.pcm != 0)) - 1
        sent = np.frombuffer(tone(0, 48_000 * 3, 48_000), "<i2")
        np.testing.assert_array_equal(heard.pcm[start : start + len(sent)], sent)

    def test_delay(self) -> None:
        """From a frame's arrival to its sounding: 25 ms, whatever the phase of the two clocks."""
        for begins in (0.0, 0.003, 0.0107, 0.0199):
            heard = simulate(1.0, begins=begins)
            start = (int(np.argmax(heard.pcm != 0)) - 1) / 48_000
            self.assertLess(abs(start - (begins + 0.02) - (0.025)), 0.0005)

    def test_every_rate(self) -> None:
        """Each rate gives the same tone at 48 kHz."""
        for rate in RATES:
            heard = simulate(1.0, rate=rate)
            steady = heard.pcm[24_000:]
            self.assertAlmostEqual(
                level_dbov(steady), level_dbov(np.frombuffer(tone(0, 9_600, 48_000), "<i2")), 1
            )
            self.assertLess(heard.roughness, SMOOTH * 1.3)
        self.assertRaises(LocalError, LineBuffer, 44_100)

    def test_frames_of_any_length(self) -> None:
        """10 and 60 ms frames, single samples and an odd byte at the end."""
        for frame_ms in (10, 40, 60):
            heard = simulate(3.0, frame_ms=frame_ms)
            self.assertEqual(heard.buffer.counters.concealed_ms, 0, frame_ms)
            self.assertLess(heard.roughness, SMOOTH * 1.3)
        buffer = LineBuffer(8_000)
        buffer.feed(b"", 0.0)
        buffer.feed(b"a", 0.0)
        self.assertEqual(buffer.counters.frames, 0)
        buffer.feed(b"abc", 0.0)
        self.assertAlmostEqual(buffer.waiting_ms, 0.125)

    def test_a_lone_short_frame_is_heard(self) -> None:
        """The last frame of a call may be 14 bytes: it does not wait for others."""
        buffer = LineBuffer(8_000)
        buffer.feed(tone(0, 80, 8_000), 0.0)
        heard = [buffer.pull(tick * TICK) for tick in range(20)]
        self.assertTrue(any(pcm is not None and pcm.any() for pcm in heard))
        self.assertIsNone(heard[-1])


class Drift(SynchronousTestCase):
    def test_two_clocks(self) -> None:
        """Two minutes with 200 ppm either way and jitter: no underrun, no click, the buffer stays where it was."""
        for ppm in (200.0, -200.0):
            heard = simulate(120.0, ppm=ppm, jitter_ms=5.0)
            counters = heard.buffer.counters
            self.assertEqual((counters.underruns, counters.skipped_ms, counters.shortened_ms), (0, 0, 0))
            self.assertLess(float(heard.waiting.max()), 35.0)
            self.assertLess(abs(heard.buffer.drift_ppm - (ppm)), 40)
            self.assertLess(heard.roughness, SMOOTH * 1.3)

    def test_far_beyond(self) -> None:
        """A clock that is 3,000 ppm fast is shortened as speech: the buffer stays bounded all the same."""
        heard = simulate(40.0, ppm=3_000.0)
        self.assertLess(float(heard.waiting.max()), 150.0)
        self.assertGreater(heard.buffer.counters.shortened_ms, 0)


class Trouble(SynchronousTestCase):
    def test_late(self) -> None:
        """A frame that comes 30 ms late is bridged without a click, and the buffer has learned."""
        heard = simulate(2.0, stall=(1.0, 1.05))
        counters = heard.buffer.counters
        self.assertEqual((counters.underruns, counters.pauses), (1, 0))
        self.assertGreater(heard.buffer.target_ms, 50)
        self.assertLess(heard.roughness, SMOOTH * 40)

    def test_stall(self) -> None:
        """After a stall of 200 ms nothing is thrown away; the delay is given back within seconds."""
        heard = simulate(20.0, stall=(1.0, 1.2))
        counters = heard.buffer.counters
        self.assertEqual(counters.skipped_ms, 0)
        self.assertGreater(counters.shortened_ms, 100)
        self.assertLess(float(heard.waiting[-1]), 90.0)

    def test_long_stall(self) -> None:
        """What a stall of seconds brings is skipped up to now: never more than a second is kept."""
        heard = simulate(8.0, stall=(1.0, 4.0))
        self.assertGreater(heard.buffer.counters.skipped_ms, 1_500)
        self.assertLess(float(heard.waiting.max()), ROOM_MS)
        self.assertLess(float(heard.waiting[-1]), 300.0)

    def test_silence(self) -> None:
        """A line that stops is silent, not late; it begins again as at first."""
        buffer = LineBuffer(48_000)
        pulled = []
        for tick in range(200):
            if not 50 <= tick < 150:
                buffer.feed(tone(tick * FRAME, FRAME, 48_000), tick * TICK - 0.005)
            pulled.append(buffer.pull(tick * TICK))
        self.assertEqual([pcm is None for pcm in pulled[60:150]], [True] * 90)
        self.assertEqual((buffer.counters.underruns, buffer.counters.pauses), (0, 1))
        self.assertLess(abs(buffer.target_ms - (45.0)), 0.5)
        self.assertLess(buffer.counters.concealed_ms, 100)

    @given(st.lists(st.tuples(st.binary(max_size=4_000), st.floats(0, 0.2))))
    @settings(max_examples=50, deadline=None)
    def test_anything(self, frames: list[tuple[bytes, float]]) -> None:
        """Whatever comes whenever: 960 samples or silence, and the buffer is bounded."""
        buffer, now = LineBuffer(8_000), 0.0
        for data, pause in frames:
            now += pause
            buffer.feed(data, now)
            pcm = buffer.pull(now)
            self.assertTrue(pcm is None or (pcm.shape == (FRAME,) and pcm.dtype == np.int16))
            self.assertLessEqual(buffer.waiting_ms, ROOM_MS + 1)


class Comfort(SynchronousTestCase):
    def test_level_and_seam(self) -> None:
        """Noise of the level asked for, without end, and none where none is wanted."""
        noise = ComfortNoise(-60.0)
        pieces = np.concatenate([noise.take(FRAME) for _ in range(150)])
        self.assertLess(abs(level_dbov(pieces) - (-60.0)), 0.5)
        self.assertEqual(ComfortNoise(-127.0).take(10).any(), False)
        self.assertEqual(len(ComfortNoise(start=95_999).take(FRAME)), FRAME)
        self.assertRaises(LocalError, ComfortNoise, -10.0)
