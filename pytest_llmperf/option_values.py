"""Numbers that options and ini values say, read with their units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from pytest_llmperf.errors import UsageMistake

from .option_checks import MOST

#: Spelled units of a bound, and how many of its own unit one of them is.
SHARES = {"": 1.0, "%": 0.01}
TIMES = {"ms": 1.0, "s": 1000.0, "us": 0.001}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of several sessions that are judged together: the ``index``-th, from 1, of ``of``."""

    index: int
    of: int


def shard(text: str | None) -> Shard | None:
    """Which session of several this is; ``None`` for one alone."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageMistake(
            f"--llmperf-shard={text}: expected which session of how many this is, counted from 1, "
            "such as 1/8."
        )
    return Shard(index=int(match[1]), of=int(match[2]))


def count(config: pytest.Config, name: str) -> int:
    """What an option says, or else the ini value of its name."""
    value = config.getoption(name)
    option = "--" + name.replace("_", "-")
    said = f"{option}={value}" if value is not None else f"ini value {name} = {config.getini(name)}"
    text = str(config.getini(name) if value is None else value).strip()
    if not re.fullmatch(r"0*[1-9][0-9]{0,6}", text):
        raise UsageMistake(f"{said}: expected a whole number of at least 1.")
    return int(text)


def timeout(asked: float | None) -> float | None:
    """Seconds that a server may take."""
    if asked is not None and not 0 < asked <= MOST:
        raise UsageMistake(
            f"--llmperf-server-timeout={asked}: expected seconds above zero and at most {MOST:,}."
        )
    return asked


def budget(text: str | None) -> float | None:
    """Seconds that a comparison may take."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]+)?)\s*(s|m|min|h)\s*", text)
    if match is None or not float(match[1]):
        raise UsageMistake(f"--llmperf-budget={text!r}: expected a time such as 20m or 1.5h.")
    return float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2]]


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
    from .cluster.join import check_address, check_installed

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
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text):
        raise UsageMistake(
            f"--llmperf-ray-workers={text!r}: expected a whole number of at least 1, or auto."
        )
    return int(text)


def bound(
    config: pytest.Config, name: str, units: Mapping[str, float], example: str
) -> float | None:
    """A bound in its own unit; ``None`` for one that is switched off."""
    text = str(config.getini(name)).strip()
    if text == "off":
        return None
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*(\S*)", text)
    if match is None or match[2] not in units:
        raise UsageMistake(
            f"ini value {name} = {text!r}: expected a value such as {example!r}, or 'off'."
        )
    return float(match[1]) * units[match[2]]
