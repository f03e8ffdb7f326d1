"""A patch server whose disk is spoilt, full or not to be written, and whose Rallypoints are away: patches go on as they were, and the log says what is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.logger import globalLogPublisher

from ice.errors import LocalError
from ice.observe.metrics import Metrics
from ice.patch.listing import encode
from ice.patch.plan import Patch
from ice.patch.service import KEEP_AGAIN_S, PatchServer
from ice.patch.status import add_metrics, states_of, status_of
from ice.patch.store import FILES_SAID, LIST
from tests.unit.patch.test_service import Stage


class Coasting(Stage):
    def setUp(self) -> None:
        super().setUp()
        self.told: list[str] = []
        globalLogPublisher.addObserver(self.note)
        self.addCleanup(globalLogPublisher.removeObserver, self.note)

    def note(self, event: dict[str, Any]) -> None:
        if event.get("log_level") is not None and event["log_level"].name in ("error", "critical"):
            self.told.append(event["log_format"].format(**event))

    def deactivated(self, server: PatchServer, id: str) -> None:
        self.ask(server, lambda old, ms, facts: old.deactivate(id, by="ada", ms=ms))

    def test_spoilt(self) -> None:
        """Whatever is in the place of the list, the server starts with what the files say, puts it aside, and says what is lost and how to go back."""
        first = self.begun(Patch.of("ab", "ab"))
        self.deactivated(first, "ab")
        first.stopService()
        path = self.folder / LIST
        whole = path.read_bytes()
        newer = json.dumps(json.loads(whole) | {"version": 2}).encode()
        for spoilt, word in (
            (b"", "no JSON"),
            (b"\0" * len(whole), "no JSON"),
            (whole[: len(whole) // 2], "no JSON"),
            (newer, "update this server"),
            (whole.replace(b'"id":"ab"', b'"id":"a\\u0000"'), "id"),
        ):
            path.write_bytes(spoilt)
            server = self.begun(Patch.of("ab", "ab"))
            self.assertEqual(states_of(server), {"ab": "open"}, spoilt)
            self.say("a")
            self.assertEqual(self.heard(), {"a", "b"})
            server.stopService()
            [line] = self.told
            for part in (str(path), f"{LIST}.bad", word, "to go back: stop the server"):
                self.assertIn(part, line)
            self.assertEqual(path.with_name(f"{LIST}.bad").read_bytes(), spoilt)
            self.told.clear()

    def test_not_ours_to_read(self) -> None:
        """What cannot be read at all, here since it is a folder, is put aside as well, and not written over."""
        (self.folder / LIST / "in the way").mkdir(parents=True)
        server = self.begun(Patch.of("ab", "ab"))
        self.assertEqual((states_of(server), server.unkept), ({"ab": "open"}, ""))
        self.assertTrue((self.folder / f"{LIST}.bad" / "in the way").is_dir())
        self.assertIn("cannot be read", self.told[0])

    def test_what_files_said_is_spoilt(self) -> None:
        """Then patches that are there already stay as people have left them."""
        first = self.begun(Patch.of("ab", "ab"))
        self.deactivated(first, "ab")
        first.stopService()
        (self.folder / FILES_SAID).write_bytes(b"{")
        server = self.begun(Patch.of("ab", "ab", name="Another"), Patch.of("cd", "cd"))
        self.assertEqual(states_of(server), {"ab": "off", "cd": "open"})
        self.assertIn("taken for new ones", self.told[0])

    def test_nowhere_to_write(self) -> None:
        """A disk that takes nothing at the start stops no patch; people's changes are refused meanwhile, and it is tried again until the list is there."""
        self.folder.write_text("no folder")
        server = self.begun(Patch.of("ab", "ab"))
        self.say("a")
        self.assertEqual(self.heard(), {"a", "b"})
        self.assertIsNone(server.ready())
        self.assertIn("expected a folder", status_of(server, "id")["trouble"])
        self.assertIn("served as it is", self.told[0])
        with self.assertRaises(LocalError):
            self.deactivated(server, "ab")
        self.assertEqual(states_of(server), {"ab": "open"})
        self.clock.advance(KEEP_AGAIN_S + 2)
        self.assertEqual(len(self.told), 1)  # said once
        self.folder.unlink()
        self.assertIn("ice_patch_list_kept 0", self.metrics(server))
        self.clock.advance(KEEP_AGAIN_S + 2)
        self.assertIn("ice_patch_list_kept 1", self.metrics(server))
        self.assertEqual(status_of(server, "id")["trouble"], "")
        self.deactivated(server, "ab")
        server.stopService()
        again = self.begun(Patch.of("ab", "ab"))  # the files say what they said: that was kept with the list
        self.assertEqual(states_of(again), {"ab": "off"})

    def test_the_group_goes_before_the_disk(self) -> None:
        """A standby whose disk is full follows the group's list all the same, so that it takes over with the right one."""
        server = self.begun(Patch.of("ab", "ab"))
        self.folder.rename(f"{self.folder}-gone")
        self.folder.write_text("no folder")
        theirs, _ = server.listing.create(Patch.of("cd", "cd"), by="ben", ms=2)
        server.learned(encode(theirs))
        self.clock.advance(0.01)
        self.assertEqual(states_of(server), {"ab": "open", "cd": "open"})
        self.assertNotEqual(server.unkept, "")
        self.folder.unlink()
        Path(f"{self.folder}-gone").rename(self.folder)
        self.clock.advance(KEEP_AGAIN_S + 2)
        server.stopService()
        self.assertEqual(set(self.begun(Patch.of("ab", "ab")).listing.entries), {"ab", "cd"})

    def test_leftovers(self) -> None:
        """What a killed process had begun to write is cleared away."""
        self.folder.mkdir(parents=True)
        (self.folder / f".{LIST}.012345.tmp").write_bytes(b"half")
        self.begun(Patch.of("ab", "ab"))
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), sorted((LIST, FILES_SAID)))

    def test_rallypoints_away(self) -> None:
        """Without a way to a Rallypoint the list can be changed, and what is on serves as soon as the way is there."""
        self.air.up = False
        server = self.begun(Patch.of("ab", "ab"))
        self.assertIn("no link", server.ready() or "")
        self.ask(
            server, lambda old, ms, facts: old.create(Patch.of("cd", "cd"), by="ada", ms=ms, facts=facts)
        )
        self.assertEqual(states_of(server), {"ab": "closed", "cd": "closed"})
        self.air.up = True
        self.clock.advance(0.01)
        for stream, others in (("a", {"a", "b"}), ("d", {"c", "d"})):
            self.say(stream)
            self.assertEqual(self.heard(), others)

    def metrics(self, server: PatchServer) -> str:
        metrics = Metrics()
        add_metrics(metrics, server)
        return metrics.render().decode()
