"""The ranks of one launch, as far as its server does not look after them itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from pytest_llmperf.accelerators.conditions import Watcher
from pytest_llmperf.metrics.energy import Window
from pytest_llmperf.records import Accelerator, Device, LaunchPlan, RankPlace

from .watching import here

Progress = Callable[[str, float], None]


class Ranks(Protocol):
    """What a launch asks of them, in the order of its life."""

    @property
    def places(self) -> tuple[RankPlace, ...] | None:
        """Where they are, once the server is ready; ``None`` where they are all here."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not known of them, in words."""

    @property
    def accelerator(self) -> Accelerator | None:
        """The devices that serve, where others than those planned may."""

    @property
    def pids(self) -> Sequence[int]:
        """Of those on this machine that the server's own processes are not the parents of."""

    def adjusted(self, plan: LaunchPlan, /) -> LaunchPlan:
        """``plan``, told where they are to run."""

    def starting(self, tell: Progress, /) -> Progress:
        """``tell``, which then raises ServerError where one is lost."""

    def ready(self, kill: Callable[[], None], /) -> None:
        """The server answers. From here on ``kill`` is called where one is lost."""

    def failed(self, error: BaseException, /) -> BaseException:
        """``error``, or a better one where they tell more."""

    def check(self) -> None:
        """Raise ServerError for what was lost of them."""

    def settle(self) -> None:
        """Wait a while where one cannot be reached."""

    def silences(self, window: Window | None, /) -> list[str]:
        """Which could not be reached for a while in ``window``, in words."""

    def watching(self, accelerator: Accelerator, /) -> AbstractContextManager[Watcher | None]:
        """What tells the condition of their devices, if anything does."""

    def sharing(self, device: Device, own: Sequence[int], /) -> Sequence[int]:
        """Which processes of the server may use ``device``; ``own`` are those of this machine."""

    def let_go(self) -> None:
        """The server is about to be stopped: they end, and that is no loss."""

    def finish(self) -> None:
        """Return when nothing of them is left. May be called again. Raises ServerError for what
        could not be ended."""

    def give_up(self, error: BaseException, /) -> None:
        """:meth:`finish` after an ``error``, which also tells what could not be ended."""


class RanksHere:
    """Those that the server's own process, or we, have started: it ends with them, and we see
    their devices ourselves."""

    places: tuple[RankPlace, ...] | None = None
    notes: tuple[str, ...] = ()
    accelerator: Accelerator | None = None
    pids: Sequence[int] = ()

    def adjusted(self, plan: LaunchPlan) -> LaunchPlan:
        return plan

    def starting(self, tell: Progress) -> Progress:
        return tell

    def ready(self, _: Callable[[], None]) -> None:
        """Nothing is to be looked after."""

    def failed(self, error: BaseException) -> BaseException:
        return error

    def check(self) -> None:
        """The server's process tells."""

    def settle(self) -> None:
        """They are always within reach."""

    def silences(self, _: Window | None) -> list[str]:
        return []

    def watching(self, accelerator: Accelerator) -> AbstractContextManager[Watcher | None]:
        return here(accelerator)

    def sharing(self, _: Device, own: Sequence[int]) -> Sequence[int]:
        return own

    def let_go(self) -> None:
        """Nobody takes their end for a loss."""

    def finish(self) -> None:
        """The server's end was theirs."""

    def give_up(self, _: BaseException) -> None:
        """As :meth:`finish`."""
