"""``ice doctor``: what is wrong with this machine, and the command that mends it.

Looks at versions, libopus, the configuration and its certificates, ports, the clock, open files, multicast and the way to each
Rallypoint; with ``--gateway`` at call managers too. One line each, ``ok``, ``warn`` or ``fail``. Exit status 0 where nothing fails, else 1.
"""

import json
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import attrs
import click

from ice.cli import examine
from ice.cli.examine import Result, Verdict, fail, ok, warn
from ice.cli.examine_multicast import multicast_use
from ice.cli.examine_reflector import reflector_use
from ice.cli.options import config_option, json_option
from ice.config.checks import Severity, check_site
from ice.config.load import ConfigError, Loaded, load_if_any
from ice.config.multicast import MulticastSettings
from ice.errors import LocalError
from ice.net.fanout import in_use
from ice.printable import printable
from ice.security.contexts import ClientTls
from ice.security.trust import Credentials, Trust

WAY_S = 3.0  # per Rallypoint: longer than any healthy way, short enough for somebody who waits
MOST_FILES = 1 << 20  # a limit of "infinity" ends at the kernel's fs.nr_open, by default this

_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


@click.command()
@config_option
@json_option
@click.option(
    "--gateway",
    is_flag=True,
    help="Try the call managers of [gateway] too: by a call to this machine, which makes nobody's telephone ring.",
)
@click.pass_context
def doctor(ctx: click.Context, config: Path | None, as_json: bool, gateway: bool) -> None:
    """Find what is wrong with this machine, and the command that mends it.

    Changes nothing. Takes a few seconds, most of them for Rallypoints that do not answer.
    """
    results = []
    for result in chain(examinations(config), _trunks(config) if gateway else ()):
        results.append(result)
        if not as_json:
            _show(result)
    count = {verdict: sum(result.verdict is verdict for result in results) for verdict in Verdict}
    failed = count[Verdict.FAIL] > 0
    if as_json:
        click.echo(
            json.dumps(
                {"ok": not failed, "findings": [attrs.asdict(r) for r in results]},
                indent=2,
                ensure_ascii=False,
            )
        )
    else:
        click.echo(
            f"\n{count[Verdict.OK]} ok, {count[Verdict.WARN]} to look at, {count[Verdict.FAIL]} to mend"
        )
    ctx.exit(1 if failed else 0)


def examinations(config: Path | None) -> Iterator[Result]:
    """All of them in the order in which a person would mend things; those that need a configuration only where there is one."""
    yield from examine.versions()
    yield examine.opus()
    yield examine.fan_out(in_use())
    yield examine.clock(examine.kernel_clock(), time.time())
    yield from examine.multicast(examine.multicast_interfaces())
    try:
        loaded = load_if_any(config)
    except ConfigError as error:
        for problem in error.problems:
            yield fail("configuration", str(problem), "mend the file; ice check tells the same")
        return
    if loaded is None:
        yield warn(
            "configuration",
            "none found: missions over multicast need none; Rallypoints do",
            "copy etc/ice.toml from the source of ice to etc/ice.toml or /etc/ice/ice.toml",
        )
        yield from multicast_use(MulticastSettings())
        return
    yield ok("configuration", str(loaded.path))
    yield from multicast_use(loaded.config.multicast)
    yield from reflector_use(loaded.config)
    yield from _certificates(loaded)
    yield from _machine(loaded)
    yield from examine.ways(_ways(loaded))


def _trunks(config: Path | None) -> Iterator[Result]:
    """The checklist for the call managers of a configuration; of mistakes in it others have told."""
    from ice.cli.examine_gateway import gateway_use  # HTTP and WebSocket, which no other examination needs

    try:
        loaded = load_if_any(config)
    except ConfigError:
        return
    if loaded is None:
        yield warn("gateway", "there is no configuration, so no call manager", "[[gateway.trunks]]")
        return
    yield from gateway_use(loaded.config)


def _certificates(loaded: Loaded) -> Iterator[Result]:
    findings = check_site(loaded, datetime.now(UTC))
    for finding in findings:
        make = fail if finding.severity is Severity.ERROR else warn
        yield make("certificates", f"{finding.where}: {finding.message}", finding.remedy or "ice check")
    if not findings:
        yield ok("certificates", "valid, trusted and kept from others")


def _machine(loaded: Loaded) -> Iterator[Result]:
    """What the Rallypoint here would need of this machine; on any other machine its ports are only worth a look."""
    settings = loaded.config.rallypoint
    here = settings.certificate.exists()
    ports = [("rallypoint.listen", address) for address in settings.listen]
    ports += [
        (key, address)
        for key, address in (
            ("rallypoint.http.listen", settings.http.listen),
            ("rallypoint.health_check", settings.health_check),
        )
        if address is not None
    ]
    for key, address in ports:
        yield examine.port(key, address.host, address.port, needed=here)
    if not here:
        return
    running = examine.who_listens(settings.listen[0].port) if settings.listen else None
    limit = examine.limit_of(running.pid) if running is not None and running.is_ours else None
    if running is not None and limit is not None:
        yield examine.open_files(settings.limits.links, limit, f"the running Rallypoint (pid {running.pid})")
    else:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # up to which a Rallypoint raises its own
        if hard == resource.RLIM_INFINITY:
            hard = MOST_FILES
        yield examine.open_files(settings.limits.links, hard, "programs started here")


def _ways(loaded: Loaded) -> Iterator[Result]:
    network = loaded.config.network
    tls = _client(loaded)
    for address in network.rallypoints:
        yield examine.way(address.host, address.port, tls, min(network.connect_timeout_s, WAY_S))


def _client(loaded: Loaded) -> ClientTls | None:
    """Our end of a link, or None where its files do not allow one: the certificates' own findings say why."""
    identity, authority = loaded.config.identity, loaded.config.authority
    try:
        credentials = Credentials.read(identity.certificate, identity.key)
        trust = Trust.read(authority.certificates, authority.revocations, datetime.now(UTC))
        return ClientTls(credentials, trust, loaded.config.network.verify_name)
    except (LocalError, OSError):
        return None


def _show(result: Result) -> None:
    verdict = click.style(
        f"{result.verdict:<4}", fg=_COLOURS[result.verdict], bold=result.verdict is Verdict.FAIL
    )
    click.echo(f"{verdict}  {printable(result.subject):<40}  {printable(result.found)}")
    if result.remedy:
        click.echo(f"      {'':<40}  do: {printable(result.remedy)}")
