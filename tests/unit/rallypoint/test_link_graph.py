"""The link graph: documented forms, the whole mesh, and names that would like to be more than names."""

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.rallypoint import link_graph as module
from ice.rallypoint.link_graph import CORE_STYLE, LEAF_STYLE, Style, link_graph, quoted
from tests.unit.rallypoint.mesh_network import id_of
from tests.unit.rallypoint.peers import HERE, linked, square, waiting

#: One line of a graph as we write it: an id, perhaps another after an arrow, perhaps attributes.
ID = r'"(?:[^"\\\n]|\\["\\])*"'
LINE = re.compile(rf'(?P<one>{ID})(?:->(?P<other>{ID}))?(?P<style>\[(?:[^\[\]"]|"(?:[^"\\]|\\.)*")*\])?\Z')


def lines(text: str) -> list[str]:
    """The lines between the first and the last."""
    first, *inner, last, end = text.split("\n")
    assert re.fullmatch(rf"strict digraph {ID} {{", first), first
    assert (last, end) == ("}", ""), text[-20:]
    return inner


def name(index: int) -> str:
    """A Rallypoint as it stands in the graph."""
    return f'"{id_of(index)}"'


class GraphTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mesh = square().nodes[0].mesh
        self.peers = [linked(1), linked(3, leaf=True), waiting(9)]

    def drawn(self, style: Style = Style(), **more: Any) -> list[str]:  # noqa: B008  # a frozen value
        """The lines of the graph."""
        return lines(link_graph(HERE, self.peers, self.mesh, style, **more))

    def test_documented_forms(self) -> None:
        """Node, linked, not linked, client."""
        found = self.drawn(clients=["192.0.2.77:4711"])
        ours = CORE_STYLE[:-1] + " peripheries=2]"
        for line in (
            name(0) + ours,
            name(1) + CORE_STYLE,
            name(2) + CORE_STYLE,
            name(3) + LEAF_STYLE,
            name(9) + CORE_STYLE,
            f"{name(0)}->{name(9)}[style=dotted arrowhead=o]",
            f'"192.0.2.77:4711"->{name(0)}[dir=none]',
        ):
            self.assertIn(line, found)
        for line in found:
            self.assertRegex(line, LINE)

    def test_the_whole_mesh(self) -> None:
        """Every link of the square, ours or not, once, from the lower UUID."""
        edges = {
            (m["one"], m["other"]) for m in map(LINE.match, self.drawn()) if m and m["style"] == "[dir=none]"
        }
        pairs = [(0, 1), (1, 2), (2, 3), (0, 3)]
        self.assertEqual(edges, {tuple(sorted((name(a), name(b)))) for a, b in pairs})

    def test_it_begins_as_documented(self) -> None:
        """With our id; without the enclosure there are lines only."""
        text = link_graph(HERE, self.peers, self.mesh)
        self.assertTrue(text.startswith(f"strict digraph {name(0)} {{\n"), text[:80])
        bare = link_graph(HERE, self.peers, self.mesh, Style(enclosed=False))
        self.assertEqual(bare.split("\n")[:-1], lines(text))

    def test_the_same_mesh_is_the_same_text(self) -> None:
        """Whatever was measured since: the file is written when the mesh has changed."""
        before = self.drawn()
        link = next(iter(self.mesh.neighbours)).link
        self.mesh.set_round_trip(link, 0.5, 1e6)
        self.assertEqual(self.drawn(), before)

    def test_what_one_end_only_says(self) -> None:
        """A link that the other end does not confirm is dotted."""
        network = square()
        network.cut(1, 2, notice=0.0)
        network.run(0.005)  # 1 and 2 know, and nobody else does
        self.mesh = network.nodes[1].mesh
        self.peers = []
        found = self.drawn()
        self.assertIn(f"{name(2)}->{name(1)}[style=dotted arrowhead=o]", found)
        self.assertNotIn(f"{name(1)}->{name(2)}[dir=none]", found)

    def test_a_link_that_stands_and_is_not_announced_yet(self) -> None:
        """It is drawn as linked: we see it."""
        self.peers = [linked(2)]
        self.assertIn(
            "[dir=none]", next(line for line in self.drawn() if name(0) in line and name(2) in line)
        )

    def test_details(self) -> None:
        """Names, costs, round trips; a UUID that two have is marked."""
        self.mesh.set_round_trip(next(n.link for n in self.mesh.neighbours if n.id == id_of(1)), 0.0125, 1e6)
        self.mesh._twins.add(id_of(1))
        text = "\n".join(self.drawn(Style(details=True)))
        self.assertIn(rf'label="rp1\n{str(id_of(1))[:18]}\nTWINS', text)
        self.assertIn('label="12.5 ms"', text)
        self.assertRegex(text, r'tooltip="(north – rp1|rp1 – north), cost 10, 12\.5 ms"')
        self.assertIn(', not linked"', text)
        self.assertIn('peripheries=2 label="north', text)
        self.assertEqual(text.count("fontcolor=white"), 4, "of the core, as it is drawn by default")
        self.assertEqual(len(set(re.findall(r'pos="[-0-9.,]+!"', text))), 5, "everybody has a place")

    def test_costs(self) -> None:
        """They are written where there are several; in a crowd under the pointer only."""
        self.peers = [linked(2, cost=300)]
        text = "\n".join(self.drawn(Style(details=True)))
        self.assertIn('label="cost 10"', text)
        self.assertIn(r'label="cost 300\n12.5 ms"', text)
        self.patch(module, "MAX_LABELS", 2)
        text = "\n".join(self.drawn(Style(details=True)))
        self.assertNotIn('label="cost', text)
        self.assertIn("cost 300, 12.5 ms", text)

    def test_styles(self) -> None:
        """As the settings have them; none is none."""
        found = self.drawn(Style(core="[color=red]", leaf="", client="[color=blue]"), clients=["1.2.3.4:5"])
        self.assertIn(name(1) + "[color=red]", found)
        self.assertIn(name(3), found)
        self.assertIn(name(0) + "[color=red peripheries=2]", found)
        self.assertIn(f'"1.2.3.4:5"->{name(0)}[color=blue]', found)

    def test_it_is_bounded(self) -> None:
        """Of more links than can be seen in a picture some are drawn, and the number of the others is told."""
        self.patch(module, "MAX_EDGES", 2)
        found = self.drawn()
        self.assertEqual(sum("->" in line for line in found), 2)
        self.assertEqual(found[-1], "// 3 links are not drawn")

    def test_without_a_mesh(self) -> None:
        """Ourselves alone."""
        self.assertEqual(lines(link_graph(HERE, [], None)), [name(0) + CORE_STYLE[:-1] + " peripheries=2]"])


