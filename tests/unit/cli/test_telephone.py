"""``ice call``, ``ice answer``, ``ice phone``: what keys and options do, what is told, how it ends; a gateway in memory at the other end."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import numpy as np
from click.testing import CliRunner
from rich.console import Console
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ice.cli.answer import _attend, _called, answer
from ice.cli.call import _talk, call
from ice.cli.keys import Input
from ice.cli.loop import Stop
from ice.cli.phone import UP, Softphone
from ice.cli.phone_screen import PhoneScreen, View, clock, drawn
from ice.cli.telephone import (
    INTERRUPTED,
    NOT_ALLOWED,
    NOT_TAKEN,
    TALKED,
    Telephone,
    group_of,
)
from ice.cli.telephone_keys import at_bell
from ice.cli.telephone_sound import Earpiece, FileVoice, MicrophoneVoice, sink_of, voice_of
from ice.cli.voice import Way
from ice.config.load import loads
from ice.errors import LocalError
from ice.media import wav
from ice.media.devices import NoSound
from ice.media.mixer import level_dbov
from ice.media.payload import SAMPLE_RATE
from ice.telephony.phone import Phone
from tests.unit.telephony.exchange import GROUP
from tests.unit.telephony.test_phone import FRAME, World

from .told import Told


class Board(Told):
    """A display with a table of one row."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[View] = []
        self.rows: Any = self.views.extend


class Desk(World):
    """A telephone on somebody's desk."""

    def make(self, name: str, see: Any = None, **more: Any) -> Phone:
        self.stop, self.board = Stop(), Board()
        way = Way(self.board, "the telephones")
        self.telephone = Telephone(self.clock, self.stop, self.board, way, GROUP)
        phone = super().make(name, self.telephone.see, **more)
        self.telephone.phone = phone
        self.telephone.stuck = Deferred
        self.telephone.network = self.network
        return phone

    def begin(self, doing: Coroutine[Deferred[Any], Any, Any], seconds: float = 0.0) -> Deferred[Any]:
        begun: Deferred[Any] = Deferred.fromCoroutine(doing)
        self.run(seconds)
        return begun

    @property
    def told(self) -> list[str]:
        return [event for event, _, _ in self.board.events if event != "keys"]


class CallTests(SynchronousTestCase):
    def test_whole_call(self) -> None:
        """It is told how the call goes on; it is hung up in time; the status says that there was a talk."""
        desk = Desk()
        done = desk.begin(_talk(desk.telephone, "100", 1.0, None, ""), 3.0)
        self.successResultOf(done)
        self.assertEqual(desk.told[2:], ["calling", "ringing", "answered", "over"])
        (over,) = desk.board.named("over")
        self.assertEqual((over["cause"], over["answered"], over["missed"]), ("hung-up", True, 0))
        self.assertApproximates(over["seconds"], 1.0, 0.1)
        self.assertEqual(desk.telephone.status(), TALKED)
        self.assertEqual(desk.half_open(), 0)

    def test_not_taken_and_not_allowed(self) -> None:
        """Each end that is no talk has its status and its sentence."""
        for number, ring_s, status, words in (
            ("102", None, NOT_TAKEN, "the number is busy"),
            ("999", None, NOT_ALLOWED, "nobody has this number"),
            ("103", 0.5, NOT_TAKEN, "the caller gave up"),
            ("103", None, NOT_TAKEN, "nobody answered"),
        ):
            desk = Desk()
            done = desk.begin(_talk(desk.telephone, number, None, ring_s, ""), 5.0)
            self.successResultOf(done)
            self.assertEqual(desk.telephone.status(), status, number)
            self.assertIn(words, desk.board.sentences("over")[0])
            self.assertEqual(desk.half_open(), 0)

    def test_broken_off(self) -> None:
        """Ctrl-C before the answer interrupts; afterwards it hangs up."""
        for wait_s, status in ((0.1, INTERRUPTED), (1.0, TALKED)):
            desk = Desk()
            done = desk.begin(_talk(desk.telephone, "100", None, None, ""), wait_s)
            desk.stop.ask()
            desk.run(0.5)
            self.successResultOf(done)
            self.assertEqual(desk.telephone.status(), status)
            self.assertEqual(desk.half_open(), 0)

    def test_nobody_confirms(self) -> None:
        """Who hangs up when the gateway has just died is told the end all the same, a little later."""
        desk = Desk()
        done = desk.begin(_talk(desk.telephone, "100", 1.0, None, ""), 1.0)
        assert desk.exchange is not None
        desk.exchange.kill()
        desk.run(5.0)
        self.assertNoResult(done)
        desk.run(2.0)
        self.successResultOf(done)
        self.assertEqual((desk.board.named("over")[0]["cause"], desk.telephone.status()), ("hung-up", TALKED))

    def test_keys_after_the_answer(self) -> None:
        """Digits are pressed when the far side listens; a comma is a pause."""
        desk = Desk()
        done = desk.begin(_talk(desk.telephone, "100", None, None, "12,3"), 1.3)
        assert desk.exchange is not None
        self.assertEqual("".join(desk.exchange.keys), "12")
        desk.run(1.5)
        self.assertEqual("".join(desk.exchange.keys), "123")
        desk.stop.ask()
        desk.run(0.5)
        self.successResultOf(done)

    def test_no_gateway(self) -> None:
        """Where none answers it is told which group was asked, and what to check."""
        desk = Desk()
        assert desk.exchange is not None
        desk.exchange.kill()
        desk.phone._handset.gateway = None
        done = desk.begin(desk.telephone.found(1.0), 7.0)
        error = self.failureResultOf(done, LocalError).value
        self.assertIn(GROUP, str(error))
        self.assertIn("ice-gateway", str(error))

    def test_usage(self) -> None:
        """What is no key, and a time that is none, is refused before anything is opened."""
        for arguments in (["100", "--press", "12x"], ["100", "--for", "0"], []):
            self.assertEqual(CliRunner().invoke(call, arguments).exit_code, 2, arguments)

    def test_which_group(self) -> None:
        """Without a group it is told where to put one."""
        loaded = loads("", Path("ice.toml"))
        self.assertIn("[telephone]", str(self.assertRaises(LocalError, group_of, loaded, None)))
        self.assertEqual(group_of(loaded, UUID(GROUP)), GROUP)


