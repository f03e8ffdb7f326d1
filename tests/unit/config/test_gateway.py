"""[gateway] and [telephone]: what may be written, and every mistake with its line and what to do."""

from pathlib import Path
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ice.config.gateway import GatewaySettings, TrunkSettings
from ice.config.load import ConfigError, loads
from ice.config.render import as_toml
from ice.net.addresses import Address

FILE = Path("/site/ice.toml")
TRUNK = '[[gateway.trunks]]\nname = "pbx"\n'
DIAL_IN = '[[gateway.dial_in]]\nnumber = "500"\nchannel = "north"\n'
ADA = UUID("2c9e7d10-4b5f-4d3a-8e61-7f0a1b2c3d4e")
BOB = UUID("3d9e7d10-4b5f-4d3a-8e61-7f0a1b2c3d4e")


def user(id: UUID, number: str) -> str:
    return f'[[gateway.numbers.users]]\nid = "{id}"\nnumber = "{number}"\n'


class Case(SynchronousTestCase):
    def wrong(self, text: str) -> tuple[int, str, str]:
        """The line, key and message of the only mistake in a text."""
        with self.assertRaises(ConfigError) as caught:
            loads(text, FILE)
        (problem,) = caught.exception.problems
        return problem.line, problem.key, problem.message

    def gateway(self, text: str) -> GatewaySettings:
        return loads(text, FILE).config.gateway


class Trunks(Case):
    def test_built_in(self) -> None:
        """Without a trunk there is the built-in call manager."""
        (trunk,) = self.gateway("").all_trunks
        self.assertEqual((trunk.name, trunk.kind, trunk.rate), ("loopback", "loopback", 16_000))

    def test_asterisk(self) -> None:
        """A call manager needs a name; the rest has defaults for one on this machine."""
        (trunk,) = self.gateway(
            TRUNK + 'url = "https://pbx.example.org:8089/ari/"\nformat = "slin"\n'
        ).all_trunks
        self.assertEqual(
            (trunk.kind, trunk.url, trunk.rate), ("asterisk", "https://pbx.example.org:8089", 8_000)
        )
        self.assertEqual(trunk.password_file, Path("/site/asterisk.password"))
        self.assertEqual((trunk.listen, trunk.advertise, trunk.allow), (None, None, ()))

    def test_url(self) -> None:
        """The password goes to https, or nowhere beyond this machine; addresses are addresses."""
        for url, words in {
            "http://pbx.example.org:8088": "http would show the password",
            "ftp://localhost": "http would show the password",
            "pbx.example.org": "expected https",
            "https://ada:secret@pbx.example.org": "keys of their own",
            "https://pbx.example.org?x=1": "nothing behind",
        }.items():
            line, key, message = self.wrong(f'{TRUNK}url = "{url}"\n')
            self.assertEqual((line, key), (3, "gateway.trunks.url"))
            self.assertIn(words, message)
            self.assertNotIn("secret", message)
        self.gateway(TRUNK + 'url = "http://127.0.0.1:8088"\n')

    def test_dial(self) -> None:
        """The endpoint has the number in it, once, and nothing else to be filled in."""
        for text in ("PJSIP/100", "{number}", "PJSIP/{number}@{x}", "PJSIP/{number}{number}"):
            self.assertIn("{number} once", self.wrong(f'{TRUNK}dial = "{text}"\n')[2])

    def test_audio_socket(self) -> None:
        """Clear sound is taken from elsewhere only where it is said from where."""
        text = TRUNK + 'listen = "192.0.2.1:9092"\n'
        line, key, message = self.wrong(text)
        self.assertEqual((line, key), (3, "gateway.trunks.allow"))
        self.assertIn("list the addresses", message)
        (trunk,) = self.gateway(text + 'allow = ["192.0.2.7"]\n').trunks
        self.assertEqual((trunk.listen, trunk.allow), (Address("192.0.2.1", 9092), ("192.0.2.7/32",)))

    def test_twice(self) -> None:
        """Two trunks are two call managers, with two names and two ports."""
        other = TRUNK.replace("pbx", "other")
        self.assertEqual(self.wrong(TRUNK + TRUNK)[:2], (3, "gateway.trunks"))
        self.assertIn('the name "pbx"', self.wrong(TRUNK + TRUNK)[2])
        self.assertIn("the application ice", self.wrong(TRUNK + other)[2])
        place, app = 'listen = "127.0.0.1:9092"\n', 'app = "two"\n'
        self.assertIn("127.0.0.1:9092", self.wrong(TRUNK + place + other + app + place)[2])
        self.assertEqual(len(self.gateway(TRUNK + other + app).trunks), 2)

    def test_name(self) -> None:
        """Names stand in records and metrics, and are short words."""
        self.assertIn("at most 64", self.wrong('[[gateway.trunks]]\nname = "my pbx"\n')[2])


