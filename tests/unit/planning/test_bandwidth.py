"""The documented tables, digit for digit; the sizes of our own packets, held against the code that makes them."""

from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.frame import RELAY_HEADER, media
from ice.media.rtp import Packet, Talk, TalkFlag
from ice.planning.bandwidth import (
    Carrier,
    Rate,
    Seal,
    Voice,
    acknowledgements,
    carried,
    extension_octets,
    keeping,
    original_tls_rate,
    sealed,
    stream_rate,
)

# "Bandwidth Utilization Tables": codec, bit/s, ms, payload, multicast clear and AES, TLS (estimate) clear and AES; kbit/s.
TABLE = """\
G.711 64000 20 160 85.6 93.6 104.0 112.0
G.711 64000 40 320 74.8 78.8 84.0 88.0
G.711 64000 60 480 71.2 73.9 77.3 80.0
G.711 64000 100 800 68.3 69.9 72.0 73.6
AMR-NB 4750 20 12 26.4 36.0 44.8 54.4
AMR-NB 4750 40 24 15.6 21.2 24.8 30.4
AMR-NB 4750 60 36 12.0 16.3 18.1 22.4
AMR-NB 4750 100 60 9.1 11.0 12.8 14.7
AMR-NB 12200 20 31 34.0 42.4 52.4 60.8
AMR-NB 12200 40 61 23.0 27.6 32.2 36.8
AMR-NB 12200 60 92 19.5 22.7 25.6 28.8
AMR-NB 12200 100 153 16.6 18.7 20.2 22.4
GSM 13200 20 33 34.8 42.4 53.2 60.8
GSM 13200 40 66 24.0 27.6 33.2 36.8
GSM 13200 60 99 20.4 22.7 26.5 28.8
GSM 13200 100 165 17.5 20.0 21.2 23.7
Opus 6000 20 15 27.6 36.0 46.0 54.4
Opus 6000 40 30 16.8 21.2 26.0 30.4
Opus 6000 60 45 13.2 16.3 19.3 22.4
Opus 6000 100 75 10.3 12.3 14.0 16.0
Opus 8000 20 20 29.6 42.4 48.0 60.8
Opus 8000 40 40 18.8 24.4 28.0 33.6
Opus 8000 60 60 15.2 18.4 21.3 24.5
Opus 8000 100 100 12.3 14.9 16.0 18.6
Opus 16000 20 40 37.6 48.8 56.0 67.2
Opus 16000 40 80 26.8 30.8 36.0 40.0
Opus 16000 60 120 23.2 26.9 29.3 33.1
Opus 16000 100 200 20.3 22.6 24.0 26.2
Opus 24000 20 60 45.6 55.2 64.0 73.6
Opus 24000 40 120 34.8 40.4 44.0 49.6
Opus 24000 60 180 31.2 35.5 37.3 41.6
Opus 24000 100 300 28.3 30.2 32.0 33.9
"""


class Documented(SynchronousTestCase):
    def test_tables(self) -> None:
        """Every figure of the original's tables: multicast from the sizes of headers, its own TLS estimate as multicast and 46 bytes."""
        for row in TABLE.splitlines():
            name, rate, framing, payload, *expected = row.split()
            voice = Voice.at(float(rate), int(framing))
            self.assertEqual(voice.octets, int(payload), row)
            figures = [stream_rate(voice, seal, Carrier.MULTICAST) for seal in (Seal.CLEAR, Seal.CBC)]
            figures += [original_tls_rate(voice, seal) for seal in (Seal.CLEAR, Seal.CBC)]
            self.assertEqual([f"{each.kbits_per_s:.1f}" for each in figures], expected, f"{name}: {row}")

    def test_overhead(self) -> None:
        """54 bytes around the codec's data; 3,200 and 1,350 bytes/s in the worked examples of the text."""
        self.assertEqual(carried(12 + 10, Carrier.MULTICAST), 64)
        self.assertEqual(stream_rate(Voice(10, 20), Seal.CLEAR, Carrier.MULTICAST), Rate(50, 3_200))
        twice = stream_rate(Voice(0, 40), Seal.CLEAR, Carrier.MULTICAST)
        self.assertEqual(twice, Rate(25, 1_350))

    def test_padding(self) -> None:
        """CBC as documented: 12 → 32, 16 → 48, 104 → 128."""
        self.assertEqual([sealed(octets, Seal.CBC) for octets in (12, 16, 104)], [32, 48, 128])


