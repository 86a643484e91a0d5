"""The page: what was found, laid out for the template; every text that others wrote is escaped there."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from concertina.config import Config
from concertina.reporting import browser, figures, findings, prose
from concertina.reporting.board import Board, Cell, excludes_zero
from concertina.reporting.evidence import Evidence, Training
from concertina.reporting.prose import Table

TEMPLATES = Path(__file__).parent / "templates"
TAGS = {"kind": "kind", "snr_db": "signal-to-noise ratio in dB"}
NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
BROWSER_NOTE = (
    "Utterances on which a cell's score differs most from the uncompressed one's, the cells choosing in turn."
)


def render(
    config: Config,
    grid: Sequence[Cell],
    found: Evidence,
    tables: Sequence[Table],
    provenance: dict[str, Any],
    run_key: str,
    partial: bool = False,
) -> str:
    """The report as one HTML file. `provenance`: commits, dates, command, versions, devices, signatures, byline."""
    train_set, boards = config.train.sets[0].name, [table.board for table in tables]
    seeds = sorted({r.record.seed for r in found.results if r.record.seed is not None})
    synthetic = any(corpus.kind == "synthetic" for corpus in config.data.corpora)
    values = {
        "title": config.report.title,
        "name": config.name,
        "run_key": run_key,
        "base": config.base,
        "provenance": provenance,
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "train_set": train_set if seeds else None,
        "several_seeds": len(seeds) > 1,
        "confidence": f"{config.report.confidence_percent:g}",
        "headlines": prose.headlines(tables, grid),
        "sets": [_main_table(table) for table in tables],
        "failures": found.failures,
        "partial": prose.PARTIAL if partial else "",
        "contrasts": [_named(t.board, rows=t.contrasts) for t in tables if t.contrasts],
        "natural": [row for board in boards for row in findings.natural_rates(board, grid, train_set)],
        "kinds": [view for board in boards for view in _kinds(board, grid, train_set)],
        "transfer": _transfer(boards, grid, [chosen.name for chosen in config.train.sets]),
        "figures": {"quality": _quality(tables), "training": _training(found.trainings, train_set)},
        "trainings": found.trainings,
        "datasets": found.datasets,
        "conditions": prose.gate(found.gate)
        + prose.whisper(found.whisper, config.evaluate.metrics.get("transcribe", []))
        + prose.conditions(tables, seeds, config.base.model, synthetic, config.evaluate.skipped),
        "browser": [
            view for b in boards if (view := _examples(b, grid, train_set, config.report.examples))["examples"]
        ],
        "browser_note": BROWSER_NOTE,
        "config_yaml": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100),
    }
    return _environment().get_template("report.html.j2").render(values)


def picture(tables: Sequence[Table]) -> str:
    """The figure of quality against rate as an SVG file of its own, in the page's light colours."""
    return figures.alone(_quality(tables), (TEMPLATES / "report.css").read_text(encoding="utf-8"))


def clean(text: object) -> str:
    """Text without control characters, which HTML cannot hold; each becomes U+FFFD."""
    return NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", str(text))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": prose.number,
        "signed": prose.signed,
        "percent": prose.percent,
        "clean": clean,
        "share": lambda value, top: f"{min(max(100 * value / top, 0), 100):.2f}%",
        "arrow": _arrow,
    }
    environment.globals["excludes_zero"] = excludes_zero
    return environment


def _arrow(pair: tuple[float | None, float | None]) -> str:
    before, after = ("–" if value is None else f"{value:.1f}".removesuffix(".0") for value in pair)
    return f"{before} → {after}"


def _named(board: Board, **more: Any) -> dict[str, Any]:
    return {
        "name": board.name,
        "title": board.title,
        "metric": board.metric,
        "n_utterances": board.n_utterances,
        **more,
    }


def _main_table(table: Table) -> dict[str, Any]:
    intervals = [interval for row in table.rows for interval in (row.zero_shot, row.adapted) if interval]
    ends = [end for interval in intervals for end in (interval.value, interval.high) if end is not None]
    return _named(
        table.board,
        label=table.board.label,
        rows=table.rows,
        top=max([*ends, 1e-9]),
        several_seeds=any(len(row.seeds) > 1 for row in table.rows),
        others=[name for name, _ in findings.other_figures(table.board)],
    )


def _kinds(board: Board, grid: Sequence[Cell], train_set: str) -> list[dict[str, Any]]:
    views = [(findings.kinds(board, grid, train_set, tag), label) for tag, label in TAGS.items()]
    return [{**view, "by": label} for view, label in views if view]


def _transfer(boards: Sequence[Board], grid: Sequence[Cell], train_sets: Sequence[str]) -> list[dict[str, Any]]:
    return [findings.transfer(board, grid, train_sets) for board in boards] if len(train_sets) > 1 else []


def _examples(board: Board, grid: Sequence[Cell], train_set: str, count: int) -> dict[str, Any]:
    condition = "adapted" if any(system[2] == train_set for system in board.runs) else "zero-shot"
    return _named(board, condition=condition, examples=browser.examples(board, grid, train_set, count))


def _quality(tables: Sequence[Table]) -> Markup:
    """The figure of quality against rate; a natural rate is a mark of its own."""
    panels = []
    for table in tables:
        board, lines = table.board, []
        names = dict.fromkeys((row.cell.compressor, row.cell.ratio == "natural") for row in table.rows)
        for adapted in (False, True):
            for compressor, natural in names:
                rows = [
                    r for r in table.rows if (r.cell.compressor, r.cell.ratio == "natural") == (compressor, natural)
                ]
                points = [point for row in rows if (point := _point(row, adapted))]
                if points:
                    label = f"{compressor}, natural rate" if natural else compressor
                    points.sort(key=lambda point: point.tokens_per_second)
                    lines.append(figures.Line(label, rows[0].cell.colour, adapted, tuple(points), natural))
        panels.append(figures.Panel(board.title, board.metric.label, board.metric.higher_is_better, tuple(lines)))
    return Markup(figures.quality(panels)) if panels else Markup("")


def _point(row: findings.Row, adapted: bool) -> figures.Point | None:
    score = row.adapted if adapted else row.zero_shot
    if score is None or score.value is None:
        return None
    return figures.Point(row.rate.mean, score.value, score.low, score.high)


def _training(trainings: Sequence[Training], train_set: str) -> Markup:
    ours: dict[Cell, list[Training]] = {}
    for training in trainings:
        if training.train_set == train_set:
            ours.setdefault(training.cell, []).append(training)
    curves = [
        figures.Curve(str(cell), cell.colour, tuple(t.losses for t in seeds), tuple(t.dev_losses for t in seeds))
        for cell, seeds in ours.items()
    ]
    return Markup(figures.training(curves)) if curves else Markup("")
