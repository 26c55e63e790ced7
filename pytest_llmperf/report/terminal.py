"""The report as lines for a terminal of 80 columns, in plain ASCII where it is ours to choose."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.units import format_number, format_value

from .words import count, percent, short

WIDTH = 80
_LEAST_NAME = 10
_FIGURES = ("throughput", "per_user")
_SIMULATED = "SIMULATED: these figures come from the simulator and describe no hardware."
_PROBLEMS = {"broken": "broken", "could_not_measure": "could not be measured"}

Document = Mapping[str, Any]
#: Start-up times that are told one by one.
_FEW_TIMES = 4


def summary_lines(document: Document) -> list[str]:
    """Everything a person sees at the end: servers, measurements, gates, problems."""
    sections = (
        server_lines(document),
        measurement_table(document),
        *(_sweep_section(document, sweep) for sweep in document["sweeps"]),
        noise_table(document),
        gate_table(document),
        reason_lines(document),
        quality_lines(document),
        problem_lines(document),
    )
    lines: list[str] = []
    for section in sections:
        if section:
            lines += ["", *section] if lines else section
    return lines


def server_lines(document: Document) -> list[str]:
    """ "3 launches for 2 servers", then a line for each server."""
    servers = document["servers"]
    if not servers:
        return []
    launched = sum(launch["launched"] for server in servers for launch in server["launches"])
    shown = count(len(servers), "server")
    lines = [f"{count(launched, 'launch', 'launches')} for {shown}" if launched else shown]
    for server in servers:
        lines += _wrapped(_server_line(server))
        if server.get("recipe"):
            lines += _wrapped(f"recipe: {server['recipe']}")
    return [*lines, _SIMULATED] if document["simulated"] else lines


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


def measurement_table(document: Document) -> list[str]:
    """One row per measurement: latencies, throughput and how many requests succeeded. The points
    of sweeps have tables of their own."""
    swept = {point["measurement"] for sweep in document["sweeps"] for point in sweep["points"]}
    shown = [entry for entry in document["measurements"] if entry["id"] not in swept]
    rows = [_measurement_row(entry) for entry in shown]
    headers = ["measured", "TTFT p50", "TTFT p95", "TPOT mean", "output", "requests ok"]
    return _table(rows, headers)


def _measurement_row(entry: Mapping[str, Any]) -> list[str]:
    asked = entry["workload"]["asked"]
    shape = f"{asked['input_tokens']}/{asked['output_tokens']} x{asked['concurrency']}"
    lines = [short(entry["test"]), f"{asked['name']} {shape}"]
    if any(run["side"] == "reference" for run in entry["runs"]):
        lines.append("the reference")
    if entry["simulated"]:
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
        return format_value(found["value"], found["unit"])
    unbounded = any(isinstance(run["metrics"].get(name), Mapping) for run in entry["runs"])
    return "unbounded" if unbounded else "-"


# --- sweeps ----------------------------------------------------------------------------------


def sweep_lines(sweep: Mapping[str, Any]) -> list[str]:
    """One row per load, the highest and the knee marked, and how the search ended."""
    unit = "requests in flight" if sweep["over"] == "concurrency" else "requests per second"
    name = f"{short(sweep['test'])}: " if sweep["test"] else ""
    throughput = f"{units.spoken(sweep['throughput_metric'])} in tok/s"
    lines = textwrap.wrap(f"{name}sweep over {sweep['over']} ({unit}), {throughput}", WIDTH)
    if sweep["objectives"]:
        lines += textwrap.wrap(f"within: {', '.join(_limits_of(sweep))}", WIDTH)
    return [*lines, *_sweep_table(sweep), *_wrapped(sweep["reason"])]


def _sweep_section(document: Document, sweep: Mapping[str, Any]) -> list[str]:
    simulated = {entry["id"] for entry in document["measurements"] if entry["simulated"]}
    lines = sweep_lines(sweep)
    labelled = any(point["measurement"] in simulated for point in sweep["points"])
    return [*lines, "  SIMULATED"] if labelled else lines


def _limits_of(sweep: Mapping[str, Any]) -> list[str]:
    return [
        f"{units.spoken(slo['metric'] + '_p99')} <= {format_value(slo['limit_ms'], 'ms')}"
        for slo in sweep["objectives"]
    ]


def _sweep_table(sweep: Mapping[str, Any]) -> list[str]:
    """The table with as many of the deciding percentiles as there is room for."""
    names = [f"{slo['metric']}_p99" for slo in sweep["objectives"]]
    while True:
        headers = ["load", "output", "per user", *map(units.spoken, names)]
        headers += ["attained", "within"] if sweep["objectives"] else [""]
        table = _table([_sweep_row(point, sweep, names) for point in sweep["points"]], headers)
        if not names or max(map(len, table)) <= WIDTH:
            return table
        names.pop()


def _sweep_row(
    point: Mapping[str, Any], sweep: Mapping[str, Any], names: Sequence[str]
) -> list[str]:
    load = point["load"]
    marks = ", ".join(mark for mark in ("highest", "knee") if sweep[mark] == load)
    judged = {True: "yes", False: "no", None: "undecided" if point["reason"] else ""}
    last = [percent(point["attainment"])] if sweep["objectives"] else []
    words = [judged[point["within"]], f"<- {marks}" if marks else ""]
    return [
        format_number(load),
        *("-" if point[name] is None else format_number(point[name]) for name in _FIGURES),
        *(_worst(point["worst"].get(name)) for name in names),
        *last,
        " ".join(word for word in words if word),
    ]


def _worst(value: Any) -> str:
    return "unbounded" if isinstance(value, Mapping) else _number(value, "ms")


# --- noise -----------------------------------------------------------------------------------


def noise_table(document: Document) -> list[str]:
    """What calibrations found: a row for each metric whose reach was asked for."""
    rows = [
        [f"{short(entry['test'])}\n{units.spoken(name)}", *_noise_cells(found), _kinds(found)]
        for entry in document["noise"]
        for name, found in entry["metrics"].items()
        if found["detectable_loss"] is not None
    ]
    return _table(rows, ["noise", "runs", "launches", "pairs", "catches", "launches are"])


def _noise_cells(found: Mapping[str, Any]) -> list[str]:
    names = ("run_sigma", "launch_sigma", "pair_sigma", "detectable_loss")
    return [percent(found[name]) for name in names]


def _kinds(found: Mapping[str, Any]) -> str:
    return "of two kinds" if found["bimodal"] else "alike"


# --- gates -----------------------------------------------------------------------------------


def gate_table(document: Document) -> list[str]:
    """One row per gate: value, limit, difference with its interval, smallest detectable loss."""
    simulated = {entry["id"] for entry in document["measurements"] if entry["simulated"]}
    rows = [_gate_row(gate, simulated) for gate in document["gates"]]
    return _table(rows, ["gate", "value", "limit", "difference", "detects", "verdict"])


def _gate_row(gate: Mapping[str, Any], simulated: set[str]) -> list[str]:
    name = f"{short(gate['test'])}\n{units.spoken(gate['metric'])}"
    if gate["measurement"] in simulated:
        name += "\nSIMULATED"
    return [
        name,
        _number(gate["observed"], gate["unit"]),
        _demand(gate),
        _difference(gate),
        percent(gate["detectable_loss"]),
        _word(gate),
    ]


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else format_value(value, unit)


def _demand(gate: Mapping[str, Any]) -> str:
    if gate["kind"] == "regression":
        return f"no loss\nof {percent(gate['loss_to_catch'])}"
    sign = ">=" if gate["kind"] == "floor" else "<="
    number = _number(gate["limit"], gate["unit"])
    if gate["observed"] is not None:  # its unit stands beside it already
        number = number.removesuffix(f" {gate['unit']}")
    return f"{sign} {number}"


def _difference(gate: Mapping[str, Any]) -> str:
    if gate["kind"] == "regression":
        return _loss(gate)
    shown = percent(gate["difference"], signed=True)
    if gate["ci_low"] is None or gate["ci_high"] is None or not gate["limit"]:
        return shown
    low, high = (100 * (gate[end] / gate["limit"] - 1) for end in ("ci_low", "ci_high"))
    return f"{shown}\n{low:+.1f}..{high:+.1f}"


def _loss(gate: Mapping[str, Any]) -> str:
    """How much worse, and between what bounds."""
    if gate["loss"] is None:
        return "-"
    word = "worse" if gate["loss"] > 0 else "better"
    shown = f"{percent(abs(gate['loss']))} {word}"
    if gate["loss_low"] is None or gate["loss_high"] is None:
        return shown
    low, high = (100 * gate[end] for end in ("loss_low", "loss_high"))
    return f"{shown}\n{low:+.1f}..{high:+.1f} lost"


def _word(gate: Mapping[str, Any]) -> str:
    if gate["verdict"] == "fail":
        return "FAIL"
    if gate["covered"]:
        return str(gate["verdict"])
    return f"NOT COVERED\n{gate['reason_code']}"


def reason_lines(document: Document) -> list[str]:
    """Why gates did not pass whose tests did not fail: expected failures, and noise."""
    quiet = {test["test"] for test in document["tests"] if test["outcome"] in ("passed", "xfailed")}
    lines: list[str] = []
    for gate in document["gates"]:
        if gate["verdict"] != "pass" and gate["test"] in quiet:
            lines += _wrapped(f"{short(gate['test'])}: {gate['reason']}")
    return lines


# --- outputs ---------------------------------------------------------------------------------


def quality_lines(document: Document) -> list[str]:
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
    shown = [line for text in dict.fromkeys(lines) for line in _wrapped(text)]
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


def problem_lines(document: Document) -> list[str]:
    """The first line of every test that is broken or could not be measured, by its kind."""
    lines: list[str] = []
    for outcome, words in _PROBLEMS.items():
        tests = [test for test in document["tests"] if test["outcome"] == outcome]
        if tests:
            lines.append(f"{count(len(tests), 'test')} {words}:")
            for test in tests:
                lines += _wrapped(f"{short(test['test'])}: {_first(test)}")
    if not document["complete"]:
        lines.append("INCOMPLETE: the session was interrupted, or results were lost.")
    return lines


def _first(test: Mapping[str, Any]) -> str:
    message: str = test["message"]
    return message.splitlines()[0] if message else "no message"


# --- shared ----------------------------------------------------------------------------------


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> list[str]:
    """An aligned table, its first column clipped to fit the width."""
    if not rows:
        return []
    lines = _aligned(rows, headers)
    excess = max(map(len, lines)) - WIDTH
    if excess > 0:
        widest = max(len(line) for row in rows for line in row[0].splitlines())
        width = max(_LEAST_NAME, widest - excess)
        lines = _aligned([[_clip(row[0], width), *row[1:]] for row in rows], headers)
    return lines


def _aligned(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> list[str]:
    from tabulate import tabulate

    # Numbers are formatted already; tabulate must not read "1,612" or "8" anew. It pads columns
    # that have a heading, which costs a column's worth of width: the heading goes in as a row.
    align = ["left", *["right"] * (len(headers) - 2), "left"]
    table = tabulate([headers, *rows], tablefmt="plain", disable_numparse=True, colalign=align)
    head, *body = (line.rstrip() for line in table.splitlines())
    return [head, "-" * max(map(len, (head, *body))), *body]


def _clip(text: str, width: int) -> str:
    """``text`` with each line cut to ``width``."""
    return "\n".join(_clip_line(line, width) for line in text.splitlines())


def _clip_line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    # The end of a name tells parameters apart.
    tail = line[line.rfind("[") :] if line.endswith("]") else ""
    tail = tail if len(tail) <= width // 2 else ""
    return f"{line[: width - 2 - len(tail)]}..{tail}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )
