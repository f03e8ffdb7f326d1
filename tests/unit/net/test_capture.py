"""Captures: bytes on paper, bounds, and what other programs read in them."""

import os
import shutil
import socket
import stat
import struct
import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.net.addresses import Address
from ice.net.capture import (
    FILE_HEADER,
    MAX_PAYLOAD,
    MIN_BYTES,
    Capture,
    CaptureError,
    Keep,
    checksum,
    packet_of,
    record,
)

SENDER, GROUP = Address("192.0.2.7", 40_000), Address("239.1.2.3", 5_004)
SENDER6, GROUP6 = Address("fe80::7%eth0", 40_000), Address("ff15::1", 5_004)
AT = 1_760_000_000.25


def records(data: bytes) -> list[tuple[float, bytes]]:
    """Times and packets of a file."""
    assert data[:24] == FILE_HEADER, data[:24].hex()
    found, at = [], 24
    while at < len(data):
        seconds, ns, kept, length = struct.unpack_from("<IIII", data, at)
        assert kept == length and at + 16 + kept <= len(data)
        found.append((seconds + ns / 1e9, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


def slow_sum(data: bytes) -> int:
    """RFC 1071 as it is written there."""
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Paper(SynchronousTestCase):
    def test_a_datagram(self) -> None:
        """A record is what the specification says, byte for byte."""
        self.assertEqual(
            record(AT, SENDER, GROUP, b"hi!"),
            bytes.fromhex(
                "0078e768 80b2e60e 1f000000 1f000000"  # seconds, nanoseconds, lengths: little end first
                "4500001f 00004000 401187c2 c0000207 ef010203"  # IPv4
                "9c40138c 000b1396 686921"  # UDP
            ),
        )

    def test_ipv6(self) -> None:
        """The same over IPv6; a zone is of this machine and of no packet."""
        packet = packet_of(SENDER6, GROUP6, b"hi!")
        self.assertEqual(packet[:8].hex(" ", 4), "60000000 000b1140")
        self.assertEqual(packet[8:24], socket.inet_pton(socket.AF_INET6, "fe80::7"))
        pseudo = packet[8:40] + struct.pack(">II", 11, 17)
        self.assertEqual(slow_sum(pseudo + packet[40:]), 0)

    def test_checksum(self) -> None:
        """The quick sum is RFC 1071's, whatever the bytes."""

        @settings(max_examples=100, deadline=None, database=None)
        @given(st.binary(max_size=100) | st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\xff\xff\0\0"]))
        def same(data: bytes) -> None:
            self.assertEqual(checksum(data), slow_sum(data))

        same()

    def test_whatever_is_said(self) -> None:
        """Packets verify themselves: header and datagram, with their checksums, sum up to nothing."""

        @settings(max_examples=50, deadline=None, database=None)
        @given(st.binary(max_size=300), st.integers(0, 65_535), st.ip_addresses(v=4), st.ip_addresses(v=4))
        def verifies(payload: bytes, port: int, sender: object, receiver: object) -> None:
            packet = packet_of(Address(str(sender), port), Address(str(receiver), 9), payload)
            self.assertEqual(slow_sum(packet[:20]), 0)
            pseudo = packet[12:20] + struct.pack(">HH", 17, len(packet) - 20)
            self.assertEqual(slow_sum(pseudo + packet[20:]), 0)
            self.assertNotEqual(packet[26:28], b"\0\0", "0 would say that there is no checksum")
            self.assertEqual(packet[28:], payload)

        verifies()

    def test_largest(self) -> None:
        """The largest datagram fits, and what is longer is cut."""
        packet = packet_of(SENDER, GROUP, bytes(MAX_PAYLOAD))
        self.assertEqual(len(packet), 65_535)
        self.assertEqual(packet, packet_of(SENDER, GROUP, bytes(MAX_PAYLOAD + 9)))

    def test_no_addresses(self) -> None:
        """Names, two families and ports out of range are refused."""
        for sender, receiver in (
            (Address("radio.example", 1), GROUP),
            (SENDER6, GROUP),
            (SENDER, GROUP6),
            (SENDER, Address(GROUP.host, 70_000)),
        ):
            with self.assertRaises((OSError, ValueError)):
                record(AT, sender, receiver, b"")


class Files(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def capture(self, keep: Keep = Keep.FIRST, max_bytes: int = MIN_BYTES) -> Capture:
        made = Capture(self.path, max_bytes=max_bytes, keep=keep)
        self.addCleanup(made.close)
        return made

    def test_written(self) -> None:
        """What was added is in the file, for its owner alone."""
        made = self.capture()
        self.assertTrue(made.add(AT, SENDER, GROUP, b"one"))
        self.assertTrue(made.add(AT + 0.02, SENDER6, GROUP6, b"two"))
        made.flush()
        found = records(self.path.read_bytes())
        self.assertEqual([packet[-3:] for _, packet in found], [b"one", b"two"])
        self.assertAlmostEqual(found[1][0] - found[0][0], 0.02, places=6)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual((made.packets, made.left_out, made.size), (2, 0, self.path.stat().st_size))
        made.close()
        made.close()
        self.assertFalse(made.add(AT, SENDER, GROUP, b"three"))
        self.assertEqual((made.left_out, made.why), (1, "closed"))

    def test_the_first(self) -> None:
        """When there is no more room the capture ends, whole, says so, and nothing that comes later slips in."""
        made = self.capture()
        while made.add(AT, SENDER, GROUP, bytes(1_000)):
            pass
        self.assertFalse(made.add(AT, SENDER, GROUP, b"small enough"))
        self.assertEqual(len(records(self.path.read_bytes())), made.packets)
        self.assertTrue(MIN_BYTES - 1_100 < self.path.stat().st_size <= MIN_BYTES)
        self.assertEqual((made.left_out, "later" in made.why), (2, True))
        self.assertEqual(made.packets, 191)

    def test_the_last(self) -> None:
        """Or the oldest half goes: the latest are always there, in order, and both files together are bounded."""
        made, old = self.capture(Keep.LAST), self.path.with_name(self.path.name + ".old")
        for number in range(1_000):
            self.assertTrue(made.add(AT, SENDER, GROUP, b"%4d" % number + bytes(1_000)))
        made.close()
        numbers = [
            int(packet[28:32]) for path in (old, self.path) for _, packet in records(path.read_bytes())
        ]
        self.assertEqual(numbers, list(range(numbers[0], 1_000)))
        self.assertGreater(len(numbers), MIN_BYTES / 2 / 1_100)
        self.assertLessEqual(old.stat().st_size + self.path.stat().st_size, MIN_BYTES)
        self.assertGreater(made.turns, 5)

    def test_again(self) -> None:
        """A capture may be made anew over an old one, which becomes the older half: a program that is started again keeps what came before."""
        first, old = self.capture(Keep.LAST), self.path.with_name(self.path.name + ".old")
        for number in range(150):
            first.add(AT, SENDER, GROUP, b"%4d" % number + bytes(1_000))
        first.close()
        latest = self.path.read_bytes()
        self.capture(Keep.LAST).close()
        self.assertEqual((records(self.path.read_bytes()), old.read_bytes()), ([], latest))
        self.capture(Keep.LAST).close()
        self.assertEqual(old.read_bytes(), latest, "an empty one is none")

    def test_again_with_less_room(self) -> None:
        """What is longer than the older half may be goes: both files together stay bounded."""
        first, old = self.capture(Keep.LAST, 10 * MIN_BYTES), self.path.with_name(self.path.name + ".old")
        for _ in range(150):
            first.add(AT, SENDER, GROUP, bytes(1_000))
        first.close()
        self.capture(Keep.LAST).close()
        self.assertEqual((records(self.path.read_bytes()), old.exists()), ([], False))

    def test_never_over_something_else(self) -> None:
        """A file that is no capture, a link and a folder are left alone."""
        self.path.write_text("the only copy")
        with self.assertRaisesRegex(CaptureError, "no capture"):
            self.capture()
        self.assertEqual(self.path.read_text(), "the only copy")
        self.path.unlink()
        self.path.symlink_to("/dev/null")
        with self.assertRaisesRegex(CaptureError, "no plain file"):
            self.capture()
        self.path.unlink()
        self.path.mkdir()
        with self.assertRaisesRegex(CaptureError, "no plain file"):
            self.capture()

    def test_nowhere(self) -> None:
        """A folder that is not there, and a bound that holds nothing, are said."""
        with self.assertRaisesRegex(CaptureError, "No such file"):
            Capture(self.path / "deeper", max_bytes=MIN_BYTES)
        with self.assertRaisesRegex(CaptureError, "at least"):
            Capture(self.path, max_bytes=100)

    def test_no_addresses(self) -> None:
        """What cannot be a packet is left out, and the capture goes on."""
        made = self.capture()
        self.assertFalse(made.add(AT, Address("radio.example", 1), GROUP, b"one"))
        self.assertTrue(made.add(AT, SENDER, GROUP, b"two"))
        self.assertEqual((made.packets, made.left_out), (1, 1))

    def test_a_full_disk(self) -> None:
        """Where writing fails the capture ends with the reason, and nothing is raised."""
        made = self.capture()
        assert made._file is not None
        os.dup2(os.open("/dev/full", os.O_WRONLY), made._file.fileno())
        for _ in range(100):
            made.add(AT, SENDER, GROUP, bytes(1_000))
        made.flush()
        self.assertIn("No space left", made.why)
        self.assertFalse(made.add(AT, SENDER, GROUP, b"late"))

    def test_others_read_it(self) -> None:
        """tshark finds the packets, their addresses, and nothing wrong with their checksums."""
        if shutil.which("tshark") is None:
            self.skipTest("tshark is not installed (apt install tshark)")
        made = self.capture()
        made.add(AT, SENDER, GROUP, b"hello")
        made.add(AT + 1, Address("fd00::1", 40_000), GROUP6, b"six")
        made.close()
        words = ["tshark", "-r", self.path, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]
        words += [
            "-T",
            "fields",
            "-E",
            "separator=,",
            "-e",
            "frame.time_epoch",
            "-e",
            "ip.dst",
            "-e",
            "ipv6.dst",
        ]
        words += [
            "-e",
            "udp.dstport",
            "-e",
            "ip.checksum.status",
            "-e",
            "udp.checksum.status",
            "-e",
            "data.data",
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
        self.assertEqual(
            done.stdout.split(),
            [
                "1760000000.250000000,239.1.2.3,,5004,1,1,68656c6c6f",
                "1760000001.250000000,,ff15::1,5004,,1,736978",
            ],
        )
