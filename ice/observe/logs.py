"""Logs for people and for machines, from the events of twisted.logger.

Human lines, one per event, continued only by an indented traceback::

    2026-11-21 18:52:01.123 info  ice.rallypoint.service: listening on 127.0.0.1:7443

JSON lines, one object per event whatever it holds::

    {"time": "2026-11-21T17:52:01.123Z", "level": "info", "system": "…", "message": "…", "fields": {…}}

Names, reasons and addresses in an event may come from the far side, so control characters, line breaks and direction marks are
written as escapes: nobody can forge a line or repaint a terminal. Everything is bounded. Under systemd's journal, human lines carry a
priority prefix (``sd-daemon(3)``) instead of a time and level of their own, since the journal keeps both.

A log that cannot be written (disk full, pipe gone) costs the line, never the daemon: lost lines are counted.

:class:`LoggingService` is the outermost service of a daemon: it hands its observer to twistd, so that the format and level of
``ice.toml`` hold; ``twistd --logger`` and ``--logfile`` still win when somebody gives them.
"""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

from twisted.application.service import IServiceCollection, MultiService
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from zope.interface import implementer

from ice.errors import LocalError

Format = Literal["human", "json"]
"""The two forms of a line."""

MAX_MESSAGE: Final = 8192  # characters; the journal cuts lines at 48 KiB, people much earlier
MAX_FIELD: Final = 1024  # characters of one field in a JSON line
MAX_FIELDS: Final = 64

_LEVELS: Final = {
    LogLevel.debug: ("debug", 7, "\x1b[2m"),
    LogLevel.info: ("info", 6, ""),
    LogLevel.warn: ("warn", 4, "\x1b[33m"),
    LogLevel.error: ("error", 3, "\x1b[31m"),
    LogLevel.critical: ("critical", 2, "\x1b[1;31m"),
}  # our name, the syslog priority (RFC 5424 section 6.2.1), the colour
LEVELS: Final = tuple(name for name, _, _ in _LEVELS.values())
"""What ``[log] level`` may say, from most to least talkative."""

_RANK: Final = {level: rank for rank, level in enumerate(_LEVELS)}
_PLAIN: Final = re.compile(r"[ -~]*\Z")
_UNSAFE: Final = frozenset(
    {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
)  # Unicode categories that move a cursor or are no text
_LEGACY: Final = frozenset(
    {"message", "time", "system", "isError", "format", "failure", "why", "printed", "log_io"}
)


def escaped(text: str, limit: int = MAX_MESSAGE) -> str:
    """``text`` on one line: control and format characters as ``\\n`` or ``\\x1b`` escapes, at most ``limit`` characters."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if _PLAIN.match(text):
        return text
    return "".join(
        c if unicodedata.category(c) not in _UNSAFE else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


@implementer(ILogObserver)
class LogOutput:
    """Writes events to ``stream``, in the ``format`` and from the ``level`` that :meth:`configure` may change at any time.

    ``colour`` and ``journal`` are found out from the stream where they are not told. ``lost`` counts lines that could not be written.
    Raises :class:`LocalError` for a format or level that is none.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        format: str = "human",
        level: str = "info",
        colour: bool | None = None,
        journal: bool | None = None,
    ) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._colour = _is_terminal(self._stream) if colour is None else colour
        self._journal = _is_journal(self._stream, os.environ) if journal is None else journal
        self.lost = 0
        self.configure(format=format, level=level)

    def configure(self, *, format: str, level: str) -> None:
        """Take a new format and level, from the next event on."""
        if format not in ("human", "json"):
            raise LocalError(f"log format {format!r}: expected human or json")
        if level not in LEVELS:
            raise LocalError(f"log level {level!r}: expected one of {' '.join(LEVELS)}")
        self._format = format
        self._rank = LEVELS.index(level)

    def __call__(self, event: LogEvent) -> None:
        """Write one event, if its level is high enough."""
        level = event.get("log_level", LogLevel.info)
        if _RANK.get(level, 1) < self._rank:
            return
        try:
            self._stream.write(self._line(event, level))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.lost += 1

    def _line(self, event: LogEvent, level: Any) -> str:
        name, priority, paint = _LEVELS.get(level, _LEVELS[LogLevel.info])
        if self._format == "json":
            prefix = f"<{priority}>" if self._journal else ""
            return f"{prefix}{json_line(event, name)}\n"
        system, message, trace = _parts(event)
        if self._journal:
            lines = [f"{system}: {message}", *(f"    {line}" for line in trace)]
            return "".join(f"<{priority}>{line}\n" for line in lines)
        stamp = datetime.fromtimestamp(event.get("log_time", 0.0)).isoformat(" ", "milliseconds")
        word = f"{name:<5}"
        if self._colour and paint:
            word = f"{paint}{word}\x1b[0m"
        return "".join([f"{stamp} {word} {system}: {message}\n", *(f"    {line}\n" for line in trace)])


