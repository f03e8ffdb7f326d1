"""Calls that belong to a channel: in at the door, heard and hearing, out again without a trace."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.tones import sine
from ice.telephony import trunk as trunking
from ice.telephony.call import Direction, HangsUp, Holds, Lost, Refuses, Resumes, Rings, Side, Timing
from ice.telephony.causes import Cause
from ice.telephony.dial_in import CODE_S, MAX_CODE, DialIn, Key, Prompt
from ice.telephony.lobby import DialOutRefused, Lobby
from ice.telephony.lobby_orders import channel_id
from ice.telephony.lobby_room import CALLERS_MAX
from ice.telephony.trunk import Accept, Dial, HangUp, TrunkOrder
from tests.unit.telephony.hall import HERTZ, STEP, UNIX, Hall, Phone, amount, loud, place

OPEN = DialIn("500", "north")
VOICE = DialIn("500", "north", key=Key.VOICE)
WELCOME = [Prompt.WELCOME, Prompt.KEYS]


def speech(seconds: float, hertz: float = 300.0) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Something to say."""
    return sine(hertz, round(seconds * 48_000))


class AtTheDoor(SynchronousTestCase):
    def test_the_code(self) -> None:
        """Answered at once, asked for the code, in; nothing of the channel is heard before that, and the stream is not joined."""
        hall = Hall()
        ada = hall.person("ada")
        phone = hall.call("030 1")
        self.assertEqual(hall.requests(Accept), [Accept(phone.id, channel_id("north"))])
        ada.say(speech(3.0, 2_500.0))
        hall.wait(1.0)
        self.assertEqual(phone.prompts(), [Prompt.CODE])
        self.assertLess(amount(phone.heard, 2_500.0), 0.01)
        self.assertEqual(len(hall.network._streams["north"]), 1)
        phone.press("4711#")
        hall.wait(0.8)
        self.assertEqual(phone.prompts(), [Prompt.CODE, *WELCOME])
        self.assertGreater(amount(phone.last(0.2), 2_500.0), 0.5)
        call = hall.lobby.calls()[0]
        self.assertEqual(
            (call.where, call.channel, call.alias, call.state), ("channel", "north", "030 1", "talking")
        )

    def test_not_before_he_hears(self) -> None:
        """Nothing is said before the line's sound goes: half a second after its first frame, or a second and a half after the answer where it says nothing."""
        for silent, until in ((False, 1.3), (True, 1.5)):
            hall = Hall()
            phone = hall.call()
            phone.mute()
            hall.wait(0.8)
            if not silent:
                phone.say(speech(0.02))
            hall.wait(until - 0.84)
            self.assertEqual(phone.prompts(), [])
            hall.wait(0.3)
            self.assertEqual(phone.prompts(), [Prompt.CODE])

    def test_typed_into_the_prompt(self) -> None:
        """Who knows it keys it in while he is being asked: the prompt stops, the code counts."""
        hall = Hall()
        phone = hall.call()
        hall.wait(0.54)
        phone.press("4")
        hall.wait(0.2)
        self.assertLess(len(phone.prompts()), 2)
        self.assertFalse(loud(phone.last(0.1)))
        phone.press("711#")
        hall.wait(0.8)
        self.assertEqual(phone.prompts()[-2:], WELCOME)

    def test_spoken_into_the_prompt(self) -> None:
        """What is said at the door is heard nowhere, and disturbs nothing."""
        hall = Hall(DialIn("500", "north", "4711", key=Key.VOICE))
        ada = hall.person("ada")
        phone = hall.call()
        phone.say(speech(1.0))
        hall.wait(1.2)
        phone.press("4711#")
        hall.wait(1.0)
        self.assertEqual(phone.prompts(), [Prompt.CODE, Prompt.WELCOME])
        self.assertEqual(ada.datagrams, [])

    def test_three_wrong_codes(self) -> None:
        """Told each time, then locked out: hung up when that is said, recorded as forbidden; the next call of that number hears no more than that, another number gets in."""
        hall = Hall()
        phone = hall.call("030 1")
        for code in ("0000#", "#"):
            phone.press(code)
            hall.wait(1.2)
        phone.press("1234#")
        hall.wait(0.1)
        self.assertEqual(hall.requests(HangUp), [])  # it is being told
        hall.wait(0.4)
        asked = [Prompt.WRONG, Prompt.CODE]
        self.assertEqual(phone.prompts(), [*asked, *asked, Prompt.LOCKED])
        self.assertEqual(hall.requests(HangUp), [HangUp(phone.id, Cause.FORBIDDEN)])
        self.assertEqual(hall.records[phone.id].cause, Cause.FORBIDDEN)
        again = hall.call("0301")  # the same number, written otherwise
        hall.wait(1.0)
        self.assertEqual((again.prompts(), again.gone), ([Prompt.LOCKED], True))
        hall.inside("030 2")
        self.assertEqual(hall.lobby.status()["inside"], 1)
        self.assertEqual(hall.lobby.status()["codes"], {"right": 1, "wrong": 3})

    def test_nothing_is_keyed_in(self) -> None:
        """A minute at the door, then out."""
        hall = Hall()
        phone = hall.call()
        hall.wait(3 * CODE_S + 1.0)
        self.assertTrue(phone.gone)
        self.assertEqual(hall.lobby.status()["ended"], {"forbidden": 1})
        self.assertEqual(hall.leftovers(), {})

    def test_five_hundred_digits(self) -> None:
        """No more is kept than a code may have; it is one wrong code, and letters are no keys."""
        hall = Hall()
        phone = hall.call()
        phone.press("4711" * 125)
        visitor = hall.lobby.engine._calls[phone.id].visitor
        assert visitor is not None
        self.assertLessEqual(len(visitor.visit._keyed), MAX_CODE + 1)
        phone.press("#")
        phone.happen(trunking.life.Presses(Side.LINE, "4711#" * 100))  # more at once than anybody presses
        phone.press("x")
        self.assertEqual(hall.lobby.status()["codes"], {"right": 0, "wrong": 1})

    def test_wrong_keys_inside(self) -> None:
        """Inside, keys that mean nothing do nothing; letting go of nothing is nothing."""
        hall = Hall()
        ada = hall.person("ada")
        phone = hall.inside()
        phone.press("5#0ABCD#")
        hall.wait(0.3)
        self.assertEqual((ada.datagrams, hall.lobby.status()["floor"]), ([], {}))

    def test_who_is_turned_away(self) -> None:
        """On standby, at the limits of gateway and channel, and for a number of nobody's: refused before the answer, with a record."""
        hall = Hall()
        hall.free = False
        phone = hall.call()
        self.assertEqual(hall.asked, [("t", HangUp(phone.id, Cause.LIMIT))])
        self.assertEqual(hall.records[phone.id].cause, Cause.LIMIT)
        hall.free = True
        for _ in range(CALLERS_MAX):
            hall.call()
        self.assertEqual(len(hall.lobby), CALLERS_MAX)
        hall.call()
        self.assertEqual(len(hall.lobby), CALLERS_MAX)
        hall.lobby.set_active(False)
        hall.wait(0.1)
        hall.call()
        self.assertEqual(hall.lobby.status()["refused"], {"limit": 2, "takeover": 1})
        self.assertFalse(hall.report(trunking.Offered(UUID(int=99), "1", "501")))
        hall.wait(0.1)
        self.assertEqual(hall.leftovers(), {})

    def test_numbers(self) -> None:
        """However it is written, of the trunk that is meant; two channels of one number cannot be, nor a code that is none."""
        hall = Hall(DialIn("+4930 1", "north", trunk="t"), DialIn("+49301", "south", trunk="u"))
        self.assertTrue(hall.lobby.takes("u", trunking.Offered(UUID(int=1), "", "+49 30 1")))
        self.assertFalse(hall.lobby.takes("v", trunking.Offered(UUID(int=1), "", "+49 30 1")))
        for wrong in ((OPEN, DialIn("5 00", "south")), (DialIn("1", "a", "12"),)):
            self.assertRaises(LocalError, Hall, *wrong)


