"""A throw-away site: authority, one Rallypoint, some people, and a configuration for each, in a folder, in milliseconds.

For system tests, the demo, and anybody who writes a client and wants something to dial::

    site = Site.create(tmp_path, clients=("alice", "bob"))
    subprocess.Popen(["twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", str(site.config)])
    subprocess.Popen(["ice", "listen", "parrot", "--config", str(site.client("alice").config)])

Each client has a configuration file of its own beside ``ice.toml``; all share the folder ``pki/``. The certificates are real and
every bit as good as those of ``ice pki``. For tests of refusals a site also makes bad ones: `expired`, `not_yet_valid`, `stranger`,
`revoked`.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import attrs

from ice.security.authority import Authority
from ice.security.certificates import Role
from ice.security.register import Entry, addresses, certificate_file, key_file
from ice.security.trust import Credentials, Trust

LOOPBACK = "127.0.0.1"


@attrs.frozen
class Member:
    """Somebody of a site.

    :ivar name: common name, and name of the files.
    :ivar id: the UUID in the certificate.
    :ivar config: a configuration whose identity this is; for a bad certificate too.
    :ivar certificate: PEM file.
    :ivar key: PEM file.
    """

    name: str
    id: UUID
    config: Path
    certificate: Path
    key: Path

    def credentials(self) -> Credentials:
        """The certificate and key, read."""
        return Credentials.read(self.certificate, self.key)


@attrs.frozen
class Site:
    """A site in a folder.

    :ivar folder: everything is in it.
    :ivar config: ``ice.toml``: the Rallypoint's, and the first client's.
    :ivar port: where the Rallypoint will listen, on 127.0.0.1.
    :ivar http_port: where its status pages will be.
    :ivar rallypoint: its certificate; names localhost, 127.0.0.1 and ::1.
    :ivar clients: in the order asked for.
    """

    folder: Path
    config: Path
    port: int
    http_port: int
    rallypoint: Member
    clients: tuple[Member, ...]
    _authority: Authority = attrs.field(repr=False)
    _rallypoint_text: str = attrs.field(repr=False)

    @classmethod
    def create(
        cls,
        folder: Path,
        clients: Sequence[str] = ("alice", "bob"),
        *,
        port: int | None = None,
        http_port: int | None = None,
        rallypoint_toml: str = "",
        extra_toml: str = "",
        now: datetime | None = None,
    ) -> Site:
        """Write a site.

        :param folder: made if need be; nothing in it is overwritten.
        :param port: for links; one that is free now is chosen if None. ``http_port`` likewise.
        :param rallypoint_toml: more lines of the table ``[rallypoint]``: ``'keepalive_s = 1.0'``.
        :param extra_toml: whole tables to add to every configuration: ``'[rallypoint.limits]\\nlinks = 3'``.
        :param now: the moment of issue, with time zone; the present if None.
        :raises ice.security.files.AlreadyThere: there is a site in the folder already.
        """
        now = now or datetime.now(UTC)
        if port is None or http_port is None:
            free = free_ports(2)
            port, http_port = port or free[0], http_port or free[1]
        authority = Authority.create(folder / "pki", now, name="throw-away")
        config = folder / "ice.toml"
        text = (
            f'[network]\nrallypoints = ["{LOOPBACK}:{port}"]\nways_file = "ways.json"\n\n'
            f'[rallypoint]\nlisten = ["{LOOPBACK}:{port}"]\n{rallypoint_toml.strip()}\n\n'
            f'[rallypoint.http]\nlisten = "{LOOPBACK}:{http_port}"\n\n{extra_toml.strip()}\n'
        )
        switch = authority.issue(
            "rallypoint",
            Role.RALLYPOINT,
            now,
            dns=("localhost",),
            addresses=addresses((LOOPBACK, "::1")),
        )
        site = cls(
            folder=folder,
            config=config,
            port=port,
            http_port=http_port,
            rallypoint=_member(folder, switch, config),
            clients=(),
            authority=authority,
            rallypoint_text=text,
        )
        members = tuple(site.issue(name, now=now) for name in clients)
        first = members[0].name if members else "client"
        config.write_text(_identity(first) + text)
        return attrs.evolve(site, clients=members)

    @property
    def address(self) -> str:
        """``127.0.0.1:port``, as ``network.rallypoints`` has it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pki(self) -> Path:
        """The folder of the certificates."""
        return self.folder / "pki"

    @property
    def authority(self) -> Authority:
        """The site's authority, ready to issue, renew and revoke."""
        return self._authority

    def client(self, name: str) -> Member:
        """One of `clients` by name.

        :raises KeyError: there is none.
        """
        for member in self.clients:
            if member.name == name:
                return member
        raise KeyError(name)

    def trust(self) -> Trust:
        """The authority and its revocation list, as they are in the folder now."""
        return Trust.read([self.pki / "authority.pem"], self.pki / "revoked.pem", datetime.now(UTC))

    def issue(
        self,
        name: str,
        role: Role = Role.CLIENT,
        now: datetime | None = None,
        days: float = 365,
        addresses: Sequence[str] = (),
    ) -> Member:
        """Somebody more, with a configuration ``NAME.toml``; ``addresses`` are named by the certificate."""
        present = datetime.now(UTC)
        literal = tuple(map(ip_address, addresses))
        entry = self._authority.issue(name, role, now or present, days=days, addresses=literal)
        if now is not None:
            self._authority.refresh(present)  # a list signed tomorrow would be worth a warning
        return self._admit(entry)

    def expired(self, name: str = "expired", role: Role = Role.CLIENT) -> Member:
        """Somebody whose certificate expired yesterday."""
        return self.issue(name, role, datetime.now(UTC) - timedelta(days=31), days=30)

    def not_yet_valid(self, name: str = "early", role: Role = Role.CLIENT) -> Member:
        """Somebody whose certificate is valid from tomorrow on."""
        return self.issue(name, role, datetime.now(UTC) + timedelta(days=1, hours=1))

    def revoked(self, name: str = "barred", role: Role = Role.CLIENT) -> Member:
        """Somebody whose certificate is on the revocation list; a running Rallypoint must re-read it."""
        member = self.issue(name, role)
        self._authority.revoke(name, datetime.now(UTC))
        return member

    def stranger(self, name: str = "stranger", role: Role = Role.CLIENT) -> Member:
        """Somebody whose certificate is of another authority, in ``NAME-pki/``; who trusts ours, so that the refusal is the Rallypoint's."""
        now = datetime.now(UTC)
        other = Authority.create(self.folder / f"{name}-pki", now, name="elsewhere")
        entry = other.issue(name, role, now, dns=("localhost",), addresses=addresses((LOOPBACK,)))
        return self._admit(entry, pki=f"{name}-pki")

    def _admit(self, entry: Entry, pki: str = "pki") -> Member:
        config = self.folder / f"{entry.name}.toml"
        config.write_text(_identity(entry.name, pki) + self._rallypoint_text)
        return _member(self.folder, entry, config, pki)


def free_ports(count: int) -> list[int]:
    """Different TCP ports of 127.0.0.1 that nobody listens on now; whoever wants them should bind soon."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def _identity(name: str, pki: str = "pki") -> str:
    return f'[identity]\ncertificate = "{pki}/{name}.pem"\nkey = "{pki}/{name}.key"\n\n'


def _member(folder: Path, entry: Entry, config: Path, pki: str = "pki") -> Member:
    assert entry.id is not None  # what an Authority issues carries one
    return Member(
        name=entry.common_name,
        id=entry.id,
        config=config,
        certificate=certificate_file(folder / pki, entry.name),
        key=key_file(folder / pki, entry.name),
    )
