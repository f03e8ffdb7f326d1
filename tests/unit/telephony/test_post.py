"""Two ends joined by hand: messages come once, in order, confirmed, whatever the stream between them does."""

from __future__ import annotations

import random
from uuid import UUID

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.security.certificates import Role
from ice.telephony.causes import Cause
from ice.telephony.envelope import Correspondent, Letter
from ice.telephony.messages import (
    Because,
    Code,
    Dial,
    Keys,
    Kind,
    Media,
    Nothing,
    Offer,
    Proceeding,
    group_stream,
    user_stream,
)
from ice.telephony.post import (
    IDENTITY_BURST,
    LINK_BURST,
    REPEAT_S,
    WINDOW_S,
    Delivered,
    Elsewhere,
    Mail,
    Output,
    Post,
    Returned,
    Undelivered,
)
from tests.unit.telephony.people import UNIX, correspondent, envelopes

CALL = UUID(int=5)
ON = group_stream("g1")


@attrs.define
class End:
    """One end with what came of it."""

    post: Post
    on: str  # where it listens
    source: int
    letters: list[Letter] = attrs.field(factory=list)
    others: list[Output] = attrs.field(factory=list)


class Pair:
    """A person and a gateway, and a stream between them that loses what it is told to."""

    def __init__(self, chance: random.Random | None = None, loss: float = 0.0) -> None:
        self.now = 0.0
        self.skew_s = 0.0
        self.chance = chance or random.Random(1)
        self.loss = loss
        ada, gateway = correspondent("ada"), correspondent("gateway", Role.SATELLITE)
        self.ada = End(Post(envelopes("ada"), UNIX - 60), user_stream("g1", ada.identity.id), 1)
        self.gateway = End(Post(envelopes("gateway", Role.SATELLITE), UNIX - 60), ON, 2)
        self.to = gateway
        self.carried: list[tuple[End, bytes]] = []

    def answer_on(self, who: Correspondent) -> str:
        return ON if who.identity.role is Role.SATELLITE else user_stream("g1", who.identity.id)

    def unix(self, end: End) -> float:
        return UNIX + self.now + (self.skew_s if end is self.ada else 0.0)

    def carry(self, outputs: list[Output], end: End) -> None:
        far = self.gateway if end is self.ada else self.ada
        for output in outputs:
            if isinstance(output, Delivered):
                end.letters.append(output.letter)
            elif not isinstance(output, Mail):
                end.others.append(output)
            elif self.chance.random() >= self.loss:
                assert output.stream == far.on
                self.carried.append((far, output.payload))
                self.put(output.payload, far)

    def put(self, payload: bytes, end: End, source: int | None = None) -> None:
        source = source if source is not None else 3 - end.source
        outputs = end.post.receive(payload, end.on, source, self.now, self.unix(end), self.answer_on)
        self.carry(outputs, end)

    def dial(self, call: UUID = CALL, number: str = "100") -> None:
        post = self.ada.post
        self.carry(
            post.begin(call, Kind.DIAL, Dial(number), self.to, ON, self.now, self.unix(self.ada)), self.ada
        )

    def say(self, end: End, kind: Kind, body: object = Nothing(), call: UUID = CALL) -> None:
        self.carry(end.post.say(call, kind, body, self.now, self.unix(end)), end)  # type: ignore[arg-type]

    def wait(self, seconds: float) -> None:
        end_at = self.now + seconds
        while True:
            dues = [d for d in (self.ada.post.deadline, self.gateway.post.deadline) if d is not None]
            if not dues or min(dues) > end_at:
                break
            self.now = max(self.now, min(dues))
            for end in (self.ada, self.gateway):
                self.carry(end.post.tick(self.now, self.unix(end)), end)
        self.now = end_at


def kinds(end: End) -> list[Kind]:
    return [letter.header.kind for letter in end.letters]


