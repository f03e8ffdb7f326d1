"""The built-in call manager: five numbers to try and test everything with, and nothing installed.

=======  ==========================================================================================================
number   what happens
=======  ==========================================================================================================
``100``  rings once and answers; says back what it hears, keys included
``101``  is heard before it answers (early media), answers, says its announcement, hangs up
``102``  is busy
``103``  rings, and nobody ever answers
``104``  answers, hangs up after a tone, and calls back three seconds later; who answers that hears himself as at ``100``
=======  ==========================================================================================================

Every other number is unknown. An engine: :meth:`Loopback.ask` and :meth:`Loopback.tick` give what is reported (:mod:`ice.telephony.trunk`), sound among it, 20 ms at a time. Like
a real line it sends frames only while there is something to say.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from typing import Final
from uuid import UUID, uuid4

import attrs
import numpy as np

from ice.errors import LocalError
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.media.resample import Downsampler
from ice.media.tones import shaped, silence, sine
from ice.telephony.call import (
    Answers,
    Event,
    HangsUp,
    Lost,
    Presses,
    Refuses,
    Released,
    Rings,
    Side,
    Sounds,
    TransferDone,
    TransferFails,
)
from ice.telephony.causes import Cause
from ice.telephony.line_buffer import FRAME_MS, RATES
from ice.telephony.trunk import (
    Accept,
    Dial,
    HandOver,
    HangUp,
    Happened,
    Health,
    Hold,
    Offered,
    Press,
    Report,
    Request,
    Resume,
    Ring,
    Sound,
)

ECHO: Final = "100"
ANNOUNCEMENT: Final = "101"
BUSY: Final = "102"
RINGS_OUT: Final = "103"
CALLS_BACK: Final = "104"
NUMBERS: Final = (ECHO, ANNOUNCEMENT, BUSY, RINGS_OUT, CALLS_BACK)

RING_S: Final = 1.0  # until an answer
EARLY_S: Final = 0.6  # an announcement is heard so long before it answers
CALL_BACK_S: Final = 3.0
GIVE_UP_S: Final = 30.0  # of ringing, by who calls back
CALLS_MAX: Final = 256
ECHO_MAX: Final = 50  # frames, a second: whoever sends faster than real time loses the oldest
FRAME_S: Final = FRAME_MS / 1000
LINE: Final = Side.LINE


class Part(Enum):
    """What a line of ours does now."""

    RINGS = "rings"
    SPEAKS = "speaks"  # an announcement or a tone, then it hangs up
    ECHOES = "echoes"
    OFFERED = "offered"  # it calls, and waits for the answer
    WAITS = "waits"  # nothing more happens by itself


@attrs.define
class _Line:
    call: UUID
    number: str
    caller: str
    part: Part
    due: float  # when the part is over; of ECHOES and SPEAKS when the next frame is due
    speech: deque[bytes] = attrs.field(factory=deque)
    held: bool = False
    answered: bool = False
    answers_at: float = float("inf")


def default_announcement() -> Pcm:
    """Three rising tones, twice: ``int16[n]`` at 48 kHz."""
    pieces = []
    for hertz in (523.25, 659.26, 783.99) * 2:
        pieces += [shaped(sine(hertz, SAMPLE_RATE * 3 // 10)), silence(SAMPLE_RATE // 20)]
    return np.concatenate(pieces)


class Loopback:
    """A call manager without telephones; see the module docstring.

    ``rate``: of its lines, Hz; ``announcement``: what ``101`` says, 48 kHz mono; ``ring_s``: until an answer, 0 for at once; ``new_id`` names the calls that it begins.
    Raises :class:`~ice.errors.LocalError` for another rate.
    """

    def __init__(
        self,
        rate: int = 16_000,
        *,
        announcement: Pcm | None = None,
        ring_s: float = RING_S,
        call_back_s: float = CALL_BACK_S,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        if rate not in RATES:
            raise LocalError(f"lines have {', '.join(map(str, RATES))} Hz, not {rate}")
        self.name = "loopback"
        self.rate = rate
        self.health = Health(True, "the built-in call manager is always there")
        self.dropped: Counter[str] = Counter()  #: sound that went nowhere, by reason
        self.ignored: Counter[str] = Counter()  #: requests that mean nothing to a line as it is, by kind
        self._ring_s, self._call_back_s = ring_s, call_back_s
        self._new_id = new_id
        self._announcement = self._frames(default_announcement() if announcement is None else announcement)
        self._beep = self._frames(shaped(sine(880.0, SAMPLE_RATE // 2)))
        self._lines: dict[UUID, _Line] = {}
        self._call_backs: list[tuple[float, str]] = []  # when, whom

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        dues = [min(line.due, line.answers_at) for line in self._lines.values()]
        dues += [at for at, _ in self._call_backs]
        found = min(dues, default=float("inf"))
        return found if found < float("inf") else None

    def clear(self) -> None:
        """Forget all calls, and whom it has promised to call back."""
        self._lines.clear()
        self._call_backs.clear()

    def ask(self, request: Request, now: float) -> list[Report]:
        """Carry out a request; gives what is to be reported at once."""
        if isinstance(request, Dial):
            return self._dial(request, now)
        line = self._lines.get(request.call)
        if line is None:
            event: Event = Released(LINE) if isinstance(request, HangUp) else Lost(LINE)
            return [Happened(request.call, event)]
        match request:
            case HangUp():
                del self._lines[line.call]
                return [Happened(line.call, Released(LINE))]
            case Accept() if line.part is Part.OFFERED:
                line.part, line.due, line.answered = Part.ECHOES, now, True
            case Press() if line.part is Part.ECHOES and not line.held:
                return [Happened(line.call, Presses(LINE, request.digits))]
            case Hold():
                line.held = True
                line.speech.clear()
            case Resume():
                line.held = False
            case HandOver():
                if request.number not in NUMBERS:
                    return [Happened(line.call, TransferFails(LINE, Cause.UNKNOWN_NUMBER))]
                del self._lines[line.call]
                return [Happened(line.call, TransferDone(LINE))]
            case Ring() if line.part is Part.OFFERED:
                line.due = now + GIVE_UP_S  # it hears the ring, and waits so long from now
            case Ring() | Accept() | Press():  # a line that is not being offered, or does not listen
                self.ignored[type(request).__name__.lower()] += 1
        return []

    def sound(self, call: UUID, samples: bytes) -> None:
        """20 ms were said to a line."""
        line = self._lines.get(call)
        if line is None:
            self.dropped["no-line"] += 1
        elif line.part is not Part.ECHOES or line.held:
            self.dropped["nobody-listens"] += 1
        else:
            line.speech.append(samples)
            if len(line.speech) > ECHO_MAX:
                line.speech.popleft()
                self.dropped["too-fast"] += 1

    def tick(self, now: float) -> list[Report]:
        """What has happened by now."""
        reports: list[Report] = []
        for at, whom in [each for each in self._call_backs if each[0] <= now]:
            self._call_backs.remove((at, whom))
            id = self._new_id()
            self._lines[id] = _Line(id, CALLS_BACK, whom, Part.OFFERED, now + GIVE_UP_S)
            reports.append(Offered(id, CALLS_BACK, whom, "Loopback"))
        for line in list(self._lines.values()):
            if line.answers_at <= now:
                line.answers_at, line.answered = float("inf"), True
                reports.append(Happened(line.call, Answers(LINE)))
            while line.call in self._lines and line.due <= now:
                reports += self._step(line, now)
        return reports

    # -- within

    def _dial(self, request: Dial, now: float) -> list[Report]:
        def happened(*events: Event) -> list[Report]:
            return [Happened(request.call, event) for event in events]

        if request.call in self._lines or len(self._lines) >= CALLS_MAX:
            return happened(Refuses(LINE, Cause.CONGESTION))
        number = request.number
        if number == BUSY:
            return happened(Refuses(LINE, Cause.BUSY))
        if number not in NUMBERS:
            return happened(Refuses(LINE, Cause.UNKNOWN_NUMBER))
        due = float("inf") if number == RINGS_OUT else now + self._ring_s
        line = _Line(request.call, number, request.caller, Part.RINGS, due)
        self._lines[request.call] = line
        return happened(Rings(LINE))

    def _step(self, line: _Line, now: float) -> list[Report]:
        """A part of a line's life is over, or its next frame is due."""
        match line.part:
            case Part.RINGS if line.number == ECHO:
                line.part, line.answered = Part.ECHOES, True
                return [Happened(line.call, Answers(LINE))]
            case Part.RINGS if line.number == ANNOUNCEMENT:
                line.part = Part.SPEAKS
                line.speech.extend(self._announcement)
                line.answers_at = line.due + EARLY_S
                return [Happened(line.call, Sounds(LINE))]
            case Part.RINGS:
                line.part, line.answered = Part.SPEAKS, True
                line.speech.extend(self._beep)
                return [Happened(line.call, Answers(LINE))]
            case Part.SPEAKS if not line.speech:
                return self._finish(line, now)
            case Part.OFFERED:
                del self._lines[line.call]
                return [Happened(line.call, HangsUp(LINE))]
            case _:
                line.due = max(line.due + FRAME_S, now - 5 * FRAME_S)
                if line.held or not line.speech:
                    return []
                return [Sound(line.call, self.rate, line.speech.popleft())]

    def _finish(self, line: _Line, now: float) -> list[Report]:
        """All is said: hang up, and call back where that was promised."""
        if not line.answered:  # a short announcement: the answer is still to come
            line.due = line.answers_at + FRAME_S
            return []
        del self._lines[line.call]
        if line.number == CALLS_BACK and line.caller and len(self._call_backs) < CALLS_MAX:
            self._call_backs.append((now + self._call_back_s, line.caller))
        return [Happened(line.call, HangsUp(LINE))]

    def _frames(self, pcm: Pcm) -> list[bytes]:
        """A sound at 48 kHz as frames of 20 ms at our rate, the last one filled up."""
        size = SAMPLE_RATE * FRAME_MS // 1000
        pcm = np.concatenate((pcm, np.zeros(-len(pcm) % size, np.int16)))
        if self.rate != SAMPLE_RATE:
            pcm = Downsampler(SAMPLE_RATE // self.rate).process(pcm)
        data = pcm.astype("<i2").tobytes()
        step = self.rate * FRAME_MS // 1000 * 2
        return [data[start : start + step] for start in range(0, len(data), step)]
