"""What docs/patch.md shows is so."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.cli.patch import patch
from ice.config.load import load
from ice.patch.control import control_of
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

    def test_the_configuration(self) -> None:
        """The one that is shown can be loaded."""
        text = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
        assert text is not None
        path = Path(self.mktemp())
        path.write_text(text[1])
        config = load(path).config
        self.assertEqual(
            (str(config.patch.control.listen), config.patches[0].id), ("192.0.2.10:7483", "fire-ems")
        )

    def test_every_command(self) -> None:
        """What can be asked stands in the table of requests, and the commands of ice patch on the page."""
        control = control_of(None, dict)  # type: ignore[arg-type]
        for name in control.commands:
            self.assertIn(f"`{name}`", PAGE)
        for name in patch.commands:
            self.assertTrue(re.search(rf"ice patch \S*\b{name}\b", PAGE), name)

    def test_every_refusal(self) -> None:
        """Each word is on the page, with its code."""
        for reason in Reason:
            self.assertIn(f"`{reason}`", PAGE)
            if reason.code is not None:
                self.assertIn(f"−{-reason.code}", PAGE)
