"""Addresses: what is read, what is refused, and that writing and reading agree."""

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.net.addresses import MAX_TEXT, SHOWN, Address, AddressError, format_address, parse_address

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9](\.[a-z][a-z0-9]{1,10}){0,3}", fullmatch=True)
HOSTS = st.one_of(
    NAMES,
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)


class Reading(SynchronousTestCase):
    def test_forms(self) -> None:
        """Names, IPv4, IPv6 in brackets and with a zone are read, and written back in one canonical form."""
        for text, host, port, written in [
            ("localhost:7443", "localhost", 7443, "localhost:7443"),
            ("relay-1.example.org:1", "relay-1.example.org", 1, "relay-1.example.org:1"),
            ("Voice.Example.ORG:1", "voice.example.org", 1, "voice.example.org:1"),
            ("example.org.:1", "example.org.", 1, "example.org.:1"),
            ("192.0.2.1:65535", "192.0.2.1", 65535, "192.0.2.1:65535"),
            ("192.0.2.1:00080", "192.0.2.1", 80, "192.0.2.1:80"),
            ("[::1]:7443", "::1", 7443, "[::1]:7443"),
            ("[2001:DB8::1]:7443", "2001:db8::1", 7443, "[2001:db8::1]:7443"),
            ("[2001:DB8:0:0::7]:7443", "2001:db8::7", 7443, "[2001:db8::7]:7443"),
            ("[fe80::1%eth0]:7443", "fe80::1%eth0", 7443, "[fe80::1%eth0]:7443"),
            ("0.0.0.0:7443", "0.0.0.0", 7443, "0.0.0.0:7443"),
            ("_ice._tcp.example:7443", "_ice._tcp.example", 7443, "_ice._tcp.example:7443"),
        ]:
            address = parse_address(text)
            self.assertEqual((address.host, address.port, str(address)), (host, port, written))

    def test_default_port(self) -> None:
        """Without a port the default stands in, and only then is bare IPv6 read."""
        self.assertEqual(parse_address("localhost", 7443), Address("localhost", 7443))
        self.assertEqual(parse_address("::1", 7443), Address("::1", 7443))
        self.assertEqual(parse_address("[::1]", 7443), Address("::1", 7443))
        self.assertEqual(parse_address("localhost:1", 7443), Address("localhost", 1))

    def test_refused(self) -> None:
        """Each mistake has its own sentence, which says what to write."""
        four = "is not an IPv4 address: expected four numbers of 0–255, without leading zeros"
        name = "is not a host name: expected letters, digits, - and dots (write other alphabets in their xn-- form)"
        for text, said in [
            ("", 'a port is missing: write "localhost:7443"'),
            ("localhost", 'a port is missing: write "localhost:7443"'),
            ("[::1]", 'a port is missing: write "[::1]:7443"'),
            ("localhost:", 'port "" is not a number in 1–65535'),
            ("localhost:http", 'port "http" is not a number in 1–65535'),
            ("localhost:-1", 'port "-1" is not a number in 1–65535'),
            ("localhost: 7443", 'port " 7443" is not a number in 1–65535'),
            ("localhost:٣", 'port "٣" is not a number in 1–65535'),
            ("localhost:0", "port 0 is not in 1–65535"),
            ("localhost:74430", "port 74430 is not in 1–65535"),
            ("localhost:" + "9" * 200, 'port "' + "9" * 39 + '…" is not a number in 1–65535'),
            (
                ":7443",
                (
                    'a host is missing before the colon: write "127.0.0.1:7443" for this machine alone, '
                    '"0.0.0.0:7443" for each of its addresses'
                ),
            ),
            ("::1:7443", 'an IPv6 address is written in brackets, "[::1]:7443"; found "::1:7443"'),
            ("127.1:7443", f"127.1 {four}"),
            ("10.0.0.256:7443", f"10.0.0.256 {four}"),
            ("010.0.0.1:7443", f"010.0.0.1 {four}"),
            ("[::1:7443", 'expected "[address]:port", found "[::1:7443"'),
            ("[::1]7443", 'expected "[address]:port", found "[::1]7443"'),
            ("[]:7443", 'expected "[address]:port", found "[]:7443"'),
            ("[127.0.0.1]:7443", '127.0.0.1 in brackets is not an IPv6 address: write "127.0.0.1:7443"'),
            ("[host]:1", 'host in brackets is not an IPv6 address: write "host:1"'),
            ("[:::1]:7443", ":::1 in brackets is not an IPv6 address"),
            ("[fe80::1%]:7443", "fe80::1% in brackets is not an IPv6 address"),
            ("[fe80::1%a;b]:7443", "fe80::1%a;b in brackets is not an IPv6 address"),
            ("[fe80::1%\x1b[2J]:7443", "fe80::1%�[2J in brackets is not an IPv6 address"),
            ("a b:7443", f'"a b" {name}'),
            ("-a:7443", f'"-a" {name}'),
            ("a..b:7443", f'"a..b" {name}'),
            ("münchen.example:7443", f'"münchen.example" {name}'),
            ("a\x1b[2J:7443", f'"a�[2J" {name}'),
            ("a" * 64 + ":7443", '"' + "a" * 39 + f'…" {name}'),
            (".".join(["a" * 60] * 5) + ":1", '"' + "a" * 39 + f'…" {name}'),
            ("tls://a:1", 'expected host:port, found "tls://a:1": leave out tls://'),
            (
                "https://localhost:7443/",
                'expected host:port, found "https://localhost:7443/": leave out https://',
            ),
            (
                "a" * (MAX_TEXT + 1),
                f"an address of {MAX_TEXT + 1} characters: expected host:port, at most {MAX_TEXT}",
            ),
        ]:
            with self.assertRaises(AddressError, msg=text) as caught:
                parse_address(text)
            self.assertEqual(str(caught.exception), said)
            self.assertIsInstance(caught.exception, LocalError)

    def test_refused_with_default_port(self) -> None:
        """A default port makes up for neither a missing host nor missing brackets around what is no address."""
        for text, said in [
            ("", 'a host is missing: write "localhost:7443", or the name of another machine'),
            ("1::2::3", 'an IPv6 address is written in brackets, "[::1]:7443"; found "1::2::3"'),
            ("localhost:", 'port "" is not a number in 1–65535'),
        ]:
            with self.assertRaises(AddressError, msg=text) as caught:
                parse_address(text, 7443)
            self.assertEqual(str(caught.exception), said)

    def test_any_port(self) -> None:
        """Port 0 is read only where the caller lets the system choose."""
        self.assertEqual(parse_address("127.0.0.1:0", any_port=True).port, 0)
        with self.assertRaises(AddressError) as caught:
            parse_address("127.0.0.1:65536", any_port=True)
        self.assertEqual(str(caught.exception), "port 65536 is not in 0–65535")

    def test_order(self) -> None:
        """Addresses are sorted by host, then by port as a number."""
        texts = ["b.example:1", "a.example:100", "a.example:20"]
        self.assertEqual(
            [str(each) for each in sorted(map(parse_address, texts))],
            ["a.example:20", "a.example:100", "b.example:1"],
        )

    @given(HOSTS, st.integers(1, 65535))
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, host: str, port: int) -> None:
        """What is written is read back as it was."""
        self.assertEqual(parse_address(format_address(host, port)), Address(host, port))

    @given(
        st.text(max_size=400) | st.from_regex(r"\[?[a-f0-9.:%]{0,20}\]?:[0-9]{0,6}", fullmatch=True),
        st.sampled_from([None, 7443]),
    )
    @settings(max_examples=300, deadline=None)
    def test_any_text(self, text: str, default_port: int | None) -> None:
        """Any text is either an address that reads back the same, or an AddressError of a few printable words."""
        try:
            address = parse_address(text, default_port)
        except AddressError as error:
            self.assertLess(len(str(error)), 120 + 2 * SHOWN)
            self.assertTrue(str(error).isprintable(), str(error))
            return
        self.assertEqual(parse_address(str(address)), address)
        self.assertTrue(str(address).isprintable(), str(address))


class Asking(SynchronousTestCase):
    def test_loopback(self) -> None:
        """Loopback is 127.0.0.0/8, ::1, its mapped form, and localhost names."""
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "localhost",
            "LocalHost",
            "a.localhost",
        ]:
            self.assertTrue(Address(host, 1).is_loopback, host)
        for host in ["0.0.0.0", "::", "192.0.2.1", "localhost.example.org", "notlocalhost"]:
            self.assertFalse(Address(host, 1).is_loopback, host)

    def test_wildcard(self) -> None:
        """Only the unspecified addresses mean every address."""
        self.assertTrue(Address("0.0.0.0", 1).is_wildcard)
        self.assertTrue(Address("::", 1).is_wildcard)
        self.assertFalse(Address("::1", 1).is_wildcard)
        self.assertFalse(Address("localhost", 1).is_wildcard)

    def test_ip(self) -> None:
        """A name has no IP address; a number has."""
        self.assertIsNone(Address("localhost", 1).ip)
        self.assertEqual(Address("::1", 1).ip, ipaddress.ip_address("::1"))
        self.assertTrue(Address("::1", 1).is_ipv6)
        self.assertFalse(Address("127.0.0.1", 1).is_ipv6)
