"""Call records: written, found, exported, bounded, and there after the process was killed."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from unittest import mock
from uuid import UUID

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.telephony.call import Answers, Call, Close, Direction, HangsUp, Released, Rings, Side
from ice.telephony.causes import Cause
from ice.telephony.records import (
    EXPORTED,
    MAX_TEXT,
    CallRecord,
    RecordStore,
    json_lines,
    read,
    write_csv,
)

UNIX = 1_900_000_000.0
FULL = CallRecord(
    UUID(int=1), Direction.OUTGOING, "+4930123", UNIX, "u-1", "Ada", "", "north", UNIX + 1, UNIX + 2, UNIX + 62.5,
    Cause.HUNG_UP, Side.USER, "opus", 16_000, 0.5, 3.25, 40.0, -12.0,
)  # fmt: skip


def record(id: int, began: float = UNIX, **changes: object) -> CallRecord:
    return attrs.evolve(FULL, id=UUID(int=id), began=began, **changes)


class Store(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.store = RecordStore(self.path, UNIX)
        self.addCleanup(self.store.close)

    def test_round_trip(self) -> None:
        """What is written is read, by a reader beside the writer."""
        self.store.write(FULL, UNIX)
        self.assertEqual(read(self.path), [FULL])
        self.assertEqual(FULL.talked_s, 60.5)

    def test_a_call_is_one_record(self) -> None:
        """Written at its beginning and at its end, with the times of its state machine."""
        call, _ = Call.place(UUID(int=9), Direction.INCOMING, 100.0)
        begun = CallRecord(call.id, call.direction, "+491", UNIX)
        self.store.write(begun, UNIX)
        self.assertEqual(begun.talked_s, 0)
        call.feed(Rings(Side.USER), 101.0)
        call.feed(Answers(Side.USER), 105.0)
        call.feed(HangsUp(Side.LINE), 110.0)
        (close,) = call.feed(Released(Side.USER), 110.2)
        assert isinstance(close, Close)
        self.store.write(begun.over(call, close.ended, UNIX - 100.0), UNIX)
        (found,) = read(self.path)
        self.assertEqual((found.rang, found.answered, found.ended), (UNIX + 1, UNIX + 5, UNIX + 10))
        self.assertEqual((found.cause, found.by, found.talked_s), (Cause.HUNG_UP, Side.LINE, 5.0))
        self.assertEqual(len(self.store), 1)

    def test_questions(self) -> None:
        """By time, person, number and cause; the newest first, so many at most."""
        for number in range(5):
            self.store.write(record(number, UNIX + number), UNIX)
        self.store.write(record(7, UNIX + 7, user="Bob", number="110", cause=Cause.BUSY), UNIX)
        self.assertEqual([r.id.int for r in read(self.path, since=UNIX + 2, until=UNIX + 5)], [4, 3, 2])
        self.assertEqual([r.id.int for r in read(self.path, user="Bob")], [7])
        self.assertEqual(len(read(self.path, user="u-1")), 6)
        self.assertEqual([r.id.int for r in read(self.path, number="110", cause=Cause.BUSY)], [7])
        self.assertEqual([r.id.int for r in read(self.path, limit=2)], [7, 4])
        self.assertEqual(read(self.path, user="' OR 1=1 --"), [])

    def test_one_writer(self) -> None:
        """A second one hears it at once; after the first has closed, it may."""
        self.assertRaises(LocalError, RecordStore, self.path, UNIX)
        self.store.close()
        self.store.close()
        RecordStore(self.path, UNIX).close()

    def test_nobody_else_reads(self) -> None:
        """The file and all beside it belong to the owner."""
        self.store.write(FULL, UNIX)
        for path in self.path.parent.glob(self.path.name + "*"):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o077, 0, path)

    def test_nobody_else_reads_any_more(self) -> None:
        """What others could read when it was opened, and what a killed process left beside it, they cannot read from then on."""
        self.store.write(FULL, UNIX)
        self.store.close()
        beside = [Path(f"{self.path}{end}") for end in ("", ".lock", "-wal", "-shm")]
        for path in beside:
            path.touch()
            path.chmod(0o644)
        with RecordStore(self.path, UNIX) as store:
            self.assertEqual([stat.S_IMODE(path.stat().st_mode) for path in beside], [0o600] * 4)
            self.assertEqual(len(store), 1)

    def test_links_are_not_followed(self) -> None:
        """A link in the place of the file, or of what is beside it, is refused; so is what is no file; where they lead nothing is changed."""
        self.store.close()
        for end in ("", ".lock", "-wal"):
            base, victim = Path(self.mktemp()), Path(self.mktemp())
            victim.write_bytes(b"")
            victim.chmod(0o644)
            Path(f"{base}{end}").symlink_to(victim.absolute())
            error = self.assertRaises(LocalError, RecordStore, base, UNIX)
            self.assertIn("symbolic link", str(error))
            self.assertEqual((stat.S_IMODE(victim.stat().st_mode), victim.stat().st_size), (0o644, 0))
        pipe = Path(self.mktemp())
        os.mkfifo(pipe)
        self.assertIn("no file", str(self.assertRaises(LocalError, RecordStore, pipe, UNIX)))

    def test_a_file_of_another_user(self) -> None:
        """Is refused, whoever may write it, and told whose it is."""
        self.store.close()
        with mock.patch("os.geteuid", return_value=os.geteuid() + 7):
            error = self.assertRaises(LocalError, RecordStore, self.path, UNIX)
        self.assertIn(f"found one of the user {os.geteuid()}", str(error))
        RecordStore(self.path, UNIX).close()  # nothing of the refused one holds it

    def test_calls_wait_for_nobody(self) -> None:
        """A record that cannot be written because somebody holds the file is refused within a tenth of a second; the next one is written."""
        (wait_ms,) = self.store._execute("PRAGMA busy_timeout").fetchone()
        self.assertEqual(wait_ms, 100)
        holder = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(holder.close)
        holder.execute("BEGIN IMMEDIATE")
        self.assertIn("locked", str(self.assertRaises(LocalError, self.store.write, FULL, UNIX)))
        holder.execute("ROLLBACK")
        self.store.write(FULL, UNIX)
        self.assertEqual(read(self.path), [FULL])

    def test_bounds(self) -> None:
        """The oldest go, by number and by age; the rest stays."""
        self.store.close()
        with RecordStore(self.path, UNIX, max_records=10, max_days=1) as store:
            for number in range(30):
                store.write(record(number, UNIX + number), UNIX)
            self.assertEqual(([r.id.int for r in read(self.path)], len(store)), (list(range(29, 19, -1)), 10))
            later = UNIX + 86_400 + 25
            store.write(record(99, later), later)
            self.assertEqual([r.id.int for r in read(self.path)], [99, 29, 28, 27, 26, 25])
        self.assertRaises(LocalError, RecordStore, self.path, UNIX, max_records=0)

    def test_other_files(self) -> None:
        """Another database, no database, a folder that is not there, a newer version: refused with a sentence."""
        other = Path(self.mktemp())
        connection = sqlite3.connect(other)
        connection.execute("CREATE TABLE t (x)")
        connection.close()
        self.assertRaises(LocalError, RecordStore, other, UNIX)
        self.assertRaises(LocalError, read, other)
        junk = Path(self.mktemp())
        junk.write_bytes(b"no database at all" * 100)
        self.assertRaises(LocalError, RecordStore, junk, UNIX)
        self.assertRaises(LocalError, read, Path("nowhere/calls"))
        self.assertRaises(LocalError, RecordStore, Path("nowhere/calls"), UNIX)
        self.store._execute("PRAGMA user_version = 99")
        self.assertRaises(LocalError, read, self.path)

    def test_killed(self) -> None:
        """Killed while it writes, without a word: what was written is there, and the open call is closed."""
        path = Path(self.mktemp())
        script = (
            "import sys, os, signal\n"
            "from tests.unit.telephony.test_records import *\n"
            "store = RecordStore(Path(sys.argv[1]), UNIX)\n"
            "for n in range(20): store.write(record(n), UNIX)\n"
            "store.write(record(20, cause=None, by=None, ended=None), UNIX)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        root = Path(__file__).resolve().parents[3]
        done = subprocess.run([sys.executable, "-c", script, str(path.absolute())], check=False, cwd=root)
        self.assertEqual(done.returncode, -signal.SIGKILL)
        with RecordStore(path, UNIX) as store:
            self.assertEqual((len(store), store.cut_short), (21, 1))
        (cut,) = read(path, cause=Cause.GATEWAY_LOST)
        self.assertEqual((cut.id.int, cut.ended), (20, UNIX + 2))
        self.assertTrue(os.path.exists(path))

    @given(st.text(max_size=300), st.floats(0, 1e9), st.one_of(st.none(), st.sampled_from(Cause)))
    @settings(max_examples=40, deadline=None)
    def test_any_text(self, text: str, began: float, cause: Cause | None) -> None:
        """Whatever a stranger calls himself is cut, made printable and kept."""
        written = record(1, began, number=text, user=text, cause=cause)
        self.assertLessEqual(len(written.number), MAX_TEXT)
        self.store.write(written, began)
        self.assertEqual(read(self.path), [written])


class Exports(SynchronousTestCase):
    def test_csv(self) -> None:
        """One line of names, one per call; formulas of strangers are harmless."""
        file = io.StringIO(newline="")
        write_csv([FULL, record(2, user="=cmd()", number="*21#", rang=None, answered=None)], file)
        rows = list(csv.reader(io.StringIO(file.getvalue())))
        self.assertEqual(tuple(rows[0]), EXPORTED)
        told = [dict(zip(EXPORTED, row, strict=True)) for row in rows[1:]]
        self.assertEqual((told[0]["began"], told[0]["talked_s"]), ("2030-03-17T17:46:40.000Z", "60.5"))
        self.assertEqual((told[0]["number"], told[0]["cause"]), ("+4930123", "hung-up"))
        self.assertEqual((told[1]["user"], told[1]["number"], told[1]["rang"]), ("'=cmd()", "*21#", ""))

    def test_json(self) -> None:
        """One object per line, with the same names."""
        (line,) = json_lines([FULL])
        told = json.loads(line)
        self.assertEqual(tuple(told), EXPORTED)
        self.assertEqual(
            (told["id"], told["ended"], told["rate"]), (str(FULL.id), "2030-03-17T17:47:42.500Z", 16_000)
        )
