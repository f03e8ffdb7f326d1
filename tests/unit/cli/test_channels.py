"""What the words of a command line mean: streams, missions, groups of missions; and the networks that follow from them."""

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ice.cli import mission_source
from ice.cli.channels import Channel, Networks, Wanted, configuration, media_of, one, wanted
from ice.config.load import ConfigError, load
from ice.config.schema import MediaSettings
from ice.errors import LocalError
from ice.mission.packing import PasswordNeeded, WrongPassword, pack
from ice.security.traffic import Cipher, Sealer, derive
from ice.streams.interface import Datagram
from ice.streams.memory import Collector
from ice.testing.site import Site

from .told import Told

KEY = "0123456789abcdef" * 4
RED, BLUE = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-aaaaaaaaaaaa"


def group(name: str, number: int = 1, **more: Any) -> dict[str, Any]:
    host = {"address": "239.9.9.1", "port": 20_000 + number}
    return {"type": 1, "name": name, "rx": host, "tx": host, "txAudio": {"encoder": 25}, **more}


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.before = os.getcwd()
        os.chdir(self.folder)
        self.addCleanup(os.chdir, self.before)

    def write(self, name: str, *groups: dict[str, Any], **more: Any) -> str:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        meta = {"type": "ICE-MISSION", "version": 1}
        path.write_text(json.dumps({"meta": meta, "name": "Exercise", "groups": groups, **more}))
        return name

    def usual(self) -> str:
        return self.write(
            "team.json",
            group("Red", 1, id=RED, idOverride=True),
            group("Blue Team", 2, id=BLUE, idOverride=True),
            group("Control", 3, type=2),
            group("Raw", 4, type=3),
        )

    def fails(self, *words: str) -> str:
        return str(self.assertRaises(LocalError, wanted, words))


