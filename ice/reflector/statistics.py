"""What RTP tells of the way that it came: loss, and jitter (RFC 3550 sections 6.4.1 and A.8), per talker.

Read from the header alone, of what is readable; nothing is changed.  Pauses count as neither: loss is gaps in the numbers of a burst, and a
burst's first packet says nothing about jitter, since its timestamp may begin anywhere.
"""

from typing import Final

import attrs

from ice.media.table import BY_PAYLOAD_TYPE

MAX_STEP: Final = 1_000  # numbers further apart are no loss but a new beginning
PAUSE_S: Final = 0.5  # after this much silence a new burst begins, whatever its marker says
_CLOCKS: Final = tuple(
    0 if (codec := BY_PAYLOAD_TYPE.get(number)) is None else codec.clock_rate for number in range(128)
)


@attrs.frozen
class Report:
    """One talker's reception.  ``jitter_ms`` is None where the payload type's clock is not known."""

    packets: int
    lost: int
    jitter_ms: float | None
    payload_type: int


class Reception:
    """One talker as heard in one place."""

    __slots__ = ("_high", "_jitter", "_transit", "at", "lost", "packets", "payload_type")

    def __init__(self) -> None:
        self.packets = 0
        self.lost = 0  #: missing now: what comes late after all is taken off
        self.payload_type = -1
        self.at = float("-inf")  #: when last heard
        self._high = -1
        self._transit = 0.0
        self._jitter = 0.0

    def heard(self, second: int, number: int, timestamp: int, now: float) -> None:
        """A packet: the second byte, the sequence number and the timestamp of its header."""
        payload_type = second & 0x7F
        pause = now - self.at > PAUSE_S or second >= 0x80
        self.packets += 1
        self.at = now
        step = ((number - self._high + 0x8000) & 0xFFFF) - 0x8000 if self._high >= 0 else 1
        if step > 0:
            self._high = number
            if 1 < step <= MAX_STEP:
                self.lost += step - 1
        elif step >= -MAX_STEP and not pause:
            if step and self.lost:
                self.lost -= 1
        else:
            self._high = number
        clock = _CLOCKS[payload_type]
        if not clock:
            self.payload_type = payload_type
            return
        transit = now * clock - timestamp
        if payload_type == self.payload_type and not pause:
            # the timestamp wraps at 2³²: so does the difference
            late = abs((transit - self._transit + 0x8000_0000) % 0x1_0000_0000 - 0x8000_0000)
            self._jitter += (late - self._jitter) / 16
        self.payload_type = payload_type
        self._transit = transit

    def report(self) -> Report:
        """How it stands."""
        clock = _CLOCKS[self.payload_type] if self.payload_type >= 0 else 0
        jitter = self._jitter * 1_000 / clock if clock else None
        return Report(self.packets, self.lost, jitter, self.payload_type)
