"""Who is on which stream: the Rallypoint's memory, arranged for the reader that asks once per packet.

A :class:`Stream` keeps a fan, its recipients made ready (:mod:`ice.link.fan`). It is thrown away when somebody joins, leaves or changes
what it wants, which is rare, and made anew for the next packet only. A stream exists while it has members; when the last one leaves it is
forgotten with everything that was known of it.

**Windows.** Each stream remembers, per source, which sequence numbers have passed (:mod:`ice.link.window`). Sources are
named by the far side, so their number is bounded where it can do no harm to others: each window is charged to the
*account* of the identity whose link brought it first, and an account that is full gives up its own oldest window. Windows
that nobody asked for an hour are forgotten by :meth:`Registry.sweep`, a little at each call.
"""

from collections.abc import Callable, Hashable, Iterator, Set
from typing import Protocol

from ice.errors import RemoteError
from ice.link.fan import Fan, Recipient
from ice.link.message import Code
from ice.link.naming import PREFIX_SHIFT
from ice.link.window import MARK_LIFE_S, Window
from ice.rallypoint.routes import Account as RouteAccount

#: Windows of one ordinary identity: 8 links that joined 256 streams each, halved; beyond it the oldest go.
MAX_WINDOWS = 1_024
#: Windows of one satellite, which carries others' sources: about 20 MB at worst.
MAX_SATELLITE_WINDOWS = 65_536
SWEEP_EVERY_S = 60.0  # a window lives for an hour; a minute more or less is nothing
SWEEP_AT_ONCE = 256  # windows looked at in one turn: some 50 µs

NOTHING_TOLD: Set[tuple[Code, int]] = frozenset()  # of nearly every link

UNDECLARED = -1  # a source is a u64, so this is none
ANY = -2


class KeyCollision(RemoteError):
    """Two stream ids with the same 8 bytes of SHA-256: the second is refused."""

    code = Code.KEY_COLLISION


class Abroad(Protocol):
    """The other Rallypoints, who must know what is listened to here."""

    def listened(self, key: int, stream_id: str) -> None:
        """One listener more; raises an :class:`~ice.errors.IceError` where that cannot be."""

    def unlistened(self, key: int) -> None:
        """One listener less."""

    def forgotten(self, identity: Hashable) -> None:
        """Nothing is left of an identity."""


class Account:
    """The windows that one identity is charged for, oldest first."""

    __slots__ = ("abroad", "bound", "identity", "links", "windows")

    def __init__(self, identity: Hashable, bound: int) -> None:
        self.identity = identity
        self.bound = bound
        self.windows: dict[tuple[int, int], None] = {}
        #: Room for the account of the same identity in the mesh.
        self.abroad: RouteAccount | None = None
        #: Subscribers of this identity; an account without any, and without windows, is forgotten.
        self.links = 0


class Subscriber:
    """What the relay must know of one link; ``recipient`` is the link itself.

    ``packets_left`` and ``bytes_left`` are the allowance of now, refilled by :meth:`refill`; more is in
    :mod:`ice.rallypoint.relay`.
    """

    __slots__ = (
        "_bytes_at",
        "_packets_at",
        "account",
        "bytes_burst",
        "bytes_left",
        "bytes_per_s",
        "dropped",
        "gone",
        "limit_told_at",
        "memberships",
        "packets_burst",
        "packets_left",
        "packets_per_s",
        "prefix",
        "recipient",
        "satellite",
        "talks",
        "told",
    )

    def __init__(self, recipient: Recipient, *, prefix: int, satellite: bool, account: Account) -> None:
        """``prefix``: the upper 32 bits that a source of this identity has."""
        self.recipient = recipient
        self.prefix = prefix
        self.satellite = satellite
        self.account = account
        #: Streams joined, by key; and those of them where it may talk.
        self.memberships: dict[int, Membership] = {}
        self.talks: dict[int, Membership] = {}
        #: Frames of this link that were dropped through a fault of its own.
        self.dropped = 0
        self.gone = False
        #: Errors answered already, by code and stream key.
        self.told: Set[tuple[Code, int]] = NOTHING_TOLD
        self.limit_told_at = float("-inf")
        self.packets_per_s = self.bytes_per_s = 1
        self.packets_burst = self.bytes_burst = 0
        self.packets_left = self.bytes_left = 0
        self._packets_at = self._bytes_at = 0.0

    def allow(self, packets_per_s: int, bytes_per_s: int, largest_frame: int, now: float) -> None:
        """Set the rate of this link; one second's worth may come at once."""
        self.packets_per_s, self.bytes_per_s = packets_per_s, bytes_per_s
        self.packets_burst = self.packets_left = packets_per_s
        self.bytes_burst = self.bytes_left = max(bytes_per_s, largest_frame)
        self._packets_at = self._bytes_at = now

    @property
    def spent(self) -> bool:
        """Whether anything was sent that has not been refilled."""
        return self.packets_left < self.packets_burst or self.bytes_left < self.bytes_burst

    def refill(self, now: float) -> None:
        """Give back what time has earned, in whole packets and bytes; what is less waits for the next call."""
        self.packets_left, self._packets_at = _earned(
            self.packets_left, self.packets_burst, self.packets_per_s, self._packets_at, now
        )
        self.bytes_left, self._bytes_at = _earned(
            self.bytes_left, self.bytes_burst, self.bytes_per_s, self._bytes_at, now
        )


