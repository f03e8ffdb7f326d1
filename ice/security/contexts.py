"""TLS for links: who accepts them (`ServerTls`) and who opens them (`ClientTls`), for Twisted and for bare pyOpenSSL alike.

Both make ``OpenSSL.SSL.Connection`` objects: with a socket for a transport that lets OpenSSL own it, with ``None`` (memory BIOs) for
Twisted, whose creator interfaces they provide::

    server = ServerTls(credentials, trust)              wrapServerTLS-style endpoints take it as it is
    client = ClientTls(credentials, trust)              wrapClientTLS(client.to("rally.example.org"), endpoint)

**Other organisations.** A `ServerTls` also accepts the Rallypoints that its trust lists under foreign authorities (`ice.security.trust.Foreign`), and
nobody else of those. A `ClientTls` believes our own authorities only, whatever its trust lists: who dials a Rallypoint of another organisation
gives it that authority alone (`Foreign.trust`) and the UUID that is to answer.

**Other uses than links.** A daemon's control over HTTPS (`ice.observe.control_web`) has the same TLS with other ends: `ServerTls` with `admits` takes
certificates of some roles of our own authorities, and nobody else's; `ClientTls` with `wants` expects somebody of that role to answer; `alpn` is what both speak.

What holds on every link: TLS 1.3 only (RFC 8446); both ends show a certificate that one of the trusted authorities issued, in time, not
revoked, with an ice identity; ALPN ``ice-link/1`` (RFC 7301) is offered and selected; nothing is resumed, because a resumed session skips
the certificate checks: tickets and caches are off, and the two empty tickets that OpenSSL insists on sending open nothing.

**ALPN.** Where a client offers none, or another, OpenSSL finishes the handshake all the same. Ask `speaks_ice` afterwards, and say
BYE ``alpn`` if it does not.

**Reload.** `swap` builds a new context and puts it in place of the old one in a single assignment. Links that live, and handshakes in
flight, keep the context they began with; the next connection sees the new one. A context that cannot be built raises and changes nothing.

**Who is it.** The verification callback leaves the far side's `Peer` on the connection: `peer_of`. Its refusals leave ``do_handshake`` as
`HandshakeRefused`; every other failure is put into words by `ice.security.refusals.explain`.
"""

from __future__ import annotations

