"""The examinations of ``ice doctor``: each looks at one part of this machine and answers with findings.

An examination changes nothing that outlives it, takes a few seconds at most, and raises nothing: what it cannot find out is a
finding too. What it looks at is an argument where a test must stand in for the machine.
"""

import contextlib
import ctypes
import ctypes.util
import errno
import importlib.metadata
import os
import re
import secrets
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

import attrs

from ice.errors import LocalError
from ice.net.addresses import format_address
from ice.security.contexts import ClientTls, speaks_ice

SPARE_FILES: Final = 256  # descriptors beside the links: ports, logs, pages, libraries
PYTHON: Final = (3, 11)
TWISTED: Final = (26, 10)  # seven security fixes
NOT_BEFORE: Final = 1_767_225_600  # 2026-01-01 UTC: a clock that shows less was never set
GROUP: Final = (
    "239.255.73.67"  # a group of the site-local scope (RFC 2365), used for a moment and never routed: TTL 0
)
HEAR_S: Final = 0.5  # a datagram to oneself takes microseconds
REFUSAL_S: Final = (
    0.7  # TLS 1.3 tells a client that it is refused after its handshake: how long to wait for that
)


class Verdict(StrEnum):
    """How it is: right, worth a look, or in the way."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@attrs.frozen
class Result:
    """One thing looked at: its verdict, what it is, what was found, and the command or step that mends it ("" where nothing is to do)."""

    verdict: Verdict
    subject: str
    found: str
    remedy: str = ""


def ok(subject: str, found: str) -> Result:
    """All is well."""
    return Result(Verdict.OK, subject, found)


def warn(subject: str, found: str, remedy: str = "") -> Result:
    """It works, or is not needed here; somebody should know."""
    return Result(Verdict.WARN, subject, found, remedy)


def fail(subject: str, found: str, remedy: str) -> Result:
    """Something will not work."""
    return Result(Verdict.FAIL, subject, found, remedy)


def versions() -> Iterator[Result]:
    """Python, Twisted and OpenSSL: new enough?"""
    from cryptography.hazmat.backends.openssl.backend import backend

    has: tuple[int, ...] = sys.version_info[:2]
    shown = ".".join(map(str, sys.version_info[:3]))
    yield (ok if has >= PYTHON else _old(PYTHON, "apt install python3 python3-venv"))("python", shown)
    shown = importlib.metadata.version("twisted")
    has = tuple(int(digits) for digits in re.findall(r"\d+", shown)[:2])
    yield (ok if has >= TWISTED else _old(TWISTED, "pip install --upgrade twisted"))("twisted", shown)
    yield ok("openssl", backend.openssl_version_text())


def _old(wanted: tuple[int, int], remedy: str) -> Callable[[str, str], Result]:
    least = ".".join(map(str, wanted))
    return lambda subject, shown: fail(subject, f"{shown} is too old, {least} is needed", remedy)


def opus(find: Callable[[str], str | None] = ctypes.util.find_library) -> Result:
    """libopus: there, loadable, which version?"""
    name = find("opus")
    if name is None:
        return fail(
            "libopus",
            "not found; without it nothing can be said or heard in Opus",
            "sudo apt install libopus0",
        )
    try:
        library = ctypes.CDLL(name)
        library.opus_get_version_string.restype = ctypes.c_char_p
        version = library.opus_get_version_string().decode("ascii", "replace")
    except (OSError, AttributeError) as error:
        return fail("libopus", f"{name} cannot be loaded: {error}", "sudo apt install --reinstall libopus0")
    return ok("libopus", str(version))


def fan_out(found: str) -> Result:
    """Whether a packet goes to all its listeners in one compiled call; ``found``: :func:`ice.net.fanout.in_use`."""
    if found == "compiled":
        return ok("fan-out", found)
    return warn(
        "fan-out",
        f"{found}: everything works, at twice the CPU per listener",
        "sudo apt install gcc python3-dev, then install ice again",
    )


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex`` (adjtimex(2)); the rest is room."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_char * 256),
    ]


def kernel_clock() -> tuple[bool, float] | None:
    """Whether the kernel holds its clock for synchronised, and its own bound of the error in seconds; None where it does not tell."""
    state = _Timex()
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):
        return None
    if answer < 0:
        return None
    return answer != 5, state.maxerror / 1e6  # 5: TIME_ERROR, not synchronised


def clock(kernel: tuple[bool, float] | None, now_s: float) -> Result:
    """The clock: certificates are believed or not by it, and delays between machines are measured with it."""
    remedy = "sudo timedatectl set-ntp true"
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    if now_s < NOT_BEFORE:
        return fail("clock", f"{shown}: it was never set, every certificate will seem not yet valid", remedy)
    if kernel is None:
        return warn("clock", f"{shown}; whether it is synchronised cannot be told here", "timedatectl status")
    synchronised, error_s = kernel
    if not synchronised:
        return warn("clock", f"{shown}, not synchronised with any other", remedy)
    return ok("clock", f"{shown}, synchronised, at most {error_s * 1000:.0f} ms off")


@attrs.frozen
class Listener:
    """A program that holds a listening port."""

    pid: int
    name: str
    command: str

    @property
    def is_ours(self) -> bool:
        """It is one of our daemons."""
        return "ice-rallypoint" in self.command


def who_listens(port: int, proc: Path = Path("/proc")) -> Listener | None:
    """Who listens on TCP ``port``, as far as /proc shows it to this user; None otherwise."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port, proc)}
    if not wanted:
        return None
    for folder in proc.glob("[0-9]*"):
        try:
            if not wanted.isdisjoint(_files_of(folder)):
                words = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                )
                name = (folder / "comm").read_text("utf-8", "replace").strip()
                return Listener(int(folder.name), name, words)
        except OSError:
            continue  # another user's, or gone meanwhile
    return None