def _earned(left: int, burst: int, per_s: int, since: float, now: float) -> tuple[int, float]:
    earned = int((now - since) * per_s)
    if earned <= 0:
        return left, since
    if left + earned >= burst:
        return burst, now
    return left + earned, since + earned / per_s


class Membership:
    """One link on one stream.  ``source`` is what it declared, :data:`UNDECLARED` or :data:`ANY`."""

    __slots__ = ("listen", "packets", "source", "stream", "subscriber", "talk")

    def __init__(self, subscriber: Subscriber, stream: "Stream") -> None:
        self.subscriber = subscriber
        self.stream = stream
        self.listen = False
        self.talk = False
        self.source = UNDECLARED
        self.packets = 0


class Stream:
    """One stream: its members, and what the relay reads once per packet."""

    __slots__ = (
        "bytes",
        "charged",
        "copied_bytes",
        "copies",
        "echo",
        "fan",
        "id",
        "key",
        "members",
        "packets",
        "windows",
    )

    def __init__(self, id: str, key: int) -> None:
        self.id = id
        self.key = key
        self.members: dict[Subscriber, Membership] = {}
        #: Everyone who listens, made ready; None after a change, until a packet needs it.
        self.fan: Fan | None = None
        #: Windows by source.
        self.windows: dict[int, Window] = {}
        #: Whose account a window is on, by source.
        self.charged: dict[int, Account] = {}
        #: Set on the parrot's stream: takes the frames instead of the recipients.
        self.echo: Callable[[Subscriber, bytes, float], None] | None = None
        #: Frames that passed and their bytes, as MEDIA; copies of them handed to our listeners.
        self.packets = self.bytes = 0
        self.copies = self.copied_bytes = 0

    @property
    def listeners(self) -> int:
        """Members that listen."""
        return sum(member.listen for member in self.members.values())

    @property
    def talkers(self) -> int:
        """Members that may talk."""
        return sum(member.talk for member in self.members.values())

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Everyone who listens, in the order they came, the talker included where it does."""
        return tuple(member.subscriber.recipient for member in self.members.values() if member.listen)


class Registry:
    """Every stream, subscriber and account of one Rallypoint."""

    def __init__(self) -> None:
        #: Streams that have members, by key.
        self.streams: dict[int, Stream] = {}
        #: Told of listeners; None where there are no other Rallypoints.
        self.abroad: Abroad | None = None
        self.windows = 0
        self.windows_evicted = 0
        self.windows_expired = 0
        self._accounts: dict[Hashable, Account] = {}
        self._echoes: dict[int, Callable[[Subscriber, bytes, float], None]] = {}
        self._sweeping: Iterator[tuple[Stream, int]] | None = None
        self._swept_at = float("-inf")

    def subscribe(
        self, recipient: Recipient, *, identity: Hashable, prefix: int, satellite: bool = False
    ) -> Subscriber:
        """A new link of ``identity``, on no stream yet."""
        account = self.account(identity, MAX_SATELLITE_WINDOWS if satellite else MAX_WINDOWS)
        return Subscriber(recipient, prefix=prefix, satellite=satellite, account=account)

    def account(self, identity: Hashable, bound: int) -> Account:
        """The account of an identity, for one link more; :meth:`close` it when that is gone."""
        account = self._accounts.get(identity)
        if account is None:
            account = self._accounts[identity] = Account(identity, bound)
        account.links += 1
        return account

    def close(self, account: Account) -> None:
        """One link less on an account."""
        account.links -= 1
        self._settle(account)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """The link is gone: it leaves every stream.  Calling twice is harmless."""
        for key in list(subscriber.memberships):
            self.leave(subscriber, key)
        if not subscriber.gone:
            subscriber.gone = True
            self.close(subscriber.account)

    def check(self, stream_id: str, key: int) -> None:
        """Raises :class:`KeyCollision` when another stream id has this key."""
        stream = self.streams.get(key)
        if stream is not None and stream.id != stream_id:
            raise KeyCollision(
                f"'{stream_id}' has the same key as another stream that is in use; choose another name"
            )

    def join(
        self,
        subscriber: Subscriber,
        stream_id: str,
        key: int,
        *,
        listen: bool = True,
        talk: bool = True,
        source: int | None = None,
    ) -> Membership:
        """Put ``subscriber`` on a stream, or change what it does there; raises what :meth:`Abroad.listened` raises, and then nothing has changed.

        ``source``: a u64, :data:`ANY`, or None to keep what was declared before.  Raises :class:`KeyCollision`.
        """
        self.check(stream_id, key)
        known = subscriber.memberships.get(key)
        if self.abroad is not None and key not in self._echoes:
            listened = known is not None and known.listen
            if listen and not listened:
                self.abroad.listened(key, stream_id)
            elif listened and not listen:
                self.abroad.unlistened(key)
        stream = self.streams.get(key)
        if stream is None:
            stream = self.streams[key] = Stream(stream_id, key)
            stream.echo = self._echoes.get(key)
        membership = known
        if membership is None:
            membership = stream.members[subscriber] = Membership(subscriber, stream)
            subscriber.memberships[key] = membership
        if source is not None:
            membership.source = source
        membership.talk = talk
        if talk:
            subscriber.talks[key] = membership
        else:
            subscriber.talks.pop(key, None)
        if membership.listen != listen:
            membership.listen = listen
            stream.fan = None
        if subscriber.told:
            subscriber.told = {told for told in subscriber.told if told[1] != key}
        return membership

    def leave(self, subscriber: Subscriber, key: int) -> bool:
        """Take ``subscriber`` off a stream; whether it was on it."""
        membership = subscriber.memberships.pop(key, None)
        if membership is None:
            return False
        subscriber.talks.pop(key, None)
        stream = membership.stream
        del stream.members[subscriber]
        if membership.listen and self.abroad is not None and stream.echo is None:
            self.abroad.unlistened(key)
        if not stream.members:
            self._forget(stream)
        elif membership.listen:
            stream.fan = None
        return True

    def listened(self) -> Iterator[tuple[int, str]]:
        """Key and id of each stream, once per listener; streams that echo are nobody else's concern."""
        for stream in list(self.streams.values()):
            if stream.echo is None:
                for _ in range(stream.listeners):
                    yield stream.key, stream.id

    def echo(self, key: int, echo: Callable[[Subscriber, bytes, float], None]) -> None:
        """Frames of the stream with ``key`` go to ``echo`` instead of to its listeners."""
        self._echoes[key] = echo

    def window(self, stream: Stream, source: int, account: Account) -> Window:
        """A new window for ``source``, on the account of whoever brought it."""
        if len(account.windows) >= account.bound:
            key, oldest = next(iter(account.windows))
            self.windows_evicted += 1
            self._drop_window(self.streams[key], oldest)
        window = stream.windows[source] = Window()
        stream.charged[source] = account
        account.windows[(stream.key, source)] = None
        self.windows += 1
        return window

    def sweep(self, now: float, at_once: int = SWEEP_AT_ONCE) -> None:
        """Forget windows that were not asked for an hour; looks at ``at_once`` of them at most."""
        if self._sweeping is None:
            if now - self._swept_at < SWEEP_EVERY_S:
                return
            self._swept_at = now
            self._sweeping = self._every_window()
        for _ in range(at_once):
            found = next(self._sweeping, None)
            if found is None:
                self._sweeping = None
                return
            stream, source = found
            window = stream.windows.get(source)
            if window is not None and now - window.asked_at > MARK_LIFE_S:
                self.windows_expired += 1
                self._drop_window(stream, source)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _every_window(self) -> Iterator[tuple[Stream, int]]:
        for stream in list(self.streams.values()):
            for source in list(stream.windows):
                yield stream, source

    def _drop_window(self, stream: Stream, source: int) -> None:
        del stream.windows[source]
        account = stream.charged.pop(source)
        del account.windows[(stream.key, source)]
        self.windows -= 1
        self._settle(account)

    def _forget(self, stream: Stream) -> None:
        for source in list(stream.windows):
            self._drop_window(stream, source)
        del self.streams[stream.key]

    def _settle(self, account: Account) -> None:
        if account.links == 0 and not account.windows:
            self._accounts.pop(account.identity, None)
            if self.abroad is not None:
                self.abroad.forgotten(account.identity)


def prefix_of(source: int) -> int:
    """The upper 32 bits of a source, which say whose it is."""
    return source >> PREFIX_SHIFT
