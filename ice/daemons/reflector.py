"""``twistd ice-reflector``: its options, and the assembly of the whole daemon (:mod:`ice.daemons.satellite` has what it shares with others).

It is a daemon of its own, never a part of a Rallypoint: all Rallypoints of a site work at once, and of reflectors of a group only one may.

**SIGHUP**: rules that stay notice nothing, others come and go.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred

from ice.config.load import Loaded
from ice.daemons import frame
from ice.daemons.satellite import COMMON, SatelliteDaemon
from ice.net.container import REMEDY, container
from ice.net.multicast import MulticastSocket, descriptors
from ice.reflector.elected import ReflectorWork
from ice.reflector.rules import warnings_about
from ice.reflector.service import Plan, Reflector
from ice.reflector.status import add_metrics, status_of
from ice.reflector.stream import Carrier

FILES_PER_RULE = 2  # a socket that hears, one that talks


class Options(frame.Options):
    """The command line of ``twistd ice-reflector``."""

    longdesc = (
        "A static reflector: ties streams of the Rallypoints to multicast groups. SIGHUP reloads its rules."
    )


def makeService(options: Options) -> frame.Frame:
    """The whole daemon, not started yet; ends the process with status 1 where it cannot be."""
    return frame.assemble(Daemon, options)


class Daemon(SatelliteDaemon):
    """Everything that runs in one ``ice-reflector`` process.

    Raises :class:`~ice.errors.IceError` where the certificate, a key or a codec cannot be used.
    """

    kind = usual_name = "reflector"
    sections = (*COMMON, "multicast", "reflector")
    leaving = "leaving streams and groups"

    def __init__(
        self,
        reactor: Any,
        loaded: Loaded,
        *,
        socket_of: Callable[..., Carrier] = MulticastSocket,
        **more: Any,
    ) -> None:
        plan = Plan.of(loaded.config)
        super().__init__(reactor, loaded, **more)
        self.reflector = Reflector(reactor, self.links, plan, socket_of=socket_of)
        add_metrics(self.metrics, self.reflector)
        if self.seat is not None:
            election = self.elect(self.seat, ReflectorWork(self.reflector))
            self.reflector.guard(lambda: election.may_act)
        self.open_pages(
            loaded.config.reflector.http.listen,
            "reflector.http.listen",
            title="ice reflector",
            ready=self.reflector.ready,
            status=self.full_status,
            pages=self.pages,
        )
        self.attach(self.reflector)
        if self.election is not None:
            self.attach(self.election)

    @classmethod
    def readers(cls) -> tuple[type, ...]:
        """Sockets of multicast groups."""
        return descriptors()

    @property
    def doing(self) -> str:
        """See :class:`Frame`."""
        return f"reflecting {len(self.reflector.plan.rules)} rules"

    def files(self) -> tuple[int, str]:
        """See :class:`Frame`."""
        rules = len(self.reflector.plan.rules)
        return FILES_PER_RULE * rules, f"a reflector of {rules} rules"

    def status(self) -> dict[str, Any]:
        """See :class:`SatelliteDaemon`."""
        return status_of(self.reflector)

    def retire(self) -> "Deferred[None]":
        """Leave streams and groups."""
        return self.reflector.stopService()

    def replan(self, loaded: Loaded) -> Callable[[], str]:
        """See :class:`SatelliteDaemon`."""
        plan = Plan.of(loaded.config, self.reflector.plan)

        def apply() -> str:
            self.reflector.reload(plan)
            return f"{len(plan.rules)} rules"

        return apply

    def remarks(self, loaded: Loaded) -> Iterable[str]:
        """What is changed in datagrams, what cannot work on this machine, and that there is nothing to do."""
        rules = [rule for rule, _ in self.reflector.plan.rules]
        if not rules:
            yield f"there is no enabled rule: write one in [[reflector.rules]] of {loaded.path}, then reload"
        where = container()
        if where is not None and where.trouble:
            yield f"this is {where.trouble}; {REMEDY}"
        for rule in rules:
            yield from warnings_about(rule)
