"""What ``ice who`` shows: a live table on a terminal, a plain line for each event where it is piped, objects with ``--json``.

Everything that others have written is shown as text and never as markup, printable (:mod:`ice.printable`) and, in a table, cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs
from rich.table import Table
from rich.text import Text

from ice.cli.boards import TableScreen, aligned
from ice.cli.display import duration
from ice.mission.people import Happened, Person, State, What
from ice.mission.presence import CONNECTIVITY, POWER_SOURCES, POWER_STATES, Disposition, Location
from ice.mission.talkers import Talker, talks
from ice.printable import printable
from ice.streams.words import plain

OLD_FIX_S: Final = 120.0  # a place older than this says how old it is
STATUS_CELLS: Final = 40  # of a status in the table; the whole of it is in the line that told it
COMPASS: Final = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
HEADINGS: Final = ("who", "status", "talks on", "where", "power", "network", "heard")


@attrs.frozen
class Row:
    """One line of the table: a person, or a voice that presence does not know."""

    who: str
    status: str = ""
    talks_on: str = ""
    where: str = ""
    power: str = ""
    network: str = ""
    heard: str = ""
    emergency: bool = False
    faint: bool = False  #: not here now

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts under :data:`HEADINGS`."""
        cells = (self.who, self.status, self.talks_on, self.where, self.power, self.network, self.heard)
        return tuple(map(printable, cells))


def rows_of(
    people: Iterable[Person],
    talkers: Sequence[Talker],
    groups: Mapping[str, str],
    now: float,
    here: Location | None = None,
) -> list[Row]:
    """The table: those in an emergency first; ``groups``: names by stream id; ``here``: where we are, to tell distances."""
    rows = []
    strangers = list(talkers)
    for person in people:
        talking = talks(person, talkers)
        strangers = [each for each in strangers if each not in talking]
        rows.append(
            Row(
                who=plain(person.name),
                status=status_of(person),
                talks_on=", ".join(dict.fromkeys(groups.get(each.group, each.group) for each in talking)),
                where=where_of(person, now, here),
                power=power_of(person),
                network=network_of(person),
                heard=heard_of(person, now),
                emergency=person.emergency or any(each.emergency for each in talking),
                faint=person.state is not State.HERE,
            )
        )
    rows += [
        Row(who=voice_of(each), status="no presence", talks_on=groups.get(each.group, each.group))
        for each in strangers
    ]
    return rows


def status_of(person: Person) -> str:
    """Emergency, busy, and their own words."""
    words = []
    if person.emergency:
        words.append(f"EMERGENCY ({plain(person.alert)})" if person.alert else "EMERGENCY")
    if person.descriptor.disposition & Disposition.BUSY:
        words.append("busy")
    if person.descriptor.comment:
        words.append(plain(person.descriptor.comment))
    if person.two_places:
        words.append("in two places")
    if person.clock_wrong and person.skew_s is not None:
        words.append(f"clock {abs(person.skew_s):.0f} s {'ahead' if person.skew_s > 0 else 'behind'}")
    return ", ".join(words)


def where_of(person: Person, now: float, here: Location | None = None) -> str:
    """Coordinates, how they move, how far from here, and how old that is."""
    place = person.descriptor.location
    if place is None:
        return ""
    words = f"{place.latitude:.5f}, {place.longitude:.5f}"
    if here is not None:
        metres, bearing = distance(here, place)
        far = f"{metres / 1000:.1f} km" if metres >= 1_000 else f"{metres:.0f} m"
        words += f" ({far} {compass(bearing)})"
    if place.direction_deg is not None and (place.speed_m_s or 0) >= 0.5:
        words += f", {compass(place.direction_deg)} at {place.speed_m_s:.1f} m/s"
    age_s = person.fix_age_s(now)
    if age_s is not None and age_s >= OLD_FIX_S:
        words += f", {duration(age_s)} ago"
    return words


def power_of(person: Person) -> str:
    """How much, and what it does."""
    power = person.descriptor.power
    if power is None:
        return ""
    words = [f"{power.level_percent} %"] if power.level_percent else []
    state = POWER_STATES.get(power.state, "")
    words += [state] if state and state != "discharging" else []
    words += ["wired"] if POWER_SOURCES.get(power.source) == "wired" and not state else []
    return ", ".join(words)


def network_of(person: Person) -> str:
    """Wired, wifi or cellular, and how strong."""
    link = person.descriptor.connectivity
    if link is None:
        return ""
    kind = CONNECTIVITY.get(link.type, f"type {link.type}")
    return f"{kind} {link.strength} dBm" if link.strength < 0 else kind


def heard_of(person: Person, now: float) -> str:
    """How long ago, or that they have left."""
    ago = duration(max(0.0, now - person.heard_at)) or ""
    return {State.LEFT: "left", State.GONE: f"GONE {ago}", State.LATE: f"late {ago}"}.get(person.state, ago)


