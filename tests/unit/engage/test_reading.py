"""Any file: told by its keys, accounted for whole, and never the cause of an error that is not ours."""

import json
import random
import re
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ice.config.load import loads
from ice.engage.account import Fate
from ice.engage.compose import compose
from ice.engage.kinds import NAMES, Kind, UnknownKind, kind_of
from ice.engage.reading import NotOurs, read
from ice.errors import IceError
from tests.unit.engage.case import DATA, SAMPLES, Case, said

_WORDS = sorted(
    {
        word.strip('"')
        for path in DATA.glob("*.json")
        for word in path.read_text().replace(":", " ").replace(",", " ").split()
        if word.startswith('"') and word.endswith('"')
    }
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-1, 70_000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(_WORDS)
    | st.text(max_size=8)
)
_KEYS = st.sampled_from(_WORDS) | st.text(max_size=6) | st.just("_x")
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=8),
    max_leaves=25,
)


def mutated(value: Any, chance: random.Random) -> Any:
    """A copy of a JSON value in which something is otherwise."""
    if isinstance(value, dict):
        found = {key: mutated(each, chance) for key, each in value.items() if chance.random() > 0.03}
        if chance.random() < 0.05:
            found[chance.choice(_WORDS)] = chance.choice([None, [], {}, "", 0, -1, [{}], "x" * 300])
        return found
    if isinstance(value, list):
        found = [mutated(each, chance) for each in value if chance.random() > 0.05]
        return found + found[:1] if chance.random() < 0.1 else found
    if chance.random() < 0.08:
        wrong = [
            None,
            True,
            -1,
            10**30,
            1e300,
            0.5,
            "",
            "@x",
            "\ud800\x00",
            [],
            {},
            [value],
            {"address": value},
        ]
        return chance.choice(wrong)
    return value


class Kinds(Case):
    def test_told_by_keys(self) -> None:
        """Each kind is recognised, in the forms that sites have."""
        for value, kind in (
            ({"listenPort": 7443}, Kind.RALLYPOINT),
            ({"id": "x", "limits": {}}, Kind.RALLYPOINT),
            ({"peers": []}, Kind.PEERING),
            ([{"id": "x", "host": {}}], Kind.PEERING),
            ([{"id": "x"}], Kind.PEERING),
            ([{"host": {}}], Kind.RALLYPOINTS),
            ({"rallypoints": []}, Kind.RALLYPOINTS),
            ({"bridges": [], "groups": []}, Kind.BRIDGES),
            ({"groups": []}, Kind.BRIDGES),
            ([{"id": "x", "groups": ["a"]}], Kind.BRIDGES),
            ({"id": "m", "name": "M", "groups": []}, Kind.MISSION),
            ({"bridgingConfigurationFileName": "b", "enginePolicy": {}}, Kind.BRIDGE_SERVICE),
            ({"groupsConfigurationFileName": "b", "enginePolicy": {}}, Kind.OTHER),
            ({"networking": {}}, Kind.POLICY),
            ({"userId": "x"}, Kind.IDENTITY),
            ({"talkgroups": []}, Kind.TALKGROUPS),
            ({"rp": {}, "codecs": []}, Kind.OPTIONS),
        ):
            self.assertEqual(kind_of(value, "f"), kind, value)
        self.assertEqual(set(NAMES), set(Kind))

    def test_documented(self) -> None:
        """The page has a row for each word of --as, and no other."""
        page = (Path(__file__).parents[3] / "docs/import.md").read_text()
        self.assertEqual(
            set(re.findall(r"^\|[^|]*\| `([a-z-]+)` \|", page, re.MULTILINE)), set(map(str, Kind))
        )

    def test_unknown(self) -> None:
        """What nothing tells is refused with how to say it, unless somebody says it."""
        for value in ({}, {"hello": 1}, [], [1], [{"x": 1}], "x", 7, None):
            with self.assertRaises(IceError):
                said(value)
        with self.assertRaisesRegex(UnknownKind, "--as"):
            said({"hello": 1})
        self.assertEntry(said({"hello": 1}, Kind.RALLYPOINT), "hello", Fate.LEFT, "unknown here")

    def test_no_json(self) -> None:
        """What is well known and no JSON is called by its name."""
        for data, part in (
            (b"-----BEGIN CERTIFICATE-----\n", "ice pki"),
            (b"HTTP/1.1 200 OK\r\nST: urn:x\r\n", "SSDP"),
            (b"\x1f\x8b\x08", "mission unpack"),
            (b"<?xml version", "XML"),
        ):
            with self.assertRaisesRegex(NotOurs, part):
                read(data, "f")
        with self.assertRaisesRegex(NotOurs, "certificate store"):
            read(b"\x01\x02", "f.certstore")
        with self.assertRaisesRegex(IceError, r"f:\d:\d: .*comma"):
            read(b'{"a": 1,\n}', "f")

    def test_given_twice(self) -> None:
        """A key that is given twice is remarked on."""
        file = read(b'{"listenPort": 1, "limits": {"maxClients": 1, "maxClients": 2}}', "f")
        self.assertEqual([remark.path for remark in file.account.remarks], ["limits.maxClients"])


