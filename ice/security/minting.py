"""Making certificates and revocation lists: keys and names in, signed values out; no files, no clock of its own.

What is made (RFC 5280): an authority signs leaves and lists and nothing else: basicConstraints CA with path length 0, keyUsage keyCertSign and cRLSign.
A leaf may not sign certificates, carries its ice name, DNS names and addresses as subject alternative names, and may be used as far
as its role needs: a Rallypoint at both ends of TLS (it dials its peers), a satellite that has names or addresses likewise (it can be controlled over
HTTPS), everybody else at the opening end only. Keys are on
P-256: every phone, browser and TLS library signs with it, in hardware where there is any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ice.security.certificates import Role, SigningKey, urn_of

BACKDATED = timedelta(
    hours=1
)  # a machine whose clock is an hour slow, or in the wrong summer time, still accepts a new certificate
AUTHORITY_DAYS = 3650
LEAF_DAYS = 365
LIST_DAYS = 400  # every issue, renewal and revocation signs the list anew, so a site that renews yearly never sees an old one

_USES = {
    Role.CLIENT: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Role.RALLYPOINT: (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    Role.SATELLITE: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Role.OPERATOR: (ExtendedKeyUsageOID.CLIENT_AUTH,),
}
_BOTH = _USES[Role.RALLYPOINT]


def _uses(subject: Subject) -> tuple[x509.ObjectIdentifier, ...]:
    dialled = subject.dns or subject.addresses
    return _BOTH if subject.role is Role.SATELLITE and dialled else _USES[subject.role]


@attrs.frozen
class Subject:
    """Whom a leaf is for.

    :ivar name: the common name.
    :ivar role: what its holder may be.
    :ivar id: its UUID.
    :ivar dns: DNS names, A-labels, a leading ``*.`` allowed; where others dial it.
    :ivar addresses: literal addresses, likewise.
    """

    name: str
    role: Role
    id: UUID
    dns: tuple[str, ...] = ()
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def new_authority(
    name: str, key: SigningKey, now: datetime, days: float = AUTHORITY_DAYS
) -> x509.Certificate:
    """A self-signed authority certificate, valid from an hour before ``now`` for so many days after it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=False, certify=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, digest_for(key))


def new_leaf(
    subject: Subject,
    key: SigningKey,
    authority: x509.Certificate,
    authority_key: SigningKey,
    begin: datetime,
    end: datetime,
) -> x509.Certificate:
    """A certificate for ``subject`` and the public half of ``key``; it never outlives the authority."""
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(urn_of(subject.role, subject.id)),
        *map(x509.DNSName, subject.dns),
        *map(x509.IPAddress, subject.addresses),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(min(end, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True, certify=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_uses(subject)), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    return builder.sign(authority_key, digest_for(authority_key))


def new_list(
    entries: Iterable[tuple[int, datetime]],
    number: int,
    authority: x509.Certificate,
    authority_key: SigningKey,
    now: datetime,
    days: float = LIST_DAYS,
) -> x509.CertificateRevocationList:
    """A revocation list: (serial number, when) of each certificate revoked, and the list's own rising number (RFC 5280 §5.2.3)."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now - BACKDATED)
        .next_update(now + timedelta(days=days))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    for serial, when in entries:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        )
    return builder.sign(authority_key, digest_for(authority_key))


def certificate_pem(certificates: x509.Certificate | Sequence[x509.Certificate]) -> bytes:
    """One certificate or several as PEM."""
    if isinstance(certificates, x509.Certificate):
        certificates = (certificates,)
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def list_pem(revocations: Iterable[x509.CertificateRevocationList]) -> bytes:
    """Revocation lists as PEM, one after the other."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in revocations)


def key_pem(key: SigningKey, passphrase: bytes | None = None) -> bytes:
    """A private key as PKCS #8 PEM, encrypted if there is a passphrase."""
    encryption: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def key_mark(key: SigningKey) -> str:
    """Six hex digits of the public key's SHA-256: enough to tell two authorities of one site apart by name."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()[:6]


def digest_for(key: SigningKey) -> hashes.SHA256 | None:
    """What is hashed with before signing: SHA-256, or nothing for Ed25519, which hashes by itself."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _usage(sign: bool, certify: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certify,
        crl_sign=certify,
        encipher_only=False,
        decipher_only=False,
    )
