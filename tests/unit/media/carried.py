"""What this machine carries besides the native codecs: tests of a codec whose library is not installed say so and are skipped."""

from __future__ import annotations

from twisted.trial.unittest import SkipTest

from ice.media import foreign
from ice.media.table import CODECS, Codec

SUPPORT = {each.family: each for each in foreign.support()}


def sent_here() -> list[Codec]:
    """Foreign rows that are sent and heard here; raises :class:`SkipTest` where there are none."""
    rows = [
        row
        for row in CODECS.values()
        if row.family in SUPPORT and SUPPORT[row.family].sends and SUPPORT[row.family].hears
    ]
    if not rows:
        raise SkipTest("no library of a foreign codec is installed: " + missing())
    return rows


def need(family: str, *, sends: bool = True) -> None:
    """Skip the test where the family is not carried here."""
    support = SUPPORT[family]
    if not support.hears or (sends and not support.sends):
        raise SkipTest(support.missing or f"{family} is not sent")


def missing() -> str:
    """What is not installed, in one sentence."""
    return "; ".join(each.missing for each in SUPPORT.values() if each.missing)
