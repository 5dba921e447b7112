"""The training loop: select, view, encode, charge, backward, record. The same for every recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core.batch import Batch, Embeddings
from medmcl.core.contracts import Objective, Selector
from medmcl.core.errors import ConfigError
from medmcl.core.progress import Pace, progress
from medmcl.core.rng import RowGenerator, derive_seed, seed_torch, torch_generator
from medmcl.data.loading.views import View
from medmcl.engine.averaging import Average, shown
from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.distributed import charge, share_norms, tied, wrap
from medmcl.engine.feed import Feed
from medmcl.engine.gathering import routed_as_one
from medmcl.engine.gradient_cache import Terms, accumulate, average_gradients, encode_in_parts
from medmcl.engine.optimiser import (
    OptimiserSettings,
    build_optimiser,
    clip_gradients,
    rate_at,
    set_rate,
    take_state,
)
from medmcl.engine.outcomes import Outcomes, not_finite, skips_by_itself, sums_of_taken
from medmcl.engine.peers import same_on_all
from medmcl.engine.post_step_hooks import move, moves
from medmcl.engine.probe_hooks import watch
from medmcl.engine.record import Record
from medmcl.engine.running_sums import Sums, added, over_ranks, row_sums
from medmcl.engine.saver import Saver
from medmcl.engine.selecting import keep_rows
from medmcl.engine.signals import Interrupted, StopRequest
from medmcl.engine.state import Progress
from medmcl.engine.world import World, any_rank, barrier, own_part

MAX_SKIPPED = 20
"""Steps in a row whose loss or gradient is not finite before a stage is given up."""
MAX_EMPTY = 20
"""Steps from the first on without rows to charge for before a run gives up; at least an epoch."""

Summarise = Callable[[Mapping[str, Tensor]], Mapping[str, Any]]
"""From sums of what encoders report of rows to numbers for the record."""


class Learner(nn.Module):
    """A model and the objectives that charge it: all that is trained, in one module.

    Each wanted view is encoded once, however many objectives read it.
    """

    def __init__(
        self, model: nn.Module, objectives: Mapping[str, nn.Module], weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.model = model
        for name in objectives:
            if "." in name or hasattr(nn.ModuleDict, name):
                raise ConfigError("an objective cannot have this name", got=name)
        self.objectives = nn.ModuleDict(dict(objectives))
        self.weights = dict(weights)
        self.row_sums: Sums = {}
        """What encoders reported of the rows of the last batch, summed over them."""

    def encode(self, views: Mapping[str, Batch], parts: int = 1) -> dict[str, Embeddings]:
        """Encode every view; in parts where nothing is learned."""
        return {name: encode_in_parts(self.model, batch, parts) for name, batch in views.items()}

    @property
    def charged(self) -> dict[str, tuple[Objective, float]]:
        """Every objective with its weight in the loss."""
        return {
            name: (cast(Objective, objective), self.weights[name])
            for name, objective in self.objectives.items()
        }

    def forward(
        self, views: Mapping[str, Batch], batch: Batch, world: World
    ) -> tuple[Tensor, Terms]:
        """Give the loss to step on and every term of it."""
        return self.charge(self.encode(views), batch, world)

    def charge(
        self, seen: dict[str, Embeddings], batch: Batch, world: World
    ) -> tuple[Tensor, Terms]:
        """Give the loss of views that are encoded, and every term of it."""
        self.row_sums = row_sums(seen)
        loss, terms = charge(self.charged, seen, batch, world)
        if world.size > 1:
            towers = cast(nn.ModuleDict, self.model.towers)
            loss = tied(loss, seen, dict(towers.items()))
        return loss, terms


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how a stage trains."""

    stage: str
    steps: int
    steps_per_epoch: int
    evaluate_every: int
    log_every: int
    seed: int
    optimiser: OptimiserSettings
    precision: str = "fp32"
    accumulate: int = 1
    """Parts that each batch of a rank is encoded in."""
    ema: float | None = None
    """Decay of the running mean of weights that is judged and kept; None: the weights are."""
    patience: int | None = None
    """Tuning evaluations without a better loss before the stage ends early."""

    @property
    def tenth(self) -> int:
        """Steps that a tenth of the stage has, at least one."""
        return max(1, self.steps // 10)

    def settles_each_step(self, world: World) -> bool:
        """Whether the host asks after each step what it came to: it costs nothing on a CPU."""
        return world.device.type == "cpu"


def fit(
    learner: Learner,
    feed: Feed,
    views: Mapping[str, View],
    plan: Plan,
    *,
    record: Record,
    checkpoints: Checkpoints,
    world: World,
    depths: Mapping[str, tuple[int, int]] | None = None,
    stop: StopRequest,
    describe: Callable[[dict[str, Embeddings]], dict[str, Any]] | None = None,
    summarise: Summarise | None = None,
) -> Progress:
    """Train a stage to its end, from its last checkpoint if there is one.

    Args:
        learner: Model and objectives, on the device of ``world``.
        feed: Where batches come from.
        views: Every view that the objectives read.
        plan: Steps, rates, intervals.
        record: Takes a line an interval.
        checkpoints: Where weights go; holds the last and the best by tuning loss.
        world: Ranks and device.
        depths: Parameter name to (layer, last layer) for layer-wise rate decay.
        stop: Whether somebody asked the run to stop.
        describe: Numbers on the embeddings of the tuning split, for the record.
        summarise: Numbers on sums of ``stats`` over rows, for the record: over all steps and ranks
            since the last line of training, and over the tuning split.

    Raises:
        Interrupted: A stop signal came; the state is saved.
        ConfigError: No objective had rows to charge for in the first epoch (`MAX_EMPTY` steps
            if it is shorter), or in any step.
    """
    optimiser = build_optimiser(learner, plan.optimiser, depths or {}, world)
    outcomes = Outcomes()
    average = None if plan.ema is None else Average(learner, plan.ema)
    state = _resume(learner, optimiser, average, checkpoints, world, feed.selector)
    same_on_all(world.peers, f"the step at which {plan.stage} begins", state.step)
    before, began = state.seconds, time.monotonic()
    waited = state.data_wait_seconds - feed.wait.seconds
    record.rewind(plan.stage, state.step or -1)  # nothing is saved before the first step
    if state.step == 0:
        _watch(learner, feed, plan, state, record, world)
    step_module = (wrap if plan.accumulate == 1 else share_norms)(learner, world)
    if _ending(plan, state):
        return state  # it had ended early, and was killed before it could say so
    pace = Pace(plan.steps, state.step)
    with (
        Saver(checkpoints, world) as saver,
        progress(plan.stage, plan.steps, shown=world.rank == 0, lines=False) as bar,
        closing(feed.batches(state.step, plan, world)) as coming,
    ):
        for rows, batch in coming:
            world.at(f"{plan.stage}, step {state.step + 1}", in_step=True)
            step(
                step_module,
                learner,
                rows,
                batch,
                feed,
                views,
                plan,
                optimiser,
                state,
                world,
                outcomes,
                average,
            )
            saver.check()
            logs, ends = state.step % plan.log_every == 0, state.step == plan.steps
            due = state.step % plan.evaluate_every == 0
            if plan.settles_each_step(world) or logs or ends or due:
                outcomes.settle(state, plan.tenth)
            bar(state.step, f"loss {state.recent.get('loss', math.nan):.4f}")
            given_up = state.skipped_in_a_row >= MAX_SKIPPED
            last = given_up or ends
            _watch(learner, feed, plan, state, record, world)
            state.data_wait_seconds = waited + feed.wait.seconds
            if logs or last:
                _report_step(plan, state, optimiser, record, world, summarise, pace)
            due = due or last
            stopping = any_rank(stop.asked, world)
            if stopping:
                outcomes.settle(state, plan.tenth)
            if due or stopping:
                with shown(average):
                    better = due and _evaluate(
                        learner, feed, views, plan, state, record, world, describe, summarise
                    )
                state.seconds = before + time.monotonic() - began
                state.data_wait_seconds = waited + feed.wait.seconds
                better = better or (last and not saver.knows_best())
                record.bring_to_disk()
                _save(learner, optimiser, average, state, saver, world, feed.selector, best=better)
            if stopping and not last:
                saver.wait()
                barrier(world, "the first rank to save", heeds=False)
                raise Interrupted(f"{plan.stage}: saved at step {state.step} of {plan.steps}")
            ending = _ending(plan, state)
            if ending:
                record.say(f"{plan.stage}: stops at step {state.step}, {ending}")
                break
    return state


def _ending(plan: Plan, state: Progress) -> str:
    """Say why a stage ends before its last step; empty if it goes on."""
    if state.skipped_in_a_row >= MAX_SKIPPED:
        return f"loss or gradient not finite for {MAX_SKIPPED} steps in a row"
    if plan.patience is not None and state.without_gain >= plan.patience:
        return f"no better since {state.best_step}"
    return ""


def step(
    step_module: nn.Module,
    learner: Learner,
    rows: np.ndarray,
    batch: Batch,
    feed: Feed,
    views: Mapping[str, View],
    plan: Plan,
    optimiser: torch.optim.Optimizer,
    state: Progress,
    world: World,
    outcomes: Outcomes,
    average: Average | None = None,
) -> None:
    """Take a training step on a batch, or on the rows of it that a selector keeps."""
    drawn_for = (plan.seed, plan.stage, "step", state.step)
    key = (*drawn_for, world.rank)
    seed_torch(derive_seed(*key), world.device)  # of towers, for dropout: a rank its own
    learner.train()
    batch = batch.to(world.device)
    if feed.selector is not None:
        with autocast(plan.precision, world.device):
            rows = keep_rows(
                rows, batch, learner.model, feed.selector, state, world,
                epoch=state.step // plan.steps_per_epoch, parts=plan.accumulate,
            )  # fmt: skip
        began = time.perf_counter()
        batch = feed.load(own_part(rows, world)[0]).to(world.device)
        state.selection_seconds += time.perf_counter() - began
    source = torch_generator(*drawn_for, 0, "views", device=world.device)
    first = own_part(rows, world)[1]
    generator = RowGenerator(source, first=first, total=len(rows))
    seen = {name: view(batch, generator) for name, view in views.items()}
    set_rate(optimiser, rate_at(state.step, plan.steps, plan.optimiser))
    optimiser.zero_grad(set_to_none=True)
    noise = torch_generator(*drawn_for, 0, device=world.device)  # of routers: torch's own of rank 0
    with routed_as_one(world, first, noise):
        loss, terms = _learn(step_module, learner, seen, batch, plan, key, world)
    state.step += 1
    if not terms:  # no rank had rows to charge for
        move(learner, world, taken=False)
        state.empty_steps += 1
        _refuse_nothing(plan, state)
        return
    norm = clip_gradients(learner, plan.optimiser.clip_norm)
    bad = not_finite(loss, norm, world)
    outcomes.add(bad, loss, norm, terms)
    waits = plan.settles_each_step(world) or not skips_by_itself(optimiser) or bool(moves(learner))
    taken = not (waits and bool(host.read(bad)))
    if taken:
        if not waits:
            optimiser.found_inf = bad  # type: ignore[attr-defined]  # read by torch's fused ones
        optimiser.step()
        state.sums = sums_of_taken(state.sums, learner.row_sums, bad)
        if average is not None:
            average.follow(state.step, bad)
    move(learner, world, taken=taken)


def _learn(
    step_module: nn.Module,
    learner: Learner,
    seen: Mapping[str, Batch],
    batch: Batch,
    plan: Plan,
    key: tuple[str | int, ...],
    world: World,
) -> tuple[Tensor, Terms]:
    """Give the loss and its terms, and every parameter its gradient if there are any."""
    cast_down = partial(autocast, plan.precision, world.device)
    if plan.accumulate == 1:
        with cast_down():
            loss, terms = step_module(seen, batch, world)
        if terms:
            loss.backward()
        return loss, terms
    loss, terms = accumulate(
        learner.model,
        lambda joined: learner.charge(joined, batch, world),
        seen,
        parts=plan.accumulate,
        key=key,
        autocast=cast_down,
    )
    if terms:
        average_gradients(learner, world)
    return loss, terms


def _refuse_nothing(plan: Plan, state: Progress) -> None:
    if state.empty_steps == state.step >= min(plan.steps, max(plan.steps_per_epoch, MAX_EMPTY)):
        raise ConfigError(
            f"no objective had rows to charge for in the first {state.step} steps, so nothing was "
            "trained",
            where=f"stage {plan.stage}",
            fix="raise batch_size, lower the objective's min_rows, or gather people who have "
            "several modalities (medmcl check)",
        )


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Give the autocast context for ``precision`` (``fp32`` or ``bf16``)."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _report_step(
    plan: Plan,
    state: Progress,
    optimiser: torch.optim.Optimizer,
    record: Record,
    world: World,
    summarise: Summarise | None,
    pace: Pace,
) -> None:
    """Write a line of training, and begin to sum anew."""
    told = {} if summarise is None else summarise(over_ranks(state.sums, world))
    rate = max(group["lr"] for group in optimiser.param_groups)
    row = {"stage": plan.stage, "split": "train", "step": state.step,
           "epoch": state.step / plan.steps_per_epoch, "lr": rate,
           "skipped_steps": state.skipped_steps, "empty_steps": state.empty_steps,
           "gradient_spikes": state.gradient_spikes,
           "largest_gradient_norm": state.largest_norm or None,  # none: no step was taken
           "data_wait_seconds": round(state.data_wait_seconds, 3),
           **({"kept_rows": state.kept_rows} if state.judged_rows else {}),
           **state.recent, **told}  # fmt: skip
    record.write(row)
    state.begin_line()
    left = pace.left(state.step)
    record.say(
        f"{plan.stage}  step {state.step}/{plan.steps}"
        f"  loss {state.recent.get('loss', math.nan):.4f}  lr {rate:.2e}{left and f'  {left}'}"
    )


