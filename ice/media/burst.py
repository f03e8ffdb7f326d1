"""The talker's end of a stream: pressed, spoken, released; out come marked RTP datagrams.

An engine: time is an argument. :meth:`BurstSender.press` begins a burst, :meth:`BurstSender.pcm` takes sound in pieces of any size and
gives the datagrams that are whole, :meth:`BurstSender.release` ends it. Each :class:`Sending` says when it is *due*: at the press for the first frame and
a framing later for each further one, counting frames that DTX left out. Who sends a file waits for that time; who sends a
microphone's sound sends at once, because the sound comes in that time by itself.

**Nothing is clipped.** The first packet is the first sound after the press. At the release the last piece is filled up with silence, at least
:data:`TAIL` of it, because codecs and resamplers hold back some milliseconds; so the last syllable is whole.

**Marks.** The first packet carries the link flag FIRST, the RTP marker and ``BURST_START``; the last one LAST and ``BURST_END``, and is sent
:data:`END_COPIES` times, byte for byte, :data:`END_SPACING_S` apart: a listener knows a copy by its number. The header extension (alias, priority,
emergency) is on the first five packets, on each tenth, and on the last, as in the original. With DTX the last packet is sent all the same.
A mission sets each of these (``initialHeaderBurst``, ``extensionSendInterval``, ``trailingHeaderBurst``); the packets that the original sends
before the sound (``startTxNotifications``) are not sent: their form is unpublished, and the first packets of sound tell the same.

**Plain RTP.** With ``extension`` off (``noHdrExt``) there is no header extension, and the end is sent once: what is left is what any receiver of
RTP understands. Listeners beyond a multicast group then know a burst by its marker and its silence alone.

**Counts.** One sender keeps its SSRC and counts on from burst to burst; its timestamps go on with the clock, silence included (RFC 3550 §5.1).
So a listener keeps what it has learned of the path and sees a lost first packet. ``reset_each_burst`` begins everything anew
instead, as the original does (``resetRtpOnTx``), for radios that expect it. All counts begin at random (RFC 3550 §5.1).

**Keys.** Telephone events share the stream's numbers: :meth:`BurstSender.event` wraps what a :class:`ice.media.dtmf.Dialer` wants sent.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

import attrs
import numpy as np

from ice.errors import LocalError
from ice.link.frame import Flag
from ice.media.codecs import SAMPLE_RATE, Encoder, Pcm
from ice.media.dtmf import EventPacket
from ice.media.payload_map import DEFAULT, PayloadMap
from ice.media.rtp import Packet, Talk, TalkFlag, clip_alias

EXTENSION_FIRST: Final = (
    5  # packets of a burst that carry the header extension (initialHeaderBurst of the original)
)
EXTENSION_EVERY: Final = 10  # and then every so many (extensionSendInterval)
END_COPIES: Final = 3  # of the packet that ends a burst; the loss of one must not leave the listener waiting
MAX_COUNT: Final = 1_000  # of what a mission may ask for: twenty seconds of packets with an extension
END_SPACING_S: Final = 0.02  # copies sent together would be lost together
TAIL: Final = SAMPLE_RATE * 10 // 1000  # samples: Opus holds back 6.5 ms, G.711 with its resamplers 4 ms

_FIRST, _LAST, _URGENT = int(Flag.FIRST), int(Flag.LAST), int(Flag.URGENT)


class Sending(NamedTuple):
    """A datagram to send: link flags (:class:`ice.link.frame.Flag`), RTP bytes, and when it is due on the caller's clock."""

    flags: int
    payload: bytes
    due: float


