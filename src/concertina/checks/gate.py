"""The gate: the uncompressed base, zero-shot, against published figures, before anything is trained.

A figure that is further off than the config allows stops the run (where the published one is sure) or is a warning.

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
from concertina import console, evaluate, metrics
from concertina.artefacts import keys, layout
from concertina.config import UNCOMPRESSED, Config, ConfigError, Gate, Section, TestSet
from concertina.model import devices, lalm
from concertina.model.batching import Speech
from concertina.nearest import nearest
from concertina.reporting.statistics import Bootstrap
from concertina.store import records, sealing

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
        **records.provenance(devices.gpu_name()),
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
        for name, fact in judged.items():
            console.say(message(name, fact))
        stops = [message(name, fact) for name, fact in judged.items() if fact["verdict"] == "stop"]
        if stops and not gate.override:
            raise BaselineError(
                f"{'; '.join(stops)}. Look at {SUSPECTS}; or set gate.override to the reason why it is right so"
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
    """Compare each set's score with its published figure: our value with its interval, the tolerance, the verdict."""
    judged = {}
    for name, figure in figures.items():
        predictions = records.read_predictions(folder / name / "zero-shot.parquet")
        report, metric = config.report, figure.metric
        bootstrap = Bootstrap(predictions["speaker"], report.bootstrap_samples, report.confidence_percent)
        scored = bootstrap.resampled({name: (metric, predictions.statistics(metric))})[name]
        interval, tolerance = bootstrap.interval(scored), float(getattr(gate, metrics.load(metric).tolerance))
        judged[name] = {
            "metric": metric,
            "value": scored.value,
            "low": interval.low,
            "high": interval.high,
            "published": figure.value,
            "tolerance": tolerance,
            "verdict": _verdict(scored.value - figure.value, tolerance, figure),
        }
    return judged


def message(name: str, fact: Row) -> str:
    """What the console shows of one set."""
    ends = f" [{fact['low']:.1f}, {fact['high']:.1f}]" if fact["low"] is not None else ""
    off = {"pass": "within", "warn": "a warning: further off than", "stop": "further off than"}[fact["verdict"]]
    ours = f"{fact['metric']} {fact['value']:.2f}{ends}"
    return f"{name}: {ours}, published {fact['published']:g}: {off} {fact['tolerance']:g} points"


def _verdict(off: float, limit: float, figure: Figure) -> Literal["pass", "warn", "stop"]:
    if round(abs(off), 6) <= limit:
        return "pass"
    return "stop" if figure.stops else "warn"


if __name__ == "__main__":
    raise SystemExit(main())
