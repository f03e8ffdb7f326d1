"""Call records: who called whom, when, for how long, why it ended, how it sounded; kept in SQLite, taken out as CSV or JSON.

**When a record is written.** When a call begins, and again when it is over. So a call that the gateway did not survive is on record too: the next start finds it open and closes it with the
cause ``gateway-lost``.

**One writer, many readers.** :class:`RecordStore` holds a lock beside the file, so that a second gateway on the same file says so at once. Readers (:func:`read`) need
none: the database is in write-ahead mode, in which a reader sees whole records and disturbs nobody. Every write is a transaction of its own, so what was written survives the
death of the process in any moment (kill −9). After a power cut the last few may be missing, never half of one.

**Bounds.** So many records, so many days (the site's law may want fewer); the oldest go first, a few with each new one. Texts are cut to what their column is for. Nothing of what was *said* in a call is
in a record: no sound, no keys.

The file belongs to its owner alone (mode 0600, whatever it was before): it says who talked to whom. A link, or the file of another user, is refused.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

import attrs

from ice.errors import LocalError
from ice.telephony.call import Call, Direction, Ended, Side
from ice.telephony.causes import Cause

SCHEMA: Final = 1
MAX_RECORDS: Final = 100_000  # some 40 MB
MAX_DAYS: Final = 366.0
PRUNED_AT_ONCE: Final = 200  # records; so that no call waits for a spring-clean
MAX_TEXT: Final = 128
MAX_FOUND: Final = 10_000  # of one question, unless it says otherwise
BUSY_S: Final = 2.0  # for who opens or reads the file: another one may hold it for a moment
WRITE_BUSY_S: Final = 0.1  # a gateway's calls wait while a record is written

_APPLICATION: Final = 0x49434543  # "ICEC": so that `file` and we know the database again


def _cut(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text)[:MAX_TEXT]


@attrs.frozen
class CallRecord:
    """One call. Times are Unix seconds; a time is ``None`` where that never happened.

    ``user_id`` and ``user``: the person's UUID and name, empty for none (dial-in to a channel, say); ``number``: the far number; ``dialled``: which of ours was called;
    ``trunk``: the call manager; ``codec`` and ``rate``: of the line's sound. ``loss_percent`` (0–100) and ``jitter_ms``: of what the people on the stream sent;
    ``concealed_ms``: of the line's sound, what was made up; ``drift_ppm``: the line's clock against ours.
    """

    id: UUID
    direction: Direction
    number: str = attrs.field(converter=_cut)
    began: float
    user_id: str = attrs.field(default="", converter=_cut)
    user: str = attrs.field(default="", converter=_cut)
    dialled: str = attrs.field(default="", converter=_cut)
    trunk: str = attrs.field(default="", converter=_cut)
    rang: float | None = None
    answered: float | None = None
    ended: float | None = None
    cause: Cause | None = None
    by: Side | None = None
    codec: str = attrs.field(default="", converter=_cut)
    rate: int = 0
    loss_percent: float = 0.0
    jitter_ms: float = 0.0
    concealed_ms: float = 0.0
    drift_ppm: float = 0.0

    @property
    def talked_s(self) -> float:
        """How long the call stood, from its answer; 0 for one that was never answered or is not over."""
        if self.answered is None or self.ended is None:
            return 0.0
        return max(0.0, self.ended - self.answered)

    def over(self, call: Call, ended: Ended, unix_offset_s: float) -> CallRecord:
        """The record of a call that is over; ``unix_offset_s`` turns the call's clock into Unix time (added to its marks)."""

        def unix(mark: float | None) -> float | None:
            return None if mark is None else mark + unix_offset_s

        marks = call.marks
        return attrs.evolve(
            self,
            began=marks.began + unix_offset_s,
            rang=unix(marks.rang),
            answered=unix(marks.answered),
            ended=unix(marks.decided),  # the time until the last one lets go is nobody's talk
            cause=ended.cause,
            by=ended.by,
        )


_COLUMNS: Final = tuple(field.name for field in attrs.fields(CallRecord))
EXPORTED: Final = (*_COLUMNS[: _COLUMNS.index("cause")], "talked_s", *_COLUMNS[_COLUMNS.index("cause") :])
_TYPES: Final = {
    "began": "REAL NOT NULL",
    "rang": "REAL",
    "answered": "REAL",
    "ended": "REAL",
    "rate": "INTEGER NOT NULL",
    "loss_percent": "REAL NOT NULL",
    "jitter_ms": "REAL NOT NULL",
    "concealed_ms": "REAL NOT NULL",
    "drift_ppm": "REAL NOT NULL",
    "cause": "TEXT",
    "by": "TEXT",
}


