"""The trunk to an Asterisk against a scripted call manager, over real sockets: whole calls, everything that may go wrong, and that nothing is left half open on either side."""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ice.config.gateway import TrunkSettings
from ice.net.addresses import Address
from ice.telephony import ari_link, asterisk_calls, audiosocket
from ice.telephony.asterisk import AsteriskTrunk
from ice.telephony.audiosocket_server import AudioSocketServer
from ice.telephony.call import (
    Answers,
    HangsUp,
    Holds,
    Lost,
    Presses,
    Refuses,
    Released,
    Resumes,
    Rings,
    Side,
    Sounds,
    TransferDone,
    TransferFails,
)
from ice.telephony.causes import Cause
from ice.telephony.trunk import (
    Accept,
    Dial,
    Found,
    HandOver,
    HangUp,
    Happened,
    Health,
    Hold,
    Offered,
    Press,
    Report,
    Resume,
    Ring,
    Sound,
    Trunk,
)
from ice.testing.exchange import Exchange

reactor: Any = installed
LINE = Side.LINE
LOUD = b"\x00\x20" * 320  # 20 ms at 16 kHz
T = TypeVar("T")


class Gateway:
    """Ears that remember."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.sound: dict[UUID, list[Sound]] = {}

    def told(self, trunk: Trunk, report: Report) -> None:
        if isinstance(report, Sound):
            self.sound.setdefault(report.call, []).append(report)
        else:
            self.reports.append(report)

    def of(self, kind: type[T]) -> list[T]:
        return [report for report in self.reports if isinstance(report, kind)]

    def events(self, call: UUID) -> list[Any]:
        return [report.event for report in self.of(Happened) if report.call == call]

    def loud(self, call: UUID) -> int:
        return sum(len(each.samples) for each in self.sound.get(call, []) if any(each.samples))


async def wait(seconds: float) -> None:
    await deferLater(reactor, seconds, lambda: None)


async def until(fact: Callable[[], object], what: str, within_s: float = 3.0) -> None:
    """Wait for a fact, not for a time."""
    end = reactor.seconds() + within_s
    while not fact():
        assert reactor.seconds() < end, f"waited in vain for {what}"
        await wait(0.005)


class Stage:
    """A call manager, a gateway and the trunk between them."""

    def __init__(self, folder: Path, **more: Any) -> None:
        secret = secrets.token_hex(8)
        self.file = folder / "password"
        self.file.write_text(secret + "\n")
        self.file.chmod(0o600)
        self.exchange = Exchange(reactor, password=secret)
        port = self.exchange.listen()
        self.settings = TrunkSettings(
            name="pbx", url=f"http://localhost:{port}", password_file=self.file, **more
        )
        self.gateway = Gateway()
        self.trunk = self.new_trunk()

    def new_trunk(self) -> AsteriskTrunk:
        return AsteriskTrunk(self.settings, reactor, self.gateway, chance=random.Random(1))

    async def up(self) -> None:
        self.trunk.start()
        await until(lambda: self.trunk.health.up, "the trunk")

    def dial(self, number: str, **more: Any) -> UUID:
        call = uuid4()
        self.trunk.ask(Dial(call, number, **more))
        return call

    async def talking(self, number: str = "100", **more: Any) -> UUID:
        call = self.dial(number, **more)
        await self.event(call, Answers(LINE))
        return call

    async def event(self, call: UUID, event: Any, within_s: float = 3.0) -> None:
        await until(
            lambda: event in self.gateway.events(call), f"{event} after {self.gateway.events(call)}", within_s
        )

    async def hung_up(self, call: UUID) -> None:
        self.trunk.ask(HangUp(call, Cause.HUNG_UP))
        await self.event(call, Released(LINE))

    async def nothing_left(self) -> None:
        """On both sides."""
        await until(
            lambda: not self.exchange.half_open and not len(self.trunk.sockets) and self.trunk.engine is not None
            and not len(self.trunk.engine) and not len(self.trunk.engine.debris),
            "nothing to be left",
        )  # fmt: skip
        assert self.exchange.killed == []


@contextlib.asynccontextmanager
async def stage(folder: Path, *, start: bool = True, **more: Any) -> AsyncIterator[Stage]:
    made = Stage(folder, **more)
    try:
        if start:
            await made.up()
        yield made
    finally:
        await made.trunk.stop()
        await made.exchange.close()


@ensureDeferred
async def test_echo(tmp_path: Path) -> None:
    """Dialled, rings, answered; sound and keys both ways, once each; hold and resume from both ends; hung up: nothing left."""
    async with stage(tmp_path) as world:
        world.exchange.faults.keys_by_events = True
        began = reactor.seconds()
        call = world.dial("100", caller="4711", name="Ada", user=uuid4())
        await world.event(call, Answers(LINE))
        assert reactor.seconds() - began < 0.5
        assert world.gateway.events(call) == [Rings(LINE), Answers(LINE)]
        await until(lambda: world.exchange.links and world.exchange.links[0].frames, "silence to be said")
        for _ in range(5):
            world.trunk.sound(call, LOUD)
        await until(lambda: world.gateway.loud(call) == 5 * len(LOUD), "the echo")
        assert {each.rate for each in world.gateway.sound[call]} == {16_000}
        world.trunk.ask(Press(call, "11#"))
        await until(lambda: len(world.gateway.events(call)) >= 5, "the keys")
        line = world.exchange.line("100")
        assert world.exchange.pressed == [("100", "11#")]
        world.trunk.ask(Hold(call))
        await until(lambda: world.exchange.channels[line].music, "music")
        world.trunk.ask(Resume(call))
        await until(lambda: not world.exchange.channels[line].music, "no music")
        world.exchange.hold(line, True)
        world.exchange.hold(line, False)
        await world.event(call, Resumes(LINE))
        keys = [event.digits for event in world.gateway.events(call) if isinstance(event, Presses)]
        assert (keys, Holds(LINE) in world.gateway.events(call)) == (["1", "1", "#"], True)
        variables = world.exchange.channels[line].variables
        assert variables["CONNECTEDLINE(num,i)"] == "4711"
        await world.hung_up(call)
        await world.nothing_left()


@ensureDeferred
async def test_ends(tmp_path: Path) -> None:
    """Busy, congestion, rejected, unknown, no number at all, cancelled, given up by the line, announcement before the answer: each with its cause."""
    async with stage(tmp_path) as world:
        expected = {
            "102": Cause.BUSY,
            "105": Cause.CONGESTION,
            "106": Cause.REJECTED,
            "999": Cause.UNKNOWN_NUMBER,
        }
        calls = {number: world.dial(number) for number in expected}
        for number, cause in expected.items():
            await world.event(calls[number], HangsUp(LINE, cause))
        for nonsense in ("1" * 500, "", "100@other", "Local/1", "+49 30"):
            call = world.dial(nonsense)
            await world.event(call, Refuses(LINE, Cause.INVALID_NUMBER))
        rings = world.dial("103")
        await world.event(rings, Rings(LINE))
        await world.hung_up(rings)
        at_once = world.dial("100")
        world.trunk.ask(HangUp(at_once, Cause.CANCELLED))
        await world.event(at_once, Released(LINE))
        heard = world.dial("101")
        await world.event(heard, HangsUp(LINE))
        assert world.gateway.events(heard) == [Rings(LINE), Sounds(LINE), Answers(LINE), HangsUp(LINE)]
        assert world.gateway.loud(heard) > 0
        both = await world.talking()
        world.trunk.ask(HangUp(both, Cause.HUNG_UP))  # at the same instant
        world.exchange.hang_up(world.exchange.line("100"))
        await world.event(both, Released(LINE))
        stranger = uuid4()
        world.trunk.ask(Press(stranger, "1"))
        world.trunk.ask(HangUp(stranger, Cause.HUNG_UP))
        await world.event(stranger, Released(LINE))
        assert world.gateway.events(stranger) == [Lost(LINE), Released(LINE)]
        await world.nothing_left()


@ensureDeferred
async def test_incoming(tmp_path: Path) -> None:
    """Offered with who and whom; rings, answered, sound; refused as busy; given up by the caller."""
    async with stage(tmp_path) as world:
        exchange = world.exchange
        exchange.incoming("100", "4711", "Ada\x1b[2J")
        await until(lambda: world.gateway.of(Offered), "the offer")
        offered = world.gateway.of(Offered)[0]
        assert (offered.number, offered.dialled, offered.name) == ("100", "4711", "Ada�[2J")
        world.trunk.ask(Ring(offered.call))
        await until(lambda: exchange.asked["ring"], "ringing")
        world.trunk.ask(Accept(offered.call, uuid4()))
        await until(
            lambda: [bool(each.bridge) for each in exchange.channels.values()] == [True, True], "the bridge"
        )
        world.trunk.sound(offered.call, LOUD)
        await until(lambda: world.gateway.loud(offered.call), "sound")
        exchange.hang_up(exchange.line("100"))
        await world.event(offered.call, HangsUp(LINE))
        exchange.incoming("030", "4711")
        await until(lambda: len(world.gateway.of(Offered)) == 2, "the second")
        second = world.gateway.of(Offered)[1]
        world.trunk.ask(HangUp(second.call, Cause.BUSY))
        await world.event(second.call, Released(LINE))
        assert exchange.causes["030"] == 17
        exchange.hang_up(exchange.incoming("sip:<x>", "4711", "anonymous"), 16)
        await until(lambda: len(world.gateway.of(Offered)) == 3, "the third")
        third = world.gateway.of(Offered)[2]
        assert (third.number, third.name) == ("", "")
        await world.event(third.call, HangsUp(LINE))
        await world.nothing_left()


@ensureDeferred
async def test_hand_over(tmp_path: Path) -> None:
    """Handed over to who answers: the two stay together without us, and end together. To who is busy: it is told, and the call goes on."""
    async with stage(tmp_path) as world:
        call = await world.talking("108")
        world.trunk.ask(HandOver(call, "102"))
        await world.event(call, TransferFails(LINE, Cause.BUSY))
        world.trunk.ask(HandOver(call, "1;2"))
        await world.event(call, TransferFails(LINE, Cause.INVALID_NUMBER))
        world.trunk.ask(Hold(call))
        world.trunk.ask(HandOver(call, "100"))
        await world.event(call, TransferDone(LINE))
        await until(lambda: world.exchange.half_open == {"channels": 2, "bridges": 1}, "the pair alone")
        await world.trunk.stop()  # a restart: they are known as what they are
        world.trunk = world.new_trunk()
        await world.up()
        assert world.trunk.engine is not None
        assert (world.trunk.engine.pairs, world.gateway.of(Found)) == (1, [])
        world.exchange.hang_up(world.exchange.line("100"))
        await world.nothing_left()


@ensureDeferred
async def test_requests_go_wrong(tmp_path: Path) -> None:
    """401, 404, 409, 500, garbage for each step of a call: each has its cause, the next trunk is asked where this one could not, and nothing is left."""
    async with stage(tmp_path) as world:
        expected = [
            ("create", 500, Cause.CONGESTION), ("create", 401, Cause.NO_TRUNK), ("create", 400, Cause.INVALID_NUMBER),
            ("create", 409, Cause.FAILED), ("bridge", 500, Cause.CONGESTION), ("externalMedia", 500, Cause.CONGESTION),
            ("externalMedia", 404, Cause.UNREACHABLE), ("addChannel", 409, Cause.FAILED), ("addChannel", 404, Cause.UNREACHABLE),
            ("dial", 404, Cause.UNREACHABLE), ("dial", 500, Cause.CONGESTION),
        ]  # fmt: skip
        for operation, status, cause in expected:
            world.exchange.faults.fail(operation, status)
            call = world.dial("100")
            await world.event(call, Refuses(LINE, cause))
            world.exchange.faults.none()
            await world.nothing_left()
        world.exchange.faults.fail(
            "create", "garbage"
        )  # done all the same: what is said about it is of no interest
        world.exchange.faults.fail("bridge", "garbage")
        call = world.dial("100")
        await wait(0.05)
        await world.hung_up(call)
        world.exchange.faults.none()
        world.exchange.faults.fail("answer", 500)
        world.exchange.incoming("100", "4711")
        await until(lambda: world.gateway.of(Offered), "the offer")
        offered = world.gateway.of(Offered)[-1]
        world.trunk.ask(Accept(offered.call))
        await world.event(offered.call, HangsUp(LINE, Cause.CONGESTION))
        world.exchange.faults.none()
        call = await world.talking()
        world.exchange.faults.fail("hangup", 500, 3)
        world.trunk.ask(HangUp(call, Cause.HUNG_UP))
        await world.event(call, Released(LINE), 6.0)
        await until(lambda: not world.exchange.half_open, "what was said again", 6.0)
        await world.nothing_left()


@ensureDeferred
async def test_nothing_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call manager that takes a request and says nothing: refused within the time of a request; what came into being all the same is ended."""
    monkeypatch.setattr(ari_link, "ANSWER_S", 0.6)
    async with stage(tmp_path) as world:
        world.exchange.faults.fail("create", "nothing", 1)
        call = world.dial("100")
        await world.event(call, Refuses(LINE, Cause.NO_TRUNK), 7.0)
        await world.nothing_left()


