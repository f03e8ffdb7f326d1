"""The links of one Rallypoint to the others: dialled and let in, told to the mesh, and carried out what the mesh decides.

Everything that is decided is decided in engines: whom to call and which of two links stays (:mod:`ice.rallypoint.calling`), what others are told
and where a datagram goes (:mod:`ice.rallypoint.mesh`).  Here are the sockets and the clock.

**A link** is the same whoever opened it: a :class:`Far`.  One that was let in belongs to a :class:`~ice.rallypoint.guest.Guest`, one that we dialled to
the :class:`~ice.rallypoint.dialout.Dialout`; both hand over what they hear.

**Joining.** The first listener of a stream here is answered JOINED when the neighbours know of it (:meth:`Backbone.when_settled`), after
250 ms at the latest: who is JOINED hears the first syllable.
"""

from collections.abc import Callable, Collection, Hashable
from random import Random
from typing import Any
from uuid import UUID

import attrs
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.logger import Logger

from ice import __version__
from ice.config.groups import RoundTripRule
from ice.link.event import Ended, Event, PeerFrame
from ice.link.fan import Recipient
from ice.link.message import VERSION, Code, Hello, LinkRole
from ice.link.wake import Wake
from ice.net.clock import Clock, DelayedCall
from ice.net.link import PULSE_S, Link
from ice.rallypoint.calling import stays
from ice.rallypoint.codes import known_code
from ice.rallypoint.dialout import REFUSALS, Dialout, Owner
from ice.rallypoint.mesh import Mesh
from ice.rallypoint.neighbours import End, Notice, Send, Settled
from ice.rallypoint.peering import DEFAULT_COST, Plan
from ice.rallypoint.registry import Account, KeyCollision, Registry
from ice.rallypoint.relay import Relay
from ice.rallypoint.routes import MAX_PEER_WINDOWS
from ice.rallypoint.signatures import Believer, sign_with
from ice.security.trust import Credentials, Trust
from ice.streams.dialling import Dialler

#: Between two lines of the log about the round trip of one link.
ALARM_EVERY_S = 60.0


@attrs.define(eq=False)
class Far:
    """Another Rallypoint, at the far end of a link that stands."""

    id: UUID
    name: str
    link: Link
    address: str
    inbound: bool
    leaf: bool
    cost: int
    since: float
    #: Windows of our own listeners that it opened.
    account: Account
    #: The round trip that the mesh was told.
    round_trip_s: float | None = None
    #: A pulse between two beats.
    call: DelayedCall | None = None
    alarm: str = ""
    alarmed_at: float = float("-inf")

    @property
    def peer_id(self) -> str:
        """What it is called in logs and status: the first 18 characters of its UUID."""
        return str(self.id)[:18]


@attrs.frozen
class PeerRow:
    """One Rallypoint that is expected or linked, for people."""

    id: UUID
    name: str
    address: str
    state: str
    inbound: bool
    leaf: bool
    cost: int
    failures: int
    since_s: float
    round_trip_s: float | None
    received: int
    sent: int
    received_bytes: int
    sent_bytes: int
    queue: int
    why: str


