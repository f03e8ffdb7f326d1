"""Ballots on the wire: their bytes, their signature, and every way to be refused."""

import hmac
import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.election.ballot import (
    MAX_BALLOT,
    MAX_HELD_MS,
    MAX_ID,
    MAX_MS,
    MAX_VOTES,
    Ballot,
    BallotRefused,
    Reason,
    canonical,
    decode,
    encode,
)
from tests.unit.election.groups import GROUP_ID, MS, SALT

ID = "0b0e5a1c-6c1d-4b7e-9f1a-2d3c4b5a6978"
OTHER = "7f2d9b34-1a2b-4c3d-8e4f-506172839405"
MEMBERS = {ID: 3, OTHER: 2}
PLAIN = Ballot(ID, 3, MS, (GROUP_ID,))
NAMING = attrs.evolve(
    PLAIN, lids=(GROUP_ID,), names=True, named=OTHER, held_ms=12_345, heard_ms=MS - 5_000, hears=3
)
RESIGNED = Ballot(ID, -1, MS + 1, (GROUP_ID,), names=True, resigned=True)

HEX_PLAIN = """
    7b 22 68 6d 61 63 22 3a 22 61 31 32 38 66 30 62
    64 38 39 36 30 64 61 65 34 37 61 65 31 32 61 37
    32 63 63 30 39 34 38 33 30 33 33 65 64 33 36 63
    65 38 36 66 31 36 37 39 32 62 65 34 37 37 34 39
    31 38 31 34 34 34 37 63 38 22 2c 22 69 64 22 3a
    22 30 62 30 65 35 61 31 63 2d 36 63 31 64 2d 34
    62 37 65 2d 39 66 31 61 2d 32 64 33 63 34 62 35
    61 36 39 37 38 22 2c 22 6c 69 64 73 22 3a 5b 5d
    2c 22 6d 73 22 3a 31 37 39 30 30 30 30 30 30 30
    30 30 30 2c 22 72 69 64 73 22 3a 5b 22 36 64 30
    66 34 61 35 32 2d 39 33 61 31 2d 34 66 30 65 2d
    38 61 35 35 2d 30 63 35 34 62 36 61 64 38 62 31
    31 22 5d 2c 22 76 6f 74 65 73 22 3a 33 7d
"""
HEX_RESIGNED = """
    7b 22 66 6f 72 22 3a 6e 75 6c 6c 2c 22 68 6d 61
    63 22 3a 22 63 34 33 61 62 62 30 39 32 37 35 39
    61 61 66 30 63 36 33 62 32 34 64 38 30 66 33 63
    37 32 36 65 36 31 37 66 33 34 39 31 65 35 61 32
    34 63 66 37 38 66 61 39 61 32 32 65 66 63 61 30
    64 32 38 62 22 2c 22 69 64 22 3a 22 30 62 30 65
    35 61 31 63 2d 36 63 31 64 2d 34 62 37 65 2d 39
    66 31 61 2d 32 64 33 63 34 62 35 61 36 39 37 38
    22 2c 22 6c 69 64 73 22 3a 5b 5d 2c 22 6d 73 22
    3a 31 37 39 30 30 30 30 30 30 30 30 30 31 2c 22
    72 65 73 69 67 6e 65 64 22 3a 74 72 75 65 2c 22
    72 69 64 73 22 3a 5b 22 36 64 30 66 34 61 35 32
    2d 39 33 61 31 2d 34 66 30 65 2d 38 61 35 35 2d
    30 63 35 34 62 36 61 64 38 62 31 31 22 5d 2c 22
    76 6f 74 65 73 22 3a 2d 31 7d
"""


def read(data: bytes, salts: tuple[bytes, ...] = (SALT,)) -> Ballot:
    return decode(data, GROUP_ID, MEMBERS, salts)


def reason(data: bytes, salts: tuple[bytes, ...] = (SALT,)) -> Reason:
    try:
        read(data, salts)
    except BallotRefused as refusal:
        assert str(refusal)
        return refusal.reason
    return Reason.COUNTED


def signed(value: dict[str, Any]) -> bytes:
    """Any JSON object, signed as a ballot is."""
    code = hmac.digest(SALT, canonical(value), "sha256").hex()
    return canonical({**value, "hmac": code})


FIELDS = {"id": ID, "votes": 3, "ms": MS, "rids": [GROUP_ID], "lids": []}

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_ID)
named = st.none() | st.just(OTHER)


