"""The floor of a patch: of those who talk on its streams at once, who is passed on.

Priority and emergency pass through a patch, so the stations on all of its streams hear one another's ranks and settle most contests by
themselves, as on one stream (:mod:`ice.media.floor`). The patch holds the same rule, for those who go on all the same (stations of other makes, a station whose
way has failed): **one talker at a time crosses a half-duplex patch**; of the others nothing is passed on until he has ended.

**Who crosses.** The highest rank: an emergency before what is none, then the higher priority. Among equals

* where talkers keep their SSRCs (relay, transcode): the lower SSRC, as the stations have it. A rule of our own would leave both talking, or both silent;
* where they lose them (mixed): who reached the patch first. The mix itself speaks under an SSRC below those of stations, so whoever hears the
  mix yields to it, and whom it carries hears none.

**Full duplex**: everybody crosses.

**A stuck key**: who talks for longer than ``max_rx_s`` (the shortest that one of the streams allows; 0: no limit) crosses no more until his burst ends, and keeps nobody else from it.

**One talker, two ways.** An SSRC belongs to the source (and, where talkers are said anew, to the stream) under which it was heard first, until it has been silent there for :data:`TWIN_S`. The same SSRC from elsewhere is the
same voice on a second way (another patch, a bridge of another make), or a fault; either way it is held back, and counted as a *twin*.

**Ends** pass even when the sound before them was held back, if the burst's beginning had passed: nobody is left waiting.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import attrs

from ice.media.floor import Claim, Decision, Floor, Granted, Refused, Rules, Talking
from ice.patch.heading import Heading

TWIN_S: Final = (
    0.3  # silence after which an SSRC may come from elsewhere: a failover to another way takes longer
)
REFRESH_S: Final = 0.1  # how often the floor is told of a talker of whom nothing new is known; by so much it may forget him too early
KNOWN_MAX: Final = 256  # talkers remembered; more at a time is no conversation


class Verdict(StrEnum):
    """Whether a packet is passed on, and why not. Only PASS is false."""

    PASS = ""
    WITHHELD = "floor"
    TWIN = "twin"


class Standing(StrEnum):
    """How a talker stands whose sound is still being played."""

    CROSSES = "crosses"
    WITHHELD = "withheld"
    OVER = "over"  # no packet comes any more; what was heard may be played to its end


@attrs.define
class _Known:
    stream: str
    source: int
    heard_at: float
    told_at: float
    urgent: bool = False
    passed: bool = False  # whether the last packet that was no end mark was passed on
    owed: bool = False  # whether something of this burst was, so that its end must be
    over: bool = False  # whether the end of this burst has come


class PatchFloor:
    """See the module docstring.

    ``first_come``: among equals who came first, not who has the lower SSRC. ``one_stream``: a talker's packets count on the stream alone on which he was
    heard first; else on any on which they come under his name (relay: the name itself keeps them from going round).
    """

    def __init__(
        self,
        *,
        full_duplex: bool,
        first_come: bool = False,
        one_stream: bool = False,
        max_rx_s: float = 0.0,
    ) -> None:
        self.full_duplex = full_duplex
        self._one_stream = one_stream
        self._first_come = first_come
        self.floor = Floor(Rules(full_duplex=full_duplex, max_rx_s=max_rx_s))
        self._known: dict[int, _Known] = {}
        self._crossing: int | None = None

    def __len__(self) -> int:
        return len(self._known)

    # -- others ------------------------------------------------------------------------------------------------------

    def heard(self, stream: str, source: int, head: Heading, now: float) -> Verdict:
        """A packet came; whether it may be passed on."""
        known = self._known.get(head.ssrc)
        if known is None:
            known = self._meet(head.ssrc, stream, source, now)
        elif known.source != source or (self._one_stream and known.stream != stream):
            if now - known.heard_at < TWIN_S:
                return Verdict.TWIN
            known.stream, known.source, known.passed, known.owed = stream, source, False, False
        known.heard_at = now
        if (
            head.talk is None
            and known.passed
            and (self._crossing == head.ssrc or self.full_duplex)
            and now - known.told_at < REFRESH_S
            and not (head.last or head.first)
            and head.urgent is known.urgent
        ):
            return Verdict.PASS  # nothing new: most packets end here
        return self._judge(known, head, now)

    def standing(self, ssrc: int, now: float) -> Standing:
        """How a talker stands now, for whoever plays his sound later than his packets came."""
        if self.full_duplex and not self.floor.rules.max_rx_s:
            return Standing.CROSSES
        self.floor.tick(now)
        talking = self.floor.talking(now)
        if all(each.claim.source != ssrc for each in talking):
            return Standing.OVER
        return Standing.CROSSES if self._crosses(ssrc, talking) else Standing.WITHHELD

    def claim(self, ssrc: int, now: float) -> Claim | None:
        """Under what somebody talks who is heard now."""
        return next((each.claim for each in self.floor.talking(now) if each.claim.source == ssrc), None)

    def talking(self, now: float) -> tuple[tuple[Talking, str, bool], ...]:
        """Who talks now, on which stream, and whether he crosses; the highest rank first."""
        talking = self.floor.talking(now)
        return tuple(
            (each, self._known[each.claim.source].stream, self._crosses(each.claim.source, talking))
            for each in talking
            if each.claim.source in self._known
        )

    # -- ourselves ---------------------------------------------------------------------------------------------------

    def request(self, claim: Claim, now: float) -> Granted | Refused:
        """Ask to talk on all streams, for an announcement."""
        answer = self.floor.request(claim, now)
        self._crossing = None  # judged anew at the next packet, whoever it is
        return answer

    def release(self, now: float) -> None:
        """Our own burst is over."""
        self.floor.release(now)

    def tick(self, now: float) -> tuple[Decision, ...]:
        """What time has brought about."""
        return self.floor.tick(now)

    @property
    def own(self) -> Claim | None:
        """Under what we talk ourselves; None once we were usurped."""
        return self.floor.own

    # -- within ------------------------------------------------------------------------------------------------------

    def _judge(self, known: _Known, head: Heading, now: float) -> Verdict:
        talk = head.talk
        known.told_at, known.urgent = now, head.urgent
        emergency = True if head.urgent else None if talk is None else False
        self.floor.heard(
            head.ssrc,
            now,
            priority=talk.priority if talk is not None else None,
            emergency=emergency,
            first=head.first,
            signals=head.last or (talk is not None and bool(talk.flags)),
        )
        talking = self.floor.talking(now)
        heard = any(each.claim.source == head.ssrc for each in talking)
        # What straggles in behind its end mark goes where the mark went.
        crosses = self._crosses(head.ssrc, talking) if heard else known.passed
        if heard and (known.over or head.first) and not head.last:
            known.owed = known.over = False
        known.owed = known.owed or crosses
        if head.last:
            known.over = True
            self.floor.ended(head.ssrc, now)
            if self._crossing == head.ssrc:
                self._crossing = None
            return Verdict.PASS if known.owed else Verdict.WITHHELD
        if heard:
            known.passed = crosses
        return Verdict.PASS if crosses else Verdict.WITHHELD

    def _crosses(self, ssrc: int, talking: tuple[Talking, ...]) -> bool:
        """Whether this one of those who talk is passed on."""
        if self.full_duplex:
            return all(not each.muted for each in talking if each.claim.source == ssrc)
        if self.floor.own is not None:
            return False
        equals = [each for each in talking if not each.muted]
        if not equals:
            self._crossing = None
        elif self._first_come:
            if all(each.claim.source != self._crossing for each in equals):
                self._crossing = min(equals, key=lambda each: (each.since, each.claim.source)).claim.source
        else:
            self._crossing = equals[0].claim.source
        return ssrc == self._crossing

    def _meet(self, ssrc: int, stream: str, source: int, now: float) -> _Known:
        if len(self._known) >= KNOWN_MAX:
            del self._known[min(self._known, key=lambda each: self._known[each].heard_at)]
        known = self._known[ssrc] = _Known(stream, source, now, now)
        return known
