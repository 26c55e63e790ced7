"""What other tools do where a gate could be green by accident: pytest-benchmark and ReFrame.

    python benchmarks/gates_fail_closed.py --pytest-benchmark A/bin/python --reframe B/bin/python

Each interpreter is of a virtual environment of its own with the tool in it (pytest-benchmark with
pytest-xdist; ReFrame-HPC). Every case is the smallest suite that shows it; the "speed" is a sleep
that is five times longer in the candidate. Prints JSON: for each case the exit status, whether the
tool ended red, and the line that told.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

_TIMEOUT_S = 180
_FAST, _SLOW = 0.002, 0.01
_TELLING = re.compile(
    r"regress|could not|no such|missing|reference|error|skipp|no tests|warn|fail|passed", re.I
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to be green by accident. ``row`` is its name in docs/fail-closed.md."""

    row: str
    files: Mapping[str, str]
    args: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a tool ended: ``told`` is the last line of its output that says something about it."""

    row: str
    exit_status: int
    red: bool
    told: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pytest-benchmark", metavar="PYTHON")
    parser.add_argument("--reframe", metavar="PYTHON")
    asked = parser.parse_args()
    result: dict[str, object] = {"date": datetime.now(UTC).date().isoformat()}
    if asked.pytest_benchmark:
        python = str(Path(asked.pytest_benchmark).absolute())
        result["pytest-benchmark"] = version(python, "pytest-benchmark") | {
            "cases": [asdict(of_pytest_benchmark(python, case)) for case in benchmark_cases()]
        }
    if asked.reframe:
        python = str(Path(asked.reframe).absolute())
        result["reframe"] = version(python, "ReFrame-HPC") | {
            "cases": [asdict(of_reframe(python, case)) for case in reframe_cases()]
        }
    print(json.dumps(result, indent=2, ensure_ascii=False))
    return 0


def version(python: str, package: str) -> dict[str, str]:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return {"version": call([python, "-c", code], Path.cwd()).stdout.strip()}


def call(command: Sequence[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )


def ending(row: str, done: subprocess.CompletedProcess[str]) -> Ending:
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    told = [line for line in lines if _TELLING.search(line)]
    return Ending(
        row=row,
        exit_status=done.returncode,
        red=done.returncode != 0,
        told=(told or lines or [""])[-1][:200],
    )


# --- pytest-benchmark ------------------------------------------------------------------------

_STORED = f"import time\ndef test_a(benchmark): benchmark(time.sleep, {_FAST})\n"
_SLOWER = f"import time\ndef test_a(benchmark): benchmark(time.sleep, {_SLOW})\n"
_SKIPPED = _STORED.replace("def", "import pytest\n@pytest.mark.skip\ndef")
_NOT_CALLED = "def test_a(benchmark): pass\n"
_GATE = ("--benchmark-compare", "--benchmark-compare-fail=mean:5%")
#: For what must not be red because of noise.
_LOOSE = ("--benchmark-compare", "--benchmark-compare-fail=mean:900%")


def benchmark_cases() -> list[Case]:
    """Each compares with a stored run of ``test_a``, unless it says otherwise."""
    renamed = _SLOWER.replace("test_a", "test_b")
    return [
        Case(row="a real regression", files={"test_it.py": _SLOWER}, args=_GATE),
        Case(row="no baseline", files={"test_it.py": _SLOWER}, args=(*_GATE, "--without-stored")),
        Case(row="gate absent from the baseline", files={"test_it.py": renamed}, args=_GATE),
        Case(
            row="deselected",
            files={"test_it.py": _SLOWER + "def test_other(): pass\n"},
            args=(*_GATE, "-k", "other"),
        ),
        Case(row="skipped", files={"test_it.py": _SKIPPED}, args=_GATE),
        Case(row="never measured", files={"test_it.py": _NOT_CALLED}, args=_GATE),
        Case(row="judged on an xdist worker", files={"test_it.py": _SLOWER}, args=(*_GATE, "-n2")),
        Case(row="zero gates", files={"test_it.py": "def test_other(): pass\n"}, args=_GATE),
        Case(
            row="truncated baseline",
            files={"test_it.py": _SLOWER},
            args=(*_GATE, "--truncate-stored"),
        ),
        Case(
            row="other environment",
            files={"test_it.py": _STORED},
            args=(*_LOOSE, "--other-machine"),
        ),
    ]


def of_pytest_benchmark(python: str, case: Case) -> Ending:
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if "--without-stored" not in case.args:
            (directory / "test_it.py").write_text(_STORED)
            call([*pytest, "--benchmark-save=stored"], directory)
        for stored in directory.rglob(".benchmarks/**/*.json"):
            spoil(stored, case.args)
        for file, text in case.files.items():
            (directory / file).write_text(text)
        own = [each for each in case.args if each not in _OURS]
        return ending(case.row, call([*pytest, *own], directory))


_OURS = ("--without-stored", "--truncate-stored", "--other-machine")


def spoil(stored: Path, how: Sequence[str]) -> None:
    text = stored.read_text()
    if "--truncate-stored" in how:
        stored.write_text(text[: len(text) // 2])
    if "--other-machine" in how:
        document = json.loads(text)
        document["machine_info"]["cpu"] = {"brand_raw": "Another CPU"}
        document["machine_info"]["node"] = "elsewhere"
        stored.write_text(json.dumps(document))


# --- ReFrame ---------------------------------------------------------------------------------

_CHECK = """
import reframe as rfm
import reframe.utility.sanity as sn

