"""A store in a database, for teams: SQLite on one machine, PostgreSQL for many.

Three tables, ``observations``, ``levels`` and ``profiles``, of the same documents that the files
hold; they are made when something is first written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf import clock
from pytest_llmperf.redact import redact_text

from .base import Found, Kind, Mode, Slip, StoreError

if TYPE_CHECKING:
    from sqlalchemy import URL, ColumnElement, Connection, Engine, MetaData, Table
    from sqlalchemy.sql.dml import ReturningInsert

_TABLES: dict[Kind, str] = {
    "observation": "observations",
    "level": "levels",
    "profile": "profiles",
}
_BUSY_S = 60
_RETRY_S = 0.01
_CONNECT_S = 10
# Anybody who wants to be alone asks PostgreSQL for this number.
_LOCK = 0x6C6C6D70


class Tables:
    """Documents in the tables of the database at ``url``; SQLite's file is below ``directory``."""

    def __init__(self, url: str, directory: Path) -> None:
        self._engine, self._metadata = _engine(url, directory)
        self._place = _place(self._engine.url)
        self._made = False
        if self._file is None:
            with self.open():
                pass  # a server that does not answer is better known before anything is measured

    @contextmanager
    def open(self, mode: Mode = "read") -> Iterator[Rows]:
        with _told(self._place):
            if self._file is not None:
                if mode == "read" and not self._file.exists():
                    yield Rows(None, self._metadata, self._place)
                    return
                self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._transaction(mode) as connection:
                yield Rows(self._ready(connection, mode), self._metadata, self._place)

    def close(self) -> None:
        self._engine.dispose()

    @property
    def _file(self) -> Path | None:
        url = self._engine.url
        return Path(url.database or "") if url.get_backend_name() == "sqlite" else None

    @contextmanager
    def _transaction(self, mode: Mode) -> Iterator[Connection]:
        begin = "BEGIN" if mode == "read" else "BEGIN IMMEDIATE"
        options = self._engine.execution_options(begin=begin)
        with options.begin() as connection:
            if mode == "alone":
                _lock(connection)
            yield connection

    def _ready(self, connection: Connection, mode: Mode) -> Connection | None:
        """The connection, with the tables made; ``None`` where there is nothing to read yet."""
        if self._made or self._has_tables(connection):
            self._made = True
            return connection
        if mode == "read":
            return None
        _lock(connection)  # two who make them at once would fail
        self._metadata.create_all(connection)
        return connection

    def _has_tables(self, connection: Connection) -> bool:
        import sqlalchemy

        names = sqlalchemy.inspect(connection).get_table_names()
        return set(self._metadata.tables) <= set(names)


class Rows:
    """The tables within one transaction; without a connection there is nothing in them."""

    def __init__(self, connection: Connection | None, metadata: MetaData, place: str) -> None:
        self._connection = connection
        self._tables = {kind: metadata.tables[name] for kind, name in _TABLES.items()}
        self._place = place

    def put(self, slip: Slip) -> Found | None:
        if self._connection is None:
            raise RuntimeError("a shelf that was opened for reading is written to")
        row = {
            "id": slip.id,
            "key": slip.key,
            "created": slip.created,
            "document": slip.text,
        }
        table = self._tables[slip.kind]
        # Not by its count of rows, which does not mean the same with every driver.
        if self._connection.execute(_insert(self._connection, table), row).first() is not None:
            return None
        return next(self._select(slip.kind, table.c.id == slip.id))

    def read(self, kind: Kind, key: str | None) -> Iterator[Found]:
        table = self._tables[kind]
        return self._select(kind, *([] if key is None else [table.c.key == key]))

    def beginning(self, start: str, key: str) -> list[Found]:
        table = self._tables["observation"]
        begins = table.c.id.startswith(start, autoescape=True)
        return list(self._select("observation", table.c.key == key, begins))

    def under(self, key: str) -> str:
        return key

    def keys(self) -> set[str]:
        import sqlalchemy

        if self._connection is None:
            return set()
        every = [sqlalchemy.select(table.c.key) for table in self._tables.values()]
        return set(self._connection.execute(sqlalchemy.union(*every)).scalars())

    def remove(self, found: Iterable[Found]) -> None:
        import sqlalchemy

        gone = [{"gone": one.at} for one in found]
        if self._connection is None or not gone:
            return
        table = self._tables["observation"]
        by_id = table.c.id == sqlalchemy.bindparam("gone")
        self._connection.execute(sqlalchemy.delete(table).where(by_id), gone)

    def _select(self, kind: Kind, *conditions: ColumnElement[bool]) -> Iterator[Found]:
        import sqlalchemy

        if self._connection is None:
            return
        table = self._tables[kind]
        query = sqlalchemy.select(table.c.id, table.c.key, table.c.document).where(*conditions)
        for id_, key, text in self._connection.execute(query):
            where = f"The {kind} {id_!r} in {self._place}"
            yield Found(where=where, at=id_, under=key, text=_text(text))


