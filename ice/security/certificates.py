"""Who somebody is: reading certificates, keys and revocation lists, and the name a certificate carries.

Everybody on an ice network, person or program, is named by an X.509 certificate that the site's own authority issued. The name is a
URI among the subject alternative names (RFC 5280 §4.2.1.6)::

    urn:ice:<role>:<uuid>            role: client, operator, rallypoint or satellite

A certificate carries exactly one of them. The common name is for people and for access patterns; the UUID is what a program
compares, and never alone: an identity is the triple (authority, role, UUID), so that another authority cannot mint somebody of ours.

This module is pure: files in, values or errors out. What is wrong on this machine (a missing file, a key that fits no
certificate) is a `FileTrouble`, a `LocalError` naming the file and what was expected in it; what is wrong with a far side's
certificate is a `BadIdentity`, a `RemoteError`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from ice.errors import LocalError, RemoteError

MAX_FILE = (
    1 << 20
)  # bytes; a revocation list of 20,000 entries is still below, a wrong path to a disk image is not
MAX_NAME = 64  # characters; the upper bound of a common name (RFC 5280 appendix A, ub-common-name)
MAX_CERTIFICATES = 64  # in one file; a roll-over needs two, a chain four
PREFIX = "urn:ice:"

SigningKey = (
    ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
)  # what TLS 1.3 signs with; ours are P-256

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")


class FileTrouble(LocalError):
    """A certificate, key or revocation list of ours cannot be used; the message names the file and the remedy."""


class BadIdentity(RemoteError):
    """A certificate carries no identity that this network accepts.

    :ivar reason: a short word for counters: ``bad-identity`` or ``unknown-authority``.
    """

    def __init__(self, message: str, reason: str = "bad-identity") -> None:
        super().__init__(message)
        self.reason = reason


class Role(StrEnum):
    """What a certificate entitles its holder to be."""

    CLIENT = "client"  # a person, a radio: opens links, talks under its own source only
    RALLYPOINT = "rallypoint"  # a switch: accepts links, and opens links to its peers
    SATELLITE = "satellite"  # a patch, reflector or gateway: carries others' sources
    OPERATOR = "operator"  # a dispatcher: a client who may also control patches and gateways from afar


@attrs.frozen
class Identity:
    """Who a certificate says somebody is.

    :ivar authority: SHA-256 fingerprint of the issuing authority's certificate, 64 lower-case hex digits.
    :ivar role: one of `Role`.
    :ivar id: the UUID; unique only together with ``authority`` and ``role``.
    :ivar name: the common name, 1–64 printable characters; for people and patterns.
    """

    authority: str
    role: Role
    id: UUID
    name: str

    def __str__(self) -> str:
        return f"{self.role} '{self.name}' ({str(self.id)[:18]})"

    @property
    def triple(self) -> tuple[str, str, UUID]:
        """What makes two identities one: the same authority, role and UUID, whatever the name."""
        return (self.authority, str(self.role), self.id)


def fingerprint(certificate: x509.Certificate) -> str:
    """The SHA-256 of the certificate's DER, as 64 lower-case hex digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def spaced(hex_digits: str) -> str:
    """A fingerprint as people read it aloud: groups of four, ``ab12 cd34 …``."""
    return " ".join(hex_digits[i : i + 4] for i in range(0, len(hex_digits), 4))


def urn_of(role: Role, id: UUID) -> str:
    """The subject alternative name of an identity: ``urn:ice:client:<uuid>``."""
    return f"{PREFIX}{role}:{id}"


def parse_urn(urn: str) -> tuple[Role, UUID]:
    """Role and UUID of ``urn:ice:<role>:<uuid>``; case is insignificant, as in every URN namespace (RFC 8141 §3.1).

    :raises BadIdentity: it is another URN, the role is unknown, or the UUID is not 8-4-4-4-12 hex digits.
    """
    shown = _shown(urn, 100)
    if not urn.lower().startswith(PREFIX):
        raise BadIdentity(f"expected urn:ice:<role>:<uuid>, got {shown}")
    role_word, colon, uuid_word = urn[len(PREFIX) :].lower().partition(":")
    if not colon:
        raise BadIdentity(f"expected urn:ice:<role>:<uuid>, got {shown}")
    try:
        role = Role(role_word)
    except ValueError:
        raise BadIdentity(
            f"unknown role {_shown(role_word, 40)} in {shown}: expected client, rallypoint or satellite"
        ) from None
    if not _UUID.fullmatch(uuid_word):
        raise BadIdentity(f"bad UUID {_shown(uuid_word, 60)} in {shown}: expected 8-4-4-4-12 hex digits")
    return role, UUID(uuid_word)


