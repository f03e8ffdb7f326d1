"""What strangers have written, on a terminal."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.printable import printable


class Printable(SynchronousTestCase):
    def test_what_is_obeyed(self) -> None:
        """Escapes, line breaks, C1 controls, halves of pairs and marks of direction become U+FFFD; letters of any alphabet stay."""
        self.assertEqual(printable("\x1b[1mA\r\n\x9b\ud800\u202eé字 "), "�[1mA����" + "�é字 ")

    @given(st.text(alphabet=st.characters()), st.none() | st.integers(1, 10))
    @settings(max_examples=100, deadline=None)
    def test_any(self, text: str, limit: int | None) -> None:
        """It can be printed and encoded, and is no longer than asked for."""
        shown = printable(text, limit)
        self.assertTrue(shown.isprintable())
        shown.encode()
        self.assertLessEqual(len(shown), limit or len(text))