@ensureDeferred
async def test_events_go_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage, unknown kinds, events of unknown channels and in the wrong order: counted, and a call goes on as if nothing had been."""
    monkeypatch.setattr(asterisk_calls, "LET_GO_S", 0.3)
    async with stage(tmp_path) as world:
        world.exchange.faults.start_first = True
        call = world.dial("100")
        strange = {"id": "1.1", "name": "PJSIP/x", "state": "Up"}
        line = world.trunk.engine.names.line(call)  # type: ignore[union-attr]
        for event in (
            "{", "[]", "null", "[" * 100_000, json.dumps({"type": "NewInAsterisk23", "channel": 7}), json.dumps({"type": "StasisStart"}),
            json.dumps({"type": "ChannelDestroyed", "channel": strange, "cause": 16}),
            json.dumps({"type": "Dial", "peer": strange, "dialstatus": "ANSWER"}),
            json.dumps({"type": "StasisEnd", "channel": strange}),
            json.dumps({"type": "Dial", "peer": {"id": line}, "dialstatus": "NEW"}),
            json.dumps({"type": "BridgeDestroyed", "bridge": {"id": "x", "channels": []}}),
            json.dumps({"type": "ChannelVarset", "channel": strange, "variable": "x" * 200_000, "value": ""}),
        ):  # fmt: skip
            world.exchange.say_event(event)
        await world.event(call, Answers(LINE))
        counted = world.trunk.counters
        assert counted["event-garbage"] >= 4
        assert (counted["event-bare"], counted["ari-unknown-channel"]) == (1, 2)
        world.exchange.say_event(json.dumps({"type": "StasisEnd", "channel": {"id": line}}))  # led elsewhere
        await world.event(call, Lost(LINE), 4.0)
        await world.nothing_left()


@ensureDeferred
async def test_event_socket_dies(tmp_path: Path) -> None:
    """The event WebSocket breaks in the middle of calls: they go on, the trunk is down and up again; what ended meanwhile is told, what began meanwhile is found."""
    async with stage(tmp_path) as world:
        stays, leaves = await world.talking("100"), await world.talking("108")
        rings = world.dial("103")
        await world.event(rings, Rings(LINE))
        world.exchange.faults.fail("channels", "garbage", 1)
        world.exchange.cut_events()
        world.exchange.hang_up(world.exchange.line("108"))
        await until(lambda: not world.trunk.health.up, "to be down")
        world.trunk.sound(stays, LOUD)
        await until(lambda: world.gateway.loud(stays), "sound without events")
        refused = world.dial("100")
        await world.event(refused, Refuses(LINE, Cause.NO_TRUNK))
        await until(lambda: world.trunk.health.up, "to be up again", 10.0)
        await world.event(leaves, HangsUp(LINE))
        assert [health.up for health in world.gateway.of(Health)][:2] == [True, False]
        for call in (stays, rings):
            assert not {Lost(LINE), HangsUp(LINE)} & set(world.gateway.events(call))
            await world.hung_up(call)
        await world.nothing_left()
        world.exchange.faults.events_refused = 401
        world.exchange.cut_events()
        await until(lambda: "401" in world.trunk.health.why, "the refusal in words")


@ensureDeferred
async def test_event_socket_is_deaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A WebSocket that stays open and says nothing: asked, given up and made anew; so is one that sends an event without end."""
    monkeypatch.setattr(ari_link, "PING_S", 0.1)
    monkeypatch.setattr(ari_link, "DEAD_S", 0.4)
    async with stage(tmp_path) as world:
        call = await world.talking()
        world.exchange.listeners["ice"].deaf = True
        await until(lambda: not world.trunk.health.up, "to be down")
        assert "does not answer any more" in world.trunk.health.why
        await until(lambda: world.trunk.health.up, "to be up again", 10.0)
        world.exchange.say_event("x" * 300_000)
        await until(lambda: not world.trunk.health.up, "to be down for what is too long")
        assert "more than" in world.trunk.health.why
        await until(lambda: world.trunk.health.up, "to be up once more", 10.0)
        await world.hung_up(call)
        await world.nothing_left()


