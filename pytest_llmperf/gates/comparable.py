"""May two measurements be compared, and in what do the things that were measured differ?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_llmperf.records import Json

#: Part of every key. Raised whenever a number comes to mean something else than it did before, so
#: that levels which rest on the old meaning are not compared with the new one.
GATE_VERSION = 1

#: The name under which a subject sums up what it does not list by name.
OTHERS = "(others)"

#: What people call facts that a subject has under another name.
_ALSO = {
    "engine_version": "version",
    "model_revision": "revision",
    "quantisation": "quantization",
}

_TOLD = 6
_LIBRARIES_NAMED = 2
_COMMIT = 8
_ARROW = "->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field that differs. ``name`` is dotted; ``None`` is absent or unknown."""

    name: str
    old: Json
    new: Json

    @property
    def group(self) -> str:
        """The part of ``name`` before its first dot."""
        return self.name.partition(".")[0]

    @property
    def rest(self) -> str:
        """The part of ``name`` after its first dot, all of it where there is none."""
        return self.name.partition(".")[2] or self.name

    @property
    def both_known(self) -> bool:
        return self.old is not None and self.new is not None

    @property
    def unknown(self) -> bool:
        """Known on neither side, and told because it was to be held fixed."""
        return self.old is None and self.new is None


def differences(
    current: Mapping[str, Json], stored: Mapping[str, Json], held: Sequence[str] | None = None
) -> tuple[Difference, ...]:
    """The fields in which ``current`` differs from ``stored``, in the order of their names.

    What is absent equals what is ``None``. With ``held`` only those fields count that a test wants
    held fixed: a dotted name, the beginning or the end of one ("code", "args.dtype", "dtype",
    "--dtype", "torch"). A held field that neither side knows is not known to be equal, and is one
    of the differences.
    """
    new, old = _flat(current), _flat(stored)
    names = sorted(new.keys() | old.keys())
    if held is None:
        return _differing(names, new, old)
    wanted = {word: [name for name in names if _means(word, name)] for word in held}
    unknown = [word for word, found in wanted.items() if _all_unknown(found, new, old)]
    known = sorted({name for found in wanted.values() for name in found})
    blanks = tuple(Difference(name=word, old=None, new=None) for word in unknown)
    return (*_differing(known, new, old), *blanks)


def _differing(
    names: Iterable[str], new: Mapping[str, Json], old: Mapping[str, Json]
) -> tuple[Difference, ...]:
    pairs = ((name, old.get(name), new.get(name)) for name in names)
    return tuple(
        Difference(name=name, old=before, new=after)
        for name, before, after in pairs
        if not _equal(before, after)
    )


def _flat(values: Mapping[str, Json], before: str = "") -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def _equal(one: Json, other: Json) -> bool:
    # True == 1 in Python; to a server they may be two things.
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _means(word: str, name: str) -> bool:
    plain = word.lstrip("-").replace("-", "_")
    word, plain = _ALSO.get(plain, word), _ALSO.get(plain, plain)
    return any(
        name == wanted or name.startswith(f"{wanted}.") or name.endswith(f".{wanted}")
        for wanted in (word, plain, word.lower().replace("_", "-"))
    )


def _all_unknown(names: Iterable[str], new: Mapping[str, Json], old: Mapping[str, Json]) -> bool:
    return all(new.get(name) is None and old.get(name) is None for name in names)


# --- in words --------------------------------------------------------------------------------


def told(found: Iterable[Difference], most: int = _TOLD) -> tuple[str, ...]:
    """What differs, in words, the most telling first; beyond ``most`` a last "and 7 more".

    ``code``, ``libraries``, ``packages``, ``args`` and ``env``, as a subject has them, are told in
    words of their own, other fields by their names.
    """
    every = [text for _, text in sorted(_ranked(tuple(found)), key=lambda pair: pair[0])]
    if len(every) <= most:
        return tuple(every)
    return (*every[:most], f"and {len(every) - most} more")


_ORDER = (
    *("unknown", "engine", "version", "model", "revision", "url", "code", "args", "env"),
    *("platform", "packages", "python", "", "args of one side", "libraries", OTHERS),
)
_RANKS = {name: rank for rank, name in enumerate(_ORDER)}

#: A sentence, and the name of its rank.
Told = tuple[str, str]


def _ranked(found: Sequence[Difference]) -> list[tuple[int, str]]:
    """Sentences with their ranks, in the order of names."""
    groups: dict[str, list[Difference]] = {}
    for one in found:
        groups.setdefault("unknown" if one.unknown else one.group, []).append(one)
    versions = {(one.old, one.new) for one in groups.get("version", [])}
    said: list[Told] = []
    for group, members in groups.items():
        match group:
            case "code":
                said += _code(members)
            case "libraries":
                said += _libraries(members)
            case "packages":
                said += _packages(members, versions)
            case "version" if _twin(groups.get("packages", []), versions):
                continue  # the engine's package tells it, with its name
            case _:
                said += [_field(group, one) for one in members]
    return [(_RANKS.get(rank, _RANKS[""]), text) for text, rank in said]


def _field(group: str, one: Difference) -> Told:
    match group:
        case "unknown":
            return f"{one.name} is not known on either side", group
        case "args":
            # A newer engine brings dozens of arguments that nobody has set.
            return _flag(one), group if one.both_known else "args of one side"
        case "env":
            return _variable(one), group
        case _:
            return f"{one.rest.replace('_', ' ')} {_change(one)}", group


