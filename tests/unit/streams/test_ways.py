"""Other ways into the mesh: the book and the file."""

import json
import os
import stat
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ice.net.addresses import Address
from ice.streams.memory import Collector
from ice.streams.rallypoint import RallypointNetwork
from ice.streams.ways import (
    MAX_FILE,
    MAX_NETWORKS,
    MAX_WAYS,
    MEMORY_S,
    STAMP_S,
    WRITE_AFTER_S,
    WRITE_AT_LAST_S,
    Way,
    Ways,
    WaysError,
    WaysFile,
    decode_ways,
    encode_ways,
    merged,
)
from ice.testing.network import MemoryDialler, MemoryRallypoint, network_on, run, until
from tests.unit.streams.case import HALL, A, B

X, Y, Z = (Address(f"{letter}.test", 7443) for letter in "xyz")
DAY = 86_400.0

addresses = st.builds(
    Address,
    st.one_of(
        st.from_regex(r"\A[a-z][a-z0-9]{0,20}(\.[a-z][a-z0-9-]{0,10}[a-z0-9]){0,3}\Z"),
        st.ip_addresses().map(str),
    ),
    st.integers(1, 65535),
)
stamps = st.integers(0, 10**11).map(float)
ways_of = st.lists(
    st.builds(Way, addresses, stamps, stamps), max_size=MAX_WAYS, unique_by=lambda way: way.address
)


class BookTests(SynchronousTestCase):
    def test_order(self) -> None:
        """What has worked stands first, the latest before all; then the order told, the latest telling first."""
        ways = Ways()
        ways.named([X], 0.0)
        ways.named([Y, Z], 1.0)
        self.assertEqual(ways.addresses, (Y, Z, X))
        ways.worked(X, 2.0)
        ways.worked(Z, 3.0)
        self.assertEqual((ways.addresses, ways.proven), ((Z, X, Y), (Z, X)))

    def test_bounded(self) -> None:
        """A long list of inventions pushes out what was never more than named, and nothing that has worked."""
        ways = Ways()
        ways.named([X, Y], 0.0)
        ways.worked(X, 1.0)
        ways.named([Address(f"invented{n}.test", 7443) for n in range(200)], 10.0)
        self.assertEqual(len(ways), MAX_WAYS)
        self.assertEqual(ways.addresses[0], X)
        self.assertNotIn(Y, ways.addresses)

    def test_only_named_ways_work(self) -> None:
        """Where a link stands at an address that nobody has named there is nothing to remember."""
        ways = Ways()
        ways.worked(X, 1.0)
        self.assertEqual((len(ways), ways.changed), (0, False))

    def test_stamps_are_kept_to_the_day(self) -> None:
        """The same news every minute is nothing to write; after a day it is."""
        ways = Ways([Way(X, 1_000.0, 1_000.0)])
        for at in (1_060.0, 1_000.0 + STAMP_S):
            ways.named([X], at)
            ways.worked(X, at)
        self.assertFalse(ways.changed)
        ways.named([X], 1_001.0 + STAMP_S)
        self.assertTrue(ways.changed)

    def test_clocks_that_jump(self) -> None:
        """A clock that was decades ahead, or behind, costs nothing that is still named; the rest has its week from then on."""
        ways = Ways([Way(X, 4e9, 4e9), Way(Y, 0.0)])
        ways.named([Z], 2e9)
        ways.forget(2e9)
        self.assertEqual(set(ways.addresses), {X, Z}, "Y was last named in 1970")
        ways.forget(2e9 + MEMORY_S)
        self.assertIn(X, ways.addresses)
        ways.forget(2e9 + MEMORY_S + 1)
        self.assertNotIn(X, ways.addresses)

    def test_merged(self) -> None:
        """Of what two processes know the later stamp holds; what only the other wrote is kept for its week; no stamp is of the future."""
        now = 100 * DAY
        both = merged(
            [Way(X, now, 5.0)],
            [
                Way(X, now - DAY, now - DAY),
                Way(Y, now - DAY),
                Way(Z, now - 8 * DAY),
                Way(Address("f", 1), 1e11),
            ],
            now,
        )
        self.assertEqual(
            {way.address.host: (way.named_at, way.worked_at) for way in both},
            {"x.test": (now, now - DAY), "y.test": (now - DAY, 0.0), "f": (now, 0.0)},
        )


class BytesTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(st.dictionaries(st.text(max_size=64), ways_of, max_size=4))
    def test_round_trip(self, networks: dict[str, list[Way]]) -> None:
        """What is written is read back."""
        self.assertEqual(decode_ways(encode_ways(networks)), (networks, 0))

    @settings(max_examples=200, deadline=None)
    @given(
        st.one_of(
            st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
        )
    )
    def test_noise(self, data: bytes) -> None:
        """Whatever bytes there are: ways, or an error in words."""
        try:
            decode_ways(data)
        except WaysError as error:
            self.assertTrue(str(error))

    @settings(max_examples=100, deadline=None)
    @given(
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=4),
                st.dictionaries(
                    st.sampled_from(["version", "networks", "address", "named", "worked", "n"]),
                    inner,
                    max_size=4,
                ),
            ),
            max_leaves=20,
        )
    )
    def test_other_json(self, value: object) -> None:
        """Any JSON but ours: the same."""
        try:
            networks, _ = decode_ways(json.dumps(value).encode())
            self.assertLessEqual(len(networks), MAX_NETWORKS)
        except WaysError as error:
            self.assertTrue(str(error))

    def test_truncated(self) -> None:
        """No beginning of a file is a file."""
        whole = encode_ways({"n": [Way(X, 5.0, 4.0)]}).rstrip()
        for end in range(len(whole)):
            self.assertRaises(WaysError, decode_ways, whole[:end])

    def test_hostile(self) -> None:
        """Addresses that are none are left out and counted; too many of anything are cut; depth and size are bounded."""
        entries = [
            {"address": text, "named": 1}
            for text in ("", "x.test", "x.test:0", "a b:1", "x.test:7443\n", "ok.test:1")
        ]
        networks, bad = decode_ways(json.dumps({"version": 1, "networks": {"n": entries}}).encode())
        self.assertEqual((len(networks["n"]), bad), (1, 5))
        many = [{"address": f"h{n}.test:1", "named": 1} for n in range(100)]
        networks, bad = decode_ways(json.dumps({"version": 1, "networks": {"n": many}}).encode())
        self.assertEqual((len(networks["n"]), bad), (MAX_WAYS, 36))
        crowd = json.dumps({"version": 1, "networks": {str(n): [] for n in range(100)}}).encode()
        self.assertEqual(len(decode_ways(crowd)[0]), MAX_NETWORKS)
        for data in (b"[" * 100_000, b" " * (MAX_FILE + 1), b'{"version": 2, "networks": {}}'):
            self.assertRaises(WaysError, decode_ways, data)

    def test_the_form(self) -> None:
        """The file as the page shows it."""
        data = encode_ways({"5f70": [Way(Address("rp2.example.org", 7443), 1763750000.5)]})
        self.assertEqual(
            json.loads(data),
            {
                "version": 1,
                "networks": {"5f70": [{"address": "rp2.example.org:7443", "named": 1763750000, "worked": 0}]},
            },
        )

    def test_full(self) -> None:
        """The fullest file there can be is not over its own bound."""
        label = "a" * 58
        name = f"{label}.{label}.{label}.{label}"
        ways = [Way(Address(f"{n:05}{name}"[:253], 65535), 1e11, 1e11) for n in range(MAX_WAYS)]
        data = encode_ways({f"{n:0128}": ways for n in range(MAX_NETWORKS)})
        self.assertLess(len(data), MAX_FILE)
        self.assertEqual(decode_ways(data)[1], 0)


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state" / "ways.json"
        self.warned: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: LogEvent) -> None:
        if "network.ways_file" in str(event.get("log_format")):
            self.warned.append(str(event["why"]))

    def file(self, network: str = "n") -> WaysFile:
        return WaysFile(self.path, network)

    def put(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(data)

    def test_saved_and_loaded(self) -> None:
        """What is saved is there after a restart; the folder is made, and nobody else may read the file."""
        self.assertEqual(self.file().load(), [])
        self.file().save(Ways([Way(X, 5.0, 4.0)]), 5.0)
        self.assertEqual(self.file().load(), [Way(X, 5.0, 4.0)])
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.path.parent), ["ways.json"])
        self.assertEqual(self.warned, [])

    def test_several_networks_and_processes(self) -> None:
        """Networks do not see each other's ways, and processes of one add to each other's."""
        self.file().save(Ways([Way(X, 5.0)]), 5.0)
        self.file("other").save(Ways([Way(Z, 5.0)]), 5.0)
        self.file().save(Ways([Way(Y, 6.0)]), 6.0)
        self.assertEqual({way.address for way in self.file().load()}, {X, Y})
        self.assertEqual([way.address for way in self.file("other").load()], [Z])

    def test_what_makes_no_sense(self) -> None:
        """A broken file is one line in the log, and is replaced at the next opportunity."""
        self.put(b'{"version": 1, "networks": {"n": [{"address": 7}]}}')
        file = self.file()
        self.assertEqual((file.load(), file.load()), ([], []))
        self.assertEqual(len(self.warned), 1)
        file.save(Ways([Way(X, 5.0)]), 5.0)
        self.assertEqual(self.file().load(), [Way(X, 5.0)])

    def test_neither_pipes_nor_links(self) -> None:
        """A named pipe does not make us wait, and a symbolic link is not followed."""
        self.path.parent.mkdir(parents=True)
        os.mkfifo(self.path)
        self.assertEqual(self.file().load(), [])
        self.path.unlink()
        target = self.path.with_name("target")
        target.write_bytes(encode_ways({"n": [Way(X, 5.0)]}))
        self.path.symlink_to(target)
        self.assertEqual(self.file().load(), [])
        self.file().save(Ways([Way(Y, 5.0)]), 5.0)
        self.assertEqual(
            decode_ways(target.read_bytes())[0], {"n": [Way(X, 5.0)]}, "what it led to is untouched"
        )
        self.assertEqual(len(self.warned), 3)

    def test_no_place_for_it(self) -> None:
        """A folder that cannot be made is one line in the log, and no error."""
        self.path.parent.parent.mkdir(parents=True)
        self.path.parent.write_bytes(b"a file")
        file = self.file()
        for _ in range(3):
            file.save(Ways([Way(X, 5.0)]), 5.0)
        self.assertEqual(len([why for why in self.warned if "written" in why]), 1)

    def test_when_it_is_written(self) -> None:
        """A second after the change, later while somebody talks, after a minute in any case."""
        file = self.file()
        self.assertFalse(file.due(100.0, float("-inf")))
        self.assertTrue(file.due(100.0 + WRITE_AFTER_S, float("-inf")))
        self.assertFalse(file.due(110.0, 109.5))
        self.assertTrue(file.due(100.0 + WRITE_AT_LAST_S, 100.0 + WRITE_AT_LAST_S))


