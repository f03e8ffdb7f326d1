"""What the three kinds of patch have in common: what is heard is admitted or refused, what goes out is sealed, time passes.

The way of a datagram, each step with the word under which it is counted where it ends there:

=======================================  ================================================================================
is the stream one of ours?               ``unknown-stream``
is it our own, come back?                ``own``
can it be opened?                        ``no-key``, or the lock's word (``tag``, ``replay``, ``clear`` …)
was it here before, by whatever stream?  ``circular`` (``late`` and ``jump`` where the window cannot tell); of sound in relay alone: what is said anew
                                         has no name that could come back
data, not sound: passed on as it is      –
has it come through us already?          ``via``, ``via-full``
is its talker another stream's?          ``twin``
may he talk now?                         ``floor`` (:mod:`ice.patch.floor`)
=======================================  ================================================================================

**Standing by** (``active`` false) a patch hears all of it, and says nothing: its windows, its floor and its replay windows are those of the
active one, so that it goes on with the next packet.

**Time.** :attr:`Junction.deadline` says when :meth:`Junction.tick` has something to do; infinity while nobody talks, so a thousand idle patches cost nothing.
"""

from __future__ import annotations

import heapq
import math
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypedDict

from ice.errors import LocalError
from ice.link.window import DUPLICATE, JUMP
from ice.media.burst import Sending
from ice.media.codecs import SAMPLE_RATE
from ice.media.floor import Claim, Granted, Refused
from ice.media.rtp import Talk
from ice.patch.announcement import Announcement, Playing
from ice.patch.channel import Channel, Leg, legs
from ice.patch.floor import PatchFloor, Verdict
from ice.patch.heading import DATA, Heading, heading
from ice.patch.keys import Locks
from ice.patch.loops import Loops, told_of_circle
from ice.patch.members import Joined, Members
from ice.patch.outcome import Loop, Out, PatchStatus, TalkerStatus
from ice.patch.plan import Patch, PatchRefused, check, check_streams
from ice.patch.probe import EVERY_S, MARK_BYTES, MAX_OTHERS, probe, read_probe
from ice.patch.speaker import Speaker
from ice.patch.via import CAME_BACK, TOO_FAR, Vias, identity_of
from ice.security.keyring import Keyring
from ice.streams.heard import Heard
from ice.streams.interface import Datagram

STEP_S: Final = 0.02  # how often sound is pulled
STEP: Final = SAMPLE_RATE * 20 // 1000
LATE_S: Final = 0.2  # a process that slept longer goes on with now
EPSILON_S: Final = 1e-6
SOURCES_MAX: Final = 512  # whose windows a patch remembers
QUEUE_MAX: Final = 4_096  # datagrams that wait for their time: copies of ends, and the last frames of bursts
OK, NONE = 1, 0  # states as the original's status counts them


class Admitted(NamedTuple):
    """A packet of sound that was let in: how it came, what was in it, and what the floor says of it."""

    joined: Joined
    datagram: Datagram
    payload: bytes
    head: Heading
    verdict: Verdict


class Setting(TypedDict, total=False):
    """What a patch may be given beside itself and its channels; see :class:`Junction`."""

    locks: Locks | None
    group_id: str
    chance: random.Random | None
    active: bool


