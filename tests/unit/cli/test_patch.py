"""``ice patch`` and what ``ice status --patches`` shows, without a server."""

from __future__ import annotations

import io
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.control import Desk
from ice.cli.patch import patch
from ice.cli.patches import show_list, show_patches
from ice.errors import IceError
from ice.media import wav


class Typed(SynchronousTestCase):
    """Commands, and what they ask."""

    def setUp(self) -> None:
        self.asked: list[tuple[dict[str, Any], bytes]] = []
        self.answer: dict[str, Any] = {"ok": True}

        def ask(desk: Desk, request: dict[str, Any], attached: bytes = b"") -> dict[str, Any]:
            self.asked.append((request, attached))
            return self.answer

        self.patch(Desk, "ask", ask)

    def type(self, *words: str, status: int = 0) -> Result:
        result = CliRunner().invoke(patch, words, standalone_mode=False)
        if status:
            self.assertIsNotNone(result.exception)
        elif result.exception is not None:
            raise result.exception
        return result

    def test_add(self) -> None:
        """Streams with their gains; what the server warns of is said on standard error."""
        self.answer["warnings"] = ["what is said on a goes out in clear on b"]
        result = self.type(
            "add", "ab", "a", "b", "--mode", "mixed", "--gain", "a", "-3", "--automatic-gain", "b"
        )
        self.assertEqual(
            self.asked[0][0]["patch"],
            {
                "id": "ab",
                "streams": [
                    {"stream": "a", "gain_db": -3.0, "automatic_gain": False},
                    {"stream": "b", "gain_db": 0.0, "automatic_gain": True},
                ],
                "mode": "mixed",
                "enabled": True,
            },
        )
        self.assertEqual(result.stdout, "patch ab joins 2 streams\n")
        self.assertEqual(result.stderr, "beware: what is said on a goes out in clear on b\n")
        self.assertIn(
            "no stream of this patch",
            str(self.type("add", "x", "a", "b", "--gain", "c", "1", status=2).exception),
        )

    def test_switched(self) -> None:
        """Each in a word."""
        for words, do, told in (
            (("on", "ab"), "activate", "patch ab is on\n"),
            (("off", "ab"), "deactivate", "patch ab is off\n"),
            (("rm", "ab"), "delete", "patch ab is deleted\n"),
        ):
            self.assertEqual(self.type(*words).stdout, told)
            self.assertEqual(self.asked.pop()[0], {"do": do, "id": "ab"})

    def test_gain(self) -> None:
        """What is known of the patch is asked for changed, and only if nobody else has changed it meanwhile."""
        streams = [{"stream": "a"}, {"stream": "b", "gain_db": 2.0}]
        self.answer["patches"] = [{"id": "ab", "revision": 7, "streams": streams}]
        self.assertEqual(
            self.type("gain", "ab", "a", "--automatic", "--", "-3").stdout, "patch ab: a has -3 dB\n"
        )
        wanted = [{"stream": "a", "gain_db": -3.0, "automatic_gain": True}, {"stream": "b", "gain_db": 2.0}]
        self.assertEqual(
            self.asked[-1][0], {"do": "change", "id": "ab", "patch": {"streams": wanted}, "if_revision": 7}
        )
        self.type("gain", "ab", "c", "1", status=1)

    def test_announce(self) -> None:
        """Tones and pauses, then the file, then keys; as 16-bit samples of 48 kHz."""
        file = self.mktemp()
        wav.write(Path(file), np.full(4_800, 1_000, np.int16))
        self.type("announce", "ab", "--tone", "1000:100", "--tone", "0:50", "--file", file, "--digits", "12#")
        request, sound = self.asked[0]
        pcm = np.frombuffer(sound, "<i2")
        self.assertEqual((request["bytes"], len(pcm)), (len(sound), 4_800 + 2_400 + 4_800))
        self.assertTrue(pcm[:4_800].any())
        self.assertFalse(pcm[4_800:7_200].any())
        self.assertEqual((pcm[8_000], request["digits"]), (1_000, "12#"))
        for words in ((), ("--tone", "loud"), ("--tone", "1:0"), ("--tone", "-5:10"), ("--tone", "30000:10")):
            self.type("announce", "ab", *words, status=2)

    def test_either(self) -> None:
        """A server is on this machine, or on another."""
        self.assertIn(
            "--socket", str(self.type("list", "--socket", "x", "--server", "https://y:1", status=2).exception)
        )


class Asking(SynchronousTestCase):
    """What comes back, or does not."""

    def refused(self, *words: str) -> str:
        result = CliRunner().invoke(patch, words, standalone_mode=False)
        assert isinstance(result.exception, IceError), result.exception
        return str(result.exception)

    def test_nobody(self) -> None:
        """Where nobody answers, what to do; a URL that is none is told, too."""
        said = self.refused("list", "--socket", str(Path(self.mktemp()) / "x.sock"))
        for part in ("no patch server answers", "twistd -n --pidfile= ice-patch", "--server"):
            self.assertIn(part, said)
        for url in ("http://x:1", "https://x", "https://x:1/y", "https://x:99999", "x"):
            self.assertIn("expected https://HOST:PORT", self.refused("list", "--server", url))

    def test_strange_answers(self) -> None:
        """What is no answer, and a connection that is closed instead, are errors in words."""
        for data, words in ((b"hello\n", "no answer of a patch server"), (b"", "no answer"), (b"[]\n", "no answer"),
                            (b'{"ok":false,"error":"no","reason":"loop","code":-9}\n', "loop (code -9): no")):  # fmt: skip
            path = str(Path("/tmp") / f"ice-{id(data)}.sock")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.bind(path)
                self.addCleanup(lambda path=path: Path(path).unlink(missing_ok=True))
                sock.listen(1)

                def serve(sock: socket.socket = sock, data: bytes = data) -> None:
                    with sock.accept()[0] as far:
                        far.recv(1_000)
                        far.sendall(data)

                thread = threading.Thread(target=serve)
                thread.start()
                self.assertIn(words, self.refused("on", "x", "--socket", path))
                thread.join()


class Shown(SynchronousTestCase):
    """Tables for people."""

    def shown(self, show: Any, answer: dict[str, Any]) -> str:
        console = Console(file=io.StringIO(), width=160)
        show(answer, console)
        text: str = console.file.getvalue()  # type: ignore[attr-defined]
        return text

    def test_warnings(self) -> None:
        """What a patch lets out in clear stands under its table, and trouble with the disk at the top."""
        row = {"id": "ab", "name": "AB", "mode": "relay", "state": 1, "enabled": True}
        caution = "what is said on a under a key goes out in clear on b"
        listed = self.shown(
            show_list, {"patches": [row | {"streams": ["a", {"stream": "b"}], "warnings": [caution]}]}
        )
        self.assertIn(f"patch ab: {caution}", listed)
        status = {
            "trouble": "the list is not on the disk",
            "bridges": {"detail": [row | {"groups": ["a"], "warnings": [caution]}]},
        }
        told = self.shown(show_patches, status)
        self.assertIn("the list is not on the disk", told)
        self.assertIn(caution, told)

    def test_anything(self) -> None:
        """What another version might tell is left out."""
        for odd in (None, 3, "x", [], [3], {}):
            for show in (show_list, show_patches):
                self.shown(show, {"patches": odd, "bridges": odd, "groups": odd, "talkers": odd})
                self.shown(show, {"patches": [{"warnings": odd, "state": odd, "streams": []}]})
