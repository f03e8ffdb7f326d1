"""docs/gateway.md: what it tells people to write can be written, and what it tells them to type can be typed."""

from __future__ import annotations

import re
from pathlib import Path

from click import Group
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.calls import calls
from ice.cli.main import COMMANDS
from ice.config.load import loads
from ice.telephony.causes import Cause
from ice.telephony.loopback import NUMBERS
from ice.telephony.wanted import plan_of

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "gateway.md").read_text("utf-8")


class Pages(SynchronousTestCase):
    def test_configurations(self) -> None:
        """Every configuration on the page loads, and its numbers are numbers."""
        blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
        self.assertGreater(len(blocks), 2)
        for block in blocks:
            plan_of(loads(block, Path("/site/ice.toml")).config.gateway.numbers)

    def test_commands(self) -> None:
        """Every command on the page is there, with its options."""
        assert isinstance(calls, Group)
        for word in set(re.findall(r"`ice ([a-z]+)", PAGE)):
            self.assertIn(word, COMMANDS)
        for line in set(re.findall(r"ice calls ([a-z-]+[^`\n#]*)", PAGE)):
            name, *rest = line.split()
            command = calls.commands[name]
            shown = CliRunner().invoke(command, ["--help"]).output
            for option in (word for word in rest if word.startswith("--")):
                self.assertIn(option.rstrip("`,"), shown, line)

    def test_words(self) -> None:
        """Causes and numbers are those that there are."""
        causes = {str(cause) for cause in Cause}
        told = set(re.findall(r"\(`([a-z]+-[a-z]+)`\)", PAGE)) | {"takeover", "shutdown"}
        self.assertEqual(told - causes, set())
        self.assertEqual(set(re.findall(r"^\| `(\d+)` \|", PAGE, re.MULTILINE)), set(NUMBERS))
