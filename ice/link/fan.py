"""A fan: the recipients of one stream, made ready once and used for every packet.

It is built when the recipients change, never while a packet passes. This one is pure Python; its compiled twin is
:mod:`ice.net.fanout`, and both pass the same tests.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol


class Recipient(Hashable, Protocol):
    """Whoever takes media frames: a link, later a reflector or a next hop in the mesh."""

    def send_media(self, frame: bytes) -> None:
        """Take one whole MEDIA frame."""


class Fan(Protocol):
    """Hands frames to recipients."""

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Everyone who listens, the talker included where it does."""

    def send(self, frame: bytes, sender: Recipient) -> None:
        """Hand ``frame`` to everyone but ``sender``; one who raises does not hurt the others."""


FanMaker = Callable[[Sequence[Recipient], Callable[[Recipient, Exception], None]], Fan]
"""Makes a fan of recipients, and of what to tell of one who raised."""


class PythonFan:
    """The pure Python fan."""

    __slots__ = ("failed", "recipients")

    def __init__(
        self, recipients: Sequence[Recipient], failed: Callable[[Recipient, Exception], None]
    ) -> None:
        self.recipients = tuple(recipients)
        self.failed = failed

    def send(self, frame: bytes, sender: Recipient) -> None:
        """Hand ``frame`` to everyone but ``sender``."""
        for recipient in self.recipients:
            if recipient is not sender:
                try:
                    recipient.send_media(frame)
                except Exception as error:
                    self.failed(recipient, error)
