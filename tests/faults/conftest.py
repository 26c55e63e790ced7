"""Suites that meet a fault, run by a pytest of their own, and what is left when they are over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from processes import PATIENCE_S, command, marked, until
from pytest_llmperf import clock

#: Names the file that gets a line for each fault that was tried; see table.py.
ROWS = "LLMPERF_FAULT_ROWS"
#: In the environment of all that a suite starts.
MARK = "LLMPERF_FAULT_SUITE"
LONG_S = 240.0

#: What every suite begins with: a load that is over in a moment.
HEAD = """
import os, signal, threading, time
import pytest
from pytest_llmperf import clock
LOAD = {"input_tokens": 8, "output_tokens": 8, "requests": 8, "concurrency": 4, "runs": 1,
        "warmup_requests": 1, "request_timeout": "1 s"}
CHAT = pytest.mark.llm_workload("chat", **LOAD)
FLOOR = pytest.mark.llm_floor(output_throughput="0.001 tok/s")
def sim(args="", **more):
    return pytest.mark.llm_server("sim", model="m", args="--ttft-ms 5 --itl-ms 2 " + args, **more)
"""
#: What every suite ends with: the test after the fault, which must not notice it.
NEXT = """
@sim("--role-first")
@CHAT
@FLOOR
def test_next(llm_perf): llm_perf.run()
"""
Record = Callable[..., None]


@pytest.fixture(autouse=True)
def _any_machine(busy_machine: None) -> None: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_S + 20))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A pytest session that is over: its exit status, what it printed, its report if it left one,
    and what processes it left."""

    status: int
    said: str
    report: dict[str, Any]
    left: Sequence[str]

    @property
    def whole(self) -> bool:
        """Whether there is a report and it says to be complete."""
        return bool(self.report) and bool(self.report["complete"])

    def ended(self, test: str) -> tuple[str, str]:
        """How a test ended, and its message."""
        found = [one for one in self.report["tests"] if one["test"].endswith(f"::{test}")]
        assert len(found) == 1, self.said
        return found[0]["outcome"], found[0]["message"]

    def gate(self, test: str) -> dict[str, Any]:
        found: list[dict[str, Any]]
        found = [one for one in self.report["gates"] if one["test"].endswith(f"::{test}")]
        assert len(found) == 1, self.said
        return found[0]


@dataclass(slots=True)
class Going:
    """A pytest session that runs."""

    process: subprocess.Popen[str]
    directory: Path
    mark: str
    report: str

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that happens while it runs."""
        deadline = clock.Deadline(PATIENCE_S)
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert not deadline.passed, "it did not come to that"
            clock.sleep(0.02)

    def end(self, timeout_s: float = LONG_S) -> Outcome:
        try:
            said, _ = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            said, _ = self.process.communicate()
            raise AssertionError(f"it did not end within {timeout_s:g} s:\n{said}") from None
        path = self.directory / self.report
        return Outcome(
            status=self.process.returncode,
            said=said,
            report=json.loads(path.read_text()) if path.exists() else {},
            left=still_there(self.mark),
        )


@dataclass(slots=True)
class Suite:
    """A directory with a suite in it."""

    path: Path
    _mark: str
    _going: list[Going] = field(default_factory=list)
    head: str = HEAD

    def write(self, body: str, *, name: str = "test_it.py", conftest: str = "") -> None:
        (self.path / name).write_text(self.head + body + NEXT)
        if conftest:
            (self.path / "conftest.py").write_text(conftest)

    def start(
        self,
        *args: str,
        report: str = "r.json",
        env: dict[str, str] | None = None,
        before: Callable[[], None] | None = None,
        progress: Path | None = None,
    ) -> Going:
        """Begin a session; ``before`` runs in its process before pytest does. What a person would
        see while it runs goes to ``progress``."""
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--tb=short"]
        command.append(f"--llmperf-report={report}")
        if progress is None:
            command.append("--llmperf-no-progress")
        with ExitStack() as stack:
            process = subprocess.Popen(
                [*command, *args],
                cwd=self.path,
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(progress.open("w")) if progress else subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, MARK: self._mark, **(env or {})},
                preexec_fn=before,
            )
        going = Going(process, self.path, self._mark, report)
        self._going.append(going)
        return going

    def run(self, *args: str, timeout_s: float = LONG_S, **how: Any) -> Outcome:
        return self.start(*args, **how).end(timeout_s)

    def close(self) -> None:
        for going in self._going:
            if going.process.poll() is None:
                going.process.kill()
                going.process.communicate()


def still_there(mark: str) -> list[str]:
    """What carries the mark a moment after all should be over."""
    until(lambda: not marked(MARK, mark))
    return [f"{process.pid} {command(process)}" for process in marked(MARK, mark)]


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    mark = f"{os.getpid()}-{tmp_path.name}"
    made = Suite(tmp_path, mark)
    yield made
    made.close()
    left = still_there(mark)
    for process in marked(MARK, mark):
        process.send_signal(signal.SIGKILL)
    assert left == []


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Iterator[Record]:
    """Notes a fault that was met as it should be; the test that notes it must then pass."""
    rows: list[dict[str, Any]] = []

    def note(part: str, fault: str, outcome: str, *, times: int = 1, lost: str = "nothing") -> None:
        row = {"part": part, "fault": fault, "times": times, "outcome": outcome, "lost": lost}
        rows.append({**row, "test": request.node.nodeid})

    yield note
    path = os.environ.get(ROWS)
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


#: Offers bad_server.py as an engine, with its trick for arguments; ``wrap`` is put before it.
BAD_ENGINE = f"""
from dataclasses import replace
from pytest_llmperf.engines.sim import Sim
BAD = {str(Path(__file__).with_name("bad_server.py"))!r}
WRAP = ()
class Bad(Sim):
    def plan(self, request, placement):
        plan = super().plan(replace(request, args=()), placement)
        python, port = placement.python, str(placement.port)
        return replace(plan, argv=(*WRAP, python, BAD, port, *request.args))
def pytest_llmperf_engines():
    return {{"bad": Bad()}}
"""


@pytest.fixture
def bad_engine() -> str:
    return BAD_ENGINE
