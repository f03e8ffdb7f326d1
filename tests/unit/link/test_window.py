"""The window against a model, and each of its rules by name."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.window import BITMAP_LIFE_S, MARK_LIFE_S, MAX_JUMP, SIZE, Verdict, Window

WRAP = 2**32


class WindowTests(SynchronousTestCase):
    """Rules, one by one."""

    def ask(self, window: Window, *numbers: int, now: float = 0.0) -> list[Verdict]:
        """The verdicts on ``numbers`` in turn."""
        return [window.ask(n % WRAP, now) for n in numbers]

    def test_in_order(self) -> None:
        """Each number passes once."""
        window = Window()
        self.assertEqual(self.ask(window, 0, 1, 2, 2, 1, 0), [Verdict.FRESH] * 3 + [Verdict.DUPLICATE] * 3)

    def test_starts_anywhere(self) -> None:
        """The first number heard may be any."""
        for start in (0, 1, 2**31, WRAP - 1):
            self.assertEqual(self.ask(Window(), start), [Verdict.FRESH])

    def test_reordered(self) -> None:
        """A straggler inside the window passes once."""
        window = Window()
        self.assertEqual(self.ask(window, 10, 12, 11, 11), [Verdict.FRESH] * 3 + [Verdict.DUPLICATE])

    def test_late(self) -> None:
        """What is behind the window is late, seen or not."""
        window = Window()
        self.ask(window, 0, SIZE)
        self.assertEqual(self.ask(window, 1, 0), [Verdict.FRESH, Verdict.LATE])

    def test_wraps(self) -> None:
        """Numbers go on over the end of u32."""
        window = Window()
        self.assertEqual(self.ask(window, WRAP - 2, WRAP, WRAP - 1, WRAP + 1), [Verdict.FRESH] * 4)
        self.assertEqual(self.ask(window, WRAP - 1), [Verdict.DUPLICATE])

    def test_jump_is_dropped_then_believed(self) -> None:
        """A forward jump over the bound passes only when the next datagrams confirm it, stragglers between or not."""
        for between in ([], [1], [1, 3, 2]):
            window = Window()
            far = MAX_JUMP + 100
            self.assertEqual(self.ask(window, 0, far), [Verdict.FRESH, Verdict.JUMP])
            self.assertEqual(self.ask(window, *between), [Verdict.FRESH] * len(between))
            self.assertEqual(self.ask(window, far + 2, far + 1, far + 3), [Verdict.FRESH] * 3)

    def test_jump_must_be_confirmed_by_another(self) -> None:
        """The same jump said twice confirms nothing."""
        window = Window()
        self.assertEqual(
            self.ask(window, 0, 9_000, 9_000, 1), [Verdict.FRESH, Verdict.JUMP, Verdict.JUMP, Verdict.FRESH]
        )

    def test_largest_jump(self) -> None:
        """A jump of exactly the bound passes at once."""
        self.assertEqual(self.ask(Window(), 5, 5 + MAX_JUMP), [Verdict.FRESH] * 2)

    def test_half_the_circle(self) -> None:
        """A number half the circle away is behind, by serial arithmetic, and therefore late."""
        self.assertEqual(self.ask(Window(), 0, 2**31), [Verdict.FRESH, Verdict.LATE])

    def test_silence_forgets_the_bitmap(self) -> None:
        """After 30 s of silence everything up to the mark counts as seen; what follows passes."""
        window = Window()
        self.ask(window, 10, 12, now=0.0)
        later = BITMAP_LIFE_S + 1
        self.assertEqual(
            self.ask(window, 11, 13, 11, now=later), [Verdict.DUPLICATE, Verdict.FRESH, Verdict.DUPLICATE]
        )

    def test_an_hour_forgets_the_mark(self) -> None:
        """After an hour the source may begin anywhere."""
        window = Window()
        self.ask(window, 1_000_000, now=0.0)
        self.assertEqual(self.ask(window, 3, 3, now=MARK_LIFE_S + 1), [Verdict.FRESH, Verdict.DUPLICATE])

    def test_short_silence_keeps_the_bitmap(self) -> None:
        """29 s of silence change nothing."""
        window = Window()
        self.ask(window, 10, 12, now=0.0)
        self.assertEqual(self.ask(window, 11, now=BITMAP_LIFE_S - 1), [Verdict.FRESH])

    @given(st.integers(0, WRAP - 1), st.lists(st.integers(-1_500, 2_500), max_size=80))
    @settings(max_examples=200, deadline=None)
    def test_never_twice(self, start: int, steps: list[int]) -> None:
        """However numbers come, none passes twice, and what the window accepts agrees with a set."""
        window, seen = Window(), set()
        position = start
        for step in steps:
            number = (position + step) % WRAP
            verdict = window.ask(number, 0.0)
            if verdict is Verdict.FRESH:
                self.assertNotIn(number, seen)
                seen.add(number)
                position = number
            elif verdict is Verdict.DUPLICATE:
                self.assertIn(number, seen)

    @given(st.integers(0, WRAP - 1), st.permutations(list(range(64))))
    @settings(max_examples=100, deadline=None)
    def test_any_order_passes(self, start: int, order: list[int]) -> None:
        """Whatever the order within the window, each number passes exactly once (none is lost to reordering)."""
        window = Window()
        window.ask(start, 0.0)
        verdicts = [window.ask((start + 1 + n) % WRAP, 0.0) for n in order]
        self.assertEqual(verdicts, [Verdict.FRESH] * 64)
