"""A reflector as a satellite of a server group: what the election asks of it, and tells it (:class:`ice.election.satellite.Work`).

It is ready while it can do what its rules say: a link to the Rallypoints, every place usable.  A rule that pauses because of a circle does not make it unready: the circle is in the network,
and another reflector would find it too.  A reflector's configuration is a file of this machine, so it always has one to work by.
"""

from __future__ import annotations

from ice.election.switched import SwitchedWork
from ice.reflector.service import Reflector


class ReflectorWork(SwitchedWork):
    """``reflector`` as work."""

    def __init__(self, reflector: Reflector) -> None:
        super().__init__(reflector)
        self._reflector = reflector

    def ready(self) -> str | None:
        """See the module's docstring."""
        return self._reflector.obstacle()

    def stored(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._reflector.plan.rules)
