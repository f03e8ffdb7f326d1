"""Who talks where, without decoding, and which of the people it is."""

from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import Flag
from ice.media.rtp import NO_FLAGS, Packet, Talk, TalkFlag
from ice.mission.people import People, Person
from ice.mission.presence import Descriptor, Form, GroupAlias, Identity, Kind, Told
from ice.mission.talkers import MAX_TALKERS, SILENCE_S, Talkers, talks

NODE = "7f1c2a52-0e7a-4b7e-9a51-1f0c5b6c7d8e"


def packet(alias: str = "", flags: TalkFlag = NO_FLAGS, node: str = "", ssrc: int = 7) -> bytes:
    """An audio packet that says who talks."""
    talk = Talk(alias, 0, flags, UUID(node).bytes if node else b"")
    return Packet(118, 1, 2, ssrc, b"\x08\xff", extension=talk.to_extension()).encode()


def person(name: str = "Anna", node: str = "n", *aliases: GroupAlias) -> Person:
    """Somebody who is there."""
    people = People()
    descriptor = Descriptor(Identity(node, display_name=name), group_aliases=aliases)
    people.hear(Told(Kind.PRESENCE, Form.JSON, descriptor), 1, 0, 0)
    return people.everybody[0]


class Hearing(SynchronousTestCase):
    def setUp(self) -> None:
        self.talkers = Talkers()

    def test_burst(self) -> None:
        """Somebody talks from the first packet to the end mark; copies of the end begin nothing."""
        self.talkers.heard("red", packet("Anna"), 0, 1, 0.0)
        self.talkers.heard("red", packet(), 0, 1, 0.1)
        (talker,) = self.talkers.talking(0.2)
        self.assertEqual((talker.group, talker.alias, talker.since), ("red", "Anna", 0.0))
        self.talkers.heard("red", packet(flags=TalkFlag.BURST_END), 0, 1, 0.3)
        self.talkers.heard("red", packet(), Flag.LAST, 1, 0.32)
        self.assertEqual(self.talkers.talking(0.33), ())
        self.talkers.heard("red", packet(), 0, 1, 2.0)
        self.assertEqual(self.talkers.talking(2.0)[0].since, 2.0)

    def test_silence(self) -> None:
        """Who sends no end mark has ended by silence."""
        self.talkers.heard("red", packet(), 0, 1, 0.0)
        self.assertEqual(self.talkers.talking(SILENCE_S + 0.01), ())

    def test_emergency(self) -> None:
        """An emergency is told by the packet or by the link."""
        self.talkers.heard("red", packet(flags=TalkFlag.EMERGENCY), 0, 1, 0)
        self.talkers.heard("red", packet(), Flag.URGENT, 2, 0)
        self.assertEqual([each.emergency for each in self.talkers.talking(0)], [True, True])

    def test_no_audio(self) -> None:
        """Data, and what is no RTP, is nobody's voice."""
        self.talkers.heard("red", packet(), Flag.DATA, 1, 0)
        self.talkers.heard("red", b"{}", 0, 1, 0)
        self.assertEqual(self.talkers.talking(0), ())

    def test_bound(self) -> None:
        """Who was silent longest is forgotten first."""
        for number in range(MAX_TALKERS + 5):
            self.talkers.heard("red", packet(), 0, number, number / 1e6)
        found = {each.source for each in self.talkers.talking(0.01)}
        self.assertEqual(found, set(range(5, MAX_TALKERS + 5)))


class Matching(SynchronousTestCase):
    def matches(self, who: Person, payload: bytes, group: str = "red") -> bool:
        """Whether this packet is theirs."""
        talkers = Talkers()
        talkers.heard(group, payload, 0, 1, 0)
        return bool(talks(who, talkers.talking(0)))

    def test_node_id(self) -> None:
        """The node id decides, where the packet has one, whatever the alias says."""
        self.assertTrue(self.matches(person("Anna", "{" + NODE.upper() + "}"), packet("Bob", node=NODE)))
        self.assertFalse(self.matches(person("Anna", "other"), packet("Anna", node=NODE)))

    def test_alias(self) -> None:
        """Else the alias on that group, else the name as an alias cuts it."""
        anna = person("Annabella of the North Gate", "n", GroupAlias("{RED}", "A-1"))
        self.assertTrue(self.matches(anna, packet("A-1")))
        self.assertFalse(self.matches(anna, packet("A-1"), "blue"))
        self.assertTrue(self.matches(anna, packet("Annabella of the"), "blue"))
        self.assertFalse(self.matches(anna, packet()))
        self.assertFalse(self.matches(person(""), packet()))
