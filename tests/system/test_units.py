"""The systemd units: does systemd understand every line, and is little left open?"""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT

UNITS = sorted((ROOT / "etc" / "systemd").glob("*.service"))
INSTALLED = "/opt/ice/bin/"  # where the units expect our programs
WORST = 1.5  # of 10; an unprotected service is 9.6, and every line here that is lost adds 0.1 to 0.3

analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def run(*command: object) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end."""
    words = [str(word) for word in command]
    return subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


@pytest.fixture(params=UNITS, ids=lambda path: path.name)
def unit(request: pytest.FixtureRequest) -> Path:
    """Each unit that we ship."""
    path: Path = request.param
    return path


@pytest.fixture
def placed(unit: Path, tmp_path: Path) -> Path:
    """The unit in a folder of its own, its programs replaced by ones that are there: systemd checks that they are."""
    programs = tmp_path / "bin"
    programs.mkdir()
    text = unit.read_text("utf-8")
    for name in set(re.findall(re.escape(INSTALLED) + r"(\S+)", text)):
        (programs / name).symlink_to("/bin/true")
    copy = tmp_path / unit.name
    copy.write_text(text.replace(INSTALLED, f"{programs}/"), "utf-8")
    return copy


@analyze
def test_understood(placed: Path) -> None:
    """systemd knows every section, key and value, and says nothing else about the unit."""
    done = run("systemd-analyze", "verify", "--man=no", placed)
    about_us = [line for line in done.stderr.splitlines() if placed.name in line]
    assert (done.returncode, about_us) == (0, [])


@analyze
def test_a_mistake_is_found(placed: Path) -> None:
    """The check above can fail: a misspelt key is reported."""
    placed.write_text(placed.read_text("utf-8").replace("WatchdogSec=", "WatchDogSeconds="), "utf-8")
    assert "WatchDogSeconds" in run("systemd-analyze", "verify", "--man=no", placed).stderr


@analyze
def test_exposure(placed: Path) -> None:
    """What an intruder in the daemon could still do is little, by systemd's own measure."""
    done = run(
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        f"--threshold={round(WORST * 10)}",
        placed,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is older than 250 and cannot judge a file")
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) <= WORST, done.stdout
    assert done.returncode == 0, done.stderr


def test_life(unit: Path) -> None:
    """Notified start with a watchdog, checked configuration, reload by HUP, restart after a failure, never as root."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit, "utf-8")
    service = parser["Service"]
    assert (service["Type"], service["NotifyAccess"], service["Restart"]) == ("notify", "main", "on-failure")
    assert service["ExecStart"].startswith(f"{INSTALLED}twistd -n --pidfile= {unit.stem}")
    assert service["ExecStartPre"].startswith(f"{INSTALLED}ice check")
    assert "HUP" in service["ExecReload"]
    assert service["User"] not in ("", "root", "0")
    assert service["CapabilityBoundingSet"] == ""
    assert int(service["LimitNOFILE"]) > 10_000
    assert "WatchdogSec" in service
    assert "MemoryDenyWriteExecute" not in service  # it breaks TLS: see the unit
