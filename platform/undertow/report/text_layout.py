"""The space that text needs in figures, so that names of any length are neither cut nor overlap.

Matplotlib's constrained layout reserves space for tick labels but not for long titles, and it cannot choose
the number of panels per row. This module computes both before drawing, from the number of characters. Sizes
are in points, for 9-point type. `tests/report/test_figures.py` checks the result by the positions of the
drawn texts.
"""

import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

WIDTH = 4.6 * 72  # of all figures
LETTER, LINE = 5.4, 11.5  # average width of a character, height of a line
LABEL_CHARACTERS = 22  # per line
IN_CELLS = 4.8  # width of a character in 8-point type, the type of matrix cells and legends
BESIDE_MATRIX, BELOW_MATRIX = 38.0, 34.0  # added to the labels of a matrix: axis title and padding
SMALLEST_TYPE = 4.5  # smaller text is omitted


class MatrixLayout(NamedTuple):
    """The layout of the matrices of a figure.

    Attributes:
        columns: panels per row.
        letters: characters per line of a column label.
        turned: whether the column labels are rotated, because they cannot be broken to the width of a cell.
        title: characters per line of a panel's title.
        size: of the type in cells; 0 if the cells are too small for text.
        height: of a panel without its title.
    """

    columns: int
    letters: int
    turned: bool
    title: int
    size: float
    height: float

    def below(self, labels: Sequence[str]) -> list[str]:
        """The column labels in lines; without rotation, these have the width of a cell."""
        return [_broken(label, self.letters) for label in labels]


def matrix(
    panels: int,
    across: Sequence[str],
    down: Sequence[str],
    *,
    shape: tuple[int, int],
    cell: float,
    letters: int,
) -> MatrixLayout:
    """Lays out `panels` matrices.

    Args:
        across, down: labels of the columns and rows of all matrices.
        shape: the numbers of rows and columns of the largest matrix.
        cell: height of a cell in points.
        letters: characters per line of a cell's text.
    """
    labels_width, (rows, wide) = widest(down) + BESIDE_MATRIX, shape
    # Two panels per row only if the text of all cells fits in half of the width.
    columns = 2 if panels > 1 and labels_width + (letters * IN_CELLS + 6) * wide <= WIDTH / 2 else 1
    inside = WIDTH / columns - labels_width
    cell_width = inside / wide
    fit = max(1, int((cell_width - 4) / LETTER))
    broken = [_broken(label, fit) for label in across]
    turned = widest(broken) > fit * LETTER  # a word is longer than a cell is wide
    if turned:
        fit = LABEL_CHARACTERS
        broken = [_broken(label, fit) for label in across]
        if tallest(broken) > cell_width:
            fit, broken = max(map(len, across)), list(across)
    size = min(8.0, 8 * (cell_width - 3) / (letters * IN_CELLS))
    labels_height = widest(broken) if turned else tallest(broken)
    return MatrixLayout(
        columns=columns,
        letters=fit,
        turned=turned,
        title=int(inside / LETTER),
        size=size if size >= SMALLEST_TYPE else 0.0,
        height=rows * max(cell, tallest(down) + 2) + labels_height + BELOW_MATRIX,
    )


def _broken(label: str, letters: int) -> str:
    """The label in lines of at most `letters` characters, as far as spaces and hyphens allow."""
    lines = [""]
    for piece in re.split(r"(?<=[-_ ])", label):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > letters:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def figure_height(panels: Sequence[str], columns: int, height: float) -> float:
    """The height in inches of a figure whose panels have these titles.

    Args:
        height: of a panel without its title, in points.
    """
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    return sum(height + tallest(row) for row in rows) / 72


def legend_columns(labels: Sequence[str], most: int) -> int:
    """The number of legend columns that fit the width of a figure, with labels in 8-point type."""
    return max(1, min(most, len(labels), int(WIDTH / (widest(labels) * IN_CELLS / LETTER + 40))))


def wrapped(*parts: str, characters: int = LABEL_CHARACTERS) -> str:
    """The parts of a label, joined by commas and broken into lines; never cut."""
    text = ", ".join(part for part in parts if part)
    return "\n".join(textwrap.wrap(text, max(4, characters), break_on_hyphens=False))


def widest(texts: Sequence[str]) -> float:
    """The width of the longest line of all texts, in points."""
    return max((len(line) for text in texts for line in text.splitlines()), default=0) * LETTER


def tallest(texts: Sequence[str]) -> float:
    """The height of the text with the most lines, in points."""
    return max((text.count("\n") + 1 for text in texts), default=0) * LINE
