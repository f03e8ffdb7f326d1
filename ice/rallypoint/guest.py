"""One link of a Rallypoint: who is at the far end, what it asks for, and what it is told.

A :class:`Guest` owns one :class:`~ice.net.link.Link` from the moment its TLS handshake begins until its connection is gone. What
all guests share is the :class:`House`; its rules may be exchanged while guests are there (a reload), so nothing of them is
kept here but what :meth:`Guest.reconsider` looks at again.
"""

from functools import partial

import attrs
from OpenSSL.crypto import X509
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from ice.link.event import Ended, ErrorReceived, Event, HelloReceived, JoinAsked, LeaveAsked
from ice.link.frame import MEDIA_HEADER
from ice.link.message import ANY_SOURCE, Code, Hello, Limits, LinkRole
from ice.link.naming import PREFIX_SHIFT, format_u64, source_prefix
from ice.link.outbox import Outbox
from ice.link.session import CONTROL_BURST, Session, State
from ice.net.addresses import format_address
from ice.net.clock import Clock
from ice.net.link import Link
from ice.rallypoint.access import Rights
from ice.rallypoint.admission import Refused, Ticket
from ice.rallypoint.backbone import Far
from ice.rallypoint.codes import known_code
from ice.rallypoint.federation import Ally
from ice.rallypoint.house import House
from ice.rallypoint.mesh import TooManyStreams
from ice.rallypoint.registry import ANY, KeyCollision, Subscriber
from ice.rallypoint.relay import Refusal
from ice.security.certificates import BadIdentity, Identity, Role
from ice.security.contexts import forget, peer_of
from ice.security.refusals import Reason, explain
from ice.security.trust import Peer

JOINS_PER_S = 50.0  # JOIN and LEAVE that one link may ask for, once its first round is done
LEAST_ROUND = 64.0
PATIENCE = 1_000  # refused questions over that rate; then the link ends


@attrs.frozen
class Member:
    """A guest that has said who it is."""

    peer: Peer
    agent: str
    rights: Rights
    subscriber: Subscriber
    since: float

    @property
    def name(self) -> str:
        """The common name in its certificate."""
        return self.peer.identity.name


