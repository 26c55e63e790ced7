"""Everything that users can name has its place in the generated reference."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pytest_llmperf
from docs.generate import reference_pages, write
from docs.generate.found import error_names, modules
from docs.generate.options import VARIABLES
from docs.generate.page import Page, code, described, escaped, prose, put, told
from docs.generate.reasons import REASONS
from docs.generate.schemas import SCHEMAS
from pytest_llmperf.cli import main
from pytest_llmperf.engines.registry import BUILT_IN
from pytest_llmperf.load.declare.fields import FIELDS
from pytest_llmperf.load.declare.presets import PRESETS
from pytest_llmperf.metrics.table import METRICS
from pytest_llmperf.schema import load_schema

#: Words that a verdict has; a code stands right behind one where it is made.
WORDS = {"pass", "fail", "inconclusive"}
#: How far a comparison is, and no verdict.
NO_VERDICTS = {"more"}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {page.name.removeprefix("reference/"): page.text for page in reference_pages()}


def constants(*words: str) -> Iterator[tuple[str, object]]:
    """What modules that hold these words name at their top, with its value where that is one."""
    for _, tree in modules(*words):
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)):
                    yield name, value
                case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                    for each, given in zip(names, values, strict=True):
                        if isinstance(each, ast.Name) and isinstance(given, ast.Constant):
                            yield each.id, given.value


def named(text: str, directive: str) -> set[str]:
    """The names under which a page describes something."""
    found = re.findall(rf"^`{{4,}}\{{{directive}\}} (.+)$", text, re.MULTILINE)
    return {re.split(r"[ (]", name)[0] for name in found}


def printed(pytester: pytest.Pytester, *arguments: str) -> str:
    return "\n".join(pytester.runpytest(*arguments).outlines)


# --- pytest ----------------------------------------------------------------------------------


def test_options_that_pytest_knows(pages: dict[str, str], pytester: pytest.Pytester) -> None:
    printed_ones = re.findall(r"^ +(--llmperf[\w-]*)", printed(pytester, "--help"), re.MULTILINE)
    assert named(pages["options"], "option") == set(printed_ones)


def test_ini_values_that_pytest_knows(pages: dict[str, str], pytester: pytest.Pytester) -> None:
    printed_ones = re.findall(r"^ +(llmperf\w*) \(", printed(pytester, "--help"), re.MULTILINE)
    assert named(pages["options"], "confval") == set(printed_ones)


def test_markers_that_pytest_prints(pages: dict[str, str], pytester: pytest.Pytester) -> None:
    output = printed(pytester, "--markers")
    printed_ones = re.findall(r"^@pytest\.mark\.(llm_\w+)", output, re.MULTILINE)
    assert named(pages["declared"], "marker") == set(printed_ones)


def test_fixtures_that_pytest_prints(pages: dict[str, str], pytester: pytest.Pytester) -> None:
    printed_ones = re.findall(r"^(llm_\w+)", printed(pytester, "--fixtures"), re.MULTILINE)
    assert named(pages["declared"], "fixture") == set(printed_ones)


def test_hooks_that_pluggy_knows(pages: dict[str, str], pytestconfig: pytest.Config) -> None:
    known = {name for name in vars(pytestconfig.hook) if name.startswith("pytest_llmperf_")}
    assert named(pages["declared"], "hook") == known


def test_environment_variables_that_constants_name() -> None:
    read = {value for name, value in constants("_VARIABLE = ") if name.endswith("_VARIABLE")}
    assert read
    assert read <= set(VARIABLES)


# --- what is measured and judged -------------------------------------------------------------


def test_metrics(pages: dict[str, str]) -> None:
    assert named(pages["metrics"], "metric") == set(METRICS)


def test_workload_fields_and_presets(pages: dict[str, str]) -> None:
    assert named(pages["workloads"], "workload-field") == set(FIELDS)
    assert all(f"| `{name}` |" in pages["workloads"] for name in PRESETS)


def test_engines(pages: dict[str, str]) -> None:
    assert named(pages["engines"], "engine") == set(BUILT_IN)


def test_every_reason_code_that_is_made_is_told_and_no_other() -> None:
    found = modules(*WORDS, "code")
    judging = [tree for name, tree in found if name.startswith(("gates.", "session."))]
    taking = dict(place for tree in judging for place in _taking(tree))
    made = {code for tree in judging for code in _codes(tree, taking)}
    assert {reason.code for reason in REASONS} == made - NO_VERDICTS


def test_the_schema_lists_every_reason_code_by_its_verdict() -> None:
    told_there = load_schema("report-v1")["$defs"]["gate"]["properties"]["reason_code"]
    listed = re.findall(r"([a-z_, ]+) \(([a-z ]+)\)", told_there["description"].partition(":")[2])
    found = {(code.strip(), word) for codes, word in listed for code in codes.split(",")}
    assert found == {(reason.code, reason.word) for reason in REASONS}


def test_a_reason_code_is_told_once(pages: dict[str, str]) -> None:
    assert len(REASONS) == len(named(pages["reasons"], "reason"))


def test_exit_statuses(pages: dict[str, str]) -> None:
    ours = {str(value) for name, value in constants("EXIT_") if name.startswith("EXIT_")}
    listed = named(pages["statuses"], "status") | named(pages["statuses"], "command-status")
    assert {"10", "11"} <= ours <= listed
    assert {str(status.value) for status in pytest.ExitCode} <= listed


def _taking(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Functions that take a reason code, and at which place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [each.arg for each in node.args.args]
            if "code" in names:
                yield node.name, names.index("code")


def _codes(tree: ast.Module, taking: dict[str, int]) -> Iterator[str]:
    """Reason codes: behind the word of a verdict, by name, and where a function takes one."""
    for node in ast.walk(tree):
        match node:
            case ast.Tuple(elts=[ast.Constant(value=word), ast.Constant(value=str(found)), *_]):
                if word in WORDS and found not in WORDS:
                    yield found
            case ast.keyword(arg="code" | "reason_code", value=value):
                yield from _texts(value)
            case ast.Assign(
                targets=[ast.Tuple(elts=[_, ast.Name(id="code")])],
                value=ast.Tuple(elts=[_, value]),
            ):
                yield from _texts(value)
            case ast.Call(func=ast.Name(id=function), args=given) if function in taking:
                yield from (text for each in given[taking[function] :][:1] for text in _texts(each))


def _texts(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))


# --- schemas ---------------------------------------------------------------------------------


def test_every_schema_has_a_page() -> None:
    files = Path(__file__).parents[2].joinpath("schemas").glob("*.schema.json")
    assert set(SCHEMAS) == {file.name.removesuffix(".schema.json") for file in files}


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_fields(pages: dict[str, str], name: str) -> None:
    page = pages[f"schema-{name}"]
    listed = {re.split(r"[./]", field)[-1] for field in named(page, "field")}
    schema = load_schema(name)
    assert {field for field, _ in _properties(schema)} == listed
    missing = {
        part["description"]
        for _, part in _properties(schema)
        if "description" in part and told(part["description"]) not in page
    }
    assert missing == set()


def _properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property wherever it is declared; what only conditions ask for is none."""
    if isinstance(schema, list):
        for each in schema:
            yield from _properties(each)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "properties":
            yield from value.items()
            yield from _properties(list(value.values()))
        elif key not in ("if", "then", "else"):
            yield from _properties(value)


