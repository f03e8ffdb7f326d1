"""A place on the network, ``host:port``, as a person writes it: the one parser of the suite.

Accepted forms, with or without a port where a default port is given:

========================  =================================================
``localhost:7443``        a DNS name (letters, digits, ``-``, ``_``, dots)
``192.0.2.1:7443``        an IPv4 address in the usual four numbers
``[2001:db8::1]:7443``    an IPv6 address, in brackets (RFC 3986 section 3.2.2)
``2001:db8::1``           an IPv6 address without brackets: only without a port
``[fe80::1%eth0]:7443``   an IPv6 address with its zone (RFC 4007 section 11)
========================  =================================================

What is refused on purpose: an empty host (``:7443`` would silently mean every address of the machine), and what looks
like an IPv4 address but is not (``127.1``, ``10.0.0.256``, ``010.0.0.1``), since C libraries read those differently.
"""

import ipaddress
import re
from typing import Final

import attrs

from ice.errors import LocalError

MAX_TEXT: Final = 320  # a DNS name of 253, brackets, a zone and a port; longer is no address
MAX_NAME: Final = 253  # RFC 1035 section 2.3.4, without the final dot
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")
_PORT: Final = re.compile(r"[0-9]{1,5}\Z")


@attrs.frozen
class Address:
    """``host`` (a name, or an IP address without brackets) and ``port`` (0–65535; 0: let the system choose)."""

    host: str
    port: int

    def __str__(self) -> str:
        """The form that :func:`parse_address` reads back."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an IP address, or None where it is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_ipv6(self) -> bool:
        """The host is written as an IPv6 address."""
        return isinstance(self.ip, ipaddress.IPv6Address)

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it: 127.0.0.0/8, ::1, or ``localhost`` (RFC 6761 section 6.3)."""
        ip = self.ip
        if ip is None:
            name = self.host.lower()
            return name == "localhost" or name.endswith(".localhost")
        mapped = getattr(ip, "ipv4_mapped", None)
        return (mapped or ip).is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Listening here means every address of the machine: ``0.0.0.0`` or ``::``."""
        ip = self.ip
        return ip is not None and ip.is_unspecified


def parse_address(text: str, default_port: int | None = None, *, any_port: bool = False) -> Address:
    """Read ``text`` as an address.

    ``default_port`` stands in where the text has no port; without one, the port is required. ``any_port`` admits port 0,
    which lets the system choose (for listening in tests). Raises :class:`LocalError` with what was expected and what came.
    """
    if len(text) > MAX_TEXT:
        raise LocalError(f"an address of {len(text)} characters: expected host:port, at most {MAX_TEXT}")
    host, port_text = _split(text)
    if port_text is None:
        if default_port is None:
            raise LocalError(
                f"{text!r} has no port: expected host:port, such as localhost:7443 or [::1]:7443"
            )
        port = default_port
    else:
        port = _port(text, port_text, any_port)
    return Address(host=_host(text, host), port=port)


def format_address(host: str, port: int) -> str:
    """``host:port`` as a person writes it, with brackets around an IPv6 address."""
    return str(Address(host=host, port=port))


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or not (rest == "" or rest.startswith(":")):
            raise LocalError(f"{text!r} is not an address: expected [IPv6 address]:port, such as [::1]:7443")
        if ":" not in host:
            raise LocalError(f"{text!r}: brackets are for IPv6 addresses; write {host}{rest}")
        return host, (rest[1:] if rest else None)
    if text.count(":") > 1:
        return text, None  # IPv6 without brackets: every colon belongs to the address
    host, colon, port = text.partition(":")
    return host, (port if colon else None)


def _port(text: str, port_text: str, any_port: bool) -> int:
    if not port_text.isascii() or not port_text.isdigit():
        raise LocalError(f"{text!r}: port {port_text!r} is not a number; expected host:port")
    lowest = 0 if any_port else 1
    if not _PORT.match(port_text) or not lowest <= int(port_text) <= 65535:
        raise LocalError(f"{text!r}: port {port_text} is not in {lowest}–65535")
    return int(port_text)


def _host(text: str, host: str) -> str:
    if not host:
        raise LocalError(
            f"{text!r} has no host: write 127.0.0.1 for this machine alone, or 0.0.0.0 (or [::]) where every address is meant"
        )
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise LocalError(
                f"{text!r}: {host!r} is not an IPv6 address; a port goes after brackets, as in [::1]:7443"
            ) from None
    name = host.removesuffix(".")
    labels = name.split(".")
    if labels[-1].isascii() and labels[-1].isdigit():
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise LocalError(
                f"{text!r}: {host!r} is not an IPv4 address; expected four numbers of 0–255"
            ) from None
    if len(name) > MAX_NAME or not all(_LABEL.match(label) for label in labels):
        raise LocalError(
            f"{text!r}: {host!r} is not a host name; expected letters, digits, - and dots (write other alphabets in their xn-- form)"
        )
    return host
