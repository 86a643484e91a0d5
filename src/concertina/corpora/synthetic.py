"""Synthetic speech in English, German and French, with exact transcripts and translations; nothing is downloaded.

A grammar (synthesis/grammar.py) draws sentences. eSpeak NG, a formant synthesiser (GPL-3, loaded from the PyPI wheel
`espeakng-loader`), speaks them. Each voice is used either for training, for dev or for test. Splits:

  base      sentences and voices that train the base model only
  train     sentences that train LoRA, with training voices, in noise of the training kinds from 0 to 40 dB
  train-mild    as `train`, but at 10 to 40 dB
  train-quiet   as `train`, but at 25 to 40 dB
  train-joined  as `train`, but a quarter of the utterances are two or three sentences
  dev       unseen sentences and voices, in the noise of `train`
  dev-hard  unseen sentences and voices, under the conditions of `hard`
  clean     unseen sentences and voices, at 25 to 40 dB
  noisy     as `clean`, but in noise of unseen kinds from 5 to 15 dB
  hard      as `clean`, but in noise of unseen kinds from 0 to 15 dB, and spoken slower or faster
  accent    as `clean`, but in accents that are never trained on (English, French)
  spelled   sentences with spelled letters, which the other test splits do not contain
  pico      as `clean`, but spoken by another synthesiser (SVOX Pico, PyPI `py-nanotts`)

No sentence is in two dev splits or in two test splits, whatever their sizes. The splits for training share theirs.
Each part of a split has a fixed size and is read in a fresh process, so that the audio is bit for bit the same on
every run and on any number of cores. eSpeak's speech is much more regular than a human's: compare error rates on it
with each other, and draw no conclusions about human speech from their size.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator, default_rng
from pydantic import Field

from concertina.config import Language, Section
from concertina.corpora import Reject, Size, Utterance, _audio
from concertina.corpora.synthesis import grammar, noise, voices
from concertina.corpora.synthesis.grammar import Sentence
from concertina.units import RATE_HZ

synthetic = True
UTTERANCES_PER_PART = 250  # few enough to keep all cores busy, many enough to be worth starting a process
TALKERS = 16  # voices that the babble of a part is mixed from; they speak none of its sentences
MEAN_S = 2.5  # length of an utterance, about
LONGEST = 110  # characters of an utterance: at any speed these fit into the 10 s that the tiny base hears


class Options(Section):
    """The config keys of this kind of corpus.

    seed: decides all that is drawn; splits: the number of utterances of each split, by language.
    """

    seed: int = 0
    splits: dict[str, dict[Language, int]] = Field(min_length=1)


@dataclass(frozen=True)
class Condition:
    """How a split is spoken.

    `bucket`: whose sentences and voices it has; `share`: which of the bucket's sentences, in percent from and below;
    `snr_db`: the signal-to-noise ratios that are drawn from; `kinds`: the kinds of sentence; `sentences`: the shares
    of utterances of one sentence, of two, and so on.
    """

    bucket: str
    share: tuple[int, int] = grammar.WHOLE
    words_per_minute: tuple[int, int] = (150, 215)
    noises: tuple[str, ...] = ("white",)
    snr_db: tuple[float, ...] = (25, 30, 35, 40)
    accents: dict[str, list[str]] | None = None
    kinds: tuple[str, ...] = tuple(kind for kind in grammar.KINDS if kind != grammar.SPELLED)
    engine: str = "espeak"
    sentences: tuple[float, ...] = (1.0,)


_EVERY_KIND = tuple(grammar.KINDS)
_GRADED = (0.0, 5.0, 10.0, 15.0, 25.0, 30.0, 35.0, 40.0)
_HARD = {"words_per_minute": (120, 260), "noises": noise.UNSEEN, "snr_db": (0.0, 5.0, 10.0, 15.0)}
_TRAIN = Condition("train", words_per_minute=(140, 240), noises=noise.TRAINING, snr_db=_GRADED, kinds=_EVERY_KIND)
CONDITIONS = {
    "base": Condition("base", words_per_minute=(140, 240), noises=(), snr_db=(), kinds=_EVERY_KIND),
    "train": _TRAIN,
    "train-mild": replace(_TRAIN, snr_db=_GRADED[2:]),
    "train-quiet": replace(_TRAIN, snr_db=_GRADED[4:]),
    "train-joined": replace(_TRAIN, sentences=(0.75, 0.15, 0.1)),
    "dev": Condition("dev", (0, 50), noises=noise.TRAINING, snr_db=_GRADED),
    "dev-hard": Condition("dev", (50, 100), **_HARD),  # type: ignore[arg-type]
    "clean": Condition("test", (0, 25)),
    "noisy": Condition("test", (25, 50), noises=noise.UNSEEN, snr_db=(5.0, 10.0, 15.0)),
    "hard": Condition("test", (50, 80), **_HARD),  # type: ignore[arg-type]
    "accent": Condition("test", (80, 90), accents=voices.UNSEEN_ACCENTS),
    "pico": Condition("test", (90, 100), noises=(), snr_db=(), engine="pico"),
    "spelled": Condition("test", kinds=(grammar.SPELLED,)),
}


def splits(options: Options) -> list[str]:
    """Return the configured splits. Errors: ValueError naming a split or language that this corpus does not have."""
    for split, languages in options.splits.items():
        if split not in CONDITIONS:
            raise ValueError(f"splits.{split}: the synthetic corpus has no such split, but {', '.join(CONDITIONS)}")
        spoken = CONDITIONS[split].accents or voices.ACCENTS
        for language in languages:
            if language not in spoken:
                raise ValueError(f"splits.{split}.{language}: this split exists only in {', '.join(spoken)}")
    return list(options.splits)


def parts(options: Options, split: str) -> int:
    """Return the number of parts, of up to UTTERANCES_PER_PART utterances each."""
    return sum(-(-count // UTTERANCES_PER_PART) for count in options.splits[split].values())


def size(options: Options, split: str) -> Size:
    """Count the utterances, and estimate their length from the mean."""
    utterances = sum(options.splits[split].values())
    return Size(utterances, utterances * MEAN_S / 3600)


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """Speak one part of a split."""
    for language, count in options.splits[split].items():
        n_parts = -(-count // UTTERANCES_PER_PART)
        if part < n_parts:
            start = part * UTTERANCES_PER_PART
            yield from _speak(options.seed, split, language, range(start, min(count, start + UTTERANCES_PER_PART)))
            return
        part -= n_parts


def _speak(seed: int, split: str, language: str, numbers: range) -> Iterator[Utterance | Reject]:
    """Yield the utterances with these numbers, which make up one part."""
    condition = CONDITIONS[split]
    drawn = grammar.sentences(condition.bucket, seed, list(condition.kinds), condition.share)
    # The talkers speak the sentences that follow those of this part.
    sentences = list(itertools.islice(drawn, numbers.start, numbers.stop + TALKERS))
    spoken, babbled = sentences[: len(numbers)], sentences[len(numbers) :]
    talkers: list[np.ndarray] = []
    if "babble" in condition.noises:
        crowd = default_rng([seed, numbers.start, len(split)])
        talkers = [_voice(sentence.text(language), language, condition, crowd)[0] for sentence in babbled]
    for at, number in enumerate(numbers):
        draw = default_rng([seed, number, *f"{split}/{language}".encode()])
        shares = condition.sentences
        count = int(draw.choice(len(shares), p=shares)) + 1 if len(shares) > 1 else 1
        own = _short_enough(spoken[at : at + count], language)
        yield _utterance(f"{split}-{language}-{number:05d}", own, language, condition, talkers, draw)


def _short_enough(sentences: list[Sentence], language: str) -> list[Sentence]:
    """Return the first sentence and those after it that still fit into one utterance."""
    lengths = itertools.accumulate(len(sentence.text(language)) for sentence in sentences)
    return sentences[: max(1, sum(length <= LONGEST for length in lengths))]


def _utterance(
    name: str,
    sentences: list[Sentence],
    language: str,
    condition: Condition,
    talkers: list[np.ndarray],
    draw: Generator,
) -> Utterance | Reject:
    """Speak some sentences as one utterance, and add noise."""
    texts = {other: " ".join(sentence.text(other) for sentence in sentences) for other in grammar.LANGUAGES}
    try:
        with_pauses = ". ".join(sentence.text(language) for sentence in sentences)
        speech, speaker, tags = _voice(with_pauses, language, condition, draw)
    except ImportError as missing:
        return Reject(name, f"{missing.name} is not installed: pip install py-nanotts (some machines have no wheel)")
    if condition.noises:
        kind, snr_db = str(draw.choice(condition.noises)), float(draw.choice(condition.snr_db))
        crowd = [talkers[i] for i in draw.choice(len(talkers), 4, replace=False)] if kind == "babble" else []
        speech = noise.mix(speech, noise.make(kind, len(speech), draw, crowd), snr_db)
        tags |= {"noise": kind, "snr_db": snr_db}
    speech *= draw.uniform(0.3, 0.9) / (np.abs(speech).max() + 1e-9)
    return Utterance(
        id=name,
        audio=np.round(speech * 32767).astype(np.int16),
        rate_hz=RATE_HZ,
        text=texts[language],
        language=language,
        speaker=speaker,
        translation={other: text for other, text in texts.items() if other != language},
        tags={"kind": sentences[0].kind if len(sentences) == 1 else "joined", **tags},
    )


def _voice(
    text: str, language: str, condition: Condition, draw: Generator
) -> tuple[np.ndarray, str, dict[str, object]]:
    """Speak a text: (float32 samples_T at 16 kHz, the speaker, tags that describe the voice)."""
    words_per_minute = int(draw.integers(*condition.words_per_minute, endpoint=True))
    if condition.engine == "pico":
        from concertina.corpora.synthesis import pico

        voice = str(draw.choice(voices.PICO_VOICES[language]))
        speech = pico.speak(text, voice, words_per_minute / 180, float(draw.uniform(0.8, 1.25)))
        return speech, f"pico-{voice}", {"words_per_minute": words_per_minute}
    from concertina.corpora.synthesis import espeak

    accent = str(draw.choice((condition.accents or voices.ACCENTS)[language]))
    variant = str(draw.choice(voices.VARIANTS[condition.bucket]))
    pitch, pitch_range = int(draw.integers(35, 65)), int(draw.integers(35, 65))
    engine = espeak.engine()
    samples = engine.speak(text, f"{accent}+{variant}", words_per_minute, pitch, pitch_range)
    speech = _audio.resample(samples / 32768, engine.rate_hz).astype(np.float32)
    tags: dict[str, object] = {"accent": accent.split("/")[1], "words_per_minute": words_per_minute}
    if condition.bucket == "base":
        tags["phonemes"] = list(engine.phonemes)
    return speech, variant, tags
