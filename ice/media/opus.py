"""Opus (RFC 6716) through libopus, wrapped once.

The binding is opuslib's thin ctypes layer. Only its raw functions are used, with buffers of our own: its comfortable ones copy each
frame through Python lists, read past short PCM, cannot switch in-band FEC on, and one of them answers another question than its
name asks. The library is loaded at the first encoder or decoder, so that a Rallypoint, which never decodes, runs without it.

**Loss.** An encoder told to expect loss (``fec``) repeats a coarse copy of each frame in the next packet (LBRR, RFC 6716 §2.1.7).
:meth:`Decoder.conceal` takes that copy out of the packet *after* the gap, or extrapolates. A packet of several frames (80 and 100 ms,
and 40 and 60 ms above wideband) carries the copy of the one frame before it, so the rest of a lost long packet is extrapolated.

The copies are paid for out of the same bit rate. Measured with libopus 1.3.1 at 24 kbit/s on one spoken line, PESQ-WB was 4.1 without
and 3.3 with them where nothing was lost, but 2.0 and 3.0 at 5 % loss. So they belong on paths that lose packets (multicast, radio,
UDP), not on a TLS link, and :meth:`Encoder.expect_loss` turns them up or off while talking. At low rates libopus spends all on the
voice: ready for 5 % it repeats frames at 24 kbit/s and above, ready for 10 % from 18 kbit/s on (at the price of audio bandwidth).

**Silence.** With ``dtx`` the encoder says for most frames of a pause that there is nothing worth sending; :meth:`Encoder.encode`
returns ``b""`` for those. The far decoder fills the time with :meth:`Decoder.conceal`, which makes comfort noise then.

**What it costs.** Complexity 10 is libopus at its best, and what a voice has by default. Sound of many voices at once is no voice any more: from five on libopus finds by itself that its music coder does better
where the bit rate allows, and that coder needs hardly any search. :meth:`Encoder.voices` tells it at once. Measured with libopus 1.3.1 at 24 kbit/s, so many sentences of one voice
together, µs of one core per frame of 20 ms and PESQ-WB against the mix:

=======  ================  ================  ======================
voices   complexity 10     complexity 5      as :meth:`voices` does
=======  ================  ================  ======================
1        180 µs, 4.44      100 µs, 4.29      180 µs, 4.44
2        190 µs, 4.37      95 µs, 4.15       190 µs, 4.37
4        160 µs, 4.19      100 µs, 4.19      160 µs, 4.19
5        120 µs, 4.14      100 µs, 4.19      17 µs, 4.09
6        90 µs, 4.13       100 µs, 4.11      17 µs, 4.11
9        190 µs, 4.30      100 µs, 4.07      18 µs, 4.27
=======  ================  ================  ======================

**Facts of a packet** (duration, FEC) are read from its first bytes in Python, bounded by the packet, without a decoder.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import warnings
import weakref
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs
import numpy as np

from ice.errors import LocalError
from ice.media.payload import SAMPLE_RATE, MalformedPayload, Pcm, check_conceal, check_frame, check_framing

MIN_BITRATE: Final = 6_000  # bit/s, the least that libopus makes speech of
MAX_BITRATE: Final = 128_000  # transparent for one channel; more is waste
EXPECTED_LOSS_PERCENT: Final = 5  # what FEC is tuned for; 10 scored lower even at 10 % loss (24 kbit/s)
MAX_ENCODED: Final = 3_900  # with RTP header and extension inside a Rallypoint's default of 4,096 bytes
MAX_PACKET_SAMPLES: Final = 5_760  # 120 ms, RFC 6716 §3.2.5 [R5]
MAX_FRAMES: Final = 48  # 120 ms in frames of 2.5 ms
MAX_PACKET: Final = 61_400  # 48 frames of 1,275 bytes with their lengths; anything longer is no Opus packet
CONCEAL_STEP: Final = 120  # libopus conceals in multiples of 2.5 ms
COMPLEXITY: Final = 10  # on libopus's own scale, 0–10
CROWD: Final = 5  # voices at once, from which on the music coder sounds the same and costs a tenth …
CROWD_OVER: Final = 3  # … until so few are left: a change of coder is a frame of both
CROWD_BITRATE: Final = (
    24_000  # below it the speech coder is better at everything; at low complexity, at nothing
)
CROWD_FIRST: Final = 2  # the complexity of the frame that changes: at less libopus does not, since it reckons the bit rate as lower
CROWD_COMPLEXITY: Final = 0  # more costs more and, in the music coder, scored no better
AUTOMATIC: Final = -1_000  # OPUS_AUTO
MUSIC: Final = 3_002  # OPUS_SIGNAL_MUSIC
#: OPUS_BANDWIDTH_* by the sampling rate that holds it: narrow, medium, wide, super-wide, full.
BANDWIDTHS: Final[Mapping[int, int]] = MappingProxyType(
    {8_000: 1101, 12_000: 1102, 16_000: 1103, 24_000: 1104, 48_000: 1105}
)
WIDE: Final = 16_000  # what 24 kbit/s can fill with many voices; libopus's own choice at complexity 10

_SILK_MS: Final = (10, 20, 40, 60)
_CELT_SAMPLES: Final = (120, 240, 480, 960)


class LibopusMissing(LocalError):
    """libopus, or its binding, is not installed."""


@attrs.frozen
class _Library:
    """The parts of opuslib in use; their functions raise nothing sensible, so results are looked at here."""

    encoder: Any
    decoder: Any
    ctl: Any
    info: Any
    voip: int
    samples_pointer: Any

    def explain(self, code: int) -> str:
        text = self.info.strerror(code)
        return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


@functools.cache
def _library() -> _Library:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # opuslib compares with `is`
            opuslib = importlib.import_module("opuslib")
            return _Library(
                importlib.import_module("opuslib.api.encoder"),
                importlib.import_module("opuslib.api.decoder"),
                importlib.import_module("opuslib.api.ctl"),
                importlib.import_module("opuslib.api.info"),
                int(opuslib.APPLICATION_VOIP),
                importlib.import_module("opuslib.api").c_int16_pointer,
            )
    except ModuleNotFoundError as error:
        raise LibopusMissing(
            f"the Python package {error.name} is not installed: pip install opuslib"
        ) from error
    except Exception as error:  # opuslib raises a bare Exception where the C library is missing
        raise LibopusMissing(f"libopus is not installed ({error}): apt install libopus0") from error


def version() -> str:
    """The version that libopus gives itself, such as ``libopus 1.3.1``; raises :class:`LibopusMissing`."""
    text = _library().info.get_version_string()
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


def packet_samples(payload: bytes) -> int:
    """How many samples at 48 kHz a packet stands for, from its table of contents (RFC 6716 §3.1 and §3.2).

    Raises :class:`~ice.media.payload.MalformedPayload` where that cannot be: empty, no frames, more than 120 ms.
    """
    if not payload:
        raise MalformedPayload("empty", "an Opus packet has at least one byte, this one none")
    if len(payload) > MAX_PACKET:
        raise MalformedPayload(
            "too-long", f"an Opus packet has at most {MAX_PACKET} bytes, this one {len(payload)}"
        )
    configuration, code = payload[0] >> 3, payload[0] & 0x03
    if configuration < 12:
        frame = _SILK_MS[configuration & 3] * 48
    elif configuration < 16:
        frame = (480, 960)[configuration & 1]
    else:
        frame = _CELT_SAMPLES[configuration & 3]
    if code == 0:
        return frame
    if code < 3:
        return 2 * frame
    if len(payload) < 2:
        raise MalformedPayload("corrupt", "an Opus packet of several frames lacks their number")
    count = payload[1] & 0x3F
    if not 1 <= count <= MAX_FRAMES or count * frame > MAX_PACKET_SAMPLES:
        raise MalformedPayload(
            "corrupt", f"an Opus packet of {count} frames of {frame / 48:g} ms; 1 to 120 ms in all may be"
        )
    return count * frame


def carries_fec(payload: bytes) -> bool:
    """Whether the packet repeats the frame before it (RFC 6716 §4.2.4, the LBRR flag). False for what is no packet."""
    if not payload or payload[0] >> 3 >= 16:
        return False  # CELT has no such copy
    configuration, stereo = payload[0] >> 3, bool(payload[0] & 0x04)
    silk_frames = max(1, _SILK_MS[configuration & 3] // 20) if configuration < 12 else 1
    start = _first_frame(payload)
    if start is None or start >= len(payload):
        return False
    flags = payload[start]
    if flags >> (7 - silk_frames) & 1:
        return True
    return stereo and bool(flags >> (6 - 2 * silk_frames) & 1)


def _first_frame(payload: bytes) -> int | None:
    """Where the first frame begins, or ``None`` where the packet ends before (RFC 6716 §3.2)."""

    def skip_length(position: int) -> int | None:
        if position >= len(payload):
            return None
        return position + (2 if payload[position] >= 252 else 1)

    code = payload[0] & 0x03
    if code < 2:
        return 1
    if code == 2:
        return skip_length(1)
    if len(payload) < 2:
        return None
    position: int | None = 2
    if payload[1] & 0x40:  # padding: a run of 255s and one that ends it
        while position is not None and position < len(payload) and payload[position] == 255:
            position += 1
        position = None if position is None or position >= len(payload) else position + 1
    if payload[1] & 0x80:
        for _ in range((payload[1] & 0x3F) - 1):
            if position is None:
                return None
            position = skip_length(position)
    return position


class Encoder:
    """One talker's voice: ``int16[48 * framing_ms]``, 48 kHz mono, to one Opus packet per frame.

    ``bitrate`` 6,000–128,000 bit/s; libopus chooses the audio bandwidth that it can fill, up to 20 kHz. ``fec`` repeats frames against
    loss of ``expected_loss_percent``, ``dtx`` says nothing in pauses (module docstring). ``complexity`` 0–10; ``rate`` (Hz, of :data:`BANDWIDTHS`) says that there is nothing above its half. Not for
    use from two threads at once.
    Raises :class:`~ice.errors.LocalError` for settings out of range and :class:`LibopusMissing`.
    """

    def __init__(
        self,
        bitrate: int = 24_000,
        framing_ms: int = 20,
        *,
        fec: bool = True,
        dtx: bool = False,
        expected_loss_percent: int = EXPECTED_LOSS_PERCENT,
        complexity: int = COMPLEXITY,
        rate: int = SAMPLE_RATE,
    ) -> None:
        if rate not in BANDWIDTHS or not 0 <= complexity <= COMPLEXITY:
            rates = ", ".join(map(str, BANDWIDTHS))
            raise LocalError(
                f"Opus knows sound of {rates} Hz and a complexity of 0–10, not {rate} and {complexity}"
            )
        if not MIN_BITRATE <= bitrate <= MAX_BITRATE:
            raise LocalError(f"Opus bit rate {bitrate} is not in {MIN_BITRATE}–{MAX_BITRATE}")
        self.framing_ms = check_framing(framing_ms)
        self.samples = framing_ms * SAMPLE_RATE // 1000
        self.bitrate = bitrate
        self._library = _library()
        encoder, ctl = self._library.encoder, self._library.ctl
        self._state = encoder.create_state(SAMPLE_RATE, 1, self._library.voip)
        weakref.finalize(self, encoder.destroy, self._state)
        encoder.encoder_ctl(self._state, ctl.set_bitrate, bitrate)
        encoder.encoder_ctl(self._state, ctl.set_inband_fec, int(fec))
        encoder.encoder_ctl(self._state, ctl.set_dtx, int(dtx))
        self._complexity, self._rate = complexity, rate
        self._crowd = self._crowd_begins = False
        encoder.encoder_ctl(self._state, ctl.set_complexity, complexity)
        encoder.encoder_ctl(self._state, ctl.set_max_bandwidth, BANDWIDTHS[rate])
        self._fec = fec
        self.expect_loss(expected_loss_percent)
        self._dtx = dtx
        self._pcm = np.zeros(self.samples, np.int16)
        self._pcm_pointer = self._pcm.ctypes.data_as(self._library.samples_pointer)
        self._packet = ctypes.create_string_buffer(MAX_ENCODED)

    @property
    def lookahead(self) -> int:
        """Samples by which the decoded sound is later than what went in (312 at 48 kHz, RFC 6716's algorithmic delay)."""
        encoder, ctl = self._library.encoder, self._library.ctl
        return int(encoder.encoder_ctl(self._state, ctl.get_lookahead))

    def expect_loss(self, percent: int) -> None:
        """From the next frame on repeat frames against a loss of 0–100 %; 0 repeats nothing. Without ``fec`` it changes nothing."""
        if not 0 <= percent <= 100:
            raise LocalError(f"expected loss of {percent} % is not in 0–100")
        encoder, ctl = self._library.encoder, self._library.ctl
        encoder.encoder_ctl(self._state, ctl.set_packet_loss_perc, percent if self._fec else 0)

    def continue_from(self, other: Encoder) -> None:
        """Go on as ``other`` would: who has followed its packets until now follows ours from here on, and hears no seam. Both are made alike."""
        # libopus keeps all of an encoder in one piece without pointers, and says that a copy of it is an encoder ("a shallow copy is sufficient").
        ctypes.memmove(self._state, other._state, self._library.encoder.get_size(1))
        self._crowd, self._crowd_begins = other._crowd, other._crowd_begins

    def voices(self, count: int) -> None:
        """How many voices there are in the sound from now on: a crowd is coded for a tenth of the work (module docstring)."""
        crowd = self.bitrate >= CROWD_BITRATE and count >= (CROWD_OVER + 1 if self._crowd else CROWD)
        if crowd is self._crowd:
            return
        self._crowd = self._crowd_begins = crowd
        encoder_ctl, ctl, state = self._library.encoder.encoder_ctl, self._library.ctl, self._state
        encoder_ctl(state, ctl.set_signal, MUSIC if crowd else AUTOMATIC)
        encoder_ctl(state, ctl.set_max_bandwidth, BANDWIDTHS[min(self._rate, WIDE) if crowd else self._rate])
        encoder_ctl(state, ctl.set_complexity, CROWD_FIRST if crowd else self._complexity)

    def encode(self, pcm: Pcm) -> bytes:
        """One packet, or ``b""`` where DTX says that nothing needs to be sent.

        Raises :class:`~ice.errors.LocalError` unless ``pcm`` is ``int16[self.samples]``, or where libopus refuses (versions before
        1.2 know no frames of 80 and 100 ms).
        """
        self._pcm[:] = check_frame(pcm, self.samples)
        size = self._library.encoder.libopus_encode(
            self._state, self._pcm_pointer, self.samples, self._packet, MAX_ENCODED
        )
        if size < 0:
            raise LocalError(
                f"{version()} refused a frame of {self.framing_ms} ms: {self._library.explain(size)}"
            )
        if self._crowd_begins:
            self._crowd_begins = False
            self._library.encoder.encoder_ctl(self._state, self._library.ctl.set_complexity, CROWD_COMPLEXITY)
        if self._dtx and size <= 2:
            return b""  # libopus: a packet of one or two bytes need not be sent
        return ctypes.string_at(self._packet, size)

    def reset(self) -> None:
        """Forget what was heard: the next frame begins a new burst."""
        self._library.encoder.encoder_ctl(self._state, self._library.ctl.reset_state)


class Decoder:
    """One talker's packets to PCM, ``int16[n]``, 48 kHz mono (a stereo packet is mixed down). Not for two threads at once."""

    def __init__(self) -> None:
        self._library = _library()
        decoder = self._library.decoder
        self._decode = decoder.libopus_decode
        self._state = decoder.create_state(SAMPLE_RATE, 1)
        weakref.finalize(self, decoder.destroy, self._state)
        self._pcm = np.zeros(MAX_PACKET_SAMPLES, np.int16)
        self._pcm_pointer = self._pcm.ctypes.data_as(self._library.samples_pointer)

    def samples_48k(self, payload: bytes) -> int:
        """See :func:`packet_samples`."""
        return packet_samples(payload)

    def recoverable(self, following: bytes) -> bool:
        """See :func:`carries_fec`."""
        return carries_fec(following)

    def decode(self, payload: bytes) -> Pcm:
        """The packet's sound; raises :class:`~ice.media.payload.MalformedPayload`, after which the decoder goes on working."""
        samples = packet_samples(payload)
        return self._run(payload, samples, 0)

    def conceal(self, samples: int, following: bytes | None = None) -> Pcm:
        """Exactly ``samples`` in place of what was lost or, in a pause, never sent.

        ``following`` is the packet right behind the gap, if it is here already: where it carries a copy of the frame before it, that
        becomes the end of what is returned. It must still be given to :meth:`decode` afterwards.
        """
        check_conceal(samples)
        whole = -(-samples // CONCEAL_STEP) * CONCEAL_STEP
        recover = following if following is not None and carries_fec(following) else None
        pieces = []
        left = whole
        while left > MAX_PACKET_SAMPLES:
            pieces.append(self._run(b"", MAX_PACKET_SAMPLES, 0))
            left -= MAX_PACKET_SAMPLES
        try:
            pieces.append(self._run(recover or b"", left, int(recover is not None)))
        except MalformedPayload:
            pieces.append(self._run(b"", left, 0))
        pcm = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        # What is recovered joins what comes after it, what is extrapolated joins what came before.
        return pcm[whole - samples :] if recover is not None else pcm[:samples]

    def reset(self) -> None:
        """Forget the talker: the next packet begins a new burst."""
        self._library.decoder.decoder_ctl(self._state, self._library.ctl.reset_state)

    def _run(self, payload: bytes, samples: int, fec: int) -> Pcm:
        done = self._decode(
            self._state, payload or None, len(payload), self._pcm_pointer, samples, fec
        )  # a null pointer, or no bytes, is libopus's word for "lost"
        if done < 0:
            raise MalformedPayload("corrupt", f"libopus: {self._library.explain(done)}")
        return self._pcm[:done].copy()
