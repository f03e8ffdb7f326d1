"""A presence group on a stream: hears who is there, and says that we are, if we want to be seen.

The thin driver of two engines, :class:`~ice.mission.people.People` and :class:`~ice.mission.announcing.Announcer`, over any
:class:`~ice.streams.interface.Network`. Datagrams are sent with the flag ``DATA``, in an emergency with ``URGENT`` too; what is heard is read
whatever its flags, since a multicast group carries none. Sealing is the network's own affair.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from random import Random, SystemRandom
from typing import Final

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.mission.announcing import Announcer, Manner, Message
from ice.mission.people import MAX_PEOPLE, Happened, People, key_of
from ice.mission.presence import Descriptor, Kind, PresenceError
from ice.mission.presence_wire import read, write
from ice.net.clock import Clock, DelayedCall
from ice.streams.interface import Datagram, Network, Stream

READ_PER_S: Final = (
    400.0  # a thousand people who answer within five seconds are half of it; a flood is not read
)
LEAST_WAIT_S: Final = 0.01  # between two turns, whatever the engines say
ECHOES: Final = (
    8  # of our last words, by which an echo is known: what a reflector brings back comes within seconds
)
GOOD_BYES: Final = 2  # copies: nobody repeats it later


class Presence:
    """One presence group, heard and perhaps spoken on; an :class:`ice.streams.interface.Receiver`.

    ``me`` is what we tell of ourselves, or None to be there without being seen. ``on_events`` gets what happened, ``on_path`` how the path is;
    ``ignored`` are node ids that the mission wants nothing of (``ignoreSources``).
    Raises :class:`~ice.errors.LocalError` where ``me`` is given and the mission lets nobody announce, or ``me`` fits into no datagram.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        manner: Manner,
        me: Descriptor | None = None,
        on_events: Callable[[list[Happened]], None] = lambda events: None,
        on_path: Callable[[bool, str], None] = lambda up, why: None,
        wall: Callable[[], float] = time.time,
        random: Random | None = None,
        max_people: int = MAX_PEOPLE,
        ignored: Iterable[str] = (),
    ) -> None:
        if me is not None and manner.listen_only:
            raise LocalError(
                "this mission's presence group is for listening only (listenOnly): nobody announces there"
            )
        if me is not None:
            write(Kind.PRESENCE, me, manner.form)  # raises now what is too large for any datagram
        self._clock = clock
        self._wall = wall
        self._ignored = frozenset(key_of(each) for each in ignored if each)
        self._on_events = on_events
        self._on_path = on_path
        own = None if me is None else me.identity.node_id
        self.people = People(interval_s=manner.interval_s, max_people=max_people, own=own)
        self.manner = manner
        self.announcer = (
            None
            if me is None
            else Announcer(me, manner, random=random if random is not None else SystemRandom())
        )
        #: Datagrams ``heard``, ``sent``, ``unsent`` (no path); those refused, by :class:`~ice.mission.presence.Reason`; ``ignored``, ``echo`` (our own words, brought back), and ``flood`` for those unread.
        self.counts: Counter[str] = Counter()
        #: What had to be shortened in what we sent last, to fit into a datagram.
        self.shortened: tuple[str, ...] = ()
        self.up = False
        self._said: deque[bytes] = deque(maxlen=ECHOES)
        self._stream: Stream | None = None
        self._call: DelayedCall | None = None
        self._call_at = 0.0
        self._budget = READ_PER_S
        self._budget_at = clock.seconds()

    def join(self, network: Network, stream_id: str) -> None:
        """Join the group's stream; once."""
        assert self._stream is None, "a presence group is joined once"
        self._stream = network.join(stream_id, self, talk=self.announcer is not None)

    def leave(self) -> None:
        """Say good-bye, call off our emergency, and hear nothing any more; leaving twice is harmless."""
        if self._stream is None:
            return
        if self.announcer is not None and self.up:
            for message in self.announcer.leave(self._clock.seconds(), self._wall()):
                for _ in range(GOOD_BYES):
                    self._send(message)
        self._stream.leave()
        self._stream = None
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def change(self, me: Descriptor, *, soon: bool = True) -> None:
        """Something about us is different: others hear of it soon, or with our next word.

        Raises :class:`~ice.errors.LocalError` for what fits into no datagram.
        """
        assert self.announcer is not None, "nothing is announced here"
        write(Kind.PRESENCE, me, self.manner.form)
        self.announcer.change(me, self._clock.seconds(), soon=soon)
        self._turn()

    def emergency(self, on: bool) -> None:
        """Raise our emergency, or call it off: others hear of it at once."""
        assert self.announcer is not None, "nothing is announced here"
        self.announcer.emergency_is(on, self._clock.seconds())
        self._turn()

    # -- ice.streams.interface.Receiver

    def datagram(self, datagram: Datagram) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        now = self._clock.seconds()
        self.counts["heard"] += 1
        if not self._affordable(now):
            self.counts["flood"] += 1
            return
        if datagram.payload in self._said:
            self.counts["echo"] += 1
            return
        try:
            told = read(datagram.payload)
        except PresenceError as error:
            self.counts[error.reason.value] += 1
            return
        if self._ignored and key_of(told.descriptor.identity.node_id) in self._ignored:
            self.counts["ignored"] += 1
            return
        wish = self.people.hear(told, datagram.source, now, self._wall())
        if self.announcer is not None:
            self.announcer.heard()
            if wish:
                self.announcer.asked(now, len(self.people.present))
        self._turn()

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.up = up
        if up and self.announcer is not None:
            self.announcer.joined(self._clock.seconds())
        self._on_path(up, why)
        self._turn()

    # -- turning the engines

    def _affordable(self, now: float) -> bool:
        self._budget = min(READ_PER_S, self._budget + (now - self._budget_at) * READ_PER_S)
        self._budget_at = now
        if self._budget < 1:
            return False
        self._budget -= 1
        return True

    def _turn(self) -> None:
        """Do what is due, tell what happened, and come again in time."""
        if self._stream is None:
            return
        now = self._clock.seconds()
        self.people.tick(now)
        if self.announcer is not None and self.up:
            for message in self.announcer.due(now, self._wall()):
                self._send(message)
        events = self.people.events()
        if events:
            self._on_events(events)
        self._again(now)

    def _again(self, now: float) -> None:
        if self._stream is None:  # whoever was told of events may have left
            return
        ends = [
            self.people.next_at,
            self.announcer.next_at if self.announcer is not None and self.up else None,
        ]
        times = [at for at in ends if at is not None]
        pending = self._call is not None and self._call.active()
        if not times:
            return
        at = max(min(times), now + LEAST_WAIT_S)
        if pending:
            if self._call_at <= at:
                return  # it comes early, looks, and comes again
            assert self._call is not None
            self._call.cancel()
        self._call_at = at
        self._call = self._clock.callLater(at - now, self._turn)

    def _send(self, message: Message) -> None:
        assert self._stream is not None
        payload, self.shortened = write(message.kind, message.descriptor, self.manner.form)
        self._said.append(payload)
        flags = Flag.DATA | (Flag.URGENT if message.urgent else 0)
        self.counts["sent" if self._stream.send(payload, flags) else "unsent"] += 1
