"""Call messages: each kind as JSON, each byte of the envelope, and everything that must not pass."""

from __future__ import annotations

from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.link.naming import checked_stream_id
from ice.security.certificates import Role
from ice.telephony import call
from ice.telephony.causes import Cause
from ice.telephony.envelope import MAGIC, MAX_MESSAGE, Correspondent, Letter
from ice.telephony.messages import (
    MAX_BODY,
    MAX_HEADER,
    Because,
    Body,
    Code,
    Dial,
    Header,
    Keys,
    Kind,
    Media,
    MessageRefused,
    Nothing,
    Offer,
    Proceeding,
    Refusal,
    Target,
    body_of,
    body_type,
    decode_body,
    decode_header,
    encode_body,
    encode_header,
    event_of,
    group_stream,
    notice_stream,
    sound_stream,
    user_stream,
)
from tests.unit.telephony.people import UNIX, correspondent, envelopes

CALL = UUID("00112233-4455-6677-8899-aabbccddeeff")
ON = group_stream("g1")
GATEWAY = Role.SATELLITE
MEDIA = Media("__call_x", "ab" * 32)

BODIES: dict[Kind, tuple[Body, bytes]] = {
    Kind.HELLO: (Nothing(), b""),
    Kind.HERE: (Nothing(), b""),
    Kind.DIAL: (Dial("+4930123", "Ada"), b'{"name":"Ada","number":"+4930123"}'),
    Kind.OFFER: (
        Offer("+4930123", MEDIA, "Bob", "200"),
        b'{"dialled":"200","media":{"key":"'
        + b"ab" * 32
        + b'","stream":"__call_x"},"name":"Bob","number":"+4930123"}',
    ),
    Kind.ADOPT: (
        Proceeding(MEDIA),
        b'{"media":{"key":"' + b"ab" * 32 + b'","stream":"__call_x"}}',
    ),
    Kind.PROCEEDING: (
        Proceeding(MEDIA),
        b'{"media":{"key":"' + b"ab" * 32 + b'","stream":"__call_x"}}',
    ),
    Kind.RINGING: (Nothing(), b""),
    Kind.EARLY: (Nothing(), b""),
    Kind.ANSWERED: (Nothing(), b""),
    Kind.BUSY: (Because(Cause.CALL_WAITING), b'{"cause":"call-waiting"}'),
    Kind.ENDED: (Because(Cause.HUNG_UP), b'{"cause":"hung-up"}'),
    Kind.HOLD: (Nothing(), b""),
    Kind.RESUME: (Nothing(), b""),
    Kind.DTMF: (Keys("12#"), b'{"digits":"12#"}'),
    Kind.TRANSFER: (Target("200"), b'{"number":"200"}'),
    Kind.TRANSFERRING: (Nothing(), b""),
    Kind.TRANSFER_FAILED: (Because(Cause.BUSY), b'{"cause":"busy"}'),
    Kind.ERROR: (Refusal(Code.FULL, "no"), b'{"code":"full","text":"no"}'),
    Kind.ACK: (Nothing(), b""),
}


def header(kind: Kind = Kind.DIAL, to: str = "", **changes: object) -> Header:
    plain = Header(
        call=str(CALL), id="0011223344556677", kind=kind, ms=int(UNIX * 1000), n=0, on=ON, re="", to=to
    )
    return msgspec.structs.replace(plain, **changes)


