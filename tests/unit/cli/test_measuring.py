"""``ice bandwidth --measure``: sealing, sizes, and what is told; real links are in the system tests."""

import contextlib
import io
import json
import socket
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ice.cli.measuring import Report, _as_spoken, _Group, _Sealing
from ice.errors import LocalError
from ice.net.addresses import Address
from ice.planning.bandwidth import Carrier, Rate, Seal, carried, sealed
from ice.planning.wire import Compared


class Sink:
    """A stream that keeps what it is given, and takes every second datagram only."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.offered = 0

    def send(self, payload: bytes, flags: int) -> bool:
        self.offered += 1
        if self.offered % 2 == 0:
            return False
        self.kept.append(payload)
        return True


class Sizes(SynchronousTestCase):
    def test_sealing(self) -> None:
        """Packets are really sealed, and are as long as planned; those that found no path do not count."""
        for seal in Seal:
            sink = Sink()
            sealing = _Sealing(sink, seal, "town")
            for size in (72, 80, 72, 72):
                sealing.send(b"\x80" + bytes(size - 1))
            self.assertEqual(sealing.sizes, [sealed(72, seal)] * 2)
            self.assertEqual([len(each) for each in sink.kept], sealing.sizes)
            self.assertEqual(sink.kept[0] == sink.kept[1], seal is Seal.CLEAR)

    def test_as_spoken(self) -> None:
        """The sum of what each packet takes, over the time."""
        rate = _as_spoken([100, 200], 4.0, Carrier.RALLYPOINT, ipv6=False)
        octets = carried(100, Carrier.RALLYPOINT) + carried(200, Carrier.RALLYPOINT)
        self.assertEqual(rate, Rate(0.5, octets / 4))


class Told(SynchronousTestCase):
    def report(self, **more: Any) -> Report:
        """One row: 10 % over the plan, as spoken exactly."""
        fields: dict[str, Any] = {
            "title": "somewhere", "how": "captured", "seconds": 2.0, "sent": 100, "heard": 99, "mean_octets": 93.5,
            "rows": (Compared("out", Rate(50, 10_000), Rate(50, 11_000)),),
            "spoken": (Compared("out", Rate(50, 11_000), Rate(50, 11_000)),),
        }  # fmt: skip
        return Report(**fields | more)

    def test_people(self) -> None:
        """A table with what was planned, spoken and measured; a capture that missed frames says so."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.report(capture_dropped=3).show()
        words = out.getvalue()
        self.assertIn("somewhere, 2.0 s, kbit/s (captured):", words)
        self.assertIn("out     80.0       88.0      88.0   +0.0%       50.0", words)
        self.assertIn("100 packets sent, 99 heard; 93.5 bytes each", words)
        self.assertIn("could not give us 3 frames", words)

    def test_machines(self) -> None:
        """The same as one object."""
        (row,) = json.loads(json.dumps(self.report().jsonable()))["rows"]
        self.assertEqual((row["off_plan"], row["off_as_spoken"]), (0.1, 0.0))
        self.assertEqual(row["measured"]["kbits_per_s"], 88.0)


class Groups(SynchronousTestCase):
    def test_a_group_on_the_loopback(self) -> None:
        """What is sent to a group is heard there and counted, and as long as planned."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        try:
            group = _Group(Address("239.255.77.7", port), "lo")
        except LocalError as error:
            raise SkipTest(str(error)) from None
        with group:
            for size in (100, 200):
                self.assertTrue(group.send(bytes(size), 0))
            seen = group.seen()
            group.read()
        self.assertEqual((seen.packets_out, seen.octets_out), (2, 100 + 200 + 2 * 42))
        self.assertEqual(group.heard, 2)

    def test_refusals(self) -> None:
        """A name is no address; an interface that is not there is said."""
        self.assertRaises(LocalError, _Group, Address("example.org", 5_000), "")
        self.assertRaises(LocalError, _Group, Address("239.255.77.7", 5_000), "none0")
