"""Signing and believing floods with the certificates that links use: ECDSA with SHA-256 on the certificate's curve, normally P-256.

A certificate is believed when an authority of ours has issued it to a Rallypoint and has not revoked it.  Its validity in time is not
asked: the TLS handshake has asked it, and a clock that is wrong on one machine must not divide the mesh.
"""

from collections.abc import Callable
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256

from ice.errors import LocalError, RemoteError
from ice.link.peer import MAX_CERTIFICATE
from ice.security.certificates import Role, SigningKey
from ice.security.trust import Peer, Trust

#: Certificates remembered with their keys, some 3 kB each; a mesh of the largest size has 1,024 origins.
MAX_KNOWN = 2_048

_ECDSA = ec.ECDSA(SHA256())

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def sign_with(key: SigningKey) -> Callable[[bytes], bytes]:
    """What signs messages with ``key``; raises :class:`LocalError` for a key that is neither elliptic-curve nor Ed25519."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        curve = key
        return lambda message: curve.sign(message, _ECDSA)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign
    raise LocalError(
        f"a Rallypoint of a mesh signs with an elliptic-curve key, not {type(key).__name__}; type: ice pki renew NAME"
    )


def verify_with(key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is that of the holder of ``key`` on ``message``."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, _ECDSA)
    except InvalidSignature:
        return False
    return True


class Believer:
    """Whom a Rallypoint believes, by the authorities and revocations of now; ``identify`` and ``verify`` are what a Mesh asks."""

    def __init__(self, trust: Trust) -> None:
        #: Exchange it after a reload, then call :meth:`ice.rallypoint.mesh.Mesh.reconsider`.
        self.trust = trust
        self._known: dict[bytes, tuple[x509.Certificate, PublicKey]] = {}

    def identify(self, certificate: bytes) -> UUID:
        """The UUID of a Rallypoint's certificate (DER); raises :class:`RemoteError` saying why it is not believed."""
        parsed, _ = self._read(certificate)
        peer: Peer = self.trust.peer(parsed)
        if peer.identity.role is not Role.RALLYPOINT:
            raise RemoteError(f"{peer.identity} is no Rallypoint")
        refusal = self.trust.still_refuses(peer)
        if refusal is not None:
            raise RemoteError(refusal.sentence)
        return peer.identity.id

    def verify(self, certificate: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the holder of ``certificate``, which has been identified, has signed ``message``."""
        return verify_with(self._read(certificate)[1], message, signature)

    def _read(self, certificate: bytes) -> tuple[x509.Certificate, PublicKey]:
        known = self._known.get(certificate)
        if known is None:
            if len(certificate) > MAX_CERTIFICATE:
                raise RemoteError(f"a certificate has at most {MAX_CERTIFICATE} bytes")
            try:
                parsed = x509.load_der_x509_certificate(certificate)
                key = parsed.public_key()
            except (ValueError, UnsupportedAlgorithm) as error:
                raise RemoteError(f"a certificate that cannot be read: {ascii(str(error))[:100]}") from None
            if not isinstance(key, PublicKey):
                raise RemoteError(f"a Rallypoint signs with an elliptic-curve key, not {type(key).__name__}")
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[certificate] = (parsed, key)
        return known