def voice_of(talker: Talker) -> str:
    """Whom a voice without presence belongs to, as far as it says."""
    return plain(talker.alias) or f"voice {talker.source >> 32:08x}"


def distance(here: Location, there: Location) -> tuple[float, float]:
    """Metres and degrees from north, along the great circle of a sphere of 6,371 km."""
    one, other = math.radians(here.latitude), math.radians(there.latitude)
    aside = math.radians(there.longitude - here.longitude)
    half = math.sin((other - one) / 2) ** 2 + math.cos(one) * math.cos(other) * math.sin(aside / 2) ** 2
    metres = 2 * 6_371_000 * math.asin(min(1.0, math.sqrt(half)))
    east = math.sin(aside) * math.cos(other)
    north = math.cos(one) * math.sin(other) - math.sin(one) * math.cos(other) * math.cos(aside)
    return metres, math.degrees(math.atan2(east, north)) % 360


def compass(degrees: float) -> str:
    """One of eight."""
    return COMPASS[round(degrees / 45) % 8]


def sentence(event: Happened, now: float, here: Location | None = None) -> str:
    """What happened, for a person."""
    person = event.person
    name = plain(person.name)
    calm = attrs.evolve(person, emergency_at=None)  # an emergency has a line of its own
    details = [each for each in (status_of(calm), where_of(person, now, here), power_of(person)) if each]
    match event.what:
        case What.JOINED:
            return f"{name} is here" + (f": {'; '.join(details)}" if details else "")
        case What.BACK:
            return f"{name} is back" + (f": {'; '.join(details)}" if details else "")
        case What.CHANGED:
            words = status_of(calm) or "no status any more"
            return f"{name}: {words}" + (" (a new name)" if "name" in event.changed else "")
        case What.LATE:
            return f"{name} is late: nothing heard for {duration(now - person.heard_at)}"
        case What.GONE:
            place = where_of(person, now, here)
            last = f"; last at {place}" if place else ""
            return f"{name} is gone: nothing heard for {duration(now - person.heard_at)}{last}"
        case What.LEFT:
            return f"{name} has left"
        case What.EMERGENCY:
            place = where_of(person, now, here) or "no place told"
            return f"EMERGENCY: {name}{f' ({plain(person.alert)})' if person.alert else ''}, {place}"
        case What.CALM:
            return f"{name} is no longer in an emergency"
        case What.TWO_PLACES:
            return f"{name} is in two places: two devices announce under the node id {plain(person.descriptor.identity.node_id)}"
        case What.CLOCK:
            skew = person.skew_s or 0.0
            return f"{name}'s clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this one"
        case What.FULL:
            return f"more people than are shown here: {name} is the first who is not"


# -- faces -------------------------------------------------------------------------------------------------------------


class ScreenBoard(TableScreen[Row]):
    """A terminal: events scroll, people stand below them."""

    def drawn(self, rows: Sequence[Row], title: str) -> Table:
        """See :class:`~ice.cli.boards.TableScreen`."""
        return drawn(rows, title)

    def say(self, event: str, sentence: str, /, **fields: object) -> None:
        """See :class:`~ice.cli.boards.Board`."""
        style = {"emergency": "bold red", "calm": "bold green"}.get(event, "")
        self.scroll(sentence, style, bell=event == "emergency")


def drawn(rows: Sequence[Row], title: str) -> Table:
    """The table for a terminal; columns in which nobody has anything are left out."""
    table = Table(
        title=Text(printable(title), style="table.title"),
        title_justify="left",
        expand=False,
        show_edge=False,
        pad_edge=False,
    )
    used = [
        n for n, _ in enumerate(HEADINGS) if n in (0, len(HEADINGS) - 1) or any(row.cells[n] for row in rows)
    ]
    for n in used:
        table.add_column(HEADINGS[n], no_wrap=n in (0, 4, 6), overflow="fold")
    for row in rows:
        style = "bold red" if row.emergency else "dim" if row.faint else ""
        cells = [_shortened(cell) if n == 1 else cell for n, cell in enumerate(row.cells)]
        table.add_row(
            *(Text(cells[n], style=f"bold {style}" if n == 0 and not row.faint else style) for n in used)
        )
    if not rows:
        table.add_row(Text("nobody yet", style="dim"), *("" for _ in used[1:]))
    return table


def plain_table(rows: Sequence[Row]) -> list[str]:
    """The table as aligned columns, uncut, with a dash where there is nothing."""
    return aligned([HEADINGS, *(row.cells for row in rows)])


def _shortened(words: str) -> str:
    return words if len(words) <= STATUS_CELLS else words[: STATUS_CELLS - 1] + "…"
