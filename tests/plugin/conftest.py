"""Inner pytest runs in this process forget every module they load, and numpy loads only once."""

from __future__ import annotations

import pytest
import scipy.stats  # noqa: F401 - and with it all of numpy that the plugin uses


@pytest.fixture(autouse=True)
def _any_machine(busy_machine: None) -> None: ...
