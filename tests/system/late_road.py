"""A long road inside a router: a TUN device whose packets come back later. Run it in the router's namespace.

``late_road.py DEVICE`` makes the device, says ``ready`` and reads orders, a line each, answered by ``ok``::

    delay FROM TO SECONDS        packets from one IPv4 address to another are held for so long
    clear FROM TO                they are not any more; what is held stays held

The router sends to the device what is to be late (policy routing), and gets it back from there as if it came from a neighbour. Kernels without
``netem`` can do this too. Packets between two addresses keep their order while the delay stays the same.
"""

import fcntl
import heapq
import os
import select
import socket
import struct
import sys
import time

TUNSETIFF = 0x4004_54CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
AT_ONCE = 256  # packets read before the late ones get their turn
LONGEST = 65_536  # bytes of a packet


def opened(device: str) -> int:
    """The file descriptor of a new TUN device, not blocking."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def main(device: str) -> None:
    """Carry until standard input ends."""
    tun = opened(device)
    orders = sys.stdin.fileno()
    delays: dict[tuple[bytes, bytes], float] = {}
    held: list[tuple[float, int, bytes]] = []
    count, heard = 0, b""
    print("ready", flush=True)
    while True:
        wait_s = None if not held else max(0.0, held[0][0] - time.monotonic())
        ready, _, _ = select.select([tun, orders], [], [], wait_s)
        if tun in ready:
            for _ in range(AT_ONCE):
                try:
                    packet = os.read(tun, LONGEST)
                except BlockingIOError:
                    break
                if packet[0] >> 4 != 4:
                    continue  # IPv6 chatter of the device itself
                count += 1
                due = time.monotonic() + delays.get((packet[12:16], packet[16:20]), 0.0)
                heapq.heappush(held, (due, count, packet))
        if orders in ready:
            piece = os.read(orders, 65_536)
            if not piece:
                return
            *lines, heard = (heard + piece).split(b"\n")
            for line in lines:
                obey(line.decode().split(), delays)
                print("ok", flush=True)
        now = time.monotonic()
        while held and held[0][0] <= now:
            try:
                os.write(tun, heapq.heappop(held)[2])
            except OSError:
                continue  # the device is down or full: a road may lose a packet


def obey(words: list[str], delays: dict[tuple[bytes, bytes], float]) -> None:
    """One order."""
    between = socket.inet_aton(words[1]), socket.inet_aton(words[2])
    if words[0] == "delay":
        delays[between] = float(words[3])
    else:
        delays.pop(between, None)


if __name__ == "__main__":
    main(sys.argv[1])
