"""The gate compares the uncompressed base, zero-shot, with published figures before anything is trained.

A difference beyond the config's tolerance stops the run where the published figure is sure, and else is a warning.
Before that it compares the prompts that the config lists: one that is clearly better than the base's own stops too.

INPUTS   build/<name>/features/... and build/<name>/segments/.../none-1 of the gate's sets, the file of figures
OUTPUTS  results/<name>/gate/: each set's record and predictions, as `evaluate` writes them, and record.json
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from concertina import config as configs
from concertina import console, metrics
from concertina.artefacts import dag, stage
from concertina.config import UNCOMPRESSED, Config, ConfigError, Gate, Section
from concertina.config.prompts import COMPARED
from concertina.nearest import nearest
from concertina.reporting import scoring
from concertina.reporting.statistics import Bootstrap
from concertina.store import predictions

Row = dict[str, Any]
SUSPECTS = (
    "the prompt (base.prompts), the version of the audio, the scorer (evaluate.metrics), the precision "
    "(evaluate.precision), the release of transformers, or another checkpoint than the published one"
)


class BaselineError(RuntimeError):
    """The uncompressed base misses a published figure; the message says by how much, and what the cause may be."""


class Figure(Section):
    """A published figure; `stops`: whether missing it stops a run."""

    metric: str
    value: float
    stops: bool


class Published(Section):
    """A file of published figures, by the keys that `gate.figures` uses."""

    model: str
    source: str
    figures: dict[str, Figure]


def published(gate: Gate) -> dict[str, Figure]:
    """Read the figure of each of the gate's sets. Errors: ConfigError naming the file, or the key and the nearest."""
    try:
        file = Published.model_validate(yaml.safe_load(Path(gate.published).read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"gate.published: {gate.published} holds no published figures: {error}") from None
    for test_set, key in gate.figures.items():
        if key not in file.figures:
            near = nearest(key, list(file.figures))
            raise ConfigError(f"gate.figures.{test_set}: {gate.published} has no figure {key!r}{near}")
    return {test_set: file.figures[key] for test_set, key in gate.figures.items()}


@console.run
def main(argv: list[str] | None = None) -> int:
    """Compare the base with the published figures; exit with 1 if it misses one and nothing overrides the gate."""
    about = (
        "Decode the gate's test sets, uncompressed and zero-shot, and compare their scores with published figures. "
        "A reason in the config's gate.override lets the run continue; every result then states it."
    )
    args = stage.parser("evaluate_gate", about).parse_args(argv)
    config = configs.load(args.config)
    gate = config.gate
    if gate is None:
        raise ConfigError("gate: this config has none")
    with stage.beginning(config, dag.artefact(config, "evaluate_gate"), args) as run:
        run.head |= stage.cell_fields(UNCOMPRESSED)  # a failure is told in the row of that cell
        figures = {name: figure for name, figure in published(gate).items() if name not in config.evaluate.skipped}
        check_metrics(config, figures)
        units = run.inputs("evaluate_decode")
        from concertina.checks import prompts  # here, because these import torch, which takes seconds
        from concertina.model import decoding

        tried = prompts.compare(config) if config.trial else {}
        for task, rows in tried.items():
            console.say(prompts.message(task, rows))
            if (best := prompts.better(rows)) and not gate.override:
                raise BaselineError(
                    f"base.prompts.{task}: {best['prompt']!r} is better{prompts.difference(best)}; make it "
                    f"base.prompts.{task} and put the other one into gate.prompts, or set gate.override to the reason "
                    "why the run may continue"
                )
        decoding.make_missing(config, units)
        with stage.filling(run):
            for unit in units:
                scoring.score_unit(run, unit)
            verdicts = judge(config, gate, figures, run.folder)
            for name, fact in verdicts.items():
                console.say(message(name, fact))
            stops = [message(name, fact) for name, fact in verdicts.items() if fact["verdict"] == "stop"]
            if stops and not gate.override:
                raise BaselineError(
                    f"{'; '.join(stops)}. Check {SUSPECTS}; or set gate.override to the reason why the run may continue"
                )
            run.record({**verdicts, **({COMPARED: tried} if tried else {})})
    return 0


def check_metrics(config: Config, figures: dict[str, Figure]) -> None:
    """Check that every published figure's metric is scored here. Errors: ConfigError naming the one that is not."""
    for name, figure in figures.items():
        task = config.test_set(name).task
        if figure.metric not in config.evaluate.metrics.get(task, []):
            raise ConfigError(f"gate.figures.{name}: evaluate.metrics.{task} lacks {figure.metric!r}")


def judge(config: Config, gate: Gate, figures: dict[str, Figure], folder: Path) -> dict[str, Row]:
    """Compare each set's score with its published figure: our value with its interval, the tolerance, the verdict."""
    verdicts = {}
    for name, figure in figures.items():
        rows = predictions.read(folder / name / "zero-shot.parquet")
        report, metric = config.report, figure.metric
        bootstrap = Bootstrap(rows["speaker"], report.bootstrap_samples, report.confidence_percent)
        scored = bootstrap.resampled({name: (metric, rows.statistics(metric))})[name]
        interval, tolerance = bootstrap.interval(scored), float(getattr(gate, metrics.load(metric).tolerance))
        verdicts[name] = {
            "metric": metric,
            "value": scored.value,
            "low": interval.low,
            "high": interval.high,
            "published": figure.value,
            "tolerance": tolerance,
            "verdict": _verdict(scored.value - figure.value, tolerance, figure),
        }
    return verdicts


def message(name: str, fact: Row) -> str:
    """Return the line that the console shows of one set."""
    ends = f" [{fact['low']:.1f}, {fact['high']:.1f}]" if fact["low"] is not None else ""
    words = {"pass": "within", "warn": "a warning: beyond", "stop": "beyond"}[fact["verdict"]]
    ours = f"{fact['metric']} {fact['value']:.2f}{ends}"
    return f"{name}: {ours}, published {fact['published']:g}: {words} the tolerance of {fact['tolerance']:g} points"


def _verdict(difference: float, tolerance: float, figure: Figure) -> Literal["pass", "warn", "stop"]:
    if round(abs(difference), 6) <= tolerance:
        return "pass"
    return "stop" if figure.stops else "warn"


if __name__ == "__main__":
    raise SystemExit(main())
