"""Whether we have stood still."""

from twisted.trial.unittest import SynchronousTestCase

from ice.link.event import Ended
from ice.link.frame import MEDIA_HEADER, Flag, FrameType, control, media
from ice.link.message import Hello, LinkRole, encode
from ice.link.session import Session
from ice.link.vigil import Vigil
from ice.link.wake import STOOD_STILL_S, Wake

FRAME = media(0, 1, 2, 3, b"voice")
DATA = media(Flag.DATA, 1, 2, 4, b"data")


def pong(number: int) -> bytes:
    """The answer to a PING of ours."""
    return control(FrameType.PONG, number.to_bytes(8, "big"))


class WakeTests(SynchronousTestCase):
    """The watch over ourselves."""

    def test_naps_are_counted(self) -> None:
        """Beats that come too late are naps, ordinary ones are none, and nobody doubts before the first."""
        wake = Wake()
        self.assertEqual(wake.doubt_at, float("inf"))
        for now in (10.0, 10.1, 10.1 + STOOD_STILL_S, 20.0, 20.1):
            wake.beat(now)
        self.assertEqual(wake.naps, 1)
        self.assertEqual(wake.doubt_at, 20.1 + STOOD_STILL_S)

    def test_resting_is_no_nap(self) -> None:
        """A network that was stopped and started again has not stood still."""
        wake = Wake()
        wake.beat(1.0)
        wake.rest()
        wake.beat(100.0)
        self.assertEqual(wake.naps, 0)


class DoubtTests(SynchronousTestCase):
    """A session that has been told so."""

    def setUp(self) -> None:
        self.session = Session(opener=False, now=0.0)
        hello = Hello(version=1, role=LinkRole.CLIENT, id="x", name="", agent="")
        self.session.receive(control(FrameType.HELLO, encode(hello)), 0.0)
        self.session.welcome(id="rp")
        self.session.take()

    def test_audio_is_dropped_until_the_answer(self) -> None:
        """The PING goes out at once; audio before its answer is dropped and counted, what is behind it in the same read is given out."""
        session = self.session
        session.doubt(10.0)
        number = session.vigil.fence
        self.assertEqual(session.take(), control(FrameType.PING, number.to_bytes(8, "big")))
        self.assertFalse(session.lone_media(FRAME, 10.0))
        self.assertEqual(session.receive(FRAME + FRAME, 10.0), [])
        self.assertEqual(session.receive(FRAME + pong(number) + FRAME, 10.1), [FRAME])
        self.assertEqual(session.dropped_stale, 3)
        self.assertTrue(session.lone_media(FRAME, 10.2))

    def test_data_is_kept(self) -> None:
        """What is not audio may be old."""
        self.session.doubt(10.0)
        self.assertEqual(self.session.receive(FRAME + DATA, 10.0), [DATA])

    def test_older_answers_prove_nothing(self) -> None:
        """A PONG to a PING of before the nap lay in the kernel as well; and a number that was never asked is no answer."""
        session = self.session
        session.doubt(10.0)
        first = session.vigil.fence
        session.doubt(20.0)
        for number in (0, first, 2**64 - 1):
            self.assertEqual(session.receive(pong(number), 20.1), [])
            self.assertEqual(session.receive(FRAME, 20.1), [])
        session.receive(pong(session.vigil.fence), 20.2)
        self.assertEqual(session.receive(FRAME, 20.3), [FRAME])

    def test_who_never_answers_is_gone(self) -> None:
        """The alive rule ends a link whose far side does not answer."""
        self.session.doubt(10.0)
        (ended,) = self.session.tick(11.6)
        assert isinstance(ended, Ended)
        self.assertEqual(ended.code, "idle")

    def test_before_the_greeting_nobody_is_asked(self) -> None:
        """There is no audio yet, and a PING would be out of order."""
        session = Session(opener=True, now=0.0)
        session.doubt(5.0)
        self.assertEqual(session.take(), b"")


class LoneMediaTests(SynchronousTestCase):
    """The short way of a packet that comes alone."""

    def setUp(self) -> None:
        DoubtTests.setUp(self)  # type: ignore[arg-type]

    def test_only_exactly_one_frame(self) -> None:
        """Anything else goes the long way, which gives the same answer for a lone frame."""
        session = self.session
        largest = media(0, 1, 2, 3, bytes(4_096))
        for data in (FRAME, largest, media(0, 1, 2, 3, b"")):
            self.assertTrue(session.lone_media(data, 1.0))
            self.assertEqual(session.receive(data, 1.0), [data])
        too_large = media(0, 1, 2, 3, bytes(4_097))
        for data in (b"", b"\x00", FRAME[:-1], FRAME + b"\x00", FRAME + FRAME, pong(1), too_large):
            self.assertFalse(session.lone_media(data, 1.0), data)
        lying = (MEDIA_HEADER - 4).to_bytes(2, "big") + FRAME[2 : MEDIA_HEADER - 1]
        self.assertFalse(session.lone_media(lying, 1.0))

    def test_not_behind_half_a_frame(self) -> None:
        """While half a frame waits, a read that looks like a frame is the rest of it."""
        self.session.receive(FRAME[:5], 1.0)
        self.assertFalse(self.session.lone_media(FRAME, 1.0))

    def test_not_before_welcome_nor_after_the_end(self) -> None:
        """Only an open link carries media."""
        self.assertFalse(Session(opener=False, now=0.0).lone_media(FRAME, 0.0))
        self.session.end("idle", "over")  # type: ignore[arg-type]
        self.assertFalse(self.session.lone_media(FRAME, 1.0))

    def test_it_is_a_sign_of_life(self) -> None:
        """The link is busy and alive afterwards, as by the long way."""
        deadlines = []
        for how in (self.session.lone_media, self.session.receive):
            self.session.vigil = Vigil(opener=False, keepalive_s=5.0, outbox=self.session.outbox, now=0.0)
            how(FRAME, 3.0)
            deadlines.append(self.session.vigil.deadline)
        self.assertEqual(deadlines[0], deadlines[1])
        self.assertLess(deadlines[0], 4.1)
