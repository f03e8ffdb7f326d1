"""A call message as bytes: signed by its sender's certificate key, its body sealed for its recipient's.

::

    offset  bytes  what
    0       4      49 43 4d 31, "ICM1"
    4       2      C, the length of the certificate, 1–1,536
    6       C      the sender's certificate, DER
    6+C     2      H, the length of the header, 1–768
    …       H      the header, canonical JSON (ice.telephony.messages)
    …       2      B, the length of the sealed body, 0 (no body) or 145–1,361
    …       65     ┐ the sealed body: an ephemeral public key, a point of P-256 not compressed (SEC 1: 04 ‖ x ‖ y)
    …       B−81   │ ciphertext: the body's JSON, filled up with spaces to the next multiple of 64
    …       16     ┘ tag
    …       64     signature: r ‖ s

All lengths are big-endian; nothing follows the signature, and nothing is longer than 4,096 bytes, which is what a stream takes.

**Signature.** ECDSA with SHA-256 on P-256 by the key of the certificate, over ``ice call message 1`` and a zero byte, then all bytes before the signature. The header names the
stream, the recipient and the time, so a message is worth nothing elsewhere, to anybody else, or later.

**Seal.** A fresh key pair per message; ECDH with the public key of the recipient's certificate; the key is HKDF-SHA-256 (RFC 5869, no salt) of the shared x coordinate, info
``ice call seal 1`` ‖ ephemeral point ‖ recipient's point, 32 bytes; AES-256-GCM with a nonce of twelve zero bytes, since no key is used twice. Additional data: the
SHA-256 of the sender's certificate ‖ the header. So nobody can take a sealed body out of somebody's message, put it into his own, and have calls made that he
cannot read. Who learns the *recipient's* key later can open what was sealed for it; the sender's key opens nothing.

**Who.** A sender is who its certificate says, as everywhere: issued by one of our own authorities, valid now, not revoked. Keys must be on P-256, as ours are.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ice.errors import LocalError
from ice.security.certificates import Identity, Role, fingerprint
from ice.security.trust import Credentials, Trust
from ice.telephony.messages import (
    MAX_BODY,
    MAX_HEADER,
    OF_GATEWAYS,
    Body,
    Header,
    MessageRefused,
    Nothing,
    body_type,
    decode_body,
    decode_header,
    encode_body,
    encode_header,
)

MAGIC: Final = b"ICM1"
MAX_MESSAGE: Final = 4_096  # the payload that a stream takes
MAX_CERTIFICATE: Final = 1_536  # ours have some 650 bytes; twenty DNS names fit
POINT: Final = 65
TAG: Final = 16
PAD: Final = 64  # so that the length of a body does not tell how long a number is
SIGNATURE: Final = 64
_SIGNED: Final = b"ice call message 1\0"
_SEALED: Final = b"ice call seal 1"
_NONCE: Final = bytes(12)
#: What cryptography raises for a certificate that is none: some of it is no ValueError.
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@attrs.frozen
class Correspondent:
    """Somebody who can be written to: who it is, and the certificate whose key bodies are sealed for."""

    identity: Identity
    certificate: x509.Certificate = attrs.field(repr=False)

    @property
    def address(self) -> str:
        """How headers name the recipient: the SHA-256 of the certificate."""
        return fingerprint(self.certificate)


@attrs.frozen
class Letter:
    """A message that was verified: who says it, and what."""

    sender: Correspondent
    header: Header
    body: Body


@attrs.frozen
class _Parts:
    """A message taken apart, nothing of it believed yet."""

    certificate: bytes
    header_bytes: bytes
    sealed: bytes
    signed: bytes
    signature: bytes


def point(certificate: x509.Certificate) -> tuple[ec.EllipticCurvePublicKey, bytes]:
    """The certificate's public key and its 65 bytes; raises :class:`MessageRefused` (``key``) where it is not on P-256."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MessageRefused("key", "call messages need certificates with keys on P-256")
    return key, key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def any_satellite(identity: Identity) -> bool:
    """Whether the role allows to speak as a gateway, where nothing more is known of a site's gateways."""
    return identity.role is Role.SATELLITE


def nobody(identity: Identity) -> bool:
    """Nobody speaks as a gateway to a gateway."""
    return False


