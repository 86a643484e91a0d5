"""The tables of the documentation, in Markdown: every table of a track, and the small one of the README."""

from collections.abc import Sequence

from concertina.config.values import UNCOMPRESSED, Cell
from concertina.reporting import findings
from concertina.reporting.board import Board
from concertina.reporting.findings import Row
from concertina.reporting.prose import Table, bounds, headlines, meeting_ratio, number, recovered, signed

WIDEST = 3  # test sets in a table; a wider one does not fit a page


def headline(tables: Sequence[Table], grid: Sequence[Cell], caption: str) -> str:
    """Write the README's table: the first test set, uncompressed and at the ratio that most compressors share."""
    if not tables:
        return f"{caption}\n"
    table, shown = tables[0], _met(grid)
    metric = f"{_title(table.board)}, "
    heads = ["cell", "audio tokens per second", f"{metric}zero-shot", f"{metric}adapted"]
    heads.append("difference from uncompressed, adapted")
    rows = []
    for row in (table.row(cell) for cell in shown):
        zero_shot, adapted, _ = _scores(row)
        difference = "reference" if row.is_reference else "–"
        if row.difference and not row.is_reference:
            difference = f"{signed(row.difference.value)}{bounds(row.difference, signed)}"
        rows.append([row.cell.name, number(row.rate.mean if row.rate else None), zero_shot, adapted, difference])
    return f"{_table(heads, rows)}\n\n{caption}\n"


def markdown(tables: Sequence[Table], grid: Sequence[Cell], train_sets: Sequence[str], caption: str) -> str:
    """Write every table of a track, and its findings. `train_sets`: the main tables' first, then the others."""
    shown = _met(grid)
    parts = [_main(tables[:WIDEST]), caption, "\n".join(f"- {escape(text)}" for text in headlines(tables, grid))]
    if len(tables) > WIDEST:
        parts += [f"The other test sets, at {meeting_ratio(grid)} frames per token, adapted:"]
        parts += [_others(tables[WIDEST:], shown)]
    pivot = [cell for cell in shown if cell.compressor == findings.pivot_of(grid)]
    if len(train_sets) > 1 and pivot:
        parts += [f"Transfer, {pivot[0].title}: adapters of each training set, on every test set:"]
        parts += [_transfer([table.board for table in tables], pivot, train_sets)]
    return "\n\n".join(parts) + "\n"


def _met(grid: Sequence[Cell]) -> list[Cell]:
    """Return the uncompressed cell, and those at the ratio that most compressors share."""
    ratio = meeting_ratio(grid)
    return [cell for cell in grid if cell == UNCOMPRESSED or cell.ratio == ratio]


def _main(tables: Sequence[Table]) -> str:
    """Write a row per cell: per test set zero-shot, then adapted and recovery with their intervals."""
    heads = ["compressor", "ratio", "realised", "tokens/s"]
    heads += [f"{_title(t.board)}<br>{shown}" for t in tables for shown in ("zero-shot", "adapted", "recovery")]
    rows = []
    for row in tables[0].rows if tables else ():
        rate = number(row.rate.mean if row.rate else None)
        fields = [row.cell.compressor, str(row.cell.ratio), number(row.realised_ratio, 2), rate]
        rows.append(fields + [field for table in tables for field in _scores(table.row(row.cell))])
    return _table(heads, rows)


def _others(tables: Sequence[Table], shown: Sequence[Cell]) -> str:
    """Write a row per test set: the adapted score of each cell, with its interval."""
    rows = []
    for table in tables:
        cells = [table.row(cell) for cell in shown]
        rows.append([_title(table.board), *(_scores(row)[1] for row in cells)])
    return _table(["test set", *(cell.title for cell in shown)], rows)


def _transfer(boards: Sequence[Board], pivot: Sequence[Cell], train_sets: Sequence[str]) -> str:
    """Write a row per test set: zero-shot, then adapted on each training set."""
    rows = []
    for board in boards:
        for row in findings.transfer(board, pivot, train_sets).rows:
            values = [number(one.value) + bounds(one) if one else "–" for one in row.adapted]
            rows.append([_title(board), number(row.zero_shot.value if row.zero_shot else None), *values])
    return _table(["test set", "zero-shot", *train_sets], rows)


def _title(board: Board) -> str:
    return f"{board.name}: {board.metric.heading} {'↑' if board.metric.higher_is_better else '↓'}"


def _scores(row: Row) -> list[str]:
    """Write a row's scores: zero-shot, adapted with its interval, and recovery with its interval."""
    if row.failed:
        return ["failed", "failed", "–"]
    adapted = "–" if row.adapted is None else f"{number(row.adapted.value)}{bounds(row.adapted)}"
    recovery = "reference" if row.is_reference else recovered(row.recovery)
    return [number(row.zero_shot.value if row.zero_shot else None), adapted, recovery]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|:--" + "|--:" * (len(heads) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(escape, fields)) + " |" for fields in rows)])


def escape(text: str) -> str:
    """Escape text so that it cannot end a cell, start a tag or open a link."""
    for mark, harmless in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "\\|"),
        ("`", "'"),
        ("\n", " "),
        ("](", "] ("),
    ):
        text = text.replace(mark, harmless)
    return text
