"""Newcomers: who comes in, who waits, who is refused, and that nobody is counted for ever."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.message import Code
from ice.rallypoint.admission import (
    BURST,
    BUSY_PACE_PER_S,
    PACE_PER_S,
    Admission,
    AdmissionLimits,
    Load,
    Phase,
    Refused,
    Ticket,
    networks,
)

HOST = "192.0.2.1"


def admitted(admission: Admission, host: str = HOST, now: float = 0.0) -> Ticket:
    """Somebody who may begin or wait."""
    ticket = admission.arrive(host, now)
    assert isinstance(ticket, Ticket), ticket
    return ticket


class LimitsTests(SynchronousTestCase):
    def refused(self, admission: Admission, host: str = HOST, now: float = 0.0) -> str:
        """The reason why somebody is refused at the door."""
        answer = admission.arrive(host, now)
        assert isinstance(answer, Refused), answer
        self.assertEqual(admission.refused[answer.reason], 1)
        self.assertTrue(answer.sentence)
        return answer.reason

    def test_handshakes_of_one_address_are_bounded(self) -> None:
        """Others come in all the same; who has greeted, or is gone, makes room."""
        admission = Admission(AdmissionLimits(handshakes_per_address=2))
        first, second = admitted(admission), admitted(admission)
        self.assertEqual(self.refused(admission), "handshakes-per-address")
        admitted(admission, "192.0.2.2")
        self.assertIsNone(admission.identify(first, "a"))
        admission.greeted(first)
        admission.greeted(first)
        third = admitted(admission)
        admission.gone(second)
        admission.gone(third)
        self.assertEqual((admission.shaking, admission.linked), (1, 1))

    def test_an_ipv6_network_is_one_address(self) -> None:
        """One machine has all of a /64; a mapped IPv4 address is that IPv4 address."""
        admission = Admission(AdmissionLimits(handshakes_per_address=1))
        admitted(admission, "2001:db8::1")
        self.assertEqual(self.refused(admission, "2001:db8::2"), "handshakes-per-address")
        admitted(admission, "2001:db8:0:1::1")
        admitted(admission, "fe80::1%eth0")
        admitted(admission, HOST)
        answer = admission.arrive(f"::ffff:{HOST}", 0.0)
        self.assertIsInstance(answer, Refused)

    def test_links_are_bounded_before_and_after_tls(self) -> None:
        """In total, per address and per identity; all with code limit."""
        for limits, reason in [
            (AdmissionLimits(links=2), "links"),
            (AdmissionLimits(links_per_address=2), "links-per-address"),
        ]:
            admission = Admission(limits)
            tickets = [admitted(admission) for _ in range(3)]
            for number in (0, 1):
                self.assertIsNone(admission.identify(tickets[number], number))
            refused = admission.identify(tickets[2], 2)
            assert refused is not None
            self.assertEqual((refused.code, refused.reason), (Code.LIMIT, reason))
            admission.refused.clear()
            self.assertEqual(self.refused(admission), reason)
            admission.gone(tickets[0])
            self.assertIsNone(admission.identify(tickets[2], 2))

    def test_links_of_one_identity_are_bounded(self) -> None:
        """One that has ended makes room at once, though its connection may linger."""
        admission = Admission(AdmissionLimits(links_per_identity=2))
        tickets = [admitted(admission) for _ in range(3)]
        for ticket in tickets[:2]:
            self.assertIsNone(admission.identify(ticket, "alice"))
        refused = admission.identify(tickets[2], "alice")
        assert refused is not None
        self.assertEqual(refused.reason, "links-per-identity")
        admission.ended(tickets[0])
        self.assertIsNone(admission.identify(tickets[2], "alice"))
        self.assertEqual(admission.linked, 3)

    def test_who_comes_while_we_stop_is_refused(self) -> None:
        """At the door, and after a handshake that was under way."""
        admission = Admission()
        ticket = admitted(admission)
        admission.draining = True
        refused = admission.identify(ticket, "a")
        assert refused is not None
        self.assertEqual(refused.code, Code.DRAINING)
        self.assertIsInstance(admission.arrive(HOST, 0.0), Refused)

    def test_unwelcome_networks(self) -> None:
        """Named by the configuration, in any notation of the same address."""
        admission = Admission(AdmissionLimits(denied_networks=networks(["192.0.2.0/24", "2001:db8::1"])))
        for host in (HOST, f"::ffff:{HOST}", "2001:db8::1"):
            answer = admission.arrive(host, 0.0)
            assert isinstance(answer, Refused)
            self.assertEqual(answer.code, Code.DENIED_ADDRESS)
            self.assertTrue(admission.denies(host))
        self.assertFalse(admission.denies("198.51.100.1"))
        self.assertFalse(admission.denies("not an address"))


class PaceTests(SynchronousTestCase):
    def test_a_crowd_is_let_in_at_a_pace(self) -> None:
        """1,000 at once: a burst begins, the others wait in order, none is refused, all are in within seconds."""
        admission = Admission(AdmissionLimits(handshakes=10_000, handshakes_per_address=10_000))
        tickets = [admitted(admission) for _ in range(1_000)]
        self.assertEqual(sum(t.phase is Phase.SHAKING for t in tickets), BURST)
        self.assertEqual((admission.waiting, admission.delayed), (1_000 - BURST, 1_000 - BURST))
        now, order = 0.0, []
        while admission.waiting:
            now += 0.02
            begin, late = admission.turns(now)
            self.assertLessEqual(len(begin), BURST)
            self.assertEqual(late, [])
            order += begin
        self.assertEqual(order, tickets[BURST:])
        self.assertApproximates(now, (1_000 - BURST) / PACE_PER_S, 0.2)
        self.assertEqual(admission.accepted, 1_000)

    def test_a_busy_cpu_delays_newcomers(self) -> None:
        """Slower, not refused."""
        admission = Admission(
            AdmissionLimits(cpu_delay_percent=75, handshake_s=100.0, handshakes_per_address=400)
        )
        admission.cpu_percent = 80.0
        for _ in range(400):
            admitted(admission)
        now, begun = 0.0, 0
        for _ in range(50):
            now += 0.02
            begun += len(admission.turns(now)[0])
        self.assertApproximates(begun, BUSY_PACE_PER_S, 10)
        self.assertEqual(admission.refused, {})

    def test_who_comes_later_does_not_overtake(self) -> None:
        """While somebody waits, everybody new waits."""
        admission = Admission()
        for _ in range(BURST):
            admitted(admission)
        waiting = admitted(admission)
        later = admitted(admission, "192.0.2.9", 0.05)
        self.assertEqual((waiting.phase, later.phase), (Phase.WAITING, Phase.WAITING))

    def test_too_many_handshakes_in_all_wait(self) -> None:
        """Until others are done."""
        admission = Admission(AdmissionLimits(handshakes=2))
        first, _, third = (admitted(admission) for _ in range(3))
        self.assertEqual(admission.turns(1.0), ([], []))
        admission.identify(first, "a")
        admission.greeted(first)
        self.assertEqual(admission.turns(1.1), ([third], []))

    def test_a_full_waiting_room_refuses(self) -> None:
        """And so does a CPU that is flat out although all newcomers wait."""
        admission = Admission(AdmissionLimits(handshakes=1, newcomers_waiting=1))
        admitted(admission)
        admitted(admission)
        answer = admission.arrive(HOST, 0.0)
        assert isinstance(answer, Refused)
        self.assertEqual(answer.reason, "waiting")
        admission = Admission(AdmissionLimits(cpu_refuse_percent=98))
        admission.cpu_percent = 99.0
        answer = admission.arrive(HOST, 0.0)
        assert isinstance(answer, Refused)
        self.assertEqual((answer.reason, "99 percent" in answer.sentence), ("cpu", True))

    def test_who_waits_too_long_is_let_go(self) -> None:
        """It has gone elsewhere; its place is free, and saying gone afterwards is harmless."""
        admission = Admission(AdmissionLimits(handshakes=1, handshake_s=10.0))
        admitted(admission)
        waiting = admitted(admission)
        self.assertEqual(admission.turns(10.1), ([], [waiting]))
        admission.gone(waiting)
        self.assertEqual((admission.waiting, admission.refused), (0, {"waited": 1}))

    def test_who_goes_while_it_waits_is_no_longer_waiting(self) -> None:
        """And is never begun."""
        admission = Admission(AdmissionLimits(handshakes=1))
        first, second, third = (admitted(admission) for _ in range(3))
        admission.gone(second)
        self.assertEqual(admission.waiting, 1)
        admission.gone(first)
        self.assertEqual(admission.turns(1.0), ([third], []))

    @given(st.lists(st.tuples(st.sampled_from("aigept"), st.integers(0, 9)), max_size=80))
    @settings(max_examples=150, deadline=None)
    def test_nobody_is_counted_for_ever(self, moves: list[tuple[str, int]]) -> None:
        """Whatever happens in whatever order, when all are gone every count is nought."""
        admission = Admission(
            AdmissionLimits(handshakes=3, links=6, links_per_identity=2, newcomers_waiting=4)
        )
        tickets: list[Ticket] = []
        now = 0.0
        for what, which in moves:
            now += 0.3
            if what == "a":
                answer = admission.arrive(f"192.0.2.{which % 3}", now)
                tickets += [answer] if isinstance(answer, Ticket) else []
            elif what == "t":
                admission.turns(now)
            elif tickets:
                ticket = tickets[which % len(tickets)]
                if what == "i" and ticket.phase is Phase.SHAKING and not ticket.placed:
                    admission.identify(ticket, which % 3)
                elif what == "g" and ticket.placed:
                    admission.greeted(ticket)
                elif what == "e":
                    admission.ended(ticket)
                elif what == "p":
                    admission.gone(ticket)
            self.assertLessEqual(admission.shaking, 3)
            self.assertLessEqual(admission.linked, 6)
            self.assertLessEqual(admission.waiting, 4)
        for ticket in tickets:
            admission.gone(ticket)
        admission.turns(now)
        self.assertEqual((admission.shaking, admission.linked, admission.waiting), (0, 0, 0))
        self.assertEqual(
            (admission._shaking_from, admission._linked_from, admission._identities), ({}, {}, {})
        )


class LoadTests(SynchronousTestCase):
    def test_it_follows_the_cpu_clock(self) -> None:
        """Flat out for eight seconds is 98 percent; a moment's work is not."""
        load = Load()
        self.assertEqual(load.measure(5.0, 100.0), 0.0)
        self.assertLess(load.measure(5.1, 100.1), 6.0)
        for n in range(1, 81):
            load.measure(5.1 + n / 10, 100.1 + n / 10)
        self.assertApproximates(load.percent, 98, 0.6)
        self.assertEqual(load.measure(20.0, 108.1), load.percent)  # no time passed: nothing learnt
