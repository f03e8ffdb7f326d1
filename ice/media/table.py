"""The table of codecs: names, payload types, clocks. Nothing here encodes or decodes; :mod:`ice.media.codecs` does.

Inside, sound is ``int16[n]``, mono, 48 kHz, whatever goes over the wire, and :attr:`Codec.ticks_to_48k` is the one bridge from RTP timestamps.

=============  ============  =========  ========  ==========================================================================
name           payload type  RTP clock  frame     behaviour
=============  ============  =========  ========  ==========================================================================
opus           118           48,000     20–120    RFC 7587; 6,000–128,000 bit/s; FEC and DTX; about 6.5 ms of delay
pcmu           0             8,000      any       G.711 µ-law, 64 kbit/s; 2 ms of resampling each way
pcma           8             8,000      any       G.711 A-law, likewise
l16            96            48,000     any       linear PCM, big-endian (RFC 3551 §4.5.11), 768 kbit/s; no delay
gsm            3             8,000      20        GSM 06.10 full rate, 13.2 kbit/s (RFC 3551 §4.5.8)
g722           9             8,000      any       ITU-T G.722, 64 kbit/s, sampled at 16 kHz for all that its RTP clock says (RFC 3551 §4.5.2)
g729           18            8,000      10        ITU-T G.729 and 729A, 8 kbit/s; heard only
amr-nb         122           8,000      20        3GPP TS 26.071, 4.75–12.2 kbit/s (RFC 4867)
speex          97            8,000      20        narrow band, 2.15–24.6 kbit/s (RFC 5574)
codec2-3200    80            8,000      20        Codec 2, and so on for each of its rates
codec2-2400    81            8,000      20
codec2-1600    82            8,000      40
codec2-1400    83            8,000      40
codec2-1300    84            8,000      40
codec2-1200    85            8,000      40
codec2-700     88            8,000      40        mode 700C
codec2-450     88            8,000      40        shares the payload type: one who wants it says so (:mod:`ice.media.payload_map`)
=============  ============  =========  ========  ==========================================================================

Where RFC 3551 assigns no payload type, it is the one that Engage uses. Payload type 101 is telephone events (:mod:`ice.media.dtmf`); it is no
sound and stands in no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from ice.errors import LocalError
from ice.media.payload import FRAMINGS_MS, SAMPLE_RATE, check_framing

TELEPHONE_EVENT: Final = 101  # RTP payload type of RFC 4733 events where nothing else is agreed


@attrs.frozen
class Codec:
    """One row of the table: its name, its RTP payload type, its RTP clock in Hz, and what one frame of it lasts.

    ``family`` is what a person writes (``codec2`` for all of its rates); ``bitrates`` are those to choose from, rising, where there
    are several and they are steps.
    """

    name: str
    payload_type: int
    clock_rate: int
    frame_ms: int = 10
    family: str = attrs.field(default=attrs.Factory(lambda self: self.name, takes_self=True))
    bitrates: tuple[int, ...] = ()

    @property
    def ticks_to_48k(self) -> int:
        """How many samples at 48 kHz one unit of the RTP timestamp stands for."""
        return SAMPLE_RATE // self.clock_rate

    @property
    def framings_ms(self) -> tuple[int, ...]:
        """The framings in which a packet holds whole frames."""
        return tuple(each for each in FRAMINGS_MS if each % self.frame_ms == 0)

    def timestamp_step(self, framing_ms: int) -> int:
        """How far the RTP timestamp advances from one frame to the next."""
        return framing_ms * self.clock_rate // 1000

    def bitrate(self, most: int) -> int:
        """The best of the ``bitrates`` that is not above ``most``, else the lowest; ``most`` itself where they are no steps."""
        return max((each for each in self.bitrates if each <= most), default=min(self.bitrates, default=most))

    def check_framing(self, framing_ms: int) -> int:
        """``framing_ms`` if packets of that length hold whole frames, else :class:`~ice.errors.LocalError`."""
        if check_framing(framing_ms) % self.frame_ms:
            raise LocalError(
                f"a frame of {self.name} lasts {self.frame_ms} ms: framing_ms {framing_ms} is none of "
                f"{', '.join(map(str, self.framings_ms))}"
            )
        return framing_ms


OPUS: Final = Codec("opus", 118, 48_000)
PCMU: Final = Codec("pcmu", 0, 8_000)
PCMA: Final = Codec("pcma", 8, 8_000)
L16: Final = Codec("l16", 96, 48_000)
GSM: Final = Codec("gsm", 3, 8_000, 20)
G722: Final = Codec("g722", 9, 8_000)
G729: Final = Codec("g729", 18, 8_000)
AMR_NB: Final = Codec(
    "amr-nb", 122, 8_000, 20, "amr-nb", (4_750, 5_150, 5_900, 6_700, 7_400, 7_950, 10_200, 12_200)
)
SPEEX: Final = Codec(
    "speex", 97, 8_000, 20, "speex", (2_150, 3_950, 5_950, 8_000, 11_000, 15_000, 18_200, 24_600)
)
CODEC2: Final = tuple(
    Codec(f"codec2-{bitrate}", payload_type, 8_000, frame_ms, "codec2", (bitrate,))
    for bitrate, payload_type, frame_ms in (
        (3_200, 80, 20),
        (2_400, 81, 20),
        (1_600, 82, 40),
        (1_400, 83, 40),
        (1_300, 84, 40),
        (1_200, 85, 40),
        (450, 88, 40),
        (700, 88, 40),
    )
)

CODECS: Final[Mapping[str, Codec]] = MappingProxyType(
    {row.name: row for row in (OPUS, PCMU, PCMA, L16, GSM, G722, G729, AMR_NB, SPEEX, *CODEC2)}
)
BY_PAYLOAD_TYPE: Final[Mapping[int, Codec]] = MappingProxyType(
    {row.payload_type: row for row in CODECS.values()}
)
FAMILIES: Final = tuple(dict.fromkeys(row.family for row in CODECS.values()))  # what codec = may say
NATIVE: Final = frozenset(("opus", "pcmu", "pcma", "l16"))  # families that need nothing installed but libopus
HEARD_ONLY: Final = frozenset(("g729",))  # families that nobody here encodes
SENT: Final = tuple(family for family in FAMILIES if family not in HEARD_ONLY)


def codec(name: str, bitrate: int = 0) -> Codec:
    """The row of that name, or of that family the row for at most ``bitrate``; raises :class:`~ice.errors.LocalError` that lists the names."""
    row = CODECS.get(name)
    if row is not None:
        return row
    family = sorted((row for row in CODECS.values() if row.family == name), key=lambda row: row.bitrates)
    if not family:
        raise LocalError(f"codec {name!r} is none of {', '.join(FAMILIES)}")
    return max(
        (row for row in family if row.bitrates[0] <= bitrate), key=lambda row: row.bitrates, default=family[0]
    )
