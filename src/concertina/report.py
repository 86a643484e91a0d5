"""The report stage shows every record of a config as a page, a tidy table, Markdown tables and a console summary.

INPUTS: results/<name>/evaluate/ and, where they are on this machine, build/<name>/train/ and build/<name>/data/.
OUTPUTS: results/<name>/report/ with scores.csv, report.html, claims.json, metrics.json, quality.svg, headline.md,
table.md and summary.txt; the first two are also copied to results/<name>/.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from concertina import console
from concertina.artefacts import dag, stage
from concertina.config import DEFAULT, Cell, Config, claims, load
from concertina.reporting import (
    conditions,
    evidence,
    findings,
    losses,
    page,
    parts,
    prose,
    provenance,
    readme,
    scores,
    verdicts,
)
from concertina.reporting import tables as text_tables
from concertina.reporting.board import Board
from concertina.reporting.evidence import Evidence
from concertina.reporting.prose import Table
from concertina.reporting.statistics import Bootstrap
from concertina.reporting.verdicts import Judged
from concertina.store import sealing

COPIES = ("scores.csv", "report.html")  # also copied to results/<name>/


@console.substeps({"track": "concertina.tracking.replay"})
@console.run
def main(argv: list[str] | None = None) -> int:
    """Make the report of a config and print its summary."""
    command_line = stage.parser("report", __doc__.split("\n")[0])
    command_line.add_argument(
        "--partial", action="store_true", help="make it although cells have no result yet; they are listed"
    )
    args = command_line.parse_args(argv)
    folder = make(load(args.config), args.config, args.partial)
    console.write((folder / "summary.txt").read_text(encoding="utf-8"), sys.stdout)
    return 0


def make(config: Config, config_path: Path = DEFAULT, partial: bool = False) -> Path:
    """Write the sealed report folder and the two copies, and return the folder. The same records give the same bytes.

    Errors: DamagedError naming what is missing or altered.
    """
    artefact = dag.artefact(config, "report")
    with stage.beginning(config, artefact) as run:
        facts = evidence.read(config, partial)
        with stage.filling(run, facts.inputs):
            sealing.write_json(run.folder / "metrics.json", scores.nested(facts.results))
            for name, text in _texts(config, config_path, partial, facts, run).items():
                (run.folder / name).write_text(text, encoding="utf-8", newline="\n")
    for name in COPIES:
        with sealing.replacing(artefact.folder.parent / name) as temporary:
            shutil.copyfile(artefact.folder / name, temporary)
    return artefact.folder


def _texts(config: Config, config_path: Path, partial: bool, facts: Evidence, run: stage.Run) -> dict[str, str]:
    """Write the text of every file of the report, by name."""
    grid, bench = config.cells, config.report.bench
    bootstraps = scores.bootstraps(facts.results, config.report.bootstrap_samples, config.report.confidence_percent)
    boards = _boards(config, facts, bootstraps)
    judged = verdicts.judge(config, claims.read(Path(config.report.claims)), list(boards.values()))
    tables = _tables(config, grid, facts, boards, judged)
    figures = claims.read_table(Path(config.report.paper_table))
    beside = text_tables.paper(figures, list(boards.values()), config.train.sets[0].name)
    texts = [*text_tables.claims(judged, bench), *beside]
    at_one, at_all = (text_tables.losses(tables, ratio) for ratio in (prose.meeting_ratio(grid), None))
    origin = provenance.of(config, config_path, facts.results)
    train_sets, caption = [each.name for each in config.train.sets], provenance.caption(config, tables, origin)
    caption = " ".join([caption, *conditions.took(facts), *parts.sentences("caption", facts.parts, config)])
    page_path = str(run.artefact.folder.parent / "report.html")
    failures, skipped = len(facts.failures), config.evaluate.skipped
    brief, counts = prose.headlines(tables, grid, judged, bench), prose.verdict_sentence(judged, bench)
    return {
        "scores.csv": scores.text(scores.rows(config.name, facts.results, bootstraps)),
        "claims.json": verdicts.text(judged),
        "report.html": page.render(config, grid, facts, tables, brief, [*at_all, *texts], origin, run.run_key, partial),
        "quality.svg": page.picture(page.first_positions(tables, grid), grid),
        "positions.svg": page.picture(page.of_pivot(tables, grid), grid),
        "headline.md": readme.headline(tables, grid, provenance.headline_caption(config, tables, origin)),
        "positions.md": readme.written(at_one),
        "table.md": readme.markdown(tables, grid, train_sets, caption, brief, [*at_one, *texts]),
        "summary.txt": prose.summary(config.name, tables, counts, failures, skipped, page_path, partial),
    }


def _boards(config: Config, facts: Evidence, bootstraps: Mapping[str, Bootstrap]) -> dict[str, Board]:
    """Return the board of each test set that has a result, by name, in the config's order."""
    boards = {}
    for test_set in config.evaluate.sets:
        if results := [result for result in facts.results if result.record.test_set == test_set.name]:
            metrics = config.evaluate.metrics[test_set.task]
            boards[test_set.name] = Board(test_set, results, bootstraps[test_set.name], metrics)
    return boards


def _tables(
    config: Config, grid: Sequence[Cell], facts: Evidence, boards: Mapping[str, Board], judged: Sequence[Judged]
) -> list[Table]:
    """Return the main table, the contrasts and the parts of the losses of each test set that has a result."""
    failed = {failure.cell: f"{failure.stage} failed: {failure.error}" for failure in facts.failures}
    train_set = config.train.sets[0].name  # the main table's
    tables = []
    for name, board in boards.items():
        own = [cell for cell in grid if config.test_set(name) in config.test_sets(cell)]
        rows = findings.main_rows(board, own, train_set, failed)
        contrasts = findings.contrasts(board, own, train_set, judged)
        tables.append(Table(board, tuple(rows), tuple(contrasts), tuple(losses.splits(board, own, train_set))))
    return tables


if __name__ == "__main__":
    raise SystemExit(main())
