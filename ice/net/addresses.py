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

Every mistake has its own sentence, which repeats no more of the text than is wrong, cut to :data:`SHOWN` characters and
safe on a terminal: the text may be a stranger's.
"""

import ipaddress
import re
from typing import Final

import attrs

from ice.errors import LocalError
from ice.printable import printable

MAX_TEXT: Final = 320  # a DNS name of 253, brackets, a zone and a port; longer is no address
MAX_NAME: Final = 253  # RFC 1035 section 2.3.4 (255 octets on the wire), without the final dot
SHOWN: Final = 40  # characters of wrong text that are repeated to its author
_LABEL: Final = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z"
)  # RFC 1123 section 2.1, and _
_ZONE: Final = re.compile(
    r"[A-Za-z0-9_.~@-]{1,32}\Z"
)  # the name or number of an interface; Python would take any text
_PORT: Final = re.compile(r"[0-9]{1,20}\Z")  # leading zeros are harmless; more digits than this are no number


class AddressError(LocalError, ValueError):
    """Text that is no ``host:port``; the message says what is wrong with it. (A ValueError so that pydantic shows it.)"""


@attrs.frozen(order=True)
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
    """Read ``text`` as an address; names are lower-cased, IP addresses written in their canonical form.

    ``default_port`` stands in where the text has no port; without one, the port is required. ``any_port`` admits port 0,
    which lets the system choose (for listening in tests). Raises :class:`AddressError` with what is wrong and what to write.
    """
    if len(text) > MAX_TEXT:
        raise AddressError(f"an address of {len(text)} characters: expected host:port, at most {MAX_TEXT}")
    if "://" in text:
        scheme = _shown(text.partition("://")[0])
        raise AddressError(f'expected host:port, found "{_shown(text)}": leave out {scheme}://')
    host, port_text = _split(text, default_port)
    if port_text is None:
        if default_port is None:
            missing = text if text.startswith("[") else host or "localhost"
            raise AddressError(f'a port is missing: write "{_shown(missing)}:7443"')
        return Address(_host(host), default_port)
    if not host:
        port = _shown(port_text)
        raise AddressError(
            f'a host is missing before the colon: write "127.0.0.1:{port}" for this machine alone, '
            f'"0.0.0.0:{port}" for each of its addresses'
        )
    return Address(_host(host), _port(port_text, 0 if any_port else 1))


def format_address(host: str, port: int) -> str:
    """``host:port`` as a person writes it, with brackets around an IPv6 address."""
    return str(Address(host=host, port=port))


def _split(text: str, default_port: int | None) -> tuple[str, str | None]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not host or not closed or not (rest == "" or rest.startswith(":")):
            raise AddressError(f'expected "[address]:port", found "{_shown(text)}"')
        if _ipv6(host) is None:
            hint = "" if ":" in host else f': write "{_shown(host + rest)}"'
            raise AddressError(f"{_shown(host)} in brackets is not an IPv6 address{hint}")
        return host, (rest[1:] if rest else None)
    if text.count(":") > 1:
        if default_port is None or _ipv6(text) is None:
            raise AddressError(
                f'an IPv6 address is written in brackets, "[::1]:7443"; found "{_shown(text)}"'
            )
        return text, None  # every colon belongs to the address
    host, colon, port = text.partition(":")
    return host, (port if colon else None)


def _ipv6(text: str) -> str | None:
    _, percent, zone = text.partition("%")
    if percent and not _ZONE.match(zone):
        return None
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        return None


def _port(text: str, lowest: int) -> int:
    if not _PORT.match(text):
        raise AddressError(f'port "{_shown(text)}" is not a number in {lowest}–65535')
    if not lowest <= int(text) <= 65535:
        raise AddressError(f"port {int(text)} is not in {lowest}–65535")
    return int(text)


def _host(host: str) -> str:
    if not host:
        raise AddressError('a host is missing: write "localhost:7443", or the name of another machine')
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    name = host.removesuffix(".")
    labels = name.split(".")
    if labels[-1].isdecimal():
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise AddressError(
                f"{_shown(host)} is not an IPv4 address: expected four numbers of 0–255, without leading zeros"
            ) from None
    if len(name) > MAX_NAME or not all(_LABEL.match(label) for label in labels):
        raise AddressError(
            f'"{_shown(host)}" is not a host name: expected letters, digits, - and dots '
            "(write other alphabets in their xn-- form)"
        )
    return host.lower()


def _shown(text: str) -> str:
    """Wrong text as it is repeated to its author: short, and nothing in it that a terminal obeys."""
    return printable(text, SHOWN)
