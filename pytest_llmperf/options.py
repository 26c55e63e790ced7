"""What the command line and the ini file offer; declared in every pytest run, so light."""

from __future__ import annotations

import argparse
import re
from functools import partial
from typing import Any

import pytest

MODES = ("off", "smoke", "on")
QUALITY = ("off", "advise", "fail")
PIN = ("auto", "off")
TOOLS = ("docker", "podman")

#: Ini values: default and meaning.
INI = {
    "llmperf": ("on", "off, smoke or on; see --llmperf"),
    "llmperf_launches": ("1", "default of --llmperf-launches"),
    "llmperf_hosts": ("", "default of --llmperf-hosts"),
    "llmperf_bind": ("", "default of --llmperf-bind"),
    "llmperf_node_command": ("", "default of --llmperf-node-command"),
    "llmperf_runs": ("3", "default of --llmperf-runs"),
    "llmperf_family": (
        "0",
        "number of gates that share the false-alarm rate of 1 % (default: the gates collected)",
    ),
    "llmperf_client_cpu": (
        "90%",
        "the most of a core that the load client may use before a run is client-bound; this and "
        "the bounds below take 'off'",
    ),
    "llmperf_client_lag": ("25 ms", "how late the load client's clock may run at p99"),
    "llmperf_client_send_delay": (
        "5 ms",
        "how late requests may go out behind their schedule at p99",
    ),
    "llmperf_client_delivered": ("99%", "the least of the offered request rate that must go out"),
    "llmperf_client_in_flight": (
        "90%",
        "the least of a closed loop's concurrency that must be in flight on the average",
    ),
    "llmperf_client_clock": (
        "0.1%",
        "how wrong the clocks of workers on several machines may make the ends of a run, as a "
        "share of it",
    ),
    "llmperf_client_silence": (
        "2 s",
        "how long nothing may be heard of a worker on another machine",
    ),
    "llmperf_max_drift": (
        "20%",
        "how much the output rate may change from the first to the last third of a run",
    ),
    "llmperf_pin": ("auto", "default of --llmperf-pin"),
    "llmperf_store": ("", "default of --llmperf-store"),
    "llmperf_pairs": ("12", "default of --llmperf-pairs"),
    "llmperf_prices": ("", "default of --llmperf-prices; a path is relative to the ini file"),
    "llmperf_cache_dir": (
        "",
        "where models made on the spot are kept (default: pytest-llmperf under the user's cache)",
    ),
}


