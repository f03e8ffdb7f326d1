"""With real certificates: who is believed, and for which signatures."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError, RemoteError
from ice.link.naming import stream_key
from ice.rallypoint.mesh import Mesh
from ice.rallypoint.neighbours import Send
from ice.rallypoint.signatures import Believer, sign_with, verify_with
from ice.security.certificates import Role, SigningKey
from ice.security.minting import Subject, new_authority, new_key, new_leaf, new_list
from ice.security.trust import Trust

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Case(SynchronousTestCase):
    """An authority and what it issues."""

    def setUp(self) -> None:
        self.key = new_key()
        self.authority = new_authority("site", self.key, NOW)
        self.believer = Believer(Trust((self.authority,)))

    def issue(
        self, id: UUID, role: Role = Role.RALLYPOINT, key: SigningKey | None = None
    ) -> tuple[x509.Certificate, SigningKey]:
        """A certificate and its key; it expired long before now."""
        private = key or new_key()
        begin = NOW - timedelta(days=400)
        subject = Subject(role=role, id=id, name="somebody")
        leaf = new_leaf(subject, private, self.authority, self.key, begin, begin + timedelta(days=30))
        return leaf, private


class BelieverTests(Case):
    """Identifying and verifying."""

    def test_a_rallypoint_of_ours(self) -> None:
        """Its UUID, whatever our clock says; its signature and nobody else's."""
        id = uuid4()
        leaf, key = self.issue(id)
        der = leaf.public_bytes(Encoding.DER)
        self.assertEqual(self.believer.identify(der), id)
        signature = sign_with(key)(b"message")
        self.assertLessEqual(len(signature), 72)
        self.assertTrue(self.believer.verify(der, b"message", signature))
        self.assertFalse(self.believer.verify(der, b"another", signature))
        self.assertFalse(self.believer.verify(der, b"message", b"nonsense"))
        self.assertFalse(self.believer.verify(der, b"message", sign_with(new_key())(b"message")))

    def test_whom_not(self) -> None:
        """Clients, strangers, the revoked, and bytes."""
        client, _ = self.issue(uuid4(), Role.CLIENT)
        revoked, _ = self.issue(uuid4())
        other = new_key()
        theirs = new_authority("site", other, NOW)
        subject = Subject(role=Role.RALLYPOINT, id=uuid4(), name="stranger")
        stranger = new_leaf(subject, new_key(), theirs, other, NOW, NOW + timedelta(days=1))
        self.assertTrue(self.believer.identify(revoked.public_bytes(Encoding.DER)))
        lists = new_list([(revoked.serial_number, NOW)], 1, self.authority, self.key, NOW)
        self.believer.trust = Trust((self.authority,), (lists,))
        for certificate in (client, revoked, stranger):
            self.assertRaises(RemoteError, self.believer.identify, certificate.public_bytes(Encoding.DER))
        for noise in (b"", b"\x30\x03\x02\x01\x05", bytes(5_000)):
            self.assertRaises(RemoteError, self.believer.identify, noise)

    def test_kinds_of_keys(self) -> None:
        """Ed25519 will do; RSA signatures are longer than a flood has room for."""
        key = ed25519.Ed25519PrivateKey.generate()
        self.assertTrue(verify_with(key.public_key(), b"message", sign_with(key)(b"message")))
        large = rsa.generate_private_key(65_537, 2_048)
        self.assertRaises(LocalError, sign_with, large)
        leaf, _ = self.issue(uuid4(), key=large)
        self.assertRaises(RemoteError, self.believer.identify, leaf.public_bytes(Encoding.DER))
        self.assertIsInstance(new_key(), ec.EllipticCurvePrivateKey)


class MeshTests(Case):
    """Two engines with it."""

    def test_two_rallypoints(self) -> None:
        """Believe each other, until one is revoked."""
        meshes: list[Mesh[int]] = []
        certificates = []
        for _ in range(2):
            id = uuid4()
            leaf, key = self.issue(id)
            certificates.append(leaf)
            der = leaf.public_bytes(Encoding.DER)
            meshes.append(Mesh(id, der, sign_with(key), self.believer.identify, self.believer.verify))
        for link, (here, there) in enumerate((meshes, meshes[::-1])):
            here.link_up(link, there.id, 1, 0.0)
        meshes[0].want(stream_key("one"), "one", 0.0)
        for _ in range(10):
            frames = [[o.frame for o in mesh.take(1.0) if isinstance(o, Send)] for mesh in meshes]
            for link, said in enumerate(frames[::-1]):
                for frame in said:
                    meshes[link].receive(link, frame, 1.0)
        self.assertEqual([len(mesh.reach()) for mesh in meshes], [1, 1])
        self.assertEqual(meshes[1].ledger.wanted.origins(stream_key("one")), (meshes[0].origin,))
        self.assertEqual([mesh.refused for mesh in meshes], [{}, {}])
        revoked = new_list([(certificates[0].serial_number, NOW)], 1, self.authority, self.key, NOW)
        self.believer.trust = Trust((self.authority,), (revoked,))
        meshes[1].reconsider(2.0)
        self.assertEqual((meshes[1].reach(), len(meshes[1].ledger.wanted)), ([], 0))
