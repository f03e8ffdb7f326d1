"""The list of patches: changed by people, seeded by files, merged by servers, read from bytes."""

from __future__ import annotations

import json
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.patch.channel import Channel
from ice.patch.listing import Action, Audit, Deleted, Entry, PatchList, encode
from ice.patch.parsing import ListingError, Sowing, decode, read_bridges, read_patch
from ice.patch.plan import Member, Mode, Patch, PatchRefused, Reason, standing

AB, CD = Patch.of("ab", ("a", "b")), Patch.of("cd", ("c", "d"))
FACTS = {"half": Channel("half"), "full": Channel("full", full_duplex=True)}


def listed(*patches: Patch) -> PatchList:
    listing = PatchList()
    for patch in patches:
        listing, audit = listing.create(patch, by="test", ms=1)
        assert audit.refusal is None
    return listing


ids = st.sampled_from(["p", "q", "r"])
members = st.lists(st.sampled_from("abcd"), min_size=2, max_size=4, unique=True).map(
    lambda streams: tuple(Member(stream, automatic_gain=stream == "d") for stream in streams)
)
patches = st.builds(
    Patch, ids, st.sampled_from(["", "Nord", "Süd"]), members, st.booleans(), st.sampled_from(list(Mode))
)
marks = st.tuples(st.integers(1, 3), st.integers(0, 3), st.sampled_from(["ada", "bob"]))


@st.composite
def listings(draw: st.DrawFn) -> PatchList:
    entries: dict[str, Entry] = {}
    deleted: dict[str, Deleted] = {}
    for id in draw(st.lists(ids, unique=True)):
        mark = draw(marks)
        if draw(st.booleans()):
            deleted[id] = Deleted(id, *mark)
        else:
            patch = draw(patches)
            entries[id] = Entry(
                Patch(id, patch.name or id, patch.streams, patch.enabled, patch.mode),
                *mark,
                draw(st.integers(0, 3)),
            )
    return PatchList(MappingProxyType(entries), MappingProxyType(deleted))


class Changes(SynchronousTestCase):
    def refused(self, outcome: tuple[PatchList, Audit], before: PatchList) -> Reason:
        listing, audit = outcome
        self.assertIs(listing, before)
        assert audit.refusal is not None
        return audit.refusal.reason

    def test_a_life(self) -> None:
        """Created, switched off, changed, switched on, deleted: each counted, each told."""
        listing, audit = PatchList().create(AB, by="ada", ms=10)
        self.assertEqual((audit.action, audit.patch, audit.refusal), (Action.CREATE, "ab", None))
        listing, audit = listing.deactivate("ab", by="bob", ms=11)
        self.assertEqual(audit.detail, ("enabled: true → false",))
        listing, audit = listing.change(
            "ab",
            by="bob",
            ms=12,
            name="North",
            streams=(Member("b", 3.0), Member("z")),
            mode=Mode.MIXED,
        )
        self.assertEqual(
            audit.detail,
            (
                "name: ab → North",
                "streams: − a",
                "streams: + z",
                "streams: b: gain 0 → 3 dB",
                "mode: relay → mixed",
            ),
        )
        listing, audit = listing.activate("ab", by="ada", ms=13)
        entry = listing.entries["ab"]
        self.assertEqual((entry.revision, entry.ms, entry.by, entry.enabled_ms), (4, 13, "ada", 13))
        again, audit = listing.activate("ab", by="ada", ms=14)
        self.assertEqual((again, audit.detail), (listing, ()))
        listing, audit = listing.delete("ab", by="ada", ms=15)
        self.assertEqual((dict(listing.entries), listing.deleted["ab"].revision), ({}, 5))
        listing, audit = listing.create(AB, by="ada", ms=16)
        self.assertEqual((listing.entries["ab"].revision, dict(listing.deleted)), (6, {}))

    def test_refusals(self) -> None:
        """Each by its word, and the list stays what it was."""
        listing = listed(AB, CD)
        create = lambda patch: listing.create(patch, by="x", ms=2, facts=FACTS)  # noqa: E731
        self.assertEqual(self.refused(create(AB), listing), Reason.EXISTS)
        self.assertEqual(self.refused(create(Patch.of("bc", "bc")), listing), Reason.LOOP)
        self.assertEqual(self.refused(create(Patch.of("x", "y")), listing), Reason.TOO_FEW)
        self.assertEqual(self.refused(create(Patch.of("x", ("half", "full"))), listing), Reason.DUPLEX)
        self.assertIsNone(create(Patch.of("bc", "bc", enabled=False))[1].refusal)
        self.assertEqual(self.refused(listing.activate("zz", by="x", ms=2), listing), Reason.UNKNOWN)
        self.assertEqual(self.refused(listing.delete("zz", by="x", ms=2), listing), Reason.UNKNOWN)
        change = listing.change("ab", by="x", ms=2, streams=(Member("a"), Member("c")))
        self.assertEqual(self.refused(change, listing), Reason.LOOP)

    def test_a_race(self) -> None:
        """Who changes what somebody else has just changed is told so."""
        listing = listed(AB)
        first, audit = listing.deactivate("ab", by="ada", ms=2, if_revision=1)
        self.assertIsNone(audit.refusal)
        for outcome in (
            first.activate("ab", by="bob", ms=3, if_revision=1),
            first.delete("ab", by="bob", ms=3, if_revision=1),
        ):
            self.assertEqual(self.refused(outcome, first), Reason.CHANGED)
            self.assertIn("ada", outcome[1].refusal.message)  # type: ignore[union-attr]

    def test_audit_lines(self) -> None:
        """One line of JSON each, with the word and the code of a refusal."""
        listing = listed(AB)
        _, done = listing.deactivate("ab", by="ada", ms=2)
        _, refused = listing.create(Patch.of("bc", "bc"), by="bob\n", ms=3)
        self.assertEqual(
            done.line(),
            '{"action":"deactivate","by":"ada","detail":["enabled: true → false"],"done":true,"ms":2,"patch":"ab"}',
        )
        value = json.loads(refused.line())
        self.assertEqual((value["reason"], value["code"], value["done"]), ("loop", -9, False))
        self.assertNotIn("\n", refused.line())


