"""The wheel, installed where nothing of the checkout can be seen: does it hold all that a user needs, and no more?"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import attrs
import pytest
import twisted

import ice

from .conftest import ROOT, clean_environment

LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".demo", ".run", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "_trial_temp*"
)


@attrs.frozen
class Installed:
    """A wheel, and a virtual environment with it."""

    wheel: Path
    bin: Path

    def run(self, program: str, *arguments: str) -> str:
        """What a program of the environment says when it is run from ``/``."""
        done = subprocess.run(
            [self.bin / program, *arguments],
            check=False,
            cwd="/",
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel built from a copy of the tree, installed with nothing else of ours in reach.

    Other projects' packages are lent by a path file, to be quick; Twisted itself is copied, since our plugin belongs into its folder.
    """
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _check(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder / "wheels", source)
    (wheel,) = (folder / "wheels").glob("*.whl")
    _check(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    site = Path(_check(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    lender = Path(twisted.__file__).parent
    shutil.copytree(
        lender,
        site / "twisted",
        ignore=shutil.ignore_patterns("test", "ice_*.py", "dropin.cache", "__pycache__"),
    )
    (site / "lent.pth").write_text(f"{lender.parent}\n")
    _check(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    shutil.rmtree(source)
    return Installed(wheel, folder / "venv" / "bin")


def _check(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd="/",
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_wheel_holds_the_package(installed: Installed) -> None:
    """Every module and data file of ice is in the wheel, and the plugin file."""
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "ice").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".o")
    }
    assert {"ice/py.typed", "ice/testing/data/speech.wav"} <= wanted
    assert wanted | {"twisted/plugins/ice_plugins.py"} <= names


def test_wheel_holds_no_more(installed: Installed) -> None:
    """No tests, and nothing that would take the twisted package from Twisted."""
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ice", "twisted", "ice_voice"}
    assert [name for name in names if name.startswith("twisted/")] == ["twisted/plugins/ice_plugins.py"]
    assert not [name for name in names if "test_" in name or "dropin" in name]


def test_twistd_knows_the_daemons(installed: Installed) -> None:
    """From / and with the checkout out of sight, twistd lists each of our daemons and still those of Twisted."""
    said = installed.run("python", "-c", "from twisted.scripts.twistd import run; run()", "--help")
    assert "ice-rallypoint" in said
    assert "ice-reflector" in said
    assert "Switch voice streams" in said
    assert "web" in said.split()


def test_commands(installed: Installed) -> None:
    """The console script and ``python -m ice`` are the installed package's and tell its version."""
    where = installed.run("python", "-c", "import ice; print(ice.__file__)")
    assert Path(where.strip()).is_relative_to(installed.bin.parent)
    assert ice.__version__ in installed.run("ice", "--version")
    assert ice.__version__ in installed.run("python", "-m", "ice", "--version")


def test_daemon_options(installed: Installed) -> None:
    """A daemon's own options can be asked for, so its module is there and imports."""
    said = installed.run(
        "python", "-c", "from twisted.scripts.twistd import run; run()", "ice-rallypoint", "--help"
    )
    assert "--config" in said
