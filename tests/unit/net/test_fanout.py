"""The fan, compiled and not: every rule holds for both, on real TLS over real sockets."""

import socket
from typing import Any
from unittest import SkipTest

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from ice.link.fan import Fan, PythonFan
from ice.link.frame import media
from ice.link.outbox import Outbox
from ice.net import fanout
from ice.net.fanout import CompiledFan, Lane, compiled
from tests.unit.security import wire


def frame(number: int, size: int = 120) -> bytes:
    """A numbered MEDIA frame."""
    return media(0, 1, 2, number, b"x" * size)


class Far:
    """A link as a fan sees it: a lane where there is one, an outbox, and the ordinary way; and its far end."""

    def __init__(self, with_lane: bool) -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        self.socket = near
        self.near = wire.server().connection(near)
        far.setblocking(False)
        self.far_socket = far
        self.far = wire.client().connection("192.0.2.7", far)
        pending = [self.near, self.far]
        while pending:
            for each in pending[:]:
                try:
                    each.do_handshake()
                    pending.remove(each)
                except SSL.WantReadError:
                    continue
        found = compiled()
        self.lane = Lane(found, self.near) if with_lane and found is not None else None
        self.outbox = Outbox()
        self.outbox.gate = self.lane
        self.ordinary = 0
        self.raises: Exception | None = None

    def send_media(self, data: bytes) -> None:
        """The ordinary way."""
        if self.raises is not None:
            raise self.raises
        self.ordinary += 1
        if self.outbox.open:
            try:
                while data:
                    data = data[self.near.send(data) :]
                return
            except SSL.WantWriteError:
                self.outbox.blocked = True
        self.outbox.push(data, 0.0)

    def heard(self) -> bytes:
        """All that has arrived at the far end."""
        data = b""
        try:
            while True:
                data += self.far.recv(65_536)
        except SSL.WantReadError:
            return data

    def close(self) -> None:
        """Close both ends."""
        self.socket.close()
        self.far_socket.close()


class PythonFanTests(SynchronousTestCase):
    """The pure twin; the compiled one inherits every test."""

    compiled = False

    def setUp(self) -> None:
        self.failed: list[tuple[Any, Exception]] = []
        self.ends: list[Far] = []

    def far(self) -> Far:
        """One more link."""
        made = Far(self.compiled)
        self.ends.append(made)
        self.addCleanup(made.close)
        return made

    def fan(self, *recipients: Any) -> Fan:
        """A fan of them."""
        return PythonFan(recipients, lambda who, error: self.failed.append((who, error)))

    def test_all_but_the_sender(self) -> None:
        """Each recipient gets the same bytes, the sender none."""
        one, two, three = self.far(), self.far(), self.far()
        fan = self.fan(one, two, three)
        for number in range(5):
            fan.send(frame(number), two)
        expected = b"".join(map(frame, range(5)))
        self.assertEqual([each.heard() for each in (one, two, three)], [expected, b"", expected])

    def test_a_sender_who_does_not_listen(self) -> None:
        """The sender need not be a recipient, nor have a lane."""
        one = self.far()
        fan = self.fan(one)
        fan.send(frame(1), self.far())
        fan.send(frame(2), Plain())
        self.assertEqual(one.heard(), frame(1) + frame(2))

    def test_nobody(self) -> None:
        """A fan of nobody is no fault."""
        self.fan().send(frame(1), self.far())

    def test_shut_outbox(self) -> None:
        """Who is behind gets nothing past its queue; the others lose nothing."""
        one, two = self.far(), self.far()
        fan = self.fan(one, two)
        one.outbox.stale = True
        fan.send(frame(1), Plain())
        one.outbox.stale = False
        fan.send(frame(2), Plain())
        self.assertEqual(
            (one.heard(), len(one.outbox)), (b"", 2), "a new frame must not overtake a waiting one"
        )
        self.assertEqual((one.outbox.next(0.0), one.outbox.next(0.0)), (frame(1), frame(2)))
        fan.send(frame(3), Plain())
        self.assertEqual(one.heard(), frame(3))
        self.assertEqual(two.heard(), frame(1) + frame(2) + frame(3))

    def test_full_kernel(self) -> None:
        """A recipient that does not read fills up; from then on its frames wait, in order, and none is torn or doubled."""
        deaf, well = self.far(), self.far()
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        fan = self.fan(deaf, well)
        sent, heard = 0, b""
        while len(deaf.outbox) < 10:
            fan.send(frame(sent, 1_000), Plain())
            sent += 1
            heard += well.heard()
        self.assertEqual(heard, b"".join(frame(number, 1_000) for number in range(sent)))
        early = deaf.heard()
        deaf.outbox.blocked = False
        late = b""
        while (waiting := deaf.outbox.next(0.0)) is not None:
            deaf.near.send(waiting)
            late += deaf.heard()
        self.assertEqual(early + late, heard)

    def test_more_than_a_record(self) -> None:
        """A frame that needs several TLS records arrives whole, once."""
        one = self.far()
        one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        fan = self.fan(one)
        fan.send(frame(1, 60_000), Plain())
        fan.send(frame(2), Plain())
        self.assertEqual(one.heard(), frame(1, 60_000) + frame(2))

    def test_one_who_raises(self) -> None:
        """A recipient that raises is told of, and the others get their packet."""
        broken, well = Plain(OSError("broken")), self.far()
        self.fan(broken, well).send(frame(1), Plain())
        self.assertEqual(well.heard(), frame(1))
        self.assertEqual([(who, str(error)) for who, error in self.failed], [(broken, "broken")])

    def test_reset_in_the_middle(self) -> None:
        """A far end that has gone costs only itself."""
        gone, well = self.far(), self.far()
        fan = self.fan(gone, well)
        gone.far_socket.close()
        for number in range(3):
            fan.send(frame(number), Plain())
        self.assertEqual(well.heard(), frame(0) + frame(1) + frame(2))
        self.assertEqual([who for who, _ in self.failed], [gone] * 3)


