"""What a site's files are worth: the certificates, keys and lists that a configuration names.

A configuration can be right to the letter and the daemon still be unable to start, or about to be. :func:`check_site` looks
once at everything it names and says all it finds, each with what to type. ``ice check`` and ``ice doctor`` print the
findings; a daemon logs them when it starts and when it reloads. It reads files and changes nothing; the time is an argument.

Which certificates must be there depends on what this machine is for. Asked for certain roles, it asks for theirs; asked for
none, it asks for every certificate that the file names itself, and for at least one of the defaults: a person's laptop has
no Rallypoint's certificate, and a Rallypoint nobody's.
"""

import grp
import re
import shlex
import stat
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import attrs
from cryptography import x509

from ice.config.control import unnamed
from ice.config.gateway import LOOPBACK
from ice.config.load import Loaded
from ice.config.problems import Problem, dotted
from ice.errors import IceError, LocalError
from ice.net.addresses import Address
from ice.patch.channels import Plan
from ice.rallypoint.peering import MAX_TEXT, PeeringError, PeeringFile, plan_of, read_peering
from ice.security.certificates import (
    BadIdentity,
    FileTrouble,
    Role,
    Validity,
    common_name,
    key_mode_warning,
    read_authorities,
    read_certificates,
    role_and_id,
    validity,
    validity_in_words,
)
from ice.security.contexts import addresses_in, names
from ice.security.refusals import Reason
from ice.security.trust import Credentials, Foreign, Trust
from ice.telephony.wanted import channels_of, rules_of

SOON = timedelta(days=30)  # long enough for a person on leave to come back and renew


class Severity(StrEnum):
    """How bad a finding is: an error keeps something from working, a warning will, or may not be meant."""

    ERROR = "error"
    WARNING = "warning"


@attrs.frozen
class Finding:
    """One thing found: how bad, in which file, line (0: as a whole) and key (or ""), what is true, and what to do (or "")."""

    severity: Severity
    file: str
    message: str
    remedy: str = ""
    line: int = 0
    key: str = ""

    @property
    def where(self) -> str:
        """``etc/ice.toml:41: rallypoint.listen``, or as much of it as there is."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.key) if part)

    def __str__(self) -> str:
        parts = (self.where, self.message + (f"; to do: {self.remedy}" if self.remedy else ""))
        return ": ".join(part for part in parts if part)


class Purpose(StrEnum):
    """What a machine is for, as far as certificates go."""

    CLIENT = "client"  # opens links with [identity]: a person, or a satellite
    RALLYPOINT = "rallypoint"  # accepts links with [rallypoint]
    REFLECTOR = "reflector"  # opens links with [identity], and passes on what others say
    PATCH = "patch"  # likewise
    GATEWAY = "gateway"  # likewise


_SECTION = {
    Purpose.CLIENT: "identity",
    Purpose.RALLYPOINT: "rallypoint",
    Purpose.REFLECTOR: "identity",
    Purpose.PATCH: "identity",
    Purpose.GATEWAY: "identity",
}
_ROLES = {
    Purpose.CLIENT: (Role.CLIENT, Role.OPERATOR, Role.SATELLITE),
    Purpose.RALLYPOINT: (Role.RALLYPOINT,),
    Purpose.REFLECTOR: (Role.SATELLITE,),
    Purpose.PATCH: (Role.SATELLITE,),
    Purpose.GATEWAY: (Role.SATELLITE,),
}
#: What to make where there is none.
_WANTED_ROLE = {
    Purpose.CLIENT: "client",
    Purpose.RALLYPOINT: "rallypoint",
    Purpose.REFLECTOR: "satellite",
    Purpose.PATCH: "satellite",
    Purpose.GATEWAY: "satellite",
}


def problem_finding(problem: Problem, severity: Severity) -> Finding:
    """A :class:`~ice.config.problems.Problem` of the file as a finding."""
    return Finding(severity, problem.file, problem.message, line=problem.line, key=problem.key)


def check_site(loaded: Loaded, now: datetime, purposes: Collection[Purpose] = ()) -> list[Finding]:
    """Everything there is to say about `loaded` and the files it names, at the time `now` (with time zone)."""
    findings = [problem_finding(problem, Severity.WARNING) for problem in loaded.warnings]
    trust, about_trust = _check_trust(loaded, now)
    findings += about_trust
    findings += _check_salt(loaded)
    findings += _check_ballot_salts(loaded)
    wanted = set(purposes) or _purposes(loaded)
    for purpose in Purpose:
        if purpose in wanted:
            findings += _check_leaf(loaded, purpose, trust, now)
    if Purpose.REFLECTOR in wanted:
        findings += _check_reflector(loaded)
    if Purpose.PATCH in wanted:
        findings += _check_patches(loaded)
    if Purpose.GATEWAY in wanted:
        findings += _check_gateway(loaded)
    if Purpose.RALLYPOINT in wanted:
        findings += _check_names(loaded)
        for index in range(len(loaded.config.federations)):
            findings += _check_federation(loaded, index, trust, now)
        findings += _check_mesh(loaded)
    return findings


def _check_patches(loaded: Loaded) -> Iterator[Finding]:
    """Missions and bridges as the patch server reads them, and what its control needs."""
    settings = loaded.config.patch
    if settings.password_file is not None:
        yield from _check_mode(settings.password_file, "read the passwords of missions")
    try:
        plan = Plan.of(loaded.config)
    except IceError as error:
        yield _setting(loaded, error, "patch")
        return
    yield from _check_control(loaded, "patch")
    told = [*plan.remarks, *(refusal.message for refusal in plan.refused)]
    for patch in plan.patches:
        told += [f"patch {patch.id}: {caution}" for caution in plan.cautions(patch) if patch.enabled]
    for text in told:
        yield Finding(Severity.WARNING, str(loaded.path), text, key="patch")


def _setting(loaded: Loaded, error: IceError, section: str) -> Finding:
    """An error with the line of the setting that it names, like (patch.missions), or else that of the section."""
    named = re.findall(rf"\(({section}(?:\.\w+)+)", str(error))
    key = named[-1] if named else section
    return Finding(
        Severity.ERROR,
        str(loaded.path),
        str(error),
        line=loaded.positions.line(tuple(key.split("."))),
        key=key,
    )


def _check_control(loaded: Loaded, section: str) -> Iterator[Finding]:
    """The group that may use a daemon's control, and whether its certificate can serve HTTPS."""
    settings = getattr(loaded.config, section).control
    try:
        if settings.group:
            grp.getgrnam(settings.group)
    except KeyError:
        error = LocalError(f"there is no group {settings.group!r} on this machine ({section}.control.group)")
        yield _setting(loaded, error, section)
    if settings.listen is not None:
        try:
            certificate = read_certificates(loaded.config.identity.certificate)[0]
        except LocalError:
            return  # which is told elsewhere
        if not addresses_in(certificate):
            path = loaded.config.identity.certificate
            error = LocalError(f"{unnamed(path, path.stem)} ({section}.control.listen)")
            yield _setting(loaded, error, section)


