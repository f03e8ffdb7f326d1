"""Other ways into the mesh, as Rallypoints have named them: a bounded book, and the file in which it outlives the process.

A Rallypoint tells everybody whom it lets in how else its mesh can be reached (``alternatives`` in WELCOME and BYE).  Whoever remembers that
finds the mesh again when all the addresses of its configuration are dead, also after a restart.

**Bounded.**  64 ways.  Where there are more, those that have worked stay, then those named last: a long list of inventions pushes out
nothing that has proved itself.

**Forgotten.**  A way that no Rallypoint has named for a week is forgotten, but only when a WELCOME comes: a radio that lay in a drawer for a month, or
whose clock is decades off, still has all its ways when it needs them.

**The file** is JSON, for all networks of this person; one network is told from another by the authority of our certificate::

    {"version": 1, "networks": {"5f70…": [{"address": "rp2.example.org:7443", "named": 1763750000, "worked": 0}]}}

Several processes may share it: each reads it again before it writes, and adds to what is there.  It is written under another name and then renamed, so
a reader sees the old or the new one, mode 0600, and only when something has changed; stamps are kept to the day.  It holds no secret and is
not trusted: its addresses are checked as a stranger's, and an address is only ever *dialled*, with every check of certificates that a
configured one gets.  A file that makes no sense is worth one line in the log.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import attrs
import msgspec
from msgspec import Meta
from twisted.logger import Logger

from ice.errors import LocalError
from ice.net.addresses import MAX_TEXT, Address, parse_address

MAX_WAYS: Final = 64  # as many as one WELCOME can name
MEMORY_S: Final = 7 * 86_400.0  # unnamed for this long: whoever maintains the mesh has had a week to mend it
STAMP_S: Final = 86_400.0  # stamps are kept to this: a file that changes every minute wears out a flash card
MAX_NETWORKS: Final = 16  # authorities of one person
MAX_FILE: Final = 512 * 1024  # all networks full of the longest names fit
VERSION: Final = 1
WRITE_AFTER_S: Final = 1.0  # what Rallypoints tell at one time is written at once, when nobody talks
WRITE_AT_LAST_S: Final = 60.0  # somebody always talks
MAX_COMPLAINTS: Final = 16  # causes that are logged


class WaysError(LocalError):
    """A file of ways cannot be read; the message says why."""


@attrs.frozen
class Way:
    """A way into the mesh.  Times are seconds since 1970; ``worked_at`` is 0 where no link has ever stood."""

    address: Address
    named_at: float
    worked_at: float = 0.0


class Ways:
    """The book."""

    def __init__(self, ways: Iterable[Way] = ()) -> None:
        self._ways: dict[Address, Way] = {way.address: way for way in ways}
        self._bound()
        #: Something has changed that is worth writing; whoever has written it sets this to False.
        self.changed = False

    def __len__(self) -> int:
        return len(self._ways)

    def __iter__(self) -> Iterator[Way]:
        """What has worked first, the latest before all; then in the order told, the latest telling first."""
        return iter(sorted(self._ways.values(), key=lambda way: -way.worked_at))

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where to go, the most promising first."""
        return tuple(way.address for way in self)

    @property
    def proven(self) -> tuple[Address, ...]:
        """Those that have worked, the latest first."""
        return tuple(way.address for way in self if way.worked_at)

    def named(self, addresses: Sequence[Address], wall_s: float) -> None:
        """A Rallypoint has named these, at ``wall_s`` seconds since 1970."""
        fresh: dict[Address, Way] = {}
        for address in addresses[:MAX_WAYS]:
            old = self._ways.pop(address, None)
            if old is None or not 0 <= wall_s - old.named_at <= STAMP_S:
                self.changed = True
                worked_at = 0.0 if old is None else min(old.worked_at, wall_s)
                fresh[address] = Way(address, wall_s, worked_at)
            else:
                fresh[address] = old
        self._ways = {**fresh, **self._ways}
        self._bound()

    def worked(self, address: Address, wall_s: float) -> None:
        """A link stands by way of ``address``; nothing is remembered of addresses that nobody has named."""
        old = self._ways.get(address)
        if old is not None and not (old.worked_at and 0 <= wall_s - old.worked_at <= STAMP_S):
            self._ways[address] = attrs.evolve(old, worked_at=wall_s)
            self.changed = True

    def forget(self, wall_s: float) -> None:
        """Forget what has not been named for a week; call it when a WELCOME has named what it names.

        Stamps of the future, by a clock that has been set back since, begin their week now.
        """
        kept: dict[Address, Way] = {}
        for way in self._ways.values():
            if way.named_at > wall_s:
                way = Way(way.address, wall_s, min(way.worked_at, wall_s))
            if wall_s - way.named_at <= MEMORY_S:
                kept[way.address] = way
        if kept != self._ways:
            self._ways = kept
            self.changed = True

    def _bound(self) -> None:
        if len(self._ways) > MAX_WAYS:
            best = sorted(self._ways.values(), key=lambda way: (not way.worked_at, -way.named_at))[:MAX_WAYS]
            kept = {way.address for way in best}
            self._ways = {address: way for address, way in self._ways.items() if address in kept}


