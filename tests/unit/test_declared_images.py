"""Images in ``llm_server(...)`` and in the options of comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.declared import server_from
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.expectations import request_from_mark
from pytest_llmperf.records import MERGE_BASE, ServerRequest
from pytest_llmperf.server_options import ReferenceOptions
from pytest_llmperf.session.comparison import described
from pytest_llmperf.settings import Settings


def settings(**changes: Any) -> Settings:
    fields: dict[str, Any] = {
        "mode": "on",
        "report": None,
        "launches": 1,
        "runs": 1,
        "strict": False,
        "progress": False,
        "accelerator": None,
        "python": None,
        "server_timeout_s": None,
        "client_processes": None,
        "log_dir": None,
        "cache_dir": Path(),
        "lock_dir": None,
        "family": 0,
        "reference": ReferenceOptions(),
        "pairs": 12,
    }
    return Settings(**{**fields, **changes})


def asked(options: Settings | None = None, **keywords: Any) -> ServerRequest:
    mark = pytest.mark.llm_server("sim", **keywords).mark
    request = request_from_mark(mark, options or settings())
    assert request is not None
    return request


def reference(options: Settings | None = None, **keywords: Any) -> ServerRequest:
    found = asked(options, **keywords).reference
    assert found is not None
    return found


def option(**said: Any) -> Settings:
    return settings(reference=ReferenceOptions(**said))


# --- one server ------------------------------------------------------------------------------


def test_the_interpreter_of_an_image_is_in_it() -> None:
    here = settings(python="/here/python", container="podman")
    assert asked(here).python == "/here/python"
    assert asked(here).container is None
    assert asked(here, image="i").python is None
    assert asked(here, image="i", python="/in/it/python").python == "/in/it/python"
    assert asked(here, image="i").container == "podman"


def test_servers_of_two_images_share_no_launch() -> None:
    assert asked(image="a") == asked(image="a")
    assert len({asked(), asked(image="a"), asked(image="b")}) == 3


@pytest.mark.parametrize("image", ["", "  ", "-v", "a b", 3, ["a"]])
def test_what_is_no_name_of_an_image(image: Any) -> None:
    with pytest.raises(
        UsageMistake, match=r"llm_server: image=.*: expected the name of a container"
    ):
        server_from("sim", image=image)


@pytest.mark.parametrize("url", [None, "http://h:1"])
def test_an_endpoint_has_no_image(url: str | None) -> None:
    with pytest.raises(UsageMistake, match="an endpoint runs already and is started in no"):
        server_from("endpoint", url=url, image="i")


# --- references in the marker ----------------------------------------------------------------


def test_a_reference_of_another_image() -> None:
    found = reference(image="new", args="--a", reference={"image": "old"})
    assert (found.image, found.args) == ("old", ("--a",))


def test_a_reference_keeps_image_and_interpreter_unless_told() -> None:
    found = reference(image="new", python="/in/it", reference={"args": "--b"})
    assert (found.image, found.python) == ("new", "/in/it")
    found = reference(image="new", python="/in/it", reference={"image": "old"})
    assert (found.image, found.python) == ("old", "/in/it")


def test_a_reference_out_of_an_image_leaves_its_interpreter_there() -> None:
    found = reference(image="new", python="/in/it", reference={"image": None})
    assert (found.image, found.python) == (None, None)
    found = reference(image="new", reference={"image": None, "python": "/here"})
    assert (found.image, found.python) == (None, "/here")


def test_a_reference_in_an_image_leaves_our_interpreter_here() -> None:
    here = settings(python="/here", container="docker")
    found = reference(here, reference={"image": "old"})
    assert (found.image, found.python, found.container) == ("old", None, "docker")
    found = reference(here, python="/there", reference={"image": "old", "python": "/in/it"})
    assert found.python == "/in/it"


def test_an_endpoint_as_the_reference_of_an_image() -> None:
    for said in ({"url": "http://h:1"}, {"engine": "endpoint", "url": "http://h:1"}):
        found = reference(image="new", reference=said)
        assert (found.url, found.image, found.container) == ("http://h:1", None, None)


# --- references by options -------------------------------------------------------------------


def test_the_reference_image_by_option() -> None:
    found = reference(option(image="old"), image="new", args="--a", python="/in/it")
    assert (found.image, found.args, found.python) == ("old", ("--a",), "/in/it")
    found = reference(option(image="old", args=("--b",)), python="/here")
    assert (found.image, found.args, found.python) == ("old", ("--b",), None)


def test_the_tool_goes_with_the_reference_image() -> None:
    both = settings(container="podman", reference=ReferenceOptions(image="old"))
    assert reference(both).container == "podman"
    assert asked(both).container is None


def test_an_interpreter_as_the_reference_of_an_image_is_outside_of_it() -> None:
    found = reference(option(python="/old"), image="new", python="/in/it")
    assert (found.image, found.python, found.container) == (None, "/old", None)
    found = reference(option(build=("make",)), image="new")
    assert (found.image, found.python) == (None, MERGE_BASE)


def test_other_arguments_in_the_same_image() -> None:
    found = reference(option(args=("--b",)), image="new", python="/in/it")
    assert (found.image, found.python, found.args) == ("new", "/in/it", ("--b",))


def test_what_runs_already_is_not_compared_with_an_image() -> None:
    mark = pytest.mark.llm_server("endpoint", url="http://h:1").mark
    with pytest.raises(UsageMistake, match="--llmperf-reference-image=old: what runs already"):
        request_from_mark(mark, option(image="old"))
    with pytest.raises(UsageMistake, match="--llmperf-reference-image=old: what runs already"):
        request_from_mark(
            None, settings(urls={"": "http://h:1"}, reference=option(image="old").reference)
        )


# --- in words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        ({"image": "old"}, {"image": "new"}, "sim in old"),
        ({"image": "old"}, {}, "sim in old"),
        ({"image": "old"}, {"python": "/new"}, "sim in old"),
        ({"image": "old", "args": "-b"}, {"image": "new"}, "sim, with -b, in old"),
        ({"image": "old", "python": "/in"}, {}, "sim, in old, of /in"),
        ({}, {"image": "new"}, "sim in no container"),
        ({"python": "/old"}, {"image": "new"}, "sim, in no container, of /old"),
        ({"python": "/old"}, {"python": "/new"}, "sim of /old"),
        ({}, {"python": "/new"}, "sim of the Python that runs pytest"),
    ],
)
def test_a_server_in_words(reference: dict[str, str], candidate: dict[str, str], said: str) -> None:
    one, other = server_from("sim", **reference), server_from("sim", **candidate)  # type: ignore[arg-type]
    assert described(one, other, None) == said


# --- recipe=


def test_a_recipe_may_be_refused_and_is_taken_otherwise() -> None:
    assert server_from("sglang", model="m").recipe
    assert not server_from("sglang", model="m", recipe=False).recipe


def test_a_reference_takes_what_its_server_takes_unless_it_says_otherwise() -> None:
    both = server_from("sglang", model="m", recipe=False, reference={"args": "--x"})
    assert both.reference is not None
    assert not both.reference.recipe
    worth = server_from("sglang", model="m", reference={"recipe": False})
    assert worth.recipe
    assert worth.reference is not None
    assert described(worth.reference, worth, None) == "sglang without a recipe"
    assert described(worth, worth.reference, None) == "sglang with its recipe"


@pytest.mark.parametrize("recipe", ["r1", 1, None])
def test_a_recipe_is_not_named(recipe: Any) -> None:
    with pytest.raises(UsageMistake, match=r"recipe=.*expected False.*args="):
        server_from("sglang", model="m", recipe=recipe)


def test_an_endpoint_keeps_its_flags() -> None:
    with pytest.raises(UsageMistake, match=r"recipe=False\): what runs already keeps its flags"):
        server_from("endpoint", url="http://h:1", recipe=False)
    own = server_from("sglang", model="m", recipe=False, reference={"url": "http://h:1"})
    assert own.reference is not None
    assert own.reference.recipe
    engine = {"engine": "endpoint", "url": "http://h:1"}
    own = server_from("sglang", model="m", recipe=False, reference=engine)
    assert own.reference is not None
    assert own.reference.recipe