class OnTheChannel(SynchronousTestCase):
    def test_keys(self) -> None:
        """Star: a beep, and he is heard under his alias; hash: his burst ends with its marks. The record knows the call."""
        hall = Hall(DialIn("500", "north", "4711", alias="Tel {last}"))
        ada = hall.person("ada")
        phone = hall.inside("030 123")
        phone.say(speech(3.0))
        hall.wait(0.5)
        self.assertEqual(ada.datagrams, [])
        phone.press("*")
        hall.wait(1.0)
        self.assertEqual(phone.prompts()[-1], Prompt.TALK)
        self.assertEqual(ada.began, ["Tel 123"])
        self.assertTrue(hall.lobby.calls()[0].talking)
        self.assertGreater(amount(ada.last(0.5), 300.0), 0.8)
        phone.press("#")
        hall.wait(0.5)
        [end] = ada.ended
        self.assertEqual(end.why, "mark")
        self.assertLess(abs(end.duration_s - 1.0), 0.15)
        phone.hang_up()
        hall.wait(0.2)
        record = hall.records[phone.id]
        self.assertEqual(
            (
                record.direction,
                record.number,
                record.dialled,
                record.trunk,
                record.user_id,
                record.cause,
                record.by,
            ),
            (Direction.INCOMING, "030 123", "500", "t", "", Cause.HUNG_UP, Side.LINE),
        )
        self.assertEqual((record.began, record.answered, record.rate), (UNIX, UNIX, 16_000))
        self.assertEqual(hall.leftovers(), {})

    def test_voice(self) -> None:
        """By voice, not a syllable is lost: the whole of what was said is heard, its first 60 ms included."""
        hall = Hall(VOICE)
        ada = hall.person("ada")
        phone = hall.inside(code="")
        phone.say(speech(0.06, 2_500.0))
        phone.say(speech(1.0))
        hall.wait(3.0)
        [end] = ada.ended
        self.assertEqual(end.why, "mark")
        self.assertTrue(1.6 < end.duration_s < 2.2, end.duration_s)
        heard = ada.heard
        for hertz, frames in ((2_500.0, 3), (300.0, 50)):
            shares = [amount(heard[start : start + 960], hertz) for start in range(0, len(heard) - 960, 960)]
            # What a line said last is made to fade when it falls silent, hence the rest.
            self.assertTrue(frames - 0.5 < sum(shares) < frames + 3.5, (hertz, sum(shares)))

    def test_refused(self) -> None:
        """Somebody else talks: a beep, nothing is sent; when he has ended, it is granted."""
        hall = Hall()
        ada = hall.person("ada")
        phone = hall.inside()
        ada.say(speech(1.0))
        phone.say(speech(3.0, 900.0))
        hall.wait(0.2)
        phone.press("*")
        hall.wait(0.3)
        self.assertEqual(phone.prompts()[-1], Prompt.BUSY)
        self.assertEqual(ada.datagrams, [])
        self.assertEqual(hall.lobby.status()["floor"], {"busy": 1})
        hall.wait(1.0)
        phone.press("*")
        hall.wait(0.3)
        self.assertEqual(phone.prompts()[-1], Prompt.TALK)
        self.assertNotEqual(ada.datagrams, [])

    def test_rank(self) -> None:
        """A caller's priority counts: he usurps a lower one, who is not heard by callers any more; a higher one usurps him, and he is told."""
        hall = Hall(DialIn("500", "north", priority=5))
        ada, chief = hall.person("ada"), hall.person("chief", priority=9)
        phone = hall.inside(code="")
        ada.say(speech(3.0, 2_300.0))
        hall.wait(0.3)
        self.assertGreater(amount(phone.last(0.1), 2_300.0), 0.5)
        phone.say(speech(5.0))
        phone.press("*")
        hall.wait(0.5)
        self.assertLess(amount(phone.last(0.1), 2_300.0), 0.05)
        self.assertGreater(amount(chief.last(0.1), 300.0), 0.5)
        chief.say(speech(1.0, 2_700.0))
        hall.wait(0.4)
        self.assertEqual(phone.prompts()[-1], Prompt.STOPPED)
        self.assertFalse(hall.lobby.calls()[0].talking)
        self.assertEqual(hall.lobby.status()["floor"], {"outranked": 1})
        hall.wait(0.3)
        self.assertGreater(amount(phone.last(0.1), 2_700.0), 0.5)
        self.assertEqual([end.why for end in chief.ended if end.alias == "030 1"], ["mark"])

    def test_as_long_as_he_may(self) -> None:
        """The longest burst: a warning, then the end, with a beep; the lesser of channel and dial-in counts."""
        hall = Hall(DialIn("500", "north", max_talk_s=2.0))
        ada = hall.person("ada")
        phone = hall.inside(code="")
        phone.say(speech(9.0))
        phone.press("*")
        hall.wait(0.5)
        phone.press("#")  # what was not used up counts for nothing
        hall.wait(2.0)
        phone.press("*")
        hall.wait(1.5)
        self.assertEqual(phone.prompts()[-2:], [Prompt.TALK, Prompt.ENDING])
        hall.wait(1.0)
        self.assertEqual(phone.prompts()[-1], Prompt.STOPPED)
        self.assertLess(abs(ada.ended[1].duration_s - 2.0), 0.15)
        self.assertEqual(hall.lobby.status()["floor"], {"time-up": 1})

    def test_two_callers(self) -> None:
        """They share one membership and hear each other, never themselves; one talks at a time."""
        hall = Hall(OPEN)
        ada = hall.person("ada")
        one, two = hall.inside("1", code=""), hall.inside("2", code="")
        self.assertEqual(len(hall.network._streams["north"]), 2)
        one.say(speech(2.0, 2_300.0))
        two.say(speech(2.0, 2_700.0))
        one.press("*")
        hall.wait(0.3)
        two.press("*")
        hall.wait(0.5)
        self.assertEqual((one.prompts()[-1], two.prompts()[-1]), (Prompt.TALK, Prompt.BUSY))
        self.assertGreater(amount(two.last(0.2), 2_300.0), 0.8)
        self.assertLess(amount(one.last(0.2), 2_300.0) + amount(one.last(0.2), 2_700.0), 0.02)
        self.assertEqual(ada.began, ["1"])
        one.press("#")
        hall.wait(0.2)
        two.press("*")
        hall.wait(0.4)
        self.assertGreater(amount(one.last(0.2), 2_700.0), 0.8)
        self.assertEqual(ada.began, ["1", "2"])

    def test_no_way(self) -> None:
        """Where there is no way to the channel, who presses is refused, and who talks is told that he is not heard."""
        hall = Hall(OPEN)
        phone = hall.inside(code="")
        phone.say(speech(9.0))
        phone.press("*")
        hall.wait(0.5)
        self.assertTrue(hall.lobby.calls()[0].talking)
        hall.network.up = False
        hall.wait(0.4)
        self.assertEqual(phone.prompts()[-1], Prompt.STOPPED)
        phone.press("*")
        hall.wait(1.4)
        self.assertEqual(phone.prompts()[-1], Prompt.BUSY)
        self.assertEqual(hall.lobby.status()["floor"], {"no-path": 2})
        hall.network.up = True
        hall.wait(0.4)
        phone.press("*")
        hall.wait(0.2)
        self.assertTrue(hall.lobby.calls()[0].talking)

    def test_echo_opens_nothing(self) -> None:
        """What a telephone gives back of the channel is no voice of its caller."""
        hall = Hall(VOICE)
        ada = hall.person("ada")
        phone = hall.inside(code="")
        ada.say(speech(2.0))
        hall.wait(0.1)
        phone.say((speech(2.0) * 0.15).astype(np.int16))
        hall.wait(3.0)
        self.assertEqual((ada.datagrams, hall.lobby.status()["floor"]), ([], {}))

    def test_hold(self) -> None:
        """A line on hold is heard by nobody and hears nothing; afterwards all is as before, the key aside."""
        hall = Hall(OPEN)
        ada = hall.person("ada")
        phone = hall.inside(code="")
        phone.say(speech(9.0))
        phone.press("*")
        hall.wait(0.3)
        phone.happen(Holds(Side.LINE))
        hall.wait(0.3)
        before = len(ada.datagrams)
        self.assertFalse(hall.lobby.calls()[0].talking)
        hall.wait(0.3)
        self.assertEqual(len(ada.datagrams), before)
        phone.happen(Resumes(Side.LINE))
        phone.press("*")
        hall.wait(0.3)
        self.assertGreater(len(ada.datagrams), before)

    def test_comfort_noise(self) -> None:
        """A silent channel is not a dead line."""
        hall = Hall(OPEN)
        phone = hall.inside(code="")
        hall.wait(0.5)
        self.assertTrue(np.any(phone.last(0.1)))
        self.assertFalse(loud(phone.last(0.1)))


