"""A configuration written as TOML reads back as itself, and secrets are not in it."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from twisted.trial.unittest import SynchronousTestCase

from ice.config.fields import SECRET, Section, Text
from ice.config.load import loads
from ice.config.problems import tables
from ice.config.reference import template
from ice.config.render import as_plain, as_toml, toml_value
from ice.config.schema import Config

FILE = Path("/site/ice.toml")


class Writing(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """What is shown loads to the same values."""
        text = (
            '[identity]\nalias = "é\\"\\\\"\ncertificate = "/x y.pem"\n[rallypoint]\nlisten = ["[::1]:7443", "127.0.0.1:1"]\n'
            'alternatives = ["a:1"]\n[rallypoint.http]\nlisten = ""\n'
            '[[rallypoint.access]]\nname = "a*"\n[[rallypoint.access]]\nstreams = ["x", "y"]\nallow = false\n'
            '[[groups]]\nname = "g"\n[[groups.members]]\nid = "{B0C1D2E3-F405-4617-8829-3A4B5C6D7E8F}"\n'
        )
        config = loads(text, FILE).config
        shown = as_toml(config)
        self.assertEqual(loads(shown, FILE).config, config)

    def test_every_key(self) -> None:
        """With one of everything that may be given several times, every key of every table is shown."""
        switched_on = re.sub(r"^#(?=\[\[|[a-z_]+ = )", "", template(), flags=re.MULTILINE)
        config = loads(switched_on, FILE).config
        shown = as_toml(config)
        self.assertEqual(loads(shown, FILE).config, config)
        for path, model in tables(Config):
            value: Any = tomllib.loads(shown)
            for part in path:
                value = value[part][0] if isinstance(value[part], list) else value[part]
            self.assertEqual(set(value), set(model.model_fields))

    def test_defaults(self) -> None:
        """The defaults round-trip too, and end with one line end."""
        config = loads("", FILE).config
        shown = as_toml(config)
        self.assertEqual(loads(shown, FILE).config, config)
        self.assertTrue(shown.startswith("[identity]\n"))
        self.assertTrue(shown.endswith("\n") and not shown.endswith("\n\n"))

    def test_plain(self) -> None:
        """For JSON, addresses and files are text and what is off is empty."""
        shown = as_plain(loads("", FILE).config)
        self.assertEqual(shown["identity"]["key"], "/site/pki/client.key")
        self.assertEqual(shown["network"]["rallypoints"], ["localhost:7443"])
        self.assertEqual(shown["rallypoint"]["health_check"], "")

    def test_secrets(self) -> None:
        """A field marked secret is shown as (hidden), in both forms."""

        class Trunk(Section):
            password: Annotated[Text, SECRET] = "swordfish"
            user: Text = "trunk"

        class Root(Section):
            trunk: Trunk = Field(default_factory=Trunk)

        self.assertEqual(as_toml(Root()), '[trunk]\npassword = "(hidden)"\nuser = "trunk"\n')
        self.assertEqual(as_plain(Root()), {"trunk": {"password": "(hidden)", "user": "trunk"}})

    @settings(max_examples=100, deadline=None)
    @given(
        st.text()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False)
        | st.lists(st.text() | st.integers(0, 9), max_size=3)
    )
    def test_values(self, value: object) -> None:
        """Any value written is the value read."""
        self.assertEqual(tomllib.loads(f"x = {toml_value(value)}")["x"], value)
