"""The streams of one connection: asked for, joined, refused.

A JOIN is answered by JOINED or ERROR.  One that is not answered in five seconds is asked again, since asking twice is harmless;
one that was refused is asked again later: access rules are reloaded, and limits make room.
"""

from collections.abc import Callable, Iterable
from random import Random

import attrs

from ice.link.event import JoinedReceived
from ice.link.message import ANY_SOURCE, Code, ErrorMessage
from ice.link.session import Session
from ice.streams.stream import RallypointStream
from ice.streams.words import plain

ANSWER_S = 5.0  # a Rallypoint answers within 250 ms, and one that is behind still lives
RETRY_S = 30.0  # after a refusal that takes a person to mend
LIMIT_RETRY_S = 1.0  # after a limit: doubled each time, up to RETRY_S
MAX_COMPLAINTS = 10  # logged per link; all are counted


@attrs.frozen
class Refusal:
    """A stream that a Rallypoint does not let us into; ``news`` is False when it said the same before."""

    stream: RallypointStream
    code: str
    why: str
    news: bool


@attrs.define
class _Refused:
    retry_at: float
    times: int
    code: str


class Joining:
    """Which streams are joined on one connection."""

    def __init__(
        self,
        session: Session,
        flush: Callable[[], None],
        *,
        random: Random,
        satellite: bool,
        clock: Callable[[], float],
    ) -> None:
        """``flush`` writes what the session wants to say; ``clock`` tells the time in seconds."""
        self._session = session
        self._flush = flush
        self._random = random
        self._satellite = satellite
        self._seconds = clock
        self._asked: dict[int, tuple[RallypointStream, float]] = {}
        self._joined: set[RallypointStream] = set()
        self._refused: dict[RallypointStream, _Refused] = {}
        self._complaints = 0
        self._repeated_at = float("-inf")

    @property
    def streams(self) -> frozenset[RallypointStream]:
        """The joined ones."""
        return frozenset(self._joined)

    def has(self, stream: RallypointStream) -> bool:
        """Whether ``stream`` is joined."""
        return stream in self._joined

    def ask(self, stream: RallypointStream) -> None:
        """JOIN."""
        source = (ANY_SOURCE if self._satellite else stream.source) if stream.talk else None
        txn = self._session.join(stream.stream_id, listen=stream.listen, talk=stream.talk, source=source)
        self._asked[txn] = (stream, self._seconds())
        self._flush()

    def leave(self, stream: RallypointStream) -> None:
        """LEAVE, where there is something to leave."""
        asked = [txn for txn, (other, _) in self._asked.items() if other is stream]
        for txn in asked:
            del self._asked[txn]
        self._refused.pop(stream, None)
        if asked or stream in self._joined:
            self._session.leave(stream.stream_id)
            self._flush()
        self._joined.discard(stream)

    def joined(self, event: JoinedReceived) -> RallypointStream | Refusal | None:
        """A JOINED: which stream it means, or None where it answers nothing that we still want."""
        asked = self._asked.pop(event.txn, None)
        if asked is None:
            return None
        stream = asked[0]
        if event.key != stream.key:
            why = f"its key of this stream is {event.key:016x}, ours {stream.key:016x}: one of us is mistaken"
            return self._refuse(stream, "bad-key", why)
        self._joined.add(stream)
        self._refused.pop(stream, None)
        return stream

    def error(self, error: ErrorMessage) -> Refusal | None:
        """An ERROR: the refusal of a stream, or None where it answers no JOIN."""
        asked = self._asked.pop(error.txn, None) if isinstance(error.txn, int) else None
        if asked is None:
            return None
        return self._refuse(asked[0], error.code, plain(error.message) or plain(error.code))

    def pulse(self) -> None:
        """Ask again where it is time."""
        now = self._seconds()
        unanswered = [txn for txn, (_, at) in self._asked.items() if now - at >= ANSWER_S]
        for txn in unanswered:
            self.ask(self._asked.pop(txn)[0])
        due = [stream for stream, refused in self._refused.items() if refused.retry_at <= now]
        for stream in due:
            self._refused[stream].retry_at = float("inf")  # until the answer
            self.ask(stream)

    def repeat(self, streams: Iterable[RallypointStream]) -> None:
        """The Rallypoint says that it does not know of a stream: ask for all on which we talk, now and then at most."""
        now = self._seconds()
        if now - self._repeated_at >= ANSWER_S:
            self._repeated_at = now
            for stream in list(streams):
                if stream.talk and stream in self._joined:
                    self.ask(stream)

    def complain(self) -> bool:
        """Whether one more ERROR of this far side is worth a line in the log."""
        self._complaints += 1
        return self._complaints <= MAX_COMPLAINTS

    def _refuse(self, stream: RallypointStream, code: str, why: str) -> Refusal:
        self._joined.discard(stream)
        before = self._refused.get(stream)
        times = before.times + 1 if before is not None else 1
        wait = min(RETRY_S, LIMIT_RETRY_S * 2 ** min(times - 1, 8)) if code == Code.LIMIT else RETRY_S
        retry_at = self._seconds() + wait * self._random.uniform(1.0, 1.5)
        self._refused[stream] = _Refused(retry_at, times, code)
        return Refusal(stream, code, why, news=before is None or before.code != code)
