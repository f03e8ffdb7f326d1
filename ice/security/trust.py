"""What this end shows (`Credentials`) and whom it believes (`Trust`): values read from files, ready for TLS contexts.

`Trust` answers two questions without any socket: what is wrong with this certificate now, and, after a reload, is somebody who was let in
earlier still welcome. The TLS contexts ask OpenSSL the first question during the handshake, so that the far side hears the fitting
alert; both use the same lists.

**Revocation lists.** A list that is missing revokes nothing. A list past its next update still revokes what it names, and is reported as
a warning: refusing everybody because a file was not renewed would silence the network, and a stale list is no worse than none. A list
that names one of our authorities as issuer but is not signed by it is an error. A list of an authority that is not trusted (any
more) is a warning, for nobody whom it names is admitted anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256

from ice.security.certificates import (
    BadIdentity,
    FileTrouble,
    Identity,
    SigningKey,
    Validity,
    date_in_words,
    fingerprint,
    identity_of,
    keys_match,
    list_expired,
    parse_revocations,
    read_authorities,
    read_certificates,
    read_file,
    read_private_key,
    validity,
    validity_in_words,
)
from ice.security.refusals import Reason, Refusal

MAX_KNOWN = 16_384  # certificates remembered, some 500 bytes each


@attrs.frozen
class Credentials:
    """A certificate, what stands between it and its authority, and its private key.

    :ivar certificate: the leaf.
    :ivar chain: intermediate certificates, leaf's issuer first; normally empty.
    :ivar key: the private key; never shown.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: SigningKey = attrs.field(repr=False)

    @classmethod
    def read(cls, certificate: Path, key: Path) -> Credentials:
        """Read a certificate file (leaf first) and its key file.

        :raises FileTrouble: one is missing or unreadable, or they do not belong together.
        """
        leaf, *chain = read_certificates(certificate)
        private = read_private_key(key)
        if not keys_match(leaf, private):
            raise FileTrouble(
                f"{key}: this key does not belong to the certificate in {certificate}: they are of different days or names; "
                "type: ice pki renew NAME, or put the right pair there"
            )
        return cls(certificate=leaf, chain=tuple(chain), key=private)


@attrs.frozen
class Peer:
    """Somebody who was let in: enough to ask again after a reload.

    :ivar identity: who it is.
    :ivar serial: the serial number of the certificate shown.
    :ivar valid_until: when that certificate expires.
    """

    identity: Identity
    serial: int
    valid_until: datetime