def _files_of(folder: Path) -> Iterator[str]:
    for link in (folder / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile, as the listing of our own folder is
            yield os.readlink(link)


def _listening_inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / table).read_text("ascii", "replace").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            # local_address is ADDRESS:PORT in hexadecimal, state 0A is LISTEN
            if len(columns) > 9 and columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                yield columns[9]


def port(
    key: str,
    host: str,
    number: int,
    *,
    needed: bool,
    who: Callable[[int], Listener | None] = who_listens,
) -> Result:
    """Whether the address that ``key`` of the configuration names can be listened on, or our own daemon does already.

    ``needed``: this machine is a Rallypoint; elsewhere a port that is taken does no harm.
    """
    subject = f"{key} {format_address(host, number)}"
    bad = fail if needed else warn
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, number))
            sock.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            holder = who(number)
            if holder is None:
                return bad(
                    subject, "taken by a program of another user", f"sudo ss -ltnp 'sport = :{number}'"
                )
            if holder.is_ours:
                return ok(subject, f"our own daemon listens (pid {holder.pid})")
            return bad(
                subject,
                f"taken by {holder.name} (pid {holder.pid}: {holder.command[:60]})",
                f"stop that program, or change {key} in the configuration",
            )
        if error.errno == errno.EADDRNOTAVAIL:
            return bad(
                subject,
                f"{host} is no address of this machine",
                f"change {key}; the machine's own: ip -brief address",
            )
        if error.errno == errno.EACCES:
            return bad(
                subject, "this user may not listen below port 1024", f"change {key} to a port from 1024 on"
            )
        return bad(
            subject, f"cannot be listened on: {error.strerror or error}", f"change {key} in the configuration"
        )
    return ok(subject, "free")


def open_files(links: int, limit: int, whose: str) -> Result:
    """Whether ``limit`` open files (of ``whose``) suffice for ``links`` links."""
    wanted = links + SPARE_FILES
    if limit >= wanted:
        return ok("open files", f"{limit} allowed for {whose}, {wanted} wanted for {links} links")
    return warn(
        "open files",
        f"{limit} allowed for {whose}, but rallypoint.limits.links = {links} wants {wanted}",
        f"LimitNOFILE={wanted} in the unit, or ulimit -Hn {wanted} as root before the start, or fewer links",
    )


def limit_of(pid: int, proc: Path = Path("/proc")) -> int | None:
    """The open files that a running process may have, or None where that is not shown."""
    try:
        for line in (proc / str(pid) / "limits").read_text("ascii", "replace").splitlines():
            if line.startswith("Max open files"):
                return int(line.split()[3])
    except (OSError, ValueError, IndexError):
        pass
    return None


def multicast_interfaces(sys_net: Path = Path("/sys/class/net")) -> list[str]:
    """Interfaces that are up and can multicast, except loopback."""
    up, loopback, multicast = 0x1, 0x8, 0x1000  # IFF_UP, IFF_LOOPBACK, IFF_MULTICAST (netdevice(7))
    found = []
    for folder in sorted(sys_net.glob("*")):
        try:
            flags = int((folder / "flags").read_text("ascii"), 16)
        except (OSError, ValueError):
            continue
        if flags & up and flags & multicast and not flags & loopback:
            found.append(folder.name)
    return found


