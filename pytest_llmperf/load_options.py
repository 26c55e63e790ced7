"""Options that say what asks: processes of this machine, and their cores, or those of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.options import PIN

from .option_values import at_least_one


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """The cluster whose nodes ask, and how many workers do; ``None``: as many as a load needs."""

    address: str
    workers: int | None = None


def ray_options(config: pytest.Config) -> RayOptions | None:
    """What is said of asking over a Ray cluster; ``None`` where nothing is."""
    address, count = (config.getoption(f"llmperf_ray{end}") for end in ("", "_workers"))
    if address is None:
        if count is not None:
            raise UsageMistake(
                f"--llmperf-ray-workers={count}: name the cluster with --llmperf-ray ADDRESS."
            )
        return None
    from .engines.over_ray import check_address, check_installed

    said = f"--llmperf-ray={address}"
    check_address(address, said)
    check_installed(said)
    if config.getoption("llmperf_client_processes") is not None:
        raise UsageMistake(
            f"{said} has workers of the cluster ask and --llmperf-client-processes processes of "
            "this machine; give one of them. --llmperf-ray-workers says how many workers."
        )
    return RayOptions(address=address, workers=_ray_workers(count))


def _ray_workers(text: str | None) -> int | None:
    if text is None or text == "auto":
        return None
    return at_least_one(text, f"--llmperf-ray-workers={text}", otherwise=", or auto")


def processes(asked: int | None) -> int | None:
    """Processes of the load client; ``None``: as many as a load needs."""
    said = f"--llmperf-client-processes={asked}"
    return None if asked is None else at_least_one(str(asked), said)


def pinning(text: str) -> bool:
    """Whether servers and the load client are kept apart."""
    if text not in PIN:
        raise UsageMistake(f"ini value llmperf_pin = {text!r}: expected auto or off.")
    return text == "auto"
