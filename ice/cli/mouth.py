"""A talker with a clock: what ``talk`` and ``check-radio`` say goes out here, piece by piece, if the floor is theirs.

What goes over the wire is decided in :mod:`ice.media.burst`, who may talk in :mod:`ice.media.floor`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import attrs
import numpy as np

from ice.cli.floor_gate import Gate
from ice.cli.loop import Stop, first, sleep
from ice.cli.pacing import MediaClock
from ice.cli.trace import Trace
from ice.config.load import Loaded
from ice.config.schema import MediaSettings
from ice.link.frame import Flag
from ice.media.burst import BurstSender, Sending
from ice.media.codecs import encoder as codec_encoder
from ice.media.floor import Refused
from ice.media.mixer import SILENCE_DBOV, level_dbov
from ice.media.payload import SAMPLE_RATE, Pcm
from ice.net.clock import Clock
from ice.security.certificates import common_name, read_certificates
from ice.streams.interface import Stream

ASK_AGAIN_S: Final = 0.1  # between two looks at a floor that somebody else has


@attrs.define
class Said:
    """What a talker has sent."""

    sent: int = 0  #: datagrams on a link
    unsent: int = 0  #: datagrams for which there was no path: lost
    octets: int = 0  #: of payload
    stalls: int = 0  #: times that we ourselves stood still for more than a second


class Mouth:
    """Sends the bursts of one :class:`~ice.media.burst.BurstSender` onto a stream."""

    def __init__(
        self,
        clock: Clock,
        stream: Stream,
        sender: BurstSender,
        frame_samples: int,
        *,
        gate: Gate | None = None,
        trace: Trace | None = None,
        end_copies: bool = True,
    ) -> None:
        """``gate``: who may talk, none where everybody may at once. ``end_copies``: whether the packet that ends a burst is sent several times; who counts what a
        parrot says back wants it once.
        """
        self.said = Said()
        #: Samples that make one packet.
        self.frame_samples = frame_samples
        #: Of the last piece of sound.
        self.level_dbov = SILENCE_DBOV
        #: When the first packet that ends the latest burst was sent.
        self.ended_at: float | None = None
        self._clock = clock
        self._stream = stream
        self._sender = sender
        self._gate = gate
        self._trace = trace
        self._end_copies = end_copies

    async def say(self, pieces: Iterable[Pcm], stop: Stop) -> None:
        """One burst of pieces of :attr:`frame_samples`, each at its time, until they end, the floor is lost, or we are asked to stop.

        The floor is waited for, where :meth:`wait` has not done that.
        """
        clock = self._clock
        if not self.pressed and not await self.wait(stop):
            return
        media = MediaClock(self.frame_samples / SAMPLE_RATE, clock.seconds())
        for pcm in pieces:
            while not (stop.asked or self.interrupted) and not media.due(clock.seconds()):
                await first(sleep(clock, max(0.0, media.next_at - clock.seconds())), stop.wait())
            if stop.asked or self.interrupted:
                break
            self.hear(pcm)
        else:
            # The last piece takes its time too, so that the end is sent when it is spoken.
            await first(sleep(clock, max(0.0, media.next_at - clock.seconds())), stop.wait())
        self.said.stalls += media.stalls
        await self.release()

    async def wait(self, stop: Stop) -> bool:
        """Begin a burst as soon as the floor is ours; false when we are asked to stop first."""
        while not stop.asked:
            if self.press(waiting=True) is None:
                return True
            await first(sleep(self._clock, ASK_AGAIN_S), stop.wait())
        return False

    def press(self, *, waiting: bool = False) -> Refused | None:
        """Begin a burst whose sound comes by itself, from a microphone: see :meth:`hear`. Who has the floor where it is not ours: nothing has begun then.

        ``waiting``: it is asked again and again, so that only news are told.
        """
        now = self._clock.seconds()
        self._sender.press(now)
        if self._gate is None:
            return None
        refused = self._gate.press(self._sender.ssrc, waiting=waiting)
        if refused is not None:
            self._sender.release(now)  # nothing was said: nothing is sent
        return refused

    @property
    def interrupted(self) -> bool:
        """Whether the burst that runs has to end: somebody above us talks, or the time is over."""
        return self._gate is not None and self._gate.stopped

    @property
    def time_up(self) -> bool:
        """Whether it has to end because it is as long as any may be."""
        return self._gate is not None and self._gate.time_up

    def hear(self, pcm: Pcm) -> None:
        """Send sound (``int16[n]``, 48 kHz mono) as far as it fills packets."""
        self.level_dbov = level_dbov(pcm)
        for sending in self._sender.pcm(pcm):
            self._send(sending)

    async def release(self) -> None:
        """End the burst, and wait until the last copy of its end is on its way."""
        now = self._clock.seconds()
        if self._gate is not None:
            self._gate.release()
        sendings = self._sender.release(now)
        self.level_dbov = SILENCE_DBOV
        marked = False
        for sending in sendings:
            if marked and not self._end_copies:
                break
            # In their spacing, whatever a stall has done to their times.
            at = now + sending.due - sendings[0].due
            if at > self._clock.seconds():
                await sleep(self._clock, at - self._clock.seconds())
            self._send(sending)
            if sending.flags & Flag.LAST and not marked:
                marked, self.ended_at = True, self._clock.seconds()

    @property
    def pressed(self) -> bool:
        """Whether a burst is running."""
        return self._sender.pressed

    @property
    def duration_s(self) -> float:
        """How long the burst has sounded."""
        return self._sender.duration_s

    def _send(self, sending: Sending) -> None:
        said = self.said
        # A stream numbers what it puts on a link, from 0 on: that number, without asking each kind of stream for it.
        sequence = said.sent & 0xFFFF_FFFF
        at_ns = self._trace.clock_ns() if self._trace is not None else None
        if self._stream.send(sending.payload, sending.flags):
            said.sent += 1
            said.octets += len(sending.payload)
            if self._trace is not None:
                self._trace.write(
                    "sent", self._stream.source, sequence, sending.flags, len(sending.payload), at_ns
                )
        else:
            said.unsent += 1


def sender_of(
    settings: MediaSettings,
    *,
    alias: str,
    codec: str | None = None,
    bitrate: int | None = None,
    priority: int | None = None,
    emergency: bool = False,
) -> BurstSender:
    """A sender as the configuration wants it, where the arguments do not say otherwise."""
    encoder = codec_encoder(
        codec if codec is not None else settings.codec,
        bitrate=bitrate if bitrate is not None else settings.bitrate,
        framing_ms=settings.framing_ms,
        fec=settings.fec,
        dtx=settings.dtx,
    )
    return BurstSender(
        encoder,
        alias=alias,
        priority=priority if priority is not None else settings.priority,
        emergency=emergency,
    )


def frame_samples_of(settings: MediaSettings) -> int:
    """Samples that make one packet of :func:`sender_of`."""
    return settings.framing_ms * SAMPLE_RATE // 1000


def alias_of(loaded: Loaded, wanted: str | None) -> str:
    """Under what name we talk: as asked, as configured, else the common name of our certificate."""
    if wanted is not None:
        return wanted
    identity = loaded.config.identity
    return identity.alias or common_name(read_certificates(identity.certificate)[0])


def file_pieces(pcm: Pcm, samples: int, times: int = 1) -> Iterator[Pcm]:
    """``pcm`` said ``times`` times without a pause, in pieces of ``samples``; the last may be shorter."""
    rest = pcm[:0]
    for _ in range(times):
        position = 0
        if len(rest):
            position = samples - len(rest)
            joined = np.concatenate((rest, pcm[:position]))
            if len(joined) < samples:  # a file shorter than a piece
                rest = joined
                continue
            yield joined
            rest = pcm[:0]
        while position + samples <= len(pcm):
            yield pcm[position : position + samples]
            position += samples
        rest = pcm[position:]
    if len(rest):
        yield rest
