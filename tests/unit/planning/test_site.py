"""Missions and sites: figures that one can check on paper."""

import math

import attrs
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.mission.model import GCM, Group, GroupType, Mission
from ice.mission.parts import Host, Presence, Rallypoint, TxAudio
from ice.planning.bandwidth import NOTHING, Carrier, Rate, Seal, Voice, extension_octets, keeping
from ice.planning.site import ALIAS, Channel, Load, PresenceChannel, Site, channel_of, channels_of, plan

OPUS = Channel("Red", "Opus 24", Voice(60, 20), Seal.CLEAR)
UP = OPUS.rate(Carrier.RALLYPOINT)  # 50/s of 184 bytes: 73.6 kbit/s
MESH = OPUS.rate(Carrier.MESH)
LAN = OPUS.rate(Carrier.MULTICAST)


def twelve(users: int = 200, **more: object) -> Site:
    """The example of the documentation: 200 users, 12 channels, 10 % talking, each on one channel."""
    return Site(users, (OPUS,) * 12, 0.1, 1, **more)  # type: ignore[arg-type]


class Sites(SynchronousTestCase):
    def almost(self, one: Rate, other: Rate) -> None:
        """Equal but for rounding."""
        self.assertAlmostEqual(one.packets_per_s, other.packets_per_s)
        self.assertAlmostEqual(one.octets_per_s, other.octets_per_s)

    def test_two_people(self) -> None:
        """Two people on one channel who always want to talk: one stream up, one down, never more."""
        found = plan(Site(2, (OPUS,), 1.0))
        self.assertEqual((found.busy_usual, found.busy_peak), (1.0, 1))
        self.almost(found.rallypoint.from_users.usual, UP)
        self.almost(found.rallypoint.to_users.usual, UP)
        self.assertEqual(found.rallypoint.to_users.peak, UP)
        self.assertEqual(found.rallypoint.outwards.peak, UP)
        self.assertEqual(found.lan.peak, LAN)
        self.assertEqual(found.mesh_link.peak, NOTHING)
        self.assertEqual(found.user.up.peak, UP)
        self.almost(found.user.up.usual, UP * 0.5)

    def test_busy_channels(self) -> None:
        """A channel of n members is busy with 1 − (1 − p)ⁿ, at the peak always; the sum over channels is what is on a LAN."""
        found = plan(twelve())
        busy = 12 * (1 - 0.9 ** (200 / 12))
        self.assertAlmostEqual(found.busy_usual, busy)
        self.assertEqual(found.busy_peak, 12)
        self.almost(found.lan.usual, LAN * busy)
        self.assertEqual(found.lan.peak, LAN * 12)
        self.almost(found.rallypoint.from_users.usual, UP * busy)
        self.almost(found.rallypoint.to_users.usual, UP * (busy * (200 / 12 - 1)))
        self.almost(found.rallypoint.to_users.peak, UP * (12 * 16))
        self.assertAlmostEqual(found.rallypoint.deliveries_per_s, 50 * busy * (200 / 12 - 1))

    def test_one_channel_each(self) -> None:
        """A user who has joined one channel hears one stream at the peak; who has joined all, all; 24 kbit/s at 20 ms is over 64."""
        found = plan(twelve())
        self.assertEqual(found.user.down.peak, UP)
        self.assertEqual(found.user.streams, 0)
        everything = plan(attrs.evolve(twelve(), joined=0))
        self.almost(everything.user.down.peak, UP * 12)
        self.assertEqual(everything.user.up.peak, UP)

    def test_within(self) -> None:
        """64 kbit/s per user: Opus 8 at 60 ms fits, with so many channels to hear."""
        small = Channel("Red", "Opus 8", Voice(60, 60), Seal.GCM)
        found = plan(Site(10, (small,), 0.1))
        self.assertTrue(found.user.within)
        self.assertEqual(found.user.streams, int(64_000 // small.rate(Carrier.RALLYPOINT).bits_per_s))
        self.assertFalse(plan(attrs.evolve(twelve(), joined=0)).user.within)

    def test_mesh(self) -> None:
        """Three Rallypoints: users spread, each talker goes once to each other one, and what goes in comes out somewhere."""
        found = plan(twelve(rallypoints=3))
        one = plan(twelve())
        here, busy = found.rallypoint, found.busy_usual
        self.assertEqual(here.users, 67)
        self.almost(here.from_users.usual, one.rallypoint.from_users.usual * (1 / 3))
        self.almost(here.to_users.usual, one.rallypoint.to_users.usual * (1 / 3))
        self.almost(here.to_mesh.usual, MESH * (busy * 2 / 3))
        self.almost(here.from_mesh.usual, here.to_mesh.usual)
        self.almost(found.mesh_link.usual, MESH * (busy / 3))
        self.assertEqual(found.mesh_link.peak, MESH * 12)
        self.almost(found.mesh_link.usual * 2, here.to_mesh.usual)

    def test_peak_of_a_rallypoint(self) -> None:
        """The worse of: all talkers here (to all members but them, and to the mesh), or all elsewhere (to all members here)."""
        here = plan(twelve(rallypoints=3)).rallypoint
        members = math.ceil(200 / 12 / 3)
        all_here = UP * (12 * (members - 1)) + MESH * 24
        elsewhere = UP * (12 * members)
        self.almost(here.outwards.peak, max(all_here, elsewhere, key=lambda rate: rate.octets_per_s))
        self.almost(here.inwards.peak, MESH * 12)

    def test_lonely_channels(self) -> None:
        """Where a channel has a member at one Rallypoint only, nothing of it goes over the mesh."""
        found = plan(Site(12, (OPUS,) * 12, 1.0, 1, rallypoints=4))
        self.assertEqual(found.mesh_link, Load())
        self.assertEqual(found.rallypoint.to_users.usual, NOTHING)

    def test_full_duplex(self) -> None:
        """Where all can talk at once n × p do, at the peak three deviations more, and never more than there are."""
        phone = attrs.evolve(OPUS, full_duplex=True)
        found = plan(Site(100, (phone,), 0.1))
        self.assertAlmostEqual(found.busy_usual, 10)
        self.assertEqual(found.busy_peak, 19)
        self.assertEqual(plan(Site(3, (phone,), 0.9)).busy_peak, 3)

    def test_silence(self) -> None:
        """Nobody talks: nothing but keeping the links."""
        found = plan(Site(10, (OPUS,), 0.0))
        self.assertEqual(found.lan.peak, NOTHING)
        self.assertEqual(found.busy_peak, 0)
        self.assertGreaterEqual(found.rallypoint.beside.octets_per_s, (keeping() * 20).octets_per_s)

    def test_presence(self) -> None:
        """Everybody tells of himself to everybody, each interval."""
        told = PresenceChannel("Control", Seal.CLEAR, 30)
        found = plan(Site(10, (), 0.1, presence=(told,)))
        self.almost(found.lan.usual, told.rate(Carrier.MULTICAST) * 10)
        self.almost(found.rallypoint.from_users.usual, told.rate(Carrier.RALLYPOINT) * 10)
        self.almost(found.rallypoint.to_users.usual, told.rate(Carrier.RALLYPOINT) * 90)
        self.almost(found.user.down.usual, told.rate(Carrier.RALLYPOINT) * 9)

    def test_ways(self) -> None:
        """What goes only by multicast costs no Rallypoint anything, and the other way round."""
        found = plan(Site(10, (attrs.evolve(OPUS, rallypoint=False),), 0.5))
        self.assertEqual(found.rallypoint.outwards.peak, NOTHING)
        self.assertEqual(found.user.beside, NOTHING)
        self.assertEqual(found.lan.peak, LAN)
        self.assertEqual(plan(Site(10, (attrs.evolve(OPUS, multicast=False),), 0.5)).lan.peak, NOTHING)

    def test_refusals(self) -> None:
        """No site without users, no more than everybody talking, no more channels joined than there are."""
        self.assertRaises(LocalError, Site, 0, (OPUS,))
        self.assertRaises(LocalError, Site, 1, (OPUS,), 1.5)
        self.assertRaises(LocalError, Site, 1, (OPUS,), 0.1, 2)
        self.assertRaises(LocalError, Site, 1, (OPUS,), 0.1, 1, 0)


class Missions(SynchronousTestCase):
    def group(self, **more: object) -> Group:
        """A group by multicast and Rallypoint, in clear."""
        host = Host("239.1.2.3", 5000)
        base = Group(
            GroupType.AUDIO, "id", name="Red", rx=host, tx=host, rallypoints=(Rallypoint(Host("rp", 7443)),)
        )
        return attrs.evolve(base, **more)

    def test_group(self) -> None:
        """A group's encoder, framing, cipher and ways; the header extension unless it says no."""
        channel = channel_of(
            self.group(tx_audio=TxAudio(encoder=29, framing_ms=20, fdx=True), crypto_password="ab" * 32)
        )
        extension = extension_octets(ALIAS, priority=True)
        self.assertEqual(
            channel, Channel("Red", "Opus 24", Voice(60, 20, extension), Seal.CBC, full_duplex=True)
        )
        bare = channel_of(
            self.group(tx_audio=TxAudio(encoder=1, no_hdr_ext=True), crypto_password="ab" * 32, cipher=GCM)
        )
        self.assertEqual((bare.voice, bare.seal), (Voice(480, 60), Seal.GCM))
        self.assertIs(channel_of(self.group()).seal, Seal.CLEAR)
        self.assertFalse(channel_of(self.group(rallypoints=())).rallypoint)
        self.assertFalse(channel_of(self.group(tx=None)).multicast)

    def test_oddities(self) -> None:
        """What has no rate of its own is planned with one, and says so; MELPe, which we cannot carry, can be planned."""
        self.assertIn("64 kbit/s", channel_of(self.group(tx_audio=TxAudio(encoder=0))).warning)
        self.assertEqual(
            channel_of(self.group(tx_audio=TxAudio(encoder=5, framing_ms=20))).voice.octets, 1_920
        )
        self.assertEqual(channel_of(self.group(tx_audio=TxAudio(encoder=52, framing_ms=60))).voice.octets, 18)
        blocks = channel_of(self.group(tx_audio=TxAudio(encoder=3, framing_ms=60, block_count=5)))
        self.assertEqual(blocks.voice.framing_ms, 100)

    def test_mission(self) -> None:
        """Audio groups and mission control are planned; raw groups and those that may not talk are not."""
        mission = Mission(
            name="Demo",
            groups=(
                self.group(),
                self.group(type=GroupType.RAW),
                self.group(tx_audio=TxAudio(enabled=False)),
                self.group(type=GroupType.PRESENCE, name="Control", presence=Presence(interval_s=15)),
            ),
        )
        audio, presence = channels_of(mission)
        self.assertEqual([each.name for each in audio], ["Red"])
        self.assertEqual(presence, (PresenceChannel("Control", Seal.CLEAR, 15),))
