"""Streams over Rallypoints in memory: talking, joining, stopping."""

from ice.errors import LocalError
from ice.link.frame import MAX_MEDIA_PAYLOAD, MEDIA, Flag, FrameType, control, media
from ice.link.message import Code, ErrorMessage, Joined, Limits, Welcome, encode
from ice.link.naming import StreamIdError, format_u64, source_prefix, stream_key
from ice.streams.interface import Datagram, Network, PassingStream, Receiver, Stream
from ice.streams.memory import Collector
from ice.testing.network import (
    RALLYPOINT,
    SOMEBODY,
    MemoryDialler,
    MemoryRallypoint,
    Script,
    network_on,
    run,
    until,
)
from tests.unit.streams.case import HALL, A, Case


class TalkTests(Case):
    def test_two_hear_each_other(self) -> None:
        """What one sends the other hears, numbered from 0, under a source that fits the sender's identity."""
        heard = self.listener()
        self.started()
        run(self.clock, 0.2)
        for payload in (b"one", b"two"):
            self.assertTrue(self.stream.send(payload, Flag.FIRST))
        run(self.clock, 0.1)
        source = self.stream.source
        self.assertEqual(source >> 32, source_prefix(SOMEBODY))
        self.assertEqual(
            heard.datagrams,
            [Datagram(Flag.FIRST, source, 0, b"one"), Datagram(Flag.FIRST, source, 1, b"two")],
        )

    def test_it_introduces_itself(self) -> None:
        """HELLO carries the UUID, the name and the agent; JOIN the source of the stream."""
        self.started(name="alice")
        run(self.clock, 0.2)
        hello = self.a.hellos[0]
        self.assertEqual(
            (hello.version, hello.role, hello.id, hello.name), (1, "client", str(SOMEBODY), "alice")
        )
        self.assertTrue(hello.agent.startswith("ice/"))
        self.assertEqual(self.a.joins[0].source, self.stream.source)

    def test_path_is_told_once(self) -> None:
        """A receiver hears of the path when it is joined, and not again while nothing changes."""
        _, heard = self.started()
        self.assertFalse(self.stream.up)
        run(self.clock, 20.0)
        self.assertEqual(heard.paths, [(True, f"joined at {A}")])
        self.assertTrue(self.stream.up)

    def test_without_path(self) -> None:
        """What is sent without a path is not sent later: it is counted, and its number is not used up."""
        network, _ = self.started()
        self.assertFalse(self.stream.send(b"lost"))
        run(self.clock, 0.2)
        self.stream.send(b"first")
        run(self.clock, 0.2)
        self.assertEqual([MEDIA.unpack_from(frame)[5] for frame in self.a.media], [0])
        self.assertEqual((network.counts.without_path, network.counts.sent), (1, 1))

    def test_sequence_wraps(self) -> None:
        """Numbers are 32 bits."""
        self.started()
        run(self.clock, 0.2)
        self.stream._name.sequence = 0xFFFF_FFFF
        self.stream.send(b"last")
        self.stream.send(b"first")
        run(self.clock, 0.1)
        self.assertEqual([MEDIA.unpack_from(frame)[5] for frame in self.a.media], [0xFFFF_FFFF, 0])

    def test_too_large(self) -> None:
        """A payload over the Rallypoint's limit is counted and not sent, since it would cost us the link."""
        self.a.limits = Limits(media_bytes=100)
        network, _ = self.started()
        run(self.clock, 0.2)
        self.assertFalse(self.stream.send(bytes(101)))
        self.assertTrue(self.stream.send(bytes(100)))
        self.assertEqual(network.counts.too_large, 1)

    def test_own_and_double(self) -> None:
        """Our own datagrams and second copies are not heard, and counted by reason."""
        network, heard = self.started()
        run(self.clock, 0.2)
        key = stream_key(HALL)
        self.a.say(media(0, key, self.stream.source, 0, b"own"))
        self.a.say(media(0, key, 99, 5_000, b"once") * 2)
        self.a.say(media(0, key, 99, 3_000, b"late"))
        self.a.say(media(0, key, 99, 50_000, b"jump"))
        self.a.say(media(0, stream_key("elsewhere"), 99, 1, b"not ours"))
        run(self.clock, 0.1)
        counts = network.counts
        self.assertEqual(heard.payloads, [b"once"])
        self.assertEqual(
            (counts.own, counts.duplicates, counts.late, counts.jumps, counts.not_wanted), (1, 1, 1, 1, 1)
        )

    def test_listen_only_and_talk_only(self) -> None:
        """Who joins to listen cannot talk; who joins to talk hears nothing."""
        network, heard = self.network(), Collector()
        only = network.join(HALL, heard, talk=False)
        network.start()
        run(self.clock, 0.2)
        self.assertRaises(LocalError, only.send, b"no")
        self.assertEqual((self.a.joins[0].talk, self.a.joins[0].source), (False, None))
        only.leave()
        network.join(HALL, heard, listen=False)
        run(self.clock, 0.2)
        self.a.say(media(0, stream_key(HALL), 99, 1, b"x"))
        run(self.clock, 0.1)
        self.assertEqual(heard.payloads, [])

    def test_leave(self) -> None:
        """After leaving nothing is heard, the Rallypoint knows, and joining again keeps the name and goes on counting."""
        network, heard = self.started()
        run(self.clock, 0.2)
        self.stream.send(b"before")
        self.stream.leave()
        self.stream.leave()
        self.a.say(media(0, stream_key(HALL), 99, 1, b"x"))
        run(self.clock, 0.1)
        self.assertEqual((self.a.leaves, heard.payloads), ([HALL], []))
        self.assertFalse(self.stream.send(b"gone"))
        again = network.join(HALL, heard)
        run(self.clock, 0.1)
        again.send(b"after")
        run(self.clock, 0.1)
        self.assertEqual(again.source, self.stream.source)
        self.assertEqual([MEDIA.unpack_from(frame)[5] for frame in self.a.media], [0, 1])

    def test_joined_twice(self) -> None:
        """One stream is joined once per network: a second receiver would silently change the first one's wishes."""
        network, heard = self.started()
        self.assertRaises(LocalError, network.join, HALL, heard)
        self.assertRaises(StreamIdError, network.join, "x" * 257, heard)

    def test_a_receiver_that_fails(self) -> None:
        """What a receiver raises ends nothing: it is counted, and logged once."""

        class Broken(Collector):
            def datagram(self, datagram: Datagram) -> None:
                raise ZeroDivisionError

        network = self.network()
        network.join(HALL, Broken())
        network.start()
        run(self.clock, 0.2)
        for number in range(3):
            self.a.say(media(0, stream_key(HALL), 99, number, b"x"))
        run(self.clock, 0.1)
        self.assertEqual(network.counts.receiver_errors, 3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(network.up)

    def test_interface(self) -> None:
        """The implementation is what the interface says (mypy reads these lines)."""
        network: Network = self.network()
        receiver: Receiver = Collector()
        stream: Stream = network.join(HALL, receiver)
        passing: PassingStream = self.networks[0].join("b", receiver)
        self.assertEqual((stream.stream_id, passing.stream_id), (HALL, "b"))


class SatelliteTests(Case):
    def test_forward_keeps_the_name(self) -> None:
        """A satellite declares any source, and passes a datagram on under its own name, once."""
        network, _ = self.started(satellite=True)
        run(self.clock, 0.2)
        datagram = Datagram(Flag.URGENT, 77, 5, b"said elsewhere")
        self.assertTrue(self.stream.forward(datagram))
        self.assertFalse(self.stream.forward(datagram))
        run(self.clock, 0.1)
        self.assertEqual(self.a.joins[0].source, "any")
        self.assertEqual(self.a.media, [media(Flag.URGENT, stream_key(HALL), 77, 5, b"said elsewhere")])
        self.assertEqual(network.counts.circular, 1)

    def test_forward_many(self) -> None:
        """Several go in one write; of each it is said what became of it, and nobody else's fate is changed by that."""
        network, _ = self.started(satellite=True)
        run(self.clock, 0.2)
        sizes = (3, MAX_MEDIA_PAYLOAD + 1, 3, 65_507)
        datagrams = [Datagram(0, 77, n, bytes(size)) for n, size in enumerate(sizes)]
        fates = self.stream.forward_many([*datagrams, datagrams[0], Datagram(0, 77, 9, b"last")])
        self.assertEqual(list(fates), ["", "too-large", "", "too-large", "circular", ""])
        run(self.clock, 0.1)
        self.assertEqual([MEDIA.unpack_from(frame)[5] for frame in self.a.media], [0, 2, 9])
        self.assertEqual((network.counts.sent, network.counts.too_large, network.counts.circular), (3, 2, 1))
        self.a.crash()
        run(self.clock, 0.01)
        self.assertEqual(list(self.stream.forward_many(datagrams[:2])), ["no-path", "no-path"])

    def test_held(self) -> None:
        """What is said and passed on while the network holds it goes out together, in its order, for several streams in one write."""
        network, _ = self.started(satellite=True)
        other = network.join("b", Collector())
        run(self.clock, 0.2)
        network.hold()
        try:
            self.assertTrue(self.stream.forward(Datagram(0, 77, 1, b"one")))
            self.assertTrue(other.forward(Datagram(0, 77, 1, b"one")))
            self.assertTrue(other.send(b"two"))
            run(self.clock, 0.1)
            self.assertEqual(self.a.media, [])
        finally:
            network.let_go()
        run(self.clock, 0.1)
        keys = stream_key(HALL), stream_key("b")
        self.assertEqual(
            self.a.media,
            [media(0, key, 77, 1, b"one") for key in keys] + [media(0, keys[1], other.source, 0, b"two")],
        )
        self.assertEqual(network.counts.sent, 3)

    def test_no_circles(self) -> None:
        """What was heard on a stream is not put on it again, so two patches cannot run a datagram in a circle."""
        network, heard = self.started(satellite=True)
        run(self.clock, 0.2)
        self.a.say(media(0, stream_key(HALL), 77, 5, b"x"))
        run(self.clock, 0.1)
        self.assertFalse(self.stream.forward(heard.datagrams[0]))
        self.assertEqual(network.counts.circular, 1)

    def test_clients_do_not_forward(self) -> None:
        """Without a satellite's certificate forwarding is our own mistake, and the message says what to do."""
        self.started()
        run(self.clock, 0.2)
        error = self.assertRaises(LocalError, self.stream.forward, Datagram(0, 1, 1, b""))
        self.assertIn("--role satellite", str(error))


class JoinTests(Case):
    def test_refused_join(self) -> None:
        """A refused stream is told to its receiver alone, and asked for again later."""
        self.a.refuse["secret"] = (Code.DENIED, "not for you")
        network, heard = self.started()
        refused = Collector()
        secret = network.join("secret", refused)
        run(self.clock, 20.0)
        self.assertEqual(refused.paths, [(False, f"{A} refuses: not for you")])
        self.assertEqual(heard.paths, [(True, f"joined at {A}")])
        self.assertFalse(secret.send(b"x"))
        self.assertEqual(network.counts.refused_joins, {"denied": 1})
        self.assertEqual(
            [(n.kind, n.code) for n in self.notices if n.kind == "refused"], [("refused", "denied")]
        )
        del self.a.refuse["secret"]
        self.assertLess(until(self.clock, lambda: secret.up), 26.0)

    def test_refused_for_a_limit(self) -> None:
        """A limit is asked again after a second or so, then ever less often."""
        self.a.refuse[HALL] = (Code.LIMIT, "too many joins")
        self.started()
        run(self.clock, 0.5)
        del self.a.refuse[HALL]
        self.assertLess(until(self.clock, lambda: self.stream.up), 1.3)

    def test_unanswered_join(self) -> None:
        """A JOIN without an answer is repeated after five seconds."""
        script = Script(control(FrameType.WELCOME, encode(Welcome(version=1, id=str(RALLYPOINT)))))
        self.dialler.there[A] = script
        network, _ = self.started()
        run(self.clock, 1.0)
        script.expect(FrameType.HELLO, FrameType.JOIN)
        for _ in range(60):
            script.say(control(FrameType.PING, bytes(8)))
            run(self.clock, 0.1)
        self.assertIn(FrameType.JOIN, [frame[2] for frame in script.heard()])
        self.assertTrue(network.up)

    def test_another_key(self) -> None:
        """A JOINED with a key that is not ours is a refusal: frames would go to another stream."""
        greeting = control(FrameType.WELCOME, encode(Welcome(version=1, id=str(RALLYPOINT))))
        script = self.dialler.there[A] = Script(greeting)
        network, heard = self.started()
        run(self.clock, 0.5)
        script.say(control(FrameType.JOINED, encode(Joined(txn=0, stream=HALL, key=format_u64(1)))))
        run(self.clock, 0.5)
        self.assertEqual(network.counts.refused_joins, {"bad-key": 1})
        self.assertIn("one of us is mistaken", heard.paths[0][1])

    def test_forgotten_by_the_rallypoint(self) -> None:
        """ERROR not-joined makes us join again, without telling anybody that the path closed."""
        network, heard = self.started()
        run(self.clock, 0.5)
        for _ in range(20):
            self.a.say(control(FrameType.ERROR, encode(ErrorMessage(code="not-joined", message="who?"))))
        run(self.clock, 1.0)
        self.assertEqual(len(self.a.joins), 2)
        self.assertEqual(network.counts.errors, {"not-joined": 20})
        self.assertEqual(len(heard.paths), 1)

    def test_answers_to_nothing(self) -> None:
        """A JOINED or ERROR with an unknown transaction changes nothing."""
        network, heard = self.started()
        run(self.clock, 0.5)
        self.a.say(control(FrameType.JOINED, encode(Joined(txn=99, stream=HALL, key=format_u64(1)))))
        self.a.say(control(FrameType.ERROR, encode(ErrorMessage(code="denied", message="x", txn=99))))
        run(self.clock, 0.5)
        self.assertTrue(network.up)
        self.assertEqual(len(heard.paths), 1)


class StopTests(Case):
    def test_stop_says_goodbye(self) -> None:
        """Stopping leaves every stream, says BYE leaving, closes, tells the receivers, and fires when all is gone."""
        network, heard = self.started()
        run(self.clock, 0.5)
        fired: list[None] = []
        network.stop().addCallback(fired.append)
        network.stop().addCallback(fired.append)
        self.assertEqual(fired, [])
        run(self.clock, 0.1)
        self.assertEqual(fired, [None, None])
        self.assertEqual(self.a.leaves, [HALL])
        self.assertEqual([ended.code for ended in self.a.ended], ["leaving"])
        self.assertEqual(heard.paths[-1], (False, "the program has ended"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_in_every_phase(self) -> None:
        """Whenever it is stopped, nothing is left behind."""
        for ticks in range(12):
            dialler = MemoryDialler(self.clock, latency_s=0.01)
            dialler.there[A] = MemoryRallypoint(self.clock)
            network = network_on(dialler, A)
            network.join(HALL, Collector())
            network.start()
            run(self.clock, ticks * 0.005, 0.005)
            fired: list[None] = []
            network.stop().addCallback(fired.append)
            run(self.clock, 1.0)
            self.assertEqual(fired, [None], ticks)
            self.assertEqual(self.clock.getDelayedCalls(), [], ticks)

    def test_stop_before_start_and_twice(self) -> None:
        """A network that never started, or has stopped already, stops at once."""
        network = self.network()
        self.successResultOf(network.stop())
        self.successResultOf(network.stop())

    def test_started_twice(self) -> None:
        """Starting twice is our own mistake; starting again after a stop is not."""
        network, _ = self.started()
        self.assertRaises(LocalError, network.start)
        run(self.clock, 0.5)
        network.stop()
        run(self.clock, 0.5)
        network.start()
        until(self.clock, lambda: self.stream.up)

    def test_stopped_by_a_receiver(self) -> None:
        """A receiver may stop the network, or leave and join, from inside its own callbacks."""
        network = self.network()
        other = Collector()

        class Leaves(Collector):
            def datagram(self, datagram: Datagram) -> None:
                stream.leave()
                network.join("other", other)

            def path(self, up: bool, why: str) -> None:
                super().path(up, why)

        stream = network.join(HALL, Leaves())
        network.start()
        run(self.clock, 0.5)
        key = stream_key(HALL)
        self.a.say(media(0, key, 9, 0, b"x") + media(0, key, 9, 1, b"y"))
        run(self.clock, 0.5)
        self.assertEqual([up for up, _ in other.paths], [True])
        self.assertEqual(network.counts.not_wanted, 1)