class WordsTests(Case):
    def test_streams(self) -> None:
        """What is no file is a stream, slashes and all; each counts once."""
        found = wanted(["town", "north/town", "town", "a.b/c"])
        self.assertEqual([each.stream_id for each in found.channels], ["town", "north/town", "a.b/c"])
        self.assertTrue(all(each.group is None for each in found.channels))
        self.assertEqual(found.missions, ())

    def test_a_mission(self) -> None:
        """A file is all of its audio groups, by name for people and by id for networks."""
        found = wanted([self.usual()])
        self.assertEqual([(c.name, c.stream_id) for c in found.channels], [("Red", RED), ("Blue Team", BLUE)])
        self.assertEqual([each.name for each in found.missions], ["Exercise"])
        self.assertEqual(found.title, "Red, Blue Team")

    def test_a_group(self) -> None:
        """One group by name, by name in another case, by id with and without braces."""
        file = self.usual()
        for word in ("Blue Team", "blue team", BLUE, BLUE.upper(), f"{{{BLUE}}}"):
            (channel,) = wanted([f"{file}/{word}"]).channels
            self.assertEqual(channel.stream_id, BLUE, word)
        self.assertEqual(len(wanted([f"{file}/"]).channels), 2)

    def test_a_group_with_slashes(self) -> None:
        """Folders, files and group names may have slashes: the file is the longest way to the first that is there."""
        self.write("north/team.json", group("Red/1", id=RED, idOverride=True))
        (channel,) = wanted(["north/team.json/Red/1"]).channels
        self.assertEqual(channel.name, "Red/1")

    def test_both_at_once(self) -> None:
        """Streams, missions and groups in one line; a mission named twice is read once, and a group in it heard once."""
        file = self.usual()
        found = wanted(["town", f"{file}/Red", file, f"./{file}/red", str(self.folder / file)])
        self.assertEqual([each.name for each in found.channels], ["town", "Red", "Blue Team"])
        self.assertEqual(len(found.missions), 1)

    def test_a_group_of_two_missions(self) -> None:
        """A channel that two missions know is one channel."""
        first, second = self.usual(), self.write("other.json", group("Rot", id=RED, idOverride=True))
        self.assertEqual([each.name for each in wanted([first, second]).channels], ["Red", "Blue Team"])

    def test_a_stream_named_like_a_group(self) -> None:
        """A stream of the configured Rallypoints is no group of a mission, though both have one id: there it is sealed."""
        self.assertEqual(len(wanted([RED, f"{self.usual()}/Red"]).channels), 2)

    def test_no_such_file(self) -> None:
        """What ends like a mission's file and is none is a slip, and told as far as the file's name goes."""
        self.assertEqual(self.fails("teem.json"), "teem.json: there is no such file")
        self.assertEqual(self.fails("a/Teem.ICE/Red"), "a/Teem.ICE: there is no such file")
        self.assertEqual(self.fails("qr.png"), "qr.png: there is no such file")
        self.assertEqual(
            [c.stream_id for c in wanted(["jsonfile", "x.jsons"]).channels], ["jsonfile", "x.jsons"]
        )

    def test_no_such_group(self) -> None:
        """The audio groups that there are, are listed."""
        said = self.fails(f"{self.usual()}/Green")
        self.assertIn("has no group 'Green'; its audio groups are 'Red', 'Blue Team'", said)

    def test_no_voice(self) -> None:
        """Groups without voice say so, mission control with the command that shows it."""
        file = self.usual()
        self.assertIn("`ice who team.json`", self.fails(f"{file}/control"))
        self.assertNotIn("ice who", self.fails(f"{file}/Raw"))
        self.assertIn("has no audio group", self.fails(self.write("control.json", group("Control", type=2))))

    def test_two_of_a_name(self) -> None:
        """A name that two groups have is asked for by id, and one that differs in case is not."""
        file = self.write(
            "twins.json",
            group("Red", 1, id=RED, idOverride=True),
            group("Red", 2, id=BLUE, idOverride=True),
            group("one", 3),
            group("ONE", 4),
        )
        said = self.fails(f"{file}/Red")
        self.assertIn("2 groups are named 'Red': say which by its id", said)
        self.assertIn(RED, said)
        self.assertEqual(wanted([f"{file}/{RED}"]).channels[0].stream_id, RED)
        self.assertEqual(wanted([f"{file}/ONE"]).channels[0].name, "ONE")
        self.assertIn("2 groups are named 'One'", self.fails(f"{file}/One"))

    def test_a_group_without_a_name(self) -> None:
        """It is called by its id."""
        (channel,) = wanted([self.write("team.json", group("", id=RED, idOverride=True))]).channels
        self.assertEqual(channel.name, RED)

    def test_remarks(self) -> None:
        """What is odd in a file is told with its name."""
        found = wanted([self.write("team.json", group("Red", txAudio={"encoder": "hurdy-gurdy"}))])
        self.assertTrue(any(each.startswith("team.json: groups[0].txAudio") for each in found.remarks))

    def test_one(self) -> None:
        """Who talks, talks on one: where there are several they are listed."""
        file = self.usual()
        self.assertEqual(one(wanted([f"{file}/Red"])).name, "Red")
        error = self.assertRaises(LocalError, one, wanted([file]))
        self.assertIn("There are 'Red', 'Blue Team': name one behind the file, as in FILE/Red", str(error))


class PasswordTests(Case):
    def setUp(self) -> None:
        super().setUp()
        text = (self.folder / self.usual()).read_text()
        (self.folder / "team.ice").write_text(pack(text, "open sesame"))

    def test_from_a_file(self) -> None:
        """The password is the first line of the file."""
        path = self.folder / "word"
        path.write_text("open sesame\nand what follows\n")
        self.assertEqual(len(wanted(["team.ice"], path).channels), 2)

    def test_wrong(self) -> None:
        """A wrong password is refused."""
        path = self.folder / "word"
        path.write_text("open barley\n")
        self.assertRaises(WrongPassword, wanted, ["team.ice"], path)

    def test_no_such_file(self) -> None:
        """A password file that cannot be read is named."""
        for path in (self.folder / "nowhere", self.folder):
            error = self.assertRaises(LocalError, wanted, ["team.ice"], path)
            self.assertIn(f"{path}: cannot be read", str(error))

    def test_nobody_to_ask(self) -> None:
        """Where no terminal is there, the option is named instead of waiting for ever."""
        with mock.patch.object(mission_source.sys, "stdin", mock.Mock(isatty=lambda: False)):
            error = self.assertRaises(LocalError, wanted, ["team.ice"])
        self.assertNotIsInstance(error, PasswordNeeded)
        self.assertIn("--password-file", str(error))

    def test_asked_for(self) -> None:
        """On a terminal it is asked for, without showing it."""
        with (
            mock.patch.object(mission_source.sys, "stdin", mock.Mock(isatty=lambda: True)),
            mock.patch.object(mission_source.click, "prompt", return_value="open sesame") as prompt,
        ):
            self.assertEqual(len(wanted(["team.ice"]).channels), 2)
        self.assertTrue(prompt.call_args.kwargs["hide_input"])


