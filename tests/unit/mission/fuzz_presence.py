"""Mutated presence, by the hundred thousand: ``python -m tests.unit.mission.fuzz_presence [SEED] [COUNT]``.

Every datagram either tells of a person, in values that can be written and shown again, or is refused by a PresenceError. Anything else is a fault.
"""

import json
import re
import sys
from collections import Counter
from random import Random

from ice.mission.chart import geojson, layout, svg
from ice.mission.people import People
from ice.mission.presence import (
    MAX_READ,
    Connectivity,
    Descriptor,
    Form,
    GroupAlias,
    Identity,
    Kind,
    Location,
    Power,
    PresenceError,
)
from ice.mission.presence_wire import read, write

FULL = Descriptor(
    Identity("7f1c2a52-0e7a-4b7e-9a51-1f0c5b6c7d8e", "anna@example.net", "Anna", "avatar-7"),
    ts=1_800_000_000,
    next_update=1_800_000_030,
    comment="at the north gate",
    disposition=3,
    group_aliases=(GroupAlias("red", "A-1", 2), GroupAlias("blue", "A-2", 0)),
    location=Location(47.3769, 8.5417, 408.0, 271.5, 1.4, 1_799_999_990),
    custom='{"team":7}',
    announce_on_receive=True,
    connectivity=Connectivity(3, -71, 4),
    power=Power(1, 2, 83),
)
SMALL = Descriptor(Identity("n"), ts=1, next_update=1)
SEEDS = [
    *(write(Kind.PRESENCE, each, form)[0] for each in (FULL, SMALL) for form in Form),
    *(write(kind, FULL, Form.COT)[0] for kind in (Kind.ALERT, Kind.CALM, Kind.LEAVING)),
    b'{"identity":{"nodeId":"{AB}"},"location":{"latitude":-999.999,"longitude":0},"power":{"source":1,"state":0,"level":5}}',
    (
        b"<?xml version='1.0'?><event version='2.0' uid='U' type='a-f-G' time='2026-02-20T20:13:34.720Z' stale='2026-02-20T20:14:34Z'>"
        b"<point lat='41.88' lon='-87.64' hae='9999999.0' ce='13' le='1'/><detail><takv/><contact callsign='C'/><__group name='Cyan'/>"
        b"<status battery='50'/><track speed='1' course='361'/></detail></event>"
    ),
]
TOKENS = [
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"true", b"1e400", b"-1", b"9" * 20, b"9" * 400, b"\\ud800", b"\\u0000", b"\xff", b"\x00",
    b"NaN", b"<", b">", b"</", b"/>", b"&", b"&amp;", b"&#0;", b"&#xD800;", b"&x;", b"<!DOCTYPE a>", b"<!ENTITY x 'y'>", b"<![CDATA[", b"]]>",
    b"<?xml version='1.0' encoding='utf-7'?>", b"<a>" * 40, b"{" * 80, b"uid=''", b"inf", b"nan", b"1_0", "٣".encode(), "\u202e".encode(), b"\x1b[31m",
]  # fmt: skip


ODD = [
    None, True, False, 0, 1, -1, 2**31, 2**32, 2**63, 2**70, 1e300, -999.999, 0.5, 91, 181, 65_536, "", "x", "\ud800", "\x00\x1b[2J", "é" * 3_000,
    "9" * 30, "{}", [], [1, {}], {}, {"latitude": 1}, {"type": 9}, "a\u2028b", "<&>\"'", "true", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "a-f-X", "b-a-o-can", "b-a-g", "t-x-d-d", "nan", "1e999", "-0", "1,2,3", "1,2",
]  # fmt: skip


def bent(random: Random) -> bytes:
    """A datagram that is well-formed, with odd values in it."""
    data = random.choice(SEEDS)
    for _ in range(random.randint(1, 3)):
        if data[:1] == b"{":
            value = json.loads(data)
            holder = value
            while True:
                key = random.choice(list(holder) if isinstance(holder, dict) else list(range(len(holder))))
                if not isinstance(holder[key], dict | list) or not holder[key] or random.random() < 0.3:
                    break
                holder = holder[key]
            holder[key] = random.choice(ODD)
            data = json.dumps(value, ensure_ascii=random.random() < 0.5).encode("utf-8", "replace")
        else:
            places = list(re.finditer(rb"""=(["'])(.*?)\1|>([^<>]+)<""", data))
            place = random.choice(places)
            group = 2 if place[2] is not None else 3
            odd = str(random.choice(ODD)).encode("utf-8", "replace")
            data = data[: place.start(group)] + odd.replace(b"<", b"&lt;") + data[place.end(group) :]
    return data


def mutated(random: Random) -> bytes:
    """A datagram that was presence once."""
    if random.random() < 0.5:
        return bent(random)
    data = bytearray(random.choice(SEEDS))
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data) + 1)
        match random.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << random.randrange(8)
            case 1:
                data[at:at] = random.choice(TOKENS)
            case 2:
                del data[at : at + random.randint(1, 20)]
            case 3:
                del data[at:]
            case 4:
                other = random.choice(SEEDS)
                cut = random.randrange(len(other))
                data[at:] = other[cut:]
            case 5:
                data[at : at + random.randint(0, 12)] = random.choice(TOKENS)
            case _:
                piece = bytes(data[at : at + random.randint(1, 60)])
                data[at:at] = piece * random.randint(1, 200)
    return bytes(data[:20_000])


def fuzz_presence(seed: int, count: int) -> Counter[str]:
    """Read so many mutated datagrams; how many of which verdict. What is no verdict is raised."""
    random = Random(seed)
    verdicts: Counter[str] = Counter()
    people = People(max_people=50)
    for number in range(count):
        payload = mutated(random)
        try:
            told = read(payload)
        except PresenceError as refused:
            str(refused).encode()
            verdicts[refused.reason.value] += 1
            continue
        verdicts[told.kind.value] += 1
        for form in Form:
            data, _ = write(told.kind, told.descriptor, form, MAX_READ)
            again = read(data)
            assert again.descriptor.identity.node_id == told.descriptor.identity.node_id, payload
        now = number * 0.05
        people.hear(told, random.randrange(4), now, 1_800_000_000.0 + now)
        people.tick(now)
        if not number % 100:
            svg(layout(people.everybody, now, 1_800_000_000.0)).encode()
            geojson(people.everybody, now, 1_800_000_000.0).encode()
            people.events()
    return verdicts


if __name__ == "__main__":
    words = sys.argv[1:]
    print(fuzz_presence(int(words[0]) if words else 1, int(words[1]) if len(words) > 1 else 20_000))
