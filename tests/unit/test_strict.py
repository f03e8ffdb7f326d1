"""JSON from elsewhere, read strictly: what is no document is refused, and none costs more than its size."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice import strict


class Reading(SynchronousTestCase):
    def test_refusals(self) -> None:
        """Too long, too deep, no JSON, a key twice, a number that is none."""
        for data in (
            b"1" * 101, b"[" * 33 + b"]" * 33, b"{", b'"', b'"\\', b"\xff", b'{"a":1,"a":2}', b"NaN", b"-Infinity",
        ):  # fmt: skip
            self.assertRaises(strict.NoJson, strict.load, data, 100)
        self.assertEqual(strict.load(b'{"a":"[[[\\"{{{"}', 100), {"a": '[[["{{{'})

    def test_brackets_in_texts(self) -> None:
        """Do not count: a text may have more than there may be levels."""
        self.assertEqual(strict.load(b'"' + b"[" * 50 + b'"', 100), "[" * 50)

    def test_a_text_without_an_end(self) -> None:
        """Is looked at once, not anew from every quote in it: a line of 64 KiB would stop a daemon for a quarter of a minute."""
        for end in (b"", b"\\"):
            data = b'{"a":"' + b'\\"' * 1_000 + end
            self.assertEqual(len(strict._STRING.findall(data)), 2)
            self.assertRaises(strict.NoJson, strict.load, data, 10_000)

    @settings(max_examples=100, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda x: st.lists(x) | st.dictionaries(st.text(), x),
            max_leaves=8,
        )
    )
    def test_there_and_back(self, value: object) -> None:
        """What others write is read as it was meant."""
        self.assertEqual(strict.load(json.dumps(value).encode(), 1 << 20), value)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=80))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes is read or refused."""
        try:
            strict.load(data, 80)
        except strict.NoJson:
            return
        json.loads(data)
