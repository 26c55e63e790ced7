"""What is read out of a report to be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.cli.reports import Measured, measured_in

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Reports


def read(reports: Reports, fragment: dict[str, Any], **more: Any) -> Measured:
    (found,) = measured_in({**reports.document(fragment), **more})
    return found


def test_runs_make_one_number_per_launch(reports: Reports) -> None:
    fragment = reports.measured({"output_throughput": [100.0, 110.0, 120.0]})
    runs = fragment["measurements"][0]["runs"]
    runs[1]["launch_id"] = runs[0]["launch_id"]
    assert read(reports, fragment).values("output_throughput") == [105.0, 120.0]


def test_invalid_runs_do_not_count(reports: Reports) -> None:
    fragment = reports.measured({"output_throughput": [100.0, 110.0, 120.0]})
    fragment["measurements"][0]["runs"][2]["valid"] = False
    assert read(reports, fragment).values("output_throughput") == [100.0, 110.0]


def test_a_launch_without_the_metric_takes_it_away(reports: Reports) -> None:
    fragment = reports.measured({"output_throughput": [100.0, None], "ttft_p50": [1.0, 2.0]})
    found = read(reports, fragment)
    assert found.values("output_throughput") is None
    assert found.values("ttft_p50") == [1.0, 2.0]
    assert found.values("no_such_metric") is None


def test_one_unbounded_run_makes_its_launch_unbounded(reports: Reports) -> None:
    fragment = reports.measured({"ttft_p95": [100.0, float("inf"), 90.0]})
    runs = fragment["measurements"][0]["runs"]
    runs[1]["launch_id"] = runs[0]["launch_id"]
    assert read(reports, fragment).values("ttft_p95") == [float("inf"), 90.0]


def test_the_subject_is_what_ran_last(reports: Reports) -> None:
    fragment = reports.measured({"output_throughput": [100.0, 101.0]})
    plain = {"engine": "sglang", "version": "0.5.22"}
    assert read(reports, fragment).subject.items() >= plain.items()
    fragment["launches"][0]["subject"] = {"code": {"sglang": {"digest": "1"}}}
    fragment["launches"][1]["subject"] = None  # it never came up
    assert read(reports, fragment).subject == {"code": {"sglang": {"digest": "1"}}}


@pytest.mark.parametrize(("swept", "gated"), [(False, {"output_throughput"}), (True, set())])
def test_a_gate_that_was_judged_on_nothing_belongs_to_what_its_test_declared(
    reports: Reports, swept: bool, gated: set[str]
) -> None:
    fragment = reports.measured({"output_throughput": [100.0]}, gated=["output_throughput"])
    fragment["gates"][0]["measurement"] = None
    point = {"points": [{"measurement": fragment["measurements"][0]["id"]}]}
    assert read(reports, fragment, sweeps=[point] if swept else []).gated == gated


def test_the_same_twice_is_told_apart(reports: Reports) -> None:
    fragment = reports.measured({"output_throughput": [100.0]})
    again = {**fragment["measurements"][0], "id": "again"}
    fragment["measurements"].append(again)
    first, second = measured_in(reports.document(fragment))
    assert first.key != second.key
    assert second.title == f"{first.title} (2)"
