"""What a link or a call may be said to have ended by, as the label of a counter."""

from ice.link.message import Code
from ice.security.refusals import Reason

_KNOWN = frozenset(
    {
        *Code,
        *(f"{told}{reason}" for reason in Reason for told in ("", "told-")),
        *("aborted", "address", "closed", "lost", "no-such-host", "timeout", "unreachable"),
    }
)


def known_code(code: str) -> str:
    """The code, or "other" for one that nobody here uses: a far side may say anything, and a counter has a fixed set of labels."""
    return str(code) if code in _KNOWN else "other"