class FullDuplex(SynchronousTestCase):
    def setUp(self) -> None:
        self.hall = Hall(OPEN, places=[place(full_duplex=True, max_tx_s=1.0)])

    def test_everybody_hears_everybody(self) -> None:
        """Two callers and a person at once, without a key and without an end: each hears both others, and never himself."""
        hall = self.hall
        ada = hall.person("ada")
        one, two = hall.inside("1", code=""), hall.inside("2", code="")
        one.say(speech(3.0, 2_300.0))
        two.say(speech(3.0, 2_700.0))
        ada.say(speech(3.0, 3_100.0))
        hall.wait(2.0)
        for name, sound, hears in (
            ("one", one.last(0.5), (2_700.0, 3_100.0)),
            ("two", two.last(0.5), (2_300.0, 3_100.0)),
            ("ada", ada.last(0.5), (2_300.0, 2_700.0)),
        ):
            for hertz in (2_300.0, 2_700.0, 3_100.0):
                share = amount(sound, hertz)
                self.assertTrue(share > 0.7 if hertz in hears else share < 0.02, (name, hertz, share))
        self.assertEqual(sorted(ada.began), ["1", "2"])
        one.hang_up()
        hall.wait(0.3)
        self.assertEqual([end.why for end in ada.ended], ["mark"])
        two.hang_up()
        hall.wait(0.3)
        self.assertEqual(hall.leftovers(), {})

    def test_keys(self) -> None:
        """Keys are passed on as telephone events."""
        ada = self.hall.person("ada")
        phone = self.hall.inside(code="")
        phone.press("*7#")
        self.hall.wait(1.5)
        self.assertEqual(ada.digits, "*7#")

    def test_hold(self) -> None:
        """Off hold the caller is heard again, without a key."""
        ada = self.hall.person("ada")
        phone = self.hall.inside(code="")
        phone.happen(Holds(Side.LINE))
        self.hall.wait(0.3)
        self.assertEqual(len(ada.ended), 1)
        phone.happen(Resumes(Side.LINE))
        self.hall.wait(0.3)
        self.assertEqual(ada.began, ["030 1", "030 1"])


