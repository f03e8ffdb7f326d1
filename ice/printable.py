"""Text of a stranger, fit for a terminal: the one rule by which everything that somebody else has written is shown.

Escape sequences, line breaks, C1 controls, halves of UTF-16 pairs and marks that turn the direction of writing are what a terminal, a log or an encoder
would obey or stumble over. Each becomes U+FFFD, so that it is seen that something stood there.
"""


def printable(text: str, limit: int | None = None) -> str:
    """``text`` with U+FFFD for what is not printable, cut to ``limit`` characters, the last of which is then an ellipsis."""
    cut = text if limit is None else text[: limit + 1]
    if not cut.isprintable():
        cut = "".join(character if character.isprintable() else "�" for character in cut)
    return cut if limit is None or len(cut) <= limit else cut[: limit - 1] + "…"