class CompiledFanTests(PythonFanTests):
    """The compiled twin."""

    compiled = True

    def setUp(self) -> None:
        super().setUp()
        if compiled() is None:
            raise SkipTest(fanout.in_use())

    def fan(self, *recipients: Any) -> Fan:
        """A fan of them."""
        found = compiled()
        assert found is not None
        return CompiledFan(recipients, lambda who, error: self.failed.append((who, error)), found)

    def test_it_is_c_that_writes(self) -> None:
        """An open lane never takes the ordinary way, and counts what it wrote."""
        one = self.far()
        fan = self.fan(one)
        fan.send(frame(1), Plain())
        fan.send(frame(2), Plain())
        assert one.lane is not None
        self.assertEqual((one.ordinary, one.lane.frames, one.lane.bytes), (0, 2, 2 * len(frame(1))))
        self.assertTrue(one.lane.take_carried())
        self.assertFalse(one.lane.carried)

    def test_a_closed_lane_is_never_written(self) -> None:
        """Once the connection is gone its descriptor may be somebody else's: nothing is written, whatever the outbox says."""
        one = self.far()
        fan = self.fan(one)
        assert one.lane is not None
        one.lane.close()
        one.lane.open = True
        one.raises = OSError("gone")
        fan.send(frame(1), Plain())
        self.assertEqual((one.heard(), len(self.failed)), (b"", 1))

    def test_reading(self) -> None:
        """All records that are there are read in one call, and what ended it is told."""
        found = compiled()
        assert found is not None
        one = self.far()
        ssl = found.ssl(one.near)
        self.assertEqual(found.drain(ssl), (b"", fanout.WANT_READ))
        for number in range(40):
            one.far.send(frame(number))
        self.assertEqual(found.drain(ssl), (b"".join(map(frame, range(40))), fanout.WANT_READ))
        one.far.shutdown()
        data, why = found.drain(ssl)
        self.assertEqual((data, why), (b"", 6), "SSL_ERROR_ZERO_RETURN")

    def test_reading_has_an_end(self) -> None:
        """A flood fills the room, and the rest waits for the next turn; nothing is left where no poll can see it."""
        found = compiled()
        assert found is not None
        one = self.far()
        one.far_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sent = b"y" * 16_384 * 8
        for start in range(0, len(sent), 16_384):
            one.far.send(sent[start : start + 16_384])
        ssl, got = found.ssl(one.near), b""
        data, why = found.drain(ssl)
        self.assertEqual(why, fanout.NOTHING)
        self.assertEqual(one.near.pending(), 0)
        while why == fanout.NOTHING:
            got += data
            data, why = found.drain(ssl)
        self.assertEqual(got + data, sent)


class ProbeTests(SynchronousTestCase):
    """What is private to others may change."""

    def setUp(self) -> None:
        self.patch(fanout.os, "environ", {})  # these tests may themselves run with it switched off

    def probe(self) -> str:
        """Ask afresh; what is in use."""
        fanout._probe.cache_clear()
        self.addCleanup(fanout._probe.cache_clear)
        return fanout.in_use()

    def test_not_built(self) -> None:
        """Without the extension the pure twin works, and says why."""

        def missing(name: str) -> Any:
            raise ImportError(name)

        self.patch(fanout, "import_module", missing)
        self.assertIn("not built", self.probe())
        self.assertIs(fanout.fan_maker(), PythonFan)

    def test_unknown_cryptography(self) -> None:
        """A cryptography whose insides are others is found out before the first packet."""
        real = fanout.import_module

        def changed(name: str) -> Any:
            return real(name) if name.startswith("ice.") else object()

        self.patch(fanout, "import_module", changed)
        if "not built" in (said := self.probe()):
            raise SkipTest(said)
        self.assertIn("not known", said)

    def test_switched_off(self) -> None:
        """It can be switched off to compare."""
        self.patch(fanout.os, "environ", {fanout.SWITCH: "python"})
        self.assertIn("switched off", self.probe())


class Plain:
    """A recipient without a lane: somebody who sends, or fails."""

    def __init__(self, raises: Exception | None = None) -> None:
        self.raises = raises

    def send_media(self, data: bytes) -> None:
        """Fail, where that is what it is for."""
        if self.raises is not None:
            raise self.raises
