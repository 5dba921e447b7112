"""What is set beside each other on a task: embeddings, and the baselines they must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.findings import Finding, counted
from medmcl.core.suppression import Covered
from medmcl.core.targets import Targets
from medmcl.data.cohort.outcomes import tellers
from medmcl.data.cohort.splits import SPLITS
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.simple_features import simple_table
from medmcl.data.loading.simple_reading import SimpleReading
from medmcl.data.tables.mapped import let_go
from medmcl.evaluation.models import MODELS
from medmcl.evaluation.models.baselines import beside, majority, probe_terms
from medmcl.evaluation.models.contract import Fitted, Model, fit_of
from medmcl.evaluation.models.fusion import Fusion, fuse
from medmcl.evaluation.models.penalty import plain_probe
from medmcl.evaluation.models.together import Together, Variant
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.protocol.guard import record_codes
from medmcl.evaluation.protocol.predicted import Method
from medmcl.evaluation.protocol.reach import ColumnReach
from medmcl.evaluation.protocol.results import BESIDE, COVARIATES, MAJORITY
from medmcl.stages.evaluate.runs_beside import RunBeside, apart, run_beside
from medmcl.stages.evaluate.saved_probes import load_simple
from medmcl.stages.evaluate.scene import RunScene
from medmcl.stages.evaluate.spec import ProbeSpec
from medmcl.stages.factorise.given_vectors import lay_vectors
from medmcl.stages.predict.saved import VECTORS, load_prediction, with_length
from medmcl.stages.run.features import Covariates, sample_vectors, scored_alone
from medmcl.stages.run.leaky_columns import leaky_by_task, leaky_reading
from medmcl.stages.run.run import Run, vector_width


@dataclass(kw_only=True)
class Sources:
    """Features of every method, by sample, and where they exist.

    Attributes:
        embeddings: Method to (N, E): the run's stages, then vectors that were given, then other
            runs. None: the covariates are what is judged.
        present: Method to (N,) bool.
        columns: Given vectors to what their E are called.
        id_columns: Given vectors to the column of their file that says whose they are.
        strange: Warnings of given vectors that lie outside of those a kept probe learned from.
        covariates: Plain columns of a table; None without.
        apart: What is odd about their records, where nothing else reads these.
        simple: What is plain to see of the modality; None if it has none, or was not asked for.
        simple_fit: Probe for it.
        simple_variants: The same as if only some modalities were there.
        simple_name: Its name in the table.
        simple_readings: Modality to what it learned from train rows.
        beside: Other runs to what they predict from, where they or this one have no encoder.
        beside_tellers: Other run, and task, to columns of its table that tell the task.
        baselines: Which baselines are asked for.
        notes: What a reader must know.
        gaps: What stands in for missing cells and numbers.
        fused: Method to the modalities it reads, where it reads several; `embeddings` then holds
            what its probe reads.
        fusion: How these are brought together.
        seed: Of what is drawn in doing so.
        fitted: Ledger lines of what the features come from.
        tellers: Task to the columns of the covariates that it is made of, or that tell it: its own
            covariates are without them.
        leaky_columns: Method to task to what its encoder was paired with, or it reads, that could
            name the outcome.
    """

    embeddings: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    id_columns: dict[str, str] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    covariates: Covariates | None = None
    apart: list[Finding] = field(default_factory=list)
    simple: np.ndarray | None = None
    simple_fit: Callable[..., Fitted] = plain_probe
    simple_variants: tuple[Variant, ...] = ()
    simple_name: str = ""
    simple_readings: dict[str, SimpleReading] = field(default_factory=dict)
    beside: dict[str, RunBeside] = field(default_factory=dict)
    beside_tellers: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    fused: dict[str, Together] = field(default_factory=dict)
    fusion: Fusion = "mean"
    seed: int = 0
    fitted: list[FittedOn] = field(default_factory=list)
    tellers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    leaky_columns: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Samples, N."""
        return len(next(iter(self.present.values())))

    @property
    def others(self) -> tuple[str, ...]:
        """Embeddings beside the main one, and runs."""
        return (*tuple(self.embeddings)[1:], *self.beside)

    def told(self, method: str, task: str) -> tuple[str, ...]:
        """Name what a method was paired with, or reads, that could name the outcome."""
        return self.leaky_columns.get(method, {}).get(task, ())

    def methods(self, targets: Targets, protocol: str) -> dict[str, Method]:
        """Give every method of a task, the main one first."""
        survival = targets.kind == "survival"
        model: Model = MODELS[protocol]
        if model.kinds and targets.kind not in model.kinds:
            protocol, model = "linear_probe", MODELS["linear_probe"]
        fit = fit_of(protocol)
        methods = {
            name: Method(features=x, fit=fit, protocol=protocol, told=self.told(name, targets.name))
            for name, x in self.embeddings.items()
        }
        for name, together in self.fused.items():
            own = fuse(together, self.fusion, probe=fit, seed=self.seed)
            words = self.fusion.replace("_", " ")
            methods[name] = replace(
                methods[name], fit=own.fit, protocol=f"{protocol}, {words}", variants=own.variants
            )
        linear = "cox" if survival and protocol == "cox" else "linear_probe"
        plain = None
        if self.covariates is not None:
            plain = self.covariates.without(self.tellers.get(targets.name, ()))
        if plain is not None and ("covariates" in self.baselines or not self.embeddings):
            methods[COVARIATES] = Method(features=plain, fit=plain_probe, protocol=linear)
        for name, other in self.beside.items():
            telling = self.beside_tellers.get((name, targets.name), ())
            methods[name] = Method(
                features=other.features(telling),
                fit=other.fit,
                protocol=linear,
                told=self.told(name, targets.name),
            )
        if plain is not None and "covariates+embedding" in self.baselines and self.embeddings:
            name, main = next(iter(self.embeddings.items()))
            both, side_by_side = beside(plain, main)
            methods[BESIDE] = Method(
                features=both,
                fit=side_by_side,
                protocol=linear,
                fractions=(1.0,),
                told=self.told(name, targets.name),
            )
        if self.simple is not None:
            methods[self.simple_name] = Method(
                features=self.simple,
                fit=self.simple_fit,
                protocol=linear,
                variants=self.simple_variants,
                told=self.told(self.simple_name, targets.name),
            )
        if "majority" in self.baselines:
            name = "Kaplan-Meier" if survival else MAJORITY
            methods[name] = Method(
                features=np.zeros((self.rows, 1)), fit=majority, protocol=name, fractions=(1.0,)
            )
        return methods


def gather(scene: RunScene) -> Sources:
    """Compute the features of every method of an evaluate stage.

    Where nothing is fitted on the cohort, simple features and covariates are read as the run kept
    them, and left out where it did not.
    """
    spec, found = scene.spec, Sources(embeddings={}, present={})
    wanted = found.baselines = spec.wanted_baselines
    found.seed = scene.run.seed
    strange = apart(spec, scene.others)
    if spec.probe is not None:
        _embed(found, scene, spec.probe, [name for name in scene.others if name not in strange])
    for name, other in strange.items():
        one = run_beside(name, other, scene.prepared, scene.device)
        found.beside[name], found.present[name] = one, one.present
        found.leaky_columns[name] = one.told
        for task, out in _tellers(scene, one.modality).items():
            found.beside_tellers[name, task] = out
    _lay_given(found, scene)
    is_read = bool({"covariates", "covariates+embedding"} & set(wanted)) or not found.embeddings
    if spec.covariates is not None and is_read:
        found.covariates = Covariates.of(
            scene.run, scene.prepared.cohort, spec.covariates, is_frozen=scene.is_frozen
        )
        if found.covariates is None:
            found.notes.append("covariates left out: the run did not keep how it reads them")
        else:
            found.present[COVARIATES] = found.covariates.present
            if spec.covariates not in scene.prepared.stored:
                found.apart = found.covariates.warnings
            found.gaps.append(f"{spec.covariates}: the train mean and a flag stand in for a cell")
            _leave_out_tellers(found, scene, spec.covariates)
    let_go()
    if spec.probe is None or "simple" not in wanted:
        return found
    _simple(found, scene, spec.probe)
    return found


