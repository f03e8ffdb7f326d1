"""``[gateway]``: call managers, numbers, dial-in and limits of ``ice-gateway``; ``[telephone]``: which gateway a person's own telephone writes to.

Trunks are asked in the order of the file. Numbers are compared in their normal form (:mod:`ice.telephony.plan`); so are they here, as far as text allows: two people of one number are refused before anybody calls.
Passwords and access codes are files of their own. AudioSocket, by which a call manager brings sound, is clear text: it is taken on this machine alone unless addresses are listed.
"""

import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ice.config.control import ControlSettings
from ice.config.fields import (
    RESTART,
    FileName,
    Listed,
    OptionalFileName,
    OptionalListenAddress,
    Section,
    Text,
    network_text,
    within_bytes,
)
from ice.config.groups import DialledAddress, IdField
from ice.config.patches import MAX_CLEAR, MAX_MISSIONS
from ice.config.reflector import StreamId
from ice.net.addresses import Address, AddressError, parse_address
from ice.printable import printable

MAX_TRUNKS: Final = 16
MAX_DIAL_INS: Final = 256
MAX_USERS: Final = 10_000
MAX_RULES: Final = 1_000
MAX_PATTERNS: Final = 1_000
MAX_EMERGENCY: Final = 32
MAX_NUMBER: Final = 64  # as call messages carry it
MAX_RECORDS: Final = 10_000_000  # some 4 GB
RATES: Final = {"slin": 8_000, "slin12": 12_000, "slin16": 16_000, "slin24": 24_000, "slin48": 48_000}
LOOPBACK: Final = "loopback"

_DIGITS: Final = re.compile(r"[0-9]*\Z")
_KEYS: Final = re.compile(r"\+?[0-9*#]+\Z")
_SEPARATORS: Final = re.compile(r"[\s().\-/]+")
_COUNTRY: Final = re.compile(r"([1-9][0-9]{0,2})?\Z")
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


def _digits(value: str) -> str:
    if not _DIGITS.match(value):
        raise PydanticCustomError(
            "digits", 'expected digits alone, found "{shown}"', {"shown": printable(value, 40)}
        )
    return value


def _country(value: str) -> str:
    if not _COUNTRY.match(value):
        raise PydanticCustomError(
            "country",
            'expected the code of a country without plus ("49"), or nothing, found "{shown}"',
            {"shown": printable(value, 40)},
        )
    return value


def _telephone_number(value: str) -> str:
    """Digits and keys, with or without a plus; what people write between them for the eye goes."""
    bare = _SEPARATORS.sub("", value)
    if not _KEYS.match(bare):
        raise PydanticCustomError(
            "telephone_number",
            'expected a telephone number ("+49 30 901820", "4711"), found "{shown}"',
            {"shown": printable(value, 40)},
        )
    return bare


def _word(value: str) -> str:
    if not _WORD.match(value):
        raise PydanticCustomError(
            "word",
            'expected letters, digits, "-", "_" and dots, at most 64, found "{shown}"',
            {"shown": printable(value, 40)},
        )
    return value


Digits = Annotated[str, Field(max_length=16), AfterValidator(_digits)]
TelephoneNumber = Annotated[
    str, Field(min_length=1, max_length=MAX_NUMBER), AfterValidator(_telephone_number)
]
"""A telephone number, without what stands between its digits for the eye."""

OptionalTelephoneNumber = Annotated[
    str, Field(max_length=MAX_NUMBER), AfterValidator(lambda value: _telephone_number(value) if value else "")
]
Word = Annotated[str, AfterValidator(_word)]
OptionalId = Annotated[IdField | None, BeforeValidator(lambda value: None if value == "" else value)]
Pattern = Annotated[Text, within_bytes(256), Field(min_length=1)]


class GatewayHttpSettings(Section):
    """The gateway's status pages: /healthz /readyz /metrics /status."""

    listen: Annotated[OptionalListenAddress, RESTART] = Field(
        Address("127.0.0.1", 7483),
        description="Where the status pages are served, without encryption; empty: not at all.",
    )


class NumberRule(Section):
    """Who may, or may not, call what: the first rule that fits decides. Emergency numbers ask no rule."""

    allow: bool = Field(True, description="Set to false, the rule forbids.")
    users: Listed[Pattern] = Field(
        (),
        max_length=MAX_PATTERNS,
        description="Patterns (* ?) on the common name or UUID of who calls; empty: everybody.",
    )
    numbers: Listed[Pattern] = Field(
        (),
        max_length=MAX_PATTERNS,
        description='Patterns (* ?) on the number in its normal form: ["+49900*", "4???"]; empty: every number.',
    )


