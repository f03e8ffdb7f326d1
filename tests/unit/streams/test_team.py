"""A mission as one network: which ways each group has, what is missing, and talk from end to end with keys."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import Loaded, loads
from ice.errors import LocalError
from ice.link.frame import Flag
from ice.mission.model import Mission
from ice.mission.reading import read_mission
from ice.net.addresses import Address
from ice.net.multicast import Place
from ice.streams.connect import Passport
from ice.streams.failover import Way
from ice.streams.memory import Collector, MemoryNetwork
from ice.streams.roster import Strategy
from ice.streams.team import Team, _ways, team_of
from ice.testing.network import MemoryDialler, MemoryRallypoint, run

KEY = "0123456789abcdef" * 4
A, B = "a.test:7443", "b.test:7443"


def mission(*groups: dict[str, Any], **more: Any) -> Mission:
    """A mission of groups, each named and at 239.9.9.1 unless it says otherwise."""
    found = [
        {
            "type": 1,
            "name": f"Group {number}",
            "rx": {"address": "239.9.9.1", "port": 20_000 + number},
            "tx": {"address": "239.9.9.1", "port": 20_000 + number},
            **group,
        }
        for number, group in enumerate(groups, 1)
    ]
    return read_mission(json.dumps({"name": "Exercise", "groups": found, **more}), "a test").mission


def at(*addresses: str) -> dict[str, Any]:
    """Rallypoints as a group names them."""
    hosts = [address.rpartition(":") for address in addresses]
    return {"rallypoints": [{"host": {"address": host, "port": int(port)}} for host, _, port in hosts]}


def configuration(text: str = "") -> Loaded:
    from pathlib import Path

    return loads(text, Path("/nowhere/ice.toml"))


class Air(MemoryNetwork):
    """A local network in memory, shared by teams; takes what a MulticastNetwork takes."""

    def of(self, reactor: Any, place_of: Callable[[str], Place | None], **settings: Any) -> "Antenna":
        return Antenna(self, place_of)


class Antenna:
    """One team's part in the air."""

    def __init__(self, air: Air, place_of: Callable[[str], Place | None]) -> None:
        self.air, self.place_of, self.on = air, place_of, False
        self.join = air.join

    def start(self) -> None:
        self.on = True

    def stop(self) -> Any:
        from twisted.internet.defer import succeed

        self.on = False
        return succeed(None)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.air = Air(self.clock, delay_s=0.001)
        self.dialler = MemoryDialler(self.clock, latency_s=0.001)
        self.dialler.there[A] = self.rallypoint = MemoryRallypoint(self.clock, name="a")
        self.teams: list[Team] = []

    def tearDown(self) -> None:
        over: list[None] = []
        for team in self.teams:
            team.stop().addCallback(over.append)
        run(self.clock, 3.0)
        self.assertEqual(len(over), len(self.teams))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def team(self, of: Mission, loaded: Loaded | None = None, person: int = 1, **settings: Any) -> Team:
        nothing: Any = None  # nobody dials by TLS here
        passport = Passport(self.dialler, nothing, UUID(int=person), f"person {person}", False, "authority")
        settings.setdefault("passport", passport)
        team = team_of(
            of,
            loaded,
            self.clock,
            multicast_of=self.air.of,
            wall=lambda: 1.8e9 + self.clock.seconds(),
            **settings,
        )
        self.teams.append(team)
        return team


