"""Foreign programs on a local network, for tests: ffmpeg and GStreamer say a sentence into multicast groups and hear it there; what they heard is scored.

PESQ depends on the sentence and on the machine's mood, so a score is held against that of another receiver of the same run, never against a number.
"""

import re
import shlex
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import attrs
import numpy as np
import pytest
import soxr

from ice.cli.speech import SPEECH
from ice.media import quality, wav
from ice.media.payload import Pcm

from .conftest import Program
from .lan import Host

SPOKEN_S = 4.0
LEAD_S = 0.3  # of silence: programs that have just started lose their first packets
ALLOWED = 0.1  # how much worse than the foreign program itself a score may be
WAIT_S = 30.0


def missing(*programs: str) -> list[str]:
    """Which of these are not installed."""
    return [each for each in programs if shutil.which(each) is None]


@attrs.frozen
class Kind:
    """A codec as each side calls it: its RTP map, what ffmpeg and GStreamer call its encoder, and their elements around it."""

    name: str
    payload_type: int
    clock: int
    rtpmap: str
    rate: int
    ffmpeg: str
    gst_encode: str = ""
    gst_decode: str = ""
    caps: str = ""


OPUS = Kind(
    "opus", 118, 48_000, "opus/48000/2", 48_000,
    "-c:a libopus -b:a 24k -application voip -frame_duration 20",
    "opusenc bitrate=24000 audio-type=voice frame-size=20 ! rtpopuspay pt=118",
    "rtpopusdepay ! opusdec", "OPUS",
)  # fmt: skip
PCMU = Kind(
    "pcmu", 0, 8_000, "PCMU/8000", 8_000,
    "-af aresample=8000,asetnsamples=n=160:p=0 -c:a pcm_mulaw",
    "mulawenc ! rtppcmupay pt=0 min-ptime=20000000 max-ptime=20000000",
    "rtppcmudepay ! mulawdec", "PCMU",
)  # fmt: skip
GSM = Kind(  # ffmpeg has no way of saying it over RTP
    "gsm", 3, 8_000, "GSM/8000", 8_000, "", "gsmenc ! rtpgsmpay pt=3", "rtpgsmdepay ! gsmdec", "GSM"
)
G722 = Kind("g722", 9, 8_000, "G722/8000", 16_000, "-af aresample=16000,asetnsamples=n=320:p=0 -c:a g722")
SPEEX = Kind("speex", 97, 8_000, "speex/8000", 8_000, "-c:a libspeex -b:a 18200")
L16 = Kind(
    "l16", 100, 16_000, "L16/16000", 16_000,
    "-af aresample=16000,asetnsamples=n=320:p=0 -c:a pcm_s16be",
    "rtpL16pay pt=100 min-ptime=20000000 max-ptime=20000000",
    "rtpL16depay", "L16,encoding-params=(string)1,channels=1",
)  # fmt: skip


@cache
def spoken() -> Pcm:
    """The sentence, with silence around it."""
    pcm = wav.read(SPEECH)[: round(SPOKEN_S * 48_000)]
    return np.concatenate((np.zeros(round(LEAD_S * 48_000), np.int16), pcm, np.zeros(14_400, np.int16)))


@cache
def score(path: Path, rate: int) -> float:
    """PESQ of what was heard against what was said, wide band where the codec is."""
    pesq = pytest.importorskip("pesq", reason="the extra quality (pesq) is not installed")
    heard = np.fromfile(path, "<i2") if path.suffix == ".pcm" else wav.read(path)
    offset_s = quality.compare(spoken(), heard).offset_ms / 1_000
    start = round(offset_s * 48_000)
    padded = np.concatenate((np.zeros(max(0, -start), np.int16), heard[max(0, start) :]))
    length = len(spoken())
    padded = np.concatenate((padded, np.zeros(max(0, length - len(padded)), np.int16)))[:length]
    wide = rate > 8_000
    at = 16_000 if wide else 8_000
    reference, degraded = (soxr.resample(pcm, 48_000, at) for pcm in (spoken(), padded))
    return float(pesq.pesq(at, reference, degraded, "wb" if wide else "nb"))


