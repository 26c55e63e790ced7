"""Options and ini values, read once into a frozen :class:`Settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.launch.addresses import LOOPBACK
from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.metrics.prices import Prices, read_prices
from pytest_llmperf.metrics.questions import read_questions
from pytest_llmperf.options import MODES
from pytest_llmperf.records import Question
from pytest_llmperf.report.exports import split
from pytest_llmperf.report.html import can_write_pages
from pytest_llmperf.report.requests import KIND as REQUESTS
from pytest_llmperf.report.requests import check_path, parts_directory

from .judging_options import (
    FAMILY_ALPHA,
    Scope,
    Shard,
    anchor,
    calibration,
    family,
    family_alpha,
    pairs_of_launches,
    required_scopes,
    shard,
)
from .load_options import RayOptions, pinning, processes, ray_options
from .option_checks import check_file, check_options, expanded
from .option_values import SHARES, TIMES, at_least_one, bound, budget, count, timeout
from .server_options import (
    ReferenceOptions,
    bind,
    hosts,
    node_command,
    pairs_of_words,
    reference_options,
    urls,
)

Mode = Literal["off", "smoke", "on"]
QualityMode = Literal["off", "advise", "fail"]
#: How many questions each side is asked unless an option says otherwise.
_QUESTIONS = 64
#: Exports that write several files into a directory.
_INTO_DIRECTORIES = ("otava", "llmd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line and the ini file say.

    ``urls`` maps a model name to the endpoint that serves it; the key "" stands for the only
    server of the suite. ``models`` maps a model named in a marker to the one to load instead.
    ``family_alpha`` is the false-alarm rate of all gates together, of those of this session where
    it is one ``shard`` of several; ``family`` is their number, 0 for the number of gates collected,
    of a shard those that are to run. ``launch_cv`` is the spread between launches that is assumed
    where too few were made to see it. ``pairs`` is the most of a comparison with a reference.
    ``store`` says where results are remembered, "" nowhere. ``require`` are the parts of the suite
    whose gates must all have run. ``calibrate`` measures noise and judges nothing. ``limits_from``
    is the git ref whose limits count; ``anchor`` is the release that comparisons go on with night
    by night; ``declarations`` is where another process of ours wants to read what is declared.
    ``hosts`` are the nodes that servers are spread over, this one first, and ``node_command``
    reaches the others. ``ray`` is the cluster whose nodes ask, instead of this machine; ``bind`` is
    the address of this machine that servers listen on.
    ``health`` says when a run is not the server's; ``prices`` is what accelerators cost.
    ``quality`` says what becomes of servers that do not say the same, ``questions`` is what each of
    them is to answer. ``exports`` are kinds and paths of other formats, ``markdown`` is where the
    comment goes, ``html`` where the page does, ``github`` says that a workflow is to be told.
    ``resume`` goes on with an interrupted session. ``profile_on_fail`` says that a profile is made
    of what failed.
    """

    mode: Mode
    report: Path | None
    launches: int
    runs: int
    strict: bool
    progress: bool
    accelerator: str | None
    python: str | None
    container: str | None = None
    hosts: tuple[str, ...] = ()
    node_command: tuple[str, ...] = ()
    server_timeout_s: float | None
    client_processes: int | None
    ray: RayOptions | None = None
    bind: str = LOOPBACK
    pin: bool = True
    urls: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    log_dir: Path | None
    cache_dir: Path
    lock_dir: Path | None
    family: int
    reference: ReferenceOptions
    pairs: int
    budget_s: float | None = None
    compare_with_itself: bool = False
    side_by_side: bool = False
    plan_only: bool = False
    store: str = ""
    require: tuple[Scope, ...] = ()
    update_baseline: bool = False
    calibrate: bool = False
    anchor: str | None = None
    limits_from: str | None = None
    declarations: Path | None = None
    family_alpha: float = FAMILY_ALPHA
    shard: Shard | None = None
    launch_cv: float = 0.03
    health: HealthBounds = field(default_factory=HealthBounds)
    prices: Prices | None = None
    quality: QualityMode = "advise"
    questions: tuple[Question, ...] = ()
    exports: tuple[tuple[str, Path], ...] = ()
    markdown: Path | None = None
    html: Path | None = None
    github: bool = False
    profile_on_fail: bool = False
    resume: bool = False

    @property
    def profiles_dir(self) -> Path | None:
        """Where traces of profilers go: beside the report, or the page; ``None`` without either."""
        beside = self.report or self.html
        return beside and beside.with_name(f"{beside.stem}-profiles")

    @property
    def told_in_files(self) -> bool:
        """Whether somebody waits for a file, even where no perf test ran."""
        return any((self.report, self.markdown, self.html, self.exports))

    @property
    def requests(self) -> tuple[Path, ...]:
        """Where every single request is written to."""
        return tuple(path for kind, path in self.exports if kind == REQUESTS)

    @property
    def requests_dir(self) -> Path | None:
        """Where they lie until then; ``None`` where nobody asks for them."""
        return parts_directory(self.requests[0]) if self.requests else None

    @property
    def checkouts_dir(self) -> Path:
        """Where other commits are checked out; hidden, so that pytest does not find tests there."""
        return self.cache_dir / ".checkouts"

    @classmethod
    def from_config(cls, config: pytest.Config) -> Settings:
        """Raises :class:`~pytest_llmperf.errors.UsageMistake` naming option, value and remedy."""
        check_options(config)
        option = config.getoption
        calibrating = calibration(config)
        one_of = shard(option("llmperf_shard"))
        return cls(
            mode=_mode(option("llmperf") or config.getini("llmperf")),
            report=_path(config, option("llmperf_report")),
            launches=calibrating or count(config, "llmperf_launches"),
            calibrate=calibrating is not None,
            runs=count(config, "llmperf_runs"),
            strict=bool(option("llmperf_strict")),
            progress=not option("llmperf_no_progress"),
            accelerator=option("llmperf_accelerator"),
            python=option("llmperf_python"),
            container=option("llmperf_container"),
            hosts=hosts(config),
            node_command=node_command(config),
            server_timeout_s=timeout(option("llmperf_server_timeout")),
            client_processes=processes(option("llmperf_client_processes")),
            ray=ray_options(config),
            bind=bind(config),
            pin=pinning(option("llmperf_pin") or config.getini("llmperf_pin")),
            urls=urls(option("llmperf_url")),
            models=pairs_of_words(option("llmperf_model"), "--llmperf-model", key_optional=False),
            log_dir=_path(config, option("llmperf_log_dir")),
            cache_dir=_cache_dir(config),
            lock_dir=_path(config, option("llmperf_lock_dir")),
            family=family(config),
            reference=reference_options(config),
            pairs=pairs_of_launches(config),
            budget_s=budget(option("llmperf_budget")),
            compare_with_itself=bool(option("llmperf_aa")),
            side_by_side=bool(option("llmperf_side_by_side")),
            plan_only=bool(option("llmperf_plan")),
            store=str(option("llmperf_store") or config.getini("llmperf_store")),
            limits_from=option("llmperf_limits_from"),
            declarations=_path(config, option("llmperf_declarations")),
            require=required_scopes(config),
            update_baseline=bool(option("llmperf_update_baseline")),
            anchor=anchor(config),
            family_alpha=family_alpha(config, one_of),
            shard=one_of,
            health=_health(config),
            prices=_prices(config),
            quality=option("llmperf_quality") or "advise",
            questions=_questions(config),
            exports=_exports(config),
            markdown=_path(config, option("llmperf_markdown")),
            html=_page(config, option("llmperf_html")),
            github=bool(option("llmperf_github")),
            profile_on_fail=bool(option("llmperf_profile_on_fail")),
            resume=bool(option("llmperf_resume")),
        )


