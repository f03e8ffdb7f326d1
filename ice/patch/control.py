"""The local control of a patch server: a Unix socket on which one asks in lines of JSON, for ``ice patch`` and for scripts.

A request is one line, an object whose key ``do`` says what is wanted; the answer is one line. A connection may ask any number of times, one after another::

    {"do":"list"}                                                     {"ok":true,"patches":[{…,"revision":3,"state":1}]}
    {"do":"status"}                                                   {"ok":true,"status":{…}}
    {"do":"create","patch":{"id":"ns","streams":["north","south"]}}   {"ok":true}
    {"do":"change","id":"ns","patch":{…},"if_revision":3}             {"ok":false,"reason":"changed","error":"…"}
    {"do":"activate","id":"ns"}   deactivate, delete                  {"ok":true}
    {"do":"announce","id":"ns","bytes":96000,"alias":"Desk"}          followed by so many bytes of int16, little-endian, 48 kHz mono

``ok`` false comes with ``error``, a sentence, and where the original's bridge service has words for it with ``reason`` and ``code``. ``change`` takes the keys of a patch that are to be
other ones. ``announce`` has further ``digits``, ``priority``, ``emergency``, ``streams``.

**Who may.** The file's permissions say it: 0600, or 0660 where ``patch.operators`` names a group. Who has asked tells the kernel (SO_PEERCRED), and the audit log keeps it.

**Bounds.** :data:`MAX_LINE` bytes a line, :data:`MAX_CONNECTIONS` at once, :data:`IDLE_S` without a word; the sound of an announcement is bounded by its own length.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import json
import os
import pwd
import socket
import struct
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin

from ice.errors import IceError, LocalError
from ice.media.codecs import SAMPLE_RATE
from ice.patch.announcement import MAX_S, Announcement
from ice.patch.listing import Audit, patch_json
from ice.patch.parsing import MAX_REQUEST, read_patch
from ice.patch.plan import Member, Mode, Patch, PatchRefused
from ice.patch.report import ERROR, NONE
from ice.patch.service import PatchServer
from ice.security.files import make_folder

MAX_LINE: Final = MAX_REQUEST + 1_024  # a patch, and what stands around it
MAX_SOUND: Final = int(MAX_S * SAMPLE_RATE) * 2  # bytes
MAX_CONNECTIONS: Final = 8  # people at one machine, and a script or two; each may send a prompt of 29 MB
IDLE_S: Final = 30.0
SOCKET: Final = "patch.sock"
PRIVATE: Final = 0o600
SHARED: Final = 0o660
_UCRED: Final = struct.Struct("3i")  # SO_PEERCRED: pid, uid, gid (unix(7))
Tell = Callable[[], Mapping[str, Any]]


class Control:
    """What is asked for, done with ``server``; ``status`` tells how it is. No network here."""

    def __init__(self, server: PatchServer, status: Tell) -> None:
        self._server = server
        self._status = status
        self._ways: Mapping[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
            "list": self._list,
            "status": self._tell,
            "create": self._create,
            "change": self._change,
            "activate": partial(self._switch, "activate"),
            "deactivate": partial(self._switch, "deactivate"),
            "delete": partial(self._switch, "delete"),
        }

    def ask(self, request: dict[str, Any], by: str, sound: bytes = b"") -> dict[str, Any]:
        """The answer to a request of ``by``; ``sound`` belongs to an announcement."""
        do = request.get("do")
        try:
            if do == "announce":
                return self._announce(request, by, sound)
            way = self._ways.get(do) if isinstance(do, str) else None
            if way is None:
                return _no(f"do is one of {', '.join([*self._ways, 'announce'])}")
            return way(request, by)
        except PatchRefused as error:
            return _no(error.refusal.message, error.refusal.reason, error.refusal.reason.code)
        except IceError as error:
            return _no(str(error))

    # -- what can be asked ---------------------------------------------------------------------------------------------

    def _list(self, request: dict[str, Any], by: str) -> dict[str, Any]:
        server = self._server
        now = server.network.seconds()
        rows = []
        for id in sorted(server.listing.entries):
            entry = server.listing.entries[id]
            joint, refusal = server.joints.get(id), server.standing.get(id)
            row: dict[str, Any] = patch_json(entry.patch) | {
                "revision": entry.revision,
                "by": entry.by,
                "ms": entry.ms,
                "state": ERROR if refusal is not None else NONE,
            }
            if joint is not None:
                row["state"] = joint.engine.status(now).state
            if refusal is not None:
                row["why"] = refusal.message
            rows.append(row)
        return {"ok": True, "active": server.is_active, "patches": rows}

    def _tell(self, request: dict[str, Any], by: str) -> dict[str, Any]:
        return {"ok": True, "status": self._status()}

    def _create(self, request: dict[str, Any], by: str) -> dict[str, Any]:
        patch = read_patch(_json(request.get("patch")))
        return _done(self._server.change(lambda old, ms, facts: old.create(patch, by=by, ms=ms, facts=facts)))

    def _change(self, request: dict[str, Any], by: str) -> dict[str, Any]:
        id, revision, given = _id(request), _revision(request), request.get("patch")
        entry = self._server.listing.entries.get(id)
        if not isinstance(given, dict) or "id" in given:
            return _no("patch is an object with those keys of the patch that are to be others; its id stays")
        if entry is None:
            return _done(self._server.change(lambda old, ms, facts: old.change(id, by=by, ms=ms)))
        # Read as a whole patch, so that each value is held to the rules of one.
        whole = read_patch(_json(patch_json(entry.patch) | given))

        def values(patch: Patch) -> dict[str, Any]:
            found: dict[str, tuple[Member, ...] | str | Mode | bool] = {
                "name": patch.name,
                "streams": patch.streams,
                "mode": patch.mode,
                "enabled": patch.enabled,
            }
            return {key: value for key, value in found.items() if key in given}

        return _done(
            self._server.change(
                lambda old, ms, facts: old.change(
                    id, by=by, ms=ms, if_revision=revision, facts=facts, **values(whole)
                )
            )
        )

    def _switch(self, how: str, request: dict[str, Any], by: str) -> dict[str, Any]:
        id, revision = _id(request), _revision(request)
        if how == "activate":
            return _done(
                self._server.change(
                    lambda old, ms, facts: old.activate(id, by=by, ms=ms, if_revision=revision, facts=facts)
                )
            )
        return _done(
            self._server.change(
                lambda old, ms, facts: (old.deactivate if how == "deactivate" else old.delete)(
                    id, by=by, ms=ms, if_revision=revision
                )
            )
        )

    def _announce(self, request: dict[str, Any], by: str, sound: bytes) -> dict[str, Any]:
        id, streams = _id(request), request.get("streams", [])
        if not isinstance(streams, list) or any(not isinstance(each, str) for each in streams):
            return _no("streams is a list of stream ids")
        texts = {key: request.get(key, "") for key in ("digits", "alias")}
        priority, emergency = request.get("priority", 0), request.get("emergency", False)
        if any(not isinstance(each, str) for each in texts.values()) or not isinstance(emergency, bool):
            return _no("digits and alias are texts, emergency is true or false")
        if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= 255:
            return _no("priority is a whole number from 0 to 255")
        pcm = np.frombuffer(sound[: len(sound) // 2 * 2], "<i2").astype(np.int16)
        announcement = Announcement(pcm, texts["digits"], texts["alias"], priority, emergency, tuple(streams))
        self._server.announce(id, announcement)
        self._server.note_announcement(id, by, announcement)
        return {"ok": True, "seconds": round(len(pcm) / SAMPLE_RATE, 1)}


class ControlProtocol(LineReceiver, TimeoutMixin):
    """One who asks."""

    MAX_LENGTH = MAX_LINE
    delimiter = b"\n"
    transport: Any

    def __init__(self, control: Control, left: Callable[[ControlProtocol], None]) -> None:
        self._control = control
        self._left = left
        self._by = "somebody"
        self._request: dict[str, Any] = {}
        self._missing = 0
        self._sound: list[bytes] = []

    def connectionMade(self) -> None:
        """See who it is."""
        self._by = asker(self.transport)
        self.setTimeout(IDLE_S)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Any = None) -> None:
        """It is gone."""
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self._left(self)

    def lineReceived(self, line: bytes) -> None:
        """A request."""
        self.resetTimeout()  # type: ignore[no-untyped-call]
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            self._say(_no("a request is a line of JSON: an object with the key do", "no-json", -1))
            return
        size = request.get("bytes", 0) if request.get("do") == "announce" else 0
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_SOUND:
            self._say(_no(f"bytes is a whole number up to {MAX_SOUND}: an announcement lasts {MAX_S:g} s"))
            self.transport.loseConnection()  # what follows is sound, and nobody knows where it ends
            return
        if size:
            self._request, self._missing, self._sound = request, size, []
            self.setRawMode()  # type: ignore[no-untyped-call]
        else:
            self._say(self._control.ask(request, self._by))

    def rawDataReceived(self, data: bytes) -> None:
        """The sound of an announcement."""
        self.resetTimeout()  # type: ignore[no-untyped-call]
        take, rest = data[: self._missing], data[self._missing :]
        self._sound.append(take)
        self._missing -= len(take)
        if not self._missing:
            sound, self._sound = b"".join(self._sound), []
            self._say(self._control.ask(self._request, self._by, sound))
            self.setLineMode(rest)  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        """More than any request has."""
        self._say(_no(f"a request has at most {MAX_LINE} bytes", "no-json", -1))
        self.transport.loseConnection()

    def timeoutConnection(self) -> None:
        """It said nothing for long."""
        self.transport.loseConnection()

    def _say(self, answer: Mapping[str, Any]) -> None:
        self.transport.write(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


class ControlService(Service, Factory):
    """Listens at ``path``, mode 0600; 0660 for the group ``operators``. Raises :class:`LocalError` at the start where it cannot."""

    noisy = False

    def __init__(self, reactor: Any, path: Path, control: Control, operators: str = "") -> None:
        self.path = path
        self._reactor = reactor
        self._control = control
        self._operators = operators
        self._port: Any = None
        self._open: set[ControlProtocol] = set()

    def privilegedStartService(self) -> None:
        """Open the socket; one that a dead process has left is removed."""
        if self._port is not None:
            return
        group = _group(self._operators) if self._operators else None
        make_folder(self.path.parent)
        _clear(self.path)
        before = os.umask(0o777 & ~PRIVATE)
        try:
            self._port = self._reactor.listenUNIX(str(self.path), self, mode=PRIVATE)
            if group is not None:
                os.chown(self.path, -1, group)
                self.path.chmod(SHARED)
        except Exception as error:
            self._close()
            raise LocalError(
                f"{self.path}: no socket for ice patch can be opened there: {error} (patch.control, patch.operators)"
            ) from None
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

    def buildProtocol(self, addr: IAddress | None) -> ControlProtocol | None:
        """Somebody connects; None: there are enough."""
        if len(self._open) >= MAX_CONNECTIONS:
            return None
        protocol = ControlProtocol(self._control, self._open.discard)
        self._open.add(protocol)
        return protocol

    def _close(self) -> Deferred[None]:
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        done: Deferred[Any] = maybeDeferred(port.stopListening)
        return done.addBoth(lambda _: None)


def asker(transport: Any) -> str:
    """Who is at the other end of a Unix socket, for the audit log: a user's name, or number."""
    try:
        data = transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except (AttributeError, OSError):
        return "somebody"
    uid = _UCRED.unpack(data)[1]
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def socket_path(given: Path | None, environ: Mapping[str, str], folder: Path) -> Path:
    """Where the daemon listens: as configured, else the runtime folder that systemd has made for it, else its state ``folder``."""
    if given is not None:
        return given
    if runtime := environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(runtime) / SOCKET
    return folder / SOCKET


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises :class:`LocalError` where somebody does, and for what is no socket."""
    if not os.path.lexists(path):
        return
    if not path.is_socket():
        raise LocalError(
            f"{path}: expected nothing or a socket, but there is a file of this name (patch.control)"
        )
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise LocalError(f"{path}: {error.strerror or error} (patch.control)") from None
        else:
            raise LocalError(
                f"{path}: another patch server listens there; stop it, or give one another patch.control"
            )
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise LocalError(f"there is no group {name!r} on this machine (patch.operators)") from None


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _id(request: Mapping[str, Any]) -> str:
    id = request.get("id")
    if not isinstance(id, str):
        raise LocalError("id is a text: which patch is meant")
    return id


def _revision(request: Mapping[str, Any]) -> int | None:
    revision = request.get("if_revision")
    if revision is not None and (isinstance(revision, bool) or not isinstance(revision, int)):
        raise LocalError("if_revision is a whole number")
    return revision


def _done(audit: Audit) -> dict[str, Any]:
    refusal = audit.refusal
    if refusal is not None:
        return _no(refusal.message, refusal.reason, refusal.reason.code)
    return {"ok": True, "detail": list(audit.detail)}


def _no(error: str, reason: str = "", code: int | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {"ok": False, "error": error}
    if reason:
        answer["reason"] = str(reason)
    if code is not None:
        answer["code"] = code
    return answer
