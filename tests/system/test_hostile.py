"""Bad input against the real Rallypoint, while two people talk who must not lose a packet.

Each hostile act gets its reason, or is shed by a limit, and is counted; the conversation beside it goes on.
"""

import json
import resource
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ice.link.naming import stream_key
from ice.testing.site import Member, Site

from .stranger import (
    BYE,
    ERROR,
    HELLO,
    JOIN,
    JOINED,
    PING,
    PONG,
    WELCOME,
    Gone,
    Stranger,
    context,
    frame,
    media,
)

SETTINGS = """
[rallypoint.limits]
links = 600
links_per_address = 500
links_per_identity = 8
handshakes = 128
handshakes_per_address = 96
handshake_s = 2.0
joins = 16
media_bytes = 1000
queue_frames = 64
"""
# Ids whose keys collide cannot be found by trying: that rule is proved in the unit tests of the registry.


class House:
    """A site with a running Rallypoint, and doors to knock at."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.address = ("127.0.0.1", site.port)

    def tls(self, member: Member, **more: Any) -> ssl.SSLContext:
        """A member's TLS."""
        return context(self.site.pki / "authority.pem", member.certificate, member.key, **more)

    def enter(self, name: str, **more: Any) -> Stranger:
        """A link of a member."""
        member = self.site.client(name)
        return Stranger(self.address, self.tls(member), str(member.id), **more)

    def status(self, path: str = "status") -> bytes:
        """A status page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.site.http_port}/{path}", timeout=15) as answer:
            return bytes(answer.read())

    def metric(self, *words: str) -> float:
        """The sum of all samples whose line contains every word."""
        lines = [line for line in self.status("metrics").decode().splitlines() if not line.startswith("#")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(word in line for word in words))

    def counted(self, *words: str, above: float = 0.0) -> None:
        """Wait until a counter has risen."""
        deadline = time.monotonic() + 10
        while self.metric(*words) <= above:
            assert time.monotonic() < deadline, (
                f"nothing counted for {words}:\n{self.status('metrics').decode()}"
            )
            time.sleep(0.05)


TRANSPORTS = {
    "compiled": {},
    "python": {"ICE_FANOUT": "python"},
    "twisted": {"ICE_TLS": "twisted"},
}


@pytest.fixture(scope="module", params=TRANSPORTS)
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One Rallypoint for all tests of this page, over each transport: what one of them breaks, the next would see."""
    import subprocess

    from .conftest import BIN, clean_environment

    folder = tmp_path_factory.mktemp("hostile")
    site = Site.create(folder, ("alice", "bob", "mallory", "eve"), extra_toml=SETTINGS)
    log = (folder / "rallypoint.log").open("wb")
    process = subprocess.Popen(
        [BIN / "twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", str(site.config)],
        cwd=folder,
        env=clean_environment() | TRANSPORTS[request.param],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    made = House(site)
    deadline = time.monotonic() + 30
    while True:
        try:
            made.status("readyz")
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, (
                folder / "rallypoint.log"
            ).read_text()
            time.sleep(0.05)
    try:
        used = json.loads(made.status())["transport"]
        assert used["tls"] == ("twisted" if request.param == "twisted" else "socket")
        assert request.param != "python" or used["fan_out"].startswith("python")
        yield made
        assert process.poll() is None, "the Rallypoint has died: " + (folder / "rallypoint.log").read_text()
        assert "Traceback" not in (folder / "rallypoint.log").read_text()
    finally:
        process.kill()
        process.wait(10)


class Conversation(threading.Thread):
    """Alice talks fifty packets a second, Bob writes down what he hears."""

    def __init__(self, house: House) -> None:
        super().__init__(daemon=True)
        self.talker, self.listener = house.enter("alice"), house.enter("bob")
        assert "key" in self.talker.join("conversation", listen=False)
        assert "key" in self.listener.join("conversation", talk=False, source=None)
        self.over = threading.Event()
        self.all_heard = threading.Event()
        self.heard: list[int] = []
        self.failure: BaseException | None = None
        self._ear = threading.Thread(target=self._listen, daemon=True)

    def run(self) -> None:
        """Talk; answer PINGs between packets."""
        self._ear.start()
        try:
            while not self.over.is_set():
                self.talker.talk("conversation", b"x" * 120)
                try:
                    self.talker.receive(0.02)
                except TimeoutError:
                    continue
        except BaseException as failure:
            self.failure = failure

    def _listen(self) -> None:
        try:
            while not self.all_heard.is_set():
                try:
                    self.heard.append(self.listener.hear(0.1)[1])
                except TimeoutError:
                    continue
        except BaseException as failure:
            self.failure = failure

    def finish(self) -> None:
        """Stop talking; everything said must have been heard, once and in order."""
        self.over.set()
        self.join(10)
        deadline = time.monotonic() + 10
        while len(self.heard) < self.talker.sequence and time.monotonic() < deadline:
            time.sleep(0.02)
        self.all_heard.set()
        self._ear.join(10)
        assert self.failure is None, repr(self.failure)
        assert self.heard == list(range(self.talker.sequence))
        assert self.heard, "nobody said anything"
        self.talker.socket.close()
        self.listener.socket.close()


@pytest.fixture(autouse=True)
def conversation(house: House) -> Iterator[Conversation]:
    """Beside every test two people talk, and lose no packet."""
    talk = Conversation(house)
    talk.start()
    deadline = time.monotonic() + 10
    while not talk.heard and time.monotonic() < deadline:
        time.sleep(0.005)  # a test may be over before the first word
    yield talk
    talk.finish()


def test_the_page_is_enough(house: House) -> None:
    """A client written from docs/link-protocol.md joins, talks and is heard byte for byte."""
    with house.enter("mallory") as one, house.enter("eve") as two:
        assert one.welcome["version"] == 1
        assert one.welcome["id"] == str(house.site.rallypoint.id)
        assert one.welcome["limits"]["media_bytes"] == 1000
        for end in (one, two):
            answer = end.join("page")
            assert answer == {"txn": 1, "stream": "page", "key": f"{stream_key('page'):016x}"}
        one.talk("page", b"hello", flags=0x02)
        assert two.hear() == (one.source, 0, b"hello")
        two.talk("page", b"")
        assert one.hear() == (two.source, 0, b""), "and one's own datagram does not come back"
        one.send(PING, b"abcdefgh")
        assert one.receive() == (7, b"abcdefgh")
        one.send(9, {"code": "leaving", "reason": "done"})
        assert one.bye() is None


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"\x00\x00\x10", "bad-frame"),
        (b"\x00\x14\x10" + bytes(20), "bad-frame"),
        (b"\x00\x07\x06" + bytes(7), "bad-frame"),
        (b"\xff\xff\x10", "too-large"),
        (b"\xff\xff\x03", "too-large"),
        (media(0, 1, 2, 3, bytes(1001)), "too-large"),
        (frame(HELLO, {}), "order"),
        (frame(WELCOME, {}), "role"),
        (frame(JOINED, {}), "role"),
        (frame(0x11, b"x"), "role"),
        (frame(0x12, b"x"), "role"),
        (frame(0x13, b"x"), "role"),
        (frame(ERROR, b"]"), "bad-json"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "too-large"),
    ],
)
def test_what_ends_a_link(house: House, said: bytes, code: str) -> None:
    """What breaks the protocol ends its own link, with its code, counted under it."""
    with house.enter("mallory") as hostile:
        hostile.raw(said)
        assert hostile.bye() == code
    house.counted("ended", f'"{code}"')


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (b"", "bad-json"),
        (b"{", "bad-json"),
        (b'{"version":1}', "bad-json"),
        (b"\xff\xfe", "bad-json"),
        (b"[" * 4000, "bad-json"),
        (b"{}" * 3000, "too-large"),
        ({"version": 2, "role": "client", "id": "x"}, "version"),
        ({"version": 1, "role": "client", "id": "00000000-0000-0000-0000-000000000000"}, "identity"),
    ],
)
def test_bad_greetings(house: House, hello: Any, code: str) -> None:
    """Each way to greet wrongly is answered by its code."""
    member = house.site.client("mallory")
    with Stranger(house.address, house.tls(member), str(member.id), greet=False) as hostile:
        hostile.send(HELLO, hello)
        assert hostile.bye() == code


