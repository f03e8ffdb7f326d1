"""The servers that are compared: how each is configured, started, pinned to a core and ended.

Each runs with TLS 1.3 and asks for a client certificate; all show and accept the certificates of one throw-away site. Limits
are wide open, logging is off, and whatever a server can do for latency is switched on (``set_tcp_nodelay`` of mosquitto).
"""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from bench import compiling
from ice.testing.site import Site, free_ports

START_S = 30.0  # Python imports on a busy machine
STOP_S = 5.0


class DidNotStart(Exception):
    """A server ended or never listened; the message has its last words."""


@attrs.frozen
class Place:
    """Where servers live during one benchmark.

    :ivar folder: everything is in it, and it is thrown away.
    :ivar site: authority and certificates; the client's is shown by every link.
    :ivar server_cpu: the core of the server under test.
    :ivar floor_flags: compiler flags for a floor with a fault.
    """

    folder: Path
    site: Site
    server_cpu: int
    floor_flags: tuple[str, ...] = ()

    @property
    def authority(self) -> Path:
        """PEM file."""
        return self.site.pki / "authority.pem"


@attrs.frozen
class Launch:
    """How to start one server: command, additions to the environment, and the user, where that matters."""

    command: list[str]
    environment: Mapping[str, str] = {}
    user: str | None = None


@attrs.frozen
class Server:
    """One competitor.

    :ivar name: key in the results, and what ``--servers`` takes.
    :ivar title: for tables and pictures.
    :ivar mode: what the load generator speaks to it.
    :ivar program: what must be installed, "" for our own.
    :ivar launch: makes the launch in an empty folder of its own, for a port.
    :ivar package: Debian package to name when it is missing.
    """

    name: str
    title: str
    mode: str
    launch: Callable[[Place, Path, int], Launch]
    program: str = ""
    package: str = ""

    def path(self) -> str | None:
        """Where its program is, None when not installed; our own is always there."""
        return find(self.program) if self.program else sys.executable


@attrs.frozen
class Running:
    """A started server: its process, its port, and what it left in ``log``."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path


def find(program: str) -> str | None:
    """A program, also where only root's PATH looks."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _product(environment: Mapping[str, str]) -> Callable[[Place, Path, int], Launch]:
    def launch(place: Place, folder: Path, port: int) -> Launch:
        member = place.site.rallypoint
        command = [sys.executable, str(compiling.BENCH / "rallypoint.py"), "--port", str(port)]
        command += ["--ca", str(place.authority), "--cert", str(member.certificate), "--key", str(member.key)]
        return Launch([*command, "--state", str(folder)], {"ICE_FANOUT": "", "ICE_TLS": "", **environment})

    return launch


def _floor(place: Place, folder: Path, port: int) -> Launch:
    member = place.site.rallypoint
    program = compiling.build("floor", place.floor_flags)
    command = [str(program), "--port", str(port), "--ca", str(place.authority)]
    return Launch([*command, "--cert", str(member.certificate), "--key", str(member.key)])


NATS = """\
listen: "127.0.0.1:{port}"
max_connections: 65536
max_pending: 256MB
write_deadline: "60s"
tls {{
  cert_file: "{cert}"
  key_file: "{key}"
  ca_file: "{ca}"
  verify: true
  timeout: 60
}}
"""


def _nats(place: Place, folder: Path, port: int) -> Launch:
    config = folder / "nats.conf"
    config.write_text(NATS.format(port=port, **_pki(place)))
    return Launch([find("nats-server") or "nats-server", "-c", str(config), "-l", str(folder / "nats.log")])


MOSQUITTO = """\
listener {port} 127.0.0.1
cafile {ca}
certfile {cert}
keyfile {key}
require_certificate true
tls_version tlsv1.3
allow_anonymous true
set_tcp_nodelay true
max_connections -1
persistence false
log_type error
log_dest file {folder}/mosquitto.log
user root
"""


def _mosquitto(place: Place, folder: Path, port: int) -> Launch:
    config = folder / "mosquitto.conf"
    text = MOSQUITTO.format(port=port, folder=folder, **_pki(place))
    config.write_text(text if os.geteuid() == 0 else text.replace("user root\n", ""))
    return Launch([find("mosquitto") or "mosquitto", "-c", str(config)])


