"""Which key seals and which may open, hour by hour."""

from datetime import UTC, datetime
from random import Random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.security.keyring import Change, Keyring, KeyringOpener, KeyringSealer
from ice.security.traffic import Cipher, Refused, TrafficKey, derive

STREAM = "6c1f8d1e-0a51-5f0f-9c0b-3a8b6a5d2f10"
OLD, NEW, FOREIGN = (TrafficKey(bytes([n]) * 32) for n in range(3))
AT = 1_760_000_000.0
OVERLAP_S = 3_600.0
PAYLOAD = b"\x80\x60" + bytes(30)
HOURS = {"before": AT - 60, "at": AT, "within": AT + 1_800, "end": AT + 3_600, "after": AT + 3_601}


def ring(cipher: Cipher = Cipher.GCM) -> Keyring:
    return Keyring(cipher, OLD, Change(NEW, AT, OVERLAP_S))


def sealed_with(key: TrafficKey, at: float, cipher: Cipher = Cipher.GCM) -> bytes:
    return KeyringSealer(Keyring(cipher, key), STREAM, random_bytes=Random(3).randbytes).seal(PAYLOAD, at)


@attrs.frozen
class Rekey:
    """As a mission says it."""

    crypto_password: str
    at: datetime
    overlap_s: float


class Rings(SynchronousTestCase):
    def test_without_change(self) -> None:
        """One key, always."""
        keyring = Keyring(Cipher.CBC, OLD)
        for at in HOURS.values():
            self.assertIs(keyring.sealing(at), OLD)
            self.assertEqual(keyring.opening(at), (OLD,))
            self.assertIsNone(keyring.expired(at))

    def test_change(self) -> None:
        """Both open from now until at + overlap; the old one seals until at, the new one from then."""
        told = {
            name: (ring().sealing(at), ring().opening(at), ring().expired(at)) for name, at in HOURS.items()
        }
        self.assertEqual(
            told,
            {
                "before": (OLD, (OLD, NEW), None),
                "at": (NEW, (NEW, OLD), None),
                "within": (NEW, (NEW, OLD), None),
                "end": (NEW, (NEW, OLD), None),
                "after": (NEW, (NEW,), OLD),
            },
        )

    def test_from_a_mission(self) -> None:
        """Passwords, a cipher by name, a salt, a time with its zone."""
        when = datetime.fromtimestamp(AT, UTC)
        keyring = Keyring.of("aa" * 32, "aes-256-gcm", salt=bytes(16), rekey=Rekey("bb" * 32, when, 60.0))
        change = Change(derive("bb" * 32, bytes(16)), AT, 60.0)
        self.assertEqual(keyring, Keyring(Cipher.GCM, derive("aa" * 32, bytes(16)), change))
        self.assertNotIn("aa" * 8, repr(keyring))

    def test_what_no_mission_may_say(self) -> None:
        """An unknown cipher, a time without a zone, a negative overlap, a word for a password."""
        error = self.assertRaises(LocalError, Keyring.of, "aa" * 32, "rot13")
        self.assertIn("aes-256-cbc, aes-256-gcm", str(error))
        naive = Rekey("bb" * 32, datetime(2026, 1, 1), 60.0)
        self.assertRaises(LocalError, Keyring.of, "aa" * 32, "aes-256-cbc", rekey=naive)
        self.assertRaises(LocalError, Keyring.of, "secret", "aes-256-cbc")
        self.assertRaises(ValueError, Change, NEW, AT, -1.0)


