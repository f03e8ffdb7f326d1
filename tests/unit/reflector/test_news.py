"""Many rules, one sentence."""

from twisted.trial.unittest import SynchronousTestCase

from ice.reflector.news import News


class NewsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.closed: list[str] = []
        self.opened: list[str] = []
        self.news = News(self.closed.append, self.opened.append)

    def test_one(self) -> None:
        """One rule is named with its reason, once, however many places it has, and nothing is said twice."""
        self.news.closed("rule 1", "eth0 is down")
        self.news.closed("rule 1", "eth0 is down")
        self.news.tell()
        self.news.opened("rule 1", "joined 239.1.1.1:5 on eth0")
        self.news.tell()
        self.news.tell()
        self.assertEqual(self.closed, ["rule 1: eth0 is down"])
        self.assertEqual(self.opened, ["rule 1: joined 239.1.1.1:5 on eth0"])

    def test_many(self) -> None:
        """Of five hundred three are named and the others counted, by the reason they have."""
        for number in range(500):
            self.news.closed(f"rule {number}", "eth0 is down" if number else "eth1 is down")
        self.news.tell()
        self.assertEqual(
            self.closed,
            ["rule 0: eth1 is down", "rule 1, rule 2, rule 3, and 496 more: eth0 is down"],
        )
        for number in range(500):
            self.news.opened(f"rule {number}", f"joined group {number}")
        self.news.tell()
        self.assertEqual(self.opened, ["rule 0, rule 1, rule 2, and 497 more: open again"])
