"""``ice phone``: a telephone in the terminal; where its input is no terminal, each line is a command.

:class:`Softphone` knows what a key means now, and shows how things are; the telephone is :class:`ice.cli.telephone.Telephone`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from ice.cli.options import verbosity
from ice.cli.telephone import caller, keyboard, on_the_phone, telephone_options
from ice.errors import LocalError
from ice.telephony.call import Direction, Early, Held, Ringing, Setup, Side, Talking, Transferring

if TYPE_CHECKING:
    from ice.cli.boards import Board
    from ice.cli.phone_screen import View
    from ice.cli.telephone import Telephone, Wishes

NUMBER_KEYS: Final = "0123456789*#+"
CALL_KEYS: Final = "0123456789*#"
ENTER: Final = "\r\n"
ERASE: Final = "\x7f\x08"
ESCAPE: Final = "\x1b"
UP: Final = "\x1b[A"
MAX_TYPED: Final = 64
MAX_LINE: Final = 1_000  # of a command; a longer one is cut


@click.command()
@telephone_options
@click.option("--seconds", type=click.FloatRange(0.1), help="Stop after this long.")
def phone(wishes: Wishes, seconds: float | None) -> int:
    """Be a telephone: call, be called, hold, hand on, press keys; Ctrl-C or q ends it, and hangs up first.

    At a terminal, type a number and press enter; the keys that there are now stand below. Where the input is no terminal, each of its lines is a
    command: call NUMBER, answer, reject, hang up, hold, resume, press DIGITS, transfer NUMBER, mute, unmute, quit.

    Exit status 0 when it was ended by a person or the time, 1 when something went wrong.
    """
    from ice.cli import loop
    from ice.cli.boards import board_for
    from ice.cli.phone_screen import PhoneScreen

    async def main(reactor: Any, stop: loop.Stop) -> int:
        live = keyboard() is not None
        board: Board[View] = board_for(
            PhoneScreen, "telephone", as_json=wishes.as_json, live=live, broken=stop.ask
        )
        with contextlib.closing(board):
            async with on_the_phone(reactor, stop, wishes, board) as telephone:
                soft = Softphone(telephone, board)
                telephone.look = soft.look
                until = None if seconds is None else reactor.seconds() + seconds
                if keyboard() is None and not await telephone.found(wishes.timeout_s):
                    return 0  # asked to stop; who types sees the state, a line wants to be carried out
                with _input(telephone, soft):
                    while not stop.asked:
                        left = None if until is None else until - reactor.seconds()
                        if left is not None and left <= 0:
                            break
                        await telephone.wait(left)
        return 0

    return loop.run(main, verbosity=verbosity())


@contextlib.contextmanager
def _input(telephone: Telephone, soft: Softphone) -> Iterator[None]:
    """Keys of a terminal, or lines of whatever the input is."""
    from ice.cli.keys import Input, Typed

    if keyboard() is not None:
        with Typed(sys.stdin.fileno(), soft.typed) as keys:
            keys.start(telephone.reactor)
            yield
        return
    lines = Input(sys.stdin.fileno(), soft.fed)
    lines.start(telephone.reactor)
    try:
        yield
    finally:
        lines.stop()


class Softphone:
    """What is typed at a telephone, and how it is shown; see the module docstring."""

    def __init__(self, telephone: Telephone, board: Board[View]) -> None:
        self.number = ""  #: that is being typed
        self.last = ""  #: that was called last
        self.handing_on = False  #: the number is one to hand the line to
        self._telephone = telephone
        self._board = board
        self._rest = b""
        self._commands: Mapping[str, Callable[[str], bool]] = MappingProxyType(
            {
                "call": self._call,
                "answer": lambda _: telephone.answer(),
                "reject": lambda _: telephone.phone.reject(),
                "hang up": lambda _: telephone.phone.hang_up(),
                "hold": lambda _: telephone.phone.hold(),
                "resume": lambda _: telephone.phone.resume(),
                "press": telephone.phone.press,
                "transfer": telephone.phone.transfer,
                "mute": lambda _: self._mute(True),
                "unmute": lambda _: self._mute(False),
                "quit": lambda _: self._quit(),
            }
        )

    # -- lines

    def fed(self, data: bytes) -> None:
        """Bytes of an input that is no terminal; its end ends nothing."""
        self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        self._rest = self._rest[:MAX_LINE]
        if not data and self._rest:
            lines, self._rest = [self._rest], b""
        for line in lines:
            words = line.decode("utf-8", "replace").strip()
            if words:
                self.command(words)

    def command(self, words: str) -> None:
        """Do what a line says; tells where that cannot be."""
        lowered = words.lower()
        name = next((each for each in self._commands if f"{lowered} ".startswith(f"{each} ")), None)
        if name is None:
            self._tell(f"'{words[:40]}' is no command; there are {', '.join(self._commands)}")
            return
        self.do(name, words[len(name) :].strip())

    def do(self, name: str, word: str = "") -> None:
        """Do one of the commands, and tell what became of it where the telephone does not."""
        say = self._board.say
        try:
            done = self._commands[name](word)
        except LocalError as error:
            self._tell(str(error))
            return
        if not done:
            self._tell(f"{name}: not now")
        elif name in ("hold", "resume", "mute", "unmute", "reject"):
            say(name, {"hold": "on hold", "resume": "going on with the call"}.get(name, name))
        elif name == "press":
            say("pressed", f"pressed {word}", digits=word)

    def _call(self, number: str) -> bool:
        self._telephone.dial(number)
        self.last = number
        return True

    def _mute(self, muted: bool) -> bool:
        changed = self._telephone.muted is not muted
        self._telephone.muted = muted
        return changed

    def _quit(self) -> bool:
        self._telephone.stop.ask()
        return True

    def _tell(self, sentence: str) -> None:
        self._board.say("refused", sentence, why=sentence)

    # -- keys

    def typed(self, data: bytes) -> None:
        """Bytes of a terminal; none at its end."""
        if not data:
            self._quit()
        text = data.decode("latin-1")
        while text:
            key = UP if text.startswith(UP) else text[0]
            text = text[len(key) :]
            if key == ESCAPE and text.startswith("["):  # an arrow that means nothing here
                text = text[2:]
                continue
            self.key(key if key == UP else key.lower())
        self.look()

    def key(self, key: str) -> None:
        """One key, in capital or not."""
        if key in ("q", "\x04") and not (self.handing_on and self.number):
            self._quit()
        elif self._telephone.incoming is not None:
            self._at_bell(key)
        elif self._telephone.phone.call is None:
            self.handing_on = False
            self._at_rest(key)
        elif self.handing_on:
            self._handing_on(key)
        else:
            self._in_call(key)

    def _at_bell(self, key: str) -> None:
        if key == "a" or key in ENTER:
            self.do("answer")
        elif key in ("r", "x"):
            self.do("reject")

    def _at_rest(self, key: str) -> None:
        if key in ENTER and self.number:
            number, self.number = self.number, ""
            self.do("call", number)
        elif key == UP:
            self.number = self.last
        else:
            self._edit(key)

    def _handing_on(self, key: str) -> None:
        if key in ENTER and self.number:
            number, self.number, self.handing_on = self.number, "", False
            self.do("transfer", number)
        elif key == ESCAPE or key == "t":
            self.number, self.handing_on = "", False
        else:
            self._edit(key)

    def _edit(self, key: str) -> None:
        if key in NUMBER_KEYS:
            self.number = (self.number + key)[:MAX_TYPED]
        elif key in ERASE:
            self.number = self.number[:-1]
        elif key in (ESCAPE, "x"):
            self.number = ""

    def _in_call(self, key: str) -> None:
        telephone = self._telephone
        call = telephone.phone.call
        if key in CALL_KEYS:
            self.do("press", key)
        elif key in ("x", ESCAPE, *ERASE):
            self.do("hang up")
        elif key == "h":
            held = call is not None and isinstance(call.state, Held) and Side.USER in call.state.by
            self.do("resume" if held else "hold")
        elif key == "m":
            self.do("unmute" if telephone.muted else "mute")
        elif key == "t" and call is not None and call.answered:
            self.number, self.handing_on = "", True

    # -- the picture

    def look(self) -> None:
        """Show how things are."""
        self._board.rows([self.view()])

    def view(self) -> View:
        """How things are."""
        from ice.cli.phone_screen import View

        telephone = self._telephone
        phone, call = telephone.phone, telephone.phone.call
        keys: tuple[tuple[str, str], ...]
        quit_key = ("q", "quit")
        if telephone.incoming is not None:
            keys = (("a", "answer"), ("r", "reject"), quit_key)
            return View(f"{caller(telephone.incoming)} calls", keys=keys, urgent=True)
        if call is None:
            if not phone.up or not phone.gateway:
                state = "no way to the gateway yet" if not phone.up else "no gateway answers"
                return View(state, self.number, "number:", keys=(quit_key,), trouble=True)
            ended = telephone.ended
            state = "ready" if ended is None else f"ready (last: {ended.cause.text})"
            keys = (("enter", "call"), ("↑", "last number"), quit_key)
            return View(state, self.number, "number:", keys=keys)
        said, heard = phone.levels_dbov
        seconds = None
        if telephone.answered_at is not None and call.answered:
            seconds = telephone.reactor.seconds() - telephone.answered_at
        marks = ("muted",) if telephone.muted else ()
        keys = (("0-9*#", "keys"), ("x", "hang up"))
        if call.answered:
            keys += (("h", "hold, go on"), ("t", "hand on"))
        return View(
            self._words(), self.number, "hand on to:" if self.handing_on else "",
            seconds, said, heard, marks, (*keys, ("m", "mute"), quit_key),
        )  # fmt: skip

    def _words(self) -> str:
        """How the call is."""
        call = self._telephone.phone.call
        number = self._telephone.phone.number or "a number that is withheld"
        if call is None:
            return "ready"
        match call.state:
            case Setup():
                return f"calling {number}"
            case Ringing():
                return f"{number} rings" if call.direction is Direction.OUTGOING else f"{number} calls"
            case Early():
                return f"{number} is heard, and has not answered"
            case Talking():
                return f"talking with {number}"
            case Held(_, by):
                who = " and ".join(
                    {Side.USER: "you", Side.LINE: "the other side"}[side] for side in sorted(by)
                )
                return f"{number}: on hold by {who}"
            case Transferring(number=target):
                return f"handing {number} on to {target}"
            case _:
                return f"{number}: ending"