@ensureDeferred
async def test_call_manager_restarts(tmp_path: Path) -> None:
    """A call manager that dies in the middle of a call and comes back without it: told as soon as it is back; then telephoned again."""
    async with stage(tmp_path) as world:
        call, rings = await world.talking(), world.dial("103")
        await world.event(rings, Rings(LINE))
        port = int(world.settings.url.rpartition(":")[2])
        await world.exchange.close()
        await until(lambda: not world.trunk.health.up, "to be down")
        await until(lambda: not len(world.trunk.sockets), "no sound")
        assert world.exchange.listen(port) == port
        await until(lambda: world.trunk.health.up, "to be up again", 10.0)
        await world.event(call, HangsUp(LINE))
        ends = (Lost(LINE), Refuses(LINE, Cause.NO_TRUNK))  # whether its sound or the events broke off first
        await until(lambda: world.gateway.events(rings)[-1] in ends, "the other's end")
        await world.hung_up(await world.talking())
        await world.nothing_left()


@ensureDeferred
async def test_restart(tmp_path: Path) -> None:
    """A gateway that died: the next one finds the answered calls with their people, gives them sound again, and ends the rest: ringing ones, and what belongs to nothing."""
    async with stage(tmp_path) as world:
        ada = uuid4()
        call = await world.talking("100", user=ada)
        ringing = world.dial("103")
        await world.event(ringing, Rings(LINE))
        world.exchange.incoming("030", "4711")
        world.exchange.bridges.add(f"ice-{uuid4().hex}")
        await until(lambda: world.gateway.of(Offered), "the offer")
        for link in world.exchange.links:
            assert link.frames >= 0
        await world.trunk.stop()  # says nothing to anybody
        world.trunk = world.new_trunk()
        await world.up()
        (found,) = world.gateway.of(Found)
        assert (found.call, found.user, found.number) == (call, ada, "100")
        await until(lambda: len(world.exchange.channels) == 2, "the rest to be ended")
        await until(lambda: world.exchange.links, "sound")
        await until(
            lambda: [each for each in world.exchange.channels.values() if each.link and each.bridge],
            "its bridge",
        )
        world.trunk.sound(call, LOUD)
        await until(lambda: world.gateway.loud(call), "the echo")
        await world.hung_up(call)
        await world.nothing_left()


