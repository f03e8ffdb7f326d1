"""The test site itself: roads that are cut, refused and slowed one by one, and nothing left behind; no Rallypoint is needed."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from .crowd import Book, payload_of, read_payload
from .roads import NAMESPACES, Roads, inside, obstacle, sweep
from .tally import Tape, among

needs_roads = pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "")

PORT = 7000
AT_ONCE_S = 0.5  # allowance for what needs no time, on a machine that does other things as well
GIVE_UP_S = 1.0


@pytest.fixture
def roads() -> Iterator[Roads]:
    """Three places, each of which sends back what it is sent."""
    built = Roads(["a", "b", "c"])
    listeners = []
    try:
        for place in built.places.values():
            listener = inside(place.namespace, lambda: socket.create_server(("0.0.0.0", PORT)))
            listeners.append(listener)
            threading.Thread(target=echo, args=(listener,), daemon=True).start()
        yield built
    finally:
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        built.close()


def echo(listener: socket.socket) -> None:
    """Send back what comes, on any number of connections."""

    def serve(near: socket.socket) -> None:
        try:
            while data := near.recv(4096):
                near.sendall(data)
        except OSError:
            pass
        finally:
            near.close()

    try:
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
    except OSError:
        return


def dial(roads: Roads, a: str, b: str) -> socket.socket:
    """A connection between two places."""
    return roads.places[a].connect(roads.places[b].address, PORT, GIVE_UP_S)


def there_and_back(connection: socket.socket) -> float:
    """How long a word takes, in seconds; raises OSError."""
    begin = time.monotonic()
    connection.sendall(b"word")
    assert connection.recv(4) == b"word"
    return time.monotonic() - begin


@needs_roads
def test_a_road_is_cut_silently(roads: Roads) -> None:
    """Nobody hears anything on a cut road, all others are as they were, and what was sent arrives after healing."""
    ab, ba, ac = dial(roads, "a", "b"), dial(roads, "b", "a"), dial(roads, "a", "c")
    for each in (ab, ba, ac):
        there_and_back(each)
    roads.cut("a", "b")
    for each in (ab, ba):
        with pytest.raises(TimeoutError):
            there_and_back(each)
    with pytest.raises(TimeoutError):
        dial(roads, "b", "a")
    assert there_and_back(ac) < AT_ONCE_S
    assert there_and_back(dial(roads, "c", "b")) < AT_ONCE_S
    roads.heal("a", "b")
    for each in (ab, ba):
        each.settimeout(10.0)
        assert each.recv(4) == b"word"
        assert there_and_back(each) < AT_ONCE_S
    for each in (ab, ba, ac):
        each.close()


@needs_roads
def test_a_road_is_cut_by_reset(roads: Roads) -> None:
    """Both ends hear at once that their connection is gone, new ones are refused at once, and other roads are as they were."""
    ab, ba, ac = dial(roads, "a", "b"), dial(roads, "b", "a"), dial(roads, "a", "c")
    assert (roads.connections("a", "b"), roads.connections("a", "c")) == (2, 1)
    roads.cut("a", "b", how="reset")
    begin = time.monotonic()
    for each in (ab, ba):
        with pytest.raises((ConnectionError, BrokenPipeError)):
            there_and_back(each)
    with pytest.raises(OSError, match=r"route|refused|unreachable|denied"):
        dial(roads, "a", "b")
    assert time.monotonic() - begin < AT_ONCE_S
    assert (roads.connections("a", "b"), roads.connections("b", "a")) == (0, 0)
    assert there_and_back(ac) < AT_ONCE_S
    roads.heal()
    again = dial(roads, "a", "b")
    assert there_and_back(again) < AT_ONCE_S
    for each in (ab, ba, ac, again):
        each.close()


@needs_roads
def test_a_road_is_slow(roads: Roads) -> None:
    """A slow road takes its time in both directions, whoever dialled; others do not; a cut one is cut, slow or not."""
    ab, ba, ac = dial(roads, "a", "b"), dial(roads, "b", "a"), dial(roads, "a", "c")
    roads.slow("a", "b", 0.1)
    for each in (ab, ba):
        assert 0.2 <= there_and_back(each) < 0.2 + AT_ONCE_S
    assert there_and_back(ac) < 0.1
    roads.slow("a", "b", 0.2)
    assert 0.4 <= there_and_back(ab) < 0.4 + AT_ONCE_S
    bulk = os.urandom(200_000)
    threading.Thread(target=ab.sendall, args=(bulk,), daemon=True).start()
    ab.settimeout(10.0)
    came = b""
    while len(came) < len(bulk):
        came += ab.recv(65_536)
    assert came == bulk
    roads.cut("a", "b")
    with pytest.raises(TimeoutError):
        there_and_back(ba)
    roads.heal()
    ba.settimeout(10.0)
    assert ba.recv(4) == b"word"
    assert there_and_back(ba) < 0.1
    for each in (ab, ba, ac):
        each.close()


@needs_roads
def test_a_partition(roads: Roads) -> None:
    """Roads between the sides are cut, roads within one are not, and healing heals all."""
    roads.partition(["a", "b"], ["c"])
    there_and_back(dial(roads, "a", "b"))
    for side in ("a", "b"):
        with pytest.raises(TimeoutError):
            dial(roads, side, "c")
    assert roads.cuts == {frozenset("ac"): "silence", frozenset("bc"): "silence"}
    roads.heal()
    there_and_back(dial(roads, "c", "b"))
    assert roads.cuts == {}


@needs_roads
def test_nothing_is_left() -> None:
    """Closing removes every namespace; those of a process that has died are swept away, those of one that lives are not."""
    one, other = Roads(["a", "b"]), Roads(["a", "b"])
    mine = {one.router, *(place.namespace for place in one.places.values())}
    assert mine <= set(os.listdir(NAMESPACES))
    one.close()
    assert not mine & set(os.listdir(NAMESPACES))
    dead = subprocess.Popen(["true"])
    dead.wait()
    subprocess.run(["ip", "netns", "add", f"ice{dead.pid}-0000-a"], check=True)
    assert sweep() == [f"ice{dead.pid}-0000-a"]
    assert other.router in os.listdir(NAMESPACES)
    other.close()
    other.close()


def test_a_tally(tmp_path: Path) -> None:
    """Lost, unsent, doubled and disordered datagrams and silences are told apart, and a talker's pauses are none."""
    path = tmp_path / "trace"
    with path.open("w") as file:
        book = Book(file)
        book._gathered = {
            ("sent", "ann", "town"): [
                (n, 10**9 + n * 20_000_000 + (n >= 50) * 2 * 10**9, not 60 <= n < 65) for n in range(100)
            ],
            ("heard", "bob", "town", "ann"): [
                (n, 10**9 + 5_000_000 + n * 20_000_000 + (n >= 50) * 2 * 10**9, True)
                for n in [*range(20), 21, 20, *range(22, 31), 30, *range(40, 60), *range(65, 98)]
            ],
        }
        book.flush()
        file.write('{"e":"path","who":"bob","stream":"town","up":true,"why":"","ns":1000000000}\n')
        file.write('{"e":"path","who":"eve","stream":"town","up":true,"why":"","ns":1910000000}\n')
        file.write(
            '{"e":"notice","who":"bob","kind":"connected","address":"h:1","code":"","text":"","ns":5}\n{"e":"no'
        )
    tape = Tape([path]).read()
    pair = tape.pair("ann", "bob", "town")
    assert (pair.attempts, pair.unsent, pair.heard, pair.lost) == (100, 5, 84, 11)
    assert (pair.doubled, pair.disordered) == (1, 1)
    np.testing.assert_allclose(pair.lost_at[:2], [1.62, 1.64])
    assert [round(each.seconds, 3) for each in pair.silences] == [0.18]
    assert round(pair.silence_s, 3) == 0.18
    np.testing.assert_allclose(np.median(pair.latency_s), 0.005)
    eve = tape.pair("ann", "eve", "town")
    assert (eve.attempts, eve.heard, eve.lost) == (54, 0, 49)
    assert eve.silence_s == pytest.approx(4.98 - 1.92, abs=0.03)
    assert tape.pair("ann", "bob", "town", since_s=1.0, until_s=1.4).lost == 0
    assert tape.home("bob") == "h:1" and tape.up("bob", "town")
    assert len(among(tape.pairs(), ["ann"], ["eve"])) == 1
    assert read_payload(payload_of("ann", 77)) == ("ann", 77)
