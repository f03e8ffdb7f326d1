"""``ice bandwidth --measure``: talk for some seconds over a real link, and compare what was on the wire with what was planned.

Two links to the Rallypoint of the configuration: one talks, the other listens, on a stream of their own. What passes on either is captured where
we may capture, else counted by the kernel (:mod:`ice.planning.wire`). With a multicast address the same is said there too, or there alone where there is
no configuration: a team without any server has none.

*Planned* is what the codec's bit rate gives. *As spoken* is the same reckoning with the packets that the codec really made: Opus varies the size of its
packets, so only this may be held against the wire.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import click

from ice.cli.bandwidth_output import columns, figures
from ice.cli.channels import media_of
from ice.cli.display import plural
from ice.cli.loop import Stop, first, run, sleep
from ice.cli.mouth import Mouth, file_pieces, frame_samples_of, sender_of
from ice.cli.speech import SPEECH
from ice.config.load import load, load_if_any
from ice.errors import LocalError
from ice.media import wav
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.net.addresses import Address, parse_address
from ice.planning.bandwidth import (
    Carrier,
    Rate,
    Seal,
    Voice,
    acknowledgements,
    carried,
    keeping,
    stream_rate,
)
from ice.planning.wire import Capture, Compared, Seen, TcpCounts, connections
from ice.security.traffic import Cipher, Sealer, derive, new_key_hex
from ice.streams.connect import network_of
from ice.streams.interface import Datagram

SETTLE_S: Final = 0.3  # before: greetings are over; after: the last packet and its acknowledgement have come
TIMEOUT_S: Final = 10.0
READ_EVERY_S: Final = 0.02  # of a capture: its buffer holds a busy second
BITS_S: Final = {"pcmu": 64_000, "pcma": 64_000, "l16": 768_000}  # others say theirs in the configuration
INTERRUPTED: Final = 130


def measure_command(
    config: Path | None,
    *,
    seconds: float,
    stream: str | None,
    seal: Seal,
    multicast: str | None,
    interface: str,
    framing_ms: int | None,
    as_json: bool,
    verbose: int,
) -> int:
    """Measure, print, and give the exit status: 0 when what was sent was heard."""
    group = None if multicast is None else parse_address(multicast)
    loaded = load(config) if group is None else load_if_any(config)
    media = media_of(loaded)
    if framing_ms is not None:
        media = media.model_copy(update={"framing_ms": framing_ms})

    async def main(reactor: Any, stop: Stop) -> int:
        trial = Trial(reactor, stop, media, seal, seconds)
        reports = []
        if loaded is not None:
            reports.append(await trial.link(loaded, stream or f"bandwidth-{os.urandom(6).hex()}"))
        if group is not None and not stop.asked:
            reports.append(await trial.multicast(group, interface))
        if stop.asked:
            return INTERRUPTED
        if as_json:
            click.echo(json.dumps({"measured": [report.jsonable() for report in reports]}, indent=2))
        else:
            for report in reports:
                report.show()
        return 0 if all(report.heard for report in reports) else 1

    return run(main, verbosity=verbose)


@attrs.frozen
class Report:
    """What one trial found: ``rows`` as planned and ``spoken`` as the packets really were, in the same order."""

    title: str
    how: str
    seconds: float
    sent: int
    heard: int
    mean_octets: float
    rows: tuple[Compared, ...]
    spoken: tuple[Compared, ...]
    capture_dropped: int = 0

    def jsonable(self) -> dict[str, Any]:
        """For machines."""
        return {
            "title": self.title, "how": self.how, "seconds": round(self.seconds, 3), "sent": self.sent,
            "heard": self.heard, "mean_packet": round(self.mean_octets, 2), "capture_dropped": self.capture_dropped,
            "rows": [
                {
                    "what": row.what, "planned": figures(row.planned), "as_spoken": figures(spoken.planned),
                    "measured": figures(row.measured), "off_plan": round(row.difference, 4),
                    "off_as_spoken": round(spoken.difference, 4),
                }
                for row, spoken in zip(self.rows, self.spoken, strict=True)
            ],
        }  # fmt: skip

    def show(self) -> None:
        """For people."""
        click.echo(f"{self.title}, {self.seconds:.1f} s, kbit/s ({self.how}):\n")
        lines = [
            (
                row.what, f"{row.planned.kbits_per_s:.1f}", f"{spoken.planned.kbits_per_s:.1f}",
                f"{row.measured.kbits_per_s:.1f}", f"{spoken.difference:+.1%}", f"{row.measured.packets_per_s:.1f}",
            )
            for row, spoken in zip(self.rows, self.spoken, strict=True)
        ]  # fmt: skip
        columns("", ">planned", ">as spoken", ">measured", ">off by", ">packets/s", rows=lines)
        click.echo(
            f"\n{plural(self.sent, 'packet')} sent, {self.heard:,} heard; {self.mean_octets:.1f} bytes each, sealed, before any carrier.\n"
        )
        if self.capture_dropped:
            click.echo(
                f"The kernel could not give us {plural(self.capture_dropped, 'frame')}: the machine is too busy to capture.\n"
            )


class Trial:
    """One burst of a person's speech, as the configuration wants it encoded, over one way after another."""

    def __init__(self, reactor: Any, stop: Stop, media: Any, seal: Seal, seconds: float) -> None:
        self._reactor = reactor
        self._stop = stop
        self._media = media
        self._seal = seal
        self._seconds = seconds
        bitrate = BITS_S.get(media.codec, media.bitrate)
        #: As the bit rate plans it; our end of a burst and header extensions are not in it.
        self.voice = Voice.at(bitrate, media.framing_ms)

    async def link(self, loaded: Any, stream_id: str) -> Report:
        """Over the Rallypoint of the configuration, to ourselves."""
        talker, listener = (
            network_of(loaded, self._reactor, homes=1),
            network_of(loaded, self._reactor, homes=1),
        )
        mouth, ear = _Counted(), _Counted()
        with contextlib.ExitStack() as stack:
            try:
                talker.start()
                said = talker.join(stream_id, mouth)
                out = stack.enter_context(_Link(await self._opened(mouth, talker)))
                listener.start()
                listener.join(stream_id, ear, talk=False)
                back = stack.enter_context(_Link(await self._opened(ear, listener), known=out.port))
                await self._pause(SETTLE_S)
                before = out.seen(), back.seen()
                spoken, seconds = await self._say(_Sealing(said, self._seal, stream_id), (out, back))
                after = out.seen(), back.seen()
                stack.close()
            finally:
                await talker.stop()
                await listener.stop()
        sent, heard = (late - early for late, early in zip(after, before, strict=True))
        ipv6 = out.ipv6
        beside = keeping(ipv6=ipv6)

        def rows(voice: Rate) -> tuple[Compared, ...]:
            acks = acknowledgements(voice, ipv6=ipv6) + beside
            return (
                Compared("talker's link, out", voice + beside, sent.out(seconds)),
                Compared("talker's link, back", acks, sent.back(seconds)),
                Compared("listener's link, in", voice + beside, heard.back(seconds)),
                Compared("listener's link, back", acks, heard.out(seconds)),
            )

        return self._report(
            f"Rallypoint {talker_address(out)}",
            (out, back),
            (spoken, seconds, ear.count),
            rows(stream_rate(self.voice, self._seal, Carrier.RALLYPOINT, ipv6=ipv6)),
            rows(_as_spoken(spoken, seconds, Carrier.RALLYPOINT, ipv6=ipv6)),
        )

    async def multicast(self, group: Address, interface: str) -> Report:
        """To a multicast group, with a listener of our own on it."""
        with _Group(group, interface) as place:
            await self._pause(SETTLE_S)
            spoken, seconds = await self._say(_Sealing(place, self._seal, str(group)), (place,))
            seen = place.seen()
        voice = stream_rate(self.voice, self._seal, Carrier.MULTICAST, ipv6=place.ipv6)
        spoken_rate = _as_spoken(spoken, seconds, Carrier.MULTICAST, ipv6=place.ipv6)
        measured = seen.out(seconds)
        return self._report(
            f"multicast {group}",
            (place,),
            (spoken, seconds, place.heard),
            (Compared("on the LAN", voice, measured),),
            (Compared("on the LAN", spoken_rate, measured),),
        )

    def _report(
        self,
        place: str,
        watched: Sequence[_Link | _Group],
        said: tuple[list[int], float, int],
        rows: tuple[Compared, ...],
        spoken: tuple[Compared, ...],
    ) -> Report:
        """What was planned beside what was seen; ``said``: the sizes of what was said, in how many seconds, and how much of it was heard."""
        sizes, seconds, heard = said
        return Report(
            title=f"{place}, {self._words()}",
            how=watched[0].how,
            seconds=seconds,
            sent=len(sizes),
            heard=heard,
            mean_octets=sum(sizes) / max(1, len(sizes)),
            rows=rows,
            spoken=spoken,
            capture_dropped=sum(each.dropped for each in watched),
        )

    async def _say(self, sealing: Any, watched: tuple[Any, ...]) -> tuple[list[int], float]:
        mouth = Mouth(self._reactor, sealing, sender_of(self._media, alias=""), frame_samples_of(self._media))

        def watch() -> None:
            for each in watched:
                each.read()

        from twisted.internet.task import LoopingCall

        loop = LoopingCall(watch)
        loop.clock = self._reactor
        loop.start(READ_EVERY_S, now=False)
        began = self._reactor.seconds()
        try:
            await mouth.say(self._pieces(mouth.frame_samples), self._stop)
            seconds = self._reactor.seconds() - began
            await self._pause(SETTLE_S)
        finally:
            loop.stop()
        return sealing.sizes, max(seconds, 1e-3)

    def _pieces(self, size: int) -> Iterator[Pcm]:
        speech = wav.read(SPEECH, max_seconds=25.0)
        times = math.ceil(self._seconds * SAMPLE_RATE / len(speech))
        return itertools.islice(file_pieces(speech, size, times), round(self._seconds * SAMPLE_RATE / size))

    async def _pause(self, seconds: float) -> None:
        await first(sleep(self._reactor, seconds), self._stop.wait())

    async def _opened(self, receiver: _Counted, network: Any) -> int:
        """Wait for the path; the port of the Rallypoint that it leads to."""
        give_up = self._reactor.seconds() + TIMEOUT_S
        while not receiver.up and not self._stop.asked:
            if self._reactor.seconds() > give_up:
                raise LocalError(
                    f"not connected within {TIMEOUT_S:g} s: {network.why or 'no Rallypoint has answered'}"
                )
            await self._pause(0.02)
        if self._stop.asked:
            raise KeyboardInterrupt
        return int(network.address.port)

    def _words(self) -> str:
        media = self._media
        rate = f" {media.bitrate / 1000:g} kbit/s" if media.codec not in BITS_S else ""
        return f"{media.codec}{rate}, {media.framing_ms} ms, {self._seal}"


