"""From the configuration to streams, in one call: what a program, a daemon or ``ice talk`` begins with."""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
from cryptography import x509

from ice.config.load import Loaded
from ice.config.schema import Config, NetworkSettings
from ice.errors import LocalError
from ice.net.addresses import Address
from ice.rallypoint.access import Patterns
from ice.security.certificates import MAX_NAME, BadIdentity, Role, common_name, role_and_id
from ice.security.contexts import ClientTls
from ice.security.trust import Credentials, Trust
from ice.streams.dialling import Dialler, TlsDialler
from ice.streams.rallypoint import Notice, RallypointNetwork, TalkOn
from ice.streams.roster import Strategy
from ice.streams.ways import WaysFile


@attrs.frozen
class Passport:
    """Who we are for Rallypoints: read once, good for any number of networks. What ``tls`` is given later holds for every link opened from then on."""

    dialler: Dialler
    tls: ClientTls
    id: UUID
    name: str
    satellite: bool
    authority: str


@attrs.frozen
class Cluster:
    """Rallypoints that are dialled as one."""

    addresses: tuple[Address, ...]
    strategy: Strategy
    rollover_s: float
    connect_timeout_s: float


def network_of(
    loaded: Loaded,
    reactor: Any,
    *,
    on_notice: Callable[[Notice], None] | None = None,
    homes: int | None = None,
    passport: Passport | None = None,
) -> RallypointNetwork:
    """The network that the configuration describes, not started yet; ``homes``: other than it says there, ``passport``: where it was read already.

    Reads ``identity``, ``authority`` and ``network``.  Raises :class:`LocalError` (a file that is missing or does not fit, a
    certificate without an ice name), with what to do.
    """
    settings = loaded.config.network
    cluster = Cluster(
        tuple(settings.rallypoints),
        Strategy(settings.strategy),
        settings.rollover_s,
        settings.connect_timeout_s,
    )
    return links_to(
        cluster,
        passport_of(loaded, reactor) if passport is None else passport,
        settings,
        reactor,
        ways=ways_path(loaded, os.environ),
        on_notice=on_notice,
        homes=homes,
    )


def certificates_of(config: Config, now: datetime) -> tuple[Credentials, Trust]:
    """What we show to Rallypoints, and whom we believe. Raises :class:`LocalError` with what is missing and what to do."""
    credentials = Credentials.read(config.identity.certificate, config.identity.key)
    return credentials, Trust.read(config.authority.certificates, config.authority.revocations, now)


def identity_in(credentials: Credentials, config: Config) -> tuple[Role, UUID]:
    """The role and the id that our certificate says. Raises :class:`LocalError` for one that no authority of a site has made."""
    try:
        # Whether we are admitted is the Rallypoint's to say; during a roll-over our own authority may be news to our own list.
        return role_and_id(credentials.certificate)
    except BadIdentity as wrong:
        raise LocalError(f"{config.identity.certificate}: {wrong}") from None


def passport_of(loaded: Loaded, reactor: Any) -> Passport:
    """Who the configuration says we are. Raises :class:`LocalError` with what is missing and what to do."""
    config = loaded.config
    credentials, trust = certificates_of(config, datetime.now(UTC))
    role, id = identity_in(credentials, config)
    tls = ClientTls(credentials, trust, config.network.verify_name)
    return Passport(
        dialler=TlsDialler(reactor, tls),
        tls=tls,
        id=id,
        name=common_name(credentials.certificate)[:MAX_NAME],
        satellite=role is Role.SATELLITE,
        authority=authority_of(credentials.certificate),
    )


def links_to(
    cluster: Cluster,
    passport: Passport,
    settings: NetworkSettings,
    reactor: Any,
    *,
    ways: Path | None,
    on_notice: Callable[[Notice], None] | None = None,
    homes: int | None = None,
) -> RallypointNetwork:
    """The network of one cluster, not started yet.

    ``settings`` hold for what a cluster does not say; ``ways``: the file of other ways into it, None: remembered nowhere; ``homes``: other than in the settings.
    """
    return RallypointNetwork(
        reactor,
        addresses=cluster.addresses,
        dialler=passport.dialler,
        identity=passport.id,
        name=passport.name,
        satellite=passport.satellite,
        strategy=cluster.strategy,
        homes=settings.homes if homes is None else homes,
        talk_on=TalkOn(settings.talk_on),
        protects=Patterns(settings.protected).fit,
        connect_timeout_s=cluster.connect_timeout_s,
        rollover_s=cluster.rollover_s,
        back_off_min_s=settings.back_off_min_s,
        back_off_max_s=settings.back_off_max_s,
        ways_file=None if ways is None else WaysFile(ways, passport.authority),
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


def ways_path(loaded: Loaded, environ: Mapping[str, str]) -> Path | None:
    """Where other ways into the mesh are remembered; None: nowhere.

    What the configuration says; where it says nothing, the state folder that systemd has made for a service, or that of the
    person (XDG Base Directory Specification), or the default.
    """
    if not loaded.gives("network", "ways_file"):
        if service := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
            return Path(service) / "ways.json"
        if (person := environ.get("XDG_STATE_HOME", "")).startswith("/"):
            return Path(person) / "ice" / "ways.json"
    return loaded.config.network.ways_file


def authority_of(certificate: x509.Certificate) -> str:
    """A name for the authority that has issued ``certificate``: by its key where the certificate tells that, else by its name."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        if extension.value.key_identifier is not None:
            return extension.value.key_identifier.hex()[:64]
    except (x509.ExtensionNotFound, ValueError):
        pass
    return sha256(certificate.issuer.public_bytes()).hexdigest()[:40]
