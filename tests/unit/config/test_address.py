"""Addresses: what is read, what is refused, and in which words."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.config.address import Address, AddressError
from ice.errors import LocalError


class Reading(SynchronousTestCase):
    def test_forms(self) -> None:
        """A name, an IPv4 address and a bracketed IPv6 address are read, and written back in one canonical form."""
        for text, host, port, written in [
            ("localhost:7443", "localhost", 7443, "localhost:7443"),
            ("Voice.Example.ORG:1", "voice.example.org", 1, "voice.example.org:1"),
            ("192.0.2.7:65535", "192.0.2.7", 65535, "192.0.2.7:65535"),
            ("[::1]:7443", "::1", 7443, "[::1]:7443"),
            ("[2001:DB8:0:0::7]:7443", "2001:db8::7", 7443, "[2001:db8::7]:7443"),
            ("[fe80::1%eth0]:7443", "fe80::1%eth0", 7443, "[fe80::1%eth0]:7443"),
        ]:
            address = Address.parse(text)
            self.assertEqual((address.host, address.port, str(address)), (host, port, written))

    def test_refusals(self) -> None:
        """Each mistake has its own sentence."""
        for text, said in [
            ("a:74430", "port 74430 is not in 1–65535"),
            ("a:0", "port 0 is not in 1–65535"),
            ("a:http", 'port "http" is not a number in 1–65535'),
            ("a:", 'port "" is not a number in 1–65535'),
            ("a:-1", 'port "-1" is not a number in 1–65535'),
            ("a:٣", 'port "٣" is not a number in 1–65535'),
            ("localhost", 'a port is missing: write "localhost:7443"'),
            ("", 'a port is missing: write "localhost:7443"'),
            (
                ":7443",
                (
                    'a host is missing before the colon: write "127.0.0.1:7443" for this machine alone, '
                    '"0.0.0.0:7443" for each of its addresses'
                ),
            ),
            ("::1:7443", 'an IPv6 address is written in brackets, "[::1]:7443"; found "::1:7443"'),
            ("[::1]", 'expected "[address]:port", found "[::1]"'),
            ("[host]:1", "host in brackets is not an IPv6 address"),
            ("tls://a:1", 'expected host:port, found "tls://a:1": leave out tls://'),
            ("10.0.0.256:1", "10.0.0.256 is not an IPv4 address"),
            ("a b:1", 'expected host:port, found "a b:1"'),
            ("-a:1", 'expected host:port, found "-a:1"'),
            ("a..b:1", 'expected host:port, found "a..b:1"'),
            ("a" * 64 + ":1", 'expected host:port, found "' + "a" * 39 + '…"'),
        ]:
            with self.assertRaises(AddressError) as caught:
                Address.parse(text)
            self.assertEqual(str(caught.exception), said)
            self.assertIsInstance(caught.exception, LocalError)

    def test_everywhere(self) -> None:
        """Only the unspecified addresses are every address of a machine."""
        self.assertTrue(Address.parse("0.0.0.0:1").is_everywhere)
        self.assertTrue(Address.parse("[::]:1").is_everywhere)
        self.assertFalse(Address.parse("127.0.0.1:1").is_everywhere)
        self.assertFalse(Address.parse("localhost:1").is_everywhere)

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=80) | st.from_regex(r"\[?[a-f0-9.:%]{0,20}\]?:[0-9]{0,6}", fullmatch=True))
    def test_any_text(self, text: str) -> None:
        """Any text is an address or an AddressError, and what is read survives being written."""
        try:
            address = Address.parse(text)
        except AddressError:
            return
        self.assertEqual(Address.parse(str(address)), address)
