"""Tables of tasks: discrimination, differences, D-calibration, coefficients; what was not made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medmcl.evaluation.aspects.aspect import Rows
from medmcl.evaluation.aspects.tasks.panels import ABOUT, about
from medmcl.evaluation.aspects.tasks.survival_figures import curve_of
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.survival.d_calibration import DCalibration
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import TaskEvidence
from medmcl.evaluation.protocol.results import Result, flipped
from medmcl.evaluation.report.captions import Caption, caption
from medmcl.evaluation.report.columns import VALUE, Column, pivoted, written
from medmcl.evaluation.report.labelled import people_of
from medmcl.evaluation.report.section import Section, Shown
from medmcl.evaluation.report.words import (
    about_what,
    fraction_name,
    listed,
    metric_name,
    p_shown,
)

MOST_METRICS = 3  # side by side: more do not fit a page


def discrimination_tables(results: Sequence[Result]) -> list[Shown]:
    """Two tables a kind of task: its first metrics side by side, then a line a further metric.

    Cells that are not estimable point to a note below that says why.
    """
    plain = [row for row in results if not row.versus]
    tables = []
    for kind in dict.fromkeys(row.kind for row in plain):
        own = [row for row in plain if row.kind == kind]
        names = list(dict.fromkeys(row.metric for row in own))
        title = f"{kind.capitalize()} outcomes"
        tables.append(_side_by_side(own, names[:MOST_METRICS], title))
        if names[MOST_METRICS:]:
            rest = [row for row in own if row.metric in names[MOST_METRICS:]]
            tables.append(_one_a_line(rest, f"{title}, further metrics"))
    return tables


ARROWS = {"higher": "↑", "lower": "↓", "target": "◎"}
MARKS = {"↑": "↑ higher is better", "↓": "↓ lower is better", "◎": "◎ the nearer to its ideal"}


def _side_by_side(results: Sequence[Result], names: Sequence[str], title: str) -> Shown:
    own = [row for row in results if row.metric in names]
    arrows = {row.metric: ARROWS[row.direction] for row in own}
    reasons = Reasons()

    def cell(name: str) -> Column:
        heading = f"{metric_name(name)} {arrows[name]}"
        return heading, lambda line: reasons.cell(getattr(line, name))

    cells = written(pivoted(own, LINE), *START, *map(cell, names))
    return Shown.of(_called(title, own), cells, is_looked_up=True, notes=reasons.lines)


LINE = ("task", "target", "method", "protocol", "label_fraction", "split", "n")
"""What rows of one line have in common."""


def _one_a_line(results: Sequence[Result], title: str) -> Shown:
    reasons = Reasons()
    cells = written(
        sorted(results, key=lambda row: -row.label_fraction),
        *START,
        ("metric", lambda row: f"{metric_name(row.metric)} {ARROWS[row.direction]}"),
        (VALUE, reasons.cell),
        ("note", lambda row: row.note if row.value is not None else ""),
    )
    fold = f"{len(results)} lines"
    return Shown.of(_called(title, results), cells, folded=fold, is_looked_up=True,
                    notes=reasons.lines)  # fmt: skip


def _labels(row: Result) -> str:
    share = fraction_name(row.label_fraction).removesuffix(" labels")
    return "none" if row.train_subjects == 0 else share + people_of([row])


ABOUT_WHAT: Column = ("task", lambda row: about_what(row.task, row.target))
OUTCOME: Column = ("outcome", lambda row: about_what(str(row.task), str(row.target)))
START: tuple[Column, ...] = (ABOUT_WHAT, "method", "protocol", ("labels", _labels), "n (events)")


def _called(title: str, results: Sequence[Result]) -> Caption:
    said = ", ".join(MARKS[a] for a in dict.fromkeys(ARROWS[row.direction] for row in results))
    aid = f"{said[0].upper()}{said[1:]}; in brackets 95 % intervals over subjects."
    return {"title": title, "aid": aid}


class Reasons:
    """Numbers reasons in the order in which cells ask for them."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def cell(self, row: Result | None) -> str:
        """The value of a cell, or that there is none and where it is said why; - of no row."""
        if row is None:
            return "-"
        if row.value is not None:
            return row.shown
        reason = row.note or "no reason was recorded"
        return f"not estimable [{self._numbers.setdefault(reason, len(self._numbers) + 1)}]"

    @property
    def lines(self) -> tuple[str, ...]:
        """The reasons, each with its number."""
        return tuple(f"[{number}] {reason}" for reason, number in self._numbers.items())


def comparison_tables(data: Evaluation) -> list[Shown]:
    """The runs that were set beside, and every paired difference."""
    names = dict.fromkeys(key for facts in data.compared.values() for key in facts)
    blank = dict.fromkeys(names, "")
    apart = [row for row in data.task_rows if row.versus]
    return [
        Shown.of(
            caption(__file__, "runs"),
            written([{"run": name, **blank, **f} for name, f in data.compared.items()], "run",
                    *names),
        ),
        Shown.of(
            caption(__file__, "differences"),
            written([flipped(row) if row.versus == data.method else row for row in apart],
                    ABOUT_WHAT, "metric", "difference", "labels", VALUE, "reading", "p", "n",
                    "note"),
            is_looked_up=True,
        ),
    ]  # fmt: skip


def d_calibration_shown(found: Sequence[TaskEvidence]) -> Shown:
    """Whether survival curves are calibrated over all of time, as a table of the page."""
    return Shown.of(
        caption(__file__, "d_calibration"),
        written([row for one in found for row in d_rows(one)], *ABOUT,
                ("χ²", lambda row: "not estimable" if row.p_value is None
                 else "-" if row.statistic is None else f"{row.statistic:.1f}"),
                ("p", lambda row: p_shown(row.p_value)),
                ("% in each tenth, from low survival to high", _tenths), "note"),
        is_looked_up=True,
    )  # fmt: skip