def _lay_given(found: Sources, scene: RunScene) -> None:
    """Add vectors that were made elsewhere, their columns in the order of the run's own."""
    spec, is_frozen = scene.spec, scene.is_frozen
    reach = load_prediction(scene.run).reach if spec.embeddings else {}
    for name, source in spec.embeddings.items():
        ranges = reach.get((name, VECTORS))
        kept = ranges.names[:-1] if isinstance(ranges, ColumnReach) else None
        laid = lay_vectors(
            name, Path(source), scene.prepared.cohort, kept,
            is_frozen=is_frozen, in_folds=bool(spec.folds),
        )  # fmt: skip
        found.embeddings[name], found.present[name] = laid.values, laid.present
        found.columns[name] = laid.columns
        found.id_columns[name] = laid.id_column
        found.notes += laid.notes
        found.fitted.append(laid.fitted)
        found.strange += _shared(name, laid.values, laid.present, scene.prepared)
        if not is_frozen:
            continue
        if not isinstance(ranges, ColumnReach):
            found.notes.append(
                f"{name}: columns taken by their place: the run was made before it kept their names"
            )
            continue
        far = int(ranges.outside(with_length(laid.values[laid.present])).any(axis=1).sum())
        if 2 * far > (have := int(laid.present.sum())):
            said = (
                " lie outside of those in training (another scale, or another encoder?): what the "
                "kept probe says of them may mean nothing"
            )
            told = f"{name}: {far:,} of {counted(have, 'vector')}{said}"
            found.strange.append(Covered(told, f"{name}: most vectors{said}"))


def _shared(
    name: str, vectors: np.ndarray, present: np.ndarray, prepared: Prepared
) -> list[Covered]:
    """Say that people have the vector of somebody else: one person under two ids, as a rule."""
    codes = record_codes(vectors, present)
    if codes is None:
        return []
    known = codes >= 0
    table = pd.DataFrame({"code": codes, "who": prepared.subjects, "split": prepared.splits})[known]
    kinds = table.groupby("code")[["who", "split"]].transform("nunique")
    twice = table[kinds["who"] > 1]
    if twice.empty:
        return []
    said = f"{name}: {{}} people have the vector of another id (one person under two ids?)"
    across = twice.loc[kinds["split"] > 1, "who"].nunique()
    good = "; {}of them across splits: such scores are too good" if across else ""
    return [
        Covered(
            said.format(f"{twice['who'].nunique():,}") + good.format(f"{across:,} "),
            said.format("some") + good.format("some "),
        )
    ]


def _leave_out_tellers(found: Sources, scene: RunScene, modality: str) -> None:
    """Note, for each task, the covariates that would give it away; they are not its predictors.

    Of a kept model, whose predictors they may be, that is first of all to be known.
    """
    found.tellers |= _tellers(scene, modality)
    told = found.strange if scene.is_frozen else found.notes
    told += [
        f"{task}: {', '.join(out)} of {modality} left out of the covariates: the task is "
        "made of it, or told by it"
        for task, out in found.tellers.items()
    ]


def _tellers(scene: RunScene, modality: str) -> dict[str, tuple[str, ...]]:
    """Task to the columns of a table that it is made of, or told by; only tasks with some."""
    spec, cohort = scene.spec, scene.prepared.cohort
    shown = cohort.spec.modalities[modality].cell_columns
    found: dict[str, tuple[str, ...]] = {}
    for task, rows in cohort.labels.items():
        if spec.tasks != "all" and task not in spec.tasks:
            continue
        try:
            telling = tellers(cohort.spec.tasks[task], rows.table.columns)
        except CohortError:  # a fault of the task, which whoever scores it is told of
            continue
        out = tuple(column for column in shown if column in telling)
        if out:
            found[task] = out
    return found


def _embed(found: Sources, scene: RunScene, probe: ProbeSpec, beside: Sequence[str]) -> None:
    """Add the embeddings of the run's stages, and of other runs."""
    cohort, wanted = scene.prepared.cohort, _wanted(scene)
    learned = {label: (scene.run, stage) for label, stage in probe.models.items()}
    here = dict.fromkeys(learned, scene.prepared)
    for name in beside:
        other = scene.others[name]
        read = [n for n in wanted if n in other.recipe.inputs and n in cohort.spec.modalities]
        here[name] = other.prepare(cohort, tuple(read))
        learned[name] = other, other.default_stage(read[0])
    together = {
        name: _together(scene, probe, one, stage, here[name])
        for name, (one, stage) in learned.items()
    }
    found.present.update({name: one.any for name, one in together.items()})
    found.leaky_columns = {
        name: leaky_by_task(one, stage, wanted, scene.prepared)
        for name, (one, stage) in learned.items()
    }
    found.fused, found.fusion = together if probe.several else {}, probe.fusion
    for name, one in together.items():
        (first, *_) = one.vectors.values()
        found.embeddings[name] = fuse(one, probe.fusion).features if probe.several else first
    if probe.several:
        _say_who_is_left(found, scene)


