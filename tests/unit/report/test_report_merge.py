"""Reports of several sessions as one: the same whatever the order, and nothing is lost."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmperf.errors import LlmPerfError
from pytest_llmperf.report.environments import fingerprint_key, labels
from pytest_llmperf.report.html import page
from pytest_llmperf.report.merge import merge
from pytest_llmperf.report.terminal import summary_lines
from pytest_llmperf.report.validate import problems_in
from pytest_llmperf.report.words import placed

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

Report = dict[str, Any]
A, B, C = (f"tests/perf/test_r1.py::test_{name}" for name in "abc")
H100, MI300X = "NVIDIA H100", "AMD MI300X"
GATES = [("floor", "output_throughput"), ("regression", "ttft_p95")]


def merged(*documents: Report, latest: bool = False, required: Sequence[str] = ()) -> Report:
    found = merge(documents, latest=latest, required=required, version="0.1.0")
    assert problems_in(found) == []
    return found


@pytest.fixture(scope="module")
def session(samples: Samples) -> Any:
    """Makes a report of one session, each of whose tests failed its floor."""

    def make(
        tests: Sequence[str],
        *,
        on: str = H100,
        hour: int = 0,
        shard: tuple[int, int] | None = None,
        deselected: Sequence[str] = (),
        verdict: str = "fail",
        exit_status: int | None = 10,
        **facts: Any,
    ) -> Report:
        report: Report = copy.deepcopy(samples.assemble(*(samples.fragment(t) for t in tests)))
        match = {"vendor": "nvidia", "product": on, "count": 1}
        report["environment"]["fingerprint"] |= {"key": fingerprint_key(match), "match": match}
        report["environment"]["accelerators"][0]["product"] = on
        report["environment"]["host"]["hostname"] = f"host-{hour}"
        of = shard[1] if shard else 1
        report["suite"] = {
            "shard": shard and shard[0],
            "shards": shard and of,
            "alpha": 0.01,
            "share": 1 / of,
            "family": max(1, len(tests) + (0 if shard else len(deselected))) * len(GATES),
            "gates": [
                {"test": test, "kind": kind, "metric": metric, "selected": test in tests}
                for test in (*tests, *deselected)
                for kind, metric in GATES
            ],
        }
        for gate in report["gates"]:
            gate |= {"verdict": verdict, "covered": True}
        for test in report["tests"]:
            test["outcome"] = "slow" if verdict == "fail" else "passed"
        return report | {
            "created": f"2026-11-20T{hour:02}:00:00+00:00",
            "exit_status": exit_status,
            **facts,
        }

    return make


# --- any order, any grouping ---------------------------------------------------------------------


def pool(session: Any) -> list[Report]:
    return [
        session([A, B], on=H100, hour=1, shard=(1, 4)),
        session([C], on=H100, hour=2, shard=(2, 4), verdict="pass", exit_status=0),
        session([A], on=MI300X, hour=3, shard=(3, 4), problems=["the store is read-only"]),
        session([B, C], on=MI300X, hour=3, shard=(4, 4), complete=False, exit_status=2),
        session([A, B], on=H100, hour=5, verdict="pass", exit_status=0, tool_version="x"),
        session([A], on=H100, hour=4, exit_status=None),
    ]


@st.composite
def groupings(draw: st.DrawFn) -> list[list[int]]:
    """Some of the pool, also repeated, in groups that are merged first."""
    chosen = draw(st.lists(st.integers(0, 5), min_size=1, max_size=8))
    cuts = sorted(draw(st.sets(st.integers(1, len(chosen)), max_size=3)))
    ends = [0, *cuts, len(chosen)]
    return [chosen[a:b] for a, b in itertools.pairwise(ends) if b > a]


@given(groupings())
@settings(max_examples=60, deadline=None)
def test_neither_order_nor_grouping_nor_repetition_matters(
    session: Any, groups: list[list[int]]
) -> None:
    reports = [
        {key: v for key, v in each.items() if key != "tool_version"} for each in pool(session)
    ]
    plain = [reports[at] for at in sorted({at for group in groups for at in group})]
    at_once = merge(plain, latest=True, version="0.1.0")
    first = [merge([reports[at] for at in group], latest=True, version="0.1.0") for group in groups]
    again = merge([*first, first[0]], latest=True, version="0.1.0")
    assert json.dumps(again) == json.dumps(at_once)
    assert problems_in(at_once) == []


def test_a_report_that_is_seen_from_elsewhere_is_the_same_session(session: Any) -> None:
    profile = {
        "test": A, "server": "sglang-1", "side": "candidate", "workload": "chat",
        "traces": ["r-profiles/a.json.gz"], "reason": "", "seconds": 1.0, "own_launch": False,
    }  # fmt: skip
    here = session([A], profiles=[profile])
    there = here | {"profiles": [{**profile, "traces": ["../out/r-profiles/a.json.gz"]}]}
    found = merged(here, there)
    assert len(found["merged"]["parts"]) == 1
    assert found["profiles"][0]["server"] == found["servers"][0]["id"]


def test_what_is_merged_is_left_as_it_was(session: Any) -> None:
    reports = [session([A], hour=1), session([A], on=MI300X, hour=2)]
    before = copy.deepcopy(reports)
    merged(*reports)
    assert reports == before


# --- one test on several accelerators ------------------------------------------------------------


def test_a_test_on_two_accelerators_is_two_results_next_to_each_other(session: Any) -> None:
    found = merged(session([A, B], hour=1), session([A, B], on=MI300X, hour=2))
    assert [test["test"] for test in found["tests"]] == [
        f"{test}@{on}" for test in (A, B) for on in (MI300X, H100)
    ]
    assert len({server["id"] for server in found["servers"]}) == 2
    assert found["counts"]["gates"]["fail"] == 8
    assert [each["product"] for each in found["environment"]["accelerators"]] == [MI300X, H100]
    assert found["environment"]["fingerprint"]["match"]["product"] == f"{MI300X}; {H100}"
    assert found["environment"]["host"] == {"cores": 16, "name": "box"}
    for each in (*found["servers"], *found["gates"]):
        assert each["on"] in (MI300X, H100)
    text = "\n".join(summary_lines(found))
    assert f"on {MI300X}" in text
    assert "@" not in text


def test_shards_on_one_kind_of_machine_keep_the_names_of_tests(session: Any) -> None:
    found = merged(session([A], hour=1, shard=(1, 2)), session([B], hour=2, shard=(2, 2)))
    assert [test["test"] for test in found["tests"]] == [A, B]
    assert found["environment"]["fingerprint"]["match"]["product"] == H100
    assert not any("on" in each for each in (*found["servers"], *found["gates"]))
    names = [part["name"] for part in found["merged"]["parts"]]
    assert names == [f"{H100}, shard 1 of 2", f"{H100}, shard 2 of 2"]


@pytest.mark.parametrize(
    "test", ["t.py::test_chat[user@host]", "t.py::test_a@gpu0", "t.py::test_b[x::y@z]"]
)
def test_the_sign_in_a_tests_own_name_is_no_place(session: Any, test: str) -> None:
    name = test.removeprefix("t.py::")
    alone = merged(session([test], hour=1, shard=(1, 2)), session([B], hour=2, shard=(2, 2)))
    assert name in {placed(gate) for gate in alone["gates"]}
    apart = merged(session([test], hour=1), session([test], on=MI300X, hour=2))
    assert {placed(gate) for gate in apart["gates"]} == {
        f"{name}\non {on}" for on in (H100, MI300X)
    }
    assert merged(apart) == apart


def test_every_reference_of_a_merged_report_leads_to_its_own_session(session: Any) -> None:
    found = merged(session([A], hour=1), session([A], on=MI300X, hour=2))
    servers = {server["id"]: server for server in found["servers"]}
    for measured in found["measurements"]:
        server = servers[measured["server"]]
        assert server["part"] == measured["part"]
        launches = {launch["id"] for launch in server["launches"]}
        assert {run["launch_id"] for run in measured["runs"]} <= launches
    for gate in found["gates"]:
        assert gate["measurement"] is None or gate["measurement"].startswith(gate["part"])


def test_environments_that_are_called_alike_are_told_apart_by_what_differs() -> None:
    def environment(**facts: object) -> dict[str, Any]:
        match = {"product": H100, "memory_gib": 80, **facts}
        return {
            "accelerators": [{"count": 8, "product": H100}],
            "fingerprint": {"key": fingerprint_key(match), "match": match},
        }

    ours, theirs = environment(power_limit_w=700), environment(power_limit_w=500)
    assert set(labels([ours, theirs, ours]).values()) == {
        f"8x {H100} (power limit w 700)",
        f"8x {H100} (power limit w 500)",
    }
    assert list(labels([ours]).values()) == [f"8x {H100}"]


def test_the_page_has_a_row_for_each_session_and_tells_what_a_server_ran_on(session: Any) -> None:
    pytest.importorskip("jinja2")
    reports = session([A], hour=1, shard=(1, 2)), session([A], on=MI300X, hour=2, shard=(2, 2))
    text = page(merged(*reports))
    assert f"{MI300X}, shard 2 of 2" in text
    assert f"· on {H100}" in text
    assert "50 % of 1 %" in text
    assert "Sessions" not in page(session([A]))


def test_an_entry_of_a_session_that_is_not_there_is_invalid(session: Any) -> None:
    found = merged(session([A], hour=1), session([A], on=MI300X, hour=2))
    found["gates"][0]["part"] = "another"
    assert problems_in(found) == [
        "$.gates[0].part: no session 'another' among those that were merged"
    ]
    alone = session([A]) | {"merged": None}
    alone["tests"][0]["part"] = "another"
    assert "$.tests[0].part: " in problems_in(alone)[0]


# --- the same twice ------------------------------------------------------------------------------


def test_a_test_twice_on_one_environment_is_refused_in_one_sentence(session: Any) -> None:
    with pytest.raises(LlmPerfError) as caught:
        merged(session([A, B], hour=1), session([A], hour=2))
    assert str(caught.value) == (
        f"{A} was measured by 2 sessions on the same environment (those of "
        "2026-11-20T01:00:00+00:00 and 2026-11-20T02:00:00+00:00), and one report has room for one "
        "result of it; give --latest to let the newest count, or leave the others out."
    )


def test_the_latest_counts_if_asked_and_what_the_other_said_is_noted(session: Any) -> None:
    older = session([A, B], hour=1)
    newer = session([A], hour=2, verdict="pass", exit_status=0)
    found = merged(older, newer, latest=True)
    assert {test["test"]: test["outcome"] for test in found["tests"]} == {A: "passed", B: "slow"}
    assert found["exit_status"] == 10
    assert found["merged"]["notes"][-1] == (
        f"{A} on {H100} was measured again: the newest session counts, and that of "
        "2026-11-20T01:00:00+00:00 said fail"
    )
    again = session([B], hour=3, verdict="pass", exit_status=0)
    found = merged(found, again, latest=True)
    assert (found["verdict"], found["exit_status"], found["complete"]) == ("pass", 0, True)
    assert [part["tests"] for part in found["merged"]["parts"]] == [0, 1, 1]
    assert len(found["servers"]) == 2


def test_the_newest_is_told_by_the_moment_and_not_by_its_text(session: Any) -> None:
    older = session([A], hour=12) | {"created": "2026-11-20T12:00:00+09:00"}
    newer = session([A], hour=5, verdict="pass", exit_status=0)
    assert merged(older, newer, latest=True)["verdict"] == "pass"


# --- the false-alarm rate ------------------------------------------------------------------------


def test_shares_of_shards_and_of_what_a_plugin_deselects_add_up_to_one(session: Any) -> None:
    shards = [session([test], hour=at, shard=(at, 3)) for at, test in enumerate((A, B, C), 1)]
    split = [session([A], hour=1, deselected=[B]), session([B], hour=2, deselected=[A])]
    for reports in (shards, split):
        found = merged(*reports)["merged"]
        assert found["share"] == pytest.approx(1)
        assert found["alpha"] == pytest.approx(0.01)
        assert found["notes"] == []


def test_sessions_without_shares_are_said_to_alarm_more_often(session: Any) -> None:
    found = merged(session([A], hour=1), session([A], on=MI300X, hour=2))["merged"]
    assert found["share"] == pytest.approx(2)
    (note,) = found["notes"]
    assert "add up to 2 times" in note
    assert "in up to 2 % of such nights rather than 1 %" in note
    assert "--llmperf-shard I/N" in note


def test_comparisons_with_a_named_release_have_a_rate_of_their_own(session: Any) -> None:
    anchored = session([A], on=MI300X, hour=2)
    anchored["suite"]["alpha"] = 0.001
    found = merged(session([A], hour=1), anchored)["merged"]
    assert found["share"] == pytest.approx(1)
    assert found["alpha"] == pytest.approx(0.011)
    assert found["notes"] == []


def test_what_was_measured_again_counts_twice(session: Any) -> None:
    reports = session([A], hour=1), session([A], hour=2)
    assert merged(*reports, latest=True)["merged"]["share"] == pytest.approx(2)


def test_a_report_of_an_older_version_is_counted_by_what_it_judged(session: Any) -> None:
    old = session([A], hour=1)
    for name in ("suite", "merged"):
        del old[name]
    found = merged(old | {"schema_version": "1.1"}, session([A], on=MI300X, hour=2))
    assert found["merged"]["share"] == pytest.approx(3)  # each of its gates had all of it
    (part,) = (part for part in found["merged"]["parts"] if part["label"] == H100)
    assert part["suite"]["shards"] is None


# --- what is missing -----------------------------------------------------------------------------


def test_a_shard_without_a_report_makes_it_red_and_incomplete(session: Any) -> None:
    passing = [
        session([test], hour=at, shard=(at, 3), verdict="pass", exit_status=0)
        for at, test in enumerate((A, B, C), 1)
    ]
    found = merged(passing[0], passing[2])
    assert (found["exit_status"], found["complete"]) == (11, False)
    assert found["problems"][0].startswith("there is no report of shard 2 of 3: ")
    found = merged(found, passing[1])
    assert (found["exit_status"], found["complete"], found["problems"]) == (0, True, [])


def test_gates_that_nobody_judged_are_told_if_required(session: Any) -> None:
    reports = [
        session([A], hour=1, deselected=[B, C]),
        session([B], on=MI300X, hour=2, deselected=[A, C], verdict="pass"),
    ]
    assert merged(*reports)["problems"] == []
    found = merged(*reports, required=["tests/perf"])
    assert found["problems"] == [
        f"{C}: nobody judged its gates on output throughput and p95 TTFT: every session deselected "
        "it; run it in one of the sessions, or name less in --require tests/perf"
    ]
    assert merged(*reports, required=[A])["problems"] == []
    assert merged(*reports, required=["tests/perf/test_r1.py"])["problems"] != []
    (said,) = merged(*reports, required=["tests/per"])["problems"]
    assert "no session has collected a gate there" in said
    assert "such as tests/perf/test_r1.py" in said


def test_a_gate_that_one_session_covered_is_not_missing(session: Any) -> None:
    uncovered = session([A], hour=1, shard=(1, 2), exit_status=11)
    for gate in uncovered["gates"]:
        gate |= {"verdict": "inconclusive", "covered": False}
    other = session([A], on=MI300X, hour=2, shard=(2, 2), verdict="pass")
    assert merged(uncovered, other, required=[""])["problems"] == []
    (said,) = merged(
        uncovered | {"suite": {**uncovered["suite"], "shards": None, "shard": None}}, required=[""]
    )["problems"]
    assert "no session that was to run it came to a verdict" in said


def test_not_one_decided_gate_is_red_if_required(session: Any) -> None:
    undecided = session([A], verdict="inconclusive", exit_status=0)
    assert merged(undecided)["exit_status"] == 0
    found = merged(undecided, required=[""])
    assert found["exit_status"] == 11
    assert found["problems"][0].startswith("--require .: not one gate was decided (")


# --- status, problems, notes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "together"),
    [
        ((0, 0), 0), ((0, 10), 10), ((11, 0), 11), ((11, 10), 10), ((1, 10), 1), ((2, 1), 2),
        ((0, 5), 0), ((5, 5), 5), ((4, 3), 3), ((None, 0), 11), ((6, 0), 6), ((0, 42), 42),
        ((6, 42), 42), ((42, 11), 42), ((10, 6), 6), ((42, 1), 1), ((2, 42), 2),
    ],
)  # fmt: skip
def test_the_exit_status_is_that_of_one_session(
    session: Any, statuses: tuple[int | None, int], together: int
) -> None:
    one, other = (
        session([test], hour=at, shard=(at + 1, 2), exit_status=status)
        for at, (test, status) in enumerate(zip((A, B), statuses, strict=True))
    )
    assert merged(one, other)["exit_status"] == together


def test_lost_results_of_one_session_go_before_failed_gates_of_another(session: Any) -> None:
    lost = session([A], hour=1, shard=(1, 2), exit_status=11, complete=False)
    found = merged(lost, session([B], hour=2, shard=(2, 2)))
    assert (found["exit_status"], found["complete"]) == (11, False)
    assert "shard 1 of 2: the session was interrupted" in found["merged"]["notes"][0]


@pytest.mark.parametrize(("status", "together"), [(0, 11), (5, 11), (None, 11), (6, 6), (10, 10)])
def test_an_incomplete_session_is_never_green(
    session: Any, status: int | None, together: int
) -> None:
    cut = session([A], hour=1, shard=(1, 2), exit_status=status, complete=False)
    found = merged(cut, session([B], hour=2, shard=(2, 2), verdict="pass", exit_status=0))
    assert (found["exit_status"], found["complete"]) == (together, False)


@pytest.mark.parametrize("status", [1, 42])
def test_a_status_beside_the_gates_outlives_a_second_measurement_and_says_why(
    session: Any, status: int
) -> None:
    older = session([A, B], hour=1, exit_status=status)
    newer = session([A], hour=2, verdict="pass", exit_status=0)
    found = merged(older, newer, latest=True)
    assert found["exit_status"] == status
    told, _ = found["merged"]["notes"][-2:]
    assert f"the session of 2026-11-20T01:00:00+00:00 ended with {status}" in told
    again = session([B], hour=3, verdict="pass", exit_status=0)
    assert merged(found, again, latest=True)["exit_status"] == 0


def test_problems_say_whose_they_are(session: Any) -> None:
    one = session([A], hour=1, shard=(1, 2), problems=["the store is full"])
    found = merged(one, session([B], hour=2, shard=(2, 2)))
    assert found["problems"] == [f"{H100}, shard 1 of 2: the store is full"]


def test_other_commits_and_versions_are_noted(session: Any) -> None:
    other = session([B], hour=2, shard=(2, 2))
    other["environment"]["git"]["commit"] = "1" * 40
    other["tool"]["version"] = "0.2.0"
    found = merged(session([A], hour=1, shard=(1, 2)), other)
    versions, commits = found["merged"]["notes"]
    assert "pytest-llmperf 0.1.0 and 0.2.0" in versions
    assert "0000000000, 1111111111" in commits
    assert found["environment"]["git"]["commit"] is None


def test_a_session_without_a_checkout_is_no_other_commit(session: Any) -> None:
    pod = session([B], hour=2, shard=(2, 2))
    pod["environment"]["git"]["commit"] = None
    (note,) = merged(session([A], hour=1, shard=(1, 2)), pod)["merged"]["notes"]
    assert note.startswith(
        f"nobody knows at which commit these sessions ran the suite: {H100}, shard 2 of 2; "
    )
    alone = session([B])
    alone["environment"]["git"]["commit"] = None
    assert merged(alone)["merged"]["notes"] == []
