"""The parrot: says back what one says, so that a lone person can check a radio, a headset and the network in ten seconds.

On its stream nobody hears anybody else. What a link sends is kept, with its timing, until the burst ends (its LAST flag, or
half a second of silence); then it is sent back with the same spacing to that link alone. The payloads are
opaque: what comes back is byte for byte what was said, under a source of the parrot's own with sequence numbers of its own,
for a client ignores frames of its own source. Who speaks while it plays is listened to, and the rest of what was played is dropped.

Everything is bounded: seconds and bytes of a burst (what is over is not kept; what was kept is played, and its last frame gets the
LAST flag), and talkers at a time (who finds the parrot busy gets no answer, which is counted).
"""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ice.link.frame import MEDIA, MEDIA_HEADER, Flag, media

COPIES_S = 0.1  # the end of a burst may be said more than once, 20 ms apart: it is remembered this long
SILENCE_S = 0.5  # a burst without LAST is over after this
MAX_BURST_S = 30.0
MAX_BURST_BYTES = 512 * 1024  # 30 s of uncompressed 8 kHz speech
MAX_TALKERS = 64  # 32 MB at worst

Talker = TypeVar("Talker", bound=Hashable)
Said = tuple[float, int, bytes]  # seconds after the first, flags, payload


class _Talk:
    """What is known of one talker: what it says now, or what is played to it."""

    __slots__ = (
        "began_at",
        "complete",
        "heard_at",
        "key",
        "played",
        "playing_since",
        "said",
        "sequence",
        "size",
        "source",
    )

    def __init__(self, key: int, source: int, now: float) -> None:
        self.key = key
        self.source = source
        self.sequence = 0
        self.listen(now)

    def listen(self, now: float) -> None:
        self.said: list[Said] = []
        self.size = 0
        self.began_at = self.heard_at = now
        self.complete = True
        self.played = 0
        self.playing_since: float | None = None


class Parrot(Generic[Talker]):
    """The engine: frames and the time go in, frames for talkers come out."""

    def __init__(self, new_source: Callable[[], int], *, max_talkers: int = MAX_TALKERS) -> None:
        """``new_source`` makes a source of the Rallypoint's own (u64)."""
        self._new_source = new_source
        self._max_talkers = max_talkers
        self._talks: dict[Talker, _Talk] = {}
        self.bursts_heard = 0
        self.bursts_played = 0
        self.frames_played = 0
        #: Frames that were not kept because too many talked at once, or the burst was too long.
        self.frames_dropped = 0

    @property
    def talkers(self) -> int:
        """Talkers that are listened or played to."""
        return len(self._talks)

    @property
    def deadline(self) -> float:
        """When :meth:`play` is due; never while nobody talks."""
        return min(map(_due, self._talks.values()), default=float("inf"))

    def heard(self, talker: Talker, frame: bytes, now: float) -> None:
        """``talker`` sent one whole MEDIA frame."""
        _, _, flags, key, _, _ = MEDIA.unpack_from(frame)
        talk = self._talks.get(talker)
        if talk is None:
            if len(self._talks) >= self._max_talkers:
                self.frames_dropped += 1
                return
            talk = self._talks[talker] = _Talk(key, self._new_source(), now)
            self.bursts_heard += 1
        elif talk.playing_since is not None:
            if flags & Flag.LAST and talk.said and frame[MEDIA_HEADER:] == talk.said[-1][2]:
                return  # one more copy of the end, which senders repeat on purpose
            talk.listen(now)
            self.bursts_heard += 1
        talk.heard_at = now
        size = len(frame) - MEDIA_HEADER
        if now - talk.began_at > MAX_BURST_S or talk.size + size > MAX_BURST_BYTES:
            talk.complete = False
            self.frames_dropped += 1
        else:
            talk.said.append((now - talk.began_at, flags, frame[MEDIA_HEADER:]))
            talk.size += size
        if flags & Flag.LAST:
            self._begin(talk, now)

    def play(self, now: float) -> list[tuple[Talker, bytes]]:
        """What is to be sent now: whole MEDIA frames, and to whom."""
        frames: list[tuple[Talker, bytes]] = []
        for talker, talk in list(self._talks.items()):
            if talk.playing_since is None:
                if _due(talk) > now:
                    continue
                self._begin(talk, now)
            while talk.played < len(talk.said) and _due(talk) <= now:
                frames.append((talker, self._next(talk)))
            if talk.played >= len(talk.said) and now >= _due(talk):
                self.bursts_played += 1
                del self._talks[talker]
        return frames

    def forget(self, talker: Talker) -> None:
        """The talker has left."""
        self._talks.pop(talker, None)

    def _begin(self, talk: _Talk, now: float) -> None:
        talk.playing_since = now
        if talk.said and not talk.complete:
            offset, flags, payload = talk.said[-1]
            talk.said[-1] = (offset, flags | Flag.LAST, payload)

    def _next(self, talk: _Talk) -> bytes:
        _, flags, payload = talk.said[talk.played]
        frame = media(flags, talk.key, talk.source, talk.sequence, payload)
        talk.played += 1
        talk.sequence = (talk.sequence + 1) & 0xFFFF_FFFF
        self.frames_played += 1
        return frame


def _due(talk: _Talk) -> float:
    if talk.playing_since is None:
        return talk.heard_at + SILENCE_S
    if talk.played >= len(talk.said):
        return talk.heard_at + COPIES_S
    return talk.playing_since + talk.said[talk.played][0]
