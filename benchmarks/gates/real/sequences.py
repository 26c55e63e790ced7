"""Sequences of launches of real SGLang, each judged by pytest as any user's suite is.

    python -m benchmarks.gates.real.sequences sleeps --side-by-side --runs 16 --pairs 20 --count 5
    python -m benchmarks.gates.real.sequences computes --side-by-side --runs 16 --pairs 20 --count 5
    python -m benchmarks.gates.real.sequences alike --side-by-side --runs 16 --count 5
    python -m benchmarks.gates.real.sequences alike --pin off --count 4

Every sequence that was begun is one line of ``results/real-<suite>.jsonl``: verdicts, and the
values of each pair. None is repeated; one that broke is kept with what it said.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_llmperf.models import materialize

SUITES = Path(__file__).with_name("suite")
RESULTS = Path(__file__).parents[1] / "results"
SLOW_STEP = Path(__file__).parents[3] / "tests" / "engines" / "slow_step"
_LONGEST_S = 3600
#: Large enough that a step is arithmetic and not the passing of messages, small enough for a core.
_CONFIG = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "max_window_layers": 6,
    "num_attention_heads": 8,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "torch_dtype": "float32",
}
_KEPT = (
    "test", "metric", "verdict", "reason_code", "reason", "loss_to_catch", "loss", "loss_low",
    "loss_high", "sigma", "df", "detectable_loss", "n_pairs", "alpha", "attempt",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("suite", choices=sorted(p.stem[5:] for p in SUITES.glob("test_*.py")))
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--pin", choices=("auto", "off"), default="auto")
    parser.add_argument("--side-by-side", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=12, help="at most")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--reports", type=Path, default=Path(".build/real"), help="kept whole here")
    asked = parser.parse_args(argv)
    out = asked.out or RESULTS / f"real-{asked.suite}.jsonl"
    with tempfile.TemporaryDirectory() as scratch:
        model = _model(Path(scratch))
        for _ in range(asked.count):
            options = ["--llmperf-pin", asked.pin, "--llmperf-runs", str(asked.runs)]
            options += ["--llmperf-pairs", str(asked.pairs)]
            options += ["--llmperf-side-by-side"] if asked.side_by_side else []
            line = _sequence(asked.suite, options, model, asked.reports)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(_told(line), flush=True)
    return 0


def _model(scratch: Path) -> Path:
    """A model of the distills' shape, between the tiny one and a real one; without weights."""
    target = scratch / "small-r1-distill-qwen"
    shutil.copytree(materialize("tiny-r1-distill-qwen", scratch / "tiny"), target)
    (target / "model.safetensors").unlink()
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | _CONFIG))
    return target


def _sequence(suite: str, options: Sequence[str], model: Path, reports: Path) -> dict[str, Any]:
    report = reports.resolve() / f"{suite}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    began, started = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", f"test_{suite}.py", "--llmperf-aa",
            "--llmperf-quality", "off", *options, "--llmperf-report", str(report),
            "--llmperf-model", f"small-r1-distill-qwen={model}",
        ],
        cwd=SUITES,
        env={**os.environ, "LLMPERF_SLOW_STEP_PATH": str(SLOW_STEP)},
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        check=False,
    )  # fmt: skip
    line = {
        "began": began,
        "seconds": round(time.perf_counter() - started),
        "options": list(options),
        "exit_status": done.returncode,
    }
    if not report.exists():
        return {**line, "broke": done.stdout[-2000:] + done.stderr[-2000:], "gates": []}
    return line | _short(json.loads(report.read_text()))


def _short(report: Mapping[str, Any]) -> dict[str, Any]:
    measured = {each["id"]: each for each in report["measurements"]}
    gates = [gate for gate in report["gates"] if gate["kind"] == "regression"]
    return {
        "engine": [f"{each['engine']} {each['version']}" for each in report["servers"]],
        "match": report["environment"]["fingerprint"]["match"],
        "seed": report["seed"],
        "problems": report["problems"],
        "launches": sum(len(each["launches"]) for each in report["servers"]),
        "gates": [
            {name: gate.get(name) for name in _KEPT}
            | {"pairs": _pairs(measured, gate["measurement"], gate["metric"])}
            for gate in gates
        ],
    }


def _pairs(measured: Mapping[str, Any], ours: str, metric: str) -> list[dict[str, Any]]:
    """The values of a metric in both launches of each pair, in the order of launching."""
    found: dict[int, dict[str, Any]] = {}
    theirs = measured[ours].get("reference") or ""
    for side, id_ in (("candidate", ours), ("reference", theirs)):
        for run in measured[id_]["runs"] if id_ in measured else ():
            if run["pair"] is not None:
                pair = found.setdefault(run["pair"], {})
                pair.setdefault(side, []).append(run["metrics"].get(metric))
                pair.setdefault(f"{side}_at", run["started_at"])
                pair[f"{side}_valid"] = run["valid"]
    return [found[number] for number in sorted(found)]


def _told(line: Mapping[str, Any]) -> str:
    gates = "; ".join(
        f"{gate['test'].partition('::')[2]} {gate['metric']} {gate['verdict']} "
        f"{100 * (gate['loss'] or 0):.1f}% after {gate['n_pairs']}"
        for gate in line["gates"]
    )
    return f"{line['began']} {line['seconds']} s, exit {line['exit_status']}: {gates}"


if __name__ == "__main__":
    sys.exit(main())
