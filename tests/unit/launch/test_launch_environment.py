from __future__ import annotations

from pytest_llmperf.launch.environment import clean_environment, server_environment


def test_what_measuring_tools_left_is_dropped() -> None:
    base = {
        "PATH": "/bin",
        "PYTHONPATH": "/lib",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COV_CORE_SOURCE": "x",
        "COVERAGE_PROCESS_START": "x",
        "PYTEST_CURRENT_TEST": "x",
        "PYDEVD_USE_CYTHON": "x",
        "PYTHONBREAKPOINT": "x",
        "PYTHONWARNINGS": "error",
        "PYTHONDEVMODE": "1",
    }
    kept = {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    assert set(clean_environment(base)) == kept


def test_the_plan_has_the_last_word() -> None:
    cleaned = clean_environment({"A": "1", "B": "2"}, [("B", "3"), ("PYTEST_X", "4")])
    assert cleaned == {"A": "1", "B": "3", "PYTEST_X": "4"}


def test_servers_import_nothing_from_the_directory_they_are_started_in() -> None:
    assert server_environment({"A": "1"})["PYTHONSAFEPATH"] == "1"
    # unless somebody wants it
    assert server_environment({"PYTHONSAFEPATH": ""})["PYTHONSAFEPATH"] == ""
