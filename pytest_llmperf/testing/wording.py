"""Which words a response has, and how likely each of them is said to be: decided by the prompt."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

from .script import Script

#: The least likely word is said to have a log-probability of about this.
_DEEPEST = -2.0

#: Questions and the words of their answers.
Answers = Sequence[tuple[bytes, tuple[str, ...]]]


def read_answers(path: str | None) -> Answers:
    """The answers of a file of JSON lines with ``question`` and ``answer``; none without a file."""
    if path is None:
        return ()
    lines = (line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip())
    entries = [json.loads(line) for line in lines]
    return [(each["question"].strip().encode(), _words(each["answer"])) for each in entries]


def _words(text: str) -> tuple[str, ...]:
    return tuple(f"{word} " for word in text.split())


class Wording:
    """The words of one response.

    ``luck`` is what this launch has drawn. ``count`` is how many words a scripted answer has,
    ``None`` where the words go on for ever.
    """

    def __init__(
        self, script: Script, prompt: Sequence[int], answers: Answers = (), luck: float = 0.0
    ) -> None:
        self._script = script
        self._luck = luck
        self._said: tuple[str, ...] = ()
        self.count: int | None = None
        self._prompt = b""
        if answers or script.disturb or script.logprob_noise:
            self._prompt = bytes(token for token in prompt if 0 <= token < 256)
        for question, words in answers:
            if question in self._prompt:
                self._said, self.count = words, len(words)
                break

    def word(self, position: int) -> str:
        """The word at ``position``, counted from 0, with a blank behind it."""
        if self._script.disturb and self._draw("word", position).random() < self._script.disturb:
            return f"x{position} "
        return self._said[position] if position < len(self._said) else f"w{position} "

    def logprob(self, position: int) -> float:
        """Its log-probability."""
        found = _DEEPEST * self._draw("logprob", position).random() - self._script.logprob_shift
        if self._script.logprob_noise:
            drawn = self._draw(f"noise {self._luck}", position)
            found += drawn.gauss(0.0, self._script.logprob_noise)
        return min(0.0, found)

    def _draw(self, what: str, position: int) -> random.Random:
        """Chance that is the same whenever the same is asked."""
        seed = hashlib.sha256(b"%b %d " % (what.encode(), position) + self._prompt).digest()
        return random.Random(seed)
