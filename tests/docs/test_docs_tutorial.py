"""docs/tutorial.md is true: its files and commands, taken from the page and run in order, with the
simulator in SGLang's place."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
#: What a reader does that needs a network or a screen.
NOT_RUN = ("mkdir ", "cd ", "python3 -m venv ", ". .venv/", "pip install ", "xdg-open ")
OURS = ("pytest", "pytest-llmperf")

#: The simulator has none.
NO_WEIGHTS = "--llmperf-model tiny-r1=m"

Run = Callable[[str], subprocess.CompletedProcess[str]]

#: The simulator by SGLang's name; one request at a time makes it slower, as it would SGLang.
STAND_IN = """
from dataclasses import replace

from pytest_llmperf.engines.sim import Sim

PACES = {
    (): ("--ttft-ms", "5", "--itl-ms", "1"),
    ("--max-running-requests", "1"): ("--ttft-ms", "5", "--itl-ms", "3"),
}


class StandIn(Sim):
    def plan(self, request, placement):
        return super().plan(replace(request, args=PACES[request.args]), placement)


def pytest_llmperf_engines():
    return {"sglang": StandIn()}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a command of the page ends with, and kinds of lines that it prints."""

    statuses: tuple[int, ...] = (0,)
    prints: tuple[str, ...] = ()


CLAIMS = {
    "pytest-llmperf doctor": Claim(statuses=(0, 1), prints=(r"^accelerator  ", r"^processor  ")),
    "pytest test_first.py": Claim(
        prints=(r"^1 launch for 1 server$", r"^test_chat .* tok/s +\d+/\d+$", r"= 1 passed in ")
    ),
    "pytest test_floor.py --llmperf-report out/report.json --llmperf-html out/report.html": Claim(
        statuses=(10,),
        prints=(
            r"^−[\d.]+ % under floor: [\d,.]+ < 100,000 tok/s output throughput on .+ "
            r"\(this launch, beyond the 9 % guard for an assumed launch CV of 3 %; "
            r"floor set in test_floor\.py:15\)$",
            r"^1 launch for 1 server$",
            r"^test_a_floor_that_holds .* >= 10 .* pass$",
            r"= 1 failed, 1 passed in ",
        ),
    ),
    "pytest-llmperf validate out/report.json": Claim(prints=(r"^out/report\.json: valid$",)),
    "pytest test_gate.py --llmperf-reference-args '' --llmperf-plan": Claim(
        prints=(
            r"^plan: 1 server, 1 gate; ",
            r" 2 launches to warm up, then 4 to 12 pairs of launches \(10 to 26 launches in all\)$",
            r"^    compared with sglang without arguments$",
            r"catch a loss of 20 %; 13 % is in reach if pairs differ by 4\.2 % \(assumed;",
        )
    ),
    "pytest test_gate.py --llmperf-reference-args ''": Claim(
        statuses=(10,),
        prints=(
            r"^[\d.]+ % slower: output throughput \([\d.]+ % sure: at least [\d.]+ %\) against "
            r"sglang .*without arguments, 6 interleaved pairs of launches on .+; "
            r"gate: catch a loss of 20 % \(gate set in test_gate\.py:10\); differs: ",
            r"^14 launches for 2 servers$",
        ),
    ),
    "pytest test_night.py --llmperf-store perf": Claim(
        prints=(r"LEARNING 1/8: this session is remembered and judges nothing;", r"= 1 passed in ")
    ),
    "pytest-llmperf baseline list": Claim(prints=(r"^test_night-test_every_night\.\S+ .*tok/s",)),
}


def commands() -> list[str]:
    """Every line of the page that a shell would run, in order."""
    scripts = (block for language, block in BLOCKS if language == "sh")
    return [line for script in scripts for line in script.splitlines()]


def ours(command: str) -> bool:
    return shlex.split(command)[0] in OURS


def shown() -> dict[str, str]:
    """By command, the output that the page shows of it, where it does."""
    return {
        script.strip(): output
        for (language, script), (next_language, output) in pairwise(BLOCKS)
        if (language, next_language) == ("sh", "text")
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Tour:
    """The directory that a reader works in, how to work there, and what commands did."""

    place: Path
    run: Run
    done: dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory, reader: Callable[[Path, str, str], Run]) -> Tour:
    """All commands of the page were run, once, in order."""
    place = tmp_path_factory.mktemp("tour")
    for language, block in BLOCKS:
        if language == "python":
            (place / named(block)).write_text(block, encoding="utf-8")
    run = reader(place, STAND_IN, NO_WEIGHTS)
    return Tour(place=place, run=run, done={each: run(each) for each in filter(ours, commands())})


def named(block: str) -> str:
    """A file of the page says its name in its first line."""
    found = re.match(r"# (test_\w+\.py)\n", block)
    assert found, block
    return found[1]


@pytest.mark.parametrize("command", CLAIMS)
def test_a_command_does_what_the_page_says(tour: Tour, command: str) -> None:
    claim, done = CLAIMS[command], tour.done[command]
    assert done.returncode in claim.statuses, done.stdout
    for pattern in claim.prints:
        assert re.search(pattern, done.stdout, re.MULTILINE), (pattern, done.stdout)


@pytest.mark.parametrize("command", shown())
def test_what_the_page_shows_is_of_that_kind(command: str) -> None:
    for pattern in CLAIMS[command].prints:
        assert re.search(pattern, shown()[command], re.MULTILINE), (pattern, shown()[command])


def test_every_command_is_run_or_known_not_to_be() -> None:
    assert {each for each in commands() if ours(each)} == set(CLAIMS)
    assert [each for each in commands() if not ours(each) and not each.startswith(NOT_RUN)] == []


def test_it_leaves_what_it_says(tour: Tour) -> None:
    assert "<html" in (tour.place / "out" / "report.html").read_text(encoding="utf-8")
    remembered = list((tour.place / "perf").rglob("*.json"))
    assert len(remembered) == 1


def test_without_a_reference_the_gate_is_red(tour: Tour) -> None:
    done = tour.run("pytest test_gate.py")
    assert done.returncode == 11
    assert "not covered: nothing to compare with" in done.stdout


@pytest.mark.parametrize("path", sorted(PAGE.parent.glob("explanation/*.md")), ids=lambda p: p.stem)
def test_what_an_explanation_claims_it_computes(path: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert blocks
    for block in blocks:
        assert "assert " in block
        exec(compile(block, str(path), "exec"), {})  # noqa: S102 - that is the test
