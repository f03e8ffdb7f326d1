"""Reflectors on local networks that hang on a town's Rallypoints, for tests: real daemons in namespaces, and what they say of themselves."""

import http.client
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs

from ice.security.certificates import Role

from .lan import Lan
from .roads import Place, command
from .town import BIN, Program, Town

HTTP_PORT = 7_481


def plug(place: Place, lan: Lan, number: int) -> None:
    """Connect a place to a local network, as lan0."""
    port = f"port{number}"
    command("ip", "link", "add", "name", "lan0", "netns", place.namespace, "type", "veth", "peer", "name", port, "netns", lan.switch)  # fmt: skip
    command("ip", "-n", lan.switch, "-batch", "-", script=(f"link set {port} master lan up",))
    here = (
        f"address add 10.65.0.{number}/24 dev lan0",
        "link set lan0 up",
        f"address add fd65::{number}/64 dev lan0 nodad",
    )
    command("ip", "-n", place.namespace, "-batch", "-", script=here)


@attrs.define(eq=False)
class Reflectors:
    """The reflectors of a town, by name."""

    town: Town
    reflectors: dict[str, Program] = attrs.field(factory=dict)

    def add(self, name: str, place: Place, home: str, config: str) -> Program:
        """A reflector somewhere, linked to a Rallypoint, with these lines of configuration; not started."""
        town, folder = self.town, self.town.folder
        town._authority.issue(name, Role.SATELLITE, datetime.now(UTC))
        (folder / f"{name}.toml").write_text(
            f'[identity]\ncertificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n\n'
            f'[authority]\ncertificates = ["pki/authority.pem"]\nrevocations = "pki/revoked.pem"\n\n'
            f'[network]\nrallypoints = ["{town.rallypoints[home].address}"]\nways_file = ""\n{config}'
        )
        words = [BIN / "twistd", "-n", "--pidfile=", "ice-reflector", "--config", folder / f"{name}.toml"]
        self.reflectors[name] = town.program(name, place, words)
        return self.reflectors[name]

    def place(self, name: str) -> Place:
        return self.reflectors[name].place

    def ask(self, name: str, path: str = "/status") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", HTTP_PORT, timeout=2)
        try:
            connection.sock = self.place(name).connect("127.0.0.1", HTTP_PORT, 2)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def status(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.ask(name)[1])
        return answer

    def rule(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.status(name)["rules"][0]
        return answer

    def ready(self, name: str) -> bool:
        try:
            return self.ask(name, "/readyz")[0] == 200
        except OSError:
            return False

    def start(self, *names: str) -> None:
        for name in names:
            self.reflectors[name].start()
        self.await_ready(*names)

    def await_ready(self, *names: str) -> None:
        for name in names:
            program = self.reflectors[name]
            self.until(lambda n=name, p=program: self.ready(n) or not p.runs, f"{name} is ready")  # type: ignore[misc]
            assert program.runs, program.tail()

    def until(self, true: Callable[[], bool], what: str, timeout_s: float = 15.0) -> float:
        return self.town.until(true, what, timeout_s=timeout_s, every_s=0.02)
