"""New missions, changes of keys, what is odd, what differs."""

import hashlib
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.mission import rekeying
from ice.mission.checking import check
from ice.mission.comparing import differences
from ice.mission.identity import effective_id
from ice.mission.making import MISSION_CONTROL, Wanted, new_key, new_mission
from ice.mission.model import CBC, GCM, GroupType, Mission
from ice.mission.parts import Host
from ice.mission.reading import read_mission
from ice.mission.weakness import weakness
from ice.mission.writing import write_mission
from ice.net.addresses import Address
from tests.unit.keys import private_key_pem
from tests.unit.mission.cases import KEY, OTHER_KEY, small, text

NOW = datetime(2026, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
RALLYPOINT = Address("rp.test", 7443)


def random_bytes(seed: int = 0) -> Any:
    """Randomness that is always the same."""
    count = itertools.count()
    return lambda size: hashlib.shake_256(bytes([seed, next(count)])).digest(size)


def made(**wanted: Any) -> Mission:
    """A new mission, as it is read by those who get it."""
    mission = new_mission(
        Wanted(**{"name": "Demo", "groups": ("Red", "Blue"), **wanted}), NOW, random_bytes()
    )
    reading = read_mission(write_mission(mission), "x")
    assert reading.remarks == ()
    return reading.mission


class Making(SynchronousTestCase):
    def test_as_it_comes(self) -> None:
        """Mission control and the groups, each with a key, a cipher that notices tampering, an address and port of its own."""
        mission = made()
        self.assertEqual([group.name for group in mission.groups], ["Red", MISSION_CONTROL, "Blue"])
        self.assertEqual(
            [group.type for group in mission.groups], [GroupType.AUDIO, GroupType.PRESENCE, GroupType.AUDIO]
        )
        self.assertEqual({group.cipher for group in mission.groups}, {GCM})
        keys = {group.crypto_password for group in mission.groups}
        self.assertEqual(len(keys), 3)
        places = {group.rx for group in mission.groups}
        self.assertEqual(len({(place.address, place.port) for place in places if place}), 3)
        for group in mission.groups:
            assert group.rx is not None and group.crypto_password is not None
            self.assertRegex(
                group.rx.address, r"^239\.19[2-5]\.([1-9]|[1-9]\d|1\d\d|2[0-4]\d|25[0-4])\.[1-3]$"
            )
            self.assertEqual((group.rx, group.rx.port % 2), (group.tx, 0))
            self.assertEqual(len(bytes.fromhex(group.crypto_password)), 32)
            self.assertEqual(effective_id(group), group.id)
        self.assertEqual(mission.meta.created, "2026-05-06T07:08:09.123Z")
        self.assertEqual([str(each) for each in check(read_mission(write_mission(mission), "x"), NOW)], [])

    def test_with_rallypoints(self) -> None:
        """All groups meet there, in order, and fall over to multicast; or have no multicast at all."""
        mission = made(rallypoints=[RALLYPOINT, Address("b.test", 1)])
        for group in mission.groups:
            self.assertEqual(
                [each.host for each in group.rallypoints], [Host("rp.test", 7443), Host("b.test", 1)]
            )
            self.assertTrue(group.enable_multicast_failover)
        for group in made(rallypoints=[RALLYPOINT], on_multicast=False).groups:
            self.assertEqual((group.rx, group.tx, group.enable_multicast_failover), (None, None, False))

    def test_wishes(self) -> None:
        """Addresses counted from a given one, IPv6 too; groups in clear; the original's cipher; no mission control."""
        mission = made(
            multicast=Address("239.1.2.254", 30000), mission_control=False, clear=["Blue"], cipher=CBC, ttl=8
        )
        red, blue = mission.groups
        self.assertEqual((red.rx, blue.rx), (Host("239.1.2.254", 30000), Host("239.1.2.255", 30002)))
        self.assertEqual((red.cipher, blue.crypto_password, red.tx_options.ttl), (CBC, None, 8))
        six = made(multicast=Address("ff18::1:ffff", 30000))
        self.assertEqual(
            {group.rx.address for group in six.groups if group.rx}, {"ff18::1:ffff", "ff18::2:0", "ff18::2:1"}
        )

    def test_two_never_share(self) -> None:
        """Keys come from the system's randomness."""
        self.assertEqual(len({new_key() for _ in range(100)}), 100)

    def test_refusals(self) -> None:
        """What cannot be a mission is refused with the reason."""
        for wanted, words in (
            ({"name": " "}, "has a name"),
            ({"groups": ("Red", "Red")}, 'called "Red"'),
            ({"groups": (MISSION_CONTROL,)}, MISSION_CONTROL),
            ({"groups": ("",)}, "has a name"),
            ({"groups": (), "mission_control": False}, "--group"),
            ({"on_multicast": False}, "nobody"),
            ({"multicast": Address("10.0.0.1", 5)}, "no multicast"),
            ({"multicast": Address("host", 5)}, "no multicast"),
            ({"multicast": Address("239.255.255.255", 5)}, "begin lower"),
            ({"multicast": Address("239.1.1.1", 65_534)}, "begin lower"),
            ({"clear": ("Green",)}, "Green"),
            ({"groups": tuple(map(str, range(300)))}, "at most"),
        ):
            with self.assertRaises(LocalError) as caught:
                made(**wanted)
            self.assertIn(words, str(caught.exception))


class Rekeying(SynchronousTestCase):
    AT = NOW + timedelta(days=1)

    def begun(self, names: Sequence[str] = (), **wanted: Any) -> tuple[Mission, Mission]:
        """A mission, and the same in the middle of a change, as it is read."""
        mission = made(**wanted)
        changed = rekeying.begin(mission, names, self.AT, 3600, random_bytes(1))
        return mission, read_mission(write_mission(changed), "x").mission

    def test_begin(self) -> None:
        """Each group has a next key beside its own, and its id."""
        before, during = self.begun()
        for old, new in zip(before.groups, during.groups, strict=True):
            assert new.rekey is not None
            self.assertEqual((new.id, new.crypto_password), (old.id, old.crypto_password))
            self.assertNotEqual(new.rekey.crypto_password, new.crypto_password)
            self.assertEqual((new.rekey.at, new.rekey.overlap_s), (self.AT.replace(microsecond=0), 3600))
            self.assertEqual(rekeying.end(new.rekey), self.AT.replace(microsecond=0) + timedelta(hours=1))

    def test_finish(self) -> None:
        """Afterwards the next key is the only one, and the id is kept, also by those who read the file anew."""
        before, during = self.begun()
        after = rekeying.finish(during, (), self.AT + timedelta(hours=2))
        again = read_mission(write_mission(after), "x")
        self.assertEqual(again.remarks, ())
        for old, middle, new in zip(before.groups, during.groups, again.mission.groups, strict=True):
            assert middle.rekey is not None
            self.assertEqual((new.id, new.id_override, new.rekey), (old.id, True, None))
            self.assertEqual(new.crypto_password, middle.rekey.crypto_password)
        second = rekeying.begin(again.mission, (), self.AT, 1, random_bytes())
        self.assertEqual([group.id for group in second.groups], [group.id for group in before.groups])

    def test_one_group(self) -> None:
        """One group may be changed, by name or id; the others stay."""
        before, during = self.begun(["Blue"])
        self.assertEqual([group.rekey is not None for group in during.groups], [False, False, True])
        named = rekeying.begin(before, [before.groups[0].id], self.AT, 1)
        self.assertEqual([group.rekey is not None for group in named.groups], [True, False, False])

    def test_refusals(self) -> None:
        """Unknown, in clear, in the middle of a change, or too early: refused, with what to do."""
        before, during = self.begun(clear=["Blue"])
        self.assertEqual([group.rekey is not None for group in during.groups], [True, True, False])
        for change, words in (
            (lambda: rekeying.begin(before, ["Green"], self.AT, 1), "there are: Red"),
            (lambda: rekeying.begin(before, ["Blue"], self.AT, 1), "in clear"),
            (lambda: rekeying.begin(during, ["Red"], self.AT, 1), "--finish"),
            (lambda: rekeying.finish(before, (), NOW), "no group"),
            (lambda: rekeying.finish(before, ["Red"], NOW), "not changing"),
            (lambda: rekeying.finish(during, (), self.AT), "fall silent"),
        ):
            with self.assertRaises(LocalError) as caught:
                change()
            self.assertIn(words, str(caught.exception))
        self.assertIsNone(rekeying.finish(during, (), self.AT, early=True).groups[0].rekey)


class Checking(SynchronousTestCase):
    def said(self, value: Any, now: datetime = NOW) -> str:
        """All warnings, one per line."""
        source = value if isinstance(value, str) else text(value)
        return "\n".join(str(each) for each in check(read_mission(source, "x"), now) if each.serious)

    def noted(self, value: Any) -> str:
        """All notes, one per line."""
        return "\n".join(str(each) for each in check(read_mission(text(value), "x"), NOW) if not each.serious)

    def two(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """A mission with two groups."""
        value = small(**one)
        value["groups"].append({**small(**{"name": "Blue", **other})["groups"][0]})
        return value

    def test_mission_control(self) -> None:
        """There is to be exactly one."""
        self.assertIn("no group is mission control", self.said(small()))
        self.assertIn(
            '2 groups are mission control (type 2), "Red", "Blue"',
            self.said(self.two({"type": 2}, {"type": 2})),
        )
        self.assertNotIn("mission control", self.said(small(type=2)))

    def test_one_place_for_two(self) -> None:
        """Two groups that receive at one place hear each other; why is told, with and without keys."""
        clear = self.said(self.two({}, {}))
        self.assertIn(
            '"Red" and "Blue" receive at 239.9.9.1:20000: on multicast what is said in one is heard', clear
        )
        self.assertIn(
            "cannot decrypt", self.said(self.two({"cryptoPassword": KEY}, {"cryptoPassword": OTHER_KEY}))
        )
        other = {"rx": {"address": "239.9.9.1", "port": 20002}}
        self.assertNotIn("receive at", self.said(self.two({}, other)))

    def test_doubles(self) -> None:
        """Two groups of one name, one id, one key."""
        said = self.said(self.two({"cryptoPassword": KEY}, {"name": "Red", "cryptoPassword": KEY.lower()}))
        self.assertIn('2 groups are called "Red"', said)
        self.assertIn('"Red" and "Red" have one key', said)
        same = self.said(self.two({"id": "{X}", "idOverride": True}, {"id": "x", "idOverride": True}))
        self.assertIn('"Red" and "Blue" have one id, x', same)

    def test_ids_that_do_not_fit(self) -> None:
        """They are remarked upon in reading, and so here."""
        self.assertIn("groups[0].id", self.said(small(id="other")))

    def test_weak_keys(self) -> None:
        """A key that is made of a word is told, and is not repeated."""
        for key in (hashlib.sha256(b"red").hexdigest(), hashlib.sha256(b"Demo").hexdigest(), "00" * 32):
            said = self.said(small(cryptoPassword=key))
            self.assertIn("groups[0].cryptoPassword", said)
            self.assertNotIn(key, said)
        self.assertNotIn("cryptoPassword", self.said(small(cryptoPassword=KEY)))
        change = {"cryptoPassword": "AA" * 32, "at": "2027-01-01"}
        self.assertIn("rekey.cryptoPassword", self.said(small(cryptoPassword=KEY, rekey=change)))

    def test_changes_of_keys(self) -> None:
        """One that is over wants to be finished; one to the same key is none."""
        over = small(
            cryptoPassword=KEY, rekey={"cryptoPassword": OTHER_KEY, "at": "2026-01-01", "overlapSecs": 60}
        )
        self.assertIn("--finish", self.said(over))
        self.assertIn(
            "the old one",
            self.said(small(cryptoPassword=KEY, rekey={"cryptoPassword": KEY, "at": "2027-01-01"})),
        )
        ahead = small(cryptoPassword=KEY, rekey={"cryptoPassword": OTHER_KEY, "at": "2027-01-01"})
        self.assertIn("the key changes at 2027-01-01T00:00:00Z", self.noted(ahead))

    def test_places(self) -> None:
        """Nowhere to be reached, half of a place, no port, no address, nothing to fall back to."""
        self.assertIn("nobody can be reached", self.said(small(rx=None, tx=None, rallypoints=None)))
        self.assertIn("groups[0].tx: is missing", self.said(small(tx=None, rallypoints=None)))
        self.assertIn("groups[0].rx.port", self.said(small(rx={"address": "239.1.1.1"})))
        self.assertIn('"host" is no IP address', self.said(small(rx={"address": "host", "port": 1})))
        self.assertIn("cannot be dialled", self.said(small(rallypoints=[{}])))
        self.assertIn("fall back", self.said(small(rx=None, tx=None, enableMulticastFailover=True)))
        self.assertIn("public multicast", self.noted(small(rx={"address": "234.1.1.1", "port": 1})))
        self.assertIn("another place", self.noted(small(tx={"address": "239.1.1.1", "port": 1})))

    def test_secrets_that_travel(self) -> None:
        """A private key in a mission is everybody's; a Rallypoint that is not verified is anybody."""
        host = {"host": {"address": "a.test", "port": 1}}
        key = private_key_pem()
        self.assertIn("is a private key", self.said(small(rallypoints=[{**host, "certificateKey": key}])))
        self.assertIn("pose as", self.said(small(rallypoints=[{**host, "verifyPeer": False}])))

    def test_notes(self) -> None:
        """In clear, the original's cipher, long names, Engage's files, too large for a QR code."""
        self.assertIn('"Red" is in clear', self.noted(small()))
        self.assertIn("1 of 1 use aes-256-cbc", self.noted(small(cryptoPassword=KEY)))
        self.assertNotIn("aes-256-cbc", self.noted(small(cryptoPassword=KEY, cipher=GCM)))
        self.assertIn("groups[0].name: has 17", self.noted(small(name="x" * 17)))
        self.assertIn("neither audio", self.noted(small(type=3)))
        value = small()
        del value["meta"]
        self.assertIn("Engage", self.noted(value))
        noise = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(200))
        self.assertIn("more than a QR code holds", self.noted(small(description=noise)))


class Weakness(SynchronousTestCase):
    def test_what_people_do(self) -> None:
        """Text as hex, hashes of words and names, patterns, too few bytes."""
        for key, words in (
            (b"correct horse battery staple 123".hex(), "text"),
            ("ab" * 32, "after 1 byte"),
            ("abcd" * 16, "after 2 bytes"),
            (bytes(range(32)).hex(), "evenly"),
            (bytes(range(64, 0, -2)).hex(), "evenly"),
            (("00" * 29) + "010203", "different"),
            (hashlib.sha256(b"password").hexdigest(), "hash"),
            (hashlib.sha256(b"password\n").hexdigest(), "hash"),
            (hashlib.sha512(b"Secret123").hexdigest()[:64], "hash"),
            (hashlib.md5(b"alpha").hexdigest(), "hash"),
            (hashlib.md5(b"alpha").hexdigest() * 2, "after 16"),
            (hashlib.sha1(b"admin").hexdigest() + "00" * 12, "hash"),
            (hashlib.sha256(b"").hexdigest(), "hash"),
            (hashlib.sha256(b"Own Name").hexdigest(), "hash"),
            ("a1f34402c7", "bytes"),
        ):
            self.assertIn(words, str(weakness(key, ["Own Name"])), key)

    @given(st.binary(min_size=32, max_size=32).map(lambda each: hashlib.sha256(each).hexdigest()))
    @settings(max_examples=50, deadline=None)
    def test_random_keys(self, key: str) -> None:
        """A random key is not suspected."""
        self.assertIsNone(weakness(key))


class Comparing(SynchronousTestCase):
    def lines(self, one: Any, other: Any) -> list[str]:
        """The differences of two files."""
        before, after = (read_mission(text(each), "x").mission for each in (one, other))
        return [f"{each.group}|{each}" for each in differences(before, after)]

    def test_the_same(self) -> None:
        """A mission does not differ from itself, nor from itself in another order or spelling."""
        self.assertEqual(self.lines(small(), small()), [])
        self.assertEqual(
            self.lines(small(), small(timeline={"enabled": True}, txOptions={"priority": 4})), []
        )

    def test_per_group(self) -> None:
        """What changed, by group and key; the id follows."""
        found = self.lines(
            small(),
            small(
                rx={"address": "239.9.9.7", "port": 20000},
                txAudio={"encoder": 25, "framingMs": 20, "maxTxSecs": 120},
                x=1,
            ),
        )
        self.assertEqual(
            found[1:],
            [
                'Red|rx.address: "239.9.9.1" → "239.9.9.7"',
                "Red|txAudio.framingMs: 60 → 20",
                "Red|x: 1, was not there",
            ],
        )
        self.assertTrue(found[0].startswith("Red|id: "))

    def test_keys_are_not_shown(self) -> None:
        """That a key changed is told, not how."""
        for one, other, words in (
            (small(), small(cryptoPassword=KEY), "cryptoPassword: a key, was not there"),
            (
                small(cryptoPassword=KEY),
                small(cryptoPassword=OTHER_KEY),
                "cryptoPassword: a key → another key",
            ),
            (small(cryptoPassword=KEY), small(), "cryptoPassword: a key, is gone"),
            (
                small(cryptoPassword=KEY),
                small(cryptoPassword=KEY, rekey={"cryptoPassword": OTHER_KEY, "at": "2027-01-01"}),
                "rekey: {a key, at 2027-01-01T00:00:00Z}, was not there",
            ),
        ):
            found = "\n".join(self.lines(one, other))
            self.assertIn(words, found)
            self.assertNotIn(KEY, found)
            self.assertNotIn(OTHER_KEY, found)

    def test_groups_come_and_go(self) -> None:
        """New and gone groups are told; a renamed one with the same id is the same."""
        more = small()
        more["groups"].append({"type": 1, "name": "Blue"})
        self.assertEqual(self.lines(small(), more), ["Blue|is new"])
        self.assertEqual(self.lines(more, small()), ["Blue|is gone"])
        renamed = self.lines(small(id="x", idOverride=True), small(id="x", idOverride=True, name="Rot"))
        self.assertEqual(renamed, ['Red|name: "Red" → "Rot"'])

    def test_rallypoints(self) -> None:
        """A Rallypoint more, and one that moved."""
        one = [{"host": {"address": "a.test", "port": 1}}]
        two = [{"host": {"address": "a.test", "port": 2}}, {"host": {"address": "b.test", "port": 3}}]
        found = self.lines(small(rallypoints=one), small(rallypoints=two))
        self.assertEqual(
            found[1:],
            [
                "Red|rallypoints[0].host.port: 1 → 2",
                'Red|rallypoints[1]: {{address "b.test", port 3}}, was not there',
            ],
        )

    def test_evolved(self) -> None:
        """Missions in memory are compared as those from files."""
        mission = made()
        self.assertEqual(differences(mission, attrs.evolve(mission, description="x"))[0].path, "description")
