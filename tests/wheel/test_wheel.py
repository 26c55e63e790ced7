"""What is installed is whole: run on the built wheel by ``make test``, on the checkout else."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import pytest

import pytest_llmperf
from pytest_llmperf.report.schema import load_schema


def test_required_engines_mean_that_the_wheel_is_tested() -> None:
    if os.environ.get("LLMPERF_ENGINES_REQUIRED") != "1":
        pytest.skip("make quick tests the checkout")
    assert "site-packages" in str(pytest_llmperf.__file__)


@pytest.mark.parametrize("name", ["report-v1", "baseline-v1", "published-v1", "prices-v1"])
def test_the_schemas_ship(name: str) -> None:
    assert load_schema(name)["$schema"].endswith("2020-12/schema")


def test_type_information_ships() -> None:
    assert files("pytest_llmperf").joinpath("py.typed").is_file()


def test_published_figures_ship() -> None:
    assert files("pytest_llmperf").joinpath("published/r1.json").is_file()


@pytest.mark.parametrize(
    "name",
    [
        "page.html",
        "drawing.js",
        "charts.js",
        "in_time.js",
        "page.js",
        "page.css",
        "uPlot.iife.min.js",
        "uPlot.min.css",
        "uPlot.LICENSE",
    ],
)
def test_the_page_ships(name: str) -> None:
    assert files("pytest_llmperf.report").joinpath("page", name).is_file()


def test_what_the_server_needs_ships_beside_it() -> None:
    assert files("pytest_llmperf").joinpath("engines/server_path/sgl_kernel/__init__.py").is_file()


def test_entry_points() -> None:
    groups = {point.group for point in metadata.distribution("pytest-llmperf").entry_points}
    assert groups == {"pytest11", "console_scripts"}


def test_every_public_name_can_be_had() -> None:
    for name in pytest_llmperf.__all__:
        assert getattr(pytest_llmperf, name).__name__ == name


def test_the_plugin_loads_nothing_heavy() -> None:
    code = (
        "import sys, pytest_llmperf.plugin\n"
        "ours = {name for name in sys.modules if name.startswith('pytest_llmperf.')}\n"
        "heavy = ('scipy', 'numpy', 'psutil', 'msgspec')\n"
        "print(sorted(ours), any(name in sys.modules for name in heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "['pytest_llmperf.fixtures',",
        "'pytest_llmperf.plugin']",
        "False",
    ]


def test_the_console_script_runs(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    report.write_text("{}")
    script = Path(sys.executable).with_name("pytest-llmperf")
    done = subprocess.run([script, "validate", report], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "schema_version" in done.stdout
