"""One scripted response as it grows: its words, its tokens, its usage. No bytes yet."""

from __future__ import annotations

from pytest_llmperf import clock

from .asked import Asked
from .script import Script, Truth, Usage
from .wording import Wording

_OFF = {"short": -1, "long": 1}
_FIRST_ID = 1000


class Generation:
    """What has been said of one response, and how it is counted.

    ``spare`` is the part of a verification step that earlier responses left over.
    """

    def __init__(
        self, script: Script, asked: Asked, truth: Truth, wording: Wording, spare: float = 0.0
    ) -> None:
        self.script = script
        self.asked = asked
        self.truth = truth
        self.fault = truth.fault
        self.usage_level: Usage = "none" if truth.fault == "no_usage" else asked.usage
        self._wording = wording
        words = asked.tokens if wording.count is None else min(asked.tokens, wording.count)
        self.total = 0 if truth.fault == "empty" else max(0, words + _off(truth))
        self.reasoning = round(self.total * script.reasoning_fraction)
        self.sent = 0
        self._spare = spare
        self._tagged = bool(self.reasoning) and (script.think_tags or asked.api != "chat")

    @property
    def id(self) -> str:
        return f"sim-{self.truth.index}"

    @property
    def age_s(self) -> float:
        """Seconds since the request came."""
        return (clock.now_ns() - self.truth.received_ns) / 1e9

    @property
    def finished(self) -> bool:
        return self.sent >= self.total and self.fault != "infinite"

    @property
    def fault_after(self) -> int:
        """Tokens after which a fault in the middle happens: no later than at the end."""
        return min(self.script.fault_after_tokens, self.total)

    @property
    def kind(self) -> str:
        """Of the next token."""
        return "reasoning" if self.sent < self.reasoning else "answer"

    @property
    def reason(self) -> str:
        """Why it ends."""
        return "stop" if self._wording.count == self.total else "length"

    def logprobs(self) -> list[tuple[str, float]] | None:
        """What has been said, word by word, and how likely each was; ``None`` if nobody asked."""
        if not self.asked.logprobs:
            return None
        wording = self._wording
        return [(wording.word(at), wording.logprob(at)) for at in range(self.sent)]

    @property
    def tagged(self) -> bool:
        """Whether thinking is told by tags in the text, not by a field of its own."""
        return self._tagged

    def next_size(self) -> int:
        """Tokens of the next chunk; one chunk never spans the end of the reasoning."""
        if self.sent >= self.total:  # only a response without end comes here
            return self.script.tokens_per_chunk
        border = self.reasoning if self.sent < self.reasoning else self.total
        return min(self.script.tokens_per_chunk, border - self.sent)

    def say(self, count: int) -> str:
        """The next ``count`` tokens."""
        start = self.sent
        words = [self._wording.word(position) for position in range(start, start + count)]
        if self._tagged:
            if start == 0:
                words[0] = "<think>"
            if start <= self.reasoning - 1 < start + count:
                words[self.reasoning - 1 - start] = "</think>"
        self.sent += count
        return "".join(words)

    def ids(self, start: int = 0) -> list[int]:
        """Token ids of what has been said, from the ``start``-th token on."""
        return list(range(_FIRST_ID + start, _FIRST_ID + self.sent))

    def usage(self) -> dict[str, object]:
        """As the OpenAI API reports it."""
        prompt = self.truth.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.sent,
            "total_tokens": prompt + self.sent,
            "prompt_tokens_details": {"cached_tokens": self.truth.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoned},
        }

    @property
    def verify_calls(self) -> int:
        """Steps of speculative decoding so far; the first token needs none."""
        return int(self.steps_of(self.sent))

    def steps_of(self, tokens: int) -> float:
        """What ``tokens`` cost in steps, the spare part included; 0 without speculation."""
        if self.script.accept_length is None or tokens < 2:
            return 0.0
        return max(1.0, (tokens - 1) / self.script.accept_length + self._spare)

    @property
    def reasoned(self) -> int:
        """Tokens of reasoning so far."""
        return min(self.sent, self.reasoning)


def _off(truth: Truth) -> int:
    return _OFF.get(truth.fault or "", 0)
