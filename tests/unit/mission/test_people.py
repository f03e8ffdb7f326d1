"""Who is there, and telling that we are: both engines, with time as a number."""

from itertools import pairwise
from random import Random
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.mission.announcing import Announcer, Manner, Message
from ice.mission.parts import Presence
from ice.mission.people import (
    EMERGENCY_S,
    GONE_S,
    GRACE_S,
    LEFT_S,
    Happened,
    People,
    Person,
    State,
    What,
    key_of,
)
from ice.mission.presence import Descriptor, Form, Identity, Kind, Location, Told

UNIX = 1_800_000_000


def told(node: str = "anna", kind: Kind = Kind.PRESENCE, at: float = 0.0, **changes: Any) -> Told:
    """What somebody tells at a moment of the test's clock, promising more within 30 s."""
    ts = UNIX + int(at) + changes.pop("skew", 0)
    promise = changes.pop("promise", 30)
    form = changes.pop("form", Form.JSON)
    known = changes.pop("known", kind is not Kind.LEAVING)
    name = changes.pop("name", node.title())
    next_update = ts if kind is Kind.LEAVING else ts + promise
    descriptor = Descriptor(Identity(node, display_name=name), ts=ts, next_update=next_update, **changes)
    return Told(kind, form, descriptor, disposition_known=known)