def test_no_greeting(house: House) -> None:
    """Whatever comes before HELLO is out of order."""
    member = house.site.client("mallory")
    for first in (
        frame(JOIN, {"txn": 1, "stream": "s"}),
        media(0, 1, 2, 3, b""),
        frame(PING, bytes(8)),
        frame(BYE + 90, b""),
    ):
        with Stranger(house.address, house.tls(member), str(member.id), greet=False) as hostile:
            hostile.raw(first)
            assert hostile.bye() == "order"


def test_a_client_is_no_rallypoint(house: House) -> None:
    """A client's certificate does not carry the roles of the mesh."""
    for role in ("peer", "leaf", "federation", "king"):
        member = house.site.client("mallory")
        with Stranger(house.address, house.tls(member), str(member.id), greet=False) as hostile:
            hostile.send(HELLO, {"version": 1, "role": role, "id": str(member.id)})
            assert hostile.bye() == "role", role


def test_every_cut(house: House) -> None:
    """A link that ends in the middle of a frame, at any byte, ends alone."""
    whole = media(0, stream_key("conversation"), 1, 1, b"x" * 40)
    with house.enter("mallory") as control:
        for cut in range(1, len(whole), 5):
            with house.enter("mallory") as hostile:
                hostile.raw(whole[:cut])
        control.send(PING, b"12345678")
        assert control.receive() == (7, b"12345678")


