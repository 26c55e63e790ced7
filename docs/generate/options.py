"""What pytest offers with the plugin installed: options, ini values, environment variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pytest_llmperf import options
from pytest_llmperf.launch.locks import RUNTIME_DIR_VARIABLE
from pytest_llmperf.server_options import API_KEY_VARIABLE, REFERENCE_API_KEY_VARIABLE

from .page import Page, code, described, sentence, told

#: Environment variables that are read: by the name, what for.
VARIABLES = {
    API_KEY_VARIABLE: "The key of the endpoint in `--llmperf-url`; it is sent as a bearer token, "
    "and appears in no report, log or command line.",
    REFERENCE_API_KEY_VARIABLE: "The same for `--llmperf-reference-url`.",
    RUNTIME_DIR_VARIABLE: "Where locks and ports of running servers are kept, instead of the "
    "user's runtime directory; `--llmperf-lock-dir` names a place for the locks alone.",
    "XDG_CACHE_HOME": "Where the cache is in which models made on the spot are kept, unless the "
    "ini value `llmperf_cache_dir` says it.",
    "GITHUB_ACTIONS": "With `--llmperf-github`, `true` says that this is GitHub Actions, which "
    "also sets `GITHUB_STEP_SUMMARY` and `GITHUB_WORKSPACE`.",
    "NO_COLOR": "As pytest reads it, and `FORCE_COLOR` too: the tables heed them.",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option as it is declared: ``attributes`` are those of :mod:`argparse`."""

    name: str
    attributes: dict[str, Any]

    @property
    def signature(self) -> str:
        """The option with what it takes, such as ``--llmperf-pin auto|off``."""
        choices = self.attributes.get("choices")
        takes = "|".join(choices) if choices else self.attributes.get("metavar", "")
        return f"{self.name} {takes}".strip()

    @property
    def help(self) -> str:
        """As ``pytest --help`` prints it, where a percent sign is written twice."""
        return str(self.attributes["help"]).replace("%%", "%")


@dataclass
class _Recorder:
    """Takes declarations in the place of pytest's parser, and of its group."""

    found: list[Option] = field(default_factory=list)

    def getgroup(self, *_: str) -> _Recorder:
        return self

    def addoption(self, name: str, **attributes: Any) -> None:
        self.found.append(Option(name, attributes))

    def addini(self, *_: Any, **__: Any) -> None:
        """Ini values are read from the table that they are declared from."""


def declared_options() -> list[Option]:
    """Every option of the plugin, those that are for itself alone left out."""
    recorder = _Recorder()
    options.add_options(cast("pytest.Parser", recorder))
    return [each for each in recorder.found if not each.help.startswith("==")]


def page() -> Page:
    return Page(
        name="reference/options",
        title="Options, ini values, environment",
        about="what the command line of pytest, its ini file and the environment say",
        body="\n".join(_parts()),
    )


def _parts() -> Iterator[str]:
    yield "## Options of pytest\n\n```{program} pytest\n```\n"
    for option in sorted(declared_options(), key=lambda each: each.name):
        often = "May be given several times." if option.attributes.get("action") == "append" else ""
        yield described("option", option.signature, told(sentence(option.help)), often)
    yield "## Ini values\n"
    yield "In `pytest.ini`, or in `pyproject.toml` below `[tool.pytest.ini_options]`.\n"
    for name, (default, meaning) in options.INI.items():
        facts = f":default: `{default}`" if default else ":default: empty"
        yield described("confval", name, facts, told(sentence(meaning)))
    example = "[pytest]\nllmperf_store = perf\nllmperf_launches = 3"
    yield f"For example:\n\n{code(example, 'ini')}"
    yield "## Environment variables\n"
    yield from (described("envvar", name, meaning) for name, meaning in VARIABLES.items())
