"""Models of a run that are asked about its attack: clean and triggered, by prompts and by heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from medmcl.core.config import lookup
from medmcl.core.contracts import Predicts
from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.core.targets import Targets
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.aspects.attack.aspect import AttackSpec
from medmcl.evaluation.aspects.attack.rates import KIND
from medmcl.evaluation.aspects.retrieval.measure import retrieval
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.models.probe import linear_probe
from medmcl.evaluation.models.zero_shot import zero_shot_classes
from medmcl.evaluation.protocol.results import Result
from medmcl.stages.evaluate.scene import embed_prompts
from medmcl.stages.poison.checks import UNKNOWN, AttackTask, attack_task
from medmcl.stages.poison.given import load_attack
from medmcl.stages.poison.poisoned_rows import Poisoned
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.run.features import chunks, plain_view, sample_vectors
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import seen_people

if TYPE_CHECKING:
    import torch

Logits = dict[str, tuple[np.ndarray, np.ndarray]]


def attack_of(run: Run, spec: AttackSpec) -> PoisonSpec:
    """Give the poison stage that is judged."""
    attacks = run.of(PoisonSpec)
    return lookup("poison stage", spec.attack or next(iter(attacks), "none"), attacks)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a stage makes of some rows: vectors of the attacked modality, and what its head says."""

    pooled: np.ndarray
    features: np.ndarray
    said: np.ndarray | None


