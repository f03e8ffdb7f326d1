"""Which Rallypoint to try next, and when: the addresses of a cluster as an engine, without I/O.

The driver (:class:`~ice.streams.homes.Homes`) asks and reports; the roster remembers::

    a link is missing   step = roster.next(now, busy)    Try(address), or Wait(until, why)
    it stands           roster.opened(address, now)      and is in use: a *home*
    it does not         roster.ended(address, now, …)    an attempt that failed, or a home that was lost
    WELCOME came        roster.learn(alternatives, …)    on whatever link
    nothing is missing  roster.better(now, busy)         an address to probe, under ``fail-back``, or None

**Rounds.**  A round tries every configured address once, one at once after the other, then the four learned ones that have worked last.  A link that
stood for a while and was lost begins a new round at once, with up to eight learned addresses, and the lost one last.  When a whole round has
failed there is a pause: short at first, growing, and drawn at random from its upper half, so that a thousand clients of a Rallypoint that comes
back do not knock together.  For the first 30 s of trouble a pause never exceeds 0.7 s: who restarts a Rallypoint has its
clients back within a second of its port opening.  After that pauses grow to ``back_off_max_s``; to ``probe_s`` at most while another home stands.
Where another home stands, the round begins within half a second, at random: those who have none shall not stand in line behind those who have one.

**Learned addresses** come from WELCOME and BYE (:mod:`ice.streams.ways`) and rank behind the configured ones.  They are tried in the pauses between rounds, so
that however many there are, and whatever becomes of them, no configured one waits for them: each once, and again after five seconds, then ever more
rarely; eight at a time at most.  Those in a BYE are tried before anything else.

**Who is asked to stay away, stays away.**  ``retry_after`` of a BYE keeps that one address out of the rounds for so long, and half a second or a quarter
more, at random: everybody was told the same.  A refusal that trying again cannot mend (a revoked certificate, another version) keeps it
out for the longest pause; the others are tried meanwhile.  An address that leads to a Rallypoint where we have a home already rests while that stands.

**Strategies** order the configured addresses.  ``fail-back``: every round begins with the first; while a home is at a later one, an earlier
one is probed every ``probe_s``, and the driver moves when the probe stands and nobody is talking.  An address that took us back
and dropped us soon is probed ever more rarely.  ``round-robin``: a round begins behind the address that was used last; nothing moves
back.  ``random``: a new order each round.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from random import Random

import attrs

from ice.errors import LocalError
from ice.link.message import Code
from ice.net.addresses import Address, parse_address
from ice.streams.ways import MAX_WAYS, Ways

DEFAULT_PORT = 7443
FIRST_TROUBLE_S = 30.0  # a restarted daemon, a rebooted switch: somebody is waiting for us to be back
FIRST_TROUBLE_WAIT_S = 0.7  # leaves 0.3 s for the handshake within the promised second
GROWTH = 1.6  # 0.1 s becomes 0.7 s in five rounds, and 30 s another nine rounds after the first trouble
SETTLED_S = 5.0  # a link that lived less is trouble going on, not a new one
MAX_STAY_AWAY_S = 300.0  # what a BYE can ask for at most
SPREAD_S = 0.5  # who was told the same moment comes within this: a thousand handshakes are some three seconds of a CPU
PROBE_GROWTH_LIMIT = 32  # times probe_s: an address that flaps is probed every five minutes at last
MAX_PROVEN = 4  # learned addresses that have worked and are tried in every round
FIRST_LEARNED = 8  # learned addresses tried before the one that was just lost
MAX_LEARNED_AT_ONCE = 8  # under way at one time: all may be inventions, or behind a firewall
LEARNED_PAUSE_S = 5.0  # before the others are tried again

#: Codes after which trying at once again is no use: of BYE, and of a TLS handshake that one side refused.
TERMINAL = frozenset(
    {
        *(Code.IDENTITY, Code.REVOKED, Code.DENIED, Code.VERSION, Code.ROLE, Code.ALPN, Code.DENIED_ADDRESS),
        *(
            "expired",
            "not-yet-valid",
            "unknown-authority",
            "no-certificate",
            "bad-certificate",
            "bad-identity",
        ),
        *("name-mismatch", "tls-version", "plain-http", "not-tls"),
    }
)

_NEVER = float("-inf")


class Strategy(StrEnum):
    """The order in which addresses are tried."""

    FAIL_BACK = "fail-back"
    ROUND_ROBIN = "round-robin"
    RANDOM = "random"


@attrs.frozen
class Try:
    """Connect to this address now."""

    address: Address


@attrs.frozen
class Wait:
    """Nothing to try before ``until``; ``why`` is the sentence of the last failure."""

    until: float
    why: str


@attrs.define
class _Standing:
    """What is remembered of one address."""

    not_before: float = _NEVER
    probe_after: float = _NEVER
    relapses: int = 0
    same_until: float = _NEVER  # it led to where we have a home already
    same_times: int = 0


def is_terminal(code: str) -> bool:
    """Whether trying at once again is no use after ``code`` (``told-…``: the far side said it in a TLS alert)."""
    return code.removeprefix("told-") in TERMINAL


class Roster:
    """The addresses of one cluster.  See the module's docstring for its use."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        strategy: Strategy = Strategy.FAIL_BACK,
        back_off_min_s: float = 0.1,
        back_off_max_s: float = 30.0,
        probe_s: float = 10.0,
        random: Random | None = None,
        ways: Ways | None = None,
    ) -> None:
        """``ways``: what is known of other ways already.  Raises :class:`LocalError` when there is no address."""
        if not addresses:
            raise LocalError("no Rallypoint to connect to: network.rallypoints is empty")
        self.configured = tuple(dict.fromkeys(addresses))
        self.strategy = strategy
        self.ways = ways if ways is not None else Ways()
        self.bad_alternatives = 0  #: alternatives that were no address, or no way that could lead anywhere
        #: The sentence of the last failure.
        self.why = "nothing has been tried yet"
        self._ranks = {address: rank for rank, address in enumerate(self.configured)}
        self._random = random if random is not None else Random()
        self._min_s = back_off_min_s
        self._max_s = back_off_max_s
        self._probe_s = probe_s
        self._standings: dict[Address, _Standing] = {}
        self._homes: dict[Address, float] = {}  # since when
        self._last: Address | None = None
        self._tried: set[Address] = (
            set()
        )  # in this round: two Rallypoints that drain must not send us to and fro
        self._round_at: float | None = None  # when the next round begins, between two
        self._wait_s = back_off_min_s
        self._trouble_since = _NEVER
        self._in_trouble = False
        self._hold_until = _NEVER  # while another home stands
        self._probe_at = float("inf")
        self._probing: Address | None = None
        self._queue: deque[Address] = deque()  # the rest of this round
        self._others: deque[Address] = deque()  # learned addresses whose turn it is in the pauses
        self._others_at = _NEVER  # when all others have a turn again
        self.restart()

    @property
    def learned(self) -> tuple[Address, ...]:
        """Addresses that are not configured, the most promising first."""
        return tuple(each for each in self.ways.addresses if each not in self._ranks)

    @property
    def known(self) -> tuple[Address, ...]:
        """Every address, the preferred first."""
        return self.configured + self.learned

    @property
    def current(self) -> Address | None:
        """The address of the oldest home, if there is one."""
        return next(iter(self._homes), None)

    def rank(self, address: Address) -> int:
        """Its place among the configured ones; behind them all for a learned one."""
        return self._ranks.get(address, len(self.configured))

    def outranks(self, address: Address, other: Address) -> bool:
        """Whether we would rather be at ``address`` than at ``other``."""
        return self.strategy is Strategy.FAIL_BACK and self.rank(address) < self.rank(other)

    # -- while a link is missing -------------------------------------------------------------------------------------

    def next(self, now: float, busy: Collection[Address] = ()) -> Try | Wait:
        """What to do now that a link is missing; ``busy``: addresses that are being dialled."""
        if self._homes and now < self._hold_until:
            return Wait(self._hold_until, self.why)
        if self._round_at is not None and now >= self._round_at:
            self._begin_round(now)
        if self._round_at is None:
            address = self._take(self._queue, now, busy)
            if address is not None:
                return Try(address)
            self._round_at = self._next_round(now)
        if sum(each not in self._ranks for each in busy) < MAX_LEARNED_AT_ONCE:
            address = self._take(self._others, now, busy)
            if address is not None:
                return Try(address)
        return Wait(self._round_at, self.why)

    def opened(self, address: Address, now: float, wall_s: float = 0.0) -> None:
        """The link to ``address`` stands and is in use; ``wall_s``: seconds since 1970."""
        self._last = address
        self._homes[address] = now
        if address in self._queue:
            self._queue.remove(address)
        self._probe_at = now + self._probe_s * self._random.uniform(1.0, 1.5)
        if address == self._probing:
            self._probing = None
        self.ways.worked(address, wall_s)

    def left(self, address: Address) -> None:
        """We have left a home for a better one: should that fail soon, all others are there at once."""
        self._homes.pop(address, None)
        self._queue = deque(self._order())

    def same(self, address: Address, now: float) -> None:
        """It leads to a Rallypoint where we have a home already: let it rest while that stands."""
        standing = self._standing(address)
        standing.same_times += 1
        times = min(2 ** min(standing.same_times - 1, 8), PROBE_GROWTH_LIMIT)
        standing.same_until = now + self._probe_s * times * self._random.uniform(1.0, 1.5)
        if address == self._probing:
            self._probing = None

    def ended(
        self,
        address: Address,
        now: float,
        *,
        code: str,
        why: str,
        retry_after_s: float | None = None,
        alternatives: Iterable[str] = (),
        wall_s: float = 0.0,
    ) -> None:
        """An attempt or probe failed, or a home was lost; ``why`` is a sentence for people."""
        standing = self._standing(address)
        self.why = why
        if is_terminal(code):
            standing.not_before = now + self._max_s * self._random.uniform(0.5, 1.0)
        if retry_after_s is not None:
            asked = min(max(retry_after_s, 0.0), MAX_STAY_AWAY_S)
            asked += self._random.uniform(0.0, max(SPREAD_S, 0.25 * asked))
            standing.not_before = max(standing.not_before, now + asked)
        if not self._in_trouble:
            self._begin_trouble(now)
        if address in self._homes:
            self._lost(address, standing, now)
        elif address == self._probing:
            self._probing = None
            self._put_off_probe(standing, now)
        told = self._learn(alternatives, address, wall_s)
        first = [each for each in told if each not in self._homes and each not in self._tried]
        if first:
            self._queue = deque([*first, *(each for each in self._queue if each not in first)])
            self._round_at = None

    def learn(self, alternatives: Iterable[str], teller: Address, wall_s: float = 0.0) -> None:
        """A WELCOME from ``teller`` names these other ways in, at ``wall_s`` seconds since 1970."""
        known = set(self.known)
        told = self._learn(alternatives, teller, wall_s)
        self.ways.forget(wall_s)
        self._others.extend(each for each in told if each not in known)

    def restart(self) -> None:
        """Begin from the beginning, with no link."""
        self._homes.clear()
        self._tried.clear()
        self._probing = self._round_at = None
        regular = self._order()
        self._queue = deque(regular)
        self._others = deque(each for each in self.learned if each not in regular)

    # -- while none is missing ---------------------------------------------------------------------------------------

    def better(self, now: float, busy: Collection[Address] = ()) -> Address | None:
        """An address to probe now, because it ranks before a home; report with :meth:`opened`, :meth:`same` or :meth:`ended`.

        Ask again as soon as a probe has failed: the next better one may be due as well.
        """
        if self.strategy is not Strategy.FAIL_BACK or not self._homes or now < self._probe_at:
            return None
        for address in self.configured[: max(map(self.rank, self._homes))]:
            if address in self._homes or address in busy:
                continue
            standing = self._standing(address)
            if max(standing.not_before, standing.probe_after, standing.same_until) <= now:
                self.probe(address, now)
                return address
        return None

    def probe(self, address: Address, now: float) -> None:
        """``address`` is being probed."""
        self._probing = address
        self._standing(address).probe_after = now + self._probe_s * self._random.uniform(1.0, 1.5)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _standing(self, address: Address) -> _Standing:
        return self._standings.setdefault(address, _Standing())

    def _order(self) -> list[Address]:
        """What is tried in every round, in the order of this one."""
        order = list(self.configured)
        if self.strategy is Strategy.RANDOM:
            self._random.shuffle(order)
        elif self.strategy is Strategy.ROUND_ROBIN and self._last in order:
            start = order.index(self._last) + 1
            order = order[start:] + order[:start]
        proven = [each for each in self.ways.proven if each not in self._ranks]
        return order + proven[:MAX_PROVEN]

    def _begin_round(self, now: float) -> None:
        self._round_at = None
        self._tried.clear()
        regular = self._order()
        self._queue = deque(regular)
        if not self._others and now >= self._others_at:
            self._others = deque(each for each in self.learned if each not in regular)
            self._pause_others(now)

    def _pause_others(self, now: float) -> None:
        self._others_at = now + max(LEARNED_PAUSE_S, self._wait_s) * self._random.uniform(1.0, 1.5)

    def _take(self, queue: deque[Address], now: float, busy: Collection[Address]) -> Address | None:
        while queue:
            address = queue.popleft()
            if address in busy or address in self._homes:
                continue
            standing = self._standing(address)
            if standing.not_before <= now and not (self._homes and standing.same_until > now):
                self._last = address
                self._tried.add(address)
                return address
        return None

    def _begin_trouble(self, now: float) -> None:
        self._in_trouble = True
        self._trouble_since = now
        self._wait_s = self._min_s

    def _lost(self, address: Address, standing: _Standing, now: float) -> None:
        since = self._homes.pop(address)
        self._round_at = None
        self._hold_until = now + self._random.uniform(0.0, SPREAD_S)
        for each in self._standings.values():
            each.same_until = _NEVER  # what led to the same Rallypoint may be the way to another now
        if now - since < SETTLED_S:
            self._put_off_probe(standing, now)
            return  # whoever is left of the round comes next; if nobody, there is a pause
        standing.relapses = 0
        self._begin_trouble(now)
        self._tried.clear()
        regular = self._order()
        others = [each for each in self.learned if each not in regular and each != address]
        self._queue = deque(
            [*(each for each in regular if each != address), *others[:FIRST_LEARNED], address]
        )
        self._others = deque(others[FIRST_LEARNED:])
        self._pause_others(now)

    def _put_off_probe(self, standing: _Standing, now: float) -> None:
        standing.relapses += 1
        times = min(2 ** min(standing.relapses - 1, 8), PROBE_GROWTH_LIMIT)
        standing.probe_after = now + self._probe_s * times * self._random.uniform(1.0, 1.5)

    def _next_round(self, now: float) -> float:
        pause = self._wait_s
        limit = self._max_s
        if now - self._trouble_since < FIRST_TROUBLE_S:
            limit = min(limit, max(FIRST_TROUBLE_WAIT_S, self._min_s))
        elif self._homes:
            limit = min(limit, max(self._probe_s, self._min_s))
        self._wait_s = min(pause * GROWTH, limit)
        due = now + min(pause, limit) * self._random.uniform(0.5, 1.0)
        return max(due, min(self._standing(each).not_before for each in self.known))

    def _learn(self, alternatives: Iterable[str], teller: Address, wall_s: float) -> list[Address]:
        """Write down what was told; gives the addresses in it other than the teller's own."""
        told: list[Address] = []
        for text in alternatives:
            try:
                address = parse_address(text, DEFAULT_PORT)
            except LocalError:
                self.bad_alternatives += 1
                continue
            if address.is_wildcard or (address.is_loopback and not teller.is_loopback):
                self.bad_alternatives += 1  # nobody elsewhere sends us to the ports of our own machine
            elif address != teller and address not in told and len(told) < MAX_WAYS:
                told.append(address)
        if told:
            self.ways.named(told, wall_s)
            known = {*self.known, *self._homes}
            self._standings = {each: kept for each, kept in self._standings.items() if each in known}
        return told