class Numbers(Case):
    def test_forms(self) -> None:
        """Numbers lose what stands there for the eye."""
        text = '[gateway.numbers]\ncountry = "49"\ncaller = "+49 (30) 90-18 20"\n' + user(ADA, "47 11")
        numbers = self.gateway(text).numbers
        self.assertEqual((numbers.caller, numbers.users[0].number), ("+4930901820", "4711"))

    def test_mistakes(self) -> None:
        """What is no number, no prefix and no country is said so, with its line."""
        for line, words in {
            'country = "+49"': "without plus",
            'country = "049"': "without plus",
            'national = "x"': "digits alone",
            'international = ""': "must not be empty",
            'caller = "Ada"': "telephone number",
            'emergency = ["110", "fire"]': "digits alone",
            'otherwise = "deny"': "allow or forbid",
        }.items():
            number, _, message = self.wrong(f"[gateway.numbers]\n{line}\n")
            self.assertEqual(number, 2)
            self.assertIn(words, message)

    def test_owners(self) -> None:
        """One number has one owner, who may have several; a channel's number is nobody's."""
        line, key, message = self.wrong(user(ADA, "4711") + user(BOB, "47-11"))
        self.assertEqual((line, key), (4, "gateway.numbers.users"))
        self.assertIn(str(ADA), message)
        self.gateway(user(ADA, "4711") + user(ADA, "4712"))
        self.assertIn(str(ADA), self.wrong(user(ADA, "500") + DIAL_IN)[2])

    @given(st.text(max_size=70))
    @settings(max_examples=100, deadline=None)
    def test_any_text(self, text: str) -> None:
        """Whatever is written as a number is one, or refused with words."""
        quoted = "".join(c for c in text if c.isprintable() and c not in "'")
        try:
            numbers = self.gateway(f"[gateway.numbers]\ncaller = '{quoted}'\n").numbers
        except ConfigError as error:
            self.assertTrue(str(error))
        else:
            self.assertRegex(numbers.caller, r"^(\+?[0-9*#]+)?$")


class DialIn(Case):
    def test_values(self) -> None:
        """A number and a channel are enough."""
        (each,) = self.gateway(DIAL_IN).dial_in
        self.assertEqual(
            (each.number, each.channel, each.key, each.code_file), ("500", "north", "keypad", None)
        )

    def test_trunk(self) -> None:
        """The trunk is there, the built-in one where no other is."""
        self.gateway(DIAL_IN + 'trunk = "loopback"\n')
        self.gateway(TRUNK + DIAL_IN + 'trunk = "pbx"\n')
        line, key, message = self.wrong(TRUNK + DIAL_IN + 'trunk = "loopback"\n')
        self.assertEqual((line, key), (3, "gateway.dial_in"))
        self.assertIn("there are pbx", message)

    def test_twice(self) -> None:
        """One number of one trunk leads into one channel."""
        self.assertIn("leads to north already", self.wrong(DIAL_IN + DIAL_IN)[2])
        first, second = TRUNK, '[[gateway.trunks]]\nname = "b"\napp = "b"\n'
        a, b = DIAL_IN + 'trunk = "pbx"\n', DIAL_IN + 'trunk = "b"\n'
        self.gateway(first + second + a + b)
        self.wrong(first + second + a + DIAL_IN)

    def test_channel(self) -> None:
        """Streams of satellites are no channels."""
        self.assertIn("for satellites", self.wrong(DIAL_IN.replace("north", "__calls_x"))[2])


class Whole(Case):
    def test_telephone(self) -> None:
        """A person's telephone belongs to a group of gateways, or there is none."""
        self.assertIsNone(loads("", FILE).config.telephone.group)
        self.assertIsNone(loads('[telephone]\ngroup = ""\n', FILE).config.telephone.group)
        self.assertEqual(loads(f'[telephone]\ngroup = "{{{ADA}}}"\n', FILE).config.telephone.group, ADA)
        self.assertIn("UUID", self.wrong('[telephone]\ngroup = "north"\n')[2])

    def test_round_trip(self) -> None:
        """What is shown loads to the same values."""
        text = f'[telephone]\ngroup = "{ADA}"\n{TRUNK}{user(BOB, "4711")}[[gateway.numbers.rules]]\nallow = false\nnumbers = ["+49900*"]\n{DIAL_IN}'
        config = loads(text, FILE).config
        self.assertEqual(loads(as_toml(config), FILE).config, config)

    def test_rates(self) -> None:
        """Formats are named as Asterisk names them, and have the rates of a line."""
        for format, rate in {"slin": 8_000, "slin12": 12_000, "slin24": 24_000, "slin48": 48_000}.items():
            self.assertEqual(TrunkSettings.model_validate({"name": "x", "format": format}).rate, rate)
