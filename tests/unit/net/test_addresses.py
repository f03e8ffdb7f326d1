"""Addresses: what is read, what is refused, and that writing and reading agree."""

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.net.addresses import MAX_TEXT, Address, format_address, parse_address

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9](\.[a-z][a-z0-9]{1,10}){0,3}", fullmatch=True)
HOSTS = st.one_of(
    NAMES,
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)


class Reading(SynchronousTestCase):
    def test_forms(self) -> None:
        """Names, IPv4, IPv6 in brackets and with a zone are read."""
        for text, host, port in [
            ("localhost:7443", "localhost", 7443),
            ("relay-1.example.org:1", "relay-1.example.org", 1),
            ("192.0.2.1:65535", "192.0.2.1", 65535),
            ("[2001:DB8::1]:7443", "2001:db8::1", 7443),
            ("[fe80::1%eth0]:7443", "fe80::1%eth0", 7443),
            ("0.0.0.0:7443", "0.0.0.0", 7443),
            ("_ice._tcp.example:7443", "_ice._tcp.example", 7443),
        ]:
            self.assertEqual(parse_address(text), Address(host, port), text)

    def test_default_port(self) -> None:
        """Without a port the default stands in, and only then is bare IPv6 read."""
        self.assertEqual(parse_address("localhost", 7443), Address("localhost", 7443))
        self.assertEqual(parse_address("::1", 7443), Address("::1", 7443))
        self.assertEqual(parse_address("[::1]", 7443), Address("::1", 7443))
        self.assertEqual(parse_address("localhost:1", 7443), Address("localhost", 1))

    def test_refused(self) -> None:
        """Each wrong form is refused with a sentence that names what came."""
        for text, why in [
            ("", "no port"),
            ("localhost", "no port"),
            ("localhost:", "not a number"),
            ("localhost:http", "not a number"),
            ("localhost:-1", "not a number"),
            ("localhost: 7443", "not a number"),
            ("localhost:٣", "not a number"),
            ("localhost:0", "not in 1–65535"),
            ("localhost:74430", "not in 1–65535"),
            ("localhost:" + "9" * 200, "not in 1–65535"),
            (":7443", "no host"),
            ("127.1:7443", "not an IPv4"),
            ("10.0.0.256:7443", "not an IPv4"),
            ("010.0.0.1:7443", "not an IPv4"),
            ("[::1:7443", "expected [IPv6"),
            ("[::1]7443", "expected [IPv6"),
            ("[127.0.0.1]:7443", "brackets are for IPv6"),
            ("[:::1]:7443", "not an IPv6"),
            ("a b:7443", "not a host name"),
            ("-a:7443", "not a host name"),
            ("a..b:7443", "not a host name"),
            ("münchen.example:7443", "not a host name"),
            ("http://localhost:7443", "no port"),
            ("a" * 64 + ":7443", "not a host name"),
            (".".join(["a" * 60] * 5) + ":1", "not a host name"),
            ("a" * (MAX_TEXT + 1), "at most"),
        ]:
            with self.assertRaises(LocalError, msg=text) as caught:
                parse_address(text)
            self.assertIn(why, str(caught.exception), text)

    def test_any_port(self) -> None:
        """Port 0 is read only where the caller lets the system choose."""
        self.assertEqual(parse_address("127.0.0.1:0", any_port=True).port, 0)

    @given(HOSTS, st.integers(1, 65535))
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, host: str, port: int) -> None:
        """What is written is read back as it was."""
        self.assertEqual(parse_address(format_address(host, port)), Address(host, port))

    @given(st.text(max_size=60), st.sampled_from([None, 7443]))
    @settings(max_examples=200, deadline=None)
    def test_any_text(self, text: str, default_port: int | None) -> None:
        """Any text is either an address that reads back the same, or a LocalError."""
        try:
            address = parse_address(text, default_port)
        except LocalError:
            return
        self.assertEqual(parse_address(str(address)), address)


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
