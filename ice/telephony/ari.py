"""ARI, the REST interface of Asterisk: its requests and what it tells, as values. No socket here; :mod:`ice.telephony.ari_link` carries them.

**Requests** are :class:`Ask` values, made by the functions below: method, path under ``/ari``, query, body. Every id in a path is quoted, so that no name can lead elsewhere.

**Events** come as JSON texts over a WebSocket. :class:`EventReader` turns them into facts about channels and bridges. It is bounded, ignores keys that it does not know, counts kinds of events that are new
(Asterisk adds some), and raises nothing: what is no event is counted as garbage.

**Answers** with a body are read by ``read_…``, which raise :class:`~ice.errors.RemoteError` for anything else than what Asterisk documents. Model: the API documentation of Asterisk 22 (rest-api).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote

import attrs
import msgspec

from ice.errors import RemoteError
from ice.printable import printable
from ice.telephony.causes import Cause

MAX_EVENT: Final = 256 * 1024  # bytes; an event has one or two thousand
MAX_ID: Final = 150  # characters of a channel's id that Asterisk takes (AST_MAX_PUBLIC_UNIQUEID)
MAX_TEXT: Final = 256  # characters of a name or number that are kept
APPLICATION: Final = "Stasis"  # the application of the dial plan that hands a channel to ARI


# Requests


@attrs.frozen
class Ask:
    """One request. ``path`` begins with a slash and is under ``/ari``; ``body`` is said as JSON."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """Method and path, for logs: numbers and names stand in query and body."""
        return f"{self.method} {self.path}"


def _ask(method: str, *parts: str, body: Mapping[str, Any] | None = None, **query: str) -> Ask:
    path = "".join("/" + quote(part, safe="") for part in parts)
    return Ask(method, path, tuple((key, value) for key, value in query.items() if value), body)


def create(endpoint: str, app: str, channel: str, variables: Mapping[str, str], *, formats: str = "") -> Ask:
    """A channel to ``endpoint`` that is in our application at once and not dialled yet."""
    return _ask(
        "POST", "channels", "create", endpoint=endpoint, app=app, channelId=channel, formats=formats,
        body={"variables": dict(variables)},
    )  # fmt: skip


def dial(channel: str, timeout_s: int) -> Ask:
    """Dial a created channel; Asterisk gives up after ``timeout_s`` seconds."""
    return _ask("POST", "channels", channel, "dial", timeout=str(timeout_s))


def external_media(channel: str, app: str, host: str, uuid: str, format: str) -> Ask:
    """A channel whose sound comes and goes by AudioSocket to ``host`` (host:port), which is told ``uuid``."""
    return _ask(
        "POST", "channels", "externalMedia", channelId=channel, app=app, external_host=host, encapsulation="audiosocket",
        transport="tcp", connection_type="client", format=format, direction="both", data=uuid,
    )  # fmt: skip


def hang_up(channel: str, q850: int = 16) -> Ask:
    """End a channel for a reason (ITU-T Q.850)."""
    return _ask("DELETE", "channels", channel, reason_code=str(q850))


def answer(channel: str) -> Ask:
    """Answer a channel that calls us."""
    return _ask("POST", "channels", channel, "answer")


def ring(channel: str) -> Ask:
    """Tell a channel that calls us that it rings."""
    return _ask("POST", "channels", channel, "ring")


def send_keys(channel: str, digits: str) -> Ask:
    """Say telephone keys to a channel's far end."""
    return _ask("POST", "channels", channel, "dtmf", dtmf=digits)


def music(channel: str, on: bool) -> Ask:
    """Start or stop the music of somebody on hold."""
    return _ask("POST" if on else "DELETE", "channels", channel, "moh")


def get_variable(channel: str, name: str) -> Ask:
    """Ask for a variable of a channel."""
    return _ask("GET", "channels", channel, "variable", variable=name)


def set_variable(channel: str, name: str, value: str) -> Ask:
    """Set a variable of a channel."""
    return _ask("POST", "channels", channel, "variable", variable=name, value=value)


def make_bridge(bridge: str, name: str) -> Ask:
    """A bridge that mixes."""
    return _ask("POST", "bridges", bridge, type="mixing", name=name)


def join(bridge: str, channel: str) -> Ask:
    """Put a channel into a bridge."""
    return _ask("POST", "bridges", bridge, "addChannel", channel=channel)


