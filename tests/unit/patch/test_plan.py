"""What a patch may be, and which may be active together: every refusal by its word and code."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.mission.reading import read_mission
from ice.patch.channel import Channel, Voice, channel_of, legs
from ice.patch.engine import engine_for
from ice.patch.keys import Lock, Locks
from ice.patch.plan import (
    Member,
    Mode,
    Patch,
    PatchRefused,
    Reason,
    Refusal,
    check,
    check_active,
    check_streams,
    standing,
)
from ice.security.keyring import Keyring
from ice.security.traffic import Cipher, derive

RING = Keyring(Cipher.GCM, derive("01" * 32))


class Refusals(SynchronousTestCase):
    def refused(self, refusal: Refusal | None) -> tuple[Reason, int | None]:
        assert refusal is not None
        self.assertTrue(refusal.message)
        return refusal.reason, refusal.reason.code

    def test_codes(self) -> None:
        """The words that the original's bridge service has a code for have that code."""
        self.assertEqual(
            {str(reason): reason.code for reason in Reason if reason.code is not None},
            {
                "no-json": -1,
                "exists": -3,
                "invalid": -4,
                "invalid-stream": -5,
                "too-few": -6,
                "too-many": -7,
                "duplicate": -8,
                "loop": -9,
            },
        )

    def test_by_itself(self) -> None:
        """Ids, names, numbers of streams, streams twice, streams that are none, gains."""
        self.assertIsNone(check(Patch.of("north-south", ("a", "b"))))
        self.assertIsNone(check(Patch.of("x", tuple(map(str, range(128))))))
        cases: list[tuple[Patch, Reason]] = [
            (Patch.of("", "ab"), Reason.INVALID),
            (Patch.of("x" * 65, "ab"), Reason.INVALID),
            (Patch.of(" x", "ab"), Reason.INVALID),
            (Patch.of("x\n", "ab"), Reason.INVALID),
            (Patch.of("x\ud800", "ab"), Reason.INVALID),
            (Patch.of("x", "ab", name="n" * 257), Reason.INVALID),
            (Patch.of("x", "ab", name="\x1b[2J"), Reason.INVALID),
            (Patch.of("x", "a"), Reason.TOO_FEW),
            (Patch.of("x", ()), Reason.TOO_FEW),
            (Patch.of("x", tuple(map(str, range(129)))), Reason.TOO_MANY),
            (Patch.of("x", ("a", "a")), Reason.DUPLICATE),
            (Patch.of("x", ("a", "")), Reason.INVALID_STREAM),
            (Patch.of("x", ("a", "s" * 257)), Reason.INVALID_STREAM),
            (Patch.of("x", ("a", "\ud800")), Reason.INVALID_STREAM),
            (Patch.of("x", ("a", "__election_1")), Reason.INVALID_STREAM),
            (Patch("x", "x", (Member("a", 21.0), Member("b"))), Reason.INVALID),
            (Patch("x", "x", (Member("a", float("nan")), Member("b"))), Reason.INVALID),
        ]
        for patch, reason in cases:
            self.assertEqual(self.refused(check(patch)), (reason, reason.code), patch)
            self.assertRaises(PatchRefused, engine_for, patch, {})

    def test_streams_together(self) -> None:
        """Half duplex with half, full with full; a stream on multicast only is not reached. What is not known is not judged."""
        facts = {
            "half": Channel("half"),
            "full": Channel("full", full_duplex=True),
            "far": Channel("far", on_rallypoints=False),
        }
        self.assertIsNone(check_streams(Patch.of("x", ("half", "unknown")), facts))
        self.assertEqual(
            self.refused(check_streams(Patch.of("x", ("half", "full")), facts)), (Reason.DUPLEX, None)
        )
        self.assertEqual(
            self.refused(check_streams(Patch.of("x", ("half", "far")), facts)), (Reason.NO_RALLYPOINT, None)
        )

    def test_one_active_patch_per_stream(self) -> None:
        """A circle of patches cannot be built: the third that would close it is refused, and told which stream and which patch."""
        there = [Patch.of("ab", "ab"), Patch.of("waits", "abc", enabled=False)]
        self.assertIsNone(check_active(Patch.of("cd", "cd"), there))
        refusal = check_active(Patch.of("bc", "bc"), there)
        self.assertEqual(self.refused(refusal), (Reason.LOOP, -9))
        assert refusal is not None
        self.assertEqual((refusal.stream, refusal.other), ("b", "ab"))

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sets(st.sampled_from("abcdef"), max_size=4), st.integers(0, 3), st.booleans()),
            max_size=8,
        ),
        st.randoms(use_true_random=False),
    )
    def test_standing(self, rows: list[tuple[set[str], int, bool]], chance: object) -> None:
        """Whatever a list holds, those that stand share no stream; who was first stands; the order of the list does not matter."""
        patches = [
            Patch.of(f"p{number}", sorted(streams), enabled=enabled)
            for number, (streams, _, enabled) in enumerate(rows)
        ]
        since = {f"p{number}": ms for number, (_, ms, _) in enumerate(rows)}
        stands = standing(patches, since=since)
        self.assertEqual(set(stands), {patch.id for patch in patches if patch.enabled})
        taken: list[str] = []
        for patch in patches:
            if patch.enabled and stands[patch.id] is None:
                taken += patch.stream_ids
        self.assertEqual(len(taken), len(set(taken)))
        enabled = sorted((since[p.id], p.id) for p in patches if p.enabled and check(p) is None)
        if enabled:
            self.assertIsNone(stands[enabled[0][1]])
        shuffled = list(patches)
        chance.shuffle(shuffled)  # type: ignore[attr-defined]
        self.assertEqual(standing(shuffled, since=since), stands)


