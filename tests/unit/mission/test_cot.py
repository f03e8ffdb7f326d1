"""Presence as Cursor-on-Target: our events, those of TAK applications, and XML that means harm."""

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.mission.cot import read_event, write_event
from ice.mission.presence import (
    MAX_READ,
    Descriptor,
    Form,
    Identity,
    Kind,
    Location,
    Power,
    PresenceError,
    Reason,
)
from ice.mission.presence_wire import read, write
from tests.unit.mission.fuzz_presence import FULL
from tests.unit.mission.presence_values import descriptors

# A position as a TAK application sends it: written for this test after the format, with its usual details.
PHONE = b"""<?xml version='1.0' encoding='UTF-8' standalone='yes'?>
<event version='2.0' uid='ANDROID-0123456789abcdef' type='a-f-G-U-C' time='2027-01-15T08:00:00.500Z' start='2027-01-15T08:00:00.500Z'
       stale='2027-01-15T08:01:15.500Z' how='m-g'>
  <point lat='47.5' lon='8.25' hae='453.2' ce='4.9' le='9999999.0'/>
  <detail>
    <takv os='30' version='4.8' device='PHONE' platform='ATAK-CIV'/>
    <contact endpoint='*:-1:stcp' callsign='HAWK 2'/>
    <uid Droid='HAWK 2'/>
    <__group role='Team Member' name='Cyan'/>
    <status battery='61'/>
    <track course='182.5' speed='1.25'/>
    <remarks>on foot</remarks>
  </detail>
</event>"""
ALERT = b"""<event version='2.0' uid='ANDROID-0123456789abcdef-9-1-1' type='b-a-o-tbl' time='2027-01-15T08:02:00Z' start='2027-01-15T08:02:00Z'
  stale='2027-01-15T08:02:10Z' how='h-e'><point lat='47.51' lon='8.26' hae='450' ce='5' le='5'/><detail>
  <link uid='ANDROID-0123456789abcdef' type='a-f-G-U-C' relation='p-p'/><contact callsign='HAWK 2-Alert'/>
  <emergency type='911 Alert'>HAWK 2</emergency></detail></event>"""
# Our own position event, with nothing told that is not known.
WIRE = bytes.fromhex(
    "3c3f786d6c2076657273696f6e3d27312e302720656e636f64696e673d275554462d38273f3e3c6576656e742076657273696f6e3d22322e3022207569643d226e"
    "2d312220747970653d22612d662d472d552d43222074696d653d22323032372d30312d31355430383a30303a30302e3030305a222073746172743d22323032372d"
    "30312d31355430383a30303a30302e3030305a22207374616c653d22323032372d30312d31355430383a30313a31352e3030305a2220686f773d22682d65223e3c"
    "706f696e74206c61743d22302e3022206c6f6e3d22302e3022206861653d22393939393939392e30222063653d22393939393939392e3022206c653d2239393939"
    "3939392e30222f3e3c64657461696c3e3c636f6e746163742063616c6c7369676e3d22416e6e61222f3e3c5f5f69636520646973706f736974696f6e3d2232222f"
    "3e3c2f64657461696c3e3c2f6576656e743e"
)
ANNA = Descriptor(
    Identity("n-1", display_name="Anna"), ts=1_800_000_000, next_update=1_800_000_075, disposition=2
)