class Staying(SynchronousTestCase):
    def setUp(self) -> None:
        self.people = People()

    def hear(self, what: Told, at: float, source: int = 1) -> bool:
        """Hear it at that moment."""
        return self.people.hear(what, source, at, UNIX + at)

    def whats(self) -> list[What]:
        """What has happened."""
        return [each.what for each in self.people.events()]

    def only(self) -> Person:
        """The only person there is."""
        (person,) = self.people.everybody
        return person

    def test_join_and_stay(self) -> None:
        """Who is heard has joined, once; more of the same is no news."""
        for at in (0, 30, 60):
            self.hear(told(at=at), at)
            self.people.tick(at)
        self.assertEqual(self.whats(), [What.JOINED])
        self.assertIs(self.only().state, State.HERE)

    def test_silence(self) -> None:
        """Past the promise one is late, past three times of it gone, and ten minutes later out of sight."""
        self.hear(told(promise=20), 0)
        self.people.tick(20 + GRACE_S - 0.1)
        self.assertIs(self.only().state, State.HERE)
        self.assertEqual(self.people.next_at, 20 + GRACE_S)
        self.people.tick(20 + GRACE_S)
        self.assertIs(self.only().state, State.LATE)
        self.assertEqual(len(self.people.present), 1)
        self.people.tick(60 + GRACE_S)
        self.assertIs(self.only().state, State.GONE)
        self.assertEqual(self.people.present, ())
        self.people.tick(60 + GRACE_S + GONE_S)
        self.assertEqual(self.people.everybody, ())
        self.assertEqual(self.whats(), [What.JOINED, What.LATE, What.GONE])
        self.assertIsNone(self.people.next_at)

    def test_asleep(self) -> None:
        """A process that stood still tells everything that it has missed, at once."""
        self.hear(told(), 0)
        self.people.tick(100_000)
        self.assertEqual(self.whats(), [What.JOINED, What.LATE, What.GONE])
        self.assertEqual(self.people.everybody, ())

    def test_one_loss(self) -> None:
        """One lost datagram makes somebody late, and the next brings them back."""
        self.hear(told(), 0)
        self.people.tick(59)
        self.hear(told(at=60), 60)
        self.assertEqual(self.whats(), [What.JOINED, What.LATE, What.BACK])

    def test_good_bye(self) -> None:
        """Who says good-bye has left at once, is told once, and goes out of sight soon."""
        self.hear(told(), 0)
        for _ in range(2):
            self.hear(told(kind=Kind.LEAVING, at=3), 3)
        self.assertIs(self.only().state, State.LEFT)
        self.people.tick(3 + LEFT_S)
        self.assertEqual(self.people.everybody, ())
        self.assertEqual(self.whats(), [What.JOINED, What.LEFT])

    def test_strangers_good_bye(self) -> None:
        """The good-bye of somebody who was never here, or an alarm called off, makes nobody appear."""
        self.hear(told(kind=Kind.LEAVING), 0)
        self.hear(told(kind=Kind.CALM), 0)
        self.assertEqual(self.people.everybody, ())
        self.assertEqual(self.people.counts["unknown"], 2)

    def test_no_promise(self) -> None:
        """Who promises nothing is expected within the group's interval; who promises nonsense, within bounds."""
        people = People(interval_s=10)
        people.hear(Told(Kind.PRESENCE, Form.JSON, Descriptor(Identity("a"))), 1, 0, UNIX)
        people.hear(told("b", promise=-5), 1, 0, UNIX)
        people.hear(told("c", promise=10**6), 1, 0, UNIX)
        promises = {each.key: each.promise_s for each in people.everybody}
        self.assertEqual(promises, {"a": 10, "b": 10, "c": 3_600})

    def test_clocks(self) -> None:
        """A wrong clock harms nobody's staying, and is told once; back in time, it may be told again."""
        self.hear(told(skew=3_600), 0)
        self.people.tick(30)
        self.assertIs(self.only().state, State.HERE)
        self.hear(told(at=30, skew=3_600), 30)
        self.assertEqual(self.whats(), [What.JOINED, What.CLOCK])
        self.assertEqual((self.only().skew_s, self.only().clock_wrong), (3_600, True))
        self.hear(told(at=60), 60)  # set right: the time goes back by an hour
        self.assertFalse(self.only().clock_wrong)
        self.hear(told(at=90, skew=-90), 90)
        self.assertEqual(self.whats(), [What.CLOCK])

    def test_our_clock(self) -> None:
        """Where all others agree with each other and not with us, it is ours that is wrong."""
        for number, skew in enumerate((60, 61, 59)):
            self.assertIsNone(self.people.common_skew_s)
            self.hear(told(f"n{number}", skew=skew), 0)
        self.assertEqual(self.people.common_skew_s, 60)
        self.hear(told("n3", skew=0), 0)
        self.assertEqual(self.people.common_skew_s, 59.5)
        self.hear(told("n4", skew=0), 0)
        self.assertIsNone(self.people.common_skew_s)

    def test_overtaken(self) -> None:
        """What comes late by another path does not undo what is newer."""
        self.hear(told(at=5, comment="new"), 5)
        self.hear(told(at=3, comment="old"), 5.5, source=2)
        self.assertEqual(self.only().descriptor.comment, "new")
        self.assertEqual(self.people.counts["overtaken"], 1)

    def test_changes(self) -> None:
        """A new name, comment or disposition is told; a place is shown, not told."""
        self.hear(told(), 0)
        self.hear(told(at=1, comment="lunch"), 1)
        self.hear(told(at=2, comment="lunch", disposition=4, name="Annette"), 2)
        self.hear(told(at=3, comment="lunch", disposition=4, name="Annette", location=Location(1, 2)), 3)
        changes = [each.changed for each in self.people.events() if each.what is What.CHANGED]
        self.assertEqual(changes, [("comment",), ("name", "disposition")])

    def test_node_ids(self) -> None:
        """Braces and case make no second person."""
        self.hear(told("{AB-1}"), 0)
        self.hear(told("ab-1", at=1), 1)
        self.assertEqual(len(self.people.everybody), 1)
        self.assertEqual(key_of("{Ab}"), "ab")
        self.assertIsNotNone(self.people.person("{ab-1}"))

    def test_order(self) -> None:
        """An emergency stands first, then by name."""
        for node, bits in (("zoe", 1), ("bob", 0), ("Al", 0)):
            self.hear(told(node, disposition=bits), 0)
        self.assertEqual([each.key for each in self.people.everybody], ["zoe", "al", "bob"])

    def test_fix_age(self) -> None:
        """A fix is as old as the sender said, by its own clock, and as the time since."""
        place = Location(1, 2, ts=UNIX + 3_600 - 8)
        self.hear(told(skew=3_600, location=place), 0)
        self.assertEqual(self.only().fix_age_s(4), 12)


