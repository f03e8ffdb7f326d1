"""One file in, one account of it out: which kind it is, and who reads it."""

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Final

import attrs

from ice.engage import bridges, missions, peers, policy, rallypointd
from ice.engage.account import Account, Entry, Fate, Page, Why
from ice.engage.kinds import NAMES, Kind, kind_of
from ice.errors import LocalError
from ice.mission.tolerant import doubled, read_json

_MARKS: Final[Mapping[bytes, str]] = {
    b"-----BEGIN ": "certificates or keys (PEM); certificates of this site are made by ice pki (docs/certificates.md)",
    b"\x1f\x8b": "compressed (gzip), a packed mission perhaps: ice mission unpack FILE prints what is in it",
    b"PK\x03\x04": "a ZIP archive: unpack it, and import the files in it",
    b"\x89PNG": "a picture, a mission's QR code perhaps: ice mission unpack FILE reads it",
    b"<?xml": "XML; the original's files are JSON",
    b"NOTIFY * HTTP/": "an SSDP announcement of a radio gateway: import what its Location leads to",
    b"HTTP/1.": "an answer over HTTP or SSDP, headers and all: import the JSON that its Location leads to",
    b"M-SEARCH * HTTP/": "an SSDP search: nothing in it can be imported",
    b"RIFF": "a recording",
    b"[rallypoint": "our own configuration already (TOML)",
}
_SUFFIXES: Final[Mapping[str, str]] = {
    ".ice": "a packed mission: ice mission unpack FILE prints what is in it",
    ".certstore": "an encrypted certificate store; certificates of this site are made by ice pki (docs/certificates.md)",
}


class NotOurs(LocalError):
    """A file that is plainly something else than JSON; the message says what, and what to do with it."""


@attrs.frozen
class Imported:
    """One file that was read.

    :ivar document: what its JSON says.
    :ivar account: what became of it.
    :ivar mode: the mode that a bridge service gives to bridges that give none themselves, or ``""``.
    :ivar as_it_stands: for a peering file: empty where it can be used as it stands, else why not.
    """

    document: object = attrs.field(repr=False)
    account: Account
    mode: str = ""
    as_it_stands: str = ""


def read(data: bytes, source: str, kind: Kind | None = None) -> Imported:
    """Read one of the original's files.

    :param source: its name, for people.
    :param kind: what it is; None: that is told by its keys.
    :raises NotOurs: it is no JSON, but something well known.
    :raises MissionError: it is no JSON; with line and column.
    :raises UnknownKind: nothing tells what it is.
    """
    _look_at(data, source)
    document = read_json(data, source)
    kind = kind or kind_of(document, source)
    if not isinstance(document, dict | list):
        raise LocalError(f"{source}: expected an object or a list of objects, found a single value")
    account = Account(source, kind)
    account.remarks += doubled(document)
    if document == []:
        account.entries.append(Entry((), "", Fate.TAKEN, text="an empty list"))
    mode = as_it_stands = ""
    if kind in _LISTS:
        _LISTS[kind](document, account)
        if kind is Kind.PEERING:
            as_it_stands = peers.usable(data.decode("utf-8", "replace"), source)
    else:
        page = Page(_object(document, source, kind), (), "", account)
        if kind is Kind.BRIDGE_SERVICE:
            mode = policy.read_service(page)
        else:
            _OBJECTS[kind](page)
    return Imported(document, account, mode, as_it_stands)


def _nothing_here(page: Page) -> None:
    page.close("a file of another program of Engage, which has no counterpart here", Why.NOT_HERE)


_LISTS: Final[Mapping[Kind, Callable[[object, Account], None]]] = {
    # an object, or the bare list that would stand in it
    Kind.PEERING: peers.read,
    Kind.BRIDGES: bridges.read,
    Kind.TALKGROUPS: bridges.read_talkgroups,
    Kind.RALLYPOINTS: missions.read_rallypoints,
}
_OBJECTS: Final[Mapping[Kind, Callable[[Page], None]]] = {
    Kind.RALLYPOINT: rallypointd.read,
    Kind.POLICY: policy.read,
    Kind.MISSION: missions.read,
    Kind.IDENTITY: missions.read_identity,
    Kind.OPTIONS: missions.read_options,
    Kind.OTHER: _nothing_here,
}


def _object(document: object, source: str, kind: Kind) -> dict[str, object]:
    if not isinstance(document, dict):
        raise LocalError(f"{source}: expected {NAMES[kind]}, an object; found a list")
    return document


def _look_at(data: bytes, source: str) -> None:
    """Say what a file is that is plainly no JSON."""
    begin = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:64]
    if begin[:1] in (b"{", b"["):
        for mark, what in _MARKS.items():
            if mark[:1] == b"[" and begin.startswith(mark):
                raise NotOurs(f"{source}: this is {what}")
        return
    for mark, what in _MARKS.items():
        if begin.startswith(mark):
            raise NotOurs(f"{source}: this is {what}")
    what = _SUFFIXES.get(PurePath(source).suffix.lower(), "")
    if what:
        raise NotOurs(f"{source}: this is {what}")
