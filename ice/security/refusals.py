"""Why a TLS handshake came to nothing: one word for a counter, one sentence for a person, on both ends.

Who refuses knows the reason exactly (`HandshakeRefused`, raised out of the handshake by our verification callback). Who is refused
hears a TLS alert (RFC 8446 §6.2), a single byte, and must guess the rest: `explain` turns each into what it most probably means here
and what to do about it. In TLS 1.3 a client has finished its handshake before the server looks at its certificate, so the alert reaches
it as an error of its *first read*: pass that error to `explain` as well.

Some refusals of ours have no alert of their own in OpenSSL and reach the far side as ``internal_error``: a wrong role inside
ice, a name that is not the one dialled, a certificate without an ice name, a Rallypoint of another organisation that is not listed. The
sentence for that alert says so.
"""

from __future__ import annotations

from enum import StrEnum

import attrs
from OpenSSL import SSL

from ice.errors import RemoteError


class Reason(StrEnum):
    """Why, in a word; the values are stable, they name counters."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    UNKNOWN_AUTHORITY = "unknown-authority"
    REVOKED = "revoked"
    NO_CERTIFICATE = "no-certificate"
    BAD_CERTIFICATE = "bad-certificate"  # its signature, its form, its permitted use
    BAD_IDENTITY = "bad-identity"  # no urn:ice: name, two, or one that cannot be read
    ROLE = "role"
    NOT_LISTED = "not-listed"  # of another organisation's authority, and none of the Rallypoints listed; or another than was dialled
    NAME_MISMATCH = "name-mismatch"
    TLS_VERSION = "tls-version"
    PLAIN_HTTP = "plain-http"
    NOT_TLS = "not-tls"
    CLOSED = "closed"
    UNSPECIFIC = "unspecific"  # an alert that says nothing more
    TLS_ERROR = "tls-error"  # everything else that OpenSSL knows


@attrs.frozen
class Refusal:
    """One handshake that failed, or one certificate that is not accepted.

    :ivar reason: why.
    :ivar sentence: why, for a person, with what to do; foreign text in it is quoted and cut.
    :ivar by_us: whether we refused; else the far side did, and the reason is what its alert says.
    """

    reason: Reason
    sentence: str
    by_us: bool

    @property
    def code(self) -> str:
        """The word for a counter: the reason; with ``told-`` before it when the far side told us so in an alert."""
        return str(self.reason) if self.by_us else f"told-{self.reason}"

    def __str__(self) -> str:
        return self.sentence


class HandshakeRefused(SSL.Error, RemoteError):
    """We refuse the far side's certificate; raised out of ``do_handshake``, and by Twisted handed to ``connectionLost``.

    It is an ``OpenSSL.SSL.Error`` so that everything which expects one, Twisted's TLS above all, treats it as a failed handshake
    and still sends the alert.
    """

    def __init__(self, refusal: Refusal) -> None:
        # In the shape of OpenSSL's error queue, which Twisted's TLS takes apart to look for an end of file.
        super().__init__([("ice", "verification", refusal.sentence)])
        self.refusal = refusal

    def __str__(self) -> str:
        return self.refusal.sentence


_ALERT = " alert "  # OpenSSL's reason strings for a received alert: "tlsv1 alert unknown ca", "tls alert certificate expired"

_ALERTS: dict[str, tuple[Reason, str]] = {
    "certificate expired": (
        Reason.EXPIRED,
        "our certificate has expired, says the other side (look with: ice pki show; mend with: ice pki renew NAME)",
    ),
    "certificate revoked": (
        Reason.REVOKED,
        "our certificate is revoked, says the other side (ask whoever runs its authority for a new one)",
    ),
    "unknown ca": (
        Reason.UNKNOWN_AUTHORITY,
        "our certificate is of an authority that the other side does not trust (compare both ends with: ice pki show)",
    ),
    "certificate required": (
        Reason.NO_CERTIFICATE,
        "the other side wants a certificate of its authority and we showed none (set identity.certificate)",
    ),
    "bad certificate": (
        Reason.BAD_CERTIFICATE,
        (
            "the other side does not accept our certificate: it is not yet valid by the other side's clock, or damaged (compare the clocks; look "
            "with: ice pki show)"
        ),
    ),
    "unsupported certificate": (
        Reason.ROLE,
        "our certificate is not meant for this end of a link, says the other side (its role must be rallypoint to accept links)",
    ),
    "certificate unknown": (
        Reason.BAD_CERTIFICATE,
        "the other side does not accept our certificate and does not say why (its log does)",
    ),
    "access denied": (Reason.ROLE, "the other side does not admit our certificate (its log says why)"),
    "protocol version": (
        Reason.TLS_VERSION,
        "the other side speaks no TLS version that we do; ice links are TLS 1.3 only",
    ),
    "insufficient security": (
        Reason.TLS_VERSION,
        "the other side finds none of our ciphers good enough; ice links are TLS 1.3 only",
    ),
    "decrypt error": (
        Reason.BAD_CERTIFICATE,
        "the other side could not check our signature: our key and certificate may not belong together",
    ),
    "no application protocol": (
        Reason.TLS_ERROR,
        "the other side does not speak ice-link/1 (is this address really a Rallypoint?)",
    ),
    "internal error": (
        Reason.UNSPECIFIC,
        (
            "the other side ended the handshake without a reason; most often our certificate's role or name is not what it expects, or it is of "
            "another organisation that has not listed us (its log says why)"
        ),
    ),
    "handshake failure": (
        Reason.UNSPECIFIC,
        "the other side found nothing in common with our TLS 1.3 (an old or foreign TLS on the other side?)",
    ),
}

_FAILURES: dict[str, tuple[Reason, str]] = {
    "peer did not return a certificate": (
        Reason.NO_CERTIFICATE,
        "the other side showed no certificate; a Rallypoint admits certificates of its authority only",
    ),
    "unsupported protocol": (
        Reason.TLS_VERSION,
        "the other side offers TLS 1.2 or older; ice links are TLS 1.3 only",
    ),
    "http request": (
        Reason.PLAIN_HTTP,
        "plain HTTP was spoken on a TLS port (is the port number right? 7443 is the link, 7480 the status page)",
    ),
    "https proxy request": (Reason.PLAIN_HTTP, "an HTTP proxy request (CONNECT) was spoken on a TLS port"),
    "wrong version number": (
        Reason.NOT_TLS,
        "what the other side speaks is not TLS (is the port number right?)",
    ),
    "unexpected message": (Reason.NOT_TLS, "the other side's first message is no TLS handshake"),
    "packet length too long": (Reason.NOT_TLS, "what the other side sends is no TLS record"),
    "data length too long": (Reason.NOT_TLS, "what the other side sends is no TLS record"),
    "record layer failure": (Reason.NOT_TLS, "what the other side sends is no TLS record"),
    "unexpected eof while reading": (
        Reason.CLOSED,
        "the other side closed the connection during the handshake",
    ),
}


def explain(error: BaseException) -> Refusal:
    """What a failed handshake, or a failed first read after it, means.

    :param error: what ``do_handshake``, ``recv`` or Twisted's ``connectionLost`` brought.
    :returns: never fails; what is not recognised becomes ``tls-error`` with OpenSSL's own words, ``closed`` when it is no TLS error.
    """
    if isinstance(error, HandshakeRefused):
        return error.refusal
    if isinstance(error, SSL.ZeroReturnError):
        return Refusal(Reason.CLOSED, "the other side closed the connection", by_us=False)
    if isinstance(error, SSL.SysCallError):
        return Refusal(
            Reason.CLOSED, f"the connection broke during the handshake: {_words(error)}", by_us=False
        )
    if not isinstance(error, SSL.Error):
        return Refusal(Reason.CLOSED, f"the connection ended: {error}", by_us=False)
    reasons = openssl_reasons(error)
    for reason in reasons:
        _, alert, description = reason.partition(_ALERT)
        if not alert:
            continue
        word, sentence = _ALERTS.get(
            description, (Reason.UNSPECIFIC, f"the other side ended the handshake: {description}")
        )
        return Refusal(word, sentence, by_us=False)
    for reason in reasons:
        if reason in _FAILURES:
            word, sentence = _FAILURES[reason]
            return Refusal(word, sentence, by_us=word is not Reason.CLOSED)
    if _is_reset(error):
        return Refusal(
            Reason.CLOSED,
            "the other side reset the connection; where it refused us, its log says why",
            by_us=False,
        )
    return Refusal(
        Reason.TLS_ERROR, f"the TLS handshake failed: {'; '.join(reasons) or 'no reason given'}", by_us=True
    )


def openssl_reasons(error: SSL.Error) -> list[str]:
    """The reason strings that OpenSSL queued, first cause first, lower case."""
    entries = error.args[0] if error.args and isinstance(error.args[0], (list, tuple)) else ()
    return [
        entry[2].lower()
        for entry in entries
        if isinstance(entry, tuple) and len(entry) == 3 and isinstance(entry[2], str)
    ]


def _is_reset(error: SSL.Error) -> bool:
    """Whether a system call failed inside OpenSSL, of which pyOpenSSL tells the library and no more."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else ()
    return any(isinstance(entry, tuple) and entry[:1] == ("system library",) for entry in entries)


def _words(error: SSL.Error) -> str:
    """The last argument of a ``SysCallError(number, text)``."""
    return str(error.args[-1]).lower() if error.args else "no reason given"