def _twin(packages: Sequence[Difference], versions: set[tuple[Json, Json]]) -> Difference | None:
    """The package whose version changed exactly as the engine's did."""
    return next((one for one in packages if (one.old, one.new) in versions), None)


def _packages(found: Sequence[Difference], versions: set[tuple[Json, Json]]) -> list[Told]:
    if _one_sided(found):
        return [("installed packages are known on one side only", "packages")]
    twin = _twin(found, versions)
    return [
        ("other packages changed", OTHERS)
        if one.rest == OTHERS
        else (_package(one), "version" if one is twin else "packages")
        for one in found
    ]


def _package(one: Difference) -> str:
    if one.old is None:
        return f"{one.rest} {_value(one.new)} installed"
    if one.new is None:
        return f"{one.rest} {_value(one.old)} no longer installed"
    return f"{one.rest} {_change(one)}"


def _code(found: Sequence[Difference]) -> list[Told]:
    facts: dict[str, dict[str, Difference]] = {}
    for one in found:
        root, _, fact = one.rest.rpartition(".")
        facts.setdefault(root, {})[fact] = one
    return [
        (_code_of(root, by_fact), "code" if "digest" in by_fact else OTHERS)
        for root, by_fact in facts.items()
    ]


def _code_of(root: str, facts: Mapping[str, Difference]) -> str:
    digest, commit, dirty = (facts.get(name) for name in ("digest", "commit", "dirty"))
    why = [] if commit is None else [f"commit {_short(commit.old)} {_ARROW} {_short(commit.new)}"]
    why += ["with uncommitted changes"] if dirty and dirty.new else []
    about = f" ({', '.join(why)})" if why else ""
    if digest is None:
        return f"checkout of {root} moved, its code is the same{about}"
    if not digest.both_known:
        return f"code of {root} is known on one side only{about}"
    return f"code of {root} changed{about}"


def _libraries(found: Sequence[Difference]) -> list[Told]:
    if _one_sided(found):
        return [("loaded libraries are known on one side only", "libraries")]
    fates: dict[str, list[str]] = {}
    for one in found:
        if one.rest != OTHERS:
            fates.setdefault(_fate(one), []).append(one.rest)
    said = [(f"{_some(names)} {fate}", "libraries") for fate, names in sorted(fates.items())]
    small = [("small libraries changed", OTHERS)] if any(o.rest == OTHERS for o in found) else []
    return [*reversed(said), *small]


def _fate(one: Difference) -> str:
    if one.both_known:
        return "rebuilt"
    return "newly loaded" if one.old is None else "no longer loaded"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _LIBRARIES_NAMED
    if more > 0:
        return f"{', '.join(names[:_LIBRARIES_NAMED])} and {more} more libraries"
    return " and ".join(names)


def _one_sided(found: Sequence[Difference]) -> bool:
    """Whether one side knows nothing at all of a group: where it does, it has a sum of the rest."""
    return any(one.rest == OTHERS and not one.both_known for one in found)


def _flag(one: Difference) -> str:
    flag = one.rest if one.rest.startswith("-") else f"--{one.rest.replace('_', '-')}"
    if one.old is None:
        return f"{flag} {_value(one.new)} (was not set)"
    if one.new is None:
        return f"{flag} no longer set (was {_value(one.old)})"
    return f"{flag} {_change(one)}"


def _variable(one: Difference) -> str:
    if one.old is None:
        return f"{one.rest}={_value(one.new)} newly set"
    if one.new is None:
        return f"{one.rest} no longer set (was {_value(one.old)})"
    return f"{one.rest}={_change(one)}"


def _change(one: Difference) -> str:
    return f"{_value(one.old)} {_ARROW} {_value(one.new)}"


def _short(commit: Json) -> str:
    return "unknown" if commit is None else str(commit)[:_COMMIT]


def _value(value: Json) -> str:
    match value:
        case None:
            return "unknown"
        case bool():
            return "on" if value else "off"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


# --- refusing --------------------------------------------------------------------------------


_WAYS_ON = {
    "": "accept a level for this environment (pytest-llmperf baseline accept --reason TEXT), or "
    "let the hook pytest_llmperf_comparable say that the two may be compared",
    "history": "the test holds this fixed: start the server as before, accept a level of what runs "
    "now (pytest-llmperf baseline accept --last 1 --reason TEXT), or take it out of subject=",
    "ab": "the test holds this fixed: give both sides the same, or take it out of subject=",
}


def refusal(
    found: Sequence[Difference], key: str, *, held: Literal["", "history", "ab"] = ""
) -> str:
    """Why ``key``, a level or a reference, is no yardstick here: each field, both values, what to
    do.

    ``held`` says that these are not facts of the environment but such of the subject that a test
    wants held fixed, and in which mode. Raises :class:`ValueError` when nothing differs.
    """
    if not found:
        raise ValueError("nothing differs")
    fields = "; ".join(_both(one) for one in found)
    return f"not comparable with {key}: {fields}; {_WAYS_ON[held]}"


def _both(one: Difference) -> str:
    if one.unknown:
        return f"{one.name} is known neither here nor there"
    return f"{one.name} is {_value(one.new)} here and {_value(one.old)} there"
