"""The reactor's loop, shortened for links: a readable link is read, and nothing else is done about it.

For each event, Twisted's epoll reactor sets up a logging context, asks the descriptor for its name and its number, and looks at four
flags.  That is as dear as half of what a packet needs of Python here.  :func:`shorten` puts a loop in its place that calls
``doRead`` of our own descriptors (:mod:`ice.net.tls`) directly and hands every other event to Twisted as before.

What it touches of Twisted is private: it is looked at when it is put in place, and where anything is not as expected, Twisted's
own loop stays.  The environment variable :data:`SWITCH` set to ``twisted`` keeps it too.
"""

import os
from collections.abc import Callable
from errno import EINTR
from select import EPOLLIN
from typing import Any

from twisted.internet import main
from twisted.logger import Logger
from twisted.python import log

#: Set to ``twisted`` to keep Twisted's own loop, e.g. to compare.
SWITCH = "ICE_POLL"

_log = Logger()


def shorten(reactor: Any, kinds: tuple[type, ...]) -> bool:
    """Read descriptors of these ``kinds`` directly in ``reactor``'s loop; whether that could be done."""
    if os.environ.get(SWITCH, "") == "twisted":
        return False
    try:
        from twisted.internet.epollreactor import EPollReactor
    except ImportError:  # no epoll on this system
        return False
    if type(reactor) is not EPollReactor or reactor.doIteration != reactor.doPoll:
        return False
    try:
        poll, selectables = reactor._poller.poll, reactor._selectables
        otherwise, disconnect = reactor._doReadOrWrite, reactor._disconnectSelectable
    except AttributeError:
        return False
    if not isinstance(selectables, dict) or not callable(poll):
        return False
    loop: Any = reactor
    loop.doIteration = _loop(poll, selectables, otherwise, disconnect, frozenset(kinds))
    return True


def _loop(
    poll: Callable[..., list[tuple[int, int]]],
    selectables: dict[int, Any],
    otherwise: Callable[..., Any],
    disconnect: Callable[..., Any],
    kinds: frozenset[type],
) -> Callable[[float | None], None]:
    """One turn: wait for events, and let whoever they are for act on them."""

    def turn(timeout: float | None) -> None:
        try:
            events = poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == EINTR:
                return
            raise
        for number, event in events:
            selectable = selectables.get(number)
            if selectable is None:  # an event before it has closed this one
                continue
            if event != EPOLLIN or type(selectable) not in kinds:
                log.callWithLogger(selectable, otherwise, selectable, number, event)
                continue
            try:
                end = selectable.doRead()
            except Exception:
                _log.failure("reading failed")
                end = main.CONNECTION_LOST
            if end:
                disconnect(selectable, end, True)

    return turn
