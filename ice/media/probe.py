"""Probes: what two ends of a path say to each other to learn how good it is.

A probe is an RTCP packet of an application (RFC 3550 section 6.7, type 204, name ``ICEQ``), so that it passes whatever passes RTP, and nobody takes it for
sound::

    0                   1                   2                   3
    |V=2|0|  kind   |   PT = 204    |       words that follow       |
    |                     SSRC: who sends this                      |
    |                            "ICEQ"                             |
    |                              run                              |
    |                           sequence                            |
    |                        sent_ns (u64)                          |
    |                      received_ns (u64)                        |
    |                      answered_ns (u64)                        |
    |                             count                             |
    |                      zeros up to the size                     |

Big-endian. *sent* is by the clock of who measures, *received* and *answered* by that of who answers; neither clock has a beginning that means anything.
``count`` in what is answered: probes of this run that have come so far, each once.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

import attrs

from ice.errors import LocalError, RemoteError

APP: Final = 204  # RTCP type of application-defined packets
NAME: Final = b"ICEQ"
LEAST: Final = 48  # bytes: everything but zeros
MOST: Final = 1_400  # a datagram that no ordinary path cuts, sealed and all
_PROBE: Final = Struct(">BBHI4sIIQQQI")
_VERSION: Final = 0x80
_U32: Final = 0xFFFF_FFFF
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF

assert _PROBE.size == LEAST


class Kind(IntEnum):
    """What a probe says."""

    PROBE = 1  #: one of the run; answer it at once
    ASK = 2  #: not of the run: is anybody there, and how many have come?
    ANSWER = 3  #: to a PROBE
    COUNT = 4  #: to an ASK


class MalformedProbe(RemoteError):
    """The payload is no probe."""


@attrs.frozen
class Probe:
    """One packet; see the module docstring. ``size`` in bytes, all of it."""

    kind: Kind
    sender: int
    run: int
    sequence: int
    sent_ns: int
    received_ns: int = 0
    answered_ns: int = 0
    count: int = 0
    size: int = LEAST

    def encode(self) -> bytes:
        """The packet; raises :class:`~ice.errors.LocalError` for a size that cannot be."""
        if not LEAST <= self.size <= MOST or self.size % 4:
            raise LocalError(f"a probe has {LEAST} to {MOST} bytes, in fours, not {self.size}")
        head = _PROBE.pack(
            _VERSION | self.kind, APP, self.size // 4 - 1, self.sender & _U32, NAME, self.run & _U32,
            self.sequence & _U32, self.sent_ns & _U64, self.received_ns & _U64, self.answered_ns & _U64,
            self.count & _U32,
        )  # fmt: skip
        return head + bytes(self.size - LEAST)

    @classmethod
    def decode(cls, data: bytes) -> Probe:
        """The probe in ``data``; raises :class:`MalformedProbe` for anything else."""
        if not LEAST <= len(data) <= MOST:
            raise MalformedProbe(f"a probe has {LEAST} to {MOST} bytes, this has {len(data)}")
        first, kind, words, sender, name, run, sequence, sent, received, answered, count = _PROBE.unpack_from(
            data
        )
        if kind != APP or name != NAME or first & 0xE0 != _VERSION:
            raise MalformedProbe("this is no RTCP packet of type 204 with the name ICEQ")
        if (words + 1) * 4 != len(data):
            raise MalformedProbe(f"a probe of {(words + 1) * 4} bytes was announced, {len(data)} came")
        try:
            said = Kind(first & 0x1F)
        except ValueError:
            raise MalformedProbe(f"no kind of probe is {first & 0x1F}") from None
        return cls(said, sender, run, sequence, sent, received, answered, count, len(data))

    def answer(self, sender: int, received_ns: int, answered_ns: int, count: int) -> Probe:
        """What is answered to it, as long as it is."""
        kind = Kind.COUNT if self.kind is Kind.ASK else Kind.ANSWER
        return attrs.evolve(
            self, kind=kind, sender=sender, received_ns=received_ns, answered_ns=answered_ns, count=count
        )


def is_probe(data: bytes) -> bool:
    """Whether this looks like a probe; cheap, for who only wants to pass it over."""
    return len(data) >= LEAST and data[1] == APP and data[8:12] == NAME
