# ruff: noqa: RUF009 (what stands in place of a default makes attrs fields, not values)
"""What a group is made of, in the order of the original's data model: values with their keys, defaults and ranges.

Names are the original's in snake_case, with the unit where its key has none. Where a value is not in its range the default is taken, as
everywhere in a mission (:mod:`ice.mission.tolerant`).
"""

from typing import Any

import attrs

from ice.media.engage import DEFAULT_ENCODER, ENCODERS, SYMBOLS
from ice.mission.fields import Part, dump, flag, load, many, number, one, own, perhaps, same, text, whole
from ice.mission.tolerant import Json, Tolerant, child, shown

_PORTS = 65_535
_U16 = 65_535
_U32 = 4_294_967_295
_DAY_MS = 86_400_000  # no time in milliseconds is meant to be longer
_YEAR_S = 31_536_000
_SYMBOLS = {symbol.lower(): number for symbol, number in SYMBOLS.items()}
VOICE = 3  # transmit priority: 0 best effort, 1 signalling, 2 video, 3 voice


@attrs.frozen
class Host(Part):
    """A place on the network: a literal address or a name, and a port; 0 where none was given."""

    address: str = text("address", always=True)
    port: int = whole("port", 0, 0, _PORTS, always=True)


@attrs.frozen
class TxOptions(Part):
    """How packets leave. :ivar priority: 0 best effort, 1 signalling, 2 video, 3 voice; :ivar ttl: routers that a packet may pass, plus one."""

    priority: int = whole("priority", VOICE, 0, VOICE, always=True)
    ttl: int = whole("ttl", 1, 0, 255, always=True)


@attrs.frozen
class TcpTxOptions(Part):
    """The same on a TCP link. :ivar ttl: −1 is the system's own."""

    priority: int = whole("priority", VOICE, 0, VOICE)
    ttl: int = whole("ttl", -1, -1, 255)


def _read_encoder(tolerant: Tolerant, key: str) -> int:
    value = tolerant.value.get(key)
    if isinstance(value, str) and (found := _SYMBOLS.get(value.lower())) is not None:
        tolerant.raw(key)
        return found
    number_found = tolerant.whole(key, DEFAULT_ENCODER)
    if number_found not in ENCODERS:
        tolerant.about(
            key,
            f"no encoder has the number {shown(number_found)}; {DEFAULT_ENCODER} (Opus, 8 kbit/s) is taken",
        )
        return DEFAULT_ENCODER
    return number_found


@attrs.frozen
class TxAudio(Part):
    """How speech leaves. Bursts are counted in packets; ``encoder`` is the original's number, also where a symbol was written."""

    enabled: bool = flag("enabled", True)
    encoder: int = own("encoder", _read_encoder, same, DEFAULT_ENCODER, always=True)
    encoder_name: str = text("encoderName")  #: of an external encoder
    framing_ms: int = whole("framingMs", 60, 0, 1_000, always=True)
    block_count: int = whole(
        "blockCount", 0, 0, 255
    )  #: over 0: blocks of the codec per packet, in place of framing_ms
    fdx: bool = flag("fdx", False, always=True)
    no_hdr_ext: bool = flag("noHdrExt", False)
    max_tx_s: int = whole("maxTxSecs", 0, 0, _YEAR_S, always=True)  #: 0: as the program is set
    extension_send_interval: int = whole("extensionSendInterval", 10, 0, _U16)
    initial_header_burst: int = whole("initialHeaderBurst", 5, 0, 255)
    trailing_header_burst: int = whole("trailingHeaderBurst", 5, 0, 255)
    start_tx_notifications: int = whole("startTxNotifications", 5, 0, 255)
    custom_payload_type: int = whole("customRtpPayloadType", -1, -1, 127)  #: −1: the encoder's own
    reset_rtp_on_tx: bool = flag("resetRtpOnTx", True)
    enable_smoothing: bool = flag("enableSmoothing", True)
    smoothed_hang_time_ms: int = whole("smoothedHangTimeMs", 0, 0, _DAY_MS)
    dtx: bool = flag("dtx", False)