@ensureDeferred
async def test_two_of_one_application(tmp_path: Path) -> None:
    """Another program takes the application: this trunk is down, says why, and does not fight for it."""
    async with stage(tmp_path) as world:
        other = world.new_trunk()
        other.start()
        await until(lambda: other.health.up, "the other")
        await until(lambda: not world.trunk.health.up, "this one")
        assert "another program" in world.trunk.health.why
        await wait(0.6)
        assert other.health.up
        await other.stop()


@ensureDeferred
async def test_sound_breaks(tmp_path: Path) -> None:
    """A connection of sound that breaks is made again; a UUID that comes late is waited for; where our port cannot be reached, the call manager says so and the call is refused."""
    async with stage(tmp_path) as world:
        world.exchange.faults.uuid_after_s = 0.3
        call = await world.talking()
        await until(lambda: [link for link in world.exchange.links if link.frames], "the late one")
        first = world.exchange.links[0]
        first.close(odd=False)
        world.exchange.media_ended(first)
        await until(lambda: world.exchange.links and world.exchange.links[0] is not first, "another")
        world.trunk.sound(call, LOUD)
        await until(lambda: world.exchange.links[0].frames, "frames")
        await wait(0.35)
        world.trunk.sound(call, LOUD)
        await until(lambda: world.gateway.loud(call), "sound")
        await world.hung_up(call)
        await world.nothing_left()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            world.trunk.engine.terms = world.trunk.engine.terms.__class__(  # type: ignore[union-attr]
                "ice", "PJSIP/{number}@provider", "slin16", f"127.0.0.1:{taken.getsockname()[1]}"
            )
            call = world.dial("100")
            await world.event(call, Refuses(LINE, Cause.CONGESTION))
        await world.nothing_left()


