"""What the sequences on real SGLang came to, as a table.

Where it stands in docs/gating.md, ``python -m benchmarks.gates.tables`` puts it.

Gates of a sequence share its launches, so they are not independent: rates come with an interval in
which the sequence is the unit.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llmperf.gates.stats import t_quantile

RESULTS = Path(__file__).parents[1] / "results"
_CONFIDENCE = 0.95
_PLANTED = {
    "test_sleeps.py::test_ten_percent": "10 % of the step, sleeping",
    "test_computes.py::test_ten_percent": "10 % of the step, computing",
    "test_sleeps.py::test_five_percent": "5 % of the step, sleeping",
    "test_computes.py::test_five_percent": "5 % of the step, computing",
    "test_alike.py::test_one_load": "nothing",
    "test_alike.py::test_another_load": "nothing",
}


@dataclass(slots=True)
class Row:
    """All gates of one kind, sequence by sequence."""

    words: list[list[str]] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    sigmas: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def add(self, gates: Sequence[Mapping[str, Any]]) -> None:
        self.words.append([gate["verdict"] for gate in gates])
        self.pairs += [gate["n_pairs"] for gate in gates]
        self.sigmas += [gate["sigma"] for gate in gates if gate["sigma"]]
        self.losses += [gate["loss"] for gate in gates if gate["loss"] is not None]

    def count(self, word: str) -> int:
        return sum(words.count(word) for words in self.words)

    @property
    def decisions(self) -> int:
        return sum(map(len, self.words))


def table() -> Iterator[str]:
    """The lines of the table."""
    yield "| planted | gate | launches | sequences | decisions | FAIL | PASS | inconclusive | " + (
        "FAIL, 95 % by sequence | pairs, mean | pair SD, median | loss seen, median |"
    )
    yield "|" + "---|" * 12
    for (planted, gate, how), row in sorted(rows().items()):
        low, high = interval([words.count("fail") / len(words) for words in row.words])
        cells = (
            planted, gate, how, len(row.words), row.decisions,
            row.count("fail"), row.count("pass"), row.count("inconclusive"),
            f"{_percent(low)} to {_percent(high)}", f"{statistics.fmean(row.pairs):.1f}",
            _percent(statistics.median(row.sigmas), 1) if row.sigmas else "–",
            _percent(statistics.median(row.losses), 1) if row.losses else "–",
        )  # fmt: skip
        yield "| " + " | ".join(map(str, cells)) + " |"


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def rows() -> dict[tuple[str, str, str], Row]:
    found: dict[tuple[str, str, str], Row] = {}
    for line in lines():
        kinds: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
        for gate in line["gates"]:
            planted = _PLANTED[gate["test"]]
            kinds.setdefault((planted, _percent(gate["loss_to_catch"]), _how(line)), []).append(
                gate
            )
        for kind, gates in kinds.items():
            found.setdefault(kind, Row()).add(gates)
    return found


def lines() -> Iterator[Mapping[str, Any]]:
    """Every sequence but those that were tried before it was settled what a sequence is."""
    for path in sorted(RESULTS.glob("real-*.jsonl")):
        every = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        yield from (line for line in every if "trial" not in line)


def _how(line: Mapping[str, Any]) -> str:
    options = " ".join(line["options"])
    launches = "side by side" if "side-by-side" in options else "one after another"
    return f"{launches}, {'not pinned' if '--llmperf-pin off' in options else 'pinned'}"


def interval(shares: Sequence[float]) -> tuple[float, float]:
    """For a rate, from the share in each sequence; where all agree, from how many agree."""
    count, mean = len(shares), statistics.fmean(shares)
    if len(set(shares)) == 1:
        reach = 1 - ((1 - _CONFIDENCE) / 2) ** (1 / count)
        return max(0.0, mean - reach), min(1.0, mean + reach)
    error = statistics.stdev(shares) / math.sqrt(count)
    reach = t_quantile(count - 1, 1 - (1 - _CONFIDENCE) / 2) * error
    return max(0.0, mean - reach), min(1.0, mean + reach)
