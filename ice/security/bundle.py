"""One file that carries somebody's whole membership to another machine: certificate, key, authorities, revocation list, ``ice.toml``.

A bundle is a ZIP archive, so that a person without ice can open it anywhere. With a passphrase it is wrapped::

    "ice-bundle 1\\n"       13 bytes
    log2 N                  1 byte; scrypt (RFC 7914) with this N, r = 8, p = 1
    salt                    16 bytes
    nonce                   12 bytes
    ciphertext and tag      AES-256-GCM of the archive; all bytes before are its associated data

A bundle comes from elsewhere, so reading one is bounded at every step: the file, the number of members, each member, the cost of scrypt. Nothing is
extracted by the archive's own paths: only the names in `ALLOWED` are taken, anything else refuses the whole bundle.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ice.errors import LocalError, RemoteError
from ice.security.certificates import (
    FileTrouble,
    Role,
    keys_match,
    parse_certificates,
    parse_private_key,
    parse_revocations,
    read_authorities,
    read_certificates,
    read_file,
    role_and_id,
)
from ice.security.files import KEY_MODE, PUBLIC_MODE, Draft, make_folder, write
from ice.security.minting import certificate_pem
from ice.security.register import authority_files, certificate_file, check_name, key_file, revocation_file

MAX_BUNDLE = 1 << 20  # bytes, packed
MAX_MEMBER = 1 << 20  # bytes, unpacked; a revocation list of 20,000 entries
MAX_MEMBERS = 16
SUFFIX = ".ice-bundle"

MAGIC = b"ice-bundle 1\n"
COST = 17  # log2 N of scrypt: 128 MiB and about half a second, once, on the machine of whoever guesses, each time
MIN_COST, MAX_COST = (
    14,
    18,
)  # below is too cheap to guess at, above takes more memory than a small machine has
_SALT, _NONCE = 16, 12
_EPOCH = (2020, 1, 1, 0, 0, 0)  # members carry no date: the same content is the same file

ALLOWED = re.compile(
    r"ice\.toml|pki/(authority|revoked)\.pem|pki/[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\.(pem|key)"
)


class BadBundle(RemoteError):
    """A bundle is damaged, forged, too large, or its passphrase is wrong."""


@attrs.frozen
class Bundle:
    """What a bundle holds.

    :ivar name: whose it is: the name of its files.
    :ivar members: path → bytes, the paths all allowed by `ALLOWED`; never shown, one is a key.
    """

    name: str
    members: dict[str, bytes] = attrs.field(repr=False)


def configuration(name: str, role: Role, rallypoints: Sequence[str]) -> str:
    """The ``ice.toml`` of a bundle: only what differs from the defaults.

    :param rallypoints: ``host:port`` of each, as seen from where the bundle goes.
    """
    if role is Role.RALLYPOINT:
        section = (
            "[rallypoint]\n"
            f'certificate = "pki/{name}.pem"\n'
            f'key = "pki/{name}.key"\n'
            '# Loopback only, until you say where: listen = ["0.0.0.0:7443"]\n'
            'listen = ["127.0.0.1:7443"]\n'
        )
    else:
        listed = ", ".join(map(json.dumps, rallypoints))  # JSON's strings are also TOML's
        section = (
            f'[identity]\ncertificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n\n'
            f"[network]\nrallypoints = [{listed}]\n"
        )
    return (
        f"# Made by `ice pki bundle {name}`. Every key that is not here has its default.\n\n"
        f'[authority]\ncertificates = ["pki/authority.pem"]\nrevocations = "pki/revoked.pem"\n\n{section}'
    )


def pack(folder: Path, name: str, rallypoints: Sequence[str]) -> Bundle:
    """Everything that the holder of ``NAME`` needs, from ``pki/``.

    All authorities believed here go into its one ``pki/authority.pem``.

    :raises FileTrouble: a file is missing or damaged, or the key does not belong to the certificate.
    """
    certificates = read_certificates(certificate_file(folder, check_name(name)))
    key = read_file(key_file(folder, name), "a PEM private key")
    if not keys_match(certificates[0], parse_private_key(key, str(key_file(folder, name)))):
        raise FileTrouble(
            f"{key_file(folder, name)}: does not belong to {certificate_file(folder, name)}; type: ice pki renew {name}"
        )
    role, _ = role_and_id(certificates[0])
    members = {
        "ice.toml": configuration(name, role, rallypoints).encode(),
        "pki/authority.pem": certificate_pem(read_authorities(authority_files(folder))),
        f"pki/{name}.pem": certificate_pem(certificates),
        f"pki/{name}.key": key,
    }
    revoked = revocation_file(folder)
    if revoked.exists():
        data = read_file(revoked, "a PEM revocation list")
        parse_revocations(data, str(revoked))
        members["pki/revoked.pem"] = data
    return Bundle(name=name, members=members)


def to_bytes(bundle: Bundle, passphrase: bytes | None = None, cost: int | None = None) -> bytes:
    """The file's bytes, encrypted if there is a passphrase; ``cost`` is log2 N of scrypt, `COST` if None."""
    cost = COST if cost is None else cost
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in bundle.members.items():
            member = zipfile.ZipInfo(path, _EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (KEY_MODE if path.endswith(".key") else PUBLIC_MODE) << 16
            archive.writestr(member, data)
    packed = buffer.getvalue()
    if passphrase is None:
        return packed
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    header = MAGIC + bytes([cost]) + salt + nonce
    return header + AESGCM(_derive(passphrase, salt, cost)).encrypt(nonce, packed, header)


def is_encrypted(data: bytes) -> bool:
    """Whether a bundle asks for a passphrase."""
    return data.startswith(MAGIC)


def from_bytes(data: bytes, passphrase: bytes | None = None) -> Bundle:
    """Read a bundle, and check that what is in it fits together.

    :raises BadBundle: whatever is wrong with it; nothing was written.
    :raises LocalError: it is encrypted, and there is no passphrase.
    """
    if len(data) > MAX_BUNDLE:
        raise BadBundle(f"expected a bundle of at most {MAX_BUNDLE} bytes, got more")
    if is_encrypted(data):
        if passphrase is None:
            raise LocalError("this bundle is encrypted; give its passphrase with --passphrase-file")
        data = _decrypt(data, passphrase)
    members = _unzip(data)
    return _checked(members)


def write_bundle(path: Path, bundle: Bundle, passphrase: bytes | None = None, replace: bool = False) -> None:
    """Write a bundle to a file of mode 0600: it holds a key, encrypted or not.

    :raises AlreadyThere: the file exists, and ``replace`` is false.
    """
    write([Draft(path, to_bytes(bundle, passphrase), KEY_MODE)], replace=replace)


def unpack(bundle: Bundle, into: Path, replace: bool = False) -> list[Path]:
    """Write a bundle's members below a folder: keys 0600, the folders 0700 where we make them.

    :returns: what was written.
    :raises AlreadyThere: one of them exists, and ``replace`` is false; nothing was written.
    """
    make_folder(into)
    make_folder(into / "pki")
    drafts = [
        Draft(into / path, data, KEY_MODE if path.endswith(".key") else PUBLIC_MODE)
        for path, data in bundle.members.items()
    ]
    write(drafts, replace=replace)
    return [draft.path for draft in drafts]


def _derive(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << cost, r=8, p=1).derive(passphrase)


def _decrypt(data: bytes, passphrase: bytes) -> bytes:
    body = len(MAGIC) + 1 + _SALT + _NONCE
    if len(data) < body + 16:
        raise BadBundle(f"the bundle ends after {len(data)} bytes, within its header: fetch it again")
    cost = data[len(MAGIC)]
    if not MIN_COST <= cost <= MAX_COST:
        raise BadBundle(
            f"the bundle asks for scrypt with N = 2^{cost}: expected 2^{MIN_COST} to 2^{MAX_COST}"
        )
    salt, nonce = data[len(MAGIC) + 1 : body - _NONCE], data[body - _NONCE : body]
    try:
        return AESGCM(_derive(passphrase, salt, cost)).decrypt(nonce, data[body:], data[:body])
    except InvalidTag:
        raise BadBundle("the passphrase does not open this bundle, or the bundle is damaged") from None


def _unzip(data: bytes) -> dict[str, bytes]:
    """Members by path, all bounded and allowed.

    The sizes that the archive claims are believed by nobody: each member is read up to the bound and one byte more.
    """
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            listed = archive.infolist()
            if len(listed) > MAX_MEMBERS:
                raise BadBundle(f"the bundle holds {len(listed)} files: at most {MAX_MEMBERS} are expected")
            for member in listed:
                path = member.filename
                if not ALLOWED.fullmatch(path):
                    raise BadBundle(
                        f"the bundle holds {path[:100]!a}, which no bundle has: nothing was unpacked"
                    )
                if path in members:
                    raise BadBundle(f"the bundle holds {path!a} twice")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise BadBundle(f"{path!a} is packed in a way that no bundle is")
                with archive.open(member) as file:
                    content = file.read(MAX_MEMBER + 1)
                if len(content) > MAX_MEMBER:
                    raise BadBundle(f"{path!a} is larger than {MAX_MEMBER} bytes")
                members[path] = content
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        RuntimeError,  # encrypted members, and packings that zipfile does not know
        EOFError,
        OSError,
        ValueError,
    ) as error:
        raise BadBundle(f"this is no bundle, or it is damaged: {str(error)[:100]!a}") from None
    return members


