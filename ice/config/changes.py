"""What a reload changes: the settings that differ between two configurations, and which of them wait for a restart."""

from collections.abc import Collection, Iterator
from typing import Any

import attrs
from pydantic import BaseModel

from ice.config.fields import RESTART
from ice.config.problems import is_array, table_of
from ice.config.schema import Config


@attrs.frozen
class Changes:
    """Dotted names of settings that differ: those a reload applies, and those that are read only at the start."""

    live: tuple[str, ...]
    restart: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.live or self.restart)

    def __str__(self) -> str:
        """For a log line: ``rallypoint.drain_s; after a restart: rallypoint.listen``."""
        parts = [", ".join(self.live)] if self.live else []
        if self.restart:
            parts.append("after a restart: " + ", ".join(self.restart))
        return "; ".join(parts) or "nothing"


def changes(old: Config, new: Config, sections: Collection[str] = ()) -> Changes:
    """Compare two configurations, in the `sections` named, or in all of them.

    A list counts as one setting: ``rallypoint.access`` when any rule differs. What stands in a file that a setting names
    (a renewed certificate, say) is not compared.
    """
    different = [
        (name, restart)
        for name, restart in _different(old, new, "")
        if not sections or name.split(".")[0] in sections
    ]
    return Changes(
        tuple(name for name, restart in different if not restart),
        tuple(name for name, restart in different if restart),
    )


def _different(old: BaseModel, new: BaseModel, prefix: str) -> Iterator[tuple[str, bool]]:
    for name, field in type(new).model_fields.items():
        before: Any = getattr(old, name)
        after: Any = getattr(new, name)
        if table_of(field.annotation) and not is_array(field.annotation):
            yield from _different(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name}", RESTART in field.metadata