@attrs.frozen
class Presence(Part):
    """How presence is told on a mission control group. :ivar format: 0 unknown, 1 JSON, 2 Cursor-on-Target XML."""

    format: int = whole("format", 1, 0, 2)
    interval_s: int = whole("intervalSecs", 30, 1, _YEAR_S)
    min_interval_s: int = whole("minIntervalSecs", 5, 0, _YEAR_S)
    listen_only: bool = flag("listenOnly", False)
    reduce_immediacy: bool = flag("reduceImmediacy", False)
    force_on_audio_transmit: bool = flag("forceOnAudioTransmit", False)  #: in old files


@attrs.frozen
class GroupAudio(Part):
    """Microphone and loudspeaker of a group; gains and levels in percent."""

    enabled: bool = flag("enabled", True)
    input_id: int = whole("inputId", 0)
    input_gain_percent: int = whole("inputGain", 0, -1_000, 1_000)
    output_id: int = whole("outputId", 0)
    output_gain_percent: int = whole("outputGain", 0, -1_000, 1_000)
    output_level_left_percent: int = whole("outputLevelLeft", 100, 0, 1_000)
    output_level_right_percent: int = whole("outputLevelRight", 100, 0, 1_000)
    output_muted: bool = flag("outputMuted", False)


@attrs.frozen
class Timeline(Part):
    """What is recorded of a group."""

    enabled: bool = flag("enabled", True)
    max_audio_time_ms: int = whole("maxAudioTimeMs", 30_000, 0, _DAY_MS)
    record_audio: bool = flag("recordAudio", True)


@attrs.frozen
class Translation(Part):
    """An RTP payload type as others send it, and the one that is meant."""

    external: int = whole("external", 0, 0, _U16, always=True)
    engage: int = whole("engage", 0, 0, _U16, always=True)


@attrs.frozen
class PriorityTranslation(Part):
    """Traffic at another address is of this floor priority."""

    rx: Host | None = perhaps("rx", Host)
    tx: Host | None = perhaps("tx", Host)
    priority: int = whole("priority", 0, 0, 255)


@attrs.frozen
class AppTransport(Part):
    """A transport of the application's own."""

    enabled: bool = flag("enabled", False)
    id: str = text("id")


@attrs.frozen
class RtpProfile(Part):
    """Jitter buffer and ends of bursts. :ivar mode: 0 standard, 1 low latency, 2 released at the end of transmission.

    ``signalled_inactivity_ms`` is four times ``inactivity_ms`` where it is not given, and then −1 here.
    """

    mode: int = whole("mode", 0, 0, 2)
    jitter_max_ms: int = whole("jitterMaxMs", 10_000, 0, _DAY_MS)
    jitter_min_ms: int = whole("jitterMinMs", 20, 0, _DAY_MS)
    jitter_max_factor: int = whole("jitterMaxFactor", 8, 0, _U16)
    late_packet_sequence_range: int = whole("latePacketSequenceRange", 5, 0, _U16)
    late_packet_timestamp_range_ms: int = whole("latePacketTimestampRangeMs", 2_000, 0, _DAY_MS)
    jitter_trim_percent: int = whole("jitterTrimPercentage", 10, 0, 100)
    jitter_underrun_reduction_threshold_ms: int = whole(
        "jitterUnderrunReductionThresholdMs", 1_500, 0, _DAY_MS
    )
    jitter_underrun_reduction_ager: int = whole("jitterUnderrunReductionAger", 100, 0, _U32)
    jitter_force_trim_at_ms: int = whole("jitterForceTrimAtMs", 0, 0, _DAY_MS)
    jitter_max_trim_ms: int = whole("jitterMaxTrimMs", 250, 0, _DAY_MS)
    jitter_max_exceeded_clip_percent: int = whole("jitterMaxExceededClipPerc", 10, 0, 100)
    jitter_max_exceeded_clip_hang_ms: int = whole("jitterMaxExceededClipHangMs", 1_500, 0, _DAY_MS)
    inactivity_ms: int = whole("inboundProcessorInactivityMs", 500, 1, _DAY_MS)
    signalled_inactivity_ms: int = whole("signalledInboundProcessorInactivityMs", -1, 1, _DAY_MS)
    rtcp_presence_timeout_ms: int = whole("rtcpPresenceTimeoutMs", 45_000, 0, _DAY_MS)
    zombie_lifetime_ms: int = whole("zombieLifetimeMs", 15_000, 0, _DAY_MS)


