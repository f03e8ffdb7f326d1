"""Whether this is a container that only seems to be on the local network.

Behind a bridge or a NAT of its host a container can join groups and hear itself, and nothing of the LAN ever comes in.  It is told by whether any interface is a real one, or
one that stands on the LAN for itself (macvlan, ipvlan).
"""

import re
from pathlib import Path

import attrs

REMEDY = (
    "let it have the host's network (docker run --network host, Kubernetes hostNetwork: true), or an address on the LAN "
    "(docker network create -d macvlan -o parent=eth0 --subnet …)"
)


@attrs.frozen
class Container:
    """What kind it is, and the interfaces that stand on the LAN."""

    kind: str
    outside: tuple[str, ...]

    @property
    def trouble(self) -> str:
        """Why multicast of the LAN does not reach it; "" where it does."""
        if self.outside:
            return ""
        return f"{self.kind}, behind a bridge or a NAT of its host: multicast of the LAN does not come in, ours does not go out"


def container(root: Path = Path("/")) -> Container | None:
    """The container that this process is in; None where it is in none."""
    kind = _kind(root)
    if kind is None:
        return None
    outside = tuple(
        folder.name
        for folder in sorted((root / "sys/class/net").glob("*"))
        if (folder / "device").exists() or re.search(r"^DEVTYPE=(?:mac|ip)v", _text(folder / "uevent"), re.M)
    )
    return Container(kind, outside)


def _kind(root: Path) -> str | None:
    """What kind of container this is; None where it is none."""
    if (root / ".dockerenv").exists():
        return "a Docker container"
    if (root / "run/.containerenv").exists():
        return "a Podman container"
    if (root / "var/run/secrets/kubernetes.io").exists():
        return "a Kubernetes pod"
    found = re.search(r"(?:^|\0)container=([\w.-]{1,40})", _text(root / "proc/1/environ"))
    return f"a container ({found[1]})" if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
