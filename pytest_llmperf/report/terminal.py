"""The report as lines for a terminal, in plain ASCII where it is ours to choose.

What ``-q`` shows instead is in :mod:`.brief`, what ``-vv`` adds in :mod:`.story`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.units import format_number

from .columns import PLAIN, Look, inert_report, table, wrapped
from .profiles import profile_lines
from .sweeps import sweep_lines as sweep_lines
from .sweeps import sweep_section
from .told import PROBLEMS, SIMULATED, first_line, told_gates
from .words import beside, count, percent, placed, short, to_noise, worse

#: The word of a failure that counts for nothing, and has no colour.
EXPECTED = "failed"
_COLOURS = {"pass": ("green",), "inconclusive": ("yellow",), "FAIL": ("red", "bold")}

Document = Mapping[str, Any]
#: Start-up times that are told one by one.
_FEW_TIMES = 4


def summary_lines(document: Document, look: Look = PLAIN) -> list[str]:
    """Everything a person sees at the end: servers, measurements, gates, problems."""
    document = inert_report(document)
    return joined(
        server_lines(document, look),
        measurement_table(document, look),
        *(sweep_section(document, sweep, look) for sweep in document["sweeps"]),
        noise_table(document, look),
        gate_table(document, look),
        reason_lines(document, look),
        list(profile_lines(document, look)),
        quality_lines(document, look),
        problem_lines(document, look),
    )


def joined(*sections: Sequence[str]) -> list[str]:
    """Sections with an empty line between each two."""
    lines: list[str] = []
    for section in sections:
        if section:
            lines += ["", *section] if lines else section
    return lines


def server_lines(document: Document, look: Look = PLAIN) -> list[str]:
    """ "3 launches for 2 servers", then a line for each server."""
    servers = document["servers"]
    if not servers:
        return []
    launched = sum(launch["launched"] for server in servers for launch in server["launches"])
    shown = count(len(servers), "server")
    lines = [f"{count(launched, 'launch', 'launches')} for {shown}" if launched else shown]
    for server in servers:
        lines += wrapped(_server_line(server), look)
        if server.get("recipe"):
            lines += wrapped(f"recipe: {server['recipe']}", look)
    if document["simulated"]:
        said = wrapped(f"SIMULATED: {SIMULATED}", look, indent="")
        lines += [look.paint(line, "yellow") for line in said]
    return lines


def _server_line(server: Mapping[str, Any]) -> str:
    what = " ".join(str(server[name]) for name in ("engine", "version") if server[name])
    launches = server["launches"]
    took = [launch["startup_time_s"] for launch in launches if launch["startup_time_s"] is not None]
    parts = [what, server["model"] or "model unknown"]
    sides = {launch.get("side") for launch in launches}
    if "reference" in sides:
        parts.append("the reference" if len(sides) == 1 else "also a reference")
    if took:
        parts.append(f"up after {_seconds(took)}")
    if any(not launch["launched"] for launch in launches):
        parts.append(f"attached at {launches[-1]['url']}")
    if failed := sum(launch["failure"] is not None for launch in launches):
        parts.append(f"{count(failed, 'launch', 'launches')} failed")
    if server["simulated"]:
        parts.append("SIMULATED")
    return " | ".join(parts)


def _seconds(took: Sequence[float]) -> str:
    """Each of a few start-up times, of many the least and the largest."""
    few = took if len(took) <= _FEW_TIMES else (min(took), max(took))
    shown = [format_number(each, digits=3) for each in few]
    if few is not took:
        return f"{shown[0]} to {shown[1]} s ({count(len(took), 'launch', 'launches')})"
    return ", ".join(f"{each} s" for each in shown)


# --- measurements ----------------------------------------------------------------------------


def measurement_table(document: Document, look: Look = PLAIN) -> list[str]:
    """One row per measurement: latencies, throughput and how many requests succeeded. The points
    of sweeps have tables of their own."""
    swept = {point["measurement"] for sweep in document["sweeps"] for point in sweep["points"]}
    shown = [entry for entry in document["measurements"] if entry["id"] not in swept]
    all_simulated = bool(shown) and all(entry["simulated"] for entry in shown)
    rows = [_measurement_row(entry, label=not all_simulated) for entry in shown]
    name = "measured, SIMULATED" if all_simulated else "measured"
    return table(rows, [name, "TTFT p50", "TTFT p95", "TPOT mean", "output", "requests ok"], look)


def _measurement_row(entry: Mapping[str, Any], *, label: bool) -> list[str]:
    asked = entry["workload"]["asked"]
    shape = f"{asked['input_tokens']}/{asked['output_tokens']} x{asked['concurrency']}"
    lines = [placed(entry), f"{asked['name']} {shape}"]
    if any(run["side"] == "reference" for run in entry["runs"]):
        lines.append("the reference")
    if label and entry["simulated"]:
        lines.append("SIMULATED")
    valid = [run for run in entry["runs"] if run["valid"]]
    ok = sum(run["requests"]["succeeded"] for run in valid)
    sent = sum(run["requests"]["sent"] for run in valid)
    left_out = len(entry["runs"]) - len(valid)
    requests = f"{ok}/{sent}" + (f"\n{count(left_out, 'run')} invalid" if left_out else "")
    names = ("ttft_p50", "ttft_p95", "tpot_mean", "output_throughput")
    return ["\n".join(lines), *(_summary(entry, name) for name in names), requests]


def _summary(entry: Mapping[str, Any], name: str) -> str:
    if (found := entry["summary"].get(name)) is not None:
        return to_noise(found["value"], found["unit"], _noise(entry, name, found))
    unbounded = any(isinstance(run["metrics"].get(name), Mapping) for run in entry["runs"])
    return "unbounded" if unbounded else "-"


def _noise(entry: Mapping[str, Any], name: str, found: Mapping[str, Any]) -> float | None:
    """How far off a measured value may be: half its interval, else half the range of its runs."""
    if found["ci_low"] is not None and found["ci_high"] is not None:
        return float(found["ci_high"] - found["ci_low"]) / 2
    values = [run["metrics"].get(name) for run in entry["runs"] if run["valid"]]
    numbers = [value for value in values if isinstance(value, (int, float))]
    return (max(numbers) - min(numbers)) / 2 if len(numbers) > 1 else None


# --- noise -----------------------------------------------------------------------------------


def noise_table(document: Document, look: Look = PLAIN) -> list[str]:
    """What calibrations found: a row for each metric whose reach was asked for."""
    rows = [
        [f"{short(entry['test'])}\n{units.spoken(name)}", *_noise_cells(found), _kinds(found)]
        for entry in document["noise"]
        for name, found in entry["metrics"].items()
        if found["detectable_loss"] is not None
    ]
    return table(rows, ["noise", "runs", "launches", "pairs", "catches", "launches are"], look)


def _noise_cells(found: Mapping[str, Any]) -> list[str]:
    names = ("run_sigma", "launch_sigma", "pair_sigma", "detectable_loss")
    return [percent(found[name]) for name in names]


def _kinds(found: Mapping[str, Any]) -> str:
    return "of two kinds" if found["bimodal"] else "alike"


# --- gates -----------------------------------------------------------------------------------


def gate_table(document: Document, look: Look = PLAIN) -> list[str]:
    """One row per gate: value, limit, difference with its interval, smallest detectable loss."""
    gates = told_gates(document)
    measured = [gate for gate in gates if gate["measurement"]]
    all_simulated = bool(measured) and all(gate["simulated"] for gate in measured)
    rows = [_gate_row(gate, look, label=not all_simulated) for gate in gates]
    name = "gate, SIMULATED" if all_simulated else "gate"
    return table(rows, [name, "value", "limit", "difference", "detects", "verdict"], look)


def _gate_row(gate: Mapping[str, Any], look: Look, *, label: bool) -> list[str]:
    name = f"{placed(gate)}\n{units.spoken(gate['metric'])}"
    if label and gate["simulated"]:
        name += "\nSIMULATED"
    word, _, why = verdict_word(gate).partition("\n")
    return [
        name,
        observed(gate),
        demand(gate),
        difference(gate),
        percent(gate["detectable_loss"]),
        "\n".join(filter(None, (painted(word, look), why))),
    ]


def painted(word: str, look: Look) -> str:
    """A verdict's word in its colour; a failure that was expected has none."""
    return word if word == EXPECTED else look.paint(word, *_COLOURS.get(word, ("red",)))


