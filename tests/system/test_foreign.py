"""Real foreign ends: ffmpeg and GStreamer talk to us and hear us over a multicast group, and tshark looks on.

Everything happens at the same time on four hosts of a local network: on one the foreign senders, on one ours, on two the foreign receivers, each stream on a group of its own. So
every score of ours is held against what the foreign program itself makes of the same stream in the same run: PESQ depends on the sentence and on the machine's mood.
"""

import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import attrs
import numpy as np
import pytest
import soxr

from ice.cli.speech import SPEECH
from ice.media import foreign, quality, wav
from ice.media.burst import END_COPIES
from ice.media.payload import Pcm

from .conftest import Program
from .lan import Host, Lan
from .roads import obstacle

PARTY = Path(__file__).with_name("foreign_party.py")
SPOKEN_S = 4.0
LEAD_S = 0.3  # of silence: programs that have just started lose their first packets
ALLOWED = 0.1  # how much worse than the foreign program itself a score may be
WAIT_S = 30.0
EXPEDITED = 46  # DSCP of voice, RFC 3246

NEEDED = ("ffmpeg", "gst-launch-1.0", "tshark")
MISSING = [each for each in NEEDED if shutil.which(each) is None]

pytestmark = [
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


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
MAIN, MORE = (OPUS, PCMU), (GSM, G722, SPEEX)


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


@attrs.frozen
class Stage:
    """Four hosts: foreign senders, ours, ffmpeg's receivers, GStreamer's receivers."""

    hosts: tuple[Host, Host, Host, Host]
    start: Callable[..., Program]
    folder: Path

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
            *self.hosts[0].command("ffmpeg", *shlex.split(words), f"rtp://{way.group}:{way.port}?ttl=1")
        )

    def ffmpeg_hears(self, way: Way) -> Program:
        """Hear as ffmpeg does; the sound, without a header, is in ``NAME-ffmpeg.pcm``."""
        words = f"-hide_banner -loglevel warning -protocol_whitelist file,udp,rtp -i {way.session(self.folder)} -ac 1 -ar 48000 -f s16le -flush_packets 1 -y {self.sound(way, 'ffmpeg')}"
        return self.start(*self.hosts[2].command("ffmpeg", *shlex.split(words)))

    def gstreamer_says(self, way: Way, file: Path) -> Program:
        """Talk as GStreamer does."""
        words = (
            f"filesrc location={file} ! wavparse ! audioconvert ! audioresample ! audio/x-raw,rate={way.kind.rate},channels=1 ! {way.kind.gst_encode} ! "
            f"udpsink host={way.group} port={way.port} multicast-iface=eth0 ttl-mc=1 auto-multicast=true"
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


def ended(ours: Program) -> int:
    """On how many streams ours has heard a burst to its end."""
    return len(set(re.findall(r"^ended (\S+)", ours.output(), re.MULTILINE)))


def carried(kind: Kind) -> bool:
    """Whether we both say and hear it on this machine."""
    support = {each.family: each for each in foreign.support()}
    return kind.name not in support or bool(support[kind.name].sends and support[kind.name].hears)


@attrs.frozen
class Heard:
    """What came of it all: sounds by who said it and who heard it, what ours said about itself, what was on the wire."""

    sounds: dict[tuple[str, str], Path]
    ours: str
    capture: Path

    def score(self, way: str, by: str, rate: int) -> float:
        """Of one stream as one party heard it."""
        path = self.sounds[way, by]
        assert path.exists(), f"{by} heard nothing of {way}\n{self.ours}"
        return score(path, rate)


FROM_FFMPEG = (Way("ffmpeg-opus", OPUS, 1), Way("ffmpeg-pcmu", PCMU, 2))
FROM_GSTREAMER = (Way("gstreamer-opus", OPUS, 3), Way("gstreamer-pcmu", PCMU, 4))
OTHERS = (Way("gstreamer-gsm", GSM, 5), Way("ffmpeg-g722", G722, 6), Way("ffmpeg-speex", SPEEX, 7))
OURS = (Way("ours-opus", OPUS, 11), Way("ours-pcmu", PCMU, 12))
OUR_OTHERS = tuple(Way(f"ours-{kind.name}", kind, 13 + n) for n, kind in enumerate(MORE))


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    """Everybody talks and hears at the same time, once for all tests."""
    folder = tmp_path_factory.mktemp("foreign")
    file = folder / "speech.wav"
    wav.write(file, spoken())
    programs: list[Program] = []

    def start(*command: str) -> Program:
        log = folder / f"program-{len(programs)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )  # fmt: skip
        programs.append(Program(process, log))
        return programs[-1]

    lan = Lan(4)
    try:
        yield _perform(Stage((*lan.hosts,), start, folder), file, programs)  # type: ignore[arg-type]
    finally:
        for program in programs:
            if program.process.poll() is None:
                program.process.kill()
                program.process.wait(10)
        lan.close()


def _perform(stage: Stage, file: Path, programs: list[Program]) -> Heard:
    _, us, ffmpegs, gstreamers = stage.hosts
    for host in stage.hosts:
        host.ip("route", "add", "239.0.0.0/8", "dev", "eth0")
    others = [way for way in OTHERS if carried(way.kind)]
    our_others = [way for way in OUR_OTHERS if carried(way.kind)]
    theirs = (*FROM_FFMPEG, *FROM_GSTREAMER, *others)
    capture = stage.folder / "wire.pcapng"
    shark = stage.start(*ffmpegs.command("tshark", "-q", "-i", "eth0", "-f", "udp", "-w", capture))
    hears = [f"hear={way.name},{way.group}:{way.port}" for way in theirs]
    says = [
        f"say={way.name},{way.group}:{way.port},{way.kind.name},20,{int(way.kind is OPUS)}"
        for way in (*OURS, *our_others)
    ]
    ours = stage.start(*us.command(sys.executable, PARTY, f"file={file}", *hears, *says))
    by_ffmpeg = [way for way in theirs if way.by == "ffmpeg"] + [*OURS, *our_others]
    by_gstreamer = [way for way in theirs if way.by == "gstreamer"] + [*OURS]
    receivers = [stage.hears(way, "ffmpeg") for way in by_ffmpeg]
    receivers += [stage.hears(way, "gstreamer") for way in by_gstreamer]
    wait_until(lambda: ours.output().count("up ") == len(hears) + len(says), ours)
    for host, ways in ((ffmpegs, by_ffmpeg), (gstreamers, by_gstreamer)):
        wait_until(lambda host=host, ways=ways: stage.joined(host) == len(ways), *receivers)  # type: ignore[misc]
    wait_until(lambda: capture.exists() and capture.stat().st_size > 0, shark)

    senders = [stage.says(way, file) for way in theirs]
    ours.process.send_signal(signal.SIGUSR1)
    for sender in senders:
        assert sender.process.wait(WAIT_S) == 0, sender.output()
    wait_until(lambda: ours.output().count("said ") == len(says), ours)
    wait_until(lambda: ended(ours) == len(hears), ours)
    for program in (*receivers, shark):
        program.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    # ffmpeg waits for a packet before it looks at the first signal.
    for program in receivers[: len(by_ffmpeg)]:
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGINT)
    for program in (*receivers, shark):
        program.process.wait(WAIT_S)
    sounds = {(way.name, "us"): stage.folder / f"{way.name}.wav" for way in theirs}
    sounds |= {(way.name, "ffmpeg"): stage.sound(way, "ffmpeg") for way in by_ffmpeg}
    sounds |= {(way.name, "gstreamer"): stage.sound(way, "gstreamer") for way in by_gstreamer}
    return Heard(sounds, ours.output() + "\n".join(each.output() for each in programs), capture)


