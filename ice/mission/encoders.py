"""The numbers by which the original names an encoder, and the names that some of its relatives write instead (``ctOpus8000``)."""

from typing import Final

DEFAULT: Final = 21  # Opus, 8 kbit/s: what a group without the key uses
_FAMILIES: Final = {
    # symbol without its bit rate: (first id, bit rates in the order of ids)
    "amrnb": (10, (4750, 5150, 5900, 6700, 7400, 7950, 10200, 12200)),
    "opus": (20, (6000, 8000, 10000, 12000, 14000, 16000, 18000, 20000, 22000, 24000)),
    "spxnb": (30, (2150, 3950, 5950, 8000, 11000, 15000, 18200, 24600)),
    "c2": (40, (450, 700, 1200, 1300, 1400, 1600, 2400, 3200)),
    "melpe": (50, (600, 1200, 2400)),
}
_NAMES: Final = {
    "ctexternal": -1,
    "ctunknown": 0,
    "ctg711ulaw": 1,
    "ctg711alaw": 2,
    "ctgsm610": 3,
    "ctg729a": 4,
    "ctpcm": 5,
    "ctcvsd": 60,
    **{
        f"ct{family}{bits_s}": first + index
        for family, (first, rates) in _FAMILIES.items()
        for index, bits_s in enumerate(rates)
    },
}
IDS: Final = frozenset(_NAMES.values())


def encoder_of(symbol: str) -> int | None:
    """The number that a symbolic name means, whatever its case; None for a name that nobody knows."""
    return _NAMES.get(symbol.lower())
