"""Two talkers and N listeners for a while over loopback: packets lost, and how late they came.

``python bench/listeners.py [--listeners 20] [--seconds 60]``

The real daemon; two ``ice talk`` processes that say a real sentence again and again, at the same time, each frame stamped when it is
handed to its link; one process that holds all the listeners, each with an identity, a link and TLS of its own, stamping what
it is given. All stamps are CLOCK_MONOTONIC of one machine, so a difference is the one-way latency: talker's TLS, daemon, listener's
TLS and everybody's turn on the CPU. Run it on a quiet machine.
"""

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ice.cli.demo import _answers, _beside_python
from ice.cli.processes import Children, Interrupt
from ice.cli.speech import SPEECH
from ice.cli.trace import percentile, read_trace
from ice.media import wav
from ice.testing.site import Site

TALKERS = ("anna", "bob")


class Hearer:
    """A listener that notes when each datagram came."""

    def __init__(self, clock_ns: Any = time.monotonic_ns) -> None:
        self.heard: list[tuple[int, int, int]] = []
        self.ups = 0
        self.downs = 0
        self._clock_ns = clock_ns

    def datagram(self, datagram: Any) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        self.heard.append((datagram.source, datagram.sequence, self._clock_ns()))

    def path(self, up: bool, why: str) -> None:
        """See :class:`ice.streams.interface.Receiver`."""
        if up:
            self.ups += 1
        else:
            self.downs += 1


def listen(folder: Path, configs: list[Path]) -> None:
    """All listeners in this process; writes what each heard when a file named ``stop`` appears."""
    from ice.cli import loop
    from ice.config.load import load
    from ice.streams.connect import connect

    async def main(reactor: Any, stop: loop.Stop) -> None:
        hearers = [Hearer() for _ in configs]
        networks = []
        for config, hearer in zip(configs, hearers, strict=True):
            network = connect(load(config), reactor)
            network.join("town", hearer, talk=False)
            networks.append(network)
        said = False
        while not (folder / "stop").exists() and not stop.asked:
            await loop.sleep(reactor, 0.1)
            if not said and all(hearer.ups for hearer in hearers):
                said = True
                (folder / "joined").touch()
        for network in networks:
            await network.stop()
        for number, hearer in enumerate(hearers):
            lines = (f"{source} {sequence} {at}\n" for source, sequence, at in hearer.heard)
            (folder / f"heard-{number}").write_text("".join(lines))
        (folder / "downs").write_text(str(sum(hearer.downs for hearer in hearers) - len(hearers)))

    loop.run(main)


def run(folder: Path, listeners: int, seconds: float) -> int:
    """Measure and print; 0 when nothing was lost."""
    names = [f"listener-{number}" for number in range(listeners)]
    site = Site.create(folder / "site", clients=(*TALKERS, *names))
    rounds = max(1, math.ceil(seconds / wav.inspect(SPEECH).seconds))
    with Interrupt() as interrupt, Children(interrupt) as children:
        daemon = children.start(
            "the Rallypoint",
            [_beside_python("twistd"), "-n", "--pidfile=", "ice-rallypoint", "--config", str(site.config)],
            output=folder / "rallypoint.log",
            cwd=folder,
        )
        ready = f"http://127.0.0.1:{site.http_port}/readyz"
        children.wait_until(lambda: _answers(ready), 60, "it was ready", daemon)
        configs = [str(site.client(name).config) for name in names]
        ears = children.start(
            "the listeners",
            [sys.executable, __file__, "--hold", str(folder), *configs],
            output=folder / "listeners.log",
        )
        children.wait_until((folder / "joined").exists, 60, "all had joined", daemon, ears)
        talkers = [
            children.start(
                name,
                [
                    *(sys.executable, "-m", "ice", "talk", "town", "--config", str(site.client(name).config)),
                    *("--file", str(SPEECH), "--loop", str(rounds), "--trace", str(folder / f"{name}.sent")),
                ],
                output=folder / f"{name}.log",
            )
            for name in TALKERS
        ]
        children.wait_until(
            lambda: all(talker.status is not None for talker in talkers),
            seconds + 120,
            "they had talked",
            daemon,
            ears,
        )
        interrupt.sleep(1.0)
        (folder / "stop").touch()
        children.wait_until(lambda: ears.status is not None, 60, "the listeners had ended", daemon)
        broken = [child for child in (ears, *talkers) if child.status != 0]
        if broken:
            print(f"{broken[0].name} ended with status {broken[0].status}:\n{broken[0].tail()}")
            return 1
    sent = {
        (each.source, each.sequence): each.at_ns
        for name in TALKERS
        for each in read_trace(folder / f"{name}.sent")
    }
    latencies, worst, lost = [], 0.0, 0
    for number in range(listeners):
        heard = {}
        for line in (folder / f"heard-{number}").read_text().splitlines():
            source, sequence, at = map(int, line.split())
            heard[source, sequence] = at
        own = [(heard[name] - at) / 1e6 for name, at in sent.items() if name in heard]
        lost += len(sent) - len(own)
        worst = max(worst, percentile(own, 99))
        latencies += own
    print(f"{len(TALKERS)} talkers, {listeners} listeners, {rounds * wav.inspect(SPEECH).seconds:.0f} s")
    print(f"packets sent: {len(sent):,}; to be heard: {len(sent) * listeners:,}; lost: {lost}")
    print(
        f"one-way latency: p50 {percentile(latencies, 50):.2f} ms, p99 {percentile(latencies, 99):.2f} ms, "
        f"p99.9 {percentile(latencies, 99.9):.2f} ms, most {max(latencies, default=math.nan):.2f} ms; "
        f"p99 of the worst listener {worst:.2f} ms"
    )
    print(f"paths lost while listening: {max(0, int((folder / 'downs').read_text()))}")
    return 0 if lost == 0 and latencies else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listeners", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hold", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("configs", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold is not None:
        listen(options.hold, options.configs)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), options.listeners, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
