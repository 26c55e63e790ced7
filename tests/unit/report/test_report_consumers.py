"""Exports as those read them that they are for: by their own programs, which `make test` installs
and names with LLMPERF_CONSUMERS, or by their own rules, told here in our words. What of theirs is
no package (schemas, github-action-benchmark itself) is asked by tests/contracts/consumers.py."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from pytest_llmperf.report.exports import export

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

HOSTILE = "t.py::test_x[a,b;\"c\"|`<script>\n::error::\x1b[31m\u202e{{x}} %s #1 'q' é]"
NAMES = pytest.mark.parametrize("test", ["t.py::test_a", HOSTILE], ids=["plain", "hostile"])


def program(name: str) -> str:
    """A consumer's program; skips where nobody has said in what environment it is."""
    place = os.environ.get("LLMPERF_CONSUMERS")
    if not place:
        pytest.skip("LLMPERF_CONSUMERS names no environment with the tools that read exports")
    return str(Path(place) / "bin" / name)


def said(command: list[str], at: Path) -> str:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def written(kind: str, document: dict[str, Any], path: Path) -> list[Path]:
    return export(kind, document, path, option="--llmperf-export")


# --- pytest-benchmark ------------------------------------------------------------------------


@NAMES
def test_pytest_benchmark_compares_two_sessions(
    samples: Samples, tmp_path: Path, test: str
) -> None:
    compare = program("pytest-benchmark")
    before, after = samples.measured(test), samples.measured(test)
    for run in after["measurements"][0]["runs"]:
        run["metrics"]["ttft_p95"] *= 2
    after["measurements"][0]["summary"]["ttft_p95"]["value"] *= 2
    for name, document in (("before", before), ("after", after)):
        written("pytest-benchmark", document, tmp_path / f"{name}.json")
    words = ["compare", "before.json", "after.json", "--columns=mean,ops,rounds"]
    table = said([compare, *words, "--csv=table.csv", "--sort=name"], tmp_path)
    assert "benchmark 'ttft_p95': 2 tests" in table
    assert "\x1b[31m" not in table
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["name"].endswith("ttft_p95")]
    assert sorted(float(row["mean"]) for row in rows) == pytest.approx([0.31, 0.62])
    assert {row["rounds"] for row in rows} == {"3"}


# --- Otava -----------------------------------------------------------------------------------


@NAMES
def test_otava_finds_the_night_of_a_change(samples: Samples, tmp_path: Path, test: str) -> None:
    otava, draw = program("otava"), random.Random(1)
    for night in range(30):
        document = samples.measured(test)
        document["created"] = f"2026-10-{night + 1:02}T03:00:00+00:00"
        for name, found in document["measurements"][0]["summary"].items():
            changed = name == "ttft_p50" and night >= 18
            found["value"] *= (1.2 if changed else 1.0) * draw.gauss(1, 0.002)
        written("otava", document, tmp_path / "nights")
    options = ["--config-file", str(tmp_path / "nights" / "otava.yaml")]
    (name,) = said([otava, "list-tests", *options], tmp_path).splitlines()
    more = ["--since", "2026-09-01", "--output", "json", name]
    found = json.loads(said([otava, "analyze", *options, *more], tmp_path))
    changes = [
        (change["metric"], change["index"], round(float(change["forward_change_percent"])))
        for each in found[name]
        for change in each["changes"]
        if abs(float(change["magnitude"])) > 0.05
    ]
    assert changes == [("ttft_p50", 18, 20)]


# --- what they demand, in our words ----------------------------------------------------------


def closed(required: str = "", **properties: Any) -> dict[str, Any]:
    """An object that may have these properties and no others."""
    shut = {"type": "object", "additionalProperties": False}
    return {**shut, "properties": properties, "required": required.split()}


def each(value: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value}


def word(*words: str) -> dict[str, Any]:
    return {"enum": list(words)} if words else {"type": "string"}


