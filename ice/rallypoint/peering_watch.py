"""The peering list as it is now: a file that is looked at every second, or a command that is run now and then.

**A file** is read whole and compared by its digest, never by its time stamp, whose tick two changes may share. Who does not replace
a file at once but writes into it leaves half a file for a moment, or none: what is wrong is therefore believed when it is
still so a second later. The file is read within the reactor's turn, since it is small and on a disk; anything but a plain
file (a pipe would block) is refused unread.

**A command** is run as it stands, without a shell, with no input, and has :data:`COMMAND_S` seconds for
:data:`MAX_BYTES` bytes. It is killed when it takes longer or prints more, and is never run twice at once.

Whatever is wrong, now or for ever, the last good list stays in force: a file that vanishes ends no link. It is said once, and once more
after each :meth:`PeeringWatch.reread`; so is that it is well again.
"""

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, fail
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ice.config.groups import MeshSettings
from ice.net.clock import Clock
from ice.rallypoint.peering import MAX_TEXT, PeeringError, PeeringFile, read_peering

LOOK_S: Final = 1.0
COMMAND_S: Final = 10.0  # a query over a network, not a computation
MAX_BYTES: Final = MAX_TEXT
MAX_COMPLAINT: Final = 400  # bytes of a command's standard error that are kept
_OF_OUR_OWN: Final = ("NOTIFY_", "WATCHDOG_", "LISTEN_")  # what systemd says to the daemon alone

Changed = Callable[[PeeringFile | None], None]
Run = Callable[[Any, Sequence[str], float], Deferred[bytes]]


