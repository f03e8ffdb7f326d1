"""Metrics are read when somebody scrapes, and one bad figure does not cost the page."""

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.observe.metrics import MAX_SERIES, Metrics


class Rendering(SynchronousTestCase):
    def lines(self, metrics: Metrics) -> list[str]:
        return [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]

    def test_counter_is_read_at_scrape(self) -> None:
        """A counter shows what the callback says now, not when it was added."""
        metrics = Metrics(process=False)
        figures = {"n": 1}
        metrics.counter("ice_frames_total", "Frames.", lambda: figures["n"])
        self.assertIn("ice_frames_total 1.0", self.lines(metrics))
        figures["n"] = 7
        self.assertIn("ice_frames_total 7.0", self.lines(metrics))

    def test_labels(self) -> None:
        """A mapping becomes one sample a key: one label by text, several by tuple."""
        metrics = Metrics(process=False)
        refused = Counter({"limit": 2, 'od"d\n': 1})
        metrics.counter("ice_refused_total", "Refused.", lambda: refused, ("reason",))
        metrics.gauge("ice_links", "Links.", lambda: {("a", "client"): 3}, ("name", "role"))
        lines = self.lines(metrics)
        self.assertIn('ice_refused_total{reason="limit"} 2.0', lines)
        self.assertIn('ice_refused_total{reason="od\\"d\\n"} 1.0', lines)
        self.assertIn('ice_links{name="a",role="client"} 3.0', lines)

    def test_kinds_and_help(self) -> None:
        """The page tells the kind and the meaning of each metric."""
        metrics = Metrics(process=False)
        metrics.gauge("ice_streams", "Streams that somebody joined.", lambda: 0)
        page = metrics.render().decode()
        self.assertIn("# HELP ice_streams Streams that somebody joined.", page)
        self.assertIn("# TYPE ice_streams gauge", page)

    def test_bad_callback(self) -> None:
        """A callback that raises loses its own metric only, is counted each time and logged once."""
        metrics = Metrics(process=False)

        def broken() -> float:
            raise RuntimeError("no figure")

        metrics.gauge("ice_broken", "Broken.", broken)
        metrics.gauge("ice_whole", "Whole.", lambda: 5)
        metrics.render()
        lines = self.lines(metrics)
        self.assertIn("ice_whole 5.0", lines)
        self.assertFalse([line for line in lines if line.startswith("ice_broken")])
        self.assertEqual(metrics.errors, 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_bounded(self) -> None:
        """Labels that come from outside cannot make the page endless."""
        metrics = Metrics(process=False)
        metrics.gauge("ice_many", "Many.", lambda: {str(n): n for n in range(MAX_SERIES * 2)}, ("name",))
        self.assertEqual(sum(line.startswith("ice_many{") for line in self.lines(metrics)), MAX_SERIES)

    def test_info(self) -> None:
        """Versions are labels of a constant 1."""
        metrics = Metrics(process=False)
        metrics.info("ice_build_info", "Build.", version="0.1.0", python="3.11")
        self.assertIn('ice_build_info{python="3.11",version="0.1.0"} 1.0', self.lines(metrics))

    def test_process(self) -> None:
        """CPU, memory and open files of the process are on the page by default."""
        page = Metrics().render()
        for name in (b"process_cpu_seconds_total", b"process_resident_memory_bytes", b"process_open_fds"):
            self.assertIn(name, page)

    def test_names(self) -> None:
        """Bad and doubled names are refused when they are added, not when somebody scrapes."""
        metrics = Metrics(process=False)
        metrics.gauge("ice_links", "Links.", lambda: 0)
        for call in (
            lambda: metrics.gauge("ice_links", "Again.", lambda: 0),
            lambda: metrics.gauge("ice-links", "Dash.", lambda: 0),
            lambda: metrics.gauge("ice_x", "Label.", dict, ("Reason",)),
            lambda: metrics.counter("ice_frames", "No _total.", lambda: 0),
        ):
            self.assertRaises(LocalError, call)

    def test_own_registry(self) -> None:
        """Two daemons in one process do not meet."""
        first, second = Metrics(process=False), Metrics(process=False)
        first.gauge("ice_links", "Links.", lambda: 1)
        second.gauge("ice_links", "Links.", lambda: 2)
        self.assertIn("ice_links 1.0", self.lines(first))
        self.assertIn("ice_links 2.0", self.lines(second))
