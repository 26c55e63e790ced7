from __future__ import annotations

import re
import unicodedata
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.inert import inert
from pytest_llmperf.report import brief, story, terminal
from pytest_llmperf.report import document as doc
from pytest_llmperf.report.columns import Look, cells, clip, start
from pytest_llmperf.report.junit import properties
from pytest_llmperf.report.words import beside, percent, short, to_noise

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
    gate["ci_low"] = gate["ci_high"] = None
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


# --- widths, colours, digits -------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_every_line_fits_the_terminal(samples: Samples, width: int) -> None:
    look = Look(width=width)
    document = wide(samples)
    told = (terminal.summary_lines, brief.brief_lines, brief.closing_lines, story.story_lines)
    for lines in (tell(document, look) for tell in told):
        # What has no space to break at, such as a long path, may stand out; nothing else may.
        assert max(map(cells, lines)) <= width, "\n".join(lines)


def test_a_wider_terminal_shows_whole_names(samples: Samples) -> None:
    document = wide(samples)
    assert short(LONG) not in "\n".join(terminal.gate_table(document))
    assert short(LONG) in "\n".join(terminal.gate_table(document, Look(width=160)))


def test_a_narrow_terminal_gets_sentences_that_say_the_same(samples: Samples) -> None:
    lines = terminal.gate_table(samples.assemble(samples.fragment()), Look(width=50))
    text = " ".join(" ".join(lines).split())
    for said in ("test_chat, output throughput", "value 1,611 tok/s", "limit >= 1,800"):
        assert said in text
    assert "verdict FAIL" in text
    assert "verdict NOT COVERED no_reference" in text


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("chat", 4),
        ("模型", 4),
        ("e\u0301", 1),
        ("a\u200bb", 2),
        ("\x1b[31mred\x1b[0m", 3),
        ("🚀", 2),
    ],
)
def test_columns_are_counted_not_characters(text: str, width: int) -> None:
    assert cells(text) == width


def test_columns_stay_aligned_beside_wide_characters(samples: Samples) -> None:
    names = ("t.py::test_模型推理", "t.py::test_e\u0301te\u0301", "t.py::test_plain")
    document = samples.assemble(*(samples.fragment(name) for name in names))
    rows = [
        line for line in terminal.gate_table(document) if any(short(each) in line for each in names)
    ]
    ends = {cells(line[: line.index(" tok/s")]) for line in rows if " tok/s" in line}
    assert len(rows) == 6
    assert len(ends) == 1, rows


@given(st.text(max_size=60), st.integers(min_value=8, max_value=40))
def test_what_is_cut_fits(text: str, width: int) -> None:
    line = inert(text).replace("\n", " ")
    assert cells(clip(line, width)) <= width
    assert line.startswith(start(line, width))


@given(st.text())
def test_nothing_in_a_report_is_obeyed_by_a_terminal(text: str) -> None:
    ((key, (shown,)),) = inert({text: [text]}).items()
    obeyed = ("Cc", "Cf", "Cs", "Zl", "Zp")
    assert not any(unicodedata.category(each) in obeyed for each in key + shown if each != "\n")


def test_hostile_names_and_messages_are_written_out(samples: Samples) -> None:
    evil = "t.py::test_\x1b[2J\u202egnp\x07"
    fragment = samples.fragment(evil)
    fragment["tests"] = [doc.test_entry(evil, "broken", "\x1b]0;mine\x07 died", 1.0)]
    fragment["gates"][0]["reason"] = "\x1b[31m" * 3
    document = samples.assemble(fragment)
    for tell in (terminal.summary_lines, brief.brief_lines, story.story_lines):
        text = "\n".join(tell(document))
        assert text
        assert all(each.isprintable() or each == "\n" for each in text)
    assert "\\x1b[2J" in "\n".join(story.story_lines(document))


def test_hostile_arguments_of_a_server_are_written_out(samples: Samples) -> None:
    evil = "\x1b[2J\u2028next"
    launch = replace(samples.launch, args={evil: 1, "curves": evil, "runs": [{"curves": evil}]})
    text = "\n".join(story.story_lines(samples.assemble(samples.fragment(launch=launch))))
    assert text.count("\\x1b[2J\\u2028next") >= 2
    assert all(each.isprintable() or each == "\n" for each in text)


