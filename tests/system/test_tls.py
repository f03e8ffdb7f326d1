"""TLS that owns its socket, against itself, against OpenSSL's programs, against Twisted's TLS, and under faults."""

import contextlib
import gc
import os
import secrets
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from ice.net.tls import Dialling, listen
from ice.security.contexts import ClientTls, ServerTls, peer_of
from ice.testing.site import Site

reactor: Any = _reactor
HERE = "127.0.0.1"


@implementer(IHandshakeListener)
class Recorder(Protocol):
    """A protocol that writes down what happens to it."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.shaken: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.is_lost = False
        self.paused = 0
        self.on_data: Callable[[bytes], None] = lambda data: None

    def handshakeCompleted(self) -> None:
        self.shaken.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.on_data(data)

    def connectionLost(self, reason: Failure = ConnectionDone) -> None:  # type: ignore[assignment]
        self.is_lost = True
        self.reason = reason
        self.lost.callback(None)
        if not self.shaken.called:
            self.shaken.addErrback(lambda _: None)
            self.shaken.errback(reason)

    async def end(self) -> Failure:
        """Wait for the end of the connection, and why it came."""
        await self.lost
        return self.reason

    def pauseProducing(self) -> None:
        self.paused += 1
        self.full = True

    def resumeProducing(self) -> None:
        self.full = False

    def stopProducing(self) -> None:
        pass


class Ends(Factory):
    """Makes recorders and keeps them."""

    noisy = False

    def __init__(self) -> None:
        self.made: list[Recorder] = []

    def buildProtocol(self, address: object) -> Recorder:
        self.made.append(Recorder())
        return self.made[-1]


class Bench:
    """A site, a listening port of ours, and ways to dial it."""

    def __init__(self, folder: Path) -> None:
        self.site = Site.create(folder)
        self.server = ServerTls(self.site.rallypoint.credentials(), self.site.trust())
        self.client = ClientTls(self.site.clients[0].credentials(), self.site.trust())
        self.accepted = Ends()
        self.port = listen(reactor, HERE, 0, self.accepted, self.server.connection)
        self.number: int = self.port.getHost().port

    def dial(self, number: int | None = None) -> "Deferred[Recorder]":
        """Open a link; fires when TCP stands."""
        dialling: Any = Dialling(reactor, lambda sock: self.client.connection(HERE, sock))
        endpoint = TCP4ClientEndpoint(dialling, HERE, number or self.number)
        connected: Any = endpoint.connect(Ends())
        return connected  # type: ignore[no-any-return]

    async def pair(self) -> tuple[Recorder, Recorder]:
        """Two ends of ours that have shaken hands."""
        before = len(self.accepted.made)
        opened = await self.dial()
        await opened.shaken
        await until(lambda: len(self.accepted.made) > before)
        await self.accepted.made[-1].shaken
        return opened, self.accepted.made[-1]


async def until(true: Callable[[], Any], timeout_s: float = 15.0) -> None:
    """Let the reactor turn until something is true."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        await deferLater(reactor, 0.005)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "site")
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(_close(made)))


async def _close(made: Bench) -> None:
    await made.port.stopListening()
    for end in made.accepted.made:
        if not end.is_lost:
            end.transport.abortConnection()
            await end.lost


@pytest_twisted.ensureDeferred
async def test_both_ways(bench: Bench) -> None:
    """Bytes of any amount arrive whole and in order, both ways at once."""
    opened, accepted = await bench.pair()
    there, back = secrets.token_bytes(3_000_000), secrets.token_bytes(2_000_000)
    for start in range(0, len(there), 7_777):
        opened.transport.write(there[start : start + 7_777])
    accepted.transport.write(back)
    await until(lambda: len(accepted.received) == len(there) and len(opened.received) == len(back))
    assert accepted.received == there and opened.received == back


@pytest_twisted.ensureDeferred
async def test_who_is_there(bench: Bench) -> None:
    """Both ends know the other's certificate, the protocol agreed on, and a secret nobody else knows."""
    opened, accepted = await bench.pair()
    assert opened.transport.negotiatedProtocol == accepted.transport.negotiatedProtocol == b"ice-link/1"
    assert peer_of(accepted.transport.tls).identity.id == bench.site.clients[0].id
    assert peer_of(opened.transport.tls).identity.id == bench.site.rallypoint.id
    assert accepted.transport.getPeerCertificate() is not None
    key = opened.transport.export_key(b"EXPORTER-ice", 32)
    assert key == accepted.transport.export_key(b"EXPORTER-ice", 32) and len(key) == 32
    assert key != opened.transport.export_key(b"EXPORTER-other", 32)


