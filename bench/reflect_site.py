"""The real reflector in the middle of :mod:`bench.reflect`'s road: two of them, and a Rallypoint between.

::

    load --- f0 --- reflector under test === Rallypoint === another reflector --- f1 --- load
                    core 0                   core 1

What comes to the first group on f0 goes into one stream over TLS, and what the stream has comes out into the second group. Only the time of the reflector under test
counts; whatever else works shares core 1 with the load, so that the rates that can be offered are those of a whole site on two cores.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ice.cli.demo import _beside_python
from ice.security.authority import Authority
from ice.security.certificates import Role
from ice.security.register import addresses

ADDRESS = "127.0.0.1:7443"
STREAM = "bench"


def begin(folder: Path, limits: str, *, http: str = "") -> Authority:
    """A folder with an authority, and a Rallypoint's certificate and configuration in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    now = datetime.now(UTC)
    authority = Authority.create(folder / "pki", now, name="bench")
    authority.issue(
        "rallypoint", Role.RALLYPOINT, now, dns=("localhost",), addresses=addresses(("127.0.0.1",))
    )
    (folder / "rallypoint.toml").write_text(
        f'[rallypoint]\nlisten = ["{ADDRESS}"]\ncertificate = "pki/rallypoint.pem"\nkey = "pki/rallypoint.key"\n'
        f'[rallypoint.http]\nlisten = "{http}"\n[rallypoint.limits]\n{limits}\n'
    )
    return authority


def add(folder: Path, authority: Authority, name: str, reflector: str, rules: str, *, http: str = "") -> None:
    """A reflector's certificate and configuration; ``reflector``: lines of that table."""
    authority.issue(name, Role.SATELLITE, datetime.now(UTC))
    (folder / f"{name}.toml").write_text(
        f'[identity]\ncertificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n'
        f'[network]\nrallypoints = ["{ADDRESS}"]\nways_file = ""\n[multicast]\nloopback = false\n'
        f'[reflector]\n{reflector}\n[reflector.http]\nlisten = "{http}"\n{rules}'
    )


@contextlib.contextmanager
def running(
    folder: Path, namespace: str, name: str, kind: str, *, core: int | None = None, fanout: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """One daemon, from its start to its end."""
    words = ["nice", "-n", "-15", "ip", "netns", "exec", namespace]
    words += [] if core is None else ["taskset", "-c", str(core)]
    words += [_beside_python("twistd"), "-n", "--pidfile=", kind, "--config", str(folder / f"{name}.toml")]
    with (folder / f"{name}.log").open("wb") as log:
        environment = dict(os.environ, ICE_FANOUT=fanout)
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, env=environment)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def site(folder: Path, namespace: str, there: str, back: str, fanout: str) -> Iterator[int]:
    """All three daemons, started; the process of the reflector under test.  ``fanout``: its ``ICE_FANOUT``."""
    authority = begin(folder, "packets_per_s = 10_000_000\nbytes_per_s = 10_000_000_000\nqueue_frames = 4096")
    for name, interface, rx, tx in (("tested", "f0", there, back), ("other", "f1", back, there)):
        rule = f'[[reflector.rules]]\nstream = "{STREAM}"\nrx = "{rx}"\ntx = "{tx}"\nttl = 8\n'
        add(folder, authority, name, f'interface = "{interface}"\nsender_packets_per_s = 0', rule)
    with contextlib.ExitStack() as held:
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        held.enter_context(running(folder, namespace, "rallypoint", "ice-rallypoint", core=1))
        held.enter_context(running(folder, namespace, "other", "ice-reflector", core=1))
        tested = running(folder, namespace, "tested", "ice-reflector", core=0, fanout=fanout)
        yield held.enter_context(tested).pid


def last_words(folder: Path) -> str:
    """What the daemons have said last."""
    return "\n".join(each.read_text()[-1_500:] for each in sorted(folder.glob("*.log")))
