"""Real files from the field: read, remarked upon, written without loss. Skipped where they are not."""

import json
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from ice.mission.packing import pack, unpack
from ice.mission.reading import Reading, open_mission, read_mission
from ice.mission.tolerant import MissionError, read_json
from ice.mission.writing import write_json, write_mission
from tests.unit.mission.cases import SAMPLES, in_order

MISSIONS = ("mingage/mingage_active_mission.json", "scratch/m.json", "magellan/sim_config.json")


class Samples(SynchronousTestCase):
    def setUp(self) -> None:
        if not SAMPLES.is_dir():
            raise SkipTest("the samples are not here")

    def read(self, name: str) -> Reading:
        """A mission from the field."""
        return open_mission(str(SAMPLES / name))

    def test_round_trips(self) -> None:
        """What is read is written as it was, keys, order and numbers, but for the order of groups; packed as well."""
        for name in MISSIONS:
            source: Any = read_json((SAMPLES / name).read_bytes(), name)
            written = write_mission(self.read(name).mission, compact=True)
            self.assertEqual(written, write_json(in_order(source)), name)
            self.assertEqual(unpack(pack(written), name), written)
            self.assertEqual(read_mission(written, name).mission.id, self.read(name).mission.id)

    def test_what_is_in_them(self) -> None:
        """Groups, keys and codecs are those of the files."""
        found = {name: self.read(name).mission for name in MISSIONS}
        demo, generated, gateway = (found[name].groups for name in MISSIONS)
        self.assertEqual([group.name for group in demo], ["Mission Control", "Alpha", "Bravo", "Charlie"])
        self.assertEqual([group.crypto_password is not None for group in demo], [True, True, False, True])
        self.assertEqual([group.is_mission_control for group in demo], [True, False, False, False])
        self.assertEqual([group.tx_audio.encoder for group in generated[1:]], [12, 25, 25, 25])
        self.assertEqual(
            [(group.tx_audio.encoder, group.tx_options.ttl) for group in gateway], [(21, 128)] * 2
        )

    def test_remarks(self) -> None:
        """What is said of them is what is odd about them: ids that were made otherwise, short keys, priority 4."""
        for name in MISSIONS:
            remarks = [each for each in self.read(name).remarks if not each.path.endswith("id")]
            expected = (
                [
                    f"talkgroups[{n}].{key}"
                    for n in (0, 1)
                    for key in ("cryptoPassword", "networkOptions.priority")
                ]
                + ["name"]
                if name.startswith("magellan")
                else []
            )
            self.assertEqual([each.path for each in remarks], expected, name)

    def test_the_others_are_no_missions(self) -> None:
        """Everything else there is refused as no mission, with its own name."""
        others = [path for path in SAMPLES.glob("*/*.json") if str(path.relative_to(SAMPLES)) not in MISSIONS]
        self.assertGreaterEqual(len(others), 6)
        for path in others:
            with self.assertRaises(MissionError) as caught:
                open_mission(str(path))
            self.assertIn(path.name, str(caught.exception))
            json.loads(path.read_text("utf-8"))
