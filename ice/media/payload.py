"""What all codecs agree on: the sample rate inside, the framings, and how a bad payload is named."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ice.errors import LocalError, RemoteError

Pcm: TypeAlias = npt.NDArray[np.int16]  # int16[n], mono, 48 kHz unless a name says otherwise

SAMPLE_RATE: Final = 48_000  # Hz, of all PCM inside the suite
FRAMINGS_MS: Final = (20, 40, 60, 80, 100, 120)  # more than 120 ms no Opus packet holds (RFC 6716 §3.2.5)
MAX_CONCEAL: Final = SAMPLE_RATE  # one second: whoever asks for more has lost the talker, not a packet


class MalformedPayload(RemoteError):
    """The payload cannot be what its payload type says.

    ``reason`` is a short fixed word for counters: ``empty``, ``too-long``, ``odd``, ``corrupt``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnknownPayloadType(RemoteError):
    """Nobody here can decode this RTP payload type."""

    def __init__(self, payload_type: int) -> None:
        super().__init__(f"RTP payload type {payload_type} is none that we decode")
        self.payload_type = payload_type


def check_framing(framing_ms: int) -> int:
    """``framing_ms`` if it is one that the suite speaks, else :class:`~ice.errors.LocalError`."""
    if framing_ms not in FRAMINGS_MS:
        raise LocalError(f"framing_ms {framing_ms} is none of {', '.join(map(str, FRAMINGS_MS))}")
    return framing_ms


def check_frame(pcm: Pcm, samples: int) -> Pcm:
    """``pcm`` as a contiguous ``int16[samples]``, else :class:`~ice.errors.LocalError`.

    An encoder in C reads as many samples as it was promised, whether they are there or not, so this is asked before each frame.
    """
    if pcm.dtype != np.int16 or pcm.shape != (samples,):
        raise LocalError(f"an encoder wants int16[{samples}] per frame, not {pcm.dtype}{list(pcm.shape)}")
    return np.ascontiguousarray(pcm)


def check_conceal(samples: int) -> int:
    """``samples`` if it is a length that may be concealed (1 to one second), else :class:`~ice.errors.LocalError`."""
    if not 1 <= samples <= MAX_CONCEAL:
        raise LocalError(f"{samples} samples to conceal is not in 1–{MAX_CONCEAL}")
    return samples
