"""From ``[[reflector.rules]]`` to what the engine and the sockets want to know: terms, places, changes, and what a person should look at twice.

Rules of one stream belong together: the stream is joined once.  A rule that hears and speaks in one group has one socket for both; each further
destination has one more, which only talks.
"""

import stat
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import attrs
from pydantic import ValidationError

from ice.config.reflector import ReflectorRule, ReflectorSettings, distinct_rules, is_group
from ice.config.schema import Config
from ice.errors import LocalError
from ice.net.addresses import Address
from ice.net.place import Place
from ice.reflector.engine import Terms
from ice.reflector.translation import Transcoder, Translation
from ice.security.keyring import Keyring, KeyringOpener
from ice.security.replay import AHEAD_S

MAX_ENGAGE_FILE: Final = 4 << 20  # thousands of reflectors
MAX_KEY_FILE: Final = 4_096  # a key of 1,024 bytes in hexadecimal, and an editor's line end


@attrs.frozen
class Rule:
    """One enabled rule, made ready."""

    number: int  #: among all rules, from 1, as a person counts them
    stream: str
    terms: Terms
    places: tuple[Place, ...]  #: the first hears, where the rule hears; all are spoken to
    settings: ReflectorRule

    @property
    def name(self) -> str:
        """For people: the group and the stream."""
        arrow = {"both": "<->", "in": "->", "out": "<-"}[self.settings.direction]
        return f"{self.settings.rx} {arrow} {self.stream}"


def rules_of(config: Config) -> tuple[Rule, ...]:
    """The enabled rules of a configuration, those of ``engage_file`` behind the others.

    Raises :class:`LocalError` where that file cannot be used.
    """
    return tuple(
        _rule(number, each, config) for number, each in enumerate(all_rules(config), 1) if each.enabled
    )


def all_rules(config: Config) -> tuple[ReflectorRule, ...]:
    """Every rule, enabled or not.  Raises :class:`LocalError` where ``engage_file`` cannot be used."""
    settings = config.reflector
    if settings.engage_file is None:
        return settings.rules
    rules = (*settings.rules, *rules_of_engage(settings.engage_file))
    try:
        return distinct_rules(rules)
    except ValueError as error:
        raise LocalError(f"{settings.engage_file}: {error} (reflector.engage_file)") from None


def rules_of_engage(path: Path) -> tuple[ReflectorRule, ...]:
    """The ``staticReflectors`` of a Rallypoint's configuration of Engage, as rules that say the same.

    Raises :class:`LocalError` that names the file where it cannot be read, or has one that cannot be taken over.
    """
    from ice.engage.account import Why  # few sites have such a file, and what reads it is large
    from ice.engage.kinds import Kind
    from ice.engage.reading import read

    data = _read(path, "the configuration", MAX_ENGAGE_FILE, "reflector.engage_file")
    account = read(data, str(path), Kind.RALLYPOINT).account
    for entry in account.entries:
        if entry.path.startswith("staticReflectors[") and entry.why is Why.WRONG:
            raise LocalError(f"{path}: {entry.path}: {entry.text} (reflector.engage_file)")
    rules = []
    for row in account.rows:
        if row.key != ("reflector", "rules"):
            continue
        try:
            rules.append(ReflectorRule.model_validate(row.values))
        except ValidationError as error:
            first = error.errors()[0]
            raise LocalError(
                f"{path}: {row.path}: {'.'.join(map(str, first['loc']))}: {first['msg']} (reflector.engage_file)"
            ) from None
    return tuple(rules)


def by_stream(rules: tuple[Rule, ...]) -> dict[str, list[Rule]]:
    """The rules of each stream, in their order."""
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        found.setdefault(rule.stream, []).append(rule)
    return found


