"""The patch server as a Twisted service: its network of Rallypoints, the list of patches, and a :class:`~ice.patch.joint.Joint` for each that stands.

What is decided is decided in the engines beside this file. Here the list changes, by files (:meth:`PatchServer.reload`), people (:meth:`PatchServer.change` and its kin) and other servers
(:meth:`PatchServer.learned`); each change is on the disk before it counts, and is one line of the audit log. Then those patches that stand are served: a patch that is the same as before notices
nothing of what becomes of others.

**One of a group.** Whoever elects the active server calls :meth:`PatchServer.active` and :meth:`PatchServer.standby`. A standby has joined everything and hears everything, and says nothing: taking over is a flag. The list is
then the group's document (:attr:`PatchServer.shared`): only the active server changes it for a person, and what files say on a standby is published when it leads.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ice.errors import IceError, LocalError
from ice.media.floor import Refused
from ice.patch.announcement import Announcement
from ice.patch.channel import Channel
from ice.patch.channels import Plan
from ice.patch.engine import engine_for
from ice.patch.joint import Joint
from ice.patch.keys import Locks
from ice.patch.listing import Action, Audit, PatchList, encode
from ice.patch.parsing import decode
from ice.patch.plan import Patch, PatchRefused, Refusal, standing
from ice.patch.store import Store
from ice.patch.totals import Totals
from ice.streams.rallypoint import RallypointNetwork

PULSE_S: Final = 1.0  # how often circles are told, and a list that the group has not got yet is offered again
KEEP_AGAIN_S: Final = 10  # after the disk refused the list
SETTLE_S: Final = 2.0  # after a take-over what comes back may be the last words of the server that was active
BY_FILES: Final = "the configuration"
Change = Callable[[PatchList, int, Mapping[str, Channel]], tuple[PatchList, Audit]]
"""What somebody wants done with a list at a time (Unix milliseconds), by what is known of the streams."""


class Shared(Protocol):
    """The list as all servers of a group hold it (:mod:`ice.patch.elected`)."""

    @property
    def leads(self) -> bool:
        """Whether we are the active server."""

    @property
    def leader(self) -> str:
        """The name of the server that is active, empty where nobody knows."""

    @property
    def body(self) -> bytes | None:
        """The list that the group holds, None where it has none."""

    def change(self, body: bytes) -> None:
        """Let the group hold this one. Raises :class:`LocalError` where we do not lead."""


class PatchServer(Service):
    """One patch server. ``network`` is not started yet; it must be a satellite's, since others' datagrams are passed on.

    ``group_id`` is the group of servers that serve the same list, or our own id.
    """

    _log = Logger()
    name = "patches"

    def __init__(
        self,
        reactor: Any,
        network: RallypointNetwork,
        plan: Plan,
        store: Store,
        *,
        group_id: str,
        wall: Callable[[], float] = time.time,
        chance: Random | None = None,
    ) -> None:
        self.network = network
        self.plan = plan
        self.group_id = group_id
        #: Patches that are served, by id.
        self.joints: dict[str, Joint] = {}
        #: For each enabled patch why it is not served, None where it is.
        self.standing: dict[str, Refusal | None] = {}
        self.is_active = True
        self.shared: Shared | None = None
        self.started_at: float | None = None
        #: Changes that were asked for, by what became of them: ``done`` or the reason.
        self.asked: Counter[str] = Counter()
        #: Why the list is not on the disk, empty where it is.
        self.unkept = ""
        self._store = store
        self._reactor = reactor
        self._wall = wall
        self._chance = chance
        self._locks = Locks()
        self._may_act: Callable[[], bool] | None = None
        self._unpublished = False
        self._keep_again_at = math.inf
        self._active_since = -math.inf
        self._gone = Totals()
        self._pulse = LoopingCall(self._beat)
        self._pulse.clock = reactor
        self.listing, self._said = store.read()

    # -- IService ------------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Link to the Rallypoints, read what the files say, and serve."""
        super().startService()  # type: ignore[no-untyped-call]
        self.started_at = self._reactor.seconds()
        self._sow(must_keep=False)
        self._serve()
        self.network.start()
        self._pulse.start(PULSE_S, now=False)
        self._log.info(
            "serving {served} of {patches} patches",
            served=len(self.joints),
            patches=len(self.listing.entries),
        )

    def stopService(self) -> Deferred[None]:
        """End what we say and leave every stream; fires when the links are closed. Stopping twice is harmless."""
        if not self.running:
            return succeed(None)
        super().stopService()  # type: ignore[no-untyped-call]
        if self._pulse.running:
            self._pulse.stop()
        for id in list(self.joints):
            self._part(id)
        return self.network.stop("the patch server stops")

    # -- the list ------------------------------------------------------------------------------------------------------

    def change(self, wanted: Change) -> Audit:
        """Do what a person wants with the list; what is refused is told in the :class:`Audit`, which the control keeps in its log.

        Raises :class:`LocalError` where the list cannot be kept on the disk, and where another server of the group leads: nothing has changed.
        """
        if self.shared is not None and not self.shared.leads:
            leader = self.shared.leader
            where = f"ask {leader!r}" if leader else "none leads at the moment: ask again"
            raise LocalError(
                f"this patch server stands by, and only the active one of its group changes the list: {where}"
            )
        listing, audit = wanted(self.listing, self._ms(), self.plan.channels)
        if listing is not self.listing:
            self._take(listing)
        self._count(audit)
        return audit

    def reload(self, plan: Plan) -> None:
        """Go on by other files; patches that are as before notice nothing. Raises :class:`LocalError` where the list cannot be kept."""
        before, self.plan = self.plan, plan
        try:
            self._sow()
        except IceError:
            self.plan = before
            raise
        if self.running:
            self._rekey(before.channels)
            self._serve(before)

    def learned(self, body: bytes) -> None:
        """Another server of the group has changed the list. Raises :class:`~ice.errors.RemoteError` for what is none."""
        listing = self.listing.merge(decode(body))
        if listing != self.listing:
            self._take(listing, offer=False, must_keep=False)  # in the middle of being told
            self._log.info("the group's list has {patches} patches", patches=len(listing.entries))
        self._unpublished = encode(listing) != body

    def merged(self, ours: bytes, theirs: bytes) -> bytes:
        """One list of two, as the group's document has them."""
        return encode(decode(ours).merge(decode(theirs)))

    def announce(self, patch_id: str, announcement: Announcement) -> None:
        """Say something on the streams of a patch. Raises :class:`LocalError` with why it cannot be."""
        joint = self.joints.get(patch_id)
        if joint is None:
            refusal = self.standing.get(patch_id)
            raise LocalError(
                refusal.message
                if refusal is not None
                else f"patch {patch_id[:64]!r} is not active: ice patch on {patch_id[:64]}"
                if patch_id in self.listing.entries
                else f"there is no patch {patch_id[:64]!r}"
            )
        answer = joint.announce(announcement)
        if isinstance(answer, Refused):
            raise LocalError(
                f"somebody with the floor of patch {patch_id!r} goes before ({answer.reason}): try again when he has ended, or with a higher priority"
            )

    # -- for the assembly ----------------------------------------------------------------------------------------------

    def active(self) -> None:
        """Speak from now on."""
        if not self.is_active:
            self.is_active = True
            self._active_since = self._reactor.seconds()
            for joint in self.joints.values():
                joint.take_over()
            self._log.info("active: speaking from now on")
        self._unpublished = self.shared is not None

    def standby(self) -> None:
        """Hear and remember, and say nothing."""
        if self.is_active:
            self.is_active = False
            for joint in self.joints.values():
                joint.stand_by()
            self._log.info("standby: hearing, and saying nothing")

    def guard(self, may_act: Callable[[], bool]) -> None:
        """Ask ``may_act`` before datagrams are looked at; where it says no it has called :meth:`standby` already."""
        self._may_act = may_act

    def ready(self) -> str | None:
        """None where every patch that stands does its work, else why not."""
        if not self.running:
            return "the patch server is stopping" if self.started_at is not None else "not started yet"
        if not self.network.up:
            return f"no link to a Rallypoint: {self.network.why or 'connecting'}"
        for id, joint in self.joints.items():
            if (down := joint.down) is not None:
                return f"patch {id}: stream {down[0]}: {down[1]}"
        return None

    @property
    def uptime_s(self) -> float:
        """Seconds since it started; 0 before."""
        return 0.0 if self.started_at is None else self._reactor.seconds() - self.started_at

    def totals(self) -> Totals:
        """What all patches have counted since the start."""
        totals, now = self._gone.copy(), self._reactor.seconds()
        for joint in self.joints.values():
            totals.add(joint.engine.status(now))
        return totals

    @property
    def unix_s(self) -> float:
        """The time of day."""
        return self._wall()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _ms(self) -> int:
        return int(self._wall() * 1_000)

    def _count(self, audit: Audit) -> None:
        self.asked["done" if audit.refusal is None else str(audit.refusal.reason)] += 1

    def _note(self, audit: Audit) -> None:
        self._count(audit)
        tell = self._log.info if audit.refusal is None else self._log.warn
        tell("audit {line}", line=audit.line())

    def _take(
        self,
        listing: PatchList,
        said: tuple[Patch, ...] | None = None,
        *,
        offer: bool = True,
        must_keep: bool = True,
    ) -> None:
        """This is the list from now on; without ``must_keep`` also where it cannot be kept on the disk, which is tried again."""
        try:
            self._keep(listing, said)
        except LocalError as error:
            if must_keep:
                raise
            self._cannot_keep(error)
        self.listing = listing
        self._unpublished = self.shared is not None
        if offer:
            self._offer()
        if self.running:
            self._serve()

    def _keep(self, listing: PatchList, said: tuple[Patch, ...] | None) -> None:
        # What the files said belongs to the list: if that was not kept, neither was this.
        self._store.keep(listing, self._said if said is None and self.unkept else said)
        if self.unkept:
            self._log.info("the list of patches is on the disk again")
        self.unkept, self._keep_again_at = "", math.inf

    def _cannot_keep(self, error: LocalError) -> None:
        if self.unkept != str(error):
            self._log.error(
                "the list of patches cannot be kept: {why}; it is served as it is, people's changes are refused until it can be, and this is tried again every {wait} s",
                why=str(error),
                wait=KEEP_AGAIN_S,
            )
        self.unkept = str(error)
        self._keep_again_at = self._reactor.seconds() + KEEP_AGAIN_S

    def _sow(self, *, must_keep: bool = True) -> None:
        """Do what the files say anew."""
        wanted, ms = self.plan.patches, self._ms()
        listing, audits = self.listing.sown(wanted, self._said, by=BY_FILES, ms=ms, facts=self.plan.channels)
        if listing is not self.listing or wanted != self._said:
            self._take(listing, wanted, must_keep=must_keep)
            self._said = wanted
        for audit in audits:
            self._note(audit)
        for refusal in self.plan.refused:
            self._note(Audit(ms, BY_FILES, Action.READ, refusal.patch, refusal))

    def _rekey(self, before: Mapping[str, Channel]) -> None:
        """Give running patches the new keys of streams that had keys before."""
        for joint in self.joints.values():
            for stream in joint.engine.patch.stream_ids:
                was, now = before.get(stream), self.plan.channels.get(stream)
                if was is None or now is None or was.keyring is None or now.keyring is None:
                    continue
                if now.keyring != was.keyring:
                    joint.engine.rekey(stream, now.keyring)
                    self._log.info("stream {stream} has new keys", stream=stream)

    def _serve(self, before: Plan | None = None) -> None:
        """Serve what stands, and nothing else; ``before``: the plan until now."""
        plan = self.plan
        self.standing = standing(self.listing.patches, plan.channels, self.listing.since)
        wanted = {
            patch.id: patch
            for patch in self.listing.patches
            if patch.enabled and self.standing.get(patch.id) is None
        }
        for id in list(self.joints):
            patch, engine = wanted.get(id), self.joints[id].engine
            if (
                patch is None
                or (patch.stream_ids, patch.mode) != (engine.patch.stream_ids, engine.patch.mode)
                or (before is not None and not _alike(before.of_patch(patch), plan.of_patch(patch)))
            ):
                self._part(id)
            else:
                engine.rename(patch)
        for id, patch in wanted.items():
            if id in self.joints:
                continue
            try:
                engine = engine_for(
                    patch,
                    plan.of_patch(patch),
                    locks=self._locks,
                    group_id=self.group_id,
                    chance=self._chance,
                    active=self.is_active,
                )
            except PatchRefused as error:
                self.standing[id] = error.refusal
                continue
            self.joints[id] = Joint(self._reactor, self.network, engine, self._wall, self._look)
            for caution in plan.cautions(patch):
                self._log.warn("patch {patch}: {caution}", patch=id, caution=caution)

    def _part(self, id: str) -> None:
        """Serve a patch no more."""
        joint = self.joints.pop(id)
        joint.leave()
        self._gone.add(joint.engine.status(self._reactor.seconds()))

    def _look(self) -> None:
        """Whether we still may speak; finding out that we may not makes us a standby."""
        if self._may_act is not None and self.is_active:
            self._may_act()

    def _offer(self) -> None:
        """Let the group hold our list, if we lead and it holds another."""
        shared = self.shared
        if shared is None or not self._unpublished or not shared.leads:
            return
        body = encode(self.listing)
        try:
            if shared.body != body:
                shared.change(body)
            self._unpublished = False
        except LocalError as error:
            self._log.warn("the group has not got our list yet: {why}", why=str(error))

    def _beat(self) -> None:
        settled = self._reactor.seconds() - self._active_since > SETTLE_S
        for joint in self.joints.values():
            for loop in joint.engine.loops():
                if not settled:
                    continue
                self._log.warn(
                    "patch {patch}: a circle ({how}): {text}{through}",
                    patch=loop.patch,
                    how=loop.how,
                    text=loop.text,
                    through=f" (through {', '.join(loop.through)})" if loop.through else "",
                )
        self._offer()
        if self._reactor.seconds() >= self._keep_again_at:
            try:
                self._keep(self.listing, self._said)
            except LocalError as error:
                self._cannot_keep(error)


def _alike(before: Mapping[str, Channel], after: Mapping[str, Channel]) -> bool:
    """Whether all that is known of a patch's streams is as it was, but for new keys in the place of old ones."""
    return all(
        (was.keyring is None) is (after[stream].keyring is None) and _plain(was) == _plain(after[stream])
        for stream, was in before.items()
    )


def _plain(channel: Channel) -> tuple[object, ...]:
    return (
        channel.name,
        channel.full_duplex,
        channel.voice,
        channel.shut,
        channel.on_rallypoints,
        channel.max_rx_s,
    )
