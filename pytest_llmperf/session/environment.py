"""Where and with what this session ran, for the report."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.accelerators import fingerprint
from pytest_llmperf.records import Accelerator, Scalar
from pytest_llmperf.report import document

from .memory import Facts, Here

#: Packages whose versions can explain a difference between two reports.
_PACKAGES = ("pytest", "pytest-llmperf", "sglang", "torch", "transformers", "vllm", "uvloop")
_GIT_TIMEOUT_S = 5.0


def describe(config: pytest.Config, accelerator: Accelerator) -> dict[str, Any]:
    """The report's ``environment``, JSON-plain; asks hooks to add to the fingerprint."""
    match = match_facts(config, accelerator)
    return document.environment_entry(
        accelerators=[accelerator],
        key=_key(match),
        match=match,
        # What people change on purpose: shown, never a reason to refuse a comparison.
        context={"driver": accelerator.devices[0].details.get("driver")},
        host=fingerprint.host(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages=package_versions(),
        **git_facts(config.rootpath),
    )


def match_facts(config: pytest.Config, accelerator: Accelerator) -> dict[str, Scalar]:
    """The facts that must be equal for two runs to be compared, with what hooks add."""
    facts = dict(fingerprint.environment(accelerator))
    config.hook.pytest_llmperf_fingerprint(config=config, accelerator=accelerator, facts=facts)
    return facts


def here(config: pytest.Config) -> Here:
    """This place, for the memory of a session: asked once each."""

    def comparable(current: Facts, baseline: Facts) -> bool:
        return bool(
            config.hook.pytest_llmperf_comparable(
                config=config, current=dict(current), baseline=dict(baseline)
            )
        )

    return Here(
        directory=config.invocation_params.dir,
        root=config.rootpath,
        facts=partial(match_facts, config),
        git=cache(partial(git_facts, config.rootpath)),
        comparable=comparable,
    )


def _key(match: Mapping[str, Scalar]) -> str:
    """A short name for an environment: equal facts have equal keys."""
    text = json.dumps(dict(match), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_facts(root: Path) -> dict[str, Any]:
    """Commit and cleanness of the checkout that holds the tests, ``None`` where there is none."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "branch": None, "dirty": None}
    status = _git(root, "status", "--porcelain")
    return {
        "commit": commit,
        "branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": None if status is None else bool(status),
    }


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
