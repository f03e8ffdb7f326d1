"""Certificates and keys in imported files: told, never followed, never shown, and never taken for ours.

The original's certificates carry neither the role nor the UUID by which a link is judged here, so none of them can be used as it
stands; a site makes its own (docs/certificates.md). What stands in the file itself may be written out when somebody asks for it.
"""

from ice.engage.account import Inline, Page, Why

MAKE_OURS = (
    "make certificates of this site: ice pki init (once), then on this machine "
    "ice pki issue rallypoint --role rallypoint --dns ITS-NAME (docs/certificates.md)"
)
MAKE_CLIENT = "make a certificate for this machine: ice pki issue NAME --role client (docs/certificates.md)"
_PEM = "-----BEGIN "


def credential(page: Page, key: str, name: str, step: str = MAKE_OURS) -> None:
    """Account for one certificate or key; ``name`` is that of the file it may be written to."""
    text = page.text(key, secret=True)
    if text is None:
        return
    if not text.strip():
        page.taken(key, text="empty")
        return
    if text.lstrip().startswith(_PEM):
        page.account.inline.append(Inline(name, f"{page.path}.{key}" if page.path else key, text.encode()))
    page.left(key, *_about(text), step=step)


def credentials(page: Page, key: str, name: str, step: str) -> None:
    """The same for a list of certificates."""
    texts = page.strings(key)
    if texts is None:
        return
    if not texts:
        page.taken(key, text="an empty list")
        return
    reasons: dict[tuple[Why, str], None] = {}
    for index, text in enumerate(texts):
        if text.lstrip().startswith(_PEM):
            page.account.inline.append(Inline(name.format(index + 1), f"{key}[{index}]", text.encode()))
        reasons[_about(text)] = None
    page.left(key, next(iter(reasons))[0], "; ".join(text for _, text in reasons), step=step)


def pair(page: Page, key: str, name: str, step: str = MAKE_OURS) -> None:
    """The same for an object with a certificate and its key."""
    if (inner := page.page(key)) is None:
        return
    credential(inner, "certificate", f"{name}.pem", step)
    credential(inner, "key", f"{name}.key", step)
    inner.close()


def _about(text: str) -> tuple[Why, str]:
    text = text.lstrip()
    if text.startswith("@certstore:"):
        return Why.REFUSED, "an element of the original's certificate store; it is not looked up"
    if text.startswith("@"):
        return Why.REFUSED, "the name of a file; it is not followed"
    if text.startswith(_PEM):
        return (
            Why.NOT_HERE,
            "stands in the file itself; certificates here carry a role and a UUID (--write-certificates DIR writes it out)",
        )
    return Why.WRONG, "expected PEM, or the name of a file; found other text"