async def said(port: int, *pieces: bytes, read: float = 0.0) -> bytes:
    """Connect, say something, and read until the end, or so long."""
    from twisted.internet.endpoints import TCP4ClientEndpoint
    from twisted.internet.protocol import Factory, Protocol

    class Stranger(Protocol):
        def __init__(self) -> None:
            self.heard = b""
            self.over: Deferred[None] = Deferred()

        def dataReceived(self, data: bytes) -> None:
            self.heard += data

        def connectionLost(self, reason: Any = None) -> None:
            self.over.callback(None)

    stranger: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(
        Factory.forProtocol(Stranger)
    )
    for piece in pieces:
        stranger.transport.write(piece)
    if read:
        await wait(read)
        stranger.transport.abortConnection()
    await stranger.over
    return bytes(stranger.heard)


def uuid_message(media: UUID) -> bytes:
    return audiosocket.encode(audiosocket.Kind.UUID, media.bytes)


@ensureDeferred
async def test_strangers_at_the_sound_port(tmp_path: Path) -> None:
    """An unknown UUID, none, the same twice, whatever else comes first: each is counted by name, and a call beside them goes on."""
    async with stage(tmp_path) as world:
        call = await world.talking()
        sockets = world.trunk.sockets
        port, media = sockets.port, world.trunk.engine.media_of(call)  # type: ignore[union-attr]
        assert media is not None
        assert await said(port, uuid_message(uuid4())) == b""
        assert await said(port, uuid_message(media)) == b""
        assert await said(port, audiosocket.sound(16_000, LOUD)) == b""
        assert await said(port, b"\x01\x00\x03abc") == b""
        for kind in range(0x02, 0x100, 7):
            await said(port, struct.pack(">BH", kind, 5) + b"abcde")
        counted = sockets.counters
        assert (counted["stranger"], counted["twice"]) == (1, 1)
        assert counted["nameless"] >= 38
        world.trunk.sound(call, LOUD)
        await until(lambda: world.gateway.loud(call), "the call beside")
        await world.hung_up(call)
        await world.nothing_left()


