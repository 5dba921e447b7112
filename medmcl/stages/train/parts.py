"""What a stage trains, on which rows, as what it sees: towers, objectives, sampler, views."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medmcl.core import host
from medmcl.core.batch import GROUPS, Batch, InputShape
from medmcl.core.config import lookup
from medmcl.core.contracts import Adapter, ModelShape
from medmcl.core.errors import ConfigError
from medmcl.core.rng import RowGenerator, derive_seed, torch_generator
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.samplers import UniformSampler, WithinGroupSampler
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.data.loading.views import View, with_leads, with_lengths
from medmcl.engine.feed import Probe
from medmcl.engine.loop import Learner
from medmcl.engine.probe_hooks import watchers
from medmcl.engine.recompute import recompute_blocks
from medmcl.evaluation.protocol.subsets import label_subset
from medmcl.grouping.groups import NOWHERE
from medmcl.objectives import wanted_probe
from medmcl.selection.choices import Online
from medmcl.stages.poison.poisoned_rows import Poisoned
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.run import Run
from medmcl.stages.stage import Context
from medmcl.stages.train.distill_targets import (
    TeacherEmbeddings,
    as_targets,
    teacher_widths,
)
from medmcl.stages.train.grouped_rows import (
    RowGroups,
    group_sampler,
    groups_of,
    tuning_in_groups,
)
from medmcl.stages.train.models import build_learner
from medmcl.stages.train.spec import TowersSpec, TrainSpec
from medmcl.stages.train.train_filter import (
    going_on_from,
    keep_apart,
    kept_rows,
)
from medmcl.threats import Poison

if TYPE_CHECKING:
    pass


from medmcl.selection.choices import Choice
from medmcl.selection.settings import SELECTORS
from medmcl.stages.train.models import scale_of


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


def attack_of_stage(name: str, prepared: Prepared, context: Context) -> Poisoned | None:
    """What lays the attack of a poison stage over batches; None in a rehearsal."""
    manifest = context.run.artefact(name, Poison, prepared.cohort.fingerprint)
    attack = context.run.of(PoisonSpec)[name]  # `check` has made sure
    return None if manifest is None else Poisoned(attack, manifest, prepared)


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
    rows, probe_rows = everyone, everyone[:0]
    if wanted:
        rows, probe_rows = keep_apart(everyone, subjects, wanted, (context.run.seed, spec.name))
    rows = rows[~np.isin(prepared.subjects[rows], watched_later(spec, prepared, context))]
    drawn, probe_rows = (kept_rows(some, spec, prepared, context) for some in (rows, probe_rows))
    groups = None if spec.groups is None else groups_of(spec, drawn, prepared, context)
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
    found = [prepared.subjects[:0]]
    for later in going_on_from(spec.name, context.run.recipe.stages):
        asked = [wanted_probe(o.kind, o.settings) for o in later.objectives.values()]
        wanted = [one for one in asked if one is not None]
        if wanted:
            rows = training_rows(later, prepared, context.run.seed)
            key = (context.run.seed, later.name)
            probed = keep_apart(rows, prepared.subjects[rows], wanted, key)[1]
            found.append(prepared.subjects[probed])
    return np.unique(np.concatenate(found))


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


def with_modalities(spec: TrainSpec, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Leave out the samples that lack what a stage takes."""
    wanted = spec.rows or ("all" if len(spec.towers) <= 2 else "any")
    have = np.stack([prepared.present[name][rows] for name in spec.towers])
    return rows[have.all(axis=0) if wanted == "all" else have.any(axis=0)]


def training_rows(spec: TrainSpec, prepared: Prepared, seed: int) -> np.ndarray:
    """Samples of the train split that a stage draws from."""
    rows = rows_of("train", spec, prepared)
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


def rows_of(split: str, spec: TrainSpec, prepared: Prepared) -> np.ndarray:
    """Samples of a split with the modalities, and with the label that a stage learns."""
    rows = with_modalities(spec, prepared, prepared.rows(split))
    if spec.task is not None:
        rows = rows[prepared.tasks(spec.task).known[rows].any(axis=1)]
    return rows


def tuning_batches(
    spec: TrainSpec, prepared: Prepared, batch_size: int, groups: RowGroups | None
) -> tuple[np.ndarray, ...]:
    """Fixed batches of equal size (the loss of a batch depends on its size); none if too few.

    Where training has batches of one group, so has tuning.
    """
    rows = rows_of("tuning", spec, prepared)
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


def build_selector(
    spec: TrainSpec, learner: Learner, adapters: Mapping[str, Adapter], samples: int, seed: int
) -> Online | None:
    """Build the selector of a stage; None if it has none.

    Args:
        spec: The stage.
        learner: Its objectives know the logit scale.
        adapters: Of its modalities.
        samples: Of the cohort; history is kept by sample number.
        seed: Of the run.

    Raises:
        ConfigError: A modality of the pair has no tower here, or losses are read and no objective
            aligns the pair at a logit scale.
    """
    asked = spec.selector
    if asked is None:
        return None
    where = f"stage {spec.name}, selector"
    for name in asked.pair:
        lookup("tower", name, spec.towers)
    own = {name: getattr(asked, name) for name in type(asked).model_fields}
    choice: Choice = SELECTORS[own.pop("kind")](
        **{name: one for name, one in own.items() if name != "pair"},
        samples=samples, seed=derive_seed(seed, "selector", spec.name),
    )  # fmt: skip
    scale = scale_of(learner, asked.pair)
    if choice.reads == "loss" and scale is None:
        raise ConfigError(
            f"{asked.kind} reads the contrastive loss, and no objective has a scale of the pair",
            where=where,
            got=" and ".join(asked.pair),
            fix="train with cross_modal on this pair, or choose kind: clip_score",
        )
    view = View(ViewSettings(), adapters, {}, where=where)

    def show(batch: Batch) -> Batch:
        unused = torch_generator(seed, "selector", device=batch.ids.device)
        return view(batch, RowGenerator(unused), disturb=False)

    return Online(
        choice, asked.pair, show, lambda: 1.0 if scale is None else float(host.read(scale())[0])
    )
