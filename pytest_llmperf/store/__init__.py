"""What is kept from session to session: observations, accepted levels, noise profiles."""

from __future__ import annotations

from .base import Store, StoreError
from .keys import key_of, near, without_environment
from .where import open_store

__all__ = ["Store", "StoreError", "key_of", "near", "open_store", "without_environment"]
