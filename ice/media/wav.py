"""WAV files in and out (RIFF WAVE, Microsoft's multimedia formats of 1991 and 1994).

**Reading** takes integer PCM of 8, 16, 24 and 32 bits and floating point of 32 and 64, with a plain or an extensible format chunk, 1 to
64 channels, 4 to 192 kHz, and gives ``int16[n]``, mono, 48 kHz by default: channels are averaged, the rate is changed by soxr at its high
quality. The file is read a second at a time, so a large one costs only what it becomes. A header is believed as far as the
file bears it out; what does not fit is a :class:`BadWav` that names the file, what was expected and what is there.

**Writing** goes through :class:`WavWriter`, which brings the sizes in the header up to date with every piece it writes, after the
samples themselves: a process that is killed leaves a file that plays up to its last piece.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import attrs
import numpy as np
import numpy.typing as npt
import soxr

from ice.errors import LocalError
from ice.media.payload import SAMPLE_RATE, Pcm

MIN_RATE: Final = 4_000
MAX_RATE: Final = 192_000
MAX_CHANNELS: Final = 64
MAX_CHUNKS: Final = 1_000  # before the samples; recorders write a dozen at most
MAX_SECONDS: Final = 3_600.0  # an hour is 346 MB in memory; nobody talks longer from a file
MAX_FORMAT: Final = 4_096  # bytes of a format chunk worth reading; 40 are defined
HEADER_SIZE: Final = 44
MAX_DATA: Final = 0xFFFF_FFFF - HEADER_SIZE  # the header counts in 32 bits: 12.4 hours at 48 kHz

_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_GUID_TAIL: Final = bytes.fromhex(
    "000000001000800000aa00389b71"
)  # of the formats that have an old 16-bit code
_SUPPORTED: Final = {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}


class BadWav(LocalError):
    """The file is no WAV file that can be read, or cannot be written; the message names it and what is wrong."""


@attrs.frozen
class Format:
    """What a file says about its samples: ``code`` 1 integer or 3 floating point, per-channel ``bits``, ``rate`` in Hz, ``frames`` of them."""

    code: int
    bits: int
    channels: int
    rate: int
    frames: int

    @property
    def frame_size(self) -> int:
        return self.channels * self.bits // 8

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def read(path: Path | str, *, rate: int = SAMPLE_RATE, max_seconds: float = MAX_SECONDS) -> Pcm:
    """The whole file as ``int16[n]``, mono, at ``rate`` Hz; n is the file's length in seconds × rate, rounded.

    Raises :class:`BadWav`: not there, not WAV, cut short, a header that contradicts itself, longer than ``max_seconds``.
    """
    _check_rate(rate)
    try:
        with Path(path).open("rb") as file:
            form = _open(path, file)
            if form.seconds > max_seconds:
                raise BadWav(f"{path}: {form.seconds:.1f} s long; at most {max_seconds:g} s are read")
            return _resampled(_mono_blocks(path, file, form), form, rate)
    except OSError as error:
        raise BadWav(f"{path}: cannot be read: {error.strerror or error}") from error


def inspect(path: Path | str) -> Format:
    """What the file's header says, checked against the file's size; raises :class:`BadWav`."""
    try:
        with Path(path).open("rb") as file:
            return _open(path, file)
    except OSError as error:
        raise BadWav(f"{path}: cannot be read: {error.strerror or error}") from error


def write(path: Path | str, pcm: Pcm, *, rate: int = SAMPLE_RATE) -> None:
    """Write ``int16[n]``, 48 kHz mono, as a 16-bit mono file at ``rate`` Hz, over whatever was there; raises :class:`BadWav`."""
    with WavWriter(path, rate=rate) as writer:
        writer.write(pcm)


class WavWriter:
    """A 16-bit mono file at ``rate`` Hz that grows by pieces of ``int16[n]``, 48 kHz mono, and is playable after each.

    At another rate than 48 kHz the resampler holds back up to 0.15 s, which :meth:`close` writes. A context manager. Every method may
    raise :class:`BadWav`: no permission, disk full (the file is closed then, whole up to the last piece), 4 GiB reached.
    """

    def __init__(self, path: Path | str, *, rate: int = SAMPLE_RATE) -> None:
        self.path = Path(path)
        self.rate = _check_rate(rate)
        self.frames = 0
        """Samples in the file so far, at its own rate."""
        self._resampler = (
            None if rate == SAMPLE_RATE else soxr.ResampleStream(SAMPLE_RATE, rate, 1, dtype="int16")
        )
        self._file: BinaryIO | None = None
        try:
            self._file = self.path.open("wb", buffering=0)
            self._file.write(self._header())
        except OSError as error:
            raise self._failed(error) from error

    @property
    def seconds(self) -> float:
        """How much sound is in the file."""
        return self.frames / self.rate

    def write(self, pcm: Pcm) -> None:
        """Append ``int16[n]``, 48 kHz mono."""
        if pcm.dtype != np.int16 or pcm.ndim != 1:
            raise LocalError(f"a WAV file is written from int16[n], not {pcm.dtype}{list(pcm.shape)}")
        if self._file is None:
            raise BadWav(f"{self.path}: is closed and cannot be written to any more")
        if self._resampler is not None:
            pcm = self._resampler.resample_chunk(np.ascontiguousarray(pcm))
        self._append(pcm)

    def close(self) -> None:
        """Write what the resampler still holds and let the file go. A second time does nothing."""
        if self._file is None:
            return
        try:
            if self._resampler is not None:
                self._append(self._resampler.resample_chunk(np.zeros(0, np.int16), last=True))
        finally:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, pcm: Pcm) -> None:
        assert self._file is not None
        if not len(pcm):
            return
        if (self.frames + len(pcm)) * 2 > MAX_DATA:
            raise BadWav(
                f"{self.path}: is full; a WAV file holds {MAX_DATA / 2 / self.rate / 3600:.1f} h at this rate"
            )
        try:
            data = memoryview(pcm.astype("<i2").tobytes())
            while data:
                data = data[self._file.write(data) :]
            self.frames += len(pcm)
            # The samples are there before the header says so, whenever the process ends.
            os.pwrite(self._file.fileno(), self._header(), 0)
        except OSError as error:
            raise self._failed(error) from error

    def _header(self) -> bytes:
        size = self.frames * 2
        return struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            b"RIFF", HEADER_SIZE - 8 + size, b"WAVE",
            b"fmt ", 16, _PCM, 1, self.rate, self.rate * 2, 2, 16,
            b"data", size,
        )  # fmt: skip

    def _failed(self, error: OSError) -> BadWav:
        """Let go of the file, which is as it was before the piece that could not be written, and say why."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
        return BadWav(f"{self.path}: cannot be written: {error.strerror or error}")


