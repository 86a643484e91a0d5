"""The data stage turns one split of a corpus into 16 kHz mono audio and a manifest, one row per usable utterance.

A split is read in parts, several at a time and each in a fresh process. They are joined in order, so that the bytes
written depend neither on the number of cores nor on what a synthesiser keeps in memory. Of a long split (see
artefacts/scatter.py) several jobs each read a share of the parts, and a last job joins them.
It writes manifest.jsonl, rejects.jsonl (what could not be used, and why) and audio shards (see store/shards.py).
Shapes: T samples.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import traceback
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from concertina import console, corpora
from concertina.artefacts import scatter, stage
from concertina.artefacts.stage import Run
from concertina.config import Config, ConfigError, Corpus, Section
from concertina.corpora import Reject, Utterance, _audio
from concertina.nearest import nearest
from concertina.store import jsonl, subsets
from concertina.store.folders import MANIFEST
from concertina.store.shards import Writer
from concertina.units import RATE_HZ

SHARD_BYTES = 64 << 20
SHOWN_REJECTS = 5  # on the console; all of them are in rejects.jsonl
REPORT_EVERY = 20  # utterances between two messages of a reading process about its progress


class CorpusError(RuntimeError):
    """A corpus cannot be read; the message names corpus and split."""


def make(run: Run) -> None:
    """Make one split of a corpus from its shares, or by reading it in up to `--jobs` processes.

    Errors: ConfigError (no such corpus, split or option), CorpusError (its code fails, or no row is usable),
    DamagedError (a share).
    """
    corpus, split = run.artefact.where["corpus"], run.artefact.where["split"]
    plugin, options = _plugin(run.config, corpus, split)
    parts = run.folder / "parts"
    joined = _Joined(run.folder, f"{corpus}/{split}")
    if run.args.gather:
        for part in scatter.gathered(run.args.gather, run.run_key):
            joined.add(part)
    else:
        numbers = range(corpora.parts(plugin, options, split))
        for part in _read(run.config.corpus(corpus), split, numbers, parts, max(1, run.args.jobs)):
            joined.add(part)
            shutil.rmtree(part)
    shutil.rmtree(parts, ignore_errors=True)
    counts = joined.close()
    run.note(**counts)
    rejects = f", {counts['rejects']} rejected: {run.artefact.folder / 'rejects.jsonl'}" if counts["rejects"] else ""
    console.say(f"{corpus}/{split}: {counts['utterances']} utterances, {counts['hours']:.3g} h{rejects}")


def make_share(run: Run) -> None:
    """Read one share of a split's parts, in up to `--jobs` processes. Errors: as `make`."""
    corpus, split, share = (run.artefact.where[name] for name in ("corpus", "split", "share"))
    plugin, options = _plugin(run.config, corpus, split)
    numbers = share.range(corpora.parts(plugin, options, split))
    for _ in _read(run.config.corpus(corpus), split, numbers, run.folder, max(1, run.args.jobs)):
        pass


def usable(utterance: Utterance) -> tuple[dict[str, Any], np.ndarray]:
    """Return an utterance's manifest row and its audio, int16 [T]. Errors: ValueError with why it cannot be used."""
    text = utterance.text.strip()
    if not text:
        raise ValueError("no text")
    name = str(utterance.audio) if isinstance(utterance.audio, Path) else utterance.id
    samples_T = _audio.mono(utterance.audio, utterance.rate_hz, utterance.offset_s, utterance.duration_s, name)
    row = {
        "id": utterance.id,
        "duration_s": len(samples_T) / RATE_HZ,
        "samples": len(samples_T),
        "text": text,
        "language": utterance.language,
        "speaker": utterance.speaker,
        "translation": dict(utterance.translation),
        "tags": dict(utterance.tags),
        "audio_sha256": hashlib.sha256(samples_T.astype("<i2", copy=False).data).hexdigest(),
    }
    for key, value in row.items():
        _check(key, value)
    return row, samples_T


