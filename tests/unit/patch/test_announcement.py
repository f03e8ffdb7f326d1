"""What the patch server itself says."""

from __future__ import annotations

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media.floor import Granted, Refused
from ice.media.payload_map import PayloadMap
from ice.media.playout import BurstBegan, BurstEnded, DigitPressed
from ice.media.tones import busy
from ice.patch.announcement import Announcement
from ice.patch.channel import Channel, Voice
from ice.patch.plan import Mode
from tests.unit.patch.lab import L16, WALL, Air, Station, patched, power, tone

DEAF = Voice(codec="l16", payload_types=PayloadMap.of(telephone_event=None))


class Announcing(SynchronousTestCase):
    def test_everywhere(self) -> None:
        """In every mode all streams hear a prompt, with its name and rank, as one burst."""
        for mode in Mode:
            air = Air()
            server = patched(air, mode, ("a", "b"))
            ears = [Station(air, stream) for stream in "ab"]
            for ear in ears:
                ear.listen(0.0, 2.0)
            said = Announcement(tone(440, 1.0), alias="Control", priority=9)
            self.assertIsInstance(server.engine.announce(said, 0.1), Granted)
            self.assertTrue(server.engine.announcing)
            air.run(2.0)
            for ear in ears:
                began, ended = ear.events[0], ear.events[-1]
                assert isinstance(began, BurstBegan)
                assert isinstance(ended, BurstEnded)
                self.assertEqual((began.priority, ended.why), (9, "mark"))
                self.assertEqual(began.alias, "" if mode is Mode.MIXED else "Control")
                self.assertGreater(power(ear.pcm[14_400:48_000], 440), 0.1)
            self.assertEqual(server.engine.announced, {"said": 1})
            self.assertEqual(server.engine.deadline, float("inf"))

    def test_on_some(self) -> None:
        """Only where it is wanted."""
        for mode in Mode:
            air = Air()
            server = patched(air, mode, ("a", "b", "c"))
            ears = [Station(air, stream) for stream in "abc"]
            server.engine.announce(Announcement(busy(), streams=("b",)), 0.0)
            air.run(2.0)
            self.assertEqual([bool(ear.datagrams) for ear in ears], [False, True, False])

    def test_somebody_talks(self) -> None:
        """While an equal talks it is refused; a higher rank is granted, and nobody else crosses meanwhile."""
        air = Air()
        server = patched(air, Mode.RELAY, ("a", "b"))
        ada, bob = Station(air, "a"), Station(air, "b")
        ada.talk(tone(440, 1.0), 0.0)
        air.run(0.3)
        self.assertIsInstance(server.engine.announce(Announcement(tone(700, 0.4)), 0.3), Refused)
        self.assertIsInstance(server.engine.announce(Announcement(tone(700, 0.4), priority=1), 0.3), Granted)
        air.run(2.0)
        own = server.engine._own_ssrc
        ours = [
            at for (at, _, _), packet in zip(bob.datagrams, bob.packets, strict=True) if packet.ssrc == own
        ]
        between = [
            at
            for (at, each, _), packet in zip(bob.datagrams, bob.packets, strict=True)
            if packet.ssrc != own and ours[1] < at < ours[-4] and not each.flags & Flag.LAST
        ]
        self.assertEqual(between, [])
        self.assertEqual(server.engine.announced, {"refused": 1, "said": 1})

    def test_outranked(self) -> None:
        """An emergency ends a prompt at once."""
        for mode in Mode:
            air = Air()
            server = patched(air, mode, ("a", "b"))
            ada, bob = Station(air, "a", emergency=True), Station(air, "b")
            server.engine.announce(Announcement(tone(700, 2.0)), 0.0)
            ada.talk(tone(440, 0.5), 0.5)
            air.run(3.0)
            self.assertEqual(server.engine.announced, {"cut": 1}, mode)
            self.assertTrue(bob.datagrams)

    def test_telephone_keys(self) -> None:
        """Keys are events where the stream has them, else tones."""
        for mode in Mode:
            air = Air()
            channels = {"a": Channel("a", voice=L16), "b": Channel("b", voice=DEAF)}
            server = patched(air, mode, ("a", "b"), channels)
            ada, bob = Station(air, "a"), Station(air, "b", voice=DEAF)
            ada.listen(0.0, 2.0)
            bob.listen(0.0, 2.0)
            server.engine.announce(Announcement(digits="15"), 0.0)
            air.run(2.0)
            self.assertEqual(
                [each.digit for each in ada.events if isinstance(each, DigitPressed)], ["1", "5"]
            )
            self.assertEqual([each for each in bob.events if isinstance(each, DigitPressed)], [])
            self.assertGreater(power(bob.pcm[:48_000], 1209), 0.005)
            self.assertEqual(int(np.abs(ada.pcm).max()), 0)

    def test_switched_off(self) -> None:
        """A prompt ends with the patch, marked."""
        air = Air()
        server = patched(air, Mode.RELAY, ("a", "b"))
        bob = Station(air, "b")
        server.engine.announce(Announcement(tone(440, 2.0)), 0.0)
        air.run(0.5)
        server.carry(server.engine.stand_by(0.5, WALL + 0.5))
        air.run(3.0)
        self.assertTrue(bob.datagrams[-1][1].flags & Flag.LAST)
        self.assertRaises(LocalError, server.engine.announce, Announcement(tone(440, 1.0)), 3.0)

    def test_what_cannot_be_said(self) -> None:
        """Nothing, too much, another kind of array, keys that are none, a stream that is not ours, two at once."""
        for wrong in (
            {},
            {"pcm": np.zeros(10)},
            {"pcm": np.zeros(301 * 48_000, np.int16)},
            {"digits": "x"},
            {"digits": "1" * 33},
            {"digits": "1", "alias": "a name that is too long"},
        ):
            self.assertRaises(LocalError, Announcement, **wrong)
        engine = patched(Air(), Mode.RELAY, ("a", "b")).engine
        self.assertRaises(LocalError, engine.announce, Announcement(digits="1", streams=("z",)), 0.0)
        engine.announce(Announcement(digits="1"), 0.0)
        self.assertRaises(LocalError, engine.announce, Announcement(digits="1"), 0.0)
