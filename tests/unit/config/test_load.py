"""Loading: every kind of mistake with its exact line, key and words; where files are looked for; what is made of paths."""

import os
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from twisted.trial.unittest import SynchronousTestCase

from ice.config import load as load_module
from ice.config.load import MAX_BYTES, ConfigError, Loaded, load, loads
from ice.config.problems import is_array
from ice.config.schema import AccessRule, Config
from ice.errors import LocalError
from ice.net.addresses import Address

FILE = Path("etc/ice.toml")


def wrong(text: str) -> list[tuple[int, str, str]]:
    """What is wrong with `text`: line, key and message of each problem."""
    try:
        loads(text, FILE)
    except ConfigError as error:
        return [(problem.line, problem.key, problem.message) for problem in error.problems]
    return []


CODECS = "opus, pcmu, pcma, l16, gsm, g722, amr-nb, speex or codec2"


class Mistakes(SynchronousTestCase):
    def check(self, text: str, *expected: tuple[int, str, str]) -> None:
        self.assertEqual(wrong(text), list(expected))

    def test_as_printed(self) -> None:
        """A problem is printed with file, line, key and message, and the error has one line for each."""
        with self.assertRaises(ConfigError) as caught:
            loads('\n[rallypoint]\nlisten = ["127.0.0.1:74430"]\ndrain_s = "x"\n', FILE)
        self.assertEqual(
            str(caught.exception),
            "etc/ice.toml:3: rallypoint.listen: port 74430 is not in 1–65535\n"
            'etc/ice.toml:4: rallypoint.drain_s: expected a number of seconds, found "x"',
        )
        self.assertIsInstance(caught.exception, LocalError)

    def test_unknown_key(self) -> None:
        """An unknown key names the one that was probably meant, or its true section, or what there is."""
        self.check(
            "[rallypoint]\nkeepalives = 5\n",
            (2, "rallypoint.keepalives", "unknown key; did you mean 'keepalive_s'?"),
        )
        self.check("[log]\n\ncodec = 'opus'\n", (3, "log.codec", "unknown key; it belongs in [media]"))
        self.check("[log]\nzzz = 1", (2, "log.zzz", "unknown key; [log] has format, level"))
        self.check(
            "[[rallypoint.access]]\n[[rallypoint.access]]\nstream = ['a']",
            (3, "rallypoint.access.stream", "unknown key; did you mean 'streams'?"),
        )

    def test_unknown_section(self) -> None:
        """An unknown table is called a section."""
        self.check("[netwrk]\nx = 1", (1, "netwrk", "unknown section; did you mean 'network'?"))
        self.check("[limits]\njoins = 1", (1, "limits", "unknown section; it belongs in [rallypoint]"))

    def test_wrong_types(self) -> None:
        """A wrong type is told in words, with what was found."""
        self.check(
            '[rallypoint]\nkeepalive_s = "five"\n',
            (2, "rallypoint.keepalive_s", 'expected a number of seconds, found "five"'),
        )
        self.check(
            "[media]\njitter_min_ms = 2.5\ndtx = 1\nbitrate = true\ncodec = 5\n",
            (2, "media.jitter_min_ms", "expected a whole number of milliseconds, found 2.5"),
            (3, "media.dtx", "expected true or false, found 1"),
            (4, "media.bitrate", "expected a whole number, found true"),
            (5, "media.codec", f"expected {CODECS}, found 5"),
        )
        self.check(
            "[identity]\nalias = 1979-05-27\nkey = ['a']\n",
            (2, "identity.alias", "expected text in quotes, found a date or time"),
            (3, "identity.key", "expected the name of a file in quotes, found a list"),
        )
        self.check(
            'network = "x"\n[rallypoint]\nlisten = "127.0.0.1:1"\nlimits = []',
            (1, "network", 'expected a table, found "x"'),
            (3, "rallypoint.listen", 'expected a list in [ ], found "127.0.0.1:1"'),
            (4, "rallypoint.limits", "expected a table, found an empty list"),
        )
        self.check(
            "[rallypoint]\ndrain_s = nan",
            (2, "rallypoint.drain_s", "expected a number of seconds, found nan"),
        )

    def test_ranges(self) -> None:
        """A number outside its range is told with the range."""
        self.check("[media]\npriority = 256", (2, "media.priority", "256 is not in 0–255"))
        self.check(
            "[network]\nconnect_timeout_s = 0", (2, "network.connect_timeout_s", "0 is not in 0.1–120")
        )
        self.check(
            f"[rallypoint.limits]\njoins = {10**30}",
            (2, "rallypoint.limits.joins", "a number of more than 18 digits is not in 1–100000"),
        )

    def test_choices(self) -> None:
        """A word that is no choice is answered with the choices and the nearest."""
        self.check(
            '[media]\ncodec = "Opuss"\nframing_ms = 30',
            (2, "media.codec", f"expected {CODECS}, found \"Opuss\"; did you mean 'opus'?"),
            (3, "media.framing_ms", "expected 20, 40, 60, 80, 100 or 120, found 30"),
        )

    def test_bit_rates(self) -> None:
        """What is too little for Opus may do for a codec of radios."""
        self.check(
            "[media]\nbitrate = 1300",
            (2, "media.bitrate", "1300 is too little for opus, which begins at 6000"),
        )
        config = Config.model_validate({"media": {"codec": "codec2", "bitrate": 1_300}})
        self.assertEqual(config.media.bitrate, 1_300)

    def test_elements_of_lists(self) -> None:
        """A bad element is told on its own line; the list it makes short is not told as well."""
        self.check(
            '[rallypoint]\nlisten = [\n  "127.0.0.1:7443",\n  # here\n  "127.0.0.1:0",\n]\n',
            (5, "rallypoint.listen", "port 0 is not in 1–65535"),
        )
        self.check("[rallypoint]\nlisten = []", (2, "rallypoint.listen", "at least 1 must be listed"))
        self.check(
            "[[rallypoint.access]]\nstreams = ['a',\n 5,\n '']",
            (3, "rallypoint.access.streams", "expected text in quotes, found 5"),
            (4, "rallypoint.access.streams", "must not be empty"),
        )

    def test_inline_and_dotted(self) -> None:
        """Inline tables and dotted keys are told by the same names and their own lines."""
        self.check(
            "[rallypoint]\nhttp.listen = 'x'\nlimits = { joins = 0, streams = 0 }",
            (2, "rallypoint.http.listen", 'a port is missing: write "x:7443"'),
            (3, "rallypoint.limits.joins", "0 is not in 1–100000"),
            (3, "rallypoint.limits.streams", "0 is not in 1–10000000"),
        )

    def test_listen_wants_addresses(self) -> None:
        """A place to listen on is written out, never a name and never left out."""
        self.check(
            '[rallypoint]\nlisten = ["localhost:7443"]\nhealth_check = ":80"',
            (
                2,
                "rallypoint.listen",
                'to listen, an IP address is needed, not the name localhost: "127.0.0.1:7443"',
            ),
            (
                3,
                "rallypoint.health_check",
                (
                    'a host is missing before the colon: write "127.0.0.1:80" for this machine alone, '
                    '"0.0.0.0:80" for each of its addresses'
                ),
            ),
        )

    def test_networks(self) -> None:
        """A denied address is a network or an address, and is kept in its usual form."""
        text = '[rallypoint.limits]\ndenied_addresses = ["192.0.2.7/24", "2001:DB8::7"]\n'
        self.assertEqual(
            loads(text, FILE).config.rallypoint.limits.denied_addresses, ("192.0.2.0/24", "2001:db8::7/128")
        )
        ((line, key, message),) = wrong('[rallypoint.limits]\ndenied_addresses = ["here"]\n')
        self.assertEqual((line, key), (2, "rallypoint.limits.denied_addresses"))
        self.assertIn('expected a network or an address like "192.0.2.0/24", found "here"', message)

    def test_one_port_twice(self) -> None:
        """Two listeners cannot have one address."""
        self.check(
            '[rallypoint]\nlisten = ["127.0.0.1:1", "127.0.0.1:1"]',
            (2, "rallypoint.listen", "127.0.0.1:1 is listed twice"),
        )
        self.check(
            '[rallypoint]\nhealth_check = "127.0.0.1:7443"\n[rallypoint.http]\n\nlisten = "127.0.0.1:7443"',
            (2, "rallypoint.health_check", "127.0.0.1:7443 is in rallypoint.listen already"),
            (5, "rallypoint.http.listen", "127.0.0.1:7443 is in rallypoint.listen already"),
        )
        self.check(
            '[rallypoint]\nhealth_check = "127.0.0.1:7480"',
            (2, "rallypoint.http.listen", "127.0.0.1:7480 is in rallypoint.health_check already"),
        )

    def test_order_of_pairs(self) -> None:
        """A greatest value below its least is told where it is written, or where the least is."""
        self.check(
            "[media]\njitter_min_ms = 100\njitter_max_ms = 50",
            (3, "media.jitter_max_ms", "50 is less than jitter_min_ms, which is 100"),
        )
        self.check(
            "[rallypoint.limits]\n\ncpu_delay_percent = 99",
            (3, "rallypoint.limits.cpu_refuse_percent", "98 is less than cpu_delay_percent, which is 99"),
        )
        self.check(
            "[network]\nback_off_min_s = 50",
            (2, "network.back_off_max_s", "30.0 is less than back_off_min_s, which is 50.0"),
        )

    def test_text(self) -> None:
        """Text is bounded in bytes and free of control characters; the parrot is an ordinary stream."""
        self.check(
            '[identity]\nalias = "éééééééé9"\n',
            (
                2,
                "identity.alias",
                "is 17 bytes long; the limit is 16 (a letter outside English takes 2 to 4)",
            ),
        )
        self.check(
            '[rallypoint]\nname = "a\\u001b[2J"\nparrot = "__x"\nkey = ""',
            (2, "rallypoint.name", "contains the control character U+001B"),
            (3, "rallypoint.parrot", "stream ids that begin with __ are for satellites"),
            (4, "rallypoint.key", "expected the name of a file"),
        )

    def test_syntax(self) -> None:
        """A syntax error has line and column, and a hint at the usual cause."""
        self.check(
            "[media]\ncodec = “opus”\n",
            (2, "", 'column 9: “ (U+201C) is a typographic quotation mark; TOML wants the plain "'),
        )
        self.check(
            "[media]\ncodec\u00a0= 1\n",
            (2, "", "column 6: an invisible character (U+00A0) stands in column 6; delete it"),
        )
        self.check("[media]\ncodec = opus\n", (2, "", 'column 9: text needs quotes: "opus"'))
        self.check("[media]\n\ndtx = False", (3, "", "column 7: expected false, found False"))
        self.check("[media]\ndtx: true", (2, "", "column 4: a key and its value are joined by =, not by :"))
        self.check(
            "\n[media",
            (2, "", "column 7 (the end of the file): expected ']' at the end of a table declaration"),
        )
        self.check('a = "x', (1, "", "column 7 (the end of the file): unterminated string"))

    def test_given_twice(self) -> None:
        """A key or section given twice is told with both lines."""
        self.check(
            "[log]\nlevel = 'info'\n\nlevel = 'warn'",
            (4, "log.level", "given twice; the first time on line 2"),
        )
        self.check("[log]\n[media]\n[log]", (3, "log", "given twice; the first time on line 1"))

    def test_nesting_and_digits(self) -> None:
        """What would exhaust the parser is refused like any other mistake."""
        deep = "keys, lists or tables are nested more than 32 deep; no setting is"
        self.check("a = " + "[" * 5000, (1, "", deep))
        self.check("\na = " + "{a = " * 5000, (2, "", deep))
        self.check("[a]\nb = [\n" + "[" * 31, (3, "", deep))
        with mock.patch.object(
            load_module.tomllib, "loads"
        ) as parser:  # it would take minutes, and gigabytes
            for text in (
                "a{} = 1",
                "x = 1\n[a{}]",
                "\n[[a{}]]\n",
                "x = {{\n a{} = 1}}",
                "'' = [\n{{ a{} = 1 }}]",
            ):
                for part in (".a", " . a", ".'a'", '."\\u0061"'):
                    full = text.format(part * (MAX_BYTES // len(part)))
                    line = full.count("\n", 0, 20) + 1
                    self.check(full, (line, "", deep))
            parser.assert_not_called()
        ((line, _, message),) = wrong("a = " + "9" * 5000)
        self.assertEqual(line, 0)
        self.assertIn("a value cannot be read", message)

    def test_strangers_text_is_cut(self) -> None:
        """What is repeated of a wrong value is short and cannot move a terminal's cursor."""
        ((_, key, message),) = wrong('"\\u001b[2J" = 1')
        self.assertEqual(key, "�[2J")
        ((_, _, message),) = wrong(f'[media]\ncodec = "{"x" * 5000}\\u001b"')
        self.assertLess(len(message), 120)

    def test_many(self) -> None:
        """Thousands of mistakes are counted, a hundred are printed."""
        with self.assertRaises(ConfigError) as caught:
            loads("".join(f"k{n} = 1\n" for n in range(2500)), FILE)
        self.assertEqual(len(caught.exception.problems), 2500)
        self.assertEqual(len(str(caught.exception).split("\n")), 101)


class Files(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def refusal(self, path: Path) -> str:
        with self.assertRaises(ConfigError) as caught:
            load(path, environ={})
        return str(caught.exception)

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    def test_missing(self) -> None:
        """A file that is not there says how to make one."""
        self.assertIn("there is no such file; copy etc/ice.toml", self.refusal(self.folder / "no.toml"))

    def test_folder(self) -> None:
        """A folder is no configuration."""
        self.assertIn("expected a file, found a folder", self.refusal(self.folder))

    def test_unreadable(self) -> None:
        """A file we may not read, or that fails while reading, is told."""
        with mock.patch.object(load_module, "open", side_effect=PermissionError(13, "no"), create=True):
            self.assertIn("this user may not read it", self.refusal(FILE))
        with mock.patch.object(
            load_module, "open", side_effect=OSError(5, "Input/output error"), create=True
        ):
            self.assertIn("cannot be read: Input/output error", self.refusal(FILE))
        self.assertIn("cannot be read", self.refusal(Path("a\0b")))

    def test_too_large(self) -> None:
        """Reading stops at the bound."""
        self.assertIn(
            f"is larger than {MAX_BYTES} bytes", self.refusal(self.write("a", b"#" * (MAX_BYTES + 1)))
        )
        load(self.write("b", b"#" * MAX_BYTES), environ={})

    def test_not_utf8(self) -> None:
        """The line of the first byte that is not UTF-8 is told."""
        path = self.write("a", b"[log]\n# caf\xe9\n")
        self.assertEqual(self.refusal(path), f"{path}:2: byte 0xe9 is not UTF-8; save the file as UTF-8")

    def test_other_systems(self) -> None:
        """A byte order mark and CRLF line ends are read past."""
        loaded = load(self.write("a", b"\xef\xbb\xbf[log]\r\nlevel = 'warn'\r\n"), environ={})
        self.assertEqual(loaded.config.log.level, "warn")
        self.assertEqual(loaded.positions.line(("log", "level")), 2)

    def test_lookup(self) -> None:
        """The argument goes before ICE_CONFIG, that before the usual places, in their order."""
        files = [self.write(name, b"") for name in ("argument", "environment", "here", "system")]
        argument, environment, here, system = files
        with mock.patch.object(load_module, "PLACES", (here, system)):
            environ = {"ICE_CONFIG": str(environment)}
            self.assertEqual(load(argument, environ=environ).path.name, "argument")
            self.assertEqual(load(environ=environ).path.name, "environment")
            self.assertEqual(load(environ={"ICE_CONFIG": ""}).path.name, "here")
            here.unlink()
            self.assertEqual(load(environ={}).path.name, "system")
            system.unlink()
            with self.assertRaises(ConfigError) as caught:
                load(environ={})
        said = str(caught.exception)
        self.assertIn(f"looked at ICE_CONFIG (not set), {here}, {system}; copy etc/ice.toml", said)

    def test_environment_names_nothing(self) -> None:
        """ICE_CONFIG that leads nowhere is an error, not a reason to look elsewhere."""
        with self.assertRaises(ConfigError):
            load(environ={"ICE_CONFIG": str(self.folder / "no")})

    def test_paths(self) -> None:
        """Relative files, also by default, stand beside the configuration; absolute ones and ~ stay what they are."""
        path = self.write(
            "site/ice.toml", b'[identity]\ncertificate = "../a.pem"\nkey = "/k"\n[rallypoint]\nkey = "~/k"'
        )
        config = load(path, environ={}).config
        folder = Path(os.path.abspath(self.folder))
        self.assertEqual(config.identity.certificate, folder / "a.pem")
        self.assertEqual(config.identity.key, Path("/k"))
        self.assertEqual(config.rallypoint.key, Path(os.path.expanduser("~/k")))
        self.assertEqual(config.rallypoint.certificate, folder / "site/pki/rallypoint.pem")
        self.assertEqual(config.authority.certificates, (folder / "site/pki/authority.pem",))


class Values(SynchronousTestCase):
    def load(self, text: str) -> Loaded:
        return loads(text, FILE)

    def test_empty_is_valid(self) -> None:
        """An empty file is the defaults."""
        config = self.load("").config
        self.assertEqual(config.network.rallypoints, (Address("localhost", 7443),))
        self.assertEqual(config.rallypoint.access, ())
        self.assertIsNone(config.rallypoint.health_check)

    def test_values(self) -> None:
        """Values arrive typed: addresses, tuples, None for a listener that is off."""
        config = self.load(
            '[rallypoint]\nlisten = ["[::1]:7443"]\nkeepalive_s = 3\nhttp = { listen = "" }\n'
            '[[rallypoint.access]]\nname = "a*"\nallow = false\n[media]\nframing_ms = 60'
        ).config
        self.assertEqual(config.rallypoint.listen, (Address("::1", 7443),))
        self.assertEqual(config.rallypoint.keepalive_s, 3.0)
        self.assertIsNone(config.rallypoint.http.listen)
        self.assertEqual(config.rallypoint.access, (AccessRule(name="a*", allow=False),))
        self.assertEqual(config.media.framing_ms, 60)

    def test_frozen(self) -> None:
        """A configuration cannot be changed."""
        config: Any = Config()
        with self.assertRaises(ValidationError):
            config.media.codec = "pcmu"

    def test_gives(self) -> None:
        """What the file gives is told from what it leaves to the defaults."""
        loaded = self.load("[identity]\nkey = 'k'")
        self.assertTrue(loaded.gives("identity", "key"))
        self.assertFalse(loaded.gives("identity", "certificate"))

    def test_warnings(self) -> None:
        """What is allowed but probably not meant is warned about, with its line."""
        loaded = self.load(
            '[network]\nverify_name = false\n[rallypoint]\nlisten = [\n"127.0.0.1:1",\n"0.0.0.0:2", "[::]:3"]\n'
            '[rallypoint.http]\nlisten = "192.0.2.1:80"\n[[rallypoint.access]]\nlisten = false\ntalk = false\n'
            "[[rallypoint.access]]\n"
        )
        self.assertEqual(
            [(w.line, w.key, w.message.split(" ")[0]) for w in loaded.warnings],
            [
                (2, "network.verify_name", "any"),
                (6, "rallypoint.listen", "0.0.0.0:2"),
                (6, "rallypoint.listen", "[::]:3"),
                (8, "rallypoint.http.listen", "192.0.2.1:80"),
                (9, "rallypoint.access", "this"),
                (9, "rallypoint.access", "this"),
            ],
        )

    def test_nothing_to_warn_about(self) -> None:
        """The defaults are no cause for warnings."""
        self.assertEqual(self.load("").warnings, ())


WORDS = st.sampled_from(
    [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ",",
        ".",
        "#",
        "\n",
        "identity",
        "rallypoint",
        "rallypoint.limits",
        "rallypoint.access",
        "groups",
        "members",
        "media",
        "listen",
        "codec",
        "joins",
        "keepalive_s",
        "true",
        "false",
        "5",
        "-1",
        "0.5",
        "nan",
        "inf",
        "1e400",
        "07:32:00",
        "1979-05-27",
        "'opus'",
        '"127.0.0.1:1"',
        '""',
        "''",
        '"\\ud800"',
        "“",
        "\\",
    ]
    + ["\n"] * 3
)


class AnyText(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.lists(WORDS, max_size=40).map(" ".join) | st.text(max_size=60))
    @example("[[rallypoint]]\n[rallypoint.access]")
    @example("rallypoint.access = [[]]")
    @example("a = 1e400\n[media]\nbitrate = 1e400")
    def test_loads_or_says_why(self, text: str) -> None:
        """Any text is a configuration or a ConfigError whose every problem names the file and a line of it."""
        try:
            loads(text, FILE)
        except ConfigError as error:
            self.assertTrue(error.problems)
            for problem in error.problems:
                self.assertEqual(problem.file, "etc/ice.toml")
                self.assertLessEqual(problem.line, text.count("\n") + 1)
                str(error).encode()

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_any_value_anywhere(self, data: st.DataObject) -> None:
        """Any TOML value under any key of the schema is taken or told with that key's line."""
        fields = Config.model_fields.items()
        sections = [name for name, field in fields if not is_array(field.annotation)]
        section = data.draw(st.sampled_from(sorted(sections)))
        model: Any = Config.model_fields[section].annotation
        key = data.draw(st.sampled_from(sorted(model.model_fields)))
        value = data.draw(
            st.sampled_from(
                ["''", "'x'", "0", "-1", "99999999999999999999", "0.5", "nan", "true", "[]", "[0]", "['']"]
            )
            | st.sampled_from(
                ["[[]]", "{}", "[{}]", "{ x = 1 }", "1979-05-27", "'a:1'", "['a:1', 'a:1']", "'__x'"]
            )
        )
        for line, name, _ in wrong(f"# first\n[{section}]\n{key} = {value}\n"):
            self.assertEqual(line, 3)
            self.assertTrue(name.startswith(f"{section}."))