def _check(key: str, value: Any) -> None:
    """Check that a field of a row can be written. Errors: ValueError naming the field."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"its {key} is not valid Unicode, so it cannot be written as UTF-8") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its {key} cannot be written as JSON: {error}") from None


def _plugin(config: Config, corpus: str, split: str) -> tuple[ModuleType, Section]:
    """Return a corpus' plug-in and options. Errors: ConfigError where it has no such split."""
    section = config.corpus(corpus)
    plugin, options = corpora.load(section.kind), corpora.options(section)
    if split not in (splits := plugin.splits(options)):
        raise ConfigError(f"corpus {corpus} has no split {split!r}{nearest(split, splits)}")
    return plugin, options


def _read(corpus: Corpus, split: str, numbers: Iterable[int], folder: Path, jobs: int) -> Iterator[Path]:
    """Read parts of a split, each into a folder of its own in `folder`; yields those folders in order."""
    last = corpora.last(corpus, split)
    work = [_Part(corpus, split, number, folder / f"{number:05d}", last) for number in numbers]
    progress = console.Progress(len(work), "parts")
    with progress, contextlib.closing(_in_order(work, jobs, progress)) as done:
        for part in done:
            yield part.folder


@dataclass(frozen=True)
class _Part:
    """The task of one reading process: part `number` of a split, into `folder`."""

    corpus: Corpus
    split: str
    number: int
    folder: Path
    last: subsets.Rank | None  # of the utterances that are used


@dataclass
class _Joined:
    """The parts of a split, joined; it rejects ids that occur twice, and shows rejects on the console."""

    folder: Path
    name: str
    seen: set[str] = field(default_factory=set)
    rejects: int = 0
    samples: int = 0

    def __post_init__(self) -> None:
        self._writer = Writer(self.folder, "int16", None, SHARD_BYTES)
        self._manifest, self._rejected = self.folder / MANIFEST, self.folder / "rejects.jsonl"
        self._manifest.touch()
        self._rejected.touch()

    def add(self, part: Path) -> None:
        """Append what a reading process wrote."""
        with contextlib.ExitStack() as files:
            sound = files.enter_context(open(part / "audio", "rb"))
            manifest = files.enter_context(open(self._manifest, "a", encoding="utf-8"))
            rejected = files.enter_context(open(self._rejected, "a", encoding="utf-8"))
            for row in jsonl.read(part / "rows.jsonl"):
                samples_T = np.frombuffer(sound.read(2 * row.get("samples", 0)), dtype=np.int16)
                origin = row.pop("origin", "")
                if row["id"] in self.seen and "reason" not in row:
                    row = {"id": row["id"], "reason": f"{origin}duplicate id: an earlier row has it"}
                if "reason" in row:
                    self._reject(row)
                    rejected.write(json.dumps(row) + "\n")
                    continue
                self.seen.add(row["id"])
                self.samples += len(samples_T)
                self._writer.add(row["id"], samples_T)
                manifest.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> dict[str, Any]:
        """Finish the files and return the facts for the seal. Errors: CorpusError when no row is usable."""
        if self.rejects > SHOWN_REJECTS:
            console.say(f"{self.name}: {self.rejects - SHOWN_REJECTS} more rejected")
        if not self.seen:
            raise CorpusError(f"corpus {self.name} has no usable row: {self.rejects} rejected, for the reasons above")
        self._writer.close()
        hours = self.samples / RATE_HZ / 3600
        return {"utterances": len(self.seen), "rejects": self.rejects, "hours": hours}

    def _reject(self, row: dict[str, str]) -> None:
        self.rejects += 1
        if self.rejects <= SHOWN_REJECTS:
            console.say(f"{self.name}: rejected {row['id']}: {row['reason']}")


