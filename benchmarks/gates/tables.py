"""The tables of docs/gating.md, and the short one of the README, made from a file of results.

    python -m benchmarks.gates.tables benchmarks/gates/results/2026-11-22-errors.json

Each stands between two marks in its page, ``figures: NAME`` and ``end of figures``, in comments.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from . import history_tables
from .in_short import in_short
from .noise import SHAPES
from .promises import promises
from .real import summary
from .rivals import RIVALS
from .rows import Rows, of, one, percent, rate, shapes, table, with_error

PAGE = Path(__file__).parents[2] / "docs" / "gating.md"
README = Path(__file__).parents[2] / "README.md"
_BLOCK = re.compile(
    r"(<!-- figures: (?P<name>[a-z-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL
)


def filled(page: str, rows: Rows) -> str:
    """``page`` with every table made anew. Raises :class:`KeyError` for a table unknown here."""

    def one_table(match: re.Match[str]) -> str:
        lines = "\n".join({**TABLES, **IN_SHORT}[match["name"]](rows))
        return f"{match[1]}\n{lines}\n\n{match[3]}"

    return _BLOCK.sub(one_table, page)


# --- false alarms -------------------------------------------------------------------------------


def _alarms(rows: Rows) -> Iterator[str]:
    """Beside each other for every shape of noise; limits at the assumed spread."""
    lines = []
    for shape, phi, told in shapes():
        noise = {"shape": shape, "phi": phi}
        cells = [
            one(rows, "false alarms, ab", alpha=0.01, **noise),
            one(rows, "false alarms, ab", alpha=0.0005, **noise),
            *(one(rows, "false alarms, history", stored=n, alpha=0.01, **noise) for n in (8, 20)),
            *(
                one(rows, "false alarms, limits", launches=n, true_cv=cv, alpha=0.01, **noise)
                for cv in (0.03, 0.06)
                for n in (1, 3, 6)
            ),
        ]
        lines.append([told, *(rate(cell) for cell in cells)])
    head = ["launches or sessions", "`ab`, 1 %", "`ab`, 0.05 %", "history, 8", "history, 20"]
    head += [f"limits, {n} at {cv} %" for cv in (3, 6) for n in (1, 3, 6)]
    return table(head, lines)


def _standing(rows: Rows) -> Iterator[str]:
    judged = [row for row in rows if "standing" in row]
    counts = {
        standing: sum(row["standing"] == standing for row in judged)
        for standing in ("below", "near", "above")
    }
    broken = [row for row in judged if row["standing"] == "above"]
    kept = sum("broken" not in row for row in broken)
    told = f"All but {kept} of those above break" if kept else "Each of those above breaks"
    yield (
        f"{len(judged)} cells have a nominal rate: {counts['below']} are shown to lie below it, "
        f"{counts['above']} above it, and {counts['near']} cannot be told from it. "
        f"{told} an assumption of its rule, as real launches may do too."
    )


def _misses(rows: Rows) -> Iterator[str]:
    """Every cell that is shown to alarm more often than it may, the worst ratio first."""
    found = [row for row in rows if row.get("standing") == "above"]
    found.sort(key=lambda row: -row["rate"] / row["nominal"])
    lines = [
        [
            _title(row["name"]),
            with_error(row),
            percent(row["nominal"]),
            row.get("broken", "none"),
        ]
        for row in found
    ]
    return table(["cell", "alarms, %", "nominal, %", "assumption that is broken"], lines)


def _title(name: str) -> str:
    """A cell's name without what all cells of the table share."""
    title = name.removeprefix("false alarms, ")
    for part in (" of 0.1%", ", loss 0%", ", family 1"):
        title = re.sub(rf"{re.escape(part)}(?![0-9])", "", title)
    return title.replace(" 1 launches", " 1 launch").replace("%", " %").replace("  ", " ")


def _suite_alarms(rows: Rows) -> Iterator[str]:
    alike = (0.0, 0.5, 0.9)
    shapes = dict.fromkeys(row["shape"] for row in of(rows, "false alarms, suite"))
    lines = [
        [
            shape,
            *(
                with_error(one(rows, "false alarms, suite", shape=shape, alike=each))
                for each in alike
            ),
        ]
        for shape in shapes
    ]
    return table(["launches", *(f"gates correlate by {each:g}" for each in alike)], lines)


