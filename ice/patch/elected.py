"""A patch server as a satellite of a server group: what the election asks of it, and tells it (:class:`ice.election.satellite.Work`), and the list as the group's document.

It is ready while a Rallypoint reaches it. That a patch cannot be served, or that the list is empty, does not make it unready: another server has the same list.
"""

from __future__ import annotations

from ice.election.service import Election
from ice.election.switched import SwitchedWork
from ice.patch.service import PatchServer


class PatchWork(SwitchedWork):
    """``server`` as work."""

    def __init__(self, server: PatchServer) -> None:
        super().__init__(server)
        self._server = server

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
    def leader(self) -> str:
        """Who leads, by name, as far as we know; empty: nobody."""
        leader = self._election.tally.leader
        return "" if leader is None else self._election.group.names.get(leader, leader)

    @property
    def body(self) -> bytes | None:
        """The group's list."""
        return self._election.share.body

    def change(self, body: bytes) -> None:
        """Let the group hold this one. Raises :class:`~ice.errors.LocalError` where we do not lead."""
        self._election.share.change(body)
