"""RTP packets, header extensions and talker identities."""

import contextlib

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import IceError, LocalError, RemoteError
from ice.media import rtp
from ice.media.rtp import Element, ElementId, Extension, MalformedRtp, Packet, Talk, TalkFlag

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
words = st.integers(0, 12).flatmap(lambda count: st.binary(min_size=4 * count, max_size=4 * count))
extensions = st.builds(Extension, u16, words)
packets = st.builds(
    Packet,
    st.integers(0, 127),
    u16,
    u32,
    u32,
    st.binary(max_size=200),
    st.booleans(),
    st.lists(u32, max_size=15).map(tuple),
    st.none() | extensions,
)
aliases = st.text(max_size=16).map(rtp.clip_alias)
talks = st.builds(
    Talk,
    aliases,
    st.integers(0, 255),
    st.integers(0, 7).map(TalkFlag),
    st.just(b"") | st.binary(min_size=16, max_size=16),
)

# One Opus packet that begins an emergency burst of "Falcon 2" at priority 9: marker, sequence 0x1234, one contributing source.
WIRE = bytes.fromhex(
    "91f61234"  # version 2, extension, 1 CSRC; marker, payload type 118; sequence
    "00015180deadbeef"  # timestamp 86,400, SSRC
    "0a0b0c0d"  # CSRC
    "10000004"  # two-byte elements, four words
    "1008" + b"Falcon 2".hex() + "110109"  # alias, priority
    "120103"  # flags: emergency, first of a burst
    "48112233"
)
PACKET = Packet(
    118,
    0x1234,
    86_400,
    0xDEADBEEF,
    bytes.fromhex("48112233"),
    True,
    (0x0A0B0C0D,),
    Talk("Falcon 2", 9, TalkFlag.EMERGENCY | TalkFlag.BURST_START).to_extension(),
)


class PacketTests(SynchronousTestCase):
    def test_wire(self) -> None:
        """A packet is these bytes, and these bytes are that packet."""
        self.assertEqual(PACKET.encode().hex(), WIRE.hex())
        self.assertEqual(Packet.decode(WIRE), PACKET)

    def test_plain_wire(self) -> None:
        """A packet without marker, sources or extension is twelve bytes and its payload."""
        packet = Packet(0, 1, 160, 7, b"\xff\xff")
        self.assertEqual(packet.encode().hex(), "80000001000000a000000007ffff")

    @settings(max_examples=100, deadline=None)
    @given(packets)
    def test_round_trip(self, packet: Packet) -> None:
        """Whatever a packet holds, foreign extensions included, comes back as it was."""
        self.assertEqual(Packet.decode(packet.encode()), packet)

    def test_truncations(self) -> None:
        """Cut anywhere before its payload a packet is refused; cut behind, its payload is shorter."""
        head = len(WIRE) - len(PACKET.payload)
        for length in range(len(WIRE)):
            with self.subTest(length=length):
                if length < head:
                    error = self.assertRaises(MalformedRtp, Packet.decode, WIRE[:length])
                    expected = "too-short" if length < 12 else "csrcs" if length < 16 else "extension"
                    self.assertEqual(error.reason, expected)
                else:
                    self.assertEqual(Packet.decode(WIRE[:length]).payload, PACKET.payload[: length - head])

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=100))
    def test_anything(self, data: bytes) -> None:
        """Any bytes are a packet, whose talker can be asked for, or a named error; never another exception."""
        try:
            packet = Packet.decode(data)
        except MalformedRtp as error:
            self.assertIsInstance(error, RemoteError)
            return
        Talk.from_extension(packet.extension)
        self.assertEqual(Packet.decode(packet.encode()), packet)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, len(WIRE) - 1), st.integers(0, 255))
    def test_mutations(self, position: int, value: int) -> None:
        """A valid packet with one byte changed is a packet or a named error."""
        data = bytearray(WIRE)
        data[position] = value
        with contextlib.suppress(MalformedRtp):
            Talk.from_extension(Packet.decode(bytes(data)).extension)

    def test_version(self) -> None:
        """Versions other than 2 are refused by number."""
        error = self.assertRaises(MalformedRtp, Packet.decode, bytes([0x40]) + bytes(11))
        self.assertEqual((error.reason, str(error)), ("version", "RTP version 2 expected, 1 came"))

    def test_too_long(self) -> None:
        """What no datagram can hold is refused before it is looked at, and is not made either."""
        error = self.assertRaises(MalformedRtp, Packet.decode, b"\x80" + bytes(rtp.MAX_PACKET))
        self.assertEqual(error.reason, "too-long")
        self.assertRaises(LocalError, Packet(0, 0, 0, 0, bytes(rtp.MAX_PACKET)).encode)

    def test_padding(self) -> None:
        """Padding is taken off; its last byte counts itself."""
        data = bytes([0xA0]) + bytes(11) + b"voice" + b"\0\0\3"
        self.assertEqual(Packet.decode(data).payload, b"voice")

    def test_padding_lies(self) -> None:
        """Padding of no bytes, or of more than there are behind the header, is refused."""
        head = bytes([0xA0]) + bytes(11)
        for tail in (b"", b"\0", b"ab\4"):
            with self.subTest(tail=tail):
                error = self.assertRaises(MalformedRtp, Packet.decode, head + tail)
                self.assertEqual(error.reason, "padding")

    def test_padding_alone(self) -> None:
        """A packet of nothing but padding has an empty payload."""
        self.assertEqual(Packet.decode(bytes([0xA0]) + bytes(11) + b"\0\2").payload, b"")

    def test_fields_that_do_not_fit(self) -> None:
        """Each field out of range is our own mistake, named before anything is sent."""
        good = Packet(0, 0, 0, 0, b"")
        for change in (
            {"payload_type": 128},
            {"payload_type": -1},
            {"sequence": 65_536},
            {"sequence": -1},
            {"timestamp": 2**32},
            {"ssrc": -1},
            {"csrcs": (2**32,)},
            {"csrcs": (0,) * 16},
            {"extension": Extension(0x10000, b"")},
            {"extension": Extension(0x1000, b"abc")},
            {"extension": Extension(0x1000, bytes(4 * 65_536))},
        ):
            with self.subTest(change=list(change)):
                self.assertRaises(LocalError, attrs.evolve(good, **change).encode)


class ExtensionTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.builds(Element, st.integers(1, 255), st.binary(max_size=255)), max_size=5))
    def test_two_byte_round_trip(self, elements: list[Element]) -> None:
        """Elements packed in the two-byte form are read again, and fill whole words."""
        extension = Extension.of(elements)
        self.assertEqual(len(extension.data) % 4, 0)
        self.assertEqual(extension.elements(), tuple(elements))

    def test_one_byte_form(self) -> None:
        """RFC 8285 section 4.2: identifier and length less one in a byte, zeros between elements skipped."""
        extension = Extension(0xBEDE, bytes.fromhex("10aa000032bbccdd"))
        self.assertEqual(extension.elements(), (Element(1, b"\xaa"), Element(3, b"\xbb\xcc\xdd")))

    def test_one_byte_form_ends(self) -> None:
        """Identifier 15, identifier 0 with a length, and an element that overruns end the reading, not the packet."""
        for tail in ("f0aabbcc", "01aabbcc", "3faabbcc"):
            with self.subTest(tail=tail):
                extension = Extension(0xBEDE, bytes.fromhex("10aa0000" + tail))
                self.assertEqual(extension.elements(), (Element(1, b"\xaa"),))

    def test_two_byte_form_overruns(self) -> None:
        """An element longer than what is left, or without a length, ends the reading."""
        for tail in ("10ff0000", "00000010"):
            with self.subTest(tail=tail):
                extension = Extension(0x1000, bytes.fromhex("0101aa00" + tail))
                self.assertEqual(extension.elements(), (Element(1, b"\xaa"),))

    def test_appbits(self) -> None:
        """The four application bits of the two-byte profile do not matter."""
        self.assertEqual(Extension(0x100F, b"\x01\x00\x00\x00").elements(), (Element(1, b""),))

    def test_foreign_profile(self) -> None:
        """Of another profile nothing is read, and everything is kept."""
        extension = Extension(0x4A4B, b"whatever")
        self.assertEqual(extension.elements(), ())
        self.assertEqual(
            Packet.decode(Packet(0, 0, 0, 0, b"", extension=extension).encode()).extension, extension
        )

    def test_elements_that_do_not_fit(self) -> None:
        """Identifier 0 and 256, and 256 bytes of data, are our own mistake."""
        for element in (Element(0, b""), Element(256, b""), Element(1, bytes(256))):
            self.assertRaises(LocalError, Extension.of, [element])


