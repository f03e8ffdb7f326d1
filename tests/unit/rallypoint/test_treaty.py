"""What two organisations share: the lists asked, and the opener's questions against every possible answer."""

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.message import Code
from ice.rallypoint.peering import Expected
from ice.rallypoint.treaty import Asking, Question, Treaty
from ice.security.trust import Foreign
from tests.unit.security import wire

ID = UUID(int=7)
STREAMS = ("one", "two", "three", "four")
Lists = st.frozensets(st.sampled_from(STREAMS))


def treaty(incoming: frozenset[str], outgoing: frozenset[str], name: str = "coast") -> Treaty:
    """An agreement about these."""
    foreign = Foreign(name, (wire.other_ca().certificate,), frozenset({ID}))
    return Treaty(foreign, {ID: Expected(ID)}, incoming, outgoing, 10, 1_000)


class Refusals(SynchronousTestCase):
    """Their JOIN against our lists."""

    @given(Lists, Lists, st.sampled_from((*STREAMS, "other", "__x", "*")), st.booleans(), st.booleans())
    @settings(max_examples=100, deadline=None)
    def test_exactly_what_is_listed(
        self, incoming: frozenset[str], outgoing: frozenset[str], stream: str, listen: bool, talk: bool
    ) -> None:
        """Granted where every direction asked for is listed, and the stream at all; else the stream and each wrong direction are named."""
        refusal = treaty(incoming, outgoing).refuses(stream, listen=listen, talk=talk)
        wrong = {
            "(outgoing)": listen and stream not in outgoing,
            "(incoming)": talk and stream not in incoming,
            "not shared": not (listen or talk) and stream not in incoming | outgoing,
        }
        self.assertEqual(refusal is None, not any(wrong.values()))
        for words, expected in wrong.items():
            self.assertEqual(words in (refusal or ""), expected)
        if refusal is not None:
            self.assertIn(f"'{stream}'", refusal)

    def test_sharing_the_same(self) -> None:
        """What decides whether a link may live on: name and lists, not the rates."""
        one = treaty(frozenset({"a"}), frozenset())
        self.assertTrue(one.shares_as(treaty(frozenset({"a"}), frozenset())))
        for other in (
            treaty(frozenset(), frozenset({"a"})),
            treaty(frozenset({"a", "b"}), frozenset()),
            treaty(frozenset({"a"}), frozenset(), "hills"),
        ):
            self.assertFalse(one.shares_as(other))


class Questions(SynchronousTestCase):
    """The opener's JOINs."""

    @given(Lists, Lists, Lists, Lists, st.randoms(use_true_random=False))
    @settings(max_examples=200, deadline=None)
    def test_every_answer(
        self,
        incoming: frozenset[str],
        outgoing: frozenset[str],
        theirs_in: frozenset[str],
        theirs_out: frozenset[str],
        random: object,
    ) -> None:
        """Against an acceptor with any lists, answers in any order: granted is what both list, at three questions a stream at most, and the rest is told."""
        ours, theirs = treaty(incoming, outgoing), treaty(theirs_in, theirs_out)
        asking = Asking(ours)
        flying: list[tuple[int, Question]] = []
        asked = dict.fromkeys(STREAMS, 0)
        txn = 0
        while True:
            while (question := asking.next()) is not None:
                asking.asked(txn, question)
                asked[question.stream] += 1
                flying.append((txn, question))
                txn += 1
            if not flying:
                break
            number, question = flying.pop(random.randrange(len(flying)))  # type: ignore[attr-defined]
            refusal = theirs.refuses(question.stream, listen=question.incoming, talk=question.outgoing)
            if refusal is None:
                self.assertEqual(asking.joined(number), question)
            else:
                asking.denied(number, Code.DENIED, refusal)
        self.assertEqual(asking.incoming, incoming & theirs_out)
        self.assertEqual(asking.outgoing, outgoing & theirs_in)
        kept = {s: (s in incoming - theirs_out, s in outgoing - theirs_in) for s in STREAMS}
        self.assertEqual(set(asking.refused), {s for s, ways in kept.items() if any(ways)})
        for stream, sentence in asking.refused.items():
            ways = sentence.partition(": ")[0]
            self.assertEqual(("coming in" in ways, "going out" in ways), kept[stream], sentence)
        self.assertLessEqual(max(asked.values()), 3)

    def test_other_errors_end_it(self) -> None:
        """A collision or a limit is no question of direction: the stream is not asked about again."""
        asking = Asking(treaty(frozenset({"one"}), frozenset({"one"})))
        question = asking.next()
        assert question is not None
        asking.asked(0, question)
        self.assertEqual(asking.denied(0, Code.KEY_COLLISION, "no"), question)
        self.assertIsNone(asking.next())
        self.assertEqual(asking.refused, {"one": "'one' is kept from coming in and going out: no"})

    def test_answers_to_nothing(self) -> None:
        """A number that was never asked, or answered already, changes nothing."""
        asking = Asking(treaty(frozenset({"one"}), frozenset()))
        self.assertIsNone(asking.joined(5))
        self.assertIsNone(asking.denied(5, Code.DENIED, "no"))
        question = asking.next()
        assert question is not None
        asking.asked(1, question)
        self.assertEqual(asking.joined(1), question)
        self.assertIsNone(asking.joined(1))
        self.assertIsNone(asking.denied(1, Code.DENIED, "no"))
        self.assertEqual((asking.incoming, asking.refused), ({"one"}, {}))
