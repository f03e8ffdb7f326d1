"""What a mission and a site need: streams of many people, from rates of one talker.

**Streams on a wire.** On a multicast LAN a talker is one stream, however many listen. By a Rallypoint he is one stream up, and one down to each listener;
between two Rallypoints of a mesh one, however many listen behind the other.

**Who talks.** A :class:`Site` has ``users``, spread evenly over ``rallypoints``; each has joined so many of the ``channels``, and a share ``talking`` of all users wants
to talk at a time, each on one of his channels. Where only one can (half duplex), a channel of *n* members is busy for 1 − (1 − p)ⁿ of the time, p being
the share that wants to talk on it: that is *usual*. At the *peak* every channel is busy. Where all can talk at once (full duplex) n × p do usually, and at the
peak three standard deviations more (a time in a thousand is above it), or all.

**Peaks** of one place are the worst that the rest allows: all talkers at this Rallypoint, or all at others, whichever costs it more. So peaks of places do not add up.

TCP acknowledgements and PINGs are told apart, as ``beside``: what goes over a link besides voice, both directions together, at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from ice.errors import LocalError
from ice.media.engage import Carried, EngageCodec, encoder_of
from ice.mission.model import Group, GroupType, Mission
from ice.mission.voice import is_audio
from ice.planning.bandwidth import (
    NOTHING,
    PER_USER_BITS_S,
    Carrier,
    Rate,
    Seal,
    Voice,
    acknowledgements,
    carried,
    extension_octets,
    keeping,
    sealed,
    stream_rate,
)

ALIAS: Final = "0123456789abcdef"  # planned with the longest alias that fits
PRESENCE_OCTETS: Final = 400  # a descriptor with a name, a place and two groups; the bound is the MTU
PEAK_DEVIATIONS: Final = 3.0
LINEAR_PCM_BITS_S: Final = 768_000  # 48 kHz of 16 bits: Engage's own is not published


@attrs.frozen
class Channel:
    """One audio group as the planner sees it. ``codec`` is for people; ``warning`` says what was taken in place of what is not known."""

    name: str
    codec: str
    voice: Voice
    seal: Seal
    full_duplex: bool = False
    multicast: bool = True
    rallypoint: bool = True
    warning: str = ""

    def rate(self, carrier: Carrier, *, ipv6: bool = False) -> Rate:
        """What one talker on it puts on one wire."""
        return stream_rate(self.voice, self.seal, carrier, ipv6=ipv6)


@attrs.frozen
class PresenceChannel:
    """One mission control group: each member tells of himself every ``interval_s``."""

    name: str
    seal: Seal
    interval_s: float
    octets: int = PRESENCE_OCTETS
    multicast: bool = True
    rallypoint: bool = True

    def rate(self, carrier: Carrier, *, ipv6: bool = False) -> Rate:
        """What one member puts on one wire."""
        size = carried(sealed(self.octets, self.seal), carrier, ipv6=ipv6)
        return Rate(1 / self.interval_s, size / self.interval_s)


@attrs.frozen
class Load:
    """What is to be expected: ``usual`` on average of the busy hour, ``peak`` at worst."""

    usual: Rate = NOTHING
    peak: Rate = NOTHING

    def __add__(self, other: Load) -> Load:
        return Load(self.usual + other.usual, self.peak + other.peak)


@attrs.frozen
class Site:
    """People and how they talk: see the module docstring. ``joined`` 0: everybody has joined every channel.

    Raises :class:`~ice.errors.LocalError` for what cannot be.
    """

    users: int
    channels: tuple[Channel, ...]
    talking: float = 0.1
    joined: int = 0
    rallypoints: int = 1
    presence: tuple[PresenceChannel, ...] = ()
    ipv6: bool = False

    def __attrs_post_init__(self) -> None:
        if self.users < 1 or self.rallypoints < 1:
            raise LocalError("a site has at least one user and one Rallypoint")
        if not 0 <= self.talking <= 1:
            raise LocalError(f"the share of users that talk is 0 to 1, not {self.talking}")
        if not 0 <= self.joined <= len(self.channels):
            raise LocalError(f"a user can join at most all {len(self.channels)} channels, not {self.joined}")

    @property
    def joined_each(self) -> int:
        """How many channels a user has joined."""
        return self.joined or len(self.channels)


@attrs.frozen
class UserPlan:
    """One user: ``up`` while he talks, ``down`` what he hears, ``beside`` acknowledgements and PINGs; ``streams`` channels that he can hear at once within the plan of 64 kbit/s."""

    up: Load
    down: Load
    beside: Rate
    streams: int

    @property
    def within(self) -> bool:
        """Whether the usual need, both ways, is within 64 kbit/s."""
        return (self.up.usual + self.down.usual).bits_per_s <= PER_USER_BITS_S


@attrs.frozen
class RallypointPlan:
    """One Rallypoint: from and to users, from and to the others, all of it inwards and outwards, and ``beside`` on all its links."""

    users: int
    from_users: Load
    to_users: Load
    from_mesh: Load
    to_mesh: Load
    inwards: Load
    outwards: Load
    beside: Rate
    deliveries_per_s: float


@attrs.frozen
class SitePlan:
    """What a site needs. ``busy``: talkers at a time, on all channels; ``mesh_link`` one direction of a link between two Rallypoints; ``lan`` where all talk by multicast."""

    site: Site
    busy_usual: float
    busy_peak: int
    user: UserPlan
    multicast_user: UserPlan
    rallypoint: RallypointPlan
    mesh_link: Load
    lan: Load


def channels_of(
    mission: Mission, *, alias: str = ALIAS
) -> tuple[tuple[Channel, ...], tuple[PresenceChannel, ...]]:
    """The groups of a mission as channels; raw ones, and audio groups that may not talk, are left out."""
    audio = tuple(
        channel_of(group, alias=alias)
        for group in mission.groups
        if is_audio(group) and group.tx_audio.enabled
    )
    presence = tuple(
        PresenceChannel(
            group.name, _seal(group), group.presence.interval_s,
            multicast=group.tx is not None, rallypoint=bool(group.rallypoints),
        )
        for group in mission.groups
        if group.type is GroupType.PRESENCE
    )  # fmt: skip
    return audio, presence


def channel_of(group: Group, *, alias: str = ALIAS) -> Channel:
    """An audio group as a channel: its codec by Engage's table, its framing as written, our header extension unless it says ``noHdrExt``."""
    audio = group.tx_audio
    row = encoder_of(audio.encoder)
    framing_ms = audio.framing_ms or 60
    if audio.block_count and row.carried is not Carried.UNSUPPORTED:
        framing_ms = row.framing_ms(framing_ms, audio.block_count)
    bitrate, warning = bitrate_of(row)
    extension = 0 if audio.no_hdr_ext else extension_octets(alias, priority=True)
    return Channel(
        name=group.name,
        codec=row.name,
        voice=attrs.evolve(
            Voice.at(bitrate, framing_ms, extension=extension),
            extension_every=max(1, audio.extension_send_interval),
        ),
        seal=_seal(group),
        full_duplex=audio.fdx,
        multicast=group.tx is not None,
        rallypoint=bool(group.rallypoints),
        warning=warning,
    )