@pytest.mark.parametrize("way", (*FROM_FFMPEG, *FROM_GSTREAMER, *OTHERS), ids=lambda way: way.name)
def test_we_hear_them(heard: Heard, way: Way) -> None:
    """What a foreign program says sounds here as it does in its own receiver."""
    if not carried(way.kind):
        pytest.skip(f"{way.kind.name} is not carried here")
    ours, theirs = (heard.score(way.name, by, way.kind.rate) for by in ("us", way.by))
    print(f"{way.name}: {ours:.2f} here, {theirs:.2f} there")
    assert ours >= theirs - ALLOWED


@pytest.mark.parametrize("by", ("ffmpeg", "gstreamer"))
@pytest.mark.parametrize("way", OURS, ids=lambda way: way.name)
def test_they_hear_us(heard: Heard, way: Way, by: str) -> None:
    """What we say sounds in a foreign receiver as what its own program says."""
    ours = heard.score(way.name, by, way.kind.rate)
    theirs = heard.score(f"{by}-{way.kind.name}", by, way.kind.rate)
    print(f"{way.name}: {ours:.2f} from us, {theirs:.2f} from {by} itself")
    assert ours >= theirs - ALLOWED


@pytest.mark.parametrize(
    ("way", "other"), tuple(zip(OUR_OTHERS, OTHERS, strict=True)), ids=lambda way: way.name
)
def test_ffmpeg_hears_our_other_codecs(heard: Heard, way: Way, other: Way) -> None:
    """So do the codecs that go through a library: ffmpeg hears ours as a foreign sender's is heard."""
    if not carried(way.kind):
        pytest.skip(f"{way.kind.name} is not carried here")
    ours, theirs = (
        heard.score(way.name, "ffmpeg", way.kind.rate),
        heard.score(other.name, other.by, way.kind.rate),
    )
    print(f"{way.name}: {ours:.2f} from us, {theirs:.2f} from {other.by}")
    assert ours >= theirs - ALLOWED


