"""Plain TCP ports that open and close with a service, and what is said where one cannot be opened."""

from typing import Any

from twisted.application.service import Service
from twisted.internet.error import CannotListenError

from ice.errors import LocalError
from ice.net.addresses import Address

BACKLOG = 50  # connections that the kernel keeps until we take them, Twisted's own default


class PortTaken(LocalError):
    """A port cannot be opened; the message says which and why."""

    @classmethod
    def of(cls, address: object, setting: str, error: CannotListenError) -> "PortTaken":
        """From what Twisted says; ``setting`` is the key of the configuration that names the address."""
        why = getattr(error.socketError, "strerror", None) or error.socketError
        return cls(f"cannot listen on {address}: {why} ({setting}; who has it: ss -ltnp)")


class PortService(Service):
    """A plain TCP port that is open while the service runs; raises :class:`PortTaken` when it cannot be."""

    def __init__(self, reactor: Any, address: Address, factory: Any, setting: str) -> None:
        self._reactor = reactor
        self._address = address
        self._factory = factory
        self._setting = setting
        self._port: Any = None

    def privilegedStartService(self) -> None:
        """Open it."""
        address = self._address
        try:
            self._port = self._reactor.listenTCP(address.port, self._factory, BACKLOG, address.host)
        except CannotListenError as error:
            raise PortTaken.of(address, self._setting, error) from None

    def startService(self) -> None:
        """Open it where that was not done before."""
        if self._port is None:
            self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]

    def close(self) -> Any:
        """Close it now; closing twice is harmless."""
        port, self._port = self._port, None
        return None if port is None else port.stopListening()

    def stopService(self) -> Any:
        """Close it."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self.close()
