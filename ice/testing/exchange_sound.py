"""AudioSocket as the call manager speaks it, for :mod:`ice.testing.exchange`: it connects, says its UUID, brings sound, and ends the call where it is sent what Asterisk does not bear."""

from __future__ import annotations

from typing import Any, Final, Protocol
from uuid import UUID

from twisted.internet import protocol
from twisted.python.failure import Failure

from ice.telephony import audiosocket
from ice.telephony.audiosocket import Digit, Failed, HungUp, Message, Named, Odd, Reader, Sound

FORMATS: Final = {"slin": 8_000, "slin12": 12_000, "slin16": 16_000, "slin24": 24_000, "slin48": 48_000}
ODD_END: Final = b"\x00" * 7  # the last frame of a call may be short and end within a sample


class Far(Protocol):
    """Whoever hears what comes."""

    def media_heard(self, link: SoundLink, samples: bytes) -> None:
        """20 ms or so."""

    def media_ended(self, link: SoundLink) -> None:
        """The gateway has hung up, closed the connection, or said what ends a call."""


class SoundLink(protocol.Protocol):
    """One connection to a gateway's AudioSocket server."""

    def __init__(self, far: Far, uuid: UUID, rate: int) -> None:
        self.uuid = uuid
        self.rate = rate
        self.frames = 0  #: that came
        self.silent = 0  #: of them
        self.killed = ""  #: why the call was ended here: what Asterisk does not bear
        self.open = False
        self._far = far
        self._reader = Reader()

    def connectionMade(self) -> None:
        self.open = True
        transport: Any = self.transport
        transport.setTcpNoDelay(True)

    def name(self) -> None:
        """Say whose sound this is."""
        self.raw(audiosocket.encode(audiosocket.Kind.UUID, self.uuid.bytes))

    def dataReceived(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            if self.open:
                self._take(message)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        if self.open:
            self.open = False
            self._far.media_ended(self)

    def say(self, samples: bytes) -> None:
        """Bring sound."""
        if self.open and samples:
            self.raw(audiosocket.encode(audiosocket.KINDS[self.rate], samples))

    def press(self, digit: str) -> None:
        """Tell a key."""
        if self.open:
            self.raw(audiosocket.encode(audiosocket.Kind.DIGIT, digit.encode()))

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        transport: Any = self.transport
        transport.write(data)

    def close(self, *, odd: bool = True) -> None:
        """End it as Asterisk does when a channel is hung up: a last frame, odd, then nothing but the end of the connection."""
        if self.open:
            self.open = False
            if odd:
                self.raw(audiosocket.encode(audiosocket.KINDS[self.rate], ODD_END))
            transport: Any = self.transport
            transport.loseConnection()

    def _take(self, message: Message) -> None:
        match message:
            case Sound(rate, samples) if rate == self.rate:
                self.frames += 1
                self.silent += not any(samples)
                self._far.media_heard(self, samples)
            case HungUp():
                self._kill("")
            case Sound(rate, _):
                self._kill(f"sound at {rate} Hz")
            case Named() | Digit() | Failed():
                self._kill(type(message).__name__.lower())
            case Odd(kind, length, _):
                self._kill(f"kind 0x{kind:02x} of {length} bytes")

    def _kill(self, why: str) -> None:
        self.killed = why
        self.open = False
        transport: Any = self.transport
        transport.loseConnection()
        self._far.media_ended(self)
