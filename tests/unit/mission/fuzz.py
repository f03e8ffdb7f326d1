"""Damages missions and packed missions at random, and sees what the readers say: a mission, or an error of ours, nothing else.

``python -m tests.unit.mission.fuzz SEED COUNT`` runs it alone; the same seed and count always try the same.
"""

import copy
import json
import random
import sys
from collections import Counter
from typing import Any

from ice.errors import IceError
from ice.mission.base91 import ALPHABET, encode
from ice.mission.packing import HEADER, pack, pack_bytes, unpack
from ice.mission.reading import json_in, read_mission
from ice.mission.writing import write_mission
from tests.unit.mission.cases import OTHER_KEY, SAMPLES, SMALL, WHOLE, small, text

TOKENS = [
    *'{}[]:,"\\“”‘’',
    "null",
    "true",
    "-",
    "0",
    "1e999",
    "1.50",
    "NaN",
    "\\ud800",
    "\0",
    "\ufeff",
    "é",
    " ",
    "//",
    '""',
]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 4, 65_536, 2**63, 1.5, 1e308, "", "x", "@file", "{x}", "\ud800", "AA", "ABC", "zz", [], {}, [None], [{}],
    [[]], {"address": 1}, {"address": "239.1.1.1", "port": "1"}, [{"host": {}}], "2026-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "ctOpus8000",
]  # fmt: skip


def fuzz_mission(seed: int, count: int) -> Counter[str]:
    """Try `count` damaged missions; how each ended, by the name of its error or "read".

    :raises Exception: the first that is not ours; or AssertionError, where what was read is not what is read again.
    """
    chance = random.Random(seed)
    texts = _corpus()
    missions = [each for each in texts if "groups" in each]
    packed = [pack(each) for each in texts[:2]] + [pack(texts[0], "word")]
    ends: Counter[str] = Counter()
    for _ in range(count):
        way = chance.randrange(8)
        try:
            if way == 0:
                _read(_damaged(chance, chance.choice(texts)), ends)
            elif way in (1, 2, 6, 7):
                value = json.loads(chance.choice(missions))
                for _ in range(chance.randint(1, 3)):
                    _spoil(chance, value)
                _read(json.dumps(value), ends)
            elif way == 3:
                _read(unpack(_damaged(chance, chance.choice(packed[:2]), ALPHABET), "packed"), ends)
            elif way == 4:
                data = bytearray(pack_bytes(texts[0]))
                for _ in range(chance.randint(1, 3)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                _read(
                    unpack(
                        encode(bytes(data[: chance.choice([None, chance.randrange(len(data))])])), "packed"
                    ),
                    ends,
                )
            else:
                found = json_in(
                    _damaged(chance, chance.choice([*texts, *packed])).encode("utf-8", "surrogatepass"),
                    "file",
                )
                _read(found, ends)
        except IceError as error:
            ends[type(error).__name__] += 1
            str(error).encode("utf-8", "backslashreplace")
    return ends


def _read(found: str | bytes, ends: Counter[str]) -> None:
    reading = read_mission(found, "fuzz")
    written = write_mission(reading.mission)
    again = read_mission(written, "again").mission
    assert sorted(again.groups, key=repr) == sorted(reading.mission.groups, key=repr), written
    assert write_mission(again) == written
    ends["read"] += 1


def _corpus() -> list[str]:
    found = [text(SMALL), text(small(cryptoPassword=OTHER_KEY, cipher="aes-256-gcm")), text(WHOLE)]
    return found + [sample.read_text("utf-8") for sample in sorted(SAMPLES.glob("*/*.json"))]


def _damaged(chance: random.Random, found: str, alphabet: str = "") -> str:
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        what = chance.randrange(4)
        if what == 0:
            found = found[:at] + found[at + chance.randint(1, 8) :]
        elif what == 1:
            found = found[:at] + chance.choice(alphabet or TOKENS) + found[at:]
        elif what == 2:
            found = found[:at] + chance.choice(alphabet or TOKENS) + found[at + 1 :]
        else:
            found = found[:at] + found[at : at + chance.randint(1, 64)] + found[at:]
    return found


def _spoil(chance: random.Random, value: Any) -> None:
    """Put something else in one place of a JSON value."""
    while isinstance(value, dict | list) and value:
        key: Any = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
        inner = value[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.8:
            value = inner
            continue
        what = chance.randrange(4)
        if what == 0:
            del value[key]
        elif what == 1 and isinstance(value, dict):
            value[chance.choice(["", "more", "a.b", *value])] = value.pop(key)
        else:
            value[key] = copy.deepcopy(
                chance.choice(VALUES)
            )  # not two places of one value, nor one inside itself
        return


if __name__ == "__main__":
    assert HEADER
    print(dict(fuzz_mission(int(sys.argv[1]), int(sys.argv[2])).most_common()))
