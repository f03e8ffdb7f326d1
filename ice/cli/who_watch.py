"""The driver of ``ice who``: a presence group and the talkers of a mission, on a board, and in files."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
from twisted.internet.task import LoopingCall

from ice.cli.boards import Board, print_table
from ice.cli.display import plural
from ice.cli.loop import Stop, first, sleep
from ice.cli.who_board import Row, drawn, plain_table, rows_of, sentence, voice_of
from ice.cli.who_machine import connectivity, power
from ice.errors import LocalError
from ice.mission.announcing import Manner
from ice.mission.chart import facts, geojson, layout, png, svg
from ice.mission.identity import stream_id
from ice.mission.model import Group, GroupType
from ice.mission.people import Happened, State, What
from ice.mission.presence import Descriptor, Location
from ice.mission.talkers import Talker, Talkers, talks
from ice.net.clock import Clock
from ice.streams.interface import Datagram
from ice.streams.presence import Presence
from ice.streams.sealed import CLEAR, Sealing
from ice.streams.words import plain

if TYPE_CHECKING:
    from ice.cli.voice import Way

POLLS_PER_S: Final = 4  # how often it is looked who talks, and the table is drawn
UNDERSTOOD: Final = ("heard", "sent", "unsent", "echo", "ignored")  # counts that are no trouble
WRITTEN_EVERY_S: Final = 5.0  # a map, at most: a PNG of a large team takes half a second
MACHINE_EVERY_S: Final = 20.0  # how often battery and network are looked at
ALONE_S: Final = 5.0  # beyond an interval without anybody: worth a word


@attrs.frozen
class Wishes:
    """What was asked for; times in seconds."""

    once_s: float | None
    seconds: float | None
    timeout_s: float | None
    as_json: bool
    map: Path | None
    geojson: Path | None
    talkers: bool
    me: Descriptor | None
    emergency: bool
    here: Location | None


class Watch:
    """Who is there, shown. :meth:`join`, then start the team; :meth:`leave` before it is stopped."""

    def __init__(
        self,
        clock: Any,
        team: Any,
        group: Group,
        wishes: Wishes,
        board: Board[Row],
        way: Way,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._team = team
        self._group = group
        self._wishes = wishes
        self._board = board
        self._way = way
        self._wall = wall
        self._manner = Manner.of(group.presence)
        self._groups = {stream_id(each.id): each.name for each in team.mission.groups}
        self._talkers = Talkers()
        self._talking: dict[tuple[str, int, int], Talker] = {}
        self._away: set[str] = set()
        self._began: float | None = None
        self._told_alone = self._told_clock = False
        self._written_at = float("-inf")
        self._written: tuple[int, int] | None = None
        self._changes = 0
        self.presence = Presence(
            clock,
            manner=self._manner,
            me=wishes.me,
            on_events=self._happened,
            on_path=self._path,
            wall=wall,
            ignored=[each.node_id for each in group.ignore_sources],
        )

    # -- beginning and end

    def join(self) -> None:
        """Join the mission control group, and the audio groups to see who talks."""
        for remark in self._team.remarks:
            words = f"{remark.path}: {remark.text}"
            self._board.say("remark", plain(words), remark=words)
        self._write(force=True)  # what cannot be written is known now, not when it is needed
        self.presence.join(self._team, stream_id(self._group.id))
        if not self._wishes.talkers:
            return
        for each in self._team.groups:
            if each.group.type in (GroupType.AUDIO, GroupType.UNKNOWN):
                self._team.join(each.stream_id, _Ear(each.stream_id, self._talkers, self._clock), talk=False)

    async def until(self, stop: Stop) -> None:
        """Show who is there until a person or the time says that it is enough."""
        began = self._clock.seconds()
        loop = LoopingCall(self._look)
        machine = LoopingCall(self._machine)
        machine.clock = self._clock
        if self._wishes.me is not None:
            machine.start(MACHINE_EVERY_S)
        loop.clock = self._clock
        running = loop.start(1 / POLLS_PER_S)
        try:
            waits: list[Any] = [stop.wait(), running]
            if self._wishes.seconds is not None:
                waits.append(sleep(self._clock, began + self._wishes.seconds - self._clock.seconds()))
            await first(*waits)
        finally:
            for each in (loop, machine):
                if each.running:
                    each.stop()

    def leave(self) -> None:
        """Say good-bye, and write the files a last time."""
        self.presence.leave()
        if self._began is not None:
            self._write(force=True)

    def summarise(self) -> None:
        """The team as it was at last."""
        now = self._clock.seconds()
        people = self.presence.people.everybody
        there = sum(each.present for each in people)
        alarmed = sum(each.emergency for each in people)
        if self._wishes.once_s is not None and not self._wishes.as_json:
            print_table(drawn, plain_table, self._rows(), f"{self._team.mission.name}: who is there")
        elif not self._wishes.as_json:
            self._board.close()
        counts = self.presence.counts
        refused = {key: n for key, n in sorted(counts.items()) if key not in UNDERSTOOD}
        refused |= {f"sealed-{key}": n for key, n in self._sealing().refused.items()}
        unread = ", ".join(f"{n} {key}" for key, n in refused.items())
        words = f"{plural(there, 'person') if there == 1 else f'{there} people'} there"
        words += f", {alarmed} in an emergency" if alarmed else ""
        words += f"; not understood: {unread}" if unread else ""
        fields: dict[str, Any] = {
            "there": there,
            "emergencies": alarmed,
            "heard": counts["heard"],
            "sent": counts["sent"],
            "refused": refused,
            "people": [facts(each, now, self._wall()) for each in people],
        }
        if self._wishes.as_json or self._wishes.once_s is None:
            self._board.say("team", words, **fields)
        else:
            print(words, file=sys.stderr)

    # -- what happens

    def _path(self, up: bool, why: str) -> None:
        sealing = self._sealing()
        self._way.path(up, f"{why}; {sealing.words}" if up else why)
        if not up or self._began is not None:
            return
        self._began = self._clock.seconds()
        interval = f"{self._manner.interval_s:g} s"
        if self._wishes.me is None:
            if not self._manner.listen_only:
                words = f"listening unseen: everybody announces every {interval}; with --announce NAME they answer at once"
                self._board.say("unseen", words, interval_s=self._manner.interval_s)
            return
        name = plain(self._wishes.me.identity.display_name)
        self._board.say(
            "announced", f"announced as '{name}'", name=name, node_id=self._wishes.me.identity.node_id
        )
        if self._wishes.emergency:
            self.presence.emergency(True)
            words = f"EMERGENCY raised as '{name}': Ctrl-C calls it off and leaves"
            self._board.say("raised", words, name=name)

    def _happened(self, events: list[Happened]) -> None:
        now, unix_s = self._clock.seconds(), self._wall()
        self._changes += 1
        for event in events:
            key = event.person.key
            # For people, late is not worth a line, and so coming back from it is none either: the table shows it.
            quiet = event.what is What.LATE or (event.what is What.BACK and key not in self._away)
            if event.what is What.CLOCK and self.presence.people.common_skew_s is not None:
                quiet = True  # it is ours that is wrong, and that is told below
            if event.person.state in (State.GONE, State.LEFT):
                self._away.add(key)
            else:
                self._away.discard(key)
            if quiet and not self._wishes.as_json:
                continue
            fields = facts(event.person, now, unix_s)
            self._board.say(str(event.what), sentence(event, now, self._wishes.here), **fields)

    def _machine(self) -> None:
        """Battery and network are told with the next word that is due: they change all the time."""
        assert self.presence.announcer is not None
        me = attrs.evolve(self.presence.announcer.me, power=power(), connectivity=connectivity())
        self.presence.change(me, soon=False)

    def _look(self) -> None:
        now = self._clock.seconds()
        people = self.presence.people
        talking = {(each.group, each.source, each.ssrc): each for each in self._talkers.talking(now)}
        for key, each in talking.items():
            if key not in self._talking:
                self._tell_talk("talks", each)
        for key, each in self._talking.items():
            if key not in talking:
                self._tell_talk("ended", each)
        self._talking = talking
        self._board.rows(self._rows())
        self._tell_once(now, len(people.everybody))
        self._write()

    def _tell_talk(self, event: str, talker: Talker) -> None:
        known = next((each for each in self.presence.people.everybody if talks(each, (talker,))), None)
        name = plain(known.name) if known is not None else voice_of(talker)
        group = self._groups.get(talker.group, talker.group)
        urgent = " [EMERGENCY]" if talker.emergency else ""
        words = f"{name} talks on {group}{urgent}" if event == "talks" else f"{name} has ended on {group}"
        node_id = known.descriptor.identity.node_id if known is not None else None
        self._board.say(
            event, plain(words), name=name, group=group, node_id=node_id, emergency=talker.emergency
        )

    def _tell_once(self, now: float, people: int) -> None:
        if not self._told_alone and not people and self._began is not None:
            waited = now - self._began
            if waited > self._manner.interval_s + ALONE_S:
                self._told_alone = True
                words = f"nobody has been heard for {waited:.0f} s{self._unread()}"
                self._board.say("alone", words, seconds=waited)
        skew = self.presence.people.common_skew_s
        if skew is not None and not self._told_clock:
            self._told_clock = True
            side = "behind" if skew > 0 else "ahead of"
            words = f"this machine's clock seems wrong: it is {abs(skew):.0f} s {side} everybody else's"
            self._board.say("own-clock", words, off_s=-skew)

    def _unread(self) -> str:
        refused = sum(self._sealing().refused.values())
        refused += sum(n for key, n in self.presence.counts.items() if key not in UNDERSTOOD)
        return (
            f"; {plural(refused, 'datagram')} came that this mission does not understand: another key?"
            if refused
            else ""
        )

    def _sealing(self) -> Sealing:
        for status in self._team.status():
            if status.failover.stream_id == stream_id(self._group.id):
                return cast(Sealing, status.sealing)
        return Sealing(CLEAR, False)

    # -- what is shown and written

    def _rows(self) -> list[Row]:
        now = self._clock.seconds()
        people = self.presence.people.everybody
        rows = rows_of(people, self._talkers.talking(now), self._groups, now, self._wishes.here)
        announcer = self.presence.announcer
        if announcer is not None:
            me = announcer.me
            status = ", ".join(filter(None, ("EMERGENCY" if announcer.emergency else "", me.comment)))
            rows.append(
                Row(f"{plain(me.identity.display_name)} (you)", plain(status), emergency=announcer.emergency)
            )
        return rows

    def _write(self, *, force: bool = False) -> None:
        wishes, now = self._wishes, self._clock.seconds()
        if wishes.map is None and wishes.geojson is None:
            return
        state = (self.presence.people.counts["heard"], self._changes)
        if not force and (now - self._written_at < WRITTEN_EVERY_S or state == self._written):
            return
        self._written_at, self._written = now, state
        people, unix_s = self.presence.people.everybody, self._wall()
        try:
            if wishes.geojson is not None:
                write_whole(wishes.geojson, geojson(people, now, unix_s).encode())
            if wishes.map is not None:
                shapes = layout(people, now, unix_s, self._team.mission.name)
                write_whole(wishes.map, _picture(wishes.map, shapes))
        except LocalError as error:
            if self._began is None:
                raise
            self._board.say("unwritten", str(error), why=str(error))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that whoever reads it sees the old one or the new one, whole; raises :class:`~ice.errors.LocalError`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise LocalError(f"{path}: cannot be written: {error.strerror or error}") from None


def _picture(path: Path, shapes: list[Any]) -> bytes:
    return png(shapes) if path.suffix.lower() == ".png" else svg(shapes).encode()


@attrs.frozen
class _Ear:
    """Notices who talks on one audio group: an :class:`ice.streams.interface.Receiver`."""

    group: str
    talkers: Talkers
    clock: Clock

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.talkers.heard(
            self.group, datagram.payload, datagram.flags, datagram.source, self.clock.seconds()
        )

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`: the path of mission control is told, the others' are not."""
