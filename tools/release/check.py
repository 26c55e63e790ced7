"""A release without releasing: builds wheel and sdist, looks into them, installs each into an
empty environment and uses it there. Figures are printed and judged by nobody.

    make release-check
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from . import contents

ROOT = Path(__file__).parents[2]
TIMES = 7
#: What somebody does first, on the simulator.
SUITE = """
import pytest


@pytest.mark.llm_server("sim", model="toy")
@pytest.mark.llm_workload("chat", input_tokens=32, output_tokens=8, concurrency=2, requests=20)
@pytest.mark.llm_floor(output_throughput="1 tok/s")
def test_chat(llm_perf):
    assert llm_perf.run().success_rate == 1.0
"""
#: The machine may be as busy as it likes: nobody asks how the load client fared.
CALM = """
[pytest]
llmperf_client_cpu = off
llmperf_client_lag = off
llmperf_client_send_delay = off
llmperf_client_delivered = off
llmperf_client_in_flight = off
llmperf_client_clock = off
llmperf_client_silence = off
llmperf_max_drift = off
"""
IMPORT = "import time; t = time.perf_counter(); import {what}; print(time.perf_counter() - t)"


class Broken(Exception):
    """What is wrong with the release."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uv", default="uv", help="the uv to build and install with")
    parser.add_argument("--twine", default="twine", help="the twine that checks the metadata")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the files go")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="release-") as directory:
        try:
            for line in Dry(Path(directory), asked.uv, asked.twine, asked.dist).run():
                print(line, flush=True)
        except Broken as error:
            print(f"not ready: {error}", file=sys.stderr)
            return 1
    return 0


class Dry:
    """One dry run, in a scratch directory of its own."""

    def __init__(self, scratch: Path, uv: str, twine: str, dist: Path) -> None:
        self.scratch, self.dist = scratch, dist.absolute()
        (scratch / "runtime").mkdir(mode=0o700)
        self.uv, self.twine = _found(uv), _found(twine)

    def run(self) -> list[str]:
        wheel, sdist = self.build()
        self.look_into(wheel, sdist)
        before = self.environment("before", "pytest")
        after = self.environment("wheel", str(wheel))
        self.use(after)
        self.use(self.environment("sdist", str(sdist)))
        return self.figures(wheel, sdist, before, after)

    def build(self) -> tuple[Path, Path]:
        """An sdist of the checkout, and a wheel of that sdist: what is published."""
        self.dist.mkdir(parents=True, exist_ok=True)
        for old in (*self.dist.glob("*.whl"), *self.dist.glob("*.tar.gz")):
            old.unlink()
        self.do(self.uv, "build", "--quiet", "--out-dir", str(self.dist), at=ROOT)
        return _only(self.dist, "*.whl"), _only(self.dist, "*.tar.gz")

    def look_into(self, wheel: Path, sdist: Path) -> None:
        self.do(self.twine, "check", "--strict", str(wheel), str(sdist))
        tracked = self.do("git", "ls-files", at=ROOT).splitlines()
        tracked = [name for name in tracked if (ROOT / name).exists()]
        problems = contents.wheel_problems(
            contents.names_in_wheel(wheel), contents.wanted_in_wheel(tracked)
        ) + contents.sdist_problems(
            contents.names_in_sdist(sdist), contents.wanted_in_sdist(tracked)
        )
        direct = self.scratch / "direct"
        self.do(self.uv, "build", "--quiet", "--wheel", "--out-dir", str(direct), at=ROOT)
        other = contents.digests(_only(direct, "*.whl"))
        problems += [
            f"{name} is not the same in a wheel of the sdist and one of the checkout"
            for name in contents.differing(contents.digests(wheel), other)
        ]
        if problems:
            raise Broken("; ".join(problems))

    def environment(self, name: str, *wanted: str) -> Path:
        """The ``bin`` of an empty environment in which this alone was asked for."""
        place = self.scratch / name
        self.do(self.uv, "venv", "--quiet", "--python", sys.executable, str(place))
        python = str(place / "bin" / "python")
        self.do(self.uv, "pip", "install", "--quiet", "--python", python, *wanted)
        return place / "bin"

    def use(self, programs: Path) -> None:
        """What is installed there declares its options, finds its way and measures."""
        place = self.scratch / f"use-{programs.parent.name}"
        place.mkdir()
        (place / "test_chat.py").write_text(SUITE, encoding="utf-8")
        (place / "pytest.ini").write_text(CALM, encoding="utf-8")
        if "--llmperf-report" not in self.do(str(programs / "pytest"), "--help", at=place):
            raise Broken(f"pytest --help in {programs.parent.name} knows no option of ours")
        companion = str(programs / "pytest-llmperf")
        # Nothing can be served in an empty environment, and the doctor says so with its status.
        json.loads(self.do(companion, "doctor", "--json", at=place, fine=(0, 1)))
        self.do(str(programs / "pytest"), "--llmperf-report", "r.json", at=place)
        self.do(companion, "validate", "r.json", at=place)

    def figures(self, wheel: Path, sdist: Path, before: Path, after: Path) -> list[str]:
        packages = self.packages(after)
        plain, ours = (self.seconds(after, what) for what in ("pytest", "pytest_llmperf.plugin"))
        helped = [self.help_seconds(each) for each in (before, after)]
        return [
            f"wheel                {wheel.stat().st_size / 1024:,.0f} KiB, {wheel.name}",
            f"sdist                {sdist.stat().st_size / 1024:,.0f} KiB, {sdist.name}",
            f"dependencies         {len(packages) - 1} packages, "
            f"{len(packages) - len(self.packages(before)) - 1} of them beside pytest's own",
            f"import pytest        {plain * 1000:,.0f} ms",
            f"import of the plugin {ours * 1000:,.0f} ms, pytest included",
            f"pytest --help        {helped[0] * 1000:,.0f} ms before, {helped[1] * 1000:,.0f} ms "
            f"with the plugin (medians of {TIMES})",
        ]

    def packages(self, programs: Path) -> list[str]:
        python = str(programs / "python")
        listed = self.do(self.uv, "pip", "list", "--format", "json", "--python", python)
        return [each["name"] for each in json.loads(listed)]

    def seconds(self, programs: Path, what: str) -> float:
        code = IMPORT.format(what=what)
        python = str(programs / "python")
        return statistics.median(float(self.do(python, "-c", code)) for _ in range(TIMES))

    def help_seconds(self, programs: Path) -> float:
        times = []
        for _ in range(TIMES):
            begun = perf_counter()
            self.do(str(programs / "pytest"), "--help")
            times.append(perf_counter() - begun)
        return statistics.median(times)

    def do(self, *command: str, at: Path | None = None, fine: Sequence[int] = (0,)) -> str:
        """Run a command; its output. Raises :class:`Broken` where it fails."""
        # The checkout's own files must not stand in for what is installed.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            command,
            cwd=at or self.scratch,
            # Locks of its own: it waits for nobody who measures here.
            env={**env, "PYTEST_LLMPERF_RUNTIME_DIR": str(self.scratch / "runtime")},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in fine:
            raise Broken(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout


def _found(program: str) -> str:
    """A path stays valid wherever a command is run; a bare name is looked up in PATH."""
    return str(Path(program).absolute()) if "/" in program else program


def _only(place: Path, pattern: str) -> Path:
    found: Sequence[Path] = sorted(place.glob(pattern))
    if len(found) != 1:
        raise Broken(f"{place} has {len(found)} of {pattern}, and one was to be built")
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
