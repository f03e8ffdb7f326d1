"""One call as the call manager has it: its channel, its sound's channel, its bridge, and to whom it is handed; what is to be done about it, and what is to go.

Data of :mod:`ice.telephony.asterisk_calls`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, TypeAlias
from uuid import UUID

import attrs

from ice.telephony import ari
from ice.telephony.asterisk_names import NOBODY, Memo
from ice.telephony.call import Direction
from ice.telephony.trunk import Report

MEDIA_WITHIN_S: Final = 5.0  # Asterisk connects in 2 ms, or gives up after 2 s
REMOVE_AGAIN_S: Final = 0.5  # doubled at each try, up to
REMOVE_SLOWEST_S: Final = 8.0
REMOVE_TRIES: Final = 12  # more than a minute
STATUSES: Final = (200, 204, 400, 401, 403, 404, 409, 412, 422, 500, 501, 503)  # that ARI documents
SAME_KEY_S: Final = 1.0  # the sound's connection and the events tell the same key within milliseconds


class Step(Enum):
    """What a request is for."""

    BRIDGE = "bridge"
    MEDIA = "media"
    LINE = "line"
    TARGET = "target"
    JOIN = "join"
    DIAL = "dial"
    ANSWER = "answer"
    REMOVE = "remove"
    SAY = "say"  # keys, music, ringing, notes: nothing hangs on it
    CHANNELS = "channels"
    BRIDGES = "bridges"
    MEMO = "memo"


@attrs.frozen
class Tag:
    """Marks a request, so that its answer is known; ``id`` is the channel or bridge that it is about."""

    step: Step
    call: UUID = NOBODY
    id: str = ""


@attrs.frozen
class Reply:
    """What came of a request: an HTTP status and the body, or no status at all and why."""

    status: int | None
    body: bytes = attrs.field(default=b"", repr=False)
    why: str = ""

    @property
    def good(self) -> bool:
        """It was done."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def kind(self) -> str:
        """The status as one word of few, for counters."""
        if self.status is None:
            return "unanswered"
        return str(self.status) if self.status in STATUSES else f"{self.status // 100}xx"

    def __str__(self) -> str:
        """For people."""
        return f"answered {self.status}" if self.status is not None else self.why or "no answer"


@attrs.define(eq=False)
class Leg:
    """A channel of a call."""

    id: str
    made: bool = False  #: the request for it was answered
    here: bool = False  #: it is in our application's hands
    joining: bool = False  #: the bridge was asked to take it
    joined: bool = False
    dialled: bool = False


@attrs.define(eq=False)
class MediaLeg(Leg):
    """The channel of a call's sound."""

    uuid: UUID = NOBODY


@attrs.define(eq=False)
class Target(Leg):
    """To whom a call is being handed."""

    until: float = 0.0


@attrs.define(eq=False)
class Line:
    """One call."""

    id: UUID
    direction: Direction
    number: str
    leg: Leg
    caller: str = ""
    dialled: str = ""
    user: UUID = NOBODY
    bridge_asked: bool = False
    bridge_up: bool = False
    media: MediaLeg | None = None
    medias: int = 0  #: channels of sound that it has had
    media_at: float | None = None  #: when the next is asked for
    target: Target | None = None
    targets: int = 0
    rang: bool = False
    sounded: bool = False
    accepted: bool = False  #: of an incoming call: we have answered it, or are about to
    answered_unix_s: float = 0.0
    held: bool = False
    far_holds: bool = False
    ending: float | None = None  #: it was hung up; until when its end is waited for
    lost_by: float | None = None  #: nothing is heard of it; when that is its end

    @property
    def answered(self) -> bool:
        """Whether both sides talk."""
        return self.answered_unix_s > 0

    @property
    def outgoing(self) -> bool:
        """Whether we place it."""
        return self.direction is Direction.OUTGOING

    @property
    def dues(self) -> list[float]:
        """When something is to be done about it by the clock."""
        until = self.target.until if self.target is not None else None
        return [due for due in (self.ending, self.lost_by, self.media_at, until) if due is not None]

    def memo(self, handed: str = "") -> Memo:
        """The note for its channel."""
        return Memo(
            self.id, self.direction, self.number, self.dialled, self.user, self.answered_unix_s, handed
        )