def _row(record: CallRecord) -> list[object]:
    return [
        str(value) if isinstance(value, UUID | Direction | Cause | Side) else value
        for value in attrs.astuple(record, recurse=False)
    ]


def _record(row: Iterable[Any]) -> CallRecord:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["id"] = UUID(values["id"])
    values["direction"] = Direction(values["direction"])
    causes = {str(cause): cause for cause in Cause}
    if values["cause"] is not None:  # a newer program may have written a cause that we do not know
        values["cause"] = causes.get(values["cause"], Cause.FAILED)
    values["by"] = Side(values["by"]) if values["by"] else None
    return CallRecord(**values)


def _open_own(path: Path, *, create: bool = True) -> int:
    """A file of ours, for us alone from now on, open. Raises :class:`LocalError` for a link or another's file, and :class:`OSError`."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        file = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise LocalError(
            f"{path}: expected a file for call records, found a symbolic link: name the file itself"
        ) from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise LocalError(f"{path}: expected a file for call records, found something that is no file")
        if status.st_uid != os.geteuid():
            raise LocalError(
                f"{path}: expected a file of the user {os.geteuid()}, who runs this, found one of the user {status.st_uid}: "
                f"chown it, or name another file"
            )
        os.fchmod(file, 0o600)  # one that was there already may be open to others
    except (OSError, LocalError):
        os.close(file)
        raise
    return file


def _connect(path: Path, *, write: bool) -> sqlite3.Connection:
    try:
        if write:
            os.close(_open_own(path))
            # What a process left that was killed; SQLite gives new ones the mode of the file.
            for beside in (f"{path}-wal", f"{path}-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.close(_open_own(Path(beside), create=False))
        uri = f"{path.absolute().as_uri()}?mode={'rw' if write else 'ro'}"
        connection = sqlite3.connect(uri, timeout=BUSY_S, isolation_level=None, uri=True)
        application, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
    except (OSError, sqlite3.Error) as error:
        raise LocalError(f"{path}: expected a file of call records: {error}") from None
    empty = (
        application == 0 and version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    )
    if not (write and empty) and (application != _APPLICATION or not 1 <= version <= SCHEMA):
        connection.close()
        raise LocalError(
            f"{path}: expected call records of version {SCHEMA}, found another database "
            f"(application id {application:#x}, version {version}): name another file, or use the newer program"
        )
    return connection


class RecordStore:
    """The writer of a file of call records; see the module docstring.

    ``unix_s`` is now: calls that are open in the file were cut short by the end of an earlier process, and are closed. Raises :class:`~ice.errors.LocalError` where
    the file is none of ours or somebody else writes or owns it.
    """

    def __init__(
        self, path: Path, unix_s: float, *, max_records: int = MAX_RECORDS, max_days: float = MAX_DAYS
    ) -> None:
        if max_records < 1 or max_days <= 0:
            raise LocalError("a file of call records keeps at least one record for more than no time")
        self.path = path
        self._max_records, self._max_s = max_records, max_days * 86_400
        try:
            self._lock = _open_own(Path(f"{path}.lock"))
        except OSError as error:
            raise LocalError(
                f"{path}: {error.strerror}: its folder must be there, and be ours to write"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._connection = _connect(path, write=True)
        except BlockingIOError:
            os.close(self._lock)
            raise LocalError(
                f"{path}: another gateway writes these call records; give each one a file of its own"
            ) from None
        except LocalError:
            os.close(self._lock)
            raise
        self._prepare()
        #: Calls that an earlier process left open.
        self.cut_short = self._close_open()
        self._count = int(self._execute("SELECT count(*) FROM calls").fetchone()[0])
        self._prune(unix_s)
        self._execute(f"PRAGMA busy_timeout = {WRITE_BUSY_S * 1_000:.0f}")

    def __len__(self) -> int:
        return self._count

    def write(self, record: CallRecord, unix_s: float) -> None:
        """Keep a record, in place of what was written of the same call before. Raises :class:`~ice.errors.LocalError`, soon, where somebody else holds the file."""
        places = ", ".join("?" * len(_COLUMNS))
        sets = ", ".join(f'"{name}" = excluded."{name}"' for name in _COLUMNS[1:])
        known = self._execute("SELECT 1 FROM calls WHERE id = ?", [str(record.id)]).fetchone()
        self._execute(
            f"INSERT INTO calls VALUES ({places}) ON CONFLICT (id) DO UPDATE SET {sets}", _row(record)
        )
        if not known:
            self._count += 1
            self._prune(unix_s)

    def close(self) -> None:
        """Be done; twice is harmless."""
        if self._lock >= 0:
            self._connection.close()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- within

    def _execute(self, statement: str, values: Iterable[object] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, tuple(values))
        except sqlite3.Error as error:
            raise LocalError(f"{self.path}: the call record cannot be written: {error}") from None

    def _prepare(self) -> None:
        columns = ", ".join(f'"{name}" {_TYPES.get(name, "TEXT NOT NULL")}' for name in _COLUMNS[1:])
        self._execute("PRAGMA journal_mode = WAL")
        self._execute("PRAGMA synchronous = NORMAL")
        self._execute("PRAGMA journal_size_limit = 4194304")
        self._execute(f"CREATE TABLE IF NOT EXISTS calls (id TEXT PRIMARY KEY, {columns})")
        self._execute("CREATE INDEX IF NOT EXISTS calls_began ON calls (began)")
        self._execute(f"PRAGMA application_id = {_APPLICATION}")
        self._execute(f"PRAGMA user_version = {SCHEMA}")

    def _close_open(self) -> int:
        # When the process died is not known; what is known is that it lived until the last mark.
        cursor = self._execute(
            "UPDATE calls SET ended = max(began, coalesce(answered, began)), cause = ? WHERE cause IS NULL",
            [str(Cause.GATEWAY_LOST)],
        )
        return cursor.rowcount

    def _prune(self, unix_s: float) -> None:
        surplus = min(PRUNED_AT_ONCE, self._count - self._max_records)
        oldest = "DELETE FROM calls WHERE id IN (SELECT id FROM calls {} ORDER BY began LIMIT ?)"
        if surplus > 0:
            self._count -= self._execute(oldest.format(""), [surplus]).rowcount
        old = self._execute(oldest.format("WHERE began < ?"), [unix_s - self._max_s, PRUNED_AT_ONCE])
        self._count -= old.rowcount


def read(
    path: Path,
    *,
    since: float | None = None,
    until: float | None = None,
    user: str = "",
    number: str = "",
    cause: Cause | None = None,
    limit: int = MAX_FOUND,
) -> list[CallRecord]:
    """Records of a file, the newest first, while a gateway writes it or not.

    ``since`` and ``until`` bound when they began; ``user`` is a name or UUID, ``number`` a far or dialled number, each whole. Raises :class:`~ice.errors.LocalError`.
    """
    conditions = [
        ("began >= ?", [since] if since is not None else None),
        ("began < ?", [until] if until is not None else None),
        ("(user_id = ? OR user = ?)", [user, user] if user else None),
        ("(number = ? OR dialled = ?)", [number, number] if number else None),
        ("cause = ?", [str(cause)] if cause is not None else None),
    ]
    asked = [(text, values) for text, values in conditions if values is not None]
    where = " AND ".join(text for text, _ in asked)
    values: list[object] = [value for _, some in asked for value in some]
    connection = _connect(path, write=False)
    try:
        rows = connection.execute(
            f"SELECT * FROM calls {'WHERE ' + where if where else ''} ORDER BY began DESC, id LIMIT ?",
            [*values, max(0, limit)],
        )
        return [_record(row) for row in rows]
    except (sqlite3.Error, ValueError) as error:
        raise LocalError(f"{path}: the call records cannot be read: {error}") from None
    finally:
        connection.close()


def _told(record: CallRecord) -> dict[str, object]:
    """A record as people and programs read it: times as ISO 8601 in UTC."""
    told: dict[str, object] = {}
    for name in EXPORTED:
        value = getattr(record, name)
        if name in ("began", "rang", "answered", "ended") and value is not None:
            value = (
                datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            )
        elif isinstance(value, float):
            value = round(value, 3)
        elif value is not None and not isinstance(value, int):
            value = str(value)
        told[name] = value
    return told


def write_csv(records: Iterable[CallRecord], file: IO[str]) -> None:
    """Records as CSV (RFC 4180) with a line of names; open the file with ``newline=""``.

    Texts that a spreadsheet would take for a formula have an apostrophe before them: numbers and names come from strangers.
    """
    writer = csv.writer(file)
    writer.writerow(EXPORTED)
    for record in records:
        writer.writerow(["" if value is None else _harmless(value) for value in _told(record).values()])


def _harmless(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") and not value[1:].isdigit():
        return "'" + value
    return value


def json_lines(records: Iterable[CallRecord]) -> Iterator[str]:
    """Records as JSON, one object per line, without the line's end."""
    for record in records:
        yield json.dumps(_told(record), ensure_ascii=False)
