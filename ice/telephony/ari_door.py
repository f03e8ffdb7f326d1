"""The door to an Asterisk: where ARI is, who we are there, whom we believe to be it. What :mod:`ice.telephony.ari_link` needs, read from files, checked before anything is dialled.

TLS 1.2 or newer; the certificate must come from the authorities given (or those of the system) and name the host that is dialled. Names are compared by :func:`ice.security.contexts.names`, since
an Asterisk may well have a certificate of the site's own authority, whose URN service-identity takes for malformed.
"""

from __future__ import annotations

import stat
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet import error
from twisted.internet.defer import CancelledError, TimeoutError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from twisted.web.client import RequestGenerationFailed, ResponseFailed, ResponseNeverReceived
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from ice.errors import LocalError
from ice.net.addresses import Address, AddressError, parse_address
from ice.printable import printable
from ice.security.certificates import FileTrouble, read_certificates, read_file
from ice.security.contexts import names

ROOT: Final = "/ari"
MAX_PASSWORD: Final = 256
PORTS: Final = {"http": 8088, "https": 8089}


@implementer(IOpenSSLClientConnectionCreator, IPolicyForHTTPS)
class Believing:
    """Makes our ends of TLS to one host. ``roots`` are the authorities that are believed; none: those of the system."""

    def __init__(self, host: str, roots: Sequence[x509.Certificate]) -> None:
        self._host = host
        self._literal = Address(host, 0).ip is not None
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        if roots:
            store = self._context.get_cert_store()
            assert store is not None
            for root in roots:
                store.add_cert(crypto.X509.from_cryptography(root))
        else:
            self._context.set_default_verify_paths()
        self._context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """Our end of a connection."""
        connection = SSL.Connection(self._context, None)
        if not self._literal:
            connection.set_tlsext_host_name(self._host.rstrip(".").encode("idna"))
        return connection

    def creatorForNetloc(self, hostname: bytes, port: int) -> Believing:
        """All hosts are this one: redirects are not followed."""
        return self

    def _verify(
        self, connection: SSL.Connection, shown: crypto.X509, error: int, depth: int, good: int
    ) -> bool:
        return bool(good) and (depth > 0 or names(shown.to_cryptography(), self._host))


@attrs.frozen
class Door:
    """Where ARI is, and who we are there. ``tls`` is ``None`` for ``http``. Its text shows no password."""

    url: str
    address: Address
    user: str
    password: str = attrs.field(repr=False)
    tls: Believing | None = attrs.field(default=None, repr=False)

    @property
    def path(self) -> str:
        """What stands before every path."""
        return urlsplit(self.url).path.rstrip("/") + ROOT

    @property
    def credentials(self) -> tuple[bytes, bytes]:
        """The header that says who we are (RFC 7617); never in a URL, where logs would keep it."""
        token = b64encode(f"{self.user}:{self.password}".encode())
        return b"Authorization", b"Basic " + token

    @classmethod
    def open(cls, url: str, user: str, password: str, authority: Path | None = None) -> Door:
        """The door of that URL. Raises :class:`~ice.errors.LocalError` for http to another machine, and for certificates that cannot be read."""
        parts = urlsplit(url)
        try:
            address = parse_address(parts.netloc, PORTS.get(parts.scheme, 0))
        except AddressError as trouble:
            raise LocalError(f"expected https://host:8089: {trouble}") from None
        if parts.scheme == "http" and address.is_loopback:
            return cls(url, address, user, password)
        if parts.scheme != "https":
            raise LocalError(
                "expected https://…: http would show the password to the network (it is taken on this machine alone)"
            )
        roots = read_certificates(authority) if authority is not None else ()
        return cls(url, address, user, password, Believing(address.host, roots))


def read_password(path: Path) -> str:
    """The password in a file: its one line. Raises :class:`~ice.errors.LocalError` where others than the owner may read it, and for what is no password."""
    text = read_file(path, "the password of the ARI user").decode("utf-8", "replace").strip()
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise FileTrouble(f"{path}: mode {mode:04o} lets others read this password; type: chmod 600 {path}")
    if not text or len(text) > MAX_PASSWORD or not text.isprintable():
        raise FileTrouble(f"{path}: expected one line with a password of 1 to {MAX_PASSWORD} characters")
    return text


def in_words(failure: Failure) -> str:
    """Why nothing came of a connection or a request: a sentence, which repeats nothing that we said."""
    trouble: Any = failure.value
    if (
        isinstance(trouble, ResponseNeverReceived | ResponseFailed | RequestGenerationFailed)
        and trouble.reasons
    ):
        trouble = trouble.reasons[0].value
    match trouble:
        case error.ConnectionRefusedError():
            return "nothing listens there (connection refused)"
        case error.TimeoutError() | TimeoutError() | CancelledError() | error.TCPTimedOutError():
            return "it does not answer in time"
        case error.DNSLookupError():
            return "its name is not known to the DNS"
        case SSL.Error():
            reasons = ", ".join(
                str(entry[-1]) for entry in (trouble.args[0] if trouble.args else ()) if entry
            )
            hint = (
                " (not of gateway.trunks.authority, or made out to another name?)"
                if "verify" in reasons
                else ""
            )
            return f"TLS failed: {printable(reasons, 120) or 'no reason given'}{hint}"
        case error.ConnectionDone() | error.ConnectionLost():
            return "it closed the connection"
        case _:
            return printable(f"{type(trouble).__name__}: {trouble}", 160)