class Backbone(Owner[Far]):
    """The other Rallypoints of our authority.  An :class:`~ice.rallypoint.registry.Abroad` and an :class:`~ice.rallypoint.dialout.Owner`."""

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        own: UUID,
        registry: Registry,
        relay: Relay,
        wake: Wake,
        *,
        dialler: Callable[[], Dialler],
        random: Random | None = None,
    ) -> None:
        """``dialler``: makes what dials, with the certificates of now."""
        super().__init__()
        self.own = own
        self.mesh: Mesh[Recipient] | None = None
        self.plan = Plan()
        self.fars: dict[UUID, Far] = {}
        #: Links that ended, by code; Rallypoints turned away, by reason.
        self.ended: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self._clock = clock
        self._registry = registry
        self._relay = relay
        self._dialler = dialler
        self.out = Dialout(clock, own, self, wake, Random() if random is None else random)
        self._believer: Believer | None = None
        self._certificate = b""
        self._round_trip: tuple[RoundTripRule, ...] = ()
        self._unsettled: dict[int, list[Callable[[], None]]] = {}
        self._call: DelayedCall | None = None
        self._due = float("inf")
        self._stopping = self._stopped = False

    # -- configuration ------------------------------------------------------------------------------------------------

    def apply(
        self,
        plan: Plan,
        credentials: Credentials,
        trust: Trust,
        *,
        name: str,
        spread_s: float,
        round_trip: tuple[RoundTripRule, ...],
    ) -> None:
        """Go by this plan and these certificates from now on; links of members that stay live on.

        Raises :class:`~ice.errors.LocalError` for a key that cannot sign; then nothing has changed.
        """
        now = self._clock.seconds()
        if self.mesh is None and not plan.peers:
            self.plan = plan
            return
        certificate = credentials.certificate.public_bytes(Encoding.DER)
        sign = sign_with(credentials.key)
        self._round_trip = round_trip
        if self.mesh is None or self._believer is None:
            believer = self._believer = Believer(trust)
            self.mesh = self._relay.mesh = Mesh(
                self.own, certificate, sign, believer.identify, believer.verify,
                leaf=plan.leaf, now=now,
            )  # fmt: skip
            self._certificate = certificate
            self._registry.abroad = self
            for key, stream_id in self._registry.listened():
                self.listened(key, stream_id)
        else:
            if certificate != self._certificate:
                self._certificate = certificate
                self.mesh.renew(certificate, sign, now)
            self._believer.trust = trust
            self.mesh.reconsider(now)
            if plan.leaf != self.mesh.leaf:
                self._log.warn("this Rallypoint becomes a leaf, or none any more, when it is started again")
        self.plan = plan
        for far in list(self.fars.values()):
            expected = plan.peers.get(far.id)
            if expected is None:
                far.link.end(Code.LEAVING, "you are no member of a group of mine any more")
            elif expected.cost != far.cost:
                far.cost = expected.cost
                self.mesh.set_cost(far.link, far.cost, now)
        dialler = self._dialler()
        role = LinkRole.LEAF if self.mesh.leaf else LinkRole.PEER
        hello = Hello(version=VERSION, role=role, id=str(self.own), name=name, agent=f"ice/{__version__}")
        self.out.expect(plan.peers, lambda _: dialler, hello, spread_s)
        self._arm()

    # -- links that are let in -----------------------------------------------------------------------------------------

    def refuses(self, id: UUID, leaf: bool) -> str | None:
        """Why a Rallypoint of our authority is not let in, or None."""
        if id == self.own:
            reason = "self"
            why = "your certificate has my own UUID: my own address is among your peers, or my certificate was copied"
        elif id not in self.plan.peers:
            reason, why = (
                "not-listed",
                f"no group here has the member {id}: list it in [[groups]] on this machine as well",
            )
        elif leaf and not self.plan.peers[id].leaf:
            reason, why = (
                "role",
                f"{id} is listed here as a Rallypoint of the core, and says that it is a leaf",
            )
        else:
            return None
        self.refused[reason] = self.refused.get(reason, 0) + 1
        return why

    def let_in(self, link: Link, id: UUID, name: str, address: str, leaf: bool) -> Far | None:
        """A link that another Rallypoint opened and that :meth:`refuses` let in; None: there is one already, and this one was ended."""
        return self._adopt(link, id, name, address, inbound=True, leaf=leaf)

    def media(self, far: Far, frame: bytes) -> None:
        """The hot path: one whole RELAY frame."""
        self._relay.relayed(far.link, far.account, frame, self._clock.seconds())

    def control(self, far: Far, event: Event) -> None:
        """A flood, or an ERROR."""
        if isinstance(event, PeerFrame) and self.mesh is not None:
            self.mesh.receive(far.link, event.frame, self._clock.seconds())
            self._arm()

    def lost(self, far: Far, ended: Ended) -> None:
        """A link has ended, however."""
        now = self._clock.seconds()
        code = known_code(ended.code)
        if self._by_link.pop(far.link, None) is None:
            return
        if far.call is not None and far.call.active():
            far.call.cancel()
        self.ended[code] = self.ended.get(code, 0) + 1
        self._registry.close(far.account)
        if self.mesh is not None:
            self.mesh.link_down(far.link, now)
        if self.fars.get(far.id) is far:
            del self.fars[far.id]
            again_s = ended.retry_after_s
            if not ended.ours and ended.code in REFUSALS:
                self.out.calls.failed(far.id, ended.reason, now, refused=True)
            else:
                self.out.calls.lost(far.id, ended.reason, now, again_s=again_s)
            self._log.warn(
                "link with Rallypoint {peer} at {address} is gone: {code}: {why}",
                peer=far.peer_id, address=far.address, code=code, why=ended.reason,
            )  # fmt: skip
        self._arm()

    # -- links that we dialled: ice.rallypoint.dialout.Owner -----------------------------------------------------------

    @property
    def linked(self) -> Collection[UUID]:
        """To whom a link stands."""
        return self.fars

    def dialled(self, link: Link, id: UUID, name: str, address: str) -> None:
        """A Rallypoint that we called let us in."""
        expected = self.plan.peers.get(id)
        if expected is None:
            link.end(Code.LEAVING, "you are no member of a group of mine any more")
        else:
            self._adopt(link, id, name, address, inbound=False, leaf=expected.leaf)

    # -- ice.rallypoint.registry.Abroad --------------------------------------------------------------------------------

    def listened(self, key: int, stream_id: str) -> None:
        """One listener more here; raises :class:`~ice.rallypoint.mesh.TooManyStreams`, or :class:`~ice.rallypoint.registry.KeyCollision`."""
        mesh = self.mesh
        if mesh is None:
            return
        known = mesh.stream_id(key)
        if known is not None and known != stream_id:
            raise KeyCollision(
                f"'{stream_id}' has the same key as another stream in the mesh; choose another name"
            )
        if not mesh.want(key, stream_id, self._clock.seconds()):
            self._unsettled.setdefault(key, [])
        self._arm()

    def unlistened(self, key: int) -> None:
        """One listener less here."""
        if self.mesh is not None:
            self.mesh.unwant(key, self._clock.seconds())
            self._arm()

    def forgotten(self, identity: Hashable) -> None:
        """Nothing is left of an identity."""
        if self.mesh is not None:
            self.mesh.routes.close(identity)

    def when_settled(self, key: int, then: Callable[[], None]) -> None:
        """Call ``then`` when the neighbours know that ``key`` is listened to here: now, or within 250 ms."""
        waiting = self._unsettled.get(key)
        if waiting is None:
            then()
        else:
            waiting.append(then)

    # -- time ----------------------------------------------------------------------------------------------------------

    def pulse(self, now: float) -> None:
        """Let time pass on the links that we dialled, and dial; every 100 ms."""
        self.out.pulse(now)
        soon = now + PULSE_S
        for far in list(self.fars.values()):
            self._watch_round_trip(far, now)
            session = far.link.session
            if session is not None and session.deadline < soon and far.call is None:
                # The whole mesh waits for the one who notices that a link is dead: not for the next beat.
                far.call = self._clock.callLater(max(0.0, session.deadline - now), self._on_time, far)
        if self._due <= now and self._call is None:
            self._turn()

    def drain(self) -> None:
        """We are about to stop: others go round us from now on, while we still carry."""
        self._stopping = True
        if self.mesh is not None:
            self.mesh.drain(self._clock.seconds())
            self._turn()

    @property
    def busy(self) -> bool:
        """Whether anything of a connection that we dialled is left in the reactor."""
        return self.out.busy

    def stop(self, reason: str) -> None:
        """End every link."""
        self._stopping = self._stopped = True
        for far in list(self.fars.values()):
            far.link.end(Code.DRAINING, reason)
        self.out.stop(reason)
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _on_time(self, far: Far) -> None:
        far.call = None
        if far.link in self._by_link:
            far.link.pulse(self._clock.seconds())

    # -- for people ------------------------------------------------------------------------------------------------------

    def rows(self, now: float) -> list[PeerRow]:
        """Everybody expected, and everybody linked, by UUID."""
        rows = []
        for id in sorted({*self.plan.peers, *self.fars}):
            far, expected, call = self.fars.get(id), self.plan.peers.get(id), self.out.call(id)
            if far is not None:
                link, session = far.link, far.link.session
                rows.append(
                    PeerRow(
                        id=id, name=far.name, address=far.address, state="linked", inbound=far.inbound, leaf=far.leaf,
                        cost=far.cost, failures=0, since_s=now - far.since,
                        round_trip_s=None if session is None else session.vigil.round_trip_s,
                        received=link.received_frames, sent=link.sent_frames,
                        received_bytes=link.received_bytes, sent_bytes=link.sent_bytes,
                        queue=0 if session is None else len(session.outbox), why="",
                    )
                )  # fmt: skip
            elif expected is not None:
                calling = call is not None and call.calling
                why = "" if call is None else call.why
                if expected.address is None and not why:
                    why = "it is to call us: no address is configured"
                rows.append(
                    PeerRow(
                        id=id, name="", address="" if expected.address is None else str(expected.address),
                        state="connecting" if calling else "waiting", inbound=False, leaf=expected.leaf, cost=expected.cost,
                        failures=0 if call is None else call.failures, since_s=0.0, round_trip_s=None,
                        received=0, sent=0, received_bytes=0, sent_bytes=0, queue=0, why=why,
                    )
                )  # fmt: skip
        return rows

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _adopt(
        self, link: Link, id: UUID, name: str, address: str, *, inbound: bool, leaf: bool
    ) -> Far | None:
        mesh, now = self.mesh, self._clock.seconds()
        if mesh is None or self._stopping:
            link.end(Code.DRAINING, "this Rallypoint is stopping")
            return None
        old = self.fars.get(id)
        if old is not None:
            if stays(
                self.own, id, old_dialled=not old.inbound, new_dialled=not inbound, old_age_s=now - old.since
            ):
                link.end(Code.REPLACED, "there is a link between us already")
                return None
            del self.fars[id]
            old.link.end(Code.REPLACED, "another link between us has taken its place")
        expected = self.plan.peers.get(id)
        cost = DEFAULT_COST if expected is None else expected.cost
        account = self._registry.account(("rallypoint", id), MAX_PEER_WINDOWS)
        far = Far(id, name, link, address, inbound, leaf, cost, now, account)
        self.fars[id] = self._by_link[link] = far
        self.out.calls.linked(id)
        mesh.link_up(link, id, cost, now, leaf=leaf)
        self._log.info(
            "linked with Rallypoint {peer} ({name}) at {address}, {how}",
            peer=far.peer_id, name=name, address=address, how="it called" if inbound else "we called",
        )  # fmt: skip
        self._arm()
        return far

    def _watch_round_trip(self, far: Far, now: float) -> None:
        session = far.link.session
        if session is None or session.vigil.round_trip_s is None:
            return
        if session.vigil.round_trip_s != far.round_trip_s and self.mesh is not None:
            far.round_trip_s = session.vigil.round_trip_s
            self.mesh.set_round_trip(far.link, far.round_trip_s, now)
            self._arm()
        ms = session.vigil.round_trip_s * 1_000
        rule = max(
            (rule for rule in self._round_trip if ms >= rule.at_or_above_ms),
            key=lambda rule: rule.at_or_above_ms,
            default=None,
        )
        action = "" if rule is None else rule.action
        if action == far.alarm and (not action or now - far.alarmed_at < ALARM_EVERY_S):
            return
        calmer = bool(far.alarm) and not action
        far.alarm, far.alarmed_at = action, now
        words = f"round trip to Rallypoint {far.peer_id} at {far.address}: {ms:.0f} ms"
        if calmer:
            self._log.info("{words}, as it should be again", words=words)
        elif rule is not None and action == "drop":
            far.link.end(
                Code.REFUSED, f"a round trip of {ms:.0f} ms; {rule.at_or_above_ms} is the bound here"
            )
        elif action == "error":
            self._log.error("{words}", words=words)
        elif action == "warn":
            self._log.warn("{words}", words=words)
        elif action:
            self._log.info("{words}", words=words)

    def _arm(self) -> None:
        """See to it that the mesh has its turn in time."""
        mesh = self.mesh
        if mesh is None or self._stopped:
            return
        due = mesh.deadline
        if self._call is not None:
            if due >= self._due:
                return
            if self._call.active():
                self._call.cancel()
        self._due = due
        if due == float("inf"):
            self._call = None
        else:
            self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._turn)

    def _turn(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        self._due = float("inf")
        mesh, now = self.mesh, self._clock.seconds()
        if mesh is None:
            return
        spoken: dict[Link, None] = {}
        for output in mesh.take(now):
            if isinstance(output, Send):
                link: Any = output.link
                if link.session is not None:
                    link.session.say(output.frame)
                    spoken[link] = None
            elif isinstance(output, End):
                link = output.link
                link.end(Code(output.code), output.reason)
            elif isinstance(output, Settled):
                for then in self._unsettled.pop(output.key, ()):
                    then()
            else:
                self._note(output)
        for link in spoken:
            link.flush()
        self._arm()

    def _note(self, notice: Notice) -> None:
        say = self._log.warn if notice.what in ("twin", "faults", "gone") else self._log.info
        say("mesh: {sentence}", sentence=notice.sentence)
