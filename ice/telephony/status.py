"""What a gateway says of itself: one JSON-able value for people and ``ice status --calls``, and figures for Prometheus.

The pages are in clear and ask nobody who he is: of telephone numbers they show the last three digits, of calls' ids the first eight. Whole ones are told over the control (:func:`calls_of`), and stand in the records.

Metrics are labelled with words of fixed sets and the names of trunks, never with a person or a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ice.observe.metrics import Metrics
from ice.observe.satellite import add_standing, standing_of
from ice.telephony.audio import AudioStatistics
from ice.telephony.causes import Cause
from ice.telephony.service import Gateway

STATES: Final = ("setup", "ringing", "early", "talking", "held", "transferring", "ending", "ended")
SHOWN_DIGITS: Final = 3
SHOWN_ID: Final = (
    8  # digits of a call's id, which names the stream of its sound; the control takes its beginning too
)


def masked(number: str) -> str:
    """A number as pages show it: its last three digits; short numbers of a site as they are."""
    return number if len(number) <= 5 else f"…{number[-SHOWN_DIGITS:]}"


def calls_of(gateway: Gateway) -> list[dict[str, Any]]:
    """The calls there are, people's and channels', with whole numbers; times in seconds from now."""
    return [*_people(gateway), *_channels(gateway)]


def status_of(gateway: Gateway, id: str) -> dict[str, Any]:
    """The whole state of the gateway ``id``, as JSON-able values."""
    calls = calls_of(gateway)
    for call in calls:
        call["number"], call["dialled"] = masked(call["number"]), masked(call["dialled"])
        call["id"] = call["id"][:SHOWN_ID]
    totals = gateway.sounds.totals()
    return {
        "daemon": "ice-gateway",
        **standing_of(gateway),
        "id": id,
        "group": gateway.group_id,
        "uptime_s": round(gateway.uptime_s, 1),
        "trunks": [
            {
                "name": trunk.name,
                "up": trunk.health.up,
                "why": trunk.health.why,
                "rate": trunk.rate,
                "counters": dict(trunk.counters),
            }
            for trunk in gateway.trunks.values()
        ],
        "people": gateway.board.people,
        "most_calls": gateway.rules.calls,
        "calls": calls,
        "ended": {str(cause): count for cause, count in _ended(gateway).items()},
        "refused": dict(_refused(gateway)),
        "sound": {
            "heard_packets": totals.heard,
            "lost_packets": totals.lost,
            "said_packets": totals.said,
            "concealed_s": round(totals.concealed_ms / 1_000, 3),
            "skipped_s": round(totals.skipped_ms / 1_000, 3),
            "slept_s": round(totals.slept_frames / 50, 2),
        },
        "records": {
            "kept": None if gateway.records is None else len(gateway.records),
            "lost": gateway.records_lost,
        },
        "channels": None if gateway.lobby is None else dict(gateway.lobby.status()),
    }


def add_metrics(metrics: Metrics, gateway: Gateway) -> None:
    """Register every figure of ``gateway``; they are read when somebody asks."""
    begin = "ice_gateway_"
    gauge, counter = metrics.gauge, metrics.counter
    board, sounds, setups = gateway.board, gateway.sounds, gateway.setups
    add_standing(metrics, gateway, begin, "takes calls")
    gauge(begin + "people", "People whose telephones are there.", lambda: board.people)
    gauge(
        begin + "calls",
        "Calls of people, by state.",
        lambda: dict.fromkeys(STATES, 0) | Counter(call.name for call in board.calls),
        ("state",),
    )
    gauge(
        begin + "channel_calls",
        "Calls into and out of channels.",
        lambda: 0 if gateway.lobby is None else len(gateway.lobby),
    )
    gauge(
        begin + "trunk_up",
        "1 while a call manager can be asked, by trunk.",
        lambda: {trunk.name: float(trunk.health.up) for trunk in gateway.trunks.values()},
        ("trunk",),
    )
    counter(
        begin + "trunk_oddities_total",
        "What came of a call manager, or was meant for it, and led to nothing, by trunk and reason.",
        lambda: _oddities(gateway),
        ("trunk", "reason"),
    )
    counter(
        begin + "ended_total",
        "Calls that are over, by cause.",
        lambda: {str(cause): float(count) for cause, count in _ended(gateway).items()},
        ("cause",),
    )
    counter(
        begin + "refused_total",
        "Calls that did not come about, and messages that led to nothing, by reason.",
        lambda: dict(_refused(gateway)),
        ("reason",),
    )
    counter(
        begin + "setups_total",
        "Calls that came so far: rang, answered.",
        lambda: {"rang": setups.rang, "answered": setups.answered},
        ("until",),
    )
    counter(
        begin + "setup_seconds_total",
        "Time from the dial until then; divided by ice_gateway_setups_total it is the mean.",
        lambda: {"rang": setups.rang_s, "answered": setups.answered_s},
        ("until",),
    )
    counter(
        begin + "messages_total",
        "Call messages, by what became of them: taken, said, repeated, confirmed, or not taken and why.",
        lambda: _messages(gateway),
        ("outcome",),
    )

    def packets() -> Mapping[str, float]:
        totals = sounds.totals()
        return {"heard": totals.heard, "lost": totals.lost, "said": totals.said}

    counter(begin + "sound_packets_total", "Packets of calls' sound on streams.", packets, ("outcome",))

    def seconds() -> Mapping[str, float]:
        totals = sounds.totals()
        return {
            "concealed": totals.concealed_ms / 1_000,
            "skipped": totals.skipped_ms / 1_000,
            "slept": totals.slept_frames / 50,
        }

    counter(
        begin + "sound_seconds_total",
        "Sound of lines that was made up (concealed), thrown away (skipped), or never made since the process was late (slept).",
        seconds,
        ("how",),
    )
    gauge(
        begin + "jitter_seconds",
        "How unevenly people's packets come, the worst of the calls there are.",
        lambda: max((each["jitter_ms"] for each in _sounding(gateway)), default=0.0) / 1_000,
    )
    gauge(
        begin + "late_seconds",
        "How late the clock of calls' sound was at worst, since it was asked last.",
        sounds.take_latest,
    )
    counter(begin + "stray_sound_total", "Frames of calls that there are not.", lambda: gateway.stray_sound)
    counter(
        begin + "records_lost_total", "Call records that could not be written.", lambda: gateway.records_lost
    )
    counter(
        begin + "codes_total",
        "Access codes that callers keyed in.",
        lambda: {} if gateway.lobby is None else dict(gateway.lobby.status().get("codes", {})),
        ("outcome",),
    )


def _oddities(gateway: Gateway) -> Mapping[tuple[str, ...], float]:
    return {
        (trunk.name, why): float(count)
        for trunk in gateway.trunks.values()
        for why, count in trunk.counters.items()
    }


def _people(gateway: Gateway) -> Iterator[dict[str, Any]]:
    now = gateway.seconds
    for line in gateway.board.lines:
        yield {
            "id": str(line.id),
            "of": "person",
            "direction": str(line.direction),
            "state": line.state,
            "user": line.user.name,
            "user_id": str(line.user.id),
            "number": line.number,
            "dialled": line.dialled,
            "trunk": line.trunk,
            "age_s": round(now - line.began, 1),
            "talked_s": None if line.answered is None else round(now - line.answered, 1),
            "sound": _sound(gateway.sounds.statistics(line.id)),
        }


def _channels(gateway: Gateway) -> Iterator[dict[str, Any]]:
    now = gateway.seconds
    for call in () if gateway.lobby is None else gateway.lobby.calls():
        yield {
            "id": str(call.id),
            "of": "channel",
            "direction": str(call.direction),
            "state": call.state,
            "user": call.who,
            "user_id": "",
            "number": call.number,
            "dialled": call.dialled,
            "trunk": call.trunk,
            "age_s": round(now - call.began, 1),
            "talked_s": None if call.answered is None else round(now - call.answered, 1),
            "channel": call.channel,
            "where": call.where,
            "talking": call.talking,
        }


def _sound(statistics: AudioStatistics | None) -> dict[str, Any]:
    """A call's sound in figures for people; empty where there is none."""
    if statistics is None:
        return {}
    counters, line = statistics.stream.counters, next(iter(statistics.lines.values()), None)
    told: dict[str, Any] = {
        "heard_packets": counters.received,
        "lost_packets": counters.lost,
        "jitter_ms": round(max((each.jitter_ms for each in statistics.stream.talkers), default=0.0), 1),
        "said_packets": statistics.datagrams_sent,
    }
    if line is not None:
        told |= {
            "line_s": round(line.counters.heard_ms / 1_000, 1),
            "concealed_ms": round(line.counters.concealed_ms, 1),
            "waiting_ms": round(line.waiting_ms, 1),
            "drift_ppm": round(line.drift_ppm, 1),
        }
    return told


def _sounding(gateway: Gateway) -> Iterator[dict[str, Any]]:
    found = (_sound(gateway.sounds.statistics(line.id)) for line in gateway.board.lines)
    return (each for each in found if each)


def _ended(gateway: Gateway) -> Counter[Cause]:
    """Calls that are over, people's and channels'."""
    ended = Counter(gateway.board.ended)
    if gateway.lobby is not None:
        causes = {str(cause): cause for cause in Cause}
        for word, count in gateway.lobby.status().get("ended", {}).items():
            ended[causes[word]] += count
    return ended


def _refused(gateway: Gateway) -> Counter[str]:
    refused = Counter(gateway.board.refused)
    if gateway.lobby is not None:
        refused.update(gateway.lobby.status().get("refused", {}))
    return refused


def _messages(gateway: Gateway) -> Mapping[str, float]:
    post = gateway.post
    told: dict[str, float] = dict(post.refused)
    for word, count in gateway.mailroom.counts.items():
        told[f"unsaid-{word}" if word != "said" else "said"] = count
    return told | {"taken": post.delivered, "repeated": post.repeated, "confirmed": post.confirmed}