class Ways(Case):
    """Which ways a group has."""

    def test_by_what_the_group_says(self) -> None:
        """Rallypoints alone, both, or multicast alone."""
        team = self.team(
            mission(at(A), {**at(A), "enableMulticastFailover": True, "multicastFailoverSecs": 3}, {})
        )
        rallypoints, both, multicast = team.groups
        assert rallypoints.cluster and both.cluster and both.place
        self.assertEqual(rallypoints.cluster.addresses, (Address("a.test", 7443),))
        self.assertIsNone(rallypoints.place)
        self.assertEqual(
            (both.fails_over, both.after_s, both.place.rx), (True, 3, Address("239.9.9.1", 20_002))
        )
        self.assertIsNone(multicast.cluster)
        self.assertIsNotNone(multicast.place)
        self.assertEqual(team.remarks, ())

    def test_policy(self) -> None:
        """The mission decides for all of its groups, else the program, else each group."""
        groups = [{**at(A), "enableMulticastFailover": True}, at(A)]
        expected = {
            (0, None): [True, False],
            (0, True): [True, True],
            (0, False): [False, False],
            (1, False): [True, True],
            (2, True): [False, False],
            (3, None): [True, False],
        }
        for (policy, program), fails_over in expected.items():
            team = self.team(mission(*groups, multicastFailoverPolicy=policy), multicast=program)
            self.assertEqual([each.fails_over for each in team.groups], fails_over, (policy, program))

    def test_one_link_per_cluster(self) -> None:
        """Groups that name the same Rallypoints in the same order share their links; others have theirs."""
        team = self.team(mission(at(A, B), at(A, B), at(B), at(B, A)))
        self.assertEqual(len(team.rallypoints), 3)

    def test_ways_of_a_cluster(self) -> None:
        """The usual Rallypoints share the usual file of remembered ways; others may be another mesh, and have one of their own."""
        loaded = configuration(f'[network]\nrallypoints = ["{A}", "{B}"]\nways_file = "ways.json"\n')
        ours, other, again = (
            _ways(loaded, each.cluster)
            for each in self.team(mission(at(B, A), at(A), {"name": "x", **at(A)})).groups
            if each.cluster is not None
        )
        assert ours is not None and other is not None
        self.assertEqual(str(ours), "/nowhere/ways.json")
        self.assertRegex(str(other), r"/nowhere/ways-[0-9a-f]{8}\.json")
        self.assertEqual(other, again)

    def test_strategy_of_a_cluster(self) -> None:
        """What a cluster says of strategy and times counts; a plain list leaves them to the configuration."""
        cluster = {"connectionStrategy": 0, "rolloverSecs": 7, "connectionTimeoutSecs": 2, **at(A, B)}
        team = self.team(mission({"rallypointCluster": cluster}, at(A, B)))
        told, left = (each.cluster for each in team.groups)
        assert told and left
        self.assertEqual(
            (told.strategy, told.rollover_s, told.connect_timeout_s), (Strategy.ROUND_ROBIN, 7.0, 2.0)
        )
        self.assertEqual((left.strategy, left.rollover_s), (Strategy.FAIL_BACK, 10.0))

    def test_place(self) -> None:
        """A place is what the group says, completed from the configuration."""
        text = '[multicast]\ninterface = "eth7"\nttl = 9\nloopback = false\n'
        told = {"txOptions": {"priority": 1, "ttl": 4}, "interfaceName": "wlan0", "cryptoPassword": KEY}
        team = self.team(
            mission(told, {"rx": {"address": "ff15::1", "port": 5}, "tx": None}), configuration(text)
        )
        one, other = (each.place for each in team.groups)
        assert one and other
        self.assertEqual(
            (one.interface, one.ttl, one.priority, one.sealed, one.loopback), ("wlan0", 4, 1, True, False)
        )
        self.assertEqual((other.interface, other.ttl, other.sealed), ("eth7", 9, False))
        self.assertEqual((str(other.rx), str(other.tx)), ("[ff15::1]:5", "[ff15::1]:5"))

    def test_what_cannot_be(self) -> None:
        """Addresses that cannot be used are remarked with their path; the group is joined all the same, and says why it is closed."""
        team = self.team(
            mission({"rx": {"address": "radio.test", "port": 5}, "tx": None}, at("not a host!:7443"))
        )
        self.assertEqual(
            [each.path for each in team.remarks][:2], ["groups[0]", "groups[1].rallypoints[0].host"]
        )
        self.assertIn("write the IP address", team.remarks[0].text)
        heard = Collector()
        team.join(team.groups[0].stream_id, heard)
        team.start()
        run(self.clock, 0.1)
        self.assertEqual([up for up, _ in heard.paths], [False])
        self.assertIn("radio.test", heard.paths[0][1])

    def test_switched_off(self) -> None:
        """With multicast switched off in the configuration nothing uses it, whatever a mission says."""
        groups = [{}, {**at(A), "enableMulticastFailover": True}]
        team = self.team(mission(*groups), configuration("[multicast]\nenabled = false\n"))
        self.assertEqual([each.place for each in team.groups], [None, None])
        self.assertIsNone(team.multicast)
        self.assertIn("multicast.enabled", team.groups[0].why)

    def test_the_same_twice(self) -> None:
        """Two groups that are one channel are used once, and told."""
        same = {
            "name": "Red",
            "rx": {"address": "239.9.9.1", "port": 1},
            "tx": {"address": "239.9.9.1", "port": 1},
        }
        team = self.team(mission(same, same))
        self.assertEqual(len(team.groups), 1)
        self.assertIn("the same channel", team.remarks[0].text)


