"""The contract check itself, on packages that only look like an engine's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PARSERS = Path(__file__).parents[2] / "contracts" / "parsers.py"

PARSER = """\
import argparse
import a_module_that_nobody_has
from a_module_that_nobody_has.below import Base, register

@register(name="x")
class Child(Base):
    pass

class CLI:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    serve = parser.add_subparsers(dest="command").add_parser("serve")
    api = serve.add_subparsers(dest="sub").add_parser("api_server")
    api.add_argument("model")
    for name in (FLAGS):
        api.add_argument("--" + name)
"""
FLAGS = ("model-name", "server-name", "server-port", "reasoning-parser", "backend", "device", "tp")


def lmdeploy(place: Path, flags: tuple[str, ...], parser: str = PARSER) -> None:
    """A package with the parser of LMDeploy's command that takes ``flags``."""
    cli = place / "lmdeploy" / "cli"
    cli.mkdir(parents=True)
    (place / "lmdeploy" / "__init__.py").write_text('__version__ = "0.0.7"\n')
    (cli / "__init__.py").write_text("")
    (cli / "cli.py").write_text(parser.replace("FLAGS", repr(flags)))
    (cli / "serve.py").write_text("class SubCliServe:\n    add_parsers = staticmethod(lambda: 0)\n")


def check(place: Path, *engines: str, named: bool = True) -> tuple[int, str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place)}
    if named:
        env["LLMPERF_CONTRACT_LMDEPLOY"] = sys.executable
    done = subprocess.run(
        [sys.executable, str(PARSERS), *engines],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_parser_that_knows_our_flags_accepts_them(tmp_path: Path) -> None:
    lmdeploy(tmp_path, FLAGS)
    status, said = check(tmp_path, "lmdeploy")
    assert "lmdeploy 0.0.7: " in said
    assert "stand-ins for 1 missing modules" in said
    assert status == 0, said


def test_a_flag_that_it_does_not_know_is_told_with_the_command(tmp_path: Path) -> None:
    lmdeploy(tmp_path, tuple(flag for flag in FLAGS if flag != "reasoning-parser"))
    status, said = check(tmp_path, "lmdeploy")
    assert status == 1
    assert "REFUSED: deepseek-ai/DeepSeek-R1-0528 on 8x NVIDIA H200" in said
    assert "unrecognized arguments: --reasoning-parser deepseek-r1" in said


def test_a_parser_that_accepts_anything_is_none(tmp_path: Path) -> None:
    lmdeploy(tmp_path, FLAGS, PARSER + "    parser.parse_args = lambda words: words\n")
    status, said = check(tmp_path, "lmdeploy")
    assert status == 1
    assert "it checks nothing" in said


def test_engines_without_an_interpreter_are_left_out(tmp_path: Path) -> None:
    status, said = check(tmp_path, "lmdeploy", named=False)
    assert status == 2
    assert "lmdeploy: left out, LLMPERF_CONTRACT_LMDEPLOY names no interpreter" in said
