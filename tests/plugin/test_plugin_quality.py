"""A faster server that says something else does not pass in silence; on the simulator."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.records import Level
from pytest_llmperf.session.probe import ANSWER_TOKENS
from pytest_llmperf.store import open_store

REFERENCE = "--ttft-ms 3 --itl-ms 1"
FASTER = "--ttft-ms 3 --itl-ms 0.3"
TEST = """
import pytest
@pytest.mark.llm_server("sim", model="m", args="{args}")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=24, requests=8, concurrency=4)
{gate}
def test_a(llm_perf): llm_perf.run()
"""
GATE = '@pytest.mark.llm_no_regression(tpot_mean="40%")'


def session(
    pytester: pytest.Pytester, *args: str, server: str = FASTER, gate: str = GATE
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=TEST.format(args=server, gate=gate))
    options = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")
    result = pytester.runpytest(*options, *args)
    report = pytester.path / "r.json"
    return result, json.loads(report.read_text()) if report.exists() else {}


def duel(
    pytester: pytest.Pytester, *args: str, candidate: str = "", reference: str = ""
) -> tuple[pytest.RunResult, dict[str, Any]]:
    """A candidate that is faster than its reference."""
    against = f"--llmperf-reference-args={REFERENCE} {reference}"
    return session(pytester, against, "--llmperf-pairs=4", *args, server=f"{FASTER} {candidate}")


def test_other_words_are_told_of_beside_a_pass(pytester: pytest.Pytester) -> None:
    result, report = duel(pytester, candidate="--disturb 0.2")
    assert result.ret == 0
    (gate,) = report["gates"]
    assert gate["verdict"] == "pass"
    assert any(line.startswith("outputs differ from token ") for line in gate["changed"])
    (found,) = report["quality"]
    outputs = found["outputs"]
    assert (outputs["candidates"], outputs["references"]) == (4, 4)
    assert (outputs["outside"], outputs["changed_within"]) == (True, 0)
    assert outputs["chance"] == pytest.approx(2 / 70)
    result.stdout.fnmatch_lines(["outputs:", "*test_a: outputs differ from token *"])


def test_other_words_fail_where_that_was_asked_for(pytester: pytest.Pytester) -> None:
    result, report = duel(pytester, "--llmperf-quality=fail", candidate="--logprob-shift 0.8")
    assert result.ret == 10
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["reason_code"]) == ("fail", "outputs_changed")
    assert "log-probs differ by 0.8, between launches of one side by at most 0" in gate["reason"]
    assert report["tests"][0]["outcome"] == "slow"


def test_what_launches_of_one_side_differ_by_is_no_finding(pytester: pytest.Pytester) -> None:
    noise = "--logprob-noise 0.05"
    result, report = duel(pytester, "--llmperf-quality=fail", candidate=noise, reference=noise)
    assert result.ret == 0
    (found,) = report["quality"]
    assert found["lines"] == []
    assert 0 < found["outputs"]["apart"]["logprob"] < 2 * found["outputs"]["logprob_within"]
    assert "outputs:" not in result.stdout.str()


def test_a_server_that_refuses_the_prompts_is_not_green_where_they_count(
    pytester: pytest.Pytester,
) -> None:
    narrow = "--max-context-tokens 50"
    result, report = duel(pytester, "--llmperf-quality=fail", candidate=narrow)
    assert result.ret == 11
    (gate,) = report["gates"]
    assert (gate["reason_code"], gate["covered"]) == ("outputs_unknown", False)
    assert report["quality"][0]["outputs"] is None


def test_lost_answers_fail_where_that_was_asked_for(pytester: pytest.Pytester) -> None:
    questions = [{"question": f"What is {n}+{n}?", "answer": f"#### {2 * n}"} for n in range(20)]
    wrong = [{**each, "answer": "#### 7"} for each in questions[:12]] + questions[12:]
    for name, entries in (("right", questions), ("wrong", wrong)):
        lines = "".join(json.dumps(each) + "\n" for each in entries)
        (pytester.path / f"{name}.jsonl").write_text(lines)
    result, report = duel(
        pytester,
        "--llmperf-quality=fail",
        "--llmperf-gsm8k=right.jsonl",
        "--llmperf-gsm8k-questions=20",
        candidate="--answers wrong.jsonl",
        reference="--answers right.jsonl",
    )
    assert result.ret == 10
    answers = report["quality"][0]["answers"]
    assert (answers["asked"], answers["right"], answers["reference_right"]) == (20, 8, 20)
    assert (answers["lost"], answers["won"]) == (12, 0)
    assert answers["p_value"] == pytest.approx(2**-12)
    assert "gsm8k: 8 of 20 questions answered rightly" in report["gates"][0]["reason"]


def test_every_run_tells_what_its_responses_were_like(pytester: pytest.Pytester) -> None:
    result, report = session(pytester, gate='@pytest.mark.llm_floor(output_throughput="1 tok/s")')
    assert result.ret == 0
    quality = report["measurements"][0]["runs"][0]["quality"]
    assert (quality["answered"], quality["without_text"], quality["sampled"]) == (8, 0, 8)
    assert quality["finish_reasons"] == {"length": 8}
    assert quality["distinct"] == 1
    assert 0 < quality["repetition"] < 1
    assert report["quality"] == []


@pytest.mark.parametrize(("quality", "prompts"), [("off", 0), ("advise", 8)])
def test_fixed_prompts_are_asked_where_that_is_remembered(
    pytester: pytest.Pytester, quality: str, prompts: int
) -> None:
    options = ("--llmperf-store=perf", f"--llmperf-quality={quality}")
    session(pytester, *options, server=f"{FASTER} --truth-log truth.jsonl")
    truths = map(json.loads, (pytester.path / "truth.jsonl").read_text().splitlines())
    assert sum(truth["asked_tokens"] == ANSWER_TOKENS for truth in truths) == prompts
    store = open_store("perf", pytester.path)
    (observation,) = store.observations()
    store.close()
    assert len(observation.launches[0].outputs) == prompts


def test_a_level_remembers_what_its_launches_said(pytester: pytest.Pytester) -> None:
    session(pytester, "--llmperf-store=perf")
    store = open_store("perf", pytester.path)
    (first,) = store.observations()
    for number in range(2):
        store.append(replace(first, id=f"more{number}"))
    ids = tuple(each.id for each in store.observations())
    store.accept(
        Level(id="l", key=first.key, created=first.created, observations=ids, reason="first")
    )
    store.close()
    _, report = session(pytester, "--llmperf-store=perf", server=f"{FASTER} --disturb 0.2")
    (found,) = report["quality"]
    assert found["against"].startswith("the level accepted on ")
    assert (found["outputs"]["candidates"], found["outputs"]["references"]) == (1, 3)
    assert found["outputs"]["outside"]
    assert found["serious"] == []  # one launch of four is the odd one by chance, too
    assert any(line.startswith("outputs differ") for line in report["gates"][0]["changed"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--llmperf-gsm8k=none.jsonl"], "it cannot be read"),
        (["--llmperf-gsm8k=few.jsonl"], "it has 1 questions where 64 were asked for"),
        (["--llmperf-gsm8k=few.jsonl", "--llmperf-gsm8k-questions=0"], "at least 1"),
        (["--llmperf-gsm8k-questions=5"], "name the file of questions"),
        (["--llmperf-gsm8k=few.jsonl", "--llmperf-quality=off"], "drop one of them"),
    ],
)
def test_mistakes(pytester: pytest.Pytester, args: list[str], said: str) -> None:
    (pytester.path / "few.jsonl").write_text('{"question": "1+1?", "answer": "#### 2"}\n')
    result, _ = session(pytester, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
