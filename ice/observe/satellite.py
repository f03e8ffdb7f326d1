"""What every satellite (reflector, patch server, gateway) says of itself: whether it works, and by which Rallypoints; as JSON-able values and as metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import ice
from ice.net.addresses import Address
from ice.observe.metrics import Metrics


class Home(Protocol):
    """A link to a Rallypoint."""

    @property
    def address(self) -> Address:
        """Where it was dialled."""

    @property
    def name(self) -> str:
        """The Rallypoint's name."""

    @property
    def round_trip_s(self) -> float | None:
        """The latest, None before there is one."""

    @property
    def age_s(self) -> float:
        """How long it has stood."""


class Links(Protocol):
    """A network of Rallypoints."""

    @property
    def up(self) -> bool:
        """Whether there is a link."""

    @property
    def why(self) -> str:
        """Why not."""

    @property
    def homes(self) -> Sequence[Home]:
        """The links that stand."""


class Satellite(Protocol):
    """A satellite at work."""

    @property
    def network(self) -> Links:
        """Its Rallypoints."""

    @property
    def is_active(self) -> bool:
        """Whether it works, or stands by."""

    @property
    def uptime_s(self) -> float:
        """Since it started."""

    def ready(self) -> str | None:
        """None where it does its work, else why not."""


def standing_of(satellite: Satellite) -> dict[str, Any]:
    """How it stands; round trips in milliseconds, ages in seconds."""
    why, network = satellite.ready(), satellite.network
    return {
        "version": ice.__version__,
        "state": "active" if satellite.is_active else "standby",
        "ready": why is None,
        "why_not_ready": why or "",
        "rallypoints": [
            {
                "address": str(home.address),
                "name": home.name,
                "rtt_ms": None if home.round_trip_s is None else round(home.round_trip_s * 1_000, 1),
                "age_s": round(home.age_s, 1),
            }
            for home in network.homes
        ],
        "why_no_link": "" if network.up else network.why,
    }


def add_standing(metrics: Metrics, satellite: Satellite, begin: str, works: str) -> None:
    """Register the figures of how it stands, under names that begin with ``begin``; ``works`` is what the active one does ("sends")."""
    gauge = metrics.gauge
    metrics.info(begin + "info", "Constant 1; what runs here.", version=ice.__version__)
    gauge(begin + "uptime_seconds", "Time since the start.", lambda: satellite.uptime_s)
    gauge(begin + "active", f"1 while it {works}, 0 as a standby.", lambda: float(satellite.is_active))
    gauge(begin + "links", "Links to Rallypoints.", lambda: len(satellite.network.homes))