def common_name(certificate: x509.Certificate) -> str:
    """The common name, or ``""`` when there is none or it cannot be read; unchecked, so show it quoted only."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return ""
    return str(names[0].value) if names else ""


def role_and_id(certificate: x509.Certificate) -> tuple[Role, UUID]:
    """Role and UUID that the certificate claims; who issued it is not asked here.

    :raises BadIdentity: there is no ``urn:ice:`` name, more than one, or one that `parse_urn` refuses.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise BadIdentity(f"the certificate's extensions cannot be read: {_shown(str(error), 100)}") from None
    ours = [uri for uri in uris if uri.lower().startswith(PREFIX)]
    if not ours:
        raise BadIdentity(
            f"the certificate of {_shown(common_name(certificate))} carries no urn:ice: name: it was not issued by "
            "`ice pki issue`"
        )
    if len(ours) > 1:
        raise BadIdentity(
            f"the certificate of {_shown(common_name(certificate))} carries {len(ours)} urn:ice: names: exactly one is allowed"
        )
    return parse_urn(ours[0])


def issuer_among(
    certificate: x509.Certificate, authorities: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """The authority whose key signed the certificate and whose subject is its issuer, or None."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return authority
    return None


def identity_of(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> Identity:
    """Who the certificate says its holder is, when one of the authorities issued it.

    Validity in time and revocation are not asked here: see `ice.security.trust.Trust`.

    :raises BadIdentity: no such name or two, an unknown role, a bad UUID, a common name that is missing, too long or not
        printable; or, with reason ``unknown-authority``, none of the authorities issued it.
    """
    authority = issuer_among(certificate, authorities)
    if authority is None:
        raise BadIdentity(
            f"the certificate of {_shown(common_name(certificate))} was issued by {_shown(issuer_name(certificate), 80)}, which is "
            f"none of the {len(authorities)} authorities trusted here",
            reason="unknown-authority",
        )
    role, id = role_and_id(certificate)
    name = common_name(certificate)
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise BadIdentity(f"bad common name {_shown(name)}: expected 1 to {MAX_NAME} printable characters")
    return Identity(authority=fingerprint(authority), role=role, id=id, name=name)


def issuer_name(certificate: x509.Certificate) -> str:
    """The issuer's distinguished name as text, or ``"(unreadable)"``."""
    try:
        return certificate.issuer.rfc4514_string()
    except ValueError:
        return "(unreadable)"


class Validity(StrEnum):
    """Where in its life a certificate stands."""

    VALID = "valid"
    EXPIRED = "expired"
    NOT_YET = "not-yet-valid"


def validity(certificate: x509.Certificate, now: datetime) -> Validity:
    """Where ``now`` (with time zone) lies; both borders belong to the valid span (RFC 5280 §4.1.2.5)."""
    if now < certificate.not_valid_before_utc:
        return Validity.NOT_YET
    if now > certificate.not_valid_after_utc:
        return Validity.EXPIRED
    return Validity.VALID


def validity_in_words(certificate: x509.Certificate, now: datetime) -> str:
    """A sentence part such as ``valid until 2031-03-01 12:00 UTC (in 364 days)`` or ``expired on … (3 days ago)``."""
    state = validity(certificate, now)
    if state is Validity.NOT_YET:
        begin = certificate.not_valid_before_utc
        return f"not valid before {date_in_words(begin)} (in {span_in_words(begin - now)})"
    end = certificate.not_valid_after_utc
    if state is Validity.EXPIRED:
        return f"expired on {date_in_words(end)} ({span_in_words(now - end)} ago)"
    return f"valid until {date_in_words(end)} (in {span_in_words(end - now)})"


def date_in_words(moment: datetime) -> str:
    """``2031-03-01 12:00 UTC``."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def span_in_words(span: timedelta) -> str:
    """A length of time in its largest sensible unit: ``364 days``, ``5 hours``, ``1 minute``."""
    seconds = max(0, int(span.total_seconds()))
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length or (seconds >= length and unit != "day"):
            count = seconds // length
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{seconds} second{'s' if seconds != 1 else ''}"


# Files


def read_file(path: Path, expected: str) -> bytes:
    """The bytes of a file of at most `MAX_FILE` bytes.

    :param expected: what should be in it, for the message: ``"a PEM certificate"``.
    :raises FileTrouble: it is missing, unreadable, no regular file, or too large.
    """
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileTrouble(f"{path}: expected {expected}, but this is no regular file")
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise FileTrouble(
            f"{path}: there is no such file; expected {expected} (first time here? type: ice pki init)"
        ) from None
    except PermissionError:
        raise FileTrouble(
            f"{path}: this user may not read it; expected {expected} (look at its owner with: ls -l {path})"
        ) from None
    except OSError as error:
        raise FileTrouble(f"{path}: expected {expected}: {error.strerror or error}") from None
    if len(data) > MAX_FILE:
        raise FileTrouble(f"{path}: expected {expected}, but the file is larger than {MAX_FILE} bytes")
    return data


def pem_blocks(data: bytes) -> list[tuple[str, bytes]]:
    """Each PEM block (RFC 7468) as (label, whole block), in order; text between blocks is skipped.

    A BEGIN without its END ends the search. The time taken is linear in the length, whatever the bytes.
    """
    blocks = []
    position = 0
    while (begin := _BEGIN.search(data, position)) is not None:
        end = b"-----END " + begin[1] + b"-----"
        stop = data.find(end, begin.end())
        if stop < 0:
            break
        position = stop + len(end)
        blocks.append((begin[1].decode("ascii"), data[begin.start() : position]))
    return blocks


def parse_certificates(data: bytes, where: str) -> tuple[x509.Certificate, ...]:
    """Every certificate in PEM text, in order, at least one; other blocks (a key in the same file) are skipped.

    :param where: the file's name, for messages.
    :raises FileTrouble: there is none, there are more than `MAX_CERTIFICATES`, or one cannot be read.
    """
    blocks = pem_blocks(data)
    found = [block for label, block in blocks if label == "CERTIFICATE"]
    if not found:
        raise FileTrouble(f"{where}: expected a PEM certificate, found {_what(data, blocks)}")
    if len(found) > MAX_CERTIFICATES:
        raise FileTrouble(f"{where}: holds {len(found)} certificates, at most {MAX_CERTIFICATES} are read")
    certificates = []
    for number, block in enumerate(found, 1):
        try:
            certificate = x509.load_pem_x509_certificate(block)
            certificate.public_key()  # so that a key we cannot use is told here, with the file's name
        except (ValueError, UnsupportedAlgorithm) as error:
            raise FileTrouble(
                f"{where}: certificate {number} cannot be read: {_shown(str(error), 120)}"
            ) from None
        certificates.append(certificate)
    return tuple(certificates)


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """Every certificate of a PEM file: a leaf and its chain, or several authorities.

    :raises FileTrouble: as `read_file` and `parse_certificates`.
    """
    return parse_certificates(read_file(path, "a PEM certificate"), str(path))


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether the certificate may sign others (basicConstraints CA, RFC 5280 §4.2.1.9)."""
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        return False


def read_authorities(
    paths: Sequence[Path], setting: str = "authority.certificates"
) -> tuple[x509.Certificate, ...]:
    """The authorities of all files, each once, in order.

    :param setting: the key of the configuration that names the files, for messages.
    :raises FileTrouble: as `read_certificates`; or one of them is no authority: a leaf listed by mistake would otherwise be
        trusted itself.
    """
    found: dict[str, x509.Certificate] = {}
    for path in paths:
        for certificate in read_certificates(path):
            if not is_authority(certificate):
                raise FileTrouble(
                    f"{path}: expected an authority's certificate, but that of {_shown(common_name(certificate))} may not issue "
                    f"others; {setting} wants authority.pem"
                )
            found.setdefault(fingerprint(certificate), certificate)
    return tuple(found.values())


def indistinct(one: x509.Certificate, other: x509.Certificate) -> str | None:
    """Why two authorities are one, or could be taken for each other, as the end of a sentence; None where they are well apart.

    OpenSSL finds the issuer of a certificate by name and, where given, key identifier, and looks at one candidate only: an authority with the name
    and key identifier of another could keep everybody of that other one out.
    """
    if fingerprint(one) == fingerprint(other):
        return "is one of ours"
    if _spki(one.public_key()) == _spki(other.public_key()):
        return "has the key of one of ours"
    if one.subject == other.subject:
        mine, yours = _key_identifier(one), _key_identifier(other)
        if mine is None or yours is None or mine == yours:
            return "has the name of one of ours and no key identifier of its own"
    return None


def _key_identifier(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        return None


def parse_private_key(data: bytes, where: str, passphrase: bytes | None = None) -> SigningKey:
    """The first private key in PEM text.

    :raises FileTrouble: there is none, it is encrypted and no passphrase was given, the passphrase is wrong, or it cannot be read.
    """
    blocks = pem_blocks(data)
    keys = [(label, block) for label, block in blocks if label.endswith("PRIVATE KEY")]
    if not keys:
        raise FileTrouble(f"{where}: expected a PEM private key, found {_what(data, blocks)}")
    label, block = keys[0]
    encrypted = label.startswith("ENCRYPTED") or b"ENCRYPTED" in block.split(b"\n\n")[0]
    if encrypted and passphrase is None:
        raise FileTrouble(
            f"{where}: the key is encrypted; give its passphrase with --passphrase-file (a daemon's key is not encrypted, but mode 0600)"
        )
    try:
        key = load_pem_private_key(block, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise FileTrouble(f"{where}: the passphrase does not open this key") from None
        raise FileTrouble(f"{where}: the private key cannot be read: {_shown(str(error), 120)}") from None
    if not isinstance(key, SigningKey):
        raise FileTrouble(
            f"{where}: expected an elliptic-curve, Ed25519 or RSA key, found {type(key).__name__}"
        )
    return key


def read_private_key(path: Path, passphrase: bytes | None = None) -> SigningKey:
    """The private key of a PEM file.

    :raises FileTrouble: as `read_file` and `parse_private_key`.
    """
    return parse_private_key(read_file(path, "a PEM private key"), str(path), passphrase)


def key_mode_warning(path: Path) -> str | None:
    """A sentence when others than the owner may read or write a key file, else None; a missing file is no matter of its mode."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return None
    if mode & 0o077:
        return f"{path}: mode {mode:04o} lets others than the owner use this key; type: chmod 600 {path}"
    return None


def keys_match(certificate: x509.Certificate, key: SigningKey) -> bool:
    """Whether the private key is the one whose public half the certificate carries."""
    return _spki(certificate.public_key()) == _spki(key.public_key())


def parse_revocations(data: bytes, where: str) -> tuple[x509.CertificateRevocationList, ...]:
    """Every revocation list (RFC 5280 §5) in PEM text, at least one; several stand in one file during a roll-over.

    :raises FileTrouble: there is none or one cannot be read.
    """
    blocks = pem_blocks(data)
    found = [block for label, block in blocks if label == "X509 CRL"]
    if not found:
        raise FileTrouble(f"{where}: expected a PEM revocation list (X509 CRL), found {_what(data, blocks)}")
    if len(found) > MAX_CERTIFICATES:
        raise FileTrouble(
            f"{where}: holds {len(found)} revocation lists, at most {MAX_CERTIFICATES} are read"
        )
    lists = []
    for number, block in enumerate(found, 1):
        try:
            revocations = x509.load_pem_x509_crl(block)
            len(revocations)  # the entries are parsed lazily; a bad one is told here, with the file's name
        except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            raise FileTrouble(
                f"{where}: revocation list {number} cannot be read: {_shown(str(error), 120)}"
            ) from None
        lists.append(revocations)
    return tuple(lists)


def read_revocations(path: Path) -> tuple[x509.CertificateRevocationList, ...]:
    """The revocation lists of a PEM file; none when there is no such file: nothing was ever revoked.

    :raises FileTrouble: the file is there but not usable.
    """
    if not path.exists():
        return ()
    return parse_revocations(read_file(path, "a PEM revocation list"), str(path))


def list_expired(revocations: x509.CertificateRevocationList, now: datetime) -> bool:
    """Whether the list's next update is past: a newer one should have been fetched."""
    due = revocations.next_update_utc
    return due is not None and now > due


def _spki(key: object) -> bytes:
    public_bytes = getattr(key, "public_bytes", None)
    if public_bytes is None:  # a key type without a public half in this form can match nothing
        return b""
    return bytes(public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _what(data: bytes, blocks: Sequence[tuple[str, bytes]]) -> str:
    """What a file holds instead, in words."""
    if not data.strip():
        return "an empty file"
    if not blocks:
        return "no PEM block at all"
    return ", ".join(sorted({label.lower() for label, _ in blocks}))


def _shown(text: str, limit: int = MAX_NAME) -> str:
    """Foreign text fit for a log line: quoted, control characters escaped, cut."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return ascii(cut) if not cut.isprintable() else f"'{cut}'"
