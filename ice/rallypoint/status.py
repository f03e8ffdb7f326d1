"""What a Rallypoint says of itself: one JSON-able value for people and ``ice status``, and figures for Prometheus.

Metrics have no labels but reasons and codes of a fixed set, never a name, address or stream: a thousand clients must not become
a thousand series. Who is connected is in the status value, which shows at most :data:`MAX_SHOWN` links and streams.
"""

from collections import Counter
from datetime import datetime
from itertools import islice
from typing import Any

import ice
from ice.link.naming import format_u64
from ice.net.fanout import in_use
from ice.net.tls import owned
from ice.observe.metrics import Metrics
from ice.rallypoint.federation import AllyRow
from ice.rallypoint.guest import Guest, Member
from ice.rallypoint.service import Rallypoint
from ice.telephony.streams import discreet

MAX_SHOWN = 1_000  # some 10 ms of work; the totals are always told


def status_of(rallypoint: Rallypoint) -> dict[str, Any]:
    """The whole state, as JSON-able values; times in seconds, round trips in milliseconds."""
    house = rallypoint.house
    now, admission, registry = house.clock.seconds(), house.admission, house.registry
    members = [guest for guest in house.guests if guest.member is not None]
    streams = registry.streams.values()
    return {
        "daemon": "ice-rallypoint",
        "version": ice.__version__,
        "transport": {"tls": "socket" if owned() else "twisted", "fan_out": in_use()},
        "name": house.name,
        "id": str(house.identity.id),
        "state": "draining" if admission.draining else "running",
        "ready": rallypoint.ready() is None,
        "why_not_ready": rallypoint.ready() or "",
        "uptime_s": round(rallypoint.uptime_s, 1),
        "listening": rallypoint.listening,
        "alternatives": [str(address) for address in house.settings.alternatives],
        "cpu_percent": round(admission.cpu_percent, 1),
        "certificate": _certificate(rallypoint, house.wall()),
        "newcomers": {"handshaking": admission.shaking, "waiting": admission.waiting},
        "links_total": len(members),
        "links": [
            _link(guest, guest.member, now)
            for guest in islice(sorted(members, key=_age_order), MAX_SHOWN)
            if guest.member is not None
        ],
        "streams_total": len(streams),
        "streams": [
            {
                "stream": discreet(stream.id),
                "key": format_u64(stream.key),
                "listeners": stream.listeners,
                "talkers": stream.talkers,
                "packets": stream.packets,
            }
            for stream in islice(streams, MAX_SHOWN)
        ],
        "federations": [_ally(row) for row in house.federation.rows(now)],
        "counters": counters_of(rallypoint),
        "parrot": _parrot(rallypoint),
    }


def counters_of(rallypoint: Rallypoint) -> dict[str, Any]:
    """Every counter since the start; those by reason as objects."""
    house = rallypoint.house
    relay, admission = house.relay, house.admission
    sent = _sent(rallypoint)
    return {
        "media_received": relay.frames_received,
        "media_received_bytes": relay.bytes_received,
        "media_delivered": relay.copies_delivered,
        "media_sent": sent["frames"],
        "media_sent_bytes": sent["bytes"],
        "media_dropped": house.media_dropped(),
        "queue_dropped": {"full": sent["full"], "old": sent["old"]},
        "recipients_failed": relay.recipients_failed,
        "newcomers_accepted": admission.accepted,
        "newcomers_delayed": admission.delayed,
        "newcomers_refused": dict(admission.refused),
        "handshakes_failed": dict(house.handshakes_failed),
        "links_ended": dict(house.ended),
        "errors_told": dict(house.errors),
        "naps": house.wake.naps,
        "windows": house.registry.windows,
        "windows_evicted": house.registry.windows_evicted,
        "log_lines_kept_back": house.throttle.kept_back,
    }


