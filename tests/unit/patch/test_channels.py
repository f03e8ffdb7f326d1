"""What a configuration says of the streams of patches: missions, sealed or not, the groups of a bridges file, and streams that nobody describes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import load
from ice.errors import LocalError
from ice.mission.identity import stream_id
from ice.mission.packing import pack
from ice.mission.reading import read_mission
from ice.patch.channels import Plan
from ice.patch.plan import Patch

KEY = "ab" * 32
RALLYPOINTS = [{"host": {"address": "rp.example.org", "port": 7443}}]


def group(name: str, **more: Any) -> dict[str, Any]:
    """A group of a mission, as JSON has it."""
    return {"id": name, "idOverride": True, "name": name, "type": 1, "rallypoints": RALLYPOINTS} | more


def mission(*groups: dict[str, Any]) -> str:
    """A mission, as JSON."""
    return json.dumps({"id": "m", "name": "m", "groups": list(groups)})


class Plans(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def plan(self, text: str) -> Plan:
        config = self.folder / "ice.toml"
        config.write_text(text)
        return Plan.of(load(config).config)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def ids(self, text: str) -> list[str]:
        return [stream_id(each.id) for each in read_mission(text, "test").mission.groups]

    def test_undescribed(self) -> None:
        """A stream that nobody describes is shut, whatever it may be; one that the configuration calls clear is in clear."""
        patch = Patch.of("p", ("north", "ops-1", "south"))
        plan = self.plan('[patch]\nclear = ["ops-*"]\n')
        channels = plan.of_patch(patch)
        self.assertEqual(
            {name: (each.shut, each.clear) for name, each in channels.items()},
            {"north": (True, False), "ops-1": (False, True), "south": (True, False)},
        )
        self.assertIn("patch.clear", channels["north"].why_shut)
        self.assertEqual(plan.unknown(patch.stream_ids), "north, south")
        [caution] = plan.cautions(patch)
        self.assertIn("north, south", caution)

    def test_a_name_in_a_file(self) -> None:
        """Whoever has written a group's name where its id belongs is told the id."""
        text = mission(group("a"))
        self.write("m.json", text.replace('"name": "a"', '"name": "Fire"'))
        plan = self.plan('[patch]\nmissions = ["m.json"]\n')
        [caution] = plan.cautions(Patch.of("p", ("Fire", "other")))
        self.assertIn(f"Fire (write the id of this group, {self.ids(text)[0]}), other", caution)

    def test_undescribed_among_full_duplex(self) -> None:
        """That nobody knows a stream is no reason to refuse the patch for its duplex."""
        text = mission(group("call", txAudio={"encoder": 25, "fdx": True}))
        self.write("m.json", text)
        [call] = self.ids(text)
        plan = self.plan('[patch]\nmissions = ["m.json"]\n')
        channels = plan.of_patch(Patch.of("p", (call, "other")))
        self.assertEqual([each.full_duplex for each in channels.values()], [True, True])

    def test_exposed(self) -> None:
        """A patch of encrypted streams and clear ones is told of; one of either kind, or with a stream that is shut, is not."""
        text = mission(group("open"), group("secret", cryptoPassword=KEY), group("too", cryptoPassword=KEY))
        self.write("m.json", text)
        clear, secret, too = self.ids(text)
        plan = self.plan('[patch]\nmissions = ["m.json"]\n')
        [caution] = plan.cautions(Patch.of("p", (clear, secret)))
        self.assertIn("secret under a key goes out in clear on open", caution)
        self.assertEqual(plan.cautions(Patch.of("p", (secret, too))), ())
        [caution] = plan.cautions(Patch.of("p", (secret, "nobody knows")))
        self.assertNotIn("in clear on", caution)

    def test_data(self) -> None:
        """Groups that carry no voice are described, too: a relay passes on what they have, under their keys."""
        text = mission(group("data", type=3, cryptoPassword=KEY), group("who", type=2))
        self.write("m.json", text)
        plan = self.plan('[patch]\nmissions = ["m.json"]\n')
        channels = plan.of_patch(Patch.of("p", self.ids(text)))
        self.assertEqual([each.shut for each in channels.values()], [False, False])
        self.assertEqual([each.clear for each in channels.values()], [False, True])

    def test_bridges_file(self) -> None:
        """The groups of a bridges file describe streams as a mission does, behind the missions; what cannot be read of them leaves streams shut."""
        groups = [group("a", cryptoPassword=KEY), group("b")]
        a, b = self.ids(mission(*groups))
        bridges = [{"id": "ab", "groups": [a, b]}]
        self.write("bridges.json", json.dumps({"bridges": bridges, "groups": groups}))
        plan = self.plan('[patch]\nbridges_file = "bridges.json"\n')
        self.assertEqual([each.clear for each in plan.of_patch(plan.patches[0]).values()], [False, True])
        self.write("bridges.json", json.dumps({"bridges": bridges, "groups": "nonsense"}))
        plan = self.plan('[patch]\nbridges_file = "bridges.json"\n')
        self.assertEqual([each.shut for each in plan.of_patch(plan.patches[0]).values()], [True, True])

    def test_sealed(self) -> None:
        """Missions that are sealed are opened with the passwords of a file, each with the one that fits; what is missing is told with its setting."""
        groups = [group("a", cryptoPassword=KEY)]
        for name, word in (("one", "first word"), ("two", "second word")):
            self.write(f"{name}.ice", pack(mission(group(name, cryptoPassword=KEY)), word))
        self.write("plain.json", mission(*groups))
        text = '[patch]\nmissions = ["plain.json", "one.ice", "two.ice"]\n'
        with self.assertRaisesRegex(LocalError, r"one\.ice.*sealed.*patch\.password_file"):
            self.plan(text)
        text += 'password_file = "words"\n'
        with self.assertRaisesRegex(LocalError, r"words: cannot be read"):
            self.plan(text)
        self.write("words", "second word\n")
        with self.assertRaisesRegex(LocalError, r"one\.ice: none of the passwords in .*words.*password_file"):
            self.plan(text)
        self.write("words", "second word\r\n\nfirst word\n")
        self.assertEqual(len(self.plan(text).channels), 3)
        for wrong in ("", "\n\n", "x" * 2_000, "\n".join("abcdefghijklmnopqrs")):
            self.write("words", wrong)
            with self.assertRaisesRegex(LocalError, "words: ") as caught:
                self.plan(text)
            self.assertNotIn("x" * 100, str(caught.exception))
