"""``ice status --mesh`` and ``ice trace`` against answers of every kind."""

import io
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from click.testing import CliRunner, Result
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from ice.cli import mesh as module
from ice.cli import status as status_module
from ice.cli.mesh import show_mesh, trace, tree_lines, whole
from ice.cli.status import status
from ice.errors import RemoteError
from ice.rallypoint.mesh_view import status_document, trace_document
from tests.unit.rallypoint.mesh_network import id_of
from tests.unit.rallypoint.peers import HERE, ally, linked, square, waiting


def answer(**changes: Any) -> dict[str, Any]:
    """A mesh status as a daemon gives it."""
    peers = [linked(1, inbound=True), linked(3, name="red[bold]\x1b[2J", leaf=True), waiting(2), waiting(9)]
    told = json.loads(json.dumps(status_document(HERE, peers, square().nodes[0].mesh)))
    assert isinstance(told, dict)
    return told | changes


def shown(told: dict[str, Any], *, terminal: bool = False, width: int = 220) -> str:
    """What is printed."""
    out = io.StringIO()
    show_mesh(told, Console(file=out, width=width, force_terminal=terminal, color_system=None))
    return out.getvalue()


class MeshTests(SynchronousTestCase):
    def test_a_person_sees(self) -> None:
        """Links with state, direction, role, cost, round trip and traffic; why one is missing; how it is reached."""
        for terminal in (False, True):
            said = shown(answer(), terminal=terminal)
            for words in (
                "mesh of north (core): ACTIVE: 1 inbound peers, 1 outbound peers",
                "links are wanted with: 4",
                "linked in ",
                "linked out ",
                "leaf",
                "12.5 ms",
                "connection refused (7 failures)",
                "without a link: 2",
                f"rp1 {str(id_of(1))[:18]}",
                "not at all",
                "floods:",
                "packets:",
            ):
                self.assertIn(words, said)

    def test_other_organisations(self) -> None:
        """With what comes in and goes out, and what they do not grant; also where there is no mesh of our own."""
        allies = [ally(7), ally(8, refused=("'secret': not in their list",), failures=2)]
        said = shown(json.loads(json.dumps(status_document(HERE, [], None, None, allies))))
        for words in (
            "other organisations: 2",
            "county",
            "far7",
            "dispatch",
            "fireground",
            "'secret': not in their list",
        ):
            self.assertIn(words, said)
        self.assertIn("no other Rallypoint of ours", said)

    def test_names_are_text(self) -> None:
        """Never markup, and nothing that a terminal obeys."""
        for terminal in (False, True):
            said = shown(answer(), terminal=terminal)
            self.assertIn("red[bold]�[2J", said)
            self.assertNotIn("\x1b[2J", said)

    def test_piped(self) -> None:
        """Plain lines, one a row, uncut, with a dash where there is nothing, so that columns can be counted."""
        said = shown(answer(name="x" * 300))
        row = next(line for line in said.splitlines() if str(id_of(9))[:18] in line)
        self.assertTrue(row.startswith("  -  "), row)
        self.assertIn("x" * 300, said)
        self.assertNotIn("─", said)

    def test_a_narrow_terminal(self) -> None:
        """Rows stay one line each; what has no room in the table stands below it."""
        said = shown(answer(), terminal=True, width=80)
        lines = [line.strip() for line in said.splitlines()]
        row = next(line for line in lines if line.startswith("rp1 "))
        self.assertIn("12.5 ms", row)
        below = f"{str(id_of(9))[:18]}: rp9.example.org:7443; connection refused (7 failures)"
        self.assertIn(below, lines)
        self.assertIn(f"rp1: {str(id_of(1))[:18]}; 192.0.2.1:7443", lines)
        for width in (1, 20, 40, 60, 100, 140):
            shown(answer(), terminal=True, width=width)

    def test_others_in_the_mesh(self) -> None:
        """Those that no link is wanted with are listed too."""
        told = answer()
        told["peers"] = told["peers"][:1]
        told["detours"] = []
        self.assertIn("others in the mesh: 2", shown(told))

    def test_twins(self) -> None:
        """They are named first."""
        self.assertIn(
            f"TWINS: two Rallypoints run with the id {id_of(2)}", shown(answer(twins=[str(id_of(2))]))
        )

    def test_refusals(self) -> None:
        """By reason; what did not happen is not told."""
        said = shown(answer(floods={"sent": 1, "accepted": 2, "refused": {"forged": 3, "stale": 0}}))
        self.assertIn("1 sent, 2 believed; refused: 3 forged\n", said)

    def test_without_a_mesh(self) -> None:
        """It says where others would be configured."""
        told = json.loads(json.dumps(status_document(HERE, [], None)))
        self.assertIn("[[groups]]", shown(told))
        self.assertTrue(whole(told))

    def test_other_versions(self) -> None:
        """What an older or newer daemon does not tell, or tells otherwise, is left out."""
        shown({})
        shown(
            {
                "mesh": 7,
                "peers": [{}, 3],
                "detours": [{}],
                "reach": [{}],
                "twins": 7,
                "floods": {},
                "relays": {},
            }
        )
        shown(
            {
                "peers": [{"failures": "x", "id": [1]}],
                "reach": [{"id": {}}],
                "floods": {"refused": {"a": None}},
            }
        )

    def test_whole(self) -> None:
        """A detour is none the worse; who is not reached, twins, an unhealthy or stopping Rallypoint are."""
        told = answer(detours=[{"reached": True}])
        self.assertTrue(whole(told))
        for changes in (
            {"detours": [{"reached": False}]},
            {"twins": ["x"]},
            {"state": "unhealthy"},
            {"active": False},
        ):
            self.assertFalse(whole(told | changes), changes)

    def test_command(self) -> None:
        """--mesh asks /mesh; the exit status is that of the mesh; --json is the daemon's own answer."""
        asked: list[str] = []
        told = answer()

        def fetch(url: str, **_: Any) -> dict[str, Any]:
            asked.append(url)
            return told

        self.patch(status_module, "fetch_object", fetch)
        result = self.ask("--url", "http://x:1/", "--mesh", "--json")
        self.assertEqual(
            (asked, result.return_value, json.loads(result.output)), (["http://x:1/mesh"], 1, told)
        )
        told["detours"] = []
        result = self.ask("--url", "http://x:1", "--mesh")
        self.assertEqual(result.return_value, 0)
        self.assertIn("mesh of north", result.output)

    def ask(self, *arguments: str) -> Result:
        """The command."""
        return CliRunner().invoke(status, list(arguments), standalone_mode=False)


