"""Patterns and rules: who may listen and talk where."""

import fnmatch
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.message import Code
from ice.rallypoint.access import Access, Pattern, Patterns, Rights, Rule

ID = "3b241101-e2bb-4255-8caf-4136c566a962"


class PatternTests(SynchronousTestCase):
    def test_what_fits(self) -> None:
        """The whole text, case-sensitively; a star is any run, a question mark one character."""
        for pattern, text, fits in [
            ("*", "", True),
            ("*", "anything\nat all", True),
            ("", "", True),
            ("", "a", False),
            ("ops", "ops", True),
            ("ops", "Ops", False),
            ("ops", "ops/1", False),
            ("ops/*", "ops/", True),
            ("ops/?", "ops/", False),
            ("ops/?", "ops/é", True),
            ("*fire*", "north-fire-2", True),
            ("a*b*a", "aba", True),
            ("a*a", "a", False),
            ("ab*ba", "aba", False),
            ("[ab]", "a", False),
            ("[ab]", "[ab]", True),
            ("a.c", "abc", False),
            ("**", "x", True),
            ("?*?", "x", False),
            ("?*?", "xy", True),
        ]:
            self.assertIs(Pattern(pattern).fits(text), fits, f"{pattern!r} on {text!r}")

    @given(st.text("ab*?", max_size=12), st.text("ab", max_size=16))
    @settings(max_examples=300, deadline=None)
    def test_as_a_shell_has_it(self, pattern: str, text: str) -> None:
        """For stars and question marks the standard library's fnmatch says the same."""
        self.assertEqual(Pattern(pattern).fits(text), re.match(fnmatch.translate(pattern), text) is not None)
        self.assertEqual(Patterns([pattern]).fit(text), Pattern(pattern).fits(text))

    def test_a_hostile_stream_id_takes_no_time(self) -> None:
        """A pattern of many stars on a long text is answered at once."""
        self.assertFalse(Pattern("*a" * 30 + "*c").fits("a" * 256))


def rights(*rules: Rule, name: str = "alice", satellite: bool = False) -> Rights:
    """What somebody may under these rules."""
    return Access(rules).of(name, ID, satellite=satellite)


class RulesTests(SynchronousTestCase):
    def test_without_rules_all_may(self) -> None:
        """Listen and talk everywhere but on reserved streams."""
        self.assertIsNone(rights().refuses("ops", listen=True, talk=True))

    def test_where_no_rule_fits_nobody_may(self) -> None:
        """One rule for others is enough to shut everybody else out."""
        refusal = rights(Rule.of("bob", ["*"])).refuses("ops", listen=True, talk=True)
        assert refusal is not None
        self.assertEqual(refusal.code, Code.DENIED)
        self.assertIn("'alice' may neither listen nor talk on 'ops'", refusal.message)

    def test_the_first_rule_that_fits_decides(self) -> None:
        """A denial before a general permission, and after it."""
        deny, allow = Rule.of("alice", ["ops"], allow=False), Rule.of("*", ["*"])
        self.assertIsNotNone(rights(deny, allow).refuses("ops", listen=True, talk=True))
        self.assertIsNone(rights(allow, deny).refuses("ops", listen=True, talk=True))
        self.assertIsNone(rights(deny, allow).refuses("other", listen=True, talk=True))

    def test_names_and_ids_fit(self) -> None:
        """A rule may name a common name or the UUID."""
        for name in ("alice", "al*", ID, "3b24*"):
            self.assertTrue(rights(Rule.of(name, ["*"])).may_talk("ops"), name)
        self.assertFalse(rights(Rule.of("ALICE", ["*"])).may_talk("ops"))

    def test_listening_and_talking_are_two_questions(self) -> None:
        """A rule that is for listening alone says nothing of talking."""
        all_listen = Rule.of("*", ["*"], talk=False)
        chief = Rule.of("chief", ["*"], listen=False)
        hearer = rights(all_listen, chief)
        self.assertIsNone(hearer.refuses("ops", listen=True, talk=False))
        refusal = hearer.refuses("ops", listen=True, talk=True)
        assert refusal is not None
        self.assertIn("may not talk", refusal.message)
        self.assertIsNone(rights(all_listen, chief, name="chief").refuses("ops", listen=True, talk=True))
        deaf = rights(Rule.of("*", ["*"], listen=False)).refuses("ops", listen=True, talk=True)
        assert deaf is not None
        self.assertIn("may not listen", deaf.message)

    def test_who_wants_neither_needs_the_right_to_listen(self) -> None:
        """A JOIN without wishes must not be a way to find out which streams there are."""
        self.assertIsNotNone(rights(Rule.of("bob", ["*"])).refuses("ops", listen=False, talk=False))

    def test_reserved_streams_are_for_satellites(self) -> None:
        """Whatever the rules allow to others."""
        everybody = Rule.of("*", ["*"])
        refusal = rights(everybody).refuses("__election_7", listen=True, talk=False)
        assert refusal is not None
        self.assertIn("for satellites", refusal.message)
        self.assertFalse(rights(everybody).may_listen("__election_7"))
        self.assertIsNone(rights(everybody, satellite=True).refuses("__election_7", listen=True, talk=True))
        self.assertIsNone(rights(satellite=True).refuses("__election_7", listen=True, talk=True))

    def test_people_may_telephone(self) -> None:
        """They say what is the gateway's to hear, hear what is said to them and to all, and do both on a call's sound: whatever the rules say, and no more than that."""
        group, other = "8f14e45f-ceea-467f-8d0d-6c1a1b0f7d11", "0b7c1c6e-2f5a-4d0c-9a63-0f7d6b6ad0c2"
        for stream, listen, talk in [
            (f"__calls_{group}", False, True),
            (f"__calls_{group}_{ID}", True, False),
            (f"__calls_{group}_all", True, False),
            (f"__call_{other}", True, True),
            (f"__calls_{group}_{other}", False, False),
            (f"__calls_{group}_{ID}_", False, False),
            ("__calls_g", False, False),
            ("__call_", False, False),
        ]:
            for some in (rights(), rights(Rule.of("*", ["*"], allow=False)), rights(Rule.of("bob", ["*"]))):
                self.assertIs(some.may_listen(stream), listen, stream)
                self.assertIs(some.may_talk(stream), talk, stream)
                both = some.refuses(stream, listen=True, talk=True)
                self.assertIs(both is None, listen and talk, stream)
                self.assertIs(some.refuses(stream, listen=listen, talk=talk) is None, listen or talk, stream)
