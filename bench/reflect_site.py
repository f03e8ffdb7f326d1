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


@contextlib.contextmanager
def site(folder: Path, namespace: str, there: str, back: str, fanout: str) -> Iterator[int]:
    """All three daemons, started; the process of the reflector under test.  ``fanout``: its ``ICE_FANOUT``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    now = datetime.now(UTC)
    authority = Authority.create(folder / "pki", now, name="bench")
    authority.issue(
        "rallypoint", Role.RALLYPOINT, now, dns=("localhost",), addresses=addresses(("127.0.0.1",))
    )
    (folder / "rallypoint.toml").write_text(
        f'[rallypoint]\nlisten = ["{ADDRESS}"]\ncertificate = "pki/rallypoint.pem"\nkey = "pki/rallypoint.key"\n'
        '[rallypoint.http]\nlisten = ""\n[rallypoint.limits]\npackets_per_s = 10_000_000\nbytes_per_s = 10_000_000_000\nqueue_frames = 4096\n'
    )
    for name, interface, rx, tx in (("tested", "f0", there, back), ("other", "f1", back, there)):
        authority.issue(name, Role.SATELLITE, now)
        (folder / f"{name}.toml").write_text(
            f'[identity]\ncertificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n'
            f'[network]\nrallypoints = ["{ADDRESS}"]\nways_file = ""\n[multicast]\nloopback = false\n'
            f'[reflector]\ninterface = "{interface}"\nsender_packets_per_s = 0\n[reflector.http]\nlisten = ""\n'
            f'[[reflector.rules]]\nstream = "{STREAM}"\nrx = "{rx}"\ntx = "{tx}"\nttl = 8\n'
        )
    programs = []
    with contextlib.ExitStack() as held:
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        for name, daemon, core in (
            ("rallypoint", "ice-rallypoint", 1),
            ("other", "ice-reflector", 1),
            ("tested", "ice-reflector", 0),
        ):
            words = [
                "nice",
                "-n",
                "-15",
                "ip",
                "netns",
                "exec",
                namespace,
                "taskset",
                "-c",
                str(core),
                _beside_python("twistd"),
            ]
            words += ["-n", "--pidfile=", daemon, "--config", str(folder / f"{name}.toml")]
            environment = dict(os.environ, ICE_FANOUT=fanout if name == "tested" else "")
            log = held.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, env=environment)
            held.callback(process.wait, 15)
            held.callback(process.terminate)
            programs.append(process)
        yield programs[-1].pid


def last_words(folder: Path) -> str:
    """What the daemons have said last."""
    return "\n".join(each.read_text()[-1_500:] for each in sorted(folder.glob("*.log")))
