"""Two ends of a link, joined by hand."""

import json
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.event import (
    Ended,
    ErrorReceived,
    Event,
    HelloReceived,
    JoinAsked,
    JoinedReceived,
    LeaveAsked,
    Opened,
    PeerFrame,
)
from ice.link.frame import FrameType, control, media
from ice.link.message import Code, Hello, Limits, encode
from ice.link.naming import format_u64, stream_key
from ice.link.session import MAX_CONTROL_BLOCKED, Session, State
from ice.link.vigil import DEAD_AFTER_PING_S, MAX_PINGS_OUT, STALE_AFTER_S

ID = str(UUID(int=1))
RP = str(UUID(int=2))
GREETING = Hello(version=1, role="client", id=ID, name="Ann", agent="test")
FRAME = media(0, 7, 8, 9, b"voice")


class Pair:
    """An opener and an acceptor, and the bytes between them."""

    def __init__(self, *, role: str = "client", keepalive_s: float = 5.0) -> None:
        self.now = 100.0
        self.opener = Session(opener=True, now=self.now, expected_id=RP)
        self.acceptor = Session(opener=False, now=self.now, expected_id=ID, keepalive_s=keepalive_s)
        self.opener.hello(Hello(version=1, role=role, id=ID, name="Ann"))

    def up(self) -> list[Event | bytes]:
        """Carry what the opener wrote."""
        data = self.opener.take()
        return self.acceptor.receive(data, self.now) if data else []

    def down(self) -> list[Event | bytes]:
        """Carry what the acceptor wrote."""
        data = self.acceptor.take()
        return self.opener.receive(data, self.now) if data else []

    def open(self) -> "Pair":
        """Greet each other."""
        self.up()
        self.acceptor.welcome(id=RP, name="rp", limits=Limits(joins=3), alternatives=("b:1",))
        self.down()
        return self

    def wait(self, seconds: float, *, answer: bool = True) -> list[Event | bytes]:
        """Let time pass in steps of 50 ms; everything that happens at either end."""
        events: list[Event | bytes] = []
        for _ in range(round(seconds / 0.05)):
            self.now += 0.05
            events += self.opener.tick(self.now)
            events += self.acceptor.tick(self.now)
            if answer:
                for _ in range(2):
                    events += self.up()
                    events += self.down()
        return events


def written(session: Session) -> list[tuple[FrameType, bytes]]:
    """The frames that a session wants to write, as (type, body)."""
    data, frames = session.take(), []
    while data:
        length = int.from_bytes(data[:2], "big")
        frames.append((FrameType(data[2]), data[3 : 3 + length]))
        data = data[3 + length :]
    return frames


def ended(events: list[Event | bytes]) -> Ended:
    """The one end among ``events``, which must be the last."""
    (end,) = [e for e in events if isinstance(e, Ended)]
    assert events[-1] is end
    return end


