"""One call as the call manager has it: its channel, its sound's channel, its bridge, and to whom it is handed. Data of :mod:`ice.telephony.asterisk_engine`."""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum
from typing import Final
from uuid import UUID

import attrs

from ice.telephony.asterisk_names import NOBODY, Memo
from ice.telephony.call import Direction

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

    def memo(self, handed: str = "") -> Memo:
        """The note for its channel."""
        return Memo(
            self.id, self.direction, self.number, self.dialled, self.user, self.answered_unix_s, handed
        )


@attrs.frozen
class Pair:
    """A call that was handed over: two channels in a bridge that only wait for each other's end."""

    line: str
    target: str
    bridge: str


@attrs.define
class Debris:
    """A channel or bridge that is to go, until the call manager has said that it is gone."""

    bridge: bool
    q850: int
    due: float
    tries: int = 1


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
