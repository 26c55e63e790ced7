"""``pytest-llmperf`` and the scripted server, as argparse describes them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from pytest_llmperf import cli
from pytest_llmperf.testing import __main__ as scripted

from .page import Page, code, described, sentence, told

_EXAMPLE = re.compile(r"^example:\n", re.MULTILINE)


def page() -> Page:
    return Page(
        name="reference/commands",
        title="The command pytest-llmperf",
        about="every subcommand with its arguments",
        body="\n".join(_parts()),
    )


def subcommands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every parser below ``parser`` that does something, in the order of its help."""
    groups = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for below in dict.fromkeys(group.choices.values()):
            yield from subcommands(below)


def _parts() -> Iterator[str]:
    for parser in subcommands(cli.parser()):
        yield from _described(parser)
    yield "## python -m pytest_llmperf.testing\n"
    yield "The scripted server; [testing](../testing.md) says what its arguments do.\n"
    yield from _arguments(scripted._parser())


def _described(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {parser.prog}\n"
    first, _, more = (parser.description or "").partition("\n\n")
    yield f"{told(first)}\n"
    yield from _arguments(parser)
    if more:
        yield code(more)
    if parser.epilog:
        yield "Example:\n"
        yield code("\n".join(map(str.strip, _EXAMPLE.sub("", parser.epilog).splitlines())), "sh")


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"```{{program}} {parser.prog}\n```\n"
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            needed = "Must be given." if action.required and action.option_strings else ""
            yield described("option", _signature(action), _help(parser, action), needed)


def _signature(action: argparse.Action) -> str:
    takes = _takes(action)
    return ", ".join(f"{flag} {takes}".strip() for flag in action.option_strings) or takes


def _takes(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    named = action.metavar or action.dest.upper().replace("_", "-")
    shown = named if isinstance(named, str) else " ".join(named)
    return f"{shown} ..." if action.nargs in ("*", "+") else shown


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    if not action.help:
        given = action.default not in (None, argparse.SUPPRESS)
        return f"Default: `{action.default}`." if given else ""
    said = action.help % {**vars(action), "prog": parser.prog}
    return told(sentence(said))