def test_nothing_was_refused(heard: Heard) -> None:
    """Every packet of theirs became sound: none was refused, none was missing."""
    assert set(re.findall(r"^refused \S+ (.*)$", heard.ours, re.MULTILINE)) == {"{}"}


def test_what_tshark_sees(heard: Heard) -> None:
    """tshark takes what we send for RTP of that payload type, in order, whole, marked where it begins, with the DSCP of voice."""
    for way in OURS:
        fields = (
            "rtp.p_type",
            "ip.dsfield.dscp",
            "rtp.seq",
            "rtp.marker",
            "rtp.ext",
            "rtp.timestamp",
            "rtp.ssrc",
        )
        words = [
            "tshark",
            "-r",
            str(heard.capture),
            "-d",
            f"udp.port=={way.port},rtp",
            "-Y",
            f"rtp && udp.dstport == {way.port}",
            "-T",
            "fields",
        ]
        for field in fields:
            words += ["-e", field]
        told = subprocess.run(words, check=True, capture_output=True, text=True, timeout=WAIT_S).stdout
        packets = [line.split("\t") for line in told.splitlines()]
        print(way.name, len(packets), packets[0], packets[-1])
        assert {packet[0] for packet in packets} == {str(way.kind.payload_type)}
        assert {packet[1] for packet in packets} == {str(EXPEDITED)}
        numbers = list(dict.fromkeys(int(packet[2]) for packet in packets))  # the end comes several times
        assert numbers == [(numbers[0] + n) % 65_536 for n in range(len(numbers))]
        assert len(packets) - len(numbers) == (END_COPIES - 1 if way.kind is OPUS else 0)
        assert [packet[3] for packet in packets] == ["1"] + ["0"] * (len(packets) - 1)
        extended = [packet[4] for packet in packets]
        assert set(extended) == ({"0", "1"} if way.kind is OPUS else {"0"})
        assert len({packet[6] for packet in packets}) == 1
        steps = {(int(later[5]) - int(earlier[5])) % 2**32 for earlier, later in pairwise(packets)}
        assert steps <= {0, way.kind.clock // 50}
