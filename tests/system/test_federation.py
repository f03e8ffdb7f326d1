"""Two organisations, each with an authority, Rallypoints and people of its own: what they hear of each other, and who is refused.

Real daemons and commands on loopback. Waits are generous; what is asserted is counts and words.
"""

import json
import signal
import time
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest

from ice.cli.trace import compare
from ice.security.certificates import Role
from ice.security.register import addresses
from ice.testing.site import Site, free_ports

from .conftest import Program
from .test_voice import WAIT_S, Rallypoint, events, finish, interrupt, wait_until

Start = Callable[..., Program]


@attrs.define
class Gate:
    """One Rallypoint of an organisation, with a configuration of its own."""

    site: Site
    config: Path
    id: UUID
    port: int
    http_port: int
    base: str
    program: Program | None = None

    def write(self, text: str) -> None:
        """Its configuration, with these tables added."""
        self.config.write_text(self.base + "\n" + text)

    def run(self, start: Start) -> Program:
        """Start it and wait until it welcomes newcomers."""
        program = self.program = start(
            "twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", self.config
        )
        wait_until(lambda: bool(self.status().get("ready")), "the Rallypoint is ready", program)
        return program

    def reload(self) -> None:
        """SIGHUP, and wait until that is done."""
        assert self.program is not None
        before = self.program.output().count("reloaded ")
        self.program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.said().count("reloaded ") > before, "it has reloaded", self.program)

    def said(self) -> str:
        """Its log."""
        assert self.program is not None
        return self.program.output()

    def status(self) -> dict[str, Any]:
        """What it says of itself; nothing while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/status", timeout=5) as page:
                answer: dict[str, Any] = json.load(page)
                return answer
        except (OSError, ValueError):
            return {}

    def allies(self, state: str = "linked") -> list[dict[str, Any]]:
        """Rallypoints of the other organisation in this state."""
        return [each for each in self.status().get("federations", []) if each["state"] == state]


def organisation(folder: Path, clients: Sequence[str], gates: int = 1) -> tuple[Site, list[Gate]]:
    """A site with so many Rallypoints, meshed with each other; nobody else is known yet."""
    site = Site.create(folder, clients=clients)
    found = []
    for number in range(gates):
        name, id, port, http_port = "rallypoint", site.rallypoint.id, site.port, site.http_port
        if number:
            name = f"rallypoint-{number}"
            entry = site.authority.issue(
                name,
                Role.RALLYPOINT,
                datetime.now(UTC),
                dns=("localhost",),
                addresses=addresses(("127.0.0.1",)),
            )
            assert entry.id is not None
            id, (port, http_port) = entry.id, free_ports(2)
        base = (
            f'[rallypoint]\nname = "{folder.name} {number}"\nlisten = ["127.0.0.1:{port}"]\n'
            f'certificate = "pki/{name}.pem"\nkey = "pki/{name}.key"\n[rallypoint.http]\nlisten = "127.0.0.1:{http_port}"\n'
        )
        found.append(Gate(site, folder / f"{name}.toml", id, port, http_port, base))
    if gates > 1:
        members = ", ".join(f'{{ id = "{gate.id}", address = "127.0.0.1:{gate.port}" }}' for gate in found)
        for gate in found:
            gate.base += f'[[groups]]\nname = "all"\nmembers = [{members}]\n'
    for gate in found:
        gate.write("")
    return site, found


def federation(
    theirs: Site,
    gates: Sequence[Gate],
    incoming: Sequence[str] = ("town",),
    outgoing: Sequence[str] = ("town",),
    *,
    more: str = "",
    ids: Sequence[UUID] = (),
) -> str:
    """The table that lists these Rallypoints of theirs, or others under their addresses."""
    listed = ids or [gate.id for gate in gates]
    rallypoints = ", ".join(
        f'{{ id = "{id}", address = "127.0.0.1:{gate.port}" }}'
        for id, gate in zip(listed, gates, strict=True)
    )
    return (
        f'[[federations]]\nname = "{theirs.folder.name}"\nauthority = ["{theirs.pki}/authority.pem"]\n'
        f"incoming = {json.dumps(list(incoming))}\noutgoing = {json.dumps(list(outgoing))}\n"
        f"rallypoints = [{rallypoints}]\n{more}\n"
    )


@attrs.define
class Border:
    """Two organisations, and people on both sides."""

    start: Start
    folder: Path
    sites: tuple[Site, Site]
    gates: tuple[list[Gate], list[Gate]]

    @classmethod
    def of(cls, start: Start, folder: Path, gates: int = 1) -> "Border":
        """Town and coast, with so many Rallypoints each."""
        town, town_gates = organisation(folder / "town", ("anna", "bob"), gates)
        coast, coast_gates = organisation(folder / "coast", ("carl", "dora"), gates)
        return cls(start, folder, (town, coast), (town_gates, coast_gates))

    def people(self, side: int) -> Rallypoint:
        """Those who speak and listen at one side's first Rallypoint."""
        return Rallypoint(self.start, self.sites[side], self.folder)

    def agree(self, incoming: Sequence[str] = ("town",), outgoing: Sequence[str] = ("town",)) -> None:
        """Each lists all of the other's; seen from town."""
        for gate in self.gates[0]:
            gate.write(federation(self.sites[1], self.gates[1], incoming, outgoing))
        for gate in self.gates[1]:
            gate.write(federation(self.sites[0], self.gates[0], outgoing, incoming))

    def run(self) -> None:
        """Start every Rallypoint."""
        for gate in (*self.gates[0], *self.gates[1]):
            gate.run(self.start)

    def linked(self) -> bool:
        """Whether every Rallypoint is linked with all of the other side."""
        return all(
            len(gate.allies()) == len(self.gates[1 - side]) for side in (0, 1) for gate in self.gates[side]
        )


