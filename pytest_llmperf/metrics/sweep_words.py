"""What a sweep has come to, and why, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llmperf.records import Slo

from .sweep import (
    POINTS_FOR_KNEE,
    Over,
    Point,
    Search,
    best_load,
    first_outside,
    highest_within,
    knee,
    stopped_growing,
    within_above,
)
from .units import format_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished sweep. ``objectives`` are judged at the 99th percentile over requests.

    ``highest`` is ``None`` where no load is within, or there are no objectives; ``knee`` where
    none stands out; ``best`` is the load of the greatest throughput up to ``highest``. ``reason``
    tells all that a person has to know beside the figures.
    """

    over: Over
    objectives: tuple[Slo, ...]
    throughput_metric: str
    points: tuple[Point, ...]
    highest: float | None
    knee: float | None
    best: float | None
    reason: str


def conclude(
    search: Search,
    points: Sequence[Point],
    *,
    objectives: Sequence[Slo],
    throughput_metric: str,
    fewest_sent: int,
    needed: int,
) -> Outcome:
    """What ``points`` show. ``fewest_sent`` is the smallest number of requests of any run,
    ``needed`` how many the percentile asks for."""
    ordered = tuple(sorted(points, key=lambda point: point.load))
    found = knee(ordered)
    sentences = (
        _highest(search, ordered) if objectives else _without(search, ordered),
        *_out_of_order(search, ordered),
        *_undecided(search, ordered),
        _few(fewest_sent, needed),
        _knee(search, ordered, found),
    )
    return Outcome(
        over=search.over,
        objectives=tuple(objectives),
        throughput_metric=throughput_metric,
        points=ordered,
        highest=highest_within(ordered) if objectives else None,
        knee=found,
        best=best_load(ordered),
        reason=" ".join(sentence for sentence in sentences if sentence),
    )


def at(search: Search, load: float) -> str:
    """A load in a sentence: "concurrency 8", "2.5 req/s"."""
    figure = format_number(load)
    return f"{figure} req/s" if search.over == "rate" else f"concurrency {figure}"


def _highest(search: Search, points: Sequence[Point]) -> str:
    highest, outside = highest_within(points), first_outside(points)
    if highest is None:
        return _none_within(search, points, outside)
    said = f"{_sentence(at(search, highest))} is"
    if outside is None:
        return f"{said} within the objectives; {_why_no_higher(search, points, highest)}."
    return (
        f"{said} the highest within the objectives; {at(search, outside.load)} is outside: "
        f"{outside.reason}."
    )


def _none_within(search: Search, points: Sequence[Point], outside: Point | None) -> str:
    if outside is None:
        return "No load could be judged, so none is the highest."
    below = ", the lowest measured," if outside is points[0] else ""
    return f"Already {at(search, outside.load)}{below} is outside: {outside.reason}."


def _why_no_higher(search: Search, points: Sequence[Point], highest: float) -> str:
    last = points[-1]
    if last.load > highest:
        return "what lies above could not be judged"
    if highest >= search.high:
        return "no higher load was asked for"
    return f"{_stopped(points)}, so no higher load was measured"


def _stopped(points: Sequence[Point]) -> str:
    return (
        "throughput stopped growing over the last two doublings "
        f"({_throughput(points[-3])}, {_throughput(points[-1])})"
    )


def _without(search: Search, points: Sequence[Point]) -> str:
    said = "No objectives were named, so no load is the highest within them"
    if points[-1].load < search.high and stopped_growing(points):
        return f"{said}; {_stopped(points)}."
    return f"{said}."


def _throughput(point: Point) -> str:
    known = "unknown" if point.throughput is None else format_number(point.throughput)
    return f"{known} tok/s at {format_number(point.load)}"


def _out_of_order(search: Search, points: Sequence[Point]) -> list[str]:
    outside, above = first_outside(points), within_above(points)
    if outside is None or not above:
        return []
    named = ", ".join(at(search, point.load) for point in above)
    verb = "is" if len(above) == 1 else "are"
    return [
        f"But {named} {verb} within although {at(search, outside.load)}, which is lower, is not: "
        "the objectives are not met in the order of the load, so measure again before relying on "
        "the highest."
    ]


def _undecided(search: Search, points: Sequence[Point]) -> list[str]:
    return [
        f"{_sentence(at(search, point.load))} is undecided: {point.reason}."
        for point in points
        if point.undecided
    ]


def _few(sent: int, needed: int) -> str:
    if sent >= needed:
        return ""
    return (
        f"With {sent:,} requests in a run, p99 is close to the slowest of them; {needed:,} are "
        "needed for ten to lie beyond it."
    )


def _knee(search: Search, points: Sequence[Point], found: float | None) -> str:
    if found is not None:
        return f"The knee of throughput is at {at(search, found)}."
    if sum(point.throughput is not None for point in points) < POINTS_FOR_KNEE:
        return f"Fewer than {POINTS_FOR_KNEE} points show no knee."
    return "Throughput has no knee in this range."


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
