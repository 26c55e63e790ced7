"""Which Python code a server runs: its engine's, and the packages that its interpreter finds."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.records import Json

from .mapped import OTHERS

_ASK_S = 20.0
_GIT_S = 10.0
_FILES_AT_MOST = 20_000
_DIGITS = 16
_HEAD_BYTES = 4096

_PYTHON = re.compile(r"^(?:python|pypy)[\d.]*$")
_SHEBANG = re.compile(rb"^#!\s*(\S*python\S*)")
_IMPORT = re.compile(r"^(?:from|import) +(\w+)", re.MULTILINE)

#: What runs, is compiled when it first runs, or chooses what runs; bytecode and native libraries
#: follow from it or are seen elsewhere.
_SOURCES = (
    *(".py", ".pyx", ".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".jinja", ".jinja2"),
    *(".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".hip", ".inl", ".cl", ".s"),
    *(".co", ".ptx", ".cubin"),
)

#: Packages whose version is told by name; of all others together there is one digest.
_TELLING = re.compile(
    r"^(?:torch|pytorch|triton|flash|sgl|vllm|transformers|tokenizers|safetensors|numpy|nvidia-"
    r"|cuda|cutlass|xformers|xgrammar|outlines|llguidance|deep-|deepep|aiter|amd|rocm|ascend"
    r"|tilelang|apache-tvm|compressed-tensors|mooncake|nixl|ray$|uvloop|uvicorn|fastapi|msgspec"
    r"|orjson|pyzmq|gguf|llama|mlx|openvino|onnx|tensorrt|kernels|cupy|numba|quack)"
)

#: Run by the server's interpreter: where it looks for modules, and where it finds one of them.
_ASK = """
import importlib.util, json, sys
found = importlib.util.find_spec(sys.argv[1]) if sys.argv[1] else None
places = [] if found is None else list(found.submodule_search_locations or [found.origin])
print(json.dumps({"version": sys.version.split()[0], "path": sys.path, "places": places}))
"""

_START_UP = ("sitecustomize.py", "usercustomize.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A server's command line as far as it is Python: the interpreter with its own options, the
    name of the package that it runs, ``""`` where that cannot be told, and the file that it was
    given to run, if any."""

    interpreter: tuple[str, ...]
    package: str
    script: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an interpreter said: its version, where it looks for modules and finds the package."""

    version: str
    path: tuple[Path, ...]
    places: tuple[Path, ...]


def program(argv: Sequence[str], python: str | None = None) -> Program | None:
    """The Python program that a command line starts, ``None`` for a native one; ``python`` is an
    interpreter that may go by any name."""
    for at, word in enumerate(argv):
        if word == python or _PYTHON.match(Path(word).name):
            return _started(argv[at], argv[at + 1 :])
    return _script(shutil.which(argv[0])) if argv else None


def _started(interpreter: str, words: Sequence[str]) -> Program:
    options: list[str] = []
    for at, word in enumerate(words):
        if word == "-m":
            package = words[at + 1].partition(".")[0] if at + 1 < len(words) else ""
            return Program(interpreter=(interpreter, *options), package=package)
        if not word.startswith("-") and (not options or options[-1] not in ("-X", "-W")):
            package = _imported(_head(word))
            return Program(interpreter=(interpreter, *options), package=package, script=word)
        options.append(word)
    return Program(interpreter=(interpreter,), package="")


def _script(path: str | None) -> Program | None:
    """A command whose first line names a Python, as installers make them."""
    text = _head(path) if path else b""
    shebang = _SHEBANG.match(text)
    if shebang is None:
        return None
    return Program(interpreter=(shebang[1].decode(),), package=_imported(text))


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _imported(text: bytes) -> str:
    """The first package that a script imports and Python does not bring."""
    names = _IMPORT.findall(text.decode(errors="replace"))
    return next((name for name in names if name not in sys.stdlib_module_names), "")


#: Answers by question; the paths of an interpreter do not change while a session lasts.
_answers: dict[tuple[object, ...], Found] = {}


def ask(asked: Program, env: Mapping[str, str]) -> Found | None:
    """Start the interpreter once to hear where it looks; ``None`` when it does not tell."""
    python = tuple((name, value) for name, value in env.items() if name.startswith("PYTHON"))
    try:
        question = (asked, python, Path.cwd())
    except FileNotFoundError:
        return None  # the working directory has been removed
    if question not in _answers:
        answer = _asked(asked, env)
        if answer is None:
            return None
        _answers[question] = answer
    return _answers[question]


def _asked(asked: Program, env: Mapping[str, str]) -> Found | None:
    out = _output([*asked.interpreter, "-c", _ASK, asked.package], _ASK_S, env=env)
    try:
        told = json.loads(out.splitlines()[-1]) if out else None
    except ValueError:
        return None
    match told:
        case {"version": str(version), "path": [*path], "places": [*places]}:
            return Found(
                version=version,
                path=tuple(Path(entry).absolute() for entry in path),
                places=tuple(Path(place) for place in places if place),
            )
    return None


# --- packages --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Installed:
    name: str
    version: str
    metadata: Path


def packages(found: Found, engine: str) -> dict[str, Json]:
    """Versions of the packages that may matter, by name, and a digest of all others."""
    return told({one.name: one.version for one in reversed(list(_installed(found.path)))}, engine)


def told(every: Mapping[str, str], engine: str) -> dict[str, Json]:
    """Of all packages' versions those that may matter, by name, and a digest of the others."""
    shown = {name: every[name] for name in sorted(every) if name == engine or _TELLING.match(name)}
    rest = sorted(f"{name} {version}" for name, version in every.items() if name not in shown)
    return {**shown, OTHERS: hashlib.sha256("\n".join(rest).encode()).hexdigest()[:_DIGITS]}


