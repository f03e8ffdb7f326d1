"""The way of one packet through a Rallypoint: from one link to every listener of its stream, byte for byte.

A frame is unpacked once, to five integers, and nothing is built from it. In this order it is asked:

========================  ============================  =======================================================
question                  where it is answered          no: dropped, counted, and
========================  ============================  =======================================================
within its rate?          two integers of the link      ERROR ``limit``, once a second
joined to talk?           a dictionary of the link      ERROR ``not-joined``, once per link and stream
its own source?           one comparison                ERROR ``foreign-source``, once per link and stream
not here before?          the window of the source      nothing: a copy that came by another way is no fault
========================  ============================  =======================================================

Then the stream's fan (:mod:`ice.link.fan`) hands the same bytes to each recipient but the sender; and where there are other Rallypoints, the
mesh says which of them get it too, inside a RELAY (:mod:`ice.rallypoint.routes`). What comes as RELAY goes the same way by :meth:`Relay.relayed`. A recipient that raises is remembered in
:attr:`Relay.broken` for its owner to end; the others get their packet.
"""

import attrs

from ice.link.fan import FanMaker, PythonFan, Recipient
from ice.link.frame import MEDIA
from ice.link.message import Code
from ice.link.naming import format_u64
from ice.link.peer import MEDIA_AT
from ice.link.window import DUPLICATE, JUMP
from ice.rallypoint.mesh import Mesh
from ice.rallypoint.registry import ANY, UNDECLARED, Account, Registry, Subscriber, prefix_of
from ice.rallypoint.routes import Passed

#: Errors remembered per link, so that each is said once; who provokes more of them is only counted.
MAX_TOLD = 64
LIMIT_EVERY_S = 1.0

_unpack = MEDIA.unpack_from


@attrs.frozen
class Refusal:
    """What to tell the sender, in an ERROR."""

    code: Code
    message: str


