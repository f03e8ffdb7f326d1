"""What a file is, told by the keys in it: the original's files carry no mark of their kind."""

from collections.abc import Mapping
from enum import StrEnum

from ice.errors import LocalError


class Kind(StrEnum):
    """A kind of file, by the word for ``--as``."""

    RALLYPOINT = "rallypoint"
    PEERING = "peering"
    BRIDGES = "bridges"
    BRIDGE_SERVICE = "bridge-service"
    POLICY = "policy"
    MISSION = "mission"
    RALLYPOINTS = "rallypoints"
    IDENTITY = "identity"
    TALKGROUPS = "talkgroups"
    OPTIONS = "options"
    OTHER = "other"


NAMES: Mapping[Kind, str] = {
    Kind.RALLYPOINT: "the configuration of a Rallypoint (rallypointd_conf.json)",
    Kind.PEERING: "a list of a Rallypoint's peers (peering file)",
    Kind.BRIDGES: "bridges and groups (bridges.json)",
    Kind.BRIDGE_SERVICE: "the configuration of a bridge service (engagebridged_conf.json)",
    Kind.POLICY: "an engine policy",
    Kind.MISSION: "a mission",
    Kind.RALLYPOINTS: "a list of Rallypoints for clients",
    Kind.IDENTITY: "a person's identity",
    Kind.TALKGROUPS: "the talk groups that a radio gateway announces",
    Kind.OPTIONS: "the options of an application",
    Kind.OTHER: "a file of Engage that ice has no use for",
}


class UnknownKind(LocalError):
    """Nothing in the file tells what it is."""


# Keys that only one kind of object has, the telling ones first. The first row of which one key is there decides.
_TELLING: tuple[tuple[Kind, frozenset[str]], ...] = (
    (Kind.BRIDGES, frozenset({"bridges"})),
    (Kind.BRIDGE_SERVICE, frozenset({"bridgingConfigurationFileName", "bridgingConfigurationFileCommand"})),
    (
        Kind.OTHER,  # recorders, translators, gateways; certificate stores; a talk group host
        frozenset(
            {
                "groupsConfigurationFileName",
                "groupsConfigurationFileCommand",
                "lingoConfigurationFileName",
                "lingoConfigurationFileCommand",
                "voiceToVoiceSessions",
                "restLink",
                "certificates",
            }
        ),
    ),
    (Kind.BRIDGE_SERVICE, frozenset({"enginePolicy"})),
    (
        Kind.RALLYPOINT,
        frozenset(
            {
                "listenPort",
                "peeringConfigurationFileName",
                "peeringConfigurationFileCommand",
                "staticReflectors",
                "multicastRestrictions",
                "groupRestrictions",
                "extendedGroupRestrictions",
                "isMeshLeaf",
                "peerRtBehaviors",
                "allowMulticastForwarding",
                "allowPeerForwarding",
                "routeMap",
                "linkGraph",
            }
        ),
    ),
    (Kind.PEERING, frozenset({"peers"})),
    (Kind.TALKGROUPS, frozenset({"talkgroups"})),
    (Kind.MISSION, frozenset({"groups"})),
    (Kind.RALLYPOINTS, frozenset({"rallypoints"})),
    (Kind.OPTIONS, frozenset({"rp", "codecs"})),
    (Kind.RALLYPOINT, frozenset({"limits", "externalHealthCheckResponder", "statusReport"})),
    (
        Kind.POLICY,
        frozenset(
            {"networking", "internals", "timelines", "licensing", "dataDirectory", "discovery", "audio"}
        ),
    ),
    (Kind.IDENTITY, frozenset({"userId", "displayName", "nodeId"})),
)


def kind_of(document: object, source: str) -> Kind:
    """What ``document`` is, the content of the file ``source``.

    :raises UnknownKind: it has none of the keys that the kinds have, or it is no object or list of objects.
    """
    if isinstance(document, list):
        return _of_list(document, source)
    if not isinstance(document, Mapping):
        raise UnknownKind(f"{source}: expected an object or a list of objects, found a single value")
    if isinstance(document.get("groups"), list) and "bridges" not in document:
        # A groups file (groups and nothing else) is what a bridge service and a recorder read; a mission has a name.
        named = any(key in document for key in ("name", "id", "meta"))
        return Kind.MISSION if named else Kind.BRIDGES
    for kind, keys in _TELLING:
        if any(key in document for key in keys):
            return kind
    raise UnknownKind(
        f"{source}: no key in it tells what it is (a Rallypoint's configuration has listenPort, a mission groups, "
        f"a peering file peers, …); where you know, say so: --as {'|'.join(Kind)}"
    )


def _of_list(document: list[object], source: str) -> Kind:
    first = next((each for each in document if isinstance(each, Mapping)), None)
    if first is None:
        raise UnknownKind(f"{source}: expected an object or a list of objects, found a list of other things")
    if "host" in first:
        return Kind.PEERING if "id" in first else Kind.RALLYPOINTS
    if "groups" in first:
        return Kind.BRIDGES
    if "rx" in first or "txAudio" in first or "cryptoPassword" in first:
        return Kind.TALKGROUPS
    if "id" in first:
        return Kind.PEERING
    raise UnknownKind(
        f"{source}: a list of objects, but neither Rallypoints (id, host) nor groups (rx, tx); "
        f"where you know, say so: --as {'|'.join(Kind)}"
    )
