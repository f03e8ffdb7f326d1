"""``{"address": …, "port": …}``, file names with ``${id}`` in them, and the names that streams have here."""

import re
from typing import Final

import attrs

from ice.engage.account import Page, Why
from ice.mission.identity import stream_id
from ice.net.addresses import Address, AddressError, parse_address

_WINDOWS: Final = re.compile(r"[A-Za-z]:|.*\\")
DEFAULT_PORT: Final = 7443
IDS_STEP: Final = (
    "streams are named by the ids in these files; a mission's groups are known by ids that follow from their contents, unless it says "
    "idOverride: compare them with ice mission id FILE"
)


def stream_name(group_id: str) -> str:
    """The stream of a group here: its id without braces, in small letters."""
    return stream_id(group_id.strip())


def address_in(page: Page, ours: str, *, default_port: int = 0) -> Address | None:
    """The address that an object gives, and the object accounted for; None where it gives none that can be used.

    :param ours: the key that it becomes.
    :param default_port: where no port stands, or 0; without one, 0 is no port.
    """
    found = _address(page, default_port)
    if found is not None:
        page.taken("address", ours)
        page.taken("port", ours)
    else:
        page.left("address", Why.WRONG, "no address that can be used")
        page.left("port", Why.WRONG, "it stands with no address that can be used")
    page.close()
    return found


def _address(page: Page, default_port: int) -> Address | None:
    text = page.text("address")
    port = page.whole("port", 0, 65_535)
    if "port" in page and port is None:
        return None
    if not text or not text.strip():
        return None
    try:
        found = parse_address(text.strip(), default_port=port or default_port or 1)
    except AddressError as error:
        page.left("address", Why.WRONG, str(error))
        return None
    if not (port or default_port) and found.port == 1:
        page.left("address", Why.WRONG, "no port is given with it")
        return None
    if port and found.port != port:
        page.left("port", Why.WRONG, f"the address itself says {found.port}")
    return found


@attrs.frozen
class FileNamed:
    """A file that is named: by what name, or, where that is empty, why it is not taken; and what was changed about it."""

    name: str = ""
    note: str = ""
    why: Why | None = None


def file_name(text: str, own_id: str) -> FileNamed:
    """The name of a file, with ``${id}`` filled in; references (``@…``) and names of another system are none."""
    if not text.strip():
        return FileNamed(note="empty: none", why=Why.NOT_HERE)
    if text.startswith("@"):
        return FileNamed(note="a reference; it is not followed", why=Why.REFUSED)
    if not text.isprintable():
        return FileNamed(note="no name of a file", why=Why.WRONG)
    if _WINDOWS.match(text):
        return FileNamed(note="the name of a file on Windows; write the one that it has here", why=Why.WRONG)
    name = text.replace("${id}", own_id)
    notes = ["${id} is filled in"] if name != text else []
    if not name.startswith("/"):
        notes.append("relative to the folder of the configuration")
    return FileNamed(name, "; ".join(notes))
