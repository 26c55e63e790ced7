"""The whole story, for ``-vv``: every run, every interval, and where each number comes from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.units import format_number, format_value

from .certainty import certainty
from .columns import PLAIN, Look, inert_report, table, wrapped
from .terminal import joined
from .told import told_gates
from .words import beside, count, ends, percent, quantity, short

Entry = Mapping[str, Any]
_OF_RUNS = ("ttft_p50", "ttft_p95", "tpot_mean", "e2e_p95", "output_throughput")


def story_lines(document: Entry, look: Look = PLAIN) -> list[str]:
    """What the summary leaves out: place, servers, every run, every figure, every gate."""
    document = inert_report(document)
    return joined(
        _place(document["environment"], look),
        *(_server(server, look) for server in document["servers"]),
        *(_measurement(entry, look) for entry in document["measurements"]),
        *(_gate(gate, look) for gate in told_gates(document)),
    )


# --- where -----------------------------------------------------------------------------------


def _place(environment: Entry, look: Look) -> list[str]:
    """What later runs are compared with, fact by fact."""
    fingerprint, git = environment["fingerprint"], environment["git"]
    lines = [f"measured on, fingerprint {fingerprint['key']}:"]
    lines += wrapped(_facts(fingerprint["match"]), look)
    if told := _facts(fingerprint["context"]):
        lines += wrapped(f"beside it: {told}", look)
    lines += wrapped(f"host: {_facts(environment['host'])}", look)
    lines += wrapped(f"packages: {_facts(environment['packages'])}", look)
    if git["commit"]:
        changed = ", with changes" if git["dirty"] else ""
        lines += wrapped(f"commit {git['commit']} on {git['branch'] or 'no branch'}{changed}", look)
    return lines


def _facts(facts: Entry) -> str:
    """Names and values; what is not known is left out."""
    return ", ".join(
        f"{name} {value}" for name, value in facts.items() if value not in (None, "", [])
    )


# --- servers ---------------------------------------------------------------------------------


def _server(server: Entry, look: Look) -> list[str]:
    lines = wrapped(f"server {server['id']}: model {server['model'] or 'unknown'}", look, "")
    said: set[str] = set()
    for launch in server["launches"]:
        lines += wrapped(_launch(launch), look)
        for text in _about(launch):
            if text not in said:  # launches of one server are mostly alike
                said.add(text)
                lines += wrapped(text, look, "    ")
    return lines


def _launch(launch: Entry) -> str:
    parts = [f"launch {launch['id']}" if launch["launched"] else f"attached, {launch['id']}"]
    parts += [str(launch["side"])] if launch.get("side") else []
    parts.append(f"at {launch['url']}")
    if launch["startup_time_s"] is not None:
        parts.append(f"up after {format_number(launch['startup_time_s'], digits=3)} s")
    parts += [f"log {launch['log']}"] if launch["log"] else []
    return ", ".join(parts) + (f": FAILED, {launch['failure']}" if launch["failure"] else "")


def _about(launch: Entry) -> Iterator[str]:
    if launch["argv"]:
        yield f"command: {shlex.join(map(str, launch['argv']))}"
    if launch["env"]:
        yield f"environment: {_facts(launch['env'])}"
    if launch["args"]:
        yield f"arguments as resolved: {_facts(launch['args'])}"
    if launch["cores"]:
        yield f"on cores {', '.join(map(str, launch['cores']))}"
    yield from (f"note: {note}" for note in launch["notes"])


# --- measurements ----------------------------------------------------------------------------


def _measurement(entry: Entry, look: Look) -> list[str]:
    lines = wrapped(f"{short(entry['test'])}: measured on server {entry['server']}", look, "")
    if entry["simulated"]:
        lines.append("  SIMULATED")
    lines += wrapped(f"asked: {_facts(entry['workload']['asked'])}", look)
    lines += wrapped(f"sent: {_sent(entry)}", look)
    lines += table(_run_rows(entry), _RUN_HEADERS, look)
    for run in entry["runs"]:
        for text in _about_run(run):
            lines += wrapped(f"run {run['index'] + 1} of launch {run['launch_id']}: {text}", look)
    return [*lines, *table(_figures(entry), _FIGURE_HEADERS, look)]


def _sent(entry: Entry) -> str:
    sent = {name: _short_number(value) for name, value in entry["workload"]["sent"].items()}
    sources = sorted({run["tokens"]["source"] for run in entry["runs"]})
    return f"{_facts(sent)}; tokens counted by {' and '.join(sources)}" if sources else _facts(sent)


def _short_number(value: Any) -> Any:
    return format_number(value) if isinstance(value, (int, float)) else value


_RUN_HEADERS = ("run", *map(units.spoken, _OF_RUNS), "ok", "valid")


def _run_rows(entry: Entry) -> list[list[str]]:
    return [
        [
            _run_name(run),
            *(_measured(run, name) for name in _OF_RUNS),
            f"{run['requests']['succeeded']}/{run['requests']['sent']}",
            "yes" if run["valid"] else "NO",
        ]
        for run in entry["runs"]
    ]


def _run_name(run: Entry) -> str:
    name = f"{run['launch_id']} {run['index'] + 1}"
    name = f"{name} reference" if run["side"] == "reference" else name
    return name if run["pair"] is None else f"{name}, pair {run['pair'] + 1}"


def _measured(run: Entry, name: str) -> str:
    value = run["metrics"].get(name)
    if isinstance(value, Mapping):
        return "unbounded"
    return quantity(value, units.row_of(name).unit)


def _about_run(run: Entry) -> Iterator[str]:
    if run["invalid_reasons"]:
        yield f"not valid: {'; '.join(run['invalid_reasons'])}"
    if failed := run["requests"]["failed"]:
        causes = ", ".join(f"{cause} {number}" for cause, number in failed.items())
        yield f"{count(sum(failed.values()), 'request')} failed: {causes}"
    if client := run["client"]:
        lag = client["loop_lag_ms_p99"]
        late = "" if lag is None else f", its clock {quantity(lag, 'ms')} late at p99"
        yield f"the load client took {percent(client['cpu_share'])} of a core{late}"


_FIGURE_HEADERS = ("figure", "value", "interval", "from", "better")


def _figures(entry: Entry) -> list[list[str]]:
    return [
        [
            units.spoken(name),
            quantity(found["value"], found["unit"]),
            _interval(found["ci_low"], found["ci_high"], found["unit"]),
            f"{count(found['n_launches'], 'launch', 'launches')}, {count(found['n_runs'], 'run')}",
            found["direction"],
        ]
        for name, found in entry["summary"].items()
    ]


def _interval(low: float | None, high: float | None, unit: str) -> str:
    """An open end where only one side is known."""
    if low is None and high is None:
        return "-"
    return " .. ".join(ends(low, high, unit)).strip()


# --- gates -----------------------------------------------------------------------------------


def _gate(gate: Entry, look: Look) -> list[str]:
    word = "failed as expected" if gate["expected"] else gate["verdict"]
    head = f"{short(gate['test'])}, {units.spoken(gate['metric'])}: {word}"
    lines = wrapped(head, look, "")
    for text in (gate["reason"], *_numbers(gate)):
        lines += wrapped(text, look)
    return lines


def _numbers(gate: Entry) -> Iterator[str]:
    """Where the numbers of a verdict come from."""
    unit = gate["unit"]
    yield f"{gate['kind']}, {gate['source']} ({gate['reason_code']}, by {gate['mode']})"
    if gate["observed"] is not None:
        over = _over(gate)
        value, limit = beside(gate["observed"], gate["limit"], unit, digits=6)
        asked = "" if gate["limit"] is None else f", limit {limit}"
        yield f"observed {value} over {over}{asked}"
    if gate["reference"] is not None:
        yield f"against {gate['against']}: {format_value(gate['reference'], unit, digits=6)}"
    if told := certainty(gate):
        yield f"how sure: {told}"
    if gate["loss"] is not None:
        bounds = (percent(gate[end], signed=True) for end in ("loss_low", "loss_high"))
        yield f"loss {percent(gate['loss'], signed=True)}, between {' and '.join(bounds)}"
    if told := _statistics(gate):
        yield told
    if gate["changed"]:
        yield f"what differs beside it: {'; '.join(gate['changed'])}"


def _over(gate: Entry) -> str:
    parts = [count(gate["n_launches"], "launch", "launches"), count(gate["n_runs"], "run")]
    parts += [count(gate["n_pairs"], "pair")] if gate["n_pairs"] else []
    return ", ".join(parts)


def _statistics(gate: Entry) -> str:
    names: Sequence[tuple[str, str, Any]] = (
        ("false alarms at most", "alpha", percent),
        ("shared by gates:", "family", str),
        ("launches differ by", "sigma", percent),
        ("degrees of freedom", "df", _short_number),
        ("smallest loss seen for sure", "detectable_loss", percent),
        ("loss to catch", "loss_to_catch", percent),
        ("loss allowed", "allow", percent),
        ("look", "look", str),
        ("of looks", "looks", str),
        ("known spread of launches", "prior_sigma", percent),
    )
    return ", ".join(f"{word} {show(gate[name])}" for word, name, show in names if gate[name])
