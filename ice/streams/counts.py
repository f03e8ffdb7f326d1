"""What a network of streams counts: plain integers, read by whoever shows them."""

from collections import Counter

import attrs

from ice.link.message import Code
from ice.streams.roster import TERMINAL

_KNOWN = (
    frozenset(str(code) for code in Code)
    | {str(code) for code in TERMINAL}
    | {*("timeout", "refused", "unreachable", "no-such-host", "lost", "closed", "aborted", "address")}
    | {*("unspecific", "tls-error", "bad-key")}
)


def counted(code: str) -> str:
    """``code`` as the key of a counter; a word that only the far side knows is ``other``, so that it cannot fill our memory."""
    return code if code.removeprefix("told-") in _KNOWN else "other"


@attrs.define
class Counts:
    """Since the network was made.  Datagrams, unless said otherwise."""

    sent: int = 0  #: handed to a link, or to two
    sent_bytes: int = 0  #: their payloads
    copies: int = 0  #: handed to a second link as well
    without_path: int = 0  #: not sent: the stream was not joined just then
    too_large: int = 0  #: not sent: more payload than the Rallypoint takes
    circular: int = 0  #: not passed on: the stream had carried this datagram before
    received: int = 0  #: given to a receiver
    received_bytes: int = 0  #: their payloads
    own: int = 0  #: our own, heard on another way and ignored
    duplicates: int = 0  #: heard before: of two homes every datagram that both bring
    late: int = 0  #: behind the window of 1,024
    jumps: int = 0  #: too far ahead of the window, and not confirmed yet
    not_wanted: int = 0  #: for a stream that we do not listen to (any more)
    receiver_errors: int = 0  #: a receiver raised an exception
    dropped_full: int = 0  #: dropped in our queue: the Rallypoint did not keep up
    dropped_old: int = 0  #: dropped in our queue: it had waited too long
    connects: int = 0  #: links that were opened, WELCOME and all
    attempts: int = 0  #: dialled
    moves: int = 0  #: to a better Rallypoint, without a gap
    raced: int = 0  #: dialled because an earlier attempt was late
    same: int = 0  #: links that led to a Rallypoint where we were already
    failures: Counter[str] = attrs.field(factory=Counter)  #: connections that ended, by code
    refused_joins: Counter[str] = attrs.field(factory=Counter)  #: by code
    errors: Counter[str] = attrs.field(factory=Counter)  #: ERROR frames that answer no JOIN, by code
