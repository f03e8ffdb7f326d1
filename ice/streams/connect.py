"""From the configuration to streams, in one call: what a program, a daemon or ``ice talk`` begins with."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ice.config.load import Loaded
from ice.errors import LocalError
from ice.security.certificates import MAX_NAME, BadIdentity, Role, common_name, role_and_id
from ice.security.contexts import ClientTls
from ice.security.trust import Credentials, Trust
from ice.streams.dialling import TlsDialler
from ice.streams.rallypoint import Notice, RallypointNetwork
from ice.streams.roster import Strategy


def network_of(
    loaded: Loaded, reactor: Any, *, on_notice: Callable[[Notice], None] | None = None
) -> RallypointNetwork:
    """The network that the configuration describes, not started yet.

    Reads ``identity``, ``authority`` and ``network``.  Raises :class:`LocalError` (a file that is missing or does not fit, a
    certificate without an ice name), with what to do.
    """
    config = loaded.config
    credentials = Credentials.read(config.identity.certificate, config.identity.key)
    trust = Trust.read(config.authority.certificates, config.authority.revocations, datetime.now(UTC))
    try:
        # Whether we are admitted is the Rallypoint's to say; during a roll-over our own authority may be news to our own list.
        role, id = role_and_id(credentials.certificate)
    except BadIdentity as wrong:
        raise LocalError(f"{config.identity.certificate}: {wrong}") from None
    settings = config.network
    return RallypointNetwork(
        reactor,
        addresses=settings.rallypoints,
        dialler=TlsDialler(reactor, ClientTls(credentials, trust, settings.verify_name)),
        identity=id,
        name=common_name(credentials.certificate)[:MAX_NAME],
        satellite=role is Role.SATELLITE,
        strategy=Strategy(settings.strategy),
        connect_timeout_s=settings.connect_timeout_s,
        rollover_s=settings.rollover_s,
        back_off_min_s=settings.back_off_min_s,
        back_off_max_s=settings.back_off_max_s,
        on_notice=on_notice,
    )


def connect(
    loaded: Loaded, reactor: Any, *, on_notice: Callable[[Notice], None] | None = None
) -> RallypointNetwork:
    """The network that the configuration describes, started: join streams now, and stop it in the end.

    Raises as :func:`network_of`.  That no Rallypoint answers is no error: streams are joined as soon as one does.
    """
    network = network_of(loaded, reactor, on_notice=on_notice)
    network.start()
    return network
