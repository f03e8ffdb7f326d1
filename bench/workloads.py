"""What the servers are asked to do, in full size and for a quick look."""

from collections.abc import Mapping

import attrs

FULL_PAIRS = 10  # the fewest that say something about a difference of a tenth
FEW_PAIRS = 3  # for what is not judged by a ratio to others


@attrs.frozen
class Workload:
    """One task.

    :ivar name: key in the results, and what ``--workloads`` takes.
    :ivar title: for people.
    :ivar kind: ``--workload`` of the load generator.
    :ivar full: its other arguments.
    :ivar quick: what is different for a quick look.
    :ivar servers: who takes part.
    :ivar quick_servers: who takes part in a quick look.
    :ivar fewer: arguments of one server that cannot do it in full size; such figures are shown and never compared.
    :ivar seconds: how long a run takes with start and end of the server, to estimate; quick, full.
    :ivar few: servers that run it only :data:`FEW_PAIRS` times.
    """

    name: str
    title: str
    kind: str
    full: Mapping[str, float]
    quick: Mapping[str, float]
    servers: tuple[str, ...]
    quick_servers: tuple[str, ...]
    seconds: tuple[float, float]
    fewer: Mapping[str, Mapping[str, float]] = {}
    few: frozenset[str] = frozenset()

    def arguments(self, server: str, quick: bool) -> list[str]:
        """For the load generator."""
        chosen = {**self.full, **(self.quick if quick else {}), **self.fewer.get(server, {})}
        return [
            "--workload",
            self.kind,
            *(word for name, value in chosen.items() for word in (f"--{name}", f"{value:g}")),
        ]

    def takes(self, server: str, quick: bool, repeat: int) -> bool:
        """Whether ``server`` does it in repeat number ``repeat`` (from 0)."""
        if quick:
            return server in self.quick_servers
        return server in self.servers and (server not in self.few or repeat < FEW_PAIRS)


MAIN = ("ice", "floor", "nats", "mosquitto")
VARIANTS = ("ice-python", "ice-twisted")
MUMBLE = ("mumble",)

WORKLOADS = (
    Workload(
        "calm",
        "200 links, 10 streams, 1 talker each at 50 packets/s: 9,500 deliveries/s",
        "flow",
        {"links": 200, "streams": 10, "talkers": 1, "rate": 50, "seconds": 5},
        {"seconds": 1.2, "warm": 0.5},
        MAIN + VARIANTS + MUMBLE,
        (*MAIN, "ice-python", *MUMBLE),
        (3.3, 7.2),
    ),
    Workload(
        "multi",
        "the same with 4 talkers each at 25 packets/s: 19,000 deliveries/s",
        "flow",
        {"links": 200, "streams": 10, "talkers": 4, "rate": 25, "seconds": 5},
        {"seconds": 1.2, "warm": 0.5},
        MAIN + VARIANTS + MUMBLE,
        MAIN + MUMBLE,
        (3.3, 7.2),
    ),
    Workload(
        "hall",
        "1 talker to 1,000 listeners at 15 packets/s: 15,000 deliveries/s, 1,000 at once",
        "flow",
        {"links": 1001, "streams": 1, "talkers": 1, "rate": 15, "seconds": 6},
        {"links": 401, "seconds": 1.2, "warm": 0.3},
        MAIN + VARIANTS + MUMBLE,
        MAIN,
        (3.5, 9.3),
        # Mumble tells every user of every other: joins cost with the square of the links
        fewer={"mumble": {"links": 301, "rate": 50}},
        few=frozenset(MUMBLE),
    ),
    Workload(
        "wide",
        "1,000 links, 50 streams, 1 talker each: the rate rises by 1.4 each second until p99 is over 25 ms",
        "ramp",
        {"links": 1000, "streams": 50, "talkers": 1, "rate": 5},
        {"links": 300, "streams": 15, "rate": 60, "factor": 2, "tries": 1},
        MAIN + VARIANTS + MUMBLE,
        MAIN,
        (8.5, 20.5),
        fewer={"mumble": {"links": 400, "streams": 20, "rate": 12.5}},
        few=frozenset(VARIANTS + MUMBLE),
    ),
    Workload(
        "idle",
        "2,000 links that say nothing",
        "idle",
        {"links": 2000, "streams": 50, "seconds": 10},
        {"links": 400, "seconds": 0.5},
        MAIN + VARIANTS,
        MAIN,
        (2.8, 14.2),
        few=frozenset(VARIANTS),
    ),
    Workload(
        "storm",
        "1,000 links are cut and come back at once",
        "storm",
        {"links": 1000, "streams": 50, "talkers": 1, "rate": 10},
        {"links": 300, "streams": 15},
        MAIN + VARIANTS,
        MAIN,
        (4.0, 7.8),
        few=frozenset(VARIANTS),
    ),
    Workload(
        "stall",
        "200 of 1,000 links stop reading; 950 deliveries for each packet/s, at 20 packets/s",
        "stall",
        {"links": 1000, "streams": 50, "talkers": 1, "rate": 20, "stalled": 200, "seconds": 5},
        {"links": 200, "streams": 10, "stalled": 40, "seconds": 2.5, "warm": 0.3},
        MAIN + VARIANTS,
        ("ice",),
        (9.5, 16.3),
        few=frozenset({"floor", "nats", "mosquitto", *VARIANTS}),
    ),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
