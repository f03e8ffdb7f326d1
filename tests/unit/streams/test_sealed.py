"""Sealed streams over a network in memory: what goes over the wire, what is heard, what is counted."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import loads
from ice.errors import LocalError
from ice.link.frame import Flag
from ice.security.keyring import Change, Keyring
from ice.security.traffic import DEFAULT_SALT, Cipher, TrafficKey
from ice.streams import sealed
from ice.streams.interface import Datagram, PassingStream, Stream
from ice.streams.memory import Collector, MemoryNetwork
from ice.streams.sealed import SealedNetwork, SealedStream

RED, BLUE, OPEN = "red", "blue", "open"
KEY, OTHER, NEXT = (TrafficKey(bytes([n]) * 32) for n in range(3))
RINGS = {RED: Keyring(Cipher.GCM, KEY), BLUE: Keyring(Cipher.CBC, OTHER)}
NOON = 1_760_000_000.0


def rtp(number: int) -> bytes:
    return b"\x80\x76" + number.to_bytes(2, "big") + bytes(40)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wire = MemoryNetwork(self.clock)
        self.logged: list[dict[str, object]] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def network(
        self, rings: dict[str, Keyring] | None = None, *, skew: float = 0.0, **settings: object
    ) -> SealedNetwork:
        known = RINGS if rings is None else rings
        return SealedNetwork(
            self.wire,
            known.get,
            lambda: NOON + self.clock.seconds() + skew,
            **settings,  # type: ignore[arg-type]
        )

    def party(
        self, stream_id: str, rings: dict[str, Keyring] | None = None, **settings: object
    ) -> tuple[Stream, Collector]:
        heard = Collector()
        stream = self.network(rings, **settings).join(stream_id, heard)  # type: ignore[arg-type]
        self.clock.advance(0)
        return stream, heard

    def wiretap(self, stream_id: str) -> tuple[PassingStream, Collector]:
        """Somebody without any key, who may pass things on."""
        tap = Collector()
        stream = self.wire.join(stream_id, tap)
        self.clock.advance(0)
        return stream, tap

    def sealed_stream(self, stream: Stream) -> SealedStream:
        assert isinstance(stream, SealedStream)
        return stream

    def warnings(self) -> list[str]:
        return [
            str(event["reason"])
            for event in self.logged
            if event.get("log_level") is LogLevel.warn and "reason" in event
        ]


class Talking(Case):
    def test_members_hear_and_the_wire_does_not(self) -> None:
        """Payloads arrive clear at members, with flags, source and numbers; on the wire there is nothing of them."""
        for stream_id in (RED, BLUE):
            talker, _ = self.party(stream_id)
            _, heard = self.party(stream_id)
            _, tap = self.wiretap(stream_id)
            self.assertTrue(talker.send(rtp(1), Flag.FIRST))
            self.assertTrue(talker.send(rtp(2), Flag.LAST | Flag.URGENT))
            self.clock.advance(0)
            self.assertEqual(
                heard.datagrams,
                [
                    Datagram(Flag.FIRST, talker.source, 0, rtp(1)),
                    Datagram(Flag.LAST | Flag.URGENT, talker.source, 1, rtp(2)),
                ],
            )
            self.assertEqual([d.sequence for d in tap.datagrams], [0, 1])
            self.assertFalse(any(rtp(1)[8:24] in payload for payload in tap.payloads))
            self.assertNotEqual(tap.payloads[0][14:], tap.payloads[1][14:])

    @given(st.lists(st.binary(max_size=300), max_size=10))
    @settings(max_examples=40, deadline=None)
    def test_any_payload(self, payloads: list[bytes]) -> None:
        """Whatever is sent is heard, in order, once."""
        self.clock = Clock()
        self.wire = MemoryNetwork(self.clock)
        talker, _ = self.party(RED)
        _, heard = self.party(RED)
        for payload in payloads:
            self.assertTrue(talker.send(payload))
        self.clock.advance(0)
        self.assertEqual(heard.payloads, payloads)

    def test_clear_group_is_untouched(self) -> None:
        """Without a keyring the stream is that of the network below."""
        talker, heard = self.party(OPEN)
        _, tap = self.wiretap(OPEN)
        self.assertNotIsInstance(talker, SealedStream)
        talker.send(b"hello")
        self.clock.advance(0)
        self.assertEqual(tap.payloads, [b"hello"])
        status = self.network().status(OPEN)
        self.assertEqual(
            (status.cipher, status.authenticated, status.words), ("none", False, "not encrypted")
        )
        self.assertEqual(heard.paths, [(True, "joined in memory")])

    def test_path(self) -> None:
        """The path of the network below is told, and without one nothing is sent or counted as sealed."""
        talker, heard = self.party(RED)
        self.wire.up = False
        self.assertEqual(heard.paths, [(True, "joined in memory"), (False, "the test has cut the path")])
        self.assertFalse(talker.up)
        self.assertFalse(talker.send(rtp(1)))
        self.assertEqual(self.sealed_stream(talker).status().sealed, 0)

    def test_rights_go_through(self) -> None:
        """Listening only, talking only: as the network below has it."""
        ears, heard = self.network().join(RED, Collector(), talk=False), Collector()
        mute = self.network().join(RED, heard, listen=False)
        self.clock.advance(0)
        self.assertRaises(LocalError, ears.send, rtp(1))
        self.party(RED)[0].send(rtp(1))
        self.clock.advance(0)
        self.assertEqual(heard.payloads, [])
        self.assertEqual((mute.stream_id, mute.up), (RED, True))

    def test_leave(self) -> None:
        """Afterwards nothing is heard; leaving twice is harmless."""
        talker, _ = self.party(RED)
        listener, heard = self.party(RED)
        listener.leave()
        listener.leave()
        talker.send(rtp(1))
        self.clock.advance(0)
        self.assertEqual(heard.payloads, [])

    def test_too_long(self) -> None:
        """What the network below does not take is its to refuse; what no datagram takes is said at once."""
        talker, _ = self.party(RED)
        self.assertFalse(talker.send(bytes(4_090)))
        self.assertEqual(self.wire.counts.too_large, 1)
        self.assertRaises(LocalError, talker.send, bytes(65_530))


class Refusing(Case):
    def refusals(self, stream: Stream) -> dict[str, int]:
        return dict(self.sealed_stream(stream).status().refused)

    def test_another_key(self) -> None:
        """Who has another key hears nothing, and can see why, once in the log and always in the counts."""
        talker, _ = self.party(RED)
        stranger, heard = self.party(RED, {RED: Keyring(Cipher.GCM, OTHER)})
        for number in range(5):
            talker.send(rtp(number))
        self.clock.advance(0)
        self.assertEqual(heard.payloads, [])
        self.assertEqual(self.refusals(stranger), {"tag": 5})
        self.assertEqual(self.warnings(), ["tag"])

    def test_status(self) -> None:
        """What people see: cipher, whether it is authenticated, and all that was counted."""
        for stream_id, cipher, authenticated in (
            (RED, "aes-256-gcm", True),
            (BLUE, "aes-256-cbc", False),
        ):
            talker, _ = self.party(stream_id)
            listener, _ = self.party(stream_id)
            intruder, _ = self.wiretap(stream_id)
            talker.send(rtp(1))
            intruder.send(bytes(5))
            self.clock.advance(0)
            mouth, ear = self.sealed_stream(talker).status(), self.sealed_stream(listener).status()
            self.assertEqual((mouth.sealed, mouth.opened), (1, 0))
            self.assertEqual((ear.cipher, ear.authenticated), (cipher, authenticated))
            self.assertEqual((ear.sealed, ear.opened, dict(ear.refused)), (0, 1, {"too-short": 1}))
            word = "authenticated" if authenticated else "unauthenticated"
            self.assertEqual(ear.words, f"{cipher}, {word}")

    def test_status_by_stream(self) -> None:
        """The network tells it too, of streams that were left, and of those never joined."""
        network = self.network()
        stream = network.join(RED, Collector())
        self.clock.advance(0)
        stream.send(rtp(1))
        self.assertEqual(network.status(RED).sealed, 1)
        stream.leave()
        self.assertEqual(network.status(RED).sealed, 1)
        self.assertEqual((network.status(BLUE).cipher, network.status(BLUE).sealed), ("aes-256-cbc", 0))

    def test_clear_packet(self) -> None:
        """A clear packet on an encrypted group is never heard."""
        listener, heard = self.party(RED)
        careless, _ = self.wiretap(RED)
        careless.send(rtp(1))
        self.clock.advance(0)
        self.assertEqual((heard.payloads, self.refusals(listener)), ([], {"clear": 1}))

    def test_other_cipher(self) -> None:
        """GCM never falls back to CBC; the mismatch is named."""
        talker, _ = self.party(RED, {RED: Keyring(Cipher.CBC, KEY)})
        listener, heard = self.party(RED)
        talker.send(rtp(1))
        self.clock.advance(0)
        self.assertEqual((heard.payloads, self.refusals(listener)), ([], {"mismatch": 1}))

    def test_replay(self) -> None:
        """What was heard once is not played again, under whatever name, nor after leaving and joining again."""
        talker, _ = self.party(RED)
        network, heard = self.network(), Collector()
        listener = network.join(RED, heard)
        parrot, tap = self.wiretap(RED)
        talker.send(rtp(1))
        self.clock.advance(0)
        parrot.send(tap.payloads[0])
        self.clock.advance(0)
        listener.leave()
        listener = network.join(RED, heard)
        self.clock.advance(0)
        parrot.send(tap.payloads[0])
        self.clock.advance(0)
        self.assertEqual(heard.payloads, [rtp(1)])
        self.assertEqual(self.refusals(listener), {"replay": 2})

    def test_kept_streams_are_bounded(self) -> None:
        """Of very many streams that were left, the oldest are forgotten."""
        self.patch(sealed, "MAX_KEPT", 2)
        network = SealedNetwork(self.wire, lambda stream_id: RINGS[RED], lambda: NOON)
        for number in range(5):
            network.join(f"s{number}", Collector()).leave()
        self.assertEqual(list(network._kept), ["s3", "s4"])

    def test_moved_to_another_stream(self) -> None:
        """A packet of one group is worth nothing on another with the same key."""
        talker, _ = self.party(RED)
        _, tap = self.wiretap(RED)
        listener, heard = self.party("green", {"green": RINGS[RED]})
        thief, _ = self.wiretap("green")
        talker.send(rtp(1))
        self.clock.advance(0)
        thief.send(tap.payloads[0])
        self.clock.advance(0)
        self.assertEqual((heard.payloads, self.refusals(listener)), ([], {"tag": 1}))

    def test_clocks(self) -> None:
        """A talker whose clock is wrong by more than is allowed is refused by that name; settings allow it."""
        for skew, word in ((700.0, "future"), (-90_000.0, "old")):
            talker, _ = self.party(RED, skew=skew)
            listener, heard = self.party(RED)
            _, patient = self.party(RED, accept_recordings=True, clock_ahead_s=3_600.0)
            talker.send(rtp(1))
            self.clock.advance(0)
            self.assertEqual((heard.payloads, self.refusals(listener)), ([], {word: 1}))
            self.assertEqual(patient.payloads, [rtp(1)])

    def test_plausible_is_the_callers(self) -> None:
        """Who knows better what the group carries says so."""
        talker, _ = self.party(BLUE)
        _, picky = self.party(BLUE, plausible=lambda payload: payload == b"yes")
        talker.send(rtp(1))
        talker.send(b"yes")
        self.clock.advance(0)
        self.assertEqual(picky.payloads, [b"yes"])

    def test_advice_for_all(self) -> None:
        """Every reason has a line in the log that says what to do or that it is no packet of ours."""
        listener, heard = self.party(RED)
        noise, _ = self.wiretap(RED)
        for payload in (b"", bytes(40), rtp(1)):
            noise.send(payload)
        self.clock.advance(0)
        self.assertEqual(self.warnings(), ["too-short", "tag", "clear"])
        self.assertEqual(heard.payloads, [])
        self.assertNotIn(bytes(32).hex(), repr(listener))


class Passing(Case):
    def test_rekeyed_on_the_way(self) -> None:
        """A patch opens with one key and seals with the other; the datagram's name goes through, and it goes through once."""
        talker, _ = self.party(RED)
        _, heard = self.party(BLUE)
        network, inbox = self.network(), Collector()
        network.join(RED, inbox)
        out = self.sealed_stream(network.join(BLUE, Collector()))
        self.clock.advance(0)
        talker.send(rtp(7), Flag.FIRST)
        self.clock.advance(0)
        (datagram,) = inbox.datagrams
        self.assertTrue(out.forward(datagram))
        self.assertFalse(out.forward(datagram))
        self.clock.advance(0)
        self.assertEqual(heard.datagrams, [datagram])
        self.assertEqual((datagram.source, datagram.payload), (talker.source, rtp(7)))
        self.assertEqual(out.status().sealed, 1)

    def test_network_without_passing_on(self) -> None:
        """Where the network below passes nothing on, that is said."""

        class Mute:
            stream_id, source, up = RED, 1, True

            def send(self, payload: bytes, flags: int = 0) -> bool:
                return True

            def leave(self) -> None:
                """Nothing to leave."""

        class Below:
            def join(
                self, stream_id: str, receiver: object, *, listen: bool = True, talk: bool = True
            ) -> Mute:
                return Mute()

        stream = self.sealed_stream(SealedNetwork(Below(), RINGS.get, lambda: NOON).join(RED, Collector()))
        self.assertRaises(LocalError, stream.forward, Datagram(0, 1, 1, b"x"))