class Relay:
    """The hot path over one :class:`~ice.rallypoint.registry.Registry`; its counters are plain integers."""

    __slots__ = (
        "_fans",
        "_registry",
        "broken",
        "bytes_received",
        "copies_delivered",
        "dropped_duplicate",
        "dropped_foreign_source",
        "dropped_jump",
        "dropped_late",
        "dropped_limit",
        "dropped_not_joined",
        "frames_received",
        "mesh",
        "recipients_failed",
        "relays_received",
    )

    def __init__(self, registry: Registry, fans: FanMaker = PythonFan) -> None:
        """``fans``: what makes the fan of a stream's recipients."""
        self._registry = registry
        self._fans = fans
        #: The other Rallypoints; None where there are none.
        self.mesh: Mesh[Recipient] | None = None
        self.relays_received = 0  #: RELAY frames of other Rallypoints
        self.frames_received = 0
        self.bytes_received = 0
        self.copies_delivered = 0  #: frames handed to recipients, counted per recipient
        self.dropped_limit = 0
        self.dropped_not_joined = 0
        self.dropped_foreign_source = 0
        self.dropped_duplicate = 0
        self.dropped_late = 0
        self.dropped_jump = 0
        self.recipients_failed = 0
        #: Recipients that raised, and what; whoever owns them takes them out.
        self.broken: dict[Recipient, Exception] = {}

    def dropped(self) -> dict[str, int]:
        """Frames dropped, by reason."""
        return {
            "limit": self.dropped_limit,
            "not-joined": self.dropped_not_joined,
            "foreign-source": self.dropped_foreign_source,
            "duplicate": self.dropped_duplicate,
            "late": self.dropped_late,
            "jump": self.dropped_jump,
        }

    def media(self, subscriber: Subscriber, frame: bytes, now: float) -> Refusal | None:
        """Pass on one whole MEDIA frame of ``subscriber``; what to tell it, where something was wrong.

        ``now`` may be a tenth of a second old: it only ages windows and errors.
        """
        size = len(frame)
        self.frames_received += 1
        self.bytes_received += size
        if subscriber.packets_left <= 0 or subscriber.bytes_left <= 0:
            subscriber.refill(now)
            if subscriber.packets_left <= 0 or subscriber.bytes_left <= 0:
                return self._over_limit(subscriber, now)
        subscriber.packets_left -= 1
        subscriber.bytes_left -= size
        _, _, flags, key, source, sequence = _unpack(frame)
        membership = subscriber.talks.get(key)
        if membership is None:
            return self._not_joined(subscriber, key)
        declared = membership.source
        if source != declared and declared != ANY:
            if declared != UNDECLARED or prefix_of(source) != subscriber.prefix:
                return self._foreign_source(subscriber, key, source)
            membership.source = source
        stream = membership.stream
        window = stream.windows.get(source)
        if window is None:
            window = self._registry.window(stream, source, subscriber.account)
        verdict = window.ask(sequence, now)
        if verdict:
            self._not_fresh(verdict)
            if self.mesh is not None and stream.echo is None:
                # Here it is a copy, which came round by the mesh, say; under our own origin it may still be news.
                self._originate(self.mesh, subscriber, frame, flags, key, source, sequence, now)
            return None
        membership.packets += 1
        stream.packets += 1
        stream.bytes += size
        if stream.echo is not None:
            stream.echo(subscriber, frame, now)
            return None
        fan = stream.fan
        if fan is None:
            fan = stream.fan = self._fans(stream.recipients, self._failed)
        copies = len(fan.recipients) - membership.listen
        self.copies_delivered += copies
        stream.copies += copies
        stream.copied_bytes += copies * size
        fan.send(frame, subscriber.recipient)
        if self.mesh is not None:
            self._originate(self.mesh, subscriber, frame, flags, key, source, sequence, now)
        return None

    def relayed(self, link: Recipient, account: Account, frame: bytes, now: float) -> None:
        """Take one whole RELAY frame from another Rallypoint: on to the next hops, and to our own listeners.

        ``account``: whom windows of our own listeners are charged to that it opens.
        """
        self.relays_received += 1
        mesh = self.mesh
        passed = None if mesh is None else mesh.relay(link, frame, now)
        if passed is None:
            return
        if passed.frame:
            self._onward(passed, link)
        _, _, _, key, source, sequence = _unpack(frame, MEDIA_AT)
        stream = self._registry.streams.get(key)
        if stream is None or stream.echo is not None:
            return
        window = stream.windows.get(source)
        if window is None:
            window = self._registry.window(stream, source, account)
        verdict = window.ask(sequence, now)
        if verdict:
            self._not_fresh(verdict)
            return
        size = len(frame) - MEDIA_AT
        stream.packets += 1
        stream.bytes += size
        fan = stream.fan
        if fan is None:
            fan = stream.fan = self._fans(stream.recipients, self._failed)
        copies = len(fan.recipients)
        self.copies_delivered += copies
        stream.copies += copies
        stream.copied_bytes += copies * size
        fan.send(frame[MEDIA_AT:], link)

    def _originate(
        self,
        mesh: Mesh[Recipient],
        subscriber: Subscriber,
        frame: bytes,
        flags: int,
        key: int,
        source: int,
        sequence: int,
        now: float,
    ) -> None:
        """Send a frame of a talker of ours to the other Rallypoints that want it."""
        charged = subscriber.account
        account = charged.abroad
        if account is None:
            account = charged.abroad = mesh.routes.account(charged.identity)
        passed = mesh.originate(account, frame, flags, key, source, sequence, now)
        if passed is not None:
            self._onward(passed, subscriber.recipient)

    def _onward(self, passed: Passed[Recipient], sender: Recipient) -> None:
        route = passed.route
        fan = route.fan
        if fan is None:
            fan = route.fan = self._fans(route.hops or (), self._failed)
        fan.send(passed.frame, sender)

    # -- inside: none of this is met by a packet that is passed on ------------------------------------------------------

    def _over_limit(self, subscriber: Subscriber, now: float) -> Refusal | None:
        self.dropped_limit += 1
        subscriber.dropped += 1
        if now - subscriber.limit_told_at < LIMIT_EVERY_S:
            return None
        subscriber.limit_told_at = now
        what = (
            f"{subscriber.packets_per_s} packets/s"
            if subscriber.packets_left <= 0
            else f"{subscriber.bytes_per_s} bytes/s"
        )
        return Refusal(Code.LIMIT, f"more than {what}: what is over is dropped")

    def _not_joined(self, subscriber: Subscriber, key: int) -> Refusal | None:
        self.dropped_not_joined += 1
        subscriber.dropped += 1
        member = subscriber.memberships.get(key)
        if member is not None:
            return self._once(
                subscriber, Code.NOT_JOINED, key, f"'{member.stream.id}' is joined to listen only"
            )
        return self._once(
            subscriber,
            Code.NOT_JOINED,
            key,
            f"stream {format_u64(key)} is not joined; what you send there is dropped",
        )

    def _foreign_source(self, subscriber: Subscriber, key: int, source: int) -> Refusal | None:
        self.dropped_foreign_source += 1
        subscriber.dropped += 1
        return self._once(
            subscriber,
            Code.FOREIGN_SOURCE,
            key,
            f"source {format_u64(source)} is not the one declared for stream {format_u64(key)}",
        )

    def _not_fresh(self, verdict: int) -> None:
        if verdict == DUPLICATE:
            self.dropped_duplicate += 1
        elif verdict == JUMP:
            self.dropped_jump += 1
        else:
            self.dropped_late += 1

    def _once(self, subscriber: Subscriber, code: Code, key: int, message: str) -> Refusal | None:
        told = subscriber.told
        if (code, key) in told or len(told) >= MAX_TOLD:
            return None
        subscriber.told = told | {(code, key)}
        return Refusal(code, message)

    def _failed(self, recipient: Recipient, error: Exception) -> None:
        self.recipients_failed += 1
        self.copies_delivered -= 1
        self.broken.setdefault(recipient, error)
