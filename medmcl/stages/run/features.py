"""What a run's frozen stages say of a cohort's samples: embeddings, predictions, covariates."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from medmcl.core.config import nearest
from medmcl.core.contracts import Predicts
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.findings import Finding
from medmcl.core.progress import progress
from medmcl.core.rng import RowGenerator
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared, prepare
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.data.loading.views import View
from medmcl.data.loading.worker_pool import beside
from medmcl.data.tables.mapped import held, unnamed
from medmcl.engine.signals import stop_if_asked
from medmcl.evaluation.protocol.reach import RATE, limit_of
from medmcl.stages.run.run import Run, bears_copies, embed_samples, reading_of
from medmcl.stages.run.seen import no_split_to_heed, seen_people
from medmcl.stages.train.spec import TowersSpec

if TYPE_CHECKING:
    import torch

EVALUATE_ROWS = 256
"""Samples of one forward pass."""
READING = "probes/covariates"
"""Where a run keeps how it reads covariates."""
UNSCALED = (0.0, 1.0)
"""Mean and deviation of numbers that were not standardised."""
NUMBER = -1
"""Stands for the level of a column of numbers."""


def sample_vectors(
    run: Run,
    prepared: Prepared,
    stage: str,
    modality: str,
    space: str,
    device: torch.device,
    alone: np.ndarray | None = None,
) -> np.ndarray:
    """Embed a modality of every sample, (N, E); zeros where it is absent.

    ``alone``: samples that are encoded one a pass, (N,) bool; see `embed_records`.
    """
    rows = np.arange(len(prepared.splits))
    towers = run.towers(stage, device)
    found = embed_samples(towers, prepared, modality, rows, space, device, alone)
    return found.astype(np.float64)


def scored_alone(prepared: Prepared, *, is_frozen: bool = False) -> np.ndarray:
    """Samples that may be scored: their inputs are encoded one a pass. (N,) bool.

    So that whoever is scored gets the same prediction, to the last bit, when they come alone.
    ``is_frozen``: nothing is fitted on the cohort, so that everybody may be scored.
    """
    return np.asarray((prepared.splits == "held_out") | is_frozen)


def scored_rows(run: Run, prepared: Prepared, *, is_outside: bool = False) -> np.ndarray:
    """Samples that may be scored without labels: those of held_out whom the run has not seen.

    ``is_outside``: of another cohort on which nothing is fitted, all if it has no held_out or
    declares no split.
    """
    rows = prepared.rows("held_out")
    if is_outside and (not len(rows) or no_split_to_heed(run, prepared.cohort)):
        rows = np.arange(len(prepared.splits))
    seen = seen_people(run, prepared)
    return rows if seen is None else rows[~seen[rows]]


def predict(
    run: Run,
    stage: str,
    prepared: Prepared,
    targets: Targets,
    device: torch.device,
    rows: np.ndarray | None = None,
    alone: np.ndarray | None = None,
) -> np.ndarray:
    """Predictions of a fine-tuned stage on some samples, (N, C); zeros elsewhere.

    Args:
        run: The run.
        stage: Name of the stage.
        prepared: The cohort.
        targets: The task, as the cohort has it.
        device: Where to run.
        rows: Samples (indices); default the held-out ones.
        alone: Those of them that are encoded one a pass (see `embed_records`); default all.

    Raises:
        ArtefactError: If the task of the run and of the cohort differ in columns or classes.
    """
    import torch

    spec = run.stage(stage)
    known = run.tasks[str(spec.task)]
    if (known.columns, known.classes, known.kind) != (
        targets.columns,
        targets.classes,
        targets.kind,
    ):
        raise ArtefactError(
            f"the task '{targets.name}' is not the one the run was trained for",
            got=f"{targets.kind} {targets.columns} {targets.classes}",
            expected=f"{known.kind} {known.columns} {known.classes}",
        )
    learner = run.learner(stage, device)
    (objective,) = learner.objectives.values()
    view = plain_view(spec, prepared)
    rows = prepared.rows("held_out") if rows is None else rows
    rows = rows[np.logical_and.reduce([prepared.present[name][rows] for name in spec.towers])]
    answer = np.zeros((len(targets.values), targets.num_outputs))
    apart = np.isin(rows, rows if alone is None else alone)

    def made(chosen: np.ndarray) -> np.ndarray:
        stop_if_asked(f"predicting by {stage}")
        batch = prepared.batch(chosen, modalities=spec.towers).to(device)
        with torch.no_grad():
            values = cast(Predicts, objective).predict(learner.model(view(batch)))
        return values.float().cpu().numpy()

    passes = [*chunks(rows[~apart]), *rows[apart, None]]
    before = np.cumsum([0, *map(len, passes)])
    with progress(f"predicting by {stage}", len(rows)) as bar:
        done = beside(made, passes, forks=bears_copies(device), told=lambda n: bar(before[n]))
        for chosen, values in zip(passes, done, strict=True):
            answer[chosen] = values
    return answer


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Cells of a table as its adapter read them, N rows of F columns.

    Attributes:
        columns: Names of the F columns.
        known: Which cells are not missing. (N, F) bool
        numbers: Standardised; NaN in columns of categories, and where missing. (N, F)
        scales: Mean and deviation of each column of numbers, by name; none of what is no table
            (components of genotypes).
    """

    columns: tuple[str, ...]
    known: np.ndarray
    numbers: np.ndarray
    scales: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, adapter: Any, values: np.ndarray, known: np.ndarray) -> Cells:
        """Of values (N, F) that a table adapter prepared, and which of them are known."""
        shape = adapter.input_shape
        is_level = np.array(shape.cardinalities) > 0
        numbers = unnamed(values.shape)
        np.copyto(numbers, values, where=known & ~is_level)
        return cls(
            columns=shape.names,
            known=known,
            numbers=numbers,
            scales={n: tuple(scale) for n, scale in adapter.state().get("scales", {}).items()},
        )

    @classmethod
    def of_table(cls, prepared: Prepared, modality: str) -> Cells:
        """Of a table that was prepared, of each sample."""
        stored = np.asarray(prepared.inputs(modality))[np.maximum(prepared.index(modality), 0)]
        values, flags = stored[:, 0], stored[:, 1]
        known = prepared.present[modality][:, None] & (flags > 0)
        return cls.of(prepared.adapters[modality], values, known)

    def raw(self, column: str, number: float) -> float:
        """Undo the standardisation of a number."""
        mean, deviation = self.scales.get(column, UNSCALED)
        return number * deviation + mean


