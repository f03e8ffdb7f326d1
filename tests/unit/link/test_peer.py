"""Bodies of RELAY, TOPOLOGY and INTEREST: every byte, every truncation, every bound."""

import contextlib
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import HEADER, media
from ice.link.naming import stream_key
from ice.link.peer import (
    MAX_COST,
    MAX_LINKS,
    MAX_NUMBER,
    MAX_ROUND_TRIP,
    MAX_SUMMARY,
    MEDIA_AT,
    RELAY,
    Ack,
    Delta,
    Digest,
    Entry,
    Full,
    InterestRequest,
    PeerFrameError,
    State,
    StateRequest,
    Summary,
    ack,
    cost_of,
    delta,
    digest,
    digest_of,
    full,
    interest_message,
    interest_request,
    onward,
    origin_of,
    parse_interest,
    parse_topology,
    relay,
    round_trip_of,
    state,
    state_core,
    state_request,
    summary,
    topology_message,
)

ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
SALT = bytes(range(16))
U64 = st.integers(0, 2**64 - 1)
NUMBERS = st.integers(1, MAX_NUMBER - 1)
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def body(frame: bytes) -> bytes:
    """Without its header, which must tell its length."""
    assert int.from_bytes(frame[:2], "big") == len(frame) - HEADER.size
    return frame[HEADER.size :]


class DumpTests(SynchronousTestCase):
    """One hexdump per message."""

    def test_relay(self) -> None:
        """Origin and hops before a MEDIA frame that stays as it is."""
        inner = media(3, 0x0102030405060708, 0x1112131415161718, 0x21222324, b"\xaa\xbb")
        frame = relay(0xA1A2A3A4A5A6A7A8, inner)
        self.assertEqual(
            frame.hex(" "),
            "00 23 11 a1 a2 a3 a4 a5 a6 a7 a8 00 00 17 10 03 01 02 03 04 05 06 07 08 11 12 13 14 15 16 17 18 21 22 23 24 aa bb",
        )
        self.assertEqual(frame[MEDIA_AT:], inner)
        self.assertEqual(
            RELAY.unpack_from(frame),
            (
                35,
                0x11,
                0xA1A2A3A4A5A6A7A8,
                0,
                23,
                0x10,
                3,
                0x0102030405060708,
                0x1112131415161718,
                0x21222324,
            ),
        )

    def test_onward(self) -> None:
        """One byte changes."""
        frame = relay(7, media(0, 1, 2, 3, b"x"))
        passed = onward(frame, 9)
        self.assertEqual([n for n, (a, b) in enumerate(zip(frame, passed, strict=True)) if a != b], [11])
        self.assertEqual(passed[11], 9)

    def test_origin(self) -> None:
        """Follows from the UUID and the salt."""
        self.assertEqual(f"{origin_of(ID, SALT):016x}", "eee8cf2e8e14e517")

    def test_state(self) -> None:
        """Core, signature, certificate."""
        core = state_core(ID, SALT, 5, True, {9: 300, 2: 1}, [8, 7], {9: 0x1234, 5: 6})
        self.assertEqual(
            core.hex(" "),
            "01 00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f "
            "00 00 00 00 00 00 00 05 00 02 02 00 00 00 00 00 00 00 02 00 01 00 00 00 00 00 00 00 00 00 09 01 2c 12 34 "
            "00 00 00 00 00 00 00 07 00 00 00 00 00 00 00 08",
        )
        self.assertEqual(topology_message(core), b"ice-link/1 TOPOLOGY" + core)
        frame = state(core, b"sig", b"cert", own=True)
        self.assertEqual(body(frame), b"\x01\x03" + core + b"\x03sig\x00\x04cert")
        said = parse_topology(body(frame))
        links, timed = {2: 1, 9: 300}, {9: 0x1234}
        self.assertEqual(said, State(ID, SALT, 5, True, links, timed, (7, 8), core, b"sig", b"cert", True))
        assert isinstance(said, State)
        self.assertEqual(said.origin, origin_of(ID, SALT))
        self.assertEqual(body(state(core, b"sig")), b"\x01\x00" + core + b"\x03sig")

    def test_round_trips(self) -> None:
        """From a tenth of a millisecond to 6.5 s, in tenths of one; what is told is never 0, which means that none is known."""
        cases = [
            (0.0, 1),
            (0.000_04, 1),
            (0.000_26, 3),
            (0.25, 2_500),
            (5.0, 50_000),
            (6.5535, MAX_ROUND_TRIP),
        ]
        for seconds, told in [*cases, (7.0, MAX_ROUND_TRIP), (1e300, MAX_ROUND_TRIP)]:
            self.assertEqual(round_trip_of(seconds), told)

    def test_summary_digest_and_request(self) -> None:
        """Numbers per origin; eight bytes; an origin."""
        entries = (Entry(3, 4, 5), Entry(1, 2, 0))
        frame = summary(entries, complete=True, ask=True)
        self.assertEqual(
            body(frame).hex(" "),
            "02 03 00 02 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00 05 "
            "00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 00",
        )
        self.assertEqual(parse_topology(body(frame)), Summary(entries, complete=True, ask=True))
        self.assertEqual(digest_of(entries), digest_of(entries[::-1]))
        self.assertEqual(digest_of(entries).hex(), "f619ff9be99fd66a")
        self.assertEqual(body(digest(b"12345678")), b"\x0312345678")
        self.assertEqual(parse_topology(b"\x0312345678"), Digest(b"12345678"))
        self.assertEqual(body(state_request(9)).hex(" "), "04 00 00 00 00 00 00 00 09")
        self.assertEqual(parse_topology(body(state_request(9))), StateRequest(9))

    def test_delta(self) -> None:
        """Keys that came, keys that went, ids of those that came, signature."""
        alpha = stream_key("alpha")
        said = Delta(1, 2, 3, 4, (alpha,), (5,), {alpha: "alpha"}, b"sig")
        self.assertEqual(
            body(delta(said)).hex(" "),
            "01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 03 00 00 00 04 "
            "00 01 00 01 00 01 03 8e d3 f6 ad 68 5b 95 9e 00 00 00 00 00 00 00 05 04 61 6c 70 68 61 73 69 67",
        )
        self.assertEqual(parse_interest(body(delta(said))), said)

    def test_full_ack_and_request(self) -> None:
        """Everything an origin wants; what is held; what is asked for."""
        (frame,) = full(1, 2, [5, 6], {}, b"sig")
        self.assertEqual(
            body(frame).hex(" "),
            "02 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02 00 00 00 02 00 00 00 01 00 02 00 00 03 "
            "00 00 00 00 00 00 00 05 00 00 00 00 00 00 00 06 73 69 67",
        )
        self.assertEqual(parse_interest(body(frame)), Full(1, 2, 2, 0, 1, (5, 6), {}, b"sig"))
        self.assertEqual(body(ack(1, 2)).hex(" "), "03 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02")
        self.assertEqual(parse_interest(body(ack(1, 2))), Ack(1, 2))
        self.assertEqual(body(interest_request(3)).hex(" "), "04 00 00 00 00 00 00 00 03")
        self.assertEqual(parse_interest(body(interest_request(3))), InterestRequest(3))
        self.assertEqual(
            interest_message(1, 2, 3, b"digest"),
            b"ice-link/1 INTEREST" + b"\0" * 8 + b"\x01" + b"\0" * 7 + b"\x02" + b"\0\0\0\x03digest",
        )