def hears_itself(interface: str) -> str | None:
    """Open a socket, join a group on ``interface``, send to it and hear that: None when it works, else what did not."""
    step = "opening a socket"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = struct.pack(
                "4s4si", socket.inet_aton(GROUP), bytes(4), socket.if_nametoindex(interface)
            )  # ip_mreqn
            sock.bind(("", 0))
            step = "joining a group"
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            step = "sending to a group"
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)  # nothing leaves this machine
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            said = secrets.token_bytes(16)
            sock.sendto(said, (GROUP, sock.getsockname()[1]))
            step = "hearing oneself"
            deadline = time.monotonic() + HEAR_S
            while (left := deadline - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
                if sock.recv(64) == said:
                    return None
    except OSError as error:
        return f"{step}: {error.strerror or error}"
    return f"{step}: nothing came within {HEAR_S} s"


def multicast(
    interfaces: Sequence[str], hears: Callable[[str], str | None] = hears_itself
) -> Iterator[Result]:
    """Multicast on each interface; a Rallypoint alone does not need it, groups on a LAN do."""
    if not interfaces:
        yield warn(
            "multicast", "no interface that is up can multicast", "sudo ip link set dev NAME up multicast on"
        )
    for interface in interfaces:
        trouble = hears(interface)
        if trouble is None:
            yield ok(f"multicast {interface}", "joined a group and heard itself")
        else:
            yield warn(
                f"multicast {interface}",
                trouble,
                f"sudo ip route add 239.0.0.0/8 dev {interface}; does a firewall drop it? sudo nft list ruleset",
            )


Connect = Callable[[tuple[str, int], float], socket.socket]


def way(
    host: str,
    number: int,
    tls: ClientTls | None,
    timeout_s: float,
    connect: Connect = socket.create_connection,
) -> Result:
    """Whether the Rallypoint at an address can be reached: its name, TCP, then TLS with our certificate (None: TCP alone)."""
    subject = f"rallypoint {format_address(host, number)}"
    began = time.monotonic()
    try:
        sock = connect((host, number), timeout_s)
    except socket.gaierror as error:
        return fail(
            subject,
            f"the name is not known: {error.strerror}",
            f"getent hosts {host}; is it spelt right in network.rallypoints?",
        )
    except TimeoutError:
        return fail(
            subject,
            f"no answer within {timeout_s:g} s: the machine is off, or a firewall drops TCP port {number}",
            f"ping {host}, and let TCP {number} through the firewall there",
        )
    except ConnectionRefusedError:
        return fail(
            subject,
            "the machine answers, but nothing listens there",
            "start it there: systemctl start ice-rallypoint (in a checkout: make run)",
        )
    except OSError as error:
        return fail(subject, f"cannot be reached: {error.strerror or error}", f"ip route get {host}")
    with sock:
        reached_ms = (time.monotonic() - began) * 1000
        if tls is None:
            return warn(
                subject,
                f"TCP opens in {reached_ms:.1f} ms; TLS not tried without a certificate of our own",
                "ice pki init",
            )
        trouble = shakes_hands(sock, host, tls, timeout_s)
    if trouble is not None:
        return fail(subject, trouble, "ice check, here and there")
    return ok(subject, f"TCP in {reached_ms:.1f} ms, TLS 1.3, and our certificate is welcome")


def shakes_hands(sock: socket.socket, host: str, tls: ClientTls, timeout_s: float) -> str | None:
    """A TLS handshake on a connected socket, and the moment after it in which a refusal comes: None, or why not."""
    from OpenSSL import SSL

    from ice.cli.control import patiently
    from ice.security.refusals import Reason, explain

    sock.setblocking(False)
    try:
        connection = tls.connection(host, sock)
        patiently(sock, connection.do_handshake, time.monotonic() + timeout_s)
        if not speaks_ice(connection):
            return "TLS, but no ice link: another program listens there"
        if select.select([sock], [], [], min(REFUSAL_S, timeout_s))[0]:
            with contextlib.suppress(SSL.WantReadError):
                connection.recv(1)
    except TimeoutError:
        return f"no TLS handshake within {timeout_s:g} s: something else may listen there"
    except (SSL.Error, OSError) as error:
        refusal = explain(error)
        if refusal.reason is Reason.CLOSED:
            return str(refusal)
        return f"{'we refuse it' if refusal.by_us else 'it refuses us'}: {refusal}"
    except LocalError as error:
        return str(error)
    return None


def ways(results: Iterable[Result]) -> list[Result]:
    """One Rallypoint that answers is enough to talk: then the others are warnings."""
    each = list(results)
    if not any(result.verdict is not Verdict.FAIL for result in each):
        return each
    return [attrs.evolve(r, verdict=Verdict.WARN) if r.verdict is Verdict.FAIL else r for r in each]
