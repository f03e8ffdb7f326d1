"""Groups on paper: scripts, timelines, pictures."""

import itertools
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.election.decisions import State
from ice.election.picture import draw, spans
from ice.election.rules import Quorum
from ice.election.script import VERBS, play, read_script
from ice.election.simulate import OFF, World
from ice.errors import LocalError
from tests.unit.election.groups import group

SCRIPT = """
# seconds what
3c     kill   a       # cycles
60     start  a
90     freeze b 15
120    cut    a>b c-a
125    heal
130    partition ab c
140    heal
150    clock  c 3600
160    loss   20
165    delay  50
170    disable a
175    enable a
180    order  cba
190    unready c
195    empty  c
197    ready  c
198    freeze b
199    wake   b
200    stop   c
204    loss   0
"""


class Scripts(SynchronousTestCase):
    def test_whole(self) -> None:
        """Every step can be written, is in its order, and happens."""
        steps = read_script(reversed(SCRIPT.splitlines()), "abc", 10.0)
        self.assertEqual({step.verb for step in steps}, set(VERBS))
        self.assertEqual((steps[0].at_s, steps[0].text), (30.0, "kill a"))
        world = World(group(), wire=True)
        world.start()
        play(world, steps)
        world.run(300)
        self.assertEqual(
            [entry.what for entry in world.timeline if not entry.who], [step.text for step in steps]
        )
        self.assertEqual((world.forwarding(), world.overlaps), (["b"], []))

    def test_mistakes(self) -> None:
        """A mistake is told with its line."""
        for line, words in (
            ("kill a", "expected a moment"), ("x kill a", "expected a number"), ("-1 kill a", "no moment"), ("nan kill a", "expected a number"),
            ("1 kill", "letters of members"), ("1 kill z", "there is no member z"), ("1 murder a", "one of "), ("1 freeze a x", "expected a number"),
            ("1 cut ab", "one way"), ("1 cut", "ways like"), ("1 heal a", "takes no words"), ("1 loss 101", "0 to 100"), ("1 order ab", "every member once"),
            ("1 partition", "letters"), ("1 clock a", "one number"), ("1 delay", "one number"),
        ):  # fmt: skip
            error = str(self.assertRaises(LocalError, read_script, ["", line], "abc", 10.0))
            self.assertIn("line 2: ", error)
            self.assertIn(words, error)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.text("0123456789 abckilstr.#>-e", max_size=20), max_size=3))
    def test_anything(self, lines: list[str]) -> None:
        """Whatever is written, it is a script or a mistake with its line."""
        try:
            steps = read_script(lines, "abc", 10.0)
        except LocalError as error:
            self.assertIn("line ", str(error))
        else:
            self.assertLessEqual(len(steps), len(lines))


class Pictures(SynchronousTestCase):
    def world(self) -> World:
        world = World(group(3, Quorum.NONE))
        world.start()
        play(world, read_script(["40 partition a bc", "90 kill c"], "abc", 10.0))
        world.run(120)
        return world

    def test_spans(self) -> None:
        """A member's states follow each other without gaps, from the beginning to the end."""
        world = self.world()
        for id in "abc":
            found = list(spans(world, id))
            self.assertEqual((found[0][0], found[-1][1]), (0.0, 120.0))
            self.assertTrue(all(one[1] == other[0] for one, other in itertools.pairwise(found)))
        self.assertEqual(
            [state for _, _, state in spans(world, "c")], [State.GETTING_READY, State.NOT_WINNER, OFF]
        )

    def test_files(self) -> None:
        """SVG that is XML, with every mishap, and two leaders in red; PNG; no other ending."""
        folder = Path(self.mktemp())
        folder.mkdir()
        world = self.world()
        self.assertTrue(world.overlaps)
        draw(folder / "a.svg", world)
        text = (folder / "a.svg").read_text("utf-8")
        words = [each.text for each in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
        for each in ("A", "partition a bc", "kill c", "two lead"):
            self.assertIn(each, words)
        self.assertEqual(text.count("#d01c1f"), 2 * (1 + len(world.overlaps)))
        draw(folder / "a.png", world)
        self.assertEqual((folder / "a.png").read_bytes()[:4], b"\x89PNG")
        self.assertRaises(LocalError, draw, folder / "a.gif", world)
        self.assertRaises(LocalError, draw, folder / "none" / "a.svg", world)
