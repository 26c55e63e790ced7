"""Runs in an engine's own environment: gives command lines to the engine's own parser.

Called by :mod:`parsers` as ``python probe.py ENGINE ANSWER_FILE`` with the command lines as JSON on
standard input. Standard library only, Python 3.10 or newer; nothing is started and no device is
needed. What an engine imports beside its parser may be absent: then it is imported once more with
stand-ins for what is missing, and the answer says so.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

#: Parses words, and exits or raises on those that it refuses.
Parse = Callable[[Sequence[str]], object]
#: A checkout or the files of one, for engines whose package cannot be had.
SOURCE = "LLMPERF_CONTRACT_SOURCE"
#: The modules that say what its options are and which values they take.
_TENSORRT_LLM_FILES = (
    "tensorrt_llm.commands.serve",
    "tensorrt_llm.llmapi.reasoning_parser",
    "tensorrt_llm.logger",
)
#: What no parser may accept; one that does is none.
_NONSENSE = "--no-option-of-any-engine"


# --- the parsers -----------------------------------------------------------------------------


def sglang() -> Parse:
    """``srt/server_args.py``: what ``sglang.launch_server`` builds its parser of."""
    arguments: Any = importlib.import_module("sglang.srt.server_args")
    parser = argparse.ArgumentParser(prog="sglang.launch_server")
    arguments.ServerArgs.add_cli_args(parser)
    return parser.parse_args


def vllm() -> Parse:
    """The command ``vllm serve``, or where there is no "serve" the server's module itself."""
    cli: Any = importlib.import_module("vllm.entrypoints.cli.serve")
    served = _first("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
    parsing: Any = importlib.import_module("vllm.utils.argparse_utils")
    command = parsing.FlexibleArgumentParser(prog="vllm")
    cli.ServeSubcommand().subparser_init(command.add_subparsers(dest="subparser"))
    module = served.make_arg_parser(parsing.FlexibleArgumentParser(prog="vllm server"))

    def parse(words: Sequence[str]) -> object:
        parser = command if words[:1] == ["serve"] else module
        found = parser.parse_args(words)
        served.validate_parsed_serve_args(found)
        return found

    return parse


def _first(*names: str) -> Any:
    """The first of these modules that there is: it has moved from version to version."""
    for name in names[:-1]:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    return importlib.import_module(names[-1])


def lmdeploy() -> Parse:
    """``lmdeploy serve api_server``."""
    cli: Any = importlib.import_module("lmdeploy.cli.cli")
    serve: Any = importlib.import_module("lmdeploy.cli.serve")
    serve.SubCliServe.add_parsers()
    parse: Parse = cli.CLI.parser.parse_args
    return parse


def tensorrt_llm() -> Parse:
    """``trtllm-serve serve``: click reads the command line, and its function is not called."""
    if SOURCE in os.environ:
        finder: Any = FromSource(Path(os.environ[SOURCE]), _TENSORRT_LLM_FILES)
        sys.meta_path.insert(0, finder)
    serve: Any = importlib.import_module("tensorrt_llm.commands.serve")
    parsers: Any = importlib.import_module("tensorrt_llm.llmapi.reasoning_parser")
    if not parsers.ReasoningParserFactory.parsers:
        raise ImportError("no reasoning parsers: their choices cannot be checked")

    def parse(words: Sequence[str]) -> object:
        name, command, rest = serve.main.resolve_command(None, list(words))
        # "serve" itself is taken off where it stands, and implied where it does not.
        return command.make_context(name, rest[1:] if rest[:1] == ["serve"] else rest)

    return parse


PARSERS: dict[str, Callable[[], Parse]] = {
    "sglang": sglang,
    "vllm": vllm,
    "lmdeploy": lmdeploy,
    "tensorrt-llm": tensorrt_llm,
}
PACKAGES = {"tensorrt-llm": "tensorrt_llm"}


# --- stand-ins -------------------------------------------------------------------------------


class _Anything(type):
    """A class that can be inherited from, called, indexed and asked for any attribute."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _anything(name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not cls.__dict__.get("_stand_in"):
            return super().__call__(*args, **kwargs)
        # As a decorator it leaves what it decorates.
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else cls

    def __getitem__(cls, key: Any) -> Any:
        return _anything("item")

    def __iter__(cls) -> Iterator[Any]:
        return iter(())

    def __or__(cls, other: Any) -> Any:
        return _anything("either")

    __ror__ = __or__

    def __int__(cls) -> int:
        return 1  # the default of an option may be anything

    def __float__(cls) -> float:
        return 1.0


def _anything(name: str) -> _Anything:
    return _Anything(name, (), {"_stand_in": True})


class _Module(types.ModuleType):
    """A module that has everything."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__version__ = "999.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _anything(name)


class StandIns:
    """Found last, so only where there is no such module."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec:
        """As a finder does."""
        self.names.add(name.partition(".")[0])
        loader: Any = self
        return ModuleSpec(name, loader, is_package=True)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """As a loader does."""
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


class FromSource:
    """Finds the modules named, and none of the packages that they are in, below a checkout."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._files = {name: root.joinpath(*name.split(".")).with_suffix(".py") for name in names}
        for name in names:
            *packages, _ = name.split(".")
            for depth in range(1, len(packages) + 1):
                package = ".".join(packages[:depth])
                sys.modules.setdefault(package, _Module(package))

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As a finder does."""
        file = self._files.get(name)
        return importlib.util.spec_from_file_location(name, file) if file else None


# --- one run ---------------------------------------------------------------------------------


def _parser_of(engine: str) -> tuple[Parse, str]:
    """The parser, and how it was had."""
    package = PACKAGES.get(engine, engine).replace("-", "_")
    source = SOURCE in os.environ
    if not source:
        try:
            return PARSERS[engine](), "the package as it is installed"
        except (ImportError, OSError) as error:
            first = f"{type(error).__name__}: {error}"
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]
    stand_ins = StandIns()
    finder: Any = stand_ins
    sys.meta_path.append(finder)
    parse = PARSERS[engine]()
    missing = f"stand-ins for {len(stand_ins.names)} missing modules"
    if source:
        return parse, f"its source files, with {missing}"
    return parse, f"the package, with {missing} ({first})"


def _refusal(parse: Parse, words: Sequence[str]) -> str | None:
    """Why the parser refuses ``words``, ``None`` if it takes them."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parse(words)
    except SystemExit as left:
        lines = [line for line in said.getvalue().splitlines() if "error" in line.lower()]
        return None if left.code in (0, None) else (lines or [f"exit {left.code}"])[-1]
    except Exception as error:
        shown = error.format_message() if hasattr(error, "format_message") else str(error)
        return f"{type(error).__name__}: {shown}"
    return None


def _version(engine: str) -> str:
    told = os.environ.get("LLMPERF_CONTRACT_VERSION")
    if told:
        return told
    try:
        return importlib.metadata.version(engine)
    except importlib.metadata.PackageNotFoundError:
        # Builds for other devices are packages of other names.
        package = sys.modules.get(PACKAGES.get(engine, engine))
        return str(getattr(package, "__version__", "unknown"))


def main() -> None:
    """Answer into the file named second."""
    engine, answer = sys.argv[1:3]
    commands: list[list[str]] = json.load(sys.stdin)
    parse, how = _parser_of(engine)
    refusals = [_refusal(parse, words) for words in commands]
    if commands and _refusal(parse, [*commands[0], _NONSENSE]) is None:
        raise SystemExit(f"the parser of {engine} accepts {_NONSENSE}: it checks nothing")
    found = {"version": _version(engine), "how": how, "refusals": refusals}
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
