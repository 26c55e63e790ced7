"""Inner pytest runs in this process forget every module they load, and numpy loads only once."""

from __future__ import annotations

import scipy.stats  # noqa: F401 - and with it all of numpy that the plugin uses
