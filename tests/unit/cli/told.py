"""A display that remembers what it was told, for tests."""

from collections.abc import Sequence

from ice.cli.display import Meter


class Told:
    """See :class:`ice.cli.display.Display`."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, object]]] = []
        self.rows: list[Meter] = []
        self.closed = False

    def say(self, event: str, sentence: str, /, **fields: object) -> None:
        self.events.append((event, sentence, fields))

    def meters(self, rows: Sequence[Meter]) -> None:
        self.rows = list(rows)

    def close(self) -> None:
        self.closed = True

    def named(self, name: str) -> list[dict[str, object]]:
        """The fields of each event of that name."""
        return [fields for event, _, fields in self.events if event == name]

    def sentences(self, name: str) -> list[str]:
        """What people read of each event of that name."""
        return [sentence for event, sentence, _ in self.events if event == name]
