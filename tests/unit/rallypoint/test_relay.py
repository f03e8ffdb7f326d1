"""The hot path: the same bytes to everybody but the sender, and a reason for whatever is dropped."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import MEDIA_HEADER, media
from ice.link.message import Code
from ice.rallypoint.registry import ANY, Registry, Subscriber
from ice.rallypoint.relay import MAX_TOLD, Relay
from tests.unit.rallypoint.test_registry import Listener, subscriber

KEY = 0xAB
MINE = (7 << 32) | 1


class Case(SynchronousTestCase):
    """Alice, who talks as :data:`MINE`, and Bob and Carol on one stream."""

    def setUp(self) -> None:
        self.registry = Registry()
        self.relay = Relay(self.registry)
        self.alice, self.bob, self.carol = (subscriber(self.registry, name) for name in "abc")
        self.registry.join(self.alice, "room", KEY, source=MINE)
        self.registry.join(self.bob, "room", KEY)
        self.registry.join(self.carol, "room", KEY, talk=False)

    def heard(self, who: Subscriber) -> list[bytes]:
        """What somebody got."""
        assert isinstance(who.recipient, Listener)
        return who.recipient.frames


class WayTests(Case):
    def test_the_same_bytes_reach_all_but_the_sender(self) -> None:
        """Not a copy: the very object."""
        frame = media(3, KEY, MINE, 0, b"voice")
        self.assertIsNone(self.relay.media(self.alice, frame, 0.0))
        self.assertEqual((self.heard(self.alice), len(self.heard(self.bob))), ([], 1))
        self.assertIs(self.heard(self.bob)[0], frame)
        self.assertIs(self.heard(self.carol)[0], frame)
        self.assertEqual((self.relay.frames_received, self.relay.copies_delivered), (1, 2))
        self.assertEqual(self.relay.bytes_received, MEDIA_HEADER + 5)

    def test_who_only_talks_counts_every_listener(self) -> None:
        """A talker that does not listen is not subtracted."""
        self.registry.join(self.alice, "room", KEY, listen=False)
        self.relay.media(self.alice, media(0, KEY, MINE, 0, b""), 0.0)
        self.assertEqual(self.relay.copies_delivered, 2)

    def test_a_datagram_by_two_ways_is_heard_once(self) -> None:
        """Two links of one identity carry the same source; so does a patch that returns it."""
        second = subscriber(self.registry, "a")
        patch = subscriber(self.registry, "patch", satellite=True)
        self.registry.join(second, "room", KEY, source=MINE)
        self.registry.join(patch, "room", KEY, source=ANY)
        frame = media(0, KEY, MINE, 5, b"")
        for way in (self.alice, second, patch):
            self.assertIsNone(self.relay.media(way, frame, 0.0))
        self.assertEqual(len(self.heard(self.bob)), 1)
        self.assertEqual(self.relay.dropped()["duplicate"], 2)

    def test_a_recipient_that_raises_costs_nobody_else_a_packet(self) -> None:
        """It is remembered once, with what it raised; the count of copies stays true."""

        class Broken:
            def send_media(self, frame: bytes) -> None:
                raise OSError("gone")

        broken = self.registry.subscribe(Broken(), identity="x", prefix=1)
        self.registry.leave(self.bob, KEY)
        self.registry.join(broken, "room", KEY)
        self.registry.join(self.bob, "room", KEY)
        for sequence in range(3):
            self.relay.media(self.alice, media(0, KEY, MINE, sequence, b""), 0.0)
        self.assertEqual(len(self.heard(self.bob)), 3)
        self.assertEqual([str(e) for e in self.relay.broken.values()], ["gone"])
        self.assertEqual((self.relay.recipients_failed, self.relay.copies_delivered), (3, 6))

    def test_late_and_far_ahead_are_dropped(self) -> None:
        """As the window says."""
        for sequence in (5_000, 3_000, 20_000):
            self.relay.media(self.alice, media(0, KEY, MINE, sequence, b""), 0.0)
        self.assertEqual((self.relay.dropped_late, self.relay.dropped_jump), (1, 1))
        self.assertEqual(len(self.heard(self.bob)), 1)

    def test_the_echo_takes_the_frames_of_its_stream(self) -> None:
        """Nobody else hears them."""
        got: list[tuple[Subscriber, bytes, float]] = []
        self.registry.echo(9, lambda *heard: got.append(heard))
        self.registry.join(self.alice, "parrot", 9, source=MINE)
        self.registry.join(self.bob, "parrot", 9)
        frame = media(0, 9, MINE, 0, b"hello")
        self.relay.media(self.alice, frame, 4.0)
        self.assertEqual(got, [(self.alice, frame, 4.0)])
        self.assertEqual(self.heard(self.bob), [])

    @given(st.permutations(range(60)), st.sets(st.integers(0, 59)), st.lists(st.integers(0, 59), max_size=20))
    @settings(max_examples=60, deadline=None)
    def test_loss_and_reordering(self, order: list[int], lost: set[int], again: list[int]) -> None:
        """What arrives arrives once, in the order in which it came, whatever was lost, late or doubled."""
        self.setUp()
        came = [n for n in [*order, *again] if n not in lost]
        for sequence in came:
            self.relay.media(self.alice, media(0, KEY, MINE, sequence, bytes([sequence])), 0.0)
        expected = list(dict.fromkeys(came))
        self.assertEqual([frame[-1] for frame in self.heard(self.bob)], expected)


class SourceTests(Case):
    def test_another_source_than_declared_is_foreign(self) -> None:
        """Told once per stream, counted each time; the prefix does not help."""
        frame = media(0, KEY, MINE + 1, 0, b"")
        refusal = self.relay.media(self.alice, frame, 0.0)
        assert refusal is not None
        self.assertEqual(refusal.code, Code.FOREIGN_SOURCE)
        self.assertIn(f"{MINE + 1:016x}", refusal.message)
        self.assertIsNone(self.relay.media(self.alice, frame, 0.0))
        self.assertEqual((self.relay.dropped_foreign_source, self.alice.dropped), (2, 2))
        self.assertEqual(self.heard(self.bob), [])

    def test_the_first_frame_declares_where_join_did_not(self) -> None:
        """If it fits the certificate; from then on it is held to it."""
        self.assertIsNone(self.relay.media(self.bob, media(0, KEY, MINE + 5, 0, b""), 0.0))
        self.assertEqual(len(self.heard(self.alice)), 1)
        self.assertIsNotNone(self.relay.media(self.bob, media(0, KEY, MINE + 6, 1, b""), 0.0))

    def test_a_first_frame_that_does_not_fit_the_certificate_is_foreign(self) -> None:
        """And declares nothing."""
        refusal = self.relay.media(self.bob, media(0, KEY, 8 << 32, 0, b""), 0.0)
        assert refusal is not None
        self.assertEqual(refusal.code, Code.FOREIGN_SOURCE)
        self.assertIsNone(self.relay.media(self.bob, media(0, KEY, MINE, 0, b""), 0.0))

    def test_a_satellite_carries_any(self) -> None:
        """Each source has a window of its own."""
        patch = subscriber(self.registry, "patch", satellite=True)
        self.registry.join(patch, "room", KEY, source=ANY)
        for source in (1, 2, MINE):
            self.assertIsNone(self.relay.media(patch, media(0, KEY, source, 0, b""), 0.0))
        self.assertEqual(len(self.heard(self.bob)), 3)


class RefusalTests(Case):
    def test_not_joined_is_told_once_per_stream(self) -> None:
        """With the key, which is all that is known; joining makes it news again."""
        refusal = self.relay.media(self.alice, media(0, 0x77, MINE, 0, b""), 0.0)
        assert refusal is not None
        self.assertEqual(refusal.code, Code.NOT_JOINED)
        self.assertIn("0000000000000077", refusal.message)
        self.assertIsNone(self.relay.media(self.alice, media(0, 0x77, MINE, 1, b""), 0.0))
        self.registry.join(self.alice, "other", 0x77, talk=False)
        again = self.relay.media(self.alice, media(0, 0x77, MINE, 2, b""), 0.0)
        assert again is not None
        self.assertIn("'other' is joined to listen only", again.message)
        self.assertEqual(self.relay.dropped_not_joined, 3)

    def test_errors_that_are_provoked_are_bounded(self) -> None:
        """A link that tries a million keys is told of a few, and remembered in little memory."""
        answers = [
            self.relay.media(self.alice, media(0, key, MINE, 0, b""), 0.0) for key in range(1_000, 1_200)
        ]
        self.assertEqual(sum(answer is not None for answer in answers), MAX_TOLD)
        self.assertEqual((len(self.alice.told), self.relay.dropped_not_joined), (MAX_TOLD, 200))

    def test_packets_over_the_rate_are_dropped_and_told_once_a_second(self) -> None:
        """Others are not touched, and the rate comes back."""
        self.alice.allow(10, 10**6, 4_123, 0.0)
        answers = [self.relay.media(self.alice, media(0, KEY, MINE, n, b""), 0.0) for n in range(15)]
        self.assertEqual([n for n, answer in enumerate(answers) if answer is not None], [10])
        self.assertIn("10 packets/s", answers[10].message if answers[10] else "")
        self.assertEqual((self.relay.dropped_limit, len(self.heard(self.bob))), (5, 10))
        self.assertIsNone(
            self.relay.media(self.alice, media(0, KEY, MINE, 15, b""), 0.05), "told a moment ago"
        )
        answers = [self.relay.media(self.alice, media(0, KEY, MINE, n, b""), 1.05) for n in range(15, 27)]
        self.assertEqual([n for n, answer in enumerate(answers, 15) if answer is not None], [25])
        self.assertEqual(len(self.heard(self.bob)), 20)
        self.assertIsNone(self.relay.media(self.bob, media(0, KEY, MINE + 9, 0, b""), 0.0))

    def test_bytes_over_the_rate_are_dropped(self) -> None:
        """With the other limit in the sentence."""
        self.alice.allow(100, 1_000, 100, 0.0)
        answers = [self.relay.media(self.alice, media(0, KEY, MINE, n, b"x" * 500), 0.0) for n in range(3)]
        self.assertEqual([answer is None for answer in answers], [True, True, False])
        self.assertIn("1000 bytes/s", answers[2].message if answers[2] else "")