class TraceTests(SynchronousTestCase):
    def setUp(self) -> None:
        mesh = square().nodes[0].mesh
        for index, seconds in ((1, 0.018), (3, 0.004)):
            link = next(neighbour.link for neighbour in mesh.neighbours if neighbour.id == id_of(index))
            mesh.set_round_trip(link, seconds, 1e6)
        document = trace_document(HERE, [linked(1), linked(3)], mesh, "alpha")
        self.told: dict[str, Any] = json.loads(json.dumps(document))

    def test_tree(self) -> None:
        """Every hop below the one it comes from, with its delay; what is not measured is not guessed."""
        lines = tree_lines(self.told)
        peer = {index: str(id_of(index))[:18] for index in range(4)}
        self.assertEqual(lines[0], f"'alpha' from north {peer[0]}  [asked]")
        self.assertEqual(len(lines), 4)
        self.assertIn(f"rp3 {peer[3]}  [listens, cost 10, 2.0 ms]", lines[1] + lines[3])
        passing = next(
            n for n, line in enumerate(lines) if f"rp1 {peer[1]}  [passes on, cost 10, 9.0 ms]" in line
        )
        self.assertRegex(
            lines[passing + 1], rf"\A(│  |   )└─ {peer[2]}  \[listens, cost 10, delay not known\]\Z"
        )

    def test_delays_add_up(self) -> None:
        """From the root; after a hop that nobody has measured there is no sum."""
        chain = [
            {"id": str(n), "parent": str(n - 1), "peer_id": str(n), "wants": True, "cost": 1, "rtt_ms": rtt}
            for n, rtt in ((1, 10.0), (2, 20.0), (3, None), (4, 30.0))
        ]
        lines = tree_lines(
            {"stream": "s", "from": {"id": "0", "peer_id": "0"}, "hops": chain}, ascii_only=True
        )
        self.assertEqual(
            lines[1:],
            [
                "`- 1  [listens, cost 1, 5.0 ms]",
                "   `- 2  [listens, cost 1, 10.0 ms, from the root 15.0 ms]",
                "      `- 3  [listens, cost 1, delay not known]",
                "         `- 4  [listens, cost 1, 15.0 ms]",
            ],
        )

    def test_nobody(self) -> None:
        """An empty tree is said; who is not reached is named."""
        self.assertEqual(tree_lines(self.told | {"hops": []})[1], "nobody else wants it")
        lines = tree_lines(self.told | {"not_reached": [{"peer_id": "zzz", "name": "far"}]})
        self.assertEqual(lines[-1], "not reached: far zzz")

    def test_other_answers(self) -> None:
        """Nothing in an answer makes it fail: circles, missing parts, an endless chain, terminal codes."""
        tree_lines({})
        tree_lines({"from": 7, "hops": 7, "not_reached": [7]})
        tree_lines({"from": {"id": "a"}, "hops": [{"id": "b", "parent": "a"}, {"id": "a", "parent": "b"}]})
        chain = [{"id": str(n + 1), "parent": str(n)} for n in range(5_000)]
        self.assertLess(len(tree_lines({"from": {"id": "0"}, "hops": chain})), 100)
        self.assertNotIn("\x1b", "".join(tree_lines({"stream": "\x1b[2J", "from": {"name": "\x1b"}})))

    def test_command(self) -> None:
        """It asks with the stream and the start written as a query; the exit status says whether all are reached."""
        asked: list[str] = []

        def fetch(url: str, **_: Any) -> dict[str, Any]:
            asked.append(url)
            return self.told

        self.patch(module, "fetch_object", fetch)
        result = self.ask("Größe & x", "--from", "rp 1", "--url", "http://x:1/")
        self.assertEqual(result.return_value, 0, result.output)
        self.assertIn("'alpha' from north", result.output)
        parts = urlsplit(asked[0])
        self.assertEqual(
            (parts.path, parse_qs(parts.query)), ("/trace", {"stream": ["Größe & x"], "from": ["rp 1"]})
        )
        self.told["not_reached"] = [{"peer_id": "x"}]
        result = self.ask("alpha", "--url", "http://x:1", "--json")
        self.assertEqual((result.return_value, json.loads(result.output)), (1, self.told))

    def test_refused(self) -> None:
        """What the daemon answers in words is said in its words."""

        def fetch(url: str, **_: Any) -> dict[str, Any]:
            raise RemoteError(f"{url} answers 400: no such Rallypoint")

        self.patch(module, "fetch_object", fetch)
        self.assertIsInstance(self.ask("alpha", "--url", "http://x:1").exception, RemoteError)

    def ask(self, *arguments: str) -> Result:
        """The command."""
        return CliRunner().invoke(trace, list(arguments), standalone_mode=False)
