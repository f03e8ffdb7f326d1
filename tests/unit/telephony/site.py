"""A whole gateway with people's telephones on a network of streams in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from ice.media.payload import SAMPLE_RATE, Pcm
from ice.security.certificates import Role
from ice.streams.memory import MemoryNetwork
from ice.telephony.call import Progress, Released, Rings, Side, Timing
from ice.telephony.causes import Cause
from ice.telephony.handset import Incoming, Over, Shown
from ice.telephony.loopback_trunk import LoopbackTrunk
from ice.telephony.phone import Phone
from ice.telephony.plan import NumberPlan, Rule, Rules
from ice.telephony.post import Post
from ice.telephony.records import CallRecord, RecordStore, read
from ice.telephony.seams import MakeTrunk
from ice.telephony.service import Gateway
from ice.telephony.trunk import Dial, Ears, HangUp, Happened, Health, Report, Request
from tests.unit.telephony.people import SPACE, UNIX, credentials, envelopes, trust

GROUP = str(uuid5(SPACE, "group"))
STEP = 0.01
FRAME = SAMPLE_RATE // 50
PLAN = NumberPlan(
    "49",
    rules=(Rule(False, numbers=("666",)),),
    shown={uuid5(SPACE, "ada"): "7", uuid5(SPACE, "bob"): "8"},
    owners={"7": uuid5(SPACE, "ada"), "8": uuid5(SPACE, "bob")},
)
RULES = Rules(PLAN, Timing(setup_s=2.0, ring_s=10.0))


class Air(MemoryNetwork):
    """The network as a gateway has it."""

    why = "the test has cut it"
    homes = ()

    def start(self) -> None:
        """It is there."""

    def stop(self, reason: str = "") -> Deferred[None]:
        return succeed(None)


class Scripted:
    """A trunk whose far side is the test. Requests are kept; hang-ups are confirmed, and what is dialled rings, unless it is mute."""

    def __init__(self, name: str, clock: Clock, ears: Ears, *, rate: int = 8_000) -> None:
        self.name, self.rate = name, rate
        self.health = Health(False, "not started")
        self.asked: list[Request] = []
        self.said: list[UUID] = []
        self.found: list[Report] = []
        self.mute = self.broken = False
        self.stops = 0
        self.counters: Counter[str] = Counter()
        self.clock, self.ears = clock, ears
        self.closing: Deferred[None] = succeed(None)

    def start(self) -> None:
        if self.broken:
            raise RuntimeError("the port is taken")
        self.tell(Health(True, "connected"))
        for report in self.found:
            self.tell(report)

    def stop(self) -> Deferred[None]:
        self.stops += 1
        self.health = Health(False, "stopped")
        return self.closing

    def ask(self, request: Request) -> None:
        if self.broken:
            raise RuntimeError("the wire is cut")
        self.asked.append(request)
        if self.mute:
            return
        if isinstance(request, HangUp):
            self.tell(Happened(request.call, Released(Side.LINE)))
        elif isinstance(request, Dial):
            self.tell(Happened(request.call, Rings(Side.LINE)))

    def sound(self, call: UUID, samples: bytes) -> None:
        assert len(samples) == self.rate // 50 * 2
        self.said.append(call)

    def tell(self, report: Report) -> None:
        if isinstance(report, Health):
            self.health = report
        self.clock.callLater(0, self.ears.told, self, report)

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.asked if isinstance(each, kind)]


class Person:
    """Somebody with a telephone, who says something over and over, or nothing."""

    def __init__(self, site: Site, name: str) -> None:
        self.seen: list[Any] = []
        self.heard: list[Pcm] = []
        self.voice: Pcm | None = None
        self.phone = Phone(
            site.clock, site.air, GROUP, credentials(name), trust, self.seen.append, wall=site.wall, alias=name,
        )  # fmt: skip

    def turn(self, number: int) -> None:
        if self.voice is not None:
            start = number * FRAME % (len(self.voice) - FRAME)
            self.phone.say(self.voice[start : start + FRAME])
        pcm = self.phone.pull(FRAME)
        if self.phone.samples is not None:
            self.heard.append(pcm)

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.seen if isinstance(each, kind)]

    @property
    def steps(self) -> list[Progress]:
        return [shown.progress for shown in self.of(Shown)]

    @property
    def causes(self) -> list[Cause]:
        return [over.ended.cause for over in self.of(Over)]

    @property
    def rings(self) -> list[Incoming]:
        return self.of(Incoming)

    @property
    def sound(self) -> Pcm:
        return np.concatenate(self.heard) if self.heard else np.zeros(0, np.int16)


class Site:
    """People and gateways on one clock."""

    def __init__(self, *names: str, loss: float = 0.0, seed: int = 7) -> None:
        self.clock = Clock()
        self.air: Any = Air(self.clock, delay_s=0.003, loss=loss, seed=seed)
        self.turns = 0
        self.people = {name: Person(self, name) for name in names}
        for person in self.people.values():
            person.phone.start()
        self.gateways: list[Gateway] = []

    def wall(self) -> float:
        return UNIX + self.clock.seconds()

    def __getitem__(self, name: str) -> Person:
        return self.people[name]

    def loopback(self, rate: int = 8_000, ring_s: float = 0.1) -> MakeTrunk:
        return lambda ears: LoopbackTrunk("loopback", self.clock, ears, rate=rate, ring_s=ring_s)

    def scripted(self, name: str = "pbx", rate: int = 8_000) -> MakeTrunk:
        return lambda ears: Scripted(name, self.clock, ears, rate=rate)

    def gateway(
        self,
        *trunks: MakeTrunk,
        name: str = "gateway",
        rules: Rules = RULES,
        records: Path | None = None,
        elected: bool = False,
        start: bool = True,
        prepare: Callable[[Gateway], None] | None = None,
    ) -> Gateway:
        store = None if records is None else RecordStore(records, self.wall())
        post = Post(envelopes(name, Role.SATELLITE), self.wall() - 60)
        gateway = Gateway(
            self.clock,
            self.air,
            GROUP,
            post,
            rules,
            trunks or (self.loopback(),),
            records=store,
            elected=elected,
            wall=self.wall,
        )
        self.gateways.append(gateway)
        if prepare is not None:
            prepare(gateway)
        if start:
            gateway.startService()
            self.wait(0.1)
        return gateway

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.turns += 1
            if self.turns % 2:
                for person in self.people.values():
                    person.turn(self.turns // 2)
            self.clock.advance(STEP)

    def dial(self, name: str, number: str) -> UUID:
        return self.people[name].phone.dial(number)

    def half_open(self) -> dict[str, int]:
        """What is left of calls, everywhere."""
        left: dict[str, int] = {}
        for number, gateway in enumerate(self.gateways):
            left[f"board {number}"] = len(gateway.board)
            left[f"sounds {number}"] = len(gateway.sounds)
            for trunk in gateway.trunks.values():
                if isinstance(trunk, LoopbackTrunk):
                    left[f"trunk {number}"] = len(trunk.engine)
        for name, person in self.people.items():
            left[name] = person.phone.call is not None
        return {name: count for name, count in left.items() if count}


def records_of(path: Path) -> Sequence[CallRecord]:
    """The records of a file, the oldest first."""
    return read(path)[::-1]
