"""What ``ice call``, ``ice answer`` and ``ice phone`` share: a telephone with its network, and what a person is told of it.

The telephone itself is :class:`ice.telephony.phone.Phone`; what it sees is told here in words (:meth:`Telephone.see`), and each command waits for what it wants (:meth:`Telephone.news`).
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import attrs
import click
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from ice.cli.display import Display, Meter, display_for, plural
from ice.cli.loop import Stop, first, run, sleep
from ice.cli.mouth import alias_of
from ice.cli.options import config_option, json_option, timeout_option, verbosity
from ice.cli.telephone_sound import Earpiece, sink_of, voice_of
from ice.cli.voice import Way, playout_of
from ice.config.load import Loaded, load
from ice.errors import LocalError
from ice.media.payload import Pcm
from ice.printable import printable
from ice.streams.connect import certificates_of, network_of
from ice.telephony.believed import gateways_of
from ice.telephony.call import Ended, Progress
from ice.telephony.causes import Cause
from ice.telephony.handset import Incoming, KeysHeard, Over, Reachable, Shown
from ice.telephony.phone import Path as Ways
from ice.telephony.phone import Phone, Seen

TIMEOUT_S: Final = 10.0
GATEWAY_S: Final = 6.0  # three hellos
METERS_PER_S: Final = 12
VOICE_S: Final = 0.01  # between two looks at what is said
LEAST_S: Final = (
    1e-3  # between two looks at what is due: a time that is nearly over is not waited for in circles
)
LINGER_S: Final = 5.5  # until the end of a call is confirmed, or believed without that (ice.telephony.states.Timing.release_s)

#: Exit statuses: what became of a call.
TALKED, FAULT, NOT_TAKEN, NOT_ALLOWED, INTERRUPTED = 0, 1, 3, 4, 130
_NOT_TAKEN: Final = frozenset(
    {Cause.BUSY, Cause.REJECTED, Cause.NO_ANSWER, Cause.CALL_WAITING, Cause.GLARE, Cause.ANSWERED_ELSEWHERE}
)
_NOT_ALLOWED: Final = frozenset(
    {Cause.UNKNOWN_NUMBER, Cause.INVALID_NUMBER, Cause.FORBIDDEN, Cause.UNREACHABLE}
)
_WORDS: Final = {
    Progress.RINGING: "it rings",
    Progress.EARLY: "not answered yet, but to be heard",
    Progress.ANSWERED: "answered",
    Progress.HELD: "the other side holds the call",
    Progress.RESUMED: "the other side goes on with the call",
    Progress.TRANSFERRING: "the line is being handed over",
    Progress.TRANSFER_FAILED: "the line was not handed over",
}
_C = TypeVar("_C", bound=Callable[..., Any])


@attrs.frozen
class Wishes:
    """What was asked for on the command line."""

    config: Path | None
    group: UUID | None
    name: str | None
    file: Path | None
    loop: int
    out: Path | None
    microphone: str | None
    loudspeaker: str | None
    silent: bool
    timeout_s: float
    as_json: bool


def telephone_options(command: _C) -> _C:
    """Add the options that all three have; the command receives ``wishes``."""

    @config_option
    @click.option("--group", type=click.UUID, help="Id of the gateways' server group.  [telephone.group]")
    @click.option("--name", help="Name that the others see.  [identity.alias]")
    @click.option(
        "--file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Say this WAV file instead of talking.",
    )
    @click.option(
        "--loop", type=click.IntRange(1, 1_000_000), default=1, help="Say the file so many times.  [1]"
    )
    @click.option(
        "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write what is heard into a WAV file."
    )
    @click.option(
        "--microphone", metavar="DEVICE", help="Number or part of its name (python -m sounddevice)."
    )
    @click.option("--loudspeaker", metavar="DEVICE", help="Likewise.")
    @click.option(
        "--silent",
        is_flag=True,
        help="Use no sound device: say silence where there is no file, play nothing.",
    )
    @timeout_option(TIMEOUT_S, into="timeout_s")
    @json_option
    @functools.wraps(command)
    def wished(**given: Any) -> Any:
        wishes = Wishes(**{field.name: given.pop(field.name) for field in attrs.fields(Wishes)})
        return command(wishes=wishes, **given)

    return wished  # type: ignore[return-value]  # click has put its options on it


def seconds_option(name: str, help: str) -> Callable[[_C], _C]:
    """Add an option that says how long; ``--ring`` is received as ``ring_s``."""
    return click.option(
        name, f"{name.lstrip('-')}_s", type=click.FloatRange(0.1), metavar="SECONDS", help=help
    )


# The telephone


def group_of(loaded: Loaded, given: UUID | None) -> str:
    """The gateways' group; raises :class:`~ice.errors.LocalError` where none is named."""
    group = given or loaded.config.telephone.group
    if group is None:
        raise LocalError(
            f"which gateway? Put the id of its server group (or of its certificate, where it is alone) into {loaded.path}, "
            'as  group = "…"  under [telephone], or name it with --group'
        )
    return str(group)


