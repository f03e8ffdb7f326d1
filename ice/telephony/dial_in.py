"""Somebody telephones into a channel: the code at the door, the key to talk, the end.

An engine: time is an argument, what is to be done comes out as values. A caller is asked for the channel's access code (three tries, then the door is locked for his number, and after many wrong codes
of many numbers for everybody); inside he hears the channel, and talks on it like anybody else, by its floor: rank, refusals and the longest talk are :mod:`ice.media.floor`'s, which whoever drives this
asks (:class:`AskFloor`) and whose answers come back (:meth:`Visit.granted`, :meth:`Visit.refused`, :meth:`Visit.stopped`).

**Push to talk** is a key, ``*`` to talk and ``#`` to let go, or the caller's voice (:class:`VoiceKey`), as the channel wants; on a full-duplex channel he is always heard (:attr:`Key.OPEN`). What the voice key opens begins :data:`PREROLL_S` earlier: whoever sends keeps that much, so
that no first syllable is clipped.

Codes are compared in constant time, and neither they nor what was keyed in stands in any ``repr``.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter, OrderedDict
from enum import StrEnum
from typing import Final, TypeAlias

import attrs

from ice.errors import LocalError
from ice.media.dtmf import DIGITS
from ice.media.rtp import clip_alias
from ice.telephony.causes import Cause

TRIES: Final = 3
LOCKED_S: Final = 600.0
EVERYBODY_TRIES: Final = (
    30  # wrong codes of all callers within LOCKED_S: somebody goes through them with many numbers
)
NUMBERS_MAX: Final = 4_096  # of callers whose tries are remembered
CODE_S: Final = 20.0  # to key it in, each time
MIN_CODE, MAX_CODE = 4, 16
TALK_KEY, RELEASE_KEY = "*", "#"

PREROLL_S: Final = 0.2
HANG_S: Final = 0.8  # a pause for breath ends no burst
OPENS: Final = 4  # of the last five frames of 20 ms that are loud enough
ABOVE_NOISE_DB: Final = 12.0
LOUD_DBOV: Final = -45.0  # nothing softer than this opens, however quiet the line
NOISE_RISES_DB: Final = 0.05  # per frame, 2.5 dB a second: noise that stays becomes the floor

WITHHELD: Final = "telephone"  # who calls without a number
_PLACES: Final = re.compile(r"\{(?:number|name|last)\}")


class Prompt(StrEnum):
    """What the caller is told; the name of the file that says it."""

    CODE = "code"  #: please key in the access code
    WRONG = "wrong-code"
    LOCKED = "locked"
    CALLED = "called"  #: whom the channel has called: who calls
    WELCOME = "welcome"
    KEYS = "keys"  #: with which keys one talks
    TALK = "talk"  #: a beep: speak now
    BUSY = "busy"  #: a beep: somebody else talks
    STOPPED = "stopped"  #: a beep: you are not heard any more
    ENDING = "ending"  #: a beep: your time is over soon


class Key(StrEnum):
    """How a caller talks."""

    KEYPAD = "keypad"
    VOICE = "voice"
    OPEN = "open"  #: always: the channel is full duplex


@attrs.frozen
class Play:
    """Let the caller hear a prompt."""

    prompt: Prompt


@attrs.frozen
class Admit:
    """Join the channel: the caller hears it from now on."""


@attrs.frozen
class AskFloor:
    """Ask the channel's floor whether the caller may talk."""


@attrs.frozen
class Talk:
    """The caller is heard on the channel from ``since`` on (what he said before the floor was his included)."""

    since: float


@attrs.frozen
class Silence:
    """The caller's burst is over."""


@attrs.frozen
class End:
    """Hang up."""

    cause: Cause


Action: TypeAlias = Play | Admit | AskFloor | Talk | Silence | End


@attrs.frozen
class DialIn:
    """A number that leads into a channel.

    ``number`` as the call manager says it; ``channel`` the stream's id; ``code`` the access code, empty: none is asked; ``trunk`` the call manager by which calls come and go, empty: any.
    ``key``, ``priority`` (0–255) and ``max_talk_s`` (0: as long as the channel allows) say how callers talk. ``alias`` is what listeners see of them, in which ``{number}``, ``{name}`` and ``{last}`` (the number's last three digits) are
    the caller's; empty: the number.
    """

    number: str
    channel: str
    code: str = attrs.field(default="", repr=False)
    trunk: str = ""
    key: Key = Key.KEYPAD
    priority: int = 0
    max_talk_s: float = 0.0
    alias: str = ""

    def alias_of(self, number: str, name: str = "") -> str:
        """What listeners see of a caller, as far as 16 bytes go; who withholds his number is ``telephone``."""
        values = {
            "{number}": number or WITHHELD,
            "{name}": name or number or WITHHELD,
            "{last}": number[-3:] or "?",
        }
        # All at once: what a stranger calls himself is not looked at again.
        shown = _PLACES.sub(lambda found: values[found[0]], self.alias or "{number}")
        return clip_alias(shown)


