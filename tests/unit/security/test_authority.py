"""The authority at work: what it makes, renews, revokes, and never loses."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.security import minting, register
from ice.security.authority import Authority, read_passphrase, trust
from ice.security.certificates import (
    FileTrouble,
    Role,
    fingerprint,
    identity_of,
    key_mode_warning,
    read_certificates,
    read_private_key,
    read_revocations,
)
from ice.security.files import AlreadyThere
from ice.security.register import addresses, check_name, dns_names, find, listing
from ice.security.trust import Credentials, Trust

from .wire import DAY, NOW

YEAR = 365 * DAY


class Case(SynchronousTestCase):
    """A folder with an authority."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "pki"
        self.authority = Authority.create(self.folder, NOW)

    def serials(self) -> list[int]:
        """What the list names."""
        return [
            entry.serial_number for each in read_revocations(self.folder / "revoked.pem") for entry in each
        ]


class Making(Case):
    """What is made."""

    def extension(
        self, certificate: x509.Certificate, kind: type[x509.ExtensionType]
    ) -> x509.Extension[x509.ExtensionType]:
        return certificate.extensions.get_extension_for_class(kind)

    def test_authority(self) -> None:
        """Ten years, P-256, signs certificates and lists and nothing else, no authority below it (RFC 5280 §4.2.1)."""
        made = read_certificates(self.folder / "authority.pem")[0]
        self.assertEqual(made, self.authority.certificate)
        self.assertAlmostEqual((made.not_valid_after_utc - NOW) / DAY, 3650, places=3)
        constraints = self.extension(made, x509.BasicConstraints)
        self.assertEqual((constraints.critical, constraints.value), (True, x509.BasicConstraints(True, 0)))
        usage = self.extension(made, x509.KeyUsage)
        assert isinstance(usage.value, x509.KeyUsage)
        self.assertEqual(
            (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature),
            (True, True, True, False),
        )
        key = made.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.assertEqual(key.curve.name, "secp256r1")
        own = self.extension(made, x509.SubjectKeyIdentifier).value
        assert isinstance(own, x509.SubjectKeyIdentifier)
        above = self.extension(made, x509.AuthorityKeyIdentifier).value
        assert isinstance(above, x509.AuthorityKeyIdentifier)
        self.assertEqual(own.digest, above.key_identifier)

    def test_leaf(self) -> None:
        """A year, no authority, its names, and the uses that its role needs."""
        made = self.authority.issue(
            "rally", Role.RALLYPOINT, NOW, dns=("rally.example.org",), addresses=(ip_address("192.0.2.7"),)
        ).certificate
        self.assertAlmostEqual((made.not_valid_after_utc - NOW) / DAY, 365, places=3)
        self.assertLess(made.not_valid_before_utc, NOW - timedelta(minutes=59))
        self.assertEqual(
            self.extension(made, x509.BasicConstraints).value, x509.BasicConstraints(False, None)
        )
        names = self.extension(made, x509.SubjectAlternativeName).value
        assert isinstance(names, x509.SubjectAlternativeName)
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["rally.example.org"])
        self.assertEqual(names.get_values_for_type(x509.IPAddress), [ip_address("192.0.2.7")])
        self.assertEqual(identity_of(made, [self.authority.certificate]).role, Role.RALLYPOINT)
        for role, uses in (
            (Role.RALLYPOINT, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            (Role.CLIENT, [ExtendedKeyUsageOID.CLIENT_AUTH]),
            (Role.SATELLITE, [ExtendedKeyUsageOID.CLIENT_AUTH]),
            (Role.OPERATOR, [ExtendedKeyUsageOID.CLIENT_AUTH]),
        ):
            leaf = self.authority.issue(f"a-{role}", role, NOW).certificate
            self.assertEqual(self.extension(leaf, x509.ExtendedKeyUsage).value, x509.ExtendedKeyUsage(uses))

    def test_modes(self) -> None:
        """Keys are 0600, the folder 0700."""
        self.authority.issue("alice", Role.CLIENT, NOW)
        for name in ("authority.key", "alice.key"):
            self.assertEqual(stat.S_IMODE((self.folder / name).stat().st_mode), 0o600)
            self.assertIsNone(key_mode_warning(self.folder / name))
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)

    def test_pair_is_usable(self) -> None:
        """The files make credentials that the folder's trust accepts."""
        self.authority.issue("alice", Role.CLIENT, NOW)
        pair = Credentials.read(self.folder / "alice.pem", self.folder / "alice.key")
        believed = Trust.read([self.folder / "authority.pem"], self.folder / "revoked.pem", NOW)
        self.assertIsNone(believed.refuses(pair.certificate, NOW))
        self.assertEqual(believed.warnings, ())

    def test_nothing_is_overwritten(self) -> None:
        """Neither an authority nor somebody's pair, unless told; and then there is somebody new."""
        first = self.authority.issue("alice", Role.CLIENT, NOW)
        before = {path: path.read_bytes() for path in self.folder.rglob("*.*")}
        self.assertRaises(AlreadyThere, Authority.create, self.folder, NOW)
        self.assertRaises(AlreadyThere, self.authority.issue, "alice", Role.CLIENT, NOW)
        self.assertEqual({path: path.read_bytes() for path in self.folder.rglob("*.*")}, before)
        second = self.authority.issue("alice", Role.CLIENT, NOW, replace=True)
        self.assertNotEqual(first.id, second.id)

    def test_passphrase(self) -> None:
        """An authority's key with a passphrase opens with it only, and is not in the clear on the disk."""
        folder = self.folder.with_name("guarded")
        Authority.create(folder, NOW, passphrase=b"secret")
        self.assertIn(b"ENCRYPTED", (folder / "authority.key").read_bytes())
        self.assertRaises(FileTrouble, Authority.open, folder)
        self.assertRaises(FileTrouble, Authority.open, folder, b"wrong")
        Authority.open(folder, b"secret").issue("alice", Role.CLIENT, NOW)

    def test_passphrase_file(self) -> None:
        """The first line counts; an empty one is refused."""
        path = self.folder / "phrase"
        path.write_bytes("pässword\r\nmore\n".encode())
        self.assertEqual(read_passphrase(path), "pässword".encode())
        for wrong in (b"", b"\nsecond", b"x" * 2000):
            path.write_bytes(wrong)
            self.assertRaises(FileTrouble, read_passphrase, path)

    def test_leaf_never_outlives_its_authority(self) -> None:
        """Near the authority's end a leaf is shorter; after it none is made."""
        late = NOW + 3600 * DAY
        made = self.authority.issue("alice", Role.CLIENT, late)
        self.assertEqual(made.valid_until, self.authority.certificate.not_valid_after_utc)
        self.assertIn(
            "expired",
            str(self.assertRaises(LocalError, self.authority.issue, "bob", Role.CLIENT, NOW + 3651 * DAY)),
        )

    def test_key_elsewhere(self) -> None:
        """On a machine without the authority's key the message says where to go."""
        (self.folder / "authority.key").unlink()
        self.assertIn("not on this machine", str(self.assertRaises(FileTrouble, Authority.open, self.folder)))

    def test_wrong_key(self) -> None:
        """An authority's key of another authority is noticed before anything is signed."""
        (self.folder / "authority.key").write_bytes(minting.key_pem(minting.new_key()))
        self.assertIn("does not belong", str(self.assertRaises(FileTrouble, Authority.open, self.folder)))

    def test_key_is_not_shown(self) -> None:
        """The authority's repr holds no key."""
        self.assertNotIn("PrivateKey", repr(self.authority))

    def test_two_authorities_of_one_site_differ_by_name(self) -> None:
        """Their common names tell them apart."""
        other = Authority.create(self.folder.with_name("next"), NOW)
        self.assertNotEqual(other.certificate.subject, self.authority.certificate.subject)


