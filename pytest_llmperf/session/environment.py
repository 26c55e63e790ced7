"""Where and with what this session ran, for the report."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.accelerators import fingerprint
from pytest_llmperf.records import Accelerator, Scalar
from pytest_llmperf.report import document
from pytest_llmperf.report.environments import fingerprint_key
from pytest_llmperf.settings import Settings

from .cores import split_cores
from .memory import Facts, Here

#: Packages whose versions can explain a difference between two reports.
_PACKAGES = (
    "pytest", "pytest-llmperf", "sglang", "sgl-kernel", "flashinfer-python", "torch",
    "transformers", "vllm", "lmdeploy", "tensorrt-llm", "uvloop",
)  # fmt: skip
_GIT_TIMEOUT_S = 5.0
_LARGEST_SOURCE = 1 << 20
#: In ``git status --porcelain=v2`` (git 2.11 and later): tracked or untracked changes within.
_CHANGED_SUBMODULE = re.compile(r"^[12u] \S+ S.(?:M.|.U) ", re.MULTILINE)
#: Whatever a user has set up for reading differences.
_WHOLE_DIFF = ("--no-ext-diff", "--no-textconv", "--ignore-submodules=none")
#: Files that make a difference before git knows them; logs and reports do not.
_SOURCES = frozenset({".py", ".pyi", ".toml", ".ini", ".cfg", ".yaml", ".yml", ".sh", ".cu"})


def describe(config: pytest.Config, settings: Settings, accelerator: Accelerator) -> dict[str, Any]:
    """The report's ``environment``, JSON-plain; asks hooks to add to the fingerprint."""
    match = match_facts(config, settings, accelerator)
    return document.environment_entry(
        accelerators=[accelerator],
        key=fingerprint_key(match),
        match=match,
        # What people change on purpose: shown, never a reason to refuse a comparison.
        context={"driver": accelerator.devices[0].details.get("driver")},
        host=fingerprint.host(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages=package_versions(),
        **git_facts(config.rootpath, written_by_us(config)),
    )


def match_facts(
    config: pytest.Config, settings: Settings, accelerator: Accelerator
) -> dict[str, Scalar]:
    """The facts that must be equal for two runs to be compared, with what hooks add."""
    cores = split_cores(accelerator, processes=settings.client_processes, pin=settings.pin)
    facts = dict(fingerprint.environment(accelerator, pinned=cores.server))
    if settings.ray is not None:
        # Other machines ask, over a network. Absent otherwise, so that older keys hold.
        facts["load_over_ray"] = 1
    config.hook.pytest_llmperf_fingerprint(config=config, accelerator=accelerator, facts=facts)
    return facts


def _store_base(config: pytest.Config) -> Path:
    """Where the path of a store begins: an option's where it was typed, an ini value's at its
    file."""
    typed = config.getoption("llmperf_store") is not None
    return config.invocation_params.dir if typed else config.rootpath


def here(config: pytest.Config, settings: Settings) -> Here:
    """This place, for the memory of a session: asked once each."""

    def comparable(current: Facts, baseline: Facts) -> bool:
        return bool(
            config.hook.pytest_llmperf_comparable(
                config=config, current=dict(current), baseline=dict(baseline)
            )
        )

    return Here(
        directory=_store_base(config),
        root=config.rootpath,
        facts=partial(match_facts, config, settings),
        git=cache(partial(git_facts, config.rootpath, written_by_us(config))),
        comparable=comparable,
        seed=_common_seed(config),
    )


def _common_seed(config: pytest.Config) -> int | None:
    """What all workers of pytest-xdist draw from, so that one report has room for it: xdist gives
    them one id of the run (since its 2.0, as ``workerinput["testrunuid"]``)."""
    run = getattr(config, "workerinput", {}).get("testrunuid")
    if run is None:
        return None
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:4], "big")


def package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_facts(root: Path, written: Sequence[Path] = ()) -> dict[str, Any]:
    """Commit and cleanness of the checkout that holds the tests, ``None`` where there is none.

    ``dirty_digest`` tells one state of a changed checkout from another; what sessions themselves
    have ``written`` is no change.
    """
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "branch": None, "dirty": None, "dirty_digest": None}
    status = _git(root, "status", "--porcelain")
    return {
        "commit": commit,
        "branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": None if status is None else bool(status),
        "dirty_digest": (_dirty_digest(root, written) or None) if status else None,
    }


def git_identity(root: Path, written: Sequence[Path] = ()) -> dict[str, str | None]:
    """What tells one state of the checkout from another, for sessions that go on with one.

    ``unknown`` says what is not known of it, in words: a git that fails or is slow has not seen
    that nothing was changed.
    """
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        inside = any((place / ".git").exists() for place in (root, *root.parents))
        silent = "git does not say which commit is checked out" if inside else None
        return {"commit": None, "dirty_digest": None, "unknown": silent}
    digest = _dirty_digest(root, written)
    silent = "git does not say what is changed" if digest is None else None
    if digest is not None and _has_changed_submodules(root):
        silent = "a submodule has changes of its own"
    return {"commit": commit, "dirty_digest": digest or None, "unknown": silent}


def _has_changed_submodules(root: Path) -> bool:
    """Of these git tells only that there are any, and not which."""
    # A setting of the user or of the submodule may hide them otherwise.
    told = _git(root, "status", "--porcelain=v2", "--ignore-submodules=none")
    return told is None or bool(_CHANGED_SUBMODULE.search(told))


def _dirty_digest(root: Path, written: Sequence[Path]) -> str | None:
    """A digest of the differences from the commit and of the sources that git does not know: ""
    where there are none, ``None`` where git does not tell."""
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None:
        return None
    inside = [path for path in written if path.is_relative_to(top) and path != Path(top)]
    where = [":/", *(f":(exclude,literal){path}" for path in inside)]
    changes = _git(root, "diff", "HEAD", *_WHOLE_DIFF, "--", *where)
    names = _git(root, "ls-files", "--others", "--exclude-standard", "--full-name", "--", *where)
    if changes is None or names is None:
        return None
    sources = [name for name in names.splitlines() if Path(name).suffix in _SOURCES]
    if not changes and not sources:
        return ""
    told = [f"{name} {_told(Path(top, name))}" for name in sources]
    return hashlib.sha256("\n".join([changes, *told]).encode()).hexdigest()[:16]


def _told(path: Path) -> str:
    """What is in a file, or how large it is if larger than what people write."""
    try:
        size = path.stat().st_size
        small = size <= _LARGEST_SOURCE and path.is_file()
        return hashlib.sha256(path.read_bytes()).hexdigest() if small else str(size)
    except OSError:
        return ""


def written_by_us(config: pytest.Config) -> list[Path]:
    """Where sessions leave their store and what they write, which may lie in the checkout."""
    option = config.getoption
    store = str(option("llmperf_store") or config.getini("llmperf_store"))
    outputs = (option(f"llmperf_{name}") for name in ("report", "html", "markdown"))
    exports = (each.partition(":")[2] for each in option("llmperf_export"))
    names = [store.removeprefix("sqlite:///"), *(each or "" for each in outputs), *exports]
    directory = config.invocation_params.dir
    return [(directory / name).resolve() for name in names if name and "://" not in name]


def _git(root: Path, *args: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(
            [git, *args],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