def talker_address(link: _Link) -> str:
    """Where the link leads, for people."""
    return str(Address(link.far[0], link.far[1]))


def _as_spoken(sizes: list[int], seconds: float, carrier: Carrier, *, ipv6: bool) -> Rate:
    return Rate(len(sizes) / seconds, sum(carried(size, carrier, ipv6=ipv6) for size in sizes) / seconds)


class _Counted:
    """A receiver that counts."""

    def __init__(self) -> None:
        self.up = False
        self.count = 0

    def datagram(self, datagram: Datagram) -> None:
        self.count += 1

    def path(self, up: bool, why: str) -> None:
        self.up = up


class _Sealing:
    """A stream for a :class:`~ice.cli.voice.Mouth` that seals and notes the sizes that are sent."""

    source = 0

    def __init__(self, stream: Any, seal: Seal, stream_id: str) -> None:
        self._stream = stream
        self.sizes: list[int] = []
        self._seal: Callable[[bytes], bytes] = bytes
        if seal is not Seal.CLEAR:
            sealer = Sealer(derive(new_key_hex()), Cipher(seal), stream_id)
            self._seal = lambda payload: sealer.seal(payload, time.time())

    def send(self, payload: bytes, flags: int = 0) -> bool:
        sealed = self._seal(payload)
        done = bool(self._stream.send(sealed, flags))
        if done:
            self.sizes.append(len(sealed))
        return done


