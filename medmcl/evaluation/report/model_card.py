"""The model card: what a model is, on whom it was scored, and what nobody knows about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from medmcl.core.findings import counted
from medmcl.core.suppression import few
from medmcl.evaluation.aspects.tasks.doubtful import doubtful, is_of_nothing
from medmcl.evaluation.metrics.calibration_curve import Calibration
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import ENCODER_OF
from medmcl.evaluation.protocol.predicted import CROSS_VALIDATION
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.columns import MEASURED, VALUE, Cells, rounded, written
from medmcl.evaluation.report.labelled import FEW_EVENTS, deciding
from medmcl.evaluation.report.words import at_level, escaped, held_back_by_reason, listed

COMPLETE = "To be completed by the author."
MOST_ROWS = 60
NOTHING = "not claimed: nearly the same prediction for everyone"


@dataclass(frozen=True, kw_only=True)
class CardSection:
    """A section of the card.

    Attributes:
        title: Heading.
        lines: Plain sentences.
        header: Columns of its table.
        rows: Cells of the table, as text.
    """

    title: str
    lines: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The card; `markdown` writes it as a file."""

    title: str
    front: dict[str, Any]
    sections: tuple[CardSection, ...]

    def markdown(self) -> str:
        """Give the card as Markdown with YAML front matter (JSON values, which YAML reads)."""
        front = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in
                 self.front.items()]  # fmt: skip
        parts = ["---", *front, "---", "", f"# {escaped(self.title)}", ""]
        for section in self.sections:
            parts += [f"## {section.title}", ""]
            parts += [f"- {escaped(line)}" for line in section.lines]
            parts += [""] if section.lines else []
            if section.rows:
                lines = [section.header, ["---"] * len(section.header)]
                body = [[escaped(cell) for cell in row] for row in section.rows]
                parts += [*("| " + " | ".join(cells) + " |" for cells in (*lines, *body)), ""]
        return "\n".join(parts).rstrip() + "\n"


def model_card(data: Evaluation) -> ModelCard:
    """Make the card from what the report holds; what it does not hold is said to be missing.

    Source: headings after Mitchell et al. 2019, FAT* 220-229. Differs: a section of what is not
    known; nothing is filled in that the run does not say.
    """
    sections = (
        CardSection(title="Intended use", lines=(
            f"Users, setting and decision: {COMPLETE}",
            f"Uses that are out of scope: {COMPLETE}",
            "A research result. The run holds no approval for care.",
        )),
        *_data_sections(data),
        CardSection(title="Modalities", lines=() if data.study.predictors else ("Not stated.",),
                    **written(data.study.predictors, ("modality", "name"), "kind",
                              ("records", lambda one: one.source or "not stated"),
                              ("preparation", lambda one: one.preparation or "not stated"))),
        CardSection(title="Model", lines=_model(data)),
        CardSection(title="Performance", **_performance(data),
                    lines=_doubts(data) if data.task_rows else ("Nothing was evaluated.",)),
        CardSection(title="Calibration", **_calibration(data),
                    lines=() if _calibration(data)["rows"] else ("Not assessed.",)),
        _subgroups(data),
        CardSection(title="Limits", lines=_limits(data) or ("None were found by the checks.",)),
        CardSection(title="What is not known", lines=_unknown(data)),
    )  # fmt: skip
    return ModelCard(title=f"Model card: {data.title}", front=_front(data), sections=sections)


def _front(data: Evaluation) -> dict[str, Any]:
    """Keys of a hub's card that the run can answer, and no others."""
    front: dict[str, Any] = {"library_name": "medmcl"}
    if data.study.licence:
        front["license"] = data.study.licence
    kinds = dict.fromkeys(predictor.kind for predictor in data.study.predictors)
    if kinds:
        front["tags"] = list(kinds)
    scored = [row for row in data.main_rows
              if row.value is not None and not is_of_nothing(data.task_rows, row)]  # fmt: skip
    if scored:
        front["metrics"] = list(dict.fromkeys(row.metric for row in scored))
        name = str(data.provenance.get("recipe") or data.title)
        cohort = data.scored_on or "not stated"
        results = [
            {
                "task": {"type": row.kind, "name": row.task},
                "dataset": {"type": "cohort", "name": cohort, "split": row.split},
                "metrics": [{"type": row.metric, "value": row.value}],
            }
            for row in scored[:MOST_ROWS]
        ]
        front["model-index"] = [{"name": name, "results": results}]
    return front


def _data_sections(data: Evaluation) -> tuple[CardSection, ...]:
    """Training data; apart from it the cohort that was scored, if it is another."""
    if not data.study.external:
        return (CardSection(title="Training data", lines=_described(data)),)
    mark = data.provenance.get("cohort_fingerprint")
    # On which splits of the cohort it was trained on the kept probes were fitted
    kept = dict.fromkeys(
        f"{' and '.join(line.splits)} ({few(line.subjects)} subjects)"
        for line in data.fitted
        if line.labels and line.use == "fit" and line.subjects is not None
    )
    trained = (
        f"Cohort: {data.trained_on or 'not stated'}" + (f" (fingerprint {mark})." if mark else "."),
        "Subjects: those of the stages under Model. More is in the model card of the run itself.",
        *((f"Split: fitted on {listed(list(kept), 4, '; ')} of that cohort.",) if kept else ()),
    )
    scored = (f"Cohort: {data.scored_on or 'not stated'}.", *_described(data))
    return (
        CardSection(title="Training data", lines=trained),
        CardSection(title="Evaluation data", lines=scored),
    )


