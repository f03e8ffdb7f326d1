"""The door to an Asterisk: where ARI is, who we are there, whom we believe to be it. What :mod:`ice.telephony.ari_link` needs, read from files, checked before anything is dialled."""

from __future__ import annotations

import stat
from base64 import b64encode
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet import error
from twisted.internet.defer import CancelledError, TimeoutError
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import RequestGenerationFailed, ResponseFailed, ResponseNeverReceived

from ice.errors import LocalError
from ice.net.addresses import Address, AddressError, parse_address
from ice.printable import printable
from ice.security.certificates import FileTrouble, pem_blocks, read_certificates, read_file

ROOT: Final = "/ari"
MAX_PASSWORD: Final = 256
PORTS: Final = {"http": 8088, "https": 8089}


@attrs.frozen
class Door:
    """Where ARI is, and who we are there. ``trust`` is whom we believe (Twisted's trust root), ``None`` for ``http``. Its text shows no password."""

    url: str
    address: Address
    user: str
    password: str = attrs.field(repr=False)
    trust: Any = attrs.field(default=None, repr=False)

    @property
    def secure(self) -> bool:
        """Whether it is reached by TLS."""
        return self.trust is not None

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
        if authority is None:
            return cls(url, address, user, password, platformTrust())  # type: ignore[no-untyped-call]
        read_certificates(authority)
        blocks = pem_blocks(read_file(authority, "a PEM certificate"))
        roots = [Certificate.loadPEM(block) for label, block in blocks if label == "CERTIFICATE"]  # type: ignore[no-untyped-call]
        return cls(url, address, user, password, trustRootFromCertificates(roots))  # type: ignore[no-untyped-call]


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
        case VerificationError() | CertificateError():
            return "its certificate is made out to another name"
        case SSL.Error():
            reasons = ", ".join(
                str(entry[-1]) for entry in (trouble.args[0] if trouble.args else ()) if entry
            )
            hint = (
                " (not signed by the certificates of gateway.trunks.authority?)"
                if "verify" in reasons
                else ""
            )
            return f"TLS failed: {printable(reasons, 120) or 'no reason given'}{hint}"
        case error.ConnectionDone() | error.ConnectionLost():
            return "it closed the connection"
        case _:
            return printable(f"{type(trouble).__name__}: {trouble}", 160)
