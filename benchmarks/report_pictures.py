"""Pictures of the page, as docs/img has them, and what a browser has to say of it.

Reports are made by the simulator (a green session, a loss against a reference, sessions of a store,
a sweep), one is spoilt by hand into one of a device that throttles, and one is the 200 gates of
report_cost. Headless Chromium opens their pages; its console must stay empty, axe must find nothing
and nothing may be fetched. Takes Node with puppeteer-core and axe-core (npm install puppeteer-core
axe-core), a Chromium, and Pillow, which brings the pictures down to 256 colours.

    python -m benchmarks.report_pictures --modules DIRECTORY/node_modules --into docs/img

With --reports, a report that lies there as NAME.json is taken as it is; report-regression and
report-print are of one of real SGLang that benchmarks/gates/real made. With --demo, which names the
report of `make demo`, the README's picture is taken too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.report_cost import assembled, suite_of
from pytest_llmperf.records import Level, Observation
from pytest_llmperf.report.html import write_page
from pytest_llmperf.report.schema import schema_errors
from pytest_llmperf.store import open_store

HERE: Final = Path(__file__).parent
COLOURS: Final = 256
SUITE: Final = """
import os
import pytest

@pytest.mark.llm_server("sim", model="tiny-r1", args=os.environ["SIM"])
@pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=24, requests=240, concurrency=16)
{gates}
def test_chat(llm_perf):
    llm_perf.run()
"""
LIMITS: Final = """
@pytest.mark.llm_floor(output_throughput="500 tok/s")
@pytest.mark.llm_ceiling(ttft_p95="250 ms", tpot_mean="20 ms")
"""
COMPARED: Final = """@pytest.mark.llm_no_regression(tpot_mean="10%", ttft_p95="15%")"""
SWEEP: Final = """
import pytest

@pytest.mark.llm_server("sim", model="tiny-r1", args="--ttft-ms 10 --itl-ms 2")
@pytest.mark.llm_workload(
    "chat", input_tokens=64, output_tokens=24, requests=40, concurrency=4, slo={"tpot": "4 ms"}
)
def test_capacity(llm_perf):
    llm_perf.sweep(values=[1, 2, 4, 8, 16, 32, 64, 128], requests=130)
"""
USUAL: Final = "--ttft-ms 60 --itl-ms 8"
SLOWER: Final = "--ttft-ms 60 --itl-ms 9.6"
BEST: Final = 32
Shots = dict[str, dict[str, Any]]
#: Shots: the page, the width of the window, where on the page it begins, how high it is at most.
SHOTS: Final[Shots] = {
    "report-green": {"page": "green", "height": 1500},
    "report-regression": {"page": "regression", "height": 900},
    "report-throttled": {"page": "throttled", "height": 2600},
    "report-sweep": {"page": "sweep", "from": "#sweeps", "height": 780},
    "report-history": {"page": "history", "from": "#history", "height": 600},
    "report-many": {"page": "many", "from": "#gates", "height": 900},
    "report-phone": {"page": "history", "width": 390, "height": 1250},
    "report-dark": {"page": "history", "dark": True, "height": 1250},
    "report-print": {
        "page": "regression",
        "width": 794,
        "dark": True,
        "print": True,
        "height": 1500,
    },
}
DEMO: Final[Shots] = {"report": {"page": "demo", "width": 1000, "height": 1000}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modules", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--into", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--reports", type=Path, metavar="DIRECTORY", help="where reports are kept")
    parser.add_argument("--demo", type=Path, metavar="REPORT", help="of make demo, on real SGLang")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = chosen.reports or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        wanted = SHOTS
        if chosen.demo:
            shutil.copyfile(chosen.demo, place / "demo.json")
            wanted = {**SHOTS, **DEMO}
        for name in dict.fromkeys(shot["page"] for shot in wanted.values()):
            made = report(name, place)
            write_page(made, place / f"{name}.html", option="-o")
        taken = shots(chosen.modules, chosen.chromium, place, wanted)
        chosen.into.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            reduce(place / f"{name}.png", chosen.into / f"{name}.png")
    print(json.dumps(taken, indent=2))


def report(name: str, place: Path) -> dict[str, Any]:
    """The report of this name: the one that is kept, or a new one."""
    kept = place / f"{name}.json"
    if not kept.exists():
        made = REPORTS[name](place)
        if errors := schema_errors(made):
            raise SystemExit(f"{name}: {errors[0]}")
        kept.write_text(json.dumps(made), encoding="utf-8")
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return found


# --- reports ---------------------------------------------------------------------------------


def session(place: Path, suite: str, *options: str, sim: str = USUAL) -> dict[str, Any]:
    """A session of pytest with this suite, whose report is given back."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "test_perf.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    command += ["--llmperf-no-progress", "--llmperf-report=r.json", *options]
    subprocess.run(command, cwd=place, env={**os.environ, "SIM": sim}, check=False)
    found: dict[str, Any] = json.loads((place / "r.json").read_text(encoding="utf-8"))
    return found


