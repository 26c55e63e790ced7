"""Which devices a server gets, how it is told, and when that is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.accelerators.base import alike, visible
from pytest_llmperf.accelerators.fingerprint import environment
from pytest_llmperf.declared import server_from
from pytest_llmperf.engines.parallel import parallel_of
from pytest_llmperf.engines.sglang import SGLang
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.launch.locks import DeviceLock
from pytest_llmperf.records import Accelerator, Device, ServerRequest, Vendor
from pytest_llmperf.session.device import DeviceHold, check_as_many, on_others
from pytest_llmperf.session.devices import (
    Allotment,
    allot,
    for_container,
    planned_words,
    visible_in,
)


def box(count: int, vendor: Vendor = "nvidia", chosen: str | None = None) -> Accelerator:
    """A machine with so many devices, seen through a variable that says ``chosen``."""
    devices = [
        Device(vendor=vendor, product="Big One", index=at, uuid=f"GPU-{at}{'abcdefgh'[at % 8]}")
        for at in range(count)
    ]
    found = alike(visible(devices, chosen), "test")
    assert found is not None
    return found


def asked(args: str = "", devices: int | str | None = None, **env: str) -> ServerRequest:
    return server_from("sglang", model="m", args=args, devices=devices, env=env)


def allotted(
    request: ServerRequest, found: Accelerator, environ: Mapping[str, str] | None = None
) -> Allotment:
    parallel = parallel_of(request.engine, request.args)
    return allot(request, found, parallel, environ or {})


def places(group: Accelerator) -> list[int]:
    return [device.index for device in group.devices]


# --- how many --------------------------------------------------------------------------------


def test_a_server_gets_as_many_as_its_arguments_use() -> None:
    chosen = allotted(asked("--tp 2"), box(8))
    assert (chosen.count, chosen.tell) == (2, True)
    assert chosen.usual.count == 2
    assert allotted(asked("--tp 2 --dp-size 2 --pp-size 2"), box(8)).count == 8


def test_one_that_uses_all_is_told_nothing() -> None:
    chosen = allotted(asked("--tp 8"), box(8))
    assert not chosen.tell
    assert chosen.variables(chosen.usual, {}) == {}


def test_one_whose_arguments_do_not_tell_takes_all() -> None:
    assert allotted(server_from("mine", model="m"), box(4)).count == 4


def test_of_several_nodes_only_this_ones_share_is_taken() -> None:
    assert allotted(asked("--tp 16 --nnodes 2"), box(8)).count == 8


@pytest.mark.parametrize("vendor", ["cpu", "remote"])
def test_a_processor_is_not_divided(vendor: Vendor) -> None:
    chosen = allotted(asked("--tp 2", devices=2), box(1, vendor))
    assert (chosen.count, chosen.tell) == (1, False)
    assert chosen.usual.parallel == {"tp": 2}


def test_what_a_recipe_adds_counts_too() -> None:
    class Cook(SGLang):
        def plan(self, request, placement):  # type: ignore[no-untyped-def]
            spread = str(placement.accelerator.count)
            return super().plan(asked(f"--tp {spread}"), placement)

    words = planned_words(Cook(), asked(), box(4))
    assert allot(asked(), box(4), parallel_of("sglang", words), {}).count == 4
    assert planned_words(Cook(), asked("--x"), box(1, "cpu")) == ("--x",)


@pytest.mark.parametrize(
    ("args", "devices", "said"),
    [
        ("--tp 9", None, r"ask for 9 devices, and here are 8 × Big One; use fewer"),
        ("--tp 4 --base-gpu-id 6", None, r"ask for 10 devices"),
        ("", 9, r"devices=9\) asks for 9 devices"),
        ("--tp 2", 4, r"devices=4\) gives the server 4 devices, but its arguments .* over 2"),
        ("--tp 2", "0,1,2", r"'0,1,2'\) gives the server 3 devices"),
        ("--tp 2", "0,8", r"'8' is no device here; the visible ones are 0 \(GPU-0a\), 1"),
        ("--tp 2", "0,GPU", r"'GPU' is several devices here"),
        ("--tp 2", "1,GPU-1", r"names a device twice"),
    ],
)
def test_devices_that_are_not_here_are_refused(
    args: str, devices: int | str | None, said: str
) -> None:
    with pytest.raises(UsageMistake, match=said):
        allotted(asked(args, devices), box(8))


def test_a_variable_that_hides_devices_is_named() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "0"}
    with pytest.raises(UsageMistake, match="here is 1 × Big One that CUDA_VISIBLE_DEVICES leaves"):
        allotted(asked("--tp 2"), box(4, chosen="0"), environ)


def test_devices_and_the_variable_together_are_refused() -> None:
    with pytest.raises(UsageMistake, match="and so does CUDA_VISIBLE_DEVICES in env="):
        allotted(asked("--tp 2", 2, CUDA_VISIBLE_DEVICES="0,1"), box(4))


@pytest.mark.parametrize("devices", [0, -1, True, "", "0,,1", 1.5, [], [True]])
def test_what_is_no_choice_is_refused(devices: object) -> None:
    with pytest.raises(UsageMistake, match="expected how many devices, such as 2, or which"):
        server_from("sglang", model="m", devices=devices)  # type: ignore[arg-type]


def test_an_endpoint_keeps_its_devices() -> None:
    with pytest.raises(UsageMistake, match="leave devices= out"):
        server_from("endpoint", url="http://h:1", devices=2)


def test_a_reference_may_have_others_and_an_endpoint_none() -> None:
    request = server_from(
        "sglang", model="m", args="--tp 2", devices="0,1", reference={"devices": [2, 3]}
    )
    assert request.devices == ("0", "1")
    assert request.reference is not None
    assert request.reference.devices == ("2", "3")
    attached = server_from("sglang", model="m", devices=2, reference={"url": "http://h:1"})
    assert attached.reference is not None
    assert attached.reference.devices is None


# --- which, and how they are told ------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "environ", "told"),
    [
        ("nvidia", {}, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "2,3"}),
        ("amd", {}, {"HIP_VISIBLE_DEVICES": "2,3"}),
        ("ascend", {}, {"ASCEND_RT_VISIBLE_DEVICES": "2,3"}),
        ("intel", {}, {"ZE_AFFINITY_MASK": "2,3"}),
    ],
)
def test_each_vendor_has_its_variable(
    vendor: Vendor, environ: Mapping[str, str], told: Mapping[str, str]
) -> None:
    chosen = allotted(asked("--tp 2"), box(4, vendor))
    assert chosen.variables(chosen.of(chosen.among.devices[2:]), environ) == told


@pytest.mark.parametrize("where", ["env", "surroundings"])
def test_a_choice_of_the_users_stays(where: str) -> None:
    said = {"CUDA_VISIBLE_DEVICES": "3,2,1"}
    request = asked("--tp 2", None, **(said if where == "env" else {}))
    assert visible_in(request) == (said if where == "env" else {})
    environ = {} if where == "env" else said
    chosen = allotted(request, box(4, chosen="3,2,1"), environ)
    # A server takes the first of those that it sees.
    assert [places(group) for group in chosen.groups()] == [[3, 2]]
    assert chosen.variables(chosen.usual, environ) == {}


def test_devices_chooses_among_what_the_surroundings_leave() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "MIG-x,GPU-3,GPU-2"}
    found = box(4, chosen="GPU-1,GPU-3,GPU-2")
    chosen = allotted(asked("--tp 2", "1,2"), found, environ)
    assert places(chosen.usual) == [3, 2]
    # Entries stay as they were written.
    assert chosen.variables(chosen.usual, environ) == {"CUDA_VISIBLE_DEVICES": "GPU-3,GPU-2"}


def test_where_two_variables_count_both_are_set_alike() -> None:
    environ = {"HIP_VISIBLE_DEVICES": "0,1,2", "CUDA_VISIBLE_DEVICES": "0,1,2"}
    chosen = allotted(asked("--tp 2", 2), box(4, "amd", "0,1,2"), environ)
    told = chosen.variables(chosen.usual, environ)
    assert told == {"HIP_VISIBLE_DEVICES": "0,1", "CUDA_VISIBLE_DEVICES": "0,1"}


def test_flags_that_place_a_server_are_believed() -> None:
    chosen = allotted(asked("--tp 2 --base-gpu-id 4 --gpu-id-step 2"), box(8))
    assert places(chosen.usual) == [4, 6]
    assert not chosen.tell


def test_in_a_container_only_what_shows_all_is_narrowed() -> None:
    def told(vendor: Vendor) -> Mapping[str, str]:
        chosen = allotted(asked("--tp 1"), box(2, vendor))
        return chosen.variables(chosen.usual, {}, contained=True)

    assert told("nvidia") == told("ascend") == {}
    assert told("amd") == {"HIP_VISIBLE_DEVICES": "0"}
    request = server_from(
        "sglang", model="m", image="i", env={"CUDA_VISIBLE_DEVICES": "3", "A": "b"}
    )
    assert for_container(request, "nvidia").env == (("A", "b"),)
    assert for_container(request, "amd") == request


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_every_choice_is_offered_once_and_neighbours_first(sizes: tuple[int, int]) -> None:
    found, count = sizes
    groups = [tuple(places(group)) for group in Allotment(among=box(found), count=count).groups()]
    assert len(set(groups)) == len(groups)
    assert all(len(set(group)) == count for group in groups)
    assert groups[0] == tuple(range(count))
    aligned = found // count
    assert [group[0] for group in groups[:aligned]] == [count * at for at in range(aligned)]


# --- the key ---------------------------------------------------------------------------------


def test_how_a_server_is_spread_is_part_of_the_key() -> None:
    facts = environment(allotted(asked("--tp 2 --ep-size 2"), box(8)).usual)
    assert (facts["count"], facts["parallel_tp"], facts["parallel_ep"]) == (2, 2, 2)
    assert "parallel_tp" not in environment(allotted(asked(), box(1)).usual)


# --- locks -----------------------------------------------------------------------------------


def hold(tmp_path: Path, args: str, like: DeviceHold | None = None) -> DeviceHold:
    chosen = allotted(asked(args), box(4))
    return DeviceHold(accelerator=chosen.usual, lock_dir=tmp_path, allotment=chosen, like=like)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmperf.session.device.memory_in_use", lambda _: None)


@pytest.mark.usefixtures("unmeasured")
def test_two_servers_run_side_by_side_on_different_devices(tmp_path: Path) -> None:
    one, other = hold(tmp_path, "--tp 2"), hold(tmp_path, "--tp 2")
    for each in (one, other):
        each.take("a test", pytest.fail)
    assert places(one.accelerator) == [0, 1]
    assert places(other.accelerator) == [2, 3]
    # And again on the same ones, though the first are free by then.
    one.give_back()
    other.give_back()
    other.take("a test", pytest.fail)
    assert places(other.accelerator) == [2, 3]
    other.give_back()


@pytest.mark.usefixtures("unmeasured")
def test_devices_that_others_hold_are_left_out(tmp_path: Path) -> None:
    with DeviceLock(["GPU-1b"], tmp_path):
        pair = hold(tmp_path, "--tp 2")
        pair.take("a test", pytest.fail)
        assert places(pair.accelerator) == [2, 3]
        pair.give_back()


@pytest.mark.usefixtures("unmeasured")
def test_who_needs_all_waits_and_is_told_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DeviceLock(["GPU-3d"], tmp_path, holder="the other test")
    other.acquire()
    told: list[str] = []
    monkeypatch.setattr("pytest_llmperf.clock.sleep", lambda _: other.release())
    every = hold(tmp_path, "--tp 4")
    every.take("a test", told.append)
    assert len(told) == 1
    assert "GPU-3d" in told[0]
    assert "the other test" in told[0]
    every.give_back()


@pytest.mark.usefixtures("unmeasured")
def test_what_is_compared_runs_on_the_same_devices(tmp_path: Path) -> None:
    with DeviceLock(["GPU-0a", "GPU-1b"], tmp_path):
        candidate = hold(tmp_path, "--tp 2")
        candidate.take("a test", pytest.fail)
        candidate.give_back()
    reference = hold(tmp_path, "--tp 2", like=candidate)
    reference.take("a test", pytest.fail)
    assert places(reference.accelerator) == places(candidate.accelerator) == [2, 3]
    reference.give_back()
    smaller = hold(tmp_path, "--tp 1", like=candidate)
    smaller.take("a test", pytest.fail)
    assert places(smaller.accelerator) == [2]
    smaller.give_back()
    larger = hold(tmp_path, "--tp 3", like=candidate)
    larger.take("a test", pytest.fail)
    assert places(larger.accelerator) == [0, 2, 3]
    larger.give_back()


@pytest.mark.usefixtures("unmeasured")
def test_side_by_side_the_other_has_the_same_devices(tmp_path: Path) -> None:
    one, other = hold(tmp_path, "--tp 2"), hold(tmp_path, "--tp 2")
    one.beside, other.beside = other, one
    with DeviceLock(["GPU-0a"], tmp_path):
        one.take("a test", pytest.fail)
    other.take("a test", pytest.fail)
    assert places(other.accelerator) == places(one.accelerator) == [2, 3]
    one.give_back()


@pytest.mark.usefixtures("unmeasured")
def test_side_by_side_both_need_as_many(tmp_path: Path) -> None:
    one, two = (hold(tmp_path, f"--tp {count}").allotment for count in (1, 2))
    check_as_many(two, two)
    check_as_many(two, None)
    with pytest.raises(UsageMistake, match="server uses 2 devices and its reference 1,"):
        check_as_many(two, one)


@pytest.mark.usefixtures("unmeasured")
def test_other_devices_are_told_by_their_uuids(tmp_path: Path) -> None:
    one, other, larger = (hold(tmp_path, f"--tp {count}") for count in (1, 1, 2))
    for each in (one, other, larger):
        each.take("a test", pytest.fail)
    apart = on_others(one, other)
    assert apart == ([one.accelerator.devices[0].uuid], [other.accelerator.devices[0].uuid])
    assert on_others(one, larger) is None  # more of them: on purpose
    for each in (one, other, larger):
        each.give_back()
    # The same one by another name, as a variable of one side makes it.
    renamed = replace(one.accelerator.devices[0], visible_as="5")
    other.accelerator = replace(one.accelerator, devices=(renamed,))
    assert on_others(one, other) is None


def test_where_nothing_says_how_many_a_reference_gets_those_of_the_candidate() -> None:
    candidate = allotted(asked("--tp 1"), box(4))
    unknown = allot(ServerRequest(engine="custom", model="m"), box(4), None, {})
    assert unknown.count == 4
    alike = unknown.as_many_as(candidate)
    assert places(alike.usual) == [0]
    assert alike.variables(alike.usual, {})["CUDA_VISIBLE_DEVICES"] == "0"
    env = (("CUDA_VISIBLE_DEVICES", "0,1"),)
    for said in (
        allotted(asked("--tp 2"), box(4)),
        allot(ServerRequest(engine="custom", model="m", env=env), box(2), None, {}),
    ):
        assert said.as_many_as(candidate) == said
