"""Every setting of the suite: one class per table of ``etc/ice.toml``, one field per key.

This page is the authority. Ranges, defaults, the shipped ``etc/ice.toml``, ``docs/configuration.md``, the wording of
errors and what ``ice check --print`` shows are all drawn from it, so a key cannot exist in one and be missing in
another.

To add a section: write a class here (or in a file of its own beside this one, when it is large) and one line for it in
:class:`Config`, then run ``python -m ice.config.reference`` as its module says. Nothing else knows the list.

A class's docstring is the heading of its table; a field's ``description`` is one sentence for a radio administrator.
Units are in the names: ``_s`` seconds, ``_ms`` milliseconds, ``_bytes``, ``_percent``.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ice.config.election import MAX_SERVER_GROUPS, ServerGroupSettings, distinct_server_groups
from ice.config.federation import MAX_FEDERATIONS, FederationSettings, distinct_federations
from ice.config.fields import (
    RESTART,
    AddressField,
    FileName,
    Listed,
    ListenAddress,
    OptionalFileName,
    OptionalListenAddress,
    Section,
    Text,
    network_text,
    not_below,
    within_bytes,
)
from ice.config.gateway import GatewaySettings, TelephoneSettings
from ice.config.groups import MAX_GROUPS, GroupSettings, MeshSettings, distinct_names
from ice.config.multicast import MulticastSettings
from ice.config.patches import MAX_PATCHES, PatchServerSettings, PatchSettings, distinct_patches
from ice.config.reflector import ReflectorSettings
from ice.config.reports import ReportSettings
from ice.config.traffic import TrafficSettings
from ice.net.addresses import Address

MAX_STREAM_BYTES = 256  # a stream id on the link (docs/link-protocol.md, JOIN)
MAX_MEDIA_BYTES = (
    65_000  # a frame counts its body in 16 bits; 535 bytes stay free for the headers of RELAY and MEDIA
)


class IdentitySettings(Section):
    """Who we are when we open links from this machine: the person or satellite that talks and listens."""

    certificate: FileName = Field(
        Path("pki/client.pem"), description="Certificate that we present to Rallypoints (PEM)."
    )
    key: FileName = Field(
        Path("pki/client.key"), description="Private key of that certificate; nobody else may read this file."
    )
    alias: Annotated[Text, within_bytes(16), RESTART] = Field(
        "",
        description="Name that listeners see while we talk, at most 16 bytes; empty: the certificate's common name.",
    )


class AuthoritySettings(Section):
    """Whom we believe: the authority that signs this site's certificates."""

    certificates: Listed[FileName] = Field(
        (Path("pki/authority.pem"),),
        min_length=1,
        max_length=16,
        description="Certificates of the authorities we trust; list the old and the new one while rolling over.",
    )
    revocations: FileName = Field(
        Path("pki/revoked.pem"), description="List of revoked certificates; the file may be absent."
    )


class NetworkSettings(Section):
    """How clients and satellites find a Rallypoint and stay connected."""

    rallypoints: Annotated[Listed[AddressField], RESTART] = Field(
        (Address("localhost", 7443),),
        min_length=1,
        max_length=64,
        description="Rallypoints of this site, the preferred one first.",
    )
    strategy: Annotated[Literal["round-robin", "fail-back", "random"], RESTART] = Field(
        "fail-back",
        description="Which Rallypoint to try next: round-robin (the next in the list), "
        "fail-back (return to the first when it is well again) or random.",
    )
    homes: Annotated[int, RESTART] = Field(
        1,
        ge=1,
        le=2,
        description="Links to keep, each to another Rallypoint; with 2 the death of one Rallypoint loses nothing.",
    )
    talk_on: Annotated[Literal["both", "one"], RESTART] = Field(
        "both",
        description="With two links: say everything on both, or on one, which takes half the bandwidth and loses what dies with it.",
    )
    protected: Annotated[Listed[Annotated[Text, within_bytes(256), Field(min_length=1)]], RESTART] = Field(
        (),
        max_length=10_000,
        description="Patterns (* ?) of stream ids whose packets a mesh sends over all its core links, so that no single loss is heard.",
    )
    ways_file: Annotated[OptionalFileName, RESTART] = Field(  # type: ignore[assignment]
        "~/.local/state/ice/ways.json",  # as text, so that it is read like what stands in a file
        description="Where other ways into the mesh are remembered, as Rallypoints name them; empty: nowhere. Not given, services use their state folder.",
    )
    connect_timeout_s: Annotated[float, RESTART] = Field(
        5.0,
        ge=0.1,
        le=120,
        description="Give up on an address that does not answer after this long; others are tried beside it much earlier.",
    )
    rollover_s: Annotated[float, RESTART] = Field(
        10.0,
        ge=0.1,
        le=3600,
        description="How often a better Rallypoint is looked for with fail-back; and without any Rallypoint for this long, change to the other way of reaching people "
        "(multicast, where a group has one).",
    )
    back_off_min_s: Annotated[float, RESTART] = Field(
        0.1, ge=0.01, le=60, description="Shortest wait before the whole list is tried again."
    )
    back_off_max_s: Annotated[float, RESTART] = Field(
        30.0, ge=0.1, le=3600, description="Longest wait before the whole list is tried again."
    )
    verify_name: Annotated[bool, RESTART] = Field(
        True, description="Refuse a Rallypoint whose certificate does not name the address that we dialled."
    )

    @field_validator("back_off_max_s")
    @classmethod
    def _back_off(cls, value: float, info: ValidationInfo) -> float:
        not_below(value, info, "back_off_min_s")
        return value