def _installed(path: Sequence[Path]) -> Iterator[_Installed]:
    """The first on the path is the one that is used."""
    for directory in dict.fromkeys(path):
        try:
            names = sorted(entry.name for entry in os.scandir(directory))
        except OSError:
            continue  # a zip file, or a place that does not exist: Python passes over it too
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                package, _, version = name.rpartition(".")[0].partition("-")
                yield _Installed(
                    name=re.sub(r"[-_.]+", "-", package).lower(),
                    version=version,
                    metadata=directory / name,
                )


# --- code ------------------------------------------------------------------------------------


def code(found: Found, asked: Program, pythonpath: str) -> dict[str, Json]:
    """What is run from source, by name: digest of its files, their number, commit, uncommitted
    changes. The engine's package, other telling packages that are installed in place, what the
    environment puts on the path, and what Python runs at its start."""
    places: dict[str, tuple[Path, ...]] = {}
    if asked.script:
        places[Path(asked.script).name] = (Path(asked.script).absolute(),)
    if asked.package or not asked.script:
        places[asked.package or "(program)"] = found.places
    places |= _in_place(found.path, asked.package)
    for entry in filter(None, pythonpath.split(os.pathsep)):
        directory = Path(entry).absolute()
        places[directory.name] = (*places.get(directory.name, ()), directory)
    for directory in found.path:
        for name in _START_UP:
            if (directory / name).is_file():
                places.setdefault(name, (directory / name,))
    return {name: _code_of(roots) for name, roots in places.items()}


def _in_place(path: Sequence[Path], package: str) -> dict[str, tuple[Path, ...]]:
    """Where packages lie that were installed as a checkout that can be edited."""
    found = {}
    for one in _installed(path):
        module = one.name.replace("-", "_")
        if _TELLING.match(one.name) and module != package and (root := _checkout(one.metadata)):
            inside = (root / module, root / "python" / module, root / "src" / module)
            found[module] = tuple(place for place in inside if place.is_dir()) or (root,)
    return found


def _checkout(metadata: Path) -> Path | None:
    try:
        origin = json.loads((metadata / "direct_url.json").read_text())
    except (OSError, ValueError):
        return None  # installed from an index, or not a directory at all
    match origin:
        case {"url": str(url), "dir_info": {"editable": True}}:
            return Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
    return None


def code_in(directories: Sequence[Path]) -> dict[str, Json]:
    """The same of nothing but ``directories``, by their names."""
    return {path.name: _code_of((path,)) for path in directories}


#: The state of every file, its change times included, and the digest that came of it.
_digests: dict[tuple[Path, ...], tuple[str, str]] = {}


def _code_of(roots: tuple[Path, ...]) -> Json:
    try:
        files = [row for root in roots for row in _sources(root)]
    except OSError:
        files = []
    known = bool(files) and len(files) < _FILES_AT_MOST
    commit, dirty = _commit(roots[0], files[0][1]) if known else (None, None)
    return {
        "digest": _digest(roots, files) if known else None,
        "files": len(files) if known else None,
        "commit": commit,
        "dirty": dirty,
    }


def _sources(root: Path) -> list[tuple[str, Path]]:
    """Source files and their names below ``root``, in order; at most a fixed number."""
    if root.is_file():
        return [(root.name, root)]
    found: list[tuple[str, Path]] = []
    todo = [root]
    while todo and len(found) < _FILES_AT_MOST:
        for entry in os.scandir(todo.pop()):
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__" and not entry.name.startswith("."):
                    todo.append(Path(entry.path))
            elif entry.name.endswith(_SOURCES):
                path = Path(entry.path)
                found.append((path.relative_to(root).as_posix(), path))
    return sorted(found)


def _digest(roots: tuple[Path, ...], files: Sequence[tuple[str, Path]]) -> str | None:
    try:
        stats = [(name, path.stat()) for name, path in files]
        state = "\n".join(
            f"{name} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}" for name, stat in stats
        )
        before, digest = _digests.get(roots, ("", ""))
        if state != before:
            digest = _content(files)
            _digests[roots] = (state, digest)
    except OSError:
        return None
    return digest


def _content(files: Sequence[tuple[str, Path]]) -> str:
    whole = hashlib.sha256()
    for name, path in files:
        data = path.read_bytes()
        whole.update(os.fsencode(f"{name}\0{len(data)}\0"))
        whole.update(data)
    return whole.hexdigest()[:_DIGITS]


# --- git -------------------------------------------------------------------------------------


def _commit(root: Path, file: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that ``file`` below ``root`` belongs to, and whether what lies in
    ``root`` has changes."""
    root, file = root.resolve(), file.resolve()
    directory = root if root.is_dir() else root.parent
    if not any((parent / ".git").exists() for parent in (directory, *directory.parents)):
        return None, None
    # A virtual environment may lie in a checkout of something else, which does not know it.
    if _git(directory, "ls-files", "--error-unmatch", "--", str(file)) is None:
        return None, None
    commit = _git(directory, "rev-parse", "HEAD")
    status = _git(directory, "status", "--porcelain", "--", str(root))
    return commit, None if status is None else bool(status)


def _git(directory: Path, *words: str) -> str | None:
    # In a hook, git's own variables name another checkout.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(directory), *words]
    return _output(command, _GIT_S, env={**env, "GIT_OPTIONAL_LOCKS": "0"})


def _output(command: Sequence[str], seconds: float, *, env: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
