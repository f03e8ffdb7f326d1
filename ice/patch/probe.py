"""A word that a patch says on each of its streams now and then, to hear whether it comes back.

Datagrams keep their names through relays, so a circle of patches doubles nothing, and nobody would ever notice it: the Rallypoints drop the second
copy of everything. Yet it is a mistake that costs, and that hurts as soon as one of the patches transcodes. So a patch that passes speech on sends one short datagram on each of
its streams, flagged as data, in the stream's key, at most every :data:`EVERY_S`. Other patches pass it on as they pass all data; if it comes back by another stream, there is a circle.

``{"patch":"<identity, 32 hexadecimal digits>","by":"<16 hexadecimal digits, drawn by this engine>"}``: whoever hears it knows, too, which other patch is on its streams; and who drew
the last part knows it again whatever bridge has given it another name, or lost its flag, on the way.
"""

from __future__ import annotations

import re
from typing import Final

EVERY_S: Final = 10.0
MARK_BYTES: Final = 8
MAX_OTHERS: Final = 32  # patches on our streams whose identities are remembered
_PROBE: Final = re.compile(rb'\{"patch":"([0-9a-f]{32})","by":"([0-9a-f]{16})"\}\Z')


def probe(identity: bytes, mark: bytes) -> bytes:
    """What the patch of that identity says, by the engine of that mark."""
    return f'{{"patch":"{identity.hex()}","by":"{mark.hex()}"}}'.encode()


PROBE_BYTES: Final = len(probe(bytes(16), bytes(MARK_BYTES)))


def read_probe(payload: bytes) -> tuple[bytes, bytes] | None:
    """Whose probe it is, identity and mark; None for what is none."""
    found = _PROBE.match(payload) if len(payload) == PROBE_BYTES else None
    return (bytes.fromhex(found[1].decode()), bytes.fromhex(found[2].decode())) if found is not None else None
