"""Streams whose payloads are sealed with a traffic key, over any way to reach streams.

A :class:`SealedNetwork` stands outermost, over Rallypoints, multicast or both: below it there is only noise, so that what
compares packets there (duplicates of two paths, our own echo) compares what is really on the wire.  Flags, sources and
sequences are not sealed and go through as they are; receivers see clear payloads, and of what cannot be opened they see nothing: it
is counted by reason, and the first of each reason is one line in the log.

**Passing on.**  A satellite that opened a datagram on one stream and passes it on to another seals it anew, with the key of that
stream and under its own start id; only the datagram's name (source, sequence) goes through unchanged, and by the name
it goes through every stream once.  Handing on the old ciphertext is not possible in general (another key, another stream in the tag's
additional data), and doing so where it is would make replays of our own.  Who wants to pass on ciphertext untouched, like a
reflector, joins the network below this one.

**Clear groups** (no keyring) are the stream of the network below, untouched.  A sealed packet on a clear group cannot be told
from noise; whoever reads packets there refuses it as no RTP.  A clear packet on a sealed group is refused as ``clear``.

What was heard stays heard while a stream is left and joined again, so that leaving opens no door to replays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, cast

import attrs
from twisted.logger import Logger

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.security.keyring import Keyring, KeyringOpener, KeyringSealer
from ice.security.replay import AHEAD_S
from ice.security.traffic import Refused, plausible_packet
from ice.streams.interface import Datagram, Network, PassingStream, Receiver, Stream

MAX_KEPT: Final = 1_024  # streams that were left and whose windows are kept
CLEAR: Final = "none"

_ADVICE: Final[Mapping[Refused, str]] = {
    Refused.TAG: "somebody has another key, or packets are changed or forged on their way",
    Refused.PADDING: "somebody has another key",
    Refused.IMPLAUSIBLE: "somebody has another key",
    Refused.REPLAY: "packets come twice, or somebody plays back what was said",
    Refused.LATE: "packets come very late, or somebody plays back what was said",
    Refused.OLD: "somebody plays back a recording, or a clock is wrong: compare the sender's with ours",
    Refused.FUTURE: "a clock is wrong: compare the sender's with ours",
    Refused.STARTS: "more senders have begun within a day than are remembered: is one being restarted all the time?",
    Refused.OLD_KEY: "somebody has missed the change of keys and needs the new mission",
    Refused.MISMATCH: "somebody has this group with the other cipher and needs the same mission",
    Refused.CLEAR: "somebody has this group without encryption and needs the same mission",
}


def advice(reason: Refused) -> str:
    """What it means that packets are refused for this reason, and what to do, in a sentence without a beginning."""
    return _ADVICE.get(reason, "it is no packet of this group")


@attrs.frozen
class Sealing:
    """How a stream is sealed, for people and pages."""

    cipher: str  #: ``aes-256-gcm``, ``aes-256-cbc``, or ``none`` for a clear group
    authenticated: bool  #: whether what is heard is known to come, unchanged, from somebody with the key
    sealed: int = 0  #: packets
    opened: int = 0  #: packets
    refused: Mapping[str, int] = attrs.field(
        factory=dict
    )  #: packets, by :class:`~ice.security.traffic.Refused`

    @property
    def words(self) -> str:
        """In a few words: ``aes-256-cbc, unauthenticated``."""
        if self.cipher == CLEAR:
            return "not encrypted"
        return f"{self.cipher}, {'authenticated' if self.authenticated else 'unauthenticated'}"


class _Seal:
    """What is kept of one stream: both directions, and what was counted."""

    __slots__ = ("opener", "sealed", "sealer")

    def __init__(self, sealer: KeyringSealer, opener: KeyringOpener) -> None:
        self.sealer = sealer
        self.opener = opener
        self.sealed = 0

    def take(self, keyring: Keyring) -> None:
        self.sealer.keyring = keyring
        self.opener.keyring = keyring

    def status(self) -> Sealing:
        opener = self.opener
        refused = {str(reason): count for reason, count in sorted(opener.refused.items())}
        return Sealing(str(opener.keyring.cipher), opener.authenticated, self.sealed, opener.opened, refused)


class _Ear:
    """Opens what comes, and hands it to the receiver."""

    __slots__ = ("_log", "_receiver", "_seal", "_stream_id", "_told", "_wall")

    def __init__(
        self, stream_id: str, receiver: Receiver, seal: _Seal, wall: Callable[[], float], log: Logger
    ) -> None:
        self._stream_id = stream_id
        self._receiver = receiver
        self._seal = seal
        self._wall = wall
        self._log = log
        self._told: set[Refused] = set()

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        payload = self._seal.opener.open(datagram.payload, self._wall())
        if not isinstance(payload, Refused):
            self._receiver.datagram(Datagram(datagram.flags, datagram.source, datagram.sequence, payload))
        elif payload not in self._told:
            self._told.add(payload)
            self._log.warn(
                "Stream {stream}: a packet was refused ({reason}): {advice}; more of these are counted only",
                stream=self._stream_id,
                reason=str(payload),
                advice=advice(payload),
            )

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self._receiver.path(up, why)


class SealedStream:
    """A stream joined by :meth:`SealedNetwork.join` whose group has a key."""

    def __init__(
        self, inner: Stream, seal: _Seal, wall: Callable[[], float], left: Callable[[SealedStream], None]
    ) -> None:
        self._inner = inner
        self._seal = seal
        self._wall = wall
        self._left: Callable[[SealedStream], None] | None = left

    def __repr__(self) -> str:
        return f"<sealed {self._inner!r}>"

    @property
    def inner(self) -> Stream:
        """The stream below, where there is only noise."""
        return self._inner

    @property
    def stream_id(self) -> str:
        """See :class:`ice.streams.interface.Stream`."""
        return self._inner.stream_id

    @property
    def source(self) -> int:
        """See :class:`ice.streams.interface.Stream`."""
        return self._inner.source

    @property
    def up(self) -> bool:
        """See :class:`ice.streams.interface.Stream`."""
        return self._inner.up

    def send(self, payload: bytes, flags: int = 0) -> bool:
        """See :meth:`ice.streams.interface.Stream.send`; on the wire the payload is up to 32 bytes longer.

        Raises :class:`LocalError` for what would be longer than any datagram.
        """
        sealed = self._seal.sealer.seal(payload, self._wall(), first=bool(flags & Flag.FIRST))
        return self._count(self._inner.send(sealed, flags))

    def forward(self, datagram: Datagram) -> bool:
        """See :meth:`ice.streams.interface.PassingStream.forward`; ``datagram`` is clear, and is sealed under our own start id.

        Raises :class:`LocalError` where the network below passes nothing on.
        """
        if not hasattr(self._inner, "forward"):
            raise LocalError(f"stream {self.stream_id!r} is on a network that passes on nothing of others")
        first = bool(datagram.flags & Flag.FIRST)
        sealed = self._seal.sealer.seal(datagram.payload, self._wall(), first=first)
        inner = cast(PassingStream, self._inner)
        return self._count(
            inner.forward(Datagram(datagram.flags, datagram.source, datagram.sequence, sealed))
        )

    def _count(self, sent: bool) -> bool:
        self._seal.sealed += sent
        return sent

    def leave(self) -> None:
        """See :meth:`ice.streams.interface.Stream.leave`."""
        left, self._left = self._left, None
        if left is not None:
            left(self)
            self._inner.leave()

    def status(self) -> Sealing:
        """How it is sealed, and what was sealed, opened and refused."""
        return self._seal.status()

    def renew(self, keyring: Keyring) -> None:
        """Use another keyring from now on; under a key that stays nothing that was heard is forgotten."""
        self._seal.take(keyring)


class SealedNetwork:
    """An :class:`ice.streams.interface.Network` over ``inner`` that seals what is sent and opens what is heard.

    ``keyring_of`` gives the keyring of a stream id, None for a clear group; ``wall`` is the time of day in Unix seconds;
    ``plausible``, ``accept_recordings`` and ``clock_ahead_s``: see :class:`ice.security.traffic.Opener`.
    """

    _log = Logger()

    def __init__(
        self,
        inner: Network,
        keyring_of: Callable[[str], Keyring | None],
        wall: Callable[[], float],
        plausible: Callable[[bytes], bool] = plausible_packet,
        *,
        accept_recordings: bool = False,
        clock_ahead_s: float = AHEAD_S,
    ) -> None:
        self.inner = inner
        self._keyring_of = keyring_of
        self._wall = wall
        self._plausible = plausible
        self._accept_recordings = accept_recordings
        self._clock_ahead_s = clock_ahead_s
        self._streams: list[SealedStream] = []
        self._kept: dict[str, _Seal] = {}  # of streams that were left, the latest last

    def join(self, stream_id: str, receiver: Receiver, *, listen: bool = True, talk: bool = True) -> Stream:
        """See :meth:`ice.streams.interface.Network.join`; a :class:`SealedStream` where the group has a key."""
        keyring = self._keyring_of(stream_id)
        if keyring is None:
            return self.inner.join(stream_id, receiver, listen=listen, talk=talk)
        seal = self._kept.pop(stream_id, None)
        if seal is None:
            seal = self._new_seal(stream_id, keyring)
        else:
            seal.take(keyring)
        ear = _Ear(stream_id, receiver, seal, self._wall, self._log)
        inner = self.inner.join(stream_id, ear, listen=listen, talk=talk)
        stream = SealedStream(inner, seal, self._wall, self._left)
        self._streams.append(stream)
        return stream

    def _new_seal(self, stream_id: str, keyring: Keyring) -> _Seal:
        opener = KeyringOpener(
            keyring,
            stream_id,
            plausible=self._plausible,
            accept_recordings=self._accept_recordings,
            clock_ahead_s=self._clock_ahead_s,
        )
        return _Seal(KeyringSealer(keyring, stream_id), opener)

    def _left(self, stream: SealedStream) -> None:
        self._streams.remove(stream)
        self._kept[stream.stream_id] = stream._seal
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]

    def renew(self) -> None:
        """Ask ``keyring_of`` again for every sealed stream: a mission has a new key.

        A group that is clear now, or was, has to be left and joined again: raises :class:`LocalError` for the first such, after all others
        have their keys.
        """
        clear = ""
        for stream in self._streams:
            keyring = self._keyring_of(stream.stream_id)
            if keyring is None:
                clear = clear or stream.stream_id
            else:
                stream.renew(keyring)
        if clear:
            raise LocalError(f"stream {clear!r} is to be clear from now on: leave it and join it again")

    def status(self, stream_id: str) -> Sealing:
        """How a stream is sealed; of a clear one, or one that is not joined, nothing is counted here."""
        for stream in self._streams:
            if stream.stream_id == stream_id:
                return stream.status()
        keyring = self._keyring_of(stream_id)
        if keyring is None:
            return Sealing(CLEAR, authenticated=False)
        seal = self._kept.get(stream_id) or self._new_seal(stream_id, keyring)
        return seal.status()