@attrs.frozen
class RangerPackets(Part):
    """Packets that wake the network after silence. :ivar hang_timer_s: how long that is; −1: none are sent."""

    hang_timer_s: int = whole("hangTimerSecs", 11, -1, _YEAR_S)
    count: int = whole("count", 5, 0, _U16)


@attrs.frozen
class Impairment(Part):
    """Damage done on purpose, for tests."""

    application_percent: int = whole("applicationPercentage", 0, 0, 100)
    jitter_ms: int = whole("jitterMs", 0, 0, _DAY_MS)
    loss_percent: int = whole("lossPercentage", 0, 0, 100)


@attrs.frozen
class IgnoredSource(Part):
    """A sender that is not heard."""

    node_id: str = text("nodeId")
    alias: str = text("alias")


@attrs.frozen
class Capture(Part):
    """Packets written to a file."""

    enabled: bool = flag("enabled", False)
    max_mb: int = whole("maxMb", 10, 0, _U32)
    file_prefix: str = text("filePrefix")


@attrs.frozen
class GateIn(Part):
    """What opens the microphone; windows in samples of 10 ms."""

    enabled: bool = flag("enabled", False)
    use_vad: bool = flag("useVad", False)
    hang_ms: int = whole("hangMs", 1_500, 0, _DAY_MS)
    window_min: int = whole("windowMin", 25, 0, _U32)
    window_max: int = whole("windowMax", 125, 0, _U32)
    coefficient: float = number("coefficient", 1.75, 0, 1_000)


@attrs.frozen
class AudioUri(Part):
    """Sound to be sent from somewhere else than the microphone."""

    uri: str = text("uri")
    repeat_count: int = whole("repeatCount", 0)


@attrs.frozen
class AdvancedTx(Part):
    """Parameters of one transmission. :ivar flags: 0x01 emergency, 0x04 automatic system, …"""

    flags: int = whole("flags", 0, 0, _U16)
    priority: int = whole("priority", 0, 0, 255)
    subchannel_tag: int = whole("subchannelTag", 0, 0, _U16)
    include_node_id: bool = flag("includeNodeId", False)
    alias: str = text("alias")
    muted: bool = flag("muted", False)
    tx_id: int = whole("txId", 0, 0, _U32)
    audio_uri: AudioUri | None = perhaps("audioUri", AudioUri)
    alias_specializer: int = whole("aliasSpecializer", 0, 0, _U16)
    receiver_rx_mute_for_alias_specializer: bool = flag("receiverRxMuteForAliasSpecializer", False)
    re_begin: bool = flag("reBegin", False)


@attrs.frozen
class BridgeOutput(Part):
    """What a bridge puts out here. :ivar mode: 0 raw, 1 multistream, 2 mixed."""

    mode: int = whole("mode", 0, 0, 2)
    mixed_stream_tx_params: AdvancedTx | None = perhaps("mixedStreamTxParams", AdvancedTx)


def _load_host(tolerant: Tolerant, key: str) -> Host:
    """A Rallypoint's host; the oldest files have address and port beside each other instead."""
    inner = tolerant.object(key)
    if inner is None and "address" in tolerant:
        beside = Tolerant(tolerant.value, tolerant.path, tolerant.remarks)  # so that both stay in `more`
        return Host(address=beside.text("address"), port=beside.whole("port", 0, 0, _PORTS))
    if inner is None:
        tolerant.about(key, "expected {address, port}, found none; this Rallypoint cannot be dialled")
        return Host()
    return load(Host, inner)


