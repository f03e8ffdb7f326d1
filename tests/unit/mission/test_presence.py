"""Presence as JSON: what is written, what is read in whatever state it comes, and what fits into a datagram."""

import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.mission.presence import (
    MAX_READ,
    MAX_SENT,
    Connectivity,
    Descriptor,
    Form,
    GroupAlias,
    Identity,
    Kind,
    Location,
    Power,
    PresenceError,
    Reason,
    fitted,
    read_descriptor,
    write_descriptor,
)
from ice.mission.presence_wire import read, write
from tests.unit.mission.fuzz_presence import FULL, fuzz_presence
from tests.unit.mission.presence_values import descriptors

# The whole state of somebody on foot, as it is on the wire.
WIRE = bytes.fromhex(
    "7b227473223a313830303030303030302c226e657874557064617465223a313830303030303033302c226964656e74697479223a7b226e6f64654964223a226e2d31"
    "222c22646973706c61794e616d65223a22416e6e61227d2c22636f6d6d656e74223a226174207468652067617465222c22646973706f736974696f6e223a332c226c"
    "6f636174696f6e223a7b226c61746974756465223a34372e352c226c6f6e676974756465223a382e32357d2c22706f776572223a7b22736f75726365223a312c2273"
    "74617465223a322c226c6576656c223a38337d7d"
)
ANNA = Descriptor(
    Identity("n-1", display_name="Anna"),
    ts=1_800_000_000,
    next_update=1_800_000_030,
    comment="at the gate",
    disposition=3,
    location=Location(47.5, 8.25),
    power=Power(1, 2, 83),
)


def told(**keys: Any) -> bytes:
    """A small descriptor with these keys."""
    return json.dumps({"ts": 5, "nextUpdate": 35, "identity": {"nodeId": "n"}, **keys}).encode()


class Writing(SynchronousTestCase):
    def test_wire(self) -> None:
        """A descriptor is compact JSON in the original's order, byte for byte, and reads back as it was."""
        self.assertEqual(write_descriptor(ANNA), WIRE)
        self.assertEqual(read_descriptor(WIRE).descriptor, ANNA)

    def test_everything(self) -> None:
        """Every field has its key."""
        written = json.loads(write_descriptor(attrs.evolve(FULL, self_made=True)))
        self.assertEqual(
            written,
            {
                "self": True,
                "ts": 1_800_000_000,
                "nextUpdate": 1_800_000_030,
                "identity": {
                    "nodeId": "7f1c2a52-0e7a-4b7e-9a51-1f0c5b6c7d8e",
                    "userId": "anna@example.net",
                    "displayName": "Anna",
                    "avatar": "avatar-7",
                },
                "comment": "at the north gate",
                "disposition": 3,
                "groupAliases": [
                    {"groupId": "red", "alias": "A-1", "status": 2},
                    {"groupId": "blue", "alias": "A-2", "status": 0},
                ],
                "location": {
                    "ts": 1_799_999_990,
                    "latitude": 47.3769,
                    "longitude": 8.5417,
                    "altitude": 408.0,
                    "direction": 271.5,
                    "speed": 1.4,
                },
                "custom": '{"team":7}',
                "announceOnReceive": True,
                "connectivity": {"type": 3, "strength": -71, "rating": 4},
                "power": {"source": 1, "state": 2, "level": 83},
            },
        )

    def test_nothing(self) -> None:
        """What is not known is not written: no location, no connectivity of type 0, no power with a 0 in it, no self."""
        bare = Descriptor(
            Identity("n"), ts=1, next_update=2, connectivity=Connectivity(0, -60), power=Power(1, 2, 0)
        )
        self.assertEqual(
            json.loads(write_descriptor(bare)),
            {"ts": 1, "nextUpdate": 2, "identity": {"nodeId": "n"}, "disposition": 0},
        )

    @settings(max_examples=100, deadline=None)
    @given(descriptors)
    def test_round_trip(self, descriptor: Descriptor) -> None:
        """What was written is read, whole and without a remark."""
        read_back = read(write(Kind.PRESENCE, descriptor, Form.JSON, MAX_READ)[0])
        self.assertEqual(read_back.descriptor, descriptor)
        self.assertEqual((read_back.kind, read_back.remarks), (Kind.PRESENCE, ()))