class BurstSender:
    """Bursts of one talker through one encoder; see the module docstring.

    ``alias`` is clipped to what fits; ``priority`` 0–255; ``emergency`` marks every packet as urgent; ``node_id`` 16 bytes or none. ``chance``
    is where the random counts come from; ``ssrc`` is kept where it is given (a translator keeps the talker's, RFC 3550 §7.2). ``payload_types`` says under which numbers the stream knows the codec and telephone events.

    ``extension`` whether header extensions are sent at all; ``extension_first`` on how many of the first packets, ``extension_every`` on each
    which packet after them (0: none); ``end_copies`` how often the last packet is sent with an extension, at least once.

    Raises :class:`~ice.errors.LocalError` for what cannot be said in a header extension and for counts that cannot be.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        alias: str = "",
        priority: int = 0,
        emergency: bool = False,
        node_id: bytes = b"",
        reset_each_burst: bool = False,
        payload_types: PayloadMap = DEFAULT,
        extension: bool = True,
        extension_first: int = EXTENSION_FIRST,
        extension_every: int = EXTENSION_EVERY,
        end_copies: int = END_COPIES,
        chance: random.Random | None = None,
        ssrc: int | None = None,
    ) -> None:
        self._encoder = encoder
        self._talk = Talk(clip_alias(alias), priority, TalkFlag(0), node_id)
        self.emergency = emergency
        self._reset = reset_each_burst
        for name, count in (("first", extension_first), ("every", extension_every), ("end", end_copies)):
            if not 0 <= count <= MAX_COUNT:
                raise LocalError(f"header extensions: {name} {count} is not in 0–{MAX_COUNT}")
        self._payload_types = payload_types
        self._extension = extension
        self._extension_first, self._extension_every = extension_first, extension_every
        self._end_copies = max(1, end_copies) if extension else 1
        self._chance = chance if chance is not None else random.SystemRandom()
        self._given_ssrc = ssrc
        self._framing_s = encoder.samples / SAMPLE_RATE
        self._pressed_at: float | None = None
        self._waiting: list[Pcm] = []
        self._waiting_samples = 0
        self._frame = 0  # frames of this burst, those included that DTX left out
        self._sent = 0  # packets of this burst
        self._told_from = 0  # the packet of this burst from which on its extensions count
        self._counted_at: float | None = None
        self.datagrams = 0  #: sent in all, copies of the end included
        self.bursts = 0
        self._count_anew()

    @property
    def pressed(self) -> bool:
        """Whether a burst is running."""
        return self._pressed_at is not None

    @property
    def ssrc(self) -> int:
        """The synchronisation source of the burst that runs or ran last."""
        return self._ssrc

    @property
    def talk(self) -> Talk:
        """Who talks, as the header extensions say it; its flags are of no account, each packet has its own.

        Set amid a burst, the next packets say it as often as the first did.
        """
        return self._talk

    @talk.setter
    def talk(self, talk: Talk) -> None:
        self._talk = talk
        self._told_from = self._sent

    @property
    def timestamp(self) -> int:
        """The RTP timestamp of the next frame: where a telephone key that is pressed now begins."""
        return (self._start + self._frame * self._encoder.timestamp_step) & 0xFFFF_FFFF

    @property
    def duration_s(self) -> float:
        """How long the burst has sounded, as far as it is in packets."""
        return self._frame * self._framing_s

    def press(self, now: float) -> None:
        """Begin a burst; raises :class:`~ice.errors.LocalError` while one is running."""
        if self._pressed_at is not None:
            raise LocalError("the last burst has not been released; release it before the next is pressed")
        if self._reset and self.bursts:
            self._count_anew()
        elif self._counted_at is not None:
            ticks = round((now - self._counted_at) * self._encoder.codec.clock_rate)
            self._start += max(ticks, (self._frame + 1) * self._encoder.timestamp_step)
        self._counted_at = self._pressed_at = now
        self._frame = self._sent = self._told_from = 0
        self._encoder.reset()

    def pcm(self, samples: Pcm) -> list[Sending]:
        """The datagrams that have become whole with these samples (``int16[n]``, 48 kHz mono, any n; not to be changed later).

        Raises :class:`~ice.errors.LocalError` outside a burst and for another kind of array.
        """
        self._check_pressed()
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise LocalError(
                f"sound to send is a row of int16, not {samples.dtype} of {samples.ndim} dimensions"
            )
        self._add(samples)
        sendings = []
        while self._waiting_samples >= self._encoder.samples:
            sendings += self._frame_out()
        return sendings

    def release(self, now: float) -> list[Sending]:
        """End the burst: what was left, and the end mark; nothing if nothing was said since the press.

        ``now`` is when the key was let go; the datagrams are due when their sound is, which may be later.
        """
        self._check_pressed()
        if not self._frame and not self._waiting_samples:
            self._pressed_at = None
            return []
        size = self._encoder.samples
        whole = -(-(self._waiting_samples + TAIL) // size) * size
        self._add(np.zeros(whole - self._waiting_samples, np.int16))
        sendings = []
        while self._waiting_samples > size:
            sendings += self._frame_out()
        last = self._frame_out(last=True)[0]
        sendings.append(last)
        copies = range(1, self._end_copies)
        sendings += [last._replace(due=last.due + copy * END_SPACING_S) for copy in copies]
        self.datagrams += len(copies)
        self._pressed_at = None
        self.bursts += 1
        return sendings

    def event(self, event: EventPacket, now: float) -> Sending:
        """A telephone event as the next packet of the burst, due now.

        Raises :class:`~ice.errors.LocalError` outside a burst, and on a stream that has none.
        """
        self._check_pressed()
        payload_type = self._payload_types.telephone_event
        if payload_type is None:
            raise LocalError("this stream has no telephone events: its group's rfc4733RtpPayloadId is 0")
        return self._datagram(payload_type, event.timestamp, event.payload, now, marker=event.marker)

    # -- within

    def _check_pressed(self) -> None:
        if self._pressed_at is None:
            raise LocalError("no burst is running; press before there is sound to send")

    def _count_anew(self) -> None:
        drawn = self._chance.getrandbits(32)
        self._ssrc = drawn if self._given_ssrc is None else self._given_ssrc
        self._sequence = self._chance.getrandbits(16)
        self._start = self._chance.getrandbits(32)  # timestamp of the burst's first frame; unwrapped
        self._counted_at = None

    def _add(self, samples: Pcm) -> None:
        if len(samples):
            self._waiting.append(samples)
            self._waiting_samples += len(samples)

    def _take_frame(self) -> Pcm:
        size = self._encoder.samples
        pcm = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        if len(pcm) == size:
            self._waiting, self._waiting_samples = [], 0
            return pcm
        self._waiting = [pcm[size:]] if len(pcm) > size else []
        self._waiting_samples = len(pcm) - size
        return pcm[:size]

    def _frame_out(self, *, last: bool = False) -> list[Sending]:
        """Encode the next frame: one datagram, or none where DTX leaves it out."""
        payload = self._encoder.encode(self._take_frame())
        if last and not payload:  # the mark must go out: an encoder that has just begun leaves nothing out
            self._encoder.reset()
            payload = self._encoder.encode(np.zeros(self._encoder.samples, np.int16))
        assert self._pressed_at is not None
        due = self._pressed_at + self._frame * self._framing_s
        sendings = []
        if payload:
            payload_type = self._payload_types.payload_type(self._encoder.codec)
            sendings.append(self._datagram(payload_type, self.timestamp, payload, due, last=last))
        self._frame += 1
        return sendings

    def _extended(self, index: int) -> bool:
        """Whether the packet of that number in its burst carries the header extension."""
        every = self._extension_every
        index_told = index - self._told_from
        return index_told < self._extension_first or (every > 0 and index % every == 0)

    def _datagram(
        self,
        payload_type: int,
        timestamp: int,
        payload: bytes,
        due: float,
        *,
        last: bool = False,
        marker: bool = False,
    ) -> Sending:
        first = not self._sent
        flags = (
            (_URGENT if self.emergency else 0) | (_FIRST if first else 0) | (_LAST if last else 0)
        )  # plain numbers: arithmetic with enum members costs a microsecond each
        extension = None
        if self._extension and (last or self._extended(self._sent)):
            marks = TalkFlag.EMERGENCY if self.emergency else TalkFlag(0)
            marks |= (TalkFlag.BURST_START if first else 0) | (TalkFlag.BURST_END if last else 0)
            extension = attrs.evolve(self._talk, flags=marks).to_extension()
        packet = Packet(
            payload_type, self._sequence, timestamp, self._ssrc, payload, first or marker, (), extension
        )
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._sent += 1
        self.datagrams += 1
        return Sending(flags, packet.encode(), due)
