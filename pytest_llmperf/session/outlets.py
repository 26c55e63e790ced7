"""What is written beside the report, once it is whole: page, Markdown, exports, summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import LlmPerfError, ReportError
from pytest_llmperf.settings import Settings

#: Bytes below which a summary would not even say what failed.
_LEAST_ROOM = 4000


def write_outlets(
    document: Mapping[str, Any], settings: Settings, environ: Mapping[str, str]
) -> tuple[list[Path], list[str]]:
    """Write all that was asked for: where it is, and what went wrong, a sentence each.

    One that cannot be written keeps none of the others from being written.
    """
    written: list[Path] = []
    problems: list[str] = []
    for write in _writers(document, settings, environ):
        try:
            written += write()
        except LlmPerfError as error:
            problems.append(str(error))
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            problems.append(
                f"one thing beside the report could not be made of it ({error!r}); if no "
                "pytest_llmperf_report hook changed it, this is a mistake in pytest-llmperf."
            )
    return written, problems


def on_github(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether a workflow of GitHub's is to be told: asked for, and running in one."""
    return settings.github and environ.get("GITHUB_ACTIONS") == "true"


def repository_path(root: Path, environ: Mapping[str, str]) -> str:
    """Where the suite's root lies in the checkout of a workflow; empty for its top, or where that
    is not known."""
    workspace = Path(environ.get("GITHUB_WORKSPACE") or root)
    below = root.relative_to(workspace) if root.is_relative_to(workspace) else Path()
    return "" if below == Path() else below.as_posix()


def _writers(
    document: Mapping[str, Any], settings: Settings, environ: Mapping[str, str]
) -> Iterator[Callable[[], list[Path]]]:
    if settings.html is not None:
        yield partial(_page, document, settings.html, settings.profiles_dir)
    if settings.markdown is not None:
        yield partial(_markdown, document, settings.markdown)
    for kind, path in settings.exports:
        if path not in settings.requests:
            yield partial(_export, kind, document, path)
    if settings.requests_dir is not None:
        yield partial(_requests, document, settings, settings.requests_dir)
    summary = environ.get("GITHUB_STEP_SUMMARY")
    if summary and document["tests"] and on_github(settings, environ):
        yield partial(_summary, document, Path(summary))


def _markdown(document: Mapping[str, Any], path: Path) -> list[Path]:
    from pytest_llmperf.report.markdown import COMMENT_LIMIT, markdown
    from pytest_llmperf.report.write import write_text

    text = markdown(document, limit=COMMENT_LIMIT)
    write_text(text, path, option="--llmperf-markdown", what="the Markdown report")
    return [path]


def _page(document: Mapping[str, Any], path: Path, profiles: Path | None) -> list[Path]:
    from pytest_llmperf.report.html import write_page
    from pytest_llmperf.report.profiles import seen_from

    there = (profiles or path).parent
    write_page(seen_from(document, there, path.parent), path, option="--llmperf-html")
    return [path]


def _export(kind: str, document: Mapping[str, Any], path: Path) -> list[Path]:
    from pytest_llmperf.report.exports import export

    return export(kind, document, path, option="--llmperf-export")


def _requests(document: Mapping[str, Any], settings: Settings, directory: Path) -> list[Path]:
    """The parts stay where another session may go on with this one and need them."""
    from pytest_llmperf.report.requests.gather import gather
    from pytest_llmperf.report.requests.parts import remove_parts

    for path in settings.requests:
        gather(directory, document, path, option="--llmperf-export")
    if document["complete"] or settings.report is None:
        remove_parts(directory)
    return list(settings.requests)


def _summary(document: Mapping[str, Any], path: Path) -> list[Path]:
    """Add to what other commands of the step have written; GitHub drops a summary over its limit
    whole."""
    from pytest_llmperf.report.markdown import SUMMARY_LIMIT, markdown

    try:
        room = SUMMARY_LIMIT - (path.stat().st_size if path.exists() else 0) - 2
        if room < _LEAST_ROOM:
            raise ReportError(
                f"{path} has no room for a summary any more, of the 1 MiB that GitHub shows of a "
                "step; run pytest in a step of its own.",
                path=path,
            )
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n{markdown(document, limit=room)}\n")
    except OSError as error:
        raise ReportError(
            f"the step's summary could not be added to {path}, which GITHUB_STEP_SUMMARY names: "
            f"{error.strerror or error}. Leave --llmperf-github out where there is none.",
            path=path,
        ) from error
    return []