class Streams(SynchronousTestCase):
    def test_of_a_mission(self) -> None:
        """A mission's group says how voice is on its stream."""
        text = """{"name":"m","groups":[{"id":"g1","idOverride":true,"name":"North","type":1,
          "txAudio":{"encoder":1,"framingMs":40,"fdx":true,"noHdrExt":true},"rallypoints":[{"host":{"address":"rp","port":7443}}]}]}"""
        group = read_mission(text, "test").mission.groups[0]
        channel = channel_of(group, "g1", keyring=RING)
        self.assertEqual((channel.name, channel.full_duplex, channel.on_rallypoints), ("North", True, True))
        self.assertEqual(
            (channel.voice.codec, channel.voice.framing_ms, channel.voice.extension), ("pcmu", 40, False)
        )
        self.assertEqual(channel.voice.encoder().codec.name, "pcmu")

    def test_legs(self) -> None:
        """Streams of equal voices are coded once."""
        opus, pcmu = Voice(), Voice(codec="pcmu")
        found = legs([Channel("a", voice=opus), Channel("b", voice=pcmu), Channel("c", voice=Voice())])
        self.assertEqual([leg.streams for leg in found], [("a", "c"), ("b",)])


class Keys(SynchronousTestCase):
    def test_no_secret_is_shown(self) -> None:
        """A lock tells how it is sealed, and no key."""
        self.assertEqual(repr(Lock("a", RING)), "<lock of 'a': aes-256-gcm, authenticated>")
        self.assertEqual(Lock("a").words, "not encrypted")
        self.assertIn("its key is not here", Lock("a", shut=True).words)

    def test_locks_stay(self) -> None:
        """A stream's lock is the same one as long as it has a key, a new key included; clear, keyed and shut are three locks."""
        locks = Locks()
        first = locks.of("a", RING)
        self.assertIs(locks.of("a", Keyring(Cipher.GCM, derive("02" * 32))), first)
        self.assertIsNot(locks.of("a"), first)
        self.assertTrue(locks.of("a", shut=True).shut)
        self.assertFalse(locks.of("a").shut)
        for number in range(2_000):
            locks.of(str(number))
        self.assertLessEqual(len(locks._locks), 1_024)

    def test_shut_is_never_clear(self) -> None:
        """Between a shut stream and a clear one nothing passes as it is."""
        clear, shut, keyed = Lock("a"), Lock("b", shut=True), Lock("c", RING)
        self.assertTrue(clear.passes_as_is(Lock("d")))
        for one, other in (
            (clear, shut),
            (shut, clear),
            (clear, keyed),
            (keyed, clear),
            (shut, shut),
            (shut, keyed),
        ):
            self.assertFalse(one.passes_as_is(other))


class Modes(SynchronousTestCase):
    def test_each_has_its_engine(self) -> None:
        """A mode is one of three, and its engine says so."""
        for mode in Mode:
            engine = engine_for(Patch.of("p", "ab", mode=mode), {})
            self.assertEqual(repr(engine), f"<{mode} patch 'p' of 2 streams>")
            self.assertEqual(engine.status(0.0).mode, str(mode))
