"""The cluster whose nodes ask, where one was named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.settings import Settings

if TYPE_CHECKING:
    from pytest_llmperf.cluster.crew import RayLoad


def ray_load(settings: Settings) -> RayLoad | None:
    """It is joined when workers are first needed."""
    if settings.ray is None:
        return None
    from pytest_llmperf.cluster.crew import RayLoad

    return RayLoad(settings.ray.address, settings.ray.workers)
