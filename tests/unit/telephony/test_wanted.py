"""What the configuration wants of a gateway: numbers, rules, channels and their codes; every mistake in words, and no code in any."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from ice.config.load import loads
from ice.config.schema import Config
from ice.errors import LocalError
from ice.mission.identity import stream_id
from ice.mission.reading import open_mission
from ice.telephony.causes import Cause
from ice.telephony.dial_in import Key
from ice.telephony.switchboard import Allowed
from ice.telephony.wanted import channels_of, plan_of, read_code, rules_of

ADA = UUID("2c9e7d10-4b5f-4d3a-8e61-7f0a1b2c3d4e")
BOB = UUID("3d9e7d10-4b5f-4d3a-8e61-7f0a1b2c3d4e")
NUMBERS = '[gateway.numbers]\ncountry = "49"\n'
DIAL_IN = '[[gateway.dial_in]]\nnumber = "500"\nchannel = "north"\n'
KEY = "5a" * 32


def user(id: UUID, number: str, more: str = "") -> str:
    return f'[[gateway.numbers.users]]\nid = "{id}"\nnumber = "{number}"\n{more}'


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def config(self, text: str) -> Config:
        return loads(text, self.folder / "ice.toml").config

    def mission(self, **more: object) -> str:
        group = {
            "type": 1,
            "id": "{3F2A9C1E-5B7D-5E0F-8A61-2C4D6E8F0A1B}",
            "name": "North",
            "rallypoints": [{"host": {"address": "rp", "port": 7443}}],
            "txAudio": {"encoder": 25, "fdx": False},
            **more,
        }
        (self.folder / "m.json").write_text(json.dumps({"id": "m", "name": "m", "groups": [group]}))
        return '[gateway]\nmissions = ["m.json"]\n'


class Numbers(Case):
    def test_plan(self) -> None:
        """Numbers belong to people in their normal form, are shown to whom they call, and rules hold in order."""
        text = (
            NUMBERS
            + 'caller = "+49 30 1000"\notherwise = "forbid"\n'
            + user(ADA, "030 47 11", 'shown = "+49304700"\n')
            + user(BOB, "4712")
            + '[[gateway.numbers.rules]]\nallow = false\nnumbers = ["+49900*"]\n[[gateway.numbers.rules]]\nusers = ["ada"]\n'
        )
        plan = plan_of(self.config(text).gateway.numbers)
        self.assertEqual(plan.incoming("1", "+49304711"), ADA)
        self.assertEqual(plan.incoming("1", "4712"), BOB)
        self.assertEqual((plan.shown[ADA], plan.shown[BOB], plan.caller), ("+49304700", "4712", "+49301000"))
        self.assertEqual(plan.dialled(("ada",), "0900 1"), Cause.FORBIDDEN)
        self.assertEqual(plan.dialled(("ada",), "030 901820"), Allowed("+4930901820"))
        self.assertEqual(plan.dialled(("eve",), "030 901820"), Cause.FORBIDDEN)
        self.assertEqual(plan.dialled(("eve",), "112"), Allowed("112", urgent=True))

    def test_without_a_country(self) -> None:
        """Where no country is said, numbers of the own country are none; others, and short ones, are."""
        plan = plan_of(self.config("").gateway.numbers)
        self.assertEqual(plan.normal("030 901820"), None)
        self.assertEqual(
            [plan.normal(each) for each in ("0049 30 901820", "+4930901820", "100")],
            ["+4930901820", "+4930901820", "100"],
        )

    def test_mistakes(self) -> None:
        """Two owners of one number however it is written, and what is no number here."""
        text = NUMBERS + user(ADA, "030 901820") + user(BOB, "+49 30 901820")
        self.assertIn(
            str(ADA), str(self.assertRaises(LocalError, plan_of, self.config(text).gateway.numbers))
        )
        text = NUMBERS + user(ADA, "123456789")
        self.assertIn(
            "with + and the country",
            str(self.assertRaises(LocalError, plan_of, self.config(text).gateway.numbers)),
        )

    def test_limits(self) -> None:
        """Limits and times come as they are configured."""
        rules = rules_of(
            self.config("[gateway]\ncalls = 3\ncalls_per_user = 2\nring_s = 20\nlongest_s = 60\n").gateway
        )
        self.assertEqual(
            (rules.calls, rules.calls_per_user, rules.timing.ring_s, rules.timing.longest_s), (3, 2, 20, 60)
        )


class Channels(Case):
    def test_clear(self) -> None:
        """A stream that nobody describes is a channel where it is named as clear, and nowhere else."""
        error = self.assertRaises(LocalError, channels_of, self.config(DIAL_IN))
        self.assertIn("gateway.clear", str(error))
        (dial_in,), places = channels_of(self.config('[gateway]\nclear = ["nor*"]\n' + DIAL_IN))
        self.assertEqual((dial_in.channel, dial_in.code, dial_in.key), ("north", "", Key.KEYPAD))
        self.assertIsNone(places["north"].channel.keyring)

    def test_mission(self) -> None:
        """A mission's group is named by its name or its stream, and brings its key."""
        mission = self.mission(cryptoPassword=KEY)
        (group,) = open_mission(str(self.folder / "m.json")).mission.groups
        stream = stream_id(group.id)
        for name in ("North", stream):
            text = mission + DIAL_IN.replace("north", name)
            (dial_in,), places = channels_of(self.config(text))
            self.assertEqual(dial_in.channel, stream)
            self.assertIsNotNone(places[stream].channel.keyring)

    def test_mission_mistakes(self) -> None:
        """A group that is only heard, and one of another mission, are told with the file."""
        text = self.mission(txAudio={"encoder": 25, "enabled": False}) + DIAL_IN.replace("north", "North")
        error = self.assertRaises(LocalError, channels_of, self.config(text))
        self.assertIn("m.json", str(error))
        error = self.assertRaises(LocalError, channels_of, self.config(self.mission() + DIAL_IN))
        self.assertIn("no mission describes the channel 'north'", str(error))

    def test_nothing_to_do(self) -> None:
        """Without a number for any channel no mission is opened."""
        self.assertEqual(channels_of(self.config('[gateway]\nmissions = ["nowhere.json"]\n')), ((), {}))

    def test_owner(self) -> None:
        """A channel's number is nobody's, in its normal form."""
        text = (
            '[gateway]\nclear = ["north"]\n'
            + NUMBERS
            + user(ADA, "+49 30 500")
            + DIAL_IN.replace('"500"', '"+4930500"')
        )
        error = self.assertRaises(LocalError, lambda: channels_of(self.config(text)))
        self.assertIn(str(ADA), str(error))

    def test_codes(self) -> None:
        """A code is digits in a file; what stands there otherwise is told without showing it."""
        path = self.folder / "code"
        path.write_text("2468\n")
        self.assertEqual(read_code(path), "2468")
        for text in ("12", "1" * 17, "12a4", "secret", "", "1234 5678"):
            path.write_text(text)
            error = self.assertRaises(LocalError, read_code, path)
            self.assertIn("4 to 16 digits", str(error))
            if text:
                self.assertNotIn(text, str(error).removeprefix(str(path)).replace("16", ""))
        self.assertRaises(LocalError, read_code, self.folder / "nowhere")
