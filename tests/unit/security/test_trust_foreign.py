"""Other organisations: their authority, believed for the Rallypoints listed and for nobody else, in values and in real handshakes."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import RemoteError
from ice.rallypoint.signatures import Believer
from ice.security import minting
from ice.security.certificates import BadIdentity, FileTrouble, Role, fingerprint
from ice.security.contexts import ClientTls, ServerTls, peer_of
from ice.security.refusals import HandshakeRefused, Reason, Refusal, explain
from ice.security.trust import Credentials, Foreign, Trust

from .wire import DAY, NOW, Ca, alice, ca, join, new_ca, other_ca, rally

HERE = "rally.example.org"
THEIRS = UUID("c1d2e3f4-0516-4728-893a-4b5c6d7e8f90")
SECOND = UUID("d2e3f405-1627-4839-9a4b-5c6d7e8f9001")


def coast(*ids: UUID, authority: Ca | None = None, revoked: tuple[Credentials, ...] = ()) -> Foreign:
    """The organisation next door, of which these (by default `THEIRS`) are listed."""
    theirs = authority or other_ca()
    lists = (theirs.revoking(*revoked),) if revoked else ()
    return Foreign("coast", (theirs.certificate,), frozenset(ids or (THEIRS,)), lists)


def ours(*foreign: Foreign, revocations: tuple[x509.CertificateRevocationList, ...] = ()) -> Trust:
    """Trust in `ca`, and in these."""
    return Trust((ca().certificate,), revocations, foreign=foreign)


def theirs(id: UUID = THEIRS, role: Role = Role.RALLYPOINT, authority: Ca | None = None) -> Credentials:
    """Somebody of theirs, a Rallypoint named as it is dialled."""
    return (authority or other_ca()).leaf("shore", role, id, dns=("shore.example.org",))


class Asking(SynchronousTestCase):
    """What is said of a certificate, without sockets."""

    def refusal(self, trust: Trust, credentials: Credentials) -> Refusal:
        refused = trust.refuses(credentials.certificate, NOW)
        assert refused is not None
        return refused

    def test_listed(self) -> None:
        """A listed Rallypoint is believed; its identity names its own authority, so it is never one of ours."""
        trust = ours(coast())
        peer = trust.peer(theirs().certificate)
        self.assertEqual(peer.identity.authority, fingerprint(other_ca().certificate))
        self.assertIsNone(trust.refuses(theirs().certificate, NOW))
        found = trust.foreigner(peer.identity)
        self.assertEqual(found.name if found else None, "coast")
        namesake = trust.peer(ca().leaf("namesake", Role.RALLYPOINT, THEIRS).certificate)
        self.assertIsNone(trust.foreigner(namesake.identity))
        self.assertNotEqual(namesake.identity.triple, peer.identity.triple)

    def test_not_listed(self) -> None:
        """Another Rallypoint of that authority is refused, with its UUID and what to set."""
        refused = self.refusal(ours(coast()), theirs(SECOND))
        self.assertEqual((refused.reason, refused.code), (Reason.NOT_LISTED, "not-listed"))
        for part in ("'coast'", str(SECOND), "federations.rallypoints"):
            self.assertIn(part, refused.sentence)

    def test_no_rallypoint(self) -> None:
        """A client or satellite of that authority is refused, also under a listed UUID."""
        for role in (Role.CLIENT, Role.SATELLITE):
            refused = self.refusal(ours(coast()), theirs(THEIRS, role))
            self.assertEqual(refused.reason, Reason.ROLE)
            self.assertIn("only Rallypoints", refused.sentence)

    def test_listed_for_another(self) -> None:
        """A UUID that is listed for one organisation is nobody of another's."""
        hills = new_ca("hills")
        trust = ours(coast(), Foreign("hills", (hills.certificate,), frozenset({SECOND})))
        self.assertIsNone(trust.refuses(theirs(SECOND, authority=hills).certificate, NOW))
        for wrong in (theirs(SECOND), theirs(THEIRS, authority=hills)):
            self.assertEqual(self.refusal(trust, wrong).reason, Reason.NOT_LISTED)

    def test_one_authority_in_two_federations(self) -> None:
        """Each of two federations with one authority has its own Rallypoints."""
        trust = ours(coast(), Foreign("isles", (other_ca().certificate,), frozenset({SECOND})))
        names = []
        for id in (THEIRS, SECOND):
            found = trust.foreigner(trust.peer(theirs(id).certificate).identity)
            names.append(found.name if found else "")
        self.assertEqual(names, ["coast", "isles"])
        self.assertEqual(self.refusal(trust, theirs(uuid4())).reason, Reason.NOT_LISTED)

    def test_time(self) -> None:
        """Theirs expire like ours."""
        late = other_ca().leaf("shore", Role.RALLYPOINT, THEIRS, end=NOW - DAY / 2)
        self.assertEqual(self.refusal(ours(coast()), late).reason, Reason.EXPIRED)

    def test_revoked(self) -> None:
        """Their list is held against theirs, and not against ours with the same serial number."""
        barred = theirs()
        trust = ours(coast(revoked=(barred,)))
        self.assertEqual(self.refusal(trust, barred).reason, Reason.REVOKED)
        self.assertIsNone(trust.refuses(theirs().certificate, NOW))
        self.assertFalse(trust.revokes(fingerprint(ca().certificate), barred.certificate.serial_number))

    def test_their_list_says_nothing_about_ours(self) -> None:
        """A list that they sign, naming serial numbers of ours, revokes nobody here."""
        self.assertIsNone(ours(coast(revoked=(alice(),))).refuses(alice().certificate, NOW))

    def test_still_welcome(self) -> None:
        """After a reload: taken off the list, revoked, or the whole federation gone; each with its reason."""
        shown = theirs()
        peer = ours(coast()).peer(shown.certificate)
        self.assertIsNone(ours(coast(THEIRS, SECOND)).still_refuses(peer))
        cases = (
            (ours(coast(SECOND)), Reason.NOT_LISTED),
            (ours(coast(revoked=(shown,))), Reason.REVOKED),
            (ours(), Reason.UNKNOWN_AUTHORITY),
        )
        for trust, reason in cases:
            refused = trust.still_refuses(peer)
            assert refused is not None
            self.assertEqual(refused.reason, reason)

    def test_domestic(self) -> None:
        """The same trust without other organisations: ours are believed, theirs are strangers; and it is itself where there are none."""
        trust = ours(coast(), revocations=(ca().revoking(alice()),)).domestic
        self.assertEqual(self.refusal(trust, theirs()).reason, Reason.UNKNOWN_AUTHORITY)
        self.assertEqual(self.refusal(trust, alice()).reason, Reason.REVOKED)
        self.assertIsNone(trust.refuses(rally().certificate, NOW))
        self.assertIs(trust.domestic, trust)

    def test_floods_are_not_theirs(self) -> None:
        """What believes the signatures of floods, given domestic trust as a Rallypoint does, believes no foreign Rallypoint."""
        der = theirs().certificate.public_bytes(Encoding.DER)
        self.assertEqual(Believer(ours(coast())).identify(der), THEIRS)  # why it is never given this
        refused = self.assertRaises(BadIdentity, Believer(ours(coast()).domestic).identify, der)
        self.assertIsInstance(refused, RemoteError)

    def test_their_authority_is_not_ours(self) -> None:
        """The same certificate, another of the same key, and one that OpenSSL could take for ours: refused as a whole, naming the federation."""
        renewed = minting.new_authority("another name", ca().key, NOW)
        key = minting.new_key()
        subject = x509.Name(ca().certificate.subject)
        bare = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        )
        posing = bare.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(ca().key.public_key()), critical=False
        )
        cases = (
            (ca().certificate, "is one of ours"),
            (renewed, "has the key of one of ours"),
            (bare.sign(key, minting.digest_for(key)), "no key identifier of its own"),
            (posing.sign(key, minting.digest_for(key)), "no key identifier of its own"),
        )
        for certificate, why in cases:
            told = str(
                self.assertRaises(FileTrouble, ours, Foreign("coast", (certificate,), frozenset({THEIRS})))
            )
            self.assertIn("'coast'", told)
            self.assertIn(why, told)
        self.assertRaises(FileTrouble, ours, Foreign("coast", (), frozenset({THEIRS})))

    def test_authorities_of_one_name(self) -> None:
        """Two sites that both kept the usual name for their authority can federate."""
        twin = new_ca("test authority")
        trust = ours(coast(authority=twin))
        self.assertIsNone(trust.refuses(theirs(authority=twin).certificate, NOW))
        self.assertIsNone(trust.refuses(alice().certificate, NOW))