def observed(gate: Mapping[str, Any]) -> str:
    """What was measured, with the digits that mean something and those that the limit needs."""
    return _value_and_limit(gate)[0]


def _value_and_limit(gate: Mapping[str, Any]) -> tuple[str, str]:
    return beside(gate["observed"], gate["limit"], gate["unit"], _gate_noise(gate))


def _gate_noise(gate: Mapping[str, Any]) -> float | None:
    low, high = gate["ci_low"], gate["ci_high"]
    if gate["kind"] != "regression" and low is not None and high is not None:
        return float(high - low) / 2
    if gate["detectable_loss"] is None or gate["observed"] is None:
        return None
    return float(gate["detectable_loss"] * abs(gate["observed"]))


def demand(gate: Mapping[str, Any]) -> str:
    """What the gate asks for: a limit, or that there be no loss."""
    if gate["kind"] == "regression":
        return f"no loss\nof {percent(gate['loss_to_catch'])}"
    sign = ">=" if gate["kind"] == "floor" else "<="
    _, number = _value_and_limit(gate)
    if gate["observed"] is not None:  # its unit stands beside it already
        number = number.removesuffix(f" {gate['unit']}")
    return f"{sign} {number}"


def difference(gate: Mapping[str, Any]) -> str:
    """How far from its limit or its baseline, and below it the interval."""
    if gate["kind"] == "regression":
        return _loss(gate)
    shown = percent(gate["difference"], signed=True)
    if gate["ci_low"] is None or gate["ci_high"] is None or not gate["limit"]:
        return shown
    low, high = (100 * (gate[end] / gate["limit"] - 1) for end in ("ci_low", "ci_high"))
    return f"{shown}\n{low:+.1f}..{high:+.1f}"


