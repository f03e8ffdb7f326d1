"""A site's numbers: how they are written, who may call which, and whose they are.

**Normal form.** What a person keys in (``(030) 90-18 20``, ``0049 30…``, ``+49 30…``) becomes one form: E.164 with a plus for numbers of the public network, plain digits for the site's own short ones, feature codes
(``*21#``) as they are. Rules, records and glare compare normal forms only.

**Rules.** The first rule whose people and numbers fit decides; where none fits, the plan's own word does. Patterns are shell patterns (``+49900*``); people are named by common name or UUID.

**Emergency numbers always pass**: before rules, before limits, and as they were keyed in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final
from uuid import UUID

import attrs

from ice.errors import LocalError
from ice.security.certificates import Identity
from ice.telephony.call import Timing
from ice.telephony.causes import Cause
from ice.telephony.messages import MAX_NUMBER
from ice.telephony.switchboard import Allowed

MAX_E164: Final = 15  # digits, ITU-T E.164 §6.1
MAX_RULES: Final = 1_000
_SEPARATORS: Final = re.compile(r"[\s().\-/\u00a0\u2010-\u2015]+")
_DIGITS: Final = re.compile(r"[0-9]+\Z")
_FEATURE: Final = re.compile(r"[*#][0-9*#]+\Z")
_COUNTRY: Final = re.compile(r"([1-9][0-9]{0,2})?\Z")


@attrs.frozen
class Rule:
    """Who may, or may not, call what. ``users`` and ``numbers`` are patterns; none stands for everybody, or every number."""

    allow: bool
    users: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    def fits(self, names: Collection[str], number: str) -> bool:
        """Whether this rule is about such a call of somebody with these names."""
        by_user = not self.users or any(fnmatchcase(name, each) for each in self.users for name in names)
        return by_user and (not self.numbers or any(fnmatchcase(number, each) for each in self.numbers))


@attrs.frozen
class NumberPlan:
    """The numbers of a site; immutable, a :class:`~ice.telephony.switchboard.Plan`.

    ``country`` is the code of its country without plus (``49``; empty: numbers of the own country are dialled like foreign ones), ``national`` and ``international`` what is dialled before national and foreign numbers (``0``, ``00``); ``short_digits`` how
    many digits the site's own numbers have at most; ``emergency`` numbers pass always. ``owners`` says whose number is dialled, in normal form; ``shown`` which number the called sees of a person, by UUID, else
    ``caller``. ``feature_codes``: whether ``*21#`` and the like are dialled at all. ``default``: what holds where no rule fits.

    Raises :class:`~ice.errors.LocalError` for what cannot be.
    """

    country: str = ""
    national: str = "0"
    international: str = "00"
    short_digits: int = 5
    emergency: tuple[str, ...] = ("112",)
    rules: tuple[Rule, ...] = ()
    default: bool = True
    feature_codes: bool = False
    caller: str = ""
    shown: Mapping[UUID, str] = MappingProxyType({})
    owners: Mapping[str, UUID] = MappingProxyType({})

    def __attrs_post_init__(self) -> None:
        if not _COUNTRY.match(self.country):
            raise LocalError(f"a country code has 1 to 3 digits and no plus, not {self.country!a}")
        for prefix in (self.national, self.international):
            if prefix and not _DIGITS.match(prefix):
                raise LocalError(f"a dialling prefix is digits, not {prefix!a}")
        if not self.international or not 0 <= self.short_digits <= MAX_E164 or len(self.rules) > MAX_RULES:
            raise LocalError(
                f"a number plan needs an international prefix, short numbers of at most {MAX_E164} digits and at most {MAX_RULES} rules"
            )
        for number in self.emergency:
            if not _DIGITS.match(number):
                raise LocalError(f"an emergency number is digits, not {number!a}")

    def normal(self, number: str) -> str | None:
        """The normal form of a number as somebody wrote it; ``None`` where it is none."""
        if len(number) > 4 * MAX_NUMBER:
            return None
        bare = _SEPARATORS.sub("", number.replace("(0)", "") if number.lstrip().startswith("+") else number)
        if bare in self.emergency:
            return bare
        if _FEATURE.match(bare):
            return bare if self.feature_codes and len(bare) <= MAX_NUMBER else None
        if bare.startswith("+"):
            return self._e164(bare[1:])
        if not bare.isascii() or not _DIGITS.match(bare):
            return None
        if bare.startswith(self.international):
            return self._e164(bare[len(self.international) :])
        if self.country and self.national and bare.startswith(self.national):
            return self._e164(self.country + bare[len(self.national) :])
        if len(bare) <= self.short_digits:
            return bare
        return self._e164(self.country + bare) if self.country and not self.national else None

    def _e164(self, digits: str) -> str | None:
        good = digits.isascii() and _DIGITS.match(digits) and not digits.startswith("0")
        return f"+{digits}" if good and 4 <= len(digits) <= MAX_E164 else None

    def outgoing(self, who: Identity, number: str) -> Allowed | Cause:
        """Whether somebody may call a number, in normal form, or why not."""
        return self.dialled((who.name, str(who.id)), number, self.shown.get(who.id, self.caller))

    def dialled(self, names: Collection[str], number: str, caller: str = "") -> Allowed | Cause:
        """The same for somebody with these names, whose number the called sees as ``caller``."""
        normal = self.normal(number)
        if normal is None:
            return Cause.INVALID_NUMBER
        if normal in self.emergency:
            return Allowed(normal, caller, urgent=True)
        rule = next((each for each in self.rules if each.fits(names, normal)), None)
        allowed = self.default if rule is None else rule.allow
        return Allowed(normal, caller) if allowed else Cause.FORBIDDEN

    def incoming(self, number: str, dialled: str) -> UUID | Cause:
        """Whose number was dialled, however the call manager writes it."""
        normal = self.normal(dialled)
        owner = self.owners.get(normal if normal is not None else dialled)
        return Cause.UNKNOWN_NUMBER if owner is None else owner


@attrs.frozen
class Rules:
    """What a reload may change: the numbers, the times of a call, and how many there may be."""

    plan: NumberPlan
    timing: Timing = attrs.field(factory=Timing)
    calls: int = 60
    calls_per_user: int = 4
