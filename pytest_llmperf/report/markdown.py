"""The report for GitHub: a job's step summary and a pull request's comment, verdict first.

Whatever comes from a test, a server or a model is inert: it makes no tags, no links, no mentions
and no rows. What is too long for its place loses the passing gates first, then reasons, then rows,
and says what it lost. Source of the limits: GitHub's documentation of workflow commands (1 MiB for
the summaries of a step) and the API of comments (65,536 characters), 2026; both are counted in
bytes of UTF-8 here, which are never fewer than characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmperf.inert import cleaned
from pytest_llmperf.metrics import units

from .page_gates import gate_loss
from .page_sessions import notes
from .told import PROBLEMS, SIMULATED, first_line, told_gates
from .words import beside, count, ends, percent, short, worse

#: Bytes of a step's summary, and of a comment.
SUMMARY_LIMIT = 2**20
COMMENT_LIMIT = 65_536
#: The first line, by which whoever posts the comment finds the one to replace.
MARK = "<!-- pytest-llmperf -->"
_LONGEST = 300
_LONGEST_REASON = 1000
#: Characters of a test's name in a table: those that need no break, and the most.
_ONE_LINE, _LONGEST_NAME = 24, 120
_MOST_LISTED = 20
#: Servers and accelerators that are named in the head.
_FEW = 3
_SAFE = re.compile(r"[A-Za-z0-9 .,;()/%+='\-]")
#: The other characters of ASCII, by what stands for them; see :func:`prose`.
_INERT = {
    number: f"&#{number};{'&#8203;' if chr(number) in '@#' else ''}"
    for number in range(128)
    if not _SAFE.match(chr(number))
}
_HEADS = {
    "fail": "❌ pytest-llmperf: FAIL",
    "inconclusive": "⚠️ pytest-llmperf: inconclusive",
    "pass": "✅ pytest-llmperf: pass",
    "none": "pytest-llmperf: nothing to judge",
}
#: Lines of a table before its first row.
_ABOVE_ROWS = 2
_COLUMNS = ("gate", "value", "limit", "difference", "interval")

Document = Mapping[str, Any]
Gate = Mapping[str, Any]


def files(document: Document, path: Path) -> dict[Path, str]:
    """As an export: a comment's worth of it."""
    return {path: markdown(document, limit=COMMENT_LIMIT)}


def markdown(document: Document, *, limit: int) -> str:
    """The report in at most ``limit`` bytes of GitHub's Markdown; 2,000 are enough for its head."""
    gates = told_gates(document)
    bad = sorted((gate for gate in gates if gate["verdict"] != "pass"), key=_badness)
    good = [gate for gate in gates if gate["verdict"] == "pass"]
    head, wrong, known = _head(document), _troubles(document), _notes(document)
    noted, troubles = _first_of(known), _first_of(wrong)
    table, terse = _table(bad, reasons=True), _table(bad, reasons=False)
    uncounted = _left_out(len(good), "passing gate")
    for rows, passing in ((table, _passing(good)), (table, uncounted), (terse, uncounted)):
        text = _joined([*head, *noted, *rows, *troubles, *passing])
        if _size(text) <= limit:
            return text

    untold = _left_out(len(wrong), "problem beside gates", "problems beside gates")
    untold += _left_out(len(known), "note")

    def with_rows(shown: int) -> str:
        missing = _left_out(len(bad) - shown, "gate that did not pass", "gates that did not pass")
        return _joined([*head, *_first_rows(terse, shown), *missing, *untold, *uncounted])

    return with_rows(_most(len(bad), lambda shown: _size(with_rows(shown)) <= limit))