class Envelopes:
    """Writes messages under our certificate, and opens those of others.

    ``trust`` gives what is trusted now, since that changes with a reload; ``gateways`` says who may speak as a gateway (:func:`any_satellite` unless told otherwise).

    Raises :class:`~ice.errors.LocalError` where our own key is not on P-256.
    """

    def __init__(
        self,
        credentials: Credentials,
        trust: Callable[[], Trust],
        gateways: Callable[[Identity], bool] = any_satellite,
    ) -> None:
        key = credentials.key
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise LocalError(
                "calls need a certificate with a key on P-256; make one with: ice pki issue, or ice pki renew"
            )
        self.address = fingerprint(credentials.certificate)
        self._key = key
        self._certificate = credentials.certificate.public_bytes(Encoding.DER)
        if len(self._certificate) > MAX_CERTIFICATE:
            raise LocalError(
                f"our certificate has {len(self._certificate)} bytes; call messages carry at most {MAX_CERTIFICATE}"
            )
        self._digest = hashlib.sha256(self._certificate).digest()
        self._point = point(credentials.certificate)[1]
        self._trust = trust
        self._gateways = gateways

    # -- writing

    def write(self, header: Header, body: Body, to: Correspondent | None) -> bytes:
        """The bytes of a message; its header must name the recipient's :attr:`Correspondent.address`.

        Raises :class:`~ice.errors.LocalError` for what cannot be said, and for a body without a recipient.
        """
        if header.to != (to.address if to is not None else ""):
            raise LocalError("the header names another recipient than the one that the body is sealed for")
        header_bytes = encode_header(header)
        text = encode_body(header.kind, body)
        sealed = b""
        if text:
            if to is None:
                raise LocalError(f"{header.kind} has a body, and so needs a recipient")
            sealed = self._seal(text, header_bytes, to.certificate)
        parts = [MAGIC]
        for part in (self._certificate, header_bytes, sealed):
            parts += (len(part).to_bytes(2, "big"), part)
        signed = b"".join(parts)
        r, s = decode_dss_signature(self._key.sign(_SIGNED + signed, ec.ECDSA(SHA256())))
        return signed + r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def _seal(self, text: bytes, header: bytes, certificate: x509.Certificate) -> bytes:
        recipient, recipient_point = point(certificate)
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        own = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        aead = _cipher(ephemeral.exchange(ec.ECDH(), recipient), own, recipient_point)
        return own + aead.encrypt(_NONCE, text + b" " * (-len(text) % PAD), self._digest + header)

    # -- opening

    def peek(self, data: bytes) -> Header:
        """The header, nothing verified: enough to see whether a message is for us. Raises :class:`MessageRefused`."""
        return decode_header(_parts(data).header_bytes)

    def open(self, data: bytes, on: str, unix_s: float) -> Letter:
        """The verified message; ``on`` is the stream where it was heard. Whether it is fresh is asked elsewhere.

        Raises :class:`MessageRefused`: ``form``, ``header``, ``not-canonical``, ``stream``, ``recipient``, ``certificate``, the words of
        :class:`ice.security.refusals.Reason`, ``key``, ``signature``, ``role``, ``seal``, ``body``.
        """
        parts = _parts(data)
        header = decode_header(parts.header_bytes)
        if header.on != on:
            raise MessageRefused("stream", "the message was said on another stream")
        if header.to and not hmac.compare_digest(header.to, self.address):
            raise MessageRefused("recipient", "the message is for somebody else")
        sender = self._sender(parts.certificate, unix_s)
        key, _ = point(sender.certificate)
        r, s = (int.from_bytes(half, "big") for half in (parts.signature[:32], parts.signature[32:]))
        try:
            key.verify(encode_dss_signature(r, s), _SIGNED + parts.signed, ec.ECDSA(SHA256()))
        except InvalidSignature:
            raise MessageRefused("signature", f"the signature is not that of {sender.identity}") from None
        if header.kind in OF_GATEWAYS and not self._gateways(sender.identity):
            raise MessageRefused("role", f"{sender.identity} is no gateway, and says {header.kind}")
        return Letter(sender, header, self._body(parts, header))

    def _sender(self, der: bytes, unix_s: float) -> Correspondent:
        trust = self._trust().domestic
        try:
            certificate = x509.load_der_x509_certificate(der)
            certificate.public_key()
            refusal = trust.refuses(certificate, datetime.fromtimestamp(unix_s, UTC))
        except _UNREADABLE:
            raise MessageRefused("certificate", "the sender's certificate cannot be read") from None
        if refusal is not None:
            raise MessageRefused(str(refusal.reason), refusal.sentence)
        return Correspondent(trust.peer(certificate).identity, certificate)

    def _body(self, parts: _Parts, header: Header) -> Body:
        if body_type(header.kind) is Nothing:
            return Nothing()
        if not header.to:
            raise MessageRefused("recipient", f"{header.kind} must name its recipient")
        sealed = parts.sealed
        if len(sealed) < POINT + TAG:
            raise MessageRefused("seal", f"{header.kind} comes without its body")
        ephemeral = sealed[:POINT]
        try:
            far = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), ephemeral)
            aead = _cipher(self._key.exchange(ec.ECDH(), far), ephemeral, self._point)
            sender = hashlib.sha256(parts.certificate).digest()
            text = aead.decrypt(_NONCE, sealed[POINT:], sender + parts.header_bytes)
        except (ValueError, InvalidTag):
            raise MessageRefused(
                "seal", "the body was not sealed for us, or not for this message, or was changed"
            ) from None
        return decode_body(header.kind, text)


def _cipher(shared: bytes, ephemeral: bytes, recipient: bytes) -> AESGCM:
    info = _SEALED + ephemeral + recipient
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(shared))


def _parts(data: bytes) -> _Parts:
    """Take a message apart; raises :class:`MessageRefused` (``form``)."""
    if len(data) > MAX_MESSAGE:
        raise MessageRefused("form", f"a message of {len(data)} bytes; at most {MAX_MESSAGE} are read")
    if data[: len(MAGIC)] != MAGIC:
        raise MessageRefused("form", "a call message begins with ICM1")
    position = len(MAGIC)
    found = []
    for what, least, most in (
        ("certificate", 1, MAX_CERTIFICATE),
        ("header", 1, MAX_HEADER),
        ("sealed body", 0, POINT + MAX_BODY + TAG),
    ):
        length = int.from_bytes(data[position : position + 2], "big")
        start, position = position + 2, position + 2 + length
        if position > len(data) or not least <= length <= most:
            raise MessageRefused("form", f"the message breaks off at its {what}, or it is too long")
        found.append(data[start:position])
    if len(data) - position != SIGNATURE:
        raise MessageRefused("form", f"{len(data) - position} bytes where the signature has {SIGNATURE}")
    return _Parts(found[0], found[1], found[2], data[:position], data[position:])
