"""Estimate this machine's speed at each stage, from records of training and decoding, and from Snakemake's times."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from concertina.artefacts import keys, scatter, sizes
from concertina.artefacts.sizes import CPU_FLOPS, GPU_FLOPS, TEXT, Estimate, Size, frames_per_token
from concertina.config import Ratio
from concertina.store import sealing, shards
from concertina.units import FRAMES_PER_SECOND

COUNTED = ("data", "features", "segments", "train", "evaluate")  # the stages whose work is known
# Seconds that a job takes to start.
START_S = {"data": 2.0, "features": 4.0, "segments": 1.0, "train": 6.0, "evaluate": 6.0, "report": 2.0}
START_S |= {"report_track": 9.0}
ASSUMED_S = 2.5  # of an utterance whose split does not exist any more
AUDIO_PER_S = {"data": 300.0, "segments": 7_000.0}  # seconds of audio per second, by default


class Sample(NamedTuple):
    """What an earlier job did (in its stage's unit), and the seconds that it took without its start."""

    stage: str
    work: float
    seconds: float


class Rates:
    """The work per second of each stage; `recorded`: the stages for which it was measured here."""

    def __init__(self, estimate: Estimate, on_gpu: bool) -> None:
        self.on_gpu = on_gpu
        samples = [*_timed(estimate), *_trained(estimate, on_gpu), *_decoded(estimate, on_gpu)]
        totals: dict[str, list[float]] = {}
        for sample in samples:
            total = totals.setdefault(sample.stage, [0.0, 0.0])
            total[0] += sample.work
            total[1] += max(sample.seconds, 0.05)
        self.rates = {stage: work / seconds for stage, (work, seconds) in totals.items() if work > 0}
        self.recorded = set(self.rates)

    def seconds(self, rule: str, parts: Iterable[Size], threads: int) -> float:
        """Return how long a job takes by itself; `parts`: the sizes of what it makes."""
        stage = rule.removesuffix("_share")
        return START_S.get(stage, 0.0) + sum(part.work / self._rate(stage, part, threads) for part in parts)

    def _rate(self, stage: str, part: Size, threads: int) -> float:
        """Return the recorded rate; without a record, that of a modest machine."""
        if stage in self.rates:
            return self.rates[stage]
        if stage in AUDIO_PER_S or not part.flop_per_work:
            return AUDIO_PER_S.get(stage, 1.0)
        return (GPU_FLOPS if self.on_gpu else CPU_FLOPS * threads) / part.flop_per_work


def _timed(estimate: Estimate) -> Iterator[Sample]:
    """Yield the jobs of data, features and segments on Snakemake's record; features only for this width."""
    for path in Path(".snakemake/metadata").rglob("*"):
        record = _read(path)
        log, stage = (record.get("log") or [""])[0], (record.get("rule") or "").removesuffix("_share")
        gathers = any(str(path).startswith("scratch/shares/") for path in record.get("input") or [])
        if stage not in ("data", "features", "segments") or gathers:
            continue
        _, *place = [part for part in Path(log).with_suffix("").parts if part != "shares"]
        name, _, corpus, split = place[:4]
        share = 1 / scatter.parse(place[4]).of if record["rule"].endswith("_share") else 1.0
        if stage == "features" and _width(name, corpus, split) != estimate.model.width:
            continue
        seconds = (record.get("endtime") or 0) - (record.get("starttime") or 0)
        if seconds > 0.1 and (audio := _audio(name, corpus, split)):
            yield Sample(stage, share * audio[1], seconds - START_S[stage])


def _trained(estimate: Estimate, on_gpu: bool) -> Iterator[Sample]:
    """Yield the trainings of adapters of this base on this kind of device."""
    for path in Path("build").glob("*/train/*/*/seed*/record.json"):
        record = _read(path)
        if _read(path.with_name("compressor.json")).get("base") != _identity(estimate) or not _on(record, on_gpu):
            continue
        settings = record["config"]
        part = next(s for s in settings["sets"] if s["name"] == record["train_set"])["parts"][0]
        positions = _positions(path.parts[1], part["corpus"], part["split"], record["ratio"])
        yield Sample("train", settings["steps"] * settings["batch"] * positions, record["seconds"])


def _decoded(estimate: Estimate, on_gpu: bool) -> Iterator[Sample]:
    """Yield the test sets that this base decoded on this kind of device."""
    for folder in Path("results").glob("*/evaluate/*"):
        name = folder.parts[1]
        adapters = Path("build", name).glob("train/*/*/seed*/compressor.json")
        if not any(_read(path).get("base") == _identity(estimate) for path in adapters):
            continue
        for path in folder.glob("*/*.json"):
            record = _read(path)
            if record.get("status") == "ok" and _on(record, on_gpu):
                positions = _positions(name, record["corpus"], record["split"], record["ratio"])
                yield Sample("evaluate", record["n_utterances"] * positions, record["seconds"])


def _identity(estimate: Estimate) -> str | None:
    """Return what adapters of this base record as its identity; None if the base does not exist yet."""
    try:
        return keys.identity(estimate.config)
    except sealing.DamagedError:
        return None


def _on(record: dict[str, Any], gpu: bool) -> bool:
    return str(record.get("device", "")).startswith("cpu") != gpu


def _positions(name: str, corpus: str, split: str, ratio: str) -> float:
    """Return the positions of the language model for a mean utterance of a split of some experiment."""
    utterances, seconds = _audio(name, corpus, split) or (1.0, ASSUMED_S)
    return FRAMES_PER_SECOND * seconds / max(utterances, 1) / frames_per_token(Ratio.parse(ratio)) + TEXT


def _audio(name: str, corpus: str, split: str) -> tuple[float, float] | None:
    """Return the number of utterances of a split of some experiment and their seconds; None if it is gone."""
    seal = _read(sizes.data_folder(name, corpus, split) / sealing.SEAL)
    return (seal["utterances"], seal["hours"] * 3600) if "hours" in seal else None


def _width(name: str, corpus: str, split: str) -> int | None:
    return _read(Path("build", name, "features", corpus, split) / shards.INDEX).get("width")


def _read(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file; an empty one if the file is absent or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