def green(place: Path) -> dict[str, Any]:
    suite = SUITE.format(gates=LIMITS)
    return session(place / "green", suite, "--llmperf-launches=3", "--llmperf-runs=1")


def regression(place: Path) -> dict[str, Any]:
    suite = SUITE.format(gates=COMPARED)
    against = f"--llmperf-reference-args={USUAL}"
    return session(place / "ab", suite, against, "--llmperf-pairs=12", sim=SLOWER)


def sweep(place: Path) -> dict[str, Any]:
    """The simulator serves any number of users at one speed; these get in each other's way."""
    document = session(place / "sweep", SWEEP, "--llmperf-launches=1", "--llmperf-runs=1")
    for found in document["sweeps"]:
        for point in found["points"]:
            point["per_user"] = 240 / (1 + point["load"] / 20)
            point["throughput"] = 0.95 * point["load"] * point["per_user"]
            point["within"] = point["load"] <= BEST
            point["attainment"] = 1.0 if point["within"] else BEST / point["load"]
        found["best"] = BEST
        found["reason"] = f"Made up: concurrency {BEST} is the highest within the objectives."
    return document


def throttled(place: Path) -> dict[str, Any]:
    """A green session, as if its device had become too hot in the middle of each run."""
    document = report("green", place)
    draw = random.Random(1)
    for measurement in document["measurements"]:
        for run in measurement["runs"]:
            run["telemetry"] = heated(run, draw)
            run["valid"], run["invalid_reasons"] = False, [HOT]
    for gate in document["gates"]:
        gate.update(dict.fromkeys(MEASURED), verdict="inconclusive", covered=False)
        gate.update(reason_code="no_valid_runs", reason=f"no valid run: {HOT} ({gate['source']})")
    for test in document["tests"]:
        test["outcome"] = "could_not_measure"
    counts = document["counts"]
    counts["gates"] = dict.fromkeys(counts["gates"], 0) | {"not_covered": len(document["gates"])}
    counts["tests"] = dict.fromkeys(counts["tests"], 0)
    counts["tests"]["could_not_measure"] = len(document["tests"])
    counts["invalid_runs"], counts["valid_runs"] = counts["valid_runs"], 0
    return {**document, "verdict": "inconclusive", "exit_status": 11}


HOT: Final = "throttled: hardware thermal slowdown in 46 % of the samples of made-up device 0"
MEASURED: Final = ("observed", "difference", "ci_low", "ci_high", "sigma", "df", "detectable_loss")


