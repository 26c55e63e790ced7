"""What the baseline commands say of a key, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_llmperf.gates.chronicle import mean, session_value, values_of
from pytest_llmperf.gates.comparable import differences, told
from pytest_llmperf.gates.history import LEARNING
from pytest_llmperf.metrics import units
from pytest_llmperf.records import Level, Observation

from .history import History, loss, metrics_of
from .words import count, percent, table, value_text
from .workloads import workload_text


def accepted(history: History, sessions: Sequence[Observation]) -> Iterator[str]:
    """A level that was just moved: the old one and the new one, by metric."""
    yield f"{history.newest.test}: accepted {count(len(sessions), 'session')} ({history.key})"
    if len({str(session.subject) for session in sessions}) > 1:
        yield "  note: they are sessions of different subjects; --last 1 takes the newest only"
    if len(sessions) < LEARNING:
        yield f"  note: gates learn until a level rests on {LEARNING} sessions, and judge nothing"
    for metric in metrics_of(history):
        old = mean(values_of(history.under(history.level), metric))
        new = mean(values_of(sessions, metric))
        was = "no level before" if old is None else f"was {value_text(old, _unit(metric))}"
        yield f"  {metric}: {value_text(new, _unit(metric))}, {was}{_by(old, new, metric)}"
    if not metrics_of(history):
        yield "  no gate names a metric of it yet"


def listed(found: Sequence[History]) -> list[str]:
    """A table with a row for each key and gated metric."""
    rows = [_row(history, metric) for history in found for metric in _rows_of(history)]
    headers = ["key", "metric", "sessions", "level", "accepted", "newest", "against level"]
    return table(rows, headers, right="sessions,level,newest,against level") if rows else []


def _rows_of(history: History) -> Sequence[str]:
    return metrics_of(history) or ("",)


def _row(history: History, metric: str) -> list[str]:
    level, newest = _level_value(history, metric), None
    if metric:
        newest = session_value(history.newest, metric)
    unit = _unit(metric) if metric else ""
    return [
        history.key,
        (metric or "(no gate)") + history.label,
        str(len(history.sessions)),
        value_text(level, unit),
        history.level.created[:10] if history.level else "-",
        value_text(newest, unit),
        _word(level, newest, metric) if metric else "-",
    ]


def shown(history: History) -> Iterator[str]:
    """All that is remembered of one key."""
    yield f"{history.newest.test}{history.label}"
    yield f"  key          {history.key}"
    yield f"  workload     {workload_text(history.newest.workload)}"
    for name, value in sorted(history.newest.environment.items()):
        yield f"  environment  {name}: {'unknown' if value is None else value}"
    for level in history.levels:
        yield f"  level        {_level_line(level)}"
    if not history.levels:
        yield "  level        none accepted"
    yield ""
    metrics = metrics_of(history) or history.measured
    under = {session.id for session in history.under(history.level)}
    rows = [_session_row(session, metrics, session.id in under) for session in history.sessions]
    headers = ["session", "launches", "commit", "verdict", *metrics, ""]
    yield from table(rows, headers, right=",".join(["launches", *metrics]))


def _session_row(session: Observation, metrics: Sequence[str], in_level: bool) -> list[str]:
    dirty = "+" if session.dirty else ""
    return [
        _when(session.created),
        str(len(session.launches)),
        f"{session.commit[:7]}{dirty}" if session.commit else "-",
        session.verdict or "-",
        *(value_text(session_value(session, name), _unit(name)) for name in metrics),
        "in the level" if in_level else "",
    ]


def _level_line(level: Level) -> str:
    by = f" by {level.author}" if level.author else ""
    at = f" at {level.commit[:7]}" if level.commit else ""
    of = count(len(level.observations), "session")
    return f"{_when(level.created)}{by}{at}, {of}: {level.reason}"


def differing(history: History) -> Iterator[str]:
    """The newest session beside the accepted level, and what changed of the subject."""
    yield f"{history.newest.test} ({history.key}){history.label}"
    if history.level is None:
        yield "  no accepted level; `pytest-llmperf baseline accept --reason TEXT` makes one"
        return
    under = history.under(history.level)
    yield f"  newest {_when(history.newest.created)}, level {_level_line(history.level)}"
    rows = [_difference(history, metric) for metric in metrics_of(history) or history.measured]
    headers = ["metric", "level", "newest", "change", ""]
    yield from (f"  {line}" for line in table(rows, headers, right="level,newest,change"))
    changed = told(differences(history.newest.subject, under[-1].subject)) if under else ()
    yield f"  changed: {'; '.join(changed) or 'nothing of the subject'}"


def _difference(history: History, metric: str) -> list[str]:
    old, new = _level_value(history, metric), session_value(history.newest, metric)
    change = None if not old or new is None else new / old - 1
    unit = _unit(metric)
    return [
        metric,
        value_text(old, unit),
        value_text(new, unit),
        percent(change),
        _word(old, new, metric),
    ]


def _level_value(history: History, metric: str) -> float | None:
    return mean(values_of(history.under(history.level), metric)) if metric else None


def _by(old: float | None, new: float | None, metric: str) -> str:
    word = _word(old, new, metric)
    return "" if word == "-" else f" ({word})"


def _word(old: float | None, new: float | None, metric: str) -> str:
    """ "2.1 % worse"; "-" where there is nothing to compare."""
    lost = loss(old, new, units.row_of(metric).direction)
    if lost is None:
        return "-"
    return (
        f"{percent(abs(lost), signed=False)} {'worse' if lost > 0 else 'better'}"
        if lost
        else "same"
    )


def _unit(metric: str) -> str:
    return units.row_of(metric).unit


def _when(created: str) -> str:
    return created[:16].replace("T", " ")
