"""A group's keys as what talkers and listeners work with: payload types, rules of the floor, volumes, and a voice."""

import json
from typing import Any

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from ice.errors import LocalError
from ice.media.rtp import Packet, Talk, TalkFlag
from ice.mission import voice
from ice.mission.model import Group
from ice.mission.reading import read_mission


def group(**keys: Any) -> Group:
    """An audio group with those keys of the original's."""
    audio = {"encoder": 1, "framingMs": 20, **keys.pop("txAudio", {})}
    host = {"address": "239.9.9.1", "port": 20_000}
    one = {"type": 1, "name": "Red", "rx": host, "tx": host, "txAudio": audio, **keys}
    return read_mission(json.dumps({"name": "Exercise", "groups": [one]}), "a test").mission.groups[0]


class AudioTests(SynchronousTestCase):
    def test_types(self) -> None:
        """Audio groups carry voice, and so do groups of old files that say no type; mission control and raw groups do not."""
        self.assertEqual([voice.is_audio(group(type=each)) for each in range(4)], [True, True, False, False])

    def test_gain(self) -> None:
        """The louder side counts, since we are mono; a gain is on top of it; muted is silence."""
        for audio, gain in (
            ({}, 1.0),
            ({"outputLevelLeft": 50, "outputLevelRight": 20}, 0.5),
            ({"outputLevelLeft": 0, "outputLevelRight": 0}, 0.0),
            ({"outputGain": 100}, 2.0),
            ({"outputGain": -50, "outputLevelLeft": 50, "outputLevelRight": 50}, 0.25),
            ({"outputGain": -300}, 0.0),
            ({"outputGain": 100, "outputMuted": True}, 0.0),
        ):
            self.assertAlmostEqual(voice.gain(group(audio=audio)), gain, msg=str(audio))


class RulesTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """One talks at a time, as long as the policy says, and is over after half a second, two where ends are marked."""
        rules = voice.rules(group())
        self.assertEqual((rules.full_duplex, rules.max_tx_s, rules.max_rx_s), (False, 30, 0))
        self.assertEqual((rules.silence_s, rules.signalled_silence_s, rules.sticky_s), (0.5, 2.0, 10))

    def test_as_the_group_says(self) -> None:
        """Each key has its rule, and stands above the policy."""
        rules = voice.rules(
            group(
                txAudio={"fdx": True, "maxTxSecs": 120},
                maxRxSecs=60,
                stickyTidHangSecs=3,
                rtpProfile={
                    "inboundProcessorInactivityMs": 700,
                    "signalledInboundProcessorInactivityMs": 900,
                },
            ),
            7,
        )
        self.assertEqual((rules.full_duplex, rules.max_tx_s, rules.max_rx_s), (True, 120, 60))
        self.assertEqual((rules.silence_s, rules.signalled_silence_s, rules.sticky_s), (0.7, 0.9, 3))

    def test_policy(self) -> None:
        """Where the group says nothing the policy holds; without limit where that has none."""
        self.assertEqual([voice.rules(group(), policy).max_tx_s for policy in (7.0, 0.0)], [7, 0])

    def test_signalled_follows(self) -> None:
        """The longer silence is four times the shorter one where it is not given."""
        rules = voice.rules(group(rtpProfile={"inboundProcessorInactivityMs": 300}))
        self.assertAlmostEqual(rules.signalled_silence_s, 1.2)


class PayloadTypeTests(SynchronousTestCase):
    def test_the_encoder_s_own(self) -> None:
        """A group's numbers are those of its encoder, and what is known everywhere."""
        self.assertEqual(voice.payload_types(group()).codec(0).name, "pcmu")

    def test_custom(self) -> None:
        """A group may send under a number of its own, and hear others' under theirs."""
        types = voice.payload_types(
            group(
                txAudio={"encoder": 25, "customRtpPayloadType": 110},
                inboundRtpPayloadTypeTranslations=[{"external": 120, "engage": 0}],
                rfc4733RtpPayloadId=101,
            )
        )
        self.assertEqual((types.codec(110).name, types.codec(120).name), ("opus", "pcmu"))
        self.assertTrue(types.is_telephone_event(101))

    def test_refused(self) -> None:
        """Numbers that cannot be are told with the group's name."""
        wrong = group(txAudio={"encoder": 25, "customRtpPayloadType": 101}, rfc4733RtpPayloadId=101)
        error = self.assertRaises(LocalError, voice.payload_types, wrong)
        self.assertIn("group 'Red'", str(error))


