"""From the configuration to an election, and its ways by themselves."""

from pathlib import Path
from uuid import UUID

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import Loaded, load
from ice.election.connect import election_of, named_group, server_group, state_folder, ways_of
from ice.election.transports import (
    Air,
    MulticastWay,
    NoWay,
    RallypointWay,
    election_stream,
    keyring_of,
    place_of,
)
from ice.errors import LocalError
from ice.streams.memory import MemoryNetwork

from .groups import GROUP_ID, MS, SALT, group
from .kit import Ether, Work

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def wall() -> float:
    """The clock on the wall."""
    return MS / 1_000


class Configured(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        (self.folder / "election.salt").write_text(SALT.hex())

    def loaded(self, *groups: str) -> Loaded:
        """A configuration with these server groups."""
        path = self.folder / "ice.toml"
        path.write_text("\n".join(f"[[server_groups]]\n{each}\n" for each in groups))
        return load(path)

    def group(self, more: str = "", id: str = GROUP_ID, name: str = "north", member: str = ONE) -> str:
        """A server group."""
        return f'id = "{id}"\nname = "{name}"\n{more}\nmembers = [{{ id = "{member}", name = "ref1" }}]\n'

    def test_own_group(self) -> None:
        """A satellite finds itself by its certificate's id; in two groups it cannot be."""
        loaded = self.loaded(self.group())
        found = server_group(loaded, UUID(ONE))
        assert found is not None
        self.assertEqual(str(found.id), GROUP_ID)
        self.assertIsNone(server_group(loaded, UUID(TWO)))
        both = self.loaded(self.group(), self.group(id=TWO, name="south"))
        with self.assertRaises(LocalError) as caught:
            server_group(both, UUID(ONE))
        self.assertIn("north and south", str(caught.exception))

    def test_named_group(self) -> None:
        """By name in any case, or by id; who asks for another is told which there are."""
        loaded = self.loaded(self.group())
        for name in ("North", GROUP_ID, f"{{{GROUP_ID.upper()}}}"):
            self.assertEqual(named_group(loaded, name).name, "north")
        with self.assertRaises(LocalError) as caught:
            named_group(loaded, "south")
        self.assertIn("no server group 'south'; its server groups are 'north'", str(caught.exception))

    def test_ways(self) -> None:
        """Both where both are wanted; what is not used says why."""
        clock = Clock()
        network = MemoryNetwork(clock)
        for more, kinds in (
            ("", (RallypointWay, NoWay)),
            ('interface = "eth0"', (RallypointWay, MulticastWay)),
            ('interface = "eth0"\nrallypoint = false', (NoWay, MulticastWay)),
        ):
            (settings,) = self.loaded(self.group(more)).config.server_groups
            ways = ways_of(settings, settings.rules(), network, clock, wall=wall, rejoin_s=8.0)
            self.assertEqual(tuple(map(type, ways)), kinds)
        lone = ways_of(settings, settings.rules(), None, clock, wall=wall, rejoin_s=8.0)[0]
        self.assertEqual(lone.state(0.0, 10.0).state, "notRunning")
        self.assertFalse(lone.send(b"{}"))
        shared: dict[object, Air] = {}
        for _ in range(2):
            ways_of(settings, settings.rules(), None, clock, wall=wall, rejoin_s=8.0, airs=shared)
        self.assertEqual(len(shared), 1)

    def test_election(self) -> None:
        """Its files are in the state folder; it takes part as the certificate says."""
        loaded = self.loaded(self.group("hand_over_s = 3.0"))
        clock = Clock()
        election = election_of(
            loaded,
            loaded.config.server_groups[0],
            UUID(ONE),
            MemoryNetwork(clock),
            Work(),
            clock,
            wall=wall,
            environ={"STATE_DIRECTORY": f"{self.folder}/state:/elsewhere"},
        )
        self.assertEqual(election.own_id, ONE)
        self.assertEqual(election.satellite.deadline_s, 3.0)
        assert election.wishes.status_file is not None and election.wishes.document_file is not None
        self.assertEqual(election.wishes.status_file.parent, self.folder / "state")
        self.assertEqual(election.wishes.document_file.name, f"group-{GROUP_ID}-11111111.document")
        with self.assertRaises(LocalError):
            election.configure(group(1))

    def test_state_folder(self) -> None:
        """A service's, a person's, or the usual one."""
        self.assertEqual(state_folder({"STATE_DIRECTORY": "/var/lib/ice"}), Path("/var/lib/ice"))
        self.assertEqual(state_folder({"XDG_STATE_HOME": "/home/a/.state"}), Path("/home/a/.state/ice"))
        self.assertTrue(str(state_folder({})).endswith("/.local/state/ice"))


class Ways(SynchronousTestCase):
    class Ear:
        def __init__(self) -> None:
            self.got: list[bytes] = []

        def heard(self, way: object, data: bytes) -> None:
            self.got.append(data)

        def path(self, way: object, up: bool, why: str) -> None: ...

    def test_names(self) -> None:
        """The documented stream, and where ballots go by multicast."""
        self.assertEqual(election_stream("{ABC}"), "__election_abc")
        place = place_of("eth1")
        self.assertEqual((str(place.tx), place.ttl, place.interface), ("239.255.74.43:7445", 8, "eth1"))

    def test_many_groups_share_an_air(self) -> None:
        """Each hears what is for it; what is for nobody is counted once; with the last the socket is closed."""
        clock = Clock()
        ether = Ether(clock)
        airs = [Air(clock, place_of("eth0"), socket_of=ether.socket) for _ in range(2)]
        ids = [GROUP_ID, ONE]
        ears = [self.Ear() for _ in range(4)]
        ways = [MulticastWay(air, id, keyring_of(group()), wall=wall) for air in airs for id in ids]
        for way, ear in zip(ways, ears, strict=True):
            way.start(ear, 0.0)
        self.assertTrue(all(way.up for way in ways))
        ways[0].send(b'{"rids":["%s"]}' % GROUP_ID.encode())
        ways[1].send(b"\x04report")
        ways[0].send(b'{"rids":["?"]}')
        clock.advance(0.01)
        self.assertEqual(ears[2].got, [b'{"rids":["%s"]}' % GROUP_ID.encode(), b'{"rids":["?"]}'])
        self.assertEqual(ears[3].got, [b"\x04report"])
        self.assertEqual(ears[0].got + ears[1].got, [])
        for way in ways:
            way.stop()
            way.stop()
        self.assertFalse(any(sock.up for sock in ether.sockets))
        self.assertFalse(ways[0].send(b"{}"))

    def test_sealed_on_multicast(self) -> None:
        """Everything but ballots is sealed there: by another key, in clear, played back, it is refused and counted."""
        clock = Clock()
        ether = Ether(clock)
        ours = group()
        ear = self.Ear()
        way = MulticastWay(
            Air(clock, place_of("eth0"), socket_of=ether.socket), GROUP_ID, keyring_of(ours), wall=wall
        )
        way.start(ear, 0.0)
        for key_hex in ("", "00" * 32):
            other = MulticastWay(
                Air(clock, place_of("eth0"), socket_of=ether.socket),
                GROUP_ID,
                keyring_of(ours, key_hex),
                wall=wall,
            )
            other.start(self.Ear(), 0.0)
            other.send(b"\x03piece")
        clock.advance(0.01)
        self.assertEqual(ear.got, [b"\x03piece"])
        self.assertNotIn(b"piece", b"".join(ether.said))
        way.came(ether.said[0])
        way.came(b"\x03piece")
        self.assertEqual(way.refused, {"tag": 1, "replay": 1, "clear": 1})

    def test_two_salts(self) -> None:
        """While salts are changed both open, whichever seals."""
        both = keyring_of(group())
        self.assertEqual(len(both.opening(0.0)), 1)
        new, old = (
            keyring_of(attrs.evolve(group(), salts=salts)) for salts in ((bytes(32), SALT), (SALT, bytes(32)))
        )
        self.assertEqual(new.sealing(0.0), old.opening(0.0)[1])
        self.assertEqual(old.sealing(0.0), new.opening(0.0)[1])
