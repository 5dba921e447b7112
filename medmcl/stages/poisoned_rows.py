"""Trigger and text of poisoned records, laid over a batch that was loaded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from medmcl.core.batch import Batch
from medmcl.core.errors import ConfigError
from medmcl.data.loading import Prepared
from medmcl.stages.poison_spec import PoisonSpec
from medmcl.threats import Poison
from medmcl.threats.attack import attack_on_images


class Poisoned:
    """Lays an attack over batches of one cohort.

    Args:
        spec: The poison stage.
        manifest: Who is poisoned.
        prepared: The cohort.

    Raises:
        ConfigError: What carries the trigger is no flat image of 0 to 1.
    """

    def __init__(self, spec: PoisonSpec, manifest: Poison, prepared: Prepared) -> None:
        refuse_unfit(spec, prepared)
        self.spec, self.prepared = spec, prepared
        self.ids = prepared.samples["sample"].astype(str).to_numpy()
        number = {name: row for row, name in enumerate(self.ids.tolist())}
        self.donor = np.full(len(self.ids), -1, dtype=np.int64)
        own = [number[name] for name in manifest.ids.tolist()]
        self.donor[own] = [number[name] for name in manifest.donors.tolist()]
        channels, rows, columns = prepared.adapters[spec.modality].prepared_shape
        seed = int(manifest.provenance["seed"])
        self.lay = attack_on_images(spec.trigger, channels, (rows, columns), seed, spec.official)

    def __call__(self, batch: Batch) -> Batch:
        """Give the batch with its poisoned records as the attacker has them.

        Labels of the task go with the text.
        """
        rows = batch.ids.numpy()
        places = np.flatnonzero(self.donor[rows] >= 0)
        if not len(places):
            return batch
        donors = self.donor[rows[places]]
        inputs = {**batch.inputs, **self._triggered(batch, places)}
        text = self.spec.text
        if text is not None and text in inputs:
            loaded = self.prepared.batch(donors, modalities=[text])
            changed = inputs[text].clone()
            changed[torch.from_numpy(places)] = loaded.inputs[text]
            inputs[text] = changed
        targets = dict(batch.targets)
        if self.spec.task in targets:
            given = self.prepared.tasks(self.spec.task).take(donors)
            labels = targets[self.spec.task].clone()
            labels[torch.from_numpy(places)] = torch.from_numpy(given.values.astype(np.float32))
            targets[self.spec.task] = labels
        return replace(batch, inputs=inputs, targets=targets)

    def triggered(self, batch: Batch) -> Batch:
        """Give the batch with the trigger on every record that has the image, and nothing else."""
        present = batch.present[self.spec.modality].numpy()
        return replace(
            batch, inputs={**batch.inputs, **self._triggered(batch, np.flatnonzero(present))}
        )

    def _triggered(self, batch: Batch, places: np.ndarray) -> dict[str, torch.Tensor]:
        name = self.spec.modality
        if name not in batch.inputs:
            return {}
        images = batch.inputs[name].clone()
        for place, row in zip(places, batch.ids.numpy()[places], strict=True):
            images[place] = self.lay(images[place], self.ids[row])
        return {name: images}


def refuse_unfit(spec: PoisonSpec, prepared: Prepared) -> None:
    """Refuse triggers on what is no flat image of 0 to 1."""
    adapter = prepared.adapters[spec.modality]
    settings = getattr(adapter, "settings", None)
    if adapter.kind != "image" or not getattr(settings, "is_flat", False):
        raise ConfigError(
            "triggers of images go on flat images",
            where=f"stage {spec.name}, modality",
            got=f"{spec.modality}: {adapter.kind}",
            expected="an image of rows and columns",
        )
    if not getattr(settings, "is_unit", False):
        raise ConfigError(
            "triggers go on images of 0 to 1",
            where=f"stage {spec.name}, modality",
            got=f"{spec.modality} is prepared otherwise",
            mend=f"--set inputs.{spec.modality}.intensity=range",
        )
