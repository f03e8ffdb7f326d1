"""TLS contexts: real handshakes between two ends in memory, the good one and every refusal, told in words on both ends."""

from __future__ import annotations

import socket

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ice.errors import LocalError
from ice.security.certificates import Role, fingerprint
from ice.security.contexts import ClientTls, ServerTls, peer_of, speaks_ice
from ice.security.refusals import HandshakeRefused, Reason, Refusal, explain
from ice.security.trust import Credentials, Trust

from . import wire
from .wire import ALICE, DAY, NOW, alice, ca, client, join, new_ca, other_ca, rally, server, trusting

HERE = "rally.example.org"


class Welcome(SynchronousTestCase):
    """Who is let in, and what both ends then know."""

    def meet(self, opener: SSL.Connection, accepter: SSL.Connection) -> None:
        self.assertEqual(join(opener, accepter), (None, None))

    def test_both_ends_know_each_other(self) -> None:
        """After a handshake each end has the other's identity, over TLS 1.3, with ice-link/1 negotiated."""
        opener, accepter = client().connection(HERE), server().connection()
        self.meet(opener, accepter)
        who = peer_of(accepter)
        self.assertEqual(
            (who.identity.name, who.identity.role, who.identity.id), ("alice", Role.CLIENT, ALICE)
        )
        self.assertEqual(who.identity.authority, fingerprint(ca().certificate))
        self.assertEqual(who.serial, alice().certificate.serial_number)
        self.assertEqual(peer_of(opener).identity.name, "rally")
        for end in (opener, accepter):
            self.assertEqual(end.get_protocol_version_name(), "TLSv1.3")
            self.assertTrue(speaks_ice(end))

    def test_data_flows(self) -> None:
        """What one end writes the other reads."""
        opener, accepter = client().connection(HERE), server().connection()
        self.meet(opener, accepter)
        opener.send(b"hello")
        accepter.bio_write(opener.bio_read(65_536))
        self.assertEqual(accepter.recv(100), b"hello")

    def test_addresses_are_names_too(self) -> None:
        """A Rallypoint may be dialled by the IPv4 and IPv6 addresses in its certificate."""
        for address in ("192.0.2.7", "2001:db8::7"):
            self.meet(client().connection(address), server().connection())

    def test_name_in_any_case(self) -> None:
        """DNS names compare without case."""
        self.meet(client().connection("Rally.Example.ORG"), server().connection())

    def test_server_name_is_told(self) -> None:
        """A DNS name is sent as SNI, an address is not (RFC 6066 §3)."""
        accepter = server().connection()
        self.meet(client().connection(HERE), accepter)
        self.assertEqual(accepter.get_servername(), HERE.encode())
        accepter = server().connection()
        self.meet(client().connection("192.0.2.7"), accepter)
        self.assertIsNone(accepter.get_servername())

    def test_every_role_may_dial(self) -> None:
        """Clients, satellites and peer Rallypoints open links."""
        for role in Role:
            accepter = server().connection()
            self.meet(client(ca().leaf("x", role)).connection(HERE), accepter)
            self.assertEqual(peer_of(accepter).identity.role, role)

    def test_control(self) -> None:
        """An end that is for operators alone admits them, by its own protocol; who dials a satellite meets one."""
        satellite = ca().leaf("patch", Role.SATELLITE, dns=(HERE,))
        accepter = ServerTls(satellite, trusting(ca()), admits=(Role.OPERATOR,), alpn=b"http/1.1")
        opener = ClientTls(
            ca().leaf("desk", Role.OPERATOR), trusting(ca()), wants=Role.SATELLITE, alpn=b"http/1.1"
        )
        at_server, at_client = accepter.connection(), opener.connection(HERE)
        self.meet(at_client, at_server)
        self.assertEqual(peer_of(at_server).identity.role, Role.OPERATOR)
        self.assertEqual(at_server.get_alpn_proto_negotiated(), b"http/1.1")

    def test_wrong_name_where_names_are_not_checked(self) -> None:
        """With verify_name off any Rallypoint of the authority will do."""
        self.meet(client(verify_name=False).connection("elsewhere.example.org"), server().connection())

    def test_two_authorities_during_roll_over(self) -> None:
        """With both authorities trusted on both ends, old and new certificates meet in every combination."""
        both = trusting(ca(), other_ca())
        new_rally = other_ca().leaf("rally", Role.RALLYPOINT, dns=(HERE,))
        for theirs in (rally(), new_rally):
            for ours in (alice(), other_ca().leaf("alice")):
                self.meet(client(ours, both).connection(HERE), server(theirs, both).connection())

    def test_authorities_of_the_same_name(self) -> None:
        """Two authorities that share a name are told apart by their keys."""
        twin = new_ca("test authority")
        both = trusting(ca(), twin)
        accepter = server(trust=both).connection()
        self.meet(client(twin.leaf("alice")).connection(HERE), accepter)
        self.assertEqual(peer_of(accepter).identity.authority, fingerprint(twin.certificate))

    def test_list_that_names_others(self) -> None:
        """A revocation list refuses only whom it names."""
        listed = trusting(revocations=(ca().revoking(ca().leaf("mallory")),))
        self.meet(client(trust=listed).connection(HERE), server(trust=listed).connection())

    def test_list_of_one_authority_of_two(self) -> None:
        """An authority without a revocation list revokes nobody, also where another authority has one."""
        both = trusting(ca(), other_ca(), revocations=(ca().revoking(),))
        self.meet(client(other_ca().leaf("bob")).connection(HERE), server(trust=both).connection())

    def test_expired_list_admits_the_rest(self) -> None:
        """A list past its next update keeps nobody out whom it does not name."""
        stale = trusting(revocations=(ca().revoking(signed=NOW - 20 * DAY, days=10),))
        self.meet(client().connection(HERE), server(trust=stale).connection())

    def test_no_resumption(self) -> None:
        """A second handshake with the first one's session runs in full: the certificate is looked at again."""
        tls, mine = server(), client()
        first = mine.connection(HERE)
        self.meet(first, tls.connection())
        session = first.get_session()
        second, accepter = mine.connection(HERE), tls.connection()
        if session is not None:
            second.set_session(session)
        self.meet(second, accepter)
        self.assertEqual(peer_of(accepter).identity.name, "alice")

    def test_over_a_socket(self) -> None:
        """The same objects make connections in which OpenSSL owns the socket."""
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
            self.addCleanup(each.close)
        opener, accepter = client().connection(HERE, ours), server().connection(theirs)
        for _ in range(4):
            for end in (opener, accepter):
                try:
                    end.do_handshake()
                except SSL.WantReadError:
                    continue
        self.assertEqual(peer_of(accepter).identity.name, "alice")
        self.assertEqual(peer_of(opener).identity.name, "rally")


