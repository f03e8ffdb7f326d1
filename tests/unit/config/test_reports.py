"""``[rallypoint.reports]``."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from ice.config.reports import ReportSettings
from ice.rallypoint.link_graph import CORE_STYLE


def read(**values: Any) -> ReportSettings:
    """As a file gives them."""
    return ReportSettings.model_validate(values)


class ReportTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """No file; an empty name is none."""
        settings = read()
        self.assertEqual(
            (settings.status_file, settings.link_graph_file, settings.route_map_file), (None, None, None)
        )
        self.assertEqual((settings.refresh_s, settings.core_style), (5.0, CORE_STYLE))
        self.assertEqual(read(status_file=""), settings)

    def test_files(self) -> None:
        """Names of files; two reports never share one."""
        self.assertEqual(read(status_file="a/b.json").status_file, Path("a/b.json"))
        for values in (
            {"status_file": "x", "route_map_file": "x"},
            {"status_file": "x", "link_graph_file": "x"},
            {"link_graph_file": "x", "route_map_file": "x"},
            {"status_file": 7},
            {"refresh_s": 0.5},
        ):
            self.assertRaises(ValidationError, read, **values)

    def test_styles(self) -> None:
        """Attributes in brackets, or nothing; nothing that would be more than attributes."""
        for style in ("", "[]", "[shape=box]", '[label="a ] b" color=red]', "[fillcolor=gray, style=filled]"):
            self.assertEqual(read(core_style=style).core_style, style)
        for style in (
            "shape=box",
            "[a]]",
            "[a] x",
            "[a;b]",
            '[label="open]',
            "[a\\]",
            "[a][b]",
            "[<b>]",
            "[a]\n",
        ):
            self.assertRaises(ValidationError, read, core_style=style)
