"""Whether the tests notice when the code that decides is changed: mutation testing with mutmut.

A room is copied, each of its functions is changed in one place at a time, and those tests of the
same room that reach the function are run on it. A change that no test notices is a survivor; one
that no test reaches is one as well. What waits past all measure, or crashes, was noticed. The
rooms that judge and compute have thousands of such changes: of these a sample is drawn, the same
for one seed and one state of the code, and the score has an interval (Wilson's, 95 %). mutmut (3.8)
changes what functions do: nothing at the top of a module, nothing in what has a decorator.
Prints JSON.

    python -m benchmarks.mutation --mutmut .build/mutation/venv/bin/mutmut --sample 300 --show
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is changed, as patterns of files, and which tests are to notice."""

    changed: Sequence[str]
    tests: Sequence[str]


ROOMS = {
    "load/sse": Room(
        changed=("pytest_llmperf/load/read/sse.py", "pytest_llmperf/load/read/framing.py"),
        tests=("tests/unit/load/test_load_sse.py", "tests/unit/load/test_load_framing.py"),
    ),
    "gates": Room(changed=("pytest_llmperf/gates/*.py",), tests=("tests/unit/gates",)),
    "metrics": Room(changed=("pytest_llmperf/metrics/*.py",), tests=("tests/unit/metrics",)),
}
COPIED = ("pytest_llmperf", "schemas", "docs", "README.md", "tests/unit/conftest.py")
SETTINGS = """
[tool.pytest.ini_options]
addopts = ["--strict-markers", "-p", "no:cacheprovider"]
filterwarnings = ["error"]
[tool.mutmut]
source_paths = ["pytest_llmperf"]
only_mutate = {changed}
also_copy = ["schemas", "docs", "README.md"]
pytest_add_cli_args_test_selection = {tests}
use_git_change_detection = false
timeout_multiplier = 10.0
"""
#: In place of the one for all tests, which looks for processes and files that are left. Examples
#: are few, and the same for each change.
CONFTEST = """
from hypothesis import settings
few = dict(deadline=None, derandomize=True, database=None, max_examples=30)
settings.register_profile("mutation", **few)
settings.load_profile("mutation")
"""
#: mutmut's words for a change that a test has noticed.
NOTICED = ("killed", "timeout", "segfault")
#: A name that no change has.
NONE = "no-such-change"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutmut", default="mutmut", help="the program")
    parser.add_argument("--place", type=Path, default=ROOT / ".build" / "mutation" / "work")
    parser.add_argument("--room", choices=ROOMS, action="append", help="all, if left out")
    parser.add_argument("--sample", type=int, default=300, help="changes of each room")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="the survivors, as differences")
    chosen = parser.parse_args()
    found = {}
    for name in chosen.room or ROOMS:
        place = chosen.place / name.replace("/", "-")
        prepare(place, ROOMS[name])
        mutmut = Mutmut(chosen.mutmut, place, chosen.processes)
        found[name] = scored(mutmut, sample=chosen.sample, seed=chosen.seed)
        told = {"room": name, "seed": chosen.seed, **found[name]}
        print(json.dumps(told, indent=1, ensure_ascii=False), flush=True)
        if chosen.show:
            print("\n".join(mutmut.show(each) for each in found[name]["survivors"]), flush=True)
    return 0


def prepare(place: Path, room: Room) -> None:
    """Copy what is changed and what tests it. Nothing of an earlier run stays."""
    shutil.rmtree(place, ignore_errors=True)
    for name in (*COPIED, *room.tests):
        source, target = ROOT / name, place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    (place / "tests" / "conftest.py").write_text(CONFTEST)
    settings = SETTINGS.format(
        changed=json.dumps(list(room.changed)), tests=json.dumps(list(room.tests))
    )
    (place / "pyproject.toml").write_text(settings)


class Mutmut:
    """The program, run in the directory of the copies."""

    def __init__(self, program: str, place: Path, processes: int) -> None:
        self._program = str(Path(program).absolute()) if os.sep in program else program
        self._place = place
        self._processes = processes

    def population(self) -> list[str]:
        """The names of all changes. mutmut lists them, and sees which test reaches what, on its
        way to refusing a name that it does not have."""
        done = self._call("run", NONE, stdout=subprocess.PIPE)
        if not (self._place / "mutants" / "mutmut-stats.json").exists():
            raise RuntimeError(f"the tests do not pass on unchanged code:\n{done.stdout}")
        return sorted(self.results())

    def run(self, names: Sequence[str]) -> None:
        words = ("--max-children", str(self._processes), *names)
        self._call("run", *words, stdout=sys.stderr).check_returncode()

    def results(self) -> dict[str, str]:
        """What became of each change, by its name."""
        done = self._call("results", "--all", "true", stdout=subprocess.PIPE)
        done.check_returncode()
        lines = (line.strip().partition(": ") for line in done.stdout.splitlines())
        return {name: status for name, _, status in lines if status}

    def show(self, name: str) -> str:
        return self._call("show", name, stdout=subprocess.PIPE).stdout

    def _call(self, *words: str, stdout: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *words],
            cwd=self._place,
            check=False,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )


def scored(mutmut: Mutmut, *, sample: int, seed: int) -> dict[str, Any]:
    """A room's score, with its interval where it comes of a sample."""
    population = mutmut.population()
    names = drawn(population, sample, seed)
    mutmut.run(names)
    results = mutmut.results()
    return {"population": len(population), **score(names, results, len(population))}


def drawn(population: Sequence[str], sample: int, seed: int) -> list[str]:
    """Which changes are tried."""
    if sample >= len(population):
        return list(population)
    return sorted(random.Random(seed).sample(list(population), sample))


def score(names: Sequence[str], results: Mapping[str, str], population: int) -> dict[str, Any]:
    """Counts and the share of those that were noticed."""
    noticed = sum(results[name] in NOTICED for name in names)
    return {
        "tried": len(names),
        "noticed": noticed,
        "score": round(noticed / len(names), 4),
        "interval": interval(noticed, len(names)) if len(names) < population else None,
        "by_result": dict(Counter(results[name] for name in names)),
        "survivors": [name for name in names if results[name] not in NOTICED],
    }


def interval(hits: int, tries: int, z: float = 1.959964) -> list[float]:
    """Wilson's score interval of a share."""
    share, square = hits / tries, z * z
    middle = (share + square / (2 * tries)) / (1 + square / tries)
    half = z * math.sqrt(share * (1 - share) / tries + square / (4 * tries**2))
    half /= 1 + square / tries
    return [round(middle - half, 4), round(middle + half, 4)]


if __name__ == "__main__":
    sys.exit(main())
