"""Documented flags for a model on an accelerator: what a row of the tables says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_llmperf.records import Accelerator

from .arguments import Flag


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to start a server with. ``tp`` is over how many devices each tensor is spread, and is in
    ``flags`` too where the engine has one for it. ``source`` says where it is documented, in which
    version or on which date."""

    name: str
    flags: tuple[Flag, ...]
    env: tuple[tuple[str, str], ...] = ()
    source: str = ""
    tp: int = 1

    def __str__(self) -> str:
        return f"{self.name} ({self.source})" if self.source else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One documented choice.

    ``vendor`` and ``product``, a regular expression, say for which devices, ``models`` for which
    kinds of models (all by default). ``devices`` are the fewest and the most that it is for, over
    all nodes. With ``spread`` it says itself how tensors are spread, and else the number of devices
    and of heads do.
    """

    name: str
    vendor: str
    source: str
    product: str = ""
    models: tuple[str, ...] = ()
    devices: tuple[int, int] = (1, 1024)
    flags: tuple[Flag, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    spread: int | None = None

    def fits(self, kind: str, accelerator: Accelerator, devices: int) -> bool:
        """Whether it is for this kind of model on so many of these devices."""
        return (
            self.vendor == accelerator.vendor
            and (not self.models or kind in self.models)
            and self.devices[0] <= devices <= self.devices[1]
            and re.search(self.product, accelerator.product, re.IGNORECASE) is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookbook:
    """The rows of an engine, in the order in which they are tried. ``tp`` is its flag for spreading
    tensors; ``displaced`` are, by our flags, those of a user that take their place besides the
    flags themselves."""

    rows: tuple[Row, ...]
    tp: str | None
    displaced: Mapping[str, frozenset[str]]