class DialOut(SynchronousTestCase):
    def test_called(self) -> None:
        """The number rings, answers, is told who calls, and is on the channel; the record says who wanted it."""
        hall = Hall()
        ada = hall.person("ada")
        id = hall.lobby.dial_out("North", "+4930", "operator")
        self.assertEqual(hall.asked, [("t", Dial(id, "+4930", "500", "North", channel_id("north")))])
        self.assertEqual([call.where for call in hall.lobby.calls()], ["ringing"])
        phone = hall.answer(id)
        hall.wait(2.5)
        self.assertEqual(phone.prompts(), [Prompt.CALLED, *WELCOME])
        phone.press("*")
        phone.say(speech(0.5))
        hall.wait(0.5)
        self.assertEqual(ada.began, ["+4930"])
        phone.hang_up()
        hall.wait(0.3)
        record = hall.records[id]
        self.assertEqual(
            (record.direction, record.number, record.user, record.cause, record.by),
            (Direction.OUTGOING, "+4930", "operator", Cause.HUNG_UP, Side.LINE),
        )
        self.assertIsNotNone(record.rang)
        self.assertEqual(hall.leftovers(), {})

    def test_not_answered(self) -> None:
        """Busy, or nobody comes: over, with its cause; nobody was on the channel."""
        hall = Hall(timing=Timing(ring_s=5.0))
        busy, rings = hall.lobby.dial_out("north", "1", "op"), hall.lobby.dial_out("north", "2", "op")
        hall.report(trunking.Happened(busy, Refuses(Side.LINE, Cause.BUSY)))
        hall.report(trunking.Happened(rings, Rings(Side.LINE)))
        hall.wait(5.5)
        self.assertEqual([hall.records[id].cause for id in (busy, rings)], [Cause.BUSY, Cause.NO_ANSWER])
        self.assertEqual(hall.leftovers(), {})

    def test_cancelled(self) -> None:
        """Whoever wanted it may hang up while it rings; twice is once."""
        hall = Hall()
        id = hall.lobby.dial_out("north", "1", "op")
        self.assertTrue(hall.lobby.end(id))
        hall.wait(0.1)
        self.assertFalse(hall.lobby.end(id))
        self.assertEqual(hall.leftovers(), {})

    def test_next_trunk(self) -> None:
        """A trunk that cannot is followed by the next; a channel with a trunk of its own has no other."""
        hall = Hall(OPEN, DialIn("501", "south", trunk="u"), trunks=("t", "u"))
        id = hall.lobby.dial_out("north", "1", "op")
        hall.report(trunking.Happened(id, Lost(Side.LINE)), "t")
        self.assertEqual([trunk for trunk, _ in hall.asked], ["t", "u"])
        self.assertFalse(hall.lobby.calls()[0].state == "ending")
        hall.report(trunking.Happened(id, HangsUp(Side.LINE, Cause.CONGESTION)), "u")
        own = hall.lobby.dial_out("south", "1", "op")
        hall.report(trunking.Happened(own, Lost(Side.LINE)), "u")
        self.assertEqual(
            [hall.records[each].cause for each in (id, own)], [Cause.CONGESTION, Cause.LINE_LOST]
        )
        self.assertEqual(hall.leftovers(), {})

    def test_refused(self) -> None:
        """An unknown channel, standby, no trunk, no room: each says why, and nothing is begun."""
        hall = Hall()
        causes = []
        for spoil in ("channel", "trunk", "room", "standby"):
            if spoil == "trunk":
                hall.order.told("t", trunking.Health(False, "the cable is cut"))
            if spoil == "room":
                hall.order.told("t", trunking.Health(True, "ok"))
                hall.free = False
            if spoil == "standby":
                hall.lobby.set_active(False)
            error = self.assertRaises(
                DialOutRefused, hall.lobby.dial_out, "x" if spoil == "channel" else "north", "1", "op"
            )
            causes.append(error.cause)
        self.assertEqual(causes, [Cause.FORBIDDEN, Cause.NO_TRUNK, Cause.LIMIT, Cause.TAKEOVER])
        self.assertEqual((hall.asked, len(hall.lobby)), ([], 0))

    def test_urgent(self) -> None:
        """An emergency number is called whatever the limits."""
        hall = Hall()
        hall.free = False
        hall.lobby.dial_out("north", "112", "op", urgent=True)
        self.assertEqual(len(hall.requests(Dial)), 1)