class UserNumber(Section):
    """A person's own telephone number: calls to it ring there, and it is shown to whom he calls."""

    id: IdField = Field(
        description="The UUID in the person's certificate (ice pki show FILE tells it).",
        examples=["2c9e7d10-4b5f-4d3a-8e61-7f0a1b2c3d4e"],
    )
    number: TelephoneNumber = Field(
        description="The number, as people write it; the call manager must lead it here.", examples=["4711"]
    )
    shown: OptionalTelephoneNumber = Field(
        "", description="Number that the called sees instead; empty: the number above."
    )


class NumberSettings(Section):
    """The site's numbers: how they are written, and who may call which."""

    country: Annotated[str, AfterValidator(_country)] = Field(
        "",
        description='Code of the own country, without plus ("49"); empty: numbers of the own country are dialled like foreign ones.',
    )
    national: Digits = Field("0", description="Dialled before a number of the own country.")
    international: Digits = Field(
        "00", min_length=1, description="Dialled before a number of another country; + does the same."
    )
    short_digits: int = Field(
        5,
        ge=0,
        le=15,
        description="Digits that the site's own numbers have at most; they are left as they are.",
    )
    emergency: Listed[Annotated[Digits, Field(min_length=1)]] = Field(
        ("112",),
        max_length=MAX_EMERGENCY,
        description="Numbers that everybody may always call, whatever the rules and the limits.",
    )
    feature_codes: bool = Field(False, description="Pass numbers such as *21# on to the call manager.")
    caller: OptionalTelephoneNumber = Field(
        "", description="Number that the called sees of people without a number of their own; empty: none."
    )
    otherwise: Literal["allow", "forbid"] = Field(
        "allow", description="What holds for a call that no rule fits: allow or forbid."
    )
    rules: Listed[NumberRule] = Field((), max_length=MAX_RULES)
    users: Listed[UserNumber] = Field((), max_length=MAX_USERS)

    @field_validator("users")
    @classmethod
    def _one_owner(cls, value: tuple[UserNumber, ...]) -> tuple[UserNumber, ...]:
        owners: dict[str, UUID] = {}
        for index, user in enumerate(value):
            if owners.setdefault(user.number, user.id) != user.id:
                raise PydanticCustomError(
                    "twice",
                    "{number} is the number of {owner} already",
                    {"number": user.number, "owner": str(owners[user.number]), "below": index},
                )
        return value


