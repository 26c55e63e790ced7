"""Markers and parameters of one test, read at collection into an :class:`Expectation`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from pytest_llmperf.blind_spots import check_blind_spots
from pytest_llmperf.declared import check_metrics, one_short_run, server_from, workload_from
from pytest_llmperf.errors import UsageMistake, nearest
from pytest_llmperf.load.declare.fields import ALIASES, FIELDS
from pytest_llmperf.metrics import units
from pytest_llmperf.records import MERGE_BASE, Limit, RegressionGate, ServerRequest, Workload
from pytest_llmperf.redact import redact_text
from pytest_llmperf.settings import Settings

_GATE_MARKERS = ("llm_floor", "llm_ceiling", "llm_no_regression")
_WORKLOAD_FIELDS = (FIELDS.keys() | ALIASES.keys()) - {"runs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What one test declares. ``source`` is its place in the code, for people; ``directories`` is
    where files that it names are looked for."""

    nodeid: str
    source: str
    server: ServerRequest | None
    workload: Workload | None
    limits: tuple[Limit, ...]
    regressions: tuple[RegressionGate, ...]
    directories: tuple[Path, ...] = ()

    @property
    def gates(self) -> int:
        """How many gates this test adds to the family."""
        metrics = {(limit.kind, limit.metric) for limit in self.limits}
        return len(metrics) + len(self.regressions)


def is_gated(item: pytest.Item) -> bool:
    """Whether a test carries a gate."""
    return any(item.get_closest_marker(name) for name in _GATE_MARKERS)


def asks(item: pytest.Item) -> bool:
    """Whether a test takes a server or declares a gate of its own account."""
    names = getattr(item, "fixturenames", ())
    return any(name in names for name in ("llm_server", "llm_endpoint")) or is_gated(item)


def gives(metafunc: pytest.Metafunc, name: str) -> bool:
    """Whether a test is parametrized with an argument ``name``."""
    return any(name in _names(mark) for mark in metafunc.definition.iter_markers("parametrize"))


def _names(mark: pytest.Mark) -> list[str]:
    """The argument names of a parametrize mark."""
    names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def read_expectation(item: pytest.Item, settings: Settings) -> Expectation:
    """The declarations of ``item``. Raises UsageMistake, prefixed with the test's place."""
    source = _source(item)
    try:
        return _read(item, settings, source)
    except UsageMistake as mistake:
        raise UsageMistake(f"{source} ({item.name}): {mistake}") from None


def _read(item: pytest.Item, settings: Settings, source: str) -> Expectation:
    server = request_from_mark(item.get_closest_marker("llm_server"), settings)
    _check_parameters(item, server)
    limits = tuple(_limits(item, source))
    regressions = tuple(_regressions(item, source))
    metrics = [limit.metric for limit in limits] + [gate.metric for gate in regressions]
    workload = _workload(item, settings, metrics)
    _check_fixtures(item, server, workload, gated=bool(metrics))
    check_blind_spots(metrics, workload, server)
    if settings.mode == "smoke":
        limits, regressions = (), ()
        workload = workload and one_short_run(workload)
    return Expectation(
        nodeid=item.nodeid,
        source=source,
        server=server,
        workload=workload,
        limits=limits,
        regressions=regressions,
        directories=_directories(item),
    )


def _check_fixtures(
    item: pytest.Item, server: ServerRequest | None, workload: Workload | None, *, gated: bool
) -> None:
    uses_perf = "llm_perf" in getattr(item, "fixturenames", ())
    if gated and not uses_perf:
        used = next(name for name in _GATE_MARKERS if item.get_closest_marker(name))
        why = "unittest.TestCase methods cannot take fixtures; write a plain test function"
        what = why if _is_testcase(item) else "add it as an argument"
        raise UsageMistake(f"{used} is declared but the test does not use llm_perf: {what}.")
    if uses_perf and server is None:
        raise UsageMistake(
            "llm_perf needs to know what to measure: mark the test or its module with "
            'pytest.mark.llm_server("sglang", model="..."), or give --llmperf-url.'
        )
    if gated and workload is None:
        raise UsageMistake(
            'gates need a declared workload: add @pytest.mark.llm_workload("chat", concurrency=8).'
        )


def _check_parameters(item: pytest.Item, server: ServerRequest | None) -> None:
    callspec = getattr(item, "callspec", None)
    given = callspec.params.get("llm_server", server) if callspec else server
    if given != server:
        raise UsageMistake(
            "the llm_server that this parameter set is marked with cannot be started: pytest makes "
            "fixtures before it reads the marks of single parameters. Mark the test, its class or "
            "its module, and write one test for each server."
        )


