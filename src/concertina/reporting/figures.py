"""Figures as inline SVG: the same bytes for the same numbers, in colours that the page sets by CSS variables."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"  # placeholders, replaced by CSS variables
N_COLOURS = 8
DASHED: Any = (0, (3, 2.2))
MARKERS = "os^vPX"
TICKS = (0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200)
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": RULE, "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "xtick.color": RULE, "ytick.color": RULE, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "axes.grid": True, "grid.color": RULE, "grid.linewidth": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.6,
    "legend.frameon": False, "legend.labelcolor": INK,
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One cell on one test set; `low`/`high` bound its interval, where there is one."""

    tokens_per_second: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """The cells of one compressor in one condition; `colour` counts from 0, None is ink; a `natural` rate
    is drawn as a larger mark of its own."""

    label: str
    colour: int | None
    adapted: bool
    points: tuple[Point, ...]
    natural: bool = False


@dataclass(frozen=True)
class Panel:
    """One test set; `axis` names metric and unit."""

    title: str
    axis: str
    higher_is_better: bool
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Curve:
    """The training of one cell: (step, loss) of the batches and of the dev split, one list per seed."""

    title: str
    colour: int | None
    train: tuple[tuple[tuple[int, float], ...], ...]
    dev: tuple[tuple[tuple[int, float], ...], ...]


