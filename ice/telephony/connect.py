"""From the configuration to a gateway: its trunks, its records, its lobby, and all of them put together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ice.config.gateway import LOOPBACK, GatewaySettings, TrunkSettings
from ice.config.load import Loaded
from ice.election.connect import state_folder
from ice.security.files import make_folder
from ice.streams.connect import Passport
from ice.streams.rallypoint import RallypointNetwork
from ice.telephony.asterisk import AsteriskTrunk, door_of
from ice.telephony.audio import CallAudio
from ice.telephony.envelope import Envelopes, nobody
from ice.telephony.lobby import Lobby
from ice.telephony.loopback_trunk import LoopbackTrunk
from ice.telephony.plan import Rules
from ice.telephony.post import Post
from ice.telephony.prompts import Prompts
from ice.telephony.records import RecordStore
from ice.telephony.seams import MakeTrunk
from ice.telephony.service import Gateway
from ice.telephony.voice import LineVoice
from ice.telephony.wanted import channels_of, rules_of

RECORDS: Final = "calls.db"


def trunk_of(settings: TrunkSettings, reactor: Any, rules: Rules, wall: Callable[[], float]) -> MakeTrunk:
    """What makes a trunk. Raises :class:`LocalError` where a password or a certificate cannot be used."""
    if settings.kind == LOOPBACK:
        return lambda ears: LoopbackTrunk(settings.name, reactor, ears, rate=settings.rate)
    door_of(settings)  # complains now
    return lambda ears: AsteriskTrunk(
        settings, reactor, ears, ring_s=rules.timing.ring_s, wall=wall, may_ask=ears.may_ask
    )


def records_of(settings: GatewaySettings, folder: Path, unix_s: float) -> RecordStore | None:
    """The file of call records; None where none are kept. Raises :class:`LocalError` where it cannot be written."""
    if not settings.records.keep_days:
        return None
    path = settings.records.file
    if path is None:
        make_folder(folder)
        path = folder / RECORDS
    return RecordStore(path, unix_s, max_records=settings.records.keep, max_days=settings.records.keep_days)


def gateway_of(
    loaded: Loaded,
    reactor: Any,
    network: RallypointNetwork,
    passport: Passport,
    group_id: str,
    *,
    elected: bool,
    environ: Mapping[str, str] = os.environ,
    wall: Callable[[], float] = time.time,
) -> Gateway:
    """The gateway that a configuration describes, not started yet, with its lobby. Raises :class:`LocalError` with what cannot be used."""
    settings = loaded.config.gateway
    rules = rules_of(settings)
    for trunk in settings.all_trunks:  # complains now, and makes what the first call would wait for
        CallAudio(voice=LineVoice(trunk.rate)).tick(0.0)
    dial_ins, places = channels_of(loaded.config)
    tls = passport.tls
    post = Post(Envelopes(tls.credentials, lambda: tls.trust, nobody), wall())
    gateway = Gateway(
        reactor,
        network,
        group_id,
        post,
        rules,
        [trunk_of(each, reactor, rules, wall) for each in settings.all_trunks],
        records=records_of(settings, state_folder(environ), wall()),
        elected=elected,
        wall=wall,
    )
    if dial_ins:
        gateway.lobby = Lobby(
            reactor,
            network,
            dial_ins,
            places,
            gateway.board.order,
            ask=gateway.ask,
            sound=gateway.say,
            record=gateway.record,
            rate_of=gateway.rate_of,
            normal=gateway.normal,
            free=gateway.free,
            look=gateway.look,
            wall=wall,
            timing=rules.timing,
            prompts=Prompts(settings.prompts),
        )
    return gateway
