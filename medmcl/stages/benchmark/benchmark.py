"""``medmcl benchmark``: encoders beside each other on the tasks of a suite."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.file_lock import claimed
from medmcl.core.suppression import Rounding
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.splits import SPLITS
from medmcl.data.loading.prepare import Prepared
from medmcl.encoders.published.card import find_variant
from medmcl.encoders.published.overlap import Overlap, overlap_of, refuse_overlap
from medmcl.evaluation.models import LINEAR, MODELS
from medmcl.evaluation.models.knn import one_hot
from medmcl.evaluation.protocol.evaluate import TaskEvaluation, evaluate_task
from medmcl.evaluation.protocol.predicted import Method, Predicted, Predictions
from medmcl.evaluation.protocol.results import Result
from medmcl.stages.benchmark.board import AS_RECORDED, CALLED, FILES, HEADLINE, Row, write_board
from medmcl.stages.benchmark.contenders import (
    SIMPLE,
    Contender,
    Field,
    random_name,
    refuse_twins,
)
from medmcl.stages.benchmark.suite import Network, Setting, Suite, known_protocol, read_suite
from medmcl.stages.evaluate.overlap import named_models, refuse_seen
from medmcl.stages.evaluate.pretraining_list import ListSearch, with_list
from medmcl.stages.factorise.named_vectors import named_vectors, vectors_by_name
from medmcl.stages.recipe.on_cohort import refuse_faulty
from medmcl.stages.run.outputs import claim_names

log = logging.getLogger("medmcl")
VECTORS = "vectors"
"""Folder beside the leaderboard where embeddings are kept."""
NOBODY = "nobody"
"""No method is called so: `evaluate_task` compares none; differences are to the random encoder."""
TRAINED = "trained for the task"
"""Protocol of a network that is no frozen encoder."""
CALIBRATION = ("calibration_slope", "calibration_intercept", "ici", "brier")
Key = tuple[str, str]
"""Contender and protocol."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The options of the command; see ``medmcl benchmark --help``."""

    suite: str
    out: Path
    models: Sequence[str] = ()
    runs: Sequence[Path] = ()
    embeddings: Sequence[str] = ()
    random: Sequence[str] = ()
    cohort: str | None = None
    modality: str | None = None
    tasks: Sequence[str] = ()
    sites: Sequence[str] = ()
    label_fractions: Sequence[float] = ()
    protocols: Sequence[str] = ()
    disturbed: bool = False
    scratch: bool = False
    finetune: bool = False
    pretrained_on: Sequence[str] = ()
    allow_overlap: bool = False
    overwrite: bool = False
    round_to: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    command: str = ""

    def run(self) -> list[Row]:
        """Embed, score, and write the leaderboard and its page into ``out``.

        Raises:
            ConfigError: Nothing is to be compared; a model may have seen who is scored.
            MedmclError: Suite, cohort, models or vectors cannot be used.
        """
        name, suite = read_suite(self.suite)
        suite = suite.model_copy(update={"modality": self.modality or suite.modality})
        unknown = [task for task in self.tasks if suite.tasks and task not in suite.tasks]
        if unknown:
            raise ConfigError(
                f"the suite has no task '{unknown[0]}'",
                where="--task",
                expected=", ".join(suite.tasks),
            )
        for one in self.protocols:
            known_protocol(one, "--protocol")
        if self.scratch and suite.scratch is None:
            raise ConfigError("the suite names no plain network", where="--scratch",
                              fix="write scratch: {encoder: ..., train: ...} into it")  # fmt: skip
        with claimed(self.out, "a benchmark is being written", filled=True):
            reused = "another --out, or --overwrite: embeddings that are kept there are reused"
            claim_names(self.out, FILES, "a leaderboard", overwrite=self.overwrite, fix=reused)
            return self._written(name, suite)

    def _written(self, name: str, suite: Suite) -> list[Row]:
        whole = suite.open(self.cohort, self.overrides)
        settings = suite.settings(whole, self.sites)
        judged = self._judged(suite, whole, settings)
        rows: list[Row] = []
        sizes: list[Sequence[int]] = []
        notes = [f"{suite.about}. {suite.source}"]
        for setting in settings:
            cohort = self._split(suite, whole, setting)
            place = Field(
                cohort=cohort,
                modality=suite.modality,
                folder=self.out / VECTORS,
                records=whole.fingerprint,
                device=self.device,
            )
            named = bool(self.tasks or suite.tasks)
            tasks = list(self.tasks or suite.scored(cohort))
            tasks, others = of_classes(cohort, tasks, named=named)
            notes += [note for note in others if note not in notes]
            refuse_faulty(cohort, tasks)
            listed = judged.get(setting.scored_on, {})
            simple, prepared = place.simple()
            contenders = [*self._contenders(place, suite), *([] if simple is None else [simple])]
            contenders += self._trained(place, suite, tasks, contenders)
            contenders = [
                replace(one, overlap=with_list(one.overlap, listed.get(one.of or one.name)))
                for one in contenders
            ]
            refuse_twins(contenders)
            sizes.append(_sizes(prepared))
            notes.append(_whom(prepared, setting, sizes[-1]))
            for task in tasks:
                log.info("scoring %s", " on ".join(filter(None, (task, setting.scored_on))))
                targets, kept = scored_columns(prepared.tasks(task), prepared.splits, setting)
                if not len(kept):
                    notes.append(f"{task}: nothing to score on {setting.scored_on}, no class is "
                                 "known both there and where is learned")  # fmt: skip
                    continue
                scoring = Scoring(
                    self, name, suite, contenders, prepared, targets, setting=setting, kept=kept
                )
                rows += scoring.rows()
                rounding = None if self.round_to is None else Rounding(to=self.round_to)
                write_board(self.out, f"Benchmark {name}", rows, notes, sizes, rounding)
        return rows

    def _split(self, suite: Suite, whole: Cohort, setting: Setting) -> Cohort:
        """The cohort with who is scored in a setting held out."""
        if not setting.scored_on:
            return whole
        return suite.open(self.cohort, {**self.overrides, **setting.overrides})

    def _judged(
        self, suite: Suite, whole: Cohort, settings: Sequence[Setting]
    ) -> dict[str, dict[str, Overlap]]:
        """Refuse models by cards and lists, of every site, before hours of embedding.

        Returns:
            Site to what lists say of whoever has one.
        """
        cards = {name: one.card[0].pretrained_on for name, one in named_models(self.models).items()}
        names = [*cards, *(one.absolute().name for one in self.runs),
                 *named_vectors(list(self.embeddings) or None)]  # fmt: skip
        lists = ListSearch.of(self.pretrained_on, cards)
        lists.refuse_unknown(names)
        judged: dict[str, dict[str, Overlap]] = {}
        for setting in settings:
            dataset = setting.overrides.get("cohort.dataset", whole.spec.keys.dataset)
            refuse_seen(self.models, dataset, allow=self.allow_overlap)
        for setting in settings if lists.given else ():
            found = lists.found(names, self._split(suite, whole, setting), suite.modality)
            refuse_overlap(found, allow=self.allow_overlap)
            judged[setting.scored_on] = found
        return judged

    def _contenders(self, place: Field, suite: Suite) -> list[Contender]:
        """Whoever is compared; those that may have seen who is scored are refused first."""
        models = named_models(self.models)
        found: list[Contender] = [place.model(one.text, name) for name, one in models.items()]
        mates = {one.beside: (models[one.name].model, one.sizes) for one in found}
        with vectors_by_name(list(self.embeddings) or None) as tables:
            found += [place.table(name, path) for name, path in tables.items()]
        runs = [place.run(path) for path in self.runs]
        found += [own for own, _ in runs]
        refuse_overlap({one.name: one.overlap for one in found}, allow=self.allow_overlap)
        found += [first for _, first in runs]
        for text in self.random:
            mates.setdefault(random_name(*find_variant(text)), (text, {}))
        return [*found, *(place.random(name, suite.random_seeds, sizes)
                          for name, sizes in mates.values())]  # fmt: skip

    def _trained(
        self, place: Field, suite: Suite, tasks: Sequence[str], frozen: Sequence[Contender]
    ) -> Iterator[Contender]:
        """Networks trained for each task: a plain one, and models and runs from their weights."""
        if self.scratch and suite.scratch is not None:
            yield place.trained("from scratch", suite.scratch, tasks, self.seed)
        for name, asked in named_models(self.models if self.finetune else ()).items():
            card, variant = asked.card
            weights = str(asked.file.absolute())
            encoder = {"name": card.name, "variant": variant, "weights": weights}
            network = Network(encoder=encoder, train=suite.finetune)
            made = place.trained(f"{name} fine-tuned", network, tasks, self.seed)
            saw = card.saw(variant)
            overlap = overlap_of(place.dataset, saw.seen, saw.clean)
            yield replace(made, overlap=overlap, terms=card.warning or "", of=name)
        as_it_is = {one.name: one for one in frozen}
        for path in self.runs if self.finetune else ():
            name = path.absolute().name
            made = place.tuned(path, suite.finetune, tasks, self.seed)
            yield replace(made, overlap=as_it_is[name].overlap, terms=as_it_is[name].terms, of=name)


