"""A hole in coverage says why its metric was not measured, where that is known."""

from __future__ import annotations

from pytest_llmperf.gates.limits import judge_limit
from pytest_llmperf.gates.screening import advice, between
from pytest_llmperf.records import Limit, MetricValue

WHY = "too short: 2 samples in 1.4 s; energy needs at least 3"
UNKNOWN, KNOWN = MetricValue(value=None), MetricValue(value=0.4)
SHORT = MetricValue(value=None, missing=WHY)
GENERAL = "see whether this engine and workload can report it"


def test_the_first_reason_that_is_known_counts() -> None:
    assert advice([UNKNOWN, KNOWN, SHORT]) == WHY
    assert advice([UNKNOWN, KNOWN]) == GENERAL
    assert advice([]) == GENERAL
    # what was measured has nothing to excuse
    assert advice([MetricValue(value=1.0, missing=WHY)]) == GENERAL


def test_a_limit_says_it() -> None:
    limit = Limit(
        kind="ceiling", metric="joules_per_output_token", limit=0.5, on=None, source="test_x.py:1"
    )
    verdict = judge_limit(limit, [[SHORT]], device="H200")
    assert (verdict.covered, verdict.reason_code) == (False, "not_measured")
    assert verdict.reason.endswith(f"on H200 (test_x.py:1); {WHY}")


def test_a_comparison_says_it() -> None:
    broken = between([[KNOWN], [KNOWN]], [[SHORT], [KNOWN]], "joules_per_output_token")
    assert broken is not None
    assert (broken.code, broken.covered) == ("not_measured", False)
    assert broken.why == f"was not measured in 1 of 2 launches of the reference; {WHY};"
