"""Streams: the one seam of the suite.

A *stream* is a place, named by a stream id, where datagrams are sent and heard.  A :class:`Network` is a way to
reach streams: a Rallypoint cluster, a multicast LAN, both with failover, memory in a test.  Whoever adds a way adds
one implementation of this interface; whoever adds a daemon writes none of it.

Nothing is acknowledged and nothing is repeated: late audio is lost audio.  Calls and callbacks all happen on the
reactor's thread.
"""

from typing import Protocol

import msgspec


class Datagram(msgspec.Struct, frozen=True, gc=False):  # made once per packet: an eighth of what attrs takes
    """One datagram as it is heard.

    ``source`` (u64) and ``sequence`` (u32, wraps) are its name, given by whoever first sent it and kept on every
    path, so that a listener can count what it missed and a second copy is recognised.
    """

    flags: int  #: :class:`ice.link.frame.Flag`
    source: int
    sequence: int
    payload: bytes


class Receiver(Protocol):
    """What a stream tells whoever joined it."""

    def datagram(self, datagram: Datagram) -> None:
        """A datagram of another source arrived; each arrives at most once."""

    def path(self, up: bool, why: str) -> None:
        """The way to the stream is open (joined, the first syllable will be heard) or closed; ``why`` is a sentence."""


class Stream(Protocol):
    """A joined stream."""

    @property
    def stream_id(self) -> str:
        """The stream's id."""

    @property
    def source(self) -> int:
        """The name under which we talk here (u64), kept over reconnects."""

    @property
    def up(self) -> bool:
        """Whether the path is open now."""

    def send(self, payload: bytes, flags: int = 0) -> bool:
        """Send a datagram under our own name; False (and counted) where there is no path: it is lost, not kept."""

    def leave(self) -> None:
        """Be done with the stream; nothing is heard afterwards.  Leaving twice is harmless."""


class PassingStream(Stream, Protocol):
    """A stream of a satellite (patch, reflector, gateway), which may pass on what others said."""

    def forward(self, datagram: Datagram) -> bool:
        """Send a datagram under the name it has already; False (and counted) where there is no path, or where it was here before.

        So a datagram goes through every stream at most once, however patches and reflectors are linked.
        """


class Network(Protocol):
    """A way to reach streams."""

    def join(self, stream_id: str, receiver: Receiver, *, listen: bool = True, talk: bool = True) -> Stream:
        """Join ``stream_id`` now, or as soon as there is a path, and again whenever the path returns.

        Raises :class:`ice.link.naming.StreamIdError` for an id that no network can carry.
        """
