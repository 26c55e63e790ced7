"""Kill pytest at random moments of a perf session; nothing may be left, and nothing lost.

First a session is left alone, which tells how long it launches, warms up, measures and writes. Then
so many sessions get SIGKILL, each in one of these phases in turn, at a moment drawn from the whole
span of that phase. After each there is no process of it, no lock that is held, no note of a launch,
no file under its own name but whole ones, and every test that was kept is in the store. Every so
often a session resumes afterwards, and must end well. Prints JSON; with LLMPERF_FAULT_ROWS it adds
its row for docs/reliability.md.

    python -m benchmarks.kills --engine sim --kills 200
    python -m benchmarks.kills --engine sglang --model tiny-r1 --kills 20
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pytest_llmperf import clock
from pytest_llmperf.store import open_store

MARK = "LLMPERF_KILLS"
PHASES = ("launch", "warm-up", "measure", "write")
#: How long what was started may take to notice that pytest is gone.
PATIENCE_S = 60.0
TEST = """
import pytest
pytestmark = [
    pytest.mark.llm_server({engine!r}, model={model!r}{args}),
    pytest.mark.llm_floor(output_throughput="0.001 tok/s"),
]
LOAD = dict(input_tokens=32, output_tokens=16, concurrency=4, requests={requests}, runs=2,
            warmup_requests={warmup})
@pytest.mark.llm_workload("chat", **LOAD)
def test_a(llm_perf): llm_perf.run()
@pytest.mark.llm_workload("chat", **{{**LOAD, "concurrency": 2}})
def test_b(llm_perf): llm_perf.run()
"""
#: Notes when each phase begins. Hooks of the plugin's own would not do: they would be measured.
CONFTEST = """
import os
from pathlib import Path
from pytest_llmperf import clock
from pytest_llmperf.launch.process import ServerProcess
from pytest_llmperf.load.client import LoadClient
from pytest_llmperf.session.collect import Results
from pytest_llmperf.session.memory import Memory

def note(owner, name, phase):
    real = getattr(owner, name)
    def noted(*args, **more):
        with open("phases", "a") as file:
            file.write(f"{phase} {clock.now_ns()}\\n")
        result = real(*args, **more)
        with open("phases", "a") as file:
            file.write(f"- {clock.now_ns()}\\n")
        return result
    setattr(owner, name, noted)

note(LoadClient, "warm_up", "warm-up")
note(LoadClient, "measure", "measure")
note(Memory, "keep", "write")
note(Results, "build", "write")
note(Results, "write", "write")
start = ServerProcess.start.__func__
def noted(cls, *args, **more):
    with open("phases", "a") as file:
        file.write(f"launch {clock.now_ns()}\\n")
    try:
        return start(cls, *args, **more)
    finally:
        with open("phases", "a") as file:
            file.write(f"- {clock.now_ns()}\\n")
ServerProcess.start = classmethod(noted)
"""


@dataclass(slots=True)
class Series:
    """What came of the kills so far."""

    phases: Counter[str] = field(default_factory=Counter)
    too_late: int = 0
    resumed: int = 0
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where sessions run, each in a directory of its own below ``root``."""

    root: Path
    test: str
    python: str

    def directory(self, number: int) -> Path:
        made = self.root / str(number)
        made.mkdir()
        (made / "test_it.py").write_text(self.test)
        (made / "conftest.py").write_text(CONFTEST)
        return made

    def environment(self, directory: Path) -> dict[str, str]:
        runtime = self.root / "runtime"
        runtime.mkdir(mode=0o700, exist_ok=True)
        return {
            **os.environ,
            MARK: f"{os.getpid()}-{directory.name}",
            "PYTEST_LLMPERF_RUNTIME_DIR": str(runtime),
        }

    def start(self, directory: Path, *args: str) -> subprocess.Popen[bytes]:
        command = [self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["--llmperf-report=r.json", "--llmperf-store=perf", "--llmperf-no-progress"]
        with (directory / "said").open("ab") as said:
            return subprocess.Popen(
                [*command, *args],
                cwd=directory,
                env=self.environment(directory),
                stdout=said,
                stderr=said,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="sim")
    parser.add_argument("--model", default="m")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume-every", type=int, default=5, help="sessions that go on after it")
    parser.add_argument("--python", default=sys.executable)
    chosen = parser.parse_args()
    simulated = chosen.engine == "sim"
    test = TEST.format(
        engine=chosen.engine,
        model=chosen.model,
        args=', args="--ttft-ms 5 --itl-ms 2"' if simulated else "",
        requests=40 if simulated else 16,
        warmup=16 if simulated else 8,
    )
    with tempfile.TemporaryDirectory(prefix="llmperf-kills-") as name:
        bench = Bench(root=Path(name), test=test, python=chosen.python)
        series = run(bench, chosen.kills, random.Random(chosen.seed), chosen.resume_every)
    result = {
        "engine": chosen.engine,
        "kills": sum(series.phases.values()),
        "by_phase": dict(series.phases),
        "ended_before_the_kill": series.too_late,
        "sessions_resumed": series.resumed,
        "findings": series.findings,
    }
    print(json.dumps(result, indent=1))
    note_row(chosen.engine, series)
    return 1 if series.findings else 0


def note_row(engine: str, series: Series) -> None:
    path = os.environ.get("LLMPERF_FAULT_ROWS")
    if path is None:
        return
    phases = ", ".join(f"{count} {phase}" for phase, count in series.phases.items())
    row = {
        "part": "machine",
        "fault": f"SIGKILL of pytest at random moments ({engine}: {phases})",
        "times": sum(series.phases.values()),
        "outcome": "no process, port, lock or half-written file is left; the next session goes on",
        "lost": "; ".join(series.findings) or "nothing",
    }
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def run(bench: Bench, kills: int, chance: random.Random, resume_every: int) -> Series:
    spans = phases_of(bench)
    series, number = Series(), 0
    while sum(series.phases.values()) < kills:
        number += 1
        phase = PHASES[sum(series.phases.values()) % len(PHASES)]
        directory = bench.directory(number)
        if not killed_in(bench, directory, phase, spans, chance):
            series.too_late += 1
            if series.too_late > kills:
                series.findings.append("sessions end before they can be killed")
                break
            continue
        series.phases[phase] += 1
        found = list(left_by(bench, directory))
        if sum(series.phases.values()) % resume_every == 0:
            series.resumed += 1
            found += goes_on(bench, directory)
        series.findings += [f"kill {number} ({phase}): {each}" for each in found]
        told = f"{sum(series.phases.values())} kills, {len(series.findings)} findings"
        print(told, file=sys.stderr, flush=True)
    return series


def phases_of(bench: Bench) -> Mapping[str, float]:
    """How long each phase takes a session that is left alone, in seconds, on the average."""
    directory = bench.directory(0)
    if bench.start(directory).wait() != 0:
        raise RuntimeError((directory / "said").read_text())
    spans: dict[str, list[float]] = {}
    open_ones: list[tuple[str, int]] = []
    for phase, at in noted(directory):
        if phase == "-":
            begun, since = open_ones.pop()
            spans.setdefault(begun, []).append((at - since) / 1e9)
        else:
            open_ones.append((phase, at))
    return {phase: sum(seconds) / len(seconds) for phase, seconds in spans.items()}


def noted(directory: Path) -> list[tuple[str, int]]:
    path = directory / "phases"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines if len(line.split()) == 2]


