"""The name of a datagram that was heard on a local network, made of the datagram itself.

On a network of Rallypoints a datagram has a name, source and sequence, and whoever has seen a name lets no second datagram of it pass.  On a
multicast group there are none.  So whoever brings a datagram in names it, and *two reflectors that hear the same datagram give it the same name*: then it
does not matter that both bring it.

**Source.**  64 bits of SHA-256 over the group (``rx``), the sender's address, the SSRC, and the day (UTC) on which that talker was first heard.  Where RTP cannot be
read, the sender's port stands in place of the SSRC.  The stream has no part in it: where two streams are tied to one group, and a patch ties them together, what comes round has the name it had.  Where
two networks have the same groups and addresses, a name of the ``site`` tells them apart.

**Sequence.**  RTP's number, unwrapped.  The first of a talker stands in a block of 65,536 that the time of day gives, a new one every four seconds.  So a
reflector that starts again is ahead of where it was, never behind: everybody's windows would otherwise refuse what it brings for as long as it lasts.  Where RTP's numbers begin somewhere else (a radio that counts
from 0 at every press), ours go on by one.  Where RTP cannot be read, the sequence is our own count.

**Agreeing.**  Two reflectors may have met a talker on different days, or one has missed a datagram just where numbers began anew.  Each hears on the stream what the other brings, bytes that
it knows under a name that it could have given itself (:meth:`Naming.elsewhere`).  Then the smaller source is taken by both, and of two sequences the one ahead.  That takes one
datagram and no message of ours; nobody else's names are ever taken.

A talker who was silent for an hour is a new one, as for every window.  Talkers are bounded; those silent longest are forgotten first.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from ice.reflector.statistics import Reception

MAX_TALKERS: Final = 1_024  # of one rule; some radios take a new SSRC for each burst; 0.4 MiB
MAX_OPAQUE: Final = 256  # senders known not to speak RTP
FORGET_S: Final = 3_600.0  # as long as a window remembers where a source stands
MAX_STEP: Final = 1_000  # an RTP number further ahead than this is a new beginning
MAX_BACK: Final = (
    64  # or further back than this: a local network does not overtake by more than a few packets
)
OVERTAKEN_S: Final = 0.2  # or back at all, after so much silence
BLOCK_S: Final = 4  # a day has 21,600 blocks of 65,536, less than half of what 32 bits can order
DAY_S: Final = 86_400
DAYS: Final = 8  # a talker without an hour of silence for longer is met again by chance only
_U32: Final = 0xFFFF_FFFF
_HALF: Final = 0x8000_0000


class Talker:
    """Somebody who is heard on a group: the name, and where the numbers are."""

    __slots__ = ("at", "high", "host", "key", "last", "local", "offset", "reception", "source")

    def __init__(self, host: str, key: str, source: int, offset: int) -> None:
        self.host = host
        #: What tells the talker from others of that host: SSRC or port, as text.
        self.key = key
        self.source = source
        #: From our own numbers (:attr:`local`) to those of the name; what agreeing changes.
        self.offset = offset
        #: When last heard; the highest RTP number, unwrapped or -1; what follows it is numbered from ``local``.
        self.at = 0.0
        self.high = -1
        self.local = 0
        self.last = 0
        self.reception = Reception()

    def named(self, local: int) -> int:
        """The sequence of the datagram that is ``local`` in our own numbers."""
        return (local + self.offset) & _U32

    def number(self, rtp: int, now: float) -> int:
        """Our own number of the datagram that has the RTP number ``rtp`` (u16)."""
        high = self.high
        if high < 0:
            self.high = self.last = rtp
            self.local = 0
            self.at = now
            return rtp
        step = ((rtp - high + 0x8000) & 0xFFFF) - 0x8000
        if step == 1:
            self.high = high + 1
        elif step > 0:
            if step > MAX_STEP:
                return self._anew(rtp, now)
            self.high = high + step
        elif step < -MAX_BACK or now - self.at > OVERTAKEN_S:
            return self._anew(rtp, now)
        else:
            self.at = now
            return high + step + self.local
        self.at = now
        self.last = self.high + self.local
        return self.last

    def _anew(self, rtp: int, now: float) -> int:
        """RTP's numbers begin somewhere else; ours go on."""
        self.at = now
        self.last += 1
        self.high = rtp
        self.local = self.last - rtp
        return self.last

    def count(self, now: float) -> int:
        """Our own count."""
        self.at = now
        self.last += 1
        return self.last


