"""A metric over the sessions of one key, and the steps in it. Nothing is decided here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_llmperf.records import GateHistory, HistoryPoint, HistoryStep, Observation

from .steps import Steps, find_steps

#: The most sessions that a report shows of a history: more are told by ``pytest-llmperf trend``.
MOST_POINTS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Chronicle:
    """The ``sessions`` that have a figure of the metric, with their ``values``; ``level`` is the
    mean of those that were accepted."""

    sessions: tuple[Observation, ...]
    values: tuple[float, ...]
    steps: Steps
    level: float | None


def chronicle(sessions: Sequence[Observation], metric: str, accepted: Collection[str]) -> Chronicle:
    """``metric`` over ``sessions`` of one key, the oldest first; ``accepted`` are the ids of those
    that the level rests on."""
    pairs = [(session, session_value(session, metric)) for session in sessions]
    known = [(session, value) for session, value in pairs if value is not None]
    values = [value for _, value in known]
    log = bool(values) and min(values) > 0
    return Chronicle(
        sessions=tuple(session for session, _ in known),
        values=tuple(values),
        steps=find_steps([math.log(value) if log else value for value in values]),
        level=mean([value for session, value in known if session.id in accepted]),
    )


def history_of(
    sessions: Sequence[Observation],
    fresh: Observation,
    metric: str,
    accepted: Sequence[Observation],
    against: str = "",
) -> GateHistory | None:
    """What a report tells of ``metric`` over the stored ``sessions``, with the session that is
    ``fresh``; ``None`` where no stored one has a figure of it.

    At most :data:`MOST_POINTS` are told, and the steps are those of these but the fresh one.
    """
    known = [each for each in sessions if launch_means(each, metric)]
    if not known:
        return None
    under = {each.id for each in accepted}
    # One session is no level yet: it would only hide the steps before it.
    shown = chronicle(known[1 - MOST_POINTS :], metric, under)
    return GateHistory(
        points=(
            *(_point(each, metric, accepted=each.id in under) for each in shown.sessions),
            *([_point(fresh, metric, fresh=True)] if launch_means(fresh, metric) else []),
        ),
        older=len(known) - len(shown.sessions),
        steps=tuple(_steps(shown)),
        method=shown.steps.method,
        level=mean(values_of(accepted, metric)),
        against=against,
    )


def _steps(shown: Chronicle) -> Iterator[HistoryStep]:
    edges = [0, *shown.steps.starts, len(shown.values)]
    for before, at, after in zip(edges, edges[1:], edges[2:], strict=False):
        yield HistoryStep(
            at=at, before=_mean(shown.values[before:at]), after=_mean(shown.values[at:after])
        )


def _point(
    session: Observation, metric: str, *, accepted: bool = False, fresh: bool = False
) -> HistoryPoint:
    launches = launch_means(session, metric)
    version = session.subject.get("version")
    return HistoryPoint(
        created=session.created,
        value=_mean(launches),
        low=min(launches),
        high=max(launches),
        launches=len(launches),
        version=None if version is None else str(version),
        commit=session.commit,
        dirty=session.dirty,
        accepted=accepted,
        fresh=fresh,
    )


def launch_means(session: Observation, metric: str) -> list[float]:
    """What each launch of a session measured, in the metric's unit."""
    return [launch.metrics[metric] for launch in session.launches if metric in launch.metrics]


def session_value(session: Observation, metric: str) -> float | None:
    """The mean over a session's launches, in the metric's unit: geometric, where all are positive.
    ``None`` where no launch has it."""
    return mean(launch_means(session, metric))


def values_of(sessions: Iterable[Observation], metric: str) -> list[float]:
    """One value for each session that has one."""
    found = (session_value(session, metric) for session in sessions)
    return [value for value in found if value is not None]


def mean(values: Sequence[float]) -> float | None:
    """Geometric, where all are positive; ``None`` of nothing."""
    return _mean(values) if values else None


def _mean(values: Sequence[float]) -> float:
    if min(values) > 0 and min(values) != max(values):
        return statistics.geometric_mean(values)
    return statistics.fmean(values)
