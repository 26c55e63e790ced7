"""Numbers and charts of the page that tell on which side of a limit a value is."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.report.page_gates import GateView, gate_view
from pytest_llmperf.report.told import told_gates

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

#: Stands in for what the charts are drawn with, and tells what they draw.
_DRAWING = """
const drawn = { strokes: {}, ranges: {} };
const drawing = {
  axis: () => ({}), css: (name) => name, figure: (_, caption) => { drawn.caption = caption; },
  dots: (label, stroke) => { drawn.strokes[label] = stroke; return { points: {} }; },
  marks: (lines) => { drawn.lines = lines; }, padded: () => null,
  plot: (_, { scales }) => { drawn.ranges[drawn.caption] = scales.x.range; },
  spoken: (name) => name, unit: () => "", colour: (side) => side, better: () => "lower",
  make: () => ({ append() {}, addEventListener() {} }), valueOf: (metric) => metric,
};
const uPlot = { join: (tables) => tables, paths: { stepped: () => null } };
const inTime = () => null;
"""


def viewed(samples: Samples, **changed: Any) -> GateView:
    gate = {**told_gates(samples.assemble(samples.fragment()))[0], **changed}
    return gate_view(gate, history="")


@pytest.mark.parametrize(
    ("value", "limit", "unit", "shown"),
    [
        (999.97, 1000.0, "tok/s", ("999.97 tok/s", "≥ 1,000 tok/s")),
        (1000.3, 1000.4, "tok/s", ("1,000.3 tok/s", "≥ 1,000.4 tok/s")),
        (0.98996, 0.99, "1", ("98.996 %", "≥ 99 %")),
        (1612.34, 1800.4, "tok/s", ("1,612 tok/s", "≥ 1,800 tok/s")),
    ],
)
def test_a_value_of_the_page_stands_on_its_side_of_the_limit(
    samples: Samples, value: float, limit: float, unit: str, shown: tuple[str, str]
) -> None:
    view = viewed(samples, observed=value, limit=limit, unit=unit)
    assert (view.value, view.wanted) == shown
    facts = dict(view.facts)
    assert (facts["Value"], facts["Wanted"]) == shown


def drawn(chart: str, report: dict[str, Any], **place: str) -> dict[str, Any]:
    """What the page's script draws of a report as this chart, in this place of the page."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node runs the page's script, and is not here")
    charts = files("pytest_llmperf.report").joinpath("page", "charts.js").read_text("utf-8")
    script = (
        charts.replace('"use strict";', _DRAWING, 1)
        + f"charts.{chart}({json.dumps(report)}, "
        + f"{{ dataset: {json.dumps(place)}, replaceChildren() {{}}, append() {{}} }});"
        + "console.log(JSON.stringify(drawn));"
    )
    said = subprocess.run([node, "-"], input=script, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(said.stdout)
    return told


def history_drawn(gates: list[dict[str, Any]]) -> dict[str, Any]:
    return drawn("history", {"gates": gates}, gate="0")


def gate(limit: float | None, verdict: str, test: str = "a") -> dict[str, Any]:
    point = {"created": "2026-01-01", "value": 1.0, "low": 1.0, "high": 1.0, "fresh": True}
    history = {"points": [point], "steps": [], "level": None}
    return {"test": test, "metric": "m", "limit": limit, "verdict": verdict, "history": history}


def test_a_history_is_drawn_with_the_limits_of_all_its_gates() -> None:
    others = [gate(700.0, "pass"), gate(700.0, "fail"), gate(900.0, "pass"), gate(5.0, "pass", "b")]
    told = history_drawn([gate(None, "pass"), *others])
    assert [line["at"] for line in told["lines"]] == [700.0, 900.0]
    assert told["strokes"]["this session"] == "--fail"
    assert "red: the limits" in told["caption"]


def test_the_history_of_gates_that_pass_is_not_drawn_as_a_failure() -> None:
    told = history_drawn([gate(None, "pass"), gate(700.0, "pass"), gate(5.0, "fail", "b")])
    assert told["strokes"]["this session"] == "--candidate"
    assert told["caption"].endswith("(red: the limit)")


@pytest.mark.parametrize(
    ("ceiling", "last"), [(150.0, 150.0), (119.0, 120.0), (300.0, 120.0)], ids=str
)
def test_a_ceiling_far_away_does_not_flatten_a_distribution(ceiling: float, last: float) -> None:
    """The chart ends a little beyond what lasted longest, or beyond a ceiling that is near."""
    run = {
        "side": "candidate",
        "valid": True,
        "index": 0,
        "started_at": "2026-01-01T00:00:00",
        "metrics": {},
        "curves": {"quantiles": {"ttft": [100.0, 110.0, 120.0]}},
    }
    limit = {"measurement": "m", "kind": "ceiling", "limit": ceiling, "metric": "ttft_p95"}
    report = {
        "measurements": [{"id": "m", "runs": [run]}],
        "gates": [{**limit, "verdict": "pass"}],
    }
    told = drawn("measurement", report, at="0")
    assert [line["at"] for line in told["lines"]] == [ceiling], "told at the edge all the same"
    (least, most) = told["ranges"]["TTFT: share of requests within"]
    assert 90 < least < 100
    assert last < most < 1.1 * last
