"""Who is there: the people of a mission as their presence tells it, in one engine without a clock of its own.

:meth:`People.hear` takes what datagrams told, :meth:`People.tick` lets time pass, :meth:`People.events` says what a person should know.
Times ``now`` are steady seconds; ``unix_s`` is the time of day, used for one thing only: to see whose clock is wrong.

**Staying and going.** A sender promises its next update by ``next_update − ts``, both by *its* clock; the promise counts here from the moment of
receipt, so a wrong clock harms nobody. Past the promise (and a grace of :data:`GRACE_S`) a person is *late*, past three times of it *gone*: two datagrams
lost in a row make nobody disappear. Good-byes take effect at once. The gone stay in sight for ten minutes, whoever is in an emergency until it is
called off: silence does not end an emergency.

**Twice the same.** A restarted device talks from a new source with its old node id, and simply goes on. Where two sources take turns, there are
two devices with one node id (a copied configuration): that is told, and the newest word of either is shown.

**Bounds.** At most ``max_people`` are kept. When there are more, room is made of the gone, then of the late; else newcomers are counted and not shown,
but for those in an emergency, who take the place of whoever was silent longest.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from enum import StrEnum
from statistics import median
from typing import Final

import attrs

from ice.mission.presence import Descriptor, Disposition, Form, Kind, Told

GRACE_S: Final = 5.0  # after a promise: a slow link, a busy telephone
MIN_PROMISE_S: Final = 1.0  # seconds are what `ts` counts in
MAX_PROMISE_S: Final = 3_600.0  # whoever promises less often is not there in any useful sense
LEFT_S: Final = 30.0  # who has said good-bye stays in sight as long as a look at the screen
GONE_S: Final = 600.0  # who has fallen silent: ten minutes in which somebody may ask where they are
EMERGENCY_S: Final = 86_400.0  # a day: nobody is still looking at the same screen
SKEW_S: Final = 10.0  # clocks of telephones are good to a second or two; this is worth a word
SKEW_AGAIN_S: Final = 5.0  # the word is taken back below this
REORDERED_S: Final = 10  # an older `ts` within this was overtaken on its way; further back, a clock was set
TURNS: Final = 3  # changes of source within a promise that no restart or failover explains
MAX_PEOPLE: Final = 1_000  # some megabytes; missions have tens


class State(StrEnum):
    """How things stand with a person's presence."""

    HERE = "here"
    LATE = "late"  #: the promised time has passed
    GONE = "gone"  #: silent for three times the promised time
    LEFT = "left"  #: has said good-bye


class What(StrEnum):
    """What happened."""

    JOINED = "joined"
    BACK = "back"  #: after having been late, gone or left
    CHANGED = "changed"  #: name, comment or disposition
    LATE = "late"
    GONE = "gone"
    LEFT = "left"
    EMERGENCY = "emergency"
    CALM = "calm"
    TWO_PLACES = "two-places"
    CLOCK = "clock"  #: the sender's clock differs from ours by more than :data:`SKEW_S`
    FULL = "full"  #: more people than are kept; the person is the first who was not


@attrs.frozen
class Person:
    """One person as last heard; times in seconds of the caller's steady clock."""

    descriptor: Descriptor
    form: Form
    state: State
    first_heard_at: float
    heard_at: float
    promise_s: float  #: within how long of ``heard_at`` more is to come
    emergency_at: float | None = None  #: since when there is an emergency; None: there is none
    alert: str = ""  #: the alert's own word for it, such as ``911 Alert``
    skew_s: float | None = None  #: their clock minus ours; None: they do not tell the time
    two_places: bool = False

    @property
    def key(self) -> str:
        """What tells people apart."""
        return key_of(self.descriptor.identity.node_id)

    @property
    def name(self) -> str:
        """The display name, or what there is in its place. Others' text: show it by :func:`ice.streams.words.plain`."""
        who = self.descriptor.identity
        return who.display_name or who.user_id or who.node_id

    @property
    def emergency(self) -> bool:
        """Whether there is an emergency."""
        return self.emergency_at is not None

    @property
    def present(self) -> bool:
        """Whether they are counted as there: here or late."""
        return self.state in (State.HERE, State.LATE)

    @property
    def clock_wrong(self) -> bool:
        """Whether their clock and ours differ enough to say so."""
        return self.skew_s is not None and abs(self.skew_s) > SKEW_S

    def fix_age_s(self, now: float) -> float | None:
        """How old the location is; by the sender's clock up to its sending, by ours since; None where it is not told."""
        place = self.descriptor.location
        if place is None:
            return None
        behind = max(0, self.descriptor.ts - place.ts) if place.ts and self.descriptor.ts else 0
        return behind + max(0.0, now - self.heard_at)


