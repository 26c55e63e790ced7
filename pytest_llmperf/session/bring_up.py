"""Bringing a server into a session: started or attached to, and known to be what was meant."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_llmperf import clock
from pytest_llmperf.accelerators import fingerprint
from pytest_llmperf.engines.base import Engine, extras_of
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import http
from pytest_llmperf.launch.process import ServerProcess
from pytest_llmperf.launch.subject import subject
from pytest_llmperf.records import (
    Accelerator,
    Json,
    LaunchPlan,
    LaunchRecord,
    Placement,
    ServerIdentity,
)
from pytest_llmperf.redact import redact_argv

from .over_ray import RayServing, end_process
from .refusals import told as told_in_words
from .server import CONTROL_TIMEOUT_S, LiveServer

#: Every engine's spelling of the flag that has it run code of the model's own.
_TRUSTING = re.compile(r"-*trust[-_]?remote[-_]?code(?:$|=(?!false|0))", re.IGNORECASE)
#: For what a server gathers only when it is asked, such as all that is installed around it.
MORE_TIMEOUT_S = 60.0


def launch(
    engine: Engine,
    plan: LaunchPlan,
    placement: Placement,
    *,
    server_id: str,
    log_path: Path,
    client_cores: tuple[int, ...] | None,
    held_fds: Sequence[int],
    on_progress: Callable[[str, float], None],
    remember: Callable[[LaunchRecord], None],
    with_subject: bool = False,
    cluster: RayServing | None = None,
) -> LiveServer:
    """Start ``plan``, wait until it is ready and is ours; ``remember`` gets its record either way,
    ``with_subject`` with what exactly runs. ``cluster`` is where its ranks run, if not here.

    Raises :class:`~pytest_llmperf.errors.ServerError` with nothing left running.
    """
    plan = cluster.adjusted(plan) if cluster else plan
    record = LaunchRecord(
        id=uuid.uuid4().hex[:12],
        server_id=server_id,
        launched=True,
        engine=engine.name,
        version=None,
        model=placement.served_name,
        url=f"http://{plan.host}:{plan.port}",
        argv=plan.argv,
        env=plan.env if plan.container is None else plan.container.env,
        args={},
        notes=(*plan.notes, *trusting(plan.argv)),
        cores=plan.cores,
        started_at=clock.stamp().isoformat(),
        startup_time_s=None,
        log=str(log_path),
        devices=tuple(device.uuid for device in placement.accelerator.devices),
        recipe=plan.recipe,
    )
    process: ServerProcess | None = None
    try:
        process = ServerProcess.start(
            plan,
            log_path=log_path,
            on_progress=cluster.starting(on_progress) if cluster else on_progress,
            held_fds=held_fds,
        )
        identity = identify(engine, process.url)
        _check_ours(engine, identity, placement, plan, log_path)
        ranks = cluster.ready(end_process(process.pid)) if cluster else None
    except BaseException as error:
        told = cluster.failed(error) if cluster else error
        if process is not None:
            process.stop()
        if cluster is not None:
            cluster.give_up(told)
        remember(replace(record, failure=_in_short(told)))
        if told is error:
            raise
        raise told from error
    record = replace(
        record,
        version=identity.version,
        args=identity.args,
        startup_time_s=process.startup_time_s,
        ranks=ranks,
        notes=(*record.notes, *(cluster.notes if cluster else ())),
    )
    if with_subject:
        facts = fingerprint.beneath(placement.accelerator)
        found = subject(process.pid or None, identity, plan, placement.python, platform=facts)
        record = replace(record, subject=found, notes=(*record.notes, *_unseen(plan, found)))
    remember(record)
    return LiveServer(
        engine=engine,
        identity=replace(identity, model=identity.model or placement.served_name),
        record=record,
        url=process.url,
        accelerator=(cluster and cluster.accelerator) or placement.accelerator,
        process=process,
        cluster=cluster,
        client_cores=client_cores,
    )


def trusting(argv: Iterable[str]) -> list[str]:
    """That code of the model's own may run, for the report; nothing where it may not."""
    asked = [word for word in argv if _TRUSTING.match(word)]
    return [f"code that comes with the model may run: {asked[0]} was given"] if asked else []


def _unseen(plan: LaunchPlan, found: Mapping[str, Json]) -> list[str]:
    """What a container did not let us see; its image's id stands for it."""
    if plan.container is None:
        return []
    hidden = [name for name in ("libraries", "packages") if found[name] is None]
    return [f"not seen in the container: {' and '.join(hidden)}"] if hidden else []


def _check_ours(
    engine: Engine,
    identity: ServerIdentity,
    placement: Placement,
    plan: LaunchPlan,
    log_path: Path,
) -> None:
    why = engine.mismatch(identity, placement)
    if why is None:
        return
    raise ServerError(
        f"another server answered on port {plan.port}: {why}",
        remedy="stop that server, or let pytest-llmperf choose the port",
        argv=redact_argv(plan.argv),
        log_path=log_path,
    )


def attach(
    engine: Engine,
    url: str,
    *,
    model: str | None,
    server_id: str,
    accelerator: Accelerator,
    headers: tuple[tuple[str, str], ...],
    remember: Callable[[LaunchRecord], None],
    with_subject: bool = False,
) -> LiveServer:
    """Use a server that somebody else runs. Raises ServerError when it does not answer."""
    identity = identify(engine, url, headers=headers)
    served = model or identity.model
    record = LaunchRecord(
        id=uuid.uuid4().hex[:12],
        server_id=server_id,
        launched=False,
        engine=engine.name,
        version=identity.version,
        model=served,
        url=url,
        argv=(),
        env=(),
        args=identity.args,
        notes=("attached: not started here, its hardware and its neighbours are unknown",),
        cores=None,
        started_at=clock.stamp().isoformat(),
        startup_time_s=None,
        log=None,
        subject=subject(None, identity, None, None, url=url) if with_subject else None,
    )
    remember(record)
    return LiveServer(
        engine=engine,
        identity=replace(identity, model=served),
        record=record,
        url=url,
        accelerator=accelerator,
        process=None,
        client_cores=None,
        headers=headers,
    )


def _in_short(error: BaseException) -> str:
    if isinstance(error, ServerError):
        return error.summary
    return told_in_words(error) if isinstance(error, OSError) else type(error).__name__


def identify(
    engine: Engine, url: str, *, headers: tuple[tuple[str, str], ...] = ()
) -> ServerIdentity:
    """Ask a server who it is, by the paths its engine names; ServerError without an answer."""
    answers = {
        path: http.get_json(url + path, timeout_s=CONTROL_TIMEOUT_S, headers=dict(headers))
        for path in engine.info_paths
    }
    for path in extras_of(engine).more_info_paths:
        if (answer := _told(url + path, dict(headers))) is not None:
            answers[path] = answer
    return engine.identify(answers)


def _told(url: str, headers: Mapping[str, str]) -> Json:
    """What ``url`` answers; ``None`` where it does not, as it need not."""
    try:
        return http.get_json(url, timeout_s=MORE_TIMEOUT_S, headers=headers)
    except ServerError:
        return None
