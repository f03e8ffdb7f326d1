"""Where clients find their Rallypoints: missions, lists of Rallypoints, identities, the options of an application.

A mission needs no import: it is read as it stands (``ice mission show FILE``, ``ice talk FILE/GROUP``). What this machine can take from it
are the Rallypoints that its groups name, for links that open without a mission.
"""

import shlex
from collections.abc import Mapping
from typing import Final

from ice.engage.account import MAX_RALLYPOINTS, Account, Page, Why, pages_of
from ice.engage.credentials import MAKE_CLIENT, credential, credentials
from ice.engage.places import DEFAULT_PORT, address_in

_STAYS: Final = "stays in the mission, which is read as it is"
_OURS: Final = "network.rallypoints"
STRATEGIES: Final[Mapping[int, str]] = {0: "round-robin", 1: "fail-back"}
MAX_ALIAS: Final = 16  # bytes


def read(page: Page) -> None:
    """Account for every key of a mission."""
    account = page.account
    file = shlex.quote(account.source)
    account.step(
        f"a mission is used as it stands: ice mission show {file} shows it, ice mission check {file} examines it"
    )
    rallypoint = page.page("rallypoint")
    if rallypoint is not None:
        _application(rallypoint, "use")
    for group in page.pages("groups") or ():
        rallypoint_list(group, "rallypoints")
        cluster(group)
        group.close(_STAYS, Why.STAYS)
    page.close(_STAYS, Why.STAYS)


def read_rallypoints(document: object, account: Account) -> None:
    """Account for every key of a list of Rallypoints for clients."""
    if isinstance(document, dict):
        page = Page(document, (), "", account)
        _cluster(page)
        return
    for page in pages_of(document if isinstance(document, list) else [], (), "", account):
        _rallypoint(page)


def read_identity(page: Page) -> None:
    """Account for every key of a person's identity."""
    for key in ("alias", "displayName"):
        text = page.text(key)
        if not text or not text.strip():
            page.taken(key, text="empty")
        elif page.account.settings:
            page.left(key, Why.NOT_HERE, "the alias is taken; a certificate names its holder in full")
        elif len(text.encode("utf-8", "replace")) > MAX_ALIAS:
            page.left(key, Why.WRONG, f"longer than {MAX_ALIAS} bytes, the most that an alias may have")
        else:
            page.set(key, "identity.alias", text)
    page.left("userId", Why.NOT_HERE, "people are known by their certificates", step=MAKE_CLIENT)
    page.left("nodeId", Why.NOT_HERE, "a certificate carries a UUID", step=MAKE_CLIENT)
    page.left("avatar", Why.NOT_HERE, "there are no pictures of people")
    page.close()


def read_options(page: Page) -> None:
    """Account for every key of the options of an application: whether and where there is a Rallypoint."""
    if (inner := page.page("rp")) is not None:
        _application(inner, "enabled")
    page.left("codecs", Why.NOT_HERE, "names for a menu; ice knows its codecs itself")
    page.close()


def _application(page: Page, switch: str) -> None:
    """``{enabled, host}`` or ``{use, address, port}``."""
    on = page.flag(switch)
    page.taken(switch, _OURS)
    if on is False:
        page.close("the Rallypoint is switched off", Why.NOT_HERE)
        return
    if (host := page.page("host")) is not None:
        _take(host)
        page.close()
    else:
        _take(page)


def rallypoint_list(page: Page, key: str) -> None:
    """A list of Rallypoints as clients see them."""
    for inner in page.pages(key) or ():
        _rallypoint(inner)


def cluster(page: Page) -> None:
    """``rallypointCluster`` of a group."""
    if (inner := page.page("rallypointCluster")) is not None:
        _cluster(inner)


def _cluster(page: Page) -> None:
    strategy = page.whole("connectionStrategy", 0, 1)
    if strategy is not None:
        page.set("connectionStrategy", "network.strategy", STRATEGIES[strategy])
    for key, ours in (
        ("rolloverSecs", "network.rollover_s"),
        ("connectionTimeoutSecs", "network.connect_timeout_s"),
    ):
        seconds = page.number(key, 0)
        if seconds:
            page.set(key, ours, seconds)
        page.left(key, Why.NOT_HERE, "0 leaves it to the system; here it is bounded")
    page.left("transactionTimeoutMs", Why.NOT_HERE, "a join that is not answered is asked again")
    rallypoint_list(page, "rallypoints")
    page.close()


def _rallypoint(page: Page) -> None:
    if (host := page.page("host")) is not None:
        _take(host)
    credential(page, "certificate", "client.pem", MAKE_CLIENT)
    credential(page, "certificateKey", "client.key", MAKE_CLIENT)
    credentials(page, "caCertificates", "authority-{}.pem", MAKE_CLIENT)
    if page.flag("verifyPeer") is False:
        page.left("verifyPeer", Why.REFUSED, "the certificate of a Rallypoint is judged, always")
    page.taken("verifyPeer", text="always so here")
    if page.flag("allowSelfSignedCertificate"):
        page.left(
            "allowSelfSignedCertificate", Why.REFUSED, "certificates are signed by the site's authority"
        )
    page.taken("allowSelfSignedCertificate", text="always so here")
    if page.flag("disableMessageSigning") is not None:
        page.left("disableMessageSigning", Why.NOT_HERE, "what a client says is protected by TLS")
    page.left("transactionTimeoutMs", Why.NOT_HERE, "a join that is not answered is asked again")
    page.left("connectionTimeoutSecs", Why.NOT_HERE, "network.connect_timeout_s holds for all Rallypoints")
    page.left("tcpTxOptions", Why.NOT_HERE, "the class of service of links is left to the system")
    page.left("sni", Why.NOT_HERE, "the name that is dialled is the name that is asked for")
    page.left("name", Why.NOT_HERE, "Rallypoints tell their names themselves")
    for key in ("protocol", "path", "additionalProtocols"):
        page.left(key, Why.NOT_HERE, "links are TLS, not WebSocket")
    page.close()


def _take(page: Page) -> None:
    """The address in an object, as one of the Rallypoints."""
    mark = len(page.account.entries)
    address = address_in(page, _OURS, default_port=DEFAULT_PORT)
    if address is not None and not page.account.rallypoint(str(address), page.at, page.path):
        page.account.refuse_since(
            mark, f"there are {MAX_RALLYPOINTS} Rallypoints already, the most that are listed"
        )
