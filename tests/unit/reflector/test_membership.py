"""IGMP and MLD: what is read and asked, byte for byte, and when a group counts as joined."""

import socket
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.reflector.membership import (
    LEARNING_S,
    MAX_GROUPS,
    OLD_S,
    Memberships,
    Word,
    checksum,
    igmp_query,
    mld_query,
    read_igmp,
    read_mld,
)
from ice.reflector.snooping import packet_of

GROUP = "239.1.2.3"
OWN, HOST, LOWER = "10.0.0.10", "10.0.0.20", "10.0.0.1"


def summed(message: bytes) -> bytes:
    """An IGMP message with its checksum."""
    return message[:2] + struct.pack(">H", checksum(message[:2] + b"\0\0" + message[4:])) + message[4:]


def v3(*records: tuple[int, str, int]) -> bytes:
    """An IGMPv3 report: type, group and number of sources of each record."""
    body = b"".join(
        struct.pack(">BBH", kind, 0, sources) + socket.inet_aton(group) + bytes(4 * sources)
        for kind, group, sources in records
    )
    return summed(struct.pack(">BBHHH", 0x22, 0, 0, 0, len(records)) + body)


class Reading(SynchronousTestCase):
    def test_igmp(self) -> None:
        """Every type that hosts and queriers say."""
        cases = {
            bytes.fromhex("1600f8faef010203"): [Word("join", GROUP, True)],
            bytes.fromhex("1700f7faef010203"): [Word("leave", GROUP, True)],
            bytes.fromhex("1164ee9b00000000"): [Word("query", "", True)],
            igmp_query("", 10.0, 125.0): [Word("query", "")],
            igmp_query(GROUP, 1.0, 125.0): [Word("query", GROUP)],
            v3((4, GROUP, 0), (3, "239.9.9.9", 0), (1, "239.8.8.8", 2), (6, "239.7.7.7", 1)): [
                Word("join", GROUP),
                Word("leave", "239.9.9.9"),
                Word("join", "239.8.8.8"),
            ],
        }
        for message, words in cases.items():
            self.assertEqual(list(read_igmp(message)), words, message.hex())
        self.assertEqual(list(read_igmp(bytes.fromhex("1600f8fbef010203"))), [], "a wrong checksum")

    def test_mld(self) -> None:
        """The same for IPv6."""
        group = socket.inet_pton(socket.AF_INET6, "ff15::1")
        report = struct.pack(">BBHHH", 143, 0, 0, 0, 1) + struct.pack(">BBH", 4, 0, 0) + group
        cases = {
            report: [Word("join", "ff15::1")],
            struct.pack(">BBHHH", 131, 0, 0, 0, 0) + group: [Word("join", "ff15::1", True)],
            struct.pack(">BBHHH", 132, 0, 0, 0, 0) + group: [Word("leave", "ff15::1", True)],
            mld_query("", 10.0, 125.0): [Word("query", "")],
            struct.pack(">BBHHH", 135, 0, 0, 0, 0) + group: [],  # neighbour solicitation
        }
        for message, words in cases.items():
            self.assertEqual(list(read_mld(message)), words, message.hex())

    def test_queries(self) -> None:
        """General and for one group: RFC 3376 section 4.1, RFC 3810 section 5.1."""
        self.assertEqual(igmp_query("", 10.0, 125.0).hex(), "1164ec1e00000000027d0000")
        self.assertEqual(igmp_query(GROUP, 1.0, 125.0).hex(), "110afb73ef010203027d0000")
        self.assertEqual(mld_query("", 10.0, 125.0).hex(), "8200000027100000" + "00" * 16 + "027d0000")
        self.assertEqual(igmp_query("", 10.0, 3_600.0)[9], 0xCC)  # (12 | 16) << (4 + 3) is 3,584

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=100))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes, nothing is raised; what is cut off says what stood before the cut at most."""
        list(read_igmp(data))
        list(read_igmp(summed(b"\x22\0\0\0" + data)))
        list(read_mld(data))
        list(read_mld(b"\x8f\0\0\0" + data))
        packet_of(data)
        packet_of(b"\x46" + data)
        packet_of(b"\x60\0\0\0\0\0\0\1" + data)

    def test_packets(self) -> None:
        """Out of IP packets, options and padding and all."""
        message = igmp_query("", 10.0, 125.0)
        head = struct.pack(">BBHHHBBH", 0x46, 0, 24 + len(message), 0, 0, 1, 2, 0)
        packet = head + socket.inet_aton(HOST) + socket.inet_aton("224.0.0.1") + b"\x94\x04\0\0" + message
        self.assertEqual(packet_of(packet + bytes(18)), (HOST, [Word("query", "")]))
        for end in range(len(packet)):
            self.assertEqual(packet_of(packet[:end])[1], [])


class Joined(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1_000.0
        self.members = Memberships((OWN,), 125.0, 0.0, self.now)

    def say(self, kind: str, group: str = GROUP, host: str = HOST, old: bool = False) -> list[str]:
        return self.members.heard(host, Word(kind, group, old), self.now)

    def listened(self, group: str = GROUP) -> bool:
        return self.members.listened(group, self.now)

    def known(self) -> None:
        """Everybody has had time to answer."""
        self.assertTrue(self.members.asks(self.now))
        self.now += LEARNING_S

    def test_at_first_everything(self) -> None:
        """Until all have answered the first question, every group counts as joined; then those that were told."""
        self.assertTrue(self.listened())
        self.say("join", "239.1.1.1")
        self.known()
        self.assertEqual((self.listened(), self.listened("239.1.1.1")), (False, True))

    def test_who_says_nothing_more(self) -> None:
        """Has left after two questions without an answer: 260 s."""
        self.known()
        self.say("join")
        self.now += 259.9
        self.assertTrue(self.listened())
        self.now += 0.2
        self.assertFalse(self.listened())

    def test_leaving(self) -> None:
        """A leave is asked about; who says that he stays, stays; else two seconds later nobody is there."""
        self.known()
        self.say("join")
        self.assertEqual(self.say("leave"), [GROUP])
        self.now += 1.0
        self.say("join", host="10.0.0.30")
        self.now += 2.0
        self.assertTrue(self.listened())
        self.say("leave")
        self.now += 2.1
        self.assertFalse(self.listened())
        self.assertEqual(self.say("leave", "239.0.0.99"), [])

    def test_ourselves(self) -> None:
        """Our own memberships are nobody's."""
        self.known()
        self.say("join", host=OWN)
        self.assertFalse(self.listened())

    def test_old_versions(self) -> None:
        """Where IGMPv2 is spoken, hosts keep silent when they have heard another: every group counts as joined, for as long as it is."""
        self.known()
        self.say("join", "239.1.1.1", old=True)
        self.assertTrue(self.listened())
        self.now += OLD_S
        self.assertFalse(self.listened())

    def test_who_asks(self) -> None:
        """The machine of the lowest address asks; another is left to it, and takes over when it falls silent; a switch without an address counts for nothing."""
        self.known()
        self.say("query", "", "10.0.0.30")
        self.say("query", "", "0.0.0.0")
        self.now += 125.0
        self.assertTrue(self.members.asks(self.now))
        self.say("query", "", LOWER)
        self.now += 254.0
        self.assertFalse(self.members.asks(self.now))
        self.now += 2.0
        self.assertTrue(self.members.asks(self.now))
        self.assertFalse(self.members.asks(self.now))

    def test_passive(self) -> None:
        """Who asks nobody waits for others' questions: as long as a membership lives."""
        self.members = Memberships((OWN,), 0.0, 0.0, self.now)
        self.assertFalse(self.members.asks(self.now))
        self.say("join", "239.1.1.1")
        self.assertEqual(self.say("leave", "239.1.1.1"), [])
        self.now += 259.0
        self.assertTrue(self.listened())
        self.now += 2.0
        self.assertFalse(self.listened())

    def test_bound(self) -> None:
        """Forged groups without end are refused, and counted."""
        for n in range(MAX_GROUPS + 10):
            self.say("join", f"232.{n >> 16}.{n >> 8 & 255}.{n & 255}")
        self.assertEqual((len(self.members.groups), self.members.refused), (MAX_GROUPS, 10))