class Reading(SynchronousTestCase):
    def test_unset(self) -> None:
        """The original's −999.999 is a number that is not known; without a latitude and a longitude there is no location."""
        place = {
            "latitude": 1,
            "longitude": 2,
            "altitude": -999.999,
            "direction": -999.999,
            "speed": -999.999,
        }
        self.assertEqual(read(told(location=place)).descriptor.location, Location(1.0, 2.0))
        self.assertIsNone(read(told(location={"latitude": -999.999, "longitude": 2})).descriptor.location)
        self.assertIsNone(read(told(location={"longitude": 2})).descriptor.location)

    def test_not_on_earth(self) -> None:
        """A place that is not on earth is no place, and is remarked."""
        told_ = read(told(location={"latitude": 91, "longitude": 0}))
        self.assertIsNone(told_.descriptor.location)
        self.assertEqual([each.path for each in told_.remarks], ["location"])

    def test_tolerance(self) -> None:
        """A wrong type counts as absent, with a remark that names the place; the rest is read."""
        told_ = read(
            told(comment=7, disposition="3", groupAliases={"a": 1}, power=[], announceOnReceive="yes")
        )
        self.assertEqual(told_.descriptor, Descriptor(Identity("n"), ts=5, next_update=35))
        self.assertEqual(
            {each.path for each in told_.remarks},
            {"comment", "disposition", "groupAliases", "power", "announceOnReceive"},
        )

    def test_partial_power(self) -> None:
        """Power and connectivity with a 0 where something must be known are not known at all."""
        told_ = read(
            told(power={"source": 1, "state": 0, "level": 5}, connectivity={"type": 0, "strength": -6})
        )
        self.assertEqual((told_.descriptor.power, told_.descriptor.connectivity), (None, None))

    def test_custom_object(self) -> None:
        """An application's object where its text belongs is kept as text."""
        self.assertEqual(read(told(custom={"a": [1.5]})).descriptor.custom, '{"a":[1.5]}')

    def test_leaving(self) -> None:
        """The next update at the time of this one is a good-bye; without a time it is not."""
        self.assertIs(read(told(nextUpdate=5)).kind, Kind.LEAVING)
        self.assertIs(read(told(ts=0, nextUpdate=0)).kind, Kind.PRESENCE)

    def test_texts_can_be_written(self) -> None:
        """Halves of UTF-16 pairs, which JSON can smuggle in, do not come out again; node ids are one printable line."""
        told_ = read(b'{"identity":{"nodeId":" a\\u001bb ","displayName":"\\ud800x"}}')
        self.assertEqual(told_.descriptor.identity, Identity("a\ufffdb", display_name="\ufffdx"))

    def test_bounds(self) -> None:
        """Texts, lists and whole datagrams are bounded."""
        aliases = [{"groupId": "g"}] * 400
        told_ = read(
            json.dumps({"identity": {"nodeId": "n" * 500}, "groupAliases": aliases}).encode()[:MAX_READ]
        )
        self.assertEqual(len(told_.descriptor.group_aliases), 128)
        self.assertEqual(len(told_.descriptor.identity.node_id), 128)
        self.assertEqual(len(read(told(comment="c" * 5_000)).descriptor.comment), 2_048)

    def test_refusals(self) -> None:
        """What is no presence is refused under a name of its own."""
        for payload, reason in (
            (b"{" + b" " * MAX_READ + b"}", Reason.TOO_LARGE),
            (b"", Reason.FORMAT),
            (b"\x80\x76\x12\x34", Reason.FORMAT),
            (b"\xbf\x01\xbf\x0a\x00", Reason.PROTOBUF),
            (b"{", Reason.JSON),
            (b'{"a":NaN}', Reason.JSON),
            (b'{"a":' + b"[" * 3_000, Reason.JSON),
            (b'{"a":"\xff"}', Reason.JSON),
            (b'{"ts":1}', Reason.NOBODY),
            (b'{"identity":{"nodeId":"  "}}', Reason.NOBODY),
        ):
            with self.assertRaises(PresenceError) as caught:
                read(payload)
            self.assertEqual(caught.exception.reason, reason, payload[:20])

    def test_truncations(self) -> None:
        """A descriptor cut anywhere is refused as JSON."""
        for length in range(1, len(WIRE)):
            with self.assertRaises(PresenceError) as caught:
                read(WIRE[:length])
            self.assertIs(caught.exception.reason, Reason.JSON)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: b'{"identity":' + rest))
    def test_anything(self, payload: bytes) -> None:
        """Nothing but a PresenceError comes of reading."""
        try:
            read(payload)
        except PresenceError as error:
            self.assertTrue(str(error))

    def test_mutations(self) -> None:
        """Some hundred mutated datagrams of both kinds end in a person or a refusal."""
        self.assertEqual(fuzz_presence(7, 600).total(), 600)