class GuestLink(Link):
    """A link that tells its guest when the connection itself is gone."""

    def __init__(self, guest: "Guest", clock: Clock) -> None:
        super().__init__(guest, clock, guest.house.wake)
        self._guest = guest

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The last that is heard of it."""
        super().connectionLost(reason)
        self._guest.gone()


class Guest:
    """The owner of one link (:class:`ice.net.link.Owner`)."""

    _log = Logger()
    __slots__ = (
        "__weakref__",
        "_asked_at",
        "_asks",
        "_impatience",
        "_late",
        "address",
        "ally",
        "due",
        "far",
        "house",
        "link",
        "member",
        "peer",
        "ticket",
    )

    def __init__(self, house: "House[Guest]", ticket: Ticket, port: int) -> None:
        """``port``: the far side's, for people."""
        self.house = house
        self.ticket = ticket
        self.address = format_address(ticket.address, port)
        self.link = GuestLink(self, house.clock)
        self.peer: Peer | None = None
        self.member: Member | None = None
        #: Set instead of ``member`` where the far side is another Rallypoint of ours.
        self.far: Far | None = None
        #: Set instead of both where it is one of another organisation.
        self.ally: Ally | None = None
        #: When :meth:`pulse` has something to do at the latest.
        self.due = float("inf")
        house.agenda.expect(self, ticket.arrived + house.admission.limits.handshake_s)
        self._asks = self._most_asks()
        self._asked_at = ticket.arrived
        self._impatience = 0
        self._late = False
        house.guests.add(self)

    # -- the link's owner ---------------------------------------------------------------------------------------------

    def handshaken(self, link: Link, certificate: X509) -> None:
        """TLS stands: look again with the rules of now, which a reload may have changed meanwhile."""
        house = self.house
        trust = house.tls.trust
        tls = getattr(link.transport, "tls", None)
        try:
            # Whoever owns its socket was looked into during the handshake.
            peer = peer_of(tls) if tls is not None else trust.peer(certificate.to_cryptography())
        except BadIdentity as error:
            link.refuse(Code.IDENTITY, str(error))
            return
        refusal = trust.still_refuses(peer)
        if refusal is not None:
            link.refuse(Code.REVOKED if refusal.reason is Reason.REVOKED else Code.IDENTITY, refusal.sentence)
            return
        refused = house.admission.identify(self.ticket, peer.identity.triple)
        if refused is not None:
            self.complain(refused)
            link.refuse(refused.code, refused.sentence)
            return
        self.peer = peer
        if tls is not None:
            forget(tls)
        now = house.clock.seconds()
        limits = house.settings.limits
        session = Session(
            opener=False,
            now=now,
            expected_id=str(peer.identity.id),
            keepalive_s=house.settings.keepalive_s,
            handshake_s=max(0.0, self.due - now),
            media_bytes=limits.media_bytes,
            outbox=Outbox(max_frames=limits.queue_frames, max_age_s=limits.queue_s),
            control_burst=max(CONTROL_BURST, 4 * limits.joins),
        )
        link.begin(session)

    def media(self, link: Link, frame: bytes) -> None:
        """One packet: see :mod:`ice.rallypoint.relay`."""
        house, member = self.house, self.member
        if member is None:
            if self.far is not None:
                house.backbone.media(self.far, frame)
            elif self.ally is not None:
                house.federation.media(self.ally, frame)
            return
        refusal = house.relay.media(member.subscriber, frame, house.now)
        if refusal is not None:
            self._refuse(refusal)

    def event(self, link: Link, event: Event) -> None:
        """A control message."""
        if isinstance(event, HelloReceived):
            self._greet(event.hello)
        elif self.far is not None:
            self.house.backbone.control(self.far, event)
        elif self.ally is not None:
            self.house.federation.control(self.ally, event)
        elif isinstance(event, JoinAsked):
            if self._may_ask(event.txn):
                self._join(event)
        elif isinstance(event, LeaveAsked):
            if self._may_ask(None) and self.member is not None:
                self._leave(self.member, event.key)
        elif isinstance(event, ErrorReceived):
            self._log.debug(
                "{address}: says {code}: {text}",
                address=self.address,
                code=event.error.code,
                text=event.error.message,
            )

    def ended(self, link: Link, ended: Ended) -> None:
        """The link is over; its connection may need a moment."""
        house, member = self.house, self.member
        code = known_code(ended.code)
        house.ended[code] = house.ended.get(code, 0) + 1
        house.admission.ended(self.ticket)
        if self.far is not None:
            house.backbone.lost(self.far, ended)
            return
        if self.ally is not None:
            house.federation.lost(self.ally, ended)
            return
        if member is None:
            self._never_came(ended, code)
            return
        house.registry.unsubscribe(member.subscriber)
        if house.parrot is not None:
            house.parrot.forget(member.subscriber)
        self._log.info(
            "{who} at {address} is gone: {code}: {reason}",
            who=str(member.peer.identity),
            address=self.address,
            code=ended.code,
            reason=ended.reason,
        )

    def explain(self, failure: Failure) -> tuple[str, str]:
        """Why the connection was lost, in a word and a sentence."""
        if self._late:
            waited_s = self.house.admission.limits.handshake_s
            return Code.IDLE, f"no TLS handshake within {waited_s:g} s"
        if self.peer is not None:
            if failure.check(ConnectionDone):
                return "closed", "the far side closed the connection without a BYE"
            if failure.check(ConnectionLost):
                return "lost", "the connection broke"
            return "lost", f"the connection broke: {explain(failure.value or ConnectionLost()).sentence}"
        refusal = explain(failure.value or ConnectionLost())
        return refusal.code, refusal.sentence

    # -- what the service asks for -----------------------------------------------------------------------------------

    def gone(self) -> None:
        """The connection is gone."""
        house, link = self.house, self.link
        house.admission.gone(self.ticket)
        house.guests.discard(self)
        house.sent_frames += link.sent_frames
        house.sent_bytes += link.sent_bytes
        if link.session is not None:
            link.session.outbox.forget()
            house.dropped_full += link.session.outbox.dropped_full
            house.dropped_old += link.session.outbox.dropped_old
        link.release()

    def pulse(self, now: float) -> None:
        """Let time pass: it is due, or has become busy."""
        session = self.link.session
        if session is None:
            self._late = True
            self.link.abort()
            return
        self.link.pulse(now)
        self.house.agenda.expect(self, session.deadline)

    def survey(self, now: float) -> None:
        """Look whether the link has become busy, which brings its next PING forward; once a second is often enough."""
        member, session = self.member, self.link.session
        if session is None or (member is None and self.far is None and self.ally is None):
            return
        spent = member is not None and member.subscriber.spent
        if spent and member is not None:
            member.subscriber.refill(now)
        if self.due - now <= session.vigil.busy_interval_s():
            return  # it will be asked soon enough, busy or not
        if (self.link.note_carried() or spent) and session.deadline < self.due:
            self.house.agenda.expect(self, session.deadline)

    def reconsider(self) -> bool:
        """Look at this guest with the rules of now (after a reload); whether it may stay."""
        house, link, peer = self.house, self.link, self.peer
        if peer is None:
            return True  # who is still in its handshake is looked at when that is done
        refusal = house.tls.trust.still_refuses(peer)
        if refusal is not None:
            unwanted = Code.IDENTITY if self.ally is None else Code.REFUSED
            link.end(Code.REVOKED if refusal.reason is Reason.REVOKED else unwanted, refusal.sentence)
            return False
        if house.admission.denies(self.ticket.address):
            link.end(Code.DENIED_ADDRESS, "links from this address are not wanted any more")
            return False
        if self.member is not None:
            self.member = attrs.evolve(self.member, rights=self._rights(peer))
            self._allow(self.member.subscriber)
            self._review(self.member)
            link.flush()
        return True

    def end_for_drain(self) -> None:
        """We stop: say where else to go, and when to come back."""
        if self.link.session is None:
            self.link.abort()
            return
        settings = self.house.settings
        self.link.end(
            Code.DRAINING,
            "this Rallypoint is stopping",
            retry_after_s=max(1.0, settings.drain_s),
            alternatives=self.house.alternatives,
        )

    def complain(self, refused: Refused) -> None:
        """Log a refusal, but not a thousand times."""
        kept = self.house.throttle.passes((self.ticket.group, refused.reason), self.house.now)
        if kept is not None:
            self._log.warn(
                "refused {address}: {reason}: {sentence} ({kept} more like it before)",
                address=self.address,
                reason=refused.reason,
                sentence=refused.sentence,
                kept=kept,
            )

    # -- inside ---------------------------------------------------------------------------------------------------------

    @property
    def _session(self) -> Session:
        session = self.link.session
        assert session is not None  # there are no events without one
        return session

    def _never_came(self, ended: Ended, code: str) -> None:
        house = self.house
        if ended.code == Code.IDLE and (self._late or ended.ours):
            house.admission.count("handshake-late")
        elif self.peer is None and not ended.ours:
            house.handshakes_failed[code] = house.handshakes_failed.get(code, 0) + 1
        if house.admission.draining or code in ("closed", Code.LIMIT):
            return  # a port scan or balancer; and limits have been complained of
        kept = house.throttle.passes((self.ticket.group, code), house.now)
        if kept is not None:
            self._log.warn(
                "no link with {address}: {code}: {reason} ({kept} more like it before)",
                address=self.address,
                code=code,
                reason=ended.reason,
                kept=kept,
            )

    def _greet(self, hello: Hello) -> None:
        house, session, peer = self.house, self._session, self.peer
        assert peer is not None  # the session was made with it
        identity = peer.identity
        foreign = house.tls.trust.foreigner(identity)
        if foreign is not None or session.role is LinkRole.FEDERATION:
            self._greet_ally(hello, peer, None if foreign is None else foreign.name)
            return
        if session.role in (LinkRole.PEER, LinkRole.LEAF):
            self._greet_rallypoint(hello, identity, leaf=session.role is LinkRole.LEAF)
            return
        limits = house.settings.limits
        if identity.role is Role.RALLYPOINT:
            self.link.end(
                Code.ROLE,
                "a Rallypoint's certificate is not for clients: use one of role client, operator or satellite",
            )
            return
        house.admission.greeted(self.ticket)
        subscriber = house.registry.subscribe(
            self.link,
            identity=identity.triple,
            prefix=source_prefix(identity.id),
            satellite=identity.role is Role.SATELLITE,
        )
        self._allow(subscriber)
        self.member = Member(peer, hello.agent, self._rights(peer), subscriber, house.clock.seconds())
        session.welcome(
            id=str(house.identity.id),
            name=house.name,
            features=(),
            alternatives=house.alternatives,
            limits=Limits(
                media_bytes=limits.media_bytes,
                joins=limits.joins,
                packets_per_s=limits.packets_per_s,
                bytes_per_s=limits.bytes_per_s,
            ),
        )
        house.agenda.expect(self, session.deadline)
        self._log.info(
            "{who} is here from {address} ({agent})",
            who=str(identity),
            address=self.address,
            agent=hello.agent or "no agent named",
        )

    def _greet_rallypoint(self, hello: Hello, identity: Identity, *, leaf: bool) -> None:
        house, session, backbone = self.house, self._session, self.house.backbone
        if identity.role is not Role.RALLYPOINT:
            self.link.end(
                Code.ROLE, f"a link of role '{session.role}' is for Rallypoints, and this is {identity}"
            )
            return
        refusal = backbone.refuses(identity.id, leaf)
        if refusal is not None:
            self.link.end(Code.SELF if identity.id == house.identity.id else Code.REFUSED, refusal)
            return
        house.admission.greeted(self.ticket)
        session.welcome(id=str(house.identity.id), name=house.name)
        house.agenda.expect(self, session.deadline)
        self.far = backbone.let_in(self.link, identity.id, hello.name or identity.name, self.address, leaf)

    def _greet_ally(self, hello: Hello, peer: Peer, organisation: str | None) -> None:
        """``organisation``: the federation that the certificate is of; None: it is of our own authority."""
        house, session, federation = self.house, self._session, self.house.federation
        identity = peer.identity
        if organisation is None:
            why = "a link of role 'federation' is for other organisations' Rallypoints, and your certificate is of our own authority"
            self.link.end(Code.ROLE, why)
            return
        if session.role is not LinkRole.FEDERATION:
            why = f"{identity} is of the federation '{organisation}' here: open links of role 'federation', not '{session.role}'"
            self.link.end(Code.ROLE, why)
            return
        refusal = federation.refuses(identity)
        if refusal is not None:
            self.link.end(Code.REFUSED, refusal)
            return
        house.admission.greeted(self.ticket)
        limits = federation.limits(identity.id, house.settings.limits.media_bytes)
        session.welcome(id=str(house.identity.id), name=house.name, limits=limits)
        house.agenda.expect(self, session.deadline)
        self.ally = federation.let_in(self.link, peer, hello.name or identity.name, self.address)

    def _rights(self, peer: Peer) -> Rights:
        identity = peer.identity
        return self.house.access.of(
            identity.name, str(identity.id), satellite=identity.role is Role.SATELLITE
        )

    def _allow(self, subscriber: Subscriber) -> None:
        limits = self.house.settings.limits
        largest = limits.media_bytes + MEDIA_HEADER
        subscriber.allow(limits.packets_per_s, limits.bytes_per_s, largest, self.house.clock.seconds())

    def _refuse(self, refusal: Refusal, txn: int | None = None) -> None:
        errors = self.house.errors
        errors[refusal.code] = errors.get(refusal.code, 0) + 1
        self._session.error(refusal.code, refusal.message, txn)

    def _most_asks(self) -> float:
        """A round of JOIN and one of LEAVE may come at once."""
        return max(LEAST_ROUND, 2.0 * self.house.settings.limits.joins)

    def _may_ask(self, txn: int | None) -> bool:
        """Whether a JOIN or LEAVE is within the rate; a first round of everything is always."""
        now = self.house.clock.seconds()
        self._asks = min(self._most_asks(), self._asks + (now - self._asked_at) * JOINS_PER_S)
        self._asked_at = now
        if self._asks >= 1.0:
            self._asks -= 1.0
            return True
        self._impatience += 1
        if self._impatience > PATIENCE:
            self.link.end(Code.LIMIT, f"more than {JOINS_PER_S:.0f} JOIN and LEAVE a second, for too long")
        else:
            message = f"more than {JOINS_PER_S:.0f} JOIN and LEAVE a second: ask more slowly"
            self._refuse(Refusal(Code.LIMIT, message), txn)
        return False

    def _join(self, asked: JoinAsked) -> None:
        house, member = self.house, self.member
        if member is None or self._session.state is not State.OPEN:
            return
        subscriber = member.subscriber
        refusal = self._refuses_join(member, asked)
        if refusal is None:
            source = ANY if asked.source == ANY_SOURCE else asked.source
            assert not isinstance(source, str)  # "any" is the only word
            try:
                house.registry.join(
                    subscriber, asked.stream, asked.key, listen=asked.listen, talk=asked.talk, source=source
                )
            except KeyCollision as error:
                refusal = Refusal(error.code, str(error))
            except TooManyStreams as error:
                refusal = Refusal(Code.LIMIT, str(error))
        if refusal is not None:
            self._refuse(refusal, asked.txn)
        elif asked.listen:
            house.backbone.when_settled(asked.key, partial(self._joined, asked))
        else:
            self._joined(asked)

    def _joined(self, asked: JoinAsked) -> None:
        session = self.link.session
        if session is not None:
            session.joined(asked.txn, asked.stream, asked.key)
            self.link.flush()

    def _refuses_join(self, member: Member, asked: JoinAsked) -> Refusal | None:
        house, subscriber = self.house, member.subscriber
        limits, streams = house.settings.limits, house.registry.streams
        refusal = member.rights.refuses(asked.stream, listen=asked.listen, talk=asked.talk)
        if refusal is not None:
            return refusal
        if asked.key not in subscriber.memberships:
            if len(subscriber.memberships) >= limits.joins:
                return Refusal(Code.LIMIT, f"{limits.joins} streams joined on one link are the limit")
            if asked.key not in streams and len(streams) >= limits.streams:
                return Refusal(Code.LIMIT, f"{limits.streams} streams in this Rallypoint are the limit")
        if subscriber.satellite or asked.source is None:
            return None
        if isinstance(asked.source, str):
            return Refusal(Code.FOREIGN_SOURCE, "source 'any' is for satellites")
        if asked.source >> PREFIX_SHIFT != subscriber.prefix:
            return Refusal(
                Code.FOREIGN_SOURCE,
                f"source {format_u64(asked.source)} is not of your certificate: it would begin with {subscriber.prefix:08x}",
            )
        return None

    def _leave(self, member: Member, key: int) -> None:
        house, membership = self.house, member.subscriber.memberships.get(key)
        if membership is not None and membership.stream.echo is not None and house.parrot is not None:
            house.parrot.forget(member.subscriber)
        house.registry.leave(member.subscriber, key)

    def _review(self, member: Member) -> None:
        """Take back what the new access rules do not allow."""
        for key, membership in list(member.subscriber.memberships.items()):
            stream = membership.stream.id
            refusal = member.rights.refuses(stream, listen=membership.listen, talk=membership.talk)
            if refusal is None:
                continue
            listen = membership.listen and member.rights.may_listen(stream)
            talk = membership.talk and member.rights.may_talk(stream)
            if listen or talk:
                self.house.registry.join(member.subscriber, stream, key, listen=listen, talk=talk)
            else:
                self._leave(member, key)
            self._refuse(Refusal(refusal.code, f"{refusal.message} (the rules have changed)"))
