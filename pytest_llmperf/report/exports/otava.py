"""Otava's CSV with its configuration: a series for each measurement, ``PATH`` is a directory.

Source: Apache Otava 0.8.0, ``otava/importer.py`` (``CsvImporter``) and ``otava/test_config.py``.
It looks for changes in a history, so each session adds a row to what lies in the directory:
``<test>.csv`` with time, commit, branch, version and the metrics, and ``otava.yaml`` (JSON, which
is YAML) that names every series in the directory, for ``otava analyze``. It cannot skip a row, so a
metric that one row lacks is not listed until all have it. Lost: intervals, launches, verdicts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import ReportError
from pytest_llmperf.metrics import units
from pytest_llmperf.reading import Unreadable, read_json

from .figures import Document, figures, json_text, measurements, server_of, shortened, slug

#: Columns that are no metrics. No column is called branch: Otava would refuse several of them.
_ABOUT = ("time", "commit", "ref", "engine_version", "simulated")
_CONFIGURATION = "otava.yaml"
Row = Mapping[str, str]


def files(document: Document, path: Path) -> dict[Path, str]:
    tests = _known_tests(path / _CONFIGURATION)
    texts: dict[Path, str] = {}
    rows = _rows(document)
    for name, row in rows.items():
        file = path / f"{slug(name)}.csv"
        history = [each for each in _read(file) if each["time"] != row["time"]]
        history = sorted([*history, row], key=lambda each: each["time"])
        texts[file] = _csv(history)
        tests[name] = _test(file, history)
    here = {
        name: {**test, "file": str(path / Path(test["file"]).name)} for name, test in tests.items()
    }
    return {**texts, path / _CONFIGURATION: json_text({"tests": here})}


def _rows(document: Document) -> dict[str, dict[str, str]]:
    """A row for each measurement, by its name."""
    git = document["environment"]["git"]
    rows: dict[str, dict[str, str]] = {
        name: {
            "time": document["created"],
            "commit": shortened(git["commit"] or "unknown"),
            "ref": shortened(git["branch"] or "unknown"),
            "engine_version": shortened(server_of(document, entry)["version"] or "unknown"),
            "simulated": str(bool(entry["simulated"])).lower(),
        }
        for name, entry in measurements(document)
    }
    for figure in figures(document, all_metrics=True):
        rows[figure.name][figure.metric] = repr(figure.value)
    return {name: row for name, row in rows.items() if len(row) > len(_ABOUT)}


def _read(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise ReportError(f"{file} cannot be gone on with: {error}.", path=file) from error
    if any(set(_ABOUT) - row.keys() or None in row.values() or None in row for row in rows):
        raise ReportError(
            f"{file} was not written by --llmperf-export otava, and would be lost; name another "
            "directory.",
            path=file,
        )
    return rows


def _csv(rows: Sequence[Row]) -> str:
    columns = [*_ABOUT, *_metrics(rows)]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _metrics(rows: Sequence[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name not in _ABOUT]


def _test(file: Path, rows: Sequence[Row]) -> dict[str, Any]:
    listed = [name for name in _metrics(rows) if all(row.get(name) for row in rows)]
    return {
        "type": "csv",
        "file": str(file),
        "time_column": "time",
        "attributes": ["commit", "ref", "engine_version"],
        "metrics": {
            name: {
                "column": name,
                "direction": 1 if units.row_of(name).direction == "higher" else -1,
                "scale": 1,
            }
            for name in listed
        },
    }


def _known_tests(file: Path) -> dict[str, Any]:
    """The series that earlier sessions wrote."""
    if not file.exists():
        return {}
    try:
        tests = read_json(file)["tests"]
        return {name: {**test, "file": str(test["file"])} for name, test in tests.items()}
    except (Unreadable, KeyError, TypeError, AttributeError) as error:
        raise ReportError(
            f"{file} was not written by --llmperf-export otava, and would be lost ({error}); name "
            "another directory.",
            path=file,
        ) from error