class QuotingTests(SynchronousTestCase):
    def test_what_would_end_a_quoted_name(self) -> None:
        """Quotes, backslashes at the end, line breaks, text that runs backwards."""
        for text, written in (
            ('a"b', r'"a\"b"'),
            ("a\\", r'"a\\"'),
            ('a\\"', r'"a\\\""'),
            ("a\nb\0c", '"a?b?c"'),
            ("a\u202eb", '"a?b"'),
            ("<b>", '"<b>"'),
            ("", '""'),
        ):
            self.assertEqual(quoted(text), written)

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=300) | st.text('"\\\n]->[;{}&<N', max_size=80))
    def test_no_name_is_more_than_a_name(self, hostile: str) -> None:
        """Whatever a Rallypoint calls itself, each line stays one node or one edge with the attributes we gave it."""
        peers = [linked(1, name=hostile), linked(2, name=hostile)]
        found = lines(link_graph(HERE, peers, None, Style(details=True), [hostile]))
        self.assertEqual(len(found), 3 + 1 + 2)
        for line in found:
            match = LINE.match(line)
            assert match is not None, line
            outside = re.sub(ID.replace(r'["\\]', "."), "", match["style"] or "")
            self.assertRegex(outside, r"\A\[[a-z0-9= ]*\]\Z")

    def test_entities_are_text(self) -> None:
        """Graphviz reads HTML entities in labels: they are written out."""
        text = link_graph(HERE, [linked(1, name="&lt;script&gt;")], None, Style(details=True))
        self.assertIn(r'label="&amp;lt;script&amp;gt;\n', text)
