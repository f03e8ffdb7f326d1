"""From a file, a string, a link or a picture to a :class:`~ice.mission.model.Mission`, with remarks on all that is not as it should be.

What is wrong and can be replaced is replaced, and told (:mod:`ice.mission.tolerant`). Refused is what is no mission (no JSON, no list of groups),
and what would do harm if it were replaced: an empty or broken ``cryptoPassword`` would send in clear what was meant to be sealed, an
unknown ``cipher`` would weaken it. Files and commands that a mission names are told, never opened.
"""

import os
from typing import Final

import attrs

from ice.errors import LocalError
from ice.mission import packing
from ice.mission.fields import Unusable, load
from ice.mission.identity import group_id, mission_id, stream_id
from ice.mission.implied import implied
from ice.mission.model import Group, Mission, Origin
from ice.mission.picture import MAX_PICTURE_BYTES, is_picture, read_picture
from ice.mission.tolerant import (
    Json,
    MissionError,
    Remark,
    Tolerant,
    child,
    doubled,
    kind,
    read_json,
    shown,
    shown_text,
)

LIST_KEYS: Final = ("groups", "talkgroups")  # the second in announcements of radio gateways
MAX_GROUPS: Final = 1_000  # nobody listens to more, and each costs a little to read
MIN_PACKED: Final = 50  # characters; the smallest packed mission has more
MAX_NAME: Final = 4_096  # characters of a file's name; what is longer is not looked for on the disk


@attrs.frozen
class Reading:
    """A mission, and what was not as expected in what it was read from."""

    mission: Mission
    remarks: tuple[Remark, ...]


def open_mission(path_or_text: str, password: str | None = None) -> Reading:
    """The mission in whatever a person has: a file of JSON, an ``.ice`` file, a picture of a QR code, or the text itself.

    :param path_or_text: a file's name; or JSON, a packed mission, a deflection URL.
    :param password: for a mission that is sealed.
    :raises MissionError: it is no mission; :class:`~ice.mission.packing.PasswordNeeded` and
        :class:`~ice.mission.packing.WrongPassword` are of this kind.
    :raises LocalError: the file cannot be read, or there is none.
    """
    text, source = mission_text(path_or_text, password)
    return read_mission(text, source)


def mission_text(path_or_text: str, password: str | None = None) -> tuple[str | bytes, str]:
    """The JSON behind what :func:`open_mission` takes, and its source's name for errors; raises as that does."""
    if len(path_or_text) <= MAX_NAME and os.path.exists(path_or_text):
        return json_in(_file(path_or_text), path_or_text, password), path_or_text
    if path_or_text.lstrip()[:1] == "{":
        return path_or_text, "the text"
    if "\n" not in path_or_text.strip() and len(path_or_text) < MIN_PACKED:
        raise LocalError(f"{shown_text(path_or_text)}: there is no such file")
    return packing.unpack(path_or_text.strip(), "the text", password), "the text"


def json_in(data: bytes, source: str, password: str | None = None) -> str | bytes:
    """The JSON in a file's contents, whatever kind of file it is; raises as :func:`open_mission`."""
    if is_picture(data):
        texts = read_picture(data, source)
        if len(texts) > 1:
            raise MissionError(
                source, f"there are {len(texts)} QR codes in this picture; cut it to the one that is meant"
            )
        data = texts[0].encode("latin-1")  # the very bytes of the code
    if data[:1] in (b"\x01", b"\x1f"):  # packed, without basE91
        return packing.unpack_bytes(data, source, password)
    if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"") or b"\0" in data[:4]:
        return data
    if data.lstrip().startswith((b"<?xml ", b"<svg ")):
        raise MissionError(
            source, "a drawing (SVG) is written for print, and not read; make a PNG of it, or photograph it"
        )
    try:
        text = data.decode("ascii")  # a [ may begin either: one of 32 sealed missions does, by its salt
    except UnicodeDecodeError:
        return data  # no packed mission; the reader of JSON says what it found
    try:
        return packing.unpack(text, source, password)
    except (packing.PasswordNeeded, packing.WrongPassword):
        raise
    except MissionError as error:
        if _looks_like_json(text):
            return data
        raise error


