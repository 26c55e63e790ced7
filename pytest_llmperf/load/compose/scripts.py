"""What each session asks, turn by turn: made up, told by a trace, or read from a file.

A script is a function of the session's number: any process, at any time, gets the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pytest_llmperf.errors import ServerError
from pytest_llmperf.load.declare.lengths import bounds, uniform
from pytest_llmperf.load.declare.sources import BLOCK_TOKENS, Item
from pytest_llmperf.records import Json, Workload

from .prompts import IdPool, Part, Sequences, Units, as_text

#: A conversation as the chat API takes it.
Messages = tuple[Mapping[str, Json], ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request in words: a text, token ids, or a conversation.

    ``input_tokens`` is ``None`` for a text that nobody has counted.
    """

    prompt: str | list[int] | Messages
    output_tokens: int
    input_tokens: int | None


class Script(Protocol):
    """The requests of session ``number``, which go one after another."""

    def asks(self, number: int) -> list[Ask]: ...


class Pen(Protocol[T]):
    """Makes a prompt of units."""

    @property
    def units(self) -> Sequence[T]: ...
    def prompt(self, sequence: list[T]) -> str | list[int]: ...


@dataclass(frozen=True, slots=True)
class TextPen:
    """Writes texts."""

    words: Units

    @property
    def units(self) -> Sequence[str]:
        return self.words.items

    def prompt(self, sequence: list[str]) -> str:
        return as_text(self.words, sequence)


@dataclass(frozen=True, slots=True)
class IdPen:
    """Writes lists of token ids."""

    pool: IdPool

    @property
    def units(self) -> Sequence[int]:
        return self.pool.ids

    def prompt(self, sequence: list[int]) -> list[int]:
        return sequence


class Invented(Generic[T]):
    """Made-up prompts of exact lengths, with shared prefixes and further turns where asked for.

    ``overhead`` is what the server puts around a prompt, ``pair_overhead`` what it puts around an
    answer and the question after it; both are tokens, and part of the lengths asked for.

    Later turns quote answers that are drawn like prompts, not the server's own, so that every
    server compared is sent the same bytes.
    """

    def __init__(
        self,
        pen: Pen[T],
        workload: Workload,
        *,
        seed: int,
        part: Part,
        overhead: int,
        pair_overhead: int,
    ) -> None:
        self._pen = pen
        self._workload = workload
        self._overhead = overhead
        self._pair_overhead = pair_overhead
        self._name = f"{part}:{seed}:lengths".encode()
        self._own = Sequences(pen.units, key=str(seed), part=part)
        self._prefixes = self._shared(seed, part)
        self._check()

    def _shared(self, seed: int, part: Part) -> list[list[T]]:
        """Prefixes that outlive a run where the server's cache does."""
        workload = self._workload
        if not workload.shared_prefix_tokens:
            return [[]]
        drawn = Sequences(
            self._pen.units,
            key=f"prefixes:{seed if workload.flush else workload.seed}",
            part=part if workload.flush else "measured",
        )
        length = workload.shared_prefix_tokens
        return [drawn.starting(number, length) for number in range(workload.prefixes)]

    def _check(self) -> None:
        workload = self._workload
        around = self._overhead + workload.shared_prefix_tokens
        least = bounds(workload.input_tokens or 0, workload.length_spread)[0]
        if least <= around:
            raise _too_short("input_tokens", least, around, workload.length_spread)
        added = bounds(workload.turn_input_tokens, workload.length_spread)[0]
        if workload.turns > 1 and added <= self._pair_overhead:
            raise _too_short(
                "turn_input_tokens", added, self._pair_overhead, workload.length_spread
            )

    def asks(self, number: int) -> list[Ask]:
        """The requests of session ``number``."""
        workload = self._workload
        total = self._length("input", number, 0, workload.input_tokens or 0)
        prefix = self._prefixes[number % len(self._prefixes)]
        own = total - self._overhead - workload.shared_prefix_tokens
        said = [prefix + self._own.starting(number, own)]
        asks = []
        for turn in range(workload.turns):
            output = self._length("output", number, turn, workload.output_tokens or 0)
            prompt = self._prompt(said)
            asks.append(Ask(prompt=prompt, output_tokens=output, input_tokens=total))
            if turn + 1 < workload.turns:
                more = self._length("more", number, turn, workload.turn_input_tokens)
                said += self._exchange(number, turn, output, more)
                total += output + more
        return asks

    def _exchange(self, number: int, turn: int, output: int, more: int) -> list[list[T]]:
        """An answer, and the question that follows it."""
        return [
            self._own.following(f"{number}/{turn}/answer", output),
            self._own.following(f"{number}/{turn}/more", more - self._pair_overhead),
        ]

    def _prompt(self, said: list[list[T]]) -> str | list[int] | Messages:
        if self._workload.api != "chat" or len(said) == 1:
            return self._pen.prompt([unit for part in said for unit in part])
        roles = ("user", "assistant")
        texts = [str(self._pen.prompt(part)) for part in said]
        return tuple({"role": roles[at % 2], "content": text} for at, text in enumerate(texts))

    def _length(self, what: str, number: int, turn: int, mean: int) -> int:
        spread = self._workload.length_spread
        if not spread:
            return mean
        return uniform(self._name, f"{what}/{number}/{turn}", *bounds(mean, spread))


