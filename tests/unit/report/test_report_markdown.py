"""The step's summary and the pull request's comment."""

from __future__ import annotations

import html
import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.report.markdown import COMMENT_LIMIT, SUMMARY_LIMIT, code, markdown, prose

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

HOSTILE = [
    "a|b|c",
    "```\nrm -rf\n```",
    "<script>alert(1)</script><img src=x onerror=y>",
    "@maintainers please merge, see #1 and org/repo#2",
    "line\nline\r\nline\u2028line",
    "\x1b[31mred\x1b[0m \x07",
    "\u202eevil\u2066",
    "x" * 1_000_000,
    "[link](http://x.example) ![i](y) **bold** _em_ ~~s~~ $math$ :tada: www.x.example",
    "</details></td></code> -->",
    "| --- | --- |\n\n## heading",
]
#: Tags that this package writes itself.
OURS = re.compile(r"<!-- pytest-llmperf -->|</?(?:code|details|summary|br)>|<wbr>")


@pytest.fixture
def document(samples: Samples) -> dict[str, Any]:
    return deepcopy(samples.assemble(samples.fragment()))


def many(document: dict[str, Any], bad: int, good: int) -> dict[str, Any]:
    gate = document["gates"][0]
    document["gates"] = [
        {**gate, "test": f"t.py::test_{at}", "verdict": "fail" if at < bad else "pass"}
        for at in range(bad + good)
    ]
    document["counts"]["gates"] = {"pass": good, "fail": bad, "inconclusive": 0, "not_covered": 0}
    return document


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_the_verdict_comes_first_and_every_bad_gate_has_one_row(
    document: dict[str, Any],
) -> None:
    text = markdown(document, limit=COMMENT_LIMIT)
    mark, head, *_ = text.splitlines()
    assert mark == "<!-- pytest-llmperf -->"
    assert head == "## ❌ pytest-llmperf: FAIL"
    _, _, first, second = rows(text)
    assert "**FAIL**" in first
    assert "output throughput" in first
    assert "≥ 1,800 tok/s" in first
    assert "1,611 tok/s" in first
    assert "floor set in tests/perf/test&#95;r1.py&#58;7" in first
    assert "**NOT COVERED**" in second
    assert "no loss of 20 %" in second
    assert "<details>" not in text


def test_passing_gates_are_folded(document: dict[str, Any]) -> None:
    document["gates"][0]["verdict"] = "pass"
    text = markdown(document, limit=COMMENT_LIMIT)
    folded = text[text.index("<details>") :]
    assert "<summary>1 gate passed</summary>" in folded
    assert "output throughput" in folded
    assert folded.rstrip().endswith("</details>")


def test_a_regression_tells_its_loss_and_interval(document: dict[str, Any]) -> None:
    document["gates"][1] |= {
        "verdict": "fail",
        "covered": True,
        "loss": 0.061,
        "loss_low": 0.047,
        "loss_high": 0.075,
        "reference": 300.0,
        "observed": 318.0,
    }
    row = next(line for line in rows(markdown(document, limit=COMMENT_LIMIT)) if "p95" in line)
    assert "no loss of 20 % of 300 ms" in row
    assert "6.1 % worse" in row
    assert "+4.7 % to +7.5 % lost" in row


def test_a_long_name_can_be_broken_and_keeps_both_its_ends(document: dict[str, Any]) -> None:
    document["gates"][0]["test"] = f"t.py::test_{'long_' * 60}[fp8-32]"
    row = rows(markdown(document, limit=COMMENT_LIMIT))[2]
    name = re.findall(r"<code>.*?</code>", row)[0]
    shown = html.unescape(re.sub(r"<[a-z/]+>", "", name))
    assert shown.startswith("test_long_")
    assert "…" in shown
    assert shown.endswith("_[fp8-32]")
    assert len(shown) < 130
    assert max(map(len, html.unescape(name.removesuffix("</code>")).split("<wbr>"))) < 20