class Ends(SynchronousTestCase):
    def states(self, hall: Hall) -> list[UUID]:
        """A call in each state that a call has here."""
        door, prompt, listens, talks = (hall.call(str(number)) for number in range(4))
        hall.wait(0.6)
        for phone in (prompt, listens, talks):
            phone.press("4711#")
        hall.wait(0.8)
        door.press("47")
        prompt.press("*")
        prompt.press("#")
        talks.say(speech(9.0))
        talks.press("*")
        held = hall.inside("held")
        held.happen(Holds(Side.LINE))
        ringing = hall.lobby.dial_out("north", "1", "op")
        hall.report(trunking.Happened(ringing, Rings(Side.LINE)))
        setup = hall.lobby.dial_out("north", "2", "op")
        welcomed = hall.call("now")
        hall.wait(0.54)
        welcomed.press("4711#")
        hall.wait(0.1)
        return [*hall.phones, ringing, setup]

    def test_hang_up_in_every_state(self) -> None:
        """Whoever hangs up wherever: nothing is left, nobody is left ringing, every call has its record."""
        hall = Hall()
        ada = hall.person("ada")
        for id in self.states(hall):
            hall.report(trunking.Happened(id, HangsUp(Side.LINE)))
            hall.wait(0.1)
        hall.wait(0.5)
        self.assertEqual(hall.leftovers(), {})
        self.assertTrue(all(record.cause is not None for record in hall.records.values()))
        self.assertEqual([end.why for end in ada.ended], ["mark"])

    def test_lost_in_every_state(self) -> None:
        """The connection to the call manager breaks."""
        hall = Hall()
        ids = self.states(hall)
        for id in ids:
            hall.report(trunking.Happened(id, Lost(Side.LINE)))
        hall.wait(0.5)
        self.assertEqual(hall.leftovers(), {})
        self.assertEqual({record.cause for record in hall.records.values()}, {Cause.LINE_LOST})

    def test_standby(self) -> None:
        """Another gateway takes over: every line is let go, in every state, and the burst that ran ends for listeners."""
        hall = Hall()
        ada = hall.person("ada")
        ids = self.states(hall)
        hall.lobby.set_active(False)
        self.assertEqual({request.call for request in hall.requests(HangUp)}, set(ids))
        hall.wait(0.5)
        self.assertEqual({record.cause for record in hall.records.values()}, {Cause.TAKEOVER})
        self.assertEqual(hall.leftovers(), {})
        self.assertEqual([end.why for end in ada.ended], ["mark"])

    def test_stop(self) -> None:
        """A stop waits for the lines, but not for ever."""
        hall = Hall()
        hall.inside()
        hall.silent_trunk = True
        done: list[None] = []
        hall.lobby.stop().addCallback(done.append)
        hall.wait(4.0)
        self.assertEqual(done, [])
        hall.wait(1.5)
        self.assertEqual((done, hall.leftovers()), ([None], {}))
        hall.lobby.stop().addCallback(done.append)
        self.assertEqual(len(done), 2)

    def test_while_a_prompt_plays(self) -> None:
        """The call ends amid a prompt: nothing more is said to it."""
        hall = Hall()
        phone = hall.call()
        hall.wait(0.58)
        phone.hang_up()
        heard = len(phone.heard)
        hall.wait(0.3)
        self.assertEqual((len(phone.heard), hall.leftovers()), (heard, {}))

    def test_too_long(self) -> None:
        """A call that is forgotten off the hook ends."""
        hall = Hall(OPEN, timing=Timing(longest_s=3.0))
        hall.inside(code="")
        hall.wait(3.0)
        self.assertEqual(hall.lobby.status()["ended"], {"too-long": 1})
        self.assertEqual(hall.leftovers(), {})

    def test_found(self) -> None:
        """After a restart an answered call goes on at the door: its code is asked once more. On standby it is let go."""
        hall = Hall()
        found = trunking.Found(UUID(int=5), Direction.INCOMING, "030 1", UUID(int=0), UNIX - 60, "500")
        phone = hall.phones[found.call] = Phone(hall, found.call, hall.rate)
        self.assertTrue(hall.report(found))
        self.assertTrue(hall.report(found))
        self.assertEqual(len(hall.lobby), 1)
        hall.wait(1.0)
        self.assertEqual(phone.prompts(), [Prompt.CODE])
        phone.press("4711#")
        hall.wait(0.2)
        self.assertEqual(hall.lobby.status()["inside"], 1)
        self.assertEqual(hall.records[found.call].answered, UNIX - 60)
        hall.lobby.set_active(False)
        hall.wait(0.2)
        hall.report(found)
        self.assertEqual(hall.asked[-1], ("t", HangUp(found.call, Cause.TAKEOVER)))
        nobodys = trunking.Found(UUID(int=6), Direction.OUTGOING, "030 1", UUID(int=0), UNIX - 60, "500")
        self.assertFalse(hall.lobby.takes("t", nobodys))

    def test_found_that_we_had_placed(self) -> None:
        """A call that the channel had placed goes on in the channel; it is ours by the name that its trunk kept."""
        hall = Hall()
        placed = trunking.Found(UUID(int=6), Direction.OUTGOING, "030 1", channel_id("north"), UNIX - 60)
        phone = hall.phones[placed.call] = Phone(hall, placed.call, hall.rate)
        self.assertTrue(hall.report(placed))
        hall.wait(1.2)
        self.assertEqual(
            (phone.prompts()[:2], hall.lobby.status()["inside"]), ([Prompt.CALLED, Prompt.WELCOME], 1)
        )
        phone.hang_up()
        hall.wait(0.1)
        record = hall.records[placed.call]
        self.assertEqual((record.direction, record.answered), (Direction.OUTGOING, UNIX - 60))

    def test_twice_the_same(self) -> None:
        """A call manager that names two calls alike loses neither."""
        hall = Hall()
        phone = hall.inside()
        hall.report(trunking.Offered(phone.id, "030 2", "500"))
        self.assertEqual((len(hall.lobby), hall.requests(HangUp)), (1, []))

    def test_sound_that_cannot_be(self) -> None:
        """Another rate, half a sample, a call that is not there: counted or passed by."""
        hall = Hall(OPEN)
        phone = hall.inside(code="")
        for rate, samples in ((8_000, b"\0\0"), (16_000, b"\0"), (16_000, b"")):
            hall.report(trunking.Sound(phone.id, rate, samples))
        self.assertFalse(hall.report(trunking.Sound(UUID(int=77), 16_000, b"\0\0")))
        visitor = hall.lobby.engine._calls[phone.id].visitor
        assert visitor is not None
        self.assertEqual(visitor.line.refused, {"rate": 1, "empty": 2})


