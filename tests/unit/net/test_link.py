"""The link driver on a fake transport and a clock: nothing is lost, nothing is left behind."""

import json
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ice.link.event import Ended, Event, HelloReceived
from ice.link.frame import FrameType, control, media
from ice.link.message import Code, Hello, encode
from ice.link.session import Session
from ice.link.wake import Wake
from ice.net.link import ALPN, CLOSE_S, Link

HELLO = control(FrameType.HELLO, encode(Hello(version=1, role="client", id="u")))
FRAME = media(0, 1, 2, 3, b"voice")


class FakeTransport:
    """A transport after its TLS handshake, which remembers what was asked of it."""

    negotiatedProtocol = ALPN
    lane = None

    def __init__(self) -> None:
        self.written = b""
        self.asked: list[str] = []
        self.producer: Any = None
        self.certificate: Any = object()
        self.when_written = lambda: None

    def write(self, data: bytes) -> None:
        self.written += data
        self.when_written()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def getPeerCertificate(self) -> Any:
        return self.certificate

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.asked.append(name)

    def frames(self) -> list[tuple[int, bytes]]:
        """What was written, as (type, body), and forget it."""
        found, data = [], self.written
        while data:
            stop = 3 + int.from_bytes(data[:2], "big")
            found.append((data[2], data[3:stop]))
            data = data[stop:]
        self.written = b""
        return found