def _check_gateway(loaded: Loaded) -> Iterator[Finding]:
    """Numbers, channels, codes and passwords as the gateway reads them."""
    settings = loaded.config.gateway
    try:
        rules_of(settings)
        channels_of(loaded.config)
    except IceError as error:
        yield _setting(loaded, error, "gateway")
    yield from _check_control(loaded, "gateway")
    for each in settings.dial_in:
        if each.code_file is not None and each.code_file.exists():
            yield from _check_mode(each.code_file, "read the access code")
    for trunk in settings.trunks:
        if trunk.kind == LOOPBACK:
            continue
        if trunk.password_file.exists():
            yield from _check_mode(trunk.password_file, "read the call manager's password")
        else:
            text = (
                f"the password of the ARI user {trunk.user} is not there; write it into this file (mode 0600)"
            )
            yield Finding(Severity.ERROR, str(trunk.password_file), text)
        if trunk.authority is not None and not trunk.authority.exists():
            text = "the certificates that vouch for the call manager are not there"
            yield Finding(Severity.ERROR, str(trunk.authority), text)


def _purposes(loaded: Loaded) -> set[Purpose]:
    ends = {Purpose.CLIENT, Purpose.RALLYPOINT}
    named = {p for p in ends if loaded.gives(_SECTION[p], "certificate") or loaded.gives(_SECTION[p], "key")}
    present = {p for p in ends if _present(_files(loaded, p)[0])}
    wanted = named | present or ends
    reflector = loaded.config.reflector
    if reflector.engage_file is not None or any(rule.enabled for rule in reflector.rules):
        wanted = wanted - {Purpose.CLIENT} | {Purpose.REFLECTOR}  # the same files, of another role
    return wanted


def _files(loaded: Loaded, purpose: Purpose) -> tuple[Path, Path]:
    section = loaded.config.rallypoint if purpose is Purpose.RALLYPOINT else loaded.config.identity
    return section.certificate, section.key


