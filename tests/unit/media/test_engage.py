"""Engage's encoder ids against the table of its data model."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media import engage
from ice.media.engage import Carried
from ice.media.payload import FRAMINGS_MS
from ice.media.table import CODECS


class Table(SynchronousTestCase):
    """Ids, rates, payload types."""

    def test_ids(self) -> None:
        """The ids of the data model, no other."""
        ids = [
            -1,
            0,
            1,
            2,
            3,
            4,
            5,
            *range(10, 18),
            *range(20, 30),
            *range(30, 38),
            *range(40, 48),
            50,
            51,
            52,
            60,
        ]
        self.assertEqual(list(engage.ENCODERS), ids)
        for encoder_id, row in engage.ENCODERS.items():
            self.assertEqual(row.id, encoder_id)

    def test_payload_types(self) -> None:
        """One payload type per family, one per rate of Codec 2 and MELPe, none where none is given."""
        types = {row.id: row.payload_type for row in engage.ENCODERS.values()}
        self.assertEqual([types[each] for each in (1, 2, 3, 4, 5, 60)], [0, 8, 3, None, None, None])
        self.assertEqual({types[each] for each in range(10, 18)}, {122})
        self.assertEqual({types[each] for each in range(20, 30)}, {118})
        self.assertEqual({types[each] for each in range(30, 38)}, {97})
        self.assertEqual([types[each] for each in range(40, 48)], [88, 88, 85, 84, 83, 82, 81, 80])
        self.assertEqual([types[each] for each in (50, 51, 52)], [79, 78, 77])

    def test_rates(self) -> None:
        """Rates rise with the id within each family, and a carried codec has the rate among its own."""
        for first, rates in (
            (10, (4_750, 5_150, 5_900, 6_700, 7_400, 7_950, 10_200, 12_200)),
            (20, tuple(range(6_000, 26_000, 2_000))),
            (30, (2_150, 3_950, 5_950, 8_000, 11_000, 15_000, 18_200, 24_600)),
            (40, (450, 700, 1_200, 1_300, 1_400, 1_600, 2_400, 3_200)),
            (50, (600, 1_200, 2_400)),
        ):
            self.assertEqual(tuple(engage.ENCODERS[first + n].bitrate for n in range(len(rates))), rates)
        for row in engage.ENCODERS.values():
            if row.codec and CODECS[row.codec].bitrates:
                self.assertEqual(CODECS[row.codec].bitrate(row.bitrate), row.bitrate)

    def test_agreement_with_our_table(self) -> None:
        """Where Engage gives a payload type, our row has the same."""
        for row in engage.ENCODERS.values():
            if row.codec and row.payload_type is not None:
                self.assertEqual(CODECS[row.codec].payload_type, row.payload_type, row.name)

    def test_symbols(self) -> None:
        """Names in place of numbers, as some missions have them."""
        for symbol, encoder_id in (
            ("ctOpus8000", 21),
            ("ctG711ulaw", 1),
            ("ctGsm610", 3),
            ("ctAmrNb4750", 10),
            ("ctSpxNb24600", 37),
            ("ctC2450", 40),
            ("ctMelpe2400", 52),
        ):
            self.assertEqual(engage.SYMBOLS[symbol], encoder_id)
        self.assertEqual(len(engage.SYMBOLS), len(engage.ENCODERS) - 1)

    def test_radios(self) -> None:
        """What the families of radios have, and that an unknown family is named."""
        self.assertEqual(engage.payload_type_for("tsm", 12), 122)
        self.assertIsNone(engage.payload_type_for("tsm", 13))
        self.assertEqual(engage.payload_type_for("mpu", 52), 117)
        self.assertEqual(engage.payload_type_for("silvus", 29), 118)
        self.assertIn(
            "tsm, mpu, silvus", str(self.assertRaises(LocalError, engage.payload_type_for, "cb", 1))
        )


class CarriedHere(SynchronousTestCase):
    """How each is carried, and what is said of those that are not."""

    def test_kinds(self) -> None:
        """Native, by a library, heard only, not at all."""
        kinds = {each: engage.encoder_of(each).carried for each in engage.ENCODERS}
        self.assertEqual({kinds[each] for each in (1, 2, 5, *range(20, 30))}, {Carried.NATIVE})
        self.assertEqual(
            {kinds[each] for each in (3, *range(10, 18), *range(30, 38), *range(40, 48))}, {Carried.LIBRARY}
        )
        self.assertEqual(kinds[4], Carried.HEARD_ONLY)
        self.assertEqual({kinds[each] for each in (-1, 0, 50, 51, 52, 60)}, {Carried.UNSUPPORTED})

    def test_unsupported_are_named(self) -> None:
        """By their proper names, with the reason."""
        for encoder_id, name in ((52, "MELPe 2400 (STANAG 4591)"), (60, "CVSD"), (-1, "an external codec")):
            row = engage.encoder_of(encoder_id)
            text = str(self.assertRaises(LocalError, lambda row=row: row.row))
            self.assertIn(name, text)
            self.assertIn(row.why, text)
            self.assertIn(f"encoder {encoder_id} ", text)

    def test_no_such_id(self) -> None:
        """An id that Engage does not have is named."""
        for encoder_id in (6, 18, 48, 99, -2):
            self.assertIn(str(encoder_id), str(self.assertRaises(LocalError, engage.encoder_of, encoder_id)))


class Framing(SynchronousTestCase):
    """The framing that a mission's wish comes to."""

    def test_wishes(self) -> None:
        """What is possible is taken as it is, else the next longer one, at most 120 ms."""
        for encoder_id, wished, got in (
            (21, 60, 60),
            (21, 120, 120),
            (21, 30, 40),
            (21, 0, 20),
            (21, 500, 120),
            (43, 60, 80),
            (43, 20, 40),
            (47, 60, 60),
            (3, 100, 100),
        ):
            row = engage.encoder_of(encoder_id)
            self.assertEqual(row.framing_ms(wished), got, (encoder_id, wished))
            self.assertIn(got, FRAMINGS_MS)
        self.assertRaises(LocalError, engage.encoder_of(52).framing_ms, 60)

    def test_blocks(self) -> None:
        """A number of the codec's own frames goes before milliseconds."""
        self.assertEqual(engage.encoder_of(3).framing_ms(60, block_count=2), 40)
        self.assertEqual(engage.encoder_of(43).framing_ms(20, block_count=3), 120)

    def test_octets(self) -> None:
        """By the bit rate, rounded up: the payloads of the published tables of bandwidth."""
        for encoder_id, framing_ms, octets in (
            (1, 20, 160),
            (10, 20, 12),
            (10, 60, 36),
            (17, 20, 31),
            (17, 40, 61),
            (17, 100, 153),
            (3, 60, 99),
            (20, 100, 75),
            (29, 20, 60),
        ):
            self.assertEqual(engage.encoder_of(encoder_id).octets(framing_ms), octets)
