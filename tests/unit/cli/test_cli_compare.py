"""``pytest-llmperf compare``: what it shows, and what its status says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Reports

Command = Callable[..., tuple[int, str, str]]
THROUGHPUT = "output_throughput"
FAST = {THROUGHPUT: [1650.0, 1662.0, 1641.0, 1655.0], "ttft_p95": [200.0, 201.0, 203.0, 199.0]}
SLOW = {THROUGHPUT: [1540.0, 1552.0, 1561.0, 1549.0], "ttft_p95": [200.0, 202.0, 204.0, 198.0]}
INF = float("inf")


def edited(path: str, change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(Path(path).read_text())
    change(document)
    Path(path).write_text(json.dumps(document))
    return path


@pytest.fixture
def two(reports: Reports) -> Callable[..., tuple[str, str]]:
    """Two reports of the gated test, from the figures of each side."""

    def make(before: Any, after: Any, gated: Any = (THROUGHPUT,)) -> tuple[str, str]:
        return (
            reports.write("a.json", reports.measured(before, gated=gated)),
            reports.write("b.json", reports.measured(after, gated=gated)),
        )

    return make


Two = Callable[..., tuple[str, str]]


def test_a_loss_beyond_noise_is_status_10(two: Two, status_of: Command) -> None:
    status, out, _ = status_of("compare", *two(FAST, SLOW))
    assert status == 10
    row = next(line for line in out.splitlines() if line.startswith(f"{THROUGHPUT} *"))
    assert row.split()[:4] == [THROUGHPUT, "*", "1,652", "tok/s"]
    assert "-6.14 %" in row
    assert row.endswith("worse")
    assert out.splitlines()[-1].startswith("worse: 1 of 1 gated row beyond noise, at 99 % each")
    assert next(line for line in out.splitlines() if "ttft_p95" in line).endswith("within noise")


def test_the_other_way_round_is_better_and_green(two: Two, status_of: Command) -> None:
    before, after = two(FAST, SLOW)
    status, out, _ = status_of("compare", after, before)
    assert status == 0
    assert "better" in out
    assert out.splitlines()[-1] == "nothing is worse beyond noise: 1 gated row, at 99 % each."


def test_what_no_gate_names_is_shown_and_does_not_decide(two: Two, status_of: Command) -> None:
    status, out, _ = status_of("compare", *two(FAST, SLOW, gated=("ttft_p95",)))
    assert status == 0
    row = next(line for line in out.splitlines() if line.startswith(THROUGHPUT))
    assert row.endswith("worse")
    assert " * " not in row


def test_no_gates_at_all_decide_nothing(two: Two, status_of: Command) -> None:
    status, out, _ = status_of("compare", *two(FAST, SLOW, gated=()))
    assert status == 0
    assert out.splitlines()[-1].startswith("no gate names any of this")


def test_a_gate_of_either_report_counts(reports: Reports, status_of: Command) -> None:
    before = reports.write("a.json", reports.measured(FAST, gated=[THROUGHPUT]))
    after = reports.write("b.json", reports.measured(SLOW))
    assert status_of("compare", before, after)[0] == 10


def test_one_launch_says_so_and_what_to_do(two: Two, status_of: Command) -> None:
    one = [{name: row[:1] for name, row in side.items()} for side in (FAST, SLOW)]
    status, out, _ = status_of("compare", *two(*one))
    assert status == 1
    row = next(line for line in out.splitlines() if line.startswith(THROUGHPUT))
    assert row.endswith("one launch")
    assert "-6.67 %" in row
    assert "undecided: 1 of 1 gated row without an interval." in out
    assert "--llmperf-launches 4" in out


def test_gated_rows_share_the_level(two: Two, status_of: Command) -> None:
    out = status_of("compare", *two(FAST, SLOW, gated=(THROUGHPUT, "ttft_p95")))[1]
    assert "at 99.5 % each" in out


@pytest.mark.parametrize(
    ("before", "after", "status", "said"),
    [
        (None, None, 1, "not measured in A and B"),
        (200.0, None, 1, "not measured in B"),
        (None, 200.0, 1, "not measured in A"),
        (200.0, INF, 10, "worse"),
        (INF, 200.0, 0, "better"),
        (INF, INF, 1, "unbounded in both"),
    ],
)
def test_what_is_missing_or_unbounded(
    two: Two,
    status_of: Command,
    before: float | None,
    after: float | None,
    status: int,
    said: str,
) -> None:
    sides = [{THROUGHPUT: [1.0, 1.0], "ttft_p95": [200.0, value]} for value in (before, after)]
    found, out, _ = status_of("compare", *two(*sides, gated=("ttft_p95",)))
    assert found == status
    assert next(line for line in out.splitlines() if "ttft_p95" in line).endswith(said)


def test_a_gate_of_a_later_version_is_no_pass(two: Two, status_of: Command) -> None:
    before, after = two(FAST, FAST)

    def rename(document: dict[str, Any]) -> None:
        document["gates"][0]["metric"] = "tokens_per_joule_of_2030"

    edited(after, rename)
    status, out, _ = status_of("compare", before, after)
    assert status == 1
    row = next(line for line in out.splitlines() if line.startswith("tokens_per_joule_of_2030 *"))
    assert row.endswith("unknown to this version")


# --- what is on one side only ----------------------------------------------------------------


def test_what_is_in_one_report_only_is_listed(reports: Reports, status_of: Command) -> None:
    old = reports.measured(FAST, test="t.py::test_old", gated=[THROUGHPUT])
    both = reports.measured(FAST, gated=[THROUGHPUT])
    new = reports.measured(FAST, test="t.py::test_new", gated=[THROUGHPUT])
    status, out, _ = status_of(
        "compare", reports.write("a.json", old, both), reports.write("b.json", both, new)
    )
    assert "only in A:\n  t.py::test_old [chat]" in out
    assert "only in B:\n  t.py::test_new [chat]" in out
    assert "t.py::test_old [chat]: gated in A, not measured in B" in out
    # A test that vanished with its gate must not look like a test that passed.
    assert status == 1
    assert out.splitlines()[-1].startswith("undecided: 1 gated measurement")


def test_a_measurement_without_gates_may_vanish(reports: Reports, status_of: Command) -> None:
    old = reports.measured(FAST, test="t.py::test_old")
    both = reports.measured(FAST, gated=[THROUGHPUT])
    status, out, _ = status_of(
        "compare", reports.write("a.json", old, both), reports.write("b.json", both)
    )
    assert status == 0
    assert "only in A:\n  t.py::test_old [chat]" in out


def test_another_workload_is_another_measurement(reports: Reports, status_of: Command) -> None:
    wider = replace(reports.workload, concurrency=32)
    before = reports.write("a.json", reports.measured(FAST, gated=[THROUGHPUT]))
    after = reports.write("b.json", reports.measured(FAST, gated=[THROUGHPUT], workload=wider))
    status, out, _ = status_of("compare", before, after)
    assert status == 1
    assert "only in A" in out
    assert "only in B" in out


def test_more_runs_are_the_same_workload(reports: Reports, status_of: Command) -> None:
    longer = replace(reports.workload, runs=5)
    before = reports.write("a.json", reports.measured(FAST, gated=[THROUGHPUT]))
    after = reports.write("b.json", reports.measured(SLOW, gated=[THROUGHPUT], workload=longer))
    assert status_of("compare", before, after)[0] == 10


def test_a_test_that_broke_is_no_pass(reports: Reports, status_of: Command) -> None:
    whole = reports.measured(FAST, gated=[THROUGHPUT])
    broken = {**whole, "measurements": []}
    broken["gates"] = [{**gate, "measurement": None} for gate in whole["gates"]]
    status, out, _ = status_of(
        "compare", reports.write("a.json", whole), reports.write("b.json", broken)
    )
    assert status == 1
    assert "gated in B, where nothing was measured" in out


def test_the_reference_of_an_a_b_comparison_is_left_out(
    reports: Reports, status_of: Command
) -> None:
    own = reports.measured(FAST, gated=[THROUGHPUT])
    other = reports.measured({THROUGHPUT: [900.0] * 4}, workload=replace(reports.workload, seed=1))
    other["measurements"][0]["id"] = "reference"
    own["measurements"][0]["reference"] = "reference"
    path = reports.write("a.json", own, other)
    status, out, _ = status_of("compare", path, path)
    assert status == 0
    assert "900" not in out


# --- refusals --------------------------------------------------------------------------------


def test_other_environments_are_refused_by_name(reports: Reports, status_of: Command) -> None:
    fragment = reports.measured(FAST, gated=[THROUGHPUT])
    before = reports.write("a.json", fragment, match={"product": "H100", "count": 1})
    after = reports.write("b.json", fragment, match={"product": "A100", "count": 1, "mig": "1g"})
    status, out, err = status_of("compare", before, after)
    assert (status, out) == (1, "")
    assert "product ('H100' in A, 'A100' in B)" in err
    assert "mig (not told in A, '1g' in B)" in err
    assert "count" not in err
    assert "--force" in err


def test_forced_says_so_first(reports: Reports, status_of: Command) -> None:
    before = reports.write("a.json", reports.measured(FAST, gated=[THROUGHPUT]), match={"x": 1})
    after = reports.write("b.json", reports.measured(SLOW, gated=[THROUGHPUT]), match={"x": 2})
    status, out, _ = status_of("compare", before, after, "--force")
    assert status == 10
    assert out.startswith("FORCED: the environments differ in x (1 in A, 2 in B).\n")


def test_an_invalid_report_is_refused(two: Two, status_of: Command, tmp_path: Path) -> None:
    before, after = two(FAST, SLOW)
    edited(after, lambda document: document.pop("gates"))
    status, _, err = status_of("compare", before, after)
    assert status == 1
    assert "b.json is no valid report: $: 'gates' is a required property" in err
    missing = tmp_path / "none.json"
    status, _, err = status_of("compare", before, str(missing))
    assert status == 1
    assert "none.json cannot be read: No such file or directory" in err


def test_a_metric_that_changed_its_meaning_is_refused(two: Two, status_of: Command) -> None:
    before, after = two(FAST, SLOW)

    def turn(document: dict[str, Any]) -> None:
        document["measurements"][0]["summary"]["ttft_p95"]["unit"] = "s"

    edited(after, turn)
    status, _, err = status_of("compare", before, after)
    assert status == 1
    assert "ttft_p95 means two things: in ms (lower is better) in A, in s" in err


# --- what is shown ---------------------------------------------------------------------------


def test_metric_narrows_it_down(two: Two, status_of: Command) -> None:
    status, out, _ = status_of("compare", *two(FAST, SLOW), "--metric", "ttft_p95")
    assert status == 0
    assert THROUGHPUT not in out
    status, _, err = status_of("compare", *two(FAST, SLOW), "--metric", "ttft_p59")
    assert status == 1
    assert "Did you mean 'ttft_p95'?" in err


def test_dull_metrics_are_counted_and_all_shows_them(two: Two, status_of: Command) -> None:
    dull = {"itl_p99": [10.0, 10.1, 9.9, 10.0]}
    paths = two({**FAST, **dull}, {**SLOW, **dull})
    out = status_of("compare", *paths)[1]
    assert "itl_p99" not in out
    assert "1 other metric without a change beyond noise; --all shows them." in out
    assert "itl_p99" in status_of("compare", *paths, "--all")[1]


def test_what_else_changed_is_told(reports: Reports, status_of: Command) -> None:
    before = reports.write("a.json", reports.measured(FAST))
    after = reports.write("b.json", reports.measured(SLOW, version="0.5.23"))
    assert "  changed: version 0.5.22 -> 0.5.23\n" in status_of("compare", before, after)[1]


def test_what_changed_around_the_servers_is_told(two: Two, status_of: Command) -> None:
    before, after = two(FAST, SLOW)

    def newer(document: dict[str, Any]) -> None:
        document["environment"]["fingerprint"]["context"]["driver"] = "560.35"

    edited(after, newer)
    out = status_of("compare", before, after)[1]
    assert "around the servers changed: driver unknown -> 560.35\n" in out


def test_incomplete_and_simulated_reports_say_so(reports: Reports, status_of: Command) -> None:
    before = reports.write("a.json", reports.measured(FAST, engine="sim"))
    after = reports.write("b.json", reports.measured(FAST, engine="sim"))
    edited(after, lambda document: document.update(complete=False))
    out = status_of("compare", before, after)[1]
    assert out.count("SIMULATED") == 3
    assert out.count("INCOMPLETE") == 1


def test_help_documents_the_statuses(status_of: Command) -> None:
    status, out, _ = status_of("compare", "--help")
    assert status == 0
    for said in ("exit status:", "  10  a gated row is worse", "example:", "compare before.json"):
        assert said in out