def _checked(members: dict[str, bytes]) -> Bundle:
    """The bundle of these members, if there is one name, its key fits, and an authority is there."""
    names = sorted(path[4:-4] for path in members if path.endswith(".key"))
    if len(names) != 1:
        raise BadBundle(f"expected one key in the bundle, found {len(names)}")
    name = names[0]
    try:
        check_name(name)
        for path in ("ice.toml", "pki/authority.pem", f"pki/{name}.pem"):
            if path not in members:
                raise BadBundle(f"the bundle holds no {path}")
        expected = {"ice.toml", "pki/authority.pem", "pki/revoked.pem", f"pki/{name}.pem", f"pki/{name}.key"}
        if extra := sorted(set(members) - expected):
            raise BadBundle(f"the bundle holds {extra[0]!a}, which does not belong to {name}")
        leaf = parse_certificates(members[f"pki/{name}.pem"], f"pki/{name}.pem")[0]
        parse_certificates(members["pki/authority.pem"], "pki/authority.pem")
        if "pki/revoked.pem" in members:
            parse_revocations(members["pki/revoked.pem"], "pki/revoked.pem")
        if not keys_match(leaf, parse_private_key(members[f"pki/{name}.key"], f"pki/{name}.key")):
            raise BadBundle("the key in the bundle does not belong to its certificate")
        members["ice.toml"].decode("utf-8")
    except LocalError as error:
        raise BadBundle(f"in the bundle: {error}") from None
    except UnicodeDecodeError:
        raise BadBundle("in the bundle: ice.toml is not UTF-8 text") from None
    return Bundle(name=name, members=members)
