"""One link to one Rallypoint, from dialling to its last byte: the opener's half of :mod:`ice.net.link`.

::

    DIALLING --TCP--> HANDSHAKE --TLS--> GREETING --WELCOME--> OPEN --> OVER
                 (all of it within ``timeout_s``)

A connection ends once, with an :class:`~ice.link.event.Ended` whose reason is a sentence that names the address.  It is
*closed* when nothing of it is left in the reactor, which is later: a BYE wants to be read.
"""

from enum import Enum
from typing import Protocol

import attrs
from OpenSSL.crypto import X509
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from ice.errors import LocalError, RemoteError
from ice.link.event import Ended, Event, Opened
from ice.link.frame import MAX_BODY, MEDIA_OVERHEAD
from ice.link.message import Code, Hello, Welcome
from ice.link.outbox import Outbox
from ice.link.session import Session
from ice.link.wake import Wake
from ice.net.addresses import Address
from ice.net.clock import Clock
from ice.net.link import Link
from ice.streams.dialling import Dialler
from ice.streams.words import plain

#: What a Rallypoint accepts is its own setting, so whatever fits a frame is taken from it.
MAX_PAYLOAD = MAX_BODY - MEDIA_OVERHEAD
#: Frames that wait where the Rallypoint does not read: what forty talkers of a reflector say in the two seconds that any may wait; a person's never are so many.
QUEUE_FRAMES = 4_096


class Phase(Enum):
    """How far a connection has come; the value says in words what is being waited for."""

    DIALLING = "a TCP connection"
    HANDSHAKE = "the TLS handshake"
    GREETING = "its WELCOME"
    OPEN = "nothing"
    OVER = "the end"


class Keeper(Protocol):
    """Who keeps connections."""

    def opened(self, connection: "Connection", welcome: Welcome) -> None:
        """The Rallypoint let us in."""

    def heard(self, link: Link, frame: bytes) -> None:
        """One whole MEDIA frame came; called once per packet."""

    def event(self, connection: "Connection", event: Event) -> None:
        """Something else came."""

    def over(self, connection: "Connection", ended: Ended) -> None:
        """The connection has ended, or never came to be; called once."""

    def closed(self, connection: "Connection") -> None:
        """Nothing is left of it; called once, after :meth:`over`."""


