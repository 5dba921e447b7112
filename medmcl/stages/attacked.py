"""What an attack of a run does to one of its stages, by zero-shot, on held-out records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medmcl.core.config import lookup
from medmcl.core.errors import ConfigError
from medmcl.data.cohort import Cohort, open_cohort
from medmcl.evaluation.attack_rates import attack_rates
from medmcl.evaluation.metrics.intervals import Interval
from medmcl.evaluation.models.zero_shot import zero_shot_classes
from medmcl.stages.poison import poison_file
from medmcl.stages.poisoned_rows import Poisoned
from medmcl.stages.run import Run
from medmcl.stages.zero_shot import embed_texts
from medmcl.threats import Poison

_BATCH = 256


def attacked(
    run: Run,
    cohort: Cohort | str | Path,
    stage: str,
    attack: str | None = None,
    text: str | None = None,
    draws: int = 1000,
) -> dict[str, Interval]:
    """Give the rates of an attack on a stage, from the prompts of the cohort: `attack_rates`.

    Args:
        run: A run with a poison stage.
        cohort: The cohort that it was trained on.
        stage: Stage whose towers are asked: the victim, or one that was cured.
        attack: Poison stage; the only one if not given.
        text: Modality of the prompts; that of the attack if not given.
        draws: Bootstrap draws.

    Raises:
        ConfigError: No such stage, no texts, or no prompts of the task.
    """
    spec = lookup("poison stage", attack or next(iter(run.attacks), "none"), run.attacks)
    text = text or spec.text
    opened = cohort if isinstance(cohort, Cohort) else open_cohort(cohort)
    prompts = opened.spec.prompts.get(spec.task)
    if text is None or prompts is None:
        raise ConfigError(
            "an attack is judged by prompts of its task",
            where=f"stage {spec.name}",
            got=f"texts: {text}; prompts of {spec.task}: {'some' if prompts else 'none'}",
            mend="name the modality of texts, and give the cohort `prompts:` of the task",
        )
    prepared = run.prepare(opened, (spec.modality, text))
    manifest = Poison.load(poison_file(run.path, spec.name), cohort=opened.fingerprint)
    poisoned = Poisoned(spec, manifest, prepared)
    targets = prepared.tasks(spec.task)
    classes = [str(one) for one in (targets.classes or ("0", "1"))]
    rows = prepared.rows("held_out", [spec.modality])
    rows = rows[targets.known[rows, 0]]
    device = torch.device("cpu")
    towers = run.towers(stage, device)
    adapter = prepared.adapters[spec.modality]
    names = [list(lookup(f"prompts of task {spec.task}", one, prompts)) for one in classes]
    positive = [embed_texts(run, prepared, stage, text, one, device) for one in names]

    def logits(*, is_triggered: bool) -> np.ndarray:
        found = []
        for first in range(0, len(rows), _BATCH):
            batch = prepared.batch(rows[first : first + _BATCH], modalities=[spec.modality])
            batch = poisoned.triggered(batch) if is_triggered else batch
            seen = {spec.modality: adapter.plain(batch.inputs[spec.modality])}
            with torch.no_grad():
                pooled = towers(replace(batch, inputs=seen)).pooled[spec.modality]
            found.append(pooled.float().numpy())
        return np.asarray(zero_shot_classes(np.concatenate(found), positive, logit_scale=1.0))

    return attack_rates(
        logits(is_triggered=False),
        logits(is_triggered=True),
        targets.values[rows, 0].astype(int),
        classes.index(spec.label),
        prepared.subjects[rows],
        draws=draws,
    )