class Reading(SynchronousTestCase):
    """From files."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.ours, self.authority = self.folder / "authority.pem", self.folder / "coast.pem"
        self.ours.write_bytes(minting.certificate_pem(ca().certificate))
        self.authority.write_bytes(minting.certificate_pem(other_ca().certificate))
        self.revoked = self.folder / "coast-revoked.pem"

    def read(self, revocations: Path | None = None) -> Foreign:
        return Foreign.read("coast", [self.authority], [THEIRS], revocations, NOW)

    def test_all(self) -> None:
        """Authority, ids and list; warnings about their list arrive in the trust."""
        barred = theirs()
        self.revoked.write_bytes(
            minting.list_pem([other_ca().revoking(barred, signed=NOW - 20 * DAY, days=10)])
        )
        foreign = self.read(self.revoked)
        self.assertEqual((foreign.name, foreign.ids), ("coast", {THEIRS}))
        trust = Trust.read([self.ours], None, NOW, [foreign])
        self.assertIn("ask them", trust.warnings[0])
        self.assertIn(str(self.revoked), trust.warnings[0])
        self.assertIsNotNone(trust.refuses(barred.certificate, NOW))
        self.assertEqual(self.read().revocations, ())

    def test_list_that_is_named_must_be_there(self) -> None:
        """A list that is named and missing is an error: it was meant to be held against somebody."""
        self.assertIn(str(self.revoked), str(self.assertRaises(FileTrouble, self.read, self.revoked)))

    def test_leaf_instead_of_authority(self) -> None:
        """A Rallypoint's certificate listed as authority is told with the setting that names it."""
        self.authority.write_bytes(minting.certificate_pem(theirs().certificate))
        self.assertIn("federations.authority", str(self.assertRaises(FileTrouble, self.read)))

    def test_ours_as_theirs(self) -> None:
        """Our own file listed as theirs is refused when the trust is read."""
        self.authority.write_bytes(self.ours.read_bytes())
        told = str(self.assertRaises(FileTrouble, Trust.read, [self.ours], None, NOW, [self.read()]))
        self.assertIn("is one of ours", told)


