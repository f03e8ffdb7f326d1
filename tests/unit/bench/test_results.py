"""What is read out of the load generator's lines, what is printed of it, and the plan of a benchmark."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from bench import picture, report, run
from bench.figures import CALM_CPU, CALM_P99, complete, doubts, faults, judged, values
from bench.servers import SERVERS
from bench.workloads import BY_NAME, FEW_PAIRS, WORKLOADS

NO_FAULTS = dict.fromkeys(
    ("lost", "duplicated", "reordered", "echoed", "strayed", "corrupt", "refusals", "dead"), 0
)


def line(cpu_us: float = 10.0, p99: float = 1.0, **more: Any) -> dict[str, Any]:
    """A line of the load generator."""
    return {
        "cpu_us": cpu_us,
        "cpu_share": 0.1,
        "latency_ms": {"p50": p99 / 2, "p99": p99, "p999": 2 * p99},
        "spread_ms": {"p50": 1.0},
        "generator": {"cpu_share": 0.2, "wait_share": 0.0, "late_share": 0.0},
        "stolen_share": 0.0,
        "faults": dict(NO_FAULTS),
        "said": "",
        **more,
    }


def made(workload: str, server: str, repeat: int, result: dict[str, Any]) -> dict[str, Any]:
    """A run."""
    return {"workload": workload, "server": server, "repeat": repeat, "result": complete(result)}


def pairs(ours: float = 10.0, theirs: float = 10.0, many: int = 10) -> list[dict[str, Any]]:
    """Runs of calm, ours and the floor's."""
    found = []
    for repeat in range(many):
        found.append(made("calm", "ice", repeat, line(ours)))
        found.append(made("calm", "floor", repeat, line(theirs)))
    return found


class FigureTests(SynchronousTestCase):
    """Numbers out of runs."""

    def test_by_repeat(self) -> None:
        """Each repeat gives its value; a failed run gives none."""
        runs = [*pairs(12.0, many=2), made("calm", "ice", 2, {"failed": "it did not listen"})]
        self.assertEqual(values(runs, CALM_CPU, "ice"), {0: 12.0, 1: 12.0})

    def test_what_follows(self) -> None:
        """The best step of a ramp, the share in percent and the ratio of a stall are worked out."""
        steps = [
            {"rate": 5, "cpu_us": 9.0, "good": True},
            {"rate": 7, "cpu_us": 8.0, "good": True},
            {"rate": 9, "cpu_us": 7.0, "good": False},
        ]
        result = complete(line(steps=steps, before_ms={"p99": 0.5}))
        self.assertEqual(
            (result["best_cpu_us"], result["cpu_percent"], result["p99_ratio"]), (8.0, 10.0, 2.0)
        )

    def test_goal(self) -> None:
        """A goal is judged by paired ratios."""
        (only,) = [each for each in judged(pairs(13.0)) if each.goal.figure is CALM_CPU]
        self.assertEqual((only.theirs, only.ratio.pairs), ("floor", 10))
        self.assertAlmostEqual(only.ratio.median, 1.3)
        self.assertEqual((only.reach.value, only.aim.value), ("yes", "no"))

    def test_best_of_several(self) -> None:
        """Where the goal is the best peer, it is the one with the best median."""
        runs = [made("calm", "ice", 0, line(p99=1.0))]
        runs += [made("calm", name, 0, line(p99=p99)) for name, p99 in (("nats", 2.0), ("mosquitto", 0.5))]
        (only,) = [each for each in judged(runs) if each.goal.figure is CALM_P99]
        self.assertEqual((only.theirs, only.ratio.median), ("mosquitto", 2.0))


