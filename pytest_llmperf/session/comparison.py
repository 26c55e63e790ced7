"""What a measurement was compared with, and why it was not."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from pytest_llmperf.gates.comparable import differences, refusal
from pytest_llmperf.gates.design import FEWEST_PAIRS, Design, Prior
from pytest_llmperf.gates.regression import Pair
from pytest_llmperf.records import Json, RegressionGate, ServerRequest, Side
from pytest_llmperf.redact import redact_argv, redact_env, redact_text

#: Of a gate's chance of a false alarm, what the looks at its metric may use; the rest is for
#: the test of failed requests beside it.
SHARE_OF_LOOKS = 0.9


def _design(pairs: int, alpha: float) -> Design:
    looks = tuple(range(FEWEST_PAIRS, pairs + 1, 2))
    return Design(loss_to_catch=0.5, alpha=SHARE_OF_LOOKS * alpha, looks=looks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why nothing is compared. ``covered`` as in a verdict: false where it is always red."""

    code: str
    reason: str
    covered: bool

    @classmethod
    def identical(cls, against: str) -> Self:
        """Both sides run the same."""
        return cls(
            code="identical",
            reason=(
                f"nothing to compare: the server and its reference ({against}) run the same code, "
                "libraries and arguments; name another reference, or add --llmperf-aa to see the "
                "noise between two equal servers"
            ),
            covered=False,
        )

    @classmethod
    def unlike(cls, against: str) -> Self:
        """One side is launched here, the other runs somewhere."""
        return cls(
            code="unlike",
            reason=(
                f"not comparable: one of the server and its reference ({against}) is launched here "
                "and the other runs somewhere already, so a difference may be the machine's; "
                "launch both, or attach to both (--llmperf-url and --llmperf-reference-url)"
            ),
            covered=False,
        )

    @classmethod
    def elsewhere(cls, against: str, ours: Sequence[str], theirs: Sequence[str]) -> Self:
        """The sides ran on other devices of this machine, named by their UUIDs."""
        return cls(
            code="unlike",
            reason=(
                f"not comparable: unlike devices, for the server ran on {', '.join(ours)} and its "
                f"reference ({against}) on {', '.join(theirs)}, so a difference may be theirs; let "
                "both choose the same (devices=, env=, or the server's arguments)"
            ),
            covered=False,
        )

    @classmethod
    def held(
        cls,
        gate: RegressionGate,
        subject: Mapping[str, Json],
        other: Mapping[str, Json],
        against: str,
        mode: Literal["history", "ab"],
    ) -> Self | None:
        """What the gate's test holds fixed and is not equal; ``None`` where all of it is."""
        found = differences(subject, other, gate.subject) if gate.subject else ()
        if not found:
            return None
        return cls(code="subject", reason=refusal(found, against, held=mode), covered=False)

    @classmethod
    def blind(cls, pairs: int, alpha: float, of: str = "launches") -> Self:
        """No look could show a loss at this gate's share of the false alarms."""
        needed = next(n for n in range(pairs + 2, 100, 2) if _design(n, alpha).fewest_to_fail)
        return cls(
            code="too_few_pairs",
            reason=(
                f"too few pairs: with at most {pairs} pairs of {of} no loss of any size could "
                f"be shown, for all gates share the false alarms; allow {needed} "
                "(--llmperf-pairs, --llmperf-budget), or declare fewer gates"
            ),
            covered=False,
        )

    @classmethod
    def too_expensive(
        cls, budget_s: float, pair_s: float, fewest: int, of: str = "launches"
    ) -> Self:
        """The time allowed ends before anything could be decided."""
        return cls(
            code="budget",
            reason=(
                f"no time for a comparison: a pair of {of} takes {pair_s / 60:.1f} min here, "
                f"and {fewest} of them do not fit into --llmperf-budget {budget_s / 60:.3g}m"
            ),
            covered=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a judge needs beside the numbers of one side.

    ``against`` names the reference in words, ``changed`` is what differs between the two.
    ``left_out`` counts the launches of each side that gave no valid run.
    """

    against: str
    changed: tuple[str, ...]
    refusal: Refusal | None
    pairs: Callable[[str], list[Pair]]
    design: Callable[[RegressionGate], Design]
    priors: Mapping[str, Prior]
    left_out: Mapping[Side, int]
    #: What a pair is made of: visits where both servers run already.
    of: Literal["launches", "visits"] = "launches"
    #: The first so many pairs of a metric with every run, where some of them did not count.
    with_invalid: Callable[[str, int], list[Pair]] = lambda *_: []
    #: Why single gates are refused: what their tests hold fixed differs.
    held: Mapping[RegressionGate, Refusal] = field(default_factory=dict)

    def refused(self, gate: RegressionGate) -> Refusal | None:
        return self.refusal or self.held.get(gate)


def described(
    request: ServerRequest, than: ServerRequest, version: str | None, *, name: str = ""
) -> str:
    """A server in words, by what tells it from another one that was asked for; ``name`` stands for
    its interpreter."""
    engine = f"{request.engine} {version}" if version else request.engine
    if request.url is not None:
        return f"{engine} at {redact_text(request.url)}"
    parts = []
    if request.model != than.model:
        parts.append(f"serving {request.model}")
    if request.args != than.args:
        shown = shlex.join(redact_argv(request.args))
        parts.append(f"with {shown}" if shown else "without arguments")
    if request.recipe != than.recipe:
        parts.append("with its recipe" if request.recipe else "without a recipe")
    if request.env != than.env:
        own = dict(redact_env(request.env))
        other = dict(redact_env(than.env))
        changed = sorted(key for key in own.keys() | other.keys() if own.get(key) != other.get(key))
        parts += [f"{key}={own[key]}" if key in own else f"without {key}" for key in changed]
    if request.image != than.image:
        parts.append(f"in {request.image}" if request.image else "in no container")
    python = name or request.python or ("" if request.image else "the Python that runs pytest")
    if request.python != than.python and python:
        parts.append(f"of {python}")
    return (", " if len(parts) > 1 else " ").join([engine, *parts])
