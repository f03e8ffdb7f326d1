"""Media that waits: bounded, oldest first to go, urgent last."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import MEDIA_HEADER, Flag, media
from ice.link.outbox import Outbox


def frame(number: int, flags: int = 0) -> bytes:
    """A MEDIA frame that carries its number."""
    return media(flags, 1, 2, number, b"%d" % number)


def drained(outbox: Outbox, now: float = 0.0) -> list[int]:
    """The numbers that come out now."""
    numbers = []
    while (out := outbox.next(now)) is not None:
        numbers.append(int(out[MEDIA_HEADER:]))
    return numbers


class OutboxTests(SynchronousTestCase):
    """One link's queue."""

    def test_open_at_first(self) -> None:
        """A new outbox lets media pass beside it."""
        self.assertTrue(Outbox().open)

    def test_blocked_then_free(self) -> None:
        """Frames wait while the transport is full, come out in order, and only then is the way open again."""
        outbox = Outbox()
        outbox.blocked = True
        self.assertFalse(outbox.open)
        outbox.push(frame(1), 0.0)
        outbox.push(frame(2), 0.0)
        self.assertIsNone(outbox.next(0.0), "nothing comes out of a shut outbox")
        outbox.blocked = False
        self.assertFalse(outbox.open, "a new frame must not overtake those that wait")
        self.assertEqual(drained(outbox), [1, 2])
        self.assertTrue(outbox.open)

    def test_two_reasons(self) -> None:
        """Blocked and stale are independent: both must go."""
        outbox = Outbox()
        outbox.blocked = outbox.stale = True
        outbox.blocked = False
        self.assertFalse(outbox.open)
        outbox.stale = False
        self.assertTrue(outbox.open)

    def test_oldest_goes_first(self) -> None:
        """At the bound the oldest frame is dropped and counted."""
        outbox = Outbox(max_frames=3)
        outbox.stale = True
        for number in range(5):
            outbox.push(frame(number), 0.0)
        outbox.stale = False
        self.assertEqual(drained(outbox), [2, 3, 4])
        self.assertEqual((outbox.dropped_full, outbox.queued), (2, 5))

    def test_urgent_goes_last(self) -> None:
        """Urgent frames outlive ordinary ones, and among themselves the oldest goes."""
        outbox = Outbox(max_frames=2)
        outbox.stale = True
        outbox.push(frame(1, Flag.URGENT), 0.0)
        outbox.push(frame(2), 0.0)
        outbox.push(frame(3, Flag.URGENT | Flag.FIRST), 0.0)
        outbox.push(frame(4, Flag.URGENT), 0.0)
        outbox.stale = False
        self.assertEqual(drained(outbox), [3, 4])

    def test_too_old(self) -> None:
        """Who wakes late does not hear what was said long ago."""
        outbox = Outbox(max_age_s=2.0)
        outbox.stale = True
        outbox.push(frame(1), 0.0)
        outbox.push(frame(2), 1.5)
        outbox.stale = False
        self.assertEqual(drained(outbox, now=3.0), [2])
        self.assertEqual(outbox.dropped_old, 1)
        self.assertTrue(outbox.open)

    def test_all_too_old(self) -> None:
        """When everything is too old the way is open at once."""
        outbox = Outbox(max_age_s=2.0)
        outbox.blocked = True
        outbox.push(frame(1), 0.0)
        outbox.blocked = False
        self.assertEqual(drained(outbox, now=9.0), [])
        self.assertTrue(outbox.open)

    def test_forget(self) -> None:
        """Everything that waits can be thrown away."""
        outbox = Outbox()
        outbox.stale = True
        outbox.push(frame(1), 0.0)
        self.assertEqual(outbox.forget(), 1)
        self.assertEqual(len(outbox), 0)

    @given(
        st.lists(st.sampled_from(["push", "urgent", "block", "free", "stale", "fresh", "take"]), max_size=60)
    )
    @settings(max_examples=200, deadline=None)
    def test_accounts_balance(self, steps: list[str]) -> None:
        """Whatever happens: bounded, in order, and every frame is sent, waiting or counted as dropped."""
        outbox = Outbox(max_frames=4, max_age_s=5.0)
        sent: list[int] = []
        for now, step in enumerate(steps):
            if step in ("push", "urgent"):
                outbox.push(frame(now, Flag.URGENT if step == "urgent" else 0), float(now))
            elif step in ("block", "free"):
                outbox.blocked = step == "block"
            elif step in ("stale", "fresh"):
                outbox.stale = step == "stale"
            elif (out := outbox.next(float(now))) is not None:
                sent.append(int(out[MEDIA_HEADER:]))
            self.assertLessEqual(len(outbox), 4)
            self.assertEqual(outbox.open, not (outbox.blocked or outbox.stale or len(outbox)))
        self.assertEqual(sent, sorted(sent))
        self.assertEqual(outbox.queued, len(sent) + len(outbox) + outbox.dropped_full + outbox.dropped_old)
