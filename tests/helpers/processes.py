"""Waiting for what other processes do, and finding them."""

from __future__ import annotations

from collections.abc import Callable

import psutil

from pytest_llmperf import clock

#: A machine that runs tests may be as busy as it likes; what happens at all happens within this.
PATIENCE_S = 60.0


def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> bool:
    """Whether the condition came to hold."""
    deadline = clock.Deadline(patience_s)
    while not deadline.passed:
        if condition():
            return True
        clock.sleep(0.05)
    return bool(condition())


def gone(pid: int) -> bool:
    """Whether it runs no more; its parent may not have heard of that yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def marked(name: str, value: str) -> list[psutil.Process]:
    """What runs with this variable in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and not gone(process.pid):
                found.append(process)
        except psutil.Error:
            continue  # gone meanwhile, or somebody else's
    return found


def command(process: psutil.Process) -> str:
    """Its command line, as far as it can still be asked."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return "gone meanwhile"
