"""Profiles as the report has them, and how the terminal and the page tell of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.cli import main
from pytest_llmperf.records import Profile
from pytest_llmperf.report import document as doc
from pytest_llmperf.report.html import page
from pytest_llmperf.report.profiles import profile_lines, profile_views, seen_from
from pytest_llmperf.report.schema import schema_errors
from pytest_llmperf.report.terminal import summary_lines

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

NODE = "tests/perf/test_r1.py::test_chat"
OURS = Profile(
    test=NODE,
    server_id="sglang-1",
    side="candidate",
    workload="chat",
    traces=("r-profiles/a/1-TP-0.trace.json.gz", "r-profiles/a/1-TP-1.trace.json.gz"),
    seconds=3.5,
)
THEIRS = Profile(
    test=NODE,
    server_id="sglang-2",
    side="reference",
    workload="chat",
    reason="POST https://me:pw@host/start_profile answered 500",
    own_launch=True,
)


def report(samples: Samples, *profiles: Profile) -> dict[str, Any]:
    entries = [doc.profile_entry(each) for each in profiles]
    return samples.assemble(samples.fragment(), {"profiles": entries})


def test_the_schema_knows_them(samples: Samples) -> None:
    document = report(samples, OURS, THEIRS)
    assert schema_errors(document) == []
    one, other = document["profiles"]
    assert (one["server"], one["seconds"], one["own_launch"]) == ("sglang-1", 3.5, False)
    assert "pw" not in other["reason"]
    older = {name: value for name, value in document.items() if name != "profiles"}
    assert schema_errors(older) == []
    assert list(profile_lines(older)) == []
    assert profile_views(older) == []


def test_a_pass_that_arrives_again_replaces_the_one_before(samples: Samples) -> None:
    again = Profile(test=NODE, server_id="s", side="candidate", workload="chat", reason="why")
    document = report(samples, OURS, THEIRS, again)
    assert [each["side"] for each in document["profiles"]] == ["candidate", "reference"]
    assert document["profiles"][0]["reason"] == "why"


def test_the_terminal_has_a_line_for_each_trace(samples: Samples) -> None:
    lines = summary_lines(report(samples, OURS, THEIRS))
    at = lines.index(next(line for line in lines if line.startswith("profiles (open a trace at")))
    assert lines[at + 1] == "  test_chat, candidate:"
    assert lines[at + 2 : at + 4] == [f"    {path}" for path in OURS.traces]
    assert lines[at + 4].startswith("  test_chat, reference: none, for POST")
    deep = replace(OURS, traces=("a-long-directory/" * 9 + "x.trace.json.gz",))
    assert f"    {deep.traces[0]}" in summary_lines(report(samples, deep))
    without = list(profile_lines(report(samples, THEIRS)))
    assert without[0] == "profiles:"
    assert not any(line.startswith("profiles") for line in summary_lines(report(samples)))


def test_the_page_links_them(samples: Samples) -> None:
    shown = page(report(samples, OURS, THEIRS))
    for path in OURS.traces:
        assert f'<a href="{path}" download>{Path(path).name}</a>' in shown
    assert '<a href="#profiles">its profile</a>' in shown
    assert 'id="profiles"' not in page(report(samples))
    assert "#profiles" not in page(report(samples, THEIRS))


def test_nothing_in_a_path_can_be_run_or_leads_elsewhere(samples: Samples) -> None:
    for path in (
        "javascript:alert(1)",
        "https://evil.example/x",
        "//evil.example/x",
        '"><script>alert(1)</script>',
    ):
        hostile = Profile(test=NODE, server_id="s", side="candidate", workload="w", traces=(path,))
        ((_, address),) = profile_views(report(samples, hostile))[0].traces
        assert ":" not in address
        assert not address.startswith("//")
        assert "<script>alert" not in page(report(samples, hostile))


def test_ways_begin_where_the_page_is(samples: Samples, tmp_path: Path) -> None:
    document = report(samples, OURS)
    out, other = tmp_path / "out", tmp_path / "pages" / "new"
    assert seen_from(document, out, out) is document
    seen = seen_from(document, out, other)
    assert seen["profiles"][0]["traces"][0] == f"../../out/{OURS.traces[0]}"
    assert document["profiles"][0]["traces"] == list(OURS.traces)
    whole = report(
        samples,
        Profile(test=NODE, server_id="s", side="candidate", workload="w", traces=("/logs/x.gz",)),
    )
    (way,) = seen_from(whole, out, other)["profiles"][0]["traces"]
    assert (other / way).resolve() == Path("/logs/x.gz")


def test_a_page_made_later_links_them_from_where_it_lies(samples: Samples, tmp_path: Path) -> None:
    written, made = tmp_path / "r.json", tmp_path / "pages" / "r.html"
    written.write_text(json.dumps(report(samples, OURS)))
    made.parent.mkdir()
    assert main(["report", str(written), "-o", str(made)]) == 0
    assert f'href="../{OURS.traces[0]}"' in made.read_text()
