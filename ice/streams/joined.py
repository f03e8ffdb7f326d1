"""What every joined stream has, whichever network it is on: a receiver that hears of each change of the path once, and whose mistakes are its own."""

from typing import Protocol

from twisted.logger import Logger

from ice.errors import LocalError
from ice.streams.interface import Datagram, Receiver


class Faults(Protocol):
    """Where a receiver's mistakes are counted."""

    receiver_errors: int  #: the receiver raised an exception


class Joined:
    """The part of a stream that faces its receiver; what faces the network is its heirs'."""

    _log = Logger()

    def __init__(
        self, stream_id: str, source: int, receiver: Receiver, faults: Faults, *, listen: bool, talk: bool
    ) -> None:
        self.stream_id = stream_id
        self.source = source
        self.listen = listen
        self.talk = talk
        #: Whether the path is open now.
        self.up = False
        #: Why the path is as it is, in a sentence.
        self.why = "not tried yet"
        self._receiver = receiver
        self._faults = faults
        self._told: bool | None = None
        self._left = False
        self._failed = False

    def __repr__(self) -> str:
        return f"<stream {self.stream_id!r} {'up' if self.up else 'down'}>"

    def leave(self) -> None:
        """Be done with the stream; nothing is heard afterwards.  Leaving twice is harmless."""
        if not self._left:
            self._left = True
            self.up = False
            self.why = "left"
            self._gone()

    def deliver(self, datagram: Datagram) -> None:
        """Give a datagram to the receiver; what it raises is its own affair."""
        if self._left:
            return
        try:
            self._receiver.datagram(datagram)
        except Exception:
            self._faults.receiver_errors += 1
            if not self._failed:  # once per stream: fifty lines a second help nobody
                self._failed = True
                self._log.failure("The receiver of stream {stream} failed", stream=self.stream_id)

    def path(self, up: bool, why: str) -> None:
        """Tell the receiver of the path, when it changed; the first word may be that it is closed."""
        self.why = why
        self.up = up and not self._left
        if self._left or up is self._told:
            return
        self._told = up
        try:
            self._receiver.path(up, why)
        except Exception:
            self._faults.receiver_errors += 1
            self._log.failure("The receiver of stream {stream} failed", stream=self.stream_id)

    # -- for heirs -----------------------------------------------------------------------------------------------------

    def _gone(self) -> None:
        """The stream has been left: let go of what is behind it."""

    def _may_talk(self) -> None:
        if not self.talk:
            raise LocalError(f"stream {self.stream_id!r} was joined to listen only (talk=False)")
