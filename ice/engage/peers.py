"""A peering file, as a group: the original's Rallypoints list whom they dial, ours list who belongs together.

The file can also be used as it stands (``rallypoint.mesh.peering_file``); :func:`usable` says whether. As a group the list is one table that is the
same on every machine, our own entry among its members; where it came from a list of others, that entry is missing and has to be added.
"""

from pathlib import PurePath

from ice.engage.account import Account, Page, Row, Why, pages_of
from ice.engage.credentials import pair
from ice.engage.places import DEFAULT_PORT, address_in
from ice.rallypoint.peering import IdError, PeeringError, rallypoint_id, read_peering

OURS = "groups.members"
_WEBSOCKET = "Rallypoints speak TLS with each other, not WebSocket"


def read(document: object, account: Account) -> None:
    """Account for every key of a peering file and make one ``[[groups]]`` of it."""
    if isinstance(document, dict):
        page = Page(document, (), "", account)
        for key in ("id", "version", "comments"):
            page.left(key, Why.NOT_HERE, "a note of whoever wrote the file; nothing reads it")
        peers = page.pages("peers") or []
        page.close()
    else:
        peers = pages_of(document if isinstance(document, list) else [], (), "", account)
    members: dict[str, dict[str, object]] = {}
    for peer in peers:
        mark = len(account.entries)
        found = _member(peer)
        if found is None:
            account.refuse_since(mark, "there is no UUID by which a Rallypoint could be known")
        elif str(found["id"]) in members:
            account.refuse_since(mark, "this Rallypoint is listed before")
        else:
            members[str(found["id"])] = found
    if members:
        name = PurePath(account.source).stem[:64] or "mesh"
        at = ("peers",) if isinstance(document, dict) else ()
        values: dict[str, object] = {"name": name, "members": list(members.values())}
        account.rows.append(Row(("groups",), values, at, "peers" if at else ""))


def usable(text: str, source: str) -> str:
    """Empty where the file can be used as it stands; else why not."""
    try:
        read_peering(text, source)
    except PeeringError as error:
        return str(error)
    return ""


def _member(page: Page) -> dict[str, object] | None:
    text = page.text("id")
    try:
        id = rallypoint_id(text or "")
    except IdError:
        id = None
    member: dict[str, object] = {"id": str(id)}
    page.taken("id", f"{OURS}.id")
    if (host := page.page("host")) is not None:
        address = address_in(host, f"{OURS}.address", default_port=DEFAULT_PORT)
        if address is not None:
            member["address"] = str(address)
    if page.flag("forceIsMeshLeaf"):
        member["leaf"] = True
    page.taken("forceIsMeshLeaf", f"{OURS}.leaf")
    if page.flag("enabled") is False:
        member["enabled"] = False
    page.taken("enabled", f"{OURS}.enabled")
    page.left("connectionTimeoutSecs", Why.NOT_HERE, "an address that does not answer is given up after 5 s")
    policy = page.whole("outboundLeafPolicy", 0, 2)
    if policy == 0:
        page.taken("outboundLeafPolicy", f"{OURS}.leaf", "0: as the Rallypoint is")
    page.left(
        "outboundLeafPolicy",
        Why.NOT_HERE,
        "a Rallypoint is a leaf on all its links or on none: leaf at its own entry",
    )
    pair(page, "certificate", f"peer-{id}")
    for key in ("path", "protocol", "additionalProtocols"):
        page.left(key, Why.NOT_HERE, _WEBSOCKET)
    page.close()
    return None if id is None else member
