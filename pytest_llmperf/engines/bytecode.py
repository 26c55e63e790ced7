"""Where the compiled modules of a Python server go."""

from __future__ import annotations

from collections.abc import Mapping


def kept_bytecode(environ: Mapping[str, str]) -> dict[str, str]:
    """Where Python may not keep compiled modules beside their sources, let the server keep them
    in the user's cache: without them each of its processes compiles for half a minute."""
    home = environ.get("HOME", "")
    cache = environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else "")
    if not environ.get("PYTHONDONTWRITEBYTECODE") or not cache:
        return {}
    return {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": f"{cache}/pytest-llmperf/bytecode",
    }