def test_line_ends_of_all_kinds_are_written_out() -> None:
    assert inert("a\u2028b\u2029c") == "a\\u2028b\\u2029c"


def paint(text: str, *marks: str) -> str:
    return f"\x1b[{len(marks)}m{text}\x1b[0m"


def test_colours_move_no_column(samples: Samples) -> None:
    document = wide(samples)
    bare = terminal.summary_lines(document)
    coloured = terminal.summary_lines(document, Look(paint=paint))
    assert [re.sub(r"\x1b\[\d*m", "", line) for line in coloured] == bare
    assert "\x1b[2mFAIL\x1b[0m" in "\n".join(coloured)


@pytest.mark.parametrize(
    ("value", "unit", "noise", "shown"),
    [
        (1731.32, "tok/s", 178.0, "1,730 tok/s"),
        (1731.32, "tok/s", 58.0, "1,731 tok/s"),
        (6.806146, "ms", 0.7, "6.81 ms"),
        (6.806146, "ms", None, "6.806 ms"),
        (6.806146, "ms", 0.0, "6.806 ms"),
        (6.806146, "ms", 1e-9, "6.806 ms"),
        (3.25, "ms", 58.0, "3.2 ms"),
        (0.9987, "1", 0.002, "99.87 %"),
        (1234567.8, "tok/s", 50000.0, "1,235,000 tok/s"),
    ],
)
def test_digits_end_where_the_noise_begins(
    value: float, unit: str, noise: float | None, shown: str
) -> None:
    assert to_noise(value, unit, noise) == shown


def test_a_value_is_never_rounded_onto_its_limit(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    gate = document["gates"][0]
    gate.update(observed=1799.8, limit=1800.0, ci_low=1600.0, ci_high=2000.0)
    assert terminal.observed(gate) == "1,799.8 tok/s"


@pytest.mark.parametrize(
    ("kind", "value", "limit", "unit", "ci", "shown"),
    [
        ("floor", 1000.3, 1000.4, "tok/s", None, ("1,000.3 tok/s", ">= 1,000.4")),
        ("floor", 999.97, 1000.0, "tok/s", (999.42, 1000.52), ("999.97 tok/s", ">= 1,000")),
        ("floor", 1731.32, 1731.0, "tok/s", (1550.0, 1900.0), ("1,731.32 tok/s", ">= 1,731")),
        ("ceiling", 100.04, 100.0, "ms", (99.0, 101.0), ("100.04 ms", "<= 100")),
        ("floor", 0.98996, 0.99, "1", None, ("98.996 %", ">= 99 %")),
        ("floor", 999.999996, 1000.0, "tok/s", None, ("999.999996 tok/s", ">= 1,000")),
        ("floor", 990.3, 1000.4, "tok/s", None, ("990.3 tok/s", ">= 1,000")),
    ],
)
def test_a_value_stands_on_its_side_of_the_limit(
    samples: Samples,
    kind: str,
    value: float,
    limit: float,
    unit: str,
    ci: tuple[float, float] | None,
    shown: tuple[str, str],
) -> None:
    document = samples.assemble(samples.fragment())
    gate = document["gates"][0]
    low, high = ci or (None, None)
    gate.update(kind=kind, observed=value, limit=limit, unit=unit, ci_low=low, ci_high=high)
    gate["detectable_loss"] = None
    assert (terminal.observed(gate), terminal.demand(gate)) == shown


@given(
    st.floats(min_value=1e-3, max_value=1e7),
    st.floats(min_value=-1e-3, max_value=1e-3),
    st.none() | st.floats(min_value=1e-6, max_value=1e4),
    st.sampled_from(["tok/s", "1"]),
)
def test_shown_numbers_compare_as_the_numbers_do(
    limit: float, off: float, noise: float | None, unit: str
) -> None:
    value = round(limit * (1 + off), 9)
    limit = round(limit, 9)
    own, theirs = (
        float(each.split()[0].replace(",", "")) for each in beside(value, limit, unit, noise)
    )
    assert (own > theirs, own < theirs) == (value > limit, value < limit)


def test_the_story_shows_a_limit_in_the_digits_of_its_value(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    document["gates"][0].update(observed=1000.3, limit=1000.4)
    assert "observed 1,000.3 tok/s over 3 launches, 3 runs, limit 1,000.4 tok/s" in " ".join(
        " ".join(story.story_lines(document)).split()
    )


@pytest.mark.parametrize(
    ("fraction", "shown"), [(-4e-15, "0 %"), (4e-15, "0 %"), (0.001, "+0.1 %"), (-0.1, "-10 %")]
)
def test_nothing_has_no_sign(fraction: float, shown: str) -> None:
    assert percent(fraction, signed=True) == shown


# --- few words, and all of them ----------------------------------------------------------------


def test_quiet_is_a_line_for_each_gate_that_did_not_pass(samples: Samples) -> None:
    fragment = samples.fragment()
    good = {**fragment["gates"][0], "metric": "total_throughput", "verdict": "pass"}
    fragment["gates"].append(good)
    document = samples.assemble(fragment)
    failed, hole = brief.brief_lines(document)
    assert failed == "FAIL: test_chat: output throughput 1,611 tok/s, asked >= 1,800, -10.5 %"
    assert hole == "NOT COVERED: test_chat: p95 TTFT, no_reference"
    assert brief.closing_lines(document) == [
        "llmperf: FAIL: 1 failed, 1 not covered, 1 passed, of 3 gates"
    ]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (
            100,
            "FAIL: test_chat: output throughput 1,611 tok/s, asked >= 1,800, -10.5 % (-13.7..-7.3)",
        ),
        (82, "FAIL: test_chat: output throughput 1,611 tok/s, asked >= 1,800, -10.5 %"),
        (71, "FAIL: test_chat: output throughput 1,611 tok/s, asked >= 1,800, -10.5 %"),
        (70, "FAIL: test_chat: output throughput 1,611 tok/s, asked >= 1,800"),
        (60, "FAIL: test_chat: output throughput 1,611 tok/s"),
        (40, "FAIL: test_chat: output throughput"),
        (30, "FAIL: test_chat: output thro.."),
    ],
)
def test_what_has_no_room_is_left_out_whole(samples: Samples, width: int, line: str) -> None:
    document = samples.assemble(samples.fragment())
    assert brief.brief_lines(document, Look(width=width))[0] == line


