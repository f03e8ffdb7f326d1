"""Two gateways of a server group, a call manager, and a person in a call: the gateway that has it freezes, is killed, is stopped, and each time the other goes on with it; the last one's stop leaves nothing on any side."""

import json
import secrets
import signal
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed

from ice.cli.speech import SPEECH
from ice.security.certificates import Role
from ice.testing.exchange import Exchange
from ice.testing.site import Site, free_ports

from .conftest import Program
from .test_asterisk import until, wait
from .test_voice import events

Start = Callable[..., Program]
reactor: Any = installed
CYCLE_S = 0.2
SLOW_S = 20.0  # programs start on a machine that does other things as well


@attrs.define(eq=False)
class Member:
    """A gateway of the group."""

    program: Program
    port: int
    again: Callable[[], Program]  #: starts it once more

    @property
    def status(self) -> dict[str, Any]:
        """What its page says; empty where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=2) as page:
                told: dict[str, Any] = json.load(page)
                return told
        except OSError:
            return {}

    @property
    def leads(self) -> bool:
        """Whether it takes calls, and its call manager is there."""
        told = self.status
        return told.get("state") == "active" and all(trunk["up"] for trunk in told["trunks"])

    @property
    def talking(self) -> int:
        """Packets heard in the call that stands; 0 without one."""
        calls = [call for call in self.status.get("calls", ()) if call["state"] == "talking"]
        return int(calls[0]["sound"].get("heard_packets", 0)) if len(calls) == 1 else 0


def group_of(start: Start, site: Site, exchange: Exchange, secret: str) -> tuple[str, list[Member]]:
    """Two gateways; whoever leads takes the call manager's application."""
    group = str(uuid4())
    names = ("north", "south")
    members = [site.issue(name, Role.SATELLITE) for name in names]
    for name, text in (("salt", secrets.token_hex(32)), ("password", secret)):
        (site.folder / name).write_text(text + "\n")
        (site.folder / name).chmod(0o600)
    tables = "".join(
        f'[[server_groups.members]]\nid = "{each.id}"\nname = "{each.name}"\n' for each in members
    )
    found = []
    for member, port in zip(members, free_ports(2), strict=True):
        with member.config.open("a") as file:
            file.write(
                f'\n[[server_groups]]\nid = "{group}"\nquorum = "none"\ncycle_s = {CYCLE_S}\nsalt_file = "salt"\n{tables}'
                f'[gateway.http]\nlisten = "127.0.0.1:{port}"\n'
                f'[[gateway.trunks]]\nname = "pbx"\nurl = "{exchange.url}"\npassword_file = "password"\n'
            )
        words = ("twistd", "-n", "--pidfile=", "ice-gateway", "--config", member.config)
        again = partial(start, *words, env={"XDG_STATE_HOME": str(site.folder / f"{member.name}-state")})
        found.append(Member(again(), port, again))
    return group, found


@ensureDeferred
async def test_one_call_by_many_gateways(start: Start, tmp_path: Path) -> None:
    """The call of a gateway that freezes, dies or is stopped goes on by the other, with sound both ways, on the same line; the last that is stopped ends it everywhere."""
    secret = secrets.token_hex(8)
    exchange = Exchange(reactor, password=secret)
    exchange.listen()
    site = Site.create(tmp_path / "site", clients=("ada",))
    start("twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", site.config)
    group, members = group_of(start, site, exchange, secret)
    try:
        await until(lambda: sum(each.leads for each in members) == 1, "one gateway leads", SLOW_S)
        first, second = members
        await until(lambda: first.leads, "the one with more votes leads", SLOW_S)
        await until(lambda: not second.status["trunks"][0]["up"], "the other has let its trunk go", SLOW_S)
        call = start(
            "ice", "call", "100", "--json", "--silent", "--config", site.client("ada").config, "--group", group,
            "--file", SPEECH, "--loop", "20", cwd=tmp_path,
        )  # fmt: skip
        await until(lambda: first.talking > 50, "ada talks", SLOW_S)
        line = exchange.line("100")
        first.program.process.send_signal(signal.SIGSTOP)
        await until(lambda: second.leads and second.talking > 50, "the other goes on with ada", SLOW_S)
        first.program.process.send_signal(signal.SIGCONT)
        # It has more votes, and leads again; what it had begun when it was frozen it does not go on with.
        await until(lambda: first.leads and first.talking > 50, "the first goes on again", SLOW_S)
        assert (events(call, "over"), exchange.line("100")) == ([], line)
        first.program.process.send_signal(signal.SIGKILL)
        await until(lambda: second.leads and second.talking > 50, "the second goes on again", SLOW_S)
        await until(lambda: second.status["calls"][0]["sound"]["line_s"] > 0.5, "the line is heard", SLOW_S)
        first.program = first.again()
        await until(
            lambda: first.leads and first.talking > 50, "it is back, has more votes, and takes over", SLOW_S
        )
        first.program.process.send_signal(signal.SIGTERM)
        await until(lambda: second.talking > 50, "ada goes on by the second", SLOW_S)
        assert (events(call, "over"), exchange.line("100")) == ([], line)
        await until(lambda: first.program.process.poll() is not None, "the first has gone", SLOW_S)
        await wait(4 * CYCLE_S)  # until its last ballot is over
        second.program.process.send_signal(signal.SIGTERM)
        await until(lambda: call.process.poll() is not None, "ada's program ends", SLOW_S)
        (over,) = events(call, "over")
        assert over["cause"] == "takeover"  # who stops in a group has resigned first
        await until(lambda: second.program.process.poll() is not None, "the gateway has gone", SLOW_S)
        await until(lambda: not exchange.half_open, f"nothing is left: {exchange.half_open}", SLOW_S)
    finally:
        await exchange.close()
