"""What a benchmark compares: vectors of every sample, with whose they are.

A contender is a published model with its file, a run, or a table of vectors; beside them stand a
randomly initialised encoder of the same architecture, and what is plain to see of a record.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medmcl.core.atomic import write_atomically
from medmcl.core.config import fingerprint
from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.core.sealed import file_digest
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared, build_adapters, cache_folder, prepare
from medmcl.data.loading.simple_features import simple_table
from medmcl.encoders.published.card import Card, find_variant
from medmcl.encoders.published.overlap import Overlap, overlap_of_provenance, worst
from medmcl.stages.benchmark.suite import Network
from medmcl.stages.factorise.given_vectors import lay_vectors
from medmcl.stages.run.embedding import (
    Embedding,
    embedding_of_model,
    embedding_of_net,
    provenance_of_table,
)
from medmcl.stages.run.outputs import write_table
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import seen_people

if TYPE_CHECKING:
    import torch

Kind = Literal["model", "run", "embeddings", "random", "simple features", "trained"]
SIMPLE: Kind = "simple features"
NOTHING_LEARNED = Overlap("not seen", "nothing was learned before")

log = logging.getLogger("medmcl")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Vectors of the samples of a cohort.

    Attributes:
        name: What rows call it.
        kind: What it is.
        vectors: (N, E) of every sample, zeros where there are none; one array a seed.
        present: Samples that have some. (N,) bool
        overlap: Whether it may have seen who is scored.
        terms: What must be said of its use; empty if anybody may use it.
        caution: What else must be minded of it; empty if nothing.
        beside: The random encoder of the same architecture, by name; empty if there is none.
        sizes: What a published model's file says of its sizes that its card does not.
        of: The model that it was trained on from; empty if it is one itself, or nothing was.
        disturbed: Vectors (N, E) of held-out samples whose records are disturbed in a way, and who
            has them; None where records are not encoded here.
        predictions: Task to predictions (N, C) of held-out samples, of a network that was trained
            for it; it has no vectors.
    """

    name: str
    kind: Kind
    vectors: tuple[np.ndarray, ...] = field(repr=False)
    present: np.ndarray = field(repr=False)
    overlap: Overlap = NOTHING_LEARNED
    terms: str = ""
    caution: str = ""
    beside: str = ""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    of: str = ""
    disturbed: Callable[[Mapping[str, Any]], tuple[np.ndarray, np.ndarray]] | None = None
    predictions: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Field:
    """Where contenders are made: a cohort, and where vectors are kept.

    Attributes:
        cohort: Whose samples.
        modality: What is embedded.
        folder: Where embeddings are kept, by what decides them.
        records: Fingerprint of the cohort without regard to who is in which split.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    cohort: Cohort
    modality: str
    folder: Path
    records: str
    device: str = "auto"

    @property
    def dataset(self) -> str | None:
        """What the cards of models call the cohort."""
        return self.cohort.spec.keys.dataset

    def model(self, text: str, name: str) -> Contender:
        """Embed by a published model, ``NAME[:VARIANT]:FILE``, that rows call ``name``."""
        found = embedding_of_model(
            text, self.cohort, beside=self.folder, modality=self.modality, device=self.device
        )
        made_by = found.made_by
        card, variant = find_variant(f"{made_by['model']}:{made_by['variant']}")
        sizes = made_by.get("sizes", {})
        return self._embedded(
            [found],
            name=name,
            kind="model",
            overlap=overlap_of_provenance(self.dataset, made_by),
            terms=card.warning or "",
            beside=random_name(card, variant, sizes),
            sizes=sizes,
        )

    def random(self, name: str, seeds: int, sizes: Mapping[str, Any] | None = None) -> Contender:
        """Embed by a model with first weights, ``NAME[:VARIANT]``, drawn ``seeds`` times.

        ``sizes``: those of a file, where they are not the card's.
        """
        card, variant = find_variant(name)
        found = [self._random(card, variant, seed, sizes or {}) for seed in range(seeds)]
        return self._embedded(found, name=random_name(card, variant, sizes or {}), kind="random")

    def _random(self, card: Card, variant: str, seed: int, sizes: Mapping[str, Any]) -> Embedding:
        import torch

        from medmcl.encoders.published.file import build_net

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = build_net(card, variant, sizes)
        return embedding_of_net(
            net.eval().requires_grad_(False),
            card,
            card.settings(variant),
            self.cohort,
            beside=self.folder,
            modality=self.modality,
            device=self.device,
            made_by={"model": card.name, "variant": variant, "first_weights": seed, **sizes},
        )

    def run(self, path: Path) -> tuple[Contender, Contender]:
        """Embed by a run, and by its tower before any step."""
        run, name = Run(path), path.absolute().name
        run.refuse_unfinished()
        found, first = (
            run.embedding(self.cohort, modality=self.modality, stage=stage, device=self.device)
            for stage in (None, "untrained")
        )
        kind: Kind = "random"
        beside, overlap = f"random {name}", NOTHING_LEARNED
        if getattr(first.towers.tower(self.modality).encoder, "pretrained", False):
            kind, beside = "model", f"{name} before training"
            overlap = Overlap("not known", "weights of a folder, which no card describes")
        own = self._embedded(
            [found],
            name=name,
            kind="run",
            overlap=self._seen_by(run, found),
            terms=_terms(name, found.made_by),
            beside=beside,
        )
        return own, self._embedded([first], name=beside, kind=kind, overlap=overlap)

    def _seen_by(self, run: Run, found: Embedding) -> Overlap:
        """What a run has seen, people told by their records; and what it began with had."""
        scored = found.prepared.splits == "held_out"
        seen = seen_people(run, found.prepared)
        if seen is None:
            own = Overlap("not known", "the run kept nothing of whom it learned from")
        elif (seen & scored).any():
            people = len(np.unique(found.prepared.subjects[seen & scored]))
            own = Overlap("seen", f"trained on {counted(people, 'person', 'people')} of them")
        elif seen.any():
            own = Overlap("other parts seen", "trained on other people of this cohort")
        else:
            own = Overlap("not seen", "trained on nobody of this cohort")
        began = found.made_by["published"].values()
        return worst([own, *(overlap_of_provenance(self.dataset, one) for one in began)])

    def table(self, name: str, path: Path) -> Contender:
        """Lay vectors that were made elsewhere over the samples."""
        laid = lay_vectors(name, path, self.cohort)
        for note in laid.notes:
            log.warning("warning: %s", note)
        made_by = provenance_of_table(path).get("made_by", {})
        return Contender(
            name=name,
            kind="embeddings",
            vectors=(laid.values,),
            present=laid.present,
            overlap=overlap_of_provenance(self.dataset, made_by),
            terms=_terms(name, made_by),
            caution=laid.other_files,
        )

    def trained(self, name: str, network: Network, tasks: Sequence[str], seed: int) -> Contender:
        """Train a network for each task, on all labels, and predict held-out samples.

        Args:
            name: What rows call it.
            network: What is trained.
            tasks: Which tasks.
            seed: Of the runs.
        """
        from medmcl.encoders.published.file import weights_file
        from medmcl.engine.world import pick_device
        from medmcl.stages.run.features import predict
        from medmcl.stages.run.pretrain import run_recipe

        modality, found, content = self.modality, {}, None
        if network.encoder.get("weights") is not None:  # a file may change, and keep its name
            content = file_digest(weights_file(Path(network.encoder["weights"])))
        present = np.zeros(len(self.cohort.samples), dtype=bool)
        for task in tasks:
            recipe = network.recipe(modality, task)
            what = fingerprint([recipe, self.cohort.fingerprint, seed, content])[:24]
            folder = self.folder.parent / "trained" / what
            run, _ = run_recipe(
                self.cohort,
                recipe=recipe,
                out=folder,
                overrides=None,
                seed=seed,
                device=self.device,
                resume=(folder / "config.yaml").is_file(),
            )
            assert run is not None  # one process
            prepared = run.prepare(self.cohort, (modality,))
            targets = prepared.tasks(task)
            found[task] = predict(run, task, prepared, targets, pick_device(self.device))
            present = prepared.present[modality]
        return Contender(name=name, kind="trained", vectors=(), present=present, predictions=found)

    def tuned(self, path: Path, train: Mapping[str, Any], tasks: Sequence[str],
              seed: int) -> Contender:  # fmt: skip
        """Fine-tune the encoder of a run for each task, as `trained` does, inputs as the run's.

        Args:
            path: The run.
            train: Keys of the stage that trains it.
            tasks: Which tasks.
            seed: Of the runs.

        Raises:
            ConfigError: The run has no encoder that reads the modality alone.
        """
        from safetensors.torch import save

        run, modality = Run(path), self.modality
        stage = run.stage_with(modality, None)
        encoder = {**run.recipe.towers.get(modality, {}).get("encoder", {})}
        prefix = "encoder."
        state = {key.removeprefix(prefix): one for key, one in run.tower(stage, modality).items()
                 if key.startswith(prefix)}  # fmt: skip
        if not (encoder and state):
            raise ConfigError(
                f"the run has no encoder of '{modality}' alone to fine-tune",
                where=run.path,
                fix="leave --finetune out",
            )
        encoder |= run.stage(stage).encoder.get(modality, {})
        content = save({key: one.contiguous() for key, one in state.items()})
        called = f"{hashlib.blake2b(content, digest_size=8).hexdigest()}.safetensors"
        file = self.folder.parent / "trained" / called
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content)
        weights = {modality: {"path": str(file.absolute()), "names": "same"}}
        inputs = {**run.recipe.inputs[modality]}
        network = Network(encoder=encoder, inputs=inputs, train={**train, "weights": weights})
        return self.trained(f"{path.absolute().name} fine-tuned", network, tasks, seed)

    def simple(self) -> tuple[Contender | None, Prepared]:
        """Give what is plain to see of a record, None if its kind has none; and the cohort."""
        cache = cache_folder(self.folder)
        prepared = prepare(self.cohort, {self.modality: {}}, cache=cache, splits="all")
        table = simple_table(prepared, self.modality, cache=cache)
        if table is None:
            return None, prepared
        values = table.matrix()[0]
        name = f"{SIMPLE} ({self.modality})"
        one = Contender(name=name, kind=SIMPLE, vectors=(values,), present=table.present)
        return one, prepared

    def _embedded(self, found: Sequence[Embedding], **about: Any) -> Contender:
        laid = [self._laid(one) for one in found]
        present = np.logical_and.reduce([has for _, has in laid])
        first = found[0]
        adapter = first.prepared.adapters[self.modality]
        can = "disturb" in type(adapter.settings).model_fields
        return Contender(
            vectors=tuple(x for x, _ in laid),
            present=present,
            disturbed=Disturbed(first) if can else None,
            **about,
        )

    def _laid(self, found: Embedding) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of the samples, embedded once: they are kept by what decides them."""
        import pandas as pd

        state = found.prepared.adapters[self.modality].state()
        decided = {**found.provenance, "cohort_fingerprint": self.records, "state": state}
        file = self.folder / f"{fingerprint([decided, [*found.whom], found.batch])}.parquet"
        seal = file.with_suffix(".seal")
        whole = (
            file.is_file() and seal.is_file() and seal.read_bytes() == file_digest(file).encode()
        )
        if not whole:
            if file.is_file():
                log.warning("%s is not what was written: embedding again", file)
            write_table(found.tables([found.vectors(found.records)]), file)
            write_atomically(seal, file_digest(file))
        kept = pd.read_parquet(file)
        columns = [f"e{number}" for number in range(found.width)]
        values = kept[columns].to_numpy(np.float64)
        index = found.prepared.index(self.modality)
        full = np.zeros((len(index), found.width))
        full[index >= 0] = values[index[index >= 0]]
        return full, index >= 0


