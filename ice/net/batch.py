"""Many datagrams in one call: taken from a socket, and given to one.

An :class:`Intake` takes what waits at a socket, with its senders and with what the kernel says beside it; an :class:`Outlet` gives datagrams to a destination.
There are two of each. The compiled ones make one system call for up to :data:`SLOTS` datagrams (``recvmmsg``, ``sendmmsg``) and hand Python finished bytes; the pure twins
make one for each. Both keep the same rules and pass the same tests; :func:`intake` and :func:`outlet` give the compiled ones where they were built.

**Senders.** A sender is told as a *key*, which is whatever is cheapest: bytes of a socket address, or Python's own tuple. :meth:`Intake.host_and_port` reads one. Whoever
receives keeps a dictionary from keys to what it wants to know of a sender, so that an address is made into text once per sender and not once per datagram.
"""

import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, Final, Protocol

import attrs

from ice.net import multicast_options as options
from ice.net.fanout import SWITCH

SLOTS: Final = 64  # datagrams of one call at most: the room for them is there once per process

#: A destination as Python's sockets want it.
To = tuple[str, int] | tuple[str, int, int, int]


@attrs.define
class Taken:
    """What one call has taken from a socket; ``datagrams`` and ``senders`` go together."""

    datagrams: list[bytes]
    senders: Sequence[Hashable]  #: keys; see :meth:`Intake.host_and_port`
    more: bool = False  #: as many as were asked for: there may be more
    too_large: int = 0  #: longer than wanted, thrown away
    empty: int = 0  #: without payload, thrown away
    other_interface: int = 0  #: came by another interface than the wanted one, thrown away
    dropped: int | None = None  #: so far, by the kernel, for want of room (u32, wraps), where it says so
    failed: bool = False  #: reading failed


@attrs.define
class Given:
    """What became of datagrams that were given to a socket."""

    sent: int  #: taken by the kernel
    sent_bytes: int
    errors: list[int] = attrs.field(factory=list)  #: an errno for each that was not taken


class Intake(Protocol):
    """Takes datagrams from sockets that do not block."""

    def take(self, sock: socket.socket, limit: int, longest: int, interface: int = 0) -> Taken:
        """What waits at ``sock``: at most ``limit`` datagrams (64 at most) of 1 to ``longest`` bytes; others are counted and thrown away.

        ``interface``: a number; of IPv6 datagrams, only those are wanted that came by it; 0: all are.
        """

    def host_and_port(self, sender: Any) -> tuple[str, int]:
        """A key of :attr:`Taken.senders`, as an IP address in text, and a port."""


class Outlet(Protocol):
    """Gives datagrams to sockets that do not block."""

    def give(self, sock: socket.socket, datagrams: Sequence[bytes], to: To) -> Given:
        """Send every datagram to ``to``, in order.  What one is refused for does not keep the next from being tried; a socket that is full does."""


# -- pure --------------------------------------------------------------------------------------------------------------


class PythonIntake:
    """One system call per datagram.

    Only the first of a turn is asked what the kernel says beside it, unless the interface matters: ``recvmsg`` takes 0.6 µs longer than ``recvfrom`` (Python 3.11), and
    what was dropped is told by the first of the next turn as well.
    """

    def take(self, sock: socket.socket, limit: int, longest: int, interface: int = 0) -> Taken:
        """See :class:`Intake`."""
        datagrams: list[bytes] = []
        senders: list[Hashable] = []
        taken = Taken(datagrams, senders)
        room = longest + 1
        for turn in range(min(limit, SLOTS)):
            try:
                if interface or not turn:
                    data, ancillary, _, sender = sock.recvmsg(room, options.ANCILLARY_BYTES)
                    if ancillary and not self._wanted(ancillary, interface, taken):
                        continue
                else:
                    data, sender = sock.recvfrom(room)
            except (BlockingIOError, InterruptedError):
                return taken
            except OSError:
                taken.failed = True
                return taken
            if len(data) > longest:
                taken.too_large += 1
            elif not data:
                taken.empty += 1
            else:
                datagrams.append(data)
                senders.append(sender)
        taken.more = True
        return taken

    @staticmethod
    def _wanted(ancillary: list[tuple[int, int, bytes]], interface: int, taken: Taken) -> bool:
        """Whether a datagram is of the wanted interface; what was dropped is noted."""
        dropped = options.dropped_so_far(ancillary)
        if dropped is not None:
            taken.dropped = dropped
        if interface and options.arrived_on(ancillary) not in (0, interface):
            taken.other_interface += 1
            return False
        return True

    def host_and_port(self, sender: Any) -> tuple[str, int]:
        """See :class:`Intake`."""
        return sender[0], sender[1]


class PythonOutlet:
    """One system call per datagram."""

    def give(self, sock: socket.socket, datagrams: Sequence[bytes], to: To) -> Given:
        """See :class:`Outlet`."""
        sent = sent_bytes = 0
        errors: list[int] = []
        send = sock.sendto
        for at, data in enumerate(datagrams):
            try:
                send(data, to)
            except BlockingIOError:
                errors += [errno.EAGAIN] * (len(datagrams) - at)
                break
            except OSError as error:
                errors.append(error.errno or 0)
            else:
                sent += 1
                sent_bytes += len(data)
        return Given(sent, sent_bytes, errors)


