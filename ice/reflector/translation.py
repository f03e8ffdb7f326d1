"""What a rule changes in the datagrams of a device that needs it: explicit, each by its own key, and by default nothing.

``radio`` is what is on the local network, ``stream`` what is on the Rallypoints::

    radio --payload type--> --transcode--> --seal-->  stream
    radio <--payload type-- <--transcode-- <--strip-- <--open--  stream

* **payload types**: numbers that mean the same, another on each side.
* **header extensions** are taken out towards the radio: some devices take them for sound.
* **a key**: the radio speaks in clear, and the stream is sealed (:mod:`ice.security.traffic`); what cannot be opened is not sent to the radio.
* **transcoding** (:mod:`ice.reflector.transcoding`): packet by packet, every talker by himself; numbers stay.

What is no RTP (RTCP, data) is sealed and opened, and else left as it is.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ice.media.rtp import EXTENSION_HEADER, HEADER, is_rtp
from ice.security.keyring import Keyring, KeyringOpener, KeyringSealer
from ice.security.traffic import Refused

_WORD: Final = 4


class Transcoder(Protocol):
    """One direction's codec change."""

    def packet(self, data: bytes, now: float) -> bytes | str:
        """The same packet in the other codec, or why not, in a word."""


class Translation:
    """The changes of one rule.  Both ways give a datagram, or why there is none, in a word for a counter."""

    def __init__(
        self,
        stream_id: str,
        *,
        payload_types: Mapping[int, int] | None = None,
        strip: bool = False,
        keyring: Keyring | None = None,
        to_stream: Transcoder | None = None,
        to_radio: Transcoder | None = None,
        sealer: Callable[[Keyring, str], KeyringSealer] = KeyringSealer,
        opener: Callable[[Keyring, str], KeyringOpener] = KeyringOpener,
    ) -> None:
        """``payload_types``: the radio's number to the stream's."""
        self._in = dict(payload_types or {})
        self._out = {stream: radio for radio, stream in self._in.items()}
        self._strip = strip
        self._to_stream = to_stream
        self._to_radio = to_radio
        self.keyring = keyring
        self._sealer = None if keyring is None else sealer(keyring, stream_id)
        self._opener = None if keyring is None else opener(keyring, stream_id)

    @property
    def sealed(self) -> bool:
        """Whether the stream is sealed and the radio's network is not."""
        return self._sealer is not None

    def inward(self, data: bytes, unix_s: float) -> bytes | str:
        """A datagram of the radio as it is to be on the stream."""
        if is_rtp(data):
            if self._in:
                data = _retyped(data, self._in)
            if self._to_stream is not None:
                changed = self._to_stream.packet(data, unix_s)
                if isinstance(changed, str):
                    return changed
                data = changed
        if self._sealer is not None:
            data = self._sealer.seal(data, unix_s, first=len(data) > 1 and data[1] >= 0x80)
        return data

    def outward(self, payload: bytes, unix_s: float) -> bytes | str:
        """A datagram of the stream as it is to be on the radio's network."""
        data = payload
        if self._opener is not None:
            opened = self._opener.open(data, unix_s)
            if isinstance(opened, Refused):
                return f"sealed-{opened}"
            data = opened
        if is_rtp(data):
            if self._strip and data[0] & 0x10:
                data = stripped(data)
            if self._to_radio is not None:
                changed = self._to_radio.packet(data, unix_s)
                if isinstance(changed, str):
                    return changed
                data = changed
            if self._out:
                data = _retyped(data, self._out)
        return data


def stripped(data: bytes) -> bytes:
    """An RTP packet without its header extension; what is malformed stays as it is."""
    begin = HEADER.size + _WORD * (data[0] & 0x0F)
    try:
        _, words = EXTENSION_HEADER.unpack_from(data, begin)
    except struct.error:
        return data
    end = begin + EXTENSION_HEADER.size + _WORD * words
    if end > len(data):
        return data
    return bytes((data[0] & ~0x10,)) + data[1:begin] + data[end:]


def _retyped(data: bytes, types: Mapping[int, int]) -> bytes:
    second = data[1]
    new = types.get(second & 0x7F)
    if new is None:
        return data
    return data[:1] + bytes((second & 0x80 | new,)) + data[2:]
