"""Distillation: it charges as the formula says, over the rows that are there."""

import pytest
import torch
from made_batches import batch_of
from torch.nn import functional

from medmcl.core.batch import Embeddings, InputShape, distill_target
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError
from medmcl.objectives import build_objective
from medmcl.objectives.pairwise.distil import relations, unexplained

ROWS = 9
SHAPE = ModelShape(
    inputs={n: InputShape(kind="tabular", shape=(6,)) for n in "xy"},
    widths={"x": 6, "y": 6},
    teacher_widths={"x": 5, "y": 4},
)


def seen(present=None, known=None, seed=0):
    generator = torch.Generator(device="cpu").manual_seed(seed)

    def draw(width):
        return torch.randn(ROWS, width, generator=generator, device="cpu")

    lessons = {distill_target(n, "features"): draw(w) for n, w in SHAPE.teacher_widths.items()}
    lessons |= {distill_target(n, "pooled"): functional.normalize(draw(7), dim=1) for n in "xy"}
    known = torch.ones(ROWS, dtype=torch.bool, device="cpu") if known is None else known
    batch = batch_of(
        {n: draw(6) for n in "xy"},
        present,
        targets=lessons,
        known={n: known[:, None].expand(ROWS, x.shape[1]) for n, x in lessons.items()},
    )
    return Embeddings(
        batch=batch,
        features={n: draw(6) for n in "xy"},
        pooled={n: functional.normalize(draw(3), dim=1) for n in "xy"},
    )


def test_relations_by_slow_loops():
    embeddings = seen()
    a, b = embeddings.pooled["x"], embeddings.pooled["y"]
    p, q = (embeddings.batch.targets[distill_target(n, "pooled")] for n in "xy")
    total = 0.0
    for i in range(ROWS):
        for j in range(ROWS):
            total += (float(a[i] @ b[j]) - float(p[i] @ q[j])) ** 2
    assert relations(a, b, p, q).item() == pytest.approx(total / ROWS**2, abs=1e-6)


def test_unexplained_is_the_mean_squared_distance_of_rows():
    x = torch.randn(50, 4, generator=torch.Generator(device="cpu").manual_seed(0), device="cpu")
    assert unexplained(x, x).item() == 0
    slow = sum(float((x[i] * 0.5 - x[i]).square().sum()) for i in range(50)) / 50
    assert unexplained(0.5 * x, x).item() == pytest.approx(slow, abs=1e-6)
    unit = x / x.var(0, correction=0).sum().sqrt()  # as `teacher_embeddings` gives it
    assert unexplained(unit.mean(0).expand(50, 4), unit).item() == pytest.approx(1, abs=1e-6)


def test_rows_of_which_the_teacher_says_the_same_cost_no_more_than_others():
    """Normal reports are often word for word alike."""
    x = torch.randn(8, 4, generator=torch.Generator(device="cpu").manual_seed(0), device="cpu")
    alike = x[:1].expand(8, 4)
    assert unexplained(alike + 0.1, alike).item() == pytest.approx(0.04, abs=1e-6)


def test_the_terms_are_means_by_weight_over_rows_that_are_there_and_known():
    present = {"y": torch.tensor([0, 1, 1, 1, 1, 1, 1, 0, 1], dtype=torch.bool)}
    known = torch.tensor([1, 1, 1, 1, 0, 1, 1, 1, 1], dtype=torch.bool)
    embeddings = seen(present, known)
    objective = build_objective("distil", {"vectors": 3.0, "relations": 1.0}, SHAPE)
    terms = objective({"plain": embeddings}, embeddings.batch)
    assert list(terms) == list(objective.terms)
    assert [term.count for term in terms.values()] == [8, 6, 8, 8, 6]
    weights = [term.weight for term in terms.values()]
    assert weights == pytest.approx([3 / 9, 3 / 9, 1 / 9, 1 / 9, 1 / 9])
    rows = [1, 2, 3, 5, 6, 8]
    wanted = unexplained(
        objective.maps["y"](embeddings.features["y"][rows]),
        embeddings.batch.targets[distill_target("y", "features")][rows],
    )
    assert terms["distil/y/vectors"].value.item() == pytest.approx(wanted.item(), abs=1e-6)


def test_only_what_has_a_weight_is_charged():
    embeddings = seen()
    objective = build_objective("distil", {"vectors": 0.0}, SHAPE)
    assert set(objective({"plain": embeddings}, embeddings.batch)) == {
        "distil/x/relations",
        "distil/x~y/relations",
        "distil/y/relations",
    }
    with pytest.raises(ConfigError, match="both 0"):
        build_objective("distil", {"vectors": 0.0, "relations": 0.0}, SHAPE)


@pytest.mark.parametrize(
    ("name", "words"), [("distil", "teacher: joined"), ("par", "teacher: victim")]
)
def test_without_a_teacher_it_says_how_to_name_one(name, words):
    bare = ModelShape(inputs=SHAPE.inputs, widths=SHAPE.widths)
    with pytest.raises(ConfigError, match=words):
        build_objective(name, {}, bare)
