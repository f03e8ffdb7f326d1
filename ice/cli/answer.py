"""``ice answer``: wait for a telephone call, and take it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from ice.cli.telephone import (
    NOT_TAKEN,
    at_the_telephone,
    keyboard,
    seconds_option,
    telephone_options,
)
from ice.cli.telephone_keys import at_bell, typing

if TYPE_CHECKING:
    from ice.cli.telephone import Telephone, Wishes


@click.command()
@telephone_options
@click.option("--auto", is_flag=True, help="Answer by itself.")
@seconds_option("--after", "With --auto: let it ring so long first.")
@seconds_option("--for", "Hang up so long after the answer.")
@seconds_option("--wait", "Wait so long for a call.  [for ever]")
@click.option("--stay", is_flag=True, help="Wait for the next call after each.")
def answer(
    wishes: Wishes, auto: bool, after_s: float | None, for_s: float | None, wait_s: float | None, stay: bool
) -> int:
    """Wait for a call, show who calls, and take it on a key, or by itself with --auto.

    At a terminal, a or enter answers, r rejects, q ends it all; during the call, digits, * and # are pressed as they are typed, h holds the call and goes on
    with it, q hangs up.

    Exit status 0 when a call was answered and ended by hanging up, 3 when none came or it was not taken, 1 when something went wrong, 130 when Ctrl-C came first.
    """
    if not auto and keyboard() is None:
        raise click.UsageError("there is no keyboard to answer with: use --auto")

    async def wait(telephone: Telephone) -> int:
        telephone.display.say("waiting", "waiting for calls")
        called = False
        with typing(telephone, partial(at_bell, telephone)):
            while await _called(telephone, wait_s):
                called = True
                await _attend(telephone, (after_s or 0.0) if auto else None, for_s)
                if not stay:
                    break
        return telephone.status() if called or telephone.stop.asked else NOT_TAKEN

    return at_the_telephone(wishes, "waiting for calls", wait, takes_calls=True)


async def _called(telephone: Telephone, wait_s: float | None) -> bool:
    """Wait for a call; false when none came in time, or we are asked to stop."""
    until = None if wait_s is None else telephone.reactor.seconds() + wait_s
    while telephone.incoming is None and not telephone.stop.asked:
        left = None if until is None else until - telephone.reactor.seconds()
        if left is not None and left <= 0:
            return False
        await telephone.wait(left)
    return not telephone.stop.asked


async def _attend(telephone: Telephone, answer_after_s: float | None, for_s: float | None) -> None:
    """One call, from its first ring to its end."""
    reactor = telephone.reactor
    answer_at = None if answer_after_s is None else reactor.seconds() + answer_after_s
    while telephone.ended is None and not telephone.stop.asked:
        now = reactor.seconds()
        if telephone.incoming is not None:
            due = answer_at
            if due is not None and now >= due:
                telephone.answer()
                continue
        else:
            due = None if for_s is None or telephone.answered_at is None else telephone.answered_at + for_s
            if due is not None and now >= due:
                break
        await telephone.wait(None if due is None else due - now)
    if telephone.ended is None:
        await telephone.hang_up()
