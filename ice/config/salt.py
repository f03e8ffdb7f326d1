"""Files with a salt: random bytes in hexadecimal, the same on several machines."""

from pathlib import Path

from ice.errors import LocalError

MAX_SALT_FILE = 4_096  # the digits, and room for an editor's line end


def read_salt(path: Path, what: str, least: int, most: int, advice: str) -> bytes:
    """The ``least`` to ``most`` bytes that a file says; ``what`` it is and ``advice`` are for people.

    Raises :class:`~ice.errors.LocalError`, without what stands there.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SALT_FILE + 1)
    except OSError as error:
        raise LocalError(f"{path}: {what} cannot be read: {error.strerror or error}") from None
    try:
        salt = bytes.fromhex(text.decode("ascii")) if len(text) <= MAX_SALT_FILE else b""
    except ValueError:
        salt = b""
    if not least <= len(salt) <= most:
        digits = f"{2 * least}" if least == most else f"{2 * least} to {2 * most}"
        raise LocalError(f"{path}: expected {digits} hexadecimal digits, {what}; {advice}")
    return salt
