"""Prometheus metrics read from plain integers.

The hot path counts with ``self.dropped += 1`` and knows nothing of metrics. Here each metric is a name, a sentence and a
callback; the callbacks are asked when somebody scrapes, and only then. A callback answers a number, or a mapping from label
values to numbers::

    metrics = Metrics()
    metrics.counter("ice_frames_total", "Media frames taken from links.", lambda: relay.frames)
    metrics.counter("ice_refused_total", "Newcomers refused, by reason.", lambda: admission.refused, labels=("reason",))
    page = metrics.render()

The registry is our own, never prometheus_client's global one, so that two daemons in one process (a test) do not meet.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.logger import Logger

from ice.errors import LocalError

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES: Final = (
    1000  # per metric: labels may come from outside (names, streams) and must not fill a scraper's disk
)

Reading = float | Mapping[str, float] | Mapping[tuple[str, ...], float]
"""What a callback answers: one figure, or figures by label value (a tuple where there are several label names)."""

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*\Z")


@attrs.frozen
class Meter(Collector):
    """One metric: what it is called, what it means, and who knows the figure."""

    name: str
    description: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    read: Callable[[], Reading]

    def collect(self) -> Iterator[Metric]:
        """Ask the callback and yield one family; at most :data:`MAX_SERIES` samples."""
        reading = self.read()
        rows: Iterable[tuple[str | tuple[str, ...], float]] = (
            reading.items() if isinstance(reading, Mapping) else [((), reading)]
        )
        family: CounterMetricFamily | GaugeMetricFamily
        if self.kind == "counter":
            family = CounterMetricFamily(self.name, self.description, labels=self.labels)
        else:
            family = GaugeMetricFamily(self.name, self.description, labels=self.labels)
        for number, (values, figure) in enumerate(rows):
            if number == MAX_SERIES:
                break
            family.add_metric((values,) if isinstance(values, str) else values, figure)
        yield family


class Metrics:
    """All metrics of one daemon, rendered in Prometheus' text format.

    With ``process=True`` the page also has CPU, memory and open files of this process. A callback that raises loses only its own
    metric: it is logged once and counted in ``ice_metric_errors_total``.
    """

    _log = Logger()

    def __init__(self, *, process: bool = True) -> None:
        self.errors = 0
        self._meters: dict[str, Meter] = {}
        self._complained: set[str] = set()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Guarded(self))
        if process:
            ProcessCollector(registry=self._registry)
        self.counter("ice_metric_errors_total", "Metrics that could not be read.", lambda: self.errors)

    def counter(
        self, name: str, description: str, read: Callable[[], Reading], labels: tuple[str, ...] = ()
    ) -> None:
        """Add a figure that only grows; ``name`` ends in ``_total``. Raises :class:`LocalError` for a bad or taken name."""
        if not name.endswith("_total"):
            raise LocalError(f"counter {name!r}: a counter's name ends in _total")
        self._add(Meter(name, description, "counter", labels, read))

    def gauge(
        self, name: str, description: str, read: Callable[[], Reading], labels: tuple[str, ...] = ()
    ) -> None:
        """Add a figure that goes up and down. Raises :class:`LocalError` for a bad or taken name."""
        self._add(Meter(name, description, "gauge", labels, read))

    def info(self, name: str, description: str, **values: str) -> None:
        """Add a constant 1 whose labels tell versions and names. Raises :class:`LocalError` for a bad or taken name."""
        self.gauge(name, description, lambda: {tuple(values.values()): 1.0}, tuple(values))

    def render(self) -> bytes:
        """The page as of now; its type is :data:`CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def families(self) -> Iterator[Metric]:
        """Every metric as of now, those that cannot be read left out."""
        for name, meter in self._meters.items():
            try:
                read = list(meter.collect())
            except Exception as error:
                self.errors += 1
                if name not in self._complained:
                    self._complained.add(name)
                    self._log.failure("metric {name} cannot be read: {error}", name=name, error=str(error))
                continue
            yield from read

    def _add(self, meter: Meter) -> None:
        for name in (meter.name, *meter.labels):
            if not _NAME.match(name):
                raise LocalError(
                    f"{name!r} is no name for a metric or label: expected lower-case letters, digits, _"
                )
        if meter.name in self._meters:
            raise LocalError(f"metric {meter.name!r} is already there")
        self._meters[meter.name] = meter


@attrs.frozen
class _Guarded(Collector):
    """All meters as one collector, so that one bad callback does not cost the page."""

    metrics: Metrics

    def collect(self) -> Iterator[Metric]:
        return self.metrics.families()
