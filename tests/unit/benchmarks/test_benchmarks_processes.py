"""Running a tree of processes, and its cost."""

from __future__ import annotations

import os
import sys

import pytest

from benchmarks.clients.processes import Finished, run_tree, watching

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
TWO_CHILDREN = f"""
import subprocess, sys
children = [subprocess.Popen([sys.executable, "-c", {BURN!r}]) for _ in range(2)]
if sys.argv[1] == "wait":
    for child in children: child.wait()
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


@pytest.mark.parametrize("how", ["wait", "leave"])
def test_cpu_time_of_children_and_orphans_counts(how: str) -> None:
    finished = run_tree(python(TWO_CHILDREN, how))
    assert finished.returncode == 0
    assert 0.6 <= finished.cpu_s < 30


def test_memory_of_all_processes_counts() -> None:
    code = (
        "import subprocess, sys, time\nheld = bytearray(64 << 20)\n"
        'child = "import time; held = bytearray(64 << 20); time.sleep(1)"\n'
        "subprocess.run([sys.executable, '-c', child])"
    )
    assert run_tree(python(code)).peak_rss_bytes > 128 << 20


def test_it_stays_on_its_core() -> None:
    core = max(os.sched_getaffinity(0))
    allowed = os.sched_getaffinity(0)
    finished = run_tree(python("import os; print(os.sched_getaffinity(0))"), core=core)
    assert finished.stdout.strip() == str({core})
    assert os.sched_getaffinity(0) == allowed


def test_it_stays_on_its_core_though_we_are_kept_on_another() -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one core")
    os.sched_setaffinity(0, {min(allowed)})
    try:
        code = "import os; print(os.sched_getaffinity(0))"
        finished = run_tree(python(code), core=max(allowed))
        assert finished.stdout.strip() == str({max(allowed)})
        assert os.sched_getaffinity(0) == {min(allowed)}
    finally:
        os.sched_setaffinity(0, allowed)


def test_what_takes_too_long_is_ended_with_its_children() -> None:
    code = (
        "import subprocess, sys\nprint('begun', flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    )
    finished = run_tree(python(code), timeout_s=1)
    assert finished.timed_out
    assert finished.wall_s < 30
    with pytest.raises(RuntimeError, match=r"did not end in \d+ s:\n  \| begun"):
        finished.check("it")


def test_a_failure_is_quoted() -> None:
    finished = run_tree(python("raise SystemExit('out of luck')"))
    with pytest.raises(RuntimeError, match=r"it ended with status 1:\n  \| out of luck"):
        finished.check("it")


def test_watchers_see_what_others_run() -> None:
    with watching() as seen:
        finished = run_tree(python(""))
    run_tree(python(""))
    assert seen == [finished]


def test_cpu_between_two_moments() -> None:
    finished = Finished(
        returncode=0,
        stdout="",
        stderr="",
        cpu_s=9.0,
        peak_rss_bytes=1,
        wall_s=1.0,
        samples=((100, 0.0), (200, 4.0), (300, 5.0)),
    )
    assert finished.cpu_between(150, 250) == pytest.approx(2.5)
    assert finished.cpu_between(0, 1000) == pytest.approx(5.0)
