"""How the commands put numbers."""

from __future__ import annotations

import pytest

from pytest_llmperf.cli.words import count, percent, table, value_text


@pytest.mark.parametrize(
    ("fraction", "said"),
    [
        (None, "-"),
        (0.0, "0 %"),
        (0.0614, "+6.14 %"),
        (-0.5, "-50 %"),
        (0.00001, "+0.001 %"),
        (-0.00001, "-0.001 %"),
        (1e-15, "0 %"),
        (-1e-15, "0 %"),
    ],
)
def test_percent(fraction: float | None, said: str) -> None:
    assert percent(fraction) == said


def test_values() -> None:
    assert value_text(None, "ms") == "-"
    assert value_text(float("inf"), "ms") == "unbounded"
    assert value_text(0.99, "1") == "99 %"
    assert count(1, "launch", "launches") == "1 launch"
    assert count(1200, "session") == "1,200 sessions"


def test_a_table_sets_figures_to_the_right() -> None:
    rows = [["a", "1 ms", "x"], ["long", "1,000 ms", ""]]
    assert table(rows, ["name", "value", ""], right="value") == [
        "name     value",
        "-----------------",
        "a         1 ms  x",
        "long  1,000 ms",
    ]
