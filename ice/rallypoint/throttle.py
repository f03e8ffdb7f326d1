"""A log that strangers cannot fill: each kind of event is let through once in a while, with a count of what was kept back."""

from collections.abc import Hashable

EVERY_S = 60.0
MAX_KEYS = 1_024  # whoever comes from more addresses than that makes us forget the oldest, and log it again


class Throttle:
    """Lets each key pass once per ``every_s`` seconds, and all keys together at most ``burst`` times in that span."""

    def __init__(self, every_s: float = EVERY_S, *, burst: int = 60, max_keys: int = MAX_KEYS) -> None:
        self._every_s = every_s
        self._burst = burst
        self._max_keys = max_keys
        self._seen: dict[Hashable, tuple[float, int]] = {}
        self._since = float("-inf")
        self._passed = 0
        #: Events kept back, ever.
        self.kept_back = 0

    def passes(self, key: Hashable, now: float) -> int | None:
        """None: keep it back. Otherwise log it, and say how many of its kind were kept back before."""
        if now - self._since >= self._every_s:
            self._since, self._passed = now, 0
        at, kept = self._seen.get(key, (float("-inf"), 0))
        if now - at < self._every_s or self._passed >= self._burst:
            self.kept_back += 1
            if key in self._seen:
                self._seen[key] = (at, kept + 1)
            return None
        self._passed += 1
        self._seen.pop(key, None)
        self._seen[key] = (now, 0)
        if len(self._seen) > self._max_keys:
            del self._seen[next(iter(self._seen))]
        return kept
