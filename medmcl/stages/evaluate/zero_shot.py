"""Tasks scored without labels: by the embeddings of the cohort's prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.config import lookup
from medmcl.core.contracts import EncodesTexts
from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.targets import Targets
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.models.zero_shot import zero_shot_classes, zero_shot_labels
from medmcl.evaluation.protocol.evaluate import evaluate_embeddings
from medmcl.evaluation.protocol.results import Result
from medmcl.stages.evaluate.spec import EvaluateSpec, ZeroShotSpec
from medmcl.stages.run.features import chunks, sample_vectors
from medmcl.stages.run.outside import outside_splits
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import seen_people
from medmcl.stages.run.study import is_another
from medmcl.stages.train.models import scale_of

if TYPE_CHECKING:
    import torch


def zero_shot_results(
    spec: ZeroShotSpec,
    run: Run,
    prepared: Prepared,
    device: torch.device,
    stage: EvaluateSpec,
    tasks: Sequence[str],
    seed: int,
    notes: list[str],
    sites: np.ndarray | None = None,
    *,
    fits: bool = False,
) -> list[Result]:
    """Score tasks that the cohort has prompts for, by the prompts' embeddings.

    A label is set against its own negative prompts (``not LABEL``), or, where the cohort has none,
    against the prompts of the other labels. Of another cohort than the run's own everybody is
    scored where it has no held-out split, but for people whom the run learned from; where it
    declares none, too, unless probes are fitted on it (``fits``).

    Raises:
        CohortError: Nobody who has the outcome may be scored.
    """
    pooled = sample_vectors(run, prepared, spec.stage, spec.modality, "pooled", device)
    scale = _logit_scale(run, spec.stage, (spec.modality, spec.text), device)
    rows: list[Result] = []
    prompts = prepared.cohort.spec.prompts
    for task in tasks:
        if task not in prompts:
            notes.append(f"zero-shot: the cohort has no prompts for {task}")
            continue
        targets, splits = _scored(run, prepared, prepared.tasks(task), notes, fits=fits)
        names = targets.classes if targets.kind == "multiclass" else targets.columns

        told = embed_prompts(run, prepared, spec.stage, spec.text, prompts[task], device)
        where = f"prompts of task {task}"
        positive = [lookup(where, str(name), told) for name in names]
        if targets.kind == "multiclass":
            scores = zero_shot_classes(pooled, positive, logit_scale=scale)
        else:
            negative = [
                told[f"not {name}"]
                if f"not {name}" in told
                else np.concatenate([p for n, p in enumerate(positive) if n != number])
                for number, name in enumerate(names)
            ]
            scores = zero_shot_labels(pooled, positive, negative, logit_scale=scale)
        rows += evaluate_embeddings(
            {},
            targets,
            splits,
            prepared.subjects,
            predictions={"zero-shot": scores},
            present={"zero-shot": prepared.present[spec.modality]},
            predictions_protocol="zero_shot",
            seed=seed,
            bootstrap_draws=stage.bootstrap_draws,
            level=stage.level,
            resample=stage.resample,
            sites=sites,
        )
    return rows


def _scored(
    run: Run, prepared: Prepared, targets: Targets, notes: list[str], *, fits: bool = False
) -> tuple[Targets, np.ndarray]:
    """The task with the split of each sample, ``held_out`` where it is scored."""
    known, splits = np.asarray(targets.known.any(axis=1)), prepared.splits
    is_outside = is_another(run, prepared.cohort)
    if is_outside:
        splits, said = outside_splits(run, prepared, known, fits=fits)
        notes += [note for note in said if note not in notes]
        targets = replace(targets, sides=None)
    else:
        seen = seen_people(run, prepared)
        splits = splits if seen is None else np.where(seen, "not scored", splits)
    if known.any() and not (known & (splits == "held_out")).any():
        why = "all of them have a record that the run learned from"
        if not is_outside:
            why = "none of them is in held_out, and the run was trained on this cohort"
        raise CohortError(
            f"zero-shot: there is nobody to score on {targets.name}",
            where=f"cohort {prepared.cohort.name}",
            got=f"{int(known.sum())} samples with the outcome; {why}",
            expected="people in held_out, or a cohort that the run did not learn from",
            fix="give the cohort a held_out split (`split:` of `subjects:` in cohort.yaml), or "
            f"leave the task out (--set cohort.tasks.{targets.name}=null)",
        )
    return targets, splits


def embed_prompts(
    run: Run,
    prepared: Prepared,
    stage: str,
    modality: str,
    prompts: Mapping[str, Sequence[str]],
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Embed the prompts of each name with the text tower of a stage, name to (P, D).

    The weights are read once, however many names there are.
    """
    import torch

    from medmcl.core.batch import Batch

    adapter = prepared.adapters[modality]
    if not isinstance(adapter, EncodesTexts):
        raise ConfigError(
            "prompts can be read by no tower of this modality: its records are no texts",
            got=f"{modality}: {adapter.kind}",
            fix="name a modality of texts",
        )
    towers = run.towers(stage, device)
    all_texts = [text for one in prompts.values() for text in one]
    pooled = []
    for rows in chunks(np.arange(len(all_texts))):
        texts = [all_texts[row] for row in rows]
        batch = Batch(
            ids=torch.arange(len(texts), device=device),
            inputs={modality: adapter.plain(torch.as_tensor(adapter.encode(texts), device=device))},
            present={modality: torch.ones(len(texts), dtype=torch.bool, device=device)},
        )
        with torch.no_grad():
            pooled.append(towers(batch).pooled[modality].float().cpu().numpy())
    ends = np.cumsum([len(one) for one in prompts.values()])
    return dict(zip(prompts, np.split(np.concatenate(pooled), ends[:-1]), strict=True))


def _logit_scale(run: Run, stage: str, pair: tuple[str, str], device: torch.device) -> float:
    scale = scale_of(run.learner(stage, device), pair)
    return 1.0 if scale is None else float(scale().detach())
