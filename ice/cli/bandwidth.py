"""``ice bandwidth``: what voice costs on the wire, for a codec, a mission or a site; with ``--measure``, what it really did.

Without arguments: the codecs of the original's tables, each framing, multicast and Rallypoint, clear and sealed. With a mission: its groups.
With ``--users``: a site of so many people, on the mission's groups or on ``--channels`` alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ice.cli.options import config_option, json_option, password_option, usual_option, verbosity
from ice.errors import LocalError
from ice.media.engage import ENCODERS as BY_ID
from ice.media.engage import encoder_of

if TYPE_CHECKING:
    from ice.planning.bandwidth import Seal
    from ice.planning.site import Channel, PresenceChannel

FRAMINGS: Final = (20, 40, 60, 100)  # those of the original's tables
ENCODERS: Final = (
    1,
    10,
    17,
    3,
    20,
    21,
    25,
    29,
)  # likewise: G.711, AMR-NB 4.75 and 12.2, GSM, Opus 6, 8, 16, 24
SITE_ENCODER: Final = 25  # Opus at 16 kbit/s
SITE_FRAMING_MS: Final = 60  # Engage's default
CIPHERS: Final = {"clear": "clear", "cbc": "aes-256-cbc", "gcm": "aes-256-gcm"}


@click.command()
@click.argument("mission", required=False)
@config_option
@password_option
@click.option(
    "--codec",
    "codecs",
    multiple=True,
    help="An encoder by its number or name (opus 16, g.711, amr); may be repeated.",
)
@click.option(
    "--framing",
    "framings",
    multiple=True,
    type=click.IntRange(1, 1_000),
    help="Milliseconds in a packet; may be repeated.",
)
@click.option(
    "--cipher",
    type=click.Choice(list(CIPHERS)),
    help="How the channels of a site are sealed, and --measure.  [gcm]",
)
@click.option("--ipv6", is_flag=True, help="IPv6 headers in place of IPv4.")
@click.option("--alias", default="", help="Count our RTP header extension too, with this alias.")
@click.option("--users", type=click.IntRange(1), help="Plan a site of so many people.")
@click.option(
    "--channels", type=click.IntRange(1, 10_000), help="Channels of the site; where no mission is given.  [1]"
)
@usual_option("--talking", click.FloatRange(0, 100), 10.0, "Percent of the users who want to talk at a time.")
@click.option(
    "--joined", type=click.IntRange(0), default=0, help="Channels that each user has joined.  [all]"
)
@usual_option("--rallypoints", click.IntRange(1, 1_000), 1, "Rallypoints of the site, in a mesh.")
@click.option("--fdx", is_flag=True, help="All may talk at once on the site's channels (full duplex).")
@click.option(
    "--chart", type=click.Path(path_type=Path, dir_okay=False), help="Draw it: a .svg or .png file."
)
@click.option(
    "--measure", type=click.FloatRange(0.5, 600), is_flag=False, flag_value=5.0,
    help="Talk for so many seconds over the Rallypoint of the configuration, and compare.  [5]",
)  # fmt: skip
@click.option("--stream", help="Where to talk with --measure.  [a new one]")
@click.option("--multicast", help="Measure on this ADDRESS:PORT too, with --measure.")
@click.option("--interface", default="", help="Of it, by name.")
@json_option
def bandwidth(
    mission: str | None,
    config: Path | None,
    password_file: Path | None,
    codecs: tuple[str, ...],
    framings: tuple[int, ...],
    cipher: str | None,
    ipv6: bool,
    alias: str,
    users: int | None,
    channels: int | None,
    talking: float,
    joined: int,
    rallypoints: int,
    fdx: bool,
    chart: Path | None,
    measure: float | None,
    stream: str | None,
    multicast: str | None,
    interface: str,
    as_json: bool,
) -> int:
    """Say how many packets and bits a second voice needs: by codec, for a MISSION, or for a site (--users)."""
    from ice.planning.bandwidth import Seal

    seal = Seal(CIPHERS[cipher or "gcm"])
    if measure is not None:
        if mission is not None or users is not None or codecs:
            raise LocalError(
                "--measure talks with the configuration's codec, on a stream of its own: leave out the mission, --users and --codec"
            )
        from ice.cli.measuring import measure_command

        return measure_command(
            config, seconds=measure, stream=stream, seal=seal, multicast=multicast, interface=interface,
            framing_ms=framings[0] if framings else None, as_json=as_json, verbose=verbosity(),
        )  # fmt: skip
    from ice.cli import bandwidth_output as output
    from ice.planning.site import Site, plan

    whole = mission is not None
    audio, presence = (
        _of_mission(mission, password_file, alias)
        if mission is not None
        else (
            _alike(codecs, framings, channels, seal, fdx=fdx)
            if users is not None
            else _table(codecs, framings, alias),
            (),
        )
    )
    if whole and (codecs or framings or channels is not None or fdx):
        raise LocalError(
            "a mission says itself which channels it has and how they talk: leave out --codec, --framing, --channels and --fdx"
        )
    if users is None:
        if chart is not None:
            output.draw_streams(chart, audio, whole=whole, ipv6=ipv6)
        output.show_streams(audio, presence, whole=whole, ipv6=ipv6, as_json=as_json)
        return 0
    found = plan(Site(users, audio, talking / 100, joined, rallypoints, presence, ipv6))
    if chart is not None:
        output.draw_site(chart, found)
    output.show_site(found, as_json=as_json)
    return 0


def find_encoders(wishes: Sequence[str]) -> list[int]:
    """Encoder ids by number or by a piece of their names; raises :class:`~ice.errors.LocalError` for what fits none."""
    found: list[int] = []
    for wish in wishes:
        if wish.isdecimal() and int(wish) in BY_ID:
            found.append(int(wish))
            continue
        plain = _plain(wish)
        exact = [row.id for row in BY_ID.values() if plain == _plain(row.name) and row.bitrate]
        fits = exact or [
            row.id for row in BY_ID.values() if plain and plain in _plain(row.name) and row.bitrate
        ]
        if not fits:
            raise LocalError(
                f"no encoder fits {wish!r}; give a number (21) or a name: "
                + ", ".join(sorted({row.name.split()[0] for row in BY_ID.values() if row.bitrate}))
            )
        found += fits
    return list(dict.fromkeys(found))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower().replace("µ", "u") if letter.isalnum())


def _of_mission(
    file: str, password_file: Path | None, alias: str
) -> tuple[tuple[Channel, ...], tuple[PresenceChannel, ...]]:
    from ice.cli.channels import wanted
    from ice.planning.site import ALIAS, channels_of

    missions = wanted((file,), password_file).missions
    if not missions:
        raise LocalError(f"{file}: there is no such mission file")
    return channels_of(missions[0], alias=alias or ALIAS)


def _alike(
    codecs: Sequence[str], framings: Sequence[int], channels: int | None, seal: Seal, *, fdx: bool
) -> tuple[Channel, ...]:
    """The channels of a site that no mission describes."""
    from ice.planning.bandwidth import Voice, extension_octets
    from ice.planning.site import ALIAS, Channel, bitrate_of

    encoders, chosen = find_encoders(codecs) or [SITE_ENCODER], framings or (SITE_FRAMING_MS,)
    if len(encoders) > 1 or len(chosen) > 1:
        raise LocalError("the channels of a site are alike: give one --codec and one --framing, or a mission")
    row = encoder_of(encoders[0])
    bitrate, warning = bitrate_of(row)
    voice = Voice.at(bitrate, chosen[0], extension=extension_octets(ALIAS, priority=True))
    return tuple(
        Channel(f"channel {number + 1}", row.name, voice, seal, fdx, warning=warning)
        for number in range(channels or 1)
    )


def _table(codecs: Sequence[str], framings: Sequence[int], alias: str) -> tuple[Channel, ...]:
    """A row for each codec and framing."""
    from ice.planning.bandwidth import Seal, Voice, extension_octets
    from ice.planning.site import Channel, bitrate_of

    extension = extension_octets(alias, priority=True) if alias else 0
    rows = []
    for encoder, framing in itertools.product(find_encoders(codecs) or ENCODERS, framings or FRAMINGS):
        row = encoder_of(encoder)
        bitrate, warning = bitrate_of(row)
        voice = Voice.at(bitrate, framing, extension=extension)
        rows.append(Channel(f"{row.name}, {framing} ms", row.name, voice, Seal.CLEAR, warning=warning))
    return tuple(rows)
