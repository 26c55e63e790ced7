"""Where the ranks of a server over a cluster run, in the report."""

from __future__ import annotations

import jsonschema

from pytest_llmperf.records import LaunchRecord, RankPlace
from pytest_llmperf.report import document
from pytest_llmperf.schema import load_schema

RANK = RankPlace(name="dp0 pp0 tp1", node="ab12", host="b", address="10.0.0.2", devices=("1",))


def record(ranks: tuple[RankPlace, ...] | None) -> LaunchRecord:
    return LaunchRecord(
        id="1", server_id="s", launched=True, engine="sglang", version=None, model="m", url="http://x",
        argv=(), env=(), args={}, notes=(), cores=None, started_at="2026-01-01T00:00:00+00:00",
        startup_time_s=1.0, log=None, ranks=ranks,
    )  # fmt: skip


def test_ranks_are_told_as_the_schema_has_them() -> None:
    entry = document.launch_entry(record((RANK,)))
    assert entry["ranks"] == [
        {
            "name": "dp0 pp0 tp1",
            "node": "ab12",
            "host": "b",
            "address": "10.0.0.2",
            "devices": ["1"],
        }
    ]
    schema = load_schema("report-v1")
    rank = {"$defs": schema["$defs"], "$ref": "#/$defs/rank"}
    jsonschema.validate(entry["ranks"][0], rank)


def test_other_servers_have_none() -> None:
    assert document.launch_entry(record(None))["ranks"] is None
