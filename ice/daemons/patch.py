"""``twistd ice-patch``: its options, and the assembly of the whole daemon (:mod:`ice.daemons.satellite` has what it shares with others).

**SIGHUP** reads missions and the bridges file too: what has changed in it is done, patches that stay notice nothing, and streams with new keys go on under these.

**In a server group** the list of patches is the group's document.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred

from ice.config.election import ServerGroupSettings
from ice.config.load import Loaded
from ice.daemons import frame
from ice.daemons.satellite import COMMON, SatelliteDaemon, others_read
from ice.election.connect import state_folder
from ice.errors import IceError
from ice.observe.control_service import ControlService
from ice.observe.control_socket import socket_path
from ice.patch.channels import Plan
from ice.patch.control import SOCKET, control_of
from ice.patch.elected import PatchWork, SharedList
from ice.patch.service import PatchServer
from ice.patch.status import add_metrics, status_of
from ice.patch.store import Store


class Options(frame.Options):
    """The command line of ``twistd ice-patch``."""

    longdesc = "A patch server: joins channels, so that their people hear each other. SIGHUP reloads its configuration."


def makeService(options: Options) -> frame.Frame:
    """The whole daemon, not started yet; ends the process with status 1 where it cannot be."""
    return frame.assemble(Daemon, options)


class Daemon(SatelliteDaemon):
    """Everything that runs in one ``ice-patch`` process.

    Raises :class:`~ice.errors.IceError` where the certificate, a key or a codec cannot be used.
    """

    kind, usual_name = "patch server", "patch"
    sections = (*COMMON, "patch", "patches")
    leaving = "leaving the streams"

    def __init__(self, reactor: Any, loaded: Loaded, **more: Any) -> None:
        config = loaded.config
        plan = Plan.of(config)
        super().__init__(reactor, loaded, **more)
        folder, id = state_folder(self.environ), self.passport.id
        self.server = PatchServer(
            reactor,
            self.links,
            plan,
            Store(folder),
            group_id=str(id if self.seat is None else self.seat.id),
        )
        add_metrics(self.metrics, self.server)
        if self.seat is not None:
            self._share(self.seat)
        self.open_pages(
            config.patch.http.listen,
            "patch.http.listen",
            title="ice patch server",
            ready=self.server.ready,
            status=self.full_status,
            pages=self.pages,
        )
        control, settings = control_of(self.server, self.full_status), config.patch.control
        control.add_metrics(self.metrics, "ice_patch_control_")
        path = socket_path(settings.socket, SOCKET, self.environ, folder)
        self.attach(ControlService(reactor, control, settings, "patch.control", path, self.passport.tls))
        self.attach(self.server)
        if self.election is not None:
            self.attach(self.election)

    def _share(self, seat: ServerGroupSettings) -> None:
        """Be elected, and have the list of patches as the group's document."""
        server = self.server
        election = self.elect(seat, PatchWork(server), merge=server.merged, learned=server.learned)
        server.guard(lambda: election.may_act)
        server.shared = SharedList(election)
        if election.share.body is not None:
            try:
                server.learned(election.share.body)
            except IceError as error:
                self._log.error("the group's document is passed over: {why}", why=str(error))

    @property
    def doing(self) -> str:
        """See :class:`Frame`."""
        return f"serving {len(self.server.joints)} of {len(self.server.listing.entries)} patches"

    def status(self) -> dict[str, Any]:
        """See :class:`SatelliteDaemon`."""
        return status_of(self.server, str(self.passport.id))

    def retire(self) -> "Deferred[None] | None":
        """End what we say and leave the streams."""
        return self.server.stopService()

    def replan(self, loaded: Loaded) -> Callable[[], str]:
        """See :class:`SatelliteDaemon`."""
        plan = Plan.of(loaded.config)

        def apply() -> str:
            self.server.reload(plan)
            return f"{len(self.server.listing.entries)} patches"

        return apply

    def remarks(self, loaded: Loaded) -> Iterable[str]:
        """That there is nothing to do, and what a mission has that is passed over."""
        server = self.server
        if not server.listing.entries:
            yield f"there is no patch yet: ice patch add, or [[patches]] of {loaded.path}"
        yield from others_read(loaded.config.patch.password_file, "the passwords of missions")
        yield from server.plan.remarks
