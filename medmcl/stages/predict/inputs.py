"""What a method reads of each sample: its features, what was there, and what lies outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.findings import Finding, counted
from medmcl.core.targets import Targets
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.protocol.reach import ColumnReach, EmbeddingReach
from medmcl.evaluation.protocol.results import BESIDE, COVARIATES
from medmcl.modalities.ecg.checks.values import NO_BEATS
from medmcl.stages.evaluate.methods import gather
from medmcl.stages.evaluate.scene import RunScene
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.predict.other_codes import OtherCodes
from medmcl.stages.predict.other_coding import OtherCoding, StrangeColumn, shown_in
from medmcl.stages.predict.plan import TaskPlan
from medmcl.stages.predict.saved import COLUMNS, KeptPrediction
from medmcl.stages.run.features import MEASURED, Cells, Covariates, TrainGaps
from medmcl.stages.run.run import Run

if TYPE_CHECKING:
    import torch

UNLIKE_TRAINING = (NO_BEATS,)
"""Warnings about a record that no training cohort is made of: it lies outside, however near its
embedding is."""
TOLD_OTHERWISE = (".unseen",)
"""How codes of warnings end that a column's own line tells."""
MOST_NAMED = 3
"""Columns that a remark names; the others are counted."""


@dataclass(kw_only=True)
class Inputs:
    """What a method reads of N samples.

    Attributes:
        features: (N, E); of a fine-tuned model those of the first probe, for the flag.
        present: Who has what the method needs. (N,) bool
        has: Modality to who has it. (N,) bool each
        reasons: Modality to why somebody does not have it, empty where they do. (N,) object each
        outside: Whether an input lies outside of what the run was trained on; None = unknown.
        outside_of: Which, and how far; empty where none. (N,) object
        implausible: Numbers far beyond the range of train, and what that was; empty where none.
            (N,) object
        remarks: What a reader must know of single samples. (N,) object
        rate: Share of people like those in training that is flagged by chance.
        apart: What is odd about records of covariates, where nothing else reads these.
    """

    features: np.ndarray
    present: np.ndarray
    has: dict[str, np.ndarray]
    reasons: dict[str, np.ndarray]
    outside: np.ndarray | None
    outside_of: np.ndarray
    implausible: np.ndarray
    remarks: np.ndarray
    rate: float = 0.0
    notes: list[str] = field(default_factory=list)
    apart: list[Finding] = field(default_factory=list)


def read_inputs(
    run: Run, plan: TaskPlan, prepared: Prepared, device: torch.device, kept: KeptPrediction
) -> Inputs:
    """Read what a method needs; nothing is fitted.

    Raises:
        ConfigError: The cohort does not have the modality.
    """
    spec, method = plan.spec, plan.method
    covariates: Covariates | None = None
    vectors: dict[str, np.ndarray] = {}
    has: dict[str, np.ndarray] = {}
    notes: list[str] = []
    apart: list[Finding] = []
    count = len(prepared.splits)
    if method == COVARIATES and spec.covariates is not None:
        covariates = Covariates.of(run, prepared.cohort, spec.covariates, is_frozen=True)
        assert covariates is not None  # kept beside the probe that reads it
        features, present = covariates.values, covariates.present
    elif method in ("majority", "Kaplan-Meier"):
        features, present = np.zeros((count, 1)), np.ones(count, dtype=bool)
    else:
        own = _only(spec, method)
        assert own.probe is not None  # methods but covariates alone come beside one
        scene = RunScene(spec=own, run=run, prepared=prepared, device=device, seed=run.seed,
                         notes=[], is_frozen=True)  # fmt: skip
        sources = gather(scene)
        name = next(iter(own.probe.models))
        several = sources.fused.get(name)
        vectors = (
            {str(own.probe.modality): sources.embeddings[name]}
            if several is None
            else dict(several.vectors)
        )
        absent = sources.present[name] if several is None else np.zeros(count, dtype=bool)
        has = {one: prepared.present.get(one, absent) for one in vectors}
        header = run.tasks[plan.task]
        made = sources.methods(_empty(header, count), own.probe.protocol)
        features = np.asarray(made[method if method in made else name].features)
        present = sources.present.get(method, sources.present[name])
        if method == BESIDE:
            covariates = sources.covariates
            assert covariates is not None  # it is among the methods
            present = present & covariates.present
        notes = [note for note in sources.notes if "left out" in note]
    reasons = {
        name: _reasons(prepared, name, prepared.faults(name))
        if name in prepared.present
        else np.full(count, f"no {name}", dtype=object)
        for name in vectors
    }
    if covariates is not None:
        table = str(spec.covariates)
        apart = [] if table in prepared.stored else covariates.warnings
        has[table] = covariates.present
        reasons[table] = _reasons(prepared, table, covariates.faults)
    inputs = Inputs(
        features=features,
        present=present,
        has=has,
        reasons=reasons,
        outside=None,
        outside_of=_blank(len(present)),
        implausible=_blank(len(present)),
        remarks=_blank(len(present)),
        notes=notes,
        apart=apart,
    )
    _flag_embeddings(inputs, plan, vectors, kept)
    _flag_warned(inputs, prepared, vectors)
    for name in vectors:
        if name in prepared.present and (COLUMNS, name) in kept.reach and has[name].any():
            cells = Cells.of_table(prepared, name)
            _flag_numbers(inputs, name, cells, kept, is_only=False)
            gaps = ~cells.known & has[name][:, None]
            _note_gaps(inputs, cells, gaps, "the encoder reads a gap")
    if covariates is not None:
        cells = covariates.cells
        _flag_numbers(inputs, str(spec.covariates), cells, kept, covariates.gaps)
        gaps = ~cells.known & covariates.present[:, None]
        counts = np.array([(name, MEASURED) in covariates.terms for name in cells.columns])
        stands = "the train mean stands in"
        _note_gaps(inputs, cells, gaps & ~counts, stands)
        _note_gaps(inputs, cells, gaps & counts, f"{stands}, and that it is missing counts")
    for name, why in reasons.items():
        said = np.array(
            [one if one.startswith(f"{name}:") else f"{name} left out: {one}" for one in why],
            dtype=object,
        )
        _append(inputs.remarks, inputs.present & (why != "") & ~_absent(why), said)
    return inputs


