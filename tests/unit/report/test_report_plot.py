"""The plot of a history, by its exact text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.report.plot import history_plot

STEPPED = [1650.0, 1640.0, 1655.0, 1645.0, 1560.0, 1555.0, 1565.0]


FIGURES = st.just(0.0) | st.floats(1e-3, 1e9)


def text(lines: list[str]) -> str:
    return "\n".join(lines)


def test_a_step_and_a_level() -> None:
    expected = """\
1,647 ┤⠂┄⡀┄⠈┄┄⠄┄│┄┄┄┄
      │         │
      │         │
      │         │
1,555 ┤         ⠄ ⡀ ⠐
      └─────────┴────"""
    found = text(history_plot(STEPPED, width=30, height=5, starts=[4], level=1647.0))
    assert found == expected


def test_one_value_stands_on_the_axis() -> None:
    expected = """\
5.05 ┤
     │⠄
4.95 ┤
     └──────────"""
    assert text(history_plot([5.0], width=20, height=3)) == expected


def test_zero_takes_away_the_logarithms() -> None:
    expected = """\
1 ┤         ⠈
  │     ⠄
0 ┤⡀
  └──────────"""
    assert text(history_plot([0.0, 0.5, 1.0], width=20, height=3)) == expected


def test_nothing_is_nothing() -> None:
    assert history_plot([], width=80) == []


def test_the_scale_is_logarithmic() -> None:
    middle = history_plot([1.0, 10.0, 100.0], width=40, height=5)[2]
    assert any(0x2800 < ord(character) <= 0x28FF for character in middle)


@given(
    values=st.lists(FIGURES, min_size=1, max_size=300),
    width=st.integers(40, 200),
    height=st.integers(2, 20),
    level=st.none() | FIGURES,
    start=st.integers(0, 299),
)
def test_it_fits_and_every_session_is_there(
    values: list[float], width: int, height: int, level: float | None, start: int
) -> None:
    starts = [start] if start < len(values) else []
    lines = history_plot(values, width=width, height=height, starts=starts, level=level)
    assert len(lines) == height + 1
    assert max(map(len, lines)) <= width
    dots = sum(bin(ord(c) - 0x2800).count("1") for c in text(lines) if 0x2800 <= ord(c) <= 0x28FF)
    assert 1 <= dots <= len(values)
    if len(values) < width // 4:
        assert dots == len(values)
    assert ("┴" in lines[-1]) == bool(starts)


@pytest.mark.parametrize("width", [1, 10])
def test_a_narrow_terminal_gets_a_narrow_plot_all_the_same(width: int) -> None:
    lines = history_plot(STEPPED, width=width)
    assert len(lines) == 9
