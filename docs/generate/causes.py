"""Why a server failed: every cause that is recognised in an engine's log, and what to try."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from pytest_llmperf import engines
from pytest_llmperf.records import FailureCause

from .page import Page, told


def page() -> Page:
    return Page(
        name="reference/causes",
        title="Why a server failed",
        about="the causes that are recognised in a server's log, and what to try",
        body="\n".join(_parts()),
    )


def known_causes() -> dict[str, tuple[FailureCause, ...]]:
    """The causes in the order in which they are tried, by the module that knows them."""
    folder = Path(str(engines.__file__)).parent
    names = sorted(file.stem for file in folder.glob("*_logs.py"))
    loaded = {name: import_module(f"{engines.__name__}.{name}") for name in names}
    return {name: module.CAUSES for name, module in loaded.items() if hasattr(module, "CAUSES")}


def _parts() -> Iterator[str]:
    yield (
        "When a server does not start, or dies, its log is searched for what is known of its "
        "engine, the most specific first. A `\\1` is filled in from the log. The whole message "
        "holds the command, how it ended and the end of the log as well.\n"
    )
    for module, causes in known_causes().items():
        yield f"## {module.removesuffix('_logs').replace('_', ' ')}\n"
        yield from (_told(cause) for cause in dict.fromkeys(causes))
        yield ""


def _told(cause: FailureCause) -> str:
    remedy = f"  \n  *Try:* {told(cause.remedy)}" if cause.remedy else ""
    return f"- {told(cause.cause)}{remedy}"
