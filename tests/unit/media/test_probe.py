"""Probes on the wire."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media.floor import Floor
from ice.media.floor_ears import FloorEars
from ice.media.probe import LEAST, MOST, Kind, MalformedProbe, Probe, is_probe
from ice.security.traffic import plausible_packet

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
PROBES = st.builds(
    Probe,
    st.sampled_from(Kind),
    U32,
    U32,
    U32,
    U64,
    U64,
    U64,
    U32,
    st.integers(LEAST // 4, MOST // 4).map(lambda words: words * 4),
)


class Probes(SynchronousTestCase):
    def test_wire(self) -> None:
        """An RTCP packet of type 204, 12 words, name ICEQ."""
        probe = Probe(Kind.ANSWER, 0x01020304, 0x05060708, 9, 10, 11, 12, 13)
        self.assertEqual(
            probe.encode().hex(),
            "83cc000b01020304494345510506070800000009"
            "000000000000000a000000000000000b000000000000000c0000000d",
        )  # fmt: skip

    @settings(max_examples=100, deadline=None)
    @given(PROBES)
    def test_round_trip(self, probe: Probe) -> None:
        """What is encoded is decoded, is as long as it says, and passes for what groups carry, so that CBC lets it through."""
        wire = probe.encode()
        self.assertEqual((len(wire), Probe.decode(wire)), (probe.size, probe))
        self.assertTrue(is_probe(wire))
        self.assertTrue(plausible_packet(wire))

    def test_answer(self) -> None:
        """An answer is as long as the question and has all that was in it."""
        asked = Probe(Kind.PROBE, 1, 2, 3, 4, size=172)
        self.assertEqual(asked.answer(9, 5, 6, 7), Probe(Kind.ANSWER, 9, 2, 3, 4, 5, 6, 7, 172))
        self.assertIs(Probe(Kind.ASK, 1, 2, 3, 4).answer(9, 5, 6, 7).kind, Kind.COUNT)

    def test_truncations(self) -> None:
        """Cut anywhere, lengthened, or with another type, name, version or kind it is no probe."""
        wire = Probe(Kind.PROBE, 1, 2, 3, 4, size=60).encode()
        wrong = [wire[:length] for length in range(len(wire))] + [wire + b"\0", wire + bytes(4)]
        wrong += [bytes([first]) + wire[1:] for first in (0x01, 0xA1, 0x80, 0x85, 0x9F)]
        wrong += [wire[:1] + b"\xc8" + wire[2:], wire[:8] + b"ICEX" + wire[12:]]
        for each in wrong:
            self.assertRaises(MalformedProbe, Probe.decode, each)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=100))
    def test_anything(self, data: bytes) -> None:
        """Any bytes are a probe or are refused."""
        with contextlib.suppress(MalformedProbe):
            Probe.decode(data)

    def test_sizes(self) -> None:
        """Sizes that cannot be are refused."""
        for size in (LEAST - 4, LEAST + 1, MOST + 4):
            self.assertRaises(LocalError, Probe(Kind.PROBE, 1, 2, 3, 4, size=size).encode)

    def test_no_talker(self) -> None:
        """Marked as data, a probe takes no floor."""
        floor = Floor()
        FloorEars(floor).datagram(Probe(Kind.PROBE, 1, 2, 3, 4).encode(), Flag.DATA, 0.0)
        self.assertEqual(floor.talking(0.0), ())
