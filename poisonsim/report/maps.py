"""A map of two swept keys: which policy is best where, and the lines at which one overtakes another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.patches import Rectangle

from poisonsim.report.canvas import INK, TEXT_SIZE, Canvas, text_width
from poisonsim.report.labels import Frame, write_titles
from poisonsim.report.style import Style

ALL_ALIKE = "all alike"
"""What a cell says where no policy is better than another."""

_TINT = 0.3
_SMALL = 11.0
_LINE = 15.0
_MARKER_SIZE = 7.0


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Attributes:
        best: Places of the policies that are best there, those that are alike together; none where it is not clear.
        words: The value of the best, or what to say where it is not clear.
    """

    best: tuple[int, ...]
    words: str


@dataclass(frozen=True)
class Steps:
    """One key of the grid: its name, and its values in the order in which they are drawn, from the lower left."""

    title: str
    texts: tuple[str, ...]


def map_height(n_rows: int) -> float:
    """Height in points of a map of so many rows."""
    return min(max(86 + 44.0 * n_rows, 200), 640)


def best_map(
    cells: Sequence[Sequence[Cell]], policies: Sequence[str], looks: Sequence[Style], rows: Steps, columns: Steps,
    frame: Frame,
) -> Canvas:  # fmt: skip
    """Cells in the tints of the policies that are best there, with a line wherever these change.

    Args:
        cells: By row from below, then by column.
    """
    n_rows, n_columns = len(rows.texts), len(columns.texts)
    left = 14 + max(map(text_width, rows.texts))
    wide = (frame.width - left - 12) / n_columns
    slanted = max(map(text_width, columns.texts)) > wide - 6
    below = 52 + (0.6 * max(map(text_width, columns.texts)) if slanted else 0.0)
    canvas = Canvas((frame.width, frame.height), (left, 12, frame.top, below))
    axes = canvas.axes
    axes.set_xlim(0, n_columns)
    axes.set_ylim(0, n_rows)
    turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axes.set_xticks([i + 0.5 for i in range(n_columns)], columns.texts, fontsize=TEXT_SIZE, color=INK, **turned)
    axes.set_yticks([i + 0.5 for i in range(n_rows)], rows.texts, fontsize=TEXT_SIZE, color=INK)
    for texts in (axes.get_xticklabels(), axes.get_yticklabels()):
        for text in texts:
            text.set_parse_math(False)
    axes.tick_params(length=0, pad=8)
    write_titles(canvas, frame, rows.title, columns.title)
    size = wide, (canvas.box[3] - canvas.box[1]) / n_rows
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            for i, policy in enumerate(cell.best):  # a strip for each of those that are best together
                part = 1 / len(cell.best)
                colour = looks[policy].light
                axes.add_patch(Rectangle((x + i * part, y), part, 1, facecolor=colour, alpha=_TINT, linewidth=0))
    for x in range(n_columns + 1):
        axes.plot([x, x], [0, n_rows], color=INK, alpha=0.15, linewidth=0.8)
    for y in range(n_rows + 1):
        axes.plot([0, n_columns], [y, y], color=INK, alpha=0.15, linewidth=0.8)
    for xs, ys, clear in _borders(cells):
        axes.plot(xs, ys, color=INK, linewidth=2.4 if clear else 1.2, linestyle="-" if clear else (0, (2, 2)))
    _write(canvas, cells, policies, looks, size)
    return canvas


def _borders(cells: Sequence[Sequence[Cell]]) -> Iterator[tuple[tuple[int, int], tuple[int, int], bool]]:
    """Edges between cells whose best policies differ, and whether it is clear on both sides."""
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            if x + 1 < len(row) and row[x + 1].best != cell.best:
                yield (x + 1, x + 1), (y, y + 1), bool(row[x + 1].best and cell.best)
            if y + 1 < len(cells) and cells[y + 1][x].best != cell.best:
                yield (x, x + 1), (y + 1, y + 1), bool(cells[y + 1][x].best and cell.best)


def _write(
    canvas: Canvas, cells: Sequence[Sequence[Cell]], policies: Sequence[str], looks: Sequence[Style],
    size: tuple[float, float],
) -> None:  # fmt: skip
    """Names and values in the cells that have room; markers, and a name on each stretch, in those that have not."""
    every = [cell for row in cells for cell in row]
    names = {
        cell.best: ALL_ALIKE if len(cell.best) == len(policies) > 1 else " = ".join(policies[p] for p in cell.best)
        for cell in every
    }
    value = max(text_width(cell.words, _SMALL) for cell in every) + 6 < size[0]
    both = value and max(map(text_width, names.values())) + 8 < size[0] and size[1] > 2 * _LINE + 4
    for y, row in enumerate(cells):
        stretches = [] if both else list(_stretches(row))
        for x, cell in enumerate(row):
            at_x, at_y = canvas.place(x + 0.5, y + 0.5)
            if both and cell.best:
                canvas.text(at_x, at_y + _LINE / 2, names[cell.best], ha="center", fontweight="bold")
                canvas.text(at_x, at_y - _LINE / 2, cell.words, ha="center", fontsize=_SMALL)
            elif both or not cell.best:
                words = cell.words if both else "~"
                canvas.text(at_x, at_y, words, ha="center", fontsize=_SMALL)
        for first, end in stretches:
            best = row[first].best
            middle, at_y = canvas.place((first + end) / 2, y + 0.5)
            room = (end - first) * size[0]
            named = bool(best) and text_width(names[best]) + 8 < room and (y == 0 or not _above(cells, y, first, end))
            if named:
                canvas.text(middle, at_y, names[best], ha="center", fontweight="bold")
                continue
            for x in range(first, end):
                for i, policy in enumerate(best):
                    at = x + (i + 0.5) / len(best)
                    look = looks[policy]
                    canvas.axes.plot([at], [y + 0.5], look.marker, color=look.light, markersize=_MARKER_SIZE)


def _stretches(row: Sequence[Cell]) -> Iterator[tuple[int, int]]:
    """Runs of cells of the same best policies: first, and the one after the last."""
    first = 0
    for x in range(1, len(row) + 1):
        if x == len(row) or row[x].best != row[first].best:
            yield first, x
            first = x


def _above(cells: Sequence[Sequence[Cell]], y: int, first: int, end: int) -> bool:
    """Whether the row below has the very same stretch, which carries the name."""
    return (first, end) in list(_stretches(cells[y - 1])) and cells[y - 1][first].best == cells[y][first].best