class Refused(SynchronousTestCase):
    """Who is not let in, and what each end is told."""

    def refusal(self, opener: SSL.Connection, accepter: SSL.Connection) -> tuple[Refusal, Refusal]:
        """What the opener and the accepter make of it."""
        ours, theirs = join(opener, accepter)
        assert ours is not None and theirs is not None, (ours, theirs)
        return explain(ours), explain(theirs)

    def refused_by_server(
        self, credentials: Credentials, reason: Reason, told: Reason, trust: Trust | None = None
    ) -> tuple[str, str]:
        at_client, at_server = self.refusal(
            client(credentials).connection(HERE), server(trust=trust).connection()
        )
        self.assertEqual((at_server.code, at_client.code), (str(reason), f"told-{told}"))
        self.assertTrue(at_server.by_us)
        self.assertFalse(at_client.by_us)
        return at_client.sentence, at_server.sentence

    def test_expired(self) -> None:
        """An expired certificate: the Rallypoint says whose and since when, the client hears that it expired and what to type."""
        late = ca().leaf("alice", begin=NOW - 9 * DAY, end=NOW - 3 * DAY)
        told, said = self.refused_by_server(late, Reason.EXPIRED, Reason.EXPIRED)
        self.assertIn("'alice'", said)
        self.assertIn("(3 days ago)", said)
        self.assertIn("ice pki renew", told)

    def test_not_yet_valid(self) -> None:
        """A certificate of tomorrow: both are told to look at their clocks."""
        early = ca().leaf("alice", begin=NOW + DAY)
        told, said = self.refused_by_server(early, Reason.NOT_YET_VALID, Reason.BAD_CERTIFICATE)
        self.assertIn("not valid before", said)
        self.assertIn("clock", told)

    def test_other_authority(self) -> None:
        """A certificate of an authority that is not trusted."""
        told, said = self.refused_by_server(
            other_ca().leaf("alice"), Reason.UNKNOWN_AUTHORITY, Reason.UNKNOWN_AUTHORITY
        )
        self.assertIn("elsewhere", said)
        self.assertIn("does not trust", told)

    def test_forged_authority(self) -> None:
        """An authority of the same name with another key is another authority."""
        self.refused_by_server(
            new_ca("test authority").leaf("alice"), Reason.UNKNOWN_AUTHORITY, Reason.UNKNOWN_AUTHORITY
        )

    def test_leaf_that_plays_authority(self) -> None:
        """A certificate issued by somebody's leaf is of no authority, though a real one stands above it."""
        mallory = ca().leaf("mallory")
        forged = wire.Ca(mallory.certificate, mallory.key).leaf("alice", id=ALICE)
        chained = Credentials(forged.certificate, (mallory.certificate,), forged.key)
        at_client, at_server = self.refusal(client(chained).connection(HERE), server().connection())
        self.assertIn(at_server.reason, (Reason.UNKNOWN_AUTHORITY, Reason.BAD_CERTIFICATE))
        self.assertFalse(at_client.by_us)

    def test_revoked(self) -> None:
        """A revoked certificate, told as such on both ends."""
        listed = trusting(revocations=(ca().revoking(alice()),))
        told, said = self.refused_by_server(alice(), Reason.REVOKED, Reason.REVOKED, listed)
        self.assertIn("'alice'", said)
        self.assertIn("revoked", told)

    def test_revoked_by_an_expired_list(self) -> None:
        """A list past its next update still keeps out whom it names."""
        stale = trusting(revocations=(ca().revoking(alice(), signed=NOW - 20 * DAY, days=10),))
        self.refused_by_server(alice(), Reason.REVOKED, Reason.REVOKED, stale)

    def test_revoked_rallypoint(self) -> None:
        """A client that has the list refuses a Rallypoint on it."""
        listed = trusting(revocations=(ca().revoking(rally()),))
        at_client, at_server = self.refusal(client(trust=listed).connection(HERE), server().connection())
        self.assertEqual((at_client.code, at_server.code), ("revoked", "told-revoked"))

    def test_no_certificate(self) -> None:
        """Who shows no certificate is told that one is wanted."""
        at_client, at_server = self.refusal(bare_client(), server().connection())
        self.assertEqual((at_client.code, at_server.code), ("told-no-certificate", "no-certificate"))

    def test_tls_1_2(self) -> None:
        """TLS 1.2 is refused, and the sentence says what is spoken instead."""
        at_client, at_server = self.refusal(bare_client(SSL.TLS1_2_VERSION), server().connection())
        self.assertEqual((at_client.code, at_server.code), ("told-tls-version", "tls-version"))
        self.assertIn("TLS 1.3 only", at_server.sentence)

    def test_no_ice_identity(self) -> None:
        """A certificate of the authority without an ice name opens no link."""
        told, said = self.refused_by_server(plain_leaf(), Reason.BAD_IDENTITY, Reason.UNSPECIFIC)
        self.assertIn("urn:ice:", said)
        self.assertIn("role or name", told)

    def test_rallypoint_certificate_that_may_not_accept(self) -> None:
        """A client's certificate shown by whoever answers is refused: its role is not rallypoint."""
        at_client, at_server = self.refusal(
            client().connection(HERE), server(ca().leaf("mallory", dns=(HERE,))).connection()
        )
        self.assertEqual((at_client.code, at_server.code), ("role", "told-role"))

    def test_control_is_for_operators(self) -> None:
        """Any other role is refused where operators are wanted, and a Rallypoint where a satellite is."""
        satellite = ca().leaf("patch", Role.SATELLITE, dns=(HERE,))
        accepter = ServerTls(satellite, trusting(ca()), admits=(Role.OPERATOR,))
        for role in (Role.CLIENT, Role.SATELLITE, Role.RALLYPOINT):
            other = ClientTls(ca().leaf("x", role), trusting(ca()), wants=Role.SATELLITE)
            at_client, at_server = self.refusal(other.connection(HERE), accepter.connection())
            self.assertEqual((at_client.code, at_server.code), ("told-unspecific", "role"))
            self.assertIn("for an operator", at_server.sentence)
        opener = ClientTls(ca().leaf("desk", Role.OPERATOR), trusting(ca()), wants=Role.SATELLITE)
        at_client, _ = self.refusal(opener.connection(HERE), server().connection())
        self.assertIn("expected a satellite", at_client.sentence)

    def test_wrong_role_inside_ice(self) -> None:
        """A certificate that TLS would accept at the accepting end, but whose ice role is satellite, is refused; names checked or not."""
        posing = plain_leaf(f"urn:ice:satellite:{ALICE}", server_too=True)
        for verify_name in (True, False):
            at_client, at_server = self.refusal(
                client(verify_name=verify_name).connection(HERE), server(posing).connection()
            )
            self.assertEqual((at_client.code, at_server.code), ("role", "told-unspecific"))

    def test_wrong_name(self) -> None:
        """A Rallypoint that is not the one dialled: the sentence lists the names it has, and the ways out."""
        for dialled in ("elsewhere.example.org", "192.0.2.8", "2001:db8::8", "example.org"):
            at_client, at_server = self.refusal(client().connection(dialled), server().connection())
            self.assertEqual((at_client.code, at_server.code), ("name-mismatch", "told-unspecific"))
            self.assertIn(dialled, at_client.sentence)
            self.assertIn("rally.example.org, 192.0.2.7", at_client.sentence)

    def test_rallypoint_of_another_authority(self) -> None:
        """A client refuses a Rallypoint whose authority it does not know, names checked or not."""
        foreign = other_ca().leaf("rally", Role.RALLYPOINT, dns=(HERE,))
        for verify_name in (True, False):
            at_client, at_server = self.refusal(
                client(verify_name=verify_name).connection(HERE), server(foreign).connection()
            )
            self.assertEqual(
                (at_client.code, at_server.code), ("unknown-authority", "told-unknown-authority")
            )

    def test_expired_rallypoint(self) -> None:
        """A client refuses a Rallypoint whose certificate has expired, and the Rallypoint hears it."""
        late = ca().leaf("rally", Role.RALLYPOINT, dns=(HERE,), begin=NOW - 9 * DAY, end=NOW - DAY)
        at_client, at_server = self.refusal(client().connection(HERE), server(late).connection())
        self.assertEqual((at_client.code, at_server.code), ("expired", "told-expired"))

    def test_what_is_not_tls(self) -> None:
        """Plain HTTP, a proxy request and other protocols on the TLS port are named as what they are."""
        for spoken, reason in (
            (b"GET / HTTP/1.1\r\nHost: rally\r\n\r\n", Reason.PLAIN_HTTP),
            (b"CONNECT a:1 HTTP/1.1\r\n\r\n", Reason.PLAIN_HTTP),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Reason.NOT_TLS),
            (bytes(64), Reason.NOT_TLS),
            (b"\x16\x03\x01\xff\xff" + b"a" * 70_000, Reason.NOT_TLS),
        ):
            accepter = server().connection()
            accepter.bio_write(spoken)
            error = self.assertRaises(SSL.Error, accepter.do_handshake)
            self.assertEqual(explain(error).reason, reason, spoken[:20])

    def test_end_of_file(self) -> None:
        """A connection that ends in mid-handshake was closed by the other side."""
        accepter = server().connection()
        accepter.bio_shutdown()
        refusal = explain(self.assertRaises(SSL.Error, accepter.do_handshake))
        self.assertEqual((refusal.reason, refusal.by_us), (Reason.CLOSED, False))

    def test_peer_before_handshake(self) -> None:
        """Nobody is known before the handshake, nor after a refused one."""
        accepter = server().connection()
        self.assertRaises(LocalError, peer_of, accepter)
        join(client(other_ca().leaf()).connection(HERE), accepter)
        self.assertRaises(LocalError, peer_of, accepter)

    def test_names_that_cannot_be_dialled(self) -> None:
        """What is neither a DNS name nor an address is refused before anything is sent."""
        for address in ("", "a" * 300, "bad..name", "."):
            self.assertRaises(LocalError, client().connection, address)


