"""What is seen of an election from outside."""

import io
from contextlib import redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from ice.cli.election_watch import Face, JsonFace, cells, drawn, facts, print_table
from ice.election.ballot import Ballot, encode
from ice.election.messages import Report, encode_report
from ice.election.rules import Quorum
from ice.election.watching import NOT_READY, OFFLINE, STOPPED, Watching

from .groups import GROUP_ID, MS, SALT, group
from .kit import Party


def ballot(
    id: str, votes: int, ms: int = MS, leads: bool = False, named: str | None = "a", **more: bool
) -> bytes:
    """A ballot's bytes."""
    lids = (GROUP_ID,) if leads else ()
    return encode(Ballot(id, votes, ms, (GROUP_ID,), lids, True, named, **more), SALT)  # type: ignore[arg-type]


class Seeing(SynchronousTestCase):
    def setUp(self) -> None:
        self.watching = Watching(group(3))

    def hear(self, *messages: bytes, now: float = 0.0, way: str = "multicast") -> None:
        """These come."""
        for data in messages:
            self.watching.hear(way, data, now, MS + int(now * 1_000))

    def states(self, now: float = 0.0) -> list[str]:
        """Of all members."""
        return [row.state for row in self.watching.rows(now)]

    def test_nobody(self) -> None:
        """Nothing was heard."""
        self.assertEqual(self.states(), [OFFLINE] * 3)
        self.assertEqual(
            self.watching.summary(0.0), "nobody leads: 0 of 3 members heard, 2 are needed (majority)"
        )
        self.assertIsNone(self.watching.leader(0.0))

    def test_a_group_that_works(self) -> None:
        """Who leads, who names whom, how each says it is."""
        report = Report("a", "active", True, "a", "ACTIVE: …", "nobody led", 1, MS)
        self.hear(
            ballot("a", 3, leads=True), ballot("b", 0), ballot("c", -1, named=None), encode_report(report)
        )
        self.assertEqual(self.states(), ["active", NOT_READY, "standbyOutOfService"])
        self.assertEqual(self.watching.leader(0.0), "a")
        self.assertEqual(self.watching.summary(0.0), "A leads: nobody led; 3 of 3 members heard, 2 name it")
        first, *_ = self.watching.rows(1.0)
        self.assertEqual((first.names, first.ways, first.clock_s), ("A", {"multicast": 1.0}, 0.0))
        self.assertEqual(cells(first)[:4], ("A", "3", "active", "A"))

    def test_silence(self) -> None:
        """A ballot is worth two cycles, whatever its sender reported."""
        self.hear(ballot("a", 3, leads=True))
        self.assertEqual(self.states(20.0)[0], "active")
        self.assertEqual(self.states(20.1)[0], OFFLINE)
        self.assertIsNone(self.watching.leader(20.1))

    def test_resigned(self) -> None:
        """Who has said so has stopped, at once and later."""
        self.hear(ballot("a", 3, leads=True), ballot("a", -1, MS + 1, named=None, resigned=True))
        self.assertEqual((self.states(0.0)[0], self.states(60.0)[0]), (STOPPED, STOPPED))

    def test_why_nobody_leads(self) -> None:
        """Each reason has its sentence."""
        self.hear(ballot("a", -3, named=None), ballot("b", -2, named=None))
        self.assertIn("none of them may", self.watching.summary(0.0))
        self.hear(ballot("a", 3, MS + 1, named="a"), ballot("b", 2, MS + 1, named="b"))
        self.assertEqual(self.watching.summary(0.0), "nobody leads: 1 of 3 members name A, 2 are needed")
        self.hear(ballot("b", 2, MS + 2, named="a"))
        self.assertIn("it takes two elections", self.watching.summary(0.0))

    def test_two_leaders(self) -> None:
        """A divided group, seen from where both are heard."""
        self.watching = Watching(group(2, Quorum.NONE))
        self.hear(ballot("a", 2, leads=True), ballot("b", 1, leads=True))
        self.assertIn("A and B lead at once", self.watching.summary(0.0))

    def test_refused(self) -> None:
        """What is no ballot of this group is counted, and a copy renews its way."""
        one = ballot("a", 3)
        self.hear(one, b"{}", one.replace(b'"votes":3', b'"votes":4'), b"\x04{}", b"\x09", b"")
        self.hear(one, now=2.0, way="rallypoint")
        self.hear(ballot("a", 3, MS - 1))
        self.assertEqual(
            self.watching.counts, {"counted": 1, "hmac-form": 1, "hmac": 1, "duplicate": 1, "replay": 1}
        )
        self.assertEqual(self.watching.rows(3.0)[0].ways, {"multicast": 3.0, "rallypoint": 1.0})


