"""What must be equal for two sessions to be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.load_options import RayOptions
from pytest_llmperf.records import Accelerator, Device
from pytest_llmperf.server_options import ReferenceOptions
from pytest_llmperf.session.environment import match_facts
from pytest_llmperf.settings import Settings

GPU = Accelerator(
    devices=(Device(vendor="nvidia", product="NVIDIA L4", index=0, uuid="u"),), source="test"
)


def settings(**more: Any) -> Settings:
    fields: dict[str, Any] = dict.fromkeys(
        ("report", "accelerator", "python", "server_timeout_s", "client_processes", "log_dir",
         "lock_dir")
    )  # fmt: skip
    return Settings(
        mode="on",
        launches=1,
        runs=1,
        strict=False,
        progress=False,
        cache_dir=Path(),
        family=0,
        reference=ReferenceOptions(),
        pairs=4,
        **fields,
        **more,
    )


def facts(pytestconfig: pytest.Config, **more: Any) -> dict[str, Any]:
    return match_facts(pytestconfig, settings(**more), GPU)


def test_a_load_from_other_nodes_is_another_environment(pytestconfig: pytest.Config) -> None:
    """One on this machine is none, so that what was accepted before there were others holds."""
    here = facts(pytestconfig)
    over = facts(pytestconfig, ray=RayOptions(address="auto", workers=2))
    assert "load_over_ray" not in here
    assert over == here | {"load_over_ray": 1}
    assert over == facts(pytestconfig, ray=RayOptions(address="10.0.0.1:6379"))
