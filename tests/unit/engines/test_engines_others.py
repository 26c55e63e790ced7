from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.engines.endpoint import Endpoint
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Accelerator, Device, Json, Placement, ServerRequest

PLACEMENT = Placement(
    host="127.0.0.1",
    port=31000,
    accelerator=Accelerator(
        devices=(Device(vendor="cpu", product="p", index=0, uuid="u"),), source="override"
    ),
    model_path="m",
    served_name="m",
    python="/opt/python",
)
REQUEST = ServerRequest(engine="sim", args=("--rate", "5"), env=(("A", "b"),))


def test_the_simulated_server_is_a_module_of_ours() -> None:
    plan = Sim().plan(REQUEST, PLACEMENT)
    assert plan.argv == (
        *("/opt/python", "-m", "pytest_llmperf.testing"),
        *("--host", "127.0.0.1", "--port", "31000", "--model", "m", "--rate", "5"),
    )
    assert ("A", "b") in plan.env
    assert plan.ready.path == "/health"


@pytest.mark.parametrize("flag", ["--port", "--por"])
def test_the_simulated_server_keeps_its_address(flag: str) -> None:
    with pytest.raises(UsageMistake, match="--port cannot stand in args="):
        Sim().plan(replace(REQUEST, args=(flag, "1")), PLACEMENT)


def test_the_simulated_server_is_told_from_others() -> None:
    sim = Sim()
    ours = sim.identify(
        {"/v1/models": {"data": [{"id": "m", "max_model_len": 512}]}, "/server_info": {"rate": 5}}
    )
    assert (ours.version, ours.model, ours.max_context_tokens) == ("simulated", "m", 512)
    assert ours.args == {"rate": 5}
    assert sim.mismatch(ours, PLACEMENT) is None
    told = sim.mismatch(sim.identify({}), PLACEMENT)
    assert told is not None
    assert "it serves None, not 'm'" in told


def test_an_endpoint_is_never_started() -> None:
    with pytest.raises(
        UsageMistake, match=r"attaches to a server that runs already.*--llmperf-url"
    ):
        Endpoint().plan(REQUEST, PLACEMENT)


@pytest.mark.parametrize(
    ("answer", "model", "context"),
    [
        ({"data": [{"id": "a", "max_model_len": 4096}, {"id": "b"}]}, "a", 4096),
        ({"data": [{"id": "a", "context_length": 128}]}, "a", 128),
        ({"data": [{"id": "a", "max_model_len": True}]}, "a", None),
        ({"data": []}, None, None),
        ({"data": ["a"]}, None, None),
        ([], None, None),
        (None, None, None),
    ],
)
def test_an_endpoint_says_what_it_serves(
    answer: Json, model: str | None, context: int | None
) -> None:
    who = Endpoint().identify({"/v1/models": answer})
    assert (who.model, who.max_context_tokens, who.version) == (model, context, None)


def test_an_endpoint_gets_no_field_that_it_might_refuse() -> None:
    assert Endpoint().exact_length == {}
