"""basE91: bytes as text of 91 printable ASCII characters, 23 % longer than they were.

Thirteen bits become two characters; fourteen, where the value of the lower thirteen is small enough (below 89) to leave room, since 91² is a little more
than 2¹³. Bits are taken from the least significant end. The alphabet is that of the reference implementation, in its order.
"""

from typing import Final

from ice.errors import RemoteError

ALPHABET: Final = (
    'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&()*+,./:;<=>?@[]^_`{|}~"'
)
_VALUE: Final = {character: value for value, character in enumerate(ALPHABET)}
_SMALL: Final = 88  # of thirteen bits: up to here a fourteenth fits, for 88 + 8192 is the last of 91 × 91
_WHITE: Final = frozenset(" \t\r\n\f\v")


class Base91Error(RemoteError):
    """Text that is not basE91. :ivar position: of the first wrong character, counted from 0."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(text)
        self.position = position


def encode(data: bytes) -> str:
    """The text of some bytes."""
    pieces: list[str] = []
    bits = held = 0
    for byte in data:
        bits |= byte << held
        held += 8
        if held > 13:
            value = bits & 8191
            if value > _SMALL:
                bits >>= 13
                held -= 13
            else:
                value = bits & 16383
                bits >>= 14
                held -= 14
            pieces += (ALPHABET[value % 91], ALPHABET[value // 91])
    if held:
        pieces.append(ALPHABET[bits % 91])
        if held > 7 or bits > 90:
            pieces.append(ALPHABET[bits // 91])
    return "".join(pieces)


def decode(text: str) -> bytes:
    """The bytes of a text; white space in it, as mail programs add it, is passed over.

    :raises Base91Error: any other character that is not of the alphabet.
    """
    found = bytearray()
    bits = held = 0
    first = -1
    for position, character in enumerate(text):
        value = _VALUE.get(character)
        if value is None:
            if character in _WHITE:
                continue
            raise Base91Error(
                f"character {position + 1} is {_named(character)}, which no packed text has", position
            )
        if first < 0:
            first = value
            continue
        value = first + 91 * value
        first = -1
        bits |= value << held
        held += 13 if value & 8191 > _SMALL else 14
        while held > 7:
            found.append(bits & 255)
            bits >>= 8
            held -= 8
    if first >= 0:
        found.append((bits | first << held) & 255)
    return bytes(found)


def _named(character: str) -> str:
    return f'"{character}"' if character.isprintable() else f"U+{ord(character):04X}"