class MediaSettings(Section):
    """How voice is sent and heard from this machine."""

    codec: Annotated[
        Literal["opus", "pcmu", "pcma", "l16", "gsm", "g722", "amr-nb", "speex", "codec2"], RESTART
    ] = Field(
        "opus",
        description="How we encode: opus, pcmu (G.711 µ-law), pcma (G.711 A-law), l16 (uncompressed); gsm, g722, amr-nb, speex and codec2 need a library (docs/codecs.md).",
    )
    bitrate: Annotated[int, RESTART] = Field(
        24_000,
        ge=450,
        le=128_000,
        description="Bits per second, of Opus at least 6000, where 24000 is clear speech; a codec of fixed rates takes the best up to it.",
    )
    framing_ms: Annotated[Literal[20, 40, 60, 80, 100, 120], RESTART] = Field(
        20, description="Speech per packet: 20, 40, 60, 80, 100 or 120; more saves bandwidth and adds delay."
    )
    dtx: Annotated[bool, RESTART] = Field(
        False, description="Send next to nothing while the talker is silent."
    )
    fec: Annotated[bool, RESTART] = Field(
        # Opus pays for the copy out of the same bits: PESQ-WB 4.09 without and 3.25 with it at 24 kbit/s when nothing is lost, 2.0 and 3.0
        # when one packet in twenty is. A Rallypoint link is TCP and loses none.
        False,
        description="Carry a rough copy of each packet in the next one: for paths that lose packets, at the price of clarity.",
    )
    jitter_min_ms: Annotated[int, RESTART] = Field(
        20, ge=0, le=1_000, description="Least delay a listener adds to smooth out uneven arrival."
    )
    jitter_max_ms: Annotated[int, RESTART] = Field(
        1_000, ge=20, le=10_000, description="Most delay a listener ever adds; what comes later is lost."
    )
    priority: Annotated[int, RESTART] = Field(
        0, ge=0, le=255, description="Priority told to listeners with each burst; 255 is the highest."
    )
    half_duplex: Annotated[bool, RESTART] = Field(
        False,
        description="On streams of our Rallypoints one talks at a time, by priority; false: all at once. A mission says it for its groups.",
    )
    max_talk_s: Annotated[float, RESTART] = Field(
        30.0,
        ge=0,
        le=86_400,
        description="Longest burst in half duplex, and on a mission's group that names none; 0: no limit.",
    )
    end_of_burst_ms: Annotated[int, RESTART] = Field(
        500,
        ge=100,
        le=10_000,
        description="A talker heard nothing of for this long has ended, even without saying so.",
    )

    @field_validator("bitrate")
    @classmethod
    def _bitrate(cls, value: int, info: ValidationInfo) -> int:
        if value < 6_000 and info.data.get("codec", "opus") == "opus":
            raise PydanticCustomError(
                "opus_bitrate", "{value} is too little for opus, which begins at 6000", {"value": value}
            )
        return value

    @field_validator("jitter_max_ms")
    @classmethod
    def _jitter(cls, value: int, info: ValidationInfo) -> int:
        not_below(value, info, "jitter_min_ms")
        return value


