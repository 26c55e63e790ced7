"""A run, planned: which sessions there are, when each starts, and the bytes of their requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pytest_llmperf.errors import ServerError, UsageMistake
from pytest_llmperf.load.declare.arrivals import (
    Process,
    offsets_by_count,
    offsets_by_duration,
    offsets_of_trace,
)
from pytest_llmperf.load.declare.sources import Item, items_of
from pytest_llmperf.load.declare.workloads import DEFAULT_CONCURRENCY
from pytest_llmperf.load.planned import Asked, Session, Turn
from pytest_llmperf.load.send.connect import Origin
from pytest_llmperf.records import Json, Workload

from .asking import Target, api_path, body, post
from .prompts import Part
from .rehearsal import Recipe
from .scripts import Ask, IdPen, Invented, Pen, Retold, Script, TextPen, Traced

T = TypeVar("T")


class Plan:
    """The sessions of one part of a run, each made when it is asked for.

    ``sessions`` is how many there are, ``None`` without end; ``requests`` counts their turns.
    ``due_ns`` holds start offsets by session number in an open loop, and is ``None`` in a closed
    one, which keeps ``concurrency`` sessions active. Warming up is always a closed loop of whole
    sessions. Equal arguments make equal plans, in every process.

    Raises :class:`~pytest_llmperf.errors.ServerError` where the server leaves prompts no room.
    """

    def __init__(
        self,
        workload: Workload,
        recipe: Recipe,
        target: Target,
        origin: Origin,
        *,
        seed: int,
        part: Part,
    ) -> None:
        self._workload = workload
        self._recipe = recipe
        self._target = target
        self._origin = origin
        self._path = api_path(origin, workload.api)
        self._headers = target.headers
        if not recipe.keeps_alive:
            self._headers += (("Connection", "close"),)
        self._pause_ns = round(workload.think_time_s * 1e9)
        items = _items(workload)
        self._script = _script(workload, recipe, items, seed, part)
        self.due_ns = _due_ns(workload, items, seed) if part == "measured" else None
        self.sessions = self._count(items, part)
        self.concurrency = workload.concurrency or DEFAULT_CONCURRENCY
        if part == "warmup" and self.sessions is not None:
            self.concurrency = min(self.concurrency, self.sessions)

    @property
    def requests(self) -> int | None:
        """All requests of the plan; ``None`` without end."""
        return None if self.sessions is None else self.sessions * self._workload.turns

    def _count(self, items: Sequence[Item], part: Part) -> int | None:
        workload = self._workload
        if part == "warmup":
            return -(-workload.warmup_requests // workload.turns)
        if self.due_ns is not None:
            return len(self.due_ns)
        if workload.requests is not None:
            return workload.requests // workload.turns
        return len(items) or None  # what a file holds is never sent twice

    def session(self, number: int) -> Session:
        """Session ``number``, always the same."""
        asks = self._script.asks(number)
        turns = tuple(self._turn(number, turn, ask) for turn, ask in enumerate(asks))
        return Session(turns=turns, pause_ns=self._pause_ns)

    def _turn(self, number: int, turn: int, ask: Ask) -> Turn:
        workload = self._workload
        return Turn(
            index=number * workload.turns + turn,
            payload=post(self._origin, self._path, self._content(ask), self._headers),
            asked=Asked(
                output_tokens=ask.output_tokens,
                api=workload.api,
                input_tokens=ask.input_tokens,
                exact=self._target.exact_output,
                stream=workload.stream,
            ),
            session=number,
            turn=turn,
        )

    def _content(self, ask: Ask) -> dict[str, Json]:
        prompt = ask.prompt
        content = body(
            self._target,
            self._workload,
            "" if isinstance(prompt, tuple) else prompt,
            usage=self._recipe.usage,
            max_tokens=ask.output_tokens,
            stream=self._workload.stream,
        )
        if isinstance(prompt, tuple):
            content["messages"] = [dict(message) for message in prompt]
        return content


def _items(workload: Workload) -> Sequence[Item]:
    if workload.source is None:
        return ()
    try:
        return items_of(workload.source)
    except UsageMistake as mistake:
        raise ServerError(str(mistake)) from None


def _script(
    workload: Workload, recipe: Recipe, items: Sequence[Item], seed: int, part: Part
) -> Script:
    if workload.source is not None and workload.source.kind != "trace":
        return Retold(items, workload, part=part)
    if recipe.pool is not None:
        return _written(IdPen(recipe.pool), workload, recipe, items, seed, part)
    if recipe.units is not None:
        return _written(TextPen(recipe.units), workload, recipe, items, seed, part)
    raise ValueError("a recipe needs units or a pool")


def _written(
    pen: Pen[T], workload: Workload, recipe: Recipe, items: Sequence[Item], seed: int, part: Part
) -> Script:
    if items:
        return Traced(pen, items, workload, seed=seed, part=part, overhead=recipe.overhead)
    return Invented(
        pen,
        workload,
        seed=seed,
        part=part,
        overhead=recipe.overhead,
        pair_overhead=recipe.message_overhead,
    )


def _due_ns(workload: Workload, items: Sequence[Item], seed: int) -> Sequence[int] | None:
    """Start offsets in an open loop. A file's sessions end with it."""
    if workload.arrivals == "closed":
        return None
    if workload.arrivals == "trace":
        return offsets_of_trace(
            [item.arrival_s for item in items[: workload.requests]],
            speed=workload.trace_speed,
            duration_s=workload.duration_s,
        )
    if workload.rate is None:
        raise ValueError(f"{workload.arrivals} arrivals need a rate")
    process = Process(
        kind=workload.arrivals,
        rate=workload.rate,
        final_rate=workload.final_rate,
        burstiness=workload.burstiness,
    )
    if workload.requests is not None:
        return offsets_by_count(process, workload.requests // workload.turns, seed=seed)
    if workload.duration_s is None:
        raise ValueError("an open loop needs requests or duration_s")
    due = offsets_by_duration(process, workload.duration_s, seed=seed)
    return due[: len(items)] if items else due
