"""The house's own rules, held against the source of every module: layers, circles, the reactor, names and sizes.

The layers are told once, in :data:`LAYERS`, by the place of a file; a new module finds its layer by where it stands. An import
may go to the same layer or further down, never up, and never round in a circle.
"""

import ast
import fnmatch
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]

LAYERS = [
    # The first pattern that fits a module's dotted name tells its layer. What is named nowhere is an engine, held to be pure:
    # who drives engines from sockets and clocks is written down here.
    ("commands", ["ice.cli", "ice.cli.*", "ice.__main__", "twisted.plugins.*"]),
    ("daemons", ["ice.daemons", "ice.daemons.*", "ice.testing", "ice.testing.*"]),
    ("services", ["ice.*.service", "ice.rallypoint.door", "ice.rallypoint.guest", "ice.rallypoint.house"]),
    ("services", ["ice.rallypoint.backbone", "ice.rallypoint.dialout", "ice.rallypoint.federation"]),
    ("services", ["ice.rallypoint.mesh_metrics", "ice.rallypoint.peering_watch", "ice.rallypoint.reports"]),
    ("services", ["ice.streams.connect", "ice.streams.connection", "ice.streams.dialling"]),
    ("services", ["ice.rallypoint.status", "ice.streams.memory", "ice.streams.rallypoint"]),
    ("services", ["ice.streams.failover_network", "ice.streams.nowhere"]),
    ("services", ["ice.streams.team", "ice.streams.team_groups"]),
    ("services", ["ice.streams.multicast"]),
    ("services", ["ice.streams.presence"]),
    ("services", ["ice.election.connect", "ice.election.metrics", "ice.election.satellite"]),
    ("services", ["ice.election.share", "ice.election.transports", "ice.election.wheel"]),
    (
        "services",
        ["ice.reflector.elected", "ice.reflector.status", "ice.reflector.stream", "ice.reflector.snooping"],
    ),
    ("services", ["ice.reflector.recorder"]),
    ("services", ["ice.patch.control", "ice.patch.elected", "ice.patch.joint", "ice.patch.status"]),
    (
        "services",
        [
            "ice.telephony.ari_door",
            "ice.telephony.ari_link",
            "ice.telephony.asterisk",
            "ice.telephony.audiosocket_server",
            "ice.telephony.connect",
            "ice.telephony.control",
            "ice.telephony.loopback_trunk",
            "ice.telephony.mailroom",
        ],
    ),
    ("services", ["ice.telephony.seams", "ice.telephony.sound", "ice.telephony.status"]),
    ("services", ["ice.telephony.lobby", "ice.telephony.phone"]),
    ("mechanisms", ["ice.patch.channels", "ice.patch.store"]),  # know our configuration, and the disk
    ("mechanisms", ["ice.telephony.wanted", "ice.telephony.believed"]),  # know our configuration
    ("ground", ["ice", "ice.errors", "ice.net.addresses", "ice.printable"]),
    ("mechanisms", ["ice.net", "ice.net.*", "ice.config", "ice.config.*", "ice.observe", "ice.observe.*"]),
    ("mechanisms", ["ice.security.contexts"]),  # speaks Twisted's TLS interfaces
    ("mechanisms", ["ice.engage.compose", "ice.engage.merge"]),  # know our configuration
    ("mechanisms", ["ice.reflector.rules"]),  # likewise
    (
        "codecs",
        [
            "ice.link.frame",
            "ice.link.message",
            "ice.link.naming",
            "ice.link.peer",
            "ice.media.rtp",
            "ice.media.g711",
        ],
    ),
    ("engines", ["ice.*"]),
]
HEIGHT = {"ground": 0, "codecs": 1, "engines": 2, "mechanisms": 3, "services": 4, "daemons": 5, "commands": 6}
PURE = {"ground", "codecs", "engines"}
MAY_FETCH_REACTOR = ["ice.daemons.*", "ice.cli.*"]  # inside a function, when it assembles
MAX_LINES = 600
VAGUE = re.compile(
    r"(?:^|_)(?:manager|handler|helper|util)s?(?:_|$)|(?:Manager|Handler|Helper|Util)s?(?:[A-Z]|$)"
)


