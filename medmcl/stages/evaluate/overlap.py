"""Who has seen the data that is scored: models by their cards, runs by what they began with.

What the ledger says of one model is `medmcl.encoders.published.overlap`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from medmcl.core.config import read_yaml
from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import Cohort, dataset_under, open_cohort
from medmcl.data.cohort.locate import find_cohort
from medmcl.encoders.published.card import Card, find_variant, split_model
from medmcl.encoders.published.overlap import (
    SEEN,
    Overlap,
    of_anybody,
    overlap_of,
    overlap_of_provenance,
    refuse_overlap,
    worst,
)
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import BESIDE
from medmcl.modalities import ADAPTERS
from medmcl.stages.evaluate.pretraining_list import ListSearch, with_list
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.recipe.settings import evaluate_overrides, only_cohort_overrides
from medmcl.stages.run.run import Run


def seen_before(
    vectors: Mapping[str, Path],
    dataset: str | None,
    *,
    allow: bool,
    own: Collection[str] = (),
    listed: Mapping[str, Overlap] | None = None,
) -> dict[str, Path]:
    """Refuse vectors of encoders that may have seen who is scored, or say so in their names.

    Tables of ``medmcl embed`` say whose they are; of others nothing is known.

    Args:
        vectors: Name to file.
        dataset: What the cohort says it is.
        allow: Score them; then every row and headline has the mark.
        own: Names that a run knows its vectors by: they stay.
        listed: Name to what lists of its pretraining say; those that may be scored are chosen.

    Raises:
        ConfigError: There are such, and ``allow`` is False.
    """
    from medmcl.stages.run.embedding import provenance_of_table

    found = {
        name: overlap_of_provenance(dataset, provenance_of_table(path).get("made_by", {}))
        for name, path in vectors.items()
    }
    found = {name: with_list(one, (listed or {}).get(name)) for name, one in found.items()}
    refuse_overlap(found, allow=allow)
    marked = {name: found[name].status == "seen" and name not in own for name in vectors}
    return {name + SEEN * marked[name]: path for name, path in vectors.items()}


def dataset_of(
    cohort: Cohort | str | Path, overrides: Mapping[str, Any], specs: Collection[EvaluateSpec] = ()
) -> str | None:
    """Say which data set, or part of one, is scored, before the cohort is opened.

    Args:
        cohort: The cohort.
        overrides: Of the command.
        specs: Evaluate stages of the run, if there is one.
    """
    if isinstance(cohort, Cohort):
        said = cohort.spec.keys.dataset
    else:
        own = str(read_yaml(find_cohort(cohort)).get("dataset") or "")
        said = dataset_under(own, overrides) or None
    asked = overrides.get("evaluate.folds", next((one.folds for one in specs if one.folds), None))
    return of_anybody(said) if asked not in (None, "none") else said


def scored_dataset(cohort: Cohort, spec: EvaluateSpec) -> str | None:
    """Say which data set, or part of one, a stage scores: in folds it is anybody of it."""
    said = cohort.spec.keys.dataset
    return of_anybody(said) if spec.folds else said


@dataclass(frozen=True)
class AskedModel:
    """A published model as a command names it.

    Attributes:
        label: What it is to be called; empty if nothing is said.
        text: ``NAME[:VARIANT]:FILE``.
    """

    label: str
    text: str

    @classmethod
    def of(cls, text: str) -> AskedModel:
        """Read ``[LABEL=]NAME[:VARIANT]:FILE``."""
        label, sign, rest = text.partition("=")
        return cls(label.strip(), rest) if sign and ":" not in label else cls("", text)

    @property
    def model(self) -> str:
        """``NAME[:VARIANT]``."""
        return split_model(self.text)[0]

    @property
    def file(self) -> Path:
        """Its weights."""
        return split_model(self.text)[1]

    @cached_property
    def card(self) -> tuple[Card, str]:
        """Its card, and the variant."""
        return find_variant(self.model)

    @property
    def name(self) -> str:
        """What rows call it: its label, or its card and variant."""
        card, variant = self.card
        return self.label or card.called(variant)

    @property
    def as_scored(self) -> str:
        """What results of `medmcl evaluate` call it."""
        card, variant = self.card
        return self.label or f"{card.name}:{variant}"


def refuse_seen(models: Sequence[str], dataset: str | None, *, allow: bool) -> None:
    """Refuse models that may have seen who is scored, by their cards, before anything is embedded.

    Raises:
        ConfigError: There are such, and ``allow`` is False.
    """
    asked = map(AskedModel.of, models)
    found = {one.name: one.card[0].saw(one.card[1]) for one in asked}
    told = {name: overlap_of(dataset, saw.seen, saw.clean) for name, saw in found.items()}
    refuse_overlap(told, allow=allow)


def named_models(models: Sequence[str]) -> dict[str, AskedModel]:
    """Give each model by what rows call it.

    Raises:
        ConfigError: Two are called alike, or there is no such model.
    """
    found: dict[str, AskedModel] = {}
    for one in map(AskedModel.of, models):
        if one.name in found:
            raise ConfigError(
                "two models are called alike",
                where="--model",
                got=one.name,
                fix=f"--model LABEL={one.text}, with a label of your choice",
            )
        found[one.name] = one
    return found


def began_with(run: Run, dataset: str | None) -> dict[str, Overlap]:
    """Stages of a run whose towers began, or go on from others that began, with published weights.

    Returns:
        Stage to what those weights have seen of a data set.
    """
    said = {name: run.began_with(name).values() for name in run.stages}
    return {
        name: worst([overlap_of_provenance(dataset, one) for one in weights])
        for name, weights in said.items()
        if weights
    }


def refuse_runs(runs: Mapping[str, Run], dataset: str | None, *, allow: bool) -> None:
    """Refuse runs that began with weights which may have seen who is scored.

    Raises:
        ConfigError: There are such, and ``allow`` is False.
    """
    told = {name: list(began_with(run, dataset).values()) for name, run in runs.items()}
    refuse_overlap({name: worst(found) for name, found in told.items() if found}, allow=allow)


def mark_seen(evaluation: Evaluation, spec: EvaluateSpec, run: Run, dataset: str | None) -> None:
    """Say in rows and notes which models of a run may owe a score to having seen who is scored.

    They began with published weights, or are vectors that say they are of such a model. A run's own
    evaluate stage is not refused: what it trained is there already.
    """
    from medmcl.stages.run.embedding import provenance_of_table

    seen = {name: one.mark for name, one in began_with(run, dataset).items()
            if one.status == "seen"}  # fmt: skip
    models = {} if spec.probe is None else spec.probe.models
    told = {name: seen[stage] for name, stage in models.items() if stage in seen}
    for name, path in spec.embeddings.items():
        made_by = provenance_of_table(Path(path)).get("made_by", {})
        of_vectors = overlap_of_provenance(dataset, made_by)
        if of_vectors.status == "seen" and not name.endswith(SEEN):
            told[name] = of_vectors.mark
    if told:
        told[BESIDE] = next(iter(told.values()))
    for name, pattern in spec.finetuned.items():
        stem = pattern.partition("{")[0]
        mark = next((one for stage, one in seen.items() if stage.startswith(stem)), None)
        if mark is not None:
            told[name] = mark
    mark_rows(evaluation, told)


def mark_rows(evaluation: Evaluation, told: Mapping[str, str]) -> None:
    """Say marks in notes, and in the rows of whom they are about or who is compared with them."""
    evaluation.notes += [f"{mark} ({name})" for name, mark in told.items()]
    for number, row in enumerate(evaluation.results):
        said = told.get(row.method) or told.get(row.versus)
        if said:
            note = f"{row.note}; {said}" if row.note else said
            evaluation.results[number] = replace(row, note=note)


def search_lists(
    pretrained_on: Sequence[str],
    models: Sequence[str],
    embeddings: Collection[str],
    runs: Collection[str],
    cohort: Cohort | str | Path,
    overrides: Mapping[str, Any],
) -> dict[str, Overlap]:
    """Say who of the lists of what models, vectors and runs were pretrained on is scored.

    Args:
        pretrained_on: ``[MODEL=]LIST``.
        models: ``[LABEL=]NAME[:VARIANT]:FILE``.
        embeddings: Names of vectors.
        runs: Names of runs.
        cohort: Who is scored.
        overrides: Of the command.

    Returns:
        Name to what was found, of whoever has a list; models as results name them, with variant.
    """
    own = {one.name: one for one in map(AskedModel.of, models)}
    lists = ListSearch.of(
        pretrained_on, {name: one.card[0].pretrained_on for name, one in own.items()}
    )
    if not lists.given:
        return {}
    names = [*own, *embeddings, *runs]
    lists.refuse_unknown(names)
    opened = cohort
    if not isinstance(opened, Cohort):
        given = only_cohort_overrides(evaluate_overrides(overrides)[1])
        opened = open_cohort(opened, {"on_bad_record": "exclude", **given})
    found: dict[str, Overlap] = {}
    for name in names:
        # records are compared of the first modality of a kind, or the first that is measured
        mine = own.get(name)
        kind = None if mine is None else mine.card[0].input.modality
        fitting = {
            name: ADAPTERS[one.kind].measured if kind is None else one.kind == kind
            for name, one in opened.spec.modalities.items()
        }
        modality = next((name for name, fits in fitting.items() if fits), next(iter(fitting)))
        judged = lists.found([name], opened, modality).get(name)
        if judged is not None:
            found[name if mine is None else mine.as_scored] = judged
    return found
