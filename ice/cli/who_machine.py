"""What this machine can tell of itself to a team: its battery, and how it reaches the network. From Linux's own files; nothing where there are none.

Telephones of the original announce both; a laptop in a command post has a battery too, and somebody who looks at the table wants to know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ice.mission.presence import Connectivity, Power

SUPPLIES: Final = Path("/sys/class/power_supply")
NETWORKS: Final = Path("/sys/class/net")
ROUTES: Final = Path("/proc/net/route")
WIRELESS: Final = Path("/proc/net/wireless")
MAX_READ: Final = 65_536  # characters of a file that is asked
STATES: Final = {"Charging": 1, "Discharging": 2, "Not charging": 3, "Full": 4}
BATTERY: Final = 1
WIRED, WIFI, CELLULAR = 1, 2, 3
MODEMS: Final = ("wwan", "ppp", "rmnet", "ccmni")  # how Linux names what reaches a cell


def power(supplies: Path = SUPPLIES) -> Power | None:
    """The fullest battery that the machine itself runs on; None without one, or where it does not say."""
    found = []
    try:
        folders = sorted(supplies.iterdir())
    except OSError:
        return None
    for folder in folders:
        if _line(folder / "type") != "Battery" or _line(folder / "scope") == "Device":  # a mouse's
            continue
        level, state = _line(folder / "capacity"), STATES.get(_line(folder / "status"), 0)
        if level.isdecimal() and 0 < int(level) <= 100 and state:
            found.append(Power(BATTERY, state, int(level)))
    return max(found, key=lambda each: each.level_percent, default=None)


def connectivity(
    routes: Path = ROUTES, networks: Path = NETWORKS, wireless: Path = WIRELESS
) -> Connectivity | None:
    """How the default route leaves the machine; None where there is none. ``strength`` of wifi in dBm, where it is told."""
    for line in _text(routes).splitlines()[1:]:
        words = line.split()
        if len(words) < 2 or words[1] != "00000000":
            continue
        name = words[0]
        if (networks / name / "wireless").exists() or (networks / name / "phy80211").exists():
            return Connectivity(WIFI, _strength(name, wireless))
        return Connectivity(CELLULAR if name.startswith(MODEMS) else WIRED)
    return None


def _strength(name: str, wireless: Path) -> int:
    for line in _text(wireless).splitlines():
        words = line.replace(":", " ").split()
        if len(words) > 3 and words[0] == name:
            try:
                level = round(float(words[3]))
            except ValueError:
                return 0
            return level if -150 <= level < 0 else 0
    return 0


def _line(path: Path) -> str:
    return _text(path).partition("\n")[0].strip()


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_READ)
    except OSError:
        return ""
