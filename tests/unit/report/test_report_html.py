"""The report as a page: whole, inert, and saying what the report says."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.cli import main
from pytest_llmperf.errors import ReportError, UsageMistake
from pytest_llmperf.report import html
from pytest_llmperf.report.html import page, write_page
from pytest_llmperf.report.markdown import COMMENT_LIMIT, markdown
from pytest_llmperf.report.page_servers import differences
from pytest_llmperf.report.schema import schema_errors

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

HOSTILE = (
    "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)>\x1b[31m\u202e\u2066&\"'"
)


class Read(HTMLParser):
    """Every element with its attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self._within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.said += "" if tag == "wbr" else " "
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within not in ("script", "style"):
            self.said += data


def carried(text: str) -> Any:
    packed = re.search(r'id="report">([^<]*)<', text)
    assert packed is not None
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


def test_the_page_tells_the_verdict_the_gates_and_why(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    said = " ".join(Read(page(document)).said.split())
    assert said.startswith("Fail · sglang 0.5.23 on ")
    for gate in document["gates"]:
        if gate["verdict"] != "pass":
            assert " ".join(gate["reason"].split()) in said
    assert "sglang 0.5.23" in said
    assert "RTX 4090" in said
    assert document["environment"]["fingerprint"]["key"] in said


def test_the_page_carries_the_report(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    assert carried(page(document)) == document


def test_the_page_needs_nothing_else(samples: Samples) -> None:
    found = Read(page(samples.assemble(samples.fragment())))
    for tag, attributes in found.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(a["content"] for _, a in found.elements if "content-security" in str(a).lower())
    assert policy is not None
    assert "default-src 'none'" in policy


def test_whatever_a_name_holds_stays_text(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    harmless = Read(page(document)).elements
    told = json.loads(json.dumps(document))
    for gate in told["gates"]:
        gate["reason"] = gate["source"] = HOSTILE
    for test in told["tests"]:
        test["message"] = HOSTILE
    for server in told["servers"]:
        server["model"] = HOSTILE
        for launch in server["launches"]:
            launch["argv"] = [HOSTILE]
            launch["notes"] = [HOSTILE]
    told["problems"] = [HOSTILE]
    told["environment"]["packages"] = {HOSTILE: HOSTILE}
    found = Read(page(told))
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == [tag for tag, _ in harmless].count("script")
    assert "img" not in tags
    assert "alert(1)" in found.said
    assert carried(page(told)) == told


def hostile(value: Any, key: str = "") -> Any:
    """Every text that is free to be anything, made hostile; nothing else of the document."""
    if isinstance(value, dict):
        return {name: hostile(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [hostile(each, key) for each in value]
    return value + HOSTILE if isinstance(value, str) and key in FREE else value


FREE = {
    *("test", "name", "reason", "source", "message", "model", "argv", "notes", "log", "failure"),
    *("invalid_reasons", "changed", "against", "product", "branch", "version", "commit", "method"),
}


def test_no_text_of_a_report_becomes_markup_anywhere(samples: Samples) -> None:
    document = with_history(samples.assemble(samples.fragment()))
    harmless = Read(page(document)).elements
    told = hostile(document)
    told["problems"] = ["<!--" + "x" * 1_000_000, "-->", "{{ 7 * 7 }}"]
    launch = told["servers"][0]["launches"][0]
    launch["args"] = {HOSTILE: HOSTILE}
    launch["env"] = {HOSTILE: HOSTILE}
    text = page(told)
    found = Read(text)
    allowed = {tag for tag, _ in harmless} | {"p", "pre", "details", "summary", "ul", "li"}
    assert {tag for tag, _ in found.elements} <= allowed
    scripts = [attributes for tag, attributes in found.elements if tag == "script"]
    assert scripts == [attributes for tag, attributes in harmless if tag == "script"]
    assert "<!--" not in text
    assert "{{ 7 * 7 }}" in found.said
    # What is given back on a click is what the report says, and is base64 until then.
    assert carried(text) == told


def with_history(document: dict[str, Any], steps: bool = True) -> dict[str, Any]:
    """``document`` with twenty sessions told of its first gate, and a step in them."""
    told: dict[str, Any] = json.loads(json.dumps(document))
    points = [
        {
            "created": f"2026-01-{1 + at:02d}T00:00:00+00:00",
            "value": 1800.0 if at < 12 else 1600.0,
            "low": 1590.0,
            "high": 1810.0,
            "launches": 3,
            "version": "0.5.23",
            "commit": "abcdef0123456789",
            "dirty": at == 12,
            "accepted": at < 8,
            "fresh": at == 19,
        }
        for at in range(20)
    ]
    told["gates"][0]["history"] = {
        "points": points,
        "older": 5,
        "steps": [{"at": 12, "before": 1800.0, "after": 1600.0}] if steps else [],
        "method": "simple steps",
        "level": 1800.0,
        "against": "the level accepted on 2026-01-08",
    }
    return told


def test_a_history_is_told_in_words_and_carried_for_its_chart(samples: Samples) -> None:
    document = with_history(samples.assemble(samples.fragment()))
    assert schema_errors(document) == []
    found = Read(page(document))
    said = " ".join(found.said.split())
    assert (
        "20 sessions from 2026-01-01 to 2026-01-20, 5 older ones not shown; 1 change of level, "
        "by simple steps. Accepted: 1,800 tok/s, the level accepted on 2026-01-08." in said
    )
    assert "0.5.23 · abcdef0 with changes" in said
    assert "1,600 tok/s 11.1 % worse" in said
    (place,) = [a for _, a in found.elements if a.get("data-chart") == "history"]
    assert document["gates"][int(place["data-gate"] or "")]["history"] is not None
    links = {a.get("href") for tag, a in found.elements if tag == "a"}
    assert "#history-0" in links


def test_a_history_without_a_step_says_so(samples: Samples) -> None:
    said = Read(page(with_history(samples.assemble(samples.fragment()), steps=False))).said
    assert "no change of level, by simple steps" in said


def test_a_report_from_before_histories_makes_a_page(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    for gate in document["gates"]:
        del gate["history"]
    assert 'id="history"' not in page(document)


def test_a_story_says_how_much_how_sure_and_where_to_look(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    gate = document["gates"][0]
    gate.update(kind="regression", mode="ab", loss=0.08, loss_low=0.05, loss_high=0.11)
    gate.update(loss_to_catch=0.03, allow=0.0, reference=1750.0, n_pairs=6, changed=["--tp 1 -> 2"])
    said = " ".join(Read(page(document)).said.split())
    assert "Change 8 % worse How sure at least 5 % worse Before 1,750 tok/s" in said
    assert "From 6 pairs" in said
    assert "What differs between the two --tp 1 -> 2" in said


def test_many_failures_are_folded(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    gates = [{**document["gates"][0], "test": f"t.py::test_{n}"} for n in range(30)]
    found = Read(page({**document, "gates": gates}))
    assert "20 more" in found.said
    assert len([tag for tag, _ in found.elements if tag == "article"]) >= 30


def test_the_largest_loss_comes_first(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    gate = {**document["gates"][0], "kind": "ceiling", "metric": "ttft_p95"}
    gates = [
        {**gate, "test": f"t.py::test_{difference}", "difference": difference / 100}
        for difference in (5, 40, 12)
    ]
    lost = {**gate, "kind": "regression", "test": "t.py::test_lost", "loss": 0.2}
    passed = {**gate, "test": "t.py::test_passed", "verdict": "pass", "difference": -0.9}
    document["gates"] = [passed, *gates, lost]
    for text in (page(document), markdown(document, limit=COMMENT_LIMIT)):
        said = Read(text).said
        told = [name for name in re.findall(r"test_(\w+)", said) if name in "40 lost 12 5 passed"]
        assert list(dict.fromkeys(told)) == ["40", "lost", "12", "5", "passed"]


def test_an_option_is_not_broken_at_its_hyphens(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    document["gates"][0]["reason"] = "try (--llmperf-launches 3) <b>-- --" + "x" * 999
    text = page(document)
    assert 'try (<span class="word">--llmperf-launches</span> 3) &lt;b&gt;-- --xx' in text


def test_runs_that_are_left_out_say_why_once(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    (entry,) = document["measurements"]
    run = {**entry["runs"][0], "valid": False, "invalid_reasons": ["hot: device 0"]}
    entry["runs"] = [run, run]
    assert "2 runs left out: hot: device 0 " in Read(page(document)).said
    entry["runs"] = [run, {**run, "invalid_reasons": ["hot: device 1"]}]
    assert "2 runs left out: hot: device 0; the others alike" in Read(page(document)).said


def test_the_health_of_the_client_is_told(samples: Samples) -> None:
    said = " ".join(Read(page(samples.assemble(samples.fragment()))).said.split())
    assert "health of the load client" in said
    assert "21% 0.4 1.9" in said


def test_two_sides_are_told_apart_by_their_arguments() -> None:
    ours = {"args": {"tp": 2, "port": 1, "new": None}, "env": {"A": "1"}}
    theirs = {"args": {"tp": 1, "port": 1}, "env": {"A": "1", "B": "2"}}
    assert differences(ours, theirs) == [
        ("new", "null", "not there"),
        ("tp", "2", "1"),
        ("env B", "not there", "2"),
    ]
    subject = {"subject": {"args": {"tp": 1}, "env": {}}}
    assert differences({**ours, **subject}, {**theirs, **subject}) == []
    attached = {"subject": {"args": {"model": "m"}, "env": None}}  # not started here
    assert differences(attached, attached) == []
    assert differences({"subject": {**subject["subject"], "env": {"A": "1"}}}, attached)[-1] == (
        "env A",
        "1",
        "not there",
    )


def test_the_script_is_told_which_direction_is_the_better(samples: Samples) -> None:
    text = page(samples.assemble(samples.fragment()))
    told = re.search(r'id="names">(.*?)</script>', text)
    assert told is not None
    names = json.loads(told[1])
    assert names["output_throughput"] == ["output throughput", "tok/s", "higher"]
    assert names["ttft_p95"] == ["p95 TTFT", "ms", "lower"]


def test_a_failure_that_is_expected_is_told_as_such(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    failed = next(gate["test"] for gate in document["gates"] if gate["verdict"] == "fail")
    assert "1 failed, " in Read(page(document)).said
    for test in document["tests"]:
        test["outcome"] = "xfailed" if test["test"] == failed else test["outcome"]
    said = Read(page(document)).said
    assert "1 failed as expected" in said
    assert "1 failed, " not in said


def test_hundreds_of_gates_make_a_small_page(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    gates = [{**document["gates"][0], "test": f"t.py::test_{n}"} for n in range(300)]
    text = page({**document, "gates": gates})
    assert len(text.encode()) < 1_500_000
    assert text.count('class="strip"') >= 300


def test_what_is_wrong_with_the_session_is_told_first(samples: Samples) -> None:
    document = {**samples.assemble(), "complete": False, "problems": ["no disk"], "simulated": True}
    said = Read(page(document)).said
    assert "Incomplete" in said
    assert "Simulated" in said
    assert "no disk" in said
    assert "No gate was judged." in said


def test_without_jinja_it_says_what_to_install(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "find_spec", lambda _: None)
    with pytest.raises(UsageMistake, match=r"pip install 'pytest-llmperf\[html\]'"):
        page(samples.assemble())


def test_a_page_that_cannot_be_written_is_told(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=r"the HTML page could not be written.*Give -o "):
        write_page(samples.assemble(), tmp_path / "file" / "page.html", option="-o")


def test_a_report_on_disk_becomes_a_page(
    samples: Samples, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = samples.assemble(samples.fragment())
    (tmp_path / "r.json").write_text(json.dumps(document))
    assert main(["report", str(tmp_path / "r.json")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "r.html")
    assert carried((tmp_path / "r.html").read_text()) == document
    assert main(["report", str(tmp_path / "r.json"), "-o", str(tmp_path / "there.html")]) == 0
    assert (tmp_path / "there.html").exists()
    (tmp_path / "r.json").write_text("{")
    assert main(["report", str(tmp_path / "r.json")]) == 1
    assert "is no valid report" in capsys.readouterr().err
