"""The control of a daemon (:mod:`ice.observe.control`) on a Unix socket: a request a line, an answer a line, as many as one likes on a connection, one after another.

**Who may.** The file's permissions say it: 0600, or 0660 where a group is named. Who has asked tells the kernel (SO_PEERCRED, unix(7)), and the audit log keeps it.

**Bounds.** :data:`MAX_CONNECTIONS` at once, :data:`IDLE_S` without a word; who does not read what he is answered is not heard until he does. The rest is the control's.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin

from ice.errors import LocalError
from ice.observe.control import Answer, Asked, Asker, Control, Malformed, Overlong, encoded
from ice.security.files import make_folder

MAX_CONNECTIONS: Final = (
    8  # people at one machine, and a script or two; each may bring as much as a command takes
)
IDLE_S: Final = 30.0
PRIVATE: Final = 0o600
SHARED: Final = 0o660
_UCRED: Final = struct.Struct("3i")  # SO_PEERCRED: pid, uid, gid (unix(7))


class SocketProtocol(LineReceiver, TimeoutMixin):
    """One who asks."""

    delimiter = b"\n"
    transport: Any

    def __init__(self, control: Control, left: Callable[[SocketProtocol], None]) -> None:
        self.MAX_LENGTH = control.max_line
        self._control = control
        self._left = left
        self._asker = Asker("somebody")
        self._asked: Asked | None = None
        self._missing = 0
        self._attached: list[bytes] = []
        self._waits = False  # for the answer of a command that takes its time
        self._unread = False  # so much was said to it that the kernel takes no more
        self._gone = False

    def connectionMade(self) -> None:
        """See who it is."""
        self._asker = asker(self.transport)
        self.transport.registerProducer(self, True)
        self.setTimeout(IDLE_S)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Any = None) -> None:
        """It is gone."""
        self._gone = True
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self._left(self)

    def lineReceived(self, line: bytes) -> None:
        """A request."""
        self.resetTimeout()  # type: ignore[no-untyped-call]
        try:
            asked = self._control.read(line)
        except Malformed as error:
            self._say(self._control.refuse(error))
            if isinstance(error, Overlong):
                self._leave()
            return
        if asked.attached:
            self._asked, self._missing, self._attached = asked, asked.attached, []
            self.setRawMode()  # type: ignore[no-untyped-call]
        else:
            self._perform(asked)

    def rawDataReceived(self, data: bytes) -> None:
        """What follows a line."""
        self.resetTimeout()  # type: ignore[no-untyped-call]
        take, rest = data[: self._missing], data[self._missing :]
        self._attached.append(take)
        self._missing -= len(take)
        if not self._missing:
            asked, self._asked = self._asked, None
            attached, self._attached = b"".join(self._attached), []
            assert asked is not None
            self._perform(asked, attached)
            self.setLineMode(rest)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        """More than any request has."""
        self._say(self._control.refuse(self._control.too_long()))
        self._leave()

    def timeoutConnection(self) -> None:
        """It said nothing for long, or did not read what it was told."""
        self._control.turned_away["idle"] += 1
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """It does not read what it is told: what it asks meanwhile waits with it."""
        self._unread = True
        super().pauseProducing()  # type: ignore[no-untyped-call]

    def resumeProducing(self) -> None:
        """It has read all."""
        self._unread = False
        self._go_on()

    def _perform(self, asked: Asked, attached: bytes = b"") -> None:
        answer = self._control.perform(asked, self._asker, attached)
        if not isinstance(answer, Deferred):
            self._say(answer)
        elif answer.called:
            answer.addCallback(self._say)
        else:
            # One after another: whoever asks before he has his answer waits, and the idle clock with him.
            self._waits = True
            super().pauseProducing()  # type: ignore[no-untyped-call]
            self.setTimeout(None)  # type: ignore[no-untyped-call]
            answer.addCallback(self._later)

    def _later(self, answer: Answer) -> None:
        self._waits = False
        self._say(answer)
        if not self._gone:
            self.setTimeout(IDLE_S)  # type: ignore[no-untyped-call]
            self._go_on()

    def _go_on(self) -> None:
        if not (self._waits or self._unread):
            super().resumeProducing()  # type: ignore[no-untyped-call]

    def _leave(self) -> None:
        """Go when what was said is read."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _say(self, answer: Answer) -> None:
        if not self._gone:
            self.transport.write(encoded(answer))


