"""Every suite below examples/ does what its README says, on the simulator."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pytest_llmperf
from pytest_llmperf.testing import FakeServer, Script
from repositories import git, git_environment

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
#: The simulator in SGLang's place, and its model without weights.
ON_THE_SIMULATOR = ("-p", "standin", "--llmperf-model", "tiny-r1-distill-qwen=m")
SHORT = ("--llmperf-runs=1", "--llmperf-no-progress", "--llmperf-report=r.json")

Outcome = tuple[pytest.RunResult, dict[str, Any]]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Any:
    """Runs the suite of an example, a copy of it, as its README does."""

    def go(name: str, *args: str) -> Outcome:
        if not list(pytester.path.glob("test_*.py")):
            shutil.copytree(EXAMPLES / name, pytester.path, dirs_exist_ok=True)
        result = pytester.runpytest(*ON_THE_SIMULATOR, *SHORT, *args)
        report = pytester.path / "r.json"
        return result, json.loads(report.read_text()) if report.exists() else {}

    return go


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {gate["metric"]: gate["verdict"] for gate in report["gates"]}


def test_an_engine_of_ones_own_is_started_and_judged(run: Any) -> None:
    result, report = run("custom-engine")
    assert result.ret == 0
    assert verdicts(report) == {"output_throughput": "pass", "tpot_mean": "pass"}
    (server,) = report["servers"]
    assert (server["engine"], server["version"], server["model"]) == ("counting", "1.0", "counter")
    assert not report["simulated"]
    (measured,) = report["measurements"]
    assert measured["workload"]["sent"]["output_tokens_mean"] == 24


def test_its_own_cause_of_a_failed_start_is_told(run: Any, pytester: pytest.Pytester) -> None:
    shutil.copytree(EXAMPLES / "custom-engine", pytester.path, dirs_exist_ok=True)
    test = pytester.path / "test_counting.py"
    test.write_text(test.read_text().replace("--pause-ms 5", "--paws-ms 5"))
    result, _ = run("custom-engine")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*the counting server does not accept its command line*"])


# --- A/B ---------------------------------------------------------------------------------------


def test_a_flag_that_costs_throughput_fails(run: Any) -> None:
    result, report = run("ab-flags")
    assert result.ret == 10
    assert verdicts(report) == {"output_throughput": "fail"}
    assert any("--itl-ms 2 -> 4" in each for each in report["gates"][0]["changed"])


def test_the_plan_of_a_flag_is_told_before_anything_starts(run: Any) -> None:
    result, report = run("ab-flags", "--llmperf-plan")
    assert result.ret == 0
    assert report == {}
    result.stdout.fnmatch_lines(
        [
            "plan: 1 server, 1 gate;*",
            "*compared with sglang without arguments",
            "*output throughput: catch a loss of 5 %*in reach*",
        ]
    )


ENGINE = """
import sys
from pytest_llmperf.testing.__main__ import main
sys.exit(main([*sys.argv[1:], "--itl-ms", "{itl_ms}"]))
"""
METADATA = "Metadata-Version: 2.1\nName: sgl-toy\nVersion: {version}\n"


def write_engine(into: Path, version: str, itl_ms: float) -> None:
    """A package that serves at a pace of its own, as pip would have installed it."""
    package = into / "toyengine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(ENGINE.format(itl_ms=itl_ms))
    about = into / f"sgl_toy-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA.format(version=version))


def paths() -> str:
    """What a .pth file needs for this project to be importable elsewhere."""
    here = [str(Path(pytest_llmperf.__file__).parents[1])]
    return "\n".join([*here, *(path for path in sys.path if path.endswith("site-packages"))])


def environment_with(place: Path, version: str, itl_ms: float) -> Path:
    """A virtual environment with one version of the toy engine; its Python."""
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    write_engine(packages, version, itl_ms)
    (packages / "project.pth").write_text(paths())
    return place / "bin" / "python"


def test_a_version_that_is_slower_fails(run: Any, tmp_path: Path) -> None:
    old = environment_with(tmp_path / "old", "1.0", 3)
    new = environment_with(tmp_path / "new", "1.1", 8)
    result, report = run(
        "ab-versions",
        "-k=test_chat",
        f"--llmperf-python={new}",
        f"--llmperf-reference-python={old}",
    )
    assert result.ret == 10
    assert verdicts(report)["output_throughput"] == "fail"
    changed = report["gates"][0]["changed"]
    assert any("sgl-toy 1.0 -> 1.1" in each for each in changed), changed


INSTALL = """
import os, pathlib, sys, sysconfig
packages = pathlib.Path(sysconfig.get_path("purelib"))
packages.joinpath("toy.pth").write_text(os.path.abspath("python") + "\\n" + {paths!r})
"""


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@needs_git
def test_a_branch_that_is_slower_than_its_merge_base_fails(
    run: Any, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    repository = pytester.path
    shutil.copytree(EXAMPLES / "ab-two-checkouts", repository, dirs_exist_ok=True)
    (repository / "install.py").write_text(INSTALL.format(paths=paths()))
    write_engine(repository / "python", "1.0", 3)
    git("init", "--quiet", "--initial-branch=main", at=repository)
    git("add", "--all", at=repository)
    git("commit", "--quiet", "--message=base", at=repository)
    git("switch", "--quiet", "--create=mine", at=repository)
    (repository / "python" / "toyengine" / "__main__.py").write_text(ENGINE.format(itl_ms=8))
    git("commit", "--quiet", "--all", "--message=slower", at=repository)
    build = f"{repository / 'reference.sh'} python install.py"
    mine = environment_of_checkout(repository, tmp_path / "mine")
    result, report = run(
        "ab-two-checkouts",
        f"--llmperf-python={mine}",
        f"--llmperf-reference-build={build}",
        "--override-ini",
        f"llmperf_cache_dir={tmp_path / 'cache'}",
    )
    assert result.ret == 10, result.stdout.str()
    assert verdicts(report)["output_throughput"] == "fail"
    assert any("code of toyengine" in each for each in report["gates"][0]["changed"])


def environment_of_checkout(repository: Path, place: Path) -> Path:
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    subprocess.run([python, "install.py"], cwd=repository, check=True)
    return python


def test_an_endpoint_that_is_slower_than_another_fails(run: Any) -> None:
    with (
        FakeServer(Script(model="m", ttft_ms=5, itl_ms=8)) as mine,
        FakeServer(Script(model="m", ttft_ms=5, itl_ms=3)) as theirs,
    ):
        result, report = run(
            "ab-endpoints",
            f"--llmperf-url={mine.url}",
            f"--llmperf-reference-url={theirs.url}",
        )
    assert result.ret == 10
    assert verdicts(report)["output_throughput"] == "fail"
    assert theirs.url in report["gates"][0]["against"]


def test_the_plan_of_endpoints_launches_nothing(run: Any) -> None:
    result, _ = run("ab-endpoints", "--llmperf-plan")
    result.stdout.fnmatch_lines(
        [
            "*attached like its reference, no launch; 4 to 12 pairs of measurements in turns",
            "*compared with endpoint at http://127.0.0.1:30001",
        ]
    )


# --- history -----------------------------------------------------------------------------------


def test_a_first_night_is_remembered_and_neutral(run: Any, pytester: pytest.Pytester) -> None:
    result, report = run("history", "--llmperf-launches=1")
    assert result.ret == 0
    assert {gate["reason_code"] for gate in report["gates"]} == {"learning"}
    assert list(Path(pytester.path, "perf").rglob("*.json"))


def test_a_plan_says_where_there_is_nothing_to_compare_with(run: Any) -> None:
    result, _ = run("history", "--llmperf-plan", "--override-ini", "llmperf_store=")
    result.stdout.fnmatch_lines(["*NOTHING TO COMPARE WITH, neither a reference nor a store"])
    result, _ = run("history", "--llmperf-plan")
    result.stdout.fnmatch_lines(["*catch a loss of 20 %, against the accepted level"])


def companion(*args: str, at: Path = EXAMPLES / "history") -> tuple[int, str]:
    """``pytest-llmperf ARGS``: status and output."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_llmperf.cli", *args],
        cwd=at,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"},
    )
    return done.returncode, done.stdout + done.stderr