def merged(ours: Iterable[Way], theirs: Iterable[Way], wall_s: float) -> Ways:
    """What we know, and what another process has written that is not a week old; of two stamps the later, but none of the future."""
    both = {way.address: way for way in ours}
    for way in theirs:
        known = both.get(way.address)
        named_at, worked_at = min(way.named_at, wall_s), min(way.worked_at, wall_s)
        if known is not None:
            both[way.address] = Way(
                way.address, max(named_at, known.named_at), max(worked_at, known.worked_at)
            )
        elif wall_s - named_at <= MEMORY_S:
            both[way.address] = Way(way.address, named_at, worked_at)
    return Ways(both.values())


# -- bytes -----------------------------------------------------------------------------------------------------------------

_Stamp = Annotated[float, Meta(ge=0, le=1e11)]  # seconds; the year 5138


class _Entry(msgspec.Struct):
    address: Annotated[str, Meta(max_length=MAX_TEXT)]
    named: _Stamp
    worked: _Stamp = 0.0


class _File(msgspec.Struct):
    version: int
    networks: dict[Annotated[str, Meta(max_length=128)], list[_Entry]]


_decoder = msgspec.json.Decoder(_File)


def decode_ways(data: bytes) -> tuple[dict[str, list[Way]], int]:
    """The ways of each network in the bytes of a file, and how many entries were no address or too many.

    Raises :class:`WaysError` for bytes that are no such file.
    """
    if len(data) > MAX_FILE:
        raise WaysError(f"expected at most {MAX_FILE} bytes")
    try:
        file = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise WaysError(f"no file of ways: {error}") from None
    except RecursionError:
        raise WaysError("no file of ways: nested too deeply") from None
    if file.version != VERSION:
        raise WaysError(f"version {file.version} of such files; expected {VERSION}")
    networks: dict[str, list[Way]] = {}
    bad = 0
    for network, entries in list(file.networks.items())[-MAX_NETWORKS:]:
        ways = networks[network] = []
        bad += max(0, len(entries) - MAX_WAYS)
        for entry in entries[:MAX_WAYS]:
            try:
                ways.append(Way(parse_address(entry.address), entry.named, entry.worked))
            except LocalError:
                bad += 1
    return networks, bad


def encode_ways(networks: Mapping[str, Iterable[Way]]) -> bytes:
    """The bytes of a file with the last :data:`MAX_NETWORKS` of these."""
    latest = list(networks.items())[-MAX_NETWORKS:]
    entries = {
        network: [
            {"address": str(way.address), "named": int(way.named_at), "worked": int(way.worked_at)}
            for way in ways
        ]
        for network, ways in latest
    }
    return (
        msgspec.json.format(msgspec.json.encode({"version": VERSION, "networks": entries}), indent=1) + b"\n"
    )


# -- the file --------------------------------------------------------------------------------------------------------------


class WaysFile:
    """The file, for one network.  What is wrong with it is logged, and never raised: it is a convenience."""

    _log = Logger()

    def __init__(self, path: Path, network: str) -> None:
        """``network`` names the one that we are on, among all in the file: 128 characters at most."""
        self.path = path
        self._network = network
        self._waiting_since: float | None = None
        self._complained: set[str] = set()

    def load(self) -> list[Way]:
        """The ways of our network; none where there is no file, or none that makes sense."""
        return self._networks().get(self._network, [])

    def due(self, now: float, talked_at: float) -> bool:
        """Whether it is time to write what has changed: a second after the first change, when nobody has talked for as long."""
        if self._waiting_since is None:
            self._waiting_since = now
        waited_s = now - self._waiting_since
        quiet = waited_s >= WRITE_AFTER_S and now - talked_at >= WRITE_AFTER_S
        return quiet or waited_s >= WRITE_AT_LAST_S

    def save(self, ways: Ways, wall_s: float) -> None:
        """Write the ways of our network beside those of the others."""
        self._waiting_since = None
        networks = self._networks()
        theirs = networks.pop(self._network, [])
        networks[self._network] = list(
            merged(ways, theirs, wall_s)
        )  # last: the first in the file is forgotten first
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self.path, encode_ways(networks))
        except OSError as error:
            self._complain(f"cannot be written: {error.strerror or error}")

    def _networks(self) -> dict[str, list[Way]]:
        try:
            networks, bad = decode_ways(_read(self.path))
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._complain(f"cannot be read: {error.strerror or error}")
            return {}
        except WaysError as wrong:
            self._complain(str(wrong))
            return {}
        if bad:
            self._complain(f"{bad} entries are no address, or over the limit of {MAX_WAYS}: left out")
        return networks

    def _complain(self, why: str) -> None:
        """Once per cause: it is looked at again and again."""
        if why not in self._complained and len(self._complained) < MAX_COMPLAINTS:
            self._complained.add(why)
            self._log.warn(
                "{path}: {why} (network.ways_file: other ways into the mesh are remembered there)",
                path=str(self.path),
                why=why,
            )


def _read(path: Path) -> bytes:
    # Neither a pipe, which would make us wait, nor what somebody else has put there.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise WaysError("is no ordinary file")
        if status.st_uid not in (0, os.geteuid()):
            raise WaysError("belongs to somebody else")
        return stream.read(MAX_FILE + 1)


def _replace(path: Path, data: bytes) -> None:
    # Without fsync, which can take half a second on a flash card while somebody talks: after a power cut the file may be the old one, or empty.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
