"""What a caller's voice is worth on the channel, and the channel's on his telephone; calls in a patch; the built-in call manager."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import ice.testing
from ice.media import wav
from ice.media.floor import Rules
from ice.media.payload import Pcm
from ice.media.quality import compare
from ice.media.resample import Downsampler
from ice.media.tones import sine
from ice.patch.channel import Channel, Voice
from ice.patch.engine import engine_for
from ice.patch.joint import Joint
from ice.patch.plan import Mode, Patch
from ice.security.keyring import Keyring
from ice.security.traffic import Cipher
from ice.streams.memory import Collector, MemoryNetwork
from ice.streams.sealed import SealedNetwork
from ice.telephony import trunk as trunking
from ice.telephony.call import Answers, HangsUp, Holds, Lost, Refuses, Resumes, Rings, Side
from ice.telephony.causes import Cause
from ice.telephony.dial_in import DialIn, Key
from ice.telephony.lobby import DialOutRefused, Lobby, Place
from ice.telephony.loopback_trunk import LoopbackTrunk
from ice.telephony.records import CallRecord
from ice.telephony.trunk import Press, TrunkOrder
from tests.unit.telephony.hall import UNIX, Hall, Phone, Tones, amount, place

SPEECH = wav.read(Path(ice.testing.__file__).parent / "data" / "speech.wav")
PAUSE = np.zeros(24_000, np.int16)


def opus(*, full_duplex: bool = False, keyring: Keyring | None = None) -> Place:
    return Place(
        Channel("north", "North", full_duplex, Voice(), keyring),
        Rules(full_duplex=full_duplex, max_tx_s=30.0),
    )


def pesq(spoken: Pcm, heard: Pcm, rate: int) -> float:
    """PESQ, narrow-band at 8 kHz and wide-band at 16."""
    if importlib.util.find_spec("pesq") is None:
        raise SkipTest("pesq is not installed (extra: quality)")
    from pesq import pesq as measure

    factor = 48_000 // rate
    first, second = (
        Downsampler(factor).process(pcm[: len(pcm) // factor * factor]) for pcm in (spoken, heard)
    )
    return float(measure(rate, first, second, "nb" if rate == 8_000 else "wb"))


class Quality(SynchronousTestCase):
    """Over real libopus, from mouth to ear."""

    def both_ways(self, rate: int, dial_in: DialIn) -> tuple[Pcm, Pcm]:
        """What a person on the channel hears of a caller's sentence, and the caller of the person's."""
        hall = Hall(dial_in, places=[opus()], rate=rate)
        ada = hall.person("ada")
        phone = hall.inside(code="")
        if dial_in.key is Key.KEYPAD:
            phone.press("*")
            hall.wait(0.3)
        start = len(ada.heard)
        phone.say(SPEECH)
        hall.wait(7.0)
        phone.press("#")
        hall.wait(0.5)
        there = ada.heard[start:]
        start = len(phone.heard)
        ada.say(SPEECH)
        hall.wait(7.0)
        return there, phone.heard[start:]

    def test_keypad(self) -> None:
        """Every word arrives, on a wide line and on a telephone's, either way."""
        for rate, least in ((16_000, 3.3), (8_000, 3.6)):
            for heard in self.both_ways(rate, DialIn("500", "north")):
                likeness = compare(SPEECH, heard)
                self.assertGreater(likeness.score, 0.9, (rate, likeness))
                self.assertLess(likeness.offset_ms, 200.0)
                start = round(likeness.offset_ms * 48)
                heard = heard[start : start + len(SPEECH)]
                self.assertGreater(pesq(SPEECH, heard, rate), least)

    def test_voice(self) -> None:
        """By voice the first syllable is there as well, and a pause within the sentence cuts nothing."""
        there, back = self.both_ways(16_000, DialIn("500", "north", key=Key.VOICE))
        for heard in (there, back):
            likeness = compare(SPEECH, heard)
            self.assertGreater(likeness.score, 0.9, likeness)
            self.assertGreater(likeness.coverage, 0.97, likeness)
        first = SPEECH[: round(0.35 * 48_000)]
        self.assertGreater(compare(first, there[:48_000]).score, 0.8)

    def test_encrypted(self) -> None:
        """A channel with a key: who has it hears every word, who has not hears noise, and a caller hears only who has it."""
        keyring = Keyring.of("11" * 32, Cipher.GCM, salt=b"s" * 16)
        hall = Hall(DialIn("500", "north"), places=[opus(keyring=keyring)])
        raw = Collector()
        hall.network.join("north", raw)
        eve = hall.person("eve")
        hall.air = SealedNetwork(hall.network, {"north": keyring}.get, lambda: UNIX + hall.clock.seconds())
        ada = hall.person("ada")
        phone = hall.inside(code="")
        phone.say(SPEECH)
        phone.press("*")
        hall.wait(7.0)
        phone.press("#")
        hall.wait(0.5)
        self.assertGreater(compare(SPEECH, ada.heard).score, 0.9)
        self.assertNotIn("030 1", eve.began)
        self.assertFalse(any(b"030 1" in payload for payload in raw.payloads))
        eve.say(sine(2_300.0, 24_000))
        hall.wait(0.5)
        self.assertLess(amount(phone.last(0.4), 2_300.0), 0.02)
        ada.say(sine(2_300.0, 24_000))
        hall.wait(0.5)
        self.assertGreater(amount(phone.last(0.3), 2_300.0), 0.5)


