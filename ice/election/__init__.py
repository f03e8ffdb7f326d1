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
:mod:`~.transports`        the two ways of ballots: a Rallypoint's stream and multicast, each with its health
:mod:`~.service`           the tally with clocks and ways: what a daemon runs
:mod:`~.satellite`         the frame round a daemon's work: begun and ended as the election says
:mod:`~.connect`           from the configuration to an election
:mod:`~.document`          the group document: pieces, signature, the newest number wins
:mod:`~.sharing`           who has which document, as an engine; :mod:`~.share` drives it
:mod:`~.keeping`           what a member keeps on disk
:mod:`~.messages`          what goes over the ways besides ballots
:mod:`~.watching`          a group as ``ice election watch`` sees it
:mod:`~.metrics`           figures for the metrics page
========================== =========================================================================================

What each quorum rule guarantees, and what it cannot, is in ``docs/election.md``.
"""