class LogSettings(Section):
    """What is written to the log."""

    format: Annotated[Literal["human", "json"], RESTART] = Field(
        "human", description="Lines for people (human) or one JSON object per line for machines (json)."
    )
    level: Literal["debug", "info", "warn", "error", "critical"] = Field(
        "info",
        description="Least important kind of line that is written: debug, info, warn, error or critical.",
    )


class HttpSettings(Section):
    """The Rallypoint's status pages: /healthz /readyz /metrics /status."""

    listen: Annotated[OptionalListenAddress, RESTART] = Field(
        Address("127.0.0.1", 7480),
        description="Where the status pages are served, without encryption; empty: not at all.",
    )


class LimitSettings(Section):
    """What one Rallypoint will bear; each refusal says its reason and is counted."""

    denied_addresses: Listed[Annotated[Text, AfterValidator(network_text)]] = Field(
        (),
        max_length=10_000,
        description='Networks and addresses from which no link is taken: ["192.0.2.0/24", "2001:db8::7"].',
    )
    links: int = Field(10_000, ge=1, le=1_000_000, description="Links at one time.")
    links_per_address: int = Field(
        4_096, ge=1, le=1_000_000, description="Links at one time from one IP address."
    )
    links_per_identity: int = Field(
        8, ge=1, le=100_000, description="Links at one time with one certificate identity."
    )
    handshakes: int = Field(
        512, ge=1, le=100_000, description="Connections that have not finished saying who they are."
    )
    handshakes_per_address: int = Field(
        512,
        ge=1,
        le=100_000,
        description="The same, from one IP address; a whole site may come back through one.",
    )
    handshake_s: float = Field(
        10.0, ge=0.1, le=300, description="A connection must have said who it is by then."
    )
    joins: int = Field(
        256, ge=1, le=100_000, description="Streams that one link may have joined at one time."
    )
    streams: int = Field(100_000, ge=1, le=10_000_000, description="Streams in the whole Rallypoint.")
    packets_per_s: int = Field(
        2_000, ge=1, le=10_000_000, description="Packets per second that one link may send."
    )
    bytes_per_s: int = Field(
        2_000_000, ge=1_000, le=10_000_000_000, description="Bytes per second that one link may send."
    )
    media_bytes: int = Field(4_096, ge=64, le=MAX_MEDIA_BYTES, description="Bytes of payload in one packet.")
    queue_frames: int = Field(
        256,
        ge=1,
        le=100_000,
        description="Packets that wait for a slow listener before its oldest are dropped.",
    )
    queue_s: float = Field(
        2.0, ge=0.05, le=60, description="Packets that have waited for a slow listener this long are dropped."
    )
    cpu_delay_percent: int = Field(
        75, ge=1, le=100, description="Newcomers wait while this Rallypoint uses more of its CPU."
    )
    cpu_refuse_percent: int = Field(
        98, ge=1, le=100, description="Newcomers are refused while this Rallypoint uses more of its CPU."
    )
    newcomers_waiting: int = Field(
        2_048, ge=1, le=100_000, description="Newcomers that may wait; more are refused."
    )

    @field_validator("cpu_refuse_percent")
    @classmethod
    def _cpu(cls, value: int, info: ValidationInfo) -> int:
        not_below(value, info, "cpu_delay_percent")
        return value


class AccessRule(Section):
    """Who may join which streams: the first rule that fits decides. Without any rule all may; else who fits none may not."""

    name: Annotated[Text, within_bytes(256)] = Field(
        "*",
        min_length=1,
        description="Whom the rule is for: a pattern (* ?) on a certificate's common name or id.",
    )
    streams: Listed[Annotated[Text, within_bytes(256), Field(min_length=1)]] = Field(
        ("*",),
        min_length=1,
        max_length=10_000,
        description="Patterns (* ?) of the stream ids that the rule is for.",
    )
    listen: bool = Field(True, description="Those whom the rule allows may listen.")
    talk: bool = Field(True, description="Those whom the rule allows may talk.")
    allow: bool = Field(True, description="Set to false, the rule denies: neither listening nor talking.")


