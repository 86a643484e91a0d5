"""LibriSpeech: a thousand hours of English books read aloud, from its published archives (openslr.org/12, CC BY 4.0).

The splits are the official ones: train-clean-100, train-clean-360, train-other-500, dev-clean, dev-other, test-clean
and test-other. The transcripts are the official ones in lower case. If you already have LibriSpeech, put its archives
into downloads/librispeech/, or give the unpacked folder (which holds dev-clean/ and so on) as `folder`.
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
SIZES_MB = {"dev-clean": 338, "dev-other": 314, "test-clean": 347, "test-other": 329}  # of the archives, about
SIZES_MB |= {"train-clean-100": 6_387, "train-clean-360": 23_049, "train-other-500": 30_594}
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
    """The config keys of this kind of corpus.

    splits: those that are read; folder: an unpacked copy, used instead of the archives;
    md5: the hash of an archive that is not the published one, by split.
    """

    splits: list[Name] = Field(default_factory=lambda: list(MD5))
    folder: str | None = None
    md5: dict[Name, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _splits_exist(self) -> "Options":
        known = MD5 | self.md5
        for split in self.splits:
            if split not in known:
                raise ValueError(f"LibriSpeech has no split {split!r}{nearest(split, list(known))}")
        return self


def splits(options: Options) -> list[str]:
    """Return the configured splits."""
    return list(options.splits)


def archives(options: Options, split: str) -> list[Archive]:
    """Return the archive of a split, or nothing where an unpacked folder is given."""
    if options.folder or split not in (known := MD5 | options.md5):
        return []
    file = f"{split}.tar.gz"
    urls, digest = tuple(f"{url}/{file}" for url in MIRRORS), f"md5:{known[split]}"
    return [Archive(split, file, urls, digest, LICENCE, SIZES_MB.get(split, 0) * 1_000_000)]


def sources(options: Options) -> list[Path]:
    """Return the transcripts of an unpacked folder. Errors: ConfigError (no such folder).

    A change of its recordings is not noticed: to hash them all would take minutes before every run.
    """
    if not options.folder:
        return []
    return [path for split in options.splits for path in sorted(_folder(options, split).rglob("*.trans.txt"))]


def size(options: Options, split: str) -> Size | None:
    """Return the published size of a split; None for a split that only the config knows."""
    return SIZES.get(split)


def ids(options: Options, split: str) -> Iterator[str]:
    """Yield the ids in the transcripts and of the recordings of every chapter, each once."""
    files = _files(options, split)
    for transcripts, recordings in sorted(_chapters(files).items()):
        named = [line.partition(" ")[0] for line in _lines(files, transcripts)]
        yield from dict.fromkeys([*named, *sorted(recordings)])


def parts(options: Options, split: str) -> int:
    """Return the number of parts, of up to CHAPTERS_PER_PART chapters each."""
    return max(1, -(-len(_chapters(_files(options, split))) // CHAPTERS_PER_PART))


def read(options: Options, split: str, part: int) -> Iterator[Utterance | Reject]:
    """Yield the utterances of one part: chapter by chapter, in the order of its .trans.txt."""
    files = _files(options, split)
    chapters = _chapters(files)
    for transcripts in sorted(chapters)[part * CHAPTERS_PER_PART : (part + 1) * CHAPTERS_PER_PART]:
        yield from _chapter(files, transcripts, chapters[transcripts])


def _chapter(files: Files, transcripts: str, recordings: dict[str, str]) -> Iterator[Utterance | Reject]:
    """Yield the utterances of a chapter, from its transcripts and its recordings by id (see `_chapters`)."""
    lines = _lines(files, transcripts)
    for line in lines:
        id, _, text = line.partition(" ")
        if id not in recordings:
            yield Reject(id, f"{files.folder / transcripts} names it, but there is no recording of it")
            continue
        speaker, _, rest = id.partition("-")
        try:
            audio = files.read(recordings[id])
        except OSError as error:
            yield Reject(id, f"{files.folder / recordings[id]}: {error.strerror or error}")
            continue
        yield Utterance(
            id=id,
            audio=audio,
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


def _lines(files: Files, transcripts: str) -> list[str]:
    """Return the lines of a chapter's transcripts; none where the chapter has no such file."""
    has_file = not transcripts.endswith("/")
    lines = files.read(transcripts).decode("utf-8", errors="replace").splitlines() if has_file else []
    return list(filter(str.strip, lines))


def _folder(options: Options, split: str) -> Path:
    """Return the folder of a split. Errors: ConfigError when the unpacked copy does not have it."""
    if options.folder is None:
        return folders.archive("librispeech", split)
    if not (folder := Path(options.folder, split)).is_dir():
        raise ConfigError(f"{folder}: no such folder; librispeech's `folder` must be the one that holds {split}/")
    return folder


def _files(options: Options, split: str) -> Files:
    return Files(_folder(options, split), sealed=options.folder is None)


def _chapters(files: Files) -> dict[str, dict[str, str]]:
    """Return the recordings of every chapter, by id.

    The key of a chapter is its file of transcripts, or its folder with a / at the end if it has none.
    """
    recordings: dict[str, dict[str, str]] = defaultdict(dict)
    for name in files.matching("*.flac"):
        path = PurePosixPath(name)
        recordings[f"{path.parent}/"][path.stem] = name
    transcripts = {f"{PurePosixPath(name).parent}/": name for name in files.matching("*.trans.txt")}
    return {transcripts.get(folder, folder): recordings[folder] for folder in recordings.keys() | transcripts.keys()}