# --- commands, errors, names -----------------------------------------------------------------


@pytest.mark.parametrize("command", [(), ("baseline",)], ids=["pytest-llmperf", "baseline"])
def test_commands_that_the_help_lists(
    pages: dict[str, str], command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    listed = re.findall(r"^    ([a-z]+)(?: |$)", capsys.readouterr().out, re.MULTILINE)
    assert listed
    for name in listed:
        assert " ".join(("## pytest-llmperf", *command, name)) in pages["commands"]


def test_every_error_class_is_told(pages: dict[str, str]) -> None:
    known = set(error_names())
    derived = {
        node.name
        for _, tree in modules(*(f"({name}" for name in known))
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if any(isinstance(base, ast.Name) and base.id in known for base in node.bases)
    }
    assert derived <= known
    assert named(pages["messages"], "error") == known


def test_messages_are_told_with_what_is_filled_in(pages: dict[str, str]) -> None:
    page = pages["messages"]
    assert "There is no engine ‹name›.‹hint› The engines are: ‹…, …›." in page
    assert "Name a reference" not in page.split("## ServerError")[1].split("## ClientError")[0]
    assert "no store here: there is no directory perf/ in ‹here›." in page


def test_public_names(pages: dict[str, str]) -> None:
    for name in pytest_llmperf.__all__:
        assert f"autoclass:: pytest_llmperf.{name}\n" in pages["api"]


# --- the pieces ------------------------------------------------------------------------------


def test_what_is_written_stays_until_it_changes_and_goes_when_it_must(tmp_path: Path) -> None:
    first = Page(name="made/one", title="One", body="text")
    put(tmp_path, "made", [first, Page(name="made/below/two", title="Two", body="text")])
    assert (tmp_path / "made/one.md").read_text() == "# One\n\ntext\n"
    before = (tmp_path / "made/one.md").stat().st_mtime_ns
    put(tmp_path, "made", [first])
    assert (tmp_path / "made/one.md").stat().st_mtime_ns == before
    assert not (tmp_path / "made/below").exists()


def test_literal_text_closes_no_fence() -> None:
    assert code("```\nx\n```", "md") == "````md\n```\nx\n```\n````\n"
    assert described("metric", "a", "```\nx\n```", "").startswith("````{metric} a\n")


def test_docstrings_as_markdown() -> None:
    said = "Takes ``a*b`` as :class:`~pytest_llmperf.records.Run` does."
    assert prose(said) == "Takes `a*b` as `records.Run` does."
    assert escaped("a_b <c> *d*") == r"a\_b \<c\> \*d\*"
    assert told("<x> of llm_server(args=...) or --llmperf-pin") == (
        r"\<x\> of `llm_server(args=...)` or `--llmperf-pin`"
    )


def test_generating_needs_the_checkout_only(tmp_path: Path) -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).write_text("# Title\n\n[there](docs/page.md#part)\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/page.md").write_text("# Page\n\n[file](../examples/one/run.sh)\n")
    (tmp_path / "examples/one").mkdir(parents=True)
    (tmp_path / "examples/one/run.sh").write_text("echo one\n")
    write(tmp_path)
    readme = (tmp_path / "docs/repository/README.md").read_text()
    assert "[there](../page.md#part)" in readme
    assert (
        "```sh\necho one\n```" in (tmp_path / "docs/repository/examples/one/run.sh.md").read_text()
    )
    assert "one/index" in (tmp_path / "docs/repository/examples/index.md").read_text()
