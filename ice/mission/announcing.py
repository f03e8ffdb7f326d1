"""Telling others that we are there: when to say it, how often, and to whom in answer. An engine without a clock of its own.

======================  ================================================================================================
joining, path regained  at once, within :data:`JOIN_SPREAD_S` at random, asking everybody to answer; once more after
                        ``min_interval_s`` where nobody has been heard
somebody asks           after a short wait at random, longer where there are more people (50 ms each), so that a team does not
                        answer in one packet's time; with ``reduce_immediacy`` spread over ``min_interval_s``
something changed       as soon as ``min_interval_s`` allows
otherwise               every ``interval_s``, up to a fifth earlier at random, so that nobody falls into step
emergency, its end      at once and again after 1 s and 3 s, marked urgent; while it lasts, every ``min_interval_s``
leaving                 at once
======================  ================================================================================================

Nothing but an emergency and a good-bye is said within ``min_interval_s`` of the last word. With ``listen_only`` nothing is said at all.
"""

from __future__ import annotations

import math
from random import Random
from typing import Final

import attrs

from ice.mission.parts import Presence
from ice.mission.presence import MAX_U32, Descriptor, Disposition, Form, Kind

JOIN_SPREAD_S: Final = 0.3  # after a Rallypoint's restart everybody joins in the same second
ANSWER_SPREAD_S: Final = (0.2, 5.0)  # least and most that answers are spread over
ANSWER_EACH_S: Final = 0.05  # of it for each person who is there
EMERGENCY_COPIES_S: Final = (0.0, 1.0, 3.0)  # datagrams get lost, and this one must not
MIN_INTERVAL_S: Final = 0.5  # where a mission allows more, we do not do it
MAX_INTERVAL_S: Final = 3_600.0
EARLY: Final = 0.2  # of an interval: how much earlier than promised the next word may come
COT_PROMISE: Final = (
    2.5  # intervals until `stale`: TAK applications grey a person out then, and datagrams get lost
)


@attrs.frozen
class Manner:
    """How a group wants presence to be told: the mission's presence object."""

    form: Form = Form.JSON
    interval_s: float = 30.0
    min_interval_s: float = 5.0
    listen_only: bool = False
    reduce_immediacy: bool = False

    @classmethod
    def of(cls, presence: Presence) -> Manner:
        """As a mission's presence object says, within bounds; the shorter interval is never the longer."""
        least = min(max(float(presence.min_interval_s), MIN_INTERVAL_S), MAX_INTERVAL_S)
        return cls(
            Form.COT if presence.format == 2 else Form.JSON,
            min(max(float(presence.interval_s), least), MAX_INTERVAL_S),
            least,
            presence.listen_only,
            presence.reduce_immediacy,
        )


@attrs.frozen
class Message:
    """Something to send now."""

    kind: Kind
    descriptor: Descriptor
    urgent: bool = False


