"""An Engage peering file, followed by real Rallypoints while they run."""

import json
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from ice.security.authority import Authority
from ice.security.certificates import Role
from ice.security.register import addresses
from ice.testing.site import LOOPBACK, free_ports

from .conftest import Program
from .test_voice import wait_until

NAMES = ("north", "south")


@attrs.frozen
class Pair:
    """Two Rallypoints that read one peering file."""

    ids: dict[str, str]
    ports: dict[str, int]
    pages: dict[str, int]
    file: Path
    programs: tuple[Program, ...]

    def linked(self, name: str) -> set[str]:
        """The ids that one of them is linked with."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.pages[name]}/mesh", timeout=10) as page:
            rows = json.load(page)["peers"]
        return {row["id"] for row in rows if row["state"] == "linked"}

    def list(self, *names: str) -> None:
        """Name these in the file, as the original writes it."""
        peers = [
            {"id": f"{{{self.ids[name].upper()}}}", "host": {"address": LOOPBACK, "port": self.ports[name]}}
            for name in names
        ]
        self.file.write_text(json.dumps({"version": 1, "peers": peers}))

    def together(self) -> bool:
        """Whether both have a link."""
        return all(self.linked(name) for name in NAMES)

    def apart(self) -> bool:
        """Whether neither has one."""
        return not any(self.linked(name) for name in NAMES)


@pytest.fixture
def pair(start: Callable[..., Program], tmp_path: Path) -> Pair:
    """Both run, and the file names nobody."""
    now, free = datetime.now(UTC), free_ports(4)
    authority = Authority.create(tmp_path / "pki", now, name="peering")
    file = tmp_path / "peers.json"
    file.write_text("[]")
    ids, ports, pages = {}, {}, {}
    for at, name in enumerate(NAMES):
        entry = authority.issue(
            name, Role.RALLYPOINT, now, dns=("localhost",), addresses=addresses((LOOPBACK,))
        )
        ids[name], ports[name], pages[name] = str(entry.id), free[2 * at], free[2 * at + 1]
        (tmp_path / f"{name}.toml").write_text(
            f'[rallypoint]\nlisten = ["{LOOPBACK}:{ports[name]}"]\n'
            f'certificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n'
            f'[rallypoint.http]\nlisten = "{LOOPBACK}:{pages[name]}"\n'
            f'[rallypoint.mesh]\npeering_file = "{file}"\nspread_s = 0.0\n'
        )
    programs = tuple(
        start("twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", tmp_path / f"{name}.toml")
        for name in NAMES
    )
    made = Pair(ids, ports, pages, file, programs)

    def answers() -> bool:
        try:
            return made.apart()
        except OSError:
            return False

    wait_until(answers, "both answer", *programs)
    return made


def test_a_peering_file_is_followed(pair: Pair) -> None:
    """Who comes into the file is linked, who goes out of it is not, and a file that cannot be read changes nothing; nobody is restarted."""
    pair.list(*NAMES)
    wait_until(pair.together, "they are linked", *pair.programs)
    assert pair.linked("north") == {pair.ids["south"]}
    pair.file.write_text('{"peers": [{"id": "no uuid"')
    wait_until(
        lambda: all("the last good list stays in force" in each.output() for each in pair.programs),
        "both have complained",
        *pair.programs,
    )
    assert pair.together()
    pair.file.write_text("[]")
    pair.list("north")  # twice within one second
    wait_until(pair.apart, "they are apart", *pair.programs)
    pair.list(*NAMES)
    wait_until(pair.together, "they are linked again", *pair.programs)
