"""After the window: kept bytes become a row and its chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.load.planned import Turn
from pytest_llmperf.records import Chunks

from .digest import Digest
from .reading import RequestRow

if TYPE_CHECKING:
    from pytest_llmperf.load.send.wire import Exchange


def decode(exchange: Exchange, turn: Turn) -> tuple[RequestRow, Chunks]:
    """What one exchange amounts to: its tokens, why it failed if it did, and its chunks."""
    digest = Digest(turn)
    digest.take(exchange.reads, exchange.stamps)
    return digest.finish(exchange)