class Traced(Generic[T]):
    """Made-up prompts of the lengths of a trace; blocks of equal names are equal, in every run."""

    def __init__(
        self,
        pen: Pen[T],
        items: Sequence[Item],
        workload: Workload,
        *,
        seed: int,
        part: Part,
        overhead: int,
    ) -> None:
        self._pen = pen
        self._items = items
        self._overhead = overhead
        self._own = Sequences(pen.units, key=str(seed), part=part)
        self._blocks = Sequences(pen.units, key=f"blocks:{workload.seed}", part=part)
        least = min(item.input_tokens or 0 for item in items)
        if least <= overhead:
            raise _too_short("the input length of a request", least, overhead, 0.0)

    def asks(self, number: int) -> list[Ask]:
        """The one request of session ``number``; past the end of the trace it begins anew."""
        item = self._items[number % len(self._items)]
        length = item.input_tokens or 0
        units = self._units(item, number, length - self._overhead)
        prompt = self._pen.prompt(units)
        return [Ask(prompt=prompt, output_tokens=item.output_tokens or 0, input_tokens=length)]

    def _units(self, item: Item, number: int, length: int) -> list[T]:
        if not item.blocks:
            return self._own.starting(number, length)
        units = [
            unit for block in item.blocks for unit in self._blocks.starting(block, BLOCK_TOKENS)
        ]
        return units[:length]


class Retold:
    """Prompts as they stand in a file. Warming up takes them from the end of it."""

    def __init__(self, items: Sequence[Item], workload: Workload, *, part: Part) -> None:
        self._items = items if part == "measured" else items[::-1]
        self._output_tokens = workload.output_tokens

    def asks(self, number: int) -> list[Ask]:
        """The one request of session ``number``."""
        item = self._items[number % len(self._items)]
        prompt: str | list[int] | Messages | None = item.text
        if prompt is None:
            prompt = item.messages if item.ids is None else list(item.ids)
        output = item.output_tokens or self._output_tokens
        if prompt is None or output is None:
            raise ValueError("a request of a file needs a prompt and an output length")
        return [Ask(prompt=prompt, output_tokens=output, input_tokens=item.input_tokens)]


def _too_short(field: str, least: int, around: int, spread: float) -> ServerError:
    drawn = f" (its least, with length_spread={spread:g})" if spread else ""
    return ServerError(
        f"{field}={least}{drawn} is too small: what is put around the words alone, by the "
        f"server and by shared_prefix_tokens, takes {around} tokens",
        remedy=f"ask for at least {around + 1} tokens there",
    )