class Connection:
    """See the module's docstring.  An :class:`ice.net.link.Owner`."""

    def __init__(
        self,
        address: Address,
        *,
        clock: Clock,
        dialler: Dialler,
        hello: Hello,
        timeout_s: float,
        keeper: Keeper,
        wake: Wake,
    ) -> None:
        """``wake``: the watch over ourselves that all connections of a network share."""
        self.address = address
        self.phase = Phase.DIALLING
        self.link: Link | None = None
        self.welcome: Welcome | None = None
        #: The largest payload that the Rallypoint takes.
        self.media_bytes = 0
        #: Straight to the keeper: one call less per packet.
        self.media = keeper.heard
        self._clock = clock
        self._dialler = dialler
        self._hello = hello
        self._timeout_s = timeout_s
        self._keeper = keeper
        self._wake = wake
        #: When it was begun.
        self.begun_at = clock.seconds()
        self._deadline = self.begun_at + timeout_s
        self._dialled: Deferred[IProtocol] | None = None
        self._closed = False

    @property
    def session(self) -> Session | None:
        """The session, as soon as TLS stands."""
        return None if self.link is None else self.link.session

    @property
    def answered(self) -> bool:
        """Whether anything has answered at the address: TCP stands, or stood."""
        return self.phase is not Phase.DIALLING

    @property
    def open(self) -> bool:
        """Whether the Rallypoint has let us in, and the link has not ended."""
        return self.phase is Phase.OPEN

    @property
    def far_id(self) -> str:
        """The UUID of the Rallypoint, as soon as it has let us in."""
        return "" if self.welcome is None else self.welcome.id

    @property
    def deadline(self) -> float:
        """When :meth:`pulse` is due at the latest; never once it is over."""
        if self.phase is Phase.OVER:
            return float("inf")
        session = self.session
        return session.deadline if self.phase is Phase.OPEN and session is not None else self._deadline

    def start(self) -> None:
        """Dial; :meth:`Keeper.over` may be called before this returns."""
        try:
            dialled = self._dialler.connect(self.address, _Links(self))
        except LocalError as wrong:
            self._never_was("address", str(wrong))
            return
        if self.phase is Phase.DIALLING:
            self._dialled = dialled
        dialled.addCallbacks(self._connected, self._not_connected)

    def pulse(self, now: float) -> None:
        """Let time pass; call it about every 100 ms."""
        if self.phase is Phase.OPEN:
            if self.link is not None:
                self.link.pulse(now)
        elif self.phase is not Phase.OVER and now >= self._deadline:
            self.give_up(
                "timeout", f"it does not answer: no sign of {self.phase.value} within {self._timeout_s:g} s"
            )

    def leave(self, reason: str) -> None:
        """Say BYE ``leaving`` where there is somebody to hear it, and close."""
        if self.phase is Phase.OPEN and self.link is not None:
            self.link.end(Code.LEAVING, reason)
        elif self.phase is not Phase.OVER:
            self.give_up(Code.LEAVING, reason)

    def give_up(self, code: str, why: str) -> None:
        """Cut it off without a word."""
        dialled, self._dialled = self._dialled, None
        self._over(Ended(code, f"{self.address}: {why}", True))
        if self.link is not None:
            self.link.abort()
        elif dialled is not None:
            dialled.cancel()
            self._close()

    # -- ice.net.link.Owner ------------------------------------------------------------------------------------------

    def handshaken(self, link: Link, certificate: X509) -> None:
        """TLS stands: introduce ourselves."""
        self.link = link
        if self.phase is Phase.OVER:
            link.abort()
            return
        try:
            far_id = self._dialler.identify(certificate)
        except RemoteError as wrong:
            link.refuse(Code.IDENTITY, str(wrong))
            return
        self.phase = Phase.GREETING
        session = Session(
            opener=True,
            now=self._clock.seconds(),
            expected_id=far_id,
            handshake_s=self._timeout_s,
            media_bytes=MAX_PAYLOAD,
            outbox=Outbox(max_frames=QUEUE_FRAMES),
        )
        session.hello(self._hello)
        link.begin(session)

    def event(self, link: Link, event: Event) -> None:
        """Something came."""
        if isinstance(event, Opened):
            self.welcome = event.welcome
            self.media_bytes = event.welcome.limits.media_bytes
            self.phase = Phase.OPEN
            self._keeper.opened(self, event.welcome)
        else:
            self._keeper.event(self, event)

    def ended(self, link: Link, ended: Ended) -> None:
        """The link is over."""
        reason = ended.reason
        if ended.ours and ended.code == Code.ALPN:
            reason = "it does not speak ice-link/1; is this the address of a Rallypoint?"
        self._over(attrs.evolve(ended, reason=f"{self.address}: {plain(reason) or ended.code}"))

    def explain(self, failure: Failure) -> tuple[str, str]:
        """What the end of the connection means."""
        return self._dialler.explain(failure)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _connected(self, protocol: IProtocol) -> None:
        assert isinstance(protocol, Link)
        self._dialled = None
        self.link = protocol
        if self.phase is Phase.OVER:
            protocol.abort()
        elif self.phase is Phase.DIALLING:
            self.phase = Phase.HANDSHAKE

    def _not_connected(self, failure: Failure) -> None:
        self._dialled = None
        if self.phase is not Phase.OVER:
            self._never_was(*self._dialler.explain(failure))

    def _never_was(self, code: str, why: str) -> None:
        self._over(Ended(code, f"{self.address}: {why}", True))
        self._close()

    def _over(self, ended: Ended) -> None:
        if self.phase is not Phase.OVER:
            self.phase = Phase.OVER
            self._keeper.over(self, ended)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._keeper.closed(self)

    def lost(self) -> None:
        """The transport is gone, after :meth:`ended`."""
        self._close()


class _ClientLink(Link):
    """A link that says when its transport is gone."""

    def __init__(self, connection: Connection, clock: Clock, wake: Wake) -> None:
        super().__init__(connection, clock, wake)
        self._connection = connection

    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]
        super().connectionLost(reason)
        self._connection.lost()


class _Links(Factory):
    """Makes the link of one connection."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress | None) -> Link:
        """A link; ``addr`` is of no interest."""
        return _ClientLink(self._connection, self._connection._clock, self._connection._wake)