class Emergencies(SynchronousTestCase):
    def setUp(self) -> None:
        self.people = People()

    def hear(self, what: Told, at: float) -> None:
        """Hear it."""
        self.people.hear(what, 1, at, UNIX + at)

    def whats(self) -> list[What]:
        """What has happened."""
        return [each.what for each in self.people.events()]

    def test_bit(self) -> None:
        """In JSON the disposition's bit raises and clears an emergency, told once each."""
        for at, bits in ((0, 2), (1, 3), (2, 3), (3, 2)):
            self.hear(told(at=at, disposition=bits), at)
        self.assertEqual(self.whats(), [What.JOINED, What.EMERGENCY, What.CALM])

    def test_alert(self) -> None:
        """An alert adds to what is known: its place, and its word; positions after it do not end it; its cancelling does."""
        self.hear(told(form=Form.COT, known=False, comment="on foot", disposition=0), 0)
        self.hear(
            told(kind=Kind.ALERT, at=1, comment="In Contact", disposition=1, location=Location(3, 4)), 1
        )
        self.hear(told(form=Form.COT, known=False, at=2, comment="on foot", location=Location(3, 5)), 2)
        person = self.people.everybody[0]
        self.assertEqual((person.emergency_at, person.alert), (1, "In Contact"))
        self.assertEqual(person.descriptor.comment, "on foot")
        self.assertEqual(person.descriptor.location, Location(3, 5))
        self.hear(told(kind=Kind.CALM, at=3), 3)
        self.assertEqual(self.whats(), [What.JOINED, What.EMERGENCY, What.CALM])
        self.assertEqual(self.people.everybody[0].alert, "")

    def test_stranger(self) -> None:
        """Who is first heard by an alert is there, in an emergency."""
        self.hear(told(kind=Kind.ALERT, comment="911 Alert", disposition=1), 0)
        self.assertEqual(self.whats(), [What.JOINED, What.EMERGENCY])
        person = self.people.everybody[0]
        self.assertEqual((person.alert, person.descriptor.comment), ("911 Alert", ""))

    def test_silence(self) -> None:
        """Silence ends no emergency: the silent stay in sight for a day, also when a CoT good-bye came."""
        self.hear(told(disposition=1), 0)
        self.people.tick(GONE_S * 20)
        self.assertTrue(self.people.everybody[0].emergency)
        self.assertEqual(self.people.present, ())
        self.people.tick(EMERGENCY_S)
        self.assertEqual(self.people.everybody, ())
        self.hear(told(disposition=1, at=0), 0)
        self.hear(told(kind=Kind.LEAVING, form=Form.COT, at=1), 1)
        self.people.tick(1 + LEFT_S)
        self.assertTrue(self.people.everybody[0].emergency)

    def test_good_bye_clears(self) -> None:
        """A JSON good-bye tells the disposition too: without the bit the emergency is over."""
        self.hear(told(disposition=1), 0)
        self.hear(told(kind=Kind.LEAVING, known=True, at=1), 1)
        self.assertEqual(self.whats(), [What.JOINED, What.EMERGENCY, What.LEFT, What.CALM])


