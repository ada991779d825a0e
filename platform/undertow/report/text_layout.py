"""Room for text in figures, so that names of any length are neither cut nor laid over each other.

Matplotlib's constrained layout makes room for tick labels and none for titles; and it cannot choose how many
panels stand side by side. Both are settled here before anything is drawn, from the letters of a text: all
sizes are in points and meant for 9 points type. `tests/report/test_figures.py` measures what came of it.
"""

import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

WIDTH = 4.6 * 72  # of a figure
LETTER, LINE = 5.4, 11.5  # an average letter's width, a line's height
LABEL_CHARACTERS = 22
IN_CELLS = 4.8  # a letter's width in 8 points, the type in a matrix's cells
BESIDE_MATRIX, BELOW_MATRIX = 38.0, 34.0  # of a matrix's labels: their axis' title, and space
SMALLEST_TYPE = 4.5  # what would be smaller is left out


class MatrixLayout(NamedTuple):
    """How matrices of one shape are laid out.

    Attributes:
        columns: panels side by side.
        letters: that a cell is wide.
        turned: whether the labels below stand upright, since they cannot be broken to the width of a cell.
        title: characters in a line of a panel's title.
        size: of the type in the cells; 0 where they are too small for any.
        height: of a panel without its title.
    """

    columns: int
    letters: int
    turned: bool
    title: int
    size: float
    height: float

    def below(self, labels: Sequence[str]) -> list[str]:
        """Labels of the columns, broken to the width of a cell or, upright, as they are."""
        return list(labels) if self.turned else [_broken(label, self.letters) for label in labels]


def matrix(
    panels: int, across: Sequence[str], down: Sequence[str], *, cell: float, letters: int
) -> MatrixLayout:
    """For matrices with these labels, whose cells are `cell` points high and hold lines of `letters`."""
    beside = widest(down) + BESIDE_MATRIX
    columns = 2 if panels > 1 and beside + (letters * IN_CELLS + 6) * len(across) <= WIDTH / 2 else 1
    inside = WIDTH / columns - beside
    room = inside / len(across)
    fit = max(1, int((room - 4) / LETTER))
    broken = [_broken(label, fit) for label in across]
    turned = widest(broken) > fit * LETTER
    size = min(8.0, 8 * (room - 3) / (letters * IN_CELLS))
    below = widest(across) if turned else tallest(broken)
    return MatrixLayout(
        columns=columns,
        letters=fit,
        turned=turned,
        title=int(inside / LETTER),
        size=size if size >= SMALLEST_TYPE else 0.0,
        height=len(down) * max(cell, tallest(down) + 2) + below + BELOW_MATRIX,
    )


def _broken(label: str, letters: int) -> str:
    """The label in lines of so many letters, where spaces and hyphens allow it."""
    lines = [""]
    for piece in re.split(r"(?<=[-_ ])", label):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > letters:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def figure_height(panels: Sequence[str], columns: int, height: float) -> float:
    """Of a figure of panels with these titles, `height` points each without them, in inches."""
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    return sum(height + tallest(row) for row in rows) / 72


def legend_columns(labels: Sequence[str], most: int) -> int:
    """How many entries of a legend stand side by side: a handle and its label in 8 points each."""
    return max(1, min(most, len(labels), int(WIDTH / (widest(labels) * IN_CELLS / LETTER + 40))))


def wrapped(*parts: str, characters: int = LABEL_CHARACTERS) -> str:
    """Parts of a label on one line where they fit, else broken; never cut."""
    text = " ".join(part for part in parts if part)
    return "\n".join(textwrap.wrap(text, max(4, characters), break_on_hyphens=False))


def widest(texts: Sequence[str]) -> float:
    return max((len(line) for text in texts for line in text.splitlines()), default=0) * LETTER


def tallest(texts: Sequence[str]) -> float:
    return max((text.count("\n") + 1 for text in texts), default=0) * LINE
