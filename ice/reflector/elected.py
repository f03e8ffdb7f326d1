"""A reflector as a satellite of a server group: what the election asks of it, and tells it (:class:`ice.election.satellite.Work`).

Sending is a matter of a flag, so that a hand-over takes no time: a standby hears everything, names it as the active one does, and goes on in the middle of a word.

It is ready while it can do what its rules say: a link to the Rallypoints, every place usable.  A rule that pauses because of a circle does not make it unready: the circle is in the network,
and another reflector would find it too.  A reflector's configuration is a file of this machine, so it always has one to work by.
"""

from __future__ import annotations

from ice.reflector.service import Reflector


class ReflectorWork:
    """``reflector`` as work; a standby until it is told otherwise."""

    def __init__(self, reflector: Reflector) -> None:
        self._reflector = reflector
        reflector.standby()

    def active(self) -> None:
        """Send from now on."""
        self._reflector.active()

    def standby(self) -> None:
        """Send nothing."""
        self._reflector.standby()

    def ready(self) -> str | None:
        """See the module's docstring."""
        return self._reflector.obstacle()

    def stored(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._reflector.plan.rules)
