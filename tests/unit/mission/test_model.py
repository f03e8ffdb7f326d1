"""The model: every field of the data model, defaults, refusals, legacy keys, and nothing lost in writing."""

import copy
import json
from datetime import UTC, datetime
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.mission.fields import Part, spec_of
from ice.mission.model import CBC, GCM, Group, GroupType, Mission, Origin, Rekey, iso
from ice.mission.parts import Cluster, Host, Rallypoint, TxAudio
from ice.mission.reading import read_mission
from ice.mission.tolerant import MissionError, read_json
from ice.mission.writing import write_json, write_mission
from tests.unit.mission.cases import KEY, OTHER_KEY, SMALL, WHOLE, in_order, small, text
from tests.unit.mission.test_tolerant import JSON

GROUP = read_mission(text(small(cryptoPassword=KEY)), "x").mission.groups[0]


def read(value: Any) -> Mission:
    """The mission, whatever is remarked."""
    return read_mission(text(value), "m.json").mission


def remarks(value: Any) -> list[str]:
    """What is remarked, ids aside."""
    return [str(each) for each in read_mission(text(value), "m.json").remarks if not each.path.endswith("id")]


class Fields(SynchronousTestCase):
    def test_all_are_read(self) -> None:
        """In a file with every key, every field has another value than its default, and only what nobody knows is left over."""
        mission = read(WHOLE)
        seen: set[type] = set()

        def visit(part: Part, but: tuple[str, ...]) -> None:
            seen.add(type(part))
            for field in attrs.fields(type(part)):
                if spec_of(field) is None or field.name in but:
                    continue
                value = getattr(part, field.name)
                default = (
                    field.default.factory() if isinstance(field.default, attrs.Factory) else field.default
                )  # type: ignore[arg-type, attr-defined]
                self.assertNotEqual(value, default, f"{type(part).__name__}.{field.name}")
                for each in value if isinstance(value, tuple) else (value,):
                    if isinstance(each, Part) and not isinstance(each, Group):
                        visit(each, ("name", *_rest(each)))

        def _rest(part: Part) -> tuple[str, ...]:
            if isinstance(part, Rallypoint) and part.host.address != "rp.test":
                return tuple(field.name for field in attrs.fields(Rallypoint) if field.name != "host")
            return ("type", "version", "host", "use") if not isinstance(part, Rallypoint) else ()

        visit(mission, ())
        visit(mission.groups[0], ("cluster",))
        cluster = mission.groups[1].cluster
        assert cluster is not None
        visit(cluster, ())
        self.assertLess({Host, TxAudio, Rallypoint, Cluster, Rekey}, seen)
        self.assertEqual(dict(mission.more), {"generator": {"execMs": 12.5, "fieldHash": "abc"}})
        self.assertEqual(dict(mission.groups[0].more), {"_wizardCreated": {"type": "audio"}})

    def test_units_and_kinds(self) -> None:
        """Some of them, looked at."""
        group = read(WHOLE).groups[0]
        self.assertEqual(
            (group.type, group.id, group.id_override),
            (GroupType.AUDIO, "{D7107580-952D-4FD4-A4C2-A01F4067FD39}", True),
        )
        self.assertEqual((group.rx, group.tx), (Host("239.9.9.1", 20000), Host("239.9.9.2", 20002)))
        self.assertEqual(
            (group.cipher, group.multicast_failover_s, group.source_filter), (GCM, 12.0, ("192.0.2.1",))
        )
        assert group.rekey is not None
        self.assertEqual(group.rekey.at, datetime(2026, 3, 1, tzinfo=UTC))
        self.assertEqual(group.gate_in.coefficient, 1.8)
        control = read(WHOLE).groups[1]
        self.assertTrue(control.is_mission_control)
        self.assertEqual([each.host.address for each in control.rallypoints], ["a.test", "b.test"])
        self.assertEqual(
            (control.rallypoints_from, control.cluster and control.cluster.connection_strategy),
            (Origin.CLUSTER, 1),
        )

    def test_defaults(self) -> None:
        """A group that says next to nothing has the original's defaults."""
        group = read({"name": "m", "groups": [{"type": 1, "name": "g"}]}).groups[0]
        self.assertEqual(
            (group.cipher, group.crypto_password, group.rx, group.rallypoints), (CBC, None, None, ())
        )
        self.assertEqual(
            (group.tx_audio.encoder, group.tx_audio.framing_ms, group.tx_audio.custom_payload_type),
            (21, 60, -1),
        )
        self.assertEqual((group.tx_options.priority, group.tx_options.ttl), (3, 1))
        self.assertEqual((group.multicast_failover_s, group.enable_multicast_failover), (10, False))
        self.assertEqual(
            (group.presence.format, group.presence.interval_s, group.presence.min_interval_s), (1, 30, 5)
        )
        self.assertEqual((group.rtp_profile.inactivity_ms, group.audio.output_level_left_percent), (500, 100))

    def test_found_by_name_or_id(self) -> None:
        """A group is found by its name, or by its id with or without braces."""
        mission = read(WHOLE)
        for name in (
            "Full",
            "{d7107580-952d-4fd4-a4c2-a01f4067fd39}",
            "D7107580-952d-4fd4-a4c2-a01f4067fd39",
        ):
            self.assertIs(mission.group(name), mission.groups[0])
        self.assertIsNone(mission.group("Nobody"))

    def test_no_secret_in_repr(self) -> None:
        """Neither key, nor next key, nor a Rallypoint's key, nor what nobody knows."""
        value = copy.deepcopy(WHOLE)
        value["groups"][0]["secretOfYours"] = "hidden-one"
        shown = repr(read_mission(text(value), "x"))
        for secret in (KEY, OTHER_KEY, "BEGIN PRIVATE", "hidden-one"):
            self.assertNotIn(secret, shown)


