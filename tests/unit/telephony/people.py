"""People with certificates, and a gateway, for tests of call messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import UUID, uuid5

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ice.security.certificates import Identity, Role, SigningKey, fingerprint
from ice.security.minting import Subject, new_authority, new_key, new_leaf
from ice.security.trust import Credentials, Trust
from ice.telephony.envelope import Correspondent, Envelopes

NOW = datetime(2031, 3, 1, 12, tzinfo=UTC)
UNIX = NOW.timestamp()
SPACE = UUID(int=1)


def authority(name: str = "site") -> Credentials:
    return _authority(name)


@cache
def _authority(name: str) -> Credentials:
    key = new_key()
    return Credentials(new_authority(name, key, NOW), (), key)


def credentials(
    name: str, role: Role = Role.CLIENT, issuer: str = "site", curve: str = "p256", days: int = 365
) -> Credentials:
    return _credentials(name, role, issuer, curve, days)


@cache
def _credentials(name: str, role: Role, issuer: str, curve: str, days: int) -> Credentials:
    key: SigningKey = new_key()
    if curve == "p384":
        key = ec.generate_private_key(ec.SECP384R1())
    elif curve == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    above = authority(issuer)
    subject = Subject(name, role, uuid5(SPACE, name))
    begin = NOW - timedelta(days=30)
    leaf = new_leaf(subject, key, above.certificate, above.key, begin, begin + timedelta(days=days))
    return Credentials(leaf, (), key)


@cache
def trust() -> Trust:
    return Trust((authority().certificate,))


def correspondent(name: str, role: Role = Role.CLIENT) -> Correspondent:
    found = credentials(name, role)
    id = uuid5(SPACE, name)
    who = Identity(fingerprint(authority().certificate), role, id, name)
    return Correspondent(who, found.certificate)


def envelopes(name: str, role: Role = Role.CLIENT, issuer: str = "site", **more: object) -> Envelopes:
    return Envelopes(credentials(name, role, issuer, **more), trust)  # type: ignore[arg-type]