class Alpn(SynchronousTestCase):
    """Application protocols: selected when offered, visible when not."""

    def test_none_offered(self) -> None:
        """Without ALPN the handshake succeeds, and speaks_ice says no."""
        accepter = server().connection()
        self.assertEqual(join(bare_client(credentials=alice()), accepter), (None, None))
        self.assertFalse(speaks_ice(accepter))

    def test_another_offered(self) -> None:
        """With another protocol offered nothing is negotiated."""
        opener, accepter = bare_client(credentials=alice(), alpn=[b"http/1.1", b"h2"]), server().connection()
        self.assertEqual(join(opener, accepter), (None, None))
        self.assertFalse(speaks_ice(accepter))

    def test_ours_among_others(self) -> None:
        """Ours is selected wherever it stands in the offer."""
        opener, accepter = (
            bare_client(credentials=alice(), alpn=[b"h2", b"ice-link/1"]),
            server().connection(),
        )
        self.assertEqual(join(opener, accepter), (None, None))
        self.assertTrue(speaks_ice(accepter))


class Reload(SynchronousTestCase):
    """New certificates and lists in a running server."""

    def test_new_connections_see_the_new_certificate(self) -> None:
        """After swap the next client is shown the new certificate; a link that lives goes on."""
        tls = server()
        old_opener, old_accepter = client().connection(HERE), tls.connection()
        self.assertEqual(join(old_opener, old_accepter), (None, None))
        renewed = ca().leaf("rally", Role.RALLYPOINT, dns=(HERE,))
        tls.swap(renewed, trusting())
        opener = client().connection(HERE)
        self.assertEqual(join(opener, tls.connection()), (None, None))
        self.assertEqual(peer_of(opener).serial, renewed.certificate.serial_number)
        old_opener.send(b"still here")
        old_accepter.bio_write(old_opener.bio_read(65_536))
        self.assertEqual(old_accepter.recv(100), b"still here")

    def test_handshake_in_flight(self) -> None:
        """A connection made before the swap finishes with what it began with."""
        tls = server()
        accepter = tls.connection()
        tls.swap(rally(), trusting(revocations=(ca().revoking(alice()),)))
        self.assertEqual(join(client().connection(HERE), accepter), (None, None))

    def test_new_revocations_hold(self) -> None:
        """After swap a newly revoked client is refused."""
        tls = server()
        tls.swap(rally(), trusting(revocations=(ca().revoking(alice()),)))
        _, error = join(client().connection(HERE), tls.connection())
        assert error is not None
        self.assertEqual(explain(error).reason, Reason.REVOKED)

    def test_bad_pair_changes_nothing(self) -> None:
        """Credentials that do not belong together are refused, and the old ones stay."""
        mixed = Credentials(rally().certificate, (), alice().key)
        tls, mine = server(), client()
        self.assertRaises(LocalError, tls.swap, mixed, trusting())
        self.assertRaises(LocalError, mine.swap, mixed, trusting())
        self.assertEqual((tls.credentials, mine.credentials), (rally(), alice()))
        self.assertEqual(join(mine.connection(HERE), tls.connection()), (None, None))

    def test_client_swap(self) -> None:
        """A client's next connection shows its renewed certificate."""
        mine, renewed = client(), ca().leaf("alice", id=ALICE)
        mine.swap(renewed, trusting())
        accepter = server().connection()
        self.assertEqual(join(mine.connection(HERE), accepter), (None, None))
        self.assertEqual(peer_of(accepter).serial, renewed.certificate.serial_number)


