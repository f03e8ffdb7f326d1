"""Two people talk through the real daemon: real processes, real TLS, real Opus, a real sentence.

Nothing here depends on the machine being quick: waits are generous and what is asserted is counts and likeness. The one exception is
how soon people talk again after a crash, which is what that test is about.
"""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from cryptography import x509

from ice.cli.speech import SPEECH
from ice.cli.trace import Traced, compare, read_trace
from ice.media import quality, wav
from ice.media.payload import Pcm
from ice.testing.site import Site

from .conftest import Program, clean_environment
from .slow_path import LongWay

Start = Callable[..., Program]

WAIT_S = 60.0  # for anything that takes a moment on a machine of its own
ALIKE = 0.95  # what comes whole through Opus at 24 kbit/s scores more
AGAIN_S = 2.0  # from the port's opening until people talk again
SLOW_S = 1.0  # allowance on that for a machine that does other things as well


@attrs.frozen
class Rallypoint:
    """A Rallypoint of a throw-away site, and people on it."""

    start: Start
    site: Site
    folder: Path

    def run(self) -> Program:
        """Start the daemon, and wait until it welcomes newcomers."""
        program = self.start("twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", self.site.config)
        wait_until(self.ready, "the Rallypoint is ready", program)
        return program

    def ready(self) -> bool:
        """Whether newcomers are welcome."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.site.http_port}/readyz", timeout=5) as page:
                return bool(page.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def listen(self, name: str, stream: str = "town", *more: object) -> Program:
        """Somebody who listens, joined; what is heard is in ``NAME.wav`` and ``NAME.heard``."""
        config = self.site.client(name).config
        program = self.start(
            "ice", "listen", stream, "--json", "--config", config,
            "--out", f"{name}.wav", "--trace", f"{name}.heard", *more, cwd=self.folder,
        )  # fmt: skip
        wait_until(lambda: any(e["up"] for e in events(program, "path")), f"{name} is joined", program)
        return program

    def talk(self, name: str, stream: str = "town", *more: object, file: Path = SPEECH) -> Program:
        """Somebody who talks; what is sent is in ``NAME.sent``."""
        config = self.site.client(name).config
        return self.start(
            "ice", "talk", stream, "--json", "--config", config, "--alias", name,
            "--file", file, "--trace", f"{name}.sent", *more, cwd=self.folder,
        )  # fmt: skip

    def sent(self, name: str) -> list[Traced]:
        """What somebody has sent."""
        return read_trace(self.folder / f"{name}.sent")

    def heard(self, name: str) -> list[Traced]:
        """What somebody has heard."""
        return read_trace(self.folder / f"{name}.heard")

    def sound(self, name: str) -> Pcm:
        """What somebody's loudspeaker would have said."""
        return wav.read(self.folder / f"{name}.wav")


@pytest.fixture
def place(start: Start, tmp_path: Path) -> Rallypoint:
    """A site with three people; the Rallypoint does not run yet."""
    return Rallypoint(start, Site.create(tmp_path / "site", clients=("anna", "bob", "carol")), tmp_path)


def events(program: Program, name: str) -> list[dict[str, Any]]:
    """The events of that name that a ``--json`` command has told so far."""
    found = []
    for line in program.output().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("event") == name:
            found.append(event)
    return found


def wait_until(true: Callable[[], bool], what: str, *needed: Program, timeout_s: float = WAIT_S) -> None:
    """Wait; fails with what the programs said when the time is over, or one of them has ended."""
    until = time.monotonic() + timeout_s
    while not true():
        ended = [program for program in needed if program.process.poll() is not None]
        assert not ended or true(), f"ended before {what}:\n{ended[0].output()}"
        said = "\n".join(program.output() for program in needed)
        assert time.monotonic() < until, f"waited in vain until {what}\n{said}"
        time.sleep(0.02)


def finish(program: Program, status: int = 0) -> None:
    """Wait for a program's end, which must be with that status."""
    assert program.process.wait(WAIT_S + 30) == status, program.output()