class Places(SynchronousTestCase):
    def test_restart(self) -> None:
        """A restarted device goes on under its node id from a new source."""
        people = People()
        for at, source in ((0, 1), (30, 1), (60, 2), (90, 2)):
            people.hear(told(at=at), source, at, UNIX + at)
        self.assertEqual([each.what for each in people.events()], [What.JOINED])

    def test_failover(self) -> None:
        """There and back again between two paths is no second device."""
        people = People()
        for at, source in ((0, 1), (10, 2), (20, 1), (50, 1)):
            people.hear(told(at=at), source, at, UNIX + at)
        self.assertFalse(people.everybody[0].two_places)

    def test_two(self) -> None:
        """Two devices that take turns with one node id are told once, and no longer flagged when one has stopped."""
        people = People()
        for at in range(0, 120, 15):
            people.hear(told(at=at), 1 + at // 15 % 2, at, UNIX + at)
        self.assertEqual([each.what for each in people.events()], [What.JOINED, What.TWO_PLACES])
        self.assertTrue(people.everybody[0].two_places)
        for at in range(120, 300, 30):
            people.hear(told(at=at), 1, at, UNIX + at)
        self.assertFalse(people.everybody[0].two_places)

    def test_ourselves(self) -> None:
        """Somebody else under our own node id is told once, and not shown."""
        people = People(own="{ANNA}")
        for at in (0, 30):
            self.assertFalse(people.hear(told(at=at, announce_on_receive=True), 5, at, UNIX + at))
        self.assertEqual([each.what for each in people.events()], [What.TWO_PLACES])
        self.assertEqual(people.everybody, ())


class Bounds(SynchronousTestCase):
    def test_full(self) -> None:
        """Newcomers beyond the bound are counted, told once, and not shown; the gone make room."""
        people = People(max_people=2)
        for node in "abcd":
            people.hear(told(node), 1, 0, UNIX)
        self.assertEqual([each.key for each in people.everybody], ["a", "b"])
        self.assertEqual(people.counts["full"], 2)
        self.assertEqual([each.what for each in people.events()].count(What.FULL), 1)
        people.tick(70)
        people.hear(told("e", at=70), 1, 70, UNIX + 70)
        self.assertIsNotNone(people.person("e"))

    def test_emergency_has_room(self) -> None:
        """Somebody in an emergency takes the place of whoever was silent longest, but never of another emergency."""
        people = People(max_people=2)
        people.hear(told("a", disposition=1), 1, 0, UNIX)
        people.hear(told("b", at=1), 1, 1, UNIX + 1)
        people.hear(told("c", at=2, disposition=1), 1, 2, UNIX + 2)
        self.assertEqual([each.key for each in people.everybody], ["a", "c"])
        people.hear(told("d", at=3, disposition=1), 1, 3, UNIX + 3)
        self.assertEqual([each.key for each in people.everybody], ["a", "c"])

    def test_wishes(self) -> None:
        """Who asks in every datagram is answered once per interval."""
        people = People(interval_s=30)
        granted = [
            people.hear(told(at=at, announce_on_receive=True), 1, at, UNIX + at) for at in range(0, 61, 10)
        ]
        self.assertEqual(granted, [True, False, False, True, False, False, True])

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abcdef"),
                st.sampled_from(Kind),
                st.integers(0, 3),
                st.integers(-5, 100),
                st.integers(0, 90),
            ),
            max_size=60,
        )
    )
    def test_anything(self, story: list[tuple[str, Kind, int, int, int]]) -> None:
        """Whatever is told: never more people than allowed, every event fits, and in the end nobody is left."""
        people = People(max_people=4)
        now = 0.0
        states: dict[str, Happened] = {}
        for node, kind, source, promise, later in story:
            now += later
            people.tick(now)
            bits = 1 if kind is Kind.ALERT else 0
            people.hear(told(node, kind, now, promise=promise, disposition=bits), source, now, UNIX + now)
            self.assertLessEqual(len(people.everybody), 4)
            self.assertLessEqual(len(people._queue), 4 * 4 + 65)
            for event in people.events():
                states[event.person.key] = event
            for person in people.everybody:
                self.assertIn(person.key, states)
        people.tick(now + EMERGENCY_S + 1)
        self.assertEqual((people.everybody, people.next_at), ((), None))


ME = Descriptor(Identity("me", display_name="Me"), comment="fine")


