"""All calls at an Asterisk: what is there after (re)connecting, what of it is ours, and what has to go. Engine: facts and answers in, requests and reports out; time is an argument.

One call is the affair of :mod:`ice.telephony.asterisk_calls`.

**Nothing is left over.** What is to go is *debris* until Asterisk has said that it is gone; a channel that comes into being after it was given up is ended on sight. When the event WebSocket is (again) connected,
lists of channels and bridges are asked for, and compared: calls of ours that are not there any more are over, what is there and unknown is either an answered call of a gateway that is no more
(:class:`~ice.telephony.trunk.Found`, by the note on its channel) or ended. Only then is the trunk up; who calls in that moment waits for it.

**While the WebSocket is away** calls go on: their sound has its own connections. One that cannot be asked about for :data:`LOST_S` is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID, uuid4

from ice.errors import RemoteError
from ice.telephony import ari
from ice.telephony.asterisk_call import Leg, Line, Output, Pair, Reply, Say, Step, Tag, Terms
from ice.telephony.asterisk_calls import CALLS_MAX, AsteriskCalls
from ice.telephony.asterisk_names import MEMO, NOBODY, Memo
from ice.telephony.call import HangsUp, Lost, Side
from ice.telephony.causes import Cause
from ice.telephony.trunk import Found

LINE: Final = Side.LINE
LOST_S: Final = 15.0  # without the event WebSocket: a restart of Asterisk, during which its calls end anyway, takes as long
LIST_AGAIN_S: Final = 1.0


class AsteriskEngine(AsteriskCalls):
    """The calls of one trunk, for the whole of its life; see the module docstring, and :class:`~ice.telephony.asterisk_calls.AsteriskCalls` for the arguments."""

    def __init__(self, terms: Terms, wall: Callable[[], float], new_id: Callable[[], UUID] = uuid4) -> None:
        super().__init__(terms, wall, new_id)
        self._listing = 0
        self._list_at: float | None = None
        self._channels: list[ari.Channel] = []
        self._bridges: dict[str, ari.Bridge] = {}
        self._asking: dict[str, ari.Channel] = {}  # channels whose notes were asked for
        self._early: dict[str, ari.Started] = {}  # who called before all was compared
        self._waited: frozenset[str] = frozenset()  # who of them had called when the list was asked for

    @property
    def pairs(self) -> int:
        """Calls that were handed over, and go on without us."""
        return len(self._pairs) // 2

    @property
    def ending(self) -> int:
        """Calls that were hung up, and whose end has not been confirmed yet."""
        return sum(line.ending is not None for line in self._lines.values())

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        dues = [due for due in (super().deadline, self._list_at) if due is not None]
        return min(dues, default=None)

    def tick(self, now: float) -> list[Output]:
        """Look at the clock."""
        if self._list_at is not None and now >= self._list_at:
            self._list()
        return super().tick(now)

    def linked(self, now: float) -> list[Output]:
        """The event WebSocket is connected, and our application registered: see what is there."""
        self._linked = True
        self._list()
        return self._flush()

    def unlinked(self, why: str, now: float) -> list[Output]:
        """The event WebSocket is not there (any more)."""
        self._linked = False
        self._list_at = None
        self._asking.clear()
        for line in self._lines.values():
            if line.lost_by is None and line.ending is None:
                line.lost_by = now + LOST_S
        self._healthy(False, why)
        return self._flush()

    def _started(self, channel: ari.Channel, args: tuple[str, ...], now: float) -> None:
        known = channel.id in self._of or channel.id in self._pairs or channel.id in self.debris
        ours = known or self.names.part(channel.id) is not None
        if self.health.up or not self._linked or ours or len(self._early) >= CALLS_MAX:
            super()._started(channel, args, now)
            return
        self._early[channel.id] = ari.Started(channel, args)
        if self._asking.pop(channel.id, None) is not None:  # the list was faster than the event
            self._settle(now)

    def _left(self, channel: str, now: float) -> None:
        self._early.pop(channel, None)
        super()._left(channel, now)

    def _gone(self, channel: str, cause: Cause, now: float) -> None:
        self._early.pop(channel, None)
        pair = self._pairs.get(channel)
        if pair is not None:
            self._unpair(pair, now)
        else:
            super()._gone(channel, cause, now)
        if self._asking.pop(channel, None) is not None:
            self._settle(now)

    def _unpair(self, pair: Pair, now: float) -> None:
        for channel in (pair.line, pair.target):
            if self._pairs.pop(channel, None) is not None:
                self.debris.channel(channel, Cause.HUNG_UP.q850, now)
        self.debris.bridge(pair.bridge, now)

    # -- after (re)connecting ------------------------------------------------------------------------------------------

    def _list(self) -> None:
        """Ask for all channels, then for all bridges."""
        self._list_at = None
        self._listing += 1
        self._asking.clear()
        self._waited = frozenset(self._early)
        self._out.append(Say(ari.CHANNELS, self._list_tag(Step.CHANNELS)))

    def _list_tag(self, step: Step) -> Tag:
        return Tag(step, NOBODY, str(self._listing))

    def _looked(self, tag: Tag, reply: Reply, now: float) -> None:
        if not self._linked or (tag.step is not Step.MEMO and tag != self._list_tag(tag.step)):
            return  # of an earlier connection: another list has been asked for
        try:
            if not reply.good and not (tag.step is Step.MEMO and reply.status == 404):  # 404: no note
                raise RemoteError(f"asked for its {tag.step.value}, it {reply}")
            if tag.step is Step.MEMO:
                self._noted(tag.id, ari.read_variable(reply.body).value if reply.good else "", now)
            elif tag.step is Step.CHANNELS:
                self._channels = ari.read_channels(reply.body)
                self._out.append(Say(ari.BRIDGES, self._list_tag(Step.BRIDGES)))
            else:
                self._bridges = {bridge.id: bridge for bridge in ari.read_bridges(reply.body)}
                self._compare(now)
                self._settle(now)
        except RemoteError as error:
            self.counters["unlisted"] += 1
            self._asking.clear()
            self._list_at = now + LIST_AGAIN_S
            self._healthy(False, f"the call manager does not say what is there: {error}")

    def _compare(self, now: float) -> None:
        """Calls that we know with channels that there are; notes are asked for where a channel is ours and unknown."""
        present = {channel.id: channel for channel in self._channels}
        for line in list(self._lines.values()):
            self._line_listed(line, present, now)
        for pair in set(self._pairs.values()):
            if pair.line not in present or pair.target not in present:
                self._unpair(pair, now)
        for id in self._waited.difference(present):  # it hung up while we heard nothing
            self._early.pop(id, None)
        for channel in self._channels:
            part = self.names.part(channel.id)
            if any(channel.id in known for known in (self._of, self._pairs, self.debris, self._early)):
                continue
            if part is not None and part[1] == "media":
                self.counters["swept"] += 1
                self.debris.channel(channel.id, Cause.GATEWAY_LOST.q850, now)
            elif part is not None and part[1] == "target":
                self._asking[channel.id] = channel  # of a pair, or alone: its line's note says so
            elif part is not None or channel.belongs(self.names.app):
                self._asking[channel.id] = channel
                self._out.append(Say(ari.get_variable(channel.id, MEMO), Tag(Step.MEMO, NOBODY, channel.id)))

    def _line_listed(self, line: Line, present: dict[str, ari.Channel], now: float) -> None:
        channel = present.get(line.leg.id)
        if line.ending is not None:
            if channel is None:
                self._released(line)
        elif channel is not None:
            line.lost_by = None
            line.leg.here |= channel.belongs(self.names.app)
            if line.outgoing and channel.state in ("Ringing", "Up"):
                self._of_line(line, ari.Changed(channel.id, channel.state), now)
            if line.media is not None and line.media.made and line.media.id not in present:
                self._drop_media(line, now)
            if line.media is None and (line.bridge_asked or line.answered):
                self._prepare(line)
            if line.target is not None and line.target.made and line.target.id not in present:
                self._transfer_failed(line, Cause.FAILED, now)
            self._go_on(line)
        elif line.leg.made:  # it ended while we heard nothing
            self._finish(line, HangsUp(LINE) if line.answered else Lost(LINE), now)
        else:
            line.lost_by = None

    def _noted(self, id: str, note: str, now: float) -> None:
        """What is noted on a channel that is ours and unknown."""
        channel = self._asking.get(id)
        if channel is None:
            return
        memo = Memo.read(note)
        if memo is not None and memo.handed and memo.handed in self._asking:
            pair = Pair(id, memo.handed, self.names.bridge(memo.call))
            self._pairs[pair.line] = self._pairs[pair.target] = pair
            self._asking.pop(memo.handed)
        elif memo is not None and channel.state == "Up" and not memo.handed and memo.call not in self._lines:
            self._find(channel, memo)
        else:
            self.counters["swept"] += 1
            self.debris.channel(id, Cause.GATEWAY_LOST.q850, now)
        self._asking.pop(id, None)
        self._settle(now)

    def _find(self, channel: ari.Channel, memo: Memo) -> None:
        bridge = self._bridges.get(self.names.bridge(memo.call))
        leg = Leg(channel.id, made=True, here=True, dialled=True)
        leg.joining = leg.joined = bridge is not None and channel.id in bridge.channels
        line = Line(
            memo.call, memo.direction, memo.number, leg, dialled=memo.dialled, user=memo.user, accepted=True, rang=True,
            bridge_asked=bridge is not None, bridge_up=bridge is not None,
            answered_unix_s=memo.answered_unix_s or self._wall(),
        )  # fmt: skip
        line.medias = self._used(memo.call, "media")
        line.targets = self._used(memo.call, "target")
        self._lines[line.id] = line
        self._of[leg.id] = line.id
        self._prepare(line)
        self._go_on(line)
        self._out.append(
            Found(line.id, line.direction, line.number, line.user, line.answered_unix_s, line.dialled)
        )

    def _used(self, call: UUID, part: str) -> int:
        """The highest number that a channel of a call has in the list, so that the next one's name is new."""
        ids = (channel.id for channel in self._channels if self.names.part(channel.id) == (call, part))
        return max((int(id.rpartition("-")[2]) for id in ids), default=0)

    def _settle(self, now: float) -> None:
        """All notes are read: end what belongs to nothing, and be up."""
        if any((part := self.names.part(id)) is None or part[1] != "target" for id in self._asking):
            return
        for id in list(self._asking):
            self.counters["swept"] += 1
            self.debris.channel(id, Cause.GATEWAY_LOST.q850, now)
        self._asking.clear()
        paired = {pair.bridge for pair in self._pairs.values()}
        for id in self._bridges:
            part = self.names.part(id)
            if (
                part is not None
                and not part[1]
                and part[0] not in self._lines
                and id not in paired
                and id not in self.debris
            ):
                self.counters["swept"] += 1
                self.debris.bridge(id, now)
        self._channels, self._bridges = [], {}
        if self._linked and self._list_at is None:
            self._healthy(True, "connected")
            early, self._early = self._early, {}
            for started in early.values():
                super()._started(started.channel, started.args, now)
