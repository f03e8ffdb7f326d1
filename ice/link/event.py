"""What happens on a link, as values: what :class:`ice.link.session.Session` gives out beside MEDIA frames, which stay bytes."""

import attrs

from ice.link.frame import FrameType
from ice.link.message import ErrorMessage, Hello, Welcome


@attrs.frozen
class HelloReceived:
    """The opener has introduced itself; answer with :meth:`Session.welcome` or :meth:`Session.end`."""

    hello: Hello


@attrs.frozen
class Opened:
    """The Rallypoint let us in."""

    welcome: Welcome


@attrs.frozen
class JoinAsked:
    """The opener wants a stream.  ``source`` is the integer, ``"any"``, or None where none was declared."""

    txn: int
    stream: str
    key: int
    listen: bool
    talk: bool
    source: int | str | None


@attrs.frozen
class LeaveAsked:
    """The opener is done with a stream."""

    stream: str
    key: int


@attrs.frozen
class JoinedReceived:
    """We are joined; ``key`` is the stream's."""

    txn: int
    stream: str
    key: int


@attrs.frozen
class ErrorReceived:
    """The far side could not do something; the link lives on."""

    error: ErrorMessage


@attrs.frozen
class PeerFrame:
    """RELAY, TOPOLOGY or INTEREST on a link between Rallypoints: the whole frame, as it came."""

    kind: FrameType
    frame: bytes


@attrs.frozen
class Ended:
    """The link is over: ``ours`` says whether we ended it.  ``code`` is for counters, ``reason`` for people."""

    code: str
    reason: str
    ours: bool
    retry_after_s: float | None = None
    alternatives: tuple[str, ...] = ()


Event = HelloReceived | Opened | JoinAsked | LeaveAsked | JoinedReceived | ErrorReceived | PeerFrame | Ended