def _is_testcase(item: pytest.Item) -> bool:
    import unittest

    return issubclass(getattr(item, "cls", None) or object, unittest.TestCase)


def _source(item: pytest.Item) -> str:
    path, line, _ = item.location
    return f"{path}:{(line or 0) + 1}"


# --- llm_server ------------------------------------------------------------------------------


def request_from_mark(mark: pytest.Mark | None, settings: Settings) -> ServerRequest | None:
    if mark is None:
        url = settings.urls.get("")
        request = ServerRequest(engine="endpoint", url=url) if url else None
        return request and replace(request, reference=_referred(request, settings))
    request = _call(server_from, mark, "llm_server")
    request = _by_options(request, settings)
    reference = _referred(request, settings)
    if settings.urls:
        request = _attached(request, settings)
    return replace(request, reference=reference)


def _by_options(request: ServerRequest, settings: Settings) -> ServerRequest:
    reference = request.reference
    return replace(
        request,
        model=settings.models.get(request.model or "", request.model),
        # What python= names is in the image, where there is one.
        python=request.python or (None if request.image else settings.python),
        container=settings.container if request.image else None,
        timeout_s=settings.server_timeout_s or request.timeout_s,
        accelerator=request.accelerator or settings.accelerator,
        reference=reference and _by_options(reference, settings),
    )


def _referred(request: ServerRequest, settings: Settings) -> ServerRequest | None:
    """What ``request`` is compared with: options say it louder than the marker."""
    said = settings.reference
    if settings.mode == "smoke" or settings.calibrate:
        return None
    if not said.given:
        return request.reference
    if said.url is not None:
        return ServerRequest(
            engine="endpoint", model=request.model, url=said.url, accelerator=request.accelerator
        )
    if said.image is not None and request.url is not None:
        raise UsageMistake(
            f"--llmperf-reference-image={said.image}: what runs already at "
            f"{redact_text(request.url)} is not "
            "compared with what is launched here; give --llmperf-reference-url."
        )
    image = said.image or (None if said.build or said.python else request.image)
    # An interpreter in an image is none outside of it, nor the other way round.
    same_place = bool(image) == bool(request.image)
    own = MERGE_BASE if said.build else said.python
    return replace(
        request,
        python=own or (request.python if same_place else None),
        args=request.args if said.args is None else said.args,
        image=image,
        container=settings.container if image else None,
        reference=None,
    )


def _attached(request: ServerRequest, settings: Settings) -> ServerRequest:
    url = settings.urls.get(request.model or "") or settings.urls.get("")
    if url is None:
        raise UsageMistake(
            f"--llmperf-url names no endpoint for model {request.model!r}; "
            f"add --llmperf-url {request.model}=URL."
        )
    return ServerRequest(
        engine="endpoint", model=request.model, url=url, accelerator=request.accelerator
    )


def check_urls(items: Sequence[pytest.Item], settings: Settings) -> None:
    """Raise UsageMistake when one bare --llmperf-url would stand for several servers."""
    if "" not in settings.urls:
        return
    own = replace(settings, urls={})
    marks = [mark for item in items if (mark := item.get_closest_marker("llm_server"))]
    asked = {
        replace(request, reference=None)
        for mark in marks
        if (request := request_from_mark(mark, own))
    }
    if len(asked) > 1:
        names = ", ".join(sorted(f"{one.engine} with {one.model}" for one in asked))
        url = redact_text(settings.urls[""])
        raise UsageMistake(
            f"--llmperf-url {url} would stand for {len(asked)} servers ({names}); "
            "say which model it serves, --llmperf-url MODEL=URL, and name one for each."
        )


# --- llm_workload ----------------------------------------------------------------------------


def _workload(item: pytest.Item, settings: Settings, metrics: Sequence[str]) -> Workload | None:
    mark = item.get_closest_marker("llm_workload")
    if mark is None:
        return None
    if len(mark.args) != 1:
        raise UsageMistake(
            f"llm_workload takes one name or Workload and then keywords, got {len(mark.args)}."
        )
    overrides = {**mark.kwargs, **_parameters(item)}
    needed = max((units.resolve(name).requests_needed for name in metrics), default=1)
    if settings.mode == "smoke":
        needed = 1
    workload = workload_from(
        mark.args[0], overrides, settings, needed=needed, directories=_directories(item)
    )
    check_metrics(workload, metrics)
    return workload