def interrupt(program: Program, status: int = 0) -> None:
    """Ctrl-C, and the end."""
    program.process.send_signal(signal.SIGINT)
    finish(program, status)


def piece(pcm: Pcm, start_s: float, end_s: float) -> Pcm:
    """A part of a sound."""
    return pcm[round(max(0.0, start_s) * 48_000) : round(end_s * 48_000)]


def test_speech_arrives(place: Rallypoint) -> None:
    """A spoken sentence is heard whole: no packet lost, the same words, the first and the last syllable there."""
    place.run()
    listener = place.listen("bob")
    finish(place.talk("anna"))
    wait_until(lambda: bool(events(listener, "ended")), "the sentence is over", listener)
    interrupt(listener)
    packets = compare(place.sent("anna"), place.heard("bob"))
    assert packets.sent > 290
    assert (packets.lost, packets.duplicated) == (0, 0)
    (ended,) = events(listener, "ended")
    assert (ended["alias"], ended["lost"], ended["late"], ended["why"]) == ("anna", 0, 0, "mark")
    (summary,) = events(listener, "summary")
    assert (summary["missed"], summary["refused"], summary["corrupt"]) == (0, {}, 0)

    spoken, sound = wav.read(SPEECH), place.sound("bob")
    likeness = quality.compare(spoken, sound)
    assert likeness.score > ALIKE
    assert likeness.coverage > 0.99
    # The syllables at both ends, where a push to talk clips, each for itself.
    talking = np.flatnonzero(np.abs(spoken.astype(int)) > 600) / 48_000
    later_s = likeness.offset_ms / 1_000
    for begin_s, end_s in ((talking[0] - 0.1, talking[0] + 0.4), (talking[-1] - 0.4, talking[-1] + 0.1)):
        there = piece(sound, begin_s + later_s - 0.1, end_s + later_s + 0.1)
        assert quality.similarity(piece(spoken, begin_s, end_s), there) > 0.8, (begin_s, end_s)


