"""``rallypointd_conf.json``: the configuration of the original's Rallypoint, as ours.

What means the same becomes a setting. What is always so here (mutual TLS, no loops, signatures) is taken when it agrees and refused when it would
switch that off. Commands are never run and never copied. Static reflectors become rules of ``[reflector]``, which is another daemon's: a
Rallypoint here forwards among its links only.
"""

from collections.abc import Callable, Mapping
from typing import Final

from ice.engage.account import Page, Row, Why
from ice.engage.credentials import MAKE_OURS, credentials, pair
from ice.engage.places import DEFAULT_PORT, IDS_STEP, address_in, file_name, stream_name
from ice.engage.restrictions import group_access, multicast_rule
from ice.net.addresses import Address
from ice.rallypoint.peering import IdError, rallypoint_id

COMMAND: Final = "a command; commands in imported files are neither run nor copied"
VOICE: Final = 3  # the highest class; samples say 4 and mean it
_SECTION: Final = "reflector.rules"

_NOT_HERE: Final[Mapping[str, str]] = {
    "fipsCrypto": "ice uses OpenSSL as the system has it",
    "requireFips": "ice uses OpenSSL as the system has it",
    "certStoreFileName": "an encrypted store of the original; certificates here are files (docs/certificates.md)",
    "configurationCheckSignalName": "a reload is asked for by SIGHUP (systemctl reload ice-rallypoint)",
    "allowMulticastForwarding": "multicast is forwarded by the rules of [reflector], each with its direction",
    "forwardDiscoveredGroups": "only streams that somebody has joined are forwarded",
    "forwardMulticastAddressing": "multicast addresses stand in [reflector] and in missions",
    "enableLeafReflectionReverseSubscription": "every Rallypoint tells its neighbours which streams it wants",
    "maxSecurityLevel": "streams have no security level; [[rallypoint.access]] says who may join what",
    "tcpTxOptions": "the class of service of links is left to the system",
    "udpStreaming": "speech goes over the TLS link",
    "websocket": "there is no WebSocket listener",
    "igmpSnooping": "there is no such setting yet",
    "discovery": "nothing is discovered; Rallypoints and groups are written down",
    "advertising": "a Rallypoint is not announced by mDNS; clients learn all ways in from any one",
    "peerRtTestIntervalMs": "links are asked for life by rallypoint.keepalive_s, and round trips measured then",
    "ioPools": "one process serves all links",
    "normalTaskQueueBias": "an internal of the original",
    "sysFlags": "an internal of the original",
    "watchdog": "systemd watches over the process (WatchdogSec in its unit)",
    "nsm": "Rallypoints are all active at once; satellites elect their leader by ballots, not by this protocol. "
    "A password in it belongs to that protocol and to nothing here",
    "domainName": "Rallypoints of others are admitted by [[federations]], each with its authority",
    "allowedDomains": "Rallypoints of others are admitted by [[federations]], each with its authority",
    "blockedDomains": "Rallypoints of others are admitted by [[federations]], each with its authority",
    "extraDomains": "Rallypoints of others are admitted by [[federations]], each with its authority",
    "rxCapture": "no packets are written to files",
    "txCapture": "no packets are written to files",
    "licensing": "there are no licences",
    "featureset": "there are no licences",
    "tuning": "an internal of the original; what a Rallypoint bears stands in [rallypoint.limits]",
    "peeringConfigurationFileCheckSecs": "a peering file is looked at every second",
}

_LIMITS_NOT_HERE: Final[Mapping[str, str]] = {
    "maxMulticastReflectors": "reflectors are rules of [reflector], another daemon's",
    "maxStreamPaths": "counted otherwise here: rallypoint.limits.joins bounds the streams of one link",
    "maxRxPacketsPerSec": "bounds all links together; rallypoint.limits.packets_per_s bounds each",
    "maxTxPacketsPerSec": "bounds all links together; what is sent is bounded by what may be received",
    "maxRxBytesPerSec": "bounds all links together; rallypoint.limits.bytes_per_s bounds each",
    "maxTxBytesPerSec": "bounds all links together; what is sent is bounded by what may be received",
    "maxQOpsPerSec": "an internal of the original",
    "maxInboundBacklog": "connections wait in the kernel; rallypoint.limits.handshakes bounds the unfinished ones",
    "lowPriorityQueueThreshold": "an internal of the original",
    "normalPriorityQueueThreshold": "an internal of the original",
    "warnAtCpuThreshold": "the load stands on the status page and in the metrics",
}


