"""LibriSpeech: a thousand hours of read English books, from its published archives (openslr.org/12, CC BY 4.0).

Splits are the official ones: train-clean-100, train-clean-360, train-other-500, dev-clean, dev-other, test-clean and
test-other. The transcripts are the official ones, in small letters. An archive or an unpacked folder that is already
here is used: the archive in downloads/librispeech/, the folder (which holds dev-clean/ and so on) as `folder`.
Source: Panayotov, Chen, Povey, Khudanpur, ICASSP 2015.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydantic import Field, model_validator

from concertina.config import ConfigError, Name, Section
from concertina.corpora import Reject, Size, Utterance
from concertina.corpora._archives import Archive, Files
from concertina.nearest import nearest
from concertina.store import folders

MIRRORS = ("https://www.openslr.org/resources/12", "https://openslr.trmal.net/resources/12")
LICENCE = "CC BY 4.0, Vassil Panayotov and others, https://www.openslr.org/12"
CHAPTERS_PER_PART = 32
MD5 = {  # https://www.openslr.org/resources/12/md5sum.txt
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}
BYTES = {"dev-clean": 338, "dev-other": 314, "test-clean": 347, "test-other": 329}  # about, in MB
BYTES |= {"train-clean-100": 6_387, "train-clean-360": 23_049, "train-other-500": 30_594}
SIZES = {
    "dev-clean": Size(2_703, 5.4),
    "dev-other": Size(2_864, 5.1),
    "test-clean": Size(2_620, 5.4),
    "test-other": Size(2_939, 5.3),
    "train-clean-100": Size(28_539, 100.6),
    "train-clean-360": Size(104_014, 363.6),
    "train-other-500": Size(148_688, 496.9),
}


class Options(Section):
    """folder: an unpacked copy; md5: of archives that are not the published ones, by split."""

    splits: list[Name] = Field(default_factory=lambda: list(MD5))
    folder: str | None = None
    md5: dict[Name, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _splits_are_there(self) -> "Options":
        known = MD5 | self.md5
        for split in self.splits:
            if split not in known:
                raise ValueError(f"LibriSpeech has no split {split!r}{nearest(split, list(known))}")
        return self


def splits(options: Options) -> list[str]:
    return list(options.splits)


def archives(options: Options, split: str) -> list[Archive]:
    """The archive of a split; none where an unpacked folder is given."""
    if options.folder or split not in (known := MD5 | options.md5):
        return []
    file = f"{split}.tar.gz"
    urls, digest = tuple(f"{url}/{file}" for url in MIRRORS), f"md5:{known[split]}"
    return [Archive(split, file, urls, digest, LICENCE, BYTES.get(split, 0) * 1_000_000)]


def sources(options: Options) -> list[Path]:
    """The transcripts of an unpacked folder; its recordings are not watched. Errors: ConfigError (no such folder)."""
    if not options.folder:
        return []
    return [path for split in options.splits for path in sorted(_folder(options, split).rglob("*.trans.txt"))]


def size(options: Options, split: str) -> Size | None:
    return SIZES.get(split)


def parts(options: Options, split: str) -> int:
    return max(1, -(-len(_chapters(_files(options, split))) // CHAPTERS_PER_PART))


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """The chapters of one part, each as its .trans.txt lists them."""
    files = _files(options, split)
    chapters = _chapters(files)
    for transcripts in sorted(chapters)[part * CHAPTERS_PER_PART : (part + 1) * CHAPTERS_PER_PART]:
        yield from _chapter(files, transcripts, chapters[transcripts])


def _chapter(files: Files, transcripts: str, recordings: dict[str, str]) -> Iterator[Utterance | Reject]:
    """One chapter: its transcripts' file (where there is none, its folder), and its recordings by id."""
    there = not transcripts.endswith("/")
    lines = files.read(transcripts).decode("utf-8", errors="replace").splitlines() if there else []
    for line in filter(str.strip, lines):
        id, _, text = line.partition(" ")
        if id not in recordings:
            yield Reject(id, f"{files.folder / transcripts} names it, and there is no recording of it")
            continue
        speaker, _, rest = id.partition("-")
        yield Utterance(
            id=id,
            audio=files.read(recordings[id]),
            rate_hz=0,
            text=text.lower(),
            language="en",
            speaker=speaker,
            tags={"chapter": rest.partition("-")[0]},
            origin=str(files.folder / recordings[id]),
        )
    named = {line.partition(" ")[0] for line in lines}
    for id in sorted(set(recordings) - named):
        yield Reject(id, f"{files.folder / recordings[id]} has no transcript in {PurePosixPath(transcripts).name}")


def _folder(options: Options, split: str) -> Path:
    """Where a split lies. Errors: ConfigError when an unpacked folder does not have it."""
    if options.folder is None:
        return folders.archive("librispeech", split)
    if not (folder := Path(options.folder, split)).is_dir():
        raise ConfigError(f"{folder}: no such folder; librispeech's `folder` is the one that holds {split}/")
    return folder


def _files(options: Options, split: str) -> Files:
    return Files(_folder(options, split), sealed=options.folder is None)


def _chapters(files: Files) -> dict[str, dict[str, str]]:
    """The transcripts' file of each chapter, or where there is none its folder -> its recordings by id."""
    recordings: dict[str, dict[str, str]] = defaultdict(dict)
    for name in files.matching("*.flac"):
        path = PurePosixPath(name)
        recordings[f"{path.parent}/"][path.stem] = name
    transcripts = {f"{PurePosixPath(name).parent}/": name for name in files.matching("*.trans.txt")}
    return {transcripts.get(folder, folder): recordings[folder] for folder in recordings.keys() | transcripts.keys()}