class InAPatch(SynchronousTestCase):
    def test_callers_and_channels(self) -> None:
        """Full-duplex channels in a patch, one with two callers, one with a caller, one with a person: each hears all others, and never himself."""
        names = ("north", "south", "east")
        places = [place(name, full_duplex=True) for name in names]
        hall = Hall(DialIn("500", "north"), DialIn("501", "south"), places=[*places])
        patch = Patch.of("p", names, mode=Mode.MIXED)
        engine = engine_for(patch, {each.channel.stream_id: each.channel for each in places}, group_id="g")
        network = cast(Any, hall.network)
        joint = Joint(hall.clock, network, engine, lambda: UNIX + hall.clock.seconds(), lambda: None)
        joint.take_over()
        cat = hall.person("cat", stream="east")
        one, two = hall.inside("1", code=""), hall.inside("2", code="")
        three = hall.inside("3", "501", code="")
        tones = {"one": 2_300.0, "two": 2_700.0, "three": 3_100.0, "cat": 3_500.0}
        for speaker, hertz in ((one, 2_300.0), (two, 2_700.0), (three, 3_100.0), (cat, 3_500.0)):
            speaker.say(sine(hertz, 3 * 48_000, level_dbov=-24.0))
        hall.wait(2.0)
        for name, ear in (("one", one), ("two", two), ("three", three), ("cat", cat)):
            for other, hertz in tones.items():
                share = amount(ear.last(0.5), hertz)
                self.assertTrue(share < 0.02 if other == name else share > 0.3, (name, other, share))
        for phone in (one, two, three):
            phone.hang_up()
        joint.leave()
        hall.wait(0.5)
        self.assertEqual(len(hall.lobby), 0)


class BuiltIn(SynchronousTestCase):
    """The built-in call manager as trunk: 104 answers, hangs up, and calls back who called it."""

    def test_there_and_back(self) -> None:
        """The channel calls 104 and hears its tone; 104 calls the channel's number, is let in by its code, talks by its key, and says back what it hears."""
        clock = Clock()
        network = MemoryNetwork(clock)
        records: dict[UUID, CallRecord] = {}

        class Ears:
            def told(self, trunk: trunking.Trunk, report: trunking.Report) -> None:
                if isinstance(report, trunking.Health):
                    order.told(trunk.name, report)
                elif lobby.takes(trunk.name, report):
                    lobby.told(trunk.name, report)

        order = TrunkOrder(["loopback"])
        trunk = LoopbackTrunk("loopback", clock, Ears(), ring_s=0.2)
        lobby = Lobby(
            clock,
            network,
            [DialIn("500", "north", "4711")],
            {"north": place(full_duplex=True)},
            order,
            ask=lambda name, request: trunk.ask(request),
            sound=lambda name, call, samples: trunk.sound(call, samples),
            record=lambda record: records.update({record.id: record}),
            rate_of=lambda name: trunk.rate,
            wall=lambda: UNIX + clock.seconds(),
            prompts=Tones(),
            chance=random.Random(1),
        )
        heard = Collector()
        network.join("north", heard)
        trunk.start()
        clock.advance(0.02)
        lobby.set_active(True)
        id = lobby.dial_out("north", "104", "op")
        clock.pump([0.02] * 60)
        self.assertEqual(records[id].cause, Cause.HUNG_UP)
        self.assertTrue(heard.payloads)
        clock.pump([0.02] * 160)
        [call] = lobby.calls()
        self.assertEqual((call.where, call.dialled, call.number), ("door", "500", "104"))
        trunk.ask(Press(call.id, "4711#"))
        clock.pump([0.02] * 50)
        [call] = lobby.calls()
        self.assertEqual((call.where, call.talking), ("channel", True))
        done: list[None] = []
        lobby.stop().addCallback(done.append)
        clock.pump([0.02] * 10)
        trunk.stop()
        self.assertEqual((done, len(lobby), len(trunk.engine), clock.getDelayedCalls()), ([None], 0, 0, []))


