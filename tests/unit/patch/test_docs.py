"""What docs/patch.md shows is so."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.patch.parsing import decode
from ice.patch.plan import Reason

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "patch.md").read_text("utf-8")


class Page(SynchronousTestCase):
    def test_the_example(self) -> None:
        """The example runs, and gives what it says."""
        code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
        assert code is not None
        names: dict[str, object] = {"print": lambda value: names.update(told=value)}
        exec(code[1], names)
        self.assertEqual(names["told"], [("Passed", ("south",)), ("Spoken", ("north", "south"))])

    def test_the_list(self) -> None:
        """The list that is shown can be read."""
        text = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
        assert text is not None
        self.assertEqual([patch.id for patch in decode(text[1].encode()).patches], ["north-south"])

    def test_every_refusal(self) -> None:
        """Each word is on the page, with its code."""
        for reason in Reason:
            self.assertIn(f"`{reason}`", PAGE)
            if reason.code is not None:
                self.assertIn(f"−{-reason.code}", PAGE)
