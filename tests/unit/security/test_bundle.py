"""Bundles: everything in one file, and nothing that comes in one is believed."""

from __future__ import annotations

import io
import os
import stat
import tomllib
import warnings
import zipfile
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import IceError, LocalError
from ice.security import bundle as bundles
from ice.security.authority import Authority, trust
from ice.security.bundle import BadBundle, Bundle, from_bytes, pack, to_bytes, unpack, write_bundle
from ice.security.certificates import FileTrouble, Role, read_authorities
from ice.security.files import AlreadyThere
from ice.security.trust import Credentials, Trust

from .wire import NOW, alice, ca, new_ca

CHEAP = bundles.MIN_COST  # of scrypt, so that tests take milliseconds


@cache
def members() -> dict[str, bytes]:
    """A good bundle's content, made in memory."""
    from ice.security import minting

    return {
        "ice.toml": bundles.configuration("alice", Role.CLIENT, ["rally.example.org:7443"]).encode(),
        "pki/authority.pem": minting.certificate_pem(ca().certificate),
        "pki/alice.pem": minting.certificate_pem(alice().certificate),
        "pki/alice.key": minting.key_pem(alice().key),
        "pki/revoked.pem": minting.list_pem([ca().revoking()]),
    }


def zipped(content: dict[str, bytes] | list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of anything."""
    buffer = io.BytesIO()
    pairs = content if isinstance(content, list) else list(content.items())
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # of two members of one name, which is the point
        for path, data in pairs:
            archive.writestr(path, data)
    return buffer.getvalue()


class RoundTrip(SynchronousTestCase):
    """Packing here, unpacking there."""

    def setUp(self) -> None:
        self.base = Path(self.mktemp())
        self.pki = self.base / "pki"
        self.authority = Authority.create(self.pki, NOW)
        self.authority.issue("alice", Role.CLIENT, NOW)
        self.there = self.base / "there"

    def carry(self, name: str = "alice", passphrase: bytes | None = None) -> Bundle:
        return from_bytes(to_bytes(pack(self.pki, name, ["r:7443"]), passphrase, CHEAP), passphrase)

    def test_usable_there(self) -> None:
        """What is unpacked links: a pair that fits, trusted authorities, and a configuration that names them."""
        unpack(self.carry(), self.there)
        settings_there = tomllib.loads((self.there / "ice.toml").read_text())
        self.assertEqual(settings_there["network"]["rallypoints"], ["r:7443"])
        identity = settings_there["identity"]
        pair = Credentials.read(self.there / identity["certificate"], self.there / identity["key"])
        chosen = settings_there["authority"]
        believed = Trust.read(
            [self.there / each for each in chosen["certificates"]], self.there / chosen["revocations"], NOW
        )
        self.assertIsNone(believed.refuses(pair.certificate, NOW))

    def test_configuration_is_ours(self) -> None:
        """The ice.toml of every role is one that ice reads without a complaint."""
        from ice.config.load import loads

        for role in Role:
            text = bundles.configuration("x", role, ['r"\\:7443', "[2001:db8::7]:7443"][1:])
            loaded = loads(text, self.base / "ice.toml")
            self.assertEqual(
                loaded.config.authority.certificates, ((self.base / "pki/authority.pem").absolute(),)
            )

    def test_modes(self) -> None:
        """The bundle and the key in it are 0600, the folder with the key 0700."""
        path = self.base / "alice.ice-bundle"
        write_bundle(path, self.carry())
        unpack(self.carry(), self.there)
        for each, mode in ((path, 0o600), (self.there / "pki/alice.key", 0o600), (self.there / "pki", 0o700)):
            self.assertEqual(stat.S_IMODE(each.stat().st_mode), mode, each)

    def test_the_authority_key_stays_home(self) -> None:
        """No bundle carries the authority's key, nor anybody else's."""
        self.authority.issue("bob", Role.CLIENT, NOW)
        self.assertEqual([path for path in self.carry().members if path.endswith(".key")], ["pki/alice.key"])
        self.assertRaises(LocalError, pack, self.pki, "authority", [])

    def test_both_authorities_in_a_roll_over(self) -> None:
        """Every authority believed here is believed there."""
        other = Authority.create(self.base / "next", NOW)
        trust(self.pki, other.folder / "authority.pem")
        unpack(self.carry(), self.there)
        self.assertEqual(
            set(read_authorities([self.there / "pki/authority.pem"])),
            {self.authority.certificate, other.certificate},
        )

    def test_rallypoint(self) -> None:
        """A Rallypoint's bundle configures a Rallypoint, on loopback until somebody says where."""
        self.authority.issue("rally", Role.RALLYPOINT, NOW, dns=("rally.example.org",))
        table = tomllib.loads(self.carry("rally").members["ice.toml"].decode())["rallypoint"]
        self.assertEqual((table["certificate"], table["listen"]), ("pki/rally.pem", ["127.0.0.1:7443"]))

    def test_encrypted(self) -> None:
        """With a passphrase the key cannot be seen, and only the passphrase opens it."""
        data = to_bytes(pack(self.pki, "alice", []), b"secret", CHEAP)
        self.assertTrue(bundles.is_encrypted(data))
        self.assertNotIn(b"PK\x03\x04", data)
        self.assertEqual(from_bytes(data, b"secret").name, "alice")
        self.assertIn(
            "passphrase does not open", str(self.assertRaises(BadBundle, from_bytes, data, b"Secret"))
        )
        self.assertIn("--passphrase-file", str(self.assertRaises(LocalError, from_bytes, data)))

    def test_fresh_salt_each_time(self) -> None:
        """The same content with the same passphrase is never the same file."""
        content = pack(self.pki, "alice", [])
        self.assertNotEqual(to_bytes(content, b"s", CHEAP)[:60], to_bytes(content, b"s", CHEAP)[:60])

    def test_every_byte_is_sealed(self) -> None:
        """An encrypted bundle with any byte of header, salt, nonce, or the ciphertext's ends changed does not open."""
        data = to_bytes(Bundle("alice", members()), b"s", CHEAP)
        header = len(bundles.MAGIC) + 1 + 16 + 12
        for position in [len(bundles.MAGIC), len(bundles.MAGIC) + 1, header - 1, header, len(data) - 1]:
            changed = bytearray(data)
            changed[position] ^= 1
            self.assertRaises(BadBundle, from_bytes, bytes(changed), b"s")

    def test_no_overwriting(self) -> None:
        """What is there stays, and nothing at all is unpacked."""
        (self.there / "pki").mkdir(parents=True)
        (self.there / "pki/authority.pem").write_bytes(b"precious")
        self.assertRaises(AlreadyThere, unpack, self.carry(), self.there)
        self.assertEqual(sorted(os.listdir(self.there)), ["pki"])
        self.assertEqual((self.there / "pki/authority.pem").read_bytes(), b"precious")
        unpack(self.carry(), self.there, replace=True)

    def test_missing_or_mixed(self) -> None:
        """Nobody, or a key of somebody else, is not packed."""
        self.assertRaises(FileTrouble, pack, self.pki, "bob", [])
        self.authority.issue("bob", Role.CLIENT, NOW)
        (self.pki / "bob.key").write_bytes((self.pki / "alice.key").read_bytes())
        self.assertIn("does not belong", str(self.assertRaises(FileTrouble, pack, self.pki, "bob", [])))

    def test_secrets_are_not_shown(self) -> None:
        """A bundle's repr holds no key."""
        self.assertNotIn("PRIVATE", repr(self.carry()))


class Hostile(SynchronousTestCase):
    """Bundles from somebody who means harm."""

    def refused(self, data: bytes, told: str, passphrase: bytes | None = None) -> None:
        self.assertIn(told, str(self.assertRaises(BadBundle, from_bytes, data, passphrase)))

    def test_good_one(self) -> None:
        """The content that the others spoil is good."""
        self.assertEqual(from_bytes(zipped(members())).members, members())

    def test_paths(self) -> None:
        """Any path but those of a bundle refuses it whole: up, absolute, elsewhere, hidden, a folder, another case."""
        for path in (
            "../evil", "pki/../../evil.pem", "/etc/passwd", "pki\\..\\evil.pem", "C:evil", "pki/.hidden.pem", "pki/a/b.pem",
            "pki/", "evil", "ICE.TOML", "pki/x.sh", "pki/alice.pem\x00.sh", "pki/-rf.pem", "./ice.toml", "pki//alice.pem",
        ):  # fmt: skip
            self.refused(zipped({**members(), path: b"evil"}), "holds")

    def test_bomb(self) -> None:
        """A member that unpacks to more than its bound is refused after reading the bound, whatever size it claims."""
        self.refused(zipped({**members(), "pki/bomb.pem": bytes(50 << 20)}), "larger than")

    def test_lying_size(self) -> None:
        """A size that the archive claims is not believed."""
        data = bytearray(zipped({"ice.toml": bytes(3 << 20)}))
        central = data.rindex(b"PK\x01\x02")
        data[central + 24 : central + 28] = (10).to_bytes(4, "little")
        self.assertRaises(BadBundle, from_bytes, bytes(data))

    def test_too_large_or_too_many(self) -> None:
        """The file, and the number of members, are bounded."""
        self.refused(bytes((1 << 20) + 1), "at most")
        self.refused(zipped({f"pki/a{n}.pem": b"" for n in range(5000)}), "at most 16")

    def test_twice(self) -> None:
        """Two members of one name are refused: which one counts is anybody's guess."""
        self.refused(zipped([*members().items(), ("ice.toml", b"evil")]), "twice")

    def test_other_packing(self) -> None:
        """Only the two methods that we write are read."""
        self.refused(zipped(members(), zipfile.ZIP_LZMA), "packed in a way")
        self.refused(zipped(members(), zipfile.ZIP_BZIP2), "packed in a way")

    def test_incomplete(self) -> None:
        """A bundle without its configuration, authority, certificate or key is none."""
        for path in ("ice.toml", "pki/authority.pem", "pki/alice.pem", "pki/alice.key"):
            self.assertRaises(
                BadBundle, from_bytes, zipped({k: v for k, v in members().items() if k != path})
            )

    def test_mixed(self) -> None:
        """A key that does not fit, a second key, somebody else's certificate, a broken list, a binary configuration."""
        from ice.security import minting

        other = minting.key_pem(new_ca().key)
        self.refused(zipped({**members(), "pki/alice.key": other}), "does not belong")
        self.refused(zipped({**members(), "pki/bob.key": other}), "found 2")
        self.refused(zipped({**members(), "pki/bob.pem": b"x"}), "does not belong to alice")
        self.refused(zipped({**members(), "pki/revoked.pem": b"x"}), "revocation list")
        self.refused(zipped({**members(), "ice.toml": b"\xff"}), "UTF-8")

    def test_costly(self) -> None:
        """A bundle cannot ask for more memory than we would give, nor be cheaper to guess at than we allow."""
        data = bytearray(to_bytes(Bundle("alice", members()), b"s", CHEAP))
        for cost in (0, 13, 19, 31, 255):
            data[len(bundles.MAGIC)] = cost
            self.refused(bytes(data), "scrypt", b"s")

    def test_every_truncation(self) -> None:
        """A bundle that ends early is BadBundle, plain or encrypted; a few hundred cuts, each byte of the header among them."""
        plain, sealed = zipped(members()), to_bytes(Bundle("alice", members()), b"s", CHEAP)
        for length in [*range(64), *range(64, len(plain), 17)]:
            self.assertRaises(BadBundle, from_bytes, plain[:length])
        for length in range(len(bundles.MAGIC), len(bundles.MAGIC) + 1 + 16 + 12 + 16):
            self.assertRaises(BadBundle, from_bytes, sealed[:length], b"s")

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6))
    def test_bytes_changed(self, changes: list[tuple[float, int]]) -> None:
        """A bundle with bytes changed is BadBundle or a whole bundle; nothing else is raised."""
        data = bytearray(zipped(members()))
        for position, value in changes:
            data[int(position * len(data))] = value
        try:
            from_bytes(bytes(data))
        except BadBundle as error:
            self.assertTrue(str(error).isprintable())

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=400), st.sampled_from([b"", b"PK\x05\x06", b"PK\x03\x04"]))
    def test_any_bytes(self, data: bytes, before: bytes) -> None:
        """Any bytes are BadBundle, or a bundle that wants a passphrase; nothing else is raised."""
        with self.assertRaises(IceError) as caught:
            from_bytes(before + data)
        self.assertTrue(isinstance(caught.exception, BadBundle) or "encrypted" in str(caught.exception))

    @settings(max_examples=100, deadline=None)
    @given(
        st.text(min_size=1, max_size=40) | st.text("pki/.\\a", max_size=12).map(lambda each: each + ".pem")
    )
    def test_any_path(self, path: str) -> None:
        """Whatever a member is called, nothing is written outside the folder."""
        assume(not path.startswith("\0"))  # zipfile itself cannot write it
        base = Path(mkdtemp(dir=self.mktemp_base()))
        try:
            unpack(from_bytes(zipped({**members(), path: members()["pki/alice.pem"]})), base / "in")
        except BadBundle:
            self.assertFalse((base / "in").exists())
        self.assertLessEqual(set(os.listdir(base)), {"in"})

    def mktemp_base(self) -> str:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        return str(folder)
