"""All of the doctor's looking, side by side and within a few seconds, without side effects."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_llmperf import clock
from pytest_llmperf.accelerators import fingerprint
from pytest_llmperf.accelerators.conditions import Condition
from pytest_llmperf.accelerators.detect import detect, probes, watching
from pytest_llmperf.records import Accelerator, Json

from . import devices, engines, machine
from .findings import Finding, Findings

#: For everything together. A driver that hangs does so for longer, and is told of.
LIMIT_S = 8.0
#: For each way to ask a vendor: time for two that hang, and a third that answers.
_STEP_S = 3.0
#: Between two looks at the devices: some of their counters only tell by growing.
_BETWEEN_S = 0.5


@dataclass(slots=True)
class Seen:
    """What was found of the accelerator so far, should the rest take too long."""

    accelerator: Accelerator | None = None
    looks: Sequence[Sequence[Condition]] = ()

    def look(self) -> None:
        among = probes(_STEP_S)
        self.accelerator = detect(among=among)
        with watching(self.accelerator, among=among) as watcher:
            if watcher is not None:
                first = watcher.look()
                clock.sleep(_BETWEEN_S)
                self.looks = (first, watcher.look())


def examine(
    python: str, *, limit_s: float = LIMIT_S, env: Mapping[str, str] = os.environ
) -> Findings:
    """Look at the accelerator, the processor and the engines of the interpreter ``python``."""
    seen, hosts, asked = Seen(), list[machine.Host](), list[engines.Installed]()
    unanswered = _side_by_side(
        limit_s,
        {
            "accelerator": seen.look,
            "processor": lambda: hosts.append(machine.look()),
            "engines": lambda: asked.append(engines.ask(python, limit_s)),
        },
    )
    accelerator, host = seen.accelerator, next(iter(hosts), None)
    computes = accelerator is not None and accelerator.vendor == "cpu"
    silent = engines.Installed(
        packages={}, built={}, libcuda=False, trouble=f"{python} did not answer in time"
    )
    installed = next(iter(asked), silent)
    here, about_engines = engines.check(
        engines.found(installed, python, env), installed, accelerator
    )
    found = [_unanswered(name, error, limit_s) for name, error in unanswered.items()]
    if accelerator is not None:
        found += devices.check(accelerator, seen.looks)
    if host is not None:
        found += machine.check(host, computes=computes)
    return Findings(
        facts={
            "accelerator": _accelerator(accelerator),
            "processor": "unknown" if host is None else machine.fact(host),
        },
        accelerator={} if accelerator is None else _for_programs(accelerator),
        environment={} if accelerator is None else fingerprint.environment(accelerator),
        engines=tuple(here),
        found=(*found, *about_engines),
        no_engine=_no_engine(installed, python, any_here=bool(here)),
    )


def _side_by_side(
    limit_s: float, calls: Mapping[str, Callable[[], None]]
) -> dict[str, Exception | None]:
    """Make all calls at once; those that failed, with their error, and those that had not ended
    within the limit, with ``None``."""
    deadline, failed = clock.Deadline(limit_s), dict[str, Exception | None]()

    def made(name: str, call: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                call()
            except Exception as error:
                failed[name] = error  # told as a finding: one answer less is no reason to give none

        return run

    threads = {
        name: threading.Thread(target=made(name, call), name=f"llmperf-{name}", daemon=True)
        for name, call in calls.items()
    }
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(deadline.left)
    return {**failed, **{name: None for name, thread in threads.items() if thread.is_alive()}}


def _accelerator(accelerator: Accelerator | None) -> str:
    if accelerator is None:
        return "unknown: nothing answered in time"
    first = accelerator.devices[0]
    each = " each" if accelerator.count > 1 else ""
    size = f", {first.memory_bytes / 2**30:.0f} GiB{each}" if first.memory_bytes else ""
    driver = first.details.get("driver")
    version = f", driver {driver}" if driver else ""
    count, product = accelerator.count, accelerator.product
    return f"{count} × {product}{size}{version} ({accelerator.source})"


def _for_programs(accelerator: Accelerator) -> dict[str, Json]:
    return {
        "vendor": accelerator.vendor,
        "product": accelerator.product,
        "count": accelerator.count,
        "source": accelerator.source,
        "devices": [
            {"uuid": one.uuid, "memory_bytes": one.memory_bytes, "details": dict(one.details)}
            for one in accelerator.devices
        ],
    }


def _unanswered(name: str, error: Exception | None, limit_s: float) -> Finding:
    if error is not None:
        return Finding(
            level="warning",
            code=f"{name}-failed",
            what=f"looking at the {name} failed ({type(error).__name__}: {error})",
            why="what is here is not known, and a test run would fail in the same way",
            remedy="please report this with the output of the vendor's tool",
        )
    return Finding(
        level="warning",
        code=f"{name}-hangs",
        what=f"looking at the {name} takes more than {limit_s:.0f} s",
        why="a driver or a disk that hangs for so long will hang under a server too",
        remedy="try the vendor's tool by itself, and look at the kernel's log",
    )


def _no_engine(installed: engines.Installed, python: str, *, any_here: bool) -> str:
    if any_here:
        return "none of these can start here; the warnings below say why"
    names = "sglang, vllm, lmdeploy, tensorrt-llm, llama.cpp, mindie"
    why = installed.trouble or f"none of {names} is installed for {python}"
    return f"none: {why}; name another with --python, or pip install 'pytest-llmperf[sglang]'"