NUMBER: dict[str, Any] = {"type": "number"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
#: bencherdev/bencher 8d75325, services/console/public/bmf.json; a name has 1 to 1,024 bytes
#: there (lib/bencher_valid), which is ours as well.
BENCHER = {
    "propertyNames": {"minLength": 1, "maxLength": 1024},
    **each(each(closed("value", value=NUMBER, lower_value=NUMBER, upper_value=NUMBER))),
}
#: benchmark-action/github-action-benchmark c38cce9, src/extract.ts: it makes texts and numbers of
#: what it finds; an empty list ends its job in an error.
ACTION = {
    "type": "array",
    "minItems": 1,
    "items": closed(
        "name value unit", name=word(), value=NUMBER, unit=word(), range=word(), extra=word()
    ),
}
_STATISTICS = closed(
    "units mean",
    units=word("count", "s", "s/token", "tokens/s", "queries/s"),
    **dict.fromkeys(("mean", "p50", "p90", "p95", "p99", "max"), NUMBER),
)
_LENGTH = closed(
    "distribution value",
    distribution=word("fixed", "gaussian", "uniform", "other"),
    value=NUMBER,
)
_NATIVE = closed(args={"type": "object"}, envars={"type": "object"}, config={})
#: llm-d/llm-d-benchmark 8bc9f1d, br_v0_2_1_json_schema.json: as much of it as is written.
LLMD = closed(
    "version run scenario results",
    version=word("0.2.1"),
    run=closed(
        "uid",
        uid=word(),
        description=word(),
        keywords={"type": "array", "items": word()},
        time=closed(
            start={"type": "string", "format": "date-time"},
            end={"type": "string", "format": "date-time"},
            duration={"type": "string", "pattern": r"^PT\d+\.\d+S$"},
        ),
    ),
    scenario=closed(
        stack={
            "type": "array",
            "items": closed(
                "metadata standardized native",
                metadata=closed("label cfg_id", label=word(), cfg_id=word()),
                standardized=closed(
                    "kind tool tool_version role replicas model accelerator",
                    kind=word("inference_engine"),
                    tool=word(),
                    tool_version=word(),
                    role=word("prefill", "decode", "replica"),
                    replicas=COUNT,
                    model=closed("name", name=word()),
                    accelerator=closed(
                        "model count parallelism",
                        model=word(),
                        count=COUNT,
                        parallelism=closed(tp=COUNT, dp=COUNT, ep=COUNT, pp=COUNT),
                    ),
                ),
                native=_NATIVE,
            ),
        },
        load=closed(
            "metadata standardized native",
            metadata=closed(description=word()),
            standardized=closed(
                "tool tool_version source input_seq_len",
                tool=word(),
                tool_version=word(),
                source=word("random", "sampled", "unknown"),
                input_seq_len=_LENGTH,
                output_seq_len=_LENGTH,
                rate_qps=NUMBER,
                concurrency=COUNT,
                multi_turn=closed(enabled={"type": "boolean"}, max_turns=_LENGTH),
            ),
            native=_NATIVE,
        ),
    ),
    results=closed(
        request_performance=closed(
            aggregate=closed(
                requests=closed(
                    "total",
                    total=COUNT,
                    failures=COUNT,
                    input_length=_STATISTICS,
                    output_length=_STATISTICS,
                ),
                latency=closed(
                    time_to_first_token=_STATISTICS,
                    time_per_output_token=_STATISTICS,
                    inter_token_latency=_STATISTICS,
                    request_latency=_STATISTICS,
                ),
                throughput=closed(
                    output_token_rate=_STATISTICS,
                    total_token_rate=_STATISTICS,
                    request_rate=_STATISTICS,
                ),
            )
        )
    ),
)
DEMANDS = {"bencher": BENCHER, "github-action-benchmark": ACTION, "llmd": LLMD}


@pytest.mark.parametrize("asked", [{}, {"concurrency": None, "rate": 2.5, "turns": 3}], ids=str)
@NAMES
@pytest.mark.parametrize("kind", DEMANDS)
def test_what_is_written_is_as_its_reader_demands(
    samples: Samples, tmp_path: Path, kind: str, test: str, asked: dict[str, Any]
) -> None:
    document = samples.measured(test)
    document["measurements"][0]["workload"]["asked"] |= asked
    for path in written(kind, document, tmp_path / "out.json"):
        validator = Draft202012Validator(DEMANDS[kind])
        errors = [error.message for error in validator.iter_errors(json.loads(path.read_text()))]
        assert errors == [], path


def test_the_action_reads_a_range_that_lies_even(samples: Samples, tmp_path: Path) -> None:
    """Its src/extractRangeInfo.ts takes what follows the sign for a number, or has no range."""
    told = {}
    for path in written("github-action-benchmark", samples.measured(), tmp_path / "b.json"):
        for entry in json.loads(path.read_text(encoding="utf-8")):
            sign = re.search(r"(?:\+-|±)\s*(\d.*)", entry["range"])
            told[entry["name"].split()[-1]] = float(sign[1]) if sign else None
    assert told["output_throughput"] == 100.0
    assert told["ttft_p95"] is None