def test_the_recorded_nights_show_their_step() -> None:
    status, said = companion("trend", "--store", "recorded", "--metric", "tpot_mean")
    assert status == 10, said
    assert "log scale (SIMULATED)" in said
    assert "step at 2026-09-15" in said
    assert "WORSE than the accepted level" in said


def test_the_recorded_nights_can_be_accepted(tmp_path: Path) -> None:
    store = tmp_path / "perf"
    shutil.copytree(EXAMPLES / "history" / "recorded", store)
    status, said = companion(
        "baseline", "accept", "--last", "6", "--reason", "slower", "--author", "me", at=tmp_path
    )
    assert status == 0, said
    assert "note: gates learn until a level rests on 8 sessions" in said
    assert companion("trend", at=tmp_path)[0] == 0


def test_the_recorded_nights_say_that_they_are_simulated() -> None:
    files = list((EXAMPLES / "history" / "recorded").rglob("*.json"))
    assert len(files) > 10
    for path in files:
        assert "simulated" in path.read_text(encoding="utf-8"), path


# --- bisect ------------------------------------------------------------------------------------


@needs_git
@pytest.mark.timeout(120)
def test_git_bisect_finds_the_planted_commit(tmp_path: Path) -> None:
    repository = tmp_path / "toy"
    subprocess.run(
        [EXAMPLES / "bisect" / "make_repository.sh", repository],
        check=True,
        env=git_environment(),
    )
    git("bisect", "start", "HEAD", "good", at=repository)
    bisect = [sys.executable, "-m", "pytest_llmperf.cli", "bisect", "--", "-q"]
    said = git("bisect", "run", *bisect, "-p", "no:cacheprovider", at=repository)
    assert "is the first bad commit" in said
    assert "Check every token twice" in said.rpartition("is the first bad commit")[2]
    assert "# skip: " in git("bisect", "log", at=repository)