class WithoutCertificate(Case):
    def test_multicast_alone(self) -> None:
        """Without a configuration a group that may use multicast uses it at once, and says what is missing."""
        team = self.team(mission({**at(A), "enableMulticastFailover": True}), passport=None)
        heard = Collector()
        team.join(team.groups[0].stream_id, heard)
        team.start()
        run(self.clock, 0.1)
        self.assertEqual(
            heard.paths,
            [
                (
                    True,
                    "limited connectivity: no Rallypoint is dialled without a configuration and a certificate, talking over multicast 239.9.9.1:20001",
                )
            ],
        )
        self.assertEqual(team.rallypoints, {})
        self.assertEqual(team.remarks[0].path, "groups[0].rallypoints")

    def test_no_way(self) -> None:
        """Where the group may not use multicast, it is closed with both reasons."""
        team = self.team(mission(at(A)), configuration(), passport=None)
        heard = Collector()
        stream = team.join(team.groups[0].stream_id, heard)
        team.start()
        run(self.clock, 0.1)
        [(up, why)] = heard.paths
        self.assertFalse(up)
        self.assertIn("no Rallypoint is dialled: ", why)
        self.assertIn("enableMulticastFailover", why)
        self.assertFalse(stream.send(b"anybody?"))
        stream.leave()

    def test_not_needed(self) -> None:
        """A mission without Rallypoints needs no certificate, and misses none."""
        team = self.team(mission({}), None, passport=None)
        self.assertEqual(team.remarks, ())


class Groups(Case):
    def test_by_name_or_id(self) -> None:
        """A group is found by its name, in any case if that is clear, or its id."""
        team = self.team(mission({"name": "Red"}, {"name": "red"}, {"name": "Blue"}))
        red, small, blue = team.groups
        self.assertEqual([team.group("Red"), team.group("red"), team.group("BLUE")], [red, small, blue])
        self.assertEqual(team.group("{" + blue.stream_id.upper() + "}"), blue)
        self.assertIn("2 groups are named 'RED'", str(self.assertRaises(LocalError, team.group, "RED")))
        wrong = str(self.assertRaises(LocalError, team.group, "Green"))
        self.assertEqual(
            wrong, "mission 'Exercise' has no group 'Green'; its groups are 'Red', 'red', 'Blue'"
        )

    def test_streams_of_no_group(self) -> None:
        """A stream that no group has is refused."""
        team = self.team(mission({}))
        self.assertRaises(LocalError, team.join, "town-hall", Collector())
        self.assertRaises(LocalError, team.sealing, "town-hall")