class GreetingTests(SynchronousTestCase):
    """HELLO, WELCOME, and who does not get in."""

    def test_welcome(self) -> None:
        """The opener is told who let it in, and under which limits."""
        pair = Pair(keepalive_s=2.5)
        (hello,) = pair.up()
        assert isinstance(hello, HelloReceived)
        self.assertEqual((hello.hello.id, hello.hello.name), (ID, "Ann"))
        pair.acceptor.welcome(id=RP, name="rp", limits=Limits(joins=3), alternatives=("b:1",))
        (opened,) = pair.down()
        assert isinstance(opened, Opened)
        self.assertEqual(opened.welcome.limits.joins, 3)
        self.assertEqual(opened.welcome.alternatives, ["b:1"])
        self.assertEqual((pair.opener.state, pair.acceptor.state), (State.OPEN, State.OPEN))

    def refused(self, first: bytes) -> tuple[Ended, str]:
        """What an acceptor makes of ``first``, and the code of its BYE."""
        session = Session(opener=False, now=0.0, expected_id=ID)
        end = ended(session.receive(first, 0.0))
        ((kind, body),) = written(session)
        self.assertEqual(kind, FrameType.BYE)
        return end, json.loads(body)["code"]

    def test_not_hello(self) -> None:
        """Anything before HELLO is out of order, media and PING too, and types nobody knows."""
        for first in (
            FRAME,
            control(FrameType.PING, bytes(8)),
            control(FrameType.JOIN, b'{"txn":1,"stream":"s"}'),
            b"\x00\x00\xee",
            control(FrameType.WELCOME, b"{}"),
        ):
            end, code = self.refused(first)
            self.assertEqual((end.code, code, end.ours), (Code.ORDER, "order", True))

    def test_bad_hello(self) -> None:
        """Each way to greet wrongly has its code."""
        for body, code in (
            (b"", Code.BAD_JSON),
            (b"[]", Code.BAD_JSON),
            (b'{"version":1,"role":"client"}', Code.BAD_JSON),
            (b"\xff{", Code.BAD_JSON),
            (encode(Hello(version=2, role="client", id=ID)), Code.VERSION),
            (encode(Hello(version=1, role="client", id=RP)), Code.IDENTITY),
            (encode(Hello(version=1, role="king", id=ID)), Code.ROLE),
        ):
            end, said = self.refused(control(FrameType.HELLO, body))
            self.assertEqual((end.code, said), (code, code.value), body)
            self.assertTrue(end.reason)

    def test_plain_http(self) -> None:
        """A request of another protocol is refused by its first three bytes."""
        end, _ = self.refused(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(end.code, Code.TOO_LARGE)

    def test_huge_hello(self) -> None:
        """Nobody unknown may make us hold more than a HELLO needs."""
        end, _ = self.refused(b"\x10\x01\x01")
        self.assertEqual(end.code, Code.TOO_LARGE)

    def test_joins_behind_hello(self) -> None:
        """What comes behind a HELLO, in one read or in several, is heard after WELCOME, in order."""
        join = control(FrameType.JOIN, b'{"txn":1,"stream":"s"}')
        for pieces in (
            [control(FrameType.HELLO, encode(GREETING)) + join + FRAME],
            [control(FrameType.HELLO, encode(GREETING)), join, FRAME],
        ):
            session = Session(opener=False, now=0.0, expected_id=ID)
            events = [event for piece in pieces for event in session.receive(piece, 0.0)]
            self.assertEqual([type(event) for event in events], [HelloReceived])
            self.assertFalse(session.holding, "not before WELCOME")
            session.welcome(id=RP)
            self.assertTrue(session.holding)
            asked, media_frame = session.receive(b"", 0.0)
            self.assertIsInstance(asked, JoinAsked)
            self.assertEqual(media_frame, FRAME)
            self.assertFalse(session.holding)

    def test_too_much_behind_hello(self) -> None:
        """What is kept for after WELCOME is bounded, and a break behind it counts when its turn comes."""
        session = Session(opener=False, now=0.0, expected_id=ID)
        session.receive(control(FrameType.HELLO, encode(GREETING)), 0.0)
        self.assertEqual(ended(session.receive(b"\x00\x00\x05" * 2_000, 0.0)).code, Code.ORDER)
        session = Session(opener=False, now=0.0, expected_id=ID)
        session.receive(control(FrameType.HELLO, encode(GREETING)) + FRAME + b"\xff\xff\x05", 0.0)
        session.welcome(id=RP)
        events = session.receive(b"", 0.0)
        self.assertEqual(events[0], FRAME)
        self.assertEqual(ended(events).code, Code.TOO_LARGE)

    def test_handshake_deadline(self) -> None:
        """Who says nothing is told so and shed, at either end."""
        for opener in (True, False):
            session = Session(opener=opener, now=0.0, handshake_s=3.0)
            self.assertEqual(session.deadline, 3.0)
            self.assertEqual(session.tick(2.9), [])
            self.assertEqual(ended(list(session.tick(3.0))).code, Code.IDLE)

    def test_a_trickle_does_not_count(self) -> None:
        """A byte a second does not move the deadline."""
        session = Session(opener=False, now=0.0, handshake_s=3.0)
        for second, byte in enumerate(control(FrameType.HELLO, encode(GREETING))[:3]):
            self.assertEqual(session.receive(bytes([byte]), float(second)), [])
        self.assertEqual(ended(list(session.tick(3.0))).code, Code.IDLE)

    def test_turned_away(self) -> None:
        """A BYE instead of WELCOME says why, when to come again, and where else."""
        pair = Pair()
        pair.up()
        pair.acceptor.end(Code.DRAINING, "going home", retry_after_s=1.5, alternatives=("b:7443",))
        end = ended(pair.down())
        self.assertEqual(end, Ended("draining", "going home", False, 1.5, ("b:7443",)))
        self.assertEqual(pair.opener.take(), b"", "nothing is said to one who has left")

    def test_wrong_rallypoint(self) -> None:
        """The opener too compares WELCOME with the certificate."""
        pair = Pair()
        pair.up()
        pair.acceptor.welcome(id=ID)
        self.assertEqual(ended(pair.down()).code, Code.IDENTITY)


class ControlTests(SynchronousTestCase):
    """JOIN and its answers, and what is not allowed where."""

    def setUp(self) -> None:
        self.pair = Pair().open()

    def ask(self, kind: int, body: bytes) -> list[Event | bytes]:
        """What the acceptor makes of a control frame of an open link."""
        header = len(body).to_bytes(2, "big") + bytes([kind])
        return self.pair.acceptor.receive(header + body, self.pair.now)

    def error(self) -> tuple[str, int | None]:
        """The code and number of the one ERROR that the acceptor wants to say."""
        ((kind, body),) = written(self.pair.acceptor)
        self.assertEqual(kind, FrameType.ERROR)
        answer = json.loads(body)
        return answer["code"], answer.get("txn")

    def test_join_and_joined(self) -> None:
        """A JOIN arrives whole, and its answer finds its question."""
        txn = self.pair.opener.join("alpha", talk=False, source=0x1234)
        (asked,) = self.pair.up()
        self.assertEqual(asked, JoinAsked(txn, "alpha", stream_key("alpha"), True, False, 0x1234))
        self.pair.acceptor.joined(txn, "alpha", stream_key("alpha"))
        self.assertEqual(self.pair.down(), [JoinedReceived(txn, "alpha", stream_key("alpha"))])

    def test_join_sources(self) -> None:
        """A source is 16 hex digits, "any", or left out."""
        for source in (None, "any", 5):
            self.pair.opener.join("s", source=source)
            (asked,) = self.pair.up()
            assert isinstance(asked, JoinAsked)
            self.assertEqual(asked.source, source)

    def test_leave(self) -> None:
        """LEAVE names the stream."""
        self.pair.opener.leave("alpha")
        self.assertEqual(self.pair.up(), [LeaveAsked("alpha", stream_key("alpha"))])

    def test_bad_join(self) -> None:
        """Whatever is wrong with a JOIN is answered under its number, and the link lives on."""
        for body, code, txn in (
            (b'{"txn":3,"stream":""}', "bad-stream", 3),
            (b'{"txn":3,"stream":"' + b"a" * 257 + b'"}', "bad-stream", 3),
            (b'{"txn":3,"stream":"\xff"}', "bad-stream", 3),
            (b'{"txn":3,"stream":"s","source":"XYZ"}', "bad-json", 3),
            (b'{"txn":3,"stream":7}', "bad-json", 3),
            (b'{"stream":"s"}', "bad-json", None),
            (b"nonsense", "bad-json", None),
            (b"", "bad-json", None),
        ):
            self.assertEqual(self.ask(FrameType.JOIN, body), [], body)
            self.assertEqual(self.error(), (code, txn), body)
        self.assertEqual(self.pair.acceptor.state, State.OPEN)

    def test_bad_leave(self) -> None:
        """A LEAVE of no stream is answered."""
        self.ask(FrameType.LEAVE, b'{"stream":""}')
        self.assertEqual(self.error(), ("bad-stream", None))
        self.ask(FrameType.LEAVE, b"{}")
        self.assertEqual(self.error(), ("bad-json", None))

    def test_unknown_types(self) -> None:
        """A type of a later version is answered, and the link lives on."""
        for kind in (0x00, 0x0A, 0x0F, 0x14, 0x7F, 0xFF):
            self.assertEqual(self.ask(kind, b"{}"), [])
            self.assertEqual(self.error(), ("unsupported", None))

    def test_what_ends_the_link(self) -> None:
        """What an opener must not say ends the link with its code."""
        hello = encode(GREETING)
        for kind, body, code in (
            (FrameType.HELLO, hello, Code.ORDER),
            (FrameType.WELCOME, b"{}", Code.ROLE),
            (FrameType.JOINED, b"{}", Code.ROLE),
            (FrameType.RELAY, b"", Code.ROLE),
            (FrameType.TOPOLOGY, b"", Code.ROLE),
            (FrameType.INTEREST, b"", Code.ROLE),
            (FrameType.PING, b"", Code.BAD_FRAME),
            (FrameType.MEDIA, b"", Code.BAD_FRAME),
            (FrameType.MEDIA, bytes(5_000), Code.TOO_LARGE),
            (FrameType.ERROR, b"?", Code.BAD_JSON),
        ):
            self.pair = Pair().open()
            self.assertEqual(ended(self.ask(kind, body)).code, code, kind)
            (*_, (kind_said, said)) = written(self.pair.acceptor)
            self.assertEqual((kind_said, json.loads(said)["code"]), (FrameType.BYE, code.value))
            self.assertEqual(self.ask(FrameType.PING, bytes(8)), [], "an ended link hears nothing")
            self.assertEqual(self.pair.acceptor.take(), b"")

    def test_what_an_acceptor_must_not_say(self) -> None:
        """The opener is as strict."""
        for kind, body, code in (
            (FrameType.WELCOME, b"{}", Code.ORDER),
            (FrameType.HELLO, b"{}", Code.ROLE),
            (FrameType.JOIN, b"{}", Code.ROLE),
            (FrameType.LEAVE, b"{}", Code.ROLE),
            (FrameType.RELAY, b"", Code.ROLE),
        ):
            pair = Pair().open()
            self.assertEqual(ended(pair.opener.receive(control(kind, body), 0.0)).code, code)

    def test_frames_before_the_break_count(self) -> None:
        """What was right before the mistake is still heard."""
        events = self.pair.acceptor.receive(FRAME + control(FrameType.HELLO, b"") + FRAME, 0.0)
        self.assertEqual(events[0], FRAME)
        self.assertEqual(ended(events).code, Code.ORDER)
        self.assertEqual(len(events), 2)

    def test_peer_frames(self) -> None:
        """Between Rallypoints the mesh's frames pass whole."""
        pair = Pair(role="peer").open()
        frame = control(FrameType.INTEREST, b"\x00\x01")
        self.assertEqual(pair.acceptor.receive(frame, 0.0), [PeerFrame(FrameType.INTEREST, frame)])
        self.assertEqual(pair.opener.receive(frame, 0.0), [PeerFrame(FrameType.INTEREST, frame)])

    def test_error_reaches_the_opener(self) -> None:
        """An ERROR is an event, not an end."""
        self.pair.acceptor.error(Code.DENIED, "not you", 4)
        (event,) = self.pair.down()
        assert isinstance(event, ErrorReceived)
        self.assertEqual((event.error.code, event.error.txn), ("denied", 4))

    def test_media_as_it_came(self) -> None:
        """Media is the very bytes of its frame."""
        self.assertEqual(self.pair.acceptor.receive(FRAME * 2, 0.0), [FRAME, FRAME])


class AliveTests(SynchronousTestCase):
    """Keep-alive: nobody is taken for dead, and nobody dead for alive."""

    def test_idle_link_lives(self) -> None:
        """Two ends that say nothing ping each other, and live."""
        pair = Pair().open()
        self.assertEqual(pair.wait(60.0), [])
        self.assertEqual(
            [pair.opener.vigil.round_trip_s, pair.acceptor.vigil.round_trip_s].count(0.0),
            1,
            "one asks for both",
        )

    def test_idle_cost(self) -> None:
        """An idle link carries one PING and PONG in five seconds, not two."""
        pair = Pair().open()
        pings = 0
        for _ in range(600):
            pair.now += 0.1
            pair.opener.tick(pair.now)
            pair.acceptor.tick(pair.now)
            up, down = pair.opener.take(), pair.acceptor.take()
            pings += (up + down).count(b"\x00\x08\x06")
            if up:
                pair.acceptor.receive(up, pair.now)
            if down:
                pair.opener.receive(down, pair.now)
            pair.up()
            pair.down()
        self.assertIn(pings, (11, 12, 13))

    def test_silence_is_death(self) -> None:
        """Keep-alive plus 1.5 s of nothing ends the link."""
        pair = Pair(keepalive_s=5.0).open()
        start = pair.now
        while not (events := pair.opener.tick(pair.now)):
            self.assertLess(pair.now, start + 7.0)
            pair.now += 0.05
        self.assertEqual(ended(list(events)).code, Code.IDLE)
        self.assertGreaterEqual(pair.now, start + 5.0 + DEAD_AFTER_PING_S - 0.01)

    def test_silence_during_a_burst(self) -> None:
        """While a burst runs, whoever sends or hears it notices a frozen far side after 2.5 s."""
        for talking in (True, False):
            pair = Pair().open()
            start = pair.now
            if talking:
                pair.opener.vigil.carried = True
            else:
                pair.opener.receive(FRAME, pair.now)
            events: list[Event] = []
            while not events:
                pair.now += 0.05
                if talking:
                    pair.opener.vigil.carried = True
                events = pair.opener.tick(pair.now)
                pair.opener.take()
            self.assertEqual(ended(list(events)).code, Code.IDLE)
            self.assertLessEqual(pair.now - start, 2.65)
            self.assertGreaterEqual(pair.now - start, DEAD_AFTER_PING_S)

    def test_our_own_stall_is_not_their_death(self) -> None:
        """Who was suspended asks again on waking, instead of ending every link; who then is silent is dead."""
        pair = Pair().open()
        opener = pair.opener
        opener.receive(FRAME, pair.now)
        pair.now += 1.0
        self.assertEqual(opener.tick(pair.now), [])
        self.assertTrue(opener.take(), "a PING is out")
        pair.now += 15.0
        self.assertEqual(opener.tick(pair.now), [], "the machine stood still")
        self.assertTrue(opener.take(), "and asks again")
        pair.now += 1.4
        self.assertEqual(opener.tick(pair.now), [])
        pair.now += 0.1
        self.assertEqual(ended(list(opener.tick(pair.now))).code, Code.IDLE)

    def test_anything_heard_is_life(self) -> None:
        """A far side that talks but never answers a PING is not dead, and is asked again and again."""
        session = Pair().open().opener
        now = 200.0
        for _ in range(200):
            now += 0.5
            session.receive(FRAME, now)
            self.assertEqual(session.tick(now), [])
            session.vigil.carried = True
        self.assertTrue(session.outbox.stale, "but nothing new is written for one who answers nothing")
        self.assertLessEqual(session.vigil.unanswered, MAX_PINGS_OUT)
        while not (events := session.tick(now)):
            now += 0.1
        self.assertEqual(ended(list(events)).code, Code.IDLE)

    def test_deadline_is_honest(self) -> None:
        """Ticking only at the deadline is enough: the link neither dies nor misses its PING."""
        pair = Pair().open()
        for _ in range(50):
            due = min(pair.opener.deadline, pair.acceptor.deadline)
            self.assertGreater(due, pair.now - 1e-9)
            pair.now = due
            self.assertEqual(pair.opener.tick(pair.now), [])
            self.assertEqual(pair.acceptor.tick(pair.now), [])
            self.assertTrue(pair.opener.out or pair.acceptor.out, "something was due")
            for _ in range(2):
                pair.up()
                pair.down()

    def test_ping_flood(self) -> None:
        """Twenty PINGs a second are answered; more are ignored and counted."""
        session = Pair().open().acceptor
        session.take()
        session.receive(control(FrameType.PING, bytes(8)) * 1_000, 100.0)
        self.assertEqual(len(written(session)), 20)
        self.assertEqual(session.pings_ignored, 980)
        session.receive(control(FrameType.PING, bytes(8)), 101.0)
        self.assertEqual(len(written(session)), 1)

    def test_asking_without_reading(self) -> None:
        """Who asks for ever and reads nothing is cut off: control is never dropped, but it is bounded."""
        session = Pair().open().acceptor
        session.outbox.blocked = True
        events: list[Event | bytes] = []
        for _ in range(10_000):
            events = session.receive(b"\x00\x00\xee" * 10, 100.0)
            session.take()
            if events:
                break
        self.assertEqual(ended(events).code, Code.LIMIT)
        self.assertLess(session._blocked_bytes, 2 * MAX_CONTROL_BLOCKED)


class FreshTests(SynchronousTestCase):
    """A listener that does not take what is sent hears no old audio afterwards."""

    def carried(self, pair: Pair, seconds: float, *, delay_s: float = 0.0) -> int:
        """Media flows down for some time; how many PINGs went with it. Answers take ``delay_s``."""
        pings, answers = 0, []
        for _ in range(round(seconds / 0.1)):
            pair.now += 0.1
            pair.acceptor.vigil.carried = True
            pair.opener.receive(FRAME, pair.now)
            pair.acceptor.tick(pair.now)
            data = pair.acceptor.take()
            pings += data.count(b"\x00\x08\x06")
            if data:
                pair.opener.receive(data, pair.now)
                answers.append((pair.now + delay_s, pair.opener.take()))
            while answers and answers[0][0] <= pair.now:
                pair.acceptor.receive(answers.pop(0)[1], pair.now)
        return pings

    def test_carrying_link_is_pinged_every_second(self) -> None:
        """Media towards a listener is accompanied by PINGs: every second, and every three once it has shown to be prompt."""
        pair = Pair().open()
        self.assertIn(self.carried(pair, 3.0), (3, 4))
        self.assertIn(self.carried(pair, 30.0), (9, 10, 11))

    def test_who_answers_late_is_asked_every_second(self) -> None:
        """Trust is for prompt answers, and the first late one ends it."""
        pair = Pair().open()
        self.assertIn(self.carried(pair, 10.0, delay_s=0.35), (9, 10, 11))
        pair = Pair().open()
        self.carried(pair, 10.0)
        self.carried(pair, 4.0, delay_s=0.35)
        self.assertGreaterEqual(self.carried(pair, 3.0), 2)

    def test_a_talker_is_never_that_patient(self) -> None:
        """Who opened the link asks every second while it talks, so that a frozen Rallypoint is noticed in time."""
        pair = Pair().open()
        pings = 0
        for _ in range(300):
            pair.now += 0.1
            pair.opener.vigil.carried = True
            pair.opener.tick(pair.now)
            data = pair.opener.take()
            pings += data.count(b"\x00\x08\x06")
            pair.acceptor.receive(data + FRAME, pair.now)
            pair.acceptor.tick(pair.now)
            pair.down()
        self.assertIn(pings, (28, 29, 30, 31))

    def test_unanswered_ping_shuts_the_outbox(self) -> None:
        """Half a second without an answer, and new media waits; the answer opens it again."""
        pair = Pair().open()
        acceptor = pair.acceptor
        acceptor.vigil.carried = True
        acceptor.tick(pair.now)
        held = acceptor.take()
        self.assertIn(b"\x00\x08\x06", held)
        pair.now += STALE_AFTER_S - 0.01
        acceptor.tick(pair.now)
        self.assertTrue(acceptor.outbox.open)
        pair.now += 0.02
        acceptor.tick(pair.now)
        self.assertFalse(acceptor.outbox.open)
        acceptor.outbox.push(FRAME, pair.now)
        pair.opener.receive(held, pair.now)
        pair.up()
        self.assertEqual(acceptor.outbox.next(pair.now), FRAME)
        self.assertTrue(acceptor.outbox.open)

    def test_stopped_listener(self) -> None:
        """A program stopped for a minute hears nothing older than two seconds when it wakes."""
        pair = Pair().open()
        acceptor, now = pair.acceptor, pair.now
        wire: list[tuple[float, bytes]] = []
        for _ in range(400):  # it reads nothing, but its kernel says it lives: bytes of other streams arrive
            now += 0.02
            acceptor.receive(FRAME, now)
            acceptor.vigil.carried = True
            if acceptor.outbox.open:
                wire.append((now, FRAME))
            else:
                acceptor.outbox.push(FRAME, now)
            acceptor.tick(now)
        self.assertLessEqual(wire[-1][0] - wire[0][0], 2.0, "what lies in kernel buffers is bounded")
        acceptor.outbox.stale = False
        oldest = now - 2.0
        queued = len(acceptor.outbox)
        while acceptor.outbox.next(now) is not None:
            pass
        self.assertGreater(acceptor.outbox.dropped_old + acceptor.outbox.dropped_full, 0)
        self.assertLessEqual(queued, 256)
        self.assertLess(wire[-1][0], oldest)

    def test_long_round_trip_is_not_throttled(self) -> None:
        """A healthy link with 300 ms, or once known 600 ms, of round trip keeps its outbox open."""
        for round_trip in (0.3, 0.6):
            pair = Pair().open()
            acceptor, opener, now = pair.acceptor, pair.opener, pair.now
            down: list[tuple[float, bytes]] = []
            up: list[tuple[float, bytes]] = []
            shut = 0
            for step in range(1_000):
                now += 0.02
                if step > 100:
                    shut += not acceptor.outbox.open
                acceptor.vigil.carried = True
                acceptor.tick(now)
                opener.tick(now)
                down.append((now + round_trip / 2, acceptor.take() + FRAME))
                up.append((now + round_trip / 2, opener.take()))
                while down and down[0][0] <= now:
                    opener.receive(down.pop(0)[1], now)
                while up and up[0][0] <= now:
                    acceptor.receive(up.pop(0)[1], now)
            self.assertEqual(shut, 0, round_trip)


class HostileTests(SynchronousTestCase):
    """Anything at all may arrive."""

    @given(st.booleans(), st.booleans(), st.lists(st.binary(max_size=120), max_size=8))
    @settings(max_examples=300, deadline=None)
    def test_noise(self, opener: bool, greeted: bool, pieces: list[bytes]) -> None:
        """Noise never raises; at most one end comes, and it is the last event."""
        pair = Pair()
        if greeted:
            pair.open()
        session = pair.opener if opener else pair.acceptor
        for piece in pieces:
            events = session.receive(piece, 100.0)
            ends = [e for e in events if isinstance(e, Ended)]
            self.assertLessEqual(len(ends), 1)
            if ends:
                self.assertIs(events[-1], ends[0])
                self.assertIs(session.state, State.ENDED)
                self.assertEqual(session.receive(FRAME, 101.0), [])

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([int(t) for t in FrameType] + [0x7F]),
                st.sampled_from(
                    [
                        b"",
                        b"{}",
                        encode(GREETING),
                        b'{"txn":1,"stream":"s"}',
                        b'{"stream":"s"}',
                        b'{"code":"x"}',
                        bytes(8),
                        bytes(21),
                        bytes(40),
                    ]
                ),
            ),
            max_size=12,
        )
    )
    @settings(max_examples=300, deadline=None)
    def test_any_order_of_frames(self, said: list[tuple[int, bytes]]) -> None:
        """Frames in any order lead to events, errors or one end; media only ever after WELCOME."""
        session = Session(opener=False, now=0.0)
        for kind, body in said:
            for event in session.receive(len(body).to_bytes(2, "big") + bytes([kind]) + body, 0.0):
                if isinstance(event, HelloReceived):
                    session.welcome(id=RP)
                elif isinstance(event, bytes):
                    self.assertIs(session.state, State.OPEN)
                elif isinstance(event, JoinAsked):
                    self.assertEqual(format_u64(event.key), format_u64(stream_key(event.stream)))