class RefusalTests(SynchronousTestCase):
    """Truncations, and what cannot be."""

    def samples(self) -> list[tuple[object, bytes]]:
        """One body of each kind, with its parser."""
        alpha = stream_key("alpha")
        core = state_core(ID, SALT, 5, False, {9: 300, 2: 1}, [7], {2: 9})
        return [
            (parse_topology, body(state(core, b"sig", b"cert", own=True))),
            (parse_topology, body(state(core, b"sig"))),
            (parse_topology, body(summary([Entry(1, 2, 3)], complete=True))),
            (parse_topology, body(digest(b"12345678"))),
            (parse_topology, body(state_request(1))),
            (parse_interest, body(delta(Delta(1, 2, 3, 4, (alpha,), (5,), {alpha: "alpha"}, b"sig")))),
            (parse_interest, body(full(1, 2, sorted([alpha, 3]), {alpha: "alpha"}, b"sig")[0])),
            (parse_interest, body(ack(1, 2))),
            (parse_interest, body(interest_request(1))),
        ]

    def test_every_truncation_and_one_byte_more(self) -> None:
        """Each is refused by name, never by an accident."""
        for parse, sample in self.samples():
            for end in range(len(sample)):
                self.assertRaises(PeerFrameError, parse, sample[:end])
            self.assertRaises(PeerFrameError, parse, sample + b"\0")

    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_bytes_that_were_changed(self, data: st.DataObject) -> None:
        """Are read as something else or refused, and nothing else happens."""
        parse, sample = data.draw(st.sampled_from(self.samples()))
        damaged = bytearray(sample)
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        try:
            parse(bytes(damaged))  # type: ignore[operator]
        except PeerFrameError as error:
            self.assertIn(error.reason, ("malformed", "unsupported", "absurd-number"))

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200))
    def test_noise(self, noise: bytes) -> None:
        """The same for any bytes at all."""
        for parse in (parse_topology, parse_interest):
            with contextlib.suppress(PeerFrameError):
                parse(noise)

    def test_kinds_of_a_later_version(self) -> None:
        """Are told from bytes that cannot be."""
        for parse in (parse_topology, parse_interest):
            with self.assertRaises(PeerFrameError) as caught:
                parse(b"\x09")
            self.assertEqual(caught.exception.reason, "unsupported")
            with self.assertRaises(PeerFrameError) as caught:
                parse(b"")
            self.assertEqual(caught.exception.reason, "malformed")

    def test_states_that_cannot_be(self) -> None:
        """Too many links, no cost, an order that another would write differently, a number beyond all numbers."""
        for links, former, number, reason in (
            (dict.fromkeys(range(1, MAX_LINKS + 2), 1), [], 1, "malformed"),
            ({5: 0}, [], 1, "malformed"),
            ({}, range(17), 1, "malformed"),
            ({}, [3, 3], 1, "malformed"),
            ({}, [], 0, "absurd-number"),
            ({}, [], 2**64 - 1, "absurd-number"),
            ({}, [], MAX_NUMBER, "absurd-number"),
        ):
            core = state_core(ID, SALT, number, False, links, former)
            with self.assertRaises(PeerFrameError) as caught:
                parse_topology(body(state(core, b"sig")))
            self.assertEqual(caught.exception.reason, reason)
        core = state_core(ID, SALT, 1, False, {2: 1, 9: MAX_COST}, [])
        swapped = core[:-24] + core[-12:] + core[-24:-12]
        self.assertRaises(PeerFrameError, parse_topology, body(state(swapped, b"sig")))
        twice = core[:-24] + core[-12:] * 2
        self.assertRaises(PeerFrameError, parse_topology, body(state(twice, b"sig")))

    def test_interests_that_cannot_be(self) -> None:
        """Numbers that go back, keys twice or in disorder, an id that is another key's, parts beyond the last."""
        for wrong in (
            Delta(1, 3, 3, 4, (), (), {}, b""),
            Delta(1, 0, 2**63, 4, (), (), {}, b""),
            Delta(1, 2, 3, 2**21, (), (), {}, b""),
            Delta(1, 2, 3, 4, (7, 7), (), {}, b""),
            Delta(1, 2, 3, 4, (7,), (7,), {}, b""),
            Delta(1, 2, 3, 4, (7,), (), {7: "alpha"}, b""),
        ):
            self.assertRaises(PeerFrameError, parse_interest, body(delta(wrong)))
        (frame,) = full(1, 2, [6, 5], {}, b"")
        self.assertRaises(PeerFrameError, parse_interest, body(frame))
        part = bytearray(body(full(1, 2, [5, 6], {}, b"")[0]))
        part[22] = 1  # part 1 of 1
        self.assertRaises(PeerFrameError, parse_interest, bytes(part))

    def test_more_than_a_frame_holds(self) -> None:
        """A summary of the largest size and one more."""
        entries = [Entry(n, 1, 1) for n in range(MAX_SUMMARY)]
        self.assertEqual(parse_topology(body(summary(entries))), Summary(tuple(entries)))
        self.assertRaises(PeerFrameError, parse_topology, body(summary([*entries, Entry(0, 1, 1)])))