def _most(count: int, fits: Callable[[int], bool]) -> int:
    """The most of ``count`` that fit; more never take less room."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _joined(parts: Iterable[str]) -> str:
    return "\n".join(parts) + "\n"


def _size(text: str) -> int:
    return len(text.encode())


def _badness(gate: Gate) -> tuple[int, float]:
    """What failed comes first, the largest loss of it before all."""
    if gate["expected"]:
        return 3, 0.0
    if gate["verdict"] == "fail":
        return 0, -gate_loss(gate)
    return 2 if gate["covered"] else 1, 0.0


# --- the head --------------------------------------------------------------------------------


def _head(document: Document) -> list[str]:
    expected = sum(gate["expected"] for gate in told_gates(document))
    found = document["counts"]["gates"]
    counts = {**found, "fail": found["fail"] - expected, "expected": expected}
    told = [
        f"{counts[name]} {word}"
        for name, word in (
            ("fail", "failed"),
            ("expected", "failed as expected"),
            ("not_covered", "not covered"),
            ("inconclusive", "inconclusive"),
            ("pass", "passed"),
        )
        if counts[name]
    ]
    lines = [MARK, f"## {_HEADS[document['verdict']]}", ""]
    if told:
        lines += [f"{count(sum(counts.values()), 'gate')}: {', '.join(told)}.", ""]
    if document["simulated"]:
        lines += [f"**SIMULATED**: {SIMULATED}", ""]
    if not document["complete"]:
        lines += ["**INCOMPLETE**: the session was interrupted, or results were lost.", ""]
    return [*lines, " · ".join(_about(document)), ""]


def _notes(document: Document) -> list[str]:
    """What to know of sessions that were merged, a line each."""
    return [f"- {prose(note, longest=_LONGEST_REASON)}" for note in notes(document)]


def _about(document: Document) -> Iterator[str]:
    """What was measured on what, in one line."""
    yield from _few(map(_server, document["servers"]), "server")
    accelerators = document["environment"]["accelerators"]
    yield from _few(
        (f"{prose(each['product'])} x{each['count']}" for each in accelerators), "accelerator"
    )
    if commit := document["environment"]["git"]["commit"]:
        yield f"commit {code(commit[:10])}"
    yield f"pytest-llmperf {prose(document['tool']['version'])}"


def _few(names: Iterable[str], what: str) -> Iterator[str]:
    found = list(dict.fromkeys(names))
    yield from found[:_FEW]
    if len(found) > _FEW:
        yield count(len(found) - _FEW, f"other {what}")


def _server(server: Mapping[str, Any]) -> str:
    version = f" {server['version']}" if server["version"] else ""
    return f"{prose(server['engine'] + version)} {code(server['model'] or 'model unknown')}"


# --- gates -----------------------------------------------------------------------------------


def _table(gates: Sequence[Gate], *, reasons: bool) -> list[str]:
    if not gates:
        return []
    columns = ["verdict", *_COLUMNS, *["reason"] * reasons]
    return [
        *_heading(columns),
        *(_row([_verdict(gate), *_cells(gate), *_reason(gate, told=reasons)]) for gate in gates),
        "",
    ]


def _first_rows(table: Sequence[str], number: int) -> list[str]:
    """``table`` with no more than ``number`` rows."""
    return [*table[: _ABOVE_ROWS + number], ""] if number else []


def _passing(gates: Sequence[Gate]) -> list[str]:
    if not gates:
        return []
    return [
        "<details>",
        f"<summary>{count(len(gates), 'gate')} passed</summary>",
        "",
        *_heading(_COLUMNS),
        *(_row(_cells(gate)) for gate in gates),
        "",
        "</details>",
    ]


def _heading(columns: Sequence[str]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns))]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _verdict(gate: Gate) -> str:
    if gate["expected"]:
        return f"{gate['verdict']}, as expected"
    if gate["verdict"] == "fail":
        return "**FAIL**"
    return str(gate["verdict"]) if gate["covered"] else "**NOT COVERED**"


def _cells(gate: Gate) -> list[str]:
    return [
        f"{_spoken(gate['metric'])}<br>{_name(short(gate['test']))}"
        + "<br>SIMULATED" * gate["simulated"],
        *_value_and_limit(gate),
        _difference(gate),
        _interval(gate),
    ]


def _name(test: str) -> str:
    """In a table's narrow column: what is long may be broken where words in it end, and loses its
    middle, for its beginning and its parameters tell it apart."""
    if len(test) <= _ONE_LINE:
        return code(test)
    half = _LONGEST_NAME // 2
    shown = test if len(test) <= _LONGEST_NAME else f"{test[:half]}…{test[-half:]}"
    return re.sub(r"(&#95;|&#91;|[/-])", r"\1<wbr>", code(shown)).replace("</<wbr>", "</")


def _reason(gate: Gate, *, told: bool) -> list[str]:
    return [prose(gate["reason"], longest=_LONGEST_REASON)] if told else []


def _spoken(metric: str) -> str:
    known = metric in units.METRICS or re.search(r"_(mean|max|p\d{1,3})$", metric)
    return prose(units.spoken(metric) if known else metric)


def _value_and_limit(gate: Gate) -> tuple[str, str]:
    regression = gate["kind"] == "regression"
    against = gate["reference"] if regression else gate["limit"]
    value, bound = map(prose, beside(gate["observed"], against, gate["unit"]))
    if regression:
        known = "" if against is None else f" of {bound}"
        return value, f"no loss of {percent(gate['loss_to_catch'])}{known}"
    return value, f"{'≥' if gate['kind'] == 'floor' else '≤'} {bound}"


def _difference(gate: Gate) -> str:
    if gate["kind"] != "regression":
        return percent(gate["difference"], signed=True)
    return worse(gate["loss"], gate["loss_to_catch"])


def _interval(gate: Gate) -> str:
    """Of a limit, in the metric's unit; of a regression, how much was lost."""
    if gate["kind"] == "regression":
        low, high = gate["loss_low"], gate["loss_high"]
        lost = [percent(end, signed=True) for end in (low, high)]
        return "-" if low is None and high is None else f"{lost[0]} to {lost[1]} lost"
    low, high = gate["ci_low"], gate["ci_high"]
    if low is None and high is None:
        return "-"
    return " to ".join(prose(end) or "-" for end in ends(low, high, gate["unit"], gate["limit"]))


