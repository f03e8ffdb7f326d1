"""Ids by the recipe, against a calculation of their own and against vectors."""

import copy
import hashlib
import uuid
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.mission.identity import NAMESPACE, effective_id, group_id, mission_id, renewed, stream_id
from ice.mission.model import Group, GroupType, Mission, Origin
from ice.mission.parts import Host, Rallypoint
from ice.mission.reading import read_mission
from tests.unit.mission.cases import KEY, OTHER_KEY, SMALL, small, text

SPACE = bytes.fromhex("d15fbc09ad8b4080be3c15ab56d08d00")


def by_hand(name: str) -> str:
    """RFC 4122 section 4.3 in four lines: SHA-1 of namespace and name, version 5, variant 10."""
    digest = bytearray(hashlib.sha1(SPACE + name.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return "{}-{}-{}-{}-{}".format(
        *(bytes(digest[a:b]).hex() for a, b in ((0, 4), (4, 6), (6, 8), (8, 10), (10, 16)))
    )


def id_of(value: dict[str, Any]) -> str:
    """The id of the first group of a mission, read from JSON."""
    return read_mission(text(value), "x").mission.groups[0].id


class Recipe(SynchronousTestCase):
    def test_namespace(self) -> None:
        """The documented namespace."""
        self.assertEqual(NAMESPACE.bytes, SPACE)

    def test_vectors(self) -> None:
        """Known contents have known ids."""
        self.assertEqual(mission_id("Demo"), "1602115d-4eca-561b-a472-04a41f617f52")
        self.assertEqual(id_of(SMALL), "9eb9582e-d509-5fdf-b2d6-743355f4d532")
        two = [{"host": {"address": "a.test", "port": 7443}}, {"host": {"address": "b.test", "port": 7444}}]
        self.assertEqual(
            id_of(small(cryptoPassword="AABB", rallypoints=two)), "59337fba-e217-56f5-a49b-77d401aff30b"
        )
        self.assertEqual(
            id_of(small(name="Control", type=2, rx=None, tx=None, rallypoints=None)),
            "945a52af-dbf9-5f41-8d68-ac3d4bb1331f",
        )

    def test_what_goes_in(self) -> None:
        """Name, type, key as written, rx, tx, Rallypoints in order; nothing between them."""
        place = "239.9.9.120000"
        for changes, name in (
            ({}, f"Red1{place}{place}rp.test7443"),
            ({"cryptoPassword": KEY}, f"Red1{KEY}{place}{place}rp.test7443"),
            ({"cryptoPassword": KEY.lower()}, f"Red1{KEY.lower()}{place}{place}rp.test7443"),
            ({"name": "Grün"}, f"Grün1{place}{place}rp.test7443"),
            ({"tx": {"address": "239.9.9.2", "port": 20002}}, f"Red1{place}239.9.9.220002rp.test7443"),
        ):
            self.assertEqual(id_of(small(**changes)), by_hand(name), changes)

    def test_what_is_absent_contributes_nothing(self) -> None:
        """No rx, no port, no type: nothing in their place; a port that is written as 0 is there."""
        for changes, name in (
            ({"rx": None}, "Red1239.9.9.120000rp.test7443"),
            ({"rx": None, "tx": None, "rallypoints": None}, "Red1"),
            ({"rx": {"address": "239.9.9.1"}, "tx": None, "rallypoints": []}, "Red1239.9.9.1"),
            ({"rx": {"address": "", "port": 0}, "tx": None, "rallypoints": None}, "Red10"),
            ({"type": None, "rx": None, "tx": None, "rallypoints": None}, "Red"),
            ({"type": 0, "rx": None, "tx": None, "rallypoints": None}, "Red0"),
        ):
            self.assertEqual(id_of(small(**changes)), by_hand(name), changes)

    def test_a_cluster_counts_where_rallypoints_are_absent(self) -> None:
        """Its members, in order; not beside a list of Rallypoints."""
        cluster = {
            "rallypoints": [
                {"host": {"address": "c.test", "port": 1}},
                {"host": {"address": "d.test", "port": 2}},
            ]
        }
        place = "239.9.9.120000"
        self.assertEqual(
            id_of(small(rallypoints=None, rallypointCluster=cluster)),
            by_hand(f"Red1{place}{place}c.test1d.test2"),
        )
        self.assertEqual(id_of(small(rallypointCluster=cluster)), by_hand(f"Red1{place}{place}rp.test7443"))

    def test_the_missions_own_rallypoint_does_not_count(self) -> None:
        """It is no part of the group."""
        value = small(rallypoints=None)
        value["rallypoint"] = {"use": True, "address": "old.test", "port": 7443}
        reading = read_mission(text(value), "x")
        group = reading.mission.groups[0]
        self.assertEqual(group.id, by_hand("Red1239.9.9.120000239.9.9.120000"))
        self.assertEqual(
            (group.rallypoints[0].host, group.rallypoints_from), (Host("old.test", 7443), Origin.MISSION)
        )

    def test_other_things_do_not_count(self) -> None:
        """Codec, description, cipher and the next key leave the id alone."""
        rekey = {"cryptoPassword": OTHER_KEY, "at": "2026-03-01T00:00:00Z"}
        before = id_of(small(cryptoPassword=KEY))
        self.assertEqual(
            id_of(
                small(
                    cryptoPassword=KEY,
                    cipher="aes-256-gcm",
                    description="x",
                    txAudio={"encoder": 1},
                    rekey=rekey,
                )
            ),
            before,
        )

    def test_half_a_surrogate(self) -> None:
        """A name that no UTF-8 holds has the id that JavaScript gives it."""
        self.assertEqual(mission_id("a\ud800b"), by_hand("a\ufffdb"))
        self.assertEqual(mission_id("a😀b"), by_hand("a😀b"))

    @given(
        st.text(),
        st.sampled_from(list(GroupType)[1:]),
        st.none() | st.binary(min_size=1, max_size=32).map(bytes.hex),
        st.lists(st.tuples(st.text(), st.integers(1, 65_535)), max_size=4),
    )
    @settings(max_examples=100, deadline=None)
    def test_against_the_calculation(
        self, name: str, kind: GroupType, key: str | None, places: list[tuple[str, int]]
    ) -> None:
        """Whatever the contents, the id is that of the joined text."""
        hosts = [Host(*place) for place in places]
        group = Group(
            type=kind,
            name=name,
            crypto_password=key,
            rx=hosts[0] if hosts else None,
            tx=hosts[1] if len(hosts) > 1 else None,
            rallypoints=tuple(map(Rallypoint, hosts[2:])),
        )
        joined = name + str(int(kind)) + (key or "") + "".join(f"{a}{p}" for a, p in places)
        expected = str(uuid.UUID(by_hand(joined)))
        self.assertEqual(group_id(group), expected)


class Effective(SynchronousTestCase):
    def test_braces_and_case_are_kept(self) -> None:
        """An id that fits stays as it is written."""
        computed = id_of(SMALL)
        for written in (computed, computed.upper(), "{" + computed + "}"):
            self.assertEqual(id_of(small(id=written)), written)
            self.assertEqual(stream_id(written), computed)

    def test_recomputed_on_import(self) -> None:
        """One that does not fit is replaced, with a remark that says what to do."""
        reading = read_mission(text(small(id="mingage-alpha")), "x")
        self.assertEqual(reading.mission.groups[0].id, id_of(SMALL))
        self.assertIn("idOverride", str([each for each in reading.remarks if each.path == "groups[0].id"]))

    def test_override(self) -> None:
        """With idOverride it stays whatever it is; an empty one is computed all the same, with a remark."""
        self.assertEqual(id_of(small(id="mine", idOverride=True)), "mine")
        reading = read_mission(text(small(id="", idOverride=True)), "x")
        self.assertEqual(reading.mission.groups[0].id, id_of(SMALL))
        self.assertIn("groups[0].id", [each.path for each in reading.remarks])

    def test_renewed(self) -> None:
        """After a change all ids are as they count now."""
        mission = read_mission(text(SMALL), "x").mission
        group = attrs.evolve(mission.groups[0], name="Blue")
        found = renewed(attrs.evolve(mission, name="Other", groups=(group,)))
        self.assertEqual(found.id, mission_id("Other"))
        self.assertEqual(found.groups[0].id, by_hand("Blue1239.9.9.120000239.9.9.120000rp.test7443"))
        self.assertEqual(effective_id(found.groups[0]), found.groups[0].id)
        self.assertEqual(renewed(found), found)

    def test_missions(self) -> None:
        """A mission's id follows from its name, braces kept."""
        value = copy.deepcopy(SMALL)
        for written, expected in (
            ("", mission_id("Demo")),
            ("other", mission_id("Demo")),
            ("{" + mission_id("Demo").upper() + "}", "{" + mission_id("Demo").upper() + "}"),
        ):
            value["id"] = written
            self.assertEqual(read_mission(text(value), "x").mission.id, expected)
        self.assertEqual(Mission().id, "")