def _mode(text: str) -> Mode:
    if text not in MODES:
        raise UsageMistake(f"ini value llmperf = {text!r}: expected one of off, smoke, on.")
    return cast("Mode", text)


def _questions(config: pytest.Config) -> tuple[Question, ...]:
    path = _path(config, config.getoption("llmperf_gsm8k"))
    given: int | None = config.getoption("llmperf_gsm8k_questions")
    said = f"--llmperf-gsm8k-questions={given}"
    number = _QUESTIONS if given is None else at_least_one(str(given), said)
    if path is None:
        if given is not None:
            raise UsageMistake(f"{said}: name the file of questions with --llmperf-gsm8k FILE.")
        return ()
    if config.getoption("llmperf_quality") == "off":
        raise UsageMistake(
            "--llmperf-gsm8k asks for what --llmperf-quality=off leaves out; drop one of them."
        )
    return read_questions(path, number)


def _health(config: pytest.Config) -> HealthBounds:
    return HealthBounds(
        cpu_share=bound(config, "llmperf_client_cpu", SHARES, "90%"),
        loop_lag_ms_p99=bound(config, "llmperf_client_lag", TIMES, "25 ms"),
        send_delay_ms_p99=bound(config, "llmperf_client_send_delay", TIMES, "5 ms"),
        delivered_share=bound(config, "llmperf_client_delivered", SHARES, "99%"),
        in_flight_share=bound(config, "llmperf_client_in_flight", SHARES, "90%"),
        clock_share=bound(config, "llmperf_client_clock", SHARES, "0.1%"),
        silence_s=_seconds(bound(config, "llmperf_client_silence", TIMES, "2 s")),
        drift=bound(config, "llmperf_max_drift", SHARES, "20%"),
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3


def _prices(config: pytest.Config) -> Prices | None:
    """As the command line names it, from where pytest was started; as the ini file, from there."""
    if given := config.getoption("llmperf_prices"):
        return read_prices(config.invocation_params.dir / given, f"--llmperf-prices={given}")
    if given := str(config.getini("llmperf_prices")):
        said = f"ini value llmperf_prices = {given}"
        return read_prices(config.rootpath / expanded(given, said), said)
    return None


def _exports(config: pytest.Config) -> tuple[tuple[str, Path], ...]:
    given = [split(text, "--llmperf-export") for text in config.getoption("llmperf_export")]
    for kind, text in given:
        if kind == REQUESTS:
            check_path(text, f"--llmperf-export={kind}:{text}")
    places = [text for _, text in given]
    files = [
        config.getoption(name) for name in ("llmperf_report", "llmperf_markdown", "llmperf_html")
    ]
    for place in places:
        if [*places, *files].count(place) > 1:
            raise UsageMistake(
                f"--llmperf-export: two things are to be written to {place}; name another path."
            )
    for kind, text in given:
        if kind not in _INTO_DIRECTORIES:
            check_file(config.invocation_params.dir / text, f"--llmperf-export={kind}:{text}")
    return tuple((kind, config.invocation_params.dir / text) for kind, text in given)


def _page(config: pytest.Config, text: str | None) -> Path | None:
    """Told before anything is measured, what it takes is missing."""
    if text:
        can_write_pages()
    return _path(config, text)


def _path(config: pytest.Config, text: str | None) -> Path | None:
    return config.invocation_params.dir / text if text else None


def _cache_dir(config: pytest.Config) -> Path:
    if text := config.getini("llmperf_cache_dir"):
        return config.rootpath / expanded(text, f"ini value llmperf_cache_dir = {text}")
    base = os.environ.get("XDG_CACHE_HOME")
    home = Path(base) if base else expanded("~", "ini value llmperf_cache_dir") / ".cache"
    return home / "pytest-llmperf"