class TalkTests(SynchronousTestCase):
    def test_wire(self) -> None:
        """All four elements, in the order of the table."""
        talk = Talk("Ünit 7", 255, TalkFlag.BURST_END, bytes(range(16)))
        extension = talk.to_extension()
        assert extension is not None
        self.assertEqual(
            (extension.profile, extension.data.hex()),
            (0x1000, "1007c39c6e697420371101ff1201041310000102030405060708090a0b0c0d0e0f000000"),
        )

    @settings(max_examples=150, deadline=None)
    @given(talks)
    def test_round_trip(self, talk: Talk) -> None:
        """Whatever a talker says of itself is heard."""
        self.assertEqual(Talk.from_extension(talk.to_extension()), talk)

    def test_nothing_to_say(self) -> None:
        """A talker without anything to say costs no byte."""
        self.assertIsNone(Talk().to_extension())
        self.assertEqual(Talk.from_extension(None), Talk())

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from([0x1000, 0xBEDE, 0x0000]), st.binary(max_size=60))
    def test_any_extension(self, profile: int, data: bytes) -> None:
        """No extension, however strange, is an error, and what comes out can be sent on."""
        talk = Talk.from_extension(Extension(profile, data))
        self.assertEqual(Talk.from_extension(talk.to_extension()), talk)

    def test_unknown_and_malformed_elements(self) -> None:
        """Unknown identifiers, wrong lengths and bytes that are no UTF-8 are passed over, the rest is read."""
        extension = Extension.of(
            [
                Element(200, b"from the future"),
                Element(ElementId.ALIAS, b"\xff\xfe"),
                Element(ElementId.ALIAS, bytes(17)),
                Element(ElementId.ALIAS, b""),
                Element(ElementId.PRIORITY, b"\x01\x02"),
                Element(ElementId.NODE_ID, b"short"),
                Element(ElementId.VIA, bytes(33)),
                Element(ElementId.VIA, b""),
                Element(ElementId.FLAGS, b"\xf9"),
                Element(ElementId.PRIORITY, b"\x05"),
                Element(ElementId.ALIAS, b"Ada"),
                Element(ElementId.ALIAS, b"Eve"),
            ]
        )
        self.assertEqual(Talk.from_extension(extension), Talk("Ada", 5, TalkFlag.EMERGENCY))

    def test_via(self) -> None:
        """The identities that a burst came through are read in their order, up to as many as one element holds."""
        identities = tuple(bytes([number]) * 16 for number in range(15))
        talk = Talk("Ada", via=identities)
        extension = talk.to_extension()
        assert extension is not None
        self.assertEqual(extension.elements()[-1], Element(20, b"".join(identities)))
        self.assertEqual(Talk.from_extension(extension), talk)

    def test_via_on_the_wire(self) -> None:
        """One identity: element 20 of 16 bytes, padded to a whole word."""
        extension = Talk(via=(bytes(range(16)),)).to_extension()
        assert extension is not None
        self.assertEqual(extension.data.hex(), "1410" + bytes(range(16)).hex() + "0000")

    def test_hostile_alias(self) -> None:
        """Control and direction characters never reach a terminal."""
        extension = Extension.of([Element(ElementId.ALIAS, "a\x1b[2J\u202e".encode())])
        self.assertEqual(Talk.from_extension(extension).alias, "a\ufffd[2J\ufffd")

    def test_foreign_one_byte_ids_are_not_ours(self) -> None:
        """A foreign sender's audio level (identifier 1 of its own counting) is no alias."""
        self.assertEqual(Talk.from_extension(Extension(0xBEDE, b"\x10A\x20\x07")), Talk())

    def test_what_cannot_be_said(self) -> None:
        """An alias too long or unprintable, a priority out of range, a short node id: each is refused with its reason."""
        for arguments, word in (
            ({"alias": "seventeen letters"}, "17 bytes"),
            ({"alias": "ééééééééé"}, "18 bytes"),
            ({"alias": "a\nb"}, "control"),
            ({"alias": "\ud800"}, "UTF-8"),
            ({"priority": 256}, "0–255"),
            ({"priority": -1}, "0–255"),
            ({"node_id": b"12345"}, "16 bytes"),
        ):
            with self.subTest(arguments=arguments):
                error = self.assertRaises(LocalError, lambda: Talk(**arguments))  # noqa: B023
                self.assertIn(word, str(error))

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=40))
    def test_clip_alias(self, text: str) -> None:
        """Any text can be clipped to an alias that is valid."""
        clipped = rtp.clip_alias(text)
        self.assertEqual(Talk(clipped).alias, clipped)

    def test_clip_alias_at_a_border(self) -> None:
        """A character that would be cut in two is left out whole."""
        self.assertEqual(rtp.clip_alias("Feuerwehr Süd-Köln"), "Feuerwehr Süd-K")


class SerialTests(SynchronousTestCase):
    def test_sequence(self) -> None:
        """Around the wrap, one ahead is one ahead."""
        self.assertEqual(rtp.sequence_difference(0, 0xFFFF), 1)
        self.assertEqual(rtp.sequence_difference(0xFFFF, 0), -1)
        self.assertEqual(rtp.sequence_difference(0x8000, 0), -0x8000)

    def test_timestamp(self) -> None:
        """The same with 32 bits."""
        self.assertEqual(rtp.timestamp_difference(959, 0xFFFF_FFFF), 960)
        self.assertEqual(rtp.timestamp_difference(0xFFFF_FFFF, 959), -960)

    @given(u16, st.integers(-0x8000, 0x7FFF))
    def test_sequence_inverts_addition(self, start: int, steps: int) -> None:
        """The difference is what was added, wherever it began."""
        self.assertEqual(rtp.sequence_difference((start + steps) & 0xFFFF, start), steps)


class ErrorTests(SynchronousTestCase):
    def test_guilt(self) -> None:
        """Bad bytes are the far side's fault."""
        self.assertTrue(issubclass(MalformedRtp, RemoteError) and issubclass(MalformedRtp, IceError))
