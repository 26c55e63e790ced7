"""Looking at devices for somebody on another machine."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from pytest_llmperf import clock
from pytest_llmperf.accelerators import sampling
from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.accelerators.sampling import Found, Sampler
from pytest_llmperf.records import Accelerator, Device

CARD = Device(vendor="nvidia", product="NVIDIA H100", index=0, uuid="GPU-1")
HERE = Accelerator(devices=(CARD,), source="nvml")


@pytest.fixture
def seen_env(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    seen: dict[str, str] = {}

    def detect(vendor: str, *, env: Mapping[str, str]) -> Accelerator:
        assert vendor == "nvidia"
        seen.update(env)
        return HERE

    monkeypatch.setattr(sampling, "detect", detect)
    return seen


def _watched(monkeypatch: pytest.MonkeyPatch, *seen: Condition) -> None:
    @contextmanager
    def watching(_: Accelerator) -> Iterator[Watcher | None]:
        yield Watcher(look=lambda: seen, period_s=1.0, source="nvml") if seen else None

    monkeypatch.setattr(sampling, "watching", watching)


def test_all_devices_are_looked_at_whatever_ray_shows(
    seen_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("ZE_AFFINITY_MASK", "1")
    _watched(monkeypatch)
    Sampler("nvidia")
    assert "CUDA_VISIBLE_DEVICES" not in seen_env
    assert "ZE_AFFINITY_MASK" not in seen_env


@pytest.mark.usefixtures("seen_env")
def test_who_tells_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _watched(monkeypatch, Condition(uuid="GPU-1", power_w=300.0))
    found = Sampler("nvidia").found()
    assert found == Found(accelerator=HERE, source="nvml", period_s=1.0)
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - our own


@pytest.mark.usefixtures("seen_env")
def test_moments_are_told_by_how_long_ago_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now_ns", lambda: 10_000)
    _watched(
        monkeypatch,
        Condition(uuid="GPU-1", power_w=300.0, at_ns=9_400),
        Condition(uuid="GPU-2", power_w=300.0),
    )
    assert [one.at_ns for one in Sampler("nvidia").look()] == [-600, 0]


@pytest.mark.usefixtures("seen_env")
def test_where_nobody_tells_nothing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    _watched(monkeypatch)
    sampler = Sampler("nvidia")
    assert sampler.found().period_s is None
    assert sampler.look() == ()
