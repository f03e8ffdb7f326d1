"""A far side's words in our own sentences."""

from ice.printable import printable

MAX_SHOWN = 300  # characters: a reason is a sentence, and a log line stays one line


def plain(text: str) -> str:
    """A far side's text, fit for a terminal and a log line: printable, cut."""
    return printable(text, MAX_SHOWN)
