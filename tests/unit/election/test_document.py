"""The group document: its bytes, what is refused of them, and how it comes to everybody through loss, division and restarts."""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import zlib
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.election.ballot import canonical
from ice.election.document import (
    MAX_BODY,
    MAX_PIECES,
    MAX_RANGES,
    PIECE_BYTES,
    Document,
    DocumentRefused,
    Have,
    Piece,
    Want,
    Wrong,
    checked,
    compose,
    decode_document,
    decode_message,
    encode_document,
    encode_have,
    encode_want,
    in_ranges,
)
from ice.election.keeping import LastConfiguration, keep, kept
from ice.election.messages import MAX_MESSAGE, Report, decode_report, encode_report
from ice.election.rules import Quorum
from ice.election.service import Wishes
from ice.election.sharing import Keep, Say, Sharing
from ice.errors import LocalError

from .groups import GROUP_ID, MS, SALT, group
from .kit import Party

GROUP = group(3)
MEMBERS = GROUP.places
NOISE = Random(7).randbytes(5_500)


def document(number: int = 1, body: bytes = NOISE, by: str = "a", ms: int = MS) -> Document:
    """A document."""
    return compose(GROUP_ID, number, ms, by, body)


def file_of(made: Document) -> bytes:
    """Its file."""
    return encode_document(made, SALT)