@attrs.frozen
class Say:
    """Make this request; its answer comes back with the tag."""

    ask: ari.Ask
    tag: Tag


@attrs.frozen
class Expect:
    """A connection of sound with this UUID is to come within so many seconds."""

    media: UUID
    within_s: float = MEDIA_WITHIN_S


@attrs.frozen
class Close:
    """Close the connection of sound with this UUID, and expect none."""

    media: UUID


Output: TypeAlias = Say | Expect | Close | Report


def reports(outputs: Iterable[Output]) -> list[Report]:
    """What of it is told to the gateway."""
    return [each for each in outputs if not isinstance(each, Say | Expect | Close)]


@attrs.frozen
class Terms:
    """How calls are made at one call manager.

    ``app`` is the Stasis application, ``dial`` the endpoint with ``{number}``, ``format`` that of the sound, ``host`` where Asterisk reaches our AudioSocket server (host:port), ``ring_s`` how long the
    gateway lets a number ring: Asterisk does a little longer.
    """

    app: str
    dial: str
    format: str
    host: str
    ring_s: float = 60.0


@attrs.frozen
class Pair:
    """A call that was handed over: two channels in a bridge that only wait for each other's end."""

    line: str
    target: str
    bridge: str


@attrs.define
class _Piece:
    ask: ari.Ask
    due: float
    tries: int = 1


class Debris:
    """Channels and bridges that are to go, until the call manager has said that they are gone: it is asked again and again, for a minute."""

    def __init__(self, say: Callable[[Say], None]) -> None:
        self.given_up = 0
        self._say = say
        self._pieces: dict[str, _Piece] = {}

    def __len__(self) -> int:
        return len(self._pieces)

    def __contains__(self, id: str) -> bool:
        return id in self._pieces

    @property
    def dues(self) -> list[float]:
        """When :meth:`tick` has something to do."""
        return [piece.due for piece in self._pieces.values()]

    def channel(self, id: str, q850: int, now: float) -> None:
        """Have a channel ended."""
        self._remove(id, ari.hang_up(id, q850), now)

    def bridge(self, id: str, now: float) -> None:
        """Have a bridge ended."""
        self._remove(id, ari.end_bridge(id), now)

    def gone(self, id: str) -> None:
        """It is no more, if ever it was."""
        self._pieces.pop(id, None)

    def tick(self, now: float) -> None:
        """Look at the clock."""
        for id, piece in list(self._pieces.items()):
            if now < piece.due:
                continue
            if piece.tries >= REMOVE_TRIES:
                self.given_up += 1
                del self._pieces[id]
                continue
            piece.tries += 1
            piece.due = now + min(REMOVE_SLOWEST_S, REMOVE_AGAIN_S * 2**piece.tries)
            self._say(Say(piece.ask, Tag(Step.REMOVE, NOBODY, id)))

    def _remove(self, id: str, ask: ari.Ask, now: float) -> None:
        self._pieces[id] = _Piece(ask, now + REMOVE_AGAIN_S)
        self._say(Say(ask, Tag(Step.REMOVE, NOBODY, id)))


class Keys:
    """Telephone keys of one line, told in two ways: by the connection of its sound, and by events. Each counts once, whoever is first."""

    def __init__(self) -> None:
        self.doubled: Counter[str] = Counter()  #: dropped, by who was second
        self._heard: deque[tuple[float, str, str]] = deque(maxlen=64)

    def take(self, digit: str, source: str, now: float) -> bool:
        """Whether this one is new."""
        while self._heard and now - self._heard[0][0] > SAME_KEY_S:
            self._heard.popleft()
        for entry in self._heard:
            if entry[1] == digit and entry[2] != source:
                self._heard.remove(entry)
                self.doubled[source] += 1
                return False
        self._heard.append((now, digit, source))
        return True
