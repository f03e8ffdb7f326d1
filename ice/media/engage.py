"""Engage's encoder ids: what each number in a mission's ``txAudio.encoder`` stands for, and how it is carried here.

A row names the codec properly, with its bit rate, its RTP payload type in Engage and in three families of radios, and says which row of
:mod:`ice.media.table` carries it: *native* needs nothing but libopus, *library* needs a library that is looked for when it is first used,
*heard only* is decoded and not encoded, *unsupported* has no free and maintained implementation; then :attr:`EngageCodec.why` says so.

Engage gives no payload type for G.729, linear PCM and CVSD. G.729 has the one of RFC 3551; linear PCM is ours (48 kHz, 96), since neither
rate nor type of Engage's is published. G.722 has no id: it is reached by its name, or by its payload type 9.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from ice.errors import LocalError
from ice.media.payload import FRAMINGS_MS
from ice.media.table import CODECS, HEARD_ONLY, NATIVE, Codec

DEFAULT_ENCODER: Final = 21  # Opus at 8 kbit/s: what a mission without the key means
DEFAULT_FRAMING_MS: Final = 60
RADIOS: Final = ("tsm", "mpu", "silvus")  # families of radios whose payload types are known


class Carried(enum.StrEnum):
    """How an encoder id is carried here."""

    NATIVE = "native"
    LIBRARY = "library"
    HEARD_ONLY = "heard only"
    UNSUPPORTED = "unsupported"


@attrs.frozen
class EngageCodec:
    """One encoder id. ``bitrate`` in bit/s, 0 where it has no fixed one; ``payload_type`` in Engage, ``radios`` those that differ or are known.

    ``codec`` is the name of the row of :data:`ice.media.table.CODECS` that carries it, ``""`` where none does; ``symbol`` the name that
    some missions have instead of the number, ``""`` where none is known.
    """

    id: int
    symbol: str
    name: str
    bitrate: int
    payload_type: int | None
    codec: str = ""
    radios: Mapping[str, int] = MappingProxyType({})
    why: str = ""

    @property
    def carried(self) -> Carried:
        """How we carry it."""
        if not self.codec:
            return Carried.UNSUPPORTED
        family = CODECS[self.codec].family
        if family in HEARD_ONLY:
            return Carried.HEARD_ONLY
        return Carried.NATIVE if family in NATIVE else Carried.LIBRARY

    @property
    def row(self) -> Codec:
        """The row that carries it; raises :class:`~ice.errors.LocalError` with the codec's name and the reason where none does."""
        if not self.codec:
            raise LocalError(f"encoder {self.id} is {self.name}, which we cannot carry: {self.why}")
        return CODECS[self.codec]

    def framing_ms(self, wished_ms: int = DEFAULT_FRAMING_MS, block_count: int = 0) -> int:
        """The framing that comes nearest to a mission's wish, longer before shorter, and holds whole frames.

        ``block_count`` above 0 counts frames of the codec instead. Raises :class:`~ice.errors.LocalError` where we cannot carry the codec.
        """
        row = self.row
        if block_count > 0:
            wished_ms = block_count * row.frame_ms
        longer = [each for each in row.framings_ms if each >= wished_ms]
        return longer[0] if longer else row.framings_ms[-1]

    def octets(self, framing_ms: int) -> int:
        """Bytes of codec data in a packet by the bit rate alone, rounded up; 0 where the rate is not fixed."""
        return -(-self.bitrate * framing_ms // 8_000)


def _rows() -> list[EngageCodec]:
    none_sent = "it is built into an application, and every application has its own"
    rows = [
        EngageCodec(-1, "ctExternal", "an external codec", 0, None, why=none_sent),
        EngageCodec(0, "ctUnknown", "an unknown codec", 0, None, why="no encoder was chosen"),
        EngageCodec(1, "ctG711ulaw", "G.711 µ-law", 64_000, 0, "pcmu", _same(0)),
        EngageCodec(2, "ctG711alaw", "G.711 A-law", 64_000, 8, "pcma", _same(8)),
        EngageCodec(3, "ctGsm610", "GSM 06.10 full rate", 13_200, 3, "gsm"),
        EngageCodec(4, "ctG729a", "G.729A", 8_000, None, "g729"),
        EngageCodec(5, "ctPcm", "linear PCM", 0, None, "l16"),
    ]
    for index, bitrate in enumerate(CODECS["amr-nb"].bitrates):
        radios = _only(tsm=122) if bitrate == 5_900 else _only()
        rows.append(
            EngageCodec(
                10 + index, f"ctAmrNb{bitrate}", f"AMR-NB {bitrate / 1000:g}", bitrate, 122, "amr-nb", radios
            )
        )
    for index, bitrate in enumerate((6_000, 8_000, *range(10_000, 26_000, 2_000))):
        radios = _only(mpu=118, silvus=118) if bitrate == 16_000 else _only(silvus=118)
        rows.append(
            EngageCodec(
                20 + index, f"ctOpus{bitrate}", f"Opus {bitrate // 1000}", bitrate, 118, "opus", radios
            )
        )
    for index, bitrate in enumerate(CODECS["speex"].bitrates):
        name = f"Speex narrow band {bitrate / 1000:g}"
        rows.append(EngageCodec(30 + index, f"ctSpxNb{bitrate}", name, bitrate, 97, "speex"))
    for index, bitrate in enumerate((450, 700, 1_200, 1_300, 1_400, 1_600, 2_400, 3_200)):
        row = CODECS[f"codec2-{bitrate}"]
        name = f"Codec 2 {bitrate}{'C' if bitrate == 700 else ''}"
        rows.append(EngageCodec(40 + index, f"ctC2{bitrate}", name, bitrate, row.payload_type, row.name))
    for index, (bitrate, radios) in enumerate(
        ((600, _only(tsm=79)), (1_200, _only(tsm=78)), (2_400, _only(tsm=77, mpu=117)))
    ):
        why = "the standard's owners license it, and no free implementation is maintained"
        name = f"MELPe {bitrate} (STANAG 4591)"
        rows.append(EngageCodec(50 + index, f"ctMelpe{bitrate}", name, bitrate, 79 - index, "", radios, why))
    why = "neither its rate nor its packing is published"
    rows.append(EngageCodec(60, "", "CVSD", 0, None, why=why))
    return rows


def _only(**radios: int) -> Mapping[str, int]:
    return MappingProxyType(radios)


def _same(payload_type: int) -> Mapping[str, int]:
    return MappingProxyType(dict.fromkeys(RADIOS, payload_type))


ENCODERS: Final[Mapping[int, EngageCodec]] = MappingProxyType({row.id: row for row in _rows()})
SYMBOLS: Final[Mapping[str, int]] = MappingProxyType(
    {row.symbol: row.id for row in ENCODERS.values() if row.symbol}
)
UNSUPPORTED_PAYLOAD_TYPES: Final[Mapping[int, EngageCodec]] = MappingProxyType(
    {
        row.payload_type: row
        for row in ENCODERS.values()
        if row.payload_type is not None and row.carried is Carried.UNSUPPORTED
    }
)
assert DEFAULT_FRAMING_MS in FRAMINGS_MS


def encoder_of(encoder_id: int) -> EngageCodec:
    """The row of that id; raises :class:`~ice.errors.LocalError` where Engage has none."""
    row = ENCODERS.get(encoder_id)
    if row is None:
        raise LocalError(
            f"encoder {encoder_id} is none of Engage's; 21 is Opus at 8 kbit/s, 1 is G.711 µ-law"
        )
    return row


def payload_type_for(radio: str, encoder_id: int) -> int | None:
    """The RTP payload type that a family of radios (:data:`RADIOS`) uses for that encoder, where it is known to have it.

    Raises :class:`~ice.errors.LocalError` for a family or an id that is not in the table.
    """
    if radio not in RADIOS:
        raise LocalError(f"radios {radio!r} are none of {', '.join(RADIOS)}")
    return encoder_of(encoder_id).radios.get(radio)