def _looks_like_json(text: str) -> bool:
    return text.lstrip()[:1] == "[" or '":' in text[:MAX_NAME] or "/*" in text[:2] or "//" in text[:2]


def _file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise LocalError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_PICTURE_BYTES:
        raise MissionError(path, f"more than {MAX_PICTURE_BYTES:,} bytes. Is this the right file?")
    return data


def read_mission(text: str | bytes, source: str) -> Reading:
    """The mission that a JSON text says.

    :param source: the name of the text, in errors.
    :raises MissionError: it is no mission, with line and column or path, and what was expected.
    """
    value = read_json(text, source)
    if not isinstance(value, dict):
        raise MissionError(source, f"expected a mission, an object in braces, found {kind(value)}")
    key = next((key for key in LIST_KEYS if value.get(key) is not None), LIST_KEYS[0])
    _check_groups(value.get(key), key, source)
    remarks = doubled(value)
    tolerant = Tolerant(value, "", remarks)
    try:
        stated = load(Mission, tolerant)
    except Unusable as error:
        raise MissionError(source, error.text, path=error.path) from None
    if "name" not in tolerant:
        tolerant.about("name", "expected the mission's name, found none; it has no name")
    entries = [(index, each) for index, each in enumerate(value[key]) if isinstance(each, dict)]
    groups = []
    for (index, each), group in zip(entries, stated.groups, strict=True):
        found = implied(group, stated.rallypoint)
        groups.append(found)
        _about_group(Tolerant(each, f"{key}[{index}]", remarks), group, found)
    _about_mission(tolerant, stated)
    id = mission_id(stated.name)
    if stream_id(stated.id) == id:
        id = stated.id
    elif stated.id:
        tolerant.about("id", f"{shown(stated.id)} is not the id of this name; {id} is taken")
    return Reading(attrs.evolve(stated, id=id, groups=tuple(groups)), tuple(remarks))


def _check_groups(groups: Json, key: str, source: str) -> None:
    if groups is None:
        raise MissionError(
            source, "expected a mission, with a list of groups, found none. Is this the right file?", path=key
        )
    if not isinstance(groups, list):
        raise MissionError(source, f"expected a list of groups, found {kind(groups)}", path=key)
    if len(groups) > MAX_GROUPS:
        raise MissionError(source, f"{len(groups):,} groups; at most {MAX_GROUPS:,} are read", path=key)


def _about_group(tolerant: Tolerant, stated: Group, found: Group) -> None:
    if "name" not in tolerant:
        tolerant.about("name", "expected the group's name, found none; it has no name")
    if stated.rallypoints and stated.cluster is not None:
        tolerant.about(
            "rallypointCluster",
            "is given beside rallypoints, which the original refuses; rallypoints are taken",
        )
    if found.rallypoints_from is Origin.MISSION:
        tolerant.about("rallypoints", "none are named here; the mission's own (rallypoint) is taken")
    if found.lb_crypto:
        tolerant.about("lbCrypto", "this variant is published nowhere; the group is read as if it were false")
    if stated.id_override and not stated.id:
        tolerant.about("id", f"idOverride says that it is given, but it is empty; {found.id} is taken")
    elif not stated.id_override and stated.id and stated.id != found.id:
        tolerant.about(
            "id",
            f"{shown(stated.id)} is not what the recipe gives for these contents; {group_id(found)} is taken, as everybody "
            "does who imports this file (to keep it, set idOverride to true)",
        )


def _about_mission(tolerant: Tolerant, stated: Mission) -> None:
    if stated.meta.type != "ICE-MISSION":
        tolerant.about(
            child("meta", "type"),
            f'expected "ICE-MISSION", found {shown(stated.meta.type)}; it is read as one',
        )
    if stated.meta.version != 1:
        tolerant.about(
            child("meta", "version"),
            f"expected 1, found {stated.meta.version}; what it means beyond that is not known",
        )