def read(page: Page) -> None:
    """Account for every key of a Rallypoint's configuration."""
    own_id = _identity(page)
    _listening(page)
    _security(page)
    _mesh(page, own_id)
    group_access(page)
    _reflectors(page)
    if (inner := page.page("limits")) is not None:
        _limits(inner)
    _reports(page, own_id)
    for key, why in _NOT_HERE.items():
        page.left(key, Why.NOT_HERE, why)
    page.close()


def _identity(page: Page) -> str:
    own_id = page.text("id") or ""
    try:
        page.account.own_id = str(rallypoint_id(own_id))
    except IdError:
        page.left("id", Why.NOT_HERE, "a Rallypoint is known by the UUID in its certificate; this is none")
    page.left(
        "id",
        Why.NOT_HERE,
        "a Rallypoint is known by the UUID in its certificate, which ice pki makes",
        step="where other Rallypoints list this one by its id, write the UUID of its new certificate there "
        "(ice pki show rallypoint tells it)",
    )
    return own_id


def _listening(page: Page) -> None:
    """Where links are accepted; the original listens on every address unless an interface is named, and so it is written down."""
    port = page.whole("listenPort", 1, 65_535)
    family = page.whole("ipFamily")
    interface = page.text("interfaceName") or ""
    host, text = ("0.0.0.0", "") if family in (None, 4) else ("::", "")
    given = Address(interface.strip(), 0).ip
    if given is not None:
        host = str(given)
        page.taken("interfaceName", "rallypoint.listen", "an address")
    elif interface.strip():
        host = "::1" if family == 6 else "127.0.0.1"
        text = "only this machine, until the address of the interface is written there"
        page.changed("interfaceName", "rallypoint.listen", text)
        page.account.step(
            "write the address of the interface that the Rallypoint shall listen on in rallypoint.listen "
            "(ip address tells it)"
        )
    page.taken("interfaceName", text="empty: every address")
    if family not in (None, 0, 4, 6):
        page.left("ipFamily", Why.WRONG, "expected 0, 4 or 6")
    page.taken("ipFamily", "rallypoint.listen")
    listen = [str(Address(host, port or DEFAULT_PORT))]
    page.set("listenPort", "rallypoint.listen", listen, text, changed=bool(text))
    if port is None:
        page.account.assume(
            ("rallypoint", "listen"), listen, "listenPort is not given: as the original then does"
        )
    if (inner := page.page("externalHealthCheckResponder")) is None:
        return
    health = inner.whole("listenPort", 0, 65_535)
    if health:
        inner.set("listenPort", "rallypoint.health_check", str(Address(host, health)))
    inner.taken("listenPort", "rallypoint.health_check", "0: none")
    if inner.flag("immediateClose") is False:
        inner.left("immediateClose", Why.NOT_HERE, "connections are closed at once here, always")
    inner.taken("immediateClose", text="always so here")
    inner.close()


def _security(page: Page) -> None:
    pair(page, "certificate", "rallypoint")
    page.left(
        "certStorePasswordHex",
        Why.REFUSED,
        "a password; certificates and keys are files here, and nothing here reads that store",
    )
    _always(page, "disableMessageSigning", False, "what the mesh says is signed, always")
    _always(page, "disableLoopDetection", False, "the mesh keeps itself free of loops, always")
    _always(page, "allowPeerForwarding", None, "the mesh forwards by itself, and free of loops")
    if (tls := page.page("tls")) is None:
        return
    _always(tls, "verifyPeers", True, "both ends of every link show certificates, always")
    _always(
        tls, "allowSelfSignedCertificates", False, "certificates are signed by the site's authority, always"
    )
    credentials(tls, "caCertificates", "authority-{}.pem", MAKE_OURS)
    serials = tls.strings("crlSerials")
    if serials:
        tls.left(
            "crlSerials",
            Why.NOT_HERE,
            f"{len(serials)} serial numbers of certificates that this site's authority never made",
            step="revoke certificates with ice pki revoke NAME; the list is authority.revocations",
        )
    tls.taken("crlSerials", text="an empty list")
    for key in ("subjectRestrictions", "issuerRestrictions"):
        tls.left(
            key, Why.NOT_HERE, "the original does not use it either; [[rallypoint.access]] goes by names"
        )
    for key in tls:
        if key.startswith(("blacklisted", "whitelisted")):
            tls.left(
                key, Why.NOT_HERE, "the original does not use it either; [[rallypoint.access]] goes by names"
            )
    tls.close()


