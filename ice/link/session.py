"""One end of one Rallypoint link, without I/O: bytes and the time go in, events and bytes come out.

The life of a link, for both ends::

    GREETING --- HELLO/WELCOME ---> OPEN --- BYE, a broken rule, silence ---> ENDED

The *opener* says HELLO first; the *acceptor* answers with :meth:`Session.welcome` or :meth:`Session.end`.  What the
driver does, whichever end it serves:

* bytes came: ``events = session.receive(data, now)``.  An event that is ``bytes`` is one whole MEDIA frame exactly
  as it came (nothing is built per packet); everything else is one of the values below.
* then, and after any other call: write ``session.take()``.
* media to send: ``if session.outbox.open: write(frame) else: session.outbox.push(frame, now)``, and set
  ``session.vigil.carried = True``.
* not later than ``session.deadline`` (or every 100 ms, for a driver with many links): ``session.tick(now)``; afterwards write what ``session.outbox.next(now)`` gives.
* the transport is full or free again: set ``session.outbox.blocked``.
* an :class:`Ended` came: write ``session.take()`` and close.

Whether the far side lives, and takes what is sent, is watched by :mod:`ice.link.vigil`.
"""

from enum import Enum
from secrets import token_hex

from msgspec import UNSET

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
from ice.link.frame import (
    FLAGS_AT,
    MAX_BODY,
    MAX_CONTROL,
    MAX_HELLO,
    MAX_MEDIA_PAYLOAD,
    RELAY_HEADER,
    Flag,
    FrameSplitter,
    FrameType,
    control,
)
from ice.link.message import (
    ANY_SOURCE,
    VERSION,
    Bye,
    Code,
    ErrorMessage,
    Hello,
    Join,
    Joined,
    Leave,
    Limits,
    LinkRole,
    MessageError,
    Welcome,
    decode,
    encode,
    txn_of,
)
from ice.link.naming import StreamIdError, checked_stream_id, format_u64, parse_u64, stream_key
from ice.link.outbox import Outbox
from ice.link.vigil import DEAD_AFTER_PING_S, Verdict, Vigil

HANDSHAKE_S = 10.0
MAX_HELD = 1_024  # frames behind a HELLO: an opener may say all its JOINs at once
MAX_PONGS_PER_S = 20.0  # an honest far side pings once a second
CONTROL_PER_S = 200.0  # frames; an honest opener sends a few, after its first round of JOIN
CONTROL_BURST = 2_000  # that first round; each costs microseconds, so a flood is over before anybody hears it
MAX_CONTROL_BLOCKED = 256 * 1024  # control is never dropped, so whoever asks without reading is cut off here


class State(Enum):
    """Where in its life a link is."""

    GREETING = "greeting"
    OPEN = "open"
    ENDED = "ended"


_PONG_HEAD = control(FrameType.PONG, bytes(8))[:3]
_PEER_ROLES = frozenset({LinkRole.PEER, LinkRole.LEAF})
_PEER_FRAMES = frozenset({FrameType.RELAY, FrameType.TOPOLOGY, FrameType.INTEREST})
#: What a Rallypoint may tell another of the mesh: everything at once when a link comes up, and little afterwards.
PEER_BYTES_BURST = 64 * 1024 * 1024
PEER_BYTES_PER_S = 4 * 1024 * 1024
_PEER_BURST = float(PEER_BYTES_BURST)  # one object for all links
MAX_PEER_BLOCKED = (
    16 * 1024 * 1024
)  # a mesh of the largest size tells this much at once to one that reads slowly