class Rallypoint:
    """An owner that lets everybody in and remembers."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.events: list[Event] = []
        self.media_frames: list[bytes] = []
        self.ends: list[Ended] = []

    def handshaken(self, link: Link, certificate: object) -> None:
        link.begin(Session(opener=False, now=self.clock.seconds()))

    def media(self, link: Link, frame: bytes) -> None:
        self.media_frames.append(frame)

    def event(self, link: Link, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, HelloReceived):
            assert link.session is not None
            link.session.welcome(id="rp")

    def ended(self, link: Link, ended: Ended) -> None:
        self.ends.append(ended)

    def explain(self, failure: Failure) -> tuple[str, str]:
        return "lost", failure.getErrorMessage()


class LinkTests(SynchronousTestCase):
    """One link, its owner and its transport."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = Rallypoint(self.clock)
        self.wake = Wake()
        self.link = Link(self.owner, self.clock, self.wake)
        self.transport = FakeTransport()
        self.link.makeConnection(self.transport)

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def greet(self) -> None:
        """Shake hands and be welcome."""
        self.link.handshakeCompleted()
        self.link.dataReceived(HELLO)
        ((kind, _),) = self.transport.frames()
        self.assertEqual(kind, FrameType.WELCOME)

    def close(self, failure: Exception | None = None) -> None:
        """The connection is gone."""
        self.link.connectionLost(Failure(failure or ConnectionDone()))

    def test_whole_life(self) -> None:
        """Greeting, media both ways, and the end of the connection told once."""
        self.greet()
        self.link.dataReceived(FRAME[:10])
        self.link.dataReceived(FRAME[10:] + FRAME)
        self.assertEqual(self.owner.media_frames, [FRAME, FRAME])
        self.link.send_media(FRAME)
        self.assertEqual(self.transport.written, FRAME)
        self.assertEqual((self.link.sent_frames, self.link.received_frames), (1, 2))
        self.close(ConnectionLost("reset"))
        self.assertEqual([end.code for end in self.owner.ends], ["lost"])

    def test_after_a_nap_old_audio_is_dropped(self) -> None:
        """A link that is readable after its owner has not beaten for long asks the far side, and drops audio until the answer; once per nap."""
        self.greet()
        self.wake.beat(self.clock.seconds())
        self.link.dataReceived(FRAME)
        self.clock.advance(10.0)
        self.link.dataReceived(FRAME + FRAME)
        ((kind, number),) = self.transport.frames()[-1:]
        self.assertEqual(kind, FrameType.PING)
        self.assertEqual((self.wake.naps, self.wake.dropped_stale), (1, 2))
        self.link.dataReceived(control(FrameType.PONG, number))
        self.link.dataReceived(FRAME)
        self.assertEqual(self.owner.media_frames, [FRAME, FRAME])
        self.assertEqual((self.wake.naps, self.wake.dropped_stale), (1, 2))
        self.close()

    def test_voice_is_not_held_back(self) -> None:
        """Small packets leave at once (TCP_NODELAY)."""
        self.assertIn("setTcpNoDelay", self.transport.asked)
        self.close()

    def test_no_alpn(self) -> None:
        """Without the protocol's name the far side is told so."""
        self.transport.negotiatedProtocol = b""
        self.link.handshakeCompleted()
        ((kind, body),) = self.transport.frames()
        self.assertEqual((kind, json.loads(body)["code"]), (FrameType.BYE, "alpn"))
        self.assertIn("loseConnection", self.transport.asked)
        self.close()
        self.assertEqual([end.code for end in self.owner.ends], [Code.ALPN])

    def test_bytes_before_the_session(self) -> None:
        """Nothing that comes before there is a session can hurt."""
        self.link.dataReceived(FRAME)
        self.link.send_media(FRAME)
        self.link.pulse(1.0)
        self.assertEqual((self.transport.written, self.owner.media_frames), (b"", []))
        self.close()

    def test_full_transport(self) -> None:
        """While the transport is full media waits; then it leaves in order, before anything newer."""
        self.greet()
        self.transport.producer.pauseProducing()
        second = media(0, 1, 2, 4, b"second")
        self.link.send_media(FRAME)
        self.link.send_media(second)
        self.assertEqual(self.transport.written, b"")
        self.transport.producer.resumeProducing()
        self.assertEqual(self.transport.written, FRAME + second)
        self.close()

    def test_many_together(self) -> None:
        """Several frames leave in one write, as many as one TLS record holds; where the transport fills up in between, the rest waits and keeps its order."""
        self.greet()
        frames = [media(0, 1, 2, n, bytes(4_000)) for n in range(10)]
        writes: list[int] = []
        self.transport.when_written = lambda: writes.append(len(self.transport.written))
        self.link.send_many(frames)
        size = len(frames[0])
        self.assertEqual(
            (writes, self.transport.written), ([4 * size, 8 * size, 10 * size], b"".join(frames))
        )
        self.assertEqual((self.link.sent_frames, self.link.sent_bytes), (10, 10 * size))
        self.transport.written = b""
        producer = self.transport.producer
        self.transport.when_written = producer.pauseProducing
        self.link.send_many(frames)
        self.assertEqual(self.transport.written, b"".join(frames[:4]))
        self.transport.when_written = lambda: None
        producer.resumeProducing()
        self.assertEqual(self.transport.written, b"".join(frames))
        self.close()
        self.link.send_many(frames)
        self.assertEqual(self.link.sent_frames, 20)

    def test_full_again_while_draining(self) -> None:
        """A transport that fills up again in the middle of the queue is not pushed further."""
        self.greet()
        producer = self.transport.producer
        producer.pauseProducing()
        for _ in range(3):
            self.link.send_media(FRAME)
        self.transport.when_written = producer.pauseProducing
        producer.resumeProducing()
        self.assertEqual(self.transport.written, FRAME)
        self.transport.when_written = lambda: None
        producer.resumeProducing()
        self.assertEqual(self.transport.written, FRAME * 3)
        self.close()

    def test_full_before_the_session(self) -> None:
        """A transport that was full before there was a session is remembered."""
        self.link.pauseProducing()
        self.greet()
        self.link.send_media(FRAME)
        self.assertEqual(self.transport.written, b"")
        self.close()

    def test_stale_then_answered(self) -> None:
        """The PONG that opens the outbox also lets out what waited."""
        self.greet()
        self.link.send_media(FRAME)
        self.transport.frames()
        self.clock.advance(1.0)
        self.link.pulse(self.clock.seconds())
        ((kind, number),) = self.transport.frames()
        self.assertEqual(kind, FrameType.PING)
        self.clock.advance(0.6)
        self.link.pulse(self.clock.seconds())
        self.link.send_media(FRAME)
        self.assertEqual(self.transport.written, b"")
        self.link.dataReceived(control(FrameType.PONG, number))
        self.assertEqual(self.transport.written, FRAME)
        self.close()

    def test_ended_by_a_broken_rule(self) -> None:
        """BYE is written, the transport is closed, and cut when it will not close; the owner is told once."""
        self.greet()
        self.link.dataReceived(HELLO + FRAME)
        ((kind, body),) = self.transport.frames()
        self.assertEqual((kind, json.loads(body)["code"]), (FrameType.BYE, "order"))
        self.assertEqual(self.owner.media_frames, [])
        self.assertIn("loseConnection", self.transport.asked)
        self.assertIsNone(self.transport.producer)
        self.clock.advance(CLOSE_S)
        self.assertIn("abortConnection", self.transport.asked)
        self.close()
        self.assertEqual([end.code for end in self.owner.ends], [Code.ORDER])

    def test_silence(self) -> None:
        """Pulses notice a dead far side."""
        self.greet()
        for _ in range(100):
            self.clock.advance(0.1)
            self.link.pulse(self.clock.seconds())
        self.assertEqual([end.code for end in self.owner.ends], [Code.IDLE])
        self.close()
        self.assertEqual(len(self.owner.ends), 1)

    def test_closed_in_time(self) -> None:
        """A far side that closes after our BYE leaves no timer behind."""
        self.greet()
        self.link.end(Code.DRAINING, "bye", retry_after_s=1.0, alternatives=("b:1",))
        ((_, body),) = self.transport.frames()
        self.assertEqual(
            json.loads(body),
            {"code": "draining", "reason": "bye", "retry_after": 1.0, "alternatives": ["b:1"]},
        )
        self.close()
        self.assertNotIn("abortConnection", self.transport.asked)

    def test_nothing_after_the_end(self) -> None:
        """After the end nothing is sent, heard or ended again."""
        self.greet()
        self.link.end(Code.LEAVING, "done")
        self.transport.frames()
        self.link.send_media(FRAME)
        self.link.dataReceived(FRAME)
        self.link.end(Code.INTERNAL, "again")
        self.link.resumeProducing()
        self.assertEqual(
            (self.transport.written, self.owner.media_frames, len(self.owner.ends)), (b"", [], 1)
        )
        self.close()
