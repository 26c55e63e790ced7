"""How fast the page of a report opens in a browser, and how large it is.

Pages of the reports that report_cost makes up (200 gates, 2,000 gates, one run of 100,000 requests)
are opened in headless Chromium, in turns, each time in a context of its own. Three moments of each
opening are told, by the clock since the navigation began: its script had run (buttons, search and
folds work), the first chart stood for a reader who goes there at once, and the last task of more
than 50 ms had ended. Beside them stands the CPU time of the main thread and of the page's process
until a second after the chart, with the load of the machine, for a busy one delays a page that
is not slow. Prints JSON: medians, and the least and greatest of all openings.

    python -m benchmarks.report_opening --modules DIRECTORY/node_modules

Takes Node with puppeteer-core (npm install puppeteer-core) and a Chromium. --pages opens other
pages, each a file that `pytest-llmperf report` made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.report_cost import CASES, cpu

SCRIPT: Final = Path(__file__).with_suffix(".js")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modules", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument(
        "--pages", type=Path, nargs="+", metavar="FILE", help="instead of made ones"
    )
    parser.add_argument("--times", type=int, default=5, help="openings of each page")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        pages = chosen.pages or made(Path(temporary))
        found = opened(chosen.modules, chosen.chromium, pages, chosen.times)
        rows = [row(page, found["told"][str(page)]) for page in pages]
    machine = {"cpu": cpu(), "cores": os.cpu_count(), "python": platform.python_version()}
    print(json.dumps({**machine, "browser": found["version"], "rows": rows}, indent=2))


def made(place: Path) -> list[Path]:
    """The pages of report_cost, which runs in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.report_cost", f"--keep={place}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [place / f"{case}.html" for case in CASES]


def opened(modules: Path, chromium: str, pages: list[Path], times: int) -> dict[str, Any]:
    asked = {
        "modules": str(modules),
        "chromium": chromium,
        "pages": [str(page) for page in pages],
        "times": times,
    }
    script = ["node", str(SCRIPT)]
    told = json.dumps(asked)
    done = subprocess.run(script, input=told, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(page: Path, openings: list[dict[str, float]]) -> dict[str, Any]:
    spread = {
        name: {
            "median": round(statistics.median(values), 2),
            "least": round(min(values), 2),
            "greatest": round(max(values), 2),
        }
        for name in openings[0]
        for values in [[each[name] for each in openings]]
    }
    return {"page": page.name, "bytes": page.stat().st_size, "times": len(openings), **spread}


if __name__ == "__main__":
    main()
