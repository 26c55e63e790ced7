"""A process and all that it has started."""

from __future__ import annotations


def process_ids(pid: int) -> list[int]:
    """Those of ``pid`` and of its descendants; none where it has ended or may not be looked at."""
    import psutil

    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.Error:
        return []
