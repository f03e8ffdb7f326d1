"""One packet to a thousand links in one call: OpenSSL's functions called from C where the extension was built.

A *lane* is what C must know of one link: its TLS object, whether media may be written directly, and counters. The Python
side opens and shuts it (:attr:`ice.link.outbox.Outbox.gate`); C only reads it, writes the frame, and names the lanes
that are shut or did not take everything. Those get the frame by the ordinary way, which knows what to do.

The addresses of ``SSL_write`` and the rest, and the pointer inside a pyOpenSSL connection, are private to cryptography and
pyOpenSSL. They are probed on a real TLS object when this module is first asked; whatever is not as expected means that the
pure Python twin (:mod:`ice.link.fan`) does the work, and :func:`in_use` says why.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import attrs
from OpenSSL import SSL

from ice.link.fan import FanMaker, PythonFan, Recipient

#: Set to ``python`` to do without the compiled half although it was built, e.g. to compare.
SWITCH = "ICE_FANOUT"
RECORD = 16_384  # plaintext of one TLS record (RFC 8446 §5.1): more is not written at once, and never half of something
WANT_READ = 2  # SSL_ERROR_WANT_READ
NOTHING = 0  # no error: the room was full, and there may be more
_TOTAL_BITS = 20  # of what ice_drain gives; the error is above them
_TOTAL = (1 << _TOTAL_BITS) - 1


@attrs.frozen
class Compiled:
    """The extension, told whose OpenSSL to use."""

    ffi: Any
    lib: Any
    #: What was read last, as long as nothing else is read.
    room: Any
    _write: Any
    _drain: Any

    def ssl(self, connection: SSL.Connection) -> Any:
        """The address of the TLS object inside ``connection``, which must be kept alive as long as it is used."""
        foreign = import_module("cryptography.hazmat.bindings._rust")._openssl.ffi
        return self.ffi.cast("void *", int(foreign.cast("uintptr_t", connection._ssl)))

    def write(self, ssl: Any, data: bytes) -> bool:
        """Whether OpenSSL took all of ``data``, at most :data:`RECORD` bytes, at once; else offer it again by the ordinary way, which knows why not."""
        return bool(self._write(ssl, data, len(data)))

    def drain(self, ssl: Any) -> tuple[bytes, int]:
        """All that can be read now, at most 64 KiB, and SSL_get_error of the last read (0: there may be more)."""
        found = self._drain(ssl)
        return self.room[: found & _TOTAL], found >> _TOTAL_BITS


@cache
def _probe() -> Compiled | str:
    """The compiled half, or why it is not used."""
    if os.environ.get(SWITCH, "") == "python":
        return f"switched off by {SWITCH}=python"
    try:
        ours = import_module("ice.net._fanout")
    except ImportError:
        return "it was not built (no C compiler when ice was installed)"
    try:
        theirs = import_module("cryptography.hazmat.bindings._rust")._openssl

        def address(name: str) -> Any:
            pointer = theirs.ffi.addressof(theirs.lib, name)
            return ours.ffi.cast("void *", int(theirs.ffi.cast("uintptr_t", pointer)))

        ours.lib.ice_use(*map(address, ("SSL_write", "SSL_read", "SSL_get_error", "ERR_clear_error")))
        compiled = Compiled(
            ours.ffi, ours.lib, ours.ffi.buffer(ours.lib.ice_room), ours.lib.ice_write, ours.lib.ice_drain
        )
        sample = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        sample.set_connect_state()
        data, why = compiled.drain(compiled.ssl(sample))
        if data or why != WANT_READ or not sample.bio_read(5).startswith(b"\x16\x03"):
            return f"a TLS object did not answer as expected ({why})"
    except Exception as error:
        return f"this pyOpenSSL or cryptography is not known: {error!r}"
    return compiled


def compiled() -> Compiled | None:
    """The compiled half where it can be used."""
    found = _probe()
    return found if isinstance(found, Compiled) else None


def in_use() -> str:
    """``compiled``, or ``python: `` and why."""
    found = _probe()
    return "compiled" if isinstance(found, Compiled) else f"python: {found}"


class Lane:
    """One link, as C sees it.  The gate of its outbox."""

    __slots__ = ("_connection", "struct")

    def __init__(self, with_: Compiled, connection: SSL.Connection) -> None:
        self._connection = connection  # keeps the TLS object alive while C may use it
        self.struct = with_.ffi.new("ice_lane *", {"ssl": with_.ssl(connection)})

    @property
    def open(self) -> bool:
        """Whether C may write media directly."""
        return bool(self.struct.open)

    @open.setter
    def open(self, value: bool) -> None:
        self.struct.open = value

    def close(self) -> None:
        """The connection is gone, and its descriptor may soon be somebody else's: never write again."""
        self.struct.open = 0
        self.struct.ssl = compiled().ffi.NULL  # type: ignore[union-attr]

    @property
    def carried(self) -> bool:
        """Whether media was written since :meth:`take_carried`."""
        return bool(self.struct.carried)

    def take_carried(self) -> bool:
        """Whether media was written since this was last asked."""
        if self.struct.carried:
            self.struct.carried = 0
            return True
        return False

    @property
    def frames(self) -> int:
        """Frames written by C."""
        return int(self.struct.frames)

    @property
    def bytes(self) -> int:
        """Bytes of those frames."""
        return int(self.struct.bytes)


class CompiledFan:
    """The recipients of one stream, ready for C; a :class:`~ice.link.fan.Fan`."""

    __slots__ = (
        "_fan",
        "_kept",
        "_laned",
        "_late",
        "_null",
        "_to",
        "recipients",
    )

    def __init__(
        self, recipients: Sequence[Recipient], failed: Callable[[Recipient, Exception], None], with_: Compiled
    ) -> None:
        self.recipients = tuple(recipients)
        self._laned: tuple[Any, ...] = tuple(
            each for each in self.recipients if getattr(each, "lane", None) is not None
        )
        #: Whoever has no lane (the parrot, a reflector, a link over another transport) takes the ordinary way.
        others = tuple(each for each in self.recipients if getattr(each, "lane", None) is None)
        self._late = PythonFan(others, failed)
        count = len(self._laned)
        lanes = with_.ffi.new("ice_lane *[]", [each.lane.struct for each in self._laned])
        behind = with_.ffi.new("int[]", max(1, count))
        self._kept = (lanes, behind)  # as long as the struct below points to them
        self._to = with_.ffi.new("ice_recipients *", {"lanes": lanes, "count": count, "behind": behind})
        self._fan = with_.lib.ice_fan
        self._null = with_.ffi.NULL

    def send(self, frame: bytes, sender: Recipient) -> None:
        """Hand ``frame`` to everyone but ``sender``."""
        if len(frame) > RECORD:
            PythonFan(self.recipients, self._late.failed).send(frame, sender)
            return
        lane = getattr(sender, "lane", None)
        late = self._fan(self._to, self._null if lane is None else lane.struct, frame, len(frame))
        if late:
            behind, laned = self._to.behind, self._laned
            PythonFan([laned[behind[at]] for at in range(late)], self._late.failed).send(frame, sender)
        if self._late.recipients:
            self._late.send(frame, sender)


def fan_maker() -> FanMaker:
    """What makes fans: compiled where that can be, else Python."""
    found = compiled()
    if found is None:
        return PythonFan
    return lambda recipients, failed: CompiledFan(recipients, failed, found)
