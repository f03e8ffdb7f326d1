"""Who may be heard on a group, and how much: lists of networks, and a rate for each address.

An address is judged once and remembered, so a datagram costs one look-up.  The rate is a bucket that fills at ``packets_per_s`` and holds half a second of it: a talker who was
held up somewhere may catch up, a flood may not.  Addresses are bounded; the first that came is forgotten first.
"""

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

MAX_HOSTS: Final = 1_024  # of one rule
HELD_S: Final = 0.5
FLOOD_S: Final = 60.0  # a flood is told of again after so long

Network = IPv4Network | IPv6Network


class Host:
    """One address."""

    __slots__ = ("_at", "_tokens", "allowed", "host", "limited", "packets", "told_at")

    def __init__(self, host: str, allowed: bool, tokens: float, now: float) -> None:
        self.host = host
        self.allowed = allowed
        self.packets = 0  #: heard, those over the limit included
        self.limited = 0  #: of those over the limit
        self.told_at = float("-inf")
        self._tokens = tokens
        self._at = now

    def passes(self, rate: float, now: float) -> bool:
        """Whether one more is within the rate."""
        self.packets += 1
        tokens = self._tokens + (now - self._at) * rate
        self._at = now
        most = max(1.0, rate * HELD_S)
        if tokens > most:
            tokens = most
        if tokens < 1.0:
            self._tokens = tokens
            self.limited += 1
            return False
        self._tokens = tokens - 1.0
        return True

    def tell(self, now: float) -> bool:
        """Whether to tell of the flood now."""
        if now - self.told_at < FLOOD_S:
            return False
        self.told_at = now
        return True


class Senders:
    """All who send to one group."""

    def __init__(
        self, allow: tuple[Network, ...], deny: tuple[Network, ...], *, max_hosts: int = MAX_HOSTS
    ) -> None:
        """``allow``: the only ones heard, none: all; ``deny``: not heard in any case."""
        self._allow = allow
        self._deny = deny
        self._max_hosts = max_hosts
        self.hosts: dict[str, Host] = {}
        self.forgotten = 0

    def of(self, host: str, rate: float, now: float) -> Host:
        """What is known of an address."""
        known = self.hosts.get(host)
        if known is None:
            if len(self.hosts) >= self._max_hosts:
                del self.hosts[next(iter(self.hosts))]
                self.forgotten += 1
            known = self.hosts[host] = Host(host, self.allows(host), max(1.0, rate * HELD_S), now)
        return known

    def allows(self, host: str) -> bool:
        """Whether the lists let this address be heard."""
        if not self._allow and not self._deny:
            return True
        ip = ip_address(host.partition("%")[0])
        mapped = getattr(ip, "ipv4_mapped", None)
        ip = ip if mapped is None else mapped
        if any(ip in network for network in self._deny if network.version == ip.version):
            return False
        return not self._allow or any(
            ip in network for network in self._allow if network.version == ip.version
        )
