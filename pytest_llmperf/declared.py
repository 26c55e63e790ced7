"""What a marker or a call declares: a server; a workload, and what that can and cannot measure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_llmperf.engines.over_ray import check_address, check_engine
from pytest_llmperf.errors import UsageMistake, nearest
from pytest_llmperf.load.declare.workloads import (
    DEFAULT_CONCURRENCY,
    default_slo,
    make_workload,
    remake_workload,
)
from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.slo import read_slos
from pytest_llmperf.records import ServerRequest, Workload
from pytest_llmperf.redact import redact_argv, redact_text, secret_env, secret_words
from pytest_llmperf.server_options import check_image, check_url, split_words
from pytest_llmperf.settings import Settings

_IN_ARGS = (str, int, float, os.PathLike)
#: The longest that a server may be waited for.
_LONGEST_S = 7 * 24 * 3600.0

# --- servers ---------------------------------------------------------------------------------


def server_from(
    engine: str,
    *,
    model: str | None = None,
    args: str | Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    accelerator: str | None = None,
    timeout: str | float | None = None,
    python: str | None = None,
    url: str | None = None,
    image: str | None = None,
    devices: int | str | Sequence[int | str] | None = None,
    nodes: int | None = None,
    recipe: bool = True,
    ray: str | None = None,
    reference: Mapping[str, Any] | None = None,
) -> ServerRequest:
    """The server of ``llm_server(...)``. Raises UsageMistake for what cannot be meant."""
    if not engine or not isinstance(engine, str):
        raise UsageMistake(f"llm_server({engine!r}): expected the name of an engine.")
    model, python = _text("model", model), _text("python", python)
    accelerator, url = _text("accelerator", accelerator), _text("url", url)
    _check_image(engine, image)
    if url and engine != "endpoint":
        raise UsageMistake(f'url= goes with llm_server("endpoint", ...), not {engine!r}.')
    if engine == "endpoint" and not url:
        raise UsageMistake('llm_server("endpoint") needs url="http://host:port".')
    if engine not in ("endpoint", "sim") and not model:
        raise UsageMistake(f'llm_server({engine!r}) needs model="...", a name or a directory.')
    request = ServerRequest(
        engine=engine,
        model=model,
        args=_words(args),
        env=_variables(env),
        accelerator=accelerator,
        python=python,
        timeout_s=_seconds(timeout) if timeout is not None else None,
        url=check_url(url, where="llm_server: url=") if url else None,
        image=image,
        devices=_chosen_devices(engine, devices),
        nodes=_number_of_nodes(engine, nodes, image),
        recipe=_takes_recipe(engine, recipe),
        ray=_cluster(engine, ray, image, devices),
    )
    if reference is None:
        return request
    own: dict[str, Any] = {"engine": engine, "model": model, "args": args, "env": env}
    own |= {"accelerator": accelerator, "timeout": timeout, "python": python, "url": url}
    own |= {"image": image, "devices": devices, "nodes": nodes, "recipe": recipe, "ray": ray}
    return replace(request, reference=_reference_server(own, reference))


def _text(name: str, value: object) -> str | None:
    """A text or a path, which a command line can hold."""
    if value is None:
        return None
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or "\0" in text:
        shown = redact_text(repr(value))
        raise UsageMistake(f"llm_server({name}={shown}): expected a text without NUL in it.")
    return text


def _words(args: object) -> tuple[str, ...]:
    if isinstance(args, str):
        words = split_words(args, "llm_server: args")
    elif isinstance(args, list | tuple):
        words = [_word(position, word) for position, word in enumerate(args, 1)]
    else:
        raise _no_arguments(f"it is of type {type(args).__name__}")
    if any("\0" in word for word in words):
        raise _no_arguments("there is a NUL in it")
    return secret_words(words)


def _word(position: int, word: object) -> str:
    if not isinstance(word, _IN_ARGS):
        raise _no_arguments(f"word {position} is of type {type(word).__name__}")
    return str(word)


def _no_arguments(why: str) -> UsageMistake:
    """The arguments themselves may hold secrets, and are not shown."""
    return UsageMistake(
        f"llm_server(args=...): {why}; expected the server's arguments, as one text or as a list "
        'of words, such as args="--tp 2".'
    )


def _variables(env: object) -> tuple[tuple[str, str], ...]:
    if env is None:
        return ()
    if not isinstance(env, Mapping):
        raise UsageMistake(
            f"llm_server(env=...): it is of type {type(env).__name__}; expected names and values, "
            'such as env={"NAME": "value"}.'
        )
    for name, value in env.items():
        # The value may be a secret, and is not shown.
        if not isinstance(name, str) or not re.fullmatch(r"[^=\0]+", name):
            shown = redact_argv([name])[0] if isinstance(name, str) else redact_text(repr(name))
            raise UsageMistake(f"llm_server(env=...): {shown!r} cannot be the name of a variable.")
        if not isinstance(value, _IN_ARGS) or "\0" in str(value):
            raise UsageMistake(
                f"llm_server(env=...): the value of {name} is no text that a variable can have; "
                "write it as a text, or leave it out."
            )
    return tuple(sorted(secret_env({name: str(value) for name, value in env.items()}).items()))


def _check_image(engine: str, image: object) -> None:
    if image is None:
        return
    check_image(image, "llm_server: image=")
    if engine == "endpoint":
        raise UsageMistake(
            f'llm_server("endpoint", image={image!r}): an endpoint runs already and is started in '
            "no container; leave image= out, or name the engine in place of url=."
        )


def _chosen_devices(engine: str, devices: object) -> int | tuple[str, ...] | None:
    """How many devices, or the entries of which."""
    if devices is None:
        return None
    said = f"llm_server({engine!r}, devices={devices!r})"
    if engine == "endpoint":
        raise UsageMistake(f"{said}: what runs already keeps its devices; leave devices= out.")
    if isinstance(devices, int) and not isinstance(devices, bool) and devices > 0:
        return devices
    words = devices.split(",") if isinstance(devices, str) else devices
    if isinstance(words, list | tuple):
        entries = tuple(str(word).strip() for word in words)
        if entries and all(entries) and not any(isinstance(word, bool) for word in words):
            return entries
    raise UsageMistake(
        f'{said}: expected how many devices, such as 2, or which, such as "0,1" (positions among '
        "the visible ones, or identities)."
    )


def _number_of_nodes(engine: str, nodes: object, image: str | None) -> int | None:
    if nodes is None:
        return None
    said = f"llm_server({engine!r}, nodes={nodes!r})"
    if not isinstance(nodes, int) or isinstance(nodes, bool) or nodes < 1:
        raise UsageMistake(f"{said}: expected a whole number of at least 1.")
    if engine == "endpoint":
        raise UsageMistake(f"{said}: what runs already keeps its nodes; leave nodes= out.")
    if image is not None and nodes > 1:
        raise UsageMistake(
            f"{said}: ranks are not started in containers; leave image= out, or start them "
            "yourself and attach with --llmperf-url."
        )
    return nodes if nodes > 1 else None


def _cluster(engine: str, ray: object, image: str | None, devices: object) -> str | None:
    """The address of the Ray cluster that a server is spread over."""
    if ray is None:
        return None
    said = f"llm_server({engine!r}, ray={redact_text(repr(ray))})"
    if not isinstance(ray, str):
        raise UsageMistake(f'{said}: expected "auto", or HOST:PORT of the cluster\'s head.')
    check_address(ray, said)
    check_engine(engine, said)
    if image is not None:
        raise UsageMistake(
            f"{said}: a server in a container cannot join the cluster; leave image= out, and run "
            "the tests where the cluster's own environment is."
        )
    if devices is not None:
        raise UsageMistake(
            f"{said}: which devices its ranks get is the cluster's choice, and how many its "
            "arguments say, such as --tp; leave devices= out."
        )
    return ray


def _takes_recipe(engine: str, recipe: object) -> bool:
    said = f"llm_server({engine!r}, recipe={recipe!r})"
    if not isinstance(recipe, bool):
        raise UsageMistake(
            f"{said}: expected False, to take no documented flags, or True, to take those for the "
            "model and the accelerator at hand; flags of your own go into args=."
        )
    if engine == "endpoint" and not recipe:
        raise UsageMistake(f"{said}: what runs already keeps its flags; leave recipe= out.")
    return recipe


def _reference_server(own: Mapping[str, Any], reference: Mapping[str, Any]) -> ServerRequest:
    """The server of ``llm_server(reference={...})``: like its own but for what is named."""
    if not reference or not hasattr(reference, "items"):
        raise UsageMistake(
            f"llm_server(reference=...): it is {'empty' if not reference else 'no mapping'}; "
            "expected what differs from the server itself, "
            'such as reference={"args": "--chunked-prefill-size 2048"}.'
        )
    for key in reference:
        if key not in own:
            raise UsageMistake(f"llm_server(reference=...) has no {key!r}.{nearest(key, own)}")
    said = {**own, **reference}
    if said["engine"] == "endpoint":
        gone = ("image", "devices", "nodes", "ray")
        said |= {name: None for name in gone if name not in reference}
        said |= {} if "recipe" in reference else {"recipe": True}
    if bool(said["image"]) != bool(own["image"]) and "python" not in reference:
        said["python"] = None  # an interpreter in an image is none outside of it
    if "url" in reference and "engine" not in reference:
        said = {"engine": "endpoint", "url": reference["url"], "model": said["model"]}
    return server_from(**said)


def _seconds(value: object) -> float:
    match = re.fullmatch(
        r"\s*(\d+(?:\.\d+)?)\s*(s|min|h)\s*", value if isinstance(value, str) else ""
    )
    if match is not None:
        seconds = float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]
    else:
        seconds = _number(value)
    if not 0 < seconds <= _LONGEST_S:
        raise UsageMistake(
            f'llm_server(timeout={value!r}): expected seconds, or "90 s", "10 min", "1 h", above '
            f"zero and at most {_LONGEST_S / 3600:.0f} h."
        )
    return seconds


def _number(value: object) -> float:
    """A number as a float; zero for what is none, or none that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    try:
        return float(value)
    except OverflowError:
        return 0.0


