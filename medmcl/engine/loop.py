"""The training loop: select, view, encode, charge, backward, record. The same for every recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core.batch import Batch, Embeddings
from medmcl.core.contracts import MovesAfterSteps, Objective
from medmcl.core.errors import ConfigError
from medmcl.core.progress import Pace, progress
from medmcl.core.rng import RowGenerator, derive_seed, seed_torch, torch_generator
from medmcl.data.loading.views import View
from medmcl.encoders.tower_threads import towers_at_once
from medmcl.engine.averaging import Average, shown
from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.distributed import charge, share_norms, tied, wrap
from medmcl.engine.feed import Feed
from medmcl.engine.freed_memory import keep_freed
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

Describe = Callable[[dict[str, Embeddings]], dict[str, Any]]
"""From the embeddings of a tuning batch to numbers for the record."""
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
        if parts == 1:
            return {name: self.model(batch) for name, batch in views.items()}
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
    threads: int = 1
    """Threads that encode towers at the same time."""

    @property
    def tenth(self) -> int:
        """Steps that a tenth of the stage has, at least one."""
        return max(1, self.steps // 10)

    def settles_each_step(self, world: World) -> bool:
        """Whether the host asks after each step what it came to: it costs nothing on a CPU."""
        return world.device.type == "cpu"


@dataclass(kw_only=True, eq=False)
class Training:
    """A stage that is trained: what learns, from what, by which plan, and how far it has come."""

    learner: Learner
    """Model and objectives, on the device of ``world``."""
    feed: Feed
    views: Mapping[str, View]
    """Every view that the objectives read."""
    plan: Plan
    world: World
    optimiser: torch.optim.Optimizer
    step_module: nn.Module | None = None
    """The learner as its ranks share it; None: one process, which steps on the learner itself."""
    average: Average | None = None
    describe: Describe | None = None
    summarise: Summarise | None = None
    state: Progress = field(default_factory=Progress)
    outcomes: Outcomes = field(default_factory=Outcomes)

    @cached_property
    def weights(self) -> list[nn.Parameter]:
        """Every weight of the learner."""
        return list(self.learner.parameters())

    @cached_property
    def moved(self) -> list[MovesAfterSteps]:
        """Parts of the learner that a rule moves after a step."""
        return moves(self.learner)

    def generator(self, *key: str | int) -> torch.Generator:
        """Give the draws of views for ``key``, of this stage."""
        return torch_generator(self.plan.seed, self.plan.stage, *key, device=self.world.device)

    @property
    def shows_ahead(self) -> Callable[..., dict[str, Batch]] | None:
        """What makes views while earlier steps compute: on a CPU, of rows that are all kept."""
        is_known = self.feed.selector is None and self.world.device.type == "cpu"
        return self.seen if is_known else None

    @property
    def ending(self) -> str:
        """Why the stage ends before its last step; empty if it goes on."""
        if self.state.skipped_in_a_row >= MAX_SKIPPED:
            return f"loss or gradient not finite for {MAX_SKIPPED} steps in a row"
        if self.plan.patience is not None and self.state.without_gain >= self.plan.patience:
            return f"no better since {self.state.best_step}"
        return ""

    def seen(self, step: int, rows: np.ndarray, batch: Batch) -> dict[str, Batch]:
        """Give every view of this rank's batch of the global ``rows``, as a step draws it."""
        source = self.generator("step", step, 0, "views")
        first = own_part(rows, self.world)[1]
        generator = RowGenerator(source, first=first, total=len(rows))
        return {name: view(batch, generator) for name, view in self.views.items()}

    def step(self, rows: np.ndarray, batch: Batch, seen: Mapping[str, Batch] | None = None) -> None:
        """Take a training step on a batch, or on the rows of it that a selector keeps.

        ``seen``: its views, where they are made already.
        """
        learner, plan, state, world = self.learner, self.plan, self.state, self.world
        key = (plan.seed, plan.stage, "step", state.step, world.rank)
        seed_torch(derive_seed(*key), world.device)  # of towers, for dropout: a rank its own
        learner.train()
        batch = batch.to(world.device)
        if self.feed.selector is not None:
            with autocast(plan.precision, world.device):
                rows = keep_rows(
                    rows, batch, learner.model, self.feed.selector, state, world,
                    epoch=state.step // plan.steps_per_epoch, parts=plan.accumulate,
                )  # fmt: skip
            began = time.perf_counter()
            batch = self.feed.load(own_part(rows, world)[0]).to(world.device)
            state.selection_seconds += time.perf_counter() - began
        seen = self.seen(state.step, rows, batch) if seen is None else seen
        set_rate(self.optimiser, rate_at(state.step, plan.steps, plan.optimiser))
        for weight in self.weights:  # `zero_grad` of torch takes a hundredth of a toy step
            weight.grad = None
        noise = self.generator("step", state.step, 0)  # of routers: torch's own of rank 0
        first = own_part(rows, world)[1]
        with nullcontext() if world.size == 1 else routed_as_one(world, first, noise):
            loss, terms = self._learn(seen, batch, key)
        state.step += 1
        if not terms:  # no rank had rows to charge for
            move(self.moved, world, taken=False)
            state.empty_steps += 1
            self._refuse_nothing()
            return
        norm = clip_gradients(self.weights, plan.optimiser.clip_norm)
        bad = not_finite(loss, norm, world)
        self.outcomes.add(bad, loss, norm, terms)
        by_itself = skips_by_itself(self.optimiser) and not self.moved
        waits = plan.settles_each_step(world) or not by_itself
        taken = not (waits and bool(host.read(bad)))
        if taken:
            if not waits:
                self.optimiser.found_inf = bad  # type: ignore[attr-defined]  # torch's fused ones
            self.optimiser.step()
            state.sums = sums_of_taken(state.sums, learner.row_sums, bad)
            if self.average is not None:
                self.average.follow(state.step, bad)
        move(self.moved, world, taken=taken)

    def _learn(
        self, seen: Mapping[str, Batch], batch: Batch, key: tuple[str | int, ...]
    ) -> tuple[Tensor, Terms]:
        """Give the loss and its terms, and every parameter its gradient if there are any."""
        if self.plan.accumulate == 1:
            with autocast(self.plan.precision, self.world.device):
                loss, terms = (self.step_module or self.learner)(seen, batch, self.world)
            if terms:
                loss.backward()
            return loss, terms
        loss, terms = accumulate(
            self.learner.model,
            lambda joined: self.learner.charge(joined, batch, self.world),
            seen,
            parts=self.plan.accumulate,
            key=key,
            autocast=partial(autocast, self.plan.precision, self.world.device),
        )
        if terms:
            average_gradients(self.learner, self.world)
        return loss, terms

    def _refuse_nothing(self) -> None:
        plan, state = self.plan, self.state
        if state.empty_steps == state.step >= min(plan.steps, max(plan.steps_per_epoch, MAX_EMPTY)):
            raise ConfigError(
                f"no objective had rows to charge for in the first {state.step} steps, so nothing "
                "was trained",
                where=f"stage {plan.stage}",
                fix="raise batch_size, lower the objective's min_rows, or gather people who have "
                "several modalities (medmcl check)",
            )

    def report(self, record: Record, pace: Pace) -> None:
        """Write a line of training, and begin to sum anew."""
        plan, state = self.plan, self.state
        told = {} if self.summarise is None else self.summarise(over_ranks(state.sums, self.world))
        rate = max(group["lr"] for group in self.optimiser.param_groups)
        row = {**self._place("train"), "lr": rate,
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

    def _place(self, split: str) -> dict[str, Any]:
        """Give what each line of the record begins with."""
        step, epoch = self.state.step, self.state.step / self.plan.steps_per_epoch
        return {"stage": self.plan.stage, "split": split, "step": step, "epoch": epoch}

    @torch.no_grad()
    def tuning_loss(self) -> dict[str, Any]:
        """Mean loss and terms over the tuning batches, with the same masks every time.

        Each rank computes the same numbers on all of the split, so no rank decides alone.
        """
        learner, batches = self.learner, self.feed.tuning
        learner.eval()
        alone = World(rank=0, size=1, device=self.world.device)
        found: list[tuple[str, Tensor, int]] = []
        described: list[dict[str, Any]] = []
        rows_summed: Sums = {}
        for number, (rows, batch) in enumerate(
            zip(batches, self.feed.fixed(batches, self.world), strict=True)
        ):
            generator = RowGenerator(self.generator("tuning", number))
            seen = {
                name: view(batch, generator, disturb=False) for name, view in self.views.items()
            }
            with autocast(self.plan.precision, self.world.device):
                embeddings = learner.encode(seen, self.plan.accumulate)
                loss, terms = charge(learner.charged, embeddings, batch, alone)
            if not terms:
                continue
            entries = {"loss": (loss, len(rows)), **terms}
            found += [(name, value.reshape(()), count) for name, (value, count) in entries.items()]
            rows_summed = added(rows_summed, row_sums(embeddings))
            if self.describe is not None:
                described.append(self.describe(embeddings))
        means: dict[str, Any] = _means(found)
        for name in described[0] if described else ():
            means[name] = float(np.mean([row[name] for row in described if name in row]))
        return means if self.summarise is None else {**means, **self.summarise(rows_summed)}

    def evaluate(self, record: Record) -> bool:
        """Write the tuning line; tell whether this is the best state so far."""
        plan, state = self.plan, self.state
        self.world.at(f"{plan.stage}, the tuning loss after step {state.step}")
        means = self.tuning_loss()
        if "loss" not in means:
            return True  # nothing to choose by: the last state is the best known
        record.write({**self._place("tuning"), **means})
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

    def watch(self, record: Record) -> None:
        """Show the probe rows to what watches; a loss of another meaning has no best so far."""
        state, plan = self.state, self.plan
        for row, changed in watch(
            self.learner.objectives, self.encode_probe, state.step, plan.steps, self.world
        ):
            record.write({"stage": plan.stage, "split": "probe", **row})
            if changed:
                state.best, state.without_gain = math.inf, 0

    @torch.no_grad()
    def encode_probe(self) -> list[Embeddings]:
        """Give the embeddings of the probe rows, batch by batch."""
        probe = self.feed.probe
        if probe is None:
            raise RuntimeError("an objective watches, and the feed has no probe rows")
        self.learner.eval()
        found = []
        for number, batch in enumerate(self.feed.fixed(probe.batches, self.world)):
            generator = RowGenerator(self.generator("probe", number))
            with autocast(self.plan.precision, self.world.device):
                seen = probe.view(batch, generator, disturb=False)
                found.append(encode_in_parts(self.learner.model, seen, self.plan.accumulate))
        return found

    def save(self, saver: Saver, *, best: bool) -> None:
        """Save weights, and what training goes on from. All ranks must call it."""
        step, selector, average = self.state.step, self.feed.selector, self.average
        progress = self.state.saved(self.world)
        training = {"progress": progress, "optimiser": self.optimiser.state_dict()}
        if self.world.rank == 0:
            self.world.at(f"saving step {step}")
            if selector is not None:
                training["selector"] = dict(selector.state_dict())
            if average is not None:
                training["own_weights"] = average.own_weights()
            with shown(average):
                saver.save(step, self.learner.state_dict(), training, best=best)
        self.world.at(f"after step {step}")

    def resume(self, checkpoints: Checkpoints) -> None:
        """Go on from the last checkpoint, if there is one."""
        found = checkpoints.resume(point=self.world.rank == 0)
        if found is None:
            return
        weights, training = found
        self.learner.load_state_dict(weights)
        if self.average is not None:
            self.average.resume(training["own_weights"])
        take_state(self.optimiser, training["optimiser"])
        if self.feed.selector is not None:
            self.feed.selector.load_state_dict(training.get("selector", {}))
        self.state = Progress.resumed(training["progress"], self.world)


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
    describe: Describe | None = None,
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
    keep_freed()
    own = Training(
        learner=learner,
        feed=feed,
        views=views,
        plan=plan,
        world=world,
        optimiser=build_optimiser(learner, plan.optimiser, depths or {}, world),
        average=None if plan.ema is None else Average(learner, plan.ema),
        describe=describe,
        summarise=summarise,
    )
    own.resume(checkpoints)
    state, outcomes = own.state, own.outcomes
    same_on_all(world.peers, f"the step at which {plan.stage} begins", state.step)
    before, began = state.seconds, time.monotonic()
    waited = state.data_wait_seconds - feed.wait.seconds
    record.rewind(plan.stage, state.step or -1)  # nothing is saved before the first step
    if state.step == 0:
        own.watch(record)
    own.step_module = (wrap if plan.accumulate == 1 else share_norms)(learner, world)
    if own.ending:
        return state  # it had ended early, and was killed before it could say so
    pace = Pace(plan.steps, state.step)
    draws = world.rank == 0 and not record.is_shared  # lines of others would end up in a bar
    with (
        # gradients of several views are summed in another order, each view's by itself
        towers_at_once(learner.model, plan.threads if len(views) == 1 else 1),
        Saver(checkpoints, world) as saver,
        progress(plan.stage, plan.steps, shown=draws, lines=False) as bar,
        closing(feed.batches(state.step, plan, world, own.shows_ahead)) as coming,
    ):
        for rows, read in coming:
            world.at(f"{plan.stage}, step {state.step + 1}", in_step=True)
            own.step(rows, read.batch, read.seen)
            saver.check()
            logs, ends = state.step % plan.log_every == 0, state.step == plan.steps
            due = state.step % plan.evaluate_every == 0
            if plan.settles_each_step(world) or logs or ends or due:
                outcomes.settle(state, plan.tenth)
            bar(state.step, f"loss {state.recent.get('loss', math.nan):.4f}")
            given_up = state.skipped_in_a_row >= MAX_SKIPPED
            last = given_up or ends
            own.watch(record)
            state.data_wait_seconds = waited + feed.wait.seconds
            if logs or last:
                own.report(record, pace)
            due = due or last
            stopping = any_rank(stop.asked, world)
            if stopping:
                outcomes.settle(state, plan.tenth)
            if due or stopping:
                with shown(own.average):
                    better = due and own.evaluate(record)
                state.seconds = before + time.monotonic() - began
                state.data_wait_seconds = waited + feed.wait.seconds
                better = better or (last and not saver.knows_best())
                record.bring_to_disk()
                own.save(saver, best=better)
            if stopping and not last:
                saver.wait()
                barrier(world, "the first rank to save", heeds=False)
                raise Interrupted(f"{plan.stage}: saved at step {state.step} of {plan.steps}")
            if own.ending:
                record.say(f"{plan.stage}: stops at step {state.step}, {own.ending}")
                break
    return state


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Give the autocast context for ``precision`` (``fp32`` or ``bf16``)."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _means(found: Sequence[tuple[str, Tensor, int]]) -> dict[str, float]:
    """Mean of each name over all that was counted; read from the device once."""
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    values = host.read(torch.stack([x.double() for _, x, _ in found])).tolist() if found else []
    for (name, _, count), value in zip(found, values, strict=True):
        sums[name] = sums.get(name, 0.0) + value * count
        counts[name] = counts.get(name, 0.0) + count
    return {name: total / counts[name] for name, total in sums.items()}