class Session:
    """One end of a link.  See the module's docstring for its use."""

    __slots__ = (
        "_blocked_bytes",
        "_control_allowance",
        "_control_burst",
        "_control_counted_at",
        "_expected_id",
        "_handshake_until",
        "_held",
        "_introduced",
        "_most_blocked",
        "_next_txn",
        "_peer_allowance",
        "_peer_counted_at",
        "_pong_allowance",
        "_pong_counted_at",
        "_splitter",
        "dropped_stale",
        "opener",
        "out",
        "outbox",
        "pings_ignored",
        "role",
        "state",
        "vigil",
    )

    def __init__(
        self,
        *,
        opener: bool,
        now: float,
        expected_id: str | None = None,
        keepalive_s: float = 5.0,
        handshake_s: float = HANDSHAKE_S,
        media_bytes: int = MAX_MEDIA_PAYLOAD,
        outbox: Outbox | None = None,
        control_burst: int = CONTROL_BURST,
    ) -> None:
        """``expected_id``: the UUID in the far side's certificate, which its HELLO or WELCOME must repeat.

        ``control_burst``: control frames that may come at once; more than that, over :data:`CONTROL_PER_S`, end an acceptor's link.
        """
        self.opener = opener
        self.state = State.GREETING
        self.outbox = outbox if outbox is not None else Outbox()
        #: What the opener said it is; set by HELLO.
        self.role: LinkRole = LinkRole.CLIENT
        #: Whether the far side lives and takes what is sent; whoever writes media sets its ``carried``.
        self.vigil = Vigil(opener=opener, keepalive_s=keepalive_s, outbox=self.outbox, now=now)
        #: Frames of audio that were not given out because they may have lain in the kernel while we stood still; whoever adds them up sets it to 0.
        self.dropped_stale = 0
        #: PINGs that were not answered because they came too fast.
        self.pings_ignored = 0
        self._expected_id = expected_id
        self._splitter = FrameSplitter(
            max_control=MAX_HELLO if not opener else MAX_CONTROL, max_media=media_bytes
        )
        self._introduced = False  # HELLO was heard, and is not answered yet
        self._held: list[bytes] = []  # what came behind it
        #: Whole control frames that :meth:`take` will give.
        self.out: list[bytes] = []
        self._blocked_bytes = 0
        self._most_blocked = MAX_CONTROL_BLOCKED
        self._peer_allowance = _PEER_BURST
        self._peer_counted_at = now
        self._next_txn = 0
        self._handshake_until = now + handshake_s
        self._pong_allowance = MAX_PONGS_PER_S
        self._pong_counted_at = now
        self._control_burst = float(control_burst)
        self._control_allowance = self._control_burst
        self._control_counted_at = now

    # -- what comes out ------------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """Control bytes to write now; empty when there are none."""
        if not self.out:
            return b""
        data = b"".join(self.out)
        self.out.clear()
        if self.outbox.blocked:
            self._blocked_bytes += len(data)
        else:
            self._blocked_bytes = 0
        return data

    @property
    def deadline(self) -> float:
        """When :meth:`tick` is due at the latest; never while the link has ended."""
        if self.state is State.ENDED:
            return float("inf")
        if self.state is State.GREETING:
            return self._handshake_until
        return self.vigil.deadline

    # -- what the driver asks for ----------------------------------------------------------------------------------

    def hello(self, hello: Hello) -> None:
        """Introduce ourselves (opener)."""
        self.role = LinkRole(hello.role)
        if self.role in _PEER_ROLES:
            self._between_rallypoints()  # long floods may follow WELCOME in the same read
        self._send(FrameType.HELLO, encode(hello))

    def welcome(
        self,
        *,
        id: str,
        name: str = "",
        features: tuple[str, ...] = (),
        alternatives: tuple[str, ...] = (),
        limits: Limits | None = None,
    ) -> None:
        """Let the opener in (acceptor, after :class:`HelloReceived`)."""
        message = Welcome(
            version=VERSION,
            id=id,
            name=name,
            session=token_hex(8),
            keepalive=self.vigil.keepalive_s,
            features=list(features),
            alternatives=list(alternatives),
            limits=limits if limits is not None else Limits(),
        )
        self.state = State.OPEN
        self._splitter.max_control = MAX_CONTROL
        if self.role in _PEER_ROLES:
            self._between_rallypoints()
        self._send(FrameType.WELCOME, encode(message))

    def join(
        self, stream: str, *, listen: bool = True, talk: bool = True, source: int | str | None = None
    ) -> int:
        """Ask for a stream (opener); the transaction number that JOINED or ERROR will carry.

        Raises :class:`~ice.link.naming.StreamIdError` for an id that no link can carry.
        """
        checked_stream_id(stream)
        txn = self._next_txn
        self._next_txn = (txn + 1) & 0xFFFF_FFFF
        said = UNSET if source is None else source if isinstance(source, str) else format_u64(source)
        self._send(
            FrameType.JOIN, encode(Join(txn=txn, stream=stream, listen=listen, talk=talk, source=said))
        )
        return txn

    def leave(self, stream: str) -> None:
        """Be done with a stream (opener)."""
        self._send(FrameType.LEAVE, encode(Leave(stream=stream)))

    def joined(self, txn: int, stream: str, key: int) -> None:
        """Answer a JOIN (acceptor)."""
        self._send(FrameType.JOINED, encode(Joined(txn=txn, stream=stream, key=format_u64(key))))

    def say(self, frame: bytes) -> None:
        """Send one whole TOPOLOGY or INTEREST frame; never dropped while the link lives."""
        if self.state is State.OPEN:
            self.out.append(frame)

    def error(self, code: Code, message: str, txn: int | None = None) -> None:
        """Say that something cannot be; the link lives on."""
        answer = ErrorMessage(code=code, message=message[:1_000], txn=UNSET if txn is None else txn)
        self._send(FrameType.ERROR, encode(answer))

    def end(
        self,
        code: Code,
        reason: str,
        *,
        retry_after_s: float | None = None,
        alternatives: tuple[str, ...] = (),
    ) -> Ended:
        """Say BYE and end the link; gives the event that :meth:`receive` would have given."""
        ended = Ended(code, reason, True, retry_after_s, alternatives)
        if self.state is not State.ENDED:
            message = Bye(
                code=code,
                reason=reason[:1_000],
                retry_after=UNSET if retry_after_s is None else retry_after_s,
                alternatives=list(alternatives),
            )
            self._send(FrameType.BYE, encode(message))
            self.state = State.ENDED
        return ended

    # -- what happens ------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event | bytes]:
        """Take bytes from the far side; what they mean, in order.

        What follows a HELLO is kept until :meth:`welcome`; then :attr:`holding` is true, and a call without data gives it.
        """
        self.vigil.heard(now)
        lone_pong = len(data) == 11 and data[:3] == _PONG_HEAD and not (self._held or self._splitter.rest)
        if lone_pong and self.state is State.OPEN:  # a hall of listeners sends a thousand of these
            self.vigil.answered(int.from_bytes(data[3:], "big"), now)
            return []
        frames = self._splitter.feed(data)
        media_kind = self._splitter.media_kind
        if self._held:
            frames = self._held + frames
            self._held = []
        events: list[Event | bytes] = []
        for at, frame in enumerate(frames):
            if self.state is State.ENDED:
                return events
            if frame[2] == media_kind and self.state is State.OPEN:
                if self.vigil.fence and not frame[self.outbox.flags_at] & Flag.DATA:
                    self.dropped_stale += 1
                else:
                    events.append(frame)
            elif self._introduced and self.state is State.GREETING:
                self._held = frames[at:]
                break
            else:
                self._control(frame, now, events)
        if events and type(events[-1]) is bytes:
            self.vigil.heard_media(now)
        broken = self._splitter.error
        if self.state is not State.ENDED:
            if broken is not None and not self._held:
                events.append(self.end(broken.code, str(broken)))
            elif self._blocked_bytes > self._most_blocked:
                events.append(self.end(Code.LIMIT, "you ask, and do not read the answers"))
            elif len(self._held) > MAX_HELD:
                events.append(self.end(Code.ORDER, "too much was said before WELCOME"))
        return events

    @property
    def holding(self) -> bool:
        """Whether frames that came behind HELLO can be had now."""
        return bool(self._held) and self.state is State.OPEN

    def lone_media(self, data: bytes, now: float) -> bool:
        """Whether ``data`` is exactly one frame of media on an open link and nothing else waits: then it is heard, and need not go through
        :meth:`receive`.  So comes nearly every packet of an ordinary evening."""
        splitter, vigil = self._splitter, self.vigil
        size = len(data) - 3
        if (
            size < splitter.least_media
            or data[2] != splitter.media_kind
            or (data[0] << 8) | data[1] != size
            or size > splitter.max_media
            or splitter.rest
            or splitter.error is not None
            or self.state is not State.OPEN
            or self._held
            or vigil.fence
        ):
            return False
        vigil.heard_media(now)
        return True

    def doubt(self, now: float) -> None:
        """We stood still: ask the far side, and drop audio until it answers, since what lies in the kernel may be as old as the nap."""
        if self.state is State.OPEN:
            self.vigil.doubt(now)
            self._send(FrameType.PING, self.vigil.ping_number.to_bytes(8, "big"))

    def tick(self, now: float) -> list[Event]:
        """Let time pass: PINGs, staleness, death."""
        if self.state is State.ENDED:
            return []
        if self.state is State.GREETING:
            if now >= self._handshake_until:
                waited_for = "WELCOME" if self.opener else "HELLO"
                return [self.end(Code.IDLE, f"no {waited_for} came in time")]
            return []
        verdict = self.vigil.tick(now)
        if verdict is Verdict.DEAD:
            return [self.end(Code.IDLE, f"nothing was heard for {DEAD_AFTER_PING_S} s after a PING")]
        if verdict is Verdict.ASK:
            self._send(FrameType.PING, self.vigil.ping_number.to_bytes(8, "big"))
        return []

    # -- inside --------------------------------------------------------------------------------------------------------

    def _send(self, kind: FrameType, body: bytes) -> None:
        if self.state is not State.ENDED:
            self.out.append(control(kind, body))

    def _answer_ping(self, body: bytes, now: float) -> None:
        passed = now - self._pong_counted_at
        self._pong_counted_at = now
        self._pong_allowance = min(MAX_PONGS_PER_S, self._pong_allowance + passed * MAX_PONGS_PER_S)
        if self._pong_allowance < 1.0:
            self.pings_ignored += 1
            return
        self._pong_allowance -= 1.0
        self._send(FrameType.PONG, body)

    def _patient(self, now: float) -> bool:
        """Whether an opener asks no more than it may; an acceptor only answers what we asked."""
        if self.opener:
            return True
        passed = max(0.0, now - self._control_counted_at)
        self._control_counted_at = now
        self._control_allowance = min(self._control_burst, self._control_allowance + passed * CONTROL_PER_S)
        self._control_allowance -= 1.0
        return self._control_allowance >= 0.0

    def _control(self, frame: bytes, now: float, events: list[Event | bytes]) -> None:
        kind, body = frame[2], frame[3:]
        if self.state is State.GREETING:
            self._greet(kind, body, events)
        elif kind not in _PEER_FRAMES and not self._patient(now):
            events.append(self.end(Code.LIMIT, f"more than {CONTROL_PER_S:.0f} control frames a second"))
        elif kind == FrameType.PING:
            self._answer_ping(body, now)
        elif kind == FrameType.PONG:
            self.vigil.answered(int.from_bytes(body, "big"), now)
        elif kind == FrameType.BYE:
            events.append(self._heard_bye(body))
        elif kind == FrameType.ERROR:
            try:
                events.append(ErrorReceived(decode(ErrorMessage, body)))
            except MessageError as error:
                # never answer an ERROR by an ERROR: two broken ends would talk for ever
                events.append(self.end(Code.BAD_JSON, f"ERROR: {error}"))
        elif kind in _PEER_FRAMES:
            if self.role in _PEER_ROLES and kind != FrameType.RELAY:
                events.append(self._heard_peer(FrameType(kind), frame, now))
            else:
                events.append(self.end(Code.ROLE, f"{FrameType(kind).name} is for links between Rallypoints"))
        elif kind == FrameType.MEDIA:
            events.append(self.end(Code.ROLE, "between Rallypoints media is RELAY"))
        elif self.opener:
            self._from_acceptor(kind, body, events)
        else:
            self._from_opener(kind, body, events)

    def _between_rallypoints(self) -> None:
        """What this link carries is for Rallypoints: RELAY instead of MEDIA, and long floods."""
        self._splitter.max_control = MAX_BODY
        self._splitter.relays()
        self.outbox.flags_at = RELAY_HEADER + FLAGS_AT
        self._most_blocked = MAX_PEER_BLOCKED

    def _heard_peer(self, kind: FrameType, frame: bytes, now: float) -> Event:
        passed = max(0.0, now - self._peer_counted_at)
        self._peer_counted_at = now
        earned = self._peer_allowance + passed * PEER_BYTES_PER_S
        self._peer_allowance = min(PEER_BYTES_BURST, earned) - len(frame)
        if self._peer_allowance < 0:
            return self.end(
                Code.LIMIT, f"more than {PEER_BYTES_PER_S} bytes of floods a second, for too long"
            )
        return PeerFrame(kind, frame)

    def _greet(self, kind: int, body: bytes, events: list[Event | bytes]) -> None:
        expected = FrameType.WELCOME if self.opener else FrameType.HELLO
        if kind == FrameType.BYE:
            events.append(self._heard_bye(body))
            return
        if kind != expected:
            events.append(self.end(Code.ORDER, f"expected {expected.name} first, found type 0x{kind:02x}"))
            return
        try:
            if self.opener:
                welcome = decode(Welcome, body)
                if self._refused(welcome.version, welcome.id, events):
                    return
                self.state = State.OPEN
                self.vigil.keepalive_s = welcome.keepalive
                events.append(Opened(welcome))
            else:
                hello = decode(Hello, body)
                if self._refused(hello.version, hello.id, events):
                    return
                try:
                    self.role = LinkRole(hello.role)
                except ValueError:
                    known = ", ".join(LinkRole)
                    events.append(self.end(Code.ROLE, f"role {hello.role!r} is unknown; known are {known}"))
                    return
                self._introduced = True
                events.append(HelloReceived(hello))
        except MessageError as error:
            events.append(self.end(Code.BAD_JSON, f"{expected.name}: {error}"))

    def _refused(self, version: int, claimed_id: str, events: list[Event | bytes]) -> bool:
        if version != VERSION:
            events.append(self.end(Code.VERSION, f"link version {VERSION} is spoken here, not {version}"))
            return True
        if self._expected_id is not None and claimed_id != self._expected_id:
            events.append(
                self.end(
                    Code.IDENTITY, f"the certificate says {self._expected_id}, the greeting says {claimed_id}"
                )
            )
            return True
        self._expected_id = None  # compared once, and a string for each of thousands of links
        return False

    def _heard_bye(self, body: bytes) -> Ended:
        self.state = State.ENDED
        self.out.clear()
        try:
            bye = decode(Bye, body)
        except MessageError as error:
            return Ended(Code.BAD_JSON, f"an unreadable BYE: {error}", False)
        retry_after = None if bye.retry_after is UNSET else bye.retry_after
        return Ended(bye.code, bye.reason, False, retry_after, tuple(bye.alternatives))

    def _from_acceptor(self, kind: int, body: bytes, events: list[Event | bytes]) -> None:
        if kind == FrameType.JOINED:
            try:
                message = decode(Joined, body)
                events.append(JoinedReceived(message.txn, message.stream, parse_u64(message.key)))
            except (MessageError, ValueError) as error:
                self.error(Code.BAD_JSON, f"JOINED: {error}")
        elif kind == FrameType.WELCOME:
            events.append(self.end(Code.ORDER, "a second WELCOME"))
        elif kind in (FrameType.HELLO, FrameType.JOIN, FrameType.LEAVE):
            events.append(self.end(Code.ROLE, f"{FrameType(kind).name} is for the opener of a link"))
        else:
            self._unsupported(kind)

    def _from_opener(self, kind: int, body: bytes, events: list[Event | bytes]) -> None:
        if kind == FrameType.JOIN:
            self._join_asked(body, events)
        elif kind == FrameType.LEAVE:
            try:
                stream = decode(Leave, body).stream
                events.append(LeaveAsked(checked_stream_id(stream), stream_key(stream)))
            except StreamIdError as error:
                self.error(Code.BAD_STREAM, str(error))
            except MessageError as error:
                self.error(Code.BAD_JSON, f"LEAVE: {error}")
        elif kind == FrameType.HELLO:
            events.append(self.end(Code.ORDER, "a second HELLO"))
        elif kind in (FrameType.WELCOME, FrameType.JOINED):
            events.append(self.end(Code.ROLE, f"{FrameType(kind).name} is for the acceptor of a link"))
        else:
            self._unsupported(kind)

    def _unsupported(self, kind: int) -> None:
        self.error(Code.UNSUPPORTED, f"frame type 0x{kind:02x} is unknown in link version {VERSION}")

    def _join_asked(self, body: bytes, events: list[Event | bytes]) -> None:
        try:
            message = decode(Join, body)
        except MessageError as error:
            readable = body.decode("utf-8", "replace").encode()
            if readable != body:
                self.error(Code.BAD_STREAM, "a stream id is UTF-8", txn_of(readable))
            else:
                self.error(Code.BAD_JSON, f"JOIN: {error}", txn_of(body))
            return
        try:
            checked_stream_id(message.stream)
        except StreamIdError as error:
            self.error(Code.BAD_STREAM, str(error), message.txn)
            return
        source: int | str | None
        if message.source is UNSET:
            source = None
        elif message.source == ANY_SOURCE:
            source = ANY_SOURCE
        else:
            try:
                source = parse_u64(message.source)
            except ValueError as error:
                self.error(Code.BAD_JSON, f"JOIN: source: {error}", message.txn)
                return
        key = stream_key(message.stream)
        events.append(JoinAsked(message.txn, message.stream, key, message.listen, message.talk, source))