def _profiles(rows: Rows) -> Iterator[str]:
    lines = []
    for df in (12, 85):
        for factor in (1.0, 1.5, 2.0, 3.0):
            case = {"profile_df": df, "too_small": factor}
            alarms = [
                with_error(one(rows, "false alarms, profile", alpha=alpha, **case))
                for alpha in (0.01, 0.0005)
            ]
            lost = one(rows, "misled, profile", loss=0.03, **case)
            same = one(rows, "misled, profile", loss=0.0, **case)
            lines.append(
                [
                    str(df),
                    f"{factor:g} ×",
                    *alarms,
                    *(percent(lost[key], 1) for key in ("pass", "fail", "inconclusive")),
                    percent(same["pass"], 1),
                ]
            )
    head = ["profile's df", "true spread / profile's", "alarms at 1 %", "at 0.05 %"]
    head += ["3 % lost: PASS", "FAIL", "inconclusive", "nothing lost: PASS"]
    return table(head, lines)


# --- power --------------------------------------------------------------------------------------


def _as_used(rows: Rows) -> Iterator[str]:
    lines = []
    for wish, sigma in ((0.03, 0.0141), (0.10, 0.045)):
        for alpha in (0.01, 0.0005):
            for shape in SHAPES:
                case = {
                    "loss_to_catch": wish,
                    "pair_sigma": sigma,
                    "alpha": alpha,
                    "shape": shape,
                }
                same = one(rows, "as used, ab", loss=0.0, **case)
                lost = one(rows, "as used, ab", loss=wish, **case)
                lines.append(
                    [
                        f"{percent(wish)} % at {percent(sigma)} %",
                        percent(alpha),
                        shape,
                        rate(same),
                        percent(same["pass"], 1),
                        f"{same['pairs']:.2f}",
                        percent(lost["fail"], 1),
                        percent(lost["pass"], 2),
                        f"{lost['pairs']:.2f}",
                    ]
                )
    head = ["gate at pair SD", "α, %", "launches", "unchanged: FAIL, %", "PASS, %", "pairs"]
    return table([*head, "lost: FAIL, %", "PASS, %", "pairs"], lines)


_LOSSES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.10)


def _pairs(rows: Rows) -> Iterator[str]:
    lines = []
    for wish in (0.03, 0.05, 0.10):
        for sigma in (0.007, 0.014, 0.028, 0.045):
            case = {"loss_to_catch": wish, "pair_sigma": sigma}
            cells = [one(rows, "pairs, one gate", loss=loss, **case) for loss in _LOSSES]
            told = [f"{percent(cell['fail'], 1)} · {cell['pairs']:.1f}" for cell in cells]
            lines.append([f"{percent(wish)} %", f"{percent(sigma)} %", *told])
    head = ["gate", "pair SD", *(f"{percent(loss)} % lost" for loss in _LOSSES)]
    return table(head, lines)


def _suite_pairs(rows: Rows) -> Iterator[str]:
    lines = []
    seen = dict.fromkeys(
        (row["loss_to_catch"], row["pair_sigma"]) for row in of(rows, "pairs, suite")
    )
    for wish, sigma in seen:
        case = {"loss_to_catch": wish, "pair_sigma": sigma}
        cells = [one(rows, "pairs, suite", loss=loss, **case) for loss in _LOSSES]
        told = [f"{percent(cell['caught'], 1)} · {cell['pairs']:.1f}" for cell in cells]
        lines.append(
            [f"{percent(wish)} %", f"{percent(sigma)} %", *told, percent(cells[0]["all_pass"], 1)]
        )
    head = ["gates", "pair SD", *(f"{percent(loss)} % lost" for loss in _LOSSES)]
    return table([*head, "unchanged: all 20 PASS"], lines)


def _detectable(rows: Rows) -> Iterator[str]:
    lines = [
        [
            f"{percent(row['loss_to_catch'])} % at {percent(row['pair_sigma'])} %",
            percent(row["alpha"]),
            f"profile, df {row['profile_df']}" if "profile_df" in row else "the pairs alone",
            f"{percent(row['true_loss'])} %",
            f"{row['exact_ratio']:.3f}",
            f"{row['median_ratio']:.2f} ({row['low_ratio']:.2f} to {row['high_ratio']:.2f})",
            percent(row["within"], 0),
        ]
        for row in of(rows, "detectable")
    ]
    head = ["gate at pair SD", "α, %", "spread known from", "fails 9 times in 10"]
    head += ["printed at the true spread, ratio", "as printed, ratio: median (5 to 95 %)"]
    return table([*head, "within 15 %, %"], lines)


