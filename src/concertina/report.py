"""Report: every record of the config's cells as one page, one tidy table, Markdown tables and one console summary.

INPUTS: results/<name>/evaluate/, and where they are on this machine build/<name>/train/ and build/<name>/data/.
OUTPUTS: results/<name>/report/ with scores.csv, report.html, metrics.json, quality.svg, headline.md, table.md and
summary.txt; the first two are also copied to results/<name>/.
"""

import argparse
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from concertina import console
from concertina.artefacts import keys, layout
from concertina.config import DEFAULT, Config, load
from concertina.config.values import Cell
from concertina.reporting import evidence, findings, page, prose, provenance, readme, scores
from concertina.reporting.board import Board, cells
from concertina.reporting.evidence import Evidence
from concertina.reporting.prose import Table
from concertina.reporting.statistics import Bootstrap
from concertina.store import sealing


@console.run
def main(argv: list[str] | None = None) -> int:
    """Make the report of a config and print its summary."""
    parser = argparse.ArgumentParser(prog="python -m concertina.report", description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, default=DEFAULT, help="config.yaml, or an overlay over it")
    parser.add_argument("--partial", action="store_true", help="also when cells have no result yet: they are listed")
    args = parser.parse_args(argv)
    folder = make(load(args.config), args.config, args.partial)
    print((folder / "summary.txt").read_text(encoding="utf-8"), end="")
    return 0


def make(config: Config, config_path: Path = DEFAULT, partial: bool = False) -> Path:
    """Write the sealed report folder and the two copies; the same records give the same bytes.

    Errors: DamagedError naming what is missing or altered.
    """
    facts = evidence.read(config, partial)
    grid = cells(config)
    bootstraps = scores.bootstraps(facts.results, config.report.bootstrap_samples, config.report.confidence_percent)
    tables = _tables(config, grid, facts, bootstraps)
    made = provenance.of(config, config_path, facts.results)
    run_key = keys.run_key(keys.report(config), facts.inputs)
    folder = layout.report(config.name)
    copy = folder.parent / "report.html"
    train_sets, caption = [each.name for each in config.train.sets], provenance.caption(config, tables, made)
    whisper = prose.whisper(facts.whisper, config.evaluate.metrics.get("transcribe", []))
    caption = " ".join([caption, *prose.took(facts), *whisper])
    texts = {
        "scores.csv": scores.text(scores.rows(config.name, facts.results, bootstraps)),
        "report.html": page.render(config, grid, facts, tables, made, run_key, partial),
        "quality.svg": page.picture(tables, grid),
        "headline.md": readme.headline(tables, grid, provenance.headline_caption(config, tables, made)),
        "table.md": readme.markdown(tables, grid, train_sets, caption),
        "summary.txt": prose.summary(
            config.name, tables, len(facts.failures), config.evaluate.skipped, str(copy), partial
        ),
    }
    with sealing.sealed(folder, {"run_key": run_key}) as temporary:
        sealing.write_json(temporary / "metrics.json", scores.nested(facts.results))
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8", newline="\n")
    for name in ("scores.csv", "report.html"):
        _copy(folder / name, folder.parent / name)
    return folder


def _tables(config: Config, grid: Sequence[Cell], facts: Evidence, bootstraps: Mapping[str, Bootstrap]) -> list[Table]:
    """The board, main table and contrasts of each test set that has a result."""
    failed = {failure.cell: f"{failure.stage} failed: {failure.error}" for failure in facts.failures}
    train_set = config.train.sets[0].name  # the main table's
    tables = []
    for test_set in config.evaluate.sets:
        if results := [result for result in facts.results if result.record.test_set == test_set.name]:
            board = Board(test_set, results, bootstraps[test_set.name], config.evaluate.metrics[test_set.task])
            own = [cell for cell in grid if test_set in config.test_sets(cell.compressor, str(cell.ratio))]
            rows = findings.main_rows(board, own, train_set, failed)
            tables.append(Table(board, tuple(rows), tuple(findings.contrasts(board, own, train_set))))
    return tables


def _copy(source: Path, target: Path) -> None:
    """Copy in one step: a reader sees the old file or the new one."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with sealing.writing(target):
            shutil.copyfile(source, temporary)
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())
