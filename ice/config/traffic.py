"""``[traffic]``: how the groups of a mission are sealed on this machine; keys stand in missions, never here."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ice.config.fields import RESTART, OptionalFileName, Section
from ice.errors import LocalError
from ice.security.replay import AHEAD_S
from ice.security.traffic import DEFAULT_SALT, SALT_BYTES

MAX_SALT_FILE = 4_096  # 32 digits, and room for an editor's line end


class TrafficSettings(Section):
    """How the traffic of encrypted groups is sealed and opened."""

    salt_file: Annotated[OptionalFileName, RESTART] = Field(
        None,
        description="File with the salt of traffic keys, 32 hexadecimal digits, the same for everybody in the site; empty: the usual one.",
    )
    accept_recordings: Annotated[bool, RESTART] = Field(
        False,
        description="Play packets (AES-256-GCM) of senders that began over 24 hours ago and were never heard: recordings, or wrong clocks.",
    )
    clock_ahead_s: Annotated[float, RESTART] = Field(
        AHEAD_S,
        ge=1,
        le=31_536_000,
        description="How far a sender's clock (AES-256-GCM) may be ahead of ours; packets of others are refused.",
    )

    def salt(self) -> bytes:
        """The salt of traffic keys; raises :class:`LocalError` that names the file where it cannot be read or is none."""
        return DEFAULT_SALT if self.salt_file is None else read_salt(self.salt_file)


def read_salt(path: Path) -> bytes:
    """The 16 bytes that a file says in hexadecimal; raises :class:`LocalError`, without what stands there."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SALT_FILE + 1)
    except OSError as error:
        raise LocalError(
            f"{path}: the salt of traffic keys cannot be read: {error.strerror or error}"
        ) from None
    try:
        salt = bytes.fromhex(text.decode("ascii")) if len(text) <= MAX_SALT_FILE else b""
    except ValueError:
        salt = b""
    if len(salt) != SALT_BYTES:
        raise LocalError(
            f"{path}: expected {2 * SALT_BYTES} hexadecimal digits, the salt of traffic keys; "
            "copy the file from a machine of the site where it is right"
        )
    return salt
