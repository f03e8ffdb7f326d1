"""AudioSocket: each message byte by byte, everything odd that may come, and that nothing unsafe goes out."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.telephony.audiosocket import (
    HEADER,
    KINDS,
    RATES,
    Digit,
    Failed,
    HungUp,
    Message,
    Named,
    Odd,
    Oddity,
    Reader,
    Sound,
    encode,
    hang_up,
    sound,
)
from ice.telephony.audiosocket_session import Ended, Rendezvous, Session, Why

ID = UUID("00112233-4455-6677-8899-aabbccddeeff")
NAMED = encode(0x01, ID.bytes)


def read(data: bytes) -> list[Message]:
    return Reader().feed(data)


class Bytes(SynchronousTestCase):
    def test_hexdumps(self) -> None:
        """One dump per message, in both directions."""
        for text, message in {
            "00 0000": HungUp(),
            "01 0010 00112233445566778899aabbccddeeff": Named(ID),
            "03 0001 23": Digit("#"),
            "10 0004 0100ffff": Sound(8_000, b"\x01\x00\xff\xff"),
            "11 0002 0001": Sound(12_000, b"\x00\x01"),
            "12 0002 0001": Sound(16_000, b"\x00\x01"),
            "13 0002 0001": Sound(24_000, b"\x00\x01"),
            "14 0002 0001": Sound(32_000, b"\x00\x01"),
            "15 0002 0001": Sound(44_100, b"\x00\x01"),
            "16 0002 0001": Sound(48_000, b"\x00\x01"),
            "17 0002 0001": Sound(96_000, b"\x00\x01"),
            "18 0002 0001": Sound(192_000, b"\x00\x01"),
            "ff 0001 02": Failed(2),
            "ff 0000": Failed(0),
            "ff 0002 0102": Failed(1),
            "00 0001 07": HungUp(),
        }.items():
            self.assertEqual(read(bytes.fromhex(text)), [message], text)

    def test_outbound(self) -> None:
        """What a gateway sends, as bytes."""
        self.assertEqual(sound(8_000, b"\x01\x00\xff\xff").hex(), "1000040100ffff")
        self.assertEqual(sound(48_000, bytes(1_920))[:3].hex(), "160780")
        self.assertEqual(hang_up().hex(), "000000")

    def test_nothing_unsafe_goes_out(self) -> None:
        """Empty frames, half samples, too long ones and unknown rates end a call: they are refused here."""
        for rate, samples in (
            (8_000, b""),
            (8_000, b"abc"),
            (8_000, bytes(65_536)),
            (11_025, b"ab"),
            (0, b"ab"),
        ):
            self.assertRaises(LocalError, sound, rate, samples)
        self.assertEqual(len(sound(8_000, bytes(65_534))), 65_537)
        self.assertRaises(LocalError, encode, 256)
        self.assertRaises(LocalError, encode, 1, bytes(65_536))

    def test_odd_messages(self) -> None:
        """Each message without a meaning has a reason, and the next one is read all the same."""
        for text, why in {
            "02 0000": Oddity.UNKNOWN_KIND,
            "19 0002 0000": Oddity.UNKNOWN_KIND,
            "01 000f" + "00" * 15: Oddity.UUID_LENGTH,
            "01 0000": Oddity.UUID_LENGTH,
            "03 0000": Oddity.DIGIT,
            "03 0002 3132": Oddity.DIGIT,
            "03 0001 ff": Oddity.DIGIT,
            "03 0001 78": Oddity.DIGIT,
            "10 0000": Oddity.EMPTY,
            "10 0001 00": Oddity.EMPTY,
        }.items():
            data = bytes.fromhex(text)
            self.assertEqual(read(data + hang_up()), [Odd(data[0], len(data) - 3, why), HungUp()], text)

    def test_odd_lengths_of_sound(self) -> None:
        """The last frame may be short and odd: the half sample is cut off, and said."""
        self.assertEqual(read(encode(0x10, b"abc")), [Sound(8_000, b"ab", True)])
        self.assertEqual(read(encode(0x10, bytes(14))), [Sound(8_000, bytes(14))])

    def test_errors_have_words(self) -> None:
        """What the codes mean."""
        self.assertEqual(
            [Failed(code).text for code in (1, 2, 4, 9)],
            ["the caller hung up", "frame forwarding", "memory", "error 9"],
        )

    def test_truncations(self) -> None:
        """A message that is not whole is none, wherever it is cut."""
        for message in (NAMED, encode(0x03, b"1"), sound(8_000, bytes(8)), hang_up(), encode(0xFF, b"\x01")):
            for cut in range(len(message)):
                reader = Reader()
                self.assertEqual((reader.feed(message[:cut]), reader.waiting), ([], cut))
                self.assertEqual(len(reader.feed(message[cut:])), 1)
                self.assertEqual(reader.waiting, 0)

    @given(st.lists(st.binary(max_size=700)))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Any bytes in any pieces give the same messages as in one piece; the buffer stays bounded."""
        whole, parts = Reader(), Reader()
        together = whole.feed(b"".join(pieces))
        self.assertEqual([m for piece in pieces for m in parts.feed(piece)], together)
        self.assertEqual(parts.waiting, whole.waiting)
        self.assertLess(parts.waiting, HEADER.size + 65_536)

    @given(
        st.sampled_from(sorted(KINDS)),
        st.binary(min_size=2, max_size=2_000).filter(lambda b: len(b) % 2 == 0),
    )
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, rate: int, samples: bytes) -> None:
        """What is sent as sound is read as the same sound."""
        self.assertEqual(read(sound(rate, samples)), [Sound(rate, samples)])
        self.assertEqual(RATES[KINDS[rate]], rate)


