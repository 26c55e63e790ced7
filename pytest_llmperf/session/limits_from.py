"""Limits and gates as another commit declares them: a change cannot lower its own bar unseen."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.launch.checkout import commit_of, top_of, worktree
from pytest_llmperf.metrics.units import format_number, format_value, row_of, spoken
from pytest_llmperf.records import Limit, RegressionGate

_TIMEOUT_S = 300.0
_TAIL = 2000

Gates = dict[tuple[str, str, str | None], Limit | RegressionGate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What one test declares."""

    limits: tuple[Limit, ...]
    regressions: tuple[RegressionGate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What a commit declares, by test; ``root`` is where its suite is checked out."""

    ref: str
    commit: str
    root: Path
    tests: Mapping[str, Declared]

    @property
    def name(self) -> str:
        return f"{self.ref} ({self.commit[:8]})"


# --- asking another commit -------------------------------------------------------------------


def write_declared(path: Path, expectations: Sequence[Expectation]) -> None:
    """What :func:`declared_at` reads, from the process that it has started."""
    tests = {
        each.nodeid: {
            "limits": [asdict(limit) for limit in each.limits],
            "regressions": [asdict(gate) for gate in each.regressions],
        }
        for each in expectations
        if each.gates
    }
    path.write_text(json.dumps(tests), encoding="utf-8")


def declared_at(config: pytest.Config, ref: str, directory: Path) -> Elsewhere:
    """Collect the same tests in a checkout of ``ref`` below ``directory``, starting nothing.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` where that cannot be done.
    """
    top = top_of(config.rootpath)
    commit = commit_of(top, ref)
    place = worktree(top, commit, directory)
    root = place / config.rootpath.resolve().relative_to(top)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "declared.json")
        here = place / config.invocation_params.dir.resolve().relative_to(top)
        done = subprocess.run(
            _command(config, out, root),
            cwd=here if here.is_dir() else place,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        # 4: a path that is asked for is not there yet; 5: no tests there.
        if done.returncode not in (0, 4, 5) or (done.returncode == 0 and not out.exists()):
            said = (done.stdout + done.stderr)[-_TAIL:]
            raise UsageMistake(
                f"--llmperf-limits-from={ref}: the tests of {commit[:8]} could not be collected; "
                f"pytest ended with {done.returncode} in {here}:\n{said}"
            )
        tests = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    return Elsewhere(
        ref=ref,
        commit=commit,
        root=root,
        tests={test: _declared(entry) for test, entry in tests.items()},
    )


def _command(config: pytest.Config, out: Path, at: Path) -> list[str]:
    workers = ["-n0"] if config.pluginmanager.hasplugin("xdist") else []
    paths = [str(argument) for argument in config.args]
    root = str(config.invocation_params.dir)
    inside = [path.removeprefix(root).lstrip("/") or "." for path in paths]
    quiet = ["--collect-only", "-q", "-p", "no:cacheprovider", *workers]
    ours = [f"--rootdir={at}", f"--llmperf-declarations={out}"]
    return [sys.executable, "-m", "pytest", *quiet, *ours, *inside]


def _declared(entry: Mapping[str, Any]) -> Declared:
    return Declared(
        limits=tuple(Limit(**limit) for limit in entry["limits"]),
        regressions=tuple(
            RegressionGate(**{**gate, "subject": tuple(gate.get("subject", ()))})
            for gate in entry["regressions"]
        ),
    )


# --- taking its word -------------------------------------------------------------------------


def taken_over(expectation: Expectation, elsewhere: Elsewhere) -> Expectation:
    """``expectation`` with the limits and gates of the other commit, where that knows the test.

    A gate that is only declared here is judged, too.
    """
    theirs = elsewhere.tests.get(expectation.nodeid)
    if theirs is None:
        return expectation
    mine, held = _gates(expectation), _gates(theirs)
    gates = {**mine, **held}
    suffix = f" at {elsewhere.name}"
    named = {key: replace(gate, source=gate.source + suffix * (key in held))
             for key, gate in gates.items()}  # fmt: skip
    return replace(
        expectation,
        limits=tuple(gate for gate in named.values() if isinstance(gate, Limit)),
        regressions=tuple(gate for gate in named.values() if isinstance(gate, RegressionGate)),
    )


def told(expectations: Sequence[Expectation], elsewhere: Elsewhere) -> Iterator[str]:
    """What this checkout declares otherwise than the commit whose word counts."""
    for each in expectations:
        theirs = elsewhere.tests.get(each.nodeid)
        if theirs is None:
            continue
        mine, held = _gates(each), _gates(theirs)
        for key, gate in held.items():
            if key not in mine:
                yield f"{each.nodeid}: {_words(gate)}, no longer declared here"
            elif _demand(mine[key]) != _demand(gate):
                yield f"{each.nodeid}: {_words(gate)}, here {_demand(mine[key])}"
        for key in mine.keys() - held.keys():
            yield f"{each.nodeid}: {_words(mine[key])} is declared here only"


def gone(expectations: Sequence[Expectation], elsewhere: Elsewhere) -> list[str]:
    """Tests with gates that the other commit has and this one does not."""
    here = {each.nodeid for each in expectations}
    return sorted(elsewhere.tests.keys() - here)


def _gates(declared: Expectation | Declared) -> Gates:
    """By kind, metric and accelerator; of two for the same the closest marker holds, the first."""
    found: Gates = {}
    for limit in declared.limits:
        found.setdefault((limit.kind, limit.metric, limit.on), limit)
    for gate in declared.regressions:
        found.setdefault(("regression", gate.metric, None), gate)
    return found


def _words(gate: Limit | RegressionGate) -> str:
    kind = gate.kind if isinstance(gate, Limit) else "no regression"
    on = f" on {gate.on}" if isinstance(gate, Limit) and gate.on else ""
    return f"{kind} of {spoken(gate.metric)}{on} {_demand(gate)}"


def _demand(gate: Limit | RegressionGate) -> str:
    if isinstance(gate, Limit):
        return format_value(gate.limit, row_of(gate.metric).unit)
    allowed = f", allowing {_percent(gate.allow)}" if gate.allow else ""
    held = f", with {', '.join(gate.subject)} held fixed" if gate.subject else ""
    return f"{_percent(gate.loss_to_catch)}{allowed}{held}"


def _percent(fraction: float) -> str:
    return f"{format_number(fraction * 100, digits=3)} %"
