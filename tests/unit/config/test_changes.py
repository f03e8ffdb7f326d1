"""Which settings differ between two configurations, and which wait for a restart."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ice.config.changes import changes
from ice.config.load import loads
from ice.config.schema import Config


def config(text: str) -> Config:
    return loads(text, Path("ice.toml")).config


class Comparing(SynchronousTestCase):
    def test_equal(self) -> None:
        """The same file twice changes nothing."""
        nothing = changes(config("[log]\nlevel = 'info'"), config(""))
        self.assertFalse(nothing)
        self.assertEqual(str(nothing), "nothing")

    def test_live_and_restart(self) -> None:
        """Changed settings are named in the order of the schema; those read only at the start apart."""
        new = config(
            "[log]\nlevel = 'debug'\n[rallypoint]\nlisten = ['127.0.0.1:1']\ndrain_s = 3\nhttp.listen = ''\n"
            "limits.joins = 3\n[[rallypoint.access]]\n"
        )
        difference = changes(config(""), new)
        self.assertTrue(difference)
        self.assertEqual(
            difference.live,
            ("log.level", "rallypoint.drain_s", "rallypoint.limits.joins", "rallypoint.access"),
        )
        self.assertEqual(difference.restart, ("rallypoint.listen", "rallypoint.http.listen"))
        self.assertEqual(
            str(difference),
            "log.level, rallypoint.drain_s, rallypoint.limits.joins, rallypoint.access; "
            "after a restart: rallypoint.listen, rallypoint.http.listen",
        )

    def test_sections(self) -> None:
        """A daemon asks about the sections that it reads."""
        new = config("[media]\ncodec = 'pcmu'\n[log]\nformat = 'json'")
        self.assertEqual(changes(config(""), new, ["log", "rallypoint"]).restart, ("log.format",))
        self.assertEqual(changes(config(""), new).restart, ("media.codec", "log.format"))