def _sizes(prepared: Prepared) -> list[int]:
    """People of each split."""
    return [len(np.unique(prepared.subjects[prepared.splits == split])) for split in SPLITS]


def _whom(prepared: Prepared, setting: Setting, sizes: Sequence[int]) -> str:
    """Say of whom the numbers are."""
    counts = ", ".join(f"{count:,} {split}" for count, split in zip(sizes, SPLITS, strict=True))
    left = prepared.exclusions()
    sites = f", scored on {setting.scored_on}, trained on {setting.trained_on}"
    of = f"{prepared.cohort.name}{sites if setting.scored_on else ''}"
    return f"People of cohort {of}: {counts}. {left}".strip()


def of_classes(cohort: Cohort, tasks: Sequence[str], *, named: bool) -> tuple[list[str], list[str]]:
    """Give the tasks that have classes, which a benchmark scores, and a note of each other one.

    Raises:
        ConfigError: A task that was named, or every task of the cohort, has no classes.
    """
    others = {name: cohort.spec.tasks[name].kind for name in tasks
              if cohort.spec.tasks[name].kind in ("survival", "regression")}  # fmt: skip
    kept = [name for name in tasks if name not in others]
    if others and (named or not kept):
        raise ConfigError(
            "a benchmark scores tasks of classes, by AUROC",
            where="tasks",
            got=", ".join(f"{name} ({kind})" for name, kind in others.items()),
            fix="medmcl evaluate scores tasks of every kind; or name others: --task TASK",
        )
    notes = [f"{name}: left out, a task of {kind}; `medmcl evaluate` scores it"
             for name, kind in others.items()]  # fmt: skip
    for note in notes:
        log.warning("%s", note)
    return kept, notes


