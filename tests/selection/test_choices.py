import math

import numpy as np
import pytest
import torch

from medmcl.core.errors import ArtefactError, MedmclError
from medmcl.selection import SELECTORS, Differential, pair_losses

IDS = torch.arange(40)


def step(golden, strategy, number):
    at = f"{strategy}/s{number}_"
    return {key.removeprefix(at): value for key, value in golden.items() if key.startswith(at)}


def cosine_of(seen):
    return (seen["image_features"].astype(float) * seen["text_features"]).sum(1)


@pytest.mark.parametrize(
    ("strategy", "mode", "table"),
    [("warmup_base_sampling", "warmup", "warmup"),
     ("historical_base_sampling", "momentum", "hist")],
)  # fmt: skip
def test_differential_equals_the_published_code(dissect, strategy, mode, table):
    choice = Differential(mode, 0.25, 2, 0.9, "official")
    for number in range(int(dissect[f"{strategy}/n_steps"])):
        seen = step(dissect, strategy, number)
        history, _ = choice.history(seen["sample_index"])
        np.testing.assert_allclose(history, seen[f"{table}_before"], atol=1e-4)
        kept = choice.select(seen["sample_index"], cosine_of(seen), int(seen["epoch"])).numpy()
        history, _ = choice.history(seen["sample_index"])
        np.testing.assert_allclose(history, seen[f"{table}_after"], atol=1e-4)
        if mode == "warmup" and seen["epoch"] < 2:
            assert len(kept) == len(seen["selected_positions"])
            continue
        gap = seen[f"{table}_before"] - seen["curr_score"]
        theirs = np.sort(gap[seen["selected_positions"]])
        np.testing.assert_allclose(np.sort(gap[kept]), theirs, atol=1e-4)
        clear = gap > theirs[0] + 1e-3  # above the last place, where rows may tie
        assert set(np.flatnonzero(clear)) <= set(kept)


@pytest.mark.parametrize("strategy", ["small_loss", "big_loss"])
def test_loss_selectors_equal_the_published_code(dissect, strategy):
    """The first epoch: later the learned temperature of that run is not known."""
    for number in range(2):
        seen = step(dissect, strategy, number)
        losses = pair_losses(seen["image_features"], seen["text_features"], 0.07)
        kept = SELECTORS[strategy](share=0.25).select(seen["sample_index"], losses, 0)
        assert set(kept.tolist()) == set(seen["selected_positions"].tolist())


def test_the_official_momentum_version_takes_the_worst_pairs_first_and_ours_does_not():
    correlation = torch.linspace(0.01, 0.9, 40)
    official = Differential("momentum", 0.25, first_epoch="official")
    assert official.select(IDS, correlation, 0).tolist() == list(range(10))
    assert Differential("momentum", 0.25).select(IDS, correlation, 0).tolist() != list(range(10))
    everyone = Differential("momentum", 0.25, first_epoch="all")
    assert len(everyone.select(IDS, correlation, 0)) == 40
    assert len(everyone.select(IDS, correlation, 1)) == 10


@pytest.mark.parametrize("mode", ["warmup", "momentum"])
def test_differential_equals_its_definition_as_loops(mode):
    rng, history = np.random.default_rng(0), {}
    choice = Differential(mode, 0.3, warmup_epochs=2, beta=0.8)
    for epoch in range(5):
        order = rng.permutation(40)
        for ids in np.split(order, 4):
            cosine = rng.uniform(-0.2, 1, 10)
            now = {i: max(0, 100 * c) for i, c in zip(ids.tolist(), cosine, strict=True)}
            kept = choice.select(ids, cosine, epoch)
            assert len(kept) == 3
            if epoch >= (2 if mode == "warmup" else 1):
                best = sorted(now, key=lambda i: now[i] - history[i])[:3]
                assert set(ids[kept.numpy()]) == set(best)
            for i, value in now.items():
                if mode == "momentum":
                    history[i] = 0.8 * history[i] + 0.2 * value if epoch else value
                elif epoch < 2:
                    history[i] = value


