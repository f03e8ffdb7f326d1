"""Which streams of calls a person may join: those that begin with ``__`` are for satellites, but without these nobody could telephone.

=================================  ======  =====  ===============================================================================
stream                             listen  talk   because
=================================  ======  =====  ===============================================================================
``__calls_<group>``                        yes    what people write to a gateway is the gateway's to read
``__calls_<group>_<own id>``       yes            what a gateway writes to a person is his to read, and nobody else's to say
``__calls_<group>_all``            yes            what a gateway says to all
``__call_<call>``                  yes     yes    the sound of a call: its name is random, and known with its key to those in it
=================================  ======  =====  ===============================================================================

:mod:`ice.telephony.messages` makes the names; a Rallypoint asks here (:mod:`ice.rallypoint.access`), and shows them on its pages by :func:`discreet`. Whether somebody may call is the gateway's to say.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_STREAM: Final = re.compile(f"__calls_{_UUID}(?:_(?P<whose>all|{_UUID}))?|(?P<sound>__call_{_UUID})")
SHOWN: Final = len("__call_1a2b3c4d")  # tells calls apart, and leaves 90 bits to guess


class May(NamedTuple):
    """What a person may do on a stream."""

    listen: bool
    talk: bool


NOTHING: Final = May(False, False)


def person_may(stream_id: str, person: str) -> May:
    """What a person (the UUID of the certificate, as text) may do on a stream of calls; nothing on one that is none."""
    match = _STREAM.fullmatch(stream_id)
    if match is None:
        return NOTHING
    if match["sound"]:
        return May(True, True)
    whose = match["whose"]
    return May(whose in ("all", person), whose is None)


def discreet(stream_id: str) -> str:
    """A stream's id as anybody may see it: that of a call's sound is known to those in the call alone, and is shortened to ``__call_1a2b3c4d…``."""
    match = _STREAM.fullmatch(stream_id)
    return f"{stream_id[:SHOWN]}…" if match is not None and match["sound"] else stream_id