@pytest.fixture
def border(start: Start, tmp_path: Path) -> Border:
    """One Rallypoint on each side; nothing is agreed, and nothing runs yet."""
    return Border.of(start, tmp_path)


def test_people_of_two_organisations(border: Border) -> None:
    """A sentence said in one is heard in the other, whole, both ways; on a stream that is not shared nothing is."""
    border.agree()
    border.run()
    wait_until(border.linked, "both are linked")
    town, coast = border.people(0), border.people(1)
    for here, there, talker, listener in ((town, coast, "anna", "carl"), (coast, town, "dora", "bob")):
        program = there.listen(listener)
        finish(here.talk(talker))
        wait_until(lambda p=program: bool(events(p, "ended")), "the sentence is over", program)  # type: ignore[misc]
        interrupt(program)
        packets = compare(here.sent(talker), there.heard(listener))
        assert packets.sent > 290
        assert (packets.lost, packets.duplicated) == (0, 0)
    quiet = coast.listen("carl", "secret")
    finish(town.talk("anna", "secret"))
    time.sleep(0.5)
    assert not events(quiet, "began")
    interrupt(quiet)
    (row,) = border.gates[0][0].allies()
    assert (row["incoming"], row["outgoing"], row["refused"]) == (["town"], ["town"], [])
    assert row["sent"] > 290 and row["received"] > 290


def test_two_gateways_each(start: Start, tmp_path: Path) -> None:
    """Two and two Rallypoints: each hears everything once; when one is killed in the middle of a sentence it goes on by the others, and when it is back,
    it is linked again."""
    border = Border.of(start, tmp_path, gates=2)
    border.agree()
    border.run()
    wait_until(border.linked, "all four links stand")
    wait_until(
        lambda: all(len(gate.status()["federations"]) == 2 for side in border.gates for gate in side),
        "status",
    )
    town, coast = border.people(0), border.people(1)
    listener = coast.listen("carl")
    talker = town.talk("anna", "town", "--loop", "2")
    wait_until(lambda: bool(events(listener, "began")), "anna is heard", listener, talker)
    time.sleep(2.0)
    victim = border.gates[1][1]  # the one that carl is not on
    assert victim.program is not None
    victim.program.process.kill()
    victim.program.process.wait()
    finish(talker)
    wait_until(lambda: bool(events(listener, "ended")), "the sentence is over", listener)
    interrupt(listener)
    packets = compare(town.sent("anna"), coast.heard("carl"))
    assert packets.sent > 580
    assert (packets.lost, packets.duplicated) == (0, 0)
    victim.run(start)
    wait_until(border.linked, "all four links stand again")


def test_one_direction(border: Border) -> None:
    """Where one side lists a stream in one direction only, that one is heard; the other is refused in both logs, and nobody hears it."""
    town, coast = border.gates[0][0], border.gates[1][0]
    town.write(federation(border.sites[1], [coast]))
    coast.write(federation(border.sites[0], [town], incoming=["town"], outgoing=[]))
    border.run()
    wait_until(border.linked, "both are linked")
    here, there = border.people(0), border.people(1)
    listener = there.listen("carl")
    finish(here.talk("anna"))
    wait_until(lambda: bool(events(listener, "ended")), "the sentence is over", listener)
    interrupt(listener)
    assert compare(here.sent("anna"), there.heard("carl")).lost == 0
    deaf = here.listen("bob")
    finish(there.talk("dora"))
    time.sleep(0.5)
    assert not events(deaf, "began")
    interrupt(deaf)
    (row,) = town.allies()
    assert (row["incoming"], row["outgoing"]) == ([], ["town"])
    if row["direction"] == "outbound":  # town asked for both
        assert "is kept from coming in" in row["refused"][0]
        assert "is kept from coming in" in town.said()
        assert "asked for what is not shared" in coast.said()


