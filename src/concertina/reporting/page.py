"""The page: the findings, arranged for the template, which escapes every text that the project did not write."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from concertina import corpora
from concertina.config import Config
from concertina.config.values import POSITIONS, UNCOMPRESSED, Cell
from concertina.reporting import browser, conditions, figures, findings, parts, prose
from concertina.reporting.board import Board
from concertina.reporting.browser import Example
from concertina.reporting.evidence import Evidence, Training
from concertina.reporting.findings import Kinds, Row, Transfer
from concertina.reporting.prose import Table
from concertina.reporting.provenance import Provenance

TEMPLATES = Path(__file__).parent / "templates"
TAGS = {"kind": "kind", "snr_db": "signal-to-noise ratio in dB"}
NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
BROWSER_NOTE = (
    "Utterances on which a cell's score differs most from the uncompressed one's, taken from each cell in turn."
)


@dataclass(frozen=True)
class Look:
    """How a cell is drawn: its compressor's `colour`, from 0 (None: uncompressed); `first`: its compressor's first."""

    colour: int | None
    first: bool


@dataclass(frozen=True)
class MainTable:
    """One test set's main table; `top`: the end of its drawings' axis; `others`: the names of its further figures."""

    board: Board
    rows: tuple[Row, ...]
    top: float
    others: tuple[str, ...]


@dataclass(frozen=True)
class Tagged:
    """Scores by the values of a tag; `by`: the tag as the reader sees it."""

    kinds: Kinds
    by: str


@dataclass(frozen=True)
class Examples:
    """The predictions that are shown of one test set."""

    board: Board
    condition: str
    examples: tuple[Example, ...]


def render(
    config: Config,
    grid: Sequence[Cell],
    evidence: Evidence,
    tables: Sequence[Table],
    headlines: Sequence[str],
    texts: Sequence[parts.Table],
    provenance: Provenance,
    run_key: str,
    partial: bool = False,
) -> str:
    """Render the report as one HTML file. `headlines`: the findings in brief; `texts`: tables of texts."""
    train_set, boards = config.train.sets[0].name, [table.board for table in tables]
    looks = _looks(grid)
    values = {
        "title": config.report.title,
        "name": config.name,
        "run_key": run_key,
        "base": config.base,
        "provenance": provenance,
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "look": looks,
        "train_set": train_set if provenance.seeds else None,
        "several_seeds": len(provenance.seeds) > 1,
        "confidence": f"{config.report.confidence_percent:g}",
        "headlines": headlines,
        "texts": texts,
        "sets": [_main_table(table) for table in tables],
        "failures": evidence.failures,
        "partial": prose.PARTIAL if partial else "",
        "contrasts": [table for table in tables if table.contrasts],
        "natural": [row for board in boards for row in findings.natural_rates(board, grid, train_set)],
        "kinds": [view for board in boards for view in _kinds(board, grid, train_set)],
        "transfer": _transfer(boards, grid, [each.name for each in config.train.sets]),
        "positions": POSITIONS.get(_first(grid), ""),
        "figures": {
            "quality": _quality(first_positions(tables, grid), looks),
            "positions": _quality(of_pivot(tables, grid), looks)
            if len({cell.positions for cell in grid} - {""}) > 1
            else "",
            "training": _training(evidence.trainings, train_set, looks),
        },
        "trainings": evidence.trainings,
        "datasets": evidence.datasets,
        "parts": parts.collect("table", evidence.parts, config),
        "conditions": parts.sentences("sentences", evidence.parts, config)
        + conditions.conditions(
            tables, provenance.seeds, config.base.model, _synthetic(config), config.evaluate.skipped
        ),
        "browser": [view for b in boards if (view := _examples(b, grid, train_set, config.report.examples)).examples],
        "browser_note": BROWSER_NOTE,
        "config_yaml": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100),
    }
    return _environment().get_template("report.html.j2").render(values)


def _looks(grid: Sequence[Cell]) -> dict[Cell, Look]:
    names = list(dict.fromkeys((cell.compressor, cell.positions) for cell in grid if cell != UNCOMPRESSED))
    looks = {}
    for before, cell in zip([None, *grid], grid, strict=False):
        colour = None if cell == UNCOMPRESSED else names.index((cell.compressor, cell.positions))
        looks[cell] = Look(colour, before is None or before.compressor != cell.compressor)
    return looks


def _synthetic(config: Config) -> list[str]:
    """Return the names of the test sets with synthetic speech."""
    sets = config.evaluate.sets
    return [test_set.name for test_set in sets if corpora.is_synthetic(config.corpus(test_set.corpus))]


def picture(tables: Sequence[Table], grid: Sequence[Cell]) -> str:
    """Draw the figure of quality against rate as an SVG file of its own, in the page's light colours."""
    return figures.alone(_quality(tables, _looks(grid)), (TEMPLATES / "report.css").read_text(encoding="utf-8"))