@pytest.mark.parametrize(
    ("stream", "code"),
    [("", "bad-stream"), ("a" * 257, "bad-stream"), ("é" * 129, "bad-stream"), ("__election_x", "denied")],
)
def test_bad_streams(house: House, stream: str, code: str) -> None:
    """Ids that cannot be, or are for satellites, are refused; the link lives on."""
    with house.enter("mallory") as hostile:
        answer = hostile.join(stream)
        assert (answer["code"], answer["txn"]) == (code, 1)
        assert "key" in hostile.join("fine")


def test_stream_not_utf8(house: House) -> None:
    """An id that is not UTF-8 is refused under its number; the link lives on."""
    with house.enter("mallory") as hostile:
        hostile.send(JOIN, b'{"txn":7,"stream":"\xff\xfe"}')
        answer = hostile.expect(ERROR)
        assert (answer["code"], answer["txn"]) == ("bad-stream", 7)
        assert "key" in hostile.join("fine")


def test_unknown_types(house: House) -> None:
    """A type of a later version is answered; the link lives on."""
    with house.enter("mallory") as hostile:
        for kind in (0x00, 0x0A, 0x14, 0xFF):
            hostile.send(kind, b"?")
            assert hostile.expect(ERROR)["code"] == "unsupported"
        assert "key" in hostile.join("fine")


def test_media_without_a_right(house: House) -> None:
    """Not joined, joined to listen only, or under another's name: dropped, counted, answered once."""
    with house.enter("mallory") as hostile, house.enter("eve") as witness:
        witness.join("quiet")
        for _ in range(3):
            hostile.talk("quiet", b"not joined")
        assert hostile.expect(ERROR)["code"] == "not-joined"
        assert "key" in hostile.join("quiet", talk=False, source=None)
        for _ in range(3):
            hostile.talk("quiet", b"listening only")
        assert hostile.expect(ERROR)["code"] == "not-joined", "a new join, a new answer"
        assert "key" in hostile.join("quiet")
        for sequence in range(3):
            hostile.raw(media(0, stream_key("quiet"), witness.source, sequence, b"in your name"))
        assert hostile.expect(ERROR)["code"] == "foreign-source"
        hostile.talk("quiet", b"in my own name")
        assert witness.hear()[2] == b"in my own name"
        hostile.send(PING, bytes(8))
        assert hostile.receive()[0] == PONG, "said once and not three times"
    house.counted("not-joined")
    house.counted("foreign-source")