def scored_columns(
    targets: Targets, splits: np.ndarray, setting: Setting
) -> tuple[Targets, np.ndarray]:
    """Leave out labels that only one of two sites knows, and give the numbers of those kept.

    Who codes what differs between hospitals: what nobody at one of them has cannot be carried over.
    Where the split of a cohort stands, all are kept.
    """
    every = np.arange(len(targets.columns))
    if targets.kind != "multilabel" or not setting.scored_on:
        return targets, every
    has = (targets.values > 0) & targets.known
    kept = np.flatnonzero(
        has[splits == "train"].any(axis=0) & has[splits == "held_out"].any(axis=0)
    )
    part = replace(
        targets,
        columns=tuple(targets.columns[one] for one in kept),
        values=targets.values[:, kept],
        known=targets.known[:, kept],
    )
    return part, kept


@dataclass(frozen=True)
class Scoring:
    """One task of a benchmark: every contender by every protocol, on the same people."""

    asked: Benchmark
    name: str
    suite: Suite
    contenders: Sequence[Contender]
    prepared: Prepared
    targets: Targets
    setting: Setting
    kept: np.ndarray

    def rows(self) -> list[Row]:
        """Fit on train, choose on tuning, score held_out."""
        by_key = dict(self._keyed())
        found = evaluate_task(
            {
                _method(key): Method(
                    features=list(one.vectors), fit=MODELS[key[1]].fit, protocol=key[1]
                )
                for key, one in by_key.items()
                if one.vectors
            },
            self.targets,
            self.prepared.splits,
            self.prepared.subjects,
            fractions=self.asked.label_fractions or self.suite.label_fractions,
            draws=self.suite.draws,
            seed=self.asked.seed,
            bootstrap_draws=self.suite.bootstrap_draws,
            present={_method(key): one.present for key, one in by_key.items()},
            predictions={
                _method(key): self._kept(one.predictions[self.targets.name])
                for key, one in by_key.items()
                if one.predictions
            },
            predictions_protocol=TRAINED,
            baseline=NOBODY,
        )
        methods = {_method(key): key for key in by_key}
        rows = [
            self._row(row, by_key[methods[row.method]])
            for row in found.results
            if row.metric in (HEADLINE, "auprc", *CALIBRATION)
        ]
        rows += self._beside_random(found, by_key)
        if self.asked.disturbed:
            rows += self._disturbed(found, by_key)
        return rows

    def _kept(self, predicted: np.ndarray) -> np.ndarray:
        """Predictions of the labels that are scored."""
        return predicted[:, self.kept] if self.targets.kind == "multilabel" else predicted

    def _keyed(self) -> Iterator[tuple[Key, Contender]]:
        yield from (((one.name, TRAINED), one) for one in self.contenders if one.predictions)
        for protocol in self.asked.protocols or self.suite.protocols:
            for one in (one for one in self.contenders if one.vectors):
                if one.kind != SIMPLE or protocol in LINEAR:  # numbers of many units: no distance
                    yield (one.name, protocol), one

    def _row(self, row: Result, one: Contender, **changes: Any) -> Row:
        told: dict[str, Any] = {
            **{key.name: getattr(row, key.name) for key in fields(Row) if hasattr(row, key.name)},
            **{ours: getattr(row, theirs) for theirs, ours in CALLED.items()},
            "suite": self.name,
            "cohort": self.prepared.cohort.name,
            "task": self.targets.name,
            "name": one.name,
            "kind": one.kind,
            "condition": AS_RECORDED,
            "scored_on": self.setting.scored_on,
            "trained_on": self.setting.trained_on,
            "classes": self.targets.num_outputs,
            "left_out": ", ".join(self._scored_classes()),
            "versus": "",
            "overlap": one.overlap.status,
            "mark": "; ".join(filter(None, (one.overlap.mark, one.caution))),
            "terms": one.terms,
            "command": self.asked.command,
        }
        return Row(**{**told, **changes})

    def _scored_classes(self) -> list[str]:
        """Classes of the task that nobody who is scored has."""
        held = self.prepared.splits == "held_out"
        for one in self.contenders:
            held = held & one.present
        values, known = one_hot(self.targets)
        has = ((values > 0) & known)[held].any(axis=0)
        names = self.targets.classes or self.targets.columns
        return [name for name, one in zip(names, has, strict=True) if not one]

    def _beside_random(
        self, found: TaskEvaluation, by_key: Mapping[Key, Contender]
    ) -> Iterator[Row]:
        """Paired differences of each to the random encoder of its architecture."""
        tables = {table.method: table for table in found.tables}
        for (name, protocol), one in by_key.items():
            mate = tables.get(_method((one.beside, protocol)))
            if mate is None or _method((name, protocol)) not in tables:
                continue
            yield from self._apart(tables[_method((name, protocol))], mate, one)

    def _apart(self, table: Predicted, mate: Predicted, one: Contender) -> Iterator[Row]:
        own = next(iter(table.sampled)) if self.targets.num_outputs == 1 else ("macro", HEADLINE)
        sampled = table.sampled[own][1].minus(mate.sampled[own][1])
        row = Result.of(
            sampled.interval(),
            task=self.targets.name,
            target=own[0],
            kind=self.targets.kind,
            metric=HEADLINE,
            direction="higher",
            method=table.method,
            protocol=table.protocol,
        )
        yield self._row(row, one, versus=one.beside)

    def _disturbed(self, found: TaskEvaluation, by_key: Mapping[Key, Contender]) -> Iterator[Row]:
        """Score the same people by records that are disturbed; nothing is fitted anew."""
        for condition, how in self.suite.disturbances.items():
            given: dict[str | tuple[str, float], Predictions] = {}
            present: dict[str, np.ndarray] = {}
            for key, one in by_key.items():
                fitted = found.models.get(_method(key))
                if fitted is None or one.disturbed is None:
                    continue
                vectors, has = one.disturbed(how)
                given[_method(key)] = fitted.predict(vectors)
                present[_method(key)] = has | (self.prepared.splits != "held_out")
            if not given:
                continue
            done = evaluate_task(
                {},
                self.targets,
                self.prepared.splits,
                self.prepared.subjects,
                seed=self.asked.seed,
                bootstrap_draws=self.suite.bootstrap_draws,
                present=present,
                predictions=given,
                baseline=NOBODY,
                further_metrics=False,
            )
            methods = {_method(key): key for key in by_key}
            for row in done.results:
                if row.metric == HEADLINE:
                    key = methods[row.method]
                    yield self._row(row, by_key[key], condition=condition, protocol=key[1])


def _method(key: Key) -> str:
    return f"{key[0]} | {key[1]}"