def _loss(gate: Mapping[str, Any]) -> str:
    """How much worse, and between what bounds."""
    shown = worse(gate["loss"], gate["loss_to_catch"])
    if gate["loss_low"] is None or gate["loss_high"] is None:
        return shown
    low, high = (100 * gate[end] for end in ("loss_low", "loss_high"))
    return f"{shown}\n{low:+.1f}..{high:+.1f} lost"


def verdict_word(gate: Mapping[str, Any]) -> str:
    """Of one of :func:`~.told.told_gates`: "FAIL", the verdict, or that there is a hole in
    coverage, and below it which; "failed" where that was expected."""
    if gate["verdict"] == "fail":
        return f"{EXPECTED}\nas expected" if gate["expected"] else "FAIL"
    if gate["covered"]:
        return str(gate["verdict"])
    return f"NOT COVERED\n{gate['reason_code']}"


def reason_lines(document: Document, look: Look = PLAIN) -> list[str]:
    """Why gates did not pass whose tests did not fail: expected failures, and noise."""
    quiet = {test["test"] for test in document["tests"] if test["outcome"] in ("passed", "xfailed")}
    lines: list[str] = []
    for gate in document["gates"]:
        if gate["verdict"] != "pass" and gate["test"] in quiet:
            lines += wrapped(f"{short(gate['test'])}: {gate['reason']}", look)
    return lines


# --- outputs ---------------------------------------------------------------------------------


def quality_lines(document: Document, look: Look = PLAIN) -> list[str]:
    """What servers said that is worth hearing of: outputs that differ between the two sides,
    answers to questions, responses without any text."""
    lines = [
        f"{short(entry['test'])}: {line}"
        for entry in document["quality"]
        for line in (*_score(entry), *entry["lines"])
    ]
    for entry in document["measurements"]:
        found = [run["quality"] for run in entry["runs"] if run["valid"] and run["quality"]]
        empty = sum(run["without_text"] for run in found)
        if empty:
            answered = sum(run["answered"] for run in found)
            told = f"{empty} of {answered} responses came without any text"
            lines.append(f"{short(entry['test'])}: {told}")
    shown = [line for text in dict.fromkeys(lines) for line in wrapped(text, look)]
    return ["outputs:", *shown] if shown else []


def _score(entry: Mapping[str, Any]) -> list[str]:
    """How many questions were answered rightly, unless a line says so already."""
    found = entry["answers"]
    if found is None or any(line.startswith("gsm8k") for line in entry["lines"]):
        return []
    told = f"gsm8k: {found['right']} of {found['asked']} questions answered rightly"
    if found["reference_right"] is not None:
        told += f", by the reference {found['reference_right']}"
    return [told]


# --- problems --------------------------------------------------------------------------------


def problem_lines(document: Document, look: Look = PLAIN) -> list[str]:
    """The first line of every test that is broken or could not be measured, by its kind."""
    lines: list[str] = []
    for outcome, words in PROBLEMS.items():
        tests = [test for test in document["tests"] if test["outcome"] == outcome]
        if tests:
            lines.append(look.paint(f"{count(len(tests), 'test')} {words}:", "red"))
            for test in tests:
                lines += wrapped(f"{short(test['test'])}: {first_line(test)}", look)
    if not document["complete"]:
        said = wrapped("INCOMPLETE: the session was interrupted, or results were lost.", look, "")
        lines += [look.paint(line, "red") for line in said]
    return lines