def quality(panels: Sequence[Panel]) -> str:
    """Draw quality against audio tokens per second, one panel per test set: dashed zero-shot, solid adapted."""
    columns = 2 if len(panels) in (2, 4) else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = {1: 6.4, 2: 5.4, 3: 3.9}[columns] * columns
    with rc_context(STYLE | {"svg.hashsalt": "quality"}):
        figure = Figure(figsize=(width, 3.4 * rows + 0.5), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _quality_panel(axes, panel)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        handles = _legend(panels)
        figure.legend(
            handles=handles, loc="outside upper left", ncols=min(len(handles), int(width / 1.7)), columnspacing=1.4
        )
        return _svg(figure)


def training(curves: Sequence[Curve], columns: int = 4) -> str:
    """Draw training curves as small multiples on common axes: thin batch loss, marked dev loss. Returns SVG."""
    columns = min(columns, len(curves))
    rows = math.ceil(len(curves) / columns)
    with rc_context(STYLE | {"svg.hashsalt": "training", "font.size": 8, "axes.titlesize": 9}):
        figure = Figure(figsize=(2.85 * columns + 0.3, 1.75 * rows + 0.35), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, curve in zip(grid.flat, curves, strict=False):
            colour = _colour(curve.colour)
            for losses in curve.train:
                axes.plot(*zip(*losses, strict=True), color=colour, linewidth=0.8, alpha=0.55) if losses else None
            for losses in curve.dev:
                axes.plot(
                    *zip(*losses, strict=True), color=INK, linewidth=1.1, marker="o", markersize=3
                ) if losses else None
            axes.set_title(curve.title)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        for axes in grid.flat[len(curves) :]:
            axes.set_visible(False)
        _loss_axis(grid[0, 0], curves)
        figure.supxlabel("optimiser step", fontsize=8, color=MUTED)
        figure.supylabel("loss, nats per label token", fontsize=8, color=MUTED)
        return _svg(figure)


def alone(svg: str, css: str) -> str:
    """Return a figure as a file of its own: with namespace, size and, from `css`, the page's light colours."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    width, height = (box[1], box[2]) if box else ("1", "1")
    body = svg.partition(">")[2] or "</svg>"
    colours = " ".join(re.findall(r"--[\w-]+: [^;]+;", css.partition("}")[0]))
    style = f"<style>:root {{ {colours} background: var(--paper) }}</style>"
    size = f'width="{width}pt" height="{height}pt" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{body}\n'


def _quality_panel(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        colour, marker = _colour(line.colour), _marker(line)
        x = [p.tokens_per_second for p in line.points]
        y = [p.value for p in line.points]
        linestyle: Any = "-" if line.adapted else DASHED
        fill, zorder = (colour, 3) if line.adapted else (PAPER, 2)
        marks = Line2D(x, y, color=colour, linestyle=linestyle, zorder=zorder, marker=marker, markerfacecolor=fill)
        marks.set_markersize(_size(marker))
        axes.add_line(marks)
        for point in line.points:
            if point.low is not None and point.high is not None:
                axes.vlines(point.tokens_per_second, point.low, point.high, color=colour, linewidth=1.2, alpha=0.7)
    points = [p for line in panel.lines for p in line.points]
    _rate_axis(axes, [p.tokens_per_second for p in points])
    _value_axis(axes, points, panel.higher_is_better)
    arrow = "higher" if panel.higher_is_better else "lower"
    axes.set_title(panel.title)
    axes.set_xlabel("audio tokens per second (log scale)")
    axes.set_ylabel(f"{panel.axis} ({arrow} is better)")


def _rate_axis(axes: Axes, rates: list[float]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    if rates:
        low, high = min(rates) / 1.12, max(rates) * 1.12
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(FixedLocator(_spaced([t for t in TICKS if low <= t <= high])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _value_axis(axes: Axes, points: list[Point], higher_is_better: bool) -> None:
    """Set the axis of scores: logarithmic where errors span more than a factor of four, to separate good cells."""
    values = [v for p in points for v in (p.value, p.low, p.high) if v is not None]
    if not higher_is_better and values and min(values) > 0 and max(values) > 4 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        low, high = min(values) / 1.15, max(values) * 1.15
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(FixedLocator(_spaced([t for t in TICKS if low <= t <= high])))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    elif values and min(values) >= 0:
        axes.set_ylim(bottom=0)


def _loss_axis(axes: Axes, curves: Sequence[Curve]) -> None:
    """Fit the axis to all but the first tenth of the steps, whose steep fall would flatten the rest."""
    rows = [row for curve in curves for losses in (*curve.train, *curve.dev) for row in losses]
    start = 0.1 * max((step for step, _ in rows), default=0)
    late = [loss for step, loss in rows if step >= start]
    if late:
        room = 0.06 * (max(late) - min(late)) or 0.1
        axes.set_ylim(min(late) - room, max(late) + room)


def _spaced(ticks: list[float]) -> list[float]:
    """Drop ticks that are less than 18 % above the one before."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or tick / kept[-1] > 1.18:
            kept.append(tick)
    return kept


def _legend(panels: Sequence[Panel]) -> list[Line2D]:
    seen = {line.label: line for panel in panels for line in panel.lines}
    handles = [
        Line2D(
            [],
            [],
            label=label,
            linestyle="none",
            color=_colour(line.colour),
            marker=_marker(line),
            markersize=_size(_marker(line)),
        )
        for label, line in seen.items()
    ]
    conditions = {line.adapted for panel in panels for line in panel.lines}
    if True in conditions:
        handles.append(Line2D([], [], color=INK, linestyle="-", label="adapted (LoRA)"))
    if False in conditions:
        handles.append(Line2D([], [], color=INK, linestyle=DASHED, label="zero-shot"))
    return handles


def _colour(index: int | None) -> str:
    return INK if index is None else f"#0a0a{index % N_COLOURS:02x}"


def _marker(line: Line) -> str:
    return "D" if line.natural else "*" if line.colour is None else MARKERS[line.colour % len(MARKERS)]


def _size(marker: str) -> float:
    return 9 if marker == "*" else 5


def _svg(figure: Figure) -> str:
    """Render to an <svg> element without prologue, metadata, namespaces or unused ids (several share one page)."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r'\sid="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    text = re.sub(r"\s*<style.*?</style>", "", text, count=1, flags=re.S)
    text = re.sub(r'<svg width="([\d.]+)pt" height="[^"]*"', r'<svg style="max-width:\1pt"', text, count=1)
    text = text.replace("xlink:href", "href").replace("font-family: sans-serif; ", "")
    for placeholder, variable in (VARIABLES | {f"#0a0a{i:02x}": f"--s{i}" for i in range(N_COLOURS)}).items():
        text = text.replace(placeholder, f"var({variable})")
    return text