class Writing(SynchronousTestCase):
    def test_wire(self) -> None:
        """A position event, byte for byte; a place that is not known is TAK's 0, 0 with an unknown error."""
        self.assertEqual(write_event(Kind.PRESENCE, ANNA), WIRE)
        self.assertEqual(read(WIRE).descriptor, ANNA)

    def test_alert(self) -> None:
        """An emergency is an event of its own, and so is its end; both name the person."""
        for kind, type in ((Kind.ALERT, "b-a-o-tbl"), (Kind.CALM, "b-a-o-can"), (Kind.LEAVING, "t-x-d-d")):
            data = write_event(kind, attrs.evolve(FULL, next_update=FULL.ts))
            self.assertIn(f'type="{type}"'.encode(), data)
            told = read_event(data)
            self.assertIs(told.kind, kind)
            self.assertEqual(told.descriptor.identity, Identity(FULL.identity.node_id, display_name="Anna"))
            self.assertEqual(told.descriptor.emergency, kind is Kind.ALERT)
            self.assertEqual(told.descriptor.ts, FULL.ts)

    def test_markup_in_names(self) -> None:
        """Names are text, whatever is in them."""
        name = "<&>\"' ]]> &amp; \n\t <!-- é 指 🚒"
        anna = attrs.evolve(ANNA, identity=Identity("n-1", display_name=name), comment=name.strip())
        self.assertEqual(read(write_event(Kind.PRESENCE, anna)).descriptor, anna)
        self.assertEqual(read(write_event(Kind.ALERT, anna)).descriptor.identity.display_name, name.strip())

    def test_no_control_characters(self) -> None:
        """What XML has no character for is replaced, and the event stays readable."""
        anna = attrs.evolve(ANNA, comment="a\x00b\x1bc\ufffe")
        self.assertEqual(read(write_event(Kind.PRESENCE, anna)).descriptor.comment, "a\ufffdb\ufffdc\ufffd")

    @settings(max_examples=100, deadline=None)
    @given(descriptors)
    def test_round_trip(self, descriptor: Descriptor) -> None:
        """What was written is read, whole and without a remark: the same value as in JSON."""
        told = read(write(Kind.PRESENCE, descriptor, Form.COT, MAX_READ)[0])
        self.assertEqual(told.descriptor, descriptor)
        self.assertEqual((told.kind, told.remarks, told.disposition_known), (Kind.PRESENCE, (), True))


