"""Addresses as people write them: ``host:port``, ``192.0.2.7:7443``, ``[2001:db8::7]:7443``.

A host is a DNS name, an IPv4 address or an IPv6 address in brackets (RFC 3986 §3.2.2), and is never left out: a
program that listens on every address of a machine does so because somebody wrote ``0.0.0.0`` or ``[::]``. A place to
listen on is an address, not a name, so that it cannot move when a name server changes its mind.
"""

import ipaddress
import re
from typing import Annotated, Any

import attrs
from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler
from pydantic_core import core_schema

from ice.errors import LocalError

MAX_NAME = 253  # RFC 1035 §2.3.4 allows 255 octets on the wire, which is 253 characters of text
_LABEL = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)  # RFC 1123 §2.1, and the underscore that is met
_DIGITS = re.compile(r"[0-9]{1,20}")


class AddressError(LocalError, ValueError):
    """Text that is no ``host:port``; the message says what is wrong with it."""


@attrs.frozen(order=True)
class Address:
    """One place in the network: a host (name or IP address, without brackets) and a TCP or UDP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``host:port``; :class:`AddressError` says what is wrong when it is none."""
        host, port = _split(text)
        return cls(_host(host, text), _port(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an IP address, or None where it is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_everywhere(self) -> bool:
        """True for ``0.0.0.0`` and ``[::]``: every address of the machine."""
        ip = self.ip
        return ip is not None and ip.is_unspecified

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Accept an :class:`Address` as it is and text by :meth:`parse`."""
        return core_schema.no_info_plain_validator_function(
            _validate, serialization=core_schema.to_string_ser_schema()
        )


def _validate(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        return Address.parse(value)
    raise AddressError('expected an address like "192.0.2.7:7443"')


def _split(text: str) -> tuple[str, str]:
    shown = _clip(text)
    if "://" in text:
        raise AddressError(f'expected host:port, found "{shown}": leave out {text.split("://")[0]}://')
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise AddressError(f'expected "[address]:port", found "{shown}"')
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise AddressError(f"{_clip(host)} in brackets is not an IPv6 address") from None
        return host, rest[1:]
    if text.count(":") > 1:
        raise AddressError(f'an IPv6 address is written in brackets, "[::1]:7443"; found "{shown}"')
    host, colon, port = text.partition(":")
    if not colon:
        raise AddressError(f'a port is missing: write "{shown or "localhost"}:7443"')
    if not host:
        raise AddressError(
            f'a host is missing before the colon: write "127.0.0.1:{_clip(port)}" for this machine alone, '
            f'"0.0.0.0:{_clip(port)}" for each of its addresses'
        )
    return host, port


def _host(host: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    if labels[-1].isdecimal():
        raise AddressError(f"{_clip(host)} is not an IPv4 address")
    if len(host) > MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError(f'expected host:port, found "{_clip(text)}"')
    return host.lower()


def _port(port: str) -> int:
    if not _DIGITS.fullmatch(port):
        raise AddressError(f'port "{_clip(port)}" is not a number in 1–65535')
    number = int(port)
    if not 1 <= number <= 65535:
        raise AddressError(f"port {number} is not in 1–65535")
    return number


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def _listening(address: Address) -> Address:
    if address.ip is None:
        example = "127.0.0.1" if address.host == "localhost" else "0.0.0.0"
        raise AddressError(
            f'to listen, an IP address is needed, not the name {_clip(address.host)}: "{example}:{address.port}"'
        )
    return address


def _nothing(value: object) -> object:
    return None if value == "" else value


ListenAddress = Annotated[Address, AfterValidator(_listening)]
"""Where a daemon listens: always an IP address."""

OptionalListenAddress = Annotated[ListenAddress | None, BeforeValidator(_nothing)]
"""Where a daemon listens, or None, written ``""``, where it does not."""