class Json(SynchronousTestCase):
    def test_bodies(self) -> None:
        """Every kind has its body, as these bytes."""
        self.assertEqual(set(BODIES), set(Kind))
        for kind, (body, data) in BODIES.items():
            self.assertEqual(encode_body(kind, body), data)
            self.assertEqual(decode_body(kind, data), body)

    def test_header(self) -> None:
        """The canonical header, byte by byte; encoding it again gives the same."""
        data = encode_header(header(Kind.ANSWERED))
        self.assertEqual(
            data,
            b'{"call":"00112233-4455-6677-8899-aabbccddeeff","id":"0011223344556677","kind":"answered",'
            b'"ms":1930219200000,"n":0,"on":"__calls_g1","re":"","to":""}'.replace(
                b"1930219200000", str(int(UNIX * 1000)).encode()
            ),
        )
        self.assertEqual(decode_header(data), header(Kind.ANSWERED))
        self.assertEqual(decode_header(data).call_id, CALL)

    def test_one_form_only(self) -> None:
        """White space, another order, a repeated or a further key: another form of the same header is refused."""
        data = encode_header(header())
        for other in (
            data.replace(b":0,", b": 0,"),
            data + b" ",
            b'{"n":0,' + data[1:],
            data[:-1] + b',"x":1}',
            data.replace(b"__calls", b"\\u005f_calls"),
        ):
            self.assertEqual(self.reason(decode_header, other), "not-canonical", other)

    def test_bad_headers(self) -> None:
        """What is missing, ill-typed or out of bounds is refused with its place."""
        data = encode_header(header())
        for other in (
            b"",
            b"{}",
            b"[]",
            b"[" * MAX_HEADER,
            b"\xff",
            data.replace(b"dial", b"dail"),
            data.replace(b'"n":0', b'"n":-1'),
            data.replace(b'"n":0', b'"n":0.0'),
            data.replace(b'"n":0', b'"n":4294967296'),
            data.replace(b"0011223344556677", b"001122334455667"),
            data.replace(b"0011223344556677", b"001122334455667g"),
            data.replace(b"aabb", b"AABB"),
            data.replace(b"00112233-4455", b"001122334455"),
            data.replace(b'"to":""', b'"to":"ab"'),
            data.replace(b"__calls_g1", b""),
            data + b" " * MAX_HEADER,
        ):
            self.assertEqual(self.reason(decode_header, other), "header", other)
        for bad in (header(id="x"), header(on=""), header(on="x" * 257), header(call="x"), header(n=-1)):
            self.assertRaises(LocalError, encode_header, bad)

    def test_the_longest_header_fits(self) -> None:
        """A stream id of 256 bytes that are all escaped still fits."""
        longest = header(Kind.TRANSFER_FAILED, on='"' * 256, to="ab" * 32, re="00" * 8, n=0xFFFF_FFFF)
        self.assertLessEqual(len(encode_header(longest)), MAX_HEADER)

    def test_bad_bodies(self) -> None:
        """Likewise; what does not fit its kind is not sent either."""
        for kind, data in (
            (Kind.DIAL, b"{}"),
            (Kind.DIAL, b'{"number":""}'),
            (Kind.DIAL, b'{"number":"' + b"1" * 500 + b'"}'),
            (Kind.DTMF, b'{"digits":"x"}'),
            (Kind.DTMF, b'{"digits":"1\\n"}'),
            (Kind.ENDED, b'{"cause":"none"}'),
            (Kind.OFFER, b'{"number":"1"}'),
            (Kind.PROCEEDING, b'{"media":{"key":"ab","stream":"s"}}'),
            (Kind.ENDED, b"[" * 1_000),
            (Kind.ENDED, b" " * (MAX_BODY + 1)),
        ):
            self.assertEqual(self.reason(decode_body, kind, data), "body", data[:60])
        for kind, body in ((Kind.DIAL, Nothing()), (Kind.DIAL, Dial("")), (Kind.DTMF, Keys("x"))):
            self.assertRaises(LocalError, encode_body, kind, body)

    def test_a_newer_sender_may_say_more(self) -> None:
        """Unknown keys of a body are ignored; the filling behind it is too."""
        self.assertEqual(decode_body(Kind.DIAL, b'{"number":"1","later":[1]}   '), Dial("1"))

    def test_secrets_are_not_shown(self) -> None:
        """Neither keys of sound nor what people key in stand in a log."""
        self.assertNotIn("abab", repr(Offer("1", MEDIA)))
        self.assertNotIn("1234", repr(Keys("1234")))

    def test_streams(self) -> None:
        """Names of streams; all can be carried."""
        names = [ON, user_stream("g1", CALL), notice_stream("g1"), sound_stream(CALL)]
        self.assertEqual(names, ["__calls_g1", f"__calls_g1_{CALL}", "__calls_g1_all", f"__call_{CALL}"])
        for name in names:
            checked_stream_id(name)

    @given(st.binary(max_size=MAX_HEADER))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes is read or refused, never anything else."""
        for kind in (Kind.DIAL, Kind.OFFER, Kind.ERROR):
            for attempt in (lambda kind=kind: decode_body(kind, data), lambda: decode_header(data)):
                try:
                    attempt()
                except MessageRefused as error:
                    self.assertIn(error.reason, ("header", "body", "not-canonical"))

    def reason(self, what: object, *arguments: object) -> str:
        error = self.assertRaises(MessageRefused, what, *arguments)
        return str(error.reason)


class ToTheCall(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """What one end's machine wants told is what the other end's machine takes."""
        for action, event in (
            (call.Tell(call.Side.LINE, call.Progress.RINGING), call.Rings(call.Side.USER)),
            (call.Tell(call.Side.LINE, call.Progress.EARLY), call.Sounds(call.Side.USER)),
            (call.Tell(call.Side.LINE, call.Progress.ANSWERED), call.Answers(call.Side.USER)),
            (call.Tell(call.Side.LINE, call.Progress.HELD), call.Holds(call.Side.USER)),
            (call.Tell(call.Side.LINE, call.Progress.RESUMED), call.Resumes(call.Side.USER)),
            (call.Send(call.Side.LINE, "1"), call.Presses(call.Side.USER, "1")),
            (call.Transfer("1"), call.Transfers(call.Side.USER, "1")),
            (
                call.Tell(call.Side.LINE, call.Progress.TRANSFER_FAILED, Cause.BUSY),
                call.TransferFails(call.Side.USER, Cause.BUSY),
            ),
            (call.Release(call.Side.LINE, Cause.REJECTED), call.HangsUp(call.Side.USER, Cause.REJECTED)),
            (call.Release(call.Side.LINE, Cause.BUSY), call.Refuses(call.Side.USER, Cause.BUSY)),
        ):
            found = body_of(action, answered=False)
            assert found is not None
            kind, body = found
            self.assertEqual(decode_body(kind, encode_body(kind, body)), body)
            self.assertEqual(event_of(kind, body, call.Side.USER), event)

    def test_what_is_no_message(self) -> None:
        """Sound and records are carried out here; a busy after the answer is an end."""
        self.assertIsNone(body_of(call.SILENT, answered=False))
        self.assertIsNone(event_of(Kind.HELLO, Nothing(), call.Side.USER))
        found = body_of(call.Release(call.Side.USER, Cause.GLARE), answered=True)
        self.assertEqual(found, (Kind.ENDED, Because(Cause.GLARE)))


class OnTheWire(SynchronousTestCase):
    def setUp(self) -> None:
        self.ada = envelopes("ada")
        self.gateway = envelopes("gateway", GATEWAY)
        self.to = correspondent("gateway", GATEWAY)

    def dial(self, **changes: object) -> bytes:
        return self.ada.write(header(Kind.DIAL, self.to.address, **changes), Dial("+4930123", "Ada"), self.to)

    def refused(self, data: bytes, on: str = ON, unix_s: float = UNIX) -> str:
        return str(self.assertRaises(MessageRefused, self.gateway.open, data, on, unix_s).reason)

    def test_arrives(self) -> None:
        """Who says it and what, verified and unsealed."""
        letter = self.gateway.open(self.dial(), ON, UNIX)
        self.assertEqual(letter.sender.identity, correspondent("ada").identity)
        self.assertEqual(letter.body, Dial("+4930123", "Ada"))
        self.assertEqual(letter.header.call_id, CALL)

    def test_every_byte(self) -> None:
        """The message as the table of the module describes it."""
        data = self.dial()
        self.assertEqual(data[:4].hex(), "49434d31")
        position, parts = 4, []
        for _ in range(3):
            length = int.from_bytes(data[position : position + 2], "big")
            parts.append(data[position + 2 : position + 2 + length])
            position += 2 + length
        certificate, head, sealed = parts
        self.assertEqual(certificate[0], 0x30)  # DER: a sequence
        self.assertEqual(head, encode_header(header(Kind.DIAL, self.to.address)))
        self.assertEqual((sealed[0], len(sealed)), (0x04, 65 + 64 + 16))
        self.assertEqual(len(data) - position, 64)

    def test_every_kind(self) -> None:
        """Each kind with its body goes through, within what a stream takes."""
        for kind, (body, _) in BODIES.items():
            sender = self.gateway
            data = sender.write(header(kind, correspondent("ada").address), body, correspondent("ada"))
            self.assertLess(len(data), 1_500)
            self.assertEqual(self.ada.open(data, ON, UNIX).body, body)

    def test_the_longest_fits(self) -> None:
        """The longest body and header still fit in what a stream takes."""
        number, name = "\u00e9" * 64, "\x01" * 64
        offer = Offer(number, Media("\u20ac" * 85, "ab" * 32), name, number)
        longest = header(Kind.OFFER, correspondent("ada").address, on="\u20ac" * 85, re="00" * 8)
        data = self.gateway.write(longest, offer, correspondent("ada"))
        self.assertLessEqual(len(data), MAX_MESSAGE)
        self.assertEqual(self.ada.open(data, "\u20ac" * 85, UNIX).body, offer)

    def test_truncations(self) -> None:
        """Cut anywhere, it is refused for its form."""
        data = self.dial()
        for cut in range(len(data)):
            self.assertEqual(self.refused(data[:cut]), "form")
        self.assertEqual(self.refused(data + b"\0"), "form")
        self.assertEqual(self.refused(data + bytes(MAX_MESSAGE)), "form")

    def test_every_bit_counts(self) -> None:
        """A message changed in any byte is refused, and says why."""
        data = self.dial()
        reasons = set()
        for place in range(0, len(data), 3):
            changed = bytearray(data)
            changed[place] ^= 0x01
            reasons.add(self.refused(bytes(changed)))
        self.assertIn("signature", reasons)
        self.assertLessEqual(
            reasons,
            {
                "form", "header", "not-canonical", "stream", "recipient", "certificate", "signature",
                "unknown-authority", "bad-identity", "key", "expired", "not-yet-valid",
            },
        )  # fmt: skip

    def test_elsewhere_and_for_others(self) -> None:
        """On another stream, or for somebody else, a message is worth nothing."""
        self.assertEqual(self.refused(self.dial(), on="__calls_g2"), "stream")
        other = correspondent("bob")
        data = self.ada.write(header(Kind.DIAL, other.address), Dial("1"), other)
        self.assertEqual(self.refused(data), "recipient")
        self.assertEqual(self.ada.peek(data).kind, Kind.DIAL)

    def test_who_is_nobody(self) -> None:
        """Strangers, the expired, and keys that cannot seal are refused by name."""
        for sender, reason in (
            (envelopes("eve", issuer="elsewhere"), "unknown-authority"),
            (envelopes("old", days=10), "expired"),
        ):
            data = sender.write(header(Kind.DIAL, self.to.address), Dial("1"), self.to)
            self.assertEqual(self.refused(data), reason)
        for curve in ("p384", "ed25519"):
            self.assertRaises(LocalError, envelopes, "odd", curve=curve)

    def test_only_gateways_speak_as_gateways(self) -> None:
        """A member of the network cannot offer calls."""
        bob = envelopes("bob")
        data = bob.write(
            header(Kind.OFFER, correspondent("ada").address), Offer("1", MEDIA), correspondent("ada")
        )
        error = self.assertRaises(MessageRefused, self.ada.open, data, ON, UNIX)
        self.assertEqual(error.reason, "role")

    def test_a_sealed_body_is_of_one_message(self) -> None:
        """Taken out and put under another's signature, or behind another header, it does not open."""
        data = self.dial()
        position = 4
        for _ in range(2):
            position += 2 + int.from_bytes(data[position : position + 2], "big")
        stolen = data[position + 2 : -64]
        for thief, head in (
            (envelopes("bob"), header(Kind.DIAL, self.to.address)),
            (self.ada, header(Kind.DIAL, self.to.address, n=1)),
        ):
            thief._seal = lambda *_: stolen  # type: ignore[method-assign]
            self.assertEqual(self.refused(thief.write(head, Dial("1"), self.to)), "seal")
            del thief._seal

    def test_nobody_else_reads(self) -> None:
        """Numbers, keys and digits do not stand in the clear, nor does their length."""
        data = self.dial()
        self.assertNotIn(b"4930123", data)
        other = self.ada.write(header(Kind.DIAL, self.to.address), Dial("1"), self.to)
        self.assertEqual(len(data), len(other))

    def test_a_body_needs_a_recipient(self) -> None:
        """What is for everybody has no body; a header and its seal name the same recipient."""
        self.assertRaises(LocalError, self.ada.write, header(Kind.DIAL), Dial("1"), None)
        self.assertRaises(LocalError, self.ada.write, header(Kind.DIAL), Dial("1"), self.to)
        self.assertEqual(
            self.gateway.open(self.ada.write(header(Kind.HELLO), Nothing(), None), ON, UNIX).body, Nothing()
        )

    @given(st.binary(max_size=300), st.integers(0, 3_000))
    @settings(max_examples=150, deadline=None)
    def test_fuzzed(self, junk: bytes, place: int) -> None:
        """Junk put anywhere into a message, or alone, is refused for a reason."""
        data = self.dial()
        place %= len(data)
        for changed in (junk, MAGIC + junk, data[:place] + junk + data[place + len(junk) :]):
            if changed != data:
                self.assertTrue(self.refused(changed))

    def test_values_say_who(self) -> None:
        """A letter keeps its sender to answer to."""
        letter = self.gateway.open(self.dial(), ON, UNIX)
        self.assertIsInstance(letter, Letter)
        self.assertIsInstance(letter.sender, Correspondent)
        self.assertEqual(letter.sender.address, self.ada.address)
        self.assertIs(body_type(letter.header.kind), Dial)
