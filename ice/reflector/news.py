"""What happens to many rules at once is said once: an interface that goes takes hundreds of groups with it, and hundreds of lines help nobody at night.

Changes of one quarter of a second are put together by the reason that they have; how each rule stands is in the status.
"""

from collections.abc import Callable, Sequence
from typing import Final

SHOWN: Final = 3  # rules that are named; of more only the number is said


class News:
    """Collects changes of rules: :meth:`closed` and :meth:`opened` at any time, :meth:`tell` some times a second."""

    def __init__(self, closed: Callable[[str], None], opened: Callable[[str], None]) -> None:
        """Who says that rules are closed, and that they are open again; each gets a sentence."""
        self._tell_closed, self._tell_opened = closed, opened
        self._closed: dict[str, list[str]] = {}
        self._opened: dict[str, str] = {}

    def closed(self, rule: str, why: str) -> None:
        """A rule cannot be used: its name, and why."""
        self._opened.pop(rule, None)
        names = self._closed.setdefault(why, [])
        if rule not in names:
            names.append(rule)

    def opened(self, rule: str, how: str) -> None:
        """A rule can be used again: its name, and how."""
        self._opened[rule] = how

    def tell(self) -> None:
        """Say what has come together."""
        closed, self._closed = self._closed, {}
        opened, self._opened = self._opened, {}
        for why, names in closed.items():
            self._tell_closed(f"{named(names)}: {why}")
        if len(opened) > SHOWN:
            self._tell_opened(f"{named(list(opened))}: open again")
        else:
            for rule, how in opened.items():
                self._tell_opened(f"{rule}: {how}")


def named(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f", and {more} more" if more > 0 else "")