class Showing(SynchronousTestCase):
    def test_a_change_is_a_line(self) -> None:
        """Nothing new, nothing said; a name that a terminal would obey is not shown as it is."""
        watching = Watching(group(2))
        face, out = Face(watching), io.StringIO()
        with redirect_stdout(out):
            face.look(0.0)
            face.look(0.25)
            watching.hear("multicast", ballot("a", 2, leads=True), 0.5, MS)
            evil = Report("a", "active", True, "a", "\x1b[2J", "w", 1, MS)
            watching.hear("multicast", encode_report(evil), 0.5, MS)
            face.look(0.5)
        self.assertEqual(
            out.getvalue().splitlines(),
            [
                "A: offline",
                "B: offline",
                "nobody leads: 0 of 2 members heard, 2 are needed (majority)",
                "A: active (�[2J)",
                "A leads: w; 1 of 2 members heard, 1 name it",
            ],
        )

    def test_json(self) -> None:
        """An object for each change."""
        watching = Watching(group(2))
        out = io.StringIO()
        with redirect_stdout(out):
            JsonFace(watching).look(0.0)
        self.assertEqual(out.getvalue().count('"event": "election"'), 1)
        self.assertEqual(facts(watching.rows(0.0)[0])["clock_ahead_s"], None)

    def test_table(self) -> None:
        """Columns under their headings."""
        watching = Watching(group(2))
        watching.hear("multicast", ballot("a", 2, leads=True), 0.0, MS)
        out = io.StringIO()
        with redirect_stdout(out):
            print_table(watching, 1.0)
        lines = out.getvalue().splitlines()
        self.assertEqual(lines[0], "test (majority, cycle 10 s): A leads; 1 of 2 members heard, 1 name it")
        self.assertEqual(lines[2].split()[:4], ["A", "2", "active", "A"])
        self.assertEqual(drawn(watching.rows(1.0), "").row_count, 2)

    def test_real_members(self) -> None:
        """What real members say is understood: every state by its documented name, with its message."""
        party = Party(group(3, cycle_s=0.1))
        watching = Watching(party.group)

        party.start()
        heard = party.elections["c"].ways[1]
        was = heard._hears  # type: ignore[attr-defined]
        assert was is not None

        class Tee:
            def heard(self, way: object, data: bytes) -> None:
                watching.hear("multicast", data, party.clock.seconds(), int(party.wall("c") * 1_000))
                was.heard(way, data)

            def path(self, way: object, up: bool, why: str) -> None:
                was.path(way, up, why)

        heard._hears = Tee()  # type: ignore[attr-defined]
        heard._reports = True  # type: ignore[attr-defined]  # as who watches starts it
        party.until(lambda: party.leaders == ["a"], 3)
        party.pass_by(1)
        rows = watching.rows(party.clock.seconds())
        self.assertEqual([row.state for row in rows], ["active", "standbyNotWinner", OFFLINE])
        self.assertTrue(rows[1].message.startswith("STANDBY: Ballots received from"))
        self.assertIn("A leads: nobody led; 2 of 3", watching.summary(party.clock.seconds()))
        party.stop()
