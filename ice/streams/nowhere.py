"""A network that leads nowhere and says why: for a group whose mission names ways that this program cannot use.

It can be joined like any other, so that one such group does not keep a whole team from being joined; the path stays closed, with the reason.
"""

from uuid import uuid4

import attrs

from ice.link.naming import checked_stream_id
from ice.net.clock import Clock, DelayedCall
from ice.streams.interface import Datagram, Receiver


@attrs.define
class NowhereCounts:
    """Datagrams that were not sent."""

    without_path: int = 0


class Nowhere:
    """An :class:`ice.streams.interface.Network` whose paths are closed, for the reason ``why``."""

    def __init__(self, clock: Clock, why: str) -> None:
        self.counts = NowhereCounts()
        self._clock = clock
        self._why = why or "there is no way to it"

    def join(
        self, stream_id: str, receiver: Receiver, *, listen: bool = True, talk: bool = True
    ) -> "NowhereStream":
        """See :meth:`ice.streams.interface.Network.join`; the path is closed as soon as the caller has returned."""
        return NowhereStream(self._clock, checked_stream_id(stream_id), receiver, self._why, self.counts)


class NowhereStream:
    """A stream joined by :meth:`Nowhere.join`."""

    up = False

    def __init__(
        self, clock: Clock, stream_id: str, receiver: Receiver, why: str, counts: NowhereCounts
    ) -> None:
        self.stream_id = stream_id
        self.source = uuid4().int & 0xFFFF_FFFF_FFFF_FFFF
        self.why = why
        self._counts = counts
        self._call: DelayedCall = clock.callLater(0, receiver.path, False, why)

    def send(self, payload: bytes, flags: int = 0) -> bool:
        """See :meth:`ice.streams.interface.Stream.send`: it is lost, and counted."""
        self._counts.without_path += 1
        return False

    def forward(self, datagram: Datagram) -> bool:
        """See :meth:`ice.streams.interface.PassingStream.forward`: it is lost, and counted."""
        return self.send(datagram.payload)

    def leave(self) -> None:
        """See :meth:`ice.streams.interface.Stream.leave`."""
        if self._call.active():
            self._call.cancel()
