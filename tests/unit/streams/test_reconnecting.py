"""Streams over Rallypoints in memory: losing one, finding another, moving back."""

from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory

from ice.link.frame import MEDIA, Flag, FrameType, control, media
from ice.link.message import Code, Welcome, encode
from ice.link.naming import stream_key
from ice.net.addresses import Address
from ice.streams.memory import Collector
from ice.streams.rallypoint import RallypointNetwork
from ice.streams.roster import Strategy
from ice.testing.network import (
    SOMEBODY,
    MemoryDialler,
    Script,
    run,
    until,
)
from tests.unit.streams.case import HALL, A, B, Case


class ReconnectTests(Case):
    def test_nothing_there(self) -> None:
        """Where nobody answers, the receiver is told once why; the notices tell every attempt."""
        del self.dialler.there[A]
        _, heard = self.started()
        run(self.clock, 3.0)
        self.assertEqual(heard.paths, [(False, f"{A}: nothing listens on that port")])
        self.assertGreater(len(self.notices), 4)
        self.assertEqual({(notice.kind, notice.code) for notice in self.notices}, {("failed", "refused")})

    def test_restart(self) -> None:
        """A Rallypoint killed and started again within 5 s has us back, joined, within 1 s of its port opening."""
        for dead_s in (0.5, 2.0, 4.9):
            network, heard = self.started(identity=UUID(int=int(dead_s * 10)))
            until(self.clock, lambda: self.stream.up)
            source = self.stream.source
            self.stream.send(b"before")
            run(self.clock, 10.0)
            self.a.crash()
            del self.dialler.there[A]
            run(self.clock, dead_s)
            self.assertFalse(self.stream.up)
            self.dialler.there[A] = self.a
            self.assertLess(until(self.clock, lambda: self.stream.up), 1.0)
            self.assertEqual([up for up, _ in heard.paths], [True, False, True])
            self.assertEqual(heard.paths[1][1], f"{A}: the connection broke")
            self.assertEqual(self.stream.source, source)
            self.a.media.clear()
            self.stream.send(b"after")
            run(self.clock, 0.1)
            self.assertEqual(MEDIA.unpack_from(self.a.media[0])[5], 1, "numbers go on")
            self.networks.remove(network)
            network.stop()

    def test_next_address_at_once(self) -> None:
        """When a link is lost the next address is tried in the same instant, and every stream is joined there."""
        self.dialler.there[B] = self.b
        network, _ = self.started(A, B)
        network.join("second", Collector())
        run(self.clock, 10.0)
        self.a.crash()
        took = until(self.clock, lambda: not self.stream.up, step_s=0.001)
        took = until(self.clock, lambda: self.stream.up, step_s=0.001)
        self.assertLess(took, 0.02)
        self.assertEqual([join.stream for join in self.b.joins], [HALL, "second"])
        self.assertEqual(str(network.address), B)

    def test_frozen_peer(self) -> None:
        """A Rallypoint that stops answering is given up after its keep-alive, and the next address is used."""
        self.dialler.there[B] = self.b
        _, heard = self.started(A, B)
        run(self.clock, 2.0)
        self.a.frozen = True
        self.assertLess(until(self.clock, lambda: heard.paths[-1][0] is False), 7.0)
        self.assertIn("nothing was heard", heard.paths[-1][1])
        until(self.clock, lambda: self.stream.up, 1.0)
        self.assertEqual(len(self.b.joins), 1)

    def test_frozen_during_a_burst(self) -> None:
        """The Rallypoint freezes while others talk: they are heard again after the alive rule (2.5 s) and a little."""
        self.dialler.there[B] = self.b
        _, heard = self.started(A, B)
        run(self.clock, 2.0)
        key, number = stream_key(HALL), 0
        begun = 0.0
        while not (begun and self.b.listeners.get(key)):
            if self.clock.seconds() > 4.0 and not begun:
                self.a.frozen, begun = True, self.clock.seconds()
            if not begun:
                self.a.say(media(0, key, 99, number, b"x"))
                number += 1
            run(self.clock, 0.02)
            self.assertLess(self.clock.seconds(), 10.0)
        self.b.say(media(0, key, 99, number, b"again"))
        run(self.clock, 0.01)
        self.assertEqual(heard.payloads[-1], b"again")
        self.assertLess(self.clock.seconds() - begun, 2.5 + 0.1)

    def test_frozen_peer_while_talking(self) -> None:
        """While a burst is running a dead Rallypoint is noticed within three seconds."""
        _, heard = self.started()
        run(self.clock, 2.0)
        for _ in range(50):
            self.stream.send(b"x")
            run(self.clock, 0.02)
        self.a.frozen = True
        begun = self.clock.seconds()
        while heard.paths[-1][0]:
            self.stream.send(b"x")
            run(self.clock, 0.02)
        self.assertLess(self.clock.seconds() - begun, 3.0)

    def test_queue_drops_are_counted(self) -> None:
        """Media that waited for a Rallypoint that did not keep up is counted when the link ends."""
        network, heard = self.started()
        run(self.clock, 2.0)
        self.a.frozen = True
        while heard.paths[-1][0]:
            self.stream.send(b"x")
            run(self.clock, 0.005)
        self.assertGreater(network.counts.dropped_full + network.counts.dropped_old, 0)

    def test_silent_address(self) -> None:
        """An address that swallows packets is overtaken by the next after a quarter of a second, and reported after the time-out."""
        self.dialler.silent.add(A)
        self.dialler.there[B] = self.b
        network, _ = self.started(A, B, connect_timeout_s=2.0)
        took = until(self.clock, lambda: self.stream.up, step_s=0.001)
        self.assertTrue(0.25 <= took < 0.3, took)
        self.assertEqual(network.counts.raced, 1)
        run(self.clock, 2.0)
        self.assertEqual(network.why, f"{A}: it does not answer: no sign of a TCP connection within 2 s")
        self.assertEqual(network.counts.failures, {"timeout": 1})

    def test_no_welcome(self) -> None:
        """Somebody who answers and then says nothing is overtaken a little later; TCP, TLS and WELCOME share one time-out."""
        self.dialler.there[A] = Script()
        self.dialler.there[B] = self.b
        network, _ = self.started(A, B, connect_timeout_s=2.0)
        took = until(self.clock, lambda: self.stream.up, step_s=0.001)
        self.assertTrue(0.75 <= took < 0.8, took)
        run(self.clock, 2.0)
        self.assertIn("no sign of its WELCOME within 2 s", network.why)

    def test_the_only_one_is_slow(self) -> None:
        """Where there is nothing else, an attempt has all of its time-out, and is not made twice at once."""
        self.dialler.latency_s = 1.0
        self.started(A, connect_timeout_s=5.0)
        took = until(self.clock, lambda: self.stream.up)
        self.assertTrue(4.0 <= took < 6.5, took)
        self.assertEqual(len(self.dialler.attempts), 1)

    def test_the_better_one_is_slow(self) -> None:
        """An attempt to a better address that was overtaken goes on, and takes over when it stands: no second one is made."""
        self.dialler.there[B] = self.b
        far = MemoryDialler(self.clock, latency_s=0.4)
        far.there[A] = self.a
        near = self.dialler

        class Ways:
            def connect(self, address: Address, factory: Factory) -> "Deferred[IProtocol]":
                return (far if str(address) == A else near).connect(address, factory)

            identify, explain = near.identify, near.explain

        network, heard = self.network(A, B), Collector()
        network._dialler = Ways()  # type: ignore[assignment]
        stream = network.join(HALL, heard)
        network.start()
        until(self.clock, lambda: stream.up)
        self.assertEqual(str(network.address), B)
        until(self.clock, lambda: str(network.address) == A, 4.0)
        self.assertEqual((far.tried, near.tried), ([A], [B]))
        self.assertEqual([up for up, _ in heard.paths], [True])

    def test_a_loser_is_left(self) -> None:
        """Whoever is overtaken and not wanted is not linked to: round robin has no favourites."""
        self.dialler.silent.add(A)
        self.dialler.there[B] = self.b
        network, _ = self.started(A, B, strategy=Strategy.ROUND_ROBIN)
        until(self.clock, lambda: self.stream.up)
        run(self.clock, 0.01)
        self.assertEqual(len(network._connections), 1)
        run(self.clock, 20.0)
        self.assertEqual(network.counts.failures, {})

    def test_killed_while_the_next_swallows(self) -> None:
        """The Rallypoint is killed during a burst and the next address swallows packets: silence of some 300 ms."""
        self.dialler.silent.add(B)
        c = "c.test:7443"
        self.dialler.there[c] = self.b
        self.started(A, B, c)
        run(self.clock, 10.0)
        self.a.crash()
        del self.dialler.there[A]
        until(self.clock, lambda: not self.stream.up, step_s=0.001)
        self.assertLess(until(self.clock, lambda: self.stream.up, step_s=0.001), 0.3)

    def test_learned_from_welcome(self) -> None:
        """What WELCOME names is tried when nothing that is configured is left, within the same instant."""
        self.a.alternatives = (B,)
        self.dialler.there[B] = self.b
        self.started(A)
        run(self.clock, 10.0)
        self.a.crash()
        del self.dialler.there[A]
        until(self.clock, lambda: not self.stream.up, step_s=0.001)
        self.assertLess(until(self.clock, lambda: self.stream.up, step_s=0.001), 0.02)
        self.assertEqual(self.dialler.tried, [A, B])

    def test_bye_with_alternatives(self) -> None:
        """A draining Rallypoint that names another way in has its clients there at once, and the reason is told."""
        self.dialler.there["c.test:7443"] = self.b
        _, heard = self.started()
        run(self.clock, 10.0)
        self.a.bye(alternatives=("c.test",))
        until(self.clock, lambda: not self.stream.up)
        self.assertLess(until(self.clock, lambda: self.stream.up), 0.1)
        self.assertEqual(heard.paths[1], (False, f"{A}: out of service"))
        self.assertEqual(len(self.b.joins), 1)

    def test_retry_after(self) -> None:
        """A Rallypoint that asks for ten seconds gets them."""
        self.a.turn_away = (Code.LIMIT, "too many links")
        self.a.retry_after_s = 10.0
        self.started()
        run(self.clock, 1.0)
        self.a.turn_away = None
        took = 1.0 + until(self.clock, lambda: self.stream.up)
        self.assertTrue(10.0 <= took <= 12.7, took)
        self.assertEqual(len(self.dialler.attempts), 2)

    def test_refused_certificate(self) -> None:
        """A refusal in the TLS handshake is told in words, and not tried again at once."""
        self.dialler.refusing[A] = ("told-revoked", "our certificate is revoked, says the other side")
        network, heard = self.started()
        run(self.clock, 10.0)
        self.assertEqual(heard.paths, [(False, f"{A}: our certificate is revoked, says the other side")])
        self.assertEqual(len(self.dialler.attempts), 1)
        self.assertEqual(network.counts.failures, {"told-revoked": 1})

    def test_refused_identity(self) -> None:
        """A WELCOME of somebody else than the certificate says ends the link."""
        self.dialler.there[A] = Script(
            control(FrameType.WELCOME, encode(Welcome(version=1, id=str(SOMEBODY))))
        )
        network, _ = self.started()
        run(self.clock, 1.0)
        self.assertEqual(network.counts.failures, {"identity": 1})
        self.assertFalse(network.up)

    def test_foreign_codes_do_not_fill_memory(self) -> None:
        """Codes that only the far side knows are counted together, and its text cannot reach a terminal raw."""
        self.a.turn_away = ("made-up\x1b[2J", "esc \x1b[2J\n")  # type: ignore[assignment]
        network, heard = self.started()
        run(self.clock, 1.0)
        self.assertEqual(set(network.counts.failures), {"other"})
        self.assertEqual(heard.paths[0][1], f"{A}: esc �[2J�")

    def test_wrong_protocol(self) -> None:
        """A TLS server that is no Rallypoint is named as such."""
        self.patch(__import__("ice.testing.network", fromlist=["Wire"]).Wire, "negotiatedProtocol", None)
        network, _ = self.started()
        run(self.clock, 0.5)
        self.assertIn("is this the address of a Rallypoint?", network.why)
        self.assertEqual(network.counts.failures, {"alpn": 1})


