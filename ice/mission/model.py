# ruff: noqa: RUF009 (what stands in place of a default makes attrs fields, not values)
"""A mission: its groups, how each is reached, heard and sealed. Frozen values, equal when they say the same.

The order of fields is the original's; each class tells its keys in :mod:`ice.mission.fields`' way. A mission read from a file is made by
:func:`ice.mission.reading.read_mission`, which also works out what the file only implies: the ids by the recipe, a cluster's members, the
Rallypoint of the whole mission. ``attrs.evolve`` changes a mission; :func:`ice.mission.writing.write_mission` writes what was changed and
leaves the rest as it was.

No secret is in any ``repr``: not ``crypto_password``, not a Rallypoint's key, not what nobody knows (``more``).
"""

import enum
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from ice.mission.fields import (
    Part,
    Unusable,
    dump,
    flag,
    load,
    many,
    number,
    one,
    own,
    perhaps,
    same,
    text,
    texts,
    whole,
    wholes,
)
from ice.mission.parts import (
    AppTransport,
    BridgeOutput,
    Capture,
    Cluster,
    GateIn,
    GroupAudio,
    Host,
    IgnoredSource,
    Impairment,
    Meta,
    MissionRallypoint,
    Presence,
    PriorityTranslation,
    Rallypoint,
    RangerPackets,
    RtpProfile,
    Timeline,
    Translation,
    TxAudio,
    TxOptions,
)
from ice.mission.tolerant import Json, Tolerant, child, kind, shown

CBC: Final = "aes-256-cbc"  # the original's, and what is meant where no cipher is named
GCM: Final = "aes-256-gcm"
CIPHERS: Final = (CBC, GCM)
KEY_BYTES: Final = 32  # of a cryptoPassword as documented; shorter ones are met, and told
MAX_KEY_BYTES: Final = 1_024
OVERLAP_S: Final = 7 * 86_400  # of a change of keys where the file does not say: people come back from leave
_U32 = 4_294_967_295


class GroupType(enum.IntEnum):
    """What a group carries."""

    UNKNOWN = 0
    AUDIO = 1
    PRESENCE = 2  #: "mission control": presence, location, alerts
    RAW = 3


class Origin(enum.Enum):
    """Where a group's Rallypoints come from."""

    GROUP = "rallypoints"
    CLUSTER = "rallypointCluster"
    MISSION = "rallypoint"  #: that of the whole mission, in old files; no part of the group's id


def _hex(path: str, value: Json) -> str:
    """A key in hex, or a refusal that does not repeat it: a default would send in clear what was meant to be sealed."""
    if not isinstance(value, str):
        raise Unusable(path, f"expected a key in hex, in quotes, found {kind(value)}")
    if not value:
        raise Unusable(
            path,
            "is empty, which is no key: leave the key cryptoPassword out for a group in clear, or give 64 hex digits",
        )
    if not all(digit in "0123456789abcdefABCDEF" for digit in value):
        raise Unusable(
            path,
            "expected hex digits (0-9, A-F) only; a word is no key, nor the hash of one: `ice mission new` makes random ones",
        )
    if len(value) % 2:
        raise Unusable(path, f"expected an even number of hex digits, found {len(value)}: is it whole?")
    if len(value) > 2 * MAX_KEY_BYTES:
        raise Unusable(path, f"expected at most {2 * MAX_KEY_BYTES} hex digits, found {len(value)}")
    return value


def _load_key(tolerant: Tolerant, key: str) -> str | None:
    value = tolerant.raw(key)
    if value is None:
        return None
    found = _hex(child(tolerant.path, key), value)
    if len(found) < 2 * KEY_BYTES:
        tolerant.about(
            key,
            f"expected {2 * KEY_BYTES} hex digits, found {len(found)}; it is used, but is weaker than it should be",
        )
    return found