class Overlap(SynchronousTestCase):
    def test_who_opens_what(self) -> None:
        """A member with the change opens old and new as the contract has it; what is too late is named."""
        for cipher in Cipher:
            for name, at in HOURS.items():
                opener = KeyringOpener(ring(cipher), STREAM)
                self.assertEqual(opener.open(sealed_with(NEW, at, cipher), at), PAYLOAD, name)
                expected = Refused.OLD_KEY if name == "after" else PAYLOAD
                self.assertEqual(opener.open(sealed_with(OLD, at, cipher), at), expected, name)
                wrong = opener.open(sealed_with(FOREIGN, at, cipher), at)
                self.assertIn(wrong, {Refused.TAG, Refused.PADDING, Refused.IMPLAUSIBLE})
                self.assertEqual(opener.opened + opener.refused.total(), 3)

    @given(st.lists(st.floats(-7_200, 7_200), min_size=1, max_size=12), st.floats(-600, 600))
    @settings(max_examples=60, deadline=None)
    def test_members_with_the_change_always_hear_each_other(self, times: list[float], skew: float) -> None:
        """Whatever their clocks differ within the overlap, however they jump, nothing is lost and nothing comes twice."""
        for cipher in Cipher:
            # not os.urandom: under CBC the wrong key, tried first, opens one packet in thousands
            sealer = KeyringSealer(ring(cipher), STREAM, random_bytes=Random(8).randbytes)
            opener = KeyringOpener(ring(cipher), STREAM)
            for offset in times:
                sealed = sealer.seal(PAYLOAD, AT + offset)
                self.assertEqual(opener.open(sealed, AT + offset + skew), PAYLOAD)
                if cipher is Cipher.GCM:
                    self.assertEqual(opener.open(sealed, AT + offset + skew), Refused.REPLAY)

    def test_sealer_changes_at_the_hour(self) -> None:
        """Until the hour those with the old key alone hear, from then those with the new one."""
        sealer = KeyringSealer(ring(), STREAM)
        only_old = KeyringOpener(Keyring(Cipher.GCM, OLD), STREAM)
        only_new = KeyringOpener(Keyring(Cipher.GCM, NEW), STREAM)
        before, after = sealer.seal(PAYLOAD, AT - 0.01), sealer.seal(PAYLOAD, AT)
        self.assertEqual([only_old.open(before, AT), only_old.open(after, AT)], [PAYLOAD, Refused.TAG])
        self.assertEqual([only_new.open(before, AT), only_new.open(after, AT)], [Refused.TAG, PAYLOAD])

    def test_replays_of_the_old_key(self) -> None:
        """What was heard under the old key stays heard through the change."""
        opener = KeyringOpener(ring(), STREAM)
        sealed = sealed_with(OLD, AT - 10)
        self.assertEqual(opener.open(sealed, AT - 9), PAYLOAD)
        self.assertEqual(opener.open(sealed, AT + 9), Refused.REPLAY)
        self.assertEqual(opener.open(sealed, AT + 3_700), Refused.OLD_KEY)

    def test_other_cipher_of_any_key(self) -> None:
        """A mismatch is named whichever of the keys it was sealed with."""
        for key in (OLD, NEW):
            for cipher, other in ((Cipher.GCM, Cipher.CBC), (Cipher.CBC, Cipher.GCM)):
                opener = KeyringOpener(ring(cipher), STREAM)
                self.assertEqual(opener.open(sealed_with(key, AT, other), AT), Refused.MISMATCH)

    def test_counted_once(self) -> None:
        """Two keys are tried; one packet is one count."""
        opener = KeyringOpener(ring(), STREAM)
        opener.open(sealed_with(FOREIGN, AT), AT)
        opener.open(b"", AT)
        self.assertEqual(opener.refused, {Refused.TAG: 1, Refused.TOO_SHORT: 1})

    def test_authenticated(self) -> None:
        """Under GCM only."""
        self.assertTrue(KeyringOpener(ring(), STREAM).authenticated)
        self.assertFalse(KeyringOpener(ring(Cipher.CBC), STREAM).authenticated)


class Renewal(SynchronousTestCase):
    """A new mission is read while people talk."""

    def test_a_key_that_stays_keeps_its_windows(self) -> None:
        """The change is announced, and later the new key is the only one: nothing can be played again."""
        opener = KeyringOpener(Keyring(Cipher.GCM, OLD), STREAM)
        first = sealed_with(OLD, AT - 99)
        opener.open(first, AT - 99)
        opener.keyring = ring()
        second = sealed_with(NEW, AT)
        self.assertEqual(opener.open(first, AT), Refused.REPLAY)
        self.assertEqual(opener.open(second, AT), PAYLOAD)
        opener.keyring = Keyring(Cipher.GCM, NEW)
        self.assertEqual(opener.open(second, AT), Refused.REPLAY)
        self.assertEqual(opener.open(first, AT), Refused.TAG)
        self.assertEqual(opener.opened, 2)

    def test_a_senders_start_goes_on(self) -> None:
        """Under a key that stays, also where the mission was read anew; under another one it begins anew."""
        sealer = KeyringSealer(Keyring(Cipher.GCM, OLD), STREAM)
        first = sealer.seal(PAYLOAD, AT - 9)
        sealer.keyring = Keyring(Cipher.GCM, TrafficKey(b"\0" * 32), Change(NEW, AT, 60.0))
        second, third = sealer.seal(PAYLOAD, AT - 8), sealer.seal(PAYLOAD, AT)
        self.assertEqual((second[:8], second[8:14]), (first[:8], bytes(5) + b"\1"))
        self.assertNotEqual(third[:8], first[:8])

    def test_another_cipher(self) -> None:
        """Both directions take it at once."""
        sealer, opener = KeyringSealer(ring(), STREAM), KeyringOpener(ring(), STREAM)
        for cipher in (Cipher.GCM, Cipher.CBC, Cipher.GCM):
            sealer.keyring = opener.keyring = ring(cipher)
            sealed = sealer.seal(PAYLOAD, AT)
            self.assertEqual(len(sealed), 62 if cipher is Cipher.GCM else 64)
            self.assertEqual(opener.open(sealed, AT), PAYLOAD)