class Rekeying(Case):
    def test_new_mission_while_people_talk(self) -> None:
        """A member learns of the change, another has not yet; both hear each other until the hour, and after it who knows."""
        rings = dict(RINGS)
        known = self.network(rings)
        aware_heard = Collector()
        stream = known.join(RED, aware_heard)
        late, late_heard = self.party(RED)
        rings[RED] = Keyring(Cipher.GCM, KEY, Change(NEXT, NOON + 60, 30.0))
        known.renew()
        second, second_heard = self.party(RED, rings)
        for at in (0.0, 61.0, 95.0):
            self.clock.advance(at - self.clock.seconds())
            stream.send(b"aware %d" % at)
            late.send(b"late %d" % at)
            second.send(b"second %d" % at)
            self.clock.advance(0)
        self.assertEqual(
            aware_heard.payloads,
            [b"late 0", b"second 0", b"late 61", b"second 61", b"second 95"],
        )
        self.assertEqual(late_heard.payloads, [b"aware 0", b"second 0"])
        self.assertIn(b"aware 95", second_heard.payloads)
        self.assertEqual(dict(known.status(RED).refused), {"old-key": 1})
        self.assertEqual(dict(self.sealed_stream(late).status().refused), {"tag": 4})

    def test_to_clear_is_said(self) -> None:
        """A group that loses its key is not opened up behind one's back."""
        rings = dict(RINGS)
        network = self.network(rings)
        stream = network.join(RED, Collector())
        _, tap = self.wiretap(RED)
        del rings[RED]
        self.assertRaises(LocalError, network.renew)
        stream.send(rtp(1))
        self.clock.advance(0)
        self.assertNotEqual(tap.payloads, [rtp(1)])


