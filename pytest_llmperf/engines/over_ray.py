"""Servers whose ranks an engine runs as actors in a Ray cluster: what it is told, and its causes.

Read off SGLang 0.5.23 (``srt/ray/``, ``launch_server.py``) and vLLM 0.11 to 0.32
(``v1/executor/ray_*.py``, ``config/parallel.py``). Neither names a cluster to Ray: they call its
API, which joins the one in ``RAY_ADDRESS``, and would start one of its own where that is not set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import FailureCause, ServerRequest
from pytest_llmperf.redact import Secret

from .arguments import Flag

#: What Ray reads before a driver's own words, as its job manager sets it: the environment of the
#: job's workers, and words of ours by which the job is known (Ray 2.60, ``_private/worker.py``).
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
#: The name of our word in a job's metadata.
LABEL = "pytest-llmperf"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayFlags:
    """``over`` has the engine use Ray. ``nodes`` is the flag for the number of nodes, "" where
    placing is the engine's own choice. ``here`` is whether its first rank must be on the node that
    the server is started on."""

    over: Flag
    nodes: str = ""
    here: bool = True


RAY_FLAGS: Mapping[str, RayFlags] = {
    "sglang": RayFlags(over=("--use-ray",), nodes="--nnodes"),
    "vllm": RayFlags(over=("--distributed-executor-backend", "ray"), here=False),
}

CAUSES: tuple[FailureCause, ...] = (
    FailureCause(
        pattern=r"Ray is required for --use-ray mode|No module named 'ray'",
        cause="the server's own environment has no Ray",
        remedy="install 'sglang[ray]' there, in the version that the cluster runs",
    ),
    FailureCause(
        pattern=r"Version mismatch: The cluster was started with",
        cause="the server's environment and the cluster differ in their Ray or Python",
        remedy="start the server by the interpreter that the cluster's nodes run, with python=",
    ),
    FailureCause(
        pattern=r"Engine node \S+ not found in any placement group bundle",
        cause="Ray placed no rank on this machine, where the server's first has to be",
        remedy="run the tests on a node of the cluster that has free accelerators",
    ),
    FailureCause(
        pattern=r"(?:Could not find any running Ray instance|Can't find a `node_ip_address\.json`)",
        cause="this machine is no node of the Ray cluster",
        remedy="start a node here with `ray start --address=HEAD:6379`",
    ),
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
    job = {"runtime_env": {"env_vars": dict(workers)}, "metadata": {LABEL: label}}
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