def _together(
    scene: RunScene, probe: ProbeSpec, run: Run, stage: str, prepared: Prepared
) -> Together:
    """Embed what a stage has towers for; what the cohort does not have is absent for everyone."""
    towers, wanted = run.towers(stage, scene.device), probe.read(run.recipe.inputs)
    names = [name for name in wanted if name in towers.towers]
    if not names or (not probe.several and names[0] not in prepared.present):
        raise ConfigError(
            f"stage '{stage}' has no tower for {', '.join(wanted)}",
            where=run.path,
            expected=", ".join(towers.towers),
        )
    nobody, rows = np.zeros(len(prepared.splits), dtype=bool), len(prepared.splits)
    alone = scored_alone(prepared, is_frozen=scene.is_frozen)
    return Together(
        vectors={
            name: sample_vectors(run, prepared, stage, name, probe.space, scene.device, alone)
            if name in prepared.present
            else np.zeros((rows, vector_width(towers, name, probe.space)))
            for name in names
        },
        present={name: prepared.present.get(name, nobody) for name in names},
    )


def _say_who_is_left(found: Sources, scene: RunScene) -> None:
    """Note stages without some tower, and samples that have nothing to be predicted from."""
    prepared, wanted = scene.prepared, _wanted(scene)
    for name, one in found.fused.items():
        lacks = [other for other in wanted if other not in one.names]
        if lacks:
            found.notes.append(f"{name}: no tower for {', '.join(lacks)}; the others are read")
    for split in SPLITS:
        here = prepared.splits == split
        for name in wanted:
            if here.any() and not prepared.present.get(name, np.zeros(len(here), bool))[here].any():
                found.notes.append(f"{name} is absent for everyone in {split}")
        nothing = int((here & ~found.present[next(iter(found.present))]).sum())
        if nothing:
            found.notes.append(
                f"{counted(nothing, 'sample')} of {split} without any of {', '.join(wanted)}: "
                + ("not scored" if split == "held_out" else "not used")
            )


def _simple(found: Sources, scene: RunScene, probe: ProbeSpec) -> None:
    """What is plain to see of a modality; of several side by side, with presence flags."""
    run, prepared, is_frozen = scene.run, scene.prepared, scene.is_frozen
    names = next(iter(found.fused.values())).names if probe.several else _wanted(scene)
    kept = {n: load_simple(run, n, several=probe.several) for n in (names if is_frozen else ())}
    if is_frozen and not any(kept.values()):
        found.notes.append("simple features left out: the run did not keep what they learned")
        return
    vectors, present, tables = {}, {}, {}
    for name in names:
        reading = kept.get(name)
        if is_frozen and reading is None:  # a kind that has none, in training too
            continue
        table = None
        if name in prepared.present:
            table = simple_table(prepared, name, cache=run.cache, progress=scene.check_interrupt)
        if table is not None:
            tables[name] = table
        if table is not None and (reading is not None or len(table.train)):
            found.simple_readings[name] = reading or table.learn()
            vectors[name] = table.matrix(reading=found.simple_readings[name])[0]
            present[name] = table.present
            found.gaps += [table.note()] if table.note() else []
        elif reading is not None:  # absent for everyone
            vectors[name] = np.zeros((found.rows, len(reading.learned.columns)))
            present[name] = np.zeros(found.rows, dtype=bool)
    if not vectors or not (probe.several or tables):
        why = "no train row to learn from" if tables else "this kind of modality has none"
        found.notes.append(f"simple features of {' and '.join(names)} left out: {why}")
        return
    found.simple_name = f"simple features ({' + '.join(vectors)})"
    found.leaky_columns[found.simple_name] = leaky_reading(run, tuple(vectors), prepared)
    if probe.several:
        fused = fuse(Together(vectors=vectors, present=present), "learned", seed=found.seed)
        found.simple, found.simple_fit = fused.features, fused.fit
        found.simple_variants = fused.variants
        found.present[found.simple_name] = fused.present
        return
    ((name, alone),) = tables.items()
    found.simple, found.simple_fit = vectors[name], probe_terms if alone.has_terms else plain_probe
    found.notes += [alone.note()] if alone.note() else []


def _wanted(scene: RunScene) -> tuple[str, ...]:
    """Modalities that the probe reads of a recipe that has them."""
    probe = scene.spec.probe
    return () if probe is None else probe.read(scene.run.recipe.inputs)
