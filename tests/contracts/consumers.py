"""Do the tools that our exports are for accept them, by their own schemas and their own code?

For those that are no package, so that a test cannot install them. A suite with hostile names is
measured on the simulator, exported, and given to each consumer below whose source is at hand. A
variable names a checkout of each::

    LLMPERF_CONSUMER_BENCHER=../bencher python tests/contracts/consumers.py

=========================================  =========================================
LLMPERF_CONSUMER_BENCHER                   bencherdev/bencher, its bmf.json
LLMPERF_CONSUMER_LLMD                      llm-d/llm-d-benchmark, its JSON Schema of 0.2.1
LLMPERF_CONSUMER_GITHUB_ACTION_BENCHMARK   benchmark-action/github-action-benchmark, its extraction
                                           under Node, after ``npm ci && npm run build``
=========================================  =========================================

Prints a line for each; exits with 1 if a file was refused, with 2 if no consumer was named.
Reports can be given as arguments, to export those instead. Programs that are packages
(pytest-benchmark, Otava) are asked by tests/unit/report/test_report_consumers.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonschema import validators

from pytest_llmperf.report.exports import export

SUITE = r"""
import pytest

BAD = 't|`<script>"#1\\{}\n::error::\x1b[31m\u202e@all é'

@pytest.mark.llm_server("sim", model="tiny-r1", args=["--ttft-ms", "5", "--itl-ms", "1"])
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=20, concurrency=2)
@pytest.mark.llm_floor(output_throughput="1 tok/s")
@pytest.mark.llm_ceiling(ttft_p50="60 s", tpot_mean="60 s")
@pytest.mark.parametrize("name", [BAD, "plain"], ids=[BAD, "plain"])
def test_load(llm_perf, name):
    llm_perf.run()
"""
_TIMEOUT_S = 300
#: Says what the action makes of each file, as its own job would: names, values and ranges.
EXTRACT = """
const { extractResult } = require(process.argv[2] + "/dist/src/extract.js");
const { extractRangeInfo } = require(process.argv[2] + "/dist/src/extractRangeInfo.js");
(async () => {
  const told = [];
  for (const [outputFilePath, tool] of JSON.parse(process.argv[3])) {
    const found = await extractResult({ outputFilePath, tool });
    for (const { name, value, unit, range } of found.benches)
      told.push([name, value, unit, extractRangeInfo(range) === undefined ? null : range]);
  }
  console.log(JSON.stringify(told));
})().catch((error) => { console.error(error.message); process.exit(1); });
"""
Refused = str


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", nargs="*", type=Path, metavar="REPORT")
    chosen = parser.parse_args()
    named = {name: found for name in CONSUMERS if (found := os.environ.get(variable(name)))}
    if not named:
        print("no consumer is named; see --help", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        reports = chosen.reports or [measured(place)]
        refused = [
            told
            for name, source in named.items()
            for number, report in enumerate(reports)
            for told in [asked(name, Path(source), report, place / f"{name}-{number}")]
        ]
    return 1 if any(refused) else 0


def variable(name: str) -> str:
    return f"LLMPERF_CONSUMER_{name.upper().replace('-', '_')}"


def measured(place: Path) -> Path:
    """The report of a session on the simulator."""
    (place / "test_load.py").write_text(SUITE, encoding="utf-8")
    options = ["--llmperf-no-progress", "--llmperf-report=r.json", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir=.", *options]
    done = subprocess.run(
        command, cwd=place, stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT_S, check=False
    )
    if not (place / "r.json").exists():
        raise SystemExit(f"no report was made:\n{done.stdout}")
    return place / "r.json"


def asked(name: str, source: Path, report: Path, to: Path) -> Refused | None:
    """Export ``report`` for this consumer, and let it look."""
    document = json.loads(report.read_text(encoding="utf-8"))
    to.mkdir()
    files = export(name, document, to / "out.json", option="REPORT")
    trouble = CONSUMERS[name](source.resolve(), files) if files else "nothing was exported"
    print(f"{name}: {trouble or f'{len(files)} files accepted'}")
    return trouble


def schema_of(path: str) -> Callable[[Path, list[Path]], Refused | None]:
    """The first thing that the consumer's JSON Schema, at ``path`` in its source, refuses."""

    def check(source: Path, files: list[Path]) -> Refused | None:
        schema = json.loads((source / path).read_text(encoding="utf-8"))
        validator = validators.validator_for(schema)(schema)
        for file in files:
            for error in validator.iter_errors(json.loads(file.read_text(encoding="utf-8"))):
                return f"{error.json_path}: {error.message}"
        return None

    return check


def extracted(source: Path, files: list[Path]) -> Refused | None:
    """What the action reads must be what was written, with the ranges that it understands."""
    tools = ("customBiggerIsBetter", "customSmallerIsBetter")
    event = files[0].with_name("event.json")
    commit = {"id": "c0ffee", "message": "m", "url": "u", "author": {}, "committer": {}}
    event.write_text(json.dumps({"head_commit": commit}), encoding="utf-8")
    pairs = [[str(file), tool] for file, tool in zip(files, tools, strict=True)]
    done = subprocess.run(
        ["node", "-e", EXTRACT, "extract", str(source), json.dumps(pairs)],  # noqa: S607
        env={**os.environ, "GITHUB_EVENT_PATH": str(event)},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        return done.stderr.strip()
    entries = [entry for file in files for entry in json.loads(file.read_text(encoding="utf-8"))]
    wanted = [row(entry) for entry in entries]
    found = json.loads(done.stdout)
    return None if found == wanted else f"it read {found}, and was given {wanted}"


def row(entry: dict[str, Any]) -> list[Any]:
    even = entry.get("range", "").startswith("±")
    return [entry["name"], entry["value"], entry["unit"], entry["range"] if even else None]


CONSUMERS: dict[str, Callable[[Path, list[Path]], Refused | None]] = {
    "bencher": schema_of("services/console/public/bmf.json"),
    "llmd": schema_of("llmdbenchmark/analysis/benchmark_report/br_v0_2_1_json_schema.json"),
    "github-action-benchmark": extracted,
}


if __name__ == "__main__":
    raise SystemExit(main())