def _always(page: Page, key: str, here: bool | None, text: str) -> None:
    """A switch for what is no choice here; ``here`` is how it always stands, None where it has no counterpart at all."""
    value = page.flag(key)
    if value is None:
        return
    if here is None:
        page.left(key, Why.NOT_HERE, text)
    elif value is here:
        page.taken(key, text=text)
    else:
        page.left(key, Why.REFUSED, text)


def _mesh(page: Page, own_id: str) -> None:
    _file(page, "peeringConfigurationFileName", "rallypoint.mesh.peering_file", own_id)
    if page.text("peeringConfigurationFileCommand", secret=True):
        page.left(
            "peeringConfigurationFileCommand",
            Why.REFUSED,
            COMMAND,
            step="where a command makes the list of peers, write it yourself in rallypoint.mesh.peering_command",
        )
    page.taken("peeringConfigurationFileCommand", text="empty: none")
    if (leaf := page.flag("isMeshLeaf")) is True:
        page.account.leaf = True
        page.changed(
            "isMeshLeaf",
            "groups.members.leaf",
            "a leaf is one in all its groups; it says so at its own entry",
        )
        page.account.step(
            "this Rallypoint is a leaf: set leaf = true at its own entry in [[groups]] (or forceIsMeshLeaf in a peering file), "
            "on every machine"
        )
    elif leaf is False:
        page.taken("isMeshLeaf", "groups.members.leaf")
    if (spread := page.whole("maxOutboundPeerConnectionIntervalDeltaSecs", 0)) is not None:
        page.set("maxOutboundPeerConnectionIntervalDeltaSecs", "rallypoint.mesh.spread_s", float(spread))
    for rule in page.pages("peerRtBehaviors") or ():
        _round_trip(rule)


_ACTIONS: Final[Mapping[int, str]] = {1: "info", 2: "warn", 3: "error", 99: "drop"}


def _round_trip(page: Page) -> None:
    ours = "rallypoint.mesh.round_trip"
    behavior, at = page.whole("behavior"), page.whole("atOrAboveMs", 0)
    if page.text("runCmd", secret=True):
        page.left("runCmd", Why.REFUSED, COMMAND)
    page.taken("runCmd", text="empty: none")
    action = None if behavior is None else _ACTIONS.get(behavior)
    if action is not None and at is not None:
        threshold = max(at, 1)
        values = {"at_or_above_ms": threshold, "action": action}
        page.account.rows.append(Row(("rallypoint", "mesh", "round_trip"), values, page.at, page.path))
        page.taken("behavior", ours)
        if at:
            page.taken("atOrAboveMs", ours)
        page.changed("atOrAboveMs", ours, "1 ms, the least that a rule may have")
    elif action is not None and "atOrAboveMs" not in page:
        page.left("behavior", Why.NOT_HERE, "no time is given at which it begins")
    else:
        page.left(
            "behavior",
            Why.NOT_HERE if behavior == 0 else Why.WRONG,
            "0 does nothing" if behavior == 0 else "expected 0, 1, 2, 3 or 99",
        )
        page.left("atOrAboveMs", Why.NOT_HERE, "it stands with nothing to do")
    page.close()


def _limits(page: Page) -> None:
    _limit(page, ("maxClients", "maxPeers"), "links")
    _limit(page, ("maxRegisteredStreams",), "streams")
    percent = page.whole("denyNewConnectionCpuThreshold", 0, 100)
    if percent:
        page.set("denyNewConnectionCpuThreshold", "rallypoint.limits.cpu_refuse_percent", percent)
        page.account.assume(
            ("rallypoint", "limits", "cpu_delay_percent"),
            min(percent, 75),
            "newcomers wait before they are refused",
        )
    page.left("denyNewConnectionCpuThreshold", Why.NOT_HERE, "0 switches it off; here it is always on")
    for key, why in _LIMITS_NOT_HERE.items():
        page.left(key, Why.NOT_HERE, why)
    page.close()


