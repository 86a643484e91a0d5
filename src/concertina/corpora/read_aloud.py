"""English texts read aloud by two synthesisers in many voices, to train a base that is later to hear human speech.

The texts have three sources:

  telephone  announcements drawn from a grammar (synthesis/telephone.py)
  sentences  the 6,346 lines of synthesis/sentences.txt. SmolLM2-135M (Apache-2.0) continued each of 8,000 common words
             once, and a filter removed texts that were too long, repetitive or rude
  passages   two to five texts of the other sources, most of them announcements, spoken without a break

Two synthesisers speak: eSpeak NG with the voices that train the synthetic corpus, and SVOX Pico (PyPI `py-nanotts`)
with its two English voices. Texts that contain a held-out text of the recorded prompts (corpora/prompts.py), or are
contained in one, are left out; the packages of those texts are downloaded for that.

Splits: `train`; `adapt`, other draws from the same texts and voices; `dev`, other sentences and other eSpeak voices.
Each part of a split is read in a fresh process, so that the audio is bit for bit the same on every run and on any
number of cores.
"""

import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.random import Generator, default_rng
from pydantic import Field

from concertina.config import Section
from concertina.corpora import Reject, Size, Utterance, _audio, prompts
from concertina.corpora._archives import Archive
from concertina.corpora.synthesis import noise, telephone, voices
from concertina.metrics import _normaliser
from concertina.units import RATE_HZ

synthetic = True
KIND = "read_aloud"
Split = Literal["train", "dev", "adapt"]
SPLITS = ("train", "dev", "adapt")
Source = Literal["telephone", "sentences", "passages"]
SENTENCES = Path(telephone.__file__).with_name("sentences.txt")
UTTERANCES_PER_PART = 250
MEAN_S = {"telephone": 3.0, "sentences": 3.0, "passages": 9.0}  # length of an utterance, about
PASSAGE = range(2, 6)  # how many texts a passage may have
ANNOUNCED = 0.75  # share of announcements among the texts of passages, about
DEV_LINES = 10  # every tenth sentence is kept for dev
BLOCK = 1000  # texts that are normalised at once


class Options(Section):
    """The config keys of this kind of corpus.

    seed: decides all that is drawn; pico: the share of utterances that SVOX Pico speaks;
    splits: the number of utterances of each split, by source of the text.
    """

    seed: int = 0
    pico: float = Field(default=0.3, ge=0, le=1)
    splits: dict[Split, dict[Source, int]] = Field(min_length=1)


def splits(options: Options) -> list[str]:
    """Return the configured splits."""
    return list(options.splits)


def archives(options: Options, split: str) -> list[Archive]:
    """Return the texts of the recorded prompts, whose held-out ones must not be read aloud here."""
    return prompts.texts()