def _in_order(work: list[_Part], jobs: int, progress: console.Progress) -> Generator[_Part, None, None]:
    """Run the parts, each in a fresh process and up to `jobs` at a time; yields them in order, each once it is done."""
    context = multiprocessing.get_context("spawn")
    waiting, finished, utterances = iter(work), set[int](), 0
    running: dict[Connection, tuple[_Part, BaseProcess]] = {}
    try:
        for part in work:
            while part.number not in finished:
                while len(running) < jobs and (following := next(waiting, None)):
                    ours, theirs = context.Pipe(duplex=False)
                    process: BaseProcess = context.Process(target=_read_part, args=(following, theirs), daemon=True)
                    process.start()
                    theirs.close()
                    running[ours] = (following, process)
                for connection in wait(list(running)):
                    assert isinstance(connection, Connection)
                    count = _receive(connection, *running[connection])
                    if count is None:
                        ended, process = running.pop(connection)
                        process.join()
                        connection.close()
                        finished.add(ended.number)
                    utterances += count or 0
                    progress.add(count is None, utterances=utterances)
            yield part
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _receive(connection: Connection, part: _Part, process: BaseProcess) -> int | None:
    """Receive a reading process' message: how many more utterances it has read, or None when it is done.

    Errors: CorpusError when the process failed or died; OSError as it was raised there.
    """
    where = f"corpus {part.corpus.name}, split {part.split}, part {part.number}"
    try:
        message = connection.recv()
    except EOFError:
        process.join()
        raise CorpusError(
            f"{where}: its process died with status {process.exitcode} (a negative one is a signal)"
        ) from None
    if isinstance(message, OSError):
        raise message
    if isinstance(message, str):
        raise CorpusError(f"{where}: {message}")
    assert message is None or isinstance(message, int)
    return message


def _read_part(part: _Part, connection: Connection) -> None:
    """Read one part in a process of its own: rows and rejects into rows.jsonl, samples end to end into audio."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process receives Ctrl-C and ends this one
    try:
        part.folder.mkdir(parents=True)
        plugin, unreported = corpora.load(part.corpus.kind), 0
        with (
            open(part.folder / "rows.jsonl", "w", encoding="utf-8") as rows,
            open(part.folder / "audio", "wb") as sound,
        ):
            for item in plugin.read(corpora.options(part.corpus), part.split, part.number):
                if part.last is not None and subsets.rank(str(item.id)) > part.last:
                    continue
                row, samples_T = _judge(item)
                sound.write(samples_T.data)
                rows.write(json.dumps(row, allow_nan=False) + "\n")
                unreported += 1
                if unreported == REPORT_EVERY:
                    connection.send(unreported)
                    unreported = 0
        connection.send(unreported)
        connection.send(None)
    except BrokenPipeError:
        os._exit(1)  # the main process is gone
    except OSError as error:
        connection.send(error if error.errno else f"{type(error).__name__}: {error}")
    except Exception as error:
        if not isinstance(error, ConfigError):
            traceback.print_exc()
        connection.send(str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}")


def _judge(item: Utterance | Reject) -> tuple[dict[str, Any], np.ndarray]:
    """Return the row and samples of what a corpus yields; of a reject its reason, and no samples."""
    nothing = np.zeros(0, dtype=np.int16)
    if isinstance(item, Reject):
        return {"id": str(item.id), "reason": item.reason}, nothing
    if not isinstance(item, Utterance):
        raise TypeError(f"read() yields Utterance or Reject, not {type(item).__name__}")
    origin = f"{item.origin}: " if item.origin else ""
    try:
        row, samples_T = usable(item)
        return row | {"origin": origin}, samples_T
    except ValueError as error:
        return {"id": str(item.id), "reason": f"{origin}{error}"}, nothing


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that only this stage has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=min(cores, 16), help="processes; the result does not depend on it")


main = console.substeps({"fetch": "concertina.fetching.archive"})(
    stage.scattered(
        "data",
        make,
        make_share,
        about="Read one split of a corpus into build/<name>/data/<corpus>/<split>/: 16 kHz mono audio, manifest.jsonl, "
        "and rejects.jsonl with what could not be used and why.",
        example="--corpus synthetic --split clean",
        more=flags,
    )
)


if __name__ == "__main__":
    raise SystemExit(main())
