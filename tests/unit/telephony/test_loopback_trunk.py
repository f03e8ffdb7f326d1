"""The built-in call manager under a clock: what it tells, when, and never from within a question."""

from __future__ import annotations

from itertools import pairwise
from uuid import UUID

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.telephony.call import Answers, HangsUp, Lost, Released, Rings, Side
from ice.telephony.causes import Cause
from ice.telephony.loopback_trunk import LEAST_WAIT_S, LoopbackTrunk
from ice.telephony.trunk import (
    Accept,
    Dial,
    HangUp,
    Happened,
    Health,
    Offered,
    Press,
    Report,
    Ring,
    Sound,
    Trunk,
)

CALL, OTHER = UUID(int=1), UUID(int=2)
LINE = Side.LINE
FRAME = bytes(320)


class Collecting:
    """Ears that keep what they are told, and when."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.reports: list[tuple[float, Report]] = []
        self.asking = False

    def told(self, trunk: Trunk, report: Report) -> None:
        assert not self.asking
        self.reports.append((round(self.clock.seconds(), 4), report))

    def of(self, kind: type) -> list[Report]:
        return [report for _, report in self.reports if isinstance(report, kind)]

    def events(self, call: UUID) -> list[object]:
        return [each.event for each in self.of(Happened) if isinstance(each, Happened) and each.call == call]


class Trunks(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ears = Collecting(self.clock)
        self.trunk = LoopbackTrunk("test", self.clock, self.ears, rate=8_000, ring_s=0.1)

    def start(self) -> None:
        self.trunk.start()
        self.wait(0)

    def ask(self, *requests: object) -> None:
        self.ears.asking = True
        for request in requests:
            self.trunk.ask(request)  # type: ignore[arg-type]
        self.ears.asking = False

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.0] + [0.001] * max(1, round(seconds * 1000)))

    def test_health(self) -> None:
        """It is down until it is started, and when it was stopped."""
        self.assertFalse(self.trunk.health.up)
        self.start()
        (health,) = self.ears.of(Health)
        self.assertTrue(health.up and self.trunk.health.up)  # type: ignore[union-attr]
        self.trunk.start()
        self.wait(0.01)
        self.assertEqual(len(self.ears.of(Health)), 1)
        self.successResultOf(self.trunk.stop())
        self.assertFalse(self.trunk.health.up)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_call(self) -> None:
        """A call rings at once, is answered when the engine says so, and echoes what is said."""
        self.start()
        self.ask(Dial(CALL, "100"))
        self.wait(0.05)
        self.assertEqual(self.ears.events(CALL), [Rings(LINE)])
        self.wait(0.1)
        self.assertEqual(self.ears.events(CALL), [Rings(LINE), Answers(LINE)])
        self.trunk.sound(CALL, FRAME)
        self.wait(0.03)
        (sound,) = self.ears.of(Sound)
        self.assertEqual(sound, Sound(CALL, 8_000, FRAME))
        self.ask(HangUp(CALL, Cause.HUNG_UP))
        self.wait(0)
        self.assertEqual(self.ears.events(CALL)[-1], Released(LINE))
        self.assertEqual(len(self.trunk.engine), 0)
        self.wait(0.1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unknown(self) -> None:
        """What is asked of a call that is not there is answered."""
        self.start()
        self.ask(Press(CALL, "1"), HangUp(OTHER, Cause.HUNG_UP))
        self.wait(0)
        self.assertEqual(self.ears.events(CALL), [Lost(LINE)])
        self.assertEqual(self.ears.events(OTHER), [Released(LINE)])

    def test_one_timer(self) -> None:
        """However many lines speak, the process is woken no more often than every few milliseconds."""
        self.start()
        ids = [UUID(int=n) for n in range(10, 40)]
        for id in ids:
            self.ask(Dial(id, "100"))
            self.wait(0.001)
        self.wait(0.2)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        del self.ears.reports[:]
        for _ in range(10):
            for id in ids:
                self.trunk.sound(id, FRAME)
            self.wait(0.02)
        times = sorted({at for at, _ in self.ears.reports})
        gaps = [b - a for a, b in pairwise(times)]
        self.assertGreaterEqual(min(gaps) + 1e-6, LEAST_WAIT_S)
        self.assertGreaterEqual(len(self.ears.of(Sound)), 9 * len(ids))

    def test_calls_back(self) -> None:
        """104 calls back; it waits from the ring on, and is answered."""
        self.start()
        self.ask(Dial(CALL, "104", "7"))
        self.wait(4.5)
        (offer,) = self.ears.of(Offered)
        assert isinstance(offer, Offered)
        self.assertEqual((offer.number, offer.dialled), ("104", "7"))
        self.ask(Ring(offer.call), Accept(offer.call))
        self.assertEqual(self.trunk.engine.ignored, {})
        self.ask(Ring(offer.call), Accept(offer.call))
        self.assertEqual(self.trunk.engine.ignored, {"ring": 1, "accept": 1})
        self.trunk.sound(offer.call, FRAME)
        self.wait(0.03)
        self.assertEqual(len([each for each in self.ears.of(Sound) if each.call == offer.call]), 1)  # type: ignore[union-attr]

    def test_patience(self) -> None:
        """Who calls back gives up after half a minute of ringing."""
        self.start()
        self.ask(Dial(CALL, "104", "7"))
        self.wait(4.5)
        (offer,) = self.ears.of(Offered)
        assert isinstance(offer, Offered)
        self.clock.advance(10)
        self.ask(Ring(offer.call))
        self.clock.advance(25)
        self.assertEqual(self.ears.events(offer.call), [])
        self.clock.advance(6)
        self.assertEqual(self.ears.events(offer.call), [HangsUp(LINE)])

    def test_stopped(self) -> None:
        """A stop forgets calls and promises; started again it begins anew."""
        self.start()
        self.ask(Dial(CALL, "100"))
        self.wait(0.15)
        self.trunk.stop()
        del self.ears.reports[:]
        self.wait(0.5)
        self.assertEqual(self.ears.reports, [])
        self.start()
        self.assertEqual(len(self.ears.of(Health)), 1)
        self.assertEqual(len(self.trunk.engine), 0)

    def test_rate(self) -> None:
        """Lines have the rates that lines have."""
        self.assertRaises(LocalError, LoopbackTrunk, "x", self.clock, self.ears, rate=44_100)