def killed_in(
    bench: Bench,
    directory: Path,
    phase: str,
    spans: Mapping[str, float],
    chance: random.Random,
) -> bool:
    """Whether a session was killed in ``phase``; false where it was over before."""
    nth = chance.choice((1, 2)) if phase != "launch" else 1
    wait_s = chance.uniform(0.0, spans[phase])
    process = bench.start(directory)
    while process.poll() is None:
        begun = [at for name, at in noted(directory) if name == phase]
        if len(begun) >= nth:
            clock.sleep(max(0.0, wait_s - (clock.now_ns() - begun[nth - 1]) / 1e9))
            break
        clock.sleep(0.002)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


# --- what is left ----------------------------------------------------------------------------


def left_by(bench: Bench, directory: Path) -> Iterator[str]:
    mark = bench.environment(directory)[MARK]
    deadline = clock.Deadline(PATIENCE_S)
    while (alive := marked(mark)) and not deadline.passed:
        clock.sleep(0.05)
    for process in alive:
        yield f"process left: {' '.join(process.cmdline())[:100]}"
        process.kill()
    yield from held_locks(bench.root / "runtime")
    yield from (f"note of a launch left: {path.name}" for path in notes(bench.root / "runtime"))
    yield from unfinished(directory)
    yield from lost(directory)


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get(MARK) == mark
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def held_locks(runtime: Path) -> Iterator[str]:
    for path in runtime.rglob("*.lock"):
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield f"lock held: {path.name}"


def notes(runtime: Path) -> Sequence[Path]:
    return sorted((runtime / "runs").glob("*.json"))


def unfinished(directory: Path) -> Iterator[str]:
    """Files under their own names that are not whole; the journal's last line may be cut."""
    whole = [*directory.glob("r.json"), *(directory / "perf").rglob("*.json")]
    for path in whole:
        if path.name.startswith("."):
            continue
        try:
            json.loads(path.read_text())
        except ValueError:
            yield f"half a file: {path.name}"


def lost(directory: Path) -> Iterator[str]:
    """Tests that had been kept when the kill came, and are not in the store; the phase of writing
    ends with them on the disk."""
    ended = [phase for phase, _ in noted(directory)]
    store = open_store(str(directory / "perf"), directory)
    try:
        remembered = {one.test for one in store.observations()}
    finally:
        store.close()
    in_journal = journal(directory)
    kept = ended.count("write")
    closed = _closed(ended, "write")
    if kept and closed and not remembered:
        yield "a test that was kept is not in the store"
    if not in_journal <= remembered:
        yield "a test in the journal is not in the store"


def _closed(phases: Sequence[str], wanted: str) -> int:
    open_ones: list[str] = []
    closed = 0
    for phase in phases:
        if phase == "-":
            closed += open_ones.pop() == wanted
        else:
            open_ones.append(phase)
    return closed


def journal(directory: Path) -> set[str]:
    path = directory / "r.json.unfinished"
    if not path.exists():
        return set()
    lines: list[Any] = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    return {line["test"] for line in lines if "test" in line}


def goes_on(bench: Bench, directory: Path) -> Iterator[str]:
    """The next session recovers: it resumes, ends well, and its report is whole."""
    had = journal(directory)
    status = bench.start(directory, "--llmperf-resume").wait()
    report = json.loads((directory / "r.json").read_text()) if status == 0 else {}
    if status != 0 or not report["complete"] or len(report["tests"]) != 2:
        tail = (directory / "said").read_text()[-500:]
        yield f"the next session ended with status {status}: {tail}"
    elif had and journal(directory):
        yield "the journal stayed after a session that ended well"
    yield from (f"file left: {path.name}" for path in directory.rglob(".*.tmp"))


if __name__ == "__main__":
    sys.exit(main())
