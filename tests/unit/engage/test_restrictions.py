"""Restrictions become access rules, and whatever cannot be said becomes a door that is shut."""

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from ice.config.load import loads
from ice.engage.account import Fate
from ice.engage.compose import compose
from ice.engage.reading import Imported
from ice.engage.restrictions import MulticastRule, multicast_rule
from ice.net.addresses import Address
from ice.rallypoint.access import Access, Rule
from tests.unit.engage.case import DATA, Case, said


def access(file: Imported) -> Access:
    """The rules that a Rallypoint would go by."""
    config = loads(compose([file]).toml, DATA / "ice.toml").config
    return Access(
        Rule.of(rule.name, rule.streams, listen=rule.listen, talk=rule.talk, allow=rule.allow)
        for rule in config.rallypoint.access
    )


def may(file: Imported, stream: str) -> bool:
    """Whether somebody may join a stream."""
    return access(file).of("somebody", "id", satellite=False).may_talk(stream)


def restricted(strict: int = 0, **general: object) -> Imported:
    return said(
        {"listenPort": 7443, "groupRestrictionAccessPolicyType": strict, "groupRestrictions": general}
    )


class General(Case):
    def test_none(self) -> None:
        """Without restrictions all may join, and there is no rule."""
        for file in (said({"listenPort": 1}), restricted(type=0, elements=["x"])):
            self.assertNotIn("access", compose([file]).toml)
            self.assertTrue(may(file, "anything"))

    def test_allowed(self) -> None:
        """A list that allows lets in those on it and nobody else; ids lose their braces and capitals."""
        file = restricted(type=1, elements=["Red", "{AB-1}"])
        self.assertTrue(may(file, "red") and may(file, "ab-1"))
        self.assertFalse(may(file, "blue"))
        self.assertAccounted(file)

    def test_denied(self) -> None:
        """A list that denies shuts out those on it and nobody else; where all must be allowed, everybody."""
        file = restricted(type=2, elements=["red"])
        self.assertFalse(may(file, "red"))
        self.assertTrue(may(file, "blue"))
        self.assertFalse(may(restricted(1, type=2, elements=["red"]), "blue"))

    def test_strict_without_a_list(self) -> None:
        """Where everything must be allowed and nothing is, nobody may."""
        self.assertFalse(may(restricted(1, type=0), "red"))
        self.assertFalse(may(restricted(type=1, elements=[]), "red"))

    def test_expressions(self) -> None:
        """A list that allows is read as all of an id, one that denies as any part of it."""
        allow = restricted(type=1, elementsType=1, elements=["^tug-.+", "pilot."])
        self.assertTrue(may(allow, "tug-7") and may(allow, "pilots"))
        self.assertFalse(may(allow, "tug-") or may(allow, "old pilots"))
        deny = restricted(type=2, elementsType=1, elements=["drill", "^test"])
        self.assertFalse(may(deny, "a drill today") or may(deny, "tests"))
        self.assertTrue(may(deny, "a test"))
        self.assertEntry(deny, "groupRestrictions.elements", Fate.CHANGED, "patterns")

    def test_what_cannot_be_said(self) -> None:
        """Expressions beyond * and ?, tags and certificates shut everything, and the report says so."""
        for general in (
            {"elementsType": 1, "elements": ["(a|b)"]},
            {"elementsType": 1, "elements": ["[a-z]+"]},
            {"elementsType": 1, "elements": ["\\d"]},
            {"elementsType": 1, "elements": ["a*"]},
            {"elementsType": 2, "elements": ["tag"]},
            {"elementsType": 5, "elements": ["CN=x"]},
            {"elementsType": 9, "elements": ["x"]},
            {"elements": ["x", 7]},
            {"elements": "x"},
            {"elements": ["a" * 300]},
        ):
            for type in (1, 2):
                file = restricted(type=type, **general)
                self.assertFalse(may(file, "a") or may(file, "x"), general)
                self.assertAccounted(file)
                self.assertTrue(any("every stream" in step for step in file.account.steps))
        self.assertFalse(may(restricted(type="whitelist", elements=["x"]), "x"))

    def test_stars_in_ids(self) -> None:
        """An id with a star in it is no pattern: allowed it would open too much, denied it may shut more."""
        self.assertFalse(may(restricted(type=1, elements=["*"]), "red"))
        self.assertFalse(may(restricted(type=2, elements=["r*"]), "red"))

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.integers(0, 3) | st.text(max_size=2),
                "elementsType": st.integers(0, 7) | st.none(),
                "elements": st.lists(
                    st.text("ab.*^$\\[(|é\ud800\x07", max_size=6) | st.integers(0, 1), max_size=4
                )
                | st.text(max_size=1),
            },
        )
    )
    @settings(max_examples=150, deadline=None)
    def test_never_wider(self, general: Mapping[str, object]) -> None:
        """Whatever the list: if it denies an id by its letters, nobody joins it; if it allows literally, only what it says."""
        file = restricted(**general)
        self.assertAccounted(file)
        elements = general.get("elements")
        literal = general.get("elementsType", 0) in (0, None) and isinstance(elements, list)
        if literal and general.get("type") == 2 and "ab" in elements:
            self.assertFalse(may(file, "ab"))
        if literal and general.get("type") == 1 and "ab" not in elements:
            self.assertFalse(may(file, "ab"))