def add_metrics(metrics: Metrics, rallypoint: Rallypoint) -> None:
    """Register every figure of ``rallypoint``; they are read when somebody asks."""
    house = rallypoint.house
    relay, admission, registry = house.relay, house.admission, house.registry
    begin = "ice_rallypoint_"
    gauge, counter = metrics.gauge, metrics.counter
    metrics.info(
        begin + "info", "Constant 1; what runs here.", version=ice.__version__, id=str(house.identity.id)
    )
    gauge(begin + "uptime_seconds", "Time since the start.", lambda: rallypoint.uptime_s)
    gauge(begin + "links", "Links open now.", lambda: sum(g.member is not None for g in house.guests))
    gauge(
        begin + "newcomers",
        "Connections without HELLO yet, by what they do.",
        lambda: {"handshaking": admission.shaking, "waiting": admission.waiting},
        ("phase",),
    )
    gauge(begin + "streams", "Streams with members now.", lambda: len(registry.streams))
    gauge(begin + "joins", "Streams joined, summed over links.", lambda: sum(map(_joins, house.guests)))
    gauge(
        begin + "queue_frames",
        "Media frames that wait for slow links.",
        lambda: sum(map(_queue, house.guests)),
    )
    gauge(begin + "windows", "Sources remembered.", lambda: registry.windows)
    gauge(begin + "cpu_percent", "CPU used lately, of one core.", lambda: admission.cpu_percent)
    counter(
        begin + "naps_total",
        "How often this process stood still for over 1.5 s: suspended, frozen or starved.",
        lambda: house.wake.naps,
    )
    gauge(begin + "draining", "1 while it stops.", lambda: float(admission.draining))
    gauge(
        begin + "certificate_expires_seconds",
        "When the certificate shown expires, in seconds since 1970.",
        lambda: _expires(rallypoint).timestamp(),
    )
    counter(begin + "media_received_total", "Media frames that came.", lambda: relay.frames_received)
    counter(begin + "media_received_bytes_total", "Bytes of them.", lambda: relay.bytes_received)
    counter(begin + "media_delivered_total", "Copies handed to listeners.", lambda: relay.copies_delivered)
    counter(begin + "media_sent_total", "Media frames written to links.", lambda: _sent(rallypoint)["frames"])
    counter(begin + "media_sent_bytes_total", "Bytes of them.", lambda: _sent(rallypoint)["bytes"])
    counter(begin + "media_dropped_total", "Media frames not passed on.", house.media_dropped, ("reason",))
    counter(
        begin + "queue_dropped_total",
        "Media frames dropped because a listener was too slow.",
        lambda: {key: float(value) for key, value in _sent(rallypoint).items() if key in ("full", "old")},
        ("reason",),
    )
    counter(
        begin + "recipients_failed_total",
        "Links that could not be written to.",
        lambda: relay.recipients_failed,
    )
    counter(
        begin + "newcomers_accepted_total", "Connections let in to shake hands.", lambda: admission.accepted
    )
    counter(begin + "newcomers_delayed_total", "Connections that waited first.", lambda: admission.delayed)
    counter(
        begin + "newcomers_refused_total", "Connections turned away.", lambda: admission.refused, ("reason",)
    )
    counter(
        begin + "handshakes_failed_total",
        "TLS handshakes that failed.",
        lambda: house.handshakes_failed,
        ("reason",),
    )
    counter(begin + "links_ended_total", "Links that ended, by code.", lambda: house.ended, ("code",))
    counter(begin + "errors_total", "ERROR told to clients, by code.", lambda: house.errors, ("code",))
    counter(
        begin + "windows_evicted_total",
        "Sources forgotten for want of room.",
        lambda: registry.windows_evicted,
    )
    _add_federation(metrics, rallypoint)
    if house.parrot is not None:
        parrot = house.parrot
        counter(begin + "parrot_bursts_total", "Bursts that the parrot heard.", lambda: parrot.bursts_heard)
        counter(begin + "parrot_dropped_total", "Frames that it did not keep.", lambda: parrot.frames_dropped)


def _add_federation(metrics: Metrics, rallypoint: Rallypoint) -> None:
    """Figures of the links to other organisations, 0 where there are none."""
    federation, clock = rallypoint.house.federation, rallypoint.house.clock
    begin = "ice_rallypoint_"
    gauge, counter = metrics.gauge, metrics.counter

    def rows() -> list[AllyRow]:
        return federation.rows(clock.seconds())

    def states() -> dict[str, int]:
        return dict.fromkeys(("linked", "connecting", "waiting"), 0) | Counter(row.state for row in rows())

    def streams() -> dict[str, int]:
        found = rows()
        return {
            "incoming": sum(len(row.incoming) for row in found),
            "outgoing": sum(len(row.outgoing) for row in found),
        }

    gauge(
        begin + "federation_links",
        "Rallypoints of other organisations that are listed, by state.",
        states,
        ("state",),
    )
    gauge(begin + "federation_streams", "Streams shared now, summed over links.", streams, ("direction",))
    passed = federation.media_passed
    counter(
        begin + "federation_media_received_total",
        "Media frames that came from other organisations.",
        lambda: passed()["received"],
    )
    counter(
        begin + "federation_media_received_bytes_total", "Bytes of them.", lambda: passed()["received_bytes"]
    )
    counter(
        begin + "federation_media_sent_total",
        "Media frames written to other organisations.",
        lambda: passed()["sent"],
    )
    counter(begin + "federation_media_sent_bytes_total", "Bytes of them.", lambda: passed()["sent_bytes"])
    counter(
        begin + "federation_links_ended_total",
        "Links that ended, by code.",
        lambda: federation.ended,
        ("code",),
    )
    counter(
        begin + "federation_calls_failed_total",
        "Calls that came to nothing, by code.",
        lambda: federation.out.failed,
        ("code",),
    )
    counter(
        begin + "federation_errors_total",
        "ERROR told to other organisations, by code.",
        lambda: federation.errors,
        ("code",),
    )


