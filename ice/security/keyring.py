"""Which key seals now, and which may open now: the keys of one group over time.

A group has one key, and sometimes the next one.  From the moment the next is known, both open.  Until ``at`` the old one seals, from
then on the new one; the old one opens until ``at`` + overlap, for those whose clock is late or who have not heard of the change.
After that, what is sealed with the old key is refused by that name (``old-key``), so that a person can see who has missed it.

Time is an argument, Unix seconds.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

import attrs

from ice.errors import LocalError
from ice.security.replay import AHEAD_S
from ice.security.traffic import (
    DEFAULT_SALT,
    Cipher,
    Opener,
    Refused,
    Sealer,
    TrafficKey,
    derive,
    plausible_packet,
)

_WRONG_KEY: Final = frozenset({Refused.TAG, Refused.PADDING, Refused.IMPLAUSIBLE})


class NextKey(Protocol):
    """What a mission says of a group's next key (:class:`ice.mission.model.Rekey`)."""

    @property
    def crypto_password(self) -> str:
        """The next ``cryptoPassword``, hexadecimal."""

    @property
    def at(self) -> datetime:
        """When it takes over, with its time zone."""

    @property
    def overlap_s(self) -> float:
        """How long the old key opens after that."""


@attrs.frozen
class Change:
    """A change of keys: the next key, when it takes over (Unix seconds), and how long the old one opens after that."""

    key: TrafficKey
    at_s: float
    overlap_s: float = attrs.field(validator=attrs.validators.ge(0))


@attrs.frozen
class Keyring:
    """The keys of one group: the one it has, and the change that is coming or was."""

    cipher: Cipher
    key: TrafficKey
    change: Change | None = None

    @classmethod
    def of(
        cls, crypto_password: str, cipher: str, *, salt: bytes = DEFAULT_SALT, rekey: NextKey | None = None
    ) -> Keyring:
        """The keyring of a group as its mission describes it.

        Raises :class:`LocalError` for a cipher that we do not know, a key that is no hexadecimal, a time without a zone.
        """
        try:
            known = Cipher(cipher)
        except ValueError:
            raise LocalError(f"cipher {cipher[:40]!r} is none of {', '.join(Cipher)}") from None
        change = None
        if rekey is not None:
            if rekey.at.tzinfo is None:
                raise LocalError("a change of keys needs a time with its zone, like 2026-01-31T06:00:00Z")
            change = Change(derive(rekey.crypto_password, salt), rekey.at.timestamp(), rekey.overlap_s)
        return cls(known, derive(crypto_password, salt), change)

    def sealing(self, unix_s: float) -> TrafficKey:
        """The key that seals at ``unix_s``."""
        change = self.change
        return change.key if change is not None and unix_s >= change.at_s else self.key

    def opening(self, unix_s: float) -> tuple[TrafficKey, ...]:
        """The keys that may open at ``unix_s``, the likelier first."""
        change = self.change
        if change is None:
            return (self.key,)
        if unix_s < change.at_s:
            return (self.key, change.key)
        if unix_s <= change.at_s + change.overlap_s:
            return (change.key, self.key)
        return (change.key,)

    def expired(self, unix_s: float) -> TrafficKey | None:
        """The key that opened once and does no longer at ``unix_s``."""
        change = self.change
        return self.key if change is not None and unix_s > change.at_s + change.overlap_s else None


class KeyringSealer:
    """Seals what one sender says on one stream, always with the key of the hour."""

    def __init__(
        self, keyring: Keyring, stream_id: str, *, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._keyring = keyring
        self._stream_id = stream_id
        self._random_bytes = random_bytes
        self._key = keyring.key
        self._sealer: Sealer | None = None

    @property
    def keyring(self) -> Keyring:
        """The keys in use; where another ring is set, a sender's start goes on under a key that stays."""
        return self._keyring

    @keyring.setter
    def keyring(self, keyring: Keyring) -> None:
        if keyring.cipher is not self._keyring.cipher:
            self._sealer = None
        self._keyring = keyring

    def seal(self, payload: bytes, unix_s: float, *, first: bool = False) -> bytes:
        """See :meth:`ice.security.traffic.Sealer.seal`."""
        key = self._keyring.sealing(unix_s)
        sealer = self._sealer
        if sealer is None or (key is not self._key and key != self._key):
            sealer = self._sealer = Sealer(
                key, self._keyring.cipher, self._stream_id, random_bytes=self._random_bytes
            )
            self._key = key
        return sealer.seal(payload, unix_s, first=first)


class KeyringOpener:
    """Opens what others say on one stream with whichever key of the ring may, and counts once per packet."""

    def __init__(
        self,
        keyring: Keyring,
        stream_id: str,
        *,
        plausible: Callable[[bytes], bool] = plausible_packet,
        accept_recordings: bool = False,
        clock_ahead_s: float = AHEAD_S,
    ) -> None:
        #: Packets opened.
        self.opened = 0
        #: Packets refused, by reason.
        self.refused: Counter[Refused] = Counter()
        self._keyring = keyring
        self._stream_id = stream_id
        self._plausible = plausible
        self._accept_recordings = accept_recordings
        self._clock_ahead_s = clock_ahead_s
        self._openers: dict[TrafficKey, Opener] = {}

    @property
    def keyring(self) -> Keyring:
        """The keys in use; where another ring is set, what was heard stays heard under a key that stays."""
        return self._keyring

    @keyring.setter
    def keyring(self, keyring: Keyring) -> None:
        stay = {keyring.key} if keyring.change is None else {keyring.key, keyring.change.key}
        same = keyring.cipher is self._keyring.cipher
        self._openers = {key: opener for key, opener in self._openers.items() if same and key in stay}
        self._keyring = keyring

    @property
    def authenticated(self) -> bool:
        """Whether what is opened is known to come, unchanged, from somebody with the key."""
        return self._keyring.cipher is Cipher.GCM

    def open(self, sealed: bytes, unix_s: float) -> bytes | Refused:
        """See :meth:`ice.security.traffic.Opener.open`."""
        keys = self._keyring.opening(unix_s)
        reason = Refused.TAG
        for key in keys:
            result = self._opener(key).attempt(sealed, unix_s)
            if not isinstance(result, Refused):
                self.opened += 1
                return result
            reason = result
            if reason not in _WRONG_KEY:
                break
        reason = self._explain(sealed, reason, keys, unix_s)
        self.refused[reason] += 1
        return reason

    def _explain(
        self, sealed: bytes, reason: Refused, keys: tuple[TrafficKey, ...], unix_s: float
    ) -> Refused:
        """A better word where one can be had."""
        expired = self._keyring.expired(unix_s)
        if expired is not None and reason in _WRONG_KEY:
            if self._opener(expired).fits(sealed, self._keyring.cipher):
                return Refused.OLD_KEY
            keys = (*keys, expired)
        words = [self._opener(key).explain(sealed, reason) for key in keys]
        if Refused.MISMATCH in words:  # proven, or nearly; "clear" only looks so
            return Refused.MISMATCH
        return words[0]

    def _opener(self, key: TrafficKey) -> Opener:
        opener = self._openers.get(key)
        if opener is None:
            opener = self._openers[key] = Opener(
                key,
                self._keyring.cipher,
                self._stream_id,
                plausible=self._plausible,
                accept_recordings=self._accept_recordings,
                clock_ahead_s=self._clock_ahead_s,
            )
        return opener
