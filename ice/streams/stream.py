"""One stream as a program holds it: its name, its receiver, and what was heard on it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

import attrs

from ice.errors import LocalError
from ice.link.frame import Flag, media
from ice.link.naming import new_source, stream_key
from ice.link.window import Verdict
from ice.streams.counts import Counts
from ice.streams.heard import Heard
from ice.streams.interface import Datagram, Receiver
from ice.streams.joined import Joined

MAX_NAMES = 1_024  # streams of one process whose names are remembered after leaving
#: Why a datagram was not passed on, in a word for a counter; "" where it was.
NO_PATH: Final = "no-path"
CIRCULAR: Final = "circular"
TOO_LARGE: Final = "too-large"
_U32 = 0xFFFF_FFFF


@attrs.define
class Name:
    """Under what name this process talks on one stream; ``sequence`` is the number of the next datagram."""

    stream_id: str
    key: int
    source: int
    sequence: int = 0

    def number(self) -> int:
        """The next number; they wrap at 2³²."""
        number = self.sequence
        self.sequence = (number + 1) & _U32
        return number


class Names:
    """The names of one process, kept for when a stream is left and joined again."""

    def __init__(self, identity: UUID, random_bits: Callable[[int], int]) -> None:
        self._identity = identity
        self._random_bits = random_bits
        self._names: dict[str, Name] = {}

    def of(self, stream_id: str) -> Name:
        """The name on ``stream_id``, always the same."""
        name = self._names.pop(stream_id, None)
        if name is None:
            name = Name(stream_id, stream_key(stream_id), new_source(self._identity, self._random_bits))
        self._names[stream_id] = name  # the latest is last, the first in line to be forgotten first
        if len(self._names) > MAX_NAMES:
            del self._names[next(iter(self._names))]
        return name


class Carrier(Protocol):
    """What a stream needs of its network."""

    counts: Counts
    satellite: bool

    def put(self, stream: "RallypointStream", frames: Sequence[bytes]) -> Mapping[int, str]:
        """Send whole MEDIA frames, at least one, in as few writes as they fit in; those that were not sent by their index, and why."""

    def seconds(self) -> float:
        """Now."""

    def left(self, stream: "RallypointStream") -> None:
        """The stream is done with."""


class RallypointStream(Joined):
    """A stream joined by :meth:`ice.streams.rallypoint.RallypointNetwork.join`."""

    def __init__(
        self,
        carrier: Carrier,
        name: Name,
        receiver: Receiver,
        *,
        listen: bool,
        talk: bool,
        protected: bool = False,
    ) -> None:
        """``protected``: every datagram that we send here is flagged :attr:`~ice.link.frame.Flag.PROTECTED`."""
        super().__init__(name.stream_id, name.source, receiver, carrier.counts, listen=listen, talk=talk)
        self.key = name.key
        self.protected = protected
        self.heard = Heard()
        self._flags = (
            int(Flag.PROTECTED) if protected else 0
        )  # plain: an enumeration's | is dear, and this is done per packet
        self._carrier = carrier
        self._name = name

    # -- ice.streams.interface.Stream, PassingStream -----------------------------------------------------------------

    def send(self, payload: bytes, flags: int = 0) -> bool:
        """Send a datagram under our own name; False (and counted) where it could not be sent.

        Raises :class:`LocalError` where the stream was joined to listen only.
        """
        self._may_talk()
        if not self.up:
            self._carrier.counts.without_path += 1
            return False
        name = self._name
        frame = media(flags | self._flags, self.key, self.source, name.sequence, payload)
        if self._carrier.put(self, (frame,)):
            return False
        name.number()
        return True

    def forward(self, datagram: Datagram) -> bool:
        """Pass on somebody else's datagram under its own name; False (and counted) where it could not be sent, or was here before.

        Raises :class:`LocalError` without a satellite's certificate.
        """
        return not self.forward_many((datagram,))[0]

    def forward_many(self, datagrams: Sequence[Datagram]) -> Sequence[str]:
        """The same for several, in one write: of each "" or why it was not passed on (:data:`NO_PATH`, :data:`CIRCULAR`, :data:`TOO_LARGE`)."""
        self._may_talk()
        carrier = self._carrier
        if not carrier.satellite:
            raise LocalError(
                "only a satellite passes on others' datagrams: identity.certificate must have the role satellite "
                "(ice pki issue NAME --role satellite)"
            )
        if not self.up:
            carrier.counts.without_path += len(datagrams)
            return [NO_PATH] * len(datagrams)
        fates, frames, places = [""] * len(datagrams), list[bytes](), list[int]()
        ask, now = self.heard.ask, carrier.seconds()
        own, key, more = self.source, self.key, self._flags
        for at, datagram in enumerate(datagrams):
            source, sequence = datagram.source, datagram.sequence
            if source == own or ask(source, sequence, now):
                carrier.counts.circular += 1
                fates[at] = CIRCULAR
            else:
                frames.append(media(datagram.flags | more, key, source, sequence, datagram.payload))
                places.append(at)
        if frames:
            for at, why in carrier.put(self, frames).items():
                fates[places[at]] = why
        return fates

    # -- for the network ---------------------------------------------------------------------------------------------

    def count_unheard(self, verdict: Verdict) -> None:
        """Count a datagram that the window did not let through."""
        counts = self._carrier.counts
        if verdict is Verdict.DUPLICATE:
            counts.duplicates += 1
        elif verdict is Verdict.LATE:
            counts.late += 1
        else:
            counts.jumps += 1

    def _gone(self) -> None:
        self._carrier.left(self)