@dataclass(frozen=True, kw_only=True)
class Covariates:
    """A table as plain features, and what its adapter learned from train rows.

    Attributes:
        values: Presence flags of which train has enough people with and without, standardised
            numbers, one column a level: what varies among the train rows. A category that is
            missing and has no such flag has the shares of its levels in train. (N, F)
        present: Samples that have the table. (N,) bool
        cells: The same cell by cell.
        faults: Record to why it cannot be used.
        warnings: What is odd about its records; levels that are new are told by column.
        reading: Settings and state of the adapter, and the terms, to read another cohort alike.
        terms: What each of the F is: a column of the table, and ``measured``, a level of it, or
            nothing for the number itself.
        gaps: What train people lacked; None of a run that did not count.
    """

    values: np.ndarray
    present: np.ndarray
    cells: Cells
    faults: dict[str, str]
    warnings: list[Finding]
    reading: dict[str, Any]
    terms: tuple[tuple[str, str], ...]
    gaps: TrainGaps | None

    def without(self, columns: Collection[str]) -> np.ndarray:
        """Give the values with what some columns of the table say taken out: zeros. (N, F)."""
        shown = np.array([column not in columns for column, _ in self.terms], dtype=bool)
        return self.values if shown.all() else held(self.values * shown)

    def stand_in(self, column: str, what: str) -> float:
        """Give what stands for a term of a category, or a flag, where its cell is missing."""
        has_flag = (column, MEASURED) in self.terms
        return 0.0 if has_flag else float(self.reading["shares"].get(column, {}).get(what, 0.0))

    @classmethod
    def of(
        cls, run: Run, cohort: Cohort, modality: str, *, is_frozen: bool = False
    ) -> Covariates | None:
        """Read a modality of a cohort, prepared as the recipe says where it reads it, too.

        ``is_frozen``: as the run read its own, None if not kept. Columns that the
        run had and the cohort does not name are zeros: who leaves them out knows that they do not
        count.

        Raises:
            ConfigError: The cohort has no such modality, or columns that the run did not read.
        """
        if modality not in cohort.spec.modalities:
            raise ConfigError(
                f"the covariates '{modality}' are not a modality of the cohort",
                expected=", ".join(cohort.spec.modalities),
            )
        own = {"settings": run.recipe.inputs.get(modality, {})}
        kept = kept_reading(run, modality) if is_frozen else own
        if kept is None:
            return None
        prepared = prepare(
            cohort,
            {modality: kept["settings"]},
            cache=run.cache,
            fitted={modality: _state_here(kept["state"], cohort, modality)} if is_frozen else None,
            splits="all",
        )
        adapter: Any = prepared.adapters[modality]
        index = prepared.index(modality)
        stored = np.asarray(prepared.inputs(modality))
        if not np.array_equal(index, range(len(stored))):
            stored = stored[np.maximum(index, 0)]
        values, flags = stored[:, 0], stored[:, 1]
        shape, state, has = adapter.input_shape, adapter.state(), prepared.present[modality]
        terms = [(name, MEASURED) for name in shape.names]
        cells: list[tuple[int, int | None]] = [(place, None) for place in range(len(terms))]
        for place, (name, levels) in enumerate(zip(shape.names, shape.cardinalities, strict=True)):
            said = ("unseen", *state["levels"][name]) if levels else ("",)
            terms += [(name, one) for one in said]
            cells += [(place, level) for level in (range(levels) if levels else [NUMBER])]
        told = partial(_term, values, flags, has, cells)
        known = has[:, None] & (flags > 0)
        if is_frozen and "terms" in kept:
            shown = tuple((str(term[0]), str(term[1])) for term in kept["terms"])
            shares = kept.get("shares", {})
            gaps = TrainGaps.read(kept.get("gaps"))
        else:
            train = has & (prepared.splits == "train")
            people = prepared.subjects[train]
            keep = np.ones(len(terms), bool)
            if train.any():
                keep[:] = [np.ptp(told(term)[train]) > 0 for term in range(len(terms))]
                keep[: len(shape.names)] = indicators_that_count(known[train], people)
            shown = tuple(term for term, one in zip(terms, keep, strict=True) if one)
            shares = _shares(
                terms, lambda term: told(term)[train], known[train], shape.names,
                state.get("levels", {}),
            )  # fmt: skip
            gaps = TrainGaps.of(shape.names, known[train], people)
        places = {term: place for place, term in enumerate(terms)}
        found = unnamed((len(has), len(shown)))
        found[:] = 0
        for number, (name, what) in enumerate(shown):
            if (name, what) not in places:
                continue
            found[:, number] = told(places[name, what])
            if what in shares.get(name, {}) and (name, MEASURED) not in shown:
                lacks = has & ~known[:, shape.names.index(name)]
                found[lacks, number] = shares[name][what]
        settings = json.loads(adapter.settings.model_dump_json())
        return cls(
            values=found,
            present=has,
            cells=Cells.of(adapter, values, known),
            faults=prepared.faults(modality),
            warnings=[one for one in prepared.warnings if not one.code.endswith(".unseen")],
            reading={
                "settings": settings,
                "state": state,
                "terms": [list(one) for one in shown],
                "shares": shares,
                "gaps": None if gaps is None else gaps.about(),
                **reading_of(cohort, modality),
            },
            terms=shown,
            gaps=gaps,
        )


