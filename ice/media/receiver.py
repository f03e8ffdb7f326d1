"""One talker as heard: a jitter buffer, a decoder, and the pieces of sound between two pulls.

Packets are kept as they came and decoded when their sound is asked for, never before, so a talker costs what is heard of them. The
buffer's instructions are carried out here: what is missing is made up by the codec and fades to silence when it lasts; a frame that
may be left out is left out if it is quiet; one that must be shortened loses a pitch period (:mod:`ice.media.timescale`).

A sender may change its codec within a burst as long as the RTP clock stays the same: each packet carries its payload type with it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ice.media.codecs import SAMPLE_RATE, Codec, Decoder, MalformedPayload, Pcm, decoder_of
from ice.media.dtmf import Recogniser
from ice.media.instruction import Conceal, Ended, Pace, Play
from ice.media.jitter import JitterBuffer
from ice.media.mixer import SILENCE_DBOV, level_dbov
from ice.media.payload import UnknownPayloadType
from ice.media.payload_map import DEFAULT, PayloadMap
from ice.media.rtp import NOBODY, Talk
from ice.media.timescale import fade_in, shorten

QUIET_DBOV: Final = -55.0  # below this nobody misses a frame
QUIET_BELOW_SPEECH_DB: Final = 30.0  # nor one so much quieter than the talker
SPEECH_FALL_DB: Final = 0.05  # per frame: how fast a talker's level is forgotten, 2.5 dB a second
FADE_FROM: Final = SAMPLE_RATE * 40 // 1000  # what is made up for longer than this fades …
FADE_TO: Final = SAMPLE_RATE * 100 // 1000  # … and is silent from here
SEAM: Final = SAMPLE_RATE * 25 // 10_000  # 2.5 ms: a join without a click, too short to cost a consonant


class Receiver:
    """Sound of one SSRC of one source; see the module docstring. ``at`` times are the caller's ``now``.

    ``corrupt`` counts payloads that the decoder refused; they are concealed.
    """

    def __init__(
        self,
        source: int,
        ssrc: int,
        codec: Codec,
        buffer: JitterBuffer,
        payload_types: PayloadMap = DEFAULT,
    ) -> None:
        self.source, self.ssrc, self.codec = source, ssrc, codec
        self._payload_types = payload_types
        self.buffer = buffer
        self.recogniser = Recogniser()
        self.talk: Talk = NOBODY
        self.urgent = False
        self.marks = False  # whether its bursts are marked by more than the RTP marker
        self.marker_before = False
        self.talking_since: float | None = None
        self.last_heard_at = float("-inf")
        self.level_dbov = SILENCE_DBOV
        self.gain = 1.0
        self.corrupt = 0
        self.counted = buffer.counters.copy()  # as they were when the burst began
        self._decoders: dict[int, Decoder] = {}
        self._current: tuple[int, Decoder] | None = None
        self._pieces: list[Pcm] = []
        self._ready = 0
        self._made_up = 0  # samples concealed in a row
        self._broken = False  # whether the sound before the next frame does not lead to it
        self._speech_dbov = SILENCE_DBOV
        self._level: tuple[Pcm | None, float] = None, SILENCE_DBOV  # of the frame played last

    @property
    def to_48k(self) -> int:
        """Samples at 48 kHz per tick of the RTP clock."""
        return self.codec.ticks_to_48k

    def samples_48k(self, payload_type: int, payload: bytes) -> int:
        """How long a payload sounds.

        Raises :class:`~ice.media.payload.MalformedPayload`, ``UnknownPayloadType`` and :class:`~ice.media.library.CodecMissing`.
        """
        return self._decoder(payload_type).samples_48k(payload)

    def pull(self, samples: int, now: float) -> tuple[Pcm | None, list[Ended]]:
        """The next ``int16[samples]``, or ``None`` for silence, and the bursts that ended in it."""
        ended: list[Ended] = []
        while self._ready < samples:
            instruction = self.buffer.pull(now, ahead_s=self._ready / SAMPLE_RATE)
            if instruction is None:
                self._broken = self._broken or self._made_up > 0
                break
            if isinstance(instruction, Play):
                self._keep(self._played(instruction))
            elif isinstance(instruction, Conceal):
                self._keep(self._concealed(instruction))
            else:
                ended.append(instruction)
                self._silence_after_end()
        if not self._ready:
            self.level_dbov = SILENCE_DBOV
            return None, ended
        pcm = self._take(samples)
        frame, level = self._level
        self.level_dbov = level if frame is pcm else level_dbov(pcm)
        return pcm, ended

    # -- instructions

    def _played(self, play: Play) -> Pcm | None:
        if not play.payload:
            return None  # a mark without sound
        payload_type, payload = play.payload[0], play.payload[1:]
        decoder = self._decoder(payload_type)
        self._current = payload_type, decoder
        samples = play.duration * self.to_48k
        if samples == 0:
            return None
        try:
            pcm = decoder.decode(payload)
        except MalformedPayload:
            self.corrupt += 1
            pcm = self._faded(decoder.conceal(samples))
        else:
            self._made_up = 0
        if self._broken or not play.joined:
            pcm = fade_in(pcm, SEAM)
            self._broken = False
        level = level_dbov(pcm)
        self._level = pcm, level
        self._speech_dbov = max(level, self._speech_dbov - SPEECH_FALL_DB)
        if play.pace is Pace.NORMAL:
            return pcm
        quiet = level < max(QUIET_DBOV, self._speech_dbov - QUIET_BELOW_SPEECH_DB)
        if play.pace is Pace.SLACKEN:
            return np.concatenate((pcm, pcm)) if quiet else pcm
        if quiet:
            self._broken = True
            return None
        return shorten(pcm) if play.pace is Pace.HASTEN else pcm

    def _concealed(self, conceal: Conceal) -> Pcm:
        samples = conceal.duration * self.to_48k
        if self._current is None or self._made_up >= FADE_TO:
            self._made_up += samples
            return np.zeros(samples, np.int16)
        payload_type, decoder = self._current
        following = None
        if conceal.following is not None and conceal.following[:1] == bytes((payload_type,)):
            following = conceal.following[1:]
            if decoder.recoverable(following):
                self.buffer.counters.recovered += 1
                self._made_up = 0
                return decoder.conceal(samples, following)
        return self._faded(decoder.conceal(samples, following))

    def _faded(self, pcm: Pcm) -> Pcm:
        start, self._made_up = self._made_up, self._made_up + len(pcm)
        if self._made_up <= FADE_FROM:
            return pcm
        place = np.arange(start, self._made_up, dtype=np.float32)
        gain = np.clip((FADE_TO - place) / (FADE_TO - FADE_FROM), 0.0, 1.0)
        return np.rint(pcm * gain).astype(np.int16)

    def _silence_after_end(self) -> None:
        for decoder in self._decoders.values():
            decoder.reset()
        self._current = None
        self._made_up = 0
        self._broken = False

    def _decoder(self, payload_type: int) -> Decoder:
        decoder = self._decoders.get(payload_type)
        if decoder is None:
            codec = self._payload_types.codec(payload_type)
            if codec is None:
                raise UnknownPayloadType(payload_type)
            decoder = self._decoders[payload_type] = decoder_of(codec)
        return decoder

    # -- the sound between two pulls

    def _keep(self, pcm: Pcm | None) -> None:
        if pcm is not None and len(pcm):
            self._pieces.append(pcm)
            self._ready += len(pcm)

    def _take(self, samples: int) -> Pcm:
        pcm = self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces)
        if len(pcm) > samples:
            self._pieces = [pcm[samples:]]
            self._ready = len(pcm) - samples
            return pcm[:samples]
        self._pieces, self._ready = [], 0
        if len(pcm) == samples:
            return pcm
        return np.concatenate((pcm, np.zeros(samples - len(pcm), np.int16)))
