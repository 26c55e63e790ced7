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

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m‮&\"'"


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
    with pytest.raises(ReportError, match=r"the HTML page could not be written.*--llmperf-html"):
        write_page(samples.assemble(), tmp_path / "file" / "page.html")


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