import socket as sockets
from collections.abc import Collection
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import attrs
import service_identity
from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity.hazmat import (
    DNS_ID,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from zope.interface import implementer

from ice.errors import LocalError
from ice.security.certificates import BadIdentity, Role, common_name, issuer_name, validity_in_words
from ice.security.refusals import HandshakeRefused, Reason, Refusal
from ice.security.trust import Credentials, Peer, Trust

ALPN = b"ice-link/1"
MAX_DEPTH = 4  # intermediate certificates between a leaf and a trusted authority; ours have none, a company's own PKI one or two

_TITLES = {
    Role.CLIENT: "a client",
    Role.RALLYPOINT: "a Rallypoint",
    Role.SATELLITE: "a satellite",
    Role.OPERATOR: "an operator",
}
_CODES = SSL.X509VerificationCodes
_TOLERATED = frozenset(  # of a revocation list's absence or age; the reasons are in ice.security.trust
    {_CODES.ERR_UNABLE_TO_GET_CRL, _CODES.ERR_CRL_HAS_EXPIRED, _CODES.ERR_CRL_NOT_YET_VALID}
)
_REASONS: dict[int, Reason] = {
    _CODES.ERR_CERT_HAS_EXPIRED: Reason.EXPIRED,
    _CODES.ERR_CERT_NOT_YET_VALID: Reason.NOT_YET_VALID,
    _CODES.ERR_CERT_REVOKED: Reason.REVOKED,
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT: Reason.UNKNOWN_AUTHORITY,
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: Reason.UNKNOWN_AUTHORITY,
    _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: Reason.UNKNOWN_AUTHORITY,
    _CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN: Reason.UNKNOWN_AUTHORITY,
    _CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: Reason.UNKNOWN_AUTHORITY,
    _CODES.ERR_CERT_UNTRUSTED: Reason.UNKNOWN_AUTHORITY,
    _CODES.ERR_INVALID_PURPOSE: Reason.ROLE,
}


@attrs.define
class _Handshake:
    """What the verification callback must know of one connection, and what it learns.

    :ivar expected: the DNS name or address that was dialled and must be named; ``""`` on a server and where names are not checked.
    :ivar peer: the far side, once its certificate was accepted.
    """

    expected: str
    peer: Peer | None = None


# Beside the connections and not in their application data, for Twisted's TLS puts its own protocol there.
_HANDSHAKES: WeakKeyDictionary[SSL.Connection, _Handshake] = WeakKeyDictionary()


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """The accepting end: requires a certificate of a trusted authority, of any role; or that of a listed foreign Rallypoint.

    :param admits: the roles that are let in, of our own authorities alone; empty: a link, to which any role may come.
    :raises LocalError: the credentials do not fit together, or are not those of a Rallypoint.
    """

    def __init__(
        self, credentials: Credentials, trust: Trust, *, admits: Collection[Role] = (), alpn: bytes = ALPN
    ) -> None:
        self._ends = _Ends(accepting=True, roles=frozenset(admits), alpn=alpn)
        self._inside = _Inside(credentials, self._ends.believed(trust), self._ends)

    @property
    def credentials(self) -> Credentials:
        """What is shown to the next client."""
        return self._inside.credentials

    @property
    def trust(self) -> Trust:
        """Who is admitted from now on."""
        return self._inside.trust

    def swap(self, credentials: Credentials, trust: Trust) -> None:
        """Use these for every connection from now on; those that exist keep theirs.

        :raises LocalError: they cannot be used; the old ones stay in place.
        """
        self._inside = _Inside(credentials, self._ends.believed(trust), self._ends)

    def connection(self, socket: sockets.socket | None = None) -> SSL.Connection:
        """A connection that waits for a client: over this socket, or over memory BIOs."""
        connection = SSL.Connection(self._inside.context, socket)
        _HANDSHAKES[connection] = _Handshake(expected="")
        connection.set_accept_state()
        return connection

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """The same for Twisted's TLS, which wants memory BIOs."""
        return self.connection()


class ClientTls:
    """The opening end: shows our certificate, and accepts Rallypoints of a trusted authority.

    :param trust: of it, foreign authorities are not believed here.
    :param verify_name: whether the Rallypoint's certificate must also name the address that was dialled. Without it, any Rallypoint of the
        authority may stand behind any address; authority and role are checked always.
    :param expects: the UUID of the one Rallypoint that may answer; any may if None.
    :param wants: the role of whoever may answer.
    :raises LocalError: the credentials do not fit together.
    """

    def __init__(
        self,
        credentials: Credentials,
        trust: Trust,
        verify_name: bool = True,
        *,
        expects: UUID | None = None,
        wants: Role = Role.RALLYPOINT,
        alpn: bytes = ALPN,
    ) -> None:
        self._ends = _Ends(accepting=False, roles=frozenset((wants,)), alpn=alpn, expects=expects)
        self._inside = _Inside(credentials, trust.domestic, self._ends)
        self.verify_name = verify_name

    @property
    def credentials(self) -> Credentials:
        """What is shown to the next Rallypoint."""
        return self._inside.credentials

    @property
    def trust(self) -> Trust:
        """Whom the next connection believes."""
        return self._inside.trust

    def swap(self, credentials: Credentials, trust: Trust) -> None:
        """Use these for every connection from now on; those that exist keep theirs.

        :raises LocalError: they cannot be used; the old ones stay in place.
        """
        self._inside = _Inside(credentials, trust.domestic, self._ends)

    def connection(self, address: str, socket: sockets.socket | None = None) -> SSL.Connection:
        """A connection that opens a link: over this socket (already connected), or over memory BIOs.

        :param address: the DNS name or literal IP address dialled, without port or brackets; sent as SNI if it is a name.
        :raises LocalError: it is neither.
        """
        literal = _literal(address)
        connection = SSL.Connection(self._inside.context, socket)
        _HANDSHAKES[connection] = _Handshake(expected=address if self.verify_name else "")
        if not literal:
            connection.set_tlsext_host_name(_ascii_name(address))
        connection.set_connect_state()
        return connection

    def to(self, address: str) -> Dialled:
        """What Twisted's ``wrapClientTLS`` wants: makes connections to this address."""
        return Dialled(self, address)


@implementer(IOpenSSLClientConnectionCreator)
@attrs.frozen
class Dialled:
    """A `ClientTls` and the address it is dialling."""

    tls: ClientTls
    address: str

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """A connection over memory BIOs."""
        return self.tls.connection(self.address)


def peer_of(connection: SSL.Connection) -> Peer:
    """Who is at the far end of a connection made here, after its handshake.

    :raises LocalError: the handshake is not finished, or the connection is not one of ours.
    """
    handshake = _HANDSHAKES.get(connection)
    if handshake is None or handshake.peer is None:
        raise LocalError("the far side is not known before its TLS handshake is finished")
    return handshake.peer


def forget(connection: SSL.Connection) -> None:
    """Whoever has asked `peer_of` needs no more of the handshake: half a kilobyte of each of thousands of links."""
    _HANDSHAKES.pop(connection, None)


def speaks_ice(connection: SSL.Connection) -> bool:
    """Whether ``ice-link/1`` was negotiated; where not, say BYE ``alpn`` and close."""
    return bytes(connection.get_alpn_proto_negotiated()) == ALPN


@attrs.frozen
class _Ends:
    """What is asked of the far side beyond a certificate of a trusted authority.

    :ivar roles: those that it may have; empty: any, and foreign Rallypoints that are listed.
    :ivar expects: the UUID that is to answer.
    """

    accepting: bool
    roles: frozenset[Role]
    alpn: bytes
    expects: UUID | None = None

    def believed(self, trust: Trust) -> Trust:
        """As much of ``trust`` as these roles can be of."""
        return trust.domestic if self.roles else trust


class _Inside:
    """One context and what it was made of; never changed after it is made."""

    def __init__(self, credentials: Credentials, trust: Trust, ends: _Ends) -> None:
        self.credentials = credentials
        self.trust = trust
        self._ends = ends
        try:
            self.context = self._build()
        except (SSL.Error, crypto.Error, ValueError, TypeError) as error:
            raise LocalError(
                f"the certificate of '{common_name(credentials.certificate)}' cannot be used for TLS: {error}"
            ) from None

    def _build(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD if self._ends.accepting else SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_max_proto_version(SSL.TLS1_3_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
        # Idle links then hold no record buffers: 18 instead of 27–34 KiB each, measured.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.use_certificate(self.credentials.certificate)
        for certificate in self.credentials.chain:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(self.credentials.key)
        context.check_privatekey()
        store = context.get_cert_store()
        assert store is not None  # a fresh context always has one
        trust = self.trust
        abroad = [authority for foreign in trust.foreign for authority in foreign.authorities]
        for authority in (*trust.authorities, *abroad):
            store.add_cert(crypto.X509.from_cryptography(authority))
        # A site's authority may itself be issued by a company's; the one listed is believed, whatever is above it.
        flags = crypto.X509StoreFlags.PARTIAL_CHAIN
        lists = [*trust.revocations, *_lists_apart(trust)]
        if lists:
            flags |= crypto.X509StoreFlags.CRL_CHECK
            for revocations in lists:
                store.add_crl(revocations)
        store.set_flags(flags)
        context.set_verify_depth(MAX_DEPTH)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        if self._ends.accepting:
            context.set_alpn_select_callback(self._select_alpn)
        else:
            context.set_alpn_protos([self._ends.alpn])
        return context

    def _verify(
        self, connection: SSL.Connection, shown: crypto.X509, error: int, depth: int, preverified: int
    ) -> bool:
        """OpenSSL asks, once per certificate that passed, root first, and once per fault found.

        Raising refuses: the exception leaves ``do_handshake``, and OpenSSL sends the alert that fits its own error number.
        """
        handshake = _HANDSHAKES[connection]
        if not preverified:
            if error in _TOLERATED:
                return True
            handshake.peer = None
            raise HandshakeRefused(_fault(shown, error))
        if depth == 0:
            try:
                certificate = shown.to_cryptography()
                peer = self.trust.peer(certificate)
            except BadIdentity as wrong:
                raise HandshakeRefused(Refusal(Reason(wrong.reason), str(wrong), by_us=True)) from None
            except ValueError as wrong:  # OpenSSL reads some certificates that cryptography does not
                raise HandshakeRefused(
                    Refusal(Reason.BAD_CERTIFICATE, f"the certificate cannot be read: {wrong}", by_us=True)
                ) from None
            if self._ends.roles:
                _check_role(peer, self._ends)
            if not self._ends.accepting:
                _check_name(peer, certificate, handshake.expected, self._ends.expects)
            elif self.trust.foreigner(peer.identity) is not None:
                refusal = self.trust.still_refuses(peer)  # OpenSSL may not have been given their list
                if refusal is not None:
                    raise HandshakeRefused(refusal)
            handshake.peer = peer
        return True

    def _select_alpn(self, connection: SSL.Connection, offered: list[bytes]) -> Any:
        """Our protocol if it is among those offered, else none; a link's first act is then BYE ``alpn``."""
        return self._ends.alpn if self._ends.alpn in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _lists_apart(trust: Trust) -> list[x509.CertificateRevocationList]:
    """Foreign revocation lists that OpenSSL cannot take for one of ours: it finds them by the issuer's name, which two sites may share.

    With them it sends the fitting alert; those left out are asked all the same, by us.
    """
    ours = {authority.subject for authority in trust.authorities}
    return [each for foreign in trust.foreign for each in foreign.revocations if each.issuer not in ours]


def _check_role(peer: Peer, ends: _Ends) -> None:
    """Whether the far side's role is one that is wanted here."""
    if peer.identity.role in ends.roles:
        return
    words = " or ".join(sorted(_TITLES[role] for role in ends.roles))
    if ends.accepting:
        sentence = (
            f"this is for {words}, and {peer.identity} is none: it needs a certificate of its own for that"
        )
    else:
        sentence = (
            f"expected {words}, but {peer.identity} answered: this address is somebody else's, or its "
            "certificate is of the wrong role"
        )
    raise HandshakeRefused(Refusal(Reason.ROLE, sentence, by_us=True))


def _check_name(peer: Peer, certificate: x509.Certificate, expected: str, expects: UUID | None) -> None:
    """Whether who answered is the one dialled (RFC 9525, by service-identity)."""
    if expects is not None and peer.identity.id != expects:
        raise HandshakeRefused(
            Refusal(
                Reason.NOT_LISTED,
                f"expected the Rallypoint {expects}, but {peer.identity} answered: this address is another's, or the UUID listed for it is wrong",
                by_us=True,
            )
        )
    if expected and not names(certificate, expected):
        listed = ", ".join(addresses_in(certificate)[:8])
        raise HandshakeRefused(
            Refusal(
                Reason.NAME_MISMATCH,
                f"the certificate of {peer.identity} does not name '{expected}', only {listed or 'no address'}: dial one of those, or issue it "
                "with --dns or --ip, or set network.verify_name = false",
                by_us=True,
            )
        )


def names(certificate: x509.Certificate, address: str) -> bool:
    """Whether the certificate names this address, a DNS name or a literal IP address, as a client wants it (RFC 9525)."""
    # The patterns are made here, because service-identity's own reading of a certificate fails on every URN: it takes a URI with more
    # than one colon for malformed.
    dns, literal = _addresses(certificate)
    try:
        verify_service_identity(
            cert_patterns=[
                *(DNSPattern.from_bytes(name.encode()) for name in dns),
                *map(IPAddressPattern, literal),
            ],
            obligatory_ids=[IPAddress_ID(address) if _literal(address) else DNS_ID(address.rstrip("."))],
            optional_ids=[],
        )
    except (service_identity.VerificationError, service_identity.CertificateError, ValueError):
        return False
    return True


def addresses_in(certificate: x509.Certificate) -> list[str]:
    """The DNS names and literal IP addresses in a certificate, as text, in that order."""
    dns, literal = _addresses(certificate)
    return [*dns, *map(str, literal)]


def _addresses(
    certificate: x509.Certificate,
) -> tuple[list[str], list[IPv4Address | IPv6Address]]:
    """The DNS names and literal addresses in a certificate; networks, which only authorities may carry, left out."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return [], []
    literal = [
        each
        for each in names.get_values_for_type(x509.IPAddress)
        if isinstance(each, (IPv4Address, IPv6Address))
    ]
    return names.get_values_for_type(x509.DNSName), literal


def _fault(shown: crypto.X509, error: int) -> Refusal:
    """What OpenSSL found wrong with a certificate, in words."""
    reason = _REASONS.get(error, Reason.BAD_CERTIFICATE)
    try:
        certificate = shown.to_cryptography()
    except ValueError:
        return Refusal(
            reason, f"the certificate is not acceptable (OpenSSL verification code {error})", by_us=True
        )
    name = ascii(common_name(certificate)[:64])
    if reason in (Reason.EXPIRED, Reason.NOT_YET_VALID):
        now = datetime.now(UTC)
        sentence = (
            f"the certificate of {name} is not acceptable: {validity_in_words(certificate, now)} "
            "(renew it with: ice pki renew NAME; is this machine's clock right?)"
        )
    elif reason is Reason.UNKNOWN_AUTHORITY:
        sentence = (
            f"the certificate of {name} was issued by {issuer_name(certificate)[:100]!a}, an authority that is not trusted here "
            "(authority.certificates; for another organisation's Rallypoint federations.authority)"
        )
    elif reason is Reason.REVOKED:
        sentence = f"the certificate of {name}, serial {certificate.serial_number:x}, is revoked"
    elif reason is Reason.ROLE:
        sentence = f"the certificate of {name} is not meant for its end of a link (extended key usage)"
    else:
        sentence = f"the certificate of {name} is not acceptable (OpenSSL verification code {error})"
    return Refusal(reason, sentence, by_us=True)


def _literal(address: str) -> bool:
    """Whether the address is a literal IPv4 or IPv6 address."""
    try:
        ip_address(address)
    except ValueError:
        return False
    return True


def _ascii_name(address: str) -> bytes:
    """A DNS name as SNI carries it (RFC 6066 §3): A-labels, no trailing dot.

    :raises LocalError: it is no DNS name.
    """
    try:
        name = address.rstrip(".").encode("idna")
    except UnicodeError:
        name = b""
    if not name or len(name) > 253:
        raise LocalError(f"'{address}' is neither a DNS name nor an IP address")
    return name
