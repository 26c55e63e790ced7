"""A gate as a strip: its interval, its value, and the bound it is held against, on one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Room beside the outermost mark, as a share of what is shown.
_MARGIN = 0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Places from 0 (left) to 100. ``bound`` is the limit or the loss to catch, ``zero`` no change
    at all; from ``bad_from`` to ``bad_to`` the gate would not be met. ``open_low`` says that the
    interval goes on beyond the left edge."""

    value: float
    low: float | None
    high: float | None
    bound: float
    zero: float | None
    bad_from: float
    bad_to: float
    open_low: bool = False


def strip_of(gate: Mapping[str, Any]) -> Strip | None:
    """The strip of a gate of a report; ``None`` where it has no value or no bound."""
    if gate["kind"] == "regression":
        return _of_loss(gate)
    return _of_limit(gate)


def _of_loss(gate: Mapping[str, Any]) -> Strip | None:
    """Losses grow to the right."""
    if gate["loss"] is None or gate["loss_to_catch"] is None:
        return None
    low, high = gate["loss_low"], gate["loss_high"]
    marks = [gate["loss"], gate["loss_to_catch"], 0.0]
    scale = _Scale([*marks, *(end for end in (low, high) if end is not None)])
    return Strip(
        value=scale.at(gate["loss"]),
        low=0.0 if low is None and high is not None else _place(scale, low),
        high=_place(scale, high),
        bound=scale.at(gate["loss_to_catch"]),
        zero=scale.at(0.0),
        bad_from=scale.at(gate["loss_to_catch"]),
        bad_to=100.0,
        open_low=low is None and high is not None,
    )


def _of_limit(gate: Mapping[str, Any]) -> Strip | None:
    """Values grow to the right, whichever direction is the better."""
    if gate["observed"] is None or gate["limit"] is None:
        return None
    low, high = gate["ci_low"], gate["ci_high"]
    ends = [end for end in (low, high) if end is not None]
    scale = _Scale([gate["observed"], gate["limit"], *ends])
    bound = scale.at(gate["limit"])
    floor = gate["kind"] == "floor"
    return Strip(
        value=scale.at(gate["observed"]),
        low=_place(scale, low),
        high=_place(scale, high),
        bound=bound,
        zero=None,
        bad_from=0.0 if floor else bound,
        bad_to=bound if floor else 100.0,
    )


class _Scale:
    """From values to places."""

    def __init__(self, values: list[float]) -> None:
        low, high = min(values), max(values)
        spare = _MARGIN * (high - low) or abs(high) * _MARGIN or 1.0
        self._low, self._span = low - spare, high - low + 2 * spare

    def at(self, value: float) -> float:
        return round(100 * (value - self._low) / self._span, 2)


def _place(scale: _Scale, value: float | None) -> float | None:
    return None if value is None else scale.at(value)