def _limit(page: Page, keys: tuple[str, ...], ours: str) -> None:
    """A bound; 0 is none in the original. Several add up to one of ours, unless one of them is none."""
    values = {key: page.whole(key, 0) for key in keys}
    path = f"rallypoint.limits.{ours}"
    if all(value != 0 for value in values.values()) and values[keys[0]]:
        total = sum(value or 0 for value in values.values())
        text = "clients and peers are counted together" if len(keys) > 1 else ""
        page.set(keys[0], path, total, text, changed=bool(text))
        for key in keys[1:]:
            page.changed(key, path, text)
    for key in keys:
        page.left(
            key,
            Why.NOT_HERE,
            f"0 is no bound there; here there is always one ({path})"
            if values[key] == 0
            else f"what it belongs to has no bound there; here there is always one ({path})",
        )


def _reports(page: Page, own_id: str) -> None:
    refresh: list[tuple[float, Page, str]] = []
    for section, key, period in (
        ("statusReport", "status_file", "intervalSecs"),
        ("linkGraph", "link_graph_file", "minRefreshSecs"),
        ("routeMap", "route_map_file", "minRefreshSecs"),
    ):
        if (inner := page.page(section)) is None:
            continue
        enabled = inner.flag("enabled") is True
        _report_file(inner, f"rallypoint.reports.{key}", own_id, enabled)
        seconds = inner.number(period, 0)
        if seconds is not None and enabled:
            refresh.append((seconds, inner, period))
        elif seconds is not None:
            inner.left(period, Why.NOT_HERE, "the report is switched off (enabled is false)")
        inner.taken("enabled", f"rallypoint.reports.{key}")
        if inner.text("runCmd", secret=True):
            inner.left("runCmd", Why.REFUSED, COMMAND)
        inner.taken("runCmd", text="empty: none")
        _report_details(inner, section)
        if not (refresh and refresh[-1][1] is inner):
            inner.close()
    if refresh:
        least = min(seconds for seconds, _, _ in refresh)
        for seconds, inner, period in refresh:
            if seconds == least:
                inner.set(period, "rallypoint.reports.refresh_s", seconds)
                least = -1  # one setting is enough
            inner.changed(
                period, "rallypoint.reports.refresh_s", "one refresh serves all reports: the shortest"
            )
            inner.close()


def _report_file(page: Page, ours: str, own_id: str, enabled: bool) -> None:
    if not enabled:
        page.left(
            "fileName", Why.NOT_HERE, f"the report is switched off (enabled is false); it would be {ours}"
        )
    _file(page, "fileName", ours, own_id)


def _file(page: Page, key: str, ours: str, own_id: str) -> None:
    """The name of a file as a setting, or why it is none."""
    text = page.text(key)
    if text is None:
        return
    found = file_name(text, own_id)
    if found.name:
        page.set(key, ours, found.name, found.note, changed=bool(found.note))
    else:
        page.left(key, found.why or Why.WRONG, found.note)


_GRAPH: Final[Mapping[str, tuple[str, Callable[[Page, str], object]]]] = {
    "includeDigraphEnclosure": ("enclosure", Page.flag),
    "includeClients": ("clients", Page.flag),
    "coreRpStyling": ("core_style", Page.text),
    "leafRpStyling": ("leaf_style", Page.text),
    "clientStyling": ("client_style", Page.text),
}


def _report_details(page: Page, section: str) -> None:
    if section == "linkGraph":
        for key, (ours, reading) in _GRAPH.items():
            value = reading(page, key)
            if value is not None:
                page.set(key, f"rallypoint.reports.{ours}", value)
    if section == "statusReport":
        for key in ("includeLinks", "includePeerLinkDetails", "includeClientLinkDetails"):
            page.left(key, Why.NOT_HERE, "the status has one form; clients stand on the page /status")


