"""What a marker or a call declares: a server; a workload, and what that can and cannot measure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from pytest_llmperf.server_options import check_image, check_url
from pytest_llmperf.settings import Settings

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
    reference: Mapping[str, Any] | None = None,
) -> ServerRequest:
    """The server of ``llm_server(...)``. Raises UsageMistake for what cannot be meant."""
    if not engine or not isinstance(engine, str):
        raise UsageMistake(f"llm_server({engine!r}): expected the name of an engine.")
    _check_image(engine, image)
    if url and engine != "endpoint":
        raise UsageMistake(f'url= goes with llm_server("endpoint", ...), not {engine!r}.')
    if engine == "endpoint" and not url:
        raise UsageMistake('llm_server("endpoint") needs url="http://host:port".')
    if engine not in ("endpoint", "sim") and not model:
        raise UsageMistake(f'llm_server({engine!r}) needs model="...", a name or a directory.')
    words = shlex.split(args) if isinstance(args, str) else [str(word) for word in args]
    request = ServerRequest(
        engine=engine,
        model=model,
        args=tuple(words),
        env=tuple(sorted((str(key), str(value)) for key, value in (env or {}).items())),
        accelerator=accelerator,
        python=python,
        timeout_s=_seconds(timeout) if timeout is not None else None,
        url=check_url(url) if url else None,
        image=image,
        devices=_chosen_devices(engine, devices),
        nodes=_number_of_nodes(engine, nodes, image),
    )
    if reference is None:
        return request
    own: dict[str, Any] = {"engine": engine, "model": model, "args": args, "env": env}
    own |= {"accelerator": accelerator, "timeout": timeout, "python": python, "url": url}
    own |= {"image": image, "devices": devices, "nodes": nodes}
    return replace(request, reference=_reference_server(own, reference))


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


def _reference_server(own: Mapping[str, Any], reference: Mapping[str, Any]) -> ServerRequest:
    """The server of ``llm_server(reference={...})``: like its own but for what is named."""
    if not reference or not hasattr(reference, "items"):
        raise UsageMistake(
            f"llm_server(reference={reference!r}): expected what differs from the server itself, "
            'such as reference={"args": "--chunked-prefill-size 2048"}.'
        )
    for key in reference:
        if key not in own:
            raise UsageMistake(f"llm_server(reference=...) has no {key!r}.{nearest(key, own)}")
    said = {**own, **reference}
    if said["engine"] == "endpoint":
        said |= {name: None for name in ("image", "devices", "nodes") if name not in reference}
    if bool(said["image"]) != bool(own["image"]) and "python" not in reference:
        said["python"] = None  # an interpreter in an image is none outside of it
    if "url" in reference and "engine" not in reference:
        said = {"engine": "endpoint", "url": reference["url"], "model": said["model"]}
    return server_from(**said)


def _seconds(value: str | float) -> float:
    if isinstance(value, int | float):
        return float(value)
    match = re.fullmatch(r"\s*([\d.]+)\s*(s|min|h)\s*", value)
    if match is None:
        raise UsageMistake(f'timeout={value!r}: expected seconds, or "90 s", "10 min", "1 h".')
    return float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]


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
