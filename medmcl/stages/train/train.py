"""The train stage: builds towers, objectives, views and sampler from a spec, and runs the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from typing_extensions import override

from medmcl.core import host
from medmcl.core.atomic import write_atomically
from medmcl.core.batch import GROUPS, Batch, Embeddings, InputShape
from medmcl.core.config import lookup
from medmcl.core.contracts import Adapter, ModelShape
from medmcl.core.errors import ConfigError
from medmcl.core.findings import Finding
from medmcl.core.rng import RowGenerator, derive_seed, torch_generator
from medmcl.core.split_guard import SplitGuard
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.samplers import UniformSampler, WithinGroupSampler
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.data.loading.views import View, with_leads, with_lengths
from medmcl.encoders.encoded import TakesVectors
from medmcl.engine.feed import Feed, Probe
from medmcl.engine.loop import MAX_SKIPPED, Learner, Plan, autocast, fit
from medmcl.engine.probe_hooks import watchers
from medmcl.engine.recompute import recompute_blocks
from medmcl.engine.state import Progress
from medmcl.evaluation.metrics.geometry import alignment, effective_rank, uniformity
from medmcl.evaluation.protocol.subsets import label_subset
from medmcl.grouping.groups import NOWHERE
from medmcl.objectives import wanted_probe
from medmcl.selection.choices import Online
from medmcl.stages.poison.poisoned_rows import Poisoned
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.recipe.model_settings import trunk_stage
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.run import Run
from medmcl.stages.stage import DEAD_END, SKIPPED, WRECKED, Context, Stage
from medmcl.stages.train.distill_targets import (
    TeacherEmbeddings,
    as_targets,
    teacher_embeddings,
    teacher_widths,
)
from medmcl.stages.train.file_weights import load_files, other_weights, provenance
from medmcl.stages.train.grouped_rows import (
    MOST_ALONE,
    RowGroups,
    alone_share,
    group_sampler,
    groups_of,
    tuning_in_groups,
)
from medmcl.stages.train.models import build_learner, take_weights
from medmcl.stages.train.online import build_selector
from medmcl.stages.train.scales import take_scales
from medmcl.stages.train.spec import OTHER_WEIGHTS, TowersSpec, TrainSpec
from medmcl.stages.train.step_settings import (
    norms_of_parts,
    refuse_empty_parts,
    refuse_step,
    settle_step,
)
from medmcl.stages.train.train_filter import (
    keep_apart,
    kept_for_later,
    kept_rows,
    list_of,
    refuse_another_list,
    without_fold,
)
from medmcl.stages.train.wrecked import REMEDY, Health, finite_weights, look
from medmcl.threats import Poison

if TYPE_CHECKING:
    import torch
    from torch import nn

LOOKED_AT = 128
"""Rows by whose embedding a stage is seen to have collapsed: of tuning, or train without it."""


class Train(Stage[TrainSpec]):
    """Train towers with some objectives."""

    def dry_run(self, prepared: Prepared, context: Context) -> None:
        """Build all that is needed: what would fail after hours fails before the first step."""
        spec = self.spec
        parts = build_parts(spec, prepared, context)
        plan_of(spec, len(parts.sampler), context)
        refuse_empty_parts(spec, parts.sampler.batch_size, context.world.size)
        refuse_step(spec, parts.learner)
        if context.run.recipe.shared is not None:
            trunk_stage(spec)
        if prepared.partly.isdisjoint(spec.towers):
            load_files(parts.learner.model, spec, prepared.adapters)  # type: ignore[arg-type]  # Towers
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
        listed = _keep_list(spec, context)
        parts = build_parts(spec, prepared, context, is_trained=True)
        rows, sampler, learner = parts.rows, parts.sampler, parts.learner
        if sampler.batch_size < spec.batch_size:
            whole = "the largest group has " if isinstance(sampler, WithinGroupSampler) else ""
            context.record.say(
                f"{spec.name}: {whole}{sampler.batch_size:,} subjects, so batches of "
                f"{'at most ' if whole else ''}{sampler.batch_size:,}, not {spec.batch_size:,}"
            )
        for warning in norms_of_parts(spec, learner.model):  # type: ignore[arg-type]  # Towers
            context.record.say(f"warning: {warning}")
        if parts.not_selected:
            context.record.say(
                f"{spec.name}: {len(rows):,} samples; {parts.not_selected:,} left out by "
                f"{'' if spec.subset is None else f'subset ({spec.subset.said}), '}"
                "selection, fold or group"
            )
        take_weights(learner, spec, prepared.adapters, context)
        published = provenance(learner.model)  # type: ignore[arg-type]  # Towers
        others = other_weights(learner.model, spec)  # type: ignore[arg-type]  # Towers
        take_scales(learner, spec, context.run)
        learner.to(context.world.device)
        attack = _poisoned(spec, prepared, context)
        poisoned = 0 if attack is None else int((attack.donor[rows] >= 0).sum())
        if attack is not None:
            context.record.say(
                f"{'' if poisoned else 'warning: '}{spec.name}: {poisoned:,} of {len(rows):,} "
                f"samples are poisoned by {spec.poisoned_by}"
            )
        group_notes = _group_notes(parts)
        for note in group_notes:
            context.record.say(f"{spec.name}: {note}")
        tuning = tuning_batches(spec, prepared, sampler.batch_size, parts.groups)
        sides = SplitGuard(splits=prepared.splits, subjects=prepared.subjects)
        sides.refuse_leak(rows, f"the weights of stage {spec.name}")
        sides.refuse_leak(parts.probe_rows, f"what stage {spec.name} learns from probe rows")
        if tuning:
            what = f"the tuning loss of stage {spec.name} (best checkpoint, early stopping)"
            sides.refuse_leak(np.concatenate(tuning), what)
        feed = Feed(
            sampler=sampler,
            load=loader(spec, prepared, teacher_embeddings(spec, prepared, context), parts, attack),
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
            depths=depths_of(learner),
            describe=describe_geometry,
            summarise=summary_of(learner.model),
        )
        train, tuned = prepared.rows("train"), int(sum(map(len, tuning)))
        facts = {
            "keep": spec.keep,
            "rows": len(rows),
            "subjects": len(np.unique(prepared.subjects[rows])),
            "lacking": len(train) - len(_with_modalities(spec, prepared, train)),
            "not_selected": parts.not_selected,
            "kept_for_later": len(watched_later(spec, prepared, context)),
            "tuning_rows": tuned,
            "tuning_left_out": len(_rows_of("tuning", spec, prepared)) - tuned,
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


def loader(
    spec: TrainSpec,
    prepared: Prepared,
    taught: TeacherEmbeddings,
    parts: Parts,
    poisoned: Poisoned | None,
) -> Callable[[np.ndarray], Batch]:
    """Give what loads samples: records, labels, groups where batches mix them, what is taught.

    Of poisoned ones the records that an attacker made of them.
    """
    wanted = () if spec.task is None else (spec.task,)
    groups, more = parts.groups, dict(taught)
    if groups is not None and groups.is_mixed:
        more[GROUPS] = groups.targets

    def load(chosen: np.ndarray) -> Batch:
        batch = prepared.batch(chosen, tasks=wanted, modalities=spec.towers)
        if poisoned is not None:
            batch = poisoned(batch)
        batch = with_leads(batch, prepared.adapters)
        if spec.length_groups:
            batch = with_lengths(batch, prepared.adapters)
        if not more:
            return batch
        values, known = as_targets(more, chosen)
        return replace(batch, targets={**batch.targets, **values}, known={**batch.known, **known})

    return load


def _poisoned(spec: TrainSpec, prepared: Prepared, context: Context) -> Poisoned | None:
    """What lays the attack of a poison stage over batches; None without one."""
    if spec.poisoned_by is None:
        return None
    manifest = context.run.artefact(spec.poisoned_by, Poison, prepared.cohort.fingerprint)
    attack = context.run.of(PoisonSpec)[spec.poisoned_by]  # `check` has made sure
    return None if manifest is None else Poisoned(attack, manifest, prepared)


def _group_notes(parts: Parts) -> list[str]:
    """What is worth saying of the groups; of mixed ones how many rows have no negative."""
    groups, sampler = parts.groups, parts.sampler
    if groups is None:
        return []
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


@dataclass(frozen=True)
class Parts:
    """What a stage trains, on what, as what it sees."""

    rows: np.ndarray
    sampler: UniformSampler | WithinGroupSampler
    learner: Learner
    views: dict[str, View]
    probe_rows: np.ndarray
    probe: Probe | None
    selector: Online | None
    not_selected: int
    """Rows that a subset, a selection, a fold or a group that is left out, took away."""
    groups: RowGroups | None


def build_parts(
    spec: TrainSpec, prepared: Prepared, context: Context, *, is_trained: bool = False
) -> Parts:
    """Build what a stage trains, and choose the rows that it trains on."""
    everyone = training_rows(spec, prepared, context.run.seed)
    _refuse_absent(spec, prepared, everyone)
    adapters = {name: prepared.adapters[name] for name in spec.towers}
    shapes = {name: adapter.input_shape for name, adapter in adapters.items()}
    learner = first_learner(spec, prepared, context.run, is_trained=is_trained)
    if is_trained and spec.recompute:
        recompute_blocks(learner.model, f"stage {spec.name}, recompute")
    if is_trained and spec.length_groups:
        learner.model.length_groups = spec.length_groups  # type: ignore[assignment]  # Towers
    wanted = [part.probe for part in watchers(learner.objectives).values()]
    subjects = prepared.subjects[everyone]
    rows, probe_rows = keep_apart(everyone, subjects, wanted, (context.run.seed, spec.name))
    rows = rows[~np.isin(prepared.subjects[rows], watched_later(spec, prepared, context))]
    drawn, probe_rows = (
        kept_rows(without_fold(some, spec, prepared, context.run.seed), spec, prepared, context)
        for some in (rows, probe_rows)
    )
    groups = groups_of(spec, drawn, prepared, context)
    if groups is not None:
        drawn = drawn[groups.numbers[drawn] != NOWHERE]
    left, rows = len(rows) - len(drawn), drawn
    seed = (
        derive_seed(context.run.seed, "restart", spec.restart) if spec.restart else context.run.seed
    )
    sampler = group_sampler(groups, rows, prepared, spec.batch_size, seed)
    probe = None
    if wanted:
        cuts = range(spec.batch_size, len(probe_rows), spec.batch_size)
        plain = View(ViewSettings(), adapters, {}, where="the view of the probe rows")
        probe = Probe(batches=tuple(np.split(probe_rows, list(cuts))), view=plain)
    return Parts(
        rows,
        sampler,
        learner,
        build_views(context.run.recipe, spec, learner, adapters, shapes),
        probe_rows,
        probe,
        build_selector(spec, learner, adapters, len(prepared.splits), context.run.seed),
        left,
        groups,
    )


def first_learner(
    spec: TowersSpec, prepared: Prepared, run: Run, *, is_trained: bool = False
) -> Learner:
    """Give towers and objectives of a stage before its first step.

    What a rehearsal builds is what is trained: it is built once, if it fits in memory.

    Args:
        spec: The stage.
        prepared: The cohort.
        run: The run.
        is_trained: Whether it will change: nobody is given it again.
    """
    every = {name: adapter.input_shape for name, adapter in prepared.adapters.items()}
    widths = teacher_widths(run, spec, every)

    def build() -> Learner:
        shapes, tasks = {name: every[name] for name in spec.towers}, {}
        if isinstance(spec, TrainSpec) and spec.task is not None:
            rows = training_rows(spec, prepared, run.seed)
            tasks = {spec.task: prepared.tasks(spec.task).take(rows)}
        return build_learner(run.recipe, spec, shapes, tasks, run.seed, widths)

    give = run.learners.take if is_trained else run.learners.get
    return give((spec.name, spec.model_dump_json(), *widths.items()), build)


def watched_later(spec: TowersSpec, prepared: Prepared, context: Context) -> np.ndarray:
    """Subjects that a stage leaves out, since one that goes on from it learns pairs on them."""

    def probed(later: TrainSpec) -> np.ndarray:
        asked = [wanted_probe(o.kind, o.settings) for o in later.objectives.values()]
        wanted = [one for one in asked if one is not None]
        if not wanted:
            return prepared.subjects[:0]
        rows = training_rows(later, prepared, context.run.seed)
        key = (context.run.seed, later.name)
        return prepared.subjects[keep_apart(rows, prepared.subjects[rows], wanted, key)[1]]

    return kept_for_later(spec.name, context.run.recipe.stages, probed)


def _refuse_absent(spec: TrainSpec, prepared: Prepared, rows: np.ndarray) -> None:
    """Refuse a tower that no training row has the modality of: it would stay as it is built.

    Raises:
        ConfigError: Names the modality, and how many rows there are.
    """
    train = prepared.rows("train")
    for name in spec.towers:
        if len(rows) and prepared.present[name][rows].any():
            continue
        lone = not prepared.present[name][train].any()
        only = "train" if spec.task is None else f"train with a label of {spec.task}"
        needs = ", ".join(spec.towers)
        what = (
            f"no sample of {only} has '{name}', so its tower would learn nothing"
            if lone or len(rows)
            else f"no sample of {only} has all of {needs}"
        )
        raise ConfigError(
            what,
            where=f"stage {spec.name}",
            got=", ".join(f"{n} {int(prepared.present[n][train].sum())}" for n in spec.towers)
            + f" of {len(train)} train samples",
            fix="leave it out of towers, give the cohort a split in which somebody has it, or "
            "take rows: any",
        )


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
    )


def _with_modalities(spec: TrainSpec, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    wanted = spec.rows or ("all" if len(spec.towers) <= 2 else "any")
    have = np.stack([prepared.present[name][rows] for name in spec.towers])
    return rows[have.all(axis=0) if wanted == "all" else have.any(axis=0)]


def training_rows(spec: TrainSpec, prepared: Prepared, seed: int) -> np.ndarray:
    """Samples of the train split that a stage draws from."""
    rows = _rows_of("train", spec, prepared)
    if spec.task is None:
        return rows
    return label_subset(
        prepared.tasks(spec.task),
        prepared.subjects,
        rows,
        float(spec.label_fraction),
        draw=int(spec.draw),
        seed=seed,
    )


def _rows_of(split: str, spec: TrainSpec, prepared: Prepared) -> np.ndarray:
    """Samples of a split with the modalities, and with the label that a stage learns."""
    rows = _with_modalities(spec, prepared, prepared.rows(split))
    if spec.task is not None:
        rows = rows[prepared.tasks(spec.task).known[rows].any(axis=1)]
    return rows


def tuning_batches(
    spec: TrainSpec, prepared: Prepared, batch_size: int, groups: RowGroups | None
) -> tuple[np.ndarray, ...]:
    """Fixed batches of equal size (the loss of a batch depends on its size); none if too few.

    Where training has batches of one group, so has tuning.
    """
    rows = _rows_of("tuning", spec, prepared)
    if len(rows) < 2:
        return ()
    if groups is not None and not groups.is_mixed:
        return tuning_in_groups(rows, groups, batch_size)
    size = min(batch_size, len(rows))
    whole = len(rows) // size
    return tuple(np.split(rows[: whole * size], whole))


def build_views(
    recipe: RecipeSpec,
    spec: TrainSpec,
    learner: Learner,
    adapters: Mapping[str, Adapter],
    shapes: Mapping[str, InputShape],
) -> dict[str, View]:
    """Build every view that the objectives read; ``plain`` needs no definition."""
    known = {"plain": ViewSettings(), **recipe.views, **spec.views}
    shape: ModelShape = learner.model.shape(shapes, {})  # type: ignore[operator]  # Towers
    wanted = {name for objective, _ in learner.charged.values() for name in objective.views}
    return {
        name: View(lookup("view", name, known), adapters, shape.num_tokens, where=f"views.{name}")
        for name in sorted(wanted)
    }


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
