"""The gate: the uncompressed base, zero-shot, against published figures, before anything is trained.

A figure that is further off than the config allows stops the run (where the published one is sure) or is a warning.

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
from concertina.config import Config, ConfigError, Gate, Section
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


@console.run
def main(argv: list[str] | None = None) -> int:
    """Judge the base; where it is off and nothing overrides it, exit with 1."""
    about = (
        "Decode the gate's test sets, uncompressed and zero-shot, and hold them against published figures. "
        "A reason in the config's gate.override lets the run go on; every result then carries it."
    )
    args = stage.parser("evaluate_gate", about).parse_args(argv)
    config = configs.load(args.config)
    gate = config.gate
    if gate is None:
        raise ConfigError("gate: this config has none")
    with stage.beginning(config, dag.artefact(config, "evaluate_gate"), args) as run:
        figures = {name: figure for name, figure in published(gate).items() if name not in config.evaluate.skipped}
        check_metrics(config, figures)
        units = run.inputs("evaluate_decode")
        from concertina.model import decoding  # imports torch, which an error above need not wait for

        decoding.make_missing(config, units)
        with stage.filling(run):
            for unit in units:
                scoring.score_unit(run, unit)
            judged = judge(config, gate, figures, run.folder)
            for name, fact in judged.items():
                console.say(message(name, fact))
            stops = [message(name, fact) for name, fact in judged.items() if fact["verdict"] == "stop"]
            if stops and not gate.override:
                raise BaselineError(
                    f"{'; '.join(stops)}. Look at {SUSPECTS}; or set gate.override to the reason why it is right so"
                )
            run.record(judged)
    return 0


def check_metrics(config: Config, figures: dict[str, Figure]) -> None:
    """See that every published figure's metric is scored here. Errors: ConfigError naming the one that is not."""
    for name, figure in figures.items():
        task = config.test_set(name).task
        if figure.metric not in config.evaluate.metrics.get(task, []):
            raise ConfigError(f"gate.figures.{name}: evaluate.metrics.{task} lacks {figure.metric!r}")


def judge(config: Config, gate: Gate, figures: dict[str, Figure], folder: Path) -> dict[str, Row]:
    """Compare each set's score with its published figure: our value with its interval, the tolerance, the verdict."""
    judged = {}
    for name, figure in figures.items():
        rows = predictions.read(folder / name / "zero-shot.parquet")
        report, metric = config.report, figure.metric
        bootstrap = Bootstrap(rows["speaker"], report.bootstrap_samples, report.confidence_percent)
        scored = bootstrap.resampled({name: (metric, rows.statistics(metric))})[name]
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