def end_bridge(bridge: str) -> Ask:
    """End a bridge; its channels stay."""
    return _ask("DELETE", "bridges", bridge)


CHANNELS: Final = _ask("GET", "channels")
BRIDGES: Final = _ask("GET", "bridges")
INFO: Final = _ask("GET", "asterisk", "info")
MODULES: Final = _ask("GET", "asterisk", "modules")
APPLICATIONS: Final = _ask("GET", "applications")
ENDPOINTS: Final = _ask("GET", "endpoints")


# What Asterisk says


class Party(msgspec.Struct, frozen=True):
    """Whom a channel belongs to, as far as it is known."""

    name: str = ""
    number: str = ""


class Place(msgspec.Struct, frozen=True):
    """Where in the dial plan a channel is."""

    context: str = ""
    exten: str = ""
    app_name: str = ""
    app_data: str = ""


class Channel(msgspec.Struct, frozen=True):
    """A channel; ``state`` is ``Down``, ``Ring`` (calls us), ``Ringing``, ``Up`` and so on."""

    id: str
    name: str = ""
    state: str = ""
    caller: Party = Party()
    dialplan: Place = Place()

    def belongs(self, app: str) -> bool:
        """Whether it is in the hands of our application."""
        data = self.dialplan.app_data
        return self.dialplan.app_name == APPLICATION and (data == app or data.startswith(app + ","))


class Bridge(msgspec.Struct, frozen=True):
    """A bridge and the ids of the channels in it."""

    id: str
    channels: list[str] = []


class Variable(msgspec.Struct, frozen=True):
    """A variable's value."""

    value: str = ""


class System(msgspec.Struct, frozen=True):
    """Part of what Asterisk says of itself."""

    version: str = ""


class Info(msgspec.Struct, frozen=True):
    """What Asterisk says of itself."""

    system: System = System()


class Module(msgspec.Struct, frozen=True):
    """A module; ``status`` is ``Running`` where it works."""

    name: str
    status: str = ""
    support_level: str = ""


class Application(msgspec.Struct, frozen=True):
    """An application that some WebSocket has registered."""

    name: str
    channel_ids: list[str] = []


class Endpoint(msgspec.Struct, frozen=True):
    """Who can be called: technology (``PJSIP``), name, and ``online``, ``offline`` or ``unknown``."""

    technology: str
    resource: str
    state: str = "unknown"


T = TypeVar("T")


def _reader(type: type[T]) -> Callable[[bytes], T]:
    decoder = msgspec.json.Decoder(type)

    def read(data: bytes) -> T:
        try:
            return decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteError(
                f"the call manager's answer is not what ARI says: {printable(str(error), 120)}"
            ) from None

    return read


read_channels: Final = _reader(list[Channel])
read_bridges: Final = _reader(list[Bridge])
read_variable: Final = _reader(Variable)
read_info: Final = _reader(Info)
read_modules: Final = _reader(list[Module])
read_applications: Final = _reader(list[Application])
read_endpoints: Final = _reader(list[Endpoint])


# Facts


@attrs.frozen
class Started:
    """A channel is in our hands; ``args`` are those of the dial plan's ``Stasis(app,args…)``."""

    channel: Channel
    args: tuple[str, ...] = ()


@attrs.frozen
class Left:
    """A channel is no longer in our hands."""

    channel: str


@attrs.frozen
class Changed:
    """A channel has another state."""

    channel: str
    state: str


@attrs.frozen
class Dialled:
    """How dialling goes: ``RINGING``, ``PROGRESS``, ``ANSWER``, ``BUSY``, ``CONGESTION``, ``NOANSWER``, ``CHANUNAVAIL`` …"""

    channel: str
    status: str


@attrs.frozen
class Gone:
    """A channel is no more; ``q850`` says why."""

    channel: str
    q850: int


@attrs.frozen
class Key:
    """The far end of a channel pressed a telephone key."""

    channel: str
    digit: str


@attrs.frozen
class OnHold:
    """The far end of a channel has put us on hold, or goes on."""

    channel: str
    on: bool


@attrs.frozen
class BridgeGone:
    """A bridge is no more."""

    bridge: str


@attrs.frozen
class Replaced:
    """Another WebSocket has taken the application; this one hears nothing more."""


Fact: TypeAlias = Started | Left | Changed | Dialled | Gone | Key | OnHold | BridgeGone | Replaced


class _Kind(msgspec.Struct, frozen=True):
    type: str