def test_an_expected_failure_is_told_as_one_and_comes_last(document: dict[str, Any]) -> None:
    document["tests"][0]["outcome"] = "xfailed"
    document["gates"][1] |= {"test": "other"}
    text = markdown(document, limit=COMMENT_LIMIT)
    assert "fail, as expected" in rows(text)[-1]
    assert "2 gates: 1 failed as expected, 1 not covered." in text


def test_what_was_not_covered_is_not_what_was_expected(document: dict[str, Any]) -> None:
    document["tests"][0]["outcome"] = "xfailed"
    first, second = rows(markdown(document, limit=COMMENT_LIMIT))[2:]
    assert first.startswith("| **NOT COVERED** |")
    assert second.startswith("| fail, as expected |")


def test_a_merged_report_tells_what_to_know_of_its_sessions(document: dict[str, Any]) -> None:
    notes = ["sessions ran the suite at different commits (a | b)", "one was interrupted"]
    document["merged"] = {"parts": [], "alpha": None, "share": None, "notes": notes}
    text = markdown(document, limit=COMMENT_LIMIT)
    assert "- sessions ran the suite at different commits (a &#124; b)\n- one was" in text
    assert text.index("one was interrupted") < text.index("| verdict |")
    many(document, 20, 20)
    assert "2 notes not shown here" in markdown(document, limit=3000)


def test_no_accelerator_is_left_out_without_a_word(document: dict[str, Any]) -> None:
    (known,) = document["environment"]["accelerators"]
    several = [{**known, "product": f"GPU {at}"} for at in range(5)]
    document["environment"]["accelerators"] = [*several, several[0]]
    text = markdown(document, limit=COMMENT_LIMIT)
    assert "GPU 2 x1 · 2 other accelerators · " in text


def test_a_row_of_the_simulators_says_so(document: dict[str, Any]) -> None:
    document["measurements"][0]["simulated"] = True
    _, _, measured, hole = rows(markdown(document, limit=COMMENT_LIMIT))
    assert "<br>SIMULATED |" in measured
    assert "SIMULATED" not in hole


def test_simulated_incomplete_and_troubles_are_told(document: dict[str, Any]) -> None:
    document |= {"simulated": True, "complete": False, "problems": ["no disk | left"]}
    document["tests"][0] |= {"outcome": "broken", "message": "it died\nmore"}
    text = markdown(document, limit=COMMENT_LIMIT)
    assert "**SIMULATED**" in text
    assert "**INCOMPLETE**" in text
    assert "- no disk &#124; left" in text
    assert "- <code>test&#95;chat</code> broken: it died\n" in text


# --- room ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [COMMENT_LIMIT, SUMMARY_LIMIT])
@pytest.mark.parametrize(("bad", "good"), [(2000, 0), (0, 2000), (1000, 1000), (20, 1980)])
def test_two_thousand_gates_fit(document: dict[str, Any], bad: int, good: int, limit: int) -> None:
    text = markdown(many(document, bad, good), limit=limit)
    assert len(text.encode()) <= limit
    shown = sum("**FAIL**" in line for line in rows(text))
    told = sum(int(n.replace(",", "")) for n in re.findall(r"^([\d,]+) .*not shown", text, re.M))
    assert shown + told >= bad, "every bad gate is shown or counted"
    assert shown == bad or "gates that did not pass not shown here" in text


def test_what_is_lost_first_is_what_passes_then_reasons_then_rows(
    document: dict[str, Any],
) -> None:
    many(document, 20, 200)
    whole = markdown(document, limit=10**9)
    stages = []
    for limit in range(len(whole.encode()), 2000, -400):
        text = markdown(document, limit=limit)
        assert len(text.encode()) <= limit
        passing = "<details>" in text
        reasons = "| reason |" in text
        stages.append((passing, reasons, sum("**FAIL**" in line for line in rows(text))))
    assert stages == sorted(stages, reverse=True)
    assert {stage[:2] for stage in stages} == {(True, True), (False, True), (False, False)}
    assert stages[-1][2] < 20
    assert all(shown == 20 for passing, reasons, shown in stages if reasons)


