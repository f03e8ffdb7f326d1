"""The programs in docs/streams.md do what the page says."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.testing.network import MemoryDialler, MemoryRallypoint, network_on, run

PAGE = Path(__file__).parents[3] / "docs" / "streams.md"


class DocsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.programs = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)

    def test_talk_and_listen(self) -> None:
        """Two runs of the first program hear each other."""
        clock = Clock()
        dialler = MemoryDialler(clock)
        dialler.there["a.test:7443"] = MemoryRallypoint(clock)
        said = io.StringIO()
        done: list[object] = []

        def connect(config: object, reactor: object) -> Any:
            network = network_on(dialler, "a.test:7443", seed=len(dialler.attempts))
            network.start()
            return network

        with (
            mock.patch("ice.config.load.load"),
            mock.patch("ice.streams.connect.connect", connect),
            contextlib.redirect_stdout(said),
        ):
            for _ in range(2):
                program: dict[str, Any] = {"__name__": "program"}
                exec(compile(self.programs[0], str(PAGE), "exec"), program)
                running: Deferred[object] = Deferred.fromCoroutine(program["main"](clock))
                running.addCallback(done.append)
                run(clock, 1.0)
            run(clock, 11.0)
        self.assertEqual(done, [None, None])
        self.assertIn("path open: joined at a.test:7443\n", said.getvalue())
        self.assertIn("heard b'hello, town hall'\n", said.getvalue())
        self.assertIn("path closed: the program has ended\n", said.getvalue())
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_without_a_network(self) -> None:
        """The second program prints what the page says."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(self.programs[1], str(PAGE), "exec"), {})
        self.assertEqual(said.getvalue(), "[b'hello']\n")
