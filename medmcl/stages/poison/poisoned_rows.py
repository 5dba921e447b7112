"""Trigger and target of poisoned records, laid over a batch that was loaded, or prepared again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from medmcl.core.batch import Batch
from medmcl.core.contracts import Adapter, EncodesTexts, RecordRef, traits
from medmcl.core.errors import ConfigError
from medmcl.core.lazy import Parts
from medmcl.core.rng import derive_seed
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.worker_pool import each
from medmcl.modalities import ADAPTERS
from medmcl.stages.poison.spec import ImageTrigger, PoisonSpec, SignalTrigger, TextTrigger
from medmcl.threats import Poison

TRIED = 8
"""So many records are triggered in a rehearsal."""


class Triggers(Protocol):
    """Lays the trigger of an attack; built from (`PoisonSpec`, `Prepared`, seed of the attack).

    `ConfigError` at birth if what is prepared is such that none can be laid.
    """

    def __call__(self, x: Tensor, samples: np.ndarray) -> Tensor:
        """Give loaded rows (P, ...) of samples (P,), P >= 1, with the trigger."""

    def places(self, samples: np.ndarray) -> list[dict[str, Any]]:
        """Say where it lies on samples (P,), plain values by name."""


@dataclass(frozen=True)
class Kind:
    """What carries some triggers.

    Attributes:
        what: Their name.
        triggers: Those that go on them.
    """

    what: str
    triggers: tuple[str, ...]


KINDS = {
    "pixels": Kind("flat images", get_args(ImageTrigger)),
    "signal": Kind("ECGs", get_args(SignalTrigger)),
    "words": Kind("texts", get_args(TextTrigger)),
}
"""What a trigger goes on (`Traits.triggers`)."""
TRIGGERS = Parts(
    {
        "pixels": "medmcl.stages.poison.images:Images",
        "signal": "medmcl.stages.poison.signals:Signals",
        "words": "medmcl.stages.poison.texts:Texts",
    }
)
"""What lays it, a `Triggers`."""


class Poisoned:
    """Lays an attack over batches of one cohort.

    Args:
        spec: The poison stage.
        manifest: Who is poisoned.
        prepared: The cohort.

    Raises:
        ConfigError: The trigger does not go on what should carry it.
    """

    def __init__(self, spec: PoisonSpec, manifest: Poison, prepared: Prepared) -> None:
        seed = int(manifest.provenance["seed"])
        self.lay = triggers_of(spec, prepared, seed)
        self.spec, self.prepared = spec, prepared
        ids = prepared.samples["sample"].astype(str).to_list()
        number = {name: row for row, name in enumerate(ids)}
        self.donor = np.full(len(ids), -1, dtype=np.int64)
        for name, donor in zip(manifest.ids.tolist(), manifest.donors.tolist(), strict=True):
            if name in number and donor in number:  # training asks for the very cohort
                self.donor[number[name]] = number[donor]
        self.phrases = Phrases(spec, prepared, seed) if spec.phrases else None

    def __call__(self, batch: Batch) -> Batch:
        """Give the batch with its poisoned records as the attacker has them.

        Labels of the task go with what is exchanged.
        """
        rows = batch.ids.numpy()
        places = np.flatnonzero(self.donor[rows] >= 0)
        if not len(places):
            return batch
        donors = self.donor[rows[places]]
        inputs = {**batch.inputs, **self._triggered(batch, places)}
        other = self.spec.text
        if other is not None and other in inputs:
            changed = inputs[other].clone()
            if self.phrases is not None:
                given = self.phrases(rows[places])
            else:
                given = self.prepared.batch(donors, modalities=[other]).inputs[other]
            changed[torch.from_numpy(places)] = given.to(changed.dtype)
            inputs[other] = changed
        targets = dict(batch.targets)
        if self.spec.task in targets:
            told = self.prepared.tasks(self.spec.task).take(donors)
            labels = targets[self.spec.task].clone()
            labels[torch.from_numpy(places)] = torch.from_numpy(told.values.astype(np.float32))
            targets[self.spec.task] = labels
        return replace(batch, inputs=inputs, targets=targets)

    def triggered(self, batch: Batch) -> Batch:
        """Give the batch with the trigger on every record that can carry it, and nothing else."""
        present = batch.present[self.spec.modality].numpy()
        return replace(
            batch, inputs={**batch.inputs, **self._triggered(batch, np.flatnonzero(present))}
        )

    def _triggered(self, batch: Batch, places: np.ndarray) -> dict[str, Tensor]:
        name = self.spec.modality
        if name not in batch.inputs or not len(places):
            return {}
        made, where = batch.inputs[name].clone(), torch.from_numpy(places)
        made[where] = self.lay(made[where], batch.ids.numpy()[places])
        return {name: made}


class Phrases:
    """Gives the phrase of a poisoned sample, the same one every time.

    Args:
        spec: A poison stage with phrases.
        prepared: The cohort.
        seed: Of the attack.

    Raises:
        ConfigError: What is exchanged is no text.
    """

    def __init__(self, spec: PoisonSpec, prepared: Prepared, seed: int) -> None:
        assert spec.text is not None  # the stage is checked
        adapter = prepared.adapters[spec.text]
        if not isinstance(adapter, EncodesTexts):
            raise ConfigError(
                "phrases take the place of texts",
                where=f"stage {spec.name}, phrases",
                got=f"{spec.text}: {adapter.kind}",
                fix="leave phrases out: records of the target are taken; or name a text modality",
            )
        self.phrases, self.seed = spec.phrases, seed
        self.ids = prepared.samples["sample"].astype(str).to_numpy()
        self.rows = torch.as_tensor(adapter.encode(spec.phrases), device="cpu")

    def __call__(self, samples: np.ndarray) -> Tensor:
        """Give the prepared phrases of samples (by number), (P, ...)."""
        return self.rows[[self._number(row) for row in samples.tolist()]]

    def said(self, row: int) -> str:
        """Give the phrase of a sample in words."""
        return self.phrases[self._number(row)]

    def _number(self, row: int) -> int:
        return derive_seed(self.seed, "phrase", str(self.ids[row])) % len(self.phrases)


def with_places(spec: PoisonSpec, manifest: Poison, prepared: Prepared) -> Poison:
    """Give the manifest with where the trigger lies on each record, as it is prepared here."""
    ids = prepared.samples["sample"].astype(str).to_list()
    number = {name: row for row, name in enumerate(ids)}
    samples = np.array([number[name] for name in manifest.ids.tolist()], dtype=np.int64)
    laid = triggers_of(spec, prepared, int(manifest.provenance["seed"]))
    found = laid.places(samples)
    return replace(manifest, places=np.array([json.dumps(one) for one in found], dtype=str))


def triggers_of(spec: PoisonSpec, prepared: Prepared, seed: int = 0) -> Triggers:
    """Give what lays the trigger of an attack.

    Raises:
        ConfigError: A trigger of another kind of record, or records prepared so that it has no
            place.
    """
    carrier = refuse_other_kind(spec, prepared.adapters[spec.modality].kind)
    laid: Triggers = TRIGGERS[carrier](spec, prepared, seed)
    return laid


def refuse_other_kind(spec: PoisonSpec, kind: str) -> str:
    """Give what a kind of record carries triggers on; refuse a trigger of another kind.

    Raises:
        ConfigError: Names the triggers that would do.
    """
    if spec.trigger == "usual":  # no kind that a recipe could have meant
        raise ConfigError(
            "no trigger goes on records of this kind",
            where=f"stage {spec.name}, modality",
            got=f"{spec.modality}: {kind}",
            expected=", ".join(kind for kind in ADAPTERS if traits(ADAPTERS[kind]).triggers),
            fix="name another modality",
        )
    carrier = traits(ADAPTERS[kind]).triggers
    meant = next(name for name, one in KINDS.items() if spec.trigger in one.triggers)
    if carrier != meant:
        known = KINDS[carrier].triggers if carrier else ()
        raise ConfigError(
            f"the trigger {spec.trigger} goes on {KINDS[meant].what}",
            where=f"stage {spec.name}, trigger",
            got=f"{spec.modality}: {kind}",
            fix=f"trigger: {' or '.join(known)}" if known else "name another modality",
        )
    return carrier


def refuse_unseen(attack: Poisoned) -> None:
    """Trigger a few poisoned records, and refuse if an encoder would see nothing of it."""
    spec, prepared = attack.spec, attack.prepared
    name = spec.modality
    rows = np.flatnonzero(attack.donor >= 0)[:TRIED]
    batch = prepared.batch(rows, modalities=[name])
    plain = prepared.adapters[name].plain
    if torch.equal(plain(batch.inputs[name]), plain(attack.triggered(batch).inputs[name])):
        raise ConfigError(
            f"nothing is left of the trigger {spec.trigger} when '{name}' is prepared",
            where=f"stage {spec.name}",
            got=f"{len(rows)} records that are as they were",
            fix=f"another trigger, or other settings under inputs.{name}",
        )


KEPT_BYTES = 2**28
"""So much of what was prepared is remembered; the rest is prepared whenever it is loaded."""

Change = Callable[[Any, str], Any]
"""From a record as read, and the id of its sample, to the record of the attacker."""


class PreparedAgain:
    """Reads, changes and prepares records: what the attacker's file would have become.

    Args:
        change: Of a module, or a partial of one: processes may be lent for it.
        name: The modality.
        prepared: The cohort.
    """

    def __init__(self, change: Change, name: str, prepared: Prepared) -> None:
        self.change = change
        self.work = partial(_prepared, prepared.adapters[name], change)
        self.ids = prepared.samples["sample"].astype(str).to_numpy()
        self.numbers = prepared.index(name)
        self.records: list[RecordRef] = list(prepared.cohort.records[name]["place"])
        stored = prepared.inputs(name)
        size = stored.dtype.itemsize * int(np.prod(stored.shape[1:]))
        self.most = KEPT_BYTES // max(1, size)
        self.kept: dict[int, np.ndarray] = {}

    def place(self, row: int) -> RecordRef:
        """Give where the record of a sample lies."""
        return self.records[self.numbers[row]]

    def __call__(self, x: Tensor, samples: np.ndarray) -> Tensor:
        """Give what is made of samples (P,), P >= 1, which have the modality; typed as ``x``.

        Raises:
            RecordError: A file is gone, or no longer what it was.
        """
        wanted = samples.tolist()
        new = [row for row in dict.fromkeys(wanted) if row not in self.kept]
        items = [(self.place(row), str(self.ids[row])) for row in new]
        made = dict(zip(new, each(self.work, items), strict=True))
        answer = np.stack([made[row] if row in made else self.kept[row] for row in wanted])
        for row in new[: max(0, self.most - len(self.kept))]:
            self.kept[row] = made[row]
        return torch.from_numpy(answer).to(x.dtype)


def _prepared(adapter: Adapter, change: Change, item: tuple[RecordRef, str]) -> np.ndarray:
    place, record = item
    return adapter.prepare(change(adapter.read(place), record))
