"""What the report says of the load client."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from pytest_llmperf.records import ClientHealth

SCHEMA = Path(__file__).parents[3] / "schemas" / "report-v1.schema.json"


def test_everything_the_client_says_of_itself_is_in_the_schema() -> None:
    client = json.loads(SCHEMA.read_text())["$defs"]["client"]
    names = [field.name for field in fields(ClientHealth)]
    assert sorted(client["properties"]) == sorted(names)
    assert set(names) - set(client["required"]) == {"workers"}, "older reports lack them"
