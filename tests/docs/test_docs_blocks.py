"""Every fenced block of the pages is what it seems: code that compiles, tests that collect,
commands that their parsers take, data that parses.

A block that cannot be checked says so in a line above it, ``<!-- unchecked: the reason -->``.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import io
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from docs.generate.fenced import Fenced, commands, fenced_blocks
from docs.generate.options import declared_options
from docs.generate.repository import hand_written
from pytest_llmperf import cli

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *hand_written(ROOT)]
PAGES += sorted((ROOT / "examples").rglob("*.md"))
BLOCKS = [block for page in PAGES for block in fenced_blocks(page)]
#: Languages in which commands are written; without a language it may be what they print.
CONSOLE = ("", "sh", "bash", "console", "shell")
#: Languages that are shown and that nothing here can parse; text is what commands print.
SHOWN = ("text", "diff", "groovy", "html", "{toctree}", "{note}", "{warning}", "{tip}", "{include}")
PYTESTS = (["pytest"], ["python", "-m", "pytest"], ["python3", "-m", "pytest"])
#: Files of prompts that a workload names.
PROMPTS = re.compile(r'llm_workload\("([\w-]+\.jsonl)"')
MARKS = {
    "llm_server": 'pytest.mark.llm_server("sim")',
    "llm_workload": 'pytest.mark.llm_workload("chat", concurrency=4)',
}
PARAMETERS = re.compile(r'parametrize\("(\w+(?:, *\w+)*)"')
OPTION = re.compile(r"(?<![\w-])--llmperf(?:-[a-z0-9]+)*(?![\w*-])")


def _named(block: Fenced) -> str:
    return f"{block.page.relative_to(ROOT).as_posix()}:{block.line}"


@pytest.mark.parametrize("block", BLOCKS, ids=_named)
def test_a_block_is_what_it_seems(block: Fenced) -> None:
    if block.unchecked:
        return
    if block.language in CONSOLE:
        for command in commands(block.text):
            check_command(command)
        return
    if block.language not in SHOWN:
        assert block.language in PARSERS, f"{_named(block)}: nothing checks {block.language!r}"
        PARSERS[block.language](block.text)


def test_test_modules_collect(pytester: pytest.Pytester) -> None:
    """All at once, each in a directory of its own; with what a fragment leaves out."""
    written = {}
    for number, block in enumerate(BLOCKS):
        if block.language == "python" and not block.unchecked and is_test_module(block.text):
            path = Path(f"block{number}") / f"test_block{number}.py"
            written[path.as_posix()] = block
            folder = pytester.mkdir(path.parent.name)
            (folder / path.name).write_text(completed(block.text), encoding="utf-8")
            for name in PROMPTS.findall(block.text):
                (folder / name).write_text(prompts(block.text), encoding="utf-8")
    assert written
    pytester.makeini("[pytest]\n")
    result = pytester.runpytest_subprocess("--collect-only", "-q", "-p", "no:cacheprovider")
    told = "\n".join((*result.outlines, *result.errlines))
    lost = [_named(block) for path, block in written.items() if f"{path}::" not in told]
    assert (result.ret, lost) == (pytest.ExitCode.OK, []), told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_that_a_page_names_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return
    named = set(OPTION.findall(page.read_text(encoding="utf-8")))
    known = {option.name for option in declared_options()}
    assert named - known == set()


# --- commands --------------------------------------------------------------------------------


def check_command(words: list[str]) -> None:
    """Raise AssertionError where its own parser would not take a command of ours."""
    for pytests in PYTESTS:
        if words[: len(pytests)] == pytests:
            _pytest_takes(words[len(pytests) :])
    if words[0] == "pytest-llmperf":
        _takes(cli.parser(), words[1:])
    if words[0] == "make":
        goals = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        assert set(goals) <= GOALS, f"make has no goal {goals}"
    if words[0] in ("python", "python3") and words[1:2] == ["-m"]:
        _module_exists(words[2])


def _pytest_takes(words: list[str]) -> None:
    ours = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False, add_help=False)
    for option in declared_options():
        ours.add_argument(option.name, **option.attributes)
    try:
        _, others = ours.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise AssertionError(f"pytest {' '.join(words)}: {error}") from None
    assert not [word for word in others if word.startswith("--llmperf")], others


def _takes(parser: argparse.ArgumentParser, words: list[str]) -> None:
    if "--help" in words or "-h" in words:
        return
    try:
        parser.parse_args(words)
    except SystemExit:
        raise AssertionError(f"{parser.prog} does not take {words}") from None


def _module_exists(name: str) -> None:
    if name.split(".")[0] in ("benchmarks", "docs", "pytest_llmperf"):
        path = ROOT.joinpath(*name.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name


def _goals() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))


GOALS = _goals()


# --- languages -------------------------------------------------------------------------------


def check_python(text: str) -> None:
    compile(completed(text), "block", "exec")


def completed(text: str) -> str:
    """The block with what a fragment leaves out: the import of pytest, a server and a workload for
    its tests, and the function that decorators stand above."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        parameters = ", ".join(("llm_perf", *PARAMETERS.findall(text)))
        text += f"\ndef test_of_fragment({parameters}): ...\n"
        tree = ast.parse(text)
    imports = [node for node in tree.body if isinstance(node, ast.Import)]
    if any(name.name == "pytest" for node in imports for name in node.names):
        return text
    marks = [mark for name, mark in MARKS.items() if name not in text]
    return f"import pytest\npytestmark = [{', '.join(marks)}]\n{text}"


