"""Names for datagrams that come without."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.window import Window
from ice.media.rtp import Packet
from ice.net.addresses import Address
from ice.streams.naming import MAX_STEP, Naming

ANNA, BERT = Address("192.0.2.1", 40_001), Address("192.0.2.2", 40_001)


def rtp(sequence: int, ssrc: int = 7, payload: bytes = b"sound", **more: Any) -> bytes:
    """An RTP packet."""
    return Packet(111, sequence & 0xFFFF, 960 * sequence & 0xFFFF_FFFF, ssrc, payload, **more).encode()


class Names(SynchronousTestCase):
    def naming(self, **more: Any) -> Naming:
        return Naming("hall", 5, **{"sealed": False, **more})

    def test_wraps(self) -> None:
        """RTP's sixteen bits wrap; ours go on, and what was overtaken falls in its place."""
        naming = self.naming()
        said = [naming.name(rtp(number), ANNA)[2] for number in (65_534, 65_535, 1, 0, 2)]
        self.assertEqual([number - said[0] for number in said], [0, 1, 3, 2, 4])

    def test_a_new_beginning(self) -> None:
        """A talker who begins somewhere else under his old SSRC is heard without a gap, and a window takes it all."""
        naming, window = self.naming(), Window()
        numbers = [
            *range(30_000, 30_050),
            *range(100, 150),
            *range(9_000, 9_050),
            *range(8_999 - MAX_STEP, 8_050),
        ]
        for number in numbers:
            _, _, sequence = naming.name(rtp(number), ANNA)
            self.assertEqual(window.ask(sequence, 1.0), 0)
        self.assertEqual(naming.restarts, 3)

    def test_sealed(self) -> None:
        """Of ciphertext nothing is read, even where it looks like RTP: the sender is the name, the count our own."""
        naming = self.naming(sealed=True)
        said = [naming.name(rtp(number, ssrc=number), ANNA) for number in (900, 7, 20_000)]
        self.assertEqual(len({source for _, source, _ in said}), 1)
        self.assertEqual([(flags, sequence) for flags, _, sequence in said], [(0, 0), (0, 1), (0, 2)])

    def test_unsaid_ciphertext(self) -> None:
        """A sender who once sends what cannot be RTP is named by his address from then on; others are not."""
        naming = self.naming()
        first = naming.name(b"\x17 no RTP", ANNA)
        again = naming.name(rtp(900), ANNA)
        self.assertEqual((first[1], first[2], again[2]), (again[1], 0, 1))
        self.assertEqual(naming.name(rtp(900), BERT)[2] & 0xFFFF, 900)

    def test_control(self) -> None:
        """RTCP on the same port is no talker, and makes none of its sender's packets strange."""
        naming = self.naming()
        report = b"\x80\xc8" + bytes(26)
        names = [naming.name(data, ANNA)[1] for data in (rtp(1), report, rtp(2), report)]
        self.assertEqual((names[0], names[1]), (names[2], names[3]))
        self.assertNotEqual(names[0], names[1])

    def test_bounded(self) -> None:
        """Senders without end cost bounded memory; who comes back after being forgotten is somebody else, with a count of his own."""
        naming = self.naming(max_senders=10)
        first = naming.name(b"x", ANNA)[1]
        for number in range(1_000):
            naming.name(b"x", Address("198.51.100.1", 1_000 + number))
            naming.name(rtp(1, ssrc=number), BERT)
            self.assertLessEqual(len(naming), 10)
        self.assertEqual(naming.forgotten, 2_001 - 10)
        self.assertNotEqual(naming.name(b"x", ANNA)[1], first)

    def test_joined_again(self) -> None:
        """Another joining of the stream gives other names: its counts begin again."""
        one, other = Naming("hall", 1, sealed=False), Naming("hall", 2, sealed=False)
        self.assertNotEqual(one.name(rtp(1), ANNA)[1], other.name(rtp(1), ANNA)[1])

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=40) | st.integers(0, 65_535).map(rtp), max_size=30))
    def test_anything(self, payloads: list[bytes]) -> None:
        """Whatever comes is named within its ranges."""
        naming = self.naming()
        for payload in payloads:
            flags, source, sequence = naming.name(payload, ANNA)
            self.assertTrue(0 <= flags < 256 and 0 <= source < 1 << 64 and 0 <= sequence < 1 << 32)

    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, 65_535), st.lists(st.integers(-30, 40), max_size=60))
    def test_differences(self, begin: int, steps: list[int]) -> None:
        """Between packets that are near each other, our numbers differ as RTP's do."""
        naming, number = self.naming(), begin
        zero = naming.name(rtp(number), ANNA)[2]
        for step in steps:
            number += step
            self.assertEqual(naming.name(rtp(number), ANNA)[2] - zero, number - begin)