class Talking(Case):
    """Two people of one mission, from end to end."""

    def setUp(self) -> None:
        super().setUp()
        self.mission = mission(
            {
                **at(A),
                "enableMulticastFailover": True,
                "multicastFailoverSecs": 1,
                "cryptoPassword": KEY,
                "cipher": "aes-256-gcm",
            },
            {"name": "Open"},
        )
        self.heard = [Collector(), Collector()]
        people = [self.team(self.mission, person=number, settle_s=2.0) for number in (1, 2)]
        self.streams = [
            team.join(team.groups[0].stream_id, heard) for team, heard in zip(people, self.heard, strict=True)
        ]
        for team in people:
            team.start()
        run(self.clock, 0.2)

    def say(self, begin: int, count: int) -> None:
        for number in range(begin, begin + count):
            flags = Flag.FIRST * (number == begin) | Flag.LAST * (number == begin + count - 1)
            # something that may be RTP
            self.streams[0].send(bytes((0x80, 0)) + number.to_bytes(4, "big") * 3, int(flags))
            run(self.clock, 0.02)

    def numbers(self) -> list[int]:
        return [int.from_bytes(payload[2:6], "big") for payload in self.heard[1].payloads]

    def test_sealed_on_both_ways(self) -> None:
        """Through a Rallypoint that goes and comes back: sealed on each way, opened once, and the same name from the return on."""
        spy = Collector()
        self.air.join(self.teams[0].groups[0].stream_id, spy)
        self.say(0, 20)
        del self.dialler.there[A]
        self.rallypoint.crash()
        run(self.clock, 0.1)
        self.assertEqual(self.teams[0].status()[0].failover.way, Way.WAITING)
        run(self.clock, 1.1)
        self.say(20, 20)
        self.dialler.there[A] = MemoryRallypoint(self.clock, name="a again")
        run(self.clock, 2.0)
        self.assertEqual(self.teams[0].status()[0].failover.way, Way.RALLYPOINT)
        self.say(40, 20)
        run(self.clock, 2.5)
        self.say(60, 20)
        run(self.clock, 0.2)
        self.assertEqual(self.numbers(), list(range(80)))
        seen = spy.payloads
        self.assertEqual(
            len(seen), 40, "over multicast: while there was no Rallypoint, and until all had found it"
        )
        self.assertFalse(any(payload[:2] == b"\x80\0" and len(payload) == 14 for payload in seen))
        self.assertEqual(len({each.source for each in self.heard[1].datagrams[-40:]}), 1)
        sealing = self.teams[1].status()[0].sealing
        self.assertEqual((sealing.cipher, sealing.opened, sealing.refused), ("aes-256-gcm", 80, {}))
        self.assertEqual(self.teams[1].sealing(self.teams[1].groups[0].stream_id), sealing)

    def test_clear_group(self) -> None:
        """A group without a key is joined like the others."""
        stream_id = self.teams[0].group("Open").stream_id
        talker = self.teams[0].join(stream_id, Collector())
        heard = Collector()
        self.teams[1].join(stream_id, heard)
        run(self.clock, 0.1)
        talker.send(b"in clear")
        run(self.clock, 0.1)
        self.assertEqual(heard.payloads, [b"in clear"])
        status = {each.name: each for each in self.teams[0].status()}
        self.assertEqual(status["Open"].sealing.cipher, "none")
        self.assertFalse(status["Open"].failover.limited)
        self.assertTrue(self.teams[0].up)

    def test_stopping(self) -> None:
        """When a team stops, every stream is told, and nothing is left to do."""
        over: list[None] = []
        self.teams[0].stop("gone home").addCallback(over.append)
        run(self.clock, 1.0)
        self.assertEqual(over, [None])
        self.assertEqual(self.heard[0].paths[-1], (False, "gone home"))
        self.assertFalse(self.teams[0].up)


class Keys(Case):
    def test_no_key_in_words(self) -> None:
        """Neither the team nor its groups show a key."""
        team = self.team(mission({"cryptoPassword": KEY}))
        shown = repr(team.groups) + repr(team.status()) + repr(attrs.asdict(team.groups[0], recurse=False))
        self.assertNotIn(KEY, shown)