class Ours(SynchronousTestCase):
    def test_media_frame(self) -> None:
        """A Rallypoint link adds what the code that makes MEDIA frames adds, a TLS record, TCP with timestamps, IP and Ethernet."""
        packet = bytes(100)
        frame = media(0, 1, 2, 3, packet)
        self.assertEqual(carried(100, Carrier.RALLYPOINT), len(frame) + 22 + 32 + 20 + 14)
        self.assertEqual(carried(100, Carrier.RALLYPOINT, ipv6=True), len(frame) + 22 + 32 + 40 + 14)
        self.assertEqual(carried(100, Carrier.MESH), carried(100, Carrier.RALLYPOINT) + RELAY_HEADER)
        self.assertEqual(carried(100, Carrier.MULTICAST, ipv6=True), 100 + 62)

    def test_difference_to_the_original(self) -> None:
        """Beside the original's estimate ours has 24 bytes more in each packet, the MEDIA header."""
        for seal in (Seal.CLEAR, Seal.CBC):
            voice = Voice(60, 60)
            ours = stream_rate(voice, seal, Carrier.RALLYPOINT)
            theirs = original_tls_rate(voice, seal)
            self.assertAlmostEqual(ours.octets_per_packet - theirs.octets_per_packet, 24)

    def test_gcm(self) -> None:
        """Start id, counter and tag; no padding."""
        self.assertEqual(sealed(72, Seal.GCM), 102)
        self.assertEqual(sealed(72, Seal.CLEAR), 72)

    def test_cut(self) -> None:
        """What does not fit an Ethernet is cut, each piece with headers of its own."""
        self.assertEqual(carried(1_472, Carrier.MULTICAST), 1_514)
        self.assertEqual(carried(1_473, Carrier.MULTICAST), 1_515 + 34)
        self.assertEqual(carried(1_452, Carrier.MULTICAST, ipv6=True), 1_514)
        self.assertEqual(carried(1_453, Carrier.MULTICAST, ipv6=True), 1_453 + 8 + 2 * (14 + 48))
        whole = 1_500 - 52 - 22 - 24
        self.assertEqual(carried(whole, Carrier.RALLYPOINT), 1_514)
        self.assertEqual(carried(whole + 1, Carrier.RALLYPOINT), 1_515 + 66)

    def test_extension(self) -> None:
        """The header extension is as long as the code that makes it makes it, on each tenth packet."""
        for alias, priority, node_id in (
            ("", 0, b""),
            ("Ann", 0, b""),
            ("Ann", 5, b""),
            ("Ünïcode", 5, uuid4().bytes),
        ):
            talk = Talk(alias, priority, TalkFlag(0), node_id)
            extension = talk.to_extension()
            bare = Packet(118, 0, 0, 0, b"").encode()
            extended = Packet(118, 0, 0, 0, b"", extension=extension).encode()
            expected = extension_octets(alias, priority=bool(priority), node_id=bool(node_id))
            self.assertEqual(len(extended) - len(bare), expected)
        rate = stream_rate(Voice(60, 20, extension=20), Seal.CLEAR, Carrier.MULTICAST)
        self.assertAlmostEqual(rate.octets_per_packet, 54 + 60 + 2)

    def test_extension_under_cbc(self) -> None:
        """Padding is of each packet, not of the mean one."""
        rate = stream_rate(Voice(4, 20, extension=12), Seal.CBC, Carrier.MULTICAST)
        self.assertAlmostEqual(rate.octets_per_packet, 0.9 * (42 + 48) + 0.1 * (42 + 48))
        rate = stream_rate(Voice(3, 20, extension=1), Seal.CBC, Carrier.MULTICAST)
        self.assertAlmostEqual(rate.octets_per_packet, 0.9 * (42 + 32) + 0.1 * (42 + 48))

    def test_way_back(self) -> None:
        """Acknowledgements: one per packet, at most one per 40 ms, 66 bytes; a PING a second, 99 bytes."""
        self.assertEqual(acknowledgements(Rate(10, 1_000)), Rate(10, 660))
        self.assertEqual(acknowledgements(Rate(50, 5_000)), Rate(25, 1_650))
        self.assertEqual(acknowledgements(Rate(50, 5_000), ipv6=True), Rate(25, 2_150))
        self.assertEqual(keeping(), Rate(1, 99))

    def test_refusals(self) -> None:
        """No time and no negative sizes."""
        self.assertRaises(LocalError, Voice, -1, 20)
        self.assertRaises(LocalError, Voice, 1, 0)
        self.assertRaises(LocalError, Voice.at, 8_000, 0)

    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, 4_000), st.sampled_from(Seal), st.sampled_from(Carrier), st.booleans())
    def test_monotonous(self, octets: int, seal: Seal, carrier: Carrier, ipv6: bool) -> None:
        """A byte more never costs less, and nothing is smaller than what it carries."""
        less = carried(sealed(octets, seal), carrier, ipv6=ipv6)
        more = carried(sealed(octets + 1, seal), carrier, ipv6=ipv6)
        self.assertLessEqual(less, more)
        self.assertGreaterEqual(less, octets + 42)
