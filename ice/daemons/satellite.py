"""What the satellites (reflector, patch server, gateway) have in common as daemons: one certificate, one network of Rallypoints, and perhaps a server group.

**In a server group** (``[[server_groups]]`` has our certificate's id as a member) a satellite starts as a standby and works while it is elected (:mod:`ice.election`); otherwise it is
alone and always active. A stop resigns first. The election's status is on the page ``/election``, and in a file of the state folder.

**SIGHUP** reads certificates and revocations too: every link that is opened from then on shows and believes the new ones, links that stand go on. The certificate must be the
same satellite's; the list of Rallypoints is read at the start only.
"""

import json
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from ice.config.election import ServerGroupSettings
from ice.config.load import Loaded
from ice.daemons.frame import Frame, certificate_cautions
from ice.election.connect import election_of, server_group
from ice.election.metrics import add_metrics
from ice.election.rules import Group
from ice.election.satellite import Work
from ice.election.service import Election
from ice.errors import LocalError
from ice.net.notify import Notifier
from ice.observe.health import MakePage
from ice.observe.logs import LogOutput
from ice.security.certificates import Role, key_mode_warning
from ice.security.contexts import ClientTls
from ice.streams.connect import Passport, certificates_of, identity_in, network_of, passport_of
from ice.streams.rallypoint import RallypointNetwork

STUCK = 70  # EX_SOFTWARE: systemd restarts it
COMMON = ("authority", "identity", "log", "network", "server_groups", "traffic")

#: Makes the network that a configuration describes; tests have their own.
MakeNetwork = Callable[[Loaded, Any, Passport], RallypointNetwork]


def _network(loaded: Loaded, reactor: Any, passport: Passport) -> RallypointNetwork:
    return network_of(loaded, reactor, passport=passport)


class SatelliteDaemon(Frame):
    """A :class:`Frame` for a satellite; it attaches its work, which :meth:`retire` ends.

    ``kind`` is its name in sentences ("reflector"), ``usual_name`` what its certificate is called where nobody has a better name.
    """

    kind: ClassVar[str]
    usual_name: ClassVar[str]

    def __init__(
        self,
        reactor: Any,
        loaded: Loaded,
        *,
        notifier: Notifier | None = None,
        output: LogOutput | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        network: MakeNetwork = _network,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        super().__init__(reactor, loaded, notifier=notifier, output=output, wall=wall)
        self.environ = environ
        self.passport = passport_of(loaded, reactor)
        if not self.passport.satellite:
            raise LocalError(
                f"{loaded.config.identity.certificate}: a {self.kind} passes on what others say, for which the certificate needs the role satellite; "
                f"type: ice pki issue {self.usual_name} --role satellite, and name it in identity.certificate and identity.key"
            )
        self.links = network(loaded, reactor, self.passport)
        #: The server group that it is in, None where it is alone.
        self.seat = server_group(loaded, self.passport.id) if loaded.config.server_groups else None
        self.election: Election | None = None

    # -- what a satellite says of itself -------------------------------------------------------------------------------

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """The daemon's own part of the JSON status."""

    @abstractmethod
    def replan(self, loaded: Loaded) -> Callable[[], str]:
        """As :meth:`Frame.prepare`, for the work; what is returned is called before anything else is changed."""

    @abstractmethod
    def remarks(self, loaded: Loaded) -> Iterable[str]:
        """As :meth:`Frame.cautions`, for the work."""

    @abstractmethod
    def retire(self) -> "Deferred[None] | None":
        """End the work in good order, after the lead was given up."""

    # -- its life ------------------------------------------------------------------------------------------------------

    def prepare(self, loaded: Loaded) -> Callable[[], str]:
        """See :meth:`Frame.prepare`."""
        group = self._rules(loaded)
        credentials, trust = certificates_of(loaded.config, self._wall())
        if identity_in(credentials, loaded.config) != (Role.SATELLITE, self.passport.id):
            raise LocalError(
                f"{loaded.config.identity.certificate} is another satellite's certificate now, or none's: restart this {self.kind} for that"
            )
        ClientTls(credentials, trust)  # complains before anything is changed
        apply_work = self.replan(loaded)

        def apply() -> str:
            outcome = apply_work()
            self.passport.tls.swap(credentials, trust)
            if self.election is not None and group is not None:
                self.election.configure(group)
            return outcome

        return apply

    def cautions(self, loaded: Loaded) -> Iterable[str]:
        """See :meth:`Frame.cautions`."""
        identity, tls = loaded.config.identity, self.passport.tls
        return [
            *tls.trust.warnings,
            *certificate_cautions(
                tls.credentials.certificate,
                identity.certificate,
                identity.key,
                self._wall(),
                who="Rallypoints",
                name=self.usual_name,
            ),
            *self.remarks(loaded),
        ]

    def leave(self) -> "Deferred[None]":
        """Resign, then end the work."""
        resigned: Deferred[None] = succeed(None) if self.election is None else self.election.stopService()
        resigned.addErrback(lambda failure: self._log.failure("the lead could not be given up", failure))
        return resigned.addBoth(lambda _: maybeDeferred(self.retire))

    # -- the server group ----------------------------------------------------------------------------------------------

    def elect(
        self,
        seat: ServerGroupSettings,
        work: Work,
        *,
        merge: Callable[[bytes, bytes], bytes] | None = None,
        learned: Callable[[bytes], None] | None = None,
    ) -> Election:
        """The election of ``work`` by the rules of ``seat``, to be attached last; the group's document is merged and learned by these."""
        election = self.election = election_of(
            self.loaded,
            seat,
            self.passport.id,
            self.links,
            work,
            self._reactor,
            wall=time.time,
            environ=self.environ,
            stuck=self._stuck,
            merge=merge,
            learned=learned,
        )
        add_metrics(self.metrics, election, self._reactor.seconds)
        return election

    @property
    def pages(self) -> Mapping[str, MakePage]:
        """The pages that every satellite has."""
        return {"/election": self._election_page}

    def full_status(self) -> dict[str, Any]:
        """The JSON status, with the election's."""
        told = self.status()
        if self.election is not None:
            told["election"] = self.election.status()
        return told

    def _rules(self, loaded: Loaded) -> Group | None:
        """The rules of our server group by another configuration, None where we are alone. Raises :class:`LocalError` where we are in another, or in none any more, or in one at last."""
        groups = loaded.config.server_groups
        seat = server_group(loaded, self.passport.id) if groups else None
        if self.election is None:
            if seat is not None:
                raise LocalError(
                    f"{loaded.path}: this {self.kind} is in a server group now: restart it for that"
                )
            return None
        if seat is None or str(seat.id) != self.election.group.id:
            raise LocalError(
                f"{loaded.path}: this {self.kind} is in another server group now, or in none: restart it for that"
            )
        return seat.rules()

    def _election_page(self, query: object) -> tuple[str, bytes]:
        """The election's own status, as its file has it."""
        if self.election is None:
            raise LocalError(f"this {self.kind} is in no server group (server_groups)")
        return "application/json", json.dumps(self.election.status(), ensure_ascii=False).encode() + b"\n"

    def _stuck(self, why: str) -> None:
        """It may still be sending, and another will: end at once, and leave the rest to the kernel and systemd."""
        self._log.critical("{why}: the process ends", why=why)
        os._exit(STUCK)


def others_read(path: Path | None, what: str) -> list[str]:
    """A sentence where others than its owner may read the file of a secret; ``what`` is in it."""
    if path is None or key_mode_warning(path) is None:
        return []
    return [f"{path}: its mode lets others read {what}; type: chmod 600 {path}"]