def _reflectors(page: Page) -> None:
    """``staticReflectors`` with what holds for all of them."""
    ours = "reflector.interface"
    if (interface := page.text("multicastInterfaceName")) is not None:
        page.set("multicastInterfaceName", ours, interface.strip())
    reflectors = page.pages("staticReflectors") or []
    common: dict[str, object] = {}
    if (options := page.page("multicastTxOptions")) is not None:
        common = tx_options(options, _SECTION if reflectors else "")
    restriction = multicast_rule(page.raw("multicastRestrictions"))
    off = 0
    made = 0
    for reflector in reflectors:
        values = _reflector(reflector)
        if values is None:
            continue
        row: dict[str, object] = {"stream": values.pop("stream"), **values, **common}
        made += 1
        rx = values["rx"]
        tx = values.get("tx", rx)
        assert isinstance(rx, Address) and isinstance(tx, Address)
        if restriction is not None and not restriction.admits(rx, tx):
            row["enabled"] = False
            off += 1
        plain = {key: str(value) if isinstance(value, Address) else value for key, value in row.items()}
        page.account.rows.append(Row(("reflector", "rules"), plain, reflector.at, reflector.path))
    if made:
        page.account.step(
            "reflector rules are served by the daemon ice-reflector, one active at a time; a Rallypoint itself reflects nothing"
        )
        page.account.step(IDS_STEP)
    if restriction is None:
        page.taken("multicastRestrictions", text="switched off (type 0)")
    elif made:
        page.changed(
            "multicastRestrictions",
            "reflector.rules.enabled",
            f"judged once, now: {off} of {made} reflectors may not use their addresses and are off (enabled = false)",
        )
    page.left(
        "multicastRestrictions",
        Why.NOT_HERE,
        "there is no static reflector in this file that it could restrict",
    )


def tx_options(page: Page, ours: str) -> dict[str, object]:
    """``{priority, ttl}`` as values of a reflector rule; ``ours`` is empty where no rule takes them."""
    values: dict[str, object] = {}
    if not ours:
        page.close("there is no static reflector that it could hold for", Why.NOT_HERE)
        return values
    priority, ttl = page.whole("priority", 0), page.whole("ttl", -1, 255)
    if priority is not None:
        values["priority"] = min(priority, VOICE)
        if priority > VOICE:
            page.changed(
                "priority", f"{ours}.priority", f"3, voice: there are 0–3; {priority} is none of them"
            )
        page.taken("priority", f"{ours}.priority")
    if ttl is not None and ttl >= 0:
        values["ttl"] = ttl
        page.taken("ttl", f"{ours}.ttl")
    page.left("ttl", Why.NOT_HERE, "the system's own, which is 1")
    page.close()
    return values


_DIRECTIONS: Final[Mapping[int, str]] = {0: "both", 1: "in", 2: "out"}


def _reflector(page: Page) -> dict[str, object] | None:
    """A rule's values, with addresses not yet as text; None, and everything settled, where it cannot be one."""
    mark = len(page.account.entries)
    values: dict[str, object] = {}
    wrong = ""
    stream = stream_name(page.text("id") or "")
    values["stream"] = stream
    page.taken("id", f"{_SECTION}.stream")
    if not stream:
        wrong = "there is no id"
    for key in ("rx", "tx"):
        inner = page.page(key)
        address = address_in(inner, f"{_SECTION}.{key}") if inner is not None else None
        if address is None or address.ip is None:
            wrong = wrong or f"{key} is no address in numbers"
        elif address != values.get("rx"):
            values[key] = address
    additional: list[Address] = []
    for inner in page.pages("additionalTx") or ():
        address = address_in(inner, f"{_SECTION}.additional_tx")
        if address is not None and address not in (values.get("rx"), values.get("tx"), *additional):
            additional.append(address)
    if additional:
        values["additional_tx"] = [str(address) for address in additional]
    if (interface := page.text("multicastInterfaceName")) is not None:
        if interface.strip():
            values["interface"] = interface.strip()
        page.taken("multicastInterfaceName", f"{_SECTION}.interface")
    if (direction := page.whole("directionRestriction", 0, 2)) is not None:
        if direction:
            values["direction"] = _DIRECTIONS[direction]
        page.taken("directionRestriction", f"{_SECTION}.direction")
    elif "directionRestriction" in page:
        wrong = wrong or "which direction it is restricted to cannot be told"
    page.close()
    if wrong:
        page.account.refuse_since(mark, f"this reflector cannot be taken over: {wrong}")
        return None
    return values