@attrs.frozen
class Happened:
    """Something that a person in front of the screen should know."""

    what: What
    person: Person
    changed: tuple[str, ...] = ()  #: of ``CHANGED``: ``name``, ``comment``, ``disposition``


def key_of(node_id: str) -> str:
    """Node ids as they are compared: without braces, in one case."""
    return node_id.strip("{} ").casefold()


@attrs.define
class _Node:
    """What is kept of a person beside what is shown."""

    person: Person
    due: float  # when tick has to look again
    queued: float  # the due time under which it stands in the queue
    source: int
    turns: list[float]  # when the source changed, the last few
    asked_at: float = -math.inf  # when its wish for answers was last granted
    clock_told: bool = False


class People:
    """The people of one presence group.

    ``interval_s`` is the group's: what is taken for a promise where a sender makes none. ``own`` is our own node id, where we have one: somebody
    else who uses it is told once as being in two places, and not shown.
    """

    def __init__(
        self, *, interval_s: float = 30.0, max_people: int = MAX_PEOPLE, own: str | None = None
    ) -> None:
        self._interval_s = min(max(interval_s, MIN_PROMISE_S), MAX_PROMISE_S)
        self._max_people = max_people
        self._nodes: dict[str, _Node] = {}
        self._queue: list[tuple[float, str]] = []
        self._events: list[Happened] = []
        self._full = False
        self._own = None if own is None else key_of(own)
        #: What was heard and not shown, by reason: ``overtaken`` ``unknown`` ``full`` ``own``; and ``heard``, all of it.
        self.counts: Counter[str] = Counter()

    # -- what is known

    @property
    def everybody(self) -> tuple[Person, ...]:
        """All who are in sight, in an emergency first, then by name."""
        people = [node.person for node in self._nodes.values()]
        return tuple(sorted(people, key=lambda each: (not each.emergency, each.name.casefold(), each.key)))

    @property
    def present(self) -> tuple[Person, ...]:
        """Those who are there."""
        return tuple(each for each in self.everybody if each.present)

    def person(self, node_id: str) -> Person | None:
        """Whoever has this node id."""
        node = self._nodes.get(key_of(node_id))
        return None if node is None else node.person

    @property
    def common_skew_s(self) -> float | None:
        """By how much *our* clock differs from everybody's: told by at least three people who agree with each other; else None."""
        skews = [
            node.person.skew_s
            for node in self._nodes.values()
            if node.person.present and node.person.skew_s is not None
        ]
        if len(skews) < 3:
            return None
        middle = median(skews)
        agreeing = sum(abs(each - middle) <= SKEW_AGAIN_S for each in skews)
        return middle if abs(middle) > SKEW_S and agreeing * 3 >= len(skews) * 2 else None

    @property
    def next_at(self) -> float | None:
        """When :meth:`tick` has something to do; at the earliest."""
        return self._queue[0][0] if self._queue else None

    def events(self) -> list[Happened]:
        """What happened since the last time this was asked."""
        events, self._events = self._events, []
        return events

    # -- what is heard

    def hear(self, told: Told, source: int, now: float, unix_s: float) -> bool:
        """Take in what a datagram told. True where an answer is due: somebody who is new here asks for it.

        A wish for answers is granted once per interval and person, whatever a broken sender writes into each of its datagrams.
        """
        self.counts["heard"] += 1
        key = key_of(told.descriptor.identity.node_id)
        if key == self._own:
            return self._ourselves(told, now)
        node = self._nodes.get(key)
        if node is None:
            node = self._newcomer(key, told, source, now)
            if node is None:
                return False
        elif self._overtaken(node, told, now):
            self.counts["overtaken"] += 1
            return False
        else:
            self._again(node, told, now)
        self._from(node, source, now)
        self._skew(node, told, now, unix_s)
        self._schedule(key, node, now)
        wish = told.kind is Kind.PRESENCE and told.descriptor.announce_on_receive
        if wish and now - node.asked_at >= self._interval_s:
            node.asked_at = now
            return True
        return False

    def _ourselves(self, told: Told, now: float) -> bool:
        self.counts["own"] += 1
        if self.counts["own"] == 1 and told.kind is Kind.PRESENCE:
            person = Person(
                told.descriptor, told.form, State.HERE, now, now, self._promise(told), two_places=True
            )
            self._events.append(Happened(What.TWO_PLACES, person))
        return False

    def _newcomer(self, key: str, told: Told, source: int, now: float) -> _Node | None:
        if told.kind in (Kind.LEAVING, Kind.CALM):
            self.counts["unknown"] += (
                1  # a good-bye, or an end of an emergency, of somebody who was never here
            )
            return None
        emergency = told.descriptor.emergency
        person = Person(
            told.descriptor,
            told.form,
            State.HERE,
            first_heard_at=now,
            heard_at=now,
            promise_s=self._promise(told),
            emergency_at=now if emergency else None,
            alert=told.descriptor.comment if told.kind is Kind.ALERT else "",
        )
        if len(self._nodes) >= self._max_people and not self._make_room(emergency):
            self.counts["full"] += 1
            if not self._full:
                self._full = True
                self._events.append(Happened(What.FULL, person))
            return None
        if told.kind is Kind.ALERT:
            person = attrs.evolve(person, descriptor=attrs.evolve(told.descriptor, comment=""))
        node = self._nodes[key] = _Node(person, math.inf, math.inf, source, [])
        self._events.append(Happened(What.JOINED, person))
        if emergency:
            self._events.append(Happened(What.EMERGENCY, person))
        return node

    def _again(self, node: _Node, told: Told, now: float) -> None:
        before = node.person
        descriptor = _merged(before.descriptor, told)
        emergency = descriptor.emergency
        left = told.kind is Kind.LEAVING
        person = node.person = attrs.evolve(
            before,
            descriptor=descriptor,
            form=told.form,
            state=State.LEFT if left else State.HERE,
            heard_at=now,
            promise_s=self._promise(told) if told.kind is Kind.PRESENCE else before.promise_s,
            emergency_at=(now if before.emergency_at is None else before.emergency_at) if emergency else None,
            alert=(told.descriptor.comment if told.kind is Kind.ALERT else before.alert) if emergency else "",
        )
        if left:
            if before.state is not State.LEFT:
                self._events.append(Happened(What.LEFT, person))
        elif before.state is not State.HERE:
            self._events.append(Happened(What.BACK, person))
        if emergency is not before.emergency:
            self._events.append(Happened(What.EMERGENCY if emergency else What.CALM, person))
        changed = _changed(before, person)
        if changed and not left:
            self._events.append(Happened(What.CHANGED, person, changed))

    def _overtaken(self, node: _Node, told: Told, now: float) -> bool:
        """Whether something newer of the same device has come already: two paths, or a reordering network."""
        newest, ts = node.person.descriptor.ts, told.descriptor.ts
        return 0 < ts < newest <= ts + REORDERED_S and now - node.person.heard_at < REORDERED_S

    def _from(self, node: _Node, source: int, now: float) -> None:
        window_s = max(node.person.promise_s, self._interval_s)
        if source != node.source:
            node.source = source
            node.turns = [*node.turns[-(TURNS - 1) :], now]
        node.turns = [at for at in node.turns if now - at <= 2 * window_s]
        two = len(node.turns) >= TURNS
        if two is not node.person.two_places:
            node.person = attrs.evolve(node.person, two_places=two)
            if two:
                self._events.append(Happened(What.TWO_PLACES, node.person))

    def _skew(self, node: _Node, told: Told, now: float, unix_s: float) -> None:
        if not told.descriptor.ts:
            return
        skew = told.descriptor.ts - unix_s
        node.person = attrs.evolve(node.person, skew_s=skew)
        if abs(skew) > SKEW_S and not node.clock_told:
            node.clock_told = True
            self._events.append(Happened(What.CLOCK, node.person))
        elif abs(skew) < SKEW_AGAIN_S:
            node.clock_told = False

    def _promise(self, told: Told) -> float:
        promise = told.descriptor.next_update - told.descriptor.ts
        if not told.descriptor.ts or promise <= 0:
            return self._interval_s
        return min(max(float(promise), MIN_PROMISE_S), MAX_PROMISE_S)

    # -- what time does

    def tick(self, now: float) -> None:
        """Let time pass: people become late, gone, and at last leave the screen."""
        while self._queue and self._queue[0][0] <= now:
            queued, key = heapq.heappop(self._queue)
            node = self._nodes.get(key)
            if node is None or node.queued != queued:
                continue  # an entry that another one has replaced
            node.queued = math.inf
            if node.due > now:
                self._enqueue(key, node)
            else:
                self._pass(key, node, now)

    def _pass(self, key: str, node: _Node, now: float) -> None:
        state = node.person.state
        if state is State.HERE:
            node.person = attrs.evolve(node.person, state=State.LATE)
            self._events.append(Happened(What.LATE, node.person))
        elif state is State.LATE:
            node.person = attrs.evolve(node.person, state=State.GONE)
            self._events.append(Happened(What.GONE, node.person))
        else:
            del self._nodes[key]
            self._full = False
            return
        self._schedule(key, node, now)
        if node.due <= now:  # we slept through more than one of these
            self._pass(key, node, now)

    def _schedule(self, key: str, node: _Node, now: float) -> None:
        person = node.person
        silent = GRACE_S + person.promise_s
        match person.state:
            case State.HERE:
                after = silent
            case State.LATE:
                after = silent + 2 * person.promise_s
            case State.LEFT if not person.emergency:
                after = LEFT_S
            case State.GONE if not person.emergency:
                after = silent + 2 * person.promise_s + GONE_S
            case _:
                after = EMERGENCY_S
        node.due = person.heard_at + after
        if node.due < node.queued:
            self._enqueue(key, node)

    def _enqueue(self, key: str, node: _Node) -> None:
        node.queued = node.due
        heapq.heappush(self._queue, (node.due, key))
        if len(self._queue) > 4 * len(self._nodes) + 64:
            # Senders that promise ever less: what they have replaced is swept away.
            self._queue = [
                (each.queued, name) for name, each in self._nodes.items() if each.queued < math.inf
            ]
            heapq.heapify(self._queue)

    def _make_room(self, emergency: bool) -> bool:
        def rank(item: tuple[str, _Node]) -> tuple[int, float]:
            person = item[1].person
            return (person.state is State.HERE) + (person.state in (State.HERE, State.LATE)), person.heard_at

        calm = [item for item in self._nodes.items() if not item[1].person.emergency]
        if not calm:
            return False
        key, node = min(calm, key=rank)
        if node.person.state is State.HERE and not emergency:
            return False
        del self._nodes[key]
        return True


def _merged(before: Descriptor, told: Told) -> Descriptor:
    """What is known after this was told too."""
    now = told.descriptor
    match told.kind:
        case Kind.PRESENCE if told.disposition_known:
            return now
        case Kind.PRESENCE:
            return attrs.evolve(now, disposition=before.disposition)
        case Kind.LEAVING:
            disposition = now.disposition if told.disposition_known else before.disposition
            return attrs.evolve(before, ts=now.ts, next_update=now.next_update, disposition=disposition)
    alarmed = told.kind is Kind.ALERT
    return attrs.evolve(
        before,
        ts=now.ts or before.ts,
        location=now.location or before.location,
        disposition=(before.disposition & ~Disposition.EMERGENCY) | (Disposition.EMERGENCY if alarmed else 0),
    )


def _changed(before: Person, after: Person) -> tuple[str, ...]:
    was, is_ = before.descriptor, after.descriptor
    changes = {
        "name": before.name != after.name,
        "comment": was.comment != is_.comment,
        "disposition": (was.disposition ^ is_.disposition) & ~Disposition.EMERGENCY != 0,
    }
    return tuple(name for name, changed in changes.items() if changed)
