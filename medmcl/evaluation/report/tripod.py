"""The TRIPOD+AI checklist of a report: a part is filled only if it cites a value of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from medmcl.core.config import read_yaml
from medmcl.core.findings import counted
from medmcl.core.suppression import few
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import RiskHistogram
from medmcl.evaluation.protocol.resampling import OVER
from medmcl.evaluation.protocol.results import CROSS_VALIDATION, headline_rows
from medmcl.evaluation.report.patterns import presence
from medmcl.evaluation.report.small_rows import is_mean
from medmcl.evaluation.report.words import listed, measured, metric_name, people_shown


@dataclass(frozen=True)
class Part:
    """A part of an item.

    Attributes:
        code: As ``12c``; the digits are the item.
        section: Section of a paper.
        topic: Topic in a few words.
        asks: What is to be reported.
        applies: ``D``, ``E`` or ``D;E``.
        remains: What no run can say, if it can say something.
    """

    code: str
    section: str
    topic: str
    asks: str
    applies: str = "D;E"
    remains: str = ""

    @property
    def item(self) -> int:
        """Number of the item, 1 to 27."""
        return int(self.code.rstrip("abcdefg"))


PARTS = tuple(
    Part(**one) for one in read_yaml(Path(__file__).with_name("tripod_items.yaml"))["parts"]
)


TO_COMPLETE = "to complete by the author"
MOST_CITED = 6  # names in one citation; the others are counted


@dataclass(frozen=True, kw_only=True)
class Cited:
    """A part of the checklist with what the run says.

    Attributes:
        part: The part.
        value: What the run can cite; None = to complete by the author.
    """

    part: Part
    value: str | None

    @property
    def shown(self) -> str:
        """The value and what remains to be said, or that the author must complete it."""
        if self.value is None:
            return TO_COMPLETE
        remains = f" Still to say: {self.part.remains}." if self.part.remains else ""
        return f"{self.value}{remains}"


@dataclass(frozen=True, kw_only=True)
class Checklist:
    """The whole checklist, in order."""

    cited: tuple[Cited, ...]

    @property
    def items(self) -> dict[int, tuple[Cited, ...]]:
        """Item number to its parts."""
        numbers = dict.fromkeys(one.part.item for one in self.cited)
        return {n: tuple(c for c in self.cited if c.part.item == n) for n in numbers}

    @property
    def filled(self) -> int:
        """Items of which every part cites a value."""
        return sum(all(c.value is not None for c in parts) for parts in self.items.values())

    @property
    def begun(self) -> int:
        """Items of which some parts cite a value and some do not."""
        some = sum(any(c.value is not None for c in parts) for parts in self.items.values())
        return some - self.filled

    @property
    def count(self) -> str:
        """How much of it the run answers, in a sentence."""
        parts = sum(c.value is not None for c in self.cited)
        return (
            f"{self.filled} of {len(self.items)} items have a value from this run in every part, "
            f"{self.begun} more in some parts ({parts} of {len(self.cited)} parts). A value is no "
            "judgement: the author checks each of them, and completes the others."
        )


def checklist(data: Evaluation) -> Checklist:
    """Fill in what the run can cite.

    Source: Collins et al. 2024, BMJ 385:e078378. Differs: wording is ours.
    """
    return Checklist(
        cited=tuple(
            Cited(part=part, value=CITE[part.code](data) or None if part.code in CITE else None)
            for part in PARTS
        )
    )


def _named(
    names: Iterable[str], start: str = "", end: str = ".", between: str = "; ", most: int = 6
) -> str:
    """Put names into a sentence, the first few and how many more; nothing without any."""
    every = list(dict.fromkeys(names))
    return f"{start}{listed(every, most, between)}{end}" if every else ""


def _source(data: Evaluation) -> str:
    own = data.provenance.get("cohort_fingerprint")
    mark = data.provenance.get("scored cohort fingerprint", own)
    said = f" (fingerprint {mark})" if mark else ""
    return f"{data.study.about}{said}." if data.study.about else ""


def _dates(data: Evaluation) -> str:
    study = data.study
    if not (study.first_date and study.last_date):
        return ""
    index = f" Outcomes are counted from {study.index}." if study.index else ""
    return f"Records from {study.first_date} to {study.last_date}.{index}"


def _preparation(data: Evaluation) -> str:
    made = [f"{p.name}: {p.preparation}" for p in data.study.predictors if p.preparation]
    if not made:
        return ""
    out = sum(finding.level == "error" for finding in data.findings)
    return f"{'; '.join(made)}. {counted(out, 'finding')} of the checks excluded records."


def _missing(data: Evaluation) -> str:
    found = presence(data.missingness)
    if found is None or not data.study.gaps:
        return ""
    shares = [f"{name} {share}" for name, share in found.absent.items()]
    return f"Absent in samples: {listed(shares, MOST_CITED)}. {'; '.join(data.study.gaps)}."


def _division(data: Evaluation) -> str:
    sizes = {step: subjects for step, subjects, _ in data.flow}
    parts = [
        f"{name} {few(sizes[name])}" for name in ("train", "tuning", "held_out") if name in sizes
    ]
    if not (data.study.split_rule and parts):
        return ""
    if folds := _in_folds(data):
        most = max(row.subjects or row.n for row in data.main_rows)
        return f"{folds}People scored: {few(most)}; no split was scored."
    return f"{data.study.split_rule}; subjects: {', '.join(parts)}."


def _handling(data: Evaluation) -> str:
    lines = (
        f"{line.what} on {' and '.join(line.splits)}"
        if line.splits
        else f"{line.what} elsewhere ({line.note or 'on whom is not known'})"
        for line in data.fitted
        if not line.labels
    )
    return _named(lines, "Fitted: ")


def _model(data: Evaluation) -> str:
    towers = [f"{name}: {what}" for name, what in data.study.towers.items()]
    if not towers or not data.study.training:
        return ""
    return f"{'; '.join(towers)}. {' '.join(data.study.training)}"


def _clusters(data: Evaluation) -> str:
    groups = [row for row in data.subgroups if row.attribute == "site"]
    names = dict.fromkeys(row.group for row in groups if row.value is not None)
    metrics = dict.fromkeys(metric_name(row.metric) for row in groups if row.value is not None)
    if not names:
        return ""
    return f"{listed(list(metrics), MOST_CITED)} in each of {counted(len(names), 'site')}."


def _measures(data: Evaluation) -> str:
    names = dict.fromkeys(metric_name(row.metric) for row in data.task_rows if not row.versus)
    if not names:
        return ""
    spans = any(row.low is not None for row in data.task_rows)
    drawn = OVER[data.resampling]
    wide = f", with {100 * data.level:g} % intervals {drawn}" if spans else ""
    compared = any(row.versus for row in data.task_rows)
    paired = "; methods compared by paired differences" if compared else ""
    return f"{listed(list(names), 20)}{wide}{paired}."


OUTPUTS = {
    "binary": "a probability",
    "multilabel": "a probability of each label",
    "multiclass": "a probability of each class",
    "survival": "a risk",
}


def _span(found: RiskHistogram) -> tuple[float, float]:
    """Borders of the bins that hold predictions."""
    held = [k for k, count in enumerate(found.counts) if count]
    return found.edges[held[0]], found.edges[held[-1] + 1]


def _output(data: Evaluation) -> str:
    spans: dict[tuple[str, str], tuple[float, float]] = {}
    for one in data.evidence:
        if one.method == data.method and one.histogram is not None and any(one.histogram.counts):
            by = f" by {one.horizon:g} {one.unit}".rstrip() if one.horizon is not None else ""
            key, span = (one.task, OUTPUTS[one.kind] + by), _span(one.histogram)
            low, high = spans.get(key, span)
            spans[key] = (min(low, span[0]), max(high, span[1]))
    shown = [
        f"{task}: {what}, among the scored from {low:.2f} to {high:.2f}"
        for (task, what), (low, high) in spans.items()
    ]
    return _named(shown)


def _in_folds(data: Evaluation) -> str:
    """How people were parted where every task is scored in folds; empty elsewhere."""
    rows = data.main_rows
    if not rows or any(row.split != CROSS_VALIDATION for row in rows):
        return ""
    alone = data.table_one is not None and len(data.table_one.splits) > 1
    rest = (
        "who were fitted on and never scored stand apart in Table 1"
        if alone
        else "so people fitted on and people scored are the same"
    )
    ways = dict.fromkeys(row.protocol.partition(", ")[2] for row in rows)
    return (
        f"Scored out of fold ({listed(list(ways), MOST_CITED)}): nobody by a fit that saw them, "
        f"all by fits on the others; {rest}. "
    )


def _splits_differ(data: Evaluation) -> str:
    table = data.table_one
    if table is None:
        return ""
    folds = _in_folds(data)
    found = [
        (value, row.variable, table.splits[column])
        for row in table.rows
        for column, value in enumerate(row.differences)
        if value is not None
    ]
    if not found:
        return folds
    value, variable, split = max(found)
    return (
        f"{folds}Table 1; the largest standardised difference to {table.splits[0]} is {value:.2f} "
        f"({variable}, {split})."
    )


def _code(data: Evaluation) -> str:
    versions = data.provenance.get("versions")
    version = versions.get("medmcl") if isinstance(versions, dict) else ""
    return f"medmcl {version}." if version else ""


def _analysed(data: Evaluation) -> str:
    rows = [headline_rows(data.task_rows, task)[:1] for task in _tasks(data)]
    shown = [
        f"{row.task} {people_shown(row.n, row.subjects or row.n)}"
        + ("" if row.events is None or is_mean(row) else f" with {row.events:,} events")
        for found in rows
        for row in found
    ]
    fitted = [line for line in data.fitted if line.labels and line.subjects is not None]
    if not (shown and fitted):
        return ""
    trained = dict.fromkeys(f"{line.what} on {line.subjects:,} subjects" for line in fitted)
    return f"Scored: {listed(shown, MOST_CITED)}. Fitted: {listed(list(trained), MOST_CITED)}."


def _specified(data: Evaluation) -> str:
    mark = data.provenance.get("config_hash")
    if not mark:
        return ""
    parts = {"coefficients.csv": data.coefficients, "baseline.csv": data.baselines}
    written = [name for name, rows in parts.items() if rows]
    own = (
        f"; the models of the covariates written out in {' and '.join(written)}" if written else ""
    )
    return f"config.yaml and weights of the run, settings hash {mark}{own}."


def _performance(data: Evaluation) -> str:
    found = []
    for task in _tasks(data):
        rows = [row for row in headline_rows(data.task_rows, task) if row.method == data.method]
        rows = [row for row in rows if row.value is not None and row.low is not None]
        if rows:
            best = max(rows, key=lambda row: row.label_fraction)
            found.append(f"{task}: {measured(best.metric, best.target)} {best.shown}")
    return _named(found)


def _between(data: Evaluation) -> str:
    rows = [r for r in data.subgroups if r.attribute == "site" and r.value is not None]
    if len({row.group for row in rows}) < 2:
        return ""
    first = [r for r in rows if (r.task, r.target, r.method, r.metric) == _key(rows[0])]
    values = [row.value for row in first if row.value is not None]
    low, high = min(values), max(values)
    name = metric_name(rows[0].metric)
    return f"{rows[0].task}: {name} from {low:.3f} to {high:.3f} over {len(first)} sites."


def _key(row: object) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in ("task", "target", "method", "metric"))


def _tasks(data: Evaluation) -> list[str]:
    return list(dict.fromkeys(row.task for row in data.task_rows))


CITE: dict[str, Callable[[Evaluation], str]] = {
    "5a": _source,
    "5b": _dates,
    "6a": lambda data: (
        "" if data.study.sites is None else f"{counted(data.study.sites, 'site')}."
    ),
    "6b": lambda data: _named(data.study.eligibility),
    "7": _preparation,
    "8a": lambda data: _named(one.shown for one in data.study.outcomes),
    "9b": lambda data: _named(
        (f"{p.name} ({p.kind}): {p.source}" for p in data.study.predictors if p.source), most=99
    ),
    "11": _missing,
    "12a": _division,
    "12b": _handling,
    "12c": _model,
    "12d": _clusters,
    "12e": _measures,
    "12g": lambda data: _named(
        (row.protocol.replace("_", " ") for row in data.task_rows),
        "By ", ", with the weights of the run.", ", ",
    ),
    "14": lambda data: _named(
        (row.attribute for row in data.subgroups
         if row.attribute != "everyone" and row.value is not None),
        "Performance by ", ".", ", ",
    ),
    "15": _output,
    "16": _splits_differ,
    "18f": _code,
    "20a": lambda data: _named(
        (f"{step} {few(subjects)}" for step, subjects, _ in data.flow),
        "Subjects: ", "; the figure of the flow.", ", ", 12,
    ),
    "20b": lambda data: _named(
        (row.variable for row in (data.table_one.rows[1:] if data.table_one else ())),
        "Table 1: ", ".", ", ",
    ),
    "20c": _splits_differ,
    "21": _analysed,
    "22": _specified,
    "23a": _performance,
    "23b": _between,
}  # fmt: skip
"""Part of the checklist to what says what the run can cite; empty: the author completes it."""
