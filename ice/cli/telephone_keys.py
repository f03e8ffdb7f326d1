"""What is typed at a telephone: digits are pressed, letters do the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from ice.cli.keys import QUITS, Typed
from ice.cli.telephone import keyboard

if TYPE_CHECKING:
    from ice.cli.telephone import Telephone

DIGITS: Final = "0123456789*#"  # A to D are no keys of any telephone that people have


@contextlib.contextmanager
def typing(telephone: Telephone, key: Callable[[str], None]) -> Iterator[None]:
    """Have ``key`` called with each letter (capital) that is typed, where there is a terminal; q and its end end it all."""
    terminal = keyboard()
    if terminal is None:
        yield
        return

    def typed(data: bytes) -> None:
        if not data:
            telephone.stop.ask()
        for byte in data:
            if byte in QUITS:
                telephone.stop.ask()
            else:
                key(chr(byte).upper())

    with Typed(terminal, typed) as keys:
        keys.start(telephone.reactor)
        yield


def in_call(telephone: Telephone, letter: str) -> None:
    """A key during a call: digits are pressed, h holds and goes on."""
    phone, say = telephone.phone, telephone.display.say
    if letter in DIGITS:
        if phone.press(letter):
            say("pressed", f"pressed {letter}", digits=letter)
    elif letter == "H":
        if phone.hold():
            say("hold", "on hold")
        elif phone.resume():
            say("resume", "going on with the call")


def at_bell(telephone: Telephone, letter: str) -> None:
    """A key while it rings here, a or enter to answer and r to reject, or during the call."""
    if telephone.incoming is None:
        in_call(telephone, letter)
    elif letter in "A\r\n":
        telephone.answer()
    elif letter == "R":
        telephone.phone.reject()