# --- workloads -------------------------------------------------------------------------------


def workload_from(
    what: object,
    overrides: Mapping[str, object],
    settings: Settings,
    *,
    needed: int,
    directories: Sequence[Path] = (),
) -> Workload:
    """A workload from a preset's or a file's name, or a ready
    :class:`~pytest_llmperf.records.Workload`; files are looked for in ``directories``."""
    given = dict(overrides)
    if isinstance(what, str) and given.get("slo") is None:
        given["slo"] = default_slo(what)
    if given.get("slo") is not None:
        given["slo"] = read_slos(given["slo"], "llm_workload")
    if isinstance(what, Workload):
        return remake_workload(what, given, requests_needed=needed, source="llm_workload")
    if not isinstance(what, str):
        raise UsageMistake(
            f"llm_workload({what!r}): expected the name of a preset or a file, or a Workload."
        )
    return make_workload(
        what,
        given,
        runs=settings.runs,
        requests_needed=needed,
        source="llm_workload",
        directories=directories,
    )


def check_metrics(workload: Workload, metrics: Sequence[str]) -> None:
    """Raise UsageMistake for a metric that this workload can never give."""
    for name in metrics:
        base = units.row_of(name).name
        if base in ("goodput", "goodput_share") and not workload.slo:
            raise UsageMistake(
                f"{name} counts the requests that meet their objectives, and the workload has none;"
                ' add slo={"ttft": "2 s", "tpot": "80 ms"} or the name of a preset to llm_workload.'
            )
        if base.endswith("_from_schedule") and not _is_scheduled(workload):
            raise UsageMistake(
                f"{name} needs requests that are due at some time, but a closed loop sends one "
                "when another ends; add rate= to llm_workload, or gate "
                f"{name.replace('_from_schedule', '')}."
            )
    of_chunks = [*metrics, *(f"{slo.metric}_mean" for slo in workload.slo)]
    timed = next((name for name in of_chunks if _is_of_chunks(units.row_of(name))), None)
    if timed and not workload.stream:
        raise UsageMistake(
            f"{timed} is measured on a stream, but the workload has stream=False; "
            "leave that out, or gate e2e and throughput."
        )


def _is_scheduled(workload: Workload) -> bool:
    return workload.arrivals != "closed" or workload.think_time_s > 0


def _is_of_chunks(row: units.Metric) -> bool:
    return row.per_request and not row.name.startswith("e2e")


def one_short_run(workload: Workload) -> Workload:
    """One short run: a session for each slot, or as many as there are."""
    few = (workload.concurrency or DEFAULT_CONCURRENCY) * workload.turns
    return replace(
        workload,
        requests=few if workload.requests is None else min(few, workload.requests),
        duration_s=None,
        ramp_up_s=0.0,
        warmup_requests=1,
        runs=1,
    )
