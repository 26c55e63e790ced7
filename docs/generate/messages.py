"""Every message that users see when something goes wrong, found in the code by its raise."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from itertools import groupby

from .found import Message, error_names, found_messages
from .page import Page, described, escaped, prose

#: What becomes of each error, in words; what is not here ends as what it is derived from.
ENDINGS = {
    "UsageMistake": "pytest ends with status 4 before anything runs; a command ends with 1",
    "ServerError": "the test ends in an error, and the session with status 11",
    "ClientError": "the test ends in an error, and the session with status 11",
    "ReportError": "the session ends with status 11; a command ends with 1",
    "StoreError": "gates that need the store are not covered, and the session ends with status 11; "
    "a command ends with 1",
    "GateError": "the test fails, and the session ends with status 10",
    "Inconclusive": "the test fails, and the session ends with status 11",
    "LlmPerfError": "a command ends with 1",
    "UsageError": "pytest's own: it ends with status 4",
    "ArgumentTypeError": "argparse's own: pytest ends with status 4, a command with 2",
}


def page() -> Page:
    return Page(
        name="reference/messages",
        title="Error messages",
        about="every error, what becomes of it, and all that it may say",
        body="\n".join(_parts()),
    )


def _parts() -> Iterator[str]:
    yield (
        "A message says what happened, why, and what to do. What stands in ‹angle quotes› is "
        "filled in where it is raised. Verdicts of gates have [reason codes](reasons.md).\n"
    )
    messages = found_messages()
    for name, home in error_names().items():
        said = [each for each in messages if each.error == name]
        yield f"## {name}\n"
        yield described(
            "error", name, _docstring(name, home), f"*What becomes of it:* {_ending(name, home)}."
        )
        for room, group in groupby(said, key=lambda each: each.module):
            yield f"From `{room}`:\n"
            yield from (_told(each) for each in dict.fromkeys(group))
            yield ""


def _told(message: Message) -> str:
    lines = [escaped(message.text)]
    lines += [f"{name}: {escaped(text)}" for name, text in message.more]
    return "- " + "  \n  ".join(lines)


def _ending(name: str, home: str) -> str:
    kind = getattr(importlib.import_module(home), name)
    return next(ENDINGS[each.__name__] for each in kind.__mro__ if each.__name__ in ENDINGS)


def _docstring(name: str, home: str) -> str:
    kind = getattr(importlib.import_module(home), name)
    return prose(inspect.cleandoc(kind.__doc__ or "")) if home.startswith("pytest_llmperf") else ""
