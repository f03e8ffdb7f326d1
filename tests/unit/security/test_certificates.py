"""Certificates read: names, identities, validity in words, PEM files and what is told when they are wrong."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError, RemoteError
from ice.security import minting
from ice.security.certificates import (
    BadIdentity,
    FileTrouble,
    Role,
    Validity,
    fingerprint,
    identity_of,
    is_authority,
    key_mode_warning,
    keys_match,
    list_expired,
    parse_certificates,
    parse_private_key,
    parse_revocations,
    parse_urn,
    pem_blocks,
    read_authorities,
    read_certificates,
    read_private_key,
    read_revocations,
    spaced,
    span_in_words,
    urn_of,
    validity,
    validity_in_words,
)

from .wire import ALICE, DAY, NOW, alice, ca, new_ca, other_ca, rally

FAST = settings(max_examples=100, deadline=None)


def crafted(uris: list[str], name: str | None = "odd") -> x509.Certificate:
    """A certificate of our authority with URIs and a common name of one's own choice."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name is not None else []
    key = minting.new_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(ca().certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(ca().key, hashes.SHA256())


class Urns(SynchronousTestCase):
    """urn:ice:<role>:<uuid>."""

    @FAST
    @given(st.sampled_from(Role), st.uuids())
    def test_round_trip(self, role: Role, id: UUID) -> None:
        """What is written is read, in any case."""
        self.assertEqual(parse_urn(urn_of(role, id)), (role, id))
        self.assertEqual(parse_urn(urn_of(role, id).upper()), (role, id))

    @FAST
    @given(st.text(max_size=80) | st.text(max_size=60).map("urn:ice:".__add__))
    def test_anything(self, text: str) -> None:
        """Any other text is a BadIdentity or a URN that means what it says; nothing else is raised."""
        try:
            role, id = parse_urn(text)
        except BadIdentity as error:
            self.assertTrue(str(error).isprintable())
        else:
            self.assertEqual(text.lower(), urn_of(role, id))

    def test_refused(self) -> None:
        """Each way to be wrong is named."""
        for urn, told in (
            ("urn:ice:client", "expected urn:ice:<role>:<uuid>"),
            ("urn:ice:", "expected urn:ice"),
            ("urn:isbn:0451450523", "expected urn:ice"),
            (f"urn:ice:king:{ALICE}", "unknown role 'king'"),
            (f"urn:ice::{ALICE}", "unknown role ''"),
            ("urn:ice:client:", "bad UUID"),
            (f"urn:ice:client:{ALICE.hex}", "bad UUID"),
            (f"urn:ice:client:{{{ALICE}}}", "bad UUID"),
            (f"urn:ice:client:{ALICE}x", "bad UUID"),
            (f"urn:ice:client:{ALICE}\n", "bad UUID"),
        ):
            self.assertIn(told, str(self.assertRaises(BadIdentity, parse_urn, urn)), urn)


class Identities(SynchronousTestCase):
    """Who a certificate says somebody is."""

    def test_good(self) -> None:
        """The authority's fingerprint, role, UUID and common name."""
        who = identity_of(alice().certificate, [other_ca().certificate, ca().certificate])
        self.assertEqual(who.authority, fingerprint(ca().certificate))
        self.assertEqual((who.role, who.id, who.name), ("client", ALICE, "alice"))
        self.assertEqual(str(who), f"client 'alice' ({str(ALICE)[:18]})")
        self.assertEqual(who.triple, (who.authority, "client", ALICE))

    def test_same_uuid_of_another_authority_is_somebody_else(self) -> None:
        """An identity is the triple, never the UUID alone."""
        twin = identity_of(other_ca().leaf("alice", id=ALICE).certificate, [other_ca().certificate])
        self.assertNotEqual(twin.triple, identity_of(alice().certificate, [ca().certificate]).triple)

    def test_unknown_authority(self) -> None:
        """None of the authorities, none at all, or one that only shares the name."""
        for trusted in ([], [other_ca().certificate], [new_ca("test authority").certificate]):
            error = self.assertRaises(BadIdentity, identity_of, alice().certificate, trusted)
            self.assertEqual(error.reason, "unknown-authority")
            self.assertIsInstance(error, RemoteError)

    def refused(self, told: str, uris: list[str], name: str | None = "odd") -> None:
        error = self.assertRaises(BadIdentity, identity_of, crafted(uris, name), [ca().certificate])
        self.assertIn(told, str(error))
        self.assertEqual(error.reason, "bad-identity")

    def test_no_name(self) -> None:
        """Without an ice name, with or without other URIs, there is no identity."""
        self.refused("no urn:ice: name", [])
        self.refused("no urn:ice: name", ["https://example.org"])

    def test_two_names(self) -> None:
        """Two ice names are one too many, even if they are the same, or differ in case."""
        urn = urn_of(Role.CLIENT, ALICE)
        self.refused("2 urn:ice: names", [urn, urn])
        self.refused("2 urn:ice: names", [urn, urn.upper()])

    def test_other_uris_beside(self) -> None:
        """URIs of other schemes beside the ice name do no harm."""
        odd = crafted(["https://example.org", urn_of(Role.SATELLITE, ALICE)])
        self.assertEqual(identity_of(odd, [ca().certificate]).role, Role.SATELLITE)

    def test_bad_role_and_uuid(self) -> None:
        """What parse_urn refuses is refused."""
        self.refused("unknown role", [f"urn:ice:admin:{ALICE}"])
        self.refused("bad UUID", ["urn:ice:client:1"])

    def test_common_name(self) -> None:
        """A common name that is missing or not printable is refused, and shown escaped."""
        urn = [urn_of(Role.CLIENT, ALICE)]
        self.refused("bad common name ''", urn, None)
        self.refused("bad common name 'a\\x1b[2J'", urn, "a\x1b[2J")
        self.refused("bad common name 'a\\nb'", urn, "a\nb")

    @FAST
    @given(st.lists(st.text("urn:iceUN0af-", max_size=60).map("urn:ice:client:".__add__), max_size=3))
    def test_anything(self, uris: list[str]) -> None:
        """Whatever names a certificate carries: an identity, or a BadIdentity."""
        try:
            identity_of(crafted(uris), [ca().certificate])
        except BadIdentity as error:
            self.assertTrue(str(error).isprintable())


class Validities(SynchronousTestCase):
    """Time, in states and words."""

    def test_borders(self) -> None:
        """Both borders are inside."""
        each = ca().leaf(begin=NOW, end=NOW + DAY).certificate
        begin, end, second = each.not_valid_before_utc, each.not_valid_after_utc, timedelta(seconds=1)
        self.assertEqual(validity(each, begin - second), Validity.NOT_YET)
        self.assertEqual([validity(each, moment) for moment in (begin, end)], [Validity.VALID] * 2)
        self.assertEqual(validity(each, end + second), Validity.EXPIRED)

    def test_words(self) -> None:
        """Each state in words a person can act on."""
        each = ca().leaf(begin=NOW - DAY, end=NOW + 10 * DAY).certificate
        end = each.not_valid_after_utc
        self.assertRegex(validity_in_words(each, end - 4 * DAY), r"^valid until .* UTC \(in 4 days\)$")
        self.assertRegex(
            validity_in_words(each, end + timedelta(hours=3)), r"^expired on .* \(3 hours ago\)$"
        )
        begin = each.not_valid_before_utc
        self.assertRegex(validity_in_words(each, begin - 2 * DAY), r"^not valid before .* \(in 2 days\)$")

    def test_spans(self) -> None:
        """The largest sensible unit; a day and a half is 36 hours."""
        for span, words in (
            (timedelta(0), "0 seconds"),
            (timedelta(seconds=-5), "0 seconds"),
            (timedelta(seconds=1), "1 second"),
            (timedelta(seconds=60), "1 minute"),
            (timedelta(hours=1), "1 hour"),
            (timedelta(hours=36), "36 hours"),
            (timedelta(days=400), "400 days"),
        ):
            self.assertEqual(span_in_words(span), words)

    def test_fingerprint(self) -> None:
        """SHA-256 in hex, and in groups of four."""
        mark = fingerprint(ca().certificate)
        self.assertEqual(mark, ca().certificate.fingerprint(hashes.SHA256()).hex())
        self.assertEqual(spaced(mark).replace(" ", ""), mark)
        self.assertEqual(spaced("abcdef012"), "abcd ef01 2")


class Files(SynchronousTestCase):
    """PEM files, good and wrong."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def file(self, data: bytes, name: str = "x.pem") -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def test_certificates(self) -> None:
        """Several in a file, text and a key between them, in order."""
        pem = minting.certificate_pem
        text = b"# ours\n" + pem(alice().certificate) + minting.key_pem(alice().key) + pem(ca().certificate)
        self.assertEqual(read_certificates(self.file(text)), (alice().certificate, ca().certificate))

    def test_key(self) -> None:
        """A key is read from between other blocks, and matches its certificate only."""
        key = read_private_key(
            self.file(minting.certificate_pem(alice().certificate) + minting.key_pem(alice().key))
        )
        self.assertTrue(keys_match(alice().certificate, key))
        self.assertFalse(keys_match(rally().certificate, key))

    def test_encrypted_key(self) -> None:
        """An encrypted key opens with its passphrase; without, or with another, the message says what to do."""
        path = self.file(minting.key_pem(alice().key, b"secret"))
        self.assertTrue(keys_match(alice().certificate, read_private_key(path, b"secret")))
        self.assertIn("--passphrase-file", self.told(read_private_key, path))
        self.assertIn("does not open", self.told(read_private_key, path, b"other"))

    def told(self, read: object, path: Path, *more: object) -> str:
        """The message of the FileTrouble, which names the file."""
        error = self.assertRaises(FileTrouble, read, path, *more)  # type: ignore[arg-type]
        self.assertIsInstance(error, LocalError)
        self.assertIn(str(path), str(error))
        return str(error)

    def test_missing(self) -> None:
        """A file that is not there: which, what was expected, and what to type."""
        self.assertIn("ice pki init", self.told(read_certificates, self.folder / "none.pem"))

    def test_no_file_at_all(self) -> None:
        """A folder, and a device that never ends, are no files."""
        self.told(read_certificates, self.folder)
        self.assertIn("no regular file", self.told(read_certificates, Path("/dev/zero")))

    def test_too_large(self) -> None:
        """A file beyond the bound is not read."""
        self.assertIn("larger", self.told(read_certificates, self.file(b"x" * ((1 << 20) + 1))))

    def test_wrong_content(self) -> None:
        """What is there instead is named."""
        key, certificate = minting.key_pem(alice().key), minting.certificate_pem(alice().certificate)
        for read, data, what in (
            (read_certificates, b"", "an empty file"),
            (read_certificates, b"hello", "no PEM block"),
            (read_certificates, key, "found private key"),
            (read_private_key, certificate, "found certificate"),
            (read_revocations, certificate, "found certificate"),
        ):
            self.assertIn(what, self.told(read, self.file(data)))

    def test_damaged(self) -> None:
        """A block that is no certificate, key or list inside is told by number."""
        for read, label in (
            (read_certificates, b"CERTIFICATE"),
            (read_private_key, b"PRIVATE KEY"),
            (read_revocations, b"X509 CRL"),
        ):
            block = b"-----BEGIN " + label + b"-----\nAAAA\n-----END " + label + b"-----\n"
            self.assertIn("cannot be read", self.told(read, self.file(block)))

    def test_too_many(self) -> None:
        """A file of a hundred certificates is not what we asked for."""
        self.assertIn(
            "at most 64",
            self.told(read_certificates, self.file(minting.certificate_pem(ca().certificate) * 65)),
        )

    def test_authorities(self) -> None:
        """Each authority once, over all files; a leaf among them is an error, for it would be trusted itself."""
        one = self.file(minting.certificate_pem([ca().certificate, other_ca().certificate]), "one.pem")
        two = self.file(minting.certificate_pem(ca().certificate), "two.pem")
        self.assertEqual(read_authorities([one, two]), (ca().certificate, other_ca().certificate))
        self.assertEqual((is_authority(ca().certificate), is_authority(alice().certificate)), (True, False))
        leaf = self.file(minting.certificate_pem(alice().certificate))
        self.assertIn("may not issue", str(self.assertRaises(FileTrouble, read_authorities, [one, leaf])))

    def test_key_modes(self) -> None:
        """A key that others may touch is warned of, with the command that mends it."""
        path = self.file(b"key", "x.key")
        for mode, fine in ((0o600, True), (0o400, True), (0o640, False), (0o604, False), (0o660, False)):
            os.chmod(path, mode)
            self.assertEqual(key_mode_warning(path) is None, fine, oct(mode))
        self.assertIn("chmod 600", key_mode_warning(path) or "")
        self.assertIsNone(key_mode_warning(self.folder / "none.key"))

    def test_revocations(self) -> None:
        """Several lists in a file; no file revokes nobody; the next update is the end of a list's time."""
        lists = [ca().revoking(alice()), other_ca().revoking()]
        read = read_revocations(self.file(minting.list_pem(lists)))
        self.assertEqual([len(each) for each in read], [1, 0])
        self.assertEqual(read_revocations(self.folder / "none.pem"), ())
        self.assertFalse(list_expired(read[0], NOW))
        self.assertTrue(list_expired(read[0], NOW + 401 * DAY))

    def test_every_truncation(self) -> None:
        """A certificate file cut at any byte is FileTrouble, never half a certificate."""
        whole = minting.certificate_pem(alice().certificate).rstrip()
        for length in range(len(whole)):
            self.assertRaises(FileTrouble, parse_certificates, whole[:length], "x")

    @FAST
    @given(
        st.binary(max_size=300),
        st.sampled_from([b"CERTIFICATE", b"PRIVATE KEY", b"EC PRIVATE KEY", b"X509 CRL"]),
        st.booleans(),
    )
    def test_any_bytes(self, data: bytes, label: bytes, framed: bool) -> None:
        """Any bytes, in a PEM frame or not, are FileTrouble or read."""
        if framed:
            data = b"-----BEGIN " + label + b"-----\n" + data + b"\n-----END " + label + b"-----\n"
        for parse in (parse_certificates, parse_private_key, parse_revocations):
            try:
                parse(data, "x.pem")
            except FileTrouble as error:
                self.assertTrue(str(error).isprintable())

    @FAST
    @given(st.integers(0, 700), st.integers(0, 255))
    def test_one_byte_changed(self, position: int, value: int) -> None:
        """A certificate, key or list with one byte changed is FileTrouble or read."""
        for parse, good in (
            (parse_certificates, minting.certificate_pem(alice().certificate)),
            (parse_private_key, minting.key_pem(alice().key)),
            (parse_revocations, minting.list_pem([ca().revoking(alice())])),
        ):
            changed = bytearray(good)
            changed[position % len(changed)] = value
            try:
                parse(bytes(changed), "x.pem")
            except FileTrouble:
                continue

    def test_blocks_in_linear_time(self) -> None:
        """A megabyte of beginnings without an end is read once, not once for each."""
        self.assertEqual(pem_blocks(b"-----BEGIN X-----" * 60_000), [])