class Usual(SynchronousTestCase):
    def test_a_call(self) -> None:
        """Dialled, rings, answered, ended: each message is delivered and confirmed once, and nothing is left."""
        pair = Pair()
        pair.dial()
        for kind in (Kind.RINGING, Kind.ANSWERED):
            pair.say(pair.gateway, kind)
        pair.say(pair.ada, Kind.ENDED, Because(Cause.HUNG_UP))
        pair.wait(10)
        self.assertEqual(kinds(pair.gateway), [Kind.DIAL, Kind.ENDED])
        self.assertEqual(kinds(pair.ada), [Kind.RINGING, Kind.ANSWERED])
        for end in (pair.ada, pair.gateway):
            end.post.close(CALL, pair.now)
            self.assertEqual(
                (len(end.post), end.post.deadline, end.others, end.post.repeated), (0, None, [], 0)
            )
            self.assertEqual((end.post.sent, end.post.confirmed), (2, 2))
            self.assertEqual(end.post.refused, {})

    def test_presence(self) -> None:
        """Hello and here go to all or to one, and are not confirmed."""
        pair = Pair()
        pair.carry([pair.ada.post.announce(Kind.HELLO, ON, UNIX)], pair.ada)
        ada = pair.gateway.letters[0].sender
        self.assertEqual(ada.identity.name, "ada")
        here = pair.gateway.post.announce(Kind.HERE, pair.ada.on, UNIX, ada)
        pair.carry([here], pair.gateway)
        self.assertEqual(kinds(pair.ada), [Kind.HERE])
        self.assertEqual(len(pair.carried), 2)
        self.assertRaises(LocalError, pair.ada.post.announce, Kind.DIAL, ON, UNIX)

    def test_what_cannot_be_said(self) -> None:
        """Nothing about calls that are not open, no second beginning, no endless queue."""
        pair = Pair(loss=1.0)
        self.assertRaises(LocalError, pair.say, pair.ada, Kind.RINGING)
        pair.dial()
        self.assertRaises(LocalError, pair.dial)
        for _ in range(63):
            pair.say(pair.ada, Kind.DTMF, Keys("1"))
        self.assertRaises(LocalError, pair.say, pair.ada, Kind.DTMF, Keys("1"))
        pair.ada.post.close(CALL, 0.0)
        self.assertRaises(LocalError, pair.say, pair.ada, Kind.HOLD)


class Losses(SynchronousTestCase):
    def test_repeated_until_confirmed(self) -> None:
        """A message that was lost comes again, signed anew, and is delivered once; so it is when its confirmation was lost."""
        pair = Pair(loss=1.0)
        pair.dial()
        pair.loss = 0.0
        pair.wait(1.0)
        self.assertEqual((kinds(pair.gateway), pair.ada.post.repeated), ([Kind.DIAL], 1))
        pair.say(pair.gateway, Kind.RINGING)
        copies = [payload for end, payload in pair.carried if end is pair.ada]
        pair.put(copies[-1], pair.ada)
        self.assertEqual(kinds(pair.ada), [Kind.RINGING])

    def test_nobody_there(self) -> None:
        """After some eight seconds it is undelivered, and told once."""
        pair = Pair(loss=1.0)
        pair.dial()
        pair.say(pair.ada, Kind.DTMF, Keys("1"))
        pair.wait(sum(REPEAT_S) - 0.1)
        self.assertEqual(pair.ada.others, [])
        pair.wait(0.2)
        self.assertEqual(pair.ada.others, [Undelivered(CALL, Kind.DIAL)])
        self.assertIsNone(pair.ada.post.deadline)

    def test_order(self) -> None:
        """What overtakes a lost message waits for it: hang-up never comes before dial."""
        pair = Pair(loss=1.0)
        pair.dial()
        pair.loss = 0.0
        pair.say(pair.ada, Kind.ENDED, Because(Cause.CANCELLED))
        self.assertEqual((kinds(pair.gateway), pair.ada.others), ([], []))
        pair.wait(1.0)
        self.assertEqual(kinds(pair.gateway), [Kind.DIAL, Kind.ENDED])

    @given(st.integers(0, 2**32), st.sampled_from((0.1, 0.3)))
    @settings(max_examples=20, deadline=None)
    def test_any_loss(self, seed: int, loss: float) -> None:
        """Whatever is lost: each message at most once, in order, and all of them or a word that it is not."""
        pair = Pair(random.Random(seed), loss)
        pair.dial()
        for digit in "12345":
            pair.say(pair.ada, Kind.DTMF, Keys(digit))
            pair.wait(0.1)
        pair.wait(30)
        told = "".join(letter.body.digits for letter in pair.gateway.letters if isinstance(letter.body, Keys))
        self.assertEqual(kinds(pair.gateway)[:1], [Kind.DIAL] if pair.gateway.letters else [])
        self.assertTrue("12345".startswith(told))
        self.assertTrue(told == "12345" or pair.ada.others)
        self.assertIsNone(pair.ada.post.deadline)