class Junction(ABC):
    """One patch; see the module docstring, and the three kinds.

    ``channels`` tells of its streams (one that it does not tell of is as :class:`Channel` has it), ``locks`` keeps their keys, ``group_id`` is the
    group of servers that serve it. ``chance`` is where SSRCs and counts come from.

    Raises :class:`~ice.patch.plan.PatchRefused` for a patch that cannot be.
    """

    keeps_names = False  #: whether sound is passed on under the names that it has, not said anew under ours
    first_come = False  #: see :class:`~ice.patch.floor.PatchFloor`

    def __init__(
        self,
        patch: Patch,
        channels: Mapping[str, Channel],
        *,
        locks: Locks | None = None,
        group_id: str = "",
        chance: random.Random | None = None,
        active: bool = True,
    ) -> None:
        refusal = check(patch) or check_streams(patch, channels)
        if refusal is not None:
            raise PatchRefused(refusal)
        locks = locks if locks is not None else Locks()
        self.patch = patch
        self.active = active
        #: Who we are in the ``via`` of what we say anew: the patch, on whatever server of its group.
        self.identity = identity_of(group_id, patch.id)
        self.chance: random.Random = chance if chance is not None else random.SystemRandom()
        self._members = Members(patch, channels, locks)
        self._joined = self._members.joined
        self.floor = PatchFloor(
            full_duplex=self._members.full_duplex,
            first_come=self.first_come,
            one_stream=not self.keeps_names,
            max_rx_s=self._members.max_rx_s,
        )
        self._legs = legs(joined.channel for joined in self._joined.values())
        self._vias = Vias(self.identity)
        self._loops = Loops(patch.id)
        self._heard = Heard(SOURCES_MAX)
        self._own_sources: dict[str, int] = {}
        self._own_source_set: frozenset[int] = frozenset()
        self._own_ssrc = self._new_ssrc()
        self._probed_at = -math.inf
        self._mark = self.chance.getrandbits(8 * MARK_BYTES).to_bytes(MARK_BYTES, "big")
        self._others: dict[bytes, None] = {}
        self._playing: Playing | None = None
        self._own_speakers: list[tuple[Speaker, tuple[str, ...]]] = []
        self._next_pull = math.inf
        self._queue: list[tuple[float, int, tuple[str, ...], int, bytes]] = []
        self._queued = 0
        self._aliases: dict[int, str] = {}
        #: Datagrams that were refused before it was known whose they are, and what was given up, by reason.
        self.refused: Counter[str] = Counter()
        #: Announcements, by how they ended: ``said``, ``cut``, ``refused``.
        self.announced: Counter[str] = Counter()
        for leg in self._legs:
            self._try(leg)
        self._prepare()

    def __repr__(self) -> str:
        return f"<{self.patch.mode} patch {self.patch.id!r} of {len(self._joined)} streams>"

    # -- in ----------------------------------------------------------------------------------------------------------

    def named(self, stream_id: str, source: int) -> None:
        """Under which source we talk on a stream; what comes under it by another stream is our own, come back."""
        self._own_sources[stream_id] = source
        self._own_source_set = frozenset(self._own_sources.values())

    def path(self, stream_id: str, up: bool, why: str) -> None:
        """The way to a stream has opened or closed."""
        joined = self._joined.get(stream_id)
        if joined is not None:
            joined.why = why
            if joined.up is not up:
                joined.up = up
                self._members.forget_ways()

    def datagram(self, stream_id: str, datagram: Datagram, now: float, unix_s: float) -> list[Out]:
        """Take a datagram as it was heard on a stream (sealed as it is there) at ``now``; ``unix_s`` is the time of day, for keys."""
        joined = self._joined.get(stream_id)
        if joined is None:
            self.refused["unknown-stream"] += 1
            return []
        rx, wire = joined.rx, datagram.payload
        rx.packets += 1
        rx.bytes += len(wire)
        if datagram.source in self._own_source_set:
            return self._refuse(joined, "own", now)
        payload = joined.lock.open(wire, unix_s)
        if isinstance(payload, str):
            return self._refuse(joined, payload, now)
        data = datagram.flags & DATA
        if self.keeps_names or data:
            seen = self._heard.ask(datagram.source, datagram.sequence, now)
            if seen:
                word = "circular" if seen is DUPLICATE else "jump" if seen is JUMP else "late"
                return self._refuse(joined, word, now)
        if data and self._comes_back(payload):
            return self._refuse(joined, "own", now)
        if data:
            return self._pass_on(joined, datagram, payload, unix_s)
        head = heading(payload, datagram.flags)
        if head is None:
            if self._comes_back(payload):
                return self._refuse(joined, "own", now)
            if not self.keeps_names:
                return self._refuse(joined, "not-rtp", now)
            return self._pass_on(joined, datagram, payload, unix_s)  # unread: it holds no floor
        if head.ssrc == self._own_ssrc:
            return self._refuse(joined, "own", now)
        talk = head.talk
        if talk is not None or len(self._vias):
            talker = stream_id, datagram.source, head.ssrc
            word = self._vias.ask(talker, talk, now)
            if word == CAME_BACK or (word == TOO_FAR and not self.keeps_names):
                return self._refuse(joined, word, now, self._vias.way(talker))
            if talk is not None and talk.alias:
                self._name(head.ssrc, talk.alias)
        verdict = self.floor.heard(stream_id, datagram.source, head, now)
        if verdict is Verdict.TWIN:
            return self._refuse(joined, verdict.value, now)
        outs = self._take(Admitted(joined, datagram, payload, head, verdict), now, unix_s)
        if now - self._probed_at >= EVERY_S and self.active:
            self._probed_at = now
            outs = outs + self._members.spoken(
                tuple(self._joined), DATA, probe(self.identity, self._mark), unix_s
            )
        return outs

    def passed_before(self, stream_id: str, now: float) -> None:
        """A stream has refused a datagram that we wanted to pass on there, because it had carried it before (``forward`` gave False while it was up)."""
        joined = self._joined.get(stream_id)
        if joined is not None:
            joined.tx.errors += 1
            self._loops.note("names", stream_id, now, self._others)

    def tick(self, now: float, unix_s: float) -> list[Out]:
        """What time has brought about: sound that is due, ends, announcements."""
        outs: list[Out] = []
        if now - self._next_pull > LATE_S:
            self.refused["slept"] += 1
            self._next_pull = now
        while self._next_pull <= now + EPSILON_S:
            at, self._next_pull = self._next_pull, self._next_pull + STEP_S
            outs += self._pull(at, unix_s)
            if not self._busy():
                self._next_pull = math.inf
        while self._queue and self._queue[0][0] <= now + EPSILON_S:
            _, _, streams, flags, payload = heapq.heappop(self._queue)
            outs += self._members.spoken(streams, flags, payload, unix_s)
        return outs

    @property
    def deadline(self) -> float:
        """When :meth:`tick` is due; infinity while nothing goes on."""
        return min(self._next_pull, self._queue[0][0] if self._queue else math.inf)

    # -- control -----------------------------------------------------------------------------------------------------

    def stand_by(self, now: float, unix_s: float) -> list[Out]:
        """Say nothing from now on, but hear; bursts of ours that are running are ended."""
        outs = self.close(now, unix_s)
        self.active = False
        return outs

    def take_over(self) -> None:
        """Speak from now on."""
        self.active = True

    def close(self, now: float, unix_s: float) -> list[Out]:
        """End all bursts of ours at once: the patch is switched off. What waited for its time goes out now."""
        outs = self._end_all(now, unix_s)
        if self._playing is not None:
            outs += self._end_announcement("cut", now, unix_s)
        while self._queue:
            _, _, streams, flags, payload = heapq.heappop(self._queue)
            outs += self._members.spoken(streams, flags, payload, unix_s)
        self._next_pull = math.inf
        return outs

    def rekey(self, stream_id: str, keyring: Keyring) -> None:
        """Use other keys on a keyed stream from now on. Raises :class:`~ice.errors.LocalError` for a stream that has none: its patch begins anew."""
        joined = self._joined[stream_id]
        if joined.lock.keyring is None:
            raise LocalError(f"stream {stream_id[:40]!r} had no key until now: switch its patch off and on")
        joined.lock.renew(keyring)
        self._members.forget_ways()

    def rename(self, patch: Patch) -> None:
        """Go on as ``patch``, which has the streams and the mode of ours; its name, and gains in the mode mixed, may be others."""
        self.patch = patch

    def announce(self, announcement: Announcement, now: float) -> Granted | Refused:
        """Say something on the streams, from the next :meth:`tick` on, which is due at once.

        Raises :class:`~ice.errors.LocalError` while we say something else, while we stand by, and for a stream that is not ours.
        """
        if not self.active:
            raise LocalError(f"patch {self.patch.id!r} stands by here; another server of its group announces")
        if self._playing is not None:
            raise LocalError(f"patch {self.patch.id!r} is saying something already; wait until it is over")
        for stream in announcement.streams:
            if stream not in self._joined:
                raise LocalError(f"stream {stream[:40]!r} is not in patch {self.patch.id!r}")
        claim = Claim(self._own_ssrc, announcement.priority, announcement.emergency)
        answer = self.floor.request(claim, now)
        if isinstance(answer, Refused):
            self.announced["refused"] += 1
            return answer
        self._playing = Playing(announcement)
        self._begin_announcement(announcement, now)
        self._wake(now)
        return answer

    # -- told --------------------------------------------------------------------------------------------------------

    @property
    def announcing(self) -> bool:
        """Whether an announcement is being said."""
        return self._playing is not None

    def loops(self) -> list[Loop]:
        """Circles that were noticed since this was last asked."""
        return self._loops.noticed()

    def status(self, now: float) -> PatchStatus:
        """The patch as it stands."""
        return PatchStatus(
            self.patch.id,
            self.patch.name,
            str(self.patch.mode),
            OK if self.active else NONE,
            self._members.status(says_anew=not self.keeps_names),
            tuple(
                TalkerStatus(
                    stream,
                    talking.claim.source,
                    self._aliases.get(talking.claim.source, ""),
                    talking.claim.priority,
                    talking.claim.emergency,
                    crosses,
                )
                for talking, stream, crosses in self.floor.talking(now)
            ),
            self._loops.counts.copy(),
        )

    # -- what the kinds do -------------------------------------------------------------------------------------------

    @abstractmethod
    def _prepare(self) -> None:
        """Make what this kind of patch has beyond the others."""

    @abstractmethod
    def _take(self, packet: Admitted, now: float, unix_s: float) -> list[Out]:
        """A packet of sound has come."""

    def _pull(self, at: float, unix_s: float) -> list[Out]:
        """The next step of sound."""
        return self._say_announcement(at, unix_s)

    def _busy(self) -> bool:
        """Whether there will be sound at the next step."""
        return self._playing is not None

    def _end_all(self, now: float, unix_s: float) -> list[Out]:
        """End the bursts of others that we say anew."""
        return []

    # -- announcements -----------------------------------------------------------------------------------------------

    def _begin_announcement(self, announcement: Announcement, now: float) -> None:
        talk = Talk(announcement.alias, announcement.priority, via=(self.identity,))
        wanted = announcement.streams or tuple(self._joined)
        self._own_speakers = []
        for leg in self._legs:
            streams = tuple(
                stream
                for stream in leg.streams
                if stream in wanted and not self._joined[stream].silent_because
            )
            if streams:
                speaker = Speaker(leg.voice, leg.voice.encoder(), self._own_ssrc, talk, self.chance)
                speaker.press(talk, announcement.emergency, now)
                self._own_speakers.append((speaker, streams))

    def _say_announcement(self, at: float, unix_s: float) -> list[Out]:
        playing = self._playing
        if playing is None:
            return []
        if self.floor.own is None:
            return self._end_announcement("cut", at, unix_s)
        tones, silent, digits = playing.take(STEP)
        outs: list[Out] = []
        for speaker, streams in self._own_speakers:
            if digits:
                speaker.dial(digits, at)
            outs += self._send(streams, speaker.say(silent if speaker.dials else tones, at), at, unix_s)
        if playing.over and not any(speaker.dialling for speaker, _ in self._own_speakers):
            outs += self._end_announcement("said", at, unix_s)
        return outs

    def _end_announcement(self, how: str, now: float, unix_s: float) -> list[Out]:
        self._playing = None
        self.announced[how] += 1
        self.floor.release(now)
        outs: list[Out] = []
        for speaker, streams in self._own_speakers:
            outs += self._send(streams, speaker.release(now), now, unix_s)
        self._own_speakers = []
        return outs

    # -- out ---------------------------------------------------------------------------------------------------------

    def _send(
        self, streams: tuple[str, ...], sendings: Iterable[Sending], now: float, unix_s: float
    ) -> list[Out]:
        """What is due goes out, what is not yet waits for :meth:`tick`."""
        outs: list[Out] = []
        for sending in sendings:
            if sending.due <= now + EPSILON_S:
                outs += self._members.spoken(streams, sending.flags, sending.payload, unix_s)
            elif len(self._queue) >= QUEUE_MAX:
                self.refused["queue"] += 1
            else:
                self._queued += 1
                heapq.heappush(
                    self._queue, (sending.due, self._queued, streams, sending.flags, sending.payload)
                )
        return outs

    def _pass_on(self, joined: Joined, datagram: Datagram, payload: bytes, unix_s: float) -> list[Out]:
        """A datagram as it is, to all other streams."""
        return self._members.pass_on(joined, datagram, payload, unix_s) if self.active else []

    # -- within ------------------------------------------------------------------------------------------------------

    def _refuse(self, joined: Joined, word: str, now: float, through: tuple[bytes, ...] = ()) -> list[Out]:
        if not self.active and told_of_circle(word):
            return []  # what the active server passes on, which is just what keeps us from saying it twice
        joined.refused[word] += 1
        others = [each for each in through if each != self.identity] or self._others
        self._loops.refused(word, joined.channel.stream_id, now, others)
        return []

    def _comes_back(self, payload: bytes) -> bool:
        """Whether that is a probe of ours; another patch that has one on our streams is remembered."""
        found = read_probe(payload)
        if found is None:
            return False
        other, mark = found
        if mark == self._mark:
            return True
        if other != self.identity:
            self._others.pop(other, None)
            self._others[other] = None
            if len(self._others) > MAX_OTHERS:
                del self._others[next(iter(self._others))]
        return False

    def _wake(self, now: float) -> None:
        if self._next_pull == math.inf:
            self._next_pull = now

    def _new_ssrc(self) -> int:
        return self.chance.getrandbits(32)

    def _name(self, ssrc: int, alias: str) -> None:
        self._aliases.pop(ssrc, None)
        self._aliases[ssrc] = alias
        if len(self._aliases) > SOURCES_MAX:
            del self._aliases[next(iter(self._aliases))]

    def _try(self, leg: Leg) -> None:
        """Find out now whether we can speak there."""
        try:
            leg.voice.encoder()
        except LocalError as error:
            for stream in leg.streams:
                self._joined[stream].silent_because = str(error)