class Door:
    """The access code of one channel and who may still try it; ``code`` empty: no code is asked.

    Raises :class:`~ice.errors.LocalError` for a code that is not 4 to 16 digits.
    """

    def __init__(self, code: str) -> None:
        if code and not (MIN_CODE <= len(code) <= MAX_CODE and code.isascii() and code.isdigit()):
            raise LocalError(
                f"an access code has {MIN_CODE} to {MAX_CODE} digits (not shown here); an empty one asks for none"
            )
        self._code = code.encode()
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()  # number -> tries, until when
        self._all: tuple[int, float] = (0, float("-inf"))
        self.counts: Counter[str] = Counter()

    @property
    def open(self) -> bool:
        """Whether no code is asked."""
        return not self._code

    def locked(self, number: str, now: float) -> bool:
        """Whether this caller may not try now. A withheld number is one number."""
        tries, until = self._wrong.get(number, (0, now))
        everybody, all_until = self._all
        return (tries >= TRIES and now < until) or (everybody >= EVERYBODY_TRIES and now < all_until)

    def attempt(self, number: str, keyed: str, now: float) -> bool:
        """Whether the code is right; a wrong one is remembered."""
        if hmac.compare_digest(self._code, keyed.encode()):
            self._wrong.pop(number, None)
            self.counts["right"] += 1
            return True
        self.counts["wrong"] += 1
        tries, until = self._wrong.pop(number, (0, now))
        self._wrong[number] = (1 if now > until else tries + 1, now + LOCKED_S)
        if len(self._wrong) > NUMBERS_MAX:
            self._wrong.popitem(last=False)
        everybody, all_until = self._all
        self._all = (1, now + LOCKED_S) if now > all_until else (everybody + 1, all_until)
        return False


class VoiceKey:
    """Presses and releases by the voice: :meth:`hear` each 20 ms."""

    def __init__(self) -> None:
        self.pressed = False
        self._noise_dbov = -60.0
        self._loud: list[bool] = [False] * 5
        self._heard_at = float("-inf")

    def hear(self, level_dbov: float, now: float) -> bool:
        """The level of a frame; whether the key is down."""
        loud = level_dbov > max(LOUD_DBOV, self._noise_dbov + ABOVE_NOISE_DB)
        self._noise_dbov = (
            min(level_dbov, self._noise_dbov + NOISE_RISES_DB) if level_dbov > -90 else self._noise_dbov
        )
        self._noise_dbov = max(self._noise_dbov, -70.0)
        self._loud = [*self._loud[1:], loud]
        if sum(self._loud) >= OPENS or (self.pressed and loud):
            self.pressed = True
            self._heard_at = now
        elif self.pressed and now - self._heard_at > HANG_S:
            self.pressed = False
        return self.pressed


