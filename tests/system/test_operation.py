"""A real Rallypoint under a supervisor: what systemd hears, what the pages answer, what the doctor finds."""

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import pytest

from .conftest import Program


@attrs.frozen
class Site:
    """A Rallypoint that runs, its supervisor's ear, its page's address and its configuration."""

    program: Program
    manager: socket.socket
    page: str
    config: Path

    def heard(self) -> str:
        """The next thing that the supervisor is told, the watchdog's beats aside."""
        while (said := self.manager.recv(4096).decode()) == "WATCHDOG=1":
            pass
        return said

    def ask(self, path: str) -> tuple[int, bytes]:
        """The status and body of a page."""
        try:
            with urllib.request.urlopen(self.page + path, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture
def site(
    tmp_path: Path,
    run: Callable[..., object],
    start: Callable[..., Program],
    free_ports: Callable[[int], Sequence[int]],
) -> Iterator[Site]:
    """A throw-away site with a Rallypoint, supervised by the test, with a watchdog of a second."""
    link, http, knock = free_ports(3)
    config = tmp_path / "ice.toml"
    config.write_text(
        f'[network]\nrallypoints = ["localhost:{link}"]\n'
        f'[rallypoint]\nlisten = ["127.0.0.1:{link}"]\nhealth_check = "127.0.0.1:{knock}"\n'
        f'[rallypoint.http]\nlisten = "127.0.0.1:{http}"\n'
    )
    run("ice", "pki", "init", "--config", config)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        program = start(
            *("twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", config),
            env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"},
        )
        yield Site(program, manager, f"http://127.0.0.1:{http}", config)


def test_life(site: Site) -> None:
    """READY, beats, RELOADING and READY again on SIGHUP, also with a bad file; STOPPING, and an orderly end."""
    assert site.heard().startswith("READY=1")
    assert site.manager.recv(4096) == b"WATCHDOG=1"
    for text, said in (
        (site.config.read_text(), "reloaded"),
        ("[nonsense", "running on with the configuration"),
    ):
        site.config.write_text(text)
        site.program.process.send_signal(signal.SIGHUP)
        assert site.heard().startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert site.heard().startswith("READY=1")
        site.program.wait_for(said)
    site.program.process.terminate()
    assert site.heard().startswith("STOPPING=1")
    assert (
        site.program.process.wait(10) == -signal.SIGTERM
    )  # Twisted ends by the signal; systemd calls that clean
    assert "Server Shut Down" in site.program.output()


def test_pages(site: Site) -> None:
    """Alive, ready, measured, and telling its state, on the address of the configuration; the knock port closes at once."""
    site.heard()
    assert site.ask("/healthz") == (200, b"alive\n")
    assert site.ask("/readyz") == (200, b"ready\n")
    code, page = site.ask("/metrics")
    assert code == 200
    for name in (
        b"ice_rallypoint_links 0.0",
        b"ice_reactor_lag_seconds",
        b"process_open_fds",
        b"ice_metric_errors_total 0.0",
    ):
        assert name in page
    code, status = site.ask("/status")
    assert code == 200
    assert json.loads(status)["daemon"] == "ice-rallypoint"
    assert site.ask("/etc/passwd")[0] == 404
    knock = int(site.config.read_text().split('health_check = "127.0.0.1:')[1].split('"')[0])
    with socket.create_connection(("127.0.0.1", knock), 10) as balancer:
        assert balancer.recv(1) == b""


def test_doctor(site: Site, run: Callable[..., "object"]) -> None:
    """With everything running, nothing is to mend: the port is ours, and a TLS handshake with our certificate is welcome."""
    site.heard()
    done = run("ice", "doctor", "--json", "--config", site.config)
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}  # type: ignore[attr-defined]
    assert [f for f in findings.values() if f["verdict"] == "fail"] == []
    (way,) = [f for subject, f in findings.items() if subject.startswith("rallypoint localhost")]
    assert (way["verdict"], "welcome" in way["found"]) == ("ok", True)
    (port,) = [f for subject, f in findings.items() if subject.startswith("rallypoint.listen")]
    assert "our own daemon" in port["found"]


def test_port_taken(site: Site, start: Callable[..., Program]) -> None:
    """A second one on the same ports ends with a line that names the port, not deaf and running."""
    site.heard()
    second = start("twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", site.config)
    assert second.process.wait(20) == 1
    assert "cannot listen on 127.0.0.1:" in second.output()