# --- what else went wrong --------------------------------------------------------------------


def _troubles(document: Document) -> list[str]:
    """Tests that are broken or could not measure, and problems beside single tests."""
    lines = [
        f"- {code(short(test['test']))} {PROBLEMS[test['outcome']]}: {prose(first_line(test))}"
        for test in document["tests"]
        if test["outcome"] in PROBLEMS
    ]
    problems = (prose(problem, longest=_LONGEST_REASON) for problem in document["problems"])
    return [*lines, *(f"- {problem}" for problem in problems)]


def _first_of(lines: Sequence[str]) -> list[str]:
    """A list, as far as somebody reads it."""
    if not lines:
        return []
    more = len(lines) - _MOST_LISTED
    return [*lines[:_MOST_LISTED], *[f"- and {more} more, in the report"] * (more > 0), ""]


def _left_out(number: int, one: str, many: str = "") -> list[str]:
    if not number:
        return []
    return [f"{count(number, one, many)} not shown here, for want of room; the report has all.", ""]


# --- text of others --------------------------------------------------------------------------


def code(text: str) -> str:
    """A name, as code: GitHub looks for no mentions and no issues in it."""
    return f"<code>{prose(text)}</code>"


def prose(text: str, *, longest: int = _LONGEST) -> str:
    """Text of others on one line, in which GitHub finds nothing but text.

    Every character that means anything to Markdown or HTML becomes a numeric reference. A mention
    and an issue's number would still be found, after the references are read: nothing that takes
    room is put between the sign and what follows.
    """
    clean = cleaned(text[: 4 * longest])
    shown = clean if len(clean) <= longest else f"{clean[: longest - 1]}…"
    # GitHub makes links of what begins so, without any sign before it.
    return shown.translate(_INERT).replace("www.", "www&#46;")