class Announcer:
    """Says when we have something to say, and what.

    ``me`` is what we tell of ourselves; its times, its wish for answers and its emergency are ours to set.
    """

    def __init__(self, me: Descriptor, manner: Manner, *, random: Random) -> None:
        self._me = attrs.evolve(me, disposition=me.disposition & ~Disposition.EMERGENCY)
        self._manner = manner
        self._random = random
        self._said_at = -math.inf
        self._regular = math.inf  # when the next regular word is due
        self._wanted = math.inf  # when an answer or a change is
        self._copies: list[float] = []  # when the copies of an emergency, or of its end, are
        self._ask = 0  # words left that ask for answers
        self._emergency = False
        self._left = False
        #: Words said, by why: ``joining`` ``regular`` ``wanted`` ``emergency`` ``leaving``.
        self.said: dict[str, int] = {}

    @property
    def me(self) -> Descriptor:
        """What we tell of ourselves now."""
        bits = Disposition.EMERGENCY if self._emergency else 0
        return attrs.evolve(self._me, disposition=self._me.disposition | bits)

    @property
    def emergency(self) -> bool:
        """Whether we are in an emergency."""
        return self._emergency

    @property
    def next_at(self) -> float | None:
        """When :meth:`due` has something to say; None: never, as things stand."""
        if self._left or self._manner.listen_only:
            return None
        at = min(
            [
                max(min(self._regular, self._wanted), self._said_at + self._manner.min_interval_s),
                *self._copies,
            ]
        )
        return at if at < math.inf else None

    # -- what happens

    def joined(self, now: float) -> None:
        """The path to the group is open, for the first time or again."""
        self._ask = 2
        self._wanted = min(self._wanted, now + self._random.uniform(0, JOIN_SPREAD_S))

    def heard(self) -> None:
        """Somebody is there: no need to ask a second time."""
        if self._said_at > -math.inf:
            self._ask = 0

    def asked(self, now: float, people: int) -> None:
        """Somebody who is new asks for answers; so many ``people`` are about to give them."""
        least, most = ANSWER_SPREAD_S
        spread = min(max(people * ANSWER_EACH_S, least), most)
        if self._manner.reduce_immediacy:
            spread = max(spread, self._manner.min_interval_s)
        self._wanted = min(self._wanted, now + self._random.uniform(0.02, spread))

    def change(self, me: Descriptor, now: float, *, soon: bool = True) -> None:
        """Something about us is different: it is told soon, or with the next word. Our emergency is not told by this: see :meth:`emergency_is`."""
        self._me = attrs.evolve(me, disposition=me.disposition & ~Disposition.EMERGENCY)
        if soon:
            self._wanted = min(self._wanted, now)

    def emergency_is(self, on: bool, now: float) -> None:
        """We are in an emergency, or no longer; saying the same again changes nothing."""
        if on is not self._emergency:
            self._emergency = on
            self._copies = [now + after for after in EMERGENCY_COPIES_S]

    def leave(self, now: float, unix_s: float) -> list[Message]:
        """Say good-bye now, and nothing afterwards. An emergency that lasts is called off first."""
        if self._left or self._manner.listen_only or self._said_at == -math.inf:
            self._left = True
            return []
        messages = []
        if self._emergency:
            self._emergency = False
            messages = self._word(Kind.CALM, now, unix_s)
        self._left = True
        self._count("leaving")
        ts = _u32(unix_s)
        me = attrs.evolve(self.me, ts=ts, next_update=ts, announce_on_receive=False)
        return [*messages, Message(Kind.LEAVING, me)]

    def due(self, now: float, unix_s: float) -> list[Message]:
        """What is to be sent now; nothing where nothing is due."""
        at = self.next_at
        if at is None or at > now:
            return []
        copies = [each for each in self._copies if each <= now]
        if copies:
            self._copies = [each for each in self._copies if each > now]
            self._count("emergency")
            return self._word(Kind.ALERT if self._emergency else Kind.CALM, now, unix_s)
        self._count("joining" if self._ask else "wanted" if self._wanted <= now else "regular")
        return self._word(Kind.ALERT if self._emergency else Kind.PRESENCE, now, unix_s)

    # -- what is said

    def _word(self, kind: Kind, now: float, unix_s: float) -> list[Message]:
        manner = self._manner
        # By the group's own interval, whatever we do meanwhile: an emergency's faster words are a gift.
        promise_s = math.ceil(manner.interval_s * (COT_PROMISE if manner.form is Form.COT else 1))
        ts = _u32(unix_s)
        me = attrs.evolve(
            self.me,
            ts=ts,
            next_update=min(ts + promise_s, MAX_U32),
            announce_on_receive=self._ask > 0,
        )
        every = manner.min_interval_s if self._emergency else manner.interval_s
        self._said_at = now
        self._regular = now + every * (1 - self._random.uniform(0, EARLY))
        self._ask = max(0, self._ask - 1)
        self._wanted = now + manner.min_interval_s if self._ask else math.inf
        urgent = kind is not Kind.PRESENCE
        messages = [Message(Kind.PRESENCE, me, urgent)]
        if urgent and manner.form is Form.COT:
            messages.append(Message(kind, me, urgent))
        return messages

    def _count(self, why: str) -> None:
        self.said[why] = self.said.get(why, 0) + 1


def _u32(unix_s: float) -> int:
    return min(max(int(unix_s), 0), MAX_U32)
