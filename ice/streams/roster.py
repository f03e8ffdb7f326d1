"""Which Rallypoint to try next, and when: the addresses of a cluster as an engine, without I/O.

The driver asks and reports; the roster remembers::

    no link       step = roster.next(now)            Try(address), or Wait(until, why)
    it stands     roster.opened(address, now, …)
    it does not   roster.ended(address, now, …)      an attempt that failed, or a link that was lost
    on a link     roster.better(now)                 an address to probe, under ``fail-back``, or None

**Rounds.**  A round tries every address once, one at once after the other.  A link that stood for a while and was lost
begins a new round at once, with the lost address last.  When a whole round has failed there is a pause: short at first, growing,
and drawn at random from its upper half, so that a thousand clients of a Rallypoint that comes back do not knock together.
For the first 30 s of trouble a pause never exceeds 0.7 s: who restarts a Rallypoint has its clients back within a second of
its port opening.  After that pauses grow to ``back_off_max_s``.

**Who is asked to stay away, stays away.**  ``retry_after`` of a BYE keeps that one address out of the rounds for so long.  A
refusal that trying again cannot mend (a revoked certificate, another version) keeps it out for the longest pause; the others
are tried meanwhile.

**Strategies.**  ``fail-back``: every round begins with the first configured address; while on a later one, an earlier one is probed every
``probe_s``, and the driver moves when the probe stands and nobody is talking.  An address that took us back and dropped us soon is
probed ever more rarely.  ``round-robin``: a round begins behind the address that was used last; nothing moves back.
``random``: a new order each round.

Addresses learned from WELCOME and BYE rank behind the configured ones; those in a BYE are tried before anything else.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from enum import StrEnum
from random import Random

import attrs

from ice.errors import LocalError
from ice.link.message import Code
from ice.net.addresses import Address, parse_address

DEFAULT_PORT = 7443
MAX_LEARNED = 16  # other ways into a mesh; a hostile list of 64 shall not drown the configured ones
FIRST_TROUBLE_S = 30.0  # a restarted daemon, a rebooted switch: somebody is waiting for us to be back
FIRST_TROUBLE_WAIT_S = 0.7  # leaves 0.3 s for the handshake within the promised second
GROWTH = 1.6  # 0.1 s becomes 0.7 s in five rounds, and 30 s another nine rounds after the first trouble
SETTLED_S = 5.0  # a link that lived less is trouble going on, not a new one
MAX_STAY_AWAY_S = 300.0  # what a BYE can ask for at most
PROBE_GROWTH_LIMIT = 32  # times probe_s: an address that flaps is probed every five minutes at last

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

    not_before: float = float("-inf")
    probe_after: float = float("-inf")
    relapses: int = 0


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
    ) -> None:
        """Raises :class:`LocalError` when there is no address."""
        if not addresses:
            raise LocalError("no Rallypoint to connect to: network.rallypoints is empty")
        self.configured = tuple(dict.fromkeys(addresses))
        self.strategy = strategy
        #: The address of the link that stands, if one does.
        self.current: Address | None = None
        #: Learned addresses, newest first.
        self.learned: tuple[Address, ...] = ()
        self.bad_alternatives = 0  #: alternatives that were no address
        #: The sentence of the last failure.
        self.why = "nothing has been tried yet"
        self._random = random if random is not None else Random()
        self._min_s = back_off_min_s
        self._max_s = back_off_max_s
        self._probe_s = probe_s
        self._standings: dict[Address, _Standing] = {}
        self._last: Address | None = None
        self._queue: deque[Address] = deque(self._order())
        self._tried: set[Address] = (
            set()
        )  # in this round: two Rallypoints that drain must not send us to and fro
        self._round_at: float | None = None  # when the next round begins, between two
        self._wait_s = back_off_min_s
        self._trouble_since = float("-inf")
        self._in_trouble = False
        self._opened_at = float("-inf")
        self._probe_at = float("inf")

    @property
    def known(self) -> tuple[Address, ...]:
        """Every address, the preferred first."""
        return self.configured + self.learned

    # -- without a link ----------------------------------------------------------------------------------------------

    def next(self, now: float) -> Try | Wait:
        """What to do now that there is no link."""
        if self._round_at is not None:
            if now < self._round_at:
                return Wait(self._round_at, self.why)
            self._round_at = None
            self._queue = deque(self._order())
            self._tried.clear()
        while self._queue:
            address = self._queue.popleft()
            if self._standing(address).not_before <= now:
                self._last = address
                self._tried.add(address)
                return Try(address)
        self._round_at = self._next_round(now)
        return Wait(self._round_at, self.why)

    def opened(self, address: Address, now: float, alternatives: Iterable[str] = ()) -> None:
        """The link to ``address`` stands and is the one in use; ``alternatives`` as its WELCOME gives them."""
        if self.current is not None and address != self.current:
            # moved back: should it fail soon, all others are there at once
            self._queue = deque(each for each in self._order() if each != address)
        self.current = self._last = address
        self._opened_at = now
        self._probe_at = now + self._probe_s * self._random.uniform(1.0, 1.5)
        self._learn(alternatives, address)

    def ended(
        self,
        address: Address,
        now: float,
        *,
        code: str,
        why: str,
        retry_after_s: float | None = None,
        alternatives: Iterable[str] = (),
    ) -> None:
        """An attempt or probe failed, or the link in use was lost; ``why`` is a sentence for people."""
        standing = self._standing(address)
        self.why = why
        if is_terminal(code):
            standing.not_before = now + self._max_s * self._random.uniform(0.5, 1.0)
        if retry_after_s is not None:
            asked = min(max(retry_after_s, 0.0), MAX_STAY_AWAY_S) * self._random.uniform(1.0, 1.25)
            standing.not_before = max(standing.not_before, now + asked)
        if not self._in_trouble:
            self._begin_trouble(now)
        if address == self.current:
            self._lost(address, standing, now)
        elif self.current is not None:
            self._put_off_probe(standing, now)
        told = self._learn(alternatives, address)
        first = [each for each in told if each != self.current and each not in self._tried]
        if first:
            self._queue = deque([*first, *(each for each in self._queue if each not in first)])
            self._round_at = None

    # -- on a link ---------------------------------------------------------------------------------------------------

    def better(self, now: float) -> Address | None:
        """An address to probe now, because it ranks before the one in use; report with :meth:`opened` or :meth:`ended`.

        Ask again as soon as a probe has failed: the next better one may be due as well.
        """
        if self.strategy is not Strategy.FAIL_BACK or self.current is None or now < self._probe_at:
            return None
        for address in self.known:
            if address == self.current:
                break
            standing = self._standing(address)
            if max(standing.not_before, standing.probe_after) <= now:
                standing.probe_after = now + self._probe_s * self._random.uniform(1.0, 1.5)
                return address
        return None

    # -- inside --------------------------------------------------------------------------------------------------------

    def _standing(self, address: Address) -> _Standing:
        return self._standings.setdefault(address, _Standing())

    def _order(self) -> list[Address]:
        order = list(self.known)
        if self.strategy is Strategy.RANDOM:
            self._random.shuffle(order)
        elif self.strategy is Strategy.ROUND_ROBIN and self._last in order:
            start = order.index(self._last) + 1
            order = order[start:] + order[:start]
        return order

    def _begin_trouble(self, now: float) -> None:
        self._in_trouble = True
        self._trouble_since = now
        self._wait_s = self._min_s

    def _lost(self, address: Address, standing: _Standing, now: float) -> None:
        self.current = None
        self._round_at = None
        if now - self._opened_at < SETTLED_S:
            self._put_off_probe(standing, now)
            return  # whoever is left of the round comes next; if nobody, there is a pause
        standing.relapses = 0
        self._begin_trouble(now)
        self._tried.clear()
        self._queue = deque([*(each for each in self._order() if each != address), address])

    def _put_off_probe(self, standing: _Standing, now: float) -> None:
        standing.relapses += 1
        times = min(2 ** min(standing.relapses - 1, 8), PROBE_GROWTH_LIMIT)
        standing.probe_after = now + self._probe_s * times * self._random.uniform(1.0, 1.5)

    def _next_round(self, now: float) -> float:
        pause = self._wait_s
        limit = self._max_s
        if now - self._trouble_since < FIRST_TROUBLE_S:
            limit = min(limit, max(FIRST_TROUBLE_WAIT_S, self._min_s))
        self._wait_s = min(pause * GROWTH, limit)
        due = now + min(pause, limit) * self._random.uniform(0.5, 1.0)
        return max(due, min(self._standing(each).not_before for each in self.known))

    def _learn(self, alternatives: Iterable[str], teller: Address) -> list[Address]:
        """Remember what is new; gives all that are addresses other than the teller's own."""
        told: list[Address] = []
        for text in alternatives:
            try:
                address = parse_address(text, DEFAULT_PORT)
            except LocalError:
                self.bad_alternatives += 1
                continue
            if address != teller and address not in told and len(told) < MAX_LEARNED:
                told.append(address)
        new = [each for each in told if each not in self.configured]
        if new:
            self.learned = tuple(dict.fromkeys([*new, *self.learned]))[:MAX_LEARNED]
            known = set(self.known)
            self._standings = {each: kept for each, kept in self._standings.items() if each in known}
        return told