class RoundTripTests(SynchronousTestCase):
    """What is written is what is read."""

    @settings(max_examples=100, deadline=None)
    @given(
        st.uuids(),
        st.binary(min_size=16, max_size=16),
        NUMBERS,
        st.booleans(),
        st.dictionaries(
            U64, st.tuples(st.integers(1, MAX_COST), st.integers(0, MAX_ROUND_TRIP)), max_size=20
        ),
        st.sets(U64, max_size=16),
        st.binary(max_size=80),
        st.binary(max_size=300),
    )
    def test_state(
        self,
        id: UUID,
        salt: bytes,
        number: int,
        leaf: bool,
        told: dict[int, tuple[int, int]],
        former: set[int],
        signature: bytes,
        certificate: bytes,
    ) -> None:
        """Any state."""
        links = {origin: cost for origin, (cost, _) in told.items()}
        timed = {origin: round_trip for origin, (_, round_trip) in told.items() if round_trip}
        core = state_core(id, salt, number, leaf, links, former, timed)
        said = parse_topology(body(state(core, signature, certificate, own=leaf)))
        past = tuple(sorted(former))
        expected = State(id, salt, number, leaf, links, timed, past, core, signature, certificate, leaf)
        self.assertEqual(said, expected)

    @settings(max_examples=100, deadline=None)
    @given(
        NUMBERS,
        st.sets(U64, max_size=30),
        st.sets(U64, max_size=30),
        st.sets(IDS, max_size=10),
        st.binary(max_size=80),
    )
    def test_delta(
        self, number: int, added: set[int], removed: set[int], ids: set[str], signature: bytes
    ) -> None:
        """Any delta."""
        names = {stream_key(id): id for id in ids}
        came = tuple(added | names.keys())
        said = Delta(1, number - 1, number, len(came), came, tuple(removed - set(came)), names, signature)
        self.assertEqual(parse_interest(body(delta(said))), said)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 3), st.sets(IDS, max_size=40))
    def test_full(self, thousands: int, ids: set[str]) -> None:
        """Any interest, in as many parts as it takes."""
        names = {stream_key(id): id for id in ids}
        keys = sorted({*names, *(n * 2**44 + 1 for n in range(thousands * 7_000))})
        frames = full(1, 2, keys, names, b"sig")
        parts = [parse_interest(body(frame)) for frame in frames]
        self.assertEqual([p.part for p in parts if isinstance(p, Full)], list(range(len(frames))))
        self.assertEqual([key for p in parts if isinstance(p, Full) for key in p.keys], keys)
        told = {key: id for p in parts if isinstance(p, Full) for key, id in p.ids.items()}
        self.assertEqual(told, names)
        cost = sum(cost_of(names.get(key)) for key in keys)
        self.assertLessEqual(len(frames), cost // 40_000 + 1)
