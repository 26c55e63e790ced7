"""Coverage is counted by room, by line and by branch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import covered


def file(lines: int, lines_of: int, branches: int, branches_of: int) -> dict[str, Any]:
    return {
        "summary": {
            "covered_lines": lines,
            "num_statements": lines_of,
            "covered_branches": branches,
            "num_branches": branches_of,
        },
        "missing_lines": [7] * (lines < lines_of),
        "missing_branches": [[3, 9]] * (branches < branches_of),
    }


FILES = {
    "pytest_llmperf/gates/limits.py": file(9, 10, 4, 4),
    "/x/site-packages/pytest_llmperf/gates/power.py": file(10, 10, 1, 4),
    "pytest_llmperf/load/read/sse.py": file(5, 5, 0, 0),
    "pytest_llmperf/clock.py": file(3, 3, 0, 0),
}


def test_rooms_are_added_up() -> None:
    found = covered.rooms(FILES)
    assert list(found) == ["gates", ".", "load", "all"]
    assert (found["gates"].by_line, found["gates"].by_branch) == (19 / 20, 5 / 8)
    assert (found["load"].by_line, found["load"].by_branch) == (1.0, 1.0)
    assert (found["all"].by_line, found["all"].by_branch) == (27 / 28, 5 / 8)


@pytest.mark.parametrize(("branches", "status"), [(19, 0), (18, 1)])
def test_the_bar_is_for_branches_too(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    branches: int,
    status: int,
) -> None:
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps({"files": {"pytest_llmperf/a/b.py": file(9, 9, branches, 20)}}))
    monkeypatch.setattr(sys, "argv", ["covered", str(path), "--missing", "a"])
    assert covered.main() == status
    said = capsys.readouterr().out
    assert f"lines 100.0% of      9  branches {branches / 20:6.1%} of    20" in said
    assert "pytest_llmperf/a/b.py: lines -; branches 3->9" in said
