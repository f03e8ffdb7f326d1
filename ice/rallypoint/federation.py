"""Federated Rallypoints: the links of this one to those of other organisations, outside the mesh and its floods.

A link is the same whoever opened it: an :class:`Ally`, which to the registry is a satellite on exactly the streams shared
(:mod:`ice.rallypoint.treaty`): it listens where something may go out to them, and talks where something may come in.  So the relay passes MEDIA
of theirs on as it does a client's, under the names it came with, and the windows drop what a second link brings again.

**Whom we let in** has been asked twice before we hear of it: TLS admits the certificates of a foreign authority for the UUIDs listed
(:class:`ice.security.trust.Foreign`), and the guest that they come as tells a role that does not fit.  **Whom we dial** must show that
authority's certificate and the UUID listed, and nobody else's.

The opener joins the streams; both ends hold the link to their own lists.  What the opener asks for is put into the registry before it is asked: the
far side hears the question before the first packet.

A *reload* ends links whose federation is gone (``refused``) or shares something else now (``leaving``: the next link begins by the new lists), and leaves
the others alone.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from functools import partial
from random import Random
from uuid import UUID

import attrs
from twisted.logger import Logger

from ice import __version__
from ice.config.federation import FederationSettings
from ice.errors import IceError, LocalError
from ice.link.event import Ended, ErrorReceived, Event, JoinAsked, JoinedReceived, LeaveAsked
from ice.link.frame import HEADER, MAX_BODY
from ice.link.message import ANY_SOURCE, VERSION, Code, ErrorMessage, Hello, Limits, LinkRole
from ice.link.naming import source_prefix, stream_key
from ice.link.wake import Wake
from ice.net.clock import Clock
from ice.net.link import Link
from ice.rallypoint.calling import stays
from ice.rallypoint.codes import known_code
from ice.rallypoint.dialout import REFUSALS, Dialout, Owner
from ice.rallypoint.mesh import TooManyStreams
from ice.rallypoint.peering import Expected
from ice.rallypoint.registry import ANY, KeyCollision, Registry, Subscriber
from ice.rallypoint.relay import Relay
from ice.rallypoint.throttle import Throttle
from ice.rallypoint.treaty import Asking, Question, Treaty
from ice.security.certificates import Identity
from ice.security.contexts import ClientTls
from ice.security.refusals import Reason
from ice.security.trust import Credentials, Peer, Trust
from ice.streams.dialling import Dialler

#: JOIN and LEAVE of one link: a few of each stream at once, and then so many a second; each may be news for our whole mesh.
LEAST_PATIENCE = 64.0
PATIENCE_PER_STREAM = 4.0
PATIENCE_PER_S = 10.0
#: One line of the log about each thing that is refused; a far side that asks for ever is counted.
TOLD_EVERY_S = 3_600.0


@attrs.define(eq=False)
class Ally:
    """A Rallypoint of another organisation, at the far end of a link that stands."""

    peer: Peer
    treaty: Treaty
    name: str
    link: Link
    address: str
    inbound: bool
    since: float
    subscriber: Subscriber
    #: How many more JOIN and LEAVE it may say now, and when that was counted.
    patience: float
    counted_at: float
    #: What we ask, where we opened the link.
    asking: Asking | None

    @property
    def id(self) -> UUID:
        """Its UUID."""
        return self.peer.identity.id

    @property
    def peer_id(self) -> str:
        """What it is called in logs and status: the first 18 characters of its UUID."""
        return str(self.id)[:18]

    @property
    def incoming(self) -> list[str]:
        """Streams that come in by this link."""
        if self.asking is not None:
            return sorted(self.asking.incoming)
        return sorted(each.stream.id for each in self.subscriber.memberships.values() if each.talk)

    @property
    def outgoing(self) -> list[str]:
        """Streams that go out by this link."""
        if self.asking is not None:
            return sorted(self.asking.outgoing)
        return sorted(each.stream.id for each in self.subscriber.memberships.values() if each.listen)


@attrs.frozen
class AllyRow:
    """One Rallypoint of another organisation, linked or expected, for people."""

    federation: str
    id: UUID
    name: str
    address: str
    state: str  #: "linked", "connecting" or "waiting"
    inbound: bool
    failures: int
    since_s: float
    round_trip_s: float | None
    incoming: tuple[str, ...]  #: streams that come in now
    outgoing: tuple[str, ...]
    refused: tuple[str, ...]  #: what they do not grant, a sentence per stream
    received: int
    sent: int
    received_bytes: int
    sent_bytes: int
    dropped: int  #: frames of theirs that were dropped through a fault of their own
    queue: int
    why: str  #: why there is no link


class Federation(Owner[Ally]):
    """The Rallypoints of other organisations.  An :class:`~ice.rallypoint.dialout.Owner`."""

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        own: UUID,
        registry: Registry,
        relay: Relay,
        wake: Wake,
        *,
        dialler: Callable[[ClientTls], Dialler],
        settled: Callable[[int, Callable[[], None]], None],
        random: Random | None = None,
    ) -> None:
        """``settled``: calls back when our own mesh knows of a new listener (:meth:`ice.rallypoint.backbone.Backbone.when_settled`)."""
        super().__init__()
        self.own = own
        self.allies: dict[UUID, Ally] = {}
        #: Links that ended, by code; ERROR told to them, by code.
        self.ended: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self._clock = clock
        self._registry = registry
        self._relay = relay
        self._make_dialler = dialler
        self._settled = settled
        self.out = Dialout(clock, own, self, wake, Random() if random is None else random)
        self._treaties: dict[UUID, Treaty] = {}
        self._trust: Trust | None = None
        self._told = Throttle(TOLD_EVERY_S)
        self._gone = Counter[str]()
        self._stopping = False

    # -- configuration -------------------------------------------------------------------------------------------------

    def apply(
        self,
        treaties: Iterable[Treaty],
        credentials: Credentials,
        trust: Trust,
        *,
        name: str,
        spread_s: float,
    ) -> None:
        """Go by these from now on; links that they still allow live on.

        Raises :class:`~ice.errors.LocalError` where the certificates cannot be used; then nothing has changed.
        """
        known = {id: treaty for treaty in treaties for id in treaty.peers}
        peers = {id: treaty.peers[id] for id, treaty in known.items()}
        diallers: dict[UUID, Dialler] = {}
        for id, treaty in known.items():
            if peers[id].address is not None:
                diallers[id] = self._make_dialler(ClientTls(credentials, treaty.foreign.trust, expects=id))
        self._treaties, self._trust = known, trust
        self._told = Throttle(TOLD_EVERY_S)  # a reload is an occasion to say it again
        for ally in list(self.allies.values()):
            self._reconsider(ally, trust)
        hello = Hello(
            version=VERSION, role=LinkRole.FEDERATION, id=str(self.own), name=name, agent=f"ice/{__version__}"
        )
        self.out.expect(peers, diallers.__getitem__, hello, spread_s)

    def _reconsider(self, ally: Ally, trust: Trust) -> None:
        """Look at a link with the rules of now."""
        refusal, treaty = trust.still_refuses(ally.peer), self._treaties.get(ally.id)
        if refusal is not None:
            ally.link.end(
                Code.REVOKED if refusal.reason is Reason.REVOKED else Code.REFUSED, refusal.sentence
            )
        elif treaty is None or not treaty.covers(ally.peer.identity):
            ally.link.end(Code.REFUSED, f"no federation here lists the Rallypoint {ally.id} any more")
        elif not treaty.shares_as(ally.treaty):
            ally.link.end(Code.LEAVING, "other streams are shared with you here now: begin anew")
        else:
            if treaty.rate != ally.treaty.rate:
                self._allow(ally.subscriber, treaty)
            ally.treaty = treaty

    # -- links that are let in: what a guest asks for ------------------------------------------------------------------

    def refuses(self, identity: Identity) -> str | None:
        """Why a Rallypoint of another organisation is not let in, or None."""
        treaty = self._treaties.get(identity.id)
        if treaty is None or not treaty.covers(identity):
            return f"no federation here lists the Rallypoint {identity.id}"
        return None

    def limits(self, id: UUID, media_bytes: int) -> Limits:
        """What WELCOME tells one of theirs; ``media_bytes``: the largest payload that is accepted here."""
        treaty = self._treaties[id]
        return Limits(
            media_bytes,
            len(treaty.shared),
            packets_per_s=treaty.packets_per_s,
            bytes_per_s=treaty.bytes_per_s,
        )

    def let_in(self, link: Link, peer: Peer, name: str, address: str) -> Ally | None:
        """A link that was opened to us and that :meth:`refuses` let in; None: there is one already, and this one was ended."""
        return self._adopt(link, peer, self._treaties[peer.identity.id], name, address, inbound=True)

    def media(self, ally: Ally, frame: bytes) -> None:
        """The hot path: one whole MEDIA frame."""
        refusal = self._relay.media(ally.subscriber, frame, self._clock.seconds())
        if refusal is not None:
            self._say(ally, refusal.code, refusal.message, None)

    def control(self, ally: Ally, event: Event) -> None:
        """A control message, on a link of either kind."""
        asking = ally.asking
        if isinstance(event, JoinAsked):
            if self._patient(ally):
                self._join_asked(ally, event)
        elif isinstance(event, LeaveAsked):
            if self._patient(ally):
                self._registry.leave(ally.subscriber, event.key)
        elif isinstance(event, JoinedReceived):
            if asking is not None:
                question = asking.joined(event.txn)
                if question is not None:
                    self._note_refused(ally, question.stream)
        elif isinstance(event, ErrorReceived):
            self._error_received(ally, event.error)

    def lost(self, ally: Ally, ended: Ended) -> None:
        """A link has ended, however."""
        link, now = ally.link, self._clock.seconds()
        if self._by_link.pop(link, None) is None:
            return
        code = known_code(ended.code)
        self.ended[code] = self.ended.get(code, 0) + 1
        self._registry.unsubscribe(ally.subscriber)
        self._gone.update(_media_of(ally))
        if self.allies.get(ally.id) is not ally:
            return  # another has taken its place
        del self.allies[ally.id]
        if not ended.ours and ended.code in REFUSALS:
            self.out.calls.failed(ally.id, ended.reason, now, refused=True)
        else:
            self.out.calls.lost(ally.id, ended.reason, now, again_s=ended.retry_after_s)
        self._log.warn(
            "federation '{federation}': the link with {peer} at {address} is gone: {code}: {why}",
            federation=ally.treaty.name, peer=ally.peer_id, address=ally.address, code=code, why=ended.reason,
        )  # fmt: skip

    # -- links that we dialled: ice.rallypoint.dialout.Owner -----------------------------------------------------------

    @property
    def linked(self) -> Collection[UUID]:
        """To whom a link stands."""
        return self.allies

    def dialled(self, link: Link, id: UUID, name: str, address: str) -> None:
        """A Rallypoint that we called let us in: look at it with the rules of now."""
        treaty, trust = self._treaties.get(id), self._trust
        if treaty is None or trust is None:
            link.end(Code.LEAVING, "it is not expected here any more")
            return
        try:
            peer = treaty.foreign.trust.peer(link.transport.getPeerCertificate().to_cryptography())
        except IceError as error:
            link.end(Code.IDENTITY, str(error))
            return
        refusal = trust.still_refuses(peer)
        if refusal is not None:
            link.end(Code.REVOKED if refusal.reason is Reason.REVOKED else Code.REFUSED, refusal.sentence)
            return
        ally = self._adopt(link, peer, treaty, name, address, inbound=False)
        if ally is not None:
            self._ask(ally)

    # -- time ----------------------------------------------------------------------------------------------------------

    def pulse(self, now: float) -> None:
        """Let time pass on the links that we dialled, and dial; every 100 ms."""
        self.out.pulse(now)

    @property
    def busy(self) -> bool:
        """Whether anything of a connection that we dialled is left in the reactor."""
        return self.out.busy

    def stop(self, reason: str) -> None:
        """End every link, and take no other."""
        self._stopping = True
        for ally in list(self.allies.values()):
            ally.link.end(Code.DRAINING, reason)
        self.out.stop(reason)

    # -- for people ----------------------------------------------------------------------------------------------------

    def rows(self, now: float) -> list[AllyRow]:
        """Everybody expected, and everybody linked, by federation and UUID."""
        rows = []
        for id in {*self._treaties, *self.allies}:
            ally = self.allies.get(id)
            rows.append(self._waiting(id) if ally is None else _linked(ally, now))
        return sorted(rows, key=lambda row: (row.federation, row.id))

    def media_passed(self) -> dict[str, int]:
        """Frames and bytes of media on all federated links since the start: received, sent, received_bytes, sent_bytes."""
        total = Counter({"received": 0, "sent": 0, "received_bytes": 0, "sent_bytes": 0})
        total.update(self._gone)
        for ally in self._by_link.values():
            total.update(_media_of(ally))
        return dict(total)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _adopt(
        self, link: Link, peer: Peer, treaty: Treaty, name: str, address: str, *, inbound: bool
    ) -> Ally | None:
        id, now = peer.identity.id, self._clock.seconds()
        if self._stopping:
            link.end(Code.DRAINING, "this Rallypoint is stopping")
            return None
        old = self.allies.pop(id, None)
        if old is not None:
            if stays(
                self.own, id, old_dialled=not old.inbound, new_dialled=not inbound, old_age_s=now - old.since
            ):
                self.allies[id] = old
                link.end(Code.REPLACED, "there is a link between us already")
                return None
            old.link.end(Code.REPLACED, "another link between us has taken its place")
        subscriber = self._registry.subscribe(
            link, identity=peer.identity.triple, prefix=source_prefix(id), satellite=True
        )
        self._allow(subscriber, treaty)
        ally = Ally(
            peer, treaty, name, link, address, inbound, now, subscriber,
            patience=_most_patience(treaty), counted_at=now, asking=None if inbound else Asking(treaty),
        )  # fmt: skip
        self.allies[id] = self._by_link[link] = ally
        self.out.calls.linked(id)
        self._log.info(
            "federation '{federation}': linked with {peer} ({name}) at {address}, {how}",
            federation=treaty.name, peer=ally.peer_id, name=name, address=address,
            how="it called" if inbound else "we called",
        )  # fmt: skip
        return ally

    def _allow(self, subscriber: Subscriber, treaty: Treaty) -> None:
        largest = HEADER.size + MAX_BODY
        subscriber.allow(*treaty.rate, largest, self._clock.seconds())

    def _say(self, ally: Ally, code: Code, message: str, txn: int | None) -> None:
        self.errors[code] = self.errors.get(code, 0) + 1
        session = ally.link.session
        if session is not None:
            session.error(code, message, txn)

    # what they ask of us

    def _patient(self, ally: Ally) -> bool:
        """Whether they ask no more than they may; otherwise the link has ended."""
        now, most = self._clock.seconds(), _most_patience(ally.treaty)
        ally.patience = min(most, ally.patience + (now - ally.counted_at) * PATIENCE_PER_S)
        ally.counted_at = now
        if ally.patience < 1.0:
            ally.link.end(Code.LIMIT, f"more than {PATIENCE_PER_S:.0f} JOIN and LEAVE a second, for too long")
            return False
        ally.patience -= 1.0
        return True

    def _join_asked(self, ally: Ally, asked: JoinAsked) -> None:
        refusal = ally.treaty.refuses(asked.stream, listen=asked.listen, talk=asked.talk)
        if refusal is not None:
            self._say(ally, Code.DENIED, refusal, asked.txn)
            if self._news(ally, asked.key, asked.listen, asked.talk):
                self._log.warn(
                    "federation '{federation}': {peer} asked for what is not shared, and was told: {refusal}",
                    federation=ally.treaty.name, peer=ally.peer_id, refusal=refusal,
                )  # fmt: skip
            return
        source = asked.source if isinstance(asked.source, int) else ANY
        try:
            self._registry.join(
                ally.subscriber, asked.stream, asked.key, listen=asked.listen, talk=asked.talk, source=source
            )
        except KeyCollision as error:
            self._say(ally, error.code, str(error), asked.txn)
        except TooManyStreams as error:
            self._say(ally, Code.LIMIT, str(error), asked.txn)
        else:
            joined = partial(self._joined, ally, asked)
            if asked.listen:
                self._settled(asked.key, joined)
            else:
                joined()

    def _joined(self, ally: Ally, asked: JoinAsked) -> None:
        session = ally.link.session
        if session is not None:
            session.joined(asked.txn, asked.stream, asked.key)
            ally.link.flush()

    # what we ask of them

    def _ask(self, ally: Ally) -> None:
        """Ask everything that there is to ask now."""
        asking, session = ally.asking, ally.link.session
        if asking is None or session is None:
            return
        while (question := asking.next()) is not None:
            if self._hold_to(ally, question):
                txn = session.join(
                    question.stream, listen=question.incoming, talk=question.outgoing, source=ANY_SOURCE
                )
                asking.asked(txn, question)
            else:
                self._note_refused(ally, question.stream)
        ally.link.flush()

    def _hold_to(self, ally: Ally, question: Question) -> bool:
        """Let pass on our side what is about to be asked for, and no more; whether that can be."""
        try:
            self._registry.join(
                ally.subscriber, question.stream, stream_key(question.stream),
                listen=question.outgoing, talk=question.incoming, source=ANY,
            )  # fmt: skip
        except (KeyCollision, TooManyStreams) as error:
            if ally.asking is not None:
                ally.asking.impossible(question, str(error))
            return False
        return True

    def _error_received(self, ally: Ally, error: ErrorMessage) -> None:
        txn, asking = error.txn, ally.asking
        if not isinstance(txn, int) or asking is None:
            if self._news(ally, "error", known_code(error.code)):
                self._log.warn(
                    "federation '{federation}': {peer} says {code}: {text}",
                    federation=ally.treaty.name, peer=ally.peer_id, code=error.code, text=error.message,
                )  # fmt: skip
            return
        question = asking.denied(txn, error.code, error.message)
        if question is None:
            self._ask(ally)  # the same stream in another way, it may be
            return
        self._registry.leave(ally.subscriber, stream_key(question.stream))
        self._note_refused(ally, question.stream)

    def _note_refused(self, ally: Ally, stream: str) -> None:
        """Log what they do not grant, or we cannot, once."""
        refusal = None if ally.asking is None else ally.asking.refused.get(stream)
        if refusal is not None and self._news(ally, stream):
            self._log.warn(
                "federation '{federation}': with {peer} the stream {refusal}",
                federation=ally.treaty.name, peer=ally.peer_id, refusal=refusal,
            )  # fmt: skip

    def _news(self, ally: Ally, *what: Hashable) -> bool:
        """Whether this is to be logged, and has not been lately."""
        return self._told.passes((ally.id, *what), self._clock.seconds()) is not None

    def _waiting(self, id: UUID) -> AllyRow:
        treaty, call = self._treaties[id], self.out.call(id)
        address = treaty.peers[id].address
        calling = call is not None and call.calling
        why = "" if call is None else call.why
        if address is None and not why:
            why = "it is to call us: no address is configured"
        return AllyRow(
            federation=treaty.name, id=id, name="", address="" if address is None else str(address),
            state="connecting" if calling else "waiting", inbound=False,
            failures=0 if call is None else call.failures, since_s=0.0, round_trip_s=None,
            incoming=(), outgoing=(), refused=(),
            received=0, sent=0, received_bytes=0, sent_bytes=0, dropped=0, queue=0, why=why,
        )  # fmt: skip


def _linked(ally: Ally, now: float) -> AllyRow:
    link, session, identity = ally.link, ally.link.session, ally.peer.identity
    return AllyRow(
        federation=ally.treaty.name, id=identity.id, name=ally.name or identity.name, address=ally.address,
        state="linked", inbound=ally.inbound, failures=0, since_s=now - ally.since,
        round_trip_s=None if session is None else session.vigil.round_trip_s,
        incoming=tuple(ally.incoming), outgoing=tuple(ally.outgoing),
        refused=() if ally.asking is None else tuple(ally.asking.refused.values()),
        received=link.received_frames, sent=link.sent_frames,
        received_bytes=link.received_bytes, sent_bytes=link.sent_bytes, dropped=ally.subscriber.dropped,
        queue=0 if session is None else len(session.outbox), why="",
    )  # fmt: skip


def _media_of(ally: Ally) -> dict[str, int]:
    link = ally.link
    return {
        "received": link.received_frames,
        "sent": link.sent_frames,
        "received_bytes": link.received_bytes,
        "sent_bytes": link.sent_bytes,
    }


def _most_patience(treaty: Treaty) -> float:
    return LEAST_PATIENCE + PATIENCE_PER_STREAM * len(treaty.shared)


def treaties_of(settings: Sequence[FederationSettings], trust: Trust, own: UUID) -> tuple[Treaty, ...]:
    """The federations of the configuration, with the authorities that ``trust`` has read for them.

    Raises :class:`~ice.errors.LocalError` where one lists our own UUID: we would be two to everybody who knows both.
    """
    foreign = {each.name: each for each in trust.foreign}
    treaties = []
    for each in settings:
        peers = {ally.id: Expected(ally.id, ally.address) for ally in each.rallypoints}
        if own in peers:
            raise LocalError(
                f"the federation '{each.name}' lists {own}, which is this Rallypoint's own UUID: list the other organisation's Rallypoints"
            )
        ways = frozenset(each.incoming), frozenset(each.outgoing)
        treaties.append(Treaty(foreign[each.name], peers, *ways, each.packets_per_s, each.bytes_per_s))
    return tuple(treaties)
