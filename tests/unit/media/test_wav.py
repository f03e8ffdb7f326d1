"""WAV files: every sample format in, 16 bits out, and what broken files get."""

import os
import signal
import struct
import subprocess
import sys
import wave
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media import tones, wav
from ice.media.wav import BadWav, WavWriter

TONE = tones.sine(1_000, 48_000, level_dbov=-20)
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A RIFF WAVE file of these chunks."""
    body = b"WAVE"
    for name, data in chunks:
        body += name + struct.pack("<I", len(data)) + data + bytes(len(data) & 1)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def plain(code: int, bits: int, channels: int = 1, rate: int = 48_000) -> tuple[bytes, bytes]:
    """A plain format chunk."""
    size = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", code, channels, rate, rate * size, size, bits)


def extensible(code: int, bits: int, channels: int = 1, rate: int = 48_000) -> tuple[bytes, bytes]:
    """An extensible format chunk."""
    name, data = plain(0xFFFE, bits, channels, rate)
    return name, data + struct.pack("<HHIH", 22, bits, 0, code) + GUID_TAIL


def raw(kind: str, samples: np.ndarray) -> bytes:
    """Samples of ±1 in one of the formats of a file."""
    match kind:
        case "u8":
            return np.asarray(np.rint(samples * 127 + 128), np.uint8).tobytes()
        case "s16":
            return np.asarray(np.rint(samples * 32_767), "<i2").tobytes()
        case "s24":
            wide = np.asarray(np.rint(samples * 8_388_607), "<i4").tobytes()
            return b"".join(wide[at : at + 3] for at in range(0, len(wide), 4))
        case "s32":
            return np.asarray(np.rint(samples * 2_147_483_647), "<i4").tobytes()
        case "f32":
            return samples.astype("<f4").tobytes()
        case _:
            return samples.astype("<f8").tobytes()


FORMATS = {"u8": (1, 8), "s16": (1, 16), "s24": (1, 24), "s32": (1, 32), "f32": (3, 32), "f64": (3, 64)}


class WavCase(SynchronousTestCase):
    def file(self, data: bytes) -> Path:
        """A file with this content; one per test and call."""
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def path(self) -> Path:
        path = Path(self.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class ReadTests(WavCase):
    def test_every_format(self) -> None:
        """Each sample format, with a plain and an extensible header, gives the same tone."""
        spoken = TONE / 32_768
        for kind, (code, bits) in FORMATS.items():
            for header in (plain, extensible):
                with self.subTest(kind=kind, header=header.__name__):
                    path = self.file(riff(header(code, bits), (b"data", raw(kind, spoken))))
                    heard = wav.read(path)
                    worst = int(np.abs(heard.astype(int) - TONE).max())
                    self.assertLessEqual(worst, 140 if kind == "u8" else 1)

    def test_sixteen_bits_exactly(self) -> None:
        """At 48 kHz 16-bit samples come out as they are, extremes included."""
        samples = np.array([0, 1, -1, 32_767, -32_768], np.int16)
        path = self.file(riff(plain(1, 16), (b"data", samples.tobytes())))
        self.assertEqual(wav.read(path).tolist(), samples.tolist())

    def test_every_rate(self) -> None:
        """From 4 to 192 kHz: a second stays a second, the tone its pitch and level."""
        for rate in (4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000):
            with self.subTest(rate=rate):
                tone = tones.sine(1_000, rate, level_dbov=-20, rate=rate)
                heard = wav.read(self.file(riff(plain(1, 16, rate=rate), (b"data", tone.tobytes()))))
                self.assertEqual(len(heard), 48_000)
                self.assertApproximates(tones.level_dbov(heard[4_800:-4_800]), -20, 0.1)
                self.assertEqual(int(np.argmax(np.abs(np.fft.rfft(heard.astype(float))))), 1_000)

    def test_other_rates_out(self) -> None:
        """A file can be read at another rate than 48 kHz."""
        path = self.file(riff(plain(1, 16), (b"data", TONE.tobytes())))
        self.assertEqual(len(wav.read(path, rate=8_000)), 8_000)
        self.assertRaises(LocalError, wav.read, path, rate=1)

    def test_channels_are_averaged(self) -> None:
        """Two channels, one of them silent, are half as loud; opposite ones cancel out."""
        for factors, level in (((1.0, 0.0), -26.02), ((1.0, 1.0, 1.0), -20.0), ((1.0, -1.0), -127.0)):
            samples = np.stack([TONE / 32_768 * factor for factor in factors], axis=1)
            path = self.file(riff(plain(3, 32, len(factors)), (b"data", raw("f32", samples))))
            self.assertApproximates(tones.level_dbov(wav.read(path)), level, 0.1)

    def test_wild_floats(self) -> None:
        """Not-a-number is silence, infinity and overdrive are clipped."""
        samples = np.array([np.nan, np.inf, -np.inf, 3.0, -1e300, 0.5])
        path = self.file(riff(plain(3, 64), (b"data", samples.tobytes())))
        self.assertEqual(wav.read(path).tolist(), [0, 32_767, -32_768, 32_767, -32_768, 16_384])

    def test_other_chunks(self) -> None:
        """Chunks of other kinds, of odd length too, before and behind the samples, are passed over."""
        path = self.file(
            riff(
                (b"LIST", b"odd"),
                plain(1, 16),
                (b"fact", bytes(4)),
                (b"data", TONE.tobytes()),
                (b"id3 ", b"x"),
            )
        )
        self.assertEqual(wav.read(path).tolist(), TONE.tolist())

    def test_no_samples(self) -> None:
        """A file without a sample is a file of no samples."""
        for rate in (48_000, 16_000):
            self.assertEqual(len(wav.read(self.file(riff(plain(1, 16, rate=rate), (b"data", b""))))), 0)

    def test_spoken_line(self) -> None:
        """The spoken line that is shipped is 4 to 6 s of speech, small, with quiet edges."""
        with as_file(files("ice.testing") / "data" / "speech.wav") as path:
            self.assertLess(path.stat().st_size, 200_000)
            form, pcm = wav.inspect(path), wav.read(path)
        self.assertEqual((form.rate, form.bits, form.channels), (16_000, 16, 1))
        self.assertTrue(4 < form.seconds < 6)
        self.assertTrue(-30 < tones.level_dbov(pcm) < -18)
        self.assertLess(tones.level_dbov(pcm[:4_000]), -60)


class BrokenTests(WavCase):
    def refused(self, data: bytes, *words: str) -> None:
        path = self.file(data)
        error = self.assertRaises(BadWav, wav.read, path)
        for word in (str(path), *words):
            self.assertIn(word, str(error))

    def test_truncations(self) -> None:
        """Cut at every byte, a file is refused by name, never half read."""
        whole = riff((b"LIST", b"some"), extensible(1, 16), (b"data", TONE[:20].tobytes()))
        path = self.file(whole)
        for length in range(len(whole)):
            with path.open("wb") as file:
                file.write(whole[:length])
            self.assertIn(str(path), str(self.assertRaises(BadWav, wav.read, path)))
        path.write_bytes(whole)
        self.assertEqual(len(wav.read(path)), 20)

    def test_lies(self) -> None:
        """Each contradiction is named with what was said and what is there."""
        data = (b"data", TONE[:100].tobytes())
        self.refused(b"", "no WAV file")
        self.refused(b"ID3\x04" + bytes(100), "no WAV file")
        self.refused(b"RIFX" + riff(plain(1, 16), data)[4:], "big-endian")
        self.refused(b"RF64" + riff(plain(1, 16), data)[4:], "64-bit")
        self.refused(riff(data), "before any word of their format")
        self.refused(riff(plain(1, 16)), "no data chunk")
        self.refused(riff((b"fmt ", bytes(15)), data), "15 bytes")
        self.refused(riff(plain(1, 12), data), "12 bits")
        self.refused(riff(plain(6, 8), data), "0x0006")
        self.refused(riff(plain(1, 16, 0), data), "0 channels")
        self.refused(riff(plain(1, 16, 65), data), "65 channels")
        self.refused(riff(plain(1, 16, 1, 3_999), data), "3999 Hz")
        self.refused(riff(plain(1, 16, 1, 192_001), data), "192001 Hz")
        self.refused(riff(plain(1, 16, 3), data), "end inside a frame of 6 bytes")
        name, form = plain(1, 16)
        self.refused(riff((name, form[:12] + b"\x03\x00" + form[14:]), data), "3 bytes per frame")
        self.refused(riff((name, b"\xfe\xff" + form[2:]), data), "40 are needed")
        name, form = extensible(1, 16)
        self.refused(riff((name, form[:-1] + b"\0"), data), "0xfffe")
        self.refused(riff(*[(b"JUNK", b"")] * 1_001, plain(1, 16), data), "1000 chunks")

    def test_length_of_a_pipe(self) -> None:
        """A file whose length was never filled in is refused with the command that mends it."""
        whole = riff(plain(1, 16), (b"data", TONE[:100].tobytes()))
        at = whole.index(b"data") + 4
        self.refused(
            whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :], "200 are there", "sox --ignore-length"
        )

    def test_too_long(self) -> None:
        """More sound than was asked for is refused before it is read."""
        path = self.file(riff(plain(1, 16), (b"data", TONE.tobytes())))
        error = self.assertRaises(BadWav, wav.read, path, max_seconds=0.5)
        self.assertIn("1.0 s", str(error))

    def test_no_file(self) -> None:
        """A file that is not there, and a folder, are named."""
        for path in (Path("/nowhere/at-all.wav"), Path("/")):
            self.assertIn(str(path), str(self.assertRaises(BadWav, wav.read, path)))
            self.assertRaises(BadWav, wav.inspect, path)
            self.assertIn(str(path), str(self.assertRaises(BadWav, WavWriter, path)))

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, 83), st.binary(min_size=1, max_size=4))
    def test_mutations(self, position: int, change: bytes) -> None:
        """A header changed anywhere is read or refused by name."""
        whole = bytearray(riff(extensible(1, 16), (b"data", TONE[:10].tobytes())))
        whole[position : position + len(change)] = change
        path = self.file(bytes(whole))
        try:
            wav.read(path)
        except BadWav as error:
            self.assertIn(str(path), str(error))
        finally:
            path.unlink()


class WriteTests(WavCase):
    def test_round_trip(self) -> None:
        """What is written at 48 kHz is read as it was, by us and by Python's own reader."""
        path = self.path()
        wav.write(path, TONE)
        self.assertEqual(wav.read(path).tolist(), TONE.tolist())
        with wave.open(str(path)) as other:
            self.assertEqual(other.getparams()[:4], (1, 2, 48_000, 48_000))
            self.assertEqual(other.readframes(48_000), TONE.tobytes())

    def test_header(self) -> None:
        """The 44 bytes of the simplest header there is."""
        path = self.path()
        wav.write(path, TONE[:2], rate=48_000)
        riff_chunk = "52494646 28000000 57415645"  # RIFF, 40 bytes, WAVE
        form = (
            "666d7420 10000000 0100 0100 80bb0000 00770100 0200 1000"  # PCM, mono, 48,000 Hz, 96,000 bytes/s
        )
        samples = "64617461 04000000"  # data, 4 bytes
        self.assertEqual(path.read_bytes()[:44], bytes.fromhex(riff_chunk + form + samples))

    def test_other_rates(self) -> None:
        """At any other rate the length and the tone stay, piece by piece."""
        for rate in (8_000, 16_000, 44_100, 96_000):
            with self.subTest(rate=rate):
                path = self.path()
                with WavWriter(path, rate=rate) as writer:
                    for at in range(0, 48_000, 960):
                        writer.write(TONE[at : at + 960])
                self.assertEqual(wav.inspect(path).rate, rate)
                self.assertApproximates(writer.frames, rate, 2)
                back = wav.read(path)
                self.assertApproximates(tones.level_dbov(back[4_800:-4_800]), -20, 0.1)

    def test_playable_after_each_piece(self) -> None:
        """Whenever one looks, the file is whole and holds all that was written."""
        path = self.path()
        with WavWriter(path) as writer:
            self.assertEqual(len(wav.read(path)), 0)
            for count in range(1, 6):
                writer.write(TONE[:960])
                self.assertEqual(len(wav.read(path)), 960 * count)
                self.assertEqual(writer.seconds, 0.02 * count)

    def test_killed(self) -> None:
        """A process that is killed in the middle leaves all that it wrote, playable."""
        path = self.path()
        program = (
            "import os, signal, sys, numpy as np; from ice.media.wav import WavWriter\n"
            "writer = WavWriter(sys.argv[1])\n"
            "for _ in range(10): writer.write(np.full(960, 1000, np.int16))\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        root = Path(wav.__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-c", program, str(path.absolute())],
            env={**os.environ, "PYTHONPATH": str(root)},
            check=False,
        )
        self.assertEqual(done.returncode, -signal.SIGKILL)
        self.assertEqual(wav.read(path).tolist(), [1_000] * 9_600)

    def test_misuse(self) -> None:
        """Wrong samples, a closed writer and a rate out of range are refused; closing twice is not."""
        writer = WavWriter(self.path())
        self.assertRaises(LocalError, writer.write, np.zeros(10))
        self.assertRaises(LocalError, writer.write, np.zeros((10, 2), np.int16))
        writer.close()
        writer.close()
        self.assertRaises(BadWav, writer.write, TONE)
        self.assertRaises(LocalError, WavWriter, self.path(), rate=3_999)

    def test_full_disk(self) -> None:
        """A full disk is named with the file."""
        if not Path("/dev/full").exists():
            return
        error = self.assertRaises(BadWav, wav.write, "/dev/full", TONE)
        self.assertIn("/dev/full", str(error))

    def test_full_file(self) -> None:
        """Before its 32-bit sizes overflow, the file says that it is full and stays whole."""
        path = self.path()
        with WavWriter(path) as writer:
            writer.write(TONE[:10])
            writer.frames = wav.MAX_DATA // 2 - 5
            self.assertIn("12.4 h", str(self.assertRaises(BadWav, writer.write, TONE[:10])))
        self.assertEqual(len(wav.read(path)), 10)