def terms_of(settings: ReflectorSettings, rule: ReflectorRule) -> Terms:
    """What the engine wants to know."""
    return Terms(
        group=str(rule.rx),
        site=settings.site,
        spoken=tuple(map(str, rule.destinations)),
        at=rule.interface,
        hears=rule.hears,
        speaks=bool(rule.destinations),
        allow=tuple(map(ip_network, rule.allow)),
        deny=tuple(map(ip_network, rule.deny)),
        packets_per_s=float(settings.sender_packets_per_s),
    )


def translation_of(rule: ReflectorRule, salt: bytes, *, clock_ahead_s: float = AHEAD_S) -> Translation | None:
    """What a rule changes, or None where it changes nothing.  ``clock_ahead_s``: how far a member's clock may be ahead of ours.

    Raises :class:`LocalError` for a key that cannot be read, and for a codec whose library is not installed.
    """
    if not rule.changes:
        return None
    return Translation(
        rule.stream,
        payload_types=rule.numbers,
        strip=rule.strip_extensions,
        keyring=None if rule.key_file is None else read_key(rule.key_file, rule.cipher, salt),
        opener=partial(KeyringOpener, clock_ahead_s=clock_ahead_s),
        to_stream=_transcoding(rule.stream_codec),
        to_radio=_transcoding(rule.radio_codec),
    )


def read_key(path: Path, cipher: str, salt: bytes) -> Keyring:
    """The keyring that a file's hexadecimal digits make; raises :class:`LocalError` without what stands there."""
    setting = "reflector.rules.key_file"
    try:
        digits = _read(path, "the key of a stream", MAX_KEY_FILE, setting).decode("ascii").strip()
        if not digits:
            raise ValueError
        bytes.fromhex(digits)
    except ValueError:
        raise LocalError(
            f"{path}: expected a key in hexadecimal digits, the cryptoPassword of the stream's group ({setting})"
        ) from None
    return Keyring.of(digits, cipher, salt=salt)


