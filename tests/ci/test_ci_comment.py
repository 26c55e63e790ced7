"""The workflow that comments on pull requests, before a GitHub of our own. The report that it reads
may have been written by anybody."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

if TYPE_CHECKING:
    from tests.ci.conftest import Files, GithubJob, GithubRunner, World

pytestmark = pytest.mark.timeout(300)

MARK = "<!-- pytest-llmperf -->"
RUN: dict[str, Any] = {
    "id": 99,
    "event": "pull_request",
    "conclusion": "failure",
    "head_sha": "c0ffee",
    "head_branch": "mine&state=closed",
    "head_repository": {"owner": {"login": "stranger"}},
}
SUITE = """
import pytest
@pytest.mark.llm_server("sim", model="m", args="--ttft-ms 5 --itl-ms 2")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=20, concurrency=4)
@pytest.mark.llm_floor(output_throughput="100000000 tok/s")
def test_a(llm_perf): llm_perf.run()
"""


class Github:
    """As much of its API as is asked for; ``zip`` is the artifact, which lies on another host."""

    def __init__(self) -> None:
        self.zip = b""
        self.size: int | None = None
        self.pulls = [pull(12, "c0ffee"), pull(13, "newer")]
        self.comments: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, str | None]] = []
        self.storage = served(self._storage)
        self.api = served(self._api)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api.server_address[1]}"

    def close(self) -> None:
        for server in (self.api, self.storage):
            server.shutdown()
            server.server_close()

    def _storage(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes, str]:
        self._note("storage", request)
        return 200, self.zip, ""

    def _api(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes, str]:
        self._note("api", request)
        place = urlsplit(request.path)
        length = int(request.headers.get("Content-Length") or 0)
        sent = json.loads(request.rfile.read(length)) if length else {}
        match request.command, place.path.removeprefix("/repos/us/engine/").split("/"):
            case "GET", ["pulls"]:
                head = parse_qs(place.query)["head"][0]
                found = self.pulls if head == "stranger:mine&state=closed" else []
                return 200, json.dumps(found).encode(), ""
            case "GET", ["actions", "runs", "99", "artifacts"]:
                size = len(self.zip) if self.size is None else self.size
                kept = {"id": 5, "name": "perf-report", "expired": False, "size_in_bytes": size}
                return 200, json.dumps({"artifacts": [kept] if self.zip else []}).encode(), ""
            case "GET", ["actions", "artifacts", "5", "zip"]:
                return 302, b"", f"http://127.0.0.1:{self.storage.server_address[1]}/blob"
            case "GET", ["issues", "12", "comments"]:
                start = 100 * (int(parse_qs(place.query)["page"][0]) - 1)
                return 200, json.dumps(self.comments[start : start + 100]).encode(), ""
            case "POST", ["issues", "12", "comments"]:
                self.comments.append(comment(sent["body"], number=len(self.comments)))
                return 201, b"{}", ""
            case "PATCH", ["issues", "comments", number]:
                self.comments[int(number)]["body"] = sent["body"]
                return 200, b"{}", ""
        return 404, b"{}", ""

    def _note(self, host: str, request: BaseHTTPRequestHandler) -> None:
        self.asked.append((host, request.command, request.headers.get("Authorization")))


def served(answer: Any) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            status, body, location = answer(self)
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = _any  # noqa: N815 - as http.server wants them

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def pull(number: int, sha: str) -> dict[str, Any]:
    return {"number": number, "head": {"sha": sha}}


def comment(body: str, *, number: int, by: str = "github-actions[bot]") -> dict[str, Any]:
    return {"id": number, "body": body, "user": {"login": by}}


def packed(**members: bytes) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_json", ".json"), data)
    return content.getvalue()


@pytest.fixture
def hub() -> Iterator[Github]:
    made = Github()
    yield made
    made.close()


class Commenter:
    """Both jobs of the workflow, as the run of a pull request sets them off."""

    def __init__(self, world: World, github: GithubRunner, files: Files, hub: Github) -> None:
        self.world, self.github, self.hub = world, github, hub
        self.workflow = files.example / "github" / "comment.yml"

    def render(self, **more: Any) -> GithubJob | None:
        at = self.world.clone("origin/main")
        return self._job("render", at, {**RUN, **more})

    def post(self, rendered: GithubJob) -> GithubJob | None:
        at = self.world.clone("origin/main", "poster")
        needs = {"render": {"outputs": rendered.outputs}}
        return self._job("post", at, RUN, needs)

    def _job(
        self, name: str, at: Path, run: dict[str, Any], needs: dict[str, Any] | None = None
    ) -> GithubJob | None:
        event = {"workflow_run": run}
        url = {"GITHUB_API_URL": self.hub.url}
        return self.github.run(self.workflow, name, at=at, event=event, needs=needs, **url)


@pytest.fixture
def commenter(world: World, github: GithubRunner, files: Files, hub: Github) -> Commenter:
    return Commenter(world, github, files, hub)


@pytest.fixture
def report(pytester: pytest.Pytester) -> bytes:
    pytester.makepyfile(SUITE)
    options = ("--llmperf-runs=1", "--llmperf-no-progress", "--llmperf-report=r.json")
    assert pytester.runpytest(*options).ret == 10
    return (pytester.path / "r.json").read_bytes()


def test_a_report_becomes_one_comment_that_is_replaced(
    commenter: Commenter, hub: Github, report: bytes
) -> None:
    stranger = comment(f"{MARK} of a stranger", number=0, by="stranger")
    hub.comments = [stranger, {**comment("x", number=1), "user": None}]
    hub.comments += [comment("talk", number=number) for number in range(2, 120)]
    hub.zip = packed(report_json=report, junit_xml=b"x" * 100)
    for _ in range(2):
        rendered = commenter.render()
        assert rendered is not None
        assert (rendered.result, rendered.outputs) == ("success", {"number": "12"}), rendered.said
        posted = commenter.post(rendered)
        assert posted is not None
        assert posted.result == "success", posted.said
    assert len(hub.comments) == 121
    assert hub.comments[0] == stranger
    said = hub.comments[-1]["body"]
    assert said.startswith(MARK)
    assert "pytest-llmperf: FAIL" in said
    assert "SIMULATED" in said
    assert [method for _, method, _ in hub.asked if method != "GET"] == ["POST", "PATCH"]


def test_the_token_stays_with_github(commenter: Commenter, hub: Github) -> None:
    hub.zip = packed(report_json=b"{}")
    commenter.render()
    assert {(host, token) for host, _, token in hub.asked} == {
        ("api", "Bearer a-token"),
        ("storage", None),
    }


HOSTILE = {
    "no report": b"{}",
    "not JSON": b"\xff\x00",
    "nested": b"[" * 200_000,
    "for another pull request": b'{"number": 1, "pull_request": 1}',
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_report_is_red_and_posts_nothing(
    commenter: Commenter, hub: Github, content: bytes
) -> None:
    hub.zip = packed(report_json=content)
    rendered = commenter.render()
    assert rendered is not None
    assert rendered.result == "failure"
    assert "Traceback" not in rendered.said
    assert not (commenter.world.artifacts / "perf-comment").exists()
    assert hub.comments == []


ARCHIVES = {
    "a bomb": packed(report_json=b" " * (21 * 2**20)),
    "no zip": b"PK of some kind",
    "another file": packed(other=b"x"),
    "a path that leads out": packed(**{"../../report_json": b"x"}),
}


@pytest.mark.parametrize("archive", ARCHIVES.values(), ids=ARCHIVES)
def test_what_is_no_archive_of_a_report_is_refused_in_one_line(
    commenter: Commenter, hub: Github, archive: bytes
) -> None:
    hub.zip = archive
    rendered = commenter.render()
    assert rendered is not None
    (step,) = rendered.steps.values()
    assert step.status == 1
    assert step.output.startswith("The artifact perf-report is not a report: ")
    assert step.output.count("\n") == 1
    assert not (commenter.world.root / "work" / "out").exists()


def test_an_archive_that_is_too_large_is_not_even_fetched(
    commenter: Commenter, hub: Github
) -> None:
    hub.zip, hub.size = packed(report_json=b"{}"), 21 * 2**20
    rendered = commenter.render()
    assert rendered is not None
    assert "22020096 bytes: too many" in rendered.said
    assert not [host for host, _, _ in hub.asked if host == "storage"]


def test_one_that_lied_about_its_size_is_read_no_further(commenter: Commenter, hub: Github) -> None:
    hub.zip, hub.size = b"x" * (21 * 2**20), 100
    rendered = commenter.render()
    assert rendered is not None
    assert "longer than 20971520 bytes" in rendered.said


@pytest.mark.parametrize(
    ("more", "pulls", "archive"),
    [
        ({}, [pull(13, "newer")], b"x"),
        ({"head_repository": None}, [pull(12, "c0ffee")], b"x"),
        ({"head_branch": "other"}, [pull(12, "c0ffee")], b"x"),
        ({}, [pull(12, "c0ffee")], b""),
    ],
    ids=["newer commit", "fork gone", "no pull request", "no artifact"],
)
def test_without_a_pull_request_or_a_report_it_is_green_and_ends(
    commenter: Commenter,
    hub: Github,
    more: dict[str, Any],
    pulls: list[dict[str, Any]],
    archive: bytes,
) -> None:
    hub.pulls, hub.zip = pulls, archive
    rendered = commenter.render(**more)
    assert rendered is not None
    assert (rendered.result, rendered.outputs) == ("success", {"number": ""})
    assert "nothing to comment on" in rendered.said
    assert commenter.post(rendered) is None


@pytest.mark.parametrize("more", [{"event": "push"}, {"conclusion": "cancelled"}])
def test_other_runs_set_nothing_off(commenter: Commenter, more: dict[str, Any]) -> None:
    assert commenter.render(**more) is None


def test_a_github_that_does_not_answer_is_told_in_one_line(
    commenter: Commenter, hub: Github
) -> None:
    hub.api.shutdown()
    hub.api.server_close()
    rendered = commenter.render()
    assert rendered is not None
    assert rendered.result == "failure"
    assert "GitHub did not answer GET pulls" in rendered.said
    assert "Traceback" not in rendered.said


@pytest.mark.parametrize("text", ["hello", MARK + "x" * 70_000])
def test_only_a_comment_of_ours_is_posted(
    commenter: Commenter, hub: Github, tmp_path: Path, text: str
) -> None:
    kept = commenter.world.artifacts / "perf-comment"
    kept.mkdir(parents=True)
    (kept / "comment.md").write_text(text)
    rendered = type("Rendered", (), {"outputs": {"number": "12"}})()
    posted = commenter.post(rendered)
    assert posted is not None
    assert posted.result == "failure"
    assert hub.comments == []
