"""Recorded human speech in five languages: the voice prompts of the Asterisk telephone system, as Debian packs them.

The prompts are the same in English, Spanish, French, Italian and Russian, so that they are a parallel corpus for
transcription and translation. One professional voice per language speaks them, at 16 kHz (G.722); results hold for
that voice only.

The name of a prompt decides whether it is in `train`, `dev` or `test`, alike in every language. A held-out prompt (one
of dev or test) has at least three words. A prompt whose text is contained in a held-out one, in any language, is not
in `train`.

Licences: en, es (Allison Smith) and fr (June Wallack) CC BY-SA 3.0; it (Carlo Flora), ru (Maxim Topal) CC BY 3.0.
If you already have the packages, put them into downloads/prompts/.
Source: https://packages.debian.org/source/stable/asterisk-core-sounds
"""

import gzip
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from pydantic import Field

from concertina.config import Section
from concertina.corpora import Reject, Size, Utterance
from concertina.corpora._archives import Archive, Files
from concertina.metrics import _normaliser
from concertina.store import folders
from concertina.units import RATE_HZ

KIND = "prompts"
Split = Literal["train", "dev", "test"]
Spoken = Literal["en", "es", "fr", "it", "ru"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
LANGUAGES: tuple[Spoken, ...] = ("en", "es", "fr", "it", "ru")
SPEAKERS = {"en": "Allison", "es": "Allison", "fr": "June", "it": "Carlo", "ru": "IvrvoiceRU"}
DEBIAN = "https://deb.debian.org/debian/pool/main/a/asterisk-core-sounds"
SNAPSHOT = "https://snapshot.debian.org/file"  # has every file that Debian ever published, by SHA-1
VERSION = "1.6.1-1"
LICENCE = "CC BY-SA 3.0, it and ru CC BY 3.0; asterisk-core-sounds, whose copyright file names the speakers"
PACKAGES = {  # SHA-256, SHA-1
    "en": (
        "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
        "9c5fc816e4e8281b01454c9e82d6b72794cbc27a",
    ),
    "es": (
        "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
        "7c4a8d8fb16ccde774f4feb016b697d427d34974",
    ),
    "fr": (
        "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
        "6f876d246922c657135cb132695b6bb0262469dc",
    ),
    "it": (
        "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
        "ffe46ba4168640de372c4eb6a68c198a0422703a",
    ),
    "ru": (
        "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab",
        "cc601cb8ae998834baf3158ca33bd85b0f1cebde",
    ),
    "en-g722": (
        "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
        "85d31615a1c64105203f3f545a22fefca050905d",
    ),
    "es-g722": (
        "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8",
        "4d2743ad452fa5eeea68fe9f94c1719d552f368a",
    ),
    "fr-g722": (
        "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0",
        "c2d8d0367f81b7545a66997b0c374a415c6a9dd4",
    ),
    "it-g722": (
        "46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016",
        "a427af1636d8a9804d3b237f14ab23a009b14793",
    ),
    "ru-g722": (
        "673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b",
        "3ffa80a2163f22c868c4f90926e6fef1c0d9f678",
    ),
}
BYTES = {True: 11_000_000, False: 23_000}  # size of a package of recordings (True) and of one of texts (False), about
HELD_OUT = {"test": range(40), "dev": range(40, 50)}  # numbers below 100, drawn by the hash of a prompt's name
FEWEST_WORDS = 3  # that a held-out prompt must have
SIZES = {"train": Size(300, 0.19), "dev": Size(14, 0.019), "test": Size(91, 0.142)}  # per language, about
REMARKS = "[](){}<>"  # a text with one of these describes a sound, or has more words than the voice speaks


class Options(Section):
    """The config keys of this kind of corpus.

    splits: those that are read; languages: those whose recordings are read, each with translations into all others;
    longest_s: prompts that last longer are rejected.
    """

    splits: list[Split] = Field(default_factory=lambda: list(SPLITS), min_length=1)
    languages: list[Spoken] = Field(default_factory=lambda: list(LANGUAGES), min_length=1)
    longest_s: float | None = Field(default=None, gt=0)


def splits(options: Options) -> list[str]:
    """Return the configured splits."""
    return list(options.splits)


def archives(options: Options, split: str) -> list[Archive]:
    """Return the texts of all five languages, because the splits depend on them, and the recordings that are read."""
    return [*texts(), *(_package(f"{language}-g722") for language in options.languages)]


def size(options: Options, split: str) -> Size:
    """Multiply the size of one language by the number of languages."""
    return Size(SIZES[split].utterances * len(options.languages), SIZES[split].hours * len(options.languages))


def parts(options: Options, split: str) -> int:
    """Return one part per language."""
    return len(options.languages)


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """Yield the prompts of one language, by name."""
    language = options.languages[part]
    try:
        from G722 import G722
    except ImportError:
        yield Reject(language, "the package G722 is not installed: pip install G722")
        return
    files = Files(folders.archive(KIND, f"{language}-g722"), sealed=True)
    recordings = {_name(path): path for path in files.matching("usr/share/asterisk/sounds/*.g722")}
    texts = {other: _texts(other) for other in LANGUAGES}
    splits_of_prompts = _splits_of_prompts()
    for prompt in sorted(recordings.keys() | texts[language].keys()):
        if splits_of_prompts.get(prompt, "train") != split:
            continue
        id = f"{language}/{prompt}"
        if prompt not in recordings or prompt not in texts[language]:
            yield Reject(id, "it has no text of the words alone" if prompt in recordings else "it has no recording")
            continue
        samples = np.array(G722(RATE_HZ, 64_000).decode(files.read(recordings[prompt])), dtype=np.int16)
        if options.longest_s is not None and len(samples) > options.longest_s * RATE_HZ:
            yield Reject(id, f"it lasts {len(samples) / RATE_HZ:.1f} s, longer than longest_s: {options.longest_s:g}")
            continue
        yield Utterance(
            id=id,
            audio=samples,
            rate_hz=RATE_HZ,
            text=texts[language][prompt],
            language=language,
            speaker=SPEAKERS[language],
            translation={
                other: texts[other][prompt] for other in LANGUAGES if prompt in texts[other] and other != language
            },
            tags={"prompt": prompt},
            origin=str(files.folder / recordings[prompt]),
        )


def texts() -> list[Archive]:
    """Return the packages of the texts in all five languages."""
    return [_package(language) for language in LANGUAGES]


def held_out(kind: str) -> list[str]:
    """Return the normalised texts of all prompts of dev and test, in all languages.

    `kind`: the kind of corpus into whose folder of downloads the packages of the texts were fetched. A corpus that
    must not contain these texts fetches the packages for itself.
    """
    splits_of_prompts = _splits_of_prompts(kind)
    return [
        text
        for language in LANGUAGES
        for prompt, text in _plain(language, kind).items()
        if splits_of_prompts.get(prompt) in ("test", "dev")
    ]


def _package(name: str) -> Archive:
    """Return a Debian package as an archive; 'en' has the texts, 'en-g722' the recordings."""
    file = f"asterisk-core-sounds-{name}_{VERSION}_all.deb"
    sha256, sha1 = PACKAGES[name]
    return Archive(
        name, file, (f"{DEBIAN}/{file}", f"{SNAPSHOT}/{sha1}"), f"sha256:{sha256}", LICENCE, BYTES["g722" in name]
    )


def _name(path: str) -> str:
    """Return the name of a prompt: 'usr/share/asterisk/sounds/en_US_f_Allison/digits/1.g722' -> 'digits/1'."""
    return str(PurePosixPath(*PurePosixPath(path).parts[5:]).with_suffix(""))


@cache
def _texts(language: str, kind: str = KIND) -> dict[str, str]:
    """Return the text of each prompt of a language, without the texts that hold more than the spoken words."""
    files = Files(folders.archive(kind, language), sealed=True)
    (name,) = files.matching("*/core-sounds-*.txt.gz")
    lines = gzip.decompress(files.read(name)).decode("utf-8-sig").splitlines()
    rows = (line.partition(":") for line in lines if not line.startswith(";"))
    texts = {prompt.strip(): text.strip() for prompt, _, text in rows}
    return {prompt: text for prompt, text in texts.items() if text and not set(text) & set(REMARKS)}


@cache
def _plain(language: str, kind: str = KIND) -> dict[str, str]:
    """Return the texts of a language normalised, so that case and punctuation do not hide that two are the same."""
    texts = _texts(language, kind)
    return dict(zip(texts, _normaliser.normalise(list(texts.values()), language), strict=True))


@cache
def _splits_of_prompts(kind: str = KIND) -> dict[str, str]:
    """Return the split of each prompt that is not in `train`: 'test', 'dev', or 'none' if it is in no split.

    A prompt is in no split if, in any language, its text is contained in the text of a held-out one; otherwise a model
    could learn from it what it is tested on.
    """
    plain = {str(language): _plain(language, kind) for language in LANGUAGES}
    prompts = sorted({prompt for texts in plain.values() for prompt in texts})
    split_of = {prompt: split for prompt in prompts if (split := _drawn(prompt, plain))}
    # `test` keeps all its prompts; `dev` loses those that are in `test`; `train` those that are in either.
    for held_out, *lesser in (("test", "dev", "train"), ("dev", "train")):
        for texts in plain.values():
            joined = "|".join(f" {text} " for prompt, text in texts.items() if split_of.get(prompt) == held_out)
            contained = (prompt for prompt, text in texts.items() if f" {text} " in joined)
            split_of |= {prompt: "none" for prompt in contained if split_of.get(prompt, "train") in lesser}
    return split_of


def _drawn(prompt: str, plain: dict[str, dict[str, str]]) -> str | None:
    """Return the held-out split that a prompt's name draws, or None; with few words in any language it draws none."""
    if min(len(texts[prompt].split()) for texts in plain.values() if prompt in texts) < FEWEST_WORDS:
        return None
    number = int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) % 100
    return next((split for split, numbers in HELD_OUT.items() if number in numbers), None)
