"""What is asked: presets and files, what users lay over them, and which of it goes together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import UsageMistake, nearest
from pytest_llmperf.records import Arrivals, Source, Workload

from .fields import read_fields
from .lengths import bounds
from .presets import PRESETS
from .rules import Draft, check
from .sources import Item, find_file, items_of, open_source

#: Requests in flight where nobody says otherwise.
DEFAULT_CONCURRENCY = 8

#: Sessions per run for each one active, so that filling and draining stay a small part of it.
SESSIONS_PER_SLOT = 10

#: Seconds of arrivals in a run of an open loop.
OPEN_LOOP_S = 60.0

_FILES = (".json", ".jsonl")
_DEFAULTS = {
    field.name: field.default for field in fields(Workload) if field.default is not MISSING
}
#: What a field, laid over a ready workload, takes the place of.
_INSTEAD = {"duration_s": ("requests",), "requests": ("duration_s",)}
_OPEN_ONLY = ("rate", "final_rate", "burstiness", "trace_speed")
_CLOSED_ONLY = ("concurrency", "ramp_up_s")


def make_workload(
    name: str,
    overrides: Mapping[str, object],
    *,
    runs: int,
    requests_needed: int,
    source: str,
    directories: Sequence[Path] = (),
) -> Workload:
    """The preset or file ``name`` with ``overrides`` (fields of :class:`Workload`) laid over it.

    A name that ends in ``.json`` or ``.jsonl`` is a file, looked for in ``directories`` in order.
    ``runs`` holds unless overridden. ``requests_needed`` is what the gated percentiles ask for:
    without ``requests``, at least as many are sent. ``source`` says where the workload was
    declared, for the messages of :class:`~pytest_llmperf.errors.UsageMistake`.
    """
    given = read_fields(overrides, source)
    if name.endswith(_FILES):
        file, items = open_source(find_file(name, directories, source))
        base: dict[str, Any] = {}
    else:
        file, items = None, ()
        base = _preset(name, given, source)
    draft = _Making(name, base, given, runs, requests_needed, source, file, items)
    return draft.workload()


def remake_workload(
    workload: Workload, overrides: Mapping[str, object], *, requests_needed: int, source: str
) -> Workload:
    """A ready workload with ``overrides`` laid over it, checked like any other."""
    given = read_fields(overrides, source)
    said = _said(workload, given)
    items = items_of(workload.source) if workload.source else ()
    base = read_fields(said, source)
    making = _Making(
        workload.name,
        {},
        base | given,
        workload.runs,
        requests_needed,
        source,
        workload.source,
        items,
    )
    return making.workload()


def default_slo(name: str) -> str | None:
    """The objectives, by name, that a preset's goodput counts by; ``None`` where it has none."""
    preset = PRESETS.get(name)
    return preset.slo if preset else None


def request_total(workload: Workload) -> int | None:
    """Requests measured in one run; ``None`` where time decides."""
    return workload.requests


def longest_request(workload: Workload) -> tuple[int, int] | None:
    """Input and output tokens of the request that has most of both together, all turns included;
    ``None`` for texts of a file, which nobody has counted."""
    if workload.source is not None:
        return _longest_of(items_of(workload.source)[: workload.requests], workload)
    if workload.input_tokens is None or workload.output_tokens is None:
        return None
    asked, answered, more = (
        bounds(mean, workload.length_spread)[1]
        for mean in (workload.input_tokens, workload.output_tokens, workload.turn_input_tokens)
    )
    return asked + (workload.turns - 1) * (answered + more), answered


def _longest_of(items: Sequence[Item], workload: Workload) -> tuple[int, int] | None:
    lengths = []
    for item in items:
        output = item.output_tokens or workload.output_tokens
        if item.input_tokens is None or output is None:
            return None
        lengths.append((item.input_tokens, output))
    return max(lengths, key=sum)


# --- what it starts from ---------------------------------------------------------------------


def _preset(name: str, given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A preset's fields, without those that make no sense beside what is given."""
    preset = PRESETS.get(name)
    if preset is None:
        raise UsageMistake(
            f"{source}: unknown workload {name!r}.{nearest(name, PRESETS)} "
            f"A file's name ends in {' or '.join(_FILES)}."
        )
    base = dict(preset.fields)
    if given.get("turns") == 1:
        base = {key: base[key] for key in base.keys() - {"turn_input_tokens", "think_time_s"}}
    if given.get("shared_prefix_tokens") == 0:
        base.pop("prefixes", None)
    return base


def _said(workload: Workload, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ready workload that say something, and that ``given`` does not replace."""
    said = {
        field.name: value
        for field in fields(workload)
        if (value := getattr(workload, field.name)) != _DEFAULTS.get(field.name, MISSING)
    }
    for known in ("name", "runs", "source"):
        said.pop(known, None)
    replaced = [each for field in given for each in _INSTEAD.get(field, ())]
    if given.get("arrivals") == "closed":
        replaced += ["arrivals", *_OPEN_ONLY]
    elif workload.arrivals == "closed" and given.keys() & {"rate", "arrivals"}:
        replaced += _CLOSED_ONLY
    return {field: value for field, value in said.items() if field not in replaced}


# --- making one ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Making:
    """One workload in the making: what a preset says, and what the user does."""

    name: str
    base: Mapping[str, Any]
    given: Mapping[str, Any]
    runs: int
    needed: int
    source: str
    file: Source | None
    items: Sequence[Item]

    def workload(self) -> Workload:
        arrivals = self._arrivals()
        laid = {**_DEFAULTS, **self.base, **self.given, "arrivals": arrivals}
        laid.setdefault("runs", self.runs)
        laid.setdefault("input_tokens", None)
        laid.setdefault("output_tokens", None)
        laid.setdefault("concurrency", DEFAULT_CONCURRENCY if arrivals == "closed" else None)
        laid.setdefault("warmup_requests", max(1, laid["concurrency"] or DEFAULT_CONCURRENCY))
        if self.file is not None and self.file.kind == "ids" and "api" not in self.given:
            laid["api"] = "completions"
        said = {key for key, value in self.given.items() if value != _DEFAULTS.get(key, MISSING)}
        draft = Draft(self.name, laid, frozenset(said), self.needed, self.file, self.items)
        try:
            check(draft)
            laid["requests"] = self._requests(draft)
        except ValueError as mistake:
            raise UsageMistake(f"{self.source}: {mistake}") from None
        return Workload(name=self.name, **{**laid, "source": self.file})

    def _arrivals(self) -> Arrivals:
        asked: Arrivals | None = self.given.get("arrivals")
        if asked is not None:
            return asked
        if "rate" in self.given:
            return "poisson"
        return "trace" if self.file is not None and self.file.kind == "trace" else "closed"

    def _requests(self, draft: Draft) -> int | None:
        asked: int | None = self.given.get("requests")
        if asked is not None or draft.laid["duration_s"] is not None:
            return asked
        if self.file is not None:
            return len(self.items)
        turns = draft.turns
        rate = draft.mean_rate
        if rate is None:
            sessions = SESSIONS_PER_SLOT * draft.laid["concurrency"]
        else:
            sessions = math.ceil(rate * OPEN_LOOP_S)
        return max(int(sessions) * turns, draft.whole_sessions(self.needed))
