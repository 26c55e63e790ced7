"""What installing the wheel brings, and what it costs a pytest that uses none of it.

Makes an empty environment, installs the wheel into it as a user would, and counts: seconds,
distributions, megabytes. Then ``pytest --help`` and an empty suite are run in turns, with the
plugin and without it, each time by an interpreter of its own; told is their processor time. Ends
with a Markdown table.

    python -m build --wheel && python -m benchmarks.installed dist/*.whl
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

RUNS = {"pytest --help": ["--help"], "an empty suite": ["-q", "test_empty.py"]}
WITHOUT = ["-p", "no:llmperf"]
IMPORTS = "import pytest_llmperf.plugin"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--pairs", type=int, default=15)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        (place / "test_empty.py").write_text("")
        python = install(place / "pytest", ["pytest"])
        bare = contents(place / "pytest")
        started = time.perf_counter()
        python = install(place / "ours", [str(asked.wheel.resolve())])
        seconds = time.perf_counter() - started
        count, size = contents(place / "ours")
        print(f"installed in {seconds:.0f} s, with what is fetched and compiled\n")
        print("| | pytest alone | with pytest-llmperf |\n|---|---|---|")
        print(f"| distributions | {bare[0]} | {count} |")
        print(f"| MB | {bare[1] / 1e6:.0f} | {size / 1e6:.0f} |")
        for name, words in RUNS.items():
            print(row(name, [compare(python, words, place) for _ in range(asked.pairs)]))
        print(f"\nmodules of ours that `{IMPORTS}` loads: {', '.join(loaded(python, place))}")
    return 0


def install(place: Path, what: Sequence[str]) -> Path:
    """The interpreter of a new environment with ``what``."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    subprocess.run(pip, check=True)
    return python


def contents(place: Path) -> tuple[int, int]:
    """How many distributions but pip lie in an environment, and their bytes."""
    (packages,) = place.glob("lib/python*/site-packages")
    files = [each for each in packages.rglob("*") if each.is_file() and not each.is_symlink()]
    mine = [each for each in files if not each.relative_to(packages).parts[0].startswith("pip")]
    count = sum(each.name == "METADATA" for each in mine)
    return count, sum(each.stat().st_size for each in mine)


def compare(python: Path, words: Sequence[str], place: Path) -> tuple[float, float]:
    """Processor seconds of one run without the plugin, and of one with it."""
    return cpu_s(python, [*WITHOUT, *words], place), cpu_s(python, words, place)


def cpu_s(python: Path, words: Sequence[str], place: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *words]
    subprocess.run(command, cwd=place, stdout=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def row(name: str, pairs: Sequence[tuple[float, float]]) -> str:
    without, with_ = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = statistics.quantiles((b / a for a, b in pairs), n=4)
    spread = f"{ratios[0]:.3f} to {ratios[2]:.3f}"
    return (
        f"| {name}, ms of processor time | {without * 1e3:.0f} | {with_ * 1e3:.0f} "
        f"(ratio {ratios[1]:.3f}, quartiles {spread}) |"
    )


def loaded(python: Path, place: Path) -> list[str]:
    ask = f"import sys; {IMPORTS}; print(*sorted(m for m in sys.modules if 'llmperf' in m))"
    done = subprocess.run(
        [python, "-c", ask], cwd=place, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


if __name__ == "__main__":
    sys.exit(main())