def _only(spec: EvaluateSpec, method: str) -> EvaluateSpec:
    """The stage with one method, and none of the others beside."""
    assert spec.probe is not None
    models = spec.probe.models
    name = method if method in models else next(iter(models))
    baselines = ("covariates+embedding",) if method == BESIDE else ()
    if method.startswith("simple features"):
        baselines = ("simple",)
    probe = spec.probe.model_copy(update={"models": {name: models[name]}})
    changes = {"probe": probe, "baselines": baselines, "confounders": ()}
    return spec.model_copy(update=changes)


def _empty(header: Targets, count: int) -> Targets:
    """A task over samples of whom nothing is known."""
    width = len(header.columns)
    return replace(
        header, values=np.zeros((count, width)), known=np.zeros((count, width), dtype=bool)
    )


def _reasons(prepared: Prepared, name: str, faults: Mapping[str, str]) -> np.ndarray:
    """Why each sample lacks a modality: absent, or what is wrong with its record."""
    records = prepared.samples[name]
    found = _blank(len(records))
    for row, record in enumerate(records):
        if record is None or record != record:
            found[row] = f"no {name}"
        elif str(record) in faults:
            found[row] = f"{name}: {faults[str(record)]}"
    return found


def _absent(why: np.ndarray) -> np.ndarray:
    return np.array([one.startswith("no ") for one in why], dtype=bool)


def _blank(count: int) -> np.ndarray:
    return np.full(count, "", dtype=object)


def _append(texts: np.ndarray, rows: np.ndarray, said: np.ndarray) -> None:
    """Add what is said of some rows to their texts."""
    for row in np.flatnonzero(rows):
        texts[row] += f"{'; ' if texts[row] else ''}{said[row]}"


def _flag_embeddings(
    inputs: Inputs, plan: TaskPlan, vectors: Mapping[str, np.ndarray], kept: KeptPrediction
) -> None:
    """Flag embeddings far from those of the train people."""
    models = () if plan.spec.probe is None else tuple(plan.spec.probe.models)
    name = plan.method if plan.method in models else next(iter(models), "")
    for modality, x in vectors.items():
        reach = kept.reach.get((name, modality))
        if not isinstance(reach, EmbeddingReach):
            continue
        distance = reach.distance(x)
        far = (distance > 1) & inputs.has[modality]
        said = np.array([f"{modality} embedding at {one:.2g} times the limit" for one in distance])
        _mark(inputs, far, said, reach.rate)


