"""Who erred: every error of the suite is either ours (or our user's) or the far side's.

The split follows the question a person asks at 3 a.m.: is it this machine, or the other one?
"""


class IceError(Exception):
    """Anything that goes wrong inside the suite; ``str(error)`` is a sentence for a person."""


class LocalError(IceError):
    """We, or the person in front of this machine, asked for something that cannot be."""


class RemoteError(IceError):
    """The far side broke the rules, or refused us."""