class SocketService(Service, Factory):
    """Listens at ``path``, mode 0600; 0660 for the Unix ``group``. ``section`` names the settings in messages. Raises :class:`LocalError` at the start where it cannot."""

    noisy = False

    def logPrefix(self) -> str:
        """What Twisted calls it in the log."""
        return "control socket"

    def __init__(
        self, reactor: Any, path: Path, control: Control, group: str = "", section: str = "control"
    ) -> None:
        self.path = path
        self._reactor = reactor
        self._control = control
        self._group = group
        self._section = section
        self._port: Any = None
        self._open: set[SocketProtocol] = set()

    def privilegedStartService(self) -> None:
        """Open the socket; one that a dead process has left is removed."""
        if self._port is not None:
            return
        group = self._number() if self._group else None
        make_folder(self.path.parent)
        self._clear()
        before = os.umask(0o777 & ~PRIVATE)
        try:
            self._port = self._reactor.listenUNIX(str(self.path), self, mode=PRIVATE)
            if group is not None:
                os.chown(self.path, -1, group)
                self.path.chmod(SHARED)
        except Exception as error:
            self._close()
            raise LocalError(self._trouble(error)) from None
        finally:
            os.umask(before)

    def startService(self) -> None:
        """Open the socket, if nobody has."""
        super().startService()  # type: ignore[no-untyped-call]
        self.privilegedStartService()

    def stopService(self) -> Deferred[None]:
        """Close the socket and every connection."""
        super().stopService()  # type: ignore[no-untyped-call]
        for each in list(self._open):
            each.transport.abortConnection()
        return self._close()

    def buildProtocol(self, addr: IAddress | None) -> SocketProtocol | None:
        """Somebody connects; None: there are enough."""
        if len(self._open) >= MAX_CONNECTIONS:
            self._control.full()
            return None
        protocol = SocketProtocol(self._control, self._open.discard)
        self._open.add(protocol)
        return protocol

    def _close(self) -> Deferred[None]:
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        done: Deferred[Any] = maybeDeferred(port.stopListening)
        return done.addBoth(lambda _: None)

    def _number(self) -> int:
        try:
            return grp.getgrnam(self._group).gr_gid
        except KeyError:
            raise LocalError(
                f"there is no group {self._group!r} on this machine ({self._section}.group)"
            ) from None

    def _trouble(self, error: Exception) -> str:
        if isinstance(error, PermissionError) and self._group:
            return (
                f"{self.path}: the socket cannot be given to the group {self._group!r}: this process is no member of it; add its user to the group "
                f"(SupplementaryGroups= in the unit), or leave {self._section}.group empty"
            )
        return f"{self.path}: no control socket can be opened there: {error} ({self._section}.socket)"

    def _clear(self) -> None:
        """Remove a socket that nobody listens on. Raises :class:`LocalError` where somebody does, and for what is no socket."""
        path, setting = self.path, f"{self._section}.socket"
        if not os.path.lexists(path):
            return
        if not path.is_socket():
            raise LocalError(
                f"{path}: expected nothing or a socket, but there is a file of this name ({setting})"
            )
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(path))
            except OSError as error:
                if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                    raise LocalError(f"{path}: {error.strerror or error} ({setting})") from None
            else:
                raise LocalError(
                    f"{path}: another daemon listens there; stop it, or give one another {setting}"
                )
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def asker(transport: Any) -> Asker:
    """Who is at the other end of a Unix socket: a user's name, or number, and what the kernel knows."""
    try:
        data = transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except (AttributeError, OSError):
        return Asker("somebody", {"via": "unix"})
    pid, uid, gid = _UCRED.unpack(data)
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    return Asker(name, {"via": "unix", "pid": pid, "uid": uid, "gid": gid})


def socket_path(given: Path | None, name: str, environ: Mapping[str, str], folder: Path) -> Path:
    """Where a daemon listens: as configured, else ``name`` in the runtime folder that systemd has made for it, else in its state ``folder``."""
    if given is not None:
        return given
    runtime = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return (Path(runtime) if runtime else folder) / name