class PeeringWatch(Service):
    """Watches what ``settings`` name, and tells ``changed`` each new list.

    ``changed`` is called with None when a reload takes the source itself away, and never for a list equal to the one in force.

    :ivar current: the list in force, or None.
    :ivar trouble: what is wrong with the source at present, a sentence, or "".
    :ivar refused: how often that was said.
    """

    _log = Logger()
    name = "peering"

    def __init__(
        self,
        reactor: Any,
        settings: MeshSettings,
        changed: Changed,
        *,
        read: Callable[[Path], bytes] | None = None,
        run: Run | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock: Clock = reactor
        self._settings = settings
        self._changed = changed
        self._read = read_file if read is None else read
        self._run_command: Run = run_command if run is None else run
        self._beat = LoopingCall(self._look)
        self._beat.clock = reactor
        self._run: Deferred[bytes] | None = None
        self._due = 0.0
        self._good = self._bad = b""  # digests of what was taken, and of what was refused last
        self._refusal = ""
        self._doubt = ""  # what was wrong at the last look, said or not
        self.current: PeeringFile | None = None
        self.trouble = ""
        self.refused = 0

    # -- IService ---------------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Read a file at once, before this returns; start a command."""
        super().startService()  # type: ignore[no-untyped-call]
        self.reread()

    def stopService(self) -> None:
        """Look no more; a command that runs is killed."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._rest()

    # -- for the assembly -------------------------------------------------------------------------------------------------

    def reload(self, settings: MeshSettings) -> None:
        """Go on by new settings, and read again at once; what was wrong is said again where it still is."""
        before, self._settings = self._settings, settings
        if (before.peering_file, before.peering_command) != (settings.peering_file, settings.peering_command):
            self._rest()
            self._good = self._bad = b""
        if not self.running:
            return
        self.reread()
        if not self._source and self.current is not None:
            self.current = None
            self._log.info("there is no peering list any more: the configuration names none")
            self._tell(None)

    def reread(self) -> None:
        """Look again at once, and say again what is wrong."""
        self.trouble = ""
        if not self._source or not self.running:
            return
        if not self._beat.running:
            self._beat.start(LOOK_S, now=False).addErrback(self._broke)
        self._due = self._clock.seconds()
        self._look(patient=False)

    # -- looking ----------------------------------------------------------------------------------------------------------

    @property
    def _source(self) -> str:
        """What is watched, for people; "" where nothing is."""
        settings = self._settings
        if settings.peering_file is not None:
            return str(settings.peering_file)
        return f"output of {settings.peering_command[0]}" if settings.peering_command else ""

    def _rest(self) -> None:
        if self._beat.running:
            self._beat.stop()
        run, self._run = self._run, None
        if run is not None:
            run.cancel()

    def _broke(self, failure: Failure) -> None:
        self._log.failure("{source} is not looked at any more until a reload", failure, source=self._source)

    def _look(self, *, patient: bool = True) -> None:
        settings = self._settings
        if settings.peering_file is not None:
            try:
                data = self._read(settings.peering_file)
            except PeeringError as error:
                self._wrong(str(error), patient)
            else:
                self._take(data, patient)
        elif self._run is None and self._clock.seconds() >= self._due:
            self._due = self._clock.seconds() + settings.peering_reread_s
            self._run = run = self._run_command(self._reactor, settings.peering_command, COMMAND_S)
            run.addCallbacks(self._printed, self._failed, callbackArgs=(run,), errbackArgs=(run,))

    def _printed(self, data: bytes, run: Deferred[bytes]) -> None:
        if self._ended(run):
            self._take(data, patient=False)

    def _failed(self, failure: Failure, run: Deferred[bytes]) -> None:
        if not self._ended(run):
            return  # we killed it ourselves
        if failure.check(TimeoutError):
            self._wrong(f"{self._source}: took longer than {COMMAND_S:g} s, and was killed", False)
        elif failure.check(CommandFailed):
            self._wrong(f"{self._source}: {failure.value}", False)
        else:
            self._log.failure("{source} could not be run", failure, source=self._source)

    def _ended(self, run: Deferred[bytes]) -> bool:
        """Whether it is the run that we wait for; if so, another may begin."""
        if self._run is not run:
            return False
        self._run = None
        return True

    def _take(self, data: bytes, patient: bool) -> None:
        digest = sha256(data).digest()
        if digest == self._good:
            self._well()
            return
        if digest == self._bad:
            self._wrong(self._refusal, patient)
            return
        try:
            peering = read_peering(_text(data, self._source), self._source)
        except PeeringError as error:
            self._bad, self._refusal = digest, str(error)
            self._wrong(self._refusal, patient)
            return
        self._good, self._bad = digest, b""
        self._well()
        if peering == self.current:
            return
        self.current = peering
        self._log.info(
            "peering list of {count} Rallypoints from {source}",
            count=len(peering.peers),
            source=peering.source,
        )
        for warning in peering.warnings:
            self._log.warn("{oddity}", oddity=warning)  # "warning" is a word of Twisted's own
        self._tell(peering)

    def _tell(self, peering: PeeringFile | None) -> None:
        try:
            self._changed(peering)
        except Exception:  # or the next list would never be looked for
            self._log.failure("a new peering list could not be followed")

    def _wrong(self, message: str, patient: bool) -> None:
        again, self._doubt = message == self._doubt, message
        if (patient and not again) or message == self.trouble:
            return
        self.trouble = message
        self.refused += 1
        kept = "nobody is linked by it" if self.current is None else "the last good list stays in force"
        self._log.error("{trouble}; {kept}", trouble=message, kept=kept)

    def _well(self) -> None:
        self._doubt = ""
        if self.trouble:
            self.trouble = ""
            self._log.info("{source} is in order again", source=self._source)


def read_file(path: Path) -> bytes:
    """The bytes of a plain file; raises :class:`~ice.rallypoint.peering.PeeringError`, and blocks on nothing else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise PeeringError(f"{path}: expected a file, found a folder, a pipe or a device")
            with open(descriptor, "rb", closefd=False) as stream:
                data = stream.read(MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise PeeringError(f"{path}: there is no such file") from None
    except PermissionError:
        raise PeeringError(f"{path}: this user may not read it; see its owner and mode with ls -l") from None
    except (OSError, ValueError) as error:
        raise PeeringError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise PeeringError(f"{path}: is larger than {MAX_BYTES} bytes; is it a peering file at all?")
    return data


def _text(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PeeringError(f"{source}:{line}: byte 0x{data[error.start]:02x} is not UTF-8") from None


class CommandFailed(Exception):
    """A command did not print a list; the message says what it did."""


def run_command(reactor: Any, argv: Sequence[str], timeout_s: float) -> Deferred[bytes]:
    """What the program prints that ``argv`` names, once it has ended with status 0 and closed its output.

    Fails with :class:`CommandFailed`, or with Twisted's ``TimeoutError`` after ``timeout_s``; the program is dead then, as it
    is after ``cancel()``. What it has started itself is not.
    """
    command = _Command()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_OUR_OWN)}
    try:
        reactor.spawnProcess(command, argv[0], list(argv), environment)
    except OSError as error:
        return fail(CommandFailed(f"cannot be started: {error.strerror}"))
    return command.result.addTimeout(timeout_s, reactor)


class _Command(ProcessProtocol):
    """One run."""

    def __init__(self) -> None:
        self.result: Deferred[bytes] = Deferred(self._give_up)
        self._over = False
        self._out = bytearray()
        self._complaint = bytearray()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._out += data
        if len(self._out) > MAX_BYTES:
            self._give_up()
            self.result.errback(CommandFailed(f"printed more than {MAX_BYTES} bytes, and was killed"))

    def errReceived(self, data: bytes) -> None:
        self._complaint += data[: MAX_COMPLAINT - len(self._complaint)]

    def processEnded(self, reason: Failure) -> None:
        if self._over:
            return
        self._over = True
        code, signal = getattr(reason.value, "exitCode", None), getattr(reason.value, "signal", None)
        if code == 0:
            self.result.callback(bytes(self._out))
            return
        how = f"ended with status {code}" if signal is None else f"was ended by signal {signal}"
        said = "".join(
            c if c.isprintable() else " " for c in self._complaint.decode("utf-8", "replace")
        ).strip()
        self.result.errback(CommandFailed(f"{how}: {said}" if said else how))

    def _give_up(self, result: object = None) -> None:
        """Kill it; what it still says is not heard."""
        self._over = True
        self._out.clear()
        transport: Any = self.transport
        with suppress(ProcessExitedAlready):
            transport.signalProcess("KILL")
        transport.loseConnection()
