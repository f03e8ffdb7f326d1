"""basE91, gzip, passwords, deflection URLs: round trips, every truncation, bombs, and vectors."""

import gzip
import json
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import IceError, LocalError
from ice.mission import packing
from ice.mission.base91 import ALPHABET, Base91Error, decode, encode
from ice.mission.packing import (
    HEADER,
    MAX_PACKED,
    PasswordNeeded,
    WrongPassword,
    deflected,
    pack,
    pack_bytes,
    unpack,
    unpack_bytes,
)
from ice.mission.tolerant import MAX_BYTES, MissionError
from tests.unit.mission.cases import SMALL, text

JSON = text(SMALL)


def counting(size: int) -> bytes:
    """Randomness for a vector: bytes that count up."""
    return bytes(range(size))


class Base91(SynchronousTestCase):
    def test_vectors(self) -> None:
        """Known bytes have known texts."""
        for data, expected in (
            (b"", ""),
            (b"test", "fPNKd"),
            (b"Hello World!", ">OwJh>Io0Tv!8PE"),
            (b"\x00", "AA"),
            (b"\xff", "/C"),
        ):
            self.assertEqual(encode(data), expected)
            self.assertEqual(decode(expected), data)

    def test_alphabet(self) -> None:
        """Ninety-one characters, printable, none of them - \\ ' or a blank."""
        self.assertEqual((len(ALPHABET), len(set(ALPHABET))), (91, 91))
        self.assertEqual(set(map(chr, range(33, 127))) - set(ALPHABET), set("-\\'"))

    def test_white_space(self) -> None:
        """Line breaks that a mail program put in are passed over."""
        self.assertEqual(decode(" fP\r\nNK\td "), b"test")

    def test_other_characters(self) -> None:
        """Anything else is refused with its place."""
        for wrong in ("fP-Kd", "fP'Kd", "fPéKd", "fP\x00Kd"):
            with self.assertRaises(Base91Error) as caught:
                decode(wrong)
            self.assertEqual(caught.exception.position, 2)

    @given(st.binary(max_size=200))
    @settings(max_examples=200, deadline=None)
    def test_round_trip(self, data: bytes) -> None:
        """Bytes come back as they were, from text that is at most 23 % and two characters longer."""
        found = encode(data)
        self.assertEqual(decode(found), data)
        self.assertLessEqual(len(found), len(data) * 16 / 13 + 2)

    @given(st.text(alphabet=ALPHABET, max_size=60))
    @settings(max_examples=100, deadline=None)
    def test_any_text(self, found: str) -> None:
        """Any text of the alphabet is some bytes."""
        self.assertIsInstance(decode(found), bytes)


class Packing(SynchronousTestCase):
    def test_layers(self) -> None:
        """Magic, version and JSON in gzip in basE91, each as anybody's library makes it."""
        self.assertEqual(HEADER, b"&*3$e1@E001")
        self.assertEqual(gzip.decompress(decode(pack(JSON))), HEADER + JSON.encode())
        foreign = encode(gzip.compress(HEADER + JSON.encode()))
        self.assertEqual(unpack(foreign, "x"), JSON)

    def test_the_same_mission_the_same_text(self) -> None:
        """No time or name goes in."""
        self.assertEqual(pack(JSON), pack(JSON))
        self.assertEqual(pack_bytes(JSON)[:8].hex(" "), "1f 8b 08 00 00 00 00 00")

    @given(st.text(max_size=300).filter(lambda each: each.isprintable()))
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, found: str) -> None:
        """Any text comes back."""
        self.assertEqual(unpack(pack(found), "x"), found)

    def test_every_truncation(self) -> None:
        """A packed mission that is cut anywhere is refused by us, and nothing half comes out."""
        found = pack(JSON)
        for end in range(len(found) - 1):
            with self.assertRaises(MissionError):
                unpack(found[:end], "x")

    def test_what_it_is_not(self) -> None:
        """Each layer says what it expected."""
        for data, words in (
            (b"", "nothing"),
            (b"hello", "1f 8b"),
            (b"\x1f\x8bhello", "damaged"),
            (gzip.compress(b"hello"), "mark"),
            (gzip.compress(b"&*3$e1@E002{}"), "version"),
            (gzip.compress(HEADER + b"\xff"), "UTF-8"),
            (gzip.compress(HEADER + b"{}") + b"more", "follow"),
            (gzip.compress(HEADER + b"{}")[:-4], "early"),
            (b"\x01" + bytes(40), "whole"),
        ):
            with self.assertRaises(MissionError) as caught:
                unpack_bytes(data, "m.ice")
            self.assertIn(words, str(caught.exception))
            self.assertIn("m.ice", str(caught.exception))

    def test_bombs(self) -> None:
        """A gzip that explodes is refused at the limit, long before it is inflated; a text that is too long, before it is decoded."""
        bomb = gzip.compress(HEADER + b" " * (10 * MAX_BYTES))
        self.assertLess(len(bomb), MAX_PACKED)
        with self.assertRaises(MissionError) as caught:
            unpack_bytes(bomb, "x")
        self.assertIn(f"{MAX_BYTES + len(HEADER):,}", str(caught.exception))
        with self.assertRaises(MissionError):
            unpack("A" * (MAX_PACKED + 1), "x")
        with self.assertRaises(LocalError):
            pack(" " * (MAX_BYTES + 1))

    @given(st.binary(max_size=80), st.booleans())
    @settings(max_examples=150, deadline=None)
    def test_any_bytes(self, data: bytes, begun: bool) -> None:
        """Any bytes are refused by us."""
        with self.assertRaises(IceError):
            unpack_bytes(b"\x1f\x8b" * begun + data, "x")