@pytest_twisted.ensureDeferred
async def test_orderly_end(bench: Bench) -> None:
    """Last words are heard before the end, although unread bytes lie in the closing side's socket."""
    opened, accepted = await bench.pair()
    opened.transport.write(b"x" * 100_000)
    accepted.transport.write(b"last words")
    accepted.transport.loseConnection()
    reason = await opened.end()
    assert reason.check(ConnectionDone) and opened.received == b"last words"
    reason = await accepted.end()
    assert reason.check(ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_end_waits_for_what_was_written(bench: Bench) -> None:
    """``loseConnection`` first delivers everything that was written, however slowly the far side reads."""
    opened, accepted = await bench.pair()
    opened.transport.pauseProducing()
    data = secrets.token_bytes(8_000_000)
    accepted.transport.write(data)
    accepted.transport.loseConnection()
    await deferLater(reactor, 0.05)
    opened.transport.resumeProducing()
    await opened.lost
    assert opened.received == data


@pytest_twisted.ensureDeferred
async def test_producer_is_paused_from_the_first_byte(bench: Bench) -> None:
    """A full kernel pauses the producer at once; it is resumed when all is out; nothing is lost or torn."""
    opened, accepted = await bench.pair()
    opened.transport.pauseProducing()
    accepted.transport.registerProducer(accepted, True)
    accepted.full = False
    sent = 0
    while not accepted.full:
        accepted.transport.write(struct.pack(">I", sent) * 35)
        sent += 1
    assert accepted.paused == 1 and sent > 10
    opened.transport.resumeProducing()
    await until(lambda: not accepted.full)
    accepted.transport.write(b"end!")
    await until(lambda: opened.received.endswith(b"end!"))
    numbers = struct.unpack(f">{sent * 35}I", bytes(opened.received[:-4]))
    assert list(numbers[::35]) == list(range(sent))


@pytest_twisted.ensureDeferred
async def test_no_starvation(bench: Bench) -> None:
    """One link that floods does not keep another from its turn."""
    flood, flooded = await bench.pair()
    quiet, heard = await bench.pair()
    flood.transport.write(b"x" * 20_000_000)
    quiet.transport.write(b"hello")
    await until(lambda: heard.received == b"hello")
    assert len(flooded.received) < 20_000_000, "the quiet link was served before the flood was over"


@pytest_twisted.ensureDeferred
async def test_reset(bench: Bench) -> None:
    """A reset in the middle of a record ends the link, once, with a reason."""
    opened, accepted = await bench.pair()
    accepted.transport.write(b"x" * 5_000_000)
    opened.transport.abortConnection()
    reason = await accepted.end()
    assert not reason.check(ConnectionDone)
    accepted.transport.write(b"more")
    accepted.transport.loseConnection()
    assert accepted.is_lost


@pytest_twisted.ensureDeferred
async def test_end_inside_a_callback(bench: Bench) -> None:
    """A protocol may end its link while it is being told of data; it is told nothing more."""
    for ending in ("abortConnection", "loseConnection"):
        opened, accepted = await bench.pair()
        told = []

        def end(data: bytes, end: Recorder = accepted, how: str = ending, told: list[int] = told) -> None:
            told.append(len(data))
            getattr(end.transport, how)()

        accepted.on_data = end
        opened.transport.write(b"x" * 1_000_000)
        await accepted.lost
        assert len(told) == 1


@pytest_twisted.ensureDeferred
async def test_twisted_dials_us(bench: Bench) -> None:
    """Twisted's own TLS is a client of ours."""
    creator: Any = bench.client.to(HERE)
    endpoint: Any = wrapClientTLS(creator, TCP4ClientEndpoint(reactor, HERE, bench.number))
    theirs: Recorder = await endpoint.connect(Ends())
    await theirs.shaken
    (ours,) = bench.accepted.made
    await ours.shaken
    data = secrets.token_bytes(1_000_000)
    theirs.transport.write(data)
    ours.transport.write(data)
    await until(lambda: theirs.received == data == ours.received)
    theirs.transport.loseConnection()
    assert (await ours.end()).check(ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_we_dial_twisted(bench: Bench) -> None:
    """Twisted's own TLS is a server of ours."""
    ends = Ends()
    wrapped = TLSMemoryBIOFactory(bench.server, False, ends)
    port: Any = await TCP4ServerEndpoint(reactor, 0, interface=HERE).listen(wrapped)
    ours = await bench.dial(port.getHost().port)
    await ours.shaken
    (theirs,) = ends.made
    await theirs.shaken
    data = secrets.token_bytes(1_000_000)
    theirs.transport.write(data)
    ours.transport.write(data)
    await until(lambda: theirs.received == data == ours.received)
    theirs.transport.loseConnection()
    assert (await ours.end()).check(ConnectionDone)
    await port.stopListening()


class Program:
    """``openssl s_client`` or ``s_server``, spoken to by its standard streams."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            ["openssl", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdout is not None and self.process.stdin is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._said = b""

    @property
    def said(self) -> bytes:
        """All its output so far."""
        assert self.process.stdout is not None
        self._said += self.process.stdout.read() or b""
        return self._said

    def type(self, text: bytes) -> None:
        """Type a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


@pytest_twisted.ensureDeferred
async def test_openssl_dials_us(bench: Bench) -> None:
    """``openssl s_client`` talks with us, and changes keys in the middle, asking us to change ours as well."""
    person = bench.site.clients[0]
    program = Program(
        *f"s_client -connect {HERE}:{bench.number} -alpn ice-link/1 -CAfile {bench.site.pki}/authority.pem".split(),
        *f"-cert {person.certificate} -key {person.key} -verify_return_error".split(),
    )
    try:
        await until(lambda: bench.accepted.made)
        (ours,) = bench.accepted.made
        await ours.shaken
        await until(lambda: b"ALPN protocol: ice-link/1" in program.said and b"TLSv1.3" in program.said)
        program.type(b"before\n")
        await until(lambda: ours.received == b"before\n")
        for number, command in enumerate((b"k\n", b"K\n"), 1):
            program.type(command)
            await until(lambda number=number: program.said.count(b"KEYUPDATE") >= number)  # type: ignore[misc]
        program.type(b"after\n")
        await until(lambda: ours.received == b"before\nafter\n")
        ours.transport.write(b"answer under new keys\n")
        await until(lambda: b"answer under new keys" in program.said)
        program.type(b"Q\n")
        await ours.lost
    finally:
        program.kill()


@pytest_twisted.ensureDeferred
async def test_openssl_without_certificate(bench: Bench) -> None:
    """Who shows no certificate is refused by an alert that openssl can name."""
    program = Program(*f"s_client -connect {HERE}:{bench.number} -alpn ice-link/1".split())
    try:
        await until(lambda: bench.accepted.made and bench.accepted.made[0].is_lost)
        await until(lambda: b"alert certificate required" in program.said)
    finally:
        program.kill()


@pytest_twisted.ensureDeferred
async def test_we_dial_openssl(bench: Bench, free_ports: Callable[[int], list[int]]) -> None:
    """``openssl s_server`` lets us in."""
    (number,) = free_ports(1)
    switch = bench.site.rallypoint
    program = Program(
        *f"s_server -accept {HERE}:{number} -tls1_3 -alpn ice-link/1 -CAfile {bench.site.pki}/authority.pem".split(),
        *f"-cert {switch.certificate} -key {switch.key} -Verify 1 -verify_return_error".split(),
    )
    try:
        await until(lambda: b"ACCEPT" in program.said)
        ours = await bench.dial(number)
        await ours.shaken
        ours.transport.write(b"to openssl\n")
        await until(lambda: b"to openssl" in program.said)
        program.type(b"from openssl\n")
        await until(lambda: ours.received == b"from openssl\n")
        program.kill()
        await ours.lost
    finally:
        program.kill()


class Trickle(threading.Thread):
    """A path between client and server that carries one byte at a time, or stops after so many."""

    def __init__(self, target: int, *, stop_after: int | None = None) -> None:
        super().__init__(daemon=True)
        self.target, self.stop_after = target, stop_after
        self.listener = socket.create_server((HERE, 0))
        self.number: int = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        near, _ = self.listener.accept()
        far = socket.create_connection((HERE, self.target))
        self.open += [near, far]
        for a, b in ((near, far), (far, near)):
            a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.carry, args=(a, b), daemon=True).start()

    def carry(self, here: socket.socket, there: socket.socket) -> None:
        """One byte at a time, until there are no more."""
        passed = 0
        with contextlib.suppress(OSError):
            while data := here.recv(1):
                passed += 1
                if self.stop_after is not None and passed > self.stop_after:
                    self.over.wait(60)
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End it on both sides, in the middle of whatever they were saying."""
        self.over.set()
        for each in self.open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # a close alone would not wake the thread that reads
            each.close()
        self.listener.close()


@pytest_twisted.ensureDeferred
async def test_a_byte_at_a_time(bench: Bench) -> None:
    """Handshake, records and the end, cut into single bytes."""
    path = Trickle(bench.number)
    opened = await bench.dial(path.number)
    await opened.shaken
    (accepted,) = bench.accepted.made
    await accepted.shaken
    opened.transport.write(b"a" * 2_000)
    accepted.transport.write(b"b" * 2_000)
    await until(lambda: len(opened.received) == len(accepted.received) == 2_000)
    opened.transport.loseConnection()
    assert (await accepted.end()).check(ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_stalls_and_cuts_in_the_handshake(bench: Bench) -> None:
    """A handshake that stalls at any point holds nothing up, and its reset is one end with a reason."""
    for stop_after in (0, 1, 5, 100, 400, 1_000):
        path = Trickle(bench.number, stop_after=stop_after)
        before = len(bench.accepted.made)
        opened = await bench.dial(path.number)
        await until(lambda before=before: len(bench.accepted.made) > before)  # type: ignore[misc]
        stalled = bench.accepted.made[-1]
        stalled.transport.write(b"too early")
        one, other = await bench.pair()  # others get in meanwhile
        one.transport.write(b"x")
        await until(lambda other=other: other.received == b"x")  # type: ignore[misc]
        assert not stalled.shaken.called
        path.cut()
        await opened.lost
        await stalled.lost


@pytest_twisted.ensureDeferred
async def test_noise_instead_of_tls(bench: Bench) -> None:
    """Bytes that are no TLS end with the reason that OpenSSL gives."""
    for noise in (
        b"GET / HTTP/1.1\r\n\r\n",
        secrets.token_bytes(500),
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
    ):
        before = len(bench.accepted.made)
        with socket.create_connection((HERE, bench.number)) as raw:
            raw.sendall(noise)
            await until(lambda before=before: len(bench.accepted.made) > before)  # type: ignore[misc]
            reason = await bench.accepted.made[-1].end()
            assert not reason.check(ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_nobody_listens(bench: Bench, free_ports: Callable[[int], list[int]]) -> None:
    """A refused connection fails the dial."""
    (number,) = free_ports(1)
    with pytest.raises(Exception, match="refused"):
        await bench.dial(number)


@pytest_twisted.ensureDeferred
async def test_swapped_certificates(bench: Bench) -> None:
    """After a swap new links see the new certificate, and old ones go on."""
    opened, accepted = await bench.pair()
    first = opened.transport.getPeerCertificate().get_serial_number()
    bench.site.authority.renew("rallypoint", datetime.now(UTC))
    bench.server.swap(bench.site.rallypoint.credentials(), bench.site.trust())
    newer, _ = await bench.pair()
    assert newer.transport.getPeerCertificate().get_serial_number() != first
    opened.transport.write(b"still here")
    await until(lambda: accepted.received == b"still here")


@pytest_twisted.ensureDeferred
async def test_nothing_leaks(bench: Bench) -> None:
    """Thousands of links come and go, in every way, and leave no descriptor, timer or object behind."""

    def tally() -> tuple[int, int, int]:
        gc.collect()
        kept = sum(type(each).__name__ in ("_Accepted", "_Opened", "Connection") for each in gc.get_objects())
        return len(os.listdir("/proc/self/fd")), len(reactor.getDelayedCalls()), kept

    async def crowd(count: int) -> None:
        for number in range(count):
            opened, accepted = await bench.pair()
            opened.transport.write(b"x" * 1_000)
            ending = (opened, accepted)[number % 2]
            (ending.transport.loseConnection, ending.transport.abortConnection)[number // 2 % 2]()
            await opened.lost
            await accepted.lost
            bench.accepted.made.clear()

    await crowd(50)
    before = tally()
    await crowd(500)
    after = tally()
    assert after[0] <= before[0] and after[1] <= before[1] + 1 and after[2] <= before[2] + 4, (before, after)