class Reading(SynchronousTestCase):
    def test_phone(self) -> None:
        """A TAK application's position is somebody's presence; of the disposition nothing is told."""
        told = read(PHONE)
        self.assertEqual(
            told.descriptor,
            Descriptor(
                Identity("ANDROID-0123456789abcdef", display_name="HAWK 2"),
                ts=1_800_000_000,
                next_update=1_800_000_075,
                comment="on foot",
                location=Location(47.5, 8.25, 453.2, 182.5, 1.25),
                power=Power(1, 0, 61),
            ),
        )
        self.assertEqual((told.kind, told.form, told.remarks), (Kind.PRESENCE, Form.COT, ()))
        self.assertFalse(told.disposition_known)

    def test_phone_alert(self) -> None:
        """Its emergency is an alert of the person that the link names, with a place and a word for it."""
        told = read(ALERT)
        self.assertIs(told.kind, Kind.ALERT)
        self.assertEqual(told.descriptor.identity.node_id, "ANDROID-0123456789abcdef")
        self.assertEqual((told.descriptor.comment, told.descriptor.disposition), ("911 Alert", 1))
        self.assertEqual(told.descriptor.location, Location(47.51, 8.26, 450.0))

    def test_cancels(self) -> None:
        """An alert ends by its type, or by the attribute; without a link its uid tells whose it is."""
        by_type = ALERT.replace(b"b-a-o-tbl", b"b-a-o-can")
        by_word = ALERT.replace(b"type='911 Alert'", b"cancel='true'")
        unlinked = by_word.replace(b"<link uid=", b"<nolink uid=")
        for payload in (by_type, by_word, unlinked):
            told = read(payload)
            self.assertIs(told.kind, Kind.CALM)
            self.assertEqual(told.descriptor.identity.node_id, "ANDROID-0123456789abcdef")

    def test_other_alerts(self) -> None:
        """In contact, ring the bell, an alert of one's own: all are emergencies."""
        for type in (b"b-a-o-opn", b"b-a-o-pan", b"b-a-o-c", b"b-a-g"):
            self.assertIs(read(ALERT.replace(b"b-a-o-tbl", type)).kind, Kind.ALERT)

    def test_unknown_place(self) -> None:
        """0, 0 with an unknown error is nowhere; with a known one it is in the Gulf of Guinea."""
        nowhere = PHONE.replace(b"lat='47.5' lon='8.25'", b"lat='0.0' lon='0.0'")
        self.assertEqual(read(nowhere).descriptor.location, Location(0.0, 0.0, 453.2, 182.5, 1.25))
        self.assertIsNone(read(nowhere.replace(b"ce='4.9'", b"ce='9999999.0'")).descriptor.location)
        self.assertIsNone(
            read(nowhere.replace(b"hae='453.2' ce='4.9'", b"hae='9999999'")).descriptor.location
        )

    def test_wrong_values(self) -> None:
        """What is no number, no time, or not on earth is not known, and remarked."""
        for old, new, path in (
            (b"lat='47.5'", b"lat='91'", "event.point"),
            (b"lat='47.5'", b"lat='1_0'", "event.point.lat"),
            (b"lat='47.5'", b"lat='inf'", "event.point.lat"),
            (b"time='2027-01-15T08:00:00.500Z' start", b"time='soon' start", "event.time"),
            (b"stale='2027-01-15T08:01:15.500Z'", b"stale='0001-01-01T00:00:00+14:00'", "event.stale"),
            (b"speed='1.25'", b"speed='fast'", "event.track.speed"),
        ):
            told = read(PHONE.replace(old, new))
            self.assertEqual([each.path for each in told.remarks], [path])

    def test_others(self) -> None:
        """Hostiles, markers, chats and pings are nobody's presence here."""
        for type in (b"a-h-G", b"a-u-G", b"b-m-p-w", b"b-t-f", b"t-x-c-t", b"u-d-f", b""):
            self.refused(PHONE.replace(b"a-f-G-U-C", type), Reason.EVENT)
        self.refused(PHONE.replace(b"uid='ANDROID-0123456789abcdef'", b"uid=' '"), Reason.NOBODY)
        self.refused(b"<html><body/></html>", Reason.EVENT)

    def test_harm(self) -> None:
        """Document types, entities, depth, breadth and length are refused before they cost anything."""
        laughs = b'<!DOCTYPE a [<!ENTITY b "haha"><!ENTITY c "&b;&b;&b;&b;">]>'
        self.refused(laughs + PHONE[PHONE.index(b"<event") :], Reason.FORBIDDEN)
        self.refused(b'<!DOCTYPE event SYSTEM "file:///etc/passwd"><event/>', Reason.FORBIDDEN)
        self.refused(b'<!DOCTYPE event SYSTEM "http://192.0.2.1/x.dtd"><event/>', Reason.FORBIDDEN)
        self.refused(b"<a>" * 2_000, Reason.XML)
        self.refused(b"<event><detail>" + b"<a/>" * 600 + b"</detail></event>", Reason.XML)
        self.refused(b"<event uid='" + b"x" * MAX_READ + b"'/>", Reason.TOO_LARGE)
        self.refused(PHONE.replace(b"on foot", b"&xxe;"), Reason.XML)
        self.refused(PHONE.replace(b"on foot", b"\xff\xfe"), Reason.XML)

    def test_encodings(self) -> None:
        """Whatever the declaration says, the bytes are UTF-8: no codec is looked up by a stranger's name."""
        told = read(
            PHONE.replace(b"encoding='UTF-8'", b"encoding='rot13'").replace(b"on foot", "zu Fuß".encode())
        )
        self.assertEqual(told.descriptor.comment, "zu Fuß")

    def test_truncations(self) -> None:
        """An event cut anywhere is refused as XML."""
        for length in range(1, len(WIRE)):
            self.refused(WIRE[:length], Reason.XML)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=150), st.integers(0, len(PHONE)), st.integers(0, 60))
    def test_anything(self, piece: bytes, at: int, cut: int) -> None:
        """Nothing but a PresenceError comes of reading."""
        for payload in (b"<" + piece, PHONE[:at] + piece + PHONE[at + cut :]):
            try:
                read(payload)
            except PresenceError as error:
                self.assertTrue(str(error))

    def refused(self, payload: bytes, reason: Reason) -> None:
        """The payload is refused for this reason."""
        with self.assertRaises(PresenceError) as caught:
            read(payload)
        self.assertEqual(caught.exception.reason, reason, payload[:60])