class AnswerTests(SynchronousTestCase):
    def called(self) -> Desk:
        """A desk where it rings."""
        desk = Desk()
        desk.phone.dial("104")
        done = desk.begin(_called(desk.telephone, 5.0), 3.0)
        self.assertTrue(self.successResultOf(done))
        self.assertIn("104 (Loopback) calls", desk.board.sentences("incoming"))
        return desk

    def test_by_itself(self) -> None:
        """It rings as long as asked, is answered, and is hung up in time."""
        desk = self.called()
        done = desk.begin(_attend(desk.telephone, 0.5, 1.0), 0.4)
        self.assertIsNotNone(desk.telephone.incoming)
        desk.run(2.0)
        self.successResultOf(done)
        self.assertEqual(desk.telephone.status(), TALKED)
        self.assertEqual(desk.half_open(), 0)

    def test_keys(self) -> None:
        """a answers, digits are pressed from then on, h holds and goes on; r rejects."""
        desk = self.called()
        done = desk.begin(_attend(desk.telephone, None, None), 0.2)
        at_bell(desk.telephone, "5")
        at_bell(desk.telephone, "A")
        desk.run(0.5)
        for key in "7HH":
            at_bell(desk.telephone, key)
            desk.run(0.3)
        self.assertEqual(desk.told[-4:], ["answered", "pressed", "hold", "resume"])
        desk.stop.ask()
        desk.run(0.3)
        self.successResultOf(done)
        desk = self.called()
        done = desk.begin(_attend(desk.telephone, None, None), 0.2)
        at_bell(desk.telephone, "R")
        desk.run(0.3)
        self.successResultOf(done)
        self.assertEqual(desk.telephone.status(), NOT_TAKEN)

    def test_nobody_calls(self) -> None:
        """The wait has an end."""
        desk = Desk()
        self.assertFalse(self.successResultOf(desk.begin(_called(desk.telephone, 1.0), 1.1)))

    def test_usage(self) -> None:
        """Without a keyboard it must be said that calls are answered by themselves."""
        result = CliRunner().invoke(answer, [])
        self.assertEqual(result.exit_code, 2)
        self.assertIn("--auto", result.output)


class SoftphoneTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.desk = Desk()
        self.soft = Softphone(self.desk.telephone, self.desk.board)  # type: ignore[arg-type]

    def type(self, keys: str, seconds: float = 0.3) -> View:
        self.soft.typed(keys.encode())
        self.desk.run(seconds)
        return self.soft.view()

    def test_number(self) -> None:
        """Typed, corrected, cleared, called; the arrow brings the last one back."""
        self.assertEqual(self.type("1x05\x7f0").number, "00")
        self.assertEqual(self.type("\x1b").number, "")
        view = self.type("103\r", 0.1)
        self.assertEqual((view.state, view.number), ("103 rings", ""))
        self.assertEqual(self.type("x").state, "ready (last: the caller gave up)")
        self.assertEqual(self.type(UP).number, "103")
        self.assertEqual(self.type("\x1b[Cq").number, "103")
        self.assertTrue(self.desk.stop.asked)

    def test_in_a_call(self) -> None:
        """Keys are pressed, h holds and goes on, m mutes, t hands on, x hangs up; each state is shown."""
        view = self.type("100\r", 1.0)
        self.assertEqual(view.state, "talking with 100")
        assert view.seconds is not None
        self.assertGreater(view.seconds, 0.5)
        self.type("5")
        assert self.desk.exchange is not None
        self.assertEqual("".join(self.desk.exchange.keys), "5")
        self.assertEqual(self.type("h").state, "100: on hold by you")
        self.assertEqual(self.type("h").state, "talking with 100")
        self.assertEqual(self.type("m").marks, ("muted",))
        self.assertIsNone(self.desk.telephone.mouth)
        self.assertEqual(self.type("m").marks, ())
        self.assertIsNotNone(self.desk.telephone.mouth)
        view = self.type("t99")
        self.assertEqual((view.typing, view.number), ("hand on to:", "99"))
        self.assertEqual(self.type("\x1b").typing, "")
        self.type("t999\r")
        self.assertIn(
            "the line was not handed over: nobody has this number",
            self.desk.board.sentences("transfer-failed"),
        )
        self.assertEqual(self.type("x").state, "ready (last: the call is over)")
        self.assertEqual(self.desk.half_open(), 0)

    def test_called(self) -> None:
        """Who calls is shown; a answers, r rejects."""
        for key, state in (
            ("a", "talking with 104"),
            ("r", "ready (last: the called does not take the call)"),
        ):
            self.setUp()
            self.type("104\r", 3.0)
            view = self.soft.view()
            self.assertEqual((view.state, view.urgent), ("104 (Loopback) calls", True))
            self.assertEqual(self.type(key).state, state)

    def test_lines(self) -> None:
        """Commands come in pieces of any size; what is none, or not to be done now, is told."""
        self.soft.fed(b"ca")
        self.soft.fed(b"ll 100\nhold\n")
        self.desk.run(1.0)
        self.assertEqual(self.desk.board.sentences("refused"), ["hold: not now"])
        self.soft.fed(b"press 12\npress 1x\nsing\nmute\nmute\n\xff\n")
        refused = self.desk.board.sentences("refused")
        self.assertEqual(len(refused), 5)
        self.assertIn("there are call, answer", refused[2])
        self.soft.fed(b"hang up\ncall " + b"1" * 5_000 + b"\nquit")
        self.soft.fed(b"")
        self.assertTrue(self.desk.stop.asked)
        self.desk.run(0.5)
        self.assertEqual(self.desk.half_open(), 0)

    def test_no_gateway(self) -> None:
        """It is seen before anything is dialled, and told where it is."""
        self.desk.phone._handset.gateway = None
        view = self.soft.view()
        self.assertEqual((view.state, view.trouble), ("no gateway answers", True))
        self.type("100\r", 0.0)
        self.assertIn("no gateway answers", self.desk.board.sentences("refused")[0])

    def test_picture(self) -> None:
        """The pad, the state, the meters and the keys stand in the picture; nothing that a terminal obeys does."""
        out = io.StringIO()
        console = Console(file=out, width=120, force_terminal=True)
        screen = PhoneScreen(console, "telephone")
        view = View(
            "talking with \x1b[2Jx", "12", "hand on to:", 65.0, -20.0, -10.0, ("muted",), (("x", "hang up"),)
        )
        screen.rows([view])
        screen.close()
        Console(file=out, width=120).print(drawn(view, "telephone"))
        for words in ("1 2 3", "* 0 #", "talking with", "1:05", "[muted]", "hand on to: 12", "hang up"):
            self.assertIn(words, out.getvalue())
        self.assertNotIn("\x1b[2J", out.getvalue())
        self.assertEqual([clock(each) for each in (0, 7.9, 754, 3_723)], ["0:00", "0:07", "12:34", "1:02:03"])