class TrunkSettings(Section):
    """A call manager; the first that is up is asked, and the next where it cannot. Without any: the built-in one."""

    name: Annotated[Word, RESTART] = Field(
        description="What records, pages and messages call it.", examples=["asterisk-1"]
    )
    kind: Annotated[Literal["asterisk", "loopback"], RESTART] = Field(
        "asterisk",
        description="asterisk, or loopback: the built-in call manager to try everything with (numbers 100 to 104).",
    )
    format: Annotated[Literal["slin", "slin12", "slin16", "slin24", "slin48"], RESTART] = Field(
        "slin16",
        description="Sound to and from the call manager: slin has 8 kHz (a telephone), slin12, slin16, slin24 and slin48 what they say.",
    )
    url: Annotated[Text, within_bytes(256), RESTART] = Field(
        "https://localhost:8089",
        description="Where Asterisk serves ARI; http only on this machine. The path /ari is added.",
    )
    authority: Annotated[OptionalFileName, RESTART] = Field(
        None, description="Certificates that vouch for Asterisk's own (PEM); empty: those of the system."
    )
    user: Annotated[Word, RESTART] = Field("ice", description="Name of the ARI user.")
    password_file: Annotated[FileName, RESTART] = Field(
        Path("asterisk.password"), description="File with that user's password; nobody else may read it."
    )
    app: Annotated[Word, RESTART] = Field(
        "ice", description="Name of the Stasis application; calls that the dial plan leads there are ours."
    )
    dial: Annotated[Text, within_bytes(256), RESTART] = Field(
        "PJSIP/{number}@provider", description="How Asterisk reaches a number; {number} stands for it."
    )
    listen: Annotated[OptionalListenAddress, RESTART] = Field(
        None,
        description="Where AudioSocket connections of Asterisk are taken, in clear; empty: a free port of 127.0.0.1.",
    )
    advertise: Annotated[DialledAddress, RESTART] = Field(
        None,
        description="Address that Asterisk is told for them, where it must dial another; empty: that of listen.",
    )
    allow: Annotated[Listed[Annotated[Text, AfterValidator(network_text)]], RESTART] = Field(
        (),
        max_length=256,
        description='Networks and addresses beside this machine whose AudioSocket connections are taken: ["192.0.2.7"].',
    )

    @property
    def rate(self) -> int:
        """The sampling rate of its lines, Hz."""
        return RATES[self.format]

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if "@" in value:  # before anything repeats what stands there: it is a password
            raise PydanticCustomError(
                "url", "expected https://host:8089; user and password have keys of their own"
            )
        try:
            parts = urlsplit(value)
            host = parse_address(parts.netloc, 443)
        except (AddressError, ValueError) as error:
            raise PydanticCustomError(
                "url", "{why}", {"why": f"expected https://host:8089: {error}"}
            ) from None
        if parts.query or parts.fragment:
            raise PydanticCustomError("url", "expected https://host:8089, and nothing behind a ? or #")
        if parts.scheme != "https" and not (parts.scheme == "http" and host.is_loopback):
            raise PydanticCustomError(
                "url",
                'expected https://…, found "{shown}": http would show the password to the network (it is taken on this machine alone)',
                {"shown": printable(value, 40)},
            )
        return value.rstrip("/").removesuffix("/ari")

    @field_validator("dial")
    @classmethod
    def _dial(cls, value: str) -> str:
        if value.count("{number}") != 1 or "{" in value.replace("{number}", "") or "/" not in value:
            raise PydanticCustomError(
                "dial",
                'expected an endpoint of Asterisk with {number} once: "PJSIP/{number}@provider", found "{shown}"',
                {"shown": printable(value, 60), "number": "{number}"},
            )
        return value

    @field_validator("allow")
    @classmethod
    def _reached(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        listen: Address | None = info.data.get("listen")
        if listen is not None and not listen.is_loopback and not value:
            raise PydanticCustomError(
                "allow",
                "AudioSocket is in clear: list the addresses of the call manager whose connections {listen} takes",
                {"listen": str(listen), "also": "listen"},
            )
        return value


class DialInSettings(Section):
    """A number that leads into a channel: who calls it is asked for its code, hears the channel, and talks on it."""

    number: Annotated[TelephoneNumber, RESTART] = Field(
        description="The number that is dialled, as the call manager says it.", examples=["500"]
    )
    trunk: Annotated[Annotated[str, AfterValidator(lambda value: _word(value) if value else "")], RESTART] = (
        Field(
            "", description="Call manager by which the calls come, and go out from the channel; empty: any."
        )
    )
    channel: Annotated[StreamId, RESTART] = Field(
        description="Id of the channel's stream, or the name of a group of gateway.missions.",
        examples=["north"],
    )
    code_file: Annotated[OptionalFileName, RESTART] = Field(
        None, description="File with the access code, 4 to 16 digits; empty: everybody who calls is let in."
    )
    key: Annotated[Literal["keypad", "voice"], RESTART] = Field(
        "keypad", description="How callers talk: keypad (* to talk, # to let go) or voice (by speaking)."
    )
    priority: Annotated[int, RESTART] = Field(
        0, ge=0, le=255, description="Priority of callers on the channel; 255 is the highest."
    )
    max_talk_s: Annotated[float, RESTART] = Field(
        0.0, ge=0, le=86_400, description="Longest burst of a caller; 0: as long as the channel allows."
    )
    alias: Annotated[Text, within_bytes(64), RESTART] = Field(
        "",
        description="Name that listeners see of callers, of which 16 bytes go; {number}, {name} and {last} (three digits) are the caller's; empty: the number.",
    )


class CallRecordSettings(Section):
    """Call records: who called whom, when, and why it ended. Nothing of what was said is ever kept."""

    file: Annotated[OptionalFileName, RESTART] = Field(
        None, description="File of the records (SQLite); empty: calls.db in the service's state folder."
    )
    keep_days: Annotated[float, RESTART] = Field(
        366.0,
        ge=0,
        le=36_600,
        description="Records are deleted after this many days; 0: none are kept at all.",
    )
    keep: Annotated[int, RESTART] = Field(
        100_000, ge=1, le=MAX_RECORDS, description="Records are deleted, the oldest first, beyond this many."
    )


class GatewaySettings(Section):
    """The telephony gateway of this machine (twistd ice-gateway)."""

    calls: int = Field(
        30,
        ge=1,
        le=1_024,
        description="Calls at one time; a call to an emergency number is one more. Each sends 50 packets a second to the Rallypoint (rallypoint.limits.packets_per_s).",
    )
    calls_per_user: int = Field(
        4,
        ge=1,
        le=1_024,
        description="Calls at one time that one person has placed, those out of channels included.",
    )
    ring_s: float = Field(60.0, ge=5, le=600, description="A call that nobody answers ends after this long.")
    longest_s: float = Field(
        14_400.0, ge=10, le=604_800, description="Longest call, from its answer; then it is ended."
    )
    missions: Annotated[Listed[FileName], RESTART] = Field(
        (),
        max_length=MAX_MISSIONS,
        description="Mission files that say how the channels of dial-in are coded and sealed; a channel of no mission has to be named in gateway.clear.",
    )
    password_file: Annotated[OptionalFileName, RESTART] = Field(
        None,
        description="File with the passwords of missions that are sealed, one a line; nobody else may read it. Empty: none is sealed.",
    )
    prompts: Annotated[OptionalFileName, RESTART] = Field(
        None,
        description="Folder with what callers are told (WAV files), in a language of your own; empty: ours, in English.",
    )
    clear: Annotated[Listed[Pattern], RESTART] = Field(
        (),
        max_length=MAX_CLEAR,
        description="Patterns (* ?) of streams of no mission that are in clear (Opus, half duplex): what callers say goes out on them for everybody to hear.",
    )
    control: ControlSettings = Field(default_factory=ControlSettings)
    http: GatewayHttpSettings = Field(default_factory=GatewayHttpSettings)
    numbers: NumberSettings = Field(default_factory=NumberSettings)
    records: CallRecordSettings = Field(default_factory=CallRecordSettings)
    trunks: Annotated[Listed[TrunkSettings], RESTART] = Field((), max_length=MAX_TRUNKS)
    dial_in: Annotated[Listed[DialInSettings], RESTART] = Field((), max_length=MAX_DIAL_INS)

    @property
    def all_trunks(self) -> tuple[TrunkSettings, ...]:
        """The trunks in order: those of the file, or the built-in call manager where it names none."""
        return self.trunks or (TrunkSettings(name=LOOPBACK, kind=LOOPBACK),)

    @field_validator("trunks")
    @classmethod
    def _distinct(cls, value: tuple[TrunkSettings, ...]) -> tuple[TrunkSettings, ...]:
        seen: dict[object, int] = {}
        for index, trunk in enumerate(value):
            places: dict[object, str] = {trunk.name: f'the name "{trunk.name}"'}
            if trunk.kind != LOOPBACK:
                places[trunk.url, trunk.app] = f"the application {trunk.app} of {trunk.url}"
                if trunk.listen is not None:
                    places[trunk.listen] = str(trunk.listen)
            for place, what in places.items():
                if seen.setdefault(place, index) != index:
                    raise PydanticCustomError(
                        "twice",
                        "trunk {number} has {what} already",
                        {"number": seen[place] + 1, "what": what, "below": index},
                    )
        return value

    @field_validator("dial_in")
    @classmethod
    def _reachable(
        cls, value: tuple[DialInSettings, ...], info: ValidationInfo
    ) -> tuple[DialInSettings, ...]:
        trunks = {trunk.name for trunk in info.data.get("trunks", ())} or {LOOPBACK}
        numbers = info.data.get("numbers")
        owners = {user.number: str(user.id) for user in numbers.users} if numbers else {}
        for index, each in enumerate(value):
            if each.trunk and each.trunk not in trunks:
                raise PydanticCustomError(
                    "trunk",
                    'there is no trunk "{trunk}"; there are {names}',
                    {"trunk": each.trunk, "names": ", ".join(sorted(trunks)), "below": index},
                )
            if each.number in owners:
                raise PydanticCustomError(
                    "twice",
                    "{number} is the number of {owner} already",
                    {"number": each.number, "owner": owners[each.number], "below": index},
                )
            for before in value[:index]:
                if each.number == before.number and (
                    each.trunk == before.trunk or not (each.trunk and before.trunk)
                ):
                    raise PydanticCustomError(
                        "twice",
                        "{number} leads to {channel} already",
                        {"number": each.number, "channel": before.channel[:40], "below": index},
                    )
        return value


class TelephoneSettings(Section):
    """A person's own telephone (ice phone, ice call, ice answer)."""

    group: Annotated[OptionalId, RESTART] = Field(
        None,
        description="Id of the gateways' server group, or of the one gateway's certificate where it is alone; empty: no telephone.",
    )
