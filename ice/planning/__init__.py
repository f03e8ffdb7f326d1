"""How much of a network voice needs: per stream, per mission, per site; and what was really measured beside what was planned."""