class Naming:
    """Names of what is heard on one group.  ``now`` is steady, ``wall`` gives seconds since 1970 and is asked for new talkers only."""

    def __init__(
        self, group: str, wall: Callable[[], float], *, site: str = "", max_talkers: int = MAX_TALKERS
    ) -> None:
        self._begin = b"ice reflector 1\0" + site.encode() + b"\0" + group.encode() + b"\0"
        self._wall = wall
        self._max_talkers = max_talkers
        self._talkers: dict[tuple[str, int], Talker] = {}
        self._opaque: dict[tuple[str, int], None] = {}
        self.forgotten = 0  #: talkers forgotten since there were too many
        self.agreed = 0  #: times that another reflector's name was taken

    def __len__(self) -> int:
        return len(self._talkers)

    @property
    def talkers(self) -> tuple[Talker, ...]:
        """All that are remembered."""
        return tuple(self._talkers.values())

    def of_rtp(self, host: str, ssrc: int, now: float) -> Talker:
        """Who speaks RTP from ``host`` with this SSRC."""
        talker = self._talkers.get((host, ssrc))
        if talker is None or now - talker.at > FORGET_S:
            talker = self._met(host, ssrc, f"{ssrc:08x}", now)
        return talker

    def of_opaque(self, host: str, port: int, now: float) -> Talker:
        """Who sends from there what cannot be read."""
        talker = self._talkers.get((host, ~port))
        if talker is None or now - talker.at > FORGET_S:
            talker = self._met(host, ~port, f":{port}", now)
        return talker

    def speaks_rtp(self, host: str, port: int) -> bool:
        """Whether nobody has ever heard from there what cannot be RTP: ciphertext looks like it now and then."""
        return not self._opaque or (host, port) not in self._opaque

    def unreadable(self, host: str, port: int) -> None:
        """From there came what cannot be RTP."""
        opaque = self._opaque
        if (host, port) not in opaque:
            if len(opaque) >= MAX_OPAQUE:
                del opaque[next(iter(opaque))]
            opaque[host, port] = None

    def elsewhere(
        self, talker: Talker, local: int, source: int, sequence: int, *, follow: bool = False
    ) -> bool:
        """What ``talker`` said, our own number ``local``, is on the stream under this name: whether a reflector has named it, with which we now agree.

        ``follow``: we send nothing now, so the other's name counts in any case.
        """
        ahead = (sequence - talker.named(local)) & _U32
        if source != talker.source:
            if source not in self._names(talker):
                return False
            if source > talker.source and not follow:
                return True  # the other will take ours
        elif ahead == 0 or (ahead >= _HALF and not follow):
            return True
        self.agreed += 1
        talker.source = source
        talker.offset = (talker.offset + ahead) & _U32
        return True

    def given_to(self, hosts: tuple[str, ...], ssrc: int, source: int) -> bool:
        """Whether a reflector that hears the same group would give ``source`` to RTP that one of ``hosts`` sends into the group."""
        key = f"{ssrc:08x}"
        return any(source in self._sources(_plain(host), key) for host in hosts)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _met(self, host: str, number: int, key: str, now: float) -> Talker:
        talkers = self._talkers
        if len(talkers) >= self._max_talkers and (host, number) not in talkers:
            by_age = sorted(talkers.items(), key=lambda item: item[1].at)
            gone = max(1, len(by_age) // 2)
            self.forgotten += gone
            self._talkers = talkers = dict(by_age[gone:])
        day, second = divmod(int(self._wall()), DAY_S)
        source = self._source(_plain(host), key, day)
        talker = talkers[host, number] = Talker(host, key, source, second // BLOCK_S << 16)
        talker.at = now
        return talker

    def _names(self, talker: Talker) -> frozenset[int]:
        """Every source that a reflector may have given this talker."""
        return self._sources(_plain(talker.host), talker.key)

    def _sources(self, host: str, key: str) -> frozenset[int]:
        today = int(self._wall()) // DAY_S
        # Tomorrow as well: another's clock may be ahead of ours.
        return frozenset(self._source(host, key, day) for day in range(today - DAYS + 1, today + 2))

    def _source(self, host: str, key: str, day: int) -> int:
        digest = sha256(self._begin + f"{host}|{key}|{day}".encode()).digest()
        return int.from_bytes(digest[:8], "big")


def _plain(host: str) -> str:
    """An address without the zone, which each machine numbers for itself."""
    return host.partition("%")[0]