class ConfigurationTests(Case):
    def setUp(self) -> None:
        super().setUp()
        for patch in (
            mock.patch.dict(os.environ),
            mock.patch("ice.config.load.PLACES", (self.folder / "etc/ice.toml",)),
        ):
            patch.start()
            self.addCleanup(patch.stop)
        os.environ.pop("ICE_CONFIG", None)

    def test_none_for_a_mission(self) -> None:
        """Who asks for groups of missions needs no configuration, and hears with the defaults."""
        loaded = configuration(None, wanted([self.usual()]))
        self.assertIsNone(loaded)
        self.assertEqual(media_of(loaded), MediaSettings())

    def test_needed_for_a_stream(self) -> None:
        """Streams are of the configured Rallypoints: without a configuration there are none."""
        for words in (["town"], ["town", self.usual()]):
            self.assertRaises(ConfigError, configuration, None, wanted(words))

    def test_named_and_not_there(self) -> None:
        """A configuration that was named, by option or environment, is missed."""
        words = wanted([self.usual()])
        self.assertRaises(ConfigError, configuration, self.folder / "mine.toml", words)
        os.environ["ICE_CONFIG"] = str(self.folder / "mine.toml")
        self.assertRaises(ConfigError, configuration, None, words)

    def test_broken(self) -> None:
        """One that is there and wrong is told, not passed over."""
        (self.folder / "etc").mkdir()
        (self.folder / "etc/ice.toml").write_text("[media]\nbitrate = 3\n")
        self.assertRaises(ConfigError, configuration, None, wanted([self.usual()]))

    def test_used(self) -> None:
        """One that is there counts for missions too."""
        (self.folder / "etc").mkdir()
        (self.folder / "etc/ice.toml").write_text("[media]\nbitrate = 32000\n")
        self.assertEqual(media_of(configuration(None, wanted([self.usual()]))).bitrate, 32_000)


class RulesTests(Case):
    def test_streams(self) -> None:
        """On streams the configuration says whether one talks at a time, and how long."""
        stream = Channel("town", "town")
        self.assertTrue(stream.rules(MediaSettings()).full_duplex)
        self.assertEqual(stream.rules(MediaSettings()).max_tx_s, 0)
        rules = stream.rules(MediaSettings(half_duplex=True, max_talk_s=7, end_of_burst_ms=300))
        self.assertEqual((rules.full_duplex, rules.max_tx_s, rules.silence_s), (False, 7, 0.3))
        self.assertEqual(stream.gain, 1)

    def test_groups(self) -> None:
        """On groups the mission says it; how long, the configuration where the mission does not."""
        file = self.write(
            "team.json", group("Red"), group("Blue", 2, txAudio={"encoder": 25, "maxTxSecs": 90, "fdx": True})
        )
        red, blue = (each.rules(MediaSettings(max_talk_s=7)) for each in wanted([file]).channels)
        self.assertEqual((red.full_duplex, red.max_tx_s), (False, 7))
        self.assertEqual((blue.full_duplex, blue.max_tx_s), (True, 90))