class Telling(SynchronousTestCase):
    def announcer(self, seed: int = 1, **manner: Any) -> Announcer:
        """An announcer of ours."""
        return Announcer(ME, Manner(**manner), random=Random(seed))

    def run_to(self, announcer: Announcer, until: float) -> list[tuple[float, Message]]:
        """All that is said up to a moment, each at its time."""
        said = []
        while (at := announcer.next_at) is not None and at <= until:
            messages = announcer.due(at, UNIX + at)
            self.assertTrue(messages, f"woken at {at} for nothing")
            said += [(at, message) for message in messages]
        return said

    def test_nothing_before(self) -> None:
        """Nothing is said before there is a path."""
        self.assertIsNone(self.announcer().next_at)
        self.assertEqual(self.announcer().due(0, UNIX), [])

    def test_joining(self) -> None:
        """Joining is told at once and asks for answers; with nobody there it asks once more after the shortest interval."""
        announcer = self.announcer()
        announcer.joined(0)
        said = self.run_to(announcer, 100)
        times = [at for at, _ in said]
        asks = [message.descriptor.announce_on_receive for _, message in said]
        self.assertLess(times[0], 0.31)
        self.assertAlmostEqual(times[1] - times[0], 5)
        self.assertEqual(asks[:3], [True, True, False])
        for before, after in pairwise(times[1:]):
            self.assertTrue(24 <= after - before <= 30)

    def test_not_alone(self) -> None:
        """Where somebody has been heard there is no second asking."""
        announcer = self.announcer()
        announcer.joined(0)
        announcer.due(0.3, UNIX)
        announcer.heard()
        self.assertEqual(
            [message.descriptor.announce_on_receive for _, message in self.run_to(announcer, 60)].count(True),
            0,
        )

    def test_times(self) -> None:
        """Each word tells the time and by when the next one comes, and the next one does come by then."""
        announcer = self.announcer()
        announcer.joined(0)
        said = self.run_to(announcer, 500)
        for (at, message), (then, _) in pairwise(said):
            self.assertEqual(message.descriptor.ts, UNIX + int(at))
            self.assertEqual(message.descriptor.next_update, message.descriptor.ts + 30)
            self.assertLessEqual(then, message.descriptor.next_update - UNIX + 1)

    def test_answers(self) -> None:
        """Many who are asked at one moment answer soon, but not together; and each only once."""
        times = []
        for seed in range(40):
            announcer = self.announcer(seed, interval_s=1_000)
            announcer.joined(0)
            self.run_to(announcer, 100)
            announcer.asked(110, 40)
            announcer.asked(110.1, 40)
            times += [at for at, _ in self.run_to(announcer, 120)]
        self.assertEqual(len(times), 40)
        self.assertTrue(all(110.02 <= at <= 112 for at in times))
        crowded = max(sum(start <= at < start + 0.1 for at in times) for start in times)
        self.assertLess(crowded, 10)

    def test_seldom(self) -> None:
        """Answers, changes and joins never come faster than the shortest interval."""
        announcer = self.announcer()
        announcer.joined(0)
        said = []
        for tenth in range(600):
            now = tenth / 10
            announcer.asked(now, 3)
            if not tenth % 7:
                announcer.change(attrs.evolve(ME, comment=str(tenth)), now)
            if not tenth % 50:
                announcer.joined(now)
            said += [now for _ in announcer.due(now, UNIX + now)]
        self.assertTrue(all(after - before >= 4.9 for before, after in pairwise(said)))
        self.assertGreaterEqual(len(said), 11)

    def test_reduced(self) -> None:
        """With reduced immediacy an answer takes its time, but comes."""
        waits = []
        for seed in range(30):
            announcer = self.announcer(seed, reduce_immediacy=True, min_interval_s=10, interval_s=1_000)
            announcer.joined(0)
            self.run_to(announcer, 30)
            announcer.asked(100, 2)
            waits.append(self.run_to(announcer, 111)[0][0] - 100)
        self.assertGreater(max(waits), 5)
        self.assertLessEqual(max(waits), 10)

    def test_change(self) -> None:
        """A change is told at once where the last word is long enough ago."""
        announcer = self.announcer()
        announcer.joined(0)
        self.run_to(announcer, 20)
        announcer.change(attrs.evolve(ME, comment="busy", disposition=5), 20)
        ((at, message),) = self.run_to(announcer, 20)
        self.assertEqual((at, message.descriptor.comment, message.descriptor.disposition), (20, "busy", 4))

    def test_change_later(self) -> None:
        """What is not urgent goes out with the next regular word."""
        announcer = self.announcer()
        announcer.joined(0)
        self.run_to(announcer, 20)
        announcer.change(attrs.evolve(ME, comment="later"), 20, soon=False)
        self.assertEqual(self.run_to(announcer, 28), [])
        self.assertEqual(self.run_to(announcer, 36)[0][1].descriptor.comment, "later")

    def test_emergency(self) -> None:
        """An emergency goes out at once, three times, urgent, and then every shortest interval; its end likewise."""
        announcer = self.announcer()
        announcer.joined(0)
        self.run_to(announcer, 20.5)
        announcer.emergency_is(True, 20.5)
        announcer.emergency_is(True, 20.6)
        said = self.run_to(announcer, 60)
        self.assertEqual([at for at, _ in said[:3]], [20.5, 21.5, 23.5])
        self.assertTrue(all(message.urgent and message.descriptor.emergency for _, message in said))
        self.assertTrue(all(after[0] - before[0] <= 5 for before, after in pairwise(said)))
        announcer.emergency_is(False, 61)
        said = self.run_to(announcer, 64)
        self.assertEqual([at for at, _ in said], [61, 62, 64])
        self.assertFalse(any(message.descriptor.emergency for _, message in said))
        self.assertTrue(all(message.urgent for _, message in said))

    def test_cot(self) -> None:
        """In Cursor-on-Target an emergency and its end are events beside the position, which lasts for two and a half intervals."""
        announcer = self.announcer(form=Form.COT)
        announcer.joined(0)
        ((_, message), *_) = self.run_to(announcer, 1)
        self.assertEqual(message.descriptor.next_update - message.descriptor.ts, 75)
        announcer.emergency_is(True, 20)
        self.assertEqual([message.kind for message in announcer.due(20, UNIX)], [Kind.PRESENCE, Kind.ALERT])
        kinds = [message.kind for message in announcer.leave(30, UNIX)]
        self.assertEqual(kinds, [Kind.PRESENCE, Kind.CALM, Kind.LEAVING])

    def test_leaving(self) -> None:
        """Good-bye is said once, ends an emergency, and is the last word."""
        announcer = self.announcer()
        announcer.joined(0)
        self.run_to(announcer, 10)
        announcer.emergency_is(True, 11)
        announcer.due(11, UNIX + 11)
        calm, bye = announcer.leave(12, UNIX + 12)
        self.assertFalse(calm.descriptor.emergency or bye.descriptor.emergency)
        self.assertEqual((bye.kind, bye.descriptor.next_update), (Kind.LEAVING, bye.descriptor.ts))
        self.assertEqual(announcer.leave(13, UNIX), [])
        self.assertIsNone(announcer.next_at)

    def test_never_there(self) -> None:
        """Who was never heard says no good-bye; in a group for listening only nothing is said at all."""
        self.assertEqual(self.announcer().leave(0, UNIX), [])
        silent = self.announcer(listen_only=True)
        silent.joined(0)
        silent.emergency_is(True, 0)
        self.assertIsNone(silent.next_at)
        self.assertEqual(silent.leave(1, UNIX), [])

    def test_manner(self) -> None:
        """A mission's numbers are taken within bounds."""
        self.assertEqual(Manner.of(Presence()), Manner())
        odd = Manner.of(Presence(format=2, interval_s=2, min_interval_s=0))
        self.assertEqual((odd.form, odd.interval_s, odd.min_interval_s), (Form.COT, 2, 0.5))
        self.assertEqual(Manner.of(Presence(interval_s=3, min_interval_s=60)).interval_s, 60)


