"""Ways in which a gate could end green by accident: verdict and exit status of each.

docs/fail-closed.md names the test of every row; here are those that have no better place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.records import Accelerator, Level, Observation
from pytest_llmperf.session import watching
from pytest_llmperf.store import open_store

ROOT = Path(__file__).parents[2]
SERVER = "--ttft-ms 5 --itl-ms 2"
SLOWER = "--ttft-ms 5 --itl-ms 4"
TEST = """
import pytest
@pytest.mark.llm_server("sim", model="m", args="{args}")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=32, requests=16, concurrency=4)
@pytest.mark.llm_no_regression({gate})
def test_a(llm_perf): llm_perf.run()
"""
GATE = 'tpot_mean="30%"'


def session(
    pytester: pytest.Pytester, *args: str, server: str = SERVER, gate: str = GATE
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=TEST.format(args=server, gate=gate))
    options = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")
    result = pytester.runpytest(*options, "--llmperf-store=perf", *args)
    report: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    return result, report


def give_level(pytester: pytest.Pytester, without: str = "") -> Observation:
    """Ten accepted sessions like a real one, in which the metric ``without`` is not known."""
    session(pytester)
    store = open_store("perf", pytester.path)
    (newest,) = store.observations()
    for number in range(1, 11):
        factor = 1 + 0.01 * (-1) ** number * number / 10
        launches = tuple(
            replace(
                launch,
                metrics={n: v * factor for n, v in launch.metrics.items() if n != without},
            )
            for launch in newest.launches
        )
        created = f"2026-01-{number:02d}T00:00:00+00:00"
        store.append(replace(newest, id=f"old{number}", created=created, launches=launches))
    ids = tuple(f"old{number}" for number in range(1, 11))
    created = "2026-02-01T00:00:00+00:00"
    store.accept(Level(id="l", key=newest.key, created=created, observations=ids, reason="first"))
    store.close()
    return newest


def remembered(pytester: pytest.Pytester) -> list[Observation]:
    store = open_store("perf", pytester.path)
    try:
        return store.observations()
    finally:
        store.close()


def test_a_candidate_that_is_throttled_is_not_judged(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hot(_accelerator: Accelerator, _samples: object, own: Sequence[int]) -> list[str]:
        lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in own]
        return ["throttled: by the test"] if any("--itl-ms\x004" in line for line in lines) else []

    watcher = Watcher(look=lambda: [Condition(uuid="u")], period_s=0.001)
    monkeypatch.setattr(watching, "watching", lambda _: nullcontext(watcher))
    monkeypatch.setattr(watching, "troubles", hot)
    result, report = session(
        pytester, f"--llmperf-reference-args={SERVER}", "--llmperf-pairs=4", server=SLOWER
    )
    (gate,) = report["gates"]
    assert (result.ret, gate["reason_code"], gate["covered"]) == (11, "candidate_invalid", False)
    assert "throttled: by the test" in gate["reason"]
    valid = {run["side"]: run["valid"] for each in report["measurements"] for run in each["runs"]}
    assert valid == {"candidate": False, "reference": True}


def test_a_gate_on_a_metric_that_the_level_does_not_know_is_red(
    pytester: pytest.Pytester,
) -> None:
    give_level(pytester, without="tpot_mean")
    result, report = session(pytester)
    assert result.ret == 11
    (gate,) = report["gates"]
    assert (gate["reason_code"], gate["covered"]) == ("no_level", False)


@pytest.mark.parametrize("workers", ["-n1", "-n2"])
def test_a_regression_on_a_worker_fails_and_is_remembered(
    pytester: pytest.Pytester, workers: str
) -> None:
    give_level(pytester)
    result, report = session(pytester, workers, "--llmperf-require=.", server=SLOWER)
    assert result.ret == 10
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["mode"], gate["attempt"]) == ("fail", "history", 1)
    (newest,) = (each for each in remembered(pytester) if each.verdict == "fail")
    assert [(each.kind, each.verdict) for each in newest.judged] == [("regression", "fail")]


def test_a_level_of_the_future_is_no_level_to_move(pytester: pytest.Pytester) -> None:
    newest = give_level(pytester)
    store = open_store("perf", pytester.path)
    (level,) = store.levels(newest.key)
    store.accept(replace(level, id="late", created="2999-01-01T00:00:00+00:00"))
    store.close()
    result, report = session(pytester, "--llmperf-update-baseline")
    assert report["gates"][0]["verdict"] == "pass"
    assert result.ret == 11
    assert "A clock is wrong" in report["problems"][0]


def test_a_sequence_that_cannot_be_read_is_red(pytester: pytest.Pytester) -> None:
    reference = f"--llmperf-reference-args={SERVER}"
    assert session(pytester, reference, server=SLOWER)[0].ret == 10
    (document,) = (pytester.path / "perf").rglob("*.json")
    document.write_text(document.read_text()[:50])
    faster = "--ttft-ms 5 --itl-ms 1"
    result, report = session(pytester, reference, server=faster)
    assert report["gates"][0]["verdict"] == "pass"
    assert result.ret == 11
    assert document.name in report["problems"][0]


def test_a_worker_that_dies_at_a_gate_leaves_the_session_red(pytester: pytest.Pytester) -> None:
    body = TEST.format(args=SERVER, gate=GATE)
    pytester.makepyfile(test_it=body.replace("llm_perf.run()", "__import__('os')._exit(3)"))
    result = pytester.runpytest("-n2", "--llmperf-runs=1", "--llmperf-store=perf")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*crashed while running 'test_it.py::test_a'*"])


def test_every_row_of_the_table_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "fail-closed.md").read_text()
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    named = [re.findall(r"`(tests/[\w/.]+)::(\w+)`", "|".join(row)) for row in rows]
    tests = [each for row in named for each in row]
    assert len(tests) > 20
    missing = [
        f"{path}::{name}"
        for path, name in tests
        if not re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M)
    ]
    assert missing == []
    untested = [row[0].strip() for row, found in zip(rows, named, strict=True) if not found]
    assert untested == ["case"]