class SoundTests(SynchronousTestCase):
    def test_file_waits_on_hold(self) -> None:
        """A file begins with the talk, waits while it is held, and goes on where it was."""
        path = Path(self.mktemp())
        pcm = (np.arange(SAMPLE_RATE) % 1_000).astype(np.int16)
        wav.write(path, pcm)
        voice, said = FileVoice(path, 1), []
        for now in np.arange(0.0, 3.0, 0.01):
            voice.turn(now, said.append if not 0.5 < now < 1.5 else None)
        self.assertEqual(len(said), SAMPLE_RATE // FRAME)
        self.assertTrue(np.array_equal(np.concatenate(said), pcm))

    def test_microphone(self) -> None:
        """What was said while nobody listened is thrown away, the rest goes out as it comes."""

        class Microphone:
            def read(self) -> list[Any]:
                return [np.ones(480, np.int16)]

        voice, said = MicrophoneVoice(Microphone()), []
        voice.turn(0.0, None)
        voice.turn(0.01, said.append)
        self.assertEqual([len(pcm) for pcm in said], [480])

    def test_no_devices(self) -> None:
        """Without sound devices it is told how to do without; --silent does, and a file in or out is one half."""
        absent = mock.patch.dict(sys.modules, {"sounddevice": None})
        with absent, self.assertRaises(NoSound) as raised, voice_of(None, 1, None, False):
            pass
        self.assertIn("--silent", str(raised.exception))
        with absent, self.assertRaises(NoSound), sink_of(None, None, False):
            pass
        path = Path(self.mktemp())
        with absent, voice_of(None, 1, None, True) as voice, sink_of(None, None, True) as nowhere:
            voice.turn(0.0, None)
            nowhere.write(np.ones(FRAME, np.int16))
        with absent, sink_of(path, None, False) as file:
            file.write(np.ones(FRAME, np.int16))
        self.assertEqual(len(wav.read(path)), FRAME)

    def test_silent_file(self) -> None:
        """A file without a sample is no speech."""
        path = Path(self.mktemp())
        wav.write(path, np.zeros(0, np.int16))
        self.assertIn("holds no sound", str(self.assertRaises(LocalError, FileVoice, path, 1)))

    def test_tones(self) -> None:
        """The person hears that it rings there, and the bell here; otherwise what the call says."""
        desk = Desk()
        ear = Earpiece(desk.phone)
        self.assertFalse(ear.pull(FRAME).any())
        desk.phone.dial("103")
        desk.run(0.1)
        ring = np.concatenate([ear.pull(FRAME) for _ in range(300)])
        self.assertGreater(level_dbov(ring[:SAMPLE_RATE]), -30.0)
        self.assertFalse(ring[SAMPLE_RATE + FRAME : 5 * SAMPLE_RATE - FRAME].any())
        self.assertTrue(ring[5 * SAMPLE_RATE :].any())
        desk.phone.hang_up()
        desk.run(0.3)
        self.assertFalse(ear.pull(FRAME).any())
        desk.phone.dial("104")
        desk.run(3.0)
        self.assertGreater(level_dbov(np.concatenate([ear.pull(FRAME) for _ in range(10)])), -20.0)


class InputTests(SynchronousTestCase):
    def test_regular_file(self) -> None:
        """What cannot be waited for is read at once, to its end."""

        class Refusing:
            def addReader(self, reader: object) -> None:
                raise PermissionError

        path = Path(self.mktemp())
        path.write_bytes(b"call 100\n")
        came: list[bytes] = []
        with path.open("rb") as file:
            reader = Input(file.fileno(), came.append)
            reader.start(Refusing())
            reader.stop()
        self.assertEqual(came, [b"call 100\n", b""])

    def test_pipe(self) -> None:
        """What comes is given as it comes; at its end it is left."""

        class Reactor:
            readers: set[object] = set()  # noqa: RUF012
            addReader = readers.add
            removeReader = readers.discard

        out, into = os.pipe()
        self.addCleanup(os.close, out)
        came: list[bytes] = []
        reader, reactor = Input(out, came.append), Reactor()
        reader.start(reactor)
        os.write(into, b"hold\n")
        reader.doRead()
        os.close(into)
        reader.doRead()
        self.assertEqual((came, reactor.readers), ([b"hold\n", b""], set()))
