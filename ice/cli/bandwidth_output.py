"""How ``ice bandwidth`` shows a plan: a table for people, JSON for machines, a chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from ice.cli.display import json_text, plural
from ice.planning.bandwidth import (
    NOTHING,
    PER_USER_BITS_S,
    RTP,
    Carrier,
    Rate,
    Seal,
    original_tls_rate,
    sealed,
    stream_rate,
)
from ice.planning.chart import Bar, Chart, draw
from ice.planning.site import Channel, Load, PresenceChannel, SitePlan
from ice.printable import printable

KBIT: Final = 1_000
PLAN_KBITS_S: Final = PER_USER_BITS_S / KBIT
WAYS: Final = ((Carrier.MULTICAST, "multicast"), (Carrier.RALLYPOINT, "Rallypoint"))
WHY_NOT_THE_ORIGINALS: Final = (
    "Around a packet on a Rallypoint link: Ethernet 14, IP 20 (IPv6 40), TCP with timestamps 32, TLS 1.3 record 22, MEDIA header 24, "
    "RTP 12 bytes. The original's tables estimate 24 less for its own protocol: ours names each datagram, so that nobody hears it twice, "
    "whatever ways it takes."
)


def show_streams(
    audio: Sequence[Channel],
    presence: Sequence[PresenceChannel],
    *,
    whole: bool,
    ipv6: bool,
    as_json: bool,
) -> None:
    """One talker of each channel: in all ciphers, or (``whole``: these are the groups of a mission) in its own."""
    table = [_stream(channel, whole=whole, ipv6=ipv6) for channel in audio]
    told: list[dict[str, Any]] = [
        {
            "name": each.name, "interval_s": each.interval_s, "payload": each.octets, "cipher": str(each.seal),
            "multicast": figures(each.rate(Carrier.MULTICAST, ipv6=ipv6)) if each.multicast else None,
            "rallypoint": figures(each.rate(Carrier.RALLYPOINT, ipv6=ipv6)) if each.rallypoint else None,
        }
        for each in presence
    ]  # fmt: skip
    total = _everything(audio, ipv6=ipv6) if whole else None
    if as_json:
        answer = {
            "ipv6": ipv6, "streams": table, "presence": told, "all_groups": total, "why": WHY_NOT_THE_ORIGINALS,
        }  # fmt: skip
        click.echo(json_text(answer, indent=2))
        return
    if table:
        (_print_groups if whole else _print_codecs)(table)
    for row in table:
        if row["warning"]:
            click.echo(printable(f"{row['name']}: {row['warning']}"))
    for row in told:
        ways = [f"{row[way]['kbits_per_s']:.2f} kbit/s by {word}" for way, word in WAYS if row[way]]
        sentence = f"each member tells of himself every {row['interval_s']:g} s: {', '.join(ways)}"
        click.echo(f"{printable(row['name'])}: {sentence}")
    if total is not None and table:
        words = ("{:.1f} kbit/s on a multicast LAN", "{:.1f} kbit/s to each listener by Rallypoint")
        needs = [
            word.format(total[str(way)]["kbits_per_s"]) for (way, _), word in zip(WAYS, words, strict=True)
        ]
        click.echo(
            f"\nOne talker on every group at once: {', '.join(need for need in needs if not need.startswith('0.0'))}; "
            f"{'within' if total['within_plan'] else 'over'} the plan of {PLAN_KBITS_S:g} kbit/s per user."
        )
    click.echo("\n" + WHY_NOT_THE_ORIGINALS)


def draw_streams(path: Path, audio: Sequence[Channel], *, whole: bool, ipv6: bool) -> None:
    """A bar for each channel and carrier: codec, RTP, cipher, headers of the carrier. Without a mission, AES-256-GCM."""
    bars = []
    for channel in audio:
        voice, seal = channel.voice, channel.seal if whole else Seal.GCM
        for carrier, word in WAYS:
            kbits = voice.packets_per_s * 8 / KBIT
            total = stream_rate(voice, seal, carrier, ipv6=ipv6).kbits_per_s
            codec, rtp = voice.octets * kbits, RTP * kbits
            cipher = (sealed(RTP + voice.octets, seal) - RTP - voice.octets) * kbits
            rest = max(0.0, total - codec - rtp - cipher)
            bars.append(Bar(f"{channel.name}, {word}", (codec, rtp, cipher, rest), f"{total:.1f}"))
    title = "What one talker needs" + ("" if whole else ", sealed with AES-256-GCM")
    parts = ("codec", "RTP", "cipher", "headers of the carrier")
    draw(path, Chart(title, "kbit/s", parts, tuple(bars), PLAN_KBITS_S, "plan per user"))


def _stream(channel: Channel, *, whole: bool, ipv6: bool) -> dict[str, Any]:
    goes = {
        Carrier.MULTICAST: not whole or channel.multicast,
        Carrier.RALLYPOINT: not whole or channel.rallypoint,
    }
    seals = (channel.seal,) if whole else tuple(Seal)
    rates = {
        str(carrier): {
            str(seal): figures(stream_rate(channel.voice, seal, carrier, ipv6=ipv6)) for seal in seals
        }
        for carrier, _ in WAYS
        if goes[carrier]
    }
    return {
        "name": channel.name,
        "codec": channel.codec,
        "framing_ms": channel.voice.framing_ms,
        "payload": channel.voice.octets,
        "packets_per_s": round(channel.voice.packets_per_s, 3),
        "cipher": str(channel.seal) if whole else None,
        "full_duplex": channel.full_duplex,
        "rates": rates,
        "original_tls_kbits_per_s": {
            str(seal): round(original_tls_rate(channel.voice, seal).kbits_per_s, 3)
            for seal in (Seal.CLEAR, Seal.CBC)
        },
        "warning": channel.warning,
    }


def _everything(audio: Sequence[Channel], *, ipv6: bool) -> dict[str, Any]:
    """One talker on each group at once: what a LAN carries, and what somebody on all of them hears."""
    lan = link = NOTHING
    for channel in audio:
        if channel.multicast:
            lan += channel.rate(Carrier.MULTICAST, ipv6=ipv6)
        if channel.rallypoint:
            link += channel.rate(Carrier.RALLYPOINT, ipv6=ipv6)
    return {
        "multicast": figures(lan),
        "rallypoint": figures(link),
        "plan_kbits_per_s": PLAN_KBITS_S,
        "within_plan": max(lan.bits_per_s, link.bits_per_s) <= PER_USER_BITS_S,
    }


def _print_groups(table: Sequence[dict[str, Any]]) -> None:
    rows = []
    for row in table:
        ways = [row["rates"].get(str(carrier), {}).get(row["cipher"]) for carrier, _ in WAYS]
        rows.append(
            (
                row["name"], row["codec"], row["cipher"], str(row["framing_ms"]), str(row["payload"]),
                f"{row['packets_per_s']:.1f}", *(f"{way['kbits_per_s']:.1f}" if way else "–" for way in ways),
            )
        )  # fmt: skip
    click.echo("One talker, kbit/s:\n")
    columns("group", "codec", "cipher", ">ms", ">bytes", ">/s", ">multicast", ">Rallypoint", rows=rows)


def _print_codecs(table: Sequence[dict[str, Any]]) -> None:
    rows = []
    for row in table:
        amounts = [row["rates"][str(way)][str(seal)]["kbits_per_s"] for way, _ in WAYS for seal in Seal]
        rows.append(
            (
                row["codec"], str(row["framing_ms"]), str(row["payload"]), f"{row['packets_per_s']:.1f}",
                *(f"{each:.1f}" for each in amounts),
            )
        )  # fmt: skip
    click.echo("One talker, kbit/s, by multicast (mc) and over a Rallypoint link (rp), clear and sealed:\n")
    ciphers = (">mc clear", ">mc CBC", ">mc GCM", ">rp clear", ">rp CBC", ">rp GCM")
    columns("codec", ">ms", ">bytes", ">/s", *ciphers, rows=rows)


# -- a site ------------------------------------------------------------------------------------------------------------


def show_site(found: SitePlan, *, as_json: bool) -> None:
    """A table of what each place needs, usually and at the peak."""
    site, here, user = found.site, found.rallypoint, found.user
    if as_json:
        facts = {
            "users": site.users, "channels": len(site.channels), "talking": site.talking,
            "joined": site.joined_each, "rallypoints": site.rallypoints, "ipv6": site.ipv6,
            "busy_usual": round(found.busy_usual, 3), "busy_peak": found.busy_peak,
            "users_at_a_rallypoint": here.users, "deliveries_per_s": round(here.deliveries_per_s, 1),
            "user_beside": figures(user.beside), "rallypoint_beside": figures(here.beside),
            "plan_kbits_per_s": PLAN_KBITS_S, "user_within_plan": user.within,
            "streams_within_plan": user.streams,
            "loads": {
                name: {"usual": figures(load.usual), "peak": figures(load.peak)} for name, load in _places(found)
            },
        }  # fmt: skip
        click.echo(json_text(facts, indent=2))
        return
    click.echo(f"{_title(found)}:\n")
    rows = [
        (
            name, f"{load.usual.packets_per_s:,.1f}", amount(load.usual),
            f"{load.peak.packets_per_s:,.1f}", amount(load.peak),
        )
        for name, load in _places(found)
    ]  # fmt: skip
    columns("where", ">usual /s", ">usual", ">peak /s", ">peak", rows=rows)
    click.echo(f"\n{found.busy_usual:.1f} talkers at a time usually, {found.busy_peak} at the peak.")
    if here.to_users.peak != NOTHING:
        click.echo(
            f"A Rallypoint delivers {here.deliveries_per_s:,.0f} packets/s to {plural(here.users, 'user')}.\n"
            f"Besides, at most, for acknowledgements and PINGs, both ways: {amount(user.beside)} per user, "
            f"{amount(here.beside)} at a Rallypoint."
        )
        need = (user.up.usual + user.down.usual).kbits_per_s
        click.echo(
            f"A user's usual need, {need:.1f} kbit/s, {'is within' if user.within else 'is over'} the plan of "
            f"{PLAN_KBITS_S:g} kbit/s, in which {plural(user.streams, 'stream')} can be heard at once."
        )


def draw_site(path: Path, found: SitePlan) -> None:
    """A bar for each place, usual and peak."""
    bars = tuple(
        Bar(
            name,
            (load.usual.kbits_per_s, max(0.0, load.peak.kbits_per_s - load.usual.kbits_per_s)),
            amount(load.peak),
        )
        for name, load in _places(found)
    )
    draw(path, Chart(_title(found), "kbit/s", ("usual", "more at the peak"), bars))


def _title(found: SitePlan) -> str:
    site = found.site
    rallypoints = f", {plural(site.rallypoints, 'Rallypoint')}" if site.rallypoints > 1 else ""
    return (
        f"{plural(site.users, 'user')}, {plural(len(site.channels), 'channel')}{rallypoints}, "
        f"{site.talking:.0%} talking"
    )


def _places(found: SitePlan) -> list[tuple[str, Load]]:
    here = found.rallypoint
    places = [
        ("a user, up", found.user.up),
        ("a user, down", found.user.down),
        ("a Rallypoint, from users", here.from_users),
        ("a Rallypoint, to users", here.to_users),
    ]
    if found.site.rallypoints > 1:
        places += [
            ("a Rallypoint, from others", here.from_mesh),
            ("a Rallypoint, to others", here.to_mesh),
            ("a Rallypoint, inwards", here.inwards),
            ("a Rallypoint, outwards", here.outwards),
            ("a mesh link, one way", found.mesh_link),
        ]
    places += [("a multicast LAN", found.lan), ("a user by multicast, down", found.multicast_user.down)]
    return [(name, load) for name, load in places if load.peak != NOTHING]


# -- figures -----------------------------------------------------------------------------------------------------------


def figures(rate: Rate) -> dict[str, float]:
    """A rate for machines."""
    return {
        "packets_per_s": round(rate.packets_per_s, 3),
        "octets_per_packet": round(rate.octets_per_packet, 2),
        "octets_per_s": round(rate.octets_per_s, 2),
        "kbits_per_s": round(rate.kbits_per_s, 3),
    }


def amount(rate: Rate) -> str:
    """A rate for people."""
    kbits = rate.kbits_per_s
    return f"{kbits / KBIT:,.2f} Mbit/s" if kbits >= KBIT else f"{kbits:.1f} kbit/s"


def columns(*headings: str, rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as it must be; a heading that begins with ``>`` is of figures, which stand to the right."""
    names = [heading.removeprefix(">") for heading in headings]
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in (names, *rows)) for place in range(len(names))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if heading.startswith(">") else cell.ljust(width)
            for cell, width, heading in zip(cells, widths, headings, strict=True)
        ).rstrip()

    click.echo(line(names))
    click.echo("  ".join("─" * width for width in widths))
    for row in rows:
        click.echo(line(row))
