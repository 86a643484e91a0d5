"""Report: every record of the config's cells as one page, one tidy table, one README table and one console summary.

INPUTS: results/<name>/evaluate/, and where they are on this machine build/<name>/train/ and build/<name>/data/.
OUTPUTS: results/<name>/report/ with scores.csv, report.html, metrics.json, quality.svg, table.md and summary.txt; the
first two are also copied to results/<name>/.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from concertina import console
from concertina.artefacts import keys, layout
from concertina.config import DEFAULT, Config, load
from concertina.reporting import evidence, findings, page, prose, readme, scores
from concertina.reporting.board import Board, Cell, cells
from concertina.reporting.prose import Table
from concertina.store import sealing


@console.run
def main(argv: list[str] | None = None) -> int:
    """Make the report of a config and print its summary."""
    parser = argparse.ArgumentParser(prog="python -m concertina.report", description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, default=DEFAULT, help="config.yaml, or an overlay over it")
    parser.add_argument("--partial", action="store_true", help="also when cells have no result yet: they are told")
    arguments = parser.parse_args(argv)
    folder = make(load(arguments.config), arguments.config, arguments.partial)
    print((folder / "summary.txt").read_text(encoding="utf-8"), end="")
    return 0


def make(config: Config, config_path: Path = DEFAULT, partial: bool = False) -> Path:
    """Write the sealed report folder and the two copies; the same records give the same bytes.

    Errors: DamagedError naming what is missing or altered.
    """
    found = evidence.read(config, partial)
    grid = cells(config)
    tables = _tables(config, grid, found)
    run_key = keys.run_key(keys.report(config), found.inputs)
    folder = layout.report(config.name)
    copy = folder.parent / "report.html"
    facts = _provenance(config, config_path, found)
    with sealing.sealed(folder, {"run_key": run_key}) as temporary:
        samples, percent = config.report.bootstrap_samples, config.report.confidence_percent
        scores.write(temporary / "scores.csv", scores.rows(found.results, samples, percent))
        html = page.render(config, grid, found, tables, facts, run_key, partial)
        (temporary / "report.html").write_text(html, encoding="utf-8", newline="\n")
        sealing.write_json(temporary / "metrics.json", scores.nested(found.results))
        (temporary / "quality.svg").write_text(page.picture(tables), encoding="utf-8", newline="\n")
        train_sets, caption = [chosen.name for chosen in config.train.sets], _caption(config, tables, facts)
        whisper = prose.whisper(found.whisper, config.evaluate.metrics.get("transcribe", []))
        caption = " ".join([caption, *prose.took(found), *whisper])
        (temporary / "table.md").write_text(readme.markdown(tables, grid, train_sets, caption), encoding="utf-8")
        summary = prose.summary(config.name, tables, len(found.failures), config.evaluate.skipped, str(copy), partial)
        (temporary / "summary.txt").write_text(summary, encoding="utf-8")
    for name in ("scores.csv", "report.html"):
        _copy(folder / name, folder.parent / name)
    return folder


def _tables(config: Config, grid: Sequence[Cell], found: evidence.Evidence) -> list[Table]:
    """The board, main table and contrasts of each test set that has a result."""
    failed = {(f.compressor, f.ratio): f"{f.stage} failed: {f.error}" for f in found.failures}
    train_set = config.train.sets[0].name  # the main table's
    tables = []
    for test_set in config.evaluate.sets:
        if results := [result for result in found.results if result.record.test_set == test_set.name]:
            board = Board(test_set, results, config)
            own = [cell for cell in grid if test_set in config.test_sets(cell.compressor, cell.ratio)]
            rows = findings.main_rows(board, own, train_set, failed)
            tables.append(Table(board, tuple(rows), tuple(findings.contrasts(board, own, train_set))))
    return tables


def _provenance(config: Config, config_path: Path, found: evidence.Evidence) -> dict[str, Any]:
    """What made the numbers: from the records alone, so that the page does not depend on where it is made."""
    made = [result.record for result in found.results]
    commits = list(dict.fromkeys(r.commit for r in made)) or ["unknown"]
    dates = sorted({r.date for r in made if r.date})
    period = " to ".join(dict.fromkeys([*dates[:1], *dates[-1:]]))
    seeds = sorted({r.seed for r in made if r.seed is not None})
    overlay = "" if config_path.resolve() == DEFAULT.resolve() else f" CONFIG={config_path.as_posix()}"
    byline = [
        f"commit {commits[0][:12]}",
        period,
        _count(len(config.cells), "cell"),
        _count(len({r.test_set for r in made}), "test set"),
        _count(len(seeds), "seed") if seeds else "zero-shot only",
    ]
    return {
        "commits": commits,
        "checkout": "" if commits[0] == "unknown" else f"git checkout {commits[0].removesuffix('-dirty')}\n",
        "dates": period,
        "command": f"make reproduce{overlay}",
        "versions": ", ".join(sorted({f"{name} {version}" for r in made for name, version in r.versions.items()})),
        "devices": sorted({r.device for r in made}),
        "signatures": sorted({f"{metric}: {scored.signature}" for r in made for metric, scored in r.scores.items()}),
        "seeds": seeds,
        "byline": " · ".join(part for part in byline if part),
    }


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _caption(config: Config, tables: Sequence[Table], facts: dict[str, Any]) -> str:
    """What made the README's table, in one line."""
    shown = tables[: readme.WIDEST]
    date = f" on {facts['dates']}" if facts["dates"] else ""
    utterances = ", ".join(f"{table.board.name} {table.board.n_utterances}" for table in shown) or "none"
    seeds = ", ".join(map(str, facts["seeds"])) or "none"
    seeds += " (of a cell with several, pooled)" if len(facts["seeds"]) > 1 else ""
    labels = ", ".join(dict.fromkeys(table.board.label for table in shown))
    return " ".join(
        [
            f"Made by `{facts['command']}` at commit `{', '.join(facts['commits'])}`{date}, "
            f"on {', '.join(facts['devices']) or 'no device'}: another kind of machine rounds otherwise.",
            f"Utterances: {utterances}; LoRA seeds: {seeds};",
            f"brackets: {config.report.confidence_percent:g} % bootstrap intervals{f', {labels}' if labels else ''}.",
            "Recovery: share of the zero-shot loss won back, against adapted `none`.",
        ]
    )


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
