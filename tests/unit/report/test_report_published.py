from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.report.published import published_lines
from pytest_llmperf.report.terminal import server_lines
from pytest_llmperf.schema import schema_errors

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

ROW = {
    "id": "x",
    "source": "SGLang team: SGLang cookbook, at 23b0c3d",
    "date": "2025-12",
    "metric": "output_throughput",
    "value": 795.3,
    "unit": "tok/s",
    "conditions": "8x NVIDIA B200",
    "verified": True,
    "ratio": 1.0234,
}


def test_one_line_a_figure() -> None:
    document = {"measurements": [{"test": "test_a.py::test_chat", "published": [ROW]}]}
    assert published_lines(document) == [
        "published: test_a.py::test_chat: output throughput is 102 % of 795.3 tok/s "
        "(SGLang team: SGLang cookbook, at 23b0c3d, 2025-12)"
    ]


def test_what_was_not_read_at_its_source_says_so() -> None:
    document = {"measurements": [{"test": "t", "published": [{**ROW, "verified": False}]}]}
    assert published_lines(document)[0].endswith("2025-12, not read at its source)")


def test_nothing_is_said_where_nothing_is_comparable() -> None:
    entries = [{"test": "a", "published": None}, {"test": "b"}, {"test": "c", "published": []}]
    assert published_lines({"measurements": entries}) == []


def test_a_report_with_published_figures_matches_the_schema(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    document["measurements"][0]["published"] = [ROW]
    assert schema_errors(document, "report-v1") == []
    document["measurements"][0]["published"] = [{**ROW, "ratio": 0}]
    assert schema_errors(document, "report-v1")


def test_a_recipe_is_told_with_its_server(samples: Samples) -> None:
    fragment = samples.fragment()
    for launch in fragment["launches"]:
        launch["recipe"] = "DeepSeek-R1 in FP8 on 8x H200 (somewhere)"
    document = samples.assemble(fragment)
    server = document["servers"][0]
    assert server["recipe"] == "DeepSeek-R1 in FP8 on 8x H200 (somewhere)"
    assert all("recipe" not in launch for launch in server["launches"])
    assert "  recipe: DeepSeek-R1 in FP8 on 8x H200 (somewhere)" in server_lines(document)
    assert schema_errors(document, "report-v1") == []


def test_a_server_without_one_says_nothing_of_it(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    assert document["servers"][0]["recipe"] is None
    assert not any("recipe" in line for line in server_lines(document))