def _certificate(key: str, *, secret: bool = False) -> Any:
    """PEM, or ``@file`` or ``@certstore://id``, which are kept and told, but never followed here."""

    def read(tolerant: Tolerant, found: str) -> str:
        value = tolerant.text(found, secret=secret)
        about_certificate(tolerant, found, value)
        return value

    return own(key, read, same, "", secret=secret)


def about_certificate(tolerant: Tolerant, key: str, value: str, place: str = "") -> None:
    """A remark where text is no inline PEM; ``place`` in the list that the key holds: ``[2]``."""
    path = child(tolerant.path, key) + place
    if value.startswith("@"):
        tolerant.remark(
            path,
            f"{shown(value)} names a file or store of the machine it was written on: kept, but not followed here",
        )
    elif value and "-----BEGIN " not in value:
        tolerant.remark(path, 'expected PEM ("-----BEGIN …") or "@file"; it is kept, but of no use')


def _load_authorities(tolerant: Tolerant, key: str) -> tuple[str, ...]:
    found = tolerant.texts(key)
    for index, value in enumerate(found):
        about_certificate(tolerant, key, value, f"[{index}]")
    return found


def _listed(values: tuple[str, ...]) -> Json:
    return list(values)


@attrs.frozen
class Rallypoint(Part):
    """A Rallypoint as a client knows it; certificates as they were written: PEM, ``@file``, or empty for the program's own."""

    host: Host = own("host", _load_host, dump, Host(), always=True)
    name: str = text("name")
    certificate: str = _certificate("certificate")
    certificate_key: str = _certificate("certificateKey", secret=True)
    verify_peer: bool = flag("verifyPeer", True)
    allow_self_signed_certificate: bool = flag("allowSelfSignedCertificate", False)
    ca_certificates: tuple[str, ...] = own("caCertificates", _load_authorities, _listed, ())
    transaction_timeout_ms: int = whole("transactionTimeoutMs", 10_000, 0, _DAY_MS)
    disable_message_signing: bool = flag("disableMessageSigning", False)
    connection_timeout_s: int = whole("connectionTimeoutSecs", 5, 0, _YEAR_S)
    tcp_tx_options: TcpTxOptions = one("tcpTxOptions", TcpTxOptions)
    sni: str = text("sni")
    protocol: str = text("protocol")  #: of a WebSocket
    path: str = text("path")  #: of a WebSocket


@attrs.frozen
class Cluster(Part):
    """Rallypoints of which one is used. :ivar connection_strategy: 0 in turn, 1 back to the highest-ranked that is there."""

    connection_strategy: int = whole("connectionStrategy", 0, 0, 1)
    rallypoints: tuple[Rallypoint, ...] = many("rallypoints", Rallypoint)
    rollover_s: int = whole("rolloverSecs", 10, 0, _YEAR_S)
    connection_timeout_s: int = whole("connectionTimeoutSecs", 5, 0, _YEAR_S)
    transaction_timeout_ms: int = whole("transactionTimeoutMs", 10_000, 0, _DAY_MS)


@attrs.frozen
class MissionRallypoint(Part):
    """``rallypoint`` of the whole mission, in old files: for the groups that name none, where ``use`` says so."""

    use: bool = flag("use", True)
    address: str = text("address")
    port: int = whole("port", 0, 0, _PORTS)
    host: Host | None = perhaps("host", Host)  #: in place of the two


@attrs.frozen
class Meta(Part):
    """What kind of file this is; ``created`` is ISO 8601, UTC. All defaults in missions of Engage, which have none."""

    type: str = text("type", "ICE-MISSION", always=True)
    version: int = whole("version", 1, 0, _U32, always=True)
    created: str = text("created")