LONG_NAME = "test_推理_réponse_🚀" + "αβγδ_" * 60
LONG_REASON = "−10.4 % under floor: 1,612 < 1,800 tok/s on ハードウェア 🚀 | `x` <b> @me " * 40


@pytest.mark.parametrize("limit", [COMMENT_LIMIT, SUMMARY_LIMIT, 3000])
@pytest.mark.parametrize("problems", [0, 30])
def test_two_thousand_long_names_and_reasons_are_cut_between_rows(
    document: dict[str, Any], limit: int, problems: int
) -> None:
    many(document, 2000, 0)
    for at, gate in enumerate(document["gates"]):
        gate |= {"test": f"t.py::{LONG_NAME}[{at}]", "reason": LONG_REASON}
    document["problems"] = [LONG_REASON] * problems
    text = markdown(document, limit=limit)
    assert len(text.encode()) <= limit
    assert limit - len(text.encode()) < 2000, "one more row would not have fitted"
    found = rows(text)
    for row in found:
        assert row.endswith(" |")
        assert row.count("|") == found[0].count("|")
        assert row.count("<code>") == row.count("</code>")
        assert not re.search(r"&(?!#\d+;)", row), "a reference is whole"
    told = f"{2000 - len(found[2:]):,} gates that did not pass not shown here"
    assert told in text
    assert ("30 problems beside gates not shown here" in text) is (problems > 0)


def test_problems_that_alone_do_not_fit_are_counted(document: dict[str, Any]) -> None:
    document["problems"] = ["x" * 1000] * 9
    text = markdown(document, limit=4000)
    assert len(rows(text)) == 4
    assert "9 problems beside gates not shown here" in text


def test_a_megabyte_in_every_field_fits(document: dict[str, Any]) -> None:
    huge = "<@" * 500_000
    for gate in document["gates"]:
        gate |= {"test": huge, "reason": huge}
    document["servers"][0] |= {"model": huge, "version": huge}
    document["problems"] = [huge] * 100
    document["environment"]["accelerators"][0]["product"] = huge
    for limit in (COMMENT_LIMIT, SUMMARY_LIMIT):
        assert len(markdown(document, limit=limit).encode()) <= limit


# --- hostile text ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert_everywhere(document: dict[str, Any], text: str) -> None:
    expected = len(rows(markdown(document, limit=SUMMARY_LIMIT)))
    test = f"t.py::test_x[{text}]"
    for gate in document["gates"]:
        gate |= {"test": test, "reason": text}
    document["tests"][0] |= {"test": test, "outcome": "broken", "message": text}
    document["servers"][0] |= {"model": text, "version": text, "engine": text}
    document["problems"] = [text]
    made = markdown(document, limit=SUMMARY_LIMIT)
    assert len(rows(made)) == expected
    for row in rows(made):
        assert row.count("|") == 8, row[:200]
    assert_inert(made)


@given(st.text())
def test_any_text_is_inert(text: str) -> None:
    for made in (code(text), prose(text)):
        assert "\n" not in made
        assert "|" not in made
        assert_inert(made)


def assert_inert(made: str) -> None:
    rest = OURS.sub("", made)
    assert not re.search(r"[<>\x00-\x09\x0b-\x1f\x7f-\x9f]", rest)
    assert not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]", rest)
    # Of ours are only the emphasis of verdicts and the references themselves.
    words = re.sub(r"&#\d+;|\*\*(FAIL|NOT COVERED|SIMULATED|INCOMPLETE)\*\*", "", rest)
    assert not re.search(r"[`*_\[\]~!$@\\]", words)
    # GitHub looks for mentions and numbers of issues after it has read the references.
    assert not re.search(r"[@#][A-Za-z0-9]", html.unescape(rest).replace("## ", ""))
    assert "www." not in rest
    assert "://" not in rest


def test_what_people_read_is_what_was_said() -> None:
    shown = html.unescape(prose("a_b*c `d` <e> 50 %")).replace("\u200b", "")
    assert shown == "a_b*c `d` <e> 50 %"
