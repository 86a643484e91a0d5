"""The report stage shows every record of a config as a page, a tidy table, Markdown tables and a console summary.

INPUTS: results/<name>/evaluate/ and, where they are on this machine, build/<name>/train/ and build/<name>/data/.
OUTPUTS: results/<name>/report/ with scores.csv, report.html, metrics.json, quality.svg, headline.md, table.md and
summary.txt; the first two are also copied to results/<name>/.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from concertina import console
from concertina.artefacts import dag, stage
from concertina.config import DEFAULT, Cell, Config, load
from concertina.reporting import evidence, findings, page, parts, prose, provenance, readme, scores
from concertina.reporting.board import Board
from concertina.reporting.evidence import Evidence
from concertina.reporting.prose import Table
from concertina.reporting.statistics import Bootstrap
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
    print((folder / "summary.txt").read_text(encoding="utf-8"), end="")
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
    grid = config.cells
    bootstraps = scores.bootstraps(facts.results, config.report.bootstrap_samples, config.report.confidence_percent)
    tables = _tables(config, grid, facts, bootstraps)
    origin = provenance.of(config, config_path, facts.results)
    train_sets, caption = [each.name for each in config.train.sets], provenance.caption(config, tables, origin)
    caption = " ".join([caption, *prose.took(facts), *parts.sentences("caption", facts.parts, config)])
    page_path = str(run.artefact.folder.parent / "report.html")
    failures, skipped = len(facts.failures), config.evaluate.skipped
    return {
        "scores.csv": scores.text(scores.rows(config.name, facts.results, bootstraps)),
        "report.html": page.render(config, grid, facts, tables, origin, run.run_key, partial),
        "quality.svg": page.picture(tables, grid),
        "headline.md": readme.headline(tables, grid, provenance.headline_caption(config, tables, origin)),
        "table.md": readme.markdown(tables, grid, train_sets, caption),
        "summary.txt": prose.summary(config.name, tables, failures, skipped, page_path, partial),
    }


def _tables(config: Config, grid: Sequence[Cell], facts: Evidence, bootstraps: Mapping[str, Bootstrap]) -> list[Table]:
    """Return the board, main table and contrasts of each test set that has a result."""
    failed = {failure.cell: f"{failure.stage} failed: {failure.error}" for failure in facts.failures}
    train_set = config.train.sets[0].name  # the main table's
    tables = []
    for test_set in config.evaluate.sets:
        if results := [result for result in facts.results if result.record.test_set == test_set.name]:
            board = Board(test_set, results, bootstraps[test_set.name], config.evaluate.metrics[test_set.task])
            own = [cell for cell in grid if test_set in config.test_sets(cell)]
            rows = findings.main_rows(board, own, train_set, failed)
            tables.append(Table(board, tuple(rows), tuple(findings.contrasts(board, own, train_set))))
    return tables


if __name__ == "__main__":
    raise SystemExit(main())