def _load_cipher(tolerant: Tolerant, key: str) -> str:
    value = tolerant.raw(key)
    if value is None:
        return CBC
    if isinstance(value, str) and value.lower() in CIPHERS:
        return value.lower()
    raise Unusable(child(tolerant.path, key), f"expected {' or '.join(CIPHERS)}, found {shown(value)}")


def _load_type(tolerant: Tolerant, key: str) -> GroupType:
    if key not in tolerant:
        tolerant.about(
            key, "expected 1 (audio), 2 (mission control) or 3 (raw), found none; 0 (unknown) is taken"
        )
    return GroupType(tolerant.whole(key, 0, 0, 3))


def _load_at(tolerant: Tolerant, key: str) -> datetime:
    value = tolerant.raw(key)
    try:
        if not isinstance(value, str):
            raise ValueError
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unusable(
            child(tolerant.path, key),
            f"expected a time in ISO 8601, like 2026-01-31T12:00:00Z, found {shown(value)}",
        ) from None


def iso(at: datetime) -> str:
    """A time as it is written in a mission: ISO 8601, UTC, no finer than it is."""
    at = at.astimezone(UTC)
    fine = "seconds" if not at.microsecond else "microseconds" if at.microsecond % 1_000 else "milliseconds"
    return at.isoformat(timespec=fine).replace("+00:00", "Z")


@attrs.frozen
class Rekey(Part):
    """The next key of a group: all accept both from now on, send with the old until ``at``, with this one from then on.

    :ivar at: UTC.
    :ivar overlap_s: how long after ``at`` the old one is still accepted.
    """

    crypto_password: str = own("cryptoPassword", _load_key, same, always=True, secret=True)
    at: datetime = own("at", _load_at, iso, always=True)
    overlap_s: float = number("overlapSecs", OVERLAP_S, 0, 10 * 365 * 86_400)


def _load_rekey(tolerant: Tolerant, key: str) -> Rekey | None:
    value = tolerant.raw(key)
    if value is None:
        return None
    inner = tolerant.object(key)
    if inner is None:
        raise Unusable(
            child(tolerant.path, key), f"expected {{cryptoPassword, at, overlapSecs}}, found {kind(value)}"
        )
    if "cryptoPassword" not in inner:
        raise Unusable(child(inner.path, "cryptoPassword"), "is missing: a change of keys needs the next key")
    return load(Rekey, inner)


def _perhaps(write: Callable[[Any], Json]) -> Callable[[Any], Json]:
    return lambda value: None if value is None else write(value)


