"""What a reflector says of itself: one JSON-able value for people and ``ice status``, and figures for Prometheus.

Metrics are labelled with the numbers of rules, as the configuration counts them, and with reasons of a fixed set; never with an address, a stream or a talker.  Those are in the
status value, which shows at most :data:`MAX_RULES` rules, and of each at most :data:`MAX_TALKERS` talkers.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from ice.link.naming import format_u64
from ice.observe.metrics import Metrics
from ice.observe.satellite import add_standing, standing_of
from ice.reflector.engine import Flow, Port
from ice.reflector.rules import reminders_of
from ice.reflector.service import Reflector
from ice.reflector.statistics import Reception
from ice.reflector.stream import Tie

MAX_RULES: Final = 1_000
MAX_TALKERS: Final = 16
MAX_HOSTS: Final = 16
TALKS_S: Final = 0.5  # who was heard so lately talks now
RECENT_S: Final = 60.0  # who was heard so lately is shown
ECHO_S: Final = 600.0  # what came back so lately is warned of


def status_of(reflector: Reflector) -> dict[str, Any]:
    """The whole state, as JSON-able values; times in seconds, round trips in milliseconds."""
    now = reflector.network.seconds()
    ties = reflector.ties
    return {
        "daemon": "ice-reflector",
        **standing_of(reflector),
        "uptime_s": round(reflector.uptime_s, 1),
        "snooping": _snooping(reflector),
        "rules_total": len(ties),
        "rules": [_rule(tie, reflector, now) for tie in islice(ties, MAX_RULES)],
        "counters": counters_of(reflector),
    }


def counters_of(reflector: Reflector) -> dict[str, Any]:
    """Sums over all rules, and what the network counts."""
    counts = reflector.network.counts
    return {
        "in": _sum(tie.port.inward for tie in reflector.ties),
        "out": _sum(tie.port.outward for tie in reflector.ties),
        "network": {
            "sent": counts.sent,
            "received": counts.received,
            "duplicates": counts.duplicates,
            "late": counts.late,
            "jumps": counts.jumps,
            "circular": counts.circular,
            "too_large": counts.too_large,
            "without_path": counts.without_path,
            "dropped_full": counts.dropped_full,
            "dropped_old": counts.dropped_old,
            "receiver_errors": counts.receiver_errors,
        },
    }


def state_of(tie: Tie, reflector: Reflector) -> tuple[str, str]:
    """How a rule stands, ``open``, ``paused``, ``closed`` or ``standby``, and why, in a sentence."""
    if tie.port.circle.paused:
        return "paused", tie.port.circle.why
    if not tie.up:
        return "closed", tie.why
    each = reflector.streams[tie.rule.stream]
    if not each.up and each.reflection.wanted:
        return "closed", each.why
    if not reflector.is_active:
        return "standby", "another reflector of the group is active"
    return "open", tie.why


def add_metrics(metrics: Metrics, reflector: Reflector) -> None:
    """Register every figure of ``reflector``; they are read when somebody asks."""
    begin = "ice_reflector_"
    gauge, counter = metrics.gauge, metrics.counter
    add_standing(metrics, reflector, begin, "sends")
    gauge(
        begin + "rules",
        "Enabled rules, by state.",
        lambda: (
            dict.fromkeys(("open", "closed", "paused", "standby"), 0)
            | Counter(state_of(tie, reflector)[0] for tie in reflector.ties)
        ),
        ("state",),
    )

    def flows(figure: Callable[[Flow], int]) -> Callable[[], dict[tuple[str, ...], float]]:
        return lambda: {
            (str(tie.rule.number), way): figure(flow)
            for tie in reflector.ties
            for way, flow in (("in", tie.port.inward), ("out", tie.port.outward))
        }

    labels = ("rule", "direction")
    counter(
        begin + "datagrams_total",
        "Datagrams passed on, in from the group and out to it.",
        flows(lambda flow: flow.packets),
        labels,
    )
    counter(begin + "bytes_total", "Bytes of them.", flows(lambda flow: flow.bytes), labels)

    def dropped() -> dict[tuple[str, ...], float]:
        sums = counters_of(reflector)
        return {(way, why): n for way in ("in", "out") for why, n in sums[way]["dropped"].items()}

    counter(begin + "dropped_total", "Datagrams not passed on.", dropped, ("direction", "reason"))
    counter(
        begin + "circles_total",
        "Circles noticed, each of which paused a rule.",
        lambda: {str(tie.rule.number): tie.port.circle.noticed for tie in reflector.ties},
        ("rule",),
    )
    counter(
        begin + "returns_total",
        "RTP that was here before and came back.",
        lambda: {str(tie.rule.number): tie.port.circle.returns for tie in reflector.ties},
        ("rule",),
    )
    gauge(
        begin + "talkers",
        "Who talks now, by where they are heard.",
        lambda: _talking(reflector),
        ("direction",),
    )
    counter(
        begin + "lost_total",
        "RTP packets missing among those heard, of talkers still remembered.",
        lambda: {way: sum(each.lost for each in receptions) for way, receptions in _ways(reflector)},
        ("direction",),
    )
    counter(
        begin + "kernel_dropped_total",
        "Datagrams that the kernel dropped since we were too slow.",
        lambda: sum(sock.counts.kernel_dropped for tie in reflector.ties for sock in tie.sockets),
    )
    counter(
        begin + "rejoins_total",
        "Groups joined again, after silence or a change of address.",
        lambda: sum(sock.counts.rejoins for tie in reflector.ties for sock in tie.sockets),
    )


def _snooping(reflector: Reflector) -> dict[str, Any]:
    snooping = reflector.snooping
    if snooping is None:
        return {"enabled": False}
    return {"enabled": True, "trouble": snooping.trouble, "groups": snooping.groups()}


def _ways(reflector: Reflector) -> tuple[tuple[str, list[Reception]], ...]:
    ports = [tie.port for tie in reflector.ties]
    return (
        ("in", [talker.reception for port in ports for talker in port.naming.talkers]),
        ("out", [reception for port in ports for reception in port.sources.values()]),
    )


def _talking(reflector: Reflector) -> dict[str, float]:
    since = reflector.network.seconds() - TALKS_S
    return {way: sum(each.at >= since for each in receptions) for way, receptions in _ways(reflector)}


def _rule(tie: Tie, reflector: Reflector, now: float) -> dict[str, Any]:
    port, rule = tie.port, tie.rule
    state, why = state_of(tie, reflector)
    circle = port.circle
    settings = rule.settings
    return {
        "number": rule.number,
        "stream": rule.stream,
        "rx": str(settings.rx),
        "tx": [str(place.tx) for place in rule.places] if rule.terms.speaks else [],
        "interface": tie.sockets[0].status().interface,
        "direction": settings.direction,
        "state": state,
        "why": why,
        "pause_s": round(max(0.0, circle.until - now), 1) if circle.paused else 0.0,
        "warnings": [*reminders_of(rule), *tie.remarks, *_echo(port, now)],
        "capture": None if tie.recorder is None else tie.recorder.status(),
        "listened_to": port.wanted,
        "in": _flow(port.inward),
        "out": _flow(port.outward),
        "circle": {"noticed": circle.noticed, "returns": circle.returns, "last_witness": circle.witness},
        "names_agreed": port.naming.agreed,
        "talkers": {"in": _talkers_in(port, now), "out": _talkers_out(port, now)},
        "limited": [
            {"host": host.host, "packets": host.packets, "dropped": host.limited}
            for host in islice((h for h in port.senders.hosts.values() if h.limited), MAX_HOSTS)
        ],
        "sockets": [_socket(tie, at, now) for at in range(len(tie.sockets))],
    }


def _echo(port: Port, now: float) -> list[str]:
    circle = port.circle
    ago = now - circle.returned_at
    if ago > ECHO_S:
        return []
    return [
        f"{circle.returns} RTP packets came back, the last {ago:.0f} s ago from {circle.witness}: another reflector here, or a host that echoes"
    ]


def _socket(tie: Tie, at: int, now: float) -> dict[str, Any]:
    sock = tie.sockets[at]
    status, counts = sock.status(), sock.counts
    return {
        "tx": status.tx,
        "up": status.up,
        "why": status.why,
        "joined": status.joined,
        "heard_s_ago": None if status.heard_at is None else round(now - status.heard_at, 1),
        "own": counts.own,
        "empty": counts.empty,
        "too_large": counts.too_large,
        "stale": counts.stale,
        "other_interface": counts.other_interface,
        "kernel_dropped": counts.kernel_dropped,
        "unsent": dict(counts.unsent),
        "rejoins": counts.rejoins,
    }


def _talkers_in(port: Port, now: float) -> list[dict[str, Any]]:
    recent = [each for each in port.naming.talkers if now - each.at <= RECENT_S]
    recent.sort(key=lambda each: -each.at)
    return [
        {"host": each.host, "ssrc": each.key, "source": format_u64(each.source)}
        | _reception(each.reception, each.at, now)
        for each in recent[:MAX_TALKERS]
    ]


def _talkers_out(port: Port, now: float) -> list[dict[str, Any]]:
    recent = [(source, each) for source, each in port.sources.items() if now - each.at <= RECENT_S]
    recent.sort(key=lambda item: -item[1].at)
    return [
        {"source": format_u64(source)} | _reception(each, each.at, now)
        for source, each in recent[:MAX_TALKERS]
    ]


def _reception(reception: Reception, at: float, now: float) -> dict[str, Any]:
    report = reception.report()
    return {
        "talks": now - at <= TALKS_S,
        "heard_s_ago": round(now - at, 1),
        "packets": report.packets,
        "lost": report.lost,
        "jitter_ms": None if report.jitter_ms is None else round(report.jitter_ms, 2),
        "payload_type": report.payload_type if report.packets else None,
    }


def _flow(flow: Flow) -> dict[str, Any]:
    return {"packets": flow.packets, "bytes": flow.bytes, "dropped": dict(flow.dropped)}


def _sum(flows: Iterable[Flow]) -> dict[str, Any]:
    total = Flow()
    for flow in flows:
        total.packets += flow.packets
        total.bytes += flow.bytes
        total.dropped.update(flow.dropped)
    return _flow(total)
