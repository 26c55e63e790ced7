"""GitLab's metrics report, for ``artifacts: reports: metrics:``.

Source: gitlab-org/gitlab, ee/lib/gitlab/ci/parsers/metrics/generic.rb and doc/ci/testing/
metrics_reports.md (2026): a name and a value on each line, split as a shell would; whatever follows
a ``#`` is gone, also inside quotes. Values are texts, and any other text is a change: so they are
rounded to four digits, and only what is usual or gated is told. The lines are OpenMetrics text, but
for its end marker, which GitLab does not need, in the units of docs/metrics.md. Lost: intervals,
directions, and everything that does not hold in one line a figure.
"""

from __future__ import annotations

import re
from pathlib import Path

from pytest_llmperf.metrics.units import format_number

from .exports.figures import Document, figures, shortened
from .told import told_gates

#: What a unit is called in a metric's name.
_UNITS = {
    "ms": "milliseconds",
    "s": "seconds",
    "tok/s": "tokens_per_second",
    "req/s": "requests_per_second",
    "tok": "tokens",
    "J/tok": "joules_per_token",
    "tok/J": "tokens_per_joule",
    "$": "dollars",
    "GiB": "gibibytes",
    "1": "ratio",
}
_DIGITS = 4


def files(document: Document, path: Path) -> dict[Path, str]:
    return {path: render(document)}


def render(document: Document) -> str:
    """A line for each figure and for each gate; gates that pass, or fail as they were
    expected to, are 1, others 0."""
    lines = {
        f"{figure.metric}_{_UNITS[figure.unit]}{_label(figure.name)}": _number(figure.value)
        for figure in figures(document, all_metrics=False)
    }
    for gate in told_gates(document):
        name = f"gate_{gate['kind']}_{gate['metric']}{_label(gate['test'])}"
        fine = gate["verdict"] == "pass" or gate["expected"]
        lines[name] = str(int(fine and lines.get(name) != "0"))
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def _number(value: float) -> str:
    return format_number(value, digits=_DIGITS).replace(",", "")


def _label(name: str) -> str:
    """A label that neither a shell nor OpenMetrics reads otherwise than it is written."""
    clean = re.sub(r"[\"'\\#{}]", "_", shortened(name))
    return f'{{test="{clean}"}}'