class Telephone:
    """A telephone at work; made by :func:`on_the_phone`."""

    def __init__(self, reactor: Any, stop: Stop, display: Display, way: Way, group: str) -> None:
        self.reactor, self.stop, self.display = reactor, stop, display
        self.group = group
        self.way = way
        #: How the latest call ended; none while there is one, or was none.
        self.ended: Ended | None = None
        #: When the call was answered.
        self.answered_at: float | None = None
        #: Who calls, until the call is answered or over.
        self.incoming: Incoming | None = None
        #: Whether the person does not want to be heard.
        self.muted = False
        #: Shows how things are.
        self.look: Callable[[], None] = lambda: display.meters(self.meters())
        self.phone: Phone
        self.network: Any
        self.stuck: Callable[[], Deferred[None]]
        self._waiting: list[Deferred[None]] = []
        self._talked_s = 0.0

    # -- what happens

    def see(self, seen: Seen) -> None:
        """Tell a person, and whoever waits for news."""
        say = self.display.say
        match seen:
            case Ways(up, why):
                self.way.path(up, why)
            case Reachable(up, why):
                if not self.way.leaving:
                    say("gateway", why, up=up, why=why)
            case Incoming():
                self.ended = self.answered_at = None
                self.incoming = seen
                say(
                    "incoming", f"{caller(seen)} calls",
                    call=str(seen.call), number=seen.number, name=seen.name, dialled=seen.dialled,
                )  # fmt: skip
            case Shown(call, progress, cause):
                if progress is Progress.ANSWERED:
                    self.talking()
                why = f": {cause.text}" if cause is not None else ""
                say(str(progress), _WORDS[progress] + why, call=str(call), cause=cause and str(cause))
            case KeysHeard(_, digits):
                say("keys", f"the other side pressed {digits}", digits=digits)
            case Over(call, ended):
                self._over(call, ended)
        standing = self.phone.call
        if self.incoming is not None and standing is not None and standing.answered:
            self.talking()  # both have called each other, and so the telephone has answered by itself
            say("answered", "answered: you were calling each other", call=str(standing.id))
        self._wake()

    def _wake(self) -> None:
        for _ in range(len(self._waiting)):  # who waits again waits for the next news
            if self._waiting:
                self._waiting.pop(0).callback(None)

    def talking(self) -> None:
        """The call is answered, by whomever."""
        self.incoming = None
        self.answered_at = self.reactor.seconds()

    def _over(self, call: UUID, ended: Ended) -> None:
        self.ended, self.incoming = ended, None
        self._talked_s = 0.0 if self.answered_at is None else self.reactor.seconds() - self.answered_at
        how = f" after {self._talked_s:.1f} s" if self.answered_at is not None else ""
        statistics = self.phone.statistics
        fields: dict[str, object] = {}
        words = ""
        if statistics is not None and self.answered_at is not None:
            heard = statistics.heard
            fields = {
                "sent": statistics.sent, "unsent": statistics.unsent, "heard": heard.datagrams, "missed": heard.missed,
                "late": heard.counters.late, "concealed_ms": heard.counters.concealed_ms, "cut_s": statistics.cut_s,
            }  # fmt: skip
            words = f"; heard {plural(heard.datagrams, 'packet')}, {heard.missed} lost, {heard.counters.late} late"
        self.display.say(
            "over", f"ended{how}: {ended.cause.text}{words}",
            call=str(call), cause=str(ended.cause), text=ended.cause.text, by=ended.by and str(ended.by),
            answered=self.answered_at is not None, seconds=self._talked_s, **fields,
        )  # fmt: skip

    def news(self) -> Deferred[None]:
        """Fires when something has been seen; cancel it when it is not wanted any more."""
        deferred: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(deferred)
        return deferred

    async def wait(self, seconds: float | None = None) -> None:
        """Until there are news, we are asked to stop, or the time is over. Raises :class:`~ice.errors.LocalError` when what is heard can be written nowhere."""
        waits = [self.news(), self.stop.wait(), self.stuck()]
        if seconds is not None:
            waits.append(sleep(self.reactor, max(LEAST_S, seconds)))
        await first(*waits)

    # -- what commands do

    async def found(self, timeout_s: float) -> bool:
        """Wait for the way and the gateway; false when we are asked to stop first. Raises :class:`~ice.errors.LocalError` that says what to check."""
        if not await self.way.opened(self.reactor, self.stop, timeout_s, self.network):
            return False
        until = self.reactor.seconds() + GATEWAY_S
        while not self.phone.gateway and not self.stop.asked:
            if self.reactor.seconds() >= until:
                raise LocalError(self.no_gateway())
            await self.wait(until - self.reactor.seconds())
        return not self.stop.asked

    def no_gateway(self) -> str:
        """What to check where none answers."""
        return (
            f"no gateway of group {self.group} answers: is that the id of its server group (or of its certificate, where it is alone), does "
            "ice-gateway run, is it active (ice status --calls there), is it on the same Rallypoints, and do its clock and ours agree within two minutes?"
        )

    def dial(self, number: str) -> None:
        """Call a number."""
        self.ended = self.answered_at = None
        id = self.phone.dial(number)
        self.display.say("calling", f"calling {printable(number)}", call=str(id), number=number)

    def answer(self) -> bool:
        """Take the call that rings."""
        self.answered_at = None
        if not self.phone.answer():
            return False
        self.talking()
        self.display.say("answered", "answered")
        self._wake()
        return True

    async def hang_up(self) -> None:
        """End the call there is, and wait for its end to be confirmed."""
        self.phone.hang_up()
        await first(self.phone.idle(), sleep(self.reactor, LINGER_S))

    @property
    def mouth(self) -> Callable[[Pcm], None] | None:
        """Who hears what the person says; none where nobody does."""
        return self.phone.say if self.phone.talking and not self.muted else None

    def meters(self) -> list[Meter]:
        """How loud both sides are."""
        if self.phone.call is None:
            return []
        said, heard = self.phone.levels_dbov
        seconds = 0.0 if self.answered_at is None else self.reactor.seconds() - self.answered_at
        statistics = self.phone.statistics
        packets, lost, late = 0, 0, 0
        if statistics is not None:
            packets, lost = statistics.heard.datagrams, statistics.heard.missed
            late = statistics.heard.counters.late
        return [
            Meter("we", said, seconds, statistics.sent if statistics is not None else 0),
            Meter(self.phone.number or "withheld", heard, seconds, packets, lost, late),
        ]

    def status(self) -> int:
        """The exit status that says what became of the latest call."""
        if self.ended is None:
            return INTERRUPTED if self.stop.asked else FAULT
        cause = self.ended.cause
        if self.answered_at is not None:
            return TALKED if cause in (Cause.HUNG_UP, Cause.TRANSFERRED, Cause.TOO_LONG) else FAULT
        if cause is Cause.CANCELLED and self.stop.asked:
            return INTERRUPTED
        if cause in _NOT_TAKEN or cause is Cause.CANCELLED:
            return NOT_TAKEN
        return NOT_ALLOWED if cause in _NOT_ALLOWED else FAULT


