"""``ice watch``: who is active on which multicast group, live: senders, codecs, rates, loss, jitter.

It joins the groups like any listener and sends nothing. What it tells is what arrives *here*: a talker whom the table does not show has not reached
this machine, which is the first thing to know about a radio that nobody hears.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import click
from twisted.internet.task import LoopingCall

from ice.cli.boards import Board, board_for, print_table
from ice.cli.display import plural
from ice.cli.loop import Stop, first, sleep
from ice.cli.mission_source import password_options
from ice.cli.options import config_option, json_option, once_options, verbosity
from ice.cli.watch_board import Row, ScreenBoard, drawn, loss_percent, name_of, plain_table, row_of
from ice.cli.watch_groups import Watched, watchlist
from ice.errors import LocalError
from ice.net.addresses import Address
from ice.net.capture import MIN_BYTES, Capture, Keep
from ice.net.interfaces import InterfaceWatch
from ice.net.multicast import MulticastSocket
from ice.streams.activity import Activity, Began, Voice, total

POLLS_PER_S: Final = 4  # how often it is looked who is active, and the table is drawn
SHOWN_S: Final = 60.0  # a voice silent for longer is in the summary only


@click.command()
@click.argument("groups", nargs=-1, metavar="[GROUP|MISSION]...")
@config_option
@click.option(
    "--interface", "-i", metavar="NAME", default="", help="Network interface of groups that name none."
)
@once_options("table")
@click.option(
    "--capture",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what comes into FILE for Wireshark (pcap), mode 0600, with FILE.old as its older half.",
)
@click.option(
    "--capture-bytes",
    type=click.IntRange(MIN_BYTES),
    default=50_000_000,
    show_default=True,
    help="Bytes that the two files may have together; the oldest half goes.",
)
@password_options
@json_option
def watch(
    groups: tuple[str, ...],
    config: Path | None,
    interface: str,
    once: float | None,
    seconds: float | None,
    capture: Path | None,
    capture_bytes: int,
    ask: bool,
    password_file: Path | None,
    as_json: bool,
) -> int:
    """Show who is active on multicast groups: 239.1.2.3:5004, 239.1.2.3:5004@eth0, or all groups of a mission's file.

    Without any, the groups of the reflector's rules in the configuration. Nothing is sent. What a reflector of this machine sends into a group is heard here too. Ctrl-C ends it. Exit status 0 when it
    ended as asked, 1 when none of the groups could be heard.
    """
    from ice.cli import loop
    from ice.config.load import load, load_if_any

    loaded = load_if_any(config) if groups else load(config)
    found = watchlist(groups, loaded, interface=interface, ask=ask, password_file=password_file)

    async def main(reactor: Any, stop: loop.Stop) -> int:
        with contextlib.ExitStack() as held:
            board = board_for(
                ScreenBoard, "who is active", as_json=as_json, live=once is None, broken=stop.ask
            )
            held.callback(board.close)
            for remark in found.remarks:
                board.say("remark", remark, remark=remark)
            file = None if capture is None else Capture(capture, max_bytes=capture_bytes, keep=Keep.LAST)
            if file is not None:
                held.callback(file.close)
            picture = Picture(reactor, found.groups, board, capture=file)
            picture.start()
            try:
                await picture.until(stop, seconds if once is None else once)
            finally:
                picture.stop()
            return picture.summarise(table=once is not None and not as_json)

    return loop.run(main, verbosity=verbosity())


@attrs.define(eq=False)
class _Group:
    """One group as it is watched."""

    watched: Watched
    activity: Activity
    socket: MulticastSocket | None = None
    up: bool = False
    ever_up: bool = False
    why: str = "not tried yet"


class Picture:
    """Sockets and activities of some groups, shown on a board: :meth:`start`, :meth:`until`, :meth:`stop`, :meth:`summarise`."""

    def __init__(
        self,
        reactor: Any,
        groups: Sequence[Watched],
        board: Board[Row],
        *,
        interfaces: InterfaceWatch | None = None,
        capture: Capture | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._board = board
        self._capture = capture
        self._captured = False  # it is told that it has ended
        self._wall = wall
        interfaces = interfaces if interfaces is not None else InterfaceWatch(reactor)
        self._groups = [
            _Group(each, Activity(sealed=each.place.sealed, codecs=each.codec_name)) for each in groups
        ]
        for each in self._groups:
            each.socket = MulticastSocket(
                reactor,
                each.watched.place,
                None,
                partial(self._path, each),
                received_many=partial(self._heard, each),
                talk=False,
                watch=interfaces,
            )

    def start(self) -> None:
        """Join the groups."""
        for each in self._groups:
            assert each.socket is not None
            each.socket.start()

    def stop(self) -> None:
        """Leave them."""
        for each in self._groups:
            assert each.socket is not None
            each.socket.stop()

    async def until(self, stop: Stop, seconds: float | None) -> None:
        """Show what happens until a person or the time says that it is enough."""
        loop = LoopingCall(self.look)
        loop.clock = self._reactor
        running = loop.start(1 / POLLS_PER_S)
        try:
            waits: list[Any] = [stop.wait(), running]
            if seconds is not None:
                waits.append(sleep(self._reactor, seconds))
            await first(*waits)
        finally:
            if loop.running:
                loop.stop()

    def look(self) -> None:
        """Tell what has happened, and draw the table."""
        now = self._reactor.seconds()
        if self._capture is not None:
            self._capture.flush()
            if self._capture.why and not self._captured:
                self._captured = True
                self._board.say(
                    "capture", f"the capture has ended: {self._capture.why}", why=self._capture.why
                )
        for each in self._groups:
            for event in each.activity.look(now):
                self._tell(each, event.voice, None if isinstance(event, Began) else event.seconds)
        self._board.rows(self.rows(now))

    def rows(self, now: float) -> list[Row]:
        """The table."""
        rows = []
        for each in self._groups:
            title = each.watched.title
            shown = [voice for voice in each.activity.voices(now) if now - voice.heard_at <= SHOWN_S]
            if not each.up:
                rows.append(Row(title, each.why, trouble=True))
            elif not shown:
                rows.append(Row(title, "nobody"))
            rows += [row_of(title, voice, now) for voice in shown]
        return rows

    def summarise(self, *, table: bool) -> int:
        """What was heard in all; the exit status."""
        now = self._reactor.seconds()
        if table:
            print_table(drawn, plain_table, self.rows(now), "who is active")
        every = [(each, each.activity.voices(now)) for each in self._groups]
        heard = sum(bool(voices) for _, voices in every)
        count = sum(len(voices) for _, voices in every)
        packets = sum(each.activity.packets for each in self._groups)
        words = f"{plural(count, 'voice')} on {heard} of {plural(len(self._groups), 'group')}, {plural(packets, 'packet')}"
        dropped = sum(each.socket.counts.kernel_dropped for each in self._groups if each.socket is not None)
        if dropped:
            words += f"; {plural(dropped, 'packet')} came faster than this program reads"
        if self._capture is not None:
            words += f"; {plural(self._capture.packets, 'packet')} in {self._capture.path}"
        fields = {
            "voices": count,
            "packets": packets,
            "dropped": dropped,
            "groups": [self._facts(each, voices, now) for each, voices in every],
        }
        if self._capture is not None:
            fields["captured"] = self._capture.packets
        if table:
            print(words, file=sys.stderr)
        else:
            self._board.say("summary", words, **fields)
        if not any(each.ever_up for each in self._groups):
            raise LocalError(f"no group could be heard: {self._groups[0].why}")
        return 0

    # -- inside

    def _heard(self, group: _Group, datagrams: list[tuple[bytes, Address]]) -> None:
        now, heard = self._reactor.seconds(), group.activity.heard
        for data, sender in datagrams:
            heard(data, sender, now)
        if self._capture is not None:
            wall = self._wall()
            for data, sender in datagrams:
                self._capture.add(wall, sender, group.watched.address, data)

    def _path(self, group: _Group, up: bool, why: str) -> None:
        group.up, group.why = up, why
        group.ever_up |= up
        words = f"listening: {why}" if up else f"cannot listen to {group.watched.title}: {why}"
        self._board.say("path", words, **self._where(group), up=up, why=why)

    def _tell(self, group: _Group, voice: Voice, seconds: float | None) -> None:
        name, where = name_of(voice), group.watched.title
        fields = self._where(group) | _voice(voice, self._reactor.seconds())
        if seconds is None:
            self._board.say("began", f"{where}: {name} begins ({voice.codec})", **fields)
            return
        words = f"{where}: {name} ended: {seconds:.1f} s, {plural(voice.burst_packets, 'packet')}"
        if voice.ssrc is not None:
            words += f", {voice.burst_lost} lost"
        if voice.jitter_ms is not None:
            words += f", jitter {voice.jitter_ms:.1f} ms"
        told = {"seconds": seconds, "burst_packets": voice.burst_packets, "burst_lost": voice.burst_lost}
        self._board.say("ended", words, **fields, **told)

    @staticmethod
    def _where(group: _Group) -> dict[str, object]:
        watched, sock = group.watched, group.socket
        interface = watched.place.interface if sock is None else sock.status().interface
        return {"group": str(watched.address), "name": watched.name, "interface": interface}

    def _facts(self, group: _Group, voices: Sequence[Voice], now: float) -> dict[str, object]:
        activity = group.activity
        packets, kbit = total(voices)
        return self._where(group) | {
            "up": group.up,
            "why": group.why,
            "packets": activity.packets,
            "bytes": activity.bytes,
            "rtcp": activity.control,
            "packets_per_s": packets,
            "kbit_per_s": kbit,
            "voices": [_voice(voice, now) for voice in voices],
        }


def _voice(voice: Voice, now: float) -> dict[str, object]:
    """A voice for machines."""
    return {
        "sender": str(voice.sender),
        "ssrc": None if voice.ssrc is None else f"{voice.ssrc:08x}",
        "alias": voice.alias,
        "codec": voice.codec,
        "active": voice.active,
        "packets": voice.packets,
        "bytes": voice.bytes,
        "packets_per_s": voice.packets_per_s,
        "kbit_per_s": voice.kbit_per_s,
        "lost": None if voice.ssrc is None else voice.lost,
        "lost_percent": None if voice.ssrc is None else loss_percent(voice),
        "jitter_ms": voice.jitter_ms,
        "heard_ago_s": max(0.0, now - voice.heard_at),
    }