def json_line(event: LogEvent, level: str) -> str:
    """The event as one JSON object without line breaks; its own fields under ``fields``, anything unusual as text."""
    system, message, trace = _parts(event)
    stamp = datetime.fromtimestamp(event.get("log_time", 0.0), UTC).isoformat(timespec="milliseconds")
    line: dict[str, Any] = {
        "time": stamp.replace("+00:00", "Z"),
        "level": level,
        "system": system,
        "message": message,
    }
    fields = {
        str(key): _value(value)
        for key, value in event.items()
        if not key.startswith("log_") and key not in _LEGACY
    }
    if fields:
        line["fields"] = dict(list(fields.items())[:MAX_FIELDS])
    if trace:
        line["traceback"] = "\n".join(trace)[:MAX_MESSAGE]
    return json.dumps(line, allow_nan=False)


class LoggingService(MultiService):
    """A daemon's outermost service: gives twistd the observer ``output`` when it is attached to the application."""

    def __init__(self, output: LogOutput) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.output = output

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """twistd asks its application for an observer right after this, before anything is logged."""
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.output)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]


def begin_logging(output: LogOutput) -> None:
    """Log through ``output`` in a program that is not under twistd (a subcommand of ``ice``); call it once."""
    globalLogBeginner.beginLoggingTo([output], redirectStandardIO=False, discardBuffer=True)  # type: ignore[list-item]  # a zope interface


def human() -> LogOutput:
    """For ``twistd --logger=ice.observe.logs.human``: human lines from info on, whatever ``ice.toml`` says."""
    return LogOutput(format="human")


def machine() -> LogOutput:
    """For ``twistd --logger=ice.observe.logs.machine``: JSON lines from info on, whatever ``ice.toml`` says."""
    return LogOutput(format="json")


def _parts(event: LogEvent) -> tuple[str, str, list[str]]:
    """Where the event comes from, what it says, and the lines of its traceback: each safe on a line of its own."""
    namespace = event.get("log_namespace")
    if namespace == "log_legacy":  # an event of twisted.python.log, which names its place otherwise
        namespace = None
    system = escaped(str(namespace or event.get("log_system") or "-"), 128)
    message = escaped(formatEvent(event))
    failure = event.get("log_failure")
    if not isinstance(failure, Failure):
        return system, message, []
    if not message:
        message = escaped(f"{failure.type.__name__ if failure.type else 'error'}: {failure.value}")
    trace = str(failure.getTraceback())[-MAX_MESSAGE:].splitlines()
    return system, message, [escaped(line) for line in trace]


def _value(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0.0 else str(value)  # JSON has no NaN and no infinity
    if (
        isinstance(value, Mapping)
        and len(value) <= MAX_FIELDS
        and all(isinstance(v, int) for v in value.values())
    ):
        return {str(key)[:MAX_FIELD]: figure for key, figure in value.items()}  # counters by reason
    try:
        return str(value)[:MAX_FIELD]
    except Exception as error:
        return f"(unprintable: {type(error).__name__})"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and "NO_COLOR" not in os.environ
    except (OSError, ValueError):
        return False


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """systemd names the journal's device and inode in ``JOURNAL_STREAM``; the stream may have been redirected since."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"
