"""README.md is true: its tests and commands are run, with the simulator in SGLang's place on a card
that is not there, and what it says was printed is what is printed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from docs.generate.fenced import fenced_blocks

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = list(fenced_blocks(PAGE))
MOST_WORDS = 1_200
#: In short, for the full lengths of a chat take minutes; the rest of the test is the page's.
SHORT = (
    'llm_workload("chat", concurrency=16)',
    'llm_workload("chat", concurrency=16, input_tokens=64, output_tokens=16, requests=208)',
)
#: The simulator by SGLang's name, slower by a flag as SGLang would be, and the card of the page.
STAND_IN = """
from dataclasses import replace

from pytest_llmperf.accelerators.base import alike
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.records import Device
from pytest_llmperf.session import placing

CARD = Device(vendor="nvidia", product="NVIDIA GeForce RTX 4090", index=0, uuid="GPU-0")
PACES = {
    (): ("--ttft-ms", "5", "--itl-ms", "1"),
    ("--stream-interval", "4"): ("--ttft-ms", "20", "--itl-ms", "3"),
}
detected = placing.detect


class StandIn(Sim):
    def plan(self, request, placement):
        return super().plan(replace(request, args=PACES[request.args]), placement)


def pytest_configure(config):
    if config.rootpath.name == "suite":
        placing.detect = lambda wanted=None, env=None: alike([CARD], "test")


def pytest_llmperf_engines():
    return {"sglang": StandIn()}
"""

Run = Callable[[str], subprocess.CompletedProcess[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a command ends with, and what it prints; ``gated`` is of the test with the gate."""

    statuses: tuple[int, ...]
    prints: tuple[str, ...]
    gated: bool = False


#: A floor may be missed where others use the machine: nothing here is about its speed.
CLAIMS = {
    "pytest test_first.py": Claim(
        statuses=(10,), prints=("SIMULATED: these figures come from the simulator",)
    ),
    "pytest tests/perf --llmperf-reference-args '--stream-interval 4'": Claim(
        statuses=(0, 10),
        prints=(
            r"^test_chat +[\d,.]+ tok/s +>= 1,800 ",
            r"of 3 %",
            r"^10 launches for 2 servers$",
        ),
        gated=True,
    ),
    "pytest tests/perf --llmperf-store perf": Claim(
        statuses=(0, 10),
        prints=("LEARNING 1/8: this session is remembered and judges nothing;",),
        gated=True,
    ),
    "pytest-llmperf doctor": Claim(statuses=(0, 1), prints=(r"^accelerator  ",)),
    "pytest tests/perf --llmperf-report out/report.json --llmperf-html out/report.html": Claim(
        statuses=(0, 10),
        prints=(r"^test_chat +[\d,.]+ tok/s +>= 1,800 ", "report.json$", "report.html$"),
    ),
}


def commands() -> list[str]:
    """Every command of the page, without what is said beside it."""
    scripts = (block.text for block in BLOCKS if block.language == "sh")
    lines = (line for script in scripts for line in script.splitlines())
    return [re.sub(r" +# .*", "", line) for line in lines]


def python() -> tuple[str, str]:
    """The test that the page begins with, and the one to try."""
    shown, first = (block.text + "\n" for block in BLOCKS if block.language == "python")
    assert SHORT[0] in shown
    assert first.startswith("# test_first.py\n")
    return shown, first


def with_the_gate(test: str) -> str:
    """The gate that the page shows in a line, above that test."""
    (gate,) = re.findall(r"`(@pytest\.mark\.llm_no_regression\(.+?\))`", TEXT)
    return test.replace("def test_chat", f"{gate}\ndef test_chat")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, reader: Callable[[Path, str, str], Run]) -> Run:
    """Commands of the page, with its tests where they look for them."""
    shown, first = python()
    runs = {}
    for gated, test in ((False, shown), (True, with_the_gate(shown))):
        place = tmp_path_factory.mktemp("reader") / "suite"
        (place / "tests" / "perf").mkdir(parents=True)
        (place / "pytest.ini").write_text("[pytest]\n")
        written = test.replace(*SHORT)
        (place / "tests" / "perf" / "test_r1.py").write_text(written, encoding="utf-8")
        (place / "test_first.py").write_text(first, encoding="utf-8")
        runs[gated] = reader(place, STAND_IN, "")
    return lambda command: runs[CLAIMS[command].gated](command)


@pytest.mark.parametrize("command", CLAIMS)
def test_a_command_does_what_the_page_says(run: Run, command: str) -> None:
    done = run(command)
    assert done.returncode in CLAIMS[command].statuses, done.stdout
    for pattern in CLAIMS[command].prints:
        assert re.search(pattern, done.stdout, re.MULTILINE), (pattern, done.stdout)


def test_the_failure_that_is_shown_is_the_one_that_comes(run: Run) -> None:
    (shown,) = re.findall(r"^> (.+ under floor: .+)$", TEXT, re.MULTILINE)
    assert without_figures(shown) in without_figures(run("pytest test_first.py").stdout)


def without_figures(text: str) -> str:
    """But for the place in the test, and for the machine that it was measured on."""
    return re.sub(r"on [^(\n]+ \(this", "on # (this", re.sub(r"(?<!:)\b\d[\d,.]*", "#", text))


def test_every_command_is_run_here_or_by_ci() -> None:
    run_by_ci = {
        line.strip().removeprefix("- run: ")
        for name in (".ci/run", ".github/workflows/test.yml")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
    }
    assert {each for each in commands() if each not in run_by_ci} == set(CLAIMS)


def test_what_the_demo_printed_is_what_such_a_suite_prints() -> None:
    (printed,) = (block.text for block in BLOCKS if "| tiny-r1 |" in block.text)
    source = (ROOT / "examples" / "quickstart" / "test_quickstart.py").read_text(encoding="utf-8")
    tests = set(re.findall(r"^(test_\w+)", printed, re.MULTILINE))
    known = re.findall(r"^def (test_\w+)", source, re.MULTILINE)
    assert tests
    assert all(any(name.startswith(test.rstrip(".")) for name in known) for test in tests)
    (line,) = re.findall(r"test_quickstart\.py:(\d+)", printed)
    assert source.splitlines()[int(line) - 1].startswith("@pytest.mark.")


def test_the_page_stays_short() -> None:
    assert len(TEXT.split()) <= MOST_WORDS
