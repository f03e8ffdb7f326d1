"""A circle: what we passed on comes back, by another reflector, or by a patch and another reflector.

Nothing goes round for long: bytes that were here before are not passed on (:mod:`ice.reflector.engine`).  But a circle is never meant, others in it may be less careful, and
people hear themselves.  So it is noticed, and the rule pauses and says why.

**What counts.**  Only RTP that comes back, and at least fifty times a second, the rate of one talker.  Each return has a *witness*: the host on the local network
that sent it, or the source under which it stands on the stream.  One witness alone, however busy, is somebody who echoes, and no reason for silence: two are needed.  Except
one that is *certain*: what we send into the group is on the stream under the name that another reflector of that group gives to what *we* say.  Nobody else can do that by chance, so twenty such returns a second
are enough: two reflectors that are equally quick share a talker's fifty.

**Who pauses.**  Whoever was open for a while bears half a second of it, or up to 0.85, each for itself; a rule that has just been opened bears a third.  So of two reflectors that try again at
different times, the second yields and the first goes on.  Pauses double from two seconds to a minute, with a quarter more or less at random, and begin
again at two when the rule was open for long enough.
"""

from collections import Counter, deque
from random import Random
from typing import Final

import attrs

RATE: Final = 50  # returns a second: one talker with packets of 20 ms
CERTAIN_RATE: Final = 20  # certain ones
PATIENT: Final = 25  # returns that an established rule bears: half a second
MOST_PATIENT: Final = 1.7  # times that: each rule has a patience of its own, so that of two seldom both pause
HASTY: Final = 15  # and one that was opened a moment ago: a third
SETTLED_S: Final = 10.0  # "a moment ago"
FEW: Final = 3  # fewer returns of a witness are chance
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 60.0
CALM_S: Final = 60.0  # open for so long (and as long as the last pause): the next pause is the first again


@attrs.frozen
class Paused:
    """Why a rule pauses, in a sentence, and for how long."""

    why: str
    seconds: float


class Circle:
    """Watches one rule."""

    def __init__(self, random: Random, now: float) -> None:
        self._random = random
        self._patience = round(PATIENT * random.uniform(1.0, MOST_PATIENT))
        self._returns: deque[tuple[float, str]] = deque(maxlen=self._patience)
        self._certain: deque[tuple[float, str]] = deque(maxlen=self._patience)
        self._opened_at = float("-inf")  # a rule that has just been loaded has not yielded to anybody
        self._pauses = 0
        self.begun_at = now
        #: Whether the rule pauses now, until when, and why.
        self.paused = False
        self.until = 0.0
        self.why = ""
        self.noticed = 0  #: circles, ever
        #: The last witness, how many returns there were, and when the last was, for people.
        self.witness = ""
        self.returns = 0
        self.returned_at = float("-inf")

    def returned(self, witness: str, now: float, *, certain: bool = False) -> Paused | None:
        """RTP that we had before came back; what to do about it, where something is to be done."""
        self.witness = witness
        self.returns += 1
        self.returned_at = now
        if self.paused:
            return None
        patience = HASTY if now - self._opened_at < SETTLED_S else self._patience
        if certain:
            sure = _latest(self._certain, now, witness, patience, CERTAIN_RATE)
            if sure is not None:
                return self._pause(
                    f"another reflector hears this group: what we send comes back from {_names(sure)}", now
                )
        witnesses = _latest(self._returns, now, witness, patience, RATE)
        if witnesses is None or sum(count >= FEW for count in witnesses.values()) < 2:
            return None
        return self._pause(f"a circle: what we pass on comes back from {_names(witnesses)}", now)

    def resume(self, now: float) -> bool:
        """Whether the pause is over, and the rule open again."""
        if not self.paused or now < self.until:
            return False
        self.paused = False
        self._opened_at = now
        self._returns.clear()
        self._certain.clear()
        return True

    def _pause(self, why: str, now: float) -> Paused:
        last = FIRST_PAUSE_S * 2 ** max(0, self._pauses - 1)
        if now - self._opened_at > max(CALM_S, min(last, LONGEST_PAUSE_S)):
            self._pauses = 0
        seconds = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._pauses, 10))
        seconds *= self._random.uniform(0.75, 1.25)
        self._pauses += 1
        self.noticed += 1
        self.paused, self.until, self.why = True, now + seconds, why
        return Paused(why, seconds)


def _latest(
    returns: deque[tuple[float, str]], now: float, witness: str, patience: int, rate: int
) -> Counter[str] | None:
    """Add a return; the witnesses of the latest, where so many came at that rate.  ``patience``: returns at :data:`RATE`, which stand for a time."""
    returns.append((now, witness))
    seconds = patience / RATE
    count = round(seconds * rate)
    if len(returns) < count or now - returns[-count][0] > seconds:
        return None
    return Counter(name for _, name in list(returns)[-count:])


def _names(witnesses: Counter[str]) -> str:
    return " and ".join(name for name, _ in witnesses.most_common(3))