def _described(data: Evaluation) -> tuple[str, ...]:
    """What the files of the scored cohort say of it."""
    study, sizes = data.study, {step: subjects for step, subjects, _ in data.flow}
    counts = [
        f"{name} {few(sizes[name])}" for name in ("train", "tuning", "held_out") if name in sizes
    ]
    last = [f"{few(people)} ({step})" for step, people, _ in data.flow[-1:]]
    dates = f"{study.first_date} to {study.last_date}" if study.first_date else "not stated"
    return (
        f"Source: {study.about or 'not stated'}.",
        f"Subjects: {', '.join(counts or last) or 'not recorded'}.",
        f"Split: {study.split_rule or 'not stated'}.",
        f"Dates of records: {dates}.",
        f"Sites: {'not stated' if study.sites is None else study.sites}.",
        f"Eligible: {listed(study.eligibility, 8, '; ') or 'not stated'}.",
    )


def _model(data: Evaluation) -> tuple[str, ...]:
    towers = [f"{name}: {what}." for name, what in data.study.towers.items()]
    given = [
        f"{line.what[0].upper()}{line.what[1:]}: {line.note}."
        for line in data.fitted
        if line.what.startswith(ENCODER_OF)
    ]
    return (*towers, *data.study.training, *given) or ("Not stated.",)


def _doubts(data: Evaluation) -> tuple[str, ...]:
    """What the first page doubts of the numbers."""
    return tuple(f"In doubt: {line}." for line in doubtful(data))


def _performance(data: Evaluation) -> Cells:
    def value(row: Result) -> str:
        return NOTHING if is_of_nothing(data.task_rows, row) else row.shown

    return written(data.main_rows[:MOST_ROWS], "task", MEASURED, "method", "protocol", "labels",
                   "split", (at_level(VALUE, data.level), value), "n", "events")  # fmt: skip


def _calibration(data: Evaluation) -> Cells:
    shown = [
        {**vars(found), "task": one.task, "target": one.target}
        for one in data.evidence
        if isinstance(found := one.calibration, Calibration)
        and one.method == data.method
        and one.label_fraction == 1
    ]
    return written(
        shown[:MOST_ROWS], "task", "target", ("slope (1 is best)", "slope"),
        ("observed / expected (1)", "observed_expected"), ("ICI (corrected, 0)", "ici"),
        ("ICI (raw, 0)", rounded("ici_uncorrected")),
    )  # fmt: skip


def _subgroups(data: Evaluation) -> CardSection:
    rows = [row for row in data.subgroups if row.method == data.method]
    more = len(rows) - MOST_ROWS
    lines = (f"{more} more rows are in subgroups.csv.",) if more > 0 else ()
    cells = written(rows[:MOST_ROWS], "task", MEASURED, "by", "group",
                    (at_level(VALUE, data.level), "shown"), "n", "events")  # fmt: skip
    return CardSection(title="Subgroups", lines=lines if rows else ("Not assessed.",), **cells)


_BY_SUBTRACTION = ", so that a smaller one cannot be told by subtraction"


def _limits(data: Evaluation) -> tuple[str, ...]:
    lines = [] if data.rounding is None else [data.rounding.said]
    rows = data.main_rows
    scarce = [f"{task} ({few(n)} {what})" for task, (n, what) in deciding(data).items()
              if n < FEW_EVENTS]  # fmt: skip
    if scarce:
        lines.append(f"Fewer than {FEW_EVENTS} decide: {listed(scarce, 8)}.")
    lost = [row.task for row in rows if row.value is None]
    if lost:
        lines.append(f"Not estimable: {listed(lost, 8)}.")
    excluded = sum(finding.level == "error" for finding in data.findings)
    if excluded:
        lines.append(f"{counted(excluded, 'finding')} of the checks excluded records.")
    for why, names in held_back_by_reason(data.subgroups).items():
        because = "" if why.startswith("too small") else _BY_SUBTRACTION
        lines.append(f"Groups {why}{because}: {listed(names, 8)}.")
    if any(line.peeks for line in data.fitted):
        lines.append("Something was fitted on held_out: its results are no test.")
    if rows and not data.study.external:
        folds = any(row.split == CROSS_VALIDATION for row in rows)
        how = "out of fold, each by a fit without them, in" if folds else "on held-out subjects of"
        lines.append(f"Scored {how} the cohort it was trained on, not elsewhere.")
    return tuple(lines)


def _unknown(data: Evaluation) -> tuple[str, ...]:
    study = data.study
    rows = data.main_rows
    is_of_folds = bool(rows) and all(row.split == CROSS_VALIDATION for row in rows)
    own = not study.external  # then the study describes the training data
    missing = [
        ("How it performs in another cohort.", study.external),
        ("How it performs in women and men, ages, or sites.", bool(data.subgroups)),
        ("Whether its probabilities are calibrated.", bool(_calibration(data)["rows"])),
        ("Whether acting on it does more good than harm at any threshold.",
         any(one.decision for one in data.evidence)),
        ("On what each part was fitted.", bool(data.fitted)),
        ("When the records it was trained on were made.", own and bool(study.first_date)),
        ("From which sites they come.", own and study.sites is not None),
        ("How the scored people compare with those it was trained on." if study.external
         else "How the splits compare.",
         is_of_folds or (data.table_one is not None and len(data.table_one.splits) > 1)),
    ]  # fmt: skip
    fixed = (
        "Whether outcomes were assessed without knowledge of the inputs.",
        "What happens to patients when it is used.",
    )
    return (*(text for text, known in missing if not known), *fixed)
