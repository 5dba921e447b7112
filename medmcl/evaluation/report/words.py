"""How metrics, methods and lists are named to readers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from medmcl.core.config import read_yaml
from medmcl.core.suppression import WITHHELD
from medmcl.evaluation.protocol.evidence import SubgroupRow
from medmcl.evaluation.protocol.resampling import OVER
from medmcl.evaluation.protocol.results import NOBODY_TOLD, OUT_OF_FOLD, Result

METRIC_NAMES = read_yaml(Path(__file__).with_name("metric_names.yaml"))


def at_level(text: str, level: float) -> str:
    """Our own text with the coverage that intervals aim at, where it says 95 %."""
    return re.sub(r"\b95 %(?= (?:bootstrap )?intervals?\b)", f"{100 * level:g} %", text)


def over(text: str, resampling: str) -> str:
    """Our own text with what intervals are over, where it says subjects."""
    return re.sub(r"\b(intervals? )over subjects\b", rf"\1{OVER[resampling]}", text)


def escaped(text: str) -> str:
    """Text of users that becomes neither Markdown nor HTML, on one line."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*{}\[\]<>|#]|(?<!\w)_)", r"\\\1", one_line)


def metric_name(metric: str) -> str:
    """A metric as people write it."""
    if metric in METRIC_NAMES:
        return METRIC_NAMES[metric]
    stem, at, rest = metric.partition("_at_")
    if at and stem in METRIC_NAMES:
        return f"{METRIC_NAMES[stem]} at {_years(rest.replace('_', ' '))}"
    return _years(re.sub(r"\bauc\b", "AUC", metric.replace("_", " ")))


def _years(text: str) -> str:
    """Write ``5y`` as ``5 years``."""
    return re.sub(r"\b([\d.]+)y\b", lambda m: span_name(float(m[1]) * 365.25, "days"), text)


def measured(metric: str, target: str) -> str:
    """A metric as people write it, said to be a mean where it is one over targets."""
    return f"mean {metric_name(metric)}" if target == "macro" else metric_name(metric)


def about_what(task: str, target: str) -> str:
    """Task, with its target where that is another word."""
    if target in ("", task):
        return task
    return f"{task}: mean over targets" if target == "macro" else f"{task}: {target}"


def span_name(time: float, unit: str) -> str:
    """A span of time as people write it: days that make whole quarters of a year as years."""
    years = time / 365.25
    if unit == "days" and years > 0 and abs(4 * years - round(4 * years)) < 1e-6:
        return f"{years:g} year{'' if years == 1 else 's'}"
    return f"{time:,.5g} {unit}".rstrip()


def fraction_name(fraction: float) -> str:
    """A label fraction as people write it."""
    return f"{100 * fraction:g} % labels"


def rows_shown(n: int, subjects: int | None) -> str:
    """A count of rows, called records where their subjects are fewer."""
    return f"{n:,} records" if subjects and subjects != n else f"{n:,}"


def counts_shown(n: int, events: int | None, target: str = "", subjects: int | None = None) -> str:
    """Rows with the people that have the event in brackets; a mean over targets has none."""
    rows = rows_shown(n, subjects)
    if events is None or target == "macro":
        return rows
    return f"{rows} ({events:,} people)" if rows.endswith("records") else f"{rows} ({events:,})"


def people_shown(n: int, subjects: int) -> str:
    """A count of people, with their records where these are more."""
    return f"{subjects:,}" if n == subjects else f"{subjects:,} ({n:,} records)"


def held_back_by_reason(rows: Sequence[SubgroupRow]) -> dict[str, list[str]]:
    """Groups that lack a number or their counts, by why, as sentences of a list have it."""
    whys: dict[str, str] = {}
    for row in rows:
        name = f"{row.attribute} {row.group}"
        if row.value is not None and row.n is None:
            whys[name] = "shown without counts"  # though another metric of it be withheld
        elif row.suppressed:
            withheld = row.note.startswith(WITHHELD)
            whys.setdefault(name, "withheld" if withheld else "too small to show")
    return {why: [name for name, own in whys.items() if own == why] for why in whys.values()}


def p_shown(value: float | None) -> str:
    """A p value as people write it; a dash where there is no test."""
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def listed(names: Sequence[str], most: int, between: str = ", ") -> str:
    """Join names, and count those beyond ``most``."""
    more = len(names) - most
    shown = between.join(names[:most])
    return f"{shown}{between.removesuffix('and ')}and {more} more" if more > 0 else shown


NOT_CLEAR = 0.05
"""Two-sided p above which a difference is not clear, whatever its interval says."""


def verdict(row: Result) -> str:
    """Say of a paired difference whether it is better, worse, not clear; empty if unknown.

    Out of fold it is not known, and of few events the words say that they are too few. Where the
    test (DeLong's) and the bootstrap interval disagree, the difference is not clear. To be ahead
    of what predicts nearly the same for everyone is not called better.
    """
    if row.low is None or row.high is None or row.untested == OUT_OF_FOLD:
        return ""
    if row.untested:
        return f", {row.untested}"
    if row.low <= 0 <= row.high or (row.p_value is not None and row.p_value > NOT_CLEAR):
        return ", no clear difference"
    if row.direction == "target":
        return ", different"
    better = (row.low > 0) == (row.direction == "higher")
    alike = next((part for part in row.note.split("; ") if part.endswith(NOBODY_TOLD)), "")
    if alike:
        return f", {'ahead' if better else 'behind'}, but {alike}"
    if not better:
        return ", worse"
    if row.told:
        return f", ahead, but {row.told}, which it was paired with or reads, could name the outcome"
    return ", better"
