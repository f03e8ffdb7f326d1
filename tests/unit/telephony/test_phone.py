"""A telephone over a network of streams: calls with their sound, a gateway with the built-in call manager at the other end."""

from __future__ import annotations

from typing import Any
from uuid import uuid5

import numpy as np
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.mixer import level_dbov
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.tones import sine
from ice.streams.memory import Collector, MemoryNetwork
from ice.telephony import messages
from ice.telephony.call import Progress
from ice.telephony.causes import Cause
from ice.telephony.handset import DOUBT_S, Incoming, KeysHeard, Over, Reachable, Shown
from ice.telephony.phone import SILENT_S, Path, Phone
from tests.unit.telephony.exchange import GROUP, Exchange
from tests.unit.telephony.people import SPACE, UNIX, credentials, trust

STEP = 0.01
FRAME = SAMPLE_RATE // 50


class World:
    """One person, one gateway, one clock."""

    def __init__(self, loss: float = 0.0) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, delay_s=0.005, loss=loss, seed=7)
        self.exchange: Exchange | None = Exchange(self.clock, self.network)
        self.seen: list[Any] = []
        self.voice: Pcm | None = None  # what is said, over and over; none: nothing comes of the person
        self.heard: list[Pcm] = []
        self.on: Any = self.seen.append
        self._turns = 0
        self.phone = self.make("ada")
        self.phone.start()
        self.run(0.1)

    def make(self, name: str, see: Any = None, **more: Any) -> Phone:
        return Phone(
            self.clock, self.network, GROUP, credentials(name), trust, see or self.see,
            wall=lambda: UNIX + self.clock.seconds(), alias=name, **more,
        )  # fmt: skip

    def see(self, seen: Any) -> None:
        self.on(seen)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self._turns += 1
            if self._turns % 2:
                if self.voice is not None:
                    start = self._turns // 2 * FRAME % (len(self.voice) - FRAME)
                    self.phone.say(self.voice[start : start + FRAME])
                pcm = self.phone.pull(FRAME)
                if self.phone.samples is not None:
                    self.heard.append(pcm)
            self.clock.advance(STEP)
            if self.exchange is not None:
                self.exchange.turn()

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.seen if isinstance(each, kind)]

    @property
    def steps(self) -> list[Progress]:
        return [shown.progress for shown in self.of(Shown)]

    @property
    def causes(self) -> list[Cause]:
        return [over.ended.cause for over in self.of(Over)]

    def half_open(self) -> int:
        left = 0 if self.exchange is None or self.exchange.dead else self.exchange.half_open()
        return left + (self.phone.call is not None)


