"""A client by somebody who has only read docs/link-protocol.md: the standard library and nothing of ours.

It is written from that page on purpose, so that a change of the wire that the page does not tell breaks a test.
"""

import hashlib
import json
import secrets
import socket
import ssl
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

HELLO, WELCOME, JOIN, JOINED, LEAVE, PING, PONG, ERROR, BYE, MEDIA = 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x10
TIMEOUT_S = 15.0


class Gone(Exception):
    """The Rallypoint closed the connection; ``said`` is its BYE, where it said one."""

    def __init__(self, said: dict[str, Any] | None) -> None:
        super().__init__(f"closed: {said}")
        self.said = said


def context(
    authority: Path, certificate: Path | None, key: Path | None, *, alpn: str | None = "ice-link/1"
) -> ssl.SSLContext:
    """TLS 1.3 as section 2 wants it."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_verify_locations(authority)
    if certificate is not None:
        made.load_cert_chain(certificate, key)
    if alpn is not None:
        made.set_alpn_protocols([alpn])
    return made


def key_of(stream: str) -> int:
    """Section 3, Key."""
    return int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "big")


def source_of(identity: str) -> int:
    """Section 3, Source."""
    return int.from_bytes(hashlib.sha256(UUID(identity).bytes).digest()[:4] + secrets.token_bytes(4), "big")


def frame(kind: int, body: bytes | dict[str, Any]) -> bytes:
    """Section 3."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return struct.pack(">HB", len(data), kind) + data


def media(flags: int, key: int, source: int, sequence: int, payload: bytes) -> bytes:
    """Section 3, MEDIA."""
    return frame(MEDIA, struct.pack(">BQQI", flags, key, source, sequence) + payload)


class Stranger:
    """One link, blocking."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext,
        identity: str,
        *,
        greet: bool = True,
        **hello: Any,
    ) -> None:
        plain = socket.create_connection(address, TIMEOUT_S)
        self.socket = tls.wrap_socket(plain, server_hostname=address[0])
        self.socket.settimeout(TIMEOUT_S)
        self.identity = identity
        self.source = source_of(identity)
        self.sequence = 0
        self._buffer = b""
        if greet:
            self.send(HELLO, {"version": 1, "role": "client", "id": identity, "name": "stranger"} | hello)
            self.welcome = self.expect(WELCOME)

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, kind: int, body: bytes | dict[str, Any]) -> None:
        """One frame."""
        self.socket.sendall(frame(kind, body))

    def raw(self, data: bytes) -> None:
        """Any bytes."""
        self.socket.sendall(data)

    def receive(self, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
        """The next frame that is not a PING (those are answered); TimeoutError when none comes."""
        deadline = time.monotonic() + timeout_s
        while True:
            if len(self._buffer) >= 3:
                stop = 3 + struct.unpack_from(">H", self._buffer)[0]
                if len(self._buffer) >= stop:
                    kind, body = self._buffer[2], self._buffer[3:stop]
                    self._buffer = self._buffer[stop:]
                    if kind == PING:
                        self.send(PONG, body)
                        continue
                    if kind == BYE:
                        raise Gone(json.loads(body))
                    return kind, body
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no frame in time")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65_536)
            except (ConnectionError, ssl.SSLError) as error:
                if isinstance(error, ssl.SSLWantReadError):
                    continue
                raise Gone(None) from error
            if not data:
                raise Gone(None)
            self._buffer += data

    def expect(self, kind: int, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """The next frame, which must be of this JSON kind."""
        got, body = self.receive(timeout_s)
        assert got == kind, f"expected type {kind}, found {got}: {body!r}"
        value: dict[str, Any] = json.loads(body)
        return value

    def join(self, stream: str, **more: Any) -> dict[str, Any]:
        """JOIN and its answer, whichever it is."""
        body = {"txn": 1, "stream": stream, "source": f"{self.source:016x}"} | more
        self.send(JOIN, {name: value for name, value in body.items() if value is not None})
        _, answer = self.receive()
        value: dict[str, Any] = json.loads(answer)
        return value

    def talk(self, stream: str, payload: bytes, flags: int = 0) -> None:
        """One datagram."""
        self.raw(media(flags, key_of(stream), self.source, self.sequence, payload))
        self.sequence += 1

    def hear(self, timeout_s: float = TIMEOUT_S) -> tuple[int, int, bytes]:
        """Source, sequence and payload of the next datagram."""
        kind, body = self.receive(timeout_s)
        assert kind == MEDIA, f"expected MEDIA, found type {kind}: {body!r}"
        _, _, source, sequence = struct.unpack_from(">BQQI", body)
        return source, sequence, body[21:]

    def bye(self, timeout_s: float = TIMEOUT_S) -> str | None:
        """Read until the Rallypoint ends the link; the code of its BYE, None where it said nothing."""
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                self.receive(max(0.01, deadline - time.monotonic()))
        except Gone as gone:
            return None if gone.said is None else str(gone.said["code"])
