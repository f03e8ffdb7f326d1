"""``ice pki``: makes and looks after the certificates of a site. What they are for: docs/certificates.md."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from ice.cli.options import json_option
from ice.cli.pki_output import as_object, made, show_detail, show_table
from ice.config.load import PLACES
from ice.errors import IceError, LocalError
from ice.security import bundle as bundles
from ice.security.authority import Authority, read_passphrase, trust
from ice.security.certificates import (
    Role,
    fingerprint,
    read_authorities,
    read_certificates,
    read_file,
    spaced,
)
from ice.security.files import AlreadyThere
from ice.security.minting import AUTHORITY_DAYS, LEAF_DAYS
from ice.security.register import (
    Entry,
    addresses,
    authority_files,
    certificate_file,
    check_name,
    dns_names,
    entry_of,
    find,
    key_file,
    listing,
    revocation_file,
    revoked_serials,
)
from ice.security.rollover import add_authority

_F = TypeVar("_F", bound=Callable[..., object])
RELOAD = "systemctl reload ice-rallypoint   (or send the Rallypoint SIGHUP)"
DAYS = click.FloatRange(min=0, max=36_500, min_open=True)


def folder_option(command: _F) -> _F:
    """Add ``--folder`` and ``--config``; the command receives ``folder: Path`` and ``config: Path``."""
    command = click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path),
        callback=_configuration,
        is_eager=True,
        help="Configuration file [ICE_CONFIG, ./etc/ice.toml, /etc/ice/ice.toml].",
    )(command)
    return click.option(
        "--folder",
        type=click.Path(path_type=Path),
        callback=_folder,
        help="Folder of the certificates [pki/ beside the configuration].",
    )(command)


def _configuration(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    if value is not None:
        return value
    if named := os.environ.get("ICE_CONFIG"):
        return Path(named)
    return next((place for place in PLACES if place.exists()), PLACES[0])


def _folder(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    config = ctx.params["config"]
    assert isinstance(config, Path)  # eager, so it was found before
    return value if value is not None else config.parent / "pki"


def passphrase_option(what: str) -> Callable[[_F], _F]:
    """Add ``--passphrase-file``; the command receives ``passphrase_file: Path | None``."""
    return click.option(
        "--passphrase-file", type=click.Path(path_type=Path), help=f"First line: the passphrase of {what}."
    )


def address_options(command: _F) -> _F:
    """Add ``--dns`` and ``--ip``, both repeatable; the command receives ``dns`` and ``ip``, tuples of text."""
    command = click.option(
        "--ip", multiple=True, help="A literal address at which it is dialled; repeatable."
    )(command)
    return click.option("--dns", multiple=True, help="A DNS name under which it is dialled; repeatable.")(
        command
    )


force_option = click.option("--force", is_flag=True, help="Overwrite what is there.")
days_option = click.option(
    "--days", type=DAYS, default=LEAF_DAYS, show_default=True, help="How long it is valid."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def pki() -> None:
    """Make and look after the certificates of a site.

    A site has one authority; it names everybody who may link: people, Rallypoints, satellites. Begin with `ice pki init`.
    """


@pki.command()
@folder_option
@click.option("--bare", is_flag=True, help="Only the authority, nobody else.")
@click.option("--name", default="ice authority", show_default=True, help="The authority's name.")
@click.option(
    "--days", type=DAYS, default=AUTHORITY_DAYS, show_default=True, help="How long the authority is valid."
)
@address_options
@passphrase_option("the authority's key, which is then encrypted")
@force_option
@json_option
def init(
    folder: Path,
    config: Path,
    bare: bool,
    name: str,
    days: float,
    dns: tuple[str, ...],
    ip: tuple[str, ...],
    passphrase_file: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make the site's authority, a Rallypoint on this machine, and you.

    The Rallypoint's certificate names localhost, 127.0.0.1, ::1 and this machine; add names others dial with --dns and --ip.
    """
    now = datetime.now(UTC)
    leaves = () if bare else ("rallypoint", "client")
    wanted = [folder / "authority.pem", folder / "authority.key"]
    wanted += [path(folder, leaf) for leaf in leaves for path in (certificate_file, key_file)]
    there = [path for path in wanted if path.exists()]
    if there and not force:
        raise AlreadyThere(
            f"{', '.join(map(str, there))}: already there, nothing was changed; look with: ice pki show; one more certificate: ice pki "
            "issue NAME --role ROLE (--force makes a new authority, and every certificate of the old one worthless)"
        )
    names = dns_names(("localhost", *_this_host(), *dns))
    literal = addresses(("127.0.0.1", "::1", *ip))
    passphrase = read_passphrase(passphrase_file) if passphrase_file else None
    authority = Authority.create(folder, now, name, days, passphrase, replace=force)
    entries = [Entry("authority", authority.certificate, "authority", None, None, ours=True)]
    if not bare:
        entries.append(
            authority.issue("rallypoint", Role.RALLYPOINT, now, dns=names, addresses=literal, replace=force)
        )
        entries.append(authority.issue("client", Role.CLIENT, now, common_name=_this_person(), replace=force))
    following = (
        ["ice pki issue rallypoint --role rallypoint --dns NAME", "ice pki issue NAME --role client"]
        if bare
        else ["twistd -n --pidfile= ice-rallypoint   (from the source: make run)", "ice listen parrot"]
    )
    if not as_json:
        click.echo(f"{folder}: made the authority; its fingerprint, to compare by telephone:")
        click.echo(f"  {spaced(fingerprint(authority.certificate))}\n")
    made(entries, now, as_json, following, folder=str(folder))


