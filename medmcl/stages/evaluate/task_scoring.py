"""One task of an evaluate stage: which methods are fitted, applied frozen, or made elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import numpy as np

from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.findings import counted
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort
from medmcl.evaluation.aspects.tasks.metrics import Thresholds
from medmcl.evaluation.protocol.evaluate import TaskEvaluation, evaluate_task
from medmcl.evaluation.protocol.evidence import LEARNED_FROM
from medmcl.evaluation.protocol.folds import CrossValidation, tested
from medmcl.evaluation.protocol.predicted import Given, Method, Predictions, with_baseline
from medmcl.evaluation.protocol.subgroups import left_out
from medmcl.evaluation.protocol.subsets import LabelCounts
from medmcl.stages.evaluate.methods import Sources
from medmcl.stages.evaluate.nobody import ASKS_OTHERWISE, NO_TRAIN
from medmcl.stages.evaluate.refit_all import Refitted
from medmcl.stages.evaluate.saved_probes import SavedProbe, load_probes
from medmcl.stages.evaluate.scene import RunScene
from medmcl.stages.predict.saved import load_prediction
from medmcl.stages.run.features import predict
from medmcl.stages.run.leaky_columns import leaky_by_task
from medmcl.stages.run.ledger import run_ledger
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import OWN_NAME, outside_splits
from medmcl.stages.run.study import is_another
from medmcl.stages.stage import TAUGHT
from medmcl.stages.train.parts import training_rows
from medmcl.stages.train.spec import TrainSpec, fill

ProbeMode = Literal["auto", "frozen", "refit"]
ALONE = (
    "the cohort names no competing event, so risks are of the event alone: that the other may "
    "come first is not counted, in predicted risks nor in observed ones"
)
SEEN = f"whom {LEARNED_FROM}"


def frozen_probes(run: Run, cohort: Cohort, mode: ProbeMode) -> tuple[SavedProbe, ...]:
    """Give the kept probes to apply; none where probes are to be fitted on the cohort.

    Raises:
        ArtefactError: ``frozen``, and the run kept none.
    """
    if mode == "refit" or (mode == "auto" and not is_another(run, cohort)):
        return ()
    kept = tuple(load_probes(run))
    if mode == "frozen" and not kept:
        raise ArtefactError(
            "the run kept no probe",
            where=run.path / "probes",
            expected="probes of an evaluate stage in the run's recipe",
            fix="--probe refit fits them on this cohort's train split",
        )
    return kept


def _kept_thresholds(probes: Sequence[SavedProbe]) -> Thresholds | None:
    """Those of the cohort that the probes of a task were fitted on; all probes keep the same."""
    for probe in probes:
        if probe.about.get("thresholds"):
            source = f"train of {probe.about['cohort']}"
            return Thresholds(probe.about["thresholds"], source, ("train",))
    return None


@dataclass(kw_only=True)
class TaskScoring:
    """Scores the tasks of a cohort, all in one way.

    Attributes:
        scene: What is scored: the run, the cohort, the stage, the notes.
        sources: Features of every method.
        frozen: Kept probes to apply instead of fitting any.
        seen: Samples of people that the run has seen, (N,) bool; None = unknown.
        heads: Fine-tuned model to the survival curves it gave the last task.
        refitted: What was trained anew in each fold, where every stage is.
    """

    scene: RunScene
    sources: Sources
    frozen: tuple[SavedProbe, ...] = ()
    seen: np.ndarray | None = None
    heads: dict[str, object] = field(default_factory=dict)
    refitted: Refitted | None = None

    def score(self, task: str, told: Callable[[float], object]) -> TaskEvaluation:
        """Score one task; ``told`` is called with the share of it that is done."""
        spec, prepared = self.scene.spec, self.scene.prepared
        targets = prepared.tasks(task)
        kept = [one for one in self.frozen if one.task == task]
        usable = [one for one in kept if not one.differs(targets)]
        if self.frozen:
            targets, splits = self._outside(targets)
            if not usable:
                other = kept[0].differs(targets) if kept else ""
                why = f"{ASKS_OTHERWISE} {other}" if kept else "has no kept probe"
                self.scene.notes.append(f"{task}: {why}; --probe refit fits one on this cohort")
        else:
            splits = prepared.splits if self.refitted is not None else self._unseen()
            if spec.folds is not None and self._declares_its_split:
                splits = np.where(splits == "held_out", "not scored", splits)
        methods: dict[str | tuple[str, float], Method] = {}
        predictions: dict[str | tuple[str, float], Predictions] = {}
        if self.frozen:
            predictions.update(self._apply(usable, targets))
        elif self._has_labels(targets):
            methods.update(self.methods(targets))
        else:
            others = "; only fine-tuned stages were scored" if spec.finetuned else ""
            self.scene.notes.append(f"{task}: {NO_TRAIN}{others}")
        if self.refitted is None:
            predictions |= self._finetuned(task, targets, splits)
        else:
            methods |= self.refitted.finetuned(
                spec, task, targets, lambda stage: self._told(stage, task)
            )
        if not methods and not predictions:
            return TaskEvaluation(results=[])
        used = {k if isinstance(k, str) else k[0] for k in (*methods, *predictions)}
        present = {k: v for k, v in self.sources.present.items() if k in used or not self.frozen}
        present |= {k: v for k, v in self._with_inputs(task).items() if k in used}
        done = evaluate_task(
            methods,
            targets,
            splits,
            prepared.subjects,
            fractions=spec.label_fractions,
            draws=spec.draws,
            seed=self.scene.seed,
            bootstrap_draws=spec.bootstrap_draws,
            level=spec.level,
            present=present,
            predictions=predictions,
            cross_validation=None if self.frozen else self.cross_validation(),
            subgroups=self.scene.subgroups,
            thresholds=_kept_thresholds(usable) if self.frozen else None,
            resample=spec.resample,
            sites=self.scene.sites,
            shown=[name for name in used if name not in self.sources.others],
            patterns=self.scene.subgroups.get("modalities") if self.sources.fused else None,
            told=told,
        )
        for remark in () if done.setting is None else done.setting.fold_remarks:
            self.scene.now(f"{task}: {remark}")
        for note in left_out(done.setting, done.subgroups, self.scene.subgroups):
            self.scene.say(note)
        return done

    def _outside(self, targets: Targets) -> tuple[Targets, np.ndarray]:
        """Choose the rows to score: held_out, or everybody; not who the run learned from."""
        known = targets.known.any(axis=1)
        splits, notes = outside_splits(self.scene.run, self.scene.prepared, np.asarray(known))
        for note in notes:
            self.scene.say(note)
        if self.seen is not None and (self.seen & (splits == "held_out")).any():
            people = len(
                np.unique(self.scene.prepared.subjects[self.seen & (splits == "held_out")])
            )
            self.scene.say(f"{counted(people, 'subject')} {SEEN}")
            splits = np.where(self.seen, "not scored", splits)
        return replace(targets, sides=None), splits

    def _unseen(self) -> np.ndarray:
        """Give the split of each sample, ``not scored`` of people that the run has seen. (N,)."""
        splits = self.scene.prepared.splits.copy()
        if self.seen is None:
            self.scene.say("whether the run learned from people who are scored here is unknown")
            return splits
        lost = self.seen & (splits == "held_out")
        if lost.any():
            people = counted(len(np.unique(self.scene.prepared.subjects[lost])), "held-out subject")
            self.scene.say(f"{people} {SEEN}; {OWN_NAME}")
            splits[lost] = "not scored"
        return splits

    def cross_validation(self) -> CrossValidation | None:
        """Say how tasks are scored out of fold; None where held_out is scored.

        Raises:
            ConfigError: The cohort's own split leaves nobody to score.
        """
        spec, splits = self.scene.spec, self.scene.prepared.splits
        if spec.folds is None:
            return None
        folds, repeats = spec.folds_and_repeats
        plan = () if self.refitted is None else self.refitted.plan
        if plan:
            unseen = tested(plan, len(splits))
            return CrossValidation(folds=folds, repeats=repeats, refit="all", unseen=unseen,
                                   by=spec.fold_by, plan=plan, sites=self.scene.sites,
                                   trains=self.scene.run.trains)  # fmt: skip
        seen = np.isin(splits, ("train", "tuning")) if self.seen is None else self.seen
        unseen = ~seen if self.scene.run.trains else np.ones(len(splits), dtype=bool)
        if self._declares_its_split:
            unseen &= splits != "held_out"
            if not unseen.any():
                raise ConfigError(
                    "the cohort says itself who is held out, and folds would fit on some of them",
                    where=f"{spec.name}.folds",
                    got=f"folds: {spec.folds}, refit: probe; the run has seen everybody else",
                    expected="a split that is drawn (split: {random: …}), or a cohort that the run "
                    "has not seen",
                    fix="leave folds out: held_out is scored; or refit: all",
                )
        return CrossValidation(
            folds=folds,
            repeats=repeats,
            refit="probe",
            unseen=unseen,
            by=spec.fold_by,
            sites=self.scene.sites,
            seed=self.scene.seed,
        )

    @property
    def _declares_its_split(self) -> bool:
        return self.scene.prepared.cohort.spec.keys.subjects.split.random is None

    def methods(
        self, targets: Targets, change: Callable[[Sources], Sources] = lambda sources: sources
    ) -> dict[str, Method]:
        """Give every method of a task; where stages are trained anew in folds, as each fold has it.

        Args:
            targets: The task.
            change: Takes features away that are not asked for.
        """
        found = change(self.sources).methods(targets, self.scene.spec.protocol)
        if self.refitted is None:
            return found
        runs = self.refitted.runs
        each = [change(one.sources).methods(targets, self.scene.spec.protocol) for one in runs]
        return self.refitted.anew(found, each)

    def _has_labels(self, targets: Targets) -> bool:
        labelled = targets.known.any(axis=1) & (self.scene.prepared.splits == "train")
        return len(np.unique(self.scene.prepared.subjects[labelled])) >= 2

    def _apply(self, probes: list[SavedProbe], targets: Targets) -> dict[str, Given]:
        """Predictions of the kept probes of a task, by method."""
        methods = self.sources.methods(targets, "linear_probe")
        every = np.arange(len(targets.values))
        rivals = load_prediction(self.scene.run).rivals
        found: dict[str, Given] = {}
        lost = []
        for probe in probes:
            if probe.method not in methods:
                lost.append(probe.method)
                continue
            method = methods[probe.method]
            rival = rivals.get((probe.task, probe.method))
            if rival is not None and targets.competing is None:
                self.scene.say(f"{targets.name}: {ALONE}")
                rival = None
            others = [(one, probe.predict(one.features(every), rival)) for one in method.variants]
            given = probe.predict(np.asarray(method.features), rival)
            told = tuple(dict.fromkeys((*given.told, *method.told)))  # there, or here
            found[probe.method] = replace(given, variants=tuple(others), told=told)
        unkept = [name for name in self.sources.embeddings if name not in found]
        if unkept:
            self.scene.say(
                f"{targets.name}: no probe of {', '.join(unkept)} is kept in the run, so it is not "
                "scored; --probe refit fits one on this cohort"
            )
        if lost:
            self.scene.say(f"kept probes without their features here: {', '.join(lost)}")
        return found

    def _finetuned(
        self, task: str, targets: Targets, splits: np.ndarray
    ) -> dict[str | tuple[str, float], Predictions]:
        """Predictions of fine-tuned stages; of a survival head with a baseline from train rows."""
        found: dict[tuple[str, float], Given] = {}
        self.heads.clear()
        scored = np.flatnonzero(splits == "held_out")
        for label, fraction, stage in self._finetuned_stages(task):
            given = self._stage(stage, label, targets, scored)
            found[label, fraction] = given
            if fraction == max(key[1] for key in found if key[0] == label):
                self.heads[label] = given.survival
        self.scene.notes += [
            f"{task}: the run has no '{label}' stage for it"
            for label in self.scene.spec.finetuned
            if not any(key[0] == label for key in found)
        ]
        return dict(found.items())

    def _finetuned_stages(self, task: str) -> Iterator[tuple[str, float, str]]:
        """Give label, share of the labels and name of each fine-tuned stage that the run has."""
        spec, run = self.scene.spec, self.scene.run
        for label, pattern in spec.finetuned.items():
            for fraction in spec.label_fractions:
                stage = fill(pattern, {"task": task, "label_fraction": fraction})
                if stage in run.stages and not run.skipped(stage):
                    yield label, fraction, stage

    def _with_inputs(self, task: str) -> dict[str, np.ndarray]:
        """Give the samples that have what each fine-tuned model reads, (N,) bool."""
        found: dict[str, np.ndarray] = {}
        for label, _, stage in self._finetuned_stages(task):
            has = self._has(stage)
            found[label] = has & found.get(label, has)
        return found

    def _has(self, stage: str) -> np.ndarray:
        """Which samples have every modality that a stage has a tower for: those it predicts."""
        towers, present = self.scene.run.stage(stage).towers, self.scene.prepared.present
        return np.asarray(np.logical_and.reduce([present[name] for name in towers]))

    def _told(self, stage: str, task: str) -> tuple[str, ...]:
        """Name what could have named the outcome to a fine-tuned stage."""
        towers = self.scene.run.stage(stage).towers
        return leaky_by_task(self.scene.run, stage, towers, self.scene.prepared).get(task, ())

    def _stage(self, stage: str, label: str, targets: Targets, scored: np.ndarray) -> Given:
        has, run, prepared = self._has(stage), self.scene.run, self.scene.prepared
        train = np.flatnonzero((prepared.splits == "train") & targets.known.any(axis=1) & has)
        ledger = tuple(
            replace(line, method=label) if line.labels else line
            for line in run_ledger(run, [stage])
        )
        counts, told = None, self._told(stage, targets.name)
        if not self.scene.is_outside:
            people, facts = prepared.subjects, run.facts(stage)
            drawn = training_rows(cast(TrainSpec, run.stage(stage)), prepared, run.seed)
            train = drawn[has[drawn]]
            tuning = np.flatnonzero((prepared.splits == "tuning") & targets.known.any(axis=1))
            counts = LabelCounts.of(targets, people, train, tuning[has[tuning]])
            trained = facts.get(TAUGHT, facts.get("subjects", counts.subjects))
            if trained != counts.subjects:  # a subset, a selection, another draw
                counts = replace(counts, subjects=int(trained), events={})
        wants = targets.kind == "survival" and not self.frozen and len(train) > 0
        rows = np.union1d(scored, train) if wants else scored
        values = predict(run, stage, prepared, targets, self.scene.device, rows, scored)
        if not wants:
            return Given(
                values=values, protocol="fine_tune", fitted=ledger, counts=counts, told=told
            )
        given = with_baseline(values, targets, train, protocol="fine_tune", method=label)
        return replace(given, fitted=(*ledger, *given.fitted), counts=counts, told=told)
