"""Hostile text in every place of a report that others fill, through every outlet that shows text:
nothing of it becomes markup, a command, a colour or another direction of writing."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from _pytest.junitxml import bin_xml_escape
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmperf.cli.merge import told_sessions
from pytest_llmperf.errors import ServerError
from pytest_llmperf.inert import inert_text
from pytest_llmperf.report import brief, story, terminal
from pytest_llmperf.report.annotations import commands
from pytest_llmperf.report.columns import Look
from pytest_llmperf.report.exports import KINDS, export
from pytest_llmperf.report.html import page
from pytest_llmperf.report.junit import properties
from pytest_llmperf.report.markdown import COMMENT_LIMIT, SUMMARY_LIMIT, markdown
from pytest_llmperf.report.merge import merge

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

TEXTS = {
    "script": "</script><script>alert(1)</script><img src=x onerror=alert(2)>",
    "xml": "]]></system-out><testcase/><!-- -->&amp;&#0;",
    "ansi": "\x1b[31mred\x1b[0m\x1b]8;;http://x.example\x07link\x1b]8;;\x07 \x9b31m \x07\b\b\r",
    "nul": "a\x00b\x0b\x0c\x7f\x85\ufffe\uffff",
    "surrogates": "\ud800 \udcff \udfff\ud83d",
    "direction": "\u202egnp.exe\u2066\u2067\u200f\u061c\u200b",
    "lines": "one\ntwo\r\nthree\u2028four\x85five\u2029six",
    "workflow": "\n::error file=x::gone\n::set-output name=a::b\n##[group]x\n%0A::stop-commands::t",
    "legacy": "x ##[error]y ###[add-mask]z ##vso[task.complete]w ##teamcity[testFailed name='t']",
    "markdown": "](http://x.example) **b** `c` | d | @team #1 ![i](y) <details>",
    "template": "{{ 7 * 7 }} {% raw %} ${7*7} %(x)s",
    "megabyte": "x" * 1_000_000,
    "hostile megabyte": "<b>\x1b[1m\u202e " * 100_000,
}
#: Names of what a report does not choose itself.
FREE = {
    *("test", "name", "reason", "source", "message", "model", "argv", "notes", "log", "failure"),
    *("invalid_reasons", "changed", "against", "product", "branch", "version", "commit", "engine"),
    *("method", "lines", "problems", "command"),
}
#: Of these, what may be a server's log or a model's words.
LONG = {"test", "reason", "message", "failure", "notes", "model"}
#: What changes the direction of a text, or joins or hides parts of it.
#: What CI services take for commands: of GitHub's runner and Azure's agent anywhere in a line.
COMMAND = re.compile(r"^\s*::|##[\w.]*\[", re.MULTILINE)
TURNING = re.compile("[\u200b\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def spoilt(value: Any, text: str, key: str = "") -> Any:
    """A report with ``text`` behind every text that is free to be anything."""
    if isinstance(value, dict):
        return {name: spoilt(each, text, name) for name, each in value.items()}
    if isinstance(value, list):
        return [spoilt(each, text, key) for each in value]
    free = LONG if len(text) > 1000 else FREE
    return value + text if isinstance(value, str) and key in free else value


def spoilt_report(samples: Samples, text: str) -> dict[str, Any]:
    document: dict[str, Any] = spoilt(
        json.loads(json.dumps(samples.assemble(samples.fragment()))), text
    )
    launch = document["servers"][0]["launches"][0]
    launch["args"], launch["env"] = {f"a{text}": text}, {f"e{text}": text}
    document["environment"]["packages"] = {f"p{text}": text}
    document["tests"][0]["outcome"] = "broken"
    return {**document, "problems": [text]}


# --- what each outlet must not hold ----------------------------------------------------------


def no_controls(text: str) -> None:
    assert not TURNING.search(text)
    for character in text:
        assert character == "\n" or unicodedata.category(character) not in ("Cc", "Cs"), character


def at_terminal(document: dict[str, Any]) -> None:
    look = Look(width=80)
    for lines in (
        terminal.summary_lines(document, look),
        brief.brief_lines(document, look),
        brief.closing_lines(document, look),
        story.story_lines(document, look),
    ):
        obeyed_by_nobody(lines)


def obeyed_by_nobody(lines: Iterable[str]) -> None:
    for line in lines:
        assert "\n" not in line
        assert not COMMAND.search(line), "a workflow would obey it"
        no_controls(line)


def merged_at_terminal(document: dict[str, Any]) -> None:
    text = document["problems"][0]
    document["environment"]["accelerators"][0]["product"] += text
    found = merge([document], version="0.1.0")
    found["merged"]["notes"] = [text]
    assert found["merged"]["parts"][0]["name"].endswith(text)
    obeyed_by_nobody(told_sessions(found))


def in_notes(document: dict[str, Any]) -> None:
    for command in commands(document):
        no_controls(command)
        assert re.match(r"::(error|warning) [a-z]+=", command)
        assert command.splitlines() == [command]
        assert len(command) < 10_000
        # A note ends where its line does: no other begins in it.
        assert not re.search(r"[\r\n]", command)


def in_markdown(document: dict[str, Any]) -> None:
    for limit in (COMMENT_LIMIT, SUMMARY_LIMIT):
        text = markdown(document, limit=limit)
        assert len(text.encode()) <= limit
        no_controls(text)
        tags = set(re.findall(r"</?[a-z!][^>]*>", text))
        ours = {"code", "details", "summary", "br", "wbr"}
        assert tags <= {"<!-- pytest-llmperf -->", *(f"<{t}>" for t in ours), "</code>",
                        "</details>", "</summary>"}  # fmt: skip
        assert "](" not in text
        assert "@team" not in text


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") or name == "src" for name, _ in attrs)
        self.found.append(tag)


def on_page(document: dict[str, Any]) -> None:
    text = page(document)
    no_controls(text)
    assert "<!--" not in text
    # What is folded is text in the page until it is unfolded, and must not end before its time.
    assert text.count("</noscript>") == text.count("<noscript")
    found = Tags(text).found
    assert "img" not in found
    assert found.count("script") == 7


def in_junit(document: dict[str, Any]) -> None:
    """As pytest writes properties: escaped by :mod:`xml.etree`, what XML lacks by pytest."""
    for name, value in properties(document):
        no_controls(name)
        no_controls(value)
        value.encode()
        assert len(value) < 50_000
        element = ElementTree.Element("property", name=name, value=bin_xml_escape(value))
        read = ElementTree.fromstring(ElementTree.tostring(element, encoding="unicode"))  # noqa: S314 - ours
        assert read.get("name") == name
        assert not list(read)


def in_exports(document: dict[str, Any], tmp_path: Path) -> None:
    """Their own readers are in the tests of each; none may fail or hold what nobody can read."""
    for kind in KINDS:
        for path in export(kind, document, tmp_path / kind, option="--x"):
            text = path.read_bytes().decode()
            assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text), kind
            assert not TURNING.search(text), kind


OUTLETS: dict[str, Callable[[dict[str, Any]], None]] = {
    "terminal": at_terminal,
    "merged": merged_at_terminal,
    "notes": in_notes,
    "markdown": in_markdown,
    "page": on_page,
    "junit": in_junit,
}


@pytest.mark.parametrize("outlet", OUTLETS)
@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_is_inert(samples: Samples, name: str, outlet: str) -> None:
    OUTLETS[outlet](spoilt_report(samples, TEXTS[name]))


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_is_inert_in_exports(samples: Samples, name: str, tmp_path: Path) -> None:
    in_exports(spoilt_report(samples, TEXTS[name]), tmp_path)


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_any_text_is_inert_in_every_outlet(samples: Samples, text: str) -> None:
    document = spoilt_report(samples, text)
    for outlet in OUTLETS.values():
        outlet(document)


def test_a_name_of_many_lines_takes_one_row_of_a_table(samples: Samples) -> None:
    name = "t.py::test_a[" + "one\ntwo three\r\n" * 50 + "]"
    document = samples.assemble(samples.fragment(name))
    lines = terminal.summary_lines(document, Look(width=80))
    assert len([line for line in lines if "two" in line and "tok/s" in line]) <= 2
    assert len(lines) < 60


@given(st.text(st.sampled_from(":#[x. \t\n")))
def test_nothing_that_is_shown_is_a_command(text: str) -> None:
    shown = inert_text(text)
    assert not COMMAND.search(shown)
    assert inert_text(shown) == shown
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", text)


def test_many_empty_lines_take_no_time() -> None:
    assert inert_text("\n" * 20_000) == "\n" * 20_000


def test_why_a_server_failed_starts_no_command() -> None:
    error = ServerError(
        "it ended\n::error::a",
        cause="c ##[error]b",
        argv=["python", "\n::stop-commands::t"],
        log_tail=["##[add-mask]p", " ::warning::w"],
        exit_status=1,
    )
    assert not COMMAND.search(str(error))
