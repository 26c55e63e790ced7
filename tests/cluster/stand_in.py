"""SGLang as Ray sees it, without SGLang: the same placement group, the same actors by the same
names, the same order of things (0.5.23, ``srt/ray/engine.py`` and ``http_server.py``); and as a
client sees it, by the scripted server of :mod:`pytest_llmperf.testing`.

Like SGLang's, its HTTP server goes on when a rank is lost: it hangs, then, where it would answer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
import time
from typing import Any

from pytest_llmperf.testing import pages
from pytest_llmperf.testing.script import Script
from pytest_llmperf.testing.server import listen
from pytest_llmperf.testing.state import State


class SchedulerActor:
    """One rank; ``slow_s`` is how long it takes to load."""

    def __init__(self, slow_s: float, rank: int, fail_rank: int) -> None:
        time.sleep(slow_s)
        if rank == fail_rank:
            raise RuntimeError("the weights of this rank are not here")

    def get_info(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "told": os.environ.get("STAND_IN_TOLD", "")}

    def run_event_loop(self) -> None:
        while True:
            time.sleep(3600)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for flag in ("--model-path", "--served-model-name", "--host"):
        parser.add_argument(flag)
    for flag in ("--port", "--nnodes", "--tp"):
        parser.add_argument(flag, type=int, default=1)
    parser.add_argument("--use-ray", action="store_true")
    parser.add_argument("--slow-s", type=float, default=0.0)
    parser.add_argument("--fail-rank", type=int, default=-1)
    return parser.parse_known_args()[0]


def _ranks(asked: argparse.Namespace) -> list[Any]:
    """As ``RayEngine._launch_scheduler_processes`` does."""
    import ray
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    each = asked.tp // asked.nnodes
    strategy = "STRICT_PACK" if asked.nnodes == 1 else "SPREAD"
    group = placement_group([{"CPU": 1, "GPU": each}] * asked.nnodes, strategy=strategy)
    ray.get(group.ready())
    here = ray.util.get_node_ip_address()
    remote = ray.remote(SchedulerActor)
    actors = [
        remote.options(
            num_cpus=0,
            num_gpus=1,
            name=f"sglang_scheduler_node{here}_dp0_pp0_tp{rank}"
            f"_pg{group.id.hex()[:8]}_bundle{rank // each}",
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_bundle_index=rank // each
            ),
        ).remote(asked.slow_s, rank, asked.fail_rank)
        for rank in range(asked.tp)
    ]
    try:
        infos = ray.get([actor.get_info.remote() for actor in actors])
    except ray.exceptions.RayActorError as error:
        for actor in actors:
            ray.kill(actor)
        raise RuntimeError(f"Scheduler actor failed to initialize: {error}") from error
    print(f"ranks: {infos}", flush=True)
    return [actor.run_event_loop.remote() for actor in actors]


async def _serve(asked: argparse.Namespace, loops: list[Any]) -> None:
    state = State(Script(model=asked.served_model_name, ttft_ms=5.0, itl_ms=2.0))
    usual = pages._server_info

    def info(state: State) -> dict[str, object]:
        return {**usual(state), "model_path": asked.model_path, "port": asked.port}

    pages._server_info = info
    server = await listen(state, asked.host, asked.port)
    print("stand-in: ready", flush=True)
    threading.Thread(target=_hang_when_lost, args=(loops,), daemon=True).start()
    await server.serve_forever()


def _hang_when_lost(loops: list[Any]) -> None:
    """Hold the one lock that everything here needs, as if the others were waited for."""
    import ray

    ray.wait(loops, num_returns=1)
    print("stand-in: a rank is lost", flush=True)
    sys.setswitchinterval(1e9)
    while True:
        sum(range(10**8))


if __name__ == "__main__":
    words = _arguments()
    assert words.use_ray
    assert os.environ.get("RAY_ADDRESS"), "a cluster would be started by accident"
    asyncio.run(_serve(words, _ranks(words)))