# -- compiled ----------------------------------------------------------------------------------------------------------


class CompiledIntake:
    """One system call for all."""

    def __init__(self, ours: Any) -> None:
        lib, ffi = ours.lib, ours.ffi
        self._call = lib.ice_take
        self._last = lib.ice_last
        self._at = self._last.at
        self._sizes = self._last.sizes
        self._unpack = ffi.unpack
        self._room = ffi.buffer(lib.ice_datagrams)
        self._names = ffi.buffer(lib.ice_senders)
        self._step = len(self._names) // SLOTS
        self._starts = [range(0, n * self._step, self._step) for n in range(SLOTS + 1)]

    def take(self, sock: socket.socket, limit: int, longest: int, interface: int = 0) -> Taken:
        """See :class:`Intake`."""
        last, room, names = self._last, self._room, self._names
        count = self._call(sock.fileno(), limit, longest, interface)
        length = last.name_size
        senders = [names[at : at + length] for at in self._starts[count]]
        at, sizes = self._unpack(self._at, count), self._unpack(self._sizes, count)
        taken = Taken(
            [room[start : start + size] for start, size in zip(at, sizes, strict=True)],
            senders,
            more=count + last.elsewhere >= limit,
            other_interface=last.elsewhere,
            dropped=last.dropped if last.told else None,
            failed=last.failed != 0,
        )
        if last.odd:
            self._without_odd(taken, sizes)
        return taken

    def _without_odd(self, taken: Taken, sizes: list[int]) -> None:
        """Throw away, and count, what is empty or too large."""
        taken.empty = sizes.count(0)
        taken.too_large = sizes.count(-1)
        good = [at for at, size in enumerate(sizes) if size > 0]
        taken.datagrams = [taken.datagrams[at] for at in good]
        taken.senders = [taken.senders[at] for at in good]

    def host_and_port(self, sender: Any) -> tuple[str, int]:
        """See :class:`Intake`."""
        port, host = sender[:2], sender[2:]
        family = socket.AF_INET if len(host) == 4 else socket.AF_INET6
        return socket.inet_ntop(family, host), int.from_bytes(port, "big")


class CompiledOutlet:
    """One system call for all."""

    def __init__(self, ours: Any) -> None:
        self._call = ours.lib.ice_give
        self._went = ours.lib.ice_went
        self._unpack = ours.ffi.unpack

    def give(self, sock: socket.socket, datagrams: Sequence[bytes], to: To) -> Given:
        """See :class:`Outlet`."""
        name, number, went = _packed(to), sock.fileno(), self._went
        given = Given(0, 0)
        for start in range(0, len(datagrams), SLOTS):
            some = datagrams[start : start + SLOTS]
            sizes = list(map(len, some))
            given.sent += self._call(number, b"".join(some), sizes, len(sizes), name, len(name))
            given.sent_bytes += went.bytes
            if went.failed:
                errors = self._unpack(went.errors, went.failed)
                given.errors += errors
                if errors[-1] == errno.EAGAIN:  # full: the rest would be refused for the same
                    given.errors += [errno.EAGAIN] * (len(datagrams) - start - len(some))
                    break
        return given


@lru_cache(maxsize=4_096)
def _packed(to: To) -> bytes:
    """A destination as a ``sockaddr_in`` or ``sockaddr_in6``."""
    host, port = to[0], to[1]
    if len(to) == 2:
        return struct.pack("=H2s4s8x", socket.AF_INET, port.to_bytes(2, "big"), socket.inet_aton(host))
    packed, flow, scope = socket.inet_pton(socket.AF_INET6, host), to[2], to[3]
    return struct.pack(
        "=H2s4s16sI", socket.AF_INET6, port.to_bytes(2, "big"), flow.to_bytes(4, "big"), packed, scope
    )


@cache
def _probe() -> Any:
    """The compiled half, or why it is not used, as text."""
    if os.environ.get(SWITCH, "") == "python":
        return f"switched off by {SWITCH}=python"
    try:
        return import_module("ice.net._batch")
    except ImportError:
        return "it was not built (no C compiler when ice was installed)"


def in_use() -> str:
    """``compiled``, or ``python: `` and why."""
    found = _probe()
    return f"python: {found}" if isinstance(found, str) else "compiled"


@cache
def intake() -> Intake:
    """The one of this process."""
    found = _probe()
    return PythonIntake() if isinstance(found, str) else CompiledIntake(found)


@cache
def outlet() -> Outlet:
    """The one of this process."""
    found = _probe()
    return PythonOutlet() if isinstance(found, str) else CompiledOutlet(found)


def count_errors(errors: Iterable[int]) -> dict[str, int]:
    """Errors by the kernel's names for them, as keys of a counter."""
    return dict(Counter(options.reason(OSError(error, "")) for error in errors))
