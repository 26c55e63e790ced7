"""Pytest glue, loaded in every pytest run of the environment: it imports only what
declares until a test or an option asks for more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .fixtures import llm_accelerator, llm_endpoint, llm_perf, llm_server

if TYPE_CHECKING:
    from pluggy import PluginManager

__all__ = ["llm_accelerator", "llm_endpoint", "llm_perf", "llm_server"]


def pytest_addoption(parser: pytest.Parser) -> None:
    from .options import add_options

    add_options(parser)


def pytest_addhooks(pluginmanager: PluginManager) -> None:
    from . import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    from .markers import MARKERS
    from .options import asked_for
    from .terminal_fd import keep_terminal

    for text in MARKERS.values():
        config.addinivalue_line("markers", text)
    keep_terminal(config)
    if asked_for(config):
        _activate(config)
    elif config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Controller(config), "llmperf-controller")


def pytest_unconfigure(config: pytest.Config) -> None:
    from .terminal_fd import release_terminal

    release_terminal(config)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "llm_server" in metafunc.fixturenames:
        _activate(metafunc.config).parametrize(metafunc)


# First, so that the gates of tests which -k or -m deselect afterwards are counted all the same.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if _is_ours(item)]
    if ours:
        _activate(config).read(ours)


class _Controller:
    """On the xdist controller, which collects nothing: waits for the first test of ours."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.collected: set[str] = set()
        self.reported: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self.collected.update(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # Marks ride along from the set-up on, so a result that is lost later is missed.
        if hasattr(report, "llmperf") or any(word.startswith("llm_") for word in report.keywords):
            _activate(self.config).collector.begin(report, self.collected, self.reported)
            self.config.pluginmanager.unregister(self)
        elif report.when != "setup" or not report.passed:
            self.reported.add(report.nodeid)


def _is_ours(item: pytest.Item) -> bool:
    names = getattr(item, "fixturenames", ())
    if "llm_server" in names or "llm_endpoint" in names:
        return True
    return any(mark.name.startswith("llm_") for mark in item.iter_markers())


def _activate(config: pytest.Config) -> Any:
    """The plugin object that does the work, registered when it is first needed."""
    from .runtime import activate

    return activate(config)