class Fitting(SynchronousTestCase):
    def test_fits(self) -> None:
        """What fits is not touched."""
        self.assertEqual(fitted(FULL, write_descriptor), (write_descriptor(FULL), ()))

    def test_order(self) -> None:
        """Avatar, custom text, aliases, comment, user id, name: in this order, and only as far as needed."""
        long = attrs.evolve(
            FULL,
            identity=attrs.evolve(FULL.identity, avatar="a" * 900, user_id="u" * 30),
            custom="c" * 900,
            comment="b" * 300,
        )
        data, given_up = fitted(long, write_descriptor)
        self.assertEqual(given_up, ("avatar", "custom"))
        self.assertEqual(read(data).descriptor.comment, long.comment)
        longer = attrs.evolve(long, comment="b" * 1_500)
        data, given_up = fitted(longer, write_descriptor)
        self.assertEqual(given_up, ("avatar", "custom", "group_aliases", "comment"))
        comment = read(data).descriptor.comment
        self.assertTrue(comment.endswith("b…"))
        self.assertGreater(len(data), MAX_SENT - 4)
        self.assertEqual(read(data).descriptor.identity.user_id, "u" * 30)

    def test_some_aliases(self) -> None:
        """Of many aliases the first ones stay."""
        many = attrs.evolve(FULL, group_aliases=tuple(GroupAlias(f"group-{n}", "x" * 40) for n in range(40)))
        data, given_up = fitted(many, write_descriptor)
        self.assertEqual(given_up, ("avatar", "custom", "group_aliases"))
        kept = read(data).descriptor.group_aliases
        self.assertTrue(5 < len(kept) < 40)
        self.assertEqual(kept, many.group_aliases[: len(kept)])

    def test_never_given_up(self) -> None:
        """Who, where, how powered, and an emergency are always told; where not even they fit, it is our own mistake."""
        huge = attrs.evolve(
            FULL, identity=Identity("n" * 100, "u" * 2_000, "d" * 2_000, "a" * 2_000), comment="c" * 2_000
        )
        for form in Form:
            data, _ = write(Kind.PRESENCE, huge, form)
            self.assertLessEqual(len(data), MAX_SENT)
            kept = read(data).descriptor
            self.assertEqual(kept.location, FULL.location)
            self.assertEqual((kept.power, kept.disposition, kept.ts), (FULL.power, 3, FULL.ts))
            self.assertEqual(kept.identity.node_id, "n" * 100)
            self.assertTrue(kept.identity.display_name.startswith("d" * 40))
        with self.assertRaises(LocalError):
            write(Kind.PRESENCE, attrs.evolve(FULL, identity=Identity("n" * 2_000)), Form.JSON)

    @settings(max_examples=60, deadline=None)
    @given(descriptors, st.integers(700, MAX_SENT), st.sampled_from(Form))
    def test_any(self, descriptor: Descriptor, limit: int, form: Form) -> None:
        """Whatever is shortened still fits, reads, and tells who and where."""
        big = attrs.evolve(descriptor, comment=descriptor.comment + "é\n<" * 400)
        data, given_up = write(Kind.PRESENCE, big, form, limit)
        self.assertLessEqual(len(data), limit)
        self.assertTrue(given_up)
        kept = read(data).descriptor
        self.assertEqual(kept.identity.node_id, big.identity.node_id)
        self.assertEqual(kept.location, big.location)
