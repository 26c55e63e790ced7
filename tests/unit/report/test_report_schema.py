from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from pytest_llmperf.report.schema import load_schema, schema_errors

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples


#: Fields that reports before version 1.3 lack: they may be absent.
LATER = {
    "$": {"foreign", "profiles", "suite", "merged"},
    "device": {"visible_as"},
    "accelerator": {"parallel", "nodes"},
    "launch": {"devices", "ranks", "side"},
    "client": {"workers"},
    "server": {"recipe", "part", "on"},
    "measurement": {"published", "part", "on"},
    **{key: {"part", "on"} for key in ("sweep", "test", "noise", "quality", "profile")},
    "run": {"telemetry", "curves"},
    "gate": {
        "prior_sigma", "prior_df", "loss_with_invalid", "history", "part", "on", "sure_low",
        "sure_high",
    },
}  # fmt: skip


def objects(schema: Any, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if "properties" in schema or schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from objects(value, f"{path}[{index}]")


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema("report-v1"))


def test_every_object_is_closed_and_every_field_described() -> None:
    for path, found in objects(load_schema("report-v1")):
        closed = found["additionalProperties"]
        assert closed is False or closed, path
        for name, field in found.get("properties", {}).items():
            assert field.get("description") or "$ref" in field, f"{path}.{name}"
        later = LATER.get(path.removeprefix("$.$defs."), set())
        assert set(found.get("required", ())) == set(found.get("properties", {})) - later, path


def test_check_jsonschema_agrees(samples: Samples, tmp_path: Path) -> None:
    schema, document = tmp_path / "schema.json", tmp_path / "document.json"
    schema.write_text(json.dumps(load_schema("report-v1")), encoding="utf-8")
    document.write_text(json.dumps(samples.assemble(samples.fragment())), encoding="utf-8")
    for arguments in (["--check-metaschema", schema], ["--schemafile", schema, document]):
        command = [sys.executable, "-m", "check_jsonschema", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_surplus_field_anywhere_is_refused(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    run = document["measurements"][0]["runs"][0]
    for place in (document, run, run["client"], document["gates"][0], document["counts"]["tests"]):
        place["surplus"] = 1
        assert schema_errors(document)
        del place["surplus"]
    assert schema_errors(document) == []


def test_errors_are_short_and_name_the_place(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    document["servers"][0]["launches"][0]["url"] = ["x" * 5000]
    (error,) = schema_errors(document)
    assert error.startswith("$.servers[0].launches[0].url: ")
    assert len(error) < 300


def test_an_unknown_schema_is_said() -> None:
    with pytest.raises(FileNotFoundError, match="no schema called 'other'"):
        load_schema("other")


def test_a_wheel_s_copy_comes_before_the_checkout_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "report-v1.schema.json").write_text('{"from": "wheel"}', "utf-8")
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    assert load_schema("report-v1") == {"from": "wheel"}