def _present(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # it is somewhere we may not look; reading it will say so
    return True


def _check_trust(loaded: Loaded, now: datetime) -> tuple[Trust | None, list[Finding]]:
    """Whom we believe, as far as the files say, and what is wrong with them."""
    settings = loaded.config.authority
    findings = []
    for path in settings.certificates:
        if not _present(path):
            key = ("authority", "certificates")
            findings.append(
                _missing(loaded, key, path, "an authority's certificate", _pki(loaded, path, "init"))
            )
            continue
        try:
            authorities = read_authorities([path])
        except LocalError as error:
            findings.append(_trouble(path, error))
            continue
        remedy = "roll over to a new authority (docs/certificates.md)"
        for authority in authorities:
            findings += _check_validity(authority, path, now, remedy)
        findings += _check_mode(path.with_suffix(".key"))
    if findings and any(finding.severity is Severity.ERROR for finding in findings):
        return _trust_alone(loaded, now), findings
    try:
        trust = Trust.read(settings.certificates, settings.revocations, now)
    except (LocalError, OSError) as error:
        findings.append(_trouble(settings.revocations, error))
        return _trust_alone(loaded, now), findings
    for warning in trust.warnings:
        findings.append(_split(settings.revocations, warning, Severity.WARNING))
    return trust, findings


def _trust_alone(loaded: Loaded, now: datetime) -> Trust | None:
    """The authorities that can be read, so that leaves can be checked in spite of other faults."""
    readable: list[x509.Certificate] = []
    for path in loaded.config.authority.certificates:
        try:
            readable += read_authorities([path])
        except LocalError:
            continue
    return Trust(tuple(readable)) if readable else None


def _check_leaf(loaded: Loaded, purpose: Purpose, trust: Trust | None, now: datetime) -> Iterator[Finding]:
    section = _SECTION[purpose]
    path, key = _files(loaded, purpose)
    remedy = _pki(
        loaded, path, "init" if trust is None else f"issue {path.stem} --role {_WANTED_ROLE[purpose]}"
    )
    if not _present(path):
        yield _missing(loaded, (section, "certificate"), path, f"the certificate of this {purpose}", remedy)
        return
    try:
        certificate = read_certificates(path)[0]
    except LocalError as error:
        yield _trouble(path, error)
        return
    yield from _check_validity(certificate, path, now, _pki(loaded, path, f"renew {path.stem}"))
    yield from _check_role(loaded, certificate, path, purpose)
    if trust is not None:
        yield from _check_trusted(loaded, certificate, path, purpose, trust, now)
    if not _present(key):
        yield _missing(loaded, (section, "key"), key, f"the private key of {path.name}", remedy)
        return
    try:
        Credentials.read(path, key)
    except FileTrouble as error:
        yield _trouble(key, error)
    yield from _check_mode(key)


def _check_names(loaded: Loaded) -> Iterator[Finding]:
    """Whether the Rallypoint's certificate names an address by which it is dialled, where the file itself tells one.

    Told are those of network.rallypoints that lead to where this Rallypoint listens, as far as that shows without asking a name
    server, and those that it tells its clients. One match in either list is enough: the others may be neighbours.
    """
    network, rallypoint = loaded.config.network, loaded.config.rallypoint
    if not network.verify_name or not loaded.gives("network", "rallypoints"):
        return
    dialled = [
        each
        for each in network.rallypoints
        if each in rallypoint.alternatives or any(_leads_to(each, listen) for listen in rallypoint.listen)
    ]
    try:
        certificate = read_certificates(rallypoint.certificate)[0]
    except LocalError:
        return  # told already
    if not dialled or any(
        names(certificate, at.host) for at in (*network.rallypoints, *rallypoint.alternatives)
    ):
        return
    host = dialled[0].host
    option = f"--{'dns' if dialled[0].ip is None else 'ip'} {host}"
    listed = "".join(c for c in ", ".join(addresses_in(certificate)[:8]) if c.isprintable())
    yield Finding(
        Severity.WARNING,
        str(rallypoint.certificate),
        f"names {listed or 'no address'}, but not {host}, by which network.rallypoints dials it: clients will refuse it",
        _pki(loaded, rallypoint.certificate, f"renew {rallypoint.certificate.stem} {option}"),
    )


def _check_mesh(loaded: Loaded) -> Iterator[Finding]:
    """What the Rallypoint would say of its groups and its peering list. All of it are warnings: it starts, and goes on, without."""
    path, listed = loaded.config.rallypoint.mesh.peering_file, None
    if path is not None:
        try:
            listed = _peering(path)
        except PeeringError as error:
            yield _split(path, str(error), Severity.WARNING)
        else:
            yield from (_split(path, warning, Severity.WARNING) for warning in listed.warnings)
    try:
        _, own = role_and_id(read_certificates(loaded.config.rallypoint.certificate)[0])
    except LocalError:
        return  # told already
    for warning in plan_of(loaded.config.groups, own, listed).warnings:
        yield Finding(Severity.WARNING, str(loaded.path), warning)


def _check_reflector(loaded: Loaded) -> Iterator[Finding]:
    """What a reflector would refuse, or say of its rules."""
    from ice.reflector.rules import remarks_on  # brings codecs along, which only reflectors need here

    settings = loaded.config.reflector
    if settings.engage_file is None and not any(rule.enabled for rule in settings.rules):
        yield Finding(
            Severity.WARNING, str(loaded.path), "there is no enabled rule", "write one in [[reflector.rules]]"
        )
    for remark in remarks_on(loaded.config):
        path: tuple[str | int, ...] = ("reflector",)
        if 0 <= remark.index < len(settings.rules):
            path += ("rules", remark.index)
        if remark.key and (remark.index < len(settings.rules)):
            path += (remark.key,)
        yield Finding(
            Severity.ERROR if remark.wrong else Severity.WARNING,
            str(loaded.path),
            remark.text,
            line=loaded.positions.line(path),
            key=dotted(path),
        )


def _peering(path: Path) -> PeeringFile:
    if not path.is_file():
        raise PeeringError(f"{path}: there is no such file")
    try:
        with open(path, encoding="utf-8") as stream:
            return read_peering(stream.read(MAX_TEXT + 1), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PeeringError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _check_federation(loaded: Loaded, index: int, trust: Trust | None, now: datetime) -> Iterator[Finding]:
    """What the files say of another organisation: its authority and list, apart from ours, and whose UUIDs are listed."""
    settings = loaded.config.federations[index]

    def at(key: str, message: str, severity: Severity = Severity.ERROR, *more: int) -> Finding:
        path: tuple[str | int, ...] = ("federations", index, key, *more)
        message, _, remedy = message.partition("; type: ")
        return Finding(
            severity, str(loaded.path), message, remedy, loaded.positions.line(path), f"federations.{key}"
        )

    wrong = False
    for number, file in enumerate(settings.authority):
        try:
            authorities = read_authorities([file], "federations.authority")
        except LocalError as error:
            wrong = True
            yield at("authority", str(error).partition(" (first time here?")[0], Severity.ERROR, number)
            continue
        for authority in authorities:
            for found in _check_validity(authority, file, now, f"ask '{settings.name}' for their new one"):
                yield attrs.evolve(
                    at("authority", f"{file}: {found.message}", found.severity, number), remedy=found.remedy
                )
    own = _own_id(loaded)
    for number, ally in enumerate(settings.rallypoints):
        if ally.id == own:
            yield at(
                "rallypoints", f"{own} is this Rallypoint's own UUID; list theirs", Severity.ERROR, number
            )
    if wrong:
        return
    try:
        foreign = Foreign.read(settings.name, settings.authority, (), settings.revocations, now)
    except LocalError as error:
        yield at("revocations", str(error).partition(" (first time here?")[0])
        return
    for warning in foreign.warnings:
        yield at("revocations", warning, Severity.WARNING)
    if trust is not None:
        try:
            Trust(trust.authorities, foreign=(foreign,))
        except LocalError as error:
            yield at("authority", str(error))


def _own_id(loaded: Loaded) -> UUID | None:
    """The UUID in the Rallypoint's certificate, where that can be read."""
    try:
        return role_and_id(read_certificates(loaded.config.rallypoint.certificate)[0])[1]
    except IceError:
        return None  # told already


def _leads_to(dialled: Address, listen: Address) -> bool:
    """True where dialling the one surely reaches the other on this machine."""
    if dialled.port != listen.port:
        return False
    if dialled.ip is None:
        return dialled.is_loopback and (listen.is_loopback or listen.is_wildcard)
    return dialled.ip == listen.ip or (dialled.is_loopback and listen.is_wildcard)


def _check_validity(
    certificate: x509.Certificate, path: Path, now: datetime, remedy: str
) -> Iterator[Finding]:
    state = validity(certificate, now)
    said = f"the certificate of '{_shown(certificate)}' is {validity_in_words(certificate, now)}"
    if state is Validity.EXPIRED:
        yield Finding(Severity.ERROR, str(path), said.replace(" is expired", " expired"), remedy)
    elif state is Validity.NOT_YET:
        yield Finding(Severity.ERROR, str(path), said, "set this machine's clock (timedatectl)")
    elif certificate.not_valid_after_utc - now <= SOON:
        yield Finding(Severity.WARNING, str(path), f"{said}: it expires soon", remedy)


def _check_role(
    loaded: Loaded, certificate: x509.Certificate, path: Path, purpose: Purpose
) -> Iterator[Finding]:
    try:
        role, _ = role_and_id(certificate)
    except BadIdentity as error:
        yield Finding(
            Severity.ERROR,
            str(path),
            str(error),
            _pki(loaded, path, f"issue {path.stem} --role {_WANTED_ROLE[purpose]} --force"),
        )
        return
    if role not in _ROLES[purpose]:
        *others, last = _ROLES[purpose]
        expected = f"{', '.join(others)} or {last}" if others else last
        yield Finding(
            Severity.ERROR,
            str(path),
            f"expected a certificate with the role {expected}, found the role {role}",
            "name the right file, or: " + _pki(loaded, path, f"issue NAME --role {_WANTED_ROLE[purpose]}"),
        )


def _check_trusted(
    loaded: Loaded, certificate: x509.Certificate, path: Path, purpose: Purpose, trust: Trust, now: datetime
) -> Iterator[Finding]:
    refusal = trust.refuses(certificate, now)
    if refusal is None or refusal.reason in (Reason.EXPIRED, Reason.NOT_YET_VALID, Reason.BAD_IDENTITY):
        return  # told already, with a remedy of its own
    try:
        role, _ = role_and_id(certificate)
    except BadIdentity:
        role = Role(_WANTED_ROLE[purpose])
    like = "" if refusal.reason is Reason.REVOKED else f" --like {shlex.quote(str(path))}"
    remedy = _pki(loaded, path, f"issue {path.stem} --role {role}{like} --force")
    yield Finding(Severity.ERROR, str(path), refusal.sentence, remedy)


def _check_salt(loaded: Loaded) -> Iterator[Finding]:
    """Whether traffic keys can be made: the salt file, where one is named."""
    settings = loaded.config.traffic
    if settings.salt_file is None:
        return
    try:
        settings.salt()
    except LocalError as error:
        yield _no_salt(loaded, ("traffic", "salt_file"), error)
        return
    yield from _check_mode(settings.salt_file, "read the salt of traffic keys")


def _check_ballot_salts(loaded: Loaded) -> Iterator[Finding]:
    """The salts of server groups, where they are: the table is on machines too that need none."""
    for index, group in enumerate(loaded.config.server_groups):
        files = [file for file in (group.salt_file, group.next_salt_file) if file and file.exists()]
        if not files:
            continue
        try:
            group.rules()
        except LocalError as error:
            yield _no_salt(loaded, ("server_groups", index, "salt_file"), error)
            continue
        for file in files:
            yield from _check_mode(file, "forge the ballots of this server group")


def _no_salt(loaded: Loaded, setting: tuple[str | int, ...], error: LocalError) -> Finding:
    message, _, remedy = str(error).partition("; ")
    line = loaded.positions.line(setting)
    return Finding(Severity.ERROR, str(loaded.path), message, remedy, line, dotted(setting))


def _check_mode(key: Path, may: str = "use this private key") -> Iterator[Finding]:
    if key_mode_warning(key) is None:
        return
    mode = stat.S_IMODE(key.stat().st_mode)
    message = f"mode {mode:04o} lets others than the owner {may}"
    yield Finding(Severity.WARNING, str(key), message, f"chmod 600 {key}")


def _pki(loaded: Loaded, path: Path, words: str) -> str:
    """The ``ice pki`` command that mends the file at `path`, with the folder where that is not the one it takes by itself."""
    if loaded.usual and path.parent == loaded.path.parent / "pki":
        return f"ice pki {words}"
    return f"ice pki {words} --folder {shlex.quote(str(path.parent))}"


def _missing(loaded: Loaded, setting: tuple[str, str], path: Path, what: str, remedy: str) -> Finding:
    """`setting` names a file that is not there; the line is told where the setting is written down, not a default."""
    line = loaded.positions.line(setting) if loaded.gives(*setting) else 0
    message = f"there is no file {path}, which should hold {what}"
    return Finding(Severity.ERROR, str(loaded.path), message, remedy, line, dotted(setting))


def _trouble(path: Path, error: Exception) -> Finding:
    return _split(path, str(error), Severity.ERROR)


def _split(path: Path, text: str, severity: Severity) -> Finding:
    """A sentence of :mod:`ice.security` ("file: what is so; type: command") in its parts."""
    message = text.removeprefix(f"{path}: ")
    message, _, remedy = message.partition("; type: ")
    return Finding(severity, str(path), message, remedy)


def _shown(certificate: x509.Certificate) -> str:
    return "".join(character for character in common_name(certificate)[:64] if character.isprintable())
