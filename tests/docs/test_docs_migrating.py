"""The guides for those who come from other tools: what they show is what lies in
examples/migrating, and of that the new side decides what the old one let pass or flaked on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scipy.stats  # noqa: F401 - numpy loads once, and runs in this process forget it

from patience import PATIENT_ARGS
from pytest_llmperf.testing import FakeServer, Script

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "migrating"
EXAMPLES = ROOT / "examples" / "migrating"
NAMES = sorted(place.name for place in EXAMPLES.iterdir() if place.is_dir())
#: A link to a file, and below it the file.
SHOWN = re.compile(
    r"^\[`(?P<name>[^`]+)`\]\((?P<link>[^)]+)\)\n\n"
    r"(?:<!-- unchecked: [^\n]+ -->\n)?```\w+\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
#: What is measured is not how fast this machine is; several tests may share it.
CALM = (
    *("--llmperf-runs=1", "--llmperf-no-progress", "--llmperf-report=r.json"),
    *("--llmperf-accelerator=cpu", "-p", "no:cacheprovider", *PATIENT_ARGS),
)

Go = Callable[..., tuple[pytest.RunResult, dict[str, Any]]]


def code_of(name: str) -> list[Path]:
    return [path for path in (EXAMPLES / name).rglob("*") if path.suffix in {".py", ".sh"}]


@pytest.mark.parametrize("name", NAMES)
def test_a_guide_shows_the_files_as_they_are(name: str) -> None:
    page = GUIDES / f"{name}.md"
    shown = {
        (page.parent / found["link"]).resolve(): found["text"]
        for found in SHOWN.finditer(page.read_text(encoding="utf-8"))
    }
    assert shown == {path: path.read_text(encoding="utf-8") for path in code_of(name)}


def test_every_example_has_a_guide_and_is_listed() -> None:
    assert [page.stem for page in sorted(GUIDES.glob("*.md"))] == NAMES
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"docs/migrating/([\w-]+)\.md", listed)) == NAMES


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_python_compiles(path: Path) -> None:
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.sh")), ids=lambda path: path.name)
def test_shell_parses(path: Path) -> None:
    if (bash := shutil.which("bash")) is None:
        pytest.skip("needs bash")
    subprocess.run([bash, "-n", path], check=True)
    assert path.stat().st_mode & 0o100, "it is meant to be run"


# --- the new side ------------------------------------------------------------------------------


@pytest.fixture
def go(pytester: pytest.Pytester) -> Go:
    """Runs the new suite of a guide, with words of its files replaced."""

    def run(name: str, *args: str, **replaced: str) -> tuple[pytest.RunResult, dict[str, Any]]:
        shutil.copytree(EXAMPLES / name / "after", pytester.path, dirs_exist_ok=True)
        for old, new in replaced.items():
            change(pytester.path, old, new)
        result = pytester.runpytest(*CALM, *args)
        return result, json.loads((pytester.path / "r.json").read_text(encoding="utf-8"))

    return run


def change(place: Path, field: str, value: str) -> None:
    """A flag or a keyword of the one suite that is there, with another value."""
    (suite,) = place.glob("test_*.py")
    old = suite.read_text(encoding="utf-8")
    flag = field.replace("_", "-")
    new = re.sub(rf"--{flag} [\d.]+", f"--{flag} {value}", old)
    new = re.sub(rf"\b{field}=\d+", f"{field}={value}", new)
    assert new != old
    suite.write_text(new, encoding="utf-8")


def verdicts(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(gate["metric"], gate["verdict"]) for gate in report["gates"]]


def reasons(report: dict[str, Any]) -> set[str]:
    return {gate["reason_code"] for gate in report["gates"]}


def test_the_kits_limits_hold_wherever_they_are_run(
    go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CI", "SGLANG_IS_IN_CI"):
        monkeypatch.delenv(name, raising=False)
    result, report = go("sglang-kits", "-k=within_limits", itl_ms="40")
    assert result.ret == 10
    assert ("output_throughput", "fail") in verdicts(report)


def test_a_loss_above_the_floor_is_seen_by_the_gate_on_change(go: Go) -> None:
    """Twice as fast was the reference, and both are above the floor for a CPU."""
    result, report = go("sglang-kits", "--llmperf-reference-args=--ttft-ms 20 --itl-ms 2")
    assert result.ret == 10
    found = {(gate["test"].rpartition("::")[2], gate["metric"]): gate for gate in report["gates"]}
    throughput = "output_throughput"
    assert found["test_within_limits", throughput]["verdict"] == "pass"
    assert found["test_no_slower_than_before", throughput]["verdict"] == "fail"


def test_equal_servers_whose_launches_differ_do_not_fail(go: Go) -> None:
    same = "--llmperf-reference-args=--ttft-ms 20 --itl-ms 4 --launch-cv 0.05"
    result, report = go("pytest-benchmark", "-k=one_user", "--llmperf-aa", same)
    assert result.ret == 0
    assert [verdict for _, verdict in verdicts(report)] != ["fail"]


def test_a_server_that_fails_a_quarter_of_its_requests_is_red(go: Go) -> None:
    faulty = Script(ttft_ms=20, itl_ms=4, fault="http_500", fault_every=4, fault_from=20)
    with FakeServer(faulty) as server:
        result, report = go("shell-script", f"--llmperf-url={server.url}")
    assert result.ret == 10
    found = dict(verdicts(report))
    assert (found["success_rate"], found["ttft_p95"]) == ("fail", "fail")


def test_results_of_the_old_script_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    script = EXAMPLES / "shell-script" / "after" / "compare.sh"
    done = subprocess.run([script, tmp_path], capture_output=True, text=True, check=True)
    assert "FOREIGN: measured by sglang.bench_serving, and imported." in done.stdout
    assert "imported [random-ids], 3 and 3 launches" in done.stdout
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("tpot_mean"))
    assert row.endswith(" worse")


def test_an_accelerator_without_a_limit_is_red(go: Go) -> None:
    result, report = go("reframe")
    assert result.ret == 11
    assert reasons(report) == {"no_limit"}
    result.stdout.fnmatch_lines(["*not covered: no limit for *is declared for MI300X, H200;*"])
