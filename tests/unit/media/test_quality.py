"""The likeness of the heard and the spoken: each claim of the module's docstring, with real speech through real codecs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import ice.testing
from ice.errors import LocalError
from ice.media import codecs, wav
from ice.media.conceal import Concealer
from ice.media.payload import Pcm
from ice.media.quality import compare, similarity

SPEECH = wav.read(Path(ice.testing.__file__).parent / "data" / "speech.wav")
CLEAN = 0.97  # what is whole scores above this …
CLEAR = 0.95  # … and what a person would remark on, below this


def through(name: str, *, lost: frozenset[int] = frozenset(), conceal: bool = False) -> Pcm:
    """The sentence through a codec; lost frames are silence, or what the codec makes up."""
    encoder = codecs.encoder(name)
    decoder = codecs.decoder(encoder.codec.payload_type)
    size = encoder.samples
    spoken = np.concatenate((SPEECH, np.zeros(2 * size - len(SPEECH) % size, np.int16)))
    heard = []
    for index in range(len(spoken) // size):
        payload = encoder.encode(spoken[index * size : (index + 1) * size])
        if index not in lost:
            heard.append(decoder.decode(payload))
        else:
            heard.append(decoder.conceal(size) if conceal else np.zeros(size, np.int16))
    return np.concatenate(heard)


OPUS = through("opus")
LOUD = np.flatnonzero(np.abs(SPEECH.astype(int)) > 500)
FIRST, LAST = int(LOUD[0]), int(LOUD[-1])
SHORT = SPEECH[:96_000]
SHORT_OPUS = OPUS[312 : 312 + 96_000]  # without the codec's delay
SYLLABLE = 7_200  # 150 ms
_levels = np.sqrt(np.mean(SHORT[:95_040].reshape(-1, 960).astype(float) ** 2, axis=1))
SHORT_FIRST = int(np.flatnonzero(_levels > 300)[0]) * 960
SHORT_LAST = int(np.flatnonzero(_levels > 300)[-1] + 1) * 960
#: Places within words: what follows for 150 ms is loud throughout.
LOUD_PLACES = [n * 960 for n in range(0, 90, 4) if np.all(_levels[n : n + 8] > 300)]


def quiet(pcm: Pcm) -> list[int]:
    """Where frames of 20 ms lie in which nothing is said."""
    return [n for n in range(SHORT_FIRST, SHORT_LAST, 960) if np.max(np.abs(pcm[n : n + 960])) < 150]


def held(before: Pcm, samples: int) -> Pcm:
    """What concealment makes up behind ``before``."""
    concealer = Concealer(48_000)
    concealer.heard(before)
    return concealer.conceal(samples)


class Whole(SynchronousTestCase):
    """Speech that arrived."""

    def test_the_same(self) -> None:
        """A sound is wholly like itself, at no offset."""
        likeness = compare(SPEECH, SPEECH)
        self.assertEqual((likeness.score, likeness.offset_ms, likeness.coverage), (1.0, 0.0, 1.0))

    def test_every_codec(self) -> None:
        """Through any of our codecs the words arrive."""
        for name in sorted(codecs.NATIVE):
            self.assertGreater(similarity(SPEECH, through(name)), CLEAN, name)

    def test_later_and_softer(self) -> None:
        """A delay is reported to the sample of 16 kHz, a change of loudness in decibels; neither costs anything."""
        late = np.concatenate(
            (np.zeros(12_000, np.int16), (OPUS * 0.25).astype(np.int16), np.zeros(900, np.int16))
        )
        likeness = compare(SPEECH, late)
        self.assertGreater(likeness.score, CLEAN)
        self.assertLess(abs(likeness.offset_ms - 250 - 6.5), 0.3)
        self.assertLess(abs(likeness.gain_db + 12), 1.0)

    def test_a_recording_that_begins_within_the_speech(self) -> None:
        """What is heard may begin before or after what was spoken; the offset is negative then."""
        likeness = compare(SPEECH, SPEECH[4_800:])
        self.assertLess(abs(likeness.offset_ms + 100), 0.2)

    def test_a_delay_that_changes_on_the_way(self) -> None:
        """40 ms more of silence in the middle, as a jitter buffer adds them, is hardly a fault; 400 ms are no other sentence."""
        stretched = np.concatenate((OPUS[:100_000], np.zeros(1_920, np.int16), OPUS[100_000:]))
        self.assertGreater(similarity(SPEECH, stretched), 0.94)
        stalled = np.concatenate((OPUS[:100_000], np.zeros(19_200, np.int16), OPUS[100_000:]))
        self.assertGreater(similarity(SPEECH, stalled), 0.85)


class Hurt(SynchronousTestCase):
    """Speech that arrived badly."""

    def test_two_in_a_hundred_frames_lost(self) -> None:
        """Holes in 2 % of the frames are clearly seen, and codecs that hide them do better."""
        lost = frozenset(range(12, 300, 50)) | {100}
        holes = similarity(SPEECH, through("opus", lost=lost))
        hidden = similarity(SPEECH, through("opus", lost=lost, conceal=True))
        self.assertLess(holes, CLEAR)
        self.assertGreater(hidden, holes)

    def test_more_loss_is_worse(self) -> None:
        """The score falls with the share of frames that are missing."""
        scores = [
            similarity(SPEECH, through("opus", lost=frozenset(range(5, 300, n))))
            for n in (100, 40, 20, 10, 5)
        ]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertLess(scores[-1], 0.5)

    def test_a_clipped_first_syllable(self) -> None:
        """150 ms missing at the beginning, silenced or cut off."""
        silenced = OPUS.copy()
        silenced[: FIRST + 312 + 7_200] = 0
        self.assertLess(similarity(SPEECH, silenced), CLEAR)
        self.assertLess(similarity(SPEECH, OPUS[FIRST + 312 + 7_200 :]), CLEAR)

    def test_a_clipped_last_syllable(self) -> None:
        """150 ms missing at the end, silenced or cut off."""
        silenced = OPUS.copy()
        silenced[LAST + 312 - 7_200 :] = 0
        self.assertLess(similarity(SPEECH, silenced), CLEAR)
        self.assertLess(similarity(SPEECH, OPUS[: LAST + 312 - 7_200]), CLEAR)

    def test_noise(self) -> None:
        """The more noise lies over it, the less it is what was spoken."""
        chance = np.random.default_rng(1)
        loudness = float(np.sqrt(np.mean(SPEECH.astype(float) ** 2)))
        scores = []
        for ratio_db in (30, 15, 10, 0):
            noise = chance.normal(0, loudness * 10 ** (-ratio_db / 20), len(OPUS))
            scores.append(similarity(SPEECH, np.clip(OPUS + noise, -32_768, 32_767).astype(np.int16)))
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertGreater(scores[0], CLEAN)
        self.assertLess(scores[1], 0.85)
        self.assertLess(scores[3], 0.1)


class Wandering(SynchronousTestCase):
    """Speech through a jitter buffer that had to change its delay, in a sentence so short that each syllable counts: what is there is there, what is not is not."""

    def test_a_pause_that_is_longer_or_shorter(self) -> None:
        """One quiet frame doubled or left out is no fault, wherever it lies; to a correlation of half seconds it was one."""
        for longer in (True, False):
            for at in quiet(SHORT)[::4]:
                heard = (
                    (SHORT_OPUS[: at + 960], SHORT_OPUS[at:])
                    if longer
                    else (SHORT_OPUS[:at], SHORT_OPUS[at + 960 :])
                )
                likeness = compare(SHORT, np.concatenate(heard))
                self.assertGreater(likeness.score, CLEAN, (longer, at))
                self.assertEqual(likeness.coverage, 1.0, (longer, at))

    def test_words_held_up(self) -> None:
        """60 ms that a codec makes up in the middle of a word, while the rest waits, cost about what they are; nothing of the sentence is missing."""
        for at in LOUD_PLACES:
            made_up = np.concatenate((SHORT_OPUS[:at], held(SHORT_OPUS[:at], 2_880), SHORT_OPUS[at:]))
            likeness = compare(SHORT, made_up)
            self.assertGreater(likeness.score, 0.75, at)
            self.assertGreater(likeness.coverage, 0.96, at)

    def test_a_lost_syllable(self) -> None:
        """150 ms cut out, as if they had never been said, or silenced: it fails clearly, and the coverage says how much is missing."""
        for at in LOUD_PLACES:
            silenced = SHORT_OPUS.copy()
            silenced[at : at + SYLLABLE] = 0
            for heard in (silenced, np.concatenate((SHORT_OPUS[:at], SHORT_OPUS[at + SYLLABLE :]))):
                likeness = compare(SHORT, heard)
                self.assertLess(likeness.score, 0.8, at)
                self.assertLess(likeness.coverage, 0.96, at)

    def test_a_syllable_said_twice(self) -> None:
        """150 ms heard again, at once or a little later, while there is as much behind them."""
        for at in (each for each in LOUD_PLACES if each + 2 * SYLLABLE < SHORT_LAST):
            end = at + SYLLABLE
            for rest in (SHORT_OPUS[at:], np.concatenate((np.zeros(4_800, np.int16), SHORT_OPUS[at:]))):
                self.assertLess(similarity(SHORT, np.concatenate((SHORT_OPUS[:end], rest))), 0.8, at)

    def test_a_clipped_syllable(self) -> None:
        """100 ms missing where speech begins or ends."""
        for heard in (SHORT_OPUS[SHORT_FIRST + 4_800 :], SHORT_OPUS[: SHORT_LAST - 4_800]):
            likeness = compare(SHORT, heard)
            self.assertLess(likeness.score, 0.87)
            self.assertLess(likeness.coverage, 0.97)

    def test_words_in_another_order(self) -> None:
        """Half seconds that have changed places are no delay."""
        parts = [SHORT_OPUS[n : n + 24_000] for n in range(0, 96_000, 24_000)]
        self.assertLess(similarity(SHORT, np.concatenate([parts[n] for n in (1, 0, 3, 2)])), 0.4)


class Other(SynchronousTestCase):
    """What is not the sentence."""

    def test_silence(self) -> None:
        """Silence, or nothing, is nothing."""
        self.assertEqual(similarity(SPEECH, np.zeros_like(SPEECH)), 0.0)
        self.assertEqual(similarity(SPEECH, SPEECH[:0]), 0.0)

    def test_other_words(self) -> None:
        """The same voice with its words in another order, or backwards, or noise as loud as it."""
        piece = len(SPEECH) // 6
        shuffled = np.concatenate([SPEECH[n * piece : (n + 1) * piece] for n in (3, 5, 1, 0, 4, 2)])
        noise = np.random.default_rng(2).normal(0, 3_000, len(SPEECH)).astype(np.int16)
        for other in (shuffled, SPEECH[::-1], noise):
            self.assertLess(similarity(SPEECH, other), 0.1)

    def test_a_tone(self) -> None:
        """A steady tone is like no sentence."""
        n = np.arange(len(SPEECH))
        self.assertLess(similarity(SPEECH, (9_000 * np.sin(n / 17)).astype(np.int16)), 0.05)

    def test_nothing_spoken(self) -> None:
        """Nothing can be compared with silence or a blink; the error says what came."""
        for spoken in (SPEECH[:100], np.zeros(48_000, np.int16)):
            with self.assertRaisesRegex(LocalError, "at least 0.1 s"):
                compare(spoken, SPEECH)

    @settings(max_examples=15, deadline=None)
    @given(
        st.integers(4_800, 30_000),
        st.integers(0, 30_000),
        st.integers(0, 2**32 - 1),
        st.sampled_from((1, 300, 32_767)),
    )
    def test_any_lengths(self, spoken: int, heard: int, seed: int, amplitude: int) -> None:
        """Whatever is compared, the score is a number between 0 and 1."""
        chance = np.random.default_rng(seed)
        one = chance.integers(-amplitude, amplitude + 1, spoken).astype(np.int16)
        two = chance.integers(-amplitude, amplitude + 1, heard).astype(np.int16)
        likeness = compare(one, two)
        self.assertTrue(0.0 <= likeness.score <= 1.0)
        self.assertTrue(0.0 <= likeness.coverage <= 1.0)
