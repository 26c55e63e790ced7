"""Makes ``recorded/``: what twenty nights of ``test_nightly.py`` would have left, by the simulator.

    python make_recorded.py

It launches the simulated server forty times, which takes two minutes. Nothing in it was measured
on any hardware: days, machine and engine are made up, and every file says "simulated". From the
fifteenth night on the simulated server takes 7 % longer for a token. The first ten nights were
accepted.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pytest_llmperf.records import Level, Observation
from pytest_llmperf.store import key_of, open_store

HERE = Path(__file__).resolve().parent
FIRST_NIGHT = datetime(2026, 9, 1, 2, 0, tzinfo=UTC)
NIGHTS, ACCEPTED, SLOWER_FROM = 20, 10, 15
KEPT = ("output_throughput", "tpot_mean", "ttft_p50", "e2e_mean")
ENVIRONMENT = {"vendor": "simulated", "product": "simulated", "count": 1}


def main() -> None:
    where = HERE / "recorded"
    shutil.rmtree(where, ignore_errors=True)
    store = open_store(str(where), HERE)
    nights = []
    for number in range(1, NIGHTS + 1):
        itl_ms = 4.0 if number < SLOWER_FROM else 4.28
        nights.append(labelled(measured(itl_ms), number))
        store.append(nights[-1])
        if number == ACCEPTED:
            store.accept(level(nights))
    store.close()


def measured(itl_ms: float) -> Observation:
    """One session of the suite on the simulator, as it remembers itself."""
    with tempfile.TemporaryDirectory() as directory:
        text = (HERE / "test_nightly.py").read_text(encoding="utf-8")
        args = f"--ttft-ms 20 --itl-ms {itl_ms} --launch-cv 0.015"
        text = text.replace('"sglang",', f'"sim", args="{args}",')
        Path(directory, "test_nightly.py").write_text(text, encoding="utf-8")
        Path(directory, "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        options = ["--llmperf-store=perf", "--llmperf-launches=2", "--llmperf-runs=1"]
        subprocess.run([*command, *options], cwd=directory, env=os.environ, check=True)
        store = open_store("perf", Path(directory))
        (observation,) = store.observations()
        store.close()
    return observation


def labelled(observation: Observation, number: int) -> Observation:
    """The same on a made-up day, without what tells of the machine that it was made on."""
    day = FIRST_NIGHT + timedelta(days=number - 1)
    launches = tuple(
        replace(
            launch,
            launch_id=f"simulated-{number}-{index}",
            started_at=(day - timedelta(minutes=10 - index)).isoformat(),
            metrics={name: round(launch.metrics[name], 4) for name in KEPT},
        )
        for index, launch in enumerate(observation.launches)
    )
    return replace(
        observation,
        id=f"simulated-{number:02d}",
        key=key_of(observation.test, observation.workload, ENVIRONMENT, observation.gate_version),
        created=day.isoformat(),
        environment=ENVIRONMENT,
        subject={"engine": "sim", "version": "simulated", "model": "tiny-r1-distill-qwen"},
        block={"machine": "simulated"},
        launches=launches,
        commit=None,
        dirty=None,
        runner="simulated",
    )


def level(nights: list[Observation]) -> Level:
    newest = datetime.fromisoformat(nights[-1].created)
    return Level(
        id="simulated-level",
        key=nights[-1].key,
        created=(newest + timedelta(hours=7)).isoformat(),
        observations=tuple(night.id for night in nights),
        reason="the first ten nights (simulated)",
        author="nobody",
    )


if __name__ == "__main__":
    main()