class Settings(SynchronousTestCase):
    """``[traffic]`` in the configuration."""

    def salted(self, text: bytes) -> Callable[[], bytes]:
        path = Path(self.mktemp())
        path.write_bytes(text)
        loaded = loads(f'[traffic]\nsalt_file = "{path.name}"\n', path.parent / "ice.toml")
        self.assertEqual(loaded.config.traffic.salt_file, Path.cwd() / path)
        return loaded.config.traffic.salt

    def test_defaults(self) -> None:
        """The usual salt, no recordings, ten minutes."""
        traffic = loads("", Path("ice.toml")).config.traffic
        self.assertEqual(traffic.salt(), DEFAULT_SALT)
        self.assertEqual((traffic.accept_recordings, traffic.clock_ahead_s), (False, 600.0))

    def test_salt_file(self) -> None:
        """32 digits, in either case, with or without a line end."""
        for text in (b"00112233445566778899aabbccddeeff", b"00112233445566778899AABBCCDDEEFF\n"):
            self.assertEqual(self.salted(text)(), bytes.fromhex("00112233445566778899aabbccddeeff"))

    def test_what_is_no_salt(self) -> None:
        """The file is named, what stands in it is not."""
        for text in (b"", b"secret salt", b"00112233", b"\xff" * 32, b"00" * 17, b" " * 5_000):
            error = self.assertRaises(LocalError, self.salted(text))
            self.assertIn("32 hexadecimal digits", str(error))
            self.assertNotIn("secret", str(error))
        lost = loads('[traffic]\nsalt_file = "/nowhere/salt"\n', Path("ice.toml")).config.traffic
        error = self.assertRaises(LocalError, lost.salt)
        self.assertIn("/nowhere/salt", str(error))
