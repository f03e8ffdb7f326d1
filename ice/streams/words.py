"""A far side's words in our own sentences."""

MAX_SHOWN = 300  # characters: a reason is a sentence, and a log line stays one line


def plain(text: str) -> str:
    """A far side's text, fit for a terminal and a log line: printable, cut."""
    shown = "".join(character if character.isprintable() else "�" for character in text[: MAX_SHOWN + 1])
    return shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + "…"
