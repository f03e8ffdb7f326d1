"""What a network tells people: a line in the log where somebody may act on it, and a :class:`Notice` for whoever shows things.

Attempts are noticed each, and logged once per address and cause until a link stands: a Rallypoint that is down for a night is one line.
"""

from collections.abc import Callable

import attrs
from twisted.logger import Logger

from ice.link.event import Ended
from ice.link.wake import STOOD_STILL_S
from ice.net.addresses import Address
from ice.streams.counts import counted
from ice.streams.words import plain

MAX_LOGGED = (
    1_024  # pairs of address and cause: a long list of other ways, and everything that can go wrong with each
)


@attrs.frozen
class Notice:
    """Something a person may want to see: for command lines and status pages.

    ``kind`` is ``connected``, ``lost`` (a link in use), ``failed`` (an attempt), ``refused`` (a stream) or ``moved``; ``homes`` are the
    addresses of the links in use after it.
    """

    kind: str
    address: str
    code: str
    text: str
    homes: tuple[str, ...] = ()


@attrs.frozen
class Home:
    """A link in use; ``id`` and ``name`` as the Rallypoint says them in WELCOME, times in seconds."""

    address: Address
    id: str
    name: str
    round_trip_s: float | None
    age_s: float


class Notices:
    """See the module's docstring."""

    _log = Logger()

    def __init__(
        self, wanted: int, homes: Callable[[], tuple[str, ...]], on_notice: Callable[[Notice], None] | None
    ) -> None:
        """``wanted``: how many homes there are to be; ``homes`` gives the addresses of those that stand."""
        self._wanted = wanted
        self._homes = homes
        self._on_notice = on_notice
        self._logged: set[tuple[Address, str]] = set()

    def connected(self, address: Address, name: str) -> None:
        """A link is in use; ``name`` is the Rallypoint's own word."""
        self._logged.clear()
        name = plain(name)
        some = f" (home {len(self._homes())} of {self._wanted})" if self._wanted > 1 else ""
        self._log.info("Linked to {name} at {address}{some}", name=name, address=str(address), some=some)
        self._tell("connected", address, "", f"linked to {name or address}{some}")

    def lost(self, address: Address, ended: Ended) -> None:
        """A link in use has ended."""
        self._log.warn(
            "Link to {address} lost ({code}): {why}",
            address=str(address),
            code=counted(ended.code),
            why=ended.reason,
        )
        self._tell("lost", address, ended.code, ended.reason)

    def failed(self, address: Address, ended: Ended) -> None:
        """An attempt has failed."""
        self._no_link(address, counted(ended.code), ended.reason)
        self._tell("failed", address, ended.code, ended.reason)

    def same(self, address: Address) -> None:
        """A link led to where we are already."""
        self._no_link(
            address, "same", f"{address} leads to a Rallypoint where we are already; looking for another"
        )

    def moved(self, old: Address, new: Address) -> None:
        """A better address has taken the place of a worse one."""
        self._tell("moved", new, "", f"moved back from {old} to {new}")

    def refused(self, address: Address, stream_id: str, code: str, why: str) -> None:
        """A Rallypoint does not let us into a stream: a person must know; the stream asks again later."""
        self._log.warn(
            "Stream {stream} refused by {address} ({code}): {why}",
            stream=plain(stream_id),
            address=str(address),
            code=counted(code),
            why=why,
        )
        self._tell("refused", address, code, f"{address} refuses: {why}")

    def complaint(self, address: Address, code: str, message: str) -> None:
        """An ERROR that answers no JOIN."""
        self._log.warn(
            "{address} complains ({code}): {why}",
            address=str(address),
            code=counted(code),
            why=plain(message),
        )

    def stood_still(self) -> None:
        """This process has not run for a while."""
        self._log.warn(
            "This process stood still for over {bound:g} s: audio that came meanwhile is dropped",
            bound=STOOD_STILL_S,
        )

    def _no_link(self, address: Address, code: str, why: str) -> None:
        if (address, code) not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add((address, code))
            self._log.warn("No link ({code}): {why}", code=code, why=why)

    def _tell(self, kind: str, address: Address, code: str, text: str) -> None:
        if self._on_notice is not None:
            try:
                self._on_notice(Notice(kind, str(address), code, text, self._homes()))
            except Exception:
                self._log.failure("A listener to notices failed")