MUMBLE = """\
database={folder}/murmur.sqlite
host=127.0.0.1
port={port}
sslCert={cert}
sslKey={key}
sslCA={ca}
logfile={folder}/murmur.log
pidfile=
welcometext=
users=20000
bandwidth=2000000000
timeout=120
autobanAttempts=0
messagelimit=1000000
messageburst=1000000
opusthreshold=0
allowping=false
bonjour=false
sendversion=false
"""
CHANNELS = 64  # stream n is channel n + 1; more streams than in any workload


def _mumble(place: Place, folder: Path, port: int) -> Launch:
    """murmurd refuses to be root, so it is nobody, with copies of the certificates that nobody may read."""
    user = "nobody" if os.geteuid() == 0 else None
    paths = {}
    for name, source in _pki(place).items():
        paths[name] = folder / f"{name}.pem"
        paths[name].write_bytes(Path(source).read_bytes())
    config = folder / "murmur.ini"
    config.write_text(MUMBLE.format(port=port, folder=folder, **paths))
    launch = Launch(
        [find("murmurd") or find("mumble-server") or "murmurd", "-fg", "-ini", str(config)], {}, user
    )
    template = place.folder / "channels.sqlite"
    database = folder / "murmur.sqlite"
    if not template.exists():
        _own(folder, user)
        with _process(launch, port, folder / "first.log", place.server_cpu):
            pass  # it makes its tables
        with contextlib.closing(sqlite3.connect(database)) as tables, tables:
            tables.executemany(
                "INSERT INTO channels (server_id, channel_id, parent_id, name, inheritacl) VALUES (1, ?, 0, ?, 1)",
                [(number + 1, f"bench-{number}") for number in range(CHANNELS)],
            )
        shutil.copyfile(database, template)
    else:
        shutil.copyfile(template, database)
    _own(folder, user)
    return launch


def _own(folder: Path, user: str | None) -> None:
    if user is not None:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user)


def _pki(place: Place) -> dict[str, str]:
    member = place.site.rallypoint
    return {"ca": str(place.authority), "cert": str(member.certificate), "key": str(member.key)}


SERVERS = (
    Server("ice", "ice", "ice", _product({})),
    Server("ice-python", "ice, nothing compiled", "ice", _product({"ICE_FANOUT": "python"})),
    Server("ice-twisted", "ice, Twisted's TLS", "ice", _product({"ICE_TLS": "twisted"})),
    Server("floor", "C floor", "ice", _floor),
    Server("nats", "NATS", "nats", _nats, "nats-server", "nats-server"),
    Server("mosquitto", "Mosquitto", "mqtt", _mosquitto, "mosquitto", "mosquitto"),
    Server("mumble", "Mumble over TCP", "mumble", _mumble, "murmurd", "mumble-server"),
)
BY_NAME = {server.name: server for server in SERVERS}
OURS = frozenset({"ice", "ice-python", "ice-twisted", "floor"})  # whose faults make the verdict
PEERS = ("nats", "mosquitto", "mumble")


@contextlib.contextmanager
def started(server: Server, place: Place, name: str) -> Iterator[Running]:
    """Run ``server`` in a folder ``name`` of its own until the block ends.

    :raises DidNotStart: with its last words.
    """
    folder = place.folder / name
    folder.mkdir()
    port = free_ports(1)[0]
    launch = server.launch(place, folder, port)
    with _process(launch, port, folder / "output.log", place.server_cpu) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """What is started meanwhile runs on this core, with all its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _process(launch: Launch, port: int, log: Path, cpu: int) -> Iterator[Running]:
    with log.open("wb") as output, pinned(cpu):
        process = subprocess.Popen(
            launch.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **launch.environment},
            cwd=log.parent,
            user=launch.user,
            extra_groups=[] if launch.user else None,
            start_new_session=True,  # Ctrl-C is ours: we end it, after its figures are read
        )
    try:
        _listens(process, port, log)
        yield Running(process, port, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DidNotStart(f"it ended with {process.returncode}: {last_words(log)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise DidNotStart(f"it did not listen within {START_S:.0f} s: {last_words(log)}")


def last_words(log: Path, most: int = 600) -> str:
    """The end of what a server printed."""
    return log.read_text(errors="replace")[-most:].strip() if log.exists() else ""
