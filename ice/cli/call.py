"""``ice call``: call a telephone number, and talk."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import click

from ice.cli.telephone import at_the_telephone, seconds_option, telephone_options
from ice.cli.telephone_keys import in_call, typing

if TYPE_CHECKING:
    from ice.cli.telephone import Telephone, Wishes

KEYS: Final = "0123456789*#ABCD"
PAUSE: Final = ","
PAUSE_S: Final = 1.0
BEFORE_KEYS_S: Final = 0.5  # a menu that has just answered does not listen yet


@click.command()
@click.argument("number")
@telephone_options
@seconds_option("--for", "Hang up so long after the answer.")
@seconds_option("--ring", "Give up when nobody has answered by then.")
@click.option(
    "--press",
    "digits",
    metavar="DIGITS",
    default="",
    help="Press these keys after the answer; a comma is a second's pause.",
)
def call(number: str, wishes: Wishes, for_s: float | None, ring_s: float | None, digits: str) -> int:
    """Call NUMBER by the gateway of the configuration, and talk: by microphone and loudspeaker, or from and into files.

    At a terminal, digits, * and # are pressed as they are typed, h holds the call and goes on with it, q hangs up. Ctrl-C hangs up
    everywhere.

    Exit status 0 when the call was answered and ended by hanging up, 3 when it was not taken (busy, rejected, no answer, given up), 4 when the number
    cannot be had (unknown, not allowed, not reachable), 1 when something went wrong, 130 when it was broken off by Ctrl-C before the answer.
    """
    wrong = [digit for digit in digits.upper() if digit not in KEYS + PAUSE]
    if wrong:
        raise click.UsageError(
            f"--press: {wrong[0]!r} is no telephone key; keys are {KEYS}, and a comma for a pause"
        )

    async def talk(telephone: Telephone) -> int:
        with typing(telephone, partial(in_call, telephone)):
            await _talk(telephone, number, for_s, ring_s, digits.upper())
        return telephone.status()

    return at_the_telephone(wishes, f"call to {number}", talk, takes_calls=False)


async def _talk(
    telephone: Telephone, number: str, for_s: float | None, ring_s: float | None, digits: str
) -> None:
    """The call from its beginning to its end."""
    reactor = telephone.reactor
    telephone.dial(number)
    give_up_at = None if ring_s is None else reactor.seconds() + ring_s
    press_at = None
    while telephone.ended is None and not telephone.stop.asked:
        now = reactor.seconds()
        answered_at = telephone.answered_at
        if answered_at is not None:
            give_up_at = None if for_s is None else answered_at + for_s
            if press_at is None:
                press_at = answered_at + BEFORE_KEYS_S
            if digits and now >= press_at:
                run, digits, press_at = _next_keys(digits, now)
                if run:
                    telephone.phone.press(run)
        if give_up_at is not None and now >= give_up_at:
            break
        dues = [give_up_at, press_at if digits else None]
        await telephone.wait(min((due - now for due in dues if due is not None), default=None))
    if telephone.ended is None:
        await telephone.hang_up()


def _next_keys(digits: str, now: float) -> tuple[str, str, float]:
    """The keys up to the next pause, what is left, and when that is due."""
    run, pause, rest = digits.partition(PAUSE)
    return run, rest, now + len(run) * 0.2 + (PAUSE_S if pause else 0.0)