def test_two_at_once(place: Rallypoint, tmp_path: Path) -> None:
    """Who talk at the same time are both heard, one mixed with the other."""
    seconds = 6.0
    hum = (3_000 * np.sin(np.arange(round(seconds * 48_000)) * 2 * np.pi * 3_000 / 48_000)).astype(np.int16)
    wav.write(tmp_path / "hum.wav", hum)
    place.run()
    listener = place.listen("carol")
    talkers = [place.talk("anna"), place.talk("bob", "town", file=tmp_path / "hum.wav")]
    for talker in talkers:
        finish(talker)
    wait_until(lambda: len(events(listener, "ended")) == 2, "both are over", listener)
    interrupt(listener)
    for name in ("anna", "bob"):
        assert compare(place.sent(name), place.heard("carol")).lost == 0
    began = {event["alias"]: event["at_s"] for event in events(listener, "began")}
    ended = {event["alias"]: event["at_s"] for event in events(listener, "ended")}
    both = max(began.values()) + 0.3, min(ended.values()) - 0.3
    assert both[1] - both[0] > 2.0, "they talked one after the other"

    sound = place.sound("carol")
    spectrum = np.fft.rfft(sound.astype(np.float64))
    hertz = np.fft.rfftfreq(len(sound), 1 / 48_000)
    humming = np.abs(hertz - 3_000) < 60
    alone = np.fft.irfft(np.where(humming, 0, spectrum), len(sound)).astype(np.int16)
    other = np.fft.irfft(np.where(humming, spectrum, 0), len(sound))
    # The hum is there all the time in which both talk, and what is left without it is the sentence.
    steps = np.split(
        other[round(both[0] * 48_000) : round(both[1] * 48_000) // 4_800 * 4_800 - 4_800][: 4_800 * 15], 15
    )
    assert min(float(np.sqrt(np.mean(step**2))) for step in steps) > 1_000
    first_s = began["anna"]
    assert quality.similarity(wav.read(SPEECH), piece(alone, first_s, first_s + 6.5)) > 0.6


def test_killed_and_restarted(place: Rallypoint) -> None:
    """After kill -9 and a restart within five seconds people talk again within two seconds of the port's opening."""
    rallypoint = place.run()
    listener = place.listen("bob")
    talker = place.talk("anna", "town", "--loop", "1000")
    wait_until(lambda: bool(events(listener, "began")), "anna is heard", listener, talker)
    rallypoint.process.kill()
    rallypoint.process.wait()
    wait_until(lambda: events(listener, "path")[-1]["up"] is False, "bob knows", listener)
    time.sleep(2.0)
    again = place.start("twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", place.site.config)
    opened_ns = 0
    while not opened_ns:
        try:
            with socket.create_connection(("127.0.0.1", place.site.port), timeout=1):
                opened_ns = time.monotonic_ns()
        except OSError:
            assert again.process.poll() is None, again.output()
            time.sleep(0.005)
    wait_until(lambda: events(listener, "path")[-1]["up"], "bob is back", listener)
    wait_until(lambda: events(talker, "path")[-1]["up"], "anna is back", talker)
    time.sleep(1.0)
    interrupt(talker, status=130)
    interrupt(listener)
    after = [each.at_ns for each in place.heard("bob") if each.at_ns > opened_ns]
    assert after, listener.output() + talker.output()
    waited_s = (after[0] - opened_ns) / 1e9
    print(f"heard again {waited_s:.2f} s after the port opened")
    assert waited_s < AGAIN_S + SLOW_S
    # From there on it goes on: a second of talk is fifty packets, and none is missing between the first and the last.
    numbers = [each.sequence for each in place.heard("bob") if each.at_ns > opened_ns]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len(numbers) > 25


def serial_shown(place: Rallypoint) -> int:
    """The serial number of the certificate that a newcomer is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(place.site.pki / "authority.pem")
    member = place.site.client("carol")
    context.load_cert_chain(member.certificate, member.key)
    context.set_alpn_protocols(["ice-link/1"])
    with (
        socket.create_connection(("127.0.0.1", place.site.port), timeout=WAIT_S) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


def test_renewed_certificate(place: Rallypoint) -> None:
    """SIGHUP with a renewed certificate: newcomers see the new one, and a burst that is running has no gap."""
    rallypoint = place.run()
    listener = place.listen("bob")
    talker = place.talk("anna")
    wait_until(lambda: bool(events(listener, "began")), "anna is heard", listener, talker)
    before = serial_shown(place)
    place.site.authority.renew("rallypoint", datetime.now(UTC))
    assert serial_shown(place) == before
    rallypoint.process.send_signal(signal.SIGHUP)
    rallypoint.wait_for("reloaded ", WAIT_S)
    assert talker.process.poll() is None, "the burst was over before the reload; make the sentence longer"
    assert serial_shown(place) != before
    finish(talker)
    wait_until(lambda: bool(events(listener, "ended")), "the sentence is over", listener)
    interrupt(listener)
    assert compare(place.sent("anna"), place.heard("bob")).lost == 0
    assert [event["up"] for event in events(listener, "path")] == [True]
    assert events(listener, "ended")[0]["lost"] == 0


def test_bad_configuration_is_refused(place: Rallypoint) -> None:
    """SIGHUP with a bad file: the log names file, line and key, and people talk on."""
    rallypoint = place.run()
    listener = place.listen("bob")
    text = place.site.config.read_text()
    place.site.config.write_text(text + '\n[media]\nbitrate = 3\ncodek = "opus"\n')
    line = place.site.config.read_text().splitlines().index("bitrate = 3") + 1
    rallypoint.process.send_signal(signal.SIGHUP)
    said = rallypoint.wait_for("running on with the configuration", WAIT_S)
    assert f"{place.site.config}:{line}: media.bitrate" in said
    assert f"{place.site.config}:{line + 1}: media.codek" in said
    assert "did you mean 'codec'?" in said
    place.site.config.write_text(text)
    finish(place.talk("anna"))
    wait_until(lambda: bool(events(listener, "ended")), "the sentence is over", listener)
    interrupt(listener)
    assert compare(place.sent("anna"), place.heard("bob")).lost == 0
    assert place.ready()


def test_check_radio(place: Rallypoint) -> None:
    """A lone person is told that the way is good, and how long it takes; without a parrot, that nothing came back."""
    place.run()
    good = place.start("ice", "check-radio", "--json", "--config", place.site.client("anna").config)
    finish(good)
    (report,) = events(good, "report")
    assert report["usable"] is True
    assert (report["heard"], report["missed"], report["late"]) == (report["sent"], 0, 0)
    assert report["similarity"] > ALIKE
    assert 0 < report["round_trip_ms"] < 5_000
    lone = place.start("ice", "check-radio", "nowhere", "--config", place.site.client("anna").config)
    finish(lone, status=1)
    assert "Nothing came back" in lone.output()


def test_status(place: Rallypoint) -> None:
    """The daemon tells who is linked and joined to what; when it does not run, that is said."""
    rallypoint = place.run()
    listener = place.listen("bob")
    asked = place.start("ice", "status", "--json", "--config", place.site.config)
    finish(asked)
    answer = json.loads(asked.output())
    assert (answer["ready"], answer["links_total"]) == (True, 1)
    assert [link["name"] for link in answer["links"]] == ["bob"]
    table = place.start("ice", "status", "--config", place.site.config)
    finish(table)
    assert "bob" in table.output()
    interrupt(listener)
    rallypoint.end()
    gone = place.start("ice", "status", "--config", place.site.config)
    finish(gone, status=1)
    assert "nothing answers" in gone.output()


def test_draining(place: Rallypoint) -> None:
    """SIGTERM: everybody is told to go elsewhere, and the daemon ends in order with people still linked."""
    rallypoint = place.run()
    listener = place.listen("bob")
    talker = place.talk("anna", "town", "--loop", "1000")
    wait_until(lambda: bool(events(listener, "began")), "anna is heard", listener, talker)
    # twistd ends in order, and then by the signal itself, so that whoever waits for it knows why.
    assert rallypoint.end(signal.SIGTERM, WAIT_S) in (0, -signal.SIGTERM)
    assert "told to go elsewhere" in rallypoint.output()
    assert "Server Shut Down" in rallypoint.output()
    for person in (listener, talker):
        wait_until(lambda person=person: not events(person, "path")[-1]["up"], "the way is lost", person)
        assert re.search("drain|stop", events(person, "path")[-1]["why"]), events(person, "path")
    interrupt(talker, status=130)
    interrupt(listener)


def test_nobody_there(place: Rallypoint) -> None:
    """Without a Rallypoint a talker says after its time what was tried, and ends with status 1."""
    talker = place.talk("anna", "town", "--timeout", "1")
    finish(talker, status=1)
    assert "not connected to 'town' within 1 s" in talker.output()
    assert "nothing listens on that port" in talker.output()


def test_listen_for_a_while(place: Rallypoint) -> None:
    """--seconds and --idle-exit end a listener by themselves, with a summary."""
    place.run()
    for option in ("--seconds", "--idle-exit"):
        listener = place.listen("bob", "town", option, "1")
        finish(listener)
        assert events(listener, "summary")[0]["bursts"] == 0


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in listed.stdout.split()]


def test_demo(start: Start, tmp_path: Path) -> None:
    """The demo's speech arrives, the call's too: status 0, a table, the sound and its picture."""
    demo = start("ice", "demo", "--folder", tmp_path / "demo", cwd=tmp_path)
    finish(demo)
    assert "Every word arrived." in demo.output()
    assert wav.inspect(tmp_path / "demo" / "heard.wav").seconds > 10
    assert (tmp_path / "demo" / "speech.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        ".ice-demo",
        "echo.wav",
        "heard.wav",
        "speech.png",
    ]


def test_demo_interrupted(start: Start, tmp_path: Path) -> None:
    """Ctrl-C in the middle of the demo leaves nothing running."""
    demo = start("ice", "demo", "--folder", tmp_path / "demo", cwd=tmp_path)
    demo.wait_for("Anna talks", WAIT_S)
    running = children_of(demo.process.pid)
    assert len(running) == 5
    interrupt(demo, status=130)
    assert "nothing is left running" in demo.output()
    for pid in running:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_demo_fails(tmp_path: Path) -> None:
    """A demo whose daemon cannot start says why, with what that said last, and leaves nothing running."""
    broken = tmp_path / "bin"
    broken.mkdir()
    script = "import sys; from ice.cli import demo, main; twistd = sys.argv.pop(1); demo._beside_python = lambda _: twistd; sys.exit(main.main())"
    (broken / "twistd").write_text("#!/bin/sh\necho no luck today; exit 3\n")
    (broken / "twistd").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, str(broken / "twistd"), "demo", "--folder", str(tmp_path / "demo")],
        capture_output=True, text=True, check=False, timeout=WAIT_S, env=clean_environment(), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the Rallypoint ended with status 3" in done.stderr
    assert "no luck today" in done.stderr


@pytest.mark.parametrize(("delay_s", "talking"), [(0.15, True), (0.0, False)], ids=["far", "before"])
def test_a_stopped_listener_hears_no_old_audio(place: Rallypoint, delay_s: float, talking: bool) -> None:
    """A listener stopped in mid-sentence, or before the first one, over a short or a long way, goes on with what is said now: nothing that is over 2 s
    old even leaves the link."""
    place.run()
    way = LongWay(place.site.port, delay_s)
    config = place.site.client("bob").config
    config.write_text(config.read_text().replace(place.site.address, f"127.0.0.1:{way.port}", 1))
    listener = place.listen("bob")
    talker = place.talk("anna", "town", "--loop", "3") if talking else None
    if talking:
        wait_until(lambda: bool(events(listener, "began")), "Bob hears Anna", listener, talker)
        time.sleep(3.0)  # long enough for the Rallypoint to trust the listener, and to ask it seldom
    os.killpg(listener.process.pid, signal.SIGSTOP)
    if talker is None:
        talker = place.talk("anna", "town", "--loop", "3")
    time.sleep(7.0)
    os.killpg(listener.process.pid, signal.SIGCONT)
    finish(talker)
    wait_until(lambda: bool(events(listener, "ended")), "the last sentence is over", listener)
    interrupt(listener)
    way.close()
    sent = {(each.source, each.sequence): each.at_ns for each in place.sent("anna")}
    ages_s = [(each.at_ns - sent[each.source, each.sequence]) / 1e9 for each in place.heard("bob")]
    (summary,) = events(listener, "summary")
    assert max(ages_s) < 2.0, (max(ages_s), sum(age_s > 2.0 for age_s in ages_s))
    assert 0 < summary["stale"] <= 5.0 * 50, "what lay in the kernels is dropped, and is bounded"
    assert ages_s[-1] < 1.0, "in the end Bob hears Anna as she speaks"


def test_a_long_way_is_not_throttled(place: Rallypoint) -> None:
    """300 ms there and back, and 700 ms as over a satellite: every packet is heard, none waits in the Rallypoint's queue until it is dropped."""
    place.run()
    for delay_s in (0.15, 0.35):
        way = LongWay(place.site.port, delay_s)
        config = place.site.client("bob").config
        config.write_text(config.read_text().replace(place.site.address, f"127.0.0.1:{way.port}", 1))
        listener = place.listen("bob")
        finish(place.talk("anna"))
        wait_until(
            lambda listener=listener: bool(events(listener, "ended")), "the sentence is over", listener
        )
        links = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{place.site.http_port}/status").read())
        counters = links["counters"]
        interrupt(listener)
        way.close()
        place.site.client("bob").config.write_text(
            config.read_text().replace(f"127.0.0.1:{way.port}", place.site.address, 1)
        )
        packets = compare(place.sent("anna"), place.heard("bob"))
        assert (packets.lost, packets.duplicated) == (0, 0), (delay_s, counters)
