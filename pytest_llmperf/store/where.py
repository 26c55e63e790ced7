"""From the words in an option or an ini file to a store."""

from __future__ import annotations

from pathlib import Path

from .base import Store, StoreError


def open_store(where: str, directory: Path) -> Store:
    """The store at ``where``: a directory ("perf/"), "sqlite:///perf.db" or "postgresql://...".

    Relative paths, SQLite's too, begin at ``directory``. A directory or a file need not exist
    yet: it is made when something is first written. A server is asked at once whether it answers.
    Raises :class:`StoreError`, with the command to install what is missing where that is all.
    """
    if not where.strip() or "\0" in where:
        raise StoreError(
            "No store is named: give a directory such as perf/, or sqlite:///perf.db, or "
            "postgresql://user@host/database."
        )
    from .kept import Kept

    if "://" in where:
        from .sql import Tables

        return Kept(Tables(where, directory))
    from .files import Files

    try:
        return Kept(Files(directory / Path(where).expanduser()))
    except RuntimeError as error:
        raise StoreError(
            f"A store cannot be {where!r}: nobody knows the home directory that '~' stands for; "
            "write the whole path."
        ) from error
