"""What is kept from session to session: observations, accepted levels, noise profiles."""

from __future__ import annotations

from .base import Store, StoreError
from .documents import moment, new_id
from .keys import key_of, near, without_environment
from .levels import MOST_SESSIONS, acceptable, resting_on, since
from .parts import part_id
from .sequences import open_sessions
from .where import open_store

__all__ = [
    "MOST_SESSIONS",
    "Store",
    "StoreError",
    "acceptable",
    "key_of",
    "moment",
    "near",
    "new_id",
    "open_sessions",
    "open_store",
    "part_id",
    "resting_on",
    "since",
    "without_environment",
]