def caller(incoming: Incoming) -> str:
    """Who calls, for people."""
    number = printable(incoming.number) or "somebody who withholds the number"
    return f"{number} ({printable(incoming.name)})" if incoming.name else number


@contextlib.asynccontextmanager
async def on_the_phone(
    reactor: Any, stop: Stop, wishes: Wishes, display: Display, *, takes_calls: bool = True
) -> AsyncIterator[Telephone]:
    """A telephone, running: everything that was opened is closed at the end, and a call that stands is hung up first.

    :attr:`Telephone.look` is called often, to show how things are.
    """
    loaded = load(wishes.config)
    group = group_of(loaded, wishes.group)
    credentials, trust = certificates_of(loaded.config, datetime.now(UTC))
    with contextlib.ExitStack() as held:
        voice = held.enter_context(voice_of(wishes.file, wishes.loop, wishes.microphone, wishes.silent))
        sink = held.enter_context(sink_of(wishes.out, wishes.loudspeaker, wishes.silent))
        way = Way(display, f"the telephones of {group[:8]}")
        network = network_of(loaded, reactor, on_notice=way.notice)
        telephone = Telephone(reactor, stop, display, way, group)
        phone = Phone(
            reactor, network, group, credentials, lambda: trust, telephone.see,
            wall=time.time, alias=alias_of(loaded, wishes.name), jitter_max_ms=loaded.config.media.jitter_max_ms,
            takes_calls=takes_calls, gateways=gateways_of(loaded.config, group),
        )  # fmt: skip
        telephone.phone, telephone.network = phone, network
        playout = playout_of(reactor, phone if wishes.out is not None else Earpiece(phone), sink)
        telephone.stuck = playout.stuck
        loops = (
            LoopingCall(lambda: voice.turn(reactor.seconds(), telephone.mouth)),
            LoopingCall(lambda: telephone.look()),  # noqa: PLW0108 - it may be another one later
        )
        network.start()
        phone.start()
        playout.start()
        for loop, every_s in zip(loops, (VOICE_S, 1 / METERS_PER_S), strict=True):
            loop.clock = reactor
            loop.start(every_s, now=False)
        try:
            yield telephone
        finally:
            way.leaving = True
            await phone.stop()
            playout.stop()
            for loop in loops:
                loop.stop()
            await network.stop()


def at_the_telephone(
    wishes: Wishes,
    title: str,
    doing: Callable[[Telephone], Coroutine[Deferred[Any], Any, int]],
    *,
    takes_calls: bool,
) -> int:
    """Do something with a telephone whose gateway answers; the exit status. ``takes_calls``: whether it rings when somebody calls."""

    async def main(reactor: Any, stop: Stop) -> int:
        display = display_for(title, as_json=wishes.as_json, broken=stop.ask)
        with contextlib.closing(display):
            async with on_the_phone(reactor, stop, wishes, display, takes_calls=takes_calls) as telephone:
                if await telephone.found(wishes.timeout_s):
                    return await doing(telephone)
                return telephone.status()

    return run(main, verbosity=verbosity())


def keyboard() -> int | None:
    """The terminal that a person types at; none where there is none."""
    return sys.stdin.fileno() if sys.stdin.isatty() else None