class RallypointSettings(Section):
    """The Rallypoint of this machine (twistd ice-rallypoint)."""

    listen: Annotated[Listed[ListenAddress], RESTART] = Field(
        (Address("127.0.0.1", 7443),),
        min_length=1,
        max_length=64,
        description="Where links are accepted; 0.0.0.0:7443 is every IPv4 address of this machine, [::]:7443 every one.",
    )
    name: Annotated[Text, within_bytes(256)] = Field(
        "", description="Name shown to clients and on status pages; empty: the certificate's common name."
    )
    certificate: FileName = Field(
        Path("pki/rallypoint.pem"),
        description="Certificate of this Rallypoint (PEM); read again by a reload.",
    )
    key: FileName = Field(
        Path("pki/rallypoint.key"),
        description="Private key of that certificate; nobody else may read this file.",
    )
    keepalive_s: float = Field(
        5.0, ge=0.2, le=300, description="Ask a link that has been silent this long if it still lives."
    )
    alternatives: Listed[AddressField] = Field(
        (),
        max_length=64,
        description="Other addresses that lead here or to a neighbour, told to every client.",
    )
    parrot: Annotated[Text, within_bytes(MAX_STREAM_BYTES), RESTART] = Field(
        "parrot", description="Stream that plays back what one says, to try a radio; empty: none."
    )
    drain_s: float = Field(
        1.0, ge=0, le=300, description="Time that clients are given to leave when the Rallypoint stops."
    )
    health_check: Annotated[OptionalListenAddress, RESTART] = Field(
        None,
        description="Where a load balancer may knock: connections are accepted and closed at once; empty: nowhere.",
    )
    http: HttpSettings = Field(default_factory=HttpSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    access: Listed[AccessRule] = Field((), max_length=10_000)
    mesh: MeshSettings = Field(default_factory=MeshSettings)
    reports: ReportSettings = Field(default_factory=ReportSettings)

    @field_validator("listen")
    @classmethod
    def _distinct(cls, value: tuple[Address, ...]) -> tuple[Address, ...]:
        for index, address in enumerate(value):
            if address in value[:index]:
                raise PydanticCustomError("twice", "{address} is listed twice", {"address": str(address)})
        return value

    @field_validator("parrot")
    @classmethod
    def _ordinary_stream(cls, value: str) -> str:
        if value.startswith("__"):
            raise PydanticCustomError("stream", "stream ids that begin with __ are for satellites")
        return value

    @field_validator("health_check")
    @classmethod
    def _free_for_health(cls, value: Address | None, info: ValidationInfo) -> Address | None:
        if value is not None and value in info.data.get("listen", ()):
            raise PydanticCustomError(
                "taken", "{address} is in rallypoint.listen already", {"address": str(value)}
            )
        return value

    @field_validator("http")
    @classmethod
    def _free_for_http(cls, value: HttpSettings, info: ValidationInfo) -> HttpSettings:
        taken = dict.fromkeys(info.data.get("listen", ()), "listen")
        if health := info.data.get("health_check"):
            taken[health] = "health_check"
        if value.listen is not None and value.listen in taken:
            raise PydanticCustomError(
                "taken",
                "{address} is in rallypoint.{also} already",
                {"address": str(value.listen), "below": "listen", "also": taken[value.listen]},
            )
        return value


class Config(Section):
    """The whole configuration: one field per section."""

    identity: IdentitySettings = Field(default_factory=IdentitySettings)
    authority: AuthoritySettings = Field(default_factory=AuthoritySettings)
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    media: MediaSettings = Field(default_factory=MediaSettings)
    multicast: MulticastSettings = Field(default_factory=MulticastSettings)
    traffic: TrafficSettings = Field(default_factory=TrafficSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    rallypoint: RallypointSettings = Field(default_factory=RallypointSettings)
    groups: Annotated[Listed[GroupSettings], AfterValidator(distinct_names)] = Field(
        (), max_length=MAX_GROUPS
    )
    federations: Annotated[Listed[FederationSettings], AfterValidator(distinct_federations)] = Field(
        (), max_length=MAX_FEDERATIONS
    )
    server_groups: Annotated[Listed[ServerGroupSettings], AfterValidator(distinct_server_groups)] = Field(
        (), max_length=MAX_SERVER_GROUPS
    )
    reflector: ReflectorSettings = Field(default_factory=ReflectorSettings)
    patch: PatchServerSettings = Field(default_factory=PatchServerSettings)
    patches: Annotated[Listed[PatchSettings], AfterValidator(distinct_patches)] = Field(
        (), max_length=MAX_PATCHES
    )
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    telephone: TelephoneSettings = Field(default_factory=TelephoneSettings)
