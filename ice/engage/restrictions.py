"""Which groups a Rallypoint admits, as ``[[rallypoint.access]]``; which multicast addresses, as reflector rules that are on or off.

A restriction that cannot be said here never becomes an open door. Where a list of groups cannot be expressed, everything it might
have been about is closed, and the report says so: an administrator then opens what shall be open, knowing it.

Lists that allow are read narrowly and lists that deny widely: how the original applies its expressions (to all of an id, or to a
part of it) is not published, so each is read the way that admits less. Expressions are translated when they consist of letters, ``.``,
``.*``, ``.+``, ``^`` and ``$``; they are never run, since a stranger's expression can keep a machine busy for years.
"""

import re
from collections.abc import Iterator

import attrs

from ice.engage.account import Page, Place, Row, Why
from ice.engage.places import stream_name
from ice.link.message import MAX_STREAM_ID
from ice.net.addresses import Address

ACCESS = ("rallypoint", "access")
OURS = "rallypoint.access"
PER_RULE = 10_000  # patterns that one rule of ours may have
OFF, ALLOW, DENY = 0, 1, 2
LITERAL, PATTERN = 0, 1
_NOT_HERE = {
    2: "access tags, which streams do not have here",
    3: "serial numbers of certificates, which are made anew here",
    4: "fingerprints of certificates, which are made anew here",
    5: "subjects of certificates, which are made anew here",
    6: "issuers of certificates, which are made anew here",
}
_STEP = (
    "write [[rallypoint.access]] rules by people's names for what the import closed "
    "(docs/configuration.md): {what}"
)
_PART = re.compile(r"\.\*|\.\+|\.|\\[^A-Za-z0-9]|[^\\.^$*+?()\[\]{}|]")


@attrs.frozen
class _Rule:
    """A rule of ours to be."""

    at: Place
    patterns: tuple[str, ...]
    allow: bool
    path: str = ""


@attrs.frozen
class _List:
    """What one restriction list says; ``patterns`` None: it cannot be said here, for the reason."""

    type: int
    patterns: tuple[str, ...] | None
    reason: str = ""


def group_access(page: Page) -> None:
    """Account for the three keys about groups in a Rallypoint's configuration, and make the rules that they amount to."""
    account = page.account
    strict = page.whole("groupRestrictionAccessPolicyType", 0, 1) == 1
    page.taken("groupRestrictionAccessPolicyType", OURS, "strict" if strict else "permissive")
    rules = list(_per_group(page))
    general = _general(page)
    open_to_others = not strict and (general is None or general.type in (OFF, DENY))
    if general is not None and general.patterns is None:
        open_to_others = False
        account.step(_STEP.format(what="every stream"))
    elif general is not None and general.type != OFF and general.patterns:
        rules.append(_Rule(("groupRestrictions",), general.patterns, general.type == ALLOW))
    if not rules and open_to_others:
        return
    if open_to_others:
        rules.append(_Rule(("groupRestrictions",), ("*",), True))
    elif not rules:  # without any rule all may, so that nobody may wants one
        rules.append(_Rule(("groupRestrictions",), ("*",), False))
    for rule in rules:
        for start in range(0, len(rule.patterns), PER_RULE):
            values: dict[str, object] = {"streams": list(rule.patterns[start : start + PER_RULE])}
            if not rule.allow:
                values["allow"] = False
            account.rows.append(Row(ACCESS, values, rule.at, rule.path or "groupRestrictions"))


def _general(page: Page) -> _List | None:
    inner = page.page("groupRestrictions")
    if inner is None:
        return None
    found = _list(inner)
    if found.type == OFF:
        _settle(inner, "", "switched off (type 0)")
    elif found.patterns is None:
        _settle(inner, OURS, f"{found.reason}: every stream is closed instead", changed=True)
    else:
        _settle(inner, OURS, found.reason, changed=bool(found.reason))
    inner.close()
    return found


def _per_group(page: Page) -> Iterator["_Rule"]:
    """The rules of ``extendedGroupRestrictions``: for each stream, whether it may be joined."""
    for entry in page.pages("extendedGroupRestrictions") or ():
        stream = stream_name(entry.text("id") or "")
        if _unfit(stream):
            entry.left("id", Why.WRONG, "no id of a stream: nothing is restricted by it")
            entry.left("restrictions", Why.WRONG, "they stand with no id of a stream")
            entry.close()
            continue
        entry.taken("id", OURS)
        allowed: bool | None = None
        for inner in entry.pages("restrictions") or ():
            found = _list(inner)
            if found.type == OFF:
                _settle(inner, "", "switched off (type 0)")
            elif found.patterns is None or any("*" in each or "?" in each for each in found.patterns):
                reason = found.reason or "an expression, which is not run here"
                _settle(inner, OURS, f"{reason}: the stream is closed instead", changed=True)
                page.account.step(_STEP.format(what="the streams that rules with allow = false name"))
                allowed = False
            else:
                _settle(inner, OURS, "")
                passes = (stream in found.patterns) == (found.type == ALLOW)
                allowed = passes and allowed is not False
            inner.close()
        entry.close()
        if allowed is not None:
            yield _Rule(entry.at, (stream,), allowed, entry.path)


