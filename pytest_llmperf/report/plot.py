"""A history as lines of text: one dot per session, on a log scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_llmperf.metrics.units import format_number

HEIGHT = 8
#: A character of Braille holds two columns of four dots.
_COLUMNS, _ROWS = 2, 4
_BLANK = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_LEVEL, _STEP = "┄", "│"
#: One of each kind of characters that a plot is made of.
PLOT_CHARACTERS = f"{_LEVEL}{_STEP}┤└─┴{chr(_BLANK + 1)}"
# Where all values are equal there must still be something above and below them.
_LEAST_SPAN = 0.02
_LEAST_CELLS = 10


def history_plot(
    values: Sequence[float],
    *,
    width: int,
    height: int = HEIGHT,
    starts: Sequence[int] = (),
    level: float | None = None,
) -> list[str]:
    """``values``, oldest first, as ``height`` lines and an axis, none longer than ``width``.

    A change point at one of the indices ``starts`` is a line downwards, ``level`` a dotted line
    across. The scale is logarithmic unless a value is zero. No values, no lines.
    """
    if not values:
        return []
    scale = _Scale([*values, *([] if level is None else [level])], height)
    labels = scale.labels(level)
    margin = max(map(len, labels))
    cells = _cells(len(values), max(_LEAST_CELLS, width - margin - 2))
    canvas = _canvas(values, scale, cells, height)
    steps = {_column(at, len(values), cells) // _COLUMNS for at in starts}
    dotted = None if level is None else scale.row(level) // _ROWS
    lines = []
    for at, (label, line) in enumerate(zip(labels, canvas, strict=True)):
        blank = _LEVEL if at == dotted else " "
        drawn = (_cell(dots, blank, x in steps) for x, dots in enumerate(line))
        lines.append(f"{label:>{margin}} {'┤' if label else '│'}{''.join(drawn)}".rstrip())
    axis = "".join("┴" if x in steps else "─" for x in range(cells))
    return [*lines, f"{'':>{margin}} └{axis}"]


class _Scale:
    """From a value to the row of its dot, counted from the top."""

    def __init__(self, values: Sequence[float], height: int) -> None:
        self._log = min(values) > 0
        points = [self._point(value) for value in values]
        least = _LEAST_SPAN if self._log else _LEAST_SPAN * max(1.0, max(points))
        spare = max(0.0, least - (max(points) - min(points))) / 2
        self._low, self._high = min(points) - spare, max(points) + spare
        self._height = height

    def row(self, value: float) -> int:
        share = (self._high - self._point(value)) / (self._high - self._low)
        return round(share * (_ROWS * self._height - 1))

    def labels(self, level: float | None) -> list[str]:
        """The numbers beside the lines: at the top, at the bottom and at the level."""
        named = {self._height - 1: self._value(self._low), 0: self._value(self._high)}
        if level is not None:
            named[self.row(level) // _ROWS] = level
        return [format_number(named[at]) if at in named else "" for at in range(self._height)]

    def _point(self, value: float) -> float:
        return math.log(value) if self._log else value

    def _value(self, point: float) -> float:
        return math.exp(point) if self._log else point


def _cells(count: int, room: int) -> int:
    """Two characters a session while there is room, so that few of them stand apart."""
    return min(room, max(_LEAST_CELLS, 2 * count))


def _column(at: int, count: int, cells: int) -> int:
    """The column of dots of one value; values share columns where they are many."""
    return round(at * (_COLUMNS * cells - 1) / (count - 1)) if count > 1 else 0


def _canvas(values: Sequence[float], scale: _Scale, cells: int, height: int) -> list[list[int]]:
    canvas = [[0] * cells for _ in range(height)]
    for at, value in enumerate(values):
        column, row = _column(at, len(values), cells), scale.row(value)
        canvas[row // _ROWS][column // _COLUMNS] |= _DOTS[column % _COLUMNS][row % _ROWS]
    return canvas


def _cell(dots: int, blank: str, step: bool) -> str:
    if dots:
        return chr(_BLANK + dots)
    return _STEP if step else blank
