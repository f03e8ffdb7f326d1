"""Control bodies: JSON as the protocol page has it, and everything that is not."""

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.link.message import (
    Bye,
    ErrorMessage,
    Hello,
    Join,
    Joined,
    Leave,
    Limits,
    MessageError,
    Welcome,
    decode,
    encode,
    txn_of,
)

KINDS = (Hello, Welcome, Join, Joined, Leave, ErrorMessage, Bye)
text = st.text(max_size=60)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)


class ShapeTests(SynchronousTestCase):
    """What stands on the wire."""

    def test_hello(self) -> None:
        """HELLO with all keys."""
        body = encode(Hello(version=1, role="client", id="u", name="n", agent="a", features=["x"]))
        self.assertEqual(
            body, b'{"version":1,"role":"client","id":"u","name":"n","agent":"a","features":["x"]}'
        )

    def test_welcome(self) -> None:
        """WELCOME says keep-alive, other ways in, and limits."""
        welcome = Welcome(
            version=1, id="u", keepalive=2.5, alternatives=["b:7443"], limits=Limits(media_bytes=9)
        )
        self.assertEqual(
            json.loads(encode(welcome)),
            {
                "version": 1,
                "id": "u",
                "name": "",
                "session": "",
                "keepalive": 2.5,
                "features": [],
                "alternatives": ["b:7443"],
                "limits": {"media_bytes": 9, "joins": 256, "packets_per_s": 0, "bytes_per_s": 0},
            },
        )

    def test_join_defaults(self) -> None:
        """listen and talk are true where they are left out, and a source need not be said."""
        join = decode(Join, b'{"txn":5,"stream":"s"}')
        self.assertEqual((join.listen, join.talk, join.source), (True, True, msgspec.UNSET))
        self.assertEqual(encode(join), b'{"txn":5,"stream":"s"}')

    def test_unknown_keys(self) -> None:
        """A newer far side may say more than we know."""
        self.assertEqual(decode(Leave, b'{"stream":"s","why":{"deep":[1]}}'), Leave("s"))

    def test_fractions(self) -> None:
        """Seconds may have fractions, and may be whole."""
        self.assertEqual(decode(Bye, b'{"code":"draining","retry_after":1}').retry_after, 1.0)
        self.assertEqual(decode(Bye, b'{"code":"draining","retry_after":0.25}').retry_after, 0.25)


class RefusalTests(SynchronousTestCase):
    """What is not a message says so, and where."""

    def refuse(self, kind: type, body: bytes) -> str:
        """The sentence of the refusal."""
        with self.assertRaises(MessageError) as caught:
            decode(kind, body)
        return str(caught.exception)

    def test_words(self) -> None:
        """A refusal names the key and what was expected."""
        self.assertIn("$.txn", self.refuse(Join, b'{"txn":-1,"stream":"s"}'))
        self.assertIn("stream", self.refuse(Join, b'{"txn":1}'))
        self.assertIn("Expected `str`", self.refuse(Join, b'{"txn":1,"stream":7}'))

    def test_bounds(self) -> None:
        """Everything that is kept of a message is bounded."""
        self.refuse(Hello, encode(Hello(version=1, role="client", id="x" * 65)))
        self.refuse(Hello, encode(Hello(version=1, role="client", id="x", name="n" * 257)))
        self.refuse(Hello, encode(Hello(version=1, role="client", id="x", features=["f"] * 65)))
        self.refuse(Join, b'{"txn":4294967296,"stream":"s"}')
        self.refuse(Bye, b'{"code":"x","retry_after":-1}')
        self.refuse(Bye, b'{"code":"x","retry_after":1e300}')
        self.refuse(Joined, b'{"txn":1,"stream":"s","key":"0123"}')
        self.refuse(Welcome, b'{"version":1,"id":"u","keepalive":0}')

    def test_truncations(self) -> None:
        """A body cut at any byte is refused."""
        for message in (Hello(version=1, role="client", id="u"), Join(txn=1, stream="s"), Bye(code="idle")):
            body = encode(message)
            for cut in range(len(body)):
                self.refuse(type(message), body[:cut])

    def test_depth(self) -> None:
        """JSON that is nested a thousand deep, also where it would be ignored, is a refusal and not a crash."""
        for body in (
            b"[" * 16_000,
            b'{"x":' * 3_000,
            b'{"txn":1,"stream":"s","x":' + b"[" * 8_000 + b"]" * 8_000 + b"}",
        ):
            self.refuse(Join, body)

    def test_not_utf8(self) -> None:
        """Bytes that are not UTF-8 are refused, and so are lone surrogates."""
        self.refuse(Join, b'{"txn":1,"stream":"\xff\xfe"}')
        self.assertIsNone(txn_of(b"\xff"))

    def test_txn_of(self) -> None:
        """The question's number is found although the rest is wrong."""
        self.assertEqual(txn_of(b'{"txn":9,"stream":7}'), 9)
        self.assertIsNone(txn_of(b'{"txn":"x"}'))

    @given(
        st.sampled_from(KINDS), st.binary(max_size=100) | json_values.map(lambda v: json.dumps(v).encode())
    )
    @settings(max_examples=300, deadline=None)
    def test_anything(self, kind: type, body: bytes) -> None:
        """Any bytes and any JSON are read or refused, nothing else."""
        try:
            self.assertIsInstance(decode(kind, body), kind)
        except MessageError as error:
            self.assertTrue(str(error))

    @given(st.integers(0, 2**32 - 1), st.text(max_size=200), st.booleans(), st.booleans())
    @settings(max_examples=100, deadline=None)
    def test_join_round_trip(self, txn: int, stream: str, listen: bool, talk: bool) -> None:
        """JOIN comes back as it was."""
        join = Join(txn=txn, stream=stream, listen=listen, talk=talk)
        self.assertEqual(decode(Join, encode(join)), join)
