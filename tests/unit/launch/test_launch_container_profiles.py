"""A container that is there to be profiled can leave its traces where we find them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llmperf.engines.sglang import SGLang
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch.container import Image
from pytest_llmperf.launch.container_tool import into_container
from pytest_llmperf.records import Accelerator, Device, Placement, ServerRequest

IMAGE = Image(tool="docker", name="eng:1", id="sha256:" + "0f" * 32, env={})
PLACE = Placement(
    host="127.0.0.1",
    port=20001,
    accelerator=Accelerator(
        devices=(Device(vendor="cpu", product="C", index=0, uuid="CPU"),), source="cpuinfo"
    ),
    model_path="/no/such/model",
    served_name="m",
    python="python3",
    environ={},
)


def volumes(placement: Placement, home: Path) -> list[str]:
    plan = SGLang({}).plan(ServerRequest(engine="sglang", model="m"), placement)
    argv = into_container(plan, IMAGE, placement, {"HOME": str(home)}).argv
    return [argv[at + 1] for at, word in enumerate(argv) if word == "--volume"]


def test_it_may_write_there_and_others_may_not(tmp_path: Path) -> None:
    place = tmp_path / "profile-1"
    usual = volumes(PLACE, tmp_path)
    assert volumes(replace(PLACE, profiles=place), tmp_path) == [*usual, f"{place}:{place}"]


def test_a_colon_in_its_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="its name holds a colon"):
        volumes(replace(PLACE, profiles=tmp_path / "a:b"), tmp_path)