class Renewing(Case):
    """Fresh certificates of the same identity."""

    def setUp(self) -> None:
        super().setUp()
        self.first = self.authority.issue(
            "alice", Role.CLIENT, NOW, common_name="Alice A.", dns=("a.example.org",)
        )

    def key(self) -> bytes:
        return (self.folder / "alice.key").read_bytes()

    def test_identity_stays(self) -> None:
        """UUID, names and role stay; key, serial number and dates are new."""
        before = self.key()
        second = self.authority.renew("alice", NOW + 30 * DAY, dns=("b.example.org",))
        self.assertEqual((second.id, second.role, second.common_name), (self.first.id, "client", "Alice A."))
        self.assertEqual(register.subject_of(second.certificate).dns, ("a.example.org", "b.example.org"))
        self.assertNotEqual(second.certificate.serial_number, self.first.certificate.serial_number)
        self.assertEqual(second.valid_until - self.first.valid_until, 30 * DAY)
        self.assertNotEqual(self.key(), before)
        Credentials.read(self.folder / "alice.pem", self.folder / "alice.key")

    def test_keep_key(self) -> None:
        """With keep_key the key stays and still fits."""
        before = self.key()
        self.authority.renew("alice", NOW, keep_key=True)
        self.assertEqual(self.key(), before)
        Credentials.read(self.folder / "alice.pem", self.folder / "alice.key")

    def test_keep_a_key_of_somebody_else(self) -> None:
        """A key that does not belong to the certificate is not certified."""
        (self.folder / "alice.key").write_bytes(minting.key_pem(minting.new_key()))
        self.assertRaises(FileTrouble, self.authority.renew, "alice", NOW, keep_key=True)

    def test_expired_may_be_renewed(self) -> None:
        """The usual reason to renew in a hurry."""
        self.assertGreater(self.authority.renew("alice", NOW + 400 * DAY).valid_until, NOW + 700 * DAY)

    def test_revoked_may_not(self) -> None:
        """A revoked identity gets no fresh certificate."""
        self.authority.revoke("alice", NOW)
        self.assertIn("revoked since", str(self.assertRaises(LocalError, self.authority.renew, "alice", NOW)))

    def test_of_another_authority(self) -> None:
        """What another authority issued is issued anew, like the old one: the message says how, and it keeps the UUID."""
        following = Authority.create(self.folder.with_name("next"), NOW)
        for suffix in ("pem", "key"):
            (following.folder / f"alice.{suffix}").write_bytes((self.folder / f"alice.{suffix}").read_bytes())
        self.assertIn("--like", str(self.assertRaises(LocalError, following.renew, "alice", NOW)))
        made = following.issue("alice", Role.CLIENT, NOW, like=self.first.certificate, replace=True)
        self.assertEqual((made.id, made.common_name), (self.first.id, "Alice A."))
        self.assertRaises(LocalError, following.issue, "b", Role.SATELLITE, NOW, like=self.first.certificate)

    def test_nobody(self) -> None:
        """Renewing who was never issued is told with the file that is missing."""
        self.assertIn("bob.pem", str(self.assertRaises(FileTrouble, self.authority.renew, "bob", NOW)))


