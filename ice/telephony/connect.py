"""From the configuration to a gateway: its numbers, its trunks, its channels, its records, and all of them put together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from ice.config.gateway import DialInSettings, GatewaySettings, NumberSettings, TrunkSettings
from ice.config.load import Loaded
from ice.config.schema import Config
from ice.election.connect import state_folder
from ice.errors import LocalError
from ice.mission.identity import stream_id
from ice.patch.channels import Passwords
from ice.rallypoint.access import Patterns
from ice.security.files import make_folder
from ice.security.keyring import Keyring
from ice.streams.connect import Passport
from ice.streams.rallypoint import RallypointNetwork
from ice.telephony.call import Timing
from ice.telephony.dial_in import DialIn, Key
from ice.telephony.envelope import Envelopes
from ice.telephony.lobby import Lobby
from ice.telephony.lobby_room import Place, place_of
from ice.telephony.loopback_trunk import LoopbackTrunk
from ice.telephony.plan import NumberPlan, Rule
from ice.telephony.post import Post
from ice.telephony.records import RecordStore
from ice.telephony.seams import MakeTrunk, Rules
from ice.telephony.service import Gateway

RECORDS: Final = "calls.db"
MAX_CODE_FILE: Final = 256  # 16 digits, and room for an editor's line end


def plan_of(settings: NumberSettings) -> NumberPlan:
    """The number plan of a configuration. Raises :class:`LocalError` for a number that is none, and two people of one number in its normal form."""
    bare = NumberPlan(
        settings.country,
        settings.national,
        settings.international,
        settings.short_digits,
        settings.emergency,
        feature_codes=settings.feature_codes,
    )
    owners: dict[str, UUID] = {}
    shown: dict[UUID, str] = {}
    for user in settings.users:
        number = _normal(bare, user.number, "gateway.numbers.users")
        if owners.setdefault(number, user.id) != user.id:
            raise LocalError(
                f"gateway.numbers.users: {user.number} is the number of {owners[number]} already"
            )
        shown.setdefault(user.id, user.shown or number)
    rules = tuple(Rule(rule.allow, rule.users, rule.numbers) for rule in settings.rules)
    return NumberPlan(
        settings.country,
        settings.national,
        settings.international,
        settings.short_digits,
        settings.emergency,
        rules,
        settings.otherwise == "allow",
        settings.feature_codes,
        settings.caller,
        MappingProxyType(shown),
        MappingProxyType(owners),
    )


def rules_of(settings: GatewaySettings) -> Rules:
    """What a reload may change. Raises as :func:`plan_of`."""
    timing = Timing(ring_s=settings.ring_s, longest_s=settings.longest_s)
    return Rules(plan_of(settings.numbers), timing, settings.calls, settings.calls_per_user)


def trunk_of(settings: TrunkSettings, reactor: Any) -> MakeTrunk:
    """What makes a trunk. Raises :class:`LocalError` where a password or a certificate cannot be used."""
    return lambda ears: LoopbackTrunk(settings.name, reactor, ears, rate=settings.rate)


def records_of(settings: GatewaySettings, folder: Path, unix_s: float) -> RecordStore | None:
    """The file of call records; None where none are kept. Raises :class:`LocalError` where it cannot be written."""
    if not settings.records.keep_days:
        return None
    path = settings.records.file
    if path is None:
        make_folder(folder)
        path = folder / RECORDS
    return RecordStore(path, unix_s, max_records=settings.records.keep, max_days=settings.records.keep_days)


def channels_of(config: Config) -> tuple[tuple[DialIn, ...], Mapping[str, Place]]:
    """The numbers that lead into channels, and these channels by stream.

    Raises :class:`LocalError` for a mission or a code that cannot be read, and for a channel that nobody describes.
    """
    settings = config.gateway
    wanted = {each.channel for each in settings.dial_in}
    passwords = Passwords(settings.password_file, "gateway.password_file")
    places: dict[str, Place] = {}
    names: dict[str, str] = {}
    for path in settings.missions if wanted else ():
        for group in passwords.open(path).mission.groups:
            stream = stream_id(group.id)
            if stream in places or not wanted & {stream, group.name}:
                continue
            try:
                keyring = None
                if group.crypto_password is not None:
                    keyring = Keyring.of(
                        group.crypto_password, group.cipher, salt=config.traffic.salt(), rekey=group.rekey
                    )
                places[stream] = place_of(group, stream, keyring=keyring)
            except LocalError as error:
                raise LocalError(f"{path}: group {group.name!r}: {error}") from None
            names.setdefault(group.name, stream)
    clear = Patterns(settings.clear)
    plan = plan_of(settings.numbers)
    dial_ins = []
    for each in settings.dial_in:
        stream = each.channel if each.channel in places else names.get(each.channel, each.channel)
        if stream not in places:
            if not clear.fit(stream):
                raise LocalError(
                    f"gateway.dial_in: no mission describes the channel {each.channel!r}, which may be encrypted: name its mission in gateway.missions, "
                    "or the stream in gateway.clear if it is in clear"
                )
            places[stream] = Place.plain(stream)
        dial_ins.append(_dial_in(each, stream, plan))
    return tuple(dial_ins), MappingProxyType(places)


def _dial_in(settings: DialInSettings, stream: str, plan: NumberPlan) -> DialIn:
    if settings.number in plan.owners:
        raise LocalError(
            f"gateway.dial_in: {settings.number} is the number of {plan.owners[settings.number]} already"
        )
    return DialIn(
        settings.number,
        stream,
        "" if settings.code_file is None else read_code(settings.code_file),
        settings.trunk,
        Key(settings.key),
        settings.priority,
        settings.max_talk_s,
        settings.alias,
    )


def read_code(path: Path) -> str:
    """The access code in a file; raises :class:`LocalError`, without what stands there."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CODE_FILE)
    except OSError as error:
        raise LocalError(f"{path}: the access code cannot be read: {error.strerror or error}") from None
    code = text.strip()
    if not code.isdigit() or not 4 <= len(code) <= 16:
        raise LocalError(f"{path}: expected an access code of 4 to 16 digits, and nothing else")
    return code.decode()


def gateway_of(
    loaded: Loaded,
    reactor: Any,
    network: RallypointNetwork,
    passport: Passport,
    group_id: str,
    *,
    elected: bool,
    environ: Mapping[str, str] = os.environ,
    wall: Callable[[], float] = time.time,
) -> Gateway:
    """The gateway that a configuration describes, not started yet, with its lobby. Raises :class:`LocalError` with what cannot be used."""
    settings = loaded.config.gateway
    rules = rules_of(settings)
    dial_ins, places = channels_of(loaded.config)
    tls = passport.tls
    post = Post(Envelopes(tls.credentials, lambda: tls.trust), wall())
    gateway = Gateway(
        reactor,
        network,
        group_id,
        post,
        rules,
        [trunk_of(each, reactor) for each in settings.all_trunks],
        records=records_of(settings, state_folder(environ), wall()),
        elected=elected,
        wall=wall,
    )
    if dial_ins:
        gateway.lobby = Lobby(
            reactor,
            network,
            dial_ins,
            places,
            gateway.board.order,
            ask=gateway.ask,
            sound=gateway.say,
            record=gateway.record,
            rate_of=gateway.rate_of,
            normal=gateway.normal,
            free=gateway.free,
            wall=wall,
            timing=rules.timing,
        )
    return gateway


def _normal(plan: NumberPlan, number: str, key: str) -> str:
    normal = plan.normal(number)
    if normal is None:
        raise LocalError(
            f"{key}: {number} is no telephone number here; write it with + and the country, or as a short number of the site"
        )
    return normal