def parts(options: Options, split: str) -> int:
    """Return the number of parts, of up to UTTERANCES_PER_PART utterances each."""
    return sum(-(-count // UTTERANCES_PER_PART) for count in _counts(options, split).values())


def size(options: Options, split: str) -> Size:
    """Count the utterances, and estimate their length from the mean."""
    counts = _counts(options, split)
    return Size(sum(counts.values()), sum(count * MEAN_S[source] for source, count in counts.items()) / 3600)


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """Speak one part of a split."""
    for source, count in _counts(options, split).items():
        n_parts = -(-count // UTTERANCES_PER_PART)
        if part < n_parts:
            numbers = range(part * UTTERANCES_PER_PART, min(count, (part + 1) * UTTERANCES_PER_PART))
            for number, text in zip(numbers, texts(options, source, split)[numbers.start : numbers.stop], strict=True):
                yield _utterance(options, split, source, number, text)
            return
        part -= n_parts


def _counts(options: Options, split: str) -> dict[str, int]:
    """Return the number of utterances of a split, by source."""
    by_split = {str(name): sources for name, sources in options.splits.items()}
    return {str(source): count for source, count in by_split[split].items()}


def texts(options: Options, source: str, split: str) -> list[str]:
    """Return the texts of a source that a split reads aloud, in order; none is a held-out prompt."""
    return list(itertools.islice(_texts(options.seed, source, split), _counts(options, split)[source]))


def _texts(seed: int, source: str, split: str) -> Iterator[str]:
    """Yield texts of a source without end; none is a held-out prompt."""
    number = SPLITS.index(split)
    announcements = _without_held_out(telephone.sentences(default_rng(len(SPLITS) * seed + number)))
    if source == "telephone":
        return announcements
    sentences = _without_held_out(_sentences(default_rng([seed, number]), split == "dev"))
    if source == "sentences":
        return sentences
    return _passages(announcements, sentences, default_rng([seed, number, 1]))


def _sentences(draw: Generator, dev: bool) -> Iterator[str]:
    """Yield the sentences of the file without end, again and again in the same random order."""
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    own = [line for i, line in enumerate(lines) if (i % DEV_LINES == 0) == dev]
    return itertools.cycle([own[i] for i in draw.permutation(len(own))])


def _passages(announcements: Iterator[str], sentences: Iterator[str], draw: Generator) -> Iterator[str]:
    """Yield passages: several texts joined into one, each ending in a full stop or another mark."""
    while True:
        count = draw.choice(PASSAGE)
        texts = (next(announcements if draw.random() < ANNOUNCED else sentences) for _ in range(count))
        yield " ".join(text if text[-1] in ".?!" else f"{text}." for text in texts)


def _without_held_out(texts: Iterator[str]) -> Iterator[str]:
    """Yield the texts that neither contain a held-out prompt nor are contained in one, compared word by word."""
    held_out = [f" {text} " for text in _held_out()]  # the spaces let only whole words match
    joined = "|".join(held_out)
    while block := list(itertools.islice(texts, BLOCK)):
        for text, normalised in zip(block, _normaliser.normalise(block, "en"), strict=True):
            words = f" {normalised} "
            if words not in joined and not any(other in words for other in held_out):
                yield text


@cache
def _held_out() -> list[str]:
    """Return the texts of the held-out prompts, read once per process."""
    return prompts.held_out(KIND)


def _utterance(options: Options, split: str, source: str, number: int, text: str) -> Utterance | Reject:
    """Speak a text with a drawn synthesiser and voice, and add a little white noise."""
    draw = default_rng([options.seed, number, *f"{split}/{source}".encode()])
    id = f"{split}-{source}-{number:05d}"
    try:
        speech, speaker = _pico(text, draw) if draw.random() < options.pico else _espeak(text, split, draw)
    except ImportError as missing:
        return Reject(id, f"{missing.name} is not installed: pip install py-nanotts, or set `pico: 0`")
    if not len(speech):
        return Reject(id, f"the synthesiser made no sound of {text!r}")
    speech = noise.mix(speech, noise.make("white", len(speech), draw, []), float(draw.uniform(25, 50)))
    speech *= draw.uniform(0.2, 0.9) / (np.abs(speech).max() + 1e-9)
    return Utterance(
        id=id,
        audio=np.round(speech * 32767).astype(np.int16),
        rate_hz=RATE_HZ,
        text=text,
        language="en",
        speaker=speaker,
        tags={"source": source},
    )


def _pico(text: str, draw: Generator) -> tuple[np.ndarray, str]:
    """Speak a text with SVOX Pico: (float32 samples_T at 16 kHz, the speaker)."""
    from concertina.corpora.synthesis import pico

    voice = str(draw.choice(voices.PICO_VOICES["en"]))
    return pico.speak(text, voice, float(draw.uniform(0.8, 1.25)), float(draw.uniform(0.8, 1.25))), f"pico-{voice}"


def _espeak(text: str, split: str, draw: Generator) -> tuple[np.ndarray, str]:
    """Speak a text with eSpeak NG: (float32 samples_T at 16 kHz, the speaker)."""
    from concertina.corpora.synthesis import espeak

    accent, variant = (
        str(draw.choice(voices.ACCENTS["en"])),
        str(draw.choice(voices.VARIANTS["dev" if split == "dev" else "train"])),
    )
    rate, pitch, pitch_range = (int(draw.integers(*limits)) for limits in ((140, 200), (35, 66), (35, 66)))
    engine = espeak.engine()
    samples = engine.speak(text, f"{accent}+{variant}", rate, pitch, pitch_range)
    return _audio.resample(samples / 32768, engine.rate_hz).astype(np.float32), variant