class VerdictTests(SynchronousTestCase):
    """A server that does not do its work is found out."""

    def test_every_fault(self) -> None:
        """Each kind of fault in one of our servers makes the verdict WRONG."""
        for name in NO_FAULTS:
            for server in ("ice", "ice-python", "ice-twisted", "floor"):
                wrong = made("calm", server, 0, line(faults={**NO_FAULTS, name: 3}))
                right, lines = report.verdict([wrong])
                self.assertFalse(right)
                self.assertIn(f"3 {name}", lines[0])
                self.assertIn("WRONG", lines[-1])

    def test_others(self) -> None:
        """Faults of the others are said and do not make it wrong."""
        right, lines = report.verdict([made("calm", "nats", 0, line(faults={**NO_FAULTS, "lost": 1}))])
        self.assertTrue(right)
        self.assertTrue(lines[0].startswith("fault: calm, NATS"))

    def test_failed(self) -> None:
        """A run of ours that did not work out is wrong, in its own words."""
        right, lines = report.verdict([made("storm", "ice", 0, {"failed": "not all came back"})])
        self.assertFalse(right)
        self.assertIn("not all came back", lines[0])

    def test_clean(self) -> None:
        """Runs without a fault are right."""
        self.assertEqual(faults(pairs()[0]), {})
        self.assertTrue(report.verdict(pairs())[0])

    def test_doubts(self) -> None:
        """A generator at its limit is said."""
        busy = {"cpu_share": 0.97, "wait_share": 0.2, "late_share": 0.5}
        self.assertEqual(len(doubts(made("calm", "ice", 0, line(generator=busy, stolen_share=0.2)))), 4)
        self.assertEqual(doubts(pairs()[0]), [])


class TableTests(SynchronousTestCase):
    """What is printed and drawn."""

    def results(self) -> dict[str, Any]:
        """Everything that ten repeats of calm and a ramp say."""
        steps = [
            {"rate": rate, "deliveries_per_s": 950.0 * rate, "p99": p99, "cpu_us": 9.0, "good": p99 < 25}
            for rate, p99 in ((5, 1.0), (7, 2.0), (10, 80.0))
        ]
        runs = pairs(13.0)
        for server in ("ice", "floor", "mumble"):
            runs.append(made("wide", server, 0, line(steps=steps, best_per_s=6650.0)))
        return {"about": {"measured": "today"}, "quick": False, "runs": runs}

    def test_text(self) -> None:
        """All tables are there, and the columns of a table are aligned."""
        text = report.render(self.results(), markdown=False)
        self.assertIn("1.30", text)
        self.assertIn("calm: CPU per delivery", text)
        table = report.goals(self.results()["runs"]).text().splitlines()
        self.assertEqual(len({len(row) for row in table[4:]}), 1)

    def test_markdown(self) -> None:
        """Every row of a Markdown table has as many cells as its head."""
        rows = [row for row in report.goals(pairs()).markdown().splitlines() if row.startswith("|")]
        self.assertEqual(len({row.count("|") for row in rows}), 1)

    def test_fewer_links_are_not_compared(self) -> None:
        """Who had fewer links stands in the table of the workload, and has no ratio."""
        runs = self.results()["runs"]
        (row,) = [row for row in report.compared(runs).rows if row[0].startswith("wide: deliveries")]
        self.assertEqual(row[-1], "–")
        table = report.one("wide", "", [run for run in runs if run["workload"] == "wide"])
        self.assertTrue(any("fewer links" in row[0] for row in table.rows))

    def test_curves(self) -> None:
        """A curve ends with the first rate that was too much."""
        runs = self.results()["runs"]
        self.assertEqual([load for load, _ in picture.curves(runs, "p99")["ice"]], [4750.0, 6650.0, 9500.0])


class PlanTests(SynchronousTestCase):
    """Who runs when."""

    def test_interleaved(self) -> None:
        """In each repeat every workload is given to all servers in turn; who begins changes."""
        servers = [server for server in SERVERS if server.name in ("ice", "floor", "nats")]
        order = run.plan([BY_NAME["calm"]], servers, 4, quick=False)
        self.assertEqual(len(order), 12)
        begins = [server.name for at, (_, _, server) in enumerate(order) if at % 3 == 0]
        self.assertEqual(begins, ["ice", "floor", "nats", "ice"])

    def test_few(self) -> None:
        """What is not judged by a ratio to others runs three times."""
        order = run.plan([BY_NAME["stall"]], SERVERS, 10, quick=False)
        self.assertEqual(sum(server.name == "floor" for _, _, server in order), FEW_PAIRS)
        self.assertEqual(sum(server.name == "ice" for _, _, server in order), 10)

    def test_arguments(self) -> None:
        """Links are a multiple of streams in every size, as the load generator asks."""
        for workload in WORKLOADS:
            for server in SERVERS:
                for quick in (False, True):
                    words = workload.arguments(server.name, quick)
                    told = dict(zip(words[::2], words[1::2], strict=True))
                    self.assertEqual(int(told["--links"]) % int(told["--streams"]), 0, (workload.name, told))