class Tolerance(SynchronousTestCase):
    def test_priority_four(self) -> None:
        """Samples say 4; it is taken as 3, voice, with a remark."""
        self.assertEqual(read(small(txOptions={"priority": 4, "ttl": 128})).groups[0].tx_options.priority, 3)
        self.assertEqual(
            remarks(small(txOptions={"priority": 4, "ttl": 128})),
            ["groups[0].txOptions.priority: expected a whole number in 0–3, found 4; 3 is taken"],
        )

    def test_network_options(self) -> None:
        """The older name of txOptions is read where that is absent."""
        self.assertEqual(read(small(networkOptions={"ttl": 128})).groups[0].tx_options.ttl, 128)
        both = read(small(networkOptions={"ttl": 128}, txOptions={"ttl": 2})).groups[0]
        self.assertEqual((both.tx_options.ttl, dict(both.more)), (2, {"networkOptions": {"ttl": 128}}))

    def test_symbolic_codecs(self) -> None:
        """A codec by its name is the number that it stands for; an unknown one is the default, with a remark."""
        for symbol, number in (
            ("ctOpus8000", 21),
            ("ctG711ulaw", 1),
            ("ctAmrNb12200", 17),
            ("CTOPUS24000", 29),
        ):
            self.assertEqual(read(small(txAudio={"encoder": symbol})).groups[0].tx_audio.encoder, number)
            self.assertEqual(remarks(small(txAudio={"encoder": symbol})), [])
        for wrong in ("ctNonsense", 99, True, {}):
            self.assertEqual(read(small(txAudio={"encoder": wrong})).groups[0].tx_audio.encoder, 21)
            self.assertEqual(len(remarks(small(txAudio={"encoder": wrong}))), 1, wrong)

    def test_rallypoint_of_old_files(self) -> None:
        """Address and port beside each other are a host; the mission's own Rallypoint serves groups without one, where it is in use."""
        group = read(small(rallypoints=[{"address": "a.test", "port": 1}])).groups[0]
        self.assertEqual(group.rallypoints[0].host, Host("a.test", 1))
        value = small(rallypoints=None)
        value["rallypoint"] = {"use": False, "address": "old.test", "port": 7443}
        self.assertEqual(read(value).groups[0].rallypoints, ())
        value["rallypoint"]["use"] = True
        self.assertEqual(read(value).groups[0].rallypoints, (Rallypoint(Host("old.test", 7443)),))
        value["groups"][0]["rallypoints"] = [{"host": {"address": "own.test", "port": 1}}]
        self.assertEqual(read(value).groups[0].rallypoints[0].host.address, "own.test")

    def test_both_kinds_of_rallypoints(self) -> None:
        """The original refuses both; the plain list is taken, with a remark."""
        value = small(rallypointCluster={"rallypoints": [{"host": {"address": "c.test", "port": 1}}]})
        self.assertEqual([each.host.address for each in read(value).groups[0].rallypoints], ["rp.test"])
        self.assertIn("groups[0].rallypointCluster", remarks(value)[0])

    def test_certificates(self) -> None:
        """Inline PEM is kept; what names a file or a store is kept and told, and nothing is opened."""
        pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        host = {"host": {"address": "a.test", "port": 1}}
        self.assertEqual(remarks(small(rallypoints=[{**host, "certificate": pem}])), [])
        for named in ("@/etc/passwd", "@file:///etc/passwd", "@certstore://x"):
            value = small(rallypoints=[{**host, "certificate": named, "certificateKey": named}])
            self.assertEqual(read(value).groups[0].rallypoints[0].certificate, named)
            said = remarks(value)
            self.assertEqual(len(said), 2)
            self.assertIn("not followed", said[0])

    def test_groups_that_are_none(self) -> None:
        """What is no object among the groups is passed over, with a remark."""
        value = small()
        value["groups"] += [1, None, []]
        self.assertEqual(len(read(value).groups), 1)
        self.assertEqual(len(remarks(value)), 3)

    def test_doubled_keys(self) -> None:
        """A key that stands twice is remarked, and the last counts."""
        reading = read_mission('{"name": "a", "name": "b", "groups": []}', "x")
        self.assertEqual(reading.mission.name, "b")
        self.assertEqual([each.path for each in reading.remarks], ["name"])