def _check_rate(rate: int) -> int:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise LocalError(f"a sample rate of {rate} Hz is not in {MIN_RATE}–{MAX_RATE}")
    return rate


def _open(path: Path | str, file: BinaryIO) -> Format:
    """Read up to the first sample; raises :class:`BadWav` unless the rest of the file is as the header says."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        known = {b"RIFX": "big-endian", b"RF64": "64-bit", b"BW64": "64-bit"}.get(head[:4])
        kind = f"a {known} WAV file" if known else "no WAV file"
        raise BadWav(f"{path}: is {kind}; a little-endian RIFF WAVE file is expected")
    form: Format | None = None
    for _ in range(MAX_CHUNKS):
        chunk = file.read(8)
        if len(chunk) < 8:
            raise BadWav(f"{path}: ends before its samples; it has no data chunk")
        name, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        left = size - file.tell()
        if name == b"data":
            if form is None:
                raise BadWav(f"{path}: its samples come before any word of their format")
            return _with_data(path, form, length, left)
        if length > left:
            label = name.decode("latin-1").strip()
            raise BadWav(
                f"{path}: its {label!r} chunk should have {length} bytes, {left} are left; it is cut short"
            )
        if name == b"fmt ":
            body = file.read(min(length, MAX_FORMAT))
            form = _format(path, body)
            length -= len(body)
            odd = (length + len(body)) & 1
        else:
            odd = length & 1
        file.seek(length + odd, os.SEEK_CUR)
    raise BadWav(f"{path}: has more than {MAX_CHUNKS} chunks before its samples")


def _format(path: Path | str, body: bytes) -> Format:
    if len(body) < 16:
        raise BadWav(f"{path}: its format chunk has {len(body)} bytes, at least 16 are needed")
    code, channels, rate, _, frame_size, bits = struct.unpack_from("<HHIIHH", body)
    if code == _EXTENSIBLE:
        if len(body) < 40:
            raise BadWav(f"{path}: its extensible format chunk has {len(body)} bytes, 40 are needed")
        code = int.from_bytes(body[24:26], "little") if body[26:40] == _GUID_TAIL else _EXTENSIBLE
    if (code, bits) not in _SUPPORTED:
        raise BadWav(
            f"{path}: holds samples of format {code:#06x} with {bits} bits; PCM of 8, 16, 24 or 32 bits and float of 32 or 64 are read"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise BadWav(f"{path}: says that it has {channels} channels; 1 to {MAX_CHANNELS} are read")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadWav(f"{path}: says that its sample rate is {rate} Hz; {MIN_RATE} to {MAX_RATE} are read")
    if frame_size != channels * bits // 8:
        raise BadWav(
            f"{path}: says {frame_size} bytes per frame, but {channels} channels of {bits} bits make {channels * bits // 8}"
        )
    return Format(code, bits, channels, rate, 0)


def _with_data(path: Path | str, form: Format, length: int, left: int) -> Format:
    if length > left:
        raise BadWav(
            f"{path}: should have {length} bytes of samples, {left} are there; it is cut short, or was written to a pipe: "
            f"sox --ignore-length {path} mended.wav"
        )
    if length % form.frame_size:
        raise BadWav(f"{path}: its {length} bytes of samples end inside a frame of {form.frame_size} bytes")
    return attrs.evolve(form, frames=length // form.frame_size)


def _mono_blocks(path: Path | str, file: BinaryIO, form: Format) -> Iterator[npt.NDArray[np.float32]]:
    """About a second at a time, channels averaged, full scale ±1."""
    left = form.frames
    while left:
        count = min(left, form.rate)
        data = file.read(count * form.frame_size)
        if len(data) != count * form.frame_size:
            raise BadWav(f"{path}: became shorter while it was read")
        samples = _samples(data, form).reshape(count, form.channels)
        yield samples[:, 0] if form.channels == 1 else samples.mean(axis=1, dtype=np.float32)
        left -= count


def _samples(data: bytes, form: Format) -> npt.NDArray[np.float32]:
    match form.code, form.bits:
        case 1, 8:
            return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) * np.float32(2**-7)
        case 1, 16:
            return np.frombuffer(data, "<i2").astype(np.float32) * np.float32(2**-15)
        case 1, 24:
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            return wide.reshape(-1).view("<i4").astype(np.float32) * np.float32(2**-31)
        case 1, 32:
            return np.frombuffer(data, "<i4").astype(np.float32) * np.float32(2**-31)
        case _:
            real = np.frombuffer(data, "<f4" if form.bits == 32 else "<f8")
            # Not-a-number is silence; what is far over full scale is clipped before it can overflow a sum.
            return np.asarray(
                np.clip(np.nan_to_num(real, nan=0.0, posinf=8.0, neginf=-8.0), -8, 8), np.float32
            )


def _resampled(blocks: Iterator[npt.NDArray[np.float32]], form: Format, rate: int) -> Pcm:
    length = round(form.frames * rate / form.rate)
    pcm = np.zeros(length, np.int16)
    stream = None if form.rate == rate else soxr.ResampleStream(form.rate, rate, 1, dtype="float32")
    position = 0
    for block in blocks:
        position = _place(pcm, position, block if stream is None else stream.resample_chunk(block))
    if stream is not None:
        _place(pcm, position, stream.resample_chunk(np.zeros(0, np.float32), last=True))
    return pcm


def _place(pcm: Pcm, position: int, piece: npt.NDArray[np.float32]) -> int:
    end = min(position + len(piece), len(pcm))
    scaled = np.rint(piece[: end - position] * 32_768)
    pcm[position:end] = np.clip(scaled, -32_768, 32_767)
    return end
