"""The windows of one stream."""

from twisted.trial.unittest import SynchronousTestCase

from ice.link.window import Verdict
from ice.streams.heard import Heard


class HeardTests(SynchronousTestCase):
    def test_once_per_source(self) -> None:
        """The same number passes once per source, whichever way it came."""
        heard = Heard()
        self.assertEqual(heard.ask(1, 0, 0.0), Verdict.FRESH)
        self.assertEqual(heard.ask(1, 0, 0.1), Verdict.DUPLICATE)
        self.assertEqual(heard.ask(2, 0, 0.1), Verdict.FRESH)

    def test_bounded(self) -> None:
        """Sources without end cost bounded memory, and those heard last are kept."""
        heard = Heard(max_sources=100)
        for source in range(1_000):
            heard.ask(source, 7, source / 100)
            self.assertLessEqual(len(heard), 100)
        self.assertEqual(heard.forgotten, 1_000 - len(heard))
        self.assertEqual(heard.ask(999, 7, 10.0), Verdict.DUPLICATE)
