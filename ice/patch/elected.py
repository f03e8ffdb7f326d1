"""A patch server as a satellite of a server group: what the election asks of it, and tells it (:class:`ice.election.satellite.Work`), and the list as the group's document.

Speaking is a matter of a flag, so that a hand-over takes no time: a standby has joined every stream and hears everybody, so it goes on in the middle of a word.

It is ready while a Rallypoint reaches it. That a patch cannot be served, or that the list is empty, does not make it unready: another server has the same list.
"""

from __future__ import annotations

from ice.election.service import Election
from ice.patch.service import PatchServer


class PatchWork:
    """``server`` as work; a standby until it is told otherwise."""

    def __init__(self, server: PatchServer) -> None:
        self._server = server
        server.standby()

    def active(self) -> None:
        """Speak from now on."""
        self._server.active()

    def standby(self) -> None:
        """Say nothing."""
        self._server.standby()

    def ready(self) -> str | None:
        """See the module's docstring."""
        network = self._server.network
        return None if network.up else f"no link to a Rallypoint: {network.why or 'connecting'}"

    def stored(self) -> bool:
        """The list is on this machine's disk, always."""
        return True


class SharedList:
    """The list as the group document of ``election`` (:class:`ice.patch.service.Shared`)."""

    def __init__(self, election: Election) -> None:
        self._election = election

    @property
    def leads(self) -> bool:
        """Whether we are the active server, and may act."""
        return self._election.running == 1 and self._election.may_act

    @property
    def body(self) -> bytes | None:
        """The group's list."""
        return self._election.share.body

    def change(self, body: bytes) -> None:
        """Let the group hold this one. Raises :class:`~ice.errors.LocalError` where we do not lead."""
        self._election.share.change(body)
