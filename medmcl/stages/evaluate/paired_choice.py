"""Pairs of samples that differ in one thing: whether a model's statements find their own image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.findings import counted
from medmcl.data.cohort.choices import Choice
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.aspects.paired_choice.measure import compare_choices
from medmcl.evaluation.protocol.results import Result
from medmcl.stages.evaluate.spec import EvaluateSpec, PairedChoiceSpec
from medmcl.stages.run.features import sample_vectors
from medmcl.stages.run.outside import no_split_to_heed
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import seen_people
from medmcl.stages.run.study import is_another

if TYPE_CHECKING:
    import torch


def paired_choice_results(
    spec: PairedChoiceSpec,
    run: Run,
    prepared: Prepared,
    device: torch.device,
    stage: EvaluateSpec,
    seed: int,
    notes: list[str],
    sites: np.ndarray | None = None,
) -> list[Result]:
    """Score every entry of the cohort's ``choices:`` with every model.

    Scored are pairs of which both samples may be scored and have image and text; of another cohort
    than the run's own all samples may where it has no held-out split, but for people of whom the
    run learned from an image, or from a text that others have not, too (a statement it may know).
    Pairs that lack a side are counted in the notes.
    """
    choices = prepared.cohort.choices
    if not choices:
        notes.append("paired choice: the cohort has no `choices:`, pairs of samples to tell apart")
        return []
    scored = _may_be_scored(run, prepared)
    complete = scored & prepared.present[spec.image] & prepared.present[spec.text]
    used = {name: _whole(choice, scored, complete, notes) for name, choice in choices.items()}
    if not any(len(one) for one in used.values()):
        return []
    vectors = {
        label: (
            sample_vectors(run, prepared, model, spec.image, "pooled", device),
            sample_vectors(run, prepared, model, spec.text, "pooled", device),
        )
        for label, model in spec.models.items()
    }
    found: list[Result] = []
    for name, chosen in used.items():
        if not len(chosen):
            continue
        attribute = choices[name].attribute
        found += compare_choices(
            {label: (image[chosen], text[chosen]) for label, (image, text) in vectors.items()},
            choices[name].pair[chosen],
            None if attribute is None else attribute[chosen],
            groups=prepared.subjects[chosen],
            sites=None if sites is None else sites[chosen],
            draws=stage.bootstrap_draws,
            seed=seed,
            level=stage.level,
            task=name,
        )
    return found


def _may_be_scored(run: Run, prepared: Prepared) -> np.ndarray:
    """Samples of held_out, of another cohort that has none or declares no split all, (N,).

    Not who was learned from.
    """
    scored = prepared.splits == "held_out"
    known = seen_people(run, prepared)
    if is_another(run, prepared.cohort) and (
        not scored.any() or no_split_to_heed(run, prepared.cohort)
    ):
        scored = np.ones(len(scored), dtype=bool)
    return np.asarray(scored if known is None else scored & ~known)


def _whole(
    choice: Choice, scored: np.ndarray, complete: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Samples of pairs that have both sides, in the cohort's order; says how many have not."""
    in_pair = np.array([one is not None for one in choice.pair], dtype=bool)
    names, code = np.unique(choice.pair[in_pair].astype(str), return_inverse=True)
    asked = np.bincount(code, scored[in_pair], minlength=len(names)) > 0
    sides = np.bincount(code, complete[in_pair], minlength=len(names))
    whole = (sides == 2) & (np.bincount(code, minlength=len(names)) == 2)
    lost = int((asked & ~whole).sum())
    if not asked.any():
        notes.append(f"paired choice, {choice.name}: no pair lies in what is scored")
    elif lost:
        notes.append(
            f"paired choice, {choice.name}: {lost:,} of {counted(int(asked.sum()), 'pair')} not "
            "scored, as a side lacks its image or its text, or may not be scored"
        )
    return np.flatnonzero(in_pair)[whole[code]]
