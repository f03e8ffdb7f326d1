"""People, a gateway and its trunks in one process, joined by hand; the stream between them loses what it is told to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

import attrs

from ice.security.certificates import Identity, Role
from ice.telephony import handset, switchboard, trunk
from ice.telephony.call import Ended, Timing
from ice.telephony.causes import Cause
from ice.telephony.handset import Handset
from ice.telephony.loopback import Loopback
from ice.telephony.messages import group_stream, notice_stream
from ice.telephony.post import Mail, Post
from ice.telephony.records import CallRecord
from ice.telephony.switchboard import Allowed, Switchboard
from tests.unit.telephony.people import SPACE, UNIX, envelopes

STEP = 0.02


class Plan:
    """Everybody may call everything but 666; 7 is Ada's number, 8 is Bob's."""

    def outgoing(self, who: Identity, number: str) -> Allowed | Cause:
        own = {"ada": "7", "bob": "8"}.get(who.name, "")
        return Cause.FORBIDDEN if number == "666" else Allowed(number, own, number == "112")

    def incoming(self, number: str, dialled: str) -> UUID | Cause:
        name = {"7": "ada", "8": "bob"}.get(dialled)
        return Cause.UNKNOWN_NUMBER if name is None else uuid5(SPACE, name)


@attrs.define
class Person:
    """A telephone, and what its person saw."""

    name: str
    phone: Handset
    source: int
    seen: list[Any] = attrs.field(factory=list)

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.seen if isinstance(each, kind)]

    @property
    def ends(self) -> list[Ended]:
        return [over.ended for over in self.of(handset.Over)]


class World:
    """Everything on one clock."""

    def __init__(
        self,
        *names: str,
        loss: float = 0.0,
        seed: int = 0,
        trunks: Sequence[str] = ("loopback",),
        **more: Any,
    ) -> None:
        self.now = 0.0
        self.loss = loss
        self.chance = random.Random(seed)
        self.people = {
            name: Person(name, Handset("g", uuid5(SPACE, name), Post(envelopes(name), UNIX - 60)), number)
            for number, name in enumerate(names, 1)
        }
        self.trunks = {name: Loopback(8_000, ring_s=0.2, call_back_s=1.0) for name in trunks}
        self.more = more
        self.deaf = False  # the gateway has died
        self.board = self._board(UNIX - 60)
        self.asked: list[tuple[str, trunk.Request]] = []
        self.orders: list[Any] = []
        self.records: dict[UUID, CallRecord] = {}
        self.sounding: dict[UUID, str] = {}
        self.dead: set[str] = set()  # trunks that say nothing any more
        self._queue: list[tuple[Person | None, Any]] = []
        for name in trunks:
            self.to_board(self.board.report(name, trunk.Health(True, "ok"), 0.0, UNIX))
        self.to_board(self.board.set_active(True, 0.0, UNIX))
        self.wait(0.1)

    def _board(self, started: float) -> Switchboard:
        post = Post(envelopes("gateway", Role.SATELLITE), started)
        timing = Timing(setup_s=2.0, ring_s=10.0)
        return Switchboard("g", post, Plan(), tuple(self.trunks), timing=timing, **self.more)

    def restart(self) -> None:
        """The gateway begins anew, with nothing of what it knew."""
        self.deaf = False
        self.board = self._board(self.unix)
        for name in self.trunks:
            self.to_board(self.board.report(name, trunk.Health(True, "ok"), self.now, self.unix))
        self.to_board(self.board.set_active(True, self.now, self.unix))

    @property
    def unix(self) -> float:
        return UNIX + self.now

    def __getitem__(self, name: str) -> Person:
        return self.people[name]

    def dial(self, name: str, number: str) -> UUID:
        person = self.people[name]
        id, orders = person.phone.dial(number, person.name, self.now, self.unix)
        self.to_person(person, orders)
        return id

    def do(self, name: str, what: str, *arguments: str) -> None:
        person = self.people[name]
        self.to_person(person, getattr(person.phone, what)(*arguments, self.now, self.unix))

    def to_person(self, person: Person, orders: Sequence[Any]) -> None:
        for order in orders:
            if not isinstance(order, Mail):
                person.seen.append(order)
            elif self.chance.random() >= self.loss:
                self._queue.append((None, (order, person.source)))

    def to_board(self, orders: Sequence[Any]) -> None:
        for order in orders:
            self.orders.append(order)
            match order:
                case Mail():
                    for person in self.people.values():
                        if (
                            order.stream in (person.phone.stream, notice_stream("g"))
                            and self.chance.random() >= self.loss
                        ):
                            self._queue.append((person, order))
                case switchboard.AskTrunk(name, request):
                    self.asked.append((name, request))
                    if name not in self.dead:
                        reports = self.trunks[name].ask(request, self.now)
                        self._queue += [(None, (name, report)) for report in reports]
                case switchboard.Record(record):
                    self.records[record.id] = record
                case switchboard.OpenSound(call, _, name, _):
                    self.sounding[call] = name
                case switchboard.CloseSound(call):
                    self.sounding.pop(call, None)

    def deliver(self) -> None:
        while self._queue:
            person, what = self._queue.pop(0)
            if person is not None:
                self.to_person(
                    person, person.phone.receive(what.payload, what.stream, 99, self.now, self.unix)
                )
            elif self.deaf:
                pass
            elif isinstance(what[0], Mail):
                mail, source = what
                assert mail.stream == group_stream("g")
                self.to_board(self.board.receive(mail.payload, mail.stream, source, self.now, self.unix))
            else:
                self.to_board(self.board.report(*what, self.now, self.unix))

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.deliver()
            self.now += STEP
            for name, each in self.trunks.items():
                if name not in self.dead:
                    self._queue += [(None, (name, report)) for report in each.tick(self.now)]
            for person in self.people.values():
                self.to_person(person, person.phone.tick(self.now, self.unix))
            if not self.deaf:
                self.to_board(self.board.tick(self.now, self.unix))
        self.deliver()

    def half_open(self) -> dict[str, int]:
        """What is left of calls, everywhere."""
        left = {name: len(each) for name, each in self.trunks.items()}
        left |= {person.name: len(person.phone._calls) for person in self.people.values()}
        left |= {"board": len(self.board), "sound": len(self.sounding)}
        return {name: count for name, count in left.items() if count}
