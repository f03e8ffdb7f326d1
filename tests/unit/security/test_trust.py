"""Trust and credentials: lists that are missing, old, forged or of no concern, and who is still welcome after a reload."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from ice.security import minting
from ice.security.certificates import BadIdentity, FileTrouble
from ice.security.refusals import Reason
from ice.security.trust import Credentials, Trust

from .wire import DAY, NOW, Ca, alice, ca, new_ca, other_ca, rally, trusting


class Reading(SynchronousTestCase):
    """From files."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.authority = self.folder / "authority.pem"
        self.authority.write_bytes(minting.certificate_pem(ca().certificate))
        self.revoked = self.folder / "revoked.pem"

    def read(self, *lists: x509.CertificateRevocationList) -> Trust:
        if lists:
            self.revoked.write_bytes(minting.list_pem(lists))
        return Trust.read([self.authority], self.revoked, NOW)

    def test_no_list(self) -> None:
        """A missing list revokes nobody and is worth no warning."""
        trust = self.read()
        self.assertEqual((trust.revocations, trust.warnings), ((), ()))
        self.assertIsNone(trust.refuses(alice().certificate, NOW))

    def test_list(self) -> None:
        """A list refuses whom it names, and nobody else."""
        trust = self.read(ca().revoking(alice()))
        refusal = trust.refuses(alice().certificate, NOW)
        assert refusal is not None
        self.assertEqual((refusal.reason, refusal.by_us), (Reason.REVOKED, True))
        self.assertIsNone(trust.refuses(rally().certificate, NOW))

    def test_old_list(self) -> None:
        """A list past its next update still revokes, and is warned of."""
        trust = self.read(ca().revoking(alice(), signed=NOW - 20 * DAY, days=10))
        self.assertIn("was due on", trust.warnings[0])
        self.assertIsNotNone(trust.refuses(alice().certificate, NOW))

    def test_list_of_a_stranger(self) -> None:
        """A list of an authority that is not trusted is warned of and ignored."""
        trust = self.read(other_ca().revoking(alice()), ca().revoking())
        self.assertIn("no authority trusted here", trust.warnings[0])
        self.assertEqual(len(trust.revocations), 1)
        self.assertIsNone(trust.refuses(alice().certificate, NOW))

    def test_list_of_an_earlier_authority_of_the_same_name(self) -> None:
        """An authority made anew has another key: the old one's list is ignored with a warning, not taken for forged."""
        self.assertEqual(len(self.read(new_ca("test authority").revoking()).warnings), 1)

    def test_forged_list(self) -> None:
        """A list in our authority's name that it did not sign is an error."""
        key = minting.new_key()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(ca().certificate.subject)
            .last_update(NOW)
            .next_update(NOW + DAY)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca().key.public_key()), False)
        )
        forged = builder.sign(key, minting.digest_for(key))
        self.assertIn("damaged or forged", str(self.assertRaises(FileTrouble, self.read, forged)))

    def test_damaged_list(self) -> None:
        """A list file that cannot be read is an error: whom it named is not known."""
        self.revoked.write_bytes(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
        self.assertRaises(FileTrouble, self.read)

    def test_nobody_to_trust(self) -> None:
        """Without any authority there is nothing to decide with."""
        self.assertRaises(FileTrouble, Trust.read, [], None, NOW)

    def test_credentials(self) -> None:
        """A pair that belongs together is read; the key is never shown."""
        certificate, key = self.folder / "alice.pem", self.folder / "alice.key"
        certificate.write_bytes(minting.certificate_pem([alice().certificate, ca().certificate]))
        key.write_bytes(minting.key_pem(alice().key))
        pair = Credentials.read(certificate, key)
        self.assertEqual((pair.certificate, pair.chain), (alice().certificate, (ca().certificate,)))
        self.assertNotIn("PrivateKey", repr(pair))

    def test_mixed_pair(self) -> None:
        """A key of somebody else is told with both files' names."""
        certificate, key = self.folder / "alice.pem", self.folder / "rally.key"
        certificate.write_bytes(minting.certificate_pem(alice().certificate))
        key.write_bytes(minting.key_pem(rally().key))
        told = str(self.assertRaises(FileTrouble, Credentials.read, certificate, key))
        self.assertIn(str(certificate), told)
        self.assertIn(str(key), told)


class Asking(SynchronousTestCase):
    """What is wrong with a certificate, and after a reload."""

    def reason(self, trust: Trust, certificate: x509.Certificate) -> Reason | None:
        refusal = trust.refuses(certificate, NOW)
        return refusal.reason if refusal else None

    def test_refusals(self) -> None:
        """Issuer, time and list, each with its reason."""
        trust = trusting(revocations=(ca().revoking(alice()),))
        self.assertEqual(self.reason(trust, other_ca().leaf().certificate), Reason.UNKNOWN_AUTHORITY)
        self.assertEqual(self.reason(trust, ca().leaf(end=NOW - DAY / 2).certificate), Reason.EXPIRED)
        self.assertEqual(self.reason(trust, ca().leaf(begin=NOW + DAY).certificate), Reason.NOT_YET_VALID)
        self.assertEqual(self.reason(trust, ca().certificate), Reason.BAD_IDENTITY)
        self.assertEqual(self.reason(trust, alice().certificate), Reason.REVOKED)

    def test_serials_belong_to_their_authority(self) -> None:
        """The same serial number of another authority is not revoked."""
        both = trusting(ca(), other_ca(), revocations=(ca().revoking(alice()),))
        serial = alice().certificate.serial_number
        peer = both.peer(alice().certificate)
        self.assertTrue(both.revokes(peer.identity.authority, serial))
        self.assertFalse(both.revokes(both.peer(other_ca().leaf().certificate).identity.authority, serial))

    def test_still_welcome(self) -> None:
        """After a reload: revoked or of a dropped authority is refused; expired meanwhile is not."""
        peer = trusting().peer(alice().certificate)
        self.assertIsNone(trusting().still_refuses(peer))
        late = trusting().peer(ca().leaf(end=NOW - DAY / 2).certificate)
        self.assertIsNone(trusting().still_refuses(late))
        revoked = trusting(revocations=(ca().revoking(alice()),)).still_refuses(peer)
        dropped = trusting(other_ca()).still_refuses(peer)
        assert revoked is not None and dropped is not None
        self.assertEqual((revoked.reason, dropped.reason), (Reason.REVOKED, Reason.UNKNOWN_AUTHORITY))

    def test_peer_of_nobody(self) -> None:
        """Who carries no identity is no peer."""
        self.assertRaises(BadIdentity, trusting().peer, ca().certificate)

    def test_leaf_cannot_revoke(self) -> None:
        """A list signed by a leaf's key is of no authority."""
        leaf = Ca(alice().certificate, alice().key)
        trust = Trust((ca().certificate,), (leaf.revoking(rally()),))
        self.assertIsNone(self.reason(trust, rally().certificate))
