"""What the server of a block is started with: its devices, its ranks, its model; and which devices
it was given in the end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pytest_llmperf.accelerators import fingerprint
from pytest_llmperf.engines.base import Engine, extras_of
from pytest_llmperf.engines.nodes import check_nodes
from pytest_llmperf.models import is_tiny, materialize
from pytest_llmperf.records import Accelerator, LaunchPlan, ServerRequest

from .devices import Allotment, for_container
from .nodes import Nodes, over_nodes
from .ranks import Ranks, RanksHere
from .refusals import for_server


def told_of_devices(
    request: ServerRequest, allotment: Allotment | None, given: Accelerator
) -> list[dict[str, str]]:
    """The variables by which each rank on this machine learns of its share of the devices
    ``given``; none where it is to take what it finds."""
    if allotment is None:
        return [{}]
    environ = {**os.environ, **dict(request.env)}
    contained = request.image is not None
    return [
        allotment.variables(share, environ, contained=contained)
        for share in allotment.shares(given)
    ]


def request_here(
    request: ServerRequest, allotment: Allotment | None, given: Accelerator
) -> ServerRequest:
    """The request, its first rank told which devices it has been given."""
    here = for_container(request, given.vendor)
    if allotment is None:
        return here
    own: Mapping[str, str] = {
        **dict(here.env),
        **told_of_devices(request, allotment, given)[0],
    }
    return replace(here, env=tuple(sorted(own.items())))


def over_its_nodes(
    plan: LaunchPlan,
    request: ServerRequest,
    nodes: Nodes,
    allotment: Allotment | None,
    given: Accelerator,
) -> tuple[LaunchPlan, int]:
    """The plan with all ranks, where we start more than one, and the port at which these meet, to
    be released by the caller; 0 where there is none."""
    if request.nodes is None or request.ray is not None:
        return plan, 0
    flags = check_nodes(request.engine, request.nodes, request.args, None)
    told = told_of_devices(request, allotment, given)
    return over_nodes(plan, flags, request.nodes, nodes, told)


def join(request: ServerRequest, plan: LaunchPlan, given: Accelerator, label: str) -> Ranks:
    """Its ranks: in the cluster that they are to run in, known there by ``label``, or here. Raises
    ClusterError."""
    if request.ray is None:
        return RanksHere()
    from .over_ray import RayServing  # Ray's ways are heavy, and seldom gone

    return RayServing.join(request, plan, given, label)


@for_server("a tiny model could not be made", "the ini value llmperf_cache_dir")
def model_path(model: str, engine: Engine, cache_dir: Path) -> str:
    """The name of the model, or where the tiny one of that name lies, which is made if need be."""
    if is_tiny(model):
        return str(materialize(model, cache_dir / "models", extras_of(engine).weights))
    return model


def as_found(planned: Accelerator, found: Accelerator | None) -> Accelerator:
    """The devices that the server has been given. It is remembered by the facts that were planned:
    where those of others differ, they are not told."""
    if found is None or fingerprint.environment(found) != fingerprint.environment(planned):
        return planned
    return found
