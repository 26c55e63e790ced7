"""The command that reaches another node: what a shell there makes of it."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.launch.reach import check_template, reaching
from pytest_llmperf.redact import HIDDEN

SSH = ("ssh", "-tt", "{host}", "{command}")
SRUN = ("srun", "-N1", "-w", "{host}", "{command}")
WORDS = st.text(st.characters(codec="ascii", exclude_characters="\x00"), max_size=12)


def reach(template: tuple[str, ...], argv: list[str], **env: str) -> tuple[str, ...]:
    return reaching(template, argv, env.items(), host="node-b", rank=1)


@given(st.lists(WORDS, min_size=1))
def test_a_shell_on_the_node_finds_the_words_again(argv: list[str]) -> None:
    """ssh joins its words with spaces and has a shell read them."""
    line = " ".join(reach(SSH, argv)[3:])
    assert shlex.split(line) == argv


@given(st.lists(WORDS, min_size=1))
def test_what_starts_a_program_itself_gets_the_words_as_they_are(argv: list[str]) -> None:
    assert reach(SRUN, argv) == ("srun", "-N1", "-w", "node-b", *argv)


def test_it_may_stand_in_a_script() -> None:
    template = check_template("sh -c 'echo {rank} {host}; {command}'", "--o")
    found = subprocess.run(
        reach(template, ["sh", "-c", 'echo "$A it"'], A="say 'x'"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "1 node-b\nsay 'x' it\n"


def test_the_environment_is_told_and_secrets_are_not() -> None:
    found = reach(SRUN, ["python"], SGLANG_X="1", HF_TOKEN="hf_secret")
    assert found[4:] == ("env", "SGLANG_X=1", "python")


@pytest.mark.parametrize(
    "options",
    [
        "",
        "-4 ",
        "-T ",
        "-t ",
        "-l tt ",
        "-p 22 -i tt ",
        "-o RequestTTY=no ",
        "-itt -oRequestTTY=yes ",
    ],
)
def test_ssh_without_a_terminal_there_is_refused(options: str) -> None:
    with pytest.raises(UsageMistake, match='write "ssh -tt"'):
        check_template(f"/usr/bin/ssh {options}{{host}} {{command}} -tt", "--o")


@pytest.mark.parametrize(
    "options",
    [
        "-tt ",
        "-t -t ",
        "-4ttp 22 ",
        "-i key -tt ",
        "-o RequestTTY=force ",
        "-4o 'RequestTTY force' ",
    ],
)
def test_ssh_with_a_terminal_there_is_taken(options: str) -> None:
    assert check_template(f"ssh {options}{{host}} {{command}}", "--o")[0] == "ssh"
    assert check_template(f"ssh {{host}} {options}{{command}}", "--o")[0] == "ssh"


@pytest.mark.parametrize(
    "template",
    [
        "ssh -o PASSWORD=sk-0123 {host}",
        "ssh --token sk-0123 {host} {command}",
        "run --url http://u:sk-0123@h {command}",
        "run --api-key='sk-0123 {host} {command}",
    ],
)
def test_a_mistake_does_not_repeat_a_secret(template: str) -> None:
    with pytest.raises(UsageMistake) as raised:
        check_template(template, "--llmperf-node-command")
    assert "sk-0123" not in str(raised.value)
    assert HIDDEN in str(raised.value)


@pytest.mark.parametrize("template", ["", "ssh {host}", "run {command}", "ssh '{host} {command}"])
def test_a_template_without_a_place_for_both_is_refused(template: str) -> None:
    with pytest.raises(UsageMistake, match="--llmperf-node-command="):
        check_template(template, "--llmperf-node-command")