@attrs.frozen
class Trust:
    """The authorities believed, and whom they have revoked.

    :ivar authorities: at least one; several during a roll-over.
    :ivar revocations: lists whose signature by one of the authorities was checked.
    :ivar warnings: sentences about lists that are past their time or of nobody's concern.
    """

    authorities: tuple[x509.Certificate, ...]
    revocations: tuple[x509.CertificateRevocationList, ...] = ()
    warnings: tuple[str, ...] = ()
    _revoked: frozenset[tuple[str, int]] = attrs.field(init=False, repr=False)
    _fingerprints: frozenset[str] = attrs.field(init=False, repr=False)
    #: Holders by certificate: who comes back, and a whole site comes back at once, is not looked into again.
    _known: dict[bytes, Peer] = attrs.field(init=False, repr=False, factory=dict, eq=False)

    def __attrs_post_init__(self) -> None:
        if not self.authorities:
            raise FileTrouble("no authority to trust: authority.certificates names no certificate")
        revoked: set[tuple[str, int]] = set()
        for revocations in self.revocations:
            signer = _signer(revocations, self.authorities)
            if signer is not None:
                revoked.update((fingerprint(signer), entry.serial_number) for entry in revocations)
        object.__setattr__(self, "_revoked", frozenset(revoked))
        object.__setattr__(self, "_fingerprints", frozenset(map(fingerprint, self.authorities)))

    @classmethod
    def read(cls, authorities: Sequence[Path], revocations: Path | None, now: datetime) -> Trust:
        """Read the authorities' files and, where there is one, the file of revocation lists.

        :param now: with time zone; a list whose next update is earlier is warned of.
        :raises FileTrouble: a file is not what it should be, or a list is not signed by the authority that it names.
        """
        trusted = read_authorities(authorities)
        lists: list[x509.CertificateRevocationList] = []
        warnings: list[str] = []
        if revocations is not None and revocations.exists():
            for each in parse_revocations(read_file(revocations, "a PEM revocation list"), str(revocations)):
                if _signer(each, trusted) is None:
                    if _claims(each, trusted):
                        raise FileTrouble(
                            f"{revocations}: the revocation list of {each.issuer.rfc4514_string()} does not carry that authority's "
                            "signature: the file is damaged or forged; fetch it again"
                        )
                    warnings.append(
                        f"{revocations}: the revocation list of {each.issuer.rfc4514_string()} is of no authority trusted here: ignored"
                    )
                    continue
                if list_expired(each, now) and each.next_update_utc is not None:
                    warnings.append(
                        f"{revocations}: a newer revocation list was due on {date_in_words(each.next_update_utc)}: the certificates it "
                        "names stay revoked; type: ice pki revoke --refresh, and copy the file here"
                    )
                lists.append(each)
        return cls(authorities=trusted, revocations=tuple(lists), warnings=tuple(warnings))

    def revokes(self, authority: str, serial: int) -> bool:
        """Whether the authority with this fingerprint has revoked the certificate with this serial number."""
        return (authority, serial) in self._revoked

    def peer(self, certificate: x509.Certificate) -> Peer:
        """The holder of a certificate that one of the authorities issued; time and revocation are not asked.

        :raises BadIdentity: as `identity_of`.
        """
        digest = certificate.fingerprint(SHA256())
        peer = self._known.get(digest)
        if peer is None:
            peer = Peer(
                identity=identity_of(certificate, self.authorities),
                serial=certificate.serial_number,
                valid_until=certificate.not_valid_after_utc,
            )
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[digest] = peer
        return peer

    def refuses(self, certificate: x509.Certificate, now: datetime) -> Refusal | None:
        """Why the certificate is not acceptable now, or None: issuer, identity, time, revocation, in this order."""
        try:
            peer = self.peer(certificate)
        except BadIdentity as error:
            return Refusal(Reason(error.reason), str(error), by_us=True)
        state = validity(certificate, now)
        if state is not Validity.VALID:
            return Refusal(
                Reason(state.value),
                f"the certificate of {peer.identity} is not acceptable: {validity_in_words(certificate, now)}",
                by_us=True,
            )
        return self.still_refuses(peer)

    def still_refuses(self, peer: Peer) -> Refusal | None:
        """Why somebody who was let in earlier would not be now, or None.

        A certificate that expired while its link lived is no reason: the link was made in time, and cutting people off in mid-sentence for it
        helps nobody. A revocation, or an authority that is trusted no more, is.
        """
        if peer.identity.authority not in self._fingerprints:
            return Refusal(
                Reason.UNKNOWN_AUTHORITY,
                f"the authority of {peer.identity} is not trusted any more",
                by_us=True,
            )
        if self.revokes(peer.identity.authority, peer.serial):
            return Refusal(Reason.REVOKED, f"the certificate of {peer.identity} is revoked", by_us=True)
        return None


def _signer(
    revocations: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """The authority that signed the list, or None."""
    for authority in authorities:
        if authority.subject != revocations.issuer:
            continue
        try:
            if revocations.is_signature_valid(authority.public_key()):  # type: ignore[arg-type]
                return authority
        except (TypeError, ValueError, InvalidSignature, UnsupportedAlgorithm):
            continue
    return None


def _claims(revocations: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]) -> bool:
    """Whether the list says that one of the authorities issued it: the same name and, where given, the same key."""
    try:
        named = revocations.extensions.get_extension_for_class(
            x509.AuthorityKeyIdentifier
        ).value.key_identifier
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        named = None
    for authority in authorities:
        if authority.subject != revocations.issuer:
            continue
        try:
            own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
            own = None
        if named is None or own is None or named == own:
            return True
    return False