def _term(
    values: np.ndarray,
    flags: np.ndarray,
    has: np.ndarray,
    told: Sequence[tuple[int, int | None]],
    term: int,
) -> np.ndarray:
    """Give a term of each sample, zero where it has no table. (N,) float64.

    ``told``: of each term the column, and the level of a category, `NUMBER`, or None of a flag.
    """
    place, level = told[term]
    column, there = (cells[:, place].astype(np.float64) for cells in (values, flags))
    if level is None:
        return there * has
    return (column if level == NUMBER else column.astype(int) == level) * there * has


def _shares(
    terms: Sequence[tuple[str, str]],
    told: Callable[[int], np.ndarray],
    known: np.ndarray,
    names: Sequence[str],
    levels: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, float]]:
    """Share of each level, ``told`` of train rows (N,), among those with a cell of its column."""
    found: dict[str, dict[str, float]] = {name: {} for name in levels}
    for place, (name, what) in enumerate(terms):
        if name in levels and what != MEASURED:
            there = known[:, names.index(name)]
            found[name][what] = float(told(place)[there].mean()) if there.any() else 0.0
    return found


def _state_here(state: Mapping[str, Any], cohort: Cohort, modality: str) -> dict[str, Any]:
    """The state of an adapter, of a table for the columns that a cohort has.

    Raises:
        ConfigError: It has others.
    """
    if not cohort.spec.modalities[modality].traits.tabular:
        return dict(state)
    columns = cohort.spec.modalities[modality].cell_columns
    known = {name for part in state.values() for name in part}
    strange = [name for name in columns if name not in known]
    if strange:
        raise ConfigError(
            f"the run read no column '{strange[0]}' of '{modality}'{nearest(strange[0], known)}",
            where=cohort.path,
            got=f"{len(strange)} such columns: {', '.join(strange[:8])}",
            expected=", ".join(sorted(known)[:20]),
            fix=f"name the run's columns under modalities.{modality}.columns",
        )
    return {
        part: {name: one for name, one in kept.items() if name in columns}
        for part, kept in state.items()
    }