class Seeds(SynchronousTestCase):
    """What has changed in the file is done; what has not changes nothing."""

    def sown(
        self, listing: PatchList, now: list[Patch], before: list[Patch], ms: int = 9
    ) -> tuple[PatchList, list[Audit]]:
        listing, audits = listing.sown(now, before, by="ice.toml", ms=ms)
        return listing, list(audits)

    def test_first_time(self) -> None:
        """All of it is created, but what is there, or was deleted, stays as it is."""
        listing, _ = listed(AB, Patch.of("old", "xy")).delete("old", by="ada", ms=2)
        listing, audits = self.sown(listing, [Patch.of("ab", "qr"), CD, Patch.of("old", "xy")], [])
        self.assertEqual(listing.patches, (AB, CD))
        self.assertEqual(
            [a.refusal and a.refusal.reason for a in audits], [Reason.EXISTS, None, Reason.DELETED]
        )

    def test_people_win_until_the_line_is_edited(self) -> None:
        """Switched off by a person, a patch stays off over restarts and over other edits, until that very thing is edited."""
        file = [AB, CD]
        listing, _ = self.sown(PatchList(), file, [])
        listing, _ = listing.deactivate("ab", by="ada", ms=10)
        listing, audits = self.sown(listing, file, file)
        self.assertEqual(audits, [])
        named = [Patch.of("ab", "ab", name="Nord"), CD]
        listing, audits = self.sown(listing, named, file)
        self.assertEqual(listing.entries["ab"].patch, Patch.of("ab", "ab", name="Nord", enabled=False))
        off = [Patch.of("ab", "ab", name="Nord", enabled=False), CD]
        listing, audits = self.sown(listing, off, named)
        on = named
        listing, audits = self.sown(listing, on, off)
        self.assertTrue(listing.entries["ab"].patch.enabled)

    def test_taken_out(self) -> None:
        """Taken out of the file, a patch is deleted; what people made stays."""
        listing, _ = self.sown(PatchList(), [AB], [])
        listing, _ = listing.create(CD, by="ada", ms=10)
        listing, audits = self.sown(listing, [], [AB])
        self.assertEqual(listing.patches, (CD,))
        self.assertEqual([audit.action for audit in audits], [Action.DELETE])

    def test_a_stream_moves(self) -> None:
        """Within one edit a stream may go from one patch to another, and one patch give way to another."""
        before = [Patch.of("one", "abc"), Patch.of("two", "de")]
        after = [Patch.of("one", "ab"), Patch.of("two", "cde")]
        listing, _ = self.sown(PatchList(), before, [])
        listing, audits = self.sown(listing, after, before)
        self.assertEqual([audit.refusal for audit in audits], [None, None])
        self.assertEqual(listing.patches, tuple(after))
        listing, audits = self.sown(listing, [Patch.of("three", "abcde")], after)
        self.assertEqual([patch.id for patch in listing.patches], ["three"])

    def test_what_cannot_be_active_waits(self) -> None:
        """A new patch that shares a stream with an active one is there, switched off, and the refusal is told."""
        listing, audits = self.sown(listed(AB), [Patch.of("bc", "bc")], [])
        self.assertEqual(listing.entries["bc"].patch.enabled, False)
        self.assertEqual(
            [(a.action, a.refusal is None) for a in audits], [(Action.ACTIVATE, False), (Action.CREATE, True)]
        )

    def test_twice(self) -> None:
        """An id twice in one file: the first counts."""
        listing, audits = self.sown(PatchList(), [AB, Patch.of("ab", "xy")], [])
        self.assertEqual(listing.patches, (AB,))
        self.assertEqual([a.refusal and a.refusal.reason for a in audits], [Reason.EXISTS, None])