@attrs.frozen
class Way:
    """One stream: who says it, in which codec, where."""

    name: str
    kind: Kind
    index: int

    @property
    def group(self) -> str:
        """Its multicast group."""
        return f"239.255.74.{self.index}"

    @property
    def by(self) -> str:
        """Who says it."""
        return self.name.partition("-")[0]

    @property
    def port(self) -> int:
        """A port of its own too: foreign programs hear every group of a port."""
        return 5_002 + 2 * self.index

    def session(self, folder: Path) -> Path:
        """A description of it (SDP, RFC 8866), as ffmpeg wants to be told."""
        file = folder / f"{self.name}.sdp"
        lines = (
            "v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", f"c=IN IP4 {self.group}/1", "t=0 0",
            f"m=audio {self.port} RTP/AVP {self.kind.payload_type}", f"a=rtpmap:{self.kind.payload_type} {self.kind.rtpmap}",
        )  # fmt: skip
        file.write_text("\r\n".join(lines) + "\r\n")
        return file


def listening(session: Path, sound: Path) -> list[str]:
    """What ffmpeg is told to hear a session, and write 48 kHz without a header."""
    words = f"-hide_banner -loglevel warning -protocol_whitelist file,udp,rtp -i {session} -ac 1 -ar 48000 -f s16le -flush_packets 1 -y {sound}"
    return shlex.split(words)


@attrs.frozen
class Stage:
    """Four hosts: foreign senders, ours, ffmpeg's receivers, GStreamer's receivers."""

    hosts: tuple[Host, Host, Host, Host]
    start: Callable[..., Program]
    folder: Path
    ttl: int = 1

    def says(self, way: Way, file: Path) -> Program:
        """Talk as the program does that the way is named after."""
        return (self.ffmpeg_says if way.by == "ffmpeg" else self.gstreamer_says)(way, file)

    def hears(self, way: Way, by: str) -> Program:
        """Hear as that program does."""
        return (self.ffmpeg_hears if by == "ffmpeg" else self.gstreamer_hears)(way)

    def ffmpeg_says(self, way: Way, file: Path) -> Program:
        """Talk as ffmpeg does."""
        words = f"-hide_banner -loglevel warning -re -i {file} -ac 1 -ar {way.kind.rate} {way.kind.ffmpeg} -payload_type {way.kind.payload_type} -f rtp"
        return self.start(
            *self.hosts[0].command(
                "ffmpeg", *shlex.split(words), f"rtp://{way.group}:{way.port}?ttl={self.ttl}"
            )
        )

    def ffmpeg_hears(self, way: Way) -> Program:
        """Hear as ffmpeg does; the sound, without a header, is in ``NAME-ffmpeg.pcm``."""
        words = listening(way.session(self.folder), self.sound(way, "ffmpeg"))
        return self.start(*self.hosts[2].command("ffmpeg", *words))

    def gstreamer_says(self, way: Way, file: Path) -> Program:
        """Talk as GStreamer does."""
        words = (
            f"filesrc location={file} ! wavparse ! audioconvert ! audioresample ! audio/x-raw,rate={way.kind.rate},channels=1 ! {way.kind.gst_encode} ! "
            f"udpsink host={way.group} port={way.port} multicast-iface=eth0 ttl-mc={self.ttl} auto-multicast=true"
        )
        return self.start(*self.hosts[0].command("gst-launch-1.0", "-q", *shlex.split(words)))

    def gstreamer_hears(self, way: Way) -> Program:
        """Hear as GStreamer does; the sound is in ``NAME-gstreamer.wav``."""
        caps = f"application/x-rtp,media=audio,clock-rate={way.kind.clock},encoding-name={way.kind.caps},payload={way.kind.payload_type}"
        words = (
            f"udpsrc address={way.group} port={way.port} multicast-iface=eth0 caps={caps} ! rtpjitterbuffer latency=100 ! {way.kind.gst_decode} ! "
            f"audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=1,format=S16LE ! wavenc ! filesink location={self.sound(way, 'gstreamer')}"
        )
        return self.start(*self.hosts[3].command("gst-launch-1.0", "-q", "-e", *shlex.split(words)))

    def sound(self, way: Way, by: str) -> Path:
        """Where what one has heard of a stream is found."""
        return self.folder / f"{way.name}-{by}.{'pcm' if by == 'ffmpeg' else 'wav'}"

    def joined(self, host: Host) -> int:
        """How many groups a host is in."""
        return len(re.findall(r"inet\s+239\.255\.74\.", host.ip("maddress", "show", "dev", "eth0")))


def wait_until(fact: Callable[[], bool], *programs: Program) -> None:
    """Wait for a fact; fails with what the programs said when it does not come."""
    until = time.monotonic() + WAIT_S
    while not fact():
        assert time.monotonic() < until, "\n---\n".join(program.output()[-2_000:] for program in programs)
        time.sleep(0.02)
