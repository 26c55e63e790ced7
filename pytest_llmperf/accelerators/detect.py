"""Which accelerator is here: the vendors are asked one after the other, the processor at last."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Accelerator, Vendor

from .amd import AmdProbe
from .ascend import AscendProbe
from .base import STEP_S, Probe, run_tool
from .conditions import Watcher
from .cpu import CpuProbe
from .intel import IntelProbe
from .nvidia import NvidiaProbe

#: What a person may write to ask for a vendor.
VENDOR_WORDS: Mapping[str, Vendor] = {
    "cpu": "cpu",
    "nvidia": "nvidia",
    "cuda": "nvidia",
    "amd": "amd",
    "rocm": "amd",
    "hip": "amd",
    "ascend": "ascend",
    "npu": "ascend",
    "intel": "intel",
    "xpu": "intel",
}


def probes(step_s: float = STEP_S) -> tuple[Probe, ...]:
    """All vendors, in the order in which they are asked; ``step_s`` is the limit of each step: a
    library, a tool, what the kernel shows."""
    run = partial(run_tool, step_s=step_s)
    return (
        NvidiaProbe(run=run, limit_s=step_s),
        AmdProbe(run=run, limit_s=step_s),
        AscendProbe(run=run, limit_s=step_s),
        IntelProbe(run=run, limit_s=step_s),
        CpuProbe(run=run),
    )


def detect(
    override: str | None = None,
    *,
    env: Mapping[str, str] | None = None,
    among: Sequence[Probe] | None = None,
) -> Accelerator:
    """The accelerator that a server started with ``env`` (this process's by default) will find.

    ``override`` names a vendor ("cpu", "cuda", "rocm", "ascend", "xpu", …); then no other is taken.
    Raises :class:`~pytest_llmperf.errors.UsageMistake` when it is unknown or not here.
    """
    env = os.environ if env is None else env
    among = probes() if among is None else among
    if override is not None and override.lower() not in VENDOR_WORDS:
        words = ", ".join(VENDOR_WORDS)
        raise UsageMistake(f"unknown accelerator {override!r}; write one of {words}.")
    wanted = None if override is None else VENDOR_WORDS[override.lower()]
    for probe in among:
        if wanted in (None, probe.vendor) and (found := probe.find(env)):
            return found
    raise UsageMistake(_absent(override, wanted, env, among))


def memory_in_use(accelerator: Accelerator, *, among: Sequence[Probe] | None = None) -> int | None:
    """Bytes in use on the accelerator's devices together; ``None`` for a processor or unknown."""
    for probe in probes() if among is None else among:
        if probe.vendor == accelerator.vendor:
            return probe.memory_in_use(accelerator)
    return None


def watching(
    accelerator: Accelerator, *, among: Sequence[Probe] | None = None
) -> AbstractContextManager[Watcher | None]:
    """What tells the condition of the accelerator's devices under load; ``None`` where nothing
    does, as for a processor or an endpoint that runs elsewhere."""
    for probe in probes() if among is None else among:
        if probe.vendor == accelerator.vendor:
            return probe.watching(accelerator)
    return nullcontext()


def _absent(
    override: str | None, wanted: Vendor | None, env: Mapping[str, str], among: Sequence[Probe]
) -> str:
    found = [seen for probe in among if probe.vendor != wanted and (seen := probe.find(env))]
    here = " and ".join(f"{seen.count}× {seen.product}" for seen in found) or "nothing"
    hidden = [name for name in env if name.endswith(("VISIBLE_DEVICES", "AFFINITY_MASK"))]
    hint = f" ({', '.join(hidden)} may hide some)" if hidden else ""
    return (
        f"asked for the accelerator {override!r}, but no {wanted} device was found here{hint}; "
        f"found: {here}. See that its driver and its tool (nvidia-smi, amd-smi, npu-smi, xpu-smi) "
        "work."
    )
