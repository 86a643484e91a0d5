"""English text read aloud by two synthesisers: many words and voices, for a base that has to hear human speech later.

Texts are `telephone` (announcements drawn from a grammar, synthesis/telephone.py) and `sentences`: SmolLM2-135M
(Apache-2.0) went on from each of 8,000 common words, once, and what passed a filter for length, repetition and manners
is synthesis/sentences.txt, 6,346 lines. `passages` are two to five of them, most of them announcements, said in one
go. eSpeak NG speaks with the voices of the synthetic corpus' training, SVOX Pico
(PyPI `py-nanotts`) with its two English ones. No text stands in, or holds, the text of a held-out one of the recorded
prompts (corpora/prompts.py), in whose package that is looked up.
Splits: `train`, `adapt` with other draws of the same, and `dev` in other words and voices. A split is read in parts,
each in a fresh process: the same bits on every run and number of cores.
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
PART = 250  # utterances
MEAN_S = {"telephone": 3.0, "sentences": 3.0, "passages": 9.0}  # of an utterance, about
PASSAGE = range(2, 6)  # texts of a passage
ANNOUNCED = 0.75  # of the texts of passages, about
DEV_LINES = 10  # every so many-th sentence is kept for dev
BLOCK = 1000  # texts that are normalised at once


class Options(Section):
    """seed: of everything drawn; pico: the share that SVOX Pico speaks; splits: utterances by source of the text."""

    seed: int = 0
    pico: float = Field(default=0.3, ge=0, le=1)
    splits: dict[Split, dict[Source, int]] = Field(min_length=1)


def splits(options: Options) -> list[str]:
    return list(options.splits)


def archives(options: Options, split: str) -> list[Archive]:
    """The texts of the recorded prompts: what of them is held out is not read aloud."""
    return prompts.texts()


def parts(options: Options, split: str) -> int:
    return sum(-(-count // PART) for count in _counts(options, split).values())


def size(options: Options, split: str) -> Size:
    counts = _counts(options, split)
    return Size(sum(counts.values()), sum(count * MEAN_S[source] for source, count in counts.items()) / 3600)


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """Speak one part of a split."""
    for source, count in _counts(options, split).items():
        n_parts = -(-count // PART)
        if part < n_parts:
            numbers = range(part * PART, min(count, (part + 1) * PART))
            for number, text in zip(numbers, texts(options, source, split)[numbers.start : numbers.stop], strict=True):
                yield _utterance(options, split, source, number, text)
            return
        part -= n_parts


def _counts(options: Options, split: str) -> dict[str, int]:
    """Utterances of a split by source."""
    by_split = {str(name): sources for name, sources in options.splits.items()}
    return {str(source): count for source, count in by_split[split].items()}


def texts(options: Options, source: str, split: str) -> list[str]:
    """The texts of a source that a split reads aloud, in order, none of them held out elsewhere."""
    return list(itertools.islice(_texts(options.seed, source, split), _counts(options, split)[source]))


def _texts(seed: int, source: str, split: str) -> Iterator[str]:
    """Endless texts of a source, each apart from what is held out."""
    number = SPLITS.index(split)
    announced = _apart(telephone.sentences(default_rng(len(SPLITS) * seed + number)))
    if source == "telephone":
        return announced
    written = _apart(_sentences(default_rng([seed, number]), split == "dev"))
    if source == "sentences":
        return written
    return _passages(announced, written, default_rng([seed, number, 1]))


def _sentences(draw: Generator, dev: bool) -> Iterator[str]:
    """The written sentences, over and over in one order."""
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    own = [line for i, line in enumerate(lines) if (i % DEV_LINES == 0) == dev]
    return itertools.cycle([own[i] for i in draw.permutation(len(own))])


def _passages(announced: Iterator[str], written: Iterator[str], draw: Generator) -> Iterator[str]:
    """Several texts as one, each with the stop that parts it from the next."""
    while True:
        chosen = (next(announced if draw.random() < ANNOUNCED else written) for _ in range(draw.choice(PASSAGE)))
        yield " ".join(text if text[-1] in ".?!" else f"{text}." for text in chosen)


def _apart(drawn: Iterator[str]) -> Iterator[str]:
    """Those of the texts that neither stand in a held-out one nor hold one."""
    texts = [f" {text} " for text in _held_out()]
    held = "|".join(texts)
    while block := list(itertools.islice(drawn, BLOCK)):
        for text, plain in zip(block, _normaliser.normalise(block, "en"), strict=True):
            said = f" {plain} "
            if said not in held and not any(other in said for other in texts):
                yield text


@cache
def _held_out() -> list[str]:
    return prompts.held_out(KIND)


def _utterance(options: Options, split: str, source: str, number: int, text: str) -> Utterance | Reject:
    draw = default_rng([options.seed, number, *f"{split}/{source}".encode()])
    id = f"{split}-{source}-{number:05d}"
    try:
        speech, speaker = _pico(text, draw) if draw.random() < options.pico else _espeak(text, split, draw)
    except ImportError as missing:
        return Reject(id, f"{missing.name} is not installed: pip install py-nanotts, or set `pico: 0`")
    if not len(speech):
        return Reject(id, f"nothing is heard of {text!r}")
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
    from concertina.corpora.synthesis import pico

    voice = str(draw.choice(voices.PICO_VOICES["en"]))
    return pico.speak(text, voice, float(draw.uniform(0.8, 1.25)), float(draw.uniform(0.8, 1.25))), f"pico-{voice}"


def _espeak(text: str, split: str, draw: Generator) -> tuple[np.ndarray, str]:
    from concertina.corpora.synthesis import espeak

    accent, variant = (
        str(draw.choice(voices.ACCENTS["en"])),
        str(draw.choice(voices.VARIANTS["dev" if split == "dev" else "train"])),
    )
    rate, pitch, pitch_range = (int(draw.integers(*limits)) for limits in ((140, 200), (35, 66), (35, 66)))
    engine = espeak.engine()
    samples = engine.speak(text, f"{accent}+{variant}", rate, pitch, pitch_range)
    return _audio.resample(samples / 32768, engine.rate_hz).astype(np.float32), variant