@st.composite
def ballots(draw: st.DrawFn) -> Ballot:
    resigned = draw(st.booleans())
    lids = () if resigned else draw(st.sampled_from([(), (GROUP_ID,)]))
    names = draw(st.booleans())
    whom = draw(named) if names and not resigned else None
    return Ballot(
        ID,
        draw(st.integers(-MAX_VOTES, MAX_VOTES)),
        draw(st.integers(0, MAX_MS)),
        (GROUP_ID, *draw(st.lists(st.text("aé\U0001f9ca", min_size=1, max_size=8), max_size=5))),
        lids,
        names,
        whom,
        draw(st.integers(0, MAX_HELD_MS)) if whom else 0,
        draw(st.integers(0, MAX_MS)) if whom else 0,
        resigned,
        draw(st.integers(0, 64)) if whom else 0,
    )


class Bytes(SynchronousTestCase):
    def test_documented(self) -> None:
        """A ballot with the documented fields alone, to the byte."""
        expected = (
            b'{"hmac":"@","id":"0b0e5a1c-6c1d-4b7e-9f1a-2d3c4b5a6978","lids":[],"ms":1790000000000,'
            b'"rids":["6d0f4a52-93a1-4f0e-8a55-0c54b6ad8b11"],"votes":3}'
        )
        under = expected.replace(b'"hmac":"@",', b"")
        code = hmac.new(SALT, under, "sha256").hexdigest().encode()
        self.assertEqual(encode(PLAIN, SALT), expected.replace(b"@", code))
        self.assertEqual(encode(PLAIN, SALT), bytes.fromhex(HEX_PLAIN))

    def test_naming(self) -> None:
        """`for`, `heard`, `hears` and `held` stand among the others, sorted, under the signature."""
        expected = (
            b'{"for":"7f2d9b34-1a2b-4c3d-8e4f-506172839405","heard":1789999995000,"hears":3,"held":12345,"hmac":"@",'
            b'"id":"0b0e5a1c-6c1d-4b7e-9f1a-2d3c4b5a6978","lids":["6d0f4a52-93a1-4f0e-8a55-0c54b6ad8b11"],'
            b'"ms":1790000000000,"rids":["6d0f4a52-93a1-4f0e-8a55-0c54b6ad8b11"],"votes":3}'
        )
        code = hmac.new(SALT, expected.replace(b'"hmac":"@",', b""), "sha256").hexdigest().encode()
        self.assertEqual(encode(NAMING, SALT), expected.replace(b"@", code))

    def test_resignation(self) -> None:
        """A resignation: votes −1, nothing led, nobody named, and the word itself; in full, as bytes."""
        self.assertEqual(encode(RESIGNED, SALT), bytes.fromhex(HEX_RESIGNED))
        self.assertEqual(read(bytes.fromhex(HEX_RESIGNED)), RESIGNED)

    @settings(max_examples=100, deadline=None)
    @given(ballots())
    def test_round_trip(self, ballot: Ballot) -> None:
        """What is encoded is decoded, in one datagram."""
        data = encode(ballot, SALT)
        self.assertLessEqual(len(data), MAX_BALLOT)
        self.assertEqual(read(data), ballot)

    def test_other_spelling(self) -> None:
        """Keys in another order, white space, escapes: the same ballot, since what is signed is canonical."""
        value = {**json.loads(encode(PLAIN, SALT)), "more": "é"}
        del value["hmac"]
        data = json.dumps(dict(reversed(json.loads(signed(value)).items())), indent=2).encode()
        self.assertIn(rb"\u00e9", data)
        self.assertEqual(read(data), PLAIN)

    @settings(max_examples=200, deadline=None)
    @given(
        ballots(),
        st.dictionaries(
            st.sampled_from(["id", "votes", "ms", "rids", "lids", "for", "held", "heard", "hears", "resigned", "x"]),
            st.sampled_from(
                [None, True, False, 0, 1, -1, 1.0, 2**53, 2**70, "", "x", ID, OTHER, "\"", "x" * 65, [], [GROUP_ID], [""], [1], {}]
            ),
            max_size=3,
        ),
    )  # fmt: skip
    def test_spelling_decides_nothing(self, ballot: Ballot, others: dict[str, object]) -> None:
        """Whatever a member has signed comes to the same, with or without white space: ours are read by a shorter way."""
        data = signed(
            {**{k: v for k, v in json.loads(encode(ballot, SALT)).items() if k != "hmac"}, **others}
        )
        spaced = data.replace(b'","', b'", "') if b'", "' not in data else data
        told = []
        for spelling in (data, b" " + data, spaced):
            try:
                told.append(repr(read(spelling)))
            except BallotRefused as refusal:
                told.append(str(refusal.reason))
        self.assertEqual(len(set(told)), 1, told)

    @settings(max_examples=100, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=6),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
            ),
        )
    )
    def test_canonical(self, value: object) -> None:
        """Sorted keys, no white space, nothing escaped that need not be: as any other maker of JSON would write it who is told so."""
        self.assertEqual(
            canonical(value),
            json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(),
        )

    def test_inserted(self) -> None:
        """A code that stands anywhere else than among the ballot's own keys makes no ballot."""
        value = {**FIELDS, "x": {"a": 1, "id": 2}, "y": ['"', "a"]}
        under = canonical(value)
        code = b'"hmac":"%s",' % hmac.digest(SALT, under, "sha256").hex().encode()
        found = [
            at for at in range(len(under) + 1) if reason(under[:at] + code + under[at:]) is Reason.COUNTED
        ]
        tops = [under.index(b'"%s":' % key.encode()) for key in sorted(FIELDS)]
        self.assertEqual(found, sorted([*tops, under.index(b'"x":'), under.index(b'"y":')]))
        under = canonical({**FIELDS, "hmac": "0" * 64})  # signed by a member who has lost its mind
        code = b'"hmac":"%s",' % hmac.digest(SALT, under, "sha256").hex().encode()
        self.assertEqual(reason(b"{" + code + under[1:]), Reason.REPEATED_KEY)

    def test_two_salts(self) -> None:
        """While salts are changed, either is accepted."""
        data = encode(PLAIN, b"the next one, of 32 bytes or so")
        self.assertEqual(reason(data), Reason.HMAC)
        self.assertEqual(reason(data, (SALT, b"the next one, of 32 bytes or so")), Reason.COUNTED)
        self.assertEqual(reason(data, ()), Reason.HMAC)


