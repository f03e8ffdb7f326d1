"""What every section of the configuration is made of: the base model, the marks on fields, the shared value types.

A field's type says what may be written, its constraints say the range, its description is the sentence a radio
administrator reads in ``etc/ice.toml`` and ``docs/configuration.md``, and marks say the rest:

* :data:`RESTART`: the value is read once, when the process starts; every other value is applied by a reload.
* :data:`SECRET`: the value is never shown (``ice check --print`` says ``(hidden)``).
"""

import ipaddress
import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    Strict,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from ice.net.addresses import Address, AddressError, parse_address

_T = TypeVar("_T")


class Mark(Enum):
    """Something to know about a field that is not its type."""

    RESTART = "restart"
    SECRET = "secret"


RESTART = Mark.RESTART
SECRET = Mark.SECRET


class Section(BaseModel):
    """A table of the configuration file: a frozen value that knows all its keys and guesses nothing.

    Types are strict (``"5"`` is no number, ``1`` is no truth value); unknown keys, NaN and infinity are errors;
    defaults are held to the same rules as what people write.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


Listed = Annotated[tuple[_T, ...], Strict(False)]
"""A TOML array, kept as a tuple so that it cannot be changed afterwards."""


def _path(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise PydanticCustomError("path", "expected the name of a file")
    return Path(os.path.expanduser(value))  # a person's own client keeps its files in ~


FileName = Annotated[Path, BeforeValidator(_path)]
"""The name of a file; a relative one is relative to the folder of the configuration file."""


def _nothing(value: object) -> object:
    return None if value == "" else value


OptionalFileName = Annotated[FileName | None, BeforeValidator(_nothing)]
"""The name of a file, or None, written ``""``, where there is none."""


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        return parse_address(value)
    raise AddressError('expected an address like "192.0.2.7:7443"')


def _listening(address: Address) -> Address:
    if address.ip is None:
        example = "127.0.0.1" if address.is_loopback else "0.0.0.0"
        raise AddressError(
            f"to listen, an IP address is needed, not the name {address.host[:40]}: "
            f'"{example}:{address.port}"'
        )
    return address


AddressField = Annotated[Address, PlainValidator(_address), PlainSerializer(str, return_type=str)]
"""A place on the network, written ``host:port``."""

OptionalAddress = Annotated[AddressField | None, BeforeValidator(_nothing)]
"""A place on the network, or None, written ``""``."""

ListenAddress = Annotated[AddressField, AfterValidator(_listening)]
"""Where a daemon listens: always an IP address, so that it cannot move when a name server changes its mind."""

OptionalListenAddress = Annotated[ListenAddress | None, BeforeValidator(_nothing)]
"""Where a daemon listens, or None, written ``""``, where it does not."""


def _printable(value: str) -> str:
    for character in value:
        if ord(character) < 32 or ord(character) == 127:
            raise PydanticCustomError(
                "printable", "contains the control character U+{code}", {"code": f"{ord(character):04X}"}
            )
    return value


Text = Annotated[str, AfterValidator(_printable)]
"""Text without control characters: it is shown on terminals and written to logs."""


def within_bytes(limit: int) -> AfterValidator:
    """Refuse text of more than `limit` bytes of UTF-8."""

    def check(value: str) -> str:
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise PydanticCustomError("text", "is not text that UTF-8 can carry") from None
        if size > limit:
            raise PydanticCustomError(
                "text_bytes",
                "is {size} bytes long; the limit is {limit} (a letter outside English takes 2 to 4)",
                {"size": size, "limit": limit},
            )
        return value

    return AfterValidator(check)


def not_below(value: Any, info: ValidationInfo, lower: str) -> Any:
    """Refuse a `value` smaller than the earlier key `lower` of the same section."""
    floor = info.data.get(lower)
    if floor is not None and value < floor:
        raise PydanticCustomError(
            "order",
            "{value} is less than {lower}, which is {floor}",
            {"value": value, "lower": lower, "floor": floor, "also": lower},
        )
    return value


def network_text(value: str) -> str:
    """A network (``192.0.2.0/24``, ``2001:db8::/32``) or one address, in its usual form."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise PydanticCustomError(
            "network",
            'expected a network or an address like "192.0.2.0/24", found "{shown}"',
            {"shown": value[:40]},
        ) from None
