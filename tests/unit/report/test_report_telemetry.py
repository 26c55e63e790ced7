"""What the devices were like, in the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.records import Telemetry
from pytest_llmperf.report.schema import schema_errors

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples


def document(samples: Samples, telemetry: Telemetry | None) -> dict[str, Any]:
    return samples.assemble(samples.fragment(run=replace(samples.run, telemetry=telemetry)))


def run_of(found: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = found["measurements"][0]["runs"][0]
    return run


def test_telemetry_arrives_and_fits_the_schema(samples: Samples) -> None:
    found = document(samples, samples.run.telemetry)
    assert schema_errors(found) == []
    (device,) = run_of(found)["telemetry"]["devices"]
    assert device["series"]["power_w"] == [300.0, None]
    assert device["series"]["clock_mhz"] is None
    assert run_of(found)["telemetry"]["price"]["currency"] == "EUR"


@pytest.mark.parametrize("telemetry", [None, Telemetry(), Telemetry(energy_missing="too short")])
def test_what_is_not_known_fits_too(samples: Samples, telemetry: Telemetry | None) -> None:
    assert schema_errors(document(samples, telemetry)) == []


def test_a_report_from_before_telemetry_is_still_one(samples: Samples) -> None:
    found = document(samples, None)
    del run_of(found)["telemetry"]
    assert schema_errors(found) == []


def test_a_stray_column_is_refused(samples: Samples) -> None:
    found = document(samples, samples.run.telemetry)
    run_of(found)["telemetry"]["devices"][0]["series"]["fan"] = [1.0]
    (error,) = schema_errors(found)
    assert "telemetry" in error