class Revoking(Case):
    """The list, and who is on it."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.authority.issue("alice", Role.CLIENT, NOW)
        self.bob = self.authority.issue("bob", Role.CLIENT, NOW)

    def test_by_name(self) -> None:
        """A name means all certificates of the identity, also earlier ones."""
        second = self.authority.renew("alice", NOW)
        revoked = self.authority.revoke("alice", NOW)
        self.assertEqual(len(revoked), 2)
        self.assertTrue(all(entry.revoked for entry in revoked))
        self.assertEqual(
            sorted(self.serials()),
            sorted([self.alice.certificate.serial_number, second.certificate.serial_number]),
        )

    def test_by_fingerprint(self) -> None:
        """A fingerprint, or its beginning, as people copy it, means one certificate."""
        second = self.authority.renew("alice", NOW)
        mark = self.alice.fingerprint
        self.authority.revoke(":".join([mark[:4].upper(), mark[4:8], mark[8:12]]), NOW)
        self.assertEqual(self.serials(), [self.alice.certificate.serial_number])
        self.assertIsNone(
            next(e for e in listing(self.folder) if e.fingerprint == second.fingerprint).revoked
        )

    def test_nobody(self) -> None:
        """Who is not known is told with who is; nothing is revoked."""
        for target in ("carol", "abcdef", "0" * 64, "", "..", "authority"):
            error = self.assertRaises(LocalError, self.authority.revoke, target, NOW)
            self.assertIn("fingerprint", str(error))
        self.assertEqual(self.serials(), [])

    def test_ambiguous(self) -> None:
        """A fingerprint's beginning that fits two is refused."""
        self.patch(register, "MIN_PREFIX", 0)
        self.assertRaises(LocalError, find, self.folder, "")

    def test_twice(self) -> None:
        """Revoking again keeps the first date."""
        first = self.authority.revoke("alice", NOW)[0].revoked
        self.assertEqual(self.authority.revoke("alice", NOW + DAY)[0].revoked, first)
        self.assertEqual(len(self.serials()), 1)

    def test_list_is_signed_anew_by_every_change(self) -> None:
        """Issuing, renewing, revoking and refreshing move the next update and raise the list's number."""
        seen = []
        for day, change in enumerate(
            (
                lambda at: self.authority.issue("carol", Role.CLIENT, at),
                lambda at: self.authority.renew("carol", at),
                lambda at: self.authority.revoke("carol", at),
                self.authority.refresh,
            ),
            1,
        ):
            at = NOW + day * DAY
            change(at)
            current = read_revocations(self.folder / "revoked.pem")[0]
            number = current.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            due = current.next_update_utc
            assert due is not None
            self.assertAlmostEqual((due - at) / DAY, minting.LIST_DAYS, places=3)
            seen.append(number)
        self.assertEqual(seen, list(range(seen[0], seen[0] + 4)))

    def test_earlier_revocations_stay(self) -> None:
        """Each change keeps what was revoked before, also by an Authority opened anew."""
        self.authority.revoke("alice", NOW)
        again = Authority.open(self.folder)
        again.revoke("bob", NOW)
        again.issue("carol", Role.CLIENT, NOW)
        self.assertEqual(
            sorted(self.serials()), sorted(e.certificate.serial_number for e in (self.alice, self.bob))
        )

    def test_lists_of_other_authorities_stay(self) -> None:
        """During a roll-over the file holds both authorities' lists."""
        other = Authority.create(self.folder.with_name("next"), NOW)
        path = self.folder / "revoked.pem"
        path.write_bytes(path.read_bytes() + (other.folder / "revoked.pem").read_bytes())
        self.authority.revoke("alice", NOW)
        self.assertEqual(len(read_revocations(path)), 2)

    def test_damaged_list_stops_everything(self) -> None:
        """A list that cannot be read is not replaced by an empty one."""
        path = self.folder / "revoked.pem"
        path.write_bytes(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
        before = path.read_bytes()
        self.assertRaises(FileTrouble, self.authority.revoke, "alice", NOW)
        self.assertRaises(FileTrouble, self.authority.issue, "carol", Role.CLIENT, NOW)
        self.assertEqual(path.read_bytes(), before)
        self.assertFalse((self.folder / "carol.pem").exists())

    def test_failed_signing_leaves_the_list(self) -> None:
        """When the new list cannot be written, the old one is there, whole."""
        path = self.folder / "revoked.pem"
        before = path.read_bytes()

        def broken(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        self.patch(os, "fsync", broken)
        self.assertRaises(LocalError, self.authority.revoke, "alice", NOW)
        self.assertEqual(path.read_bytes(), before)

    def test_trust_sees_it(self) -> None:
        """The list that is written is the one that trust reads."""
        self.authority.revoke("alice", NOW)
        believed = Trust.read([self.folder / "authority.pem"], self.folder / "revoked.pem", NOW)
        self.assertIsNotNone(believed.refuses(self.alice.certificate, NOW))
        self.assertIsNone(believed.refuses(self.bob.certificate, NOW))


class Trusting(Case):
    """A second authority."""

    def test_copied_once(self) -> None:
        """Its certificate is copied beside ours; again changes nothing; our own is refused."""
        other = Authority.create(self.folder.with_name("next"), NOW)
        path, entries = trust(self.folder, other.folder / "authority.pem")
        self.assertEqual(read_certificates(path), (other.certificate,))
        self.assertEqual(path.name, f"authority-{fingerprint(other.certificate)[:6]}.pem")
        self.assertEqual(trust(self.folder, other.folder / "authority.pem"), (path, entries))
        self.assertEqual([e.role for e in listing(self.folder)], ["authority", "authority"])
        self.assertRaises(LocalError, trust, self.folder, self.folder / "authority.pem")

    def test_leaf_is_no_authority(self) -> None:
        """A leaf's certificate is not trusted by mistake."""
        self.authority.issue("alice", Role.CLIENT, NOW)
        self.assertRaises(FileTrouble, trust, self.folder, self.folder / "alice.pem")


class Naming(SynchronousTestCase):
    """Names of files, hosts and addresses."""

    def test_file_names(self) -> None:
        """Plain names are taken; what could leave the folder or hide in it is not, nor the folder's own."""
        for good in ("alice", "a.b-c_d@e", "0", "x" * 64):
            self.assertEqual(check_name(good), good)
        for bad in (
            "",
            ".",
            "..",
            "a/b",
            "../a",
            "-a",
            ".a",
            "a b",
            "a\n",
            "ä",
            "x" * 65,
            "authority",
            "authority-1",
            "revoked",
        ):
            self.assertRaises(LocalError, check_name, bad)

    def test_dns(self) -> None:
        """DNS names become A-labels, lower case, once; addresses and nonsense are refused."""
        self.assertEqual(
            dns_names(
                ["Rally.Example.org.", "rally.example.org", "bücher.example", "*.example.org", "localhost"]
            ),
            ("rally.example.org", "xn--bcher-kva.example", "*.example.org", "localhost"),
        )
        for bad in ("", "a b", "-a", "a..b", "*", "a.*.b", "192.0.2.7", "a" * 64, "a\n"):
            self.assertRaises(LocalError, dns_names, [bad])

    def test_addresses(self) -> None:
        """Literal addresses, brackets allowed."""
        self.assertEqual(
            addresses(["[::1]", "127.0.0.1", "::1"]), (ip_address("::1"), ip_address("127.0.0.1"))
        )
        self.assertRaises(LocalError, addresses, ["localhost"])

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=80))
    def test_any_text(self, text: str) -> None:
        """Any text is taken or a LocalError, and what is taken stays in its folder."""
        for check in (check_name, lambda name: dns_names([name]), lambda name: addresses([name])):
            try:
                check(text)
            except LocalError as error:
                self.assertTrue(str(error).isprintable())
            else:
                self.assertNotIn("/", text)

    def test_key_of_a_listing(self) -> None:
        """An empty or missing folder says how to begin."""
        folder = Path(self.mktemp())
        self.assertIn("ice pki init", str(self.assertRaises(FileTrouble, listing, folder)))
        folder.mkdir()
        self.assertEqual(listing(folder), [])
        self.assertRaises(FileTrouble, read_private_key, folder / "x.key")
