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
from pytest_llmperf.launch.addresses import is_loopback
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

from .clients import FindCrew
from .ranks import Ranks
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
    crew: FindCrew,
    held_fds: Sequence[int],
    on_progress: Callable[[str, float], None],
    remember: Callable[[LaunchRecord], None],
    with_subject: bool = False,
    ranks: Ranks,
) -> LiveServer:
    """Start ``plan``, wait until it is ready and is ours; ``remember`` gets its record either way,
    ``with_subject`` with what exactly runs. ``ranks`` looks after those that are not here.

    Raises :class:`~pytest_llmperf.errors.ServerError` with nothing left running.
    """
    plan = ranks.adjusted(plan)
    record = _record(engine, plan, placement, server_id=server_id, log_path=log_path)
    process: ServerProcess | None = None
    try:
        process = ServerProcess.start(
            plan,
            log_path=log_path,
            on_progress=ranks.starting(on_progress),
            held_fds=held_fds,
        )
        identity = identify(engine, process.url)
        _check_ours(engine, identity, placement, plan, log_path)
        ranks.ready(process.kill)
        accelerator = ranks.accelerator or placement.accelerator
        record = _of_ready(record, identity, process, ranks, accelerator)
        if with_subject:
            facts = fingerprint.beneath(accelerator)
            found = subject(process.pid or None, identity, plan, placement.python, platform=facts)
            record = replace(record, subject=found, notes=(*record.notes, *_unseen(plan, found)))
        remember(record)
        return LiveServer(
            engine=engine,
            identity=replace(identity, model=identity.model or placement.served_name),
            record=record,
            url=process.url,
            accelerator=accelerator,
            process=process,
            ranks=ranks,
            crew=crew,
        )
    except BaseException as error:
        told = ranks.failed(error)
        ranks.let_go()
        if process is not None:
            process.stop()
        ranks.give_up(told)
        remember(replace(record, failure=_in_short(told)))
        if told is error:
            raise
        raise told from error


def _record(
    engine: Engine, plan: LaunchPlan, placement: Placement, *, server_id: str, log_path: Path
) -> LaunchRecord:
    """What is known of a launch before it."""
    return LaunchRecord(
        id=uuid.uuid4().hex[:12],
        server_id=server_id,
        launched=True,
        engine=engine.name,
        version=None,
        model=placement.served_name,
        url=plan.url,
        argv=plan.argv,
        env=plan.env if plan.container is None else plan.container.env,
        args={},
        notes=(*plan.notes, *trusting(plan.argv), *exposed(plan.host)),
        cores=plan.cores,
        started_at=clock.stamp().isoformat(),
        startup_time_s=None,
        log=str(log_path),
        devices=tuple(device.uuid for device in placement.accelerator.devices),
        recipe=plan.recipe,
    )


def _of_ready(
    record: LaunchRecord,
    identity: ServerIdentity,
    process: ServerProcess,
    ranks: Ranks,
    accelerator: Accelerator,
) -> LaunchRecord:
    return replace(
        record,
        version=identity.version,
        args=identity.args,
        startup_time_s=process.startup_time_s,
        ranks=ranks.places,
        devices=tuple(device.uuid for device in accelerator.devices),
        notes=(*record.notes, *ranks.notes),
    )


def trusting(argv: Iterable[str]) -> list[str]:
    """That code of the model's own may run, for the report; nothing where it may not."""
    asked = [word for word in argv if _TRUSTING.match(word)]
    return [f"code that comes with the model may run: {asked[0]} was given"] if asked else []


def exposed(host: str) -> list[str]:
    """That other machines may reach the server, for the report; nothing where they cannot."""
    if is_loopback(host):
        return []
    return [f"listens on {host}, where whoever reaches it can use and control it without a key"]


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
    crew: FindCrew,
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
        crew=crew,
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
