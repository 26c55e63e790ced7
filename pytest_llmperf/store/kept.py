"""A store over any shelf: the same rules whether files or a database hold the documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pytest_llmperf.records import Level, NoiseProfile, Observation

from .base import Cabinet, Found, Kind, Record, Shelf, StoreError
from .documents import id_of, kind_of, moment, record_of, slip_of
from .parts import beginning, put_together

_R = TypeVar("_R", Observation, Level, NoiseProfile)
_KINDS: dict[type[Record], Kind] = {
    Observation: "observation",
    Level: "level",
    NoiseProfile: "profile",
}


class Kept:
    """A :class:`~.base.Store` in ``cabinet``."""

    def __init__(self, cabinet: Cabinet) -> None:
        self._cabinet = cabinet

    def append(self, observation: Observation) -> None:
        with self._cabinet.open("write") as shelf:
            _put(shelf, observation)
            if observation.part_of is None:
                shelf.remove(_parts_of(shelf, observation))

    def observations(self, key: str | None = None) -> list[Observation]:
        with self._cabinet.open() as shelf:
            return put_together(_all(shelf, Observation, key))

    def accept(self, level: Level) -> None:
        with self._cabinet.open("alone") as shelf:
            _check_observations(shelf, level)
            _keep_newest(shelf, level, _all(shelf, Level, level.key))

    def levels(self, key: str | None = None) -> list[Level]:
        with self._cabinet.open() as shelf:
            return _all(shelf, Level, key)

    def save_profile(self, profile: NoiseProfile) -> None:
        with self._cabinet.open("alone") as shelf:
            _keep_newest(shelf, profile, _all(shelf, NoiseProfile, profile.key))

    def profile(self, key: str) -> NoiseProfile | None:
        with self._cabinet.open() as shelf:
            kept = _all(shelf, NoiseProfile, key)
        return kept[-1] if kept else None

    def keys(self) -> list[str]:
        with self._cabinet.open() as shelf:
            return sorted(shelf.keys())

    def prune(self, keep: Callable[[Observation], bool]) -> int:
        with self._cabinet.open("alone") as shelf:
            held = {id_ for level in _all(shelf, Level, None) for id_ in level.observations}
            kept = _found(shelf, Observation, None)
            whole = put_together(one for one, _ in kept)
            gone = {one.id for one in whole if one.id not in held and not keep(one)}
            shelf.remove([found for one, found in kept if (one.part_of or one.id) in gone])
        return len(gone)

    def close(self) -> None:
        self._cabinet.close()


# --- writing ---------------------------------------------------------------------------------


def _put(shelf: Shelf, record: Record) -> None:
    slip = slip_of(record)
    taken = shelf.put(slip)
    if taken is not None and _read(taken) != record_of(slip.text, taken.where):
        raise StoreError(
            f"The id {slip.id!r} is taken by another {slip.kind}, in {taken.where}: what is kept "
            "is never changed, so give the new one an id of its own."
        )


def _parts_of(shelf: Shelf, whole: Observation) -> list[Found]:
    found = shelf.beginning(beginning(whole.id), whole.key)
    return [each for each in found if _is_part(_read(each), whole.id)]


def _is_part(record: Record, whole: str) -> bool:
    return isinstance(record, Observation) and record.part_of == whole


def _check_observations(shelf: Shelf, level: Level) -> None:
    kept = {one.id for one in put_together(_all(shelf, Observation, level.key))}
    if missing := [id_ for id_ in level.observations if id_ not in kept]:
        raise StoreError(
            f"The level rests on observations that are not kept under {level.key!r}: "
            f"{', '.join(missing)}. Append them first."
        )


def _keep_newest(shelf: Shelf, record: _R, kept: list[_R]) -> None:
    """Put ``record``, unless one that is kept would go on holding in its place."""
    if kept and moment(kept[-1].created) >= moment(record.created) and record not in kept:
        raise StoreError(
            f"This {kind_of(record)} is dated {record.created}, and the one that holds for "
            f"{record.key!r} not earlier: {kept[-1].created}. A clock is wrong, here or there; "
            "set it, and try again."
        )
    _put(shelf, record)


# --- reading ---------------------------------------------------------------------------------


def _all(shelf: Shelf, type_: type[_R], key: str | None) -> list[_R]:
    return [record for record, _ in _found(shelf, type_, key)]


def _found(shelf: Shelf, type_: type[_R], key: str | None) -> list[tuple[_R, Found]]:
    """Everything of a type, the oldest first; of two made at once the order is by id."""
    places: dict[str, str] = {}
    records: list[tuple[_R, Found]] = []
    for found in shelf.read(_KINDS[type_], key):
        record = _read(found)
        if not isinstance(record, type_) or shelf.under(record.key) != found.under:
            raise StoreError(
                f"{found.where} holds the {kind_of(record)} of {record.key!r}, which belongs "
                "elsewhere: move it back."
            )
        _check_once(places, id_of(record), found.where)
        records.append((record, found))
    return sorted(records, key=lambda pair: (moment(pair[0].created), id_of(pair[0])))


def _read(found: Found) -> Record:
    return record_of(found.text, found.where)


def _check_once(places: dict[str, str], id_: str, where: str) -> None:
    """A copied file would count twice."""
    if id_ in places:
        raise StoreError(f"{where} and {places[id_]} have the same id, {id_!r}: delete one.")
    places[id_] = where