class Handshakes(SynchronousTestCase):
    """Real handshakes in memory."""

    def meet(
        self, opener: ClientTls, accepter: ServerTls, name: str = HERE
    ) -> tuple[Refusal | None, Refusal | None, SSL.Connection]:
        """What the opener and the accepter say of it; None: a link."""
        one, other = opener.connection(name), accepter.connection()
        said = [None if error is None else explain(error) for error in join(one, other)]
        return said[0], said[1], other

    def dial(self, credentials: Credentials) -> ClientTls:
        """One of theirs that dials us, as its own federation table lets it."""
        believed = Foreign("town", (ca().certificate,), frozenset({THEIRS})).trust
        return ClientTls(credentials, believed)

    def test_let_in(self) -> None:
        """A listed Rallypoint of theirs links, and we know that it is theirs; our own people link as ever."""
        server = ServerTls(rally(), ours(coast()))
        told, said, accepted = self.meet(self.dial(theirs()), server)
        self.assertEqual((told, said), (None, None))
        self.assertEqual(peer_of(accepted).identity.authority, fingerprint(other_ca().certificate))
        told, said, _ = self.meet(ClientTls(alice(), ours()), server)
        self.assertEqual((told, said), (None, None))

    def test_everybody_else_of_theirs(self) -> None:
        """Not listed, or no Rallypoint: refused in the handshake; our log has the reason, theirs that their certificate is not expected."""
        server = ServerTls(rally(), ours(coast()))
        cases = (
            (theirs(SECOND), "not-listed"),
            (theirs(THEIRS, Role.CLIENT), "role"),
            (theirs(uuid4(), Role.SATELLITE), "role"),
        )
        for credentials, code in cases:
            told, said, _ = self.meet(self.dial(credentials), server)
            assert told is not None and said is not None
            self.assertEqual((said.code, said.by_us), (code, True))
            self.assertEqual(told.code, "told-unspecific")
            self.assertIn("another organisation that has not listed us", told.sentence)

    def test_revoked(self) -> None:
        """A revoked Rallypoint of theirs is refused, and hears why: also where both authorities have one name and OpenSSL is not given the list."""
        barred = theirs()
        told, said, _ = self.meet(self.dial(barred), ServerTls(rally(), ours(coast(revoked=(barred,)))))
        assert told is not None and said is not None
        self.assertEqual((told.code, said.code), ("told-revoked", "revoked"))
        twin = new_ca("test authority")
        barred = theirs(authority=twin)
        server = ServerTls(rally(), ours(coast(authority=twin, revoked=(barred,))))
        told, said, _ = self.meet(self.dial(barred), server)
        assert told is not None and said is not None
        self.assertEqual((told.code, said.code), ("told-unspecific", "revoked"))
        for welcome in (self.dial(theirs(authority=twin)), ClientTls(alice(), ours())):
            self.assertEqual(self.meet(welcome, server)[:2], (None, None))

    def test_their_list_keeps_none_of_ours_out(self) -> None:
        """A list of theirs in our authority's name, without a key identifier, is never asked about ours."""
        key = minting.new_key()
        twin = Ca(minting.new_authority("test authority", key, NOW), key)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(twin.certificate.subject)
            .last_update(NOW - DAY)
            .next_update(NOW + DAY)
            .sign(key, minting.digest_for(key))
        )
        foreign = Foreign("coast", (twin.certificate,), frozenset({THEIRS}), (builder,))
        self.assertEqual(
            self.meet(ClientTls(alice(), ours()), ServerTls(rally(), ours(foreign)))[:2], (None, None)
        )

    def test_dialling_theirs(self) -> None:
        """Who dials theirs takes that authority, that UUID and that name, and nothing else; not even one of our own."""
        shore = ServerTls(
            theirs(),
            Trust(
                (other_ca().certificate,),
                foreign=(Foreign("town", (ca().certificate,), frozenset({peer_id()})),),
            ),
        )
        believed = coast().trust
        self.assertEqual(
            self.meet(ClientTls(rally(), believed, expects=THEIRS), shore, "shore.example.org")[:2],
            (None, None),
        )
        cases = (
            (ClientTls(rally(), believed, expects=SECOND), shore, "shore.example.org", "not-listed"),
            (ClientTls(rally(), believed, expects=THEIRS), shore, "elsewhere.example.org", "name-mismatch"),
            (
                ClientTls(rally(), believed, expects=THEIRS),
                ServerTls(rally(), ours()),
                HERE,
                "unknown-authority",
            ),
        )
        for opener, accepter, name, code in cases:
            told, _, _ = self.meet(opener, accepter, name)
            assert told is not None
            self.assertEqual((told.code, told.by_us), (code, True))

    def test_expected_after_a_swap(self) -> None:
        """Who is expected stays so when the certificates are exchanged."""
        opener = ClientTls(rally(), coast().trust, expects=SECOND)
        opener.swap(rally(), coast().trust)
        told, _, _ = self.meet(opener, ServerTls(theirs(), ours()), "shore.example.org")
        assert told is not None
        self.assertEqual(told.code, "not-listed")

    def test_clients_never_believe_theirs(self) -> None:
        """A client's end of a link takes no foreign Rallypoint for one of ours, whatever its trust lists."""
        shore = ServerTls(theirs(), ours())
        told, _, _ = self.meet(ClientTls(alice(), ours(coast())), shore, "shore.example.org")
        assert told is not None
        self.assertEqual((told.code, told.by_us), ("unknown-authority", True))

    def test_an_intermediate_of_theirs(self) -> None:
        """What somebody below their authority has issued is not theirs: the list is for what the authority itself has signed."""
        key = minting.new_key()
        below = Ca(_issued_by(other_ca(), key), key)
        leaf = theirs(authority=below)
        shown = Credentials(leaf.certificate, (below.certificate,), leaf.key)
        _, said, _ = self.meet(self.dial(shown), ServerTls(rally(), ours(coast())))
        assert said is not None
        self.assertIn(said.code, ("unknown-authority", "bad-certificate"))

    def test_refusals_are_errors_of_tls(self) -> None:
        """They leave the handshake like every other refusal."""
        one, other = (
            self.dial(theirs(SECOND)).connection(HERE),
            ServerTls(rally(), ours(coast())).connection(),
        )
        self.assertIsInstance(join(one, other)[1], HandshakeRefused)


def peer_id() -> UUID:
    """The UUID of `rally`."""
    return Trust((ca().certificate,)).peer(rally().certificate).identity.id


def _issued_by(authority: Ca, key: object) -> x509.Certificate:
    """An authority that another has issued."""
    assert isinstance(key, type(minting.new_key()))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "below")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(authority.key, minting.digest_for(authority.key))
