"""Everything goes wrong at once: ``python bench/chaos.py [--seed N] [--seconds 600]``, or ``make chaos SEED=… SECONDS_TOTAL=…``.

Five Rallypoints and twenty people on hosts of their own (network namespaces, ``tests/system/town.py``). The people talk in five streams of four, each stream over four
Rallypoints, fifty numbered datagrams a second each, with a rest now and then. One of the streams is protected, and its people have two homes each. Meanwhile Rallypoints are killed, frozen, restarted and reloaded, links cut and slowed,
and the town is divided, at random from the seed (``bench/faults.py``). In the end everything is healed, and talked over for a while in peace.

Exit status 0 when nothing was doubled, nothing circulated, nothing was lost outside the windows that the faults explain, and all recovered; 1 when not; 2 when this machine
allows no network namespaces. The report is a table, ``bench/results/chaos-….json``, and a picture of the whole time, ``….svg``. ``docs/chaos.md`` tells how to read it.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import attrs

from bench.chaos_report import Account, draw, tables
from bench.faults import (
    CALM_S,
    CONNECT_S,
    ONE_RALLYPOINT,
    RECOVERY_S,
    Fault,
    Happened,
    Judge,
    Where,
    schedule,
)
from tests.system.roads import obstacle
from tests.system.town import Town

RESULTS = Path(__file__).resolve().parent / "results"
RALLYPOINTS, SITES, STREAMS, PEOPLE_PER_STREAM = 5, 5, 5, 4
PROTECTED = STREAMS - 1  # the number of the protected stream
EVERY_MS = 20.0
TALK_S, REST_S = 22.0, 2.5  # people rest, so that who had to move away may come home
TICK_S = 0.05
SAMPLE_S = 1.0
LOOK_S = 0.25  # between two looks whether all links stand again
BOTH_WAYS_S = 2.5  # after a change old and new next hops are served, and copies dropped, for two seconds
LAST_WORDS_S = 2.5  # what was sent has been heard by then, or never will be


@attrs.define
class Action:
    """A fault on its way."""

    fault: Fault
    begin_s: float
    due_s: float
    pairs: list[tuple[str, str]] = attrs.field(factory=list)
    undone: bool = False


@attrs.define
class Drops:
    """RELAY frames not passed on, by Rallypoint and reason, summed over restarts as far as they were seen."""

    totals: dict[str, dict[str, int]] = attrs.field(factory=dict)
    _last: dict[str, dict[str, int]] = attrs.field(factory=dict)

    def take(self, name: str, counted: dict[str, int]) -> None:
        """What a Rallypoint says now."""
        last = self._last.get(name, {})
        if any(count < last.get(reason, 0) for reason, count in counted.items()):
            last = {}  # it was started again
        total = self.totals.setdefault(name, {})
        for reason, count in counted.items():
            total[reason] = total.get(reason, 0) + count - last.get(reason, 0)
        self._last[name] = counted

    def sum(self, reason: str) -> int:
        """Of all Rallypoints."""
        return sum(total.get(reason, 0) for total in self.totals.values())


class Run:
    """One run in a town that stands."""

    def __init__(self, town: Town, faults: list[Fault], seconds: float) -> None:
        self.town = town
        self.seconds = seconds
        self.happened: list[Happened] = []
        self.drops = Drops()
        self.troubles: list[str] = []
        self.streams: dict[str, str] = {}
        self.sites: dict[str, str] = {}
        self.two: list[str] = []  # who has two homes
        self.begin_s = self.calm_s = self.end_s = 0.0
        self._to_come = sorted(faults, key=lambda fault: fault.at_s)
        self._on: list[Action] = []
        self._sampled_s = self._looked_s = 0.0
        self._over: list[Happened] = []  # undone, but not all links stand again yet
        self._resting: dict[str, bool] = {}

    def people(self) -> None:
        """Everybody comes and joins."""
        at: dict[str, list[str]] = {}
        for number in range(STREAMS * PEOPLE_PER_STREAM):
            stream, place = divmod(number, PEOPLE_PER_STREAM)
            who = f"p{number:02d}"
            self.sites[who] = self.town.sites[(place + stream) % SITES]
            self.streams[who] = f"stream-{stream}"
            at.setdefault(self.sites[who], []).append(who)
            if stream == PROTECTED:
                self.two.append(who)
        protect = f'homes = 2\nprotected = ["stream-{PROTECTED}"]'
        self.town.settle(at, self.streams, dict.fromkeys(self.two, protect))

    def conduct(self) -> None:
        """Talk while things happen, then heal, and talk in peace."""
        self.begin_s = time.monotonic()
        self._to_come, planned = [], self._to_come
        while (now := time.monotonic()) - self.begin_s < self.seconds - RECOVERY_S - CALM_S or self._on:
            elapsed = now - self.begin_s
            self._pace(elapsed)
            while planned and planned[0].at_s <= elapsed:
                self._begin(planned.pop(0))
            for action in list(self._on):
                self._see_to(action)
            if now - self._sampled_s >= SAMPLE_S:
                self._sample()
            self._look()
            time.sleep(TICK_S)
        self._recover()
        self._rest(False)
        time.sleep(BOTH_WAYS_S)
        self.calm_s = time.monotonic()
        time.sleep(max(CALM_S, self.begin_s + self.seconds - self.calm_s) - CALM_S / 2)
        self._say(f"stream-{PROTECTED}", True)  # its copies go every way, and all but the first are dropped
        time.sleep(CALM_S / 8)
        before = self._sample()
        time.sleep(CALM_S * 3 / 8)
        after = self._sample()
        self.end_s = time.monotonic()
        for who in self.streams:
            self.town.tell(who, "hush", stream=self.streams[who])
        time.sleep(LAST_WORDS_S)
        self.town.mark()
        for name in after:
            if before.get(name) != after[name]:
                self.troubles.append(
                    f"in peace, {name} still dropped copies: {before.get(name)} → {after[name]}"
                )

    # -- inside --------------------------------------------------------------------------------------------------------

    def _pace(self, elapsed_s: float) -> None:
        """Each stream talks for a while and rests for a moment, none when another does."""
        for number in range(STREAMS):
            stream = f"stream-{number}"
            phase_s = (elapsed_s + number * (TALK_S + REST_S) / STREAMS) % (TALK_S + REST_S)
            self._say(stream, phase_s < REST_S and elapsed_s > CALM_S)

    def _rest(self, rest: bool) -> None:
        for number in range(STREAMS):
            self._say(f"stream-{number}", rest)

    def _say(self, stream: str, rest: bool) -> None:
        if self._resting.get(stream) == rest:
            return
        self._resting[stream] = rest
        for who, its in self.streams.items():
            if its == stream and rest:
                self.town.tell(who, "hush", stream=stream)
            elif its == stream:
                self.town.tell(who, "talk", stream=stream, every_ms=EVERY_MS)

    def _begin(self, fault: Fault) -> None:
        town, first = self.town, fault.places[0]
        now = time.monotonic()
        action = Action(fault, now, now + fault.lasts_s)
        print(f"{now - self.begin_s:7.1f} s  {fault}, {fault.lasts_s:g} s", flush=True)
        match fault.kind:
            case "kill":
                town.kill(first)
            case "freeze":
                town.freeze(first)
            case "restart":
                town.rallypoints[first].program.signal(15)
            case "reload":
                town.reload(first)
            case "slow":
                town.roads.slow(fault.places[0], fault.places[1], fault.delay_s)
                action.pairs = [(fault.places[0], fault.places[1])]
            case "partition":
                rest = [name for name in town.roads.places if name not in fault.places]
                pairs = [(one, other) for one in fault.places for other in rest]
                action.pairs = [pair for pair in pairs if frozenset(pair) not in town.roads.cuts]
                town.roads.cut_many(action.pairs)
            case _:
                pair = (fault.places[0], fault.places[1])
                if frozenset(pair) not in town.roads.cuts:
                    action.pairs = [pair]
                    town.roads.cut(*pair, how="reset" if fault.kind == "reset" else "silence")
        self._on.append(action)

    def _see_to(self, action: Action) -> None:
        """Undo a fault when it has lasted, and note its end when its Rallypoint is ready again."""
        town, fault, now = self.town, action.fault, time.monotonic()
        program = town.rallypoints[fault.places[0]].program if fault.kind in ONE_RALLYPOINT else None
        if not action.undone:
            if now < action.due_s or (fault.kind == "restart" and program is not None and program.runs):
                return
            action.undone = True
            if fault.kind in ("kill", "restart"):
                if program is not None and program.process is not None:
                    program.wait()
                town.launch(fault.places[0])
            elif fault.kind == "freeze":
                town.thaw(fault.places[0])
            else:
                town.roads.heal_many(action.pairs)
        if fault.kind in ("kill", "restart") and not town.ready(fault.places[0]):
            if program is not None and not program.runs:
                raise SystemExit(f"{fault.places[0]} does not start again:\n{program.tail()}")
            return
        self._on.remove(action)
        self._over.append(Happened(fault, action.begin_s, time.monotonic()))

    def _look(self) -> None:
        """Whether all links stand again."""
        now = time.monotonic()
        frozen = any(each.program.frozen for each in self.town.rallypoints.values())
        if self._over and not frozen and now - self._looked_s >= LOOK_S:
            self._looked_s = now
            if self.town.whole():
                self._are_whole()

    def _are_whole(self) -> None:
        now = time.monotonic()
        self.happened += [attrs.evolve(each, whole_s=now) for each in self._over]
        self._over = []

    def _sample(self) -> dict[str, dict[str, int]]:
        """Ask every Rallypoint that can answer what it has dropped."""
        self._sampled_s = time.monotonic()
        said: dict[str, dict[str, int]] = {}
        for name, rallypoint in self.town.rallypoints.items():
            if rallypoint.program.runs and not rallypoint.program.frozen:
                try:
                    said[name] = self.town.drops(name)
                except (OSError, ValueError, KeyError):
                    continue  # it is just starting
                self.drops.take(name, said[name])
        return said

    def _recover(self) -> None:
        """Wait until everything is well again; if it is not in time, that is a finding."""
        town = self.town
        town.roads.heal()
        begin_s = time.monotonic()

        def well() -> bool:
            return town.whole() and town.all_joined()

        while not well():
            if time.monotonic() - begin_s > RECOVERY_S:
                linked = {name: len(town.linked(name)) for name in town.rallypoints}
                away = [who for who, stream in self.streams.items() if not town.tape.up(who, stream)]
                self.troubles.append(
                    f"not recovered within {RECOVERY_S:g} s: links {linked}, without a way {away}"
                )
                break
            time.sleep(TICK_S)
        else:
            print(f"all recovered {time.monotonic() - begin_s:.1f} s after the last fault", flush=True)
        self._are_whole()


def account_of(run: Run, seed: int) -> Account:
    """Everything that was found."""
    tape = run.town.tape.read()
    where = Where(
        {
            who: [(at_s, run.town.name_of(address)) for at_s, address in tape.homes(who)]
            for who in run.streams
        },
        run.sites,
        {
            who: [
                (at_s, tuple(run.town.name_of(address) for address in addresses))
                for at_s, addresses in tape.all_homes(who)
                if addresses
            ]
            for who in run.two
        },
    )
    return Account.of(
        seed=seed,
        begin_s=run.begin_s,
        calm_s=run.calm_s,
        end_s=run.end_s,
        pairs=tape.pairs(run.begin_s, run.end_s),
        judge=Judge(run.happened, where),
        happened=run.happened,
        drops=run.drops.totals,
        copies={who: counts["duplicates"] for who, counts in tape.counts.items()},
        late_ms=max((line["by_ms"] for line in tape.late), default=0),
        troubles=run.troubles,
    )


def main() -> int:
    """Run, judge, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="what happens follows from it  [by chance, told]")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the whole run  [600]")
    parser.add_argument("--plan", action="store_true", help="tell what would happen, and do nothing")
    parser.add_argument("--keep", type=Path, help="keep configurations, logs and traces in this folder")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    names = [f"rp{number}" for number in range(1, RALLYPOINTS + 1)]
    sites = [f"s{number}" for number in range(1, SITES + 1)]
    faults = schedule(seed, options.seconds, names, sites)
    print(f"seed {seed}: {len(faults)} faults in {options.seconds:g} s", flush=True)
    if options.plan:
        for fault in faults:
            print(f"{fault.at_s:7.1f} s  {fault}, {fault.lasts_s:g} s")
        return 0
    if not faults:
        parser.error("nothing can happen in so short a time: give it 60 seconds or more")
    if why := obstacle():
        print(f"no chaos on this machine: {why}", file=sys.stderr)
        return 2
    folder = options.keep or Path(tempfile.mkdtemp(prefix="ice-chaos-"))
    try:
        with Town.build(
            folder,
            rallypoints=RALLYPOINTS,
            sites=SITES,
            client_toml=f"rollover_s = 2.0\nconnect_timeout_s = {CONNECT_S}",
        ) as town:
            town.start()
            run = Run(town, faults, options.seconds)
            run.people()
            run.conduct()
            account = account_of(run, seed)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return report(account)


def report(account: Account) -> int:
    """Tables, JSON and the picture; the exit status."""
    RESULTS.mkdir(exist_ok=True)
    stem = f"chaos-{account.seed}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    about: dict[str, Any] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
    document, picture = RESULTS / f"{stem}.json", RESULTS / f"{stem}.svg"
    document.write_text(json.dumps({"about": about, **account.value()}, indent=1) + "\n")
    picture.write_text(draw(account))
    tables(account)
    print(f"{document}\n{picture}")
    return 0 if account.good else 1


if __name__ == "__main__":
    sys.exit(main())
