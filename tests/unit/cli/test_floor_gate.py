"""Who may talk, as one person meets it: refused, stopped, warned, and nothing left behind."""

from typing import Any

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.floor_gate import Gate
from ice.cli.loop import Stop
from ice.cli.mouth import ASK_AGAIN_S, Mouth, file_pieces, frame_samples_of, sender_of
from ice.config.schema import MediaSettings
from ice.link.frame import Flag
from ice.media.floor import Rules
from ice.streams.interface import Datagram
from ice.streams.memory import Collector, MemoryNetwork

from .told import Told

MEDIA = MediaSettings(codec="pcmu")
SOUND = np.full(48_000, 1_000, np.int16)  # a second


class Receiver:
    """A receiver that tells the gate."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def datagram(self, datagram: Datagram) -> None:
        self.gate.datagram(datagram)

    def path(self, up: bool, why: str) -> None:
        """In memory it is open."""


class Person:
    """Somebody who talks on the stream and minds its floor."""

    def __init__(self, case: "GateTests", alias: str, rules: Rules, **rank: Any) -> None:
        self.told = Told()
        self.gate = Gate(case.clock, rules, self.told, **rank)
        stream = case.network.join("town", Receiver(self.gate))
        sender = sender_of(MEDIA, alias=alias, **rank)
        self.mouth = Mouth(case.clock, stream, sender, frame_samples_of(MEDIA), gate=self.gate)
        case.addCleanup(self.gate.close)


class GateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.stop = Clock(), Stop()
        self.network = MemoryNetwork(self.clock, delay_s=0.005)
        self.heard = Collector()
        self.network.join("town", self.heard, talk=False)
        self.addCleanup(self.finish)

    def finish(self) -> None:
        self.stop.ask()
        self.run_for(0.3)

    def person(self, alias: str, rules: Rules | None = None, **rank: Any) -> Person:
        person = Person(self, alias, rules if rules is not None else Rules(), **rank)
        self.clock.advance(0)
        return person

    def run_for(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.clock.advance(0.005)

    def say(self, person: Person, seconds: int = 1) -> "Deferred[None]":
        pieces = file_pieces(SOUND, person.mouth.frame_samples, seconds)
        return Deferred.fromCoroutine(person.mouth.say(pieces, self.stop))

    def test_free(self) -> None:
        """Where nobody talks, a press is granted, and nothing is told."""
        anna = self.person("Anna")
        self.assertIsNone(anna.mouth.press())
        self.assertTrue(anna.mouth.pressed)
        self.assertEqual(anna.told.events, [])

    def test_refused(self) -> None:
        """While an equal talks a press is refused, with who it is and how long he would hold the floor; nothing is sent."""
        anna, bob = self.person("Anna"), self.person("Bob")
        self.say(anna)
        self.run_for(0.5)
        refused = bob.mouth.press()
        assert refused is not None
        self.assertFalse(bob.mouth.pressed)
        (sentence,) = bob.told.sentences("refused")
        self.assertTrue(sentence.startswith("not now: Anna talks; the floor is free "), sentence)
        (fields,) = bob.told.named("refused")
        self.assertEqual((fields["reason"], fields["by"], fields["emergency"]), ("busy", "Anna", False))
        self.assertApproximates(fields["remaining_s"], 2.0, 0.1)  # she marks her ends
        self.assertEqual(bob.mouth.said.sent, 0)

    def test_refused_again(self) -> None:
        """A person who presses again is told again; a program that waits is told once, and again only of somebody else."""
        anna, bob = self.person("Anna"), self.person("Bob")
        self.say(anna, 3)
        self.run_for(0.5)
        for _ in range(2):
            bob.gate.press(1)
        self.assertEqual((len(bob.told.named("refused")), bob.gate.refused), (2, 2))
        for _ in range(5):
            bob.gate.press(1, waiting=True)
            self.run_for(0.1)
        self.assertEqual(len(bob.told.named("refused")), 2)
        chief = self.person("Chief", priority=9)
        self.say(chief)
        self.run_for(0.5)
        bob.gate.press(1, waiting=True)
        self.assertIn("Chief talks with priority 9, which is above ours", bob.told.sentences("refused")[-1])

    def test_waiting(self) -> None:
        """What is said from a file waits for the floor, and is said whole when it is free."""
        anna, bob = self.person("Anna"), self.person("Bob")
        self.say(anna)
        self.run_for(0.5)
        saying = self.say(bob)
        self.run_for(0.5)
        self.assertEqual(bob.mouth.said.sent, 0)
        self.run_for(0.3 + 2 * ASK_AGAIN_S + 1.2)
        self.successResultOf(saying)
        self.assertGreaterEqual(bob.mouth.said.sent, 50)
        self.assertEqual(len(bob.told.named("refused")), 1)
        self.assertEqual(anna.told.events, [], "nobody has talked over her")

    def test_waiting_is_broken_off(self) -> None:
        """Ctrl-C ends the wait, and nothing was said."""
        anna, bob = self.person("Anna"), self.person("Bob")
        self.say(anna, 5)
        self.run_for(0.5)
        waiting = Deferred.fromCoroutine(bob.mouth.wait(self.stop))
        self.run_for(0.5)
        self.assertNoResult(waiting)
        self.stop.ask()
        self.run_for(0.2)
        self.assertFalse(self.successResultOf(waiting))
        self.assertEqual((bob.mouth.said.sent, bob.mouth.pressed), (0, False))

    def test_usurped(self) -> None:
        """Who is talked over by a higher priority stops with the marks of an end, is told by whom, and the other goes on."""
        anna, chief = self.person("Anna"), self.person("Chief", priority=9)
        saying = self.say(anna, 5)
        self.run_for(1.0)
        self.say(chief)
        self.run_for(0.2)
        self.successResultOf(saying)
        self.assertTrue(anna.mouth.interrupted)
        self.assertEqual((anna.gate.cut, anna.gate.time_up), (1, False))
        (sentence,) = anna.told.sentences("usurped")
        self.assertEqual(sentence, "stopped after 1.0 s: Chief talks with priority 9")
        self.assertTrue(any(each.flags & Flag.LAST for each in self.heard.datagrams))
        sent = anna.mouth.said.sent
        self.run_for(1.0)
        self.assertEqual(anna.mouth.said.sent, sent)
        self.assertEqual(chief.told.events, [])

    def test_usurped_by_an_emergency(self) -> None:
        """An emergency stands above any priority."""
        chief, anna = self.person("Chief", priority=255), self.person("Anna", emergency=True)
        self.say(chief, 5)
        self.run_for(1.0)
        self.say(anna)
        self.run_for(0.2)
        self.assertEqual(chief.told.sentences("usurped"), ["stopped after 1.0 s: Anna talks in an emergency"])

    def test_collision(self) -> None:
        """Of two who begin at the same moment exactly one goes on."""
        people = [self.person("Anna"), self.person("Bob")]
        for person in people:
            self.say(person, 2)
        self.run_for(0.5)
        going = [person.mouth.pressed for person in people]
        self.assertEqual(sorted(going), [False, True])
        loser = people[going.index(False)]
        self.assertIn("began at the same moment", loser.told.sentences("usurped")[0])

    def test_time_up(self) -> None:
        """A burst ends when it is as long as any may be, with a warning before; a new press is granted."""
        anna = self.person("Anna", Rules(max_tx_s=2.0, warning_s=0.5))
        saying = self.say(anna, 5)
        self.run_for(1.6)
        self.assertEqual(anna.told.sentences("time-warning"), ["0.5 s left to talk"])
        self.assertFalse(anna.mouth.interrupted)
        self.run_for(0.7)
        self.successResultOf(saying)
        self.assertTrue(anna.mouth.time_up)
        (sentence,) = anna.told.sentences("time-up")
        self.assertEqual(sentence, "stopped: 2 s is as long as anybody may talk here at a time")
        self.assertIsNone(anna.mouth.press())
        self.assertFalse(anna.mouth.interrupted or anna.mouth.time_up)

    def test_time_in_full_duplex(self) -> None:
        """Where all may talk at once nobody is refused or stopped by rank, and the time is limited all the same."""
        rules = Rules(full_duplex=True, max_tx_s=2.0)
        anna, chief = self.person("Anna", rules), self.person("Chief", rules, priority=9)
        self.say(chief, 5)
        self.run_for(0.5)
        self.say(anna, 5)
        self.run_for(1.0)
        self.assertTrue(anna.mouth.pressed and chief.mouth.pressed)
        self.run_for(1.2)
        self.assertEqual(len(anna.told.named("time-up")), 1)

    def test_nothing_left(self) -> None:
        """Deadlines move on with every packet and leave one call at most; none when all is over, and none after the end whatever is heard."""
        anna, bob = self.person("Anna"), self.person("Bob")
        self.say(anna)
        most = 0
        for _ in range(20):
            self.run_for(0.05)
            most = max(most, len(self.ticks()))
        self.assertEqual(most, 1, "she hears nobody, and he her")
        self.run_for(3.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.say(anna)
        self.run_for(0.2)
        for person in (anna, bob):
            person.gate.close()
            person.gate.close()
        self.run_for(0.2)
        self.assertEqual(self.ticks(), [])

    def test_one_call_for_many_packets(self) -> None:
        """A packet moves the deadline on; the call that waits is left alone and looks again when it is due."""
        anna, bob = self.person("Anna"), self.person("Bob")
        self.say(anna)
        self.run_for(0.5)
        (before,) = [call for call in self.clock.getDelayedCalls() if "Gate._tick" in repr(call)]
        self.run_for(0.2)
        self.assertIn(before, self.clock.getDelayedCalls())
        self.assertEqual(bob.told.events, [])

    def test_after_the_end(self) -> None:
        """Who has let go does not run out of time, and is not stopped by anybody."""
        anna, chief = self.person("Anna", Rules(max_tx_s=3.0)), self.person("Chief", priority=9)
        self.successResultOf(self.spoken(anna))
        self.say(chief)
        self.run_for(3.0)
        self.assertEqual((anna.told.events, anna.gate.cut), ([], 0))

    def test_release(self) -> None:
        """Letting go frees the floor at the other end at once."""
        anna, bob = self.person("Anna"), self.person("Bob")
        self.successResultOf(self.spoken(anna))
        self.run_for(0.1)
        self.assertIsNone(bob.mouth.press())

    def ticks(self) -> list[str]:
        """The calls of gates that are due some time."""
        return [repr(call) for call in self.clock.getDelayedCalls() if "Gate._tick" in repr(call)]

    def spoken(self, person: Person) -> "Deferred[None]":
        saying = self.say(person)
        self.run_for(1.2)
        return saying
