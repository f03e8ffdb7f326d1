"""Files written whole or not at all, keys never readable by others, nothing overwritten unasked."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.security import files
from ice.security.files import KEY_MODE, AlreadyThere, Draft, make_folder, write


class Writing(SynchronousTestCase):
    """`write` and `make_folder`."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.one, self.two = self.folder / "one", self.folder / "two"

    def names(self) -> list[str]:
        return sorted(os.listdir(self.folder))

    def test_modes_whatever_the_umask(self) -> None:
        """A key is 0600 and a certificate 0644 under any umask."""
        for umask in (0o000, 0o022, 0o077, 0o777):
            before = os.umask(umask)
            try:
                write([Draft(self.one, b"key", KEY_MODE), Draft(self.two, b"public")], replace=True)
            finally:
                os.umask(before)
            self.assertEqual(stat.S_IMODE(self.one.stat().st_mode), 0o600)
            self.assertEqual(stat.S_IMODE(self.two.stat().st_mode), 0o644)

    def test_never_open_to_others(self) -> None:
        """The file is 0600 from the moment it exists: the mode is given to open, not afterwards."""
        modes = []
        really = os.open

        def spy(path: object, flags: int, mode: int = 0o777, **more: object) -> int:
            descriptor = really(path, flags, mode, **more)  # type: ignore[call-overload]
            if flags & os.O_CREAT:
                modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
            return int(descriptor)

        self.patch(files.os, "open", spy)
        before = os.umask(0)
        try:
            write([Draft(self.one, b"key", KEY_MODE)])
        finally:
            os.umask(before)
        self.assertEqual(modes, [0o600])

    def test_no_overwriting(self) -> None:
        """What is there stays, and none of the other files is written."""
        self.two.write_bytes(b"precious")
        error = self.assertRaises(AlreadyThere, write, [Draft(self.one, b"1"), Draft(self.two, b"2")])
        self.assertIn(str(self.two), str(error))
        self.assertEqual((self.names(), self.two.read_bytes()), (["two"], b"precious"))

    def test_no_overwriting_in_a_race(self) -> None:
        """A file that appears between the look and the writing is not overwritten, and what was written before it is taken back."""
        stage = files._stage

        def staged(draft: Draft) -> Path:
            self.two.write_bytes(b"precious")
            return stage(draft)

        self.patch(files, "_stage", staged)
        self.assertRaises(AlreadyThere, write, [Draft(self.one, b"1"), Draft(self.two, b"2")])
        self.assertEqual((self.names(), self.two.read_bytes()), (["two"], b"precious"))

    def test_a_dangling_link_is_there(self) -> None:
        """A symbolic link to nowhere counts as a file."""
        self.one.symlink_to(self.folder / "nowhere")
        self.assertRaises(AlreadyThere, write, [Draft(self.one, b"1")])

    def test_replace(self) -> None:
        """With replace the new content is there, whole, and a link is replaced, not followed."""
        target = self.folder / "target"
        target.write_bytes(b"untouched")
        self.one.symlink_to(target)
        write([Draft(self.one, b"new")], replace=True)
        self.assertEqual((self.one.read_bytes(), target.read_bytes()), (b"new", b"untouched"))
        self.assertFalse(self.one.is_symlink())

    def test_full_disk(self) -> None:
        """A disk that fills up leaves the old file as it was, and nothing else."""
        self.one.write_bytes(b"old")

        def full(descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(files.os, "write", full)
        error = self.assertRaises(LocalError, write, [Draft(self.one, b"new")], replace=True)
        self.assertIn(f"{self.one}: cannot be written: No space left", str(error))
        self.assertEqual((self.names(), self.one.read_bytes()), (["one"], b"old"))

    def test_on_the_disk_before_it_is_named(self) -> None:
        """fsync comes before the name."""
        order: list[str] = []
        fsync, replace = os.fsync, os.replace
        self.patch(files.os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
        self.patch(files.os, "replace", lambda a, b: (order.append("name"), replace(a, b))[1])
        write([Draft(self.one, b"1"), Draft(self.two, b"2")], replace=True)
        self.assertEqual(order, ["fsync", "fsync", "name", "name", "fsync"])

    def test_without_hard_links(self) -> None:
        """On a file system without hard links files are written all the same, and not overwritten either."""

        def none(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        self.patch(files.os, "link", none)
        write([Draft(self.one, b"1")])
        self.assertEqual(self.one.read_bytes(), b"1")
        self.assertRaises(AlreadyThere, write, [Draft(self.one, b"2")])
        self.assertEqual(self.names(), ["one"])

    def test_short_writes(self) -> None:
        """A kernel that takes a byte at a time gets them all."""
        really = os.write
        self.patch(files.os, "write", lambda fd, data: really(fd, data[:1]))
        write([Draft(self.one, b"hello")])
        self.assertEqual(self.one.read_bytes(), b"hello")

    def test_no_folder(self) -> None:
        """A folder that is not there is told as such."""
        self.assertIn(
            "No such file", str(self.assertRaises(LocalError, write, [Draft(self.folder / "no" / "x", b"")]))
        )

    def test_folder_mode(self) -> None:
        """A folder that we make is 0700; one that is there keeps its mode; a file in its place is told."""
        inner = self.folder / "a" / "b"
        make_folder(inner)
        self.assertEqual(stat.S_IMODE(inner.stat().st_mode), 0o700)
        inner.chmod(0o755)
        make_folder(inner)
        self.assertEqual(stat.S_IMODE(inner.stat().st_mode), 0o755)
        self.one.write_bytes(b"")
        self.assertRaises(LocalError, make_folder, self.one)

    def test_secrets_are_not_shown(self) -> None:
        """What a draft holds is not in its repr."""
        self.assertNotIn("hush", repr(Draft(self.one, b"hush")))
