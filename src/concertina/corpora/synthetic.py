"""Speech synthesised on the spot, in English, German and French, with exact transcripts and translations.

A grammar (synthesis/grammar.py) draws sentences; eSpeak NG, a formant synthesiser (GPL-3, loaded from the PyPI wheel
`espeakng-loader`), speaks them with voices that each occur in one role only. Splits:

  base      sentences and voices of the base model's training, nothing else
  train     LoRA's sentences, training voices, noise of training kinds from 0 to 40 dB, some said two or three at once
  dev       unseen sentences and voices, in the same noise
  dev-hard  the same under the conditions of `hard`
  clean     unseen sentences and voices, 25-40 dB
  hard      the same in noise of unseen kinds, graded from 0 to 15 dB, spoken slower and faster
  accent    the same as clean, in accents never trained on (English, French)
  spelled   sentences with spelled letters, kept out of the test splits above
  pico      the same as clean, spoken by another synthesiser (SVOX Pico, PyPI `py-nanotts`)

A split is read in parts of a fixed size, each in a fresh process: the same bits on every run and number of cores.
eSpeak speech is regular: absolute error rates say nothing about human speech, only their differences mean something.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from pydantic import Field

from concertina.config import Language, Section
from concertina.corpora import Reject, Size, Utterance, _audio
from concertina.corpora.synthesis import grammar, noise, voices
from concertina.corpora.synthesis.grammar import Sentence
from concertina.units import RATE_HZ

synthetic = True
PART = 250  # utterances: small enough to share out, large enough to start a process for
TALKERS = 16  # whom the babble of a part is mixed from; they say none of its sentences
MEAN_S = 2.5  # of an utterance, about
LONGEST = 110  # characters said at once, however slowly, within the 10 s that the tiny base hears


class Options(Section):
    """seed: of everything drawn; splits: how many utterances of each split and language."""

    seed: int = 0
    splits: dict[str, dict[Language, int]] = Field(min_length=1)


@dataclass(frozen=True)
class Condition:
    """How a split is spoken: whose sentences and voices, how fast, in which noise."""

    bucket: str
    words_per_minute: tuple[int, int] = (150, 215)
    noises: tuple[str, ...] = ("white",)
    snr_db: tuple[float, ...] = (25, 30, 35, 40)
    accents: dict[str, list[str]] | None = None
    kinds: tuple[str, ...] = tuple(kind for kind in grammar.KINDS if kind != grammar.SPELLED)
    engine: str = "espeak"
    joined: tuple[float, ...] = (1.0,)  # shares of utterances of one sentence, of two, ...


_EVERY_KIND = tuple(grammar.KINDS)
_GRADED = (0.0, 5.0, 10.0, 15.0, 25.0, 30.0, 35.0, 40.0)
_HARD = {"words_per_minute": (120, 260), "noises": noise.UNSEEN, "snr_db": (0.0, 5.0, 10.0, 15.0)}
CONDITIONS = {
    "base": Condition("base", (140, 240), (), (), kinds=_EVERY_KIND),
    "train": Condition("train", (140, 240), noise.TRAINING, _GRADED, kinds=_EVERY_KIND, joined=(0.75, 0.15, 0.1)),
    "dev": Condition("dev", noises=noise.TRAINING, snr_db=_GRADED),
    "dev-hard": Condition("dev", **_HARD),  # type: ignore[arg-type]
    "clean": Condition("test"),
    "hard": Condition("test", **_HARD),  # type: ignore[arg-type]
    "accent": Condition("test", accents=voices.UNSEEN_ACCENTS),
    "spelled": Condition("test", kinds=(grammar.SPELLED,)),
    "pico": Condition("test", noises=(), snr_db=(), engine="pico"),
}


def splits(options: Options) -> list[str]:
    """The configured splits. Errors: ValueError naming one that this corpus does not have."""
    for split, languages in options.splits.items():
        if split not in CONDITIONS:
            raise ValueError(f"splits.{split}: the synthetic corpus has {', '.join(CONDITIONS)}")
        spoken = CONDITIONS[split].accents or voices.ACCENTS
        for language in languages:
            if language not in spoken:
                raise ValueError(f"splits.{split}.{language}: this split is spoken in {', '.join(spoken)}")
    return list(options.splits)


def parts(options: Options, split: str) -> int:
    return sum(-(-count // PART) for count in options.splits[split].values())


def size(options: Options, split: str) -> Size:
    utterances = sum(options.splits[split].values())
    return Size(utterances, utterances * MEAN_S / 3600)


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """Speak one part of a split."""
    for language, count in options.splits[split].items():
        n_parts = -(-count // PART)
        if part < n_parts:
            yield from _speak(options.seed, split, language, range(part * PART, min(count, (part + 1) * PART)))
            return
        part -= n_parts


def _speak(seed: int, split: str, language: str, numbers: range) -> Iterator[Utterance | Reject]:
    condition = CONDITIONS[split]
    drawn = grammar.sentences(condition.bucket, seed, list(condition.kinds))
    spoken = list(itertools.islice(drawn, numbers.start, numbers.stop + TALKERS))
    spoken, talk = spoken[: len(numbers)], spoken[len(numbers) :]
    talkers: list[np.ndarray] = []
    if "babble" in condition.noises:
        crowd = default_rng([seed, numbers.start, len(split)])
        talkers = [_voice(sentence.text(language), language, condition, crowd)[0] for sentence in talk]
    for at, number in enumerate(numbers):
        draw = default_rng([seed, number, *f"{split}/{language}".encode()])
        count = int(draw.choice(len(condition.joined), p=condition.joined)) + 1 if len(condition.joined) > 1 else 1
        said = _at_once(spoken[at : at + count], language)
        yield _utterance(f"{split}-{language}-{number:05d}", said, language, condition, talkers, draw)


def _at_once(sentences: list[Sentence], language: str) -> list[Sentence]:
    """The first sentence, and as many of those after it as are short enough to be said with it."""
    lengths = itertools.accumulate(len(sentence.text(language)) for sentence in sentences)
    return sentences[: max(1, sum(length <= LONGEST for length in lengths))]


def _utterance(
    name: str, said: list[Sentence], language: str, condition: Condition, talkers: list[np.ndarray], draw: Generator
) -> Utterance | Reject:
    texts = {other: " ".join(sentence.text(other) for sentence in said) for other in grammar.LANGUAGES}
    try:
        with_pauses = ". ".join(sentence.text(language) for sentence in said)
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
        tags={"kind": said[0].kind if len(said) == 1 else "joined", **tags},
    )


def _voice(
    text: str, language: str, condition: Condition, draw: Generator
) -> tuple[np.ndarray, str, dict[str, object]]:
    """One utterance at 16 kHz: float32 samples_T, who speaks, and how."""
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