class Attacks(SynchronousTestCase):
    def test_replays(self) -> None:
        """Played again at once, after the call, much later, to a gateway that was restarted: a call is made once."""
        pair = Pair()
        pair.dial()
        dial = pair.carried[0][1]
        pair.put(dial, pair.gateway)
        pair.say(pair.ada, Kind.ENDED, Because(Cause.CANCELLED))
        pair.gateway.post.close(CALL, pair.now)
        pair.put(dial, pair.gateway)
        pair.now += WINDOW_S + 1
        pair.put(dial, pair.gateway)
        pair.now += WINDOW_S
        pair.gateway.post.tick(pair.now, UNIX + pair.now)
        pair.put(dial, pair.gateway)
        self.assertEqual(kinds(pair.gateway), [Kind.DIAL, Kind.ENDED])
        self.assertEqual(pair.gateway.post.refused, {"again": 1, "over": 1, "clock": 2})
        pair.now = 1.0
        pair.gateway.post = Post(envelopes("gateway", Role.SATELLITE), UNIX + 0.5)
        pair.put(dial, pair.gateway)
        self.assertEqual(pair.gateway.post.refused, {"before-start": 1})

    def test_somebody_else(self) -> None:
        """Another member of the network, well signed, cannot end, answer or confirm somebody's call."""
        pair = Pair()
        pair.dial()
        eve = Post(envelopes("eve"), UNIX - 60)
        eve.begin(CALL, Kind.DIAL, Dial("1"), pair.to, ON, 0.0, UNIX)
        for output in eve.say(CALL, Kind.ENDED, Because(Cause.HUNG_UP), 0.0, UNIX):
            assert isinstance(output, Mail)
            pair.put(output.payload, pair.gateway, source=9)
        self.assertEqual(kinds(pair.gateway), [Kind.DIAL])
        self.assertEqual(pair.gateway.post.refused, {"stranger": 1})

    def test_clock(self) -> None:
        """A clock that is wrong is named to its owner, with the difference."""
        pair = Pair()
        pair.skew_s = -WINDOW_S - 5
        pair.dial()
        self.assertEqual(kinds(pair.gateway), [])
        (returned,) = pair.ada.others
        assert isinstance(returned, Returned)
        self.assertEqual(returned.refusal.code, Code.CLOCK)
        self.assertIn("125 s", returned.refusal.text)
        self.assertEqual(pair.gateway.post.refused, {"clock": 1})

    def test_budget(self) -> None:
        """A flood from one person's sources, of which he may make as many as he likes, costs no signature checks; nor does one identity get more by many links."""
        pair = Pair()
        for number in range(int(LINK_BURST) + 40):
            pair.put(b"junk", pair.gateway, source=(7 << 32) + number)
        self.assertEqual(pair.gateway.post.refused, {"form": LINK_BURST, "budget": 40})
        hello = pair.ada.post.announce(Kind.HELLO, ON, UNIX)
        for link in range(int(IDENTITY_BURST) + 5):
            pair.put(hello.payload, pair.gateway, source=(100 + link) << 32)
        self.assertEqual(pair.gateway.post.refused["budget"], 45)
        self.assertEqual(len(pair.gateway.letters), IDENTITY_BURST)

    def test_unknown_call(self) -> None:
        """A gateway that knows nothing of the call says so, and the person's program hears it at once; not just after its start, when it may still adopt it."""
        for started, count in ((UNIX - 60, 1), (UNIX, 0)):
            pair = Pair()
            pair.dial()
            pair.gateway.post = Post(envelopes("gateway", Role.SATELLITE), started)
            pair.say(pair.ada, Kind.DTMF, Keys("1"))
            self.assertEqual(len(pair.ada.others), count)
            for returned in pair.ada.others:
                assert isinstance(returned, Returned)
                self.assertEqual((returned.kind, returned.refusal.code), (Kind.DTMF, Code.UNKNOWN_CALL))

    def test_several_programs(self) -> None:
        """Two programs of one person: neither answers for the other's calls, not even where a gateway wants to go on with one; a confirmation of what one has not said tells it that the other has acted."""
        pair = Pair()
        other = Post(envelopes("ada"), UNIX - 60, shared=True)
        offer = Offer("7", Media("s", "ab" * 32))
        ada = correspondent("ada")

        def also(outputs: list[Output]) -> list[Output]:
            """What the other program makes of what the gateway says."""
            found: list[Output] = []
            for each in outputs:
                if isinstance(each, Mail):
                    found += other.receive(each.payload, pair.ada.on, 2, 0.0, UNIX, pair.answer_on)
            return found

        begun = pair.gateway.post.begin(CALL, Kind.OFFER, offer, ada, pair.ada.on, 0.0, UNIX)
        self.assertEqual([type(each) for each in also(begun)], [Mail, Delivered])
        pair.carry(begun, pair.gateway)
        other.say(CALL, Kind.RINGING, Nothing(), 0.0, UNIX)
        for kind, taken in ((Kind.RINGING, []), (Kind.ANSWERED, [Elsewhere(CALL)])):
            [said] = pair.ada.post.say(CALL, kind, Nothing(), 0.0, UNIX)
            assert isinstance(said, Mail)
            acks = pair.gateway.post.receive(said.payload, ON, 1, 0.0, UNIX, pair.answer_on)
            self.assertEqual(also([each for each in acks if isinstance(each, Mail)]), taken)
        strange = UUID(int=6)
        adopt = Proceeding(Media("s", "ab" * 32))
        self.assertEqual(
            also(pair.gateway.post.begin(strange, Kind.ADOPT, adopt, ada, pair.ada.on, 0.0, UNIX)), []
        )
        self.assertEqual(also(pair.gateway.post.say(strange, Kind.HOLD, Nothing(), 0.0, UNIX)), [])
        self.assertEqual(other.refused, {"ack": 2, "unknown-call": 2})

    def test_adoption(self) -> None:
        """A gateway goes on with a call: both count anew, what waited is said again; nobody else can, and nobody can play it back."""
        pair = Pair()
        pair.dial()
        pair.say(pair.gateway, Kind.ANSWERED)
        pair.loss = 1.0
        pair.say(pair.ada, Kind.DTMF, Keys("1"))
        pair.loss = 0.0
        pair.gateway.post = Post(envelopes("gateway", Role.SATELLITE), UNIX)
        pair.gateway.letters.clear()
        pair.now = 0.1
        ada = correspondent("ada")
        adopt = Proceeding(Media("s", "ab" * 32))
        begun = pair.gateway.post.begin(CALL, Kind.ADOPT, adopt, ada, pair.ada.on, pair.now, UNIX + 0.1)
        pair.carry(begun, pair.gateway)
        pair.wait(1.0)
        self.assertEqual((kinds(pair.gateway), kinds(pair.ada)[-1]), ([Kind.DTMF], Kind.ADOPT))
        pair.say(pair.gateway, Kind.HOLD)
        pair.say(pair.ada, Kind.HOLD)
        (mail,) = begun
        assert isinstance(mail, Mail)
        pair.put(mail.payload, pair.ada)  # its own repetition: confirmed, no more
        later = Post(envelopes("eve"), UNIX).begin(CALL, Kind.ADOPT, adopt, ada, pair.ada.on, 2.0, UNIX + 2)
        assert isinstance(later[0], Mail)
        pair.put(later[0].payload, pair.ada, source=8)
        pair.say(pair.ada, Kind.RESUME)
        self.assertEqual(kinds(pair.gateway), [Kind.DTMF, Kind.HOLD, Kind.RESUME])
        self.assertEqual(pair.ada.post.refused, {"again": 1, "role": 1})

    def test_second_beginning(self) -> None:
        """Within a call no other one is begun."""
        pair = Pair()
        pair.dial()
        pair.say(pair.ada, Kind.DIAL, Dial("2"))
        self.assertEqual(kinds(pair.gateway), [Kind.DIAL])
        self.assertEqual(pair.gateway.post.refused, {"order": 1})

    @given(st.binary(max_size=200))
    @settings(max_examples=50, deadline=None)
    def test_junk(self, data: bytes) -> None:
        """Whatever comes is refused for a reason."""
        pair = Pair()
        pair.put(data, pair.gateway)
        self.assertEqual(sum(pair.gateway.post.refused.values()), 1)