class Sessions(SynchronousTestCase):
    def setUp(self) -> None:
        self.session = Session(10.0)

    def named(self) -> Session:
        self.assertEqual(self.session.receive(NAMED, 10.0), [Named(ID)])
        return self.session

    def test_usual(self) -> None:
        """UUID, sound, a key, hang-up."""
        data = NAMED + sound(8_000, bytes(320)) + encode(3, b"5") + hang_up() + sound(8_000, bytes(320))
        self.assertEqual(
            self.session.receive(data, 10.0),
            [Named(ID), Sound(8_000, bytes(320)), Digit("5"), Ended(Why.HUNG_UP)],
        )
        self.assertEqual(self.session.receive(NAMED, 10.0) + self.session.closed(), [])

    def test_no_name_in_time(self) -> None:
        """Five seconds are all a connection has to say who it is."""
        self.assertEqual(self.session.deadline, 15.0)
        self.assertEqual(self.session.tick(14.9), [])
        (ended,) = self.session.tick(15.0)
        assert isinstance(ended, Ended)
        self.assertEqual(ended.why, Why.NAMELESS)
        self.assertIsNone(self.session.deadline)

    def test_something_else_first(self) -> None:
        """Sound, keys and nonsense before the UUID end the connection."""
        for data in (sound(8_000, bytes(2)), encode(3, b"1"), encode(7)):
            (ended,) = Session(0.0).receive(data, 0.0)
            assert isinstance(ended, Ended)
            self.assertEqual(ended.why, Why.NAMELESS)

    def test_ends(self) -> None:
        """Hang-up and end of file are the same; a message cut short, an error and a second UUID have names of their own."""
        self.assertEqual(self.named().closed(), [Ended(Why.HUNG_UP)])
        for data, why in ((b"\x10\x01", Why.CUT), (encode(0xFF, b"\x01"), Why.ERROR), (NAMED, Why.RENAMED)):
            self.session = Session(10.0)
            events = self.named().receive(data, 11.0) or self.session.closed()
            assert isinstance(events[0], Ended)
            self.assertEqual(events[0].why, why)

    def test_flood(self) -> None:
        """10 MB/s is no sound; a stall of a second that comes at once is."""
        self.named()
        self.assertEqual(len(self.session.receive(sound(8_000, bytes(320)) * 100, 11.0)), 100)
        events = []
        for piece in range(100):
            events += self.session.receive(sound(48_000, bytes(60_000)) * 2, 11.0 + piece * 0.012)
        self.assertEqual(self.session.ended and self.session.ended.why, Why.FLOOD)
        self.assertLess(len(events), 40)

    def test_flood_of_keys_and_nonsense(self) -> None:
        """Messages that are no sound are bounded by number."""
        self.named()
        self.session.receive(encode(3, b"1") * 1_000, 11.0)
        self.assertEqual(self.session.ended and self.session.ended.why, Why.FLOOD)
        self.session = Session(10.0)
        self.named()
        for second in range(40):
            self.session.receive(encode(9) * 40, 20.0 + second)
        self.assertEqual(self.session.ended and self.session.ended.why, Why.NONSENSE)

    def test_silence_is_no_reason(self) -> None:
        """A minute without a frame ends nothing."""
        self.assertEqual(self.named().tick(70.0), [])
        self.assertEqual(len(self.session.receive(sound(8_000, b"ab"), 70.0)), 1)


class Meeting(SynchronousTestCase):
    def test_expected_once(self) -> None:
        """Strangers, second connections and late ones are refused by name."""
        meeting = Rendezvous()
        self.assertEqual(meeting.arrived(ID, 0.0), Why.STRANGER)
        meeting.expect(ID, 5.0)
        self.assertIsNone(meeting.arrived(ID, 1.0))
        meeting.expect(ID, 9.0)  # connected already: the request is repeated, the connection is not
        self.assertEqual(meeting.arrived(ID, 2.0), Why.TWICE)
        meeting.forget(ID)
        self.assertEqual(len(meeting), 0)
        meeting.expect(ID, 5.0)
        self.assertEqual(meeting.arrived(ID, 6.0), Why.STRANGER)
        self.assertEqual(meeting.overdue(6.0), [ID])
        self.assertEqual(meeting.refused, {Why.STRANGER: 2, Why.TWICE: 1})
