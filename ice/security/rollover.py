"""Adding an authority to ``authority.certificates`` in an ``ice.toml`` that people keep, comments and all."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from ice.errors import LocalError
from ice.security.files import Draft, write

DEFAULT = "pki/authority.pem"  # what authority.certificates is when the file does not say

_HEADER = re.compile(r"(?m)^[ \t]*\[[ \t]*authority[ \t]*\][^\n]*(\n|\Z)")


def with_authority(text: str, certificate: str) -> str:
    """The configuration ``text`` with one more entry in ``authority.certificates``; the same text if it is there already.

    :param certificate: the file's path as the configuration writes it, relative to its own folder.
    :raises LocalError: the text is no TOML, or the key is no list.
    """
    try:
        before = tomllib.loads(text)
        listed = before.get("authority", {}).get("certificates")
        if listed is None:
            after = _insert(text, [DEFAULT, certificate])
            wanted = [DEFAULT, certificate]
        elif certificate in listed:
            return text
        else:
            document = tomlkit.parse(text)
            document["authority"]["certificates"].append(certificate)
            after, wanted = tomlkit.dumps(document), [*listed, certificate]
        if tomllib.loads(after)["authority"]["certificates"] == wanted:
            return after
    except (tomllib.TOMLDecodeError, TOMLKitError, TypeError, AttributeError, KeyError) as error:
        raise LocalError(f"cannot be edited safely ({error})") from None
    raise LocalError("cannot be edited safely")


def add_authority(config: Path, certificate: Path) -> bool:
    """Add a certificate file to a configuration file's ``authority.certificates``; False if it is there already.

    :raises LocalError: the file cannot be read, edited or written; it is then as it was.
    """
    shown = os.path.relpath(certificate, config.parent)
    if shown.startswith(".."):
        shown = str(certificate.resolve())
    try:
        text = config.read_text(encoding="utf-8")
        mode = stat.S_IMODE(config.stat().st_mode)
        after = with_authority(text, shown)
    except (OSError, UnicodeDecodeError, LocalError) as error:
        raise LocalError(
            f'{config}: {error}; add "{shown}" to the list authority.certificates by hand'
        ) from None
    if after == text:
        return False
    write([Draft(config, after.encode(), mode)], replace=True)
    return True


def _insert(text: str, certificates: list[str]) -> str:
    """The key at the top of its table: right below the header, where a person looks for it, else in a new table at the end."""
    line = f"certificates = {json.dumps(certificates)}\n"  # JSON's lists of strings are also TOML's
    header = _HEADER.search(text)
    if header is None:
        gap = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{gap}\n[authority]\n{line}"
    start = text[: header.end()]
    return f"{start}{'' if start.endswith(chr(10)) else chr(10)}{line}{text[header.end() :]}"
