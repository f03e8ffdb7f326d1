"""A scripted call manager: speaks ARI (REST and event WebSocket) and AudioSocket over real sockets, as Asterisk 22 does, with numbers that behave and faults to switch on. The tests' counterpart of a gateway, and a
stand-in for who wants to try one::

    exchange = Exchange(reactor, user="ice", password=secret)
    exchange.listen()                                   # http on 127.0.0.1, or https with tls=...
    ... a trunk with url = exchange.url ...
    exchange.incoming("030901820", dialled="4711")      # somebody calls
    exchange.faults.fail("create", 500)                 # from now on

=======  ===========================================================================================
number   what happens
=======  ===========================================================================================
``100``  rings, answers, says back what it hears; keys come back too
``101``  is heard before it answers, answers, speaks, hangs up
``102``  is busy
``103``  rings, and nobody ever answers
``104``  answers, hangs up, and calls back
``105``  congestion
``106``  does not take the call
``108``  answers and says nothing
=======  ===========================================================================================

Every other number is unknown (1). The order of events, and what is closed when, are those seen at an Asterisk 22.10. :attr:`Exchange.half_open` counts what there is: after a test nothing may be left.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

from twisted.internet import protocol
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint

from ice.media.tones import sine
from ice.net.addresses import parse_address
from ice.net.clock import DelayedCall
from ice.testing.exchange_http import Answer, Asked, Connection, HttpServer
from ice.testing.exchange_parts import (
    ANNOUNCEMENT,
    ANSWERS,
    CALLS_BACK,
    CAUSES,
    ECHO,
    KNOWN,
    MODULES,
    REFUSALS,
    VERSION,
    ExchangeChannel,
    Faults,
)
from ice.testing.exchange_sound import FORMATS, SoundLink


class _Refused(Exception):
    """A request is answered with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Exchange:
    """The call manager; see the module docstring. ``ring_s`` is how long its numbers ring."""

    def __init__(
        self, reactor: Any, *, user: str = "ice", password: str = "", ring_s: float = 0.05, app: str = "ice"
    ) -> None:
        self.faults = Faults()
        self.channels: dict[str, ExchangeChannel] = {}
        self.bridges: set[str] = set()
        self.pressed: list[tuple[str, str]] = []  #: keys said to channels: (number, digits)
        self.dialled: list[str] = []  #: endpoints
        self.asked: Counter[str] = Counter()  #: requests by operation
        self.listeners: dict[str, Connection] = {}  #: the event WebSocket of each application
        self.killed: list[str] = []  #: calls ended for what was sent by AudioSocket, and why
        self.causes: dict[str, int] = {}  #: why channels were hung up by the gateway, by their number
        self._reactor = reactor
        self._app = app
        self._token = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        self._ring_s = ring_s
        self._server = HttpServer(self)
        self._port: Any = None
        self._links: set[SoundLink] = set()
        self._serial = 0
        self._secure = False
        self._timers: list[DelayedCall] = []

    # -- for tests -----------------------------------------------------------------------------------------------------

    def listen(self, port: int = 0, *, tls: Any = None) -> int:
        """Listen on 127.0.0.1, with a Twisted context factory by TLS; gives the port."""
        self._secure = tls is not None
        if tls is None:
            self._port = self._reactor.listenTCP(port, self._server, interface="127.0.0.1")
        else:
            self._port = self._reactor.listenSSL(port, self._server, tls, interface="127.0.0.1")
        return int(self._port.getHost().port)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http{'s' if self._secure else ''}://localhost:{self._port.getHost().port}"

    def close(self) -> Deferred[Any]:
        """Be gone, at once, with all that there is: a crash."""
        for channel in list(self.channels.values()):
            for timer in channel.timers:
                if timer.active():
                    timer.cancel()
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self.channels.clear()
        self.bridges.clear()
        for link in list(self._links):
            link.open = False
            transport: Any = link.transport
            transport.abortConnection()
        self._links.clear()
        for connection in list(self._server.connections):
            connection.cut()
        port, self._port = self._port, None
        return succeed(None) if port is None else port.stopListening()

    @property
    def half_open(self) -> dict[str, int]:
        """What there is of calls; empty where nothing is left."""
        counts = {"channels": len(self.channels), "bridges": len(self.bridges), "sockets": len(self._links)}
        return {what: count for what, count in counts.items() if count}

    def line(self, number: str) -> str:
        """The channel of a number that was dialled, or of who calls; raises :class:`KeyError`."""
        for channel in self.channels.values():
            if channel.number == number:
                return channel.id
        raise KeyError(number)

    def incoming(self, number: str, dialled: str, name: str = "") -> str:
        """Somebody calls; gives the channel."""
        self._serial += 1
        channel = ExchangeChannel(
            f"1700000000.{self._serial}",
            f"PJSIP/provider-{self._serial:08x}",
            "Ring",
            number,
            (number, name),
            dialled,
        )
        channel.data = f"{self._app},{dialled}"
        self.channels[channel.id] = channel
        self._event("StasisStart", channel, args=[dialled])
        return channel.id

    def press(self, id: str, digit: str) -> None:
        """A channel's far end presses a key."""
        channel = self.channels[id]
        for other in self._others(channel):
            if other.link is not None:
                other.link.press(digit)
        if self.faults.keys_by_events:
            self._event("ChannelDtmfReceived", channel, digit=digit, duration_ms=100)

    def hold(self, id: str, on: bool) -> None:
        """A channel's far end puts its phone on hold."""
        self._event("ChannelHold" if on else "ChannelUnhold", self.channels[id])

    def hang_up(self, id: str, cause: int = 16, *, asked: bool = True) -> None:
        """A channel ends, with all the events that belong to that."""
        channel = self.channels.pop(id, None)
        if channel is None:
            return
        for timer in channel.timers:
            if timer.active():
                timer.cancel()
        if asked:
            self._event("ChannelHangupRequest", channel, cause=cause)
        if channel.link is not None:
            channel.link.close()
            self._links.discard(channel.link)
        if channel.bridge:
            self._event("ChannelLeftBridge", channel, bridge=self._bridge(channel.bridge))
        if channel.data:
            self._event("StasisEnd", channel)
        self._event("ChannelVarset", channel, variable="STASISSTATUS", value="SUCCESS")
        self._event("ChannelDestroyed", channel, cause=cause, cause_txt=CAUSES.get(cause, ""))

    def cut_events(self) -> None:
        """The event WebSockets break off."""
        for socket in list(self.listeners.values()):
            socket.cut()

    def say_event(self, text: str) -> None:
        """Send any text to everybody who listens."""
        for socket in self.listeners.values():
            socket.say(text)

    @property
    def links(self) -> tuple[SoundLink, ...]:
        """The connections of sound."""
        return tuple(self._links)

    # -- of HTTP (ice.testing.exchange_http.Site) ----------------------------------------------------------------------

    def may_listen(self, asked: Asked) -> int:
        """See :class:`ice.testing.exchange_http.Site`."""
        if asked.headers.get("authorization") != self._token:
            return 401
        if asked.path != ("events",) or not asked.query.get("app"):
            return 404
        return self.faults.events_refused or 101

    def opened(self, socket: Connection) -> None:
        """See :class:`ice.testing.exchange_http.Site`: whoever comes last has the application."""
        assert socket.asked is not None
        app = socket.asked.query["app"]
        before = self.listeners.get(app)
        self.listeners[app] = socket
        if before is not None:
            before.say(json.dumps({"type": "ApplicationReplaced", "application": app}))

    def closed(self, socket: Connection) -> None:
        """See :class:`ice.testing.exchange_http.Site`."""
        assert socket.asked is not None
        if self.listeners.get(socket.asked.query["app"]) is socket:
            del self.listeners[socket.asked.query["app"]]

    def answer(self, asked: Asked) -> Deferred[Answer]:
        """See :class:`ice.testing.exchange_http.Site`."""
        if asked.headers.get("authorization") != self._token:
            return succeed(self._error(401, "Authentication required"))
        operation, do = self._operation(asked)
        self.asked[operation] += 1
        match self.faults.take(operation):
            case None:
                pass
            case "nothing":
                return Deferred()
            case "garbage":
                return succeed(Answer(200, b'{"id": ["\xff'))
            case how:
                return succeed(self._error(int(how), "as scripted"))
        try:
            return do()
        except _Refused as refused:
            return succeed(self._error(refused.status, str(refused)))

    # -- operations ----------------------------------------------------------------------------------------------------

    def _operation(self, asked: Asked) -> tuple[str, Callable[[], Deferred[Answer]]]:
        query = asked.query
        match (asked.method, *asked.path):
            case ("GET", "channels"):
                return "channels", lambda: self._good([each.as_json for each in self.channels.values()])
            case ("GET", "bridges"):
                return "bridges", lambda: self._good([self._bridge(each) for each in sorted(self.bridges)])
            case ("GET", "applications"):
                return "applications", lambda: self._good([self._application(app) for app in self.listeners])
            case ("GET", "asterisk", "info"):
                return "info", lambda: self._good(
                    {"system": {"version": VERSION, "entity_id": "00:00:00:00:00:00"}}
                )
            case ("GET", "asterisk", "modules"):
                return "modules", lambda: self._good(
                    [
                        {
                            "name": name,
                            "status": "Running",
                            "support_level": "core",
                            "use_count": 0,
                            "description": "",
                        }
                        for name in MODULES
                    ]
                )
            case ("GET", "endpoints"):
                return "endpoints", lambda: self._good(
                    [{"technology": "PJSIP", "resource": "provider", "state": "online", "channel_ids": []}]
                )
            case ("POST", "channels", "create"):
                return "create", lambda: self._create(query, json.loads(asked.body or b"{}"))
            case ("POST", "channels", "externalMedia"):
                return "externalMedia", lambda: self._external_media(query)
            case ("POST", "channels", id, "dial"):
                return "dial", lambda: self._dial(self._channel(id))
            case ("DELETE", "channels", id):
                return "hangup", lambda: self._delete(self._channel(id), query)
            case ("POST", "channels", id, "answer"):
                return "answer", lambda: self._answer(self._channel(id))
            case ("POST", "channels", id, "dtmf"):
                return "dtmf", lambda: self._keys(self._channel(id), query["dtmf"])
            case ("POST" | "DELETE", "channels", id, "moh"):
                return "moh", lambda: self._music(self._channel(id), asked.method == "POST")
            case ("GET", "channels", id, "variable"):
                return "variable", lambda: self._variable(self._channel(id), query["variable"])
            case ("POST", "channels", id, "variable"):
                return "setVariable", lambda: self._set_variable(self._channel(id), query)
            case ("POST", "channels", id, "ring"):
                return "ring", lambda: self._done(self._channel(id))
            case ("POST", "bridges", id):
                return "bridge", lambda: self._make_bridge(id)
            case ("POST", "bridges", id, "addChannel"):
                return "addChannel", lambda: self._join(id, self._channel(query["channel"]))
            case ("DELETE", "bridges", id):
                return "endBridge", lambda: self._end_bridge(id)
            case _:
                return "unknown", lambda: self._missing("Resource not found")

    def _create(self, query: dict[str, str], body: dict[str, Any]) -> Deferred[Answer]:
        endpoint = query["endpoint"]
        self.dialled.append(endpoint)
        number = endpoint.partition("/")[2].partition("@")[0]
        if query["channelId"] in self.channels:
            raise _Refused(409, "Channel with given unique ID already exists")
        if not number:
            raise _Refused(400, "Invalid endpoint specified")
        channel = ExchangeChannel(
            query["channelId"], f"{endpoint}-{len(self.dialled):08x}", number=number, data=query["app"]
        )
        channel.variables.update(body.get("variables", {}))
        self.channels[channel.id] = channel
        return self._made(channel, [])

    def _external_media(self, query: dict[str, str]) -> Deferred[Answer]:
        host = parse_address(query["external_host"])
        rate = FORMATS[query["format"]]
        channel = ExchangeChannel(
            query["channelId"],
            f"AudioSocket/{query['external_host']}-{query['data']}",
            data=f"{query['app']},{query['data']}",
        )
        answered: Deferred[Answer] = Deferred()
        endpoint: Any = HostnameEndpoint(self._reactor, host.host, host.port, timeout=2.0)
        connecting = endpoint.connect(
            protocol.Factory.forProtocol(lambda: SoundLink(self, UUID(query["data"]), rate))
        )

        def connected(link: SoundLink) -> None:
            channel.link = link
            self._links.add(link)
            self.channels[channel.id] = channel
            self._later(self.faults.uuid_after_s, link.name)
            self._event("Dial", None, peer=channel.as_json, dialstring="", dialstatus="")
            channel.state = "Up"
            self._event("ChannelStateChange", channel)
            self._event("Dial", None, peer=channel.as_json, dialstring="", dialstatus="ANSWER")
            self._event("ChannelVarset", channel, variable="STASISSTATUS", value="")
            self._made(channel, [query["data"]]).addCallback(answered.callback)

        def failed(_: object) -> None:
            answered.callback(self._error(500, "Allocation failed"))

        connecting.addCallbacks(connected, failed)
        return answered

    def _made(self, channel: ExchangeChannel, args: list[str]) -> Deferred[Answer]:
        """StasisStart before the answer, or just after it."""
        if self.faults.start_first:
            self._event("StasisStart", channel, args=args)
        else:
            channel.timers.append(
                self._reactor.callLater(0.002, self._event, "StasisStart", channel, args=args)
            )
        return self._good(channel.as_json)

    def _dial(self, channel: ExchangeChannel) -> Deferred[Answer]:
        if channel.state != "Down":
            raise _Refused(409, "Channel is not in the 'Down' state")
        self._event("Dial", None, peer=channel.as_json, dialstring=channel.number, dialstatus="")
        number = channel.number
        if number in REFUSALS or number not in KNOWN:
            self._later(0.01, self.hang_up, channel.id, REFUSALS.get(number, 1))
        else:
            channel.timers.append(self._reactor.callLater(0.01, self._rings, channel))
        return self._good(None)

    def _rings(self, channel: ExchangeChannel) -> None:
        channel.state = "Ringing"
        self._event("ChannelStateChange", channel)
        self._event("Dial", None, peer=channel.as_json, dialstring="", dialstatus="RINGING")
        if channel.number == ANNOUNCEMENT:
            channel.timers.append(self._reactor.callLater(self._ring_s / 2, self._early, channel))
        if channel.number in ANSWERS:
            channel.timers.append(self._reactor.callLater(self._ring_s, self._picks_up, channel))

    def _early(self, channel: ExchangeChannel) -> None:
        self._event("Dial", None, peer=channel.as_json, dialstring="", dialstatus="PROGRESS")
        self._speak(channel, 30)

    def _picks_up(self, channel: ExchangeChannel) -> None:
        channel.state = "Up"
        self._event("ChannelStateChange", channel)
        self._event("Dial", None, peer=channel.as_json, dialstring="", dialstatus="ANSWER")
        if channel.number in (ANNOUNCEMENT, CALLS_BACK):
            channel.timers.append(self._reactor.callLater(0.4, self.hang_up, channel.id, 16))
        if channel.number == CALLS_BACK:
            self._later(0.6, self.incoming, CALLS_BACK, "4711", "Exchange")

    def _speak(self, channel: ExchangeChannel, frames: int) -> None:
        """A tone, 20 ms at a time, as long as the channel is there."""
        if channel.id not in self.channels or not frames:
            return
        for other in self._others(channel):
            if other.link is not None:
                size = other.link.rate // 50
                other.link.say(sine(440.0, 960)[:: 48_000 // other.link.rate][:size].astype("<i2").tobytes())
        channel.timers.append(self._reactor.callLater(0.02, self._speak, channel, frames - 1))

    def _delete(self, channel: ExchangeChannel, query: dict[str, str]) -> Deferred[Answer]:
        cause = int(query.get("reason_code", "16"))
        self.causes[channel.number or channel.name] = cause
        self._later(0.001, self.hang_up, channel.id, cause)
        return self._good(None)

    def _answer(self, channel: ExchangeChannel) -> Deferred[Answer]:
        channel.state = "Up"
        self._event("ChannelStateChange", channel)
        return self._good(None)

    def _keys(self, channel: ExchangeChannel, digits: str) -> Deferred[Answer]:
        self.pressed.append((channel.number, digits))
        if channel.number == ECHO:
            for digit in digits:
                self.press(channel.id, digit)
        return self._good(None)

    def _music(self, channel: ExchangeChannel, on: bool) -> Deferred[Answer]:
        channel.music = on
        return self._good(None)

    def _variable(self, channel: ExchangeChannel, name: str) -> Deferred[Answer]:
        if name not in channel.variables:
            raise _Refused(404, "Provided variable was not found")
        return self._good({"value": channel.variables[name]})

    def _set_variable(self, channel: ExchangeChannel, query: dict[str, str]) -> Deferred[Answer]:
        channel.variables[query["variable"]] = query["value"]
        self._event("ChannelVarset", channel, variable=query["variable"], value=query["value"])
        return self._good(None)

    def _done(self, channel: ExchangeChannel) -> Deferred[Answer]:
        return self._good(None)

    def _make_bridge(self, id: str) -> Deferred[Answer]:
        self.bridges.add(id)
        self._event("BridgeCreated", None, bridge=self._bridge(id))
        return self._good(self._bridge(id))

    def _join(self, id: str, channel: ExchangeChannel) -> Deferred[Answer]:
        if id not in self.bridges:
            raise _Refused(404, "Bridge not found")
        if not channel.data:
            raise _Refused(409, "Channel not in Stasis application")
        channel.bridge = id
        self._event("ChannelEnteredBridge", channel, bridge=self._bridge(id))
        return self._good(None)

    def _end_bridge(self, id: str) -> Deferred[Answer]:
        if id not in self.bridges:
            raise _Refused(404, "Bridge not found")
        for channel in self.channels.values():
            if channel.bridge == id:
                channel.bridge = ""
                self._event("ChannelLeftBridge", channel, bridge=self._bridge(id))
        self.bridges.discard(id)
        self._event("BridgeDestroyed", None, bridge={"id": id, "channels": []})
        return self._good(None)

    # -- sound (ice.testing.exchange_sound.Far) ------------------------------------------------------------------------

    def media_heard(self, link: SoundLink, samples: bytes) -> None:
        """See :class:`ice.testing.exchange_sound.Far`: an echo says it back; who is silent sends nothing."""
        for channel in self._others_of_link(link):
            if channel.number == ECHO and channel.state == "Up" and not channel.music and any(samples):
                link.say(samples)

    def media_ended(self, link: SoundLink) -> None:
        """See :class:`ice.testing.exchange_sound.Far`."""
        self._links.discard(link)
        for channel in list(self.channels.values()):
            if channel.link is link:
                if link.killed:
                    self.killed.append(link.killed)
                self.hang_up(channel.id, 16, asked=False)

    # -- within --------------------------------------------------------------------------------------------------------

    def _channel(self, id: str) -> ExchangeChannel:
        if id not in self.channels:
            raise _Refused(404, "Channel not found")
        return self.channels[id]

    def _others(self, channel: ExchangeChannel) -> list[ExchangeChannel]:
        return [
            each
            for each in self.channels.values()
            if channel.bridge and each.bridge == channel.bridge and each is not channel
        ]

    def _others_of_link(self, link: SoundLink) -> list[ExchangeChannel]:
        return next((self._others(each) for each in self.channels.values() if each.link is link), [])

    def _bridge(self, id: str) -> dict[str, Any]:
        members = [each.id for each in self.channels.values() if each.bridge == id]
        return {
            "id": id,
            "technology": "simple_bridge",
            "bridge_type": "mixing",
            "bridge_class": "stasis",
            "creator": "Stasis",
            "name": id,
            "channels": members,
        }

    def _application(self, app: str) -> dict[str, Any]:
        return {
            "name": app,
            "channel_ids": list(self.channels),
            "bridge_ids": sorted(self.bridges),
            "endpoint_ids": [],
            "device_names": [],
        }

    def _event(self, kind: str, channel: ExchangeChannel | None, **more: Any) -> None:
        event: dict[str, Any] = {
            "type": kind,
            "application": self._app,
            "timestamp": "2026-11-22T05:00:00.000+0000",
            "asterisk_id": "00:00:00:00:00:00",
        }
        if channel is not None:
            event["channel"] = channel.as_json
        if (socket := self.listeners.get(self._app)) is not None:
            socket.say(json.dumps(event | more))

    def _later(self, delay_s: float, do: Callable[..., object], *arguments: object) -> None:
        self._timers = [timer for timer in self._timers if timer.active()]
        self._timers.append(self._reactor.callLater(delay_s, do, *arguments))

    @staticmethod
    def _good(value: Any) -> Deferred[Answer]:
        return succeed(Answer(204) if value is None else Answer(200, json.dumps(value).encode()))

    @staticmethod
    def _missing(message: str) -> Deferred[Answer]:
        raise _Refused(404, message)

    @staticmethod
    def _error(status: int, message: str) -> Answer:
        return Answer(status, json.dumps({"message": message}).encode())
