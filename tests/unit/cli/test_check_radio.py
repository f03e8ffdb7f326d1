"""What ``ice check-radio`` says of what came back."""

import io

from twisted.trial.unittest import SynchronousTestCase

from ice.cli.check_radio import Report, _show
from ice.cli.display import JsonLines, Lines


def report(
    heard: int = 296, missed: int = 0, late: int = 0, similarity: float = 0.95, to_ear: float | None = 60.0
) -> Report:
    return Report(296, heard, missed, late, similarity, 4.0, 9.0, 30.0, to_ear)


class ReportTests(SynchronousTestCase):
    def test_verdicts(self) -> None:
        """Each finding has its words, and only what people could talk through is usable."""
        for found, usable, words in (
            (report(), True, "Good: every word"),
            (report(similarity=0.75), True, "Usable, but something"),
            (report(similarity=0.3), False, "Bad: "),
            (report(heard=0, similarity=0.0), False, "Nothing came back"),
            (report(missed=3, late=2), True, "3 packets were lost and 2 came too late"),
            (report(to_ear=700.0), True, "The delay is long"),
            (report(to_ear=None), True, "Good"),
        ):
            self.assertEqual(found.usable, usable, found)
            self.assertIn(words, found.verdict)

    def test_shown(self) -> None:
        """Figures for people stand in lines; for machines in one object, with the verdict."""
        out = io.StringIO()
        _show(Lines(out), report(), None)
        for words in (
            "296 sent, 296 came back",
            "4.0 ms to the Rallypoint and back",
            "60 ms from a mouth to an ear",
            "0.95",
        ):
            self.assertIn(words, out.getvalue())
        out = io.StringIO()
        _show(JsonLines(out), report(heard=0, to_ear=None), None)
        self.assertIn('"usable": false', out.getvalue())
        self.assertIn('"mouth_to_ear_ms": null', out.getvalue())