def _read(path: Path, what: str, most: int, setting: str) -> bytes:
    """``what`` stands in the file that ``setting`` names; raises :class:`LocalError`."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise LocalError(f"{path}: {what} cannot be read: {error.strerror or error} ({setting})") from None
    if len(data) > most:
        raise LocalError(f"{path}: {what} is longer than {most} bytes ({setting})")
    return data


@attrs.frozen
class Remark:
    """Something about a rule: its index (-1: the table above all rules), the key ("": the rule as a whole), and a sentence."""

    index: int
    key: str
    text: str
    wrong: bool = False  #: the daemon would not start


def warnings_about(rule: Rule) -> Iterator[str]:
    """What is allowed and a person should know, in sentences that stand alone."""
    for text in reminders_of(rule):
        yield f"rule {rule.number} ({rule.name}): {text}"


def reminders_of(rule: Rule) -> Iterator[str]:
    """The same, for who shows the rule with it."""
    for remark in _warnings(rule.number - 1, rule.settings):
        yield remark.text


def remarks_on(config: Config) -> Iterator[Remark]:
    """Everything to be said about the enabled rules of a configuration, mistakes among it; files and libraries are looked at."""
    try:
        rules = all_rules(config)
    except LocalError as error:
        yield Remark(-1, "engage_file", str(error), wrong=True)
        rules = config.reflector.rules
    for index, rule in enumerate(rules):
        if not rule.enabled:
            continue
        try:
            translation_of(rule, config.traffic.salt() if rule.key_file else b"")
        except LocalError as error:
            key = "key_file" if rule.key_file and str(rule.key_file) in str(error) else ""
            yield Remark(index, key, str(error), wrong=True)
        yield from _warnings(index, rule)
        if rule.capture_file is not None and not rule.capture_file.parent.is_dir():
            yield Remark(
                index, "capture_file", f"there is no folder {rule.capture_file.parent}: nothing is captured"
            )
    yield from _crossings(config, rules)


def _crossings(config: Config, rules: tuple[ReflectorRule, ...]) -> Iterator[Remark]:
    """Streams that hear each other, since what one sends into a group another takes in there."""
    if not config.multicast.loopback:
        return  # what this machine says it does not hear
    settings = config.reflector
    hearing: dict[tuple[Address, str], list[int]] = {}
    for index, rule in enumerate(rules):
        if rule.hears:
            hearing.setdefault((rule.rx, rule.interface or settings.interface), []).append(index)
    for index, rule in enumerate(rules):
        for to in filter(is_group, rule.destinations):
            at = (to, rule.interface or settings.interface)
            other = next((each for each in hearing.get(at, ()) if rules[each].stream != rule.stream), None)
            if other is not None:
                yield Remark(
                    index,
                    "rx" if to == rule.rx else "tx",
                    f'what the stream "{rule.stream[:40]}" says to {to} is heard there for the stream "{rules[other].stream[:40]}" (rule {other + 1}), '
                    "as if they were patched; where that is not meant, give one of them another group",
                )


def _warnings(index: int, rule: ReflectorRule) -> Iterator[Remark]:
    for key, text in _changes(rule):
        yield Remark(index, key, text)
    if rule.key_file is not None and (mode := _mode(rule.key_file)) & 0o077:
        yield Remark(
            index,
            "key_file",
            f"mode {mode:04o} lets others than the owner read {rule.key_file}; type: chmod 600 {rule.key_file}",
        )
    if rule.capture_file is not None:
        yield Remark(
            index,
            "capture_file",
            f"what is said is written into {rule.capture_file} (up to {rule.capture_bytes:,} bytes): take the key out when that is no longer needed",
        )
    if rule.hears and not rule.allow and not is_group(rule.rx):
        yield Remark(index, "rx", f"whoever reaches {rule.rx} talks on the stream: name them in allow")


def _rule(number: int, rule: ReflectorRule, config: Config) -> Rule:
    settings = config.reflector
    interface = rule.interface or settings.interface or config.multicast.interface
    places = tuple(
        Place(
            rule.rx if not at else to,
            to,
            interface,
            rule.ttl,
            rule.priority,
            config.multicast.loopback,
            # The kernel filters by source where it can, for groups and single addresses; the engine always does.
            sources=_sources(rule) if not at else (),
        )
        for at, to in enumerate(rule.destinations or (rule.rx,))
    )
    return Rule(number, rule.stream, terms_of(settings, rule), places, rule)


def _sources(rule: ReflectorRule) -> tuple[str, ...]:
    """The senders for a source-specific membership: where ``allow`` names single addresses only, and the address heard is a group."""
    if not rule.hears or not is_group(rule.rx) or not 0 < len(rule.allow) <= MAX_SOURCES:
        return ()
    networks = [ip_network(each) for each in rule.allow]
    ip = rule.rx.ip
    if any(each.num_addresses != 1 or ip is None or each.version != ip.version for each in networks):
        return ()
    return tuple(str(each.network_address) for each in networks)


MAX_SOURCES: Final = 10  # per IPv4 group, by Linux's own default


def _changes(rule: ReflectorRule) -> Iterator[tuple[str, str]]:
    """What the rule changes in datagrams: the key, and the change in words."""
    if rule.payload_types:
        yield "payload_types", f"RTP payload types are rewritten: {', '.join(rule.payload_types)}"
    if rule.strip_extensions:
        yield "strip_extensions", "RTP header extensions are taken out towards the group"
    if rule.key_file is not None:
        yield (
            "key_file",
            f"the group is in clear, the stream is sealed ({rule.cipher}): everybody on that network can listen",
        )
    if rule.radio_codec:
        yield "radio_codec", f"what the stream says is coded anew as {rule.radio_codec} for the group"
    if rule.stream_codec:
        yield "stream_codec", f"what the group says is coded anew as {rule.stream_codec} for the stream"


def _transcoding(name: str) -> Transcoder | None:
    if not name:
        return None
    from ice.media.codecs import codec, decoder_of, encoder  # most reflectors never need a codec
    from ice.reflector.transcoding import Transcoding

    row = codec(name)
    decoder_of(row)  # raises now, not at the first packet, where a library is missing
    encoder(name)
    return Transcoding(row)


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