# --- the database ----------------------------------------------------------------------------


def _engine(where: str, directory: Path) -> tuple[Engine, MetaData]:
    try:
        import sqlalchemy

        url = _checked(sqlalchemy.make_url(where), directory)
        engine = sqlalchemy.create_engine(
            url,
            poolclass=sqlalchemy.NullPool,  # a session lasts hours, a server's patience less
            connect_args=_arguments(url),
            # The text of a document goes in and comes out as it is.
            json_serializer=str,
            json_deserializer=_text,
        )
    except ImportError as error:
        raise StoreError(
            f"The store in {_shown(where)} needs packages that are not here ({error}): "
            "install them with pip install 'pytest-llmperf[sql]'."
        ) from error
    except sqlalchemy.exc.ArgumentError as error:
        raise StoreError(_unknown(where)) from error
    if url.get_backend_name() == "sqlite":
        _prepare_sqlite(engine)
    return engine, _metadata()


def _checked(url: URL, directory: Path) -> URL:
    """``url`` with a driver and a whole path."""
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "postgresql":
        return url
    if url.drivername != "sqlite":
        raise StoreError(_unknown(url.render_as_string(hide_password=False)))
    if not url.database or url.database.startswith((":", "file:")) or url.query:
        raise StoreError("SQLite needs a file to keep things in, such as sqlite:///perf.db.")
    return url.set(database=str(directory / url.database))


def _unknown(where: str) -> str:
    return (
        f"A store cannot be {_shown(where)!r}: give a directory such as perf/, or "
        "sqlite:///perf.db, or postgresql://user@host/database."
    )


def _shown(where: str) -> str:
    """An address without what may be a password in it."""
    return redact_text(where.partition("?")[0])


def _arguments(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"timeout": _BUSY_S}
    return {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_S}


def _prepare_sqlite(engine: Engine) -> None:
    """Transactions begin when we say so, and readers do not wait for a writer."""
    from sqlalchemy import event

    def connected(raw: Any, _: object) -> None:
        raw.isolation_level = None
        _write_ahead(raw)

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options()["begin"])

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _write_ahead(raw: Any) -> None:
    """Turn the file's write-ahead log on; while another makes the file, SQLite does not wait."""
    import sqlite3

    deadline = clock.Deadline(_BUSY_S)
    while True:
        try:
            raw.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or deadline.passed:
                raise
            clock.sleep(_RETRY_S)
        else:
            return


def _metadata() -> MetaData:
    import sqlalchemy as sql

    metadata = sql.MetaData()
    for name in _TABLES.values():
        sql.Table(
            name,
            metadata,
            sql.Column("id", sql.String, primary_key=True),
            sql.Column("key", sql.String, nullable=False, index=True),
            sql.Column("created", sql.String, nullable=False),
            sql.Column("document", sql.JSON, nullable=False),
        )
    return metadata


def _insert(connection: Connection, table: Table) -> ReturningInsert[tuple[str]]:
    """An insertion that leaves a row with the same id alone, and then returns no row."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table).on_conflict_do_nothing().returning(table.c.id)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table).on_conflict_do_nothing().returning(table.c.id)


def _lock(connection: Connection) -> None:
    """Keep others out until the transaction ends; SQLite's lets one writer in anyway."""
    import sqlalchemy

    if connection.dialect.name != "sqlite":
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_LOCK)))


def _text(document: Any) -> str:
    return document.decode() if isinstance(document, bytes) else str(document)


def _place(url: URL) -> str:
    """Where a database is, without names and passwords."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or str(url.query.get("host", ""))
    return f"postgresql://{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"


@contextmanager
def _told(place: str) -> Iterator[None]:
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, OSError, UnicodeError) as error:
        reason = error.orig if isinstance(error, DBAPIError) and error.orig else error
        said = redact_text(" ".join(str(reason).split()))
        raise StoreError(
            f"The store in {place} cannot be used: {said}. See that it answers and that it may be "
            "written to, or name another place for it."
        ) from error
