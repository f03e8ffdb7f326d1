"""Which streams a certificate may join: the access rules of the configuration, made ready for the question.

A pattern is matched against the whole text, case-sensitively: ``*`` stands for any run of characters (also none), ``?`` for
exactly one, everything else for itself. There are no character classes, since stream ids may contain brackets.

A rule is *for* listening, for talking or for both, and for the names and streams that its patterns fit. Listening and
talking are asked separately, and the first rule that is for the question decides it. Where there is no rule at all, all
may; where there are rules and none fits, nobody may. Stream ids that begin with ``__`` are for satellites only, before any rule, but for those by
which people telephone (:mod:`ice.telephony.streams`): these are everybody's, before any rule too, since the gateway decides who calls whom.
"""

import re
from collections.abc import Iterable

import attrs

from ice.link.message import Code
from ice.rallypoint.relay import Refusal
from ice.telephony.streams import person_may

RESERVED = "__"


class Pattern:
    """One pattern of ``*`` and ``?``.  Takes time linear in the text for each run between stars, whatever the text."""

    __slots__ = ("_any", "_first", "_last", "_length", "_middle")

    def __init__(self, text: str) -> None:
        first, *others = text.split("*")
        self._any = bool(others)
        self._first = _run(first)
        self._middle = [_run(run) for run in others[:-1] if run]
        self._last = _run(others[-1]) if others else _run("")
        self._length = len(others[-1]) if others else 0

    def fits(self, text: str) -> bool:
        """Whether the whole of ``text`` is what the pattern says."""
        if not self._any:
            return self._first.fullmatch(text) is not None
        begin = self._first.match(text)
        if begin is None:
            return False
        position = begin.end()
        for run in self._middle:  # the leftmost place leaves most room for the rest
            found = run.search(text, position)
            if found is None:
                return False
            position = found.end()
        end = len(text) - self._length
        return end >= position and self._last.fullmatch(text, end) is not None


def _run(text: str) -> re.Pattern[str]:
    return re.compile("".join("." if c == "?" else re.escape(c) for c in text), re.DOTALL)


class Patterns:
    """Several patterns; those without ``*`` and ``?`` cost one look-up together."""

    __slots__ = ("_exact", "_globs")

    def __init__(self, texts: Iterable[str]) -> None:
        texts = tuple(texts)
        self._exact = frozenset(text for text in texts if not ("*" in text or "?" in text))
        self._globs = tuple(Pattern(text) for text in texts if text not in self._exact)

    def fit(self, text: str) -> bool:
        """Whether any of them fits."""
        return text in self._exact or any(glob.fits(text) for glob in self._globs)


@attrs.frozen
class Rule:
    """One ``[[rallypoint.access]]`` table, ready to be asked."""

    name: Patterns
    streams: Patterns
    listen: bool = True
    talk: bool = True
    allow: bool = True

    @classmethod
    def of(
        cls, name: str, streams: Iterable[str], *, listen: bool = True, talk: bool = True, allow: bool = True
    ) -> "Rule":
        """A rule from its patterns as they are written."""
        return cls(Patterns((name,)), Patterns(streams), listen, talk, allow)


class Access:
    """All rules, in their order."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = tuple(rules)

    def of(self, name: str, id: str, *, satellite: bool) -> "Rights":
        """What the certificate with this common name and id (a UUID in its usual form) may do; ask once per link."""
        fitting = tuple(rule for rule in self._rules if rule.name.fit(name) or rule.name.fit(id))
        return Rights(fitting, bool(self._rules), name, id, satellite)


@attrs.frozen
class Rights:
    """The rules that are for one certificate."""

    rules: tuple[Rule, ...]
    restricted: bool
    name: str
    id: str
    satellite: bool

    def may_listen(self, stream_id: str) -> bool:
        """Whether it may hear the stream."""
        if self._reserved(stream_id):
            return person_may(stream_id, self.id).listen
        return self._decide(stream_id, [rule for rule in self.rules if rule.listen])

    def may_talk(self, stream_id: str) -> bool:
        """Whether it may talk on the stream."""
        if self._reserved(stream_id):
            return person_may(stream_id, self.id).talk
        return self._decide(stream_id, [rule for rule in self.rules if rule.talk])

    def refuses(self, stream_id: str, *, listen: bool, talk: bool) -> Refusal | None:
        """Why a JOIN with these wishes is not granted, or None."""
        if self._reserved(stream_id) and not any(person_may(stream_id, self.id)):
            return Refusal(Code.DENIED, f"streams that begin with {RESERVED} are for satellites")
        hears = self.may_listen(stream_id) if listen or not talk else True
        talks = self.may_talk(stream_id) if talk else True
        if hears and talks:
            return None
        if not hears and not talks:
            what = "neither listen nor talk"
        elif not hears:
            what = "not listen"
        else:
            what = "not talk"
        return Refusal(
            Code.DENIED, f"'{self.name}' may {what} on '{stream_id}'; ask the site's administrator"
        )

    def _reserved(self, stream_id: str) -> bool:
        return stream_id.startswith(RESERVED) and not self.satellite

    def _decide(self, stream_id: str, rules: Iterable[Rule]) -> bool:
        for rule in rules:
            if rule.streams.fit(stream_id):
                return rule.allow
        return not self.restricted
