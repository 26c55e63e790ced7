"""What was wanted of the gates, and what the simulation found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .rows import Row, Rows, of, one, percent, table

_CAUGHT = 0.95
_YES, _NO = "yes", "**no**"
_NOT_REFUTED = "not refuted"
_PAIRS_LOST, _PAIRS_SAME = 7.0, 5.5
_TWICE = 2.0
_WITHIN = 0.9  # of printed losses that are to be within 15 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    wanted: str
    found: str
    kept: bool | str

    @property
    def told(self) -> str:
        if isinstance(self.kept, str):
            return self.kept
        return _YES if self.kept else _NO


def promises(rows: Rows) -> Iterator[str]:
    """One line for each promise.

    A false-alarm rate is kept where every cell is shown to lie below it, "not refuted" where some
    cell is too near to tell, and not kept where one is shown to lie above.
    """
    every = [promise for about in _ABOUT for promise in about(rows)]
    lines = [[promise.wanted, promise.found, promise.told] for promise in every]
    return table(["wanted", "found", "kept"], lines)


def _standing(rows: Rows) -> str:
    standings = {row["standing"] for row in rows}
    if "above" in standings:
        return _NO
    return _YES if standings == {"below"} else _NOT_REFUTED


def _worst(rows: Rows) -> Row:
    return max(rows, key=lambda row: float(row["rate"]))


def _alarms(rows: Rows) -> Iterator[Promise]:
    for name, wanted in (
        ("false alarms, ab", "`ab`, one gate"),
        ("false alarms, history", "an accepted level, one gate"),
        ("false alarms, history wide", "sessions that differ by 6 %, or a kind that none showed"),
        ("false alarms, suite", "`ab`, a suite of 20"),
    ):
        for nominal in sorted({row["nominal"] for row in of(rows, name)}, reverse=True):
            cells = of(rows, name, nominal=nominal)
            above = sum(row["standing"] == "above" for row in cells)
            worst = _worst(cells)
            yield Promise(
                wanted=f"{wanted}: at most {percent(nominal)} % false alarms, whatever the noise",
                found=f"above in {above} of {len(cells)} cells; the worst "
                f"{percent(worst['rate'], 3)} ± {percent(worst['error'], 3)} % ({worst['shape']})",
                kept=_standing(cells),
            )


def _history(rows: Rows) -> Iterator[Promise]:
    lost = of(rows, "power, history", loss=0.15)
    worst = max(lost, key=lambda row: float(row["pass"]))
    yield Promise(
        wanted="an accepted level, sessions differ by 3 %: a loss of 15 % passes in 5 % at most, "
        "whatever the noise",
        found=f"{percent(worst['pass'], 1)} % at worst ({worst['stored']} sessions, "
        f"{worst['shape']})",
        kept=worst["pass"] <= 1 - _CAUGHT,
    )


def _limits(rows: Rows) -> Iterator[Promise]:
    for cv, told in ((0.03, "spread as assumed"), (0.06, "spread twice as much")):
        cells = of(rows, "false alarms, limits", true_cv=cv, alpha=0.01)
        for launches in (1, 3, 6):
            some = [row for row in cells if row["launches"] == launches]
            above = [row for row in some if row["standing"] == "above"]
            worst = _worst(some)
            yield Promise(
                wanted=f"floors and ceilings, {launches} launch{'' if launches == 1 else 'es'}, "
                f"{told}: at most 1 % false alarms, whatever the noise",
                found=f"above in {len(above)} of {len(some)} cells; the worst "
                f"{percent(worst['rate'])} % ({worst['shape']})",
                kept=_standing(some),
            )


def _whatever_the_noise(rows: Rows) -> Iterator[Promise]:
    for alpha, told in ((0.01, "one gate"), (0.0005, "one of 20 gates")):
        lost = [row for row in of(rows, "as used, ab", alpha=alpha) if row["loss"]]
        fewer = [row for row in lost if row["fail"] < _CAUGHT]
        worst = min(lost, key=lambda row: float(row["fail"]))
        yield Promise(
            wanted=f"{told}: the loss to catch is caught in 95 %, whatever the noise",
            found=f"less in {len(fewer)} of {len(lost)} cells; the least "
            f"{percent(worst['fail'], 1)} % ({worst['shape']})",
            kept=not fewer,
        )


def _power(rows: Rows) -> Iterator[Promise]:
    for name, key, passes, told in (
        ("pairs, one gate", "fail", "pass", "one gate"),
        ("pairs, suite", "caught", "gate_pass", "one of 20 gates on shared launches"),
    ):
        for wish, sigma in ((0.03, 0.014), (0.10, 0.045)):
            case = {"loss_to_catch": wish, "pair_sigma": sigma}
            lost, same = one(rows, name, loss=wish, **case), one(rows, name, loss=0.0, **case)
            where = f"{told}, {percent(wish)} % at pair SD {percent(sigma)} %"
            yield Promise(
                wanted=f"{where}: caught in 95 %, after 7 pairs in the mean",
                found=f"{percent(lost[key], 1)} %, {lost['pairs']:.1f} pairs",
                kept=lost[key] >= _CAUGHT and lost["pairs"] <= _PAIRS_LOST,
            )
            yield Promise(
                wanted=f"{where}, unchanged: PASS in 95 %, after 5.5 pairs in the mean",
                found=f"{percent(same[passes], 1)} %, {same['pairs']:.1f} pairs",
                kept=same[passes] >= _CAUGHT and same["pairs"] <= _PAIRS_SAME,
            )


def _misled(rows: Rows) -> Iterator[Promise]:
    cells = of(rows, "misled, profile", too_small=3.0, loss=0.03)
    most = max(row["pass"] for row in cells)
    yield Promise(
        wanted="a profile three times too small: a loss of 3 % passes in 5 % at most",
        found=f"{percent(most, 1)} %",
        kept=most <= 1 - _CAUGHT,
    )
    profiles = [row for row in of(rows, "false alarms, profile") if row["too_small"] > 1]
    worst = max(profiles, key=lambda row: float(row["rate"] / row["nominal"]))
    times = worst["rate"] / worst["nominal"]
    yield Promise(
        wanted="a profile 1.5 to 3 times too small: at most twice the nominal false alarms",
        found=f"at worst {times:.2f} times ({worst['too_small']:g} times too small, "
        f"df {worst['profile_df']}, share {percent(worst['nominal'])} %)",
        kept=times <= _TWICE,
    )


def _detectable(rows: Rows) -> Iterator[Promise]:
    cells = of(rows, "detectable")
    for told, some in (
        ("with a profile of 85 degrees of freedom", [r for r in cells if "profile_df" in r]),
        ("from the pairs alone", [r for r in cells if "profile_df" not in r]),
    ):
        worst = min(some, key=lambda row: float(row["within"]))
        yield Promise(
            wanted=f"the printed detectable loss, {told}, is within 15 % of the true one",
            found=f"in {percent(worst['within'], 0)} % of printings at worst "
            f"(median ratio {worst['median_ratio']:.2f})",
            kept=worst["within"] >= _WITHIN,
        )


def _creep(rows: Rows) -> Iterator[Promise]:
    for row in of(rows, "creep", creeping=False):
        if "nominal" not in row:
            continue
        case = {key: row[key] for key in ("loss_to_catch", "how", "alpha")}
        crept = one(rows, "creep", creeping=True, **case)
        yield Promise(
            wanted=f'creep against a named release, `"{percent(row["loss_to_catch"])}%"`, '
            f"{row['how']}, α {row['alpha'] * 100:g} %: 10 × 1 % caught in 95 %, any alarm in 100 "
            "quiet nights in 5 %",
            found=f"{percent(crept['any_alarm'], 1)} %, {percent(row['rate'], 1)} ± "
            f"{percent(row['error'], 1)} %",
            kept=_standing([row]) if crept["any_alarm"] >= _CAUGHT else _NO,
        )


_ABOUT: tuple[Callable[[Rows], Iterator[Promise]], ...] = (
    _alarms,
    _history,
    _limits,
    _whatever_the_noise,
    _power,
    _misled,
    _detectable,
    _creep,
)
