"""From predictions to rows of a table: metrics with intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from medmcl.data.loading.worker_pool import beside
from medmcl.evaluation.aspects.tasks.evidence import RAW, SHOWN_ELSEWHERE, raw_ici
from medmcl.evaluation.aspects.tasks.metrics import (
    Horizons,
    Line,
    basic_lines,
    event_codes,
    lines_of,
    nothing,
    without_curves,
)
from medmcl.evaluation.metrics.delong_method import AUCDifference, delong
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.metric import Metric, probabilities_of
from medmcl.evaluation.metrics.multiclass import shares_of
from medmcl.evaluation.metrics.sampled import Sampled, mean_of, people_among
from medmcl.evaluation.metrics.survival.metric import SurvivalMetric
from medmcl.evaluation.models.knn import one_hot
from medmcl.evaluation.models.strength import is_alike
from medmcl.evaluation.protocol.evidence import too_few_for_curve
from medmcl.evaluation.protocol.predicted import Predicted
from medmcl.evaluation.protocol.results import NOBODY_TOLD, Result, deciding_of, untested
from medmcl.evaluation.protocol.setting import Setting

RANKED = "subjects ranked by predictions standardised in each fold"
CONSTANT = "constant prediction"
Scores = dict[tuple[str, str], tuple[Line, Sampled]]
Jobs = dict[tuple[str, str], tuple[Line, Callable[[], Sampled]]]


@dataclass(frozen=True)
class Samplers:
    """The bootstrap of the scored rows, and the same with fewer draws."""

    whole: Resampling
    short: Resampling

    @classmethod
    def of(cls, setting: Setting, few: int) -> Samplers:
        """Draw the scored rows, and ``few`` times where a draw is dear."""
        whole = setting.resampling.take(setting.scored)
        return cls(whole, whole if few == whole.draws else replace(whole, draws=few))

    def pick(self, line: Line) -> Resampling:
        """The one that a metric takes."""
        return self.short if line.dear else self.whole


def score(
    setting: Setting,
    table: Predicted,
    samplers: Samplers,
    rows: np.ndarray,
    *,
    only: str | None = None,
    full: bool = True,
) -> Scores:
    """Sample the metrics of a task; the macro mean first where there are several columns.

    Out of fold, metrics that only rank read predictions standardised in each fold.

    Args:
        setting: The evaluation.
        table: Predictions.
        samplers: Bootstrap of the scored rows.
        rows: Scored rows that count. (scored,) bool
        only: One metric by name; default all.
        full: Every metric, not only the basic ones of the kind.
    """
    return next(score_all([(table, full)], setting, samplers, rows=rows, only=only))


def score_all(
    tables: Sequence[tuple[Predicted, bool]],
    setting: Setting,
    samplers: Samplers,
    *,
    rows: np.ndarray | None = None,
    only: str | None = None,
    told: Callable[[float], object] = lambda _: None,
) -> Iterator[Scores]:
    """Give what `score` gives of each of some tables, whose metrics processes share.

    Args:
        tables: Predictions, and whether every metric is wanted.
        setting: As there.
        samplers: As there.
        rows: As there; default those of each table.
        only: As there.
        told: Called with the share of the metrics that is begun.
    """
    plans = [
        _begun(setting, table, samplers, table.rows if rows is None else rows, only, full)
        for table, full in tables
    ]
    jobs = [of[key][1] for columns, found in plans for of in (*columns, found) for key in of]
    sampled = beside(lambda job: job(), jobs, told=lambda number: told(number / len(jobs)))
    for columns, found in plans:
        each = [
            {key: (line, next(sampled)) for key, (line, _) in of.items()}
            for of in (*columns, found)
        ]
        yield _ordered(each[:-1], setting.targets.names, each[-1]) if columns else each[-1]


def _begun(
    setting: Setting,
    table: Predicted,
    samplers: Samplers,
    rows: np.ndarray,
    only: str | None,
    full: bool,
) -> tuple[list[Jobs], Jobs]:
    """Give the metrics of each column, and of all together, still to be sampled."""
    targets = setting.targets.take(setting.scored)
    found: Jobs = {}
    alike = table.everyone_alike()
    if targets.kind == "survival":
        outcome = event_codes(setting.targets, setting.scored)
        for line in _chosen(setting, 0, only, full):
            own = alike if line.ranks else table
            if line.reads != "values" and not own.curves:
                line = without_curves(line)
            job = partial(_survival, setting, own, samplers, line, outcome, rows)
            found[targets.name, line.metric] = line, job
        return [], found
    values, known = one_hot(targets)
    columns: list[Jobs] = []
    for column, name in enumerate(targets.names):
        part: Jobs = {}
        for line in _chosen(setting, column, only, full):
            arrays = (alike if line.ranks else table).reading(line)
            if not line.is_whole:
                part[name, line.metric] = _column(
                    line, samplers, values[:, column], [a[:, column] for a in arrays],
                    rows & known[:, column],
                )  # fmt: skip
            elif column == 0:
                found["all classes", line.metric] = _column(
                    line, samplers, targets.values[:, 0], arrays, rows
                )
        columns.append(part)
    return columns, found


def _chosen(setting: Setting, column: int, only: str | None, full: bool) -> list[Line]:
    lines = lines_of(setting.targets, setting.thresholds, setting.horizons, column)
    lines = lines if full else basic_lines(lines, setting.targets.kind)
    return [line for line in lines if only in (None, line.metric)]


def _ordered(columns: Sequence[Scores], names: Sequence[str], whole: Scores) -> Scores:
    """Metric by metric: the macro mean, then each column."""
    metrics = dict.fromkeys(metric for part in columns for _, metric in part)
    found: Scores = {}
    for metric in metrics:
        parts = [part[name, metric] for name, part in zip(names, columns, strict=True)]
        if len(parts) > 1:
            first = parts[0][0]
            own = first.metric == "net_benefit" or any(first.note != line.note for line, _ in parts)
            line = replace(first, note="") if own else first
            found["macro", metric] = (line, mean_of([sampled for _, sampled in parts], names))
        for name, part in zip(names, parts, strict=True):
            found[name, metric] = part
    return found | whole


def _column(
    line: Line,
    samplers: Samplers,
    outcome: np.ndarray,
    predictions: list[np.ndarray],
    rows: np.ndarray,
) -> tuple[Line, Callable[[], Sampled]]:
    if line.spec.prepare in (probabilities_of, shares_of) and any(
        (p[rows] < 0).any() or (p[rows] > 1).any() for p in predictions
    ):
        reason = "the predictions are scores, not probabilities"
        line = replace(line, spec=nothing(line.spec, reason))
    if line.metric == "ici":
        happens = outcome[rows] > 0
        people = samplers.whole.codes[rows]
        scarce = too_few_for_curve(*(people_among(people, happens == one) for one in (True, False)))
        line = replace(line, spec=nothing(line.spec, scarce)) if scarce else line
    if line.ranks and rows.any() and all(np.ptp(p[rows]) == 0 for p in predictions):
        line = replace(line, note=line.note or CONSTANT)
    return line, partial(samplers.pick(line).sample, line.spec, (outcome,), predictions, rows)


def _survival(
    setting: Setting,
    table: Predicted,
    samplers: Samplers,
    line: Line,
    outcome: tuple[np.ndarray, np.ndarray],
    rows: np.ndarray,
) -> Sampled:
    codes, followed = outcome
    if not (isinstance(line.spec, SurvivalMetric) and line.spec.has_causes):
        outcome = (codes == 1, followed)
    sampler = samplers.pick(line)
    sampled = sampler.sample(line.spec, outcome, readings(line, table, setting.horizons), rows)
    if sampled.events is not None:
        counts = codes == 1
        if line.horizon is not None:
            counts &= followed <= line.horizon
        events = people_among(samplers.whole.codes[rows], counts[rows])
        sampled = replace(sampled, events=events, non_events=None)
    spec: Metric = line.spec
    if isinstance(spec, SurvivalMetric):
        event, time = (part[rows] for part in outcome)
        event = event > 0
        said = spec.remark(event, time) if len(time) else ""
        if np.isnan(sampled.points).any() and spec.times:
            said = spec.why(event, time)
        if said and said not in sampled.note:
            note = said if np.isnan(sampled.points).any() else f"{sampled.note}; {said}".strip("; ")
            sampled = replace(sampled, note=note)
    return sampled


def readings(line: Line, table: Predicted, horizons: Horizons | None) -> list[np.ndarray]:
    """What a survival metric reads of the predictions, one array a seed."""
    if line.reads == "values" or (line.is_order and table.orders):
        return [array[:, 0] for array in table.reading(line)]
    assert horizons is not None
    found = table.survival_at(horizons, line.at)
    if line.reads == "curves":
        return found
    survival = [curves[:, 0] for curves in found]
    return [1 - one for one in survival] if line.reads == "risk" else survival


def rows_of(setting: Setting, table: Predicted) -> Iterator[Result]:
    """Turn the metrics of one table into rows."""
    said = "; ".join(table.notes)
    for (target, metric), (line, sampled) in table.sampled.items():
        about = about_row(setting, table, target, metric, line.spec)
        if table.pools_constants:
            note = "not estimable: a fold had too little to fit on; " + said
            yield Result(note=note, **about)
            continue
        few = f"{sampled.draws.size} draws" if line.dear else ""
        if line.note == CONSTANT and CONSTANT in said:
            line = replace(line, note="")  # their model says why
        ranked = RANKED if line.is_order and table.orders else ""
        note = "; ".join(text for text in (line.note, few, ranked, said) if text)
        found = sampled.interval(setting.resampling.level)
        judged = metric in SHOWN_ELSEWHERE and target != "macro" and found.value is not None
        if judged and found.events is not None:
            scarce = too_few_for_curve(found.events, found.non_events or 0)
            note = "; ".join(text for text in (scarce, note) if text)
        yield Result.of(found, note=note, **about)
        if metric == "ici":
            raw = [
                float(one.points.mean())
                for (name, other), (_, one) in table.sampled.items()
                if other == metric and name != "macro" and target in (name, "macro")
            ]
            value = np.nan if found.value is None else float(np.mean(raw))
            yield raw_ici(found, value, table.notes, **{**about, "metric": RAW})


def about_row(
    setting: Setting, table: Predicted, target: str, metric: str, spec: Metric
) -> dict[str, Any]:
    """What a row is about."""
    return {
        **table.about(setting),
        "target": target,
        "kind": setting.targets.kind,
        "metric": metric,
        "direction": spec.direction,
        "protocol": table.protocol,
        "split": table.split,
        "told": ", ".join(table.told),
        **({} if table.counts is None else table.counts.about(target)),
    }


def differences(setting: Setting, tables: Sequence[Predicted], baseline: str) -> Iterator[Result]:
    """Compare each method with the baseline at the same label fraction, draw by draw.

    Metrics that aim at a target (slope, intercept, observed over expected) have no differences: a
    larger one is not better. Differences of AUROC of single predictions carry DeLong's p value, all
    others that of the bootstrap (`Sampled.p_value`), and those out of fold or of few events none
    (`Result.untested`). One that does not exist has no value, and a note of what lacks.
    """
    for table in tables:
        pairs = [t for t in tables if t.method == baseline and t.fraction == table.fraction]
        if table.method == baseline or not pairs:
            continue
        yield from _pair(setting, table, pairs[0])


def _pair(setting: Setting, table: Predicted, other: Predicted) -> Iterator[Result]:
    ours, theirs = table.sampled, other.sampled
    same = np.array_equal(table.rows, other.rows)
    for key, (line, sampled) in ours.items():
        if key not in theirs or not line.compares:
            continue
        mate = theirs[key][1]
        about = {**about_row(setting, table, *key, line.spec), **_who_was_told(table, other)}
        lacks = _lacks(table, sampled) or _lacks(other, mate)
        lacks = lacks if same else f"{table.method} and {other.method} are scored on other people"
        if lacks:
            yield Result(
                n=sampled.n, events=sampled.events, subjects=sampled.subjects,
                non_events=sampled.non_events,
                note=f"no difference: {lacks}", versus=other.method, **about,
            )  # fmt: skip
            continue
        apart = sampled.minus(mate)
        p_value, test = apart.p_value(), "bootstrap, percentile interval inverted"
        if p_value is not None:  # what gives no interval gives no test either
            exact = _delong(setting, table, other, key, table.rows)
            by = "site" if setting.resampling.kind == "site" else "subject"
            p_value, test = (p_value, test) if exact is None else (exact, f"DeLong, by {by}")
        row = Result.of(apart.interval(setting.resampling.level), versus=other.method, **about)
        rarest = _rarest(setting, ours, key)
        said = (
            "" if p_value is None else row.untested or untested(table.split, rarest or row.deciding)
        )
        p_value = None if said else p_value
        said = f"p: {test}" if p_value is not None else said
        alike = _of_nothing(setting, key[0], table, other)
        notes = dict.fromkeys(text for text in (row.note, alike, said, line.note) if text)
        yield replace(row, p_value=p_value, note="; ".join(notes))


def _rarest(setting: Setting, scores: Scores, key: tuple[str, str]) -> tuple[int, str] | None:
    """Who decides a mean over classes: those of the rarest in it; None of anything else."""
    if setting.targets.kind != "multiclass" or key[0] != "macro":
        return None
    each = [
        deciding_of("multiclass", name, one)
        for (name, metric), (_, one) in scores.items()
        if metric == key[1] and name != "macro" and not np.isnan(one.points).any()
    ]
    return min(each, default=None)


def _who_was_told(table: Predicted, other: Predicted) -> dict[str, str]:
    """Say what could have named the outcome to one of two methods, and not to the other."""
    ours, theirs = (
        ", ".join(name for name in a.told if name not in b.told)
        for a, b in ((table, other), (other, table))
    )
    return {"told": ours, "versus_told": theirs}


def _of_nothing(setting: Setting, target: str, *tables: Predicted) -> str:
    """Say which methods tell nobody from others by a target; empty if none.

    Of a mean over targets those that know nothing of any.
    """
    targets = setting.targets.names if target == "macro" else (target,)
    lost = [
        table.method
        for table in tables
        if all(is_alike("; ".join(table.notes), name) for name in targets)
    ]
    return f"{' and '.join(lost)}: {NOBODY_TOLD}" if lost else ""


def _lacks(table: Predicted, sampled: Sampled) -> str:
    """Say why a method has no number to compare; empty if it has one."""
    if table.pools_constants:
        return f"{table.method} is not estimable: a fold had too little to fit on"
    if np.isnan(sampled.points).any():
        return f"{table.method} is not estimable: {sampled.note}".removesuffix(": ")
    return ""


def _delong(
    setting: Setting, table: Predicted, other: Predicted, key: tuple[str, str], rows: np.ndarray
) -> float | None:
    """DeLong's p value of a difference in AUROC; None for several seeds, and for macro means."""
    target, metric = key
    if metric != "auroc" or target == "macro" or len(table.arrays) > 1 or len(other.arrays) > 1:
        return None
    targets = setting.targets.take(setting.scored)
    values, known = one_hot(targets)
    column = targets.names.index(target)
    use = rows & known[:, column]
    found = delong(
        values[use, column],
        table.everyone_alike().ranking[0][use, column],
        other.everyone_alike().ranking[0][use, column],
        setting.resampling.take(setting.scored).units[use],
    )
    return found.p if isinstance(found, AUCDifference) else None
