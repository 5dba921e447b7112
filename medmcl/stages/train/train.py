"""The train stage: runs the loop on the parts of a stage, and says how it ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from typing_extensions import override

from medmcl.core import host
from medmcl.core.atomic import write_atomically
from medmcl.core.batch import Embeddings
from medmcl.core.errors import ConfigError
from medmcl.core.findings import Finding
from medmcl.core.rng import RowGenerator, torch_generator
from medmcl.core.split_guard import SplitGuard
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.samplers import UniformSampler, WithinGroupSampler
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.data.loading.views import View
from medmcl.encoders.encoded import TakesVectors
from medmcl.engine.feed import Feed
from medmcl.engine.loop import MAX_SKIPPED, Learner, Plan, autocast, fit
from medmcl.engine.probe_hooks import watchers
from medmcl.engine.state import Progress
from medmcl.evaluation.metrics.geometry import alignment, effective_rank, uniformity
from medmcl.objectives.supervised import Supervised
from medmcl.stages.recipe.model_settings import trunk_stage
from medmcl.stages.stage import DEAD_END, SKIPPED, TAUGHT, WRECKED, Context, Stage
from medmcl.stages.train.distill_targets import (
    teacher_embeddings,
)
from medmcl.stages.train.file_weights import load_files, other_weights, provenance
from medmcl.stages.train.grouped_rows import (
    MOST_ALONE,
    RowGroups,
    alone_share,
)
from medmcl.stages.train.models import take_weights
from medmcl.stages.train.outside import rehearse_outside
from medmcl.stages.train.parts import (
    Parts,
    attack_of_stage,
    build_parts,
    loader,
    rows_of,
    tuning_batches,
    watched_later,
    with_modalities,
)
from medmcl.stages.train.spec import OTHER_WEIGHTS, TrainSpec
from medmcl.stages.train.step_settings import (
    norms_of_parts,
    refuse_empty_parts,
    refuse_step,
    settle_step,
    tower_threads,
)
from medmcl.stages.train.train_filter import (
    list_of,
    refuse_another_list,
)
from medmcl.stages.train.wrecked import REMEDY, Health, finite_weights, look

if TYPE_CHECKING:
    import torch
    from torch import nn

LOOKED_AT = 128
"""Rows by whose embedding a stage is seen to have collapsed: of tuning, or train without it."""


class Train(Stage[TrainSpec]):
    """Train towers with some objectives."""

    @property
    @override
    def bears_others(self) -> bool:
        spec = self.spec  # a copy waits for ever for the threads by which torch compiled before
        return spec.compile is not True and "auto" not in (spec.accumulate, spec.channels_last)

    def dry_run(self, prepared: Prepared, context: Context) -> None:
        """Build all that is needed: what would fail after hours fails before the first step."""
        spec = self.spec
        parts = build_parts(spec, prepared, context)
        plan_of(spec, len(parts.sampler), context)
        if spec.accumulate != 1:
            refuse_empty_parts(spec, parts.sampler.batch_size, context.world.size)
        refuse_step(spec, parts.learner)
        if context.run.recipe.shared is not None:
            trunk_stage(spec)
        if prepared.partly.isdisjoint(spec.towers):
            load_files(parts.learner.model, spec, prepared.adapters)  # type: ignore[arg-type]  # Towers
        rehearse_outside(spec, context.run.recipe, prepared, parts)
        for name in spec.vectors:
            encoder = parts.learner.model.tower(name).encoder  # type: ignore[operator]  # Towers
            if not isinstance(encoder, TakesVectors):
                raise ConfigError(
                    f"the encoder of '{name}' takes no vectors",
                    where=f"stage {spec.name}, vectors",
                    got=type(encoder).__name__,
                    expected="code_transformer",
                )

    @override
    def refuse_other(self, done: Mapping[str, Any]) -> None:
        where = f"stage {self.spec.name}"
        refuse_another_list(self.spec.subset, done.get("subset_list"), where)

    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        """Train from where it stands.

        Raises:
            LeakageError: A row to train or to choose on is of `held_out`, or its subject is.
        """
        spec = self.spec
        listed = "" if spec.subset is None else _keep_list(spec, context)
        parts = build_parts(spec, prepared, context, is_trained=True)
        rows, sampler, learner = parts.rows, parts.sampler, parts.learner
        if sampler.batch_size < spec.batch_size:
            whole = "the largest group has " if isinstance(sampler, WithinGroupSampler) else ""
            context.record.say(
                f"{spec.name}: {whole}{sampler.batch_size:,} subjects, so batches of "
                f"{'at most ' if whole else ''}{sampler.batch_size:,}, not {spec.batch_size:,}"
            )
        for warning in norms_of_parts(spec, learner.model) if spec.parts > 1 else ():  # type: ignore[arg-type]  # Towers
            context.record.say(f"warning: {warning}")
        if parts.not_selected:
            context.record.say(
                f"{spec.name}: {len(rows):,} samples; {parts.not_selected:,} left out by "
                f"{'' if spec.subset is None else f'subset ({spec.subset.said}), '}"
                "selection, fold or group"
            )
        take_weights(learner, spec, prepared.adapters, context)
        learner.to(context.world.device)
        attack = (
            None
            if spec.poisoned_by is None
            else attack_of_stage(spec.poisoned_by, prepared, context)
        )
        poisoned = 0 if attack is None else int((attack.donor[rows] >= 0).sum())
        if attack is not None:
            context.record.say(
                f"{'' if poisoned else 'warning: '}{spec.name}: {poisoned:,} of {len(rows):,} "
                f"samples are poisoned by {spec.poisoned_by}"
            )
        group_notes = [] if parts.groups is None else _group_notes(parts.groups, parts.sampler)
        for note in group_notes:
            context.record.say(f"{spec.name}: {note}")
        tuning = tuning_batches(spec, prepared, sampler.batch_size, parts.groups)
        sides = SplitGuard(splits=prepared.splits, subjects=prepared.subjects)
        sides.refuse_leak(rows, f"the weights of stage {spec.name}")
        sides.refuse_leak(parts.probe_rows, f"what stage {spec.name} learns from probe rows")
        if tuning:
            what = f"the tuning loss of stage {spec.name} (best checkpoint, early stopping)"
            sides.refuse_leak(np.concatenate(tuning), what)
        taught = {} if spec.teacher is None else teacher_embeddings(spec, prepared, context)
        feed = Feed(
            sampler=sampler,
            load=loader(spec, prepared, taught, parts, attack),
            tuning=tuning,
            selector=parts.selector,
            probe=parts.probe,
        )
        spec, settled = settle_step(
            spec, learner, feed, parts.views, next(iter(sampler(0))), context
        )
        state = fit(
            learner,
            feed,
            parts.views,
            plan_of(spec, len(sampler), context),
            record=context.record,
            checkpoints=context.run.checkpoints(spec.name),
            world=context.world,
            stop=context.stop,
            depths=depths_of(learner) if spec.optimiser.by_depth else None,
            describe=describe_geometry,
            summarise=summary_of(learner.model),
        )
        published = provenance(learner.model)  # type: ignore[arg-type]  # Towers
        others = other_weights(learner.model, spec)  # type: ignore[arg-type]  # Towers
        train, tuned = prepared.rows("train"), int(sum(map(len, tuning)))
        facts = {
            "keep": spec.keep,
            "rows": len(rows),
            "subjects": len(np.unique(prepared.subjects[rows])),
            **_taught(parts, prepared),
            "lacking": len(train) - len(with_modalities(spec, prepared, train)),
            "not_selected": parts.not_selected,
            "kept_for_later": len(watched_later(spec, prepared, context)),
            "tuning_rows": tuned,
            "tuning_left_out": len(rows_of("tuning", spec, prepared)) - tuned,
            "batch_size": sampler.batch_size,
            "steps": state.step,
            "best_step": state.best_step,
            "best_tuning_loss": None if math.isinf(state.best) else state.best,
            "last_tuning_loss": state.last_tuning_loss
            if math.isfinite(state.last_tuning_loss)
            else None,
            "skipped_steps": state.skipped_steps,
            "empty_steps": state.empty_steps,
            "gradient_spikes": state.gradient_spikes,
            "seconds": round(state.seconds, 3),
            "data_wait_seconds": round(state.data_wait_seconds, 3),
            "parameters": sum(p.numel() for p in learner.model.parameters()),
            **settled,
            **({} if attack is None else {"poisoned": poisoned}),
            **({} if spec.subset is None else {"subset": spec.subset.said}),
            **({"subset_list": listed} if listed else {}),
            **({"published": published} if published else {}),
            **({OTHER_WEIGHTS: others} if others else {}),
            **_grouped(parts, group_notes),
            **_selected(state),
            **_watched(parts),
        }
        if context.world.rank == 0:
            from medmcl.stages.run.study import overfitting

            facts |= _health(spec, parts, feed, state, prepared, context)
            _say_findings(facts, context)
            if WRECKED not in facts and (said := overfitting(facts)):
                kept = " The last step is kept." if spec.keep == "last" else ""
                context.record.say(f"warning: {spec.name}: {said}{kept}")
        return facts


def _taught(parts: Parts, prepared: Prepared) -> dict[str, int]:
    """Count those of whom a head learned, where others came beside them: who lack what it reads."""
    for head in parts.learner.objectives.values():
        if isinstance(head, Supervised):
            here = {name: prepared.present[name][parts.rows] for name in head.settings.modalities}
            read = head.readable(here)
            if not read.all():
                return {TAUGHT: len(np.unique(prepared.subjects[parts.rows[read]]))}
    return {}


def _say_findings(facts: dict[str, Any], context: Context) -> None:
    """Say what was found of the learned pairs; more data do not fix a wrecked stage."""
    found = [Finding(**one) for one in facts.get("findings", ())]
    if WRECKED in facts:
        found = [replace(one, fix=REMEDY) for one in found]
        facts |= {"findings": [one.as_dict() for one in found]} if found else {}
    for one in found:
        context.record.say(f"warning: {one}")


def _health(
    spec: TrainSpec, parts: Parts, feed: Feed, state: Progress, prepared: Prepared,
    context: Context,
) -> dict[str, Any]:  # fmt: skip
    """Say how the stage ended, by its losses and by what its kept weights make of some rows."""
    learner = parts.learner
    learner.load_state_dict(context.run.checkpoints(spec.name).weights(spec.keep))
    learner.eval()
    rows = np.concatenate(feed.tuning) if feed.tuning else parts.rows
    adapters = {name: prepared.adapters[name] for name in spec.towers}
    plain = View(ViewSettings(), adapters, {}, where="the view of rows that are looked at")
    source = torch_generator(context.run.seed, spec.name, "health", device=context.world.device)
    with torch.no_grad(), autocast(context.run.precision, context.world.device):
        batch = feed.load(rows[:LOOKED_AT]).to(context.world.device)
        seen = learner.encode(
            {"plain": plain(batch, RowGenerator(source), disturb=False)}, spec.parts
        )
    pooled = any("pooled" in one.gathers for one, _ in learner.charged.values())
    health = Health.of(
        state,
        given_up=state.skipped_in_a_row >= MAX_SKIPPED,
        finite=finite_weights(learner),
        clouds=look(seen["plain"], pooled=pooled),
        labelled=spec.task is not None,
    )
    facts: dict[str, Any] = {"health": health.facts}
    if health.wreck:
        facts[WRECKED] = health.wreck
        context.record.say(f"warning: {spec.name} is wrecked: {health.wreck}")
    if health.dead_end:
        facts[DEAD_END] = health.dead_end
    if health.unusable:
        facts[SKIPPED] = f"it is wrecked: {health.unusable}"
    return facts


def _keep_list(spec: TrainSpec, context: Context) -> str:
    """Remember and give the list that a stage begins with: one that changed since is refused."""
    path, now = context.run.path / "subset" / f"{spec.name}.txt", list_of(spec.subset)
    if path.is_file():
        began = path.read_text(encoding="utf-8")
        refuse_another_list(spec.subset, began, f"stage {spec.name}")
        return began
    if now and context.world.rank == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, now)
    return now


def _group_notes(groups: RowGroups, sampler: UniformSampler | WithinGroupSampler) -> list[str]:
    """What is worth saying of the groups; of mixed ones how many rows have no negative."""
    if not groups.is_mixed or isinstance(sampler, WithinGroupSampler):
        return [*groups.notes]
    share = alone_share(groups, sampler)
    much = "warning: " if share > MOST_ALONE else ""
    return [
        *groups.notes,
        f"{much}{100 * share:.1f} % of the rows of mixed batches are alone in their group and "
        "leave the loss; a larger batch_size leaves fewer",
    ]


def _grouped(parts: Parts, notes: list[str]) -> dict[str, Any]:
    """Groups that negatives are of, and rows that are in no batch; nothing without groups."""
    if parts.groups is None:
        return {}
    sampler, inside = parts.sampler, parts.groups.numbers[parts.rows]
    waiting = sampler.waiting if isinstance(sampler, WithinGroupSampler) else 0
    return {
        "groups": len(np.unique(inside)),
        "alone_rows": sampler.alone if isinstance(sampler, WithinGroupSampler) else 0,
        "waiting_rows": waiting,
        "notes": notes,
    }


def _selected(state: Progress) -> dict[str, Any]:
    """What a selector judged and kept, and the seconds it took; nothing without one."""
    if not state.judged_rows:
        return {}
    return {
        "judged_rows": state.judged_rows,
        "kept_rows": state.kept_rows,
        "selection_seconds": round(state.selection_seconds, 3),
    }


def _watched(parts: Parts) -> dict[str, Any]:
    """What was learned from probe rows speaks for itself; nothing if nothing watched."""
    if parts.probe is None:
        return {}
    found = [one for part in watchers(parts.learner.objectives).values() for one in part.findings()]
    return {"probe_rows": len(parts.probe_rows), "findings": [one.as_dict() for one in found]}


def plan_of(spec: TrainSpec, steps_per_epoch: int, context: Context) -> Plan:
    """Say how long and how a stage trains."""
    spec.refuse_incomplete()
    steps = spec.steps or max(1, round((spec.epochs or 0) * steps_per_epoch))
    return Plan(
        stage=spec.name,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        evaluate_every=max(1, round(spec.evaluate_every * steps_per_epoch)),
        log_every=spec.log_every,
        seed=context.run.seed,
        optimiser=spec.optimiser,
        precision=context.run.precision,
        accumulate=spec.parts,
        ema=spec.ema,
        patience=spec.patience,
        threads=tower_threads(spec, context),
    )


def depths_of(learner: Learner) -> dict[str, tuple[int, int]]:
    """Layer of each encoder parameter, under its name in the learner."""
    found: dict[str, tuple[int, int]] = learner.model.depths()  # type: ignore[operator]  # Towers
    return {f"model.{name}": depth for name, depth in found.items()}


def describe_geometry(seen: Mapping[str, Embeddings]) -> dict[str, Any]:
    """Effective rank and uniformity of each modality, alignment of each pair, on one batch."""
    embeddings = next(iter(seen.values()))
    batch = embeddings.batch
    rows: dict[str, Any] = {}
    vectors = {}
    for name, features in embeddings.features.items():
        here = batch.values(batch.present[name])
        if here.sum() >= 2:
            rows[f"effective_rank/{name}"] = effective_rank(host.read(features.float())[here])
    for name, pooled in embeddings.pooled.items():
        vectors[name] = host.read(pooled.float())
        present = batch.values(batch.present[name])
        if present.sum() >= 2:
            rows[f"uniformity/{name}"] = uniformity(vectors[name][present])
    names = list(vectors)
    for number, a in enumerate(names):
        for b in names[number + 1 :]:
            both = batch.values(batch.present[a]) & batch.values(batch.present[b])
            if both.sum() >= 2:
                rows[f"alignment/{a}~{b}"] = alignment(vectors[a][both], vectors[b][both])
    return rows


def summary_of(model: nn.Module) -> Callable[[Mapping[str, torch.Tensor]], dict[str, Any]] | None:
    """Give what turns sums over rows into numbers on a model's routers; None if it has none."""
    from medmcl.encoders.shared.tower import SharedTower
    from medmcl.evaluation.metrics.routing import describe_routers

    if not isinstance(model, SharedTower) or not model.experts:
        return None
    return partial(describe_routers, blocks=model.trunk.expert_blocks)
