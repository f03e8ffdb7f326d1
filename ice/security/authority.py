"""The site's authority at work: made once, then issuing, renewing, revoking. Files in one folder, see `ice.security.register`.

Every change is whole or not at all (`ice.security.files`) and made under a lock on the folder, so that two people at once lose neither's
revocation. Every change also signs the revocation list anew, so that its next update lies ever `LIST_DAYS` ahead.

Renewing keeps the identity (role, UUID, names) and takes a new serial number and, by default, a new key. Revoking by name revokes every
certificate of that identity which has not expired.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from uuid import uuid4

import attrs
from cryptography import x509

from ice.errors import LocalError
from ice.security import minting
from ice.security.certificates import (
    FileTrouble,
    Role,
    SigningKey,
    date_in_words,
    fingerprint,
    issuer_among,
    keys_match,
    read_authorities,
    read_certificates,
    read_file,
    read_private_key,
    read_revocations,
)
from ice.security.files import KEY_MODE, Draft, make_folder, write
from ice.security.register import (
    Entry,
    certificate_file,
    check_common_name,
    check_name,
    entry_of,
    find,
    key_file,
    revocation_file,
    revoked_serials,
    signed,
    subject_of,
)

MAX_PASSPHRASE = 1024  # bytes; longer is a wrong file


def read_passphrase(path: Path) -> bytes:
    """The first line of a file, without its line end.

    :raises FileTrouble: it is empty, too long or unreadable.
    """
    line = read_file(path, "a passphrase").split(b"\n", 1)[0].rstrip(b"\r")
    if not 0 < len(line) <= MAX_PASSPHRASE:
        raise FileTrouble(f"{path}: expected a passphrase of 1 to {MAX_PASSPHRASE} bytes in its first line")
    return line


@attrs.frozen
class Authority:
    """An authority whose key is at hand.

    :ivar folder: where its files are.
    :ivar certificate: its own certificate.
    """

    folder: Path
    certificate: x509.Certificate
    _key: SigningKey = attrs.field(repr=False)

    @classmethod
    def create(
        cls,
        folder: Path,
        now: datetime,
        name: str = "ice authority",
        days: float = minting.AUTHORITY_DAYS,
        passphrase: bytes | None = None,
        replace: bool = False,
    ) -> Authority:
        """Make an authority and its empty revocation list; the folder too, mode 0700, if there is none.

        :param name: its common name; six digits of its key are added, so that two authorities of a site can be told apart.
        :param passphrase: encrypts its key.
        :param replace: overwrite an authority that is there: every certificate it issued is then worthless.
        :raises AlreadyThere: there is one.
        """
        key = minting.new_key()
        full_name = check_common_name(f"{name} {minting.key_mark(key)}")
        certificate = minting.new_authority(full_name, key, now, days)
        revocations = minting.new_list([], 1, certificate, key, now)
        make_folder(folder)
        with _locked(folder):
            write(
                [
                    Draft(folder / "authority.key", minting.key_pem(key, passphrase), KEY_MODE),
                    Draft(folder / "authority.pem", minting.certificate_pem(certificate)),
                    Draft(revocation_file(folder), minting.list_pem([revocations])),
                ],
                replace=replace,
            )
        return cls(folder, certificate, key)

    @classmethod
    def open(cls, folder: Path, passphrase: bytes | None = None) -> Authority:
        """The authority in a folder.

        :raises FileTrouble: it is not there, its key is elsewhere, or the passphrase is wrong.
        """
        certificate = read_certificates(folder / "authority.pem")[0]
        path = folder / "authority.key"
        if not path.exists():
            raise FileTrouble(
                f"{path}: the authority's key is not on this machine; do this where it was made, then carry the result over "
                "with: ice pki bundle NAME"
            )
        key = read_private_key(path, passphrase)
        if not keys_match(certificate, key):
            raise FileTrouble(f"{path}: this key does not belong to {folder / 'authority.pem'}")
        return cls(folder, certificate, key)

    def issue(
        self,
        name: str,
        role: Role,
        now: datetime,
        *,
        common_name: str = "",
        dns: Sequence[str] = (),
        addresses: Sequence[IPv4Address | IPv6Address] = (),
        days: float = minting.LEAF_DAYS,
        like: x509.Certificate | None = None,
        replace: bool = False,
    ) -> Entry:
        """Make a key and a certificate, ``NAME.key`` and ``NAME.pem``, for somebody new.

        :param common_name: the name for people, ``name`` if empty.
        :param like: take UUID, common name, DNS names and addresses from this certificate (of an earlier authority, in a roll-over).
        :raises AlreadyThere: the name is taken, and ``replace`` is false.
        :raises LocalError: the authority has expired, or a name is not acceptable.
        """
        check_name(name)
        subject = minting.Subject(
            name=check_common_name(common_name or name),
            role=role,
            id=uuid4(),
            dns=tuple(dns),
            addresses=tuple(addresses),
        )
        if like is not None:
            earlier = subject_of(like)
            if earlier.role is not role:
                raise LocalError(f"{name}: the earlier certificate's role is {earlier.role}, not {role}")
            subject = attrs.evolve(
                _widened(earlier, subject.dns, subject.addresses), name=common_name or earlier.name
            )
        with _locked(self.folder):
            return self._make(name, subject, minting.new_key(), now, days, replace)

    def renew(
        self,
        name: str,
        now: datetime,
        *,
        days: float = minting.LEAF_DAYS,
        keep_key: bool = False,
        dns: Sequence[str] = (),
        addresses: Sequence[IPv4Address | IPv6Address] = (),
    ) -> Entry:
        """Replace ``NAME.pem``, and unless ``keep_key`` also ``NAME.key``, by new ones of the same identity.

        :param dns: names to add to those it has; ``addresses`` likewise.
        :raises LocalError: it is revoked, or of another authority.
        """
        path = certificate_file(self.folder, check_name(name))
        with _locked(self.folder):
            current = read_certificates(path)[0]
            entry = self._entry(name, current)
            if not entry.ours:
                raise LocalError(
                    f"{path}: another authority issued this certificate; for one of this authority type: ice pki issue {name} --role "
                    f"{entry.role or 'ROLE'} --like {path} --force"
                )
            if entry.revoked is not None:
                raise LocalError(
                    f"{path}: revoked since {date_in_words(entry.revoked)} and not renewed; for a new identity type: ice pki issue {name} "
                    f"--role {entry.role} --force"
                )
            subject = _widened(subject_of(current), dns, addresses)
            if keep_key:
                key = read_private_key(key_file(self.folder, name))
                if not keys_match(current, key):
                    raise FileTrouble(
                        f"{key_file(self.folder, name)}: does not belong to {path}; renew without --keep-key"
                    )
            else:
                key = minting.new_key()
            return self._make(name, subject, key, now, days, replace=True)

    def revoke(self, target: str, now: datetime) -> list[Entry]:
        """Put certificates on the revocation list: all of a name's identity, or the one with a fingerprint.

        :returns: what is revoked now, also what was before; certificates that have expired are left out, unless nothing else is meant.
        :raises LocalError: nothing is meant, or what is meant is another authority's.
        """
        with _locked(self.folder):
            meant = find(self.folder, target)
            ours = [entry for entry in meant if self._issued(entry.certificate)]
            if not ours:
                raise LocalError(
                    f"{target}: another authority issued this certificate; only that one can revoke it"
                )
            alive = [entry for entry in ours if entry.valid_until >= now] or ours
            self._sign_list(now, [entry.certificate.serial_number for entry in alive])
            return [self._entry(entry.name, entry.certificate) for entry in alive]

    def refresh(self, now: datetime) -> None:
        """Sign the revocation list anew, unchanged, so that its next update lies `LIST_DAYS` ahead."""
        with _locked(self.folder):
            self._sign_list(now, [])

    def _make(
        self, name: str, subject: minting.Subject, key: SigningKey, now: datetime, days: float, replace: bool
    ) -> Entry:
        end = now + timedelta(days=days)
        if self.certificate.not_valid_after_utc <= now:
            raise LocalError(
                f"the authority expired on {date_in_words(self.certificate.not_valid_after_utc)} and cannot issue any more: make another "
                "(docs/certificates.md, rolling over)"
            )
        read_revocations(revocation_file(self.folder))  # a damaged list is told before anything is written
        begin = min(now, end) - minting.BACKDATED
        certificate = minting.new_leaf(subject, key, self.certificate, self._key, begin, end)
        issued = self.folder / "issued"
        make_folder(issued)
        pem = minting.certificate_pem(certificate)
        write(
            [
                Draft(issued / f"{certificate.serial_number:040x}.pem", pem),
                Draft(key_file(self.folder, name), minting.key_pem(key), KEY_MODE),
                Draft(certificate_file(self.folder, name), pem),
            ],
            replace=replace,
        )
        self._sign_list(now, [])
        return self._entry(name, certificate)

    def _sign_list(self, now: datetime, more: Sequence[int]) -> None:
        """The list as it is with more serial numbers; lists of other authorities in the same file are kept."""
        path = revocation_file(self.folder)
        there = read_revocations(path)
        own = [each for each in there if signed(each, self.certificate)]
        others = [each for each in there if not signed(each, self.certificate)]
        entries = {entry.serial_number: entry.revocation_date_utc for each in own for entry in each}
        for serial in more:
            entries.setdefault(serial, now)
        number = 1 + max((_number(each) for each in own), default=0)
        fresh = minting.new_list(sorted(entries.items()), number, self.certificate, self._key, now)
        write([Draft(path, minting.list_pem([fresh, *others]))], replace=True)

    def _issued(self, certificate: x509.Certificate) -> bool:
        return issuer_among(certificate, (self.certificate,)) is not None

    def _entry(self, name: str, certificate: x509.Certificate) -> Entry:
        authorities = (self.certificate,)
        return entry_of(name, certificate, authorities, revoked_serials(self.folder, authorities))


def trust(folder: Path, file: Path) -> tuple[Path, list[Entry]]:
    """Copy another authority's certificates to ``authority-XXXXXX.pem``, so that they can be believed beside our own.

    :returns: the file written (or there already), and what is in it.
    :raises FileTrouble: the file holds no authority.
    :raises LocalError: it is our own.
    """
    certificates = read_authorities([file])
    own = folder / "authority.pem"
    if own.exists() and set(certificates) <= set(read_authorities([own])):
        raise LocalError(f"{file}: this is the authority in {own}, which is trusted already")
    path = folder / f"authority-{fingerprint(certificates[0])[:6]}.pem"
    entries = [Entry(path.stem, c, "authority", None, None, ours=True) for c in certificates]
    make_folder(folder)
    with _locked(folder):
        if path.exists() and read_authorities([path]) == certificates:
            return path, entries
        write([Draft(path, minting.certificate_pem(certificates))])
    return path, entries


def _widened(
    subject: minting.Subject, dns: Sequence[str], addresses: Sequence[IPv4Address | IPv6Address]
) -> minting.Subject:
    return attrs.evolve(
        subject,
        dns=tuple(dict.fromkeys((*subject.dns, *dns))),
        addresses=tuple(dict.fromkeys((*subject.addresses, *addresses))),
    )


def _number(revocations: x509.CertificateRevocationList) -> int:
    try:
        return revocations.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (x509.ExtensionNotFound, ValueError):
        return 0


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else changes the folder meanwhile; released by the kernel when the process dies."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FileTrouble(
            f"{folder}: cannot be opened: {error.strerror or error}; make it with: ice pki init"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
