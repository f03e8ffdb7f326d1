"""A Rallypoint for a benchmark: certificates and port from the command line, limits wide open.

``python bench/rallypoint.py --port 7443 --ca ca.pem --cert rp.pem --key rp.key --state /tmp/empty [--set KEY=VALUE …]``

It writes an ``ice.toml`` into the state folder and becomes ``twistd -n ice-rallypoint``, so that what is measured is
the daemon as it is shipped.
"""

import argparse
import os
import sys
from pathlib import Path

SETTINGS = """\
[authority]
certificates = ["{ca}"]
revocations = "{state}/none.pem"

[log]
level = "error"

[rallypoint]
listen = ["127.0.0.1:{port}"]
certificate = "{cert}"
key = "{key}"
{more}

[rallypoint.http]
listen = ""

[rallypoint.limits]
links = 20000
links_per_address = 20000
links_per_identity = 20000
handshakes = 20000
handshakes_per_address = 20000
newcomers_waiting = 20000
cpu_delay_percent = 100
cpu_refuse_percent = 100
handshake_s = 60.0
packets_per_s = 1000000
bytes_per_s = 1000000000
"""


def main() -> None:
    """Write the settings and become the daemon."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", type=Path, required=True)
    parser.add_argument("--cert", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], help="another line of the table [rallypoint]")
    options = parser.parse_args()
    config = options.state / "ice.toml"
    config.write_text(
        SETTINGS.format(
            ca=options.ca.resolve(),
            cert=options.cert.resolve(),
            key=options.key.resolve(),
            state=options.state.resolve(),
            port=options.port,
            more="\n".join(options.set),
        )
    )
    twistd = Path(sys.executable).parent / "twistd"
    os.execv(twistd, [str(twistd), "-n", "--pidfile=", "ice-rallypoint", "--config", str(config)])


if __name__ == "__main__":
    main()
