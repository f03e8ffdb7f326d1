"""What the configuration wants of a gateway: its numbers and rules, and the channels that have numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final
from uuid import UUID

from ice.config.gateway import DialInSettings, GatewaySettings, NumberSettings
from ice.config.schema import Config
from ice.errors import LocalError
from ice.mission.identity import stream_id
from ice.patch.channels import Passwords
from ice.rallypoint.access import Patterns
from ice.security.keyring import Keyring
from ice.telephony.call import Timing
from ice.telephony.dial_in import DialIn, Key
from ice.telephony.lobby_room import Place, place_of
from ice.telephony.plan import NumberPlan, Rule, Rules

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


def _normal(plan: NumberPlan, number: str, key: str) -> str:
    normal = plan.normal(number)
    if normal is None:
        raise LocalError(
            f"{key}: {number} is no telephone number here; write it with + and the country, or as a short number of the site"
        )
    return normal
