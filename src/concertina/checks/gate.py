"""The gate: the uncompressed base, zero-shot, against published figures, before anything is trained.

A figure that is further off than the config allows stops the run (where the published one is sure) or is told.

INPUTS   build/<name>/features/... and build/<name>/segments/.../none-1 of the gate's sets, the file of figures
OUTPUTS  results/<name>/gate/: each set's record and predictions, as `evaluate` writes them, and record.json
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from concertina import config as configs
from concertina import console, evaluate
from concertina.artefacts import keys, layout
from concertina.config import UNCOMPRESSED, Config, ConfigError, Gate, Section, TestSet
from concertina.model import devices, lalm
from concertina.model.batching import Speech
from concertina.nearest import nearest
from concertina.reporting import scores
from concertina.reporting.scores import Result
from concertina.store import records, sealing
from concertina.store.predictions import read_predictions
from concertina.store.provenance import provenance
from concertina.store.records import Record

Row = dict[str, Any]
SUSPECTS = (
    "the prompt (base.prompts), the version of the audio, the scorer (evaluate.metrics), the precision "
    "(evaluate.precision), the release of transformers, or another checkpoint than the published one"
)


class BaselineError(RuntimeError):
    """The uncompressed base is not what was published; the message says by how much, and what may differ."""


class Figure(Section):
    """A published figure; `stops`: whether being off it stops a run."""

    metric: str
    value: float
    stops: bool


class Published(Section):
    """A file of published figures."""

    model: str
    source: str
    figures: dict[str, Figure]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m concertina.checks.gate",
        description="Decode the gate's test sets, uncompressed and zero-shot, and hold them against published figures.",
        epilog="A reason in the config's gate.override lets the run go on; every result then carries it.",
    )
    parser.add_argument("--config", type=Path, default=configs.DEFAULT, help="config.yaml or an overlay over it")
    return parser


@console.run
def main(argv: list[str] | None = None) -> int:
    """Judge the base; where it is off and nothing overrides it, exit with 1."""
    config = configs.load(parser().parse_args(argv).config)
    if config.gate is None:
        raise ConfigError("gate: this config has none")
    head: Row = {
        "stage": "evaluate",
        "name": config.name,
        "compressor": UNCOMPRESSED[0],
        "ratio": UNCOMPRESSED[1],
        "positions": config.segments.positions,
        "config": config.evaluate.model_dump(mode="json"),
        "threads": config.evaluate.threads,
        "run_key": "",
        "override": config.gate.override or None,
        **provenance(devices.gpu_name()),
    }
    with records.failures(layout.failure(config.name, "gate", "gate"), {**head, "stage": "gate"}):
        figures = {name: f for name, f in published(config.gate).items() if name not in config.evaluate.skipped}
        stage(config, config.gate, figures, head)
    return 0


def published(gate: Gate) -> dict[str, Figure]:
    """The figure of each of the gate's sets. Errors: ConfigError naming the file or the key and the nearest one."""
    try:
        held = Published.model_validate(yaml.safe_load(Path(gate.published).read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"gate.published: {gate.published} holds no published figures: {error}") from None
    for test_set, key in gate.figures.items():
        if key not in held.figures:
            near = nearest(key, list(held.figures))
            raise ConfigError(f"gate.figures.{test_set}: {gate.published} has no figure {key!r}{near}")
    return {test_set: held.figures[key] for test_set, key in gate.figures.items()}


def stage(config: Config, gate: Gate, figures: dict[str, Figure], head: Row) -> None:
    """Decode, judge, and seal the folder. Errors: BaselineError when a figure that stops is off."""
    began = time.monotonic()
    sets = [test_set for test_set in config.evaluate.sets if test_set.name in figures]
    for test_set in sets:
        if figures[test_set.name].metric not in config.evaluate.metrics.get(test_set.task, []):
            metric = figures[test_set.name].metric
            raise ConfigError(f"gate.figures.{test_set.name}: evaluate.metrics.{test_set.task} lacks {metric!r}")
    devices.fix(config.evaluate.threads, config.evaluate.precision)
    opened = {place: Speech(config.name, *place, *UNCOMPRESSED) for place in {(s.corpus, s.split) for s in sets}}
    inputs = [key for cached in opened.values() for key in cached.run_keys]
    head["run_key"] = keys.run_key(keys.gate(config), inputs)
    kept = layout.checkpoints(keys.run_key(keys.baseline(config, gate), inputs)) / "baseline"
    with sealing.sealed(layout.gate(config.name), {"run_key": head["run_key"]}) as folder:
        _decode(config, sets, opened, head, kept)
        shutil.copytree(kept, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(layout.SEAL))
        for name in figures:  # what was decoded before an override carries it too
            path = folder / name / "zero-shot.json"
            now = {"override": head["override"], "run_key": head["run_key"]}
            records.write(path, records.read(path).model_copy(update=now))
        judged = judge(config, gate, figures, folder)
        for fact in judged.values():
            console.say(fact["told"])
        if off := [fact["told"] for fact in judged.values() if fact["verdict"] == "stop" and not gate.override]:
            raise BaselineError(
                f"{'; '.join(off)}. Look at {SUSPECTS}; or set gate.override to the reason why it is right so"
            )
        record = records.run(facts=judged, seconds=time.monotonic() - began, **{**head, "stage": "gate"})
        records.write(folder / "record.json", record)
    shutil.rmtree(kept.parent, ignore_errors=True)


def _decode(config: Config, sets: list[TestSet], opened: dict[Any, Speech], head: Row, kept: Path) -> None:
    """Decode the sets into a folder in scratch, which a gate that has stopped the run leaves for its next attempt."""
    if (kept / layout.SEAL).exists():
        sealing.verify(kept)
        console.say("the uncompressed base was decoded before")
        return
    model = lalm.load(config.base, encoder=False, llm=True, dtype=config.evaluate.precision)
    with sealing.sealed(kept) as folder:
        for test_set in sets:
            console.say(f"{test_set.name}, uncompressed, zero-shot")
            evaluate.measure(model, config, test_set, opened[test_set.corpus, test_set.split], None, head, folder)


def judge(config: Config, gate: Gate, figures: dict[str, Figure], folder: Path) -> dict[str, Row]:
    """Of each set: ours with its interval, the published figure, the verdict, and all that as a sentence."""
    judged = {}
    for name, figure in figures.items():
        record = records.read(folder / name / "zero-shot.json")
        assert isinstance(record, Record)
        results = [Result(record, read_predictions(folder / name / "zero-shot.parquet"))]
        intervals = scores.score_intervals(results, config.report.bootstrap_samples, config.report.confidence_percent)
        interval = intervals[0, figure.metric]
        ours, limit = record.scores[figure.metric].value, gate.bleu_points if _is_bleu(figure) else gate.wer_points
        verdict = _verdict(ours - figure.value, limit, figure)
        ends = f" [{interval.low:.1f}, {interval.high:.1f}]" if interval.low is not None else ""
        says = {"pass": "within", "warn": "a warning: further off than", "stop": "further off than"}[verdict]
        told = f"{name}: {figure.metric} {ours:.2f}{ends}, published {figure.value:g}: {says} {limit:g} points"
        judged[name] = {"ours": ours, "published": figure.value, "verdict": verdict, "told": told}
    return judged


def _is_bleu(figure: Figure) -> bool:
    return figure.metric == "bleu"


def _verdict(off: float, limit: float, figure: Figure) -> Literal["pass", "warn", "stop"]:
    if round(abs(off), 6) <= limit:
        return "pass"
    return "stop" if figure.stops else "warn"


if __name__ == "__main__":
    raise SystemExit(main())
