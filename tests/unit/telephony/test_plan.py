"""A site's numbers: one normal form, rules in order, emergency calls always."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.telephony.causes import Cause
from ice.telephony.plan import NumberPlan, Rule
from ice.telephony.switchboard import Allowed
from tests.unit.telephony.people import correspondent

PLAN = NumberPlan("49", emergency=("110", "112"))
ADA, BOB = (correspondent(name).identity for name in ("ada", "bob"))


class Normal(SynchronousTestCase):
    def test_however_it_is_written(self) -> None:
        """Separators, prefixes and the plus lead to one form."""
        for written in (
            "+49 30 901820",
            "0049 (30) 90 18-20",
            "030/901820",
            "+49 (0)30 901820",
            "0 30 90–18–20",
        ):
            self.assertEqual(PLAN.normal(written), "+4930901820", written)
        self.assertEqual(
            [PLAN.normal(each) for each in ("200", "112", "1 1 2", "001 212 555 0100")],
            ["200", "112", "112", "+12125550100"],
        )
        american = NumberPlan("1", national="", international="011", short_digits=4)
        self.assertEqual(american.normal("212 555 0100"), "+12125550100")

    def test_what_is_no_number(self) -> None:
        """Nothing, words, too long, too short abroad, digits of other scripts, feature codes where they are not wanted."""
        for written in (
            "",
            " ",
            "ada",
            "1" * 500,
            "+123",
            "+0301",
            "123456",
            "٣٠٩",
            "*21#",
            "12#",
            "++49301",
            "+49\x00301",
        ):
            self.assertIsNone(PLAN.normal(written), written)
        codes = NumberPlan("49", feature_codes=True)
        self.assertEqual([codes.normal("*21#"), codes.normal("*" * 65)], ["*21#", None])

    @given(st.text(max_size=40))
    @settings(max_examples=100, deadline=None)
    def test_normal_once(self, written: str) -> None:
        """A normal form is its own normal form."""
        normal = PLAN.normal(written)
        self.assertTrue(normal is None or PLAN.normal(normal) == normal)


class Rules(SynchronousTestCase):
    def test_the_first_that_fits(self) -> None:
        """By person and number, in order; the plan's word where none fits."""
        plan = NumberPlan(
            "49",
            rules=(
                Rule(True, users=("ada",), numbers=("+49900*",)),
                Rule(False, numbers=("+49900*", "+1*")),
                Rule(False, users=(str(BOB.id),), numbers=("+*",)),
            ),
            shown={ADA.id: "+4930100"},
            caller="+4930",
        )
        self.assertEqual(plan.outgoing(ADA, "0900 1234"), Allowed("+499001234", "+4930100"))
        self.assertEqual(plan.outgoing(BOB, "0900 1234"), Cause.FORBIDDEN)
        self.assertEqual(plan.outgoing(ADA, "001 212 555 0100"), Cause.FORBIDDEN)
        self.assertEqual(plan.outgoing(BOB, "030 1234"), Cause.FORBIDDEN)
        self.assertEqual(plan.outgoing(BOB, "200"), Allowed("200", "+4930"))
        self.assertEqual(plan.outgoing(BOB, "nobody"), Cause.INVALID_NUMBER)
        self.assertEqual(NumberPlan("49", default=False).outgoing(ADA, "200"), Cause.FORBIDDEN)

    def test_emergency(self) -> None:
        """Whatever the rules say."""
        plan = NumberPlan("49", emergency=("112",), rules=(Rule(False),), default=False)
        self.assertEqual(plan.outgoing(BOB, "112"), Allowed("112", "", urgent=True))

    def test_whose_number(self) -> None:
        """However the call manager writes what was dialled."""
        plan = NumberPlan("49", owners={"+4930100": ADA.id, "s": BOB.id})
        for dialled, owner in (
            ("+4930100", ADA.id),
            ("030100", ADA.id),
            ("s", BOB.id),
            ("7", Cause.UNKNOWN_NUMBER),
        ):
            self.assertEqual(plan.incoming("", dialled), owner)

    def test_what_cannot_be(self) -> None:
        """Plans are checked when they are made."""
        for bad in (
            {"country": "+49"},
            {"country": "049"},
            {"national": "a"},
            {"international": ""},
            {"emergency": ("a",)},
            {"short_digits": 99},
        ):
            self.assertRaises(LocalError, NumberPlan, **({"country": "49"} | bad))
        self.assertIsInstance(ADA.id, UUID)