@rfm.simple_test
class {name}(rfm.RunOnlyRegressionTest):
    valid_systems = [{system!r}]
    valid_prog_environs = ["*"]
    executable = "echo"
    executable_opts = ["speed", "{speed}"]
    reference = {reference}
    {more}

    @sanity_function
    def ran(self):
        return sn.assert_found("speed", self.stdout)

    @performance_function("tok/s")
    def speed(self):
        return {extract}
"""
_HERE = '{"*": {"speed": (100, -0.05, None, "tok/s")}}'
_EXTRACT = 'sn.extractsingle(r"speed (\\S+)", self.stdout, 1, float)'


def check(**more: str) -> dict[str, str]:
    given = {"name": "Chat", "system": "*", "speed": "20", "reference": _HERE} | {
        "extract": _EXTRACT,
        "more": "",
    }
    return {"checks.py": _CHECK.format(**(given | more))}


def reframe_cases() -> list[Case]:
    """References stand in the test itself there, so a renamed test keeps its own."""
    elsewhere = _HERE.replace('"*"', '"elsewhere"')
    other_name = _HERE.replace('"speed"', '"throughput"')
    unit = _HERE.replace("tok/s", "req/s")
    missing = _EXTRACT.replace("speed", "throughput")
    as_skip = 'skip_me = True\n    @run_after("init")\n    def no(self): self.skip("not today")'
    return [
        Case(row="a real regression", files=check(), args=()),
        Case(row="no baseline", files=check(reference="{}"), args=()),
        Case(row="gate absent from the baseline", files=check(reference=other_name), args=()),
        Case(row="deselected", files=check(), args=("-n", "Other")),
        Case(row="skipped", files=check(more=as_skip), args=()),
        Case(row="metric missing", files=check(extract=missing), args=()),
        Case(row="metric NaN", files=check(speed="nan"), args=()),
        Case(row="other environment", files=check(reference=elsewhere), args=()),
        Case(row="unit mismatch", files=check(reference=unit, speed="100"), args=()),
        Case(row="zero gates", files={"checks.py": "import reframe\n"}, args=()),
    ]


def of_reframe(python: str, case: Case) -> Ending:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for file, text in case.files.items():
            (directory / file).write_text(text)
        reframe = str(Path(python).parent / "reframe")
        command = [reframe, "--prefix=out", "-c", "checks.py", *case.args, "-r"]
        return ending(case.row, call([*command, "--performance-report"], directory))


if __name__ == "__main__":
    raise SystemExit(main())
