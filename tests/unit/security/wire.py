"""Two TLS ends joined by hand over memory BIOs, and a small site of certificates in memory, made once for all tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from uuid import UUID, uuid4

import attrs
from cryptography import x509
from OpenSSL import SSL

from ice.security import minting
from ice.security.certificates import Role, SigningKey
from ice.security.contexts import ClientTls, ServerTls
from ice.security.minting import Subject
from ice.security.trust import Credentials, Trust

NOW = datetime.now(
    UTC
)  # OpenSSL reads the real clock during a handshake; everything else here takes this moment
DAY = timedelta(days=1)
ALICE = UUID("3b241101-e2bb-4255-8caf-4136c566a962")


@attrs.frozen
class Ca:
    """An authority in memory."""

    certificate: x509.Certificate
    key: SigningKey

    def leaf(
        self,
        name: str = "alice",
        role: Role = Role.CLIENT,
        id: UUID | None = None,
        begin: datetime = NOW - DAY,
        end: datetime = NOW + 30 * DAY,
        dns: tuple[str, ...] = (),
        ips: tuple[str, ...] = (),
    ) -> Credentials:
        """A certificate and its key."""
        key = minting.new_key()
        subject = Subject(name, role, id or uuid4(), dns, tuple(map(ip_address, ips)))
        certificate = minting.new_leaf(subject, key, self.certificate, self.key, begin, end)
        return Credentials(certificate=certificate, chain=(), key=key)

    def revoking(
        self, *credentials: Credentials, signed: datetime = NOW, days: float = 400
    ) -> x509.CertificateRevocationList:
        """A list that names these."""
        entries = [(each.certificate.serial_number, signed) for each in credentials]
        return minting.new_list(entries, 1, self.certificate, self.key, signed, days)


def new_ca(name: str = "test authority") -> Ca:
    """An authority."""
    key = minting.new_key()
    return Ca(minting.new_authority(name, key, NOW), key)


@cache
def ca() -> Ca:
    """The one authority of most tests."""
    return new_ca()


@cache
def other_ca() -> Ca:
    """Another."""
    return new_ca("elsewhere")


@cache
def rally() -> Credentials:
    """A Rallypoint named rally.example.org, 192.0.2.7 and 2001:db8::7."""
    return ca().leaf("rally", Role.RALLYPOINT, dns=("rally.example.org",), ips=("192.0.2.7", "2001:db8::7"))


@cache
def alice() -> Credentials:
    """A client."""
    return ca().leaf("alice", id=ALICE)


def trusting(*authorities: Ca, revocations: tuple[x509.CertificateRevocationList, ...] = ()) -> Trust:
    """Trust in authorities, by default in `ca`."""
    chosen = authorities or (ca(),)
    return Trust(tuple(each.certificate for each in chosen), revocations)


def server(credentials: Credentials | None = None, trust: Trust | None = None) -> ServerTls:
    """A Rallypoint's end."""
    return ServerTls(credentials or rally(), trust or trusting())


def client(
    credentials: Credentials | None = None, trust: Trust | None = None, verify_name: bool = True
) -> ClientTls:
    """A client's end."""
    return ClientTls(credentials or alice(), trust or trusting(), verify_name)


def join(opener: SSL.Connection, accepter: SSL.Connection) -> tuple[Exception | None, Exception | None]:
    """Carry bytes both ways until nothing moves; what each end's handshake, or first read after it, raised."""
    ends = (opener, accepter)
    failed: list[Exception | None] = [None, None]
    done = [False, False]
    moved = True
    while moved:
        moved = False
        for me in (0, 1):
            if failed[me] is None:
                try:
                    if done[me]:
                        ends[me].recv(1)
                    else:
                        ends[me].do_handshake()
                        done[me] = moved = True
                except SSL.WantReadError:
                    pass
                except Exception as error:
                    failed[me] = error
            try:
                ends[1 - me].bio_write(ends[me].bio_read(65_536))
                moved = True
            except SSL.WantReadError:
                pass
    return failed[0], failed[1]