def _flag_warned(inputs: Inputs, prepared: Prepared, names: Iterable[str]) -> None:
    """Flag records whose reader says that they are none of their kind; remark other warnings."""

    def is_plain(code: str) -> bool:
        return code not in UNLIKE_TRAINING and not code.endswith(TOLD_OTHERWISE)

    for name in names:
        if name not in prepared.samples or name not in prepared.stored:
            continue
        for is_told in (UNLIKE_TRAINING.__contains__, is_plain):
            found = prepared.warned(name, is_told)
            records = prepared.samples[name]
            said = np.array([found.get(str(one), "") for one in records], dtype=object)
            odd = (said != "") & inputs.has[name]
            said[odd] = [f"{name}: {one}" for one in said[odd]]
            if is_told is is_plain or inputs.outside is None:  # of the others it stays unknown
                _append(inputs.remarks, odd, said)
            elif odd.any():
                _mark(inputs, odd, said, 0.0)


def _flag_numbers(
    inputs: Inputs,
    table: str,
    cells: Cells,
    kept: KeptPrediction,
    train: TrainGaps | None = None,
    *,
    is_only: bool = True,
) -> None:
    """Flag numbers of a table outside the range of train, and gaps that it hardly had.

    Of a table that is not the only thing that could tell, samples of whom nothing else says whether
    they lie outside are left as they are: not known. What is far beyond the range is noted of all.
    """
    reach, has = kept.reach.get((COLUMNS, table)), inputs.has[table][:, None]
    if not isinstance(reach, ColumnReach):
        return
    own, gaps = reach.of(cells.columns), ~cells.known & has
    outside, rate = own.outside(cells.numbers) & has, own.rate
    if train is not None:
        outside |= train.strange(cells.columns, gaps)
        rate += train.rate

    def said(which: np.ndarray) -> np.ndarray:
        found = _blank(len(which))
        for row in np.flatnonzero(which.any(axis=1)).tolist():
            found[row] = _listed(
                [
                    _missing(cells.columns[column], train)
                    if gaps[row, column] and train is not None
                    else _range(cells, own, row, column)
                    for column in np.flatnonzero(which[row]).tolist()
                ]
            )
        return found

    if is_only or inputs.outside is not None:
        _mark(inputs, outside.any(axis=1), said(outside), rate)
    beyond = own.implausible(cells.numbers) & has
    _append(inputs.implausible, beyond.any(axis=1), said(beyond))


def _note_gaps(inputs: Inputs, cells: Cells, gaps: np.ndarray, stands: str) -> None:
    """Remark which columns somebody lacks, and what stands for them."""
    names = np.array(cells.columns, dtype=object)
    rows, said = np.asarray(gaps.any(axis=1)), _blank(len(gaps))
    said[rows] = [f"{_listed(names[row])} missing: {stands}" for row in gaps[rows]]
    _append(inputs.remarks, rows, said)


def refuse_people(inputs: Inputs, found: Iterable[StrangeColumn], subjects: Sequence[str]) -> None:
    """Take out whoever has a category that training had not, and say which, in place.

    Not where training took rare categories as one: a new one is one of them. A number far beyond
    those of training is told in its row. Whoever has no code that training had lies outside.
    """
    for one in found:
        if isinstance(one, OtherCodes) and one.modality in inputs.has:
            said = np.array([one.said_of(name) for name in subjects], dtype=object)
            odd = (said != "") & inputs.has[one.modality]
            if inputs.outside is None:  # of the others it stays unknown
                _append(inputs.remarks, odd, said)
            else:
                _mark(inputs, odd, said, 0.0)
        if not isinstance(one, OtherCoding) or one.is_pooled:
            continue
        if one.modality in inputs.reasons:
            rows = np.array([name in one.strange for name in subjects]) & inputs.has[one.modality]
            inputs.present &= ~rows
            said = np.array([one.said_of(name) for name in subjects], dtype=object)
            _append(inputs.reasons[one.modality], rows, said)


def _missing(name: str, train: TrainGaps) -> str:
    people = counted(train.people, "person", "people")
    return f"{name} missing (train: in {train.lacking[name]} of {people})"


def _range(cells: Cells, reach: ColumnReach, row: int, column: int) -> str:
    name = cells.columns[column]
    value, low, high = (
        cells.raw(name, float(one))
        for one in (cells.numbers[row, column], reach.low[column], reach.high[column])
    )
    shown = (shown_in(one, low, high, digits=4) for one in (low, high))
    cell = shown_in(value, low, high, digits=6)  # prepared numbers have seven digits, in all
    return f"{name} {cell} (train: {' to '.join(shown)})"


def _mark(inputs: Inputs, far: np.ndarray, said: np.ndarray, rate: float) -> None:
    before = np.zeros(len(far), dtype=bool) if inputs.outside is None else inputs.outside
    inputs.outside = before | far
    inputs.rate += rate
    _append(inputs.outside_of, far, said)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (
        f" and {counted(more, 'more', 'more')}" if more > 0 else ""
    )
