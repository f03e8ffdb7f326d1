"""The jitter buffer: what is heard, in which order, how late, and that every packet is accounted for."""

from __future__ import annotations

import random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.jitter import (
    MAX_WAITING,
    Arrival,
    Conceal,
    Ended,
    Instruction,
    JitterBuffer,
    Pace,
    Play,
)
from ice.media.transit import TransitWindow

FRAME = 960  # ticks: 20 ms at 48 kHz
STEP = 0.02


@attrs.define
class Ear:
    """Pulls a buffer in blocks of 20 ms, as a loudspeaker does, and remembers what came."""

    buffer: JitterBuffer
    now: float = 0.0
    left_s: float = 0.0  # sound pulled beyond the present block
    heard: list[tuple[float, Instruction]] = attrs.field(factory=list)

    def block(self, length_s: float = STEP) -> None:
        """One block of sound, then the clock goes on."""
        ahead_s = self.left_s
        while ahead_s < length_s - 1e-9:
            instruction = self.buffer.pull(self.now, ahead_s=ahead_s)
            if instruction is None:
                ahead_s = length_s
                break
            self.heard.append((self.now + ahead_s, instruction))
            if isinstance(instruction, Play):
                if instruction.pace in (Pace.NORMAL, Pace.SLACKEN):
                    ahead_s += instruction.duration / self.buffer.clock_hz
                elif instruction.pace is Pace.HASTEN:
                    ahead_s += 0.6 * instruction.duration / self.buffer.clock_hz
                else:  # Pace.EASE, of a talker who is never quiet
                    ahead_s += instruction.duration / self.buffer.clock_hz
            elif isinstance(instruction, Conceal):
                ahead_s += instruction.duration / self.buffer.clock_hz
        self.left_s = ahead_s - length_s
        self.now += length_s

    @property
    def payloads(self) -> list[int]:
        return [int(each.payload) for _, each in self.heard if isinstance(each, Play)]

    @property
    def concealed(self) -> int:
        return sum(isinstance(each, Conceal) for _, each in self.heard)

    @property
    def ends(self) -> list[str]:
        return [each.why for _, each in self.heard if isinstance(each, Ended)]

    @property
    def delays(self) -> list[float]:
        return [each.delay_s for _, each in self.heard if isinstance(each, Play)]


@attrs.frozen(order=True)
class Coming:
    """A packet on its way."""

    at: float
    index: int
    first: bool = False
    last: bool = False
    sequence: int | None = None
    timestamp: int | None = None


def stream(
    count: int, delays: dict[int, float] | None = None, *, start: float = 0.0, begin: int = 0
) -> list[Coming]:
    """``count`` packets of one burst, marked at both ends, each 50 ms on its way unless ``delays`` says otherwise."""
    late = delays or {}
    return [
        Coming(
            round(start + index * STEP + late.get(index, 0.05), 6),
            begin + index,
            first=index == 0,
            last=index == count - 1,
        )
        for index in range(count)
    ]


def listen(
    buffer: JitterBuffer,
    packets: list[Coming],
    seconds: float,
    *,
    offset: int = 65_000,
    ear: Ear | None = None,
) -> Ear:
    """Carry the packets to the buffer in the order of their arrival, while an ear pulls."""
    ear = ear or Ear(buffer)
    todo = sorted(packets)
    until = ear.now + seconds
    while ear.now < until - 1e-9:
        while todo and todo[0].at <= ear.now + 1e-9:
            packet = todo.pop(0)
            index = packet.index
            sequence = index + offset if packet.sequence is None else packet.sequence
            timestamp = index * FRAME + 4_294_900_000 if packet.timestamp is None else packet.timestamp
            buffer.insert(
                sequence & 0xFFFF,
                timestamp & 0xFFFF_FFFF,
                packet.at,
                str(index).encode(),
                FRAME,
                first=packet.first,
                last=packet.last,
            )
        ear.block()
    return ear


