"""A reflector in a server group: a standby until it is elected, asked before each turn's datagrams whether it may still send."""

from ice.reflector.elected import ReflectorWork
from tests.unit.reflector.test_service import Case
from tests.unit.reflector.world import rtp


class Elected(Case):
    def test_standby_until_told(self) -> None:
        """Nothing is sent by whoever was not elected; who is, goes on at once."""
        reflector = self.started()
        work = ReflectorWork(reflector)
        self.assertFalse(reflector.is_active)
        self.wires[0].hear(rtp(1))
        self.assertEqual(self.network.counts.sent, 0)
        work.active()
        self.wires[0].hear(rtp(2))
        self.assertEqual(self.network.counts.sent, 1)
        work.standby()
        self.wires[0].hear(rtp(3))
        self.assertEqual(self.network.counts.sent, 1)

    def test_right_is_asked_before_sending(self) -> None:
        """Who has lost the right in the meantime is a standby before what waited is looked at, from either side."""
        reflector = self.started()
        work = ReflectorWork(reflector)
        work.active()
        asked: list[bool] = []

        def may_act() -> bool:
            asked.append(reflector.is_active)
            work.standby()
            return False

        reflector.guard(may_act)
        self.wires[0].hear(rtp(1))
        self.assertEqual((asked, self.network.counts.sent), ([True], 0))
        work.active()
        self.say(rtp(9), 0)
        self.assertEqual(self.wires[0].sent, [])
        self.assertEqual(asked, [True, True])
        reflector.reload(self.plan(self.rule(), self.rule("square", "239.1.1.2:5000")))
        self.wires[1].hear(rtp(1))
        self.assertEqual(len(asked), 3)

    def test_ready(self) -> None:
        """While its rules can be served; a Rallypoint that is gone, or a place, is told."""
        reflector = self.started()
        work = ReflectorWork(reflector)
        self.assertIsNone(work.ready())
        self.assertTrue(work.stored())
        self.wires[0].stand(False, "eth0 is down")
        self.assertEqual(work.ready(), "rule 1 (239.1.1.1:5000 <-> hall): eth0 is down")
        reflector.reload(self.plan())
        self.assertIn("no enabled rule", work.ready() or "")
        self.assertFalse(work.stored())
