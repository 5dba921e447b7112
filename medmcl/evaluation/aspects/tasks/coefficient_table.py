"""The model of a table as the report shows it: a coefficient a line, looked up in the appendix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medmcl.evaluation.report.section import Section, Shown, folded
from medmcl.evaluation.report.words import about_what

FEW = 12  # coefficients to which the first page leads its reader
TITLE = "The model written out"
AID = (
    "A coefficient is what a unit of the column adds to the log hazard (hazard ratio), to the log "
    "odds (odds ratio), or to the predicted value (no ratio). The ratio of a number is that of one "
    "standard deviation (SD) of the train people; of a category or a flag, that of yes against no. "
    "They predict, and say nothing of causes. Intervals: how much the penalised coefficients would "
    "vary over samples of people (Wald, robust, several records of a person counted as one, the "
    "penalty as it was chosen). The penalty draws coefficients towards zero: an interval is not "
    "for what a model without it would find, and one that holds zero does not say that a column is "
    "of no use. The same numbers, unrounded: coefficients.csv."
)


def coefficient_section(rows: Sequence[Mapping[str, Any]]) -> Section:
    """Show the rows of ``coefficients.csv``; empty without any."""
    header = ("outcome", "predictor", "coefficient", "SD", "ratio", "of")
    lines = tuple(_line(row) for row in rows)
    penalties = {
        about_what(str(row["task"]), str(row["target"])): row["penalty"]
        for row in rows
        if row.get("penalty") is not None
    }
    table = Shown(
        title="Coefficients",
        aid=AID,
        header=header,
        rows=lines,
        folded=folded(lines),
        notes=tuple(f"Ridge penalty of {of}: {value:g}." for of, value in penalties.items()),
        is_looked_up=True,
    )
    said = "A line a predictor, with its coefficient and ratio, is in the appendix."
    return Section(
        key="model",
        title=TITLE,
        pictures=(),
        tables=(table,) if lines else (),
        short="The model",
        lines=(said,) if 0 < len(lines) <= FEW else (),
    )


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    what = row.get("is", "")
    predictor = str(row["column"])
    if what == "measured":
        predictor += " was measured"
    elif what not in ("number", ""):
        predictor += f" is {what}"
    ratio = row.get("ratio_value")
    per = "one SD" if row.get("ratio_per") == "sd" else "yes against no"
    return (
        about_what(str(row["task"]), str(row["target"])),
        predictor,
        _number(row["coefficient"]) + _ends(row, "coefficient"),
        _number(row.get("sd")),
        "" if ratio is None else f"{row['ratio']} {_number(ratio)}{_ends(row, 'ratio')}",
        "" if ratio is None else per,
    )


def _ends(row: Mapping[str, Any], name: str) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return "" if low is None or high is None else f" ({_number(low)} to {_number(high)})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
