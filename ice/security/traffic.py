"""Traffic encryption: what is said in a group, sealed for its members; Rallypoints and networks between them carry noise.

**The key.**  Members share a ``cryptoPassword``, hexadecimal baseline key material.  The *traffic key* is PBKDF2-HMAC-SHA-256 of
its bytes with the site's 16-byte salt, 15,000 iterations, 32 bytes.

**aes-256-gcm** (ours, authenticated; what missions that we make use)::

    start id 8 (u32 Unix time of the sender's start ‖ 4 random) ‖ counter 6 ‖ ciphertext ‖ tag 16

Big-endian.  Each start id has a key of its own: HKDF-SHA-256 (RFC 5869, no salt) of the traffic key, info ``ice gcm 1`` ‖ start
id, 32 bytes; the nonce is the counter in 12 bytes, the additional data the 8-byte key of the stream
(:func:`ice.link.naming.stream_key`).  So two senders, or two starts, never share a nonce, and a packet is worth nothing on another
stream.  A sender takes a new start id at the first burst after 12 h, whenever its wall clock stands before the start, in a
forked process, and when the counter is used up.

**aes-256-cbc** (the original's)::

    random IV 16 ‖ AES-256-CBC of the whole payload, padded by 1 to 16 bytes that each hold their number

There is no MAC.  Tampering and a wrong key cannot be detected, only suspected: what does not decrypt to a plausible packet is refused.
Nor can a replay be told from the first playing.

**What an attacker can make a listener do.**  A packet whose tag is wrong costs one key derivation and one decryption at most
and leaves nothing behind: what is remembered (ciphers of start ids, windows of counters) is remembered after the tag was verified.

**One context for many packets (CBC).**  Making an OpenSSL context costs twenty times what the encryption of a packet does, so one runs
on for all packets: a fresh random block R is sent through before the payload.  Its ciphertext, AES(R ⊕ last block), is as
random as R, and it is what the payload is chained to: exactly the IV (NIST SP 800-38A, appendix C, makes IVs in this way).  On the
way back the block before the payload, the IV, is decrypted to nothing of interest and thrown away.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as OpenSslCipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ice.errors import LocalError
from ice.link.naming import stream_key
from ice.security.replay import AHEAD_S, Refused, Starts

__all__ = [
    "DEFAULT_SALT",
    "Cipher",
    "Opener",
    "Refused",
    "Sealer",
    "TrafficKey",
    "derive",
    "new_key_hex",
    "plausible_packet",
    "sealed_bytes",
]

SALT_BYTES: Final = 16
ITERATIONS: Final = 15_000
KEY_BYTES: Final = 32
MAX_PASSWORD_BYTES: Final = 1_024  # the specification says 32; more than this is a mistake
#: Where a site sets no salt of its own.
DEFAULT_SALT: Final = hashlib.sha256(b"ice traffic salt 1").digest()[:SALT_BYTES]

START_BYTES: Final = 8
COUNTER_BYTES: Final = 6
HEAD_BYTES: Final = START_BYTES + COUNTER_BYTES
TAG_BYTES: Final = 16
BLOCK: Final = 16
MAX_SEALED: Final = 65_535  # no datagram is longer
MAX_COUNTER: Final = (1 << 48) - 1

RENEW_S: Final = (
    12 * 3_600.0
)  # a new start at the first burst after this: half of what an unheard start may be old
RENEW_AT_ONCE_S: Final = (
    18 * 3_600.0
)  # and in the midst of a burst after this: who joins now must still admit it
PAUSE_S: Final = 1.0  # what comes after a silence like this begins a burst, marked or not
MAX_CIPHERS: Final = (
    1_024  # start ids whose ciphers are kept ready, some 2 KiB each; others are derived again
)

_INFO: Final = b"ice gcm 1"
_NONCE_BEGIN: Final = bytes(12 - COUNTER_BYTES)
_U32: Final = 0xFFFF_FFFF
_PADDING: Final = tuple(bytes([count]) * count for count in range(BLOCK + 1))
_TRIES: Final = (
    8  # draws of a start id that must differ from the last ones; a second draw is never needed in practice
)
_REMEMBERED_STARTS: Final = 64


#: Reasons that leave open what the packet is.
_UNKNOWN: Final = frozenset(
    {Refused.TOO_SHORT, Refused.LENGTH, Refused.TAG, Refused.PADDING, Refused.IMPLAUSIBLE}
)


class Cipher(StrEnum):
    """How a group is sealed, as the group's key ``cipher`` names it."""

    CBC = "aes-256-cbc"
    GCM = "aes-256-gcm"