def heated(run: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    samples, end = 24, max(run["curves"]["sample"]["ended_s"])
    hot = [1.0 if at > samples / 2 else 0.0 for at in range(samples)]
    series = {
        "at_s": [round(end * at / (samples - 1), 3) for at in range(samples)],
        "power_w": [340 + draw.gauss(0, 6) - 90 * held for held in hot],
        "clock_mhz": [1980 + draw.gauss(0, 8) - 700 * held for held in hot],
        "temperature_c": [70 + min(18.0, 1.4 * at) for at in range(samples)],
        "slowed": hot,
        "power_capped": [
            1.0 if samples * 0.3 < at <= samples / 2 else 0.0 for at in range(samples)
        ],
        "memory_clock_mhz": None,
        "memory_used_bytes": None,
        "utilisation": None,
    }
    nothing = ("energy_j", "energy_from", "memory_max_bytes")
    device = {
        **dict.fromkeys(nothing),
        "energy_missing": "it is made up",
        "uuid": "GPU-0",
        "index": 0,
        "product": "made-up device",
        "samples": samples,
        "power_mean_w": 295.0,
        "power_max_w": 352.0,
        "clock_p50_mhz": 1900.0,
        "memory_clock_p50_mhz": None,
        "temperature_max_c": 88.0,
        "utilisation_mean": 0.97,
        "power_capped_share": 0.2,
        "slowed": {"hardware thermal slowdown": 0.46},
        "series": series,
    }
    return {
        **dict.fromkeys(("energy_j", "peak_memory_bytes", "peak_memory_of", "price")),
        "energy_missing": "it is made up",
        "peak_memory_missing": "it is made up",
        "source": "made up",
        "period_s": 0.05,
        "cpu_share": 0.001,
        "devices": [device],
    }


def history(place: Path) -> dict[str, Any]:
    """A session that is slower, after forty nights whose level changed twice."""
    suite = SUITE.format(gates=COMPARED + '\n@pytest.mark.llm_floor(output_throughput="500 tok/s")')
    home = place / "nights"
    shutil.rmtree(home / "perf", ignore_errors=True)
    options = ("--llmperf-store=perf", "--llmperf-launches=2", "--llmperf-runs=1")
    session(home, suite, *options)
    store = open_store(str(home / "perf"), home)
    (first,) = store.observations()
    nights = [night(first, number) for number in range(40)]
    for each in nights:
        store.append(each)
    accepted = tuple(each.id for each in nights[14:30])
    store.accept(
        Level(
            id="level",
            key=first.key,
            created=nights[29].created,
            observations=accepted,
            reason="the nights since the change",
            author="nobody",
        )
    )
    store.close()
    return session(home, suite, *options, sim=f"{USUAL.rsplit(' ', 1)[0]} 10.4")


def night(like: Observation, number: int) -> Observation:
    """A session a night, between the 14th and the 31st of them a better one."""
    draw = random.Random(number)
    level = (0.93 if 14 <= number < 31 else 1.0) * (1 + draw.gauss(0, 0.008))
    launches = tuple(
        replace(
            launch,
            metrics={
                name: value * level * (1 + draw.gauss(0, 0.004))
                for name, value in launch.metrics.items()
            },
        )
        for launch in like.launches
    )
    return replace(
        like,
        id=f"night-{number}",
        created=(datetime.now(UTC) - timedelta(days=40 - number)).isoformat(),
        launches=launches,
        commit=f"{draw.getrandbits(160):040x}",
        dirty=False,
        subject={**like.subject, "version": f"0.5.{number // 10}"},
    )


def many(_: Path) -> dict[str, Any]:
    return {**assembled(suite_of(200)), "simulated": True}


REPORTS: Final = {
    "green": green,
    "regression": regression,
    "sweep": sweep,
    "throttled": throttled,
    "history": history,
    "many": many,
}


# --- pictures --------------------------------------------------------------------------------


def shots(modules: Path, chromium: str, place: Path, wanted: Shots) -> dict[str, Any]:
    """Have the pictures taken; raises where a page complains, or somebody of a page."""
    each = [{"name": name, "width": 1100, **shot} for name, shot in wanted.items()]
    asked = {"shots": each, "place": str(place), "chromium": chromium, "modules": str(modules)}
    script = ["node", str(HERE / "report_pictures.js")]
    done = subprocess.run(script, input=json.dumps(asked), stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    trouble = {name: told["trouble"] for name, told in found.items() if told["trouble"]}
    if done.returncode or trouble:
        raise SystemExit(f"a page is not as it should be: {json.dumps(trouble, indent=2)}")
    return found


def reduce(picture: Path, to: Path) -> None:
    image_of = import_module("PIL.Image")
    image = image_of.open(picture).convert("RGB")
    # Thin lines in red are few of all pixels, and must stay red.
    few = image.quantize(COLOURS, image_of.Quantize.MAXCOVERAGE, dither=image_of.Dither.NONE)
    few.save(to, optimize=True)


if __name__ == "__main__":
    main()
