"""One stream and the groups that are one with it: what comes in where, and where it goes.

An engine: time is an argument, what is sent goes to callables.  A :class:`Reflection` is one stream of the Rallypoints; each of its rules is a :class:`Port`, a place on a network::

    group  --heard-->  Port  --name it-->  Reflection  --forward-->  the stream, and the other ports
    group  <--send---  Port  <-deliver--   Reflection  <--datagram-- the stream

**Once.**  The bytes of the last two seconds are known (:mod:`ice.reflector.passed`).  What comes a second time, on whichever side, goes nowhere: not what we sent and another
reflector or the network returns, not what a second reflector has brought as well.  What comes from the stream under a name comes once by that name, and what is
brought in has the name that every reflector gives it (:mod:`ice.reflector.naming`).

**Opaque.**  Nothing in a datagram is changed, unless the rule says so (:mod:`ice.reflector.translation`).  Read is only the header of what is RTP, for the name and the statistics.

**Bounds.**  Each address has a rate (:mod:`ice.reflector.senders`); a circle makes the rule pause (:mod:`ice.reflector.loop`).

The hot path of a group is one bound method of its port: nothing looks up which rule a datagram belongs to.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Protocol

import attrs

from ice.link.frame import Flag
from ice.media.rtp import HEADER, RTCP, VERSION, MalformedRtp, Packet, Talk, TalkFlag, is_rtcp, is_rtp
from ice.net.addresses import Address
from ice.reflector.loop import Circle
from ice.reflector.naming import Naming
from ice.reflector.passed import Passage, Passed
from ice.reflector.senders import Network, Senders
from ice.reflector.statistics import Reception
from ice.reflector.translation import Translation
from ice.streams.interface import Datagram

MAX_SOURCES: Final = 256  # talkers of the stream whose reception is watched
_U32: Final = 0xFFFF_FFFF
_new: Final = tuple.__new__  # half the price of calling a named tuple, once per datagram
_FLAGS: Final = (
    (TalkFlag.EMERGENCY, Flag.URGENT),
    (TalkFlag.BURST_START, Flag.FIRST),
    (TalkFlag.BURST_END, Flag.LAST),
)


@attrs.frozen
class Terms:
    """What a rule says, as far as the engine wants to know."""

    group: str  #: where it hears, as text: part of names
    site: str = ""  #: which network that is on: part of names
    spoken: tuple[str, ...] = ()  #: where it speaks, as text; none: where it hears
    at: str = ""  #: what else tells it from other rules of the stream
    hears: bool = True  #: datagrams come in
    speaks: bool = True  #: datagrams go out
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    packets_per_s: float = 2_000.0  #: of one sender; 0: no limit


@attrs.define
class Flow:
    """What went one way, and what did not, by reason.  Datagrams."""

    packets: int = 0
    bytes: int = 0
    dropped: Counter[str] = attrs.field(factory=Counter)


class Watcher(Protocol):
    """Who is told what a person may want to know."""

    def flood(self, port: "Port", host: str) -> None:
        """``host`` sends more than it may."""

    def paused(self, port: "Port", why: str, seconds: float) -> None:
        """The port pauses."""

    def resumed(self, port: "Port") -> None:
        """It is open again."""


class Port:
    """One rule: a place on a network, tied to a stream."""

    def __init__(
        self,
        reflection: "Reflection",
        index: int,
        terms: Terms,
        translation: Translation | None,
        now: float,
    ) -> None:
        self.terms = terms
        self.translation = translation
        self.inward = Flow()
        self.outward = Flow()
        self.naming = Naming(terms.group, reflection.wall, site=terms.site)
        #: How others name what we say in each group.
        self.echoes = tuple(
            Naming(group, reflection.wall, site=terms.site) for group in terms.spoken or (terms.group,)
        )
        self.circle = Circle(reflection.random, now)
        self.senders = Senders(terms.allow, terms.deny)
        #: What sends to the group, one for each destination; set by the driver.
        self.sends: tuple[Callable[[bytes], bool], ...] = ()
        #: Our own addresses on that network; set by the driver.
        self.own_hosts: tuple[str, ...] = ()
        #: Whether anybody there listens; set by whoever knows (IGMP snooping).
        self.wanted = True
        #: Talkers of the stream by source.
        self.sources: dict[int, Reception] = {}
        self._reflection = reflection
        self._index = index

    # -- from the network ----------------------------------------------------------------------------------------------

    def heard_many(self, datagrams: Sequence[tuple[bytes, Address]], now: float) -> None:
        """The hot path: all that a turn has brought, in order; what passes goes on together."""
        reflection, terms, flow, naming = self._reflection, self.terms, self.inward, self.naming
        hosts, rate, index, translation = (
            self.senders.hosts,
            terms.packets_per_s,
            self._index,
            self.translation,
        )
        young, old, since = reflection.passed.turn(now, len(datagrams))
        brought: list[Datagram] = []
        for data, at in datagrams:
            host, port = at.host, at.port
            sender = hosts.get(host)
            if sender is None:
                sender = self.senders.of(host, rate, now)
            if not sender.allowed:
                flow.dropped["denied"] += 1
                continue
            if rate and not sender.passes(rate, now):
                flow.dropped["limited"] += 1
                if sender.tell(now):
                    reflection.watcher.flood(self, host)
                continue
            if self.circle.paused:
                flow.dropped["paused"] += 1
                continue
            mark = hash(data)
            found = young.get(mark) or old.get(mark)
            if found is not None and found.at >= since:
                self._again(found, data, host, now)
                continue
            flags = 0
            if (
                len(data) >= 12
                and (first := data[0]) >> 6 == VERSION
                and (second := data[1]) not in RTCP
                and naming.speaks_rtp(host, port)
            ):
                _, _, number, timestamp, ssrc = HEADER.unpack_from(data)
                talker = naming.of_rtp(host, ssrc, now)
                local = talker.number(number, now)
                talker.reception.heard(second, number, timestamp, now)
                if second & 0x80 or first & 0x10:
                    flags = _flags(data, first, second)
            else:
                if not (is_rtp(data) or is_rtcp(data)):
                    naming.unreadable(host, port)
                talker = naming.of_opaque(host, port, now)
                local = talker.count(now)
            young[mark] = passage = _new(Passage, (now, index, host, talker, local))
            if not reflection.active:
                flow.dropped["standby"] += 1
                continue
            if translation is not None:
                translated = translation.inward(data, reflection.wall())
                if isinstance(translated, str):
                    flow.dropped[translated] += 1
                    continue
                if translated is not data:
                    data = translated
                    reflection.passed.keep(hash(data), passage)
            brought.append(Datagram(flags, talker.source, local + talker.offset & _U32, data))
        if brought:
            reflection.forward(self, brought, now)

    def _again(self, found: Passage, data: bytes, host: str, now: float) -> None:
        """A datagram that was here before."""
        if found.host == host:
            self.inward.dropped["duplicate"] += 1
            return
        self.inward.dropped["returned"] += 1
        if is_rtp(data):
            self.returned(host, now)

    # -- to the network ------------------------------------------------------------------------------------------------

    def deliver(self, datagram: Datagram, now: float) -> None:
        """The hot path of the other way: a datagram of the stream, not here before."""
        flow, reflection = self.outward, self._reflection
        if self.circle.paused:
            flow.dropped["paused"] += 1
            return
        if not self.wanted:
            flow.dropped["nobody-listens"] += 1
            return
        data = datagram.payload
        if self.translation is not None:
            translated = self.translation.outward(data, reflection.wall())
            if isinstance(translated, str):
                flow.dropped[translated] += 1
                return
            if translated is not data:
                data = translated
                mark = hash(data)
                found = reflection.passed.find(mark, now)
                if found is not None:
                    reflection.returned(found, datagram, data, now)
                    return
                reflection.passed.keep(mark, _new(Passage, (now, -1, "", None, datagram.source)))
        if is_rtp(data):
            reception = self.sources.get(datagram.source)
            if reception is None:
                if len(self.sources) >= MAX_SOURCES:
                    del self.sources[next(iter(self.sources))]
                reception = self.sources[datagram.source] = Reception()
            _, second, number, timestamp, _ = HEADER.unpack_from(data)
            reception.heard(second, number, timestamp, now)
        flow.packets += 1
        flow.bytes += len(data)
        for send in self.sends:
            if not send(data):
                flow.dropped["unsent"] += 1

    # -- circles -------------------------------------------------------------------------------------------------------

    def returned(self, witness: str, now: float, *, certain: bool = False) -> None:
        """RTP that was here before came back."""
        if not self._reflection.active:
            return  # the active one's affair
        pause = self.circle.returned(witness, now, certain=certain)
        if pause is not None:
            self._reflection.watcher.paused(self, pause.why, pause.seconds)

    def tick(self, now: float) -> None:
        """Open again when a pause is over."""
        if self.circle.resume(now):
            self._reflection.watcher.resumed(self)


Forward = Callable[[Sequence[Datagram]], Sequence[str]]
"""Passes datagrams on to the stream: of each "" where it was sent, else why not, in a word for a counter."""


class Reflection:
    """One stream and its ports."""

    def __init__(
        self,
        stream_id: str,
        forward: Forward,
        watcher: Watcher,
        *,
        wall: Callable[[], float],
        random: Random,
        active: bool = True,
    ) -> None:
        """``wall``: seconds since 1970; ``active``: whether anything is sent, or only heard and remembered (a standby)."""
        self.stream_id = stream_id
        self.watcher = watcher
        self.wall = wall
        self.random = random
        self.active = active
        self.passed = Passed()
        self.ports: tuple[Port, ...] = ()
        self._forward = forward
        self._outs: tuple[Port, ...] = ()

    def open(self, rules: Sequence[tuple[Terms, Translation | None]], now: float) -> tuple[Port, ...]:
        """Have these ports from now on; those whose terms are as before keep all they know, translations excepted."""
        kept = {port.terms: port for port in self.ports}
        ports = []
        for index, (terms, translation) in enumerate(rules):
            port = kept.pop(terms, None)
            if port is None:
                port = Port(self, index, terms, translation, now)
            elif port.translation != translation:
                port.translation = translation
            port._index = index
            ports.append(port)
        if tuple(ports) != self.ports:
            self.passed = Passed()  # it counts ports
        self.ports = tuple(ports)
        self._outs = tuple(port for port in ports if port.terms.speaks)
        return self.ports

    @property
    def wanted(self) -> bool:
        """Whether anybody wants to hear the stream here."""
        return any(port.wanted for port in self._outs)

    def forward(self, origin: Port, datagrams: Sequence[Datagram], now: float) -> None:
        """What one port has brought in: to the stream and to the other ports."""
        flow = origin.inward
        for datagram, reason in zip(datagrams, self._forward(datagrams), strict=True):
            if reason:
                flow.dropped[reason] += 1
            else:
                flow.packets += 1
                flow.bytes += len(datagram.payload)
        if len(self.ports) > 1:
            for port in self._outs:
                if port is not origin:
                    for datagram in datagrams:
                        port.deliver(datagram, now)

    def datagram(self, datagram: Datagram, now: float) -> None:
        """The hot path from the stream."""
        mark = hash(datagram.payload)
        found = self.passed.find(mark, now)
        if found is not None:
            self.returned(found, datagram, datagram.payload, now)
            return
        self.passed.keep(mark, _new(Passage, (now, -1, "", None, datagram.source)))
        if not self.active:
            for port in self._outs:
                port.outward.dropped["standby"] += 1
            return
        for port in self._outs:
            port.deliver(datagram, now)

    def returned(self, found: Passage, datagram: Datagram, data: bytes, now: float) -> None:
        """The stream has what was here before; ``data``: as it is on the network."""
        source = datagram.source
        talker = found.talker
        if talker is not None:
            port = self.ports[found.port]
            if port.naming.elsewhere(
                talker, found.local, source, datagram.sequence, follow=not self.active or port.circle.paused
            ):
                port.outward.dropped["brought-by-another"] += 1
                return
            port.outward.dropped["returned"] += 1
            if talker.high >= 0:
                port.returned(_on_stream(source), now)
            return
        if found.local == source:
            # Who says the same twice (we do, at the end of a burst) has not come round: that would have had the same number, or another's name.
            for port in self._outs:
                port.outward.dropped["duplicate"] += 1
            return
        readable = is_rtp(data)
        for port in self._outs:
            port.outward.dropped["returned"] += 1
            if readable:
                ssrc = HEADER.unpack_from(data)[4]
                certain = any(each.given_to(port.own_hosts, ssrc, source) for each in port.echoes)
                port.returned(_on_stream(source), now, certain=certain)

    def tick(self, now: float) -> None:
        """Now and then, some times a second."""
        for port in self.ports:
            port.tick(now)


def _flags(data: bytes, first: int, second: int) -> int:
    """What RTP says of a datagram's place in its burst, as flags of a link."""
    flags = Flag.FIRST if second & 0x80 else Flag(0)
    if first & 0x10:  # a header extension, which may be ours
        try:
            talk = Talk.from_extension(Packet.decode(data).extension)
        except MalformedRtp:
            return int(flags)
        for said, meant in _FLAGS:
            if talk.flags & said:
                flags |= meant
    return int(flags)


def _on_stream(source: int) -> str:
    return f"the stream, as source {source:016x}"
