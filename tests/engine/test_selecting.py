"""Selection within batches: who is kept, who takes the step, and what a resumed run remembers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from judged_pairs import SAMPLES, learner, load, selector
from stopping import Stop, plain

from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.feed import Feed
from medmcl.engine.loop import Plan, fit
from medmcl.engine.optimiser import OptimiserSettings
from medmcl.engine.record import Record
from medmcl.engine.selecting import keep_rows
from medmcl.engine.signals import Interrupted
from medmcl.engine.state import Progress
from medmcl.engine.world import World

BATCH = 12
EPOCH = SAMPLES // BATCH
STEPS = 3 * EPOCH


def sampler(epoch):
    order = np.random.default_rng(epoch).permutation(SAMPLES)
    return iter(order.reshape(EPOCH, BATCH))


def train(own, chosen, folder, stop_after=math.inf, seen=None, parts=1):
    folder.mkdir(exist_ok=True)
    plan = Plan(
        stage="pretrain", steps=STEPS, steps_per_epoch=EPOCH, evaluate_every=99, log_every=1,
        seed=1, optimiser=OptimiserSettings(), accumulate=parts,
    )  # fmt: skip

    def told(rows):
        if seen is not None:
            seen.append(np.asarray(rows))
        return load(rows)

    return fit(
        own, Feed(sampler=sampler, load=told, selector=chosen), {"plain": plain}, plan,
        record=Record(folder / "metrics.jsonl", active=True), checkpoints=Checkpoints(folder),
        world=World(), stop=Stop(stop_after),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["differential", "random", "small_loss", "big_loss", "clip_score"])
def test_half_of_the_pairs_take_the_step_and_rows_that_are_none_stay(kind, tmp_path):
    own = learner()
    state = train(own, selector(kind, own), tmp_path)
    batches = [rows for epoch in range(3) for rows in sampler(epoch)]
    pairs = [int((rows % 6 != 5).sum()) for rows in batches]
    assert state.judged_rows == STEPS * BATCH
    assert state.kept_rows == sum(p // 2 + BATCH - p for p in pairs)
    assert state.selection_seconds > 0


def test_a_selector_is_told_the_epoch_of_each_batch(tmp_path):
    own, epochs = learner(), []
    chosen = selector("clip_score", own)
    choose = chosen.choose
    chosen.choose = lambda ids, values, epoch: epochs.append(epoch) or choose(ids, values, epoch)
    train(own, chosen, tmp_path)
    assert epochs == [step // EPOCH for step in range(STEPS)]


def test_what_is_kept_is_the_choice_of_the_models_cosines():
    own, rows = learner(), np.arange(BATCH)
    own.model.eval()
    pooled = own.model(load(rows)).pooled
    cosine = (pooled["image"] * pooled["text"]).sum(1).detach().numpy()
    pairs = rows[rows % 6 != 5]
    best = pairs[np.argsort(-cosine[pairs])[: len(pairs) // 2]]
    own.model.train()
    kept = keep_rows(
        rows, load(rows), own.model, selector("clip_score"), Progress(), World(), epoch=0
    )
    assert kept.tolist() == sorted([*best, *rows[rows % 6 == 5]])
    assert own.model.training


def test_judging_draws_no_dropout_and_leaves_the_random_numbers_alone():
    own, rows = learner(), np.arange(BATCH)
    before = torch.get_rng_state()
    for _ in range(2):
        keep_rows(rows, load(rows), own.model, selector(), Progress(), World(), epoch=0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("mode", "parts"), [("momentum", 1), ("warmup", 1), ("momentum", 4)])
def test_a_run_that_was_killed_in_mid_epoch_selects_like_one_that_never_was(mode, parts, tmp_path):
    options = {"mode": mode, **({"warmup_epochs": 1} if mode == "warmup" else {})}
    whole, killed, resumed = learner(), learner(), learner()
    first, second, third = (selector(**options) for _ in range(3))
    all_rows, late = [], []
    train(whole, first, tmp_path / "whole", seen=all_rows, parts=parts)
    with pytest.raises(Interrupted):
        train(killed, second, tmp_path / "parts", stop_after=EPOCH + 2, parts=parts)
    train(resumed, third, tmp_path / "parts", seen=late, parts=parts)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    for name, value in first.state_dict().items():
        assert torch.equal(value, third.state_dict()[name]), name

    def chosen(seen):
        return {tuple(rows) for rows in seen if len(rows) < BATCH}

    assert chosen(late) <= chosen(all_rows)
    assert len(chosen(late)) == STEPS - EPOCH - 2


@pytest.mark.parametrize("kind", ["differential", "big_loss"])
def test_in_parts_the_same_rows_are_kept_and_lead_to_the_same_weights(kind, tmp_path):
    found = []
    for parts in (1, 4):
        own, seen = learner(dropout=0.0), []
        chosen = selector(kind, own)
        state = train(own, chosen, tmp_path / f"{parts}", seen=seen, parts=parts)
        kept = [one.tolist() for one in seen if len(one) < BATCH]  # not what is read ahead
        found.append((own.state_dict(), chosen.state_dict(), state, kept))
    (weights, history, whole, rows), (other, others, state, kept) = found
    assert kept == rows
    assert len(kept) == STEPS
    assert (state.judged_rows, state.kept_rows) == (whole.judged_rows, whole.kept_rows)
    for mine, theirs in ((weights, other), (history, others)):
        for name, value in mine.items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-5, atol=1e-6)


def test_a_history_of_another_cohort_is_refused(tmp_path):
    with pytest.raises(Interrupted):
        train(learner(), selector(), tmp_path, stop_after=2)
    with pytest.raises(Exception, match="another cohort"):
        train(learner(), selector(samples=SAMPLES + 1), tmp_path)