def accounted(buffer: JitterBuffer) -> int:
    """The right side of the accounts in the module's docstring."""
    c = buffer.counters
    return (
        c.played
        + c.late
        + c.duplicate
        + c.repeated
        + c.after_end
        + c.stray
        + c.skipped
        + c.overflow
        + buffer.waiting
    )


class JitterTestCase(SynchronousTestCase):
    """With a comparison of times (trial's assertAlmostEqual does not know ``delta``)."""

    def near(self, value: float, wanted: float, tolerance: float) -> None:
        self.assertLessEqual(abs(value - wanted), tolerance, f"{value} is not {wanted} ± {tolerance}")


class Calm(JitterTestCase):
    """A network that does nothing wrong."""

    def test_every_packet_is_played_once_in_order(self) -> None:
        """The first and the last packet of a burst are heard, across the wrap of both counts, and nothing is made up."""
        buffer = JitterBuffer()
        ear = listen(buffer, stream(1_000), 21)
        self.assertEqual(ear.payloads, list(range(1_000)))
        self.assertEqual(ear.concealed, 0)
        self.assertEqual(ear.ends, ["mark"])
        self.assertEqual(
            (buffer.counters.lost, buffer.counters.missing, buffer.counters.underruns), (0, 0, 0)
        )

    def test_the_buffer_fills_before_the_first_sound(self) -> None:
        """With nothing known of the path, the first packet sounds start_ms after its arrival."""
        ear = listen(JitterBuffer(start_ms=60), stream(10), 1)
        self.near(ear.heard[0][0], 0.05 + 0.06, STEP)

    def test_a_burst_of_one_packet_is_heard(self) -> None:
        """First and last at once: played, then ended."""
        ear = listen(JitterBuffer(), stream(1), 1)
        self.assertEqual(ear.payloads, [0])
        self.assertEqual(ear.ends, ["mark"])

    def test_a_lost_end_mark_ends_by_silence(self) -> None:
        """Half a second after the last packet the burst is over, and what was made up meanwhile is short."""
        ear = listen(JitterBuffer(end_of_burst_ms=500), stream(10)[:9], 2)
        self.assertEqual(ear.ends, ["silence"])
        self.assertLessEqual(ear.concealed, 3)
        self.assertEqual(ear.payloads, list(range(9)))

    def test_repeated_end_marks_are_no_duplicates(self) -> None:
        """Copies of the last packet have a counter of their own, also after the end."""
        buffer = JitterBuffer()
        burst = stream(10)
        copies = [attrs.evolve(burst[-1], at=burst[-1].at + late) for late in (0.02, 0.04, 0.3)]
        ear = listen(buffer, burst + copies, 2)
        self.assertEqual(ear.payloads, list(range(10)))
        self.assertEqual(ear.ends, ["mark"])
        self.assertEqual((buffer.counters.repeated, buffer.counters.duplicate), (3, 0))

    def test_several_packets_marked_last(self) -> None:
        """A sender that marks its last five packets is heard to the fifth, as one burst."""
        buffer = JitterBuffer()
        burst = [attrs.evolve(each, last=each.index >= 5) for each in stream(10)]
        ear = listen(buffer, burst, 2)
        self.assertEqual(ear.payloads, list(range(10)))
        self.assertEqual(ear.ends, ["mark"])
        self.assertEqual(buffer.counters.bursts, 1)

    def test_only_a_copy_of_the_last_packet_arrives(self) -> None:
        """The mark's repetition stands in for the packet itself."""
        burst = stream(10)
        burst[-1] = attrs.evolve(burst[-1], at=burst[-1].at + 0.02)
        ear = listen(JitterBuffer(), burst, 2)
        self.assertEqual(ear.payloads, list(range(10)))
        self.assertEqual(ear.ends, ["mark"])

    def test_a_large_framing_and_a_slow_clock(self) -> None:
        """100 ms per packet at 8,000 Hz, pulled in blocks of 20 ms."""
        buffer = JitterBuffer(8_000)
        ear = Ear(buffer)
        for tick in range(300):
            if tick % 5 == 0 and tick < 200:
                buffer.insert(tick // 5, tick // 5 * 800, ear.now, b"%d" % (tick // 5), 800, last=tick == 195)
            ear.block()
        self.assertEqual(ear.payloads, list(range(40)))
        self.assertEqual(ear.concealed, 0)

    def test_settings_that_cannot_be(self) -> None:
        """A maximum below the minimum is a local error that names both."""
        with self.assertRaisesRegex(LocalError, "min_ms"):
            JitterBuffer(min_ms=100, max_ms=50)


class Losses(JitterTestCase):
    """Packets that never come."""

    def test_a_hole_is_concealed_with_the_packet_behind_it(self) -> None:
        """One lost packet is one concealment, with the following payload at hand for FEC."""
        buffer = JitterBuffer()
        ear = listen(buffer, [each for each in stream(50) if each.index != 20], 3)
        holes = [each for _, each in ear.heard if isinstance(each, Conceal)]
        self.assertEqual(holes, [Conceal(FRAME, b"21")])
        self.assertEqual((buffer.counters.lost, buffer.counters.concealed_ms), (1, 20))
        self.assertEqual(ear.payloads, [*range(20), *range(21, 50)])

    def test_a_long_hole_keeps_its_length(self) -> None:
        """Thirty lost packets: 100 ms are made up, the rest is silence, and what follows keeps its place in time."""
        buffer = JitterBuffer(end_of_burst_ms=2_000)
        ear = listen(buffer, [each for each in stream(100) if not 40 <= each.index < 70], 4)
        self.assertEqual(ear.payloads, [*range(40), *range(70, 100)])
        self.assertEqual(buffer.counters.lost, 30)
        times = {int(each.payload): at for at, each in ear.heard if isinstance(each, Play)}
        self.near(times[70] - times[39], 31 * STEP, 0.06)  # the delay may fall to its target in the hole
        self.assertLessEqual(ear.concealed, 9)

    def test_a_late_packet_is_late_and_not_lost(self) -> None:
        """What comes after its time is dropped under that name, and is not lost twice."""
        buffer = JitterBuffer()
        ear = listen(buffer, stream(50, {20: 0.25}), 3)
        self.assertEqual((buffer.counters.late, buffer.counters.missing, buffer.counters.lost), (1, 1, 0))
        self.assertNotIn(20, ear.payloads)

    def test_duplicates_are_counted_and_heard_once(self) -> None:
        """Every packet twice, the second copies later."""
        buffer = JitterBuffer()
        burst = stream(50)
        copies = [attrs.evolve(each, at=each.at + 0.07, first=False, last=False) for each in burst]
        ear = listen(buffer, burst + copies, 3)
        self.assertEqual(ear.payloads, list(range(50)))
        self.assertEqual(buffer.counters.duplicate, 50)

    def test_reordering_is_mended(self) -> None:
        """Neighbours swapped, the very first among them: heard in order, none lost."""
        buffer = JitterBuffer()
        ear = listen(buffer, stream(50, dict.fromkeys(range(0, 50, 4), 0.085)), 3)
        self.assertEqual(ear.payloads, list(range(50)))
        self.assertEqual(buffer.counters.lost, 0)


class Pauses(JitterTestCase):
    """Discontinuous transmission."""

    def test_a_pause_is_neither_loss_nor_end(self) -> None:
        """Timestamps go on by 400 ms while numbers do not: silence as long as that, one burst, nothing lost."""
        buffer = JitterBuffer()
        packets = stream(20)[:20] + [
            Coming(
                each.at + 0.4, each.index, False, each.last, None, each.index * FRAME + 19_200 + 4_294_900_000
            )
            for each in stream(40)[20:]
        ]
        packets[19] = attrs.evolve(packets[19], last=False)
        ear = listen(buffer, packets, 3)
        self.assertEqual(ear.payloads, list(range(40)))
        self.assertEqual((buffer.counters.lost, buffer.counters.missing), (0, 0))
        self.assertEqual(ear.ends, ["mark"])
        times = {int(each.payload): at for at, each in ear.heard if isinstance(each, Play)}
        self.near(times[20] - times[19], 0.42, 0.045)

    def test_a_talker_who_pauses_is_waited_for(self) -> None:
        """Once a pause was DTX, a longer one does not end the burst at once."""
        buffer = JitterBuffer(end_of_burst_ms=500)
        ear = Ear(buffer)
        at = ticks = 0.0
        for index in range(6):
            pause = (0, 0.4, 0.4, 1.5, 1.5, 0.4)[index]
            at, ticks = at + pause, ticks + pause
            while ear.now < at:
                ear.block()
            buffer.insert(
                index, round(ticks * 48_000), at, b"%d" % index, FRAME, first=index == 0, last=index == 5
            )
            at, ticks = at + STEP, ticks + STEP
        for _ in range(20):
            ear.block()
        self.assertEqual(ear.payloads, list(range(6)))
        self.assertEqual(ear.ends, ["mark"])
        self.assertEqual(buffer.counters.lost, 0)


class Restarts(SynchronousTestCase):
    """Senders that begin to count anew."""

    def test_a_new_count_at_each_burst_is_no_loss(self) -> None:
        """resetRtpOnTx of the original: sequence and timestamp anywhere, marked first."""
        buffer = JitterBuffer()
        ear = Ear(buffer)
        chance = random.Random(7)
        for burst in range(5):
            sequence, timestamp = chance.randrange(65_536), chance.randrange(2**32)
            packets = [
                attrs.evolve(each, sequence=sequence + n, timestamp=timestamp + n * FRAME)
                for n, each in enumerate(stream(20, start=ear.now, begin=20 * burst))
            ]
            listen(buffer, packets, 1.5, ear=ear)
        self.assertEqual(ear.payloads, list(range(100)))
        self.assertEqual((buffer.counters.missing, buffer.counters.stray, buffer.counters.bursts), (0, 0, 5))

    def test_a_count_that_goes_on_after_an_hour(self) -> None:
        """Numbers and timestamps continue as if no time had passed: played at once, with the delay known before."""
        buffer = JitterBuffer()
        ear = listen(buffer, stream(100), 3)
        ear.now += 3_600
        second = [attrs.evolve(each, at=each.at + ear.now) for each in stream(50, begin=100)]
        start = ear.now
        listen(buffer, second, 3, ear=ear)
        self.assertEqual(ear.payloads, list(range(150)))
        self.assertEqual((buffer.counters.missing, buffer.counters.skipped), (0, 0))
        self.assertLess(ear.heard[102][0] - start, 0.05 + 0.08)

    def test_a_new_burst_before_the_old_one_has_been_played(self) -> None:
        """Released and pressed again within the buffer's delay: both are heard whole, as two bursts."""
        buffer = JitterBuffer(min_ms=200)
        packets = stream(20) + [
            attrs.evolve(each, sequence=each.index + 9_000, timestamp=each.index)
            for each in stream(20, start=20 * STEP + 0.02, begin=20)
        ]
        packets = [
            attrs.evolve(each, timestamp=(each.index - 20) * FRAME) if each.index >= 20 else each
            for each in packets
        ]
        ear = listen(buffer, packets, 3)
        self.assertEqual(ear.payloads, list(range(40)))
        self.assertEqual(ear.ends, ["mark", "mark"])

    def test_an_unmarked_restart_is_believed_at_the_second_packet(self) -> None:
        """The marked packet was lost: the next two confirm each other and both are played."""
        buffer = JitterBuffer()
        ear = listen(buffer, stream(20), 2)
        second = [
            attrs.evolve(
                each, at=each.at + ear.now, sequence=each.index + 20_000, timestamp=each.index * FRAME
            )
            for each in stream(20, begin=20)
        ][1:]
        listen(buffer, second, 2, ear=ear)
        self.assertEqual(ear.payloads, [*range(20), *range(21, 40)])
        self.assertEqual((buffer.counters.stray, buffer.counters.missing), (0, 0))

    def test_a_single_wild_packet_changes_nothing(self) -> None:
        """A number out of nowhere is a stray; the burst goes on."""
        buffer = JitterBuffer()
        wild = Coming(0.5, 999, sequence=40_000, timestamp=1)
        ear = listen(buffer, [*stream(50), wild], 3)
        self.assertEqual(ear.payloads, list(range(50)))
        self.assertEqual(accounted(buffer), buffer.counters.received)
        self.assertEqual(buffer.counters.missing, 0)

    def test_the_first_packet_comes_second(self) -> None:
        """A restart whose marked packet was overtaken loses neither."""
        buffer = JitterBuffer()
        ear = listen(buffer, stream(20), 2)
        second = [
            attrs.evolve(
                each, at=each.at + ear.now, sequence=each.index + 20_000, timestamp=each.index * FRAME
            )
            for each in stream(20, {0: 0.075}, begin=20)
        ]
        listen(buffer, second, 2, ear=ear)
        self.assertEqual(ear.payloads, list(range(40)))
        self.assertEqual((buffer.counters.stray, buffer.counters.missing), (0, 0))

    def test_timestamps_that_jump_without_time_passing(self) -> None:
        """A jump of ten seconds in the middle of speech costs nobody ten seconds of sound."""
        buffer = JitterBuffer()
        packets = [
            attrs.evolve(each, timestamp=each.index * FRAME + (480_000 if each.index >= 25 else 0))
            for each in stream(50)
        ]
        ear = listen(buffer, packets, 3)
        self.assertEqual(ear.payloads, list(range(50)))
        self.assertLess(max(ear.delays), 0.15)

    def test_timestamps_that_stand_still(self) -> None:
        """A sender whose timestamps are worth nothing is played by its numbers."""
        buffer = JitterBuffer()
        ear = listen(buffer, [attrs.evolve(each, timestamp=77) for each in stream(100)], 4)
        self.assertEqual(ear.payloads, list(range(100)))


class Delay(SynchronousTestCase):
    """How the delay follows the network."""

    def test_it_grows_when_arrivals_are_late_and_shrinks_when_the_network_calms(self) -> None:
        """Calm, then 15 s of up to 200 ms jitter, then calm: the delay goes up, and comes back down."""
        chance = random.Random(1)
        delays = {
            index: 0.05 + (chance.random() * 0.2 if 500 <= index < 1_250 else 0) for index in range(3_000)
        }
        buffer = JitterBuffer()
        ear = listen(buffer, stream(3_000, delays), 62)
        played = {int(e.payload): e.delay_s for _, e in ear.heard if isinstance(e, Play)}
        calm = max(d for i, d in played.items() if 400 <= i < 500)
        rough = max(d for i, d in played.items() if 1_000 <= i < 1_250)
        after = max(d for i, d in played.items() if i >= 2_500)
        self.assertLess(calm, 0.08)
        self.assertGreater(rough, 0.17)
        self.assertLess(rough, 0.3)
        self.assertLess(after, 0.1)
        self.assertLess(buffer.counters.missing, 40)
        self.assertGreater(buffer.counters.hastened, 0)

    def test_in_steady_jitter_hardly_anything_is_lost(self) -> None:
        """80 ms of jitter: after the first seconds fewer than 3 % are late, and the delay is no more than 150 ms."""
        chance = random.Random(2)
        delays = {index: 0.05 + chance.random() * 0.08 for index in range(2_000)}
        buffer = JitterBuffer()
        ear = listen(buffer, stream(2_000, delays), 42)
        self.assertLess(buffer.counters.late, 60)
        self.assertLess(max(ear.delays), 0.15)

    def test_a_stall_is_waited_for_and_made_good(self) -> None:
        """Nothing for 300 ms, then everything: nothing is lost, and within five seconds the delay is small again."""
        delays = {index: max(0.05, 0.05 + 0.3 - (index - 100) * STEP) for index in range(100, 1_000)}
        buffer = JitterBuffer()
        ear = listen(buffer, stream(1_000, delays), 22)
        self.assertEqual(ear.payloads, list(range(1_000)))
        self.assertGreater(max(ear.delays), 0.25)
        self.assertLess(ear.delays[-1], 0.11)

    def test_seconds_of_backlog_are_skipped_to_now(self) -> None:
        """A frozen sender that delivers five seconds at once: the delay stays bounded, and the skipped are counted."""
        delays = {index: max(0.05, 0.05 + 5.0 - (index - 100) * STEP) for index in range(100, 1_000)}
        buffer = JitterBuffer(max_ms=500)
        ear = listen(buffer, stream(1_000, delays), 23)
        self.assertLessEqual(max(ear.delays), 0.5 + STEP + 0.001)
        self.assertGreater(buffer.counters.skipped, 200)
        self.assertLess(buffer.counters.skipped, 260)
        self.assertLess(ear.delays[-1], 0.11)
        self.assertEqual(ear.payloads[-1], 999)
        self.assertEqual(accounted(buffer), buffer.counters.received)

    def test_a_path_that_is_slower_for_good(self) -> None:
        """Two seconds more from one packet to the next, for ever: a moment is lost, then speech goes on."""
        delays = {index: 0.05 if index < 200 else 2.05 for index in range(600)}
        buffer = JitterBuffer(max_ms=500)
        ear = listen(buffer, stream(600, delays), 16)
        self.assertGreater(len(ear.payloads), 560)
        self.assertEqual(ear.payloads[-1], 599)

    def test_clocks_that_drift(self) -> None:
        """A sender 200 ppm fast or slow for five minutes: the delay does not creep, nothing overflows."""
        for factor in (1.0002, 0.9998):
            delays = {index: 0.05 + index * STEP * (factor - 1) for index in range(15_000)}
            buffer = JitterBuffer()
            ear = listen(buffer, stream(15_000, delays), 302)
            self.assertLess(max(ear.delays[1_000:]), 0.1)
            self.assertLess(buffer.counters.missing, 15)
            self.assertEqual(buffer.counters.overflow, 0)

    def test_nobody_pulls(self) -> None:
        """What waits is bounded; the oldest goes first and is counted."""
        buffer = JitterBuffer()
        for index in range(2_000):
            buffer.insert(index, index * FRAME, index * STEP, b"%d" % index, FRAME)
        self.assertEqual(buffer.waiting, MAX_WAITING)
        self.assertEqual(buffer.counters.overflow, 2_000 - MAX_WAITING)
        buffer.abandon()
        self.assertEqual((buffer.waiting, buffer.counters.overflow), (0, 2_000))

    def test_a_consumer_of_large_blocks_is_served_whole(self) -> None:
        """Whoever pulls 100 ms at a time gets a delay that allows for it, and no holes once that is learned."""
        buffer = JitterBuffer()
        ear = Ear(buffer)
        todo = stream(500)
        for _ in range(110):
            while todo and todo[0].at <= ear.now:
                packet = todo.pop(0)
                buffer.insert(
                    packet.index,
                    packet.index * FRAME,
                    packet.at,
                    b"%d" % packet.index,
                    FRAME,
                    last=packet.last,
                )
            ear.block(0.1)
        self.assertEqual(ear.payloads, list(range(500)))
        self.assertLess(ear.concealed, 12)


class Transits(SynchronousTestCase):
    """The window of relative transit times."""

    def test_percentile_and_base(self) -> None:
        """Of a hundred transits 1…100 ms above 3 s, the 98th percentile lies 98 ms above the base."""
        window = TransitWindow(1.0)
        for index in range(100):
            window.add(3.001 + index / 1000, 0.02)
        self.assertAlmostEqual(window.base, 3.001)
        self.assertAlmostEqual(window.spread, 0.098)

    def test_old_transits_are_forgotten(self) -> None:
        """Eight seconds of calm speech make the window calm."""
        window = TransitWindow(1.0)
        for _ in range(100):
            window.add(0.5, 0.02)
        for _ in range(400):
            window.add(0.0, 0.02)
        self.assertEqual((window.base, window.spread, len(window)), (0.0, 0.0, 400))

    def test_what_no_buffer_could_wait_for_is_not_learned(self) -> None:
        """Transits beyond the limit stay out, whether they come before or after the smallest."""
        window = TransitWindow(1.0)
        window.add(5.0, 0.02)
        window.add(0.0, 0.02)
        window.add(1.5, 0.02)
        self.assertEqual((window.base, window.spread, len(window)), (0.0, 0.0, 1))


class Anything(SynchronousTestCase):
    """Whatever comes, the buffer holds its promises."""

    @settings(max_examples=100, deadline=None)
    @given(
        st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 0.4), st.integers(20, 600)
    )
    def test_a_bad_network(
        self, seed: int, loss: float, doubled: float, jitter_s: float, max_ms: int
    ) -> None:
        """Loss, doubling, jitter, reordering: in order, none twice, delay bounded, all accounted for."""
        chance = random.Random(seed)
        packets = []
        for packet in stream(200):
            if chance.random() < loss:
                continue
            packets.append(attrs.evolve(packet, at=packet.at + chance.random() * jitter_s))
            if chance.random() < doubled:
                packets.append(attrs.evolve(packet, at=packet.at + chance.random() * jitter_s))
        buffer = JitterBuffer(max_ms=max_ms)
        ear = listen(buffer, packets, 7)
        self.assertEqual(ear.payloads, sorted(set(ear.payloads)))
        self.assertEqual(accounted(buffer), buffer.counters.received)
        self.assertEqual(buffer.counters.received, len(packets))
        self.assertEqual(buffer.waiting, 0)
        if ear.delays:
            self.assertLessEqual(max(ear.delays), max_ms / 1000 + STEP + 0.001)
        self.assertTrue(buffer.idle)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 0xFFFF) | st.integers(0, 30),
                st.integers(0, 2**32 - 1) | st.integers(0, 30).map(lambda n: n * FRAME),
                st.floats(0, 0.3),
                st.integers(0, 5_000),
                st.booleans(),
                st.booleans(),
                st.integers(0, 4),
            ),
            max_size=60,
        )
    )
    def test_nonsense(self, packets: list[tuple[int, int, float, int, bool, bool, int]]) -> None:
        """Any numbers, any marks: it never raises, plays no packet twice, and every packet is accounted for."""
        buffer = JitterBuffer(max_ms=200)
        ear = Ear(buffer)
        for index, (sequence, timestamp, gap, duration, first, last, pulls) in enumerate(packets):
            ear.now += gap
            arrival = buffer.insert(
                sequence, timestamp, ear.now, b"%d" % index, duration, first=first, last=last
            )
            self.assertIsInstance(arrival, Arrival)
            for _ in range(pulls):
                ear.block()
            self.assertEqual(accounted(buffer), buffer.counters.received)
        for _ in range(400):
            ear.block()
        self.assertEqual(len(ear.payloads), len(set(ear.payloads)))
        self.assertEqual(accounted(buffer), buffer.counters.received)
        self.assertLessEqual(buffer.waiting, 1)
        self.assertLessEqual(max(ear.delays, default=0), 0.2 + 5_000 / 48_000 + 0.001)