def _directories(item: pytest.Item) -> tuple[Path, ...]:
    return (item.path.parent, item.config.rootpath)


def _parameters(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return {}
    return {key: value for key, value in callspec.params.items() if key in _WORKLOAD_FIELDS}


# --- limits and regressions ------------------------------------------------------------------


def _limits(item: pytest.Item, source: str) -> list[Limit]:
    floors = [
        limit
        for mark in item.iter_markers("llm_floor")
        for limit in _marked_limits(mark, "floor", "higher", source)
    ]
    ceilings = [
        limit
        for mark in item.iter_markers("llm_ceiling")
        for limit in _marked_limits(mark, "ceiling", "lower", source)
    ]
    return floors + ceilings


def _marked_limits(
    mark: pytest.Mark,
    kind: Literal["floor", "ceiling"],
    direction: str,
    source: str,
) -> list[Limit]:
    values = _metric_keywords(mark, also=("on", "remote"))
    on = mark.kwargs.get("on")
    if on is not None and not isinstance(on, str):
        raise UsageMistake(f"{mark.name}(on={on!r}): expected the name of an accelerator.")
    limits = []
    for name, value in values.items():
        statistic = units.resolve(name)
        if statistic.direction != direction:
            other = "llm_ceiling" if kind == "floor" else "llm_floor"
            better = "lower" if kind == "floor" else "higher"
            raise UsageMistake(
                f"{mark.name}({name}={value!r}): for {name} {better} is better; use {other}."
            )
        limits.append(
            Limit(
                kind=kind,
                metric=name,
                limit=units.parse_quantity(value, statistic),
                on=on,
                source=f"{kind} set in {source}",
                remote=bool(mark.kwargs.get("remote", False)),
            )
        )
    return limits


def _regressions(item: pytest.Item, source: str) -> list[RegressionGate]:
    gates: dict[str, RegressionGate] = {}
    for mark in item.iter_markers("llm_no_regression"):
        allow = mark.kwargs.get("allow")
        held = _held(mark.kwargs.get("subject", ()))
        for name, value in _metric_keywords(mark, also=("allow", "subject")).items():
            units.resolve(name)
            gate = RegressionGate(
                metric=name,
                loss_to_catch=units.parse_loss(value, f"llm_no_regression({name}"),
                allow=0.0 if allow is None else units.parse_loss(allow, "llm_no_regression(allow"),
                source=f"gate set in {source}",
                subject=held,
            )
            if gate.allow >= gate.loss_to_catch:
                raise UsageMistake(
                    f"llm_no_regression({name}={value!r}, allow={allow!r}): the tolerated loss "
                    "must be smaller than the loss to catch."
                )
            gates.setdefault(name, gate)
    return list(gates.values())


def _held(given: object) -> tuple[str, ...]:
    """The facts that ``subject=`` names."""
    names = (given,) if isinstance(given, str) else given
    if isinstance(names, list | tuple) and all(isinstance(n, str) and n.strip() for n in names):
        return tuple(dict.fromkeys(name.strip() for name in names))
    raise UsageMistake(
        f"llm_no_regression(subject={given!r}): expected names of facts that must not differ, such "
        'as subject=("engine_version", "dtype").'
    )


def _metric_keywords(mark: pytest.Mark, *, also: Sequence[str]) -> dict[str, Any]:
    if mark.args:
        raise UsageMistake(
            f"{mark.name} takes keywords only, got {mark.args[0]!r}; "
            f'write {mark.name}(metric="value unit").'
        )
    values = {key: value for key, value in mark.kwargs.items() if key not in also}
    if not values:
        raise UsageMistake(f"{mark.name} declares nothing; name at least one metric.")
    return values


def _call(function: Callable[..., ServerRequest], mark: pytest.Mark, name: str) -> ServerRequest:
    """Call with a marker's arguments; a wrong keyword becomes a UsageMistake."""
    known = list(inspect.signature(function).parameters)
    for key in mark.kwargs:
        if key not in known:
            raise UsageMistake(f"{name} has no keyword {key!r}.{nearest(key, known)}")
    if len(mark.args) + ("engine" in mark.kwargs) != 1:
        raise UsageMistake(
            f'{name} takes one engine and then keywords: {name}("sglang", model=...).'
        )
    return function(*mark.args, **mark.kwargs)
