from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.errors import ReportError
from pytest_llmperf.reading import Unreadable
from pytest_llmperf.report.validate import validate_report
from pytest_llmperf.report.write import write_report

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_report_is_written_whole_with_its_directories(samples: Samples, tmp_path: Path) -> None:
    document = samples.assemble(samples.fragment())
    path = tmp_path / "out" / "deep" / "report.json"
    write_report(document, path, option="-o")
    assert json.loads(path.read_text(encoding="utf-8")) == document
    assert validate_report(path) == []
    assert names(path.parent) == ["report.json"]


def test_an_old_report_is_replaced(samples: Samples, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old", encoding="utf-8")
    with path.open(encoding="utf-8") as reader:
        write_report(samples.assemble(), path, option="-o")
        assert reader.read() == "old", "who has it open keeps the old one, whole"
    assert validate_report(path) == []


def test_an_invalid_document_is_kept_beside_and_said(samples: Samples, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    document = samples.assemble(samples.fragment())
    document["gates"][0]["verdict"] = "perhaps"
    document["surprise"] = 1
    with pytest.raises(ReportError, match=r"\$.*surprise.*\(and 1 more\).*invalid\.json") as caught:
        write_report(document, path, option="-o")
    assert caught.value.path == path
    assert not path.exists()
    kept = tmp_path / "report.json.invalid.json"
    assert any("$.gates[0].verdict: 'perhaps'" in error for error in validate_report(kept))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_a_value_that_json_cannot_hold_is_said(
    samples: Samples, tmp_path: Path, value: object
) -> None:
    document = samples.assemble()
    document["environment"]["host"]["load"] = value
    with pytest.raises(ReportError, match="JSON cannot"):
        write_report(document, tmp_path / "report.json", option="-o")
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written_is_said(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ReportError, match=r"could not be written to .*Give -o another place"):
        write_report(samples.assemble(), tmp_path / "file" / "report.json", option="-o")


def test_a_full_disk_leaves_the_old_report_and_no_rubbish(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "report.json"
    path.write_text("old", encoding="utf-8")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportError, match="No space left on device"):
        write_report(samples.assemble(), path, option="-o")
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["report.json"]


# --- validate --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", '{"a": NaN}', "\x00"])
def test_what_is_not_json_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    (error,) = validate_report(path)
    assert error.startswith(("$: it is not JSON: ", "$: it is empty"))


def test_a_truncated_report_is_not_valid(samples: Samples, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(samples.assemble(samples.fragment()), path, option="-o")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert validate_report(path)


def test_references_that_lead_nowhere_are_said(samples: Samples, tmp_path: Path) -> None:
    fragment = samples.fragment()
    fragment["launches"] = []
    fragment["gates"][0]["measurement"] = "lost"
    path = tmp_path / "report.json"
    write_report(samples.assemble(fragment), path, option="-o")
    assert validate_report(path) == [
        "$.measurements[0].server: no server 'sglang-1' in the report",
        "$.measurements[0].runs[0].launch_id: no launch 'launch-1' in the report",
        "$.gates[0].measurement: no measurement 'lost' in the report",
    ]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="cannot be read: No such file"):
        validate_report(tmp_path / "none.json")