def test_a_reason_gives_way_before_an_interval(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    gate = document["gates"][0]
    gate.update(verdict="inconclusive", covered=False, reason_code="too_few_requests")
    whole = (
        "NOT COVERED: test_chat: output throughput 1,611 tok/s, asked >= 1,800, -10.5 % "
        "(-13.7..-7.3), too_few_requests"
    )
    assert brief.brief_lines(document, Look(width=len(whole)))[0] == whole
    assert brief.brief_lines(document, Look(width=len(whole) - 1))[0] == whole.rpartition(",")[0]


def test_an_expected_failure_is_told_as_such(samples: Samples) -> None:
    fragment = samples.fragment()
    failed = fragment["gates"][0]
    fragment["gates"] = [failed, {**failed, "test": "t.py::test_good", "verdict": "pass"}]
    fragment["tests"] = [doc.test_entry(samples.node, "xfailed", "too slow", 1.0)]
    document = samples.assemble(fragment)
    assert brief.brief_lines(document) == []
    assert brief.closing_lines(document) == [
        "llmperf: pass: 1 failed as expected, 1 passed, of 2 gates"
    ]


def test_the_last_line_tells_of_what_could_not_be_measured(samples: Samples) -> None:
    fragment = samples.fragment()
    fragment["gates"] = [{**fragment["gates"][0], "verdict": "pass"}]
    fragment["tests"] = [doc.test_entry("t.py::test_b", "could_not_measure", "no limit", 1.0)]
    assert brief.closing_lines(samples.assemble(fragment)) == [
        "llmperf: inconclusive: 1 gate passed; 1 test could not be measured"
    ]


def marked(text: str, *colours: str) -> str:
    return f"<{'+'.join(colours)}>{text}</>"


def one_gate(samples: Samples, verdict: str, covered: bool, outcome: str) -> dict[str, Any]:
    """A report of one gate, and of the test whose it is."""
    document = deepcopy(samples.assemble(samples.fragment()))
    document["gates"] = [{**document["gates"][0], "verdict": verdict, "covered": covered}]
    document["tests"][0]["outcome"] = outcome
    quiet = verdict == "fail" and outcome == "xfailed"
    return {**document, "verdict": "pass" if quiet else verdict}


#: A gate and its test; the line and the last line of -q; the word in the table, with its colour.
OUTCOMES = [
    ("pass", True, "passed", None, "pass: 1 gate passed", "<green>pass</>"),
    ("fail", True, "slow", "FAIL: test_chat: ", "FAIL: 1 gate failed", "<red+bold>FAIL</>"),
    ("fail", True, "xfailed", None, "pass: 1 gate failed as expected", " failed"),
    (
        *("inconclusive", True, "passed"),
        *("inconclusive: test_chat: ", "inconclusive: 1 gate inconclusive"),
        "<yellow>inconclusive</>",
    ),
    (
        *("inconclusive", False, "could_not_measure"),
        *("NOT COVERED: test_chat: ", "inconclusive: 1 gate not covered; 1 test could not be"),
        "<red>NOT COVERED</>",
    ),
    (
        *("pass", True, "broken", None),
        *("pass: 1 gate passed; 1 test broken", "<green>pass</>"),
    ),
]


@pytest.mark.parametrize(
    ("verdict", "covered", "outcome", "line", "last", "word"), OUTCOMES, ids=str
)
def test_every_outcome_is_told_by_its_name_and_colour(
    samples: Samples,
    verdict: str,
    covered: bool,
    outcome: str,
    line: str | None,
    last: str,
    word: str,
) -> None:
    document = one_gate(samples, verdict, covered, outcome)
    lines = brief.brief_lines(document)
    assert len(lines) == (line is not None)
    assert all(said.startswith(str(line)) for said in lines)
    closing = " ".join(" ".join(brief.closing_lines(document)).split())
    assert closing.startswith(f"llmperf: {last}")
    coloured = "\n".join(terminal.gate_table(document, Look(width=200, paint=marked)))
    assert word in coloured
    assert coloured.count("</>") == (word != " failed")


def test_a_failure_that_was_expected_is_nowhere_called_one_that_counts(samples: Samples) -> None:
    document = one_gate(samples, "fail", True, "xfailed")
    table = "\n".join(terminal.gate_table(document))
    assert "as expected" in table
    assert "FAIL" not in table
    told = " ".join(story.story_lines(document))
    assert "output throughput: failed as expected" in told


def test_the_last_line_of_a_green_session(samples: Samples) -> None:
    fragment = samples.fragment()
    fragment["gates"] = [{**fragment["gates"][0], "verdict": "pass"}]
    fragment["tests"] = [doc.test_entry(samples.node, "passed", "", 1.0)]
    document = samples.assemble(fragment)
    assert brief.brief_lines(document) == []
    assert brief.closing_lines(document) == ["llmperf: pass: 1 gate passed"]


def test_the_last_line_tells_what_else_went_wrong(samples: Samples) -> None:
    fragment = samples.fragment(launch=replace(samples.launch, engine="sim"))
    fragment["gates"] = []
    fragment["tests"] = [doc.test_entry(samples.node, "broken", "died", 1.0)]
    document = {**samples.assemble(fragment), "complete": False}
    (line,) = brief.closing_lines(document)
    assert line.endswith(": no gates; 1 test broken; INCOMPLETE; SIMULATED")


def test_the_whole_story_leaves_nothing_out(samples: Samples) -> None:
    fragment = samples.fragment()
    runs = fragment["measurements"][0]["runs"]
    runs.append({**runs[0], "index": 1, "valid": False, "invalid_reasons": ["client-bound"]})
    text = " ".join(" ".join(story.story_lines(samples.assemble(fragment))).split())
    for said in (
        "fingerprint abc",
        "driver 570.86",
        "commit 0000",
        "sglang.launch_server",
        "tp_size 1",
        "log logs/sglang-1.log",
        "not valid: client-bound",
        "8 requests failed: cut 8",
        "unbounded",
        "tokens counted by usage",
        "floor set in tests/perf/test_r1.py:7",
        "limit 1,800 tok/s",
        "how sure: 99 % sure: 1,5",
    ):
        assert said in text, said
    assert "sk-1" not in text


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