@attrs.frozen
class Group(Part):
    """One group: a stream of voice, of presence, or of anything.

    :ivar id: the effective one: as written where ``id_override`` says so or where the recipe gives the same, else by the recipe.
    :ivar crypto_password: hex, as written, or None for a group in clear; the baseline of its keys, not a key.
    :ivar rallypoints: those that are used, whatever key they came from (``rallypoints_from``).
    :ivar cluster: ``rallypointCluster`` as it stands.
    :ivar source_filter: senders that multicast is joined for (source-specific), by address; empty: all. Our own key, as ``cipher`` and ``rekey``.
    """

    type: GroupType = own("type", _load_type, int, GroupType.UNKNOWN, always=True)
    id: str = text("id", always=True)
    id_override: bool = flag("idOverride", False, always=True)
    name: str = text("name", always=True)
    description: str = text("description")
    crypto_password: str | None = own("cryptoPassword", _load_key, same, secret=True)
    rx: Host | None = perhaps("rx", Host)
    tx: Host | None = perhaps("tx", Host)
    tx_audio: TxAudio = one("txAudio", TxAudio)
    presence: Presence = one("presence", Presence)
    rallypoints: tuple[Rallypoint, ...] = many("rallypoints", Rallypoint)
    cluster: Cluster | None = perhaps("rallypointCluster", Cluster)
    spoken_name: str = text("spokenName")
    alias: str = text("alias")
    source: str = text("source")
    interface_name: str = text("interfaceName")
    tx_options: TxOptions = one("txOptions", TxOptions, legacy=("networkOptions",))
    audio: GroupAudio = one("audio", GroupAudio)
    lb_crypto: bool = flag("lbCrypto", False)
    enable_multicast_failover: bool = flag("enableMulticastFailover", False)
    multicast_failover_s: float = number("multicastFailoverSecs", 10, 0, 86_400)
    timeline: Timeline = one("timeline", Timeline)
    block_advertising: bool = flag("blockAdvertising", False)
    max_rx_s: int = whole("maxRxSecs", 0, 0, _U32)
    rtcp_presence_rx: Host | None = perhaps("rtcpPresenceRx", Host)
    presence_group_affinities: tuple[str, ...] = texts("presenceGroupAffinities")
    disable_packet_events: bool = flag("disablePacketEvents", False)
    rfc4733_payload_type: int = whole("rfc4733RtpPayloadId", 0, 0, 127)  #: 0: no telephone events
    payload_translations: tuple[Translation, ...] = many("inboundRtpPayloadTypeTranslations", Translation)
    priority_translation: PriorityTranslation | None = perhaps("priorityTranslation", PriorityTranslation)
    sticky_tid_hang_s: int = whole("stickyTidHangSecs", 10, 0, _U32)
    anonymous_alias: str = text("anonymousAlias")
    inbound_alias_generation_policy: int = whole("inboundAliasGenerationPolicy", 0, 0, 1)
    app_transport: AppTransport | None = perhaps("appTransport", AppTransport)
    allow_loopback: bool = flag("allowLoopback", False)
    rtp_profile: RtpProfile = one("rtpProfile", RtpProfile)
    ranger_packets: RangerPackets | None = perhaps("rangerPackets", RangerPackets)
    tx_impairment: Impairment | None = perhaps("txImpairment", Impairment)
    rx_impairment: Impairment | None = perhaps("rxImpairment", Impairment)
    specializer_affinities: tuple[int, ...] = wholes("specializerAffinities", 0, 65_535)
    security_level: int = whole("securityLevel", 0, 0, _U32)
    ignore_sources: tuple[IgnoredSource, ...] = many("ignoreSources", IgnoredSource)
    language_code: str = text("languageCode")
    syn_voice: str = text("synVoice")
    rx_capture: Capture | None = perhaps("rxCapture", Capture)
    tx_capture: Capture | None = perhaps("txCapture", Capture)
    blob_payload_type: int = whole("blobRtpPayloadType", 0, 0, 65_535)
    gate_in: GateIn = one("gateIn", GateIn)
    ignore_audio_traffic: bool = flag("ignoreAudioTraffic", False)
    bridge_target_output_detail: BridgeOutput | None = perhaps("bridgeTargetOutputDetail", BridgeOutput)
    source_filter: tuple[str, ...] = texts("sourceFilter")
    cipher: str = own("cipher", _load_cipher, same, CBC)
    rekey: Rekey | None = own("rekey", _load_rekey, _perhaps(dump))
    rallypoints_from: Origin = Origin.GROUP

    @property
    def is_mission_control(self) -> bool:
        """Whether presence, location and alerts go here."""
        return self.type is GroupType.PRESENCE


@attrs.frozen
class Mission(Part):
    """A mission as a whole. :ivar id: the effective one, which follows from the name."""

    meta: Meta = one("meta", Meta, always=True)
    id: str = text("id", always=True)
    name: str = text("name", always=True)
    description: str = text("description")
    groups: tuple[Group, ...] = many("groups", Group, legacy=("talkgroups",))
    cert_store_id: str = text("certStoreId")
    multicast_failover_policy: int = whole("multicastFailoverPolicy", 0, 0, _U32)
    rallypoint: MissionRallypoint | None = perhaps("rallypoint", MissionRallypoint)

    def group(self, name: str) -> Group | None:
        """The group of this name or id, ids with or without braces; None where there is none."""
        wanted = name.strip("{}").lower()
        named = [group for group in self.groups if group.name == name]
        named += [group for group in self.groups if group.id.strip("{}").lower() == wanted]
        return named[0] if named else None