def _terms(name: str, made_by: Mapping[str, Any]) -> str:
    """What must be said of the use of vectors, by the weights that they come from."""
    every = (made_by, *made_by.get("published", {}).values())
    is_free = all(one.get("commercial", True) for one in every)
    return "" if is_free else f"{name}: no commercial use"


def random_name(card: Card, variant: str, sizes: Mapping[str, Any] | None = None) -> str:
    """What rows call a model with first weights, of the card's sizes or of those of a file."""
    return f"random {card.called(variant)}{' of the sizes of its file' if sizes else ''}"


@dataclass(frozen=True)
class Disturbed:
    """`disturbed` records of an encoder, embedded once for all tasks and protocols."""

    found: Embedding
    known: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __call__(self, how: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Give what `disturbed` gives."""
        key = fingerprint(how)
        if key not in self.known:
            self.known[key] = disturbed(self.found, how)
        return self.known[key]


def disturbed(found: Embedding, how: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Embed the held-out records after they are disturbed.

    Args:
        found: The encoder, and the records as they are.
        how: What `ECGSettings.disturb` takes.

    Returns:
        Of every sample (N, E), zeros where there is none; and who has one, (N,) bool. A record that
        cannot be prepared any more has none.
    """
    import torch

    from medmcl.core.batch import Batch
    from medmcl.core.errors import RecordError

    prepared, name = found.prepared, found.modality
    settings = prepared.adapters[name].settings.model_dump(mode="json")
    adapter = build_adapters(prepared.cohort, {name: {**settings, "disturb": dict(how)}})[name]
    adapter.load_state(prepared.adapters[name].state())
    places = prepared.cohort.records[name]["place"]
    index = prepared.index(name)
    full = np.zeros((len(index), found.width))
    has = np.zeros(len(index), dtype=bool)
    rows = np.flatnonzero((prepared.splits == "held_out") & (index >= 0))
    for first in range(0, len(rows), found.batch):
        kept: list[int] = []
        arrays: list[torch.Tensor] = []
        for row in rows[first : first + found.batch]:
            place = places.iloc[index[row]]
            try:
                if str(places.index[index[row]]) in found.in_pieces:
                    full[row], has[row] = found.of_all_pieces(place, adapter), True
                    continue
                arrays.append(torch.from_numpy(adapter.prepare(adapter.read(place))))
            except RecordError:
                continue
            kept.append(int(row))
        if not kept:
            continue
        batch = Batch(
            ids=torch.as_tensor(kept, device=found.device),
            inputs={name: adapter.plain(torch.stack(arrays).to(found.device))},
            present={name: torch.ones(len(kept), dtype=torch.bool, device=found.device)},
        )
        with torch.no_grad():
            full[kept] = getattr(found.towers(batch), found.space)[name].float().cpu().numpy()
        has[kept] = True
    return full, has


def refuse_twins(contenders: Sequence[Contender]) -> None:
    """Refuse two of one name: rows go by them.

    Raises:
        ConfigError: Names it.
    """
    names = [one.name for one in contenders]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                "two that are compared are called alike",
                got=name,
                fix="give another name: --embeddings NAME=FILE, --model LABEL=NAME:FILE, or another"
                " folder of the run",
            )