class Visit:
    """One caller at one channel; see the module docstring. ``number`` may be empty (withheld); ``called``: the channel has called him, so he is asked for nothing."""

    def __init__(self, door: Door, number: str, key: Key, now: float, *, called: bool = False) -> None:
        self._door = door
        self._called = called
        self.number = number
        self.key = key
        self.inside = False
        self.talking = False
        self.over = False
        #: Keys that meant nothing, by reason.
        self.ignored: Counter[str] = Counter()
        self._keyed = ""
        self._tries = 0
        self._until: float | None = now + CODE_S
        self._asked_at: float | None = None  # the floor was asked, for what is said since then
        self._voice = VoiceKey()
        self._shut = False  # the voice went on after a refusal: nothing is asked until it pauses

    def __repr__(self) -> str:
        return f"<visit, {'inside' if self.inside else 'at the door'}>"

    @property
    def asking(self) -> bool:
        """Whether the floor was asked for, and the answer is still wanted."""
        return self._asked_at is not None and not self.over

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do."""
        return None if self.over else self._until

    def begin(self, now: float) -> list[Action]:
        """The call is answered: the first thing that the caller hears."""
        if self._called:
            return [Play(Prompt.CALLED), *self._enter(now)]
        if self._door.locked(self.number, now):
            return self._leave(Prompt.LOCKED)
        return self._enter(now) if self._door.open else [Play(Prompt.CODE)]

    def tick(self, now: float) -> list[Action]:
        """Look at the clock: a code that is not keyed in in time counts as wrong."""
        if self.over or self._until is None or now < self._until:
            return []
        return self._try(now)

    def digit(self, digit: str, now: float) -> list[Action]:
        """The caller pressed a key."""
        if self.over or digit not in DIGITS:
            self.ignored["over" if self.over else "no-key"] += 1
            return []
        if not self.inside:
            return self._at_door(digit, now)
        if self.key is not Key.KEYPAD or digit not in (TALK_KEY, RELEASE_KEY):
            self.ignored["no-meaning"] += 1
            return []
        return self._press(now) if digit == TALK_KEY else self._release()

    def voice(self, level_dbov: float, now: float) -> list[Action]:
        """The level of the caller's next 20 ms (−127 for none)."""
        if not self.inside or self.over or self.key is not Key.VOICE:
            return []
        pressed = self._voice.hear(level_dbov, now)
        if not pressed:
            self._shut = False
            return self._release()
        return [] if self._shut else self._press(now, PREROLL_S)

    # -- the floor's answers

    def granted(self, now: float) -> list[Action]:
        """The floor is the caller's."""
        if self._asked_at is None or self.over:
            return []
        since, self._asked_at = self._asked_at, None
        self.talking = True
        # Who has pressed a key waits for the beep; who just speaks is not interrupted.
        return [Play(Prompt.TALK), Talk(now)] if self.key is Key.KEYPAD else [Talk(since)]

    def refused(self) -> list[Action]:
        """Somebody else has the floor."""
        if self._asked_at is None or self.over:
            return []
        self._asked_at = None
        self._shut = True
        return [Play(Prompt.BUSY)]

    def stopped(self) -> list[Action]:
        """The caller was usurped, or has talked as long as he may."""
        if not self.talking or self.over:
            return []
        self.talking = False
        self._shut = True
        return [Silence(), Play(Prompt.STOPPED)]

    def hold(self) -> list[Action]:
        """The line is on hold: nothing of the caller is heard until :meth:`resume`."""
        return self._release()

    def resume(self, now: float) -> list[Action]:
        """The line is off hold; who had a key pressed presses it again."""
        if self.over or not self.inside or self.talking or self.key is not Key.OPEN:
            return []
        self.talking = True
        return [Talk(now)]

    def hung_up(self) -> list[Action]:
        """The call is over, whoever ended it."""
        self.over = True
        if not self.talking:
            return []
        self.talking = False
        return [Silence()]

    # -- within

    def _at_door(self, digit: str, now: float) -> list[Action]:
        if digit == RELEASE_KEY:
            return self._try(now)
        if digit == TALK_KEY:  # begin anew
            self._keyed = ""
            return []
        if len(self._keyed) <= MAX_CODE:
            self._keyed += digit
        self._until = now + CODE_S
        return []

    def _try(self, now: float) -> list[Action]:
        keyed, self._keyed = self._keyed, ""
        if self._door.locked(self.number, now):  # by others, meanwhile
            return self._leave(Prompt.LOCKED)
        if self._door.attempt(self.number, keyed, now):
            return self._enter(now)
        self._tries += 1
        if self._tries >= TRIES or self._door.locked(self.number, now):
            return self._leave(Prompt.LOCKED)
        self._until = now + CODE_S
        return [Play(Prompt.WRONG), Play(Prompt.CODE)]

    def _enter(self, now: float) -> list[Action]:
        self.inside = True
        self._until = None
        actions: list[Action] = [Play(Prompt.WELCOME), Admit()]
        if self.key is Key.KEYPAD:
            actions.insert(1, Play(Prompt.KEYS))
        if self.key is Key.OPEN:
            self.talking = True
            actions.append(Talk(now))
        return actions

    def _leave(self, prompt: Prompt) -> list[Action]:
        self.over = True
        return [Play(prompt), End(Cause.FORBIDDEN)]

    def _press(self, now: float, earlier_s: float = 0.0) -> list[Action]:
        if self.talking or self._asked_at is not None:
            return []
        self._asked_at = now - earlier_s
        return [AskFloor()]

    def _release(self) -> list[Action]:
        self._asked_at = None
        if not self.talking:
            return []
        self.talking = False
        return [Silence()]