class _Event(msgspec.Struct, frozen=True):
    """Whatever the events that we know have in them."""

    channel: Channel | None = None
    peer: Channel | None = None
    bridge: Bridge | None = None
    args: list[str] = []
    dialstatus: str = ""
    cause: int = 0
    digit: str = ""


def _of_channel(make: Callable[[Channel, _Event], Fact]) -> Callable[[_Event], Fact | None]:
    return lambda event: make(event.channel, event) if event.channel is not None else None


_FACTS: Final[Mapping[str, Callable[[_Event], Fact | None]]] = {
    "StasisStart": _of_channel(
        lambda channel, event: Started(channel, tuple(arg[:MAX_TEXT] for arg in event.args))
    ),
    "StasisEnd": _of_channel(lambda channel, event: Left(channel.id)),
    "ChannelStateChange": _of_channel(lambda channel, event: Changed(channel.id, channel.state)),
    "ChannelDestroyed": _of_channel(lambda channel, event: Gone(channel.id, event.cause)),
    "ChannelDtmfReceived": _of_channel(lambda channel, event: Key(channel.id, event.digit.upper())),
    "ChannelHold": _of_channel(lambda channel, event: OnHold(channel.id, True)),
    "ChannelUnhold": _of_channel(lambda channel, event: OnHold(channel.id, False)),
    "Dial": lambda event: Dialled(event.peer.id, event.dialstatus) if event.peer is not None else None,
    "BridgeDestroyed": lambda event: BridgeGone(event.bridge.id) if event.bridge is not None else None,
    "ApplicationReplaced": lambda event: Replaced(),
}


#: Kinds of events that a call brings along, and that tell nothing that is not told otherwise.
_IDLE: Final = frozenset(
    {
        "BridgeCreated", "BridgeMerged", "BridgeVideoSourceChanged", "ChannelCallerId", "ChannelConnectedLine", "ChannelCreated", "ChannelDialplan",
        "ChannelEnteredBridge", "ChannelHangupRequest", "ChannelLeftBridge", "ChannelUserevent", "ChannelVarset", "EndpointStateChange", "PeerStatusChange",
    }
)  # fmt: skip


class EventReader:
    """Texts of the event WebSocket to facts; see the module docstring."""

    def __init__(self) -> None:
        self.facts = 0
        self.idle = 0  #: events of known kinds that say nothing to us
        #: Events that told nothing, by reason: ``unknown`` (a kind that is new), ``garbage`` (no event), ``bare`` (an event without what it is about), ``long``.
        self.ignored: Counter[str] = Counter()
        self._kind = msgspec.json.Decoder(_Kind)
        self._event = msgspec.json.Decoder(_Event)

    def read(self, text: str | bytes) -> Fact | None:
        """The fact that an event tells, or ``None``, counted."""
        if len(text) > MAX_EVENT:
            self.ignored["long"] += 1
            return None
        try:
            kind = self._kind.decode(text).type
            if kind in _IDLE:
                self.idle += 1
                return None
            make = _FACTS.get(kind)
            event = self._event.decode(text) if make is not None else None
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            self.ignored["garbage"] += 1
            return None
        if make is None or event is None:
            self.ignored["unknown"] += 1
            return None
        fact = make(event)
        if fact is None:
            self.ignored["bare"] += 1
            return None
        self.facts += 1
        return fact


#: How dialling may end, as our causes; ``CANCEL`` is our own doing.
DIAL_ENDS: Final[Mapping[str, Cause]] = {
    "BUSY": Cause.BUSY,
    "CONGESTION": Cause.CONGESTION,
    "NOANSWER": Cause.NO_ANSWER,
    "CHANUNAVAIL": Cause.UNREACHABLE,
    "DONTCALL": Cause.REJECTED,
    "TORTURE": Cause.REJECTED,
}


def refusal(status: int | None, *, number: bool = False) -> Cause:
    """What it means for a call that a request for it was answered with this HTTP status; ``None``: with nothing. ``number``: the request named the number.

    Where the call manager itself cannot, the cause is one after which the next trunk is asked.
    """
    match status:
        case None | 401 | 403:
            return Cause.NO_TRUNK
        case 400 if number:
            return Cause.INVALID_NUMBER
        case 404:
            return Cause.UNREACHABLE
        case _ if status >= 500:
            return Cause.CONGESTION
        case _:
            return Cause.FAILED