class FailBackTests(Case):
    def on_second(self, **settings: object) -> tuple[RallypointNetwork, Collector]:
        """A network that found only its second address, and the first is back since."""
        del self.dialler.there[A]
        self.dialler.there[B] = self.b
        network, heard = self.started(A, B, **settings)
        run(self.clock, 1.0)
        self.assertEqual(str(network.address), B)
        self.dialler.there[A] = self.a
        heard.paths.clear()
        return network, heard

    def test_moves_back(self) -> None:
        """When the first address works again we move there, joined before we leave, and the path never closes."""
        network, heard = self.on_second()
        until(self.clock, lambda: str(network.address) == A, 20.0)
        run(self.clock, 1.0)
        self.assertEqual(heard.paths, [])
        self.assertEqual([ended.code for ended in self.b.ended], ["leaving"])
        self.assertTrue(self.stream.send(b"here"))
        run(self.clock, 0.1)
        self.assertEqual((len(self.a.media), len(self.b.media)), (1, 0))
        self.assertEqual(network.counts.moves, 1)

    def test_not_during_a_burst(self) -> None:
        """Nobody is moved while somebody talks, be it we or others; both links are listened to, each datagram is heard once."""
        network, heard = self.on_second()
        key = stream_key(HALL)
        for number in range(1_500):
            frame = media(0, key, 99, number, b"x")
            self.b.say(frame)
            if self.a.joins:
                self.a.say(frame)
            run(self.clock, 0.02)
        self.assertEqual(str(network.address), B)
        self.assertEqual(len(self.a.joins), 1, "joined on both")
        self.assertEqual(heard.sequences, list(range(1_500)))
        self.assertGreater(network.counts.duplicates, 100)
        self.assertLess(until(self.clock, lambda: str(network.address) == A), 1.3)

    def test_data_is_no_burst(self) -> None:
        """Position reports and the like do not keep us from moving."""
        network, _ = self.on_second()
        for number in range(1_000):
            self.b.say(media(Flag.DATA, stream_key(HALL), 99, number, b"x"))
            run(self.clock, 0.02)
        self.assertEqual(str(network.address), A)

    def test_not_to_who_refuses(self) -> None:
        """We do not move where a stream that we have would be refused."""
        network, heard = self.on_second()
        self.a.refuse[HALL] = (Code.DENIED, "not here")
        run(self.clock, 60.0)
        self.assertEqual(str(network.address), B)
        self.assertEqual(heard.paths, [])
        self.assertGreater(len(self.a.joins), 0)

    def test_lost_while_moving(self) -> None:
        """When the link in use is lost while the better one stands already, it takes over without the path closing."""
        _, heard = self.on_second()
        for number in range(2_000):
            self.b.say(media(0, stream_key(HALL), 99, number, b"x"))
            run(self.clock, 0.02)
            if self.a.joins:
                break
        run(self.clock, 0.05)
        self.b.crash()
        run(self.clock, 0.1)
        self.assertEqual(heard.paths, [])
        self.assertTrue(self.stream.send(b"x"))

    def test_probe_that_fails(self) -> None:
        """A probe that fails disturbs nothing."""
        network, heard = self.on_second()
        self.a.turn_away = (Code.LIMIT, "full")
        run(self.clock, 60.0)
        self.assertEqual(str(network.address), B)
        self.assertEqual(heard.paths, [])
        self.assertGreater(network.counts.failures["limit"], 0)

    def test_joins_and_leaves_on_both(self) -> None:
        """A stream joined or left while we are on two links is joined and left on both."""
        network, _ = self.on_second()
        for number in range(2_000):
            self.b.say(media(0, stream_key(HALL), 99, number, b"x"))
            run(self.clock, 0.02)
            if self.a.joins:
                break
        network.join("second", Collector()).leave()
        run(self.clock, 0.1)
        self.assertEqual((self.a.leaves, self.b.leaves), (["second"], ["second"]))
