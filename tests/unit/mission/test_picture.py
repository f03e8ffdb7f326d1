"""QR codes: drawn, found again, turned, photographed badly, and pictures that mean harm. And what does not fit."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import attrs
from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.mission import fitting, packing
from ice.mission.fitting import TooLarge, lean, packed_size, qr_text
from ice.mission.model import Mission
from ice.mission.packing import QR_BYTES, deflected, pack
from ice.mission.picture import (
    MAX_PICTURE_BYTES,
    columns,
    draw_characters,
    draw_png,
    draw_svg,
    is_picture,
    read_picture,
)
from ice.mission.reading import open_mission, read_mission
from ice.mission.tolerant import MissionError
from ice.mission.writing import write_mission
from tests.unit.mission.cases import SMALL, WHOLE, small, text

PACKED = pack(text(SMALL))


def saved(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    """A picture as a file."""
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    """A PNG as a picture."""
    return Image.open(io.BytesIO(data)).convert("L")


class Codes(SynchronousTestCase):
    def test_png(self) -> None:
        """A code that is drawn is read again; so is one behind a deflection URL."""
        for content in (PACKED, deflected("https://ice.example/m", PACKED), pack(text(SMALL), "word")):
            data = draw_png(content)
            self.assertTrue(is_picture(data))
            self.assertEqual(read_picture(data, "x"), [content])

    def test_the_largest(self) -> None:
        """2,953 bytes fit, and are read; one more does not."""
        content = (PACKED * 20)[:QR_BYTES]
        self.assertEqual(read_picture(draw_png(content), "x"), [content])
        with self.assertRaises(LocalError):
            draw_png(content + "A")

    def test_photographed(self) -> None:
        """Turned, tilted, small, grey, as JPEG, as WebP, on a coloured wall: still read."""
        image = opened(draw_png(PACKED))
        wall = Image.new("RGB", (image.width * 2, image.height * 2), (180, 140, 120))
        wall.paste(image, (image.width // 3, image.height // 2))
        for data in (
            saved(image.rotate(90, expand=True)),
            saved(image.rotate(7, expand=True, fillcolor=255)),
            saved(image.resize((image.width // 2, image.height // 2))),
            saved(image.point(lambda level: 60 + level // 3)),
            saved(wall, "JPEG", quality=60),
            saved(wall, "WEBP"),
            saved(image, "GIF"),
            saved(image, "TIFF"),
            saved(image, "BMP"),
        ):
            self.assertTrue(is_picture(data))
            self.assertEqual(read_picture(data, "x"), [PACKED])

    def test_svg(self) -> None:
        """An SVG of the right size, with its white border, and nothing but the drawing in it."""
        svg = draw_svg(PACKED).decode()
        self.assertIn("<svg", svg)
        self.assertIn('fill="#fff"', svg)
        self.assertNotIn("script", svg)

    def test_characters(self) -> None:
        """In a terminal, each character is two modules: read back from there, the code is the same."""
        plain = draw_characters(PACKED)
        lines = plain.splitlines()
        self.assertEqual({len(line) for line in lines}, {columns(PACKED)})
        light = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
        image = Image.new("L", (len(lines[0]), 2 * len(lines)), 255)
        for y, line in enumerate(lines):
            for x, character in enumerate(line):
                for half in (0, 1):
                    image.putpixel((x, 2 * y + half), light[character][half])
        self.assertEqual(
            read_picture(saved(image.resize((image.width * 4, image.height * 4), 0)), "x"), [PACKED]
        )
        coloured = draw_characters(PACKED, coloured=True)
        self.assertEqual(coloured.replace("\x1b[97;40m", "").replace("\x1b[0m", ""), plain)

    def test_from_a_picture_to_a_mission(self) -> None:
        """A picture is opened as a mission like any other file."""
        path = Path(self.mktemp())
        path.write_bytes(draw_png(PACKED))
        self.assertEqual(open_mission(str(path)).mission, read_mission(text(SMALL), "x").mission)

    def test_two_codes(self) -> None:
        """Two codes in one picture: which is meant, nobody knows."""
        image = opened(draw_png(PACKED))
        both = Image.new("L", (image.width * 2, image.height), 255)
        both.paste(image, (0, 0))
        both.paste(
            opened(draw_png("something else")).crop((0, 0, image.width, image.height)), (image.width, 0)
        )
        path = Path(self.mktemp())
        path.write_bytes(saved(both))
        with self.assertRaises(MissionError) as caught:
            open_mission(str(path))
        self.assertIn("2 QR codes", str(caught.exception))


class Harm(SynchronousTestCase):
    def refused(self, data: bytes) -> str:
        """What is said of a picture."""
        with self.assertRaises(MissionError) as caught:
            read_picture(data, "p.png")
        return str(caught.exception)

    def test_no_code(self) -> None:
        """A picture without a code is told apart from one that is none."""
        self.assertIn("no QR code", self.refused(saved(Image.new("L", (50, 50), 255))))
        self.assertIn("no picture", self.refused(b"\x89PNG\r\n\x1a\nhello"))

    def test_a_bomb(self) -> None:
        """A small file of enormous size is refused by its header, before a pixel is there."""
        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1_000_000)), (b"IEND", b"")]
        data = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
        self.assertLess(len(data), 3_000)
        self.refused(data)
        wide = struct.pack(">IIBBBBB", 8_000, 7_000, 8, 0, 0, 0, 0)
        data = data.replace(header, wide).replace(
            struct.pack(">I", zlib.crc32(b"IHDR" + header)), struct.pack(">I", zlib.crc32(b"IHDR" + wide))
        )
        self.assertIn("8000 × 7000", self.refused(data))

    def test_too_many_bytes(self) -> None:
        """A file beyond the limit is not decoded."""
        self.assertIn("at most", self.refused(b"\x89PNG\r\n" + bytes(MAX_PICTURE_BYTES)))

    def test_damaged(self) -> None:
        """A picture that is cut or altered anywhere is read or refused by us."""
        data = draw_png("hello", scale=2)
        for index in range(0, len(data), 3):
            for altered in (data[:index], data[:index] + bytes([data[index] ^ 255]) + data[index + 1 :]):
                try:
                    read_picture(altered, "x")
                except MissionError as error:
                    self.assertTrue(str(error))


class Fitting(SynchronousTestCase):
    def mission(self, groups: int, **more: Any) -> Mission:
        """A mission with keys that do not shrink."""
        import hashlib

        value = small()
        value["groups"] = [
            {
                **small(**more)["groups"][0],
                "name": f"Group {number}",
                "cryptoPassword": hashlib.sha256(bytes([number])).hexdigest(),
                "description": f"what group number {number} is for, in words",
            }
            for number in range(groups)
        ]
        for group, read in zip(value["groups"], read_mission(text(value), "x").mission.groups, strict=True):
            group["id"] = read.id
        return read_mission(text(value), "x").mission

    def test_what_fits(self) -> None:
        """A mission that fits is its packed text."""
        mission = self.mission(3)
        self.assertEqual(qr_text(mission), pack(write_mission(mission, compact=True)))
        self.assertTrue(qr_text(mission, "https://ice.example").startswith("https://ice.example/??"))

    def test_what_does_not(self) -> None:
        """One that does not is told by how much, and what would gain how much, each tried."""
        mission = self.mission(80)
        with self.assertRaises(TooLarge) as caught:
            qr_text(mission, "https://ice.example")
        said = str(caught.exception)
        size = packed_size(mission)
        self.assertIn(f"{size + len('https://ice.example/??'):,} bytes", said)
        self.assertIn("2,953", said)
        gains = dict(caught.exception.proposals)
        bare = attrs.evolve(
            mission, groups=tuple(attrs.evolve(group, description="") for group in mission.groups)
        )
        self.assertEqual(gains["all descriptions"], size - packed_size(bare))
        self.assertEqual(gains["the deflection URL"], len("https://ice.example/??"))
        self.assertIn("40 of the 80 groups, into a mission of their own", gains)
        self.assertEqual(list(gains.values()), sorted(gains.values(), reverse=True))

    def test_a_password_is_counted(self) -> None:
        """A password adds 45 bytes, 56 characters."""
        self.patch(packing, "_SCRYPT_N", 2)
        mission = self.mission(80)
        with self.assertRaises(TooLarge) as caught:
            qr_text(mission, None, "word")
        self.assertIn(caught.exception.size - packed_size(mission) - fitting._SEALING, range(-3, 4))

    def test_lean(self) -> None:
        """Without keys that only say the default, a mission is smaller and means the same."""
        defaults = {"enabled": True, "inputId": 0, "inputGain": 0, "outputMuted": False}
        mission = self.mission(
            5, audio=defaults, timeline={"enabled": True}, multicastFailoverSecs=10, lbCrypto=False
        )
        smaller = lean(mission)
        self.assertLess(packed_size(smaller), packed_size(mission))
        again = read_mission(write_mission(smaller), "x").mission
        self.assertEqual(again, read_mission(write_mission(mission), "x").mission)
        self.assertNotIn("inputGain", write_mission(smaller))
        whole = read_mission(text(WHOLE), "x").mission
        self.assertEqual(
            read_mission(write_mission(lean(whole)), "x").mission.groups,
            read_mission(write_mission(whole), "x").mission.groups,
        )
