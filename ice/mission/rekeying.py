"""Changing keys without a moment of silence: the next key is handed out beforehand, and both are accepted while people change over.

``rekey`` in a group holds the next key, when it begins to be sent with (``at``), and how long after that the old one is still heard
(``overlapSecs``). Everybody who has the new file accepts both at once; who still has the old file is heard by all, and hears all, until ``at``. The
group's id does not change, for the recipe goes by the old key; when the change is finished the id is kept by ``idOverride``.
"""

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import attrs

from ice.errors import LocalError
from ice.mission.making import new_key
from ice.mission.model import Group, Mission, Rekey, iso
from ice.mission.tolerant import shown_text


def begin(
    mission: Mission,
    names: Sequence[str],
    at: datetime,
    overlap_s: float,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> Mission:
    """The mission with a next key for the groups named, or for all that have a key.

    :raises LocalError: there is no such group, it has no key, or is in the middle of a change.
    """
    chosen = _chosen(mission, names, lambda group: group.crypto_password is not None)
    if not chosen:
        raise LocalError("no group of this mission has a key to change: all are in clear")
    for group in chosen:
        if group.crypto_password is None:
            raise LocalError(f'"{shown_text(group.name)}" is in clear: there is no key to change')
        if group.rekey is not None:
            raise LocalError(
                f'"{shown_text(group.name)}" is changing its key already, at {iso(group.rekey.at)}; finish that first: ice mission rekey FILE --finish'
            )
    at = at.replace(microsecond=0)
    return _with(
        mission, chosen, lambda group: attrs.evolve(group, rekey=Rekey(new_key(random_bytes), at, overlap_s))
    )


def finish(mission: Mission, names: Sequence[str], now: datetime, *, early: bool = False) -> Mission:
    """The mission with the next key as the only one, for the groups named, or for all that are changing.

    :param early: even where the old key is still in use.
    :raises LocalError: there is no such group, it is not changing, or the overlap is not over.
    """
    chosen = _chosen(mission, names, lambda group: group.rekey is not None)
    if not chosen:
        raise LocalError("no group of this mission is changing its key")
    for group in chosen:
        if group.rekey is None:
            raise LocalError(f'"{shown_text(group.name)}" is not changing its key')
        over = end(group.rekey)
        if now < over and not early:
            raise LocalError(
                f'the old key of "{shown_text(group.name)}" is accepted until {iso(over)}: who has only that would fall silent; '
                "wait, or add --force"
            )
    return _with(mission, chosen, _finished)


def end(rekey: Rekey) -> datetime:
    """When the old key is accepted no more."""
    try:
        return rekey.at + timedelta(seconds=rekey.overlap_s)
    except OverflowError:
        return datetime.max.replace(tzinfo=rekey.at.tzinfo)


def _finished(group: Group) -> Group:
    assert group.rekey is not None
    return attrs.evolve(
        group, crypto_password=group.rekey.crypto_password, rekey=None, id_override=True, id=group.id
    )


def _chosen(mission: Mission, names: Sequence[str], otherwise: Callable[[Group], bool]) -> list[Group]:
    if not names:
        return [group for group in mission.groups if otherwise(group)]
    found = []
    for name in names:
        group = mission.group(name)
        if group is None:
            there = ", ".join(shown_text(each.name) for each in mission.groups) or "none"
            raise LocalError(f'there is no group "{name}"; there are: {there}')
        found.append(group)
    return found


def _with(mission: Mission, chosen: Sequence[Group], change: Callable[[Group], Group]) -> Mission:
    changed = {id(group) for group in chosen}
    return attrs.evolve(
        mission, groups=tuple(change(group) if id(group) in changed else group for group in mission.groups)
    )