class Refusals(SynchronousTestCase):
    def refused(self, value: Any, path: str = "") -> str:
        """What is said when a mission is refused, with the path to blame."""
        with self.assertRaises(MissionError) as caught:
            read_mission(value if isinstance(value, str) else text(value), "m.json")
        self.assertEqual(caught.exception.path, path)
        self.assertEqual(caught.exception.source, "m.json")
        return str(caught.exception)

    def test_no_mission(self) -> None:
        """A list, a number, an object without groups, groups that are no list."""
        self.refused("[]")
        self.refused("7")
        self.assertIn("right file", self.refused({"name": "x"}, "groups"))
        self.refused({"groups": None}, "groups")
        self.refused({"groups": {}}, "groups")
        self.assertIn("1,001 groups", self.refused({"groups": [{}] * 1_001}, "groups"))

    def test_empty_key(self) -> None:
        """An empty cryptoPassword is illegal: it must not become a group in clear."""
        self.assertIn(
            "m.json: groups[0].cryptoPassword: is empty",
            self.refused(small(cryptoPassword=""), "groups[0].cryptoPassword"),
        )

    def test_broken_keys(self) -> None:
        """Odd, not hex, not text, endless: refused, and not repeated."""
        for key in ("ABC", "hunter2-hunter2", 12345678, True, [KEY], "AB" * 2000, "АВ" * 32):
            said = self.refused(small(cryptoPassword=key), "groups[0].cryptoPassword")
            self.assertNotIn(str(key), said)
        self.refused(
            small(cryptoPassword=KEY, rekey={"cryptoPassword": "", "at": "2026-01-01"}),
            "groups[0].rekey.cryptoPassword",
        )

    def test_short_keys(self) -> None:
        """Shorter than documented is read, for there are files like that, with a remark that does not repeat it."""
        self.assertEqual(read(small(cryptoPassword="AABBCCDDEEFF")).groups[0].crypto_password, "AABBCCDDEEFF")
        said = remarks(small(cryptoPassword="AABBCCDDEEFF"))
        self.assertEqual(
            said,
            [
                "groups[0].cryptoPassword: expected 64 hex digits, found 12; it is used, but is weaker than it should be"
            ],
        )

    def test_ciphers(self) -> None:
        """An unknown cipher is not replaced by a weaker one; case does not matter."""
        self.assertEqual(read(small(cipher="AES-256-GCM")).groups[0].cipher, GCM)
        for wrong in ("none", "", 5, ["aes-256-gcm"]):
            self.refused(small(cipher=wrong), "groups[0].cipher")

    def test_changes_of_keys(self) -> None:
        """A change of keys that cannot be understood is refused: half the team would fall silent."""
        self.refused(small(rekey="soon"), "groups[0].rekey")
        self.refused(small(rekey={}), "groups[0].rekey.cryptoPassword")
        for at in (None, "", "tomorrow", 5, "2026-13-01", "9999-12-31T23:59:59-23:59"):
            self.refused(small(rekey={"cryptoPassword": KEY, "at": at}), "groups[0].rekey.at")