def whole(text: str) -> int:
    """A whole number of an option, in words for argparse where it is none."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, such as 4")
    return int(text)


def number(text: str) -> float:
    """The same for a number of any kind."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{0,18})?", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, such as 90 or 1.5")
    return float(text)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and ini value; called from ``pytest_addoption``."""
    add = partial(_declare, parser.getgroup("llmperf", "perf assertions for LLM serving"))
    add(
        "--llmperf",
        choices=MODES,
        default=None,
        help="off: skip perf tests; smoke: one short run each, no gates; on: measure and judge "
        "(default, or the ini value llmperf)",
    )
    add(
        "--llmperf-report",
        metavar="PATH",
        help="write the JSON report here, also when tests fail or the run is interrupted",
    )
    add(
        "--llmperf-html",
        metavar="PATH",
        help="write the report as one HTML page with charts, to be opened by any browser",
    )
    add(
        "--llmperf-export",
        action="append",
        default=[],
        metavar="KIND:PATH",
        help="write the report in another tool's format as well: bencher, github-action-benchmark, "
        "gitlab, llmd, markdown, openmetrics, otava, pytest-benchmark, pytorch-oss, sglang-dump; "
        "or requests: every single request, to a .csv, .csv.gz or .parquet; repeat it for several",
    )
    add(
        "--llmperf-markdown",
        metavar="PATH",
        help="write the verdicts as Markdown for a pull request's comment",
    )
    add(
        "--llmperf-github",
        action="store_true",
        help="in GitHub Actions, add the verdicts to the step's summary and a note to the line of "
        "each marker whose gate does not pass; elsewhere this changes nothing",
    )
    add(
        "--llmperf-profile-on-fail",
        action="store_true",
        help="when a gate has failed, run its workload once more under the engine's own profiler, "
        "on both sides of a comparison, and keep the traces beside the report; nothing of that "
        "pass is measured",
    )
    add(
        "--llmperf-launches",
        type=whole,
        metavar="N",
        help="server launches per measurement (default 1); with three or more, limits are judged "
        "by an interval that carries the spread between launches",
    )
    add("--llmperf-runs", type=whole, metavar="N", help="measured runs per launch (default 3)")
    add(
        "--llmperf-client-processes",
        type=whole,
        metavar="N",
        help="processes that the load client asks with (default: as many as the load needs and "
        "the cores left to it allow)",
    )
    add(
        "--llmperf-ray",
        metavar="ADDRESS",
        help="have workers on the nodes of this Ray cluster ask, each for its share of the load: "
        "auto for the one that this machine is a node of, or HOST:PORT of its head; the server "
        "must be reachable from them",
    )
    add(
        "--llmperf-ray-workers",
        metavar="N|auto",
        help="how many of them ask (default auto: as many as the load needs and the cluster has "
        "free cores for, off the server's node if possible)",
    )
    add(
        "--llmperf-pin",
        choices=PIN,
        help="off: leave servers and the load client on all cores; auto: keep them apart, and a "
        "server that computes on the CPU on cores of its own (default, or the ini value "
        "llmperf_pin)",
    )
    add(
        "--llmperf-strict",
        action="store_true",
        help="fail a test whose gate is inconclusive only because of noise",
    )
    add(
        "--llmperf-require",
        action="append",
        default=[],
        metavar="PATH|NODEID",
        help="end red unless every gate in this file, directory or test ran and at least one was "
        "decided: also a gate that was skipped, deselected, renamed or lost, as far as the "
        "collection or the store (--llmperf-store) knows it; repeat it for several",
    )
    add(
        "--llmperf-shard",
        metavar="I/N",
        help="this session is the I-th of N that are judged together, such as one for each kind of "
        "accelerator: its gates use an N-th of the 1 %% of false alarms, and what it deselects is "
        "left to the others; pytest-llmperf merge makes one report of all",
    )
    add(
        "--llmperf-accelerator",
        metavar="NAME",
        help="run on this kind of accelerator (nvidia, amd, ascend, intel, cpu) instead of the one "
        "found",
    )
    add(
        "--llmperf-python",
        metavar="PATH",
        help="start engines with this Python interpreter (default: the one running pytest)",
    )
    add(
        "--llmperf-container",
        choices=TOOLS,
        help="what runs the containers of llm_server(image=...) (default: docker where it is "
        "installed, else podman)",
    )
    add(
        "--llmperf-hosts",
        metavar="A,B",
        help="the nodes of servers with llm_server(nodes=...), this machine first, by names that "
        "they reach each other by (default: all ranks run here)",
    )
    add(
        "--llmperf-node-command",
        metavar="COMMAND",
        help="how to run something on another of them: a command with {host} and {command} in it, "
        "such as 'ssh -tt {host} {command}'; what it started must end when it ends",
    )
    add(
        "--llmperf-bind",
        metavar="ADDRESS",
        help="the address of this machine that servers which pytest starts listen on and are asked "
        "at (default: 127.0.0.1), for --llmperf-ray with workers on other nodes; they take no key, "
        "so it must be one that only trusted machines reach",
    )
    add(
        "--llmperf-server-timeout",
        type=number,
        metavar="SECONDS",
        help="how long a server may take to become ready (default: by engine and model)",
    )
    add(
        "--llmperf-reference-python",
        metavar="PATH",
        help="compare with the engine of this Python interpreter, in launches that alternate with "
        "those of the candidate",
    )
    add(
        "--llmperf-reference-build",
        metavar="COMMAND",
        help="compare with the merge base: it is checked out beside this checkout, COMMAND is run "
        "in it, once for each commit, and leaves the interpreter at .venv/bin/python or prints "
        "its path as its last line",
    )
    add(
        "--llmperf-reference-ref",
        metavar="REF",
        help="the branch whose merge base with HEAD is built (default: origin's default branch, "
        "else main or master)",
    )
    add(
        "--llmperf-reference-args",
        metavar="ARGS",
        help="compare with a server that is started with these arguments in place of those in "
        "llm_server(args=...)",
    )
    add(
        "--llmperf-reference-image",
        metavar="IMAGE",
        help="compare with the engine of this container image",
    )
    add(
        "--llmperf-reference-url",
        metavar="URL",
        help="compare with this running endpoint",
    )
    add(
        "--llmperf-anchor",
        metavar="RELEASE",
        help="against creep: the reference is this release and stays it; each session adds two "
        "pairs of launches to those in the store, and all are judged together, at a tenth of the "
        "false alarms",
    )
    add(
        "--llmperf-pairs",
        type=whole,
        metavar="N",
        help="the most pairs of launches in a comparison with a reference (default 12); fewer "
        "when everything is decided before",
    )
    add(
        "--llmperf-side-by-side",
        action="store_true",
        help="have both launches of a pair up at once, each held still while the other is "
        "measured, so that runs alternate within seconds; the device must have room for both",
    )
    add(
        "--llmperf-budget",
        metavar="TIME",
        help="the most time a comparison with a reference may take, such as 20m; it makes fewer "
        "pairs then",
    )
    add(
        "--llmperf-aa",
        action="store_true",
        help="compare a server with itself: what is found then is noise",
    )
    add(
        "--llmperf-quality",
        choices=QUALITY,
        default=None,
        help="whether servers that are compared must say the same: off: do not ask; advise: tell "
        "when outputs differ (default); fail: llm_no_regression fails then",
    )
    add(
        "--llmperf-gsm8k",
        metavar="FILE",
        help="have each server answer questions with a number for an answer: a file of JSON lines "
        "with 'question' and 'answer'",
    )
    add(
        "--llmperf-gsm8k-questions",
        type=whole,
        metavar="N",
        help="how many of them, from the first on (default 64)",
    )
    add(
        "--llmperf-plan",
        action="store_true",
        help="print what would be launched and which loss each gate could see, and run nothing",
    )
    add(
        "--llmperf-store",
        metavar="WHERE",
        help="remember what was measured: a directory made to be committed, or sqlite:///FILE or "
        "postgresql://... (default: the ini value llmperf_store)",
    )
    add(
        "--llmperf-limits-from",
        metavar="REF",
        help="judge by the limits and gates that this git ref declares and by its accepted levels, "
        "so that a change cannot lower its own bar; differences are printed",
    )
    add("--llmperf-declarations", metavar="PATH", help=argparse.SUPPRESS)
    add(
        "--llmperf-update-baseline",
        action="store_true",
        help="accept the level that a test has measured if its gates are green",
    )
    add(
        "--llmperf-calibrate",
        type=whole,
        metavar="N",
        help="judge nothing: launch each server N times as it is and remember how much its figures "
        "differ from launch to launch",
    )
    add(
        "--llmperf-url",
        action="append",
        default=[],
        metavar="[MODEL=]URL",
        help="attach to a running endpoint instead of launching; repeat it as MODEL=URL where the "
        "suite asks for more than one server",
    )
    add(
        "--llmperf-model",
        action="append",
        default=[],
        metavar="A=B",
        help="where a test asks for model A, load B",
    )
    add(
        "--llmperf-log-dir",
        metavar="DIR",
        help="keep server logs here (default: pytest's temporary directory)",
    )
    add(
        "--llmperf-lock-dir",
        metavar="DIR",
        help="where the lock of each accelerator lies; containers that share one must share this",
    )
    add(
        "--llmperf-prices",
        metavar="FILE",
        help="what accelerators cost an hour: a dated JSON file of your own, for "
        "cost_per_million_output_tokens",
    )
    add(
        "--llmperf-resume",
        action="store_true",
        help="go on with the session that was killed or interrupted while it was to write this "
        "--llmperf-report: tests that had ended are not run again and report what they did then",
    )
    add(
        "--llmperf-no-progress",
        action="store_true",
        help="print no live line and no heartbeat while a server starts or a run lasts",
    )
    for name, (default, text) in INI.items():
        parser.addini(name, text, default=default)


def _declare(group: pytest.OptionGroup, option: str, **attributes: Any) -> None:
    """Declare an option. Saying where its value goes spares pytest a search through all options
    of all plugins, for each of ours."""
    group.addoption(option, dest=option.lstrip("-").replace("-", "_"), **attributes)


def asked_for(config: pytest.Config) -> bool:
    """Whether the command line or the ini file says anything to us."""
    options = (value for name, value in vars(config.option).items() if name.startswith("llmperf"))
    if any(value is not None and value is not False and value != [] for value in options):
        return True
    return any(config.getini(name) != default for name, (default, _) in INI.items())
