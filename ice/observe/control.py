"""The control of a daemon: commands by name, with JSON in and JSON out, for people's commands and for scripts. No network here.

A request is one line, an object whose key ``do`` names the command; the answer is one object::

    {"do":"activate","id":"ns"}                        {"ok":true,"detail":["enabled: false → true"]}
    {"do":"activate","id":"none"}                      {"ok":false,"error":"there is no patch 'none'","reason":"unknown"}
    {"do":"announce","id":"ns","bytes":96000}          followed by so many bytes, of a command that takes any

``ok`` false comes with ``error``, a sentence, and perhaps with ``reason``, a word that programs go by, and ``code``.

A daemon gives its :class:`Command`\\ s to a :class:`Control`; :mod:`ice.observe.control_socket` (a Unix socket) and :mod:`ice.observe.control_web` (HTTPS with certificates of
the role operator) bring the requests, and say who asks (:class:`Asker`). A command answers with a :class:`Reply`, at once or later, or raises: :class:`Refused`, or any other
:class:`~ice.errors.IceError`, whose sentence is passed on.

**Audit.** Of each request that changes something, done or refused, one line of JSON is logged: when, who, by which way, what, and what came of it.

**Bounds.** A line has at most ``max_line`` bytes, what follows it as many as its command takes. :attr:`Control.counts` counts requests by command and outcome, of a fixed set.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ice import strict
from ice.errors import IceError, RemoteError
from ice.observe.metrics import Metrics

MAX_LINE: Final = 64 * 1024  # bytes of a request, where a daemon's do not need more
MAX_FIELD: Final = 256  # characters of a value in an audit line
UNKNOWN: Final = "unknown"  # what requests for commands that there are not are counted as
DONE, REFUSED, MALFORMED, FAILED = "done", "refused", "malformed", "failed"
NO_JSON: Final = "no-json"
NO_JSON_CODE: Final = -1  # of the original's bridge service


class Refused(RemoteError):
    """What is asked cannot be done. ``reason``: a word for programs; ``code``: a number for those that know the original's; ``audit``: for the audit line."""

    def __init__(
        self,
        message: str,
        reason: str = "",
        code: int | None = None,
        audit: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code
        self.audit = audit or {}


class Malformed(Refused):
    """What is asked is no request."""


@attrs.frozen
class Asker:
    """Who asks: a name for people, and for the audit log everything that is known, by JSON keys (``via``, ``uid`` and ``pid``, or ``certificate`` …)."""

    name: str
    detail: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen
class Request:
    """One request: its keys, who asks, and the bytes that came with it. The readers raise :class:`Malformed`."""

    values: Mapping[str, Any]
    asker: Asker
    attached: bytes = attrs.field(default=b"", repr=False)

    @property
    def by(self) -> str:
        """The name of who asks."""
        return self.asker.name

    def text(self, key: str, default: str | None = None) -> str:
        """A text; ``default`` None: there must be one."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise Malformed(f"{key} is a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, empty where there is none."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or any(not isinstance(each, str) for each in value):
            raise Malformed(f"{key} is a list of texts")
        return tuple(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise Malformed(f"{key} is true or false")
        return value

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number in a range."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Malformed(f"{key} is a whole number from {low} to {high}")
        return value


@attrs.frozen
class Reply:
    """What a command answers beside ``ok``; ``audit``: what else its audit line says."""

    values: Mapping[str, object] = attrs.field(factory=dict)
    audit: Mapping[str, object] = attrs.field(factory=dict)


Act: TypeAlias = "Callable[[Request], Reply | Deferred[Reply]]"


@attrs.frozen
class Command:
    """Something that can be asked for.

    ``changes``: whether it is kept in the audit log; ``attached``: how many bytes at most follow the line; ``about``: what of a request its audit line says beside the name.
    """

    name: str
    act: Act
    changes: bool = True
    attached: int = 0
    about: Callable[[Mapping[str, Any]], Mapping[str, object]] = lambda values: {}


Answer = dict[str, Any]
"""What is sent back; its ``ok`` tells whether it was done."""


@attrs.frozen
class Asked:
    """A request that may be carried out: :attr:`attached` bytes are to follow first."""

    command: Command
    values: Mapping[str, Any]
    attached: int


class Control:
    """The commands of a daemon. ``wall``: the time of day in seconds, for the audit log."""

    _log = Logger()

    def __init__(
        self,
        commands: Iterable[Command],
        *,
        max_line: int = MAX_LINE,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.max_line = max_line
        self._wall = wall
        self._commands = {command.name: command for command in commands}
        #: Requests so far, by command and what came of them.
        self.counts: Counter[tuple[str, str]] = Counter()
        #: Those who were shown the door before they could ask, by reason.
        self.turned_away: Counter[str] = Counter()

    @property
    def commands(self) -> tuple[str, ...]:
        """The names of what can be asked."""
        return tuple(self._commands)

    @property
    def max_attached(self) -> int:
        """How many bytes a request may have behind its line, of any command."""
        return max((command.attached for command in self._commands.values()), default=0)

    def read(self, line: bytes) -> Asked:
        """What a line asks for. Raises :class:`Malformed`, which is counted."""
        try:
            return self._read(line)
        except Malformed:
            self.counts[UNKNOWN, MALFORMED] += 1
            raise

    def too_long(self) -> Malformed:
        """Of a line that has no end, which is counted."""
        self.counts[UNKNOWN, MALFORMED] += 1
        return self._overlong()

    def perform(self, asked: Asked, asker: Asker, attached: bytes = b"") -> Answer | Deferred[Answer]:
        """Carry out a request; the answer never fails."""
        began = self._wall()
        try:
            made = asked.command.act(Request(asked.values, asker, attached))
        except Exception:
            return self._failed(asked, asker, began, Failure())
        if isinstance(made, Deferred):
            answered: Deferred[Answer] = made.addCallbacks(
                partial(self._done, asked, asker, began), partial(self._failed, asked, asker, began)
            )
            return answered
        return self._done(asked, asker, began, made)

    def refuse(self, error: Refused) -> Answer:
        """The answer that says why not."""
        answer: Answer = {"ok": False, "error": str(error)}
        if error.reason:
            answer["reason"] = error.reason
        if error.code is not None:
            answer["code"] = error.code
        return answer

    def full(self) -> None:
        """Somebody was shown the door since there are enough."""
        self.turned_away["full"] += 1

    def add_metrics(self, metrics: Metrics, begin: str) -> None:
        """Register what is counted here, under names that begin with ``begin``."""

        def requests() -> Mapping[tuple[str, ...], float]:
            return {each: float(count) for each, count in self.counts.items()}

        metrics.counter(
            begin + "requests_total",
            "Requests of the control, by command and outcome.",
            requests,
            ("command", "outcome"),
        )
        metrics.counter(
            begin + "turned_away_total",
            "Connections to the control that were closed before they could ask.",
            lambda: dict(self.turned_away),
            ("reason",),
        )

    # -- inside --------------------------------------------------------------------------------------------------------

    def _read(self, line: bytes) -> Asked:
        if len(line) > self.max_line:
            raise self._overlong()
        try:
            values = strict.load(line, self.max_line)
        except strict.NoJson as error:
            raise Malformed(
                f"a request is a line of JSON, an object with the key do: {error}", NO_JSON, NO_JSON_CODE
            ) from None
        if not isinstance(values, dict):
            raise Malformed("a request is a line of JSON: an object with the key do", NO_JSON, NO_JSON_CODE)
        do = values.get("do")
        command = self._commands.get(do) if isinstance(do, str) else None
        if command is None:
            raise Malformed(f"do is one of {', '.join(self._commands)}")
        size = values.get("bytes", 0) if command.attached else 0
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= command.attached:
            raise Overlong(f"bytes is a whole number up to {command.attached}")
        return Asked(command, values, size)

    def _overlong(self) -> Malformed:
        return Overlong(f"a request has at most {self.max_line} bytes", NO_JSON, NO_JSON_CODE)

    def _done(self, asked: Asked, asker: Asker, began: float, reply: Reply) -> Answer:
        self.counts[asked.command.name, DONE] += 1
        self._audit(asked, asker, began, True, reply.audit)
        return {"ok": True, **reply.values}

    def _failed(self, asked: Asked, asker: Asker, began: float, failure: Failure) -> Answer:
        error = failure.value
        if isinstance(error, IceError):
            refused = error if isinstance(error, Refused) else Refused(str(error))
            outcome = MALFORMED if isinstance(error, Malformed) else REFUSED
        else:
            self._log.failure("the command {do} failed", failure, do=asked.command.name)
            refused, outcome = (
                Refused("this could not be done; the log of the daemon says why", FAILED),
                FAILED,
            )
        self.counts[asked.command.name, outcome] += 1
        audit: dict[str, object] = {"message": str(refused), **refused.audit}
        if refused.reason:
            audit["reason"] = refused.reason
        if refused.code is not None:
            audit["code"] = refused.code
        self._audit(asked, asker, began, False, audit)
        return self.refuse(refused)

    def _audit(
        self, asked: Asked, asker: Asker, began: float, done: bool, more: Mapping[str, object]
    ) -> None:
        if not asked.command.changes:
            return
        line: dict[str, object] = {
            "ms": int(began * 1_000),
            "by": asker.name,
            **asker.detail,
            "action": asked.command.name,
            **asked.command.about(asked.values),
            "done": done,
            **more,
        }
        text = audit_line({key: _short(value) for key, value in line.items()})
        (self._log.info if done else self._log.warn)("audit {line}", line=text)


class Overlong(Malformed):
    """More is announced than is taken, or no end is in sight: nobody knows where the next request begins."""


def audit_line(values: Mapping[str, object]) -> str:
    """One line of the audit log: canonical JSON (sorted keys, no white space)."""
    return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def encoded(answer: Answer) -> bytes:
    """An answer as it is sent, a line."""
    return json.dumps(answer, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"


def _short(value: object) -> object:
    return value[:MAX_FIELD] if isinstance(value, str) else value