STEPS = ("wait",) * 6 + ("key-4711#", "key-*", "speak") * 3 + (
    "call", "open-call", "key-*", "key-#", "key-4711#", "key-0#", "hang-up", "lost", "hold", "resume", "speak",
    "dial", "rings", "answers", "refuses", "end", "person", "silence", "path-down", "path-up", "standby", "active",
    "wait", "wait", "wait-long",
)  # fmt: skip


class AnyOrder(SynchronousTestCase):
    def test_nothing_is_left(self) -> None:
        """Whatever happens in whatever order: nobody who is not inside is heard, and when all is over nothing is left of it but records."""
        bursts = 0
        for seed in range(30):
            bursts += self.one(random.Random(seed), full_duplex=seed % 3 == 0)
        self.assertGreater(bursts, 50)

    def one(self, chance: random.Random, *, full_duplex: bool) -> int:
        """One world with forty things that happen; how many bursts of callers there were."""
        hall = Hall(
            DialIn("500", "north", "4711"),
            DialIn("501", "north", key=Key.VOICE),
            places=[place(full_duplex=full_duplex, max_tx_s=1.0)],
        )
        ada = hall.person("ada")
        ids = [hall.call("1").id, hall.call("2", "501").id]
        for _ in range(40):
            self.play(hall, chance.choice(STEPS), ids, chance.randrange(8))
            for call in hall.lobby.calls():
                self.assertTrue(call.where == "channel" or not call.talking)
        ada.release()
        hall.network.up = True
        for id in ids:
            hall.report(trunking.Happened(id, HangsUp(Side.LINE)))
        hall.wait(5.5)
        self.assertEqual(hall.leftovers(), {})
        self.assertEqual(set(hall.records), set(ids))
        self.assertTrue(all(record.cause is not None for record in hall.records.values()))
        began = sum(alias != "ada" for alias in ada.began)
        self.assertEqual(began, len(ada.ended))
        return began

    def play(self, hall: Hall, step: str, ids: list[UUID], which: int) -> None:
        """One thing that happens."""
        ada = hall.people[0]
        id = ids[which % len(ids)] if ids else UUID(int=0)
        phone = hall.phones.get(id)

        def happen(*events: trunking.life.Event) -> None:
            for event in events:
                hall.report(trunking.Happened(id, event))

        word, _, keys = step.partition("-")
        match word:
            case "call" | "open":
                ids.append(hall.call(str(which), "501" if word == "open" else "500").id)
            case "key" if phone is not None:
                phone.press(keys)
            case "hang":
                happen(HangsUp(Side.LINE))
            case "lost":
                happen(Lost(Side.LINE))
            case "hold":
                happen(Holds(Side.LINE))
            case "resume":
                happen(Resumes(Side.LINE))
            case "speak" if phone is not None:
                phone.say(sine(400.0, 24_000))
            case "dial":
                try:
                    ids.append(hall.lobby.dial_out("north", "7", "op"))
                except DialOutRefused:
                    return
                hall.phones[ids[-1]] = Phone(hall, ids[-1], hall.rate)
            case "rings":
                happen(Rings(Side.LINE))
            case "answers":
                happen(Answers(Side.LINE))
            case "refuses":
                happen(Refuses(Side.LINE, Cause.BUSY))
            case "end":
                hall.lobby.end(id)
            case "person" if not ada.sender.pressed:
                ada.say(sine(900.0, 24_000))
            case "silence":
                ada.release()
            case "path":
                hall.network.up = keys == "up"
            case "standby" | "active":
                hall.lobby.set_active(word == "active")
            case "wait":
                hall.wait(1.0 if keys else 0.2)
