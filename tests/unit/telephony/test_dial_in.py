"""Callers at a channel's door and behind it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.telephony.causes import Cause
from ice.telephony.dial_in import (
    CODE_S,
    EVERYBODY_TRIES,
    LOCKED_S,
    PREROLL_S,
    Action,
    Admit,
    AskFloor,
    DialIn,
    Door,
    End,
    Key,
    Play,
    Prompt,
    Silence,
    Talk,
    Visit,
    VoiceKey,
)

IN: list[Action] = [Play(Prompt.WELCOME), Play(Prompt.KEYS), Admit()]
AGAIN: list[Action] = [Play(Prompt.WRONG), Play(Prompt.CODE)]
OUT: list[Action] = [Play(Prompt.LOCKED), End(Cause.FORBIDDEN)]


def key(visit: Visit, digits: str, now: float = 1.0) -> list[Action]:
    return [action for digit in digits for action in visit.digit(digit, now)]


def happen(visit: Visit, step: str, now: float) -> list[Action]:
    match step:
        case "granted":
            return visit.granted(now)
        case "refused":
            return visit.refused()
        case "stopped":
            return visit.stopped()
        case "tick":
            return visit.tick(now)
        case "end":
            return visit.hung_up()
        case "loud" | "quiet":
            return visit.voice(-10.0 if step == "loud" else -80.0, now)
    return visit.digit(step, now)


class AtTheDoor(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door("4711")

    def visit(self, number: str = "1", now: float = 0.0) -> Visit:
        visit = Visit(self.door, number, Key.KEYPAD, now)
        self.first = visit.begin(now)
        return visit

    def test_right(self) -> None:
        """Asked, keyed in, in; a star begins anew; without a code nobody asks."""
        visit = self.visit()
        self.assertEqual(self.first, [Play(Prompt.CODE)])
        self.assertEqual(key(visit, "99*4711#"), IN)
        self.assertIsNone(visit.deadline)
        self.door = Door("")
        self.visit()
        self.assertEqual(self.first, IN)

    def test_three_tries(self) -> None:
        """Then the door is locked for that number, for a while; others still get in."""
        visit = self.visit()
        self.assertEqual([key(visit, "1#"), key(visit, "4712#"), key(visit, "#")], [AGAIN, AGAIN, OUT])
        self.assertEqual(key(visit, "4711#"), [])
        self.visit(now=2.0)
        self.assertEqual(self.first, OUT)
        self.assertEqual(key(self.visit("2"), "4711#"), IN)
        self.assertEqual(key(self.visit(now=LOCKED_S + 2), "4711#", LOCKED_S + 3), IN)

    def test_tries_of_several_calls_add_up(self) -> None:
        """Hanging up between tries helps nobody."""
        for _ in range(2):
            self.assertEqual(key(self.visit(), "1#"), AGAIN)
        self.assertEqual(key(self.visit(), "1#"), OUT)

    def test_many_numbers(self) -> None:
        """Who goes through codes with ever new numbers locks the door for all, for a while."""
        for number in range(EVERYBODY_TRIES):
            key(self.visit(str(number)), "1#")
        self.visit("fresh")
        self.assertEqual(self.first, OUT)
        self.visit("fresh", now=LOCKED_S + 2)
        self.assertEqual(self.first, [Play(Prompt.CODE)])

    def test_nothing_is_keyed_in(self) -> None:
        """Silence counts as a wrong code each time."""
        visit, now = self.visit(), 0.0
        seen = []
        for _ in range(3):
            now += CODE_S
            seen.append(visit.tick(now))
        self.assertEqual(seen, [AGAIN, AGAIN, OUT])
        self.assertEqual(visit.tick(now + 100), [])

    def test_codes(self) -> None:
        """Too short, too long, no digits: refused; neither a code nor what was keyed in is shown."""
        for code in ("123", "1" * 17, "12ab", "١٢٣٤"):
            error = self.assertRaises(LocalError, Door, code)
            self.assertNotIn(code, str(error))
        visit = self.visit()
        key(visit, "471")
        self.assertNotIn("471", repr(visit) + repr(self.door))


class Names(SynchronousTestCase):
    def test_alias(self) -> None:
        """What listeners see: the number, a part of it, or what the caller calls himself, which is not looked at again; 16 bytes, printable."""
        for alias, number, name, shown in (
            ("", "+493012345", "Ada", "+493012345"),
            ("", "", "Ada", "telephone"),
            ("Tel {last}", "+493012345", "", "Tel 345"),
            ("Tel {last}", "", "", "Tel ?"),
            ("{name}", "1", "Ada", "Ada"),
            ("{name}", "1", "", "1"),
            ("{name}", "1", "{number}", "{number}"),
            ("Hotline", "1", "Ada", "Hotline"),
            ("{number}", "9" * 500, "", "9" * 16),
            ("{name}", "1", "a\x1b[2J\n", "a\ufffd[2J\ufffd"),
        ):
            self.assertEqual(DialIn("500", "north", alias=alias).alias_of(number, name), shown)

    def test_code_is_not_shown(self) -> None:
        """Neither in a log nor in a trace-back."""
        self.assertNotIn("4711", repr(DialIn("500", "north", "4711")))


class Inside(SynchronousTestCase):
    def visit(self, how: Key = Key.KEYPAD) -> Visit:
        visit = Visit(Door(""), "1", how, 0.0)
        visit.begin(0.0)
        return visit

    def test_keypad(self) -> None:
        """Star asks, the floor grants, a beep, talk; hash lets go. Twice is once."""
        visit = self.visit()
        self.assertEqual(key(visit, "**"), [AskFloor()])
        self.assertEqual(visit.granted(2.0), [Play(Prompt.TALK), Talk(2.0)])
        self.assertEqual(key(visit, "*5"), [])
        self.assertEqual(key(visit, "##"), [Silence()])
        self.assertEqual(visit.ignored, {"no-meaning": 1})

    def test_refused_and_stopped(self) -> None:
        """Somebody else talks; somebody above takes the floor; each has its beep. Late answers mean nothing."""
        visit = self.visit()
        key(visit, "*")
        self.assertEqual(visit.refused(), [Play(Prompt.BUSY)])
        key(visit, "*")
        visit.granted(1.0)
        self.assertEqual(visit.stopped(), [Silence(), Play(Prompt.STOPPED)])
        self.assertEqual([visit.stopped(), visit.refused(), visit.granted(1.0)], [[], [], []])
        key(visit, "*#")
        self.assertEqual(visit.granted(2.0), [])

    def test_voice(self) -> None:
        """Speech opens, with what was said just before; a breath keeps it open, a pause lets go."""
        visit = self.visit(Key.VOICE)
        seen: list[tuple[int, Action]] = []
        for step in range(200):
            level = -20.0 if 50 <= step < 80 or 100 <= step < 120 else -65.0
            for action in visit.voice(level, step * 0.02):
                seen.append((step, action))
                if isinstance(action, AskFloor):
                    seen += [(step, each) for each in visit.granted(step * 0.02)]
        self.assertEqual([type(action) for _, action in seen], [AskFloor, Talk, Silence])
        (opened, _), (_, talk), (closed, _) = seen
        self.assertLessEqual(opened, 54)
        assert isinstance(talk, Talk)
        self.assertLess(abs(talk.since - (opened * 0.02 - PREROLL_S)), 1e-6)
        self.assertTrue(155 <= closed <= 165)

    def test_a_refused_voice_waits_for_a_pause(self) -> None:
        """Who talks on after a refusal is not heard in mid-sentence, and asks again after a pause."""
        visit = self.visit(Key.VOICE)
        asked = 0
        for step in range(300):
            level = -65.0 if 100 <= step < 200 or step < 10 else -20.0
            for action in visit.voice(level, step * 0.02):
                if isinstance(action, AskFloor):
                    asked += 1
                    visit.refused()
        self.assertEqual(asked, 2)

    def test_noise_opens_nothing_for_long(self) -> None:
        """A noisy line's own level becomes the floor; a single click never opens."""
        noisy = VoiceKey()
        pressed = [noisy.hear(-35.0, step * 0.02) for step in range(2_000)]
        self.assertFalse(pressed[-1])
        quiet = VoiceKey()
        self.assertFalse(
            any(quiet.hear(-20.0 if step % 10 == 0 else -65.0, step * 0.02) for step in range(100))
        )

    def test_always_heard(self) -> None:
        """On a full-duplex channel nobody asks: heard from the welcome to the end, but for holds; keys mean nothing."""
        visit = Visit(Door(""), "1", Key.OPEN, 0.0)
        self.assertEqual(visit.begin(1.0), [Play(Prompt.WELCOME), Admit(), Talk(1.0)])
        self.assertEqual(key(visit, "*#5"), [])
        self.assertEqual([visit.hold(), visit.hold(), visit.resume(2.0)], [[Silence()], [], [Talk(2.0)]])
        self.assertEqual([visit.resume(3.0), visit.hung_up(), visit.resume(4.0)], [[], [Silence()], []])

    def test_held(self) -> None:
        """Who is put on hold amid a burst has let go of his key."""
        visit = self.visit()
        key(visit, "*")
        visit.granted(1.0)
        self.assertEqual([visit.hold(), visit.resume(2.0), key(visit, "*")], [[Silence()], [], [AskFloor()]])

    def test_called(self) -> None:
        """Whom the channel calls is told so, and asked for nothing, locked door or not."""
        door = Door("4711")
        for _ in range(3):
            door.attempt("1", "1", 0.0)
        visit = Visit(door, "1", Key.KEYPAD, 0.0, called=True)
        self.assertEqual(visit.begin(0.0), [Play(Prompt.CALLED), *IN])

    def test_hang_up(self) -> None:
        """A burst ends with its call."""
        visit = self.visit()
        key(visit, "*")
        visit.granted(1.0)
        self.assertEqual(visit.hung_up(), [Silence()])
        self.assertEqual((visit.hung_up(), key(visit, "*"), visit.deadline), ([], [], None))

    @given(
        st.lists(
            st.sampled_from(
                [*"0123456789*#", "x", "granted", "refused", "stopped", "tick", "loud", "quiet", "end"]
            )
        ),
        st.sampled_from(Key),
    )
    @settings(max_examples=100, deadline=None)
    def test_any_order(self, steps: list[str], how: Key) -> None:
        """Nobody talks who was not granted the floor, and every burst that begins ends."""
        visit, now, open_bursts, asked = Visit(Door("1111"), "1", how, 0.0), 0.0, 0, how is Key.OPEN
        for step in [*steps, "end"]:
            now += 0.02
            actions = happen(visit, step, now)
            for action in actions:
                asked = asked or isinstance(action, AskFloor)
                open_bursts += isinstance(action, Talk) - isinstance(action, Silence)
                self.assertTrue(asked or not isinstance(action, Talk))
            self.assertIn(open_bursts, (0, 1))
        self.assertEqual(open_bursts, 0)