def bitrate_of(row: EngageCodec) -> tuple[int, str]:
    """With how many bit/s an encoder is planned, and, where it has no rate of its own, a sentence that says so."""
    if row.bitrate:
        return row.bitrate, ""
    bitrate = LINEAR_PCM_BITS_S if row.codec == "l16" else PER_USER_BITS_S
    return bitrate, f"{row.name} has no bit rate of its own; planned with {bitrate // 1000} kbit/s"


def plan(site: Site) -> SitePlan:
    """What the site needs."""
    sums = _Sums(site)
    lan = sums.voice(Carrier.MULTICAST, lambda usual, peak: (usual, peak))
    told = sums.told(Carrier.MULTICAST) * site.users
    return SitePlan(
        site=site,
        busy_usual=sum(usual for _, usual, _ in sums.talkers),
        busy_peak=sum(peak for _, _, peak in sums.talkers),
        user=_user(sums, Carrier.RALLYPOINT),
        multicast_user=_user(sums, Carrier.MULTICAST),
        rallypoint=_rallypoint(sums),
        mesh_link=_mesh_link(sums),
        lan=lan + _constant(told),
    )


Weight: TypeAlias = Callable[[float, int], tuple[float, float]]
"""From the talkers of a channel, usually and at the peak, to streams on some wire."""


