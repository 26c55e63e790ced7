"""What having the plugin installed costs a pytest run that uses none of it.

Collects an empty suite again and again in one process, in turn with and without the plugin, whose
modules are forgotten before each turn: what differs is our imports and hooks. Starting an
interpreter each time would add ten times as much, and noise of several times the bound. Prints
JSON: milliseconds of CPU time.

As anywhere but on the first run, bytecode is kept, in a place of our own. Where it may not be
written (a read-only image, PYTHONDONTWRITEBYTECODE) every run compiles our modules anew, as it
does those of other plugins: that is what --uncompiled measures, without a bound.

    python benchmarks/idle_cost.py --pairs 100
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

BOUND_MS = 5.0
# As it is met: found by its entry point, beside whatever other plugins this environment has.
WITH: list[str] = []
WITHOUT = ["-p", "no:llmperf"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--uncompiled", action="store_true", help="keep no bytecode")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        sys.dont_write_bytecode = asked.uncompiled
        sys.pycache_prefix = str(Path(directory) / "bytecode")
        (Path(directory) / "test_empty.py").write_text("")
        os.chdir(directory)
        for args in (WITH, WITHOUT):
            run(args)
        timed = [pair(swapped=bool(each % 2)) for each in range(asked.pairs)]
        os.chdir("/")
    differences = [with_ - without for with_, without in timed]
    median = statistics.median(differences)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "bytecode": "compiled anew" if asked.uncompiled else "kept",
        "pairs": asked.pairs,
        "with_ms": statistics.median(with_ for with_, _ in timed),
        "without_ms": statistics.median(without for _, without in timed),
        "difference_ms": median,
        "difference_quartiles_ms": statistics.quantiles(differences, n=4),
        "bound_ms": BOUND_MS,
        "within": None if asked.uncompiled else median <= BOUND_MS,
    }
    print(json.dumps(result, indent=1))
    return 1 if result["within"] is False else 0


def pair(*, swapped: bool) -> tuple[float, float]:
    """With and without, the order taken in turns: what one leaves behind costs the other."""
    if swapped:
        without = run(WITHOUT)
        return run(WITH), without
    return run(WITH), run(WITHOUT)


def run(args: list[str]) -> float:
    """CPU milliseconds (user and system) of one collection.

    CPU time, since neighbours on a shared machine stretch the wall clock and hardly this.
    """
    for name in [name for name in sys.modules if name.startswith("pytest_llmperf")]:
        del sys.modules[name]
    gc.collect()  # what earlier turns left is not this one's
    before = time.process_time_ns()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *args])
    return (time.process_time_ns() - before) / 1e6


if __name__ == "__main__":
    sys.exit(main())
