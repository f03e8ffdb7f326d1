"""Messages on streams that are joined when they are wanted."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.link.frame import Flag
from ice.streams.memory import Collector, MemoryNetwork
from ice.telephony.mailroom import IDLE_S, KEPT, MOST, WAIT_S, WAITING, Mailroom
from ice.telephony.post import Mail


class Rooms(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.room = Mailroom(self.clock, self.network)

    def listen(self, stream: str) -> Collector:
        heard = Collector()
        self.network.join(stream, heard)
        self.clock.advance(0)
        return heard

    def test_said(self) -> None:
        """What is said before the path is open is said then, in order, as data; later at once."""
        heard = self.listen("a")
        for payload in (b"1", b"2"):
            self.room.say(Mail("a", payload))
        self.clock.pump([0, 0])
        self.room.say(Mail("a", b"3"))
        self.clock.advance(0)
        self.assertEqual(heard.payloads, [b"1", b"2", b"3"])
        self.assertEqual({each.flags for each in heard.datagrams}, {int(Flag.DATA)})
        self.assertEqual(self.room.counts, {"said": 3})

    def test_waits(self) -> None:
        """What waits longer than a second is not said any more; nor does more wait than a few messages."""
        heard = self.listen("a")
        self.network.up = False
        self.room.say(Mail("a", b"old"))
        self.clock.advance(WAIT_S + 0.1)
        self.room.say(Mail("a", b"new"))
        self.network.up = True
        self.clock.pump([0, 0])
        self.assertEqual(heard.payloads, [b"new"])
        self.assertEqual(self.room.counts, {"said": 1, "no-path": 1})
        self.network.up = False
        for number in range(WAITING + 3):
            self.room.say(Mail("a", bytes([number])))
        self.assertEqual(self.room.counts["no-path"], 1 + 3)

    def test_bounded(self) -> None:
        """Streams make room for others, the one used longest ago first; who is written to within the second keeps his."""
        for number in range(KEPT):
            self.room.say(Mail(str(number), b"x"))
        self.clock.advance(IDLE_S + 0.1)
        self.room.say(Mail("0", b"x"))
        for number in range(KEPT - 1):
            self.room.say(Mail(f"other {number}", b"x"))
        self.assertEqual(len(self.room), KEPT)
        heard = self.listen("0")
        self.room.say(Mail("0", b"again"))
        self.clock.advance(0)
        self.assertEqual(heard.payloads, [b"again"])
        for number in range(MOST):
            self.room.say(Mail(f"crowd {number}", b"x"))
        self.assertEqual(len(self.room), MOST)
        self.assertEqual(self.room.counts["full"], KEPT)

    def test_close(self) -> None:
        """After the close nothing is joined; more may be said."""
        self.room.say(Mail("a", b"lost"))
        self.room.close()
        self.assertEqual((len(self.room), self.room.counts["no-path"]), (0, 1))
        heard = self.listen("a")
        self.assertEqual(heard.payloads, [])
        self.room.say(Mail("a", b"more"))
        self.clock.pump([0, 0])
        self.assertEqual(heard.payloads, [b"more"])