class _Sums:
    """A site with what follows from it: who talks, and sums over its channels."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.members = site.users * site.joined_each / len(site.channels) if site.channels else 0.0
        share = site.talking / site.joined_each if site.joined_each else 0.0
        #: Each channel with its talkers at a time, usually and at the peak.
        self.talkers = [(channel, *_talkers(channel, self.members, share)) for channel in site.channels]
        #: Rallypoints where a channel has a member.
        self.reach = min(site.rallypoints, max(1, math.floor(self.members)))
        #: Users at the fullest Rallypoint.
        self.users_here = math.ceil(site.users / site.rallypoints)

    def rates(self, carrier: Carrier) -> list[tuple[Rate, float, int]]:
        """What a talker of each channel puts on one wire of that kind, with the talkers."""
        return [
            (channel.rate(carrier, ipv6=self.site.ipv6), usual, peak)
            for channel, usual, peak in self.talkers
            if _goes(channel, carrier)
        ]

    def voice(self, carrier: Carrier, weight: Weight) -> Load:
        """All channels together."""
        load = Load()
        for rate, usual, peak in self.rates(carrier):
            usual_streams, peak_streams = weight(usual, peak)
            load += Load(rate * usual_streams, rate * peak_streams)
        return load

    def told(self, carrier: Carrier) -> Rate:
        """What one user tells of himself, on all groups for that."""
        total = NOTHING
        for channel in self.site.presence:
            if _goes(channel, carrier):
                total += channel.rate(carrier, ipv6=self.site.ipv6)
        return total


def _goes(channel: Channel | PresenceChannel, carrier: Carrier) -> bool:
    return channel.multicast if carrier is Carrier.MULTICAST else channel.rallypoint


def _constant(rate: Rate) -> Load:
    return Load(rate, rate)


def _larger(one: Rate, other: Rate) -> Rate:
    return max(one, other, key=lambda rate: rate.octets_per_s)


def _rallypoint(sums: _Sums) -> RallypointPlan:
    site, reach, here = sums.site, sums.reach, sums.users_here
    count = site.rallypoints
    most = math.ceil(sums.members / count)  # members of a channel at one Rallypoint
    far = reach > 1
    told, told_on = sums.told(Carrier.RALLYPOINT), sums.told(Carrier.MESH)
    from_users = sums.voice(Carrier.RALLYPOINT, lambda usual, peak: (usual / count, peak))
    # A talker elsewhere is heard by all members here, one of ours by all but himself.
    to_users = sums.voice(
        Carrier.RALLYPOINT,
        lambda usual, peak: (usual * max(0.0, sums.members - 1) / count, peak * (most - (not far))),
    )
    ours = sums.voice(Carrier.RALLYPOINT, lambda usual, peak: (0.0, peak * max(0, most - 1))).peak
    from_mesh = sums.voice(Carrier.MESH, lambda usual, peak: (usual * (reach - 1) / count, peak * far))
    to_mesh = sums.voice(Carrier.MESH, lambda usual, peak: (usual * (reach - 1) / count, peak * (reach - 1)))
    all_here, all_others = told * here, told_on * ((site.users - here) * (count > 1))
    heard, passed = told * (here * max(0, site.users - 1)), told_on * (here * (count - 1))
    in_peak = _larger(from_users.peak, from_mesh.peak) + all_here + all_others
    out_peak = _larger(ours + to_mesh.peak, to_users.peak) + heard + passed
    from_users, to_users = from_users + _constant(all_here), to_users + _constant(heard)
    from_mesh, to_mesh = from_mesh + _constant(all_others), to_mesh + _constant(passed)
    acks = acknowledgements(_user(sums, Carrier.RALLYPOINT).down.usual, ipv6=site.ipv6)
    return RallypointPlan(
        users=here,
        from_users=from_users,
        to_users=to_users,
        from_mesh=from_mesh,
        to_mesh=to_mesh,
        inwards=Load(from_users.usual + from_mesh.usual, in_peak),
        outwards=Load(to_users.usual + to_mesh.usual, out_peak),
        beside=(acks + keeping(ipv6=site.ipv6) * 2) * here,
        deliveries_per_s=to_users.usual.packets_per_s,
    )


def _mesh_link(sums: _Sums) -> Load:
    """One direction: the talkers of one Rallypoint, to one other."""
    count, reach = sums.site.rallypoints, sums.reach
    if count == 1:
        return Load()
    link = sums.voice(
        Carrier.MESH,
        lambda usual, peak: (usual * (reach - 1) / (count * (count - 1)), peak * (reach > 1)),
    )
    return link + _constant(sums.told(Carrier.MESH) * sums.users_here)


def _seal(group: Group) -> Seal:
    return Seal(group.cipher) if group.crypto_password is not None else Seal.CLEAR


def _talkers(channel: Channel, members: float, share: float) -> tuple[float, int]:
    """How many talk at a time on a channel: usually, and at the peak."""
    if members < 1 or not share:
        return 0.0, 0
    if not channel.full_duplex:
        return 1 - (1 - min(1.0, share)) ** members, 1
    mean = members * share
    peak = mean + PEAK_DEVIATIONS * math.sqrt(mean * (1 - min(1.0, share)))
    return mean, min(math.ceil(members), math.ceil(peak))


def _user(sums: _Sums, carrier: Carrier) -> UserPlan:
    site, rates = sums.site, sums.rates(carrier)
    told = sums.told(carrier)
    hears = told * max(0, site.users - 1)
    own = down = mean_up = down_peak = NOTHING
    for rate, usual, _ in rates:
        own = _larger(own, rate)
        mean_up += rate * (usual / site.users)
        down += rate * (usual * site.joined_each / len(site.channels))
    dearest = sorted((rate * peak for rate, _, peak in rates), key=lambda rate: -rate.octets_per_s)
    for rate in dearest[: site.joined_each]:
        down_peak += rate
    beside = NOTHING
    if carrier is not Carrier.MULTICAST and (rates or site.presence):
        back = acknowledgements(down, ipv6=site.ipv6) + acknowledgements(own, ipv6=site.ipv6)
        beside = back + keeping(ipv6=site.ipv6) * 2
    return UserPlan(
        up=Load(mean_up + told, own + told),
        down=Load(down + hears, down_peak + hears),
        beside=beside,
        streams=int(PER_USER_BITS_S // own.bits_per_s) if own.bits_per_s else 0,
    )