class Waiting:
    """Whoever waits for connections."""

    def __init__(self) -> None:
        self.samples = 0
        self.told: list[Any] = []

    def connected(self, media: UUID) -> None:
        self.told.append("connected")

    def heard(self, media: UUID, rate: int, samples: bytes) -> None:
        self.samples += len(samples) // 2

    def pressed(self, media: UUID, digit: str) -> None:
        self.told.append(digit)

    def ended(self, media: UUID, why: str) -> None:
        self.told.append(why.partition(":")[0])


@ensureDeferred
async def test_frames_of_every_kind() -> None:
    """Frames of every length, unknown kinds, half a sample at the end: borne, with silence meanwhile; 10 MB/s and a connection that comes too late: not; a peer that does not read is not waited for."""
    waiting = Waiting()
    sockets = AudioSocketServer(reactor, Address("127.0.0.1", 0), waiting, rate=16_000)
    sockets.start()
    media, flood, reader, late = uuid4(), uuid4(), uuid4(), uuid4()
    for each in (media, flood, reader):
        sockets.expect(each, 5.0)
    sockets.expect(late, 0.1)
    odd = [struct.pack(">BH", 0x12, length) + bytes(length) for length in (0, 1, 2, 3, 639, 640, 641, 65_535)]
    more = (b"\x03\x00\x011", b"\x77\x00\x00", b"\x12\x02\x80ab")
    heard = await said(sockets.port, uuid_message(media), *odd, *more, read=0.3)
    assert len(heard) >= 6 * 643
    assert set(heard[3:643]) == {0}
    assert waiting.samples == (2 + 2 + 638 + 640 + 640 + 65_534) // 2
    await until(lambda: waiting.told[:3] == ["connected", "1", "cut"], "its end")
    await said(sockets.port, uuid_message(flood), audiosocket.sound(16_000, bytes(65_534)) * 160)
    await until(lambda: sockets.counters["flood"] == 1, "the flood's end")
    with socket.create_connection(("127.0.0.1", sockets.port)) as deaf:
        deaf.sendall(uuid_message(reader))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        await until(lambda: waiting.told.count("connected") == 3, "the deaf one")
        for _ in range(20_000):
            sockets.say(reader, LOUD)
        assert sockets.counters["slow-reader"] > 10_000
        await until(lambda: sockets.counters["late"] == 1, "the one that does not come")
    sockets.say(uuid4(), LOUD)
    assert sockets.counters["no-connection"] == 1
    await sockets.stop()
    assert len(sockets) == 0


@ensureDeferred
async def test_a_minute_of_silence(tmp_path: Path) -> None:
    """A gateway that says nothing for a while: silence is said in its place, one frame in 20 ms, and none is doubled where it speaks."""
    async with stage(tmp_path, format="slin") as world:
        call = await world.talking("108")
        await until(lambda: world.exchange.links, "sound")
        link = world.exchange.links[0]
        before, began = link.frames, reactor.seconds()
        await wait(0.6)
        rate = (link.frames - before) / (reactor.seconds() - began)
        assert 42 <= rate <= 55
        silences = world.trunk.sockets.silences
        for _ in range(20):
            world.trunk.sound(call, bytes(320))
            await wait(0.02)
        assert world.trunk.sockets.silences - silences <= 2
        await world.hung_up(call)
        await world.nothing_left()
