"""A site that telephones, for system tests: a Rallypoint, gateways with the built-in call manager, and people with ``ice call``, ``ice answer`` and ``ice phone``."""

import json
import os
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from ice.security.certificates import Role
from ice.testing.site import Member, Site, free_ports

from .conftest import BIN, Program, clean_environment


@attrs.define
class Gateway:
    """A gateway's process, and what it says of its calls."""

    program: Program
    member: Member
    port: int
    state: Path

    @property
    def group(self) -> str:
        """What people name it: it is alone, so its own id."""
        return str(self.member.id)

    def ready(self) -> bool:
        """Whether it takes calls."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as page:
                return bool(page.status == 200)
        except OSError:
            return False

    def calls(self) -> list[dict[str, Any]]:
        """The calls that it has."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(self.state / "ice" / "gateway.sock"))
            sock.sendall(b'{"do":"list"}\n')
            answer: dict[str, Any] = json.loads(sock.makefile().readline())
        assert answer["ok"], answer
        return list(answer["calls"])


def gateway(start: Callable[..., Program], site: Site, name: str, toml: str = "") -> Gateway:
    """Start a gateway; ``toml`` is more of its configuration."""
    member = site.issue(name, Role.SATELLITE)
    [port] = free_ports(1)
    with member.config.open("a") as file:
        file.write(f'\n[gateway.http]\nlisten = "127.0.0.1:{port}"\n{toml}')
    state = site.folder / f"{name}-state"
    words = ("twistd", "-n", "--pidfile=", "ice-gateway", "--config", member.config)
    return Gateway(start(*words, env={"XDG_STATE_HOME": str(state)}), member, port, state)


class Terminal:
    """A program at a terminal of its own (pty), which is typed at and read."""

    def __init__(self, *command: object, cwd: Path) -> None:
        self._master, slave = os.openpty()
        words = [str(BIN / str(command[0])), *map(str, command[1:])]
        env = clean_environment() | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
        self.process = subprocess.Popen(
            words, cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self._seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            self._seen += data

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def shows(self, words: str) -> bool:
        """Whether it has ever shown this."""
        return words.encode() in self._seen

    def output(self) -> str:
        """All that it has shown, with what moves the cursor."""
        return self._seen.decode("utf-8", "replace")

    def close(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.wait(10)
        self._reader.join(5)
        os.close(self._master)