@torch.no_grad()
def tuning_loss(
    learner: Learner,
    feed: Feed,
    views: Mapping[str, View],
    plan: Plan,
    world: World,
    describe: Callable[[dict[str, Embeddings]], dict[str, Any]] | None = None,
    summarise: Summarise | None = None,
) -> dict[str, Any]:
    """Mean loss and terms over the tuning batches, with the same masks every time.

    Each rank computes the same numbers on all of the split, so no rank decides alone.
    """
    learner.eval()
    alone = World(rank=0, size=1, device=world.device)
    found: list[tuple[str, Tensor, int]] = []
    described: list[dict[str, Any]] = []
    rows_summed: Sums = {}
    for number, (rows, batch) in enumerate(
        zip(feed.tuning, feed.fixed(feed.tuning, world), strict=True)
    ):
        source = torch_generator(plan.seed, plan.stage, "tuning", number, device=world.device)
        generator = RowGenerator(source)
        seen = {name: view(batch, generator, disturb=False) for name, view in views.items()}
        with autocast(plan.precision, world.device):
            embeddings = learner.encode(seen, plan.accumulate)
            loss, terms = charge(learner.charged, embeddings, batch, alone)
        if not terms:
            continue
        entries = {"loss": (loss, len(rows)), **terms}
        found += [(name, value.reshape(()), count) for name, (value, count) in entries.items()]
        rows_summed = added(rows_summed, row_sums(embeddings))
        if describe is not None:
            described.append(describe(embeddings))
    means: dict[str, Any] = _means(found)
    for name in described[0] if described else ():
        means[name] = float(np.mean([row[name] for row in described if name in row]))
    return means if summarise is None else {**means, **summarise(rows_summed)}


