"""Whether survival times can be what ``unit:`` says, and whether any reaches the horizons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medmcl.core.findings import counted
from medmcl.data.cohort.spec import UNITS_PER_YEAR, SurvivalKeys

LONGEST_YEARS = 120.0
"""Nobody is followed for longer."""
Fault = tuple[str, str, str]
"""Code, what is wrong, and how to put it right."""


def follow_up_faults(
    name: str, task: SurvivalKeys, time: np.ndarray, subjects: np.ndarray
) -> Iterator[Fault]:
    """Give what cannot be true of the times of a survival task.

    A horizon that some, but not all, splits reach is no fault: where it cannot be estimated the
    report says so.

    Args:
        name: Of the task.
        task: What cohort.yaml says of it.
        time: Known times in the task's unit. (N,) float64
        subjects: Whose each is. (N,) object
    """
    if not len(time):
        return
    key, per_year = f"tasks.{name}", UNITS_PER_YEAR[task.unit]
    longest, middle = float(time.max()), float(np.median(time))
    beyond = time > LONGEST_YEARS * per_year
    if beyond.any():
        first = int(np.argmax(beyond))
        whole = middle > LONGEST_YEARS * per_year
        told = (
            f"the median follow-up would be {_years(middle / per_year)} and the longest "
            f"{_years(longest / per_year)}"
            if whole
            else f"{counted(int(beyond.sum()), 'time')} beyond {LONGEST_YEARS:g} years, the "
            f"longest {_years(longest / per_year)}, for example {time[first]:,g} {task.unit} for "
            f"subject {subjects[first]}"
        )
        others = [_as(unit, longest, key) for unit in _units(task.unit, longest)]
        meant = "; ".join(others) if not task.dated else ""
        cells = f"correct {'the dates' if task.dated else 'these times'}, or empty those unknown"
        yield (
            "follow_up",
            f"'{key}.unit' is {task.unit}: {told}",
            "; or, ".join(part for part in ((meant, cells) if whole else (cells, meant)) if part),
        )
        return
    late = [year for year in task.horizons_years if year * per_year > longest]
    if late:
        kept = [f"{year:g}" for year in task.horizons_years if year not in late]
        shown = ", ".join(f"{year:g}" for year in late)
        plural = "s" if len(late) > 1 else ""
        reach = [
            unit
            for unit in _units(task.unit, longest)
            if longest / UNITS_PER_YEAR[unit] >= min(late)
        ]
        wrong = "" if task.dated else "".join(f"; or, {_as(u, longest, key)}" for u in reach)
        in_years = [year / UNITS_PER_YEAR[task.unit] for year in task.horizons_years]
        if task.unit != "years" and min(in_years) > 0.05 and max(in_years) * per_year <= longest:
            meant = ", ".join(f"{round(year, 2):g}" for year in in_years)
            wrong = f"; or, if these are {task.unit}, horizons_years=[{meant}]{wrong}"
        yield (
            "horizon",
            f"'{key}.horizons_years': horizon{plural} of {shown} years beyond every follow-up, of "
            f"which the longest is {longest:,.4g} {task.unit} ({_years(longest / per_year)})",
            f"ask for years that somebody is followed: --set 'cohort.{key}.horizons_years="
            f"[{', '.join(kept)}]'{wrong}",
        )


def _units(said: str, longest: float) -> list[str]:
    """Units other than the one said in which the longest time is one that somebody can live."""
    return [
        unit
        for unit, per_year in UNITS_PER_YEAR.items()
        if unit != said and longest / per_year <= LONGEST_YEARS
    ]


def _as(unit: str, longest: float, key: str) -> str:
    years = _years(longest / UNITS_PER_YEAR[unit])
    return f"if the times are in {unit}, the longest is {years}: --set cohort.{key}.unit={unit}"


def _years(years: float) -> str:
    return f"{years:,.3g} years" if years < 1000 else f"{years:,.0f} years"
