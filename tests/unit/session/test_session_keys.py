from __future__ import annotations

import pytest

from pytest_llmperf.redact import is_secret
from pytest_llmperf.server_options import API_KEY_VARIABLE, REFERENCE_API_KEY_VARIABLE
from pytest_llmperf.session.keys import ApiKeys

OWN = ApiKeys(own="mine")
BOTH = ApiKeys(own="mine", reference="theirs")


@pytest.mark.parametrize(
    ("url", "candidate"),
    [
        ("http://other:1", "http://host:1"),
        ("http://host:2", "http://host:1"),
        ("http://host:1", "https://host:1"),
        ("http://host.evil:1", "http://host:1"),
        ("http://host:1", None),
    ],
)
def test_a_key_is_not_sent_to_another_host(url: str, candidate: str | None) -> None:
    assert OWN.for_reference(url, candidate) is None
    assert BOTH.for_reference(url, candidate) == "theirs"


@pytest.mark.parametrize(
    ("url", "candidate"),
    [
        ("http://host:1/a", "http://host:1/b"),
        ("http://HOST", "http://host:80"),
        ("https://host", "https://host:443/v2"),
    ],
)
def test_two_models_behind_one_address_have_one_key(url: str, candidate: str) -> None:
    assert OWN.for_reference(url, candidate) == "mine"
    assert BOTH.for_reference(url, candidate) == "theirs"


def test_keys_are_read_from_the_environment_and_never_shown() -> None:
    environ = {API_KEY_VARIABLE: "sk-1", REFERENCE_API_KEY_VARIABLE: "sk-2"}
    keys = ApiKeys.of(environ)
    assert (keys.own, keys.reference) == ("sk-1", "sk-2")
    assert "sk-" not in repr(keys)
    assert all(is_secret(name) for name in environ)
    assert ApiKeys.of({API_KEY_VARIABLE: ""}) == ApiKeys()
