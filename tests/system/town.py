"""A town: Rallypoints and people in network namespaces, real daemons, and everything that can happen to them.

Each Rallypoint is a place of its own, each *site* (where people are) another; between every two of them is a road (`roads.py`). The people of a site
live in one process (`crowd.py`), each with a certificate and a link; what they hear is tallied in `tally.py`::

    with Town.build(folder, rallypoints=3, sites=3) as town:
        town.start()
        town.settle({"s1": ["anna"], "s2": ["bob"]}, "square")
        with town.talking("anna"):
            town.roads.cut("rp1", "rp2")
            time.sleep(3)
        pairs = town.tape.read().pairs()

Whatever is started is killed when the town is closed, or when the process that built it dies, however it dies.
"""

import contextlib
import ctypes
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from uuid import UUID

import attrs

from ice.security.authority import Authority
from ice.security.certificates import Role
from ice.security.register import addresses

from .roads import Place, Roads
from .tally import Tape

BIN = Path(sys.executable).parent  # not resolved: the virtual environment's own scripts
PORT, HTTP_PORT = 7443, 7480  # the same in every namespace
MESH_PAGE = "/mesh"
WAIT_S = 30.0
PR_SET_PDEATHSIG = 1
SHOWN_LINES = 40  # of each log, when something went wrong


class TownError(AssertionError):
    """Waited in vain, or a program ended; the message has what the programs said."""


@attrs.define(eq=False)
class Program:
    """A program that runs in a place."""

    name: str
    place: Place
    words: list[str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    frozen: bool = False

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it; its output goes behind what is in the log."""
        assert not self.runs, f"{self.name} runs already"
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                self.place.command(*self.words),
                cwd=self.log.parent,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 -- one system call, no lock
            )
        self.frozen = False

    def signal(self, number: int) -> None:
        """Send a signal to it, if it runs."""
        if self.process is not None and self.runs:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, frozen or not."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, timeout_s: float = WAIT_S) -> int:
        """Wait for its end; the exit status."""
        assert self.process is not None
        status = self.process.wait(timeout_s)
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self.frozen = False
        return status

    def tail(self) -> str:
        """What it said last."""
        if not self.log.exists():
            return ""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-SHOWN_LINES:]
        return "\n".join([f"--- {self.name}", *lines])


@attrs.frozen
class Rallypoint:
    """One of the town's Rallypoints."""

    name: str
    id: UUID
    place: Place
    leaf: bool
    program: Program

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.place.address}:{PORT}"


@attrs.frozen
class Crowd:
    """The process of the people of one site."""

    site: str
    people: tuple[str, ...]
    program: Program
    trace: Path

    def order(self, do: str, **facts: Any) -> None:
        """Tell it something, see `crowd.py`."""
        assert self.program.process is not None and self.program.process.stdin is not None
        self.program.process.stdin.write(json.dumps({"do": do, **facts}).encode() + b"\n")
        self.program.process.stdin.flush()


