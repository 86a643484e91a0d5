"""The tables of the documentation, in Markdown: every table of a track, and the small one of the README."""

from collections.abc import Sequence

from concertina.config.values import UNCOMPRESSED, Cell
from concertina.reporting import findings
from concertina.reporting.board import Board
from concertina.reporting.findings import Row
from concertina.reporting.parts import Table as TextTable
from concertina.reporting.prose import Table, bounds, meeting_ratio, number, recovered, short
from concertina.reporting.tables import difference

WIDEST = 3  # test sets with a table of their own
HEADS = ["tokens/s", "zero-shot", "adapted", "− zero-shot none", "− adapted none", "recovery"]


def headline(tables: Sequence[Table], grid: Sequence[Cell], caption: str) -> str:
    """Write the README's table: the first test set, uncompressed and at the ratio that most cells share."""
    if not tables:
        return f"{caption}\n"
    table = tables[0]
    rows = [[row.cell.name, *_fields(row)] for row in (table.row(cell) for cell in _met(grid))]
    return f"{_title(table.board)}\n\n{_table(['cell', *HEADS], rows)}\n\n{caption}\n"


def markdown(
    tables: Sequence[Table], grid: Sequence[Cell], train_sets: Sequence[str], caption: str, headlines: Sequence[str],
    texts: Sequence[TextTable],
) -> str:  # fmt: skip
    """Write every table of a track, and its findings. `train_sets`: the main tables' first, then the others."""
    shown = _met(grid)
    parts = [
        part for table in tables[:WIDEST] for part in (f"**{_title(table.board)}**", _main(table), *_curves(table))
    ]
    parts += [caption, "\n".join(f"- {escape(text)}" for text in headlines)]
    parts += [written([text]).rstrip("\n") for text in texts]
    if len(tables) > WIDEST:
        parts += [f"The other test sets, at {meeting_ratio(grid)} frames per token, adapted:"]
        parts += [_others(tables[WIDEST:], shown)]
    pivot = [cell for cell in shown if cell.compressor == findings.pivot_of(grid)]
    if len(train_sets) > 1 and pivot:
        parts += [f"Transfer, {pivot[0].title}: adapters of each training set, on every test set:"]
        parts += [_transfer([table.board for table in tables], pivot, train_sets)]
    return "\n\n".join(parts) + "\n"


def written(texts: Sequence[TextTable]) -> str:
    """Write tables of texts, each with its note above it."""
    tables = (f"**{one.title}.** {escape(one.note)}\n\n{_table(one.columns, one.rows, ':--')}\n" for one in texts)
    return "\n".join(tables)


def _met(grid: Sequence[Cell]) -> list[Cell]:
    """Return the uncompressed cell, and those at the ratio that most compressors share."""
    ratio = meeting_ratio(grid)
    return [cell for cell in grid if cell == UNCOMPRESSED or cell.ratio == ratio]


def _main(table: Table) -> str:
    """Write a row per cell of one test set: of every cell that has an adapter, or of all where none has."""
    rows = []
    for row in (row for row in table.rows if row.adapted or row.failed or not _any_adapted(table)):
        cell = [row.cell.compressor, str(row.cell.ratio), row.cell.positions or "–", number(row.realised_ratio, 2)]
        rows.append([*cell, *_fields(row)])
    return _table(["compressor", "ratio", "positions", "realised", *HEADS], rows)


def _curves(table: Table) -> list[str]:
    """Write the zero-shot scores by ratio, a row per compressor and positions; nothing where the main table has all."""
    if not _any_adapted(table) or all(row.adapted for row in table.rows):
        return []
    ratios = sorted({row.cell.ratio for row in table.rows})
    lines = dict.fromkeys(short(row.cell) for row in table.rows)
    scores = {(short(row.cell), row.cell.ratio): row.zero_shot for row in table.rows}
    rows = [
        [line, *(number(s.value) if (s := scores.get((line, ratio))) else "" for ratio in ratios)] for line in lines
    ]
    heads = [f"{table.board.name}, zero-shot, at a ratio of", *map(str, ratios)]
    return [_table(heads, rows)]


def _any_adapted(table: Table) -> bool:
    return any(row.adapted for row in table.rows)


def _fields(row: Row) -> list[str]:
    """Write what the tables show of a row: see HEADS."""
    if row.failed:
        return ["–", "failed", "failed", "–", "–", "–"]
    against = difference(row.difference) if row.difference and not row.is_reference else "–"
    against = "reference" if row.is_reference and row.adapted else against
    base = "reference" if row.is_reference and not row.adapted else difference(row.from_base)
    zero_shot, adapted = number(row.zero_shot.value if row.zero_shot else None), _adapted(row)
    return [number(row.rate.mean if row.rate else None), zero_shot, adapted, base, against, _recovery(row)]


def _adapted(row: Row) -> str:
    return "–" if row.adapted is None else f"{number(row.adapted.value)}{bounds(row.adapted)}"


def _recovery(row: Row) -> str:
    return "reference" if row.is_reference and row.adapted else recovered(row.recovery)


def _others(tables: Sequence[Table], shown: Sequence[Cell]) -> str:
    """Write a row per test set: the adapted score of each cell, with its interval."""
    rows = []
    for table in tables:
        cells = [table.row(cell) for cell in shown]
        rows.append([_title(table.board), *("failed" if row.failed else _adapted(row) for row in cells)])
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


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str = "--:") -> str:
    lines = ["| " + " | ".join(heads) + " |", "|:--" + f"|{align}" * (len(heads) - 1) + "|"]
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
