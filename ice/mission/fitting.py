"""Whether a mission fits into a QR code, and if not, what to leave out and how much that gains.

Nobody can guess what a packed size is made of: keys in hex hardly shrink, repeated names do. So every proposal has been tried: the mission
is packed again without the part in question, and the difference is told.
"""

from collections.abc import Iterator
from typing import Any, Final

import attrs

from ice.errors import LocalError
from ice.mission.fields import NEW
from ice.mission.model import Group, Mission
from ice.mission.packing import QR_BYTES, deflected, pack
from ice.mission.tolerant import shown_text
from ice.mission.writing import write_json, write_mission

_SEALING: Final = 56  # characters that a password adds: 45 bytes, in basE91


LARGEST: Final = 3  # groups that are tried one by one


class TooLarge(LocalError):
    """A mission that no QR code holds. :ivar proposals: what to leave out, and the bytes which that gains."""

    def __init__(self, size: int, proposals: tuple[tuple[str, int], ...]) -> None:
        over = size - QR_BYTES
        lines = [
            f"this mission is {size:,} bytes when packed; a QR code holds {QR_BYTES:,}: {over:,} too many"
        ]
        lines += [
            f"  {gain:>6,} bytes: {what}{' (enough)' if gain >= over else ''}" for what, gain in proposals
        ]
        lines.append("or send the file itself: ice mission pack FILE --out F.ice")
        super().__init__("\n".join(lines))
        self.size = size
        self.proposals = proposals


def qr_text(mission: Mission, url: str | None = None, password: str | None = None) -> str:
    """What goes into the QR code of a mission.

    :raises TooLarge: more than a QR code holds.
    :raises LocalError: the URL or the password is none.
    """
    packed = pack(write_mission(mission, compact=True), password)
    text = packed if url is None else deflected(url, packed)
    if len(text) <= QR_BYTES:
        return text
    raise TooLarge(len(text), tuple(_proposals(mission, len(text) - len(packed), password)))


def lean(mission: Mission) -> Mission:
    """The mission without keys that only say the default; it means the same, ids included."""
    return attrs.evolve(mission, groups=tuple(_lean(group) for group in mission.groups))


def _lean(group: Group) -> Group:
    kept = ("type", "id", "idOverride", "name")  # a group has these, whatever they say
    return attrs.evolve(
        group,
        written={key: group.written[key] for key in kept if key in group.written},
        tx_audio=attrs.evolve(group.tx_audio, written=NEW),
        presence=attrs.evolve(group.presence, written=NEW),
        audio=attrs.evolve(group.audio, written=NEW),
        timeline=attrs.evolve(group.timeline, written=NEW),
        rtp_profile=attrs.evolve(group.rtp_profile, written=NEW),
        gate_in=attrs.evolve(group.gate_in, written=NEW),
    )


def packed_size(mission: Mission) -> int:
    """Characters of the mission, packed without a password."""
    return len(pack(write_mission(mission, compact=True)))


def _proposals(mission: Mission, of_url: int, password: str | None) -> Iterator[tuple[str, int]]:
    mission = _with_ids(mission)
    size = packed_size(mission)
    tried = [
        ("keys that only say the default (--lean)", lean(mission)),
        ("all descriptions", _without(mission, description="")),
        ("certificates of Rallypoints", _without_certificates(mission)),
        ("keys that nobody knows", _without(mission, more={})),
    ]
    found = [(what, size - packed_size(changed)) for what, changed in tried]
    if of_url:
        found.append(("the deflection URL", of_url))
    if password is not None:
        found.append(("the password", _SEALING))
    largest = sorted(mission.groups, key=_spread, reverse=True)[:LARGEST]
    found += [
        (f'the group "{shown_text(group.name)}"', size - packed_size(_only_without(mission, group)))
        for group in largest
    ]
    half = attrs.evolve(mission, groups=mission.groups[: len(mission.groups) // 2])
    if len(mission.groups) > 3:
        found.append(
            (
                f"{len(mission.groups) - len(half.groups)} of the {len(mission.groups)} groups, into a mission of their own",
                size - packed_size(half),
            )
        )
    yield from sorted(((what, gain) for what, gain in found if gain > 0), key=lambda each: -each[1])


def _with_ids(mission: Mission) -> Mission:
    """With ids as they count in the file too: a group that is changed gets its own, which must not look like a loss."""
    groups = (
        group if group.is_new else attrs.evolve(group, written={**group.written, "id": group.id})
        for group in mission.groups
    )
    return attrs.evolve(mission, groups=tuple(groups))


def _spread(group: Group) -> int:
    """About how much a group takes: what of it was read, or the little that we write ourselves."""
    return len(write_json(dict(group.written)))


def _only_without(mission: Mission, gone: Group) -> Mission:
    return attrs.evolve(mission, groups=tuple(group for group in mission.groups if group is not gone))


def _without(mission: Mission, **changes: Any) -> Mission:
    groups = tuple(attrs.evolve(group, **changes) for group in mission.groups)
    return attrs.evolve(mission, groups=groups, **changes)


def _without_certificates(mission: Mission) -> Mission:
    bare: dict[str, Any] = {"certificate": "", "certificate_key": "", "ca_certificates": ()}
    groups = []
    for group in mission.groups:
        rallypoints = tuple(attrs.evolve(each, **bare) for each in group.rallypoints)
        groups.append(attrs.evolve(group, rallypoints=rallypoints))
    return attrs.evolve(mission, groups=tuple(groups))