class Accounts(Case):
    @given(_VALUES, st.sampled_from(sorted(Kind)))
    @settings(max_examples=100, deadline=None)
    def test_everything_once(self, value: object, kind: Kind) -> None:
        """Whatever the value and whatever it is said to be: every key is reported exactly once."""
        try:
            file = said(value, kind)
        except IceError:
            return
        self.assertAccounted(file)

    def test_mutations(self) -> None:
        """Mutated files raise nothing but our errors, are accounted for whole, and give a configuration that holds or none."""
        chance = random.Random(26)
        originals = [(path.name, json.loads(path.read_text())) for path in sorted(DATA.glob("*.json"))]
        refused = 0
        for _ in range(30):
            for name, original in originals:
                value = original
                for _ in range(chance.randrange(1, 4)):
                    value = mutated(value, chance)
                try:
                    file = said(value, source=name)
                except UnknownKind:
                    continue
                self.assertAccounted(file)
                try:
                    draft = compose([file])
                except IceError:
                    refused += 1
                    continue
                loads(draft.toml.encode().decode(), Path("/site/ice.toml"))
                self.assertAccounted(file)
        self.assertLess(refused, 30)

    def test_bytes(self) -> None:
        """Files with bytes changed and cut off raise nothing but our errors."""
        chance = random.Random(27)
        for path in sorted(DATA.glob("*.json")):
            data = path.read_bytes()
            for _ in range(20):
                wrong = bytearray(data[: chance.randrange(len(data) + 1)])
                for _ in range(chance.randrange(4)):
                    if wrong:
                        wrong[chance.randrange(len(wrong))] = chance.randrange(256)
                try:
                    file = read(bytes(wrong), path.name)
                    compose([file])
                except IceError:
                    continue
                self.assertAccounted(file)


class Samples(Case):
    def test_all(self) -> None:
        """Every real file is taken over, or is told for what it is."""
        if not SAMPLES.is_dir():
            self.skipTest("there are no samples of other sites on this machine")
        kinds = {}
        for path in sorted(SAMPLES.rglob("*")):
            if path.suffix not in (".json", ".ssdp"):
                continue
            try:
                file = read(path.read_bytes(), path.name)
            except NotOurs as error:
                self.assertIn("this is", str(error))
                kinds[path.name] = None
                continue
            self.assertAccounted(file)
            loads(compose([file]).toml, Path("/site/ice.toml"))
            kinds[path.name] = file.account.kind
        self.assertEqual(
            kinds,
            {
                "ep.json": Kind.POLICY,
                "id.json": Kind.IDENTITY,
                "m.json": Kind.MISSION,
                "mingage_active_engine_policy.json": Kind.POLICY,
                "mingage_active_identity.json": Kind.IDENTITY,
                "mingage_active_mission.json": Kind.MISSION,
                "mingage_active_rallypoint.json": Kind.RALLYPOINTS,
                "mth.json": Kind.OTHER,
                "opts.json": Kind.OPTIONS,
                "sim_config.json": Kind.TALKGROUPS,
                "sim_response.ssdp": None,
            },
        )