class Passwords(SynchronousTestCase):
    def setUp(self) -> None:
        self.cost = packing._SCRYPT_N
        self.assertEqual(self.cost, 2**15)
        self.patch(packing, "_SCRYPT_N", 2)  # the vector below takes the true one

    def test_container(self) -> None:
        """0x01, salt, nonce, ciphertext, tag: a vector at the true cost, checked against its own parts."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

        self.patch(packing, "_SCRYPT_N", self.cost)
        data = pack_bytes("{}", "geheim", random_bytes=counting)
        self.assertEqual(data[:29].hex(), "01" + bytes(range(16)).hex() + bytes(range(12)).hex())
        key = Scrypt(salt=bytes(range(16)), length=32, n=32_768, r=8, p=1).derive(b"geheim")
        inside = AESGCM(key).decrypt(bytes(range(12)), data[29:], b"&*3$e1@E001")
        self.assertEqual(zlib.decompress(inside, 31), b"&*3$e1@E001{}")
        self.assertEqual(key.hex()[:16], "163153ecd9af1105")
        self.assertEqual(unpack_bytes(data, "x", "geheim"), "{}")

    def test_round_trip(self) -> None:
        """What is sealed opens with the same word, of any script, and two seals of one mission differ."""
        for word in ("geheim", "a", "пароль 秘密", " "):
            self.assertEqual(unpack(pack(JSON, word), "x", word), JSON)
        self.assertNotEqual(pack(JSON, "a"), pack(JSON, "a"))

    def test_without_the_word(self) -> None:
        """No word, or another one: each refused by its own name, and nothing of the word or the mission is repeated."""
        sealed = pack(JSON, "geheim")
        with self.assertRaises(PasswordNeeded):
            unpack(sealed, "x")
        with self.assertRaises(WrongPassword) as caught:
            unpack(sealed, "x", "falsch-falsch")
        self.assertNotIn("falsch-falsch", str(caught.exception))
        with self.assertRaises(LocalError):
            pack(JSON, "")
        with self.assertRaises(LocalError):
            pack(JSON, "\ud800")

    def test_every_byte_counts(self) -> None:
        """A sealed mission with any bit flipped, or cut anywhere, does not open."""
        sealed = pack_bytes("{}", "geheim")
        for index in range(1, len(sealed)):
            altered = bytearray(sealed)
            altered[index] ^= 1
            with self.assertRaises(WrongPassword):
                unpack_bytes(bytes(altered), "x", "geheim")
        for end in range(len(sealed)):
            with self.assertRaises(MissionError):
                unpack_bytes(sealed[:end], "x", "geheim")

    def test_a_password_that_is_not_needed(self) -> None:
        """A mission in clear opens whatever word is given."""
        self.assertEqual(unpack(pack(JSON), "x", "word"), JSON)


class Deflection(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """URL, /??, packed text: and back."""
        packed = pack(JSON)
        for url in ("https://ice.example/m", "https://ice.example/m/", "HTTP://x"):
            link = deflected(url, packed)
            self.assertEqual(link, url.rstrip("/") + "/??" + packed)
            self.assertEqual(unpack(link, "x"), JSON)

    def test_without_a_scheme(self) -> None:
        """A link that lost its scheme is read too."""
        self.assertEqual(unpack("ice.example/m/??" + pack(JSON), "x"), JSON)

    def test_escaped_on_the_way(self) -> None:
        """A program that wrote characters as %22 does no harm."""
        from urllib.parse import quote

        packed = pack(JSON)
        self.assertNotEqual(quote(packed, safe=""), packed)
        for safe in ("", "!$&'()*+,;=:@/?", "%"):
            self.assertEqual(unpack("https://x/??" + quote(packed, safe=safe), "x"), JSON, safe)

    def test_the_mark_inside_of_packed_text(self) -> None:
        """/?? is of the alphabet: packed text that happens to hold it is read as what it is."""
        for number in range(200_000):
            candidate = encode(zlib_of(number))
            if "/??" in candidate:
                break
        else:
            candidate = ""
        self.assertTrue(candidate)
        self.assertEqual(json.loads(unpack(candidate, "x"))["n"][:1], "n")

    def test_no_urls(self) -> None:
        """What a telephone would not open is refused."""
        for wrong in (
            "",
            "ice.example",
            "ftp://x",
            "https://x/?a=1",
            "https://x/#a",
            "https://x y",
            "https://é",
            "https://" + "x" * 3000,
        ):
            with self.assertRaises(LocalError):
                deflected(wrong, "A")


def zlib_of(number: int) -> bytes:
    """A packed mission with some incompressible text."""
    import hashlib

    noise = "n" + "".join(hashlib.sha256(f"{number}.{part}".encode()).hexdigest() for part in range(20))
    return pack_bytes(json.dumps({"n": noise}))