def prompts(text: str) -> str:
    """A file of prompts that say how long their answers are, unless the block says it."""
    length = "" if "output_tokens=" in text else ', "output_tokens": 8'
    return f'{{"prompt": "hello"{length}}}\n' * 100


def is_test_module(text: str) -> bool:
    tests = (
        node.name
        for node in ast.walk(ast.parse(completed(text)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return any(name.startswith("test_") for name in tests)


def check_ini(text: str) -> None:
    configparser.ConfigParser(interpolation=None).read_string(text)


def check_yaml(text: str) -> None:
    yaml = pytest.importorskip("ruamel.yaml")
    yaml.YAML(typ="safe").load(io.StringIO(text))


def check_jsonl(text: str) -> None:
    for line in text.splitlines():
        json.loads(line)


PARSERS: dict[str, Callable[[str], object]] = {
    "python": check_python,
    "py": check_python,
    "json": json.loads,
    "jsonl": check_jsonl,
    "toml": tomllib.loads,
    "ini": check_ini,
    "yaml": check_yaml,
    "yml": check_yaml,
}


# --- the harness itself ----------------------------------------------------------------------


def test_blocks_are_found_where_they_are(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n```python\nx = 1\n```\n\n<!-- unchecked: needs a GPU -->\n~~~~sh\n```\n~~~~\n"
        "- item\n\n  ```json\n  {}\n  ```\n"
    )
    found = [(each.line, each.language, each.text, each.unchecked) for each in fenced_blocks(page)]
    assert found == [
        (3, "python", "x = 1", ""),
        (8, "sh", "```", "needs a GPU"),
        (13, "json", "{}", ""),
    ]


def test_commands_are_told_from_what_is_around_them() -> None:
    text = (
        "$ A=1 pytest x \\\n  -k 'a b' > out.txt  # comment\n"
        "cd y && pytest-llmperf doctor | head\nIt's"
    )
    assert list(commands(text)) == [
        ["pytest", "x", "-k", "a b"],
        ["cd", "y"],
        ["pytest-llmperf", "doctor"],
        ["head"],
    ]


@pytest.mark.parametrize(
    "command",
    [
        "pytest --llmperf-no-such-option",
        "pytest --llmperf-pin sometimes",
        "pytest --llmperf-runs many",
        "python -m pytest --llmperf-launch 3",
        "pytest-llmperf no-such-command",
        "pytest-llmperf baseline accept --because 1",
        "make no-such-goal",
        "python -m benchmarks.no_such_module",
    ],
)
def test_commands_that_nobody_takes_are_seen(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError):
        check_command(command.split())


def test_python_that_is_none_is_seen() -> None:
    with pytest.raises(SyntaxError):
        check_python("def f(:\n")
    assert is_test_module("@pytest.mark.llm_floor(tpot_mean='1 ms')\n")
    assert not is_test_module("x = 1\n")
