"""Streams, members, recipients and windows."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.fan import PythonFan
from ice.rallypoint import registry as module
from ice.rallypoint.registry import ANY, KeyCollision, Registry, Subscriber


class Listener:
    """A recipient that keeps what it gets."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send_media(self, frame: bytes) -> None:
        self.frames.append(frame)


def subscriber(
    registry: Registry, who: str = "alice", *, satellite: bool = False, prefix: int = 7
) -> Subscriber:
    """Somebody with no rate limit worth the name."""
    made = registry.subscribe(Listener(), identity=who, prefix=prefix, satellite=satellite)
    made.allow(10**6, 10**9, 4_123, 0.0)
    return made


class StreamsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.registry = Registry()
        self.alice = subscriber(self.registry)
        self.bob = subscriber(self.registry, "bob")

    def test_recipients_are_those_who_listen(self) -> None:
        """Who only talks is no recipient; the tuple follows each change."""
        self.registry.join(self.alice, "a", 1, listen=True)
        self.registry.join(self.bob, "a", 1, listen=False)
        stream = self.registry.streams[1]
        self.assertEqual(stream.recipients, (self.alice.recipient,))
        self.registry.join(self.bob, "a", 1, listen=True, talk=False)
        self.assertEqual(stream.recipients, (self.alice.recipient, self.bob.recipient))
        self.assertEqual((stream.listeners, stream.talkers), (2, 1))
        self.registry.leave(self.alice, 1)
        self.assertEqual(stream.recipients, (self.bob.recipient,))

    def test_the_fan_lives_as_long_as_nothing_changes(self) -> None:
        """A JOIN that asks for what is there already leaves the fan as it is; who comes, goes or goes deaf makes it void."""
        self.registry.join(self.alice, "a", 1)
        stream = self.registry.streams[1]
        fan = stream.fan = PythonFan(stream.recipients, lambda *_: None)
        self.registry.join(self.alice, "a", 1, talk=False)
        self.registry.join(self.bob, "a", 1, listen=False)
        self.assertIs(stream.fan, fan)
        for change in (
            lambda: self.registry.join(self.bob, "a", 1),
            lambda: self.registry.join(self.bob, "a", 1, listen=False),
            lambda: self.registry.leave(self.alice, 1),
        ):
            stream.fan = fan
            change()
            self.assertIsNone(stream.fan)

    def test_the_last_to_leave_takes_the_stream_along(self) -> None:
        """A stream without members, and its windows, are forgotten."""
        self.registry.join(self.alice, "a", 1)
        self.registry.window(self.registry.streams[1], 5, self.alice.account)
        self.assertTrue(self.registry.leave(self.alice, 1))
        self.assertFalse(self.registry.leave(self.alice, 1))
        self.assertEqual((self.registry.streams, self.registry.windows, self.alice.talks), ({}, 0, {}))

    def test_colliding_keys_are_refused(self) -> None:
        """Two ids with one key: the second is told, the first lives on."""
        self.registry.join(self.alice, "a", 1)
        with self.assertRaises(KeyCollision):
            self.registry.join(self.bob, "b", 1)
        self.assertEqual(self.bob.memberships, {})
        self.registry.leave(self.alice, 1)
        self.registry.join(self.bob, "b", 1)

    def test_joining_again_keeps_the_source_unless_another_is_declared(self) -> None:
        """None keeps what was said before."""
        self.registry.join(self.alice, "a", 1, source=9)
        self.assertEqual(self.registry.join(self.alice, "a", 1).source, 9)
        self.assertEqual(self.registry.join(self.alice, "a", 1, source=ANY).source, ANY)

    def test_who_is_gone_is_on_no_stream(self) -> None:
        """Unsubscribing twice is harmless, also while another link of the identity is there."""
        other = subscriber(self.registry)
        self.registry.join(self.alice, "a", 1)
        self.registry.join(other, "a", 1)
        self.registry.unsubscribe(self.alice)
        self.registry.unsubscribe(self.alice)
        self.assertEqual(list(self.registry.streams[1].members), [other])
        self.assertEqual(other.account.links, 1)
        self.registry.unsubscribe(other)
        self.registry.unsubscribe(self.bob)
        self.assertEqual(self.registry._accounts, {})

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("jlJtu")), max_size=40))
    @settings(max_examples=100, deadline=None)
    def test_whatever_order_people_come_and_go_in(self, moves: list[tuple[int, int, str]]) -> None:
        """Recipients, talks and members always say the same."""
        registry = Registry()
        people = [subscriber(registry, f"p{n % 2}") for n in range(4)]
        for who, key, what in moves:
            person = people[who]
            if what == "u":
                registry.unsubscribe(person)
            elif person.gone:
                continue
            elif what == "l":
                registry.leave(person, key)
            else:
                registry.join(person, str(key), key, listen=what != "t", talk=what != "J")
                registry.window(registry.streams[key], who, person.account) if who not in registry.streams[
                    key
                ].windows else None
            for stream in registry.streams.values():
                listeners = [m.subscriber.recipient for m in stream.members.values() if m.listen]
                self.assertEqual(list(stream.recipients), listeners)
                self.assertTrue(stream.members)
                for member, membership in stream.members.items():
                    self.assertIs(member.memberships[stream.key], membership)
                    self.assertEqual(stream.key in member.talks, membership.talk)
            self.assertEqual(registry.windows, sum(len(s.windows) for s in registry.streams.values()))


class WindowsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.registry = Registry()
        self.alice = subscriber(self.registry)
        self.bob = subscriber(self.registry, "bob")
        self.registry.join(self.alice, "a", 1)
        self.registry.join(self.bob, "a", 1)
        self.stream = self.registry.streams[1]

    def test_an_account_gives_up_its_own_oldest_window(self) -> None:
        """Many sources of one identity cost nobody else's windows."""
        self.patch(module, "MAX_WINDOWS", 3)
        registry = Registry()
        alice, bob = subscriber(registry), subscriber(registry, "bob")
        registry.join(alice, "a", 1)
        registry.join(bob, "a", 1)
        stream = registry.streams[1]
        registry.window(stream, 100, bob.account)
        for source in range(5):
            registry.window(stream, source, alice.account)
        self.assertEqual(list(stream.windows), [100, 2, 3, 4])
        self.assertEqual((registry.windows, registry.windows_evicted), (4, 2))

    def test_a_satellite_may_carry_many(self) -> None:
        """Its bound is that of satellites."""
        patch = subscriber(self.registry, "patch", satellite=True)
        self.assertEqual(patch.account.bound, module.MAX_SATELLITE_WINDOWS)

    def test_idle_windows_are_forgotten_after_an_hour_a_few_at_a_time(self) -> None:
        """Each sweep looks at no more than it is told to; those in use stay."""
        for source in range(10):
            self.registry.window(self.stream, source, self.alice.account).ask(0, 0.0)
        self.stream.windows[3].ask(1, 3_000.0)
        now = 3_700.0
        for swept in range(0, 10, 4):
            self.registry.sweep(now, at_once=4)
            self.assertGreaterEqual(self.registry.windows, 10 - swept - 4)
        self.assertEqual(list(self.stream.windows), [3])
        self.assertEqual(self.registry.windows_expired, 9)

    def test_a_sweep_begins_once_a_minute(self) -> None:
        """Between two rounds nothing is looked at."""
        self.registry.sweep(5_000.0)
        self.registry.window(self.stream, 1, self.alice.account).ask(0, 0.0)
        self.registry.sweep(5_001.0)
        self.assertEqual(self.registry.windows, 1)
        self.registry.sweep(5_061.0)
        self.registry.sweep(5_061.0)
        self.assertEqual(self.registry.windows, 0)

    def test_streams_may_vanish_during_a_sweep(self) -> None:
        """Nothing is looked at twice or missed badly."""
        for source in range(4):
            self.registry.window(self.stream, source, self.alice.account).ask(0, 0.0)
        self.registry.sweep(4_000.0, at_once=1)
        self.registry.unsubscribe(self.alice)
        self.registry.unsubscribe(self.bob)
        self.registry.sweep(4_000.0)
        self.assertEqual(self.registry.windows, 0)


class RateTests(SynchronousTestCase):
    @given(st.integers(1, 5_000), st.lists(st.floats(0.0, 0.5), min_size=1, max_size=40))
    @settings(max_examples=100, deadline=None)
    def test_what_is_refilled_is_the_rate(self, rate: int, waits: list[float]) -> None:
        """Never more than time has earned, at most one packet less, however the pulses fall."""
        alice = subscriber(Registry())
        alice.allow(rate, rate * 100, 100, 0.0)
        now, sent = 0.0, 0
        for wait in waits:
            sent += alice.packets_left
            alice.packets_left = 0
            alice.bytes_left = 0
            now += min(wait, 0.9)
            alice.refill(now)
        total = sent + alice.packets_left
        self.assertLessEqual(total, rate + rate * now + 1e-6)
        self.assertGreaterEqual(total, rate + rate * now - 2 - 1e-3 * rate)

    def test_a_link_that_is_over_its_bytes_pays_back(self) -> None:
        """One frame may overdraw; the debt is paid before the next."""
        alice = subscriber(Registry())
        alice.allow(100, 1_000, 100, 0.0)
        alice.bytes_left = -500
        alice.refill(0.4)
        self.assertEqual(alice.bytes_left, -100)
        self.assertTrue(alice.spent)
        alice.refill(10.0)
        self.assertEqual((alice.bytes_left, alice.packets_left, alice.spent), (1_000, 100, False))

    def test_one_frame_always_fits(self) -> None:
        """A rate below the largest frame still lets one through."""
        alice = subscriber(Registry())
        alice.allow(1, 1_000, 4_123, 0.0)
        self.assertEqual(alice.bytes_left, 4_123)