def test_newcomers_get_their_share_by_lot_and_then_have_a_history():
    choice = Differential("warmup", 0.5, warmup_epochs=1)
    choice.select(IDS[:20], torch.full((20,), 0.5), 0)
    kept = choice.select(IDS, torch.full((40,), 0.9), 1)
    assert (kept < 20).sum() == (kept >= 20).sum() == 10
    again = torch.full((40,), 0.9)
    again[20:] = 0.1  # newcomers have fallen against their own first score
    assert (choice.select(IDS, again, 2) >= 20).all()


@pytest.mark.parametrize("mode", ["warmup", "momentum"])
def test_a_resumed_choice_selects_as_one_never_killed(mode, tmp_path):
    rng = np.random.default_rng(0)
    shown = [(epoch, rng.permutation(40), rng.uniform(0, 1, 40)) for epoch in range(6)]
    whole = Differential(mode, 0.4, 2)
    expected = [whole.select(ids, values, epoch).tolist() for epoch, ids, values in shown]
    first = Differential(mode, 0.4, 2)
    for epoch, ids, values in shown[:3]:
        first.select(ids, values, epoch)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    resumed = Differential(mode, 0.4, 2)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    found = [resumed.select(ids, values, epoch).tolist() for epoch, ids, values in shown[3:]]
    assert found == expected[3:]


def test_simple_choices_take_what_they_say():
    values = torch.linspace(-1, 1, 40)[torch.randperm(40)]
    best = set(values.topk(10).indices.tolist())
    worst = set((-values).topk(10).indices.tolist())
    take = {
        name: set(SELECTORS[name](share=0.25).select(IDS, values, 0).tolist()) for name in SELECTORS
    }
    assert take["clip_score"] == take["big_loss"] == best
    assert take["small_loss"] == worst


def test_chance_is_even_and_new_in_every_epoch():
    choice, times = SELECTORS["random"](share=0.25), np.zeros(400)
    for epoch in range(200):
        times[choice.select(np.arange(400), np.zeros(400), epoch).numpy()] += 1
    assert abs(times.mean() - 50) < 1e-9
    assert times.std() < 1.2 * math.sqrt(200 * 0.25 * 0.75)
    assert times.min() > 20


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_rows_that_are_not_finite_are_neither_kept_nor_learned(name):
    values = torch.linspace(0.1, 0.9, 40)
    values[::2] = math.nan
    choice = SELECTORS[name](share=0.9)
    kept = choice.select(IDS, values, 0)
    assert kept.tolist() == list(range(1, 40, 2))
    assert choice.select(IDS, torch.full((40,), math.nan), 1).tolist() == []
    if name == "differential":
        assert choice.history(IDS)[1].tolist() == [False, True] * 20


def test_a_sample_that_comes_twice_is_learned_once():
    choice = Differential("momentum")
    choice.select(torch.tensor([3, 3, 5]), torch.tensor([0.2, 0.4, 0.6]), 0)
    history, seen = choice.history(np.array([3, 4, 5, 600]))
    np.testing.assert_allclose(history, [30, 0, 60, 0], atol=1e-5)
    assert seen.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Differential("both"), "unknown mode"),
        (lambda: Differential(first_epoch="none"), "unknown first_epoch"),
        (lambda: Differential(share=0), "share must lie"),
        (lambda: Differential(beta=1.0), "beta must lie"),
        (lambda: Differential(warmup_epochs=0), "at least 1 epoch"),
        (lambda: Differential().select(IDS, torch.full((40,), 30.0), 0), "raw cosine"),
        (lambda: Differential(samples=40).select(IDS + 1, torch.zeros(40), 0), "unknown to the"),
        (lambda: Differential().select(IDS - 1, torch.zeros(40), 0), "whole numbers from 0"),
        (lambda: Differential().select(IDS / 2, torch.zeros(40), 0), "whole numbers from 0"),
        (lambda: Differential().select(IDS, torch.zeros(39), 0), "one length"),
        (lambda: SELECTORS["random"]().load_state_dict({"x": IDS}), "has no state"),
    ],
)
def test_what_cannot_be_chosen_is_refused(wrong, message):
    with pytest.raises(MedmclError, match=message):
        wrong()


def test_the_history_of_another_cohort_is_refused():
    state = Differential(samples=40).state_dict()
    with pytest.raises(ArtefactError, match="another cohort"):
        Differential(samples=41).load_state_dict(state)
    with pytest.raises(ArtefactError, match="no state"):
        Differential().load_state_dict({"history": torch.zeros(3)})
