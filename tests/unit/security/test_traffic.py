"""What :mod:`ice.security.traffic` and :mod:`ice.security.replay` promise."""

import os
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ice.errors import LocalError
from ice.security import traffic
from ice.security.replay import MAX_AGE_S, SIZE, Starts
from ice.security.traffic import (
    DEFAULT_SALT,
    Cipher,
    Opener,
    Refused,
    Sealer,
    TrafficKey,
    derive,
    new_key_hex,
    plausible_packet,
    sealed_bytes,
)
from tests.unit.security import fuzz

# All of these were made with the openssl command line (kdf PBKDF2 and HKDF, enc -aes-256-ctr, -ecb, -cbc).
PASSWORD = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
SALT = bytes.fromhex("36d7cfdc03051d416fb636520e9ded6b")
KEY = bytes.fromhex("a7ddc64f4b9c353fd3c04013d3dba613d7aa6b5b2add2cca309291ecd9543af0")
STREAM = "6c1f8d1e-0a51-5f0f-9c0b-3a8b6a5d2f10"
STREAM_KEY = bytes.fromhex("59c68dae6349c280")
BEGAN = 0x68E5D900
START = bytes.fromhex("68e5d900a1b2c3d4")
START_KEY = bytes.fromhex("b4be8ebf5223630b293a078361f158856558b4ee3154aadd8dd52e895fdd2cb1")
PAYLOAD = bytes.fromhex("80600001000003e8deadbeef68656c6c6f")
GCM_COUNTER = 5
GCM_CIPHERTEXT = bytes.fromhex("7333d04559dfb0b85ed634b7be06d6f1ba")
GCM_E_J0 = bytes.fromhex("89ea76b011ada0f820a795a9d1804cfc")  # AES of nonce ‖ 1
GCM_H = bytes.fromhex("994f9f82a8cdefebbeac70c1332a4692")  # AES of nothing
CBC_IV = bytes.fromhex("00112233445566778899aabbccddeeff")
CBC_DRAWN = bytes.fromhex("021fc6e62f6671c6fe558962b62d182f")  # whose AES is that IV
CBC_CIPHERTEXT = bytes.fromhex("b2411726d14b23c952d8b81f6f527f199d45a13e8ef61586d471bafdf20c3d3f")

NOW = float(BEGAN) + 0.25
HOUR = 3_600.0


