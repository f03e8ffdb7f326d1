"""What this end shows (`Credentials`) and whom it believes (`Trust`): values read from files, ready for TLS contexts.

`Trust` answers two questions without any socket: what is wrong with this certificate now, and, after a reload, is somebody who was let in
earlier still welcome. The TLS contexts ask OpenSSL the first question during the handshake, so that the far side hears the fitting
alert; both use the same lists.

**Revocation lists.** A list that is missing revokes nothing. A list past its next update still revokes what it names, and is reported as
a warning: refusing everybody because a file was not renewed would silence the network, and a stale list is no worse than none. A list
that names one of our authorities as issuer but is not signed by it is an error. A list of an authority that is not trusted (any
more) is a warning, for nobody whom it names is admitted anyway.

**Foreign authorities.** Another organisation is believed for the Rallypoints that are listed, and for nothing else: a `Foreign` is its authority
together with their UUIDs. Whoever else shows a certificate of that authority is refused with a reason of its own. An identity keeps the
fingerprint of the authority that issued it, so nobody of theirs can ever be one of ours; an authority of theirs that is also one of ours,
or that OpenSSL could take for one of ours, is refused as a whole. `Trust.domestic` is the same trust without them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256

from ice.security.certificates import (
    BadIdentity,
    FileTrouble,
    Identity,
    Role,
    SigningKey,
    Validity,
    common_name,
    date_in_words,
    fingerprint,
    identity_of,
    indistinct,
    issuer_among,
    keys_match,
    list_expired,
    parse_revocations,
    read_authorities,
    read_certificates,
    read_file,
    read_private_key,
    role_and_id,
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
class Foreign:
    """Another organisation's authority, and for whom it is believed.

    :ivar name: what the configuration calls it, for people.
    :ivar authorities: at least one; several while they roll over.
    :ivar ids: the UUIDs of the Rallypoints listed; nobody else of these authorities is admitted.
    :ivar revocations: lists whose signature by one of the authorities was checked.
    :ivar warnings: sentences about lists, as in `Trust`.
    """

    name: str
    authorities: tuple[x509.Certificate, ...]
    ids: frozenset[UUID]
    revocations: tuple[x509.CertificateRevocationList, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        name: str,
        authorities: Sequence[Path],
        ids: Collection[UUID],
        revocations: Path | None,
        now: datetime,
    ) -> Foreign:
        """Read the authorities' files and, where one is named, the file of their revocation lists, which must then be there.

        :raises FileTrouble: as `Trust.read`.
        """
        trusted = read_authorities(authorities, "federations.authority")
        lists: tuple[x509.CertificateRevocationList, ...] = ()
        warnings: tuple[str, ...] = ()
        if revocations is not None:
            lists, warnings = _read_lists(revocations, trusted, now, "ask them for the one in use now")
        return cls(name, trusted, frozenset(ids), lists, warnings)

    @property
    def trust(self) -> Trust:
        """What this authority is believed by whoever dials one of its Rallypoints: alone, without ours."""
        return Trust(self.authorities, self.revocations)

    def knows(self, identity: Identity) -> bool:
        """Whether this is one of the Rallypoints listed."""
        return (
            identity.role is Role.RALLYPOINT
            and identity.id in self.ids
            and identity.authority in map(fingerprint, self.authorities)
        )


@attrs.frozen
class Trust:
    """The authorities believed, and whom they have revoked.

    :ivar authorities: at least one; several during a roll-over.
    :ivar revocations: lists whose signature by one of the authorities was checked.
    :ivar warnings: sentences about lists that are past their time or of nobody's concern.
    :ivar foreign: other organisations, each believed for its listed Rallypoints alone.
    """

    authorities: tuple[x509.Certificate, ...]
    revocations: tuple[x509.CertificateRevocationList, ...] = ()
    warnings: tuple[str, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    _revoked: frozenset[tuple[str, int]] = attrs.field(init=False, repr=False)
    _fingerprints: frozenset[str] = attrs.field(init=False, repr=False)
    #: Holders by certificate: who comes back, and a whole site comes back at once, is not looked into again.
    _known: dict[bytes, Peer] = attrs.field(init=False, repr=False, factory=dict, eq=False)

    def __attrs_post_init__(self) -> None:
        if not self.authorities:
            raise FileTrouble("no authority to trust: authority.certificates names no certificate")
        for foreign in self.foreign:
            _check_apart(foreign, self.authorities)
        revoked: set[tuple[str, int]] = set()
        holders: tuple[Trust | Foreign, ...] = (self, *self.foreign)
        for holder in holders:
            for revocations in holder.revocations:
                signer = _signer(revocations, holder.authorities)
                if signer is not None:
                    revoked.update((fingerprint(signer), entry.serial_number) for entry in revocations)
        object.__setattr__(self, "_revoked", frozenset(revoked))
        object.__setattr__(self, "_fingerprints", frozenset(map(fingerprint, self.authorities)))

    @classmethod
    def read(
        cls,
        authorities: Sequence[Path],
        revocations: Path | None,
        now: datetime,
        foreign: Iterable[Foreign] = (),
    ) -> Trust:
        """Read the authorities' files and, where there is one, the file of revocation lists.

        :param now: with time zone; a list whose next update is earlier is warned of.
        :raises FileTrouble: a file is not what it should be, or a list is not signed by the authority that it names; or a foreign
            authority is one of ours.
        """
        trusted = read_authorities(authorities)
        lists: tuple[x509.CertificateRevocationList, ...] = ()
        warnings: tuple[str, ...] = ()
        if revocations is not None and revocations.exists():
            lists, warnings = _read_lists(
                revocations, trusted, now, "type: ice pki revoke --refresh, and copy the file here"
            )
        abroad = tuple(foreign)
        for each in abroad:
            warnings += each.warnings
        return cls(authorities=trusted, revocations=lists, warnings=warnings, foreign=abroad)

    @property
    def domestic(self) -> Trust:
        """The same without other organisations: for everything that only our own may do."""
        return attrs.evolve(self, foreign=()) if self.foreign else self

    def foreigner(self, identity: Identity) -> Foreign | None:
        """The organisation that this identity belongs to; None where it is one of ours, or of nobody believed here."""
        if identity.authority in self._fingerprints:
            return None
        return next((foreign for foreign in self.foreign if foreign.knows(identity)), None)

    def revokes(self, authority: str, serial: int) -> bool:
        """Whether the authority with this fingerprint has revoked the certificate with this serial number."""
        return (authority, serial) in self._revoked

    def peer(self, certificate: x509.Certificate) -> Peer:
        """The holder of a certificate that one of the authorities issued; time and revocation are not asked.

        :raises BadIdentity: as `identity_of`; or it is of a foreign authority, and no Rallypoint (``role``) or none of those
            listed (``not-listed``).
        """
        digest = certificate.fingerprint(SHA256())
        peer = self._known.get(digest)
        if peer is None:
            peer = Peer(
                identity=self._identify(certificate),
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
        if peer.identity.authority not in self._fingerprints and self.foreigner(peer.identity) is None:
            known = any(
                peer.identity.authority in map(fingerprint, foreign.authorities) for foreign in self.foreign
            )
            if known:
                sentence = f"{peer.identity} is not listed in a federation here any more"
                return Refusal(Reason.NOT_LISTED, sentence, by_us=True)
            sentence = f"the authority of {peer.identity} is not trusted any more"
            return Refusal(Reason.UNKNOWN_AUTHORITY, sentence, by_us=True)
        if self.revokes(peer.identity.authority, peer.serial):
            return Refusal(Reason.REVOKED, f"the certificate of {peer.identity} is revoked", by_us=True)
        return None

    def _identify(self, certificate: x509.Certificate) -> Identity:
        """As `identity_of`, our own authorities first: what they issued is never looked at as another's."""
        abroad = []
        if self.foreign and issuer_among(certificate, self.authorities) is None:
            abroad = [
                each for each in self.foreign if issuer_among(certificate, each.authorities) is not None
            ]
        if not abroad:
            return identity_of(certificate, self.authorities)
        _, id = role_and_id(certificate)
        # One authority may stand in several federations, each with Rallypoints of its own.
        foreign = next((each for each in abroad if id in each.ids), abroad[0])
        identity = identity_of(certificate, foreign.authorities)
        if identity.role is not Role.RALLYPOINT:
            raise BadIdentity(
                f"{identity} is of the federation '{foreign.name}', of which only Rallypoints are let in",
                reason="role",
            )
        if id not in foreign.ids:
            raise BadIdentity(
                f"{identity} is of the federation '{foreign.name}', but its UUID {id} is not among those listed here "
                "(federations.rallypoints)",
                reason="not-listed",
            )
        return identity


