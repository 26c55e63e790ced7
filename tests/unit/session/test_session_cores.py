"""Who gets which cores."""

from __future__ import annotations

import os

import pytest

from pytest_llmperf.records import Accelerator, Device, Vendor, Workload
from pytest_llmperf.session.cores import Cores, split_cores


def on(vendor: Vendor) -> Accelerator:
    return Accelerator(
        devices=(Device(vendor=vendor, product="p", index=0, uuid="u"),), source="test"
    )


@pytest.mark.parametrize(
    ("allowed", "vendor", "expected"),
    [
        ({0}, "cpu", Cores(server=None, client=None)),
        ({0, 1}, "cpu", Cores(server=(0,), client=(1,))),
        ({2, 5, 7}, "cpu", Cores(server=(2, 5), client=(7,))),
        ({0, 1, 2, 3}, "nvidia", Cores(server=None, client=(3,))),
    ],
)
def test_the_client_has_the_last_core_and_a_cpu_server_the_others(
    monkeypatch: pytest.MonkeyPatch, allowed: set[int], vendor: Vendor, expected: Cores
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed, raising=False)
    assert split_cores(on(vendor)) == expected


@pytest.mark.parametrize(
    ("vendor", "asked", "server", "client"),
    [
        ("nvidia", None, None, 3),  # 600 streams: three processes
        ("nvidia", 5, None, 5),
        ("cpu", None, 7, 1),
        ("cpu", 3, 5, 3),
        ("cpu", 99, 1, 7),
    ],
)
def test_a_load_that_needs_several_processes_gets_a_core_for_each(
    monkeypatch: pytest.MonkeyPatch,
    vendor: Vendor,
    asked: int | None,
    server: int | None,
    client: int,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    load = Workload(
        name="many", input_tokens=8, output_tokens=8, concurrency=600, requests=600,
        warmup_requests=1, runs=1,
    )  # fmt: skip
    cores = split_cores(on(vendor), [load], processes=asked)
    assert (cores.server and len(cores.server)) == server
    assert cores.client is not None
    assert len(cores.client) == client
    assert not set(cores.client) & set(cores.server or ())


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        (None, [(15,), (14,), (13,), (8,), (15,)]),
        (3, [(13, 14, 15), (10, 11, 12), (13, 14, 15), (10, 11, 12), (13, 14, 15)]),
        (12, [tuple(range(4, 16))] * 5),
    ],
)
def test_clients_of_sessions_on_other_devices_have_other_cores(
    monkeypatch: pytest.MonkeyPatch, processes: int | None, expected: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    clients = []
    for index in (0, 1, 2, 7, 8):
        device = Device(vendor="nvidia", product="p", index=index, uuid=f"u{index}")
        here = Accelerator(devices=(device,), source="test")
        clients.append(split_cores(here, processes=processes).client)
    assert clients == expected


def test_nobody_is_pinned_where_that_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert split_cores(on("cpu"), pin=False) == Cores(server=None, client=None)
