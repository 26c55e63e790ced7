"""Servers whose ranks an engine runs as actors in a Ray cluster: what it is told, and its causes.

Read off SGLang 0.5.23 (``srt/ray/``, ``launch_server.py``) and vLLM 0.11 to 0.32
(``v1/executor/ray_*.py``, ``config/parallel.py``). Neither names a cluster to Ray: they call its
API, which joins the one in ``RAY_ADDRESS``, and would start one of its own where that is not set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import FailureCause, ServerRequest
from pytest_llmperf.redact import Secret

from .arguments import Flag

#: What Ray reads before a driver's own words, as its job manager sets it: the environment of the
#: job's workers, and words of ours by which the job is known (Ray 2.60, ``_private/worker.py``).
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
#: The name of our word in a job's metadata.
LABEL = "pytest-llmperf"
#: In the environment of a server: "MODULE.FUNCTION", called first in each process that Ray starts
#: for it.
SETUP = "PYTEST_LLMPERF_RAY_SETUP"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayFlags:
    """``over`` has the engine use Ray. ``nodes`` is the flag for the number of nodes, "" where
    placing is the engine's own choice. ``here`` is whether its first rank must be on the node that
    the server is started on. ``resources`` are what it asks Ray for by the vendor of devices, where
    that is not "GPU"."""

    over: Flag
    nodes: str = ""
    here: bool = True
    resources: Mapping[str, str] = field(default_factory=dict)

    def resource(self, vendor: str) -> str:
        """What Ray calls a device of ``vendor``, as this engine asks for it."""
        return self.resources.get(vendor, "GPU")


RAY_FLAGS: Mapping[str, RayFlags] = {
    "sglang": RayFlags(over=("--use-ray",), nodes="--nnodes"),
    # Its platforms' ray_device_key: vllm-ascend's, in its platform.py.
    "vllm": RayFlags(
        over=("--distributed-executor-backend", "ray"), here=False, resources={"ascend": "NPU"}
    ),
}

#: What Ray says to a driver that cannot join, be it the server or we (2.60, ``_private``: utils.py
#: and services.py).
VERSIONS_DIFFER = r"Version mismatch: The cluster was started with"
NO_NODE_HERE = FailureCause(
    pattern=r"Could not find any running Ray instance|Can't find a `?node_ip_address\.json",
    cause="this machine is no node of the Ray cluster",
    remedy="start a node here with `ray start --address=HEAD:6379`, on which no resources need be",
)

CAUSES: tuple[FailureCause, ...] = (
    FailureCause(
        pattern=r"Ray is required for --use-ray mode|No module named 'ray'",
        cause="the server's own environment has no Ray",
        remedy="install 'sglang[ray]' there, in the version that the cluster runs",
    ),
    FailureCause(
        pattern=VERSIONS_DIFFER,
        cause="the server's environment and the cluster differ in their Ray or Python",
        remedy="start the server by the interpreter that the cluster's nodes run, with python=",
    ),
    FailureCause(
        pattern=r"Engine node \S+ not found in any placement group bundle",
        cause="Ray placed no rank on this machine, where the server's first has to be",
        remedy="run the tests on a node of the cluster that has free accelerators",
    ),
    NO_NODE_HERE,
    FailureCause(
        pattern=r"RuntimeEnvSetupError|Failed to set up runtime environment",
        cause="a node could not set up the environment of the server's actors",
        remedy="see runtime_env_setup-*.log and runtime_env_agent.log of Ray on that node",
    ),
    FailureCause(
        pattern=r"(?:The actor died|The actor is dead) because its node has died",
        cause="a node of the cluster died under one of the server's ranks",
        remedy="see `ray list nodes`, and why that machine is gone",
    ),
    FailureCause(
        # vLLM 0.32, ``v1/executor/ray_utils.py``: its platform for processors has no Ray resource.
        pattern=r"current platform \S+ does not support ray",
        cause="this build of the engine has no Ray executor",
        remedy="leave ray= out here, or use a build for the accelerators of the cluster",
    ),
)

#: Looked for after the engine's own causes. The actor stays, and so does the server.
RANK_CRASHED = FailureCause(
    pattern=r"Scheduler PP\d+ TP\d+ crashed: ",
    cause="one of its ranks raised an error and takes no requests any more",
    remedy="see the lines before that in its log",
    final=True,
)


def check_address(address: str, said: str) -> str:
    """``address`` as it may be given: "auto" or HOST:PORT of the cluster's head. ``said`` begins
    the message of the :class:`~pytest_llmperf.errors.UsageMistake` that is raised else."""
    host, colon, port = address.rpartition(":")
    if address == "auto" or (colon and host and port.isdecimal() and "://" not in address):
        return address
    hint = ""
    if address in ("", "local"):
        hint = " (no cluster is ever started here)"
    if "://" in address:
        hint = " (Ray's client and its dashboard are no way to join; this machine must be a node)"
    raise UsageMistake(
        f'{said}: expected "auto", or HOST:PORT of the head of a Ray cluster that runs '
        f"already{hint}."
    )


def check_installed(said: str) -> None:
    """Raise :class:`~pytest_llmperf.errors.UsageMistake` where Ray cannot be imported."""
    if find_spec("ray") is None:
        raise UsageMistake(
            f"{said}: Ray is not installed here; install pytest-llmperf[ray], in the version that "
            "the cluster runs."
        )


def check_engine(engine: str, said: str) -> None:
    """Raise :class:`~pytest_llmperf.errors.UsageMistake` for an engine that cannot use Ray."""
    if engine not in RAY_FLAGS:
        known = " and ".join(RAY_FLAGS)
        raise UsageMistake(
            f"{said}: of the engines only {known} run their ranks in a Ray cluster; leave ray= out."
        )


def ray_flags(request: ServerRequest) -> tuple[Flag, ...]:
    """What the engine of ``request`` is told of Ray: nothing without it."""
    if request.ray is None:
        return ()
    flags = RAY_FLAGS[request.engine]
    if request.nodes is None or not flags.nodes:
        return (flags.over,)
    return (flags.over, (flags.nodes, str(request.nodes)))


def refuse_own(engine: str, args: Sequence[str]) -> None:
    """Raise UsageMistake where ``args`` have the engine use Ray without saying where the cluster
    is: it would start one here."""
    over = RAY_FLAGS[engine].over
    words = [part for word in args for part in word.split("=", 1)]
    pairs = [tuple(words[at : at + len(over)]) for at in range(len(words))]
    if over in pairs:
        raise UsageMistake(
            f'{" ".join(over)} in args= of llm_server: say where the cluster is with ray="auto" or '
            'ray="HOST:PORT" instead.'
        )


def without_ray(engine: str, words: Sequence[str]) -> tuple[str, ...]:
    """A command line that says how a server is spread, whoever places its ranks."""
    over = RAY_FLAGS[engine].over
    left = list(words)
    for at in range(len(left) - len(over), -1, -1):
        if tuple(left[at : at + len(over)]) == over:
            del left[at : at + len(over)]
    return tuple(left)


def environment(address: str, workers: Mapping[str, str], label: str) -> dict[str, str]:
    """What a server finds in its environment so that it joins the cluster at ``address``, its
    actors have the variables ``workers``, and its job is known by ``label``."""
    setup = {"worker_process_setup_hook": workers[SETUP]} if SETUP in workers else {}
    job = {"runtime_env": {"env_vars": dict(workers), **setup}, "metadata": {LABEL: label}}
    return {
        "RAY_ADDRESS": address,
        # What the workers are told may hold keys.
        _JOB: Secret(json.dumps(job, sort_keys=True)),
        # Some engines have a runtime environment of their own for their actors: both are wanted.
        "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Lines of actors on other nodes are in the server's log; repeated ones, too.
        "RAY_DEDUP_LOGS": "0",
    }
