"""What an election says of itself in figures, for Prometheus. Labels are states, reasons and ways: never a member's id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ice.election.ballot import Reason
from ice.election.decisions import State
from ice.election.satellite import Phase
from ice.election.service import Election
from ice.observe.metrics import Metrics


def add_metrics(metrics: Metrics, election: Election, seconds: Callable[[], float]) -> None:
    """Register the figures of ``election``; ``seconds`` is its clock."""
    begin = "ice_election_"
    gauge, counter = metrics.gauge, metrics.counter
    gauge(
        begin + "state",
        "1 for the state in which the member is, 0 for the others.",
        lambda: {str(state): float(state is election.tally.state) for state in State},
        ("state",),
    )
    gauge(begin + "active", "1 while it may act for the group.", lambda: float(election.may_act))
    gauge(begin + "term", "Changes of leader that were seen.", lambda: election.tally.term)
    gauge(
        begin + "leader_seconds",
        "Time since the leader changed.",
        lambda: seconds() - election.tally.leader_since,
    )
    gauge(begin + "wins", "Elections won in a row.", lambda: election.tally.wins)
    gauge(
        begin + "members_heard",
        "Members whose ballots are valid, this one left out.",
        lambda: len(election.tally.ballots(seconds())),
    )
    gauge(
        begin + "fence_seconds",
        "How long the right to act holds without another ballot; 0 without it.",
        lambda: max(0.0, min(1e9, election.tally.fence.until - seconds())),
    )
    gauge(
        begin + "way_up",
        "1 while ballots can go by this way.",
        lambda: {way.name: float(way.up) for way in election.ways},
        ("way",),
    )
    gauge(
        begin + "phase",
        "1 for where the hand-over is, 0 for elsewhere.",
        lambda: {str(phase): float(phase is election.satellite.phase) for phase in Phase},
        ("phase",),
    )
    gauge(
        begin + "document_number",
        "Number of the group document; 0 without one.",
        lambda: (
            0 if election.share.sharing.document is None else election.share.sharing.document.header.number
        ),
    )
    gauge(
        begin + "document_kept",
        "1 while the group document is on the disk, 0 where the disk refuses it.",
        lambda: float(not election.share.unkept),
    )
    counter(
        begin + "ballots_total",
        "Ballots heard, by what became of them.",
        lambda: {str(reason): election.tally.counts[reason] for reason in Reason},
        ("reason",),
    )
    counter(
        begin + "sent_total",
        "Messages sent, by way.",
        lambda: {way.name: way.sent for way in election.ways},
        ("way",),
    )
    counter(
        begin + "unsent_total",
        "Messages not sent for want of a path, by way.",
        lambda: {way.name: way.unsent for way in election.ways},
        ("way",),
    )
    counter(
        begin + "refused_total",
        "Messages that could not be opened or were no messages, by reason.",
        lambda: _refused(election),
        ("reason",),
    )
    counter(
        begin + "restarts_total",
        "Times that it began as if new, by reason.",
        lambda: dict(election.tally.restarts),
        ("reason",),
    )
    counter(begin + "failures_total", "Hand-overs that failed.", lambda: election.satellite.failures)


def _refused(election: Election) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for way in election.ways:
        sums.update(way.refused)
    sums.update({str(wrong): count for wrong, count in election.share.sharing.refused.items()})
    sums["kind"] += election.ignored
    return dict(sums)
