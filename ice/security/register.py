"""The folder ``pki/``: which file is what, whose certificates are in it, which are revoked. Nothing here needs the authority's key.

::

    authority.pem  authority.key    the site's authority; the key is on one machine only
    authority-3f9a2c.pem            another authority that is believed too, during a roll-over
    revoked.pem                     revocation lists
    NAME.pem  NAME.key              somebody's certificate and key
    issued/SERIAL.pem               a copy of each certificate that this authority ever issued, so that it can be revoked

"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from uuid import UUID

import attrs
from cryptography import x509

from ice.errors import LocalError
from ice.security.certificates import (
    MAX_NAME,
    BadIdentity,
    FileTrouble,
    common_name,
    fingerprint,
    issuer_among,
    read_authorities,
    read_certificates,
    read_revocations,
    role_and_id,
)
from ice.security.minting import Subject

MIN_PREFIX = 8  # hex digits of a fingerprint that name a certificate; fewer are too easily somebody else's

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HOST = re.compile(
    r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_RESERVED = ("authority", "revoked", "ice")


@attrs.frozen
class Entry:
    """One certificate as a person wants to see it.

    :ivar name: the name of its files, or ``""`` when it is known from ``issued/`` alone (renewed since, or its files are elsewhere).
    :ivar certificate: the certificate.
    :ivar role: its role; ``"authority"``, or ``""`` where it carries no ice name.
    :ivar id: its UUID, if it has one.
    :ivar revoked: since when it is revoked.
    :ivar ours: whether an authority in this folder issued it, or it is one.
    """

    name: str
    certificate: x509.Certificate
    role: str
    id: UUID | None
    revoked: datetime | None
    ours: bool

    @property
    def common_name(self) -> str:
        """The name for people."""
        return common_name(self.certificate)

    @property
    def fingerprint(self) -> str:
        """SHA-256, 64 hex digits."""
        return fingerprint(self.certificate)

    @property
    def valid_from(self) -> datetime:
        """The beginning of its validity."""
        return self.certificate.not_valid_before_utc

    @property
    def valid_until(self) -> datetime:
        """The end of its validity."""
        return self.certificate.not_valid_after_utc


def check_name(name: str) -> str:
    """A name that files in ``pki/`` may have.

    :raises LocalError: it has other characters than letters, digits and ``. _ @ -``, is too long, or is taken by the folder itself.
    """
    if not _NAME.fullmatch(name):
        raise LocalError(
            f"{name!a}: expected a name of letters, digits and . _ @ - (1 to 64, a letter or digit first)"
        )
    if name in _RESERVED or name.startswith("authority-"):
        raise LocalError(f"{name}: this name is reserved for the folder's own files; choose another")
    return name


def check_common_name(name: str) -> str:
    """A name for people.

    :raises LocalError: it is empty, longer than 64 characters, or not printable.
    """
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise LocalError(f"{name!a}: expected a common name of 1 to {MAX_NAME} printable characters")
    return name


def dns_names(names: Iterable[str]) -> tuple[str, ...]:
    """DNS names as certificates carry them: A-labels, lower case, each once.

    :raises LocalError: one is no DNS name.
    """
    found = []
    for name in names:
        wildcard, bare = ("*.", name[2:]) if name.startswith("*.") else ("", name)
        try:
            ascii_name = wildcard + bare.rstrip(".").encode("idna").decode("ascii").lower()
        except UnicodeError:
            ascii_name = ""
        if not _HOST.fullmatch(ascii_name) or len(ascii_name) > 253:
            raise LocalError(f"{name!a}: expected a DNS name, such as rally.example.org")
        if _is_address(ascii_name):
            raise LocalError(f"{name}: this is an address; give it with --ip")
        found.append(ascii_name)
    return tuple(dict.fromkeys(found))


def addresses(literals: Iterable[str]) -> tuple[IPv4Address | IPv6Address, ...]:
    """Addresses as certificates carry them, each once.

    :raises LocalError: one is no literal address.
    """
    found = []
    for literal in literals:
        try:
            found.append(ip_address(literal.strip("[]")))
        except ValueError:
            raise LocalError(
                f"{literal!a}: expected a literal address, such as 192.0.2.7 or 2001:db8::7"
            ) from None
    return tuple(dict.fromkeys(found))


def certificate_file(folder: Path, name: str) -> Path:
    """``pki/NAME.pem``."""
    return folder / f"{name}.pem"


def key_file(folder: Path, name: str) -> Path:
    """``pki/NAME.key``."""
    return folder / f"{name}.key"


def authority_files(folder: Path) -> list[Path]:
    """The site's own authority first, then those believed beside it."""
    own = folder / "authority.pem"
    return [*([own] if own.exists() else []), *sorted(folder.glob("authority-*.pem"))]


