"""Reading JSON as the original does: defaults with remarks, refusals with line and column."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import RemoteError
from ice.mission.tolerant import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_OBJECTS,
    MAX_REMARKS,
    TYPOGRAPHIC,
    Doubled,
    MissionError,
    Remark,
    Tolerant,
    Written,
    child,
    doubled,
    read_json,
    shown_text,
)
from ice.mission.writing import write_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.sampled_from(["1.50", "1e3", "-0", "0.1E-2", "123456789012345678901"]).map(Written)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Objects(SynchronousTestCase):
    def setUp(self) -> None:
        self.remarks: list[Remark] = []

    def of(self, **value: object) -> Tolerant:
        """An object at ``here``."""
        return Tolerant(value, "here", self.remarks)

    def said(self) -> str:
        """The only remark."""
        self.assertEqual(len(self.remarks), 1, self.remarks)
        return str(self.remarks[0])

    def test_what_is_right_is_taken(self) -> None:
        """Right values come as they are, and nothing is said about them."""
        found = self.of(t="x", w=7, n=1.5, f=True, o={"a": 1}, l=[{"b": 2}], s=["p", "q"], i=[1, 2])
        self.assertEqual(found.text("t"), "x")
        self.assertEqual(found.whole("w", 0, 0, 9), 7)
        self.assertEqual(found.number("n", 0), 1.5)
        self.assertIs(found.flag("f", False), True)
        inner = found.object("o")
        assert inner is not None
        self.assertEqual((inner.path, inner.whole("a", 0)), ("here.o", 1))
        self.assertEqual([each.path for each in found.objects("l")], ["here.l[0]"])
        self.assertEqual(found.texts("s"), ("p", "q"))
        self.assertEqual(found.wholes("i"), (1, 2))
        self.assertEqual(self.remarks, [])

    def test_absent_and_null_are_the_default(self) -> None:
        """What is not there, or null, is the default without a word."""
        found = self.of(t=None, o=None)
        self.assertEqual((found.text("t", "d"), found.whole("w", 3), found.flag("f", True)), ("d", 3, True))
        self.assertEqual((found.object("o"), found.objects("l"), found.texts("s")), (None, [], ()))
        self.assertEqual(self.remarks, [])

    def test_wrong_kinds(self) -> None:
        """A value of the wrong kind is replaced, and the remark says where, what was expected and what came."""
        found = self.of(t=1, w="7", n="x", f=1, o=[], l={}, s=["a", 2], i=[1, True, "3"])
        self.assertEqual(found.text("t", "d"), "d")
        self.assertEqual(found.whole("w", 3, 0, 9), 3)
        self.assertEqual(found.number("n", 1.5), 1.5)
        self.assertIs(found.flag("f", True), True)
        self.assertIsNone(found.object("o"))
        self.assertEqual(found.objects("l"), [])
        self.assertEqual(found.texts("s"), ("a",))
        self.assertEqual(found.wholes("i"), (1,))
        self.assertEqual(
            [str(each) for each in self.remarks],
            [
                'here.t: expected text in quotes, found 1; "d" is taken',
                'here.w: expected a whole number in 0–9, found "7"; 3 is taken',
                'here.n: expected a number, found "x"; 1.5 is taken',
                "here.f: expected true or false, found 1; true is taken",
                "here.o: expected an object in braces, found a list; it is left out",
                "here.l: expected a list in square brackets, found an object; it is left out",
                "here.s[1]: expected text in quotes, found 2; it is left out",
                "here.i[1]: expected a whole number, found true; it is left out",
                'here.i[2]: expected a whole number, found "3"; it is left out',
            ],
        )

    def test_out_of_range(self) -> None:
        """A number beyond its range is replaced too: 4 is no priority."""
        self.assertEqual(self.of(priority=4).whole("priority", 3, 0, 3), 3)
        self.assertEqual(self.said(), "here.priority: expected a whole number in 0–3, found 4; 3 is taken")

    def test_whole_numbers_written_with_a_point(self) -> None:
        """60.0 is 60; 60.5 is no whole number, nor is 1e999."""
        found = self.of(a=Written("60.0"), b=Written("60.5"), c=Written("1e999"))
        self.assertEqual([found.whole(key, -1) for key in "abc"], [60, -1, -1])
        self.assertEqual(found.number("c", 2.0), 2.0)
        self.assertEqual(len(self.remarks), 3)

    def test_secrets_are_not_repeated(self) -> None:
        """What is wrong with a secret is told without telling the secret."""
        self.of(key=123456).text("key", secret=True)
        self.assertNotIn("123456", self.said())

    def test_the_rest(self) -> None:
        """Keys that nobody asked for are what is left, in their order."""
        found = self.of(z=1, a=2, k=3)
        found.whole("a", 0)
        self.assertEqual(list(found.rest().items()), [("z", 1), ("k", 3)])

    def test_text_of_strangers(self) -> None:
        """What is repeated is short and printable."""
        self.assertEqual(shown_text("a\x1b[31mb"), "a�[31mb")
        self.assertEqual(len(shown_text("x" * 1000)), 40)

    def test_paths(self) -> None:
        """Odd keys stand in quotes."""
        self.assertEqual(child("", "a"), "a")
        self.assertEqual(child("a[0]", "b"), "a[0].b")
        self.assertEqual(child("a", "b c"), 'a["b c"]')

    def test_bounded_remarks(self) -> None:
        """A file of mistakes only is not told to the end."""
        found = self.of(s=[1] * (MAX_REMARKS + 100))
        found.texts("s")
        self.assertEqual(len(self.remarks), MAX_REMARKS + 1)
        self.assertIn("the rest are not told", str(self.remarks[-1]))


class Texts(SynchronousTestCase):
    def refused(self, data: str | bytes) -> MissionError:
        """The refusal of a text."""
        with self.assertRaises(MissionError) as caught:
            read_json(data, "m.json")
        self.assertIsInstance(caught.exception, RemoteError)
        self.assertTrue(str(caught.exception).startswith("m.json:"), str(caught.exception))
        return caught.exception

    def test_typographic_quotes(self) -> None:
        """A typographic quote is named with its line and column, whichever of a pair it is, and the plain one beside it."""
        for text, line, column in (
            ('{\n  “name”: "x"}', 2, 3),
            ('{"name”: "x"}', 1, 7),
            ('{"name": “x"}', 1, 10),
            ('{"name": "x", „a“: 1}', 1, 15),
            ('{"a": ["ok", ‘x’]}', 1, 14),
        ):
            error = self.refused(text)
            self.assertEqual((error.line, error.column), (line, column), text)
            self.assertIn('type the plain "', str(error))
            self.assertIn(text.splitlines()[line - 1][column - 1], TYPOGRAPHIC)

    def test_typographic_quotes_inside_text(self) -> None:
        """Inside of text they are text."""
        self.assertEqual(read_json('{"name": "the “best” one"}', "x"), {"name": "the “best” one"})

    def test_no_json(self) -> None:
        """What is no JSON is refused with its place and what to do."""
        for text, line, column, words in (
            ("", 1, 1, "empty"),
            ("  \n ", 2, 2, "empty"),
            ('{"a": 1,\n "b": 2,}', 2, 8, "comma too many"),
            ("{'a': 1}", 1, 2, "double quote"),
            ('{"a": 1} // x', 1, 10, "no comments"),
            ('{"a": /* x */ 1}', 1, 7, "no comments"),
            ('{"a": 1', 1, 8, "too early"),
            ('{"a" 1}', 1, 6, "':'"),
            ("hello", 1, 1, "no JSON"),
            ('{"a": "x\ty"}', 1, 9, "control character"),
        ):
            error = self.refused(text)
            self.assertEqual((error.line, error.column), (line, column), text)
            self.assertIn(words, str(error), text)

    def test_numbers_that_are_none(self) -> None:
        """NaN, Infinity and endless digits are refused."""
        for text in ("[NaN]", "[-Infinity]", f"[{'9' * 1000}]", f"[0.{'9' * 1000}]"):
            self.refused(text)

    def test_too_deep(self) -> None:
        """Deep nesting is refused with its place, before it is followed; brackets in text do not count."""
        deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
        read_json(deep, "x")
        error = self.refused("[" + deep + "]")
        self.assertEqual((error.line, error.column), (1, MAX_DEPTH + 1))
        self.refused("[" * 100_000)
        self.refused('{"a":' * 100_000)
        read_json('["' + "[" * 1000 + '", "\\"' + "{" * 1000 + '"]', "x")

    def test_too_large(self) -> None:
        """A text beyond the limit is refused without being looked at."""
        self.assertIn("at most", str(self.refused(b" " * (MAX_BYTES + 1))))

    def test_too_many_objects(self) -> None:
        """So many objects that making values of them would take long are refused before."""
        self.assertIn("objects", str(self.refused("[" + "{}," * MAX_OBJECTS + "{}]")))

    def test_unclosed_text_in_no_time(self) -> None:
        """A text of escaped quotes without an end is read once, not once per quote."""
        self.refused('"' + '\\"' * (MAX_BYTES // 2 - 10))

    def test_encodings(self) -> None:
        """UTF-8 with and without a byte order mark and UTF-16 are read; other bytes are refused with their place."""
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            self.assertEqual(read_json('{"a": "é"}'.encode(encoding), "x"), {"a": "é"})
        error = self.refused(b'{"a":\n "\xe9"}')
        self.assertEqual((error.line, error.column), (2, 3))
        self.assertIn("UTF-8", str(error))

    def test_doubled_keys(self) -> None:
        """A key that stands twice is told with its path; the last counts."""
        value = read_json('{"a": 1, "b": [{"c": 1, "c": 2, "c": 3}], "a": 4}', "x")
        assert isinstance(value, Doubled)
        self.assertEqual(value, {"a": 4, "b": [{"c": 3}]})
        self.assertEqual([each.path for each in doubled(value)], ["a", "b[0].c"])

    def test_numbers_as_written(self) -> None:
        """A number keeps its spelling until it is written again."""
        text = '{"a":1.50,"b":1e3,"c":-0,"d":123456789012345678901234567890,"e":7,"f":-2.5E-3}'
        self.assertEqual(write_json(read_json(text, "x")), text)

    def test_half_a_surrogate(self) -> None:
        """Text that no UTF-8 can hold is written as an escape."""
        self.assertEqual(write_json(read_json('"\\ud800é"', "x")), '"\\ud800\\u00e9"')

    @given(JSON, st.sampled_from([None, 2]))
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, value: object, indent: int | None) -> None:
        """What is written reads the same, to every reader."""
        text = write_json(value, indent)
        self.assertEqual(read_json(text, "x"), value)
        self.assertEqual(write_json(read_json(text, "x"), indent), text)
        json.loads(text)

    @given(st.text(alphabet='{}[]",:\\“‘ \nau1-.e/', max_size=60) | st.text(max_size=60))
    @settings(max_examples=200, deadline=None)
    def test_anything(self, text: str) -> None:
        """Any text is read, or refused by us."""
        try:
            read_json(text, "x")
        except MissionError as error:
            self.assertTrue(str(error))

    @given(st.binary(max_size=60))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are read, or refused by us."""
        try:
            read_json(data, "x")
        except MissionError as error:
            self.assertTrue(str(error))