@dataclass(kw_only=True)
class Asked:
    """Models of a run that are asked about an attack."""

    spec: AttackSpec
    run: Run
    prepared: Prepared
    device: torch.device
    notes: list[str]
    poison: PoisonSpec
    poisoned: Poisoned
    task: AttackTask
    rows: np.ndarray
    """Held-out samples that have what is attacked, and of which the class is known."""
    seen: dict[str, tuple[Seen, Seen]]
    """Model to what it makes of the rows, clean and triggered."""

    @classmethod
    def of(
        cls, spec: AttackSpec, run: Run, prepared: Prepared, device: torch.device, notes: list[str]
    ) -> Asked:
        """Read the attack, choose the rows and encode them with every model."""
        poison = attack_of(run, spec)
        manifest = load_attack(run, poison)  # of this cohort, perhaps with other prompts by now
        where = f"stage {poison.name}"
        task = attack_task(prepared, poison.task, poison.label, where)
        rows = prepared.rows("held_out", [poison.modality])
        rows = rows[task.shown[rows] != UNKNOWN]
        known = seen_people(run, prepared)
        rows = rows if known is None else rows[~known[rows]]
        if not (task.shown[rows] != task.target).any():
            raise ConfigError(
                "nobody in held_out shows another class than the target",
                where=where,
                got=counted(len(rows), "row"),
                fix="another label or task, or a cohort with such held-out records",
            )
        asked = cls(
            spec=spec, run=run, prepared=prepared, device=device, notes=notes, poison=poison,
            poisoned=Poisoned(poison, manifest, prepared), task=task, rows=rows, seen={},
        )  # fmt: skip
        for label, model in spec.models.items():
            asked.seen[label] = (asked._see(model, is_triggered=False),
                                 asked._see(model, is_triggered=True))  # fmt: skip
        return asked

    def logits(self) -> dict[str, Logits]:
        """Give protocol to model to logits of the rows, clean and triggered."""
        found: dict[str, Logits] = {}
        ways: dict[str, Callable[[str, str], Logits]] = {
            "zero_shot": self._by_prompts,
            "head": self._by_heads,
        }
        for way in self.spec.by:
            for label, model in self.spec.models.items():
                for protocol, told in ways[way](label, model).items():
                    found.setdefault(protocol, {})[label] = told
        return found

    def found(self, resampling: Resampling) -> list[Result]:
        """Give recall@k between what has the trigger and what is exchanged."""
        name, text = self.poison.modality, self.poison.text
        if text is None or text not in self.prepared.present or not self.spec.ks:
            return []
        both = self.prepared.present[text][self.rows]
        rows = self.rows[both]
        if not len(rows):
            self.notes.append(
                f"attack by retrieval left out: no held-out row has {name} and {text}"
            )
            return []
        results: list[Result] = []
        for label, model in self.spec.models.items():
            if text not in self.run.stage(model).towers:
                self.notes.append(
                    f"attack on {label} by retrieval left out: it has no tower for {text}"
                )
                continue
            texts = sample_vectors(self.run, self.prepared, model, text, "pooled", self.device)
            for how, seen in zip(("clean", "triggered"), self.seen[label], strict=True):
                scored = retrieval(
                    seen.pooled[both],
                    texts[rows],
                    names=(name, text),
                    identity=(
                        self.prepared.identity(name)[rows],
                        self.prepared.identity(text)[rows],
                    ),
                    resampling=resampling.take(rows),
                    ks=self.spec.ks,
                    method=label,
                )
                about = {"kind": KIND, "task": self.poison.name, "protocol": f"retrieval, {how}"}
                results += [replace(row, **about) for row in scored if row.method != "chance"]  # type: ignore[arg-type]  # plain fields
        return results

    def _see(self, model: str, *, is_triggered: bool) -> Seen:
        """Encode the rows with a stage."""
        import torch

        spec = self.run.stage(model)
        own = self._is_classifier(model)
        learner = self.run.learner(model, self.device)
        name = self.poison.modality
        read = spec.towers if own else (name,)
        view = plain_view(spec.model_copy(update={"towers": read}), self.prepared)
        parts: dict[str, list[np.ndarray]] = {"pooled": [], "features": [], "said": []}
        untouched = 0
        for chosen in chunks(self.rows):
            batch = self.prepared.batch(chosen, modalities=read)
            if is_triggered:
                before = batch.inputs[name].flatten(1)
                batch = self.poisoned.triggered(batch)
                untouched += int((before == batch.inputs[name].flatten(1)).all(1).sum())
            with torch.no_grad():
                made = learner.model(view(batch.to(self.device)))
                head = cast(Predicts, next(iter(learner.objectives.values())))
                said = [head.predict(made)] if own else []
            for part, value in (("pooled", made.pooled[name]), ("features", made.features[name])):
                parts[part].append(value.float().cpu().numpy())
            parts["said"] += [one.float().cpu().numpy() for one in said]
        if untouched:
            self._say_untouched(untouched)
        joined = {part: np.concatenate(values) for part, values in parts.items() if values}
        return Seen(pooled=joined["pooled"], features=joined["features"], said=joined.get("said"))

    def _say_untouched(self, count: int) -> None:
        """Say once, not for every model, that records carry nothing of the trigger."""
        said = (
            f"attack: {count:,} of {len(self.rows):,} held-out records are as they were, with "
            "nothing of the trigger left on them; they count like the others"
        )
        if said not in self.notes:
            self.notes.append(said)

    def _is_classifier(self, model: str) -> bool:
        """Whether the stage was trained for the task of the attack, by its labels alone."""
        spec = self.run.stage(model)
        kinds = [one.kind for one in spec.objectives.values()]
        return spec.task == self.poison.task and kinds == ["supervised"]

    def _by_prompts(self, label: str, model: str) -> Logits:
        text, prompts = (
            self.spec.text or self.poison.asked_by,
            self.prepared.cohort.spec.keys.prompts.get(self.poison.task),
        )
        why = ""
        if prompts is None:
            why = f"the cohort has no prompts for {self.poison.task}"
        elif text is None or text not in self.run.stage(model).towers:
            why = "it has no tower for texts"
        elif text not in self.prepared.adapters:
            why = f"the cohort has no {text}"
        if why:
            self.notes.append(f"attack on {label} by zero-shot left out: {why}")
            return {}
        assert prompts is not None
        assert text is not None
        where = f"prompts of task {self.poison.task}"
        asked = {name: lookup(where, name, prompts) for name in self.task.names}
        told = embed_prompts(self.run, self.prepared, model, text, asked, self.device)
        vectors = list(told.values())
        clean, triggered = (
            zero_shot_classes(seen.pooled, vectors, logit_scale=1.0) for seen in self.seen[label]
        )
        return {"zero_shot": (clean, triggered)}

    def _by_heads(self, label: str, model: str) -> Logits:
        """By a linear probe, and by the stage's own head where it has one."""
        clean, triggered = self.seen[label]
        found: Logits = {}
        if clean.said is not None and triggered.said is not None:
            found["own head"] = (_of_classes(clean.said), _of_classes(triggered.said))
        elif (learned := self.run.stage(model).task) not in (None, self.poison.task):
            self.notes.append(
                f"attack on {label} by its own head left out: stage {model} learned {learned}, "
                f"and the attack is of {self.poison.task}"
            )
        known = self.task.shown != UNKNOWN
        targets = Targets(
            name=self.poison.task,
            kind="multiclass",
            columns=(self.poison.task,),
            classes=self.task.names,
            values=np.where(known, self.task.shown, 0)[:, None].astype(np.float64),
            known=known[:, None],
            sides=self.prepared.sides,
        )
        name = self.poison.modality
        train, tuning = (
            rows[known[rows]]
            for rows in (self.prepared.rows("train", [name]), self.prepared.rows("tuning", [name]))
        )
        features = sample_vectors(self.run, self.prepared, model, name, "features", self.device)
        fitted = linear_probe(features, targets, train, tuning)
        both = (fitted.predict(clean.features), fitted.predict(triggered.features))
        return {**found, "linear_probe": both}


def _of_classes(said: np.ndarray) -> np.ndarray:
    """Give two columns, not and yes, where there is one. (N, C)."""
    return np.column_stack([1 - said, said]) if said.shape[1] == 1 else said