class NetworkTests(SynchronousTestCase):
    def test_a_restart_with_everything_dead(self) -> None:
        """What a WELCOME named is found after a restart though the only configured Rallypoint is dead, and its certificate is asked for as ever."""
        clock = Clock()
        path = Path(self.mktemp()) / "ways.json"
        dialler = MemoryDialler(clock, latency_s=0.001)
        dialler.there[A] = a = MemoryRallypoint(clock, name="a")
        a.alternatives = (B,)

        def network(seed: int) -> RallypointNetwork:
            return network_on(
                dialler, A, seed=seed, ways_file=WaysFile(path, "n"), wall=lambda: 1e9 + clock.seconds()
            )

        first = network(1)
        first.start()
        run(clock, 0.5)
        self.assertFalse(path.exists(), "not at once")
        run(clock, 1.0)
        self.assertEqual(WaysFile(path, "n").load(), [Way(Address("b.test", 7443), 1e9)])
        first.stop()
        a.crash()
        run(clock, 2.0)
        del dialler.there[A]
        dialler.there[B] = MemoryRallypoint(clock, name="b")
        dialler.attempts.clear()
        second = network(2)
        stream = second.join(HALL, Collector())
        second.start()
        self.assertLess(until(clock, lambda: stream.up, step_s=0.001), 0.02)
        self.assertEqual(dialler.tried, [A, B])
        second.stop()
        run(clock, 2.0)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual([way.worked_at for way in WaysFile(path, "n").load()], [1_000_000_003.0])

    def test_written_when_it_stops(self) -> None:
        """Who stops at once still remembers what it was told."""
        clock = Clock()
        path = Path(self.mktemp()) / "ways.json"
        dialler = MemoryDialler(clock)
        dialler.there[A] = a = MemoryRallypoint(clock)
        a.alternatives = (B,)
        network = network_on(dialler, A, ways_file=WaysFile(path, "n"))
        network.start()
        run(clock, 0.2)
        network.stop()
        self.assertEqual([way.address.host for way in WaysFile(path, "n").load()], ["b.test"])
        run(clock, 2.0)
