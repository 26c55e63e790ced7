from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.report import document as doc
from pytest_llmperf.report import terminal
from pytest_llmperf.report.junit import properties

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

LONG = "tests/perf/test_r1.py::test_a_very_long_name_indeed[concurrency=32-a::b]"


def wide(samples: Samples) -> dict[str, Any]:
    """A document with everything as wide as it gets."""
    fragment = samples.fragment(LONG)
    gate = fragment["gates"][0]
    more = [
        {
            **gate,
            "metric": metric,
            "unit": "tok/s",
            "observed": 1234567.8,
            "limit": 1345678.9,
            "ci_low": 1111111.1,
            "ci_high": 1333333.3,
            "verdict": verdict,
            "covered": covered,
            "reason_code": "no_valid_runs",
        }
        for metric, verdict, covered in (
            ("throughput_per_accelerator", "inconclusive", True),
            ("total_throughput", "inconclusive", False),
        )
    ]
    fragment["gates"] += more
    fragment["tests"].append(
        doc.test_entry("t.py::test_b", "broken", "the server ran out of memory " * 5 + "\nlog", 3.0)
    )
    return samples.assemble(fragment)


def test_everything_fits_eighty_columns(samples: Samples) -> None:
    lines = terminal.summary_lines(wide(samples))
    assert max(len(line) for line in lines) <= 80, "\n".join(lines)


@pytest.mark.parametrize("length", range(1, 60, 3))
def test_names_of_any_length_fit(samples: Samples, length: int) -> None:
    document = samples.assemble(samples.fragment("t.py::" + "x" * length))
    lines = terminal.gate_table(document) + terminal.measurement_table(document)
    assert max(len(line) for line in lines) <= 80
    assert any("x" * min(length, 20) in line for line in lines)


def test_what_is_ours_is_plain_ascii(samples: Samples) -> None:
    document = wide(samples)
    for lines in (terminal.gate_table(document), terminal.measurement_table(document)):
        assert "\n".join(lines).isascii()


def test_the_gate_table_says_everything(samples: Samples) -> None:
    table = terminal.gate_table(samples.assemble(samples.fragment()))
    text = "\n".join(table)
    for said in ("test_chat", "output throughput", "1,611 tok/s", ">= 1,800", "-10.5 %"):
        assert said in text
    for said in ("-13.7..-7.3", "FAIL", "NOT COVERED", "no loss", "of 20 %", "no_reference"):
        assert said in text


def test_the_tables_numbers_are_the_documents(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    gate = document["gates"][0]
    gate["observed"], gate["difference"], gate["detectable_loss"] = 3.25, 0.5, 0.0625
    row = "\n".join(terminal.gate_table(document))
    assert "3.25 tok/s" in row
    assert "+50 %" in row
    assert "6.25 %" in row


def test_the_measurement_table(samples: Samples) -> None:
    fragment = samples.fragment()
    runs = fragment["measurements"][0]["runs"]
    runs.append({**runs[0], "valid": False, "invalid_reasons": ["client-bound"]})
    fragment["measurements"][0]["summary"]["ttft_p50"] = {
        **fragment["measurements"][0]["summary"]["ttft_max"],
        "value": 180.4,
    }
    text = "\n".join(terminal.measurement_table(samples.assemble(fragment)))
    for said in ("chat 1024/1024 x16", "180.4 ms", "unbounded", "1,611 tok/s", "152/160"):
        assert said in text
    assert "1 run invalid" in text


def test_servers_and_launches_are_counted(samples: Samples) -> None:
    fragment = samples.fragment()
    attached = replace(
        samples.launch, id="a", server_id="endpoint-1", launched=False, startup_time_s=None
    )
    failed = replace(samples.launch, id="b", failure="out of memory", startup_time_s=None)
    fragment["launches"] += [doc.launch_entry(attached), doc.launch_entry(failed)]
    lines = terminal.server_lines(samples.assemble(fragment))
    assert lines[0] == "2 launches for 2 servers"
    text = " ".join(" ".join(lines).split())
    for said in ("sglang 0.5.23", "up after 41.2 s", "1 launch failed", "attached at http://127"):
        assert said in text


def test_the_line_of_a_reference_says_so(samples: Samples) -> None:
    fragment = samples.fragment()
    theirs = replace(samples.launch, id="r", server_id="sglang-reference", side="reference")
    fragment["launches"].append(doc.launch_entry(theirs))
    own, other = terminal.server_lines(samples.assemble(fragment))[1:3]
    assert "the reference" in other
    assert "reference" not in own
    shared = replace(samples.launch, id="s", side="reference")
    fragment["launches"].append(doc.launch_entry(shared))
    assert "also a reference" in " ".join(terminal.server_lines(samples.assemble(fragment)))


def test_servers_that_nobody_launched_are_not_launches(samples: Samples) -> None:
    attached = replace(samples.launch, launched=False, startup_time_s=None)
    lines = terminal.server_lines(samples.assemble(samples.fragment(launch=attached)))
    assert lines[0] == "1 server"


def test_simulated_figures_are_labelled_in_every_table(samples: Samples) -> None:
    launch = replace(samples.launch, engine="sim")
    document = samples.assemble(samples.fragment(launch=launch))
    for lines in (
        terminal.server_lines(document),
        terminal.measurement_table(document),
        terminal.gate_table(document),
    ):
        assert any("SIMULATED" in line for line in lines)
    assert "SIMULATED" not in "\n".join(
        terminal.summary_lines(samples.assemble(samples.fragment()))
    )


def test_problems_are_told_by_their_kind(samples: Samples) -> None:
    fragment = samples.fragment()
    fragment["tests"] = [
        doc.test_entry("t.py::test_a", "broken", "the server died\nlong story", 1.0),
        doc.test_entry("t.py::test_b", "could_not_measure", "no limit for cpu", 1.0),
        doc.test_entry("t.py::test_c", "failed", "assert 1 == 2", 1.0),
    ]
    document = {**samples.assemble(fragment), "complete": False}
    assert terminal.problem_lines(document) == [
        "1 test broken:",
        "  test_a: the server died",
        "1 test could not be measured:",
        "  test_b: no limit for cpu",
        "INCOMPLETE: the session was interrupted, or results were lost.",
    ]


def test_nothing_to_say_is_nothing(samples: Samples) -> None:
    assert terminal.summary_lines(samples.assemble()) == []


# --- JUnit -----------------------------------------------------------------------------------


def test_junit_properties(samples: Samples) -> None:
    found = dict(properties(samples.fragment()))
    assert found["llmperf.verdict"] == "fail"
    assert found["llmperf.class"] == "slow"
    assert found["llmperf.output_throughput"] == "1610.65 tok/s"
    assert found["llmperf.gate.floor.output_throughput"].startswith("fail: −10.5 % under floor")
    assert found["llmperf.gate.regression.ttft_p95"].startswith(
        "inconclusive: nothing to compare with"
    )
    assert all(isinstance(value, str) for value in found.values())


def test_a_second_measurement_keeps_its_metrics_apart(samples: Samples) -> None:
    fragment = samples.fragment()
    second = {**fragment["measurements"][0], "id": "m2"}
    fragment["measurements"].append(second)
    names = [name for name, _ in properties(fragment)]
    assert "llmperf.output_throughput" in names
    assert "llmperf.m2.output_throughput" in names


@pytest.mark.parametrize("missing", ["measurements", "gates", "tests"])
def test_a_fragment_may_lack_anything(samples: Samples, missing: str) -> None:
    fragment = samples.fragment()
    del fragment[missing]
    assert ("llmperf.verdict", "fail" if missing != "gates" else "none") in properties(fragment)
