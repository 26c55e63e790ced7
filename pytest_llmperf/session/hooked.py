"""Calling what others have implemented: a mistake of theirs is told, and loses nothing of ours."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any

import pluggy
import pytest

from pytest_llmperf.records import Verdict
from pytest_llmperf.redact import redact_text
from pytest_llmperf.report.validate import problems_in

#: What an implementation may raise; pytest's outcomes are no exceptions by their own tree, and
#: nothing but Ctrl-C may end a session from within a hook.
_RAISED = (Exception, SystemExit, pytest.fail.Exception, pytest.skip.Exception)


def tell_verdicts(
    config: pytest.Config, item: pytest.Item, verdicts: Iterable[Verdict], problems: list[str]
) -> None:
    """Hand each verdict to ``pytest_llmperf_verdict``. Where an implementation raises, a sentence
    for people is added to ``problems``, once."""
    hook = item.ihook.pytest_llmperf_verdict
    for verdict in verdicts:
        arguments = {"config": config, "item": item, "verdict": verdict}
        if wrong := _raised(hook, config.rootpath, arguments):
            sentence = f"{wrong}. Verdicts stand as they are."
            problems += [sentence] if sentence not in problems else []


def tell_report(
    config: pytest.Config, document: dict[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Hand a copy of the report to ``pytest_llmperf_report``: the report, with what
    implementations changed in it.

    Where one of them raises, or what they leave is no valid report, the report as it was before
    and a sentence for people.
    """
    hook, root = config.hook.pytest_llmperf_report, config.rootpath
    if not hook.get_hookimpls():
        return document, None
    changed = copy.deepcopy(document)
    wrong = _raised(hook, root, {"config": config, "document": changed})
    if wrong is None and (problem := _problem(changed)):
        who = " and ".join(sorted({_plugin(impl, root) for impl in hook.get_hookimpls()}))
        wrong = f"the {hook.name} hook of {who} left a report that is not valid ({problem})"
    if wrong is None:
        return changed, None
    return document, f"{wrong}. The report is written without its changes."


def _raised(hook: pluggy.HookCaller, root: Path, arguments: Mapping[str, object]) -> str | None:
    try:
        hook(**arguments)
    except _RAISED as error:
        said = next(iter(str(error).splitlines()), "")
        what = f"{type(error).__name__}: {said}" if said else type(error).__name__
        return redact_text(f"the {hook.name} hook of {_who(hook, error, root)} raised {what}")
    return None


def _who(hook: pluggy.HookCaller, error: BaseException, root: Path) -> str:
    """The implementation that raised, and the line of it."""
    by_code = {_code(impl): impl for impl in hook.get_hookimpls()}
    for code, line in _frames(error):
        if impl := by_code.get(code):
            return f"{_plugin(impl, root)}, line {line},"
    return "a plugin"


def _frames(error: BaseException) -> Iterator[tuple[CodeType, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code, trace.tb_lineno
        trace = trace.tb_next


def _code(impl: pluggy.HookImpl) -> CodeType | None:
    return getattr(impl.function, "__code__", None)


def _plugin(impl: pluggy.HookImpl, root: Path) -> str:
    """A conftest by its path, which is its name, below the suite's root; a plugin by its name."""
    path = Path(impl.plugin_name)
    if path.is_absolute() and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return os.fspath(path) if path.is_absolute() else f"plugin {impl.plugin_name!r}"


def _problem(document: Mapping[str, Any]) -> str | None:
    """The first thing wrong with a report."""
    try:
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)
    return next(iter(problems_in(document)), None)
