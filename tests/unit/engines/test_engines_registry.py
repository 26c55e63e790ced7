from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_llmperf.engines import BUILT_IN, Engine, resolve
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import UsageMistake


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_built_in_engine_keeps_the_protocol(name: str) -> None:
    engine = resolve(name)
    assert isinstance(engine, Engine)
    assert engine.name == name


def test_an_engine_of_another_plugin_goes_first() -> None:
    mine = Sim()
    assert resolve("mine", {"mine": mine}) is mine
    assert resolve("sglang", {"sglang": mine}) is mine


def test_a_slip_of_the_pen_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UsageMistake) as told:
        resolve("slang", {"mine": Sim()})
    known = ", ".join(sorted({*BUILT_IN, "mine"}))
    assert str(told.value) == (
        f"There is no engine 'slang'. Did you mean 'sglang'? The engines are: {known}."
    )


def test_a_name_like_none_gets_no_guess() -> None:
    with pytest.raises(UsageMistake, match=r"^There is no engine 'zzzz'\. The engines are: "):
        resolve("zzzz")


def test_engines_are_imported_when_asked_for() -> None:
    code = (
        "import sys, pytest_llmperf.engines;"
        "sys.exit('pytest_llmperf.engines.sglang' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
