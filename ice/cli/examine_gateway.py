"""What ``ice doctor --gateway`` says of call managers: a checklist against the live ones, each line with what to do.

Unlike other examinations this one makes a call: Asterisk is asked for a channel of sound to this machine, which is ended at once. Nobody's telephone rings, and a gateway at work is not disturbed: the Stasis application of
the test is one of its own.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID, uuid4

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from ice.cli.examine import Result, fail, ok, warn
from ice.config.gateway import LOOPBACK, TrunkSettings
from ice.config.schema import Config
from ice.errors import IceError, LocalError
from ice.net.addresses import Address
from ice.telephony import ari
from ice.telephony.ari_link import UNAUTHORISED, AriEvents, AriRest
from ice.telephony.asterisk import HERE, door_of
from ice.telephony.asterisk_call import Reply
from ice.telephony.asterisk_names import Names
from ice.telephony.audiosocket_server import AudioSocketServer

OLDEST: Final = 22  # Asterisk before it has AudioSocket at 8 kHz alone, and no reason_code
TEST_S: Final = 6.0
MODULES: Final = {
    "res_ari_channels": "ARI: calls",
    "res_ari_bridges": "ARI: bridges",
    "res_ari_events": "ARI: the event WebSocket",
    "res_ari_asterisk": "ARI: this list",
    "res_ari_applications": "ARI: applications",
    "res_ari_endpoints": "ARI: endpoints",
    "app_stasis": "leads calls of the dial plan to the gateway",
    "res_audiosocket": "sound",
    "chan_audiosocket": "sound",
    "bridge_softmix": "bridges",
    "func_callerid": "who calls",
}
RESAMPLING: Final = {"codec_resample": "sound at more than 8 kHz for telephones"}
_RUNNING: Final = "running"


def gateway_use(config: Config) -> Iterator[Result]:
    """The checklist for every trunk of the configuration."""
    from twisted.internet import reactor

    whole: Any = reactor
    results: list[Result] = []

    async def all_trunks() -> None:
        for settings in config.gateway.all_trunks:
            results.extend(await trunk_use(whole, settings))

    def done(outcome: object) -> None:
        if isinstance(outcome, Failure):
            results.append(fail("gateway", f"the examination failed: {outcome.getErrorMessage()}", "tell us"))
        if whole.running:
            whole.stop()

    whole.callWhenRunning(lambda: ensureDeferred(all_trunks()).addBoth(done))
    whole.run()
    yield from results


async def trunk_use(reactor: Any, settings: TrunkSettings) -> list[Result]:
    """The checklist for one trunk."""
    subject = f"trunk {settings.name}"
    if settings.kind == LOOPBACK:
        return [ok(subject, "the built-in call manager: nothing to be reached")]
    try:
        door = door_of(settings)
    except LocalError as error:
        return [fail(subject, str(error), "gateway.trunks: password_file, authority, url")]
    rest = AriRest(reactor, door)
    try:
        results, there = await _reached(rest, settings, secure=door.tls is not None)
        if there:
            results += await _modules(rest, settings)
            results += await _application(rest, settings)
            results += await _endpoint(rest, settings)
            results += await _test_call(reactor, rest, settings)
    finally:
        await rest.close()
    return results


async def _reached(rest: AriRest, settings: TrunkSettings, *, secure: bool) -> tuple[list[Result], bool]:
    """Reachable, believed, let in, new enough?"""
    subject = f"trunk {settings.name}"
    reply = await rest.ask(ari.INFO)
    if reply.status is None:
        remedy = (
            "authority = the CA's file, in gateway.trunks; the name in url as the certificate has it"
            if "TLS" in reply.why or "certificate" in reply.why
            else "Asterisk: http.conf (enabled, tlsenable, tlsbindaddr), http show status; then url, and the firewall"
        )
        return [fail(subject, f"{settings.url}: {reply.why}", remedy)], False
    if reply.status in UNAUTHORISED:
        why = f"user {settings.user} or the password is refused ({reply.status})"
        return [
            fail(
                subject,
                why,
                f"ari.conf: [{settings.user}] type=user, password as in {settings.password_file}",
            )
        ], False
    if not reply.good:
        return [
            fail(subject, f"{settings.url}/ari: {reply}", "ari.conf: enabled = yes; module load res_ari.so")
        ], False
    try:
        version = ari.read_info(reply.body).system.version
    except IceError as error:
        return [fail(subject, str(error), "is this an Asterisk? look at url")], False
    tls = "TLS verified" if secure else "without TLS, on this machine"
    found = f"{settings.url}: Asterisk {version or 'of unknown version'}, {tls}, user {settings.user} let in"
    major = re.match(r"(?:certified/)?(\d+)\.", version)
    if major is not None and int(major[1]) < OLDEST:
        return [
            warn(subject, found, f'Asterisk {OLDEST} or newer; before it, format = "slin" alone may work')
        ], True
    return [ok(subject, found)], True


async def _modules(rest: AriRest, settings: TrunkSettings) -> list[Result]:
    """What of Asterisk is loaded."""
    subject = f"trunk {settings.name} modules"
    wanted = MODULES | (RESAMPLING if settings.format != "slin" else {})
    reply = await rest.ask(ari.MODULES)
    try:
        if not reply.good:
            raise LocalError(f"no list of modules: it {reply}")
        modules = ari.read_modules(reply.body)
    except IceError as error:
        return [warn(subject, str(error), "module load res_ari_asterisk.so")]
    running = {module.name.removesuffix(".so") for module in modules if module.status.lower() == _RUNNING}
    missing = [name for name in wanted if name not in running]
    if not missing:
        return [ok(subject, f"{len(wanted)} that are needed run")]
    return [
        fail(
            subject,
            f"{name} does not run ({wanted[name]})",
            f"modules.conf, then: asterisk -rx 'module load {name}.so'",
        )
        for name in missing
    ]


async def _application(rest: AriRest, settings: TrunkSettings) -> list[Result]:
    """Whether a gateway is connected."""
    subject = f"trunk {settings.name} application"
    reply = await rest.ask(ari.APPLICATIONS)
    try:
        applications = ari.read_applications(reply.body) if reply.good else []
    except IceError as error:
        return [warn(subject, str(error))]
    for application in applications:
        if application.name == settings.app:
            ours = sum(Names(settings.app).part(id) is not None for id in application.channel_ids)
            found = f"{settings.app} is registered: a gateway is connected, {len(application.channel_ids)} channels, {ours} of them ours"
            return [ok(subject, found)]
    return [
        warn(
            subject,
            f"{settings.app} is not registered: no gateway is connected now",
            "systemctl start ice-gateway; dial plans that say Stasis() fail until then",
        )
    ]


async def _endpoint(rest: AriRest, settings: TrunkSettings) -> list[Result]:
    """Whether whom we dial by is there."""
    subject = f"trunk {settings.name} endpoint"
    technology, _, rest_of = settings.dial.partition("/")
    name = rest_of.partition("@")[2]
    if technology.upper() == "LOCAL" or not name or "{" in name:
        return [ok(subject, f"{settings.dial}: the dial plan, or each number's own")]
    reply = await rest.ask(ari.ENDPOINTS)
    try:
        endpoints = ari.read_endpoints(reply.body) if reply.good else []
    except IceError as error:
        return [warn(subject, str(error))]
    name = name.partition("/")[0]
    for endpoint in endpoints:
        if endpoint.technology.upper() == technology.upper() and endpoint.resource == name:
            found = f"{technology}/{name} is {endpoint.state}"
            if endpoint.state == "online":
                return [ok(subject, found)]
            remedy = f"asterisk -rx 'pjsip show endpoint {name}'; pjsip.conf: aor with contact and qualify_frequency"
            return [(fail if endpoint.state == "offline" else warn)(subject, found, remedy)]
    return [fail(subject, f"{technology}/{name} does not exist", "pjsip.conf, or dial in gateway.trunks")]


class _Test:
    """Ears for one channel of sound, and for events of an application that is only ours."""

    def __init__(self) -> None:
        self.link: Deferred[str] = Deferred()
        self.sound: Deferred[str] = Deferred()

    def linked(self) -> None:
        self._say(self.link, "")

    def event(self, text: str) -> None:
        """Of no interest."""

    def unlinked(self, why: str, status: int | None) -> None:
        self._say(self.link, why)

    def connected(self, media: UUID) -> None:
        self._say(self.sound, "")

    def heard(self, media: UUID, rate: int, samples: bytes) -> None:
        """Of no interest."""

    def pressed(self, media: UUID, digit: str) -> None:
        """Of no interest."""

    def ended(self, media: UUID, why: str) -> None:
        self._say(self.sound, why)

    @staticmethod
    def _say(deferred: Deferred[str], text: str) -> None:
        if not deferred.called:
            deferred.callback(text)


async def _test_call(reactor: Any, rest: AriRest, settings: TrunkSettings) -> list[Result]:
    """Events, and sound to this machine and back."""
    test = _Test()
    app = f"{settings.app}-doctor-{secrets.token_hex(4)}"
    events = AriEvents(reactor, door_of(settings), app, test)
    events.start()
    results = []
    try:
        trouble = await test.link.addTimeout(TEST_S, reactor, lambda value, _: "it does not answer in time")
        subject = f"trunk {settings.name} events"
        if trouble:
            return [
                fail(
                    subject,
                    f"the event WebSocket: {trouble}",
                    "module load res_http_websocket.so; proxies must pass it",
                )
            ]
        results.append(ok(subject, "the event WebSocket works"))
        results.append(await _test_sound(reactor, rest, settings, app, test))
    finally:
        await events.stop()
    return results


async def _test_sound(reactor: Any, rest: AriRest, settings: TrunkSettings, app: str, test: _Test) -> Result:
    subject = f"trunk {settings.name} sound"
    listen = settings.listen or HERE
    sockets, note = _listening(reactor, listen, settings, test)
    if sockets is None:
        return fail(
            subject,
            f"{listen.host} is no address of this machine: nothing can listen there",
            "gateway.trunks.listen",
        )
    advertise = settings.advertise or listen
    host = str(Address(advertise.host, advertise.port if advertise.port and not note else sockets.port))
    media, began = uuid4(), reactor.seconds()
    channel = Names(app).media(media, 1)
    try:
        sockets.expect(media, TEST_S)
        reply: Reply = await rest.ask(ari.external_media(channel, app, host, str(media), settings.format))
        if not reply.good:
            remedy = "the firewall, and gateway.trunks: listen, advertise (an address of this machine that Asterisk reaches)"
            return fail(subject, f"Asterisk cannot connect to {host}{note}: it {reply}", remedy)
        trouble = await test.sound.addTimeout(TEST_S, reactor, lambda value, _: "no connection came")
        took_ms = (reactor.seconds() - began) * 1000
        ended = await rest.ask(ari.hang_up(channel))
        if trouble:
            return fail(
                subject,
                f"Asterisk says that it has connected to {host}, but: {trouble}",
                "gateway.trunks: advertise, allow",
            )
        if not ended.good:
            return warn(
                subject,
                f"works, but the test call could not be ended: it {ended}",
                f"asterisk -rx 'channel request hangup all'; {channel}",
            )
        return ok(
            subject,
            f"AudioSocket to {host}{note} at {settings.rate} Hz, there in {took_ms:.0f} ms, ended again",
        )
    finally:
        await sockets.stop()


def _listening(
    reactor: Any, listen: Address, settings: TrunkSettings, test: _Test
) -> tuple[AudioSocketServer | None, str]:
    """A server where the gateway has its own; at another port where that is at work."""
    for port, note in (
        (listen.port, ""),
        (0, f" (a free port: {listen.port} is taken, by the gateway perhaps)"),
    ):
        sockets = AudioSocketServer(
            reactor, Address(listen.host, port), test, rate=settings.rate, allow=settings.allow
        )
        try:
            sockets.start()
        except CannotListenError:
            continue
        return sockets, note if port != listen.port else ""
    return None, ""