class PhoneTests(SynchronousTestCase):
    def test_believes_gateways_that_it_may(self) -> None:
        """A satellite that is none of its gateways answers in vain, and what it says is counted."""
        world = World()
        seen: list[Any] = []
        asked: list[str] = []
        phone = world.make("bob", seen.append, gateways=lambda who: bool(asked.append(who.name)))
        phone.start()
        world.run(1.0)
        self.assertEqual((phone.gateway, [each for each in seen if isinstance(each, Reachable)]), ("", []))
        self.assertEqual(set(asked), {"gateway"})
        self.assertTrue(world.phone.gateway)
        phone.stop()

    def test_finds_its_gateway(self) -> None:
        """As soon as the ways are open the gateway is asked for, and answers."""
        world = World()
        self.assertEqual([type(each) for each in world.seen], [Path, Reachable])
        self.assertIn("gateway", world.phone.gateway)

    def test_echo(self) -> None:
        """Rings, is answered, what is said comes back half a second later at the latest, and the end has its cause."""
        world = World()
        world.voice = sine(440.0, SAMPLE_RATE, level_dbov=-20.0)
        world.phone.dial("100")
        self.assertFalse(world.phone.talking)
        world.run(1.5)
        self.assertEqual(world.steps, [Progress.RINGING, Progress.ANSWERED])
        self.assertTrue(world.phone.talking)
        said, heard = world.phone.levels_dbov
        self.assertApproximates(said, -20.0, 1.5)
        self.assertApproximates(heard, -20.0, 2.5)
        self.assertTrue(world.phone.hang_up())
        world.run(0.5)
        self.assertEqual(world.causes, [Cause.HUNG_UP])
        self.assertEqual(world.half_open(), 0)
        sound = np.concatenate(world.heard)
        self.assertGreater(level_dbov(sound[SAMPLE_RATE // 2 : SAMPLE_RATE]), -24.0)
        statistics = world.phone.statistics
        assert statistics is not None
        self.assertEqual((statistics.unsent, statistics.heard.counters.lost, statistics.cut_s), (0, 0, 0.0))
        self.assertGreater(statistics.sent, 45)

    def test_who_says_nothing_is_silent(self) -> None:
        """Without a microphone silence is said, fifty packets a second, so that nobody takes the person for dead."""
        world = World()
        world.phone.dial("100")
        world.run(2.4)
        statistics = world.phone.statistics
        assert statistics is not None
        self.assertGreater(statistics.sent, 90)
        self.assertGreater(statistics.filled_s, 1.8)

    def test_sound_that_comes_too_fast(self) -> None:
        """A device that gives a second at once is cut: nobody is heard late from then on."""
        world = World()
        world.phone.dial("100")
        world.run(1.0)
        for _ in range(50):
            world.phone.say(np.ones(FRAME, np.int16))
        world.run(0.1)
        statistics = world.phone.statistics
        assert statistics is not None
        self.assertGreater(statistics.cut_s, 0.7)

    def test_keys(self) -> None:
        """Keys go as telephone events, once and in order; those of the far side are seen."""
        world = World()
        world.phone.dial("100")
        world.run(1.0)
        self.assertTrue(world.phone.press("12#"))
        world.run(2.0)
        assert world.exchange is not None
        self.assertEqual("".join(world.exchange.keys), "12#")
        self.assertEqual("".join(each.digits for each in world.of(KeysHeard)), "12#")
        self.assertRaises(LocalError, world.phone.press, "5x")

    def test_keys_before_the_answer(self) -> None:
        """A menu that speaks before it answers takes keys by message; while it only rings, keys have no effect."""
        world = World()
        world.phone.dial("101")
        world.run(0.05)
        self.assertFalse(world.phone.press("1"))
        world.run(0.35)
        self.assertIn(Progress.EARLY, world.steps)
        self.assertTrue(world.phone.press("1"))

    def test_announcement(self) -> None:
        """What is said before the answer is heard, and the far side's hang-up ends the call."""
        world = World()
        world.phone.dial("101")
        world.run(5.0)
        self.assertEqual(world.steps, [Progress.RINGING, Progress.EARLY, Progress.ANSWERED])
        self.assertEqual(world.causes, [Cause.HUNG_UP])
        loudest = max(level_dbov(pcm) for pcm in world.heard)
        self.assertGreater(loudest, -25.0)
        self.assertEqual(world.half_open(), 0)

    def test_busy_unknown_and_nobody(self) -> None:
        """Each has its cause, and leaves nothing behind."""
        for number, cause, wait_s in (
            ("102", Cause.BUSY, 0.5),
            ("999", Cause.UNKNOWN_NUMBER, 0.5),
            ("103", Cause.NO_ANSWER, 4.0),
        ):
            world = World()
            world.phone.dial(number)
            world.run(wait_s)
            self.assertEqual(world.causes, [cause], number)
            self.assertEqual(world.half_open(), 0, number)

    def test_cancel(self) -> None:
        """Who gives up while it rings has cancelled."""
        world = World()
        world.phone.dial("103")
        world.run(1.0)
        self.assertTrue(world.phone.hang_up())
        world.run(0.5)
        self.assertEqual(world.causes, [Cause.CANCELLED])
        self.assertEqual(world.half_open(), 0)

    def test_called_back(self) -> None:
        """The number that calls back does: it rings here, is answered, and says back what it hears."""
        world = World()
        world.voice = sine(440.0, SAMPLE_RATE, level_dbov=-20.0)
        world.phone.dial("104")
        world.run(3.0)
        (incoming,) = world.of(Incoming)
        self.assertEqual((incoming.number, incoming.dialled), ("104", "ada"))
        self.assertEqual(world.phone.number, "104")
        world.heard.clear()
        self.assertTrue(world.phone.answer())
        world.run(1.5)
        self.assertApproximates(world.phone.levels_dbov[1], -20.0, 2.5)
        world.phone.hang_up()
        world.run(0.5)
        self.assertEqual(world.causes, [Cause.HUNG_UP] * 2)
        self.assertEqual(world.half_open(), 0)

    def test_reject(self) -> None:
        """Who does not want a call ends it, on both sides."""
        world = World()
        world.phone.dial("104")
        world.run(3.0)
        self.assertTrue(world.phone.reject())
        world.run(0.5)
        self.assertEqual(world.causes, [Cause.HUNG_UP, Cause.REJECTED])
        self.assertEqual(world.half_open(), 0)

    def test_hold(self) -> None:
        """On hold nothing is said or heard; afterwards it goes on. Keys have no effect meanwhile."""
        world = World()
        world.voice = sine(440.0, SAMPLE_RATE, level_dbov=-20.0)
        world.phone.dial("100")
        world.run(1.0)
        self.assertTrue(world.phone.hold())
        self.assertFalse(world.phone.hold())
        self.assertFalse(world.phone.press("1"))
        world.run(0.5)
        world.heard.clear()
        world.run(0.5)
        self.assertFalse(any(pcm.any() for pcm in world.heard))
        self.assertTrue(world.phone.resume())
        world.run(1.0)
        self.assertApproximates(world.phone.levels_dbov[1], -20.0, 2.5)

    def test_transfer(self) -> None:
        """A line that was handed on is gone here; one that could not be comes back with the reason."""
        world = World()
        world.phone.dial("100")
        world.run(1.0)
        self.assertTrue(world.phone.transfer("999"))
        world.run(0.5)
        self.assertEqual(
            (world.of(Shown)[-1].progress, world.of(Shown)[-1].cause),
            (Progress.TRANSFER_FAILED, Cause.UNKNOWN_NUMBER),
        )
        self.assertTrue(world.phone.talking)
        self.assertTrue(world.phone.transfer("101"))
        world.run(0.5)
        self.assertEqual(world.causes, [Cause.TRANSFERRED])
        self.assertEqual(world.half_open(), 0)

    def test_no_gateway(self) -> None:
        """Nobody can be called where nobody answers, and that is said."""
        world = World()
        other = Phone(
            world.clock, MemoryNetwork(world.clock), GROUP, credentials("bob"), trust, world.seen.append,
            wall=lambda: UNIX,
        )  # fmt: skip
        other.start()
        world.run(1.0)
        self.assertIn("no gateway answers", str(self.assertRaises(LocalError, other.dial, "100")))
        other.stop()

    def test_gateway_dies(self) -> None:
        """A gateway that is gone without a word is missed after 2 s and asked for; 10 s of silence end the call."""
        world = World()
        world.phone.dial("100")
        world.run(1.0)
        assert world.exchange is not None
        world.exchange.kill()
        world.run(SILENT_S + 1.0)
        self.assertEqual(world.causes, [])
        world.run(DOUBT_S - SILENT_S + 7.0)
        self.assertEqual(world.causes, [Cause.LINE_LOST])
        self.assertEqual(world.of(Reachable)[-1].up, False)
        self.assertEqual(world.half_open(), 0)

    def test_gateway_forgets(self) -> None:
        """A gateway that comes back without the call answers, and says nothing on its stream: the call ends for want of sound."""
        world = World()
        world.phone.dial("100")
        world.run(1.0)
        assert world.exchange is not None
        world.exchange.kill()
        world.exchange = Exchange(world.clock, world.network)
        world.run(DOUBT_S + 8.0)
        self.assertEqual(world.causes, [Cause.MEDIA_LOST])
        self.assertEqual(world.half_open(), 0)

    def test_gateway_goes_on(self) -> None:
        """A gateway that was restarted, and whose call manager still has the line, goes on with the call: on a new stream, whatever the person is doing."""
        for held in (False, True):
            world = World()
            world.phone.dial("100")
            world.run(1.0)
            if held:
                world.phone.hold()
                world.run(0.2)
            call = world.phone.call
            assert world.exchange is not None and call is not None
            world.exchange.kill()
            world.run(3.0)
            world.exchange = Exchange(world.clock, world.network)
            world.exchange.found(call.id, uuid5(SPACE, "ada"))
            world.run(DOUBT_S + 5.0)
            self.assertEqual(world.causes, [], held)
            self.assertIs(world.phone.talking, not held)
            if held:
                self.assertTrue(world.phone.resume())
                world.run(1.0)
            statistics = world.phone.statistics
            assert statistics is not None
            self.assertGreater(statistics.heard.counters.received, 40)
            world.phone.hang_up()
            world.run(0.5)
            self.assertEqual(world.causes, [Cause.HUNG_UP])

    def test_path_returns(self) -> None:
        """When the ways were cut and are open again the gateway is asked at once."""
        world = World()
        world.network.up = False
        world.run(0.1)
        self.assertFalse(world.of(Path)[-1].up)
        world.network.up = True
        world.run(0.1)
        self.assertTrue(world.of(Path)[-1].up)
        self.assertTrue(world.phone.up)

    def test_stop(self) -> None:
        """Who stops in a call hangs up first; afterwards no stream is joined and nothing is to be called."""
        world = World()
        world.phone.dial("100")
        world.run(1.0)
        stopped = world.phone.stop()
        self.assertNoResult(stopped)
        world.run(0.2)
        self.successResultOf(stopped)
        self.assertEqual(world.causes, [Cause.HUNG_UP])
        self.assertEqual(world.half_open(), 0)
        world.exchange = None
        world.run(0.2)
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_stop_alone(self) -> None:
        """Without a call it is left at once; when nobody confirms the end of one, after two seconds."""
        world = World()
        self.successResultOf(world.phone.stop())
        world = World()
        world.phone.dial("100")
        world.run(1.0)
        assert world.exchange is not None
        world.exchange.kill()
        stopped = world.phone.stop()
        world.run(1.5)
        self.assertNoResult(stopped)
        world.run(1.0)
        self.successResultOf(stopped)

    def test_lossy(self) -> None:
        """A fifth of all packets lost: the call comes about and ends all the same."""
        world = World(loss=0.2)
        world.run(3.0)
        world.phone.dial("100")
        world.run(4.0)
        self.assertIn(Progress.ANSWERED, world.steps)
        world.phone.hang_up()
        world.run(6.0)
        self.assertEqual(world.causes, [Cause.HUNG_UP])
        self.assertEqual(world.half_open(), 0)

    def test_strangers_are_not_heard(self) -> None:
        """What anybody says on our stream without the flag of data, or without a signature, changes nothing."""
        world = World()
        stranger = world.network.join(messages.user_stream(GROUP, uuid5(SPACE, "ada")), Collector())
        world.run(0.05)
        before = list(world.seen)
        stranger.send(b"ICM1 nonsense", 0)
        stranger.send(b"ICM1 nonsense", 8)
        world.run(0.1)
        self.assertEqual(world.seen, before)

    def test_sound_is_sealed(self) -> None:
        """Who listens on a call's stream without its key hears noise."""
        world = World()
        world.phone.dial("100")
        heard = Collector()
        call = world.phone.call
        assert call is not None
        world.network.join(messages.sound_stream(call.id), heard)
        world.run(1.0)
        self.assertGreater(len(heard.datagrams), 40)
        from ice.media.rtp import MalformedRtp, Packet

        readable = 0
        for datagram in heard.datagrams:
            try:
                readable += Packet.decode(datagram.payload).payload_type in (0, 8, 111)
            except MalformedRtp:
                continue
        self.assertLess(readable, 5)

    def test_answered_at_once(self) -> None:
        """Who answers from within being told that it rings is heard, silent as he is, from then on."""
        world = World()

        def answer(seen: Any) -> None:
            world.seen.append(seen)
            if isinstance(seen, Incoming):
                world.phone.answer()

        world.on = answer
        world.phone.dial("104")
        world.run(4.0)
        statistics = world.phone.statistics
        assert statistics is not None
        self.assertGreater(statistics.sent, 40)
        self.assertEqual(world.phone.talking, True)

    def test_two_programs(self) -> None:
        """Two telephones of one person both ring; the one that is not taken stops, and neither spoils the other's call."""
        world = World()
        other_seen: list[Any] = []
        other = world.make("ada", other_seen.append)
        other.start()
        world.run(20.0)  # after what a program that was just started lets pass
        world.phone.dial("104")
        world.run(3.0)
        self.assertIsNotNone(world.phone.call)
        self.assertEqual(len([each for each in other_seen if isinstance(each, Incoming)]), 1)
        self.assertTrue(world.phone.answer())
        world.run(1.0)
        overs = [each.ended.cause for each in other_seen if isinstance(each, Over)]
        self.assertEqual((overs, other.call), ([Cause.ANSWERED_ELSEWHERE], None))
        self.assertTrue(world.phone.talking)
        assert world.exchange is not None
        self.assertTrue(world.phone.press("1"))
        world.run(10.0)
        self.assertTrue(world.phone.talking)
        world.phone.hang_up()
        world.run(0.5)
        self.assertEqual(world.half_open(), 0)

    def test_takes_no_calls(self) -> None:
        """A telephone that is there to call does not ring, and leaves the call to the person's others."""
        world = World()
        seen: list[Any] = []
        other = world.make("ada", seen.append, takes_calls=False)
        other.start()
        world.phone.dial("104")
        world.run(3.0)
        self.assertEqual([each for each in seen if isinstance(each, Incoming)], [])
        self.assertTrue(world.phone.answer())
        world.run(0.5)
        self.assertTrue(world.phone.talking)
        self.assertIsNone(other.call)
