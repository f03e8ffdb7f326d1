"""What ``ice pki`` shows: tables on a terminal, tab-separated lines when piped, objects with ``--json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ice.security.certificates import (
    BadIdentity,
    Validity,
    date_in_words,
    issuer_name,
    key_mode_warning,
    spaced,
    span_in_words,
    validity,
    validity_in_words,
)
from ice.security.register import Entry, key_file, subject_of

HEADINGS = ("name", "role", "id", "fingerprint", "valid until", "state")
SOON_DAYS = 30  # a month is time enough to renew by hand


def as_object(entry: Entry, now: datetime) -> dict[str, Any]:
    """A certificate for machines."""
    return {
        "name": entry.name,
        "common_name": entry.common_name,
        "role": entry.role,
        "id": str(entry.id) if entry.id else None,
        "fingerprint": entry.fingerprint,
        "serial": f"{entry.certificate.serial_number:x}",
        "issuer": issuer_name(entry.certificate),
        "valid_from": entry.valid_from.isoformat(),
        "valid_until": entry.valid_until.isoformat(),
        "state": state_of(entry, now),
        "revoked": entry.revoked.isoformat() if entry.revoked else None,
        "addresses": _addresses(entry.certificate),
    }


def state_of(entry: Entry, now: datetime) -> str:
    """In a word or two: ``valid``, ``expired``, ``not yet valid``, ``revoked``, ``other authority``."""
    if entry.revoked:
        return "revoked"
    if not entry.ours:
        return "other authority"
    return {Validity.VALID: "valid", Validity.EXPIRED: "expired", Validity.NOT_YET: "not yet valid"}[
        validity(entry.certificate, now)
    ]


def show_table(entries: Sequence[Entry], now: datetime) -> None:
    """Certificates, one per line; shortened to fit on a terminal, whole when piped."""
    if not sys.stdout.isatty():
        click.echo("\t".join(HEADINGS))
        for entry in entries:
            cells = (
                _called(entry),
                entry.role or "-",
                str(entry.id or "-"),
                entry.fingerprint,
                entry.valid_until.isoformat(),
                state_of(entry, now),
            )
            click.echo("\t".join(cells))
        return
    table = Table(show_edge=False, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=heading != "name", overflow="fold")
    for entry in entries:
        state = state_of(entry, now)
        left = entry.valid_until - now
        if state == "valid" and left.days < SOON_DAYS:
            word = Text(f"{span_in_words(left)} left", style="yellow")
        else:
            word = Text(state, style="green" if state == "valid" else "bold red")
        table.add_row(
            Text(_called(entry)),
            entry.role or "-",
            f"{str(entry.id)[:8]}…" if entry.id else "-",
            f"{entry.fingerprint[:8]}…",
            f"{entry.valid_until:%Y-%m-%d}",
            word,
        )
    Console(file=sys.stdout).print(table)


def show_detail(entry: Entry, now: datetime, folder: Path | None = None) -> None:
    """Everything about one certificate, a line each."""
    certificate = entry.certificate
    lines = [
        ("name", _called(entry)),
        ("role", entry.role or "none: not made by ice pki"),
        ("id", str(entry.id or "-")),
        ("names", ", ".join(_addresses(certificate)) or "-"),
        ("issued by", ascii(issuer_name(certificate))[1:-1]),
        ("serial", f"{certificate.serial_number:x}"),
        ("fingerprint", spaced(entry.fingerprint)),
        ("validity", validity_in_words(certificate, now)),
    ]
    if entry.revoked:
        lines.append(("revoked", f"since {date_in_words(entry.revoked)}"))
    if not entry.ours:
        lines.append(("trust", "issued by no authority in this folder"))
    if folder and entry.name:
        path = key_file(folder, entry.name)
        warning = key_mode_warning(path)
        lines.append(("key", warning or (str(path) if path.exists() else f"{path} (not on this machine)")))
    width = max(len(label) for label, _ in lines)
    for label, value in lines:
        click.echo(f"{label:<{width}}  {value}")


def made(
    entries: Sequence[Entry], now: datetime, as_json: bool, following: Sequence[str], **more: object
) -> None:
    """What a command made, and what to type next."""
    if as_json:
        answer = {
            "certificates": [as_object(entry, now) for entry in entries],
            **more,
            "next": list(following),
        }
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    show_table(entries, now)
    if following:
        click.echo()
        for number, line in enumerate(following):
            click.echo(f"{'next: ' if number == 0 else '      '}{line}")


def _called(entry: Entry) -> str:
    """The files' name, with the common name where it differs; foreign text escaped."""
    shown = entry.common_name if entry.common_name.isprintable() else ascii(entry.common_name)
    if not entry.name:
        return f"({shown})"
    return entry.name if entry.name == shown else f"{entry.name} ({shown})"


def _addresses(certificate: x509.Certificate) -> list[str]:
    try:
        subject = subject_of(certificate)
    except BadIdentity:  # an authority or a foreign certificate has none of ours to show
        return []
    return [*subject.dns, *map(str, subject.addresses)]
