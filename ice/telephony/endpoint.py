"""What both ends of call messages do alike, a gateway's switchboard and a person's handset: from messages to the calls' state machines, and back.

An engine. Each end keeps an entry per call, hands it what happens (:meth:`Endpoint._feed`), and says what comes of that to the far side (:meth:`Endpoint._say`). A far side that does
not confirm, or refuses, is lost (:class:`~ice.telephony.states.Lost`); one that has confirmed the last that was said of a call that is over has let go (:class:`~ice.telephony.states.Released`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from ice.errors import LocalError
from ice.telephony.call import Action, Call, Event, Lost, Release, Released, Side, Timing
from ice.telephony.envelope import Letter
from ice.telephony.messages import Body, Kind, body_of
from ice.telephony.post import Delivered, Elsewhere, Mail, Output, Post, Returned, Undelivered


class Entry(Protocol):
    """A call with all that belongs to it at one end."""

    @property
    def call(self) -> Call:
        """The state machine."""


E = TypeVar("E", bound=Entry)
O = TypeVar("O")  # noqa: E741 - what is to be done: an Order, and nobody takes it for a zero


def mails(outputs: Iterable[Output]) -> list[Mail]:
    """What is to be said of what a post gives."""
    return [each for each in outputs if isinstance(each, Mail)]


class Endpoint(ABC, Generic[E, O]):
    """One end's calls; ``far`` is the side that is reached by messages. What is to be done comes out as ``O`` or :class:`~ice.telephony.post.Mail`."""

    def __init__(self, post: Post, far: Side, timing: Timing) -> None:
        #: What came and led to nothing, by reason.
        self.refused: Counter[str] = Counter()
        self._post = post
        self._far = far
        self._timing = timing
        self._calls: dict[UUID, E] = {}

    def _dues(self) -> list[float]:
        """When the post and the calls want to be looked at."""
        dues = [entry.call.deadline for entry in self._calls.values()]
        return [due for due in (*dues, self._post.deadline) if due is not None]

    def _look(self, now: float, unix_s: float) -> list[O | Mail]:
        """Look at the clock: what is repeated or given up, and which of the calls' times are over."""
        orders = self._from_post(self._post.tick(now, unix_s), now, unix_s)
        for entry in list(self._calls.values()):
            orders += self._do(entry, entry.call.tick(now), now, unix_s)
        return orders

    def _from_post(self, outputs: Iterable[Output], now: float, unix_s: float) -> list[O | Mail]:
        orders: list[O | Mail] = []
        for output in outputs:
            match output:
                case Mail():
                    orders.append(output)
                case Delivered(letter):
                    orders += self._letter(letter, now, unix_s)
                case Undelivered(call, _) | Returned(call, _, _):
                    if isinstance(output, Undelivered):
                        orders += self._unheard()
                    if call in self._calls:
                        orders += self._feed(self._calls[call], Lost(self._far), now, unix_s)
                case Elsewhere(call):
                    if call in self._calls:
                        orders += self._elsewhere(self._calls[call], now, unix_s)
        for entry in list(self._calls.values()):  # what was said last has been confirmed
            if entry.call.over and not self._post.is_open(entry.call.id):
                orders += self._feed(entry, Released(self._far), now, unix_s)
        return orders

    def _feed(self, entry: E, event: Event, now: float, unix_s: float) -> list[O | Mail]:
        return self._do(entry, entry.call.feed(event, now), now, unix_s)

    def _say(self, id: UUID, kind: Kind, body: Body, now: float, unix_s: float) -> list[Mail]:
        """Say something of a call; nothing, and counted, where 64 messages wait or the far side has ended its part: the call ends by its own rules."""
        try:
            return mails(self._post.say(id, kind, body, now, unix_s))
        except LocalError:
            self.refused["unsayable"] += 1
            return []

    def _carry(self, call: Call, action: Action, now: float, unix_s: float) -> list[Mail]:
        """Say what an action means to the far side, where it means anything; after a release nothing more is said."""
        found = body_of(action, answered=call.answered)
        said = self._say(call.id, *found, now, unix_s) if found is not None else []
        if isinstance(action, Release):
            self._post.close(call.id, now)
        return said

    def _unheard(self) -> Sequence[O]:
        """The far side did not confirm a message."""
        return ()

    def _elsewhere(self, entry: E, now: float, unix_s: float) -> Sequence[O | Mail]:
        """Another program of ours has acted in a call."""
        return ()

    @abstractmethod
    def _letter(self, letter: Letter, now: float, unix_s: float) -> Sequence[O | Mail]:
        """A message has come."""

    @abstractmethod
    def _do(self, entry: E, actions: Sequence[Action], now: float, unix_s: float) -> list[O | Mail]:
        """Carry out what a call's state machine wants done."""
