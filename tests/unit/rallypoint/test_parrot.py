"""The parrot says back what was said, when it was said, to who said it."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import MEDIA, MEDIA_HEADER, Flag, media
from ice.rallypoint.parrot import MAX_BURST_BYTES, MAX_BURST_S, SILENCE_S, Parrot

KEY = 5


class ParrotTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sources = iter(range(900, 1_000))
        self.parrot: Parrot[str] = Parrot(lambda: next(self.sources), max_talkers=2)

    def say(
        self, count: int, *, who: str = "a", at: float = 0.0, step: float = 0.02, last: bool = True
    ) -> float:
        """A burst; when its last frame came."""
        for n in range(count):
            flags = (Flag.FIRST if n == 0 else 0) | (Flag.LAST if last and n == count - 1 else 0)
            self.parrot.heard(who, media(flags, KEY, 1, 70 + n, b"%s%d" % (who.encode(), n)), at + n * step)
        return at + (count - 1) * step

    def play(self, until: float) -> list[tuple[float, str, bytes]]:
        """Everything played until then, each at the parrot's own deadline."""
        played = []
        while (now := self.parrot.deadline) <= until:
            played += [(round(now, 6), who, frame) for who, frame in self.parrot.play(now)]
        return played

    def test_a_burst_comes_back_with_its_spacing(self) -> None:
        """After LAST, at once; same payloads and flags, another source, sequence numbers from 0."""
        end = self.say(5)
        played = self.play(10.0)
        self.assertEqual([at for at, _, _ in played], [round(end + n * 0.02, 6) for n in range(5)])
        self.assertEqual([who for _, who, _ in played], ["a"] * 5)
        headers = [MEDIA.unpack_from(frame) for _, _, frame in played]
        self.assertEqual([h[2] for h in headers], [Flag.FIRST, 0, 0, 0, Flag.LAST])
        self.assertEqual({(h[3], h[4]) for h in headers}, {(KEY, 900)})
        self.assertEqual([h[5] for h in headers], [0, 1, 2, 3, 4])
        self.assertEqual([f[MEDIA_HEADER:] for _, _, f in played], [b"a0", b"a1", b"a2", b"a3", b"a4"])
        self.assertEqual((self.parrot.talkers, self.parrot.deadline), (0, float("inf")))
        self.assertEqual((self.parrot.bursts_heard, self.parrot.bursts_played), (1, 1))

    def test_silence_ends_a_burst_too(self) -> None:
        """Whose last packet was lost is answered half a second later."""
        end = self.say(3, last=False)
        self.assertEqual(self.parrot.play(end + SILENCE_S - 0.01), [])
        self.assertEqual(next(at for at, _, _ in self.play(10.0)), round(end + SILENCE_S, 6))

    def test_copies_of_the_end_are_no_words(self) -> None:
        """Senders say the end of a burst three times; it is played once, after a long burst and after a short one."""
        for words in (1, 2, 10):
            at = 100.0 * words
            end = self.say(words, at=at)
            copy = media(Flag.LAST, KEY, 1, 99, b"a%d" % (words - 1))
            played = self.parrot.play(end)
            for n in (1, 2):
                self.parrot.heard("a", copy, end + n * 0.02)
                played += self.parrot.play(end + n * 0.02)
            played += [(who, frame) for _, who, frame in self.play(at + 5.0)]
            self.assertEqual(len(played), words)
        self.assertEqual(self.parrot.bursts_heard, self.parrot.bursts_played)

    def test_a_pause_is_played_as_a_pause(self) -> None:
        """Shorter than the silence that ends a burst."""
        self.parrot.heard("a", media(0, KEY, 1, 0, b""), 0.0)
        self.parrot.heard("a", media(Flag.LAST, KEY, 1, 1, b""), 0.4)
        first, second = (at for at, _, _ in self.play(5.0))
        self.assertAlmostEqual(second - first, 0.4)

    def test_two_talkers_each_hear_themselves(self) -> None:
        """Under different sources."""
        self.say(3, who="a")
        self.say(3, who="b", at=0.01)
        played = self.play(5.0)
        for who in ("a", "b"):
            frames = [f for _, w, f in played if w == who]
            self.assertEqual(
                [f[MEDIA_HEADER:] for f in frames], [b"%s%d" % (who.encode(), n) for n in range(3)]
            )
        self.assertEqual({MEDIA.unpack_from(f)[4] for _, _, f in played}, {900, 901})

    def test_a_third_is_not_answered_where_two_are_the_limit(self) -> None:
        """Counted; and welcome when there is room."""
        for who in ("a", "b", "c"):
            self.say(2, who=who)
        self.assertEqual({who for _, who, _ in self.play(5.0)}, {"a", "b"})
        self.assertEqual(self.parrot.frames_dropped, 2)
        self.say(2, who="c", at=6.0)
        self.assertEqual(len(self.play(9.0)), 2)

    def test_who_speaks_while_it_plays_is_listened_to(self) -> None:
        """The rest of what was played is dropped; sequence numbers go on."""
        end = self.say(10)
        self.assertEqual(len(self.play(end + 0.05)), 3)
        self.say(2, at=end + 0.06)
        played = self.play(9.0)
        self.assertEqual([f[MEDIA_HEADER:] for _, _, f in played], [b"a0", b"a1"])
        self.assertEqual([MEDIA.unpack_from(f)[5] for _, _, f in played], [3, 4])

    def test_a_burst_is_bounded_in_seconds(self) -> None:
        """What was kept is played, and ends properly."""
        self.say(400, step=0.1)
        played = self.play(200.0)
        self.assertEqual(len(played), int(MAX_BURST_S * 10) + 1)
        self.assertEqual(MEDIA.unpack_from(played[-1][2])[2], Flag.LAST)

    def test_a_burst_is_bounded_in_bytes(self) -> None:
        """Whatever a packet's size."""
        for n in range(200):
            self.parrot.heard("a", media(0, KEY, 1, n, b"x" * 4_096), n * 0.02)
        self.assertEqual(len(self.play(60.0)), MAX_BURST_BYTES // 4_096)

    def test_who_leaves_is_forgotten(self) -> None:
        """Nothing is played to it; forgetting twice is harmless."""
        self.say(3)
        self.parrot.forget("a")
        self.parrot.forget("a")
        self.assertEqual((self.parrot.deadline, self.parrot.play(9.0)), (float("inf"), []))

    @given(st.lists(st.tuples(st.floats(0.0, 0.7), st.sampled_from("abc"), st.integers(0, 31)), max_size=60))
    @settings(max_examples=100, deadline=None)
    def test_whatever_is_said_it_comes_to_an_end(self, said: list[tuple[float, str, int]]) -> None:
        """Each deadline brings something about, nothing is played that was not said, and then there is quiet."""
        self.setUp()
        now, heard, played = 0.0, 0, 0
        for wait, who, flags in said:
            now += wait
            while self.parrot.deadline <= now:
                played += len(self.parrot.play(self.parrot.deadline))
            self.parrot.heard(who, media(flags, KEY, 1, heard, b""), now)
            heard += 1
        rounds = 0
        while self.parrot.deadline < float("inf"):
            played += len(self.parrot.play(self.parrot.deadline))
            rounds += 1
            self.assertLess(rounds, 10 * len(said) + 10)
        self.assertLessEqual(played, heard)
        self.assertEqual(played, self.parrot.frames_played)