@attrs.define(eq=False)
class Town:
    """See the module's docstring."""

    folder: Path
    roads: Roads
    rallypoints: dict[str, Rallypoint]
    sites: tuple[str, ...]
    tape: Tape
    crowds: dict[str, Crowd] = attrs.field(factory=dict)
    client_toml: str = ""
    _authority: Authority = attrs.field(kw_only=True, repr=False)
    _streams: dict[str, str] = attrs.field(factory=dict)  # who: the stream of settle()
    _programs: list[Program] = attrs.field(factory=list)
    _marks: int = 0

    # -- building ------------------------------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        folder: Path,
        *,
        rallypoints: int = 5,
        leaves: int = 0,
        sites: int = 5,
        mesh: bool = True,
        rallypoint_toml: str = "",
        mesh_toml: str = "spread_s = 0.2",
        client_toml: str = "rollover_s = 1.0",
    ) -> "Town":
        """Make places, certificates and configurations; nothing runs yet.

        Rallypoints are called ``rp1``…, the ``leaves`` among them last; sites ``s1``…. ``mesh=False``: Rallypoints that know nothing of each other.
        ``…_toml``: more lines of the tables ``rallypoint``, ``rallypoint.mesh`` and, for people, ``network``. Raises
        :class:`tests.system.roads.RoadsError`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"rp{number}" for number in range(1, rallypoints + leaves + 1)]
        site_names = tuple(f"s{number}" for number in range(1, sites + 1))
        now = datetime.now(UTC)
        authority = Authority.create(folder / "pki", now, name="town")
        roads = Roads([*names, *site_names])
        try:
            ids = {
                name: authority.issue(
                    name, Role.RALLYPOINT, now, addresses=addresses((roads.places[name].address,))
                ).id
                for name in names
            }
            town = cls(
                folder=folder,
                roads=roads,
                rallypoints={},
                sites=site_names,
                tape=Tape([]),
                client_toml=client_toml,
                authority=authority,
            )
            members = ",\n".join(
                f'  {{ id = "{ids[name]}", address = "{roads.places[name].address}:{PORT}"'
                + (", leaf = true" if number >= rallypoints else "")
                + " }"
                for number, name in enumerate(names)
            )
            group = (
                f'[rallypoint.mesh]\n{mesh_toml}\n\n[[groups]]\nname = "town"\ncost = 10\nmembers = [\n{members},\n]\n'
                if mesh
                else ""
            )
            for number, name in enumerate(names):
                place, id = roads.places[name], ids[name]
                assert id is not None
                config = folder / f"{name}.toml"
                config.write_text(
                    f'[authority]\ncertificates = ["pki/authority.pem"]\nrevocations = "pki/revoked.pem"\n\n'
                    f'[rallypoint]\nname = "{name}"\nlisten = ["{place.address}:{PORT}"]\n'
                    f'certificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n{rallypoint_toml}\n\n'
                    f'[rallypoint.http]\nlisten = "127.0.0.1:{HTTP_PORT}"\n\n{group}'
                )
                words = [str(BIN / "twistd"), "-n", "--pidfile=", "ice-rallypoint", "--config", str(config)]
                program = town.program(name, place, words)
                town.rallypoints[name] = Rallypoint(name, id, place, number >= rallypoints, program)
        except BaseException:
            roads.close()
            raise
        return town

    def program(self, name: str, place: Place, words: Sequence[object]) -> Program:
        """A program that is killed with the town; not started."""
        program = Program(name, place, [str(word) for word in words], self.folder / f"{name}.log")
        self._programs.append(program)
        return program

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill whatever runs, and remove the places; closing twice is harmless."""
        for program in self._programs:
            program.signal(signal.SIGKILL)
        for program in self._programs:
            if program.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    program.wait()
        self.roads.close()

    # -- what is so ----------------------------------------------------------------------------------------------------

    def ask(self, name: str, path: str = "/status", timeout_s: float = 2.0) -> tuple[int, bytes]:
        """A status page of a Rallypoint; raises OSError where nobody answers in time."""
        place = self.rallypoints[name].place
        connection = http.client.HTTPConnection("127.0.0.1", HTTP_PORT, timeout=timeout_s)
        connection.sock = place.connect("127.0.0.1", HTTP_PORT, timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"{name}{path}: {error!r}") from error
        finally:
            connection.close()

    def status(self, name: str) -> dict[str, Any]:
        """What a Rallypoint says of itself; raises OSError."""
        answer: dict[str, Any] = json.loads(self.ask(name)[1])
        return answer

    def mesh(self, name: str) -> dict[str, Any]:
        """What a Rallypoint says of its mesh; raises OSError."""
        answer: dict[str, Any] = json.loads(self.ask(name, MESH_PAGE)[1])
        return answer

    def ready(self, name: str) -> bool:
        """Whether newcomers are welcome there."""
        try:
            return self.ask(name, "/readyz")[0] == 200
        except OSError:
            return False

    def linked(self, name: str) -> set[UUID]:
        """The Rallypoints that one has a link with, by its own account; empty where it does not answer."""
        try:
            return {UUID(row["id"]) for row in self.mesh(name)["peers"] if row["state"] == "linked"}
        except (OSError, ValueError, KeyError):
            return set()

    def drops(self, name: str) -> dict[str, int]:
        """RELAY frames that a Rallypoint did not pass on, by reason, since its start; raises OSError."""
        dropped: dict[str, int] = self.mesh(name)["relays"]["dropped"]
        return dropped

    def whole(self, *names: str) -> bool:
        """Whether all Rallypoints (or those named) that run have a link with each other; leaves with none but core members."""
        wanted = [self.rallypoints[name] for name in names or self.rallypoints]
        wanted = [each for each in wanted if each.program.runs]
        for one in wanted:
            others = {each.id for each in wanted if each is not one and not (one.leaf and each.leaf)}
            if not others <= self.linked(one.name):
                return False
        return True

    def name_of(self, address: str) -> str:
        """The Rallypoint at an address; empty: none."""
        return next((each.name for each in self.rallypoints.values() if each.address == address), "")

    def home(self, who: str, at_s: float = float("inf")) -> str:
        """The Rallypoint where somebody was linked last, at a time."""
        return self.name_of(self.tape.home(who, at_s))

    def nearest(self, site: str) -> str:
        """The Rallypoint that people of a site prefer."""
        return self._preferred(site)[0]

    def until(
        self, true: Callable[[], bool], what: str, timeout_s: float = WAIT_S, every_s: float = 0.05
    ) -> float:
        """Wait; how long that took in seconds. Raises :class:`TownError` when the time is over."""
        begin = time.monotonic()
        while not true():
            if time.monotonic() - begin > timeout_s:
                raise TownError(f"waited {timeout_s:g} s in vain until {what}\n{self.told()}")
            time.sleep(every_s)
        return time.monotonic() - begin

    def told(self) -> str:
        """What every program said last."""
        return "\n".join(program.tail() for program in self._programs)

    # -- Rallypoints ---------------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start Rallypoints (all), and wait until they are ready and linked with each other."""
        self.launch(*names)
        for name in names or self.rallypoints:
            self.await_ready(name)
        if len(self.rallypoints) > 1 and all("[[groups]]" in self._config(name) for name in self.rallypoints):
            self.until(self.whole, "all Rallypoints are linked with each other")

    def launch(self, *names: str) -> None:
        """Start Rallypoints, and wait for nothing."""
        for name in names or self.rallypoints:
            self.rallypoints[name].program.start()

    def await_ready(self, name: str) -> None:
        """Wait until a Rallypoint welcomes newcomers."""
        program = self.rallypoints[name].program
        self.until(lambda: self.ready(name) or not program.runs, f"{name} is ready")
        if not program.runs:
            raise TownError(f"{name} ended instead of starting\n{program.tail()}")

    def kill(self, name: str) -> None:
        """``kill -9``."""
        self.rallypoints[name].program.kill()

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        program = self.rallypoints[name].program
        program.signal(signal.SIGSTOP)
        program.frozen = True

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        program = self.rallypoints[name].program
        program.signal(signal.SIGCONT)
        program.frozen = False

    def stop(self, name: str) -> None:
        """SIGTERM, and wait for the orderly end."""
        program = self.rallypoints[name].program
        program.signal(signal.SIGTERM)
        program.wait()

    def reload(self, name: str) -> None:
        """SIGHUP."""
        self.rallypoints[name].program.signal(signal.SIGHUP)

    def restore(self) -> None:
        """Everything is well again: roads healed, frozen Rallypoints awake, dead ones started, all linked, everybody at home and silent."""
        for crowd in self.crowds.values():
            for who in crowd.people:
                if who in self._streams:
                    crowd.order("hush", who=who, stream=self._streams[who])
        self.roads.heal()
        for name, rallypoint in self.rallypoints.items():
            if rallypoint.program.frozen:
                self.thaw(name)
        dead = [name for name, rallypoint in self.rallypoints.items() if not rallypoint.program.runs]
        self.launch(*dead) if dead else None
        for name in self.rallypoints:
            self.await_ready(name)
        self.until(self.whole, "all Rallypoints are linked with each other again")
        self.until(self.all_home, "everybody is at home again")

    # -- people --------------------------------------------------------------------------------------------------------

    def person(self, name: str, site: str, more_toml: str = "") -> Path:
        """Somebody with a certificate; the configuration, whose Rallypoints begin with the one nearest to the site."""
        self._authority.issue(name, Role.CLIENT, datetime.now(UTC))
        known = ", ".join(f'"{self.rallypoints[each].address}"' for each in self._preferred(site))
        config = self.folder / f"{name}.toml"
        config.write_text(
            f'[identity]\ncertificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n\n'
            f'[authority]\ncertificates = ["pki/authority.pem"]\nrevocations = "pki/revoked.pem"\n\n'
            f'[network]\nrallypoints = [{known}]\nways_file = "{name}.ways.json"\n{self.client_toml}\n{more_toml}\n'
        )
        return config

    def crowd(
        self,
        site: str,
        people: Mapping[str, Sequence[Mapping[str, Any]]],
        more_toml: str | Mapping[str, str] = "",
        name: str = "",
    ) -> Crowd:
        """People of a site, in a process that is started: name → streams, as in `crowd.py`.

        ``more_toml``: more lines of the table ``network`` for all of them, or for each (name → lines).
        """
        more = dict.fromkeys(people, more_toml) if isinstance(more_toml, str) else more_toml
        name = name or f"crowd-{site}"
        plan, trace = self.folder / f"{name}.json", self.folder / f"{name}.jsonl"
        spec = [
            {
                "name": who,
                "config": str(self.person(who, site, more.get(who, ""))),
                "streams": [*map(dict, streams)],
            }
            for who, streams in people.items()
        ]
        plan.write_text(json.dumps({"people": spec}))
        words = [sys.executable, Path(__file__).with_name("crowd.py"), plan, trace]
        crowd = Crowd(site, tuple(people), self.program(name, self.roads.places[site], words), trace)
        self.crowds[name] = crowd
        self.tape.paths.append(trace)
        crowd.program.start()
        return crowd

    def settle(
        self,
        people: Mapping[str, Sequence[str]],
        stream: str | Mapping[str, str],
        more_toml: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """People come to their sites (site → names) and join a stream, or each their own (name → stream); wait until all are joined."""
        for site, names in people.items():
            for who in names:
                self._streams[who] = stream if isinstance(stream, str) else stream[who]
            self.crowd(site, {who: [{"stream": self._streams[who]}] for who in names}, more_toml)
        self.until(self.all_joined, "everybody has joined")

    def all_joined(self) -> bool:
        """Whether everybody of `settle` has an open way to the stream."""
        self.tape.read()
        self._check_crowds()
        return all(self.tape.up(who, stream) for who, stream in self._streams.items())

    def all_home(self) -> bool:
        """Whether all have an open way, over the Rallypoint that they prefer."""
        return self.all_joined() and all(
            self.home(who) == self.nearest(crowd.site)
            for crowd in self.crowds.values()
            for who in crowd.people
            if who in self._streams and crowd.program.runs
        )

    def tell(self, who: str, do: str, **facts: Any) -> None:
        """An order for one person."""
        next(crowd for crowd in self.crowds.values() if who in crowd.people).order(do, who=who, **facts)

    @contextlib.contextmanager
    def talking(
        self, *people: str, every_ms: float = 20.0, flags: int = 0, after_s: float = 0.5
    ) -> Iterator[None]:
        """They talk on their stream of `settle` meanwhile; afterwards everything has been heard that ever will be, and is on the tape."""
        for who in people:
            self.tell(who, "talk", stream=self._streams[who], every_ms=every_ms, flags=flags)
        try:
            yield
        finally:
            for who in people:
                self.tell(who, "hush", stream=self._streams[who])
            time.sleep(after_s)
            self.mark()

    def mark(self, crowds: Iterable[Crowd] | None = None) -> None:
        """Wait until all that was heard is on the tape, and everybody's counts."""
        self._marks += 1
        mine = [crowd for crowd in crowds or self.crowds.values() if crowd.program.runs]
        for crowd in mine:
            crowd.order("mark", mark=self._marks)
        self.until(
            lambda: all(self.tape.read().marks.get(crowd.trace) == self._marks for crowd in mine),
            "the crowds have written down everything",
            every_s=0.01,
        )

    # -- inside --------------------------------------------------------------------------------------------------------

    def _preferred(self, site: str) -> list[str]:
        names = list(self.rallypoints)
        first = self.sites.index(site) % len(names)
        return names[first:] + names[:first]

    def _config(self, name: str) -> str:
        return (self.folder / f"{name}.toml").read_text()

    def _check_crowds(self) -> None:
        for crowd in self.crowds.values():
            if not crowd.program.runs:
                raise TownError(f"the crowd of {crowd.site} has ended\n{crowd.program.tail()}")


def _environment() -> dict[str, str]:
    """The caller's environment without what would change where Python or ice look."""
    unwanted = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "VIRTUAL_ENV")
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "ICE_")) and key not in unwanted
    } | {"PYTHONUNBUFFERED": "1"}


_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
