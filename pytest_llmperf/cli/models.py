"""``pytest-llmperf models``: the tiny models, on disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from .words import Commands, command


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "models",
        "make the tiny R1-shaped models and print their directories",
        example="pytest-llmperf models build/models",
    )
    parser.set_defaults(run=run)
    parser.add_argument("directory", type=Path, help="where to make them")


def run(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.models import TINY_MODELS, materialize

    for name in TINY_MODELS:
        print(materialize(name, arguments.directory))
    return 0