class OnTwisted(SynchronousTestCase):
    """The same objects inside Twisted's TLS."""

    def test_interfaces(self) -> None:
        """They provide what Twisted's endpoints ask for."""
        verifyObject(IOpenSSLServerConnectionCreator, server())
        verifyObject(IOpenSSLClientConnectionCreator, client().to(HERE))

    def test_refusal_reaches_connection_lost(self) -> None:
        """A refusal of ours arrives in connectionLost with its sentence, and the alert is sent first."""
        reasons = self.talk(server(), client(other_ca().leaf("alice")))
        refused = reasons["server"]
        assert isinstance(refused, HandshakeRefused)
        self.assertEqual(explain(refused).reason, Reason.UNKNOWN_AUTHORITY)
        self.assertEqual(explain(reasons["client"]).code, "told-unknown-authority")

    def test_greeting(self) -> None:
        """Two Twisted protocols greet each other over our TLS."""
        self.assertEqual(self.talk(server(), client()), {})
        self.assertEqual(self.heard, {"server": b"from client", "client": b"from server"})

    def talk(self, accepting: ServerTls, opening: ClientTls) -> dict[str, BaseException]:
        """Join two TLS transports by hand; why each was lost."""
        lost: dict[str, BaseException] = {}
        self.heard: dict[str, bytes] = {}
        clock = Clock()

        def factory(side: str) -> Factory:
            class Side(Protocol):
                def connectionMade(inner) -> None:
                    assert inner.transport is not None
                    inner.transport.write(f"from {side}".encode())

                def dataReceived(inner, data: bytes) -> None:
                    self.heard[side] = self.heard.get(side, b"") + data

                def connectionLost(inner, reason: object = None) -> None:
                    lost[side] = reason.value  # type: ignore[attr-defined]

            return Factory.forProtocol(Side)

        ends = {
            "server": TLSMemoryBIOFactory(accepting, False, factory("server"), clock).buildProtocol(None),
            "client": TLSMemoryBIOFactory(opening.to(HERE), True, factory("client"), clock).buildProtocol(
                None
            ),
        }
        transports = {side: StringTransport() for side in ends}
        for side, end in ends.items():
            end.makeConnection(transports[side])
        for _ in range(10):
            clock.advance(0)
            for side, other in (("client", "server"), ("server", "client")):
                data = transports[side].value()
                transports[side].clear()
                if data and not lost.get(other):
                    ends[other].dataReceived(data)
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        for side, end in ends.items():
            if transports[side].disconnecting:
                end.connectionLost(Failure(ConnectionDone()))
        return lost


def bare_client(
    highest: int = SSL.TLS1_3_VERSION, credentials: Credentials | None = None, alpn: list[bytes] | None = None
) -> SSL.Connection:
    """A client that is none of ours: checks nothing, shows what it is given."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(highest)
    if credentials:
        context.use_certificate(credentials.certificate)
        context.use_privatekey(credentials.key)
    if alpn:
        context.set_alpn_protos(alpn)
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    return connection


def plain_leaf(uri: str = "https://example.org", server_too: bool = False) -> Credentials:
    """A certificate of our authority with a URI of one's own choice."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    from ice.security import minting

    key = minting.new_key()
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH] + [ExtendedKeyUsageOID.SERVER_AUTH] * server_too
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")]))
        .issuer_name(ca().certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), x509.DNSName(HERE)]), False
        )
        .add_extension(x509.ExtendedKeyUsage(uses), False)
        .sign(ca().key, hashes.SHA256())
    )
    return Credentials(certificate, (), key)