def _check_apart(foreign: Foreign, ours: Sequence[x509.Certificate]) -> None:
    """Refuse an authority that is one of ours, by whatever certificate, or that could be taken for one during a handshake."""
    if not foreign.authorities:
        raise FileTrouble(f"the federation '{foreign.name}' names no authority (federations.authority)")
    for theirs in foreign.authorities:
        why = next(filter(None, (indistinct(theirs, own) for own in ours)), None)
        if why is not None:
            raise FileTrouble(
                f"the federation '{foreign.name}': its authority {common_name(theirs)[:64]!a} {why}; their own authority's certificate "
                "belongs in federations.authority, and Rallypoints of our own authority in [[groups]]"
            )


def _read_lists(
    file: Path, trusted: Sequence[x509.Certificate], now: datetime, remedy: str
) -> tuple[tuple[x509.CertificateRevocationList, ...], tuple[str, ...]]:
    """The lists of these authorities in a file, and what is odd about it.

    :param remedy: what to do about a list that is past its time.
    """
    lists: list[x509.CertificateRevocationList] = []
    warnings: list[str] = []
    for each in parse_revocations(read_file(file, "a PEM revocation list"), str(file)):
        if _signer(each, trusted) is None:
            if _claims(each, trusted):
                raise FileTrouble(
                    f"{file}: the revocation list of {each.issuer.rfc4514_string()} does not carry that authority's "
                    "signature: the file is damaged or forged; fetch it again"
                )
            warnings.append(
                f"{file}: the revocation list of {each.issuer.rfc4514_string()} is of no authority trusted here: ignored"
            )
            continue
        if list_expired(each, now) and each.next_update_utc is not None:
            warnings.append(
                f"{file}: a newer revocation list was due on {date_in_words(each.next_update_utc)}: the certificates it "
                f"names stay revoked; {remedy}"
            )
        lists.append(each)
    return tuple(lists), tuple(warnings)


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