class _Link:
    """One of our TCP connections as it is watched: captured where we may, else counted."""

    def __init__(self, port: int, *, known: int = 0) -> None:
        found = [each for each in connections(frozenset((port,))) if each.getsockname()[1] != known]
        for extra in found[1:]:
            extra.close()
        if not found:
            raise LocalError(
                "our own connection to the Rallypoint was not found among this process's sockets (/proc)"
            )
        self._socket = found[0]
        self.port = int(self._socket.getsockname()[1])
        self.far = self._socket.getpeername()[:2]
        self.ipv6 = TcpCounts.of(self._socket).ipv6
        self._capture: Capture | None = None
        with contextlib.suppress(LocalError):
            self._capture = Capture(self.port)
        #: How it is known, for people.
        self.how = "captured" if self._capture is not None else "counted by the kernel; capturing needs root"
        self.dropped = 0

    def __enter__(self) -> _Link:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        if self._capture is not None:
            self._capture.close()
            self.dropped = self._capture.dropped

    def read(self) -> None:
        if self._capture is not None:
            self._capture.read()

    def seen(self) -> Seen:
        return self._capture.read() if self._capture is not None else TcpCounts.of(self._socket).seen


class _Group:
    """A multicast group to talk to and hear, watched."""

    def __init__(self, group: Address, interface: str) -> None:
        self._group = (group.host, group.port)
        try:
            kind, packed = _packed(group.host)
        except OSError:
            raise LocalError(
                f"{group}: --multicast wants an address in figures, like 239.1.2.3:5000"
            ) from None
        self.ipv6 = kind == socket.AF_INET6
        try:
            index = socket.if_nametoindex(interface) if interface else 0
        except OSError:
            there = ", ".join(name for _, name in socket.if_nameindex())
            raise LocalError(f"there is no interface {interface!r}; there are {there}") from None
        self._out = socket.socket(kind, socket.SOCK_DGRAM)
        self._in = socket.socket(kind, socket.SOCK_DGRAM)
        try:
            self._in.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._in.setblocking(False)
            self._in.bind(self._group)
            if self.ipv6:
                self._out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                self._in.setsockopt(
                    socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("=I", index)
                )
            else:
                self._out.setsockopt(
                    socket.IPPROTO_IP,
                    socket.IP_MULTICAST_IF,
                    struct.pack("=4s4si", bytes(4), bytes(4), index),
                )
                self._in.setsockopt(
                    socket.IPPROTO_IP,
                    socket.IP_ADD_MEMBERSHIP,
                    struct.pack("=4s4si", packed, bytes(4), index),
                )
        except OSError as error:
            self._out.close()
            self._in.close()
            raise LocalError(
                f"{group} cannot be joined{' on ' + interface if interface else ''}: {error.strerror}"
            ) from None
        self.heard = self._octets = self.dropped = 0
        self._capture: Capture | None = None
        with contextlib.suppress(LocalError):
            self._capture = Capture(group.port, udp_to=packed)
        self.how = (
            "captured"
            if self._capture is not None
            else "counted at a listener's socket; capturing needs root"
        )

    def __enter__(self) -> _Group:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()
        self._in.close()
        if self._capture is not None:
            self._capture.close()
            self.dropped = self._capture.dropped

    def send(self, payload: bytes, flags: int) -> bool:
        try:
            self._out.sendto(payload, self._group)
        except OSError:
            return False
        return True

    def read(self) -> None:
        if self._capture is not None:
            self._capture.read()
        with contextlib.suppress(BlockingIOError):
            while data := self._in.recv(65_535):
                self.heard += 1
                self._octets += carried(len(data), Carrier.MULTICAST, ipv6=self.ipv6)

    def seen(self) -> Seen:
        self.read()
        return self._capture.read() if self._capture is not None else Seen(self.heard, self._octets)


def _packed(host: str) -> tuple[socket.AddressFamily, bytes]:
    if ":" in host:
        return socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host)
    return socket.AF_INET, socket.inet_pton(socket.AF_INET, host)