class Bytes(SynchronousTestCase):
    def refused(self, data: bytes, wrong: Wrong, salts: tuple[bytes, ...] = (SALT,)) -> None:
        """The file is refused for this reason."""
        with self.assertRaises(DocumentRefused) as caught:
            decode_document(data, GROUP_ID, MEMBERS, salts)
        self.assertIs(caught.exception.wrong, wrong)

    def test_file(self) -> None:
        """The header in a line, readable, and the packed body; either of two salts verifies."""
        made = compose(GROUP_ID, 7, MS, "a", b"patches")
        data = file_of(made)
        self.assertEqual(
            data.partition(b"\n")[0],
            b'{"body":7,"by":"a","digest":"%s","group":"%s","hmac":"%s","ms":%d,"number":7,"packed":15}'
            % (made.header.digest.encode(), GROUP_ID.encode(), data.split(b'"hmac":"')[1][:64], MS),
        )
        self.assertEqual(decode_document(data, GROUP_ID, MEMBERS, (bytes(32), SALT)), made)
        self.assertEqual(made.body(), b"patches")

    def test_known_code(self) -> None:
        """The code is what another implementation would make of the same header."""
        made = attrs.evolve(document(), packed=b"")
        header = attrs.evolve(made.header, digest="00" * 32, body_bytes=0, packed_bytes=8)
        signed = (
            b'{"body":0,"by":"a","digest":"'
            + b"0" * 64
            + b'","group":"6d0f4a52-93a1-4f0e-8a55-0c54b6ad8b11",%s'
            b'"ms":1790000000000,"number":1,"packed":8}'
        )
        key = hmac.new(SALT, b"ice group document 1", sha256).digest()
        code = hmac.new(key, signed % b"", sha256).hexdigest().encode()
        data = encode_have(Have("b", header), SALT)
        self.assertEqual(data, b'\x01{"from":"b","header":' + signed % (b'"hmac":"%s",' % code) + b"}")
        self.assertEqual(decode_message(data, GROUP_ID, MEMBERS, (SALT,)), Have("b", header))

    def test_refused(self) -> None:
        """What was changed, is another's, or does not fit."""
        data = file_of(document())
        self.refused(data, Wrong.HMAC, (bytes(32),))
        self.refused(data.replace(b'"number":1', b'"number":2'), Wrong.HMAC)
        self.refused(data[:-1], Wrong.DIGEST)
        self.refused(data + b"\0", Wrong.DIGEST)
        self.refused(data.replace(GROUP_ID.encode(), b"x" * 36), Wrong.GROUP)
        self.refused(data.replace(b'"number":1', b'"number":1.5'), Wrong.FORM)
        self.refused(data.replace(b'"body":5500', b'"body":%d' % (MAX_BODY + 1)), Wrong.SIZE)
        self.refused(b"", Wrong.FORM)
        self.refused(b"\n" * 2_000, Wrong.FORM)

    def test_bomb(self) -> None:
        """What unpacks to more than it says is refused before it is unpacked to the end."""
        packed = zlib.compress(bytes(50_000_000), 9)
        made = compose(GROUP_ID, 1, MS, "a", b"small")
        header = attrs.evolve(
            made.header,
            digest=sha256(packed).hexdigest(),
            packed_bytes=len(packed),
        )
        with self.assertRaises(DocumentRefused) as caught:
            checked(header, packed)
        self.assertIs(caught.exception.wrong, Wrong.BODY)

    def test_too_large(self) -> None:
        """No document is larger than its bounds."""
        with self.assertRaises(LocalError):
            document(body=bytes(MAX_BODY + 1))
        with self.assertRaises(LocalError):
            document(body=Random(1).randbytes(5 * 1024 * 1024))

    def test_pieces(self) -> None:
        """The pieces make up the packed body; each fits a datagram."""
        made = document()
        self.assertEqual(made.header.pieces, 6)
        found = []
        for place in range(6):
            data = made.piece(place)
            self.assertLessEqual(len(data), MAX_MESSAGE)
            piece = decode_message(data, GROUP_ID, MEMBERS, (SALT,))
            assert isinstance(piece, Piece)
            self.assertEqual((piece.place, piece.short), (place, made.header.short))
            self.assertEqual(len(piece.data), made.header.piece_bytes(place))
            found.append(piece.data)
        self.assertEqual(b"".join(found), made.packed)
        self.assertEqual(checked(made.header, b"".join(found)).body(), NOISE)

    @given(st.sets(st.integers(0, 300)))
    @settings(max_examples=100, deadline=None)
    def test_ranges(self, places: set[int]) -> None:
        """Ranges hold exactly these places, as many of them as there is room for."""
        ranges = in_ranges(places)
        held = [place for begin, end in ranges for place in range(begin, end)]
        self.assertEqual(held, sorted(places)[: len(held)])
        self.assertTrue(len(held) == len(places) or len(ranges) == MAX_RANGES)
        want = Want("b", "a", b"12345678", ranges)
        data = encode_want(want)
        self.assertLessEqual(len(data), MAX_MESSAGE)
        self.assertEqual(decode_message(data, GROUP_ID, MEMBERS, (SALT,)), want)

    def test_largest_request(self) -> None:
        """A request with most ranges of longest numbers is still a message."""
        ranges = tuple((MAX_PIECES - 2 - 2 * at, MAX_PIECES - 1 - 2 * at) for at in range(MAX_RANGES))
        data = encode_want(Want("b" * 36, "a" * 36, b"12345678", ranges))
        self.assertLessEqual(len(data), MAX_MESSAGE)

    @given(st.binary(max_size=1_300))
    @settings(max_examples=200, deadline=None)
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes is a message or is refused."""
        for begin in (b"", b"\x01", b"\x02", b"\x03"):
            with contextlib.suppress(DocumentRefused):
                decode_message(begin + data, GROUP_ID, MEMBERS, (SALT,))
        with contextlib.suppress(DocumentRefused):
            decode_document(data, GROUP_ID, MEMBERS, (SALT,))
        decode_report(b"\x04" + data)

    json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
    fields = st.sampled_from(
        ["from", "of", "digest", "ranges", "header", "body", "packed", "hmac", "state", "active", "ms"]
    )

    @given(st.dictionaries(fields, json | st.just("a") | st.just("0" * 64), max_size=8))
    @settings(max_examples=200, deadline=None)
    def test_any_object(self, value: dict[str, object]) -> None:
        """Fields of whatever type."""
        try:
            text = canonical(value)
        except ValueError:
            return
        for kind in b"\x01\x02":
            with contextlib.suppress(DocumentRefused):
                decode_message(bytes([kind]) + text, GROUP_ID, MEMBERS, (SALT,))
        decode_report(b"\x04" + text)

    def test_truncations(self) -> None:
        """A file, or a message, that has lost its end is refused."""
        made = document(body=b"short")
        for data in (file_of(made),):
            for end in range(len(data)):
                with self.assertRaises(DocumentRefused):
                    decode_document(data[:end], GROUP_ID, MEMBERS, (SALT,))
        for data in (
            encode_have(Have("a", made.header), SALT),
            encode_want(Want("b", "a", b"12345678", ((0, 1),))),
        ):
            for end in range(len(data)):
                with self.assertRaises(DocumentRefused):
                    decode_message(data[:end], GROUP_ID, MEMBERS, (SALT,))


class Reports(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """A report is read as it was said; a long sentence is cut."""
        said = Report("a", "standbyNotWinner", False, "b", "STANDBY: …", "started", 3, MS)
        self.assertEqual(decode_report(encode_report(said)), said)
        long = encode_report(attrs.evolve(said, message="€" * 5_000, why="€" * 5_000))
        self.assertLessEqual(len(long), MAX_MESSAGE)
        self.assertIsNotNone(decode_report(long))
        self.assertIsNone(decode_report(encode_report(attrs.evolve(said, state="?"))))


class Room:
    """Members of a group whose messages are carried by hand, some of them lost."""

    def __init__(self, loss: float = 0.0, seed: int = 0, merge: bool = False) -> None:
        self.random = Random(seed)
        self.loss = loss
        self.now = 0.0
        self.merge = merge
        self.members: dict[str, Sharing] = {}
        self.cut: set[str] = set()
        self.leader: str | None = "a"
        self.leaders = {"a"}
        self.said = 0
        self.cycle_at = 1.0
        self.ranks: dict[str, tuple[int, int, str, str]] = {}
        for id in "abc":
            self.add(id)

    def add(self, id: str, kept_document: Document | None = None) -> Sharing:
        def union(ours: bytes, theirs: bytes) -> bytes:
            return b",".join(sorted({*ours.split(b","), *theirs.split(b",")}))

        self.ranks.pop(id, None)
        made = self.members[id] = Sharing(
            group(3, Quorum.NONE, 1.0),
            id,
            self.now,
            kept_document,
            merge=union if self.merge else None,
            random=Random(f"{id}{self.random.random()}"),
        )
        return made

    def stand(self, id: str) -> None:
        self.members[id].stand(id in self.leaders, self.leader if id not in self.leaders else id, self.now)

    def change(self, id: str, body: bytes) -> None:
        self.stand(id)
        self.members[id].change(body, self.now, MS + int(self.now * 1_000))
        self.carry()

    def carry(self) -> None:
        busy = True
        while busy:
            busy = False
            for id in list(self.members):
                for deed in self.members[id].deeds():
                    busy = True
                    if isinstance(deed, Keep):  # nobody ever goes back
                        rank = deed.document.header.rank
                        assert rank > self.ranks.get(id, (0, 0, "", "")), (id, rank, self.ranks[id])
                        self.ranks[id] = rank
                    if isinstance(deed, Say):
                        self.said += 1
                        for other in self.members:
                            if (
                                other != id
                                and not {id, other} & self.cut
                                and self.random.random() >= self.loss
                            ):
                                self.stand(other)
                                self.members[other].receive(deed.data, self.now, MS + int(self.now * 1_000))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = min(self.cycle_at, *(each.deadline for each in self.members.values()))
            if due > end:
                break
            self.now = max(self.now, due)
            cycle = self.now >= self.cycle_at
            self.cycle_at += cycle
            for id, each in self.members.items():
                self.stand(id)
                if cycle or each.deadline <= self.now:
                    each.tick(self.now, MS + int(self.now * 1_000))
            self.carry()
        self.now = end

    @property
    def bodies(self) -> list[bytes | None]:
        return [None if each.document is None else each.document.body() for each in self.members.values()]


class Spreading(SynchronousTestCase):
    def test_change(self) -> None:
        """A change by the active member comes to all, unasked, and it learns who has it."""
        room = Room()
        room.change("a", NOISE)
        room.run(1.0)
        self.assertEqual(room.bodies, [NOISE] * 3)
        self.assertEqual(room.members["a"].holders(), set("abc"))
        self.assertEqual([each.counts["asked"] for each in room.members.values()], [0, 0, 0])

    def test_standby_refuses(self) -> None:
        """Nobody but the active member changes it, and who it is is said."""
        room = Room()
        room.stand("b")
        with self.assertRaises(LocalError) as caught:
            room.members["b"].change(b"", 0.0, MS)
        self.assertIn("A leads", str(caught.exception))

    def test_through_loss(self) -> None:
        """Half of all messages lost, everybody has it nevertheless."""
        for seed in range(10):
            room = Room(loss=0.5, seed=seed)
            room.change("a", Random(seed).randbytes(40_000))
            room.run(60)
            self.assertEqual(len(set(room.bodies)), 1, seed)

    def test_who_was_away(self) -> None:
        """A member that starts late asks the active one; one that starts with a newer document gives it to all."""
        room = Room()
        room.change("a", b"first")
        room.run(1)
        room.add("c")
        room.run(3)
        self.assertEqual(room.bodies, [b"first"] * 3)
        room.add("b", compose(GROUP_ID, 5, MS, "b", b"newer"))
        room.run(5)
        self.assertEqual(room.bodies, [b"newer"] * 3)
        room.change("a", b"next")
        document_now = room.members["a"].document
        assert document_now is not None
        self.assertEqual(document_now.header.number, 6)

    def test_nobody_leads(self) -> None:
        """While nobody leads the newest comes to all as well."""
        room = Room()
        room.leader, room.leaders = None, set()
        room.add("c", compose(GROUP_ID, 2, MS, "a", b"kept"))
        room.run(10)
        self.assertEqual(room.bodies, [b"kept"] * 3)

    def test_division_ends(self) -> None:
        """Two that led apart agree on the newer of what they made; nothing swings to and fro."""
        room = Room()
        room.change("a", b"x")
        room.run(1)
        room.cut, room.leaders = {"c"}, {"a", "c"}
        room.change("c", b"by c")
        room.run(1)
        room.change("a", b"by a")
        room.run(3)
        room.cut, room.leaders = set(), {"a"}
        room.run(10)
        self.assertEqual(room.bodies, [b"by a"] * 3)
        said = room.said
        room.run(10)
        self.assertLess(room.said - said, 25)  # announcements

    def test_division_merged(self) -> None:
        """With a way to merge, what both made is there."""
        for first in "ac":
            room = Room(merge=True)
            room.change("a", b"x")
            room.run(1)
            room.cut, room.leaders = {"c"}, {"a", "c"}
            room.change(first, b"x,by " + first.encode())
            room.run(1)
            other = "c" if first == "a" else "a"
            room.change(other, b"x,by " + other.encode())
            room.run(3)
            room.cut, room.leaders = set(), {"a"}
            room.run(20)
            self.assertEqual(room.bodies, [b"by a,by c,x"] * 3, first)

    def test_collection_is_given_up(self) -> None:
        """Nobody asks for ever for what nobody gives."""
        room = Room()
        header = document(9).header
        room.members["b"].receive(encode_have(Have("c", header), SALT), 0.0, MS)
        self.assertEqual(room.members["b"].collecting, (9, 0, 6))
        room.run(600)
        self.assertIsNone(room.members["b"].collecting)
        self.assertEqual(room.members["b"].counts["given-up"], 1)

    def test_false_pieces(self) -> None:
        """Pieces that do not fit their header are refused when the last has come, and the document is asked for again."""
        room = Room()
        made = document(3)
        b = room.members["b"]
        b.receive(encode_have(Have("a", made.header), SALT), 0.0, MS)
        b.receive(made.piece(0)[:-1], 0.0, MS)
        false = Document(made.header, bytes(len(made.packed)))
        for place in range(6):
            b.receive(false.piece(place), 0.0, MS)
        self.assertEqual(b.refused, {Wrong.FORM: 1, Wrong.DIGEST: 1})
        self.assertIsNone(b.document)
        b.receive(encode_have(Have("a", made.header), SALT), 1.0, MS)
        for place in range(5, -1, -1):
            b.receive(made.piece(place), 1.0, MS)
        self.assertEqual([deed.document for deed in b.deeds() if isinstance(deed, Keep)], [made])

    def test_forged(self) -> None:
        """Headers that nobody of the group signed, or a stranger sends, and pieces too long or beyond the end are refused by name; nothing is collected."""
        room = Room()
        made, b = document(3), room.members["b"]
        said = encode_have(Have("a", made.header), SALT)
        for data in (
            encode_have(Have("a", made.header), b"another salt"),
            said.replace(b'"number":3', b'"number":9'),
            encode_have(Have("x", made.header), SALT),
            encode_have(Have("a", attrs.evolve(made.header, group="7" * 36)), SALT),
            said + b" " * MAX_MESSAGE,
            made.piece(0) + b"x",
            made.piece(0)[:9] + b"\xff\xff" + made.piece(0)[11:],
        ):
            b.receive(data, 0.0, MS)
        self.assertEqual(
            b.refused,
            {Wrong.HMAC: 2, Wrong.MEMBER: 1, Wrong.GROUP: 1, Wrong.SIZE: 2, Wrong.FORM: 1},
        )
        self.assertEqual((b.collecting, b.document), (None, None))

    def test_paced(self) -> None:
        """A large document leaves room for ballots."""
        room = Room()
        room.stand("a")
        a = room.members["a"]
        a.change(Random(3).randbytes(300_000), 0.0, MS)
        a.tick(0.0, MS)
        self.assertEqual(sum(isinstance(deed, Say) for deed in a.deeds()), 1 + 16)
        self.assertEqual(a.deadline, 0.1)
        self.assertEqual(PIECE_BYTES, 1_000)


class Keeping(SynchronousTestCase):
    def test_kept(self) -> None:
        """A file is replaced as a whole, for nobody else to read; another's folder is made."""
        path = Path(self.mktemp()) / "deep" / "file"
        keep(path, b"one")
        keep(path, b"two")
        self.assertEqual((kept(path, 3), path.stat().st_mode & 0o777), (b"two", 0o600))
        self.assertEqual([each.name for each in path.parent.iterdir()], ["file"])
        with self.assertRaises(LocalError):
            kept(path, 2)
        self.assertIsNone(kept(path.with_name("none"), 9))
        with self.assertRaises(LocalError):
            keep(path / "below", b"")

    def test_last_configuration(self) -> None:
        """What a satellite coasts by outlives it."""
        last = LastConfiguration(Path(self.mktemp()) / "configuration")
        self.assertEqual((last.there, last.read()), (False, None))
        last.keep(b"{}")
        self.assertEqual((last.there, last.read()), (True, b"{}"))

    def test_over_a_restart(self) -> None:
        """A member has its document again after a restart; a file that is none is put aside."""
        folder = Path(self.mktemp())

        def party() -> Party:
            made = Party(group(1, cycle_s=0.1), wishes=Wishes(document_file=folder / "document"))
            made.start()
            made.until(lambda: made.leaders == ["a"], 2)
            return made

        one = party()
        self.assertIsNone(one.elections["a"].share.body)
        self.assertEqual(one.elections["a"].share.change(b"patches"), 1)
        one.stop()
        two = party()
        self.assertEqual(two.elections["a"].share.body, b"patches")
        self.assertEqual(two.elections["a"].share.change(b"more"), 2)
        self.assertEqual(two.elections["a"].status()["details"]["document"]["number"], 2)
        two.stop()
        (folder / "document").write_bytes(b"rubbish")
        three = party()
        self.assertIsNone(three.elections["a"].share.body)
        self.assertEqual((folder / "document.bad").read_bytes(), b"rubbish")
        three.stop()

    def test_disk_refuses(self) -> None:
        """A full disk, or a folder that may not be written: the member works by what is in memory, is not counted among those that hold it, says why, and tries again."""
        folder = Path(self.mktemp())
        party = Party(group(3, cycle_s=0.1))
        for id in "abc":
            party.add(id, wishes=Wishes(document_file=folder / id))
            party.elections[id].startService()
        party.until(lambda: party.leaders == ["a"], 3)
        leader, other = (party.elections[id].share for id in "ab")
        for trouble in (errno.ENOSPC, errno.EROFS):
            failing = OSError(trouble, os.strerror(trouble))
            before = kept(folder / "b", 999)

            def open_it(path: Any, *more: Any, failing: OSError = failing, real: Any = os.open) -> int:
                if ".b." in str(path):
                    raise failing
                return int(real(path, *more))

            with mock.patch("ice.election.keeping.os.open", open_it):
                leader.change(b"patches %d" % trouble)
                party.pass_by(2)
                self.assertEqual(other.body, b"patches %d" % trouble)
                self.assertIn(os.strerror(trouble), other.status()["unkept"])
                self.assertEqual(leader.status()["heldBy"], ["a", "c"])
                self.assertEqual(kept(folder / "b", 999), before, "what was there is as it was")
            party.pass_by(12)
            self.assertEqual((leader.status()["heldBy"], other.unkept), (["a", "b", "c"], ""))
        self.assertEqual(sorted(each.name for each in folder.iterdir()), ["a", "b", "c"])
        self.assertEqual(len(self.flushLoggedErrors()), 0)
        party.stop()

    def test_everywhere(self) -> None:
        """On the election's own ways: from the active member to everybody, who are told."""
        told: list[bytes] = []
        party = Party(group(3, cycle_s=0.1), learned=told.append)
        party.start()
        party.until(lambda: party.leaders == ["a"], 3)
        party.elections["a"].share.change(NOISE)
        party.until(lambda: told == [NOISE, NOISE], 2)
        party.pass_by(1)
        self.assertEqual(party.elections["a"].status()["details"]["document"]["heldBy"], ["a", "b", "c"])
        party.stop()
        self.assertEqual(party.clock.getDelayedCalls(), [])