def kept_reading(run: Run, modality: str) -> dict[str, Any] | None:
    """How the run reads a table: settings and fitted state; None if it did not keep that."""
    return run.tree(READING, {}).get(modality)


def plain_view(spec: TowersSpec, prepared: Prepared) -> Callable[[Any], Any]:
    """Give what turns a batch of a stage's towers into encoder inputs, without augmentation."""
    import torch

    adapters = {name: prepared.adapters[name] for name in spec.towers}
    view = View(ViewSettings(), adapters, {})

    def show(batch: Any) -> Any:
        return view(batch, RowGenerator(torch.Generator(device=batch.ids.device)), disturb=False)

    return show


def chunks(rows: np.ndarray) -> list[np.ndarray]:
    """Split sample numbers into those of one forward pass each."""
    return [rows[i : i + EVALUATE_ROWS] for i in range(0, len(rows), EVALUATE_ROWS)]


LEAST_PEOPLE = 10
"""Train people with a cell, and without it, from whom the weight of its being there is learned."""
MEASURED = "measured"


@dataclass(frozen=True, kw_only=True)
class TrainGaps:
    """How many train people lacked a cell of each column.

    Attributes:
        people: All of them.
        lacking: Column to those without its cell.
        rate: Share of people like them that `strange` flags by chance.
        limit: Sum of the rarities of somebody's gaps beyond which they are flagged; of runs that
            kept none 0: every rare gap is.
    """

    people: int
    lacking: Mapping[str, int]
    rate: float
    limit: float = 0.0

    @classmethod
    def of(cls, names: Sequence[str], known: np.ndarray, subjects: np.ndarray) -> TrainGaps:
        """Count in train rows: cells of F columns that are known (N, F), subject of each (N,)."""
        people, place = np.unique(subjects, return_inverse=True)
        without = np.zeros((len(people), len(names)), dtype=bool)
        np.logical_or.at(without, place, ~known)
        counts = without.sum(axis=0)
        alike = without.sum(axis=0) - without  # how many others lack the cell
        found = (without * _rarity(alike)).sum(axis=1)
        limit, rate = limit_of(found, RATE) if found.any() else (0.0, 0.0)
        return cls(
            people=len(people),
            lacking={name: int(one) for name, one in zip(names, counts, strict=True)},
            rate=rate,
            limit=limit,
        )

    @classmethod
    def read(cls, kept: Mapping[str, Any] | None) -> TrainGaps | None:
        """Read back what `about` gave; None of a run that did not count."""
        return None if kept is None else cls(**kept)

    def about(self) -> dict[str, Any]:
        """All, as JSON takes it."""
        return {"people": self.people, "lacking": dict(self.lacking), "rate": self.rate,
                "limit": self.limit}  # fmt: skip

    def strange(self, names: Sequence[str], gaps: np.ndarray) -> np.ndarray:
        """Choose the gaps (N, F) that fewer than `LEAST_PEOPLE` had, of rows beyond the limit.

        A gap weighs the more the fewer had it, 1 where nobody had: by ranks (`limit_of`), of
        people like those in training no more than `RATE` are beyond.
        """
        lacking = np.array([self.lacking.get(name, LEAST_PEOPLE) for name in names])
        weights = gaps * _rarity(lacking)
        return np.asarray((weights > 0) & (weights.sum(axis=1) > self.limit)[:, None])


def _rarity(others: np.ndarray) -> np.ndarray:
    """What a gap weighs that so many others have; 0 where they are enough to learn from."""
    return np.where(others < LEAST_PEOPLE, 1.0 / (1.0 + others), 0.0)


def indicators_that_count(known: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Choose the columns whose being measured is a feature. (F,) bool.

    At least `LEAST_PEOPLE` have the cell and as many lack it, so that no few people say what all
    without it are like; of columns that are missing together in every row the first stands for all.

    Args:
        known: Cells of train rows that are there. (N, F) bool
        subjects: Subject of each row. (N,)
    """
    counts = np.zeros(known.shape[1], dtype=bool)
    seen = set()
    for column, cells in enumerate(known.T):
        sides = (np.unique(subjects[cells]), np.unique(subjects[~cells]))
        pattern = cells.tobytes()
        if min(map(len, sides)) >= LEAST_PEOPLE and pattern not in seen:
            counts[column] = True
            seen.add(pattern)
    return counts