def sealed_bytes(cipher: Cipher, payload_bytes: int) -> int:
    """How long a payload of so many bytes is once sealed."""
    if cipher is Cipher.GCM:
        return HEAD_BYTES + payload_bytes + TAG_BYTES
    return BLOCK + (payload_bytes // BLOCK + 1) * BLOCK


class TrafficKey:
    """A derived key of 32 bytes that shows itself to nobody: not in ``repr``, nor in a pickle."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise LocalError(f"a traffic key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = bytes(key)

    def __repr__(self) -> str:
        return "<traffic key>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TrafficKey):
            return NotImplemented
        return hmac.compare_digest(self._key, other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a traffic key is not written anywhere")

    def of_start(self, start: bytes) -> AESGCM:
        """The AES-256-GCM cipher of one start id."""
        derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_INFO + start).derive(self._key)
        return AESGCM(derived)

    def chained(self) -> OpenSslCipher[CBC]:
        """AES-256-CBC; the first block that goes through stands for the IV (see the module)."""
        return OpenSslCipher(AES(self._key), CBC(bytes(BLOCK)))


def derive(crypto_password_hex: str, salt: bytes = DEFAULT_SALT) -> TrafficKey:
    """The traffic key of a ``cryptoPassword``, some 5 ms of work the first time; the case of its digits does not matter.

    Raises :class:`LocalError`, without the value, for what is no hexadecimal of 1 to 1,024 bytes, and for a salt that has not 16.
    """
    if len(salt) != SALT_BYTES:
        raise LocalError(f"the salt of traffic keys has {SALT_BYTES} bytes, not {len(salt)}")
    text = crypto_password_hex
    if not text:
        raise LocalError("cryptoPassword is empty: leave it out where a group is not encrypted")
    try:
        material = bytes.fromhex(text) if text.isascii() and text.isalnum() else b""
    except ValueError:
        material = b""
    if not 1 <= len(material) <= MAX_PASSWORD_BYTES:
        raise LocalError(
            f"cryptoPassword must be hexadecimal, 64 digits for 32 bytes; found {len(text)} characters that are not: "
            "make one with `ice mission rekey`, or copy it again from where the group was made"
        )
    return _derived(material, bytes(salt))


@functools.lru_cache(maxsize=1_024)
def _derived(material: bytes, salt: bytes) -> TrafficKey:
    return TrafficKey(hashlib.pbkdf2_hmac("sha256", material, salt, ITERATIONS, KEY_BYTES))


def new_key_hex(random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """A new ``cryptoPassword``: 32 random bytes in hexadecimal."""
    return random_bytes(KEY_BYTES).hex()


def plausible_packet(payload: bytes) -> bool:
    """Whether this may be what groups carry: an RTP packet whose header fits, or a text that begins as JSON or XML does.

    Up to one in ten random payloads passes as RTP; behind the padding of CBC, one in some four thousand under a wrong key.
    """
    size = len(payload)
    if size >= 12 and payload[0] >> 6 == 2:
        first = payload[0]
        header = 12 + 4 * (first & 0x0F)
        if first & 0x10:
            if header + 4 > size:
                return False
            header += 4 + 4 * int.from_bytes(payload[header + 2 : header + 4], "big")
        padding = payload[-1] if first & 0x20 else 0
        return header + padding <= size and (padding > 0 or not first & 0x20)
    text = payload.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] not in (b"{", b"[", b"<"):
        return False
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


_forks = 0  # how often this process is the child of a fork: a sealer must not go on where its twin does


def _forked() -> None:
    global _forks  # noqa: PLW0603
    _forks += 1


os.register_at_fork(after_in_child=_forked)


class Sealer:
    """Seals what one sender says on one stream.

    ``stream_id`` is the group's id without braces in lower case, as the stream is joined.  Of ``random_bytes`` 4 bytes are drawn per
    start (GCM) or 16 per packet (CBC).  Not for use from two threads at once.
    """

    def __init__(
        self,
        key: TrafficKey,
        cipher: Cipher,
        stream_id: str,
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.cipher = cipher
        self._key = key
        self._random_bytes = random_bytes
        self._chain = key.chained().encryptor()
        self._stream = stream_key(stream_id).to_bytes(8, "big")
        self._aead: AESGCM | None = None
        self._start = b""
        self._began = 0
        self._counter = 0
        self._sealed_at = 0.0
        self._forks = -1
        self._used: OrderedDict[bytes, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<sealer, {self.cipher}>"

    def seal(self, payload: bytes, unix_s: float, *, first: bool = False) -> bytes:
        """The payload, sealed at ``unix_s``; ``first``: a burst begins with it.

        Raises :class:`LocalError` for what would be longer than a datagram.
        """
        if sealed_bytes(self.cipher, len(payload)) > MAX_SEALED:
            raise LocalError(
                f"a payload of {len(payload)} bytes does not fit in a datagram once it is sealed"
            )
        if self.cipher is Cipher.CBC:
            padding = _PADDING[BLOCK - len(payload) % BLOCK]
            return self._chain.update(b"".join((self._random_bytes(BLOCK), payload, padding)))
        aead = self._aead
        if aead is None or self._is_over(unix_s, first):
            aead = self._begin(unix_s)
        self._sealed_at = unix_s
        counter = self._counter.to_bytes(COUNTER_BYTES, "big")
        self._counter += 1
        return self._start + counter + aead.encrypt(_NONCE_BEGIN + counter, payload, self._stream)

    def _is_over(self, unix_s: float, first: bool) -> bool:
        age = unix_s - self._began
        if age < 0 or self._counter > MAX_COUNTER or self._forks != _forks or age >= RENEW_AT_ONCE_S:
            return True
        return age >= RENEW_S and (first or unix_s - self._sealed_at >= PAUSE_S)

    def _begin(self, unix_s: float) -> AESGCM:
        """A new start id, never one of our last ones."""
        began = min(max(int(unix_s), 0), _U32)
        for _ in range(_TRIES):
            start = began.to_bytes(4, "big") + self._random_bytes(START_BYTES - 4)
            if start not in self._used:
                break
        else:
            raise LocalError("the source of random numbers repeats itself; nothing can be sealed with it")
        self._used[start] = None
        if len(self._used) > _REMEMBERED_STARTS:
            self._used.popitem(last=False)
        self._start, self._began, self._counter, self._forks = start, began, 0, _forks
        self._aead = self._key.of_start(start)
        return self._aead


class Opener:
    """Opens what others say on one stream, and counts what it refuses.

    ``plausible`` says whether a clear payload may be what the group carries: under CBC it is all there is to tell a wrong key.  For a
    group of raw data, of which nothing is known, ``lambda payload: True`` is the honest answer.  ``accept_recordings`` and
    ``clock_ahead_s``: see :class:`~ice.security.replay.Starts`.  Not for use from two threads at once.
    """

    def __init__(
        self,
        key: TrafficKey,
        cipher: Cipher,
        stream_id: str,
        *,
        plausible: Callable[[bytes], bool] = plausible_packet,
        accept_recordings: bool = False,
        clock_ahead_s: float = AHEAD_S,
    ) -> None:
        self.cipher = cipher
        #: Packets opened.
        self.opened = 0
        #: Packets refused, by reason.
        self.refused: Counter[Refused] = Counter()
        self.starts = Starts(accept_recordings=accept_recordings, clock_ahead_s=clock_ahead_s)
        self._key = key
        self._plausible = plausible
        self._chain = key.chained().decryptor()
        self._stream = stream_key(stream_id).to_bytes(8, "big")
        self._aeads: OrderedDict[bytes, AESGCM] = OrderedDict()  # of verified start ids, the latest last

    def __repr__(self) -> str:
        return f"<opener, {self.cipher}>"

    @property
    def authenticated(self) -> bool:
        """Whether what is opened is known to come, unchanged, from somebody with the key."""
        return self.cipher is Cipher.GCM

    def open(self, sealed: bytes, unix_s: float) -> bytes | Refused:
        """The payload, or why there is none; either is counted."""
        result = self.attempt(sealed, unix_s)
        if isinstance(result, Refused):
            result = self.explain(sealed, result)
            self.refused[result] += 1
        else:
            self.opened += 1
        return result

    def attempt(self, sealed: bytes, unix_s: float) -> bytes | Refused:
        """As :meth:`open`, without counting, and without asking further why."""
        if self.cipher is Cipher.GCM:
            return self._open_gcm(sealed, unix_s)
        payload = self._open_cbc(sealed)
        if not isinstance(payload, Refused) and not self._plausible(payload):
            return Refused.IMPLAUSIBLE
        return payload

    def explain(self, sealed: bytes, reason: Refused) -> Refused:
        """A better word than ``reason`` where one decryption can tell: the packet is sealed with the other cipher, or clear."""
        if reason not in _UNKNOWN:
            return reason
        other = Cipher.CBC if self.cipher is Cipher.GCM else Cipher.GCM
        if self.fits(sealed, other):
            return Refused.MISMATCH
        # Under CBC whole blocks may be anything: too many packets under a wrong key begin as RTP does.
        tells = self.cipher is Cipher.GCM or reason in (Refused.TOO_SHORT, Refused.LENGTH)
        return Refused.CLEAR if tells and plausible_packet(sealed) else reason

    def fits(self, sealed: bytes, cipher: Cipher) -> bool:
        """Whether the packet was sealed with our key and ``cipher``, fresh or not; under CBC only whether it looks so."""
        if cipher is Cipher.GCM:
            return HEAD_BYTES + TAG_BYTES <= len(sealed) <= MAX_SEALED and self._authentic(sealed) is not None
        payload = self._open_cbc(sealed)
        return not isinstance(payload, Refused) and plausible_packet(payload)

    def _open_gcm(self, sealed: bytes, unix_s: float) -> bytes | Refused:
        if len(sealed) < HEAD_BYTES + TAG_BYTES:
            return Refused.TOO_SHORT
        if len(sealed) > MAX_SEALED:
            return Refused.LENGTH
        payload = self._authentic(sealed)
        if payload is None:
            return Refused.TAG
        start, counter = sealed[:START_BYTES], int.from_bytes(sealed[START_BYTES:HEAD_BYTES], "big")
        refused = self.starts.ask(start, counter, unix_s)
        return payload if refused is None else refused

    def _authentic(self, sealed: bytes) -> bytes | None:
        """What is under the tag, or None where it is wrong; the cipher is kept once a tag was right."""
        start = sealed[:START_BYTES]
        aead = self._aeads.get(start)
        known = aead is not None
        if aead is None:
            aead = self._key.of_start(start)
        try:
            payload = aead.decrypt(
                _NONCE_BEGIN + sealed[START_BYTES:HEAD_BYTES], sealed[HEAD_BYTES:], self._stream
            )
        except InvalidTag:
            return None
        if known:
            self._aeads.move_to_end(start)
        else:
            self._aeads[start] = aead
            if len(self._aeads) > MAX_CIPHERS:
                self._aeads.popitem(last=False)
        return payload

    def _open_cbc(self, sealed: bytes) -> bytes | Refused:
        size = len(sealed)
        if size < 2 * BLOCK:
            return Refused.TOO_SHORT
        if size % BLOCK or size > MAX_SEALED:
            return Refused.LENGTH
        padded = self._chain.update(sealed)
        count = padded[-1]
        if not 1 <= count <= BLOCK or padded[-count:] != _PADDING[count]:
            return Refused.PADDING
        return padded[BLOCK:-count]