def first_positions(tables: Sequence[Table], grid: Sequence[Cell]) -> list[Table]:
    """Return the tables with the uncompressed cell, and of the others those with the positions that come first."""
    shown = ("", _first(grid))
    return [replace(table, rows=tuple(row for row in table.rows if row.cell.positions in shown)) for table in tables]


def _first(grid: Sequence[Cell]) -> str:
    return next((cell.positions for cell in grid if cell.positions), "")


def of_pivot(tables: Sequence[Table], grid: Sequence[Cell]) -> list[Table]:
    """Return the tables with the uncompressed cell and the pivot's cells alone: one compressor under its positions."""
    names = (UNCOMPRESSED.compressor, findings.pivot_of(grid))
    return [replace(table, rows=tuple(row for row in table.rows if row.cell.compressor in names)) for table in tables]


def clean(text: object) -> str:
    """Replace control characters, which HTML cannot contain, by U+FFFD."""
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
    return environment


def _arrow(pair: tuple[float | None, float | None]) -> str:
    before, after = ("–" if value is None else f"{value:.1f}".removesuffix(".0") for value in pair)
    return f"{before} → {after}"


def _main_table(table: Table) -> MainTable:
    intervals = [interval for row in table.rows for interval in (row.zero_shot, row.adapted) if interval]
    ends = [end for interval in intervals for end in (interval.value, interval.high) if end is not None]
    return MainTable(
        table.board,
        table.rows,
        top=max([*ends, 1e-9]),
        others=tuple(name for name, _ in findings.other_figures(table.board)),
    )


def _kinds(board: Board, grid: Sequence[Cell], train_set: str) -> list[Tagged]:
    views = [(findings.kinds(board, grid, train_set, tag), label) for tag, label in TAGS.items()]
    return [Tagged(view, label) for view, label in views if view]


def _transfer(boards: Sequence[Board], grid: Sequence[Cell], train_sets: Sequence[str]) -> list[Transfer]:
    return [findings.transfer(board, grid, train_sets) for board in boards] if len(train_sets) > 1 else []


def _examples(board: Board, grid: Sequence[Cell], train_set: str, count: int) -> Examples:
    condition = "adapted" if findings.condition_of(board, train_set) else "zero-shot"
    return Examples(board, condition, tuple(browser.examples(board, grid, train_set, count)))


def _quality(tables: Sequence[Table], looks: Mapping[Cell, Look]) -> Markup:
    """Draw the figure of quality against rate; a natural rate is a mark of its own."""
    panels = []
    for table in tables:
        board, lines = table.board, []
        names = dict.fromkeys(_line(row.cell) for row in table.rows)
        for adapted in (False, True):
            for name in names:
                rows = [row for row in table.rows if _line(row.cell) == name]
                points = [point for row in rows if (point := _point(row, adapted))]
                if points:
                    compressor, natural, positions = name
                    words = [compressor, "natural rate" if natural else "", POSITIONS.get(positions, "")]
                    label = ", ".join(filter(None, words))
                    points.sort(key=lambda point: point.tokens_per_second)
                    colour = looks[rows[0].cell].colour
                    lines.append(figures.Line(label, colour, adapted, tuple(points), natural))
        metric = board.metric
        panels.append(figures.Panel(board.title, metric.heading, metric.higher_is_better, tuple(lines)))
    return Markup(figures.quality(panels)) if panels else Markup("")


def _line(cell: Cell) -> tuple[str, bool, str]:
    """Return what the points of one line of the figure share: compressor, natural rate or not, positions."""
    return cell.compressor, cell.ratio.natural, cell.positions


def _point(row: Row, adapted: bool) -> figures.Point | None:
    score = row.adapted if adapted else row.zero_shot
    if score is None or score.value is None:
        return None
    return figures.Point(row.rate.mean, score.value, score.low, score.high)


def _training(trainings: Sequence[Training], train_set: str, looks: Mapping[Cell, Look]) -> Markup:
    ours: dict[Cell, list[Training]] = {}
    for training in trainings:
        if training.train_set == train_set:
            ours.setdefault(training.cell, []).append(training)
    curves = [
        figures.Curve(
            cell.title, looks[cell].colour, tuple(t.losses for t in seeds), tuple(t.dev_losses for t in seeds)
        )
        for cell, seeds in ours.items()
    ]
    return Markup(figures.training(curves)) if curves else Markup("")
