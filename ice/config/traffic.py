"""``[traffic]``: how the groups of a mission are sealed on this machine; keys stand in missions, never here."""

from typing import Annotated

from pydantic import Field

from ice.config.fields import RESTART, OptionalFileName, Section
from ice.config.salt import read_salt
from ice.security.replay import AHEAD_S
from ice.security.traffic import DEFAULT_SALT, SALT_BYTES


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
        """The salt of traffic keys; raises :class:`~ice.errors.LocalError` that names the file where it cannot be read or is none."""
        return (
            DEFAULT_SALT
            if self.salt_file is None
            else read_salt(
                self.salt_file,
                "the salt of traffic keys",
                SALT_BYTES,
                SALT_BYTES,
                "copy the file from a machine of the site where it is right",
            )
        )
