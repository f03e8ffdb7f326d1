"""The floor: who may talk on a stream, decided by everybody for himself, with the same outcome.

There is no arbiter. Each station hears who talks and how urgently (priority 0–255 and the emergency flag, both in the packets), and one rule orders
all who want to talk, the same at each station, so that they agree without a word about it. An engine: time is an argument, what is to be
done comes out as values. ``ice talk``, patches and the gateway share it.

**Rank.** An emergency stands above everything that is none, whatever the priorities; among emergencies, and among the rest, the higher priority
stands above. Who is of equal rank is told apart, where it must be, by the lower number (*source*; the RTP SSRC, which is the same on every path).

**Half duplex.** :meth:`Floor.request` asks before the first sound:

* nobody talks, or all who do are of lower rank: :class:`Granted`, and those are usurped as soon as they hear us;
* somebody of equal rank talks: :class:`Refused` ``busy``;
* somebody of higher rank talks: :class:`Refused` ``outranked``.

A refusal says by whom, and how long that talker would hold the floor yet if nothing more of him came. While we talk, hearing a higher rank
is :class:`Usurped` ``outranked``: stop. Hearing an equal rank is a collision (both began before they could hear each other): the lower source goes on
at both ends, the other is :class:`Usurped` ``collision``. Since the order is total, the foremost of those who began never yields, and everybody
else has yielded when its first packets have reached them: one goes on, whatever the delays.

Who began earlier plays no part in a collision: two stations cannot know that of each other, and a rule that they judge
differently would leave both silent, or both talking.

**Full duplex.** Nothing is refused, usurped or silenced by rank; the limits of time hold.

**Hearing.** While somebody talks, ourselves included, those of lower rank are silenced here (:class:`Muted` ``outranked``), until he has ended. A talker who
is heard for longer than ``max_rx_s`` is silenced until his burst ends (``too-long``); such a stuck key holds no floor: others may talk.

**Ends.** A talker has ended when his packets say so (at once, without a hang), or when nothing has come from him for ``silence_s``, ``signalled_silence_s``
where his packets are known to mark their ends. Packets of his that come within :data:`STRAGGLERS_S` after the end mark were overtaken by it and begin nothing.

**Order.** What concerns ourselves (:class:`Usurped`, :class:`TimeUp`) comes before what is to be silenced.

**Limits.** ``max_tx_s`` ends our own burst (:class:`TimeUp`), emergencies too, with a :class:`TimeWarning` ``warning_s`` before. 0 is no limit.

Facts: the Engage data model's distributed floor control, ``maxTxSecs``, ``maxRxSecs``, ``stickyTidHangSecs`` and ``RtpProfile``. A stream that carries
a fixed priority because of where it comes from (``priorityTranslation``) is told to :meth:`Floor.heard` with that priority.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final, TypeAlias

import attrs

from ice.errors import LocalError

PRIORITY_MAX: Final = 255
SILENCE_S: Final = 0.5  # inboundProcessorInactivityMs of the original
SIGNALLED_SILENCE_S: Final = 2.0  # signalledInboundProcessorInactivityMs: four times that
STICKY_S: Final = 10.0  # stickyTidHangSecs
WARNING_S: Final = 5.0  # long enough to end a sentence
POLICY_MAX_TX_S: Final = 30.0  # the original's policy, where a group says nothing
STRAGGLERS_S: Final = (
    0.1  # by so much an end mark may overtake the last sound; the next press of a key comes later
)
TALKERS_MAX: Final = 64  # of one stream; more at a time is no conversation but an attack


class Reason(StrEnum):
    """Why somebody may not talk, or is not heard."""

    BUSY = "busy"  #: somebody of equal rank talks
    OUTRANKED = "outranked"  #: somebody of higher rank talks
    COLLISION = "collision"  #: two of equal rank began at once; the other goes on
    TOO_LONG = "too-long"  #: heard for longer than the stream allows


@attrs.frozen
class Claim:
    """Who wants to talk, or does: ``source`` (its RTP SSRC), ``priority`` 0–255, and whether it is an emergency."""

    source: int
    priority: int = 0
    emergency: bool = False

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.priority <= PRIORITY_MAX:
            raise LocalError(f"a talk priority is 0–{PRIORITY_MAX}, not {self.priority}")

    @property
    def rank(self) -> tuple[bool, int]:
        """The order of all who talk: a greater one stands above."""
        return self.emergency, self.priority

    def yields_to(self, other: Claim) -> bool:
        """Whether of these two the other goes on: by rank, and among equals by the lower source."""
        return (other.rank, -other.source) > (self.rank, -self.source)


@attrs.frozen
class Granted:
    """Talk. ``over``: who will be usurped by it; ``until``: when it will be :class:`TimeUp`, never where there is no limit."""

    claim: Claim
    over: tuple[Claim, ...]
    until: float


@attrs.frozen
class Refused:
    """Do not talk: because of ``by``, who would hold the floor for ``remaining_s`` yet if nothing more came from him."""

    reason: Reason
    by: Claim
    remaining_s: float


@attrs.frozen
class Usurped:
    """Stop talking at once: ``by`` goes on, we had talked for ``talked_s``."""

    reason: Reason
    by: Claim
    talked_s: float


@attrs.frozen
class TimeWarning:
    """Our time is over in ``remaining_s``."""

    remaining_s: float


@attrs.frozen
class TimeUp:
    """Stop talking at once: we have talked for ``talked_s``, which is all that is allowed."""

    talked_s: float


@attrs.frozen
class Muted:
    """Play nothing of ``source`` until it is :class:`Unmuted`; ``by`` is who stands above it, none where it is too long."""

    source: int
    reason: Reason
    by: Claim | None = None


@attrs.frozen
class Unmuted:
    """Play ``source`` again when it is heard: it has ended, or who stood above it has."""

    source: int


Decision: TypeAlias = Usurped | TimeWarning | TimeUp | Muted | Unmuted


@attrs.frozen
class Rules:
    """What a stream allows: the keys of a group. Times in seconds; 0 is no limit for ``max_tx_s`` and ``max_rx_s``."""

    full_duplex: bool = False
    max_tx_s: float = 0.0
    warning_s: float = WARNING_S
    max_rx_s: float = 0.0
    silence_s: float = SILENCE_S
    signalled_silence_s: float = SIGNALLED_SILENCE_S
    sticky_s: float = STICKY_S

    def __attrs_post_init__(self) -> None:
        for field in ("max_tx_s", "warning_s", "max_rx_s", "sticky_s"):
            if not getattr(self, field) >= 0:
                raise LocalError(f"{field} {getattr(self, field)} is no time; give seconds, 0 for no limit")
        for field in ("silence_s", "signalled_silence_s"):
            if not getattr(self, field) > 0:
                raise LocalError(f"{field} {getattr(self, field)} is too short; give seconds above 0")


def transmit_limit(group_s: float, policy_s: float = POLICY_MAX_TX_S) -> float:
    """How long a burst may be, seconds: what the group says (``maxTxSecs``), the policy where it says 0; 0 from both is no limit."""
    return group_s if group_s > 0 else max(0.0, policy_s)


@attrs.define
class _Talker:
    """Somebody who is heard."""

    claim: Claim
    began_at: float
    heard_at: float
    transmission: int
    signals: bool = False
    too_long: bool = False


@attrs.frozen
class _Ended:
    """Somebody who was heard."""

    at: float
    transmission: int
    sticky: bool
    marked: bool


@attrs.frozen
class Talking:
    """Who talks now, for people: since when, and the number of the transmission.

    Bursts of one talker that say so (STICKY_TID) and follow each other within ``sticky_s`` are one transmission. It names what belongs
    together; it holds no floor.
    """

    claim: Claim
    since: float
    transmission: int
    muted: bool


class Floor:
    """The floor of one stream as one station sees it; see the module docstring."""

    def __init__(self, rules: Rules | None = None, *, talkers_max: int = TALKERS_MAX) -> None:
        self.rules = rules if rules is not None else Rules()
        #: Talkers that were not taken notice of because too many talked.
        self.overflow = 0
        #: Refusals and orders to stop, by reason.
        self.refused: Counter[Reason] = Counter()
        self.usurped: Counter[Reason] = Counter()
        #: Own bursts that were ended by the limit.
        self.timed_out = 0
        self._talkers_max = talkers_max
        self._talkers: dict[int, _Talker] = {}
        self._ended: dict[int, _Ended] = {}
        self._muted: dict[int, Reason] = {}
        self._own: Claim | None = None
        self._echo: tuple[int, float] | None = None  # what we talked under, and until when it may come back
        self._unsettled_at = float("inf")
        self._began_at = 0.0
        self._warned = False
        self._transmissions = 0

    # -- ourselves ---------------------------------------------------------------------------------------------------

    @property
    def own(self) -> Claim | None:
        """What we talk under, none while we do not."""
        return self._own

    def request(self, claim: Claim, now: float) -> Granted | Refused:
        """Ask to talk. While we do, ask to go on under another claim (an emergency key that is pressed amid a burst): a refusal then ends the burst.

        Whom it silences here is told by the next :meth:`tick`, which is due at once.
        """
        rules = self.rules
        self._unsettled_at = now
        if self._own is None:
            self._began_at, self._warned = now, False
        others = [talker for talker in self._holding(now) if talker.claim.source != claim.source]
        if not rules.full_duplex:
            # Who talks already and rises in rank meets an equal as in a collision; who begins waits for him.
            above = [
                talker
                for talker in others
                if (
                    claim.yields_to(talker.claim)
                    if self._own is not None
                    else talker.claim.rank >= claim.rank
                )
            ]
            if above:
                first = max(above, key=lambda talker: (talker.claim.rank, -talker.claim.source))
                reason = Reason.OUTRANKED if first.claim.rank > claim.rank else Reason.BUSY
                self._stop(now)
                self.refused[reason] += 1
                remaining = max(self._over_at(talker) for talker in above) - now
                return Refused(reason, first.claim, max(0.0, remaining))
        self._own = claim
        until = self._began_at + rules.max_tx_s if rules.max_tx_s else float("inf")
        over = () if rules.full_duplex else tuple(talker.claim for talker in others)
        return Granted(claim, over, until)

    def release(self, now: float) -> tuple[Decision, ...]:
        """We have ended; releasing twice is harmless."""
        self._stop(now)
        return self._settle(now)

    # -- others ------------------------------------------------------------------------------------------------------

    def heard(
        self,
        source: int,
        now: float,
        *,
        priority: int | None = None,
        emergency: bool | None = None,
        first: bool = False,
        signals: bool = False,
        sticky: bool = False,
    ) -> tuple[Decision, ...]:
        """A packet of ``source`` came. ``priority`` and ``emergency``: none where this packet does not say, what was known then holds.

        ``first``: the packet says that it begins a burst. ``signals``: his packets mark their ends. ``sticky``: it has the flag STICKY_TID.
        """
        if self._is_echo(source, now):
            return ()
        self._expire(now)
        talker = self._talkers.get(source)
        if talker is None:
            ended = self._ended.get(source)
            if ended is not None and ended.marked and not first and now - ended.at < STRAGGLERS_S:
                return self._settle(now)
            claim = Claim(source, priority or 0, bool(emergency))
            if not self._room_for(claim):
                self.overflow += 1
                return self._settle(now)
            talker = _Talker(claim, now, now, self._transmission(ended, now, sticky=sticky))
            self._talkers[source] = talker
        else:
            known = talker.claim
            talker.claim = Claim(
                source,
                known.priority if priority is None else priority,
                known.emergency if emergency is None else emergency,
            )
            talker.heard_at = max(talker.heard_at, now)
        talker.signals |= signals
        self._ended[source] = _Ended(now, talker.transmission, sticky, marked=False)
        self._judge_length(talker, now)
        return (*self._contest(talker, now), *self._settle(now))

    def ended(self, source: int, now: float, *, invalidated: bool = False) -> tuple[Decision, ...]:
        """A packet of ``source`` said that it was the last; ``invalidated``: and that the transmission is over (TID_INVALIDATED)."""
        self._expire(now)
        if (talker := self._talkers.pop(source, None)) is not None:
            known = self._ended[source]
            self._ended[source] = _Ended(
                now, talker.transmission, known.sticky and not invalidated, marked=True
            )
        return self._settle(now)

    def tick(self, now: float) -> tuple[Decision, ...]:
        """What time alone has brought about; due at :attr:`deadline`, harmless at any time."""
        self._expire(now)
        decisions: list[Decision] = []
        rules = self.rules
        if self._own is not None and rules.max_tx_s:
            talked = now - self._began_at
            remaining = rules.max_tx_s - talked
            if remaining <= 0:
                self._stop(now)
                self.timed_out += 1
                decisions.append(TimeUp(talked))
            elif not self._warned and now >= self._warning_at:
                self._warned = True
                decisions.append(TimeWarning(remaining))
        return (*decisions, *self._settle(now))

    @property
    def deadline(self) -> float:
        """When :meth:`tick` has something to do; never while nothing goes on."""
        times = [self._over_at(talker) for talker in self._talkers.values()]
        if self.rules.max_rx_s:
            times += [
                talker.began_at + self.rules.max_rx_s
                for talker in self._talkers.values()
                if not talker.too_long
            ]
        times.append(self._unsettled_at)
        if self._own is not None and self.rules.max_tx_s:
            times.append(self._began_at + self.rules.max_tx_s)
            if not self._warned:
                times.append(self._warning_at)
        return min(times)

    def talking(self, now: float) -> tuple[Talking, ...]:
        """Who is heard now, the highest rank first; ourselves not included."""
        heard = [talker for talker in self._talkers.values() if self._over_at(talker) > now]
        heard.sort(key=lambda talker: (talker.claim.rank, -talker.claim.source), reverse=True)
        return tuple(
            Talking(talker.claim, talker.began_at, talker.transmission, talker.claim.source in self._muted)
            for talker in heard
        )

    @property
    def muted(self) -> frozenset[int]:
        """The sources that are not to be played."""
        return frozenset(self._muted)

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _warning_at(self) -> float:
        """Not before half the time is over: a warning at the press of the key warns of nothing."""
        limit = self.rules.max_tx_s
        return self._began_at + limit - min(self.rules.warning_s, limit / 2)

    def _stop(self, now: float) -> None:
        if self._own is not None:
            self._echo = (self._own.source, now + self.rules.silence_s)
            self._own = None

    def _is_echo(self, source: int, now: float) -> bool:
        """Whether this is ourselves, come back by way of the network."""
        if self._own is not None:
            return source == self._own.source
        return self._echo is not None and source == self._echo[0] and now < self._echo[1]

    def _over_at(self, talker: _Talker) -> float:
        rules = self.rules
        return talker.heard_at + (rules.signalled_silence_s if talker.signals else rules.silence_s)

    def _holding(self, now: float) -> list[_Talker]:
        """Who counts: heard, not silent for too long, not talking for too long."""
        for talker in self._talkers.values():
            self._judge_length(talker, now)
        return [
            talker for talker in self._talkers.values() if not talker.too_long and self._over_at(talker) > now
        ]

    def _judge_length(self, talker: _Talker, now: float) -> None:
        limit = self.rules.max_rx_s
        if limit and now - talker.began_at >= limit:
            talker.too_long = True

    def _contest(self, talker: _Talker, now: float) -> list[Decision]:
        """Whether we must stop for him."""
        own = self._own
        if own is None or self.rules.full_duplex or talker.too_long or not own.yields_to(talker.claim):
            return []
        reason = Reason.OUTRANKED if talker.claim.rank > own.rank else Reason.COLLISION
        self._stop(now)
        self.usurped[reason] += 1
        return [Usurped(reason, talker.claim, now - self._began_at)]

    def _expire(self, now: float) -> None:
        """Forget who has fallen silent."""
        for source, talker in list(self._talkers.items()):
            if self._over_at(talker) <= now:
                del self._talkers[source]
        kept_s = max(self.rules.sticky_s, STRAGGLERS_S)
        for source, ended in list(self._ended.items()):
            if source not in self._talkers and now - ended.at > kept_s:
                del self._ended[source]
        while len(self._ended) > 4 * self._talkers_max:  # the oldest is first among those that are over
            oldest = min((s for s in self._ended if s not in self._talkers), key=lambda s: self._ended[s].at)
            del self._ended[oldest]

    def _settle(self, now: float) -> tuple[Decision, ...]:
        """Who is to be silenced now, as a difference to what was told last."""
        self._unsettled_at = float("inf")
        holding = self._holding(now)
        top: Claim | None = None
        if not self.rules.full_duplex:
            claims = [talker.claim for talker in holding]
            if self._own is not None:
                claims.append(self._own)
            top = max(claims, key=lambda claim: claim.rank, default=None)
        wanted: dict[int, Reason] = {}
        for source, talker in self._talkers.items():
            if talker.too_long:
                wanted[source] = Reason.TOO_LONG
            elif top is not None and talker.claim.rank < top.rank:
                wanted[source] = Reason.OUTRANKED
        decisions: list[Decision] = [Unmuted(source) for source in self._muted if source not in wanted]
        decisions += [
            Muted(source, reason, top if reason is Reason.OUTRANKED else None)
            for source, reason in wanted.items()
            if self._muted.get(source) is not reason
        ]
        self._muted = wanted
        return tuple(decisions)

    def _room_for(self, claim: Claim) -> bool:
        """Whether one more may be known; the least of those known gives way to who stands above it."""
        if len(self._talkers) < self._talkers_max:
            return True
        least = min(self._talkers.values(), key=lambda talker: (talker.claim.rank, talker.heard_at))
        if least.claim.rank >= claim.rank:
            return False
        del self._talkers[least.claim.source]
        self.overflow += 1
        return True

    def _transmission(self, ended: _Ended | None, now: float, *, sticky: bool) -> int:
        if ended is not None and ended.sticky and sticky and now - ended.at <= self.rules.sticky_s:
            return ended.transmission
        self._transmissions += 1
        return self._transmissions