class Merging(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(listings(), listings(), listings())
    def test_the_same_for_all(self, one: PatchList, two: PatchList, three: PatchList) -> None:
        """In whatever order, however often: the same list, and the same patches stand."""
        merged = encode(one.merge(two).merge(three))
        self.assertEqual(encode(three.merge(one.merge(two))), merged)
        self.assertEqual(encode(two.merge(three).merge(one).merge(two)), merged)
        self.assertEqual(encode(one.merge(one)), encode(one))
        listing = decode(merged)
        stands = standing(listing.patches, since=listing.since)
        streams = [
            s
            for patch in listing.patches
            if patch.enabled and stands[patch.id] is None
            for s in patch.stream_ids
        ]
        self.assertEqual(len(streams), len(set(streams)))

    def test_newest(self) -> None:
        """The change that builds on the other wins; of two at once the later; a deletion before a change of the same moment."""
        base = listed(AB)
        off, _ = base.deactivate("ab", by="ada", ms=5)
        on, _ = off.activate("ab", by="ada", ms=4)
        gone, _ = base.delete("ab", by="bob", ms=5)
        self.assertEqual(off.merge(on), on)
        self.assertEqual(off.merge(gone), gone)
        self.assertEqual(gone.merge(on), on)


class Bytes(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(listings())
    def test_round_trip(self, listing: PatchList) -> None:
        """What is written is read, and written again the same."""
        data = encode(listing)
        self.assertEqual(decode(data), listing)
        self.assertEqual(encode(decode(data)), data)

    def test_the_wire(self) -> None:
        """Canonical JSON, as documented."""
        listing, _ = listed(
            Patch("p", "Nord–Süd", (Member("a", 3.0), Member("b", automatic_gain=True)))
        ).delete("x", by="a", ms=1)
        self.assertEqual(
            encode(listing).decode(),
            '{"deleted":[],"patches":[{"by":"test","enabled":true,"enabled_ms":1,"id":"p","mode":"relay","ms":1,"name":"Nord–Süd",'
            '"revision":1,"streams":[{"gain_db":3.0,"stream":"a"},{"automatic_gain":true,"stream":"b"}]}],"version":1}',
        )

    def test_every_truncation(self) -> None:
        """Half a list is no list."""
        data = encode(listed(AB, CD))
        for size in range(len(data)):
            self.assertRaises(ListingError, decode, data[:size])

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes: a list, a patch, patches of bridges, or a refusal."""
        for read in (decode, read_patch, read_bridges):
            try:
                read(data)
            except (ListingError, PatchRefused) as error:
                self.assertTrue(str(error))

    @settings(max_examples=150, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "id",
                            "name",
                            "mode",
                            "enabled",
                            "streams",
                            "groups",
                            "bridges",
                            "version",
                            "patches",
                            "deleted",
                            "ms",
                            "stream",
                        ]
                    ),
                    inner,
                    max_size=6,
                )
            ),
            max_leaves=12,
        )
    )
    def test_any_json(self, value: object) -> None:
        """JSON of any shape: no other exception comes out."""
        data = json.dumps(value).encode()
        for read in (decode, read_patch, read_bridges):
            try:
                read(data)
            except (ListingError, PatchRefused) as error:
                self.assertTrue(str(error))

    def test_wrong_lists(self) -> None:
        """What a list must not be: another version, unknown keys, a key twice, patches that cannot be, numbers that are none."""
        good = json.loads(encode(listed(AB)))

        def row(**changes: object) -> bytes:
            return json.dumps(good | {"patches": [good["patches"][0] | changes]}).encode()

        wrong = [
            b"[]",
            b"\xff",
            b"[" * 100_000,
            b'{"version":1,"version":1,"patches":[],"deleted":[]}',
            json.dumps(good | {"version": 2}).encode(),
            json.dumps(good | {"version": True}).encode(),
            json.dumps(good | {"more": 1}).encode(),
            json.dumps(good | {"patches": {}}).encode(),
            json.dumps(good | {"patches": good["patches"] * 2}).encode(),
            json.dumps(good | {"deleted": [{"id": "ab", "revision": 1, "ms": 1, "by": "x"}]}).encode(),
            json.dumps(good | {"deleted": [{"id": "", "revision": 1, "ms": 1, "by": "x"}]}).encode(),
            row(more=1),
            row(streams=["a"]),
            row(revision=0),
            row(revision=True),
            row(ms=-1),
            row(ms=1 << 54),
            row(by=5),
            row(by="x" * 200),
            row(mode="loud"),
            row(enabled=1),
            row(streams=[{"stream": "a", "gain_db": 1e300}, "b"]),
            b'{"version":1,"patches":[],"deleted":[],"x":NaN}',
            b" " * (16 * 1024 * 1024 + 1),
        ]
        for data in wrong:
            self.assertRaises(ListingError, decode, data)

    def test_requests(self) -> None:
        """A patch in a request: texts or objects for streams; refused by word."""
        patch = read_patch(
            b'{"id":"p","streams":["a",{"stream":"b","gain_db":-3,"automatic_gain":true}],"mode":"mixed"}'
        )
        self.assertEqual(patch, Patch("p", "p", (Member("a"), Member("b", -3.0, True)), True, Mode.MIXED))
        for data, reason in (
            (b"", Reason.NO_JSON),
            (b"[1]", Reason.NO_JSON),
            (b"{}", Reason.INVALID),
            (b'{"id":"p"}', Reason.INVALID_STREAM),
            (b'{"id":"p","streams":[]}', Reason.TOO_FEW),
            (b'{"id":"p","streams":[1,2]}', Reason.INVALID_STREAM),
            (b'{"id":"p","streams":["a","a"]}', Reason.DUPLICATE),
            (b'{"id":"p","streams":["a","b"],"colour":1}', Reason.INVALID),
            (b'{"id":"p","streams":["a",{"stream":"b","loud":1}]}', Reason.INVALID_STREAM),
        ):
            with self.assertRaises(PatchRefused) as caught:
                read_patch(data)
            self.assertEqual(caught.exception.refusal.reason, reason, data)


class BridgeFiles(SynchronousTestCase):
    def test_what_sites_have(self) -> None:
        """Bridges become patches: ids without braces in small letters, modes by number or by group; bad ones are refused by themselves."""
        data = json.dumps(
            {
                "bridges": [
                    {
                        "id": "B1",
                        "name": "One",
                        "groups": ["{A-1}", "b-2"],
                        "_wizardCreated": {"type": "raw"},
                    },
                    {"id": "B2", "groups": ["c", "d"], "enabled": False, "mode": 2},
                    {"id": "B3", "groups": ["e", "f"]},
                    {"id": "B4", "groups": ["g"]},
                    {"id": "B1", "groups": ["x", "y"]},
                    {"groups": ["x", "y"]},
                    7,
                ],
                "groups": [{"id": "e", "bridgeTargetOutputDetail": {"mode": 1}}, 3],
            }
        ).encode()
        found = read_bridges(data)
        self.assertEqual(
            found.patches,
            (
                Patch.of("B1", ("a-1", "b-2"), name="One"),
                Patch.of("B2", "cd", enabled=False, mode=Mode.MIXED),
                Patch.of("B3", "ef", mode=Mode.TRANSCODE),
            ),
        )
        self.assertEqual(
            [refusal.reason for refusal in found.refused],
            [Reason.TOO_FEW, Reason.EXISTS, Reason.INVALID, Reason.INVALID],
        )

    def test_shapes(self) -> None:
        """A list of bridges, one bridge, groups alone; the service's own mode where nothing is said."""
        bridge = {"id": "B", "groups": ["a", "b"]}
        expected = Sowing((Patch.of("B", "ab"),), ())
        for value in ([bridge], bridge, {"bridges": [bridge]}):
            self.assertEqual(read_bridges(json.dumps(value).encode()), expected)
        self.assertEqual(read_bridges(b'{"groups":[]}'), Sowing((), ()))
        self.assertEqual(read_bridges(json.dumps(bridge).encode(), Mode.MIXED).patches[0].mode, Mode.MIXED)
        for data in (b"7", b'{"bridges":7}', b"x"):
            self.assertRaises(PatchRefused, read_bridges, data)
