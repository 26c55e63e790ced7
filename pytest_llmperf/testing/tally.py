"""What the fake counts, in the names that SGLang gives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .generation import Generation

_BY_STREAM = (
    ("num_requests_total", "Number of requests processed."),
    ("prompt_tokens_total", "Number of prefill tokens processed."),
    ("generation_tokens_total", "Number of generation tokens processed."),
)


class Tally:
    """Counters over the server's life, and what SGLang forgets at a flush."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, bool]] = Counter()
        self._cached = 0
        self._verify_calls = 0
        self._hit_rate = 0.0
        self._accepted = 0
        self._steps = 0

    def admitted(self, prompt_tokens: int, cached_tokens: int) -> None:
        """A prompt was processed."""
        self._hit_rate = cached_tokens / prompt_tokens if prompt_tokens else 0.0

    def finished(self, generation: Generation) -> None:
        """A request left; what it cost counts now, as in SGLang."""
        stream = generation.asked.stream
        self._counts["num_requests_total", stream] += 1
        self._counts["prompt_tokens_total", stream] += generation.truth.prompt_tokens
        self._counts["generation_tokens_total", stream] += generation.sent
        self._cached += generation.truth.cached_tokens
        steps = generation.verify_calls
        self._verify_calls += steps
        self._steps += steps
        self._accepted += generation.sent - 1 if steps else 0

    def flushed(self) -> None:
        """The mean acceptance starts anew; counters go on."""
        self._accepted = self._steps = 0

    @property
    def accept_length(self) -> float | None:
        """Tokens per verification step since the last flush; ``None`` before the first."""
        return self._accepted / self._steps if self._steps else None

    def prometheus(self, model: str, *, received: int, running: int) -> str:
        """All of it in Prometheus' text format."""
        lines = [*self._lines(model, running), "# TYPE sim:requests_total counter"]
        return "\n".join([*lines, f"sim:requests_total {received}", ""])

    def _lines(self, model: str, running: int) -> Iterator[str]:
        labels = f'engine_type="unified",model_name="{_escaped(model)}"'
        for name, meaning in _BY_STREAM:
            yield from _head(name, "counter", meaning)
            for stream in (False, True):
                if value := self._counts[name, stream]:
                    told = "true" if stream else "false"
                    yield _line(name, f'{labels},is_streaming="{told}"', value)
        yield from _head("cached_tokens_total", "counter", "Number of cached prompt tokens.")
        if self._cached:
            yield _line("cached_tokens_total", f'cache_source="device",{labels}', self._cached)
        yield from _head("spec_verify_calls_total", "counter", "Verification calls.")
        if self._verify_calls:
            yield _line("spec_verify_calls_total", labels, self._verify_calls)
        rank = f'{labels},moe_ep_rank="0",pp_rank="0",tp_rank="0"'
        for name, level in self._gauges(running):
            yield from _head(name, "gauge", name.replace("_", " "))
            yield _line(name, rank, level)

    def _gauges(self, running: int) -> Iterator[tuple[str, float]]:
        yield "num_running_reqs", running
        yield "num_queue_reqs", 0
        yield "cache_hit_rate", self._hit_rate
        yield "spec_accept_length", self.accept_length or 0.0


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP sglang:{name} {meaning}"
    yield f"# TYPE sglang:{name} {kind}"


def _line(name: str, labels: str, value: float) -> str:
    return f"sglang:{name}{{{labels}}} {float(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