def revocation_file(folder: Path) -> Path:
    """``pki/revoked.pem``."""
    return folder / "revoked.pem"


def subject_of(certificate: x509.Certificate) -> Subject:
    """Whom a certificate is for, so that a new one can say the same.

    :raises BadIdentity: it carries no ice name.
    """
    role, id = role_and_id(certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    literal = [
        a for a in names.get_values_for_type(x509.IPAddress) if isinstance(a, (IPv4Address, IPv6Address))
    ]
    return Subject(
        name=common_name(certificate),
        role=role,
        id=id,
        dns=tuple(names.get_values_for_type(x509.DNSName)),
        addresses=tuple(literal),
    )


def listing(folder: Path) -> list[Entry]:
    """Everything in the folder: authorities, then certificates by name, then those known from ``issued/`` alone, newest first.

    :raises FileTrouble: the folder is not there or a file in it is damaged.
    """
    if not folder.is_dir():
        raise FileTrouble(f"{folder}: there is no such folder; make it with: ice pki init")
    authorities = read_authorities(authority_files(folder))
    revoked = revoked_serials(folder, authorities)
    entries = []
    for path in authority_files(folder):
        entries += [Entry(path.stem, c, "authority", None, None, ours=True) for c in read_certificates(path)]
    seen = set()
    for path in sorted(folder.glob("*.pem")):
        if path.stem in _RESERVED or path.stem.startswith("authority-"):
            continue
        certificate = read_certificates(path)[0]
        seen.add(fingerprint(certificate))
        entries.append(entry_of(path.stem, certificate, authorities, revoked))
    older = [read_certificates(path)[0] for path in (folder / "issued").glob("*.pem")]
    older = [certificate for certificate in older if fingerprint(certificate) not in seen]
    older.sort(key=lambda certificate: certificate.not_valid_before_utc, reverse=True)
    return entries + [entry_of("", certificate, authorities, revoked) for certificate in older]


def entry_of(
    name: str,
    certificate: x509.Certificate,
    authorities: tuple[x509.Certificate, ...],
    revoked: dict[tuple[str, int], datetime],
) -> Entry:
    """A certificate with what the authorities and their lists say about it."""
    try:
        role, id = role_and_id(certificate)
        word, uuid = str(role), id
    except BadIdentity:
        word, uuid = "", None
    issuer = issuer_among(certificate, authorities)
    since = revoked.get((fingerprint(issuer), certificate.serial_number)) if issuer else None
    return Entry(name, certificate, word, uuid, since, ours=issuer is not None)


def revoked_serials(
    folder: Path, authorities: tuple[x509.Certificate, ...]
) -> dict[tuple[str, int], datetime]:
    """(authority fingerprint, serial number) → since when, of every list in the folder that an authority here signed."""
    found = {}
    for revocations in read_revocations(revocation_file(folder)):
        for authority in authorities:
            if signed(revocations, authority):
                mark = fingerprint(authority)
                found.update(
                    {(mark, entry.serial_number): entry.revocation_date_utc for entry in revocations}
                )
    return found


def signed(revocations: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    """Whether the authority issued and signed the list."""
    if authority.subject != revocations.issuer:
        return False
    try:
        return bool(revocations.is_signature_valid(authority.public_key()))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def find(folder: Path, target: str) -> list[Entry]:
    """What a person means by a name or a fingerprint (at least `MIN_PREFIX` hex digits of it, spaces and colons allowed).

    A name means every certificate of that identity, also those renewed since; a fingerprint means one certificate.

    :raises LocalError: nothing is meant, or more than one.
    """
    entries = [entry for entry in listing(folder) if entry.role != "authority"]
    named = [entry for entry in entries if entry.name == target]
    if named:
        wanted = named[0]
        if wanted.id is None:
            return named
        return [entry for entry in entries if (entry.role, entry.id) == (wanted.role, wanted.id)]
    digits = target.replace(":", "").replace(" ", "").lower()
    if len(digits) < MIN_PREFIX or not re.fullmatch("[0-9a-f]+", digits):
        known = ", ".join(sorted({entry.name for entry in entries if entry.name})) or "nobody yet"
        raise LocalError(
            f"{target!a}: no such name in {folder} (it has: {known}), and no fingerprint of at least {MIN_PREFIX} hex digits"
        )
    matching = [entry for entry in entries if entry.fingerprint.startswith(digits)]
    if len(matching) != 1:
        count = "no certificate" if not matching else f"{len(matching)} certificates"
        raise LocalError(
            f"{target!a}: {count} in {folder} with this fingerprint; look with: ice pki show --all"
        )
    return matching


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
