"""Asking a daemon's status pages over HTTP, with sentences for everything that can go wrong."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from ice.errors import IceError, LocalError, RemoteError

TIMEOUT_S = 5.0
START = "make run  or  twistd -n --pidfile= ice-rallypoint"  # what to type where no Rallypoint answers
MAX_ANSWER = 16 * 1024 * 1024  # thousands of links, each a few hundred bytes

# A status page is on this machine or nearby; whatever proxy the environment names, it is not meant for it.
_opener = build_opener(ProxyHandler({}))


def site(config: Path | None, url: str | None, section: str = "rallypoint") -> str:
    """Where the status pages of a daemon are: ``url`` where it was given, else what its ``section`` of the configuration says; without a slash at the end."""
    if url:
        return url.rstrip("/")
    from ice.config.load import load

    loaded = load(config)
    listen = getattr(loaded.config, section).http.listen
    if listen is None:
        raise LocalError(f"{loaded.path}: {section}.http.listen is empty: there is no status page to ask")
    return f"http://{listen}"


def fetch(url: str, *, timeout_s: float = TIMEOUT_S, start: str = START) -> tuple[int, bytes]:
    """The status code and body of a GET; raises :class:`~ice.errors.LocalError`, which says how to ``start`` the daemon, where nothing answers in time."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise LocalError(
            f"{url!r} is no address of a status page; expected something like http://127.0.0.1:7480"
        )
    try:
        with _opener.open(url, timeout=timeout_s) as response:
            return int(response.status), _bounded(response)
    except HTTPError as error:
        with error:
            return error.code, _bounded(error)
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise NotRunning(
            f"nothing answers at {url}: {reason}. Is the daemon running? Start it with  {start}  ; where it runs elsewhere, name it with --url"
        ) from None


def fetch_object(url: str, *, timeout_s: float = TIMEOUT_S, start: str = START) -> dict[str, Any]:
    """The JSON object at ``url``; raises :class:`~ice.errors.IceError` with a sentence for anything else."""
    status, body = fetch(url, timeout_s=timeout_s, start=start)
    if status != 200:
        raise RemoteError(f"{url} answers {status}: {body[:200].decode('utf-8', 'replace').strip()}")
    try:
        answer = json.loads(body)
        if isinstance(answer, dict):
            return answer
    except (ValueError, RecursionError):
        pass
    raise RemoteError(f"{url} answers something that is no status document of ice; look at the address")


class NotRunning(LocalError):
    """Nobody listens there."""


def _bounded(response: Any) -> bytes:
    body: bytes = response.read(MAX_ANSWER + 1)
    if len(body) > MAX_ANSWER:
        raise _TooLarge(f"the answer is larger than {MAX_ANSWER} bytes")
    return body


class _TooLarge(IceError):
    """No status page is that large."""
