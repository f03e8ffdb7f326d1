"""``ice check``: everything that is wrong with a configuration and the files it names, all at once.

Findings go to standard output, or to standard error where ``--print`` uses that for the configuration. Exit status 0 when
nothing is wrong (warnings may be shown), else 1.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import click

from ice.cli.options import config_option, json_option


@click.command()
@config_option
@click.option("--print", "show", is_flag=True, help="Show the effective configuration, secrets hidden.")
@json_option
@click.option(
    "--for",
    "purposes",
    multiple=True,
    type=click.Choice(["client", "rallypoint", "reflector", "patch", "gateway"]),
    help="What this machine is for; by default that is told by the certificates it has.",
)
@click.pass_context
def check(
    ctx: click.Context, config: Path | None, show: bool, as_json: bool, purposes: tuple[str, ...]
) -> None:
    """Check the configuration and the certificates it names.

    Starts nothing and changes nothing. Tells all errors at once, each with file, line, key and what to do.
    """
    from ice.config.checks import Purpose, Severity, check_site, problem_finding
    from ice.config.load import ConfigError, Loaded, load
    from ice.config.render import as_plain, as_toml

    loaded: Loaded | None = None
    try:
        loaded = load(config)
        findings = check_site(loaded, datetime.now(UTC), [Purpose(word) for word in purposes])
    except ConfigError as error:
        findings = [problem_finding(problem, Severity.ERROR) for problem in error.problems]
    errors = sum(finding.severity is Severity.ERROR for finding in findings)

    if as_json:
        answer: dict[str, Any] = {
            "ok": not errors,
            "file": str(loaded.path) if loaded else None,
            "findings": [attrs.asdict(finding) for finding in findings],
        }
        if show:
            answer["config"] = as_plain(loaded.config) if loaded else None
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        ctx.exit(1 if errors else 0)

    for finding in findings:
        colour = "red" if finding.severity is Severity.ERROR else "yellow"
        click.echo(
            click.style(f"{finding.severity}: ", fg=colour)
            + ": ".join(part for part in (finding.where, finding.message) if part),
            err=show,
        )
        if finding.remedy:
            click.echo(f"    to do: {finding.remedy}", err=show)
    if loaded and show:
        click.echo(f"# {loaded.path}, with every default filled in\n{as_toml(loaded.config)}", nl=False)
    warnings = len(findings) - errors
    counted = ", ".join(
        f"{n} {word}{'s' * (n != 1)}" for n, word in ((errors, "error"), (warnings, "warning")) if n
    )
    where = f"{loaded.path}: " if loaded else ""
    click.echo(f"{where}{counted or 'all is well'}", err=show)
    ctx.exit(1 if errors else 0)