def _limits_power(rows: Rows) -> Iterator[str]:
    losses = (0.05, 0.10, 0.15, 0.20)
    lines = []
    for cv in (0.03, 0.06):
        for launches in (1, 2, 3, 6):
            case = {"true_cv": cv, "launches": launches}
            cells = [one(rows, "power, limits", loss=loss, **case) for loss in losses]
            same = one(
                rows, "false alarms, limits", shape="normal", phi=0.0, alpha=0.01, loss=0.0, **case
            )
            told = [percent(cell["fail"], 1) for cell in cells]
            lines.append([f"{percent(cv)} %", str(launches), rate(same), *told])
    head = ["true launch CV", "launches", "exactly at the limit"]
    return table([*head, *(f"{percent(loss)} % beyond" for loss in losses)], lines)


# --- others -------------------------------------------------------------------------------------


def _rivals(rows: Rows) -> Iterator[str]:
    noises = dict.fromkeys(row["noise"] for row in of(rows, "rivals"))

    def cells(name: str, phi: float = 0.0) -> list[str]:
        return [
            " · ".join(
                percent(one(rows, "rivals", noise=noise, loss=loss, phi=phi)[name], 1)
                for loss in (0.0, 0.03, 0.10)
            )
            for noise in noises
        ]

    lines = []
    for wish in ("3%", "10%"):
        pairs = [
            one(rows, "rivals", noise=noise, loss=0.0, phi=0.0)[f"ours {wish} pairs"]
            for noise in noises
        ]
        cost = f"{2 * min(pairs):.0f} to {2 * max(pairs):.0f}, both sides"
        lines.append([f'**this plugin, `"{wish}"`**', "`ab`", cost, *cells(f"ours {wish} fail")])
    for rival in RIVALS:
        phis = (0.0, 0.5, 0.9) if rival.name.startswith("Mann") else (0.0,)
        for phi in phis:
            told = f"; requests AR(1) {phi:g}" if len(phis) > 1 else ""
            lines.append([rival.name + told, rival.source, rival.launches, *cells(rival.name, phi)])
    return table(["rule", "whose", "fresh launches", *noises], lines)


def _otava(rows: Rows) -> Iterator[str]:
    soon = (1, 5, 10, 20, 40)
    lines = []
    for row in of(rows, "otava"):
        told = [percent(row[f"within_{n}"], 1) if "not_run" not in row else "not run" for n in soon]
        lines.append([row["noise"], f"{percent(row['loss'])} %", *told])
    return table(["nights", "lost from night 31 on", *(f"{n} looks" for n in soon)], lines)


def _creep(rows: Rows) -> Iterator[str]:
    lines = []
    for row in of(rows, "creep", creeping=False):
        case = {key: row[key] for key in ("loss_to_catch", "how", "alpha")}
        crept = one(rows, "creep", creeping=True, **case)
        night = crept["first_night_median"]
        lines.append(
            [
                f"{percent(row['loss_to_catch'])} %",
                row["how"],
                f"{row['alpha'] * 100:g}",
                rate(row) if "standing" in row else percent(row["any_alarm"], 1),
                percent(crept["any_alarm"], 1),
                "never" if night is None else f"{night:.0f}",
                f"{4 * row['pairs_a_night'] / 2:.0f}",
            ]
        )
    head = ["gate", "how", "α of a comparison, %", "100 quiet nights: any alarm, %"]
    head += ["10 × 1 % lost: alarm, %", "on night (median)", "launches a night"]
    return table(head, lines)


TABLES: Mapping[str, Callable[[Rows], Iterator[str]]] = {
    "promises": promises,
    "alarms": _alarms,
    "standing": _standing,
    "misses": _misses,
    "real": lambda _: summary.table(),
    "suite-alarms": _suite_alarms,
    "profiles": _profiles,
    "as-used": _as_used,
    "pairs": _pairs,
    "suite-pairs": _suite_pairs,
    "detectable": _detectable,
    "limits-power": _limits_power,
    **history_tables.TABLES,
    "rivals": _rivals,
    "otava": _otava,
    "creep": _creep,
}
IN_SHORT: Mapping[str, Callable[[Rows], Iterator[str]]] = {"in-short": in_short}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", type=Path)
    arguments = parser.parse_args()
    rows = json.loads(arguments.results.read_text(encoding="utf-8"))["rows"]
    for page in (PAGE, README):
        page.write_text(filled(page.read_text(encoding="utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    main()
