"""What a rule changes, where it says so: payload types, header extensions, sealing."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.media.rtp import Extension, Packet, Talk
from ice.reflector.translation import Translation, stripped
from ice.security.keyring import Keyring
from ice.security.traffic import Cipher, derive
from tests.unit.reflector.world import STREAM, Reflector, World, rtp

KEY = derive("0f" * 32)
UNIX = 1_700_000_000.0


class TranslationTests(SynchronousTestCase):
    def test_payload_types(self) -> None:
        """The radio's number becomes the stream's and back; marker and others stay; what is no RTP is not touched."""
        change = Translation(STREAM, payload_types={97: 111, 0: 8})
        self.assertEqual(
            change.inward(rtp(1, payload_type=97, marker=True), UNIX), rtp(1, payload_type=111, marker=True)
        )
        self.assertEqual(change.outward(rtp(1, payload_type=111), UNIX), rtp(1, payload_type=97))
        self.assertEqual(change.inward(rtp(1, payload_type=13), UNIX), rtp(1, payload_type=13))
        report = b"\x80\xc8\x00\x06" + bytes(24)
        for data in (b"", b"text", report):
            self.assertEqual((change.inward(data, UNIX), change.outward(data, UNIX)), (data, data))

    def test_stripping(self) -> None:
        """Towards the radio only."""
        change = Translation(STREAM, strip=True)
        data = rtp(1, extension=Talk(alias="Anna").to_extension())
        self.assertEqual(change.outward(data, UNIX), rtp(1))
        self.assertEqual(change.inward(data, UNIX), data)

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(st.integers(0, 2**32 - 1), max_size=15),
        st.integers(0, 65_535),
        st.integers(0, 20),
        st.binary(max_size=40),
    )
    def test_stripped(self, csrcs: list[int], profile: int, words: int, payload: bytes) -> None:
        """Contributing sources and sound stay as they are; cut off anywhere, nothing is lost and nothing raised."""
        packet = Packet(0, 1, 2, 3, payload, False, tuple(csrcs), Extension(profile, bytes(4 * words)))
        data = packet.encode()
        self.assertEqual(stripped(data), Packet(0, 1, 2, 3, payload, False, tuple(csrcs)).encode())
        for end in range(12, len(data) - len(payload)):
            self.assertEqual(stripped(data[:end]), data[:end])

    def test_sealed(self) -> None:
        """Clear towards the radio, sealed towards the network; what cannot be opened has a reason."""
        for cipher in Cipher:
            keyring = Keyring(cipher, KEY)
            here, there = Translation(STREAM, keyring=keyring), Translation(STREAM, keyring=keyring)
            sealed = here.inward(rtp(1), UNIX)
            assert isinstance(sealed, bytes)
            self.assertNotIn(b"sound", sealed)
            self.assertEqual(there.outward(sealed, UNIX), rtp(1))
            self.assertTrue(here.sealed)
        self.assertEqual(there.outward(sealed, UNIX), "sealed-replay")
        self.assertEqual(there.outward(b"short", UNIX), "sealed-too-short")

    def test_two_sealing_reflectors(self) -> None:
        """Two that seal anew, each with other noise, still give one packet one name, and the radio hears everybody once."""
        world = World()

        def change() -> Translation:
            return Translation(STREAM, keyring=Keyring(Cipher.GCM, KEY))

        one = Reflector(world, "10.0.0.10", "lan", translation=change())
        Reflector(world, "10.0.0.20", "lan", translation=change())
        far = Reflector(world, "10.1.0.10", "far", translation=change())
        for n in range(30):
            world.wait(0.02)
            world.say("lan", "10.0.0.1", rtp(n))
            world.say("far", "10.1.0.1", rtp(n, ssrc=9))
            world.settle()
        heard = [data for host, data in world.on_lan["far"] if host == far.host]
        self.assertEqual(heard, [rtp(n) for n in range(30)])
        ours = [data for host, data in world.on_lan["lan"] if host == one.host]
        self.assertEqual(ours, [rtp(n, ssrc=9) for n in range(30)])
        self.assertEqual(len(world.on_mesh[STREAM]), 60)

    def test_a_codec(self) -> None:
        """What the codec change refuses has its reason; it comes before sealing, and before the radio's numbers."""

        class Change:
            def packet(self, data: bytes, now: float) -> bytes | str:
                return "codec" if data[1] == 13 else data[:12] + b"other"

        more: dict[str, Any] = {"to_stream": Change(), "to_radio": Change()}
        change = Translation(STREAM, payload_types={97: 0}, **more)
        self.assertEqual(change.inward(rtp(1, payload_type=97), UNIX), rtp(1, payload=b"other"))
        self.assertEqual(change.outward(rtp(1), UNIX), rtp(1, payload=b"other", payload_type=97))
        self.assertEqual(
            (change.inward(rtp(1, payload_type=13), UNIX), change.outward(rtp(1, payload_type=13), UNIX)),
            ("codec", "codec"),
        )