def _list(page: Page) -> _List:
    """What a restriction list says, and nothing settled but what is unusable."""
    type = page.whole("type", 0, 2)
    if type is None:
        if "type" not in page:
            return _List(OFF, ())
        return _List(ALLOW, None, "what kind of list this is cannot be told")
    if type == OFF:
        return _List(OFF, ())
    elements_type = page.whole("elementsType", 0, 6) if "elementsType" in page else LITERAL
    texts = page.strings("elements") if "elements" in page else []
    if elements_type is None or texts is None:
        return _List(type, None, "its elements cannot be read")
    if elements_type not in (LITERAL, PATTERN):
        return _List(type, None, f"it is about {_NOT_HERE[elements_type]}")
    patterns: dict[str, None] = {}
    reason = ""
    for text in texts:
        found = _literal(text, type) if elements_type == LITERAL else _pattern(text, type)
        if found is None:
            return _List(type, None, "one of its elements cannot be said with * and ?")
        if found and elements_type == PATTERN:
            reason = "expressions became patterns"
        if found:
            patterns[found] = None
    return _List(type, tuple(patterns), reason)


def _settle(page: Page, ours: str, text: str, *, changed: bool = False) -> None:
    for key in ("type", "elementsType", "elements"):
        if changed:
            page.changed(key, ours, text)
        else:
            page.taken(key, ours, text)


def _literal(text: str, type: int) -> str | None:
    """A group's id as a pattern; None where it would allow more than it says."""
    stream = stream_name(text)
    if not stream:
        return ""
    if _unfit(stream) or (type == ALLOW and ("*" in stream or "?" in stream)):
        return None
    return stream


def _pattern(text: str, type: int) -> str | None:
    """An expression as a pattern: all of an id where it allows, any part of it where it denies; None where it cannot be said."""
    start, end = text.startswith("^"), text.endswith("$") and not text.endswith("\\$")
    body = text[1 if start else 0 : -1 if end else None]
    made: list[str] = []
    position = 0
    while position < len(body):
        match = _PART.match(body, position)
        if match is None:
            return None
        part = match[0]
        position = match.end()
        if part.startswith("."):
            made.append({".*": "*", ".+": "?*", ".": "?"}[part])
        elif part in ("\\{", "\\}"):
            continue  # ids have no braces here
        elif part[-1] in "*?":
            return None
        else:
            made.append(part[-1])
    pattern = "".join(made).lower()
    if type == DENY:
        pattern = ("" if start else "*") + pattern + ("" if end else "*")
    pattern = re.sub(r"\*+", "*", pattern)
    return None if pattern and _unfit(pattern) else pattern


def _unfit(stream: str) -> bool:
    """Not to be written as the pattern of a stream."""
    return (
        not stream
        or not stream.isprintable()
        or len(stream.encode("utf-8", "replace")) > MAX_STREAM_ID
        or "\ufffd" in stream
        or any("\ud800" <= c <= "\udfff" for c in stream)
    )


# -- multicast addresses


@attrs.frozen
class MulticastRule:
    """Which pairs of addresses may be used: those listed (``allow``), or all others."""

    allow: bool
    elements: tuple[tuple[tuple[str, int] | None, tuple[str, int] | None], ...]

    def admits(self, rx: Address, tx: Address) -> bool:
        """Whether a reflector with these addresses may run."""
        if self.allow:
            return any(_fits(a, rx) and _fits(b, tx) and (a or b) for a, b in self.elements)
        return not any((a and _fits(a, rx)) or (b and _fits(b, tx)) for a, b in self.elements)


def _fits(element: tuple[str, int] | None, address: Address) -> bool:
    return element is None or (element[0] == address.host and element[1] in (0, address.port))


def multicast_rule(value: object) -> MulticastRule | None:
    """What ``multicastRestrictions`` says, or None where it restricts nothing; what cannot be read admits nothing."""
    if not isinstance(value, dict) or value.get("type") in (None, OFF):
        return None
    closed = MulticastRule(True, ())
    type, elements = value.get("type"), value.get("elements", [])
    if isinstance(type, bool) or type not in (ALLOW, DENY) or not isinstance(elements, list):
        return closed
    pairs = []
    for element in elements:
        if not isinstance(element, dict):
            return closed
        one = (_bare(element.get("rx")), _bare(element.get("tx")))
        if one == (None, None) or any(each == ("", 0) for each in one):
            return closed
        pairs.append(one)
    return MulticastRule(type == ALLOW, tuple(pairs))


def _bare(value: object) -> tuple[str, int] | None:
    """An address and port as they stand, None where there is none, ``("", 0)`` where it cannot be read."""
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("address"), str):
        return ("", 0)
    port = value.get("port", 0)
    if isinstance(port, bool) or not isinstance(port, int):
        return ("", 0)
    host = Address(value["address"].strip(), 0)
    return (str(host.ip) if host.ip is not None else "", port)
