"""What all links of a Rallypoint share: its engines, its rules, and what is counted of links that are gone."""

from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Generic, TypeVar

import attrs

from ice.config.schema import RallypointSettings
from ice.link.wake import Wake
from ice.net.clock import Clock
from ice.net.fanout import fan_maker
from ice.rallypoint.access import Access
from ice.rallypoint.admission import Admission
from ice.rallypoint.agenda import Agenda, Dated
from ice.rallypoint.backbone import Backbone
from ice.rallypoint.federation import Federation
from ice.rallypoint.parrot import Parrot
from ice.rallypoint.registry import Registry, Subscriber
from ice.rallypoint.relay import Relay
from ice.rallypoint.throttle import Throttle
from ice.security.certificates import Identity
from ice.security.contexts import ServerTls

MAX_ALTERNATIVES = 64  # addresses in WELCOME and BYE (docs/link-protocol.md)

GuestT = TypeVar("GuestT", bound=Dated)


@attrs.define(eq=False)
class House(Generic[GuestT]):
    """What all guests of a Rallypoint share."""

    clock: Clock
    wall: Callable[[], datetime]
    tls: ServerTls
    identity: Identity
    settings: RallypointSettings
    access: Access
    admission: Admission
    registry: Registry = attrs.field(factory=Registry)
    relay: Relay = attrs.field(init=False)
    throttle: Throttle = attrs.field(factory=Throttle)
    #: The other Rallypoints; set by whoever assembles.
    backbone: Backbone = attrs.field(init=False)
    #: Those of other organisations; set likewise.
    federation: Federation = attrs.field(init=False)
    parrot: Parrot[Subscriber] | None = None
    guests: set[GuestT] = attrs.field(factory=set)
    #: When which guest needs a pulse.
    agenda: Agenda[GuestT] = attrs.field(factory=Agenda)
    #: Whether we have stood still ourselves.
    wake: Wake = attrs.field(factory=Wake)
    random: Random = attrs.field(factory=Random)
    #: The time of the last pulse: near enough for windows and rates, and free.
    now: float = 0.0
    #: Links that ended, by code; JOINs and media refused by ERROR, by code; handshakes that failed, by reason.
    ended: dict[str, int] = attrs.field(factory=dict)
    errors: dict[str, int] = attrs.field(factory=dict)
    handshakes_failed: dict[str, int] = attrs.field(factory=dict)
    #: Media of links that are gone: frames and bytes sent, frames dropped in their queues.
    sent_frames: int = 0
    sent_bytes: int = 0
    dropped_full: int = 0
    dropped_old: int = 0

    def __attrs_post_init__(self) -> None:
        self.relay = Relay(self.registry, fan_maker())

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Other ways in, for one client: those of our own settings and virtual ones first, then the members of our groups in an order of its own, so that not
        everybody who is sent away comes to the same neighbour."""
        plan = self.backbone.plan
        members = list(plan.alternatives[plan.virtual :])
        if len(members) > 1:
            self.random.shuffle(members)
        ways = map(str, (*self.settings.alternatives, *plan.alternatives[: plan.virtual], *members))
        return tuple(dict.fromkeys(ways))[:MAX_ALTERNATIVES]

    def media_dropped(self) -> dict[str, int]:
        """Frames of media that were not passed on, by reason."""
        return self.relay.dropped() | {"stale": self.wake.dropped_stale}

    @property
    def name(self) -> str:
        """The name shown to clients and people."""
        return self.settings.name or self.identity.name
