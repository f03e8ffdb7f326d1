"""What packets say of the floor."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import Flag
from ice.media.floor import Claim, Floor, Granted, Muted, Reason, Refused, Rules, Unmuted, Usurped
from ice.media.floor_ears import NAMES_MAX, FloorEars
from ice.media.probe import Kind, Probe
from ice.media.rtp import Extension, Packet, Talk, TalkFlag

ANNA, BOB, CHIEF, WE = 0x11, 0x22, 0x33, 0x44


def packet(ssrc: int, talk: Talk | None = None, *, marker: bool = False, extension: Any = None) -> bytes:
    """A packet of somebody's, with what he says of himself."""
    if talk is not None:
        extension = talk.to_extension()
    return Packet(0, 1, 160, ssrc, bytes(160), marker, (), extension).encode()


class FloorEarsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.floor = Floor(Rules())
        self.ears = FloorEars(self.floor)

    def hear(self, now: float, ssrc: int, talk: Talk | None = None, flags: int = 0, **more: Any) -> Any:
        return self.ears.datagram(packet(ssrc, talk, **more), int(flags), now)

    def claims(self, now: float) -> list[Claim]:
        return [each.claim for each in self.floor.talking(now)]

    def test_rank(self) -> None:
        """Priority and emergency are those of the header extension; a packet without one changes nothing."""
        self.hear(0.0, ANNA, Talk("Anna", 7, TalkFlag.EMERGENCY | TalkFlag.BURST_START))
        self.assertEqual(self.claims(0.1), [Claim(ANNA, 7, emergency=True)])
        self.hear(0.1, ANNA)
        self.assertEqual(self.claims(0.2), [Claim(ANNA, 7, emergency=True)])
        self.hear(0.2, ANNA, Talk("Anna", 3))
        self.assertEqual(self.claims(0.3), [Claim(ANNA, 3)])
        self.hear(0.3, ANNA, Talk("Anna"))
        self.assertEqual(self.claims(0.4), [Claim(ANNA, 0)], "what is left out is 0")

    def test_probes(self) -> None:
        """A measurement holds no floor, where no flag of a link tells it from speech."""
        self.assertEqual(self.ears.datagram(Probe(Kind.PROBE, 1, 2, 3, 4).encode(), 0, 0.0), ())
        self.assertEqual(self.claims(0.1), [])

    def test_nothing_said(self) -> None:
        """Who never says anything of himself has the lowest rank."""
        self.hear(0.0, ANNA)
        self.assertEqual(self.claims(0.1), [Claim(ANNA)])

    def test_urgent_on_the_link(self) -> None:
        """A link says emergency for packets whose extension is not there."""
        self.hear(0.0, ANNA, flags=Flag.URGENT)
        self.hear(0.1, ANNA)
        self.assertEqual(self.claims(0.2), [Claim(ANNA, 0, emergency=True)])
        self.hear(0.2, ANNA, Talk("Anna", 5), Flag.URGENT)
        self.assertEqual(self.claims(0.3), [Claim(ANNA, 5, emergency=True)])

    def test_ends(self) -> None:
        """An end is said by the link or by the extension, and frees the floor at once; its copies begin nothing."""
        for end in (
            {"flags": Flag.LAST},
            {"talk": Talk("Anna", 0, TalkFlag.BURST_END)},
        ):
            self.hear(0.0, ANNA, Talk("Anna", 0, TalkFlag.BURST_START))
            for copy in range(3):
                self.hear(1.0 + copy * 0.02, ANNA, **end)
                self.assertEqual(self.claims(1.0 + copy * 0.02), [])

    def test_overtaken_by_the_end(self) -> None:
        """A packet that comes right behind the end was overtaken by it; one that begins a burst is a new one."""
        self.hear(0.0, ANNA, flags=Flag.FIRST)
        self.hear(1.0, ANNA, flags=Flag.LAST)
        self.hear(1.02, ANNA)
        self.assertEqual(self.claims(1.03), [])
        for again in (
            {"flags": Flag.FIRST},
            {"talk": Talk("Anna", 0, TalkFlag.BURST_START)},
            {"marker": True},
        ):
            self.hear(1.04, ANNA, **again)
            self.assertEqual(self.claims(1.05), [Claim(ANNA)], again)
            self.hear(1.05, ANNA, flags=Flag.LAST)

    def test_silence(self) -> None:
        """Who marks his ends is over after the longer silence, and who gives no sign of that after the shorter one: an RTP marker is none, nor is the FIRST that
        multicast makes of it."""
        for over_s, how in (
            (2.0, {"talk": Talk("Anna", 0, TalkFlag.BURST_START)}),
            (0.5, {"talk": Talk("Anna")}),
            (0.5, {"marker": True, "flags": Flag.FIRST}),
            (0.5, {}),
        ):
            self.setUp()
            self.hear(0.0, ANNA, **how)
            self.assertEqual(len(self.claims(over_s - 0.01)), 1, how)
            self.assertEqual(self.claims(over_s + 0.01), [], how)

    def test_decisions(self) -> None:
        """What is heard usurps, and silences who stands below."""
        self.assertIsInstance(self.floor.request(Claim(WE, 3), 0.0), Granted)
        self.floor.tick(0.0)
        self.assertEqual(self.hear(0.1, BOB, Talk("Bob", 1)), (Muted(BOB, Reason.OUTRANKED, Claim(WE, 3)),))
        self.assertEqual(self.floor.muted, {BOB})
        usurped, *_ = self.hear(0.2, CHIEF, Talk("Chief", 9))
        self.assertEqual((usurped.reason, usurped.by), (Reason.OUTRANKED, Claim(CHIEF, 9)))
        self.assertIsInstance(usurped, Usurped)
        self.assertIn(Unmuted(BOB), self.hear(0.3, CHIEF, Talk("Chief", 9, TalkFlag.BURST_END)))

    def test_refusal(self) -> None:
        """Who is heard is in the way of a press, by name."""
        self.hear(0.0, ANNA, Talk("Anna", 2))
        self.hear(0.1, ANNA)
        answer = self.floor.request(Claim(WE, 1), 0.2)
        assert isinstance(answer, Refused)
        self.assertEqual((answer.reason, self.ears.name(answer.by.source)), (Reason.OUTRANKED, "Anna"))

    def test_names(self) -> None:
        """The name that came last counts, without one it is the number; of many the oldest are forgotten."""
        self.assertEqual(self.ears.name(ANNA), "SSRC 00000011")
        self.hear(0.0, ANNA, Talk("Anna"))
        self.hear(0.1, ANNA, Talk("", 3))
        self.assertEqual(self.ears.name(ANNA), "Anna")
        self.hear(0.2, ANNA, Talk("Ann"))
        self.assertEqual(self.ears.name(ANNA), "Ann")
        self.hear(0.3, BOB, Talk("Bob"))
        for count, ssrc in enumerate(range(0x1000, 0x1000 + NAMES_MAX)):
            self.hear(0.3, ssrc, Talk("x"))
            if count == NAMES_MAX // 2:
                self.hear(0.3, BOB, Talk("Bob"))
        self.assertEqual(self.ears.name(ANNA), "SSRC 00000011")
        self.assertEqual(self.ears.name(BOB), "Bob", "who goes on talking is not forgotten")
        self.assertEqual(len(self.ears._names), NAMES_MAX)

    def test_foreign_extensions(self) -> None:
        """An extension that is not ours is no claim."""
        self.hear(0.0, ANNA, extension=Extension(0x1234, bytes(8)))
        self.assertEqual(self.claims(0.1), [Claim(ANNA)])

    def test_no_voice(self) -> None:
        """What is flagged as data, and what is no RTP, says nothing."""
        self.hear(0.0, ANNA, Talk("Anna"), Flag.DATA)
        self.assertEqual(self.ears.datagram(b"anything", 0, 0.1), ())
        self.assertEqual(self.ears.datagram(b"", int(Flag.URGENT | Flag.LAST), 0.2), ())
        self.assertEqual(self.claims(0.3), [])

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 15)), max_size=20))
    def test_anything(self, datagrams: list[tuple[bytes, int]]) -> None:
        """No datagram does harm."""
        ears = FloorEars(Floor(Rules()))
        for index, (payload, flags) in enumerate(datagrams):
            ears.datagram(payload, flags, index * 0.02)
            ears.datagram(b"\x90\x00" + payload, flags, index * 0.02)