def _tenths(row: Any) -> str:
    shares = [share for name, share in vars(row).items() if "share_" in name and share is not None]
    return " ".join(f"{100 * share:.0f}" for share in shares) or "-"


def d_rows(one: TaskEvidence) -> Rows:
    """One row for the D-calibration of a task."""
    found = one.d_calibration
    if found is None:
        return []
    if not isinstance(found, DCalibration):
        return [{**about(one), "note": found.reason}]
    shares = {f"share_{k}": share for k, share in enumerate(found.shares)}
    return [{**about(one), "statistic": found.statistic, "p_value": found.p_value, **shares,
             "note": found.note}]  # fmt: skip


MOST_NAMED = 8  # tasks that share a reason
OF_RISK = "survival curve "


def not_shown(data: Evaluation) -> list[str]:
    """Say of what was asked for and could not be made why, each reason once."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    parts: list[tuple[TaskEvidence, str, object]] = [
        (one, what, part)
        for one in data.evidence
        for what, part in (
            ("calibration curve", one.calibration),
            ("decision curve", one.decision),
            ("D-calibration", one.d_calibration),
            *((f"{OF_RISK}{group.name}", curve_of(group)) for group in one.risk_groups),
        )
    ]
    made = {(one.task, one.target, what) for one, what, part in parts
            if part is not None and not isinstance(part, NotEstimable)}  # fmt: skip
    for one, what, part in parts:
        if isinstance(part, NotEstimable):
            about = reasons.setdefault((what, part.reason), {})
            whose = f" ({one.method})" if (one.task, one.target, what) in made else ""
            about[f"{about_what(one.task, one.target)}{whose}"] = None
    by_reason: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (what, reason), tasks in reasons.items():
        by_reason.setdefault((reason, tuple(tasks)), []).append(what)
    lines = [
        f"{_kinds(kinds)} of {listed(tasks, MOST_NAMED)}: {reason}."
        for (reason, tasks), kinds in by_reason.items()
    ]
    return [f"{line[0].upper()}{line[1:]}" for line in lines]


def _kinds(kinds: Sequence[str]) -> str:
    """What could not be made, in words; curves of groups of risk are named together."""
    groups = [kind.removeprefix(OF_RISK) for kind in kinds if kind.startswith(OF_RISK)]
    curves = [f"survival curve{'s' * (len(groups) > 1)} ({', '.join(groups)})"] if groups else []
    return " and ".join([*(kind for kind in kinds if not kind.startswith(OF_RISK)), *curves])


FEW_COEFFICIENTS = 12  # coefficients to which the first page leads its reader
MODEL_TITLE = "The model written out"


def coefficient_section(
    rows: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]] = ()
) -> Section:
    """Show the rows of ``coefficients.csv`` and, at horizons, of ``baseline.csv``.

    It is empty without any.
    """
    penalties = {
        about_what(str(row["task"]), str(row["target"])): row["penalty"]
        for row in rows
        if row.get("penalty") is not None
    }
    table = Shown.of(
        caption(__file__, "coefficients"),
        written(rows, OUTCOME, ("predictor", _predictor),
                ("coefficient", lambda row: _short(row.coefficient) + _ends(row, "coefficient")),
                ("SD", lambda row: _short(row.sd)), ("ratio or difference", _ratio),
                ("of", lambda row: {"sd": "one SD"}.get(row.ratio_per, row.ratio_per)
                 if _ratio(row) else "")),
        notes=tuple(f"Ridge penalty of {of}: {value:g}." for of, value in penalties.items()),
        is_looked_up=True,
    )  # fmt: skip
    said = "A line a predictor, with its coefficient and ratio, is in the appendix."
    return Section.of(
        "model",
        MODEL_TITLE,
        tables=(table, _baseline_shown(baselines)),
        short="The model",
        part="Against what",
        lines=(said,) if 0 < len(rows) <= FEW_COEFFICIENTS else (),
    )


def _baseline_shown(baselines: Sequence[Mapping[str, Any]]) -> Shown:
    """Baseline survival at the horizons."""
    at = [row for row in baselines if row["horizon_years"] is not None]
    rivals = dict.fromkeys(str(row["task"]) for row in at if row["event"])
    return Shown.of(
        caption(__file__, "baseline"),
        written(at, ("outcome", "task"), ("by", lambda row: f"{row.time:g} {row.unit}".strip()),
                ("S0", lambda row: f"{row.survival:.6g}"),
                ("log H0", lambda row: f"{row.log_cumulative_hazard:.6g}")),
        notes=tuple(
            f"{task}: the competing event is censored here; medmcl predict counts it, so that its "
            "risks are lower."
            for task in rivals
        ),
        is_looked_up=True,
    )  # fmt: skip


def _predictor(row: Any) -> str:
    what = vars(row).get("is") or ""  # a keyword of Python
    if what == "measured":
        return f"{row.column} was measured"
    return str(row.column) if what in ("number", "") else f"{row.column} is {what}"


def _ratio(row: Any) -> str:
    name = "ratio" if row.ratio_value is not None else "contrast"
    value = row.ratio_value if row.ratio_value is not None else row.contrast
    said = row.ratio or "difference"
    return "" if value is None else f"{said} {_short(value)}{_ends(row, name)}"


def _ends(row: Any, name: str) -> str:
    low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
    return "" if low is None or high is None else f" ({_short(low)} to {_short(high)})"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