def ghash(h: bytes, additional: bytes, ciphertext: bytes) -> bytes:
    """GHASH of NIST SP 800-38D, a bit at a time: the second opinion on tags."""

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 16)

    key, value = int.from_bytes(h, "big"), 0
    lengths = (8 * len(additional)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    data = padded(additional) + padded(ciphertext) + lengths
    for at in range(0, len(data), 16):
        factor, product = value ^ int.from_bytes(data[at : at + 16], "big"), 0
        other = key
        for bit in range(127, -1, -1):
            if factor >> bit & 1:
                product ^= other
            other = (other >> 1) ^ (0xE1 << 120 if other & 1 else 0)
        value = product
    return value.to_bytes(16, "big")


def drawn(*pieces: bytes) -> Callable[[int], bytes]:
    """A source of "random" bytes that gives these."""
    left = list(pieces)

    def draw(count: int) -> bytes:
        piece = left.pop(0)
        assert len(piece) == count
        return piece

    return draw


def gcm(key: TrafficKey | None = None, stream: str = STREAM, seed: int = 1) -> Sealer:
    return Sealer(key or TrafficKey(KEY), Cipher.GCM, stream, random_bytes=Random(seed).randbytes)


def opener(cipher: Cipher = Cipher.GCM, **settings: object) -> Opener:
    return Opener(TrafficKey(KEY), cipher, STREAM, **settings)  # type: ignore[arg-type]


def hexdump(data: bytes) -> str:
    return "\n".join(data[at : at + 16].hex(" ") for at in range(0, len(data), 16))


class Keys(SynchronousTestCase):
    def test_vector(self) -> None:
        """PBKDF2-HMAC-SHA-256, 15,000 iterations, the default salt from its sentence."""
        self.assertEqual(DEFAULT_SALT, SALT)
        self.assertEqual(derive(PASSWORD), TrafficKey(KEY))
        self.assertNotEqual(derive(PASSWORD, bytes(16)), TrafficKey(KEY))

    def test_case_of_digits_does_not_matter(self) -> None:
        """A password as the one wrote it opens what the other sealed."""
        self.assertEqual(derive("Ab" * 32), derive("aB" * 32))

    def test_what_is_no_password(self) -> None:
        """Each mistake is named, and the value is not shown."""
        for text in ("", "secret", "abc", "ab cd", "ab\n", "é" * 2, "ab" * 1_025):
            error = self.assertRaises(LocalError, derive, text)
            self.assertIn("cryptoPassword", str(error))
            if text:
                self.assertNotIn(text, str(error))
        self.assertRaises(LocalError, derive, PASSWORD, bytes(15))
        self.assertRaises(LocalError, TrafficKey, bytes(31))

    def test_shown_to_nobody(self) -> None:
        """Neither repr nor str nor pickle of what holds a key gives it away."""
        key = derive(PASSWORD)
        for thing in (key, Sealer(key, Cipher.GCM, STREAM), opener()):
            for text in (repr(thing), str(thing), f"{thing}"):
                self.assertNotIn(KEY.hex(), text)
                self.assertNotIn(repr(KEY), text)
        self.assertEqual(repr(key), "<traffic key>")
        self.assertRaises(TypeError, pickle.dumps, key)

    def test_keys_compare(self) -> None:
        """Equal keys are one key in a set; a key equals nothing else."""
        self.assertEqual(len({TrafficKey(KEY), TrafficKey(KEY), TrafficKey(bytes(32))}), 2)
        self.assertNotEqual(TrafficKey(KEY), KEY)

    def test_new_keys_are_random(self) -> None:
        """64 digits that derive, different each time."""
        self.assertEqual(len(new_key_hex()), 64)
        self.assertNotEqual(new_key_hex(), new_key_hex())
        self.assertEqual(new_key_hex(lambda count: b"\xab" * count), "ab" * 32)
        derive(new_key_hex())


class Vectors(SynchronousTestCase):
    def test_gcm(self) -> None:
        """The sixth packet of a start, byte by byte, its tag checked by hand."""
        sealer = Sealer(TrafficKey(KEY), Cipher.GCM, STREAM, random_bytes=drawn(START[4:]))
        for _ in range(GCM_COUNTER):
            sealer.seal(b"", NOW)
        sealed = sealer.seal(PAYLOAD, NOW)
        self.assertEqual(
            hexdump(sealed),
            "68 e5 d9 00 a1 b2 c3 d4 00 00 00 00 00 05 73 33\n"
            "d0 45 59 df b0 b8 5e d6 34 b7 be 06 d6 f1 ba fe\n"
            "7a f0 2d b3 89 e9 74 41 80 e5 1a 36 df c3 51",
        )
        self.assertEqual(sealed[:31], START + GCM_COUNTER.to_bytes(6, "big") + GCM_CIPHERTEXT)
        tag = bytes(a ^ b for a, b in zip(ghash(GCM_H, STREAM_KEY, GCM_CIPHERTEXT), GCM_E_J0, strict=True))
        self.assertEqual(sealed[31:], tag)
        self.assertEqual(opener().open(sealed, NOW), PAYLOAD)

    def test_gcm_key_of_a_start(self) -> None:
        """HKDF-SHA-256 without salt, info "ice gcm 1" and the start id."""
        nonce = GCM_COUNTER.to_bytes(12, "big")
        sealed = TrafficKey(KEY).of_start(START).encrypt(nonce, PAYLOAD, STREAM_KEY)
        self.assertEqual(sealed, AESGCM(START_KEY).encrypt(nonce, PAYLOAD, STREAM_KEY))

    def test_cbc(self) -> None:
        """IV, then the blocks of `openssl enc -aes-256-cbc`."""
        sealer = Sealer(TrafficKey(KEY), Cipher.CBC, STREAM, random_bytes=drawn(CBC_DRAWN))
        sealed = sealer.seal(PAYLOAD, NOW)
        self.assertEqual(
            hexdump(sealed),
            "00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff\n"
            "b2 41 17 26 d1 4b 23 c9 52 d8 b8 1f 6f 52 7f 19\n"
            "9d 45 a1 3e 8e f6 15 86 d4 71 ba fd f2 0c 3d 3f",
        )
        self.assertEqual(opener(Cipher.CBC).open(CBC_IV + CBC_CIPHERTEXT, NOW), PAYLOAD)

    def test_sizes(self) -> None:
        """As documented for CBC (12→32, 16→48, 104→128), 30 bytes more for GCM; sealing and the sum agree."""
        for clear, sealed in ((0, 32), (12, 32), (15, 32), (16, 48), (104, 128)):
            self.assertEqual(sealed_bytes(Cipher.CBC, clear), sealed)
        for cipher in Cipher:
            sealer = Sealer(TrafficKey(KEY), cipher, STREAM)
            for size in range(70):
                self.assertEqual(len(sealer.seal(bytes(size), NOW)), sealed_bytes(cipher, size))
            most = 65_505 if cipher is Cipher.GCM else 65_503
            self.assertLessEqual(len(sealer.seal(bytes(most), NOW)), 65_535)
            self.assertRaises(LocalError, sealer.seal, bytes(most + 1), NOW)


class Openssl(SynchronousTestCase):
    """The same from the openssl command line, where it is installed."""

    def setUp(self) -> None:
        self.program = shutil.which("openssl") or ""
        if not self.program:
            raise SkipTest("openssl is not on the PATH")

    def run_openssl(self, *arguments: str, data: bytes = b"") -> bytes:
        done = subprocess.run([self.program, *arguments], input=data, capture_output=True, check=False)
        if done.returncode:
            raise SkipTest(f"this openssl does not do {arguments[0]}: {done.stderr.decode()[:200]}")
        return done.stdout

    def kdf(self, name: str, *options: str) -> bytes:
        pairs = [word for option in ("digest:SHA256", *options) for word in ("-kdfopt", option)]
        return bytes.fromhex(self.run_openssl("kdf", "-keylen", "32", *pairs, name).decode().replace(":", ""))

    def test_keys(self) -> None:
        """openssl kdf derives the traffic key and the key of a start."""
        salt = b"sixteen bytes ok"
        key = self.kdf("PBKDF2", f"hexpass:{PASSWORD}", f"hexsalt:{salt.hex()}", "iter:15000")
        self.assertEqual(derive(PASSWORD, salt), TrafficKey(key))
        of_start = self.kdf("HKDF", f"hexkey:{key.hex()}", f"hexinfo:{(b'ice gcm 1' + START).hex()}")
        sealed = derive(PASSWORD, salt).of_start(START).encrypt(bytes(12), PAYLOAD, b"")
        self.assertEqual(AESGCM(of_start).decrypt(bytes(12), sealed, b""), PAYLOAD)

    def test_cbc_both_ways(self) -> None:
        """openssl enc opens what we seal, one packet after the other, and we open what it seals."""
        sealer, ears = Sealer(TrafficKey(KEY), Cipher.CBC, STREAM), opener(Cipher.CBC)
        for payload in (PAYLOAD, b'{"type":1}', b"\x80" + bytes(31)):
            sealed = sealer.seal(payload, NOW)
            way = ("enc", "-aes-256-cbc", "-K", KEY.hex(), "-iv")
            self.assertEqual(self.run_openssl(*way, sealed[:16].hex(), "-d", data=sealed[16:]), payload)
            iv = os.urandom(16)
            foreign = iv + self.run_openssl(*way, iv.hex(), data=payload)
            self.assertEqual(ears.open(foreign, NOW), payload)

    def test_gcm_text_is_counter_mode(self) -> None:
        """openssl enc in counter mode, from 2 on, opens the text of a GCM packet."""
        sealed = gcm().seal(PAYLOAD, NOW)
        key = self.kdf("HKDF", f"hexkey:{KEY.hex()}", f"hexinfo:{(b'ice gcm 1' + sealed[:8]).hex()}")
        counter = sealed[8:14].rjust(12, b"\0") + (2).to_bytes(4, "big")
        text = self.run_openssl(
            "enc", "-aes-256-ctr", "-d", "-K", key.hex(), "-iv", counter.hex(), data=sealed[14:-16]
        )
        self.assertEqual(text, PAYLOAD)


class RoundTrips(SynchronousTestCase):
    @given(st.binary(max_size=600), st.integers(0, 2**32 - 1))
    @settings(max_examples=100, deadline=None)
    def test_gcm(self, payload: bytes, unix_s: int) -> None:
        """What is sealed opens, once, whatever it is and whenever."""
        sealed = gcm(seed=len(payload)).seal(payload, unix_s)
        ears = opener()
        self.assertEqual(ears.open(sealed, unix_s), payload)
        self.assertEqual(ears.open(sealed, unix_s), Refused.REPLAY)
        self.assertEqual((ears.opened, ears.refused), (1, {Refused.REPLAY: 1}))

    @given(st.lists(st.binary(max_size=100), max_size=8))
    @settings(max_examples=100, deadline=None)
    def test_cbc(self, payloads: list[bytes]) -> None:
        """One context for all packets, and each packet still stands for itself, in any order."""
        sealer = Sealer(TrafficKey(KEY), Cipher.CBC, STREAM)
        sealed = [sealer.seal(payload, NOW) for payload in payloads]
        ears = opener(Cipher.CBC, plausible=lambda payload: True)
        for packet, payload in zip(reversed(sealed), reversed(payloads), strict=True):
            self.assertEqual(ears.open(packet, NOW), payload)
        self.assertEqual(len({packet[:16] for packet in sealed}), len(sealed))


class Damage(SynchronousTestCase):
    def test_gcm_every_length(self) -> None:
        """Cut anywhere, or with bytes behind it, a packet is refused; whole it still opens afterwards."""
        sealed, ears = gcm().seal(PAYLOAD, NOW), opener()
        for length in range(len(sealed)):
            expected = Refused.TOO_SHORT if length < 30 else Refused.TAG
            self.assertEqual(ears.open(sealed[:length], NOW), expected, length)
        self.assertEqual(ears.open(sealed + b"\0", NOW), Refused.TAG)
        self.assertEqual(ears.open(sealed + bytes(65_536), NOW), Refused.LENGTH)
        self.assertEqual(ears.open(sealed, NOW), PAYLOAD)

    def test_gcm_every_bit(self) -> None:
        """Whichever bit is flipped, start id and counter too, the packet is refused for its tag."""
        sealed, ears = gcm().seal(PAYLOAD, NOW), opener()
        for bit in range(8 * len(sealed)):
            flipped = bytearray(sealed)
            flipped[bit // 8] ^= 1 << bit % 8
            self.assertEqual(ears.open(bytes(flipped), NOW), Refused.TAG, bit)
        self.assertEqual(ears.refused, {Refused.TAG: 8 * len(sealed)})
        self.assertEqual(len(ears.starts), 0)
        self.assertEqual(ears.open(sealed, NOW), PAYLOAD)

    def test_gcm_wrong_key_wrong_stream(self) -> None:
        """Under another key, or said on another stream, nothing opens."""
        ears = opener()
        self.assertEqual(ears.open(gcm(TrafficKey(bytes(32))).seal(PAYLOAD, NOW), NOW), Refused.TAG)
        self.assertEqual(ears.open(gcm(stream="elsewhere").seal(PAYLOAD, NOW), NOW), Refused.TAG)

    def test_cbc_every_length(self) -> None:
        """Cut anywhere, a CBC packet is refused."""
        packet = b"\x80\x60" + bytes(range(46))
        sealer = Sealer(TrafficKey(KEY), Cipher.CBC, STREAM, random_bytes=Random(4).randbytes)
        sealed, ears = sealer.seal(packet, NOW), opener(Cipher.CBC)
        self.assertEqual(len(sealed), 80)
        for length in range(len(sealed)):
            result = ears.open(sealed[:length], NOW)
            if length < 32:
                expected = {Refused.TOO_SHORT, Refused.CLEAR}
            elif length % 16:
                expected = {Refused.LENGTH, Refused.CLEAR}
            else:
                expected = {Refused.PADDING}
            self.assertIn(result, expected, length)
        self.assertEqual(ears.open(sealed, NOW), packet)

    def test_cbc_cannot_tell(self) -> None:
        """Flipped bits of the IV pass as the talker's own: that is why a CBC group is called unauthenticated."""
        sealed = bytearray(Sealer(TrafficKey(KEY), Cipher.CBC, STREAM).seal(PAYLOAD, NOW))
        sealed[8] ^= 0xFF
        ears = opener(Cipher.CBC)
        self.assertEqual(
            ears.open(bytes(sealed), NOW), PAYLOAD[:8] + bytes([PAYLOAD[8] ^ 0xFF]) + PAYLOAD[9:]
        )
        self.assertFalse(ears.authenticated)
        self.assertTrue(opener().authenticated)

    def test_cbc_wrong_key(self) -> None:
        """Of what another key sealed, next to nothing passes, and the rest is named and counted."""
        sealer = Sealer(TrafficKey(bytes(32)), Cipher.CBC, STREAM, random_bytes=Random(5).randbytes)
        ears = opener(Cipher.CBC)
        for _ in range(2_000):
            ears.open(sealer.seal(PAYLOAD, NOW), NOW)
        self.assertLessEqual(ears.opened, 3)
        self.assertLessEqual(set(ears.refused), {Refused.PADDING, Refused.IMPLAUSIBLE})
        self.assertGreater(ears.refused[Refused.IMPLAUSIBLE], 0)

    def test_cbc_plausible_is_asked(self) -> None:
        """What decrypts well and is no packet of the group is refused."""
        sealed = Sealer(TrafficKey(KEY), Cipher.CBC, STREAM).seal(b"no packet", NOW)
        ears = opener(Cipher.CBC)
        self.assertEqual(ears.open(sealed, NOW), Refused.IMPLAUSIBLE)
        self.assertEqual(opener(Cipher.CBC, plausible=lambda payload: True).open(sealed, NOW), b"no packet")

    def test_other_cipher_is_named(self) -> None:
        """With our key and the other cipher: a mismatch, never opened."""
        ears = opener()
        cbc = Sealer(TrafficKey(KEY), Cipher.CBC, STREAM, random_bytes=Random(6).randbytes)
        for _ in range(20):
            self.assertEqual(ears.open(cbc.seal(PAYLOAD, NOW), NOW), Refused.MISMATCH)
        ears, sealer = opener(Cipher.CBC), gcm()
        for size in range(40):
            self.assertEqual(ears.open(sealer.seal(PAYLOAD + bytes(size), NOW), NOW), Refused.MISMATCH)
        self.assertEqual(ears.opened, 0)

    def test_clear_is_named(self) -> None:
        """A clear packet on an encrypted group is refused by that name; under CBC where its length tells."""
        clear = b"\x80\x60" + bytes(50)
        for packet in (clear, PAYLOAD, b'{"type": 1}', b"<event/>"):
            self.assertEqual(opener().open(packet, NOW), Refused.CLEAR)
            self.assertEqual(opener(Cipher.CBC).open(packet, NOW), Refused.CLEAR)
        self.assertIsInstance(opener(Cipher.CBC).open(clear + bytes(12), NOW), Refused)

    def test_hostile_packets_leave_nothing(self) -> None:
        """Random start ids fill no memory and push nobody out."""
        ears, sealer, random_ = opener(), gcm(), Random(7)
        sealed = [sealer.seal(PAYLOAD, NOW) for _ in range(2)]
        ears.open(sealed[0], NOW)
        for _ in range(3_000):
            ears.open(START[:4] + random_.randbytes(60), NOW)
        self.assertEqual(len(ears.starts), 1)
        self.assertEqual(len(ears._aeads), 1)
        self.assertEqual(ears.open(sealed[0], NOW), Refused.REPLAY)
        self.assertEqual(ears.open(sealed[1], NOW), PAYLOAD)

    def test_ciphers_are_bounded(self) -> None:
        """More start ids than ciphers are kept: the oldest is derived again, and its window is still there."""
        self.patch(traffic, "MAX_CIPHERS", 4)
        ears = opener()
        sealed = [gcm(seed=seed).seal(PAYLOAD, NOW) for seed in range(10)]
        for packet in sealed:
            self.assertEqual(ears.open(packet, NOW), PAYLOAD)
        self.assertEqual(len(ears._aeads), 4)
        for packet in sealed:
            self.assertEqual(ears.open(packet, NOW), Refused.REPLAY)

    def test_fuzz(self) -> None:
        """Mutated packets: nothing is raised, everything is counted, nothing opens twice."""
        outcomes = fuzz.run(seed=11, count=3_000)
        self.assertGreater(outcomes[Cipher.GCM]["opened"], 30)
        for word in ("tag", "too-short", "replay", "old", "future", "mismatch", "clear"):
            self.assertGreater(outcomes[Cipher.GCM][word], 0, word)
        for word in ("padding", "implausible", "length", "too-short", "mismatch"):
            self.assertGreater(outcomes[Cipher.CBC][word], 0, word)

    def test_fuzz_is_the_same_each_time(self) -> None:
        """A seed names its packets."""
        self.assertEqual(list(fuzz.fuzz_packets(3, 50)), list(fuzz.fuzz_packets(3, 50)))
        self.assertNotEqual(list(fuzz.fuzz_packets(3, 50)), list(fuzz.fuzz_packets(4, 50)))

    @given(st.binary(max_size=200))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes, an opener answers: with a reason, or, under CBC and once in thousands, with what looks like a packet."""
        self.assertIsInstance(opener().open(data, NOW), Refused)
        answer = opener(Cipher.CBC).open(data, NOW)
        self.assertTrue(isinstance(answer, Refused) or plausible_packet(answer))


class Starting(SynchronousTestCase):
    """When a sender takes a new start id."""

    def starts(self, sealer: Sealer, *times: float, first: bool = False) -> list[bytes]:
        return [sealer.seal(b"x", at, first=first)[:8] for at in times]

    def test_one_start_counts_up(self) -> None:
        """Within a start the counter is 0, 1, 2 …, and the start says when it was."""
        sealer = gcm()
        heads = [sealer.seal(b"x", NOW + n)[:14] for n in range(300)]
        self.assertEqual({head[:8] for head in heads}, {heads[0][:8]})
        self.assertEqual([int.from_bytes(head[8:], "big") for head in heads], list(range(300)))
        self.assertEqual(heads[0][:4], BEGAN.to_bytes(4, "big"))

    def test_two_starts_never_share(self) -> None:
        """Two senders, two starts of one second: other start ids, so other keys, so no nonce is used twice."""
        sealers = [Sealer(TrafficKey(KEY), Cipher.GCM, STREAM) for _ in range(200)]
        self.assertEqual(len({sealer.seal(b"x", NOW)[:8] for sealer in sealers}), 200)

    def test_new_at_the_first_burst_after_twelve_hours(self) -> None:
        """Not before, not in the midst of a burst, at its beginning; a long silence ends a burst too."""
        sealer = gcm()
        old, late = self.starts(sealer, NOW, NOW + 12 * HOUR - 1)
        self.assertEqual(old, late)
        self.assertEqual(self.starts(sealer, NOW + 12 * HOUR - 0.5, first=True), [old])
        midst = self.starts(sealer, NOW + 12 * HOUR, NOW + 12 * HOUR + 0.5)
        self.assertEqual(midst, [old, old])
        new = self.starts(sealer, NOW + 12 * HOUR + 0.6, first=True)
        self.assertNotEqual(new, [old])
        self.assertEqual(int.from_bytes(new[0][:4], "big"), BEGAN + 43_200)
        again = gcm()
        self.assertNotEqual(*self.starts(again, NOW, NOW + 13 * HOUR))

    def test_new_in_the_midst_after_eighteen_hours(self) -> None:
        """A burst that never ends does not outlive what newcomers admit."""
        sealer = gcm()
        starts = self.starts(sealer, *(NOW + n * 0.9 for n in range(int(18.1 * HOUR / 0.9))))
        self.assertEqual(len(set(starts)), 2)

    def test_new_when_the_clock_went_back(self) -> None:
        """A clock set back behind the start begins anew, and both are admitted by a listener whose clock is right."""
        sealer, ears = gcm(), opener()
        ahead, back = (sealer.seal(PAYLOAD, at) for at in (NOW + 500, NOW + 3))
        self.assertNotEqual(ahead[:8], back[:8])
        self.assertEqual(int.from_bytes(back[:4], "big"), BEGAN + 3)
        self.assertEqual(back[8:14], bytes(6))
        self.assertEqual([ears.open(packet, NOW) for packet in (ahead, back)], [PAYLOAD, PAYLOAD])

    def test_never_a_start_again(self) -> None:
        """A draw that was had before is drawn again; a source that only repeats itself is refused."""
        sealer = Sealer(
            TrafficKey(KEY), Cipher.GCM, STREAM, random_bytes=drawn(*(b"aaaa", b"bbbb", b"aaaa", b"cccc"))
        )
        starts = self.starts(sealer, NOW, NOW - 1, NOW - 2)
        self.assertEqual([start[4:] for start in starts], [b"aaaa", b"bbbb", b"aaaa"])
        stuck = Sealer(TrafficKey(KEY), Cipher.GCM, STREAM, random_bytes=bytes)
        stuck.seal(b"", NOW)
        stuck._counter = traffic.MAX_COUNTER + 1
        self.assertRaises(LocalError, stuck.seal, b"", NOW)

    def test_counter_never_wraps(self) -> None:
        """After the last counter comes a new start."""
        sealer = gcm()
        first = sealer.seal(b"", NOW)
        sealer._counter = traffic.MAX_COUNTER
        last, next_ = sealer.seal(b"", NOW), sealer.seal(b"", NOW)
        self.assertEqual(last[:14], first[:8] + b"\xff" * 6)
        self.assertNotEqual(next_[:8], first[:8])
        self.assertEqual(next_[8:14], bytes(6))

    def test_forked_processes_part(self) -> None:
        """A child of a fork does not go on under its parent's start."""
        sealer = Sealer(TrafficKey(KEY), Cipher.GCM, STREAM)
        start = sealer.seal(b"x", NOW)[:8]
        self.patch(traffic, "_forks", traffic._forks)
        traffic._forked()
        self.assertNotEqual(sealer.seal(b"x", NOW)[:8], start)

    def test_impossible_clocks(self) -> None:
        """A clock before 1970 or after 2106 seals still."""
        for unix_s in (-5.0, 2.0**40):
            self.assertEqual(len(gcm().seal(b"x", unix_s)), 31)


class Replays(SynchronousTestCase):
    """The window, and which start ids are admitted."""

    def test_in_any_order_once(self) -> None:
        """Within 1,024 packets may overtake each other; each is let through once."""
        sealer, ears, random_ = gcm(), opener(), Random(9)
        packets = [sealer.seal(b"%d" % n, NOW) for n in range(SIZE)]
        order = list(range(SIZE))
        random_.shuffle(order)
        self.assertEqual([ears.open(packets[n], NOW) for n in order], [b"%d" % n for n in order])
        self.assertEqual({ears.open(packet, NOW) for packet in packets}, {Refused.REPLAY})
        self.assertEqual(ears.refused, {Refused.REPLAY: SIZE})

    def test_behind_the_window(self) -> None:
        """1,023 behind is taken, 1,024 behind is late."""
        starts = Starts()
        self.assertIsNone(starts.ask(START, 5_000, NOW))
        self.assertIsNone(starts.ask(START, 5_000 - SIZE + 1, NOW))
        self.assertEqual(starts.ask(START, 5_000 - SIZE, NOW), Refused.LATE)
        self.assertEqual(starts.ask(START, 0, NOW), Refused.LATE)

    def test_far_ahead(self) -> None:
        """A jump of any length is believed, for its tag was right, and what it leaves behind is late."""
        starts = Starts()
        for counter in (0, 1, 1 << 40, (1 << 40) + SIZE, (1 << 48) - 1):
            self.assertIsNone(starts.ask(START, counter, NOW))
            self.assertEqual(starts.ask(START, counter, NOW), Refused.REPLAY)
        self.assertEqual(starts.ask(START, 1, NOW), Refused.LATE)

    @given(st.lists(st.integers(0, 3_000), max_size=60))
    @settings(max_examples=100, deadline=None)
    def test_nothing_twice(self, counters: list[int]) -> None:
        """Whatever the order, no counter passes twice, and every one that is not far behind passes once."""
        starts, passed, high = Starts(), set[int](), -1
        for counter in counters:
            fresh = starts.ask(START, counter, NOW) is None
            self.assertEqual(fresh, counter not in passed and counter > high - SIZE)
            if fresh:
                passed.add(counter)
                high = max(high, counter)

    def test_ages(self) -> None:
        """24 hours old and 10 minutes ahead are admitted, a second more is not, and says so."""
        for age, expected in ((0, None), (86_400, None), (86_401, Refused.OLD)):
            self.assertEqual(Starts().ask(START, 0, BEGAN + age), expected)
        for ahead, expected in ((600, None), (601, Refused.FUTURE)):
            self.assertEqual(Starts().ask(START, 0, BEGAN - ahead), expected)
        self.assertIsNone(Starts(accept_recordings=True).ask(START, 0, BEGAN + 10 * 86_400))
        self.assertIsNone(Starts(clock_ahead_s=86_400).ask(START, 0, BEGAN - 86_400))

    def test_who_was_heard_may_grow_old(self) -> None:
        """A start that was heard in time goes on, however long it talks."""
        starts = Starts()
        for day in range(4):
            self.assertIsNone(starts.ask(START, day, BEGAN + day * 86_400))

    def test_refused_starts_leave_nothing(self) -> None:
        """Old and future ones are not remembered."""
        starts = Starts()
        starts.ask(START, 0, BEGAN + 90_000)
        starts.ask(START, 0, BEGAN - 700)
        self.assertEqual(len(starts), 0)

    def start(self, began: float, number: int = 0) -> bytes:
        return int(began).to_bytes(4, "big") + number.to_bytes(4, "big")

    def test_full(self) -> None:
        """Where there is no room, who is known goes on and who is new is refused, until something may be forgotten."""
        starts = Starts(max_starts=3)
        for number in range(3):
            self.assertIsNone(starts.ask(self.start(NOW, number), 0, NOW))
        self.assertEqual(starts.ask(self.start(NOW, 9), 0, NOW), Refused.STARTS)
        self.assertIsNone(starts.ask(self.start(NOW, 0), 1, NOW))
        later = NOW + MAX_AGE_S + 2
        self.assertIsNone(starts.ask(self.start(NOW, 1), 1, later))  # a talker of a day and more
        self.assertIsNone(starts.ask(self.start(later), 0, later))
        self.assertEqual(len(starts), 2)
        self.assertIsNone(starts.ask(self.start(NOW, 1), 2, later))

    def test_forgetting_opens_no_door(self) -> None:
        """What was forgotten cannot be played again, not even by setting the listener's clock back."""
        starts = Starts(max_starts=2)
        for number in range(2):
            starts.ask(self.start(NOW, number), 0, NOW)
        later = NOW + MAX_AGE_S + 2
        self.assertIsNone(starts.ask(self.start(later), 0, later))
        self.assertEqual(len(starts), 1)
        for when in (later, NOW):
            self.assertEqual(starts.ask(self.start(NOW), 0, when), Refused.OLD)
        self.assertIsNone(starts.ask(self.start(NOW + 1), 0, NOW + 1))

    def test_a_full_table_is_searched_seldom(self) -> None:
        """Refusing is cheap: within a minute the table is not searched again."""
        starts = Starts(max_starts=1)
        starts.ask(self.start(NOW), 0, NOW)
        later = NOW + MAX_AGE_S - 10
        self.assertEqual(starts.ask(self.start(later), 0, later), Refused.STARTS)
        self.assertEqual(starts.ask(self.start(later), 0, later + 30), Refused.STARTS)
        self.assertIsNone(starts.ask(self.start(later), 0, later + 61))

    def test_old_and_future_by_packets(self) -> None:
        """Said only of packets whose tag is right: a forgery is never called a wrong clock."""
        ears = opener()
        self.assertEqual(ears.open(gcm().seal(PAYLOAD, NOW - 90_000), NOW), Refused.OLD)
        self.assertEqual(ears.open(gcm().seal(PAYLOAD, NOW + 700), NOW), Refused.FUTURE)
        self.assertEqual(ears.open((0).to_bytes(4, "big") + bytes(40), NOW), Refused.TAG)
        self.assertEqual(opener(accept_recordings=True).open(gcm().seal(PAYLOAD, 5.0), NOW), PAYLOAD)


class Plausible(SynchronousTestCase):
    def test_what_is(self) -> None:
        """RTP with everything it may have, JSON, XML, with blanks or a byte order mark before it."""
        for payload in (
            PAYLOAD,
            b"\x80" + bytes(11),
            b"\x81" + bytes(15),
            b"\x90" + bytes(11) + b"\xbe\xde\x00\x01" + bytes(4),
            b"\xa0" + bytes(11) + b"\x00\x02",
            b'{"a":"\xc3\xa9"}',
            b" \r\n[1]",
            b"\xef\xbb\xbf<?xml version='1.0'?><event/>",
        ):
            self.assertTrue(plausible_packet(payload), payload)

    def test_what_is_not(self) -> None:
        """Anything else, and RTP that does not fit in its own bytes."""
        for payload in (
            b"",
            b"\x80" + bytes(10),
            b"\x40" + bytes(11),
            b"\x81" + bytes(14),
            b"\x90" + bytes(14),
            b"\x90" + bytes(11) + b"\xbe\xde\x00\x02" + bytes(4),
            b"\xa0" + bytes(11),
            b"\xa0" + bytes(11) + b"\x02",
            b"hello",
            b"{\xff}",
        ):
            self.assertFalse(plausible_packet(payload), payload)

    def test_random_bytes(self) -> None:
        """Few random payloads pass."""
        random_ = Random(2)
        passed = sum(plausible_packet(random_.randbytes(60)) for _ in range(4_000))
        self.assertLess(passed, 600)


class ByHand(SynchronousTestCase):
    def test_ghash(self) -> None:
        """The second opinion agrees with AES-GCM of the library itself, so that a wrong vector cannot hide behind it."""
        nonce = GCM_COUNTER.to_bytes(12, "big")
        tag = AESGCM(START_KEY).encrypt(nonce, PAYLOAD, STREAM_KEY)[-16:]
        mask = bytes(a ^ b for a, b in zip(tag, GCM_E_J0, strict=True))
        self.assertEqual(mask, ghash(GCM_H, STREAM_KEY, GCM_CIPHERTEXT))


class Page(SynchronousTestCase):
    """docs/traffic-encryption.md, where it can be held against the code."""

    def setUp(self) -> None:
        self.page = (Path(__file__).resolve().parents[3] / "docs" / "traffic-encryption.md").read_text(
            "utf-8"
        )

    def test_every_reason_is_explained(self) -> None:
        """Whoever reads a reason on a status page finds what to do."""
        self.assertEqual([reason for reason in Refused if f"`{reason}`" not in self.page], [])

    def test_examples(self) -> None:
        """The packets on the page open, and both say the same."""
        blocks = [
            bytes.fromhex(block)
            for block in re.findall(r"\n((?:(?:[0-9a-f]{2} ){14,15}[0-9a-f]{2}\n)+)```", self.page)
        ]
        self.assertEqual(
            [opener().open(blocks[0], NOW), opener(Cipher.CBC).open(blocks[1], NOW)], [PAYLOAD] * 2
        )