class TheFence(SynchronousTestCase):
    def test_asked_first(self) -> None:
        """A gateway whose right to lead has ended says nothing more: it looks before each word, and lets everybody go."""
        hall = Hall(OPEN, look=lambda: hall.lobby.set_active(hall.clock.seconds() < 2.0))
        ada = hall.person("ada")
        phone = hall.inside(code="")
        phone.say(speech(9.0))
        phone.press("*")
        hall.wait(2.0 - hall.clock.seconds() + 0.1)
        said = len(ada.datagrams)
        hall.wait(0.5)
        self.assertGreater(said, 0)
        self.assertEqual((len(ada.datagrams), phone.gone, hall.leftovers()), (said, True, {}))

    def test_times_of_a_reload(self) -> None:
        """New times hold for new calls."""
        hall = Hall()
        before = hall.lobby.dial_out("north", "1", "op")
        hall.lobby.configure(Timing(setup_s=1.0))
        after = hall.lobby.dial_out("north", "2", "op")
        hall.wait(1.5)
        self.assertEqual([hall.records[id].cause for id in (before, after)], [None, Cause.NO_RESPONSE])


class Idle(SynchronousTestCase):
    def test_costs_nothing(self) -> None:
        """Without calls there is no timer."""
        hall = Hall()
        self.assertEqual(hall.clock.getDelayedCalls(), [])
        self.assertEqual(hall.lobby.status()["calls"], 0)

    def test_a_long_pause(self) -> None:
        """A process that stood still does not say all that it missed."""
        hall = Hall(OPEN)
        phone = hall.inside(code="")
        heard = len(phone.heard)
        hall.clock.advance(10.0)
        self.assertLess(len(phone.heard) - heard, 48_000 * 0.2)
        hall.wait(STEP * 10)

    def test_prompts_have_tones(self) -> None:
        """What this file tells apart differs."""
        self.assertEqual(len(set(HERTZ.values())), len(Prompt))


class Keys(SynchronousTestCase):
    def test_a_missing_key(self) -> None:
        """An encrypted channel without its key takes nobody: said at the start."""
        shut = place()
        shut = type(shut)(type(shut.channel)("north", shut=True), shut.rules)
        hall = Hall()
        with self.assertRaises(LocalError) as caught:
            Lobby(
                hall.clock, hall.network, [OPEN], {"north": shut}, TrunkOrder(["t"]), ask=hall._ask,
                sound=hall._sound, record=hall._record, rate_of=lambda trunk: 8_000,
            )  # fmt: skip
        self.assertIn("key is not here", str(caught.exception))
