"""Keys that somebody could guess.

A group's id is a public hash over its ``cryptoPassword``. Whoever sees the id, and the few other things that go into it, can try keys until the
hash fits: a key made of a word is found in the time it takes to try all words. What is tried here is what people do: text as hex, a
hash of a word or of the group's own name, a pattern.
"""

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from ice.mission.model import KEY_BYTES

_WORDS: Final = """
password passwort password1 passw0rd pass secret geheim key schluessel admin administrator root user test testing demo example
default changeme letmein welcome hello qwerty qwertz azerty abc abc123 abcdef 123 1234 12345 123456 1234567 12345678 123456789 1234567890
0 1 00000000 11111111 master monkey dragon football baseball shadow sunshine princess login iloveyou trustno1 starwars freedom
alpha bravo charlie delta echo foxtrot golf hotel india juliet juliett kilo lima mike november oscar papa quebec romeo sierra tango
uniform victor whiskey xray x-ray yankee zulu red green blue yellow black white orange gold silver fire police ems rescue command control
dispatch tactical tac tac1 tac2 ops operations security radio voice talk team mission group channel ice engage rally rallypoint
instantconnect instant connect encryption crypto bkm ptt push-to-talk over roger emergency mayday foo bar foobar
"""
_HASHES: Final = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "blake2s")
_FEW: Final = 10  # distinct bytes; of 32 random ones there are fewer than 20 once in a hundred million keys


def weakness(crypto_password: str, words: Iterable[str] = ()) -> str | None:
    """What is weak about a key, as the end of "it …"; None where nothing was found, which proves nothing.

    :param crypto_password: an even number of hex digits.
    :param words: what else to try: names of the group and the mission.
    """
    key = bytes.fromhex(crypto_password)
    if all(32 <= byte < 127 for byte in key):
        return "is text written as hex: a word is found by trying"
    period = _period(key)
    if period < len(key):
        return f"repeats after {period} byte{'' if period == 1 else 's'}"
    steps = {(after - before) % 256 for before, after in itertools.pairwise(key)}
    if len(key) > 2 and len(steps) == 1:
        return "counts up or down evenly"
    if len(key) >= KEY_BYTES and len(set(key)) < _FEW:
        return f"has only {len(set(key))} different bytes"
    if key in _common(len(key)) or key in _digests(words, len(key)):
        return "is a hash of a word that is easy to guess"
    if len(key) < KEY_BYTES // 2:
        return (
            f"has only {len(key)} bytes: all of them could be tried"
            if len(key) < 8
            else f"has only {len(key)} bytes"
        )
    return None


def _period(key: bytes) -> int:
    """The shortest length after which the bytes repeat, or all of them."""
    for length in range(1, len(key) // 2 + 1):
        if key[length:] == key[:-length]:
            return length
    return len(key)


@functools.lru_cache(maxsize=8)  # lengths of keys; there is hardly more than one
def _common(length: int) -> frozenset[bytes]:
    return _digests(_WORDS.split(), length)


def _digests(words: Iterable[str], length: int) -> frozenset[bytes]:
    """The hashes of words, cut to a length; those that are shorter, followed by zeros."""
    return frozenset(
        hashlib.new(name, word.encode("utf-8", "replace"), usedforsecurity=False)
        .digest()[:length]
        .ljust(length, b"\0")
        for word in _variants(words)
        for name in _HASHES
    )


def _variants(words: Iterable[str]) -> Iterator[str]:
    yield ""
    for word in words:
        for form in {word, word.lower(), word.upper(), word.capitalize(), word.replace(" ", "")}:
            yield form
            yield f"{form}\n"  # echo word | sha256sum
            yield f"{form}1"
            yield f"{form}123"
            yield f"{form}!"