@cache
def modules() -> dict[str, Path]:
    """Every module of the package and our plugin file, by dotted name."""
    found = {}
    for path in [*(ROOT / "ice").rglob("*.py"), *(ROOT / "twisted" / "plugins").glob("ice_*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    """The module, parsed."""
    return ast.parse(modules()[name].read_text("utf-8"))


def layer(name: str) -> str:
    """The layer where a module stands."""
    return next(title for title, patterns in LAYERS if any(fnmatch.fnmatchcase(name, p) for p in patterns))


def imported(node: ast.AST) -> Iterator[str]:
    """The dotted names that an import statement may mean: ``from a import b`` is a, or a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def ours(name: str) -> frozenset[str]:
    """The modules of ours that this one imports, anywhere in its text."""
    found = set()
    for node in ast.walk(tree(name)):
        for target in imported(node):
            while target and target not in modules():
                target = target.rpartition(".")[0]
            if target:
                found.add(target)
    return frozenset(found - {name})


def at_module_level(node: ast.AST) -> Iterator[ast.AST]:
    """What is executed when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_module_level(child)


class Layers(SynchronousTestCase):
    def test_direction(self) -> None:
        """Imports go sideways or down."""
        wrong = [
            f"{name} ({layer(name)}) imports {target} ({layer(target)})"
            for name in modules()
            for target in ours(name)
            if HEIGHT[layer(target)] > HEIGHT[layer(name)]
        ]
        self.assertEqual(wrong, [])

    def test_no_circles(self) -> None:
        """No module imports itself by way of others, not even inside a function."""
        done: set[str] = set()
        circles: list[str] = []

        def visit(name: str, way: list[str]) -> None:
            if name in way:
                circles.append(" -> ".join([*way[way.index(name) :], name]))
            elif name not in done:
                for target in sorted(ours(name)):
                    visit(target, [*way, name])
                done.add(name)

        for name in sorted(modules()):
            visit(name, [])
        self.assertEqual(circles, [])

    def test_pure_modules_bring_no_reactor(self) -> None:
        """In a fresh interpreter, importing all that is pure brings no part of twisted.internet along."""
        names = sorted(name for name in modules() if layer(name) in PURE)
        self.assertIn("ice.link.session", names)
        script = (
            "import importlib, sys\n"
            "for name in sys.argv[1:]:\n"
            "    importlib.import_module(name)\n"
            "    if 'twisted.internet' in sys.modules: sys.exit(f'{name} brings twisted.internet')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, *names], check=False, cwd=ROOT, capture_output=True, text=True
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_reactor_is_given(self) -> None:
        """Nobody takes the global reactor while being imported; inside a function only who assembles does."""
        wrong = []
        for name in modules():
            early = set(map(id, at_module_level(tree(name))))
            for node in ast.walk(tree(name)):
                for target in imported(node):
                    if target != "twisted.internet.reactor":
                        continue
                    if id(node) in early:
                        wrong.append(f"{name}: at module level")
                    elif not any(fnmatch.fnmatchcase(name, p) for p in MAY_FETCH_REACTOR):
                        wrong.append(f"{name}: takes it, and is not ice.daemons or ice.cli")
        self.assertEqual(wrong, [])


class Habits(SynchronousTestCase):
    def test_sizes(self) -> None:
        """A file that needs a table of contents is two files."""
        sizes = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules().items()}
        self.assertEqual({name: size for name, size in sizes.items() if size > MAX_LINES}, {})

    def test_docstrings(self) -> None:
        """Every module that says anything begins by saying what it is."""
        bare = [name for name in modules() if tree(name).body and not ast.get_docstring(tree(name))]
        self.assertEqual(bare, [])

    def test_names(self) -> None:
        """No module, class or function is called manager, handler, helper or util."""
        vague = [
            f"{name}: {node.name}"
            for name in modules()
            for node in ast.walk(tree(name))
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and VAGUE.search(node.name)
        ]
        vague += [name for name in modules() if VAGUE.search(name.rpartition(".")[2])]
        self.assertEqual(vague, [])

    def test_finished(self) -> None:
        """Nothing is left to do in the source."""
        mark = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
        self.assertEqual(
            [name for name, path in modules().items() if mark.search(path.read_text("utf-8"))], []
        )

    def test_plugin_folder_is_shared(self) -> None:
        """No __init__.py in twisted/: one such file hides every other project's plugins."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_metrics_are_explained(self) -> None:
        """Whoever reads a metric's name in an alarm finds it in docs/operation.md."""
        page = (ROOT / "docs" / "operation.md").read_text("utf-8")
        source = modules()["ice.rallypoint.status"].read_text("utf-8")
        names = re.findall(r'begin \+ "([a-z_]+)"', source)
        self.assertIn("links", names)
        missing = [name for name in names if not re.search(rf"(?:ice_rallypoint_|…_){name}\b", page)]
        self.assertEqual(missing, [])
