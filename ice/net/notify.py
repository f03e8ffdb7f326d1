"""Telling systemd how the daemon is (``sd_notify(3)``), and a heart that beats only while the reactor does.

systemd names a datagram socket in ``NOTIFY_SOCKET``; each datagram is a few ``KEY=value`` lines. Without the variable (a
foreground run, a test, another supervisor) every call does nothing, so a daemon says the same words wherever it runs.
A socket that is gone or full never hurts the daemon: the notification is dropped and counted.

:class:`Heartbeat` is the only caller of ``WATCHDOG=1``. It beats from the reactor's own clock, so a reactor that is stuck stops
beating and systemd restarts the daemon (``WatchdogSec=`` in the unit). How late each beat came is the reactor's lag, the first
figure to look at when audio stutters.

Sockets that systemd opened for us (``LISTEN_FDS``) need nothing here: ``twisted.python.systemd.ListenFDs`` and the endpoint
``systemd:domain=INET:name=…`` adopt them by name.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ice.net.clock import Clock

BEAT_S: Final = (
    1.0  # without a watchdog to please, often enough that /healthz is never older than three seconds
)
MISSED_BEATS: Final = 3  # one late beat is load; three in a row is a stuck reactor
MAX_STATUS: Final = 256  # characters; `systemctl status` shows one line


class Notifier:
    """Speaks to the service manager through the socket at ``address``; an empty address makes every call a no-op.

    ``address`` is as in ``NOTIFY_SOCKET``: an absolute path, or ``@name`` for Linux' abstract namespace. ``dropped`` counts
    notifications that could not be delivered.
    """

    _log = Logger()

    def __init__(self, address: str = "") -> None:
        self.address = address if address.startswith(("/", "@")) else ""
        self.dropped = 0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Notifier":
        """The notifier of this process: silent unless systemd asked for notifications."""
        return cls(environ.get("NOTIFY_SOCKET", ""))

    def ready(self, status: str = "") -> bool:
        """Starting or reloading is done: clients may come."""
        return self._send("READY=1", *_status(status))

    def reloading(self, status: str = "") -> bool:
        """A reload began; :meth:`ready` ends it, whether or not the new configuration was taken."""
        stamp_us = (
            time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        )  # systemd's own clock, wanted by Type=notify-reload
        return self._send("RELOADING=1", f"MONOTONIC_USEC={stamp_us}", *_status(status))

    def stopping(self, status: str = "") -> bool:
        """An orderly stop began."""
        return self._send("STOPPING=1", *_status(status))

    def status(self, text: str) -> bool:
        """One line for ``systemctl status``."""
        return self._send(*_status(text or " "))

    def watchdog(self) -> bool:
        """The daemon is alive."""
        return self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> bool:
        """Send the lines as one datagram; true where it was handed over."""
        if not self.address:
            return False
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)  # a full queue at the manager must not stop audio
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            self.dropped += 1
            if self.dropped == 1:
                self._log.warn(
                    "systemd was not told {lines}: {error}; further failures are only counted",
                    lines=" ".join(lines),
                    error=str(error),
                )
            return False
        return True


def watchdog_interval_s(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """How often to beat: half of ``WATCHDOG_USEC``, or None where no watchdog waits for this process (``sd_watchdog_enabled(3)``)."""
    wanted = environ.get("WATCHDOG_USEC", "")
    if not (wanted.isascii() and wanted.isdigit()) or int(wanted) == 0:
        return None
    if environ.get("WATCHDOG_PID", "") not in ("", str(os.getpid() if pid is None else pid)):
        return None
    return int(wanted) / 2_000_000


class Heartbeat(Service):
    """Beats every ``interval_s`` seconds of the reactor's clock, and tells the watchdog while ``well`` says that all is well.

    ``last_beat`` is the time of the last beat (the clock's seconds), ``lag_s`` how late it came, ``worst_lag_s`` the largest lag so
    far. ``well`` is asked at each beat and returns None, or the reason why the watchdog should not be fed.
    """

    _log = Logger()
    name = "heartbeat"

    def __init__(
        self,
        clock: Clock,
        notifier: Notifier,
        interval_s: float | None = None,
        well: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.interval_s = interval_s if interval_s is not None else watchdog_interval_s() or BEAT_S
        self.last_beat = clock.seconds()
        self.lag_s = 0.0
        self.worst_lag_s = 0.0
        self._clock = clock
        self._notifier = notifier
        self._well = well
        self._complaint: str | None = None
        self._loop = LoopingCall(self._beat)
        self._loop.clock = clock  # type: ignore[assignment]  # a zope interface there, a Protocol here

    def startService(self) -> None:
        """Begin to beat, at once."""
        super().startService()  # type: ignore[no-untyped-call]
        self.last_beat = self._clock.seconds() - self.interval_s
        self._loop.start(self.interval_s, now=True)

    def stopService(self) -> None:
        """Beat no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()

    def stale(self) -> str | None:
        """None while the heart beats; else a sentence that says for how long it has not."""
        silent_s = self._clock.seconds() - self.last_beat
        if silent_s <= MISSED_BEATS * self.interval_s:
            return None
        return f"no heartbeat for {silent_s:.1f} s, expected one every {self.interval_s:g} s" + (
            f": {self._complaint}" if self._complaint else ""
        )

    def _beat(self) -> None:
        complaint = self._well()
        if complaint is not None:
            if complaint != self._complaint:
                self._log.error("not feeding the watchdog: {complaint}", complaint=complaint)
            self._complaint = complaint
            return
        self._complaint = None
        now = self._clock.seconds()
        self.lag_s = max(0.0, now - self.last_beat - self.interval_s)
        self.worst_lag_s = max(self.worst_lag_s, self.lag_s)
        self.last_beat = now
        self._notifier.watchdog()


def _status(text: str) -> list[str]:
    """The STATUS line, or nothing for an empty text; line breaks would forge further assignments."""
    return [f"STATUS={' '.join(text.split())[:MAX_STATUS]}"] if text else []
