"""How sure a verdict is: what the judges decide, in the same plain words everywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.gates.design import design_for
from pytest_llmperf.gates.history import judge_history
from pytest_llmperf.gates.limits import judge_limit
from pytest_llmperf.gates.regression import judge_ab
from pytest_llmperf.records import Limit, MetricValue, RegressionGate, Verdict
from pytest_llmperf.report import document as doc
from pytest_llmperf.report.certainty import certainty
from pytest_llmperf.report.columns import Look
from pytest_llmperf.report.page_gates import gate_view
from pytest_llmperf.report.story import story_lines
from pytest_llmperf.report.words import ends, percent, worse

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

FLOOR = Limit(kind="floor", metric="output_throughput", limit=1800.0, on=None, source="t.py:7")
COUNT = Limit(kind="floor", metric="success_rate", limit=0.99, on=None, source="t.py:8")
GATE = RegressionGate(metric="tpot_mean", loss_to_catch=0.1, allow=0.0, source="t.py:9")
STORED = [[1000.0 + 2 * step, 1000.0 + 3 * step] for step in (-6, -4, -3, -2, -1, 1, 2, 3, 4, 6)]


def entry(verdict: Verdict) -> dict[str, Any]:
    return dict(doc.gate_entry("t.py::test_a", None, verdict))


def limited(*values: float, limit: Limit = FLOOR) -> dict[str, Any]:
    measured = [[MetricValue(value=value)] for value in values]
    return entry(judge_limit(limit, measured, device="RTX 4090"))


def remembered(*values: float) -> dict[str, Any]:
    fresh = [[MetricValue(value=value)] for value in values]
    kept = {"alpha": 0.01, "family": 3, "device": "RTX 4090", "against": "the level"}
    return entry(judge_history(GATE, fresh, STORED, **kept))  # type: ignore[arg-type]


def paired(ours: Sequence[float]) -> dict[str, Any]:
    pairs = [([MetricValue(value=mine)], [MetricValue(value=1000.0)]) for mine in ours]
    # What looks share is not the whole rate: only the judge's own sentence says how sure it is.
    design = design_for(GATE, alpha=0.009, max_pairs=12)
    told = judge_ab(GATE, pairs, design, device="RTX 4090", against="0.5.22", alpha=0.01, family=1)
    return entry(told)


def around(value: float, spread: float = 0.01, pairs: int = 8) -> list[float]:
    return [value * math.exp(spread if pair % 2 else -spread) for pair in range(pairs)]


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (limited(1500.0), "1 launch may be off by 9 % by chance, and this is further"),
        (limited(1700.0, 1702.0), "2 launches may be off by 9 % by chance, and this is less"),
        (limited(1900.0), "1 launch may be off by 9 % by chance"),
        (limited(0.9, limit=COUNT), "compared as it is, nothing is allowed for noise"),
    ],
)
def test_few_launches_have_a_guard_in_place_of_an_interval(gate: Any, said: str) -> None:
    assert certainty(gate) == said


def test_the_interval_of_several_launches_is_told_with_its_confidence() -> None:
    gate = limited(1612.0, 1600.0, 1620.0)
    told = re.fullmatch(r"99 % sure: ([\d,]+) tok/s to ([\d,]+) tok/s", certainty(gate))
    assert told is not None
    low, high = (float(end.replace(",", "")) for end in told.groups())
    assert low == pytest.approx(gate["ci_low"], rel=1e-3)
    assert high == pytest.approx(gate["ci_high"], rel=1e-3)


def test_gates_that_share_the_false_alarms_are_surer() -> None:
    assert certainty({**limited(1612.0, 1600.0, 1620.0), "family": 4}).startswith("99.75 % sure: ")
    assert certainty(remembered(1300.0, 1302.0)).startswith("99.66 % sure: at least ")


@pytest.mark.parametrize(
    ("gate", "verdict", "said"),
    [
        (paired(around(1300.0)), "fail", r"99\.1 % sure: at least [\d.]+ % worse"),
        (paired(around(1001.0)), "pass", r"95 % sure: at worst [\d.]+ % worse"),
        (paired(around(900.0)), "pass", r"95 % sure: at least [\d.]+ % better"),
        (
            paired(around(1050.0, 0.2, pairs=12)),
            "inconclusive",
            r"99\.1 % sure: no more than [\d.]+ % better; 95 % sure: at worst [\d.]+ % worse",
        ),
        (remembered(1300.0, 1302.0), "fail", r"99\.66 % sure: at least [\d.]+ % worse"),
        (remembered(1000.0, 1002.0), "pass", r"95 % sure: at worst [\d.]+ % worse"),
    ],
)
def test_a_loss_is_told_with_the_bounds_that_decide(gate: Any, verdict: str, said: str) -> None:
    assert gate["verdict"] == verdict
    assert re.fullmatch(said, certainty(gate)), certainty(gate)
    for how_sure in re.findall(r"[\d.]+ % sure", certainty(gate)):
        assert how_sure in gate["reason"]


def test_many_gates_are_never_quite_sure() -> None:
    many = {**limited(1612.0, 1600.0, 1620.0), "alpha": 0.01 / 125, "family": 20}
    assert certainty(many).startswith("99.9996 % sure: ")


def test_a_report_that_does_not_say_how_sure_its_bounds_are_is_told_without() -> None:
    gate = paired(around(1300.0))
    older = {name: value for name, value in gate.items() if not name.startswith("sure_")}
    assert certainty(older) == certainty(gate).removeprefix("99.1 % sure: ")


def test_nothing_is_said_of_what_was_not_compared(samples: Samples) -> None:
    _, hole = samples.assemble(samples.fragment())["gates"]
    assert certainty(hole) == ""


@pytest.mark.parametrize("gate", [limited(1500.0), paired(around(1300.0)), remembered(1300.0)])
def test_the_page_and_the_whole_story_use_the_same_words(samples: Samples, gate: Any) -> None:
    view = gate_view({**gate, "expected": False, "simulated": False}, history="")
    assert dict(view.facts)["How sure"] == certainty(gate)
    document = {**samples.assemble(samples.fragment()), "gates": [gate]}
    lines = story_lines(document, replace(Look(), width=400))
    assert f"how sure: {certainty(gate)}" in " ".join(" ".join(lines).split())


# --- numbers beside their bounds -------------------------------------------------------------


@given(st.floats(0.5, 2.0), st.floats(1e-9, 0.01))
def test_the_end_of_an_interval_stands_on_its_side_of_the_limit(scale: float, off: float) -> None:
    limit = 1800.4 * scale
    low, high = ends(limit * (1 - 3 * off), limit * (1 + off), "tok/s", limit)
    shown = [float(end.split()[0].replace(",", "")) for end in (low, high)]
    assert shown[0] < shown[1]
    assert shown[0] < limit < shown[1]


@pytest.mark.parametrize(
    ("loss", "bound", "said"),
    [
        (0.04996, 0.05, "4.996 % worse"),
        (0.050004, 0.05, "5.0004 % worse"),
        (0.05, 0.05, "5 % worse"),
        (-0.05, 0.05, "5 % better"),
        (0.0312, 0.05, "3.12 % worse"),
        (0.0312, None, "3.12 % worse"),
    ],
)
def test_a_loss_is_not_rounded_onto_its_bound(loss: float, bound: float | None, said: str) -> None:
    assert worse(loss, bound) == said


@pytest.mark.parametrize(
    ("fraction", "said"),
    [
        (0.01 / 1250, "0.0008 %"),
        (0.01 / 3, "0.33 %"),
        (0.000512, "0.051 %"),
        (0.0614, "6.14 %"),
        (0.12345, "12.3 %"),
        (-0.0001, "-0.01 %"),
        (0.0, "0 %"),
        (-1e-15, "0 %"),
        (None, "-"),
    ],
)
def test_a_share_is_0_only_where_it_is_nothing(fraction: float | None, said: str) -> None:
    assert percent(fraction) == said