def _means(found: Sequence[tuple[str, Tensor, int]]) -> dict[str, float]:
    """Mean of each name over all that was counted; read from the device once."""
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    values = host.read(torch.stack([x.double() for _, x, _ in found])).tolist() if found else []
    for (name, _, count), value in zip(found, values, strict=True):
        sums[name] = sums.get(name, 0.0) + value * count
        counts[name] = counts.get(name, 0.0) + count
    return {name: total / counts[name] for name, total in sums.items()}


def _evaluate(
    learner: Learner,
    feed: Feed,
    views: Mapping[str, View],
    plan: Plan,
    state: Progress,
    record: Record,
    world: World,
    describe: Callable[[dict[str, Embeddings]], dict[str, Any]] | None,
    summarise: Summarise | None,
) -> bool:
    """Write the tuning line; tell whether this is the best state so far."""
    world.at(f"{plan.stage}, the tuning loss after step {state.step}")
    means = tuning_loss(learner, feed, views, plan, world, describe, summarise)
    if "loss" not in means:
        return True  # nothing to choose by: the last state is the best known
    record.write({"stage": plan.stage, "split": "tuning", "step": state.step,
                  "epoch": state.step / plan.steps_per_epoch, **means})  # fmt: skip
    better = means["loss"] < state.best
    state.last_tuning_loss = means["loss"]
    if better:
        state.best, state.best_step, state.without_gain = means["loss"], state.step, 0
    else:
        state.without_gain += 1
    record.say(
        f"{plan.stage}  step {state.step}/{plan.steps}  tuning loss {means['loss']:.4f}"
        f"{'  (best)' if better else ''}"
    )
    return better