@pki.command()
@click.argument("name")
@click.option(
    "--role", type=click.Choice([str(role) for role in Role]), required=True, help="What its holder may be."
)
@folder_option
@address_options
@click.option("--common-name", default="", help="The name that people see [NAME].")
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    help="Take UUID and names from this certificate, of an earlier authority.",
)
@days_option
@passphrase_option("the authority's key")
@force_option
@json_option
def issue(
    name: str,
    role: str,
    folder: Path,
    config: Path,
    dns: tuple[str, ...],
    ip: tuple[str, ...],
    common_name: str,
    like: Path | None,
    days: float,
    passphrase_file: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a certificate and key for somebody new: NAME.pem and NAME.key."""
    now = datetime.now(UTC)
    authority = _open(folder, passphrase_file)
    entry = authority.issue(
        name,
        Role(role),
        now,
        common_name=common_name,
        dns=dns_names(dns),
        addresses=addresses(ip),
        days=days,
        like=read_certificates(like)[0] if like else None,
        replace=force,
    )
    following = [f"ice pki bundle {name}   (packs it for another machine or person)"]
    if role == Role.RALLYPOINT and not (dns or ip or like):
        following.append(
            f"ice pki renew {name} --dns NAME   (it names no address yet: clients that check names will refuse it)"
        )
    made([entry], now, as_json, following)


@pki.command()
@click.argument("target", required=False)
@folder_option
@click.option("--all", "everything", is_flag=True, help="Also certificates that were renewed since.")
@json_option
def show(target: str | None, folder: Path, config: Path, everything: bool, as_json: bool) -> None:
    """Show all certificates, or everything about one.

    TARGET is a name, a file, or at least eight digits of a fingerprint.
    """
    now = datetime.now(UTC)
    if target is None:
        entries = [entry for entry in listing(folder) if entry.name or everything]
    else:
        entries = _wanted(folder, target)
    if as_json:
        click.echo(json.dumps([as_object(entry, now) for entry in entries], indent=2, ensure_ascii=False))
    elif target is None:
        show_table(entries, now)
    else:
        for number, entry in enumerate(entries):
            if number:
                click.echo()
            show_detail(entry, now, folder if certificate_file(folder, entry.name).exists() else None)


@pki.command()
@click.argument("name")
@folder_option
@click.option("--keep-key", is_flag=True, help="Certify the key that is there, instead of a new one.")
@address_options
@days_option
@passphrase_option("the authority's key")
@json_option
def renew(
    name: str,
    folder: Path,
    config: Path,
    keep_key: bool,
    dns: tuple[str, ...],
    ip: tuple[str, ...],
    days: float,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Give somebody a fresh certificate of the same identity.

    UUID, role and names stay (--dns and --ip add to them); the earlier certificate is valid until it expires, unless it is revoked.
    """
    now = datetime.now(UTC)
    authority = _open(folder, passphrase_file)
    entry = authority.renew(
        name, now, days=days, keep_key=keep_key, dns=dns_names(dns), addresses=addresses(ip)
    )
    following = (
        [RELOAD] if entry.role == Role.RALLYPOINT else [f"ice pki bundle {name}   (if it is used elsewhere)"]
    )
    made([entry], now, as_json, following)


@pki.command()
@click.argument("target", required=False)
@folder_option
@click.option("--refresh", is_flag=True, help="Only sign the revocation list anew.")
@passphrase_option("the authority's key")
@json_option
def revoke(
    target: str | None, folder: Path, config: Path, refresh: bool, passphrase_file: Path | None, as_json: bool
) -> None:
    """Put a certificate on the revocation list.

    TARGET is a name, which means every certificate of that identity, or at least eight digits of one certificate's fingerprint.
    """
    if (target is None) == (not refresh):
        raise click.UsageError("give either a TARGET or --refresh")
    now = datetime.now(UTC)
    authority = _open(folder, passphrase_file)
    entries: list[Entry] = []
    if target is None:
        authority.refresh(now)
    else:
        entries = authority.revoke(target, now)
    path = revocation_file(folder)
    following = [
        f"copy {path} to every machine that has its own: Rallypoints, gateways, satellites controlled over HTTPS; then on each:",
        RELOAD,
        "systemctl reload ice-gateway, systemctl reload ice-patch, where these run",
    ]
    if not as_json and target is None:
        click.echo(f"{path}: signed anew")
    made(entries, now, as_json, following, list=str(path))


@pki.command("bundle")
@click.argument("name")
@folder_option
@click.option("--out", type=click.Path(path_type=Path), help=f"File to write [NAME{bundles.SUFFIX}].")
@click.option(
    "--rallypoint", multiple=True, help="host:port to dial from there; repeatable [network.rallypoints]."
)
@click.option("--passphrase", "ask", is_flag=True, help="Ask for a passphrase to encrypt it with.")
@passphrase_option("the bundle, which is then encrypted")
@force_option
@json_option
def pack_bundle(
    name: str,
    folder: Path,
    config: Path,
    out: Path | None,
    rallypoint: tuple[str, ...],
    ask: bool,
    passphrase_file: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Pack what another machine or person needs into one file.

    It holds certificate, key, authorities, revocation list and a small ice.toml. Whoever has the file is NAME: send it encrypted,
    and tell the passphrase by another way.
    """
    from ice.net.addresses import parse_address

    dialled = [str(parse_address(each)) for each in rallypoint] or _rallypoints(config)
    content = bundles.pack(folder, name, dialled)
    secret = read_passphrase(passphrase_file) if passphrase_file else None
    if secret is None and ask:
        secret = click.prompt("passphrase", hide_input=True, confirmation_prompt=True, err=True).encode()
    path = out or Path(f"{check_name(name)}{bundles.SUFFIX}")
    bundles.write_bundle(path, content, secret, replace=force)
    local = not rallypoint and all(each.startswith(("localhost:", "127.", "[::1]")) for each in dialled)
    following = [f"ice pki unbundle {path.name} --into DIR   (there)"]
    warning = ""
    if local and "[network]" in content.members["ice.toml"].decode():
        warning = f"it dials {', '.join(dialled)}, which is the other machine itself there: give --rallypoint HOST:PORT"
    if as_json:
        answer = {"file": str(path), "encrypted": secret is not None, "holds": sorted(content.members)}
        click.echo(json.dumps({**answer, "warning": warning, "next": following}, indent=2))
        return
    click.echo(f"{path}: {', '.join(sorted(content.members))}{' (encrypted)' if secret else ''}")
    if secret is None:
        click.echo("note: not encrypted; whoever reads this file can be " + name, err=True)
    if warning:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"next: {following[0]}")


@pki.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--into", type=click.Path(path_type=Path), required=True, help="Folder to unpack into; made if need be."
)
@passphrase_option("the bundle")
@force_option
@json_option
def unbundle(file: Path, into: Path, passphrase_file: Path | None, force: bool, as_json: bool) -> None:
    """Unpack a bundle made by `ice pki bundle`."""
    data = read_file(file, "a bundle")
    secret = read_passphrase(passphrase_file) if passphrase_file else None
    if secret is None and bundles.is_encrypted(data) and sys.stdin.isatty():
        secret = click.prompt("passphrase", hide_input=True, err=True).encode()
    content = bundles.from_bytes(data, secret)
    written = bundles.unpack(content, into, replace=force)
    following = [f"ice check --config {into / 'ice.toml'}", f"export ICE_CONFIG={into / 'ice.toml'}"]
    authority = read_authorities([into / "pki" / "authority.pem"])[0]
    if as_json:
        answer = {"name": content.name, "files": [str(path) for path in written], "next": following}
        click.echo(json.dumps(answer, indent=2))
        return
    for path in written:
        click.echo(str(path))
    click.echo(
        f"\nthe authority's fingerprint, to compare with whoever sent this:\n  {spaced(fingerprint(authority))}\n"
    )
    click.echo(f"next: {following[0]}\n      {following[1]}")


@pki.command("trust")
@click.argument("file", type=click.Path(path_type=Path))
@folder_option
@json_option
def trust_file(file: Path, folder: Path, config: Path, as_json: bool) -> None:
    """Believe a second authority too, while certificates are changed over to it.

    FILE is its authority.pem. It is copied beside ours and added to authority.certificates.
    """
    now = datetime.now(UTC)
    path, entries = trust(folder, file)
    following = [f"set authority.certificates in {config} to also list {path}"]
    if config.exists():
        changed = add_authority(config, path)
        following = [RELOAD]
        if not as_json:
            click.echo(
                f"{config}: authority.certificates {'now lists' if changed else 'already lists'} {path}"
            )
    made(entries, now, as_json, following, file=str(path))


def _open(folder: Path, passphrase_file: Path | None) -> Authority:
    return Authority.open(folder, read_passphrase(passphrase_file) if passphrase_file else None)


def _wanted(folder: Path, target: str) -> list[Entry]:
    """What `show TARGET` means: a name in the folder, else a file, else a fingerprint."""
    if not certificate_file(folder, target).exists() and Path(target).is_file():
        authorities = read_authorities(authority_files(folder)) if folder.is_dir() else ()
        revoked = revoked_serials(folder, authorities)
        return [
            entry_of("", certificate, authorities, revoked) for certificate in read_certificates(Path(target))
        ]
    named = [entry for entry in listing(folder) if entry.name == target]
    return named or find(folder, target)


def _rallypoints(config: Path) -> list[str]:
    """Where the configuration in use dials."""
    from ice.config.load import load

    try:
        return [str(each) for each in load(config).config.network.rallypoints]
    except IceError as error:
        raise LocalError(
            f"which Rallypoint to dial is not known: {error}; give --rallypoint HOST:PORT"
        ) from None


def _this_host() -> list[str]:
    """This machine's name, if it is one that can be dialled."""
    try:
        return list(dns_names([socket.gethostname()]))
    except LocalError:
        return []


def _this_person() -> str:
    """The login name, as the common name of this machine's client."""
    try:
        name = getpass.getuser().strip()[:64]
    except (OSError, KeyError, ImportError):
        return "client"
    return name if name and name.isprintable() else "client"
