"""PAR: the authors' totals and gradients, and rows that are there."""

import pytest
import torch
from golden_numbers import case, golden
from made_batches import batch_of
from torch.nn import functional

from medmcl.core.batch import Embeddings, InputShape, distill_target
from medmcl.core.contracts import ModelShape
from medmcl.objectives import build_objective, info_nce
from medmcl.objectives.pairwise.distil import departure

SHAPE = ModelShape(
    inputs={n: InputShape(kind="tabular", shape=(6,)) for n in "xy"},
    widths={"x": 6, "y": 6},
    teacher_widths={"x": 6, "y": 6},
)


@pytest.mark.parametrize("number", [0, 1])
def test_totals_and_gradients_of_the_authors_code(number):
    given = case(golden("par_losses"), f"par{number}_")
    image, text = (given[name].clone().requires_grad_() for name in ("image", "text"))
    far = {
        name: departure(
            functional.normalize(own, dim=1),
            functional.normalize(given[f"{name}_ref"], dim=1),
            given["tau"],
        )
        for name, own in (("image", image), ("text", text))
    }
    clip = info_nce(image, text, given["logit_scale"])
    total = clip - 0.5 * (far["image"] + far["text"])
    assert far["image"].item() == pytest.approx(given["img_loss"], abs=1e-6)
    assert far["text"].item() == pytest.approx(given["text_loss"], abs=1e-6)
    assert total.item() == pytest.approx(given["total_loss"], abs=1e-6)
    total.backward()
    torch.testing.assert_close(image.grad, given["grad_image"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(text.grad, given["grad_text"], rtol=1e-4, atol=1e-6)


def seen():
    generator = torch.Generator(device="cpu").manual_seed(0)

    def unit():
        return functional.normalize(torch.randn(5, 3, generator=generator, device="cpu"), dim=1)

    lessons = {distill_target(n, "pooled"): unit() for n in "xy"}
    known = torch.tensor([1, 1, 1, 1, 0], dtype=torch.bool, device="cpu")[:, None]
    batch = batch_of(
        {n: torch.zeros(5, 6, device="cpu") for n in "xy"},
        {"x": [1, 1, 0, 1, 1]},
        targets=lessons,
        known={name: known.expand(5, 3) for name in lessons},
    )
    return Embeddings(batch=batch, features={}, pooled={n: unit() for n in "xy"})


def test_rows_that_are_there_and_known_depart_by_half():
    embeddings = seen()
    objective = build_objective("par", {}, SHAPE)
    terms = objective({"augmented": embeddings}, embeddings.batch)
    assert [(t.count, t.weight) for t in terms.values()] == [(3, 0.5), (4, 0.5)]
    for name, rows in (("x", [0, 1, 3]), ("y", [0, 1, 2, 3])):
        own, ref = embeddings.pooled[name], embeddings.batch.targets[distill_target(name, "pooled")]
        slow = sum(float((own[r] - ref[r]).square().sum()) for r in rows) / len(rows)
        wanted = -slow if slow <= 2.15 else 0.0
        assert terms[f"par/{name}"].value.item() == pytest.approx(wanted, abs=1e-6)
    near = build_objective("par", {"threshold": 0.01}, SHAPE)
    assert all(
        t.value.item() == 0 for t in near({"augmented": embeddings}, embeddings.batch).values()
    )