class SenderTests(SynchronousTestCase):
    def said(self, found: Group, frames: int = 30, **who: Any) -> list[Packet]:
        """A burst of so many packets, and its end."""
        sender, samples = voice.sender(found, alias="Anna", **who)
        sender.press(0.0)
        sendings = sender.pcm(np.zeros(frames * samples, np.int16))
        return [Packet.decode(each.payload) for each in (*sendings, *sender.release(1.0))]

    def test_framing(self) -> None:
        """Packets are as long as the group says, in its codec."""
        for ms in (20, 60):
            found = group(txAudio={"framingMs": ms})
            _, samples = voice.sender(found, alias="Anna")
            self.assertEqual(samples, ms * 48)
            packet = self.said(found)[0]
            self.assertEqual((packet.payload_type, len(packet.payload)), (0, ms * 8))

    def test_bit_rate(self) -> None:
        """Encoders of one codec differ in what they spend."""
        noise = np.random.default_rng(1).integers(-9_000, 9_000, 48_000).astype(np.int16)
        spent = []
        for number in (20, 29):
            sender, _ = voice.sender(group(txAudio={"encoder": number}), alias="Anna")
            sender.press(0.0)
            spent.append(sum(len(Packet.decode(each.payload).payload) for each in sender.pcm(noise)))
        self.assertLess(2 * spent[0], spent[1])

    def test_header_extensions(self) -> None:
        """They stand where the group wants them: on the first, on each tenth, and on all copies of the end."""
        keys = {"initialHeaderBurst": 3, "extensionSendInterval": 10, "trailingHeaderBurst": 4}
        packets = self.said(group(txAudio=keys))
        marked = [index for index, packet in enumerate(packets) if packet.extension is not None]
        self.assertEqual(marked, [0, 1, 2, 10, 20, 30, 31, 32, 33])
        talk = Talk.from_extension(packets[0].extension)
        self.assertEqual((talk.alias, talk.priority, talk.flags), ("Anna", 0, TalkFlag.BURST_START))

    def test_none(self) -> None:
        """A group that wants no extensions gets none, and its end once."""
        packets = self.said(group(txAudio={"noHdrExt": True}))
        self.assertEqual([packet.extension for packet in packets], [None] * 31)

    def test_rank(self) -> None:
        """Priority and emergency are said with the voice."""
        packet = self.said(group(), priority=7, emergency=True)[0]
        talk = Talk.from_extension(packet.extension)
        self.assertEqual((talk.priority, bool(talk.flags & TalkFlag.EMERGENCY)), (7, True))

    def test_a_new_count_each_burst(self) -> None:
        """RTP begins anew with each burst, where the group does not say otherwise."""
        for reset in (True, False):
            sender, samples = voice.sender(group(txAudio={"resetRtpOnTx": reset}), alias="Anna")
            sources = set()
            for at in (0.0, 5.0):
                sender.press(at)
                sender.pcm(np.zeros(samples, np.int16))
                sources.add(sender.ssrc)
                sender.release(at + 0.1)
            self.assertEqual(len(sources), 2 if reset else 1)

    def test_heard_only(self) -> None:
        """A group that is for listening says so, by name and key."""
        found = group(txAudio={"enabled": False})
        error = self.assertRaises(LocalError, voice.sender, found, alias="Anna")
        self.assertIn("group 'Red' is heard only: its txAudio.enabled is false", str(error))

    def test_cannot_be_carried(self) -> None:
        """An encoder that nobody here has is told with its proper name and the group's."""
        for number, name in ((50, "MELPe 600"), (60, "CVSD"), (4, "g729 is heard only")):
            found = group(txAudio={"encoder": number})
            error = self.assertRaises(LocalError, voice.sender, found, alias="Anna")
            self.assertIn("group 'Red'", str(error))
            self.assertIn(name, str(error))
