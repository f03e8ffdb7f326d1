"""The control of a daemon as one service: its Unix socket, and HTTPS where that is configured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application.service import MultiService

from ice.config.control import ControlSettings
from ice.observe.control import Control
from ice.observe.control_socket import SocketService
from ice.observe.control_web import Shown, web_service


class ControlService(MultiService):
    """Brings requests to ``control``, by the ``settings`` of a ``section`` (``patch.control``), at the Unix socket ``path`` (:func:`ice.observe.control_socket.socket_path`).

    ``shown``: the daemon's certificate and whom it believes, as they are now: after a reload those who connect meet the new ones. Raises :class:`~ice.errors.LocalError`, now
    for a certificate that cannot serve, at the start for a socket or port that cannot be opened.
    """

    def __init__(
        self,
        reactor: Any,
        control: Control,
        settings: ControlSettings,
        section: str,
        path: Path,
        shown: Shown,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        SocketService(reactor, path, control, settings.group, section).setServiceParent(self)  # type: ignore[no-untyped-call]
        if settings.listen is not None:
            web_service(reactor, settings.listen, control, shown, section).setServiceParent(self)  # type: ignore[no-untyped-call]
