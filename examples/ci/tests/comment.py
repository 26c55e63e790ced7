#!/usr/bin/env python3
"""A pull request's comment, from the report that a workflow without rights has left.

    comment.py fetch REPORT        finds the pull request and writes the run's report to REPORT
    comment.py post NUMBER FILE    posts FILE there, or replaces the comment that is there already

For a job of GitHub Actions on ``workflow_run``; it needs Python and nothing else. What ran before
may have been a fork's code, so nothing that it wrote is believed here: GitHub tells which pull
request the run belongs to, and no more is read than a report takes.
"""

from __future__ import annotations

import io
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from pathlib import Path
from typing import Any

ARTIFACT, MEMBER = "perf-report", "report.json"
MARK = "<!-- pytest-llmperf -->"
BOT = "github-actions[bot]"
MOST_BYTES = 20 * 2**20  # of the artifact, and of the report in it
MOST_OF_AN_ANSWER = 8 * 2**20
MOST_OF_A_COMMENT = 65_536
MOST_PAGES = 20
TIMEOUT_S = 60


def main(words: list[str]) -> int:
    match words:
        case ["fetch", report]:
            return fetch(Path(report))
        case ["post", number, text] if number.isdecimal():
            return post(int(number), Path(text).read_text(encoding="utf-8"))
    print(__doc__, file=sys.stderr)
    return 2


# --- finding the pull request and its report -------------------------------------------------


def fetch(report: Path) -> int:
    run = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text("utf-8"))["workflow_run"]
    number = pull_request_of(run)
    if number is None:
        print("No open pull request has this commit as its newest: nothing to comment on.")
        return 0
    content = artifact_of(run)
    if content is None:
        print(f"The run left no artifact {ARTIFACT}: nothing to comment on.")
        return 0
    try:
        text = unpacked(content)
    except (ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        print(f"The artifact {ARTIFACT} is not a report: {error}", file=sys.stderr)
        return 1
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_bytes(text)
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as outputs:
        outputs.write(f"number={number}\n")
    return 0


def pull_request_of(run: dict[str, Any]) -> int | None:
    """The open pull request whose head is the commit that was measured. GitHub's own list in the
    event is empty for forks."""
    if run["head_repository"] is None:  # a fork that is gone
        return None
    head = f"{run['head_repository']['owner']['login']}:{run['head_branch']}"
    found = json.loads(ask("pulls", {"state": "open", "head": head, "per_page": "100"}))
    for pull in found:
        if pull["head"]["sha"] == run["head_sha"]:
            return int(pull["number"])
    return None


def artifact_of(run: dict[str, Any]) -> bytes | None:
    """The zip file that the run has left, if it is of a size that reports have."""
    asked = {"name": ARTIFACT, "per_page": "100"}
    found = json.loads(ask(f"actions/runs/{int(run['id'])}/artifacts", asked))["artifacts"]
    kept = [each for each in found if each["name"] == ARTIFACT and not each["expired"]]
    if not kept:
        return None
    newest = max(kept, key=lambda each: each["id"])
    if newest["size_in_bytes"] > MOST_BYTES:
        raise SystemExit(f"The artifact has {newest['size_in_bytes']} bytes: too many.")
    return ask(f"actions/artifacts/{int(newest['id'])}/zip", most=MOST_BYTES)


def unpacked(content: bytes) -> bytes:
    """The one file that is wanted, read no further than a report goes; others stay packed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(MEMBER) as member:
        text = member.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"{MEMBER} is longer than {MOST_BYTES} bytes")
    return text


# --- posting ---------------------------------------------------------------------------------


def post(number: int, text: str) -> int:
    if not text.startswith(MARK) or len(text) > MOST_OF_A_COMMENT:
        print("That is no comment of pytest-llmperf's.", file=sys.stderr)
        return 1
    body = {"body": text}
    known = own_comment(number)
    if known is None:
        ask(f"issues/{number}/comments", send=body, method="POST")
    else:
        ask(f"issues/comments/{known}", send=body, method="PATCH")
    return 0


def own_comment(number: int) -> int | None:
    """The one that was posted here before; anybody may write the mark, but not as the bot."""
    for page in range(1, MOST_PAGES + 1):
        asked = {"per_page": "100", "page": str(page)}
        comments = json.loads(ask(f"issues/{number}/comments", asked))
        for comment in comments:
            author = (comment["user"] or {}).get("login")
            if author == BOT and comment["body"].startswith(MARK):
                return int(comment["id"])
        if len(comments) < 100:
            break
    return None


# --- GitHub ----------------------------------------------------------------------------------


def ask(
    path: str,
    query: dict[str, str] | None = None,
    *,
    send: object = None,
    method: str = "GET",
    most: int = MOST_OF_AN_ANSWER,
) -> bytes:
    """At most ``most`` bytes of what GitHub answers. The token goes to GitHub only, and not where
    it redirects to."""
    url = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}"
    if query:
        url += "?" + urllib.parse.urlencode(query)
    data = None if send is None else json.dumps(send).encode()
    request = urllib.request.Request(url, data=data, method=method)  # noqa: S310 - it is GitHub's
    request.add_header("Accept", "application/vnd.github+json")
    request.add_header("X-GitHub-Api-Version", "2022-11-28")
    request.add_unredirected_header("Authorization", f"Bearer {os.environ['GITHUB_TOKEN']}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            content: bytes = answer.read(most + 1)
    except urllib.error.URLError as error:
        raise SystemExit(f"GitHub did not answer {method} {path}: {error}") from None
    if len(content) > most:
        raise SystemExit(f"The answer to {method} {path} is longer than {most} bytes.")
    return content


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
