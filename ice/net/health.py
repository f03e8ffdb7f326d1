"""The answer to a load balancer that only asks whether a TCP port opens: accept, and close at once.

Such probes would otherwise come to the link port every second and each cost a TLS handshake and a refusal in the log. The
daemon closes this port first when it drains, so that the balancer sends newcomers elsewhere.
"""

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol


class HealthCheck(Protocol):
    """One probe: closed as soon as it is open; whatever it sends is thrown away."""

    transport: Any

    def connectionMade(self) -> None:
        """Close."""
        self.transport.loseConnection()


class HealthCheckFactory(Factory):
    """Builds a :class:`HealthCheck` per probe; ``answered`` counts them."""

    noisy = False  # a line per start and stop of a port is no event that a person acts on

    def __init__(self) -> None:
        self.answered = 0

    def buildProtocol(self, addr: IAddress | None) -> HealthCheck:
        """One probe more."""
        self.answered += 1
        return HealthCheck()
