"""Log lines: what they look like, and that nobody can forge or break one."""

import io
import json
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.observe.logs import MAX_FIELD, MAX_MESSAGE, LoggingService, LogOutput, escaped


class Lines(SynchronousTestCase):
    def output(self, **options: Any) -> tuple[LogOutput, Logger]:
        self.stream = io.StringIO()
        output = LogOutput(self.stream, **{"colour": False, "journal": False, **options})
        return output, Logger("ice.test", observer=LogPublisher(output))

    def written(self) -> str:
        return self.stream.getvalue()

    def test_human(self) -> None:
        """Time, level, where from, message."""
        _, log = self.output()
        log.warn("{n} links refused", n=3)
        self.assertRegex(
            self.written(),
            r"\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} warn  ice\.test: 3 links refused\n\Z",
        )

    def test_json(self) -> None:
        """One object a line: time in UTC, level, system, message, and the event's own fields as values."""
        output, _ = self.output(format="json")
        output(
            {
                "log_time": 0.0,
                "log_level": LogLevel.info,
                "log_namespace": "ice.test",
                "log_format": "{peer} left",
                "peer": "rx-1",
                "links": 3,
                "lag_s": float("nan"),
                "open": True,
                "refused": {"limit": 2},
                "thing": object,
            }
        )
        line = json.loads(self.written())
        self.assertEqual(self.written().count("\n"), 1)
        self.assertEqual(
            line,
            {
                "time": "1970-01-01T00:00:00.000Z",
                "level": "info",
                "system": "ice.test",
                "message": "rx-1 left",
                "fields": {
                    "peer": "rx-1",
                    "links": 3,
                    "lag_s": "nan",
                    "open": True,
                    "refused": {"limit": 2},
                    "thing": "<class 'object'>",
                },
            },
        )

    def test_level(self) -> None:
        """What is below the level is not written; the level can change while running."""
        output, log = self.output(level="warn")
        log.info("quiet")
        output.configure(format="human", level="debug")
        log.debug("loud")
        self.assertNotIn("quiet", self.written())
        self.assertIn("loud", self.written())

    def test_no_forged_line(self) -> None:
        """Line breaks, terminal sequences and direction marks from outside are written as escapes."""
        for format in ("human", "json"):
            _, log = self.output(format=format)
            log.info("name {name}", name="a\n2026-01-01 error forged\r\x1b[31m\u202e\u2028\x9b")
            self.assertEqual(self.written().count("\n"), 1)
            self.assertEqual(len(self.written().splitlines()), 1)
            for character in "\r\x1b\u202e\u2028\x9b":
                self.assertNotIn(character, self.written())

    def test_traceback(self) -> None:
        """A failure's traceback follows, indented, so that no line of it looks like an event."""
        _, log = self.output()
        try:
            raise ValueError("bad\nworse")
        except ValueError:
            log.failure("it failed")
        lines = self.written().splitlines()
        self.assertIn("it failed", lines[0])
        self.assertTrue(all(line.startswith("    ") for line in lines[1:]))
        self.assertIn("ValueError", self.written())

    def test_traceback_json(self) -> None:
        """In JSON a traceback is a member of the same line."""
        _, log = self.output(format="json")
        try:
            raise ValueError("bad")
        except ValueError:
            log.failure("it failed")
        self.assertIn("ValueError: bad", json.loads(self.written())["traceback"])

    def test_bounded(self) -> None:
        """Neither a message nor a field is endless."""
        _, log = self.output(format="json")
        log.info("{name}", name="x" * 100_000)
        line = json.loads(self.written())
        self.assertEqual(len(line["message"]), MAX_MESSAGE)
        self.assertEqual(len(line["fields"]["name"]), MAX_FIELD)

    def test_unprintable(self) -> None:
        """A value that cannot be shown costs neither the line nor the daemon."""

        class Odd:
            def __str__(self) -> str:
                raise RuntimeError

        _, log = self.output(format="json")
        log.info("odd", thing=Odd())
        self.assertEqual(json.loads(self.written())["fields"]["thing"], "(unprintable: RuntimeError)")

    def test_journal(self) -> None:
        """Under the journal a line has a priority and no time of its own."""
        _, log = self.output(journal=True)
        log.error("port taken")
        log.info("fine")
        self.assertEqual(self.written(), "<3>ice.test: port taken\n<6>ice.test: fine\n")

    def test_colour(self) -> None:
        """Colour marks the level where a terminal is told, and only the level."""
        _, log = self.output(colour=True)
        log.error("port taken")
        self.assertIn("\x1b[31merror\x1b[0m ice.test: port taken\n", self.written())

    def test_unwritable(self) -> None:
        """A full disk or a closed stream costs the line and is counted."""
        output, log = self.output()
        self.stream.close()
        log.info("lost")
        log.info("lost")
        self.assertEqual(output.lost, 2)

    def test_wrong_settings(self) -> None:
        """A format or level that is none is refused and says which there are."""
        output, _ = self.output()
        self.assertRaises(LocalError, output.configure, format="xml", level="info")
        with self.assertRaises(LocalError) as caught:
            output.configure(format="json", level="chatty")
        self.assertIn("debug info warn error critical", str(caught.exception))

    @given(st.text(max_size=200))
    @settings(max_examples=100, deadline=None)
    def test_any_text(self, text: str) -> None:
        """Any text becomes one line that UTF-8 can hold."""
        line = escaped(text)
        self.assertLessEqual(len(line.splitlines()), 1)
        line.encode()

    @given(
        st.dictionaries(
            st.text(max_size=8),
            st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.binary(max_size=9)),
            max_size=5,
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_any_fields(self, fields: dict[str, Any]) -> None:
        """Any fields make one line of valid JSON."""
        output, _ = self.output(format="json")
        output({**fields, "log_level": LogLevel.info, "log_time": 0.0})
        self.assertEqual(self.written().count("\n"), 1)
        json.loads(self.written())


class UnderTwistd(SynchronousTestCase):
    def test_observer(self) -> None:
        """The outermost service hands its observer to the application that twistd runs."""
        output = LogOutput(io.StringIO())
        service = LoggingService(output)
        application = Application("ice-test")
        service.setServiceParent(application)
        self.assertIs(ILogObserver(application), output)

    def test_journal_found(self) -> None:
        """The journal is believed only where the stream is the one that systemd named."""
        path = self.mktemp()
        with open(path, "w") as stream:
            found = os.fstat(stream.fileno())
            self.patch(os, "environ", {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
            LogOutput(stream)({"log_level": LogLevel.info, "log_format": "one"})
            self.patch(os, "environ", {"JOURNAL_STREAM": "1:2"})
            LogOutput(stream)({"log_level": LogLevel.info, "log_format": "two"})
        with open(path) as stream:
            one, two = stream.read().splitlines()
        self.assertEqual(one, "<6>-: one")
        self.assertFalse(two.startswith("<"))