class Writing(SynchronousTestCase):
    def test_everything_round_trips(self) -> None:
        """A file with every key comes out as it went in, numbers as they were spelt, but for the order of groups."""
        source = write_json(read_json(text(WHOLE).replace('"coefficient": 1.8', '"coefficient": 1.80'), "x"))
        written = write_mission(read_mission(source, "x").mission, compact=True)
        expected = write_json(in_order(read_json(source, "x")))  # type: ignore[arg-type]
        self.assertEqual(written, expected)
        self.assertIn("1.80", written)

    def test_groups_are_sorted(self) -> None:
        """By name, descending, as the format wants them."""
        value = small()
        value["groups"] = [{"type": 1, "name": name} for name in ("Alpha", "Charlie", "Bravo", "charlie")]
        self.assertEqual(
            [each["name"] for each in json.loads(write_mission(read(value)))["groups"]],
            ["charlie", "Charlie", "Bravo", "Alpha"],
        )

    def test_wrong_values_stay(self) -> None:
        """What was wrong and replaced stands in the file as it was: others may understand it."""
        value = small(
            txOptions={"priority": 4},
            txAudio={"encoder": "ctOpus8000", "framingMs": "60"},
            maxRxSecs=None,
            odd={"deep": [1.50]},
        )
        self.assertEqual(json.loads(write_mission(read(value))), value)

    def test_one_change(self) -> None:
        """Only what was changed is written anew, and the id, if it goes by that."""
        value = small(txOptions={"priority": 4, "ttl": 7}, _mine=1, id="old")
        mission = read(value)
        group = attrs.evolve(
            mission.groups[0], description="new", tx_options=attrs.evolve(mission.groups[0].tx_options, ttl=9)
        )
        written = json.loads(write_mission(attrs.evolve(mission, groups=(group,))))
        expected = copy.deepcopy(value)
        expected["groups"][0].update(
            description="new", txOptions={"priority": 4, "ttl": 9}, id=mission.groups[0].id
        )
        self.assertEqual(written, expected)
        self.assertEqual(list(written["groups"][0])[: len(value["groups"][0])], list(value["groups"][0]))

    def test_a_change_goes_into_the_cluster(self) -> None:
        """Rallypoints that came from a cluster are written into it."""
        value = small(
            rallypoints=None,
            rallypointCluster={
                "rolloverSecs": 4,
                "rallypoints": [{"host": {"address": "a.test", "port": 1}}],
            },
        )
        mission = read(value)
        more = (*mission.groups[0].rallypoints, Rallypoint(Host("b.test", 2)))
        changed = attrs.evolve(mission, groups=(attrs.evolve(mission.groups[0], rallypoints=more),))
        written = json.loads(write_mission(changed))["groups"][0]
        self.assertNotIn("rallypoints", written)
        self.assertEqual(written["rallypointCluster"]["rolloverSecs"], 4)
        self.assertEqual(
            [each["host"]["address"] for each in written["rallypointCluster"]["rallypoints"]],
            ["a.test", "b.test"],
        )
        self.assertEqual(read(json.loads(write_mission(changed))).groups[0].rallypoints, more)

    def test_the_missions_rallypoint_is_not_copied(self) -> None:
        """A group that uses it does not get one of its own by being changed."""
        value = small(rallypoints=None)
        value["rallypoint"] = {"use": True, "address": "old.test", "port": 7443}
        mission = read(value)
        changed = attrs.evolve(mission, groups=(attrs.evolve(mission.groups[0], alias="x"),))
        self.assertNotIn("rallypoints", json.loads(write_mission(changed))["groups"][0])
        self.assertEqual(
            read(json.loads(write_mission(changed))).groups[0].rallypoints, mission.groups[0].rallypoints
        )

    def test_taking_out(self) -> None:
        """What is set to None is gone."""
        mission = read(small(cryptoPassword=KEY))
        changed = attrs.evolve(
            mission, groups=(attrs.evolve(mission.groups[0], crypto_password=None, rx=None),)
        )
        written = json.loads(write_mission(changed))["groups"][0]
        self.assertNotIn("cryptoPassword", written)
        self.assertNotIn("rx", written)

    def test_a_new_name(self) -> None:
        """A mission that was renamed has the id of its new name."""
        mission = attrs.evolve(read(SMALL), name="Other")
        self.assertEqual(
            json.loads(write_mission(mission))["id"], read_mission(write_mission(mission), "x").mission.id
        )

    def test_a_new_mission(self) -> None:
        """One that was not read has the keys that the format asks for, in its order."""
        mission = Mission(name="n", groups=(Group(type=GroupType.AUDIO, name="g", rx=Host("239.1.1.1", 5)),))
        written = json.loads(write_mission(mission))
        self.assertEqual(list(written), ["meta", "id", "name", "groups"])
        self.assertEqual(list(written["groups"][0]), ["type", "id", "idOverride", "name", "rx"])
        self.assertEqual(read_mission(write_mission(mission), "x").remarks, ())

    def test_times(self) -> None:
        """Times are in UTC and no finer than they are."""
        at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.assertEqual(iso(at), "2026-01-02T03:04:05Z")
        self.assertEqual(iso(at.replace(microsecond=678_000)), "2026-01-02T03:04:05.678Z")
        self.assertEqual(iso(at.replace(microsecond=678_901)), "2026-01-02T03:04:05.678901Z")

    @given(
        st.dictionaries(st.sampled_from([*WHOLE["groups"][0], "x", ""]), JSON, max_size=6),
        st.dictionaries(st.sampled_from([*WHOLE, "x", ""]), JSON, max_size=3),
    )
    @settings(max_examples=150, deadline=None)
    def test_anything_round_trips(self, group: dict[str, Any], above: dict[str, Any]) -> None:
        """Whatever stands in a mission is refused by us, or comes out as it went in."""
        value = {**above, "groups": [group, SMALL["groups"][0]]}
        source = write_json(value)
        try:
            reading = read_mission(source, "x")
        except MissionError:
            return
        written = write_mission(reading.mission, compact=True)
        before, after = json.loads(source), json.loads(written)
        before["groups"].sort(key=json.dumps)
        after["groups"].sort(key=json.dumps)
        self.assertEqual(before, after)
        self.assertEqual(list(before), list(after))

    @given(
        st.builds(
            attrs.evolve,
            st.just(GROUP),
            name=st.text(max_size=10),
            description=st.text(max_size=10),
            crypto_password=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
            multicast_failover_s=st.floats(0, 86_400),
            max_rx_s=st.integers(0, 2**32 - 1),
            rx=st.none() | st.builds(Host, st.text(max_size=8), st.integers(1, 65_535)),
            rekey=st.none()
            | st.builds(Rekey, st.just(OTHER_KEY), st.datetimes(timezones=st.just(UTC)), st.floats(0, 1e6)),
            presence_group_affinities=st.lists(st.text(max_size=5), max_size=3).map(tuple),
            cipher=st.sampled_from([CBC, GCM]),
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_changes_round_trip(self, group: Group) -> None:
        """What is changed in a mission is there when it is read again."""
        mission = attrs.evolve(read(SMALL), groups=(group,))
        again = read_mission(write_mission(mission), "x").mission
        self.assertEqual(attrs.evolve(again.groups[0], id=""), attrs.evolve(group, id=""))
