"""QR codes: drawn as PNG, SVG or characters, and found again in a photograph.

A packed mission, or a deflection URL with one, is put into a QR code in byte mode as it is. The largest code, version 40 with the least error
correction, holds 2,953 bytes; smaller contents get as much correction as their code has room for. Pictures that come from outside are
limited in bytes and in pixels before a single one is decoded, and whatever their decoder raises ends as a :class:`MissionError`.
"""

import io
import warnings
from typing import Any, Final

from ice.errors import LocalError
from ice.mission.packing import QR_BYTES
from ice.mission.tolerant import MissionError

MAX_PICTURE_BYTES: Final = 32 * 1024 * 1024  # a telephone's photograph has up to 20
MAX_PIXELS: Final = 50_000_000  # and so many; a grey copy is held twice while it is searched
MAX_CODES: Final = 16  # in one picture
FORMATS: Final = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
QUIET: Final = 4  # light modules round a code (ISO/IEC 18004 section 6.3.8)
SCALE: Final = 6  # pixels per module of a PNG: the largest code is then 1,110 wide, sharp on paper and screen
_BEGINNINGS: Final = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6")


def is_picture(data: bytes) -> bool:
    """Whether this begins as one of :data:`FORMATS` does."""
    return data.startswith(_BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def draw_png(text: str, scale: int = SCALE) -> bytes:
    """The QR code as a PNG, black on white. :raises LocalError: it is too long."""
    out = io.BytesIO()
    _code(text).save(out, kind="png", scale=scale, border=QUIET)
    return out.getvalue()


def draw_svg(text: str) -> bytes:
    """The QR code as an SVG, black on white, of any size. :raises LocalError: it is too long."""
    out = io.BytesIO()
    _code(text).save(out, kind="svg", scale=SCALE, border=QUIET, light="white")
    return out.getvalue()


def draw_characters(text: str, *, coloured: bool = False) -> str:
    """The QR code for a terminal, two modules per character. Light modules are the ones that are drawn, as a dark terminal wants it.

    :param coloured: sets white on black itself, so that it is right on a light terminal too.
    :raises LocalError: it is too long.
    """
    out = io.StringIO()
    _code(text).terminal(out, border=QUIET, compact=True)
    lines = out.getvalue().splitlines()
    if coloured:
        lines = [f"\x1b[97;40m{line}\x1b[0m" for line in lines]
    return "\n".join(lines) + "\n"


def columns(text: str) -> int:
    """How many columns :func:`draw_characters` takes."""
    width, _ = _code(text).symbol_size(border=QUIET)
    return int(width)


def read_picture(data: bytes, source: str) -> list[str]:
    """The contents of the QR codes in a picture, in no particular order.

    :raises MissionError: it is too large, no picture, or there is no QR code in it.
    """
    import numpy
    import zxingcpp

    pixels = numpy.asarray(_grey(data, source))
    formats = zxingcpp.BarcodeFormats([zxingcpp.BarcodeFormat.QRCode])
    found = zxingcpp.read_barcodes(pixels, formats=formats)[:MAX_CODES]
    texts = [bytes(code.bytes).decode("latin-1") for code in found if code.valid]
    if not texts:
        raise MissionError(
            source,
            "there is no QR code in this picture that can be read; take it from nearer, sharp, with all four white borders in it",
        )
    return texts


def _grey(data: bytes, source: str) -> Any:
    from PIL import Image

    if len(data) > MAX_PICTURE_BYTES:
        raise MissionError(
            source, f"a picture of {len(data):,} bytes; at most {MAX_PICTURE_BYTES:,} are read"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ours is the lower limit
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise MissionError(
                        source,
                        f"a picture of {width} × {height} pixels; at most {MAX_PIXELS // 1_000_000} million are read: make it smaller",
                    )
                return image.convert("L")
        except MissionError:
            raise
        except Exception as error:  # decoders of pictures raise of every kind
            raise MissionError(
                source, f"this is no picture that can be read ({type(error).__name__})"
            ) from None


def _code(text: str) -> Any:
    import segno

    data = text.encode()
    if len(data) > QR_BYTES:
        raise LocalError(f"{len(data):,} bytes; a QR code holds at most {QR_BYTES:,}")
    return segno.make(data, error="l", mode="byte", micro=False)
