"""The chance level of a term is what the very loss charges a model that tells nothing."""

import math

import numpy as np
import pytest
import torch
from made_batches import batch_of
from made_targets import targets_of

from medmcl.core.batch import GROUPS, Embeddings, InputShape
from medmcl.core.contracts import ModelShape
from medmcl.objectives import build_objective
from medmcl.objectives.masked import masked_modelling, mean_modelling
from medmcl.objectives.pairwise.contrastive import sigmoid_chance

ROWS = 12
NAMES = ("a", "b", "c")


def one_point(groups=None):
    """Three modalities whose rows are all one point; the last one is absent for two rows."""
    present = {name: torch.ones(ROWS, dtype=torch.bool) for name in NAMES}
    present["c"][-2:] = False
    more = {}
    if groups is not None:
        more = {"targets": {GROUPS: groups[:, None].float()},
                "known": {GROUPS: torch.ones(ROWS, 1, dtype=torch.bool)}}  # fmt: skip
    batch = batch_of({name: torch.zeros(ROWS, 1) for name in NAMES}, present, **more)
    point = torch.nn.functional.normalize(torch.arange(1.0, 6.0), dim=0)
    pooled = {name: torch.where(present[name][:, None], point, 0.0) for name in NAMES}
    return Embeddings(batch=batch, pooled=pooled)


def shape():
    return ModelShape(
        inputs={name: InputShape(kind="tabular", shape=(1,)) for name in NAMES},
        widths=dict.fromkeys(NAMES, 5),
    )


@pytest.mark.parametrize("groups", [None, torch.tensor([0] * 3 + [1] * 4 + [2] * 5)])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cross_modal", {"view": "plain"}),
        ("in_modal", {"modality": "a", "views": ["plain", "other"]}),
        ("in_modal", {"modality": "a", "views": ["plain", "other"], "negatives": "cross"}),
        ("symile", {"view": "plain"}),
        ("symile", {"view": "plain", "negatives": "all"}),
        ("gram", {"view": "plain"}),
        ("centrobind", {"view": "plain"}),
    ],
)
def test_contrastive_chance_is_the_loss_of_one_point(name, settings, groups):
    seen = one_point(groups)
    objective = build_objective(name, settings, shape())
    terms = objective({"plain": seen, "other": seen}, seen.batch)
    assert terms
    for term in terms.values():
        assert float(term.value) == pytest.approx(float(term.chance), rel=1e-5)


@pytest.mark.parametrize("groups", [None, torch.tensor([0] * 3 + [1] * 4 + [2] * 5)])
def test_chance_of_the_sigmoid_loss_is_that_of_the_best_bias(groups):
    """No logit that all pairs share does better: the loss as slow loops, over a grid of them."""
    sizes = groups if groups is not None else torch.zeros(ROWS)
    same = [(i, j) for i in range(ROWS) for j in range(ROWS) if sizes[i] == sizes[j]]

    def loss(logit):
        charged = [math.log1p(math.exp(-logit if i == j else logit)) for i, j in same]
        return sum(charged) / ROWS

    best = min(loss(logit) for logit in np.arange(-6, 1, 0.01))
    assert float(sigmoid_chance(ROWS, groups)) == pytest.approx(best, abs=1e-4)
    own = build_objective("cross_modal", {"view": "plain", "loss": "siglip"}, shape())
    seen = one_point(groups)
    term = own({"plain": seen}, seen.batch)["cross_modal/a~b"]
    assert float(term.chance) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("is_masked", [False, True])
def test_chance_of_masked_modelling_is_that_of_the_mean(is_masked):
    generator = torch.Generator().manual_seed(0)
    signal = 2 + torch.randn(4, 3, 20, generator=generator)
    hidden = torch.stack([torch.randperm(12, generator=generator) < 9 for _ in range(4)])
    patches = signal.reshape(4, 12, 5)
    said = torch.empty_like(patches)
    for row in range(4):
        said[row] = (patches[row][hidden[row]] if is_masked else patches[row]).mean()
    mask = hidden if is_masked else None
    expected = masked_modelling(said, signal, 5, 0.1, mask=mask)
    assert float(mean_modelling(signal, 5, 0.1, mask=mask)) == pytest.approx(float(expected))


KINDS = {
    "binary": [[0], [0], [0], [1]],
    "multilabel": [[0, 1], [0, 1], [0, 0], [1, 1]],
    "multiclass": [[0], [2], [2], [2]],
    "regression": [[3.0], [5.0], [9.0], [1.0]],
    "survival": [[3, 1], [5, 0], [9, 1], [1, 1]],
}


@pytest.mark.parametrize("balance", ["none", "balanced"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", list(KINDS))
def test_chance_of_a_task_is_about_that_of_the_best_constant(kind, smoothing, balance):
    values = KINDS[kind]
    if balance == "balanced" and kind == "multiclass":
        values = [[0], [2], [1], [2]]
    values = np.tile(np.array(values, dtype=float), (200, 1))  # so that one row more is little
    task = targets_of(kind, values)
    made = ModelShape(inputs={"a": InputShape(kind="tabular", shape=(1,))}, widths={"a": 2},
                      tasks={"t": task})  # fmt: skip
    settings = {"task": "t", "modalities": ["a"], "view": "plain", "label_smoothing": smoothing,
                "class_weights": balance}  # fmt: skip
    objective = build_objective("supervised", settings, made)
    rows = len(values)
    batch = batch_of(
        {"a": torch.zeros(rows, 1)},
        targets={"t": torch.tensor(values, dtype=torch.float32)},
        known={"t": torch.ones(values.shape, dtype=torch.bool)},
    )
    seen = Embeddings(batch=batch, features={"a": torch.zeros(rows, 2)})
    chance = float(objective({"plain": seen}, batch)["supervised/t"].chance)
    best = torch.zeros_like(objective.head.bias, requires_grad=True)
    optimiser = torch.optim.LBFGS([best], max_iter=200)

    def charged():
        optimiser.zero_grad()
        loss, _ = objective._charge(best.expand(rows, -1), batch.targets["t"], batch.known["t"])
        loss.backward()
        return loss

    optimiser.step(charged)
    assert chance == pytest.approx(charged().item(), rel=0.01)


def test_a_task_without_train_rows_has_no_chance_level():
    task = targets_of("binary", np.zeros((0, 1)))
    made = ModelShape(inputs={"a": InputShape(kind="tabular", shape=(1,))}, widths={"a": 2},
                      tasks={"t": task})  # fmt: skip
    settings = {"task": "t", "modalities": ["a"], "view": "plain"}
    known = {"t": torch.ones(2, 1, dtype=torch.bool)}
    batch = batch_of(
        {"a": torch.zeros(2, 1)}, targets={"t": torch.tensor([[0.0], [1.0]])}, known=known
    )
    seen = Embeddings(batch=batch, features={"a": torch.zeros(2, 2)})
    term = build_objective("supervised", settings, made)({"plain": seen}, batch)["supervised/t"]
    assert term.chance is None