def test_foreign_source_at_join(house: House) -> None:
    """A source that does not follow from the certificate, or "any" without a satellite's one, is refused."""
    with house.enter("mallory") as hostile:
        assert hostile.join("quiet", source="0123456789abcdef")["code"] == "foreign-source"
        assert hostile.join("quiet", source="any")["code"] == "foreign-source"


def test_said_twice(house: House) -> None:
    """A datagram said twice is heard once."""
    with house.enter("mallory") as hostile, house.enter("eve") as witness:
        assert "key" in hostile.join("twice") and "key" in witness.join("twice")
        for sequence in (0, 0, 1, 0, 1, 2):
            hostile.raw(media(0, stream_key("twice"), hostile.source, sequence, b""))
        assert [witness.hear()[1] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(TimeoutError):
            witness.hear(0.2)
    house.counted("duplicate")


def test_join_flood(house: House) -> None:
    """Joins are bounded for a link, and refused with a reason."""
    with house.enter("mallory") as hostile:
        answers = [hostile.join(f"flood {number}") for number in range(30)]
        assert all("key" in answer for answer in answers[:16])
        assert {answer["code"] for answer in answers[16:]} == {"limit"}


def test_links_of_one_identity(house: House) -> None:
    """A person has eight links, not nine."""
    links = [house.enter("mallory") for _ in range(8)]
    try:
        with pytest.raises(Gone) as refused:
            house.enter("mallory")
        assert refused.value.said is not None and refused.value.said["code"] == "limit"
    finally:
        for link in links:
            link.socket.close()


def test_never_reads(house: House) -> None:
    """Who joins a stream and never reads loses its own media, or its link; the memory of the Rallypoint does not."""
    with house.enter("mallory") as deaf, house.enter("eve") as talker:
        assert "key" in deaf.join("loud", talk=False, source=None) and "key" in talker.join(
            "loud", listen=False
        )
        for _ in range(50):
            for _ in range(20):
                talker.talk("loud", b"x" * 1000)
            time.sleep(0.1)  # more than the bound of unanswered PINGs
        house.counted("dropped")


def test_asks_and_never_reads(house: House) -> None:
    """Who asks for answers and reads none is cut off when they pile up."""
    before = house.metric("ended")
    with house.enter("mallory") as hostile:
        deadline = time.monotonic() + 20
        with pytest.raises(OSError):
            while time.monotonic() < deadline:
                hostile.raw(b"\x00\x00\xee" * 5_000)
    house.counted("ended", above=before)


def test_a_byte_a_second(house: House) -> None:
    """A greeting that trickles is shed at the deadline."""
    member = house.site.client("mallory")
    with Stranger(house.address, house.tls(member), str(member.id), greet=False) as slow:
        start = time.monotonic()
        with pytest.raises((OSError, Gone)):
            for byte in frame(HELLO, {"version": 1}):
                slow.raw(bytes([byte]))
                try:
                    slow.receive(0.4)
                except TimeoutError:
                    continue
        assert time.monotonic() - start < 10


def plain(house: House, data: bytes) -> bytes:
    """What a TCP connection without TLS gets to read."""
    with socket.create_connection(house.address, 10) as raw:
        raw.sendall(data)
        raw.settimeout(10)
        answer = b""
        try:
            while piece := raw.recv(4096):
                answer += piece
        except ConnectionError:
            pass
        return answer


def test_not_tls(house: House) -> None:
    """Plain HTTP and noise are no TLS: shed, and counted with a reason."""
    plain(house, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    house.counted("http")
    plain(house, bytes(range(256)) * 4)


def test_old_tls(house: House) -> None:
    """TLS 1.2 is refused."""
    tls = house.tls(house.site.client("mallory"))
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)version"):
        Stranger(house.address, tls, "")
    house.counted("version")


def refused_certificate(house: House, certificate: Path | None, key: Path | None) -> None:
    """A handshake that the Rallypoint must not finish."""
    tls = context(house.site.pki / "authority.pem", certificate, key)
    with pytest.raises((ssl.SSLError, ConnectionError, Gone)) as refused:
        Stranger(house.address, tls, "00000000-0000-0000-0000-000000000000")
    if isinstance(refused.value, Gone):
        assert refused.value.said is None or refused.value.said["code"] in ("identity", "revoked")


def test_bad_certificates(house: House) -> None:
    """None, expired, not yet valid, of another authority: each is refused, counted under a name of its own."""
    site = house.site
    refused_certificate(house, None, None)
    house.counted("no-certificate")
    for name, member in (
        ("expired", site.expired()),
        ("not-yet-valid", site.not_yet_valid()),
        ("unknown-authority", site.stranger()),
    ):
        refused_certificate(house, member.certificate, member.key)
        house.counted(f'"{name}"')


def test_a_rallypoints_certificate_is_no_client(house: House) -> None:
    """A certificate of another role may not pose as a client."""
    member = house.site.rallypoint
    with pytest.raises(Gone) as refused:
        Stranger(house.address, house.tls(member), str(member.id))
    assert refused.value.said is not None and refused.value.said["code"] == "role"


def test_no_alpn(house: House) -> None:
    """Without the protocol's name the client is told so."""
    member = house.site.client("mallory")
    tls = house.tls(member, alpn=None)
    with Stranger(house.address, tls, str(member.id), greet=False) as hostile:
        assert hostile.bye() == "alpn"


def test_wrong_alpn(house: House) -> None:
    """A client of another protocol does not get in."""
    member = house.site.client("mallory")
    tls = house.tls(member, alpn="h2")
    try:
        with Stranger(house.address, tls, str(member.id), greet=False) as hostile:
            assert hostile.bye() in ("alpn", None)
    except (ssl.SSLError, ConnectionError):
        pass  # an alert during the handshake says the same


def test_silent_crowd(house: House) -> None:
    """5,000 connections that say nothing are shed by limits and deadlines; the next client gets in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    crowd: list[socket.socket] = []
    try:
        for _ in range(50):
            for _ in range(100):
                quiet = socket.socket()
                quiet.setblocking(False)
                quiet.connect_ex(house.address)
                crowd.append(quiet)
            time.sleep(0.01)
        house.counted("handshakes")
    finally:
        for quiet in crowd:
            quiet.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    deadline = time.monotonic() + 20
    while True:
        try:
            with house.enter("mallory") as late:
                assert "key" in late.join("after the crowd")
            break
        except (OSError, Gone):
            assert time.monotonic() < deadline, "nobody gets in after the crowd has gone"
            time.sleep(0.2)


def test_resets_in_every_phase(house: House, run: Callable[..., Any]) -> None:
    """Connections reset before, in and after the handshake, and after JOIN, leave nothing behind."""
    for phase in range(4):
        for _ in range(10):
            raw = socket.create_connection(house.address, 10)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            if phase == 1:
                raw.sendall(b"\x16\x03\x01\x02\x00\x01")
            if phase >= 2:
                member = house.site.client("mallory")
                tls = house.tls(member).wrap_socket(raw, server_hostname="127.0.0.1")
                if phase == 3:
                    tls.sendall(frame(HELLO, {"version": 1, "role": "client", "id": str(member.id)}))
                    tls.sendall(frame(JOIN, {"txn": 1, "stream": "conversation"}))
                raw = tls
            raw.close()
    deadline = time.monotonic() + 10
    while len(json.loads(house.status())["links"]) > 2:
        assert time.monotonic() < deadline, house.status()
        time.sleep(0.1)