class NetworksTests(Case):
    """The networks of channels, on a clock of the test's own: nothing is started, so nothing reaches the machine's network."""

    def setUp(self) -> None:
        super().setUp()
        self.clock, self.told = Clock(), Told()

    def networks(self, words: Wanted, config: Path | None = None) -> Networks:
        loaded = load(config) if config is not None else None
        return Networks(self.clock, loaded, words, lambda notice: None)

    def test_each_from_its_own(self) -> None:
        """Streams are joined on the configured Rallypoints, groups on their mission's ways."""
        site = Site.create(self.folder / "site", clients=("anna",))
        words = wanted(["town", f"{self.usual()}/Red"])
        networks = self.networks(words, site.client("anna").config)
        town, red = (networks.join(channel, Collector(), talk=False) for channel in words.channels)
        self.assertEqual((town.stream_id, red.stream_id), ("town", RED))
        self.assertEqual(len(list(networks.links)), 1)
        Deferred.fromCoroutine(networks.stop())
        self.clock.advance(1)

    def test_what_is_missing(self) -> None:
        """What a group that is asked for cannot have is told; of others nothing."""
        at = {"rallypoints": [{"host": {"address": "rp.test", "port": 7443}}]}
        file = self.write("team.json", group("Red", 1, **at), group("Blue", 2, **at), group("Green", 3))
        words = wanted([f"{file}/Blue", f"{file}/Green"])
        self.networks(words).tell(self.told, words)
        (remark,) = self.told.sentences("remark")
        self.assertIn("groups[1].rallypoints", remark)
        self.assertIn("without a configuration", remark)

    def test_how_many_remarks(self) -> None:
        """What is odd in the files is counted, with the command that shows it."""
        words = Wanted((), (), ("a", "b"))
        self.networks(words).tell(self.told, words)
        self.assertIn("2 remarks", self.told.sentences("remarks")[0])
        self.assertIn("ice mission check", self.told.sentences("remarks")[0])

    def test_why(self) -> None:
        """There is always a sentence on why there is no way."""
        words = wanted([self.usual()])
        networks = self.networks(words)
        self.assertEqual(networks.why, "no Rallypoint has answered")
        networks.join(words.channels[0], Collector())
        self.assertTrue(networks.why)

    def test_patience(self) -> None:
        """Who talks waits as long as a group takes to fail over, and no longer where it does not."""
        site = Site.create(self.folder / "site", clients=("anna",))
        at = {"rallypoints": [{"host": {"address": "rp.test", "port": 7443}}]}
        over = {"enableMulticastFailover": True, "multicastFailoverSecs": 4}
        words = wanted(
            [self.write("team.json", group("Red", 1, **at, **over), group("Blue", 2, **at)), "town"]
        )
        networks = self.networks(words, site.client("anna").config)
        self.assertEqual([networks.patience_s(each) for each in words.channels], [4, 0, 0])

    def test_sealing(self) -> None:
        """How a group is sealed is told; what is refused at once, once for each reason, and counted in the end."""
        words = wanted([self.write("team.json", group("Red", cryptoPassword=KEY, cipher="aes-256-gcm"))])
        (red,) = words.channels
        networks = self.networks(words)
        networks.join(red, Collector())
        self.hear(networks, red, "f" * 64)
        self.hear(networks, red, "f" * 64)
        networks.tell_refused(self.told, red)
        networks.tell_refused(self.told, red)
        (said,) = self.told.sentences("sealed-refused")
        self.assertEqual(
            said,
            "'Red': a packet was refused (tag): somebody has another key, or packets are changed or forged on their way",
        )
        networks.tell_sealing(self.told, red)
        self.assertEqual(
            self.told.sentences("sealing"), ["'Red' is aes-256-gcm, authenticated; packets refused: 2 tag"]
        )
        self.assertEqual(self.told.named("sealing")[0]["refused"], {"tag": 2})

    def hear(self, networks: Networks, channel: Channel, key: str) -> None:
        """A packet that was sealed with this key arrives below."""
        sealed = Sealer(derive(key), Cipher.GCM, channel.stream_id).seal(b"\x80" + bytes(40), 1.8e9)
        (status,) = networks.teams[channel.mission].status()
        self.assertEqual(status.name, channel.name)
        branch = networks.teams[channel.mission]._branches[channel.stream_id]
        (stream,) = branch.sealed._streams
        below = stream.inner
        below._receiver.datagram(Datagram(0, 1, 1, sealed))  # type: ignore[attr-defined]

    def test_clear(self) -> None:
        """Of a stream nothing is said; of a group in clear, that it is not encrypted."""
        words = wanted([self.usual(), "town"])
        networks = self.networks(Wanted(words.channels[:2], words.missions, ()))
        networks.tell_sealing(self.told, words.channels[2])
        networks.tell_refused(self.told, words.channels[2])
        self.assertEqual(self.told.events, [], "a stream")
        for channel in words.channels[:2]:
            networks.join(channel, Collector())
            networks.tell_sealing(self.told, channel)
            networks.tell_refused(self.told, channel)
        self.assertEqual(self.told.sentences("sealing")[0], "'Red' is not encrypted")
        self.assertEqual(self.told.sentences("sealed-refused"), [])
