"""Which one of several satellites works: ballots, their tally, and the right to be active.

========================== =========================================================================================
:mod:`~.ballot`            bytes <-> ballots, authenticated
:mod:`~.rules`             a server group, its quorum, its times
:mod:`~.tally`             one member's part in the election, as an engine: ballots and time in, decisions out
:mod:`~.support`           who names us, as leases: why two cannot lead
:mod:`~.clocks`            whose clock is wrong
:mod:`~.fence`             until when the right to be active holds: asked before a socket's backlog is touched
:mod:`~.status`            what a member publishes of itself, and how readers judge it
:mod:`~.simulate`          a group, its links and its mishaps, with the same engine
========================== =========================================================================================

What each quorum rule guarantees, and what it cannot, is in ``docs/election.md``.
"""
