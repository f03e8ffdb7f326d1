"""The keys of the streams in a patch: what is heard is opened, what is passed on is sealed anew.

A :class:`Lock` belongs to one stream. It is *clear* (bytes are as they are: the group has no key, or a
:class:`~ice.streams.sealed.SealedNetwork` below opens and seals already), *keyed*, or *shut*: the group is known to be encrypted and
its key is not here. A shut stream is neither heard nor spoken to, ever: nothing that others say under a key goes out in clear because
a file was missing.

**The same bytes.** What is opened with a key is sealed anew for another stream, with one exception: two CBC streams of equal
keys, where the ciphertext is bound to nothing and is passed on as it came. Under GCM each packet is bound to its stream.

:class:`Locks` keeps the locks of a process: what was heard stays heard while a patch is off, so switching it on opens no door to replays.
"""

from __future__ import annotations

from typing import Final

from ice.security.keyring import Keyring, KeyringOpener, KeyringSealer
from ice.security.traffic import Cipher, Refused

MAX_KEPT: Final = 1_024  # locks of streams that are in no active patch
NO_KEY: Final = "no-key"


class Lock:
    """One stream's lock. Raises what :class:`~ice.security.traffic.Sealer` raises."""

    def __init__(self, stream_id: str, keyring: Keyring | None = None, *, shut: bool = False) -> None:
        self.stream_id = stream_id
        self.shut = shut and keyring is None
        self._sealer = KeyringSealer(keyring, stream_id) if keyring is not None else None
        self._opener = KeyringOpener(keyring, stream_id) if keyring is not None else None

    def __repr__(self) -> str:
        return f"<lock of {self.stream_id!r}: {self.words}>"

    @property
    def keyring(self) -> Keyring | None:
        """The keys in use."""
        return None if self._opener is None else self._opener.keyring

    @property
    def clear(self) -> bool:
        """Whether bytes pass as they are."""
        return self._opener is None and not self.shut

    @property
    def words(self) -> str:
        """In a few words, for people."""
        if self.shut:
            return "encrypted, and its key is not here"
        keyring = self.keyring
        if keyring is None:
            return "not encrypted"
        return f"{keyring.cipher}, {'authenticated' if keyring.cipher is Cipher.GCM else 'unauthenticated'}"

    @property
    def refused(self) -> dict[str, int]:
        """Packets that were not opened, by reason."""
        return {} if self._opener is None else {str(reason): n for reason, n in self._opener.refused.items()}

    def open(self, payload: bytes, unix_s: float) -> bytes | str:
        """The clear payload, or the reason why there is none."""
        opener = self._opener
        if opener is None:
            return NO_KEY if self.shut else payload
        opened = opener.open(payload, unix_s)
        return str(opened) if isinstance(opened, Refused) else opened

    def seal(self, payload: bytes, unix_s: float, *, first: bool = False) -> bytes:
        """The payload as it goes out; ``first``: a burst begins with it."""
        sealer = self._sealer
        return payload if sealer is None else sealer.seal(payload, unix_s, first=first)

    def passes_as_is(self, other: Lock) -> bool:
        """Whether what came under ``other`` may go out here byte for byte."""
        if self.clear or other.clear:
            return self.clear and other.clear
        keyring = self.keyring
        return keyring is not None and keyring.cipher is Cipher.CBC and keyring == other.keyring

    def renew(self, keyring: Keyring) -> None:
        """Use another keyring from now on; under a key that stays nothing that was heard is forgotten."""
        assert self._sealer is not None
        assert self._opener is not None
        self._sealer.keyring = keyring
        self._opener.keyring = keyring


class Locks:
    """The locks of one process, by stream."""

    def __init__(self) -> None:
        self._locks: dict[str, Lock] = {}

    def of(self, stream_id: str, keyring: Keyring | None = None, *, shut: bool = False) -> Lock:
        """The lock of a stream with these keys: the one that it had, where that is possible."""
        lock = self._locks.pop(stream_id, None)
        if (
            lock is None
            or (lock.keyring is None) is not (keyring is None)
            or (keyring is None and lock.shut is not shut)
        ):
            lock = Lock(stream_id, keyring, shut=shut)
        elif keyring is not None and keyring != lock.keyring:
            lock.renew(keyring)
        self._locks[stream_id] = lock
        if len(self._locks) > MAX_KEPT:
            del self._locks[next(iter(self._locks))]  # the one that was asked for longest ago
        return lock
