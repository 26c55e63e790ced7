"""SGLang on a machine without an accelerator: the recipe, and what it puts on the server's path.

SGLang's own CPU backend runs from the ordinary package if three things are added, and all three
lie in the directory :data:`SERVER_PATH`, outside of this package's import path, so that they work
in an environment that knows nothing of this package:

- ``sgl_kernel``, which loads the installed one if it can and else stands in for it;
- ``llmperf_sglang_cpu``, a plugin of SGLang for models with MLA (DeepSeek-V3 and R1);
- the metadata by which SGLang finds that plugin.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .arguments import Flag
from .over_ray import SETUP

SERVER_PATH = Path(__file__).with_name("server_path")
#: Set to "1" in the environment of a server whose plugin shall act.
SWITCH = "PYTEST_LLMPERF_SGLANG_CPU"

FLAGS: tuple[Flag, ...] = (
    ("--device", "cpu"),
    ("--attention-backend", "torch_native"),
    ("--sampling-backend", "pytorch"),
    ("--disable-overlap-schedule",),
    ("--skip-server-warmup",),
    # The pool of the key-value cache would else take most of the host's memory.
    ("--mem-fraction-static", "0.3"),
    ("--max-total-tokens", "65536"),
    ("--max-running-requests", "256"),
)

FLAGS_NOTE = (
    "SGLang runs on the CPU: torch_native attention, no CUDA graphs, no overlap of scheduling."
)
KERNELS_NOTE = (
    "Where the installed sgl_kernel does not load, a stand-in takes its place whose functions "
    "raise when called; the server's log says whether it did."
)


#: SGLang 0.5.23 loads its plugins in all of its processes but the actors that Ray starts for it.
OVER_RAY = {SETUP: "llmperf_sglang_cpu.register"}


def environment(pythonpath: str, cores: Sequence[int] | None, *, tiny: bool) -> dict[str, str]:
    """What a CPU server needs in its environment. ``pythonpath`` is what it would have had."""
    threads = {} if cores is None and not tiny else {"OMP_NUM_THREADS": str(_threads(cores, tiny))}
    return {
        "SGLANG_USE_CPU_ENGINE": "1",
        SWITCH: "1",
        "PYTHONPATH": os.pathsep.join(p for p in (str(SERVER_PATH), pythonpath) if p),
        # The compiler would be started on the first request of each shape, for a minute.
        "TORCHDYNAMO_DISABLE": "1",
        **threads,
    }


def _threads(cores: Sequence[int] | None, tiny: bool) -> int:
    """A tiny model has no work for a second thread, only waiting for it. Others leave two cores to
    the processes that speak HTTP and put tokens back into text."""
    return 1 if tiny or cores is None else max(1, len(cores) - 2)
