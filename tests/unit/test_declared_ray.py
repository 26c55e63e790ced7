"""``llm_server(..., ray=...)``: what can be meant, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.declared import server_from
from pytest_llmperf.errors import UsageMistake


def declared(**more: Any) -> Any:
    return server_from("sglang", model="r1", **more)


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head.example:6379"])
def test_a_cluster_is_named(address: str) -> None:
    assert declared(ray=address).ray == address


def test_without_it_nothing_changes() -> None:
    assert declared().ray is None
    assert declared().identity == repr(declared())


def test_over_ray_or_not_is_what_a_server_is_and_where_the_cluster_is_is_not() -> None:
    plain, auto, other = declared(), declared(ray="auto"), declared(ray="10.0.0.1:6379")
    assert auto.identity == other.identity != plain.identity
    assert replace(auto, ray=None) == plain


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"ray": True}, 'expected "auto", or HOST:PORT of the cluster\'s head'),
        ({"ray": "local"}, "no cluster is ever started here"),
        ({"ray": "ray://head:10001"}, "this machine must be a node"),
        ({"ray": "auto", "image": "some/image"}, "a server in a container cannot join the cluster"),
        ({"ray": "auto", "devices": 2}, "which devices its ranks get is the cluster's choice"),
    ],
)
def test_what_cannot_be_meant_is_told(more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageMistake) as told:
        declared(**more)
    assert said in str(told.value)


def test_an_engine_that_does_not_know_ray_is_told() -> None:
    with pytest.raises(UsageMistake, match=r"llm_server\('sim', ray='auto'\): of the engines only"):
        server_from("sim", ray="auto")


def test_a_reference_runs_in_the_same_cluster_unless_it_says_otherwise() -> None:
    own = declared(ray="auto", reference={"args": "--x"})
    assert own.reference.ray == "auto"
    assert declared(ray="auto", reference={"ray": None}).reference.ray is None
    attached = declared(ray="auto", reference={"url": "http://localhost:1"})
    assert attached.reference.ray is None
