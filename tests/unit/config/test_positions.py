"""The scanner finds the line of every key that tomllib finds a value for."""

import contextlib
import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.config.positions import MAX_DEPTH, Path, scan

TRICKY = '''\
# a comment with = and [brackets]
top = 1
"quoted key" = "a # no comment"   # a comment
'literal.key' = '\\'
dotted . inner."x\\u0041" = true

[plain]
text = """
[not.a.table]
key = "not a key"  \\
""\\" still inside """
raw = \'\'\'
[[neither]]'' \'\'\'
four = """a quote at the end""""
list = [  # a comment ]
  "one, still one",
  [ 2, 3 ],  # nested
  { a = 1, b.c = [
     4 ] },

  5,
]
when = 1979-05-27 07:32:00
inline = { x = { y = "}" }, z = [] }

[[many]]
name = "first"
[many.below]
deep = 1
[[many.inner]]
[[many.inner]]
n = 2
[[many]]
name = "second"
[[many.inner]]
[ late . table ]
end = 1'''


def paths(value: Any, path: Path = ()) -> set[Path]:
    """The path of everything inside a parsed document."""
    found: set[Path] = {path} if path else set()
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        found |= paths(inner, (*path, key))
    return found


class Lines(SynchronousTestCase):
    def test_every_path(self) -> None:
        """Exactly the paths of the parsed document have a line."""
        self.assertEqual(set(scan(TRICKY).lines), paths(tomllib.loads(TRICKY)))

    def test_exact_lines(self) -> None:
        """Keys, elements, inline tables and arrays of tables are found on the line where they begin."""
        positions = scan(TRICKY)
        texts = TRICKY.split("\n")
        for path, start in [
            (("top",), "top"),
            (("dotted", "inner", "xA"), "dotted"),
            (("plain",), "[plain]"),
            (("plain", "raw"), "raw"),
            (("plain", "four"), "four"),
            (("plain", "list", 0), '  "one'),
            (("plain", "list", 1, 1), "  [ 2"),
            (("plain", "list", 2, "b", "c"), "  { a"),
            (("plain", "list", 2, "b", "c", 0), "     4"),
            (("plain", "list", 3), "  5"),
            (("plain", "when"), "when"),
            (("plain", "inline", "x", "y"), "inline"),
            (("many", 0, "below", "deep"), "deep"),
            (("many", 0, "inner", 1, "n"), "n = 2"),
            (("many", 1, "name"), 'name = "second"'),
            (("late", "table", "end"), "end"),
        ]:
            line = positions.lines[path]
            self.assertTrue(texts[line - 1].startswith(start), f"{path}: {texts[line - 1]!r}")

    def test_nearest(self) -> None:
        """What is not written stands where the nearest table around it does."""
        positions = scan("\n[a]\nb = 1")
        self.assertEqual(positions.line(("a", "c", "d")), 2)
        self.assertEqual(positions.line(("z",)), 1)

    def test_repeated(self) -> None:
        """A key or header given twice is told with both lines."""
        (again,) = scan("[a]\nx = 1\n\nx = 2").repeated
        self.assertEqual((again.path, again.line, again.first_line), (("a", "x"), 4, 2))
        (again,) = scan("[a]\n[b]\n[a]").repeated
        self.assertEqual((again.path, again.line, again.first_line), (("a",), 3, 1))

    def test_too_deep(self) -> None:
        """The scan ends at the first path of more parts than there may be, and says on which line."""
        within = ".".join("a" * MAX_DEPTH)
        for text in [f"\n{within} = 1", f"\n[{within}]", f"\n[{within[2:]}]\na = 1", f"\n[[{within[2:]}]]"]:
            self.assertEqual((scan(text).too_deep, len(max(scan(text).lines, key=len))), (0, MAX_DEPTH), text)
        for text in [
            f"\n{within}.a = 1",
            f"\n[ {within} . a ]",
            f"[{within}]\na = 1",
            f"\n[[{within}]]",
            f"\n{within[4:]} = {{ b = {{ c = {{ d = 1 }} }} }}",
            f"\n{within[2:]} = [[1]]",
        ]:
            self.assertEqual(scan(text).too_deep, 2, text)
            self.assertNotEqual(tomllib.loads(text), {})

    def test_cut_anywhere(self) -> None:
        """Text cut at any character is scanned without complaint."""
        for length in range(len(TRICKY)):
            scan(TRICKY[:length])

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_random_documents(self, data: st.DataObject) -> None:
        """Random documents of all of TOML's forms: the same paths as tomllib."""
        text = data.draw(documents())
        try:
            parsed = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return  # the pieces clash: a key given twice
        self.assertEqual(set(scan(text).lines), paths(parsed))

    @settings(max_examples=150, deadline=None)
    @given(st.text(alphabet="ab.=[]{},\"'\\#\n \t1-", max_size=60))
    def test_random_text(self, text: str) -> None:
        """Any text at all ends the scan quietly, and what tomllib accepts is followed to its end."""
        positions = scan(text)
        with contextlib.suppress(tomllib.TOMLDecodeError):
            parsed = tomllib.loads(text)
            self.assertEqual(set(positions.lines), paths(parsed))


def documents() -> st.SearchStrategy[str]:
    """TOML text put together from pieces."""
    keys = st.sampled_from(["a", "b-c", "d_1", '"q.\\"x"', "'l # k'", "a.b", 'c . "d"', "1"])
    blanks = st.sampled_from(["", " ", "\n", " # ] }\n", "\n\n\t"])
    scalars = st.sampled_from(
        [
            "1",
            "-0.5e3",
            "true",
            "inf",
            "07:32:00",
            "1979-05-27 07:32:00Z",
            '"a\\"]#"',
            "'x\\'",
            '""',
            '"""\n"\\"""""""',
            "'''\n[a]\n''''''''",
        ]
    )

    def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        element = st.tuples(blanks, values, blanks).map("".join)
        lists = st.lists(element, max_size=3).map(lambda each: "[" + ",".join(each) + "]")
        pairs = st.tuples(keys, values).map(" = ".join)
        return lists | st.lists(pairs, max_size=2).map(lambda each: "{ " + ", ".join(each) + " }")

    values = st.recursive(scalars, arrays, max_leaves=6)
    assignments = st.tuples(keys, values).map(lambda pair: f"{pair[0]} = {pair[1]}")
    headers = keys.map(lambda key: f"[{key}]") | keys.map(lambda key: f"[[{key}]]")
    lines = assignments | headers | st.just("# [x]") | st.just("")
    return st.lists(lines, max_size=10).map("\n".join)
