"""``{"address": …, "port": …}``, file names with ``${id}`` in them, and the names that streams have here."""

from typing import Final

from ice.engage.account import Page, Why
from ice.mission.identity import stream_id
from ice.net.addresses import Address, AddressError, parse_address

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


def file_name(text: str, own_id: str) -> str | None:
    """A file name with ``${id}`` filled in, or None where it is none: empty, or a reference (``@…``) that is not followed."""
    if not text.strip() or text.startswith("@") or not text.isprintable():
        return None
    return text.replace("${id}", own_id)
