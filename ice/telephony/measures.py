"""What calls come to, in figures: how long they took to be set up, and how they sounded."""

from __future__ import annotations

from typing import Final

import attrs

from ice.telephony.audio import AudioStatistics
from ice.telephony.line_buffer import RATES
from ice.telephony.records import CallRecord

#: What a call manager calls the sound of a line, by its rate.
FORMATS: Final = {rate: "slin" if rate == 8_000 else f"slin{rate // 1000}" for rate in RATES}


@attrs.define
class Setups:
    """How long calls took until the called side was heard of, and until the answer; seconds, as sums."""

    rang: int = 0
    rang_s: float = 0.0
    answered: int = 0
    answered_s: float = 0.0

    def add(self, record: CallRecord) -> None:
        """A call is over."""
        if record.rang is not None:
            self.rang += 1
            self.rang_s += max(0.0, record.rang - record.began)
        if record.answered is not None:
            self.answered += 1
            self.answered_s += max(0.0, record.answered - record.began)


def measured(record: CallRecord, statistics: AudioStatistics) -> CallRecord:
    """A record with what its call's sound has counted."""
    line = next(iter(statistics.lines.values()), None)
    people = statistics.stream
    counters = people.counters
    expected = counters.received + counters.lost
    record = attrs.evolve(
        record,
        loss_percent=100.0 * counters.lost / expected if expected else 0.0,
        jitter_ms=max((talker.jitter_ms for talker in people.talkers), default=0.0),
    )
    if line is None:
        return record
    return attrs.evolve(
        record,
        codec=FORMATS[line.rate],
        rate=line.rate,
        concealed_ms=line.counters.concealed_ms,
        drift_ppm=line.drift_ppm,
    )
