"""Recorded human speech in five languages: the voice prompts of the Asterisk telephone system, as Debian packs them.

The same prompts in English, Spanish, French, Italian and Russian, spoken by one professional voice per language, at
16 kHz (G.722): a parallel corpus for transcription and translation. Splits `train`, `dev` and `test` are fixed by the
prompt's name, the same in every language. A held-out prompt has at least three words, and no prompt whose text stands
in a held-out one, in any language, is in `train`. One voice per language: results hold for that voice.
Licences: en, es (Allison Smith) and fr (June Wallack) CC BY-SA 3.0; it (Carlo Flora), ru (Maxim Topal) CC BY 3.0.
Packages that are already here are used: put them into downloads/prompts/.
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
SNAPSHOT = "https://snapshot.debian.org/file"  # every file that Debian ever published, by SHA-1
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
BYTES = {True: 11_000_000, False: 23_000}  # of a package with recordings, and of one with texts, about
HELD_OUT = {"test": range(40), "dev": range(40, 50)}  # of a hundred, by the hash of a prompt's name
FEWEST_WORDS = 3  # of a held-out prompt
SIZES = {"train": Size(300, 0.19), "dev": Size(14, 0.019), "test": Size(91, 0.142)}  # per language, about
REMARKS = "[](){}<>"  # a text with one of these describes a sound, or says more than the voice


class Options(Section):
    """languages: those that are read, with translations into all five; longest_s: longer prompts are left out."""

    splits: list[Split] = Field(default_factory=lambda: list(SPLITS), min_length=1)
    languages: list[Spoken] = Field(default_factory=lambda: list(LANGUAGES), min_length=1)
    longest_s: float | None = Field(default=None, gt=0)


def splits(options: Options) -> list[str]:
    return list(options.splits)


def archives(options: Options, split: str) -> list[Archive]:
    """The texts of all five languages, for the splits rest on them, and the recordings of those that are read."""
    return [*texts(), *(_package(f"{language}-g722") for language in options.languages)]


def size(options: Options, split: str) -> Size:
    return Size(SIZES[split].utterances * len(options.languages), SIZES[split].hours * len(options.languages))


def parts(options: Options, split: str) -> int:
    return len(options.languages)


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """The prompts of one language, by name."""
    language = options.languages[part]
    try:
        from G722 import G722
    except ImportError:
        yield Reject(language, "the package G722 is not installed: pip install G722")
        return
    files = Files(folders.archive(KIND, f"{language}-g722"), sealed=True)
    recordings = {_name(path): path for path in files.matching("usr/share/asterisk/sounds/*.g722")}
    texts = {other: _texts(other) for other in LANGUAGES}
    chosen = _split_of()
    for prompt in sorted(recordings.keys() | texts[language].keys()):
        if chosen.get(prompt, "train") != split:
            continue
        id = f"{language}/{prompt}"
        if prompt not in recordings or prompt not in texts[language]:
            yield Reject(id, "has no text of what is said" if prompt in recordings else "has no recording")
            continue
        samples = np.array(G722(RATE_HZ, 64_000).decode(files.read(recordings[prompt])), dtype=np.int16)
        if options.longest_s is not None and len(samples) > options.longest_s * RATE_HZ:
            yield Reject(id, f"lasts {len(samples) / RATE_HZ:.1f} s, more than longest_s: {options.longest_s:g}")
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
    """The packages of the texts, in all five languages."""
    return [_package(language) for language in LANGUAGES]


def held_out(kind: str) -> list[str]:
    """The texts of every prompt that is not for training, normalised, in all languages.

    `kind`: whose downloads the packages of the texts are in; a corpus of text that must be apart from these fetches
    them for itself.
    """
    chosen = _split_of(kind)
    return [
        text
        for language in LANGUAGES
        for prompt, text in _plain(language, kind).items()
        if chosen.get(prompt) in ("test", "dev")
    ]


def _package(name: str) -> Archive:
    file = f"asterisk-core-sounds-{name}_{VERSION}_all.deb"
    sha256, sha1 = PACKAGES[name]
    return Archive(
        name, file, (f"{DEBIAN}/{file}", f"{SNAPSHOT}/{sha1}"), f"sha256:{sha256}", LICENCE, BYTES["g722" in name]
    )


def _name(path: str) -> str:
    """'usr/share/asterisk/sounds/en_US_f_Allison/digits/1.g722' -> 'digits/1'."""
    return str(PurePosixPath(*PurePosixPath(path).parts[5:]).with_suffix(""))


@cache
def _texts(language: str, kind: str = KIND) -> dict[str, str]:
    """What is said in each prompt of a language; without those whose text is not just that."""
    files = Files(folders.archive(kind, language), sealed=True)
    (name,) = files.matching("*/core-sounds-*.txt.gz")
    lines = gzip.decompress(files.read(name)).decode("utf-8-sig").splitlines()
    rows = (line.partition(":") for line in lines if not line.startswith(";"))
    said = {prompt.strip(): text.strip() for prompt, _, text in rows}
    return {prompt: text for prompt, text in said.items() if text and not set(text) & set(REMARKS)}


@cache
def _plain(language: str, kind: str = KIND) -> dict[str, str]:
    """The same, normalised."""
    said = _texts(language, kind)
    return dict(zip(said, _normaliser.normalise(list(said.values()), language), strict=True))


@cache
def _split_of(kind: str = KIND) -> dict[str, str]:
    """The split of each prompt that is not in `train`; 'none' where a held-out text holds its text, in any language."""
    plain = {str(language): _plain(language, kind) for language in LANGUAGES}
    prompts = sorted({prompt for said in plain.values() for prompt in said})
    chosen = {prompt: split for prompt in prompts if (split := _drawn(prompt, plain))}
    for held_out, *lesser in (("test", "dev", "train"), ("dev", "train")):
        for said in plain.values():
            held = "|".join(f" {text} " for prompt, text in said.items() if chosen.get(prompt) == held_out)
            contained = (prompt for prompt, text in said.items() if f" {text} " in held)
            chosen |= {prompt: "none" for prompt in contained if chosen.get(prompt, "train") in lesser}
    return chosen


def _drawn(prompt: str, plain: dict[str, dict[str, str]]) -> str | None:
    """The held-out split that a prompt's name draws, where it has enough words in every language that has it."""
    if min(len(said[prompt].split()) for said in plain.values() if prompt in said) < FEWEST_WORDS:
        return None
    number = int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) % 100
    return next((split for split, numbers in HELD_OUT.items() if number in numbers), None)
