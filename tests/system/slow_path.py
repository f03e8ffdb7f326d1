"""A long way between client and Rallypoint: a TCP relay that carries every byte late, for a stretch of road no test machine has."""

import contextlib
import queue
import socket
import threading
import time

HERE = "127.0.0.1"


class LongWay:
    """Listens on a port of its own, and carries each connection to ``target`` with ``delay_s`` in each direction."""

    def __init__(self, target: int, delay_s: float) -> None:
        self._target, self._delay_s = target, delay_s
        self._listener = socket.create_server((HERE, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End every connection."""
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((HERE, self._target))
                self._open += [near, far]
                for here, there in ((near, far), (far, near)):
                    for each in (here, there):
                        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    late: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                    threading.Thread(target=self._take, args=(here, late), daemon=True).start()
                    threading.Thread(target=self._give, args=(there, late), daemon=True).start()

    def _take(self, here: socket.socket, late: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        data = b"?"
        while data:
            try:
                data = here.recv(65_536)
            except OSError:
                data = b""
            late.put((time.monotonic() + self._delay_s, data))

    def _give(self, there: socket.socket, late: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = late.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    there.shutdown(socket.SHUT_WR)
                    return
                there.sendall(data)
