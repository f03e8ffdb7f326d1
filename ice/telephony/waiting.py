"""One person, one call: what happens when a second one comes, and when two begin at the same instant (glare).

A person has at most one call through a gateway; there is no call waiting. Where a call stands already, :func:`at_gateway` and :func:`at_user` say what becomes of the new
one. They are two halves of one rule, so that both ends come to the same end of it in whatever order their messages cross:

* Whoever is in a call, or has dialled, is not called: the caller hears ``busy`` (cause ``call-waiting``).
* Whoever dials while a call for him is on its way, and not answered, wants to call: his call goes on, and the other caller hears ``busy`` (cause ``glare``).
* Unless it is the very number he dials: both want to talk to each other, and each would hear ``busy``. Then the call that has come is answered
  and the one that was dialled is dropped (cause ``glare``).
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from ice.telephony.call import Call, Direction


class Verdict(StrEnum):
    """What becomes of a second call."""

    TAKE = "take"  #: there is no other
    WAITING = "waiting"  #: refuse the new one: ``call-waiting``
    YIELD = "yield"  #: refuse the new one, the other goes on: ``glare``
    REPLACE = "replace"  #: end the standing one (``glare``), take the new one
    MEET = "meet"  #: answer the new one, and end the standing one (``glare``)


@attrs.frozen
class Standing:
    """The call that a person has: its direction, the far number in normal form, whether it is answered."""

    direction: Direction
    number: str
    answered: bool

    @classmethod
    def of(cls, call: Call, number: str) -> Standing | None:
        """The standing of a call; ``None`` for one that is over."""
        return None if call.over else cls(call.direction, number, call.answered)


def at_gateway(standing: Standing | None, direction: Direction, number: str) -> Verdict:
    """In a gateway: the verdict on a call that the person dials (outgoing) or that comes for him (incoming)."""
    if standing is None:
        return Verdict.TAKE
    if direction is Direction.INCOMING or standing.direction is Direction.OUTGOING or standing.answered:
        return Verdict.WAITING
    return Verdict.YIELD if standing.number == number else Verdict.REPLACE


def at_user(standing: Standing | None, direction: Direction, number: str) -> Verdict:
    """In the person's own program: the verdict on a call that the gateway offers (incoming) or that the person dials (outgoing)."""
    if standing is None:
        return Verdict.TAKE
    if direction is Direction.OUTGOING or standing.direction is Direction.INCOMING or standing.answered:
        return Verdict.WAITING
    return Verdict.MEET if standing.number == number else Verdict.YIELD