def _ally(row: AllyRow) -> dict[str, Any]:
    round_trip = row.round_trip_s
    return {
        "federation": row.federation,
        "id": str(row.id),
        "name": row.name,
        "address": row.address,
        "state": row.state,
        "direction": "inbound" if row.inbound else "outbound",
        "age_s": round(row.since_s, 1),
        "rtt_ms": None if round_trip is None else round(round_trip * 1_000, 1),
        "incoming": list(row.incoming),
        "outgoing": list(row.outgoing),
        "refused": list(row.refused),
        "received": row.received,
        "received_bytes": row.received_bytes,
        "sent": row.sent,
        "sent_bytes": row.sent_bytes,
        "dropped": row.dropped,
        "queue": row.queue,
        "failures": row.failures,
        "why": row.why,
    }


def _link(guest: Guest, member: Member, now: float) -> dict[str, Any]:
    link, session = guest.link, guest.link.session
    assert session is not None  # a member has one
    round_trip = session.vigil.round_trip_s
    return {
        "name": member.name,
        "role": str(member.peer.identity.role),
        "id": str(member.peer.identity.id),
        "address": guest.address,
        "agent": member.agent,
        "age_s": round(now - member.since, 1),
        "rtt_ms": None if round_trip is None else round(round_trip * 1_000, 1),
        "certificate_expires": member.peer.valid_until.isoformat(),
        "received": link.received_frames,
        "sent": link.sent_frames,
        "queue": len(session.outbox),
        "behind": not session.outbox.open,
        "dropped": {
            "full": session.outbox.dropped_full,
            "old": session.outbox.dropped_old,
            "refused": member.subscriber.dropped,
        },
        "joins": len(member.subscriber.memberships),
        "streams": [
            {"stream": discreet(m.stream.id), "listen": m.listen, "talk": m.talk, "talked": m.packets}
            for m in islice(member.subscriber.memberships.values(), 16)
        ],
    }


def _certificate(rallypoint: Rallypoint, now: datetime) -> dict[str, Any]:
    until = _expires(rallypoint)
    return {"expires": until.isoformat(), "days_left": (until - now).days}


def _expires(rallypoint: Rallypoint) -> datetime:
    return rallypoint.house.tls.credentials.certificate.not_valid_after_utc


def _parrot(rallypoint: Rallypoint) -> dict[str, Any]:
    house = rallypoint.house
    parrot = house.parrot
    if parrot is None:
        return {"stream": ""}
    return {
        "stream": house.settings.parrot,
        "talkers": parrot.talkers,
        "bursts": parrot.bursts_heard,
        "played": parrot.bursts_played,
        "dropped": parrot.frames_dropped,
    }


def _sent(rallypoint: Rallypoint) -> dict[str, int]:
    """Media written and dropped on the way out: links that are gone, and those that are here."""
    house = rallypoint.house
    total = {
        "frames": house.sent_frames,
        "bytes": house.sent_bytes,
        "full": house.dropped_full,
        "old": house.dropped_old,
    }
    for guest in house.guests:
        total["frames"] += guest.link.sent_frames
        total["bytes"] += guest.link.sent_bytes
        if guest.link.session is not None:
            total["full"] += guest.link.session.outbox.dropped_full
            total["old"] += guest.link.session.outbox.dropped_old
    return total


def _age_order(guest: Guest) -> float:
    return guest.ticket.arrived


def _joins(guest: Guest) -> int:
    return 0 if guest.member is None else len(guest.member.subscriber.memberships)


def _queue(guest: Guest) -> int:
    return 0 if guest.link.session is None else len(guest.link.session.outbox)