class Together(SynchronousTestCase):
    def test_a_team(self) -> None:
        """Twenty join one after the other over a lossy network: soon everybody knows everybody, at a few words each."""
        random = Random(4)
        count, lossy = 20, 0.05
        names = [f"n{number}" for number in range(count)]
        announcers = [
            Announcer(Descriptor(Identity(name)), Manner(), random=Random(number))
            for number, name in enumerate(names)
        ]
        teams = [People(own=name) for name in names]
        words = 0
        for tenth in range(1_200):
            now = tenth / 10
            if tenth < 10 * count and not tenth % 10:
                announcers[tenth // 10].joined(now)
            for talker, announcer in enumerate(announcers):
                for message in announcer.due(now, UNIX + now):
                    words += 1
                    for listener, people in enumerate(teams):
                        if listener == talker or announcers[listener].said == {} or random.random() < lossy:
                            continue
                        heard = Told(message.kind, Form.JSON, message.descriptor)
                        if people.hear(heard, talker, now, UNIX + now):
                            announcers[listener].asked(now, len(people.present))
                        announcers[listener].heard()
            for people in teams:
                people.tick(now)
            if tenth == 800:
                self.assertTrue(all(len(people.present) == count - 1 for people in teams))
        self.assertTrue(all(len(people.present) == count - 1 for people in teams))
        self.assertLess(words, count * 12)