class PerGroup(Case):
    def file(self, strict: int, *restrictions: object) -> Imported:
        return said(
            {
                "listenPort": 1,
                "groupRestrictionAccessPolicyType": strict,
                "extendedGroupRestrictions": [{"id": "{RED}", "restrictions": list(restrictions)}],
            }
        )

    def test_certificates(self) -> None:
        """A group tied to certificates of old is shut, others are not."""
        file = self.file(0, {"type": 1, "elementsType": 5, "elements": ["CN=x"]})
        self.assertFalse(may(file, "red"))
        self.assertTrue(may(file, "blue"))
        self.assertAccounted(file)

    def test_literal(self) -> None:
        """A list of group ids decides about its own group, and what must be allowed is so alone."""
        file = self.file(1, {"type": 1, "elements": ["red"]})
        self.assertTrue(may(file, "red"))
        self.assertFalse(may(file, "blue"))
        self.assertFalse(may(self.file(0, {"type": 2, "elements": ["RED"]}), "red"))

    def test_one_no_is_enough(self) -> None:
        """Of several lists each must let in."""
        both = self.file(
            0, {"type": 1, "elements": ["red"]}, {"type": 1, "elementsType": 3, "elements": ["1"]}
        )
        self.assertFalse(may(both, "red"))
        other = self.file(
            0, {"type": 1, "elementsType": 3, "elements": ["1"]}, {"type": 1, "elements": ["red"]}
        )
        self.assertFalse(may(other, "red"))

    def test_without_id(self) -> None:
        """Restrictions of no group restrict nothing, and are told."""
        file = said({"listenPort": 1, "extendedGroupRestrictions": [{"restrictions": []}, 7, {"id": ""}]})
        self.assertAccounted(file)
        self.assertTrue(may(file, "red"))


class Multicast(Case):
    HERE, THERE = Address("239.1.1.1", 5000), Address("239.1.1.2", 5000)

    def rule(self, type: object, *elements: object) -> MulticastRule | None:
        return multicast_rule({"type": type, "elements": list(elements)})

    def test_pairs(self) -> None:
        """A list that allows wants both addresses to fit, one that denies takes either; port 0 is any."""
        element = {"rx": {"address": "239.1.1.1", "port": 0}, "tx": {"address": "239.1.1.1", "port": 5000}}
        allow, deny = self.rule(1, element), self.rule(2, element)
        assert allow is not None and deny is not None
        self.assertTrue(allow.admits(self.HERE, self.HERE))
        self.assertFalse(allow.admits(self.HERE, self.THERE))
        self.assertFalse(deny.admits(self.HERE, self.THERE))
        self.assertTrue(deny.admits(self.THERE, self.THERE))

    def test_unreadable(self) -> None:
        """What cannot be read admits nothing; what is off restricts nothing."""
        for rule in (
            self.rule(3),
            self.rule(True),
            self.rule(2, "x"),
            self.rule(2, {}),
            self.rule(2, {"rx": {"address": "radio"}}),
            multicast_rule({"type": 1, "elements": {}}),
        ):
            assert rule is not None
            self.assertFalse(rule.admits(self.HERE, self.HERE))
        self.assertIsNone(self.rule(0, "x"))
        self.assertIsNone(multicast_rule(None))
