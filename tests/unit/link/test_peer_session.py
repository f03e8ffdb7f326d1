"""A session between two Rallypoints: RELAY instead of MEDIA, floods in their whole length, and what is bounded of them."""

from twisted.trial.unittest import SynchronousTestCase

from ice.link.event import Ended, Event, HelloReceived, Opened, PeerFrame
from ice.link.frame import RELAY_HEADER, Flag, FrameType, control, media
from ice.link.message import Code, Hello, LinkRole
from ice.link.peer import MEDIA_AT, relay
from ice.link.session import PEER_BYTES_BURST, PEER_BYTES_PER_S, Session

FRAME = relay(7, media(0, 1, 2, 3, b"voice"))
FLOOD = control(FrameType.TOPOLOGY, bytes(60_000))


class PeerSessions(SynchronousTestCase):
    """Both ends, joined by hand."""

    def setUp(self) -> None:
        self.opener = Session(opener=True, now=0.0)
        self.acceptor = Session(opener=False, now=0.0)

    def greet(self, role: LinkRole = LinkRole.PEER, behind: bytes = b"") -> list[Event | bytes]:
        """HELLO and WELCOME, with what is written right behind it; the opener's events."""
        self.opener.hello(Hello(version=1, role=role, id="a"))
        (event,) = self.acceptor.receive(self.opener.take(), 0.0)
        assert isinstance(event, HelloReceived)
        self.acceptor.welcome(id="b")
        return self.opener.receive(self.acceptor.take() + behind, 0.0)

    def test_offsets(self) -> None:
        """What the splitter knows of a RELAY is what the codec says."""
        self.assertEqual(RELAY_HEADER, MEDIA_AT)

    def test_relay_is_media(self) -> None:
        """It comes out as the bytes that it came as, alone and in company, at both ends, of both roles."""
        for role in (LinkRole.PEER, LinkRole.LEAF):
            self.setUp()
            self.greet(role)
            for end in (self.opener, self.acceptor):
                self.assertTrue(end.lone_media(FRAME, 1.0))
                self.assertEqual(end.receive(FRAME + FRAME, 1.0), [FRAME, FRAME])

    def test_floods_behind_welcome(self) -> None:
        """An acceptor may tell all it knows in the same breath as WELCOME."""
        opened, *rest = self.greet(behind=FLOOD + FRAME)
        self.assertIsInstance(opened, Opened)
        self.assertEqual(rest, [PeerFrame(FrameType.TOPOLOGY, FLOOD), FRAME])

    def test_plain_media_is_for_clients(self) -> None:
        """Between Rallypoints MEDIA is a mistake that ends the link."""
        self.greet()
        for end in (self.opener, self.acceptor):
            (ended,) = end.receive(media(0, 1, 2, 3, b"x"), 1.0)
            assert isinstance(ended, Ended)
            self.assertEqual(ended.code, Code.ROLE)

    def test_peer_frames_are_not_for_clients(self) -> None:
        """A client that says RELAY is ended."""
        self.greet(LinkRole.CLIENT)
        (ended,) = self.acceptor.receive(FRAME, 1.0)
        assert isinstance(ended, Ended)
        self.assertEqual(ended.code, Code.ROLE)

    def test_bounds(self) -> None:
        """The payload may be as large as any Rallypoint lets its clients send, whatever is set here; half a header is none."""
        self.greet()
        largest = relay(7, media(0, 1, 2, 3, bytes(65_000)))
        for end in (self.opener, self.acceptor):
            self.assertEqual(end.receive(largest, 1.0), [largest])
            (ended,) = end.receive(control(FrameType.RELAY, bytes(32)), 1.0)
            assert isinstance(ended, Ended)
            self.assertEqual(ended.code, Code.BAD_FRAME)

    def test_urgent_frames_are_dropped_last(self) -> None:
        """The queue finds the flags inside a RELAY."""
        self.greet()
        outbox = self.opener.outbox
        outbox.blocked = True
        urgent = relay(7, media(Flag.URGENT, 1, 2, 3, b"mayday"))
        outbox.push(urgent, 0.0)
        for _ in range(300):
            outbox.push(FRAME, 0.0)
        outbox.blocked = False
        self.assertEqual(outbox.next(0.0), urgent)

    def test_old_audio_is_dropped_after_a_nap(self) -> None:
        """As on any link; data goes through."""
        self.greet()
        data = relay(7, media(Flag.DATA, 1, 2, 3, b"ballot"))
        self.opener.doubt(10.0)
        self.assertEqual(self.opener.receive(FRAME + data, 10.0), [data])

    def test_a_torrent_of_floods_ends_the_link(self) -> None:
        """Everything at once is welcome; more than that, for ever, is not."""
        self.greet()
        number = 0
        while True:
            number += 1
            (event,) = self.acceptor.receive(FLOOD, 0.0)
            if isinstance(event, Ended):
                break
        self.assertEqual(event.code, Code.LIMIT)
        self.assertEqual(number, PEER_BYTES_BURST // len(FLOOD) + 1)
        self.setUp()
        self.greet()
        for second in range(200):
            for _ in range(PEER_BYTES_PER_S // len(FLOOD)):
                (event,) = self.acceptor.receive(FLOOD, float(second))
                self.assertIsInstance(event, PeerFrame)

    def test_what_the_mesh_says_is_said(self) -> None:
        """Floods leave as whole frames, once the link is open."""
        self.opener.say(FLOOD)
        self.assertEqual(self.opener.take(), b"")
        self.greet()
        self.opener.say(FLOOD)
        self.assertEqual(self.opener.take(), FLOOD)
