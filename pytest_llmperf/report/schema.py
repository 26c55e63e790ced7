"""The schema of reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmperf import schema
from pytest_llmperf.schema import load_schema

__all__ = ["REPORT", "load_schema", "schema_errors"]

REPORT = "report-v1"


def schema_errors(document: Mapping[str, Any], name: str = REPORT) -> list[str]:
    """Where ``document`` departs from its schema, by JSON path; empty when it is valid."""
    return schema.schema_errors(document, name)
