"""Which addresses are this machine's, and where servers may listen."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from pytest_llmperf.launch import addresses
from pytest_llmperf.launch.addresses import (
    is_loopback,
    is_own,
    listening_address,
    own_addresses,
)
from pytest_llmperf.records import HttpProbe, LaunchPlan

OWN = ("192.0.2.2", "fd00::2")
NAMES = {"node-a": ["192.0.2.2"], "debian": ["127.0.1.1"], "both": ["198.51.100.1", "fd00::2"]}


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """One with two addresses, in a network with three names."""
    if "real" not in request.node.name:
        monkeypatch.setattr(addresses, "own_addresses", lambda: OWN)
        monkeypatch.setattr(socket, "getaddrinfo", resolving(socket.getaddrinfo))


def resolving(really: Callable[..., Any]) -> Callable[..., Any]:
    def resolve(host: str, *args: Any, **more: Any) -> Any:
        numbers = NAMES.get(host, [host])
        return [entry for number in numbers for entry in really(number, *args, **more)]

    return resolve


def test_what_is_this_machines_own() -> None:
    own = ("127.0.0.1", "127.1.2.3", "::1", "localhost", "a.localhost")
    assert all(is_loopback(host) and is_own(host) for host in own)
    others = ("10.0.0.1", "0.0.0.0", "node-1", "")
    assert not any(is_loopback(host) or is_own(host) for host in others)
    assert all(is_own(host) and not is_loopback(host) for host in OWN)


def test_addresses_of_the_real_machine_can_be_listened_on() -> None:
    for number in own_addresses():
        family = socket.AF_INET6 if ":" in number else socket.AF_INET
        with socket.socket(family) as probe:
            probe.bind((number, 0))
    assert not any(is_loopback(number) or "%" in number for number in own_addresses())


@pytest.mark.parametrize(
    ("named", "number"),
    [
        ("192.0.2.2", "192.0.2.2"),
        ("fd00::2", "fd00::2"),
        ("[fd00::2]", "fd00::2"),
        ("FD00:0::2", "fd00::2"),
        ("node-a", "192.0.2.2"),
        ("both", "fd00::2"),
        ("127.0.0.2", "127.0.0.2"),
        ("::1", "::1"),
    ],
)
def test_an_address_of_this_machine_is_taken_by_its_number(named: str, number: str) -> None:
    assert listening_address(named) == number


@pytest.mark.parametrize("named", ["0.0.0.0", "::", "[::]", "0"])
def test_all_addresses_at_once_are_none(named: str) -> None:
    with pytest.raises(ValueError, match=r"every address .*: 192\.0\.2\.2, fd00::2, 127\.0\.0\.1"):
        listening_address(named)


@pytest.mark.parametrize(
    "named", ["192.0.2.3", "*", "no such host", "224.0.0.1", "255.255.255.255", "é" * 70, "fe80::1"]
)
def test_what_is_not_of_this_machine_is_refused_with_what_is(named: str) -> None:
    with pytest.raises(ValueError, match=r"no address of this machine; it has 192\.0\.2\.2"):
        listening_address(named)


def test_a_name_that_only_this_machine_has_is_refused_by_that() -> None:
    """As Debian writes it into /etc/hosts."""
    with pytest.raises(ValueError, match=r"127\.0\.1\.1 here, which no other machine reaches"):
        listening_address("debian")


@pytest.mark.parametrize(
    ("host", "url"), [("192.0.2.2", "http://192.0.2.2:1"), ("fd00::2", "http://[fd00::2]:1")]
)
def test_requests_go_where_the_server_listens(host: str, url: str) -> None:
    plan = LaunchPlan(
        engine="sim",
        argv=(),
        env=(),
        host=host,
        port=1,
        ready=HttpProbe(path="/"),
        start_timeout_s=1.0,
        stop_grace_s=1.0,
    )
    assert plan.url == url