def _watch(
    learner: Learner,
    feed: Feed,
    plan: Plan,
    state: Progress,
    record: Record,
    world: World,
) -> None:
    """Show the probe rows to what watches; a loss of another meaning has no best so far."""
    encode = partial(encode_probe, learner, feed, plan, world)
    for row, changed in watch(learner.objectives, encode, state.step, plan.steps, world):
        record.write({"stage": plan.stage, "split": "probe", **row})
        if changed:
            state.best, state.without_gain = math.inf, 0


@torch.no_grad()
def encode_probe(learner: Learner, feed: Feed, plan: Plan, world: World) -> list[Embeddings]:
    """Give the embeddings of the probe rows, batch by batch."""
    if feed.probe is None:
        raise RuntimeError("an objective watches, and the feed has no probe rows")
    learner.eval()
    found = []
    for number, batch in enumerate(feed.fixed(feed.probe.batches, world)):
        source = torch_generator(plan.seed, plan.stage, "probe", number, device=world.device)
        with autocast(plan.precision, world.device):
            shown = feed.probe.view(batch, RowGenerator(source), disturb=False)
            found.append(encode_in_parts(learner.model, shown, plan.accumulate))
    return found


def _save(
    learner: Learner,
    optimiser: torch.optim.Optimizer,
    average: Average | None,
    state: Progress,
    saver: Saver,
    world: World,
    selector: Selector | None,
    *,
    best: bool,
) -> None:
    training = {"progress": state.saved(world), "optimiser": optimiser.state_dict()}
    if world.rank == 0:
        world.at(f"saving step {state.step}")
        if selector is not None:
            training["selector"] = dict(selector.state_dict())
        if average is not None:
            training["own_weights"] = average.own_weights()
        with shown(average):
            saver.save(state.step, learner.state_dict(), training, best=best)
    world.at(f"after step {state.step}")


def _resume(
    learner: Learner,
    optimiser: torch.optim.Optimizer,
    average: Average | None,
    checkpoints: Checkpoints,
    world: World,
    selector: Selector | None,
) -> Progress:
    found = checkpoints.resume(point=world.rank == 0)
    if found is None:
        return Progress()
    weights, training = found
    learner.load_state_dict(weights)
    if average is not None:
        average.resume(training["own_weights"])
    take_state(optimiser, training["optimiser"])
    if selector is not None:
        selector.load_state_dict(training.get("selector", {}))
    return Progress.resumed(training["progress"], world)