# --- webhook -----------------------------------------------------------------------------------


class Webhook(http.server.BaseHTTPRequestHandler):
    """Notes what it is sent, and answers as its server says; ``None`` is no answer at all."""

    server: WebhookServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append(json.loads(body))
        if self.server.status is None:
            self.server.released.wait(60)
            return
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not to the output of the tests."""


class WebhookServer(http.server.ThreadingHTTPServer):
    status: int | None = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Webhook)
        self.heard: list[dict[str, str]] = []
        self.released = threading.Event()


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv(
            "LLMPERF_WEBHOOK", f"http://127.0.0.1:{server.server_address[1]}/services/sesame"
        )
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def test_verdicts_are_posted(run: Any, webhook: WebhookServer) -> None:
    result, report = run("webhook")
    assert result.ret == 0
    assert set(verdicts(report).values()) == {"pass"}
    (heard,) = webhook.heard
    assert list(heard) == ["text"]
    assert heard["text"].startswith("*PASS* SIMULATED: 2 gates on ")
    assert "WARNING" not in result.stdout.str()


def test_what_failed_is_in_the_message(
    run: Any, pytester: pytest.Pytester, webhook: WebhookServer
) -> None:
    shutil.copytree(EXAMPLES / "webhook", pytester.path, dirs_exist_ok=True)
    test = pytester.path / "test_served.py"
    test.write_text(test.read_text().replace('"1 tok/s"', '"1000000 tok/s"'))
    result, _ = run("webhook")
    assert result.ret == 10
    verdict, *missed = webhook.heard[0]["text"].splitlines()
    assert verdict.startswith("*FAIL*")
    assert len(missed) == 1
    assert missed[0].startswith("- test_served.py::test_chat: ")
    assert "under floor" in missed[0]


@pytest.mark.parametrize(
    ("status", "said"), [(500, "it answered 500"), (None, "TimeoutError"), (0, "URLError")]
)
def test_a_message_that_does_not_arrive_changes_nothing(
    run: Any,
    pytester: pytest.Pytester,
    webhook: WebhookServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int | None,
    said: str,
) -> None:
    shutil.copytree(EXAMPLES / "webhook", pytester.path, dirs_exist_ok=True)
    conftest = pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text().replace("SECONDS = 10", "SECONDS = 0.5"))
    if status == 0:  # a port that nobody listens on, and an address as people mistype it
        monkeypatch.setenv("LLMPERF_WEBHOOK", "http://127.0.0.1:1/services/sesame")
    webhook.status = status
    result, report = run("webhook", "-W", "error")
    assert result.ret == 0
    assert report["problems"] == []
    shown = f"WARNING: the webhook in LLMPERF_WEBHOOK got no message: {said}"
    result.stdout.fnmatch_lines([shown])
    assert "sesame" not in result.stdout.str() + result.stderr.str() + json.dumps(report)


@pytest.mark.parametrize("address", ["sesame", "http://", "file:///sesame", "http://[sesame/"])
def test_what_is_no_address_is_not_shown(
    run: Any, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("LLMPERF_WEBHOOK", address)
    result, report = run("webhook")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["WARNING: the webhook in LLMPERF_WEBHOOK got no message: ?*"])
    assert "sesame" not in result.stdout.str() + json.dumps(report)


# --- what they say -----------------------------------------------------------------------------


def test_every_example_has_a_suite_and_says_what_it_is_for() -> None:
    for example in EXAMPLES.iterdir():
        if example.name == "ci":  # configurations of CI systems; tests/ci runs their steps
            continue
        names = {path.name for path in example.rglob("*")}
        assert "pytest.ini" in names
        assert any(re.fullmatch(r"test_\w+\.py", name) for name in names)
        assert "README.md" in names or example.name in ("quickstart", "sweep")


PAGES = [*EXAMPLES.glob("*/README.md"), ROOT / "docs" / "ab.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_option_that_a_page_names_exists(page: Path, pytester: pytest.Pytester) -> None:
    told = pytester.runpytest("--help").stdout.str()
    option = re.compile(r"--llmperf[a-z-]*[a-z]")
    named = set(option.findall(page.read_text(encoding="utf-8")))
    assert named <= set(option.findall(told))


PLANNED = """
import pytest

@pytest.mark.llm_server("sglang", model="tiny-r1-distill-qwen", args="--x", reference={"args": ""})
@pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=16, requests=128)
@pytest.mark.llm_no_regression(output_throughput="10%", ttft_p50="5%")
def test_a(llm_perf): llm_perf.run()
"""


def test_the_plan_in_the_docs_is_one_that_is_printed(pytester: pytest.Pytester) -> None:
    text = (ROOT / "docs" / "ab.md").read_text(encoding="utf-8")
    (plan,) = re.findall(r"^```\n(plan: .*?)\n```", text, re.DOTALL | re.MULTILINE)
    pytester.makepyfile(PLANNED)
    result = pytester.runpytest("-p", "standin", "--llmperf-plan")
    assert plan in result.stdout.str()
