"""``ice import``: the files of an Engage site, taken over into our configuration, with an account of every key.

Without ``--out`` the configuration goes to standard output and the report to standard error; with it, the report goes to standard
output. Nothing is written when anything is wrong. Exit status 0 done (conflicts with an existing file are told, and are no
fault), 1 something could not be read or written.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import click

from ice.cli.options import json_option
from ice.config.load import plain_path
from ice.engage.kinds import NAMES, Kind
from ice.errors import IceError, LocalError
from ice.printable import printable
from ice.security.files import KEY_MODE, Draft, make_folder, write

if TYPE_CHECKING:
    from ice.engage.account import Entry
    from ice.engage.merge import Merged
    from ice.engage.reading import Imported

MAX_BYTES: Final = 2 * 1024 * 1024 + 1  # what is read of a file; the reader refuses what is longer


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--as",
    "kind",
    type=click.Choice([str(kind) for kind in Kind]),
    help="What the files are [told by their keys].",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Configuration to put it in, or a folder for a new ice.toml [print it].",
)
@click.option(
    "--peers",
    type=click.Choice(["groups", "file"]),
    default="groups",
    show_default=True,
    help="Make a group of a peering file, or use the file as it stands.",
)
@click.option(
    "--write-certificates",
    "certificates",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write certificates and keys that stand in the files themselves into this folder (mode 0600).",
)
@click.option("--force", is_flag=True, help="Let the import win where the configuration says otherwise.")
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    files: tuple[Path, ...],
    kind: str | None,
    out: Path | None,
    peers: Literal["groups", "file"],
    certificates: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Take over the files of an Engage site.

    FILE is a rallypointd_conf.json, a peering file, a bridges.json, an engine policy, a mission, a list of Rallypoints, an
    identity: each is told by its keys. Names of other files and commands in them are reported, never followed and never run;
    keys and passwords are never shown.
    """
    from ice.engage.compose import compose

    imported, errors = _read(files, Kind(kind) if kind else None)
    toml, merged, path = "", None, None
    if not errors:
        try:
            draft = compose(imported, peers=peers)
            toml = draft.toml
            if out is not None:
                path = _target(out)
                merged = _merge(draft, path, force)
            _save(imported, certificates, path, merged, toml, force)
        except IceError as trouble:
            errors = [str(trouble)]

    if as_json:
        answer = {
            "ok": not errors,
            "errors": errors,
            "files": [_as_object(file) for file in imported],
            "toml": None if errors else toml,
            "out": str(path) if path and not errors else None,
            "conflicts": [attrs.asdict(conflict) for conflict in merged.conflicts] if merged else [],
        }
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        ctx.exit(1 if errors else 0)

    to_error = out is None or bool(errors)
    for file in imported:
        for line in _report(file):
            click.echo(printable(line), err=to_error)
    for error in errors:
        for line in error.splitlines():
            click.echo(click.style("error: ", fg="red") + printable(line), err=True)
    if errors:
        click.echo("nothing is written", err=True)
        ctx.exit(1)
    if path is None:
        click.echo(toml, nl=False)
    else:
        for line in _written(path, merged):
            click.echo(line)


def _read(files: Sequence[Path], kind: Kind | None) -> tuple[list[Imported], list[str]]:
    """What could be read, and why the others could not."""
    from ice.engage.reading import read

    imported: list[Imported] = []
    errors: list[str] = []
    for file in files:
        source = plain_path(file)
        try:
            with open(file, "rb") as stream:
                data = stream.read(MAX_BYTES)
            imported.append(read(data, source, kind))
        except IceError as trouble:
            errors.append(str(trouble))
        except (OSError, ValueError) as error:
            errors.append(f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}")
    return imported, errors


def _target(out: Path) -> Path:
    """The file that is written: never a link to it, so that the link goes on pointing there."""
    if out.is_dir() or str(out).endswith(os.sep):
        out = out / "ice.toml"
    return Path(os.path.realpath(out))


def _merge(draft: Any, path: Path, force: bool) -> Merged | None:
    """The import put into what is there; None where nothing is there yet."""
    from ice.config.load import MAX_BYTES
    from ice.election.keeping import kept
    from ice.engage.merge import merge

    data = kept(path, MAX_BYTES)
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise LocalError(f"{path}: is not UTF-8") from None
    return merge(text, draft, path, force=force)


def _save(
    imported: Sequence[Imported],
    certificates: Path | None,
    path: Path | None,
    merged: Merged | None,
    toml: str,
    force: bool,
) -> None:
    """Write what was asked for; nothing before all of it is known to be right."""
    if certificates is not None:
        drafts = _inline(imported, certificates)
        make_folder(certificates)
        write(drafts, replace=force)
    if path is None:
        return
    if merged is None:
        make_folder(path.parent)
        write([Draft(path, toml.encode(), KEY_MODE)])
    elif merged.added:
        write([Draft(path, merged.text.encode(), stat.S_IMODE(path.stat().st_mode))], replace=True)


def _inline(imported: Sequence[Imported], folder: Path) -> list[Draft]:
    """The certificates and keys that stand in the files, each under a name of its own."""
    drafts: dict[str, Draft] = {}
    for file in imported:
        for inline in file.account.inline:
            stem, suffix = os.path.splitext(inline.name)
            name, number = inline.name, 1
            while name in drafts:
                number += 1
                name = f"{stem}-{number}{suffix}"
            drafts[name] = Draft(folder / name, inline.data, KEY_MODE)
    return list(drafts.values())


# -- the report


def _report(file: Imported) -> Iterator[str]:
    """What became of one file, for people."""
    from ice.engage.account import Fate

    account = file.account
    entries = account.in_order(file.document)
    yield f"{account.source}: {NAMES[account.kind]}"
    for fate in Fate:
        those = [entry for entry in entries if entry.fate is fate]
        if those:
            yield f"  {fate} ({len(those)})"
            yield from (f"    {_line(entry)}" for entry in those)
    if account.remarks:
        yield "  remarks"
        yield from (f"    {remark}" for remark in account.remarks)
    if account.steps:
        yield "  to do by hand"
        yield from (f"    - {step}" for step in account.steps)


def _line(entry: Entry) -> str:
    name = entry.path or "(the whole file)"
    if entry.keys > 1:
        name += f" ({entry.keys} values)"
    if entry.ours:
        name += f" → {entry.ours}"
    reasons = [part for part in (str(entry.why) if entry.why else "", entry.text) if part]
    return ": ".join([name, *reasons])


def _written(path: Path, merged: Merged | None) -> Iterator[str]:
    if merged is None:
        yield f"{path}: written; try it with  ice check --config {path}"
        return
    for conflict in merged.conflicts:
        yield click.style("conflict: ", fg="yellow") + str(conflict)
    if merged.added:
        yield f"{path}: taken in; try it with  ice check --config {path}"
    else:
        yield f"{path}: left as it is; there is nothing to add"


def _as_object(file: Imported) -> dict[str, Any]:
    account = file.account
    return {
        "file": account.source,
        "kind": str(account.kind),
        "entries": [
            {
                "path": entry.path,
                "fate": str(entry.fate),
                "ours": entry.ours or None,
                "why": str(entry.why) if entry.why else None,
                "text": entry.text,
                "values": entry.keys,
            }
            for entry in account.in_order(file.document)
        ],
        "remarks": [str(remark) for remark in account.remarks],
        "steps": list(account.steps),
    }
