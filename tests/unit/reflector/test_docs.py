"""What docs/reflector.md and the examples say is so."""

import re
import tomllib
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import load, loads
from ice.config.reflector import ReflectorRule
from ice.reflector import engine, stream, transcoding, translation
from ice.reflector.rules import rules_of

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reflector.md").read_text("utf-8")


class DocsTests(SynchronousTestCase):
    def test_keys(self) -> None:
        """Every key of a rule is in the page."""
        missing = [
            name for name in ReflectorRule.model_fields if f"`{name}`" not in PAGE and f"{name} =" not in PAGE
        ]
        self.assertEqual(missing, [])

    def test_reasons(self) -> None:
        """Every reason by which a datagram is not passed on is explained."""
        source = "".join(
            Path(module.__file__ or "").read_text("utf-8")
            for module in (engine, stream, translation, transcoding)
        )
        reasons = set(re.findall(r'dropped\["([a-z-]+)"\]', source)) | set(
            re.findall(r'return "([a-z-]+)"', source)
        )
        reasons |= set(re.findall(r'return "([a-z-]+)" if', source)) | {"no-path"}
        table = PAGE[PAGE.index("**Reasons of `dropped`**") :]
        self.assertEqual([reason for reason in sorted(reasons) if f"`{reason}`" not in table], [])
        self.assertGreater(len(reasons), 12)

    def test_toml(self) -> None:
        """What stands in TOML blocks is a configuration."""
        blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
        self.assertTrue(blocks)
        for block in blocks:
            loads(block, ROOT / "etc/ice.toml")
            self.assertTrue(tomllib.loads(block))

    def test_examples(self) -> None:
        """The three sites: the gateway alone is heard; phones are never heard; the two networks pass everything as it is."""
        lmr, paging, lans = (
            rules_of(load(ROOT / f"etc/examples/reflector-{name}.toml").config)
            for name in ("lmr", "paging", "two-lans")
        )
        self.assertEqual({rule.places[0].sources for rule in lmr}, {("10.20.0.5",)})
        self.assertEqual([rule.terms.hears for rule in paging], [False])
        self.assertEqual(Counter(rule.settings.changes for rule in (*lmr, *lans)), {False: 4})
        for name in ("lmr", "paging", "two-lans"):
            self.assertIn(f"etc/examples/reflector-{name}.toml", PAGE)