def test_strangers(border: Border) -> None:
    """One that we list and that does not know us, one under another UUID, their people, and our own authority as theirs: refused with reasons."""
    town, coast = border.gates[0][0], border.gates[1][0]
    town.write(federation(border.sites[1], [coast]))
    border.run()
    # They do not know us at all.
    town_said = town.program
    assert town_said is not None and coast.program is not None
    coast.program.wait_for("unknown-authority", WAIT_S)
    town_said.wait_for("an authority that the other side does not trust", WAIT_S)
    # They know our authority, and list another Rallypoint of it.
    coast.write(federation(border.sites[0], [town], ids=[uuid4()]))
    coast.reload()
    town.reload()
    said = coast.program.wait_for("not-listed", WAIT_S + 60)
    assert "is not among those listed here (federations.rallypoints)" in said
    town_said.wait_for("another organisation that has not listed us", WAIT_S)
    assert not town.allies() and not coast.allies()
    (row,) = town.status()["federations"]
    assert row["why"]
    # Their people are not let in, although their authority is believed for a Rallypoint.
    coast.write(federation(border.sites[0], [town]))
    coast.reload()
    wait_until(border.linked, "both are linked")
    theirs = border.sites[1].client("carl").config
    text = theirs.read_text().replace(f"127.0.0.1:{coast.port}", f"127.0.0.1:{town.port}")
    (border.sites[1].pki / "both.pem").write_bytes(
        b"".join((site.pki / "authority.pem").read_bytes() for site in border.sites)
    )
    theirs.write_text(text + '\n[authority]\ncertificates = ["pki/both.pem"]\n')
    intruder = border.start("ice", "listen", "town", "--out", "nothing.wav", "--config", theirs)
    wait_until(
        lambda: "of which only Rallypoints are let in" in town.said(), "the intruder is refused", intruder
    )
    assert ": role: " in town.said()
    wait_until(lambda: "another organisation" in intruder.output(), "the intruder is told", intruder)
    intruder.end()
    # Our own authority is none of theirs.
    before = town.said().count("not reloaded:")
    town.write(federation(border.sites[0], [coast]))
    assert town.program is not None
    town.program.process.send_signal(signal.SIGHUP)
    wait_until(lambda: town.said().count("not reloaded:") > before, "the reload is refused")
    assert "is one of ours" in town.said()
    assert town.allies(), "the link lives on"


def test_reloads(border: Border) -> None:
    """Revoked, taken off the list, other streams: the link ends with a reason on both sides; and people of one's own talk on."""
    border.agree()
    border.run()
    wait_until(border.linked, "both are linked")
    town, coast = border.gates[0][0], border.gates[1][0]
    assert town.program is not None and coast.program is not None
    here = border.people(0)
    listener = here.listen("bob")
    talker = here.talk("anna", "town", "--loop", "1000")
    wait_until(lambda: bool(events(listener, "began")), "anna is heard", listener, talker)
    # Other streams: the link begins anew by the new lists.
    town.write(federation(border.sites[1], [coast], ("town", "news"), ("town",)))
    town.reload()
    wait_until(lambda: "begin anew" in coast.said(), "coast is told", town.program)
    wait_until(border.linked, "both are linked again")
    assert coast.allies()[0]["incoming"] == ["town"]
    # Their list names the Rallypoint.
    border.sites[1].authority.revoke("rallypoint", datetime.now(UTC))
    revoked = f'revocations = "{border.sites[1].pki}/revoked.pem"'
    table = federation(border.sites[1], [coast]).replace("incoming", revoked + "\nincoming", 1)
    town.write(table)
    town.reload()
    wait_until(lambda: "is revoked" in coast.said(), "coast is told")
    time.sleep(1.0)
    assert not town.allies() and not coast.allies()
    # Taken off altogether, nothing of it is left.
    town.write("")
    town.reload()
    assert town.status()["federations"] == []
    interrupt(talker, status=130)
    interrupt(listener)
    assert compare(here.sent("anna"), here.heard("bob")).duplicated == 0
    assert [event["up"] for event in events(listener, "path")] == [True]


def test_own_authority_at_the_start(border: Border) -> None:
    """A configuration that gives our own authority as theirs does not start; `ice check` names file, line and key."""
    town = border.gates[0][0]
    town.write(federation(border.sites[0], [border.gates[1][0]]))
    program = border.start("twistd", "-n", "--pidfile=", "ice-rallypoint", "--config", town.config)
    assert program.process.wait(WAIT_S) == 1
    assert "is one of ours" in program.output()
    check = border.start("ice", "check", "--config", town.config)
    assert check.process.wait(WAIT_S) == 1
    line = (
        town.config.read_text().splitlines().index(f'authority = ["{border.sites[0].pki}/authority.pem"]') + 1
    )
    assert f"{town.config}:{line}: federations.authority" in check.output().replace("\n", " "), check.output()
