"""What servers say, as far as it is looked at: sampled texts, fixed prompts, questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputQuality:
    """What the successful responses of one run were like.

    ``answered`` is how many there were, ``without_text`` how many of them showed not one
    character. Of the first ``sampled`` of them the text was looked at: ``distinct`` is how many
    began differently, ``repetition`` the mean share of a text that compressing it saves (1 would
    be nothing but repetition), ``None`` where all were too short to tell.
    """

    answered: int
    without_text: int
    finish_reasons: Mapping[str, int]
    sampled: int
    distinct: int
    repetition: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server answers to a fixed prompt when it samples greedily.

    ``tokens`` and the log-probability of each (natural logarithm) are empty where the server does
    not tell them.
    """

    text: str
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()


#: The replies of one launch to the fixed prompts, in their order.
Fingerprint = tuple[Reply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question whose right answer is a number, as text."""

    text: str
    answer: str