class Refusals(SynchronousTestCase):
    def test_truncated(self) -> None:
        """A ballot that ends early, wherever, is none."""
        for ballot in (PLAIN, NAMING, RESIGNED):
            data = encode(ballot, SALT)
            for length in range(len(data)):
                self.assertIn(reason(data[:length]), (Reason.JSON, Reason.SIZE), length)

    def test_every_bit(self) -> None:
        """No bit of a ballot can be changed unnoticed."""
        data = encode(NAMING, SALT)
        for place in range(len(data)):
            for bit in (1, 4, 32, 128):
                changed = bytearray(data)
                changed[place] ^= bit
                self.assertNotEqual(reason(bytes(changed)), Reason.COUNTED, place)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=MAX_BALLOT + 10) | st.text(max_size=400).map(str.encode))
    def test_anything(self, data: bytes) -> None:
        """Bytes of all kinds are refused, and nothing worse happens."""
        self.assertNotEqual(reason(data), Reason.COUNTED)

    @settings(max_examples=100, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
            ),
        ),
        st.sampled_from(
            ["id", "votes", "ms", "rids", "lids", "for", "held", "heard", "hears", "resigned", "hmac"]
        ),
    )
    def test_any_field(self, value: object, key: str) -> None:
        """Whatever JSON stands in a field, the ballot is read or refused."""
        data = json.dumps({**json.loads(signed(FIELDS)), key: value}).encode()
        self.assertIsInstance(reason(data), Reason)

    def test_size(self) -> None:
        """A ballot has at most 1,200 bytes."""
        fits = signed({**FIELDS, "more": ""})
        padding = "x" * (MAX_BALLOT - len(fits))
        self.assertEqual(reason(signed({**FIELDS, "more": padding})), Reason.COUNTED)
        self.assertEqual(reason(signed({**FIELDS, "more": padding + "x"})), Reason.SIZE)
        self.assertEqual(reason(b""), Reason.SIZE)

    def test_json(self) -> None:
        """Fractions, other encodings, broken text and depth without end are no ballots."""
        for data in (
            b"[]", b"3", b"null", b"\xff", b"[" * 1_200, b'{"a":' * 200, b"\xef\xbb\xbf{}", "{}".encode("utf-16"),
            b'{"votes":1.0}', b'{"votes":1e3}', b'{"votes":NaN}', b"{} {}",
        ):  # fmt: skip
            self.assertEqual(reason(data), Reason.JSON, data)

    def test_half_a_character(self) -> None:
        """Half a surrogate pair is JSON, and no text: nothing that could have been signed."""
        data = encode(PLAIN, SALT)
        for wrong in (b'{"x":"\\ud800",', b'{"\\ud800":1,'):
            self.assertEqual(reason(wrong + data[1:]), Reason.JSON)

    def test_repeated_keys(self) -> None:
        """A key that is there twice, on top or inside, is a trick."""
        data = encode(PLAIN, SALT)
        self.assertEqual(reason(data.replace(b'{"hmac"', b'{"votes":9,"hmac"')), Reason.REPEATED_KEY)
        self.assertEqual(reason(b'{"a":{"b":1,"b":1}}'), Reason.REPEATED_KEY)
        self.assertEqual(reason(data.replace(b'"votes"', b'"vote\\u0073":3,"votes"')), Reason.REPEATED_KEY)

    def test_hmac(self) -> None:
        """The signature: 64 small digits, of this salt."""
        data = encode(PLAIN, SALT)
        value = json.loads(data)
        self.assertEqual(reason(canonical({**value, "hmac": value["hmac"].upper()})), Reason.HMAC_CASE)
        for wrong in ("", "0" * 63, "0" * 65, "g" * 64, None, 7, "０" * 64, "0" * 64 + "\n"):
            self.assertEqual(reason(canonical({**value, "hmac": wrong})), Reason.HMAC_FORM, wrong)
        self.assertEqual(reason(canonical({**value, "hmac": "0" * 64})), Reason.HMAC)
        self.assertEqual(reason(encode(PLAIN, b"another salt")), Reason.HMAC)
        del value["hmac"]
        self.assertEqual(reason(canonical(value)), Reason.HMAC_FORM)

    def test_group_and_member(self) -> None:
        """A ballot of another group, or of somebody else, is told apart before its signature is looked at."""
        self.assertEqual(reason(signed({**FIELDS, "rids": ["x"]})), Reason.WRONG_GROUP)
        self.assertEqual(reason(signed({**FIELDS, "rids": []})), Reason.WRONG_GROUP)
        self.assertEqual(reason(signed({**FIELDS, "id": "nobody"})), Reason.NOT_MEMBER)
        self.assertEqual(reason(signed({**FIELDS, "id": ID.upper()})), Reason.NOT_MEMBER)
        self.assertEqual(reason(signed({**FIELDS, "rids": ["x", GROUP_ID]})), Reason.COUNTED)

    def test_fields(self) -> None:
        """Each field must be there and be what it is."""
        for key in FIELDS:
            self.assertEqual(reason(signed({k: v for k, v in FIELDS.items() if k != key})), Reason.FIELD, key)
        wrong: list[tuple[str, list[Any]]] = [
            ("id", ["", "x" * 65, 1, None]),
            ("votes", [True, "3", None, MAX_VOTES + 1, -MAX_VOTES - 1]),
            ("ms", [True, -1, MAX_MS + 1, "1"]),
            ("rids", [GROUP_ID, [1], [""], ["x" * 65], ["x"] * 17]),
            ("lids", [{}, None, [None]]),
            ("for", ["", 1, "x" * 65]),
            ("held", [None, True, -1, MAX_HELD_MS + 1]),
            ("heard", [None, True, -1, MAX_MS + 1]),
            ("hears", [None, True, -1, 1_001]),
            ("resigned", [1, None, "true"]),
        ]
        fields = {**FIELDS, "for": OTHER, "held": 1, "heard": 1, "hears": 1}
        self.assertEqual(reason(signed(fields)), Reason.COUNTED)
        for key, values in wrong:
            for value in values:
                self.assertEqual(reason(signed({**fields, key: value})), Reason.FIELD, (key, value))
        self.assertEqual(reason(signed({**FIELDS, "for": OTHER})), Reason.FIELD)  # held and heard go with it
        self.assertEqual(reason(signed({**fields, "resigned": True})), Reason.FIELD)
        self.assertEqual(reason(signed({**FIELDS, "resigned": True, "lids": [GROUP_ID]})), Reason.FIELD)
        self.assertFalse(read(signed({**FIELDS, "resigned": False})).resigned)
