"""The interfaces of this machine, as the kernel tells of them, and a watch that hears of changes."""

import socket
from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from ice.net.interfaces import (
    IFF_LOOPBACK,
    IFF_MULTICAST,
    IFF_RUNNING,
    IFF_UP,
    LOOK_S,
    Interface,
    InterfaceTrouble,
    InterfaceWatch,
    interfaces,
    route_to,
)

from .lan import Loop

ETH = Interface(7, "eth7", IFF_UP | IFF_RUNNING | IFF_MULTICAST, ("192.0.2.7", "fe80::7"), ("192.0.2.255",))


class Asking(SynchronousTestCase):
    def test_the_kernel(self) -> None:
        """Loopback is on every machine, under the number that the C library knows as well."""
        found = interfaces()
        self.assertEqual(
            {name: each.index for name, each in found.items()},
            {name: index for index, name in socket.if_nameindex()},
        )
        lo = found["lo"]
        self.assertTrue(lo.loopback and lo.multicast)
        if lo.up:
            self.assertIn("127.0.0.1", lo.addresses_of(ipv6=False))

    def test_route(self) -> None:
        """The way to our own address is loopback."""
        self.assertEqual(route_to("127.0.0.1"), socket.if_nametoindex("lo"))

    def test_flags(self) -> None:
        """Up takes a carrier; loopback multicasts among the programs of the machine."""
        self.assertTrue(ETH.up and ETH.multicast)
        self.assertFalse(Interface(1, "a", IFF_UP | IFF_MULTICAST).up)
        self.assertFalse(Interface(1, "a", IFF_UP | IFF_RUNNING).multicast)
        self.assertTrue(Interface(1, "lo", IFF_UP | IFF_RUNNING | IFF_LOOPBACK).multicast)
        self.assertEqual(ETH.addresses_of(ipv6=True), ("fe80::7",))


class Watching(SynchronousTestCase):
    def setUp(self) -> None:
        self.loop = Loop()
        self.now: Mapping[str, Interface] | InterfaceTrouble = {"eth7": ETH}
        self.changes = 0

    def look(self) -> Mapping[str, Interface]:
        if isinstance(self.now, InterfaceTrouble):
            raise self.now
        return self.now

    def changed(self) -> None:
        self.changes += 1

    def test_changes(self) -> None:
        """Only what differs is told, at the next look at the latest."""
        watch = InterfaceWatch(self.loop, look=self.look)
        watch.add(self.changed)
        self.assertEqual((dict(watch.present), self.changes), ({"eth7": ETH}, 1))
        self.loop.advance(LOOK_S)
        self.assertEqual(self.changes, 1)
        self.now = {}
        self.loop.advance(LOOK_S)
        self.assertEqual((watch.present, self.changes), ({}, 2))
        self.now = InterfaceTrouble("not allowed")
        self.loop.advance(LOOK_S)
        self.assertEqual((watch.trouble, self.changes), ("not allowed", 3))
        watch.remove(self.changed)
        self.assertEqual((self.loop.getDelayedCalls(), self.loop.readers), ([], []))

    def test_who_is_asked(self) -> None:
        """Addresses, numbers and broadcasts are found."""
        watch = InterfaceWatch(self.loop, look=self.look)
        watch.add(self.changed)
        self.assertIs(watch.by_index(7), ETH)
        self.assertIsNone(watch.by_index(8))
        self.assertTrue(watch.local("fe80::7") and watch.broadcast("192.0.2.255"))
        self.assertFalse(watch.local("192.0.2.255") or watch.broadcast("192.0.2.7"))
        watch.remove(self.changed)

    def test_one_who_fails(self) -> None:
        """What one listener raises keeps no other from hearing."""

        def fails() -> None:
            raise RuntimeError("of its own")

        watch = InterfaceWatch(self.loop, look=self.look)
        watch.add(fails)
        watch.add(self.changed)
        self.now = {}
        self.loop.advance(LOOK_S)
        self.assertEqual(self.changes, 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        watch.remove(fails)
        watch.remove(self.changed)
