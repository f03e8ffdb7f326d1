"""How a daemon is controlled: ``[patch.control]`` and ``[gateway.control]``, which are alike (:mod:`ice.observe.control`)."""

from typing import Annotated

from pydantic import Field

from ice.config.fields import RESTART, OptionalFileName, OptionalListenAddress, Section, Text, within_bytes


def unnamed(where: object, name: str) -> str:
    """What is wrong with a certificate that nobody can dial, in a sentence: ``where`` it is, and its ``name``."""
    return (
        f"{where}: this certificate names no host or address under which operators could dial it; "
        f"type: ice pki renew {name} --dns HOST (or --ip ADDRESS)"
    )


class ControlSettings(Section):
    """Who may control the daemon above, and where: over a Unix socket, and over HTTPS with a certificate of the role operator."""

    socket: Annotated[OptionalFileName, RESTART] = Field(
        None,
        description="Unix socket of the control; empty: in the service's runtime folder, or the person's state folder.",
    )
    group: Annotated[Text, within_bytes(64), RESTART] = Field(
        "", description="Unix group whose people may use that socket too; empty: only the daemon's own user."
    )
    listen: Annotated[OptionalListenAddress, RESTART] = Field(
        None,
        description="Where people with a certificate of the role operator control it over HTTPS; empty: nowhere. "
        "identity.certificate has to name this machine (ice pki renew NAME --dns HOST).",
    )
