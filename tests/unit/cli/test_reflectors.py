"""``ice status --reflectors``: what a person reads of what a reflector tells."""

import io
from typing import Any

from click.testing import CliRunner
from rich.console import Console

from ice.cli.pages import site
from ice.cli.reflectors import show_reflectors
from ice.cli.status import status
from ice.errors import LocalError
from ice.net.addresses import Address
from ice.reflector.status import status_of
from tests.unit.reflector.test_service import Case
from tests.unit.reflector.world import rtp


def shown(answer: Any) -> str:
    """What is written."""
    out = io.StringIO()
    show_reflectors(answer, Console(file=out, width=200, color_system=None))
    return out.getvalue()


class ReflectorsTests(Case):
    def test_a_real_answer(self) -> None:
        """Rules with their state, counts and talkers; who floods; what is changed."""
        begin = "[reflector]\nsender_packets_per_s = 100\n"
        plan = self.plan(
            self.rule(more="strip_extensions = true"), self.rule("two", "239.1.1.2:5000"), begin=begin
        )
        reflector = self.started(plan)
        self.wires[0].hear(rtp(1), rtp(3))
        self.wires[0].hear(*(rtp(n, ssrc=3) for n in range(100)), sender=Address("10.0.0.66", 9))
        self.wires[1].stand(False, "eth0 is down")
        said = shown(status_of(reflector))
        for words in (
            "ice-reflector is active, not ready: rule 2 (239.1.1.2:5000 <-> two): eth0 is down",
            "rules: 2",
            "239.1.1.1:5000 on eth0",
            "closed",
            "RTP header extensions are taken out towards the group",
            "10.0.0.66 sends too much: 50 of 100 dropped",
            "10.0.0.1 talks on the group: 2 packets, 1 lost, jitter",
            "dropped: 50 limited",
        ):
            self.assertIn(words, " ".join(said.split()), said)

    def test_strange_answers(self) -> None:
        """Of what is missing or of another kind nothing is made up, and nothing that a terminal would obey is written."""
        for answer in (
            {},
            {"rules": None},
            {"rules": [7]},
            {"rules": [{}]},
            {"rules": [{"in": 5, "talkers": 5}]},
        ):
            shown(answer)
        said = shown({"rules": [{"stream": "\x1b[2J", "warnings": ["\x1b]0;x\x07", 5]}]})
        self.assertNotIn("\x1b", said)

    def test_command(self) -> None:
        """Where nobody answers it says so; it is one or the other page."""
        result = CliRunner().invoke(status, ["--reflectors", "--mesh"])
        self.assertEqual(result.exit_code, 2)
        (self.folder / "ice.toml").write_text('[reflector.http]\nlisten = "127.0.0.1:7499"\n')
        self.assertEqual(site(self.folder / "ice.toml", None, "reflector"), "http://127.0.0.1:7499")
        (self.folder / "ice.toml").write_text('[reflector.http]\nlisten = ""\n')
        self.assertRaises(LocalError, site, self.folder / "ice.toml", None, "reflector")
        self.reflector = self.started()
