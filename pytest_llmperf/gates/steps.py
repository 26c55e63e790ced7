"""Where a history of numbers changed its level: change points, with false alarms held down.

A history is cut in two where that explains most, or in three around a stretch that came and went,
as long as a shuffled history hardly ever offers as good a cut; then each part is looked at by
itself. Shuffling assumes nothing of the noise but that sessions do not depend on each other: where
neighbours are alike, false alarms get more.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Numbers that a level must last for to be told from an outlier.
LEAST = 2
_SHUFFLES = 999
_SEED = 20
SIMPLE = "simple steps"
PELT = "PELT (ruptures)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """``starts`` are the indices at which a new level begins; ``method`` says who found them."""

    starts: tuple[int, ...]
    method: str


def find_steps(values: Sequence[float], *, alpha: float = 0.01) -> Steps:
    """The change points of finite ``values``, oldest first; take logarithms of what is a ratio.

    A history without one shows a change point with probability ``alpha`` at most, as far as its
    numbers are independent. PELT places them where the package ruptures is installed.
    """
    starts = simple_steps(values, alpha=alpha)
    if len(values) < 2 * LEAST or importlib.util.find_spec("ruptures") is None:
        return Steps(starts=starts, method=SIMPLE)
    return Steps(starts=_pelt(values, starts, alpha), method=PELT)


def simple_steps(values: Sequence[float], *, alpha: float = 0.01) -> tuple[int, ...]:
    """The same by binary segmentation, whatever is installed."""
    found: list[int] = []
    parts = [(0, len(values))]
    while parts:
        low, high = parts.pop()
        if cuts := _cuts(values[low:high], alpha):
            edges = [low, *(low + cut for cut in cuts), high]
            found += edges[1:-1]
            parts += pairwise(edges)
    return tuple(sorted(found))


class _Best(NamedTuple):
    """Of each row the stretch that stands out most, and by how much cutting it out lowers the sum
    of squares."""

    gain: Floats
    low: Ints
    high: Ints


_Search = Callable[["Floats"], _Best]


def _cuts(values: Sequence[float], alpha: float) -> tuple[int, ...]:
    """Where to cut best: once, else on both sides of a stretch; nowhere where that may be luck."""
    if len(values) < 2 * LEAST:
        return ()
    # Both may raise a false alarm, so each gets half of what there is.
    return _sure(values, alpha / 2, _split) or _sure(values, alpha / 2, _stretch)


def _sure(values: Sequence[float], alpha: float, search: _Search) -> tuple[int, ...]:
    import numpy as np

    best = search(np.array([values], float))
    gain, edges = float(best.gain[0]), (int(best.low[0]), int(best.high[0]))
    if gain <= 0:
        return ()
    chance = _chance_gains(values, search)
    # Ties count against it, and so does rounding.
    as_good = int((chance >= gain * (1 - 1e-9)).sum())
    sure = (1 + as_good) / (1 + len(chance)) <= alpha
    return tuple(edge for edge in edges if 0 < edge < len(values)) if sure else ()


def _chance_gains(values: Sequence[float], search: _Search) -> Floats:
    """The best gain in each of many shuffled copies; the same ones for the same values."""
    import numpy as np

    rows = np.tile(np.array(values, float), (_SHUFFLES, 1))
    return search(np.random.default_rng(_SEED).permuted(rows, axis=1)).gain


def _split(rows: Floats) -> _Best:
    """The best single cut: the stretch reaches to the end."""
    import numpy as np

    count, length = rows.shape
    sizes = np.arange(LEAST, length - LEAST + 1)
    gains = _sums(rows)[:, sizes] ** 2 * length / (sizes * (length - sizes))
    at = gains.argmax(axis=1)
    return _Best(gain=gains.max(axis=1), low=sizes[at], high=np.full(count, length))


def _stretch(rows: Floats) -> _Best:
    """The best stretch that neither begins nor ends with the row."""
    import numpy as np

    count, length = rows.shape
    sums, best = _sums(rows), _nothing(count)
    for size in range(LEAST, length - 2 * LEAST + 1):
        inside = (
            sums[:, LEAST + size : length - LEAST + 1] - sums[:, LEAST : length - LEAST - size + 1]
        )
        gains = inside**2 * length / (size * (length - size))
        gain, at = gains.max(axis=1), gains.argmax(axis=1) + LEAST
        more = gain > best.gain
        best = _Best(
            gain=np.where(more, gain, best.gain),
            low=np.where(more, at, best.low),
            high=np.where(more, at + size, best.high),
        )
    return best


def _sums(rows: Floats) -> Floats:
    """Of each row, centred, the sums of its first 0, 1, ... numbers."""
    import numpy as np

    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.pad(centred.cumsum(axis=1), ((0, 0), (1, 0)))


def _nothing(count: int) -> _Best:
    import numpy as np

    none = np.zeros(count, int)
    return _Best(gain=np.zeros(count), low=none, high=none)


def _pelt(values: Sequence[float], starts: Sequence[int], alpha: float) -> tuple[int, ...]:
    """PELT, with a penalty for each step that shuffled histories without steps hardly ever earn."""
    import numpy as np

    left = _residuals(values, starts)
    # A stretch that comes and goes is two steps, and pays twice.
    penalty = max(
        _quantile(_chance_gains(left, _split), 1 - alpha / 2),
        _quantile(_chance_gains(left, _stretch), 1 - alpha / 2) / 2,
    )
    if penalty <= 0:  # constant but for the steps: nothing to weigh
        return tuple(starts)
    # Not imported by name: it is an extra, and brings no types.
    ruptures: Any = importlib.import_module("ruptures")
    search = ruptures.Pelt(model="l2", min_size=LEAST, jump=1).fit(np.array(values, float))
    *found, _ = (int(end) for end in search.predict(pen=penalty))
    return tuple(found)


def _quantile(values: Floats, probability: float) -> float:
    """The smallest of ``values`` that so many do not exceed."""
    return float(sorted(values)[math.ceil(probability * len(values)) - 1])


def _residuals(values: Sequence[float], starts: Sequence[int]) -> list[float]:
    left: list[float] = []
    for low, high in pairwise([0, *starts, len(values)]):
        mean = math.fsum(values[low:high]) / (high - low)
        left += [value - mean for value in values[low:high]]
    return left
